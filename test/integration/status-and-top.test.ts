/** The status page and `cirque top` of real workers under load, while they are replaced. What each shows in detail has tests of its own. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { ControlServer } from '../../supervisor/control-server.ts'
import { figuresOf } from '../../supervisor/figures.ts'
import type { Sample } from '../../supervisor/sample.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { get, SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { Terminal } from '../support/terminal.ts'
import { startOrigin } from '../support/origin-process.ts'
import { waitFor, within } from '../support/wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')
const FLAGS = ['--disable-warning=ExperimentalWarning', CLI, 'top', '--state-dir']
const OWN_SCREEN = '\u001B[?1049h'
const USUAL_SCREEN = '\u001B[?1049l'
const DEADLINE_MS = 30_000

async function startProxy(t: TestContext): Promise<SupervisedApp> {
  const env = { PROXY_ORIGIN: await startOrigin(t) }
  return SupervisedApp.start(t, { app: 'proxy', options: { adminAddress: '127.0.0.1:0' }, env })
}

async function sampleOver(app: SupervisedApp): Promise<Sample> {
  const admin = String(app.lines.find(line => line.msg === 'running')!['admin'])
  const [response] = await once(http.get(`http://${admin}/status.json`, { agent: false }), 'response') as [http.IncomingMessage]
  let text = ''
  for await (const piece of response.setEncoding('utf8')) text += String(piece)
  return JSON.parse(text) as Sample
}

/** The pictures that were drawn, each as lines, without what moves the cursor and without colours. */
function pictures(shown: string): string[][] {
  const text = shown.replaceAll('\r', '').split(USUAL_SCREEN, 1)[0]!
  return text.split('\u001B[H').slice(1).map(picture => picture.replaceAll(/\u001B\[[0-9;?]*[A-Za-z]/g, '').split('\n'))
}

test('figures: the page and the command line are told what clients have counted, over a replacement of everything', async t => {
  const app = await startProxy(t)
  const before = await app.ask({ tag: 'sample' }) as Sample
  assert.deepEqual([before.ready, before.counting, before.listeners.length, before.slots.length], [true, true, 1, 2])
  const load = new SteadyLoad({ to: app.port, fresh: 2, keepAlive: 2, pauseMs: 2 })
  t.after(() => load.stop())
  const goesOn = (count: number): Promise<unknown> => {
    const from = load.ledger.ok
    return waitFor('more answers', () => load.ledger.ok >= from + count, { deadlineMs: DEADLINE_MS, seen: () => load.ledger })
  }
  await goesOn(50)
  const { id } = await app.ask({ tag: 'upgrade', folder: '', supervisor: 'always' }) as { id: string }
  const steps = new Set<string>()
  let isOver = false
  const ended = app.ask({ tag: 'outcome', id }).finally(() => { isOver = true })
  await waitFor('the end of the upgrade', async () => {
    // The supervisor replaces itself in between.
    try { steps.add((await sampleOver(app)).change?.step ?? '') } catch { steps.add('away') }
    return isOver
  }, { deadlineMs: DEADLINE_MS, seen: () => [...steps] })
  assert.equal((await ended as { result: string }).result, 'committed')
  // Which of them are seen is a matter of moments.
  const seen = [...steps].filter(step => step !== '' && step !== 'away')
  assert.ok(seen.length > 1, [...steps].join())
  await goesOn(50)
  const { ok, lost } = await load.stop()
  assert.deepEqual(lost, [])
  await get(app.port, `/${'long'.repeat(2_000)}`)
  const after = await app.ask({ tag: 'sample' }) as Sample
  const { all, seconds, upstreams, reuseShare } = figuresOf(before, after)!
  // The long one is refused as a head.
  assert.equal(Math.round(all.perSecond * seconds), ok + 1)
  assert.deepEqual(all.failing.map(({ code, flag, perSecond }) => [code, flag, Math.round(perSecond * seconds)]), [['head', 'PE', 1]])
  assert.equal(Math.round(upstreams[0]!.perSecond * seconds), ok)
  assert.ok(all.p50Ms! > 0 && all.p50Ms! <= all.p99Ms! && upstreams[0]!.firstByte.p50Ms! > 0 && reuseShare! > 0.5)
  // The page may be told what was true a moment ago.
  const onPage = async (): Promise<string> => JSON.stringify((await sampleOver(app)).listeners)
  await waitFor('the same on the page', async () => await onPage() === JSON.stringify(after.listeners))
  const [change] = after.changes
  assert.deepEqual([change!.id, change!.result, change!.endedAtMs > after.startedAtMs], [id, 'committed', true])
  assert.deepEqual([after.generation, after.limits], [2, [['uri-bytes', 1]]])
  assert.ok(after.slots.every(({ workers }) => workers[0]!.id.startsWith('2.') && workers[0]!.rssBytes! > 0))
  const address = new RegExp(String.raw`127\.0\.0\.1:(?!0\b|${app.port}|${upstreams[0]!.name.split(':')[1]})\d+`)
  assert.doesNotMatch(JSON.stringify(after), address, 'no address of a client')
})

test('top: a terminal has it whole, in the size that it has now, and gets back what it had', async t => {
  const app = await startProxy(t)
  const load = new SteadyLoad({ to: app.port, fresh: 1, keepAlive: 2, pauseMs: 5 })
  t.after(() => load.stop())
  const args = ['top', '--state-dir', app.stateDir, '--interval', '200ms']
  const terminal = Terminal.cirque(t, args, { cwd: app.folder, size: '80x24 120x40' })
  if (terminal === null) return
  await terminal.shows(/reuse \S*\d\d/)
  const first = pictures(terminal.shown).at(-2)!
  assert.deepEqual([first.length, Math.max(...first.map(line => line.length)) <= 80], [24, true], first.join('\n'))
  assert.ok(first.some(line => line.startsWith('> WORKER')), first.join('\n'))
  terminal.resize()
  const isLarger = (): boolean => pictures(terminal.shown).at(-2)!.length === 40
  await waitFor('a larger picture', isLarger, { deadlineMs: DEADLINE_MS, seen: () => terminal.shown })
  terminal.type('\t')
  await terminal.shows(/> \S*LISTENER/, terminal.shown.length)
  const { id } = await app.ask({ tag: 'reload' }) as { id: string }
  await terminal.shows(new RegExp(`${id}\\S*  \\S*soak`))
  await terminal.shows(new RegExp(`${id}\\S* \\S*committed`))
  // It is alone in its terminal, where nobody could let it go on: so it does not stop.
  terminal.type('\u001A')
  await terminal.shows(/\u001B\[\?1049l\u001B\[\?1049h.*\u001B\[H/s)
  terminal.type('q')
  assert.equal(await terminal.ends(), 0)
  assert.ok(terminal.shown.startsWith(OWN_SCREEN))
  assert.ok(terminal.shown.trimEnd().endsWith(USUAL_SCREEN))
})

test('top: a server that goes is told of, and a signal gives the terminal back as well', async t => {
  const app = await startProxy(t)
  const args = ['top', '--state-dir', app.stateDir, '--interval', '100ms']
  const terminal = Terminal.cirque(t, args, { cwd: app.folder, env: { NO_COLOR: '1' } })
  if (terminal === null) return
  await terminal.shows(/> WORKER/)
  app.signal('SIGTERM')
  await app.end()
  await terminal.shows(/no answer for \d+s: no supervisor is running/)
  terminal.type('\u0003')
  assert.equal(await terminal.ends(), 0)
  assert.ok(terminal.shown.trimEnd().endsWith(USUAL_SCREEN))
  assert.doesNotMatch(terminal.shown, /\u001B\[\d*m/, 'no colours where NO_COLOR says so')
})

test('top: elsewhere it is lines, once or again and again, and samples for programs', async t => {
  const app = await startProxy(t)
  await get(app.port)
  const top = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...FLAGS, app.stateDir, ...args], { encoding: 'utf8' })
    assert.deepEqual([status, stderr], [0, ''])
    return stdout
  }
  const once_ = top('--once', '--interval', '100ms')
  assert.match(once_, /^cirque \S+ {2}ready {2}generation 1 .*\nrequests {2}\d/)
  assert.match(once_, /^ {2}LISTENER .*\n {2}http-proxy\/127\.0\.0\.1:0 /m)
  assert.doesNotMatch(once_, /\u001B/)
  const samples = top('--once', '--json', '--interval', '100ms').trimEnd().split('\n').map(line => JSON.parse(line) as Sample)
  assert.equal(samples.length, 2)
  assert.equal(figuresOf(samples[0]!, samples[1]!)!.all.perSecond, 0)
  const child = spawn(process.execPath, [...FLAGS, app.stateDir, '--interval', '100ms'], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { said += text })
  await waitFor('two frames', () => (said.match(/^requests {2}/gm)?.length ?? 0) >= 2, { deadlineMs: DEADLINE_MS, seen: () => said })
  child.stdout.destroy()
  assert.deepEqual(await within('its end', once(child, 'close'), DEADLINE_MS), [0, null])
  const wrong = spawnSync(process.execPath, [...FLAGS, app.stateDir, '--interval', '5'], { encoding: 'utf8' })
  assert.deepEqual([wrong.status, wrong.stderr], [2, 'cirque: --interval is "5"; use a duration of 100ms or more such as 2s\n'])
})

test('top: a supervisor of an older build is told apart from one that does not run', async t => {
  const folder = temporaryFolder(t)
  const server = new ControlServer({
    folder, options: resolveSupervisorOptions(), log: SILENT_LOG, workerUid: null, workerGid: null, calls: null, held: null,
    handlers: { onOperator: (_, question) => question.refuse('unknown', "this build does not know 'sample'"), onHello: () => null },
  })
  await server.listen()
  t.after(() => server.close())
  const child = spawn(process.execPath, [...FLAGS, folder, '--once'], { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { complaint += text })
  assert.deepEqual(await within('its end', once(child, 'close'), DEADLINE_MS), [1, null])
  assert.equal(complaint, 'cirque: the supervisor that runs is of a build that has no figures for this; '
    + 'use `cirque status --watch`, or `cirque upgrade --supervisor`, which replaces it\n')
})
