/** `cirque status --watch`, and what is said when nothing runs. What a status says: test/supervisor/cli.test.ts. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import test from 'node:test'
import { SupervisedApp } from '../../support/supervised-app.ts'
import { INTERRUPT, Terminal } from '../../support/terminal.ts'
import { waitFor, within } from '../../support/wait-for.ts'

const CLI = path.join(import.meta.dirname, '../../../supervisor/cli.ts')
const FLAGS = ['--disable-warning=ExperimentalWarning', CLI, 'status', '--state-dir']
const OWN_SCREEN = '\u001B[?1049h'
const USUAL_SCREEN = '\u001B[?1049l'

test('status --watch: a terminal is drawn anew, also when the server has ended, and Ctrl-C leaves what was seen last', async t => {
  const app = await SupervisedApp.start(t)
  const terminal = Terminal.cirque(t, ['status', '--state-dir', app.stateDir, '--watch', '100ms'], { cwd: app.folder })
  if (terminal === null) return
  await waitFor('three pictures', () => terminal.shown.split('running  pid').length > 3, { deadlineMs: 30_000, seen: () => terminal.shown })
  assert.ok(terminal.shown.startsWith(OWN_SCREEN), JSON.stringify(terminal.shown.slice(0, 40)))
  app.signal('SIGTERM')
  await app.end()
  const gone = `no supervisor is running in ${app.stateDir}`
  await terminal.shows(new RegExp(`${gone}\u001B`))
  terminal.type(INTERRUPT)
  assert.equal(await terminal.ends(), 0)
  const left = terminal.shown.slice(terminal.shown.indexOf(USUAL_SCREEN) + USUAL_SCREEN.length)
  assert.equal(left, `${gone}\r\n`)
})

test('status --watch: elsewhere each look is appended, a line each for programs, until the reader has had enough', async t => {
  const app = await SupervisedApp.start(t)
  for (const [flags, picture] of [[[], /^\d{4}-\S+Z\ncirque /gm], [['--json'], /^\{.*"state":"running".*\}$/gm]] as const) {
    const child = spawn(process.execPath, [...FLAGS, app.stateDir, '--watch=100ms', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] })
    let said = '', complaint = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { said += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { complaint += text })
    await waitFor('two looks', () => (said.match(picture)?.length ?? 0) >= 2, { deadlineMs: 30_000, seen: () => said })
    child.stdout.destroy()
    assert.deepEqual(await within('its end', once(child, 'close'), 30_000), [0, null], complaint)
    assert.equal(complaint, '')
    assert.ok(!said.includes('\u001B'), said)
  }
})

test('status --watch: an interval that is none is refused, and so is a server that does not run', () => {
  for (const interval of ['fast', '5ms', '0']) {
    const { status, stderr } = spawnSync(process.execPath, [...FLAGS, '/', '--watch', interval], { encoding: 'utf8' })
    assert.deepEqual([status, stderr], [2, `cirque: --watch is "${interval}"; use a duration of 100ms or more such as 2s\n`])
  }
  const { status, stderr } = spawnSync(process.execPath, [...FLAGS, '/', '--watch'], { encoding: 'utf8' })
  assert.deepEqual([status, stderr], [3, 'cirque: no supervisor is running in /\n'])
})

test('status: workers that lost their supervisor are named, with what to do about them', async t => {
  const app = await SupervisedApp.start(t, { options: { orphanDrainAfterMs: 60_000 } })
  const pids = (await app.slots()).map(slot => slot.worker!.pid)
  app.signal('SIGKILL')
  await app.end()
  for (const verb of ['status', 'stop']) {
    const { status, stderr } = spawnSync(process.execPath, [...FLAGS.with(2, verb), app.stateDir], { encoding: 'utf8' })
    assert.equal(status, 3)
    const [nothing, orphans] = stderr.split('\n')
    assert.equal(nothing, `cirque: no supervisor is running in ${app.stateDir}`)
    const named = `plain\\.ts \\(pid ${pids.join(', ')}\\)`
    assert.match(orphans!, new RegExp(`^workers without a supervisor still run .*${named}: start it again as before`))
  }
})
