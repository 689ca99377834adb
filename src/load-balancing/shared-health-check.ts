/**
 * One probe for many balancers: a backend that stands in several of them is probed once, and all learn of the outcome.
 *
 *   const check = new SharedHealthCheck(new HttpHealthCheck({ path: '/health' }))
 *   const api = LoadBalancer.from(API, { healthCheck: check }), web = LoadBalancer.from(WEB, { healthCheck: check })
 *
 * Backends are the same when their addresses are, and those that they were resolved from: a probe may ask for either. An outcome
 * is good for whoever asks within `intervalMs` of the probe's start, less a fifth, so that each round of a balancer has an outcome
 * of its own. Balancers count outcomes for themselves.
 *
 * Invariants: for each backend one probe at most is under way. It ends when nobody waits for it any more. What is remembered was
 * begun within the last two intervals.
 */
import { systemClock, type Clock } from '../primitives/clock.ts'
import type { Backend } from './backend.ts'
import type { HealthCheck, ResolvedHealthCheckOptions } from './health-check.ts'

/** Rounds begin up to a tenth of their interval early. */
const SHARED_PART = 0.8

/** One probe for many balancers: a backend that stands in several of them is probed once, and all learn of the outcome. */
export class SharedHealthCheck implements HealthCheck {
  /** Those of the check. */
  readonly options: ResolvedHealthCheckOptions
  readonly #check: HealthCheck
  readonly #clock: Clock
  readonly #probes = new Map<string, SharedProbe>()
  #sweepAt = 0

  /** @param check asks the backends; its options are those of all balancers */
  constructor(check: HealthCheck, clock: Clock = systemClock) {
    this.options = check.options
    this.#check = check
    this.#clock = clock
  }

  /** As `HealthCheck` has it. */
  probe(backend: Backend, signal: AbortSignal): Promise<void | boolean> {
    const now = this.#clock.exact(), { intervalMs } = this.options, key = `${backend.name} ${backend.origin}`
    if (now >= this.#sweepAt) this.#sweep(now)
    let probe = this.#probes.get(key)
    if (probe === undefined || probe.abandoned || now - probe.startedAt >= intervalMs * SHARED_PART) {
      probe = new SharedProbe(now, this.#check, backend)
      this.#probes.set(key, probe)
    }
    return probe.wait(signal)
  }

  /** Closes what the check keeps between probes; other balancers may go on with it. */
  close(): void { this.#check.close?.() }

  #sweep(now: number): void {
    const { intervalMs } = this.options
    this.#sweepAt = now + intervalMs
    for (const [key, { startedAt }] of this.#probes) if (now - startedAt >= 2 * intervalMs) this.#probes.delete(key)
  }
}

class SharedProbe {
  readonly startedAt: number
  readonly #ending = new AbortController()
  readonly #outcome: Promise<void | boolean>
  #waiting = 0

  constructor(startedAt: number, check: HealthCheck, backend: Backend) {
    this.startedAt = startedAt
    this.#outcome = (async () => check.probe(backend, this.#ending.signal))()
    // Each of those who wait hears of it; with nobody left it is of no interest.
    this.#outcome.catch(() => {})
  }

  /** Everybody left before there was an outcome. */
  get abandoned(): boolean { return this.#ending.signal.aborted }

  async wait(signal: AbortSignal): Promise<void | boolean> {
    const leave = (): void => { if (--this.#waiting === 0) this.#ending.abort(signal.reason) }
    this.#waiting++
    signal.addEventListener('abort', leave, { once: true })
    try { return await this.#outcome } finally { signal.removeEventListener('abort', leave) }
  }
}
