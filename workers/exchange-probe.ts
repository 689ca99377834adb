/**
 * Records requests with the times of their phases, for an operator who has asked for the next few of a kind: what tracers are told
 * (telemetry/tracer.ts), and how long each hook took (proxy/watched-plan.ts). Nothing is recorded of requests that began before.
 *
 *   exchangeStarted, wanted by what it asks for ──▶ recording ──exchangeEnded, wanted by how it ended──▶ offered
 *
 * It is handed over a microtask behind the end, so that what `logging` does at once is in it.
 * Bounded: MAX_RECORDINGS at a time, beyond which requests are counted as missed, and MAX_HOOKS and MAX_ATTEMPTS rows of each.
 */
import { placeIn } from '../src/errors/code-frame.ts'
import { describeError } from '../src/errors/describe-error.ts'
import type { ProxyError } from '../src/errors/proxy-error.ts'
import type { TracedAttempt, TracedError, TracedHook, TraceRecord } from '../src/ipc/looking.ts'
import { asciiJson } from '../src/primitives/ascii-json.ts'
import type { HookCall, HookObserver } from '../src/proxy/watched-plan.ts'
import type { Session } from '../src/proxy/session.ts'
import { urlWithoutSecrets } from '../src/telemetry/exporters/query-secrets.ts'
import type { Matcher } from '../src/telemetry/request-match.ts'
import type {
  AttemptConnected, AttemptEnded, AttemptResponded, AttemptStarted, ExchangeEnded, ExchangeRetried, ExchangeStarted, Tracer,
} from '../src/telemetry/tracer.ts'
import type { LookQueue, TappedWorker } from './tail-tap.ts'

const MAX_RECORDINGS = 100
const MAX_HOOKS = 64
const MAX_ATTEMPTS = 16
/** Longest text of a record. */
const MAX_TEXT_LENGTH = 1024

/** While it is recorded. */
type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

interface HookRow extends Mutable<TracedHook> {
  /** Calls that gave a promise which has not settled. */
  pending: number
  /** Attempts that had begun by the first call. */
  behind: number
}

interface Recording {
  readonly started: ExchangeStarted
  readonly method: string
  readonly target: string
  readonly host: string
  readonly hooks: HookRow[]
  hooksLeftOut: number
  readonly attempts: Mutable<TracedAttempt>[]
}

export class ExchangeProbe implements Tracer, HookObserver {
  readonly #matcher: Matcher
  readonly #of: TappedWorker
  readonly #queue: LookQueue
  readonly #recordings = new Map<number, Recording>()
  /** The same by what hooks have in hand: an exchange has one head for its whole life. */
  readonly #byRequest = new WeakMap<object, Recording>()

  constructor(matcher: Matcher, of: TappedWorker, queue: LookQueue) {
    this.#matcher = matcher
    this.#of = of
    this.#queue = queue
  }

  // ---- what tracers are told

  exchangeStarted(event: ExchangeStarted): void {
    const { request, listener, exchangeId } = event
    if (!this.#queue.wantsMore || !this.#matcher.listensOn(listener) || !this.#matcher.asks(request)) return
    if (this.#recordings.size >= MAX_RECORDINGS) {
      this.#queue.missed()
      return
    }
    const recording: Recording = {
      started: event, method: request.method, target: request.target, host: request.authority, hooks: [], hooksLeftOut: 0, attempts: [],
    }
    this.#recordings.set(exchangeId, recording)
    this.#byRequest.set(request, recording)
  }

  attemptStarted({ exchangeId, attempt, peer, startedAt }: AttemptStarted): void {
    const recording = this.#recordings.get(exchangeId)
    if (recording === undefined || recording.attempts.length >= MAX_ATTEMPTS) return
    recording.attempts.push({
      number: attempt, peer: cut(peer), startedMs: startedAt - recording.started.startedAt, connectedMs: null, reused: false, protocol: '',
      sentMs: null, firstByteMs: null, endedMs: 0, status: 0, bytesSent: 0, bytesReceived: 0, error: null, retriedAfterMs: null,
    })
  }

  attemptConnected(event: AttemptConnected): void {
    const attempt = this.#attemptOf(event)
    if (attempt !== null) attempt.protocol = event.protocol
  }

  attemptResponded(event: AttemptResponded): void {
    const attempt = this.#attemptOf(event)
    if (attempt !== null) attempt.status = event.status
  }

  attemptEnded(event: AttemptEnded): void {
    const attempt = this.#attemptOf(event)
    if (attempt === null) return
    const { startedAt } = this.#recordings.get(event.exchangeId)!.started
    const since = (at: number): number | null => at === 0 ? null : at - startedAt
    attempt.connectedMs = since(event.connectedAt)
    attempt.reused = event.reused
    attempt.sentMs = since(event.sentAt)
    attempt.firstByteMs = since(event.firstByteAt)
    attempt.endedMs = event.endedAt - startedAt
    attempt.status = event.status
    attempt.bytesSent = event.bytesSent
    attempt.bytesReceived = event.bytesReceived
    attempt.error = shownError(event.error)
  }

  exchangeRetried(event: ExchangeRetried): void {
    const attempt = this.#attemptOf(event)
    if (attempt !== null) attempt.retriedAfterMs = event.delayMs
  }

  exchangeEnded(event: ExchangeEnded): void {
    const recording = this.#recordings.get(event.exchangeId)
    if (recording === undefined) return
    this.#recordings.delete(event.exchangeId)
    if (!this.#matcher.ended(event.status, event.flag, event.durationMs)) return
    queueMicrotask(() => this.#queue.offer(() => asciiJson(this.#recordOf(recording, event))))
  }

  #attemptOf({ exchangeId, attempt }: { readonly exchangeId: number; readonly attempt: number }): Mutable<TracedAttempt> | null {
    const last = this.#recordings.get(exchangeId)?.attempts.at(-1)
    return last !== undefined && last.number === attempt ? last : null
  }

  // ---- what hooks do

  hookBegins(hook: string, session: Session): HookCall | null {
    const recording = this.#byRequest.get(session.request)
    return recording === undefined ? null : callOf(recording, hook)
  }

  #recordOf({ started, method, target, host, hooks, hooksLeftOut, attempts }: Recording, event: ExchangeEnded): TraceRecord {
    const { listener, clientIp, requestId, startedWallMs } = started
    const { status, flag, durationMs, bytesReceived, bytesSent, upgraded, ownAnswer, error, version, trace } = event
    return {
      requestId: cut(requestId), traceId: trace === null ? '' : trace.traceId, worker: this.#of.worker, listener,
      client: this.#of.shownClient(clientIp),
      method: cut(method), host: cut(host), target: cut(urlWithoutSecrets(target.slice(0, MAX_TEXT_LENGTH + 1))), version,
      startedAt: startedWallMs, status, flag, durationMs, bytesReceived, bytesSent, upgraded, ownAnswer,
      hooks: hooks.map(({ pending, behind: _, ...row }) => ({ ...row, unsettled: pending > 0 })), hooksLeftOut, attempts,
      error: shownError(error),
    }
  }
}

/** All calls of a hook within an attempt, as those for the pieces of a body, have one row. */
function callOf(recording: Recording, hook: string): HookCall {
  const beganAt = performance.now(), { hooks, started, attempts } = recording, behind = attempts.length
  const row = hooks.findLast(one => one.hook === hook && one.behind === behind) ?? {
    hook, startedMs: beganAt - started.startedAt, ms: 0, calls: 0, waited: false, unsettled: false, threw: false, pending: 0, behind,
  }
  if (row.calls === 0) {
    if (hooks.length < MAX_HOOKS) hooks.push(row)
    else recording.hooksLeftOut++
  }
  row.calls++
  row.pending++
  const ends = (waited: boolean): void => {
    row.pending--
    row.ms += performance.now() - beganAt
    row.waited ||= waited
  }
  return {
    gave(_result, waited) { ends(waited) },
    threw(_thrown, waited) {
      ends(waited)
      row.threw = true
    },
  }
}

function shownError(error: ProxyError | null): TracedError | null {
  if (error === null) return null
  const { kind, source, message, hook, cause } = error
  const place = placeIn(describeError(cause ?? error).stack)
  return { kind, source, message: cut(message), hook: cut(hook), at: place === null ? '' : `${place.file}:${place.line}:${place.column}` }
}

function cut(text: string): string { return text.length <= MAX_TEXT_LENGTH ? text : `${text.slice(0, MAX_TEXT_LENGTH)}...` }
