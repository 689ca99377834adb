/**
 * The limits that one request may have otherwise than its listener and its peer: what `session.setLimits()` takes. Each is checked as
 * the option of the same name is, and means the same.
 */
import { checkOptions, OptionError, partOf, type OptionMistake, type OptionTable } from '../primitives/option-table.ts'
import { HTTP_SERVER_OPTIONS, ORIGIN_TIMES, type OriginTimes, type RequestLimits } from '../protocols/http-options.ts'

/** Limits of one request; what is left out stays as it is. */
export interface SessionLimits {
  /**
   * Request body, in bytes; past it 413. A body that is announced larger is refused behind `earlyRequestFilter`, and again before
   * `upstreamPeer`: a route that takes large uploads raises it in `earlyRequestFilter`. 0 turns it off.
   */
  maxRequestBodyBytes?: number
  /** Longest pause within the request body, in ms; past it 408. */
  bodyIdleTimeoutMs?: number
  /** Slowest request body, in bytes a second, looked at from 20 s on and until the response begins; past it 408. 0 turns it off. */
  minBodyBytesPerSecond?: number
  /** Longest time in which the client takes no byte of what waits for it, in ms; past it the connection is cut. */
  sendTimeoutMs?: number
  /** Slowest reader, in bytes a second, over 30 s in which something waited; past it the connection is cut. 0 turns it off. */
  minSendBytesPerSecond?: number
  /** Whole exchange, from the end of the request's head, in ms; past it 408, or the answer is cut. 0 turns it off. */
  totalTimeoutMs?: number
  /**
   * Longest time in which nothing of an exchange over HTTP/2 passes either way, in ms; past it its stream is reset. Where an origin may
   * be silent for longer, raise it with `readTimeoutMs`. 0 turns it off.
   */
  streamIdleTimeoutMs?: number
  /** From the end of the request to the first byte of the origin's response, in ms; past it 504. */
  firstByteTimeoutMs?: number
  /** From the first byte of the origin's response head to its end, in ms; past it 504. */
  responseHeadTimeoutMs?: number
  /** Longest pause within the origin's response, in ms; past it 504, or the answer is cut. */
  readTimeoutMs?: number
  /** Longest time in which the origin takes no byte of what waits for it, in ms; past it 504, or the answer is cut. */
  writeTimeoutMs?: number
}

const { maxRequestBodyBytes, bodyIdleTimeoutMs, minBodyBytesPerSecond } = HTTP_SERVER_OPTIONS
const { sendTimeoutMs, minSendBytesPerSecond, totalTimeoutMs, streamIdleTimeoutMs } = HTTP_SERVER_OPTIONS

const OF_CLIENT = {
  maxRequestBodyBytes, bodyIdleTimeoutMs, minBodyBytesPerSecond, sendTimeoutMs, minSendBytesPerSecond, totalTimeoutMs,
  streamIdleTimeoutMs,
} satisfies OptionTable<RequestLimits>
const SESSION_LIMITS = { ...OF_CLIENT, ...ORIGIN_TIMES } satisfies OptionTable<SessionLimits>

/** @throws OptionError with every limit that would not do */
export function checkSessionLimits(given: SessionLimits): void {
  const mistakes: OptionMistake[] = []
  checkOptions('limits', SESSION_LIMITS, given, mistakes)
  if (mistakes.length > 0) throw new OptionError(mistakes)
}

/** The part of `limits` that the client's session keeps, with what `given` says instead. */
export function requestLimitsWith(limits: RequestLimits, given: SessionLimits): RequestLimits {
  return partOf<RequestLimits>(OF_CLIENT, { ...limits, ...said(given) })
}

/** The same for the part that the origin's session keeps. */
export function originTimesWith(times: OriginTimes, given: SessionLimits): OriginTimes {
  return partOf<OriginTimes>(ORIGIN_TIMES, { ...times, ...said(given) })
}

/** Without what is left out by undefined. */
export function said(given: SessionLimits): SessionLimits {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}
