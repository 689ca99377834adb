/**
 * A clock that moves only when a test says so. `advance` runs every callback that falls due on the way, in the order
 * of their times, and each sees the time at which it was due.
 */
import type { Clock } from '../../src/primitives/clock.ts'

interface Due {
  /** 0: once. */
  readonly ms: number
  readonly run: () => void
  nextAt: number
}

export class FakeClock implements Clock {
  /** What the code under test leaves to chance; a test may put a sequence of its own here. */
  random: () => number = () => Math.random()
  #now: number
  readonly #wallOffset: number
  readonly #due = new Set<Due>()

  /** Starts away from 0, which deadlines use for "none". */
  constructor(startAt = 1_000_000, wallAt = Date.UTC(2026, 0, 1)) {
    this.#now = startAt
    this.#wallOffset = wallAt - startAt
  }

  now(): number { return this.#now }
  exact(): number { return this.#now }
  wall(): number { return this.#now + this.#wallOffset }

  every(ms: number, run: () => void): () => void {
    const entry: Due = { ms, run, nextAt: this.#now + ms }
    this.#due.add(entry)
    return () => { this.#due.delete(entry) }
  }

  after(ms: number, run: () => void): () => void {
    const entry: Due = { ms: 0, run, nextAt: this.#now + ms }
    this.#due.add(entry)
    return () => { this.#due.delete(entry) }
  }

  /** Callbacks that are still registered: 0 when everything that had deadlines is gone. */
  get pending(): number { return this.#due.size }

  /** The loop was held up: what fell due meanwhile runs once, all of it now. */
  jump(ms: number): void {
    this.#now += ms
    for (const entry of [...this.#due]) {
      if (entry.nextAt > this.#now) continue
      if (entry.ms === 0) this.#due.delete(entry)
      else entry.nextAt = this.#now + entry.ms
      entry.run()
    }
  }

  advance(ms: number): void {
    const until = this.#now + ms
    for (;;) {
      let due: Due | null = null
      for (const entry of this.#due) if (entry.nextAt <= until && (due === null || entry.nextAt < due.nextAt)) due = entry
      if (due === null) break
      this.#now = due.nextAt
      if (due.ms === 0) this.#due.delete(due)
      else due.nextAt += due.ms
      due.run()
    }
    this.#now = until
  }
}
