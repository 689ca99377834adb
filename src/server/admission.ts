/**
 * What a process takes in, over all of its services and listeners: connections, requests, and the memory that both of them
 * hold. Each listener has limits of its own (listener/tcp-listener.ts); here is what they share.
 *
 *   memory held    below 80 %   Free
 *                  80 %         Sparing     connections that only wait are cut, and bodies kept for retries given up, little by little
 *                  90 %         Shedding    new requests are answered with 503
 *                  95 %         Closed      new connections are reset
 *                  100 %        Exhausted   a worker is replaced; it finishes what it has
 *
 * Half of the descriptors is for connections to origins, one for each client at most; the reserve is for what is neither. So a
 * worker never comes to the point where nothing can be opened any more: what is served goes on, and the new connection takes
 * the place of one that waits, or is refused. What is under way is never shed, nor is the test of a release.
 *
 * Memory is counted, not measured (primitives/held-bytes.ts): what the system says goes down late or never, and says nothing of
 * what a connection may still come to. A late event loop is measured where deadlines are looked at, while connections are open.
 * Invariant: `connections` and `requests` are those that came and did not leave.
 */
import { LIMIT_DEFAULTS, type ResolvedLimitOptions } from '../config/limit-options.ts'
import type { OpenCounts } from '../ipc/open-counts.ts'
import { SILENT_LOG, type ProcessLog } from '../ipc/process-log.ts'
import { TICK_MS, type Ticker, type Timed } from '../primitives/clock.ts'
import { descriptorLimit } from '../primitives/descriptor-limit.ts'
import { heldBytes } from '../primitives/held-bytes.ts'
import { memoryLimit, residentBytes } from '../primitives/memory-limit.ts'
import { RepeatedLines } from '../telemetry/repeated-lines.ts'
import type { RefusalReason } from '../telemetry/tracer.ts'

/** The connections of one listener. */
export interface Evictable {
  /** Connections that may be cut. */
  readonly evictable: number
  /** Cuts the connection that is missed least. Returns false when every one of them is being served. */
  evict(): boolean
}

/** What a service keeps only to be faster. */
export interface Sparing {
  /** Gives some of it back. */
  spare(): void
}

/** What the system gives, as a process finds it at its start; 0: it does not say. */
export interface Supply {
  readonly descriptors: number
  /** For all workers together. */
  readonly memoryBytes: number
  /** What this process takes without any connection. */
  readonly residentBytes: number
  readonly workers: number
}

const ENDLESS: Supply = {
  descriptors: Number.POSITIVE_INFINITY, memoryBytes: Number.POSITIVE_INFINITY, residentBytes: 0, workers: 1,
}

export function systemSupply(workers = 1): Supply {
  return { descriptors: descriptorLimit(), memoryBytes: memoryLimit(), residentBytes: residentBytes(), workers }
}

export const MemoryStage = { Free: 0, Sparing: 1, Shedding: 2, Closed: 3, Exhausted: 4 } as const
export type MemoryStage = (typeof MemoryStage)[keyof typeof MemoryStage]

/** Why a request is not taken: the option that says so, as it stands in the access log. */
export type ShedReason = 'active-requests' | 'memory-budget' | 'loop-delay'

/** The share of the memory of the machine, or of its control group, that workers may take; the rest is for others and for garbage. */
const WORKERS_SHARE = 0.8
const MAX_AUTOMATIC_BYTES = 1024 ** 3
/** A worker that would have less is no use; the system ends it then, or not. */
const MIN_AUTOMATIC_BYTES = 16 * 1024 ** 2

/** What a connection and an exchange take besides buffers that are counted: objects, here and at the origin's side. Measured. */
const CONNECTION_BYTES = 8 * 1024
const EXCHANGE_BYTES = 16 * 1024

/** In such windows the delay of the loop is judged, by the latest of some ten ticks, and so many of them have to be late. ms. */
const DELAY_WINDOW_MS = 1000
const LATE_WINDOWS = 3

/**
 * Of the connections of a listener that may be cut, so many are in one tick when memory is short: an eighth, those that wait for
 * longest, so that one that has just come has time to say what it wants.
 */
const SPARED_SHARE = 1 / 8
const SPARED_A_TICK = 64

export class Admission implements Timed {
  tickIndex = -1
  /** Open now, those of all listeners. */
  connections = 0
  /** Under way now, those of all services. */
  requests = 0
  /** Infinity: any number. */
  readonly maxConnections: number
  readonly memoryBudgetBytes: number
  /** Requests that were answered with 503 so far. */
  shed = 0
  /** The budget was spent once. */
  exhausted = false
  readonly #listeners: Evictable[] = []
  readonly #services: Sparing[] = []
  readonly #limits: ResolvedLimitOptions
  /** Infinity: any number, or unknown. */
  readonly #descriptors: number
  readonly #sparingAt: number
  readonly #sheddingAt: number
  readonly #closedAt: number
  #lines = new RepeatedLines(SILENT_LOG)
  #ticker: Ticker | null = null
  #tickedAt = 0
  #windowAt = 0
  /** The latest tick of the window, and windows in a row in which one was too late. */
  #latestMs = 0
  #lateWindows = 0

  constructor(limits: ResolvedLimitOptions = LIMIT_DEFAULTS, supply: Supply = ENDLESS) {
    const { maxConnections, fdReserve, memoryBudgetBytes } = limits
    this.#limits = limits
    this.#descriptors = supply.descriptors === 0 ? Number.POSITIVE_INFINITY : supply.descriptors
    const ofDescriptors = Math.max(1, Math.floor((this.#descriptors - fdReserve) / 2))
    this.maxConnections = Math.min(maxConnections === 0 ? Number.POSITIVE_INFINITY : maxConnections, ofDescriptors)
    this.memoryBudgetBytes = memoryBudgetBytes === 0 ? automaticBudget(supply) : memoryBudgetBytes
    this.#sparingAt = 0.8 * this.memoryBudgetBytes
    this.#sheddingAt = 0.9 * this.memoryBudgetBytes
    this.#closedAt = 0.95 * this.memoryBudgetBytes
  }

  /** Says what the system allows less of than the options do, and from here on when memory is short, a line a second at most. */
  report(log: ProcessLog): void {
    this.#lines = new RepeatedLines(log)
    const { maxConnections, fdReserve } = this.#limits
    if (this.maxConnections === maxConnections || this.#descriptors === Number.POSITIVE_INFINITY) return
    log.info(`room for ${this.maxConnections} connections only: this process may have ${this.#descriptors} descriptors`, {
      maxConnections: this.maxConnections, wanted: maxConnections, nofile: this.#descriptors, fdReserve,
    })
  }

  /** Before its listeners accept. */
  join(service: Sparing, listeners: readonly Evictable[], ticker: Ticker): void {
    this.#ticker ??= ticker
    this.#services.push(service)
    this.#listeners.push(...listeners)
  }

  // ---- connections

  /**
   * Why there is no room for one more connection; null: there is.
   * @param own the listener that has it: the first to give one up
   */
  refusal(own: Evictable): RefusalReason | null {
    if (this.memoryStage >= MemoryStage.Closed) return 'memory-budget'
    if (this.connections < this.maxConnections || own.evict()) return null
    for (const listener of this.#listeners) if (listener !== own && listener.evict()) return null
    return 'max-connections'
  }

  came(): void {
    if (this.connections++ > 0 || this.#ticker === null) return
    this.#tickedAt = this.#windowAt = this.#ticker.clock.exact()
    this.#latestMs = this.#lateWindows = 0
    this.#ticker.add(this)
  }

  left(): void { if (--this.connections === 0) this.#ticker?.remove(this) }

  // ---- requests

  /** Counts one request, which `ended` has to follow. Returns why it is not taken; null: it is. @param maxActive 0: any number */
  begin(maxActive: number): ShedReason | null {
    const active = ++this.requests
    const reason = active > maxActive && maxActive !== 0 ? 'active-requests'
      : this.memoryStage >= MemoryStage.Shedding ? 'memory-budget'
      : this.#lateWindows >= LATE_WINDOWS ? 'loop-delay' : null
    if (reason !== null) this.shed++
    return reason
  }

  ended(): void { this.requests-- }

  // ---- memory and time

  /** What connections and requests hold. */
  get heldBytes(): number { return heldBytes.now + this.connections * CONNECTION_BYTES + this.requests * EXCHANGE_BYTES }

  get memoryStage(): MemoryStage {
    const held = this.heldBytes
    if (held < this.#sparingAt) return MemoryStage.Free
    if (held < this.#closedAt) return held < this.#sheddingAt ? MemoryStage.Sparing : MemoryStage.Shedding
    return held < this.memoryBudgetBytes ? MemoryStage.Closed : MemoryStage.Exhausted
  }

  onTick(now: number): void {
    this.#measureDelay(now)
    const stage = this.memoryStage
    if (stage === MemoryStage.Free) return
    this.#lines.warn('memory is short', { stage: STAGE_NAMES[stage] }, () => this.#figures())
    if (stage === MemoryStage.Exhausted) this.exhausted = true
    for (const listener of this.#listeners) {
      for (let left = Math.min(SPARED_A_TICK, Math.floor(listener.evictable * SPARED_SHARE)); left > 0; left--) listener.evict()
    }
    for (const service of this.#services) service.spare()
  }

  #measureDelay(now: number): void {
    const { maxLoopDelayMs } = this.#limits
    this.#latestMs = Math.max(this.#latestMs, now - this.#tickedAt - TICK_MS)
    this.#tickedAt = now
    if (now - this.#windowAt < DELAY_WINDOW_MS) return
    this.#lateWindows = maxLoopDelayMs !== 0 && this.#latestMs > maxLoopDelayMs ? this.#lateWindows + 1 : 0
    this.#windowAt = now
    this.#latestMs = 0
  }

  #figures(): { heldBytes: number; memoryBudgetBytes: number; connections: number; requests: number } {
    const { connections, requests, memoryBudgetBytes } = this
    return { heldBytes: this.heldBytes, memoryBudgetBytes, connections, requests }
  }

  counts(): Partial<OpenCounts> {
    const { shed, heldBytes: held, exhausted, memoryBudgetBytes, maxConnections } = this
    return {
      shed, heldBytes: held, exhausted: exhausted ? 1 : 0,
      memoryBudgetBytes, connectionLimit: maxConnections === Number.POSITIVE_INFINITY ? 0 : maxConnections,
    }
  }

  close(): void { this.#lines.close() }
}

const STAGE_NAMES: Readonly<Record<MemoryStage, string>> = {
  [MemoryStage.Free]: 'free', [MemoryStage.Sparing]: 'sparing', [MemoryStage.Shedding]: 'shedding',
  [MemoryStage.Closed]: 'closed', [MemoryStage.Exhausted]: 'exhausted',
}

/** What is left of a worker's share when it has started. */
function automaticBudget({ memoryBytes, residentBytes: resident, workers }: Supply): number {
  const share = WORKERS_SHARE * memoryBytes / workers - resident
  return Math.max(MIN_AUTOMATIC_BYTES, Math.min(MAX_AUTOMATIC_BYTES, share))
}
