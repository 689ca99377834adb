/**
 * What an HTTP proxy does with the connections of its listeners: an application's phases, and everything that outlives one
 * request (connector, plan of phases, retry budget, counts, logs). One object per service and worker, behind
 * http-proxy-service.ts. Listeners, the book of connections and the drain are listening-base.ts.
 */
import { HttpConnector } from '../connector/http-connector.ts'
import { describeError, nameOfError } from '../errors/describe-error.ts'
import { asProxyError, ProxyError } from '../errors/proxy-error.ts'
import type { GivenCertificate } from '../certificates/certificate-entry.ts'
import { asciiLower, FieldKind } from '../http/header-map.ts'
import type { PathNormalization } from '../http/target-path.ts'
import type { ExplainRequest, Explanation } from '../ipc/explanation.ts'
import { framesOf, wordsOf, type FaultPlace } from '../ipc/fault-report.ts'
import type { Counted, OpenCounts } from '../ipc/open-counts.ts'
import { SILENT_LOG, type LogFields } from '../ipc/process-log.ts'
import type { HttpListenerOptions, ResolvedHttpListenerOptions } from '../listener/http-listener-options.ts'
import { resolveHttpListenerOptions } from '../listener/http-listener-options.ts'
import { clientOf } from '../listener/tcp-listener.ts'
import { TLS_LISTENER_DEFAULTS } from '../listener/tls-listener-options.ts'
import type { Peer } from '../peer/peer.ts'
import { catchLater } from '../primitives/application-call.ts'
import { Ticker, type Clock } from '../primitives/clock.ts'
import { OptionError, partOf } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { ConnectionHost, DownstreamConnection, RequestOwner } from '../protocols/http-connection.ts'
import type { DownstreamSession } from '../protocols/http-session.ts'
import { Exchange } from '../proxy/exchange.ts'
import type { FinishedExchange } from '../proxy/exchange-host.ts'
import { flagOf, weightOf } from '../proxy/fail-to-proxy.ts'
import type { FaultWatcher } from '../proxy/fault-watcher.ts'
import { ForwardedFields, type ConnectionFacts } from '../proxy/forwarded-fields.ts'
import { FORWARDED_OPTIONS, type ForwardedOptions } from '../proxy/forwarded-options.ts'
import { foundHooks } from '../proxy/hook-names.ts'
import { hookStack } from '../proxy/hook-stack.ts'
import { KeptBodies } from '../proxy/kept-bodies.ts'
import { planPhases, type PhasePlan } from '../proxy/phases.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import { RecordedPhases } from '../proxy/recorded-phases.ts'
import { RetryBudget } from '../proxy/retry-budget.ts'
import type { Tunnel } from '../proxy/tunnel.ts'
import { watchPlan } from '../proxy/watched-plan.ts'
import type { AccessLogSink } from '../telemetry/access-record.ts'
import type { FaultDetails, FaultReports } from '../telemetry/fault-reports.ts'
import type { ExchangeCounter } from '../telemetry/exchange-counter.ts'
import { RepeatedLines } from '../telemetry/repeated-lines.ts'
import { readTraceparent } from '../telemetry/trace-context.ts'
import type { RequestTracing } from '../telemetry/request-trace.ts'
import type { Tracer } from '../telemetry/tracer.ts'
import { NO_TRACERS, TracerGroup } from '../telemetry/tracer-group.ts'
import { NO_FACTS, type AcceptFacts, type AcceptStage, type ServedConnection } from './accept-pipeline.ts'
import { Admission, MemoryStage, type ShedReason } from './admission.ts'
import { ConnectionBook } from './connection-book.ts'
import type { Drain } from './drain.ts'
import { tellBoth, type ExchangeWatcher } from './exchange-watcher.ts'
import { explainRequest } from './explain.ts'
import { resolveHttpProxyOptions, type HttpProxyOptions } from './http-proxy-options.ts'
import { HTTP_PROTOCOLS, type OpenHttp } from './http-protocols.ts'
import type { ServiceCore } from './listening-base.ts'
import type { TestedService } from './own-request-host.ts'
import { SelfTestHost } from './self-test-host.ts'
import type { ServerContext } from './server-context.ts'
import { traceRefused } from './service-tracers.ts'
import { TlsStage } from './tls-stage.ts'
import type { ListenerSpec, ServiceParts, TestedConnection } from './service.ts'

/** Of the memory budget, for bodies that another attempt may want: what is given up later costs garbage first. */
const KEPT_SHARE = 1 / 4
/** Idle connections to origins that are closed in each tick while memory is short, and bodies that are kept no longer. */
const SPARED_AT_ONCE = 64

type HttpListener = ListenerSpec<ResolvedHttpListenerOptions>

export class HttpProxyCore<Ctx> implements ServiceCore<HttpListenerOptions, ResolvedHttpListenerOptions>, TestedService<Ctx>,
  ConnectionHost {
  readonly name: string
  /** The service's own, or one that tells who looks at it of each hook. */
  plan: PhasePlan<Ctx>
  readonly connector: HttpConnector
  readonly ticker: Ticker
  readonly clock: Clock
  readonly forwarded: ForwardedFields
  readonly retryBudget = new RetryBudget()
  recording: RecordedPhases<Ctx> | null = null
  counting: ExchangeCounter | null = null
  /** Of the service, the process, and whoever looks. */
  tracers: TracerGroup | null
  readonly pathNormalization: PathNormalization
  readonly upgrades: ReadonlySet<string>
  readonly tunnelIdleTimeoutMs: number
  readonly hookTimeoutMs: number
  readonly showsRequestId: boolean
  readonly judgesPeers = true
  readonly keptBodies = new KeptBodies(bytes => {
    const { memoryStage, memoryBudgetBytes } = this.#admission
    return memoryStage === MemoryStage.Free && bytes < KEPT_SHARE * memoryBudgetBytes
  })
  readonly faults: FaultWatcher | null
  timed: boolean
  draining = false
  drain: Drain | null = null
  /** Requests under way that count. */
  active = 0
  #exchanges = 0
  #webSockets = 0
  #ownFaults = 0
  #upstreamFaults = 0
  #maxActive: number
  #admission = new Admission()
  #lines: RepeatedLines
  #faultReports: FaultReports | null = null
  /** Undefined: the process's own takes its place at the start. */
  #accessLog: AccessLogSink | null | undefined
  /** Told of finished requests: the access log, and whoever looks. */
  #sink: AccessLogSink | null = null
  readonly #ownTracers: readonly Tracer[]
  /** Of the service and the process. */
  #standingTracers: TracerGroup | null
  readonly #ownPlan: PhasePlan<Ctx>
  #tracing: RequestTracing | null = null
  /** A peer has a tracer, which wants times. */
  #timedForPeer = false
  readonly #listenerOptions: ResolvedHttpListenerOptions
  readonly #protocols: ReadonlyMap<string, OpenHttp>
  /** Of each listener for TLS that has started. */
  readonly tlsStages: TlsStage[] = []
  readonly #tunnels = new Set<Tunnel>()
  /** Connections of this process to itself: no count knows them, and they are cut with the rest. */
  readonly #ownConnections = new ConnectionBook({ onCame() {}, onLeft() {} })

  /**
   * @param faults hears of every fault; null: the process log does
   * @throws OptionError with every option that would not do.
   */
  constructor(
    app: ProxyHttp<Ctx>, given: HttpProxyOptions, protocols: ReadonlyMap<string, OpenHttp> = HTTP_PROTOCOLS,
    faults: FaultWatcher | null = null,
  ) {
    const options = resolveHttpProxyOptions(given)
    this.name = options.name
    this.plan = this.#ownPlan = planPhases(app)
    this.connector = options.connector ?? new HttpConnector()
    this.ticker = new Ticker(this.connector.ticker.clock)
    this.clock = this.ticker.clock
    this.#lines = new RepeatedLines(SILENT_LOG, this.clock)
    this.forwarded = new ForwardedFields(partOf<ForwardedOptions>(FORWARDED_OPTIONS, options), options.name)
    this.#ownTracers = options.tracers
    this.tracers = this.#standingTracers = TracerGroup.of(options.tracers)
    this.pathNormalization = options.pathNormalization
    this.upgrades = new Set(options.upgrades.map(asciiLower))
    this.tunnelIdleTimeoutMs = options.tunnelIdleTimeoutMs
    this.hookTimeoutMs = options.hookTimeoutMs
    this.showsRequestId = options.showRequestId
    this.timed = this.tracers !== null
    this.#maxActive = options.maxActiveRequests
    this.#accessLog = given.accessLog
    this.#listenerOptions = options.listener as ResolvedHttpListenerOptions
    this.faults = faults
    this.#protocols = protocols
  }

  parts(): ServiceParts { return foundHooks(this.#ownPlan.app, this.#ownPlan.modules) }

  // ---- connections

  resolve(options: HttpListenerOptions, base: ResolvedHttpListenerOptions | null, secure: boolean): ResolvedHttpListenerOptions {
    const under = base ?? this.#listenerOptions
    if (secure) return resolveHttpListenerOptions(options, { ...under, tls: under.tls ?? TLS_LISTENER_DEFAULTS })
    if ((options.tls ?? null) === null) return resolveHttpListenerOptions(options, { ...under, tls: null })
    throw OptionError.of('listener.tls', options.tls, 'leave it out, or add the listener with addTls')
  }

  stages(listener: HttpListener, lines: RepeatedLines): readonly AcceptStage[] {
    const stage = this.#tlsStage(listener, lines)
    if (stage === null) return []
    this.tlsStages.push(stage)
    return [stage]
  }

  check(listener: HttpListener): void {
    const { options } = listener, { tls } = options
    if (tls === null) return
    const certificates = tls.certificates.filter(isKnown)
    // Those that a service makes at its start are looked at then.
    if (certificates.length < tls.certificates.length && certificates.length === 0) return
    this.#tlsStage({ ...listener, options: { ...options, tls: { ...tls, certificates } } }, new RepeatedLines(SILENT_LOG))?.close()
  }

  #tlsStage({ name: listener, options: { tls, http2 } }: HttpListener, lines: RepeatedLines): TlsStage | null {
    return tls === null ? null : new TlsStage(tls, {
      listener, ticker: this.ticker, lines,
      tracers: () => this.tracers,
      protocols: [...this.#protocols.keys()].filter(name => name !== '' && (name !== 'h2' || http2.enabled)),
      clientOf: ip => this.speaksForMany(ip) ? '' : clientOf(ip),
    })
  }

  /** The first head is due from the moment of accepting, whatever comes before it. */
  handshakeTimeoutMs({ headTimeoutMs, tls }: ResolvedHttpListenerOptions): number {
    return tls === null ? headTimeoutMs : tls.handshakeTimeoutMs
  }

  start({ log, accessLog, tracers, counting, tracing, faultReports, settings, instanceId }: ServerContext, admission: Admission): void {
    this.#admission = admission
    this.#standingTracers = TracerGroup.of([...this.#ownTracers, ...tracers])
    this.#lines = new RepeatedLines(log, this.clock)
    this.#faultReports = faultReports
    if (instanceId !== undefined) this.forwarded.identify(instanceId)
    if (this.#accessLog === undefined) this.#accessLog = accessLog
    this.#maxActive = settings.limits.maxActiveRequests ?? this.#maxActive
    this.#tracing = tracing
    this.counting = counting
    this.watch(null)
  }

  /** Null: nobody looks any more. Requests that are under way are told of as far as they have not come yet. */
  watch(watcher: ExchangeWatcher | null): void {
    const own = this.#ownPlan, standing = this.#standingTracers
    const hooks = watcher === null ? null : watcher.hooks
    this.plan = hooks === null ? own : watchPlan(own, hooks)
    this.recording = this.#tracing === null ? null : new RecordedPhases(this.plan, this.#tracing)
    this.tracers = (watcher?.tracers ?? []).reduce<TracerGroup | null>((group, tracer) => (group ?? NO_TRACERS).with(tracer), standing)
    this.#sink = tellBoth(this.#accessLog ?? null, watcher === null ? null : watcher.lines)
    const isWatched = this.tracers !== null && this.tracers.watchesExchanges
    this.timed = isWatched || this.counting !== null || this.recording !== null || this.#sink !== null || this.#timedForPeer
  }

  open(stream: ByteStream, facts: AcceptFacts, listener: HttpListener, acceptedAt: number): ServedConnection {
    return this.#open(stream, facts, listener, acceptedAt, this)
  }

  #open(
    stream: ByteStream, { alpn, site }: AcceptFacts, listener: HttpListener, acceptedAt: number, host: ConnectionHost,
  ): ServedConnection {
    const open = this.#protocols.get(alpn)
    if (open === undefined) throw new Error(`no session speaks '${alpn}'`)
    const connection = open(stream, listener.name, listener.options, host, this.ticker, acceptedAt)
    if (site !== null) connection.facts = this.forwarded.factsOf(stream.digest, false, site)
    return connection
  }

  /**
   * A connection of this process to itself, through everything that a client's goes through but the listener's own limits.
   * Its host keeps it out of every count and log. @param upstream its request goes on to the application's peer
   */
  openSelfTest(stream: ByteStream, listener: HttpListener, upstream: boolean): TestedConnection {
    const host = new SelfTestHost(this, upstream)
    this.#openOwn(stream, listener, host, this.forwarded.factsOf({ remoteIp: '', tls: null }, true))
    return host
  }

  /** Runs the application's hooks on a request that nobody sent. @throws TypeError for what is no request */
  explain(request: ExplainRequest, listener: HttpListener): Promise<Explanation> {
    return explainRequest(this, this.#ownPlan, request, {
      connectionFilter: listener.options.connectionFilter,
      open: (stream, host) => this.#openOwn(stream, listener, host, this.forwarded.factsOf({ remoteIp: request.from, tls: null }, false)),
    })
  }

  #openOwn(stream: ByteStream, listener: HttpListener, host: ConnectionHost, facts: ConnectionFacts): void {
    const connection = this.#open(stream, NO_FACTS, listener, this.clock.now(), host)
    connection.facts = facts
    this.#ownConnections.add(connection, '')
    stream.owner = connection
  }

  uncounted(): readonly DownstreamConnection[] { return this.#ownConnections.snapshot() }

  // ---- requests

  onRequest(session: DownstreamSession): RequestOwner {
    const facts = (session.connection.facts ??= this.forwarded.factsOf(session.digest, false)) as ConnectionFacts
    this.#exchanges++
    this.retryBudget.earn()
    this.active++
    const shed = this.#admission.begin(this.#maxActive), { site } = facts
    const refusal = shed === null ? null : overloaded(shed)
    if (refusal !== null || site === null) return new Exchange(this, session, facts, refusal)
    const authority = session.request.headers.getKind(FieldKind.Host) ?? ''
    if (site.serves(authority)) return new Exchange(this, session, facts, null)
    // Whatever else its client asks for here would be told the same.
    if (site.isFor(authority)) session.connection.drain()
    const error = new ProxyError('MISDIRECTED', 'downstream', `the host is served on other connections than those for '${site.serverName}'`)
    return new Exchange(this, session, facts, error)
  }

  onRefused(connection: DownstreamConnection, error: ProxyError): void {
    this.faults?.requestFailed(error)
    if (this.tracers !== null) traceRefused(this.tracers, connection, error, this.clock)
    const log = this.#sink, { listener, stream } = connection
    if (this.#lines.wantsDebug) {
      const { kind, message } = error
      this.#lines.debug('a head was refused', { listener, kind }, () => ({ client: stream.digest.remoteIp, error: message }))
    }
    if (log === null) return
    try {
      catchLater(log.refused(listener, stream.digest.remoteIp, error, flagOf(error), this.clock.wall()), this.#onLogFailed)
    } catch (thrown) {
      this.#onLogFailed(thrown)
    }
  }

  tracersFor({ options: { tracer } }: Peer): TracerGroup | null {
    if (tracer === null) return this.tracers
    // From now on times are taken for it.
    this.timed = this.#timedForPeer = true
    return (this.tracers ?? NO_TRACERS).with(tracer)
  }

  exchangeEnded(exchange: FinishedExchange): void {
    this.active--
    this.#admission.ended()
    if (exchange.ownAnswer && exchange.ownStatus >= 500) {
      // Also where a filter answered in the place of an origin that had failed.
      if (exchange.upstreamStatus >= 500 || exchange.error?.source === 'upstream') this.#upstreamFaults++
      else this.#ownFaults++
    } else if (exchange.error !== null && isCutByUs(exchange.error)) this.#ownFaults++
    if (exchange.error !== null) this.faults?.requestFailed(exchange.error)
    this.logFault(exchange)
    const log = this.#sink
    if (log !== null && exchange.inAccessLog) this.#write(log, exchange)
    this.drain?.look()
  }

  /** A sink of the application's own may fail: the exchange is over all the same. */
  #write(log: AccessLogSink, exchange: FinishedExchange): void {
    try {
      catchLater(log.exchange(exchange, this.clock.wall()), this.#onLogFailed)
    } catch (thrown) {
      this.#onLogFailed(thrown)
    }
  }

  readonly #onLogFailed = (thrown: unknown): void => this.hookFailed('accessLog', thrown)

  /** To the process log, unless the client brought it about: one line a period for each origin and kind of fault. */
  logFault(exchange: FinishedExchange): void {
    const { error } = exchange
    if (error === null) return
    const weight = weightOf(error)
    // Anybody can make as many as he wants: told only when somebody looks for them.
    if ((weight === null && !this.#lines.wantsDebug) || exchange.suppressesLog(error)) return
    const { kind, source } = error, service = this.name
    if (weight === null) {
      this.#lines.debug('a client failed its request', { service, kind }, () => detailsOf(exchange, error))
    } else if (weight === 'warn') {
      this.#lines.warn('requests were turned away', { service, kind }, () => detailsOf(exchange, error))
    } else if (source === 'upstream') {
      const peer = exchange.peer === null ? '' : exchange.peer.name
      // There is no peer then, and two balancers may have nothing left for reasons of their own: each names itself in the message.
      const subject = kind === 'NO_HEALTHY_BACKEND' ? { service, kind, peer, error: error.message } : { service, kind, peer }
      this.#lines.error('an upstream failed a request', subject, () => detailsOf(exchange, error))
    } else {
      this.#lines.error('a request failed inside the proxy', { service, kind, ...error.hook === '' ? {} : { hook: error.hook } }, () => ({
        ...detailsOf(exchange, error), stack: this.stackOf(error) || undefined,
      }))
      this.#report(error, error.hook, exchange)
    }
  }

  /** A fault of ours, or of the application, in a client's request. @param exchange null: it is not known in which one */
  #report(error: ProxyError, hook: string, exchange: FinishedExchange | null): void {
    const reports = this.#faultReports
    // Whoever asked for the self-test is told how it ended.
    if (reports === null || exchange?.isSelfTest === true) return
    const thrown = error.cause ?? error
    const name = thrown instanceof ProxyError ? thrown.kind : nameOfError(thrown)
    reports.report(hook === '' ? 'request' : 'hook', name, hook, () => this.#faultDetails(error, thrown, exchange))
  }

  #faultDetails(error: ProxyError, thrown: unknown, exchange: FinishedExchange | null): FaultDetails {
    const client = exchange === null ? '' : exchange.clientIp
    const { message, stack } = wordsOf(thrown, client)
    // Where no line of the application is in the stack, the place of the hook is known all the same.
    const words = { message, stack: framesOf(this.stackOf(error), client) || stack, service: this.name }
    if (exchange === null) return words
    const { listener, requestId, peer } = exchange
    const place = { listener, requestId, ...traceOf(exchange) }
    return peer === null ? { ...words, ...place } : { ...words, ...place, peer: peer.name }
  }

  attemptRetried({ name: peer }: Peer, error: ProxyError, exchange: FinishedExchange): void {
    this.faults?.faultPassed(error)
    if (exchange.isSelfTest || exchange.suppressesLog(error)) return
    const { kind } = error
    this.#lines.warn('an attempt failed, another one follows', { service: this.name, kind, peer }, () => detailsOf(exchange, error))
  }

  hookFailed(hook: string, thrown: unknown, exchange: FinishedExchange | null = null): void {
    const fault = asProxyError(thrown, hook)
    this.faults?.faultPassed(fault)
    this.#report(fault, hook, exchange)
    this.#lines.error(`${hook} failed; the request was not touched by that`, { service: this.name }, () => {
      const { message, stack } = describeError(thrown)
      return { error: message, stack: (fault === thrown ? stack : this.stackOf(fault)) || undefined }
    })
  }

  stackOf(error: ProxyError): string { return hookStack(error, this.#ownPlan) }

  tunnelOpened(tunnel: Tunnel): void {
    this.#tunnels.add(tunnel)
    if (tunnel.webSocket) this.#webSockets++
  }

  tunnelClosed(tunnel: Tunnel): void {
    this.#tunnels.delete(tunnel)
    if (tunnel.webSocket) this.#webSockets--
  }

  tunnels(): readonly Tunnel[] { return [...this.#tunnels] }

  // ---- life

  counts(): Partial<OpenCounts> {
    let oldestUpgradedMs = 0
    // The first one that was added is the oldest.
    for (const tunnel of this.#tunnels) {
      oldestUpgradedMs = Math.round(this.clock.now() - tunnel.openedAt)
      break
    }
    return {
      activeExchanges: this.active, upgraded: this.#tunnels.size, webSockets: this.#webSockets, oldestUpgradedMs,
      exchanges: this.#exchanges, ownFaults: this.#ownFaults, upstreamFaults: this.#upstreamFaults,
    }
  }

  counted(): Iterable<Counted> { return this.connector.counted() }

  speaksForMany(clientIp: string): boolean { return this.forwarded.trusts(clientIp) }

  spare(): void {
    this.connector.closeIdle(SPARED_AT_ONCE)
    this.keptBodies.spare(SPARED_AT_ONCE)
  }

  close(): void {
    for (const stage of this.tlsStages) stage.close()
    this.connector.close()
    this.#lines.close()
  }
}

/** Which files hold it is known before any service has started. */
function isKnown(certificate: GivenCertificate): boolean {
  try {
    return certificate.cert !== undefined
  } catch {
    return false
  }
}

/** The span that is recorded here, otherwise the client's. */
function traceOf({ trace, request }: FinishedExchange): Pick<FaultPlace, 'traceId' | 'spanId'> {
  const { traceId = '', spanId = '' } = trace ?? readTraceparent(request.headers.get('traceparent') ?? '') ?? {}
  return traceId === '' ? {} : { traceId, spanId }
}

const SHED_BECAUSE: Readonly<Record<ShedReason, string>> = {
  'active-requests': 'too many requests in flight',
  'memory-budget': 'the memory for requests is used up',
  'loop-delay': 'the event loop is late',
}

function overloaded(limit: ShedReason): ProxyError { return new ProxyError('OVERLOADED', 'internal', SHED_BECAUSE[limit], { limit }) }

/** The application or the proxy itself failed within an answer, which no page could take the place of. */
function isCutByUs(error: ProxyError): boolean { return error.source === 'internal' && weightOf(error) === 'error' }

function detailsOf(exchange: FinishedExchange, { message }: ProxyError): LogFields {
  return { request: exchange.requestId, what: exchange.summary(), error: message }
}
