/**
 * Bytes of a stream that wait for their receiver, in the order in which they came. Small ones share a buffer, so that what a window
 * lets in costs little more than its bytes, however small the frames are in which it comes.
 * Tests: server-connection.test.ts, server-streams.test.ts
 */
import { heldBytes } from '../../primitives/held-bytes.ts'
import { BUFFER_RESERVE } from '../byte-stream.ts'

const SHARED_BYTES = 4096

export class HeldBody {
  /** Each with BUFFER_RESERVE on either side. */
  readonly #pieces: Buffer[] = []
  /** The last one, while it has room: [BUFFER_RESERVE, #tailTo) of it is used. */
  #tail: Buffer | null = null
  #tailTo = 0

  get empty(): boolean { return this.#pieces.length === 0 && this.#tail === null }

  /** Copies [from, to). */
  push(buffer: Buffer, from: number, to: number): void {
    const bytes = to - from, tail = this.#tail
    if (tail !== null && this.#tailTo + bytes + BUFFER_RESERVE <= tail.length) {
      buffer.copy(tail, this.#tailTo, from, to)
      this.#tailTo += bytes
      return
    }
    this.#seal()
    const piece = Buffer.allocUnsafe(Math.max(SHARED_BYTES, bytes) + 2 * BUFFER_RESERVE)
    heldBytes.now += piece.length
    buffer.copy(piece, BUFFER_RESERVE, from, to)
    this.#tail = piece
    this.#tailTo = BUFFER_RESERVE + bytes
  }

  #seal(): void {
    const tail = this.#tail
    if (tail === null) return
    this.#tail = null
    heldBytes.now -= tail.length - this.#tailTo - BUFFER_RESERVE
    this.#pieces.push(tail.subarray(0, this.#tailTo + BUFFER_RESERVE))
  }

  /** The oldest bytes, which are the caller's from now on. Only where there are some. */
  shift(): Buffer {
    if (this.#pieces.length === 0) this.#seal()
    const piece = this.#pieces.shift()!
    heldBytes.now -= piece.length
    return piece
  }

  /** Forgets all. Returns how many bytes there were. */
  drop(): number {
    this.#seal()
    let bytes = 0
    for (const piece of this.#pieces.splice(0)) {
      heldBytes.now -= piece.length
      bytes += piece.length - 2 * BUFFER_RESERVE
    }
    return bytes
  }
}
