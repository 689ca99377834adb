/**
 * A ByteStream as a Duplex of Node.js: what TLS lies on where the transport is neither a socket nor TLS itself (`customL4`, pairs
 * in memory). Costs a copy each way.
 */
import { Duplex } from 'node:stream'
import type { ByteStream, StreamOwner } from '../byte-stream.ts'

type Done = (error?: Error | null) => void

export class StreamDuplex extends Duplex implements StreamOwner {
  readonly #stream: ByteStream
  /** The write that waits for the stream; null: none. */
  #waiting: Done | null = null

  /** Takes the stream over. */
  constructor(stream: ByteStream) {
    super({ allowHalfOpen: true })
    this.#stream = stream
    stream.owner = this
    if (stream.destroyed) process.nextTick(() => this.destroy())
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (!this.push(Buffer.from(buffer.subarray(from, to)))) this.#stream.pause()
  }
  onEnd(): void { this.push(null) }
  onDrained(): void {
    const done = this.#waiting
    this.#waiting = null
    done?.()
  }
  onClosed(error: Error | null): void { this.destroy(error ?? undefined) }

  override _read(): void { this.#stream.resume() }
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    // The chunk may be reused once the write is done, and the stream may keep it longer.
    this.#stream.writeBytes(Buffer.from(chunk))
    if (this.#stream.bytesQueued > 0) this.#waiting = done
    else done()
  }
  override _final(done: Done): void {
    this.#stream.end()
    done()
  }
  override _destroy(error: Error | null, done: Done): void {
    this.#waiting = null
    this.#stream.destroy(error !== null)
    done(error)
  }
}
