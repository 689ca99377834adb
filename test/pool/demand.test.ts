/** How many connections a pool keeps at rest: what recent requests needed at the same time, whatever that was. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { IdleCrowd } from '../../src/pool/idle-crowd.ts'
import type { FakeConnection } from './fake-connection.ts'
import { Fixture, peerOf } from './fixture.ts'

const STEP_MS = 20

interface Load {
  readonly clients: number
  /** A client waits up to so long between an answer and its next request, in ms. */
  readonly thinkMs: number
  /** A request takes up to so long, in ms. */
  readonly serviceMs: number
}

/** Keep-alive clients, each of which sends its next request some time after it has the answer to the last. */
class SteadyClients {
  readonly fixture: Fixture
  readonly #peer = peerOf('origin')
  readonly #load: Load
  /** What happens next to each client, and when; null: it sends a request. */
  readonly #next: { at: number; connection: FakeConnection | null }[]
  #seed = 1

  constructor(load: Load, fixture = new Fixture()) {
    this.fixture = fixture
    this.#load = load
    this.#next = Array.from({ length: load.clients }, () => ({ at: this.#within(load.thinkMs), connection: null }))
  }

  #within(ms: number): number {
    this.#seed = (this.#seed * 1_103_515_245 + 12_345) % 2_147_483_648
    return this.fixture.clock.exact() + STEP_MS + ms * this.#seed / 2_147_483_648
  }

  run(ms: number): void {
    const { clock, pool } = this.fixture, { thinkMs, serviceMs } = this.#load
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      const now = clock.exact()
      for (const client of this.#next) {
        if (client.at > now) continue
        if (client.connection === null) {
          const connection = pool.take(this.#peer.reuseKey) as FakeConnection | null
          client.connection = connection ?? this.fixture.open(this.#peer)
          client.at = this.#within(serviceMs)
        } else {
          pool.release(client.connection, this.#peer)
          client.connection = null
          client.at = this.#within(thinkMs)
        }
      }
      clock.advance(STEP_MS)
    }
  }

  /** Of the requests in the next `ms`, the part that had to dial. */
  dialled(ms: number): number {
    const { hits, misses } = this.fixture.pool.counters
    this.run(ms)
    const { counters } = this.fixture.pool
    return (counters.misses - misses) / (counters.hits - hits + counters.misses - misses)
  }
}

for (const clients of [64, 1000, 2000]) {
  for (const [thinkMs, serviceMs] of [[0, 100], [200, 50], [2000, 200]] as const) {
    test(`demand: ${clients} keep-alive clients find a connection 999 times of 1000, ${thinkMs} ms between their requests`, () => {
      const load = new SteadyClients({ clients, thinkMs, serviceMs })
      load.run(30_000)
      assert.ok(load.dialled(60_000) <= 0.001)
    })
  }
}

test('demand: clients that all ask at the same moments find a connection each time', () => {
  const fixture = new Fixture(), { pool, clock } = fixture
  const peer = peerOf('a')
  let lent = Array.from({ length: 2000 }, () => fixture.open(peer))
  for (let round = 0; round < 8; round++) {
    clock.advance(200)
    for (const connection of lent) pool.release(connection, peer)
    clock.advance(5000)
    lent = lent.map(() => pool.take(peer.reuseKey) as FakeConnection)
    assert.ok(lent.every(connection => connection !== null))
  }
})

test('demand: what a peak needed is closed within seconds of its end, a few at a time', () => {
  const fixture = new Fixture(), { pool, clock } = fixture
  const peer = peerOf('a')
  const peak = Array.from({ length: 1000 }, () => fixture.open(peer))
  for (const connection of peak) pool.release(connection, peer)
  let most = 0, before = pool.idle
  for (let ms = 0; ms < 40_000; ms += 100) {
    clock.advance(100)
    most = Math.max(most, before - pool.idle)
    before = pool.idle
    if (ms < 9000) assert.equal(pool.idle, 1000)
  }
  assert.ok(pool.idle > 0 && pool.idle <= 40, 'a few are kept until their own time limit')
  assert.equal(pool.counters.surplus, 1000 - pool.idle)
  assert.ok(most <= 100)
  assert.equal(peak.filter(connection => connection.closed).length, pool.counters.surplus)
  assert.equal(fixture.ticker.size, 0)
})

test('demand: no more are kept than half of what descriptors the process may have', () => {
  const fixture = new Fixture({}, new IdleCrowd(64 + 20)), { pool } = fixture
  const peer = peerOf('a')
  const lent = Array.from({ length: 15 }, () => fixture.open(peer))
  for (const connection of lent) pool.release(connection, peer)
  assert.deepEqual([pool.idle, pool.counters.evictions], [10, 5])
})

test('demand: pools of one process share its limit, and the one that rested longest goes, in whichever it is', () => {
  const crowd = new IdleCrowd()
  const one = new Fixture({ maxIdleConnections: 3 }, crowd), other = new Fixture({ maxIdleConnections: 3 }, crowd)
  const peer = peerOf('a')
  const first = one.idle(peer)
  const rest = [other.idle(peer), other.open(peer), other.open(peer)]
  other.pool.release(rest[1]!, peer)
  assert.equal(crowd.idle, 3)
  other.pool.release(rest[2]!, peer)
  assert.deepEqual([first, ...rest].map(connection => connection.closed), [true, false, false, false])
  assert.deepEqual([one.pool.idle, other.pool.idle, crowd.idle], [0, 3, 3])
  assert.deepEqual([one.pool.counters.evictions, other.pool.counters.evictions], [1, 0])
})
