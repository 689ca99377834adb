/**
 * What an exchange asks of the service that runs it. The service (server/http-proxy-service.ts) makes one exchange per
 * request and outlives them all.
 */
import type { HttpConnector } from '../connector/http-connector.ts'
import type { PathNormalization } from '../http/target-path.ts'
import type { Clock, Ticker } from '../primitives/clock.ts'
import type { Tracer } from '../telemetry/tracer.ts'
import type { Exchange } from './exchange.ts'
import type { ForwardedFields } from './forwarded-fields.ts'
import type { PhasePlan } from './phases.ts'
import type { RetryBudget } from './retry-budget.ts'
import type { Tunnel } from './tunnel.ts'

export interface ExchangeHost<Ctx> {
  readonly plan: PhasePlan<Ctx>
  readonly connector: HttpConnector
  readonly ticker: Ticker
  readonly clock: Clock
  readonly tracer: Tracer | null
  readonly forwarded: ForwardedFields
  readonly retryBudget: RetryBudget
  readonly pathNormalization: PathNormalization
  /** Whether Upgrade requests are passed on. */
  readonly upgrades: boolean
  readonly tunnelIdleTimeoutMs: number
  readonly showsRequestId: boolean
  readonly draining: boolean
  /** Somebody reads times (access log, tracer): then they are taken. */
  readonly timed: boolean
  tunnelOpened(tunnel: Tunnel): void
  tunnelClosed(tunnel: Tunnel): void
  /** Exactly once per exchange, before `logging`. */
  exchangeEnded(exchange: Exchange<Ctx>): void
  /** A hook whose result nobody waits for failed. */
  hookFailed(hook: string, thrown: unknown): void
}
