/**
 * A service as a request of the process's own sees it: one that tests it (self-test-host.ts) or asks what would happen
 * (explain-host.ts). The application and its limits are the real ones, and nothing that outlives the request hears of it: no count,
 * no access log, no tracer, no retry budget.
 */
import type { HttpConnector } from '../connector/http-connector.ts'
import type { ProxyError } from '../errors/proxy-error.ts'
import type { PathNormalization } from '../http/target-path.ts'
import type { Peer } from '../peer/peer.ts'
import type { Clock, Ticker } from '../primitives/clock.ts'
import type { ConnectionHost, DownstreamConnection, RequestOwner } from '../protocols/http-connection.ts'
import type { DownstreamSession } from '../protocols/http-session.ts'
import { Exchange } from '../proxy/exchange.ts'
import type { ExchangeHost, FinishedExchange } from '../proxy/exchange-host.ts'
import type { ConnectionFacts, ForwardedFields } from '../proxy/forwarded-fields.ts'
import { KeptBodies } from '../proxy/kept-bodies.ts'
import type { PhasePlan } from '../proxy/phases.ts'
import { RetryBudget } from '../proxy/retry-budget.ts'
import type { Tunnel } from '../proxy/tunnel.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'

/** What a service does for such a request besides. */
export interface TestedService<Ctx> extends ExchangeHost<Ctx> {
  /** A fault of our own, or of the application, goes to the process log. */
  logFault(exchange: FinishedExchange): void
  /** Of a fault of the application; '' when nothing is known of it. */
  stackOf(error: ProxyError): string
}

export abstract class OwnRequestHost<Ctx> implements ExchangeHost<Ctx>, ConnectionHost {
  readonly plan: PhasePlan<Ctx>
  readonly connector: HttpConnector
  readonly ticker: Ticker
  readonly clock: Clock
  readonly forwarded: ForwardedFields
  readonly retryBudget = new RetryBudget()
  readonly pathNormalization: PathNormalization
  readonly upgrades: ReadonlySet<string>
  readonly tunnelIdleTimeoutMs: number
  readonly hookTimeoutMs: number
  readonly showsRequestId: boolean
  readonly recording = null
  readonly tracers = null
  readonly timed = false
  readonly counting = null
  readonly keptBodies = new KeptBodies()
  readonly judgesPeers: boolean
  protected readonly service: TestedService<Ctx>
  protected exchange: Exchange<Ctx> | null = null
  protected refused: ProxyError | null = null

  protected constructor(service: TestedService<Ctx>, plan: PhasePlan<Ctx>, connector: HttpConnector, judgesPeers: boolean) {
    this.plan = plan
    this.connector = connector
    this.ticker = service.ticker
    this.clock = service.clock
    this.forwarded = service.forwarded
    this.pathNormalization = service.pathNormalization
    this.upgrades = service.upgrades
    this.tunnelIdleTimeoutMs = service.tunnelIdleTimeoutMs
    this.hookTimeoutMs = service.hookTimeoutMs
    this.showsRequestId = service.showsRequestId
    this.judgesPeers = judgesPeers
    this.service = service
  }

  /** Why its request failed, or was refused; null: it did not, or not yet. */
  get error(): ProxyError | null { return this.refused ?? this.exchange?.error ?? null }
  /** For one that is late: what the request is at. */
  get waitsFor(): string { return this.exchange?.waitsFor ?? 'the head of the request' }

  get draining(): boolean { return this.service.draining }

  onRequest(session: DownstreamSession): RequestOwner {
    return this.exchange = new Exchange(this, session, session.connection.facts as ConnectionFacts, null)
  }

  onRefused(_connection: DownstreamConnection, error: ProxyError): void { this.refused = error }

  abstract tracersFor(peer: Peer): TracerGroup | null
  abstract exchangeEnded(exchange: FinishedExchange): void

  tunnelOpened(tunnel: Tunnel): void { this.service.tunnelOpened(tunnel) }
  tunnelClosed(tunnel: Tunnel): void { this.service.tunnelClosed(tunnel) }
  attemptRetried(): void { /* Whoever made the request tells its outcome. */ }
  hookFailed(hook: string, thrown: unknown, exchange?: FinishedExchange): void { this.service.hookFailed(hook, thrown, exchange) }
}
