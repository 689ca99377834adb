/**
 * Limits of one worker, all of its services and listeners together; N workers allow N times as much. An application sets them
 * on its server (`server.limits`), an operator in the section `limits`.
 */
import { count, defaultsOf, duration, resolveOptions, size, type OptionTable } from '../primitives/option-table.ts'

/** Limits of one worker process, all of its services together: what `server.limits()` takes, and an operator sets in `limits`. */
export interface LimitOptions {
  /**
   * Connections of clients open at once in this worker, but no more than half of the descriptors that the system allows
   * beyond `fdReserve`; past it one gives way as on a listener. 0 leaves only the descriptors as a limit. @default 20_000
   */
  maxConnections?: number
  /** Descriptors kept for listening sockets, logs and what else is no connection. 0 keeps none. @default 64 */
  fdReserve?: number
  /** Requests in flight at once in this worker; past it new ones are answered with 503. 0 turns it off. @default 10_000 */
  maxActiveRequests?: number
  /**
   * Memory that connections and requests may hold in this worker, as it counts them. Bodies that are kept for a retry take a
   * quarter of it at most; from 80 % of it on what only waits is cut and no body is kept for a retry, from 90 % on new requests
   * get 503, from 95 % on new connections are reset, and at 100 % the worker is replaced. At least 1048576. 0 takes what the
   * machine leaves: 80 % of its memory, or of its control group's, through the number of workers and less what one takes by
   * itself, at most 1 GiB. @default 0
   */
  memoryBudgetBytes?: number
  /**
   * Delay of the event loop, in ms. When it is longer in three seconds in a row new requests are answered with 503. 0 turns
   * it off. @default 250
   */
  maxLoopDelayMs?: number
}
export type ResolvedLimitOptions = Readonly<Required<LimitOptions>>

export const LIMIT_OPTIONS = {
  maxConnections: count(20_000, { zero: 'leaves only the descriptors as a limit' }),
  fdReserve: count(64, { zero: 'keeps none' }),
  maxActiveRequests: count(10_000, { zero: 'turns it off' }),
  memoryBudgetBytes: size(0, { min: 1024 * 1024, zero: 'takes what the machine leaves' }),
  maxLoopDelayMs: duration(250, { zero: 'turns it off' }),
} satisfies OptionTable<LimitOptions>

export const LIMIT_DEFAULTS: ResolvedLimitOptions = defaultsOf<LimitOptions>(LIMIT_OPTIONS)

/** Complete and checked. @throws OptionError with every mistake there is */
export function resolveLimitOptions(given: LimitOptions): ResolvedLimitOptions {
  return resolveOptions<LimitOptions>('limits', LIMIT_OPTIONS, given, LIMIT_DEFAULTS)
}
