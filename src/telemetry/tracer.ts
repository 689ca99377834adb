/**
 * Callbacks that watch connections and exchanges. They receive plain values, cannot change anything, and whatever they
 * throw is swallowed and counted by the caller: a tracer can neither fail nor slow an exchange.
 * Types only; exporters live in telemetry/exporters/.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'

/** How an exchange ended, as `logging` and the access log see it. */
export interface ExchangeSummary {
  readonly requestId: string
  readonly listener: string
  readonly method: string
  readonly target: string
  /** Status sent to the client; 0 when none was sent. */
  readonly status: number
  /** One of the flags of the access log; '-' when all went well. */
  readonly flag: string
  readonly bytesIn: number
  readonly bytesOut: number
  /** Whole exchange, ms. */
  readonly durationMs: number
  readonly attempts: number
  readonly error: ProxyError | null
}

export interface Tracer {
  /** A new upstream connection is established (TCP or Unix; before TLS). Called for CONNECT proxies too. */
  connected?(peer: string, digest: StreamDigest): void
  /** A connection that `connected` reported is gone, whatever ended it. */
  disconnected?(peer: string, digest: StreamDigest): void
  /** A pooled connection was handed to an exchange. */
  reused?(peer: string, digest: StreamDigest): void
  /** A connection could not be established. */
  failed?(peer: string, error: ProxyError): void
  exchangeStarted?(requestId: string, method: string, target: string): void
  /** An attempt failed and another follows. */
  exchangeRetried?(requestId: string, attempt: number, error: ProxyError): void
  /** Exactly once per request. */
  exchangeEnded?(summary: ExchangeSummary): void
}

const CALLBACKS = ['connected', 'disconnected', 'reused', 'failed', 'exchangeStarted', 'exchangeRetried', 'exchangeEnded'] as const

/** Count of throws swallowed so far in this process; shown in `cirque status`. */
export const tracerFaults = { count: 0 }

/**
 * One tracer that calls each of `tracers`, swallowing what they throw. Callbacks that none of them has stay absent,
 * so that callers can skip the work of building their arguments. Returns null when there is nothing to call.
 */
export function fanOut(tracers: readonly Tracer[]): Tracer | null {
  const joined: Record<string, (...values: unknown[]) => void> = {}
  for (const name of CALLBACKS) {
    const interested = tracers.filter(tracer => typeof tracer[name] === 'function')
    if (interested.length === 0) continue
    joined[name] = (...values) => {
      for (const tracer of interested) {
        try { (tracer[name] as (...values: unknown[]) => void)(...values) } catch { tracerFaults.count++ }
      }
    }
  }
  return Object.keys(joined).length === 0 ? null : joined as Tracer
}
