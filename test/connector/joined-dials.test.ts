/** Dials that requests wait for together, with a protocol of the test's own. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpConnectorOptions } from '../../src/connector/connector-options.ts'
import { HttpConnector, type ConnectionWaiter, type PendingAcquire } from '../../src/connector/http-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { PEER_DEFAULTS, type PeerOptions } from '../../src/peer/peer-options.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { FakeConnection, type FakeExchange } from '../pool/fake-connection.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeStream, FakeTransport, nextTick, recordingTracer } from './fakes.ts'

/** A request that begins its exchange as soon as it has a connection. */
class Request implements ConnectionWaiter {
  readonly peer: Peer
  pending: PendingAcquire | null = null
  exchange: FakeExchange | null = null
  reused = false
  error: ProxyError | null = null
  calls = 0
  /** What it does besides, in the same call. */
  besides = (): void => {}
  constructor(peer: Peer) { this.peer = peer }
  get connection(): FakeConnection | null { return this.exchange?.connection ?? null }
  onConnection(connection: UpstreamConnection, reused: boolean): void {
    this.calls++
    assert.ok(connection instanceof FakeConnection)
    this.exchange = connection.begin(null, this.peer.options)
    this.reused = reused
    this.besides()
  }
  onConnectionFailed(error: ProxyError): void {
    this.calls++
    this.error = error
    this.besides()
  }
}

/** Connections to the origin take `streams` exchanges, or one at a time where the origin did not agree on 'many'. */
class Fixture {
  readonly ticker = new Ticker(new FakeClock())
  readonly transport = new FakeTransport()
  readonly connector: HttpConnector
  streams: number
  constructor(streams = 10, options: HttpConnectorOptions = {}) {
    this.streams = streams
    this.connector = new HttpConnector({
      ticker: this.ticker,
      transport: this.transport,
      createConnection: (_stream, _peer, _ticker, facts) => new FakeConnection('', facts.alpn === 'many' ? this.streams : 0),
      expectedExchanges: () => 10,
      ...options,
    })
  }
  request(peer: Peer, count = 1): Request[] {
    return Array.from({ length: count }, () => {
      const request = new Request(peer)
      const connection = this.connector.reuse(peer)
      if (connection === null) request.pending = this.connector.open(peer, request)
      else request.onConnection(connection, true)
      return request
    })
  }
  establish(at: number, alpn = 'many'): void {
    const stream = new FakeStream({ onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} })
    this.transport.dials[at]!.waiter.onDialed(stream, null, { alpn })
  }
  end(request: Request): void {
    request.exchange!.end()
    this.connector.release(request.connection!, request.peer)
  }
  get dials(): number { return this.transport.dials.length }
  get stats(): readonly number[] {
    const [row] = this.connector.stats()
    return row === undefined ? [] : [row.active, row.idle, row.dialling, row.waiting]
  }
}

const peerOf = (options?: PeerOptions): Peer => new HttpPeer('127.0.0.1:80', options)
const refused = (): ProxyError => new ProxyError('CONNECT_REFUSED', 'upstream', 'no', { retry: 'always', cause: new Error('ECONNREFUSED') })

test('joined dial: cold requests wait for one dial, and get its connection in the order in which they came', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 10)
  assert.deepEqual([fixture.dials, fixture.stats], [1, [0, 0, 1, 0]])
  const order: Request[] = []
  for (const request of requests) request.besides = () => { order.push(request) }
  fixture.establish(0)
  assert.deepEqual(order, requests)
  assert.equal(new Set(requests.map(request => request.connection)).size, 1)
  assert.ok(requests.every(request => request.calls === 1 && !request.reused))
  assert.deepEqual([fixture.dials, fixture.stats], [1, [1, 0, 0, 0]])
  for (const request of requests) fixture.end(request)
  assert.deepEqual(fixture.stats, [0, 1, 0, 0])
})

test('joined dial: 100 cold requests make as many dials as the expected capacity needs', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 100)
  assert.equal(fixture.dials, 10)
  for (let at = 0; at < 10; at++) fixture.establish(at)
  assert.ok(requests.every(request => request.exchange !== null))
  assert.equal(new Set(requests.map(request => request.connection)).size, 10)
})

test('joined dial: how many exchanges are expected follows from the peer, where the connector is not told otherwise', () => {
  for (const [options, dials] of [[{ alpn: 'h2', maxH2Streams: 50 }, 2], [{ alpn: 'h2h1' }, 1], [{}, 100]] as const) {
    const fixture = new Fixture(10, { expectedExchanges: null })
    const { address, name, reuseKey, sni, tls } = peerOf()
    fixture.request({ address, name, reuseKey, sni, tls, connectProxy: null, options: { ...PEER_DEFAULTS, ...options } }, 100)
    assert.equal(fixture.dials, dials, JSON.stringify(options))
  }
})

test('joined dial: a connection with less room than expected serves the first, and the others dial anew, together', () => {
  const fixture = new Fixture(4)
  const requests = fixture.request(peerOf(), 10)
  fixture.establish(0)
  assert.deepEqual(requests.map(request => request.calls), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
  assert.deepEqual([fixture.dials, fixture.stats], [2, [1, 0, 1, 0]])
  fixture.establish(1)
  fixture.establish(2)
  assert.ok(requests.every(request => request.calls === 1 && request.exchange !== null))
  assert.deepEqual([fixture.dials, fixture.stats], [3, [3, 0, 0, 0]])
})

test('joined dial: room that is left goes to requests that come later, without a dial', () => {
  const fixture = new Fixture()
  const [first] = fixture.request(peerOf())
  fixture.establish(0)
  const [second] = fixture.request(peerOf())
  assert.deepEqual([second!.connection, second!.reused, fixture.dials], [first!.connection, true, 1])
})

test('joined dial: an exclusive connection is the first request\'s; the others dial for themselves, and so do later ones', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 4)
  fixture.establish(0, '')
  assert.deepEqual(requests.map(request => request.calls), [1, 0, 0, 0])
  assert.deepEqual([fixture.dials, fixture.stats], [4, [1, 0, 3, 0]])
  fixture.request(peerOf(), 3)
  assert.equal(fixture.dials, 7, 'nobody waits for another\'s dial any more')
  for (let at = 1; at < 4; at++) fixture.establish(at, '')
  assert.equal(new Set(requests.map(request => request.connection)).size, 4)
  assert.deepEqual(fixture.stats, [4, 0, 3, 0])
})

test('joined dial: dials under way when a key turns out to be exclusive are joined no more', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 15)
  assert.equal(fixture.dials, 2)
  fixture.establish(0, '')
  assert.equal(fixture.dials, 2 + 9)
  fixture.establish(1, '')
  assert.equal(fixture.dials, 2 + 9 + 4)
  assert.equal(requests.filter(request => request.calls === 1).length, 2)
})

test('joined dial: a key whose connections are shared again is joined again', () => {
  const fixture = new Fixture()
  const peer = peerOf()
  fixture.request(peer)
  fixture.establish(0, '')
  fixture.request(peer, 2)
  assert.equal(fixture.dials, 3)
  fixture.establish(1)
  fixture.request(peer, 9 + 5)
  assert.equal(fixture.dials, 4, 'nine have room, five wait for one dial')
})

test('joined dial: a fault is told to all that wait, once, and what one makes of it does not change it for the others', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 3)
  requests[0]!.besides = () => { requests[0]!.error!.retry = 'never' }
  const error = refused()
  fixture.transport.dials[0]!.waiter.onDialFailed(error)
  assert.deepEqual(requests.map(request => request.calls), [1, 1, 1])
  for (const { error: told } of requests) {
    assert.ok(told instanceof ProxyError)
    assert.deepEqual([told.kind, told.source, told.message, told.cause], [error.kind, error.source, error.message, error.cause])
  }
  assert.deepEqual(requests.map(request => request.error!.retry), ['never', 'always', 'always'])
  assert.deepEqual(fixture.stats, [])
})

test('joined dial: a request may dial anew within the fault of the one that it waited for', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 2)
  const again: Request[] = []
  for (const request of requests) request.besides = () => { again.push(...fixture.request(peerOf())) }
  fixture.transport.dials[0]!.waiter.onDialFailed(refused())
  assert.equal(fixture.dials, 2)
  fixture.establish(1)
  assert.deepEqual(again.map(request => request.calls), [1, 1])
})

test('joined dial: goes on for the others when the first request gives up, and ends with the last', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 3)
  requests[0]!.pending!.cancel()
  assert.equal(fixture.transport.dials[0]!.cancelled, false)
  fixture.establish(0)
  assert.deepEqual(requests.map(request => request.calls), [0, 1, 1])

  const others = fixture.request(new HttpPeer('127.0.0.1:81'), 3)
  for (const request of others) request.pending!.cancel()
  assert.equal(fixture.transport.dials[1]!.cancelled, true)
  fixture.establish(1)
  fixture.transport.dials[1]!.waiter.onDialFailed(refused())
  assert.deepEqual(others.map(request => request.calls), [0, 0, 0])
  assert.equal(fixture.connector.stats().length, 1)
})

test('joined dial: a request that gives up makes room in the dial for another', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 10)
  requests[4]!.pending!.cancel()
  fixture.request(peerOf())
  assert.equal(fixture.dials, 1)
  fixture.request(peerOf())
  assert.equal(fixture.dials, 2)
})

test('joined dial: what the first exchange does to the connection or to the others leaves nothing behind', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 3)
  requests[0]!.besides = () => requests[1]!.pending!.cancel()
  fixture.establish(0)
  assert.deepEqual(requests.map(request => request.calls), [1, 0, 1])
  assert.equal(requests[0]!.connection!.poolLent, 2)

  const dying = fixture.request(new HttpPeer('127.0.0.1:81'), 3)
  dying[0]!.besides = () => { dying[0]!.connection!.usable = false }
  fixture.establish(1)
  assert.deepEqual(dying.map(request => request.calls), [1, 0, 0])
  assert.deepEqual([dying[0]!.connection!.poolLent, fixture.dials], [1, 3])
  fixture.establish(2)
  assert.deepEqual(dying.map(request => request.calls), [1, 1, 1])

  const ending = fixture.request(new HttpPeer('127.0.0.1:82'), 2)
  ending[0]!.besides = () => fixture.end(ending[0]!)
  fixture.establish(3)
  assert.equal(ending[1]!.connection, ending[0]!.connection)
  fixture.end(ending[1]!)
  assert.equal(ending[0]!.connection!.parked, true)
})

test('joined dial: a connection that takes nothing when it is established is a fault that may be tried again', () => {
  const fixture = new Fixture(10, {
    createConnection: () => Object.assign(new FakeConnection('', 10), { usable: false }),
  })
  const requests = fixture.request(peerOf(), 2)
  fixture.establish(0)
  for (const { error, calls } of requests) assert.deepEqual([calls, error!.kind, error!.retry], [1, 'CONNECT_FAILED', 'always'])
  assert.deepEqual(fixture.stats, [])
})

test('joined dial: takes one place of a peer\'s limit, and those that wait for it none', async () => {
  const fixture = new Fixture()
  const peer = peerOf({ maxConnectionsPerPeer: 1, maxQueuedPerPeer: 3 })
  const requests = fixture.request(peer, 10)
  assert.deepEqual(fixture.stats, [0, 0, 1, 0])
  const queued = fixture.request(peer, 3)
  assert.deepEqual([fixture.dials, fixture.stats], [1, [0, 0, 1, 3]])
  requests[0]!.pending!.cancel()
  const [full] = fixture.request(peer)
  assert.equal(full!.pending === null, false)
  await nextTick()
  assert.equal(full!.error!.kind, 'POOL_QUEUE_FULL', 'those in the queue have the first right to the room that came free')
  fixture.establish(0)
  await nextTick()
  assert.deepEqual(queued.map(request => request.calls), [1, 0, 0])
  fixture.end(requests[1]!)
  await nextTick()
  assert.deepEqual(queued.map(request => request.calls), [1, 1, 0])
})

test('joined dial: those that an exclusive connection could not serve wait for places like any other', async () => {
  const fixture = new Fixture()
  const peer = peerOf({ maxConnectionsPerPeer: 2, maxQueuedPerPeer: 2 })
  const requests = fixture.request(peer, 5)
  fixture.establish(0, '')
  assert.deepEqual([fixture.dials, fixture.stats], [2, [1, 0, 1, 2]])
  await nextTick()
  assert.deepEqual(requests.map(request => request.error?.kind ?? ''), ['', '', '', '', 'POOL_QUEUE_FULL'])
  fixture.end(requests[0]!)
  await nextTick()
  assert.equal(requests[2]!.connection, requests[0]!.connection)
})

test('joined dial: an exclusive connection that comes free at once serves the next', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 2)
  requests[0]!.besides = () => fixture.end(requests[0]!)
  fixture.establish(0, '')
  assert.deepEqual([requests[1]!.connection, requests[1]!.reused, fixture.dials], [requests[0]!.connection, true, 1])
})

test('joined dial: a tracer hears of reuse where a connection was there before, not of those that waited for it', () => {
  const { tracer, events } = recordingTracer()
  const fixture = new Fixture()
  const peer = peerOf({ tracer })
  fixture.request(peer, 3)
  fixture.establish(0)
  assert.deepEqual(events, ['connected 127.0.0.1:80 fake'])
  fixture.request(peer)
  assert.deepEqual(events, ['connected 127.0.0.1:80 fake', 'reused 127.0.0.1:80'])
})

test('joined dial: each exchange has the limits of its own peer', () => {
  const fixture = new Fixture()
  const [patient, hasty] = [peerOf({ readTimeoutMs: 60_000 }), peerOf({ readTimeoutMs: 10, maxResponseHeadBytes: 512 })]
  const requests = [...fixture.request(patient), ...fixture.request(hasty)]
  fixture.establish(0)
  assert.equal(requests[0]!.connection, requests[1]!.connection)
  assert.deepEqual(requests.map(request => request.exchange!.limits), [patient.options, hasty.options])
})

test('joined dial: bytes before any request are a fault for all that wait', () => {
  const fixture = new Fixture()
  const requests = fixture.request(peerOf(), 2)
  const stream = new FakeStream({ onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} })
  fixture.transport.dials[0]!.waiter.onDialed(stream, Buffer.from('x'))
  assert.deepEqual(requests.map(request => request.error!.kind), ['UNEXPECTED_BYTES', 'UNEXPECTED_BYTES'])
  assert.equal(stream.destroyed, true)
})
