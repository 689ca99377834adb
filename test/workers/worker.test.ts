import assert from 'node:assert/strict'
import test from 'node:test'
import type { Question } from '../../src/ipc/channel.ts'
import type { FaultReport } from '../../src/ipc/fault-report.ts'
import type { DrainOrder, FromWorker, ToWorker, Welcome } from '../../src/ipc/messages.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { Server } from '../../src/server/server.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import type { BackgroundService } from '../../src/server/service.ts'
import { WorkerPhase } from '../../src/ipc/worker-phase.ts'
import { EXIT_START_FAILED, EXIT_UNCAUGHT, Worker } from '../../workers/worker.ts'
import { systemWorld, type WorkerWorld } from '../../workers/worker-world.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { settle } from '../support/fake-process-host.ts'
import { FaultReports } from '../../src/telemetry/fault-reports.ts'
import { PlainService } from '../support/plain-service.ts'
import { waitFor } from '../support/wait-for.ts'

const ORDER: DrainOrder = { ...drainOrder('stop', DRAIN_DEFAULTS, 0), hardDrainMs: 50, softDrainMs: 0, endAfterMs: 1_000 }
const WELCOME: Welcome = {
  protocol: 1, heartbeatMs: 20, orphanPolicy: 'drain-after', orphanDrainAfterMs: 1, orphanDrain: ORDER,
  maxControlMessageBytes: 1024,
}

interface Fixture {
  worker: Worker
  sent: FromWorker[]
  exits: number[]
  levels: (string | null)[]
  ticketKeys: (readonly string[])[]
  order(order: ToWorker): Promise<string>
}

/** A worker without sockets: what it says and when it ends. */
function fixture(world: WorkerWorld = systemWorld): Fixture {
  const sent: FromWorker[] = []
  const exits: number[] = []
  const levels: (string | null)[] = []
  const ticketKeys: (readonly string[])[] = []
  const worker = new Worker(
    {
      role: 'worker', worker: '1.0.0', slot: 0, application: '/a.ts', controlPath: '/w', token: 't',
      maxControlMessageBytes: 1024, layout: { slots: 1, copies: 1, listeners: [] },
    },
    null, {
      send: message => { sent.push(message); return true }, exit: code => { exits.push(code) }, flushLogs: async () => {},
      phaseChanged() {}, beat() {}, requestComes() {}, reopenLogs() {}, shownClient: address => address,
      setLogLevel: level => { levels.push(level) },
      setTicketKeys: keys => {
        if (keys.includes('bad')) throw new RangeError('no key')
        ticketKeys.push(keys)
      },
      logCounts: () => ({ logLinesDropped: 0, logFaults: 0 }),
      log: SILENT_LOG, lines: { error() {} },
    },
    world,
  )
  const order = (given: ToWorker): Promise<string> => new Promise(resolve => {
    const question: Question = { ok: () => resolve('ok'), refuse: (_code, reason) => resolve(reason) }
    worker.onOrder(given, question)
  })
  return { worker, sent, exits, levels, ticketKeys, order }
}

test('worker: keys of session tickets are taken from the welcome and from an order, and what is none is refused', async () => {
  const { worker, ticketKeys, order } = fixture()
  assert.equal(await order({ tag: 'ticket-keys', keys: ['a', 'b'] }), 'ok')
  assert.deepEqual(ticketKeys, [['a', 'b']])
  assert.match(await order({ tag: 'ticket-keys', keys: ['bad'] }), /no key/)
  worker.onWelcome({ ...WELCOME, ticketKeys: ['c'] })
  worker.onWelcome({ ...WELCOME, ticketKeys: ['bad'] })
  assert.deepEqual(ticketKeys, [['a', 'b'], ['c']], 'a worker with keys that it cannot use serves on')
  await order({ tag: 'drain', order: ORDER })
})

test('worker: certificates are told by a worker that is ready, after a look at their files where that is asked for', async () => {
  const { worker, order } = fixture()
  assert.match(await order({ tag: 'certificates', reload: false }), /not ready yet/)
  const done: string[] = []
  const server = new Server()
  server.addService({ kind: 'background', name: 'b', start() {} })
  server.reloadCertificates = async () => { done.push('reload') }
  server.certificates = () => {
    done.push('list')
    return []
  }
  void worker.run(server)
  await settle()
  assert.equal(await order({ tag: 'certificates', reload: false }), 'ok')
  assert.equal(await order({ tag: 'certificates', reload: true }), 'ok')
  assert.deepEqual(done, ['list', 'reload', 'list'])
  await order({ tag: 'drain', order: ORDER })
})

test('worker: it says ready when its services are, and obeys only then', async () => {
  const { worker, sent, order } = fixture()
  const gate = Promise.withResolvers<void>()
  const slow: BackgroundService = { kind: 'background', name: 'slow', start: () => gate.promise }
  const server = new Server()
  server.addService(slow)
  void worker.run(server)
  await settle()
  assert.equal(worker.phase, 'starting')
  assert.match(await order({ tag: 'accept' }), /not ready yet/)
  gate.resolve()
  await settle()
  assert.deepEqual(sent, [{ tag: 'ready' }])
  assert.equal(await order({ tag: 'accept' }), 'ok')
  assert.equal(worker.phase, 'accepting')
  assert.equal(await order({ tag: 'stop-accept' }), 'ok')
  assert.equal(worker.phase, 'paused')
  assert.equal(await order({ tag: 'accept' }), 'ok')
  assert.match(await order({ tag: 'stand-in', slot: 3 }), /no slot 3/)
})

test('worker: what its services want to have known goes with its heartbeats', async () => {
  const { worker, sent, order } = fixture()
  const server = new Server()
  let notices: readonly string[] = ['a is out']
  server.addService({ kind: 'background', name: 'balancer', start() {}, notices: () => notices })
  void worker.run(server)
  await settle()
  worker.onWelcome(WELCOME)
  const last = (): object | undefined => sent.findLast(message => message.tag === 'heartbeat')
  await waitFor('the notice', () => JSON.stringify((last() as { notices?: unknown } | undefined)?.notices) === '["a is out"]')
  notices = []
  await waitFor('its end', () => last() !== undefined && !('notices' in last()!))
  await order({ tag: 'drain', order: ORDER })
})

test('worker: ready is said again to a supervisor that comes late, and heartbeats follow', async () => {
  const { worker, sent, exits, order } = fixture()
  void worker.run(new Server())
  await settle()
  worker.onWelcome(WELCOME)
  assert.deepEqual(sent.map(message => message.tag), ['ready', 'ready'])
  await waitFor('two heartbeats', () => sent.filter(message => message.tag === 'heartbeat').length >= 2)
  await order({ tag: 'drain', order: ORDER })
  await settle()
  assert.deepEqual(exits, [0])
})

test('worker: a drain is answered, then finished, then the process ends with 0', async () => {
  const { worker, sent, exits, order } = fixture()
  const server = new Server()
  server.addService(new PlainService('web'))
  void worker.run(server)
  await waitFor('the worker to be ready', () => worker.phase === WorkerPhase.Ready)
  assert.equal(await order({ tag: 'drain', order: ORDER }), 'ok')
  await settle()
  assert.deepEqual(sent.at(-1), { tag: 'drained', cut: 0 })
  assert.deepEqual(exits, [0])
  assert.equal(worker.phase, WorkerPhase.Draining)
})

test('worker: a drain that hangs is ended at the worker\'s own deadline', async () => {
  const { worker, exits, order } = fixture()
  const server = new Server()
  const stuck = new PlainService('web')
  stuck.drain = () => new Promise(() => {})
  server.addService(stuck)
  void worker.run(server)
  await waitFor('the worker to be ready', () => worker.phase === WorkerPhase.Ready)
  await order({ tag: 'drain', order: { ...ORDER, endAfterMs: 60_000 } })
  // Asked again with less time: the shorter one counts.
  await order({ tag: 'drain', order: { ...ORDER, endAfterMs: 1 } })
  await waitFor('the end', () => exits.length > 0)
  assert.deepEqual(exits, [0])
})

test('worker: told to drain before it was ready, it just ends', async () => {
  const { exits, order } = fixture()
  assert.equal(await order({ tag: 'drain', order: ORDER }), 'ok')
  assert.deepEqual(exits, [0])
})

test('worker: an orphan drains by itself; one that never had a supervisor ends', async () => {
  const orphan = fixture()
  void orphan.worker.run(new Server())
  await settle()
  orphan.worker.onWelcome(WELCOME)
  orphan.worker.onOrphaned('gone')
  assert.equal(orphan.worker.phase, 'draining')
  await waitFor('the end', () => orphan.exits.length > 0)
  assert.deepEqual(orphan.exits, [0])
  const lonely = fixture()
  lonely.worker.onOrphaned('never there')
  assert.deepEqual(lonely.exits, [EXIT_START_FAILED])
})

test('worker: its last words reach the supervisor', () => {
  const { worker, sent, exits } = fixture()
  worker.fail(new Error('broken'), EXIT_UNCAUGHT, true)
  worker.fail(new Error('again'), EXIT_UNCAUGHT, true)
  assert.equal((sent[0] as { message: string }).message, 'broken')
  assert.deepEqual(exits, [EXIT_UNCAUGHT])
})

async function serving(welcome: Partial<Welcome> = {}): Promise<Fixture> {
  const made = fixture()
  const server = new Server()
  server.addService(new PlainService('web'))
  void made.worker.run(server)
  await waitFor('the worker to be ready', () => made.worker.phase === WorkerPhase.Ready)
  made.worker.onWelcome({ ...WELCOME, crashDrain: ORDER, unhandledRejections: 'log', ...welcome })
  await made.order({ tag: 'accept' })
  made.sent.length = 0
  return made
}

test('worker: a rejection that nobody handles is counted and ends nothing', async () => {
  const { worker, sent, exits, order } = await serving()
  for (const reason of [new Error('forgotten'), undefined, Object.create(null), new Proxy({}, { get() { throw new Error('no') } })]) {
    worker.onRejection(reason)
  }
  assert.equal(worker.phase, 'accepting')
  await waitFor('a heartbeat', () => sent.some(message => message.tag === 'heartbeat' && message.open.unhandledRejections === 4))
  assert.deepEqual(exits, [])
  assert.ok(!sent.some(({ tag }) => tag === 'fault'), 'a supervisor that did not ask for faults is told of none')
  await order({ tag: 'drain', order: ORDER })
})

test('worker: with strict rejections one is an error that nothing caught', async () => {
  const { worker, sent, exits } = await serving({ unhandledRejections: 'end' })
  worker.onRejection(new Error('forgotten'))
  assert.equal(sent[0]!.tag, 'failed')
  await waitFor('the end', () => exits.length > 0)
  assert.deepEqual(exits, [EXIT_UNCAUGHT])
})

test('worker: a supervisor that asked for it is told of rejections, each sort once, and of errors while it ends', async () => {
  const { worker, sent, exits } = await serving()
  const faultReports = new FaultReports(fault => { sent.push({ tag: 'fault', fault }); return true })
  worker.context = { ...SERVER_CONTEXT_DEFAULTS, faultReports }
  const forgotten = new TypeError('forgotten')
  forgotten.stack = 'TypeError: forgotten\n    at Shop.logging (/app/shop.ts:9:1)'
  for (let index = 0; index < 50; index++) worker.onRejection(forgotten)
  const faults = (): FaultReport[] => sent.flatMap(message => message.tag === 'fault' ? [message.fault] : [])
  assert.deepEqual(faults(), [{
    kind: 'rejection', name: 'TypeError', where: 'Shop.logging', message: 'forgotten', count: 1,
    stack: '    at Shop.logging (/app/shop.ts:9:1)',
  }])
  worker.onUncaught(new RangeError('broken'))
  worker.onUncaught(new Error('again'))
  const failed = sent.find(message => message.tag === 'failed')
  assert.ok(failed?.tag === 'failed' && failed.name === 'RangeError' && failed.rejected === undefined)
  assert.deepEqual(faults().slice(1).map(({ kind, message }) => [kind, message]), [['uncaught', 'again']])
  await waitFor('the end', () => exits.length > 0)
  assert.deepEqual(faults().at(-1)!.again, true)
  assert.equal(faults().reduce((sum, { count }) => sum + count, 0), 51, 'the end tells what was held')
})

test('worker: a rejection before runForever() was called is why it cannot start', () => {
  const { worker, sent, exits } = fixture()
  worker.onWelcome({ ...WELCOME, crashDrain: ORDER, unhandledRejections: 'log' })
  worker.onRejection(new Error('no database'))
  assert.deepEqual(sent.map(message => message.tag === 'failed' ? message.message : message.tag), ['no database'])
  assert.deepEqual(exits, [EXIT_START_FAILED])
})

test('worker: an error of any length is told in a message that the supervisor takes', () => {
  const { worker, sent } = fixture()
  worker.onWelcome({ ...WELCOME, crashDrain: ORDER, unhandledRejections: 'log' })
  const error = new Error('\u0001'.repeat(3_000_000))
  error.name = '\u0002'.repeat(3_000_000)
  worker.onUncaught(error)
  const [failed] = sent
  assert.ok(failed?.tag === 'failed' && failed.message.startsWith('\u0001') && failed.message.endsWith('...'))
  assert.ok(Buffer.byteLength(JSON.stringify(failed)) < 1024)
})

test('worker: a start that fails ends it, whether the application waits for it or not', async () => {
  const { worker, sent, exits } = fixture()
  const server = new Server()
  const broken: BackgroundService = { kind: 'background', name: 'broken', start: () => Promise.reject(new Error('no licence')) }
  server.addService(broken)
  await assert.rejects(worker.run(server), /no licence/)
  assert.ok(sent.some(message => message.tag === 'failed' && message.message.includes('no licence')))
  assert.deepEqual(exits, [EXIT_START_FAILED])
})

test('worker: after an uncaught error it says so, accepts no more, finishes what it has, and ends with 70', async () => {
  const { worker, sent, exits } = await serving()
  worker.onUncaught(new Error('broken'))
  worker.onUncaught(new Error('again'))
  const [failed] = sent
  assert.ok(failed?.tag === 'failed' && failed.message === 'broken' && failed.endsInMs === ORDER.endAfterMs)
  assert.equal(sent.filter(message => message.tag === 'failed').length, 1)
  assert.equal(worker.phase, 'draining')
  assert.deepEqual(exits, [])
  await waitFor('the end', () => exits.length > 0)
  assert.deepEqual(exits, [EXIT_UNCAUGHT])
})

test('worker: an uncaught error ends it at once when it holds nothing, or when it is told so', async () => {
  const ready = fixture()
  void ready.worker.run(new Server())
  await settle()
  ready.worker.onWelcome({ ...WELCOME, crashDrain: ORDER })
  ready.worker.onUncaught(new Error('broken'))
  assert.deepEqual(ready.exits, [EXIT_UNCAUGHT])
  const told = await serving({ crashDrain: { ...ORDER, endAfterMs: 0 } })
  told.worker.onUncaught(new Error('broken'))
  assert.deepEqual(told.exits, [EXIT_UNCAUGHT])
})

test('worker: one server a process', async () => {
  const { worker } = fixture()
  void worker.run(new Server())
  await assert.rejects(worker.run(new Server()), /twice/)
})

test('worker: busy with its connections it beats when its timer is late, and not sooner', () => {
  const clock = new FakeClock()
  let whenBusy = (): void => {}
  // Timers have no turn.
  const starved = { exact: () => clock.now(), after: () => () => {} }
  const world: Partial<WorkerWorld> = {
    clock: starved, vitals: () => ({ utilization: 1, rssBytes: 1 }), whileBusy: run => { whenBusy = run },
  }
  const { worker, sent } = fixture(world as WorkerWorld)
  const beats = (): number => sent.filter(({ tag }) => tag === 'heartbeat').length
  worker.onWelcome(WELCOME)
  clock.advance(WELCOME.heartbeatMs - 1)
  whenBusy()
  assert.equal(beats(), 0)
  clock.advance(1)
  whenBusy()
  whenBusy()
  assert.equal(beats(), 1)
  clock.advance(WELCOME.heartbeatMs + 30)
  whenBusy()
  assert.equal(beats(), 2)
  assert.equal((sent.at(-1) as { loopLagMs: number }).loopLagMs, 30)
})

test('worker: a level of the log holds for its time, and ends by an order, and where a supervisor knows nothing of it', async () => {
  const clock = new FakeClock()
  const world: Partial<WorkerWorld> = { clock, vitals: () => ({ utilization: 0, rssBytes: 0 }), whileBusy() {} }
  const { worker, levels, order } = fixture(world as WorkerWorld)
  worker.onWelcome({ ...WELCOME, logLevel: { level: 'debug', forMs: 1000 } })
  assert.deepEqual(levels.splice(0), ['debug'])
  clock.advance(999)
  assert.deepEqual(levels.splice(0), [])
  clock.advance(1)
  assert.deepEqual(levels.splice(0), [null])
  assert.equal(await order({ tag: 'log-level', level: 'error', forMs: 5000 }), 'ok')
  assert.equal(await order({ tag: 'log-level', level: 'warn', forMs: 100_000 }), 'ok')
  clock.advance(5000)
  assert.deepEqual(levels.splice(0), ['error', 'warn'], 'the time of the first is over, and changes nothing')
  assert.equal(await order({ tag: 'log-level', level: 'info', forMs: 0 }), 'ok')
  clock.advance(100_000)
  assert.deepEqual(levels.splice(0), [null])
  await order({ tag: 'log-level', level: 'debug', forMs: 5000 })
  // A supervisor that came in the place of the one that had set it.
  worker.onWelcome(WELCOME)
  assert.deepEqual(levels.splice(0), ['debug', null])
})
