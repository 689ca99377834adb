/**
 * Origins that speak HTTP/2: Node.js and nghttpd, with TLS and without, for clients of either version. What is not installed is
 * skipped.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http2, { type ClientHttp2Session, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import net, { type AddressInfo } from 'node:net'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { HttpPeer } from '../../src/index.ts'
import { heldBytes } from '../../src/primitives/held-bytes.ts'
import type { HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { requireProgram } from '../support/programs.ts'
import { get, post, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { answer, tlsOrigin } from '../support/tls-origins.ts'
import { waitFor } from '../support/wait-for.ts'

const LARGE = randomBytes(3_000_000)
const LARGE_SHA256 = sha256(LARGE)

function sha256(bytes: Buffer): string { return createHash('sha256').update(bytes).digest('hex') }

function library(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  stream.on('error', () => { /* as the case may be */ })
  switch (headers[':path']) {
    case '/large': stream.respond({ ':status': 200 }); stream.end(LARGE); break
    case '/trailers':
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '5' }))
      stream.end('\0\0\0\0\0')
      break
    case '/hints':
      stream.additionalHeaders({ ':status': 103, 'link': '</a.css>' })
      stream.respond({ ':status': 200 })
      stream.end('hinted')
      break
    case '/early': stream.respond({ ':status': 403 }); stream.end('no'); break
    case '/cut':
      stream.respond({ ':status': 200 })
      // `close` would end it in order.
      stream.write('part', () => stream.destroy(new Error('cut')))
      break
    case '/empty': stream.respond({ ':status': 204 }, { endStream: true }); break
    case '/head': stream.respond({ ':status': 200 }); stream.end(JSON.stringify(headers)); break
    case '/seen': {
      const chunks: Buffer[] = []
      stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
      stream.on('end', () => {
        const body = Buffer.concat(chunks)
        stream.respond({ ':status': 200 })
        stream.end(`${body.length} ${sha256(body)} ${headers['content-length'] ?? '-'}`)
      })
      break
    }
    default:
      stream.respond({ ':status': 200, 'content-length': '5' }, headers[':method'] === 'HEAD' ? { endStream: true } : {})
      if (headers[':method'] !== 'HEAD') stream.end('hello')
  }
}

interface Origin { readonly server: Http2Server; readonly port: number; readonly sessions: number }

async function listen(t: TestContext, server: Http2Server, serve: typeof library = library): Promise<Origin> {
  const open = new Set<http2.ServerHttp2Session>()
  let sessions = 0
  server.on('session', session => {
    sessions++
    open.add(session)
    session.on('close', () => open.delete(session))
    session.on('error', () => { /* as the case may be */ })
  })
  server.on('stream', serve)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    for (const session of open) session.destroy()
    server.close()
    await once(server, 'close')
  })
  return { server, port: (server.address() as AddressInfo).port, get sessions() { return sessions } }
}

function proxyTo(t: TestContext, port: number, peer: HttpPeerOptions = {}): Promise<ProxyUnderTest> {
  const upstream = new HttpPeer(`127.0.0.1:${port}`, { alpn: 'h2', ...peer })
  return startProxy(t, { hooks: { upstreamPeer: () => upstream } })
}

interface Got { readonly status: number; readonly body: Buffer; readonly trailers: IncomingHttpHeaders | null; readonly code: number }

function ask(session: ClientHttp2Session, target: string, fields: Record<string, string> = {}, body: Buffer | null = null): Promise<Got> {
  const { promise, resolve } = Promise.withResolvers<Got>(), chunks: Buffer[] = []
  const stream = session.request({ ':path': target, ...fields }, { endStream: body === null })
  let status = 0, trailers: IncomingHttpHeaders | null = null
  stream.on('response', given => { status = Number(given[':status']) })
  stream.on('trailers', given => { trailers = given })
  stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
  stream.on('error', () => { /* the code says it */ })
  stream.on('close', () => resolve({ status, body: Buffer.concat(chunks), trailers, code: stream.rstCode }))
  if (body !== null) stream.end(body)
  return promise
}

async function withSession(proxy: ProxyUnderTest, run: (session: ClientHttp2Session) => Promise<void>): Promise<void> {
  const session = http2.connect(`http://127.0.0.1:${proxy.port}`, { maxSessionMemory: 64 })
  session.on('error', () => { /* what waits for an answer sees it */ })
  try { await run(session) } finally { session.destroy() }
}

describe('http2 origins: Node.js, for clients of HTTP/1', () => {
  it('requests of every kind share one connection', async t => {
    const origin = await listen(t, http2.createServer()), proxy = await proxyTo(t, origin.port)
    assert.equal((await proxy.exchange(get())).body.toString(), 'hello')
    const asked = await proxy.exchange('HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n', { method: 'HEAD' })
    assert.deepEqual([asked.status, asked.body.length], [200, 0])
    assert.equal((await proxy.exchange(get('/empty'))).status, 204)
    assert.equal(sha256((await proxy.exchange(get('/large'))).body), LARGE_SHA256)
    assert.equal((await proxy.exchange(post('hello', '/seen'))).body.toString(), `5 ${sha256(Buffer.from('hello'))} 5`)
    const chunked = 'POST /seen HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'
    assert.equal((await proxy.exchange(chunked)).body.toString(), `5 ${sha256(Buffer.from('hello'))} -`)
    const seen = JSON.parse((await proxy.exchange(get('/head', 'X-One: 1', 'Connection: keep-alive, x-two', 'X-Two: 2'))).body.toString())
    assert.deepEqual(
      [seen[':authority'], seen[':scheme'], seen['x-one'], seen['x-two'], seen.host, seen.connection],
      ['a.example', 'http', '1', undefined, undefined, undefined],
    )
    assert.equal(origin.sessions, 1)
  })

  it('many at once are dialled for together', async t => {
    const origin = await listen(t, http2.createServer()), proxy = await proxyTo(t, origin.port)
    const bodies = await Promise.all(Array.from({ length: 60 }, () => proxy.exchange(get())))
    for (const { body } of bodies) assert.equal(body.toString(), 'hello')
    assert.equal(origin.sessions, 1)
  })

  it('an answer that breaks off is cut, and the others go on', async t => {
    const origin = await listen(t, http2.createServer()), proxy = await proxyTo(t, origin.port)
    await assert.rejects(proxy.exchange(get('/cut')))
    assert.equal((await proxy.exchange(get())).status, 200)
    assert.equal(origin.sessions, 1)
  })

  it('an origin that goes away is left, and one that is gone is dialled anew', async t => {
    const origin = await listen(t, http2.createServer()), proxy = await proxyTo(t, origin.port), live: http2.ServerHttp2Session[] = []
    origin.server.on('session', session => { live.push(session) })
    assert.equal((await proxy.exchange(get())).status, 200)
    live[0]!.goaway(0, 1)
    assert.equal((await proxy.exchange(get())).status, 200)
    await waitFor('another connection', () => live.length === 2)
    live[1]!.destroy()
    assert.equal((await proxy.exchange(get())).status, 200)
  })

  it('what an origin refuses is asked again, also what must not be done twice', async t => {
    let streams = 0
    const origin = await listen(t, http2.createServer(), (stream, headers) => {
      stream.on('error', () => { /* asked for */ })
      if (++streams % 2 === 1) stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)
      else library(stream, headers)
    })
    const proxy = await proxyTo(t, origin.port, { retryBudgetPercent: 100 })
    for (let round = 0; round < 3; round++) {
      assert.equal((await proxy.exchange(post('hello', '/seen'))).body.toString(), `5 ${sha256(Buffer.from('hello'))} 5`)
    }
    assert.deepEqual([streams, origin.sessions], [6, 1])
  })

  it('an origin that speaks no HTTP/2 is 502', async t => {
    const server = net.createServer(socket => {
      socket.on('error', () => { /* as the case may be */ })
      socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => { server.close() })
    const proxy = await proxyTo(t, (server.address() as AddressInfo).port)
    assert.equal((await proxy.exchange(get())).status, 502)
  })
})

describe('http2 origins: Node.js, for clients of HTTP/2', () => {
  it('bodies both ways, trailers, early answers and answers that break off', async t => {
    const origin = await listen(t, http2.createServer({ maxSessionMemory: 64 })), proxy = await proxyTo(t, origin.port)
    await withSession(proxy, async session => {
      assert.equal(sha256((await ask(session, '/large')).body), LARGE_SHA256)
      const sent = await ask(session, '/seen', { ':method': 'POST' }, LARGE)
      assert.equal(sent.body.toString(), `${LARGE.length} ${LARGE_SHA256} -`)
      const called = await ask(session, '/trailers', { ':method': 'POST', 'te': 'trailers' }, Buffer.from('\0\0\0\0\0'))
      assert.deepEqual([called.status, called.body.length, called.trailers?.['grpc-status'], called.code], [200, 5, '5', 0])
      assert.equal((await ask(session, '/hints')).body.toString(), 'hinted')
      const early = session.request({ ':path': '/early', ':method': 'POST' }, { endStream: false })
      const [headers] = await once(early, 'response') as [IncomingHttpHeaders]
      assert.equal(headers[':status'], 403)
      early.resume()
      await once(early, 'close')
      assert.equal((await ask(session, '/cut')).code, http2.constants.NGHTTP2_INTERNAL_ERROR)
      const all = await Promise.all(Array.from({ length: 50 }, (_, at) => ask(session, at % 10 === 0 ? '/large' : '/')))
      for (const [at, { body }] of all.entries()) assert.equal(sha256(body), at % 10 === 0 ? LARGE_SHA256 : sha256(Buffer.from('hello')))
    })
    assert.equal(origin.sessions, 1)
  })

  it('a client that does not read its answers keeps nothing from the others', async t => {
    // As it comes it takes no more streams while so much waits to be sent.
    const origin = await listen(t, http2.createServer({ maxSessionMemory: 1000 })), proxy = await proxyTo(t, origin.port)
    await withSession(proxy, async session => {
      const unread = Array.from({ length: 40 }, () => session.request({ ':path': '/large' }))
      for (const stream of unread) stream.pause().on('error', () => { /* of the end of its connection */ })
      await Promise.all(unread.map(stream => once(stream, 'response')))
      // More than the window of their connection.
      await waitFor('the answers to be held back', () => heldBytes.now > 4 * 2 ** 20)
      assert.equal(sha256((await proxy.exchange(get('/large'))).body), LARGE_SHA256)
      await withSession(proxy, async other => { assert.equal(sha256((await ask(other, '/large')).body), LARGE_SHA256) })
      assert.equal(origin.sessions, 1)
    })
  })

  it('a stream that its client resets is reset at the origin, and the connection stays', async t => {
    let closed = 0
    const origin = await listen(t, http2.createServer(), (stream, headers) => {
      stream.on('close', () => { closed++ })
      if (headers[':path'] !== '/never') library(stream, headers)
      else stream.on('error', () => { /* asked for */ })
    })
    const proxy = await proxyTo(t, origin.port)
    let streams = 0
    origin.server.on('stream', () => { streams++ })
    await withSession(proxy, async session => {
      const stream = session.request({ ':path': '/never' })
      stream.on('error', () => { /* asked for */ })
      await waitFor('the request to arrive', () => streams === 1)
      stream.close(http2.constants.NGHTTP2_CANCEL)
      await waitFor('the stream to be reset', () => closed === 1)
      assert.equal((await ask(session, '/')).status, 200)
    })
    assert.equal(origin.sessions, 1)
  })

  it('a WebSocket passes as extended CONNECT on both sides', async t => {
    const origin = await listen(t, http2.createServer({ settings: { enableConnectProtocol: true } }), (stream, headers) => {
      stream.on('error', () => { /* as the case may be */ })
      if (headers[':method'] !== 'CONNECT') return library(stream, headers)
      assert.deepEqual([headers[':protocol'], headers[':path'], headers['sec-websocket-key']], ['websocket', '/chat', undefined])
      stream.respond({ ':status': 200 })
      stream.pipe(stream)
    })
    const proxy = await proxyTo(t, origin.port)
    await withSession(proxy, async session => {
      await once(session, 'remoteSettings')
      assert.equal((await ask(session, '/')).status, 200)
      const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13' })
      const chunks: Buffer[] = []
      stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
      const [headers] = await once(stream, 'response') as [IncomingHttpHeaders]
      assert.equal(headers[':status'], 200)
      stream.write(Buffer.from('898500000000', 'hex'))
      stream.write('hello')
      await waitFor('the ping to come back', () => Buffer.concat(chunks).length === 11)
      const ended = once(stream, 'close')
      stream.end()
      await ended
      assert.equal(stream.rstCode, 0)
    })
  })
})

describe('http2 origins: with TLS', () => {
  it('h2 where both speak it, HTTP/1.1 where the peer lets it, and a fault where it does not', async t => {
    const ca = makeTestCa(), { cert, key } = ca.issue({ names: ['a.test'] }), trust = { tls: true, sni: 'a.test', ca: [ca.cert] }
    const both = await listen(t, http2.createSecureServer({ cert, key, allowHTTP1: true }) as unknown as Http2Server)
    const old = await tlsOrigin(t, { cert, key, ALPNProtocols: ['http/1.1'] }, answer)
    const silent = await tlsOrigin(t, { cert, key }, answer)
    const statuses: number[] = []
    for (const [origin, alpn] of [[both, 'h2'], [both, 'h2h1'], [old, 'h2h1'], [old, 'h2'], [silent, 'h2']] as const) {
      const proxy = await proxyTo(t, origin.port, { ...trust, alpn })
      statuses.push((await proxy.exchange(get())).status)
    }
    assert.deepEqual(statuses, [200, 200, 200, 502, 502])
    assert.equal(both.sessions, 2)
  })
})

describe('http2 origins: nghttpd', () => {
  it('answers many at once', async t => {
    const nghttpd = requireProgram(t, 'nghttpd')
    if (nghttpd === null) return
    const folder = temporaryFolder(t)
    writeFileSync(path.join(folder, 'large'), LARGE)
    const probe = net.createServer().listen(0, '127.0.0.1')
    await once(probe, 'listening')
    const { port } = probe.address() as AddressInfo
    probe.close()
    await once(probe, 'close')
    const child = spawn(nghttpd, ['--no-tls', '-a', '127.0.0.1', '-d', folder, String(port)], { stdio: 'ignore' })
    const exited = once(child, 'exit')
    t.after(async () => {
      child.kill()
      await exited
    })
    await waitFor('nghttpd to listen', () => new Promise<boolean>(resolve => {
      const socket = net.connect(port, '127.0.0.1', () => {
        socket.destroy()
        resolve(true)
      })
      socket.on('error', () => resolve(false))
    }))
    const proxy = await proxyTo(t, port)
    for (const { body } of await Promise.all(Array.from({ length: 8 }, () => proxy.exchange(get('/large'))))) {
      assert.equal(sha256(body), LARGE_SHA256)
    }
  })
})
