/**
 * A client's connection in HTTP/2, and the streams on it (RFC 9113).
 *
 *   Preface ──▶ Open ──drain, a limit──▶ Leaving ──PING came back, a second──▶ Left ──no stream──▶ Linger ──FIN──▶ Closed
 *      │          │ closeIdle, idle time      GOAWAY(2^31-1): streams are taken │  GOAWAY(last): none is ▲
 *      │          └────────────────────────────────────────────────────────────┴────────────────────────┘
 *      └──────────┴─ a broken rule, a limit ──▶ Broken (GOAWAY with its code, FIN) ──a second──▶ Closed
 *
 * Frames are cut by frame-reader.ts, heads decoded by hpack-decoder.ts and read by request-fields.ts; a stream is server-session.ts.
 * What is sent is joined (joined-writes.ts): heads and control frames go there at once, bodies as far as the windows of stream and
 * connection and the transport take them; streams with more stand in line, and each sends a frame in its turn.
 * Invariants: a block that was decoded or encoded is never skipped, since both tables follow from all of them; a place among the
 * streams is taken until the exchange is over, however soon the stream was reset (CVE-2023-44487, CVE-2025-8671).
 * Every frame that costs more here than there has a budget; past it the connection ends with ENHANCE_YOUR_CALM.
 * One idea in more than 500 lines: each frame is answered by the state of connection and stream, and all are read side by side.
 */
import { ProxyError } from '../../errors/proxy-error.ts'
import { grpcMediaType } from '../../http/grpc-request.ts'
import { IdTable, MemberList } from '../../primitives/churning.ts'
import type { Ticker, Timed } from '../../primitives/clock.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import type { ByteStream, StreamOwner } from '../byte-stream.ts'
import type { AcceptingListener, ConnectionHost, DownstreamConnection } from '../http-connection.ts'
import type { ResolvedHttpServerOptions } from '../http-options.ts'
import { httpDate } from '../http1/date.ts'
import { SendProgress } from '../send-progress.ts'
import { BlockParts } from './block-parts.ts'
import { ErrorCode } from './error-code.ts'
import {
  FIRST_WINDOW, FrameType, Flag, MAX_MAX_FRAME_BYTES, MAX_STREAM_ID, MAX_WINDOW, MIN_MAX_FRAME_BYTES, PREFACE, Setting,
  readUint32,
} from './frames.ts'
import { FrameBudgets, Spent } from './frame-budgets.ts'
import { FrameReader, type FrameSink } from './frame-reader.ts'
import { FrameSender } from './frame-sender.ts'
import { HpackDecoder } from './hpack-decoder.ts'
import type { ResolvedHttp2ServerOptions } from './http2-options.ts'
import { ReceivedFields, type FieldLimits } from './received-fields.ts'
import { RequestReading } from './request-fields.ts'
import { ResponseHeads } from './response-heads.ts'
import { Http2ServerSession } from './server-session.ts'

export type Http2ListenerOptions = ResolvedHttpServerOptions & { readonly http2: ResolvedHttp2ServerOptions }

const State = { Preface: 0, Open: 1, Leaving: 2, Left: 3, Linger: 4, Broken: 5, Closed: 6 } as const
type State = (typeof State)[keyof typeof State]

const NEVER = Number.POSITIVE_INFINITY
const NO_BYTES = Buffer.alloc(0)

/** How long GOAWAY has to reach a client that broke a rule. */
const FAREWELL_MS = 1000
/** What only waits for the client's FIN. */
const LINGER_MS = 5000
/** Streams that are over and still known as such: what is on its way to them is no fault. */
const REMEMBERED = 128
/** Of a connection, whatever its size: what need not pay for itself. */
const OVERHEAD_GRACE_BYTES = 1_048_576
/** Past this many times the limit of a head, it is no mistake. */
const FLOOD_FACTOR = 4
/** Payload of the PING that shows when the client has seen the first GOAWAY. */
const LEAVING_PING = Buffer.from('\x00\x00cirque', 'latin1')

/** WINDOW_UPDATE frames that a stream, and a DATA frame, may bring. */
const UPDATES_A_STREAM = 2, UPDATES_A_FRAME = 10

/** Heads are read one after the other: one of each serves all connections. */
const fields = new ReceivedFields(), reading = new RequestReading()

let yielded: Http2ServerConnection[] = []
function nextTurn(): void {
  const connections = yielded
  yielded = []
  for (const connection of connections) connection.endYield()
}

export class Http2ServerConnection implements DownstreamConnection, StreamOwner, FrameSink, Timed {
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
  tunnels = 0
  readonly protocol = 'h2'
  readonly stream: ByteStream
  readonly listener: string
  readonly options: Http2ListenerOptions
  readonly host: ConnectionHost
  readonly ticker: Ticker
  readonly heads: ResponseHeads
  /** Of a stream that begins: until the client has acknowledged a smaller one it may not know of it (RFC 9113 6.9.2). */
  firstReceiveWindow: number
  readonly sender: FrameSender

  readonly #fieldLimits: FieldLimits
  readonly #reader: FrameReader
  readonly #decoder = new HpackDecoder()
  /** On the wire. */
  readonly #streams = new IdTable<Http2ServerSession>()
  /** Whose exchange is under way. */
  readonly #sessions = new MemberList<Http2ServerSession>()
  /** Those of them that are not on the wire any more. */
  #offWire = 0
  /** Of exchanges under way, as decoded, 32 for each field included. */
  #heldHeadBytes = 0
  readonly #secure: boolean
  #state: State = State.Preface
  #prefaceAt = 0
  #sawSettings = false
  #lastStream = 0
  /** Streams that are over, and whether this side reset them; a ring. */
  #over: Int32Array | null = null
  #overAt = 0

  // ---- reading
  #reading = false
  #begunInRead = 0
  #held: Buffer | null = null
  /** What `heldBytes` has of this, of a part of a frame, and of a part of a header block. */
  #heldCounted = 0
  #partOf = 0
  #partDeadline = NEVER
  readonly #block = new BlockParts()
  #blockDeadline = NEVER
  #receiveWindow: number
  #unreported = 0
  /** Whose DATA frame is being read; null: nobody's who would want it. */
  #dataSession: Http2ServerSession | null = null
  #dataLength = 0
  #dataLeft = 0
  /** Of bodies on streams that this side reset: what their windows still let come. */
  #stragglerBytes = 0

  // ---- writing
  #controlQueued = 0
  /** What waits behind the transport is so much that nothing more is read that could be answered. */
  #stuffed = false
  readonly #progress: SendProgress
  /** How fast the window of the connection opens where it alone keeps what waits; null: it never did. */
  #windowProgress: SendProgress | null = null
  #sawGoAway = false

  // ---- time and budgets
  #deadline: number
  #idleSince: number
  #settingsDeadline = NEVER
  #maxAgeAt: number
  #payloadBytes = 0
  #windowUpdates = 0
  /** DATA frames that were sent before the last PING came. */
  #probedAt = 0
  readonly #budgets: FrameBudgets

  /** @param acceptedAt ms of the clock; the preface is due from then */
  constructor(
    stream: ByteStream, listener: string, options: Http2ListenerOptions, host: ConnectionHost, ticker: Ticker,
    acceptedAt: number = ticker.clock.now(),
  ) {
    const { http2, headTimeoutMs, maxConnectionAgeMs, maxHeadBytes, maxHeaderCount, maxHeaderLineBytes } = options
    this.stream = stream
    this.listener = listener
    this.options = options
    this.host = host
    this.ticker = ticker
    this.heads = new ResponseHeads(4096)
    this.sender = new FrameSender(stream, this)
    this.#fieldLimits = {
      maxHeadBytes, maxHeaderCount, maxHeaderLineBytes,
      maxHeaderListBytes: http2.maxHeaderListBytes, maxCookieCrumbs: http2.maxCookieCrumbs,
    }
    this.#reader = new FrameReader(this, MIN_MAX_FRAME_BYTES)
    this.#budgets = new FrameBudgets(http2)
    this.#progress = new SendProgress(stream, acceptedAt)
    this.#receiveWindow = http2.connectionWindowBytes
    this.firstReceiveWindow = Math.max(FIRST_WINDOW, http2.streamWindowBytes)
    this.#secure = stream.digest.tls !== null
    this.#deadline = acceptedAt + headTimeoutMs
    this.#idleSince = acceptedAt
    // A tenth of spread, so that connections opened together do not all come back together.
    this.#maxAgeAt = maxConnectionAgeMs === 0 ? NEVER : acceptedAt + maxConnectionAgeMs * (0.9 + ticker.clock.random() * 0.2)
    ticker.add(this)
  }

  get idle(): boolean {
    const state = this.#state
    return (state <= State.Left) && this.active === 0 && this.#streams.size === 0 && !this.#reader.within && this.#held === null &&
      this.#prefaceAt % PREFACE.length === 0
  }
  get lingering(): boolean { return this.#state === State.Linger && this.stream.bytesQueued === 0 }
  get parting(): boolean { return this.#state === State.Linger || (this.active === 0 && this.#streams.size > 0) }
  get date(): string { return httpDate(this.ticker.clock) }
  get #now(): number { return this.ticker.clock.now() }

  // ---- bytes of the client

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (this.#state >= State.Linger) return
    this.acceptedBy?.onActive(this)
    this.#read(buffer, from, to)
  }

  #read(buffer: Buffer, from: number, to: number): void {
    this.#reading = true
    this.#begunInRead = 0
    const start = this.#state === State.Preface ? this.#readPreface(buffer, from, to) : from
    const at = start < to && this.#state < State.Linger ? this.#reader.push(buffer, start, to) : to
    this.#reading = false
    if (this.#state < State.Linger) {
      if (at < to) this.#yield(buffer, at, to)
      this.#timePart()
      this.#countHeld()
    }
    if (this.stream.bytesRead > this.options.http2.maxOverheadRatio * (this.#payloadBytes + this.sender.dataBytes + OVERHEAD_GRACE_BYTES)) {
      this.#calm('overhead-ratio', 'next to nothing of what the client sends is of use')
    }
    this.#look()
  }

  #readPreface(buffer: Buffer, from: number, to: number): number {
    let at = from
    while (at < to && this.#prefaceAt < PREFACE.length) {
      if (buffer[at] !== PREFACE[this.#prefaceAt]) {
        this.onConnectionError(ErrorCode.ProtocolError, 'the connection does not begin as HTTP/2 does')
        return to
      }
      at++
      this.#prefaceAt++
    }
    if (this.#prefaceAt === PREFACE.length) this.#open()
    return at
  }

  #open(): void {
    const { http2, headTimeoutMs } = this.options, now = this.#now
    if (this.#state === State.Preface) this.#state = State.Open
    this.#deadline = now + headTimeoutMs
    this.#settingsDeadline = now + http2.settingsAckTimeoutMs
    this.sender.settings([
      [Setting.MaxConcurrentStreams, http2.maxConcurrentStreams], [Setting.InitialWindowSize, http2.streamWindowBytes],
      [Setting.MaxHeaderListSize, http2.maxHeaderListBytes], [Setting.EnableConnectProtocol, 1], [Setting.NoRfc7540Priorities, 1],
    ])
    const more = http2.connectionWindowBytes - FIRST_WINDOW
    if (more > 0) this.sender.windowUpdate(0, more)
  }

  /** Others have their turn before the rest is read. */
  #yield(buffer: Buffer, from: number, to: number): void {
    this.stream.pause()
    this.#held = Buffer.from(buffer.subarray(from, to))
    if (yielded.push(this) === 1) setImmediate(nextTurn)
  }

  /** For nextTurn. */
  endYield(): void {
    const held = this.#held
    if (held === null) return
    this.#held = null
    if (this.#state >= State.Linger) return
    this.#read(held, 0, held.length)
    this.#readOn()
  }

  /** Behind a time in which nothing was read: what was due in it may have come long ago, and is read in a moment. */
  #renewDeadlines(): void {
    const { headTimeoutMs, http2 } = this.options, now = this.#now
    if (this.#partDeadline !== NEVER) this.#partDeadline = now + this.#partTimeoutMs
    if (this.#blockDeadline !== NEVER) this.#blockDeadline = now + headTimeoutMs
    if (this.#settingsDeadline !== NEVER) this.#settingsDeadline = now + http2.settingsAckTimeoutMs
  }

  /** Unless something else still stands in the way. */
  #readOn(): void { if (this.#held === null && !this.#stuffed && this.#state < State.Linger) this.stream.resume() }

  #dropHeld(): void {
    this.#held = null
    this.#block.drop()
    this.#countHeld()
  }

  #countHeld(): void {
    const held = this.#held, bytes = this.#reader.heldBytes + (held === null ? 0 : held.length) + this.#block.heldBytes
    heldBytes.now += bytes - this.#heldCounted
    this.#heldCounted = bytes
  }

  /** A frame that came in part has as long as a head, DATA as long as a pause within a body. */
  get #partTimeoutMs(): number { return this.#reader.withinData ? this.options.bodyIdleTimeoutMs : this.options.headTimeoutMs }

  #timePart(): void {
    const { frames, withinFrame } = this.#reader
    if (!withinFrame) this.#partDeadline = NEVER
    else if (frames !== this.#partOf || this.#partDeadline === NEVER) this.#partDeadline = this.#now + this.#partTimeoutMs
    this.#partOf = frames
  }

  /** DATA of a stream that is open has the times of that stream. */
  get #partIsTimed(): boolean { return this.#dataSession === null || this.#dataSession.closed }

  // ---- frames

  onFrame(type: number, flags: number, stream: number, payload: Buffer, from: number, to: number): boolean {
    if (!this.#sawSettings) {
      if (type !== FrameType.Settings || (flags & Flag.Ack) !== 0) return this.#fail('the first frame is not SETTINGS')
      this.#sawSettings = true
      this.#idleSince = this.#now
    }
    switch (type) {
      case FrameType.Headers: return this.#headers(flags, stream, payload, from, to)
      case FrameType.Continuation: return this.#continuation(flags, payload, from, to)
      case FrameType.WindowUpdate: return this.#windowUpdate(stream, readUint32(payload, from) & MAX_WINDOW)
      case FrameType.RstStream: return this.#rstStream(stream, readUint32(payload, from))
      case FrameType.Settings: return this.#readSettings(flags, payload, from, to)
      case FrameType.Ping: return this.#ping(flags, payload, from, to)
      case FrameType.Priority:
        if (!this.#spend(Spent.Priority)) return false
        return (readUint32(payload, from) & MAX_STREAM_ID) !== stream ||
          this.onStreamError(stream, ErrorCode.ProtocolError, 'a stream depends on itself')
      case FrameType.GoAway: {
        // It goes on with what it has begun, and says so once or twice.
        const isNew = !this.#sawGoAway
        this.#sawGoAway = true
        return isNew || this.#glitch()
      }
      default: return this.#fail('a client pushes nothing')
    }
  }

  onUnknown(_type: number): boolean {
    if (!this.#sawSettings) return this.#fail('the first frame is not SETTINGS')
    return this.#glitch()
  }

  // ---- heads

  #headers(flags: number, stream: number, payload: Buffer, from: number, to: number): boolean {
    if ((stream & 1) === 0) return this.#fail('a client opens streams with odd numbers')
    if ((flags & Flag.EndHeaders) !== 0) return this.#blockDone(flags, stream, payload, from, to)
    this.#block.begin(stream, flags)
    this.#blockDeadline = this.#now + this.options.headTimeoutMs
    return this.#keepBlock(payload, from, to)
  }

  #keepBlock(payload: Buffer, from: number, to: number): boolean {
    return this.#block.add(payload, from, to, this.options.http2.maxHeaderBlockBytes) ||
      this.#calm('header-block-bytes', 'the header block is too long')
  }

  #continuation(flags: number, payload: Buffer, from: number, to: number): boolean {
    const block = this.#block
    if (++block.frames > this.options.http2.maxContinuationFrames) {
      return this.#calm('continuation-frames', 'the header block comes in too many frames')
    }
    if (!this.#keepBlock(payload, from, to)) return false
    if ((flags & Flag.EndHeaders) === 0) return true
    this.#blockDeadline = NEVER
    return this.#blockDone(block.flags, block.stream, block.take(), 0, block.length)
  }

  #blockDone(flags: number, stream: number, block: Buffer, from: number, to: number): boolean {
    const session = this.#streams.get(stream)
    fields.begin(this.#fieldLimits, session !== undefined)
    if (!this.#decoder.decode(block, from, to, fields)) {
      return this.#fail('the header block cannot be decoded', ErrorCode.CompressionError)
    }
    if (fields.listBytes > FLOOD_FACTOR * this.options.http2.maxHeaderListBytes) {
      return this.#calm('header-list-bytes', 'the head is a flood')
    }
    this.#payloadBytes += to - from
    const whole = (flags & Flag.EndStream) !== 0, selfDependent = (flags & Flag.SelfDependent) !== 0
    if (session !== undefined) return selfDependent ? this.#dependsOnItself(session) : this.#readTrailers(session, whole)
    if (stream <= this.#lastStream) return this.#headersBehindEnd(stream)
    return this.#begin(stream, whole, selfDependent)
  }

  #dependsOnItself(session: Http2ServerSession): true {
    session.breaks(ErrorCode.ProtocolError, 'a stream depends on itself')
    return true
  }

  #readTrailers(session: Http2ServerSession, whole: boolean): boolean {
    if (session.remoteEnded) session.breaks(ErrorCode.StreamClosed, 'HEADERS behind the end of the stream')
    else if (!whole) session.breaks(ErrorCode.ProtocolError, 'HEADERS within a body')
    else if (fields.fault !== '') session.breaks(ErrorCode.ProtocolError, fields.fault)
    else {
      const { maxTrailerCount, maxTrailerBytes } = this.options, trailers = fields.take()
      const excess = fields.limit !== '' || fields.listBytes - trailers.size * 32 > maxTrailerBytes ? 'trailer-bytes'
        : maxTrailerCount !== 0 && trailers.size > maxTrailerCount ? 'trailer-count' : ''
      if (excess === '') session.onEnd(trailers.size === 0 || maxTrailerCount === 0 ? null : trailers)
      else {
        session.remoteEnded = true
        session.fault(new ProxyError('BAD_TRAILERS', 'downstream', 'trailers too large', { status: 400, limit: excess }))
      }
    }
    return true
  }

  /** On a stream that is over, or was passed over. */
  #headersBehindEnd(stream: number): boolean {
    const how = this.#howOver(stream)
    if (how > 0) return this.#glitch()
    return how < 0 ? this.#fail('HEADERS on a stream that is over', ErrorCode.StreamClosed) : this.#fail('streams go backwards')
  }

  #begin(stream: number, whole: boolean, selfDependent: boolean): boolean {
    const { http2 } = this.options
    // What the client may not know yet. Its own connection has the same number for the stream elsewhere.
    if (this.#state >= State.Left) return true
    this.#lastStream = stream
    this.requests++
    if (this.#streams.size + this.#offWire >= http2.maxConcurrentStreams) {
      return this.#refuseStream(stream, whole, 'OVERLOADED', 503, 'more streams than allowed', 'concurrent-streams')
    }
    const headBytes = fields.listBytes
    if (this.#heldHeadBytes + headBytes > http2.maxHeldHeadBytes) {
      return this.#refuseStream(stream, whole, 'HEAD_TOO_LARGE', 431, 'the heads of open streams are too large', 'held-head-bytes')
    }
    if (++this.#begunInRead >= http2.maxStreamsPerRead) this.#reader.pause()
    const served = !selfDependent && reading.read(fields, whole, this.#secure, this.options)
    if (!served && (selfDependent || reading.status === 0)) {
      this.#refused('BAD_HEAD', selfDependent ? 'a stream depends on itself' : reading.fault, 'bad-head', 400)
      this.sendReset(stream, ErrorCode.ProtocolError, whole ? 0 : this.firstReceiveWindow)
      return this.countReset()
    }
    const now = this.#now, session = new Http2ServerSession(this, stream, reading, whole, now)
    this.#streams.add(session)
    if (!served) {
      const { status, fault } = reading
      this.#refused(kindOfStatus(status), fault, status === 431 ? fields.limit : status === 414 ? 'uri-bytes' : 'bad-head', status)
      session.refuse(status, grpcMediaType(fields.contentType))
      return true
    }
    this.active++
    this.#sessions.add(session)
    session.headBytes = headBytes
    this.#heldHeadBytes += headBytes
    const { maxStreamsPerConnection } = http2
    if (this.host.draining || (maxStreamsPerConnection !== 0 && this.requests >= maxStreamsPerConnection)) this.drain()
    session.begin()
    return this.#state < State.Linger
  }

  /** It was not looked at, and may come again (RFC 9113 8.7). */
  #refuseStream(stream: number, whole: boolean, kind: ProxyError['kind'], status: number, text: string, limit: string): boolean {
    this.#refused(kind, text, limit, status)
    this.sendReset(stream, ErrorCode.RefusedStream, whole ? 0 : this.firstReceiveWindow)
    return this.#spend(Spent.Refusal)
  }

  #refused(kind: ProxyError['kind'], text: string, limit: string, status: number): void {
    this.host.onRefused(this, new ProxyError(kind, 'downstream', text, { status, limit }))
  }

  // ---- bodies

  onDataHead(_flags: number, stream: number, length: number): boolean {
    if (!this.#sawSettings) return this.#fail('the first frame is not SETTINGS')
    if ((this.#receiveWindow -= length) < 0) return this.#fail('more than the window of the connection', ErrorCode.FlowControlError)
    this.#dataLength = this.#dataLeft = length
    this.#dataSession = null
    const session = this.#streams.get(stream)
    if (session === undefined) return this.#dataBehindEnd(stream, length)
    if (session.remoteEnded) session.breaks(ErrorCode.StreamClosed, 'DATA behind the end of the stream')
    // An empty frame needs no window, and one that was made smaller may be below nothing.
    else if ((session.receiveWindow -= length) < 0 && length > 0) {
      session.breaks(ErrorCode.FlowControlError, 'more than the window of the stream')
    }
    if (!session.closed) this.#dataSession = session
    return this.#state < State.Linger
  }

  #dataBehindEnd(stream: number, length: number): boolean {
    if (stream > this.#lastStream || (stream & 1) === 0) {
      return this.#state >= State.Left && (stream & 1) === 1 ? true : this.#fail('DATA on a stream that is not open')
    }
    const how = this.#howOver(stream)
    if (how > 0) {
      // A body in small frames may have many on their way when it is refused, but no more bytes than its window had room for.
      if (length === 0) return this.#glitch()
      this.#payloadBytes += length
      if ((this.#stragglerBytes -= length) >= 0) return true
      return this.#fail('more than the windows of streams that were reset', ErrorCode.FlowControlError)
    }
    this.sendReset(stream, ErrorCode.StreamClosed, 0)
    return this.countReset()
  }

  onData(_stream: number, payload: Buffer, from: number, to: number): void {
    const session = this.#dataSession, bytes = to - from
    this.#dataLeft -= bytes
    if (session !== null) this.#payloadBytes += bytes
    this.used(session === null || session.closed ? bytes : session.onData(payload, from, to))
  }

  onDataEnd(flags: number, _stream: number): boolean {
    const session = this.#dataSession, padding = this.#dataLeft
    this.#dataSession = null
    if (padding > 0) this.used(session === null ? padding : session.credit(padding))
    if (session === null || session.closed) return this.#state < State.Linger
    if ((flags & Flag.EndStream) !== 0) session.onEnd(null)
    else if (padding === this.#dataLength) return this.#spend(Spent.EmptyData)
    return this.#state < State.Linger
  }

  /** So many bytes of bodies are with those who want them, or wanted by none: the client may send as many again. */
  used(bytes: number): void {
    if ((this.#unreported += bytes) < this.options.http2.connectionWindowBytes / 2 || this.#state >= State.Linger) return
    this.#receiveWindow += this.#unreported
    this.sender.windowUpdate(0, this.#unreported)
    this.#unreported = 0
  }

  // ---- control

  #windowUpdate(stream: number, bytes: number): boolean {
    const { maxWindowUpdates } = this.options.http2
    if (++this.#windowUpdates > maxWindowUpdates + UPDATES_A_STREAM * this.requests + UPDATES_A_FRAME * this.sender.dataFrames) {
      return this.#calm('window-updates', 'too many WINDOW_UPDATE frames')
    }
    if (stream === 0) {
      if (bytes === 0) return this.#fail('WINDOW_UPDATE of nothing')
      if ((this.sender.sendWindow += bytes) > MAX_WINDOW) {
        return this.#fail('the window of the connection is too large', ErrorCode.FlowControlError)
      }
      this.sender.goOn()
      return true
    }
    const session = this.#streams.get(stream)
    if (session === undefined) {
      // Of a stream that is over they are on their way as a rule, and counted already.
      return !this.#isIdle(stream) || this.#fail('WINDOW_UPDATE on a stream that is not open')
    }
    if (bytes === 0) session.breaks(ErrorCode.ProtocolError, 'WINDOW_UPDATE of nothing')
    else if (!session.openWindow(bytes, MAX_WINDOW)) session.breaks(ErrorCode.FlowControlError, 'the window of a stream is too large')
    return this.#state < State.Linger
  }

  #isIdle(stream: number): boolean { return ((stream & 1) === 0 || stream > this.#lastStream) && this.#state < State.Left }

  #rstStream(stream: number, code: number): boolean {
    const session = this.#streams.get(stream)
    if (session === undefined) {
      if (this.#isIdle(stream)) return this.#fail('RST_STREAM on a stream that is not open')
      return this.#glitch()
    }
    // Also of an answer that is whole here and still waits to be sent.
    const isEarly = !session.localEnded
    session.onReset(code)
    return isEarly ? this.countReset() : this.#state < State.Linger
  }

  #readSettings(flags: number, payload: Buffer, from: number, to: number): boolean {
    if ((flags & Flag.Ack) !== 0) {
      if (this.#settingsDeadline === NEVER) return this.#glitch()
      this.#settingsDeadline = NEVER
      const less = this.firstReceiveWindow
      this.firstReceiveWindow = this.options.http2.streamWindowBytes
      if (less > this.firstReceiveWindow) {
        for (const session of this.#streams.all()) session.receiveWindow -= less - this.firstReceiveWindow
      }
      return true
    }
    if (!this.#spend(Spent.Settings)) return false
    if (to - from > this.options.http2.maxSettingsEntries * 6) return this.#calm('settings-entries', 'SETTINGS with too many entries')
    for (let at = from; at < to; at += 6) {
      const value = readUint32(payload, at + 2)
      switch ((payload[at]! << 8) | payload[at + 1]!) {
        case Setting.HeaderTableSize: this.heads.limitTable(value); break
        case Setting.EnablePush: case Setting.EnableConnectProtocol:
          if (value > 1) return this.#fail('a setting that is 0 or 1 is neither')
          break
        case Setting.InitialWindowSize:
          if (value > MAX_WINDOW) return this.#fail('a window is too large', ErrorCode.FlowControlError)
          if (!this.#moveWindows(value - this.sender.firstStreamWindow)) {
            return this.#fail('a window is too large', ErrorCode.FlowControlError)
          }
          this.sender.firstStreamWindow = value
          break
        case Setting.MaxFrameSize:
          if (value < MIN_MAX_FRAME_BYTES || value > MAX_MAX_FRAME_BYTES) return this.#fail('SETTINGS_MAX_FRAME_SIZE is out of range')
          // Larger frames than the smallest would only let one stream hold up the others for longer.
          break
      }
    }
    this.sender.send(FrameType.Settings, Flag.Ack, 0, NO_BYTES)
    return this.#countControl()
  }

  #moveWindows(by: number): boolean {
    for (const session of this.#streams.all()) if (!session.openWindow(by, MAX_WINDOW)) return false
    return true
  }

  #ping(flags: number, payload: Buffer, from: number, to: number): boolean {
    if ((flags & Flag.Ack) !== 0) {
      if (this.#state !== State.Leaving || LEAVING_PING.compare(payload, from, to) !== 0) return this.#glitch()
      this.#leave()
      return true
    }
    const { dataFrames } = this.sender
    // Who measures how fast bodies come asks between any two frames of them.
    if (dataFrames === this.#probedAt && !this.#spend(Spent.Ping)) return false
    this.#probedAt = dataFrames
    this.sender.send(FrameType.Ping, Flag.Ack, 0, payload, from, to)
    return this.#countControl()
  }

  onStreamError(stream: number, code: ErrorCode, text: string): boolean {
    const session = this.#streams.get(stream)
    if (session !== undefined) session.breaks(code, text)
    else if (this.#isIdle(stream)) return this.#fail(text, code)
    return this.#glitch()
  }

  onConnectionError(code: ErrorCode, text: string): void { this.#break(code, text, 'bad-framing') }

  // ---- budgets

  /** Returns whether the connection goes on. */
  #spend(kind: Spent): boolean {
    const budgets = this.#budgets
    if (budgets.take(kind, this.#now)) return this.#state < State.Linger
    return this.#state < State.Linger && this.#calm(budgets.limitOf(kind), budgets.textOf(kind))
  }

  /** A client that goes on with it shall not be cut within its requests: before it is, it may leave. */
  #glitch(): boolean {
    const goesOn = this.#spend(Spent.Glitch)
    if (goesOn && this.#budgets.isLow(Spent.Glitch)) this.drain()
    return goesOn
  }

  /** A stream ended with RST_STREAM, for what the client did. Returns whether the connection goes on. */
  countReset(): boolean { return this.#spend(Spent.Reset) }

  /** A stream was served to its end. */
  served(): void { this.#budgets.served() }

  #countControl(): boolean {
    if (!this.sender.blocked || ++this.#controlQueued <= this.options.http2.maxQueuedControlFrames) return true
    this.#refused('BAD_FRAMING', 'the client asks and never reads', 'queued-control-frames', 400)
    this.destroy()
    return false
  }

  #fail(text: string, code: ErrorCode = ErrorCode.ProtocolError): false {
    this.#break(code, text, 'bad-framing')
    return false
  }

  #calm(limit: string, text: string): false {
    this.#break(ErrorCode.EnhanceYourCalm, text, limit)
    return false
  }

  /** The connection cannot go on: the client is told why, and nothing more of it is read. */
  #break(code: ErrorCode, text: string, limit: string, kind: 'BAD_FRAMING' | 'HEAD_TIMEOUT' | 'READ_TIMEOUT' = 'BAD_FRAMING'): void {
    if (this.#state >= State.Linger) return
    this.#state = State.Broken
    this.#reader.stop()
    this.#dropHeld()
    this.#refused(kind, text, limit, kind === 'BAD_FRAMING' ? 400 : 408)
    this.sender.goAway(this.#lastStream, code)
    this.#endAll(new ProxyError(kind, 'downstream', text, { limit }))
    this.#deadline = this.#now + FAREWELL_MS
    this.sender.finish()
    this.acceptedBy?.onUnfinished(this)
  }

  #endAll(error: ProxyError): void {
    for (const session of new Set([...this.#streams.all(), ...this.#sessions.all()])) session.connectionLost(error)
  }

  // ---- frames that are sent

  /** @param mayCome bytes that the client may have sent by now, or sends before it hears of this */
  sendReset(stream: number, code: ErrorCode, mayCome: number): void {
    if (this.#state >= State.Broken) return
    this.#remember(stream, true)
    this.#stragglerBytes += mayCome
    this.sender.reset(stream, code)
    this.#countControl()
  }

  onTurnSent(): void {
    if (this.sender.stuffed && !this.#stuffed) {
      // Who does not take answers is given no more of them to queue.
      this.#stuffed = true
      this.stream.pause()
    }
    if (!this.#reading) this.#look()
  }

  onDrained(): void {
    this.#controlQueued = 0
    this.#progress.drained()
    if (this.#state >= State.Linger) return
    this.sender.drained()
    if (!this.#stuffed || this.sender.blocked) return
    this.#stuffed = false
    this.#renewDeadlines()
    this.#readOn()
  }

  // ---- streams that end

  /** A stream is gone from the wire. */
  forget(session: Http2ServerSession): void {
    if (!this.#streams.delete(session.id)) return
    if (session.listPlace !== -1) this.#offWire++
    this.#remember(session.id, false)
    if (!this.#reading) this.#look()
  }

  released(session: Http2ServerSession): void {
    if (!this.#sessions.delete(session)) return
    this.active--
    this.#heldHeadBytes -= session.headBytes
    if (!this.#streams.has(session.id)) this.#offWire--
    if (!this.#reading) this.#look()
  }

  #remember(stream: number, reset: boolean): void {
    const over = this.#over ??= new Int32Array(REMEMBERED)
    if (!reset && Math.abs(over[(this.#overAt + REMEMBERED - 1) % REMEMBERED]!) === stream) return
    over[this.#overAt] = reset ? stream : -stream
    this.#overAt = (this.#overAt + 1) % REMEMBERED
  }

  /** Above 0: this side reset it; below: it ended otherwise; 0: it was never open, or is long over. */
  #howOver(stream: number): number {
    const over = this.#over
    if (over === null) return 0
    if (over.includes(stream)) return 1
    return over.includes(-stream) ? -1 : 0
  }

  // ---- ending

  /** Behind whatever changed: idle, or at its end. */
  #look(): void {
    const state = this.#state
    if (state >= State.Linger) return
    if (this.active > 0 || this.#streams.size > 0) return
    if (state === State.Left) this.#linger()
    else if (this.idle) {
      this.#idleSince = this.#now
      this.acceptedBy?.onIdle(this)
    } else this.acceptedBy?.onUnfinished(this)
  }

  closeIdle(): void {
    if (!this.idle) return
    if (this.#state !== State.Preface) this.#leave()
    this.#linger()
  }

  /** The first GOAWAY: what is on its way is still taken (RFC 9113 6.8). */
  drain(): void {
    if (this.#state === State.Preface) return
    if (this.#state !== State.Open) return
    this.#state = State.Leaving
    this.#deadline = this.#now + this.options.http2.goawayGraceMs
    this.sender.goAway(MAX_STREAM_ID, ErrorCode.NoError)
    this.sender.send(FrameType.Ping, 0, 0, LEAVING_PING)
  }

  /** The second one: what comes from now on is not. */
  #leave(): void {
    if (this.#state >= State.Left) return
    this.#state = State.Left
    this.sender.goAway(this.#lastStream, ErrorCode.NoError)
    if (!this.#reading) this.#look()
  }

  cut(error: ProxyError): void { for (const session of this.#sessions.all()) session.fault(error) }

  destroy(): void { this.stream.destroy(true) }

  /** FIN behind all that is to be sent, then the client's. */
  #linger(): void {
    if (this.#state >= State.Linger) return
    this.#state = State.Linger
    this.#reader.stop()
    this.#dropHeld()
    this.#deadline = this.#now + LINGER_MS
    this.sender.finish()
    this.acceptedBy?.onUnfinished(this)
  }

  /** No window would ever open again: it is the client's farewell. */
  onEnd(): void {
    if (this.#state < State.Linger) {
      this.#endAll(new ProxyError('CLIENT_GONE', 'downstream', 'the client closed the connection'))
      this.#state = State.Linger
      this.#reader.stop()
      this.#dropHeld()
    }
    this.sender.finish()
    if (this.stream.bytesQueued === 0 && this.stream.digest.tls === null) this.stream.destroy()
    this.#deadline = this.#now + FAREWELL_MS
  }

  onClosed(error: Error | null): void {
    this.ticker.remove(this)
    if (this.#state === State.Closed) return
    this.#state = State.Closed
    this.#reader.stop()
    this.#dropHeld()
    this.sender.drop()
    const cause = error ?? undefined
    this.#endAll(new ProxyError('CLIENT_GONE', 'downstream', 'the client closed the connection', { cause }))
    this.acceptedBy?.onClosed(this)
  }

  // ---- time

  onTick(now: number): void {
    if (this.#streams.size === 0) this.#streams.trim()
    else for (const session of this.#streams.all()) if (!session.closed) session.onTick(now)
    const { http2, headTimeoutMs, sendTimeoutMs, minSendBytesPerSecond } = this.options
    if (this.#progress.check(now, sendTimeoutMs, minSendBytesPerSecond) !== '') {
      this.destroy()
      return
    }
    if (this.#isWindowHeld(now)) return
    switch (this.#state) {
      case State.Preface:
        // Nothing came that could be answered.
        if (now >= this.#deadline) this.destroy()
        return
      case State.Leaving:
        if (now >= this.#deadline) this.#leave()
        break
      case State.Linger:
        // Who does not take the last of an answer has the limits of a slow reader; who has it is only waited for.
        if (this.stream.bytesQueued > 0) this.#deadline = now + LINGER_MS
        else if (now >= this.#deadline) this.stream.destroy()
        return
      case State.Broken:
        if (now >= this.#deadline) this.stream.destroy(this.stream.bytesQueued > 0)
        return
      case State.Closed: return
    }
    // What is not read cannot be late.
    if (this.#stuffed) return
    if (now >= this.#settingsDeadline) this.#break(ErrorCode.SettingsTimeout, 'SETTINGS were not acknowledged', 'settings-ack-timeout')
    else if (now >= this.#blockDeadline || (now >= this.#partDeadline && !this.#reader.withinData)) {
      this.#break(ErrorCode.EnhanceYourCalm, `no complete head within ${headTimeoutMs} ms`, 'head-timeout', 'HEAD_TIMEOUT')
    } else if (now >= this.#partDeadline && this.#partIsTimed) {
      this.#break(ErrorCode.EnhanceYourCalm, 'a DATA frame does not come to its end', 'body-idle-timeout', 'READ_TIMEOUT')
    } else if (!this.#sawSettings && now >= this.#deadline) this.#fail('no SETTINGS came')
    else if (this.active === 0 && this.#streams.size === 0 && now - this.#idleSince >= http2.idleTimeoutMs) {
      this.#leave()
      this.#linger()
    } else if (now >= this.#maxAgeAt) this.drain()
  }

  /** Answers wait for the window of the connection alone, and it opens too slowly: the connection ends. */
  #isWindowHeld(now: number): boolean {
    if (!this.sender.windowShut || this.#state >= State.Linger) return false
    const { sendTimeoutMs, minSendBytesPerSecond } = this.options
    this.#windowProgress ??= new SendProgress(new WindowSide(this.sender), now)
    const stalled = this.#windowProgress.check(now, sendTimeoutMs, minSendBytesPerSecond)
    return stalled !== '' && !this.#calm(stalled, 'the client does not take the answers')
  }
}

/** Bodies of all streams, as far as the window of the connection lets them go. */
class WindowSide {
  readonly #sender: FrameSender
  constructor(sender: FrameSender) { this.#sender = sender }
  get bytesQueued(): number { return this.#sender.windowShut ? 1 : 0 }
  get bytesTaken(): number { return this.#sender.dataBytes }
}

/** What a head was refused for, by the status that says so. */
function kindOfStatus(status: number): ProxyError['kind'] {
  switch (status) {
    case 417: return 'EXPECTATION_FAILED'
    case 405: return 'METHOD_NOT_ALLOWED'
    case 501: return 'NOT_IMPLEMENTED'
    case 414: return 'URI_TOO_LONG'
    case 431: return 'HEAD_TOO_LARGE'
    default: return 'BAD_HEAD'
  }
}
