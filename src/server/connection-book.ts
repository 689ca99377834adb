/**
 * The connections of one listener: all of them, and those that may be evicted, with the one first that has been waiting for
 * longest, for whatever it waits. All lists run through the connections themselves, so that a
 * request's way from idle to active and back costs a few stores, and eviction, counts and drains never search.
 *
 *   idle        waits for a request, nothing of it seen
 *   unfinished  has a part of a head, or only has to be closed: nobody would miss an answer
 *   neither     an exchange is under way, or an answer is not taken yet
 *
 * No kind of waiting goes before the other: a connection is idle until the first byte of its head comes, so where idle ones
 * went first, half heads that fill a listener would have every newcomer pushed out by the next one.
 *
 * Invariant: a connection waits only while it is in the book, and for one thing at most. Telling the book
 * the same twice is harmless: within one read callback a connection may be idle and active without anything outside having
 * seen it.
 */
import type { AcceptingListener, DownstreamConnection } from '../protocols/http-connection.ts'
import type { Evictable } from './admission.ts'

/** Hears of connections that come and go: of each once, when the book has it, and when it has forgotten it. */
export interface BookOwner {
  /** It has sent something that was not read yet, so that an answer would be missed. */
  hasUnread?(connection: DownstreamConnection): boolean
  /** One is about to be cut for want of room. */
  onEvicted?(connection: DownstreamConnection): void
  onCame(): void
  onLeft(connection: DownstreamConnection): void
}

/** So many are asked whether they have sent something meanwhile; each costs a system call. */
const ASKED_AT_MOST = 16

/** What connections in the list wait for, and how many do. */
interface Waiting { size: number }

/** Connections that may be evicted, in the order in which they came to it. */
class EvictionList {
  oldest: DownstreamConnection | null = null
  #newest: DownstreamConnection | null = null

  add(connection: DownstreamConnection): void {
    const before = this.#newest
    connection.listOlder = before
    if (before === null) this.oldest = connection
    else before.listNewer = connection
    this.#newest = connection
  }

  remove(connection: DownstreamConnection): void {
    const { listNewer, listOlder } = connection
    if (listNewer === null) this.#newest = listOlder
    else listNewer.listOlder = listOlder
    if (listOlder === null) this.oldest = listNewer
    else listOlder.listNewer = listNewer
    connection.listNewer = connection.listOlder = null
  }
}

export class ConnectionBook implements AcceptingListener, Evictable {
  readonly #owner: BookOwner
  readonly #waiting = new EvictionList()
  readonly #idle: Waiting = { size: 0 }
  readonly #unfinished: Waiting = { size: 0 }
  #newest: DownstreamConnection | null = null
  size = 0
  /** Cut for want of room, so far. */
  evicted = 0

  constructor(owner: BookOwner) { this.#owner = owner }

  get idle(): number { return this.#idle.size }
  get evictable(): number { return this.#idle.size + this.#unfinished.size }

  /** Takes in a connection that is idle: nothing was read from it yet. @param countedAs the client that it counts for; '': none */
  add(connection: DownstreamConnection, countedAs: string): void {
    connection.acceptedBy = this
    connection.countedAs = countedAs
    const before = this.#newest
    connection.bookOlder = before
    if (before !== null) before.bookNewer = connection
    this.#newest = connection
    this.size++
    this.onIdle(connection)
    this.#owner.onCame()
  }

  /** `next` goes on where `connection` ends, a connection that waited to know its protocol: one place, one client, one age. */
  replace(connection: DownstreamConnection, next: DownstreamConnection): void {
    next.acceptedBy = this
    next.countedAs = connection.countedAs
    this.onActive(connection)
    const { bookNewer, bookOlder } = connection
    next.bookNewer = bookNewer
    next.bookOlder = bookOlder
    if (bookNewer === null) this.#newest = next
    else bookNewer.bookOlder = next
    if (bookOlder !== null) bookOlder.bookNewer = next
    connection.bookNewer = connection.bookOlder = null
    connection.acceptedBy = null
    this.onIdle(next)
  }

  onIdle(connection: DownstreamConnection): void { this.#moveTo(this.#idle, connection) }
  onUnfinished(connection: DownstreamConnection): void { this.#moveTo(this.#unfinished, connection) }
  onActive(connection: DownstreamConnection): void { this.#takeOut(connection) }

  /** One that waits for something else from now on has waited for that no time at all. */
  #moveTo(waiting: Waiting, connection: DownstreamConnection): void {
    if (connection.inList === waiting) return
    this.#takeOut(connection)
    this.#waiting.add(connection)
    connection.inList = waiting
    waiting.size++
  }

  #takeOut(connection: DownstreamConnection): void {
    const { inList } = connection
    if (inList === null) return
    const waiting = inList === this.#idle ? this.#idle : this.#unfinished
    this.#waiting.remove(connection)
    connection.inList = null
    waiting.size--
  }

  onClosed(connection: DownstreamConnection): void {
    this.#takeOut(connection)
    const { bookNewer, bookOlder } = connection
    if (bookNewer === null) this.#newest = bookOlder
    else bookNewer.bookOlder = bookOlder
    if (bookOlder !== null) bookOlder.bookNewer = bookNewer
    connection.bookNewer = connection.bookOlder = null
    connection.acceptedBy = null
    this.size--
    this.#owner.onLeft(connection)
  }

  /**
   * Makes room: the connection that has waited for longest is reset. It is out of the book when the call returns, and its
   * descriptor is free.
   */
  evict(): boolean {
    const connection = this.#leastMissed()
    if (connection === null) return false
    this.evicted++
    this.#owner.onEvicted?.(connection)
    connection.destroy()
    // A stream reports its end later than it ends.
    if (connection.acceptedBy === this) this.onClosed(connection)
    return true
  }

  /**
   * An event loop that takes in many connections is late to read: what it takes for idle may have asked already. Where all of the
   * oldest have, as clients do that send more than they may, the oldest has to go.
   */
  #leastMissed(): DownstreamConnection | null {
    const owner = this.#owner, { oldest } = this.#waiting
    if (owner.hasUnread === undefined) return oldest
    let connection = oldest
    for (let asked = 0; connection !== null && asked < ASKED_AT_MOST; asked++) {
      if (!owner.hasUnread(connection)) return connection
      connection = connection.listNewer
    }
    return oldest
  }

  /** All of them, as a copy: for rare walks that may end what they meet. */
  snapshot(): DownstreamConnection[] {
    const all: DownstreamConnection[] = []
    for (let at = this.#newest; at !== null; at = at.bookOlder) all.push(at)
    return all
  }
}
