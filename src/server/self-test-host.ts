/**
 * A service as the process's own request sees it (self-test.ts): the application, its plan and its limits are the real ones,
 * and nothing that outlives the request hears of it: no count, no access log, no tracer, no load balancer, no retry budget.
 *
 * Unless the test is to reach the upstream, whatever peer the application names is answered from memory: 200 and a line of
 * text, without a name resolved or a socket opened. So a worker is as able to serve as this says, whatever origins do; an
 * application that has no peer to name, because all of its backends are down, has answered as it should.
 */
import { HttpConnector } from '../connector/http-connector.ts'
import type { ProxyError } from '../errors/proxy-error.ts'
import type { PathNormalization } from '../http/target-path.ts'
import type { Peer } from '../peer/peer.ts'
import type { Clock, Ticker } from '../primitives/clock.ts'
import type { ConnectionHost, DownstreamConnection, RequestOwner } from '../protocols/http-connection.ts'
import type { DownstreamSession } from '../protocols/http-session.ts'
import { Exchange } from '../proxy/exchange.ts'
import type { ExchangeHost, FinishedExchange } from '../proxy/exchange-host.ts'
import type { ConnectionFacts, ForwardedFields } from '../proxy/forwarded-fields.ts'
import { hookLate } from '../proxy/hook-watch.ts'
import { KeptBodies } from '../proxy/kept-bodies.ts'
import type { PhasePlan } from '../proxy/phases.ts'
import { RetryBudget } from '../proxy/retry-budget.ts'
import type { Tunnel } from '../proxy/tunnel.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import { memoryTransport, type MemoryOrigin } from './memory-origin.ts'
import type { TestedConnection } from './service.ts'

/** What a service does for it besides. */
export interface TestedService<Ctx> extends ExchangeHost<Ctx> {
  /** A fault of our own, or of the application, goes to the process log. */
  logFault(exchange: FinishedExchange): void
  /** Of a fault of the application; '' when nothing is known of it. */
  stackOf(error: ProxyError): string
}

const answerItself: MemoryOrigin = () => ({ headers: { 'content-type': 'text/plain' }, body: 'self-test\n' })

export class SelfTestHost<Ctx> implements ExchangeHost<Ctx>, ConnectionHost, TestedConnection {
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
  readonly tracers = null
  readonly timed = false
  readonly keptBodies = new KeptBodies()
  readonly judgesPeers: boolean
  readonly #service: TestedService<Ctx>
  readonly #upstream: boolean
  #exchange: Exchange<Ctx> | null = null
  #refused: ProxyError | null = null

  constructor(service: TestedService<Ctx>, upstream: boolean) {
    const { ticker } = service
    this.plan = service.plan
    this.connector = upstream ? service.connector
      : new HttpConnector({ ticker, transport: memoryTransport(answerItself, ticker, 'self-test-origin') })
    this.ticker = ticker
    this.clock = service.clock
    this.forwarded = service.forwarded
    this.pathNormalization = service.pathNormalization
    this.upgrades = service.upgrades
    this.tunnelIdleTimeoutMs = service.tunnelIdleTimeoutMs
    this.hookTimeoutMs = service.hookTimeoutMs
    this.showsRequestId = service.showsRequestId
    this.judgesPeers = upstream
    this.#service = service
    this.#upstream = upstream
  }

  // ---- what the test asks

  get error(): ProxyError | null { return this.#refused ?? this.#exchange?.error ?? null }
  /** A test that is late may wait for a hook, whose place it is then. */
  get stack(): string { return this.#service.stackOf(this.error ?? hookLate(this.waitsFor, this)) }
  get waitsFor(): string { return this.#exchange?.waitsFor ?? 'the head of the request' }
  get namedNoPeer(): boolean {
    return !this.#upstream && this.error?.source === 'upstream' && this.#exchange !== null && this.#exchange.peer === null
  }

  // ---- the service of its connection and its exchange

  get draining(): boolean { return this.#service.draining }

  onRequest(session: DownstreamSession): RequestOwner {
    return this.#exchange = new Exchange(this, session, session.connection.facts as ConnectionFacts, null)
  }

  onRefused(_connection: DownstreamConnection, error: ProxyError): void { this.#refused = error }

  /** Its connections to an upstream are real ones. */
  tracersFor(peer: Peer): TracerGroup | null { return this.#upstream ? this.#service.tracersFor(peer) : null }

  tunnelOpened(tunnel: Tunnel): void { this.#service.tunnelOpened(tunnel) }
  tunnelClosed(tunnel: Tunnel): void { this.#service.tunnelClosed(tunnel) }

  exchangeEnded(exchange: FinishedExchange): void {
    if (!this.#upstream) this.connector.close()
    this.#service.logFault(exchange)
  }

  attemptRetried(): void { /* Its outcome is told by the test. */ }
  hookFailed(hook: string, thrown: unknown): void { this.#service.hookFailed(hook, thrown) }
}
