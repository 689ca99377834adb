/** The parts together: real sockets, HTTP/1 sessions and the pool. */
import assert from 'node:assert/strict'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead, type ResponseHead } from '../../src/http/message-head.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import type { UpstreamOwner } from '../../src/protocols/http-session.ts'
import { waitFor, within } from '../support/wait-for.ts'
import { recordingTracer } from './fakes.ts'
import { setupFor } from '../support/request-setup.ts'

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** An origin that answers every request with 200 and keeps its connections in reach. */
async function startOrigin(t: TestContext, answer = OK): Promise<{ address: string; sockets: net.Socket[] }> {
  const sockets: net.Socket[] = []
  const server = net.createServer(socket => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', () => socket.write(answer))
  })
  await new Promise<void>((resolve, reject) => { server.on('error', reject).listen(0, '127.0.0.1', resolve) })
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`, sockets }
}

class Exchange implements UpstreamOwner {
  status = 0
  body = ''
  readonly done = Promise.withResolvers<void>()
  onInterim(): void {}
  onResponseHead(head: ResponseHead): void { this.status = head.status }
  onResponseBody(buffer: Buffer, from: number, to: number): void { this.body += buffer.latin1Slice(from, to) }
  onResponseEnd(): void { this.done.resolve() }
  onUpstreamDrained(): void {}
  onUpstreamFault(error: ProxyError): void { this.done.reject(error) }
}

async function get(connection: UpstreamConnection, peer: Peer): Promise<Exchange> {
  const exchange = new Exchange()
  const session = connection.begin(exchange, peer.options)
  session.writeHead(RequestHead.build('GET', '/', HeaderMap.from({ Host: 'a.test' })), setupFor(0))
  session.endRequest(null)
  await within('the answer', exchange.done.promise)
  return exchange
}

test('pooled http1: one connection carries one exchange after another', async t => {
  const origin = await startOrigin(t)
  const connector = new HttpConnector()
  const { tracer, events } = recordingTracer()
  const peer = new HttpPeer(origin.address, { tracer })
  for (let i = 0; i < 3; i++) {
    const session = await within('a session', connector.getConnection(peer))
    const exchange = await get(session, peer)
    assert.deepEqual([exchange.status, exchange.body, session.exchanges > 1], [200, 'ok', i > 0])
    assert.equal(connector.release(session, peer), true)
  }
  assert.equal(origin.sockets.length, 1)
  assert.deepEqual(connector.stats(), [{ peer: origin.address, active: 0, idle: 1, dialling: 0, waiting: 0 }])
  assert.equal(connector.closeIdle(), 1)
  await waitFor('the end to be told', () => events.length === 4)
  assert.deepEqual(events.map(event => event.split(' ')[0]), ['connected', 'reused', 'reused', 'closed'])
  assert.equal(connector.ticker.size, 0)
})

for (const [what, act, counter] of [
  ['closes', (socket: net.Socket) => socket.end(), 'lostClosed'],
  ['resets', (socket: net.Socket) => socket.resetAndDestroy(), 'lostClosed'],
  ['speaks unasked on', (socket: net.Socket) => socket.write('HTTP/1.1 200 OK\r\n\r\n'), 'lostUnexpectedBytes'],
] as const) {
  test(`pooled http1: an idle connection that the origin ${what} is not handed out`, async t => {
    const origin = await startOrigin(t)
    const connector = new HttpConnector()
    const peer = new HttpPeer(origin.address)
    const session = await within('a session', connector.getConnection(peer))
    await get(session, peer)
    connector.release(session, peer)
    act(origin.sockets[0]!)
    await waitFor('the loss', () => connector.pool.counters[counter] === 1)
    assert.deepEqual(connector.stats(), [])
    assert.equal(connector.reuse(peer), null)
  })
}

test('pooled http1: the origin\'s word on how long it keeps a connection is kept', async t => {
  const origin = await startOrigin(t, 'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok')
  const connector = new HttpConnector()
  const peer = new HttpPeer(origin.address)
  const session = await within('a session', connector.getConnection(peer))
  await get(session, peer)
  connector.release(session, peer)
  await waitFor('its time limit', () => connector.pool.counters.lostIdle === 1)
})

test('pooled http1: a limit of one connection serves requests one after another', async t => {
  const origin = await startOrigin(t)
  const connector = new HttpConnector()
  const options: HttpPeerOptions = { maxConnectionsPerPeer: 1 }
  const order: number[] = []
  await Promise.all(Array.from({ length: 10 }, async (_, index) => {
    const peer = new HttpPeer(origin.address, options)
    const session = await within('a session', connector.getConnection(peer))
    await get(session, peer)
    order.push(index)
    connector.release(session, peer)
  }))
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  assert.equal(origin.sockets.length, 1)
})

test('pooled http1: peers with other limits share connections, and each exchange has its own', async t => {
  const origin = await startOrigin(t)
  const connector = new HttpConnector()
  const patient = new HttpPeer(origin.address, { firstByteTimeoutMs: 60_000 })
  const strict = new HttpPeer(origin.address, { maxResponseHeadBytes: 20 })
  const connection = await within('a connection', connector.getConnection(patient))
  assert.equal((await get(connection, patient)).status, 200)
  connector.release(connection, patient)
  assert.equal(connector.reuse(strict), connection)
  await assert.rejects(get(connection, strict), { kind: 'HEAD_TOO_LARGE', limit: 'response-head-bytes' })
  assert.equal(connector.release(connection, strict), false)
  assert.equal(origin.sockets.length, 1)
})

test('pooled http1: through a CONNECT proxy, pooled apart from the straight way', async t => {
  const origin = await startOrigin(t)
  const asked: string[] = []
  const proxy = net.createServer(socket => {
    socket.once('data', chunk => {
      asked.push(chunk.toString().split('\r\n')[0]!)
      const [host, port] = origin.address.split(':')
      const far = net.connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
        socket.pipe(far).pipe(socket)
      })
      far.on('error', () => socket.destroy())
      socket.on('error', () => far.destroy())
    })
  })
  await new Promise<void>(resolve => { proxy.listen(0, '127.0.0.1', resolve) })
  t.after(() => proxy.close())
  const connector = new HttpConnector()
  const peer = new HttpPeer(origin.address, { connectProxy: { nextHop: `127.0.0.1:${(proxy.address() as net.AddressInfo).port}` } })
  for (let i = 0; i < 2; i++) {
    const session = await within('a session', connector.getConnection(peer))
    assert.equal((await get(session, peer)).body, 'ok')
    connector.release(session, peer)
  }
  assert.deepEqual(asked, [`CONNECT ${origin.address} HTTP/1.1`])
  assert.equal(connector.reuse(new HttpPeer(origin.address)), null)
  connector.closeIdle()
})
