import assert from 'node:assert/strict'
import test from 'node:test'
import { LOG_DEFAULTS } from '../../src/config/log-options.ts'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { SupervisorOptions } from '../../src/config/supervisor-options.ts'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { FaultReport } from '../../src/ipc/fault-report.ts'
import type { ToWorker } from '../../src/ipc/messages.ts'
import { NO_COUNTS, NOTHING_DONE } from '../../src/ipc/open-counts.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { DescribedListener } from '../../src/ipc/server-description.ts'
import type { WorkerPhase } from '../../src/ipc/worker-phase.ts'
import type { Incident } from '../../supervisor/error-reports.ts'
import { Fleet } from '../../supervisor/fleet.ts'
import type { Generation } from '../../supervisor/generation.ts'
import { MetricLedger } from '../../supervisor/metric-ledger.ts'
import type { ExitReport } from '../../supervisor/process-host.ts'
import { Refused, StartFailed } from '../../supervisor/refusals.ts'
import { lastRestartDelayMs } from '../../supervisor/restart-policy.ts'
import type { FleetRecord, FleetSetup } from '../../supervisor/roster.ts'
import { Contact } from '../../supervisor/worker-process.ts'
import type { WorkerLink, WorkerProcess, WorkerRecord } from '../../supervisor/worker-process.ts'
import type { SlotRecord, WorkerSlot } from '../../supervisor/worker-slot.ts'
import { FakeProcessHost, settle } from '../support/fake-process-host.ts'
import type { FakeWorker } from '../support/fake-process-host.ts'
import { MemoryMetricDisk } from '../support/memory-metric-disk.ts'

const generation = (slots: number): Generation => ({
  number: 7,
  readAt: 0,
  args: ['--x'],
  execArgv: [],
  uid: null,
  gid: null,
  settings: { log: LOG_DEFAULTS, limits: {}, listeners: {} },
  workers: slots,
  release: {
    folder: '/r',
    application: '/app.ts',
    installation: '/r',
    node: '/node',
    fingerprint: '',
    entries: { worker: '/workers/main.ts', describe: '', boot: '', resume: '' },
  },
  layout: { slots, copies: 1, listeners: [{ name: 'a', shared: false }] },
  description: {
    format: 1,
    services: [],
    listeners: [],
    selfTest: { method: 'GET', path: '/', headers: {}, expect: { statusMin: 100, statusMax: 499 }, timeoutMs: 1, upstream: false },
  },
})

/** The same with listeners on these ports. */
function listeningOn(ports: readonly number[], plain: Generation): Generation {
  const listeners = ports.map((port): DescribedListener => {
    const address = { kind: 'tcp', host: '127.0.0.1', port } as unknown as DescribedListener['address']
    return { name: `app/${port}`, service: 'app', address, canonical: `127.0.0.1:${port}`, backlog: 511 }
  })
  return { ...plain, description: { ...plain.description, listeners } }
}

function ledger(): MetricLedger { return new MetricLedger('/state', new MemoryMetricDisk(), SILENT_LOG) }

interface Fixture {
  host: FakeProcessHost
  fleet: Fleet
  log: string[]
  incidents: Incident[]
  started: Promise<void>
  autostart(worker: FakeWorker): void
}

function fixture(options: SupervisorOptions = {}, slots = 2, first = generation(slots)): Fixture {
  const host = new FakeProcessHost()
  const lines: string[] = []
  const incidents: Incident[] = []
  const write = (level: string) => (message: string, fields?: LogFields): void => {
    const reason = fields?.['reason']
    lines.push(`${level}: ${message}${reason === undefined ? '' : ` (${String(reason)})`}`)
  }
  const log: ProcessLog = { info: write('info'), warn: write('warn'), error: write('error') }
  const resolved = resolveSupervisorOptions({ workers: slots, heartbeatMs: 1_000, standInAfterSilenceMs: 3_000, ...options })
  const fleet = new Fleet({
    host, options: resolved, log, generation: first,
    descriptors: () => [21, 22], controlPath: '/w.sock', ledger: ledger(), onChange() {},
    onIncident: incident => { incidents.push(incident) },
  })
  /** A worker that connects, is ready and obeys. */
  const autostart = (worker: FakeWorker): void => {
    worker.connect(fleet)
    worker.say(fleet, { tag: 'ready' })
  }
  host.onFork = autostart
  const started = fleet.start()
  started.catch(() => {})
  return { host, fleet, log: lines, incidents, started, autostart }
}

/** Seconds, in each of which `alive` workers report once, at its begin, and the supervisor ticks four times. */
async function seconds(f: Fixture, count: number, alive: (worker: FakeWorker) => boolean = () => true): Promise<void> {
  for (let n = 0; n < count; n++) {
    for (const worker of f.host.living) if (alive(worker) && worker.process !== null) worker.heartbeat(f.fleet)
    for (let tick = 0; tick < 4; tick++) {
      f.host.clock.advance(250)
      await settle()
    }
  }
}

/** A generation on trial takes these slots over, one after the other. */
async function takesOver({ fleet }: Fixture, next: Generation, slots: readonly WorkerSlot[]): Promise<void> {
  fleet.expect(next, fleet.options)
  for (const slot of slots) {
    await fleet.introduce(slot, next)
    await fleet.takeOver(slot)
  }
}

test('fleet: a worker is asked to accept only after it said ready, and the start ends when all accept', async () => {
  const f = fixture()
  f.host.onFork = () => {}
  const { host, fleet } = f
  await settle()
  assert.equal(host.workers.length, 2)
  const [first, second] = host.workers as [FakeWorker, FakeWorker]
  assert.deepEqual(first.request.descriptors, [21, 22])
  assert.deepEqual(first.request.args, ['/app.ts', '--x'])
  assert.equal(first.id, '7.0.0')
  first.connect(fleet)
  assert.deepEqual(first.orders, [])
  first.say(fleet, { tag: 'ready' })
  await settle()
  assert.deepEqual(first.orders, [{ tag: 'accept' }])
  assert.equal(fleet.started, false)
  f.autostart(second)
  await f.started
  assert.equal(fleet.started, true)
})

test('fleet: a connection with the wrong token or an unknown id is none of ours', async () => {
  const f = fixture()
  f.host.onFork = () => {}
  await settle()
  const [worker] = f.host.workers as [FakeWorker]
  assert.equal(worker.connect(f.fleet, { token: 'x'.repeat(worker.role.token.length) }), false)
  assert.equal(worker.connect(f.fleet, { token: '' }), false)
  assert.equal(worker.connect(f.fleet, { worker: '7.9.0' }), false)
  assert.equal(worker.connect(f.fleet), true)
})

test('fleet: a dead worker is stood in for at once, restarted after the back-off, and the stand-in ends', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  first.exit({ signal: 'SIGSEGV' })
  await settle()
  assert.deepEqual(second.ordered('stand-in'), [{ tag: 'stand-in', slot: 0 }])
  assert.equal(f.host.workers.length, 2)
  assert.ok(f.log.some(line => line === 'error: worker 7.0.0 died: ended by SIGSEGV'), f.log.join('\n'))
  f.host.clock.advance(99)
  assert.equal(f.host.workers.length, 2)
  f.host.clock.advance(1)
  await settle()
  assert.equal(f.host.newest(0).id, '7.0.1')
  assert.deepEqual(second.ordered('step-back'), [{ tag: 'step-back', slot: 0 }])
})

test('fleet: a stand-in that is to retire accepts on until another worker accepts in its place, however often none can', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  // Slot 0 stays without a worker of its own.
  let able = false
  f.host.onFork = worker => {
    if (worker.role.slot === 0) return
    worker.obey = order => order.tag === 'stand-in' && !able ? Promise.reject(new ChannelError('refused', 'no')) : Promise.resolve(null)
    f.autostart(worker)
  }
  first.exit({ signal: 'SIGSEGV' })
  await settle()
  assert.deepEqual(second.ordered('stand-in'), [{ tag: 'stand-in', slot: 0 }])
  // Smaller steps than ticks, so that the heir is also looked for when no question is under way.
  const steps = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      for (const worker of f.host.living) if (worker.process !== null) worker.heartbeat(f.fleet)
      f.host.clock.advance(100)
      await settle()
    }
  }
  await steps(1)
  await f.fleet.restart('1')
  const heir = f.host.newest(1)
  await steps(50)
  assert.ok(heir.ordered('stand-in').length > 3)
  assert.deepEqual(second.ordered('stop-accept'), [])
  able = true
  await steps(20)
  assert.deepEqual(second.orders.slice(-2).map(order => order.tag), ['stop-accept', 'drain'])
})

test('fleet: when the stand-in dies too, nobody is asked until somebody accepts again', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  f.host.onFork = () => {}
  first.exit({ code: 70 })
  await settle()
  second.exit({ code: 70 })
  f.host.clock.advance(100)
  await settle()
  const replacement = f.host.newest(0)
  f.autostart(replacement)
  await settle()
  assert.deepEqual(replacement.ordered('stand-in'), [{ tag: 'stand-in', slot: 1 }])
})

test('fleet: the last slot that could accept never waits for its back-off, whatever its history', async () => {
  const f = fixture({}, 1)
  await f.started
  for (let death = 1; death <= 12; death++) {
    f.host.newest(0).exit({ code: 70 })
    f.host.clock.advance(200)
    await settle()
    assert.equal(f.host.workers.length, 1 + death, `after death ${death}`)
    assert.equal(f.fleet.slots[0]!.state, 'serving')
  }
})

test('fleet: a slot in a long back-off is started as soon as the last worker elsewhere dies', async () => {
  const f = fixture({ restart: { backoffMs: 20_000 } })
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  f.host.onFork = () => {}
  first.exit({ code: 70 })
  f.host.clock.advance(1_000)
  await settle()
  assert.equal(f.host.workers.length, 2, 'while a sibling serves the back-off is kept')
  second.exit({ code: 70 })
  f.host.clock.advance(200)
  await settle()
  assert.equal(f.host.workers.length, 3)
})

test('fleet: while nobody serves no more workers are started again than there are cores, and the rest once one serves', async () => {
  const f = fixture({}, 4)
  await f.started
  f.host.cores = 2
  f.host.onFork = () => {}
  for (const worker of f.host.living) worker.exit({ signal: 'SIGKILL' })
  f.host.clock.advance(1_000)
  await settle()
  const [first, second, ...others] = f.host.living as [FakeWorker, FakeWorker]
  assert.deepEqual(others, [])
  second.exit({ code: 70 })
  f.host.clock.advance(250)
  await settle()
  assert.equal(f.host.living.length, 2, 'another one takes the place of one that died')
  f.autostart(first)
  await settle()
  assert.deepEqual(first.ordered('stand-in').length, 3)
  f.host.clock.advance(200)
  await settle()
  assert.equal(f.host.living.length, 2, 'its first requests have the cores for themselves')
  f.host.clock.advance(100)
  await settle()
  assert.equal(f.host.living.length, 4)
})

test('fleet: when nobody serves the first worker is told of all slots before it has answered for its own', async () => {
  const f = fixture({}, 3)
  await f.started
  f.host.cores = 1
  const accepted = Promise.withResolvers<null>()
  f.host.onFork = worker => {
    worker.obey = order => order.tag === 'accept' ? accepted.promise : Promise.resolve(null)
    f.autostart(worker)
  }
  for (const worker of f.host.living) worker.exit({ signal: 'SIGKILL' })
  await settle()
  f.host.clock.advance(10)
  await settle()
  const [first] = f.host.living as [FakeWorker]
  const others = f.fleet.slots.map(slot => slot.index).filter(index => index !== first.role.slot)
  assert.deepEqual(first.orders, [{ tag: 'accept' }, ...others.map(slot => ({ tag: 'stand-in', slot }))])
  f.host.clock.advance(250)
  await settle()
  assert.deepEqual(first.ordered('step-back'), [], 'the tick leaves it there')
  accepted.resolve(null)
  await settle()
  assert.equal(f.fleet.slots[first.role.slot]!.state, 'serving')
  assert.deepEqual(others.map(slot => f.fleet.slots[slot]!.standIn.worker?.id), others.map(() => first.id))
})

test('fleet: a worker that comes up too slowly holds no other one up', async () => {
  const f = fixture()
  await f.started
  f.host.cores = 1
  f.host.onFork = () => {}
  for (const worker of f.host.living) worker.exit({ signal: 'SIGKILL' })
  f.host.clock.advance(2_900)
  await settle()
  assert.equal(f.host.living.length, 1)
  f.host.clock.advance(200)
  await settle()
  assert.equal(f.host.living.length, 2)
})

test('fleet: a worker that met an uncaught error is replaced at once, and finishes what it has', async () => {
  const f = fixture({}, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  first.say(f.fleet, { tag: 'failed', message: 'broken', stack: '', endsInMs: 5_000 })
  f.host.clock.advance(0)
  await settle()
  const [slot] = f.fleet.slots
  assert.equal(slot!.current!.id, '7.0.1')
  assert.equal(slot!.state, 'serving')
  assert.deepEqual([...slot!.draining].map(worker => worker.id), ['7.0.0'])
  assert.deepEqual(first.signals, [])
  assert.ok(f.log.some(line => line === 'error: worker 7.0.0 is replaced: broken'), f.log.join('\n'))
  f.host.clock.advance(5_000 + 2_000)
  await settle()
  assert.deepEqual(first.signals, ['SIGKILL'], 'one that outlives its deadline')
  assert.equal(f.fleet.slots[0]!.restarts, 1)
})

test('fleet: silence is answered in steps: stand-in, SIGABRT, SIGKILL, replacement', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  await seconds(f, 2, worker => worker !== first)
  assert.deepEqual(second.ordered('stand-in'), [])
  await seconds(f, 1, worker => worker !== first)
  assert.deepEqual(second.ordered('stand-in'), [{ tag: 'stand-in', slot: 0 }])
  await seconds(f, 6, worker => worker !== first)
  assert.deepEqual(first.signals, [])
  await seconds(f, 1, worker => worker !== first)
  assert.deepEqual(first.signals, ['SIGABRT'])
  await seconds(f, 1, worker => worker !== first)
  assert.deepEqual(first.signals, ['SIGABRT', 'SIGKILL'])
  await seconds(f, 1)
  assert.equal(f.host.newest(0).id, '7.0.1')
})

test('fleet: a machine that slept makes nobody silent', async () => {
  const f = fixture()
  await f.started
  // The clock jumps by an hour, but that is one tick of ours.
  f.host.clock.advance(999)
  await settle()
  await seconds(f, 1)
  assert.ok(f.host.workers.every(worker => worker.signals.length === 0))
})

test('fleet: a worker that is heard of again gets its slot back', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  await seconds(f, 4, worker => worker !== first)
  first.heartbeat(f.fleet)
  assert.deepEqual(second.ordered('step-back'), [{ tag: 'step-back', slot: 0 }])
})

test('fleet: a first start is given up after three deaths before anyone was ready, with the first words of a worker', async () => {
  const f = fixture()
  f.host.onFork = worker => {
    worker.connect(f.fleet)
    worker.say(f.fleet, { tag: 'failed', message: 'no database', stack: 'Error: no database\n  at app.ts:1' })
    worker.exit({ code: 1 })
  }
  await settle()
  f.host.clock.advance(200)
  await settle()
  await assert.rejects(f.started, (error: unknown) => {
    return error instanceof StartFailed && error.message === 'no database' && error.applicationStack.includes('app.ts:1')
  })
  assert.deepEqual(f.host.living, [])
  assert.equal(f.log.filter(line => line.includes('no database')).length, 0)
})

test('fleet: a worker that is not ready in time is killed and says why', async () => {
  const f = fixture({ readyTimeoutMs: 500 })
  f.host.onFork = () => {}
  await settle()
  f.host.clock.advance(500)
  await settle()
  assert.ok(f.host.workers.slice(0, 2).every(worker => worker.signals.includes('SIGKILL')))
})

for (const reports of [false, true]) {
  const ends = reports ? 'reports and does not answer is killed' : 'is late with its reports as well keeps what it holds'
  test(`fleet: of an order that is not answered in time: a worker that ${ends}`, async () => {
    const f = fixture({ ackTimeoutMs: 2_000 })
    await f.started
    const [first] = f.host.workers as [FakeWorker]
    const answer = Promise.withResolvers<null>()
    first.drainsAtOnce = false
    first.obey = order => order.tag === 'stop-accept' ? answer.promise : Promise.resolve(null)
    await f.fleet.restart('0')
    await seconds(f, 5, worker => reports || worker !== first)
    assert.deepEqual(first.signals, reports ? ['SIGKILL'] : [])
    if (reports) return
    // It reports before it answers, as one does that gets its turn again.
    first.heartbeat(f.fleet)
    answer.resolve(null)
    await settle()
    assert.deepEqual([first.signals, first.ordered('drain').length], [[], 1])
  })
}

test('fleet: an order whose connection ended before the answer is given again when the worker is back', async () => {
  const f = fixture()
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  first.drainsAtOnce = false
  first.obey = () => Promise.reject(new ChannelError('closed', 'the connection ended before the answer'))
  await f.fleet.restart('0')
  await seconds(f, 1, worker => worker !== first)
  assert.deepEqual([first.signals, first.ordered('stop-accept').length], [[], 1])
  first.obey = () => Promise.resolve(null)
  first.connect(f.fleet, { phase: 'accepting' })
  await settle()
  assert.deepEqual([first.signals, first.ordered('stop-accept').length, first.ordered('drain').length], [[], 2, 1])
})

test('fleet: a worker that was told to accept may hold connections before it has answered, and a stop lets it finish them', async () => {
  const f = fixture({}, 1)
  await f.started
  const accepts = Promise.withResolvers<null>()
  f.host.onFork = worker => {
    worker.obey = order => order.tag === 'accept' ? accepts.promise : Promise.resolve(null)
    f.autostart(worker)
  }
  void f.fleet.restart('0').catch(() => {})
  await settle()
  const incoming = f.host.newest(0)
  assert.equal(incoming.ordered('accept').length, 1)
  const stopped = f.fleet.stop({ capMs: 5_000, onListenersClosed() {} })
  await settle()
  accepts.resolve(null)
  await stopped
  assert.deepEqual([incoming.signals, incoming.ordered('drain').length], [[], 1])
})

test('fleet: a worker that does not acknowledge an order is killed and replaced', async () => {
  const f = fixture()
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  first.exit({ code: 1 })
  f.host.onFork = worker => {
    worker.obey = order => order.tag === 'accept' ? Promise.reject(new Error('EBADF')) : Promise.resolve(null)
    f.autostart(worker)
  }
  f.host.clock.advance(100)
  await settle()
  assert.deepEqual(f.host.newest(0).signals, ['SIGKILL'])
  f.host.onFork = f.autostart
  f.host.clock.advance(200)
  await settle()
  assert.equal(f.host.newest(0).id, '7.0.2')
  assert.equal(f.fleet.slots[0]!.state, 'serving')
})

test('fleet: a worker that has spent its memory is replaced once, and finishes what it has', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  for (let count = 0; count < 3; count++) {
    first.heartbeat(f.fleet, 5, { exhausted: 1, heldBytes: 1_000_000 })
    second.heartbeat(f.fleet, 5)
    await settle()
  }
  assert.deepEqual(f.host.living.map(worker => worker.id), ['7.1.0', '7.0.1'])
  assert.deepEqual(first.orders.map(order => order.tag), ['accept', 'stop-accept', 'drain'])
  assert.deepEqual(second.orders.map(order => order.tag), ['accept'])
  assert.equal(f.log.filter(line => line === 'warn: worker 7.0.0 has spent its memory and is replaced').length, 1, f.log.join('\n'))
})

test('fleet: while a worker that was relieved still drains, the next one in its slot stays', async () => {
  const f = fixture()
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  first.drainsAtOnce = false
  const exhausted = async (): Promise<string> => {
    f.host.newest(0).heartbeat(f.fleet, 5, { exhausted: 1 })
    await settle()
    return f.host.newest(0).id
  }
  assert.deepEqual([await exhausted(), await exhausted(), await exhausted()], ['7.0.1', '7.0.1', '7.0.1'])
  first.exit({ code: 0 })
  await settle()
  assert.equal(await exhausted(), '7.0.2')
})

test('fleet: a restart goes slot by slot: the new one accepts before the old one stops', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  const outcome = f.fleet.restart('')
  await settle()
  assert.deepEqual((await outcome).replaced, [{ slot: 0, from: '7.0.0', to: '7.0.1' }, { slot: 1, from: '7.1.0', to: '7.1.1' }])
  for (const old of [first, second]) assert.deepEqual(old.orders.map(order => order.tag), ['accept', 'stop-accept', 'drain'])
  assert.equal((first.ordered('drain')[0] as { order: { mode: string } }).order.mode, 'retire')
  assert.deepEqual(f.host.living.map(worker => worker.id), ['7.0.1', '7.1.1'])
})

test('fleet: a replacement that fails twice leaves the old worker serving and says why', async () => {
  const f = fixture()
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  f.host.onFork = worker => {
    worker.connect(f.fleet)
    worker.say(f.fleet, { tag: 'failed', message: 'bad release', stack: '' })
    worker.exit({ code: 1 })
  }
  const outcome = f.fleet.restart('0')
  const saysWhy = /failed 2 times.*serves on: bad release/
  await assert.rejects(outcome, (error: unknown) => error instanceof Refused && saysWhy.test(error.message))
  assert.equal(f.fleet.slots[0]!.current!.id, '7.0.0')
  assert.equal(f.fleet.slots[0]!.state, 'serving')
  assert.deepEqual(first.ordered('stop-accept'), [])
})

test('fleet: the old worker dies while its replacement starts: the new one takes over, nobody else is forked', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  f.host.onFork = () => {}
  const outcome = f.fleet.restart('0')
  await settle()
  first.exit({ signal: 'SIGKILL' })
  await settle()
  assert.deepEqual(second.ordered('stand-in'), [{ tag: 'stand-in', slot: 0 }])
  f.host.clock.advance(1_000)
  assert.equal(f.host.workers.length, 3)
  f.autostart(f.host.newest(0))
  await outcome
  assert.equal(f.fleet.slots[0]!.current!.id, '7.0.1')
  assert.deepEqual(second.ordered('step-back'), [{ tag: 'step-back', slot: 0 }])
})

test('fleet: when every worker hangs a spare is started, accepts for all slots, and those that hang keep what they hold', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  const hangs = (worker: FakeWorker): boolean => worker === first || worker === second
  await seconds(f, 2, worker => !hangs(worker))
  assert.equal(f.host.workers.length, 2)
  await seconds(f, 1, worker => !hangs(worker))
  const spare = f.host.newest(0)
  assert.equal(spare.id, '7.0.1')
  assert.deepEqual(spare.orders, [{ tag: 'accept' }, { tag: 'stand-in', slot: 1 }])
  assert.equal(f.fleet.slots[0]!.current!.id, '7.0.1')
  assert.equal(f.host.workers.length, 3, 'one is enough')
  // It is heard of again: its place is taken, so it retires in order.
  await seconds(f, 2)
  assert.deepEqual(first.orders.map(order => order.tag), ['accept', 'stop-accept', 'drain'])
  assert.deepEqual(first.signals, [])
  assert.equal(f.fleet.slots[1]!.current!.id, '7.1.0')
})

test('fleet: while an operator who asked to replace a worker that hangs waits, its slot gets another worker when it has none', async () => {
  const f = fixture({ ackTimeoutMs: 60_000, abortAfterSilenceMs: 60_000 }, 1)
  await f.started
  // The next worker is told to accept, and nothing is heard of it again.
  f.host.onFork = worker => {
    worker.obey = () => new Promise(() => {})
    f.autostart(worker)
  }
  f.host.workers[0]!.exit({ signal: 'SIGKILL' })
  await seconds(f, 1)
  const hanging = f.host.newest(0)
  f.host.onFork = f.autostart
  f.fleet.restart('').catch(() => {})
  await seconds(f, 4, worker => worker !== hanging)
  const [, spare] = f.host.living
  assert.equal(f.fleet.slots[0]!.current?.id, spare!.id)
  spare!.exit({ signal: 'SIGKILL' })
  await seconds(f, 1, worker => worker !== hanging)
  assert.equal(f.fleet.slots[0]!.state, 'serving')
  f.fleet.force()
})

test('fleet: a spare that was started because all hung ends unused when one is heard of before it is ready', async () => {
  const f = fixture({}, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  f.host.onFork = () => {}
  await seconds(f, 3, () => false)
  const spare = f.host.newest(0)
  assert.notEqual(spare, first)
  first.heartbeat(f.fleet)
  f.autostart(spare)
  await settle()
  assert.deepEqual(spare.signals, ['SIGKILL'])
  assert.equal(f.fleet.slots[0]!.current!.id, '7.0.0')
  assert.deepEqual(f.host.living, [first])
})

test('fleet: a spare that hangs as well, and is being killed, does not delay the next one', async () => {
  const f = fixture({ spareWorkers: 1, abortAfterSilenceMs: 5_000, killAfterAbortMs: 60_000 }, 1)
  await f.started
  await seconds(f, 2)
  const [first, spare] = f.host.workers as [FakeWorker, FakeWorker]
  await seconds(f, 3, worker => worker === first)
  await seconds(f, 3, () => false)
  // The spare has been silent for longer, and ends only when it must; then nothing is heard of the worker that serves, either.
  assert.equal(spare.signals[0], 'SIGABRT')
  assert.deepEqual([first.id, spare.id, f.fleet.slots[0]!.current!.id], ['7.0.0', '7.0.1', '7.0.2'])
  f.fleet.force()
})

test('fleet: when all hang and the spare that was coming has died, the next one does not wait for a tick as well', async () => {
  const f = fixture({}, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  f.host.onFork = () => {}
  await seconds(f, 3, worker => worker !== first)
  const [slot] = f.fleet.slots
  for (let death = 1; death <= 5; death++) {
    const spare = f.host.newest(0)
    assert.notEqual(spare, first)
    spare.exit({ signal: 'SIGKILL' })
    f.host.clock.advance(lastRestartDelayMs(slot!.spareDeaths, f.fleet.options.restart))
    await settle()
    assert.notEqual(f.host.newest(0), spare, `after ${death} deaths`)
  }
  f.fleet.force()
})

test('fleet: a spare that is kept takes over within the turn in which the worker dies, and the next one is started', async () => {
  const f = fixture({ spareWorkers: 1 }, 1)
  await f.started
  await seconds(f, 1)
  const spare = f.host.newest(0)
  assert.deepEqual(spare.orders, [{ tag: 'self-test' }], 'it is ready, was tested once and does not accept')
  assert.equal(f.fleet.slots[0]!.spare!.id, spare.id)
  f.host.workers[0]!.exit({ signal: 'SIGKILL' })
  await settle()
  assert.deepEqual(spare.orders, [{ tag: 'self-test' }, { tag: 'accept' }])
  assert.equal(f.fleet.slots[0]!.state, 'serving')
  f.host.clock.advance(999)
  await settle()
  assert.equal(f.host.workers.length, 2, 'the machine is left to the one that took over')
  await seconds(f, 1)
  assert.equal(f.fleet.slots[0]!.spare!.id, '7.0.2')
  assert.equal(f.host.workers.length, 3)
})

test('fleet: a spare that fails its self-test is told of once, kept, and used all the same', async () => {
  const f = fixture({ spareWorkers: 1 }, 1)
  f.host.onFork = worker => {
    worker.obey = order => Promise.resolve(order.tag === 'self-test' ? { passed: false, detail: 'GET / answered 500' } : null)
    f.autostart(worker)
  }
  await f.started
  await seconds(f, 3)
  const told = f.log.filter(line => line.includes('may not serve'))
  assert.deepEqual(told, [
    'warn: the spare worker of slot 0 may not serve as it should (worker 7.0.1 failed its self-test: GET / answered 500)',
  ])
  const spare = f.host.newest(0)
  assert.deepEqual([f.host.workers.length, spare.ordered('self-test').length], [2, 1])
  f.host.workers[0]!.exit({ signal: 'SIGKILL' })
  await settle()
  assert.equal(f.fleet.slots[0]!.current!.id, spare.id)
})

test('fleet: a spare that takes over while a generation goes back keeps the slot, when no other worker comes up', async () => {
  const f = fixture({ spareWorkers: 1 }, 1)
  await f.started
  // The spare is slow to start.
  f.host.onFork = worker => { worker.connect(f.fleet) }
  await seconds(f, 1)
  const [first, spare] = f.host.workers as [FakeWorker, FakeWorker]
  f.host.onFork = f.autostart
  await takesOver(f, { ...generation(1), number: 8 }, f.fleet.slots)
  // The worker that would take its place back is gone. Another one cannot be started, and by then the spare is ready.
  first.exit({ signal: 'SIGKILL' })
  f.host.newest(0).exit({ signal: 'SIGKILL' })
  f.host.onFork = worker => {
    spare.say(f.fleet, { tag: 'ready' })
    worker.exit({ problem: 'EAGAIN' })
  }
  await f.fleet.revert(f.fleet.generation)
  await settle()
  assert.deepEqual(spare.ordered('accept'), [{ tag: 'accept' }])
  assert.equal(f.fleet.slots[0]!.current?.id, spare.id)
  assert.deepEqual([...f.fleet.workers()].map(worker => worker.id), [spare.id])
})

test('fleet: a new worker that ends while the old one hangs is not waited for: the step has failed', async () => {
  const f = fixture({}, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  first.obey = order => order.tag === 'stop-accept' ? new Promise(() => {}) : Promise.resolve(null)
  const next: Generation = { ...generation(1), number: 8 }
  const [slot] = f.fleet.slots
  f.fleet.expect(next, f.fleet.options)
  await f.fleet.introduce(slot!, next)
  const takenOver = f.fleet.takeOver(slot!)
  await settle()
  assert.deepEqual(first.ordered('stop-accept').length, 1)
  f.host.newest(0).exit({ signal: 'SIGKILL' })
  await assert.rejects(takenOver, { name: 'Refused', message: 'slot 0: the new worker ended: ended by SIGKILL' })
})

test('fleet: the old worker is not told to stop by a step that has failed meanwhile', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  // Slot 1 stays without a worker of its own, and the first worker stands in.
  const asked = Promise.withResolvers<null>()
  f.host.onFork = worker => {
    if (worker.role.slot === 1) return
    worker.obey = order => order.tag === 'stand-in' ? asked.promise : Promise.resolve(null)
    f.autostart(worker)
  }
  second.exit({ signal: 'SIGKILL' })
  await settle()
  const next: Generation = { ...generation(2), number: 8 }
  const [slot] = f.fleet.slots
  f.fleet.expect(next, f.fleet.options)
  await f.fleet.introduce(slot!, next)
  const takenOver = assert.rejects(f.fleet.takeOver(slot!), { name: 'Refused' })
  await settle()
  const incoming = f.host.newest(0)
  assert.equal(incoming.ordered('stand-in').length, 1)
  // It ends before it has answered, and the old worker is to stay.
  incoming.exit({ code: 70 })
  asked.reject(new ChannelError('closed', 'gone'))
  await takenOver
  void f.fleet.revert(f.fleet.generation)
  await seconds(f, 2)
  assert.deepEqual(first.ordered('stop-accept'), [])
  assert.equal(f.fleet.slots[0]!.current?.id, first.id)
  f.fleet.force()
})

test('fleet: a worker that stood in and is not told to stop, because its step has failed, is sent back', async () => {
  const f = fixture({}, 4)
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  const comesUp = (worker: FakeWorker): boolean => worker.role.slot !== 3
  f.host.onFork = worker => { if (comesUp(worker)) f.autostart(worker) }
  for (const worker of f.host.workers.slice(2, 4)) worker.exit({ signal: 'SIGKILL' })
  await settle()
  assert.deepEqual(second.ordered('stand-in'), [{ tag: 'stand-in', slot: 3 }])
  await seconds(f, 1)
  // Before the second worker stops the first one is asked to do that instead, and is late.
  const asked = Promise.withResolvers<null>()
  first.obey = order => order.tag === 'stand-in' ? asked.promise : Promise.resolve(null)
  const takenOver = assert.rejects(takesOver(f, { ...generation(4), number: 8 }, [f.fleet.slots[1]!]), { name: 'Refused' })
  await settle()
  assert.deepEqual(first.ordered('stand-in').at(-1), { tag: 'stand-in', slot: 3 })
  f.host.newest(1).exit({ code: 70 })
  await takenOver
  void f.fleet.revert(f.fleet.generation)
  asked.resolve(null)
  await seconds(f, 1)
  assert.deepEqual([f.fleet.slots[3]!.standIn.worker?.id, second.ordered('stop-accept')], [first.id, []])
  assert.ok(second.ordered('step-back').some(order => order.tag === 'step-back' && order.slot === 3))
  f.fleet.force()
})

test('fleet: a worker goes on at a listener that any of those who accept in its place does not have', async () => {
  const f = fixture({}, 5, listeningOn([80, 81], generation(5)))
  await f.started
  const workers = [...f.host.workers]
  f.host.onFork = () => {}
  for (const worker of workers.slice(3)) worker.exit({ signal: 'SIGKILL' })
  await settle()
  assert.deepEqual(f.fleet.slots.map(slot => slot.standIn.worker?.slot), [undefined, undefined, undefined, 0, 1])
  const next = listeningOn([80], { ...generation(5), number: 8, workers: 1 })
  f.host.onFork = f.autostart
  await takesOver(f, next, f.fleet.slots.slice(0, 1))
  // For its own slot its heir is of its own generation; where it stands in it is the new worker.
  await f.fleet.vacate(f.fleet.slots[1]!)
  assert.deepEqual(f.fleet.slots.map(slot => slot.standIn.worker?.id), [undefined, '7.2.0', undefined, '8.0.1', '8.0.1'])
  assert.deepEqual(workers[1]!.ordered('stop-accept'), [{ tag: 'stop-accept', except: ['app/81'] }])
  f.fleet.force()
})

test('fleet: a worker that should take its place back is not waited for once nothing is heard of it', async () => {
  const f = fixture({ ackTimeoutMs: 60_000 }, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  const [slot] = f.fleet.slots
  await takesOver(f, { ...generation(1), number: 8 }, [slot!])
  first.obey = () => new Promise(() => {})
  f.host.newest(0).exit({ signal: 'SIGKILL' })
  const reverted = f.fleet.revert(f.fleet.generation)
  // It is silent after three seconds, long before its time for the order is over.
  await seconds(f, 4, worker => worker !== first)
  await reverted
  assert.notEqual(slot!.current, null)
  assert.notEqual(slot!.current!.id, first.id)
  assert.equal(slot!.state, 'serving')
})

test('fleet: a worker that should take its place back is not waited for once it has failed', async () => {
  const f = fixture({}, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  const [slot] = f.fleet.slots
  await takesOver(f, { ...generation(1), number: 8 }, [slot!])
  first.obey = () => new Promise(() => {})
  f.host.newest(0).exit({ signal: 'SIGKILL' })
  void f.fleet.revert(f.fleet.generation)
  await settle()
  first.say(f.fleet, { tag: 'failed', message: 'thrown', stack: '', endsInMs: 30_000 })
  // No time passes.
  await settle()
  await settle()
  assert.notEqual(slot!.current?.id, first.id)
  assert.equal(slot!.state, 'serving')
  f.fleet.force()
})

test('fleet: a roll-back that waits to try again goes on when the worker that served meanwhile has ended', async () => {
  const f = fixture({}, 1)
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  const [slot] = f.fleet.slots
  await takesOver(f, { ...generation(1), number: 8 }, [slot!])
  const serving = f.host.newest(0)
  first.exit({ signal: 'SIGKILL' })
  for (let death = 0; death < 10; death++) slot!.recordDeath({ acceptingSinceMs: null, diedAtMs: f.host.nowMs() })
  f.host.onFork = worker => { worker.exit({ problem: 'EAGAIN' }) }
  const reverted = f.fleet.revert(f.fleet.generation)
  await settle()
  await settle()
  f.host.onFork = f.autostart
  const before = f.host.workers.length
  serving.exit({ signal: 'SIGKILL' })
  await reverted
  // No time has passed: the wait would have been half a minute.
  assert.equal(f.host.workers.length, before + 1)
  assert.equal(slot!.state, 'serving')
})

test('fleet: when a generation that goes back leaves no worker, the next one is not kept waiting by earlier deaths', async () => {
  const f = fixture({}, 1)
  await f.started
  await takesOver(f, { ...generation(2), number: 8 }, f.fleet.slots)
  const [slot] = f.fleet.slots
  for (let death = 0; death < 10; death++) slot!.recordDeath({ acceptingSinceMs: null, diedAtMs: f.host.nowMs() })
  f.host.onFork = worker => { worker.exit({ problem: 'EAGAIN' }) }
  for (const worker of [slot!.previous!, slot!.current!]) f.host.kill(worker.pid, 'SIGKILL')
  // Slot 1 serves until it is taken back, and so did not let slot 0 hurry.
  await f.fleet.revert(f.fleet.generation)
  assert.equal(slot!.backingOff, true)
  assert.ok(slot!.restartAtMs - f.host.nowMs() <= 200, String(slot!.restartAtMs - f.host.nowMs()))
})

test('fleet: spares are replaced with their slot, and those that keep dying are not the slot\'s deaths', async () => {
  const f = fixture({ spareWorkers: 2 }, 2)
  await f.started
  await seconds(f, 1)
  assert.deepEqual(f.fleet.slots.map(slot => slot.spare?.id), ['7.0.1', '7.1.1'])
  await f.fleet.restart('0')
  await seconds(f, 1)
  assert.deepEqual(f.fleet.slots.map(slot => [slot.current?.id, slot.spare?.id]), [['7.0.2', '7.0.3'], ['7.1.0', '7.1.1']])
  f.host.onFork = worker => { worker.exit({ code: 1 }) }
  f.host.newest(1).exit({ code: 1 })
  await seconds(f, 20)
  assert.equal(f.fleet.slots[1]!.restarts, 0)
  assert.equal(f.fleet.slots[1]!.state, 'serving')
  const forks = f.host.workers.filter(worker => worker.role.slot === 1).length
  assert.ok(forks > 4 && forks < 12, `${forks} forks in 20 s`)
})

test('fleet: operations run one after the other, and unknown workers are refused', async () => {
  const f = fixture()
  await f.started
  const [one, two] = [f.fleet.restart('0'), f.fleet.restart('7.0.0')]
  assert.deepEqual((await one).replaced, [{ slot: 0, from: '7.0.0', to: '7.0.1' }])
  assert.deepEqual((await two).replaced, [{ slot: 0, from: '7.0.1', to: '7.0.2' }])
  assert.throws(() => f.fleet.restart('9'), Refused)
  assert.throws(() => f.fleet.restart('7.0.0'), Refused)
})

test('fleet: too many retired workers in a slot: the oldest has no time left but for a polite close', async () => {
  const f = fixture({ drain: { maxDrainingGenerations: 1 } })
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  for (const worker of f.host.workers) worker.drainsAtOnce = false
  await f.fleet.restart('0')
  await settle()
  f.host.newest(0).drainsAtOnce = false
  await f.fleet.restart('0')
  await settle()
  type DrainTimes = Readonly<Record<'hardDrainMs' | 'webSocketDrainMs' | 'endAfterMs', number>>
  const orders = first.ordered('drain').map(order => (order as { order: DrainTimes }).order)
  const waits = orders.map(({ hardDrainMs, webSocketDrainMs }) => [hardDrainMs > 0, webSocketDrainMs > 0])
  assert.deepEqual(waits, [[true, true], [false, false]])
  assert.ok(orders[1]!.endAfterMs > 0 && orders[1]!.endAfterMs < orders[0]!.endAfterMs)
})

test('fleet: a stop closes listeners first, then drains, and waits for everyone', async () => {
  const f = fixture()
  await f.started
  let closed = 0
  const events: string[] = []
  for (const worker of f.host.workers) worker.obey = order => { events.push(`${worker.id} ${order.tag}`); return Promise.resolve(null) }
  const stopped = f.fleet.stop({ capMs: 5_000, onListenersClosed: () => { closed++; events.push('closed') } })
  assert.deepEqual(await stopped, { cut: 0 })
  assert.equal(closed, 1)
  assert.deepEqual(events.slice(0, 2).sort(), ['7.0.0 close-listeners', '7.1.0 close-listeners'])
  const modes = f.host.workers.map(worker => (worker.ordered('drain')[0] as { order: { mode: string } }).order.mode)
  assert.deepEqual(modes.filter(mode => mode !== 'stop'), [])
  assert.equal(f.host.clock.pending, 0, 'no timer is left')
})

test('fleet: a stop kills what holds nothing yet, and what outlives its deadline', async () => {
  const f = fixture({ emptyQueueMs: 0 })
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  first.drainsAtOnce = false
  second.exit({ code: 1 })
  f.host.onFork = () => {}
  f.host.clock.advance(100)
  await settle()
  const starting = f.host.newest(1)
  const stopped = f.fleet.stop({ capMs: 500, onListenersClosed() {} })
  await settle()
  assert.deepEqual(starting.signals, ['SIGKILL'])
  f.host.clock.advance(2_500)
  await stopped
  assert.deepEqual(first.signals, ['SIGKILL'])
  assert.throws(() => f.fleet.restart(''), Refused)
})

test('fleet: totals do not go backwards when a worker dies', async () => {
  const f = fixture()
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  first.heartbeat(f.fleet, 10)
  second.heartbeat(f.fleet, 5)
  assert.equal(f.fleet.totals().exchanges, 15)
  first.exit({ code: 70 })
  assert.equal(f.fleet.totals().exchanges, 15)
  assert.equal(f.fleet.totals().connections, 1)
})

test('fleet: a worker that was paused, and drains as an orphan when the next supervisor comes, gets an order and a guard', async () => {
  const host = new FakeProcessHost()
  const setup: FleetSetup = {
    host, options: resolveSupervisorOptions({ workers: 1 }), log: SILENT_LOG, generation: generation(1),
    descriptors: () => [21], controlPath: '/w.sock', ledger: ledger(), onChange() {}, onIncident() {},
  }
  const known: WorkerRecord & { place: 'draining' } = {
    generation: 7, slot: 0, n: 0, token: 'secret', pid: 999, startTime: '999', phase: 'paused', intent: 'serve', place: 'draining',
    startedAt: 0, acceptingSince: 0, drainingSince: null, drainEndsAt: null, exchanges: 0, ownFaults: 0, slotsHeld: 1,
  }
  const slot: SlotRecord = { hasQueue: true, surplus: false, restarts: 0, nextN: 1, standIn: '', workers: [known] }
  const record: FleetRecord = { committed: 7, generations: [setup.generation], slots: [slot], buried: NOTHING_DONE }
  const fleet = Fleet.restore(setup, record, 0)
  const orders: string[] = []
  const link: WorkerLink = { ask: order => { orders.push(order.tag); return Promise.resolve(null) }, send() {}, close() {} }
  const worker = fleet.hello({ tag: 'hello', protocol: 1, worker: '7.0.0', token: 'secret', pid: 999, phase: 'draining' }, link)
  fleet.settle(false)
  await settle()
  assert.deepEqual(orders, ['drain'])
  assert.ok(worker!.drainEndsAtMs !== null)
  // Its own deadline passes, and so does the guard's patience.
  host.clock.advance(worker!.drainEndsAtMs + 2_000)
  assert.equal(worker!.fatalSignal, 'SIGKILL')
  fleet.force()
})

interface Left { readonly fleet: Fleet; readonly host: FakeProcessHost; readonly orders: Map<string, string[]>; tick(): Promise<void> }

/** The fleet of a killed supervisor with one slot and one listener, whose socket no worker gave back. Not settled yet. */
function leftWithoutSocket(workers: readonly Pick<SlotRecord['workers'][number], 'n' | 'phase' | 'place'>[]): Left {
  const host = new FakeProcessHost()
  const committed = listeningOn([80], generation(1))
  const setup: FleetSetup = {
    host, options: resolveSupervisorOptions({ workers: 1 }), log: SILENT_LOG, generation: committed,
    descriptors: () => [21], controlPath: '/w.sock', ledger: ledger(), onChange() {}, onIncident() {},
  }
  const slot: SlotRecord = {
    hasQueue: true, surplus: false, restarts: 0, nextN: workers.length, standIn: '', workers: workers.map(worker => ({
      ...worker, generation: 7, slot: 0, token: `secret-${worker.n}`, pid: 900 + worker.n, startTime: '9', intent: 'serve',
      startedAt: 0, acceptingSince: 0, drainingSince: 0, drainEndsAt: 30_000, exchanges: 0, ownFaults: 0, slotsHeld: 1,
    })),
  }
  const fleet = Fleet.restore(setup, { committed: 7, generations: [committed], slots: [slot], buried: NOTHING_DONE }, 0)
  host.onFork = worker => {
    worker.connect(fleet)
    worker.say(fleet, { tag: 'ready' })
  }
  const orders = new Map<string, string[]>()
  const tick = async (): Promise<void> => {
    for (const worker of fleet.workers()) {
      const heartbeat = { tag: 'heartbeat', seq: 0, loopLagMs: 0, utilization: 0, rssBytes: 1, open: NO_COUNTS } as const
      if (worker.contact === Contact.Connected) fleet.onMessage(worker, heartbeat)
    }
    host.clock.advance(fleet.options.heartbeatMs)
    await settle()
  }
  return { fleet, host, orders, tick }
}

/** A worker of it says hello and obeys from now on. */
function comesBack({ fleet, orders }: Left, n: number, phase: WorkerPhase): WorkerProcess {
  const told: string[] = []
  orders.set(`7.0.${n}`, told)
  const link: WorkerLink = {
    ask: order => { told.push(order.tag); return Promise.resolve(null) },
    send: order => { told.push(order.tag) },
    close() {},
  }
  return fleet.hello({ tag: 'hello', protocol: 1, worker: `7.0.${n}`, token: `secret-${n}`, pid: 900 + n, phase }, link)!
}

test('fleet: a worker that drains and has not come back is waited for before the last holder of a lost socket lets go', async () => {
  // Worker 0 was told to drain when the supervisor ended, and stands still: whether the order reached it is not known.
  const left = leftWithoutSocket([{ n: 1, phase: 'accepting', place: 'current' }, { n: 0, phase: 'draining', place: 'draining' }])
  left.fleet.lost('127.0.0.1:80', 0)
  left.fleet.settle(false)
  comesBack(left, 1, 'accepting')
  for (let count = 0; count < 3; count++) await left.tick()
  assert.deepEqual(left.orders.get('7.0.1'), [])
  comesBack(left, 0, 'draining')
  await left.tick()
  assert.deepEqual(left.orders.get('7.0.1'), ['accept', 'close-listeners', 'drain'])
  left.fleet.force()
})

test('fleet: a holder of a lost socket that was retired while it stood still empties its queue before it drains', async () => {
  // Its replacement was ready when the supervisor ended, accepts before the fleet is settled, and then fails.
  const left = leftWithoutSocket([{ n: 0, phase: 'accepting', place: 'current' }, { n: 1, phase: 'starting', place: 'incoming' }])
  const replacement = comesBack(left, 1, 'starting')
  left.fleet.onMessage(replacement, { tag: 'ready' })
  await settle()
  left.fleet.onMessage(replacement, { tag: 'failed', message: 'thrown', stack: '', endsInMs: 5_000 })
  left.fleet.lost('127.0.0.1:80', 0)
  left.fleet.settle(false)
  for (let count = 0; count < 3; count++) await left.tick()
  comesBack(left, 0, 'accepting')
  for (let count = 0; count < 3; count++) await left.tick()
  assert.deepEqual(left.orders.get('7.0.0'), ['accept', 'close-listeners', 'drain'])
  left.fleet.force()
})

test('fleet: all holders of lost sockets accept before they let go, since sockets may have been lost more than once', async () => {
  const left = leftWithoutSocket([{ n: 0, phase: 'accepting', place: 'current' }, { n: 1, phase: 'accepting', place: 'previous' }])
  left.fleet.lost('127.0.0.1:80', 0)
  left.fleet.settle(false)
  for (const n of [0, 1]) comesBack(left, n, 'accepting')
  for (let count = 0; count < 3; count++) await left.tick()
  assert.deepEqual([...left.orders.values()], [0, 1].map(() => ['accept', 'close-listeners', 'drain']))
  left.fleet.force()
})

test('fleet: a replacement that was told to accept before its supervisor knew what it has takes its place', async () => {
  const left = leftWithoutSocket([{ n: 0, phase: 'accepting', place: 'current' }, { n: 1, phase: 'starting', place: 'incoming' }])
  comesBack(left, 0, 'accepting')
  const replacement = comesBack(left, 1, 'starting')
  left.fleet.onMessage(replacement, { tag: 'ready' })
  assert.deepEqual(left.orders.get('7.0.1'), ['accept'])
  // Its answer is on its way: it may hold connections.
  left.fleet.settle(false)
  assert.equal(replacement.fatalSignal, null)
  await settle()
  assert.equal(left.fleet.slots[0]!.current, replacement)
  left.fleet.force()
})

test('fleet: an order to accept that a supervisor before gave, and that is done after a hello, is learnt from the next hello', async () => {
  const left = leftWithoutSocket([{ n: 0, phase: 'accepting', place: 'current' }, { n: 1, phase: 'starting', place: 'incoming' }])
  comesBack(left, 0, 'accepting')
  const replacement = comesBack(left, 1, 'ready')
  comesBack(left, 1, 'accepting')
  left.fleet.settle(false)
  await settle()
  assert.equal(replacement.fatalSignal, null)
  assert.equal(left.fleet.slots[0]!.current, replacement)
  left.fleet.force()
})

test('fleet: the last holder of a lost socket empties its queue, although another of its listeners is shut already', async () => {
  const host = new FakeProcessHost()
  // Generation 8 was on trial and went back: the socket of its second listener is shut.
  const [committed, reverted] = [listeningOn([80], generation(1)), listeningOn([80, 90], { ...generation(1), number: 8 })]
  const setup: FleetSetup = {
    host, options: resolveSupervisorOptions({ workers: 1 }), log: SILENT_LOG, generation: committed,
    descriptors: () => [21], controlPath: '/w.sock', ledger: ledger(), onChange() {}, onIncident() {},
  }
  const known: SlotRecord['workers'][number] = {
    generation: 8, slot: 0, n: 0, token: 'secret', pid: 999, startTime: '999', phase: 'paused', intent: 'serve', place: 'current',
    startedAt: 0, acceptingSince: 0, drainingSince: null, drainEndsAt: null, exchanges: 0, ownFaults: 0, slotsHeld: 1,
  }
  const slot: SlotRecord = { hasQueue: true, surplus: false, restarts: 0, nextN: 1, standIn: '', workers: [known] }
  const buried = NOTHING_DONE
  const fleet = Fleet.restore(setup, { committed: 7, generations: [committed, reverted], slots: [slot], buried }, 0)
  const orders: ToWorker[] = []
  const link: WorkerLink = { ask: order => { orders.push(order); return Promise.resolve(null) }, send() {}, close() {} }
  const holder = fleet.hello({ tag: 'hello', protocol: 1, worker: '8.0.0', token: 'secret', pid: 999, phase: 'paused' }, link)!
  fleet.lost('127.0.0.1:80', 0)
  host.onFork = worker => {
    worker.connect(fleet)
    worker.say(fleet, { tag: 'ready' })
  }
  fleet.settle(false)
  for (let tick = 0; tick < 3; tick++) {
    fleet.onMessage(holder, { tag: 'heartbeat', seq: tick, loopLagMs: 0, utilization: 0, rssBytes: 1, open: NO_COUNTS })
    for (const worker of host.living) worker.heartbeat(fleet)
    host.clock.advance(1_000)
    await settle()
  }
  assert.deepEqual(orders.map(order => order.tag), ['accept', 'close-listeners', 'drain'])
  assert.deepEqual(orders[0], { tag: 'accept', except: ['app/90'] })
  fleet.force()
})

/** What was told: `uncaught TypeError crash loop, 1.0.0`. */
function told({ incidents }: Fixture): string[] {
  return incidents.map(({ kind, name, place, tags }) => `${kind} ${name} ${place}, ${tags['worker']}`)
}

test('fleet: the death of a worker is one incident that says how it ended, and the third in a row is a crash loop', async () => {
  const f = fixture({}, 1)
  await f.started
  const ends: readonly Partial<ExitReport>[] = [
    { signal: 'SIGABRT' }, { signal: 'SIGKILL', outOfMemory: true }, { signal: 'SIGSEGV' }, { problem: 'EAGAIN' },
  ]
  for (const end of ends) {
    f.host.newest(0).exit(end)
    f.host.clock.advance(0)
    await settle()
    f.host.clock.advance(200)
    await settle()
  }
  assert.deepEqual(told(f), [
    'worker WorkerDied out of memory, 7.0.0', 'worker WorkerDied out of memory, 7.0.1', 'worker WorkerDied crash loop, 7.0.2',
    'worker WorkerDied crash loop, 7.0.3',
  ])
  assert.deepEqual(f.incidents.map(({ tags }) => tags['exit']), ['out of memory', 'out of memory', 'SIGSEGV', 'not started'])
  assert.match(f.incidents[1]!.message, /^worker 7\.0\.1 died: ended by SIGKILL$/)
  assert.ok(f.incidents.every(({ fatal, release }) => fatal && release === '/r'))
})

test('fleet: a worker that says why it ends is one incident, when it says so, and none when it has ended', async () => {
  const f = fixture({}, 2)
  await f.started
  const [first, second] = f.host.workers as [FakeWorker, FakeWorker]
  const stack = 'TypeError: broken\n    at f (/a.ts:1:1)'
  first.say(f.fleet, { tag: 'failed', message: 'broken', stack, name: 'TypeError', endsInMs: 5_000 })
  assert.deepEqual(told(f), ['uncaught TypeError , 7.0.0'])
  assert.equal(f.incidents[0]!.stack, '    at f (/a.ts:1:1)')
  await settle()
  assert.equal(f.fleet.record(0).slots[0]!.workers.find(({ n }) => n === 0)!.reported, true, 'the next image knows')
  first.exit({ code: 70 })
  second.say(f.fleet, { tag: 'failed', message: 'forgotten', stack: '', name: 'Error', rejected: true })
  assert.equal(f.incidents.length, 1, 'it has not ended yet')
  second.exit({ code: 70 })
  await settle()
  assert.deepEqual(told(f).slice(1), ['rejection Error , 7.1.0'])
  // Of an older build.
  f.host.clock.advance(200)
  await settle()
  f.host.newest(1).say(f.fleet, { tag: 'failed', message: 'old', stack: '' })
  f.host.newest(1).exit({ code: 70 })
  assert.deepEqual(told(f).slice(2), ['uncaught Error , 7.1.1'])
})

test('fleet: an image that takes over a worker whose end was told does not tell it again', async () => {
  const f = fixture({}, 1)
  await f.started
  f.host.newest(0).say(f.fleet, { tag: 'failed', message: 'broken', stack: '', endsInMs: 5_000 })
  f.host.clock.advance(0)
  await settle()
  const record = JSON.parse(JSON.stringify(f.fleet.record(0))) as FleetRecord
  const host = new FakeProcessHost(), ends: ((report: ExitReport) => void)[] = [], incidents: Incident[] = []
  host.onAdopt = (_pid, onExit) => { ends.push(onExit) }
  const fleet = Fleet.restore({
    host, options: f.fleet.options, log: SILENT_LOG, generation: generation(1), descriptors: () => [21], controlPath: '/w.sock',
    ledger: ledger(), onChange() {}, onIncident: incident => { incidents.push(incident) },
  }, record, 0)
  fleet.settle(false)
  const slot = record.slots[0]!.workers.map(({ n }) => n)
  assert.deepEqual(slot, [1, 0])
  ends[1]!({ code: 70, signal: null, problem: '' })
  assert.deepEqual(incidents, [])
  // A stranger's end is known, and not how it was.
  ends[0]!({ code: null, signal: null, problem: '' })
  assert.deepEqual(incidents.map(({ place, message }) => [place, message]), [['unknown', 'worker 7.0.1 died: ended, how is not known']])
  fleet.force()
})

test('fleet: a worker that is killed for its silence, or for not obeying, is an incident of that name', async () => {
  const f = fixture()
  await f.started
  const [first] = f.host.workers as [FakeWorker]
  await seconds(f, 13, worker => worker !== first)
  assert.deepEqual(told(f), ['worker WorkerDied silence, 7.0.0'])
  const g = fixture()
  g.host.onFork = worker => {
    worker.obey = () => Promise.reject(new ChannelError('refused', 'no'))
    g.autostart(worker)
  }
  await settle()
  assert.match(told(g)[0]!, /^worker WorkerDied disobedience, 7\.\d\.0$/)
  g.fleet.force()
})

test('fleet: what an operator wants is no incident: restarts, retired workers, a stop, a stop by force', async () => {
  const f = fixture()
  await f.started
  await f.fleet.restart('')
  await settle()
  await f.fleet.stop({ capMs: 1_000, onListenersClosed() {} })
  assert.deepEqual([f.host.living, told(f)], [[], []])
  const g = fixture()
  await g.started
  g.fleet.force()
  await settle()
  assert.deepEqual(told(g), [])
})

test('fleet: a retired worker that crashes while it drains is an incident, one that outlives its deadline is none', async () => {
  const f = fixture({ drain: { closeSpreadMs: 0, hardDrainMs: 1_000, webSocketDrainMs: 1_000, tunnelDrainMs: 1_000 } }, 1)
  f.host.onFork = worker => {
    worker.drainsAtOnce = false
    f.autostart(worker)
  }
  await f.started
  await f.fleet.restart('0')
  f.host.workers[0]!.exit({ signal: 'SIGSEGV' })
  assert.deepEqual(told(f), ['worker WorkerDied SIGSEGV, 7.0.0'])
  await f.fleet.restart('0')
  await seconds(f, 60)
  assert.deepEqual(f.host.workers[1]!.signals, ['SIGKILL'])
  assert.equal(f.incidents.length, 1)
})

test('fleet: a worker of a generation on trial is told by its operation until it has accepted', async () => {
  const f = fixture({}, 1)
  await f.started
  const next: Generation = { ...generation(1), number: 8 }
  const [slot] = f.fleet.slots
  f.fleet.expect(next, f.fleet.options)
  f.host.onFork = worker => { worker.exit({ code: 1 }) }
  await assert.rejects(f.fleet.introduce(slot!, next))
  assert.deepEqual(told(f), [])
  f.host.onFork = f.autostart
  await f.fleet.introduce(slot!, next)
  await f.fleet.takeOver(slot!)
  f.host.newest(0).exit({ signal: 'SIGSEGV' })
  await settle()
  assert.deepEqual(told(f), ['worker WorkerDied SIGSEGV, 8.0.2'])
})

test('fleet: what a worker tells of a fault becomes an incident with all that is known, and what is no report is ignored', async () => {
  const f = fixture({}, 1)
  await f.started
  const [worker] = f.host.workers as [FakeWorker]
  const fault: FaultReport = {
    kind: 'hook', name: 'TypeError', message: 'no tenant', stack: '    at f (/a.ts:1:1)', where: 'requestFilter of module auth', count: 3,
    listener: 'web/:80', peer: '10.0.0.1:80', requestId: 'r1', traceId: 'a'.repeat(32), spanId: 'b'.repeat(16),
  }
  worker.say(f.fleet, { tag: 'fault', fault })
  worker.say(f.fleet, { tag: 'fault', fault: { kind: 'x' } as unknown as FaultReport })
  assert.deepEqual(f.incidents, [{
    kind: 'hook', name: 'TypeError', message: 'no tenant', stack: fault.stack, place: fault.where, fatal: false, count: 3, again: false,
    traceId: fault.traceId, spanId: fault.spanId, release: '/r',
    tags: {
      worker: '7.0.0', generation: '7', slot: '0', hook: fault.where, phase: 'requestFilter', listener: 'web/:80', peer: '10.0.0.1:80',
      requestId: 'r1',
    },
  }])
})
