/** What tracers are told of connections to an origin, from the dial to the end, with the transport's own dialling below. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector, type ConnectionWaiter } from '../../src/connector/http-connector.ts'
import { TransportConnector } from '../../src/connector/transport-connector.ts'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import type { Tracer, UpstreamClosed, UpstreamConnected, UpstreamConnectFailed } from '../../src/telemetry/tracer.ts'
import { tracerFaults, TracerGroup } from '../../src/telemetry/tracer-group.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeNetwork, nextTick, recordingTracer } from './fakes.ts'

class Waiter implements ConnectionWaiter {
  connection: UpstreamConnection | null = null
  error: ProxyError | null = null
  onConnection(connection: UpstreamConnection): void { this.connection = connection }
  onConnectionFailed(error: ProxyError): void { this.error = error }
}

class Fixture {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly network = new FakeNetwork()
  readonly connector: HttpConnector
  constructor() {
    const transport = new TransportConnector({ ticker: this.ticker, dial: this.network.dial })
    this.connector = new HttpConnector({ ticker: this.ticker, transport })
  }
  open(peer: HttpPeer, tracers?: TracerGroup | null): Waiter & { cancel(): void } {
    const waiter = new Waiter()
    const pending = this.connector.open(peer, waiter, tracers)
    return Object.assign(waiter, { cancel: () => pending.cancel() })
  }
}

interface Told { readonly connected: UpstreamConnected[]; readonly failed: UpstreamConnectFailed[]; readonly closed: UpstreamClosed[] }

function keepingTracer(): { tracer: Tracer; told: Told } {
  const told: Told = { connected: [], failed: [], closed: [] }
  const tracer: Tracer = {
    upstreamConnected: event => { told.connected.push(event) },
    upstreamConnectFailed: event => { told.failed.push(event) },
    upstreamClosed: event => { told.closed.push(event) },
  }
  return { tracer, told }
}

const peerOf = (tracer: Tracer, options: HttpPeerOptions = {}): HttpPeer => new HttpPeer('127.0.0.1:80', { tracer, ...options })

test('connection trace: a connection is told once, and its end once, whatever ends it', () => {
  for (const throwing of [false, true]) {
    for (const end of ['origin', 'proxy'] as const) {
      const before = tracerFaults.count
      const fixture = new Fixture(), { tracer, events } = recordingTracer(throwing)
      const peer = peerOf(tracer), waiter = fixture.open(peer), stream = fixture.network.last.connect()
      assert.ok(waiter.connection !== null)
      if (end === 'proxy') {
        waiter.connection.close()
        fixture.connector.release(waiter.connection, peer)
      }
      stream.close()
      assert.deepEqual(events, ['connected 127.0.0.1:80 127.0.0.1', 'closed 127.0.0.1:80'])
      assert.equal(tracerFaults.count - before, throwing ? 2 : 0)
    }
  }
})

test('connection trace: how long a dial took and what a connection carried is told with its end', () => {
  const fixture = new Fixture(), { tracer, told } = keepingTracer()
  const peer = peerOf(tracer), waiter = fixture.open(peer)
  fixture.clock.advance(30)
  const stream = fixture.network.last.connect()
  assert.deepEqual(told.connected, [
    { peer: '127.0.0.1:80', connection: waiter.connection!.digest, protocol: 'h1', durationMs: 30, addressesTried: 1 },
  ])
  fixture.connector.release(waiter.connection!, peer)
  fixture.clock.advance(500)
  stream.bytesRead = 7
  stream.bytesWritten = 9
  stream.receiveEnd()
  stream.close()
  assert.deepEqual(told.closed, [{
    peer: '127.0.0.1:80', connection: waiter.connection!.digest, protocol: 'h1', exchanges: 0, openMs: 500,
    bytesReceived: 7, bytesSent: 9, closedBy: 'origin', inUse: false, error: null,
  }])
})

test('connection trace: a reset within an exchange says so, and so does an eviction', () => {
  const fixture = new Fixture(), { tracer, told } = keepingTracer(), peer = peerOf(tracer)
  fixture.open(peer)
  const reset = new Error('ECONNRESET')
  fixture.network.last.connect().close(reset)
  const idle = fixture.open(peer), stream = fixture.network.last.connect()
  fixture.connector.release(idle.connection!, peer)
  fixture.connector.closeIdle()
  stream.close()
  const ends = told.closed.map(({ closedBy, inUse, error }) => [closedBy, inUse, error])
  assert.deepEqual(ends, [['origin', true, reset], ['proxy', false, null]])
})

test('connection trace: behind a CONNECT proxy a connection counts when the tunnel is open, and not when it is refused', async () => {
  const fixture = new Fixture(), { tracer, told } = keepingTracer()
  const peer = new HttpPeer('a.test:443', { tracer, connectProxy: { nextHop: '127.0.0.1:3128' } })
  fixture.open(peer)
  const stream = fixture.network.last.connect()
  assert.equal(told.connected.length, 0)
  stream.receive('HTTP/1.1 200 OK\r\n\r\n')
  assert.deepEqual(told.connected.map(event => event.peer), ['a.test:443'])
  stream.close()
  assert.deepEqual(told.closed.map(event => event.peer), ['a.test:443'])
  fixture.open(peer)
  const refused = fixture.network.last.connect()
  refused.receive('HTTP/1.1 502 Bad Gateway\r\n\r\n')
  refused.close()
  // Bytes behind the answer to CONNECT: the stream is there, and no connection is made of it.
  fixture.open(peer)
  const early = fixture.network.last.connect()
  early.receive('HTTP/1.1 200 OK\r\n\r\nx')
  early.close()
  await nextTick()
  assert.deepEqual(told.failed.map(({ peer: name }) => name), ['a.test:443', 'a.test:443'])
  assert.deepEqual(told.failed.map(({ error }) => error.kind), ['CONNECT_PROXY_FAILED', 'UNEXPECTED_BYTES'])
  assert.deepEqual([told.connected.length, told.closed.length], [1, 1])
})

test('connection trace: a failed dial is told once, with its time; one that was cancelled is not', () => {
  const fixture = new Fixture(), { tracer, told } = keepingTracer(), peer = peerOf(tracer)
  const waiter = fixture.open(peer)
  fixture.clock.advance(12)
  fixture.network.last.fail('ECONNREFUSED')
  assert.equal(waiter.error!.kind, 'CONNECT_REFUSED')
  fixture.open(peer).cancel()
  assert.deepEqual(told.failed, [{ peer: '127.0.0.1:80', error: waiter.error, durationMs: 12, addressesTried: 1 }])
})

test('connection trace: without `upstreamClosed` the stream is not wrapped', () => {
  const fixture = new Fixture()
  fixture.open(peerOf({ upstreamConnected() {} }))
  const stream = fixture.network.last.connect()
  // The session itself is its owner.
  assert.equal(stream.owner.constructor.name, 'Http1ClientSession')
  fixture.open(peerOf({ upstreamClosed() {} }))
  assert.equal(fixture.network.last.connect().owner.constructor.name, 'TracedStream')
})

test('connection trace: those who were given with the request are told instead of the peer\'s own, and null is nobody', () => {
  const fixture = new Fixture(), own = recordingTracer(), given = recordingTracer()
  const peer = peerOf(own.tracer)
  const waiter = fixture.open(peer, TracerGroup.of([given.tracer]))
  fixture.network.last.connect()
  fixture.connector.release(waiter.connection!, peer)
  assert.equal(fixture.connector.reuse(peer, null), waiter.connection)
  assert.deepEqual([given.events, own.events], [['connected 127.0.0.1:80 127.0.0.1'], []])
})

test('connection trace: a request that waited for a place is told of the connection that it was handed', async () => {
  const fixture = new Fixture(), { tracer, events } = recordingTracer(), given = recordingTracer()
  const peer = peerOf(tracer, { maxConnectionsPerPeer: 1 })
  const first = fixture.open(peer)
  fixture.network.last.connect()
  const second = fixture.open(peer, TracerGroup.of([given.tracer]))
  fixture.connector.release(first.connection!, peer)
  await nextTick()
  assert.equal(second.connection, first.connection)
  assert.deepEqual([events, given.events], [['connected 127.0.0.1:80 127.0.0.1'], ['reused 127.0.0.1:80']])
})
