/** A worker's way to its supervisor in time that moves by hand: how it looks, what it says, and when it gives up. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { ChannelEnd } from '../../src/ipc/channel.ts'
import type { FromWorker, Welcome } from '../../src/ipc/messages.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import type { WorkerPhase } from '../../src/ipc/worker-phase.ts'
import type { WorkerRole } from '../../src/ipc/worker-role.ts'
import { ControlClient, ControlState, reconnectDelayMs } from '../../workers/control-client.ts'
import type { DialHandlers, WorkerWorld } from '../../workers/worker-world.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { settle } from '../support/fake-process-host.ts'

const ROLE: WorkerRole = {
  role: 'worker', worker: '1.0.0', slot: 0, application: '/a.ts', controlPath: '/w', token: 't', maxControlMessageBytes: 1024,
  layout: { slots: 1, copies: 1, listeners: [] },
}
const KEEP: Welcome = {
  protocol: 1, heartbeatMs: 1_000, orphanPolicy: 'keep', orphanDrainAfterMs: 3_000, maxControlMessageBytes: 1024,
  orphanDrain: { ...drainOrder('stop', DRAIN_DEFAULTS, 0), softDrainMs: 0, endAfterMs: 0 },
}
const DRAIN_AFTER: Welcome = { ...KEEP, orphanPolicy: 'drain-after' }

/** One dial, as the other side sees it. */
class Line implements ChannelEnd<FromWorker> {
  readonly handlers: DialHandlers
  readonly atMs: number
  readonly sent: FromWorker[] = []
  open = true
  #settle: { resolve(result: unknown): void; reject(error: ChannelError): void } | null = null

  constructor(handlers: DialHandlers, atMs: number) {
    this.handlers = handlers
    this.atMs = atMs
  }

  send(message: FromWorker): boolean { this.sent.push(message); return this.open }

  ask(message: FromWorker): Promise<unknown> {
    this.sent.push(message)
    return new Promise((resolve, reject) => { this.#settle = { resolve, reject } })
  }

  close(): void { this.destroy('') }

  destroy(reason: string): void {
    if (!this.open) return
    this.open = false
    this.#settle?.reject(new ChannelError('closed', reason))
    this.handlers.onClose(reason)
  }

  get hello(): Extract<FromWorker, { tag: 'hello' }> { return this.sent[0] as Extract<FromWorker, { tag: 'hello' }> }
  welcome(welcome: Welcome): Promise<void> { this.#settle!.resolve(welcome); return settle() }
  refuse(code: 'refused' | 'timeout'): Promise<void> { this.#settle!.reject(new ChannelError(code, 'no')); return settle() }
}

class Fixture {
  readonly clock = new FakeClock()
  readonly lines: Line[] = []
  readonly orphaned: string[] = []
  readonly welcomes: Welcome[] = []
  phase: WorkerPhase = 'starting'
  /** Whether a supervisor is there. */
  reachable = true
  readonly client: ControlClient

  constructor() {
    // Of the world only what is needed.
    const world: Pick<WorkerWorld, 'pid' | 'clock' | 'dial'> = {
      pid: 7, clock: this.clock,
      dial: (_path, _options, handlers) => {
        const line = new Line(handlers, this.clock.now())
        this.lines.push(line)
        queueMicrotask(() => { if (this.reachable) handlers.onOpen(); else line.destroy('ECONNREFUSED') })
        return line
      },
    }
    this.client = new ControlClient(ROLE, SILENT_LOG, () => this.phase, {
      onWelcome: welcome => { this.welcomes.push(welcome) },
      onOrder: () => {},
      onOrphaned: reason => { this.orphaned.push(reason) },
    }, world as WorkerWorld)
  }

  get line(): Line { return this.lines.at(-1)! }

  /** Time goes on in small steps, with everything that follows from it. */
  async pass(ms: number): Promise<void> {
    for (const untilMs = this.clock.now() + ms; this.clock.now() < untilMs;) {
      this.clock.advance(Math.min(10, untilMs - this.clock.now()))
      await settle()
    }
  }

  async connected(welcome: Welcome): Promise<this> {
    void this.client.start()
    await settle()
    await this.line.welcome(welcome)
    return this
  }

  /** The supervisor ends, and no other comes. */
  lose(): void {
    this.reachable = false
    this.line.destroy('')
  }
}

test('control client: it looks for a lost supervisor at once, often, and then seldom', async () => {
  assert.deepEqual([0, 1, 1_999, 2_000, 9_999, 10_000, 3_600_000].map(reconnectDelayMs), [20, 50, 50, 100, 100, 1_000, 1_000])
  const worker = await new Fixture().connected(KEEP)
  const lostAtMs = worker.clock.now()
  worker.lose()
  await worker.pass(200)
  assert.deepEqual(worker.lines.slice(1).map(line => line.atMs - lostAtMs), [20, 70, 120, 170])
})

test('control client: a supervisor that comes back hears who it is and where it stands now', async () => {
  const worker = await new Fixture().connected(KEEP)
  assert.deepEqual(worker.line.hello, { tag: 'hello', protocol: 1, worker: '1.0.0', token: 't', pid: 7, phase: 'starting' })
  worker.phase = 'accepting'
  worker.lose()
  worker.client.send({ tag: 'ready' })
  await worker.pass(500)
  assert.equal(worker.client.state, ControlState.Orphaned)
  worker.reachable = true
  await worker.pass(50)
  // What was to be said meanwhile is not said late.
  assert.deepEqual(worker.line.sent.map(message => message.tag), ['hello'])
  assert.equal(worker.line.hello.phase, 'accepting')
  await worker.line.welcome(DRAIN_AFTER)
  assert.equal(worker.client.state, ControlState.Connected)
  assert.deepEqual(worker.welcomes, [KEEP, DRAIN_AFTER])
  worker.client.send({ tag: 'ready' })
  assert.equal(worker.line.sent.length, 2)
})

test('control client: with keep an orphan waits for ever', async () => {
  const worker = await new Fixture().connected(KEEP)
  worker.lose()
  await worker.pass(60_000)
  assert.deepEqual(worker.orphaned, [])
})

test('control client: with drain-after an orphan gives up when its time is over, once, and looks on', async () => {
  const worker = await new Fixture().connected(DRAIN_AFTER)
  worker.lose()
  await worker.pass(2_990)
  assert.deepEqual(worker.orphaned, [])
  await worker.pass(150)
  assert.deepEqual(worker.orphaned, ['no supervisor came back within 3000 ms'])
  const before = worker.lines.length
  await worker.pass(5_000)
  assert.equal(worker.orphaned.length, 1)
  assert.ok(worker.lines.length > before)
})

test('control client: an orphan\'s time starts anew with every loss', async () => {
  const worker = await new Fixture().connected(DRAIN_AFTER)
  for (let loss = 0; loss < 3; loss++) {
    worker.lose()
    await worker.pass(2_500)
    worker.reachable = true
    await worker.pass(150)
    await worker.line.welcome(DRAIN_AFTER)
  }
  assert.deepEqual(worker.orphaned, [])
})

test('control client: a process that slept through its time looks once more before it gives up', async () => {
  const awoken = await new Fixture().connected(DRAIN_AFTER)
  awoken.lose()
  await settle()
  // A dial was under way when the machine fell asleep, and fails when it wakes up: that says nothing about now.
  awoken.reachable = true
  awoken.clock.advance(20)
  const underWay = awoken.line
  awoken.clock.advance(3_600_000)
  underWay.destroy('ETIMEDOUT')
  assert.deepEqual(awoken.orphaned, [])
  await awoken.pass(1_000)
  await awoken.line.welcome(DRAIN_AFTER)
  assert.deepEqual(awoken.orphaned, [])
  assert.equal(awoken.client.state, ControlState.Connected)
})

test('control client: a refusal is final, a hello that is not answered is not', async () => {
  const refused = new Fixture()
  void refused.client.start()
  await settle()
  await refused.line.refuse('refused')
  assert.deepEqual(refused.orphaned, ['the supervisor refused this worker: no'])

  const unanswered = new Fixture()
  void unanswered.client.start()
  await settle()
  const late = unanswered.line
  await late.refuse('timeout')
  assert.equal(late.open, false)
  await unanswered.pass(50)
  await unanswered.line.welcome(KEEP)
  assert.deepEqual([unanswered.welcomes, unanswered.orphaned], [[KEEP], []])
  // What is still heard of the connection before means nothing any more.
  late.handlers.onClose('')
  await unanswered.pass(100)
  assert.equal(unanswered.client.state, ControlState.Connected)
  assert.equal(unanswered.lines.length, 2)
})

test('control client: a worker that never reached a supervisor gives up after 5 s, and says why', async () => {
  const worker = new Fixture()
  worker.reachable = false
  void worker.client.start()
  await worker.pass(4_990)
  assert.deepEqual(worker.orphaned, [])
  await worker.pass(150)
  assert.deepEqual(worker.orphaned, ['the supervisor could not be reached: ECONNREFUSED'])
})

test('control client: an order of a supervisor that is gone, done under the next one, is told to the next one', async () => {
  const worker = await new Fixture().connected(KEEP)
  worker.phase = 'accepting'
  // Done while the supervisor that ordered it is still there: its answer says so.
  worker.line.handlers.onMessage({ tag: 'stop-accept' }, null)
  worker.phase = 'paused'
  worker.client.phaseChanged()
  assert.equal(worker.lines.length, 1)

  worker.line.handlers.onMessage({ tag: 'accept' }, null)
  worker.line.destroy('')
  await worker.pass(20)
  await worker.line.welcome(KEEP)
  assert.equal(worker.line.hello.phase, 'paused')
  worker.phase = 'accepting'
  worker.client.phaseChanged()
  await worker.pass(20)
  assert.equal(worker.line.hello.phase, 'accepting')
  assert.equal(worker.lines.length, 3)
})

test('control client: an order that is done while a hello waits to be heard makes another hello at once', async () => {
  const worker = await new Fixture().connected(KEEP)
  worker.phase = 'accepting'
  worker.line.handlers.onMessage({ tag: 'stop-accept' }, null)
  worker.line.destroy('')
  await worker.pass(20)
  const waiting = worker.line
  assert.equal(waiting.hello.phase, 'accepting')
  worker.phase = 'paused'
  worker.client.phaseChanged()
  assert.equal(waiting.open, false)
  await worker.pass(100)
  assert.equal(worker.line.hello.phase, 'paused')
})

test('control client: a drain that begins while a hello is under way makes another hello; ready is a message of its own', async () => {
  const draining = new Fixture()
  void draining.client.start()
  await settle()
  draining.phase = 'draining'
  await draining.line.welcome(KEEP)
  await draining.pass(20)
  assert.deepEqual(draining.lines.map(line => line.hello.phase), ['starting', 'draining'])

  const ready = new Fixture()
  void ready.client.start()
  await settle()
  ready.phase = 'ready'
  await ready.line.welcome(KEEP)
  await ready.pass(50)
  assert.equal(ready.lines.length, 1)
})

test('control client: closed, it neither looks nor speaks', async () => {
  const worker = await new Fixture().connected(DRAIN_AFTER)
  worker.client.close()
  await worker.pass(10_000)
  worker.client.send({ tag: 'ready' })
  assert.deepEqual([worker.lines.length, worker.line.sent.length, worker.orphaned.length], [1, 1, 0])
})
