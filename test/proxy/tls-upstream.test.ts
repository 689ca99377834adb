/** Requests through the whole proxy to origins that speak TLS. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import type { ErrorKind, ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { heldBytes } from '../../src/primitives/held-bytes.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import type { UpstreamConnected } from '../../src/telemetry/tracer.ts'
import { TrafficMetrics } from '../../src/telemetry/traffic-metrics.ts'
import { get, post, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { readMetrics } from '../support/read-metrics.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { answer, tlsOrigin, type Origin } from '../support/tls-origins.ts'
import { waitFor } from '../support/wait-for.ts'

const ca = makeTestCa(), site = ca.issue({ names: ['a.test'] }), device = ca.issue({ names: ['device'] })
const TRUSTED: HttpPeerOptions = { tls: true, sni: 'a.test', ca: [ca.cert] }

interface Through {
  readonly proxy: ProxyUnderTest
  readonly errors: ProxyError[]
  readonly connector: HttpConnector
}

/** A proxy to these peers: the first attempt goes to the first one, each further one to the next. */
async function through(t: TestContext, peers: readonly HttpPeer[]): Promise<Through> {
  const errors: ProxyError[] = [], connector = new HttpConnector()
  let attempts = 0
  const proxy = await startProxy(t, {
    service: { connector },
    hooks: {
      requestFilter() {
        attempts = 0
        return 'continue'
      },
      upstreamPeer: () => peers[Math.min(attempts++, peers.length - 1)]!,
      errorWhileProxy(_session, _peer, error) { errors.push(error) },
      failToConnect(_session, _peer, error) { errors.push(error) },
    },
  })
  return { proxy, errors, connector }
}

test('tls upstream: requests and answers of every size pass, over connections that are kept', async t => {
  const origin = await tlsOrigin(t, site, socket => {
    let rest = -1
    socket.on('data', (chunk: Buffer) => {
      if (rest < 0) {
        const text = chunk.toString('latin1'), end = text.indexOf('\r\n\r\n') + 4
        rest = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0) - (chunk.length - end)
      } else rest -= chunk.length
      if (rest > 0) return
      rest = -1
      const body = Buffer.alloc(1_000_000, 'abcdefghij')
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`)
      socket.write(body)
    })
  })
  const { proxy } = await through(t, [new HttpPeer(origin.authority, TRUSTED)])
  for (const bytes of [0, 1, 1000, 16_384, 100_000, 3_000_000]) {
    const response = await proxy.exchange(post('x'.repeat(bytes)))
    assert.deepEqual([response.status, response.body.length], [200, 1_000_000])
    assert.equal(response.body.toString('latin1'), 'abcdefghij'.repeat(100_000))
  }
  assert.equal(origin.connections, 1)
})

/** Wants a client certificate, and says so behind the handshake. */
function strictOrigin(t: TestContext): Promise<Origin> { return tlsOrigin(t, { ...site, ca: ca.cert, requestCert: true }, answer) }

test('tls upstream: a client certificate that is missed behind the handshake leaves the request to the next backend', async t => {
  const strict = await strictOrigin(t), lenient = await tlsOrigin(t, site, answer)
  const { proxy, errors } = await through(t, [new HttpPeer(strict.authority, TRUSTED), new HttpPeer(lenient.authority, TRUSTED)])
  for (const request of [get('/got'), post('body', '/posted')]) assert.equal((await proxy.exchange(request)).status, 200)
  assert.deepEqual(errors.map(({ kind, retry }) => [kind, retry]), [
    ['TLS_CLIENT_CERTIFICATE_REQUIRED', 'always'], ['TLS_CLIENT_CERTIFICATE_REQUIRED', 'always'],
  ] satisfies [ErrorKind, string][])
  assert.match(errors[0]!.message, /give the peer a `clientCert`/)
  assert.equal(strict.resumed.length, 0)
})

test('tls upstream: with it the request is served, without it and without another backend it fails as what it is', async t => {
  const origin = await strictOrigin(t)
  const served = await through(t, [new HttpPeer(origin.authority, { ...TRUSTED, clientCert: device })])
  assert.equal((await served.proxy.exchange(get('/x'))).status, 200)
  const failing = await through(t, [new HttpPeer(origin.authority, { ...TRUSTED, maxAttempts: 1 })])
  assert.equal((await failing.proxy.exchange(get('/x'))).status, 502)
  assert.equal(failing.errors[0]!.kind, 'TLS_CLIENT_CERTIFICATE_REQUIRED')
})

test('tls upstream: a certificate that is refused is 502, and the next backend is asked', async t => {
  const expired = await tlsOrigin(t, ca.issueExpired({ names: ['a.test'] }), answer), good = await tlsOrigin(t, site, answer)
  const alone = await through(t, [new HttpPeer(expired.authority, TRUSTED)])
  assert.equal((await alone.proxy.exchange(post('x'))).status, 502)
  const both = await through(t, [new HttpPeer(expired.authority, TRUSTED), new HttpPeer(good.authority, TRUSTED)])
  assert.equal((await both.proxy.exchange(post('x'))).status, 200)
  assert.equal(both.errors[0]!.kind, 'TLS_CERTIFICATE_EXPIRED')
})

test('tls upstream: an answer that ends with its connection, and not with close_notify, is cut short', async t => {
  const head = 'HTTP/1.1 200 OK\r\n\r\n', body = 'x'.repeat(50_000)
  const cut = await tlsOrigin(t, site, socket => { socket.once('data', () => socket.write(head + body, () => socket.destroy())) })
  const { proxy } = await through(t, [new HttpPeer(cut.authority, TRUSTED)])
  const half = await proxy.exchange(get('/'))
  assert.deepEqual([half.status, half.complete], [200, false])
  const whole = await tlsOrigin(t, site, socket => { socket.once('data', () => socket.end(head + body)) })
  const second = await through(t, [new HttpPeer(whole.authority, TRUSTED)])
  const response = await second.proxy.exchange(get('/'))
  assert.deepEqual([response.status, response.body.length, response.complete], [200, 50_000, true])
})

test('tls upstream: tracers are told what the handshake settled, and metrics how long it took', async t => {
  const origin = await tlsOrigin(t, site, answer), peer = new HttpPeer(origin.authority, TRUSTED)
  const metrics = new Metrics(), seen: UpstreamConnected[] = []
  const connector = new HttpConnector(), tracer = { upstreamConnected(event: UpstreamConnected) { seen.push(event) } }
  const service = { connector, tracers: [new TrafficMetrics(metrics), tracer] }
  const proxy = await startProxy(t, { service, hooks: { upstreamPeer: () => peer } })
  await proxy.exchange(get('/'))
  connector.closeIdle()
  await proxy.exchange(get('/'))
  assert.deepEqual(seen.map(({ connection }) => [connection.tls!.version, connection.tls!.serverName, connection.tls!.resumed]), [
    ['TLSv1.3', 'a.test', false], ['TLSv1.3', 'a.test', true],
  ])
  assert.ok(seen.every(({ connection, durationMs }) => connection.tls!.handshakeMs > 0 && connection.tls!.handshakeMs <= durationMs))
  const counted = readMetrics(metrics.memory).get('cirque_upstream_tls_handshake_seconds')!
  assert.deepEqual([...counted.keys()].toSorted(), [`${peer.name} false`, `${peer.name} true`])
})

test('tls upstream: a tunnel carries bytes both ways, and ends of either side for themselves', async t => {
  const origin = await tlsOrigin(t, { ...site, allowHalfOpen: true }, socket => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.pipe(socket)
    })
  })
  const peer = new HttpPeer(origin.authority, TRUSTED)
  const proxy = await startProxy(t, { service: { upgrades: ['echo'] }, hooks: { upstreamPeer: () => peer } })
  const client = await proxy.connect()
  await client.write(get('/', 'Connection: Upgrade', 'Upgrade: echo'))
  assert.equal((await client.readHead()).status, 101)
  const bytes = Buffer.alloc(2_000_000, 'abcdefghijklmnopqrstuvwxyz')
  void client.write(bytes)
  assert.ok((await client.readExactly(bytes.length)).equals(bytes))
  void client.write('last words')
  client.end()
  assert.equal((await client.readUntilClose()).toString(), 'last words')
})

test('tls upstream: an answer that a slow client reads slowly is held back, and arrives whole', async t => {
  const body = Buffer.alloc(8_000_000, '0123456789')
  const origin = await tlsOrigin(t, site, socket => {
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`)
      socket.write(body)
    })
  })
  const { proxy } = await through(t, [new HttpPeer(origin.authority, TRUSTED)])
  const client = await proxy.connect()
  client.pause()
  await client.write(get('/'))
  await waitFor('the answer to be held back', () => heldBytes.now > 0, { seen: () => heldBytes.now })
  client.resume()
  const response = await client.readResponse()
  assert.ok(response.body.equals(body))
})
