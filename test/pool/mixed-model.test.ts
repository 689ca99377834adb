/**
 * The pool with exclusive and shared connections of the same keys, under any order of events. After each of them: every
 * connection is lent, at rest or closed, and counted as that; none is lent beyond what it takes (which the fakes check when
 * an exchange begins); no request waits while there is room, an idle connection, or a place.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import type { Peer } from '../../src/peer/peer.ts'
import type { PoolOptions } from '../../src/pool/pool-options.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { FakeConnection, type FakeExchange } from './fake-connection.ts'
import { Fixture, Waiter, peerOf } from './fixture.ts'

const PEERS = [
  peerOf('a', { maxConnectionsPerPeer: 2, maxQueuedPerPeer: 5, queueTimeoutMs: 500 }),
  peerOf('b', { maxConnectionsPerPeer: 1, maxQueuedPerPeer: 3, queueTimeoutMs: 1000 }),
  // Another key at the address of the first one.
  peerOf('a', { maxConnectionsPerPeer: 2, maxQueuedPerPeer: 5, queueTimeoutMs: 500, tcpKeepAliveIdleMs: 5000 }),
  peerOf('c'),
  peerOf('d', { idleTimeoutMs: 0 }),
]

interface Lending {
  readonly peer: Peer
  readonly exchange: FakeExchange
}

const EVENTS = [
  'acquire', 'acquire', 'acquire', 'acquire', 'acquireFresh', 'connect', 'connect', 'connect', 'fail', 'end', 'release', 'release',
  'release', 'abort', 'goAway', 'takeMore', 'die', 'lose', 'loseSilently', 'leave', 'advance', 'closeIdle', 'closeRested',
] as const
interface Event {
  readonly kind: (typeof EVENTS)[number]
  readonly pick: number
  readonly streams: number
}

class World {
  readonly fixture: Fixture
  readonly connections: FakeConnection[] = []
  readonly lendings: Lending[] = []
  readonly dialling: Peer[] = []
  readonly waiting: QueuedRequest[] = []

  constructor(options: PoolOptions) { this.fixture = new Fixture(options) }

  lendingsOf(connection: FakeConnection): number {
    return this.lendings.filter(({ exchange }) => exchange.connection === connection).length
  }
  ofKey(peer: Peer): FakeConnection[] {
    return this.connections.filter(connection => connection.reuseKey === peer.reuseKey)
  }
  /** Those of all keys at the address. */
  atAddress(peer: Peer): FakeConnection[] {
    return PEERS.filter(other => other.name === peer.name).flatMap(other => this.ofKey(other))
  }
  /** Dialling, lent and idle, of all keys at the address. */
  openOf(peer: Peer): number {
    const standing = this.atAddress(peer).filter(connection => connection.parked || this.lendingsOf(connection) > 0).length
    return standing + this.dialling.filter(other => other.name === peer.name).length
  }
  waitingAt(peer: Peer): number { return this.waiting.filter(request => request.peer.name === peer.name).length }
  roomyOf(peer: Peer): FakeConnection[] {
    return this.ofKey(peer).filter(connection => {
      const lendings = this.lendingsOf(connection)
      return connection.shared && lendings > 0 && connection.capacity + connection.active > lendings
    })
  }

  begin(connection: UpstreamConnection, peer: Peer): void {
    assert.ok(connection instanceof FakeConnection && connection.reuseKey === peer.reuseKey)
    this.lendings.push({ peer, exchange: connection.begin(null, peer.options) })
  }

  acquire(peer: Peer, fresh: boolean): void {
    const { pool } = this.fixture
    const roomy = this.roomyOf(peer)
    const idle = fresh || this.waitingAt(peer) > 0 ? [] : this.ofKey(peer).filter(connection => connection.parked)
    const connection = pool.take(peer.reuseKey, fresh)
    if (connection !== null) {
      assert.ok(roomy.length > 0 ? roomy.includes(connection as FakeConnection) : idle.includes(connection as FakeConnection))
      this.begin(connection, peer)
      return
    }
    assert.deepEqual([roomy.length, idle.filter(one => !one.silentlyLost).length], [0, 0], 'nothing that could be lent is left lying')
    const request = new QueuedRequest(this, peer, fresh)
    const outcome = pool.admit(request)
    if (outcome === 'granted') this.dialling.push(peer)
    else if (outcome === 'queued') this.waiting.push(request)
    else assert.equal(this.waitingAt(peer), peer.options.maxQueuedPerPeer)
  }

  connect(peer: Peer, streams: number, wanted: number): void {
    this.dialling.splice(this.dialling.indexOf(peer), 1)
    const connection = new FakeConnection(peer.reuseKey, streams)
    this.connections.push(connection)
    const lent = this.fixture.pool.lend(connection, wanted)
    assert.equal(lent, Math.min(wanted, Math.max(1, streams)))
    for (let i = 0; i < lent; i++) this.begin(connection, peer)
  }

  release(lending: Lending): void {
    const { exchange, peer } = lending
    const { connection } = exchange
    this.lendings.splice(this.lendings.indexOf(lending), 1)
    const last = this.lendingsOf(connection) === 0
    const kept = !last || (connection.capacity > 0 && peer.options.idleTimeoutMs > 0)
    assert.equal(this.fixture.pool.release(connection, peer), kept)
    assert.equal(connection.closed, !kept)
    assert.equal(connection.parked, last && kept)
  }

  play({ kind, pick, streams }: Event): void {
    const { pool, clock } = this.fixture
    const one = <T>(from: readonly T[]): T | undefined => from[pick % from.length]
    const lending = one(this.lendings)
    switch (kind) {
      // Mostly of two keys, so that their connections become many.
      case 'acquire': case 'acquireFresh':
        this.acquire(one([...PEERS, PEERS[0]!, PEERS[2]!, PEERS[2]!])!, kind === 'acquireFresh')
        break
      case 'closeRested': {
        const peer = one(PEERS)!, parkedBy = Math.max(0, pool.parkings - streams)
        const rested = this.ofKey(peer).filter(connection => connection.parked && connection.poolParked <= parkedBy)
        const others = this.connections.filter(connection => connection.parked && !rested.includes(connection))
        pool.closeRested(peer.reuseKey, parkedBy, true)
        assert.ok(rested.every(connection => connection.closed) && others.every(connection => connection.parked))
        break
      }
      case 'connect': if (this.dialling.length > 0) this.connect(one(this.dialling)!, streams, 1 + pick % 3); break
      case 'fail':
        if (this.dialling.length > 0) pool.abandon(this.dialling.splice(pick % this.dialling.length, 1)[0]!.reuseKey)
        break
      case 'end': if (lending?.exchange.over === false) lending.exchange.end(); break
      case 'abort': case 'release':
        if (lending === undefined) break
        if (kind === 'abort') lending.exchange.abort()
        else if (!lending.exchange.over) lending.exchange.end()
        this.release(lending)
        break
      case 'goAway': case 'takeMore':
        if (lending?.exchange.connection.shared) lending.exchange.connection.take(kind === 'goAway' ? 0 : streams + 1)
        break
      case 'die': if (lending !== undefined) lending.exchange.connection.usable = false; break
      case 'lose': case 'loseSilently': {
        const idle = one(this.connections.filter(connection => connection.parked))
        if (idle === undefined) break
        if (kind === 'lose') idle.lose('closed')
        else idle.silentlyLost = true
        break
      }
      case 'leave': {
        const request = one(this.waiting)
        if (request === undefined) break
        pool.leave(request)
        this.waiting.splice(this.waiting.indexOf(request), 1)
        break
      }
      case 'advance': clock.advance((pick % 4) * 100); break
      case 'closeIdle': pool.closeIdle(pick % 3); break
    }
  }

  check(options: PoolOptions): void {
    const { pool, ticker } = this.fixture
    for (const connection of this.connections) {
      const lendings = this.lendingsOf(connection)
      assert.equal(connection.poolLent, lendings)
      assert.equal(Number(lendings > 0) + Number(connection.parked) + Number(connection.closed), 1, 'lent, at rest or closed')
      assert.ok(connection.shared || lendings <= 1)
      const listed = lendings > 0 && connection.poolNewer === connection
      if (connection.usable) assert.equal(listed, connection.shared && lendings > 0 && connection.capacity + connection.active > lendings)
    }
    const idle = this.connections.filter(connection => connection.parked)
    assert.equal(pool.idle, idle.length)
    assert.ok(idle.length <= options.maxIdleConnections!)
    const rows = [...pool.connections()]
    for (const peer of PEERS) {
      const all = this.ofKey(peer), waiting = this.waiting.filter(request => request.peer === peer)
      const expected = {
        peer: peer.name,
        active: all.filter(connection => this.lendingsOf(connection) > 0).length,
        idle: all.filter(connection => connection.parked).length,
        dialling: this.dialling.filter(other => other === peer).length,
        waiting: waiting.length,
      }
      const unused = Object.values(expected).every(value => typeof value === 'string' || value === 0)
      const at = rows.findIndex(row => isDeepStrictEqual(row, expected))
      assert.equal(at !== -1, !unused, peer.name)
      if (at !== -1) rows.splice(at, 1)
      const max = peer.options.maxConnectionsPerPeer
      if (max > 0) assert.ok(this.openOf(peer) <= max, 'no more connections than allowed')
      assert.ok(expected.idle <= options.maxIdlePerKey!)
      if (waiting.length === 0) continue
      const idleThere = this.atAddress(peer).filter(connection => connection.parked).length
      assert.deepEqual([this.roomyOf(peer).length, idleThere], [0, 0], 'none waits while there is room')
      assert.equal(this.openOf(peer), max, 'none waits while there is a place')
    }
    assert.deepEqual(rows, [])
    assert.equal(ticker.size, this.waiting.length)
  }

  /** Everything that is under way ends well: then no request waits, and all is given back. */
  finish(): void {
    for (const lending of this.lendings.slice()) {
      if (!lending.exchange.over) lending.exchange.end()
      this.release(lending)
    }
    for (const peer of this.dialling.splice(0)) this.fixture.pool.abandon(peer.reuseKey)
  }
}

class QueuedRequest extends Waiter {
  readonly #world: World
  constructor(world: World, peer: Peer, fresh: boolean) {
    super(world.fixture.pool, peer, '', null, fresh)
    this.#world = world
  }
  /** @param others those who might have been served with the same */
  #served(others: (other: Peer) => boolean): void {
    const first = this.#world.waiting.find(other => others(other.peer))
    assert.equal(first, this, 'first come, first served')
    this.#world.waiting.splice(this.#world.waiting.indexOf(this), 1)
  }
  override onPlace(): void {
    this.#served(other => other.name === this.peer.name)
    this.#world.dialling.push(this.peer)
  }
  override onHandedOver(connection: UpstreamConnection): void {
    this.#served(other => other.reuseKey === this.peer.reuseKey)
    this.#world.begin(connection, this.peer)
  }
  override onWaitFailed(): void { this.#world.waiting.splice(this.#world.waiting.indexOf(this), 1) }
}

test('pool: exclusive and shared connections behave under any order of events', async () => {
  const events = fc.array(
    fc.record({ kind: fc.constantFrom(...EVENTS), pick: fc.nat(), streams: fc.constantFrom(0, 0, 1, 2, 3, 7) }),
    { minLength: 1, maxLength: 120, size: 'max' },
  )
  const caps = fc.record({ maxIdlePerKey: fc.integer({ min: 1, max: 3 }), maxIdleConnections: fc.integer({ min: 1, max: 4 }) })
  await fc.assert(fc.asyncProperty(caps, events, async (options, list) => {
    const world = new World(options)
    for (const event of list) {
      world.play(event)
      await new Promise(resolve => { process.nextTick(resolve) })
      world.check(options)
    }
    // Each round serves at least one that waits.
    for (let round = world.waiting.length; round >= 0; round--) {
      world.finish()
      await new Promise(resolve => { process.nextTick(resolve) })
    }
    world.finish()
    world.fixture.pool.closeIdle()
    assert.equal(world.waiting.length, 0)
    assert.ok(world.connections.every(connection => connection.closed && connection.active === 0))
    assert.deepEqual([...world.fixture.pool.connections()], [])
  }), { numRuns: 500 })
})
