/**
 * What hooks see of an exchange, and the words they answer with. The engine behind it is exchange.ts.
 * Types only, so that modules and access logs, which the engine imports, can name them.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { HttpModule } from '../modules/http-module.ts'
import type { Peer } from '../peer/peer.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'
import type { HalfClose } from '../protocols/http-options.ts'
import type { TraceIdentity } from '../telemetry/request-trace.ts'
import type { SessionLimits } from './session-limits.ts'

/** `responded`: the answer was given through `session.respond()`; no later request phase runs. */
export type Verdict = 'continue' | 'responded'

/** Of the origin's response. `retry`: another one is asked for where retries are allowed; elsewhere it means `continue`. */
export type ResponseVerdict = Verdict | 'retry'

/** A chunk to pass on (the same, or another), null to drop it, or either after a pause: nothing else of that body moves meanwhile. */
export type BodyResult = Buffer | null | { chunk: Buffer | null; delayMs: number }

/**
 * What a filter does to one body. `change`: it may return another number of bytes, so that the message is sent chunked. `keepLength`: it
 * returns as many as it is given, and Content-Length stays; a length that then turns out wrong cuts the message. `pass`: it is not
 * called for this body.
 */
export type BodyUse = 'change' | 'keepLength' | 'pass'
/** The hooks that may use a body. */
export type AskedFilter = 'requestBodyFilter' | 'upstreamResponseBodyFilter' | 'responseBodyFilter' | 'responseTrailerFilter'

/** Fields of an answer: a HeaderMap, or an object with a value or a list of values for each name. */
export type ResponseFields = HeaderMap | Readonly<Record<string, string | readonly string[]>>
/** A body to answer with; text is sent as UTF-8. What is iterated is sent chunk by chunk, no faster than the client reads. */
export type ResponseBody = string | Uint8Array | AsyncIterable<Uint8Array | string> | null

/** What a field of the access log may hold; a number must be finite. */
export type LogValue = string | number | boolean

/**
 * One request and its response, as hooks see them. It is theirs until `logging` has run; behind that its values stay, and its methods do
 * nothing or throw.
 */
export interface Session {
  /**
   * As the client sent it (target resolved, absolute-form turned into Host and path). Filters may change it; what they change
   * is what the origin gets.
   */
  readonly request: RequestHead
  /** The final head sent to the client, or about to be; null before there is one. */
  readonly response: ResponseHead | null
  /** The client's X-Request-Id from a trusted hop, or one of ours. */
  readonly requestId: string
  /** Where the request stands in a trace; null: it is not recorded, or traces are off. The same for all of the request. */
  readonly trace: TraceIdentity | null
  /** Name of the listener. */
  readonly listener: string
  /**
   * Who asks: the address at the other end of the connection, or the one that it speaks for when it is inside `trustedHops`
   * (the last in X-Forwarded-For that is no trusted hop). '' on a Unix socket.
   */
  readonly clientIp: string
  /** Port at the other end of the connection, whoever is behind it. */
  readonly clientPort: number
  /** The connection, with the addresses of its two ends. */
  readonly digest: StreamDigest
  /** The other end of the connection is inside `trustedHops`. */
  readonly trusted: boolean
  /**
   * The process tests itself before it gets traffic (`server.selfTest`): kept out of metrics, tracers and access log.
   * It reaches no upstream, unless the test says `upstream: true`.
   */
  readonly isSelfTest: boolean
  /** Attempts to reach an upstream so far, this one included. */
  readonly attempts: number
  /** Peers of earlier attempts that failed. */
  readonly triedPeers: readonly Peer[]
  /** Peer of the current attempt; null before there is one. */
  readonly peer: Peer | null
  /** Connection of the current attempt; null before there is one and once the attempt is over, so in `logging` as well. */
  readonly upstreamDigest: StreamDigest | null
  /** That connection had carried exchanges before. Stays as it is when the attempt is over; false without a connection. */
  readonly upstreamReused: boolean
  /** Bytes of the request's body so far, without framing; when an upgraded connection is over, all that came from the client. */
  readonly bytesReceived: number
  /** Bytes of the response's body so far, without framing; when an upgraded connection is over, all that went to the client. */
  readonly bytesSent: number
  /** A final response head was written. */
  readonly responded: boolean
  /** Why the exchange fails or failed; null while all is well. */
  readonly error: ProxyError | null
  /** The proxy is finishing what is in flight and takes nothing new. */
  readonly draining: boolean
  /**
   * What a client's FIN does while it has no answer yet. 'abort': the exchange ends with CLIENT_GONE, whatever it waits for, and
   * the connection to the origin is closed. 'keep': the client only has nothing more to say, and is answered. Once an answer is
   * there a FIN changes nothing. A FIN may follow the request at once: set it in `earlyRequestFilter`, before anything is
   * awaited. @default what the listener has
   */
  halfClose: HalfClose
  /** Whether this request has a line in the access log. @default true */
  inAccessLog: boolean

  /**
   * For what a hook awaits: `fetch(url, { signal: session.signal })`. Aborted when the client is gone, when the hook has not answered
   * within `hookTimeoutMs`, and when the exchange is over, before `logging`. Its reason is a ProxyError (CLIENT_GONE, HOOK_TIMEOUT and
   * the like), or an AbortError at a good end. Made when it is asked for; behind a time-out a later hook is given a new one.
   */
  readonly signal: AbortSignal

  /**
   * Answers instead of an origin; written as `return session.respond(403)`. In every hook from `earlyRequestFilter` to
   * `upstreamRequestFilter`, in `upstreamResponseFilter` and `responseFilter` (whose answer it replaces), and in `failToProxy`.
   * Content-Length is added for text and bytes; of what is iterated it may be among the fields, and a body that then turns out shorter
   * is cut, a longer one ends there. The response filters of modules run.
   * @throws Error, which says what would do, in other hooks and when there is an answer already; TypeError on a status, field or body
   * that must not be written.
   */
  respond(status: number, fields?: ResponseFields, body?: ResponseBody): 'responded'
  /**
   * Reads the whole request body before an upstream is chosen; it is sent on afterwards all the same.
   * Rejects with BODY_TOO_LARGE (413) past `maxBytes`, and with the client's fault when it goes away.
   */
  readBody(maxBytes: number): Promise<Buffer>
  /** Sends an interim response (103 Early Hints) to the client at once. */
  sendInterim(status: number, fields: ResponseFields): void
  /**
   * Other limits for this request than those of its listener and its peer, from now on; those that are left out stay, and
   * `totalTimeoutMs` counts from the start. In any hook: `earlyRequestFilter` for the limits of the request,
   * `responseFilter` for a response that is a stream. Nothing once the exchange is over.
   * @throws OptionError with every limit that would not do
   */
  setLimits(limits: SessionLimits): void
  /**
   * Adds a field to the line of this request in the access log, under `app`; a name that is there gets the new value.
   * @param name up to 32 of a to z, 0 to 9 and underscore, beginning with a letter; at most 16 of them
   * @param value text is escaped, and cut where the line is too long
   * @throws TypeError when they are something else, RangeError for one name too many, Error in `logging` and behind it
   */
  logField(name: string, value: LogValue): void
  /** The client's connection takes no further request after this one. */
  closeAfterResponse(): void
  /** State of a module in this exchange. */
  moduleState<State>(module: HttpModule<State>): State
}
