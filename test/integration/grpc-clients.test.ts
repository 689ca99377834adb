/**
 * gRPC by its own library for Node.js on both sides of the proxy, in every way in which its clients can come and origins be reached: with
 * TLS and without. The cases are those of gRPC's interoperability tests that are about the wire.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { after, before, describe, it, type TestContext } from 'node:test'
import { Metadata, status } from '@grpc/grpc-js'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { HttpPeer, Server, SILENT_LOG, httpProxyService } from '../../src/index.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import {
  asking, Caller, CallServer, ECHO_INITIAL, ECHO_TRAILING, numbered, WANTED_MESSAGE, WANTED_STATUS, type Ended,
} from '../support/grpc-calls.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { waitFor } from '../support/wait-for.ts'

const WAYS = ['h2c to h2c', 'TLS to h2c', 'h2c to TLS', 'TLS to TLS']
const REQUEST_SIZES = [27_182, 8, 1828, 45_904], RESPONSE_SIZES = [31_415, 9, 2653, 58_979]
const LARGE = 16 * 1024 * 1024
const SPECIAL_MESSAGE = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n % %25'

const ca = makeTestCa(), site = ca.issue({ names: ['localhost'], ips: ['127.0.0.1'] })

/** One server in front of an origin that speaks with TLS and without, with a service for each way. */
class Edge {
  readonly origin: CallServer
  readonly server: Server
  /** By `TLS to h2c` and the like. */
  readonly ports: ReadonlyMap<string, number>
  /** Bytes of the requests that are over. */
  readonly bodies: readonly number[]

  private constructor(origin: CallServer, server: Server, ports: ReadonlyMap<string, number>, bodies: readonly number[]) {
    this.origin = origin
    this.server = server
    this.ports = ports
    this.bodies = bodies
  }

  static async start(): Promise<Edge> {
    const origin = await CallServer.start(site), server = new Server().limits({ maxLoopDelayMs: 0 })
    const bodies: number[] = []
    const plain = new HttpPeer(`127.0.0.1:${origin.plainPort}`, { alpn: 'h2' })
    const secure = new HttpPeer(`127.0.0.1:${origin.tlsPort}`, { alpn: 'h2', tls: true, sni: 'localhost', ca: [ca.cert] })
    for (const way of WAYS) {
      const peer = way.endsWith('TLS') ? secure : plain
      const service = httpProxyService({
        upstreamPeer: () => peer, suppressErrorLog: () => true, logging: session => { bodies.push(session.bytesReceived) },
      }, { accessLog: null, name: way })
      if (way.startsWith('TLS')) service.addTls('127.0.0.1:0', { certificates: [{ cert: site.cert, key: site.key }] })
      else service.addTcp('127.0.0.1:0')
      server.addService(service)
    }
    const bound = await server.start({ log: SILENT_LOG })
    return new Edge(origin, server, new Map(bound.map(({ name, port }) => [name.split('/', 1)[0]!, port])), bodies)
  }

  async stop(): Promise<void> {
    const stats = (): unknown => this.server.stats()
    await waitFor('all exchanges to be over', () => this.server.stats().activeExchanges === 0, { seen: stats })
    const { cut } = await this.server.stop({ ...drainOrder('stop', DRAIN_DEFAULTS, 0), hardDrainMs: 2000 })
    this.server.close()
    this.origin.stop()
    assert.equal(cut, 0)
  }
}

function sizesOf({ messages }: Ended): number[] { return messages.map(({ length }) => length) }
function codeOf({ status: { code, details } }: Ended): string { return code === status.OK ? 'OK' : `${status[code]}: ${details}` }

for (const way of WAYS) {
  describe(`grpc: ${way}`, () => {
    let edge!: Edge, caller!: Caller
    before(async () => {
      edge = await Edge.start()
      caller = new Caller(edge.ports.get(way)!, way.startsWith('TLS') ? ca.cert : '')
    })
    after(async () => {
      caller.close()
      await edge.stop()
    })

    /** The origin sees the call of this method end by cancelling. */
    async function seenCancelled(name: string, before: number): Promise<void> {
      const { cancelled } = edge.origin
      await waitFor('the origin to see it cancelled', () => cancelled.length > before, { seen: () => cancelled })
      assert.equal(cancelled.at(-1), name)
    }

    async function begunCalls(count: number): Promise<void> {
      await waitFor('the call to come to the origin', () => edge.origin.begun.length >= count)
    }

    it('empty unary', async () => {
      const ended = await caller.unary('Unary', Buffer.alloc(0)).ended
      assert.deepEqual([codeOf(ended), sizesOf(ended)], ['OK', [0]])
    })

    it('large unary', async () => {
      const ended = await caller.unary('Unary', asking(314_159, 271_828)).ended
      assert.deepEqual([codeOf(ended), sizesOf(ended)], ['OK', [314_159]])
    })

    it('a message of 16 MiB, both ways', async () => {
      const ended = await caller.unary('Unary', asking(LARGE, LARGE)).ended
      assert.deepEqual([codeOf(ended), sizesOf(ended)], ['OK', [LARGE]])
      assert.equal(ended.messages[0]!.every(byte => byte === 0x72), true)
    })

    it('client streaming', async () => {
      const { call, ended } = caller.sum()
      for (const size of REQUEST_SIZES) call.write(Buffer.alloc(size))
      call.end()
      assert.deepEqual((await ended).messages, [numbered(74_922)])
    })

    it('server streaming', async () => {
      const ended = await caller.sizes(RESPONSE_SIZES).ended
      assert.deepEqual([codeOf(ended), sizesOf(ended)], ['OK', RESPONSE_SIZES])
    })

    it('ping-pong: each message is answered before the next one is sent', async () => {
      const { call, ended } = caller.duplex('PingPong')
      for (const [index, size] of RESPONSE_SIZES.entries()) {
        const got = new Promise<Buffer>(resolve => { call.once('data', resolve) })
        call.write(asking(size, REQUEST_SIZES[index]))
        assert.equal((await got).length, size)
      }
      call.end()
      assert.equal(codeOf(await ended), 'OK')
    })

    it('half-duplex: all answers come behind the last question', async () => {
      const { call, ended } = caller.duplex('Later')
      for (const size of RESPONSE_SIZES) call.write(asking(size))
      call.end()
      assert.deepEqual(sizesOf(await ended), RESPONSE_SIZES)
    })

    it('empty stream', async () => {
      const { call, ended } = caller.duplex('PingPong')
      call.end()
      const whole = await ended
      assert.deepEqual([codeOf(whole), whole.messages], ['OK', []])
    })

    it('cancel after begin', async () => {
      const { cancelled, begun } = edge.origin, before = cancelled.length, count = begun.length + 1
      const { call, ended } = caller.sum()
      await begunCalls(count)
      call.cancel()
      assert.equal((await ended).status.code, status.CANCELLED)
      await seenCancelled('Sum', before)
    })

    it('cancel after the first response', async () => {
      const before = edge.origin.cancelled.length, { call, ended } = caller.duplex('PingPong')
      call.write(asking(31_415, 27_182))
      await new Promise(resolve => { call.once('data', resolve) })
      call.cancel()
      const whole = await ended
      assert.deepEqual([whole.status.code, sizesOf(whole)], [status.CANCELLED, [31_415]])
      await seenCancelled('PingPong', before)
    })

    it('a deadline on a server that sleeps', async () => {
      const { cancelled, begun } = edge.origin, before = cancelled.length, count = begun.length + 1
      const { ended } = caller.unary('Sleep', Buffer.alloc(0), { deadline: Date.now() + 300 })
      await begunCalls(count)
      assert.equal((await ended).status.code, status.DEADLINE_EXCEEDED)
      await seenCancelled('Sleep', before)
    })

    it('status code and message', async () => {
      const metadata = new Metadata()
      metadata.set(WANTED_STATUS, '2')
      metadata.set(WANTED_MESSAGE, Buffer.from('test status message'))
      assert.equal(codeOf(await caller.unary('Unary', asking(1), { metadata }).ended), 'UNKNOWN: test status message')
      const { call, ended } = caller.duplex('PingPong', { metadata })
      call.end(asking(1))
      assert.equal(codeOf(await ended), 'UNKNOWN: test status message')
    })

    it('special status message', async () => {
      const metadata = new Metadata()
      metadata.set(WANTED_STATUS, '2')
      metadata.set(WANTED_MESSAGE, Buffer.from(SPECIAL_MESSAGE))
      const { status: { code, details } } = await caller.unary('Unary', asking(1), { metadata }).ended
      assert.deepEqual([code, details], [status.UNKNOWN, SPECIAL_MESSAGE])
    })

    it('unimplemented method, and service', async () => {
      for (const name of ['/cirque.test.Calls/Nothing', '/cirque.test.Nobody/Nothing']) {
        const { status: { code, details } } = await caller.unary(name, Buffer.alloc(0)).ended
        assert.equal(code, status.UNIMPLEMENTED)
        assert.match(details, /does not implement/)
      }
    })

    it('custom metadata, initial and trailing, as text and as bytes', async () => {
      const bytes = Buffer.from([0xab, 0xab, 0xab, 0, 255]), metadata = new Metadata()
      metadata.set(ECHO_INITIAL, 'test_initial_metadata_value')
      metadata.set(ECHO_TRAILING, bytes)
      const unary = caller.unary('Unary', asking(9), { metadata }), { call, ended } = caller.duplex('PingPong', { metadata })
      call.end(asking(9))
      for (const whole of [await unary.ended, await ended]) {
        assert.deepEqual(sizesOf(whole), [9])
        assert.deepEqual(whole.metadata.get(ECHO_INITIAL), ['test_initial_metadata_value'])
        assert.deepEqual(whole.status.metadata.get(ECHO_TRAILING), [bytes])
      }
    })

    it('messages that the client compresses', async () => {
      const before = edge.bodies.length, gzips = new Caller(edge.ports.get(way)!, way.startsWith('TLS') ? ca.cert : '', true)
      try {
        const ended = await gzips.unary('Unary', asking(314_159, 271_828)).ended
        assert.deepEqual([codeOf(ended), sizesOf(ended)], ['OK', [314_159]])
        const { call, ended: summed } = gzips.sum()
        for (const size of REQUEST_SIZES) call.write(Buffer.alloc(size))
        call.end()
        assert.deepEqual((await summed).messages, [numbered(74_922)])
        await waitFor('both exchanges to be over', () => edge.bodies.length >= before + 2)
        const passed = edge.bodies.slice(before)
        assert.ok(passed.every(bytes => bytes > 0 && bytes < 10_000), `bodies of ${passed.join(' and ')} bytes`)
      } finally { gzips.close() }
    })

    it('a hundred calls at a time', async () => {
      const all = await Promise.all(Array.from({ length: 100 }, (_, index) => caller.unary('Unary', asking(index, index)).ended))
      assert.deepEqual(all.map(sizesOf), Array.from({ length: 100 }, (_, index) => [index]))
    })
  })
}

describe('grpc: what the proxy says itself', () => {
  async function callerTo(t: TestContext, app: Parameters<typeof httpProxyService<undefined>>[0]): Promise<Caller> {
    const server = new Server().limits({ maxLoopDelayMs: 0 })
    server.addService(httpProxyService<undefined>({ newCtx: () => undefined, suppressErrorLog: () => true, ...app }, { accessLog: null })
      .addTcp('127.0.0.1:0'))
    const [bound] = await server.start({ log: SILENT_LOG }), caller = new Caller(bound!.port, '')
    t.after(async () => {
      caller.close()
      await server.stop()
      server.close()
    })
    return caller
  }

  it('is a status of gRPC for the library', async t => {
    const peer = new HttpPeer('127.0.0.1:1', { alpn: 'h2' })
    const caller = await callerTo(t, {
      requestFilter: session => session.request.path === '/a.B/Denied' ? session.respond(403, {}, 'not yours: ü') : 'continue',
      upstreamPeer: () => peer,
    })
    const { status: refused } = await caller.unary('Unary', asking(1)).ended
    assert.equal(refused.code, status.UNAVAILABLE)
    assert.match(refused.details, /^502 Bad Gateway, request /)
    const { status: denied } = await caller.unary('/a.B/Denied', asking(1)).ended
    assert.deepEqual([denied.code, denied.details], [status.PERMISSION_DENIED, 'not yours: ü'])
    const { call, ended } = caller.sum('/a.B/Denied')
    call.write(asking(1))
    assert.deepEqual((await ended).status.details, 'not yours: ü')
  })
})
