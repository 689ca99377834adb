/**
 * What counts every exchange and attempt. A Tracer would be told the same, by records that are made for it: these, and what makes
 * them, are most of what counting costs (**measured**: 1.2 us of a request of 15 us with them, 0.5 us without). So a
 * counter is given the exchange and the attempt themselves, when they are over. They are read within the call, and never kept.
 * Types only; metrics are traffic-metrics.ts.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { TraceIdentity } from './request-trace.ts'

/** An exchange that is over. Times are exact monotonic ms, 0 for what did not happen. */
export interface CountedExchange {
  readonly listener: string
  /** As the request filters left it. */
  readonly request: { readonly method: string }
  /** Sent to the client; 0: none was. */
  readonly status: number
  readonly flag: string
  readonly startedAt: number
  readonly endedAt: number
  /** The last attempt's first head was there. */
  readonly firstByteAt: number
  readonly bytesReceived: number
  readonly bytesSent: number
  readonly retryBudgetSpent: boolean
  readonly error: ProxyError | null
  /** Null: it is not recorded. */
  readonly trace: TraceIdentity | null
}

/** An attempt that is over. */
export interface CountedAttempt {
  readonly peer: { readonly name: string }
  readonly reused: boolean
  /** What the origin sent, before any filter; 0: no final head. */
  readonly status: number
  readonly startedAt: number
  /** 0: no connection could be had. */
  readonly connectedAt: number
  readonly sentAt: number
  readonly firstByteAt: number
  readonly endedAt: number
}

export interface ExchangeCounter {
  /** Once for each exchange, behind its attempts. Must not throw. */
  exchangeOver(exchange: CountedExchange): void
  /** Once for each attempt. Must not throw. @param retried another one follows */
  attemptOver(attempt: CountedAttempt, error: ProxyError | null, retried: boolean): void
}
