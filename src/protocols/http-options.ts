/**
 * What HTTP may be told whatever the version. Of the server's side: limits of heads, bodies, trailers and connections, and times.
 * Of the client's side: the times of an exchange. What only one version knows stands beside its session
 * (http1/http1-options.ts). Merged into the options of a listener; a field of 0 is refused unless it says what 0 means.
 */
import { count, defaultsOf, duration, flag, rate, size, type OptionTable } from '../primitives/option-table.ts'

/** What a client's FIN behind its request means: that it left, or only that it has said everything. */
export type HalfClose = 'abort' | 'keep'

/** Limits of requests and of clients' connections, whatever the version of HTTP. 0 is refused unless a field says what it means. */
export interface HttpServerOptions {
  /** Longest request target, in bytes; past it 414 (RFC 9110 4.1 asks for 8000 at least). At least 256. @default 8192 */
  maxUriBytes?: number
  /** Longest method, in bytes; past it 501. @default 32 */
  maxMethodBytes?: number
  /** Request line and fields together, in bytes; past it 431. At least 1024. @default 32768 */
  maxHeadBytes?: number
  /** Fields in a request head; past it 431. @default 100 */
  maxHeaderCount?: number
  /** One field line, in bytes; past it 431. At least 256. @default 16384 */
  maxHeaderLineBytes?: number
  /** Trailer section, in bytes; past it 400. @default 8192 */
  maxTrailerBytes?: number
  /** Fields in a trailer section; past it 400. 0 leaves all of them out, and serves the body. @default 32 */
  maxTrailerCount?: number
  /** Request body, in bytes; past it 413, before dialling when Content-Length says so. 0 turns it off. @default 1073741824 */
  maxRequestBodyBytes?: number
  /** Requests on one connection; the last answer says `Connection: close`. 0 turns it off. @default 1000 */
  maxRequestsPerConnection?: number
  /** Age after which the next answer says `Connection: close`, in ms, give or take a tenth. 0 turns it off. @default 3600000 */
  maxConnectionAgeMs?: number
  /**
   * From accept, or from the first byte of a later request, to the end of its head, in ms; past it 408, or silence when
   * no byte came. @default 10000
   */
  headTimeoutMs?: number
  /**
   * Idle time between two requests, in ms; then the connection is closed. Longer than a balancer in front keeps one, 60 s as
   * a rule, or its next request may meet the close. @default 75000
   */
  keepAliveTimeoutMs?: number
  /** Longest pause within a request body, in ms; past it 408. @default 60000 */
  bodyIdleTimeoutMs?: number
  /**
   * Slowest request body, in bytes a second, looked at from 20 s on and until the response begins; past it 408. 0 turns
   * it off. @default 500
   */
  minBodyBytesPerSecond?: number
  /** Longest time in which a client takes no byte of what waits for it, in ms; past it the connection is cut. @default 60000 */
  sendTimeoutMs?: number
  /** Slowest reader, in bytes a second, over 30 s in which something waited; past it the connection is cut. 0 turns it off. @default 500 */
  minSendBytesPerSecond?: number
  /** Whole exchange, in ms; past it 408, or the connection is cut when the response began. 0 turns it off. @default 0 */
  totalTimeoutMs?: number
  /**
   * Longest time in which nothing of an exchange over HTTP/2 passes either way, in ms; past it its stream is reset. Tunnels have times of
   * their own. 0 turns it off. @default 300000
   */
  streamIdleTimeoutMs?: number
  /** Whether CONNECT reaches the hooks; otherwise 405. @default false */
  allowConnect?: boolean
}
export type ResolvedHttpServerOptions = Readonly<Required<HttpServerOptions>>

/** What a session looks at while its request is served, and so the part that one request may have otherwise. */
export type RequestLimits = Pick<ResolvedHttpServerOptions,
  'maxRequestBodyBytes' | 'bodyIdleTimeoutMs' | 'minBodyBytesPerSecond' | 'sendTimeoutMs' | 'minSendBytesPerSecond' | 'totalTimeoutMs'
  | 'streamIdleTimeoutMs'>

export const HTTP_SERVER_OPTIONS = {
  maxUriBytes: size(8192, { min: 256 }),
  maxMethodBytes: size(32),
  maxHeadBytes: size(32_768, { min: 1024 }),
  maxHeaderCount: count(100),
  maxHeaderLineBytes: size(16_384, { min: 256 }),
  maxTrailerBytes: size(8192),
  maxTrailerCount: count(32, { zero: 'leaves all of them out' }),
  maxRequestBodyBytes: size(1_073_741_824, { zero: 'turns it off' }),
  maxRequestsPerConnection: count(1000, { zero: 'turns it off' }),
  maxConnectionAgeMs: duration(3_600_000, { zero: 'turns it off' }),
  headTimeoutMs: duration(10_000),
  keepAliveTimeoutMs: duration(75_000),
  bodyIdleTimeoutMs: duration(60_000),
  minBodyBytesPerSecond: rate(500, { zero: 'turns it off' }),
  sendTimeoutMs: duration(60_000),
  minSendBytesPerSecond: rate(500, { zero: 'turns it off' }),
  totalTimeoutMs: duration(0, { zero: 'turns it off' }),
  streamIdleTimeoutMs: duration(300_000, { zero: 'turns it off' }),
  allowConnect: flag(false),
} satisfies OptionTable<HttpServerOptions>

export const HTTP_SERVER_DEFAULTS: ResolvedHttpServerOptions = defaultsOf<HttpServerOptions>(HTTP_SERVER_OPTIONS)

/** How long an exchange waits for its origin. A session may be given others at any time. */
export interface OriginTimes {
  /** From the end of the request to the first byte of the response, in ms. */
  readonly firstByteTimeoutMs: number
  /** From the first byte of a response head to its end, in ms. */
  readonly responseHeadTimeoutMs: number
  /** Longest pause within a response, in ms. */
  readonly readTimeoutMs: number
  /** Longest time in which the origin takes no byte of what waits for it, in ms. */
  readonly writeTimeoutMs: number
}

export const ORIGIN_TIMES = {
  firstByteTimeoutMs: duration(60_000),
  responseHeadTimeoutMs: duration(10_000),
  readTimeoutMs: duration(60_000),
  writeTimeoutMs: duration(60_000),
} satisfies OptionTable<OriginTimes>
