/** The clients of HTTP/2 of the proof, against servers of Node.js that are well behaved or fail on purpose. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2, { type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { createOrigin } from '../../examples/demo-origins.ts'
import { FAULTS, type PopulationName, type PopulationReport, type ProofReport } from '../../src/config/prove-messages.ts'
import { resolveProveOptions, type ProveOptions } from '../../src/config/prove-options.ts'
import { systemClock, type Clock } from '../../src/primitives/clock.ts'
import { HttpPeer, httpProxyService, Server } from '../../src/index.ts'
import { FramesSeen } from '../../src/prove/frames-seen.ts'
import { CannotProve } from '../../src/prove/preflight.ts'
import { Proof } from '../../src/prove/proof.ts'
import { answerStream, choosesVersion, createHttp2Origin, HTTP2_SETTINGS } from '../support/http2-origin.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { waitFor } from '../support/wait-for.ts'

const MAX_STREAM = 2 ** 31 - 1
/** Those that speak HTTP/2 alone. */
const ALL: Omit<ProveOptions, 'url'> = { path: '/', ws: '/ws', upload: '/upload', uploadBytes: 100_000, messages: '/messages', http2: true }

async function listening(t: TestContext, server: net.Server, scheme = 'http'): Promise<string> {
  const sockets = new Set<net.Socket>()
  server.on('connection', (socket: net.Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `${scheme}://127.0.0.1:${(server.address() as net.AddressInfo).port}`
}

type OnSession = (session: ServerHttp2Session, socket: net.Socket, count: number) => void

/** Both versions on one port. `onSession`: of each connection of HTTP/2, from 0. */
function bothVersions(onSession: OnSession = () => {}, origin = createHttp2Origin()): net.Server {
  const server = net.createServer({ allowHalfOpen: true })
  let count = 0, socket: net.Socket
  // The session is made within that event, and does not give its socket away.
  origin.prependListener('connection', (given: net.Socket) => { socket = given })
  origin.on('session', session => {
    session.on('error', () => {})
    onSession(session, socket, count++)
  })
  choosesVersion(server, createOrigin('origin'), origin)
  return server
}

async function watch(url: string, options: Omit<ProveOptions, 'url'> = ALL): Promise<ProofReport> {
  const resolved = resolveProveOptions({ url, beforeMs: 0, forMs: 800, delayMs: 5, timeoutMs: 2000, rate: 25, connections: 5, ...options })
  const proof = await Proof.prepare(resolved)
  proof.start()
  const { promise, resolve } = Promise.withResolvers<void>()
  systemClock.after(resolved.forMs, resolve)
  await promise
  await proof.finish()
  return proof.report(null)
}

const OVER_HTTP2: readonly PopulationName[] = ['HTTP/2 requests', 'message streams', 'WebSocket over HTTP/2']

function population({ populations }: ProofReport, name: PopulationName): PopulationReport {
  return populations.find(each => each.name === name)!
}

/** All is well, and there was something. */
function losesNothing(report: ProofReport): void {
  assert.deepEqual([report.losses, report.lost], [[], 0])
  for (const name of OVER_HTTP2) assert.ok(population(report, name).outcomes.ok > 0, name)
}

test('proof over HTTP/2: nothing is lost at a server that does everything right, by prior knowledge', async t => {
  const report = await watch(await listening(t, bothVersions()))
  losesNothing(report)
  for (const { name, attempted, outcomes } of report.populations) assert.equal(outcomes.ok, attempted, name)
  assert.equal(report.populations.length, 7)
})

test('proof over HTTP/2: nothing is lost at a server that does everything right, over TLS', async t => {
  const server = http2.createSecureServer({ ...makeTestCa().issue({ names: ['a.test'] }), settings: HTTP2_SETTINGS })
  server.on('stream', answerStream)
  const report = await watch(await listening(t, server, 'https'), { path: '', ws: '', upload: '', messages: '/messages' })
  assert.deepEqual([report.losses, report.lost], [[], 0])
  assert.ok(population(report, 'message streams').outcomes.ok > 0)
})

/** Each connection of the proof is told to leave a while after it came; the first three are those before anything is counted. */
function leaving(say: (session: ServerHttp2Session, socket: net.Socket) => void): net.Server {
  return bothVersions((session, socket, count) => {
    if (count > 2) systemClock.after(150, () => { if (!session.destroyed) say(session, socket) })
  })
}

test('proof over HTTP/2: GOAWAY in two steps, every few streams, loses nothing, and no stream is opened twice', async t => {
  // Node.js refuses the streams that come behind its first GOAWAY; the proxy is a server that does not.
  const address = (await listening(t, bothVersions())).slice('http://'.length)
  const http1 = new HttpPeer(address), overHttp2 = new HttpPeer(address, { alpn: 'h2' })
  const server = new Server()
  server.addService(httpProxyService(
    { upstreamPeer: ({ request }) => request.path === '/messages' ? overHttp2 : http1 }, { accessLog: null },
  ).addTcp('127.0.0.1:0', { http2: { maxStreamsPerConnection: 10 } }))
  const [bound] = await server.start()
  t.after(() => server.stop())
  const report = await watch(`http://${bound!.address}`)
  losesNothing(report)
  for (const name of OVER_HTTP2) assert.equal(population(report, name).reopenedStreams, 0, name)
  assert.ok(population(report, 'HTTP/2 requests').politeCloses > 2)
})

test('proof over HTTP/2: a stream of messages that its connection leaves ends in time, however rare they are', async t => {
  let shiftMs = 0, gone = 0, ended = 0
  const clock: Clock = {
    now: () => systemClock.now() + shiftMs, exact: () => systemClock.exact() + shiftMs, wall: () => systemClock.wall(),
    every: (ms, run) => systemClock.every(ms, run), after: (ms, run) => systemClock.after(ms, run), random: () => systemClock.random(),
  }
  const server = bothVersions((session, _socket, count) => {
    session.on('stream', (stream, headers) => {
      if (headers[':path'] !== '/messages' || count === 0) return
      stream.once('end', () => { ended++ })
      // The answer to a PING shows that the GOAWAY before it was seen.
      session.goaway(0, MAX_STREAM)
      session.ping(() => { gone++ })
    })
  })
  const proof = await Proof.prepare(resolveProveOptions({
    url: await listening(t, server), path: '', messages: '/messages', http2: true, rate: 1, connections: 5, delayMs: 0, timeoutMs: 60_000,
  }), clock)
  proof.start()
  await waitFor('GOAWAY to be there', () => gone > 0)
  assert.equal(ended, 0)
  shiftMs = 2_000
  await waitFor('the stream to end', () => ended > 0)
  await proof.finish()
  assert.deepEqual(proof.report(null).losses, [])
})

test('proof over HTTP/2: streams that one GOAWAY leaves out are opened anew and counted, and are no loss', async t => {
  const report = await watch(await listening(t, leaving(session => session.close())))
  assert.deepEqual([report.losses, report.lost], [[], 0])
  assert.ok(population(report, 'HTTP/2 requests').reopenedStreams > 0)
})

test('proof over HTTP/2: a connection that is cut loses every stream on it', async t => {
  const report = await watch(await listening(t, leaving((_session, socket) => socket.resetAndDestroy())))
  for (const name of OVER_HTTP2) assert.ok(population(report, name).outcomes.reset > 0, name)
  assert.ok(report.losses.some(({ detail }) => /^ECONNRESET before the end of stream \d+, no GOAWAY/.test(detail)))
})

test('proof over HTTP/2: a connection that ends behind GOAWAY, and before the streams that it promised, loses them', async t => {
  const report = await watch(await listening(t, leaving((session, socket) => {
    session.goaway(0, MAX_STREAM)
    setImmediate(() => socket.end())
  })))
  const details = report.losses.map(({ detail }) => detail).join('\n')
  assert.match(details, /closed before the end of stream \d+, GOAWAY\(2147483647\)/)
  assert.ok(population(report, 'message streams').outcomes.truncated > 0)
})

test('proof over HTTP/2: streams that are reset, wrong answers and ends without trailers are counted as what they are', async t => {
  const origin = http2.createServer({ settings: HTTP2_SETTINGS })
  let count = 0
  origin.on('stream', (stream: ServerHttp2Stream, headers) => {
    // The first few are those before anything is counted.
    const spoilt = count++ > 6 ? count % 4 : 0
    if (spoilt === 1) stream.close(http2.constants.NGHTTP2_CANCEL)
    else if (spoilt === 2) stream.respond({ ':status': 502 }, { endStream: true })
    else if (spoilt === 3 && headers[':path'] === '/') {
      stream.respond({ ':status': 200 })
      stream.write('part')
      stream.close(http2.constants.NGHTTP2_CANCEL)
    } else answerStream(stream, headers)
  })
  const report = await watch(await listening(t, bothVersions(() => {}, origin)))
  const { outcomes, attempted } = population(report, 'HTTP/2 requests')
  assert.ok(outcomes.ok > 0 && outcomes.reset > 0 && outcomes.wrong > 0, JSON.stringify(outcomes))
  assert.equal(Object.values(outcomes).reduce((sum, each) => sum + each), attempted)
  const details = report.losses.map(({ detail }) => detail).join('\n')
  assert.match(details, /stream \d+ was reset with code 8, no GOAWAY/)
  assert.match(details, /status 502/)
  assert.equal(report.lost, report.populations.reduce((sum, each) => sum + FAULTS.reduce((all, fault) => all + each.outcomes[fault], 0), 0))
})

test('proof over HTTP/2: what is missing before anything is counted cannot be proven', async t => {
  const plain = await listening(t, createOrigin('origin'))
  const both = await listening(t, bothVersions())
  const secure = await listening(t, (await import('node:https')).createServer(makeTestCa().issue({ names: ['a.test'] })), 'https')
  const rows = [
    [plain, { http2: true }, /^GET \/ at \S+ over HTTP\/2 has no good answer to begin with/],
    [both, { messages: '/nothing' }, /^POST \/nothing at \S+ over HTTP\/2 has no good answer to begin with: status 404/],
    [both, { messages: '/upload' }, /over HTTP\/2 has no good answer to begin with: the message did not come back/],
    [secure, { path: '', messages: '/messages' }, /the server does not speak HTTP\/2 over TLS|ERR_SSL_\w+/],
  ] as const
  for (const [url, options, expected] of rows) {
    await assert.rejects(watch(url, options), error => error instanceof CannotProve && expected.test(error.message))
  }
})

test('frames seen: any cut of the bytes tells the same of streams', () => {
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9)
    head.writeUIntBE(payload.length, 0, 3)
    head[3] = type
    head[4] = flags
    head.writeUInt32BE(stream, 5)
    return Buffer.concat([head, payload])
  }
  const word = (...values: number[]): Buffer => Buffer.concat(values.map(value => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return bytes
  }))
  const sent = Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1'), frame(4, 0, 0, Buffer.alloc(0)),
    ...[1, 3, 5, 7].map(stream => frame(1, 0x5, stream, Buffer.alloc(20, 7))),
  ])
  const received = Buffer.concat([
    frame(4, 0, 0, Buffer.alloc(12)), frame(1, 0x4, 1, Buffer.alloc(10)), frame(0, 0x1, 1, Buffer.alloc(100)),
    frame(1, 0x5, 3, Buffer.alloc(3)), frame(3, 0, 5, word(8)), frame(7, 0, 0, word(5, 0)),
  ])
  for (let size = 1; size < 60; size++) {
    const goAways: unknown[] = [], seen = new FramesSeen(goAway => goAways.push(goAway))
    for (let at = 0; at < sent.length; at += size) seen.sent(sent.subarray(at, at + size))
    for (let at = 0; at < received.length; at += size) seen.received(received.subarray(at, at + size))
    const factsOf = (stream: number): unknown[] => {
      return [seen.wasOpened(stream), seen.wasEnded(stream), seen.resetWith(stream), seen.isLeftOut(stream)]
    }
    assert.deepEqual([1, 3, 5, 7, 9].map(factsOf), [
      [true, true, null, false], [true, true, null, false], [true, false, 8, false], [true, false, null, true], [false, false, null, true],
    ])
    assert.deepEqual(goAways, [{ lastStream: 5, code: 0 }])
  }
})
