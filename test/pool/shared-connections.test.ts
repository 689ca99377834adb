/** The pool with connections that carry several exchanges, alone and beside exclusive ones. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { FakeConnection, type FakeExchange } from './fake-connection.ts'
import { Fixture, Waiter, peerOf, served } from './fixture.ts'

/** The exchange of a lending that was taken from the pool. */
function begin(connection: UpstreamConnection | null, peer: Peer): FakeExchange {
  assert.ok(connection instanceof FakeConnection)
  return connection.begin(null, peer.options)
}

function end(fixture: Fixture, exchange: FakeExchange, peer: Peer): boolean {
  exchange.end()
  return fixture.pool.release(exchange.connection, peer)
}

test('shared: one connection is lent to as many exchanges as it takes, and not to one more', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const connection = fixture.open(peer, 3)
  const exchanges = [begin(connection, peer)]
  for (let more = 0; more < 2; more++) exchanges.push(begin(fixture.pool.take(peer.reuseKey), peer))
  assert.deepEqual(exchanges.map(exchange => exchange.connection), [connection, connection, connection])
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  assert.deepEqual([...fixture.pool.connections()], [{ peer: 'a.test:80', active: 1, idle: 0, dialling: 0, waiting: 0 }])
})

test('shared: a lending counts before its exchange begins', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const connection = fixture.open(peer, 2)
  assert.equal(fixture.pool.take(peer.reuseKey), connection)
  assert.equal(fixture.pool.take(peer.reuseKey), null, 'both exchanges are promised, though none has begun')
})

test('shared: a lending counts until it is released, even where its exchange is over', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const connection = fixture.open(peer, 2)
  const first = begin(connection, peer), second = begin(fixture.pool.take(peer.reuseKey), peer)
  first.end()
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  assert.equal(fixture.pool.release(connection, peer), true)
  assert.equal(fixture.pool.take(peer.reuseKey), connection)
  assert.equal(second.over, false)
})

test('shared: a connection that carries exchanges goes before an idle one, shared or not', () => {
  for (const idleStreams of [0, 5]) {
    const fixture = new Fixture()
    const peer = peerOf('a')
    const busy = fixture.open(peer, 2)
    const idle = fixture.idle(peer, idleStreams)
    begin(busy, peer)
    assert.equal(fixture.pool.take(peer.reuseKey), busy)
    begin(busy, peer)
    assert.equal(fixture.pool.take(peer.reuseKey), idle)
  }
})

test('shared: the connection that got room last is filled first, so that the others come to rest', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const [one, other] = [fixture.open(peer, 2), fixture.open(peer, 2)]
  begin(one, peer)
  begin(other, peer)
  begin(fixture.pool.take(peer.reuseKey), peer)
  const last = begin(fixture.pool.take(peer.reuseKey), peer)
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  end(fixture, last, peer)
  for (let i = 0; i < 3; i++) end(fixture, begin(fixture.pool.take(peer.reuseKey), peer), peer)
  assert.equal(last.connection.exchanges, 5)
})

test('shared: of two connections with room one fills up, then the other comes to rest', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const [older, newer] = [fixture.open(peer, 2), fixture.open(peer, 2)]
  const exchange = begin(older, peer)
  begin(newer, peer)
  assert.equal(begin(fixture.pool.take(peer.reuseKey), peer).connection, newer)
  end(fixture, exchange, peer)
  assert.equal(older.parked, true)
  assert.equal(begin(fixture.pool.take(peer.reuseKey), peer).connection, older)
  assert.equal(older.parked, false)
})

test('shared: after its last exchange a connection comes to rest, and is lent again from there', () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { idleTimeoutMs: 700 })
  const connection = fixture.open(peer, 2)
  const exchanges = [begin(connection, peer), begin(fixture.pool.take(peer.reuseKey), peer)]
  assert.equal(end(fixture, exchanges[0]!, peer), true)
  assert.deepEqual([connection.parked, fixture.pool.idle], [false, 0])
  assert.equal(end(fixture, exchanges[1]!, peer), true)
  assert.deepEqual([connection.parked, connection.parkedFor, fixture.pool.idle], [true, 700, 1])
  begin(fixture.pool.take(peer.reuseKey), peer)
  begin(fixture.pool.take(peer.reuseKey), peer)
  assert.deepEqual([connection.active, fixture.pool.idle], [2, 0])
  assert.equal(fixture.pool.take(peer.reuseKey), null)
})

test('shared: told to go away, a connection ends its exchanges, takes none, and is closed after the last', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const connection = fixture.open(peer, 10)
  const exchanges = [begin(connection, peer), begin(fixture.pool.take(peer.reuseKey), peer)]
  connection.take(0)
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  assert.equal(end(fixture, exchanges[0]!, peer), true)
  assert.equal(connection.closed, false)
  assert.equal(end(fixture, exchanges[1]!, peer), false)
  assert.equal(connection.closed, true)
  assert.deepEqual([...fixture.pool.connections()], [])
})

test('shared: a connection that was closed without a word is passed over', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const idle = fixture.idle(peer)
  const [one, other] = [fixture.open(peer, 10), fixture.open(peer, 10)]
  const lost = [begin(one, peer), begin(other, peer)]
  one.usable = other.usable = false
  assert.equal(fixture.pool.take(peer.reuseKey), idle)
  for (const exchange of lost) assert.equal(end(fixture, exchange, peer), false)
  assert.deepEqual([...fixture.pool.connections()], [{ peer: 'a.test:80', active: 1, idle: 0, dialling: 0, waiting: 0 }])
})

test('shared: a connection at rest that takes nothing when it is wanted is closed', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const connection = fixture.idle(peer, 10)
  connection.usable = false
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  assert.deepEqual([connection.closed, fixture.pool.counters.lostClosed], [true, 1])
  assert.deepEqual([...fixture.pool.connections()], [])
})

test('shared: an exchange that ended frees its room for the first that waits, as does an origin that takes more', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const connection = fixture.open(peer, 2)
  const exchanges = [begin(connection, peer), begin(fixture.pool.take(peer.reuseKey), peer)]
  const waiters = [0, 1, 2].map(() => new Waiter(fixture.pool, peer))
  for (const waiter of waiters) assert.equal(fixture.pool.admit(waiter), 'queued')
  await served()
  assert.deepEqual(waiters.map(waiter => waiter.got), [null, null, null])
  end(fixture, exchanges[0]!, peer)
  assert.equal(waiters[0]!.got, null, 'no exchange begins inside the end of another')
  await served()
  assert.deepEqual(waiters.map(waiter => waiter.got), [connection, null, null])
  begin(waiters[0]!.got, peer)
  connection.take(4)
  await served()
  assert.deepEqual(waiters.map(waiter => waiter.got), [connection, connection, connection])
  assert.equal(fixture.pool.take(peer.reuseKey), null)
})

test('shared: those in the queue go before a request that comes now, as far as there is room', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  const connection = fixture.open(peer, 1)
  const exchange = begin(connection, peer)
  const waiter = new Waiter(fixture.pool, peer)
  fixture.pool.admit(waiter)
  end(fixture, exchange, peer)
  assert.equal(fixture.pool.take(peer.reuseKey), null)
  await served()
  assert.equal(waiter.got, connection)
})

test('shared: a new connection is lent to the requests that waited for it, as far as it takes them, then to the queue', async () => {
  const fixture = new Fixture()
  const peer = peerOf('a', { maxConnectionsPerPeer: 1 })
  for (const [streams, wanted, lent, queued] of [[4, 2, 2, 2], [4, 9, 4, 0], [0, 3, 1, 0]] as const) {
    const placed = new Waiter(fixture.pool, peer)
    assert.equal(fixture.pool.admit(placed), 'granted')
    const waiters = [0, 1, 2].map(() => new Waiter(fixture.pool, peer))
    for (const waiter of waiters) assert.equal(fixture.pool.admit(waiter), 'queued')
    const connection = new FakeConnection(peer.reuseKey, streams)
    assert.equal(fixture.pool.lend(connection, wanted), lent)
    await served()
    assert.equal(waiters.filter(waiter => waiter.got === connection).length, queued)
    for (const waiter of waiters) fixture.pool.leave(waiter)
    connection.usable = false
    for (let i = 0; i < lent + queued; i++) fixture.pool.release(connection, peer)
    assert.deepEqual([...fixture.pool.connections()], [])
  }
})

test('shared: connections of both kinds are one crowd: for the limit of a peer, at rest, and in the order in which they go', () => {
  const fixture = new Fixture({ maxIdleConnections: 2 })
  const [peer, other] = [peerOf('a', { maxConnectionsPerPeer: 2 }), peerOf('b')]
  const shared = fixture.idle(peer, 5), exclusive = fixture.idle(peer)
  assert.equal(fixture.pool.admit(new Waiter(fixture.pool, peer)), 'queued')
  fixture.idle(other)
  assert.deepEqual([shared.closed, exclusive.closed], [true, false])
  fixture.idle(other, 5)
  assert.equal(exclusive.closed, true)
  assert.equal(fixture.pool.counters.evictions, 2)
})

test('shared: what a key\'s connections turned out to be is remembered', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  assert.deepEqual([fixture.pool.mayJoin(peer.reuseKey), fixture.pool.prefersExclusive(peer.reuseKey)], [true, false])
  fixture.drop(fixture.open(peer), peer)
  assert.deepEqual([fixture.pool.mayJoin(peer.reuseKey), fixture.pool.prefersExclusive(peer.reuseKey)], [false, true])
  fixture.drop(fixture.open(peer, 2), peer)
  assert.deepEqual([fixture.pool.mayJoin(peer.reuseKey), fixture.pool.prefersExclusive(peer.reuseKey)], [true, false])
})

test('shared: releasing more often than lending is a broken rule', () => {
  const fixture = new Fixture()
  const peer = peerOf('a')
  const connection = fixture.open(peer, 3)
  fixture.pool.take(peer.reuseKey)
  fixture.pool.release(connection, peer)
  fixture.pool.release(connection, peer)
  assert.throws(() => fixture.pool.release(connection, peer), /not lent/)
  assert.throws(() => fixture.pool.lend(connection), /lent twice/)
})

test('shared: past its age a connection takes no further exchange, and is closed after those that it has', () => {
  const fixture = new Fixture(), { pool, clock } = fixture
  const peer = peerOf('a', { maxConnectionAgeMs: 1000 })
  const connection = fixture.open(peer, 3)
  assert.equal(pool.take(peer.reuseKey), connection)
  clock.advance(2000)
  assert.equal(pool.release(connection, peer), true)
  assert.equal(pool.take(peer.reuseKey), null)
  assert.equal(connection.closed, false)
  assert.equal(pool.release(connection, peer), false)
  assert.equal(connection.closed, true)
})
