/**
 * A module is a reusable set of filters that a service puts in front of its application's own: compression, gRPC-web
 * and the like. It is built once per service; what it remembers of one exchange is its state, made on first use.
 * Modules run in descending `order`, before the application's hook of the same name.
 */
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { AskedFilter, BodyResult, BodyUse, Session, Verdict } from '../proxy/session.ts'

type MaybePromise<T> = T | Promise<T>

/**
 * A reusable set of filters with state for each exchange: listed in `modules` of an application. Modules run in descending `order`,
 * their request filters before the application's and their response filters behind it, also for error pages.
 */
export interface HttpModule<State = unknown> {
  /** At least one character: messages name its hooks by it (`responseFilter of module gzip`). */
  readonly name: string
  /** Larger runs first; equal ones in the order given. @default 0 */
  readonly order?: number
  /** State for one exchange; `session.moduleState(module)` hands it to other hooks. */
  newState?(): State
  /** Behind `earlyRequestFilter`, before `requestFilter`. */
  requestFilter?(session: Session, state: State): MaybePromise<Verdict>
  /** Each piece of the request body, for each attempt, before the application's hook of this name; as that one is called. */
  requestBodyFilter?(session: Session, chunk: Buffer, last: boolean, state: State): MaybePromise<BodyResult>
  /**
   * The request as it will be sent, behind the application's `upstreamRequestFilter`, in every attempt: the place for fields
   * that belong to an attempt, such as a `traceparent`. `request` is a copy for this attempt; `attempt` counts from 1. May answer.
   */
  upstreamRequestFilter?(session: Session, request: RequestHead, attempt: number, state: State): MaybePromise<Verdict | void>
  /**
   * The response as the origin sent it, before the application's `upstreamResponseFilter` and a cache. The application may have looked
   * at it, and changed the state, in `adjustUpstreamModules`. Not for answers of our own.
   */
  upstreamResponseFilter?(session: Session, response: ResponseHead, state: State): MaybePromise<void>
  /** Each piece of that response's body, before the application's hook of this name. */
  upstreamResponseBodyFilter?(session: Session, chunk: Buffer, last: boolean, state: State): MaybePromise<BodyResult>
  /** Behind the application's `responseFilter`; also for answers of filters and for error pages. */
  responseFilter?(session: Session, response: ResponseHead, state: State): MaybePromise<void>
  /** Each piece of the body for the client, behind the application's hook of this name; of answers of filters and error pages as well. */
  responseBodyFilter?(session: Session, chunk: Buffer, last: boolean, state: State): MaybePromise<BodyResult>
  /** What it returns is sent as the last piece of the body, instead of the trailers. */
  responseTrailerFilter?(session: Session, trailers: HeaderMap, state: State): MaybePromise<Buffer | void>
  /** The response was handed to the client whole. */
  responseDone?(session: Session, state: State): void
  /**
   * What `filter`, a hook of this module, will do to the body of this message, as `bodyUse` of the application. Default: as
   * `keepsLength` says.
   */
  bodyUse?(session: Session, filter: AskedFilter, state: State): BodyUse | void
  /** The body filters of this module keep the number of bytes. @default false */
  readonly keepsLength?: boolean
}

/** Every hook of a module, in the order in which they run. */
export const MODULE_HOOKS = [
  'newState', 'requestFilter', 'upstreamRequestFilter', 'bodyUse', 'requestBodyFilter', 'upstreamResponseFilter',
  'upstreamResponseBodyFilter', 'responseFilter', 'responseBodyFilter', 'responseTrailerFilter', 'responseDone',
] as const satisfies readonly (keyof HttpModule)[]
