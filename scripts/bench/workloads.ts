/** What is measured: each workload with its path, its bodies and how it is driven. */

export interface Workload {
  readonly name: string
  readonly title: string
  /**
   * `closed`: wrk, as fast as answers come. `streams`: the same over HTTP/2, by h2load. `handshakes`: a connection each, by
   * `openssl s_time`. `open`: fixed arrivals by our own client. `idle`: memory of connections that wait.
   */
  readonly kind: 'closed' | 'streams' | 'handshakes' | 'open' | 'idle'
  /** Which side of the proxy speaks TLS. Only contenders that can take part. */
  readonly tls: 'none' | 'downstream' | 'upstream'
  /** Which side of the proxy speaks HTTP/2; with an origin it is in the clear. Only contenders that can take part. */
  readonly http2: 'none' | 'downstream' | 'upstream' | 'both'
  /** Requests are calls of gRPC, one message each way. */
  readonly grpc: boolean
  /** Requests at once on each connection. */
  readonly streams: number
  /** Of handshakes: sessions are taken up again. */
  readonly resumes: boolean
  readonly path: string
  /** Body bytes of the answer. */
  readonly answerBytes: number
  /** Body bytes of the request; 0 sends a GET. */
  readonly uploadBytes: number
  readonly connections: number
  /** Asks for a new connection for each request. */
  readonly closeEach: boolean
  /** Requests counted by bytes received, where the ones cut off at the end would matter. */
  readonly countByBytes: boolean
  /** Contenders that run it; null: all but those that only certain workloads need. */
  readonly contenders: readonly string[] | null
}

/** What the access log costs is told by the same proxy without one. */
export const LOG_COST = 'logcost'
/** What telemetry costs is told by the same proxy with less of it. */
export const TELEMETRY_COST = 'telemetry'

/** What a change is held against unless `--workloads` says otherwise: each cost that a change has moved at some time. */
export const COMPARED_WORKLOADS: readonly string[] = ['small', '100k', '10m', 'conns1000', 'newconn', 'idle']

/** A method that answers each call with one message. */
export const GRPC_PATH = '/bench.Echo/Unary'
const GRPC_MESSAGE_BYTES = 80
/** Of the message and what stands before it: a flag and its length. */
const GRPC_BYTES = 5 + GRPC_MESSAGE_BYTES

const KB = 1000
const MB = 1000 * 1000

const base = {
  kind: 'closed', tls: 'none', http2: 'none', grpc: false, streams: 1, resumes: false, uploadBytes: 0, connections: 64, closeEach: false,
  countByBytes: false, contenders: null,
} as const
/** Clients of HTTP/2 are served over TLS, as nearly all are. */
const overHttp2 = { ...base, kind: 'streams', tls: 'downstream', http2: 'downstream' } as const
/** Clients that wait for one connection each: enough that there is always one that has its answer. */
const HANDSHAKES_AT_ONCE = 16

export const WORKLOADS: readonly Workload[] = [
  { ...base, name: 'small', title: '80 B, keep-alive, 64 connections', path: '/80', answerBytes: 80 },
  { ...base, name: '1k', title: '1 kB, keep-alive, 64 connections', path: '/1k', answerBytes: KB },
  { ...base, name: '100k', title: '100 kB, keep-alive, 64 connections', path: '/100k', answerBytes: 100 * KB },
  { ...base, name: '10m', title: '10 MB down, 16 at a time', path: '/10m', answerBytes: 10 * MB, connections: 16, countByBytes: true },
  { ...base, name: 'upload', title: '1 MB up, 64 connections', path: '/up', answerBytes: 2, uploadBytes: MB },
  { ...base, name: 'conns1000', title: '1 kB, keep-alive, 1000 connections', path: '/1k', answerBytes: KB, connections: 1000 },
  { ...base, name: 'conns2000', title: '1 kB, keep-alive, 2000 connections', path: '/1k', answerBytes: KB, connections: 2000 },
  {
    ...base, name: 'newconn', title: '80 B, a new connection for each request, 64 at a time', path: '/80', answerBytes: 80,
    closeEach: true,
  },
  { ...base, name: 'latency', title: '80 B at equal offered rate, 64 connections', kind: 'open', path: '/80', answerBytes: 80 },
  {
    ...base, name: LOG_COST, title: '80 B, keep-alive, 64 connections, an access log to a file beside none', path: '/80', answerBytes: 80,
    contenders: ['cirque', 'cirque-log', 'nginx', 'nginx-log'],
  },
  {
    ...base, name: TELEMETRY_COST, title: '80 B, keep-alive, 64 connections, with more and more telemetry', path: '/80', answerBytes: 80,
    contenders: ['cirque-bare', 'cirque', 'cirque-log', 'cirque-traces'],
  },
  { ...base, name: 'idle', title: 'idle keep-alive connections', kind: 'idle', path: '/80', answerBytes: 80, connections: 4000 },
  { ...base, name: 'tlskeep', title: '80 B over TLS, keep-alive, 64 connections', tls: 'downstream', path: '/80', answerBytes: 80 },
  {
    ...base, name: 'tlsfull', title: '80 B over TLS, a full handshake for each, 16 at a time', kind: 'handshakes', tls: 'downstream',
    path: '/80', answerBytes: 80, connections: HANDSHAKES_AT_ONCE, closeEach: true,
  },
  {
    ...base, name: 'tlsresumed', title: '80 B over TLS, a resumed handshake for each, 16 at a time', kind: 'handshakes', tls: 'downstream',
    resumes: true, path: '/80', answerBytes: 80, connections: HANDSHAKES_AT_ONCE, closeEach: true,
  },
  {
    ...base, name: 'tls10m', title: '10 MB down over TLS, 16 at a time', tls: 'downstream', path: '/10m', answerBytes: 10 * MB,
    connections: 16, countByBytes: true,
  },
  {
    ...base, name: 'tlsupstream', title: '80 B, keep-alive, 64 connections, TLS to the origin', tls: 'upstream', path: '/80',
    answerBytes: 80,
  },
  {
    ...overHttp2, name: 'h2small', title: '80 B over HTTP/2, 16 connections of 8 streams', path: '/80', answerBytes: 80, connections: 16,
    streams: 8,
  },
  {
    ...overHttp2, name: 'h2large', title: '10 MB down over HTTP/2, 4 connections of 4 streams', path: '/10m', answerBytes: 10 * MB,
    connections: 4, streams: 4, countByBytes: true,
  },
  {
    ...base, name: 'h2upstream', title: '80 B, keep-alive, 64 connections, HTTP/2 to the origin', http2: 'upstream', path: '/80',
    answerBytes: 80,
  },
  {
    ...base, name: 'h2upstream1000', title: '1 kB, keep-alive, 1000 connections, HTTP/2 to the origin', http2: 'upstream', path: '/1k',
    answerBytes: KB, connections: 1000,
  },
  {
    ...overHttp2, name: 'grpc', title: 'gRPC, a message of 80 B each way, 16 connections of 8 streams', http2: 'both', grpc: true,
    path: GRPC_PATH, answerBytes: GRPC_BYTES, uploadBytes: GRPC_BYTES, connections: 16, streams: 8,
  },
  {
    ...base, name: 'h2idle', title: 'idle connections of HTTP/2 over TLS', kind: 'idle', tls: 'downstream', http2: 'downstream',
    path: '/80', answerBytes: 80, connections: 4000,
  },
  {
    ...base, name: 'tlsidle', title: 'idle keep-alive connections over TLS', kind: 'idle', tls: 'downstream', path: '/80', answerBytes: 80,
    connections: 4000,
  },
]

/** What a call of gRPC and its answer have for a body. */
export function grpcMessage(): Buffer {
  const framed = Buffer.alloc(GRPC_BYTES, 'x')
  framed.writeUInt8(0, 0)
  framed.writeUInt32BE(GRPC_MESSAGE_BYTES, 1)
  return framed
}
