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
import type { Peer } from '../peer/peer.ts'
import { Ticker, type Clock } from '../primitives/clock.ts'
import { partOf } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { ConnectionHost, DownstreamConnection, RequestOwner } from '../protocols/http-connection.ts'
import type { DownstreamSession } from '../protocols/http-session.ts'
import { Http1ServerSession } from '../protocols/http1/server-session.ts'
import { selfTest, TcpStream } from '../protocols/tcp/tcp-stream.ts'
import { Exchange } from '../proxy/exchange.ts'
import type { ExchangeHost, FinishedExchange } from '../proxy/exchange-host.ts'
import { flagOf } from '../proxy/fail-to-proxy.ts'
import { ForwardedFields, type ConnectionFacts } from '../proxy/forwarded-fields.ts'
import { FORWARDED_OPTIONS, type ForwardedOptions } from '../proxy/forwarded-options.ts'
import { planPhases, type PhasePlan } from '../proxy/phases.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import { RetryBudget } from '../proxy/retry-budget.ts'
import type { Tunnel } from '../proxy/tunnel.ts'
import type { AccessLogSink } from '../telemetry/access-record.ts'
import type { RefusalReason } from '../telemetry/tracer.ts'
import { NO_TRACERS, TracerGroup } from '../telemetry/tracer-group.ts'
import { ConnectionBook, type BookOwner } from './connection-book.ts'
import { Drain, type DrainSubject } from './drain.ts'
import { resolveHttpProxyOptions, type HttpProxyOptions } from './http-proxy-options.ts'
import { serviceOutlets } from './service-outlets.ts'
import { serviceOverrides } from './service-overrides.ts'
import { traceAccepted, traceClosed, traceRefused, traceTurnedAway } from './service-tracers.ts'
import type { DrainRequest, ListenerSpec, ListeningService, RunningListener, ServiceStats } from './service.ts'

/** A service that proxies HTTP as `app` says. Listeners are added to it: `httpProxyService(app).addTcp('0.0.0.0:6188')`. */
export function httpProxyService<Ctx>(app: ProxyHttp<Ctx>, options: HttpProxyOptions = {}): HttpProxyService<Ctx> { return new HttpProxyService(app, options) }

export class HttpProxyService<Ctx> implements ListeningService, ExchangeHost<Ctx>, ConnectionHost, DrainSubject {
  readonly kind = 'listening'
  readonly name: string
  readonly plan: PhasePlan<Ctx>
  readonly connector: HttpConnector
  readonly ticker: Ticker
  readonly clock: Clock
  readonly forwarded: ForwardedFields
  readonly retryBudget = new RetryBudget()
  readonly tracers: TracerGroup | null
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
  /** Counted nowhere, and cut with the rest. */
  readonly #selfTests = new ConnectionBook({ onLeft() {} })
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
    this.tracers = TracerGroup.of(options.tracers)
    this.pathNormalization = options.pathNormalization
    this.upgrades = options.upgrades
    this.tunnelIdleTimeoutMs = options.tunnelIdleTimeoutMs
    this.showsRequestId = options.showRequestId
    this.#maxActive = options.maxActiveRequests
    this.#base = options.listener as ResolvedHttpListenerOptions
    // Left out is not null here: the process's own access log takes its place at the start.
    this.#accessLog = given.accessLog
    this.timed = this.tracers !== null
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
      const spec = { name: `${this.name}/${address}${index === 0 ? '' : '/v6'}`, address: one, options: resolved }
      this.#bound.push(new Bound(spec, resolved, this))
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
    this.timed = this.tracers !== null || this.#accessLog !== null
    if (!await selfTest()) serviceOutlets.log.warn('this Node.js reads accepted connections the slow way only', { service: this.name, node: process.version })
  }

  bind(spec: ListenerSpec): RunningListener {
    const bound = this.#bound.find(one => one.spec.name === spec.name)
    if (bound === undefined) throw new Error(`service ${this.name} has no listener ${spec.name}`)
    const listener = bound.listener ??= new TcpListener(bound.options, bound)
    return { spec: bound.spec, createAcceptor: (): net.Server => listener.createAcceptor() }
  }

  accepted(stream: ByteStream, { spec, options, book }: Bound, countedAs: string): void {
    const session = new Http1ServerSession(stream, spec.name, options, this, this.ticker)
    book.add(session, countedAs)
    stream.owner = session
    if (this.tracers !== null) traceAccepted(this.tracers, session)
  }

  /**
   * A connection that no listener of ours accepted: from an accept loop of the user's own, or from memory. `listener` names
   * the one whose limits hold.
   */
  acceptStream(stream: ByteStream, listener: string): void {
    const bound = this.#bound.find(one => one.spec.name === listener)
    if (bound === undefined) throw new Error(`service ${this.name} has no listener ${listener}`)
    this.accepted(stream, bound, NOT_ACCEPTED)
  }

  /**
   * Through everything that a client's connection goes through, but for the listener's own limits; the marked facts keep it
   * out of every count and log.
   */
  acceptSelfTest(socket: net.Socket): void {
    const { spec, options } = this.#bound[0]!
    const stream = TcpStream.accept(socket, NOBODY)
    const session = new Http1ServerSession(stream, spec.name, options, this, this.ticker)
    session.facts = this.forwarded.factsOf({ remoteIp: '', tls: null }, true)
    this.#selfTests.add(session, '')
    stream.owner = session
  }

  // ---- requests

  onRequest(session: DownstreamSession, refusal: ProxyError | null): RequestOwner {
    const facts = (session.connection.facts ??= this.forwarded.factsOf(session.digest, false)) as ConnectionFacts
    if (facts.selfTest) return new Exchange(this, session, facts, refusal)
    this.#exchanges++
    this.retryBudget.earn()
    const shed = ++this.#active > this.#maxActive && this.#maxActive !== 0
    return new Exchange(this, session, facts, refusal ?? (shed ? overloaded() : null))
  }

  onRefused(connection: DownstreamConnection, error: ProxyError): void {
    if (isSelfTest(connection)) return
    if (this.tracers !== null) traceRefused(this.tracers, connection, error, this.clock)
    this.#accessLog?.refused(connection.listener, connection.stream.digest.remoteIp, error, flagOf(error), this.clock.wall())
  }

  /** A connection of one of the listeners is gone. */
  connectionLeft(connection: DownstreamConnection): void {
    if (this.tracers !== null) traceClosed(this.tracers, connection, this.clock)
    this.#drain?.look()
  }

  turnedAway(listener: string, clientIp: string, reason: RefusalReason): void {
    if (this.tracers !== null) traceTurnedAway(this.tracers, listener, clientIp, reason)
  }

  tracersFor({ options: { tracer } }: Peer): TracerGroup | null {
    if (tracer === null) return this.tracers
    // From now on times are taken for it.
    this.timed = true
    return (this.tracers ?? NO_TRACERS).with(tracer)
  }

  random(): number { return Math.random() }

  exchangeEnded(exchange: FinishedExchange): void {
    const { status } = exchange
    const counted = !exchange.isSelfTest
    if (counted) {
      this.#active--
      if (exchange.ownAnswer && status >= 500) this.#ownFaults++
    }
    if (exchange.error !== null && exchange.error.source === 'internal' && !exchange.errorLogSuppressed) {
      serviceOutlets.log.error('a request failed inside the proxy', { service: this.name, request: exchange.requestId, what: exchange.summary(), error: exchange.error.message, stack: causeStack(exchange.error) })
    }
    if (this.timed && counted) this.#accessLog?.exchange(exchange)
    this.#drain?.look()
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
    let oldestUpgradedMs = 0
    // The first one that was added is the oldest.
    for (const tunnel of this.#tunnels) {
      oldestUpgradedMs = Math.round(this.clock.now() - tunnel.openedAt)
      break
    }
    let connections = 0, idleConnections = 0
    for (const { book } of this.#bound) {
      connections += book.size
      idleConnections += book.idle
    }
    return {
      connections, idleConnections, activeExchanges: this.#active, upgraded: this.#tunnels.size, webSockets: this.#webSockets,
      oldestUpgradedMs, exchanges: this.#exchanges, ownFaults: this.#ownFaults,
    }
  }

  drain(request: DrainRequest): Promise<{ cut: number }> {
    this.draining = true
    if (this.#drain !== null) {
      this.#drain.tighten(request)
      return this.#drain.ended
    }
    this.#drain = new Drain(request, this)
    for (const connection of this.connections()) connection.drain()
    this.#drain.look()
    return this.#drain.ended
  }

  get open(): number {
    let open = 0
    for (const { book } of this.#bound) open += book.size
    return open
  }
  get active(): number { return this.#active }
  connections(): DownstreamConnection[] { return [...this.#bound.flatMap(({ book }) => book.snapshot()), ...this.#selfTests.snapshot()] }
  tunnels(): Tunnel[] { return [...this.#tunnels] }
  onDrained(): void { this.connector.close() }

  close(): void {
    this.draining = true
    for (const tunnel of this.#tunnels) tunnel.destroy()
    const error = new ProxyError('DRAINING', 'internal', 'the server was closed')
    for (const connection of this.connections()) {
      connection.cut(error)
      connection.destroy()
    }
    this.connector.close()
  }
}

/** The service, as its listeners see it. */
interface BoundOwner {
  accepted(stream: ByteStream, bound: Bound, countedAs: string): void
  connectionLeft(connection: DownstreamConnection): void
  turnedAway(listener: string, clientIp: string, reason: RefusalReason): void
}

/** One listener of the service, and its connections. */
class Bound implements AcceptOwner, BookOwner {
  spec: ListenerSpec
  options: ResolvedHttpListenerOptions
  listener: TcpListener | null = null
  readonly book: ConnectionBook = new ConnectionBook(this)
  readonly #service: BoundOwner

  constructor(spec: ListenerSpec, options: ResolvedHttpListenerOptions, service: BoundOwner) {
    this.spec = spec
    this.options = options
    this.#service = service
  }

  onAccepted(stream: ByteStream, countedAs: string): void { this.#service.accepted(stream, this, countedAs) }
  closeOldestIdle(): boolean { return this.book.closeOldestIdle() }
  onLeft(connection: DownstreamConnection): void {
    if (connection.countedAs !== NOT_ACCEPTED) this.listener?.left(connection.countedAs)
    this.#service.connectionLeft(connection)
  }
  onTurnedAway(clientIp: string, reason: RefusalReason): void { this.#service.turnedAway(this.spec.name, clientIp, reason) }
}

/** Counted under no client, and not among those that the listener let in. */
const NOT_ACCEPTED = '-'

function overloaded(): ProxyError {
  return new ProxyError('OVERLOADED', 'internal', 'too many requests in flight', { limit: 'active-requests' })
}

/** Known from the start of such a connection; an ordinary one has no facts before its first request. */
function isSelfTest({ facts }: DownstreamConnection): boolean { return facts !== null && (facts as ConnectionFacts).selfTest }

function causeStack(error: ProxyError): string | undefined { return error.cause instanceof Error ? error.cause.stack : undefined }
