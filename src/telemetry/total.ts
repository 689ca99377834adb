import type { Counter, Gauge } from './metrics.ts'

/** A total that somebody else counts: what it has grown by is added. A gauge is what it is. */
export class Total {
  readonly #series: Counter | Gauge
  #last = 0

  constructor(series: Counter | Gauge) { this.#series = series }

  set(value: number): void {
    // Also down, where it is a gauge.
    if ('set' in this.#series) this.#series.set(value)
    else this.#series.inc(value - this.#last)
    this.#last = value
  }
}
