/**
 * One stream that a client opened: its request, and the answer to it (RFC 9113 5, 8).
 *
 *   Exchange ──release()──▶ Released          the exchange is over; the rest of the answer may still be on its way
 *      └──── detach() ────▶ Detached ──release()──▶ Released         the stream is a tunnel
 *
 * On the wire it is open, half-closed and closed apart from that: `remoteEnded` and `localEnded`. What a paused stream is sent
 * waits in its window, so that no stream holds up another; what is sent waits here while a window or the transport is full.
 * An answer that is whole before its request ends the request with RST_STREAM(NO_ERROR) (8.1). An answer that breaks off is reset.
 * Tests: server-connection.test.ts, server-streams.test.ts
 */
import { ProxyError } from '../../errors/proxy-error.ts'
import type { FieldLines } from '../../http/field-lines.ts'
import { trailersOnly } from '../../http/grpc-answer.ts'
import { FieldKind, HeaderMap } from '../../http/header-map.ts'
import { HOP_BY_HOP } from '../../http/hop-by-hop.ts'
import { ResponseHead, type RequestHead } from '../../http/message-head.ts'
import { BUFFER_RESERVE, copyWithReserve, type StreamDigest } from '../byte-stream.ts'
import type { HalfClose, RequestLimits } from '../http-options.ts'
import { BODY_TUNNEL, type DetachedStream, type DownstreamOwner, type DownstreamSession } from '../http-session.ts'
import { grewTooLarge, RequestWatch, tookTooLong } from '../request-watch.ts'
import { SendProgress } from '../send-progress.ts'
import { ErrorCode } from './error-code.ts'
import { HeldBody } from './held-body.ts'
import type { RequestReading } from './request-fields.ts'
import { SendingStream } from './sending-stream.ts'
import type { Http2ServerConnection } from './server-connection.ts'
import { TunnelStream, type TunnelEnd } from './tunnel-stream.ts'

const NEVER = Number.POSITIVE_INFINITY

const NOBODY: DownstreamOwner = {
  onRequestBody() {}, onRequestEnd() {}, onDownstreamDrained() {}, onDownstreamHalfClosed() {}, onDownstreamFault() {},
}

const State = { Exchange: 0, Detached: 1, Released: 2 } as const
type State = (typeof State)[keyof typeof State]

const LENGTH = 1 << FieldKind.ContentLength
/** What a success that opens no tunnel is for a client that asked for one: the origin did not understand it. */
const NO_TUNNEL_STATUS = 502
/** Sent with a head that was refused. */
const REFUSAL_FIELDS = HeaderMap.from({ 'content-length': '0', 'cache-control': 'private, no-store' })

export class Http2ServerSession extends SendingStream implements DownstreamSession, TunnelEnd {
  readonly connection: Http2ServerConnection
  request: RequestHead
  requestBodyLength: number
  /** Told to the owner, or there was no body. */
  requestEnded: boolean
  readonly wantsSwitch: boolean
  /** What comes behind the head is no body: it belongs to the tunnel that may be opened. */
  readonly #mayTunnel: boolean
  readonly targetUnusual: boolean
  readonly acceptsTrailers = true
  awaitsContinue: boolean
  responseStarted = false
  bodyBytesIn = 0
  bodyBytesOut = 0
  /** A stream's end is that of its request; the end of the connection ends them all. */
  halfClose: HalfClose = 'abort'
  #limits: RequestLimits
  #owner: DownstreamOwner = NOBODY
  #state: State = State.Exchange
  /** END_STREAM came. */
  remoteEnded: boolean

  // ---- the request
  #flowing = false
  #delivering = false
  /** Nothing more is read of the request: the client broke a rule, or is late. */
  #faulted = false
  #watch: RequestWatch | null = null
  /** What came while the owner did not want it; null: nothing. */
  #held: HeldBody | null = null
  #endHeld = false
  #trailers: HeaderMap | null = null
  /** What the client may still send, and what was read since it was told of more. */
  receiveWindow: number
  #unreported = 0

  // ---- the answer
  readonly #method: string
  #hasBody = true
  /** Announced and not yet written; -1: none was announced. */
  #unsent = -1
  #responseEnded = false
  #progress: SendProgress | null = null

  #deadline = NEVER
  readonly #begunAt: number
  /** Counts for `maxHeldHeadBytes` until the exchange is over. */
  headBytes = 0
  /** Heads that were sent; what had passed of everything at the last tick that saw a change, and when that was. */
  #headsSent = 0
  #passed = 0
  #passedAt: number
  #tunnel: TunnelStream | null = null

  constructor(connection: Http2ServerConnection, id: number, reading: RequestReading, whole: boolean, now: number) {
    super(connection.sender, connection.heads)
    const { options } = connection
    this.connection = connection
    this.id = id
    this.request = reading.head
    this.requestBodyLength = reading.bodyLength
    this.wantsSwitch = reading.protocol !== ''
    this.#mayTunnel = this.wantsSwitch || reading.head.method === 'CONNECT'
    this.targetUnusual = reading.targetUnusual
    this.remoteEnded = whole
    this.requestEnded = reading.bodyLength === 0
    this.awaitsContinue = reading.expectContinue && !this.requestEnded
    this.receiveWindow = connection.firstReceiveWindow
    this.#method = reading.head.method
    this.#limits = options
    this.#begunAt = this.#passedAt = now
    if (options.totalTimeoutMs !== 0) this.#deadline = now + options.totalTimeoutMs
    if (this.requestEnded) return
    this.#watch = new RequestWatch()
    this.#watch.begin(now)
  }

  get digest(): StreamDigest { return this.connection.stream.digest }
  get listener(): string { return this.connection.listener }
  get detached(): boolean { return this.#state === State.Detached }
  get responseEnded(): boolean { return this.#responseEnded }
  get endsByMark(): boolean { return this.#hasBody && this.#unsent < 0 }
  get #now(): number { return this.connection.ticker.clock.now() }

  get limits(): RequestLimits { return this.#limits }
  set limits(limits: RequestLimits) {
    this.#limits = limits
    this.#deadline = limits.totalTimeoutMs === 0 ? NEVER : this.#begunAt + limits.totalTimeoutMs
  }

  begin(): void {
    const owner = this.connection.host.onRequest(this)
    this.#owner = owner
    owner.begin()
  }

  // ---- the request, from the connection

  /** @returns bytes that are used up: those that the owner has, or that nobody wants */
  onData(buffer: Buffer, from: number, to: number): number {
    const bytes = to - from
    // What goes through a tunnel is no body, and counted by those who pass it on.
    if (!this.#mayTunnel) this.bodyBytesIn += bytes
    if (this.#tunnel !== null) return this.#tunnel.onData(buffer, from, to) ? this.credit(bytes) : 0
    if (this.requestBodyLength === 0 && !this.#mayTunnel) {
      this.#malformed('more body than was announced')
      return bytes
    }
    if (this.#state !== State.Exchange || this.#faulted) return bytes
    this.#watch?.read(this.#now)
    this.awaitsContinue = false
    if (this.requestBodyLength > 0 && this.bodyBytesIn > this.requestBodyLength) {
      this.#malformed('more body than was announced')
      return bytes
    }
    const excess = this.#mayTunnel ? null : grewTooLarge(this.bodyBytesIn, this.#limits)
    if (excess !== null) {
      this.fault(excess)
      return bytes
    }
    if (this.#flowing && !this.#delivering && this.#held === null && !this.#mayTunnel) {
      this.#deliver(copyWithReserve(buffer, from, to))
      return this.credit(bytes)
    }
    (this.#held ??= new HeldBody()).push(buffer, from, to)
    return 0
  }

  /** END_STREAM, perhaps with trailers. */
  onEnd(trailers: HeaderMap | null): void {
    this.remoteEnded = true
    if (this.requestBodyLength > 0 && this.bodyBytesIn < this.requestBodyLength && this.#state === State.Exchange && !this.#faulted) {
      this.#malformed('less body than was announced')
      return
    }
    if (this.#tunnel !== null) this.#tunnel.onEnd()
    else if (this.#state === State.Exchange && !this.#faulted && !this.requestEnded) {
      this.#trailers = trailers
      this.#endHeld = true
      if (this.#flowing && !this.#delivering && this.#held === null) this.#goOn()
    }
    if (this.localEnded) this.#close()
  }

  #deliver(piece: Buffer): void {
    this.#delivering = true
    this.#owner.onRequestBody(piece, BUFFER_RESERVE, piece.length - BUFFER_RESERVE)
    this.#delivering = false
    if (this.#flowing && (this.#held !== null || this.#endHeld)) this.#goOn()
  }

  /** Tells what was held back, and that it was all. */
  #goOn(): void {
    if (this.#mayTunnel) return
    let read = 0
    while (this.#held !== null && this.#flowing && !this.#faulted) {
      const piece = this.#held.shift()
      if (this.#held.empty) this.#held = null
      read += piece.length - 2 * BUFFER_RESERVE
      this.#delivering = true
      this.#owner.onRequestBody(piece, BUFFER_RESERVE, piece.length - BUFFER_RESERVE)
      this.#delivering = false
    }
    if (read > 0) this.connection.used(this.credit(read))
    if (this.#held !== null || !this.#endHeld || !this.#flowing || this.#faulted || this.#state !== State.Exchange) return
    this.#endHeld = false
    this.requestEnded = true
    this.#owner.onRequestEnd(this.#trailers)
  }

  /** The owner has so much: the client may send as much again, before long. */
  credit(bytes: number): number {
    this.#unreported += bytes
    if (this.#unreported < this.connection.options.http2.streamWindowBytes / 2 || this.remoteEnded || this.closed) return bytes
    this.receiveWindow += this.#unreported
    this.sender.windowUpdate(this.id, this.#unreported)
    this.#unreported = 0
    return bytes
  }

  /** Bytes that wait here are used up for the connection when the stream is gone. */
  #dropHeld(): void {
    const held = this.#held
    if (held === null) return
    this.#held = null
    this.connection.used(held.drop())
  }

  /** The client broke a rule of the stream. */
  #malformed(text: string): void {
    this.breaks(ErrorCode.ProtocolError, text)
  }

  breaks(code: ErrorCode, text: string): void {
    this.reset(code)
    this.connection.countReset()
    this.fault(new ProxyError('BAD_FRAMING', 'downstream', text, { limit: 'bad-framing', status: 400 }))
  }

  /** RST_STREAM came. */
  onReset(code: number): void {
    this.#close()
    const text = `the client reset the stream with code ${code}`
    if (this.#tunnel !== null) this.#tunnel.onReset(text)
    else this.fault(new ProxyError('CLIENT_GONE', 'downstream', text))
  }

  connectionLost(error: ProxyError): void {
    this.#close()
    if (this.#tunnel !== null) {
      this.#tunnel.onReset(error.message)
      return
    }
    // Hooks may change the fault that they are told of: each exchange has its own.
    const { kind, source, limit, cause, status } = error
    this.fault(new ProxyError(kind, source, 'the connection ended', { limit, cause, status }))
  }

  fault(error: ProxyError): void {
    if (this.#state !== State.Exchange) return
    this.#faulted = true
    this.#dropHeld()
    this.#owner.onDownstreamFault(error)
  }

  // ---- the request, for the owner

  resumeRequest(): void {
    if (this.#state !== State.Exchange || this.#flowing) return
    this.#flowing = true
    this.#watch?.flows(this.#now)
    if (!this.#delivering) this.#goOn()
  }

  pauseRequest(): void {
    if (this.#state !== State.Exchange || !this.#flowing) return
    this.#flowing = false
    this.#watch?.holds(this.#now)
  }

  giveUpBuffer(): boolean { return true }

  sendContinue(): void {
    if (!this.awaitsContinue || this.responseStarted) return
    this.awaitsContinue = false
    this.#writeFields(ResponseHead.build(100), 0, null, -1, '')
  }

  // ---- the answer

  writeInterim(head: ResponseHead): void {
    if (this.responseStarted || this.#state !== State.Exchange) return
    if (head.status === 100) this.sendContinue()
    else this.#writeFields(head, HOP_BY_HOP | LENGTH, null, -1, '')
  }

  writeHead(head: ResponseHead, length: number, lines: FieldLines): void {
    if (this.responseStarted || this.#state !== State.Exchange) return
    this.responseStarted = true
    const { headers, status } = head, date = headers.hasKind(FieldKind.Date) ? '' : this.connection.date
    if (length === BODY_TUNNEL) {
      this.#hasBody = false
      // What HTTP/1 says with 101 is 200 here (RFC 8441 5).
      const answer = status === 101 ? new ResponseHead(200, '', '2', headers.clone()) : head
      if (status === 101) answer.headers.delete('sec-websocket-accept')
      this.#writeFields(answer, HOP_BY_HOP | LENGTH, lines, -1, date)
      return
    }
    if (this.#mayTunnel && status < 300) {
      // It would be taken for the tunnel that was asked for. Logs and metrics read the head, and tell what the client got.
      head.status = NO_TUNNEL_STATUS
      head.reason = ''
    }
    this.#hasBody = this.#method !== 'HEAD' && status !== 204 && status !== 304
    const announces = length >= 0 && status !== 204 && (this.#hasBody || length > 0), fits = headers.contentLength() === length
    const keeps = this.#hasBody ? length >= 0 && fits : status !== 204 && (length <= 0 || fits) && isSoundLength(headers)
    if (this.#hasBody && length >= 0) this.#unsent = length
    this.#writeFields(head, keeps ? HOP_BY_HOP : HOP_BY_HOP | LENGTH, lines, announces && !keeps ? length : -1, date)
  }

  #writeFields({ status, headers }: ResponseHead, skip: number, lines: FieldLines | null, length: number, date: string): void {
    if (this.closed) return
    const { heads } = this.connection
    heads.write(status, headers, skip, lines, length, date)
    this.#headsSent++
    this.sendHead(true)
  }

  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (!this.#hasBody || this.#state !== State.Exchange || this.#responseEnded || this.closed) return
    let end = to
    if (this.#unsent >= 0) {
      end = Math.min(to, from + this.#unsent)
      this.#unsent -= end - from
    }
    if (end === from) return
    this.bodyBytesOut += end - from
    this.sendBytes(buffer, from, end, owned)
  }

  protected override onSent(): void {
    this.#progress?.drained()
    if (this.#tunnel === null) this.#owner.onDownstreamDrained()
    else this.#tunnel.onDrained()
  }

  endResponse(trailers: HeaderMap | null): void {
    if (this.#responseEnded || this.#state !== State.Exchange) return
    this.#responseEnded = true
    if (this.#hasBody && this.#unsent > 0) {
      this.abort()
      return
    }
    this.endSending(trailers)
  }

  /** END_STREAM, for a tunnel. */
  endTunnel(): void {
    if (this.#responseEnded) return
    this.#responseEnded = true
    this.endSending(null)
  }

  protected override onEndSent(): void {
    if (this.remoteEnded) {
      this.#close()
      this.connection.served()
    } else if (this.#tunnel === null) {
      // What the client has not sent of its request is not needed any more.
      this.reset(ErrorCode.NoError)
    }
    this.#tunnel?.sentEnd()
  }

  /** Answered here: there is no exchange. @param mediaType of the call of gRPC that it would have been; '': of none */
  refuse(status: number, mediaType: string): void {
    this.#state = State.Released
    this.responseStarted = this.#responseEnded = true
    const head = ResponseHead.build(status, REFUSAL_FIELDS.clone()), answer = mediaType === '' ? head : trailersOnly(head, mediaType, null)
    this.#writeFields(answer, 0, null, -1, this.connection.date)
    this.endSending(null)
  }

  /** Other exchanges share the connection: it stays. */
  refuseReuse(): void { /* nothing to refuse */ }

  abort(cancelled = false): void {
    if (!this.localEnded) this.reset(cancelled ? ErrorCode.Cancel : ErrorCode.InternalError)
  }

  /** RST_STREAM, without a word to the owner. */
  reset(code: ErrorCode): void {
    if (this.closed) return
    this.connection.sendReset(this.id, code, this.remoteEnded ? 0 : this.receiveWindow)
    this.#close()
  }

  #close(): void {
    if (this.closed) return
    this.closed = true
    this.dropQueue()
    this.#dropHeld()
    this.connection.forget(this)
  }

  detach(): DetachedStream {
    this.#state = State.Detached
    this.#owner = NOBODY
    const tunnel = this.#tunnel = new TunnelStream(this, this.#held)
    this.#held = null
    if (this.remoteEnded) tunnel.onEnd()
    this.connection.tunnels++
    return { stream: tunnel, early: null, ended: false }
  }

  /** A tunnel has read what it had kept. */
  tunnelRead(bytes: number): void { this.connection.used(this.credit(bytes)) }

  tunnelGone(): void { /* the exchange releases the stream */ }

  release(): void {
    if (this.#state === State.Released) return
    if (this.#state === State.Detached) this.connection.tunnels--
    this.#state = State.Released
    this.#owner = NOBODY
    this.#dropHeld()
    if (!this.#responseEnded) this.reset(ErrorCode.InternalError)
    this.connection.released(this)
  }

  // ---- time

  onTick(now: number): void {
    // What waits for others, or for the connection, is not held by this stream's window.
    if (this.windowShut) {
      const { sendTimeoutMs, minSendBytesPerSecond } = this.#limits
      const stalled = (this.#progress ??= new SendProgress(this, now)).check(now, sendTimeoutMs, minSendBytesPerSecond)
      if (stalled !== '') {
        const error = new ProxyError('SLOW_READER', 'downstream', 'the client does not take the answer', { limit: stalled })
        this.connection.countReset()
        this.reset(ErrorCode.Cancel)
        this.fault(error)
        return
      }
    } else this.#progress?.drained()
    if (this.#state !== State.Exchange) return
    if (this.#isIdle(now)) {
      this.reset(ErrorCode.Cancel)
      const text = `nothing of the exchange passed for ${this.#limits.streamIdleTimeoutMs} ms`
      this.fault(new ProxyError('READ_TIMEOUT', 'downstream', text, { limit: 'stream-idle-timeout' }))
      return
    }
    if (this.#responseEnded) return
    if (!this.requestEnded && this.#flowing && !this.#faulted && this.#held === null) {
      const late = this.#watch!.lateness(now, this.bodyBytesIn, this.responseStarted, this.#limits)
      if (late !== null) {
        this.fault(late)
        return
      }
    }
    if (now <= this.#deadline) return
    const { totalTimeoutMs } = this.#limits
    this.#deadline = now + totalTimeoutMs
    this.fault(tookTooLong(totalTimeoutMs))
  }

  /** Neither side has said anything of the exchange for so long. */
  #isIdle(now: number): boolean {
    const { streamIdleTimeoutMs } = this.#limits, passed = this.bodyBytesIn + this.bytesTaken + this.#headsSent
    if (passed === this.#passed) return streamIdleTimeoutMs !== 0 && now - this.#passedAt >= streamIdleTimeoutMs
    this.#passed = passed
    this.#passedAt = now
    return false
  }
}

/** A filter may have set a length that is no number, or a second one. */
function isSoundLength(headers: HeaderMap): boolean { return !headers.hasKind(FieldKind.ContentLength) || headers.contentLength() !== -1 }
