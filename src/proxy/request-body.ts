/**
 * The body of one request on its way to the origin: what is kept of it for another attempt, what a hook asked to read ahead,
 * the wait for 100 Continue, and the pipe through filters. An exchange makes one only for a request that has a body.
 *
 *   client's session ── chunk ─▶ [kept, up to maxReplayBytes] ─▶ [pipe: filters] ─▶ session of the attempt under way
 *                                     └── sent again first when another attempt follows
 *
 * Without filters a chunk goes straight to the origin's session, and its buffer with it.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { HeaderMap } from '../http/header-map.ts'
import { heldBytes } from '../primitives/held-bytes.ts'
import type { DownstreamSession, UpstreamSession } from '../protocols/http-session.ts'
import type { Attempt } from './attempt.ts'
import { BodyPipe } from './body-pipe.ts'
import type { BodyStage } from './body-stage.ts'
import type { HookHost } from './hook-watch.ts'
import type { KeptBodies, KeptBody } from './kept-bodies.ts'
import type { PhaseSubject } from './phases.ts'

const NOTHING = Buffer.alloc(0)

/** Kept pieces are joined up to this size: a body of single bytes must not cost an object for each. */
const JOINED_BYTES = 4096

/** The exchange, as its request's body sees it. */
export interface RequestBodyOwner {
  readonly keptBodies: KeptBodies
  /** A filter (`hook`) threw or rejected; the pipe has stopped. */
  pipeFailed(thrown: unknown, hook: string): void
  /** What a hook read ahead is read. */
  onBodyRead(): void
}

interface Reading {
  readonly max: number
  readonly resolve: (body: Buffer) => void
  readonly reject: (error: ProxyError) => void
}

export class RequestBody<Ctx> implements KeptBody {
  keptOlder: KeptBody | null = null
  keptNewer: KeptBody | null = null
  readonly #down: DownstreamSession
  readonly #host: HookHost
  readonly #owner: RequestBodyOwner & PhaseSubject<Ctx>
  /** Filters of this attempt; null: none. */
  #stage: BodyStage<PhaseSubject<Ctx>> | null = null
  /** Who gets the chunks; null between attempts. */
  #attempt: Attempt | null = null
  #pipe: RequestPipe<Ctx> | null = null
  /** Body seen so far, as long as all of it is kept; null before it flows, and once too much went by. */
  #kept: Buffer[] | null = null
  #keptBytes = 0
  /** What `heldBytes` has of it. */
  keptLength = 0
  /** It is in the list of those that are kept for another attempt. */
  #listed = false
  /** The client was asked for it: from here on it is kept, or lost for another attempt. */
  #begun = false
  #ended = false
  #trailers: HeaderMap | null = null
  /** A hook reads it ahead. */
  #reading: Reading | null = null
  #cancelContinue: (() => void) | null = null

  constructor(down: DownstreamSession, host: HookHost, owner: RequestBodyOwner & PhaseSubject<Ctx>) {
    this.#down = down
    this.#host = host
    this.#owner = owner
  }

  /** A hook reads it ahead, and waits for the client. */
  get reading(): boolean { return this.#reading !== null }
  /** All that was taken from the client can be sent again. */
  get repeatable(): boolean { return !this.#begun || this.#kept !== null }

  // ---- to an origin

  /** The head went out: sends what is kept, then what comes. */
  sendTo(attempt: Attempt, stage: BodyStage<PhaseSubject<Ctx>> | null): void {
    const session = attempt.session!
    this.#attempt = attempt
    this.#stage = stage
    const pipe = this.#pipe = stage === null ? null : new RequestPipe(this, session, this.#down, this.#host, this.#owner)
    if (!this.#begun) {
      this.#begun = true
      this.#kept = attempt.peer.options.maxReplayBytes > 0 ? [] : null
    } else if (this.#keptBytes > 0) {
      // Filters may change a chunk in place: what is kept for another attempt is not shown to them.
      const kept = this.#kept!, body = kept.length === 1 && pipe === null ? kept[0]! : Buffer.concat(kept)
      if (pipe !== null) pipe.chunk(body, 0, body.length)
      else session.writeBody(body, 0, body.length, true)
      if (this.#attempt !== attempt) return
      this.#list()
    }
    if (this.#ended) this.#passEnd()
    else if (this.#down.awaitsContinue) this.#awaitContinue(attempt.peer.options.continueTimeoutMs)
    else this.#open()
  }

  /** The origin decides, for a while; then the client is told to go on anyway (RFC 9110 10.1.1). */
  #awaitContinue(timeoutMs: number): void {
    this.#cancelContinue = this.#host.ticker.clock.after(timeoutMs, () => {
      this.#cancelContinue = null
      this.#down.sendContinue()
      this.#open()
    })
  }

  /** The origin said 100. */
  continueNow(): void {
    if (this.#cancelContinue === null) return
    this.#endContinueWait()
    this.#down.sendContinue()
    this.#open()
  }

  /** The origin answered: a client that holds its body back will not be asked for it. */
  answered(): void { this.#endContinueWait() }

  #endContinueWait(): void {
    this.#cancelContinue?.()
    this.#cancelContinue = null
  }

  #open(): void {
    if (this.#pipe !== null) this.#pipe.open(this.#stage)
    else if (this.#attempt === null || this.#attempt.session === null || this.#attempt.session.bytesQueued === 0) this.#down.resumeRequest()
  }

  originDrained(): void {
    if (this.#pipe !== null) this.#pipe.drained()
    else if (!this.#ended && this.#begun && this.#cancelContinue === null && this.#attempt !== null) this.#down.resumeRequest()
  }

  // ---- from the client

  chunk(buffer: Buffer, from: number, to: number): void {
    if (this.#reading !== null) {
      this.#read(this.#reading, buffer, from, to)
      return
    }
    const attempt = this.#attempt
    if (this.#kept !== null && attempt !== null) this.#remember(buffer, from, to, attempt.peer.options.maxReplayBytes)
    if (this.#pipe !== null) {
      this.#pipe.chunk(buffer, from, to)
      return
    }
    const session = attempt === null ? null : attempt.session
    if (session === null) return
    session.writeBody(buffer, from, to, true)
    if (session.bytesQueued > 0) this.#down.pauseRequest()
  }

  end(trailers: HeaderMap | null): void {
    this.#ended = true
    this.#trailers = trailers
    const reading = this.#reading
    if (reading !== null) {
      this.#reading = null
      reading.resolve(Buffer.concat(this.#kept!))
      this.#owner.onBodyRead()
      return
    }
    const session = this.#attempt === null ? null : this.#attempt.session
    if (session === null) return
    if (this.#pipe === null && session.bytesQueued > 0) this.#down.giveUpBuffer()
    this.#passEnd()
  }

  #passEnd(): void {
    const pipe = this.#pipe
    if (pipe === null) {
      this.#attempt!.session!.endRequest(this.#trailers)
      return
    }
    // A filter that throws at the end takes the pipe away.
    pipe.end(this.#trailers)
    pipe.open(this.#stage)
  }

  // ---- kept for another attempt

  #remember(buffer: Buffer, from: number, to: number, maxBytes: number): void {
    this.#keptBytes += to - from
    // It is kept for what may never happen: when memory is short, for nothing.
    if (this.#keptBytes > maxBytes || !this.#owner.keptBodies.roomy) {
      this.#forget()
      return
    }
    this.#keep(buffer, from, to)
    this.#list()
  }

  #list(): void {
    if (this.#listed || this.#kept === null) return
    this.#listed = true
    this.#owner.keptBodies.add(this)
  }

  spare(): void { if (this.#attempt !== null) this.#forget() }

  #forget(): void {
    this.#kept = null
    if (this.#listed) this.#owner.keptBodies.remove(this)
    this.#listed = false
    heldBytes.now -= this.keptLength
    this.keptLength = 0
  }

  #keep(buffer: Buffer, from: number, to: number): void {
    const pieces = this.#kept!, last = pieces.length - 1, piece = buffer.subarray(from, to)
    if (last >= 0 && pieces[last]!.length + piece.length <= JOINED_BYTES) pieces[last] = Buffer.concat([pieces[last]!, piece])
    else pieces.push(Buffer.from(piece))
    this.keptLength += piece.length
    heldBytes.now += piece.length
    if (this.#listed) this.#owner.keptBodies.bytes += piece.length
  }

  // ---- read ahead

  /** All of it, for a hook; it is sent on afterwards all the same. */
  read(maxBytes: number): Promise<Buffer> {
    if (this.#ended && this.#kept !== null) return Promise.resolve(Buffer.concat(this.#kept))
    if (this.#begun) return bodyOnItsWay()
    this.#begun = true
    this.#kept = []
    const length = this.#down.requestBodyLength
    if (length > maxBytes) return Promise.reject(tooLarge(`request body of ${length} bytes, over ${maxBytes}`))
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    this.#reading = { max: maxBytes, resolve, reject }
    this.#down.sendContinue()
    this.#down.resumeRequest()
    return promise
  }

  #read(reading: Reading, buffer: Buffer, from: number, to: number): void {
    this.#keptBytes += to - from
    // Also the piece that is too much: an application may go on without having read the body, and then all of it goes on.
    this.#keep(buffer, from, to)
    if (this.#keptBytes <= reading.max) return
    this.#reading = null
    this.#down.pauseRequest()
    reading.reject(tooLarge(`request body over ${reading.max} bytes`))
    this.#owner.onBodyRead()
  }

  /** The client is gone, or broke the rules: nothing more of it will come. */
  fail(error: ProxyError): void {
    const reading = this.#reading
    this.#reading = null
    reading?.reject(error)
  }

  // ---- the end of an attempt, and of the exchange

  /** The attempt is over: what comes waits for the next one. */
  holdBack(): void {
    this.stop()
    if (!this.#ended && this.#begun) this.#down.pauseRequest()
  }

  /** The exchange is over. */
  close(): void {
    this.stop()
    this.#forget()
  }

  /** Nothing more is passed on. */
  stop(): void {
    this.#attempt = null
    this.#endContinueWait()
    this.#pipe?.stop()
    this.#pipe = null
  }

  // ---- for the pipe

  resumeSource(): void { if (!this.#ended) this.#down.resumeRequest() }
}

/** The answer to a hook that reads it too late. */
export function bodyOnItsWay(): Promise<never> {
  return Promise.reject(new Error('readBody: the body is already on its way to an upstream; call it in requestFilter'))
}

function tooLarge(context: string): ProxyError {
  return new ProxyError('BODY_TOO_LARGE', 'downstream', context, { status: 413, limit: 'request-body-bytes' })
}

/** A body that an exchange without one is asked for. */
export const NO_BODY: Promise<Buffer> = Promise.resolve(NOTHING)

/** From the client's session through the filters to the origin's. */
class RequestPipe<Ctx> extends BodyPipe<PhaseSubject<Ctx>> {
  readonly #body: RequestBody<Ctx>
  readonly #up: UpstreamSession
  readonly #down: DownstreamSession
  readonly #owner: RequestBodyOwner

  constructor(
    body: RequestBody<Ctx>, up: UpstreamSession, down: DownstreamSession, host: HookHost,
    owner: RequestBodyOwner & PhaseSubject<Ctx>,
  ) {
    super(host, owner)
    this.#body = body
    this.#up = up
    this.#down = down
    this.#owner = owner
  }

  protected override pauseSource(): void { this.#down.pauseRequest() }
  protected override resumeSource(): void { this.#body.resumeSource() }
  protected override giveUpSourceBuffer(): void { this.#down.giveUpBuffer() }
  protected override get sinkBlocked(): boolean { return this.#up.bytesQueued > 0 }
  protected override writeSink(buffer: Buffer, from: number, to: number): void { this.#up.writeBody(buffer, from, to, true) }
  protected override endSink(trailers: HeaderMap | null): void { this.#up.endRequest(trailers) }
  protected override failed(thrown: unknown, hook: string): void { this.#owner.pipeFailed(thrown, hook) }
}
