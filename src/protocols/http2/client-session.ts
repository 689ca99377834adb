/**
 * One exchange on a connection to an origin in HTTP/2: the stream that it opens with its head (RFC 9113 8).
 *
 *   Begun ──writeHead──▶ Asked ──both messages ended, abort, RST_STREAM──▶ Over
 *                          └── detach ──▶ Detached ──the tunnel is gone──▶ Over
 *
 * A request to switch protocols waits for the origin's SETTINGS and is sent as extended CONNECT, if they allow it, its 200 handed
 * over as 101; else without a switch (RFC 8441). What was refused, or lies
 * above the last stream of a GOAWAY, the origin has not looked at: it may be asked again, here or elsewhere (8.7).
 * Tests: client-connection.test.ts
 */
import { ProxyError, type ErrorKind, type RetryRule } from '../../errors/proxy-error.ts'
import { FieldLines, FieldName } from '../../http/field-lines.ts'
import { FieldKind, type HeaderMap } from '../../http/header-map.ts'
import { receivedResponse, type RequestHead } from '../../http/message-head.ts'
import { BUFFER_RESERVE, copyWithReserve, type StreamDigest } from '../byte-stream.ts'
import type { ExchangeLimits } from '../http-connection.ts'
import type { OriginTimes } from '../http-options.ts'
import {
  BODY_TUNNEL, BODY_UNKNOWN, type DetachedStream, type RequestSetup, type UpstreamOwner, type UpstreamSession,
} from '../http-session.ts'
import { lateness, Owed } from '../response-watch.ts'
import { SendProgress } from '../send-progress.ts'
import { checkUpgradeRequest, webSocketAccept } from '../websocket/handshake.ts'
import type { Http2ClientConnection } from './client-connection.ts'
import { ErrorCode } from './error-code.ts'
import { HeldBody } from './held-body.ts'
import { FIELD_OVERHEAD, Pseudo } from './hpack-field.ts'
import type { FieldLimits, ReceivedFields } from './received-fields.ts'
import { SendingStream } from './sending-stream.ts'
import { TunnelStream, type TunnelEnd } from './tunnel-stream.ts'

const State = { Begun: 0, Asked: 1, Detached: 2, Over: 3 } as const
type State = (typeof State)[keyof typeof State]

const NOBODY: UpstreamOwner = {
  onInterim() {}, onResponseHead() {}, onResponseBody() {}, onResponseEnd() {}, onUpstreamDrained() {}, onUpstreamFault() {},
}

/** Interim heads are counted anew every so often, so that a long wait may have many, in ms. */
const INTERIM_WINDOW_MS = 10_000

/** How the limits of heads, which are those of origins here, are called in logs. */
const LIMIT_OF_RESPONSE: Readonly<Record<string, string>> = {
  'header-count': 'response-header-count', 'header-list-bytes': 'response-head-bytes', 'head-bytes': 'response-head-bytes',
  'header-line-bytes': 'response-head-bytes', 'cookie-crumbs': 'response-header-count',
}

/** By those of exchanges, which peers share. */
const fieldLimits = new WeakMap<ExchangeLimits, FieldLimits>()

export class Http2ClientSession extends SendingStream implements UpstreamSession, TunnelEnd {
  readonly connection: Http2ClientConnection
  readonly #limits: ExchangeLimits
  times: OriginTimes
  /** The connection had carried another exchange before. */
  readonly #reused: boolean
  #owner: UpstreamOwner
  #state: State = State.Begun
  bodyBytesIn = 0
  bodyBytesOut = 0
  responseStarted = false
  /** END_STREAM came. */
  remoteEnded = false
  /** A request to switch whose origin has not said whether it takes such; null: none waits. */
  #waiting: { readonly head: RequestHead; readonly setup: RequestSetup } | null = null
  #method = ''
  #protocol = ''
  #webSocketKey = ''
  #unsent = -1
  #requestEnded = false
  #headSeen = false
  /** Announced and not yet here; -1: none was announced. */
  #unread = -1
  #responseEnded = false
  #paused = false
  #delivering = false
  /** What came while the owner did not want it; null: nothing. */
  #held: HeldBody | null = null
  #endHeld = false
  #trailers: HeaderMap | null = null
  receiveWindow: number
  #unreported = 0
  #interims = 0
  #interimBytes = 0
  #interimsSince = Number.NEGATIVE_INFINITY
  #silentSince: number
  #progress: SendProgress | null = null
  #tunnel: TunnelStream | null = null

  constructor(connection: Http2ClientConnection, owner: UpstreamOwner, limits: ExchangeLimits, reused: boolean) {
    super(connection.sender, connection.heads)
    this.connection = connection
    this.#owner = owner
    this.#limits = this.times = limits
    this.#reused = reused
    this.receiveWindow = connection.options.h2StreamWindowBytes
    this.#silentSince = connection.ticker.clock.now()
  }

  get digest(): StreamDigest { return this.connection.digest }
  get #now(): number { return this.connection.ticker.clock.now() }

  /** For the head that comes. */
  get fieldLimits(): FieldLimits {
    const limits = this.#limits
    let found = fieldLimits.get(limits)
    if (found === undefined) {
      const { maxResponseHeadBytes, maxResponseHeaderCount } = limits
      found = {
        maxHeadBytes: maxResponseHeadBytes, maxHeaderLineBytes: maxResponseHeadBytes, maxHeaderCount: maxResponseHeaderCount,
        maxHeaderListBytes: maxResponseHeadBytes + FIELD_OVERHEAD * (maxResponseHeaderCount + 2), maxCookieCrumbs: maxResponseHeaderCount,
      }
      fieldLimits.set(limits, found)
    }
    return found
  }
  get headSeen(): boolean { return this.#headSeen }

  // ---- the request

  writeHead(head: RequestHead, setup: RequestSetup): void {
    if (this.#state !== State.Begun) return
    this.#state = State.Asked
    if (setup.switchesTo === '' || setup.length !== 0 || this.connection.takesSwitches !== null) {
      this.#send(head, setup)
      return
    }
    this.#waiting = { head, setup: { ...setup, lines: copyOf(setup.lines) } }
    this.connection.awaitSettings(this)
  }

  /** The origin has said what it takes. */
  settingsCame(): void {
    const waiting = this.#waiting
    this.#waiting = null
    if (waiting === null || this.#state !== State.Asked) return
    this.#send(waiting.head, waiting.setup)
    if (this.#requestEnded) this.#endAsked(null)
  }

  #send(head: RequestHead, setup: RequestSetup): void {
    const { length, switchesTo } = setup, { connection } = this, { headers } = head
    const switches = switchesTo !== '' && connection.takesSwitches === true && checkUpgradeRequest(headers, switchesTo) === null
    this.#method = head.method
    this.#protocol = switches ? switchesTo : ''
    this.#webSocketKey = switches ? headers.get('sec-websocket-key') ?? '' : ''
    this.#unsent = length > 0 ? length : -1
    const whole = length === 0 && !switches && head.method !== 'CONNECT'
    connection.open(this)
    connection.heads.write(head, setup, connection.scheme, this.#protocol)
    // A request that turns out to have no body had one on its way: origins of gRPC wait for that end elsewhere (PROTOCOL-HTTP2.md, EOS).
    this.sendHead(whole)
    if (whole) this.endSending(null)
  }

  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (this.#state !== State.Asked || this.closed || from === to) return
    this.bodyBytesOut += to - from
    if (this.#unsent >= 0 && (this.#unsent -= to - from) < 0) {
      this.#fail('LENGTH_MISMATCH', 'a filter made the request body longer than its declared length')
      return
    }
    this.sendBytes(buffer, from, to, owned)
  }

  endRequest(trailers: HeaderMap | null): void {
    if (this.#state !== State.Asked || this.#requestEnded) return
    if (this.#unsent > 0) {
      this.#fail('LENGTH_MISMATCH', 'a filter made the request body shorter than its declared length')
      return
    }
    this.#requestEnded = true
    this.#silentSince = this.#now
    if (this.#waiting === null) this.#endAsked(trailers)
    this.#settle()
  }

  /** What asks for a tunnel stays open for it. */
  #endAsked(trailers: HeaderMap | null): void { if (this.#protocol === '' && this.#method !== 'CONNECT') this.endSending(trailers) }

  protected override onSent(): void {
    this.#progress?.drained()
    if (this.#tunnel === null) this.#owner.onUpstreamDrained()
    else this.#tunnel.onDrained()
  }

  protected override onEndSent(): void {
    if (this.remoteEnded) this.#close()
    this.#tunnel?.sentEnd()
  }

  // ---- the response, from the connection

  /** A header block that is not of trailers. @param bytes of it */
  onHead(fields: ReceivedFields, whole: boolean, bytes: number): void {
    if (this.#state !== State.Asked) return
    this.#touch()
    const { fault, limit, status: text } = fields
    if (fault === '' && limit !== '') {
      this.#fail('HEAD_TOO_LARGE', 'head too large', LIMIT_OF_RESPONSE[limit] ?? limit)
      return
    }
    const status = fields.pseudos === 1 << Pseudo.Status && /^[1-9]\d\d$/.test(text) ? Number(text) : 0
    if (fault !== '' || status === 0 || status === 101 || (status < 200 && whole)) {
      const what = fault !== '' ? fault : status === 101 ? 'status 101, which HTTP/2 has not' : 'no status of a response'
      this.#fail('BAD_HEAD', what, 'bad-head', 'never', null, ErrorCode.ProtocolError)
      return
    }
    const headers = fields.take()
    if (status < 200) {
      if (!this.#flooded(bytes)) this.#owner.onInterim(receivedResponse(status, '', '2', headers))
      return
    }
    this.#headSeen = true
    const opens = status < 300 && (this.#protocol !== '' || this.#method === 'CONNECT')
    if (opens) {
      this.#takeTunnel(status, headers, whole)
      return
    }
    const bodiless = this.#method === 'HEAD' || status === 204 || status === 304, declares = headers.hasKind(FieldKind.ContentLength)
    const length = declares ? headers.contentLength() : BODY_UNKNOWN
    if (declares && length === -1 && !bodiless) {
      this.#fail('BAD_FRAMING', 'Content-Length is no number, or repeated', 'bad-framing', 'never', null, ErrorCode.ProtocolError)
      return
    }
    // It did not switch: nothing more is sent.
    if (this.#protocol !== '' || this.#method === 'CONNECT') this.endSending(null)
    this.#unread = bodiless ? 0 : length
    const known = bodiless || (whole && length <= 0) ? 0 : length
    if (whole && !bodiless && length > 0) {
      this.#fail('BAD_FRAMING', 'the answer ends before its announced length', 'bad-framing', 'never', null, ErrorCode.ProtocolError)
      return
    }
    // Before the owner, who may be done with it then.
    this.remoteEnded = whole
    this.#owner.onResponseHead(receivedResponse(status, '', '2', headers), known)
    if (whole) this.onEnd(null)
  }

  #takeTunnel(status: number, headers: HeaderMap, whole: boolean): void {
    this.#paused = true
    if (this.#protocol !== '') {
      headers.append('Upgrade', this.#protocol)
      if (this.#webSocketKey !== '') headers.set('Sec-WebSocket-Accept', webSocketAccept(this.#webSocketKey))
    }
    if (whole) {
      this.remoteEnded = true
      this.#endHeld = true
    }
    this.#owner.onResponseHead(receivedResponse(this.#protocol === '' ? status : 101, '', '2', headers), BODY_TUNNEL)
  }

  /** Interim heads come faster than anybody could mean them. */
  #flooded(bytes: number): boolean {
    const { maxInterimResponses, maxInterimBytes } = this.#limits, now = this.#now
    if (now - this.#interimsSince >= INTERIM_WINDOW_MS) {
      this.#interimsSince = now
      this.#interims = this.#interimBytes = 0
    }
    this.#interims++
    this.#interimBytes += bytes
    if (this.#interims > maxInterimResponses) {
      this.#fail('TOO_MANY_INTERIM', `more than ${maxInterimResponses} interim responses`, 'interim-responses')
    } else if (this.#interimBytes > maxInterimBytes) {
      this.#fail('TOO_MANY_INTERIM', `more than ${maxInterimBytes} bytes of interim responses`, 'interim-bytes')
    } else return false
    return true
  }

  onData(buffer: Buffer, from: number, to: number): void {
    const bytes = to - from
    if (this.#tunnel !== null) {
      if (this.#tunnel.onData(buffer, from, to)) this.credit(bytes)
      return
    }
    if (this.#state !== State.Asked) return
    this.#touch()
    this.bodyBytesIn += bytes
    if (!this.#headSeen || (this.#unread >= 0 && (this.#unread -= bytes) < 0)) {
      this.#fail('BAD_FRAMING', 'more body than the head announced', 'bad-framing', 'never', null, ErrorCode.ProtocolError)
      return
    }
    if (this.#paused || this.#delivering || this.#held !== null) {
      (this.#held ??= new HeldBody()).push(buffer, from, to)
      return
    }
    this.#deliver(copyWithReserve(buffer, from, to))
    if (!this.#paused) this.#goOn()
    this.credit(bytes)
  }

  /** END_STREAM, perhaps with trailers. */
  onEnd(trailers: HeaderMap | null): void {
    this.remoteEnded = true
    if (this.#tunnel !== null) this.#tunnel.onEnd()
    else if (this.#state === State.Asked) {
      if (!this.#headSeen || this.#unread > 0) {
        this.#fail('BAD_FRAMING', 'an end within the response', 'bad-framing', 'never', null, ErrorCode.ProtocolError)
        return
      }
      this.#trailers = trailers
      this.#endHeld = true
      if (!this.#paused && !this.#delivering && this.#held === null) this.#goOn()
    }
    if (this.localEnded) this.#close()
  }

  #deliver(piece: Buffer): void {
    this.#delivering = true
    this.#owner.onResponseBody(piece, BUFFER_RESERVE, piece.length - BUFFER_RESERVE, true)
    this.#delivering = false
  }

  /** Tells what was held back, and that it was all. */
  #goOn(): void {
    let read = 0
    while (this.#held !== null && !this.#paused && this.#state === State.Asked) {
      const piece = this.#held.shift()
      if (this.#held.empty) this.#held = null
      read += piece.length - 2 * BUFFER_RESERVE
      this.#deliver(piece)
    }
    if (read > 0) this.credit(read)
    if (this.#held !== null || !this.#endHeld || this.#paused || this.#state !== State.Asked) return
    this.#endHeld = false
    this.#responseEnded = true
    const owner = this.#owner
    this.#settle()
    owner.onResponseEnd(this.#trailers)
  }

  /** The owner has so much: the origin may send as much again, before long. */
  credit(bytes: number): void {
    this.#unreported += bytes
    if (this.#unreported < this.connection.options.h2StreamWindowBytes / 2 || this.remoteEnded || this.closed) return
    this.receiveWindow += this.#unreported
    this.sender.windowUpdate(this.id, this.#unreported)
    this.#unreported = 0
  }

  tunnelRead(bytes: number): void { this.credit(bytes) }

  #dropHeld(): void {
    const held = this.#held
    if (held === null) return
    this.#held = null
    held.drop()
  }

  #touch(): void {
    this.#silentSince = this.#now
    this.responseStarted = true
  }

  pauseResponse(): void { if (this.#state === State.Asked) this.#paused = true }

  resumeResponse(): void {
    if (this.#state !== State.Asked || !this.#paused) return
    this.#paused = false
    this.#silentSince = this.#now
    if (!this.#delivering) this.#goOn()
  }

  /** Every piece is the receiver's for good. */
  giveUpBuffer(): boolean { return true }

  // ---- tunnels

  detach(): DetachedStream {
    this.#state = State.Detached
    this.#owner = NOBODY
    // What goes through a tunnel is no body, and counted by those who pass it on.
    this.bodyBytesIn = 0
    const tunnel = this.#tunnel = new TunnelStream(this, this.#held)
    this.#held = null
    if (this.remoteEnded) tunnel.onEnd()
    return { stream: tunnel, early: null, ended: false }
  }

  endTunnel(): void { this.endSending(null) }
  tunnelGone(): void { this.#end(ErrorCode.Cancel) }

  // ---- the end

  /** RST_STREAM came. */
  onReset(code: number): void {
    const text = `the origin reset the stream with code ${code}`
    this.#close()
    if (this.#tunnel !== null) {
      this.#tunnel.onReset(text)
      return
    }
    if (this.#state !== State.Asked) return
    if (this.#responseEnded || this.#endHeld) {
      // The answer is whole; what is still to be sent of the request is not wanted (RFC 9113 8.1).
      this.#unsent = -1
      this.#owner.onUpstreamDrained()
      return
    }
    const untouched = code === ErrorCode.RefusedStream && !this.responseStarted
    this.#fail('CONNECTION_RESET', untouched ? 'the origin did not take the request' : text, '', untouched ? 'always' : 'never')
  }

  /** The origin broke a rule of the stream. */
  breaks(code: ErrorCode, text: string): void {
    this.reset(code)
    if (this.#tunnel !== null) this.#tunnel.onReset(text)
    else this.#fail('BAD_FRAMING', text, 'bad-framing')
  }

  /** GOAWAY came: what lies above `last` was not looked at, and will not be. */
  notTaken(last: number): void {
    if ((this.id !== 0 && this.id <= last) || this.responseStarted) return
    if (this.#state === State.Begun || this.#state === State.Asked) this.#fail('CLOSED_EARLY', 'the origin goes away', '', 'always')
  }

  connectionLost(kind: ErrorKind, text: string, cause: Error | null): void {
    this.#close()
    if (this.#tunnel !== null) {
      this.#tunnel.onReset(text)
      return
    }
    // The answer is all here.
    if (this.#state === State.Asked && (this.#responseEnded || this.#endHeld) && this.#requestEnded) return
    const broke = kind === 'BAD_FRAMING'
    const retry = broke ? 'never' : this.id === 0 ? 'always' : this.#reused && !this.responseStarted ? 'if-reused' : 'never'
    this.#fail(kind, text, broke ? 'bad-framing' : '', retry, cause)
  }

  #settle(): void {
    if (this.#state !== State.Asked || !this.#requestEnded || !this.#responseEnded) return
    // An origin that answered without taking the whole request has no use for the rest of it.
    this.#end(ErrorCode.Cancel)
  }

  /** @param code of RST_STREAM, where the stream is not over on the wire */
  #end(code: ErrorCode): void {
    if (this.#state === State.Over) return
    this.#state = State.Over
    this.#owner = NOBODY
    if (this.localEnded && this.remoteEnded) this.#close()
    else this.reset(code)
    this.#dropHeld()
    this.connection.over(this)
  }

  abort(): void { this.#end(ErrorCode.Cancel) }

  reset(code: ErrorCode): void {
    if (this.closed) return
    if (this.id !== 0) this.connection.sendReset(this.id, code, this.remoteEnded ? 0 : this.receiveWindow)
    this.#close()
  }

  #close(): void {
    if (this.closed) return
    this.closed = true
    this.dropQueue()
    this.connection.forget(this)
  }

  #fail(
    kind: ErrorKind, context: string, limit = '', retry: RetryRule = 'never', cause: Error | null = null,
    code: ErrorCode = ErrorCode.Cancel,
  ): void {
    this.#fault(new ProxyError(kind, 'upstream', context, { retry, limit, cause: cause ?? undefined }), code)
  }

  #fault(error: ProxyError, code: ErrorCode): void {
    if (this.#state === State.Over || this.#state === State.Detached) return
    const owner = this.#owner
    this.#end(code)
    owner.onUpstreamFault(error)
  }

  // ---- time

  onTick(now: number): void {
    if (this.#state !== State.Asked) return
    const late = lateness(this.#owed(), this.times, now, this.#silentSince, this.#progress ??= new SendProgress(this, now))
    if (late === null) return
    this.connection.doubt()
    this.#fault(late, ErrorCode.Cancel)
  }

  #owed(): Owed {
    if (this.bytesQueued > 0) return Owed.Room
    if (this.#paused || this.#responseEnded || this.#endHeld) return Owed.Nothing
    if (this.#headSeen) return Owed.Rest
    return this.#requestEnded ? Owed.FirstByte : Owed.Nothing
  }
}

/** Lines outlive the call that brought them: their own object is for the next request. */
function copyOf(lines: FieldLines): FieldLines {
  const at = Array.from({ length: lines.size }, (_, index) => index)
  return new FieldLines(at.map(index => new FieldName(lines.nameAt(index))), at.map(index => lines.valueAt(index)))
}
