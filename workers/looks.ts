/**
 * Operators who look at what passes through this worker: lines of the access log, or records of whole requests. Each look has a
 * queue, which the supervisor empties by asking again and again; what finds no room in it is counted. While nobody looks, services
 * know nothing of all this.
 *
 *   (first question) ─▶ Looking ──all was told that was wanted, looked away, or not asked for LEASE_MS──▶ (forgotten)
 *
 * So a look ends by itself when the operator, the supervisor, or the connection between them is gone.
 * Invariants: a look has at most one question open; it holds at most MAX_QUEUED_CHARS; an answer fits a message.
 */
import type { Question } from '../src/ipc/channel.ts'
import { readLookOrder, type LookOrder, type Seen } from '../src/ipc/looking.ts'
import type { Clock } from '../src/primitives/clock.ts'
import type { ExchangeWatcher } from '../src/server/exchange-watcher.ts'
import type { HookCall, HookObserver } from '../src/proxy/watched-plan.ts'
import type { AccessLogSink } from '../src/telemetry/access-record.ts'
import { Matcher } from '../src/telemetry/request-match.ts'
import { ExchangeProbe } from './exchange-probe.ts'
import { TailTap } from './tail-tap.ts'

/** A question without an answer by then is answered with nothing, in ms. */
const HOLD_MS = 1_000
/** So long it waits for more, once there is something, in ms: fifty answers a second are as live as one a request. */
const GATHER_MS = 20
/** A look that is not asked again for so long is over, in ms. */
export const LEASE_MS = 5_000
/** Looks at a time. Each costs what an access log costs, or more. */
const MAX_LOOKS = 8
/** What waits to be asked for. */
const MAX_QUEUED = 4_000
const MAX_QUEUED_CHARS = 1_048_576
/** Of one answer. */
const MAX_ANSWER_CHARS = 262_144
/** What is around the entries of an answer, in characters. */
const ANSWER_FRAME = 256

export interface LooksHost {
  readonly clock: Pick<Clock, 'after'>
  /** Of this worker. */
  readonly worker: string
  readonly generation: number
  readonly maxMessageBytes: number
  /** The address of a client, as the access log would show it. */
  shownClient(address: string): string
  /** Null: nobody looks any more. */
  watch(watcher: ExchangeWatcher | null): void
}

export class Looks {
  readonly #host: LooksHost
  readonly #looks = new Map<string, Look>()

  constructor(host: LooksHost) { this.#host = host }

  get size(): number { return this.#looks.size }

  /** Begins a look, or goes on with it. */
  look(given: unknown, question: Question): void {
    const order = readLookOrder(given)
    if ('problem' in order) { question.refuse('refused', order.problem); return }
    const look = this.#looks.get(order.id) ?? this.#begin(order)
    if (look === null) question.refuse('refused', `${MAX_LOOKS} operators look at it already`)
    else look.ask(question)
  }

  lookAway(id: string): void { this.#looks.get(id)?.end() }

  /** The process is about to end. */
  close(): void { for (const look of this.#looks.values()) look.end() }

  #begin(order: LookOrder): Look | null {
    if (this.#looks.size >= MAX_LOOKS) return null
    const look = new Look(order, this.#host, () => {
      this.#looks.delete(order.id)
      this.#tellServices()
    })
    this.#looks.set(order.id, look)
    this.#tellServices()
    return look
  }

  #tellServices(): void {
    const looks = [...this.#looks.values()]
    const taps = looks.flatMap(({ tap }) => tap === null ? [] : [tap])
    const probes = looks.flatMap(({ probe }) => probe === null ? [] : [probe])
    this.#host.watch(looks.length === 0 ? null : {
      lines: taps.length === 0 ? null : sinkOf(taps),
      tracers: probes,
      hooks: probes.length === 0 ? null : observerOf(probes),
    })
  }
}

function sinkOf(taps: readonly TailTap[]): AccessLogSink {
  return {
    exchange(exchange, atMs) { for (const tap of taps) tap.exchange(exchange, atMs) },
    refused(...args) { for (const tap of taps) tap.refused(...args) },
  }
}

function observerOf(probes: readonly ExchangeProbe[]): HookObserver {
  return {
    hookBegins(hook, session) {
      const calls = probes.flatMap(probe => probe.hookBegins(hook, session) ?? [])
      return calls.length < 2 ? calls[0] ?? null : callsAsOne(calls)
    },
  }
}

function callsAsOne(calls: readonly HookCall[]): HookCall {
  return {
    gave(result, waited) { for (const call of calls) call.gave(result, waited) },
    threw(thrown, waited) { for (const call of calls) call.threw(thrown, waited) },
  }
}

/** One operator. */
class Look {
  readonly tap: TailTap | null
  readonly probe: ExchangeProbe | null
  readonly #clock: LooksHost['clock']
  readonly #maxChars: number
  readonly #onOver: () => void
  /** Requests that are still wanted; Infinity: all that come. */
  #wanted: number
  #entries: string[] = []
  /** As they are written into an answer. */
  #lengths: number[] = []
  #chars = 0
  #dropped = 0
  #question: Question | null = null
  #cancelAnswer: () => void = () => {}
  #cancelLease: () => void = () => {}
  #ended = false

  constructor({ kind, match, count }: LookOrder, host: LooksHost, onOver: () => void) {
    const matcher = new Matcher(match)
    this.#clock = host.clock
    this.#maxChars = Math.min(MAX_ANSWER_CHARS, host.maxMessageBytes - ANSWER_FRAME)
    this.#onOver = onOver
    this.#wanted = count === 0 ? Infinity : count
    this.tap = kind === 'tail' ? new TailTap(matcher, host, this) : null
    this.probe = kind === 'trace' ? new ExchangeProbe(matcher, host, this) : null
  }

  ask(question: Question): void {
    // One that is asked twice at a time was lost on its way, and asked again over another connection.
    this.#question?.ok(NOTHING)
    this.#question = question
    this.#cancelLease()
    if (this.#isEnough) this.#answer()
    else this.#answerIn(this.#entries.length === 0 ? HOLD_MS : GATHER_MS)
  }

  // ---- what taps and probes see

  /** Whether a further request is wanted, whatever becomes of it. */
  get wantsMore(): boolean { return this.#wanted > 0 }

  /** A request that is wanted has come to its end. @param entry makes its text, printable ASCII; not called when there is no room */
  offer(entry: () => string): void {
    if (this.#wanted <= 0) return
    if (this.#entries.length >= MAX_QUEUED || this.#chars >= MAX_QUEUED_CHARS) {
      this.#dropped++
      return
    }
    const text = entry(), length = JSON.stringify(text).length + 1
    if (length > this.#maxChars) {
      this.#dropped++
      return
    }
    this.#wanted--
    this.#entries.push(text)
    this.#lengths.push(length)
    this.#chars += length
    if (this.#question === null) return
    if (this.#isEnough) this.#answer()
    else if (this.#entries.length === 1) this.#answerIn(GATHER_MS)
  }

  /** One that may have been wanted could not be looked at. */
  missed(): void { this.#dropped++ }

  // ---- the end

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#wanted = 0
    this.#answer()
    this.#cancelAnswer()
    this.#cancelLease()
    this.#onOver()
  }

  // ---- answers

  /** An answer is as full as one may be, or nothing further comes. */
  get #isEnough(): boolean { return this.#chars >= this.#maxChars || this.#wanted <= 0 }

  #answerIn(ms: number): void {
    this.#cancelAnswer()
    this.#cancelAnswer = this.#clock.after(ms, () => this.#answer())
  }

  #answer(): void {
    const question = this.#question
    if (question === null) return
    this.#cancelAnswer()
    this.#question = null
    let count = 0, chars = 0
    while (count < this.#entries.length && chars + this.#lengths[count]! <= this.#maxChars) chars += this.#lengths[count++]!
    const entries = this.#entries.splice(0, count), dropped = this.#dropped
    this.#lengths.splice(0, count)
    this.#chars -= chars
    this.#dropped = 0
    const over = this.#wanted <= 0 && this.#entries.length === 0
    question.ok({ entries, dropped, over } satisfies Seen)
    if (over) this.end()
    else this.#cancelLease = this.#clock.after(LEASE_MS, () => this.end())
  }
}

const NOTHING: Seen = { entries: [], dropped: 0, over: false }
