/**
 * The proxy's side of a connection to a multiplexing origin, and the exchanges on it.
 *
 *   MuxClientConnection   Open ──GO_AWAY, a stuck transport──▶ Leaving ──▶ Closed      Open ◀── park, unpark ──▶ Parked ──▶ Closed
 *   MuxClientSession      Begun ──writeHead──▶ Asked ──both messages ended, abort, RESET──▶ Over
 *                                               └── detach ──▶ Detached ──the tunnel is gone, abort──▶ Over
 *
 * A request to switch protocols is sent as CONNECT with `:protocol`; a `:status` of 200 with `:protocol` is the switch.
 */
import { ProxyError, type ErrorKind, type RetryRule } from '../../../src/errors/proxy-error.ts'
import { FieldKind, type HeaderMap } from '../../../src/http/header-map.ts'
import { HOP_BY_HOP_REQUEST } from '../../../src/http/hop-by-hop.ts'
import { ResponseHead, type RequestHead } from '../../../src/http/message-head.ts'
import type { Ticker, Timed } from '../../../src/primitives/clock.ts'
import type { ByteStream, StreamDigest, StreamOwner } from '../../../src/protocols/byte-stream.ts'
import type { ConnectionKeeper, ExchangeLimits, ParkedLoss, UpstreamConnection } from '../../../src/protocols/http-connection.ts'
import type { OriginTimes } from '../../../src/protocols/http-options.ts'
import {
  BODY_TUNNEL, BODY_UNKNOWN, type DetachedStream, type RequestSetup, type UpstreamOwner, type UpstreamSession,
} from '../../../src/protocols/http-session.ts'
import { Owed, lateness } from '../../../src/protocols/response-watch.ts'
import { SendProgress } from '../../../src/protocols/send-progress.ts'
import { MuxChannel, MuxStream, type ChannelOwner, type StreamReceiver } from './channel.ts'
import {
  END_BIT, FIRST_STREAMS, FrameType, LENGTH_BIT, ResetCode, addFields, fieldText, pseudo, readFields, toHeaders, trailerText, type Fields,
} from './frames.ts'
import { TunnelStream } from './tunnel-stream.ts'

const NEVER = Number.POSITIVE_INFINITY

const State = { Open: 0, Parked: 1, Leaving: 2, Closed: 3 } as const

export class MuxClientConnection implements UpstreamConnection, ChannelOwner, StreamOwner, Timed {
  tickIndex = -1
  poolNewer: UpstreamConnection | null = null
  poolOlder: UpstreamConnection | null = null
  poolKeyNewer: UpstreamConnection | null = null
  poolKeyOlder: UpstreamConnection | null = null
  poolLent = 0
  poolParked = 0
  poolSince = 0
  poolAge = 1
  poolRetired = false
  reuseKey = ''
  keeper: ConnectionKeeper | null = null
  readonly protocol = 'mux'
  readonly shared = true
  readonly originIdleMs = 0
  exchanges = 0
  readonly stream: ByteStream
  readonly channel: MuxChannel
  readonly ticker: Ticker
  /** Under way, those that wait for their head and those that became tunnels included. */
  readonly #sessions = new Set<MuxClientSession>()
  #state: number = State.Open
  /** Exchanges at a time, as the origin has it. */
  streams: number
  #idleUntil = NEVER

  constructor(stream: ByteStream, ticker: Ticker, streams: number = FIRST_STREAMS) {
    this.streams = streams
    this.stream = stream
    this.ticker = ticker
    this.channel = new MuxChannel(stream, this, true)
    stream.owner = this
    ticker.add(this)
  }

  get digest(): StreamDigest { return this.stream.digest }
  get active(): number { return this.#sessions.size }
  get capacity(): number {
    return this.#state === State.Open && !this.stream.destroyed ? Math.max(0, this.streams - this.#sessions.size) : 0
  }

  begin(owner: UpstreamOwner, limits: ExchangeLimits): MuxClientSession {
    if (this.capacity === 0) throw new Error('an exchange begins where there is no room')
    const session = new MuxClientSession(this, owner, limits, ++this.exchanges > 1)
    this.#sessions.add(session)
    return session
  }

  over(session: MuxClientSession): void { this.#sessions.delete(session) }

  park(keeper: ConnectionKeeper, idleTimeoutMs: number): void {
    this.#state = State.Parked
    this.keeper = keeper
    this.#idleUntil = this.ticker.clock.now() + idleTimeoutMs
  }

  unpark(): boolean {
    if (this.#state !== State.Parked) return false
    this.#state = State.Open
    return !this.stream.destroyed
  }

  close(): void {
    if (this.#state === State.Closed) return
    this.#destroy(false)
    this.#faultAll('CLOSED_EARLY', 'the proxy closed the connection within the exchange', null)
  }

  #destroy(reset: boolean): void {
    this.#state = State.Closed
    this.channel.stop()
    this.stream.destroy(reset)
  }

  #lost(reason: ParkedLoss): void {
    this.#destroy(false)
    this.keeper?.onParkedLost(this, reason)
  }

  /** No exchange begins any more; those under way go on. */
  leave(): void {
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state === State.Open) {
      this.#state = State.Leaving
      this.keeper?.onCapacityChanged(this)
    }
  }

  #faultAll(kind: ErrorKind, text: string, cause: Error | null): void {
    for (const session of this.#sessions) session.connectionLost(kind, text, cause)
  }

  // ---- what the origin sends

  onBytes(buffer: Buffer, from: number, to: number): void { this.channel.push(buffer, from, to) }

  onNewStream(): boolean {
    this.onBroken('a stream that the proxy did not open')
    return false
  }

  onNotice(type: number, value: number): boolean {
    if (type === FrameType.GoAway) {
      this.leave()
      for (const session of this.#sessions) session.notTaken(value)
      return true
    }
    if (type !== FrameType.Streams) return false
    this.streams = value
    if (this.#state === State.Open) this.keeper?.onCapacityChanged(this)
    return true
  }

  onBroken(text: string): void {
    if (this.#state === State.Parked) this.#lost('unexpected-bytes')
    else if (this.#state !== State.Closed) {
      this.#destroy(true)
      this.#faultAll('BAD_FRAMING', text, null)
    }
  }

  onStreamClosed(): void { /* capacity counts exchanges */ }

  onEnd(): void {
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state !== State.Closed) {
      this.#destroy(false)
      this.#faultAll('CLOSED_EARLY', 'the origin closed the connection', null)
    }
  }

  onDrained(): void { this.channel.pump() }

  onClosed(error: Error | null): void {
    this.ticker.remove(this)
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state !== State.Closed) {
      this.#state = State.Closed
      this.#faultAll(error === null ? 'CLOSED_EARLY' : 'CONNECTION_RESET', 'the origin closed the connection', error)
    }
  }

  onTick(now: number): void {
    if (this.#state === State.Parked) {
      if (now >= this.#idleUntil) this.#lost('idle')
    } else for (const session of this.#sessions) session.onTick(now)
  }
}

const SessionState = { Begun: 0, Asked: 1, Detached: 2, Over: 3 } as const

const NOBODY: UpstreamOwner = {
  onInterim() {}, onResponseHead() {}, onResponseBody() {}, onResponseEnd() {}, onUpstreamDrained() {}, onUpstreamFault() {},
}

export class MuxClientSession implements UpstreamSession, StreamReceiver {
  readonly connection: MuxClientConnection
  readonly #limits: ExchangeLimits
  times: OriginTimes
  /** The connection had carried another exchange before. */
  readonly #reused: boolean
  readonly #stream: MuxStream
  readonly #progress: SendProgress
  #owner: UpstreamOwner
  #state: number = SessionState.Begun
  bodyBytesIn = 0
  bodyBytesOut = 0
  responseStarted = false
  #method = ''
  #switches = false
  #unsent = -1
  #requestEnded = false
  #headSeen = false
  /** Announced and not yet here; -1: none was announced. */
  #unread = -1
  #responseEnded = false
  #interims = 0
  #paused = false
  #silentSince: number

  constructor(connection: MuxClientConnection, owner: UpstreamOwner, limits: ExchangeLimits, reused: boolean) {
    this.connection = connection
    this.#owner = owner
    this.#limits = this.times = limits
    this.#reused = reused
    this.#stream = new MuxStream(connection.channel, this, false)
    this.#silentSince = connection.ticker.clock.now()
    this.#progress = new SendProgress(this.#stream, this.#silentSince)
  }

  get digest(): StreamDigest { return this.connection.digest }
  get bytesQueued(): number { return this.#stream.bytesQueued }

  // ---- the request

  writeHead(head: RequestHead, setup: RequestSetup): void {
    if (this.#state !== SessionState.Begun) return
    const { headers } = head, { length, lines } = setup
    const protocol = setup.switchesTo
    this.#state = SessionState.Asked
    this.#method = head.method
    this.#switches = protocol !== ''
    this.#unsent = length > 0 ? length : -1
    const fields: Fields = [[':method', this.#switches ? 'CONNECT' : head.method], [':target', head.target]]
    fields.push([':authority', head.authority === '' ? setup.defaultAuthority : head.authority])
    if (this.#switches) fields.push([':protocol', protocol])
    const keepsLength = length >= 0 && headers.contentLength() === length
    addFields(fields, headers, HOP_BY_HOP_REQUEST | (1 << FieldKind.Host) | (keepsLength ? 0 : LENGTH_BIT), lines)
    const corrects = !keepsLength && (length > 0 || (length === 0 && headers.hasKind(FieldKind.ContentLength)))
    if (corrects) fields.push(['content-length', String(length)])
    if (setup.acceptsTrailers) fields.push(['te', 'trailers'])
    const { channel } = this.connection, whole = length === 0 && !this.#switches
    channel.add(this.#stream, channel.lastStream + 1)
    this.#stream.head(whole ? FrameType.Head | END_BIT : FrameType.Head, fieldText(fields))
    if (whole) this.#stream.endedByHead()
  }

  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (this.#state !== SessionState.Asked) return
    this.bodyBytesOut += to - from
    if (this.#unsent >= 0 && (this.#unsent -= to - from) < 0) {
      this.#fail('LENGTH_MISMATCH', 'a filter made the request body longer than its declared length')
      return
    }
    this.#stream.write(buffer, from, to, owned)
  }

  endRequest(trailers: HeaderMap | null): void {
    if (this.#state !== SessionState.Asked || this.#requestEnded) return
    if (this.#unsent > 0) {
      this.#fail('LENGTH_MISMATCH', 'a filter made the request body shorter than its declared length')
      return
    }
    this.#requestEnded = true
    this.#silentSince = this.connection.ticker.clock.now()
    // What asks for a switch stays open for the tunnel.
    if (!this.#switches) this.#stream.end(trailerText(trailers))
    this.#settle()
  }

  // ---- the response

  onStreamHead(payload: Buffer, from: number, to: number): void {
    if (this.#state !== SessionState.Asked || this.#headSeen) {
      this.#fail('BAD_FRAMING', 'a head within the response', 'bad-framing')
      return
    }
    this.#touch()
    const { maxResponseHeadBytes, maxResponseHeaderCount, maxInterimResponses } = this.#limits
    const fields = to - from > maxResponseHeadBytes ? null : readFields(payload, from, to)
    if (to - from > maxResponseHeadBytes || (fields !== null && fields.length > maxResponseHeaderCount + 2)) {
      this.#fail('HEAD_TOO_LARGE', 'head too large', to - from > maxResponseHeadBytes ? 'response-head-bytes' : 'response-header-count')
      return
    }
    const headers = fields === null ? null : toHeaders(fields)
    const status = fields === null ? 0 : Number(pseudo(fields, ':status')), protocol = fields === null ? null : pseudo(fields, ':protocol')
    const length = headers === null || !headers.hasKind(FieldKind.ContentLength) ? BODY_UNKNOWN : headers.contentLength()
    const badLength = length === -1 && headers !== null && headers.hasKind(FieldKind.ContentLength)
    if (headers === null || !(status >= 100 && status <= 999) || status === 101 || badLength) {
      this.#fail('BAD_HEAD', 'a malformed head', 'bad-head')
      return
    }
    if (protocol !== null) {
      this.#takeSwitch(status, protocol, headers)
      return
    }
    const head = new ResponseHead(status, '', '2', headers)
    if (status < 200) {
      if (++this.#interims > maxInterimResponses) {
        this.#fail('TOO_MANY_INTERIM', `more than ${maxInterimResponses} interim responses`, 'interim-responses')
      } else this.#owner.onInterim(head)
      return
    }
    this.#headSeen = true
    // It did not switch: nothing more is sent.
    if (this.#switches) this.#stream.end(trailerText(null))
    const bodiless = this.#method === 'HEAD' || status === 204 || status === 304
    this.#unread = bodiless ? 0 : length
    this.#owner.onResponseHead(head, bodiless ? 0 : length)
  }

  #takeSwitch(status: number, protocol: string, headers: HeaderMap): void {
    if (!this.#switches || status !== 200) {
      this.#fail('BAD_UPGRADE', 'a switch that was not asked for', 'bad-framing')
      return
    }
    this.#headSeen = true
    headers.append('Upgrade', protocol)
    this.#stream.pause()
    this.#owner.onResponseHead(new ResponseHead(101, '', '2', headers), BODY_TUNNEL)
  }

  onStreamData(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (this.#state !== SessionState.Asked) return
    this.#touch()
    this.bodyBytesIn += to - from
    if (!this.#headSeen || (this.#unread >= 0 && (this.#unread -= to - from) < 0)) {
      this.#fail('BAD_FRAMING', 'more body than the head announced', 'bad-framing')
      return
    }
    this.#owner.onResponseBody(buffer, from, to, owned)
  }

  onStreamEnd(payload: Buffer): void {
    if (this.#state !== SessionState.Asked) return
    const fields = readFields(payload, 0, payload.length), trailers = fields === null ? null : toHeaders(fields)
    if (!this.#headSeen || this.#unread > 0 || trailers === null) {
      this.#fail('BAD_FRAMING', 'an end within the response', 'bad-framing')
      return
    }
    this.#responseEnded = true
    const owner = this.#owner
    this.#settle()
    owner.onResponseEnd(trailers.size === 0 ? null : trailers)
  }

  onStreamReset(code: number): void {
    if (code === ResetCode.Broken) this.#fail('BAD_FRAMING', 'the stream broke', 'bad-framing')
    else if (code === ResetCode.Refused && !this.responseStarted) {
      this.#fail('CONNECTION_RESET', 'the origin did not take the request', '', 'always')
    } else this.#fail('CONNECTION_RESET', 'the origin reset the stream')
  }

  onStreamDrained(): void {
    this.#progress.drained()
    this.#owner.onUpstreamDrained()
  }

  #touch(): void {
    this.#silentSince = this.connection.ticker.clock.now()
    this.responseStarted = true
  }

  pauseResponse(): void {
    if (this.#state !== SessionState.Asked) return
    this.#paused = true
    this.#stream.pause()
  }

  resumeResponse(): void {
    if (this.#state !== SessionState.Asked || !this.#paused) return
    this.#paused = false
    this.#silentSince = this.connection.ticker.clock.now()
    this.#stream.resume()
  }

  /** What was `owned` is the receiver's for good. */
  giveUpBuffer(): boolean { return true }

  detach(): DetachedStream {
    this.#state = SessionState.Detached
    this.#owner = NOBODY
    return { stream: new TunnelStream(this.#stream, this.digest, () => this.#end(ResetCode.Cancelled)), early: null, ended: false }
  }

  // ---- the end

  #settle(): void {
    if (this.#state !== SessionState.Asked || !this.#requestEnded || !this.#responseEnded) return
    // An origin that answered without taking the whole request has no use for the rest of it.
    this.#end(this.#stream.allSent ? -1 : ResetCode.Cancelled)
  }

  /** @param code of the RESET; -1: there is nothing to reset */
  #end(code: number): void {
    if (this.#state === SessionState.Over) return
    this.#state = SessionState.Over
    this.#owner = NOBODY
    if (code !== -1) this.#stream.reset(code)
    this.connection.over(this)
  }

  abort(): void { this.#end(ResetCode.Cancelled) }

  #fail(kind: ErrorKind, context: string, limit = '', retry: RetryRule = 'never', cause: Error | null = null): void {
    this.#fault(new ProxyError(kind, 'upstream', context, { retry, limit, cause: cause ?? undefined }))
  }

  #fault(error: ProxyError): void {
    if (this.#state === SessionState.Over || this.#state === SessionState.Detached) return
    const owner = this.#owner
    this.#end(ResetCode.Cancelled)
    owner.onUpstreamFault(error)
  }

  /** GO_AWAY came: what lies above `last` was not looked at, and will not be. */
  notTaken(last: number): void {
    if (this.#stream.id !== 0 && this.#stream.id <= last) return
    if (this.#state === SessionState.Begun || !this.responseStarted) this.#fail('CLOSED_EARLY', 'the origin goes away', '', 'always')
  }

  connectionLost(kind: ErrorKind, text: string, cause: Error | null): void {
    if (this.#state === SessionState.Detached) {
      this.#stream.vanish(ResetCode.Cancelled)
      return
    }
    // The answer is all here.
    if (this.#stream.whole && (this.#requestEnded || this.#stream.closed)) return
    const retry = this.#state === SessionState.Begun ? 'always' : this.#reused && !this.responseStarted ? 'if-reused' : 'never'
    this.#fail(kind, text, kind === 'BAD_FRAMING' ? 'bad-framing' : '', kind === 'BAD_FRAMING' ? 'never' : retry, cause)
  }

  onTick(now: number): void {
    if (this.#state !== SessionState.Asked) return
    const late = lateness(this.#owed(), this.times, now, this.#silentSince, this.#progress)
    if (late === null) return
    // A transport that takes nothing at all is no good for others either.
    if (this.connection.stream.bytesQueued > 0) this.connection.leave()
    this.#fault(late)
  }

  #owed(): Owed {
    if (this.#stream.bytesQueued > 0) return Owed.Room
    if (this.#paused || this.#responseEnded) return Owed.Nothing
    if (this.#headSeen) return this.#stream.paused ? Owed.Nothing : Owed.Rest
    return this.#requestEnded ? Owed.FirstByte : Owed.Nothing
  }
}

