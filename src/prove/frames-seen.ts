/**
 * What passed on a connection of HTTP/2, read from outside by the heads of its frames (RFC 9113 4.1): which streams left this side,
 * which of them the server ended or reset, and where its GOAWAY drew the line. The library that speaks for the client does not tell a
 * stream that it refused itself from one that the server refused, nor an end from a reset.
 */
import { FrameType, Flag, FRAME_HEAD_BYTES, MAX_STREAM_ID, PREFACE, readUint32 } from '../protocols/http2/frames.ts'

export interface GoAway { readonly lastStream: number; readonly code: number }

interface SeenStream { ended: boolean; resetWith: number | null }

/** Of a payload, as much is looked at: RST_STREAM and GOAWAY have what counts in front. */
const LOOKED_AT_BYTES = 8

export class FramesSeen {
  /** The last one; null: none came. */
  goAway: GoAway | null = null
  readonly #streams = new Map<number, SeenStream>()
  readonly #sent: FrameScan
  readonly #received: FrameScan
  readonly #onGoAway: (seen: GoAway) => void

  constructor(onGoAway: (seen: GoAway) => void) {
    this.#onGoAway = onGoAway
    this.#sent = new FrameScan(PREFACE.length, (type, _flags, stream) => {
      if (type === FrameType.Headers && !this.#streams.has(stream)) this.#streams.set(stream, { ended: false, resetWith: null })
    })
    this.#received = new FrameScan(0, (type, flags, stream, payload) => this.#onReceived(type, flags, stream, payload))
  }

  sent(bytes: Buffer): void { this.#sent.push(bytes) }
  received(bytes: Buffer): void { this.#received.push(bytes) }

  /** Its HEADERS left this side. */
  wasOpened(stream: number): boolean { return this.#streams.has(stream) }
  /** END_STREAM came, behind all of it. */
  wasEnded(stream: number): boolean { return this.#streams.get(stream)?.ended === true }
  /** Code of the server's RST_STREAM; null: none came. */
  resetWith(stream: number): number | null { return this.#streams.get(stream)?.resetWith ?? null }
  /** The server says that it has not looked at it and will not (RFC 9113 6.8): a client opens it anew elsewhere. */
  isLeftOut(stream: number): boolean { return this.goAway !== null && this.goAway.code === 0 && stream > this.goAway.lastStream }
  /** The stream is over on this side as well. */
  forget(stream: number): void { this.#streams.delete(stream) }

  #onReceived(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === FrameType.GoAway) {
      this.goAway = { lastStream: readUint32(payload, 0) & MAX_STREAM_ID, code: readUint32(payload, 4) }
      this.#onGoAway(this.goAway)
      return
    }
    const seen = this.#streams.get(stream)
    if (seen === undefined) return
    if (type === FrameType.RstStream) seen.resetWith ??= readUint32(payload, 0)
    else if ((type === FrameType.Data || type === FrameType.Headers) && (flags & Flag.EndStream) !== 0) seen.ended = true
  }
}

type OnFrame = (type: number, flags: number, stream: number, payload: Buffer) => void

/** Cuts one direction into frames, and tells of each when all of it has passed. */
class FrameScan {
  readonly #onFrame: OnFrame
  readonly #front = Buffer.alloc(FRAME_HEAD_BYTES + LOOKED_AT_BYTES)
  /** Bytes that come before the first frame. */
  #skip: number
  /** Bytes of the frame that have passed. */
  #passed = 0

  constructor(skip: number, onFrame: OnFrame) {
    this.#skip = skip
    this.#onFrame = onFrame
  }

  push(bytes: Buffer): void {
    let at = Math.min(this.#skip, bytes.length)
    this.#skip -= at
    while (at < bytes.length) {
      const head = this.#passed < FRAME_HEAD_BYTES
      const length = head ? FRAME_HEAD_BYTES : FRAME_HEAD_BYTES + this.#front.readUIntBE(0, 3)
      const to = Math.min(bytes.length, at + length - this.#passed)
      if (this.#passed < this.#front.length) bytes.copy(this.#front, this.#passed, at, to)
      this.#passed += to - at
      at = to
      if (this.#passed >= FRAME_HEAD_BYTES && this.#passed === FRAME_HEAD_BYTES + this.#front.readUIntBE(0, 3)) this.#whole()
    }
  }

  #whole(): void {
    this.#passed = 0
    const stream = readUint32(this.#front, 5) & MAX_STREAM_ID
    this.#onFrame(this.#front[3]!, this.#front[4]!, stream, this.#front.subarray(FRAME_HEAD_BYTES))
  }
}
