/**
 * Idle upstream sessions by reuse key, and the count of connections that each key has.
 *
 * Invariant: a session is in the pool or lent to one exchange, never both. Where it is shows in its own links:
 *
 *            lend            put                    onParkedLost, eviction, closeIdle
 *   fresh ---------> lent ---------> in the pool ------------------------------------> gone
 *                     ^ |                |                                              ^
 *                     | +----------------|---------------- discard ---------------------+
 *                     +------ take ------+
 *
 *   lent: poolNewer is the session itself.   in the pool: linked, or the only one.   fresh, gone: all links null.
 *
 * Two orders run through the pooled sessions, both by age: one over all keys, whose oldest goes first when the pool is
 * full, and one a key, whose newest is handed out first, since the one used last is the least likely to be stale.
 * Taking and putting cost one Map lookup and a few stores.
 *
 * A peer with `maxConnectionsPerPeer` has a queue, first come first served: whoever finds no free place waits until a
 * session comes back or a connection ends. The queue is served from a tick of its own, so that nobody's exchange begins
 * inside the end of somebody else's.
 *
 * Does not dial (connector/) and does not decide whether a session can be used again (it says so itself).
 */
import assert from 'node:assert/strict'
import { ProxyError } from '../errors/proxy-error.ts'
import type { Peer } from '../peer/peer.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { IdleKeeper, UpstreamSession } from '../protocols/http-session.ts'
import { POOL_DEFAULTS, POOL_OPTIONS, type PoolOptions, type ResolvedPoolOptions } from './pool-options.ts'

/** Totals since the start, for metrics. */
export interface PoolCounters {
  /** Takes that found a session, and that found none. */
  hits: number
  misses: number
  /** Sessions put in. */
  puts: number
  /** Sessions closed to make room. */
  evictions: number
  /** Sessions closed by `closeIdle`. */
  closed: number
  /** Sessions that ended while idle: by the origin, by bytes nobody asked for, by their time limit. */
  lostClosed: number
  lostUnexpectedBytes: number
  lostIdle: number
  /** Requests that waited for a place, found the queue full, or waited too long. */
  queued: number
  queueFull: number
  queueTimeouts: number
}

/** Connections with one reuse key. */
export interface PeerConnections {
  readonly peer: string
  /** Lent to exchanges. */
  readonly active: number
  readonly idle: number
  readonly dialling: number
  /** Requests in the queue. */
  readonly waiting: number
}

/** What the pool knows of one reuse key. */
class Account {
  readonly key: string
  readonly name: string
  /** Dialling, lent and idle. */
  open = 0
  dialling = 0
  idle = 0
  newest: UpstreamSession | null = null
  oldest: UpstreamSession | null = null
  waiting = 0
  firstWaiter: PoolWaiter | null = null
  lastWaiter: PoolWaiter | null = null
  /** Already on the list of accounts whose queue is looked at in the next tick. */
  serving = false
  constructor(key: string, name: string) {
    this.key = key
    this.name = name
  }
}

/** Somebody who asks for a connection and may have to wait for a place. The link fields belong to the pool. */
export abstract class PoolWaiter implements Timed {
  tickIndex = -1
  readonly peer: Peer
  waitAccount: Account | null = null
  waitDeadline = 0
  waitNext: PoolWaiter | null = null
  waitPrevious: PoolWaiter | null = null
  #pool: ConnectionPool

  constructor(peer: Peer, pool: ConnectionPool) {
    this.peer = peer
    this.#pool = pool
  }

  /** A place is free and taken for this one: dial, then tell the pool by `lend` or `abandon`. */
  abstract onPlace(): void
  /** A session came back and is lent to this one. */
  abstract onHandedOver(session: UpstreamSession): void
  /** Waited too long. */
  abstract onWaitFailed(error: ProxyError): void

  onTick(now: number): void {
    if (now >= this.waitDeadline) this.#pool.expire(this)
  }
}

/** Accounts without a connection are kept for the next one, up to this many: a key that comes and goes should not cost a Map entry each time, and one that went for good should not stay. */
const MAX_UNUSED_ACCOUNTS = 256

export class ConnectionPool implements IdleKeeper {
  readonly options: ResolvedPoolOptions
  readonly counters: PoolCounters = { hits: 0, misses: 0, puts: 0, evictions: 0, closed: 0, lostClosed: 0, lostUnexpectedBytes: 0, lostIdle: 0, queued: 0, queueFull: 0, queueTimeouts: 0 }
  readonly #ticker: Ticker
  readonly #accounts = new Map<string, Account>()
  #unused = 0
  #idle = 0
  #newest: UpstreamSession | null = null
  #oldest: UpstreamSession | null = null
  #closed = false
  readonly #toServe: Account[] = []
  #serveScheduled = false
  readonly #serve = (): void => this.#serveAll()

  /** @throws OptionError with every option that would not do. */
  constructor(ticker: Ticker, options: PoolOptions = {}) {
    this.#ticker = ticker
    this.options = resolveOptions<PoolOptions>('pool', POOL_OPTIONS, options, POOL_DEFAULTS)
  }

  /** Idle connections now. */
  get idle(): number { return this.#idle }

  /** Reuse keys that are remembered, a few of them without a connection. */
  get keys(): number { return this.#accounts.size }

  /** The session of this key that was used last, now lent to the caller; null when there is none. */
  take(key: string): UpstreamSession | null {
    const account = this.#accounts.get(key)
    // Whoever comes now comes after those who wait.
    if (account !== undefined && account.waiting === 0) {
      const session = this.#takeNewest(account)
      if (session !== null) {
        this.counters.hits++
        return session
      }
    }
    this.counters.misses++
    return null
  }

  /**
   * Keeps a lent session for the next one, or closes it when it may not be kept.
   * @returns whether it was kept.
   */
  put(session: UpstreamSession, peer: Peer): boolean {
    if (session.poolNewer !== session) assert.fail('a session was put into the pool that was not lent')
    const { maxIdlePerKey, maxIdleConnections } = this.options
    const idleMs = idleTime(peer.options.idleTimeoutMs, session.originIdleMs)
    if (idleMs <= 0 || maxIdlePerKey === 0 || maxIdleConnections === 0 || this.#closed) {
      this.discard(session)
      return false
    }
    const account = this.#accounts.get(session.reuseKey)
    if (account === undefined) assert.fail('a session was put into the pool whose key is not known')
    if (account.idle >= maxIdlePerKey) this.#evict(account.oldest!)
    else if (this.#idle >= maxIdleConnections) this.#evict(this.#oldest!)
    this.#link(account, session)
    this.counters.puts++
    session.park(this, idleMs)
    if (account.waiting > 0) this.#scheduleServe(account)
    return true
  }

  /** Closes a lent session; its place is free. */
  discard(session: UpstreamSession): void {
    if (session.poolNewer !== session) assert.fail('a session was discarded that was not lent')
    session.poolNewer = null
    session.abort()
    this.#closeOne(this.#accounts.get(session.reuseKey)!)
  }

  /**
   * Takes a place for a new connection.
   * @returns 'granted': dial, then `lend` or `abandon`. 'queued': one of the waiter's callbacks follows, unless it calls `leave`. 'full': the queue is.
   */
  admit(waiter: PoolWaiter): 'granted' | 'queued' | 'full' {
    const { peer } = waiter
    const { reuseKey } = peer
    let account = this.#accounts.get(reuseKey)
    if (account === undefined) {
      account = new Account(reuseKey, peer.name)
      this.#accounts.set(reuseKey, account)
      this.#unused++
    }
    const max = peer.options.maxConnectionsPerPeer
    if (max === 0 || (account.waiting === 0 && account.open < max)) {
      this.#openOne(account)
      return 'granted'
    }
    if (account.waiting >= peer.options.maxQueuedPerPeer) {
      this.counters.queueFull++
      return 'full'
    }
    this.counters.queued++
    waiter.waitAccount = account
    waiter.waitDeadline = this.#ticker.clock.exact() + peer.options.queueTimeoutMs
    waiter.waitPrevious = account.lastWaiter
    if (account.lastWaiter === null) account.firstWaiter = waiter
    else account.lastWaiter.waitNext = waiter
    account.lastWaiter = waiter
    account.waiting++
    this.#ticker.add(waiter)
    // Those who wait are bound by their own limits; one with a higher limit may find a place at once, behind them.
    this.#scheduleServe(account)
    return 'queued'
  }

  /** The connection for which a place was taken is a session now, lent to whoever dialled it. */
  lend(session: UpstreamSession): void {
    if (this.#isPooled(session)) assert.fail('a session was lent twice')
    session.poolNewer = session
    this.#accounts.get(session.reuseKey)!.dialling--
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
    const { waitNext, waitPrevious } = waiter
    if (waitPrevious === null) account.firstWaiter = waitNext
    else waitPrevious.waitNext = waitNext
    if (waitNext === null) account.lastWaiter = waitPrevious
    else waitNext.waitPrevious = waitPrevious
    waiter.waitNext = waiter.waitPrevious = waiter.waitAccount = null
    account.waiting--
    this.#ticker.remove(waiter)
    // It may have been the one that held up the others.
    if (account.waiting > 0) this.#scheduleServe(account)
    else if (account.open === 0) this.#nowUnused()
  }

  /** Called by a waiter whose time is up. */
  expire(waiter: PoolWaiter): void {
    const account = waiter.waitAccount
    if (account === null) return
    this.leave(waiter)
    this.counters.queueTimeouts++
    const { queueTimeoutMs, maxConnectionsPerPeer } = waiter.peer.options
    waiter.onWaitFailed(new ProxyError('POOL_QUEUE_TIMEOUT', 'upstream', `${waiter.peer.name}: none of ${maxConnectionsPerPeer} connections became free within ${queueTimeoutMs} ms`, { limit: 'queue-timeout' }))
  }

  /** IdleKeeper: a pooled session ended by itself. */
  onParkedLost(session: UpstreamSession, reason: 'closed' | 'unexpected-bytes' | 'idle'): void {
    // `take` counts a session that it finds lost.
    if (session.poolNewer === session || !this.#isPooled(session)) return
    const account = this.#accounts.get(session.reuseKey)!
    this.#unlink(account, session)
    this.#countLost(reason)
    this.#closeOne(account)
  }

  /** Closes idle connections, the oldest first, at most `max` of them: before the process ends, or to give memory back. @returns how many. */
  closeIdle(max = Infinity): number {
    let count = 0
    while (count < max && this.#oldest !== null) {
      this.#closePooled(this.#oldest)
      this.counters.closed++
      count++
    }
    return count
  }

  /** Keeps nothing from now on and closes what is idle. Exchanges under way end as usual. */
  close(): void {
    this.#closed = true
    this.closeIdle()
  }

  /** One row a reuse key with anything in it. */
  *connections(): Generator<PeerConnections> {
    for (const account of this.#accounts.values()) {
      if (isUnused(account)) continue
      const { name, open, idle, dialling, waiting } = account
      yield { peer: name, active: open - idle - dialling, idle, dialling, waiting }
    }
  }

  #takeNewest(account: Account): UpstreamSession | null {
    for (;;) {
      const session = account.newest
      if (session === null) return null
      this.#unlink(account, session)
      session.poolNewer = session
      if (session.unpark()) return session
      session.poolNewer = null
      this.#countLost('closed')
      this.#closeOne(account)
    }
  }

  #countLost(reason: 'closed' | 'unexpected-bytes' | 'idle'): void {
    switch (reason) {
      case 'closed': this.counters.lostClosed++; break
      case 'unexpected-bytes': this.counters.lostUnexpectedBytes++; break
      case 'idle': this.counters.lostIdle++; break
    }
  }

  #evict(session: UpstreamSession): void {
    this.counters.evictions++
    this.#closePooled(session)
  }

  #closePooled(session: UpstreamSession): void {
    const account = this.#accounts.get(session.reuseKey)!
    this.#unlink(account, session)
    session.abort()
    this.#closeOne(account)
  }

  #isPooled(session: UpstreamSession): boolean {
    return session.poolNewer !== null || session.poolOlder !== null || session === this.#newest
  }

  #link(account: Account, session: UpstreamSession): void {
    session.poolNewer = null
    session.poolOlder = this.#newest
    if (this.#newest === null) this.#oldest = session
    else this.#newest.poolNewer = session
    this.#newest = session
    session.poolKeyNewer = null
    session.poolKeyOlder = account.newest
    if (account.newest === null) account.oldest = session
    else account.newest.poolKeyNewer = session
    account.newest = session
    account.idle++
    this.#idle++
  }

  #unlink(account: Account, session: UpstreamSession): void {
    const { poolNewer, poolOlder, poolKeyNewer, poolKeyOlder } = session
    if (poolNewer === null) this.#newest = poolOlder
    else poolNewer.poolOlder = poolOlder
    if (poolOlder === null) this.#oldest = poolNewer
    else poolOlder.poolNewer = poolNewer
    if (poolKeyNewer === null) account.newest = poolKeyOlder
    else poolKeyNewer.poolKeyOlder = poolKeyOlder
    if (poolKeyOlder === null) account.oldest = poolKeyNewer
    else poolKeyOlder.poolKeyNewer = poolKeyNewer
    session.poolNewer = session.poolOlder = session.poolKeyNewer = session.poolKeyOlder = null
    account.idle--
    this.#idle--
  }

  #openOne(account: Account): void {
    if (isUnused(account)) this.#unused--
    account.open++
    account.dialling++
  }

  /** A connection of this account is gone, whatever it was. */
  #closeOne(account: Account): void {
    account.open--
    if (account.open < account.idle + account.dialling) assert.fail('more connections were closed than opened')
    if (account.waiting > 0) this.#scheduleServe(account)
    else if (account.open === 0) this.#nowUnused()
  }

  #nowUnused(): void {
    if (++this.#unused <= MAX_UNUSED_ACCOUNTS) return
    for (const account of this.#accounts.values()) if (isUnused(account)) this.#accounts.delete(account.key)
    this.#unused = 0
  }

  #scheduleServe(account: Account): void {
    if (account.serving) return
    account.serving = true
    this.#toServe.push(account)
    if (this.#serveScheduled) return
    this.#serveScheduled = true
    process.nextTick(this.#serve)
  }

  #serveAll(): void {
    this.#serveScheduled = false
    const accounts = this.#toServe.splice(0)
    for (const account of accounts) {
      account.serving = false
      this.#serveQueue(account)
    }
  }

  #serveQueue(account: Account): void {
    for (;;) {
      const waiter = account.firstWaiter
      if (waiter === null) return
      const session = this.#takeNewest(account)
      if (session !== null) {
        this.counters.hits++
        this.leave(waiter)
        waiter.onHandedOver(session)
      } else if (account.open < waiter.peer.options.maxConnectionsPerPeer) {
        this.#openOne(account)
        this.leave(waiter)
        waiter.onPlace()
      } else return
    }
  }
}

/** How long a session may wait: the peer's limit or the origin's, whichever is shorter. 0: not at all. */
function idleTime(peerMs: number, originMs: number): number {
  return originMs > 0 && originMs < peerMs ? originMs : peerMs
}

function isUnused(account: Account): boolean { return account.open === 0 && account.waiting === 0 }
