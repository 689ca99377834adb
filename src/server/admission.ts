/**
 * Whether a process lets in one more connection, over all of its services and listeners. Each listener has limits of its own
 * (listener/tcp-listener.ts); here is what they share: the descriptors that the system allows.
 *
 * Half of the descriptors is for connections to origins, one for each client at most; the reserve is for what is neither.
 * So a worker never comes to the point where nothing can be opened any more: what is served goes on, and the new connection
 * takes the place of one that waits, or is refused.
 * Invariant: `connections` is the number of connections in the books of the listeners that joined.
 */
import { LIMIT_DEFAULTS, type ResolvedLimitOptions } from '../config/limit-options.ts'
import type { ProcessLog } from '../ipc/process-log.ts'
import { descriptorLimit } from '../primitives/descriptor-limit.ts'

/** The connections of one listener. */
export interface Evictable {
  /** Cuts the connection that is missed least. Returns false when every one of them is being served. */
  evict(): boolean
}

export class Admission {
  /** Open now, those of all listeners. */
  connections = 0
  /** Infinity: any number. */
  readonly maxConnections: number
  readonly #listeners: Evictable[] = []
  /** What the system allows; Infinity: any number, or it did not say. */
  readonly #descriptors: number
  readonly #limits: ResolvedLimitOptions

  constructor(limits: ResolvedLimitOptions = LIMIT_DEFAULTS, descriptors: number = descriptorLimit()) {
    const { maxConnections, fdReserve } = limits
    this.#limits = limits
    this.#descriptors = descriptors === 0 ? Number.POSITIVE_INFINITY : descriptors
    const ofDescriptors = Math.max(1, Math.floor((this.#descriptors - fdReserve) / 2))
    this.maxConnections = Math.min(maxConnections === 0 ? Number.POSITIVE_INFINITY : maxConnections, ofDescriptors)
  }

  /** Says when the system allows less than the options do. */
  report(log: ProcessLog): void {
    const { maxConnections, fdReserve } = this.#limits
    if (this.maxConnections === maxConnections || this.#descriptors === Number.POSITIVE_INFINITY) return
    log.info(`room for ${this.maxConnections} connections only: this process may have ${this.#descriptors} descriptors`, {
      maxConnections: this.maxConnections, wanted: maxConnections, nofile: this.#descriptors, fdReserve,
    })
  }

  join(listener: Evictable): void { this.#listeners.push(listener) }

  /** @param own the listener that has a new connection: the first to give one up. Returns false when there is no room. */
  makeRoom(own: Evictable): boolean {
    if (this.connections < this.maxConnections || own.evict()) return true
    for (const listener of this.#listeners) if (listener !== own && listener.evict()) return true
    return false
  }
}
