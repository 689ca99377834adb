/** Errors of real workers, told by a real supervisor to a receiver of envelopes: what is one event, and what is none. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import type { OperationOutcome, OperationStarted } from '../../src/ipc/messages.ts'
import { awaitOutcome } from '../../supervisor/control-client.ts'
import type { ErrorReportsStatus } from '../../supervisor/error-reports.ts'
import { RawClient } from '../support/raw-client.ts'
import { ReleasedApp } from '../support/released-app.ts'
import { SentryReceiver } from '../support/sentry-receiver.ts'
import { get, SupervisedApp, type ShownSlot, type SupervisedOptions } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }
const [TRACE, SPAN] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
/** Everything is an event, so that what is told twice shows. */
const NOTHING_SUPPRESSED = { CIRQUE_SENTRY_REPEAT_AFTER: '0' }

function start(t: TestContext, receiver: SentryReceiver, options: SupervisedOptions = {}): Promise<SupervisedApp> {
  return SupervisedApp.start(t, {
    app: 'faulty', log: { access: 'off' }, ...options, env: { SENTRY_DSN: receiver.dsn, SENTRY_ENVIRONMENT: 'test', ...options.env },
  })
}

/** One after the other, on one connection. @returns the statuses */
async function send(app: SupervisedApp, target: string, times: number, fields = ''): Promise<number[]> {
  const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
  const statuses = new Set<number>()
  try {
    for (let index = 0; index < times; index++) {
      await client.write(`GET ${target} HTTP/1.1\r\nHost: a.example\r\n${fields}\r\n`)
      statuses.add((await client.readResponse()).status)
    }
  } finally { client.destroy() }
  return [...statuses]
}

async function reportsOf(app: SupervisedApp): Promise<ErrorReportsStatus> {
  return (await app.ask({ tag: 'status' }) as { errorReports: ErrorReportsStatus }).errorReports
}

async function operate(app: SupervisedApp, message: Parameters<SupervisedApp['ask']>[0]): Promise<OperationOutcome> {
  const { id } = await app.ask(message) as OperationStarted
  return within(`the outcome of ${id}`, awaitOutcome(app.stateDir, id), 30_000)
}

function isSettled(slots: readonly ShownSlot[]): boolean {
  return slots.every(({ state, draining }) => state === 'serving' && draining.length === 0)
}

async function kill(app: SupervisedApp, signal: NodeJS.Signals): Promise<void> {
  const [pid] = await app.workerPids() as [number]
  process.kill(pid, signal)
  await app.until('a replacement', slots => slots.every(slot => slot.state === 'serving' && slot.worker!.pid !== pid))
}

test('error reports: a hook that throws a thousand times is one event with the trace of the first; a thousand 502 are none', async t => {
  const receiver = await SentryReceiver.start(t)
  const app = await start(t, receiver, { options: { workers: 1 } })
  assert.deepEqual(await send(app, '/origin?token=5ecre7', 1_000), [502])
  assert.deepEqual(await send(app, '/throw?token=5ecre7', 1_000, `Cookie: c=5ecre7\r\ntraceparent: 00-${TRACE}-${SPAN}-01\r\n`), [500])
  await waitFor('all to be counted', async () => (await reportsOf(app)).suppressed === 999, { seen: () => receiver.events })
  assert.equal(receiver.events.length, 1)
  const [event] = receiver.events
  assert.deepEqual(event!.fingerprint, ['hook', 'TypeError', 'requestFilter'])
  assert.deepEqual(event!.contexts['trace'], { trace_id: TRACE, span_id: SPAN })
  const { requestId, ...tags } = event!.tags
  assert.match(requestId!, /^\w+$/)
  assert.deepEqual(tags, {
    kind: 'hook', worker: '1.0.0', generation: '1', slot: '0', hook: 'requestFilter', phase: 'requestFilter', service: 'http-proxy',
    listener: 'http-proxy/127.0.0.1:0',
  })
  assert.deepEqual([event!.environment, event!.level], ['test', 'error'])
  const [thrown] = event!.exception.values
  assert.deepEqual([thrown!.type, thrown!.value], ['TypeError', 'no tenant for /throw?(query)'])
  assert.match(thrown!.stacktrace!.frames.at(-1)!.filename, /faulty\.ts$/)
  assert.doesNotMatch(receiver.bodies.join('\n'), /5ecre7(?!ofthetest)|a\.example|cookie/i)
})

test('error reports: out of memory, an uncaught error, a rejection and a kill are one event each, whoever has to mend them', async t => {
  const receiver = await SentryReceiver.start(t)
  const app = await start(t, receiver, { env: { ...NOTHING_SUPPRESSED, NODE_OPTIONS: '--max-old-space-size=48' } })
  void get(app.port, '/memory')
  await waitFor('the death', () => receiver.events.length === 1, { deadlineMs: 30_000, seen: () => app.stderr.slice(-2000) })
  await app.until('a replacement', slots => slots.every(slot => slot.state === 'serving'))
  await get(app.port, '/crash')
  await waitFor('the uncaught error', () => receiver.of('uncaught').length === 1)
  await get(app.port, '/reject')
  await waitFor('the rejection', () => receiver.of('rejection').length === 1)
  await app.until('old workers to be gone', isSettled, 20_000)
  await kill(app, 'SIGKILL')
  await waitFor('the kill', () => receiver.of('worker').length === 2)
  // The end sends what it had.
  app.signal('SIGTERM')
  assert.equal((await app.end()).code, 0)
  assert.deepEqual(receiver.events.map(({ fingerprint }) => fingerprint.slice(0, 2).join(' ')), [
    'worker WorkerDied', 'uncaught RangeError', 'rejection Error', 'worker WorkerDied',
  ])
  const [memory, uncaught, rejection, killed] = receiver.events
  assert.deepEqual([memory!.tags['exit'], killed!.tags['exit']], ['out of memory', 'SIGKILL'])
  assert.deepEqual([memory!.level, uncaught!.level, rejection!.level, killed!.level], ['fatal', 'fatal', 'error', 'fatal'])
  assert.equal(uncaught!.exception.values[0]!.value, 'crashed on request')
  assert.match(rejection!.tags['function']!, /requestFilter/)
})

test('error reports: a release that is rolled back is one event, with its own stack', LINUX_ONLY, async t => {
  const receiver = await SentryReceiver.start(t)
  const server = await ReleasedApp.start(t, { readyTimeoutMs: 3_000 }, { env: { ...NOTHING_SUPPRESSED, SENTRY_DSN: receiver.dsn } })
  const { result } = await server.upgrade(server.root.add('two', { fault: 'throws at start' }))
  assert.equal(result, 'rolled-back')
  assert.equal((await server.upgrade(server.root.add('three'))).result, 'committed')
  server.app.signal('SIGTERM')
  assert.equal((await server.app.end()).code, 0)
  assert.deepEqual(receiver.events.map(({ fingerprint, release, tags }) => [fingerprint, release, tags['operation']]), [
    [['operation', 'RolledBack', 'upgrade'], 'two', 'upgrade-1'],
  ])
  const { value, stacktrace } = receiver.events[0]!.exception.values[0]!
  assert.match(value, /^upgrade-1 was rolled back: no new worker came up in slot 0: two finds no database/)
  assert.match(stacktrace!.frames.at(-1)!.filename, /releases\/two\//)
})

test('error reports: a receiver that hangs slows no request, and the end waits for it as long as it may', async t => {
  const receiver = await SentryReceiver.start(t)
  receiver.answer = () => {}
  const app = await start(t, receiver, { env: { ...NOTHING_SUPPRESSED, CIRQUE_SENTRY_FLUSH_TIMEOUT: '300ms' } })
  for (let index = 0; index < 3; index++) await send(app, '/throw', 100)
  await kill(app, 'SIGKILL')
  await waitFor('events', () => receiver.events.length === 2)
  assert.deepEqual(await send(app, '/ok', 200), [200])
  const { state, accepted, failed } = await reportsOf(app)
  assert.deepEqual([state, accepted, failed], ['open', 0, 0])
  app.signal('SIGTERM')
  assert.equal((await app.end()).code, 0)
  assert.deepEqual(app.lines.filter(({ level }) => level === 'error').map(({ msg }) => msg).filter(msg => /report/.test(msg)), [])
})

test('error reports: the DSN is in no log, no status and no file of the state folder', async t => {
  const receiver = await SentryReceiver.start(t)
  const app = await start(t, receiver)
  await kill(app, 'SIGKILL')
  await waitFor('the event', async () => (await reportsOf(app)).accepted === 1)
  const files = fs.readdirSync(app.stateDir, { recursive: true, withFileTypes: true }).filter(file => file.isFile())
  assert.ok(files.some(({ name }) => name === 'journal.json'))
  const texts = files.map(({ parentPath, name }) => fs.readFileSync(path.join(parentPath, name), 'latin1'))
  for (const text of [...texts, JSON.stringify(await app.ask({ tag: 'status' })), app.stderr, app.stdout]) {
    assert.ok(!text.includes(receiver.key), text.slice(0, 200))
  }
})

test('error reports: a supervisor that replaced itself, or adopted what a killed one left, tells each death once', LINUX_ONLY, async t => {
  const receiver = await SentryReceiver.start(t)
  const folder = temporaryFolder(t)
  const dsnFile = path.join(folder, 'dsn')
  fs.writeFileSync(dsnFile, receiver.dsn)
  const options: SupervisedOptions = {
    folder, options: { orphanPolicy: 'keep', drain: { crashDrainMs: 3_000 } },
    env: { ...NOTHING_SUPPRESSED, SENTRY_DSN: '', CIRQUE_SENTRY_DSN_FILE: dsnFile },
  }
  const app = await start(t, receiver, options)
  const slow = get(app.port, '/ok')
  await slow
  await kill(app, 'SIGKILL')
  await get(app.port, '/crash')
  await waitFor('two deaths', () => receiver.events.length === 2)
  // The worker that crashed is still there, and ends under the next image.
  const { result, supervisorReplaced } = await operate(app, { tag: 'upgrade', folder: '', supervisor: 'always' })
  assert.deepEqual([result, supervisorReplaced], ['committed', true])
  await app.until('workers of before to be gone', isSettled, 20_000)
  assert.equal(receiver.events.length, 2)
  await kill(app, 'SIGKILL')
  await waitFor('the death under the next image', () => receiver.events.length === 3)

  process.kill(app.pid, 'SIGKILL')
  await app.ended
  const next = await start(t, receiver, { ...options, wait: false })
  await next.line('adopted the workers', 20_000)
  await kill(next, 'SIGSEGV')
  await waitFor('the event of the adopter', async () => (await reportsOf(next)).events === 1)
  next.signal('SIGTERM')
  assert.equal((await next.end()).code, 0)
  assert.deepEqual(receiver.events.map(({ tags }) => tags['kind']), ['worker', 'uncaught', 'worker', 'worker'])
})

test('error reports: a reload turns them on and off', async t => {
  const receiver = await SentryReceiver.start(t)
  const folder = temporaryFolder(t)
  const dsnFile = path.join(folder, 'dsn')
  fs.writeFileSync(dsnFile, 'https://0@127.0.0.1:1/1')
  const app = await start(t, receiver, { folder, options: { workers: 1 }, env: { SENTRY_DSN: '', CIRQUE_SENTRY_DSN_FILE: dsnFile } })
  await send(app, '/throw', 1)
  await waitFor('the failure', async () => (await reportsOf(app)).failed === 1)
  await app.line('error reports do not get through')
  fs.writeFileSync(dsnFile, receiver.dsn)
  assert.equal((await operate(app, { tag: 'reload', soakMs: 0 })).result, 'committed')
  await kill(app, 'SIGKILL')
  await waitFor('an event', () => receiver.events.length === 1)
  fs.writeFileSync(dsnFile, 'not a DSN')
  const refused = await operate(app, { tag: 'reload' })
  assert.deepEqual([refused.result, refused.configuration], ['refused', true])
  assert.match(refused.reason, /CIRQUE_SENTRY_DSN_FILE: sentry\.dsnFile: found .*in which there is a value that is not shown/)
})
