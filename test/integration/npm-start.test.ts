/** `npm start` as a newcomer meets it: in a terminal, with the example as it is, on a port of its own. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { requireProgram } from '../support/programs.ts'
import { isAlive } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const SCREEN = new RegExp([
  String.raw`Cirque \S+ runs examples\/load-balancer\.ts: supervisor (\d+), workers (\d+) (\d+)\s+`,
  String.raw`open +(http:\/\/127\.0\.0\.1:\d+)\s[^]*stop +Ctrl-C`,
].join(''))

interface Session {
  readonly terminal: ChildProcess
  /** The process that a shell would call its job. */
  readonly npmPid: number
  /** Supervisor first, then its workers. */
  readonly pids: readonly number[]
  readonly url: string
  readonly code: Promise<number | null>
  shown(): string
}

/** Null after the test was marked as skipped. */
async function npmStart(t: TestContext): Promise<Session | null> {
  const python = requireProgram(t, 'python3')
  if (python === null) return null
  const folder = temporaryFolder(t)
  const terminal = spawn(python, [path.join(import.meta.dirname, '../support/in-terminal.py'), 'npm', 'start', '--', '127.0.0.1:0'], {
    cwd: ROOT, stdio: 'pipe',
    env: {
      ...process.env, CIRQUE_SUPERVISOR_STATE_DIR: path.join(folder, 'state'), CIRQUE_SUPERVISOR_WORKERS: '2',
      npm_config_update_notifier: 'false',
    },
  })
  t.after(() => { terminal.kill('SIGTERM') })
  let text = ''
  let said = ''
  terminal.stdout.setEncoding('utf8').on('data', (more: string) => { text += more })
  terminal.stderr.setEncoding('utf8').on('data', (more: string) => { said += more })
  const code = new Promise<number | null>(resolve => terminal.once('exit', resolve))
  const [, supervisor, first, second, url] = await waitFor('the first screen', () => SCREEN.exec(text), {
    deadlineMs: 20_000, seen: () => [text, said],
  })
  return { terminal, npmPid: Number.parseInt(said, 10), pids: [supervisor, first, second].map(Number), url: url!, code, shown: () => text }
}

async function assertEnded({ npmPid, pids, url, shown }: Session): Promise<void> {
  await waitFor('every process to be gone', () => [npmPid, ...pids].every(pid => !isAlive(pid)), { seen: shown })
  await assert.rejects(fetch(url), (error: Error) => (error.cause as NodeJS.ErrnoException).code === 'ECONNREFUSED')
  assert.match(shown(), /supervisor: stopped/)
}

test('npm start: the first screen says where to look, both origins answer, and Ctrl-C ends all of it', async t => {
  const session = await npmStart(t)
  if (session === null) return
  const origins = new Set<string>()
  await waitFor('answers of both origins', async () => {
    origins.add(/^Hello from origin (\w+), in process (\d+), through Cirque\.\n/.exec(await (await fetch(session.url)).text())![1]!)
    return origins.size === 2
  })
  assert.deepEqual([...origins].sort(), ['left', 'right'])
  session.terminal.stdin!.write('\x03')
  assert.equal(await within('the end', session.code, 10_000), 0, session.shown())
  await assertEnded(session)
})

test('npm start: SIGTERM to npm ends all of it', async t => {
  const session = await npmStart(t)
  if (session === null) return
  process.kill(session.npmPid, 'SIGTERM')
  await within('the end', session.code, 10_000)
  await assertEnded(session)
})

test('npm start: without requests the workers take next to no time of the processor', { skip: process.platform !== 'linux' }, async t => {
  const session = await npmStart(t)
  if (session === null) return
  const [, ...workers] = session.pids
  assert.equal((await fetch(session.url)).status, 200)
  const spentBy = (pid: string | number): number => Number(fs.readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
  const spentMs = (): number => workers.reduce((sum, pid) => sum + spentBy(pid), 0)
  // The collector and the compiler have work left after a start; two quiet seconds in a row must come.
  let startMs = performance.now()
  let startSpentMs = spentMs()
  const perSecond = await waitFor('two quiet seconds', () => {
    const elapsedMs = performance.now() - startMs
    if (elapsedMs < 2_000) return null
    const rate = (spentMs() - startSpentMs) / elapsedMs * 1_000 / workers.length
    startMs = performance.now()
    startSpentMs = spentMs()
    return rate < 5 ? rate : null
  }, { deadlineMs: 15_000, seen: spentMs })
  t.diagnostic(`${perSecond.toFixed(2)} ms a second and worker`)
  session.terminal.stdin!.write('\x03')
  assert.equal(await within('the end', session.code, 10_000), 0)
  await assertEnded(session)
})
