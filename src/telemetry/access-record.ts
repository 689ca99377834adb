/**
 * What an access log is told. The service calls it once per finished request, and once per head that was refused before
 * it became a request; it must not block, and what it throws is logged and changes nothing. Formats and sinks live in telemetry/exporters/.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { LogValue, Session } from '../proxy/session.ts'

/** A finished exchange, as far as logs read it. Times are exact monotonic ms, 0 for what did not happen. */
export interface LoggedExchange extends Session {
  /** What the client was sent; 0 when nothing was. */
  readonly status: number
  /** What the origin of the last attempt sent, before any filter; 0 when it sent no final head. */
  readonly upstreamStatus: number
  /** One of the flags of the access log; '-' when all went well. */
  readonly flag: string
  /** When the head of the request was complete. */
  readonly startedAt: number
  /** When the last attempt had a connection. */
  readonly connectedAt: number
  /** When the last attempt had written the head of its request. */
  readonly sentAt: number
  /** When the first head of the answer was there, interim ones included. */
  readonly firstByteAt: number
  /** From `startedAt` to its end, or to the moment in which it is read; in ms. */
  readonly durationMs: number
  /** What hooks added with `logField()`, in that order; null: nothing. */
  readonly logFields: ReadonlyMap<string, LogValue> | null
}

/**
 * Where finished requests are written: `AccessLog`, or an object of your own. Called once per request; it must not block, and what it
 * throws changes nothing.
 */
export interface AccessLogSink {
  /** @param atMs wall-clock time of its end */
  exchange(exchange: LoggedExchange, atMs: number): void
  /** A head that broke the rules. `atMs` is wall-clock time. */
  refused(listener: string, clientIp: string, error: ProxyError, flag: string, atMs: number): void
}
