/**
 * What a stream sends, in either role: DATA as its window and the connection take it, and END_STREAM behind everything, with
 * trailers or without. Where the last frame of the stream has not left yet, the end is a flag of it and no frame of its own.
 * Tests: server-connection.test.ts, client-connection.test.ts
 */
import { FORBIDDEN_TRAILERS, FORBIDDEN_TRAILER_KINDS } from '../../http/field-rules.ts'
import type { HeaderMap } from '../../http/header-map.ts'
import type { Listed } from '../../primitives/churning.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import { Flag, FrameType, MIN_MAX_FRAME_BYTES } from './frames.ts'
import type { BlockWriter, FrameSender, LinedStream } from './frame-sender.ts'

/** Header blocks of a connection, trailers among them. */
export interface TrailerWriter extends BlockWriter {
  writeTrailers(trailers: HeaderMap, skip: number, names: readonly string[]): void
}

const NO_BYTES = Buffer.alloc(0)

export abstract class SendingStream implements LinedStream, Listed {
  /** 0 until it is known. */
  id = 0
  listPlace = -1
  readonly sender: FrameSender
  readonly #blocks: TrailerWriter
  sendWindow: number
  /** Gone from the wire. */
  closed = false
  /** END_STREAM was sent. */
  localEnded = false
  inLine = false
  nextInLine: LinedStream | null = null
  #queue: Buffer[] | null = null
  #queued = 0
  /** Where the first of them goes on. */
  #queueFrom = 0
  #sawQueued = false
  #taken = 0
  /** The last frame that was written, where its flags can still be changed. */
  #frameAt = 0
  #frameRound = -1
  #ending = false
  #trailers: HeaderMap | null = null

  constructor(sender: FrameSender, blocks: TrailerWriter) {
    this.sender = sender
    this.#blocks = blocks
    this.sendWindow = sender.firstStreamWindow
  }

  /** Nothing waits any more, after `bytesQueued` was seen above 0. */
  protected abstract onSent(): void
  /** END_STREAM went behind everything else. */
  protected abstract onEndSent(): void

  get bytesQueued(): number {
    if (this.#queued > 0) this.#sawQueued = true
    return this.#queued
  }
  /** Bytes that went into the connection's buffer: as much as can be told of one stream. */
  get bytesTaken(): number { return this.#taken }
  get brief(): boolean { return this.#queued <= MIN_MAX_FRAME_BYTES }
  /** Its own window keeps what waits, and nothing else does. */
  get windowShut(): boolean { return this.sendWindow <= 0 && this.#queue !== null }
  get waits(): boolean { return this.#queue !== null && this.sendWindow > 0 && !this.closed }

  /**
   * Sends the head that was just written.
   * @param mayEnd an end that comes right behind it is a flag of its frame; otherwise one of an empty DATA frame
   */
  protected sendHead(mayEnd: boolean): void {
    this.#frameAt = this.sender.headers(this.id, this.#blocks, 0)
    this.#frameRound = mayEnd ? this.sender.writes.round : -1
  }

  /** Sends as much as windows and transport take, and keeps the rest. @param owned the bytes stay as they are until `bytesQueued` is 0 */
  sendBytes(buffer: Buffer, from: number, to: number, owned: boolean): void {
    const { sender } = this
    let at = from
    while (this.#queue === null && at < to) {
      const room = Math.min(sender.roomForData(), this.sendWindow)
      if (room <= 0) break
      at = this.#frame(buffer, at, Math.min(to, at + room))
    }
    if (at === to || this.closed) return
    const rest = owned ? buffer.subarray(at, to) : Buffer.from(buffer.subarray(at, to))
    ;(this.#queue ??= []).push(rest)
    this.#queued += rest.length
    heldBytes.now += rest.length
    if (this.sendWindow > 0) sender.lineUp(this)
  }

  #frame(buffer: Buffer, from: number, to: number): number {
    const bytes = to - from
    this.sendWindow -= bytes
    this.#taken += bytes
    this.#frameAt = this.sender.data(this.id, buffer, from, to)
    this.#frameRound = this.sender.writes.round
    return to
  }

  sendQueued(): void {
    const queue = this.#queue
    if (queue === null || this.closed) return
    const first = queue[0]!, from = this.#queueFrom, room = Math.min(this.sender.roomForData(), this.sendWindow)
    if (room <= 0) return
    const to = this.#frame(first, from, Math.min(first.length, from + room))
    this.#queued -= to - from
    heldBytes.now -= to - from
    this.#queueFrom = to
    if (to === first.length) {
      queue.shift()
      this.#queueFrom = 0
      if (queue.length === 0) this.#queue = null
    }
    if (this.#queue === null && this.#ending) this.#sendEnd()
  }

  /** The other side's window has opened, or its first one has changed. Returns false when it is larger than any may be. */
  openWindow(bytes: number, most: number): boolean {
    if ((this.sendWindow += bytes) > most) return false
    if (this.waits) this.sender.lineUp(this)
    return true
  }

  /** Never within a call of the owner. */
  tellDrained(): void {
    if (this.#queued > 0 || !this.#sawQueued) return
    this.#sawQueued = false
    this.onSent()
  }

  /** The message ends behind what waits. */
  endSending(trailers: HeaderMap | null): void {
    if (this.#ending || this.closed) return
    this.#ending = true
    this.#trailers = trailers
    if (this.#queue === null) this.#sendEnd()
  }

  #sendEnd(): void {
    if (this.closed || this.localEnded) return
    this.localEnded = true
    const trailers = this.#trailers, { sender } = this
    if (trailers !== null) {
      this.#blocks.writeTrailers(trailers, FORBIDDEN_TRAILER_KINDS, FORBIDDEN_TRAILERS)
      sender.headers(this.id, this.#blocks, Flag.EndStream)
    } else if (this.#frameRound === sender.writes.round) sender.writes.bytes[this.#frameAt + 4]! |= Flag.EndStream
    else sender.send(FrameType.Data, Flag.EndStream, this.id, NO_BYTES)
    this.onEndSent()
  }

  /** Nothing more of it is sent. */
  protected dropQueue(): void {
    heldBytes.now -= this.#queued
    this.#queue = null
    this.#queued = 0
  }
}
