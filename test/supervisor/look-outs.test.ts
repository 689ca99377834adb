/** Operators who look at all workers: old and new ones, those that come and go, and an operator that goes himself. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChannelError, type Question } from '../../src/ipc/channel.ts'
import type { LookOrder, Seen, SeenByAll } from '../../src/ipc/looking.ts'
import type { ToWorker } from '../../src/ipc/messages.ts'
import { LookOuts } from '../../supervisor/look-outs.ts'
import { Intent, WorkerProcess, WorkerState, type WorkerLink } from '../../supervisor/worker-process.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { settle } from '../support/fake-process-host.ts'

const ORDER: LookOrder = { id: 'one', kind: 'tail', match: {}, count: 0 }

/** A worker that answers when it is told to. */
class Told {
  readonly process: WorkerProcess
  readonly orders: ToWorker[] = []
  readonly #open: PromiseWithResolvers<unknown>[] = []

  constructor(n: number) {
    this.process = new WorkerProcess({ generation: 1, slot: 0, n, token: 't', startedAtMs: 0, intent: Intent.Serve })
    this.connect()
  }

  connect(): void {
    const link: WorkerLink = {
      ask: order => {
        this.orders.push(order)
        const open = Promise.withResolvers<unknown>()
        this.#open.push(open)
        return open.promise
      },
      send: order => { this.orders.push(order) },
      close() {},
    }
    this.process.connect(link)
  }

  get asked(): number { return this.#open.length }
  get tags(): string[] { return this.orders.map(({ tag }) => tag) }

  async tell(seen: Partial<Seen>): Promise<void> {
    this.#open.shift()!.resolve({ entries: [], dropped: 0, over: false, ...seen })
    await settle()
  }

  async fail(error: Error): Promise<void> {
    this.#open.shift()!.reject(error)
    await settle()
  }
}

class Operator {
  readonly clock = new FakeClock()
  readonly workers: Told[] = []
  readonly lookOuts = new LookOuts({
    host: this.clock, fleet: () => ({ workers: () => this.workers.map(({ process }) => process) }), maxMessageBytes: () => 1_048_576,
  })
  leave: () => void = () => {}
  refusal = ''

  add(n: number, state: WorkerState = WorkerState.Accepting): Told {
    const told = new Told(n)
    told.process.state = state
    this.workers.push(told)
    return told
  }

  /** The answer, as soon as there is one. */
  ask(order: unknown = ORDER): { answer: SeenByAll | null } {
    const asked: { answer: SeenByAll | null } = { answer: null }
    const question: Question = {
      ok: result => { asked.answer = result as SeenByAll },
      refuse: (_code, reason) => { this.refusal = reason },
    }
    this.lookOuts.ask(order, question, { onGone: run => { this.leave = run } })
    return asked
  }
}

test('look-outs: what workers tell is gathered, and workers that come meanwhile are asked as well', async () => {
  const operator = new Operator(), first = operator.add(0), starting = operator.add(1, WorkerState.Starting)
  const asked = operator.ask()
  assert.deepEqual([first.asked, starting.asked], [1, 0])
  assert.deepEqual(first.orders, [{ tag: 'look', look: ORDER }])
  await first.tell({ entries: ['"a"'], dropped: 2 })
  assert.equal(first.asked, 1, 'it is asked again at once')
  const second = operator.add(2)
  operator.clock.advance(200)
  await second.tell({ entries: ['"b"'] })
  operator.clock.advance(50)
  assert.deepEqual(asked.answer, { entries: ['"a"'], dropped: 2, over: false, unable: [], workers: ['1.0.0'] })
  const again = operator.ask()
  operator.clock.advance(50)
  assert.deepEqual([again.answer?.entries, again.answer?.workers], [['"b"'], ['1.0.0', '1.0.2']])
})

test('look-outs: nothing to tell is said within a second or so', () => {
  const operator = new Operator()
  operator.add(0)
  const asked = operator.ask()
  operator.clock.advance(999)
  assert.equal(asked.answer, null)
  operator.clock.advance(1)
  assert.deepEqual(asked.answer, { entries: [], dropped: 0, over: false, unable: [], workers: ['1.0.0'] })
})

test('look-outs: a worker that does not know the order is named once, and the others are looked at', async () => {
  const operator = new Operator(), old = operator.add(0), other = operator.add(1), full = operator.add(2)
  const asked = operator.ask()
  await old.fail(new ChannelError('unknown', "this build does not know 'look'"))
  await full.fail(new ChannelError('refused', '8 operators look at it already'))
  operator.clock.advance(50)
  assert.deepEqual(asked.answer?.unable, [
    { worker: '1.0.0', reason: 'its build does not know how to be looked at' },
    { worker: '1.0.2', reason: '8 operators look at it already' },
  ])
  assert.deepEqual(asked.answer.workers, ['1.0.1'])
  operator.clock.advance(10_000)
  assert.deepEqual([old.orders.length, full.orders.length], [1, 1])
  const again = operator.ask()
  await other.tell({ entries: ['1'] })
  operator.clock.advance(50)
  assert.deepEqual([again.answer?.entries, again.answer?.unable], [['1'], []])
})

test('look-outs: a worker whose connection ended is asked over the next one, one that is silent as well', async () => {
  const operator = new Operator(), worker = operator.add(0)
  operator.ask()
  await worker.fail(new ChannelError('closed', 'gone'))
  worker.connect()
  operator.clock.advance(200)
  assert.equal(worker.orders.length, 2)
  await worker.fail(new ChannelError('timeout', 'late'))
  operator.clock.advance(200)
  assert.equal(worker.orders.length, 3)
})

test('look-outs: as many as were wanted of all workers together, and then they are told to look away', async () => {
  const operator = new Operator(), one = operator.add(0), two = operator.add(1)
  const asked = operator.ask({ ...ORDER, count: 3 })
  await one.tell({ entries: ['1', '2'] })
  await two.tell({ entries: ['3', '4', '5'], over: true })
  operator.clock.advance(50)
  assert.deepEqual([asked.answer?.entries, asked.answer?.over], [['1', '2', '3'], true])
  assert.deepEqual(one.tags, ['look', 'look', 'look-away'])
  assert.deepEqual([operator.lookOuts.size, operator.clock.pending], [0, 0])
  await one.tell({ entries: ['late'] })
  operator.clock.advance(10_000)
  assert.equal(one.orders.length, 3, 'nobody asks on')
})

test('look-outs: a worker that has told all that it was asked for is not asked again', async () => {
  const operator = new Operator(), one = operator.add(0)
  operator.ask({ ...ORDER, count: 5 })
  await one.tell({ entries: ['1'], over: true })
  operator.clock.advance(5_000)
  assert.equal(one.orders.length, 1)
})

test('look-outs: with the operator everything ends', async () => {
  const operator = new Operator(), worker = operator.add(0)
  operator.ask()
  operator.leave()
  assert.deepEqual([worker.tags, operator.lookOuts.size, operator.clock.pending], [['look', 'look-away'], 0, 0])
  await worker.tell({ entries: ['late'] })
  assert.equal(worker.orders.length, 2)
})

test('look-outs: an operator that reads slowly loses what is counted, and holds up nobody', async () => {
  const operator = new Operator(), worker = operator.add(0)
  operator.ask()
  operator.clock.advance(1_000)
  for (let round = 0; round < 12; round++) await worker.tell({ entries: Array.from({ length: 1000 }, (_, at) => String(at)) })
  let entries = 0, dropped = 0
  for (;;) {
    const { answer } = (asked => {
      operator.clock.advance(50)
      return asked
    })(operator.ask())
    if (answer === null) break
    entries += answer.entries.length
    dropped += answer.dropped
  }
  assert.equal(entries + dropped, 12_000)
  assert.ok(dropped > 0 && entries > 0)
})

test('look-outs: what a worker of another build tells is taken as far as it is understood', async () => {
  const operator = new Operator(), worker = operator.add(0), asked = operator.ask()
  await worker.tell({ entries: [1, null, 'x', { a: 1 }] as unknown as string[], dropped: 'many' as unknown as number })
  await worker.tell({ entries: 'none' as unknown as string[] })
  operator.clock.advance(50)
  assert.deepEqual([asked.answer?.entries, asked.answer?.dropped], [['x'], 0])
})

test('look-outs: more operators than there is room for are refused, and orders that are none', () => {
  const operator = new Operator()
  for (let at = 0; at < 16; at++) operator.ask({ ...ORDER, id: String(at) })
  assert.equal(operator.refusal, '')
  operator.ask({ ...ORDER, id: 'more' })
  assert.match(operator.refusal, /16 operators look already/)
  operator.ask({ ...ORDER, match: { colour: 'red' } })
  assert.match(operator.refusal, /does not know the condition 'colour'/)
})
