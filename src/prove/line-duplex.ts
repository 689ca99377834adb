/** A line as a stream of Node.js, for a library that brings its own protocol. Everything that passes is shown to `seen`. */
import { Duplex } from 'node:stream'
import type { DelayedLine } from './delayed-line.ts'
import type { FramesSeen } from './frames-seen.ts'

type Done = (error?: Error | null) => void

export class LineDuplex extends Duplex {
  readonly #line: DelayedLine
  readonly #seen: FramesSeen

  constructor(line: DelayedLine, seen: FramesSeen) {
    super({ allowHalfOpen: true })
    this.#line = line
    this.#seen = seen
  }

  /** Bytes came. */
  onBytes(bytes: Buffer): void {
    this.#seen.received(bytes)
    if (!this.push(bytes)) this.#line.pause()
  }

  /** FIN came. */
  onEnd(): void { this.push(null) }

  override _read(): void { this.#line.resume() }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#seen.sent(bytes)
    if (this.#line.write(bytes)) done()
    else this.#line.onDrain(done)
  }

  override _final(done: Done): void {
    this.#line.end()
    done()
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#line.destroy()
    done(error)
  }
}
