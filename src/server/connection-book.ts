/**
 * The connections of one listener: all of them, and those that are idle, the one that has been idle for longest first.
 * Both lists run through the connections themselves, so that a request's way from idle to active and back costs a few
 * stores, and eviction, counts and drains never search.
 *
 * Invariant: a connection is in the idle list only while it is in the book. Telling the book twice that one is idle, or
 * active, is harmless: within one read callback a connection may be both without anything outside having seen it.
 */
import type { AcceptingListener, DownstreamConnection } from '../protocols/http-connection.ts'

/** Hears of connections that are gone, each once, when the book has forgotten them. */
export interface BookOwner {
  onLeft(connection: DownstreamConnection): void
}

export class ConnectionBook implements AcceptingListener {
  readonly #owner: BookOwner
  #newest: DownstreamConnection | null = null
  #oldestIdle: DownstreamConnection | null = null
  #newestIdle: DownstreamConnection | null = null
  size = 0
  idle = 0

  constructor(owner: BookOwner) { this.#owner = owner }

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

  onIdle(connection: DownstreamConnection): void {
    const before = this.#newestIdle
    if (connection.idleOlder !== null || before === connection || this.#oldestIdle === connection) return
    connection.idleOlder = before
    if (before === null) this.#oldestIdle = connection
    else before.idleNewer = connection
    this.#newestIdle = connection
    this.idle++
  }

  onActive(connection: DownstreamConnection): void {
    const { idleNewer, idleOlder } = connection
    if (idleOlder === null && this.#oldestIdle !== connection) return
    if (idleNewer === null) this.#newestIdle = idleOlder
    else idleNewer.idleOlder = idleOlder
    if (idleOlder === null) this.#oldestIdle = idleNewer
    else idleOlder.idleNewer = idleNewer
    connection.idleNewer = connection.idleOlder = null
    this.idle--
  }

  onClosed(connection: DownstreamConnection): void {
    this.onActive(connection)
    const { bookNewer, bookOlder } = connection
    if (bookNewer === null) this.#newest = bookOlder
    else bookNewer.bookOlder = bookOlder
    if (bookOlder !== null) bookOlder.bookNewer = bookNewer
    connection.bookNewer = connection.bookOlder = null
    connection.acceptedBy = null
    this.size--
    this.#owner.onLeft(connection)
  }

  /** Makes room. Returns false when no connection is idle. */
  closeOldestIdle(): boolean {
    const oldest = this.#oldestIdle
    if (oldest === null) return false
    oldest.closeIdle()
    return true
  }

  /** All of them, as a copy: for rare walks that may end what they meet. */
  snapshot(): DownstreamConnection[] {
    const all: DownstreamConnection[] = []
    for (let at = this.#newest; at !== null; at = at.bookOlder) all.push(at)
    return all
  }
}
