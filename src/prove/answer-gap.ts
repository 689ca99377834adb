/**
 * The longest time in which no fresh connection was served while one was being tried. The first byte of the answer
 * counts, not the handshake of TCP: the kernel completes that for a queue from which nobody accepts.
 * A try that failed goes on counting until the next one that is answered.
 */
import type { Phase } from '../config/prove-messages.ts'
import type { Clock } from '../primitives/clock.ts'
import type { Stage } from './ledger.ts'

export class AnswerGap {
  readonly longestMs: Record<Phase, number | null> = { before: null, during: null, after: null }
  readonly #clock: Clock
  readonly #stage: Stage
  #trying = 0
  /** Since when somebody waits; null: nobody does. */
  #sinceMs: number | null = null

  constructor(clock: Clock, stage: Stage) {
    this.#clock = clock
    this.#stage = stage
  }

  tried(): void {
    this.#trying++
    this.#sinceMs ??= this.#clock.exact()
  }

  /** Each try ends by one of these two. */
  answered(): void {
    this.#trying--
    this.#measure()
    this.#sinceMs = this.#trying > 0 ? this.#clock.exact() : null
  }

  failed(): void { this.#trying-- }

  /** Nothing follows; what still waits has waited until now. */
  finish(): void {
    this.#measure()
    this.#sinceMs = null
  }

  /** A wait counts for every phase that it reached into, and for the phase in which it ended. */
  #measure(): void {
    if (this.#sinceMs === null) return
    const ms = this.#clock.exact() - this.#sinceMs
    const { phase } = this.#stage
    this.longestMs[phase] = Math.max(this.longestMs[phase] ?? 0, ms)
  }

  /** Called when the phase changes: what waits across the border counts on both sides. */
  onPhase(): void { if (this.#trying > 0) this.#measure() }
}
