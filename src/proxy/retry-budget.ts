/**
 * Keeps retries from multiplying an outage: they may be at most a share of recent requests, with a few free ones so that
 * a quiet service can retry at all. A share of nothing allows none.
 */

/** Retries that are there besides the share. */
const FREE = 10

/** Requests after which the past counts half. */
const MEMORY = 10_000

export class RetryBudget {
  #requests = 0
  #spent = 0

  /** A request began. */
  earn(): void {
    if (++this.#requests < MEMORY) return
    // Forget slowly: what counts is the recent share.
    this.#requests /= 2
    this.#spent /= 2
  }

  /** Whether one more retry is within `percent` of the requests; takes it if so. */
  take(percent: number): boolean {
    if (percent === 0) return false
    const allowed = FREE + this.#requests * percent / 100
    if (this.#spent >= allowed) return false
    this.#spent++
    return true
  }
}

/** First retry at once, then 25 ms doubling up to 250, with jitter of a quarter. @param random from 0 to 1 */
export function retryDelayMs(attempt: number, random: number): number {
  if (attempt <= 1) return 0
  return Math.min(250, 25 * 2 ** (attempt - 2)) * (0.75 + random * 0.5)
}
