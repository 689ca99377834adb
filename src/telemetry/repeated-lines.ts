/**
 * Lines of the process log that traffic brings about: a failed dial, a client turned away, a hook that throws. However often it
 * happens, there is one line a period for each message and subject, with a count of those that were left out:
 *
 *   error: no connection to a peer peer=10.0.0.1:80 error=ECONNREFUSED
 *   error: no connection to a peer peer=10.0.0.1:80 error=ECONNREFUSED suppressed=4117        at least a period later
 *
 * Invariants: the first line comes at once; none is lost without being counted in a later one, at the end of the period after
 * at the latest; what is remembered is bounded, whoever makes up the subjects; a line that is left out costs one look-up.
 */
import type { LogFields, ProcessLog } from '../ipc/process-log.ts'
import { systemClock, type Clock } from '../primitives/clock.ts'

/** At least this long lies between two lines of one message and subject, in ms. A second: a person can follow that. */
export const LINE_PERIOD_MS = 1000

/** What a line is about, such as `{ peer: '10.0.0.1:80' }`: each has lines of its own. They may come from outside. */
export type LineSubject = Readonly<Record<string, string>>

/** Pairs of message and subject that are told apart. Further subjects share a line of their message, which names none. */
const MAX_SUBJECTS = 64

type Level = keyof ProcessLog

interface Repeated {
  readonly level: Level
  readonly message: string
  readonly subject: LineSubject
  saidAt: number
  /** Left out since. */
  suppressed: number
}

const NO_SUBJECT: LineSubject = {}

/** What of a clock is asked for. */
export type LineClock = Pick<Clock, 'exact' | 'every'>

export class RepeatedLines {
  readonly #log: ProcessLog
  readonly #periodMs: number
  readonly #clock: LineClock
  readonly #lines = new Map<string, Repeated>()
  #stop: (() => void) | null = null

  /** @param periodMs for what needs to be said less often */
  constructor(log: ProcessLog, clock: LineClock = systemClock, periodMs: number = LINE_PERIOD_MS) {
    this.#log = log
    this.#periodMs = periodMs
    this.#clock = clock
  }

  /** Whether anybody reads `debug` now: it changes while the process runs, and costs a look. */
  get wantsDebug(): boolean { return (this.#log.debug ?? null) !== null }

  /** Nothing at all while nobody wants it. @param details as below */
  debug(message: string, subject: LineSubject, details?: () => LogFields): void {
    if (this.wantsDebug) this.#say('debug', message, subject, details)
  }
  /** @param details what else is to be told; asked only when the line is written. It must not throw */
  info(message: string, subject: LineSubject, details?: () => LogFields): void { this.#say('info', message, subject, details) }
  warn(message: string, subject: LineSubject, details?: () => LogFields): void { this.#say('warn', message, subject, details) }
  error(message: string, subject: LineSubject, details?: () => LogFields): void { this.#say('error', message, subject, details) }

  #say(level: Level, message: string, subject: LineSubject, details: (() => LogFields) | undefined): void {
    let named = subject
    let key = keyOf(message, subject)
    let line = this.#lines.get(key)
    if (line === undefined && this.#lines.size >= MAX_SUBJECTS) {
      named = NO_SUBJECT
      key = message
      line = this.#lines.get(key)
    }
    const now = this.#clock.exact()
    if (line !== undefined && now - line.saidAt < this.#periodMs) {
      line.suppressed++
      return
    }
    const suppressed = line === undefined || line.suppressed === 0 ? undefined : line.suppressed
    if (line === undefined) this.#lines.set(key, line = { level, message, subject: named, saidAt: now, suppressed: 0 })
    line.saidAt = now
    line.suppressed = 0
    this.#stop ??= this.#clock.every(this.#periodMs, () => this.#sweep())
    this.#log[level]?.(message, { ...line.subject, ...details?.(), suppressed })
  }

  /** Counts that no line of the period behind has told are told now, and what has not happened meanwhile is forgotten. */
  #sweep(): void {
    const now = this.#clock.exact()
    for (const [key, line] of this.#lines) {
      const { level, message, subject, suppressed } = line
      if (now - line.saidAt < 2 * this.#periodMs) continue
      if (suppressed === 0) {
        this.#lines.delete(key)
        continue
      }
      line.saidAt = now
      line.suppressed = 0
      this.#log[level]?.(message, { ...subject, suppressed })
    }
    if (this.#lines.size === 0) this.close()
  }

  /** Tells what was left out so far, and forgets it all. It may be used again. */
  close(): void {
    this.#stop?.()
    this.#stop = null
    for (const { level, message, subject, suppressed } of this.#lines.values()) {
      if (suppressed > 0) this.#log[level]?.(message, { ...subject, suppressed })
    }
    this.#lines.clear()
  }
}

function keyOf(message: string, subject: LineSubject): string {
  let key = message
  for (const name in subject) key += `\0${subject[name]!}`
  return key
}
