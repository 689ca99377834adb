/**
 * Limits and times of HTTP/1, both sides: described here, once. The server's side adds what no other version knows
 * (chunks, the lingering close of RFC 9112 9.6) to what holds for all of them (../http-options.ts).
 * A number of 0 is refused unless the field says what 0 means.
 */
import { choice, count, defaultsOf, duration, size, type OptionTable } from '../../primitives/option-table.ts'
import { HTTP_SERVER_OPTIONS, ORIGIN_TIMES, type HalfClose, type HttpServerOptions } from '../http-options.ts'

/** The same with what only HTTP/1 knows. */
export interface Http1ServerOptions extends HttpServerOptions {
  /** Chunk size line with its extensions, in bytes; past it 400. At least 18. @default 256 */
  maxChunkLineBytes?: number
  /**
   * Framing of a chunked body beyond 16 bytes and twice the data of each chunk, in bytes; past it 400 (CVE-2023-39326).
   * At least 1024. @default 16384
   */
  maxChunkOverheadBytes?: number
  /**
   * What a client's FIN behind its whole request does to an exchange that has no answer yet: 'abort' ends it and closes the
   * connection to the origin, 'keep' answers all the same. `session.halfClose` says otherwise for one request. @default 'abort'
   */
  halfClose?: HalfClose
  /** Lingering close after a final answer: longest pause, in ms. @default 5000 */
  lingerIdleMs?: number
  /** Lingering close: in all, in ms. @default 30000 */
  lingerTotalMs?: number
  /**
   * Rest of a body without a taker that is read and thrown away so that the connection goes on, in bytes; past it a lingering
   * close, which is bounded by its times. @default 262144
   */
  maxDiscardBytes?: number
}
export type ResolvedHttp1ServerOptions = Readonly<Required<Http1ServerOptions>>

export const HTTP1_SERVER_OPTIONS = {
  ...HTTP_SERVER_OPTIONS,
  maxChunkLineBytes: size(256, { min: 18 }),
  maxChunkOverheadBytes: size(16_384, { min: 1024 }),
  halfClose: choice<HalfClose>('abort', ['abort', 'keep']),
  lingerIdleMs: duration(5000),
  lingerTotalMs: duration(30_000),
  maxDiscardBytes: size(262_144),
} satisfies OptionTable<Http1ServerOptions>

export const HTTP1_SERVER_DEFAULTS: ResolvedHttp1ServerOptions = defaultsOf<Http1ServerOptions>(HTTP1_SERVER_OPTIONS)

/** Fields of a peer's options that the HTTP/1 client side reads (peer/peer-options.ts extends this). */
export interface Http1ClientOptions {
  /** Status line and fields of a response, in bytes; past it 502. @default 65536 */
  maxResponseHeadBytes?: number
  /** Fields in a response head; past it 502. @default 200 */
  maxResponseHeaderCount?: number
  /** 1xx heads within 10 s; past it 502. @default 1000 */
  maxInterimResponses?: number
  /** The same heads together, in bytes; past it 502. @default 65536 */
  maxInterimBytes?: number
  /** How long a request body waits for `100 Continue` before it is sent anyway, in ms. @default 1000 */
  continueTimeoutMs?: number
  /** From the end of the request to the first byte of the response, in ms; past it 504. @default 60000 */
  firstByteTimeoutMs?: number
  /** From the first byte of a response head to its end, in ms; past it 504. @default 10000 */
  responseHeadTimeoutMs?: number
  /** Longest pause within a response, in ms; past it 504, or the answer is cut. @default 60000 */
  readTimeoutMs?: number
  /** Longest time in which the origin takes no byte of what waits for it, in ms; past it 504, or cut. @default 60000 */
  writeTimeoutMs?: number
}
export type ResolvedHttp1ClientOptions = Readonly<Required<Http1ClientOptions>>

export const HTTP1_CLIENT_DEFAULTS: ResolvedHttp1ClientOptions = {
  maxResponseHeadBytes: 65_536,
  maxResponseHeaderCount: 200,
  maxInterimResponses: 1000,
  maxInterimBytes: 65_536,
  continueTimeoutMs: 1000,
  firstByteTimeoutMs: 60_000,
  responseHeadTimeoutMs: 10_000,
  readTimeoutMs: 60_000,
  writeTimeoutMs: 60_000,
}

export const HTTP1_CLIENT_OPTIONS = {
  maxResponseHeadBytes: size(65_536),
  maxResponseHeaderCount: count(200),
  maxInterimResponses: count(1000),
  maxInterimBytes: size(65_536),
  continueTimeoutMs: duration(1000),
  ...ORIGIN_TIMES,
} satisfies OptionTable<Http1ClientOptions>
