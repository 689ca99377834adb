/**
 * Upstream connections by reuse key, of every protocol: those at rest, those with room for another exchange, and the count
 * of connections that each key has.
 *
 *            lend              release of the last lending                   onParkedLost, eviction, closeIdle
 *   Fresh ---------> Lent -----------------------------------------> Idle -----------------------------------> Gone
 *                    ^  |                                             |                                         ^
 *                    |  +-- the last lending, but it takes no more, or reuse is off ----------------------------+
 *                    +------------------------ take ------------------+
 *
 *   Lent, a shared connection only:   Full <---- take, release, onCapacityChanged ----> Roomy
 *
 * Where a connection is shows in its own fields:
 *
 *                  poolLent    poolNewer, poolOlder         poolKeyNewer, poolKeyOlder
 *   Fresh, Gone    0           null                         null
 *   Full           lendings    null                         null
 *   Roomy          lendings    poolNewer is itself          list of its key's connections with room
 *   Idle           0           list of all idle ones        list of its key's idle ones
 *
 * Invariants: every lending ends by one `release`. An exclusive connection (HTTP/1) has at most one lending, a shared one
 * (HTTP/2) no more than it takes: room = capacity + active - lendings, since a lending whose exchange has not begun yet is
 * in neither of the former two. An idle connection has no exchange.
 *
 * How many are kept at rest is decided by demand: for each key the most that were lent at the same time, of a window that is under
 * way and the one before, a quarter more, and SLACK. What is beyond that is closed little by little, so that a peak is forgotten
 * within seconds and does not end in a burst of closes. With a steady number of clients every request finds a connection.
 *
 * `take` prefers a connection that carries exchanges already, the one that got room last, so that the others come to rest
 * and can be closed; then the idle one used last, since it is the least likely to be stale. When the process has too
 * many at rest (idle-crowd.ts) the connection goes that has been idle longest, whatever its key, its protocol and its pool.
 * Taking and releasing cost one Map lookup and a few stores.
 *
 * A request whose earlier attempt lost a pooled connection is `fresh`: it is given none that was at rest, since what took one
 * connection down (a NAT, a balancer, a host) mostly took the others with it. Where all places are taken by such ones, the one
 * that rested longest is closed for it. Once its attempt has shown that the origin answers, `closeRested` closes what was at
 * rest before the loss.
 *
 * A connection that is older than its peer allows, or leads to an address that its name has left (connector/name-watch.ts), takes
 * no further exchange and is closed after those that it has.
 *
 * `maxConnectionsPerPeer` is a limit of an address, whatever the reuse keys of the peers there are. A request that finds no free
 * place waits in the queue of the address, first come first served, until a connection ends, one comes to rest (of another key it is
 * closed for its place), or there is room on one of its own key. The queue is served from a tick of its own, so that no exchange
 * begins inside the end of another one.
 *
 * Does not dial (connector/) and does not decide whether a connection can be used again (its capacity says so).
 * One idea in more than 500 lines: lists, counts and queue change together, and each place that changes one changes all.
 */
import assert from 'node:assert/strict'
import { ProxyError } from '../errors/proxy-error.ts'
import type { Counted, OpenCounts } from '../ipc/open-counts.ts'
import type { Peer } from '../peer/peer.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { ConnectionKeeper, ParkedLoss, UpstreamConnection } from '../protocols/http-connection.ts'
import { PROCESS_CROWD, type CrowdMember, type IdleCrowd } from './idle-crowd.ts'
import { POOL_DEFAULTS, POOL_OPTIONS, type PoolOptions, type ResolvedPoolOptions } from './pool-options.ts'

/** Totals since the start, for metrics. */
export interface PoolCounters {
  /** Takes that found a connection, and that found none. */
  hits: number
  misses: number
  /** Connections that came to rest in the pool. */
  puts: number
  /** Connections closed to make room. */
  evictions: number
  /** Connections closed because demand was less than they were. */
  surplus: number
  /** Connections closed by `closeIdle`. */
  closed: number
  /** Connections taken out of use for their age, or because their name stands for other addresses. */
  retired: number
  /** Idle connections closed because one like them was lost, or in the place of which a new one was wanted. */
  doubted: number
  /** Connections that ended while idle: by the origin, by bytes that no request had asked for, by their time limit. */
  lostClosed: number
  lostUnexpectedBytes: number
  lostIdle: number
  /** Requests that waited for a place, found the queue full, or waited too long. */
  queued: number
  queueFull: number
  queueTimeouts: number
}

/** Connections with one reuse key; in what `HttpConnector.stats()` gives, of all reuse keys with one name. */
export interface PeerConnections {
  /** Name of the peer: `host:port`, `[v6]:port` or `unix:/path`. */
  readonly peer: string
  /** Lent to exchanges. */
  readonly active: number
  /** At rest in the pool. */
  readonly idle: number
  /** Being established; no exchange has them yet. */
  readonly dialling: number
  /** Requests in the queue. */
  readonly waiting: number
}

/** The connections to one address, of all its reuse keys, and those who wait for one. */
class Address {
  /** As peers are named. */
  readonly name: string
  readonly accounts = new Set<Account>()
  /** Connections: dialling, lent and idle. */
  open = 0
  waiting = 0
  firstWaiter: PoolWaiter | null = null
  lastWaiter: PoolWaiter | null = null
  /** Already on the list of addresses whose queue is looked at in the next tick. */
  serving = false
  constructor(name: string) { this.name = name }
}

/** What the pool knows of one reuse key. */
class Account {
  readonly key: string
  readonly address: Address
  /** Connections: dialling, lent and idle. */
  open = 0
  dialling = 0
  idle = 0
  /** Idle ones, by age. */
  newest: UpstreamConnection | null = null
  oldest: UpstreamConnection | null = null
  /** The most that were lent at the same time, in the window under way and in the one before it. */
  peak = 0
  peakBefore = 0
  /** When the window under way ends. It may be long over: only an account with much at rest is looked at. */
  windowEndsAt = 0
  /** Shared ones that carry exchanges and take more, the one that got room last first. */
  roomy: UpstreamConnection | null = null
  /** The connection established last takes one exchange at a time. */
  prefersExclusive = false
  /** Requests in the queue of the address. */
  waiting = 0
  /** What its name stands for; null: not known, or it has none. */
  addresses: ReadonlySet<string> | null = null
  /** When its idle connections were closed on a suspicion last. */
  suspectedAt = Number.NEGATIVE_INFINITY
  constructor(key: string, address: Address) {
    this.key = key
    this.address = address
  }

  get lent(): number { return this.open - this.idle - this.dialling }

  /** One more is lent, or may be. */
  noteDemand(): void {
    const { lent } = this
    if (lent > this.peak) this.peak = lent
  }

  /** Idle ones beyond what recent demand needed. */
  surplusAt(now: number): number {
    if (now >= this.windowEndsAt) {
      this.peakBefore = this.peak
      this.peak = this.lent
      this.windowEndsAt = now + DEMAND_WINDOW_MS
    }
    const needed = Math.max(this.peak, this.peakBefore)
    return this.open - this.dialling - needed - (needed >> 2) - SLACK
  }
}

/** A request that asks for a connection and may have to wait for a place. The link fields belong to the pool. */
export abstract class PoolWaiter implements Timed {
  tickIndex = -1
  readonly peer: Peer
  waitAccount: Account | null = null
  waitDeadline = 0
  waitNext: PoolWaiter | null = null
  waitPrevious: PoolWaiter | null = null
  /** Is given no connection that was at rest. */
  readonly fresh: boolean
  #pool: ConnectionPool

  constructor(peer: Peer, pool: ConnectionPool, fresh = false) {
    this.peer = peer
    this.fresh = fresh
    this.#pool = pool
  }

  /** A place is free and taken for this one: dial, then tell the pool by `lend` or `abandon`. */
  abstract onPlace(): void
  /** There is room on a connection, which is lent to this one. */
  abstract onHandedOver(connection: UpstreamConnection): void
  /** Waited too long. */
  abstract onWaitFailed(error: ProxyError): void

  onTick(now: number): void {
    if (now >= this.waitDeadline) this.#pool.expire(this)
  }
}

/**
 * Accounts without a connection are kept for the next one, up to this many: a key that comes and goes should not cost a
 * Map entry each time, and one that went for good should not stay.
 */
const MAX_UNUSED_ACCOUNTS = 256

/** Connections lead to other addresses than their name has: so many idle ones are closed for one request that looks for one. */
const MAX_PASSED_OVER = 16

/** Each connection has its own greatest age, between these parts of its peer's: those made together end apart. */
const AGE_LEAST = 0.9
const AGE_MOST = 1.1

/** How long a window of demand is, in ms: a peak counts for one to two of them. */
const DEMAND_WINDOW_MS = 10_000
/** Connections that a key keeps whatever its demand was, until their own time limit. */
const SLACK = 32
/** The part of its surplus that a key closes in one tick: half of it within about a second. */
const SURPLUS_PART = 1 / 16

/**
 * How often the idle connections of a key may be closed on a suspicion that nothing has confirmed, in ms: whoever can make an
 * origin drop a connection must not be able to keep its pool empty.
 */
const SUSPICION_MS = 1000

export class ConnectionPool implements ConnectionKeeper, Counted, CrowdMember, Timed {
  tickIndex = -1
  readonly options: ResolvedPoolOptions
  readonly counters: PoolCounters = {
    hits: 0, misses: 0, puts: 0, evictions: 0, surplus: 0, closed: 0, retired: 0, doubted: 0,
    lostClosed: 0, lostUnexpectedBytes: 0, lostIdle: 0,
    queued: 0, queueFull: 0, queueTimeouts: 0,
  }
  readonly #ticker: Ticker
  readonly #crowd: IdleCrowd
  /** Those with more than SLACK at rest. While there are any the pool has a tick. */
  readonly #large = new Set<Account>()
  readonly #accounts = new Map<string, Account>()
  /** By the names of peers. */
  readonly #addresses = new Map<string, Address>()
  #unused = 0
  #idle = 0
  #newest: UpstreamConnection | null = null
  #oldest: UpstreamConnection | null = null
  #closed = false
  readonly #toServe: Address[] = []
  #serveScheduled = false
  readonly #serve = (): void => this.#serveAll()

  /**
   * @param crowd the pools with which it shares `maxIdleConnections`
   * @throws OptionError with every option that would not do.
   */
  constructor(ticker: Ticker, options: PoolOptions = {}, crowd: IdleCrowd = PROCESS_CROWD) {
    this.#ticker = ticker
    this.#crowd = crowd
    this.options = resolveOptions<PoolOptions>('pool', POOL_OPTIONS, options, POOL_DEFAULTS)
  }

  /** Idle connections now. */
  get idle(): number { return this.#idle }

  /** How often a connection came to rest, here or in another pool of the process: what did so later has a greater `poolParked`. */
  get parkings(): number { return this.#crowd.parked }

  /** Reuse keys that are remembered, a few of them without a connection. */
  get keys(): number { return this.#accounts.size }

  /**
   * A connection of this key, lent to the caller; null when none has room.
   * @param fresh one that is at rest will not do
   */
  take(key: string, fresh = false): UpstreamConnection | null {
    const account = this.#accounts.get(key)
    // A request that comes now comes after those that wait.
    if (account !== undefined && account.waiting === 0) {
      const connection = this.#takeFrom(account, fresh || account.address.waiting > 0)
      if (connection !== null) {
        this.counters.hits++
        return connection
      }
    }
    this.counters.misses++
    return null
  }

  /**
   * Ends a lending. The connection goes on with its other exchanges; after the last one it is kept for the next, or closed
   * when it takes no more or may not be kept.
   * @returns whether it is still open.
   */
  release(connection: UpstreamConnection, peer: Peer): boolean {
    if (connection.poolLent === 0) assert.fail('a connection was released that was not lent')
    const account = this.#accounts.get(connection.reuseKey)
    if (account === undefined) assert.fail('a connection was released whose key is not known')
    const ageLeftMs = this.#ageLeft(connection, peer)
    if (!connection.poolRetired && (ageLeftMs <= 0 || hasLeft(account, connection))) {
      connection.poolRetired = true
      this.counters.retired++
    }
    if (--connection.poolLent > 0) {
      this.#settleRoom(account, connection)
      return true
    }
    if (connection.poolNewer === connection) this.#leaveRoom(account, connection)
    const usable = connection.capacity > 0 && !connection.poolRetired
    const idleMs = usable ? Math.min(ageLeftMs, idleTime(peer.options.idleTimeoutMs, connection.originIdleMs)) : 0
    const { maxIdlePerKey, maxIdleConnections } = this.options
    if (idleMs <= 0 || maxIdlePerKey === 0 || maxIdleConnections === 0 || this.#closed) {
      connection.close()
      this.#closeOne(account)
      return false
    }
    if (account.idle >= maxIdlePerKey) this.#evict(account.oldest!)
    else if (this.#crowd.idle >= maxIdleConnections || this.#crowd.idle >= this.#crowd.most) this.#crowd.evictLongest()
    this.#link(account, connection)
    connection.poolParked = ++this.#crowd.parked
    this.counters.puts++
    connection.park(this, idleMs)
    this.#scheduleServe(account.address)
    return true
  }

  /**
   * Takes a place for a new connection.
   * @returns 'granted': dial, then `lend` or `abandon`. 'queued': one of the waiter's callbacks follows, unless it calls
   *   `leave`. 'full': the queue is.
   */
  admit(waiter: PoolWaiter): 'granted' | 'queued' | 'full' {
    const { peer, fresh } = waiter
    const account = this.#accounts.get(peer.reuseKey) ?? this.#addAccount(peer), { address } = account
    const max = peer.options.maxConnectionsPerPeer
    if (max === 0 || (address.waiting === 0 && address.open < max)) {
      this.#openOne(account)
      return 'granted'
    }
    if (address.waiting === 0) {
      // Those of its own key at rest would have been taken, if they would do.
      const replaced = oldestAt(address, fresh || account.addresses !== null ? null : account)
      if (replaced !== null) {
        this.#replace(replaced, account)
        return 'granted'
      }
    }
    if (address.waiting >= peer.options.maxQueuedPerPeer) {
      this.counters.queueFull++
      return 'full'
    }
    this.#enqueue(waiter, account)
    return 'queued'
  }

  #addAccount(peer: Peer): Account {
    const { name, reuseKey } = peer
    let address = this.#addresses.get(name)
    if (address === undefined) {
      address = new Address(name)
      this.#addresses.set(name, address)
    }
    const account = new Account(reuseKey, address)
    address.accounts.add(account)
    this.#accounts.set(reuseKey, account)
    this.#unused++
    return account
  }

  #enqueue(waiter: PoolWaiter, account: Account): void {
    const { address } = account
    this.counters.queued++
    if (isUnused(account)) this.#unused--
    waiter.waitAccount = account
    waiter.waitDeadline = this.#ticker.clock.exact() + waiter.peer.options.queueTimeoutMs
    waiter.waitPrevious = address.lastWaiter
    if (address.lastWaiter === null) address.firstWaiter = waiter
    else address.lastWaiter.waitNext = waiter
    address.lastWaiter = waiter
    address.waiting++
    account.waiting++
    this.#ticker.add(waiter)
    // Those who wait are bound by their own limits; one with a higher limit may find a place at once, behind them.
    this.#scheduleServe(address)
  }

  /** A new connection to a peer of this key may be waited for by several requests: nothing speaks against it, and none is in the queue. */
  mayJoin(key: string): boolean {
    const account = this.#accounts.get(key)
    return account === undefined || (account.waiting === 0 && !account.prefersExclusive)
  }

  /** The connection established last under this key takes one exchange at a time; remembered as long as the key is. */
  prefersExclusive(key: string): boolean { return this.#accounts.get(key)?.prefersExclusive ?? false }

  /**
   * The connection for which a place was taken is established (capacity above 0), and lent to the requests that waited for it.
   * @param wanted how many they are, at least 1
   * @returns to how many of them it is lent: as many as it takes. Each of these lendings ends by a `release`.
   */
  lend(connection: UpstreamConnection, wanted = 1): number {
    if (connection.poolLent !== 0 || this.#isIdle(connection)) assert.fail('a connection was lent twice')
    const account = this.#accounts.get(connection.reuseKey)!
    const { shared } = connection
    const lendings = shared ? Math.max(1, Math.min(wanted, connection.capacity)) : 1
    account.dialling--
    account.prefersExclusive = !shared
    connection.keeper = this
    connection.poolLent = lendings
    connection.poolSince = this.#ticker.clock.now()
    connection.poolAge = AGE_LEAST + (AGE_MOST - AGE_LEAST) * this.#ticker.clock.random()
    account.noteDemand()
    if (shared) this.#settleRoom(account, connection)
    return lendings
  }

  /** The connection for which a place was taken did not come about. */
  abandon(reuseKey: string): void {
    const account = this.#accounts.get(reuseKey)!
    account.dialling--
    this.#closeOne(account)
  }

  /** Out of the queue. Harmless for one who is not in it. */
  leave(waiter: PoolWaiter): void {
    const account = waiter.waitAccount
    if (account === null) return
    const { waitNext, waitPrevious } = waiter, { address } = account
    if (waitPrevious === null) address.firstWaiter = waitNext
    else waitPrevious.waitNext = waitNext
    if (waitNext === null) address.lastWaiter = waitPrevious
    else waitNext.waitPrevious = waitPrevious
    waiter.waitNext = waiter.waitPrevious = waiter.waitAccount = null
    address.waiting--
    account.waiting--
    this.#ticker.remove(waiter)
    // It may have been the one that held up the others.
    this.#scheduleServe(address)
    if (isUnused(account)) this.#nowUnused()
  }

  /** Called by a waiter whose time is up. */
  expire(waiter: PoolWaiter): void {
    const account = waiter.waitAccount
    if (account === null) return
    this.leave(waiter)
    this.counters.queueTimeouts++
    const { name, options } = waiter.peer
    const text = `${name}: none of ${options.maxConnectionsPerPeer} connections became free within ${options.queueTimeoutMs} ms`
    waiter.onWaitFailed(new ProxyError('POOL_QUEUE_TIMEOUT', 'upstream', text, { limit: 'queue-timeout' }))
  }

  /** ConnectionKeeper: an idle connection ended by itself. */
  onParkedLost(connection: UpstreamConnection, reason: ParkedLoss): void {
    // `take` counts a connection that it finds lost.
    if (connection.poolLent > 0 || !this.#isIdle(connection)) return
    const account = this.#accounts.get(connection.reuseKey)!
    this.#unlink(account, connection)
    this.#countLost(reason)
    this.#closeOne(account)
  }

  /** ConnectionKeeper: a connection takes more or fewer exchanges than before. */
  onCapacityChanged(connection: UpstreamConnection): void {
    if (connection.poolLent > 0) this.#settleRoom(this.#accounts.get(connection.reuseKey)!, connection)
  }

  /**
   * Closes idle connections, the oldest first, at most `max` of them: before the process ends, or to give memory back.
   * @returns how many.
   */
  closeIdle(max = Infinity): number {
    let count = 0
    while (count < max && this.#oldest !== null) {
      this.#closeIdleOne(this.#oldest)
      this.counters.closed++
      count++
    }
    return count
  }

  /** There are connections of this key, or dials. */
  holds(key: string): boolean { return (this.#accounts.get(key)?.open ?? 0) > 0 }

  /** The name of this key's peers stands for these addresses, as the kernel prints them, and connections to others are retired. */
  setAddresses(key: string, addresses: ReadonlySet<string>): void {
    const account = this.#accounts.get(key)
    if (account !== undefined) account.addresses = addresses
  }

  /** Closes idle connections of this process, of all its pools, those that rested longest first: descriptors are wanted. */
  giveBack(max: number): void {
    for (let left = max; left > 0 && this.#crowd.idle > 0; left--) this.#crowd.evictLongest()
  }

  /**
   * Closes the idle connections of a key that came to rest before a moment: one like them was lost there, and a new one to the
   * same peer answered.
   * @param parkedBy `parkings` at that moment
   * @param confirmed false: that a new one answers is not known. Then it is done once a second at most
   */
  closeRested(key: string, parkedBy: number, confirmed: boolean): void {
    const account = this.#accounts.get(key)
    if (account === undefined || account.oldest === null) return
    if (!confirmed) {
      const now = this.#ticker.clock.exact()
      if (now - account.suspectedAt < SUSPICION_MS) return
      account.suspectedAt = now
    }
    while (account.oldest !== null && account.oldest.poolParked <= parkedBy) {
      this.counters.doubted++
      this.#closeIdleOne(account.oldest)
    }
  }

  /** CrowdMember. */
  get longestParked(): number { return this.#oldest === null ? Number.POSITIVE_INFINITY : this.#oldest.poolParked }

  /** CrowdMember: another connection wants the place. */
  evictLongest(): void { if (this.#oldest !== null) this.#evict(this.#oldest) }

  /** Timed: closes some of what demand does not need any more. */
  onTick(now: number): void {
    for (const account of this.#large) {
      const surplus = account.surplusAt(now)
      for (let left = surplus > 0 ? Math.ceil(surplus * SURPLUS_PART) : 0; left > 0 && account.oldest !== null; left--) {
        this.counters.surplus++
        this.#closeIdleOne(account.oldest)
      }
      if (account.idle <= SLACK) this.#large.delete(account)
    }
    if (this.#large.size === 0) this.#ticker.remove(this)
  }

  /** Keeps nothing from now on and closes what is idle. Exchanges under way end as usual. */
  close(): void {
    this.#closed = true
    this.closeIdle()
  }

  /** For status and metrics. */
  counts(): Partial<OpenCounts> {
    const { counters } = this
    let poolLent = 0, poolDialling = 0, poolWaiting = 0
    for (const { lent, dialling, waiting } of this.#accounts.values()) {
      poolLent += lent
      poolDialling += dialling
      poolWaiting += waiting
    }
    return {
      poolLent, poolIdle: this.#idle, poolDialling, poolWaiting,
      poolHits: counters.hits, poolMisses: counters.misses, poolEvicted: counters.evictions, poolSurplus: counters.surplus,
      poolDoubted: counters.doubted, poolRetired: counters.retired, poolClosedByOrigin: counters.lostClosed,
      poolUnexpectedBytes: counters.lostUnexpectedBytes, poolIdleTimeouts: counters.lostIdle,
      poolQueued: counters.queued, poolQueueFull: counters.queueFull, poolQueueTimeouts: counters.queueTimeouts,
    }
  }

  /** One row a reuse key with anything in it. */
  *connections(): Generator<PeerConnections> {
    for (const account of this.#accounts.values()) {
      if (isUnused(account)) continue
      const { address, open, idle, dialling, waiting } = account
      yield { peer: address.name, active: open - idle - dialling, idle, dialling, waiting }
    }
  }

  #takeFrom(account: Account, fresh: boolean): UpstreamConnection | null {
    const connection = account.roomy === null ? null : this.#takeRoomy(account)
    return connection !== null || fresh ? connection : this.#takeIdle(account)
  }

  #takeRoomy(account: Account): UpstreamConnection | null {
    for (let connection = account.roomy; connection !== null; connection = account.roomy) {
      // None: it closed without a word, and its exchanges are about to be told.
      const room = roomOf(connection)
      if (room > 0) connection.poolLent++
      if (room <= 1) this.#leaveRoom(account, connection)
      if (room > 0) return connection
    }
    return null
  }

  #takeIdle(account: Account): UpstreamConnection | null {
    for (let passedOver = 0; ;) {
      const connection = account.newest
      if (connection === null || passedOver === MAX_PASSED_OVER) return null
      if (hasLeft(account, connection)) {
        passedOver++
        this.counters.retired++
        this.#closeIdleOne(connection)
        continue
      }
      this.#unlink(account, connection)
      connection.poolLent = 1
      account.noteDemand()
      if (connection.unpark()) {
        if (!connection.shared) return connection
        if (connection.capacity > 0) {
          this.#settleRoom(account, connection)
          return connection
        }
        connection.close()
      }
      connection.poolLent = 0
      this.#countLost('closed')
      this.#closeOne(account)
    }
  }

  /** Until it takes no further exchange, in ms. */
  #ageLeft(connection: UpstreamConnection, peer: Peer): number {
    const { maxConnectionAgeMs } = peer.options
    if (maxConnectionAgeMs === 0) return Number.POSITIVE_INFINITY
    return connection.poolSince + maxConnectionAgeMs * connection.poolAge - this.#ticker.clock.now()
  }

  #countLost(reason: ParkedLoss): void {
    switch (reason) {
      case 'closed': this.counters.lostClosed++; break
      case 'unexpected-bytes': this.counters.lostUnexpectedBytes++; break
      case 'idle': this.counters.lostIdle++; break
    }
  }

  /** Closes a connection at rest, so that `account` has its place for a new one. */
  #replace(connection: UpstreamConnection, account: Account): void {
    this.#openOne(account)
    this.counters.doubted++
    this.#closeIdleOne(connection)
  }

  #evict(connection: UpstreamConnection): void {
    this.counters.evictions++
    this.#closeIdleOne(connection)
  }

  #closeIdleOne(connection: UpstreamConnection): void {
    const account = this.#accounts.get(connection.reuseKey)!
    this.#unlink(account, connection)
    connection.close()
    this.#closeOne(account)
  }

  /** Of a connection that is not lent. */
  #isIdle(connection: UpstreamConnection): boolean {
    return connection.poolNewer !== null || connection.poolOlder !== null || connection === this.#newest
  }

  #link(account: Account, connection: UpstreamConnection): void {
    connection.poolNewer = null
    connection.poolOlder = this.#newest
    if (this.#newest === null) this.#oldest = connection
    else this.#newest.poolNewer = connection
    this.#newest = connection
    connection.poolKeyNewer = null
    connection.poolKeyOlder = account.newest
    if (account.newest === null) account.oldest = connection
    else account.newest.poolKeyNewer = connection
    account.newest = connection
    if (++account.idle === SLACK + 1) this.#watchSurplus(account)
    if (++this.#idle === 1) this.#crowd.join(this)
    this.#crowd.idle++
  }

  #watchSurplus(account: Account): void {
    this.#large.add(account)
    this.#ticker.add(this)
  }

  #unlink(account: Account, connection: UpstreamConnection): void {
    const { poolNewer, poolOlder, poolKeyNewer, poolKeyOlder } = connection
    if (poolNewer === null) this.#newest = poolOlder
    else poolNewer.poolOlder = poolOlder
    if (poolOlder === null) this.#oldest = poolNewer
    else poolOlder.poolNewer = poolNewer
    if (poolKeyNewer === null) account.newest = poolKeyOlder
    else poolKeyNewer.poolKeyOlder = poolKeyOlder
    if (poolKeyOlder === null) account.oldest = poolKeyNewer
    else poolKeyOlder.poolKeyNewer = poolKeyNewer
    connection.poolNewer = connection.poolOlder = connection.poolKeyNewer = connection.poolKeyOlder = null
    account.idle--
    this.#crowd.idle--
    if (--this.#idle === 0) this.#crowd.leave(this)
  }

  /** Puts a lent shared connection on the list of those with room or takes it off, and has the queue served when there is room. */
  #settleRoom(account: Account, connection: UpstreamConnection): void {
    const listed = connection.poolNewer === connection
    if (roomOf(connection) > 0) {
      if (!listed) this.#joinRoom(account, connection)
      if (account.waiting > 0) this.#scheduleServe(account.address)
    } else if (listed) this.#leaveRoom(account, connection)
  }

  #joinRoom(account: Account, connection: UpstreamConnection): void {
    connection.poolNewer = connection
    connection.poolKeyOlder = account.roomy
    if (account.roomy !== null) account.roomy.poolKeyNewer = connection
    account.roomy = connection
  }

  #leaveRoom(account: Account, connection: UpstreamConnection): void {
    const { poolKeyNewer, poolKeyOlder } = connection
    if (poolKeyNewer === null) account.roomy = poolKeyOlder
    else poolKeyNewer.poolKeyOlder = poolKeyOlder
    if (poolKeyOlder !== null) poolKeyOlder.poolKeyNewer = poolKeyNewer
    connection.poolNewer = connection.poolKeyNewer = connection.poolKeyOlder = null
  }

  #openOne(account: Account): void {
    if (isUnused(account)) this.#unused--
    account.open++
    account.address.open++
    account.dialling++
  }

  /** A connection of this account is gone, whatever it was. */
  #closeOne(account: Account): void {
    account.open--
    account.address.open--
    if (account.open < account.idle + account.dialling) assert.fail('more connections were closed than opened')
    this.#scheduleServe(account.address)
    if (isUnused(account)) this.#nowUnused()
  }

  #nowUnused(): void {
    if (++this.#unused <= MAX_UNUSED_ACCOUNTS) return
    for (const account of this.#accounts.values()) {
      if (!isUnused(account)) continue
      const { address, key } = account
      this.#accounts.delete(key)
      address.accounts.delete(account)
      if (address.accounts.size === 0) this.#addresses.delete(address.name)
    }
    this.#unused = 0
  }

  /** Has the queue looked at in the next tick, if anybody is in it. */
  #scheduleServe(address: Address): void {
    if (address.waiting === 0 || address.serving) return
    address.serving = true
    this.#toServe.push(address)
    if (this.#serveScheduled) return
    this.#serveScheduled = true
    process.nextTick(this.#serve)
  }

  #serveAll(): void {
    this.#serveScheduled = false
    const addresses = this.#toServe.splice(0)
    for (const address of addresses) {
      address.serving = false
      this.#serveQueue(address)
    }
  }

  #serveQueue(address: Address): void {
    for (let waiter = address.firstWaiter; waiter !== null; waiter = address.firstWaiter) {
      const account = waiter.waitAccount!
      const connection = this.#takeFrom(account, waiter.fresh)
      if (connection !== null) {
        this.#handOver(connection, waiter)
        continue
      }
      if (address.open < waiter.peer.options.maxConnectionsPerPeer) this.#openOne(account)
      else {
        // Those at rest are of other keys, or will not do.
        const replaced = oldestAt(address, null)
        if (replaced === null) break
        this.#replace(replaced, account)
      }
      this.leave(waiter)
      waiter.onPlace()
    }
    this.#shareRoom(address)
  }

  /** Whoever is behind one that needs a place may still have room on a connection of its own key. */
  #shareRoom(address: Address): void {
    let next: PoolWaiter | null = null
    for (let waiter = address.firstWaiter; waiter !== null; waiter = next) {
      next = waiter.waitNext
      const account = waiter.waitAccount
      // Null: it left the queue while another one was served.
      if (account === null || account.roomy === null) continue
      const connection = this.#takeRoomy(account)
      if (connection !== null) this.#handOver(connection, waiter)
    }
  }

  #handOver(connection: UpstreamConnection, waiter: PoolWaiter): void {
    this.counters.hits++
    this.leave(waiter)
    waiter.onHandedOver(connection)
  }
}

/** The connection that has been at rest for longest at this address; null: none. @param except an account to be left out */
function oldestAt(address: Address, except: Account | null): UpstreamConnection | null {
  let oldest: UpstreamConnection | null = null
  for (const account of address.accounts) {
    if (account === except || account.oldest === null) continue
    if (oldest === null || account.oldest.poolParked < oldest.poolParked) oldest = account.oldest
  }
  return oldest
}

/** Exchanges that the connection takes besides those that it was lent to. */
function roomOf(connection: UpstreamConnection): number {
  if (connection.poolRetired) return 0
  return connection.capacity + connection.active - connection.poolLent
}

/** It leads where its name does not stand for any more. */
function hasLeft({ addresses }: Account, connection: UpstreamConnection): boolean {
  return addresses !== null && !addresses.has(connection.digest.remoteIp)
}

/** How long a connection may wait: the peer's limit or the origin's, whichever is shorter. 0: not at all. */
function idleTime(peerMs: number, originMs: number): number {
  return originMs > 0 && originMs < peerMs ? originMs : peerMs
}

function isUnused(account: Account): boolean { return account.open === 0 && account.waiting === 0 }
