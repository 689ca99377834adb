/**
 * An HTTP proxy as a service: an application's phases, the listeners it is reached on, and everything that outlives one
 * request (connector, plan of phases, retry budget, counters). One object per service and worker.
 */
import type net from 'node:net'
import { overridesFor } from '../config/worker-settings.ts'
import { HttpConnector } from '../connector/http-connector.ts'
import { ProxyError } from '../errors/proxy-error.ts'
import type { PathNormalization } from '../http/target-path.ts'
import { parseListenAddress } from '../ipc/listen-address.ts'
import { resolveHttpListenerOptions, type HttpListenerOptions, type ResolvedHttpListenerOptions } from '../listener/http-listener-options.ts'
import { NOBODY, TcpListener, type AcceptOwner } from '../listener/tcp-listener.ts'
import { Ticker, type Clock } from '../primitives/clock.ts'
import { partOf } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { DownstreamOwner } from '../protocols/http-session.ts'
import { Http1ServerSession, type ServerSessionHost } from '../protocols/http1/server-session.ts'
import { selfTest, TcpStream } from '../protocols/tcp/tcp-stream.ts'
import { Exchange } from '../proxy/exchange.ts'
import type { ExchangeHost } from '../proxy/exchange-host.ts'
import { flagOf } from '../proxy/fail-to-proxy.ts'
import { ForwardedFields, type ConnectionFacts } from '../proxy/forwarded-fields.ts'
import { FORWARDED_OPTIONS, type ForwardedOptions } from '../proxy/forwarded-options.ts'
import { planPhases, type PhasePlan } from '../proxy/phases.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import { RetryBudget } from '../proxy/retry-budget.ts'
import type { Tunnel } from '../proxy/upgrade.ts'
import type { AccessLogSink } from '../telemetry/access-record.ts'
import { fanOut, type Tracer } from '../telemetry/tracer.ts'
import { Drain } from './drain.ts'
import { resolveHttpProxyOptions, type HttpProxyOptions } from './http-proxy-options.ts'
import { serviceOutlets } from './service-outlets.ts'
import { serviceOverrides } from './service-overrides.ts'
import type { DrainRequest, ListenerSpec, ListeningService, RunningListener, ServiceStats } from './service.ts'

/** A service that proxies HTTP as `app` says. Listeners are added to it: `httpProxyService(app).addTcp('0.0.0.0:6188')`. */
export function httpProxyService<Ctx>(app: ProxyHttp<Ctx>, options: HttpProxyOptions = {}): HttpProxyService<Ctx> { return new HttpProxyService(app, options) }

interface Bound {
  spec: ListenerSpec
  options: ResolvedHttpListenerOptions
  listener: TcpListener | null
}

export class HttpProxyService<Ctx> implements ListeningService, ExchangeHost<Ctx>, ServerSessionHost {
  readonly kind = 'listening'
  readonly name: string
  readonly plan: PhasePlan<Ctx>
  readonly connector: HttpConnector
  readonly ticker: Ticker
  readonly clock: Clock
  readonly forwarded: ForwardedFields
  readonly retryBudget = new RetryBudget()
  readonly tracer: Tracer | null
  readonly pathNormalization: PathNormalization
  readonly upgrades: boolean
  readonly tunnelIdleTimeoutMs: number
  readonly showsRequestId: boolean
  #maxActive: number
  readonly #base: ResolvedHttpListenerOptions
  readonly #bound: Bound[] = []
  readonly #tunnels = new Set<Tunnel>()
  #accessLog: AccessLogSink | null | undefined
  timed: boolean

  draining = false
  #connections = 0
  #active = 0
  #exchanges = 0
  #webSockets = 0
  #ownFaults = 0
  #drain: Drain | null = null

  /** @throws OptionError with every option that would not do. */
  constructor(app: ProxyHttp<Ctx>, given: HttpProxyOptions) {
    const options = resolveHttpProxyOptions(given)
    this.plan = planPhases(app)
    this.name = options.name
    this.connector = options.connector ?? new HttpConnector()
    this.ticker = new Ticker(this.connector.ticker.clock)
    this.clock = this.ticker.clock
    this.forwarded = new ForwardedFields(partOf<ForwardedOptions>(FORWARDED_OPTIONS, options))
    this.tracer = fanOut(options.tracers)
    this.pathNormalization = options.pathNormalization
    this.upgrades = options.upgrades
    this.tunnelIdleTimeoutMs = options.tunnelIdleTimeoutMs
    this.showsRequestId = options.showRequestId
    this.#maxActive = options.maxActiveRequests
    this.#base = options.listener as ResolvedHttpListenerOptions
    // Left out is not null here: the process's own access log takes its place at the start.
    this.#accessLog = given.accessLog
    this.timed = this.tracer !== null
  }

  // ---- listeners

  /** `host:port`, `[v6]:port` or `:port` (both families). @throws TypeError on an address or option that would not do. */
  addTcp(address: string, options: HttpListenerOptions = {}): this {
    if (address.startsWith('unix:')) throw new TypeError(`addTcp was given ${address}; use addUnix`)
    return this.#add(address, options)
  }

  /** A path, or `unix:/path?mode=660`. */
  addUnix(path: string, options: HttpListenerOptions = {}): this { return this.#add(path.startsWith('unix:') ? path : `unix:${path}`, options) }

  #add(address: string, options: HttpListenerOptions): this {
    const resolved = resolveHttpListenerOptions(options, this.#base), parsed = parseListenAddress(address)
    parsed.forEach((one, index) => {
      this.#bound.push({ spec: { name: `${this.name}/${address}${index === 0 ? '' : '/v6'}`, address: one, options: resolved }, options: resolved, listener: null })
    })
    return this
  }

  get listeners(): readonly ListenerSpec[] { return this.#bound.map(({ spec }) => spec) }

  async start(): Promise<void> {
    if (this.#accessLog === undefined) this.#accessLog = serviceOutlets.accessLog
    const { limits, listeners } = serviceOverrides.settings
    this.#maxActive = limits.maxActiveRequests ?? this.#maxActive
    for (const bound of this.#bound) {
      bound.options = resolveHttpListenerOptions(overridesFor(listeners, bound.spec.name), bound.options)
      bound.spec = { ...bound.spec, options: bound.options }
    }
    this.timed = this.tracer !== null || this.#accessLog !== null
    if (!await selfTest()) serviceOutlets.log.warn('this Node.js reads accepted connections the slow way only', { service: this.name, node: process.version })
  }

  bind(spec: ListenerSpec): RunningListener {
    const bound = this.#bound.find(one => one.spec.name === spec.name)
    if (bound === undefined) throw new Error(`service ${this.name} has no listener ${spec.name}`)
    const listener = bound.listener ??= new TcpListener(bound.options, new Acceptance(this, bound))
    return { spec: bound.spec, createAcceptor: (): net.Server => listener.createAcceptor() }
  }

  accepted(stream: ByteStream, bound: { readonly spec: ListenerSpec; readonly options: ResolvedHttpListenerOptions; readonly listener: TcpListener | null }, countedAs: string): void {
    this.#connections++
    const session = new Http1ServerSession(stream, bound.spec.name, bound.options, this, this.ticker)
    session.countedAs = countedAs
    session.acceptedBy = bound.listener
    stream.owner = session
  }

  /** A connection that no listener of ours accepted: from an accept loop of the user's own, or from memory. `listener` names the one whose limits hold. */
  acceptStream(stream: ByteStream, listener: string): void {
    const bound = this.#bound.find(one => one.spec.name === listener)
    if (bound === undefined) throw new Error(`service ${this.name} has no listener ${listener}`)
    this.accepted(stream, { spec: bound.spec, options: bound.options, listener: null }, '')
  }

  /** Through everything that a client's connection goes through, but for the listener's own limits; the marked facts keep it out of every count and log. */
  acceptSelfTest(socket: net.Socket): void {
    const { spec, options } = this.#bound[0]!
    const stream = TcpStream.accept(socket, NOBODY)
    const session = new Http1ServerSession(stream, spec.name, options, this, this.ticker)
    session.attachment = this.forwarded.factsOf('', true)
    stream.owner = session
  }

  closeOldestIdle(listener: TcpListener | null): boolean {
    let oldest: Http1ServerSession | null = null
    for (const timed of this.ticker.snapshot()) {
      if (timed instanceof Http1ServerSession && timed.idle && timed.acceptedBy === listener && (oldest === null || timed.deadline < oldest.deadline)) oldest = timed
    }
    oldest?.closeIdle()
    return oldest !== null
  }

  // ---- requests

  onRequest(session: Http1ServerSession): DownstreamOwner & { begin(refusal: ProxyError | null): void } {
    const facts = (session.attachment ??= this.forwarded.factsOf(session.digest.remoteIp, false)) as ConnectionFacts
    const exchange = new Exchange(this, session, facts)
    if (facts.selfTest) return exchange
    this.#exchanges++
    this.retryBudget.earn()
    if (++this.#active > this.#maxActive && this.#maxActive !== 0) return new Shed(exchange)
    return exchange
  }

  onRefused(session: Http1ServerSession, error: ProxyError): void {
    if (!isSelfTest(session)) this.#accessLog?.refused(session.listener, session.digest.remoteIp, error, flagOf(error), this.clock.wall())
  }

  onClosed(session: Http1ServerSession): void {
    if (isSelfTest(session)) return
    this.#connections--
    ;(session.acceptedBy as TcpListener | null)?.left(session.countedAs)
    this.#drain?.look()
  }

  exchangeEnded(exchange: Exchange<Ctx>): void {
    const status = exchange.response === null ? 0 : exchange.response.status
    const counted = !exchange.isSelfTest
    if (counted) {
      this.#active--
      if (exchange.ownAnswer && status >= 500) this.#ownFaults++
    }
    if (exchange.error !== null && exchange.error.source === 'internal' && !exchange.errorLogSuppressed) {
      serviceOutlets.log.error('a request failed inside the proxy', { service: this.name, request: exchange.requestId, what: exchange.summary(), error: exchange.error.message, stack: causeStack(exchange.error) })
    }
    if (this.timed && counted) this.#report(exchange, status)
    this.#drain?.look()
  }

  #report(exchange: Exchange<Ctx>, status: number): void {
    this.#accessLog?.exchange(exchange, status)
    this.tracer?.exchangeEnded?.({
      requestId: exchange.requestId, listener: exchange.listener, method: exchange.request.method, target: exchange.request.target, status,
      flag: exchange.flag, bytesIn: exchange.bytesReceived, bytesOut: exchange.bytesSent, durationMs: exchange.durationMs, attempts: exchange.attempts, error: exchange.error,
    })
  }

  hookFailed(hook: string, thrown: unknown): void {
    serviceOutlets.log.error(`${hook} failed; the request was not touched by that`, { service: this.name, error: thrown instanceof Error ? thrown.message : String(thrown), stack: thrown instanceof Error ? thrown.stack : undefined })
  }

  tunnelOpened(tunnel: Tunnel): void {
    this.#tunnels.add(tunnel)
    if (tunnel.webSocket) this.#webSockets++
  }

  tunnelClosed(tunnel: Tunnel): void {
    this.#tunnels.delete(tunnel)
    if (tunnel.webSocket) this.#webSockets--
  }

  // ---- life

  stats(): ServiceStats {
    let idle = 0
    for (const timed of this.ticker.snapshot()) if (timed instanceof Http1ServerSession && timed.idle && !isSelfTest(timed)) idle++
    let oldestUpgradedMs = 0
    // The first one that was added is the oldest.
    for (const tunnel of this.#tunnels) {
      oldestUpgradedMs = Math.round(this.clock.now() - tunnel.openedAt)
      break
    }
    return {
      connections: this.#connections, idleConnections: idle, activeExchanges: this.#active, upgraded: this.#tunnels.size, webSockets: this.#webSockets, oldestUpgradedMs,
      exchanges: this.#exchanges, ownFaults: this.#ownFaults,
    }
  }

  drain(request: DrainRequest): Promise<{ cut: number }> {
    this.draining = true
    if (this.#drain !== null) {
      this.#drain.tighten(request)
      return this.#drain.ended
    }
    this.#drain = new Drain(request, {
      clock: this.clock,
      sessions: () => this.ticker.snapshot().filter(timed => timed instanceof Http1ServerSession),
      tunnels: () => [...this.#tunnels],
      connections: () => this.#connections,
      active: () => this.#active,
      onEnded: () => this.connector.close(),
    })
    this.#drain.look()
    return this.#drain.ended
  }

  close(): void {
    this.draining = true
    for (const tunnel of this.#tunnels) tunnel.destroy()
    for (const timed of this.ticker.snapshot()) {
      if (!(timed instanceof Http1ServerSession)) continue
      timed.cut(new ProxyError('DRAINING', 'internal', 'the server was closed'))
      timed.destroy()
    }
    this.connector.close()
  }
}

/** One listener's connections, for the service. */
class Acceptance<Ctx> implements AcceptOwner {
  readonly #service: HttpProxyService<Ctx>
  readonly #bound: Bound
  constructor(service: HttpProxyService<Ctx>, bound: Bound) {
    this.#service = service
    this.#bound = bound
  }
  onAccepted(stream: ByteStream, countedAs: string): void { this.#service.accepted(stream, this.#bound, countedAs) }
  closeOldestIdle(): boolean { return this.#service.closeOldestIdle(this.#bound.listener) }
}

/** A request over `maxActiveRequests`: an exchange that is refused as it begins. */
class Shed<Ctx> implements DownstreamOwner {
  readonly #exchange: Exchange<Ctx>
  constructor(exchange: Exchange<Ctx>) { this.#exchange = exchange }
  begin(refusal: ProxyError | null): void { this.#exchange.begin(refusal ?? new ProxyError('OVERLOADED', 'internal', 'too many requests in flight', { limit: 'active-requests' })) }
  onRequestBody(buffer: Buffer, from: number, to: number): void { this.#exchange.onRequestBody(buffer, from, to) }
  onRequestEnd(): void { this.#exchange.onRequestEnd(null) }
  onDownstreamDrained(): void { this.#exchange.onDownstreamDrained() }
  onDownstreamFault(error: ProxyError): void { this.#exchange.onDownstreamFault(error) }
}

/** Known from the start of such a connection; an ordinary one has no facts before its first request. */
function isSelfTest(session: Http1ServerSession): boolean { return session.attachment !== null && (session.attachment as ConnectionFacts).selfTest }

function causeStack(error: ProxyError): string | undefined { return error.cause instanceof Error ? error.cause.stack : undefined }
