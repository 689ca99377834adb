/** Calls of gRPC as they are on the wire, by Node.js's own HTTP/2 on both sides: nothing here knows what a proxy is. */
import { once } from 'node:events'
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

export interface CallResult {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly trailers: IncomingHttpHeaders | null
  readonly body: Buffer
  /** Of RST_STREAM; 0: the stream ended in order. */
  readonly code: number
}

/** A message as gRPC frames it. */
export function framed(message: string | Buffer, compressed = false): Buffer {
  const bytes = Buffer.from(message), head = Buffer.alloc(5)
  head[0] = compressed ? 1 : 0
  head.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

/** One call, with its stream open for the test to write on. */
export class WireCall {
  readonly stream: ClientHttp2Stream
  readonly result: Promise<CallResult>
  readonly headers: Promise<IncomingHttpHeaders>

  constructor(session: ClientHttp2Session, target: string, fields: Readonly<Record<string, string>> = {}) {
    const all = { ':method': 'POST', ':path': target, 'te': 'trailers', 'content-type': 'application/grpc', ...fields }
    const stream = this.stream = session.request(all, { endStream: false })
    const chunks: Buffer[] = []
    const { promise, resolve } = Promise.withResolvers<CallResult>(), begun = Promise.withResolvers<IncomingHttpHeaders>()
    let headers: IncomingHttpHeaders = {}, trailers: IncomingHttpHeaders | null = null
    stream.on('response', given => {
      headers = given
      begun.resolve(given)
    })
    stream.on('trailers', given => { trailers = given })
    stream.on('data', (bytes: Buffer) => { chunks.push(bytes) })
    stream.on('error', () => { /* the code says it */ })
    stream.on('close', () => {
      begun.resolve({})
      resolve({ status: Number(headers[':status'] ?? 0), headers, trailers, body: Buffer.concat(chunks), code: stream.rstCode })
    })
    this.result = promise
    this.headers = begun.promise
  }
}

/** One that is asked whole. */
export function call(
  session: ClientHttp2Session, target: string, fields: Readonly<Record<string, string>> = {}, message: string | Buffer = 'hello',
): Promise<CallResult> {
  const asked = new WireCall(session, target, fields)
  asked.stream.end(framed(message))
  return asked.result
}

export interface WireOrigin {
  readonly port: number
  /** Codes with which streams ended there, in order. */
  readonly codes: readonly number[]
}

/** An origin in HTTP/2 without TLS, for the length of one test. */
export async function wireOrigin(
  t: TestContext, serve: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, endsAtHead: boolean) => void,
): Promise<WireOrigin> {
  const server = http2.createServer(), open = new Set<http2.ServerHttp2Session>(), codes: number[] = []
  server.on('session', session => {
    open.add(session)
    session.on('close', () => open.delete(session))
    session.on('error', () => { /* as the case may be */ })
  })
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number) => {
    stream.on('error', () => { /* the code says it */ })
    stream.on('close', () => { codes.push(stream.rstCode) })
    serve(stream, headers, (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(async () => {
    for (const session of open) session.destroy()
    server.close()
    await once(server, 'close')
  })
  return { port: (server.address() as AddressInfo).port, codes }
}

/** A connection to 127.0.0.1 without TLS, for the length of one test. */
export function wireClient(t: TestContext, port: number): ClientHttp2Session {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  session.on('error', () => { /* what waits for an answer sees it */ })
  t.after(() => { session.destroy() })
  return session
}
