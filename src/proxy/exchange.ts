/**
 * One request on its way through the phases: a downstream session joined to the sources of its answer, retries included.
 * README.md in this folder draws it; session.ts is the face that hooks see.
 *
 *   Request ─▶ Peer ─▶ Connecting ─▶ Send ─▶ Relaying ─▶ Response ─▶ Streaming ─▶ Ended
 *      │         ▲         │                     │           │ └▶ Tunnel ─▶ Ended
 *      │         └ Retrying ◀────────────────────┘           │
 *      └─ a filter responded ────────────────────────────────┘
 *      any fault before a response began: Failing (failToProxy) ─▶ Response, with the error page
 *      any fault behind it: the client's connection is cut
 *
 * The engine is a loop over steps that stops only where a hook gave a promise or something outside is awaited, so a request
 * that nothing delays runs from head to upstream in one call. It is answered at most once and logged exactly once.
 * Origins are tried by attempt.ts, the request's body is request-body.ts, where answers come from is response-source.ts.
 * An object serves one request and is then left to its readers: a hook that holds on to a session never sees another's.
 * One idea in more than 500 lines: the order of steps, and what a fault in each of them leads to, are read side by side.
 */
import type { Flag } from '../errors/access-flags.ts'
import { asProxyError, ProxyError } from '../errors/proxy-error.ts'
import { FieldLines } from '../http/field-lines.ts'
import { isHttpFailure, trailersOnly } from '../http/grpc-answer.ts'
import { isPlainGrpc } from '../http/grpc-request.ts'
import { asciiLower, FieldKind, HeaderMap } from '../http/header-map.ts'
import { FORWARDED_FIELDS } from '../http/hop-by-hop.ts'
import { mayPassOn } from '../http/max-forwards.ts'
import { isIdempotent, ResponseHead, type RequestHead } from '../http/message-head.ts'
import { normalizeTarget } from '../http/target-path.ts'
import type { HttpModule } from '../modules/http-module.ts'
import type { Peer } from '../peer/peer.ts'
import { isPromise } from '../primitives/application-call.ts'
import { showValue } from '../primitives/option-table.ts'
import { BUFFER_RESERVE, copyWithReserve, type StreamDigest } from '../protocols/byte-stream.ts'
import type { RequestOwner } from '../protocols/http-connection.ts'
import type { HalfClose } from '../protocols/http-options.ts'
import { BODY_TUNNEL, BODY_UNKNOWN, BODY_UNTIL_CLOSE, type DownstreamSession, type UpstreamSession } from '../protocols/http-session.ts'
import { announcedTooLarge } from '../protocols/request-watch.ts'
import { offeredProtocols } from '../protocols/websocket/handshake.ts'
import type { RequestTrace } from '../telemetry/request-trace.ts'
import { NO_TRACERS, type TracerGroup } from '../telemetry/tracer-group.ts'
import { Attempt, tellPeer, type AttemptOwner, type LostConnection } from './attempt.ts'
import type { BodyStage } from './body-stage.ts'
import type { ExchangeHost } from './exchange-host.ts'
import { ExchangeTrace, type AttemptTrace, type TracedExchange } from './exchange-trace.ts'
import { errorPage, flagOf, OVERLOAD_RETRY_AFTER_S, statusOf } from './fail-to-proxy.ts'
import { MERGED_FIELDS, stripForwarded, type ConnectionFacts } from './forwarded-fields.ts'
import { GrpcCall, type CallOwner } from './grpc-call.ts'
import { hookLate, HookWatch, type HookWaiter } from './hook-watch.ts'
import type { KeptBodies } from './kept-bodies.ts'
import { hookOfModule, type PhasePlan, type PhaseSubject, type ResponseOrigin } from './phases.ts'
import type { FailToProxy } from './proxy-http.ts'
import { bodyOnItsWay, NO_BODY, RequestBody, type RequestBodyOwner } from './request-body.ts'
import { discardBody, OwnAnswer, ResponsePipe, type ResponsePipeOwner, type ResponseSink, type ResponseSource } from './response-source.ts'
import { retryDelayMs } from './retry-budget.ts'
import type { LogValue, ResponseBody, ResponseFields, Session } from './session.ts'
import { checkSessionLimits, originTimesWith, requestLimitsWith, said, type SessionLimits } from './session-limits.ts'
import { Tunnel, type TunnelOwner } from './tunnel.ts'

/** Fields that hooks may add to a line of the access log. */
const MAX_LOG_FIELDS = 16
const LOG_FIELD_NAME = /^[a-z][a-z0-9_]{0,31}$/

/** Without it a request is no call of gRPC. */
const CONTENT_TYPE = 1 << FieldKind.ContentType

/**
 * Where the exchange is. A step is left before its hook is called, so that a promise resumes behind it. The parked ones are
 * left by an event, not by the loop.
 */
const Step = {
  Normalize: 0, Early: 1, BodyLimit: 2, Modules: 3, Request: 4, Upstream: 5, UpstreamVerdict: 6, Peer: 7, PeerChosen: 8,
  /** Parked: a connection was asked for. */
  Connecting: 9,
  Connected: 10, CopyRequest: 11, UpstreamModules: 12, Send: 13,
  /** Parked: the head of the request went out; its body may be on its way. */
  Relaying: 14,
  AdjustModules: 15, ResponseUpstreamModules: 16, ResponseUpstream: 17, ResponseApp: 18, ResponseModules: 19, SendResponse: 20,
  /** Parked: the head of the response went out; its body is on its way. */
  Streaming: 21,
  /** Parked: raw bytes pass. */
  Tunnel: 22,
  /** Parked: an attempt failed and another one follows. */
  Retrying: 23,
  /** Parked: `failToConnect` or `errorWhileProxy` looks at a fault of an attempt. */
  Judging: 24,
  /** Parked: `failToProxy` decides. */
  Failing: 25,
  Ended: 26,
} as const
type Step = (typeof Step)[keyof typeof Step]

/** The hook behind which a step stands: a step is left before its hook is called. */
const HOOK_BEFORE: Readonly<Partial<Record<Step, string>>> = {
  [Step.BodyLimit]: 'earlyRequestFilter', [Step.Upstream]: 'requestFilter', [Step.UpstreamVerdict]: 'proxyUpstreamFilter',
  [Step.PeerChosen]: 'upstreamPeer', [Step.Connecting]: 'upstreamPeer', [Step.CopyRequest]: 'connectedToUpstream',
  [Step.UpstreamModules]: 'upstreamRequestFilter', [Step.Relaying]: 'a filter of the request',
  [Step.ResponseUpstreamModules]: 'adjustUpstreamModules', [Step.ResponseApp]: 'upstreamResponseFilter',
  [Step.ResponseModules]: 'responseFilter', [Step.Streaming]: 'a filter of the response',
  [Step.Failing]: 'failToProxy',
}

/** Steps behind whose hooks the application may answer by itself. */
const MAY_RESPOND: ReadonlySet<Step> = new Set<Step>([
  Step.BodyLimit, Step.Modules, Step.Upstream, Step.UpstreamVerdict, Step.PeerChosen, Step.CopyRequest, Step.UpstreamModules,
  Step.ResponseApp, Step.ResponseModules, Step.Failing,
])

/** Why there is no answer from here, and what would do. */
const NO_ANSWER_NOW = 'the request is with an origin, where requestBodyFilter, requestTrailerFilter, interimResponseFilter and whatever \
nobody waits for cannot answer; throw a ProxyError, and answer in failToProxy'
const NO_ANSWER_OF_MODULES = 'responseFilter of a module sees every answer, so that its own would come to it again; throw a ProxyError, \
and answer in failToProxy'
const NO_ANSWER: Readonly<Partial<Record<Step, string>>> = {
  [Step.Normalize]: 'onConnectionReuse cannot answer; keep in ctx what it knows, and answer in earlyRequestFilter',
  [Step.Judging]: 'failToConnect and errorWhileProxy judge one attempt, and cannot answer; answer in failToProxy',
  [Step.ResponseUpstreamModules]: 'adjustUpstreamModules, and upstreamResponseFilter of a module, cannot answer; answer in \
upstreamResponseFilter of the application, or throw a ProxyError',
}

/** Steps that call a hook of each module, one after the other. */
const HOOK_OF_MODULES: Readonly<Partial<Record<Step, readonly [
  plan: 'requestModules' | 'upstreamRequestModules' | 'upstreamResponseModules' | 'responseModules', hook: string,
]>>> = {
  [Step.Modules]: ['requestModules', 'requestFilter'],
  [Step.UpstreamModules]: ['upstreamRequestModules', 'upstreamRequestFilter'],
  [Step.ResponseUpstreamModules]: ['upstreamResponseModules', 'upstreamResponseFilter'],
  [Step.ResponseModules]: ['responseModules', 'responseFilter'],
}

/** What an exchange waits for that is no hook. */
const WAITS_FOR: Readonly<Partial<Record<Step, string>>> = {
  [Step.Connecting]: 'a connection to', [Step.Relaying]: 'the answer of', [Step.Streaming]: 'the body of the answer of',
  [Step.Retrying]: 'the next attempt',
}

/** Where an answer enters the steps. */
const ENTRY: Readonly<Record<ResponseOrigin, Step>> = {
  origin: Step.AdjustModules, stored: Step.ResponseApp, own: Step.ResponseModules,
}

export class Exchange<Ctx> implements PhaseSubject<Ctx>, Session, TracedExchange, RequestOwner, AttemptOwner,
  ResponseSink, RequestBodyOwner, ResponsePipeOwner, TunnelOwner, HookWaiter, CallOwner {
  readonly #host: ExchangeHost<Ctx>
  readonly #plan: PhasePlan<Ctx>
  readonly #down: DownstreamSession
  readonly #facts: ConnectionFacts
  readonly #refusal: ProxyError | null
  readonly request: RequestHead
  readonly trace: RequestTrace | null
  readonly clientIp: string
  readonly startedAt: number
  endedAt = 0
  /** Null: the request is no call of gRPC. */
  readonly #call: GrpcCall | null
  ctx!: Ctx
  #requestId = ''
  #step: Step = Step.Normalize
  /** Module whose hook comes next in the current step. */
  #moduleAt = 0
  /** Number of the promise that the steps wait for: one of an attempt that failed meanwhile must not move the next one. */
  #waitingFor = 0
  /** Made with the first promise of the steps. */
  #watch: HookWatch | null = null

  attempts = 0
  #attempt: Attempt | null = null
  /** From `upstreamPeer`, before an attempt is made of it. */
  #chosen: Peer | null = null
  #tried: Peer[] | null = null
  /** The head for this attempt: the client's own, or a copy that filters may change. */
  #upstreamRequest: RequestHead | null = null
  /** Made when the body is asked for first. */
  #body: RequestBody<Ctx> | null = null
  #cancelRetry: (() => void) | null = null
  /** Fault of the attempt before this one. */
  #earlierError: ProxyError | null = null
  /** The pooled connection that an earlier attempt lost. */
  #lost: LostConnection | null = null

  response: ResponseHead | null = null
  /** Where `response` and its body come from; `#own` is the same object when the answer is one of our own. */
  #source: ResponseSource | null = null
  #own: OwnAnswer | null = null
  /** Status that the answer of our own would have had in HTTP; 0: it is one. */
  #httpStatus = 0
  /** Filters of that body; null: none. */
  #responseStage: BodyStage<PhaseSubject<Ctx>> | null = null
  #responseLength = 0
  /** `upstreamResponseFilter` would rather have another one. */
  #unwanted = false
  /** The client has sent its FIN, and still has an answer to read. */
  #halfClosed = false
  #responsePipe: ResponsePipe<Ctx> | null = null
  #tunnel: Tunnel | null = null
  /** What tracers are told. Null: none watches, or none yet. */
  #watched: ExchangeTrace | null = null

  error: ProxyError | null = null
  /** The exchange is answered with an error page, or not at all. */
  #failing = false
  /** A response filter of a module is to blame: the page does not go there again. */
  #skipsModules = false
  #budgetSpent = false
  #states: Map<HttpModule, unknown> | null = null
  /** What hooks said of limits so far: each attempt is told. */
  #limits: SessionLimits | null = null
  /** Made when a hook asks for its signal. */
  #abort: AbortController | null = null
  /** The client is gone, or has broken off; null: it is there. */
  #gone: ProxyError | null = null
  #inAccessLog = true
  #logFields: Map<string, LogValue> | null = null
  /** As they were at the end, raw bytes of a tunnel included: the downstream session goes on to other requests. */
  #bytesIn = 0
  #bytesOut = 0
  #responded = false

  /** @param refusal why this request is answered with an error instead of being looked at; null: it is not */
  constructor(host: ExchangeHost<Ctx>, down: DownstreamSession, facts: ConnectionFacts, refusal: ProxyError | null) {
    const { recording } = host
    this.#host = host
    this.#down = down
    this.#facts = facts
    this.#refusal = refusal
    this.request = down.request
    this.trace = recording === null ? null : recording.begin(this.request.headers, facts.trusted)
    this.#plan = this.trace === null ? host.plan : recording!.plan
    // Before any hook: what they do to the fields changes nobody's address.
    this.clientIp = facts.trusted ? host.forwarded.clientOf(this.request, facts) : facts.clientIp
    // Without a need for times, about: a peer's tracer may still want it.
    this.startedAt = host.timed ? host.clock.exact() : host.clock.now()
    const mayBeCall = (this.request.headers.mask & CONTENT_TYPE) !== 0
    this.#call = mayBeCall ? GrpcCall.of(this.request, this, host.ticker) : null
  }

  // ---- what hooks see

  get requestId(): string {
    return this.#requestId === '' ? this.#requestId = this.#host.forwarded.requestIdFor(this.request, this.#facts) : this.#requestId
  }
  get listener(): string { return this.#down.listener }
  get clientPort(): number { return this.#down.digest.remotePort }
  get digest(): StreamDigest { return this.#down.digest }
  get trusted(): boolean { return this.#facts.trusted }
  get keptBodies(): KeptBodies { return this.#host.keptBodies }
  get isSelfTest(): boolean { return this.#facts.selfTest }
  get triedPeers(): readonly Peer[] { return this.#tried ?? [] }
  get peer(): Peer | null { return this.#attempt === null ? null : this.#attempt.peer }
  get upstreamDigest(): StreamDigest | null { return this.#attempt?.session?.digest ?? null }
  get upstreamReused(): boolean { return this.#attempt !== null && this.#attempt.reused }
  get bytesReceived(): number { return this.#ended ? this.#bytesIn : this.#down.bodyBytesIn }
  get bytesSent(): number { return this.#ended ? this.#bytesOut : this.#down.bodyBytesOut }
  get responded(): boolean { return this.#ended ? this.#responded : this.#down.responseStarted }
  get draining(): boolean { return this.#host.draining }
  get halfClose(): HalfClose { return this.#down.halfClose }
  set halfClose(wanted: HalfClose) {
    if (wanted !== 'abort' && wanted !== 'keep') throw new TypeError(`halfClose is ${JSON.stringify(wanted)}; use 'abort' or 'keep'`)
    if (!this.#ended) this.#down.halfClose = wanted
  }

  get inAccessLog(): boolean { return this.#inAccessLog }
  set inAccessLog(wanted: boolean) {
    if (typeof wanted !== 'boolean') throw new TypeError(`inAccessLog is ${showValue(wanted)}; use true or false`)
    this.#inAccessLog = wanted
  }

  setLimits(given: SessionLimits): void {
    checkSessionLimits(given)
    if (this.#ended) return
    this.#limits = { ...this.#limits, ...said(given) }
    this.#down.limits = requestLimitsWith(this.#down.limits, given)
    this.#limitOrigin(given)
  }

  logField(name: string, value: LogValue): void {
    if (this.#ended) throw new Error('logField: the line was written before this hook; call it in an earlier one')
    if (typeof name !== 'string' || !LOG_FIELD_NAME.test(name)) {
      throw new TypeError(`logField: the name is ${showValue(name)}; use up to 32 of a to z, 0 to 9 and _, beginning with a letter`)
    }
    const known = typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)
    if (!known) throw new TypeError(`logField: ${name} is ${showValue(value)}; use text, a finite number, true or false`)
    const fields = this.#logFields ??= new Map()
    if (fields.size >= MAX_LOG_FIELDS && !fields.has(name)) {
      throw new RangeError(`logField: ${name} is one more than the ${MAX_LOG_FIELDS} fields of a line; join some of them`)
    }
    fields.set(name, value)
  }

  moduleState<State>(module: HttpModule<State>): State {
    const states = this.#states ??= new Map()
    let state = states.get(module as HttpModule)
    if (state === undefined && module.newState !== undefined) states.set(module as HttpModule, state = module.newState())
    return state as State
  }

  get signal(): AbortSignal {
    // Whoever asks when it is too late is told at once.
    if (this.#gone !== null || this.#ended) return AbortSignal.abort(this.#gone ?? overNow())
    return (this.#abort ??= new AbortController()).signal
  }

  /** What hooks wait for is not wanted any more. */
  #abortHooks(reason: unknown): void {
    const abort = this.#abort
    if (abort === null) return
    this.#abort = null
    abort.abort(reason)
  }

  closeAfterResponse(): void { if (!this.#ended) this.#down.refuseReuse() }

  sendInterim(status: number, fields: ResponseFields): void {
    checkInterim(status)
    // The connection may have another request by now, of another client behind the same hop.
    if (!this.#ended) this.#down.writeInterim(ResponseHead.build(status, toHeaders(fields)))
  }

  readBody(maxBytes: number): Promise<Buffer> {
    if (this.#body === null) {
      if (this.#ended || (this.#attempt !== null && this.#attempt.session !== null)) return bodyOnItsWay()
      if (this.#down.requestBodyLength === 0) return NO_BODY
    }
    return this.#requestBody().read(maxBytes)
  }

  #requestBody(): RequestBody<Ctx> {
    return this.#body ??= new RequestBody(this.#down, this.#host, this)
  }

  respond(status: number, fields: ResponseFields = {}, body: ResponseBody = null): 'responded' {
    let answer: OwnAnswer
    try {
      this.#checkMayRespond()
      if (status < 200) throw new TypeError(`status ${status} is not that of a final response`)
      answer = new OwnAnswer(ResponseHead.build(status, toHeaders(fields)), body, this, this.#host)
    } catch (thrown) {
      discardBody(body)
      throw thrown
    }
    // A connection that becomes free may go to another exchange, within this call.
    if (this.trace === null) this.#giveUpOrigin()
    else this.trace.leave(() => this.#giveUpOrigin())
    this.#takeAnswer(answer)
    return 'responded'
  }

  /** The steps look for an answer behind each of these hooks, and nowhere else. */
  #checkMayRespond(): void {
    if (this.#ended) throw new Error('respond: the exchange is over; answer in an earlier hook, or in failToProxy')
    if (this.#own !== null) throw new Error('respond: there is an answer already; call it once, and return what it returns')
    if (this.responded) throw new Error('respond: the head of a response was sent; throw an error to cut it off')
    const ofModule = this.#step === Step.ResponseModules && this.#moduleAt > 0
    if (MAY_RESPOND.has(this.#step) && !ofModule) return
    throw new Error(`respond: ${ofModule ? NO_ANSWER_OF_MODULES : NO_ANSWER[this.#step] ?? NO_ANSWER_NOW}`)
  }

  /** An answer of our own comes instead of the origin's, which may have sent one already. */
  #giveUpOrigin(): void {
    const attempt = this.#attempt
    if (attempt === null) return
    // It did what was asked.
    if (attempt.status !== 0) attempt.settle(true)
    this.#dropAttempt()
    this.#body?.holdBack()
    this.#endResponsePipe()
    this.#attempt?.ended(null, false)
  }

  // ---- what logs see

  get flag(): Flag { return this.error === null ? '-' : this.#budgetSpent ? 'RX' : flagOf(this.error) }
  get logFields(): ReadonlyMap<string, LogValue> | null { return this.#logFields }
  get durationMs(): number {
    if (this.startedAt === 0) return 0
    return (this.endedAt === 0 ? this.#host.clock.exact() : this.endedAt) - this.startedAt
  }
  get status(): number { return this.responded && this.response !== null ? this.response.status : 0 }
  get upstreamStatus(): number { return this.#attempt === null ? 0 : this.#attempt.status }
  get connectedAt(): number { return this.#attempt === null ? 0 : this.#attempt.connectedAt }
  get sentAt(): number { return this.#attempt === null ? 0 : this.#attempt.sentAt }
  get firstByteAt(): number { return this.#attempt === null ? 0 : this.#attempt.firstByteAt }
  get ownAnswer(): boolean { return this.#own !== null }
  get ownStatus(): number { return this.#httpStatus === 0 ? this.status : this.#httpStatus }
  get retryBudgetSpent(): boolean { return this.#budgetSpent }
  get upgraded(): boolean { return this.#tunnel !== null }

  summary(): string {
    if (this.#plan.has.requestSummary) {
      try {
        const summary = atOnce(this.#plan.app.requestSummary!(this, this.ctx))
        if (typeof summary === 'string') return summary
        throw new TypeError(`it returned ${showValue(summary)}; use a text`)
      } catch (thrown) {
        this.#host.hookFailed('requestSummary', thrown, this)
      }
    }
    return `${this.request.method} ${this.request.target}`
  }

  /** For a message about an exchange that is late: a hook, or a peer. */
  get waitsFor(): string {
    const text = WAITS_FOR[this.#step] ?? this.#lastHook()
    return / (?:to|of)$/.test(text) ? `${text} ${this.peer?.name ?? 'its own'}` : text
  }

  suppressesLog(error: ProxyError): boolean {
    if (!this.#plan.has.suppressErrorLog) return false
    try {
      return atOnce(this.#plan.app.suppressErrorLog!(this, error, this.ctx)) === true
    } catch (thrown) {
      this.#host.hookFailed('suppressErrorLog', thrown, this)
      return false
    }
  }

  // ---- the steps

  get #ended(): boolean { return this.#step === Step.Ended }

  /** Runs until the first wait. */
  begin(): void {
    const { app } = this.#plan, { tracers, clock } = this.#host
    const watching = this.#alsoRecording(tracers)
    if (watching !== null && watching.watchesExchanges && !this.#facts.selfTest) this.#watched = new ExchangeTrace(this, watching, clock)
    if (this.#call !== null) this.#beginCall(this.#call)
    let hook = 'newCtx'
    try {
      if (this.#plan.has.newCtx) this.ctx = atOnce(app.newCtx!())
      const kept = this.#facts.kept
      if (kept !== undefined) {
        this.#facts.kept = undefined
        hook = 'onConnectionReuse'
        atOnce(app.onConnectionReuse?.(this, this.ctx, kept))
      }
    } catch (thrown) {
      this.#fail(asProxyError(thrown, hook))
      return
    }
    if (this.#refusal === null) this.#advance()
    else this.#fail(this.#refusal)
  }

  #beginCall(call: GrpcCall): void {
    this.#down.limits = call.requestLimits(this.#down.limits)
    call.begin()
  }

  #advance(): void {
    const wait = this.#waitingFor
    try {
      this.#run(wait)
    } catch (thrown) {
      if (wait === this.#waitingFor) this.#attemptFailed(asProxyError(thrown, this.#lastHook()))
    }
  }

  /**
   * Goes on with the steps; returns where it has to wait. @param wait what `#waitingFor` is. A hook may end what it was asked in
   * within its call, for example by `readBody` of a body that is broken: the number is another one then, and what the hook says
   * or throws is of no interest any more.
   */
  #run(wait: number): void {
    const plan = this.#plan, app = plan.app, has = plan.has
    for (;;) {
      if (this.#own !== null && this.#step < ENTRY.own) this.#answered()
      switch (this.#step) {
        case Step.Normalize:
          this.#step = Step.Early
          if (!this.#admitsRequest()) return
          continue
        case Step.Early:
          this.#step = Step.BodyLimit
          if (has.earlyRequestFilter && this.#mayDecide(app.earlyRequestFilter!(this, this.ctx), wait)) return
          continue
        case Step.BodyLimit:
          this.#step = Step.Modules
          if (!this.#admitsBody()) return
          continue
        case Step.Modules: {
          const module = this.#nextModule(plan.requestModules)
          if (module === null) { this.#step = Step.Request; continue }
          if (this.#decides(module.requestFilter!(this, this.moduleState(module)), wait)) return
          continue
        }
        case Step.Request:
          this.#step = Step.Upstream
          if (has.requestFilter && this.#decides(app.requestFilter!(this, this.ctx), wait)) return
          continue
        case Step.Upstream:
          this.#step = Step.UpstreamVerdict
          if (has.proxyUpstreamFilter && this.#decides(app.proxyUpstreamFilter!(this, this.ctx), wait)) return
          continue
        case Step.UpstreamVerdict:
          if (this.request.method === 'OPTIONS' && !this.#passesOptionsOn()) { this.respond(200); continue }
          this.#step = Step.Peer
          if (!this.#admitsBody()) return
          continue
        case Step.Peer:
          this.#step = Step.PeerChosen
          if (this.#choosesPeer(wait)) return
          continue
        case Step.PeerChosen:
          this.#step = Step.Connecting
          if (!this.#beginAttempt().connect(this.#lost)) return
          this.#step = Step.Connected
          continue
        case Step.Connected: {
          this.#step = Step.CopyRequest
          if (this.#call !== null) this.#giveOriginTime(this.#call, this.#attempt!.session!)
          if (this.#limits !== null) this.#limitOrigin(this.#limits)
          if (!has.connectedToUpstream) continue
          const { reused, peer, session } = this.#attempt!
          if (this.#mayDecide(app.connectedToUpstream!(this, { reused, peer, digest: session!.digest }, this.ctx), wait)) return
          continue
        }
        case Step.CopyRequest: {
          this.#step = Step.UpstreamModules
          // An earlier attempt may have failed between two modules.
          this.#moduleAt = 0
          const copied = has.upstreamRequestFilter || plan.upstreamRequestModules !== null
          this.#upstreamRequest = copied ? this.request.clone() : this.request
          if (has.upstreamRequestFilter && this.#mayDecide(app.upstreamRequestFilter!(this, this.#upstreamRequest, this.ctx), wait)) return
          continue
        }
        case Step.UpstreamModules: {
          const module = this.#nextModule(plan.upstreamRequestModules)
          if (module === null) { this.#step = Step.Send; continue }
          const state = this.moduleState(module)
          if (this.#mayDecide(module.upstreamRequestFilter!(this, this.#upstreamRequest!, this.attempts, state), wait)) return
          continue
        }
        case Step.Send:
          this.#step = Step.Relaying
          this.#send(this.#attempt!)
          return
        case Step.AdjustModules:
          this.#moduleAt = 0
          this.#step = Step.ResponseUpstreamModules
          if (has.adjustUpstreamModules && this.#waits(app.adjustUpstreamModules!(this, this.response!, this.ctx), wait)) return
          continue
        case Step.ResponseUpstreamModules: {
          const module = this.#nextModule(plan.upstreamResponseModules)
          if (module === null) { this.#step = Step.ResponseUpstream; continue }
          if (this.#waits(module.upstreamResponseFilter!(this, this.response!, this.moduleState(module)), wait)) return
          continue
        }
        case Step.ResponseUpstream:
          this.#step = Step.ResponseApp
          if (has.upstreamResponseFilter && this.#mayDecide(app.upstreamResponseFilter!(this, this.response!, this.ctx), wait)) return
          continue
        case Step.ResponseApp:
          if (this.#unwanted && this.#asksAnother()) return
          this.#moduleAt = 0
          this.#step = Step.ResponseModules
          if (has.responseFilter && this.#mayDecide(app.responseFilter!(this, this.response!, this.ctx), wait)) return
          continue
        case Step.ResponseModules: {
          const module = this.#nextModule(plan.responseModules)
          if (module === null) { this.#step = Step.SendResponse; continue }
          if (this.#waits(module.responseFilter!(this, this.response!, this.moduleState(module)), wait)) return
          continue
        }
        case Step.SendResponse:
          this.#step = Step.Streaming
          this.#sendResponse(this.#source!)
          return
        default:
          return
      }
    }
  }

  /** The next of `modules` in the current step; null behind the last one. */
  #nextModule(modules: readonly HttpModule[] | null): HttpModule | null {
    if (modules !== null && this.#moduleAt < modules.length) return modules[this.#moduleAt++]!
    this.#moduleAt = 0
    return null
  }

  /** True when the steps have gone on without the hook that gave `result`. */
  #wentOn(result: unknown, wait: number): boolean {
    if (wait === this.#waitingFor) return false
    if (isPromise(result)) result.then(undefined, () => { /* Nobody waits for it. */ })
    return true
  }

  /** True when the result is a promise: the loop goes on when it settles. */
  #waits(result: unknown, wait: number): boolean {
    if (this.#wentOn(result, wait)) return true
    if (!isPromise(result)) return false
    this.#await(result)
    return true
  }

  /** A hook that has to say how it goes on. True when it says so later. */
  #decides(verdict: unknown, wait: number): boolean {
    if (this.#wentOn(verdict, wait)) return true
    if (isPromise(verdict)) return this.#decidesLater(verdict, false)
    this.#checkVerdict(verdict, false)
    return false
  }

  /** A hook that may answer, and need not say that it did not. */
  #mayDecide(verdict: unknown, wait: number): boolean {
    if (this.#wentOn(verdict, wait)) return true
    if (isPromise(verdict)) return this.#decidesLater(verdict, true)
    if (typeof verdict === 'string') this.#checkVerdict(verdict, true)
    return false
  }

  #decidesLater(verdict: Promise<unknown>, tacit: boolean): true {
    const wait = this.#waitingFor + 1
    this.#await(Promise.resolve(verdict).then(value => { if (wait === this.#waitingFor) this.#checkVerdict(value, tacit) }))
    return true
  }

  /** Words and deeds must agree. `tacit`: whatever is no verdict says nothing. */
  #checkVerdict(verdict: unknown, tacit: boolean): void {
    const answered = this.#own !== null
    if (verdict === 'responded') {
      if (!answered) throw new Error(`it said 'responded' without session.respond(); return what that returns, or 'continue'`)
    } else if (verdict === 'retry') this.#checkRetry(answered)
    else if (tacit) return
    else if (verdict !== 'continue') {
      const remedy = answered ? 'return what session.respond() returned' : "use 'continue' or 'responded'"
      throw new TypeError(`it returned ${showValue(verdict)}; ${remedy}`)
    }
    else if (answered) throw new Error(`it called session.respond() and then said 'continue'; return what that returned`)
  }

  #checkRetry(answered: boolean): void {
    if (this.#step !== Step.ResponseApp) {
      throw new TypeError(`it returned 'retry', which upstreamResponseFilter of the application may; throw an error`)
    }
    if (answered) throw new Error(`it called session.respond() and then said 'retry'; do one of the two`)
    this.#unwanted = true
  }

  /** Also of what is only like a promise: never within this call. */
  #await(promise: Promise<unknown>): void {
    const wait = this.#beginWait()
    Promise.resolve(promise).then(
      () => { if (this.#endWait(wait)) this.#advance() },
      (thrown: unknown) => { if (this.#endWait(wait)) this.#attemptFailed(asProxyError(thrown, this.#lastHook())) },
    )
  }

  #beginWait(): number {
    ;(this.#watch ??= new HookWatch(this.#host, this)).begin()
    return ++this.#waitingFor
  }

  /** Whether the exchange still waits for it. */
  #endWait(wait: number): boolean {
    if (wait !== this.#waitingFor || this.#ended) return false
    this.#watch!.end()
    return true
  }

  onHookLate(): void {
    // The client is late, or slow, and has limits of its own.
    if (this.#body !== null && this.#body.reading) {
      this.#watch!.begin()
      return
    }
    const error = hookLate(this.#lastHook(), this.#host)
    this.#waitingFor++
    this.#abortHooks(error)
    if (this.#step === Step.Failing) this.#pageFailed(error)
    else this.#attemptFailed(error)
  }

  onBodyRead(): void { if (this.#watch !== null && this.#watch.tickIndex !== -1) this.#watch.begin() }

  /** The hook that the steps called last, as messages name it. */
  #lastHook(): string {
    const ofModules = HOOK_OF_MODULES[this.#step]
    if (this.#moduleAt > 0 && ofModules !== undefined) return hookOfModule(ofModules[1], this.#plan[ofModules[0]]![this.#moduleAt - 1]!)
    return HOOK_BEFORE[this.#step] ?? 'the proxy itself'
  }

  /** What holds before any hook sees the request. False when it was refused. */
  #admitsRequest(): boolean {
    const { request } = this, { headers } = request
    if (this.#down.targetUnusual) {
      const target = normalizeTarget(request.target, this.#host.pathNormalization)
      if (target === null) {
        const limit = 'bad-head'
        this.#fail(new ProxyError('BAD_HEAD', 'downstream', 'a target that could be read in two ways', { status: 400, limit }))
        return false
      }
      request.target = target
    }
    if (request.method === 'TRACE') {
      // Its answer shows the request to whoever asked: cookies and what proxies on the way add to it (RFC 9110 9.3.8).
      this.#fail(new ProxyError('METHOD_NOT_ALLOWED', 'downstream', 'TRACE is not passed on', { status: 405 }))
      return false
    }
    if (!this.#facts.trusted && (headers.mask & FORWARDED_FIELDS) !== 0) stripForwarded(headers)
    this.#host.forwarded.stripOwn(headers)
    if (this.#host.forwarded.loops.isOn(headers)) {
      // Whoever sends the mark can bring this about, so it is no fault of ours.
      this.#fail(new ProxyError('LOOP_DETECTED', 'downstream', 'the request came through here before'))
      return false
    }
    return true
  }

  /** False when the body is announced larger than it may be. Hooks may have set another limit. */
  #admitsBody(): boolean {
    const { requestBodyLength, limits } = this.#down
    const excess = requestBodyLength <= 0 ? null : announcedTooLarge(requestBodyLength, limits)
    if (excess !== null) this.#fail(excess)
    return excess === null
  }

  #giveOriginTime(call: GrpcCall, session: UpstreamSession): void {
    session.times = call.originTimes(session.times, this.#down.limits)
  }

  #limitOrigin(given: SessionLimits): void {
    const session = this.#attempt === null ? null : this.#attempt.session
    if (session !== null) session.times = originTimesWith(session.times, given)
  }

  /** False when the client asked nobody behind us (RFC 9110 9.3.7), and no filter knew better. */
  #passesOptionsOn(): boolean {
    try {
      return mayPassOn(this.request.headers)
    } catch (thrown) {
      throw new ProxyError('BAD_HEAD', 'downstream', (thrown as Error).message, { limit: 'bad-head' })
    }
  }

  // ---- reaching the upstream

  /** True when the peer is a promise. */
  #choosesPeer(wait: number): boolean {
    this.attempts++
    this.#attempt = this.#chosen = null
    const peer = this.#plan.app.upstreamPeer(this, this.ctx)
    if (isPromise(peer)) {
      const goesOn = wait === this.#waitingFor
      const taken = Promise.resolve(peer).then(value => this.#takePeerOf(value, goesOn ? wait + 1 : wait))
      if (!this.#wentOn(taken, wait)) this.#await(taken)
      return true
    }
    this.#takePeerOf(peer, wait)
    return wait !== this.#waitingFor
  }

  #takePeerOf(peer: Peer | 'responded', wait: number): void {
    if (wait === this.#waitingFor) this.#takePeer(peer)
    // Chosen for an exchange that is over: it was an attempt all the same, without a verdict.
    else if (typeof peer === 'object' && peer !== null) tellPeer(this.#host, peer, null)
  }

  #takePeer(peer: Peer | 'responded'): void {
    if (peer !== 'responded') {
      this.#chosen = peer
      return
    }
    this.#checkVerdict(peer, true)
    this.attempts--
  }

  #beginAttempt(): Attempt {
    const peer = this.#chosen
    this.#chosen = null
    if (peer === null || peer === undefined || typeof peer.reuseKey !== 'string' || typeof peer.options !== 'object') {
      throw new TypeError(`it returned ${showValue(peer)}; use a peer, such as new HttpPeer('127.0.0.1:8080')`)
    }
    const tracers = this.#alsoRecording(this.#host.tracersFor(peer))
    const trace = tracers === null || !tracers.watchesExchanges ? null : this.#traceAttempt(peer, tracers)
    return this.#attempt = new Attempt(this.#host, peer, this, tracers, trace)
  }

  /** Those who watch, and the one who records this request. */
  #alsoRecording(tracers: TracerGroup | null): TracerGroup | null {
    return this.trace === null ? tracers : (tracers ?? NO_TRACERS).with(this.#host.recording!.tracer)
  }

  #traceAttempt(peer: Peer, tracers: TracerGroup): AttemptTrace | null {
    if (this.#facts.selfTest) return null
    this.#watched ??= new ExchangeTrace(this, null, this.#host.clock)
    return this.#watched.attempt(peer, tracers)
  }

  onAttemptConnected(): void {
    this.#step = Step.Connected
    this.#advance()
  }

  onAttemptUnconnected(error: ProxyError): void {
    const peer = this.#attempt!.peer
    // Also where our own limit said no: the next attempt had better go elsewhere.
    ;(this.#tried ??= []).push(peer)
    let final = error
    if (this.#plan.has.failToConnect) {
      this.#step = Step.Judging
      try {
        final = chosenFault(this.#plan.app.failToConnect!(this, peer, error, this.ctx), error)
      } catch (thrown) {
        final = asProxyError(thrown, 'failToConnect')
      }
    }
    this.#retryOrFail(final, true)
  }

  #send(attempt: Attempt): void {
    const plan = this.#plan, down = this.#down
    let request = this.#upstreamRequest!
    if ((request.headers.mask & MERGED_FIELDS) !== 0 && request === this.request) request = this.#upstreamRequest = request.clone()
    request.check()
    const declared = down.requestBodyLength, stage = plan.requestBody === null || declared === 0 ? null : plan.requestBody.for(this, false)
    const length = declared > 0 && stage !== null && !stage.keepsLength ? BODY_UNKNOWN : declared
    const lines = this.#host.forwarded.linesFor(request, this.#facts, this)
    const asks = down.wantsSwitch && attempt.peer.options.upgrades
    const switchesTo = asks ? offeredProtocols(request.headers, this.#host.upgrades) : ''
    const acceptsTrailers = down.acceptsTrailers || (this.#call !== null && isPlainGrpc(request.headers))
    attempt.send(request, length, lines, switchesTo, acceptsTrailers, plan.sendsAtOnce)
    if (declared === 0) attempt.session?.endRequest(null)
    else this.#requestBody().sendTo(attempt, stage)
  }

  onRequestBody(buffer: Buffer, from: number, to: number): void { this.#body?.chunk(buffer, from, to) }
  onRequestEnd(trailers: HeaderMap | null): void { this.#body?.end(trailers) }
  onUpstreamDrained(): void { this.#body?.originDrained() }

  // ---- the response of the origin

  onInterim(head: ResponseHead): void {
    if (head.status === 100) {
      this.#body?.continueNow()
      return
    }
    if (this.#plan.has.interimResponseFilter) {
      try {
        const result = atOnce(this.#plan.app.interimResponseFilter!(this, head, this.ctx))
        if (result === 'drop') return
        checkInterim(head.check().status)
      } catch (thrown) {
        this.#attemptFailed(asProxyError(thrown, 'interimResponseFilter'))
        return
      }
    }
    this.#down.writeInterim(head)
    // A client that does not take them is given no more of them to queue.
    if (this.#down.bytesQueued > 0) this.#attempt!.pause()
  }

  onResponseHead(head: ResponseHead, length: number): void {
    const attempt = this.#attempt!
    this.#body?.answered()
    this.response = head
    this.#source = attempt
    this.#responseStage = this.#plan.responseBody.origin
    this.#responseLength = length
    this.#step = ENTRY.origin
    this.#advance()
    // A head filter waits: what follows is held back.
    if (this.#source === attempt && attempt.session !== null && !this.#down.responseStarted && !this.#ended) this.#pipeResponse()
  }

  #pipeResponse(): void {
    const source = this.#source!
    this.#responsePipe ??= new ResponsePipe(this, source, this.#down, this.#host)
  }

  // ---- the response to the client, wherever it comes from

  #sendResponse(source: ResponseSource): void {
    const head = this.response!, own = this.#own
    head.check()
    if (this.#responseLength === BODY_TUNNEL) {
      this.#openTunnel(head)
      return
    }
    if (head.status < 200 || (own === null && this.request.method === 'CONNECT' && head.status < 300)) throw changedStatus(head)
    const isHead = this.request.method === 'HEAD', bodiless = isHead || head.status === 204 || head.status === 304
    const stage = this.#responseStage === null ? null : this.#stageOf(this.#responseStage, head, isHead)
    let length = this.#responseLength
    if (length === BODY_UNTIL_CLOSE) length = BODY_UNKNOWN
    if (stage !== null && !stage.keepsLength) {
      // What the filters make of a body is not known; a HEAD must not promise what a GET would not.
      length = bodiless ? 0 : BODY_UNKNOWN
      if (isHead) head.headers.delete('content-length')
    }
    this.#down.writeHead(head, length, own === null ? this.#host.forwarded.linesForResponse(head) : FieldLines.NONE)
    if (this.#ended) return
    if (own !== null && bodiless) {
      this.endResponse(null)
      return
    }
    if (stage !== null && !bodiless) this.#pipeResponse()
    if (this.#responsePipe === null) source.resume()
    else this.#responsePipe.open(stage)
  }

  /** The filters that this response passes. */
  #stageOf(stage: BodyStage<PhaseSubject<Ctx>>, { headers }: ResponseHead, isHead: boolean): BodyStage<PhaseSubject<Ctx>> | null {
    // The answer of an origin to HEAD has no bytes, and says how many GET would have.
    const isEmpty = this.#own === null && isHead ? headers.contentLength() === 0 : this.#responseLength === 0
    try {
      return stage.for(this, isEmpty)
    } catch (thrown) {
      // The page would ask the modules again.
      this.#skipsModules = true
      throw thrown
    }
  }

  onResponseBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    const down = this.#down, pipe = this.#responsePipe
    if (pipe === null) {
      down.writeBody(buffer, from, to, owned)
      if (down.bytesQueued > 0) this.#source!.pause()
      return
    }
    if (owned) {
      pipe.chunk(buffer, from, to)
      return
    }
    // The pipe holds a chunk for longer than this call.
    const copy = copyWithReserve(buffer, from, to)
    pipe.chunk(copy, BUFFER_RESERVE, copy.length - BUFFER_RESERVE)
  }

  onResponseEnd(trailers: HeaderMap | null): void {
    if (this.#responsePipe !== null) {
      this.#responsePipe.end(trailers)
      return
    }
    // The client has not taken the last piece yet: its buffer stays with that write, the connection is free.
    if (this.#down.bytesQueued > 0) this.#source!.giveUpBuffer()
    this.endResponse(trailers)
  }

  onSourceFailed(thrown: unknown, what: string): void {
    if (this.#ended) return
    const error = asProxyError(thrown, what)
    if (error.kind === 'HOOK_TIMEOUT') this.#abortHooks(error)
    this.#attemptFailed(error)
  }

  /** The whole response was handed to the client's session. */
  endResponse(trailers: HeaderMap | null): void {
    if (this.#ended) return
    this.#down.endResponse(trailers)
    for (const module of this.#plan.doneModules ?? []) {
      try {
        atOnce(module.responseDone!(this, this.moduleState(module)))
      } catch (thrown) {
        this.error ??= asProxyError(thrown, hookOfModule('responseDone', module))
      }
    }
    this.#finish()
  }

  onDownstreamDrained(): void {
    if (this.#responsePipe !== null) this.#responsePipe.drained()
    else if (this.#step === Step.Streaming) this.#source!.resume()
    else if (this.#step === Step.Relaying) this.#attempt!.resume()
  }

  /** A body filter threw: before the response that is an ordinary fault, within it the answer is cut. */
  pipeFailed(thrown: unknown, hook: string): void {
    if (this.#ended) return
    const error = asProxyError(thrown, hook)
    if (error.kind === 'HOOK_TIMEOUT') this.#abortHooks(error)
    this.#dropAttempt()
    this.#attemptFailed(error)
  }

  // ---- upgraded

  #openTunnel(head: ResponseHead): void {
    const attempt = this.#attempt!
    if (head.status !== attempt.status) throw changedStatus(head)
    this.#down.writeHead(head, BODY_TUNNEL, this.#host.forwarded.linesForResponse(head))
    this.#step = Step.Tunnel
    const client = this.#down.detach(), origin = attempt.detach()
    const webSocket = this.request.method !== 'CONNECT' && asciiLower(head.headers.getKind(FieldKind.Upgrade) ?? '') === 'websocket'
    const { ticker, tunnelIdleTimeoutMs } = this.#host
    this.#tunnel = new Tunnel(client, origin, this, ticker, { webSocket, idleTimeoutMs: tunnelIdleTimeoutMs })
    this.#host.tunnelOpened(this.#tunnel)
  }

  onTunnelClosed(fromClient: number, fromOrigin: number, error: Error | null): void {
    this.#host.tunnelClosed(this.#tunnel!)
    if (error !== null) this.error ??= new ProxyError('CONNECTION_RESET', 'downstream', 'the upgraded connection broke', { cause: error })
    this.#bytesIn = fromClient
    this.#bytesOut = fromOrigin
    this.#attempt!.trace?.tunnelled(fromClient, fromOrigin)
    this.#finish()
  }

  // ---- answers of our own

  #takeAnswer(given: OwnAnswer): void {
    const call = this.#call, answer = call !== null && isHttpFailure(given.head) ? this.#inGrpc(call, given) : given
    this.response = answer.head
    this.#source = this.#own = answer
    this.#responseStage = this.#plan.responseBody.own
    this.#responseLength = answer.length
  }

  #inGrpc(call: GrpcCall, answer: OwnAnswer): OwnAnswer {
    this.#httpStatus = answer.head.status
    const head = trailersOnly(answer.head, call.mediaType, answer.bytes)
    answer.cancel()
    return new OwnAnswer(head, null, this, this.#host)
  }

  /** There is an answer of our own: it is sent, through the modules. */
  #answered(): void {
    this.#moduleAt = 0
    this.#step = this.#skipsModules ? Step.SendResponse : ENTRY.own
    if (this.#skipsModules) this.#responseStage = null
  }

  // ---- faults

  onDownstreamFault(error: ProxyError): void {
    if (this.#ended) return
    this.#gone = error
    this.#abortHooks(error)
    this.#body?.fail(error)
    this.#stopWaiting()
    this.#dropAttempt()
    this.#fail(error)
  }

  /** Nobody waits for an answer that is not there yet. One that is, an error page included, the client may still read. */
  onDownstreamHalfClosed(): void {
    this.#halfClosed = true
    if (this.#ended || this.#failing || this.response !== null) return
    this.onDownstreamFault(new ProxyError('CLIENT_GONE', 'downstream', 'the client sent its FIN before there was an answer', {
      limit: 'half-close',
    }))
  }

  onCallLate(error: ProxyError): void { this.onDownstreamFault(error) }

  onUpstreamFault(error: ProxyError): void {
    if (this.#ended) return
    const attempt = this.#attempt!
    if (attempt.failed) (this.#tried ??= []).push(attempt.peer)
    this.#attemptFailed(error, error.retry === 'always')
  }

  /** @param untouched it is known that the origin did nothing with the request */
  #attemptFailed(error: ProxyError, untouched = false): void {
    if (this.#ended) return
    // With every backend tried, the last real fault is the better answer.
    let final = error.kind === 'NO_HEALTHY_BACKEND' && this.#earlierError !== null ? this.#earlierError : error
    const attempt = this.#attempt
    if (attempt !== null && error.source !== 'downstream' && this.#plan.has.errorWhileProxy && !this.#failing) {
      this.#skipsModules = this.#blamesModule
      this.#step = Step.Judging
      try {
        const chosen = this.#plan.app.errorWhileProxy!(this, attempt.peer, final, this.ctx, attempt.reused)
        final = chosenFault(chosen, final)
      } catch (thrown) {
        final = asProxyError(thrown, 'errorWhileProxy')
      }
    }
    this.#retryOrFail(final, untouched)
  }

  #retryOrFail(error: ProxyError, untouched: boolean): void {
    this.#dropAttempt()
    this.#stopWaiting()
    const attempt = this.#attempt
    const lost = attempt === null ? null : attempt.lost
    if (attempt === null || !this.#mayRetry(attempt, error, untouched)) {
      // No further attempt will show whether it was the connection.
      if (lost !== null) this.#host.connector.pool.closeRested(lost.reuseKey, lost.parkedBy, false)
      this.#fail(error)
      return
    }
    // A pooled connection that was lost is replaced once; that multiplies no outage, and many are lost at the same time.
    if (lost !== null) this.#lost = lost
    else if (!this.#host.retryBudget.take(attempt.peer.options.retryBudgetPercent)) {
      this.#budgetSpent = true
      this.#fail(error)
      return
    }
    this.#tryAgain(attempt, error, lost)
  }

  /** False when no other answer may be asked for: then the client gets this one. */
  #asksAnother(): boolean {
    this.#unwanted = false
    const attempt = this.#attempt!, { status } = attempt
    const error = new ProxyError('STATUS', 'upstream', `upstreamResponseFilter wants another answer than ${status}`, {
      status: status < 400 ? 0 : status, retry: 'always',
    })
    if (!this.#mayRetry(attempt, error, false) || !this.#host.retryBudget.take(attempt.peer.options.retryBudgetPercent)) return false
    this.#dropAttempt()
    this.#stopWaiting()
    this.#tryAgain(attempt, error, null)
    return true
  }

  /** @param lost the connection that failed instead of the origin; null: it was none */
  #tryAgain(attempt: Attempt, error: ProxyError, lost: LostConnection | null): void {
    if (this.#halfClosed) {
      // The answer that its client might have read is given up, and nobody waits for another one.
      this.response = this.#source = null
      this.onDownstreamHalfClosed()
      return
    }
    attempt.settle(null)
    // An answer that the application does not want: the next attempt had better go elsewhere.
    if (this.response !== null) (this.#tried ??= []).push(attempt.peer)
    this.response = this.#source = null
    // That a pooled connection was gone is nothing to be told.
    if (lost === null) this.#host.attemptRetried(attempt.peer, error, this)
    this.#earlierError = error
    this.#step = Step.Retrying
    const delay = retryDelayMs(this.attempts, this.#host.clock.random())
    attempt.ended(error, true)
    if (attempt.trace !== null) this.#watched!.retried(attempt.trace, error, delay)
    // Not from within the failing call: a fault that comes at once must not recurse.
    if (delay === 0) queueMicrotask(() => this.#retry())
    else this.#cancelRetry = this.#host.clock.after(delay, () => this.#retry())
  }

  #retry(): void {
    this.#cancelRetry = null
    if (this.#step !== Step.Retrying) return
    this.#step = Step.Peer
    this.#advance()
  }

  /** Whatever a hook says: nothing that must not happen twice is sent twice (RFC 9110 9.2.2). */
  #mayRetry(attempt: Attempt, error: ProxyError, untouched: boolean): boolean {
    if (this.#failing || this.#down.responseStarted || this.#own !== null || error.retry === 'never') return false
    if (error.retry === 'if-reused' && !attempt.reused) return false
    if (attempt.sent && !untouched && !isIdempotent(this.#upstreamRequest!.method)) return false
    if (this.attempts >= attempt.peer.options.maxAttempts) return false
    // What was sent of the body must be there to be sent again.
    return this.#body === null || this.#body.repeatable
  }

  /** Whatever is pending no longer moves this exchange. */
  #stopWaiting(): void {
    this.#waitingFor++
    this.#watch?.end()
    this.#cancelRetry?.()
    this.#cancelRetry = null
    this.#body?.holdBack()
    this.#endResponsePipe()
  }

  #endResponsePipe(): void {
    this.#responsePipe?.stop()
    this.#responsePipe = null
  }

  #dropAttempt(): void { this.#attempt?.drop() }

  get #blamesModule(): boolean { return this.#step === Step.ResponseModules && this.#moduleAt > 0 }

  /** Nothing more will be tried. */
  #fail(error: ProxyError): void {
    if (this.#ended) return
    if (this.#failing) {
      this.#cut(error)
      return
    }
    this.#failing = true
    if (this.#blamesModule) this.#skipsModules = true
    this.error = error
    this.#attempt?.ended(error, false)
    this.#step = Step.Failing
    if (this.#down.responseStarted || statusOf(error) === 0) {
      this.#cut(error)
      return
    }
    this.#forgetAnswer()
    if (!this.#plan.has.failToProxy) {
      this.#failed(undefined)
      return
    }
    try {
      const result = this.#plan.app.failToProxy!(this, error, this.ctx)
      if (!isPromise(result)) {
        this.#failed(result)
        return
      }
      const wait = this.#beginWait()
      Promise.resolve(result).then(
        value => { if (this.#endWait(wait)) this.#failed(value) },
        (thrown: unknown) => { if (this.#endWait(wait)) this.#pageFailed(thrown) },
      )
    } catch (thrown) {
      this.#pageFailed(thrown)
    }
  }

  /** The hook that answers faults failed itself: the default page tells the client. */
  #pageFailed(thrown: unknown): void {
    this.#host.hookFailed('failToProxy', thrown, this)
    this.#forgetAnswer()
    this.#failed(undefined)
  }

  /** What a filter had answered with gives way to an error page. */
  #forgetAnswer(): void {
    this.#own?.cancel()
    this.#source = this.#own = null
    this.response = null
    this.#httpStatus = 0
  }

  #failed(given: FailToProxy | void): void {
    if (this.#ended) return
    const down = this.#down, error = this.error!, result = typeof given === 'object' && given !== null ? given : undefined
    const reusable = result === undefined ? error.source !== 'downstream' && down.requestEnded : result.canReuseDownstream
    if (!reusable) down.refuseReuse()
    if (this.#source === null) {
      if (result !== undefined && result.status === 0) {
        this.#cut(error)
        return
      }
      const wanted = result?.status ?? statusOf(error)
      const retryAfter = error.kind === 'OVERLOADED' ? OVERLOAD_RETRY_AFTER_S : 0
      const page = errorPage(isFinalStatus(wanted) ? wanted : 500, this.#host.showsRequestId ? this.requestId : '', retryAfter)
      this.#takeAnswer(new OwnAnswer(page.head, page.body, this, this.#host))
    }
    this.#answered()
    this.#advance()
  }

  /** The last one; null: there was none. The clock is looked at once for both where they end together. */
  #endAttempt(attempt: Attempt | null): void {
    const { timed, clock } = this.#host
    if (attempt === null) {
      if (timed) this.endedAt = clock.exact()
      return
    }
    const endedBefore = attempt.endedAt !== 0
    attempt.finish(this.error === null, this.#plan.answersAtOnce)
    attempt.ended(this.error, false)
    if (timed) this.endedAt = endedBefore || attempt.endedAt === 0 ? clock.exact() : attempt.endedAt
  }

  #cut(error: ProxyError): void {
    if (this.#ended) return
    this.error ??= error
    const down = this.#down, draining = error.kind === 'DRAINING'
    if (draining && down.endsByMark && this.response !== null && endsAnywhere(this.response)) down.endResponse(null)
    // What a client brings about, or has no time for, is no fault of ours.
    else down.abort(draining || error.source === 'downstream')
    this.#finish()
  }

  /** Exactly once, last. */
  #finish(): void {
    if (this.#ended) return
    const down = this.#down, host = this.#host, { app, has } = this.#plan
    this.#bytesIn += down.bodyBytesIn
    this.#bytesOut += down.bodyBytesOut
    this.#responded = down.responseStarted
    this.#step = Step.Ended
    if (this.#abort !== null) this.#abortHooks(this.error ?? overNow())
    this.#waitingFor++
    this.#watch?.end()
    this.#call?.end()
    this.#cancelRetry?.()
    this.#body?.close()
    this.#endResponsePipe()
    this.#own?.cancel()
    if (this.#chosen !== null && this.#chosen !== undefined) tellPeer(this.#host, this.#chosen, null)
    this.#endAttempt(this.#attempt)
    host.exchangeEnded(this)
    this.#watched?.ended()
    host.counting?.exchangeOver(this)
    if (has.logging) {
      try {
        const result = app.logging!(this, this.error, this.ctx)
        if (isPromise(result)) result.then(undefined, (thrown: unknown) => host.hookFailed('logging', thrown, this))
      } catch (thrown) {
        host.hookFailed('logging', thrown, this)
      }
    }
    if (has.persistConnectionContext) {
      try {
        this.#facts.kept = atOnce(app.persistConnectionContext!(this, this.ctx))
      } catch (thrown) {
        host.hookFailed('persistConnectionContext', thrown, this)
      }
    }
    down.release()
  }
}

/**
 * An event stream has no end of its own: its readers drop an event that is not whole, and come back for the next one (HTML 9.2.6).
 * Within a coding the end would be a fault.
 */
function endsAnywhere({ headers }: ResponseHead): boolean {
  const type = asciiLower(headers.get('content-type') ?? '')
  return /^text\/event-stream[ \t]*(?:;|$)/.test(type) && !headers.has('content-encoding')
}

/** The reason of a signal when nothing is wrong. */
function overNow(): DOMException { return new DOMException('the exchange is over', 'AbortError') }

/** The result of a hook that nothing waits for. A promise is refused, and what becomes of it is of no interest. */
function atOnce<T>(result: T): T {
  if (!isPromise(result)) return result
  result.then(undefined, () => { /* It was refused. */ })
  throw new TypeError('it returned a promise; its result is needed at once')
}

/** The fault that a hook put in the place of `error`. */
function chosenFault(result: ProxyError | void, error: ProxyError): ProxyError {
  if (result === undefined || result === null) return error
  if (atOnce(result) instanceof ProxyError) return result
  throw new TypeError(`it returned ${showValue(result)}; use a ProxyError, or nothing`)
}

function changedStatus(head: ResponseHead): TypeError {
  return new TypeError(`a filter made a status of ${head.status}, which says something else about what follows`)
}

function checkInterim(status: number): void {
  if (status < 102 || status > 199) throw new TypeError(`interim status ${status} is not between 102 and 199`)
}

/** Whether a page can be sent with it. */
function isFinalStatus(status: unknown): status is number {
  return typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 999
}

function toHeaders(fields: ResponseFields): HeaderMap { return fields instanceof HeaderMap ? fields : HeaderMap.from(fields) }
