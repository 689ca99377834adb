/** Numbers that one seed decides, so that a run can be repeated exactly. Not for secrets. */
export class Random {
  #state: number

  constructor(seed: number) {
    // Neighbouring seeds must not begin alike.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0
    for (let turn = 0; turn < 4; turn++) this.next()
  }

  /** From 0 to below 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }

  /** Both ends included. */
  int(min: number, max: number): number { return min + Math.floor(this.next() * (max - min + 1)) }
  chance(share: number): boolean { return this.next() < share }
  pick<T>(of: readonly T[]): T { return of[Math.floor(this.next() * of.length)]! }
  /** Mostly near `typical`, seldom up to `worst`. */
  delay(typical: number, worst: number, worstShare = 0.02): number {
    const ms = this.next() * typical
    return this.chance(worstShare) ? ms + this.next() * worst : ms
  }
}
