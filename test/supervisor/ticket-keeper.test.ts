import assert from 'node:assert/strict'
import test from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { TLS_DEFAULTS, type ResolvedTlsOptions } from '../../src/config/tls-options.ts'
import { ChannelError } from '../../src/ipc/channel.ts'
import type { ToWorker } from '../../src/ipc/messages.ts'
import type { Generation } from '../../supervisor/generation.ts'
import { TicketKeeper, type TicketFleet } from '../../supervisor/ticket-keeper.ts'
import { Intent, WorkerProcess, WorkerState, type WorkerLink } from '../../supervisor/worker-process.ts'
import { FakeProcessHost } from '../support/fake-process-host.ts'

const keyOf = (number: number): string => Buffer.alloc(48, number).toString('base64')

/** A worker that has said hello, and what it was told since. */
class FakeWorker implements WorkerLink {
  readonly process: WorkerProcess
  keys: readonly string[] = []
  /** Answers wait; null: they come at once. */
  held: (() => void)[] | null = null
  refusal: ChannelError | null = null

  constructor(slot: number) {
    this.process = new WorkerProcess({ generation: 1, slot, n: 0, token: 't', startedAtMs: 0, intent: Intent.Serve })
    this.process.state = WorkerState.Accepting
  }

  async ask(order: ToWorker): Promise<unknown> {
    assert.equal(order.tag, 'ticket-keys')
    if (this.held !== null) await new Promise<void>(resolve => { this.held!.push(resolve) })
    if (this.refusal !== null) throw this.refusal
    this.keys = (order as Extract<ToWorker, { tag: 'ticket-keys' }>).keys
    return null
  }

  answer(): void {
    const held = this.held ?? []
    this.held = null
    for (const resolve of held) resolve()
  }

  send(): void { assert.fail('nobody knows whether it was heard') }
  close(): void {}
}

class Bench {
  readonly host = new FakeProcessHost()
  readonly lines: string[] = []
  readonly workers: FakeWorker[]
  tls: ResolvedTlsOptions = { ...TLS_DEFAULTS }
  speaksTls = true
  ticketLifetimeMs = 60_000
  said: Generation['settings']['listeners'] = {}
  file: Buffer | null = null
  journals = 0
  diskIsFull = false
  readonly keeper: TicketKeeper
  readonly fleet: TicketFleet

  constructor(workers = 2) {
    this.workers = Array.from({ length: workers }, (_, slot) => new FakeWorker(slot))
    const log = (message: string, fields?: object): void => { this.lines.push(`${message} ${JSON.stringify(fields ?? {})}`) }
    const listeners = (): object[] => {
      const plain = { name: 'b' }, secure = { name: 'a', tls: { ticketLifetimeMs: this.ticketLifetimeMs } }
      return this.speaksTls ? [secure, plain] : [plain]
    }
    const generation = (): Generation => ({
      description: { listeners: listeners() }, settings: { tls: this.tls, listeners: this.said },
    }) as unknown as Generation
    const processes = this.workers.map(({ process }) => process)
    this.fleet = {
      * workers() { yield* processes }, generationOf: generation, get generation() { return generation() },
      options: resolveSupervisorOptions(),
    }
    this.keeper = this.#keeper(log)
  }

  #keeper(log: (message: string, fields?: object) => void): TicketKeeper {
    return new TicketKeeper({
      host: this.host, log: { info: log, warn: log, error: log }, wallMs: () => this.host.nowMs(), fleet: () => this.fleet,
      readFile: () => {
        if (this.file === null) throw new Error('ENOENT')
        return this.file
      },
      record: () => {
        this.journals++
        return !this.diskIsFull
      },
    })
  }

  /** Another supervisor in the place of this one. */
  successor(): TicketKeeper {
    const next = this.#keeper(() => {})
    next.restore(JSON.parse(JSON.stringify(this.keeper.record())) as ReturnType<TicketKeeper['record']>)
    return next
  }

  hello(worker: FakeWorker, keeper = this.keeper): void {
    worker.process.connect(worker)
    worker.keys = keeper.keysFor(worker.process, this.fleet, worker) ?? []
    keeper.reconcile()
  }

  async started(): Promise<this> {
    for (const worker of this.workers) this.hello(worker)
    this.keeper.begin()
    await settle()
    return this
  }

  async elapse(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1_000) {
      this.host.clock.advance(Math.min(left, 1_000))
      await settle()
    }
  }
}

async function settle(): Promise<void> { for (let round = 0; round < 10; round++) await turn() }

test('ticket keeper: no listener of TLS, no keys', async () => {
  const bench = new Bench()
  bench.speaksTls = false
  await bench.started()
  assert.deepEqual(bench.workers[0]!.keys, [])
  assert.equal(bench.keeper.status(), null)
  assert.equal(bench.keeper.record(), null)
})

test('ticket keeper: every worker is welcomed with the same key, which is in the journal', async () => {
  const bench = await new Bench(3).started()
  const { keys } = bench.workers[0]!
  assert.equal(keys.length, 1)
  assert.equal(Buffer.from(keys[0]!, 'base64').length, 48)
  for (const worker of bench.workers) assert.deepEqual(worker.keys, keys)
  assert.deepEqual(bench.keeper.record()!.keys, keys)
  assert.equal(bench.journals, 1)
  assert.notDeepEqual((await new Bench().started()).workers[0]!.keys, keys, 'it is random')
})

test('ticket keeper: a new key encrypts nowhere before it is everywhere', async () => {
  const bench = new Bench(2)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  await bench.started()
  const [quick, slow] = bench.workers as [FakeWorker, FakeWorker]
  const old = quick.keys[0]!
  slow.held = []
  await bench.elapse(61_000)
  assert.equal(quick.keys.length, 2)
  assert.equal(quick.keys[0], old)
  assert.deepEqual(slow.keys, [old], 'it has not answered')
  await bench.elapse(30_000)
  assert.equal(quick.keys[0], old, 'time alone changes nothing')
  slow.answer()
  await settle()
  const fresh = quick.keys[0]!
  assert.notEqual(fresh, old)
  for (const worker of bench.workers) assert.deepEqual(worker.keys, [fresh, old])
  // The next one comes before the first one fades: lifetime and a minute.
  await bench.elapse(61_000)
  assert.equal(quick.keys.length, 3)
  assert.equal(quick.keys[1], fresh)
  await bench.elapse(61_000)
  assert.ok(!quick.keys.includes(old))
})

test('ticket keeper: a worker that drains is not waited for, nor one that is gone, and one whose connection is lost is', async () => {
  const bench = new Bench(3)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  await bench.started()
  const [quick, other, lost] = bench.workers as [FakeWorker, FakeWorker, FakeWorker]
  const old = quick.keys[0]!
  other.held = []
  lost.process.disconnect(lost)
  await bench.elapse(61_000)
  other.process.state = WorkerState.Draining
  await bench.elapse(5_000)
  assert.equal(quick.keys[0], old)
  bench.hello(lost)
  await settle()
  assert.notEqual(quick.keys[0], old)
  assert.deepEqual(lost.keys, quick.keys)

  const newer = quick.keys[0]!
  lost.process.disconnect(lost)
  await bench.elapse(61_000)
  assert.equal(quick.keys[0], newer)
  lost.process.markGone({ code: 1, signal: null, problem: '' })
  await bench.elapse(1_000)
  assert.notEqual(quick.keys[0], newer)
})

test('ticket keeper: a worker that has not answered is asked again, and one of a build without keys is not', async () => {
  const bench = new Bench(2)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  await bench.started()
  const [good, bad] = bench.workers as [FakeWorker, FakeWorker]
  const old = good.keys[0]!
  bad.refusal = new ChannelError('timeout', 'late')
  await bench.elapse(63_000)
  assert.equal(good.keys[0], old)
  bad.refusal = new ChannelError('unknown', 'of an older build')
  await bench.elapse(2_000)
  assert.notEqual(good.keys[0], old)
})

test('ticket keeper: a supervisor that follows goes on with the same keys, also in the middle of a change', async () => {
  const bench = new Bench(2)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  await bench.started()
  const [quick, slow] = bench.workers as [FakeWorker, FakeWorker]
  const old = quick.keys[0]!
  slow.held = []
  await bench.elapse(61_000)
  const coming = quick.keys[1]!
  bench.keeper.end()
  slow.answer()
  const next = bench.successor()
  for (const worker of bench.workers) {
    bench.hello(worker, next)
    assert.deepEqual(worker.keys, [old, coming])
  }
  next.begin()
  await settle()
  await bench.elapse(1_000)
  for (const worker of bench.workers) assert.deepEqual(worker.keys, [coming, old])
})

test('ticket keeper: a journal that cannot be written puts a change off, and serving goes on', async () => {
  const bench = new Bench(1)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  bench.diskIsFull = true
  await bench.started()
  const [worker] = bench.workers as [FakeWorker]
  const old = worker.keys
  assert.equal(old.length, 1)
  await bench.elapse(65_000)
  assert.deepEqual(worker.keys, old)
  bench.diskIsFull = false
  await bench.elapse(1_000)
  assert.equal(worker.keys.length, 2)
  assert.notEqual(worker.keys[0], old[0])
})

test('ticket keeper: keys of a file are taken as they stand there, and a bad file leaves them as they are', async () => {
  const bench = new Bench(2)
  bench.tls = { ...TLS_DEFAULTS, ticketKeysFile: '/keys' }
  const write = (...keys: readonly number[]): void => { bench.file = Buffer.from(keys.map(keyOf).join('\n')) }
  write(1, 2)
  await bench.started()
  const [worker] = bench.workers as [FakeWorker]
  assert.deepEqual(worker.keys, [keyOf(1), keyOf(2)])
  bench.file = Buffer.from('nonsense')
  await bench.elapse(30_000)
  assert.deepEqual(worker.keys, [keyOf(1), keyOf(2)])
  assert.match(bench.keeper.status()!.problem, /line 1/)
  assert.equal(bench.lines.filter(line => line.includes('cannot be used')).length, 1, 'said once')
  write(2, 3)
  await bench.elapse(11_000)
  assert.deepEqual(worker.keys, [keyOf(2), keyOf(3), keyOf(1)])
  assert.equal(bench.keeper.status()!.problem, '')
  assert.equal(bench.keeper.status()!.encrypts, '02020202')
  write(3, 2)
  bench.keeper.reread()
  await settle()
  assert.deepEqual(worker.keys, [keyOf(3), keyOf(2), keyOf(1)], 'an operator does not wait')
})

test('ticket keeper: without a good file keys are made until there is one', async () => {
  const bench = new Bench(1)
  bench.tls = { ...TLS_DEFAULTS, ticketKeysFile: '/keys' }
  await bench.started()
  const [worker] = bench.workers as [FakeWorker]
  const made = worker.keys[0]!
  assert.match(bench.lines[0]!, /keys are made here until it is mended.*ENOENT/)
  bench.file = Buffer.from(keyOf(5))
  await bench.elapse(11_000)
  assert.deepEqual(worker.keys, [keyOf(5), made])
})

test('ticket keeper: where tickets live long keys change less often, so that there are not too many', async () => {
  const bench = new Bench(1)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  bench.ticketLifetimeMs = 48 * 60_000
  await bench.started()
  const [worker] = bench.workers as [FakeWorker]
  await bench.elapse(119_000)
  assert.equal(worker.keys.length, 1)
  await bench.elapse(2_000)
  assert.equal(worker.keys.length, 2)
  await bench.elapse(2 * 48 * 60_000)
  assert.ok(worker.keys.length > 20 && worker.keys.length <= 26, `${worker.keys.length} keys`)
  // The operator has the last word.
  bench.said = { '*': { tls: { ticketLifetimeMs: 60_000 } } }
  await bench.elapse(3 * 48 * 60_000)
  assert.ok(worker.keys.length < 6, `${worker.keys.length} keys`)
})

test('ticket keeper: no line of the log has a key', async () => {
  const bench = new Bench(2)
  bench.tls = { ...TLS_DEFAULTS, ticketRotationMs: 60_000 }
  await bench.started()
  await bench.elapse(130_000)
  assert.ok(bench.lines.length > 0)
  for (const key of bench.workers[0]!.keys) for (const line of bench.lines) assert.ok(!line.includes(key.slice(0, 16)), line)
})
