/**
 * Looks after the names that connections were made to: traffic keeps a connection in the pool for hours, and the name may stand
 * for another machine by then (a move by DNS, another colour of a deployment, a balancer of a cloud).
 *
 * While the pool has connections to a name, the name is looked up every LOOK_MS; the resolver's cache keeps that within its TTL. An
 * address that no answer of the last ABSENT_MS had is one that the name has left, and the pool takes its connections out of use
 * when their exchanges are over. Servers that answer with a part of their addresses each time are given that long to come round
 * again. A name that cannot be resolved changes nothing.
 */
import { isIP, SocketAddress } from 'node:net'
import type { Peer } from '../peer/peer.ts'
import type { ConnectionPool } from '../pool/connection-pool.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'
import type { PendingResolve, ResolveWaiter } from './resolver.ts'

/** Where names come from: a Resolver; the connector of transports has one. */
export interface NameSource {
  /** Numeric addresses that are known now; null: it has to be asked. */
  cached(name: string): readonly string[] | null
  /** The waiter is told once, unless the wait is cancelled first. */
  ask(name: string, timeoutMs: number, waiter: ResolveWaiter): PendingResolve
}

/** From one look at a name to the next, in ms. */
export const LOOK_MS = 5000
/** How long an address may be missing before the name counts as gone from it, in ms. */
export const ABSENT_MS = 30_000

export class NameWatch implements Timed {
  tickIndex = -1
  readonly #names = new Map<string, WatchedName>()
  readonly #pool: ConnectionPool
  readonly #source: NameSource
  readonly #ticker: Ticker

  constructor(pool: ConnectionPool, source: NameSource, ticker: Ticker) {
    this.#pool = pool
    this.#source = source
    this.#ticker = ticker
  }

  /** A connection for this peer was made. @param ip where it leads */
  connected(peer: Peer, ip: string): void {
    const address = peer.connectProxy === null ? peer.address : peer.connectProxy.nextHop
    if (address.kind !== 'tcp' || ip === '' || peer.options.customL4 !== null || isIP(address.host) !== 0) return
    const now = this.#ticker.clock.exact()
    let name = this.#names.get(address.host)
    if (name === undefined) {
      name = new WatchedName(address.host, now + LOOK_MS, this.#ticker)
      this.#names.set(address.host, name)
      this.#ticker.add(this)
    }
    name.keys.add(peer.reuseKey)
    name.see([ip], now)
    name.tell(this.#pool, now)
  }

  onTick(now: number): void {
    for (const name of this.#names.values()) {
      if (now < name.lookAt) continue
      name.lookAt = now + LOOK_MS
      for (const key of name.keys) if (!this.#pool.holds(key)) name.keys.delete(key)
      if (name.keys.size > 0) name.look(this.#source, this.#pool)
      else {
        name.stop()
        this.#names.delete(name.host)
      }
    }
    if (this.#names.size === 0) this.#ticker.remove(this)
  }
}

class WatchedName implements ResolveWaiter {
  readonly host: string
  /** Reuse keys of peers with this name. */
  readonly keys = new Set<string>()
  lookAt: number
  readonly #ticker: Ticker
  /** When each address was in an answer last. */
  readonly #seenAt = new Map<string, number>()
  #current: ReadonlySet<string> = new Set()
  #asking: PendingResolve | null = null
  #pool: ConnectionPool | null = null

  constructor(host: string, lookAt: number, ticker: Ticker) {
    this.host = host
    this.lookAt = lookAt
    this.#ticker = ticker
  }

  look(source: NameSource, pool: ConnectionPool): void {
    if (this.#asking !== null) return
    this.#pool = pool
    const known = source.cached(this.host)
    if (known === null) this.#asking = source.ask(this.host, LOOK_MS, this)
    else this.onResolved(known)
  }

  onResolved(addresses: readonly string[]): void {
    this.#asking = null
    const now = this.#ticker.clock.exact()
    this.see(addresses, now)
    if (this.#pool !== null) this.tell(this.#pool, now)
  }

  onResolveFailed(): void { this.#asking = null }

  see(addresses: readonly string[], now: number): void { for (const address of addresses) this.#seenAt.set(canonical(address), now) }

  /** Tells the pool which addresses the name has, when they are others than before. */
  tell(pool: ConnectionPool, now: number): void {
    for (const [address, seenAt] of this.#seenAt) if (now - seenAt > ABSENT_MS) this.#seenAt.delete(address)
    const { size } = this.#seenAt
    if (size !== this.#current.size || ![...this.#seenAt.keys()].every(address => this.#current.has(address))) {
      this.#current = new Set(this.#seenAt.keys())
    }
    for (const key of this.keys) pool.setAddresses(key, this.#current)
  }

  stop(): void {
    this.#asking?.cancel()
    this.#asking = null
  }
}

/** As the kernel prints it: a hosts file may have it otherwise. */
function canonical(address: string): string {
  if (!address.includes(':')) return address
  const zone = address.indexOf('%')
  try {
    return new SocketAddress({ address: zone === -1 ? address : address.slice(0, zone), family: 'ipv6' }).address
  } catch {
    return address
  }
}
