/**
 * Chooses one ready backend out of a set that may change at any time.
 *
 *   Discovery -> names resolved -> BackendSet -> Selection.build -> Selector -> select()
 *                                     ^ health checks, reports of attempts, setEnabled
 *
 * Invariants:
 * - What `select` reads (set, selectors, how many are ready) is one object and changes in one assignment; a set whose
 *   selector cannot be built is never seen.
 * - A backend that stays keeps its object, and with it health, failures and what is in flight.
 * - A backend that is disabled or unhealthy by an active check is never selected. One that is out by passive health is
 *   selected for its trial, and when nothing else is left: a guess about failures must not refuse a request.
 *
 * Each selection is followed by exactly one `report` or `release` of the backend (or of the peer made from it).
 * Counts of failed attempts, and who is out for them, are in passive-health.ts.
 * Does not dial and does not retry; proxy/ does, and says which peers it has tried.
 * One idea in more than 500 lines: a set that changes while it is selected from is right only if both are read together.
 */
import { Resolver } from '../connector/resolver.ts'
import { ProxyError } from '../errors/proxy-error.ts'
import { isCounted, type Counted, type EjectionReason, type OpenCounts, type UpstreamHealth } from '../ipc/open-counts.ts'
import type { LogFields, ProcessLog } from '../ipc/process-log.ts'
import { formatAddress, parseAddress } from '../peer/peer-address.ts'
import type { Peer } from '../peer/peer.ts'
import { catchLater, decisionOf, isPromise } from '../primitives/application-call.ts'
import { systemClock, type Clock } from '../primitives/clock.ts'
import type { HashKey } from '../primitives/hash.ts'
import {
  callback, choice, code, count, defaultsOf, duration, flag, orChoice, resolveOptions, text,
  type OptionTable,
} from '../primitives/option-table.ts'
import { RepeatedLines } from '../telemetry/repeated-lines.ts'
import {
  Backend, BackendSet,
  type BackendOptions, type BackendSpec, type BackendStatus, type CandidateSpec,
} from './backend.ts'
import { NameTable, parseBackends, staticDiscovery, type Discovery, type NameResolver } from './discovery.ts'
import { HealthMonitor, type HealthCheck } from './health-check.ts'
import { KetamaSelection } from './ketama.ts'
import { PassiveHealth } from './passive-health.ts'
import { jittered, pause, untilAborted } from './periodic.ts'
import { selectionWatch, type SelectionWatch } from './selection-watch.ts'
import {
  HashSelection, LeastInFlightSelection, RandomSelection, RoundRobinSelection, Turn,
  type Named, type Selection, type Selector, type Tried,
} from './selection.ts'

/** Ways to choose a backend that have a name: `hash` and `ketama` go by a key, `least-in-flight` by open attempts. */
export type SelectionName = 'round-robin' | 'random' | 'hash' | 'ketama' | 'least-in-flight'

/** What a LoadBalancer may be told; every option may be left out. */
export interface LoadBalancerOptions<P extends Peer = Peer> {
  /** For messages and for the name of the background service. @default 'upstream' */
  name?: string
  /** How a backend is chosen: a name, or an object that builds selectors. @default 'round-robin' */
  selection?: SelectionName | Selection
  /** Failed attempts within failTimeoutMs after which a backend is out for failTimeoutMs. 0 turns passive health off. @default 1 */
  maxFails?: number
  /** In which failures count, and how long a backend then is out before one attempt tries it, in ms. @default 10000 */
  failTimeoutMs?: number
  /** Candidates that a key looks at before round robin among the ready ones takes over. @default 256 */
  maxSteps?: number
  /** Backends in the set, addresses of host names included; an update with more is refused. @default 65536 */
  maxBackends?: number
  /** Active health check; runs in the background service. @default null */
  healthCheck?: HealthCheck | null
  /** From one discovery to the next, in ms, give or take a tenth. 0 asks only once. @default 0 */
  updateIntervalMs?: number
  /**
   * Longest time for one update, discovery and names together, in ms; past it the set stays and the update is tried
   * again.
   * @default 30000
   */
  updateTimeoutMs?: number
  /** Whether an update may leave no backend at all; otherwise it is refused and the last set stays. @default false */
  allowEmpty?: boolean
  /**
   * Resolves host names among the backends, in the background service; null leaves them to the connector, at each dial.
   * @default one for all balancers
   */
  resolver?: NameResolver | null
  /**
   * Of a name with addresses of both families, those that are used, as both are mostly the same machines: 4, 6, or 0
   * for all.
   * @default 4
   */
  preferredFamily?: 0 | 4 | 6
  /** Builds the peer of a backend, once each; `selectPeer` returns it. @default null */
  peer?: ((backend: Backend) => P) | null
  /** Called when a check, the attempts or an operator changed whether a backend gets traffic. @default null */
  onHealthChange?: ((backend: Backend, ready: boolean, reason: string) => void) | null
  /** Called when an update or a name failed; the last good set stays in use. @default null */
  onError?: ((error: unknown, context: string) => void) | null
  /** @default systemClock */
  clock?: Clock
  /**
   * From 0 to 1: where round robin begins, so that fresh workers do not all begin with the first backend; random choices; jitter.
   * @default Math.random
   */
  random?: () => number
}
export type ResolvedLoadBalancerOptions<P extends Peer = Peer> = Readonly<Required<LoadBalancerOptions<P>>>

const SELECTION_NAMES: readonly string[] = ['round-robin', 'random', 'hash', 'ketama', 'least-in-flight'] satisfies SelectionName[]
/** What may stand for a selection, for messages. */
const SELECTION_FORMS = `${SELECTION_NAMES.join(', ')} or a Selection`
const MAX_FAILS = 1000
const MAX_CANDIDATES = 2 ** 20

export const LOAD_BALANCER_OPTIONS = {
  name: text('upstream', 'a name of at least one character', name => name !== ''),
  selection: orChoice(SELECTION_NAMES, code<SelectionName | Selection>('round-robin', SELECTION_FORMS, isSelection)),
  maxFails: count(1, { max: MAX_FAILS, zero: 'turns passive health off' }),
  failTimeoutMs: duration(10_000),
  maxSteps: count(256, { max: MAX_CANDIDATES }),
  maxBackends: count(65_536, { max: MAX_CANDIDATES }),
  healthCheck: code<HealthCheck | null>(null, 'a health check, such as new HttpHealthCheck(), or null', isHealthCheck),
  updateIntervalMs: duration(0, { zero: 'asks only once' }),
  updateTimeoutMs: duration(30_000),
  allowEmpty: flag(false),
  resolver: code<NameResolver | null>(new Resolver(), 'an object with resolve(host), or null', isNameResolver),
  preferredFamily: choice(4, [4, 6, 0]),
  peer: callback<((backend: Backend) => never) | null>(null),
  onHealthChange: callback<((backend: Backend, ready: boolean, reason: string) => void) | null>(null),
  onError: callback<((error: unknown, context: string) => void) | null>(null),
  clock: code<Clock>(systemClock, 'a Clock', value => typeof value === 'object' && value !== null),
  random: callback<() => number>(Math.random),
} satisfies OptionTable<LoadBalancerOptions<never>>

export const LOAD_BALANCER_DEFAULTS: ResolvedLoadBalancerOptions<never> = defaultsOf<LoadBalancerOptions<never>>(LOAD_BALANCER_OPTIONS)

function isSelection(value: unknown): boolean {
  if (SELECTION_NAMES.includes(value as string)) return true
  return typeof value === 'object' && typeof (value as Selection | null)?.build === 'function'
}

function isHealthCheck(value: unknown): boolean {
  if (value === null) return true
  const { probe, options } = Object(value) as Partial<HealthCheck>
  return typeof probe === 'function' && typeof options === 'object'
}

function isNameResolver(value: unknown): boolean { return value === null || typeof Object(value).resolve === 'function' }

/** What may be asked of one choice. */
export interface SelectOptions {
  /** Candidates to look at; past it none is chosen, also where others are ready. 0: the balancer's own limit. @default 0 */
  maxSteps?: number
  /** Backends, or the peers made from them, that must not be chosen: those that this request has tried. @default null */
  exclude?: Tried | null
}
export const SELECT_DEFAULTS: Readonly<Required<SelectOptions>> = { maxSteps: 0, exclude: null }

/** What `selectFor` asks of a request; the `Session` of an exchange has it. */
export interface TriesPeers {
  /** Peers of its attempts that failed. */
  readonly triedPeers: readonly Named[]
}

/** Agrees to a candidate. */
type Acceptance = (backend: Backend) => boolean

/** What one choice reads, all of it replaced at once. */
interface Serving {
  readonly set: BackendSet
  /** Chooses by key, from all backends; null when the selection has no use for keys. */
  readonly keyed: Selector | null
  /** Chooses without a key, from the backends that were ready when it was built; null when none was. */
  readonly spread: Selector | null
}

const EMPTY: Serving = { set: new BackendSet([], new Uint16Array(0)), keyed: null, spread: null }
/** How soon an update that failed is tried again, in ms, unless updateIntervalMs is less. */
const RETRY_MS = 5000
/** Longest sleep of the update loop, in ms, so that it sees names that an update by hand brought. */
const SLEEP_MS_MAX = 60_000

/** What `asBackgroundService` returns: the `BackgroundService` of server/service.ts, which this folder may not import. */
export interface LoadBalancerService {
  readonly kind: 'background'
  readonly name: string
  /** @param context the log is told of backends that come and go, and of updates that fail. Left out: nobody is */
  start(signal: AbortSignal, context?: { readonly log: ProcessLog }): Promise<void>
  counted(): Iterable<Counted>
  notices(): Iterable<string>
}

/**
 * Chooses a backend for each request: by round robin, at random, by key or by load, among those that health checks and real attempts
 * have shown to be well.
 *
 *   const balancer = LoadBalancer.from(['10.0.0.1:8080', '10.0.0.2:8080'], { peer: backend => new HttpPeer(backend) })
 *   const app: ProxyHttp = { upstreamPeer: session => balancer.selectPeerFor(session) }
 *
 * Health checks, discovery and host names need its service: `server.addService(balancer.asBackgroundService())`. Each worker has a
 * balancer, and so its own view of health, of its own.
 */
export class LoadBalancer<P extends Peer = Peer> {
  /** Its options, complete and checked. */
  readonly options: ResolvedLoadBalancerOptions<P>
  readonly #selection: Selection
  /** Without a key; the selection itself unless it goes by keys. */
  readonly #spreadSelection: Selection
  readonly #discovery: Discovery
  readonly #names: NameTable
  readonly #monitor: HealthMonitor | null
  readonly #passive: PassiveHealth
  readonly #turn = new Turn()

  #serving: Serving = EMPTY
  #readyCount = 0
  /** Readiness changed after `spread` was built. */
  #spreadIsStale = false
  /** How often `spread` was used since it was built. */
  #spreadChoices = 0

  /** What discovery said last. */
  #specs: readonly BackendSpec[] = []
  /** Addresses that `setEnabled` switched on or off; kept while their backends come and go. */
  readonly #switched = new Map<string, boolean>()
  #updating: Promise<boolean> | null = null
  /** Backends were given, or discovery was asked for them. */
  #asked = false
  /** Null: there is no log. */
  #lines: RepeatedLines | null = null
  /** It has checks or updates to make, and nobody has asked for the service that makes them. */
  #forgotten: boolean
  /** Why the last update of the service failed; '': it did not. */
  #notUpdated = ''
  /** How often a backend was taken out, by why. */
  readonly #ejections: Record<EjectionReason, number> = { attempts: 0, check: 0 }

  /**
   * A balancer over a fixed list, ready to use at once. Host names in it and health checks need the background service.
   * @throws TypeError on an address that would not do, OptionError with every option that would not; the message says what would.
   */
  static from<P extends Peer = Peer>(
    backends: readonly (string | BackendOptions)[], options: LoadBalancerOptions<P> = {},
  ): LoadBalancer<P> {
    const balancer = new LoadBalancer<P>(staticDiscovery(backends), options)
    balancer.#apply(parseBackends(backends, `${balancer.options.name}.backends`))
    return balancer
  }

  /**
   * A balancer that learns its backends from `discovery`: empty until `update()` or the background service has asked it.
   * @throws OptionError with every option that would not do
   */
  constructor(discovery: Discovery, options: LoadBalancerOptions<P> = {}) {
    this.options = resolveLoadBalancerOptions(options)
    const { clock, random, healthCheck, resolver, preferredFamily, updateIntervalMs } = this.options
    this.#forgotten = healthCheck !== null || updateIntervalMs !== 0
    this.#selection = typeof this.options.selection === 'string' ? selectionNamed(this.options.selection, random) : this.options.selection
    this.#spreadSelection = this.#selection.keyed ? new RoundRobinSelection(random) : this.#selection
    this.#passive = new PassiveHealth(this.options)
    this.#discovery = discovery
    this.#names = new NameTable(resolver, preferredFamily, (error, context) => this.#fault(error, context))
    this.#monitor = healthCheck === null ? null : new HealthMonitor(healthCheck, {
      backends: () => this.#serving.set.backends,
      onState: (backend, healthy, reason) => this.#setHealthy(backend, healthy, reason),
      onFault: (error, context) => this.#fault(error, context),
      clock,
      random,
    })
  }

  /**
   * A ready backend; for a key, the first ready one in the key's order. Follow it by one `report` or `release`.
   * @param key what a keyed selection goes by; without one (or with '') it is round robin
   * @throws ProxyError NO_HEALTHY_BACKEND when there is none
   */
  select(key: HashKey = '', options?: SelectOptions): Backend {
    const backend = this.trySelect(key, options)
    if (backend === null) throw this.#noneLeft()
    return backend
  }

  /**
   * As `select`, for the attempt of a request that is about to be made: peers that it has tried before are passed over. When it
   * has tried all that may be used, it gets any of them.
   * @param session the request; what it tried is `triedPeers`
   */
  selectFor(session: TriesPeers, key: HashKey = ''): Backend {
    const { triedPeers } = session
    const untried = triedPeers.length === 0 ? null : this.#choose(this.#turn, key, 0, triedPeers, null, true)
    return untried ?? this.select(key)
  }

  /**
   * As `selectFor`, but null when there is none that is well and that the request has not tried: the place to turn to a backup. One
   * that is out for failed attempts is chosen for its trial, and never because nothing else is left.
   */
  trySelectFor(session: TriesPeers, key: HashKey = ''): Backend | null {
    return this.#choose(this.#turn, key, 0, session.triedPeers, null, false)
  }

  /** As `select`, but null when there is none. */
  trySelect(key: HashKey = '', options: SelectOptions = SELECT_DEFAULTS): Backend | null {
    return this.#choose(this.#turn, key, options.maxSteps ?? 0, options.exclude ?? null, null, true)
  }

  /** As `select`, among those that `accept` agrees to. It is asked for ready candidates only, each once or twice, and must not wait. */
  selectWith(key: HashKey, accept: (backend: Backend) => boolean, options: SelectOptions = SELECT_DEFAULTS): Backend {
    // `accept` may select in its turn, so this turn is its own.
    const decide = (candidate: Backend): boolean => decisionOf(accept(candidate))
    const backend = this.#choose(new Turn(), key, options.maxSteps ?? 0, options.exclude ?? null, decide, true)
    if (backend === null) throw this.#noneLeft()
    return backend
  }

  /** As `select`, as the peer that the `peer` option makes: once a backend, so that a request builds nothing. */
  selectPeer(key: HashKey = '', options?: SelectOptions): P {
    const build = this.#buildPeer()
    return this.#peerOf(this.select(key, options), build)
  }

  /** As `selectFor`, as the peer that the `peer` option makes. */
  selectPeerFor(session: TriesPeers, key: HashKey = ''): P {
    const build = this.#buildPeer()
    return this.#peerOf(this.selectFor(session, key), build)
  }

  /** As `trySelectFor`, as the peer that the `peer` option makes. */
  trySelectPeerFor(session: TriesPeers, key: HashKey = ''): P | null {
    const build = this.#buildPeer()
    const backend = this.trySelectFor(session, key)
    return backend === null ? null : this.#peerOf(backend, build)
  }

  #buildPeer(): (backend: Backend) => P {
    const build = this.options.peer
    if (build === null) {
      throw new TypeError(`${this.options.name}.peer is not set; give it a function from a backend to a peer, or use select()`)
    }
    return build
  }

  #peerOf(backend: Backend, build: (backend: Backend) => P): P {
    if (backend.peer === null) {
      try {
        const peer: unknown = build(backend)
        if (isPromise(peer)) {
          catchLater(peer, () => { /* It was refused. */ })
          throw new TypeError(`${this.options.name}.peer returned a promise; it has to return the peer at once`)
        }
        backend.peer = peer as P
      } catch (error) {
        backend.release()
        throw error
      }
    }
    return backend.peer as P
  }

  /**
   * Asks discovery, and the resolver for names that have expired. Resolves with whether anything changed; rejects when
   * the set stays for an error.
   */
  update(signal: AbortSignal = NEVER): Promise<boolean> {
    return this.#updateAlone(signal, async ending => {
      const specs = parseBackends(await this.#discovery.discover(ending), `${this.options.name}.backends`)
      await this.#refreshNames(specs, ending)
      ending.throwIfAborted()
      return this.#apply(specs)
    })
  }

  /**
   * Switches an address on or off, whatever discovery says of it, until it is switched again. A host name switches all of its addresses.
   * @returns false when no backend has this address
   */
  setEnabled(address: string, on: boolean): boolean {
    const canonical = formatAddress(parseAddress(address))
    const concerned = this.#serving.set.backends.filter(backend => backend.name === canonical || backend.origin === canonical)
    if (concerned.length === 0) return false
    this.#switched.set(canonical, on)
    for (const backend of concerned) {
      if (backend.enabled !== on) this.#switch(backend, on)
    }
    return true
  }

  /** All backends with their health, for status. */
  backends(): BackendStatus[] { return this.#serving.set.backends.map(backend => backend.status()) }

  /** @internal The backend objects now in the set. */
  get set(): BackendSet { return this.#serving.set }

  /**
   * Updates and health checks, as a service. It is ready after the first update (and, when backends start unhealthy, the
   * first round of probes); a first update that fails is reported and tried again, and does not stop the start.
   */
  asBackgroundService(name: string = this.options.name): LoadBalancerService {
    const { resolver } = this.options
    this.#forgotten = false
    return {
      kind: 'background', name,
      start: (signal, context) => this.#start(signal, context?.log ?? null),
      counted: () => [this as object, resolver].filter(isCounted),
      notices: () => this.#notices(),
    }
  }

  /** Backends that get no traffic, and a set that is not what it should be, for status. */
  *#notices(): Generator<string> {
    const { name } = this.options
    if (this.#notUpdated !== '') yield `${name} could not update its backends: ${this.#notUpdated}`
    if (this.#serving.set.size === 0) yield `${name} has no backends`
    for (const { announcedReady, name: backend, reason } of this.#serving.set.backends) {
      if (!announcedReady) yield `${name}: ${backend} gets no traffic${reason === '' ? '' : `, ${reason}`}`
    }
  }

  /** @internal For status and metrics. */
  counts(): Partial<OpenCounts> { return { backends: this.#serving.set.size, backendsReady: this.#readyCount } }

  /** @internal For metrics. */
  health(): UpstreamHealth { return { upstream: this.options.name, targets: this.#serving.set.backends, ejections: this.#ejections } }

  async #start(signal: AbortSignal, log: ProcessLog | null): Promise<void> {
    if (log !== null) {
      const lines = this.#lines = new RepeatedLines(log, this.options.clock)
      signal.addEventListener('abort', () => lines.close(), { once: true })
    }
    const updated = await this.#updateOrReport(signal)
    const probesFirst = this.options.healthCheck?.options.startUnhealthy === true
    if (probesFirst) await this.#monitor?.round(signal)
    void this.#keepUpdating(updated, signal)
    void this.#monitor?.run(signal, probesFirst)
  }

  /** Never rejects. */
  async #keepUpdating(updated: boolean, signal: AbortSignal): Promise<void> {
    const { clock, random, resolver, updateIntervalMs } = this.options
    const nextAfter = (success: boolean) => {
      const regularMs = updateIntervalMs === 0 ? Infinity : updateIntervalMs
      return clock.exact() + jittered(success ? regularMs : Math.min(regularMs, RETRY_MS), random)
    }
    let discoverAtMs = nextAfter(updated)
    while (!signal.aborted && (discoverAtMs < Infinity || resolver !== null)) {
      await pause(clock, Math.min(discoverAtMs - clock.exact(), this.#names.expiresAtMs - clock.exact(), SLEEP_MS_MAX), signal)
      if (signal.aborted) return
      if (clock.exact() >= discoverAtMs) discoverAtMs = nextAfter(await this.#updateOrReport(signal))
      else if (clock.exact() >= this.#names.expiresAtMs) await this.#renewNames(signal)
    }
  }

  /** Never rejects. @returns false when the update failed */
  async #updateOrReport(signal: AbortSignal): Promise<boolean> {
    try {
      await this.update(signal)
      this.#notUpdated = ''
      return true
    } catch (error) {
      if (signal.aborted) return false
      this.#notUpdated = messageOf(error)
      this.#fault(error, 'updating the backends')
      return false
    }
  }

  /** Never rejects. */
  async #renewNames(signal: AbortSignal): Promise<void> {
    try {
      await this.#updateAlone(signal, async ending => {
        await this.#refreshNames(this.#specs, ending)
        ending.throwIfAborted()
        return this.#apply(this.#specs)
      })
    } catch (error) {
      if (!signal.aborted) this.#fault(error, 'renewing addresses')
    }
  }

  #refreshNames(specs: readonly BackendSpec[], signal: AbortSignal): Promise<void> {
    return this.#names.refresh(specs, () => this.options.clock.exact(), signal)
  }

  /**
   * Runs `work` with a time limit, unless an update runs already, which is then waited for: two could finish in the
   * wrong order and bring an old set back.
   */
  #updateAlone(signal: AbortSignal, work: (ending: AbortSignal) => Promise<boolean>): Promise<boolean> {
    this.#asked = true
    this.#updating ??= untilAborted(this.options.clock, this.options.updateTimeoutMs, signal, work).finally(() => { this.#updating = null })
    return this.#updating
  }

  /** Puts the set that `specs` stand for in place of the present one. Throws before anything has changed. */
  #apply(specs: readonly BackendSpec[]): boolean {
    const { name, allowEmpty, maxBackends } = this.options
    this.#asked = true
    const candidates = this.#names.expand(specs)
    if (candidates.length === 0 && !allowEmpty) {
      throw new TypeError(`${name}.backends is empty; give at least one, or set ${name}.allowEmpty`)
    }
    if (candidates.length > maxBackends) {
      const found = `${name}.maxBackends is ${maxBackends} and there are ${candidates.length}`
      throw new TypeError(`${found}; use fewer backends, or a higher limit`)
    }
    const present = this.#serving.set
    let changed = !isSame(present, candidates)
    if (changed) this.#replace(present, this.#servingOf(candidates, present))
    this.#specs = specs
    for (const candidate of candidates) {
      const backend = this.#serving.set.byName.get(candidate.name)!
      if (backend.weight !== candidate.weight || !Object.is(backend.ext, candidate.ext) || backend.origin !== candidate.origin) {
        backend.peer = null
        backend.weight = candidate.weight
        backend.ext = candidate.ext
        backend.origin = candidate.origin
        backend.hostName = candidate.hostName
        changed = true
      }
      const enabled = this.#mayBeUsed(candidate)
      if (backend.enabled === enabled) continue
      this.#switch(backend, enabled)
      changed = true
    }
    return changed
  }

  #mayBeUsed(candidate: CandidateSpec): boolean {
    return this.#switched.get(candidate.name) ?? this.#switched.get(candidate.origin) ?? candidate.enabled
  }

  #servingOf(candidates: readonly CandidateSpec[], present: BackendSet): Serving {
    const { healthCheck } = this.options
    const startsHealthy = healthCheck === null || !healthCheck.options.startUnhealthy
    const backends = candidates.map(candidate => {
      const known = present.byName.get(candidate.name)
      if (known !== undefined) return known
      const backend = new Backend(candidate)
      backend.healthy = startsHealthy
      backend.enabled = this.#mayBeUsed(candidate)
      backend.ready = backend.announcedReady = isReady(backend)
      return backend
    })
    const set = new BackendSet(backends, Uint16Array.from(candidates, candidate => candidate.weight))
    const keyed = this.#selection.keyed && set.size > 0 ? this.#selection.build(set, this.#serving.keyed) : null
    return { set, keyed, spread: this.#buildSpread(set) }
  }

  #buildSpread(set: BackendSet): Selector | null {
    const readyOnes = set.only(backend => backend.ready)
    return readyOnes.backends.length === 0 ? null : this.#spreadSelection.build(readyOnes, this.#serving.spread)
  }

  #replace(present: BackendSet, next: Serving): void {
    for (const backend of present.backends) {
      if (next.set.byName.get(backend.name) === backend) continue
      backend.owner = null
      this.#passive.drop(backend)
    }
    let readyCount = 0
    for (const backend of next.set.backends) {
      backend.owner = this
      if (backend.ready) readyCount++
    }
    this.#readyCount = readyCount
    this.#serving = next
    this.#spreadIsStale = false
    this.#spreadChoices = 0
  }

  /** @param evenOut whether one that is out for failed attempts will do when nothing else is left */
  #choose(
    turn: Turn, key: HashKey, maxSteps: number, exclude: Tried | null, accept: Acceptance | null, evenOut: boolean,
  ): Backend | null {
    const backend = this.#find(turn, key, maxSteps, exclude, accept, evenOut)
    const isExplained = selectionWatch.current !== null && this.#explain(selectionWatch.current, key, backend)
    if (backend === null) return null
    backend.inFlight++
    if (isExplained) return backend
    backend.selected++
    if (backend.outUntilMs !== 0) this.#passive.beginTrial(backend)
    return backend
  }

  #explain(watch: SelectionWatch, key: HashKey, chosen: Backend | null): boolean {
    const { name: balancer, selection } = this.options
    return watch.onChoice({
      balancer, selection: typeof selection === 'string' ? selection : String(selection.name), key, chosen,
      backends: this.#serving.set.backends,
    })
  }

  #find(
    turn: Turn, key: HashKey, maxSteps: number, exclude: Tried | null, accept: Acceptance | null, evenOut: boolean,
  ): Backend | null {
    if (this.#forgotten) this.#sayForgotten()
    if (this.#readyCount === 0 && (evenOut ? !this.#giveAllAnotherChance() : this.#passive.size === 0)) return null
    turn.begin(maxSteps === 0 ? this.options.maxSteps : maxSteps, exclude, accept)
    const backend = this.#search(turn, key, maxSteps === 0)
    return backend === null && evenOut && maxSteps === 0 && this.#passive.size !== 0 ? this.#lastResort(turn) : backend
  }

  #search(turn: Turn, key: HashKey, mayGoOn: boolean): Backend | null {
    const keyed = key.length === 0 ? null : this.#serving.keyed
    if (this.#passive.size !== 0) {
      turn.nowMs = this.options.clock.exact()
      // Selectors of ready backends do not propose one that is out; by key, its own keys try it.
      const tried = keyed === null ? this.#passive.dueForTrial(turn) : null
      if (tried !== null) return tried
    }
    if (keyed === null) return this.#pickSpread(turn)
    const backend = keyed.pick(key, turn)
    if (backend !== null || !mayGoOn) return backend
    turn.stepsLeft = this.options.maxSteps
    return this.#pickSpread(turn)
  }

  #pickSpread(turn: Turn): Backend | null {
    // A new sequence costs about as much as a choice for each backend; after an eighth as many choices it is paid for.
    if (this.#spreadIsStale && this.#spreadChoices >= this.#serving.set.size >> 3) this.#rebuildSpread()
    this.#spreadChoices++
    const steps = turn.stepsLeft
    const backend = this.#serving.spread?.pick('', turn) ?? null
    if (backend !== null || !this.#spreadIsStale) return backend
    this.#rebuildSpread()
    // Steps spent on those that are no longer ready were not the caller's.
    turn.stepsLeft = steps
    return this.#serving.spread?.pick('', turn) ?? null
  }

  #rebuildSpread(): void {
    const { set, keyed } = this.#serving
    this.#serving = { set, keyed, spread: this.#buildSpread(set) }
    this.#spreadIsStale = false
    this.#spreadChoices = 0
  }

  /** All that are ready were refused: those that are out by passive health are still better than no answer. */
  #lastResort(turn: Turn): Backend | null {
    turn.beginAgain(this.options.maxSteps)
    return this.#passive.anyOut(turn)
  }

  /**
   * No backend is ready: those that only failed attempts keep out come back, all of them, as none is better than another.
   * Watchers are told when an attempt succeeds; otherwise a dead upstream would be announced once a request.
   */
  #giveAllAnotherChance(): boolean {
    for (const backend of this.#passive.out) {
      this.#passive.forget(backend)
      backend.onTrial = true
      this.#updateReady(backend)
    }
    return this.#readyCount > 0
  }

  /** @internal For Backend: an attempt on trial went well. */
  onSuccess(backend: Backend): void {
    this.#passive.forget(backend)
    this.#review(backend, 'an attempt succeeded')
  }

  /** @internal For Backend: an attempt failed. */
  onFailure(backend: Backend): void {
    backend.failures++
    const { maxFails } = this.options
    if (this.#passive.failed(backend)) this.#review(backend, maxFails === 1 ? 'an attempt failed' : `${maxFails} attempts failed`)
  }

  #switch(backend: Backend, on: boolean): void {
    backend.enabled = on
    this.#passive.forget(backend)
    this.#review(backend, on ? 'enabled' : 'disabled')
  }

  #setHealthy(backend: Backend, healthy: boolean, reason: string): void {
    // A probe may end after its backend left the set.
    if (backend.owner !== this) return
    backend.healthy = healthy
    this.#passive.forget(backend)
    this.#review(backend, reason)
  }

  /** After something about a backend of the set changed: works out whether it is ready, and tells. */
  #review(backend: Backend, reason: string): void {
    this.#updateReady(backend)
    if (backend.ready === backend.announcedReady) return
    backend.announcedReady = backend.ready
    backend.reason = reason
    if (!backend.ready && backend.enabled) this.#ejections[backend.healthy ? 'attempts' : 'check']++
    if (this.#lines !== null) this.#tell(this.#lines, backend, reason)
    // A callback only watches: what it throws must not reach the exchange that reported.
    const failed = (error: unknown): void => this.#fault(error, 'onHealthChange')
    try { catchLater(this.options.onHealthChange?.(backend, backend.ready, reason), failed) } catch (error) { failed(error) }
  }

  /** One line for a backend that comes or goes, and none for those that are switched on and off a hundred times a second. */
  #tell(lines: RepeatedLines, { name, ready }: Backend, reason: string): void {
    const subject = { balancer: this.options.name, backend: name }
    const details = (): LogFields => ({ reason, backendsReady: this.#readyCount, backends: this.#serving.set.size })
    if (ready) lines.info('a backend gets traffic again', subject, details)
    else lines.warn('a backend gets no traffic', subject, details)
  }

  #updateReady(backend: Backend): void {
    const ready = isReady(backend)
    if (ready === backend.ready) return
    backend.ready = ready
    this.#readyCount += ready ? 1 : -1
    this.#spreadIsStale = true
  }

  #fault(error: unknown, context: string): void {
    this.#lines?.error('a load balancer failed, and goes on with what it had', { balancer: this.options.name, at: context }, () => ({
      error: messageOf(error),
    }))
    // The last place to report to; a throw from here would end a background loop.
    try { catchLater(this.options.onError?.(error, `${this.options.name}: ${context}`), () => {}) } catch { return }
  }

  /** Once: it serves, but does not do what it was told to. There is no log, since the service is what brings one. */
  #sayForgotten(): void {
    this.#forgotten = false
    const { name, healthCheck } = this.options
    const what = healthCheck === null ? 'is not updated' : 'checks no health'
    const type = 'CirqueWarning'
    process.emitWarning(`${name} ${what}, since its service does not run: server.addService(balancer.asBackgroundService())`, { type })
  }

  #noneLeft(): ProxyError {
    const { size } = this.#serving.set
    const { name } = this.options
    const never = `${name} has no backends yet: add its asBackgroundService() to the server, or await its update()`
    const what = !this.#asked ? never : size === 0 ? `${name} has no backends` : `none of ${size} backends of ${name} may be used`
    return new ProxyError('NO_HEALTHY_BACKEND', 'upstream', what)
  }
}

const NEVER = new AbortController().signal

function isReady(backend: Backend): boolean { return backend.enabled && backend.healthy && backend.outUntilMs === 0 }

/** Whether the candidates are those that the set holds, with the same weights; their order alone is no difference. */
function isSame(set: BackendSet, candidates: readonly CandidateSpec[]): boolean {
  return set.size === candidates.length && candidates.every(candidate => set.byName.get(candidate.name)?.weight === candidate.weight)
}

function selectionNamed(name: SelectionName, random: () => number): Selection {
  switch (name) {
    case 'round-robin': return new RoundRobinSelection(random)
    case 'random': return new RandomSelection(random)
    case 'hash': return new HashSelection()
    case 'ketama': return new KetamaSelection()
    case 'least-in-flight': return new LeastInFlightSelection(random)
    default: {
      const remedy = 'use round-robin, random, hash, ketama, least-in-flight or a Selection'
      throw new TypeError(`selection is ${JSON.stringify(name satisfies never)}; ${remedy}`)
    }
  }
}

function resolveLoadBalancerOptions<P extends Peer>(options: LoadBalancerOptions<P>): ResolvedLoadBalancerOptions<P> {
  // Messages bear the balancer's name, as an application may have many.
  const at = typeof options.name === 'string' && options.name !== '' ? options.name : LOAD_BALANCER_DEFAULTS.name
  return resolveOptions<LoadBalancerOptions<P>>(at, LOAD_BALANCER_OPTIONS, options, LOAD_BALANCER_DEFAULTS)
}

function messageOf(error: unknown): string { return error instanceof Error ? error.message : String(error) }
