/**
 * The sending side of a connection, of either role: frames are joined (joined-writes.ts), heads and control frames at once, bodies as
 * far as the window of the connection and the transport take them. Streams with more stand in line, and each sends a frame in
 * its turn (RFC 9113 5.2): small answers first, which are those of which a frame at most waits. So a page or a message does not wait
 * behind downloads; of every four frames one is a download's all the same.
 *
 * While the transport has not taken what it was given, nothing more is handed to it.
 * Tests: server-connection.test.ts, client-connection.test.ts
 */
import type { ByteStream } from '../byte-stream.ts'
import type { ErrorCode } from './error-code.ts'
import { FIRST_WINDOW, Flag, FrameType, MIN_MAX_FRAME_BYTES, writeUint32 } from './frames.ts'
import { JoinedWrites, joinTurn, JOINED_BYTES, type Joining } from './joined-writes.ts'

/** Writes header blocks of a connection; each is sent before the next is written. */
export interface BlockWriter {
  readonly block: Buffer
  readonly size: number
}

/** A stream that may stand in line. */
export interface LinedStream {
  inLine: boolean
  nextInLine: LinedStream | null
  /** It has something to send, and a window for it. */
  readonly waits: boolean
  /** What waits fits in one frame. */
  readonly brief: boolean
  /** One frame. */
  sendQueued(): void
  tellDrained(): void
}

/** What is joined is written so often in a turn; then others have theirs. */
const ROUNDS_A_TURN = 16

/** Of so many frames in a row one is of a stream with much to send, where there is one. */
const FRAMES_A_LONG_ONE = 4

const SCRATCH = Buffer.alloc(8)

/** Streams in the order in which they came. */
class Line {
  first: LinedStream | null = null
  #last: LinedStream | null = null

  add(stream: LinedStream): void {
    stream.inLine = true
    if (this.#last === null) this.first = stream
    else this.#last.nextInLine = stream
    this.#last = stream
  }

  /** Only where there is one. */
  shift(): LinedStream {
    const stream = this.first!
    this.first = stream.nextInLine
    if (this.first === null) this.#last = null
    stream.nextInLine = null
    stream.inLine = false
    return stream
  }
}

export class FrameSender implements Joining {
  readonly stream: ByteStream
  readonly writes = new JoinedWrites()
  /** Of the connection. */
  sendWindow = FIRST_WINDOW
  /** Of a stream that begins. */
  firstStreamWindow = FIRST_WINDOW
  /** DATA that was sent. */
  dataFrames = 0
  dataBytes = 0
  /** The transport has not taken what it was given. */
  blocked = false
  /** Nothing more is sent. */
  ended = false
  readonly #onTurn: { onTurnSent(): void }
  #dirty = false
  readonly #brief = new Line()
  readonly #long = new Line()
  #sinceLong = 0
  #pumping = false

  /** @param onTurn is told behind what a turn of the event loop had to send */
  constructor(stream: ByteStream, onTurn: { onTurnSent(): void }) {
    this.stream = stream
    this.#onTurn = onTurn
  }

  /** So much waits behind the transport that nothing should be added to it. */
  get stuffed(): boolean { return this.blocked && this.writes.length >= JOINED_BYTES }

  /** Returns where the frame's head is in `writes`. Nothing is sent once it has ended. */
  send(type: number, flags: number, stream: number, payload: Buffer, from = 0, to: number = payload.length): number {
    if (this.ended) return 0
    this.#soon()
    return this.writes.frame(type, flags, stream, payload, from, to)
  }

  windowUpdate(stream: number, bytes: number): void {
    writeUint32(SCRATCH, 0, bytes)
    this.send(FrameType.WindowUpdate, 0, stream, SCRATCH, 0, 4)
  }

  reset(stream: number, code: ErrorCode): void {
    writeUint32(SCRATCH, 0, code)
    this.send(FrameType.RstStream, 0, stream, SCRATCH, 0, 4)
  }

  goAway(last: number, code: ErrorCode): void {
    writeUint32(SCRATCH, 0, last)
    writeUint32(SCRATCH, 4, code)
    this.send(FrameType.GoAway, 0, 0, SCRATCH, 0, 8)
  }

  /** @param entries of a SETTINGS frame */
  settings(entries: readonly (readonly [id: number, value: number])[]): void {
    const payload = Buffer.allocUnsafe(entries.length * 6)
    for (const [at, [id, value]] of entries.entries()) {
      payload.writeUInt16BE(id, at * 6)
      payload.writeUInt32BE(value, at * 6 + 2)
    }
    this.send(FrameType.Settings, 0, 0, payload)
  }

  /** HEADERS with a block, and CONTINUATION behind it where one frame is too short. Returns where the head of the first is. */
  headers(stream: number, { block, size }: BlockWriter, flags: number): number {
    const max = MIN_MAX_FRAME_BYTES
    if (size <= max) return this.send(FrameType.Headers, flags | Flag.EndHeaders, stream, block, 0, size)
    const first = this.send(FrameType.Headers, flags, stream, block, 0, max)
    for (let from = max; from < size; from += max) {
      const to = Math.min(size, from + max)
      this.send(FrameType.Continuation, to === size ? Flag.EndHeaders : 0, stream, block, from, to)
    }
    return first
  }

  /** Bytes of a body that may be sent now, in one frame. What is joined already goes first where it is much. */
  roomForData(): number {
    if (this.blocked || this.ended) return 0
    if (this.writes.length >= JOINED_BYTES && !this.#write()) return 0
    return Math.min(MIN_MAX_FRAME_BYTES, this.sendWindow)
  }

  /** Returns where the frame's head is in `writes`. */
  data(stream: number, buffer: Buffer, from: number, to: number): number {
    this.sendWindow -= to - from
    this.dataFrames++
    this.dataBytes += to - from
    return this.send(FrameType.Data, 0, stream, buffer, from, to)
  }

  get #lined(): boolean { return this.#brief.first !== null || this.#long.first !== null }
  /** The window of the connection keeps streams whose own are open. */
  get windowShut(): boolean { return this.sendWindow <= 0 && this.#lined }

  /** A window has opened: who stands in line may go on. */
  goOn(): void { if (this.#lined) this.#soon() }

  #soon(): void {
    if (this.#dirty) return
    this.#dirty = true
    joinTurn(this)
  }

  /** Returns whether the transport took all of it. */
  #write(): boolean {
    const { stream, writes } = this
    if (stream.destroyed) {
      writes.drop()
      return false
    }
    writes.send(stream)
    this.blocked = stream.bytesQueued > 0
    return !this.blocked
  }

  writeJoined(): void {
    this.#dirty = false
    if (this.ended) return
    for (let round = 0; !this.blocked; round++) {
      this.#pump()
      if (this.writes.length === 0 || !this.#write()) break
      if (!this.#lined || this.sendWindow <= 0) break
      if (round === ROUNDS_A_TURN) {
        this.#soon()
        break
      }
    }
    this.#onTurn.onTurnSent()
  }

  /** The transport has taken everything. */
  drained(): void {
    this.blocked = false
    this.writeJoined()
  }

  /** A stream has more than it could send, and a window for it. */
  lineUp(stream: LinedStream): void {
    if (stream.inLine) return
    if (stream.brief) this.#brief.add(stream)
    else this.#long.add(stream)
    if (!this.blocked && !this.#pumping) this.#soon()
  }

  /** One frame of each stream in its turn, until enough is joined. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    while (this.#lined && !this.blocked && this.writes.length < JOINED_BYTES && this.sendWindow > 0) {
      const stream = this.#next()
      stream.sendQueued()
      if (stream.waits) this.lineUp(stream)
      else stream.tellDrained()
    }
    this.#pumping = false
  }

  #next(): LinedStream {
    const brief = this.#brief, long = this.#long
    if (brief.first === null || (long.first !== null && ++this.#sinceLong >= FRAMES_A_LONG_ONE)) {
      this.#sinceLong = 0
      return long.shift()
    }
    return brief.shift()
  }

  /** FIN behind everything that is joined, whatever the transport has still to take. */
  finish(): void {
    if (this.ended) return
    if (this.writes.length > 0) this.#write()
    this.ended = true
    if (!this.stream.destroyed) this.stream.end()
  }

  /** Nothing of it is sent. */
  drop(): void {
    this.ended = true
    this.writes.drop()
  }
}
