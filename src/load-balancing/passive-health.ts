/**
 * Passive health: what the outcome of attempts says about backends, nginx's max_fails and fail_timeout.
 *
 *   in --maxFails failures within failTimeoutMs--> out --failTimeoutMs over, chosen once--> on trial --success--> in
 *                                                   ^                                          |
 *                                                   +---- a failure, or no report in time -----+
 *
 * Invariants:
 * - A backend that is out is enabled and healthy: whatever else keeps a backend from being used wipes the record of its
 *   attempts (`forget`).
 * - Those that are out are kept in the order in which they may be tried, as each is put behind all others.
 *
 * Writes `outUntilMs`, `onTrial` and the ring of failure times of a Backend. Whether it is ready follows from these and
 * is worked out by the balancer, which also tells watchers.
 */
import type { Clock } from '../primitives/clock.ts'
import type { Backend } from './backend.ts'
import type { Turn } from './selection.ts'

/** Backends due for a trial that one choice without a key looks at. */
const TRIALS_LOOKED_AT = 8

export interface PassiveHealthOptions {
  readonly maxFails: number
  readonly failTimeoutMs: number
  readonly clock: Clock
}

export class PassiveHealth {
  readonly #maxFails: number
  readonly #failTimeoutMs: number
  readonly #clock: Clock
  /** Backends of the set that are out, those that may be tried first in front. */
  readonly #out = new Set<Backend>()
  /** When the first of them may be tried. */
  #nextTrialMs = Infinity

  constructor({ maxFails, failTimeoutMs, clock }: PassiveHealthOptions) {
    this.#maxFails = maxFails
    this.#failTimeoutMs = failTimeoutMs
    this.#clock = clock
  }

  /** How many are out. */
  get size(): number { return this.#out.size }
  /** Those that are out. `forget` may be called for each while they are walked. */
  get out(): Iterable<Backend> { return this.#out }

  /** One that is out, may be tried at `turn.nowMs` and is accepted; null when there is none. */
  dueForTrial(turn: Turn): Backend | null {
    if (turn.nowMs < this.#nextTrialMs) return null
    const steps = turn.stepsLeft
    turn.stepsLeft = Math.min(steps, TRIALS_LOOKED_AT)
    for (const backend of this.#out) {
      if (turn.nowMs < backend.outUntilMs || turn.over) break
      if (turn.accepts(backend)) return backend
    }
    // Looking for one to try takes nothing from looking for one that is well.
    turn.stepsLeft = steps
    return null
  }

  /** The first of those that are out that is accepted, due or not; null when none is. */
  anyOut(turn: Turn): Backend | null {
    for (const backend of this.#out) if (turn.accepts(backend)) return backend
    return null
  }

  /**
   * A backend that is out was chosen for one attempt: no other tries it until that one is reported, or for as long again
   * when it never is.
   */
  beginTrial(backend: Backend): void {
    this.#keepOut(backend, this.#clock.exact())
    backend.onTrial = true
  }

  /** Notes a failed attempt. @returns whether the backend is out from now on, or still */
  failed(backend: Backend): boolean {
    if (this.#maxFails === 0 || !backend.enabled || !backend.healthy) return false
    const nowMs = this.#clock.exact()
    if (backend.outUntilMs === 0 && this.#maxFails > 1 && !this.#failedTooOften(backend, nowMs)) return false
    this.#keepOut(backend, nowMs)
    return true
  }

  /** As if the backend had never failed. */
  forget(backend: Backend): void {
    backend.outUntilMs = 0
    backend.onTrial = false
    backend.failureTimes?.fill(-Infinity)
    this.drop(backend)
  }

  /** The backend has left the set: no attempt goes there any more. */
  drop(backend: Backend): void {
    this.#out.delete(backend)
    this.#findNextTrial()
  }

  #keepOut(backend: Backend, nowMs: number): void {
    backend.onTrial = false
    backend.outUntilMs = nowMs + this.#failTimeoutMs
    // Behind all others, whose time comes sooner.
    this.#out.delete(backend)
    this.#out.add(backend)
    this.#findNextTrial()
  }

  /** Notes a failure; whether the last `maxFails` of them lie within failTimeoutMs. */
  #failedTooOften(backend: Backend, nowMs: number): boolean {
    const times = backend.failureTimes ??= new Float64Array(this.#maxFails).fill(-Infinity)
    times[backend.failureIndex] = nowMs
    backend.failureIndex = backend.failureIndex + 1 === this.#maxFails ? 0 : backend.failureIndex + 1
    return nowMs - times[backend.failureIndex]! <= this.#failTimeoutMs
  }

  #findNextTrial(): void {
    this.#nextTrialMs = Infinity
    for (const backend of this.#out) {
      this.#nextTrialMs = backend.outUntilMs
      return
    }
  }
}
