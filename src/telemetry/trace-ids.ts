/**
 * Ids of traces and spans. A trace that begins here is sampled by its id, and most are not: so the part of the id that decides is
 * looked at as a number first, and the text is made only for those that are recorded.
 */
import { randomFillSync } from 'node:crypto'

const TRACE_BYTES = 16
const SPAN_BYTES = 8
/** Asking the system for a few bytes costs as much as for these: 256 ids. */
const POOL_BYTES = 4096

const NO_TRACE = '0'.repeat(2 * TRACE_BYTES)
const NO_SPAN = '0'.repeat(2 * SPAN_BYTES)

export class TraceIds {
  readonly #fill: (pool: Buffer) => void
  readonly #pool = Buffer.alloc(POOL_BYTES)
  #at = POOL_BYTES

  /** @param fill with bytes that nobody can foresee; left out: the system's */
  constructor(fill: (pool: Buffer) => void = randomFillSync) { this.#fill = fill }

  /** The id of a new trace; null: it is one of those that are not recorded. @param threshold of `samplingThreshold` */
  sampledTrace(threshold: number): string | null {
    const at = this.#take(TRACE_BYTES), pool = this.#pool
    // The 52 bits that `isSampled` reads: 12 of the last 14 digits, and one more.
    if (pool.readUIntBE(at + 9, 6) * 16 + (pool[at + 15]! >>> 4) < threshold) return null
    const id = pool.toString('hex', at, at + TRACE_BYTES)
    return id === NO_TRACE ? null : id
  }

  span(): string {
    const at = this.#take(SPAN_BYTES)
    const id = this.#pool.toString('hex', at, at + SPAN_BYTES)
    return id === NO_SPAN ? this.span() : id
  }

  #take(bytes: number): number {
    if (this.#at + bytes > POOL_BYTES) {
      this.#fill(this.#pool)
      this.#at = 0
    }
    const at = this.#at
    this.#at += bytes
    return at
  }
}
