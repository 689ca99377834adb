/**
 * What an exchange has more where its request is a call of gRPC or gRPC-Web: made for those alone, by the content type that the client
 * sent. Three things are different then.
 *
 * - An answer that the proxy makes itself is one that callers of gRPC understand (http/grpc-answer.ts). What an origin answers passes
 *   as it is.
 * - The call ends when its `grpc-timeout` has passed, whatever it waits for. A value that is none is left to the origin, as Envoy does.
 * - A call may stream for as long as something passes in either direction: `streamIdleTimeoutMs` takes the place of limits that judge one
 *   direction by itself, and would cut a stream whose other side has the word.
 *
 * The deadline is looked at once a tick: it is met up to TICK_MS late, and never early.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import { grpcMediaType, grpcTimeoutMs } from '../http/grpc-request.ts'
import { FieldKind } from '../http/header-map.ts'
import type { RequestHead } from '../http/message-head.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'
import type { OriginTimes, RequestLimits } from '../protocols/http-options.ts'

const NEVER = Number.POSITIVE_INFINITY

/** An exchange, as its call sees it. */
export interface CallOwner {
  /** Its deadline has passed. Told once. */
  onCallLate(error: ProxyError): void
}

export class GrpcCall implements Timed {
  tickIndex = -1
  /** As the client sent it, in lower case and without parameters. */
  readonly mediaType: string
  /** The client's session looks at the silence of both directions. */
  readonly #isStream: boolean
  /** In ms; negative: the client waits for as long as it takes. */
  readonly #timeoutMs: number
  readonly #owner: CallOwner
  readonly #ticker: Ticker
  #deadline = NEVER

  constructor(mediaType: string, { headers, version }: RequestHead, owner: CallOwner, ticker: Ticker) {
    this.mediaType = mediaType
    this.#isStream = version === '2'
    this.#timeoutMs = grpcTimeoutMs(headers.get('grpc-timeout') ?? '')
    this.#owner = owner
    this.#ticker = ticker
  }

  /** Null: the request is no call. */
  static of(request: RequestHead, owner: CallOwner, ticker: Ticker): GrpcCall | null {
    if (request.method !== 'POST') return null
    const mediaType = grpcMediaType(request.headers.getKind(FieldKind.ContentType) ?? '')
    return mediaType === '' ? null : new GrpcCall(mediaType, request, owner, ticker)
  }

  begin(): void {
    if (this.#timeoutMs < 0) return
    // Not the time of the last tick: the call would end too early by that.
    this.#deadline = this.#ticker.clock.exact() + this.#timeoutMs
    this.#ticker.add(this)
  }

  end(): void { this.#ticker.remove(this) }

  onTick(now: number): void {
    if (now < this.#deadline) return
    this.end()
    const text = `the call took longer than its grpc-timeout, ${this.#timeoutMs} ms`
    this.#owner.onCallLate(new ProxyError('TOTAL_TIMEOUT', 'downstream', text, { status: 408, limit: 'grpc-timeout' }))
  }

  /** A client may be silent, and slow, while the other direction has the word. */
  requestLimits(limits: RequestLimits): RequestLimits {
    const known = this.#isStream ? limitsOfStreams : limitsOfCalls
    let found = known.get(limits)
    if (found !== undefined) return found
    const { bodyIdleTimeoutMs, streamIdleTimeoutMs } = limits
    found = { ...limits, bodyIdleTimeoutMs: this.#silence(bodyIdleTimeoutMs, streamIdleTimeoutMs), minBodyBytesPerSecond: 0 }
    known.set(limits, found)
    return found
  }

  /** So may an origin, before its first byte as well: it may have a head only for the first message. */
  originTimes(times: OriginTimes, { streamIdleTimeoutMs }: RequestLimits): OriginTimes {
    const firstByteTimeoutMs = this.#silence(times.firstByteTimeoutMs, streamIdleTimeoutMs)
    const readTimeoutMs = this.#silence(times.readTimeoutMs, streamIdleTimeoutMs)
    const { responseHeadTimeoutMs, writeTimeoutMs } = times
    return { firstByteTimeoutMs, responseHeadTimeoutMs, readTimeoutMs, writeTimeoutMs }
  }

  /** How long one direction may be silent: in HTTP/1, where nobody looks at both, no longer than both. */
  #silence(ofOne: number, ofBothMs: number): number { return this.#isStream || ofBothMs === 0 ? NEVER : Math.max(ofOne, ofBothMs) }
}

/** By what they were made of, which is a listener's, for HTTP/2 and for HTTP/1. */
const limitsOfStreams = new WeakMap<RequestLimits, RequestLimits>()
const limitsOfCalls = new WeakMap<RequestLimits, RequestLimits>()
