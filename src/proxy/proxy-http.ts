/**
 * What an application tells the proxy: one required decision (`upstreamPeer`) and as many others as it wants, in the
 * order in which they run (README.md in this folder draws it). Names and order are Pingora's.
 *
 * Any hook may return a value or a promise; the proxy goes on at once on a value. A hook that is absent costs nothing.
 * What a hook throws ends its exchange, as `failToProxy` decides, and nothing else.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { HttpModule } from '../modules/http-module.ts'
import type { Peer } from '../peer/peer.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'
import type { AskedFilter, BodyResult, BodyUse, ResponseVerdict, Session, Verdict } from './session.ts'

export type { AskedFilter, BodyResult, BodyUse, ResponseVerdict, Verdict } from './session.ts'

/** What the answer to a failed exchange was. */
export interface FailToProxy {
  /** Status that was sent; 0 when none could be. */
  readonly status: number
  /** Whether the client's connection may carry another request. */
  readonly canReuseDownstream: boolean
}

/** The connection of an attempt. */
export interface UpstreamFacts {
  /** It came out of the pool. */
  readonly reused: boolean
  /** The one that `upstreamPeer` chose. */
  readonly peer: Peer
  /** Its addresses, age and TLS. */
  readonly digest: StreamDigest
}

type MaybePromise<T> = T | Promise<T>

/**
 * Your application: one method that has to be there, `upstreamPeer`, and as many of the others as you want, in the order in which they
 * run. Each may return a value or a promise, unless its type says a value alone. What it throws ends its exchange, as `failToProxy`
 * decides, and nothing else; a promise that gives nothing within `hookTimeoutMs` is such a throw.
 *
 *   const origin = new HttpPeer('127.0.0.1:8080')
 *   const app: ProxyHttp = {
 *     requestFilter: session => session.request.path === '/private' ? session.respond(403) : 'continue',
 *     upstreamPeer: () => origin,
 *   }
 */
export interface ProxyHttp<Ctx = unknown> {
  /** Makes the state of one request, which every hook is given as `ctx`; called before anything else. @default ctx is undefined */
  newCtx?(): Ctx
  /** Reusable filters of this service, in descending `order`; read once when the service starts. @default none */
  readonly modules?: readonly HttpModule[]
  /**
   * Body filters that never change how many bytes pass may say so; the message then keeps its Content-Length, and one whose length
   * turns out wrong is cut. `bodyUse` says it of one message. @default { request: false, response: false }: a filtered body is sent chunked
   */
  readonly keepsLength?: { readonly request?: boolean; readonly response?: boolean }

  /** A further request came on a connection for which `persistConnectionContext` kept a value. Before every other phase. */
  onConnectionReuse?(session: Session, ctx: Ctx, kept: unknown): void
  /** First look at the request, before the modules. May answer, and change what holds for the session. */
  earlyRequestFilter?(session: Session, ctx: Ctx): MaybePromise<Verdict | void>
  /** The main look at the request: check, rewrite, answer. Once a request. Default: 'continue'. */
  requestFilter?(session: Session, ctx: Ctx): MaybePromise<Verdict>
  /** Last stop before an upstream is chosen. Default: 'continue'. */
  proxyUpstreamFilter?(session: Session, ctx: Ctx): MaybePromise<Verdict>
  /**
   * Where this attempt goes, or the answer when it shall go nowhere. Called again for every retry: `session.triedPeers` tells where
   * it has been. A throw goes to `failToProxy`.
   */
  upstreamPeer(session: Session, ctx: Ctx): MaybePromise<Peer | 'responded'>
  /** The peer could not be reached. May set `error.retry` or return another error. Default: connect faults are retried. */
  failToConnect?(session: Session, peer: Peer, error: ProxyError, ctx: Ctx): ProxyError | void
  /** A connection is there, new or out of the pool. May answer. */
  connectedToUpstream?(session: Session, connection: UpstreamFacts, ctx: Ctx): MaybePromise<Verdict | void>
  /**
   * The request as it will be sent, a copy for each attempt; `session.request` stays as the client sent it. Hop-by-hop fields
   * are taken out and forwarded ones added behind this hook. Fields that the client's Connection names went before the first
   * hook, so that a client cannot name, and so remove, what a filter adds. May answer.
   */
  upstreamRequestFilter?(session: Session, request: RequestHead, ctx: Ctx): MaybePromise<Verdict | void>
  /**
   * What `filter`, a hook of this application, will do to the body of this message: asked at once before its head is sent, the request's
   * for each attempt. A body that the hook leaves alone passes as if there were no hook. Default: as `keepsLength` says.
   */
  bodyUse?(session: Session, filter: AskedFilter, ctx: Ctx): BodyUse | void
  /**
   * Each piece of the request body, possibly many times, for each attempt; a last call has `last` true and may have an empty
   * chunk. `chunk` is borrowed: copy it to keep it. Not called for a message without a body.
   */
  requestBodyFilter?(session: Session, chunk: Buffer, last: boolean, ctx: Ctx): MaybePromise<BodyResult>
  /** Trailers of the request, when there are any. */
  requestTrailerFilter?(session: Session, trailers: HeaderMap, ctx: Ctx): MaybePromise<void>
  /** An interim response (103 and the like; 100 aside) before it is passed on. 'drop' keeps it from the client. Default: 'forward'. */
  interimResponseFilter?(session: Session, response: ResponseHead, ctx: Ctx): 'forward' | 'drop'
  /**
   * A final response came, and no module has seen it: the place to switch modules on or off for it, through their state. Must not answer.
   */
  adjustUpstreamModules?(session: Session, response: ResponseHead, ctx: Ctx): MaybePromise<void>
  /**
   * The final response as the origin sent it (and as a cache would keep it). May answer instead of it, and may say 'retry' (a 503 of one
   * backend, say): `upstreamPeer` is asked again, and sees this peer in `session.triedPeers`. A retry keeps to the rules of all
   * retries: `maxAttempts`, the budget, an idempotent method, a body that can be sent again; where they forbid it this response goes to
   * the client. The response that is given up is thrown away, its connection closed unless it is whole, and its peer told neither good
   * nor bad. A ProxyError with `retry: 'always'` is for a response that the client must never get: where no retry is left it fails the
   * exchange.
   */
  upstreamResponseFilter?(session: Session, response: ResponseHead, ctx: Ctx): MaybePromise<ResponseVerdict | void>
  /** Each piece of the response body, before a cache. As `requestBodyFilter`. */
  upstreamResponseBodyFilter?(session: Session, chunk: Buffer, last: boolean, ctx: Ctx): MaybePromise<BodyResult>
  /** Trailers of the response, before a cache. */
  upstreamResponseTrailerFilter?(session: Session, trailers: HeaderMap, ctx: Ctx): MaybePromise<void>
  /** The final response as the client will get it. May answer instead of it, as `upstreamResponseFilter`. */
  responseFilter?(session: Session, response: ResponseHead, ctx: Ctx): MaybePromise<Verdict | void>
  /** Each piece of the response body, after a cache. As `requestBodyFilter`. */
  responseBodyFilter?(session: Session, chunk: Buffer, last: boolean, ctx: Ctx): MaybePromise<BodyResult>
  /** Trailers of the response. What it returns is sent as the last piece of the body, instead of them. */
  responseTrailerFilter?(session: Session, trailers: HeaderMap, ctx: Ctx): MaybePromise<Buffer | void>
  /**
   * An attempt failed after it was connected, or a hook threw. May set `error.retry` or return another error; the exchange is tried
   * again only while nothing was sent to the client, the body can be sent again, and the method is idempotent or the request not sent.
   */
  errorWhileProxy?(session: Session, peer: Peer, error: ProxyError, ctx: Ctx, reused: boolean): ProxyError | void
  /** The exchange failed for good. Answer with `session.respond()` and say what was sent, or return nothing for the default page. */
  failToProxy?(session: Session, error: ProxyError, ctx: Ctx): MaybePromise<FailToProxy | void>
  /**
   * True keeps a failed exchange, or an attempt that failed and is repeated, out of the process log. Asked, once for each, of
   * those that have a line there: what an upstream or the proxy failed and what was turned away, not what the client brought
   * about. Default: false.
   */
  suppressErrorLog?(session: Session, error: ProxyError, ctx: Ctx): boolean
  /**
   * One line about the request for the process log, where failures of one kind and peer have a line a second: asked when there
   * is one. Default: method and target.
   */
  requestSummary?(session: Session, ctx: Ctx): string
  /** Always, exactly once, last: whatever happened to the request. `error` is null when nothing failed. The client does not wait for it. */
  logging?(session: Session, error: ProxyError | null, ctx: Ctx): MaybePromise<void>
  /** After `logging`, when the client's connection stays: a value for the next request on it, or undefined. */
  persistConnectionContext?(session: Session, ctx: Ctx): unknown
}

/** Every hook, in the order in which they run. README.md and the tests compare themselves with this list. */
export const HOOKS = [
  'newCtx', 'onConnectionReuse', 'earlyRequestFilter', 'requestFilter', 'proxyUpstreamFilter', 'upstreamPeer', 'failToConnect',
  'connectedToUpstream', 'upstreamRequestFilter', 'bodyUse', 'requestBodyFilter', 'requestTrailerFilter', 'interimResponseFilter',
  'adjustUpstreamModules',
  'upstreamResponseFilter', 'upstreamResponseBodyFilter', 'upstreamResponseTrailerFilter', 'responseFilter', 'responseBodyFilter',
  'responseTrailerFilter', 'errorWhileProxy', 'failToProxy', 'suppressErrorLog', 'requestSummary', 'logging', 'persistConnectionContext',
] as const satisfies readonly (keyof ProxyHttp)[]
