/**
 * HTTP/2 with clients that others wrote: Node.js, curl, nghttp and h2load, with TLS and without. What is not installed is skipped.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders } from 'node:http2'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import fc from 'fast-check'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { heldBytes } from '../../src/primitives/held-bytes.ts'
import { requireProgram } from '../support/programs.ts'
import { startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { chunk, response, type OriginExchange } from '../support/scripted-origin.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { TlsProxy } from '../support/tls-proxy.ts'
import { waitFor } from '../support/wait-for.ts'

const LARGE = randomBytes(3_000_000)
const LARGE_SHA256 = sha256(LARGE)

function sha256(bytes: Buffer): string { return createHash('sha256').update(bytes).digest('hex') }

async function library(exchange: OriginExchange): Promise<void> {
  const { target } = exchange.request
  if (target === '/wait') {
    await exchange.send('HTTP/1.1 100 Continue\r\n\r\n')
    const request = await exchange.whole()
    return exchange.send(response(200, `${request.bodyBytes} ${request.bodySha256}`))
  }
  if (target === '/early') return exchange.send('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno')
  if (target === '/hints') {
    await exchange.send('HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n')
    return exchange.send(response(200, 'hinted'))
  }
  if (target === '/cut') {
    await exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart')
    return exchange.destroy()
  }
  const request = await exchange.whole()
  const bodiless = request.method === 'HEAD'
  if (target === '/large') {
    return exchange.send(bodiless ? `HTTP/1.1 200 OK\r\nContent-Length: ${LARGE.length}\r\n\r\n` : response(200, LARGE))
  }
  if (target === '/chunked') {
    await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    for (let from = 0; from < LARGE.length; from += 70_000) await exchange.send(chunk(LARGE.subarray(from, from + 70_000)))
    return exchange.send('0\r\nX-Sum: right\r\n\r\n')
  }
  if (target === '/empty') return exchange.send('HTTP/1.1 204 No Content\r\n\r\n')
  if (target === '/seen') return exchange.send(response(200, `${request.framing} ${request.bodyBytes} ${request.bodySha256}`))
  if (target === '/head') return exchange.send(response(200, request.headText))
  return exchange.send(bodiless ? 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n' : response(200, 'hello'))
}

interface Got {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly trailers: IncomingHttpHeaders | null
  readonly interim: readonly number[]
  /** 0: the stream ended in order. */
  readonly code: number
}

function get(
  session: ClientHttp2Session, target: string, fields: Readonly<Record<string, string>> = {}, body: Buffer | null = null,
): Promise<Got> {
  return read(session.request({ ':path': target, ...fields }, { endStream: body === null }), body)
}

function read(stream: ClientHttp2Stream, body: Buffer | null): Promise<Got> {
  const { promise, resolve } = Promise.withResolvers<Got>(), chunks: Buffer[] = [], interim: number[] = []
  let headers: IncomingHttpHeaders = {}, trailers: IncomingHttpHeaders | null = null
  stream.on('headers', given => { interim.push(Number(given[':status'])) })
  stream.on('response', given => { headers = given })
  stream.on('trailers', given => { trailers = given })
  stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
  stream.on('error', () => { /* the code says it */ })
  stream.on('close', () => {
    resolve({ status: Number(headers[':status'] ?? 0), headers, body: Buffer.concat(chunks), trailers, interim, code: stream.rstCode })
  })
  if (body !== null) stream.end(body)
  return promise
}

async function withSession(proxy: { readonly port: number }, run: (session: ClientHttp2Session) => Promise<void>): Promise<void> {
  const session = http2.connect(`http://127.0.0.1:${proxy.port}`, { maxSessionMemory: 64 })
  session.on('error', () => { /* what waits for an answer sees it */ })
  try { await run(session) } finally {
    session.close()
    session.destroy()
  }
}

function runProgram(program: string, args: readonly string[]): Promise<{ stdout: Buffer; stderr: string; code: number }> {
  const { promise, resolve } = Promise.withResolvers<{ stdout: Buffer; stderr: string; code: number }>()
  execFile(program, args, { encoding: 'buffer', maxBuffer: 64 << 20, timeout: 20_000, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
    resolve({ stdout, stderr: stderr.toString(), code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1 })
  })
  return promise
}

async function serve(t: TestContext): Promise<ProxyUnderTest> { return await startProxy(t, { script: library }) }

describe('http2: Node.js as the client', () => {
  it('requests of every kind on one connection', async t => {
    const proxy = await serve(t)
    await withSession(proxy, async session => {
      const hello = await get(session, '/')
      assert.equal(hello.status, 200)
      assert.equal(hello.body.toString(), 'hello')
      assert.equal(hello.headers['content-length'], '5')
      assert.ok(hello.headers.date !== undefined)
      const asked = await get(session, '/', { ':method': 'HEAD' })
      assert.deepEqual([asked.status, asked.headers['content-length'], asked.body.length], [200, '5', 0])
      assert.equal((await get(session, '/empty')).status, 204)
      const hinted = await get(session, '/hints')
      assert.deepEqual([hinted.interim, hinted.body.toString()], [[103], 'hinted'])
      const chunked = await get(session, '/chunked', { te: 'trailers' })
      assert.equal(sha256(chunked.body), LARGE_SHA256)
      assert.equal(chunked.trailers?.['x-sum'], 'right')
      const sent = await get(session, '/seen', { ':method': 'POST' }, LARGE)
      assert.equal(sent.body.toString(), `chunked ${LARGE.length} ${LARGE_SHA256}`)
      const counted = await get(session, '/seen', { ':method': 'POST', 'content-length': '5' }, Buffer.from('hello'))
      assert.equal(counted.body.toString(), `length 5 ${sha256(Buffer.from('hello'))}`)
      const waited = await get(session, '/wait', { ':method': 'POST', 'expect': '100-continue' }, Buffer.from('hello'))
      assert.equal(waited.body.toString(), `5 ${sha256(Buffer.from('hello'))}`)
    })
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('an origin gets Host from :authority, cookies in one field, and nothing of the connection', async t => {
    const proxy = await serve(t)
    await withSession(proxy, async session => {
      const fields = { ':path': '/head', ':authority': 'b.example:81', 'cookie': ['a=1', 'b=2'], 'te': 'trailers' }
      const stream = session.request(fields as never)
      const { body } = await read(stream, null)
      const lines = body.toString().split('\r\n')
      assert.equal(lines[0], 'GET /head HTTP/1.1')
      assert.ok(lines.includes('Host: b.example:81'), body.toString())
      assert.ok(lines.includes('cookie: a=1; b=2'), body.toString())
      assert.ok(!/:authority|:path/.test(body.toString()))
    })
  })

  it('fields of any names and values pass both ways, with tables that follow one another for hundreds of heads', async t => {
    const name = fc.oneof(
      fc.constantFrom('x-a', 'server', 'vary', 'etag', 'accept', 'cache-control', 'authorization'), fc.stringMatching(/^x-[a-z0-9]{1,12}$/),
    )
    const value = fc.oneof(fc.constantFrom('a', 'gzip, deflate', 'x'.repeat(500)), fc.stringMatching(/^[!-~]([ -~]{0,60}[!-~])?$/))
    const list = fc.uniqueArray(fc.tuple(name, value), { maxLength: 12, selector: ([each]) => each })
    const lists = fc.sample(list, { numRuns: 300, seed: 7541 })
    const proxy = await startProxy(t, { script: async exchange => {
      const { headText } = await exchange.whole(), at = Number(/^GET \/(\d+) /.exec(headText)![1])
      const lines = lists[at]!.map(([each, text]) => `${each}: ${text}\r\n`).join('')
      await exchange.send(`HTTP/1.1 200 OK\r\n${lines}Content-Length: ${headText.length}\r\n\r\n${headText}`)
    } })
    await withSession(proxy, async session => {
      for (const [at, fields] of lists.entries()) {
        const got = await get(session, `/${at}`, Object.fromEntries(fields)), head = got.body.toString().split('\r\n')
        for (const [each, text] of fields) {
          assert.ok(head.includes(`${each}: ${text}`), `${each} of request ${at}`)
          assert.equal(got.headers[each], text, `${each} of answer ${at}`)
        }
      }
    })
  })

  it('many streams at once, large and small, each with its own bytes', async t => {
    const proxy = await serve(t)
    await withSession(proxy, async session => {
      const large = Array.from({ length: 4 }, () => get(session, '/large'))
      const small = Array.from({ length: 60 }, () => get(session, '/'))
      const uploads = Array.from({ length: 4 }, () => get(session, '/seen', { ':method': 'PUT' }, LARGE))
      for (const got of await Promise.all(small)) assert.equal(got.body.toString(), 'hello')
      for (const got of await Promise.all(large)) assert.equal(sha256(got.body), LARGE_SHA256)
      for (const got of await Promise.all(uploads)) assert.equal(got.body.toString(), `chunked ${LARGE.length} ${LARGE_SHA256}`)
    })
  })

  it('an answer before the request is whole ends the rest of it; one that breaks off is no whole one', async t => {
    const proxy = await serve(t)
    await withSession(proxy, async session => {
      const early = session.request({ ':path': '/early', ':method': 'POST' }, { endStream: false })
      early.write('a part')
      const answered = await read(early, null)
      assert.deepEqual([answered.status, answered.body.toString(), answered.code], [403, 'no', 0])
      const cut = await get(session, '/cut')
      assert.equal(cut.code, http2.constants.NGHTTP2_INTERNAL_ERROR)
      assert.equal((await get(session, '/')).status, 200, 'the others go on')
    })
  })

  it('a stream that its client resets is given up at the origin, and the connection goes on', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.request.target === '/never' ? undefined : library(exchange) })
    await withSession(proxy, async session => {
      const stream = session.request({ ':path': '/never' })
      stream.on('error', () => { /* asked for */ })
      await waitFor('the request to arrive', () => proxy.origin.requests.length === 1)
      stream.close(http2.constants.NGHTTP2_CANCEL)
      await waitFor('the origin to lose its connection', () => proxy.origin.openConnections === 0)
      assert.equal((await get(session, '/')).status, 200)
    })
  })

  it('refused heads are answered or reset, and reach no origin', async t => {
    const proxy = await startProxy(t, { script: library, listener: { maxUriBytes: 256 } })
    await withSession(proxy, async session => {
      const statusOf = async (fields: Record<string, string>): Promise<number> => {
        return (await get(session, fields[':path'] ?? '/', fields)).status
      }
      assert.equal(await statusOf({ ':path': `/${'a'.repeat(300)}` }), 414)
      assert.equal(await statusOf({ 'x-long': 'a'.repeat(20_000) }), 431)
      assert.equal(await statusOf({ 'expect': 'more' }), 417)
      assert.equal(await statusOf({ ':authority': 'a@b' }), 400)
      const connect = session.request({ ':method': 'CONNECT', ':authority': 'a.example:443' })
      assert.equal((await read(connect, null)).status, 405)
      assert.equal(await statusOf({}), 200)
    })
    assert.equal(proxy.origin.requests.length, 1)
  })
})

describe('http2: through the whole proxy', () => {
  it('a WebSocket over extended CONNECT reaches an origin of HTTP/1, and its bytes pass both ways to the end', async t => {
    const proxy = await startProxy(t, { script: async exchange => {
      assert.match(exchange.request.headText, /^GET \/chat HTTP\/1\.1\r\n/)
      assert.match(exchange.request.headText, /\r\nUpgrade: websocket\r\n/i)
      const key = /sec-websocket-key: (.*)\r\n/i.exec(exchange.request.headText)?.[1] ?? ''
      await exchange.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        `Sec-WebSocket-Accept: ${createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')}\r\n\r\n`)
      exchange.connection.socket.on('data', (bytes: Buffer) => { exchange.connection.socket.write(bytes) })
      exchange.connection.socket.on('end', () => { exchange.end() })
    } })
    await withSession(proxy, async session => {
      await once(session, 'remoteSettings')
      assert.equal(session.remoteSettings.enableConnectProtocol, true)
      const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13' })
      const chunks: Buffer[] = []
      stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
      const [headers] = await once(stream, 'response') as [IncomingHttpHeaders]
      assert.equal(headers[':status'], 200)
      assert.equal(headers['sec-websocket-accept'], undefined)
      // A ping of five bytes, masked with zeros.
      const ping = Buffer.from('898500000000', 'hex')
      stream.write(Buffer.concat([ping, Buffer.from('hello')]))
      await waitFor('the ping to come back', () => Buffer.concat(chunks).length >= 11)
      const ended = once(stream, 'close')
      stream.end()
      await ended
      assert.equal(stream.rstCode, 0)
    })
  })

  it('an answer without a body and with trailers, as gRPC has it', async t => {
    const proxy = await startProxy(t, { script: async exchange => {
      const request = await exchange.whole()
      assert.match(request.headText, /\r\nTE: trailers\r\n/i)
      await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/grpc\r\n\r\n')
      await exchange.send('5\r\n\0\0\0\0\0\r\n0\r\ngrpc-status: 5\r\ngrpc-message: none\r\n\r\n')
    } })
    await withSession(proxy, async session => {
      const fields = { ':method': 'POST', 'te': 'trailers', 'content-type': 'application/grpc' }
      const got = await get(session, '/a.B/C', fields, Buffer.from('\0\0\0\0\0'))
      assert.deepEqual([got.status, got.body.length, got.trailers?.['grpc-status'], got.code], [200, 5, '5', 0])
    })
  })

  it('stopping waits for streams under way, and takes none behind the second GOAWAY', async t => {
    const answer = Promise.withResolvers<void>()
    const proxy = await startProxy(t, { script: async exchange => {
      await exchange.whole()
      await answer.promise
      await exchange.send(response(200, 'late'))
    } })
    const session = http2.connect(`http://127.0.0.1:${proxy.port}`), told: number[] = []
    session.on('goaway', (_code, last: number) => { told.push(last) })
    const asked = get(session, '/')
    await waitFor('the request to arrive', () => proxy.origin.requests.length === 1)
    const stopped = proxy.server.stop({ ...drainOrder('stop', DRAIN_DEFAULTS, 0), hardDrainMs: 5000 })
    await waitFor('both of them', () => told.length === 2)
    answer.resolve()
    assert.equal((await asked).body.toString(), 'late')
    const { cut } = await stopped
    assert.equal(cut, 0)
    assert.equal(told[1], 1)
    session.destroy()
  })

  it('a client that does not read one answer reads the others, and none of it fills the memory', async t => {
    const proxy = await startProxy(t, { leavesExchangesOpen: true, script: async exchange => {
      if (exchange.request.target !== '/endless') return library(exchange)
      await exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n')
      const piece = Buffer.alloc(1_000_000)
      for (let sent = 0; sent < 100 && !exchange.connection.closed; sent++) await exchange.send(piece)
    } })
    await withSession(proxy, async session => {
      const endless = session.request({ ':path': '/endless' })
      endless.on('error', () => { /* asked for */ })
      await once(endless, 'response')
      endless.pause()
      for (let round = 0; round < 10; round++) assert.equal((await get(session, '/')).body.toString(), 'hello')
      assert.ok(heldBytes.now < 2_000_000, `${heldBytes.now} bytes are held`)
      endless.close(http2.constants.NGHTTP2_CANCEL)
      await once(endless, 'close')
      assert.equal((await get(session, '/large')).body.length, LARGE.length)
    })
  })
})

describe('http2: with TLS', () => {
  it('is offered, preferred, and not where it is turned off', async t => {
    const ca = makeTestCa(), site = ca.issue({ names: ['a.test'] }), options = { certificates: [{ cert: site.cert, key: site.key }] }
    const proxy = await TlsProxy.start(t, options)
    const session = http2.connect(`https://127.0.0.1:${proxy.port}`, { ca: ca.cert, servername: 'a.test' })
    const got = await get(session, '/', { ':authority': 'a.test' })
    assert.equal(got.status, 200)
    assert.deepEqual(JSON.parse(got.body.toString()).scheme, 'https')
    assert.equal(JSON.parse(got.body.toString()).tls.alpn, 'h2')
    session.destroy()
    const answer = await proxy.get('a.test', { ALPNProtocols: ['http/1.1', 'h2'] }).catch(() => null)
    assert.equal(answer?.status ?? 0, 0, 'a client that names both and speaks HTTP/1 gets no answer in it')
    const without = await TlsProxy.start(t, options, { listener: { http2: { enabled: false } } })
    const answered = await without.get('a.test', { ALPNProtocols: ['h2', 'http/1.1'] })
    assert.equal(answered.facts?.tls.alpn, 'http/1.1')
  })
})

describe('http2: curl', () => {
  const PRIOR = ['--http2-prior-knowledge', '-sS', '--max-time', '15']

  it('bodies both ways, beside HTTP/1 on one port', async t => {
    const curl = requireProgram(t, 'curl')
    if (curl === null) return
    const proxy = await serve(t), url = `http://${proxy.authority}`, file = path.join(temporaryFolder(t), 'large')
    writeFileSync(file, LARGE)
    const large = await runProgram(curl, [...PRIOR, `${url}/large`])
    assert.equal(sha256(large.stdout), LARGE_SHA256, large.stderr)
    const sent = await runProgram(curl, [...PRIOR, '--data-binary', `@${file}`, `${url}/seen`])
    assert.equal(sent.stdout.toString(), `length ${LARGE.length} ${LARGE_SHA256}`, sent.stderr)
    const versions = await Promise.all([PRIOR, PRIOR.slice(1)].map(args => {
      return runProgram(curl, [...args, '-w', ' %{http_version}', `${url}/`])
    }))
    assert.deepEqual(versions.map(({ stdout }) => stdout.toString()), ['hello 2', 'hello 1.1'])
    const upgraded = await runProgram(curl, ['--http2', ...PRIOR.slice(1), '-w', ' %{http_version}', `${url}/`])
    assert.equal(upgraded.stdout.toString(), 'hello 1.1', 'Upgrade: h2c is not followed')
  })
})

describe('http2: nghttp and h2load', () => {
  it('a page and its parts, with padding', async t => {
    const nghttp = requireProgram(t, 'nghttp')
    if (nghttp === null) return
    const proxy = await serve(t), url = `http://${proxy.authority}`
    const got = await runProgram(nghttp, ['--padding=100', `${url}/`, `${url}/large`])
    assert.equal(got.code, 0, got.stderr)
    assert.equal(got.stdout.length, 5 + LARGE.length)
  })

  it('thousands of requests on a few connections', async t => {
    const h2load = requireProgram(t, 'h2load')
    if (h2load === null) return
    const proxy = await serve(t)
    const got = await runProgram(h2load, ['-n', '2000', '-c', '4', '-m', '50', `http://${proxy.authority}/`])
    assert.match(got.stdout.toString(), /2000 succeeded, 0 failed, 0 errored/, got.stdout.toString())
  })
})
