/**
 * The request bodies of one service that are kept for another attempt, oldest first. What is kept there is kept for what may
 * never happen, so that it goes first when memory is short: uploads to an origin that does not answer would otherwise hold all of
 * it, and new requests be turned away.
 *
 * The list runs through the bodies themselves. Invariant: a body is in it exactly while it keeps bytes that another attempt may want.
 */

/** A body, as the list sees it. */
export interface KeptBody {
  /** The list's own. */
  keptOlder: KeptBody | null
  keptNewer: KeptBody | null
  /** What it keeps. */
  readonly keptLength: number
  /** Keeps nothing any more, and has left the list. Nothing happens when the next attempt is about to send it. */
  spare(): void
}

export class KeptBodies {
  readonly #roomy: (bytes: number) => boolean
  #oldest: KeptBody | null = null
  #newest: KeptBody | null = null
  /** What all of them keep. */
  bytes = 0

  /** @param roomy whether there is memory for more than all of them keep so far */
  constructor(roomy: (bytes: number) => boolean = () => true) { this.#roomy = roomy }

  /** There is memory for bodies that another attempt may want. */
  get roomy(): boolean { return this.#roomy(this.bytes) }

  add(body: KeptBody): void {
    this.bytes += body.keptLength
    const before = this.#newest
    body.keptOlder = before
    if (before === null) this.#oldest = body
    else before.keptNewer = body
    this.#newest = body
  }

  /** Before it lets go of what it keeps. */
  remove(body: KeptBody): void {
    this.bytes -= body.keptLength
    const { keptOlder, keptNewer } = body
    if (keptNewer === null) this.#newest = keptOlder
    else keptNewer.keptOlder = keptOlder
    if (keptOlder === null) this.#oldest = keptNewer
    else keptOlder.keptNewer = keptNewer
    body.keptOlder = body.keptNewer = null
  }

  /** Gives up to so many, the oldest, back to the memory. Their requests go on, and are not repeated. */
  spare(max: number): void {
    let body = this.#oldest
    for (let left = max; left > 0 && body !== null; left--) {
      const next = body.keptNewer
      body.spare()
      body = next
    }
  }
}
