/**
 * A connection to an origin in HTTP/2, and the exchanges on it (RFC 9113).
 *
 *   Open ──GOAWAY, no more numbers, a transport that is stuck──▶ Leaving ──no exchange──▶ closed by the pool
 *     ▲ └── park ──▶ Parked ──closed, idle, a broken rule──▶ Closed
 *     └── unpark ──────┘
 *
 * How many exchanges it takes is what both sides allow. Frames are cut by frame-reader.ts and sent by frame-sender.ts; a stream is
 * client-session.ts. An origin that is silent for longer than an exchange waits is sent a PING: one that does not answer is gone,
 * with everything that waits for it, and one that does keeps the others.
 * Its exchanges are those of many clients, so what has come opens the window of the connection again at once, and only the window of a
 * stream waits for its reader: clients that do not read would keep that window for themselves, and shut it for all others. What they can
 * have held back here is the windows of their streams.
 */
import type { ErrorKind } from '../../errors/proxy-error.ts'
import { IdTable, MemberList } from '../../primitives/churning.ts'
import type { Ticker, Timed } from '../../primitives/clock.ts'
import type { ByteStream, StreamDigest, StreamOwner } from '../byte-stream.ts'
import type { ConnectionKeeper, ExchangeLimits, ParkedLoss, UpstreamConnection } from '../http-connection.ts'
import type { UpstreamOwner } from '../http-session.ts'
import { BlockParts } from './block-parts.ts'
import { Budget } from './budget.ts'
import { Http2ClientSession } from './client-session.ts'
import { ErrorCode } from './error-code.ts'
import { FrameReader, type FrameSink } from './frame-reader.ts'
import { FrameSender } from './frame-sender.ts'
import {
  FIRST_WINDOW, Flag, FrameType, MAX_MAX_FRAME_BYTES, MAX_STREAM_ID, MAX_WINDOW, MIN_MAX_FRAME_BYTES, PREFACE, readUint32, Setting,
} from './frames.ts'
import { HpackDecoder } from './hpack-decoder.ts'
import { RecentLiterals } from './recent-literals.ts'
import { ReceivedFields, type FieldLimits } from './received-fields.ts'
import { RequestHeads } from './request-heads.ts'

/** What a peer says of HTTP/2 (peer/peer-options.ts). */
export interface Http2ClientOptions {
  readonly maxH2Streams: number
  readonly h2StreamWindowBytes: number
  readonly h2ConnectionWindowBytes: number
  readonly h2PingIntervalMs: number
  readonly h2PingTimeoutMs: number
}

const State = { Open: 0, Parked: 1, Leaving: 2, Closed: 3 } as const
type State = (typeof State)[keyof typeof State]

const NEVER = Number.POSITIVE_INFINITY
const NO_BYTES = Buffer.alloc(0)

/** Of a header block: origins send long heads, but none that long. */
const MAX_BLOCK_BYTES = 262_144
const MAX_CONTINUATIONS = 32
/** Frames that make no progress, in a burst and a second: an origin is trusted more than a client. */
const MAX_IDLE_FRAMES = 2000, IDLE_FRAMES_PER_SECOND = 200
/** Each exchange may bring some besides: RST_STREAM behind its answer, WINDOW_UPDATE that crossed its end. */
const IDLE_FRAMES_AN_EXCHANGE = 4
/** Answers to frames of an origin that takes none of them. */
const MAX_QUEUED_CONTROL_FRAMES = 1000
const PING = Buffer.from('\x01\x00cirque', 'latin1')

/** For heads that nobody waits for: they are decoded all the same. */
const UNWANTED: FieldLimits = { maxHeadBytes: 0, maxHeaderLineBytes: 0, maxHeaderCount: 0, maxHeaderListBytes: 0, maxCookieCrumbs: 0 }

/** Heads are read one after the other: one serves all. */
const fields = new ReceivedFields()

export class Http2ClientConnection implements UpstreamConnection, StreamOwner, FrameSink, Timed {
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
  readonly protocol = 'h2'
  readonly shared = true
  readonly originIdleMs = 0
  exchanges = 0
  readonly stream: ByteStream
  readonly ticker: Ticker
  readonly options: Http2ClientOptions
  readonly scheme: string
  readonly heads = new RequestHeads(4096)
  readonly sender: FrameSender
  readonly #reader: FrameReader
  readonly #decoder = new HpackDecoder(4096, new RecentLiterals())
  /** Under way, those that wait for their head and those that became tunnels included. */
  readonly #sessions = new MemberList<Http2ClientSession>()
  /** On the wire. */
  readonly #streams = new IdTable<Http2ClientSession>()
  #state: State = State.Open
  #sawSettings = false
  /** What the origin allows: nothing is said of it until SETTINGS come. */
  #originStreams: number
  #takesSwitches = false
  /** Requests to switch that wait for SETTINGS (RFC 8441 3). */
  #undecided: Http2ClientSession[] = []
  #nextId = 1
  #idleUntil = NEVER
  /** Bytes that came, and for which the window of the connection was not opened yet. */
  #unreported = 0
  readonly #block = new BlockParts()
  #dataSession: Http2ClientSession | null = null
  #dataLength = 0
  #dataLeft = 0
  /** Of bodies on streams that this side reset: what their windows still let come. */
  #stragglerBytes = 0
  #controlQueued = 0
  #pingAt: number
  #pingDeadline = NEVER
  #idleFrames: Budget | null = null
  /** DATA frames that were sent before the last PING came. */
  #probedAt = 0

  /** @param secure the origin itself speaks TLS */
  constructor(stream: ByteStream, ticker: Ticker, options: Http2ClientOptions, secure: boolean) {
    this.stream = stream
    this.ticker = ticker
    this.options = options
    this.scheme = secure ? 'https' : 'http'
    this.sender = new FrameSender(stream, this)
    this.#reader = new FrameReader(this, MIN_MAX_FRAME_BYTES)
    this.#originStreams = options.maxH2Streams
    this.#pingAt = options.h2PingIntervalMs === 0 ? NEVER : ticker.clock.now() + options.h2PingIntervalMs
    stream.owner = this
    ticker.add(this)
    this.sender.writes.reserve(PREFACE.length)
    this.sender.writes.length += PREFACE.copy(this.sender.writes.bytes, 0)
    this.sender.settings([
      [Setting.EnablePush, 0], [Setting.InitialWindowSize, options.h2StreamWindowBytes], [Setting.NoRfc7540Priorities, 1],
    ])
    const more = options.h2ConnectionWindowBytes - FIRST_WINDOW
    if (more > 0) this.sender.windowUpdate(0, more)
  }

  get digest(): StreamDigest { return this.stream.digest }
  get active(): number { return this.#sessions.size }
  get capacity(): number {
    if (this.#state !== State.Open || this.stream.destroyed) return 0
    return Math.max(0, Math.min(this.options.maxH2Streams, this.#originStreams) - this.#sessions.size)
  }
  /** Whether it takes extended CONNECT; null: its SETTINGS have not come. */
  get takesSwitches(): boolean | null { return this.#sawSettings ? this.#takesSwitches : null }

  // ---- exchanges

  begin(owner: UpstreamOwner, limits: ExchangeLimits): Http2ClientSession {
    const session = new Http2ClientSession(this, owner, limits, ++this.exchanges > 1)
    this.#sessions.add(session)
    return session
  }

  /** The session gets its number. */
  open(session: Http2ClientSession): void {
    session.id = this.#nextId
    session.sendWindow = this.sender.firstStreamWindow
    this.#nextId += 2
    this.#streams.add(session)
    if (this.#nextId > MAX_STREAM_ID) this.#leave()
  }

  forget(session: Http2ClientSession): void { this.#streams.delete(session.id) }
  over(session: Http2ClientSession): void {
    if (this.#sessions.delete(session)) this.#idleFrames?.give(IDLE_FRAMES_AN_EXCHANGE)
  }

  /** The session hears when SETTINGS have come. */
  awaitSettings(session: Http2ClientSession): void { this.#undecided.push(session) }

  /** @param mayCome bytes that the origin may have sent by now, or sends before it hears of this */
  sendReset(stream: number, code: ErrorCode, mayCome: number): void {
    if (this.#state === State.Closed) return
    this.#stragglerBytes += mayCome
    this.sender.reset(stream, code)
  }

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
    this.sender.goAway(0, ErrorCode.NoError)
    this.#destroy(false)
    this.#faultAll('CLOSED_EARLY', 'the proxy closed the connection within the exchange', null)
  }

  #destroy(reset: boolean): void {
    this.#state = State.Closed
    this.#reader.stop()
    if (reset) this.sender.drop()
    else this.sender.finish()
    this.stream.destroy(reset)
  }

  #lost(reason: ParkedLoss): void {
    this.#destroy(false)
    this.keeper?.onParkedLost(this, reason)
  }

  /** No exchange begins any more; those under way go on. */
  #leave(): void {
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state === State.Open) {
      this.#state = State.Leaving
      this.keeper?.onCapacityChanged(this)
    }
  }

  #faultAll(kind: ErrorKind, text: string, cause: Error | null): void {
    for (const session of this.#sessions.all()) session.connectionLost(kind, text, cause)
  }

  /** An exchange waited too long: is anybody there? */
  doubt(): void {
    if (this.stream.bytesQueued > 0) this.#leave()
    else if (this.#pingDeadline === NEVER) this.#sendPing()
  }

  #sendPing(): void {
    if (this.#state === State.Closed) return
    this.#pingDeadline = this.ticker.clock.now() + this.options.h2PingTimeoutMs
    this.sender.send(FrameType.Ping, 0, 0, PING)
  }

  // ---- what the origin sends

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (this.#state !== State.Closed) this.#reader.push(buffer, from, to)
  }

  onFrame(type: number, flags: number, stream: number, payload: Buffer, from: number, to: number): boolean {
    if (!this.#sawSettings) {
      if (type !== FrameType.Settings || (flags & Flag.Ack) !== 0) return this.#break('the first frame is not SETTINGS')
      this.#sawSettings = true
    }
    switch (type) {
      case FrameType.Headers:
        if ((flags & Flag.EndHeaders) !== 0) return this.#blockDone(flags, stream, payload, from, to)
        this.#block.begin(stream, flags)
        return this.#keepBlock(payload, from, to)
      case FrameType.Continuation: {
        const block = this.#block
        if (++block.frames > MAX_CONTINUATIONS || !this.#keepBlock(payload, from, to)) return this.#break('a header block without end')
        return (flags & Flag.EndHeaders) === 0 || this.#blockDone(block.flags, block.stream, block.take(), 0, block.length)
      }
      case FrameType.Settings: return this.#readSettings(flags, payload, from, to)
      case FrameType.WindowUpdate: return this.#windowUpdate(stream, readUint32(payload, from) & MAX_WINDOW)
      case FrameType.RstStream: {
        const session = this.#streams.get(stream)
        if (session === undefined) return this.#isIdle(stream) ? this.#break('RST_STREAM on a stream that is not open') : this.#idleFrame()
        session.onReset(readUint32(payload, from))
        return this.#goesOn
      }
      case FrameType.Ping:
        if ((flags & Flag.Ack) !== 0) {
          if (this.#pingDeadline === NEVER || PING.compare(payload, from, to) !== 0) return this.#idleFrame()
          this.#pingDeadline = NEVER
          return true
        }
        this.sender.send(FrameType.Ping, Flag.Ack, 0, payload, from, to)
        return this.#countControl() && this.#idleProbe()
      case FrameType.GoAway: {
        const last = readUint32(payload, from) & MAX_STREAM_ID
        this.#leave()
        for (const session of this.#sessions.all()) session.notTaken(last)
        return this.#idleFrame()
      }
      case FrameType.Priority: return this.#idleFrame()
      default: return this.#break('a push that was turned off')
    }
  }

  get #goesOn(): boolean { return this.#state !== State.Closed }
  #isIdle(stream: number): boolean { return (stream & 1) === 0 || stream >= this.#nextId }

  onUnknown(): boolean { return this.#idleFrame() }

  #idleFrame(): boolean {
    const now = this.ticker.clock.now()
    this.#idleFrames ??= new Budget(MAX_IDLE_FRAMES, IDLE_FRAMES_PER_SECOND, now)
    return this.#idleFrames.take(now) ? this.#goesOn : this.#break('too many frames of no use', ErrorCode.EnhanceYourCalm)
  }

  #countControl(): boolean {
    if (!this.sender.blocked) this.#controlQueued = 0
    else if (++this.#controlQueued > MAX_QUEUED_CONTROL_FRAMES) {
      return this.#break('an origin that asks and never reads', ErrorCode.EnhanceYourCalm)
    }
    return this.#goesOn
  }

  /** Who measures how fast bodies come asks between any two frames of them. */
  #idleProbe(): boolean {
    const { dataFrames } = this.sender, isIdle = dataFrames === this.#probedAt
    this.#probedAt = dataFrames
    return isIdle ? this.#idleFrame() : this.#goesOn
  }

  #keepBlock(payload: Buffer, from: number, to: number): boolean {
    return this.#block.add(payload, from, to, MAX_BLOCK_BYTES) ||
      this.#break('a header block that is too long', ErrorCode.EnhanceYourCalm)
  }

  #blockDone(flags: number, stream: number, block: Buffer, from: number, to: number): boolean {
    const session = this.#streams.get(stream) ?? null, whole = (flags & Flag.EndStream) !== 0
    const isTrailers = session !== null && session.headSeen
    fields.begin(session === null ? UNWANTED : session.fieldLimits, isTrailers)
    if (!this.#decoder.decode(block, from, to, fields)) {
      return this.#break('a header block that cannot be decoded', ErrorCode.CompressionError)
    }
    if (session === null) return this.#isIdle(stream) ? this.#break('HEADERS on a stream that is not open') : this.#idleFrame()
    if (session.remoteEnded) session.breaks(ErrorCode.StreamClosed, 'HEADERS behind the end of the stream')
    else if (!isTrailers) session.onHead(fields, whole, to - from)
    else if (!whole || fields.fault !== '' || fields.limit !== '') {
      session.breaks(ErrorCode.ProtocolError, whole ? 'malformed trailers' : 'HEADERS within a body')
    } else {
      const trailers = fields.take()
      session.onEnd(trailers.size === 0 ? null : trailers)
    }
    return this.#goesOn
  }

  onDataHead(_flags: number, stream: number, length: number): boolean {
    if (!this.#sawSettings) return this.#break('the first frame is not SETTINGS')
    this.#dataLength = this.#dataLeft = length
    this.#dataSession = null
    const session = this.#streams.get(stream)
    if (session === undefined) return this.#dataBehindEnd(stream, length)
    if (session.remoteEnded) session.breaks(ErrorCode.StreamClosed, 'DATA behind the end of the stream')
    else if ((session.receiveWindow -= length) < 0) session.breaks(ErrorCode.FlowControlError, 'more than the window of the stream')
    if (!session.closed) this.#dataSession = session
    return this.#goesOn
  }

  #dataBehindEnd(stream: number, length: number): boolean {
    if (this.#isIdle(stream)) return this.#break('DATA on a stream that is not open')
    if (length === 0) return this.#idleFrame()
    if ((this.#stragglerBytes -= length) >= 0) return true
    return this.#break('more than the windows of streams that were reset', ErrorCode.FlowControlError)
  }

  onData(_stream: number, payload: Buffer, from: number, to: number): void {
    const session = this.#dataSession
    this.#dataLeft -= to - from
    if (session !== null && !session.closed) session.onData(payload, from, to)
  }

  onDataEnd(flags: number): boolean {
    const session = this.#dataSession, padding = this.#dataLeft
    this.#dataSession = null
    this.#reopenWindow(this.#dataLength)
    if (padding > 0) session?.credit(padding)
    if (session === null || session.closed) return this.#goesOn
    if ((flags & Flag.EndStream) !== 0) session.onEnd(null)
    else if (padding === this.#dataLength) return this.#idleFrame()
    return this.#goesOn
  }

  /** So many bytes have come: the origin may send as many again, before long. */
  #reopenWindow(bytes: number): void {
    if ((this.#unreported += bytes) < this.options.h2ConnectionWindowBytes / 2 || this.#state === State.Closed) return
    this.sender.windowUpdate(0, this.#unreported)
    this.#unreported = 0
  }

  #windowUpdate(stream: number, bytes: number): boolean {
    if (stream === 0) {
      if (bytes === 0) return this.#break('WINDOW_UPDATE of nothing')
      if ((this.sender.sendWindow += bytes) > MAX_WINDOW) return this.#break('a window is too large', ErrorCode.FlowControlError)
      this.sender.goOn()
      return true
    }
    const session = this.#streams.get(stream)
    if (session === undefined) return this.#isIdle(stream) ? this.#break('WINDOW_UPDATE on a stream that is not open') : this.#idleFrame()
    if (bytes === 0) session.breaks(ErrorCode.ProtocolError, 'WINDOW_UPDATE of nothing')
    else if (!session.openWindow(bytes, MAX_WINDOW)) session.breaks(ErrorCode.FlowControlError, 'the window of a stream is too large')
    return this.#goesOn
  }

  #readSettings(flags: number, payload: Buffer, from: number, to: number): boolean {
    if ((flags & Flag.Ack) !== 0) return this.#idleFrame()
    const streamsBefore = this.#originStreams
    for (let at = from; at < to; at += 6) {
      const value = readUint32(payload, at + 2)
      switch ((payload[at]! << 8) | payload[at + 1]!) {
        case Setting.HeaderTableSize: this.heads.limitTable(value); break
        case Setting.EnablePush:
          if (value !== 0) return this.#break('an origin cannot be pushed to')
          break
        case Setting.MaxConcurrentStreams: this.#originStreams = value; break
        case Setting.InitialWindowSize: {
          const by = value - this.sender.firstStreamWindow
          if (value > MAX_WINDOW) return this.#break('a window is too large', ErrorCode.FlowControlError)
          for (const session of this.#streams.all()) {
            if (!session.openWindow(by, MAX_WINDOW)) return this.#break('a window is too large', ErrorCode.FlowControlError)
          }
          this.sender.firstStreamWindow = value
          break
        }
        case Setting.MaxFrameSize:
          if (value < MIN_MAX_FRAME_BYTES || value > MAX_MAX_FRAME_BYTES) return this.#break('SETTINGS_MAX_FRAME_SIZE is out of range')
          break
        case Setting.EnableConnectProtocol:
          if (value > 1) return this.#break('a setting that is 0 or 1 is neither')
          this.#takesSwitches = value === 1
          break
      }
    }
    this.sender.send(FrameType.Settings, Flag.Ack, 0, NO_BYTES)
    if (this.#originStreams !== streamsBefore && this.#state === State.Open) this.keeper?.onCapacityChanged(this)
    for (const session of this.#undecided.splice(0)) session.settingsCame()
    return this.#countControl() && this.#idleFrame()
  }

  onStreamError(stream: number, code: ErrorCode, text: string): boolean {
    this.#streams.get(stream)?.breaks(code, text)
    return this.#idleFrame()
  }

  onConnectionError(code: ErrorCode, text: string): void { this.#break(text, code) }

  /** The connection cannot go on. */
  #break(text: string, code: ErrorCode = ErrorCode.ProtocolError): false {
    if (this.#state === State.Parked) this.#lost('unexpected-bytes')
    else if (this.#state !== State.Closed) {
      this.sender.goAway(0, code)
      this.#destroy(false)
      this.#faultAll('BAD_FRAMING', text, null)
    }
    return false
  }

  onTurnSent(): void { /* who writes too much sees it by the stream's own queue */ }

  onEnd(): void {
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state !== State.Closed) {
      this.#destroy(false)
      this.#faultAll('CLOSED_EARLY', 'the origin closed the connection', null)
    }
  }

  onDrained(): void { if (this.#state !== State.Closed) this.sender.drained() }

  onClosed(error: Error | null): void {
    this.ticker.remove(this)
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state !== State.Closed) {
      this.#state = State.Closed
      this.#reader.stop()
      this.sender.drop()
      this.#faultAll(error === null ? 'CLOSED_EARLY' : 'CONNECTION_RESET', 'the origin closed the connection', error)
    }
  }

  // ---- time

  onTick(now: number): void {
    if (this.#state === State.Closed) return
    if (now >= this.#pingDeadline) {
      const text = `no answer to PING within ${this.options.h2PingTimeoutMs} ms`
      if (this.#state === State.Parked) this.#lost('closed')
      else {
        this.#destroy(true)
        this.#faultAll('CONNECTION_RESET', text, null)
      }
      return
    }
    if (now >= this.#pingAt) {
      this.#pingAt = now + this.options.h2PingIntervalMs
      if (this.#pingDeadline === NEVER) this.#sendPing()
    }
    if (this.#state === State.Parked) {
      this.#streams.trim()
      if (now >= this.#idleUntil) this.#lost('idle')
    } else for (const session of this.#sessions.all()) session.onTick(now)
  }
}
