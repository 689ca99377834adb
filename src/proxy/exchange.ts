/**
 * One request on its way through the phases: a downstream session joined to its upstream sessions, retries included.
 * README.md in this folder draws it; session.ts is the face that hooks see.
 *
 *   Request ─▶ Peer ─▶ Connecting ─▶ Sending ─▶ Relaying ─▶ Ended
 *      │         ▲         │            │           │
 *      │         └─ retry ─┴────────────┘           ├─▶ Tunnel ─▶ Ended
 *      └─ responded ─▶ Answering ─▶ Ended           └─ fault after the head: the client's connection is cut
 *                         ▲
 *      any fault before a response began: failToProxy
 *
 * The engine is a loop over steps that stops only where a hook gave a promise or a connection is awaited, so a request
 * that nobody delays runs from head to upstream in one call. It is answered at most once and logged exactly once.
 * An object serves one request and is then left to whoever kept it: a hook that holds on to a session never sees another's.
 */
import { asProxyError, ProxyError } from '../errors/proxy-error.ts'
import { asciiLower, FieldKind, HeaderMap } from '../http/header-map.ts'
import { FORWARDED_FIELDS } from '../http/hop-by-hop.ts'
import { isIdempotent, ResponseHead, type RequestHead } from '../http/message-head.ts'
import { normalizeTarget } from '../http/target-path.ts'
import type { HttpModule } from '../modules/http-module.ts'
import type { Peer } from '../peer/peer.ts'
import { BUFFER_RESERVE, copyWithReserve, type StreamDigest } from '../protocols/byte-stream.ts'
import { TEXT_RUN_MAX } from '../protocols/http1/body.ts'
import { BODY_UNKNOWN, BODY_UNTIL_CLOSE, type DownstreamOwner, type DownstreamSession, type UpstreamOwner, type UpstreamSession } from '../protocols/http-session.ts'
import { checkUpgradeRequest, checkUpgradeResponse } from '../protocols/websocket/handshake.ts'
import type { PendingAcquire, SessionWaiter } from '../connector/http-connector.ts'
import type { ExchangeHost } from './exchange-host.ts'
import { chain, type PieceFilter } from './body-filters.ts'
import { errorPage, flagOf, statusOf, type Flag } from './fail-to-proxy.ts'
import { MERGED_FIELDS, stripForwarded, type ConnectionFacts } from './forwarded-fields.ts'
import { isPromise, type PhasePlan } from './phases.ts'
import type { BodyResult, FailToProxy, Verdict } from './proxy-http.ts'
import { BodyPipe, type PipeEnds } from './relay.ts'
import type { ResponseBody, ResponseFields, Session } from './session.ts'
import { Tunnel, type TunnelOwner } from './tunnel.ts'

/** Steps of the request, in their order; each is left before its hook is called, so that a promise resumes behind it. */
const Step = {
  Normalize: 0, Early: 1, Modules: 2, Request: 3, Upstream: 4, UpstreamVerdict: 5, Peer: 6, PeerChosen: 7, Connected: 8, CopyRequest: 9, Send: 10,
  /** Waits for the origin, or for nothing any more. */
  Wait: 11,
  ResponseHead: 12, ResponseUpstream: 13, ResponseApp: 14, ResponseModules: 15, SendResponse: 16,
} as const
type Step = (typeof Step)[keyof typeof Step]

const NOTHING = Buffer.alloc(0)

export class Exchange<Ctx> implements Session, DownstreamOwner, UpstreamOwner, SessionWaiter, TunnelOwner {
  readonly #host: ExchangeHost<Ctx>
  readonly #plan: PhasePlan<Ctx>
  readonly #down: DownstreamSession
  readonly #facts: ConnectionFacts
  readonly request: RequestHead
  readonly startedAt: number
  #ctx!: Ctx
  #requestId = ''
  #step: Step = Step.Normalize
  #ended = false
  /** What the last verdict hook said. */
  #verdict: Verdict = 'continue'
  /** Module whose hook comes next in the current step. */
  #moduleAt = 0
  /** Number of the promise that the steps wait for: one of an attempt that failed meanwhile must not move the next one. */
  #waitingFor = 0

  response: ResponseHead | null = null
  error: ProxyError | null = null
  #failing = false
  #tried: Peer[] | null = null
  attempts = 0

  peer: Peer | null = null
  #pending: PendingAcquire | null = null
  #up: UpstreamSession | null = null
  upstreamReused = false
  #upstreamRequest: RequestHead | null = null
  #cancelRetry: (() => void) | null = null
  #cancelContinue: (() => void) | null = null

  /** Request body seen so far, as long as all of it is kept; null once too much went by. */
  #replay: Buffer[] | null = null
  #replayBytes = 0
  #bodyBegun = false
  #requestEnded = false
  #requestTrailers: HeaderMap | null = null
  #requestPipe: BodyPipe | null = null
  #collecting: { max: number; resolve: (body: Buffer) => void; reject: (error: ProxyError) => void } | null = null

  #responseLength = 0
  /** The origin's answer opens a tunnel. */
  #switches = false
  #responsePipe: BodyPipe | null = null
  /** The answer comes from a filter or an error page, not from the origin. */
  #own = false
  #states: Map<HttpModule, unknown> | null = null
  #tunnel: Tunnel | null = null
  /** As they were at the end: the downstream session goes on to other requests. */
  #bytesIn = 0
  #bytesOut = 0
  #responded = false
  #tunnelBytesIn = 0
  #tunnelBytesOut = 0
  /** Exact times, 0 until known; only taken when somebody reads them. */
  connectedAt = 0
  sentAt = 0
  firstByteAt = 0

  constructor(host: ExchangeHost<Ctx>, down: DownstreamSession, facts: ConnectionFacts) {
    this.#host = host
    this.#plan = host.plan
    this.#down = down
    this.#facts = facts
    this.request = down.request
    this.startedAt = host.timed ? host.clock.exact() : 0
  }

  // ---- what hooks see

  get requestId(): string { return this.#requestId === '' ? this.#requestId = this.#host.forwarded.requestIdFor(this.request, this.#facts) : this.#requestId }
  get listener(): string { return this.#down.listener }
  get clientIp(): string { return this.#facts.clientIp }
  get clientPort(): number { return this.#down.digest.remotePort }
  get digest(): StreamDigest { return this.#down.digest }
  get trusted(): boolean { return this.#facts.trusted }
  get isSelfTest(): boolean { return this.#facts.selfTest }
  get triedPeers(): readonly Peer[] { return this.#tried ?? [] }
  get upstreamDigest(): StreamDigest | null { return this.#up === null ? null : this.#up.digest }
  get bytesReceived(): number { return (this.#ended ? this.#bytesIn : this.#down.bodyBytesIn) + this.#tunnelBytesIn }
  get bytesSent(): number { return (this.#ended ? this.#bytesOut : this.#down.bodyBytesOut) + this.#tunnelBytesOut }
  get responded(): boolean { return this.#ended ? this.#responded : this.#down.responseStarted }
  get draining(): boolean { return this.#host.draining }
  get tunnel(): Tunnel | null { return this.#tunnel }
  /** The answer came from here, not from an origin. */
  get ownAnswer(): boolean { return this.#own }
  get flag(): Flag { return this.error === null ? '-' : flagOf(this.error) }
  get durationMs(): number { return this.startedAt === 0 ? 0 : this.#host.clock.exact() - this.startedAt }

  moduleState<State>(module: HttpModule<State>): State {
    const states = this.#states ??= new Map()
    let state = states.get(module as HttpModule)
    if (state === undefined && module.newState !== undefined) states.set(module as HttpModule, state = module.newState())
    return state as State
  }

  closeAfterResponse(): void { if (!this.#ended) this.#down.refuseReuse() }

  sendInterim(status: number, fields: ResponseFields): void {
    checkInterim(status)
    // The connection may have another request by now, of whoever shares it.
    if (!this.#ended) this.#down.writeInterim(ResponseHead.build(status, toHeaders(fields)))
  }

  // ---- the request

  /** Runs until the first wait. Called once, by the session. `refusal`: why this request is answered with an error instead. */
  begin(refusal: ProxyError | null): void {
    const plan = this.#plan
    try {
      this.#ctx = atOnce(plan.app.newCtx(), 'newCtx')
      const kept = this.#facts.kept
      if (kept !== undefined) {
        this.#facts.kept = undefined
        atOnce(plan.app.onConnectionReuse?.(this, this.#ctx, kept), 'onConnectionReuse')
      }
    } catch (thrown) {
      this.#fail(asProxyError(thrown, 'newCtx or onConnectionReuse'))
      return
    }
    const { tracer } = this.#host
    if (tracer !== null && !this.#facts.selfTest) tracer.exchangeStarted?.(this.requestId, this.request.method, this.request.target)
    if (refusal === null) this.#advance()
    else this.#fail(refusal)
  }

  #advance(): void {
    try {
      this.#run()
    } catch (thrown) {
      this.#attemptFailed(asProxyError(thrown, 'a hook threw'))
    }
  }

  /** Goes on with the steps; returns where it has to wait. */
  #run(): void {
    const plan = this.#plan, app = plan.app, has = plan.has
    for (;;) {
      if (this.#ended) return
      switch (this.#step) {
        case Step.Normalize: {
          this.#step = Step.Early
          const refusal = this.#down.targetUnusual ? this.#normalize() : null
          // Before any hook: a client must not be able to name, and so remove, what a filter adds.
          if (this.#down.hopNames !== null) dropNamed(this.request.headers, this.#down.hopNames)
          if (!this.#facts.trusted && (this.request.headers.mask & FORWARDED_FIELDS) !== 0) stripForwarded(this.request.headers)
          if (refusal !== null || (this.request.headers.mask & (1 << FieldKind.Via)) !== 0 && this.#host.forwarded.seenBefore(this.request)) {
            this.#fail(refusal ?? new ProxyError('LOOP_DETECTED', 'internal', 'the request came through here before'))
            return
          }
          continue
        }
        case Step.Early:
          this.#step = Step.Modules
          if (has.earlyRequestFilter && this.#waits(app.earlyRequestFilter!(this, this.#ctx))) return
          continue
        case Step.Modules: {
          const modules = plan.requestModules
          if (this.#verdict === 'responded') { this.#answered(); return }
          if (modules === null || this.#moduleAt === modules.length) { this.#moduleAt = 0; this.#step = Step.Request; continue }
          const module = modules[this.#moduleAt++]!
          if (this.#decides(module.requestFilter!(this, this.moduleState(module)))) return
          continue
        }
        case Step.Request:
          this.#step = Step.Upstream
          if (has.requestFilter && this.#decides(app.requestFilter!(this, this.#ctx))) return
          continue
        case Step.Upstream:
          if (this.#verdict === 'responded') { this.#answered(); return }
          this.#step = Step.UpstreamVerdict
          if (has.proxyUpstreamFilter && this.#decides(app.proxyUpstreamFilter!(this, this.#ctx))) return
          continue
        case Step.UpstreamVerdict:
          if (this.#verdict === 'responded') { this.#answered(); return }
          this.#step = Step.Peer
          continue
        case Step.Peer: {
          if (this.#answer !== null) throw new Error(`a filter called session.respond() and then said 'continue'`)
          this.#step = Step.PeerChosen
          this.attempts++
          this.peer = null
          const peer = app.upstreamPeer(this, this.#ctx)
          if (isPromise(peer)) {
            const wait = this.#waitingFor + 1
            this.#await(peer.then(value => {
              if (wait === this.#waitingFor) this.peer = value
              // Chosen for an exchange that is over: it was an attempt all the same, without a verdict.
              else value?.release?.()
            }))
            return
          }
          this.peer = peer
          continue
        }
        case Step.PeerChosen: {
          const peer = this.peer
          if (peer === null || peer === undefined || typeof peer.reuseKey !== 'string' || typeof peer.options !== 'object') {
            this.peer = null
            throw new TypeError('upstreamPeer returned no Peer')
          }
          this.#step = Step.Wait
          const session = this.#host.connector.reuse(peer)
          if (session === null) {
            this.#pending = this.#host.connector.open(peer, this)
            return
          }
          this.#attach(session, true)
          continue
        }
        case Step.Connected:
          this.#step = Step.CopyRequest
          if (has.connectedToUpstream && this.#waits(app.connectedToUpstream!(this, { reused: this.upstreamReused, peer: this.peer!, digest: this.#up!.digest }, this.#ctx))) return
          continue
        case Step.CopyRequest:
          this.#step = Step.Send
          if (!has.upstreamRequestFilter) { this.#upstreamRequest = this.request; continue }
          this.#upstreamRequest = this.request.clone()
          if (this.#waits(app.upstreamRequestFilter!(this, this.#upstreamRequest, this.#ctx))) return
          continue
        case Step.Send:
          this.#step = Step.Wait
          this.#send()
          return
        case Step.ResponseHead:
          this.#step = Step.ResponseUpstream
          if (has.upstreamResponseFilter && this.#waits(app.upstreamResponseFilter!(this, this.response!, this.#ctx))) return
          continue
        case Step.ResponseUpstream:
          this.#step = Step.ResponseApp
          if (has.responseFilter && this.#waits(app.responseFilter!(this, this.response!, this.#ctx))) return
          continue
        case Step.ResponseApp:
          this.#moduleAt = 0
          this.#step = Step.ResponseModules
          continue
        case Step.ResponseModules: {
          const modules = plan.responseModules
          if (modules === null || this.#moduleAt === modules.length) { this.#step = Step.SendResponse; continue }
          const module = modules[this.#moduleAt++]!
          if (this.#waits(module.responseFilter!(this, this.response!, this.moduleState(module)))) return
          continue
        }
        case Step.SendResponse:
          this.#step = Step.Wait
          this.#sendResponseHead()
          return
        default:
          return
      }
    }
  }

  /** True when the result is a promise: the loop goes on when it settles. */
  #waits(result: unknown): boolean {
    if (!isPromise(result)) return false
    this.#await(result)
    return true
  }

  #decides(result: Verdict | Promise<Verdict>): boolean {
    if (!isPromise(result)) {
      this.#verdict = checkVerdict(result)
      return false
    }
    const wait = this.#waitingFor + 1
    this.#await(result.then(value => { if (wait === this.#waitingFor) this.#verdict = checkVerdict(value) }))
    return true
  }

  #await(promise: Promise<unknown>): void {
    const wait = ++this.#waitingFor
    promise.then(() => { if (wait === this.#waitingFor) this.#advance() }, thrown => { if (wait === this.#waitingFor && !this.#ended) this.#attemptFailed(asProxyError(thrown, 'a hook rejected')) })
  }

  #normalize(): ProxyError | null {
    const target = normalizeTarget(this.request.target, this.#host.pathNormalization)
    if (target === null) return new ProxyError('BAD_HEAD', 'downstream', 'a target that could be read in two ways', { status: 400, limit: 'bad-head' })
    this.request.target = target
    return null
  }

  // ---- reaching the upstream

  onSession(session: UpstreamSession, reused: boolean): void {
    this.#pending = null
    this.#attach(session, reused)
    this.#advance()
  }

  onSessionFailed(error: ProxyError): void {
    this.#pending = null
    const peer = this.peer!
    if (error.kind === 'POOL_QUEUE_FULL' || error.kind === 'POOL_QUEUE_TIMEOUT') {
      // Our own limit, which says nothing about the peer; the next attempt had better go elsewhere.
      this.#settlePeer(null)
      ;(this.#tried ??= []).push(peer)
    } else this.#settlePeer(false)
    let final = error
    if (this.#plan.has.failToConnect) {
      try { final = chosenFault(this.#plan.app.failToConnect!(this, peer, error, this.#ctx), error, 'failToConnect') } catch (thrown) { final = asProxyError(thrown, 'failToConnect') }
    }
    this.#retryOrFail(final)
  }

  #attach(session: UpstreamSession, reused: boolean): void {
    this.#up = session
    this.upstreamReused = reused
    if (this.#host.timed) this.connectedAt = this.#host.clock.exact()
    session.begin(this)
    this.#step = Step.Connected
  }

  #send(): void {
    const plan = this.#plan, down = this.#down, up = this.#up!
    let request = this.#upstreamRequest!
    if ((request.headers.mask & MERGED_FIELDS) !== 0 && request === this.request) request = this.#upstreamRequest = request.clone()
    if (request !== this.request || plan.has.requestFilter || plan.has.earlyRequestFilter || plan.requestModules !== null) request.check()
    const declared = down.requestBodyLength
    const length = declared > 0 && plan.filtersRequestBody && !plan.requestKeepsLength ? BODY_UNKNOWN : declared
    let upgrade = ''
    if (down.wantsUpgrade && this.#host.upgrades && checkUpgradeRequest(request.headers) === null) upgrade = request.headers.getKind(FieldKind.Upgrade) ?? ''
    let extra = this.#host.forwarded.textFor(request, this.#facts, this)
    // HTTP/1.0 allows a request without Host; what is sent on is HTTP/1.1, which does not.
    if (!request.headers.hasKind(FieldKind.Host)) extra += `Host: ${hostOf(this.peer!)}\r\n`
    if (down.acceptsTrailers && upgrade === '') extra += 'TE: trailers\r\nConnection: TE\r\n'
    up.writeHead(request, length, extra, null, upgrade)
    if (this.#host.timed) this.sentAt = this.#host.clock.exact()
    if (declared === 0) {
      up.endRequest(null)
      return
    }
    if (plan.filtersRequestBody) {
      this.#requestPipe = new BodyPipe(new RequestEnds(this, up), this.#host.clock, true)
    }
    if (this.#replay === null && !this.#bodyBegun) {
      this.#replay = this.peer!.options.maxReplayBytes > 0 ? [] : null
      this.#bodyBegun = true
    } else if (this.#replayBytes > 0) {
      // Filters may change a chunk in place: what is kept for another attempt is not shown to them.
      const body = this.#replay!.length === 1 && this.#requestPipe === null ? this.#replay![0]! : Buffer.concat(this.#replay!)
      if (this.#requestPipe !== null) this.#requestPipe.chunk(body, 0, body.length)
      else up.writeBody(body, 0, body.length)
      if (this.#up !== up) return
    }
    if (this.#requestEnded) {
      this.#passRequestEnd()
      return
    }
    if (down.awaitsContinue) {
      // The origin decides, for a while; then the client is told to go on anyway (RFC 9110 10.1.1).
      this.#cancelContinue = this.#host.clock.after(this.peer!.options.continueTimeoutMs, () => {
        this.#cancelContinue = null
        if (this.#ended) return
        down.sendContinue()
        this.#openRequest()
      })
      return
    }
    this.#openRequest()
  }

  #openRequest(): void {
    if (this.#requestPipe !== null) this.#requestPipe.open()
    else if (this.#up === null || this.#up.bytesQueued === 0) this.#down.resumeRequest()
  }

  onRequestBody(buffer: Buffer, from: number, to: number): void {
    if (this.#collecting !== null) {
      this.#collect(buffer, from, to)
      return
    }
    if (this.#replay !== null) this.#remember(buffer, from, to)
    if (this.#requestPipe !== null) {
      this.#requestPipe.chunk(buffer, from, to)
      return
    }
    const up = this.#up
    if (up === null) return
    up.writeBody(buffer, from, to)
    if (up.bytesQueued > 0) this.#down.pauseRequest()
  }

  onRequestEnd(trailers: HeaderMap | null): void {
    this.#requestEnded = true
    this.#requestTrailers = trailers
    if (this.#collecting !== null) {
      const { resolve } = this.#collecting
      this.#collecting = null
      resolve(Buffer.concat(this.#replay!))
      return
    }
    if (this.#up === null) return
    if (this.#requestPipe === null && this.#up.bytesQueued > 0) this.#down.giveUpBuffer()
    this.#passRequestEnd()
  }

  #passRequestEnd(): void {
    const pipe = this.#requestPipe
    if (pipe !== null) {
      // A filter that throws at the end takes the pipe away.
      pipe.end(this.#requestTrailers)
      pipe.open()
    } else this.#up!.endRequest(this.#requestTrailers)
  }

  /** Keeps a copy for a retry, as long as it stays small. */
  #remember(buffer: Buffer, from: number, to: number): void {
    this.#replayBytes += to - from
    if (this.#replayBytes > this.peer!.options.maxReplayBytes) this.#replay = null
    else this.#keep(buffer, from, to)
  }

  /** Adds a copy to what is kept. Small pieces are joined: a body of single bytes must not cost an object for each. */
  #keep(buffer: Buffer, from: number, to: number): void {
    const pieces = this.#replay!, last = pieces.length - 1, piece = buffer.subarray(from, to)
    if (last >= 0 && pieces[last]!.length + piece.length <= TEXT_RUN_MAX) pieces[last] = Buffer.concat([pieces[last]!, piece])
    else pieces.push(Buffer.from(piece))
  }

  readBody(maxBytes: number): Promise<Buffer> {
    if (this.#requestEnded && this.#replay !== null) return Promise.resolve(Buffer.concat(this.#replay))
    if (this.#bodyBegun || this.#up !== null || this.#ended) return Promise.reject(new Error('readBody: the body is already on its way to an upstream; call it in requestFilter'))
    this.#bodyBegun = true
    this.#replay = []
    const length = this.#down.requestBodyLength
    if (length === 0) {
      this.#requestEnded = true
      return Promise.resolve(NOTHING)
    }
    if (length > maxBytes) return Promise.reject(new ProxyError('BODY_TOO_LARGE', 'downstream', `request body of ${length} bytes, over ${maxBytes}`, { status: 413, limit: 'request-body-bytes' }))
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    this.#collecting = { max: maxBytes, resolve, reject }
    this.#down.sendContinue()
    this.#down.resumeRequest()
    return promise
  }

  #collect(buffer: Buffer, from: number, to: number): void {
    const collecting = this.#collecting!
    this.#replayBytes += to - from
    // Also the piece that is too much: an application may go on without having read the body, and then all of it goes on.
    this.#keep(buffer, from, to)
    if (this.#replayBytes > collecting.max) {
      this.#collecting = null
      this.#down.pauseRequest()
      collecting.reject(new ProxyError('BODY_TOO_LARGE', 'downstream', `request body over ${collecting.max} bytes`, { status: 413, limit: 'request-body-bytes' }))
    }
  }

  onUpstreamDrained(): void {
    if (this.#requestPipe !== null) this.#requestPipe.drained()
    else if (!this.#requestEnded && this.#bodyBegun && this.#cancelContinue === null && this.#up !== null) this.#down.resumeRequest()
  }

  // ---- the response of the origin

  onInterim(head: ResponseHead): void {
    if (this.#host.timed && this.firstByteAt === 0) this.firstByteAt = this.#host.clock.exact()
    if (head.status === 100) {
      if (this.#cancelContinue === null) return
      this.#cancelContinue()
      this.#cancelContinue = null
      this.#down.sendContinue()
      this.#openRequest()
      return
    }
    if (this.#plan.has.interimResponseFilter) {
      try {
        if (atOnce(this.#plan.app.interimResponseFilter!(this, head, this.#ctx), 'interimResponseFilter') === 'drop') return
        checkInterim(head.check().status)
      } catch (thrown) {
        this.#attemptFailed(asProxyError(thrown, 'interimResponseFilter'))
        return
      }
    }
    this.#down.writeInterim(head)
  }

  onResponseHead(head: ResponseHead, length: number): void {
    if (this.#host.timed && this.firstByteAt === 0) this.firstByteAt = this.#host.clock.exact()
    if (this.#cancelContinue !== null) {
      // The client holds its body back, and will not be asked for it.
      this.#cancelContinue()
      this.#cancelContinue = null
    }
    if (head.status === 101) {
      const fault = checkUpgradeResponse(this.#upstreamRequest!.headers, head.headers)
      if (fault !== null) {
        this.#dropUpstream()
        this.#attemptFailed(new ProxyError('BAD_UPGRADE', 'upstream', fault, { limit: 'bad-framing' }))
        return
      }
    }
    const hopNames = this.#up!.hopNames
    if (hopNames !== null) dropNamed(head.headers, hopNames)
    this.response = head
    this.#responseLength = length
    this.#switches = head.status === 101 || this.request.method === 'CONNECT' && head.status < 300
    this.#step = Step.ResponseHead
    this.#advance()
    // A head filter waits: what follows is held back.
    if (!this.#ended && !this.#down.responseStarted && this.#responsePipe === null && this.#up !== null) this.#makeResponsePipe()
  }

  #makeResponsePipe(): void {
    this.#responsePipe = new BodyPipe(new ResponseEnds(this, this.#up), this.#host.clock, this.#plan.filtersResponseBody)
  }

  #sendResponseHead(): void {
    const plan = this.#plan, down = this.#down, head = this.response!
    if (plan.has.responseFilter || plan.has.upstreamResponseFilter || plan.responseModules !== null) head.check()
    let length = this.#responseLength
    const bodiless = this.request.method === 'HEAD' || head.status === 204 || head.status === 304
    if (plan.filtersResponseBody && !plan.responseKeepsLength) {
      // What the filters make of a body is not known; a HEAD must not promise what a GET would not.
      if (!bodiless) length = BODY_UNKNOWN
      else if (this.request.method === 'HEAD') head.headers.delete('content-length')
    }
    if (length === BODY_UNTIL_CLOSE) length = BODY_UNKNOWN
    const opens = head.status === 101 || this.request.method === 'CONNECT' && head.status < 300
    if (opens !== this.#switches || head.status < 200 && !opens) throw new TypeError(`a filter made a status of ${head.status}, which says something else about what follows`)
    if (opens) {
      this.#openTunnel(head)
      return
    }
    down.writeHead(head, length, this.#host.forwarded.viaText, null)
    if (plan.filtersResponseBody && this.#responsePipe === null && !bodiless) this.#makeResponsePipe()
    this.#responsePipe?.open()
  }

  onResponseBody(buffer: Buffer, from: number, to: number): void {
    const down = this.#down
    if ((this.#responsePipe !== null || to - from > TEXT_RUN_MAX) && !this.#up!.ownsBuffer) {
      buffer = copyWithReserve(buffer, from, to)
      from = BUFFER_RESERVE
      to = buffer.length - BUFFER_RESERVE
    }
    if (this.#responsePipe !== null) {
      this.#responsePipe.chunk(buffer, from, to)
      return
    }
    down.writeBody(buffer, from, to)
    if (down.bytesQueued > 0) this.#up!.pauseResponse()
  }

  onResponseEnd(trailers: HeaderMap | null): void {
    if (this.#responsePipe !== null) {
      this.#responsePipe.end(trailers)
      return
    }
    // The client has not taken the last piece yet: its buffer stays with that write, the connection is free.
    if (this.#down.bytesQueued > 0) this.#up!.giveUpBuffer()
    this.endResponse(trailers)
  }

  /** The whole response was handed to the client's session. */
  endResponse(trailers: HeaderMap | null): void {
    if (this.#ended) return
    this.#down.endResponse(trailers)
    const done = this.#plan.doneModules
    if (done !== null) for (const module of done) { try { atOnce(module.responseDone!(this, this.moduleState(module)), 'responseDone') } catch (thrown) { this.error ??= asProxyError(thrown, `responseDone of ${module.name}`) } }
    this.#finish()
  }

  onDownstreamDrained(): void {
    if (this.#responsePipe !== null) this.#responsePipe.drained()
    else this.#up?.resumeResponse()
    this.#ownBodyDrained?.()
  }

  #ownBodyDrained: (() => void) | null = null

  // ---- upgraded

  #openTunnel(head: ResponseHead): void {
    this.#down.writeHead(head, 0, this.#host.forwarded.viaText, this.#up!.hopNames)
    const client = this.#down.detach(), origin = this.#up!.detach()
    const webSocket = head.status === 101 && asciiLower(head.headers.get('upgrade') ?? '') === 'websocket'
    this.#tunnel = new Tunnel(client, origin, this, this.#host.ticker, { webSocket, idleTimeoutMs: this.#host.tunnelIdleTimeoutMs })
    this.#host.tunnelOpened(this.#tunnel)
  }

  onTunnelClosed(fromClient: number, fromOrigin: number, error: Error | null): void {
    this.#tunnelBytesIn = fromClient
    this.#tunnelBytesOut = fromOrigin
    this.#host.tunnelClosed(this.#tunnel!)
    if (error !== null) this.error ??= new ProxyError('CONNECTION_RESET', 'downstream', 'the upgraded connection broke', { cause: error })
    this.#finish()
  }

  // ---- answers of our own

  respond(status: number, fields: ResponseFields = {}, body: ResponseBody = null): 'responded' {
    if (this.responded || this.response !== null || this.#ended) throw new Error('respond: a response was already begun')
    if (status < 200) throw new TypeError(`status ${status} is not that of a final response`)
    const head = ResponseHead.build(status, toHeaders(fields))
    this.#dropUpstream()
    const bytes = body === null ? NOTHING : typeof body === 'string' ? Buffer.from(body) : body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : null
    this.#own = true
    this.response = head
    this.#answer = { head, bytes, stream: bytes === null ? body as AsyncIterable<Uint8Array | string> : null }
    return 'responded'
  }

  #answer: { head: ResponseHead; bytes: Buffer | null; stream: AsyncIterable<Uint8Array | string> | null } | null = null

  /** A filter said that it responded: what it left is sent, through the modules. */
  #answered(): void {
    this.#step = Step.Wait
    if (this.#answer === null) {
      this.#fail(new ProxyError('HOOK_FAILED', 'internal', `a filter said 'responded' without session.respond()`))
      return
    }
    this.#sendAnswer()
  }

  #sendAnswer(): void {
    const modules = this.#plan.responseModules
    if (modules === null) {
      this.#writeAnswer()
      return
    }
    void (async () => {
      for (const module of modules) {
        await module.responseFilter!(this, this.response!, this.moduleState(module))
        if (this.#ended) return
      }
      this.#writeAnswer()
    })().catch((thrown: unknown) => this.#cut(asProxyError(thrown, 'responseFilter of a module')))
  }

  #writeAnswer(): void {
    const { head, bytes, stream } = this.#answer!
    const down = this.#down
    head.check()
    const filtered = this.#plan.responseBodyModules !== null && this.request.method !== 'HEAD'
    down.writeHead(head, bytes === null || filtered ? BODY_UNKNOWN : bytes.length, '', null)
    if (this.#ended) return
    if (bytes !== null && !filtered) {
      if (bytes.length > 0) down.writeBody(bytes, 0, bytes.length)
      this.endResponse(null)
      return
    }
    void this.#streamAnswer(bytes === null ? stream! : [bytes], filtered).catch((thrown: unknown) => this.#cut(asProxyError(thrown, 'the body of an answer')))
  }

  async #streamAnswer(source: AsyncIterable<Uint8Array | string> | Iterable<Uint8Array>, filtered: boolean): Promise<void> {
    const send = async (chunk: Buffer, last: boolean): Promise<void> => {
      const result = filtered ? await this.filterResponse(chunk, last, true) : chunk
      const out = result === null || Buffer.isBuffer(result) ? result : result.chunk
      if (this.#ended || out === null || out.length === 0) return
      this.#down.writeBody(out, 0, out.length)
      if (this.#down.bytesQueued > 0) await new Promise<void>(resolve => { this.#ownBodyDrained = () => { this.#ownBodyDrained = null; resolve() } })
    }
    for await (const piece of source) {
      if (this.#ended) return
      await send(typeof piece === 'string' ? Buffer.from(piece) : Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength), false)
    }
    if (this.#ended) return
    if (filtered) await send(NOTHING, true)
    this.endResponse(null)
  }

  // ---- filters of bodies, for relay.ts

  filterRequest(chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> {
    const { requestBodyModules, has, app } = this.#plan
    if (requestBodyModules === null) return has.requestBodyFilter ? app.requestBodyFilter!(this, chunk, last, this.#ctx) : chunk
    const up = this.#up
    const filters: PieceFilter[] = requestBodyModules.map(module => piece => this.#serves(up) ? module.requestBodyFilter!(this, piece, last, this.moduleState(module)) : null)
    if (has.requestBodyFilter) filters.push(piece => this.#serves(up) ? app.requestBodyFilter!(this, piece, last, this.#ctx) : null)
    return chain(chunk, last, filters)
  }

  filterRequestTrailers(trailers: HeaderMap): void | Promise<void> {
    return this.#plan.has.requestTrailerFilter ? this.#plan.app.requestTrailerFilter!(this, trailers, this.#ctx) : undefined
  }

  /** `own`: the answer comes from a filter, so only the modules look at it. */
  filterResponse(chunk: Buffer, last: boolean, own: boolean): BodyResult | Promise<BodyResult> {
    const { responseBodyModules, has, app } = this.#plan
    if (responseBodyModules === null && !has.upstreamResponseBodyFilter) return has.responseBodyFilter && !own ? app.responseBodyFilter!(this, chunk, last, this.#ctx) : chunk
    const filters: PieceFilter[] = [], up = this.#up
    if (has.upstreamResponseBodyFilter && !own) filters.push(piece => app.upstreamResponseBodyFilter!(this, piece, last, this.#ctx))
    if (has.responseBodyFilter && !own) filters.push(piece => this.#serves(up) ? app.responseBodyFilter!(this, piece, last, this.#ctx) : null)
    if (responseBodyModules !== null) for (const module of responseBodyModules) filters.push(piece => this.#serves(up) ? module.responseBodyFilter!(this, piece, last, this.moduleState(module)) : null)
    return chain(chunk, last, filters)
  }

  /** The exchange goes on, in the attempt that has `up`: while one filter waited it may have ended, and then the filters behind it are not called. */
  #serves(up: UpstreamSession | null): boolean { return !this.#ended && this.#up === up }

  async #filterResponseTrailers(trailers: HeaderMap): Promise<Buffer | void> {
    const plan = this.#plan, up = this.#up
    if (plan.has.upstreamResponseTrailerFilter) await plan.app.upstreamResponseTrailerFilter!(this, trailers, this.#ctx)
    let body: Buffer | void = undefined
    if (plan.has.responseTrailerFilter && this.#serves(up)) body = await plan.app.responseTrailerFilter!(this, trailers, this.#ctx)
    for (const module of plan.trailerModules ?? []) {
      if (!this.#serves(up)) break
      body = await module.responseTrailerFilter!(this, trailers, this.moduleState(module)) ?? body
    }
    return body
  }

  filterResponseTrailers(trailers: HeaderMap): Buffer | void | Promise<Buffer | void> {
    const { has, trailerModules } = this.#plan
    return has.upstreamResponseTrailerFilter || has.responseTrailerFilter || trailerModules !== null ? this.#filterResponseTrailers(trailers) : undefined
  }

  pauseRequest(): void { this.#down.pauseRequest() }
  resumeRequest(): void { if (!this.#requestEnded) this.#down.resumeRequest() }
  giveUpRequestBuffer(): boolean { return this.#down.giveUpBuffer() }
  writeResponse(buffer: Buffer, from: number, to: number): void { this.#down.writeBody(buffer, from, to) }
  get responseBlocked(): boolean { return this.#down.bytesQueued > 0 }

  /** A body filter threw: before the response that is an ordinary fault, within it the answer is cut. */
  pipeFailed(thrown: unknown): void {
    if (this.#ended) return
    this.#dropUpstream()
    this.#attemptFailed(asProxyError(thrown, 'a body filter'))
  }

  // ---- faults

  onDownstreamFault(error: ProxyError): void {
    if (this.#ended) return
    if (this.#collecting !== null) {
      const { reject } = this.#collecting
      this.#collecting = null
      reject(error)
    }
    this.#stopWaiting()
    this.#dropUpstream()
    this.#fail(error)
  }

  onUpstreamFault(error: ProxyError): void {
    if (this.#ended) return
    const up = this.#up
    if (up !== null) {
      this.#up = null
      this.#host.connector.discard(up)
    }
    // A pooled connection that the origin had closed meanwhile says nothing about the origin.
    this.#settlePeer(error.retry === 'if-reused' ? null : false)
    this.#attemptFailed(error)
  }

  /** Tells the peer how the attempt ended, once an attempt; null: without a verdict. */
  #settlePeer(healthy: boolean | null): void {
    const peer = this.peer
    if (peer === null || this.#settledAttempt === this.attempts) return
    this.#settledAttempt = this.attempts
    if (healthy === null) peer.release?.()
    else {
      peer.report?.(healthy)
      if (!healthy) (this.#tried ??= []).push(peer)
    }
  }

  #settledAttempt = 0
  /** Fault of the attempt before this one. */
  #earlierError: ProxyError | null = null

  #attemptFailed(error: ProxyError): void {
    if (this.#ended) return
    // With every backend tried, the last real fault is the better answer.
    let final = error.kind === 'NO_HEALTHY_BACKEND' && this.#earlierError !== null ? this.#earlierError : error
    const peer = this.peer
    if (peer !== null && this.attempts > 0 && error.source !== 'downstream' && this.#plan.has.errorWhileProxy && !this.#failing) {
      try { final = chosenFault(this.#plan.app.errorWhileProxy!(this, peer, final, this.#ctx, this.upstreamReused), final, 'errorWhileProxy') } catch (thrown) { final = asProxyError(thrown, 'errorWhileProxy') }
    }
    this.#retryOrFail(final)
  }

  #retryOrFail(error: ProxyError): void {
    this.#dropUpstream()
    this.#stopWaiting()
    if (!this.#mayRetry(error)) {
      this.#fail(error)
      return
    }
    const peer = this.peer!
    if (!this.#host.retryBudget.take(peer.options.retryBudgetPercent)) {
      this.#fail(error, true)
      return
    }
    this.#settlePeer(null)
    this.#earlierError = error
    if (!this.#facts.selfTest) this.#host.tracer?.exchangeRetried?.(this.requestId, this.attempts, error)
    this.#step = Step.Peer
    const delay = retryDelayMs(this.attempts)
    if (delay === 0) {
      // Not from within the failing call: a fault that comes at once must not recurse.
      queueMicrotask(() => { if (!this.#ended && this.#step === Step.Peer) this.#advance() })
    } else {
      this.#cancelRetry = this.#host.clock.after(delay, () => {
        this.#cancelRetry = null
        this.#advance()
      })
    }
  }

  #mayRetry(error: ProxyError): boolean {
    const peer = this.peer
    if (peer === null || this.#failing || this.#down.responseStarted || this.response !== null || error.retry === 'never') return false
    if (error.retry === 'if-reused' && !(this.upstreamReused && isIdempotent(this.request.method))) return false
    if (this.attempts >= peer.options.maxAttempts) return false
    // What was sent of the body must be there to be sent again.
    return !this.#bodyBegun || this.#down.requestBodyLength === 0 || this.#replay !== null
  }

  #stopWaiting(): void {
    this.#waitingFor++
    this.#pending?.cancel()
    this.#pending = null
    this.#cancelRetry?.()
    this.#cancelRetry = null
    this.#cancelContinue?.()
    this.#cancelContinue = null
    this.#requestPipe?.stop()
    this.#requestPipe = null
    this.#responsePipe?.stop()
    this.#responsePipe = null
    if (!this.#requestEnded && this.#bodyBegun) this.#down.pauseRequest()
  }

  #dropUpstream(): void {
    const up = this.#up
    if (up === null) return
    this.#up = null
    up.abort()
    this.#host.connector.discard(up)
  }

  /** Nothing more will be tried. */
  #fail(error: ProxyError, budgetSpent = false): void {
    if (this.#ended) return
    if (this.#failing) {
      this.#cut(error)
      return
    }
    this.#failing = true
    this.error = error
    this.#budgetSpent = budgetSpent
    this.#step = Step.Wait
    if (this.#down.responseStarted || statusOf(error) === 0) {
      this.#cut(error)
      return
    }
    this.#answer = null
    this.response = null
    this.#own = false
    if (!this.#plan.has.failToProxy) {
      this.#failed(undefined)
      return
    }
    try {
      const result = this.#plan.app.failToProxy!(this, error, this.#ctx)
      if (isPromise(result)) result.then(value => this.#failed(value), () => this.#failed(undefined))
      else this.#failed(result)
    } catch {
      // The hook that answers faults failed itself: the default page tells the client.
      this.#answer = null
      this.response = null
      this.#failed(undefined)
    }
  }

  #budgetSpent = false
  get retryBudgetSpent(): boolean { return this.#budgetSpent }

  #failed(given: FailToProxy | void): void {
    if (this.#ended) return
    const down = this.#down, result = typeof given === 'object' && given !== null ? given : undefined
    if (result === undefined ? this.error!.source === 'downstream' || !this.#bodyWhole() : !result.canReuseDownstream) down.refuseReuse()
    if (this.#answer === null) {
      if (result !== undefined && result.status === 0) {
        this.#cut(this.error!)
        return
      }
      const wanted = result?.status ?? statusOf(this.error!), status = isFinalStatus(wanted) ? wanted : 500
      const page = errorPage(status, this.#host.showsRequestId ? this.requestId : '')
      this.#own = true
      this.response = page.head
      this.#answer = { head: page.head, bytes: Buffer.from(page.body), stream: null }
    }
    try { this.#sendAnswer() } catch (thrown) { this.#cut(asProxyError(thrown, 'the error page')) }
  }

  #bodyWhole(): boolean { return this.#down.requestEnded }

  #cut(error: ProxyError): void {
    if (this.#ended) return
    this.error ??= error
    this.#down.abort()
    this.#finish()
  }

  /** Exactly once, last. */
  #finish(): void {
    if (this.#ended) return
    this.#ended = true
    this.#bytesIn = this.#down.bodyBytesIn
    this.#bytesOut = this.#down.bodyBytesOut
    this.#responded = this.#down.responseStarted
    this.#stopWaitingQuietly()
    const up = this.#up, host = this.#host, app = this.#plan.app, peer = this.peer
    if (peer !== null) this.#settlePeer(this.error === null && up !== null ? true : null)
    if (up !== null && peer !== null) host.connector.release(up, peer)
    host.exchangeEnded(this)
    if (this.#plan.has.logging) {
      try {
        const result = app.logging!(this, this.error, this.#ctx)
        if (isPromise(result)) result.catch((thrown: unknown) => host.hookFailed('logging', thrown))
      } catch (thrown) { host.hookFailed('logging', thrown) }
    }
    if (this.#plan.has.persistConnectionContext) {
      try { this.#facts.kept = atOnce(app.persistConnectionContext!(this, this.#ctx), 'persistConnectionContext') } catch (thrown) { host.hookFailed('persistConnectionContext', thrown) }
    }
    this.#down.release()
  }

  #stopWaitingQuietly(): void {
    this.#waitingFor++
    if (this.#pending !== null || this.#cancelRetry !== null || this.#cancelContinue !== null) {
      this.#pending?.cancel()
      this.#cancelRetry?.()
      this.#cancelContinue?.()
      this.#pending = this.#cancelRetry = this.#cancelContinue = null
    }
    if (this.#requestPipe !== null) this.#requestPipe.stop()
    if (this.#responsePipe !== null) this.#responsePipe.stop()
    if (this.#ownBodyDrained !== null) this.#ownBodyDrained()
  }

  /** Cuts the exchange from outside: the drain's deadline passed. */
  cut(error: ProxyError): void {
    if (this.#tunnel !== null) {
      this.error ??= error
      this.#tunnel.destroy()
      return
    }
    this.#stopWaiting()
    this.#dropUpstream()
    this.#failing = true
    this.#cut(error)
  }

  /** One line for the process log. */
  summary(): string {
    if (this.#plan.has.requestSummary) {
      try { return atOnce(this.#plan.app.requestSummary!(this, this.#ctx), 'requestSummary') } catch (thrown) { this.#host.hookFailed('requestSummary', thrown) }
    }
    return `${this.request.method} ${this.request.target}`
  }

  /** The application does not want this fault in the process log. */
  get errorLogSuppressed(): boolean {
    if (!this.#plan.has.suppressErrorLog || this.error === null) return false
    try { return atOnce(this.#plan.app.suppressErrorLog!(this, this.error, this.#ctx), 'suppressErrorLog') } catch { return false }
  }
}

/** From client to origin. */
class RequestEnds<Ctx> implements PipeEnds {
  readonly #exchange: Exchange<Ctx>
  readonly #up: UpstreamSession
  constructor(exchange: Exchange<Ctx>, up: UpstreamSession) {
    this.#exchange = exchange
    this.#up = up
  }
  pauseSource(): void { this.#exchange.pauseRequest() }
  resumeSource(): void { this.#exchange.resumeRequest() }
  giveUpSourceBuffer(): boolean { return this.#exchange.giveUpRequestBuffer() }
  filterChunk(chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> { return this.#exchange.filterRequest(chunk, last) }
  filterTrailers(trailers: HeaderMap): void | Promise<void> { return this.#exchange.filterRequestTrailers(trailers) }
  writeSink(buffer: Buffer, from: number, to: number): void { this.#up.writeBody(buffer, from, to) }
  endSink(trailers: HeaderMap | null): void { this.#up.endRequest(trailers) }
  get sinkBlocked(): boolean { return this.#up.bytesQueued > 0 }
  pipeFailed(thrown: unknown): void { this.#exchange.pipeFailed(thrown) }
}

/** From origin to client. */
class ResponseEnds<Ctx> implements PipeEnds {
  readonly #exchange: Exchange<Ctx>
  readonly #up: UpstreamSession | null
  constructor(exchange: Exchange<Ctx>, up: UpstreamSession | null) {
    this.#exchange = exchange
    this.#up = up
  }
  pauseSource(): void { this.#up?.pauseResponse() }
  resumeSource(): void { this.#up?.resumeResponse() }
  giveUpSourceBuffer(): boolean { return this.#up?.giveUpBuffer() ?? true }
  filterChunk(chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> { return this.#exchange.filterResponse(chunk, last, false) }
  filterTrailers(trailers: HeaderMap): Buffer | void | Promise<Buffer | void> { return this.#exchange.filterResponseTrailers(trailers) }
  writeSink(buffer: Buffer, from: number, to: number): void { this.#exchange.writeResponse(buffer, from, to) }
  endSink(trailers: HeaderMap | null): void { this.#exchange.endResponse(trailers) }
  get sinkBlocked(): boolean { return this.#exchange.responseBlocked }
  pipeFailed(thrown: unknown): void { this.#exchange.pipeFailed(thrown) }
}

/** The result of a hook that nobody waits for. A promise is refused, and what becomes of it is of no interest. */
function atOnce<T>(result: T, hook: string): T {
  if (!isPromise(result)) return result
  result.catch(() => { /* It was refused. */ })
  throw new TypeError(`${hook} returned a promise; its result is needed at once`)
}

/** The fault that a hook put in the place of `error`. */
function chosenFault(result: ProxyError | void, error: ProxyError, hook: string): ProxyError {
  if (result === undefined || result === null) return error
  if (atOnce(result, hook) instanceof ProxyError) return result
  throw new TypeError(`${hook} returned something else than a ProxyError`)
}

function checkInterim(status: number): void {
  if (status < 102 || status > 199) throw new TypeError(`interim status ${status} is not between 102 and 199`)
}

/** Whether a page can be sent with it. */
function isFinalStatus(status: unknown): status is number { return typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 999 }

function dropNamed(headers: HeaderMap, names: readonly string[]): void { for (const name of names) headers.delete(name) }

function checkVerdict(verdict: Verdict): Verdict {
  if (verdict !== 'continue' && verdict !== 'responded') throw new TypeError(`a filter returned ${JSON.stringify(verdict)}; use 'continue' or 'responded'`)
  return verdict
}

/** What Host says when the client did not. */
function hostOf(peer: Peer): string { return peer.sni !== '' ? peer.sni : peer.address.kind === 'tcp' ? peer.name : 'localhost' }

function toHeaders(fields: ResponseFields): HeaderMap { return fields instanceof HeaderMap ? fields : HeaderMap.from(fields) }

/** First retry at once, then 25 ms doubling up to 250, with jitter of a quarter. */
function retryDelayMs(attempt: number): number {
  if (attempt <= 1) return 0
  return Math.min(250, 25 * 2 ** (attempt - 2)) * (0.75 + Math.random() * 0.5)
}
