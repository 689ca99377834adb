/**
 * Arrivals by a fixed schedule: number i is due at start + i / rate, whatever became of those before it. A timer that
 * fires late makes several due at once, each with its own time, so a stall is paid for by every one of them.
 */
import type { Clock } from '../primitives/clock.ts'

export class OpenLoop {
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #onDue: (dueAtMs: number) => void
  #startMs = 0
  #next = 0
  #running = false
  #cancel: (() => void) | null = null

  constructor(clock: Clock, ratePerSecond: number, onDue: (dueAtMs: number) => void) {
    this.#clock = clock
    this.#intervalMs = 1000 / ratePerSecond
    this.#onDue = onDue
  }

  start(): void {
    this.#startMs = this.#clock.exact()
    this.#running = true
    this.#wait()
  }

  stop(): void {
    this.#running = false
    this.#cancel?.()
  }

  #wait(): void {
    this.#cancel = this.#clock.after(Math.max(0, this.#dueAt(this.#next) - this.#clock.exact()), () => {
      const now = this.#clock.exact()
      while (this.#running && this.#dueAt(this.#next) <= now) this.#onDue(this.#dueAt(this.#next++))
      if (this.#running) this.#wait()
    })
  }

  #dueAt(index: number): number { return this.#startMs + index * this.#intervalMs }
}
