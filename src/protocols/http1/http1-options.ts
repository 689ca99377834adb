/**
 * Limits and times of HTTP/1, both sides: described, defaulted and checked here, once.
 * A number of 0 is refused unless the field says what 0 means.
 */

export interface Http1ServerOptions {
  /** Longest request target, in bytes; past it 414 (RFC 9110 4.1 asks for 8000 at least). @default 8192 */
  maxUriBytes?: number
  /** Longest method, in bytes; past it 501. @default 32 */
  maxMethodBytes?: number
  /** Request line and fields together, in bytes; past it 431. @default 32768 */
  maxHeadBytes?: number
  /** Fields in a request head; past it 431. @default 100 */
  maxHeaderCount?: number
  /** One field line, in bytes; past it 431. @default 16384 */
  maxHeaderLineBytes?: number
  /** Chunk size line with its extensions, in bytes; past it 400. @default 256 */
  maxChunkLineBytes?: number
  /** Framing of a chunked body beyond 16 bytes and twice the data of each chunk, in bytes; past it 400 (CVE-2023-39326). @default 16384 */
  maxChunkOverheadBytes?: number
  /** Trailer section, in bytes; past it 400. @default 8192 */
  maxTrailerBytes?: number
  /** Fields in a trailer section; past it 400. @default 32 */
  maxTrailerCount?: number
  /** Request body, in bytes; past it 413, before dialling when Content-Length says so. 0 turns it off. @default 1073741824 */
  maxRequestBodyBytes?: number
  /** Requests on one connection; the last answer says `Connection: close`. 0 turns it off. @default 1000 */
  maxRequestsPerConnection?: number
  /** Age after which the next answer says `Connection: close`, in ms, give or take a tenth. 0 turns it off. @default 3600000 */
  maxConnectionAgeMs?: number
  /** From accept, or from the first byte of a later request, to the end of its head, in ms; past it 408, or silence when no byte came. @default 10000 */
  headTimeoutMs?: number
  /** Idle time between two requests, in ms; then a lingering close. @default 30000 */
  keepAliveTimeoutMs?: number
  /** Longest pause within a request body, in ms; past it 408. @default 60000 */
  bodyIdleTimeoutMs?: number
  /** Slowest request body, in bytes a second, looked at from 20 s on and until the response begins; past it 408. 0 turns it off. @default 500 */
  minBodyBytesPerSecond?: number
  /** Longest time in which a client takes no byte of what waits for it, in ms; past it the connection is cut. @default 60000 */
  sendTimeoutMs?: number
  /** Slowest reader, in bytes a second over 30 s in which something waited; past it the connection is cut. 0 turns it off. @default 500 */
  minSendBytesPerSecond?: number
  /** Whole exchange, in ms; past it 408, or the connection is cut when the response began. 0 turns it off. @default 0 */
  totalTimeoutMs?: number
  /** Lingering close after a final answer: longest pause, in ms. @default 5000 */
  lingerIdleMs?: number
  /** Lingering close: in all, in ms. @default 30000 */
  lingerTotalMs?: number
  /** Lingering close, and bodies that nobody wants: bytes read and thrown away before the connection is cut. @default 262144 */
  maxDiscardBytes?: number
  /** Whether CONNECT reaches the hooks; otherwise 405. @default false */
  allowConnect?: boolean
}
export type ResolvedHttp1ServerOptions = Readonly<Required<Http1ServerOptions>>

export const HTTP1_SERVER_DEFAULTS: ResolvedHttp1ServerOptions = {
  maxUriBytes: 8192,
  maxMethodBytes: 32,
  maxHeadBytes: 32_768,
  maxHeaderCount: 100,
  maxHeaderLineBytes: 16_384,
  maxChunkLineBytes: 256,
  maxChunkOverheadBytes: 16_384,
  maxTrailerBytes: 8192,
  maxTrailerCount: 32,
  maxRequestBodyBytes: 1_073_741_824,
  maxRequestsPerConnection: 1000,
  maxConnectionAgeMs: 3_600_000,
  headTimeoutMs: 10_000,
  keepAliveTimeoutMs: 30_000,
  bodyIdleTimeoutMs: 60_000,
  minBodyBytesPerSecond: 500,
  sendTimeoutMs: 60_000,
  minSendBytesPerSecond: 500,
  totalTimeoutMs: 0,
  lingerIdleMs: 5000,
  lingerTotalMs: 30_000,
  maxDiscardBytes: 262_144,
  allowConnect: false,
}

/** Fields of a peer's options that the HTTP/1 client side reads (peer/peer-options.ts extends this). */
export interface Http1ClientOptions {
  /** Status line and fields of a response, in bytes; past it 502. @default 65536 */
  maxResponseHeadBytes?: number
  /** Fields in a response head; past it 502. @default 200 */
  maxResponseHeaderCount?: number
  /** 1xx heads before the final one; past it 502. @default 16 */
  maxInterimResponses?: number
  /** How long a request body waits for `100 Continue` before it is sent anyway, in ms. @default 1000 */
  continueTimeoutMs?: number
  /** From the end of the request to the first byte of the response, in ms; past it 504. @default 60000 */
  firstByteTimeoutMs?: number
  /** Longest pause within a response, in ms; past it 504, or the answer is cut. @default 60000 */
  readTimeoutMs?: number
  /** Longest time in which the origin takes no byte of what waits for it, in ms; past it 504, or cut. @default 60000 */
  writeTimeoutMs?: number
}
export type ResolvedHttp1ClientOptions = Readonly<Required<Http1ClientOptions>>

export const HTTP1_CLIENT_DEFAULTS: ResolvedHttp1ClientOptions = {
  maxResponseHeadBytes: 65_536,
  maxResponseHeaderCount: 200,
  maxInterimResponses: 16,
  continueTimeoutMs: 1000,
  firstByteTimeoutMs: 60_000,
  readTimeoutMs: 60_000,
  writeTimeoutMs: 60_000,
}
