/**
 * Cuts what arrives on a connection into frames (RFC 9113 4, 6), wherever a read ends, and holds every rule that a frame can
 * break by itself: its length, its stream, its padding, and that nothing comes between the parts of a header block (6.10).
 *
 *   Head ──9 bytes──▶ Payload ──all of it──▶ Head         most frames: handed on whole, copied only where a read ended in them
 *     └── DATA ──▶ [PadLength] ─▶ Data ─▶ [Padding] ─▶ Head   its bytes are handed on as they come, and never copied
 *
 * A frame that breaks a rule for its stream alone is handed to the sink as that, and passed over; one that breaks a rule for the
 * connection ends the reading. Types that nobody knows are passed over (5.5), here, without their payload being kept.
 */
import { ErrorCode } from './error-code.ts'
import { Flag, FRAME_HEAD_BYTES, FrameType, MAX_STREAM_ID, readUint32 } from './frames.ts'

export interface FrameSink {
  /**
   * A frame with its payload, which is borrowed: HEADERS without padding and priority, everything else as it came.
   * @returns false: nothing more is read
   */
  onFrame(type: number, flags: number, stream: number, payload: Buffer, from: number, to: number): boolean
  /** DATA begins. @param length of its payload, padding included: so much of the windows is used. @returns false: nothing more is read */
  onDataHead(flags: number, stream: number, length: number): boolean
  /** Some of its bytes, borrowed. */
  onData(stream: number, payload: Buffer, from: number, to: number): void
  /** Behind the last of them, and behind padding. @param flags as they came */
  onDataEnd(flags: number, stream: number): boolean
  /** A frame that breaks a rule for its stream. It is passed over. @returns false: nothing more is read */
  onStreamError(stream: number, code: ErrorCode, text: string): boolean
  /** A frame that breaks a rule for the connection. Nothing more is read. */
  onConnectionError(code: ErrorCode, text: string): void
  /** A frame of a type that nobody knows. @returns false: nothing more is read */
  onUnknown(type: number): boolean
}

const State = { Head: 0, Payload: 1, Skip: 2, PadLength: 3, Data: 4, Padding: 5, Stopped: 6 } as const
type State = (typeof State)[keyof typeof State]

export class FrameReader {
  readonly #sink: FrameSink
  readonly #maxBytes: number
  #state: State = State.Head
  readonly #head = Buffer.alloc(FRAME_HEAD_BYTES)
  #headBytes = 0
  #length = 0
  #type = 0
  #flags = 0
  #stream = 0
  /** Of the payload, or of the part of it that the state is about, still to come. */
  #left = 0
  #padding = 0
  /** A payload of which a part came. */
  #held: Buffer | null = null
  #heldBytes = 0
  /** Of the header block under way; 0: none is. */
  #blockStream = 0
  #pausing = false
  /** That have begun. */
  frames = 0

  /** @param maxBytes of a payload, as SETTINGS_MAX_FRAME_SIZE of this side says it */
  constructor(sink: FrameSink, maxBytes: number) {
    this.#sink = sink
    this.#maxBytes = maxBytes
  }

  /** A frame, or a header block, is under way. */
  get within(): boolean { return this.#state !== State.Head || this.#headBytes > 0 || this.#blockStream !== 0 }
  get withinBlock(): boolean { return this.#blockStream !== 0 }
  /** A part of a frame came. */
  get withinFrame(): boolean { return this.#headBytes > 0 || (this.#state !== State.Head && this.#state !== State.Stopped) }
  /** It is one of DATA. */
  get withinData(): boolean { return this.#state === State.PadLength || this.#state === State.Data || this.#state === State.Padding }
  get heldBytes(): number { return this.#held === null ? 0 : this.#held.length }

  stop(): void {
    this.#state = State.Stopped
    this.#held = null
  }

  /** Within a call of the sink: `push` returns behind this frame. */
  pause(): void { this.#pausing = true }

  /** Reads frames out of [from, to). Returns how far it got: `to`, or less when it was paused. */
  push(buffer: Buffer, from: number, to: number): number {
    this.#pausing = false
    let at = from
    while (at < to || (this.#left === 0 && this.#state !== State.Head && this.#state !== State.Stopped)) {
      switch (this.#state) {
        case State.Head: {
          if (this.#headBytes === 0 && to - at >= FRAME_HEAD_BYTES) {
            this.#readHead(buffer, at)
            at += FRAME_HEAD_BYTES
          } else {
            const part = Math.min(FRAME_HEAD_BYTES - this.#headBytes, to - at)
            buffer.copy(this.#head, this.#headBytes, at, at + part)
            at += part
            if ((this.#headBytes += part) < FRAME_HEAD_BYTES) return at
            this.#headBytes = 0
            this.#readHead(this.#head, 0)
          }
          if (!this.#begin()) this.stop()
          break
        }
        case State.Payload: {
          const held = this.#held, part = Math.min(this.#left, to - at)
          if (held === null && part === this.#left) {
            this.#state = State.Head
            this.#left = 0
            if (!this.#whole(buffer, at, at + part)) this.stop()
          } else {
            const into = held ?? (this.#held = Buffer.allocUnsafe(this.#length))
            buffer.copy(into, this.#heldBytes, at, at + part)
            this.#heldBytes += part
            if ((this.#left -= part) === 0) {
              this.#state = State.Head
              this.#held = null
              this.#heldBytes = 0
              if (!this.#whole(into, 0, into.length)) this.stop()
            }
          }
          at += part
          break
        }
        case State.PadLength:
          if (at === to) return at
          this.#padding = buffer[at++]!
          if (this.#padding >= this.#length) {
            this.#fail('padding is longer than its frame')
            break
          }
          this.#left = this.#length - 1 - this.#padding
          this.#state = State.Data
          break
        case State.Data: {
          const part = Math.min(this.#left, to - at)
          if (part > 0) {
            // Before the call: it may end the connection.
            this.#left -= part
            this.#sink.onData(this.#stream, buffer, at, at + part)
            at += part
          }
          if (this.#left > 0 || (this.#state as State) !== State.Data) break
          this.#left = this.#padding
          this.#state = State.Padding
          break
        }
        case State.Padding: {
          const part = Math.min(this.#left, to - at)
          at += part
          if ((this.#left -= part) > 0) break
          this.#state = State.Head
          if (!this.#sink.onDataEnd(this.#flags, this.#stream)) this.stop()
          break
        }
        case State.Skip: {
          const part = Math.min(this.#left, to - at)
          at += part
          if ((this.#left -= part) === 0) this.#state = State.Head
          break
        }
        default: return to
      }
      if (this.#pausing && this.#state === State.Head) return at
    }
    return at
  }

  #readHead(bytes: Buffer, at: number): void {
    this.#length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!
    this.#type = bytes[at + 3]!
    this.#flags = bytes[at + 4]!
    this.#stream = readUint32(bytes, at + 5) & 0x7fff_ffff
  }

  /** Behind a frame's head. Returns false: nothing more is read. */
  #begin(): boolean {
    this.frames++
    const type = this.#type, length = this.#length, stream = this.#stream
    if (length > this.#maxBytes) return this.#fail('a frame is longer than allowed', ErrorCode.FrameSizeError)
    if (this.#blockStream !== 0 && (type !== FrameType.Continuation || stream !== this.#blockStream)) {
      return this.#fail('a header block was interrupted')
    }
    this.#left = length
    this.#state = State.Payload
    switch (type) {
      case FrameType.Data:
        if (stream === 0) return this.#fail('DATA on stream 0')
        this.#padding = 0
        if ((this.#flags & Flag.Padded) === 0) this.#state = State.Data
        else {
          if (length === 0) return this.#fail('a padded frame without room for its padding', ErrorCode.FrameSizeError)
          this.#state = State.PadLength
        }
        return this.#sink.onDataHead(this.#flags, stream, length)
      case FrameType.Headers:
        if (stream === 0) return this.#fail('HEADERS on stream 0')
        break
      case FrameType.Priority:
        if (stream === 0) return this.#fail('PRIORITY on stream 0')
        if (length !== 5) return this.#skip(stream, ErrorCode.FrameSizeError, 'PRIORITY is not of 5 bytes')
        break
      case FrameType.RstStream:
        if (stream === 0) return this.#fail('RST_STREAM on stream 0')
        if (length !== 4) return this.#fail('RST_STREAM is not of 4 bytes', ErrorCode.FrameSizeError)
        break
      case FrameType.Settings:
        if (stream !== 0) return this.#fail('SETTINGS on a stream')
        if (length % 6 !== 0 || ((this.#flags & Flag.Ack) !== 0 && length !== 0)) {
          return this.#fail('SETTINGS of a wrong length', ErrorCode.FrameSizeError)
        }
        break
      case FrameType.Ping:
        if (stream !== 0) return this.#fail('PING on a stream')
        if (length !== 8) return this.#fail('PING is not of 8 bytes', ErrorCode.FrameSizeError)
        break
      case FrameType.GoAway:
        if (stream !== 0) return this.#fail('GOAWAY on a stream')
        if (length < 8) return this.#fail('GOAWAY is too short', ErrorCode.FrameSizeError)
        break
      case FrameType.WindowUpdate:
        if (length !== 4) return this.#fail('WINDOW_UPDATE is not of 4 bytes', ErrorCode.FrameSizeError)
        break
      case FrameType.Continuation:
        if (this.#blockStream === 0) return this.#fail('CONTINUATION without HEADERS')
        break
      case FrameType.PushPromise: break
      default:
        this.#state = length === 0 ? State.Head : State.Skip
        return this.#sink.onUnknown(type)
    }
    return true
  }

  #fail(text: string, code: ErrorCode = ErrorCode.ProtocolError): false {
    this.stop()
    this.#sink.onConnectionError(code, text)
    return false
  }

  #skip(stream: number, code: ErrorCode, text: string): boolean {
    this.#state = this.#left === 0 ? State.Head : State.Skip
    return this.#sink.onStreamError(stream, code, text)
  }

  #whole(payload: Buffer, from: number, to: number): boolean {
    const type = this.#type, flags = this.#flags, stream = this.#stream
    switch (type) {
      case FrameType.Headers: {
        let start = from, end = to, all = flags
        if ((flags & Flag.Padded) !== 0) {
          const padding = from === to ? -1 : payload[start++]!
          end -= padding
          if (padding === -1 || end < start) return this.#fail('padding is longer than its frame')
        }
        if ((flags & Flag.Priority) !== 0) {
          if (end - start < 5) return this.#fail('HEADERS without room for its priority', ErrorCode.FrameSizeError)
          if ((readUint32(payload, start) & MAX_STREAM_ID) === stream) all |= Flag.SelfDependent
          start += 5
        }
        if ((flags & Flag.EndHeaders) === 0) this.#blockStream = stream
        return this.#sink.onFrame(type, all, stream, payload, start, end)
      }
      case FrameType.Continuation:
        if ((flags & Flag.EndHeaders) !== 0) this.#blockStream = 0
        break
    }
    return this.#sink.onFrame(type, flags, stream, payload, from, to)
  }
}

