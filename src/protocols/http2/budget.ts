/** How much of something a client may do: a burst, and then so much a second. */
export class Budget {
  readonly #burst: number
  readonly #perMs: number
  #left: number
  #at: number

  constructor(burst: number, perSecond: number, now: number) {
    this.#burst = this.#left = burst
    this.#perMs = perSecond / 1000
    this.#at = now
  }

  /** Returns false when nothing is left. */
  take(now: number): boolean {
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs)
    this.#at = now
    if (this.#left < 1) return false
    this.#left--
    return true
  }

  /** A quarter of the burst or less is left. */
  get isLow(): boolean { return this.#left <= this.#burst / 4 }

  give(count = 1): void { this.#left = Math.min(this.#burst, this.#left + count) }
}
