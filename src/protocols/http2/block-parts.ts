/**
 * A header block that comes in several frames (RFC 9113 4.3), until it is whole. How long it may be, and of how many frames, is for the
 * connection to say.
 * Tests: server-connection.test.ts, client-connection.test.ts
 */
export class BlockParts {
  stream = 0
  /** Of HEADERS: those of CONTINUATION end the block and say nothing else. */
  flags = 0
  /** CONTINUATION frames. */
  frames = 0
  length = 0
  #bytes: Buffer | null = null

  /** What it holds, in bytes. */
  get heldBytes(): number { return this.#bytes === null ? 0 : this.#bytes.length }

  begin(stream: number, flags: number): void {
    this.stream = stream
    this.flags = flags
    this.frames = this.length = 0
  }

  /** Copies [from, to). Returns false when there are more than `max` then. */
  add(payload: Buffer, from: number, to: number, max: number): boolean {
    const length = this.length + to - from
    if (length > max) return false
    if (this.#bytes === null || this.#bytes.length < length) {
      const larger = Buffer.allocUnsafe(length * 2)
      this.#bytes?.copy(larger, 0, 0, this.length)
      this.#bytes = larger
    }
    payload.copy(this.#bytes, this.length, from, to)
    this.length = length
    return true
  }

  /** All of it, [0, length), which is the caller's from now on. */
  take(): Buffer {
    const bytes = this.#bytes!
    this.#bytes = null
    return bytes
  }

  drop(): void { this.#bytes = null }
}
