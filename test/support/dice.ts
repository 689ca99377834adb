/** One number after another from a seed (mulberry32): the same seed, the same numbers. */
export class Dice {
  #state: number
  constructor(seed: number) { this.#state = seed >>> 0 }
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
  pick<T>(list: readonly T[]): T { return list[this.below(list.length)]! }
}
