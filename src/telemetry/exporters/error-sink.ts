/**
 * Where events of errors go, whoever takes them: plain data in, and what became of it. Types only; sentry-sink.ts is one.
 */

/** Something that somebody has to look at, as it is sent. */
export interface ErrorEvent {
  readonly level: 'fatal' | 'error'
  /** Class of the error, and what it says. */
  readonly name: string
  readonly message: string
  /** Lines of a stack (src/ipc/fault-report.ts); ''. */
  readonly stack: string
  /** Events with the same one are one issue. */
  readonly fingerprint: readonly string[]
  /** Whether the process survived it. */
  readonly handled: boolean
  readonly tags: Readonly<Record<string, string>>
  /** What else is known, such as how many of its kind no event was made of. */
  readonly extra: Readonly<Record<string, string | number>>
  readonly release: string
  /** Of the trace that it belongs to; '' for none. */
  readonly traceId: string
  readonly spanId: string
  /** In ms since 1970. */
  readonly atMs: number
}

export interface ErrorSinkOptions {
  /** A secret. */
  readonly dsn: string
  readonly environment: string
  /** Of us. */
  readonly version: string
  /** An answer came, or will not. @param problem why an event did not get through, without anything secret; '' when it was taken */
  readonly onAnswer: (problem: string) => void
}

/** What became of the events so far. */
export interface ErrorSinkCounts {
  /** Answered with 2xx. That it is shown to somebody is more than an answer says. */
  readonly accepted: number
  /** Answered otherwise, or not at all. */
  readonly failed: number
  /** Not sent: too many waited, or the other side wanted none. */
  readonly dropped: number
}

export interface ErrorSink {
  readonly counts: ErrorSinkCounts
  /** Never throws and never waits: what is too much is dropped. */
  send(event: ErrorEvent): void
  /** Resolves when all that was sent has its answer, or after `timeoutMs`. Never rejects. */
  flush(timeoutMs: number): Promise<void>
  /** What waits still is given up. */
  close(): void
}
