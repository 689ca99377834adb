/**
 * The arrival times of an open-loop load: request i is due at start + i / rate, whatever became of the requests before it.
 * Nothing is queued but an index: what is due and not yet sent is exactly `due(now) - sent`.
 */

export class OpenLoopSchedule {
  readonly startMs: number
  readonly intervalMs: number
  readonly total: number
  sent = 0

  constructor(startMs: number, ratePerSecond: number, seconds: number) {
    this.startMs = startMs
    this.intervalMs = 1000 / ratePerSecond
    this.total = Math.max(1, Math.floor(ratePerSecond * seconds))
  }

  /** When request `index` should leave. */
  dueAt(index: number): number { return this.startMs + index * this.intervalMs }

  isDue(nowMs: number): boolean { return this.sent < this.total && this.dueAt(this.sent) <= nowMs }

  /** Marks the next one as sent. @returns its index. */
  take(): number { return this.sent++ }
}
