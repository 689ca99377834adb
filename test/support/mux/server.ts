/**
 * A client's connection to the proxy in the multiplexing protocol, and the exchanges on it.
 *
 *   MuxServerConnection   Open ──drain, a limit──▶ Leaving (GO_AWAY is sent) ──no stream──▶ Linger (FIN) ──▶ Closed
 *                           └── closeIdle, idle time, FIN ────────────────────▲
 *   MuxServerSession      Exchange ──release──▶ Released      Exchange ── detach ──▶ Detached ──release──▶ Released
 *
 * CONNECT with `:protocol` is a request to switch, which the exchange sees as GET with Upgrade; its 101 is sent as 200 with
 * `:protocol`. An answer that is whole before the request is cuts the rest of the request.
 */
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import { isAuthority } from '../../../src/http/authority.ts'
import { underscoredPair } from '../../../src/http/field-rules.ts'
import { FieldKind, isToken, type HeaderMap } from '../../../src/http/header-map.ts'
import type { FieldLines } from '../../../src/http/field-lines.ts'
import { HOP_BY_HOP } from '../../../src/http/hop-by-hop.ts'
import { RequestHead, type ResponseHead } from '../../../src/http/message-head.ts'
import type { Ticker, Timed } from '../../../src/primitives/clock.ts'
import {
  BUFFER_RESERVE, copyWithReserve, type ByteStream, type StreamDigest, type StreamOwner,
} from '../../../src/protocols/byte-stream.ts'
import type { AcceptingListener, ConnectionHost, DownstreamConnection } from '../../../src/protocols/http-connection.ts'
import { httpDate } from '../../../src/protocols/http1/date.ts'
import type { ResolvedHttp1ServerOptions } from '../../../src/protocols/http1/http1-options.ts'
import {
  BODY_TUNNEL, BODY_UNKNOWN, type DetachedStream, type DownstreamOwner, type DownstreamSession,
} from '../../../src/protocols/http-session.ts'
import type { HalfClose, RequestLimits } from '../../../src/protocols/http-options.ts'
import { RequestWatch, grewTooLarge, tookTooLong } from '../../../src/protocols/request-watch.ts'
import { SendProgress } from '../../../src/protocols/send-progress.ts'
import type { OpenHttp } from '../../../src/server/http-protocols.ts'
import { MuxChannel, MuxStream, type ChannelOwner, type StreamReceiver } from './channel.ts'
import {
  END_BIT, FIRST_STREAMS, FrameType, LENGTH_BIT, ResetCode, addFields, fieldText, numberFrame, pseudo, readFields, resetFrame, toHeaders,
  trailerText, type Fields,
} from './frames.ts'
import { TunnelStream } from './tunnel-stream.ts'

const NEVER = Number.POSITIVE_INFINITY

const State = { Open: 0, Leaving: 1, Linger: 2, Closed: 3 } as const

export class MuxServerConnection implements DownstreamConnection, ChannelOwner, StreamOwner, Timed {
  tickIndex = -1
  bookNewer: DownstreamConnection | null = null
  bookOlder: DownstreamConnection | null = null
  listNewer: DownstreamConnection | null = null
  listOlder: DownstreamConnection | null = null
  inList: object | null = null
  facts: object | null = null
  acceptedBy: AcceptingListener | null = null
  countedAs = ''
  requests = 0
  active = 0
  readonly protocol = 'mux'
  readonly stream: ByteStream
  readonly listener: string
  readonly options: ResolvedHttp1ServerOptions
  readonly host: ConnectionHost
  readonly ticker: Ticker
  readonly channel: MuxChannel
  readonly streams: number
  /** Sessions whose exchange is under way. */
  readonly #sessions = new Set<MuxServerSession>()
  readonly #progress: SendProgress
  #state: number = State.Open
  /** The client sent its FIN. */
  #ended = false
  #reading = false
  #deadline: number
  #lingerUntil = NEVER

  /** @param streams that may be open at a time */
  constructor(
    stream: ByteStream, listener: string, options: ResolvedHttp1ServerOptions, host: ConnectionHost, ticker: Ticker, acceptedAt: number,
    streams: number = FIRST_STREAMS,
  ) {
    this.stream = stream
    this.listener = listener
    this.options = options
    this.host = host
    this.ticker = ticker
    this.streams = streams
    this.channel = new MuxChannel(stream, this, false)
    this.#progress = new SendProgress(stream, acceptedAt)
    this.#deadline = acceptedAt + options.headTimeoutMs
    if (streams !== FIRST_STREAMS) this.channel.send(numberFrame(FrameType.Streams, 0, streams))
    ticker.add(this)
  }

  get tunnels(): number { return [...this.#sessions].filter(session => session.detached).length }
  get idle(): boolean {
    const { open, within } = this.channel
    return (this.#state === State.Open || this.#state === State.Leaving) && this.active === 0 && open === 0 && !within
  }
  get parting(): boolean { return false }
  get lingering(): boolean { return this.#state === State.Linger && this.channel.open === 0 && this.stream.bytesQueued === 0 }

  // ---- bytes of the client

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (this.#state === State.Linger || this.#state === State.Closed) {
      // Only answers that are still on their way are of interest: their windows.
      this.#deadline = this.ticker.clock.now() + this.options.lingerIdleMs
    }
    this.acceptedBy?.onActive(this)
    if (!this.channel.within) this.#deadline = this.ticker.clock.now() + this.options.headTimeoutMs
    this.#reading = true
    this.channel.push(buffer, from, to)
    this.#reading = false
    this.#look()
  }

  onNewStream(id: number, type: number, payload: Buffer, from: number, to: number): boolean {
    const stream = new MuxStream(this.channel, NO_RECEIVER, true), whole = (type & END_BIT) !== 0
    if (this.#state !== State.Open || this.channel.open >= this.streams) {
      this.channel.lastStream = id
      this.channel.send(resetFrame(id, ResetCode.Refused))
      return true
    }
    this.channel.add(stream, id)
    if (whole) stream.onEnd(Buffer.alloc(0))
    const session = new MuxServerSession(this, stream)
    this.requests++
    const error = session.readHead(payload, from, to, whole)
    if (error !== null) {
      this.host.onRefused(this, error)
      session.refuse(error)
      return true
    }
    const { maxRequestsPerConnection } = this.options
    this.active++
    this.#sessions.add(session)
    if (this.host.draining || (maxRequestsPerConnection !== 0 && this.requests >= maxRequestsPerConnection)) this.drain()
    session.begin()
    return true
  }

  onNotice(): boolean { return false }

  onBroken(text: string): void {
    this.requests++
    const error = new ProxyError('BAD_FRAMING', 'downstream', text, { status: 400, limit: 'bad-framing' })
    this.host.onRefused(this, error)
    for (const session of this.#sessions) session.connectionLost(error)
    for (const stream of this.channel.streams()) stream.reset(ResetCode.Broken)
    this.#leave()
    this.#linger()
  }

  onStreamClosed(): void { this.#look() }

  released(session: MuxServerSession): void {
    if (!this.#sessions.delete(session)) return
    this.active--
    this.#look()
  }

  /** Behind whatever changed: idle, or at its end. */
  #look(): void {
    if (this.#reading || this.#state === State.Closed || this.active > 0 || this.channel.open > 0) return
    if (this.#state === State.Linger) this.#finishLinger()
    else if (this.#state === State.Leaving || this.#ended) this.#linger()
    else if (this.idle) {
      this.#deadline = this.ticker.clock.now() + (this.requests === 0 ? this.options.headTimeoutMs : this.options.keepAliveTimeoutMs)
      this.acceptedBy?.onIdle(this)
    }
  }

  /** Without windows no answer can go on: FIN is the client's farewell. */
  onEnd(): void {
    this.#ended = true
    const gone = new ProxyError('CLIENT_GONE', 'downstream', 'the client closed the connection')
    for (const session of this.#sessions) session.connectionLost(gone)
    for (const stream of this.channel.streams()) stream.reset(ResetCode.Cancelled)
    if (this.#state === State.Linger) this.#finishLinger()
    else this.#look()
  }

  onDrained(): void {
    this.#progress.drained()
    this.channel.pump()
    this.#look()
  }

  onClosed(error: Error | null): void {
    this.ticker.remove(this)
    if (this.#state === State.Closed) return
    this.#state = State.Closed
    this.channel.stop()
    const gone = new ProxyError('CLIENT_GONE', 'downstream', 'the client closed the connection', { cause: error ?? undefined })
    for (const session of this.#sessions) session.connectionLost(gone)
    this.acceptedBy?.onClosed(this)
  }

  // ---- ending

  closeIdle(): void {
    if (!this.idle) return
    this.#leave()
    this.#linger()
  }

  /** GO_AWAY: requests that are here are served, then the connection ends. */
  drain(): void {
    if (this.#state !== State.Open) return
    // One that has not said anything yet may have its first request on the way.
    if (this.requests === 0) return
    this.#leave()
    this.#look()
  }

  #leave(): void {
    if (this.#state !== State.Open) return
    this.#state = State.Leaving
    this.channel.send(numberFrame(FrameType.GoAway, 0, this.channel.lastStream))
  }

  cut(error: ProxyError): void { for (const session of this.#sessions) session.fault(error) }

  destroy(): void { this.stream.destroy(true) }

  /** FIN behind all that is to be sent, then the client's. */
  #linger(): void {
    if (this.#state === State.Linger || this.#state === State.Closed) return
    this.acceptedBy?.onActive(this)
    this.#state = State.Linger
    const now = this.ticker.clock.now()
    this.#deadline = now + this.options.lingerIdleMs
    this.#lingerUntil = now + this.options.lingerTotalMs
    this.#finishLinger()
  }

  #finishLinger(): void {
    if (this.channel.open > 0) return
    this.channel.finish()
    if (this.#ended && this.stream.bytesQueued === 0) this.stream.destroy()
  }

  onTick(now: number): void {
    for (const stream of this.channel.streams()) if (stream.receiver instanceof MuxServerSession) stream.receiver.onTick(now)
    const { sendTimeoutMs, minSendBytesPerSecond } = this.options
    if (this.#progress.check(now, sendTimeoutMs, minSendBytesPerSecond) !== '') this.destroy()
    else if (this.#state === State.Linger) {
      if (this.stream.bytesQueued === 0 && (now >= this.#deadline || now >= this.#lingerUntil)) this.stream.destroy()
    } else if (this.idle) {
      if (now >= this.#deadline) this.closeIdle()
    } else if (this.channel.within && this.active === 0 && now >= this.#deadline) {
      const text = `no complete head within ${this.options.headTimeoutMs} ms`
      this.onBroken(text)
    }
  }
}

const NOBODY: DownstreamOwner = {
  onRequestBody() {}, onRequestEnd() {}, onDownstreamDrained() {}, onDownstreamHalfClosed() {}, onDownstreamFault() {},
}

const NO_RECEIVER: StreamReceiver = { onStreamHead() {}, onStreamData() {}, onStreamEnd() {}, onStreamReset() {}, onStreamDrained() {} }

const SessionState = { Exchange: 0, Detached: 1, Released: 2 } as const

const NO_HEAD = new RequestHead('GET', '/', '2', toHeaders([])!)

export class MuxServerSession implements DownstreamSession, StreamReceiver {
  get detached(): boolean { return this.#state === SessionState.Detached }
  readonly connection: MuxServerConnection
  readonly #stream: MuxStream
  readonly #progress: SendProgress
  #watch: RequestWatch | null = null
  #owner: DownstreamOwner = NOBODY
  #state: number = SessionState.Exchange
  request: RequestHead = NO_HEAD
  requestBodyLength = 0
  requestEnded = false
  bodyBytesIn = 0
  bodyBytesOut = 0
  responseStarted = false
  awaitsContinue = false
  wantsSwitch = false
  readonly acceptsTrailers = true
  readonly endsByMark = false
  targetUnusual = false
  /** A stream's END is that of its request; a connection's FIN ends them all. */
  halfClose: HalfClose = 'abort'
  #limits: RequestLimits
  #flowing = false
  /** The client broke a rule, or is late: nothing more is read of its request. */
  #faulted = false
  #protocol = ''
  #hasBody = true
  /** Announced and not yet written; -1: none was announced. */
  #unsent = -1
  #responseEnded = false
  #deadline = NEVER
  #begunAt = 0

  constructor(connection: MuxServerConnection, stream: MuxStream) {
    this.connection = connection
    this.#limits = connection.options
    this.#stream = stream
    this.#progress = new SendProgress(stream, connection.ticker.clock.now())
    stream.receiver = this
  }

  get digest(): StreamDigest { return this.connection.stream.digest }
  get listener(): string { return this.connection.listener }
  get bytesQueued(): number { return this.#stream.bytesQueued }
  get #now(): number { return this.connection.ticker.clock.now() }
  get limits(): RequestLimits { return this.#limits }
  set limits(limits: RequestLimits) {
    this.#limits = limits
    this.#deadline = limits.totalTimeoutMs === 0 ? NEVER : this.#begunAt + limits.totalTimeoutMs
  }

  // ---- the request

  /** @returns what is wrong with it, or null */
  readHead(payload: Buffer, from: number, to: number, whole: boolean): ProxyError | null {
    const { maxHeadBytes, maxHeaderCount, maxUriBytes, allowConnect } = this.connection.options
    if (to - from > maxHeadBytes) return refused('HEAD_TOO_LARGE', 431, 'head-bytes', 'head too large')
    const fields = readFields(payload, from, to)
    if (fields === null) return refused('BAD_HEAD', 400, 'bad-head', 'malformed head')
    if (fields.length > maxHeaderCount + 4) return refused('HEAD_TOO_LARGE', 431, 'header-count', 'too many fields')
    const headers = toHeaders(fields)
    let method = pseudo(fields, ':method') ?? ''
    const target = pseudo(fields, ':target') ?? '', authority = pseudo(fields, ':authority') ?? '', protocol = pseudo(fields, ':protocol')
    if (headers === null || !isToken(method) || !/^[\x21-\x7e]+$/.test(target) || !isAuthority(authority) || target.includes('#')) {
      return refused('BAD_HEAD', 400, 'bad-head', 'malformed head')
    }
    if (target.length > maxUriBytes) return refused('URI_TOO_LONG', 414, 'uri-bytes', 'request target too long')
    if (method === 'CONNECT' && protocol === null) {
      const status = allowConnect ? 501 : 405
      return refused(allowConnect ? 'NOT_IMPLEMENTED' : 'METHOD_NOT_ALLOWED', status, '', 'CONNECT is not allowed here')
    }
    if (method === 'CONNECT' ? whole : protocol !== null || target[0] !== '/') return refused('BAD_HEAD', 400, 'bad-head', 'malformed head')
    if (underscoredPair(headers) !== null || headers.hasKind(FieldKind.Host)) return refused('BAD_HEAD', 400, 'bad-head', 'a field twice')
    const length = headers.contentLength(), declares = headers.hasKind(FieldKind.ContentLength)
    if (declares && (length === -1 || (whole && length > 0))) return refused('BAD_FRAMING', 400, 'bad-framing', 'Content-Length is wrong')
    headers.append('Host', authority)
    if (protocol !== null) {
      method = 'GET'
      headers.append('Upgrade', protocol)
      this.wantsSwitch = true
      this.#protocol = protocol
    }
    this.request = new RequestHead(method, target, '2', headers, this.digest.tls === null ? 'http' : 'https')
    this.targetUnusual = !/^[/0-9A-Za-z]+$/.test(target) || target.includes('//')
    this.requestEnded = whole || protocol !== null
    this.requestBodyLength = this.requestEnded ? 0 : declares ? length : BODY_UNKNOWN
    // A body of no bytes whose END is still on its way is one that nobody asks for.
    if (this.requestBodyLength === 0) this.requestEnded = true
    this.awaitsContinue = !this.requestEnded && headers.getKind(FieldKind.Expect)?.toLowerCase() === '100-continue'
    return null
  }

  begin(): void {
    const { options, host } = this.connection
    this.#begunAt = this.#now
    if (options.totalTimeoutMs !== 0) this.#deadline = this.#now + options.totalTimeoutMs
    if (!this.requestEnded) {
      this.#watch = new RequestWatch()
      this.#watch.begin(this.#now)
    }
    const owner = host.onRequest(this)
    this.#owner = owner
    owner.begin()
  }

  /** Answered here: there is no exchange. */
  refuse(error: ProxyError): void {
    this.#state = SessionState.Released
    const fields: Fields = [[':status', String(error.status)], ['content-length', '0'], ['cache-control', 'private, no-store']]
    this.#stream.head(FrameType.Head, fieldText(fields))
    this.#stream.cutsWhenSent = true
    this.#stream.end(trailerText(null))
  }

  resumeRequest(): void {
    if (this.#state !== SessionState.Exchange || this.#flowing) return
    this.#flowing = true
    this.#watch?.flows(this.#now)
    // What a request to switch sends belongs to the tunnel.
    if (!this.wantsSwitch) this.#stream.resume()
  }

  pauseRequest(): void {
    if (this.#state !== SessionState.Exchange) return
    if (this.#flowing) {
      this.#flowing = false
      this.#watch?.holds(this.#now)
    }
    this.#stream.pause()
  }

  onStreamHead(): void { this.#stream.breaks() }

  onStreamData(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (this.#state !== SessionState.Exchange || this.#faulted) return
    this.#watch?.read(this.#now)
    this.awaitsContinue = false
    this.bodyBytesIn += to - from
    if (this.requestBodyLength >= 0 && this.bodyBytesIn > this.requestBodyLength) {
      this.fault(refused('BAD_FRAMING', 400, 'bad-framing', 'more body than was announced'))
      return
    }
    const excess = grewTooLarge(this.bodyBytesIn, this.#limits)
    if (excess !== null) {
      this.fault(excess)
      return
    }
    if (owned) {
      this.#owner.onRequestBody(buffer, from, to)
      return
    }
    // A request's body is owned by whoever gets it: other streams go on in the buffer that it came in.
    const copy = copyWithReserve(buffer, from, to)
    this.#owner.onRequestBody(copy, BUFFER_RESERVE, copy.length - BUFFER_RESERVE)
  }

  onStreamEnd(payload: Buffer): void {
    if (this.#state !== SessionState.Exchange || this.#faulted || this.requestEnded) return
    const fields = readFields(payload, 0, payload.length), trailers = fields === null ? null : toHeaders(fields)
    if (trailers === null || payload.length > this.connection.options.maxTrailerBytes) {
      this.fault(refused('BAD_TRAILERS', 400, 'bad-framing', 'malformed trailers'))
    } else if (this.requestBodyLength >= 0 && this.bodyBytesIn < this.requestBodyLength) {
      this.fault(refused('BAD_FRAMING', 400, 'bad-framing', 'less body than was announced'))
    } else {
      this.requestEnded = true
      this.#owner.onRequestEnd(trailers.size === 0 ? null : trailers)
    }
  }

  onStreamReset(code: number): void {
    if (code === ResetCode.Broken) {
      this.fault(new ProxyError('BAD_FRAMING', 'downstream', 'the client broke its stream', { limit: 'bad-framing' }))
    } else this.fault(new ProxyError('CLIENT_GONE', 'downstream', 'the client reset the stream'))
  }

  onStreamDrained(): void {
    this.#progress.drained()
    this.#owner.onDownstreamDrained()
  }

  fault(error: ProxyError): void {
    if (this.#state !== SessionState.Exchange) return
    this.#faulted = true
    this.#owner.onDownstreamFault(error)
  }

  connectionLost(error: ProxyError): void {
    if (this.#state === SessionState.Detached) {
      this.#stream.vanish(ResetCode.Cancelled)
      return
    }
    // Hooks may change the fault that they are told of: each exchange has its own.
    const { kind, source, limit, cause } = error, copy = new ProxyError(kind, source, 'the client closed the connection', { limit, cause })
    this.#stream.reset(ResetCode.Cancelled)
    this.fault(copy)
  }

  sendContinue(): void {
    if (!this.awaitsContinue || this.responseStarted) return
    this.awaitsContinue = false
    this.#stream.head(FrameType.Head, fieldText([[':status', '100']]))
  }

  // ---- the response

  writeInterim(head: ResponseHead): void {
    if (this.responseStarted || this.#state !== SessionState.Exchange) return
    if (head.status === 100) this.sendContinue()
    else this.#writeFields(head.status, null, head.headers, HOP_BY_HOP | LENGTH_BIT, null)
  }

  writeHead(head: ResponseHead, length: number, lines: FieldLines): void {
    if (this.responseStarted || this.#state !== SessionState.Exchange) return
    this.responseStarted = true
    const { headers, status } = head
    if (length === BODY_TUNNEL) {
      this.#hasBody = false
      this.#writeFields(200, headers.getKind(FieldKind.Upgrade) ?? this.#protocol, headers, HOP_BY_HOP | LENGTH_BIT, lines)
      return
    }
    this.#hasBody = this.request.method !== 'HEAD' && status !== 204 && status !== 304
    const announces = length >= 0 && status !== 204 && (this.#hasBody || length > 0)
    const fits = headers.contentLength() === length
    const keeps = this.#hasBody ? length >= 0 && fits : status !== 204 && (length <= 0 || fits)
    if (this.#hasBody && length >= 0) this.#unsent = length
    const added = announces && !keeps ? length : -1
    this.#writeFields(status, null, headers, HOP_BY_HOP | (keeps ? 0 : LENGTH_BIT), lines, added)
  }

  #writeFields(status: number, protocol: string | null, headers: HeaderMap, skip: number, lines: FieldLines | null, length = -1): void {
    const fields: Fields = [[':status', String(status)]]
    if (protocol !== null) fields.push([':protocol', protocol])
    addFields(fields, headers, skip, lines)
    if (length >= 0) fields.push(['content-length', String(length)])
    if (status >= 200 && !headers.hasKind(FieldKind.Date)) fields.push(['date', httpDate(this.connection.ticker.clock)])
    this.#stream.head(FrameType.Head, fieldText(fields))
  }

  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (!this.#hasBody || this.#state !== SessionState.Exchange || this.#responseEnded) return
    let end = to
    if (this.#unsent >= 0) {
      end = Math.min(to, from + this.#unsent)
      this.#unsent -= end - from
    }
    if (end === from) return
    this.bodyBytesOut += end - from
    this.#stream.write(buffer, from, end, owned)
  }

  endResponse(trailers: HeaderMap | null): void {
    if (this.#responseEnded || this.#state !== SessionState.Exchange) return
    this.#responseEnded = true
    if (this.#hasBody && this.#unsent > 0) this.abort()
    else {
      // What the client has not sent of its request is not needed any more.
      this.#stream.cutsWhenSent = !this.#stream.whole
      this.#stream.end(trailerText(trailers))
    }
  }

  /** Other exchanges share the transport: it stays. */
  refuseReuse(): void {}

  abort(): void { this.#stream.reset(ResetCode.Cancelled) }

  giveUpBuffer(): boolean { return true }

  detach(): DetachedStream {
    this.#state = SessionState.Detached
    this.#owner = NOBODY
    return { stream: new TunnelStream(this.#stream, this.digest, () => {}), early: null, ended: false }
  }

  release(): void {
    if (this.#state === SessionState.Released) return
    if (!this.#responseEnded) this.#stream.reset(ResetCode.Cancelled)
    this.#state = SessionState.Released
    this.#owner = NOBODY
    this.connection.released(this)
  }

  // ---- time

  onTick(now: number): void {
    const options = this.#limits
    const stalled = this.#progress.check(now, options.sendTimeoutMs, options.minSendBytesPerSecond)
    if (stalled !== '') {
      const error = new ProxyError('SLOW_READER', 'downstream', 'the client does not take the answer', { limit: stalled })
      this.fault(error)
      this.#stream.reset(ResetCode.Cancelled)
      return
    }
    if (this.#state !== SessionState.Exchange || this.#responseEnded) return
    if (!this.requestEnded && this.#flowing && !this.#faulted) {
      const late = this.#watch!.lateness(now, this.bodyBytesIn, this.responseStarted, options)
      if (late !== null) {
        this.fault(late)
        return
      }
    }
    if (now > this.#deadline) {
      this.#deadline = now + options.totalTimeoutMs
      this.fault(tookTooLong(options.totalTimeoutMs))
    }
  }
}

function refused(kind: ConstructorParameters<typeof ProxyError>[0], status: number, limit: string, text: string): ProxyError {
  return new ProxyError(kind, 'downstream', text, { status, limit })
}

/** A table of protocols (server/http-protocols.ts) with this one alone, whatever was agreed on. */
export const MUX_PROTOCOLS: ReadonlyMap<string, OpenHttp> = new Map([
  ['', (stream, listener, options, host, ticker, acceptedAt) => {
    return new MuxServerConnection(stream, listener, options, host, ticker, acceptedAt)
  }],
])
