/**
 * What has gone wrong in this server so that somebody must mend it, told to wherever it is configured to be told (Sentry): what
 * becomes an event, what is only counted, and the life of whatever takes the events.
 *
 *   Off --configure, with a DSN--> Idle --begin, or the first incident--> Opening --> Open
 *    ^                              ^                                        |          |
 *    +------ configure, without ----+-------- configure, with another -------+----------+
 *                                                                            +--> Broken: it could not be loaded
 *
 * An incident becomes an event when its fingerprint (kind, name, place) has had none for `repeatAfterMs`, and all together have
 * not used up `maxEventsPerMinute`; otherwise it is counted, and the next event of the fingerprint tells how often.
 * Invariants: nothing here throws, and nothing waits but `flush`; what is remembered is bounded, whatever workers say; nothing is
 * loaded without a DSN.
 * Leaves to others: what a death is (worker-incidents.ts), what a worker says of a fault (src/ipc/fault-report.ts), and how an
 * event travels (src/telemetry/exporters/sentry-sink.ts).
 */
import path from 'node:path'
import { isRelease, SENTRY_DEFAULTS, type ResolvedSentryOptions } from '../src/config/sentry-options.ts'
import { harmless, type FaultKind } from '../src/ipc/fault-report.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { Lru } from '../src/primitives/lru.ts'
import type { ErrorEvent, ErrorSink, ErrorSinkCounts, ErrorSinkOptions } from '../src/telemetry/exporters/error-sink.ts'
import type { ProcessHost } from './process-host.ts'

/** `worker`: one died. `operation`: an upgrade, a reload or a roll-back was taken back. The others are told by workers. */
export type IncidentKind = FaultKind | 'worker' | 'operation'

/** Something that somebody has to mend. */
export interface Incident {
  readonly kind: IncidentKind
  /** Class of the error, or what happened in a word. */
  readonly name: string
  readonly message: string
  /** ''. */
  readonly stack: string
  /** Hook, how a worker ended, or the kind of operation; ''. */
  readonly place: string
  /** A worker ended of it. */
  readonly fatal: boolean
  /** It has happened so often since it was told last. */
  readonly count: number
  /** It was told before, and only counts. */
  readonly again: boolean
  readonly tags: Readonly<Record<string, string>>
  /** Folder of the release that it happened in. */
  readonly release: string
  readonly traceId: string
  readonly spanId: string
}

/** Totals of this process. */
export interface ErrorReportsCounts extends ErrorSinkCounts {
  /** Incidents that were made an event of, which was handed over to be sent. */
  readonly events: number
  /** Incidents that were only counted: one of their kind was told, or there were many. */
  readonly suppressed: number
}

/** The part of `status`. Nothing of it tells where events go. */
export interface ErrorReportsStatus extends ErrorReportsCounts {
  /** `idle`: nothing was loaded yet. `broken`: it cannot be, `problem` says why. */
  readonly state: (typeof STATE_NAMES)[ReportsState]
  /** Why the last event did not get through; ''. */
  readonly problem: string
}

const ReportsState = { Off: 0, Idle: 1, Opening: 2, Open: 3, Broken: 4 } as const
type ReportsState = (typeof ReportsState)[keyof typeof ReportsState]
const STATE_NAMES = ['off', 'idle', 'opening', 'open', 'broken'] as const

/** Fingerprints that are told apart; the one that has not been used for longest goes first. */
const MAX_FINGERPRINTS = 128
/** Events that wait for the sink to be loaded. */
const MAX_WAITING = 32
const MINUTE_MS = 60_000

const NO_COUNTS: ErrorSinkCounts = { accepted: 0, failed: 0, dropped: 0 }

interface Fingerprint {
  sentAtMs: number
  /** Since then. */
  suppressed: number
}

/** What it touches of the world. */
export interface ReportsWorld {
  readonly host: Pick<ProcessHost, 'nowMs' | 'after'>
  readonly own: { readonly version: string }
  /** In ms since 1970. */
  wallMs(): number
  /** Loads what takes events. Rejects when it is not installed. */
  openErrorSink(options: ErrorSinkOptions): Promise<ErrorSink>
}

/** Keeps totals over the end of this process. */
export interface SuppressedCounter { count(name: 'cirque_sentry_suppressed_total', labelValues: readonly string[], times: number): void }

export class ErrorReports {
  readonly #world: ReportsWorld
  readonly #log: ProcessLog
  readonly #ledger: SuppressedCounter
  #state: ReportsState = ReportsState.Off
  #options: ResolvedSentryOptions = SENTRY_DEFAULTS
  #sink: ErrorSink | null = null
  /** Goes up when what was opened, or is being opened, is wanted no more. */
  #era = 0
  #events = 0
  #suppressed = 0
  /** Of sinks that were there before, and of events that never came to one. */
  #past: ErrorSinkCounts = NO_COUNTS
  /** Handed to the sink of now. */
  #handedOver = 0
  /** Resolves when the sink that is being opened is there, or will not be. */
  #opened: Promise<void> = Promise.resolve()
  readonly #waiting: ErrorEvent[] = []
  readonly #fingerprints = new Lru<string, Fingerprint>(MAX_FINGERPRINTS)
  /** Events that may be made at once, and since when it is so many. */
  #tokens = 0
  #tokensAtMs = 0
  #problem = ''

  constructor(world: ReportsWorld, log: ProcessLog, ledger: SuppressedCounter) {
    this.#world = world
    this.#log = log
    this.#ledger = ledger
  }

  /** At the start, and whenever other options are in force. Loads nothing. */
  configure(options: ResolvedSentryOptions): void {
    const before = this.#options
    this.#options = options
    this.#tokens = options.maxEventsPerMinute
    this.#tokensAtMs = this.#world.host.nowMs()
    if (options.dsn === before.dsn && options.environment === before.environment && this.#state !== ReportsState.Broken) return
    this.#closeSink()
    this.#problem = ''
    this.#state = options.dsn === '' ? ReportsState.Off : ReportsState.Idle
  }

  /** Loads what takes events, so that it is there when something happens; the caller has time for it. */
  begin(): void {
    if (this.#state !== ReportsState.Idle) return
    this.#state = ReportsState.Opening
    this.#opened = this.#open(this.#options)
  }

  async #open({ dsn, environment }: ResolvedSentryOptions): Promise<void> {
    const era = this.#era
    const onAnswer = (problem: string): void => { if (era === this.#era) this.#onAnswer(problem) }
    try {
      const sink = await this.#world.openErrorSink({ dsn, environment, version: this.#world.own.version, onAnswer })
      if (era !== this.#era) { sink.close(); return }
      this.#sink = sink
      this.#state = ReportsState.Open
      for (const event of this.#waiting.splice(0)) this.#handOver(sink, event)
    } catch (error) {
      if (era !== this.#era) return
      this.#state = ReportsState.Broken
      this.#problem = error instanceof Error ? error.message : String(error)
      this.#drop(this.#waiting.splice(0).length)
      this.#log.error('errors are not reported: what sends them cannot be loaded', { error })
    }
  }

  /** Nobody waits for it, and nothing comes back. */
  report(incident: Incident): void {
    if (this.#state === ReportsState.Off) return
    const { kind, name, place, count, again } = incident
    const key = `${kind}\0${name}\0${place}`
    const nowMs = this.#world.host.nowMs()
    const known = this.#fingerprints.get(key) ?? { sentAtMs: Number.NEGATIVE_INFINITY, suppressed: 0 }
    this.#fingerprints.set(key, known)
    if (again || nowMs - known.sentAtMs < this.#options.repeatAfterMs || !this.#takeToken(nowMs)) {
      known.suppressed += count
      this.#suppress(count)
      return
    }
    const { suppressed } = known
    known.sentAtMs = nowMs
    known.suppressed = 0
    // Those that the worker has counted and this event stands for.
    this.#suppress(count - 1)
    this.#events++
    this.#send(this.#eventOf(incident, suppressed + count - 1))
  }

  #suppress(count: number): void {
    this.#suppressed += count
    if (count > 0) this.#ledger.count('cirque_sentry_suppressed_total', [], count)
  }

  #takeToken(nowMs: number): boolean {
    const { maxEventsPerMinute } = this.#options
    const gained = (nowMs - this.#tokensAtMs) * maxEventsPerMinute / MINUTE_MS
    this.#tokens = Math.min(maxEventsPerMinute, this.#tokens + gained)
    this.#tokensAtMs = nowMs
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }

  #send(event: ErrorEvent): void {
    if (this.#sink !== null) { this.#handOver(this.#sink, event); return }
    if (this.#state === ReportsState.Broken || this.#waiting.length >= MAX_WAITING) this.#drop(1)
    else this.#waiting.push(event)
    this.begin()
  }

  #handOver(sink: ErrorSink, event: ErrorEvent): void {
    this.#handedOver++
    sink.send(event)
  }

  #drop(events: number): void { this.#past = { ...this.#past, dropped: this.#past.dropped + events } }

  #eventOf(incident: Incident, suppressed: number): ErrorEvent {
    const { kind, name, message, stack, place, fatal, tags, release, traceId, spanId } = incident
    const given = this.#options.release, folder = path.basename(release)
    return {
      level: fatal ? 'fatal' : 'error', handled: !fatal, name, message: harmless(message), stack, traceId, spanId,
      fingerprint: [kind, name, place], tags: { kind, ...tags }, extra: suppressed === 0 ? {} : { suppressed },
      release: given === '' && isRelease(folder) ? folder : given, atMs: this.#world.wallMs(),
    }
  }

  /** The log is told when it begins, and when it is over. */
  #onAnswer(problem: string): void {
    if (problem === this.#problem) return
    if (problem !== '' && this.#problem === '') this.#log.warn('error reports do not get through', { reason: problem })
    if (problem === '') this.#log.info('error reports get through again')
    this.#problem = problem
  }

  /** Waits for answers to what was reported, at most as long as is configured. Never rejects. */
  async flush(): Promise<void> {
    const { flushTimeoutMs } = this.#options
    if (flushTimeoutMs === 0 || this.#allAnswered) return
    const late = Promise.withResolvers<void>()
    const cancel = this.#world.host.after(flushTimeoutMs, () => late.resolve())
    await Promise.race([this.#opened.then(() => this.#sink?.flush(flushTimeoutMs)), late.promise])
    cancel()
  }

  get #allAnswered(): boolean {
    if (this.#sink === null) return this.#waiting.length === 0
    const { accepted, failed, dropped } = this.#sink.counts
    return this.#handedOver <= accepted + failed + dropped
  }

  /** The end: what waits is told as far as there is time. @param forced there is none */
  async close(forced: boolean): Promise<void> {
    if (!forced) await this.flush()
    this.#closeSink()
    this.#state = ReportsState.Off
  }

  #closeSink(): void {
    const { accepted, failed, dropped } = this.#sink?.counts ?? NO_COUNTS
    const unanswered = Math.max(0, this.#handedOver - accepted - failed - dropped)
    const all = this.#sinkCounts
    this.#past = { ...all, failed: all.failed + unanswered }
    this.#drop(this.#waiting.splice(0).length)
    this.#handedOver = 0
    this.#sink?.close()
    this.#sink = null
    this.#era++
  }

  get #sinkCounts(): ErrorSinkCounts {
    const [before, now] = [this.#past, this.#sink?.counts ?? NO_COUNTS]
    return {
      accepted: before.accepted + now.accepted, failed: before.failed + now.failed, dropped: before.dropped + now.dropped,
    }
  }

  get counts(): ErrorReportsCounts { return { events: this.#events, suppressed: this.#suppressed, ...this.#sinkCounts } }

  /** Null: nothing is configured. */
  status(): ErrorReportsStatus | null {
    if (this.#state === ReportsState.Off) return null
    return { state: STATE_NAMES[this.#state], ...this.counts, problem: this.#problem }
  }
}
