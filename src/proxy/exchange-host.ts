/**
 * What an exchange asks of the service that runs it, and what it shows the service when it is over. The service
 * (server/http-proxy-core.ts) makes one exchange per request and outlives them all.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { PathNormalization } from '../http/target-path.ts'
import type { Peer } from '../peer/peer.ts'
import type { LoggedExchange } from '../telemetry/access-record.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import type { AttemptHost } from './attempt.ts'
import type { ForwardedFields } from './forwarded-fields.ts'
import type { HookHost } from './hook-watch.ts'
import type { KeptBodies } from './kept-bodies.ts'
import type { PhasePlan } from './phases.ts'
import type { RecordedPhases } from './recorded-phases.ts'
import type { RetryBudget } from './retry-budget.ts'
import type { Tunnel } from './tunnel.ts'

export interface ExchangeHost<Ctx> extends AttemptHost, HookHost {
  readonly plan: PhasePlan<Ctx>
  /** Decides which requests are recorded as parts of traces, and has their phases; null: none are. */
  readonly recording: RecordedPhases<Ctx> | null
  /** The service's own; null: it has none, though a peer may. */
  readonly tracers: TracerGroup | null
  /** Those who watch attempts at this peer: the service's tracers and the peer's own. Null: none. */
  tracersFor(peer: Peer): TracerGroup | null
  readonly forwarded: ForwardedFields
  readonly retryBudget: RetryBudget
  readonly pathNormalization: PathNormalization
  /** Protocols, in lower case, that a client may switch to. */
  readonly upgrades: ReadonlySet<string>
  readonly tunnelIdleTimeoutMs: number
  readonly showsRequestId: boolean
  readonly draining: boolean
  readonly keptBodies: KeptBodies
  tunnelOpened(tunnel: Tunnel): void
  tunnelClosed(tunnel: Tunnel): void
  /** An attempt failed, and another one follows. */
  attemptRetried(peer: Peer, error: ProxyError, exchange: FinishedExchange): void
  /** Exactly once per exchange, before `logging`. */
  exchangeEnded(exchange: FinishedExchange): void
}

/** An exchange that is over, for counts and logs. */
export interface FinishedExchange extends LoggedExchange {
  /** The answer was made here, by a filter or as an error page. */
  readonly ownAnswer: boolean
  /** Status of that answer; of one in gRPC, the status of HTTP that it stands for. */
  readonly ownStatus: number
  /** The application does not want this fault in the process log: it asks for each that would be there. */
  suppressesLog(error: ProxyError): boolean
  /** One line for the process log. */
  summary(): string
}
