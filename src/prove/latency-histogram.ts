/** Durations in buckets that grow by 2 %: any number of them in fixed memory, percentiles right within 2 %. */

const LEAST_MS = 0.01
const GROWTH = Math.log(1.02)
/** Up to some 1.5 hours. */
const BUCKETS = 1024

export class LatencyHistogram {
  #count = 0
  readonly #buckets = new Uint32Array(BUCKETS)

  add(ms: number): void {
    const bucket = Math.ceil(Math.log(Math.max(ms, LEAST_MS) / LEAST_MS) / GROWTH)
    this.#buckets[Math.min(bucket, BUCKETS - 1)]!++
    this.#count++
  }

  /** The upper edge of the bucket that holds it; null when nothing was added. */
  percentile(share: number): number | null {
    if (this.#count === 0) return null
    const rank = Math.max(1, Math.ceil(share * this.#count))
    let seen = 0
    let bucket = 0
    while (seen + this.#buckets[bucket]! < rank) seen += this.#buckets[bucket++]!
    return LEAST_MS * Math.exp(bucket * GROWTH)
  }
}
