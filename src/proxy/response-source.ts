/**
 * Where the answer to a request comes from, and its body's way to the client. An origin's attempt (attempt.ts), an answer of
 * our own, and later a stored one are sources of one shape; each enters the phases at its place and then takes the same steps
 * (phases.ts), so that filters, delays, HEAD and lengths behave alike for all.
 *
 *   source ── onResponseBody ─▶ exchange ─▶ [ResponsePipe: filters] ─▶ client's session
 *          ◀── pause, resume ──
 */
import type { HeaderMap } from '../http/header-map.ts'
import type { ResponseHead } from '../http/message-head.ts'
import type { DownstreamSession } from '../protocols/http-session.ts'
import { BodyPipe } from './body-pipe.ts'
import { hookLate, HookWatch, type HookHost, type HookWaiter } from './hook-watch.ts'
import type { PhaseSubject, ResponseOrigin } from './phases.ts'
import type { ResponseBody } from './session.ts'

export interface ResponseSource {
  readonly kind: ResponseOrigin
  /** Stops the body: no chunk until `resume()`; the end may still be told behind the last chunk. */
  pause(): void
  /** Lets the body flow, for the first time or again. Chunks may come within this call. */
  resume(): void
  /** Within a chunk, or the end behind it: its buffer is left to the receiver for good. */
  giveUpBuffer(): void
}

/** The exchange, as a source sees it. */
export interface ResponseSink {
  /** `owned`: the chunk stays untouched while the source is paused. */
  onResponseBody(buffer: Buffer, from: number, to: number, owned: boolean): void
  onResponseEnd(trailers: HeaderMap | null): void
  /** The body of an answer of our own cannot be had. `what`: who is to blame. */
  onSourceFailed(thrown: unknown, what: string): void
}

const OwnState = { Paused: 0, Flowing: 1, Ended: 2 } as const
type OwnState = (typeof OwnState)[keyof typeof OwnState]

/** Who is to blame for the body of an answer of our own. */
const OWN_BODY = 'the body given to respond()'

/** An answer of a filter, or an error page. Its body flows no faster than the client takes it. */
export class OwnAnswer implements ResponseSource, HookWaiter {
  readonly kind = 'own'
  readonly head: ResponseHead
  /** Bytes, or BODY_UNKNOWN: of what is iterated, the length that the head announces. */
  readonly length: number
  readonly #host: HookHost
  /** The whole body; null: it is iterated. */
  readonly bytes: Buffer | null
  readonly #body: AsyncIterable<Uint8Array | string> | null
  #iterator: AsyncIterator<Uint8Array | string> | null = null
  readonly #sink: ResponseSink
  #state: OwnState = OwnState.Paused
  /** A piece was asked for and is not there yet. */
  #pulling = false
  /** Made when a piece is asked for first. */
  #watch: HookWatch | null = null

  /**
   * Nothing flows to `sink` before `resume()`.
   * @param body text is sent as UTF-8
   * @throws TypeError when it is no body
   */
  constructor(head: ResponseHead, body: ResponseBody, sink: ResponseSink, host: HookHost) {
    const bytes = body === null ? Buffer.alloc(0) : typeof body === 'string' || body instanceof Uint8Array ? toBuffer(body) : null
    if (bytes === null && typeof (body as AsyncIterable<unknown>)[Symbol.asyncIterator] !== 'function') {
      throw new TypeError('a body of an answer is text, bytes, an async iterable of them, or null')
    }
    this.head = head
    this.#sink = sink
    this.#host = host
    this.bytes = bytes
    this.#body = bytes === null ? body as AsyncIterable<Uint8Array | string> : null
    // Who knows the length of what is iterated says it in the head, and is held to it.
    this.length = bytes === null ? head.headers.contentLength() : bytes.length
    // A stream may fail before it is read, or behind the last reader: then nobody else would listen.
    if (isEmitter(this.#body)) this.#body.on('error', ignore)
  }

  pause(): void { if (this.#state === OwnState.Flowing) this.#state = OwnState.Paused }

  resume(): void {
    if (this.#state !== OwnState.Paused) return
    this.#state = OwnState.Flowing
    if (this.bytes !== null) this.#sendBytes(this.bytes)
    else this.#pull()
  }

  /** Every piece is the receiver's: nothing is written into it again. */
  giveUpBuffer(): void {}

  /** The answer is no longer wanted: an iterated body is told so. */
  cancel(): void {
    if (this.#state === OwnState.Ended) return
    this.#end()
    if (this.#body !== null) giveUp(this.#body, this.#iterator)
  }

  #end(): void {
    this.#state = OwnState.Ended
    this.#watch?.end()
  }

  #sendBytes(bytes: Buffer): void {
    this.#state = OwnState.Ended
    if (bytes.length > 0) this.#sink.onResponseBody(bytes, 0, bytes.length, true)
    this.#sink.onResponseEnd(null)
  }

  #pull(): void {
    if (this.#pulling) return
    this.#pulling = true
    ;(this.#watch ??= new HookWatch(this.#host, this)).begin()
    this.#next().then(result => this.#pulled(result)).catch((thrown: unknown) => this.#fail(thrown))
  }

  /** What the iterator throws, and what it gives that is no promise, becomes one. */
  async #next(): Promise<IteratorResult<Uint8Array | string>> { return (this.#iterator ??= this.#body![Symbol.asyncIterator]()).next() }

  #pulled({ done, value }: IteratorResult<Uint8Array | string>): void {
    this.#pulling = false
    if (this.#state === OwnState.Ended) return
    this.#watch!.end()
    if (done === true) {
      this.#state = OwnState.Ended
      this.#sink.onResponseEnd(null)
      return
    }
    const piece = toBuffer(value)
    // Paused from here on, unless the sink resumes: the next piece is asked for then.
    if (piece.length > 0) this.#sink.onResponseBody(piece, 0, piece.length, true)
    if (this.#state === OwnState.Flowing) this.#pull()
  }

  onHookLate(): void {
    giveUp(this.#body!, this.#iterator)
    this.#fail(hookLate(OWN_BODY, this.#host))
  }

  #fail(thrown: unknown): void {
    if (this.#state === OwnState.Ended) return
    this.#end()
    this.#sink.onSourceFailed(thrown, OWN_BODY)
  }
}

/**
 * Tells a body that nobody reads it to its end; also one that was not begun, which may hold a file or a connection. What becomes
 * of it is of no interest.
 */
function giveUp(body: AsyncIterable<unknown>, iterator: AsyncIterator<unknown> | null): void {
  const { destroy, cancel } = body as { destroy?: unknown; cancel?: unknown }
  try {
    // A promise of the iterator that is never settled would hold `return` up: a stream is told at once.
    if (typeof destroy === 'function') destroy.call(body)
    if (iterator !== null) Promise.resolve(iterator.return?.()).catch(ignore)
    else if (typeof cancel === 'function') Promise.resolve(cancel.call(body)).catch(ignore)
  } catch { /* As said. */ }
}

/** A body that was given with an answer that could not be. */
export function discardBody(body: ResponseBody): void {
  if (typeof body !== 'object' || body === null || body instanceof Uint8Array) return
  if (isEmitter(body)) body.on('error', ignore)
  giveUp(body, null)
}

function ignore(): void {}

function isEmitter(body: unknown): body is { on(event: 'error', listener: () => void): void } {
  return body !== null && typeof (body as { on?: unknown }).on === 'function'
}

function toBuffer(piece: Uint8Array | string): Buffer {
  if (typeof piece === 'string') return Buffer.from(piece)
  if (piece instanceof Uint8Array) return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
  throw new TypeError(`it gave ${piece === null ? 'null' : typeof piece}, which is neither text nor bytes`)
}

/** The exchange, as the pipe of its response sees it. */
export interface ResponsePipeOwner {
  /** The whole body was handed to the client's session. */
  endResponse(trailers: HeaderMap | null): void
  /** A filter (`hook`) threw or rejected; the pipe has stopped. */
  pipeFailed(thrown: unknown, hook: string): void
}

/** From a source through the filters to the client's session. */
export class ResponsePipe<Ctx> extends BodyPipe<PhaseSubject<Ctx>> {
  readonly #owner: ResponsePipeOwner
  readonly #source: ResponseSource
  readonly #down: DownstreamSession

  constructor(
    owner: ResponsePipeOwner & PhaseSubject<Ctx>, source: ResponseSource, down: DownstreamSession, host: HookHost,
  ) {
    super(host, owner)
    this.#owner = owner
    this.#source = source
    this.#down = down
  }

  protected override pauseSource(): void { this.#source.pause() }
  protected override resumeSource(): void { this.#source.resume() }
  protected override giveUpSourceBuffer(): void { this.#source.giveUpBuffer() }
  protected override get sinkBlocked(): boolean { return this.#down.bytesQueued > 0 }
  protected override writeSink(buffer: Buffer, from: number, to: number): void { this.#down.writeBody(buffer, from, to, true) }
  protected override endSink(trailers: HeaderMap | null): void { this.#owner.endResponse(trailers) }
  protected override failed(thrown: unknown, hook: string): void { this.#owner.pipeFailed(thrown, hook) }
}
