import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpConnectorOptions } from '../../src/connector/connector-options.ts'
import { HttpConnector, PendingAcquire, type ConnectionWaiter } from '../../src/connector/http-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { PeerOptions } from '../../src/peer/peer-options.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { Http1ClientSession } from '../../src/protocols/http1/client-session.ts'
import { FakeConnection } from '../pool/fake-connection.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeStream, FakeTransport, nextTick, recordingTracer } from './fakes.ts'

class Waiter implements ConnectionWaiter {
  connection: UpstreamConnection | null = null
  reused: boolean | null = null
  error: ProxyError | null = null
  calls = 0
  onConnection(connection: UpstreamConnection, reused: boolean): void {
    this.calls++
    this.connection = connection
    this.reused = reused
  }
  onConnectionFailed(error: ProxyError): void {
    this.calls++
    this.error = error
  }
}

class Fixture {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly transport = new FakeTransport()
  readonly connector: HttpConnector
  constructor(options: HttpConnectorOptions = {}) {
    this.connector = new HttpConnector({
      ticker: this.ticker,
      transport: this.transport,
      createConnection: (_stream, peer) => new FakeConnection(`not yet ${peer.name}`),
      ...options,
    })
  }
  /** Answers the latest dial. */
  connect(early: Buffer | null = null): FakeStream {
    const stream = new FakeStream({ onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} })
    this.transport.dials.at(-1)!.waiter.onDialed(stream, early)
    return stream
  }
  open(peer: Peer): FakeConnection {
    const waiter = new Waiter()
    assert.ok(this.connector.acquire(peer, waiter) instanceof PendingAcquire)
    this.connect()
    return waiter.connection as FakeConnection
  }
}

const peerOf = (options?: PeerOptions, address = '127.0.0.1:80'): HttpPeer => new HttpPeer(address, options)

test('connector: a new session is dialled, released to the pool, and reused at once', () => {
  const fixture = new Fixture()
  const peer = peerOf()
  const waiter = new Waiter()
  const pending = fixture.connector.acquire(peer, waiter)
  assert.ok(pending instanceof PendingAcquire)
  assert.equal(waiter.calls, 0)
  fixture.connect()
  assert.deepEqual([waiter.calls, waiter.reused, waiter.connection!.reuseKey], [1, false, peer.reuseKey])
  assert.deepEqual(fixture.connector.stats(), [{ peer: '127.0.0.1:80', active: 1, idle: 0, dialling: 0, waiting: 0 }])
  assert.equal(fixture.connector.release(waiter.connection!, peer), true)
  assert.deepEqual(fixture.connector.stats(), [{ peer: '127.0.0.1:80', active: 0, idle: 1, dialling: 0, waiting: 0 }])
  const again = new Waiter()
  assert.equal(fixture.connector.acquire(peerOf(), again), waiter.connection)
  assert.equal(again.calls, 0, 'a pooled session comes as the result')
  assert.equal(fixture.transport.dials.length, 1)
})

test('connector: open never takes a pooled session', () => {
  const fixture = new Fixture()
  const peer = peerOf()
  fixture.connector.release(fixture.open(peer), peer)
  fixture.connector.open(peer, new Waiter())
  assert.equal(fixture.transport.dials.length, 2)
})

test('connector: a session that cannot be used again is closed', () => {
  const fixture = new Fixture()
  const peer = peerOf()
  const session = fixture.open(peer)
  session.usable = false
  assert.equal(fixture.connector.release(session, peer), false)
  assert.equal(session.closed, true)
  assert.deepEqual(fixture.connector.stats(), [])
})

test('connector: a failed dial is told once, and gives its place back', () => {
  const fixture = new Fixture()
  const waiter = new Waiter()
  fixture.connector.open(peerOf({ maxConnectionsPerPeer: 1 }), waiter)
  const error = new ProxyError('CONNECT_REFUSED', 'upstream', 'x', { retry: 'always' })
  fixture.transport.dials[0]!.waiter.onDialFailed(error)
  assert.deepEqual([waiter.calls, waiter.error], [1, error])
  assert.deepEqual(fixture.connector.stats(), [])
})

test('connector: cancel ends a dial, and what comes late is nobody\'s', () => {
  const fixture = new Fixture()
  const waiter = new Waiter()
  const pending = fixture.connector.open(peerOf(), waiter)
  pending.cancel()
  pending.cancel()
  assert.equal(fixture.transport.dials[0]!.cancelled, true)
  fixture.transport.dials[0]!.waiter.onDialFailed(new ProxyError('CONNECT_FAILED', 'upstream', 'late'))
  assert.equal(waiter.calls, 0)
  assert.deepEqual(fixture.connector.stats(), [])
})

test('connector: cancel after the session came changes nothing', () => {
  const fixture = new Fixture()
  const waiter = new Waiter()
  const pending = fixture.connector.open(peerOf(), waiter)
  fixture.connect()
  pending.cancel()
  assert.equal((waiter.connection as FakeConnection).closed, false)
  assert.equal(fixture.connector.stats()[0]!.active, 1)
})

test('connector: bytes behind the answer to CONNECT never reach a request', () => {
  const fixture = new Fixture()
  const waiter = new Waiter()
  fixture.connector.open(peerOf(), waiter)
  const stream = fixture.connect(Buffer.from('HTTP/1.1 200 OK\r\n\r\n'))
  assert.equal(waiter.error!.kind, 'UNEXPECTED_BYTES')
  assert.equal(stream.destroyed, true)
  assert.deepEqual(fixture.connector.stats(), [])
})

test('connector: with a limit the next in the queue gets the session that comes back, or the place that was left', async () => {
  const fixture = new Fixture()
  const peer = peerOf({ maxConnectionsPerPeer: 1 })
  const session = fixture.open(peer)
  const [first, second] = [new Waiter(), new Waiter()]
  fixture.connector.acquire(peer, first)
  fixture.connector.acquire(peer, second)
  assert.deepEqual(fixture.connector.stats(), [{ peer: '127.0.0.1:80', active: 1, idle: 0, dialling: 0, waiting: 2 }])
  fixture.connector.release(session, peer)
  await nextTick()
  assert.deepEqual([first.connection, first.reused, second.calls], [session, true, 0])
  session.usable = false
  fixture.connector.release(session, peer)
  await nextTick()
  assert.equal(fixture.transport.dials.length, 2)
  fixture.connect()
  assert.deepEqual([second.calls, second.reused], [1, false])
})

test('connector: a full queue is said later, with leave to try elsewhere; a cancelled one is not', async () => {
  const fixture = new Fixture()
  const peer = peerOf({ maxConnectionsPerPeer: 1, maxQueuedPerPeer: 0 })
  fixture.open(peer)
  const [waiter, gone] = [new Waiter(), new Waiter()]
  fixture.connector.acquire(peer, waiter)
  const pending = fixture.connector.acquire(peer, gone)
  ;(pending as PendingAcquire).cancel()
  assert.equal(waiter.calls, 0)
  await nextTick()
  assert.deepEqual([waiter.error!.kind, waiter.error!.retry, waiter.error!.limit], ['POOL_QUEUE_FULL', 'always', 'queued-per-peer'])
  assert.equal(gone.calls, 0)
})

test('connector: waiting in the queue ends by time and by cancel', async () => {
  const fixture = new Fixture()
  const peer = peerOf({ maxConnectionsPerPeer: 1, queueTimeoutMs: 300 })
  const session = fixture.open(peer)
  const [late, gone] = [new Waiter(), new Waiter()]
  fixture.connector.open(peer, late)
  fixture.connector.open(peer, gone).cancel()
  fixture.clock.advance(500)
  assert.equal(late.error!.kind, 'POOL_QUEUE_TIMEOUT')
  fixture.connector.release(session, peer)
  await nextTick()
  assert.deepEqual([late.calls, gone.calls], [1, 0])
  assert.equal(fixture.connector.stats()[0]!.idle, 1)
})

test('connector: a tracer hears of reuse, and cannot fail it', () => {
  const { tracer, events } = recordingTracer(true)
  const fixture = new Fixture()
  const peer = peerOf({ tracer })
  const session = fixture.open(peer)
  fixture.connector.release(session, peer)
  assert.equal(fixture.connector.reuse(peer), session)
  assert.deepEqual(events, ['connected 127.0.0.1:80 fake', 'reused 127.0.0.1:80'])
})

test('connector: one name is one row, whatever the keys', () => {
  const fixture = new Fixture()
  const [a, b, c] = [peerOf(), peerOf({ tcpKeepAliveCount: 5 }), peerOf({}, 'c.test:1')]
  fixture.connector.release(fixture.open(a), a)
  fixture.open(b)
  fixture.open(c)
  assert.deepEqual(fixture.connector.stats(), [
    { peer: '127.0.0.1:80', active: 1, idle: 1, dialling: 0, waiting: 0 },
    { peer: 'c.test:1', active: 1, idle: 0, dialling: 0, waiting: 0 },
  ])
  assert.equal(fixture.connector.closeIdle(), 1)
})

test('connector: after close connections are not kept', () => {
  const fixture = new Fixture()
  const peer = peerOf()
  const session = fixture.open(peer)
  fixture.connector.close()
  assert.equal(fixture.connector.release(session, peer), false)
})

test('connector: getConnection is acquire as a promise', async () => {
  const fixture = new Fixture()
  const peer = peerOf()
  const opening = fixture.connector.getConnection(peer)
  fixture.connect()
  const session = await opening
  fixture.connector.release(session, peer)
  assert.equal(await fixture.connector.getConnection(peer), session)
  const failing = fixture.connector.getConnection(peer)
  fixture.transport.dials.at(-1)!.waiter.onDialFailed(new ProxyError('CONNECT_REFUSED', 'upstream', 'x'))
  await assert.rejects(failing, { kind: 'CONNECT_REFUSED' })
  const aborting = new AbortController()
  const unwanted = fixture.connector.getConnection(peer, aborting.signal)
  aborting.abort(new Error('enough'))
  await assert.rejects(unwanted, { message: 'enough' })
  assert.equal(fixture.transport.dials.at(-1)!.cancelled, true)
  await assert.rejects(fixture.connector.getConnection(peer, AbortSignal.abort(new Error('before'))), { message: 'before' })
})

test('connector: without a factory the connection speaks HTTP/1', () => {
  const { connector, transport, ticker } = new Fixture()
  const real = new HttpConnector({ ticker, transport })
  assert.notEqual(real.pool, connector.pool)
  const waiter = new Waiter()
  real.open(peerOf(), waiter)
  transport.dials.at(-1)!.waiter.onDialed(new FakeStream({ onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }), null)
  assert.ok(waiter.connection instanceof Http1ClientSession)
  assert.equal(real.release(waiter.connection, peerOf()), true, 'a connection that carried no exchange is kept for the first one')
})

test('connector: a dial that finds no descriptor has connections at rest closed, and other faults do not', async () => {
  for (const [code, closed] of [['EMFILE', 8], ['ENFILE', 8], ['EADDRNOTAVAIL', 0], ['ECONNREFUSED', 0]] as const) {
    const fixture = new Fixture(), peer = peerOf(), other = peerOf({}, '127.0.0.1:81')
    // What other tests left at rest in this process would go first.
    fixture.connector.pool.giveBack(1000)
    const idle = Array.from({ length: 12 }, () => fixture.open(peer))
    for (const connection of idle) fixture.connector.release(connection, peer)
    const waiter = new Waiter()
    fixture.connector.open(other, waiter)
    const cause = Object.assign(new Error(code), { code })
    fixture.transport.dials.at(-1)!.waiter.onDialFailed(new ProxyError('LOCAL_EXHAUSTED', 'internal', code, { retry: 'always', cause }))
    assert.equal(waiter.error!.kind, 'LOCAL_EXHAUSTED')
    assert.deepEqual([idle.filter(connection => connection.closed).length, fixture.connector.pool.idle], [closed, 12 - closed])
    fixture.connector.closeIdle()
  }
})
