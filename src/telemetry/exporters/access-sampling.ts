/**
 * Which lines of ordinary requests are written when only a share of them is. The others, which somebody may want to look at one by
 * one, always are: errors, faults of origins, flags, and what was slow.
 *
 * Each request moves a point around a circle, by the golden section of it, and is written when the point falls into the share. So
 * of any n in a row n times the share are written, give or take four (**measured**, up to 100,000 in a row), and no traffic that
 * repeats itself (every tenth request a health check, say) is seen more or less often than its share, as it would be if each tenth
 * request were taken. No chance is asked for, and it costs an addition.
 */
import type { LoggedExchange } from '../access-record.ts'

/** The whole circle, and the step: 2 to the power of 32, and that divided by the golden ratio. */
const CIRCLE = 2 ** 32
const GOLDEN_STEP = 0x9E3779B9
/** More digits of a weight are noise. */
const WEIGHT_DIGITS = 1e6

/** What of an exchange decides. */
export type SampledExchange = Pick<LoggedExchange, 'status' | 'upstreamStatus' | 'flag' | 'error' | 'durationMs'>

export class AccessSampling {
  readonly #share: number
  readonly #slowMs: number
  readonly #weight: number
  #point = 0

  /** @param share of the ordinary ones, 0 to 1. @param slowMs from then on a request is slow; 0: none is */
  constructor(share: number, slowMs: number) {
    this.#share = share * CIRCLE
    this.#slowMs = slowMs === 0 ? Infinity : slowMs
    this.#weight = share === 0 ? 0 : Math.round(WEIGHT_DIGITS / share) / WEIGHT_DIGITS
  }

  /** @returns how many requests the line stands for; 0: it is not written */
  weigh({ status, upstreamStatus, flag, error, durationMs }: SampledExchange): number {
    if (status >= 500 || upstreamStatus >= 500 || flag !== '-' || error !== null || durationMs >= this.#slowMs) return 1
    this.#point = (this.#point + GOLDEN_STEP) >>> 0
    return this.#point < this.#share ? this.#weight : 0
  }
}
