/**
 * Spans out of what tracers are told: one for each recorded request, as its client sees it, and below it one for each attempt at an
 * origin. Their times are those of the events, whenever they are told.
 *
 *   begin ─▶ exchangeStarted ─▶ hooks run with the server's span ─▶ exchangeEnded
 *                    attemptStarted ─▶ sendOn: an id that the origin is told ─▶ attemptEnded: the span with that id
 *
 * Ids are chosen when a request begins and when an attempt does. The span of a request is there from its start, so that hooks can add to
 * it; that of an attempt is made when all of it is known. Attempts of a request stand beside each other, each linked to the one before.
 */
import {
  createTraceState, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags,
  type Context, type ContextAPI, type HrTime, type Link, type Span, type SpanContext, type SpanOptions, type Tracer as SpanMaker,
} from '@opentelemetry/api'
import type { ProxyError } from '../../errors/proxy-error.ts'
import type { HeaderMap } from '../../http/header-map.ts'
import type { RequestHead } from '../../http/message-head.ts'
import type { RequestTrace, RequestTracing } from '../request-trace.ts'
import type { TraceIds } from '../trace-ids.ts'
import { owned, type TracePropagation, type TraceStart } from '../trace-propagation.ts'
import type { AttemptConnected, AttemptEnded, AttemptStarted, ExchangeEnded, ExchangeRetried, ExchangeStarted, Tracer } from '../tracer.ts'
import {
  attributesOfAttempt, attributesOfExchange, attributesOfRequest, isFailure, spanName,
  type SentHead, type SpanEventName, type SpanMakers,
} from './span-attributes.ts'
import type { SpanChoices } from './span-choices.ts'

/** From here on a status is a failure. */
const SERVER_FAILS = 500
const CLIENT_FAILS = 400
const MAX_STATUS_TEXT = 256

/** What spans are made with. */
export interface SpanTools extends SpanMakers {
  readonly maker: SpanMaker
  /** Ids and decisions that the maker has to follow. */
  readonly choices: SpanChoices
  /** Where hooks find the current span. */
  readonly context: Pick<ContextAPI, 'with'>
  readonly propagation: TracePropagation
  readonly ids: TraceIds
}

export class SpanTracer implements RequestTracing {
  readonly tracer: Tracer
  readonly #tools: SpanTools
  /** Recorded requests that are under way, by the number of their exchange. */
  readonly #open = new Map<number, RecordedRequest>()

  constructor(tools: SpanTools) {
    this.#tools = tools
    const open = this.#open
    this.tracer = {
      exchangeStarted: event => {
        if (!(event.trace instanceof RecordedRequest)) return
        open.set(event.exchangeId, event.trace)
        event.trace.started(event)
      },
      attemptStarted: event => { open.get(event.exchangeId)?.attemptStarted(event) },
      attemptConnected: event => { open.get(event.exchangeId)?.attemptConnected(event) },
      attemptEnded: event => { open.get(event.exchangeId)?.attemptEnded(event) },
      exchangeRetried: event => { open.get(event.exchangeId)?.retried(event) },
      exchangeEnded: event => {
        const request = open.get(event.exchangeId)
        open.delete(event.exchangeId)
        request?.ended(event)
      },
    }
  }

  /** Recorded requests that are under way. */
  get active(): number { return this.#open.size }

  begin(headers: HeaderMap, trusted: boolean): RequestTrace | null {
    const start = this.#tools.propagation.begin(headers, trusted)
    return start === null ? null : new RecordedRequest(this.#tools, start)
  }
}

/** An attempt that is under way, or was the last one. */
interface OpenAttempt {
  readonly spanId: string
  /** The attempt before it; '': it is the first. */
  readonly earlierId: string
  sent: SentHead
  connected: AttemptConnected | null
  endedAt: number
}

class RecordedRequest implements RequestTrace {
  readonly traceId: string
  readonly spanId: string
  readonly #tools: SpanTools
  readonly #start: TraceStart
  #span: Span | null = null
  /** What hooks run in. */
  #context: Context = ROOT_CONTEXT
  #request: SentHead = { method: '', target: '' }
  /** Of the clock that times are told in, when that of spans is 0. */
  #clockOffsetMs = 0
  #attempt: OpenAttempt | null = null

  constructor(tools: SpanTools, start: TraceStart) {
    this.#tools = tools
    this.#start = start
    this.traceId = start.traceId
    this.spanId = tools.ids.span()
  }

  // ---- what the proxy asks

  run(hook: () => unknown): unknown { return this.#tools.context.with(this.#context, hook) }

  leave(work: () => void): void { this.#tools.context.with(ROOT_CONTEXT, work) }

  sendOn(request: RequestHead): void {
    const attempt = this.#attempt
    if (attempt !== null) attempt.sent = { method: owned(request.method), target: owned(request.target) }
    this.#tools.propagation.write(request.headers, this.#start, attempt === null ? this.spanId : attempt.spanId, this.spanId)
  }

  // ---- what its tracer is told

  started(event: ExchangeStarted): void {
    const { request, startedAt, startedWallMs } = event, { method } = request
    this.#clockOffsetMs = startedWallMs - startedAt
    this.#request = { method: owned(method), target: owned(request.target) }
    this.#span = this.#makeSpan(this.spanId, this.#parent(), spanName(method), {
      kind: SpanKind.SERVER, startTime: this.#time(startedAt), attributes: attributesOfRequest(event, this.#tools),
      links: this.#linkToStranger(),
    })
    this.#context = trace.setSpan(ROOT_CONTEXT, this.#span)
  }

  #parent(): SpanContext | null {
    const { traceId, parentId, state } = this.#start
    if (parentId === '') return null
    const context: SpanContext = { traceId, spanId: parentId, traceFlags: TraceFlags.SAMPLED, isRemote: true }
    return state === '' ? context : { ...context, traceState: createTraceState(state) }
  }

  #linkToStranger(): Link[] {
    const { linked } = this.#start
    if (linked === null) return []
    const { traceId, spanId, sampled } = linked
    return [{ context: { traceId, spanId, traceFlags: sampled === true ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true } }]
  }

  attemptStarted(_event: AttemptStarted): void {
    const earlier = this.#attempt
    this.#attempt = {
      spanId: this.#tools.ids.span(), earlierId: earlier === null ? '' : earlier.spanId, sent: this.#request, connected: null, endedAt: 0,
    }
  }

  attemptConnected(event: AttemptConnected): void { if (this.#attempt !== null) this.#attempt.connected = event }

  attemptEnded(event: AttemptEnded): void {
    const attempt = this.#attempt
    if (attempt === null) return
    const { sent, connected } = attempt, { status, error, endedAt } = event
    const span = this.#makeSpan(attempt.spanId, this.#ownContext(this.spanId), spanName(sent.method), {
      kind: SpanKind.CLIENT, startTime: this.#time(event.startedAt), attributes: attributesOfAttempt(event, sent, connected),
      links: attempt.earlierId === '' ? [] : [{ context: this.#ownContext(attempt.earlierId) }],
    })
    this.#addEvent(span, 'cirque.connected', event.connectedAt)
    this.#addEvent(span, 'cirque.request.sent', event.sentAt)
    this.#addEvent(span, 'cirque.response.first_byte', event.firstByteAt)
    if (isFailure(error, status, CLIENT_FAILS)) setFailed(span, error)
    span.end(this.#time(endedAt))
    attempt.endedAt = endedAt
    // Its digest would keep the connection.
    attempt.connected = null
  }

  /** It is told right behind the end of the attempt. */
  retried({ error, delayMs }: ExchangeRetried): void {
    const name: SpanEventName = 'cirque.retry', endedAt = this.#attempt === null ? 0 : this.#attempt.endedAt
    this.#span?.addEvent(name, { 'error.type': error.kind, 'cirque.retry.delay_ms': delayMs }, this.#time(endedAt))
  }

  ended(event: ExchangeEnded): void {
    const span = this.#span
    if (span === null) return
    span.setAttributes(attributesOfExchange(event))
    if (isFailure(event.error, event.status, SERVER_FAILS)) setFailed(span, event.error)
    span.end(this.#time(event.endedAt))
  }

  // ---- spans

  #makeSpan(spanId: string, parent: SpanContext | null, name: string, options: SpanOptions): Span {
    const { maker, choices } = this.#tools
    return choices.withIds(this.traceId, spanId, parent, context => maker.startSpan(name, options, context))
  }

  #ownContext(spanId: string): SpanContext { return { traceId: this.traceId, spanId, traceFlags: TraceFlags.SAMPLED } }

  #addEvent(span: Span, name: SpanEventName, at: number): void { if (at !== 0) span.addEvent(name, undefined, this.#time(at)) }

  #time(at: number): HrTime { return hrTime(at + this.#clockOffsetMs) }
}

function setFailed(span: Span, error: ProxyError | null): void {
  // A status says it all by itself.
  span.setStatus(error === null ? { code: SpanStatusCode.ERROR }
    : { code: SpanStatusCode.ERROR, message: error.message.slice(0, MAX_STATUS_TEXT) })
}

/** Seconds and nanoseconds since 1970. A number alone might be taken for one of the process's own clock. */
function hrTime(wallMs: number): HrTime {
  const seconds = Math.floor(wallMs / 1000)
  const nanoseconds = Math.round((wallMs - seconds * 1000) * 1e6)
  return nanoseconds < 1e9 ? [seconds, nanoseconds] : [seconds + 1, 0]
}
