/** What a worker tells operators who look at it: bounded, counted, and over by itself. What is told of requests: looked-at.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { Question } from '../../src/ipc/channel.ts'
import type { LookOrder, Seen } from '../../src/ipc/looking.ts'
import type { ExchangeWatcher } from '../../src/server/exchange-watcher.ts'
import { LEASE_MS, Looks } from '../../workers/looks.ts'
import { FakeClock } from '../support/fake-clock.ts'

const ORDER: LookOrder = { id: 'one', kind: 'tail', match: {}, count: 0 }
/** Longest wait of a question. */
const HOLD_MS = 1_000

class Asked implements Question {
  seen: Seen | null = null
  refusal = ''
  ok(result: unknown): void {
    assert.equal(this.seen, null, 'a question is answered once')
    this.seen = result as Seen
  }
  refuse(_code: string, reason: string): void { this.refusal = reason }
}

interface World {
  readonly clock: FakeClock
  readonly looks: Looks
  watcher: ExchangeWatcher | null
  ask(order?: unknown): Asked
  /** Refused heads are the requests that need no exchange. */
  refuse(count?: number, client?: string): void
}

function start(maxMessageBytes = 1_048_576): World {
  const clock = new FakeClock()
  const looks = new Looks({
    clock, worker: '1.0.0', generation: 1, maxMessageBytes, shownClient: address => address,
    watch: watcher => { world.watcher = watcher },
  })
  const world: World = {
    clock, looks, watcher: null,
    ask(order = ORDER) {
      const question = new Asked()
      looks.look(order, question)
      return question
    },
    refuse(count = 1, client = '10.0.0.1') {
      const error = new ProxyError('BAD_HEAD', 'downstream', 'no head', { status: 400 })
      for (let left = count; left > 0; left--) world.watcher?.lines?.refused('edge/:80', client, error, 'PE', 0)
    },
  }
  return world
}

test('looks: services are told while somebody looks, and no longer', () => {
  const world = start()
  /** Whether lines, hooks and tracers are wanted. */
  const wanted = (): unknown => {
    const { watcher } = world
    return watcher === null ? null : [watcher.lines !== null, watcher.hooks !== null, watcher.tracers.length]
  }
  assert.equal(wanted(), null)
  world.ask()
  assert.deepEqual(wanted(), [true, false, 0])
  world.ask({ ...ORDER, id: 'two', kind: 'trace' })
  assert.deepEqual(wanted(), [true, true, 1])
  world.looks.lookAway('one')
  assert.deepEqual(wanted(), [false, true, 1])
  world.looks.lookAway('two')
  world.looks.lookAway('three')
  assert.deepEqual([world.watcher, world.looks.size, world.clock.pending], [null, 0, 0])
})

test('looks: a question waits for something to tell, and is answered with nothing when its time is over', () => {
  const world = start(), first = world.ask()
  world.clock.advance(HOLD_MS - 1)
  assert.equal(first.seen, null)
  world.clock.advance(1)
  assert.deepEqual(first.seen, { entries: [], dropped: 0, over: false })
  const second = world.ask()
  world.refuse(3)
  assert.equal(second.seen, null, 'what comes at once is gathered')
  world.clock.advance(50)
  const { entries } = second.seen!
  assert.equal(entries.length, 3)
  const { client, worker, flag, status } = JSON.parse(entries[0]!) as Record<string, unknown>
  assert.deepEqual([client, worker, flag, status], ['10.0.0.1', '1.0.0', 'PE', 400])
})

test('looks: one that is not asked again is over after its lease, and one that is asked is not', () => {
  const world = start()
  for (let round = 0; round < 5; round++) {
    world.ask()
    world.clock.advance(HOLD_MS)
    world.clock.advance(LEASE_MS - 1)
    assert.equal(world.looks.size, 1)
  }
  world.clock.advance(1)
  assert.deepEqual([world.looks.size, world.watcher, world.clock.pending], [0, null, 0])
})

test('looks: what finds no room is dropped and counted, and nothing of an answer is longer than a message', () => {
  const sizes = fc.record({ bytes: fc.integer({ min: 1024, max: 40_000 }), count: fc.integer({ min: 0, max: 6000 }), length: fc.nat(3000) })
  fc.assert(fc.property(sizes, ({ bytes, count, length }) => {
    const world = start(bytes)
    let told = 0, dropped = 0
    world.ask()
    world.clock.advance(HOLD_MS)
    world.refuse(count, '"'.repeat(length))
    for (;;) {
      const asked = world.ask()
      world.clock.advance(HOLD_MS)
      const seen = asked.seen!
      assert.ok(JSON.stringify({ tag: 'answer', re: 1_000_000, ok: true, result: seen }).length <= bytes)
      told += seen.entries.length
      dropped += seen.dropped
      if (seen.entries.length === 0) break
    }
    assert.equal(told + dropped, count)
    world.looks.close()
    assert.equal(world.clock.pending, 0)
  }), { numRuns: 20 })
})

test('looks: as many as were asked for, then it is over, whatever comes behind', () => {
  const world = start(), asked = world.ask({ ...ORDER, count: 2 })
  world.refuse(5)
  assert.deepEqual([asked.seen?.entries.length, asked.seen?.dropped, asked.seen?.over], [2, 0, true], 'without a wait')
  assert.deepEqual([world.looks.size, world.watcher], [0, null])
})

test('looks: a question of a look whose last one is still open gets the answers, and the last one nothing', () => {
  const world = start(), lost = world.ask()
  const again = world.ask()
  assert.deepEqual(lost.seen, { entries: [], dropped: 0, over: false })
  world.refuse()
  world.clock.advance(50)
  assert.equal(again.seen?.entries.length, 1)
})

test('looks: who looks away, and whoever looks at the end, is told what there is', () => {
  const world = start(), asked = world.ask()
  world.refuse()
  world.looks.close()
  assert.deepEqual([asked.seen?.entries.length, asked.seen?.over, world.clock.pending], [1, true, 0])
})

test('looks: more operators than a worker puts up with are refused, and so is what it does not know', () => {
  const world = start()
  for (let at = 0; at < 8; at++) assert.equal(world.ask({ ...ORDER, id: String(at) }).refusal, '')
  assert.match(world.ask({ ...ORDER, id: 'x' }).refusal, /8 operators look/)
  assert.match(world.ask({ ...ORDER, kind: 'film' }).refusal, /cannot look at 'film'/)
  assert.match(world.ask(null).refusal, /no object/)
  assert.equal(world.looks.size, 8)
})
