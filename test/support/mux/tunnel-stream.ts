/**
 * A stream that became a tunnel: DATA both ways as the bytes of a ByteStream, END as FIN, RESET as a reset.
 */
import type { ByteStream, StreamDigest, StreamOwner } from '../../../src/protocols/byte-stream.ts'
import type { MuxStream, StreamReceiver } from './channel.ts'
import { ResetCode } from './frames.ts'

const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

const NO_TRAILERS: Buffer = Buffer.alloc(0)

export class TunnelStream implements ByteStream, StreamReceiver {
  owner: StreamOwner = NOBODY
  bytesRead = 0
  bytesWritten = 0
  destroyed = false
  readonly descriptor = -1
  readonly digest: StreamDigest
  /** What waits while the stream is paused is a copy, and what is passed on at once is borrowed: no buffer is changed. */
  readonly receiveBuffer = null
  readonly #stream: MuxStream
  readonly #onGone: () => void
  #ended = false
  #ending = false

  /** @param onGone called once, before the owner is told */
  constructor(stream: MuxStream, digest: StreamDigest, onGone: () => void) {
    this.#stream = stream
    this.digest = digest
    this.#onGone = onGone
    stream.receiver = this
    stream.pause()
    if (stream.closed) this.#gone(null)
  }

  get bytesQueued(): number { return this.#stream.bytesQueued }
  get bytesTaken(): number { return this.#stream.bytesTaken }
  get paused(): boolean { return this.#stream.paused }

  writeText(text: string): void { if (text !== '') this.writeBytes(Buffer.from(text, 'latin1')) }
  writeBytes(bytes: Buffer): void {
    if (this.destroyed || this.#ending) return
    this.bytesWritten += bytes.length
    this.#stream.write(bytes, 0, bytes.length, true)
  }
  flush(): void { /* nothing is held back */ }

  end(): void {
    if (this.#ending || this.destroyed) return
    this.#ending = true
    this.#stream.end(NO_TRAILERS)
    this.#goneWhenOver()
  }

  destroy(_reset = false): void {
    if (this.destroyed) return
    this.#stream.reset(ResetCode.Cancelled)
    this.#gone(null)
  }

  pause(): void { this.#stream.pause() }
  resume(): void { if (!this.destroyed) this.#stream.resume() }

  onStreamHead(): void { this.#stream.breaks() }
  onStreamData(buffer: Buffer, from: number, to: number, owned: boolean): void {
    this.bytesRead += to - from
    if (owned) {
      this.owner.onBytes(buffer, from, to)
      return
    }
    const copy = Buffer.from(buffer.subarray(from, to))
    this.owner.onBytes(copy, 0, copy.length)
  }
  onStreamEnd(): void {
    this.#ended = true
    this.owner.onEnd()
    this.#goneWhenOver()
  }
  onStreamReset(_code: number): void { this.#gone(Object.assign(new Error('the tunnel was reset'), { code: 'ECONNRESET' })) }
  onStreamDrained(): void {
    this.owner.onDrained()
    this.#goneWhenOver()
  }

  #goneWhenOver(): void { if (this.#ended && this.#ending && this.#stream.allSent) this.#gone(null) }

  #gone(error: Error | null): void {
    if (this.destroyed) return
    this.destroyed = true
    // Never within a call of the owner, as with any transport.
    queueMicrotask(() => {
      this.#onGone()
      this.owner.onClosed(error)
    })
  }
}
