/**
 * Who may begin a handshake, and when. Each takes its part of a millisecond of CPU at once, and a place until its client has answered:
 *
 *   places    at most `max` handshakes have one; one client has a quarter of them at most, so that no one client is in the way of all
 *             others. While others wait a place is kept for PLACE_MS: a few clients that begin and say no more would otherwise keep all
 *             places until their time is over. Their handshakes go on without one, since they cost no CPU until they are answered
 *   turns     at most STARTS_A_TURN begin in one turn of the event loop: connections that are open have theirs between
 *   order     who waits begins when its client's turn comes: clients go round, each with the one that has waited for longest
 *
 * Invariant: what was begun is ended once, and what waits either begins or leaves.
 */
import type { Ticker, Timed } from '../../primitives/clock.ts'

/** Some milliseconds. */
const STARTS_A_TURN = 8
/** The answer of a client on a slow line is there by then. */
const PLACE_MS = 1000
/** Of all places, for one client. */
const SHARE = 1 / 4

/** A handshake that waits for a place, or has one. */
export interface SlotUser {
  /** Who it is for: an address or a network; '': nobody that could be told from others, whose share is not limited. */
  readonly client: string
  /** Those that have their places since before and since after, and since when it has its own: set here alone. NaN: it has none. */
  placeOlder: SlotUser | null
  placeNewer: SlotUser | null
  placeSince: number
  /** It has its place. Called once, within `enter` or later. */
  begin(): void
}

export class HandshakeSlots implements Timed {
  tickIndex = -1
  readonly #ticker: Ticker
  readonly #max: number
  readonly #share: number
  /** By client, in the order of their turns. */
  readonly #waiting = new Map<string, SlotUser[]>()
  readonly #held = new Map<string, number>()
  /** Of those that have a place. A Map would keep all that ever had one from the collector (primitives/churning.ts). */
  #oldest: SlotUser | null = null
  #newest: SlotUser | null = null
  /** With a place, now. */
  active = 0
  #begunThisTurn = 0
  #turnEnds = false
  /** Without a place, now. */
  waiting = 0
  /** Most that had a place at once. */
  peak = 0

  constructor(max: number, ticker: Ticker) {
    this.#max = max
    this.#ticker = ticker
    this.#share = Math.max(1, Math.ceil(max * SHARE))
  }

  enter(user: SlotUser): void {
    if (this.#waiting.size === 0 && this.#hasRoom() && this.#mayBegin(user.client)) {
      this.#begin(user)
      return
    }
    const queue = this.#waiting.get(user.client)
    if (queue === undefined) this.#waiting.set(user.client, [user])
    else queue.push(user)
    this.waiting++
    this.#ticker.add(this)
    // Others of its client may wait, and not for a place.
    this.#serve()
  }

  /** One that waits, or waits no more. */
  leave(user: SlotUser): void {
    const queue = this.#waiting.get(user.client), at = queue === undefined ? -1 : queue.indexOf(user)
    if (at === -1) return
    queue!.splice(at, 1)
    if (queue!.length === 0) this.#waiting.delete(user.client)
    this.#waitsNoMore()
  }

  /** One that began is over. */
  end(user: SlotUser): void { if (this.#giveBack(user)) this.#serve() }

  onTick(now: number): void {
    for (let user = this.#oldest; user !== null && now - user.placeSince >= PLACE_MS; user = this.#oldest) this.#giveBack(user)
    this.#serve()
  }

  /** @returns false when its place was given to others before */
  #giveBack(user: SlotUser): boolean {
    if (Number.isNaN(user.placeSince)) return false
    const { client, placeOlder, placeNewer } = user
    if (placeOlder === null) this.#oldest = placeNewer
    else placeOlder.placeNewer = placeNewer
    if (placeNewer === null) this.#newest = placeOlder
    else placeNewer.placeOlder = placeOlder
    user.placeOlder = user.placeNewer = null
    user.placeSince = Number.NaN
    this.active--
    const held = this.#held.get(client)! - 1
    if (held === 0) this.#held.delete(client)
    else this.#held.set(client, held)
    return true
  }

  #waitsNoMore(): void {
    this.waiting--
    if (this.waiting === 0) this.#ticker.remove(this)
  }

  #hasRoom(): boolean { return this.active < this.#max && this.#begunThisTurn < STARTS_A_TURN }

  #mayBegin(client: string): boolean { return client === '' || (this.#held.get(client) ?? 0) < this.#share }

  #begin(user: SlotUser): void {
    const { client } = user
    const before = user.placeOlder = this.#newest
    if (before === null) this.#oldest = user
    else before.placeNewer = user
    this.#newest = user
    user.placeSince = this.#ticker.clock.now()
    if (++this.active > this.peak) this.peak = this.active
    this.#held.set(client, (this.#held.get(client) ?? 0) + 1)
    this.#begunThisTurn++
    if (!this.#turnEnds) {
      this.#turnEnds = true
      setImmediate(nextTurn, this)
    }
    user.begin()
  }

  #serve(): void {
    if (this.waiting === 0 || !this.#hasRoom()) return
    for (const [client, queue] of this.#waiting) {
      if (!this.#mayBegin(client)) continue
      this.#waiting.delete(client)
      const user = queue.shift()!
      // Behind all others.
      if (queue.length > 0) this.#waiting.set(client, queue)
      this.#waitsNoMore()
      this.#begin(user)
      if (this.waiting === 0 || !this.#hasRoom()) return
    }
  }

  turn(): void {
    this.#begunThisTurn = 0
    this.#turnEnds = false
    this.#serve()
  }
}

function nextTurn(slots: HandshakeSlots): void { slots.turn() }
