/** What is different for a call of gRPC: answers of our own, its deadline, and how long it may be silent. */
import assert from 'node:assert/strict'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { describe, it, test, type TestContext } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { HttpListenerOptions } from '../../src/listener/http-listener-options.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { HttpProxyOptions } from '../../src/server/http-proxy-options.ts'
import { inject } from '../../src/server/inject.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { call, framed, WireCall, wireClient, wireOrigin, type CallResult, type WireOrigin } from '../support/grpc-wire.ts'
import { post, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { waitFor } from '../support/wait-for.ts'

const Code = { None: 0, Internal: 2, Cancel: 8 } as const
const REFUSED = '127.0.0.1:1'

/** One attempt: the next would wait for time that the test does not pass. */
function unreachable(): HttpPeer { return new HttpPeer(REFUSED, { alpn: 'h2', maxAttempts: 1 }) }

type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

interface Setting {
  readonly proxy: ProxyUnderTest
  readonly origin: WireOrigin
  readonly clock: FakeClock
  /** Streams that the origin was given. */
  readonly streams: ServerHttp2Stream[]
  readonly asked: IncomingHttpHeaders[]
}

/** A proxy whose time the test passes by hand, in front of an origin in HTTP/2. */
async function set(
  t: TestContext, serve: Serve = () => { /* says nothing */ }, hooks: Partial<ProxyHttp<undefined>> = {}, service: HttpProxyOptions = {},
  listener: HttpListenerOptions = {},
): Promise<Setting> {
  const clock = new FakeClock(), streams: ServerHttp2Stream[] = [], asked: IncomingHttpHeaders[] = []
  const origin = await wireOrigin(t, (stream, headers) => {
    streams.push(stream)
    asked.push(headers)
    serve(stream, headers)
  })
  const peer = new HttpPeer(`127.0.0.1:${origin.port}`, { alpn: 'h2' })
  const proxy = await startProxy(t, {
    hooks: { upstreamPeer: () => peer, ...hooks },
    service: { connector: new HttpConnector({ ticker: new Ticker(clock) }), ...service },
    listener,
  })
  return { proxy, origin, clock, streams, asked }
}

function assertTrailersOnly({ status, headers, trailers, body, code }: CallResult, grpcStatus: number, message: RegExp): void {
  const seen = [status, headers['content-type'], headers['grpc-status'], trailers, body.length, code]
  assert.deepEqual(seen, [200, 'application/grpc', String(grpcStatus), null, 0, Code.None])
  assert.match(String(headers['grpc-message']), message)
}

describe('grpc call: answers of our own', () => {
  it('an origin that cannot be reached is UNAVAILABLE, and the message names the request', async t => {
    const { proxy } = await set(t, undefined, { upstreamPeer: () => unreachable() })
    const result = await call(wireClient(t, proxy.port), '/a.B/C')
    assertTrailersOnly(result, 14, /^502 Bad Gateway, request [\w-]+$/)
  })

  it('a client that has not sent its whole request is told as well', async t => {
    const { proxy } = await set(t, undefined, { upstreamPeer: () => unreachable() })
    const asked = new WireCall(wireClient(t, proxy.port), '/a.B/C')
    asked.stream.write(framed('first'))
    assertTrailersOnly(await asked.result, 14, /^502 /)
  })

  it('what a filter, a throw and failToProxy say is said in gRPC, with what else their heads say', async t => {
    const { proxy } = await set(t, undefined, {
      requestFilter: session => {
        switch (session.request.path) {
          case '/denied': return session.respond(403, { 'Content-Type': 'text/html', 'X-Why': 'rules' }, '<h1>no</h1>')
          case '/limited': return session.respond(429, {}, 'slower, please: ü')
          case '/thrown': throw new ProxyError('STATUS', 'internal', 'no such service', { status: 404 })
          case '/broken': throw new Error('planned')
          case '/streamed': return session.respond(503, {}, (async function* () { yield 'never read' })())
          case '/own': return session.respond(200, { 'Content-Type': 'application/grpc', 'Grpc-Status': '9', 'Grpc-Message': 'mine' })
          case '/kept': return session.respond(400, { 'Content-Type': 'application/grpc', 'Grpc-Status': '3' })
          default: return 'continue'
        }
      },
      upstreamPeer: () => unreachable(),
      failToProxy: (session, error) => {
        if (session.request.path !== '/paged') return undefined
        session.respond(503, { 'Content-Type': 'text/plain' }, `sorry\n${error.kind}`)
        return { status: 503, canReuseDownstream: true }
      },
    })
    const session = wireClient(t, proxy.port)
    const denied = await call(session, '/denied')
    assertTrailersOnly(denied, 7, /^Forbidden$/)
    assert.equal(denied.headers['x-why'], 'rules')
    assertTrailersOnly(await call(session, '/limited'), 14, /^slower, please: %C3%BC$/)
    assertTrailersOnly(await call(session, '/thrown'), 12, /^404 Not Found, request /)
    assertTrailersOnly(await call(session, '/broken'), 13, /^500 Internal Server Error, /)
    assertTrailersOnly(await call(session, '/streamed'), 14, /^Service Unavailable$/)
    assertTrailersOnly(await call(session, '/own'), 9, /^mine$/)
    assertTrailersOnly(await call(session, '/paged'), 14, /^sorry, CONNECT_REFUSED$/)
    const kept = await call(session, '/kept')
    assert.deepEqual([kept.status, kept.headers['grpc-status']], [400, '3'])
  })

  it('a request that is no call is answered in HTTP, whatever else it says', async t => {
    const { proxy } = await set(t, undefined, { requestFilter: session => session.respond(403, {}, 'no') })
    const session = wireClient(t, proxy.port)
    const requests: Record<string, string>[] = [{ 'content-type': 'application/grpcx' }, { ':method': 'PUT' }]
    for (const fields of requests) {
      const { status, headers, body } = await call(session, '/', fields)
      assert.deepEqual([status, headers['grpc-status'], body.toString()], [403, undefined, 'no'])
    }
  })

  it('each family is answered with its own media type', async t => {
    const { proxy } = await set(t, undefined, { requestFilter: session => session.respond(403) })
    const session = wireClient(t, proxy.port)
    for (const [sent, got] of [
      ['application/grpc+proto', 'application/grpc+proto'], ['application/grpc-web-text; charset=x', 'application/grpc-web-text'],
    ] as const) {
      const { status, headers } = await call(session, '/', { 'content-type': sent })
      assert.deepEqual([status, headers['content-type'], headers['grpc-status']], [200, got, '7'])
    }
  })

  it('a shed call is UNAVAILABLE; one that is too large is RESOURCE_EXHAUSTED', async t => {
    const { proxy } = await set(t, undefined, {}, { maxActiveRequests: 1 }, { maxRequestBodyBytes: 100 })
    const session = wireClient(t, proxy.port), first = new WireCall(session, '/first')
    first.stream.write(framed('waits'))
    await waitFor('the first call to be under way', () => proxy.server.stats().activeExchanges === 1, { seen: () => proxy.server.stats() })
    const shed = await call(session, '/second')
    assertTrailersOnly(shed, 14, /^503 Service Unavailable, /)
    assert.equal(shed.headers['retry-after'], '1')
    first.stream.write(Buffer.alloc(101))
    assertTrailersOnly(await first.result, 8, /^413 Content Too Large, /)
  })

  it('a head that is refused before it becomes a request is answered in gRPC, wherever its content type stands', async t => {
    const { proxy } = await set(t, undefined, {}, {}, { maxHeadBytes: 1024, maxUriBytes: 256, maxHeaderCount: 20 })
    const session = wireClient(t, proxy.port), many = Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`x-${i}`, '1']))
    assertTrailersOnly(await call(session, '/large', { 'x-a': 'a'.repeat(2000) }), 8, /^Request Header Fields Too Large$/)
    assertTrailersOnly(await call(session, `/${'a'.repeat(300)}`), 8, /^URI Too Long$/)
    const late = session.request({ ':method': 'POST', ':path': '/', ...many, 'content-type': 'application/grpc' })
    const [headers] = await new Promise<[IncomingHttpHeaders]>(resolve => { late.on('response', given => resolve([given])) })
    late.resume()
    assert.deepEqual([headers[':status'], headers['grpc-status']], [200, '8'])
    const plain = await call(session, '/large', { 'content-type': 'text/plain', 'x-a': 'a'.repeat(2000) })
    assert.deepEqual([plain.status, plain.headers['grpc-status'], plain.headers['content-length']], [431, undefined, '0'])
  })

  it('faults of ours count as such, although the client was sent 200', async t => {
    const { proxy } = await set(t, undefined, { requestFilter: () => { throw new Error('planned') } })
    await call(wireClient(t, proxy.port), '/')
    assert.equal(proxy.server.stats().ownFaults, 1)
  })

  it('what an origin answers passes as it is, whether it is an answer of gRPC or not', async t => {
    const { proxy } = await set(t, (stream, headers) => {
      if (headers[':path'] === '/html') {
        stream.respond({ ':status': 502, 'content-type': 'text/html' })
        stream.end('<h1>inner</h1>')
      } else stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '5' }, { endStream: true })
    })
    const session = wireClient(t, proxy.port)
    const html = await call(session, '/html')
    assert.deepEqual([html.status, html.headers['grpc-status'], html.body.toString()], [502, undefined, '<h1>inner</h1>'])
    const only = await call(session, '/only')
    assert.deepEqual([only.status, only.headers['grpc-status'], only.headers['grpc-message'], only.trailers], [200, '5', undefined, null])
  })

  it('an origin that breaks off behind its head resets the call: what is cut does not pass as whole', async t => {
    const { proxy } = await set(t, stream => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
      stream.write(framed('part'), () => stream.destroy(new Error('cut')))
    })
    const { status, body, trailers, code } = await call(wireClient(t, proxy.port), '/')
    assert.deepEqual([status, body, trailers, code], [200, framed('part'), null, Code.Internal])
  })
})

test('grpc call: a stream without a message ends with a frame of DATA, as the protocol has it', async t => {
  const atHead: boolean[] = []
  const origin = await wireOrigin(t, (stream, _headers, endsAtHead) => {
    atHead.push(endsAtHead)
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' }, { endStream: true })
    stream.resume()
  })
  const peer = new HttpPeer(`127.0.0.1:${origin.port}`, { alpn: 'h2' })
  const proxy = await startProxy(t, { hooks: { upstreamPeer: () => peer } })
  const session = wireClient(t, proxy.port)
  await new Promise(resolve => { session.once('remoteSettings', resolve) })
  const asked = new WireCall(session, '/')
  // Head and end come in one read.
  asked.stream.end()
  assert.equal((await asked.result).headers['grpc-status'], '0')
  const get = session.request({ ':path': '/' }, { endStream: true })
  get.resume()
  await new Promise(resolve => { get.once('close', resolve) })
  assert.deepEqual(atHead, [false, true], 'a request that has no body at all ends at its head')
})

test('grpc call: a filter of bodies cannot give an answer of trailers alone a body', async () => {
  const app: ProxyHttp<undefined> = {
    newCtx: () => undefined, upstreamPeer: () => new HttpPeer(REFUSED), requestFilter: session => session.respond(403, {}, 'no'),
    modules: [{ name: 'adds', responseBodyFilter: (_session, chunk, last) => last ? Buffer.from('more') : chunk }],
  }
  const { status, headers, body } = await inject(app, { method: 'POST', headers: { 'Content-Type': 'application/grpc-web' }, body: 'x' })
  assert.deepEqual([status, headers.get('content-length'), headers.get('grpc-message'), body.length], [200, '0', 'no', 0])
})

/** Steps of 100 ms, in which the sockets have their turns. */
async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) {
    clock.advance(100)
    await new Promise(resolve => { setImmediate(resolve) })
  }
}

describe('grpc call: grpc-timeout', () => {
  it('ends the call while the origin says nothing: DEADLINE_EXCEEDED, and the origin sees it cancelled', async t => {
    const { proxy, origin, clock, streams, asked } = await set(t)
    const result = call(wireClient(t, proxy.port), '/', { 'grpc-timeout': '2S' })
    await waitFor('the origin to be asked', () => streams.length === 1)
    assert.equal(asked[0]!['grpc-timeout'], '2S')
    await pass(clock, 1900)
    assert.deepEqual(origin.codes, [])
    await pass(clock, 200)
    assertTrailersOnly(await result, 4, /^408 Request Timeout, /)
    await waitFor('the origin to see the end', () => origin.codes.length === 1)
    assert.deepEqual(origin.codes, [Code.Cancel])
  })

  it('resets the call with CANCEL once its head has passed', async t => {
    const { proxy, origin, clock } = await set(t, stream => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
      stream.write(framed('first'))
    })
    const asked = new WireCall(wireClient(t, proxy.port), '/', { 'grpc-timeout': '500m' })
    asked.stream.end(framed('hello'))
    await asked.headers
    await pass(clock, 600)
    const { status, trailers, code } = await asked.result
    assert.deepEqual([status, trailers, code], [200, null, Code.Cancel])
    await waitFor('the origin to see the end', () => origin.codes.length === 1)
    assert.deepEqual(origin.codes, [Code.Cancel])
  })

  it('holds while a hook is waited for, and tells the hook', async t => {
    let reason: unknown = null, waits = false
    const { proxy, clock } = await set(t, undefined, {
      requestFilter: session => new Promise((_resolve, reject) => {
        waits = true
        session.signal.addEventListener('abort', () => {
          reason = session.signal.reason
          reject(new Error('given up'))
        })
      }),
    })
    const result = call(wireClient(t, proxy.port), '/', { 'grpc-timeout': '300m' })
    await waitFor('the hook to be called', () => waits)
    await pass(clock, 400)
    assertTrailersOnly(await result, 4, /^408 /)
    assert.ok(reason instanceof ProxyError)
    assert.deepEqual([reason.kind, reason.limit], ['TOTAL_TIMEOUT', 'grpc-timeout'])
  })

  it('holds for all attempts together', async t => {
    let attempts = 0
    const { proxy, clock } = await set(t, undefined, {
      upstreamPeer: () => {
        attempts++
        return new HttpPeer(REFUSED, { alpn: 'h2', maxAttempts: 100, retryBudgetPercent: 100 })
      },
    })
    const result = call(wireClient(t, proxy.port), '/', { 'grpc-timeout': '150m' })
    await waitFor('a second attempt', () => attempts > 1)
    await pass(clock, 1000)
    assertTrailersOnly(await result, 4, /^408 /)
  })

  it('passes unread where it is none: the origin says what it thinks of it', async t => {
    const { proxy, clock, asked, streams } = await set(t)
    const result = call(wireClient(t, proxy.port), '/', { 'grpc-timeout': '100000000S' })
    await waitFor('the origin to be asked', () => streams.length === 1)
    await pass(clock, 10_000)
    assert.equal(asked[0]!['grpc-timeout'], '100000000S')
    streams[0]!.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '13' }, { endStream: true })
    assert.equal((await result).headers['grpc-status'], '13')
  })

  it('of 0 has passed', async t => {
    const { proxy, clock } = await set(t)
    const result = call(wireClient(t, proxy.port), '/', { 'grpc-timeout': '0n' })
    await waitFor('the call to be under way', () => proxy.server.stats().activeExchanges === 1)
    await pass(clock, 100)
    assert.equal((await result).headers['grpc-status'], '4')
  })

  it('of a request that is no call means nothing', async t => {
    const { proxy, clock, streams } = await set(t)
    const result = call(wireClient(t, proxy.port), '/', { 'grpc-timeout': '1m', 'content-type': 'text/plain' })
    await waitFor('the origin to be asked', () => streams.length === 1)
    await pass(clock, 1000)
    streams[0]!.respond({ ':status': 200 })
    streams[0]!.end('late')
    assert.equal((await result).body.toString(), 'late')
  })
})

describe('grpc call: streams', () => {
  it('no limit of one direction cuts a call while the other one moves', async t => {
    const { proxy, clock, streams } = await set(t)
    const asked = new WireCall(wireClient(t, proxy.port), '/')
    asked.stream.write(framed('hello'))
    await waitFor('the origin to be asked', () => streams.length === 1)
    // No head for four minutes, and nothing from the client: past firstByteTimeoutMs, bodyIdleTimeoutMs and minBodyBytesPerSecond.
    await pass(clock, 240_000)
    streams[0]!.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    await asked.headers
    for (let round = 1; round <= 3; round++) {
      await pass(clock, 200_000)
      streams[0]!.write(framed('tick'))
      await waitFor('the message to come', () => asked.stream.readableFlowing === true && proxy.server.stats().activeExchanges === 1)
      await pass(clock, 200)
    }
    streams[0]!.on('wantTrailers', () => streams[0]!.sendTrailers({ 'grpc-status': '0' }))
    streams[0]!.end()
    const { trailers, body } = await asked.result
    assert.deepEqual([trailers?.['grpc-status'], body.length], ['0', 27])
  })

  it('silence of both for streamIdleTimeoutMs resets it, and the origin sees it cancelled', async t => {
    const { proxy, clock, origin, streams } = await set(t, undefined, {}, {}, { streamIdleTimeoutMs: 5000 })
    const session = wireClient(t, proxy.port), before = new WireCall(session, '/before')
    before.stream.write(framed('hello'))
    await waitFor('the origin to be asked', () => streams.length === 1)
    await pass(clock, 5300)
    assert.equal((await before.result).code, Code.Cancel)
    const behind = new WireCall(session, '/behind')
    await waitFor('the origin to be asked again', () => streams.length === 2)
    streams[1]!.respond({ ':status': 200, 'content-type': 'application/grpc' })
    await behind.headers
    await pass(clock, 5300)
    assert.equal((await behind.result).code, Code.Cancel)
    await waitFor('the origin to see both ends', () => origin.codes.length === 2)
    assert.deepEqual(origin.codes, [Code.Cancel, Code.Cancel])
  })

  it('over HTTP/1, where one direction has the word, it is the longest silence of that one', async t => {
    const { proxy, clock, streams } = await set(t, undefined, {}, {}, { streamIdleTimeoutMs: 90_000 })
    const client = await proxy.connect()
    await client.write(post('hello', '/', 'Content-Type: application/grpc-web'))
    await waitFor('the origin to be asked', () => streams.length === 1)
    await pass(clock, 80_000)
    assert.equal(proxy.server.stats().activeExchanges, 1)
    await pass(clock, 20_000)
    const answer = await client.readResponse()
    assert.deepEqual([answer.status, answer.field('grpc-status')], [200, '14'])
  })

  it('a hook gives a call another one, or none, and other times of its origin', async t => {
    const { proxy, clock, streams } = await set(t, undefined, {
      earlyRequestFilter: session => {
        if (session.request.path === '/endless') session.setLimits({ streamIdleTimeoutMs: 0 })
        else if (session.request.path === '/short') session.setLimits({ streamIdleTimeoutMs: 1000 })
        else session.setLimits({ firstByteTimeoutMs: 1000 })
      },
    })
    const session = wireClient(t, proxy.port), endless = new WireCall(session, '/endless')
    await waitFor('the origin to be asked', () => streams.length === 1)
    const short = call(session, '/short'), strict = call(session, '/strict')
    await waitFor('the origin to be asked for all of them', () => streams.length === 3)
    await pass(clock, 1300)
    assert.equal((await short).code, Code.Cancel)
    assertTrailersOnly(await strict, 14, /^504 Gateway Timeout, /)
    await pass(clock, 600_000)
    streams[0]!.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' }, { endStream: true })
    assert.equal((await endless.headers)['grpc-status'], '0')
    endless.stream.close()
  })
})
