/**
 * What services that listen have in common, whatever they do with connections: listeners and their options, the book of each
 * listener's connections, the way from accepting to the protocol, drain, counts and the end.
 *
 *   acceptor ─▶ TcpListener (filter, limits) ─▶ stages, if any ─▶ core.open ─▶ book
 *
 * What a service does with a connection is its core, which users do not see: this object has the members that a Server needs
 * and those with which listeners are added.
 * Invariant: a connection that was let in is in its listener's book until it is closed, and counted exactly as long.
 */
import { overridesFor, type ListenerOverrides, type WorkerSettings } from '../config/worker-settings.ts'
import { describeError, nameOfError } from '../errors/describe-error.ts'
import { asProxyError, ProxyError } from '../errors/proxy-error.ts'
import type { DrainRequest } from '../ipc/drain-times.ts'
import { wordsOf } from '../ipc/fault-report.ts'
import { parseListenAddress } from '../ipc/listen-address.ts'
import type { Counted, OpenCounts } from '../ipc/open-counts.ts'
import { SILENT_LOG } from '../ipc/process-log.ts'
import type { ListenerCalls } from '../listener/acceptor.ts'
import type { ListenerOptions, ResolvedListenerOptions } from '../listener/listener-options.ts'
import { TcpListener, type AcceptOwner } from '../listener/tcp-listener.ts'
import type { Ticker } from '../primitives/clock.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { DownstreamConnection } from '../protocols/http-connection.ts'
import { selfTest } from '../protocols/tcp/tcp-self-test.ts'
import type { FaultWatcher } from '../proxy/fault-watcher.ts'
import type { Tunnel } from '../proxy/tunnel.ts'
import type { FaultReports } from '../telemetry/fault-reports.ts'
import { RepeatedLines } from '../telemetry/repeated-lines.ts'
import type { RefusalReason } from '../telemetry/tracer.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import { Admission, type Sparing } from './admission.ts'
import { beginStages, NO_FACTS, type AcceptFacts, type AcceptStage, type PipelineOwner, type ServedConnection } from './accept-pipeline.ts'
import { ConnectionBook, type BookOwner } from './connection-book.ts'
import { Drain } from './drain.ts'
import { SERVER_CONTEXT_DEFAULTS, type ServerContext } from './server-context.ts'
import { traceAccepted, traceClosed, traceTurnedAway } from './service-tracers.ts'
import type { ListenerSpec, ListeningService, RunningListener, ServiceStats } from './service.ts'

/** What a kind of service does with its connections. */
export interface ServiceCore<Options extends ListenerOptions, Resolved extends ResolvedListenerOptions> extends Sparing {
  readonly ticker: Ticker
  /** Null: none watches. */
  readonly tracers: TracerGroup | null
  /** Hears of every fault; null: the process log does. */
  readonly faults: FaultWatcher | null
  /** No further request is wanted on any connection. Set by the service. */
  draining: boolean
  /** Set by the service while it drains: told whenever something that `active` counts has ended. */
  drain: Drain | null
  /** Exchanges under way. */
  readonly active: number

  /**
   * Complete and checked; `base` is what holds where `options` say nothing, null: the service's own. @throws OptionError
   * @param secure TLS is spoken on the listener
   */
  resolve(options: Options | ListenerOverrides, base: Resolved | null, secure: boolean): Resolved
  /** @throws what `stages` would, and nothing is left of it. Left out: that throws nothing */
  check?(listener: ListenerSpec<Resolved>): void
  /** Between accepting and the protocol, in their order. @throws what a listener cannot be started with */
  stages(listener: ListenerSpec<Resolved>, lines: RepeatedLines): readonly AcceptStage[]
  /** Longest time from accepting to the end of the last stage, in ms; 0: any. */
  handshakeTimeoutMs(options: Resolved): number
  /** Before any listener accepts. */
  start(context: ServerContext, admission: Admission): void
  /** Serves a connection. @param acceptedAt ms of the clock */
  open(stream: ByteStream, facts: AcceptFacts, listener: ListenerSpec<Resolved>, acceptedAt: number): ServedConnection
  /** Connections that no count knows and no drain waits for. */
  uncounted(): readonly DownstreamConnection[]
  tunnels(): readonly Tunnel[]
  /** Whether a client is a proxy in front that is believed: many come through it. */
  speaksForMany(clientIp: string): boolean
  /** What it counts besides connections. */
  counts(): Partial<OpenCounts>
  /** What else counts, and other services may have as well. Left out: nothing. */
  counted?(): Iterable<Counted>
  /** Nothing is open any more, or the end does not wait for it: closes what the core keeps for requests to come. */
  close(): void
}

/** A service hands a stream over to one of its listeners, see `admit`. */
let handOver: (service: ListeningService, stream: ByteStream, listener: string) => void
/** A kind of service adds a listener of a kind of its own, see `addSecure`. */
let addListener: <Options extends ListenerOptions>(
  service: ListeningBase<Options, ResolvedListenerOptions>, address: string, options: Options,
) => void

export class ListeningBase<Options extends ListenerOptions, Resolved extends ResolvedListenerOptions> implements ListeningService {
  static {
    addListener = (service, address, options) => { service.#add(address, options, true) }
    handOver = (service, stream, listener) => {
      (service as ListeningBase<ListenerOptions, ResolvedListenerOptions>).#find(listener).tcp.accept(stream)
    }
  }

  readonly kind = 'listening'
  readonly name: string
  readonly #core: ServiceCore<Options, Resolved>
  readonly #bound: BoundListener<Options, Resolved>[] = []
  #drain: Drain | null = null
  #lines: RepeatedLines | null = null

  constructor(name: string, core: ServiceCore<Options, Resolved>) {
    this.name = name
    this.#core = core
  }

  /** `host:port`, `[v6]:port` or `:port` (both families). @throws OptionError on an address or option that would not do. */
  addTcp(address: string, options?: Options): this {
    if (String(address).startsWith('unix:')) throw new TypeError(`addTcp was given ${address}; use addUnix`)
    return this.#add(address, options, false)
  }

  /** A path, or `unix:/path?mode=660`. @throws OptionError on an address or option that would not do. */
  addUnix(path: string, options?: Options): this {
    return this.#add(String(path).startsWith('unix:') ? path : `unix:${path}`, options, false)
  }

  /** @param secure TLS is spoken on it */
  #add(address: string, given: Options | undefined, secure: boolean): this {
    const options = this.#core.resolve(given ?? {} as Options, null, secure)
    for (const [index, one] of parseListenAddress(address).entries()) {
      const spec = { name: `${this.name}/${address}${index === 0 ? '' : '/v6'}`, address: one, options, secure }
      this.#bound.push(new BoundListener(spec, this.#core))
    }
    return this
  }

  get listeners(): readonly ListenerSpec<Resolved>[] { return this.#bound.map(({ spec }) => spec) }

  async start(context: ServerContext = SERVER_CONTEXT_DEFAULTS, admission: Admission = new Admission()): Promise<void> {
    const lines = this.#lines = new RepeatedLines(context.log, this.#core.ticker.clock)
    for (const bound of this.#bound) bound.begin(context, lines, admission)
    admission.join(this.#core, this.#bound.map(({ book }) => book), this.#core.ticker)
    this.#core.start(context, admission)
    if (await selfTest()) return
    context.log.warn('this Node.js reads accepted connections the slow way only', { service: this.name, node: process.version })
  }

  check(listeners: WorkerSettings['listeners']): void {
    for (const { spec } of this.#bound) {
      const { name, options, secure = false } = spec
      // Overrides of others were checked where they were read.
      if (secure) this.#core.check?.({ ...spec, options: this.#core.resolve(overridesFor(listeners, name), options, secure) })
    }
  }

  bind({ name }: ListenerSpec): RunningListener {
    const bound = this.#find(name)
    return { spec: bound.spec, createAcceptor: () => bound.tcp.createAcceptor() }
  }

  #find(name: string): BoundListener<Options, Resolved> {
    const bound = this.#bound.find(({ spec }) => spec.name === name)
    if (bound === undefined) throw new Error(`service ${this.name} has no listener ${name}`)
    return bound
  }

  stats(): ServiceStats {
    let connections = 0, idleConnections = 0, accepted = 0, turnedAway = 0, evicted = 0
    for (const { book, tcp } of this.#bound) {
      connections += book.size
      idleConnections += book.idle
      accepted += tcp.accepted
      turnedAway += tcp.refused
      evicted += book.evicted
    }
    return { ...this.#core.counts(), connections, idleConnections, accepted, turnedAway, evicted }
  }

  counted(): Iterable<Counted> { return this.#core.counted?.() ?? [] }

  drain(request: DrainRequest): Promise<{ cut: number }> {
    const core = this.#core, bound = this.#bound
    core.draining = true
    if (this.#drain !== null) {
      this.#drain.tighten(request)
      return this.#drain.ended
    }
    this.#drain = core.drain = new Drain(request, {
      clock: core.ticker.clock,
      get open() { return bound.reduce((sum, { book }) => sum + book.size, 0) },
      get active() { return core.active },
      connections: () => this.#connections(),
      tunnels: () => core.tunnels(),
      onDrained: () => core.close(),
    })
    for (const connection of this.#connections()) connection.drain()
    this.#drain.look()
    return this.#drain.ended
  }

  close(): void {
    const core = this.#core
    core.draining = true
    for (const tunnel of core.tunnels()) tunnel.destroy()
    const error = new ProxyError('DRAINING', 'internal', 'the server was closed')
    for (const connection of this.#connections()) {
      connection.cut(error)
      connection.destroy()
    }
    core.close()
    this.#lines?.close()
  }

  #connections(): DownstreamConnection[] {
    return [...this.#bound.flatMap(({ book }) => book.snapshot()), ...this.#core.uncounted()]
  }
}

/**
 * Lets in a connection that no acceptor took: from an accept loop of another kind, or from memory. It is filtered, counted and
 * limited like any other. Only once the service has started.
 * @param listener name of the one that it comes in through
 */
export function admit(service: ListeningService, stream: ByteStream, listener: string): void { handOver(service, stream, listener) }

/** Adds a listener on which TLS is spoken. @throws OptionError on an address or option that would not do */
export function addSecure<Options extends ListenerOptions, Resolved extends ResolvedListenerOptions>(
  service: ListeningBase<Options, Resolved>, address: string, options: Options,
): void {
  addListener(service as unknown as ListeningBase<Options, ResolvedListenerOptions>, address, options)
}

/** One listener of a service, and its connections. */
class BoundListener<Options extends ListenerOptions, Resolved extends ResolvedListenerOptions>
  implements AcceptOwner, BookOwner, PipelineOwner {
  spec: ListenerSpec<Resolved>
  readonly book: ConnectionBook
  readonly ticker: Ticker
  stages: readonly AcceptStage[] = []
  /** Its own until the service has started. */
  #admission = new Admission()
  #calls: ListenerCalls | null = null
  #lines = new RepeatedLines(SILENT_LOG)
  #faultReports: FaultReports | null = null
  #deadlineMs = 0
  readonly #core: ServiceCore<Options, Resolved>
  #tcp: TcpListener | null = null

  constructor(spec: ListenerSpec<Resolved>, core: ServiceCore<Options, Resolved>) {
    this.spec = spec
    this.#core = core
    this.ticker = core.ticker
    this.book = new ConnectionBook(this)
  }

  get name(): string { return this.spec.name }

  /** What an operator set counts over what code says. Before the first acceptor. */
  begin({ settings: { listeners }, calls, faultReports }: ServerContext, lines: RepeatedLines, admission: Admission): void {
    const core = this.#core
    this.#lines = lines
    this.#faultReports = faultReports
    this.#calls = calls
    this.#admission = admission
    const { secure = false } = this.spec
    const options = core.resolve(overridesFor(listeners, this.name, secure), this.spec.options, secure)
    this.spec = { ...this.spec, options }
    this.stages = core.stages(this.spec, lines)
    this.#deadlineMs = core.handshakeTimeoutMs(options)
  }

  /** With the options that hold since the start. */
  get tcp(): TcpListener { return this.#tcp ??= new TcpListener(this.spec.options, this, this.#calls?.accept ?? null) }

  onAccepted(stream: ByteStream, countedAs: string): void {
    const { tracers } = this.#core
    if (this.stages.length > 0) {
      if (tracers !== null) traceAccepted(tracers, this.name, stream)
      beginStages(this, stream, countedAs, this.#deadlineMs)
      return
    }
    const connection = this.open(stream, NO_FACTS, this.ticker.clock.now())
    this.book.add(connection, countedAs)
    stream.owner = connection
    if (tracers !== null) traceAccepted(tracers, this.name, stream)
  }

  open(stream: ByteStream, facts: AcceptFacts, acceptedAt: number): ServedConnection {
    const connection = this.#core.open(stream, facts, this.spec, acceptedAt)
    if (this.#core.draining) connection.drain()
    return connection
  }

  refusal(maxConnections: number): RefusalReason | null {
    const { book } = this
    if (maxConnections !== 0 && book.size >= maxConnections && !book.evict()) return 'max-connections'
    return this.#admission.refusal(book)
  }

  hasUnread({ stream }: DownstreamConnection): boolean {
    const { descriptor } = stream
    return this.#calls !== null && descriptor >= 0 && this.#calls.hasUnread(descriptor)
  }

  onEvicted({ stream }: DownstreamConnection): void {
    const client = stream.digest.remoteIp
    this.#lines.warn('connections that waited are cut for want of room', { listener: this.name }, () => ({ client }))
  }

  onCame(): void { this.#admission.came() }

  speaksForMany(clientIp: string): boolean { return this.#core.speaksForMany(clientIp) }

  onAcceptFailed({ code = 'unknown' }: NodeJS.ErrnoException): void {
    this.#lines.error('connections cannot be accepted and wait', { listener: this.name, error: code })
  }

  onFilterFailed(thrown: unknown): void {
    this.#faultReports?.report('hook', nameOfError(thrown), 'connectionFilter', () => ({ ...wordsOf(thrown), listener: this.name }))
    this.#core.faults?.requestFailed(asProxyError(thrown, 'connectionFilter'))
    this.#lines.error('connectionFilter failed; the connection was turned away', { listener: this.name }, () => {
      const { stack } = describeError(thrown)
      return { error: asProxyError(thrown, 'connectionFilter').message, stack: stack === '' ? undefined : stack }
    })
  }

  onTurnedAway(clientIp: string, reason: RefusalReason): void {
    const { tracers } = this.#core
    this.#lines.warn('connections are turned away', { listener: this.name, reason }, () => ({ client: clientIp }))
    if (tracers !== null) traceTurnedAway(tracers, this.name, clientIp, reason)
  }

  onLeft(connection: DownstreamConnection): void {
    const { tracers, drain, ticker } = this.#core
    this.#admission.left()
    this.#tcp?.left(connection.countedAs)
    if (tracers !== null) traceClosed(tracers, connection, ticker.clock)
    drain?.look()
  }
}
