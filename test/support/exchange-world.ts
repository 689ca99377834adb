/**
 * A proxy service between clients and origins that live in memory: the real sessions, exchange, connector and pool, on a
 * clock and streams that move only by steps. A step is chosen from outside (a fuzzer, a regression test); everything that
 * the other sides see is compared with what was sent, and the books of the service and the pool with what is really open.
 *
 *   client  ── pending ─▶ far ═ kernel ═ near ─▶ service ─▶ near ═ kernel ═ far ── reader ─▶ origin
 *           ◀─ reader ── far ═ kernel ═ near ◀── service ◀─ near ═ kernel ═ far ◀─ pending ─
 *
 * Each body is a window of one random table, chosen by the number of its request or response: a byte of another message, or
 * one that moved, does not fit. The first contradiction is kept in `fault`; nothing that happens behind it counts.
 */
import { AssertionError } from 'node:assert/strict'
import type { Transport } from '../../src/connector/connection-dial.ts'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import type { DialWaiter } from '../../src/connector/transport-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { HeaderMap } from '../../src/http/header-map.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { HalfClose } from '../../src/protocols/http-options.ts'
import { HttpProxyCore } from '../../src/server/http-proxy-core.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { sumCounts, type OpenCounts } from '../../src/ipc/open-counts.ts'
import type { HttpListenerOptions, ResolvedHttpListenerOptions } from '../../src/listener/http-listener-options.ts'
import { admit, ListeningBase } from '../../src/server/listening-base.ts'
import type { FailToProxy, ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { BodyResult, BodyUse, ResponseVerdict, Session, Verdict } from '../../src/proxy/session.ts'
import type { ExchangeEnded } from '../../src/telemetry/tracer.ts'
import {
  ModelRequest, TAIL, TRAILED, bodyOf, changed, type AnswerSpec, type Change, type Client, type ClientSide, type End, type ModelResponse,
  type NewResponse, type Origin, type OriginSide, type RequestSpec, type WorldConnection, type WorldView,
} from './exchange-sides.ts'
import { FakeClock } from './fake-clock.ts'
import { HTTP1_CLIENT, HTTP1_ORIGIN } from './http1-sides.ts'

// ---- what can be asked of the world

export const HOOKS_OF_MODEL = [
  'requestFilter', 'proxyUpstreamFilter', 'slowPeer', 'connectedToUpstream', 'upstreamRequestFilter', 'requestBodyFilter',
  'interimResponseFilter', 'upstreamResponseFilter', 'responseFilter', 'responseBodyFilter', 'responseTrailerFilter', 'failToProxy',
  'persistConnectionContext', 'module', 'newCtx', 'requestTrailerFilter', 'retries', 'bodyUse',
] as const
export type HookOfModel = (typeof HOOKS_OF_MODEL)[number]

export interface WorldOptions {
  readonly hooks: readonly HookOfModel[]
  /** Body filters keep the length and say so. */
  readonly keepsLength: boolean
  readonly clientKernelBytes: number
  readonly originKernelBytes: number
  readonly maxReplayBytes: number
  readonly maxRequestBodyBytes: number
  readonly maxConnectionsPerPeer: number
  readonly idleTimeoutMs: number
  readonly maxRequestsPerConnection: number
  readonly maxActiveRequests: number
  /** Exchanges that a connection to an origin takes at first, where it may take several. */
  readonly exchangesPerConnection: number
  /** What a client's FIN does to an exchange that has no answer yet, where connections have one exchange. */
  readonly halfClose: HalfClose
  /** Seeds what the proxy itself leaves to chance. */
  readonly chance: number
}

export type Step =
  | { readonly t: 'connect' }
  | { readonly t: 'request'; readonly at: number; readonly spec: RequestSpec; readonly send: number }
  | { readonly t: 'clientSend' | 'clientRead' | 'originSend' | 'originRead'; readonly at: number; readonly bytes: number }
  | { readonly t: 'clientFin' | 'clientReset' | 'clientGarbage' | 'clientTunnel'; readonly at: number }
  | { readonly t: 'originFin' | 'originReset' | 'originGarbage' | 'originTunnel'; readonly at: number }
  | { readonly t: 'clientDisturbs'; readonly at: number; readonly how: 'reset' | 'stall' }
  | { readonly t: 'originDisturbs'; readonly at: number; readonly how: 'reset' | 'stall' | 'goAway' | 'limit' }
  | { readonly t: 'dial'; readonly at: number; readonly accept: boolean }
  | { readonly t: 'answer'; readonly at: number; readonly spec: AnswerSpec; readonly send: number }
  | { readonly t: 'interim'; readonly at: number; readonly status: 100 | 103 }
  | { readonly t: 'settle'; readonly at: number; readonly ok: boolean }
  | { readonly t: 'pass'; readonly ms: number }
  | { readonly t: 'flow'; readonly bytes: number }
  /** All that is waited for happens, with this answer. */
  | { readonly t: 'serve'; readonly spec: AnswerSpec }
  | { readonly t: 'drain'; readonly mode: 'retire' | 'stop' }

interface Dial { readonly peer: Peer; readonly waiter: DialWaiter; over: boolean }
interface Deferred { readonly resolve: () => void; readonly reject: () => void; readonly check: () => void }

/** What the module does, one request after another. */
const USES: readonly BodyUse[] = ['pass', 'keepLength', 'change']

/** What a hook of the model throws. */
class Planned extends Error {}

interface Ctx { request: ModelRequest | null }

// ---- the world

/** What the two sides of a world speak. */
export interface WorldSides {
  readonly client: ClientSide
  readonly origin: OriginSide
}

export const HTTP1_SIDES: WorldSides = { client: HTTP1_CLIENT, origin: HTTP1_ORIGIN }

export class ExchangeWorld implements WorldView {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly options: WorldOptions
  readonly sides: WorldSides
  readonly connector: HttpConnector
  readonly core: HttpProxyCore<Ctx>
  readonly service: ListeningBase<HttpListenerOptions, ResolvedHttpListenerOptions>
  readonly clients: Client[] = []
  readonly origins: Origin[] = []
  readonly responses = new Map<number, ModelResponse>()
  readonly requests: ModelRequest[] = []
  readonly #dials: Dial[] = []
  #deferred: Deferred[] = []
  readonly #upstreams: WorldConnection[] = []
  readonly #peers = new Map<WorldConnection, string>()
  /** Exchanges of each connection, and its limit, when it was looked at last. */
  readonly #lookedAt = new Map<WorldConnection, { active: number; limit: number }>()
  readonly #hooks: ReadonlySet<HookOfModel>
  readonly #peerOptions: HttpPeerOptions
  /** Peers handed out, each for one attempt, and how often that ended. */
  readonly #chosen: { readonly request: ModelRequest; ends: number }[] = []
  #begun = 0
  #logged = 0
  #drained: Promise<{ cut: number }> | null = null
  #drainOver = false
  /** The first contradiction; '' while there is none. */
  fault = ''

  constructor(options: WorldOptions, sides: WorldSides = HTTP1_SIDES) {
    this.options = options
    this.sides = sides
    this.#hooks = new Set(options.hooks)
    const transport: Transport = {
      dial: (peer, waiter) => {
        const dial: Dial = { peer, waiter, over: false }
        this.#dials.push(dial)
        return { cancel: () => this.#dialOver(dial) }
      },
    }
    this.connector = new HttpConnector({
      ticker: this.ticker, transport, maxIdlePerKey: 3,
      expectedExchanges: () => sides.origin.expectedExchanges,
      createConnection: (stream, peer, ticker) => {
        const connection = sides.origin.createConnection(stream, ticker, options.exchangesPerConnection)
        this.#peers.set(connection, peer.name)
        this.#upstreams.push(connection)
        return connection
      },
    })
    this.#peerOptions = Object.freeze({
      maxReplayBytes: options.maxReplayBytes, maxConnectionsPerPeer: options.maxConnectionsPerPeer,
      maxQueuedPerPeer: 2, queueTimeoutMs: 4000,
      idleTimeoutMs: options.idleTimeoutMs, firstByteTimeoutMs: 5000, readTimeoutMs: 5000, writeTimeoutMs: 5000, continueTimeoutMs: 300,
      maxInterimResponses: 3, retryBudgetPercent: 100,
    })
    this.core = new HttpProxyCore(this.#application(), {
      connector: this.connector, accessLog: null, upgrades: ['model'],
      tunnelIdleTimeoutMs: 8000, maxActiveRequests: options.maxActiveRequests,
      tracers: [{ exchangeEnded: summary => this.#traced(summary) }],
      listener: {
        headTimeoutMs: 5000, keepAliveTimeoutMs: 6000, bodyIdleTimeoutMs: 5000, sendTimeoutMs: 5000,
        lingerIdleMs: 1000, lingerTotalMs: 4000, maxDiscardBytes: 3000,
        halfClose: options.halfClose, maxRequestBodyBytes: options.maxRequestBodyBytes,
        maxRequestsPerConnection: options.maxRequestsPerConnection,
      },
    }, sides.client.protocols)
    this.service = new ListeningBase(this.core.name, this.core).addTcp('127.0.0.1:0')
  }

  get exchangesPerConnection(): number { return this.options.exchangesPerConnection }
  get filtersRequests(): boolean { return this.has('requestBodyFilter') }
  has(hook: HookOfModel): boolean { return this.#hooks.has(hook) }

  fail(what: string): void { this.fault ||= what }

  byTarget(target: string): ModelRequest | null {
    return /^\/r[0-9]+$/.test(target) ? this.requests[Number(target.slice(2))] ?? null : null
  }

  addRequest(client: Client, spec: RequestSpec): ModelRequest {
    const request = new ModelRequest(this.requests.length, client, spec, this.options.keepsLength)
    this.requests.push(request)
    return request
  }

  addResponse(given: NewResponse): ModelResponse {
    const id = this.responses.size, { size, ...rest } = given
    const response: ModelResponse = { ...rest, id, body: bodyOf(50_000 + id, size), to: Number.POSITIVE_INFINITY }
    this.responses.set(id, response)
    return response
  }

  /** The body that the client must get. */
  expectedOf(given: ModelResponse): Buffer {
    const change = given.request.responseChange, none = given.announced && given.body.length === 0
    const filters = this.has('responseBodyFilter') && !none && this.useOf(change) !== 'pass'
    const parts = [filters ? changed(change, given.body, 0) : given.body]
    if (filters && change === 'double') parts.push(TAIL)
    if (given.trailers && this.has('responseTrailerFilter')) parts.push(TRAILED)
    return Buffer.concat(parts)
  }

  /** With the hook, filters say of each message what they do to it; those that change nothing leave some alone. */
  useOf(change: Change): BodyUse {
    if (!this.has('bodyUse')) return this.options.keepsLength ? 'keepLength' : 'change'
    return change === 'same' ? 'pass' : change === 'double' || change === 'behead' ? 'change' : 'keepLength'
  }

  // ---- the application

  #stats(): OpenCounts { return sumCounts([this.service.stats()]) }

  #application(): ProxyHttp<Ctx> {
    const of = (session: Session): ModelRequest => {
      const request = this.byTarget(session.request.target)!
      if (request.logged > 0) this.fail(`a hook of request ${request.id} ran after logging`)
      return request
    }
    const app: ProxyHttp<Ctx> = {
      newCtx: () => {
        this.#begun++
        if (this.has('newCtx') && this.#begun % 17 === 0) throw new Planned('newCtx')
        return { request: null }
      },
      earlyRequestFilter: (session, ctx) => {
        const request = ctx.request = of(session)
        request.session = session
        if (++request.begun > 1) this.fail(`request ${request.id} began twice`)
        if (session.clientIp !== '127.0.0.1') this.fail('the client has another address')
      },
      upstreamPeer: session => {
        const request = of(session)
        request.upstream = null
        // What came to an attempt before this one is not for the client.
        request.answeredFrom = this.responses.size
        const wait = this.has('slowPeer') ? this.#act(request, null) : null
        return wait === null ? this.#choosePeer(request) : wait.then(() => this.#choosePeer(request))
      },
      suppressErrorLog: () => true,
      logging: (session, error, ctx) => this.#logging(session, error, ctx),
    }
    if (this.has('requestFilter')) app.requestFilter = session => this.#requestFilter(of(session), session)
    if (this.has('proxyUpstreamFilter')) app.proxyUpstreamFilter = session => this.#act(of(session), 'continue')
    if (this.has('connectedToUpstream')) {
      app.connectedToUpstream = (session, connection) => {
        const request = of(session), origin = this.origins.find(one => one.near.digest === connection.digest)!
        const users = this.requests.filter(other => other !== request && other.upstream === origin && other.holdsUpstream)
        if (origin.exclusive && users.length > 0) {
          this.fail(`requests ${users[0]!.id} and ${request.id} have one connection to origin ${origin.index}`)
        }
        request.upstream = origin
        if (origin.exclusive && connection.reused && origin.enqueued > 0 && origin.near.bytesRead !== origin.answeredTo) {
          this.fail(`request ${request.id} got a connection with unread bytes`)
        }
        return this.#act(request, undefined)
      }
    }
    if (this.has('upstreamRequestFilter')) {
      app.upstreamRequestFilter = (session, head) => {
        head.headers.set('X-Attempt', String(session.attempts))
        return this.#act(of(session), undefined)
      }
    }
    if (this.has('bodyUse')) {
      app.bodyUse = (session, filter) => {
        const request = of(session)
        if (filter === 'responseTrailerFilter') return 'change'
        return this.useOf(filter === 'requestBodyFilter' ? request.requestChange : request.responseChange)
      }
    }
    if (this.has('requestBodyFilter')) {
      app.requestBodyFilter = (session, chunk, last) => this.#requestBody(of(session), session, chunk, last)
    }
    if (this.has('requestTrailerFilter')) app.requestTrailerFilter = (session, trailers) => this.#trailers(of(session), trailers)
    if (this.has('interimResponseFilter')) app.interimResponseFilter = session => of(session).next() < 0.2 ? 'drop' : 'forward'
    if (this.has('upstreamResponseFilter')) {
      app.upstreamResponseFilter = (session, head) => {
        head.headers.append('X-Seen', 'upstream')
        const request = of(session), again = this.has('retries') && request.spec.flavor !== 0 && request.next() < 0.3
        return this.#act<ResponseVerdict | undefined>(request, again ? 'retry' : undefined)
      }
    }
    if (this.has('responseFilter')) {
      app.responseFilter = (session, head) => {
        head.headers.set('X-Seen', 'response')
        return this.#act(of(session), undefined)
      }
    }
    if (this.has('responseBodyFilter')) {
      app.responseBodyFilter = (session, chunk, last) => this.#responseBody(of(session), session, chunk, last)
    }
    if (this.has('responseTrailerFilter')) {
      app.responseTrailerFilter = (session, trailers) => {
        const request = of(session)
        if (trailers.get('x-tag') !== String(request.id)) this.fail(`request ${request.id} got the trailers of another`)
        return this.#act(request, TRAILED)
      }
    }
    if (this.has('failToProxy')) app.failToProxy = session => this.#failToProxy(of(session), session)
    if (this.has('persistConnectionContext')) {
      app.persistConnectionContext = session => this.byTarget(session.request.target)
      app.onConnectionReuse = (session, _ctx, kept) => {
        const request = this.byTarget(session.request.target)!
        const follows = kept instanceof ModelRequest && kept.client === request.client && kept.client.follows(request, kept)
        if (!follows) this.fail(`request ${request.id} got what another connection kept`)
      }
    }
    if (this.has('module')) {
      const module: HttpModule<{ done: number }> = {
        name: 'model', keepsLength: true,
        newState: () => ({ done: 0 }),
        requestFilter: session => this.#act(of(session), 'continue'),
        responseFilter: session => this.#act(of(session), undefined),
        responseBodyFilter: (session, chunk) => this.#act(of(session), chunk),
        bodyUse: session => this.has('bodyUse') ? USES[of(session).id % USES.length] : undefined,
        responseDone: ({ request }, state) => {
          if (++state.done > 1) this.fail(`request ${this.byTarget(request.target)!.id} was done twice`)
        },
      }
      Object.assign(app, { modules: [module] })
    }
    if (this.options.keepsLength) Object.assign(app, { keepsLength: { request: true, response: true } })
    return app
  }

  #choosePeer(request: ModelRequest): Peer {
    const chosen = { request, ends: 0 }, host = request.id % 3 === 0 ? '10.0.0.2' : '10.0.0.1'
    this.#chosen.push(chosen)
    const ended = (): void => { if (++chosen.ends > 1) this.fail(`an attempt of request ${request.id} ended twice`) }
    const backend = { peerAddress: { kind: 'tcp', host, port: 80 } as const, name: `${host}:80`, report: ended, release: ended }
    return new HttpPeer(backend, this.#peerOptions)
  }

  /** Now, later, or never: as the request's flavor has it. */
  #act<T>(request: ModelRequest, value: T, check: () => void = () => {}): T | Promise<T> {
    if (request.spec.flavor === 0) return value
    const choice = request.next()
    if (choice < 0.7) return value
    if (choice < 0.75) throw new Planned('a hook')
    return new Promise<T>((resolve, reject) => {
      this.#deferred.push({ check, resolve: () => resolve(value), reject: () => reject(new Planned('a promise')) })
    })
  }

  #requestFilter(request: ModelRequest, session: Session): Verdict | Promise<Verdict> {
    const choice = request.spec.flavor === 0 ? 1 : request.next()
    if (choice < 0.06) return this.#respond(request, session, 200, bodyOf(70_000 + request.id, Math.floor(request.next() * 9000)))
    if (choice < 0.12) return this.#respondInPieces(request, session)
    if (choice < 0.2) {
      return session.readBody(12_000).then(body => {
        if (!body.equals(request.body)) this.fail(`readBody of request ${request.id} gave other bytes`)
        if (!request.whole) this.fail(`readBody of request ${request.id} was done too early`)
        return 'continue'
      })
    }
    if (choice < 0.25) session.sendInterim(103, { 'X-Tag': String(request.id) })
    return this.#act(request, 'continue')
  }

  #respond(request: ModelRequest, session: Session, status: number, body: Buffer): 'responded' {
    request.own = body
    request.ownWhole = true
    return session.respond(status, { 'X-Own': String(request.id) }, Buffer.from(body))
  }

  #respondInPieces(request: ModelRequest, session: Session): 'responded' {
    const body = bodyOf(70_000 + request.id, Math.floor(request.next() * 20_000))
    const wait = (): Promise<void> => new Promise(resolve => { this.#deferred.push({ check: () => {}, resolve, reject: resolve }) })
    request.own = body
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < body.length;) {
        const size = 1 + Math.floor(request.next() * 6000)
        if (request.next() < 0.3) await wait()
        if (request.next() < 0.1) throw new Planned('the body of an answer')
        yield Buffer.from(body.subarray(at, at + size))
        at += size
      }
      request.ownWhole = true
    }
    return session.respond(200, { 'X-Own': String(request.id) }, pieces())
  }

  #failToProxy(request: ModelRequest, session: Session): FailToProxy | void | Promise<FailToProxy | void> {
    const choice = request.spec.flavor === 0 ? 1 : request.next()
    if (choice < 0.1) return { status: 0, canReuseDownstream: false }
    if (choice < 0.5) {
      this.#respond(request, session, 502, bodyOf(80_000 + request.id, Math.floor(request.next() * 300)))
      return this.#act<FailToProxy>(request, { status: 502, canReuseDownstream: choice < 0.4 })
    }
    return this.#act<FailToProxy | void>(request, undefined)
  }

  #requestBody(request: ModelRequest, session: Session, chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> {
    if (request.filterAttempt !== session.attempts) {
      request.filterAttempt = session.attempts
      request.requestSeen = 0
      request.requestSeenLast = false
    }
    const at = request.requestSeen
    if (request.requestSeenLast) this.fail(`the request filter of ${request.id} was called behind the end`)
    if (!chunk.equals(request.body.subarray(at, at + chunk.length))) this.fail(`the request filter of ${request.id} was shown other bytes`)
    request.requestSeen += chunk.length
    request.requestSeenLast = last
    if (last && (request.requestSeen !== request.body.length || !request.whole)) {
      this.fail(`the request filter of ${request.id} was told an end that is none`)
    }
    return this.#piece(request, session, chunk, changed(request.requestChange, chunk, at), last && request.requestChange === 'double')
  }

  #responseBody(request: ModelRequest, session: Session, chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> {
    const given = this.responses.get(Number(session.response!.headers.get('x-rid')))!
    const at = request.responseSeen
    if (this.useOf(request.responseChange) === 'pass') this.fail(`the response filter of ${request.id} was called all the same`)
    if (request.responseSeenLast) this.fail(`the response filter of ${request.id} was called behind the end`)
    if (!chunk.equals(given.body.subarray(at, at + chunk.length))) this.fail(`the response filter of ${request.id} was shown other bytes`)
    request.responseSeen += chunk.length
    request.responseSeenLast = last
    if (last && request.responseSeen !== given.body.length) this.fail(`the response filter of ${request.id} was told an end that is none`)
    return this.#piece(request, session, chunk, changed(request.responseChange, chunk, at), last && request.responseChange === 'double')
  }

  /** A piece goes on now, in a while, or after a promise, and is left alone until then. */
  #piece(request: ModelRequest, session: Session, chunk: Buffer, out: Buffer, tail: boolean): BodyResult | Promise<BodyResult> {
    let result: BodyResult = tail ? Buffer.concat([out, TAIL]) : out
    if (out.length === 0 && !tail && request.id % 2 === 0) result = null
    if (request.spec.flavor !== 0 && request.next() < 0.2) {
      result = { chunk: result as Buffer | null, delayMs: 1 + Math.floor(request.next() * 60) }
    }
    const before = Buffer.from(chunk), { attempts } = session
    return this.#act(request, result, () => {
      const current = request.logged === 0 && session.attempts === attempts && session.error === null
      if (current && !chunk.equals(before)) this.fail(`a piece of request ${request.id} changed under its filter`)
    })
  }

  #trailers(request: ModelRequest, trailers: HeaderMap): void | Promise<void> {
    if (trailers.get('x-tag') !== String(request.id)) this.fail(`request ${request.id} brought the trailers of another`)
    return this.#act(request, undefined)
  }

  #logging(session: Session, error: ProxyError | null, ctx: Ctx | undefined): void {
    const request = this.byTarget(session.request.target)!
    this.#logged++
    if (++request.logged > 1) this.fail(`request ${request.id} was logged ${request.logged} times`)
    if (ctx !== undefined && ctx.request !== null && ctx.request !== request) {
      this.fail(`request ${request.id} was logged with the state of ${ctx.request.id}`)
    }
    request.error = error
    if (error === null) return
    const { kind, source, cause } = error
    if (cause instanceof AssertionError) this.fail(`request ${request.id}: ${cause.stack}`)
    if (kind === 'HOOK_FAILED' && !(cause instanceof Planned)) {
      this.fail(`request ${request.id}: ${error.message} ${cause instanceof Error ? cause.stack : ''}`)
    }
    const manyInterims = this.origins.some(({ served }) => served.some(one => one.request === request && one.checked > 3))
    const ours = kind === 'LENGTH_MISMATCH' || kind === 'INTERNAL' || kind === 'LOOP_DETECTED'
    if (ours || (kind === 'TOO_MANY_INTERIM' && !manyInterims)) this.fail(`request ${request.id}: ${error.message}`)
    if (error.limit === 'half-close' && (this.options.halfClose === 'keep' || !request.client.sentFin || !request.whole)) {
      this.fail(`request ${request.id} was given up, though its client did not leave`)
    }
    const badOrigin = kind === 'BAD_HEAD' || kind === 'BAD_FRAMING' || kind === 'BAD_UPGRADE' || kind === 'VERSION_NOT_SUPPORTED'
    if (source === 'upstream' && badOrigin && !this.origins.some(origin => origin.garbage)) {
      this.fail(`request ${request.id}: ${error.message}`)
    }
    if (source === 'downstream' && (kind === 'BAD_FRAMING' || kind === 'BAD_HEAD') && !request.spec.broken && !request.client.garbage) {
      this.fail(`request ${request.id}: ${error.message}`)
    }
  }

  #traced(summary: ExchangeEnded): void {
    const request = this.byTarget(summary.target)!
    if (++request.tracedEnds > 1) this.fail(`the end of request ${request.id} was traced twice`)
    request.traced = summary
    if (request.logged > 0) this.fail(`request ${request.id} was traced behind logging`)
  }

  // ---- steps

  #dialOver(dial: Dial): void {
    dial.over = true
    const at = this.#dials.indexOf(dial)
    if (at !== -1) this.#dials.splice(at, 1)
  }

  #dialed(dial: Dial, accept: boolean): void {
    this.#dialOver(dial)
    if (!accept) {
      dial.waiter.onDialFailed(new ProxyError('CONNECT_REFUSED', 'upstream', 'the model refused', { retry: 'always' }))
      return
    }
    const origin = this.sides.origin.makeOrigin(this, this.origins.length, this.options.originKernelBytes)
    this.origins.push(origin)
    dial.waiter.onDialed(origin.near, null)
  }

  #settle(deferred: Deferred, ok: boolean): void {
    this.#deferred = this.#deferred.filter(one => one !== deferred)
    deferred.check()
    if (ok) deferred.resolve()
    else deferred.reject()
  }

  #pass(ms: number): void {
    for (const end of [...this.clients, ...this.origins]) if (ms > 500 && end.holdsUp) end.slow = true
    this.clock.advance(ms)
  }

  #openClients(): Client[] { return this.clients.filter(client => client.open) }
  #openOrigins(): Origin[] { return this.origins.filter(origin => origin.open) }

  /** One step, and everything that follows from it by itself. */
  async step(step: Step): Promise<void> {
    this.#take(step)
    await this.settleTurn()
    this.check()
  }

  #take(step: Step): void {
    switch (step.t) {
      case 'connect': {
        if (this.#openClients().length >= 4 || this.#drainOver) return
        const client = this.sides.client.makeClient(this, this.clients.length, this.options.clientKernelBytes)
        this.clients.push(client)
        admit(this.service, client.near, this.service.listeners[0]!.name)
        return
      }
      case 'request': {
        const client = pick(this.#openClients().filter(one => one.mayRequest), step.at)
        if (client === null) return
        client.request(step.spec)
        client.send(step.send)
        return
      }
      case 'clientSend': pick(this.#openClients().filter(hasBytes), step.at)?.send(step.bytes); return
      case 'clientRead': pick(this.#openClients().filter(one => one.near.undelivered > 0), step.at)?.read(step.bytes); return
      case 'originSend': pick(this.#openOrigins().filter(hasBytes), step.at)?.send(step.bytes); return
      case 'originRead': pick(this.#openOrigins().filter(one => one.near.undelivered > 0), step.at)?.read(step.bytes); return
      case 'clientFin': pick(this.#openClients().filter(one => !one.sentFin), step.at)?.fin(); return
      case 'clientReset': pick(this.#openClients(), step.at)?.cut(); return
      case 'clientGarbage': pick(this.#openClients().filter(one => one.mayGarble), step.at)?.garble(); return
      case 'originFin': this.#leaving(step.at)?.fin(); return
      case 'originReset': this.#leaving(step.at)?.cut(); return
      case 'originGarbage': {
        const origin = pick(this.#openOrigins().filter(one => one.mayGarble), step.at)
        if (origin === null) return
        origin.garble()
        origin.send(100)
        return
      }
      case 'clientTunnel': {
        const client = pick(this.#openClients().filter(one => one.tunnels.length > 0), step.at)
        if (client !== null) this.#clientTunnel(client, pick(client.tunnels, step.at)!)
        return
      }
      case 'originTunnel': {
        const origin = pick(this.#openOrigins().filter(one => one.tunnels.some(isOpen)), step.at)
        if (origin !== null) this.#originTunnel(origin, pick(origin.tunnels.filter(isOpen), step.at)!)
        return
      }
      case 'clientDisturbs': pick(this.#openClients(), step.at)?.disturb(step.at, step.how); return
      case 'originDisturbs': pick(this.#openOrigins(), step.at)?.disturb(step.at, step.how); return
      case 'dial': {
        const dial = pick(this.#dials, step.at)
        if (dial !== null) this.#dialed(dial, step.accept)
        return
      }
      case 'answer': {
        const origin = pick(this.#openOrigins().filter(one => one.owed.length > 0), step.at)
        if (origin === null) return
        origin.answer(pick(origin.owed, step.at)!, step.spec)
        origin.send(step.send)
        return
      }
      case 'interim': {
        const origin = pick(this.#openOrigins().filter(one => one.owed.length > 0), step.at)
        if (origin === null) return
        const served = pick(origin.owed, step.at)!
        served.checked++
        origin.interim(served, step.status)
        origin.send(1000)
        return
      }
      case 'settle': {
        const deferred = pick(this.#deferred, step.at)
        if (deferred !== null) this.#settle(deferred, step.ok)
        return
      }
      case 'pass': this.#pass(step.ms); return
      case 'flow': this.#flow(step.bytes); return
      case 'serve': {
        for (const dial of this.#dials.slice()) this.#dialed(dial, true)
        this.#flow(Infinity)
        for (const origin of this.#openOrigins()) {
          for (const served of origin.owed) origin.answer(served, step.spec)
        }
        this.#flow(Infinity)
        return
      }
      case 'drain':
        this.#drain(step.mode)
        return
    }
  }

  /** An origin that goes away; half of the time one that owes an answer. */
  #leaving(at: number): Origin | null {
    const there = this.#openOrigins().filter(one => !one.sentFin)
    return (at % 2 === 0 ? pick(there.filter(one => one.busy), at >> 1) : null) ?? pick(there, at)
  }

  #clientTunnel(client: Client, request: ModelRequest): void {
    const tunnel = request.tunnel!, from = tunnel.sentByClient, to = from + tunnelPiece(request)
    if (to > 60_000) return
    tunnel.sentByClient = to
    client.sendTunnel(request, bodyOf(100_000 + request.id, to).subarray(from))
    client.send(to - from)
  }

  #originTunnel(origin: Origin, request: ModelRequest): void {
    const tunnel = request.tunnel!, from = tunnel.sentByOrigin, to = from + tunnelPiece(request)
    if (to > 60_000) return
    tunnel.sentByOrigin = to
    origin.sendTunnel(request, bodyOf(200_000 + request.id, to).subarray(from))
    origin.send(to - from)
  }

  /** Everything goes on, up to `bytes` a connection and direction. */
  #flow(bytes: number): boolean {
    let moved = false
    for (const end of [...this.#openClients(), ...this.#openOrigins()]) {
      if (end.send(bytes)) moved = true
      if (end.read(bytes)) moved = true
    }
    return moved
  }

  #drain(mode: 'retire' | 'stop'): void {
    if (this.#drained !== null) return
    const times = drainOrder(mode, DRAIN_DEFAULTS, 3000)
    this.#drained = this.service.drain({ ...times, hardDrainMs: 20_000, idleDrainMs: 500, closeSpreadMs: 100 })
    void this.#drained.then(() => { this.#drainOver = true })
  }

  /** Promises, ticks of the process, and ends of streams that are due. */
  async settleTurn(): Promise<void> {
    await new Promise(setImmediate)
    let ended = false
    for (const end of [...this.clients, ...this.origins]) {
      if ((end.near.destroyed || end.far.destroyed) && end.ends()) ended = true
    }
    if (ended) await this.settleTurn()
  }

  // ---- what must hold between steps

  check(): void {
    if (this.fault !== '') throw new Error(this.fault)
    for (const request of this.requests) if (request.begun > request.logged) this.#checkLeft(request)
    const stats = this.#stats(), active = this.#begun - this.#logged
    if (stats.activeExchanges !== active) throw new Error(`the service counts ${stats.activeExchanges} exchanges, ${active} are under way`)
    let lent = 0, idle = 0, lendings = 0
    for (const connection of this.#upstreams) {
      const { poolLent } = connection
      if (poolLent > 0) lent++
      else if (!connection.stream.destroyed) idle++
      lendings += poolLent
      this.#checkRoom(connection)
    }
    const sum = { active: 0, idle: 0, dialling: 0, waiting: 0 }
    for (const row of this.connector.stats()) {
      sum.active += row.active
      sum.idle += row.idle
      sum.dialling += row.dialling
      sum.waiting += row.waiting
      const roomy = row.waiting === 0 ? undefined : this.#upstreams.find(one => this.#peers.get(one) === row.peer && hasRoom(one))
      if (roomy !== undefined) throw new Error(`${row.waiting} requests wait for ${row.peer}, and a connection has room`)
      const max = this.options.maxConnectionsPerPeer
      const open = row.active + row.idle + row.dialling
      if (max !== 0 && open > max) throw new Error(`${open} connections to ${row.peer}, over ${max}`)
    }
    const dialling = this.#dials.length
    if (sum.active !== lent || sum.idle !== idle || sum.dialling !== dialling) {
      throw new Error(`the pool counts ${JSON.stringify(sum)}; ${lent} are lent, ${idle} idle, ${dialling} dialling`)
    }
    if (this.connector.pool.idle !== idle) throw new Error(`the pool counts ${this.connector.pool.idle} idle, there are ${idle}`)
    if (lendings + dialling + sum.waiting > active) {
      throw new Error(`${lendings} lendings, ${dialling} dialled, ${sum.waiting} waited for, by ${active} exchanges`)
    }
  }

  /** An exchange whose client has left does not go on waiting for an answer; with 'keep' it does. */
  #checkLeft({ id, client, session }: ModelRequest): void {
    if (!client.leftBySaying || this.options.halfClose !== 'abort' || session === null) return
    if (session.response === null && session.error === null) throw new Error(`request ${id} waits for an answer, and its client has left`)
  }

  /** No exchange began where there was no room. */
  #checkRoom(connection: WorldConnection): void {
    const { active, poolLent } = connection, limit = this.sides.origin.limitOf(connection)
    const before = this.#lookedAt.get(connection) ?? { active: 0, limit }, allowed = Math.max(before.active, before.limit, limit)
    if (active > allowed || poolLent > allowed) {
      throw new Error(`${active} exchanges, ${poolLent} lendings on a connection that takes ${limit}`)
    }
    this.#lookedAt.set(connection, { active: Math.max(active, poolLent), limit })
  }

  // ---- the end

  /** Everybody does what they should, at once: whatever is under way must come to its end without a timeout. */
  async cooperate(): Promise<void> {
    let idleRounds = 0
    for (let round = 0; idleRounds < 150; round++) {
      if (round > 5000) throw new Error('the exchanges do not come to an end')
      let moved = this.#deferred.length > 0 || this.#dials.length > 0
      for (const deferred of this.#deferred.slice()) this.#settle(deferred, true)
      for (const dial of this.#dials.slice()) this.#dialed(dial, true)
      if (this.#flow(Infinity)) moved = true
      for (const origin of this.#openOrigins()) {
        for (const served of origin.owed) {
          origin.answer(served, { kind: 'length', size: 10, chunk: 10, close: false, trailers: false, extra: false })
          moved = true
        }
        if (origin.finish()) moved = true
      }
      for (const client of this.#openClients()) if (client.finish()) moved = true
      await this.settleTurn()
      this.check()
      // What just came to its end may have written its last bytes.
      if (moved || this.#flow(Infinity)) idleRounds = 0
      else if (this.#stats().activeExchanges === 0 && this.#drained === null) break
      else {
        idleRounds++
        this.clock.advance(10)
      }
    }
    this.#settled()
  }

  /** With nothing more to move, nothing is under way and everybody has what they were promised. */
  #settled(): void {
    const stats = this.#stats()
    const open = this.requests.filter(request => request.begun > request.logged).map(request => request.id)
    if (stats.activeExchanges !== 0) throw new Error(`requests ${open.join()} are stuck: ${JSON.stringify(stats)}`)
    for (const client of this.clients) {
      const asks = !client.sentFin || (this.options.halfClose === 'keep' && client.waitsFor !== null && client.waitsFor.sentWhole)
      if (client.open && !client.near.destroyed && !client.garbage && asks) {
        if (client.waitsFor !== null) throw new Error(`client ${client.index} waits for request ${client.waitsFor.id} for ever`)
      }
      if (client.didCut || client.wasCut || client.slow) continue
      for (const request of client.requests) {
        if (request.abandoned) continue
        if (request.logged > 0 && request.error === null && !request.completed) {
          throw new Error(`request ${request.id} is logged as answered; its client got ${request.expectedAt} bytes (${request.framing})`)
        }
      }
    }
    for (const request of this.requests) {
      const { completed, error, answeredBy, framing } = request
      if (completed && error !== null && answeredBy !== null && (framing === 'chunked' || framing === 'close')) {
        throw new Error(`request ${request.id} failed (${error.message}), but its answer looks whole`)
      }
      if (request.completed && request.logged === 0 && request.expected !== null) {
        throw new Error(`request ${request.id} was answered and not logged`)
      }
    }
  }

  /** Ends the service and shows that nothing is left. */
  async end(how: 'close' | 'retire' | 'stop'): Promise<void> {
    if (how !== 'close') this.#drain(how)
    if (this.#drained !== null) {
      for (let ms = 0; !this.#drainOver && ms < 40_000; ms += 100) {
        this.clock.advance(100)
        await this.settleTurn()
      }
      if (!this.#drainOver) throw new Error(`the drain does not end: ${JSON.stringify(this.#stats())}`)
      if (this.#stats().connections !== 0) throw new Error('the drain left connections')
    }
    this.service.close()
    await this.settleTurn()
    this.check()
    for (const deferred of this.#deferred.slice()) this.#settle(deferred, true)
    await this.settleTurn()
    this.clock.advance(200)
    await this.settleTurn()
    this.check()
    const { connections, idleConnections, activeExchanges, upgraded } = this.#stats()
    if (connections !== 0 || idleConnections !== 0 || activeExchanges !== 0 || upgraded !== 0) {
      throw new Error(`left open: ${JSON.stringify(this.#stats())}`)
    }
    for (const { near } of [...this.clients, ...this.origins]) {
      if (!near.destroyed) throw new Error(`${near.digest.remoteAddress} was left open`)
    }
    const ofService = this.core.ticker.size
    if (ofService !== 0 || this.ticker.size !== 0) {
      throw new Error(`left ticking: ${ofService} of the service, ${this.ticker.size} of the connector`)
    }
    if (this.clock.pending !== 0) throw new Error(`${this.clock.pending} timers were left`)
    if (this.connector.stats().length !== 0 || this.connector.pool.idle !== 0) {
      throw new Error(`left in the pool: ${JSON.stringify(this.connector.stats())}`)
    }
    if (this.#dials.length !== 0) throw new Error('a dial was left')
    for (const { request, ends } of this.#chosen) if (ends !== 1) throw new Error(`an attempt of request ${request.id} ended ${ends} times`)
    for (const request of this.requests) {
      if (request.logged !== request.tracedEnds) {
        throw new Error(`request ${request.id} was logged ${request.logged} times and traced ${request.tracedEnds} times`)
      }
      if (request.begun > request.logged) throw new Error(`request ${request.id} began and was never logged`)
      const wrong = request.traced === null ? '' : wrongOf(request, request.traced)
      if (wrong !== '') throw new Error(`a tracer was told of request ${request.id}: ${wrong}`)
    }
  }
}

/** Bytes of the next piece, either way. */
function tunnelPiece({ id, tunnel }: ModelRequest): number { return 1 + (id * 997 + tunnel!.sentByClient + tunnel!.sentByOrigin) % 7000 }

/** It has something to send. */
function hasBytes({ hasPending, far }: End): boolean { return hasPending || far.undelivered > 0 }

function hasRoom({ capacity, active, poolLent, stream }: WorldConnection): boolean {
  return !stream.destroyed && capacity + active > poolLent
}

function isOpen(request: ModelRequest): boolean { return request.tunnel !== null }

/** What a tracer was told of the end of a request, compared with what its client and its origin saw; '' when it is right. */
function wrongOf(request: ModelRequest, told: ExchangeEnded): string {
  const { seenStatus, seenBytes, tunnel, answeredBy } = request
  if (told.error !== request.error) return `the error ${told.error?.kind}, and logging ${request.error?.kind}`
  if ((told.flag === '-') !== (told.error === null)) return `the flag ${told.flag} with the error ${told.error?.kind}`
  if (seenStatus !== 0 && told.status !== seenStatus) return `status ${told.status}, its client got ${seenStatus}`
  if (tunnel !== null) {
    if (!told.upgraded) return 'that it was not upgraded'
    const { bytesReceived: received, bytesSent: sent } = told
    if (received < tunnel.client || received > tunnel.sentByClient) return `${received} bytes through the tunnel from the client`
    if (sent < tunnel.origin || sent > tunnel.sentByOrigin) return `${sent} bytes through the tunnel from the origin`
    return ''
  }
  const enough = request.completed ? told.bytesSent === seenBytes : told.bytesSent >= seenBytes || told.upgraded
  if (!enough) return `${told.bytesSent} bytes sent, its client got ${seenBytes}`
  if (!told.upgraded && told.bytesReceived > request.body.length) return `${told.bytesReceived} bytes of ${request.body.length} received`
  if (answeredBy !== null && told.upstreamStatus !== answeredBy.status) return `the origin's status ${told.upstreamStatus}`
  if (told.ownAnswer !== (told.status !== 0 && told.upstreamStatus === 0) && answeredBy !== null) return 'that the answer was its own'
  if (told.attempts < request.sent) return `${told.attempts} attempts, ${request.sent} reached an origin`
  return ''
}

function pick<T>(from: readonly T[], at: number): T | null { return from.length === 0 ? null : from[at % from.length]! }
