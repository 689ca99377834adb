import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2, { type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import net, { type AddressInfo } from 'node:net'
import tls from 'node:tls'
import { describe, it, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { GrpcHealthCheck, servingStatusOf, type GrpcHealthCheckOptions } from '../../src/load-balancing/grpc-health-check.ts'
import { LoadBalancer } from '../../src/load-balancing/load-balancer.ts'
import type { Backend } from '../../src/load-balancing/backend.ts'
import { framed } from '../support/grpc-wire.ts'
import { makeTestCa } from '../support/test-ca.ts'

const LIVING = new AbortController().signal
const SERVING = framed(Buffer.from([0x08, 0x01]))

interface Asked { readonly headers: IncomingHttpHeaders; readonly body: Buffer }

/** A backend that answers every call so; `asked` is what it was asked. */
async function backendThat(
  t: TestContext, answer: (stream: ServerHttp2Stream) => void, secure: http2.SecureServerOptions | null = null,
): Promise<{ backend: Backend; asked: Asked[] }> {
  const server = secure === null ? http2.createServer() : http2.createSecureServer(secure)
  const asked: Asked[] = [], open = new Set<http2.ServerHttp2Session>()
  server.on('session', session => {
    open.add(session)
    session.on('close', () => open.delete(session))
    session.on('error', () => { /* as the case may be */ })
  })
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const chunks: Buffer[] = []
    stream.on('error', () => { /* as the case may be */ })
    stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
    stream.on('end', () => {
      asked.push({ headers, body: Buffer.concat(chunks) })
      answer(stream)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    for (const session of open) session.destroy()
    server.close()
    await once(server, 'close')
  })
  return { backend: backendAt(server.address() as AddressInfo), asked }
}

function backendAt({ port }: AddressInfo): Backend { return LoadBalancer.from([`127.0.0.1:${port}`]).trySelect()! }

function answer(body: Buffer, grpcStatus = '0', message = ''): (stream: ServerHttp2Stream) => void {
  return stream => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => {
      const status = grpcStatus === '' ? {} : { 'grpc-status': grpcStatus }
      stream.sendTrailers({ ...status, ...message === '' ? {} : { 'grpc-message': message } })
    })
    stream.end(body)
  }
}

function trailersOnly(grpcStatus: string): (stream: ServerHttp2Stream) => void {
  return stream => stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': grpcStatus }, { endStream: true })
}

describe('grpc health check: a backend without TLS', () => {
  it('is asked for itself, or for a service, with the time that the probe has', async t => {
    const { backend, asked } = await backendThat(t, answer(SERVING))
    await new GrpcHealthCheck({ timeoutMs: 700 }).probe(backend, LIVING)
    await new GrpcHealthCheck({ service: 'shop.v1.Orders', host: 'orders.internal' }).probe(backend, LIVING)
    await new GrpcHealthCheck({ service: 'x'.repeat(200) }).probe(backend, LIVING)
    const [whole, one, long] = asked
    const { ':path': path, ':method': method, te, 'content-type': type, 'grpc-timeout': timeout } = whole!.headers
    assert.deepEqual([path, method, te, type, timeout], ['/grpc.health.v1.Health/Check', 'POST', 'trailers', 'application/grpc', '700m'])
    assert.equal(whole!.headers[':authority'], backend.origin)
    assert.deepEqual(whole!.body, framed(''))
    assert.equal(one!.headers[':authority'], 'orders.internal')
    assert.deepEqual(one!.body, framed('\x0a\x0eshop.v1.Orders'))
    assert.deepEqual(long!.body, framed(Buffer.concat([Buffer.from([0x0a, 0xc8, 0x01]), Buffer.from('x'.repeat(200))])))
  })

  it('is unhealthy for anything but OK and SERVING, and the reason says what it was', async t => {
    for (const [how, reason] of [
      [answer(framed(Buffer.from([0x08, 0x02]))), /^answered that it is NOT_SERVING$/],
      [answer(framed('')), /^answered that it is UNKNOWN$/],
      [answer(framed(Buffer.from([0x08, 0x03]))), /^answered that it is SERVICE_UNKNOWN$/],
      [answer(framed(Buffer.from([0x08, 0x09]))), /^answered that it is in the status 9$/],
      [answer(Buffer.alloc(0), '5', 'unknown service'), /^answered with NOT_FOUND: unknown service$/],
      [answer(SERVING, '14'), /^answered with UNAVAILABLE$/],
      [answer(SERVING, ''), /^answered without a grpc-status$/],
      [answer(SERVING, 'zero'), /^answered without a grpc-status$/],
      [trailersOnly('12'), /^answered with UNIMPLEMENTED$/],
      [answer(Buffer.alloc(0)), /^answered with something other than a HealthCheckResponse$/],
      [answer(Buffer.concat([SERVING, SERVING])), /^answered with something other than a HealthCheckResponse$/],
      [answer(framed(Buffer.from([0x08, 0x01]), true)), /^answered with something other than a HealthCheckResponse$/],
      [answer(Buffer.alloc(5000)), /^answered with more than 4096 bytes$/],
      [(stream: ServerHttp2Stream) => stream.respond({ ':status': 503 }, { endStream: true }), /^answered with HTTP status 503$/],
      [(stream: ServerHttp2Stream) => {
        stream.respond({ ':status': 200, 'content-type': 'text/html', 'grpc-status': '0' }, { endStream: true })
      }, /^answered with something other than gRPC$/],
      [(stream: ServerHttp2Stream) => stream.close(7), /code 7|NGHTTP2_REFUSED_STREAM/],
      [(stream: ServerHttp2Stream) => stream.session!.destroy(), /closed before an answer|ECONNRESET|aborted|reset|canceled/i],
    ] as const) {
      await t.test(reason.source, async inner => {
        const { backend } = await backendThat(inner, how)
        await assert.rejects(new GrpcHealthCheck().probe(backend, LIVING), (error: Error) => {
          assert.match(error.message, reason)
          return true
        })
      })
    }
  })

  it('has no Health service: it is up to the application what that means', async t => {
    const { backend } = await backendThat(t, trailersOnly('12'))
    await new GrpcHealthCheck({ acceptsUnimplemented: true }).probe(backend, LIVING)
    const { backend: other } = await backendThat(t, trailersOnly('5'))
    await assert.rejects(new GrpcHealthCheck({ acceptsUnimplemented: true }).probe(other, LIVING), /NOT_FOUND/)
  })

  it('speaks another protocol, says nothing, or is not there', async t => {
    const open = new Set<net.Socket>()
    const server = net.createServer(socket => {
      open.add(socket)
      socket.on('error', () => { /* as the case may be */ })
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'))
    }), silent = net.createServer(socket => { open.add(socket.on('error', () => { /* as the case may be */ })) })
    for (const each of [server, silent]) {
      each.listen(0, '127.0.0.1')
      await once(each, 'listening')
    }
    t.after(() => {
      for (const socket of open) socket.destroy()
      server.close()
      silent.close()
    })
    await assert.rejects(new GrpcHealthCheck().probe(backendAt(server.address() as AddressInfo), LIVING), /Protocol error|closed/i)
    const late = new AbortController(), probe = new GrpcHealthCheck().probe(backendAt(silent.address() as AddressInfo), late.signal)
    await once(silent, 'connection')
    late.abort(new Error('no answer within 1000 ms'))
    await assert.rejects(probe, /no answer within 1000 ms/)
    await assert.rejects(new GrpcHealthCheck().probe(LoadBalancer.from(['127.0.0.1:1']).trySelect()!, LIVING), /ECONNREFUSED/)
  })
})

describe('grpc health check: a backend with TLS', () => {
  const ca = makeTestCa(), leaf = ca.issue({ names: ['grpc.test'], ips: ['127.0.0.1'] })

  it('is asked in HTTP/2, with a certificate that is looked at', async t => {
    const { backend, asked } = await backendThat(t, answer(SERVING), { cert: leaf.cert, key: leaf.key })
    await new GrpcHealthCheck({ tls: { ca: ca.cert, sni: 'grpc.test' } }).probe(backend, LIVING)
    assert.equal(asked.length, 1)
    await assert.rejects(new GrpcHealthCheck({ tls: { ca: ca.cert, sni: 'other.test' } }).probe(backend, LIVING), /altname/)
    await assert.rejects(new GrpcHealthCheck({ tls: {} }).probe(backend, LIVING), /certificate/)
    assert.equal(asked.length, 1)
  })

  it('that does not settle on HTTP/2 is not well', async t => {
    const open = new Set<tls.TLSSocket>()
    const server = tls.createServer({ cert: leaf.cert, key: leaf.key }, socket => {
      open.add(socket)
      socket.on('error', () => { /* as the case may be */ })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      for (const socket of open) socket.destroy()
      server.close()
    })
    const options: GrpcHealthCheckOptions = { tls: { ca: ca.cert, sni: 'grpc.test' } }
    const probe = new GrpcHealthCheck(options).probe(backendAt(server.address() as AddressInfo), LIVING)
    await assert.rejects(probe, /did not settle on h2|ALPN|protocol/i)
  })
})

test('grpc health check: options that would not do are told together', () => {
  const wrong = { service: 5, port: -1, acceptsUnimplemented: 'yes', path: '/' } as unknown as GrpcHealthCheckOptions
  assert.throws(() => new GrpcHealthCheck(wrong), (error: Error) => {
    for (const name of ['service', 'port', 'acceptsUnimplemented', 'path']) assert.match(error.message, new RegExp(`healthCheck\\.${name}`))
    return true
  })
})

test('grpc health check: a response is read as protobuf has it, unknown fields included, and nothing else is taken for one', () => {
  const of = (...bytes: number[]): number => servingStatusOf(framed(Buffer.from(bytes)))
  assert.deepEqual([of(), of(8, 0), of(8, 1), of(8, 2), of(8, 0x80, 0x01)], [0, 0, 1, 2, 128])
  assert.equal(of(8, 2, 8, 1), 1, 'the last one counts')
  assert.equal(of(0x12, 2, 97, 98, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x28, 0xff, 0xff, 0x03, 8, 1), 1)
  for (const wrong of [
    [8], [8, 0x80], [8, 0x81, 0x00], [8, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], [8, 0xff, 0xff, 0xff, 0xff, 0x7f], [0], [0x0a, 1, 1], [9, 1],
    [0x12, 3, 1, 2], [0x12], [0x1d, 1, 2, 3], [0x21, 1], [0x13], [0x14], [0x16, 1], [0x28, ...Array<number>(10).fill(0x80)],
  ]) assert.equal(of(...wrong), -1, wrong.join(' '))
  const whole = framed(Buffer.from([8, 1]))
  for (let cut = 0; cut < whole.length; cut++) assert.equal(servingStatusOf(whole.subarray(0, cut)), -1)
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
    assert.ok(servingStatusOf(framed(Buffer.from(bytes))) >= -1)
    assert.ok(servingStatusOf(Buffer.from(bytes)) >= -1)
  }))
})
