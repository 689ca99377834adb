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
import type { Clock } from '../primitives/clock.ts'
import { BODY_UNKNOWN, type DownstreamSession } from '../protocols/http-session.ts'
import { BodyPipe } from './body-pipe.ts'
import type { BodyStage, PhaseSubject, ResponseOrigin } from './phases.ts'
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
  /** The body of an answer of our own cannot be had. */
  onSourceFailed(thrown: unknown): void
}

const OwnState = { Paused: 0, Flowing: 1, Ended: 2 } as const
type OwnState = (typeof OwnState)[keyof typeof OwnState]

/** An answer of a filter, or an error page. Its body flows no faster than the client takes it. */
export class OwnAnswer implements ResponseSource {
  readonly kind = 'own'
  readonly head: ResponseHead
  /** Bytes, or BODY_UNKNOWN. */
  readonly length: number
  readonly #bytes: Buffer | null
  readonly #body: AsyncIterable<Uint8Array | string> | null
  #iterator: AsyncIterator<Uint8Array | string> | null = null
  #sink: ResponseSink | null = null
  #state: OwnState = OwnState.Paused
  /** A piece was asked for and is not there yet. */
  #pulling = false

  /** @param body text is sent as UTF-8 */
  constructor(head: ResponseHead, body: ResponseBody) {
    const bytes = body === null ? Buffer.alloc(0) : typeof body === 'string' || body instanceof Uint8Array ? toBuffer(body) : null
    this.head = head
    this.#bytes = bytes
    this.#body = bytes === null ? body as AsyncIterable<Uint8Array | string> : null
    this.length = bytes === null ? BODY_UNKNOWN : bytes.length
  }

  /** Who gets the body. Nothing flows before `resume()`. */
  sendTo(sink: ResponseSink): void { this.#sink = sink }

  pause(): void { if (this.#state === OwnState.Flowing) this.#state = OwnState.Paused }

  resume(): void {
    if (this.#state !== OwnState.Paused) return
    this.#state = OwnState.Flowing
    if (this.#bytes !== null) this.#sendBytes(this.#bytes)
    else this.#pull()
  }

  /** Every piece is the receiver's: nothing is written into it again. */
  giveUpBuffer(): void {}

  /** The answer is no longer wanted: an iterated body is told so. */
  cancel(): void {
    if (this.#state === OwnState.Ended) return
    this.#state = OwnState.Ended
    // What becomes of a body that was given up is of no interest.
    void this.#iterator?.return?.().catch(() => {})
  }

  #sendBytes(bytes: Buffer): void {
    this.#state = OwnState.Ended
    if (bytes.length > 0) this.#sink!.onResponseBody(bytes, 0, bytes.length, true)
    this.#sink!.onResponseEnd(null)
  }

  #pull(): void {
    if (this.#pulling) return
    this.#pulling = true
    let next: Promise<IteratorResult<Uint8Array | string>>
    try {
      next = (this.#iterator ??= this.#body![Symbol.asyncIterator]()).next()
    } catch (thrown) {
      this.#fail(thrown)
      return
    }
    next.then(result => this.#pulled(result)).catch((thrown: unknown) => this.#fail(thrown))
  }

  #pulled({ done, value }: IteratorResult<Uint8Array | string>): void {
    this.#pulling = false
    if (this.#state === OwnState.Ended) return
    if (done === true) {
      this.#state = OwnState.Ended
      this.#sink!.onResponseEnd(null)
      return
    }
    const piece = toBuffer(value)
    // Paused from here on, unless the sink resumes: the next piece is asked for then.
    if (piece.length > 0) this.#sink!.onResponseBody(piece, 0, piece.length, true)
    if (this.#state === OwnState.Flowing) this.#pull()
  }

  #fail(thrown: unknown): void {
    if (this.#state === OwnState.Ended) return
    this.#state = OwnState.Ended
    this.#sink!.onSourceFailed(thrown)
  }
}

function toBuffer(piece: Uint8Array | string): Buffer {
  return typeof piece === 'string' ? Buffer.from(piece) : Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
}

/** The exchange, as the pipe of its response sees it. */
export interface ResponsePipeOwner {
  /** The whole body was handed to the client's session. */
  endResponse(trailers: HeaderMap | null): void
  /** A filter threw or rejected; the pipe has stopped. */
  pipeFailed(thrown: unknown): void
}

/** From a source through the filters to the client's session. */
export class ResponsePipe<Ctx> extends BodyPipe<PhaseSubject<Ctx>> {
  readonly #owner: ResponsePipeOwner
  readonly #source: ResponseSource
  readonly #down: DownstreamSession

  constructor(
    owner: ResponsePipeOwner & PhaseSubject<Ctx>, source: ResponseSource, down: DownstreamSession, clock: Clock,
    stage: BodyStage<PhaseSubject<Ctx>> | null,
  ) {
    super(clock, owner, stage)
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
  protected override failed(thrown: unknown): void { this.#owner.pipeFailed(thrown) }
}
