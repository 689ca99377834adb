/**
 * A pair of ByteStreams without sockets: what one end writes, the other end's owner is given in the next microtask.
 * For `inject` and for origins that live in the same process. It keeps the contract of byte-stream.ts, back-pressure
 * included: bytes wait in their pipe while the reader is paused, and `bytesQueued` of the writer shows them.
 */
import { systemClock } from '../primitives/clock.ts'
import { BUFFER_RESERVE, type ByteStream, type StreamDigest, type StreamOwner } from './byte-stream.ts'

/** Bytes a pipe takes without showing them as queued: a kernel's socket buffer, in small. */
const PIPE_BYTES = 65_536

const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

export class MemoryStream implements ByteStream {
  owner: StreamOwner = NOBODY
  readonly digest: StreamDigest
  bytesRead = 0
  bytesWritten = 0
  destroyed = false
  readonly descriptor = -1
  paused = false
  /** The reader may keep what it was given: every delivery has a buffer of its own. */
  readonly receiveBuffer = null
  #other!: MemoryStream
  /** On the way to this end. */
  #incoming: Buffer[] = []
  #incomingBytes = 0
  #endIncoming = false
  #endSeen = false
  #endSent = false
  #resetIncoming = false
  #scheduled = false
  #told = false
  #closed = false

  private constructor(address: string, remoteIp: string) {
    this.digest = {
      remoteAddress: address,
      remoteIp,
      remotePort: 0,
      localAddress: address,
      establishedAt: systemClock.now(),
      tls: null,
    }
  }

  /** Two ends of one connection. `address` and `remoteIp` are what both see as the other side's. */
  static pair(address = 'memory', remoteIp = ''): [MemoryStream, MemoryStream] {
    const a = new MemoryStream(address, remoteIp), b = new MemoryStream(address, remoteIp)
    a.#other = b
    b.#other = a
    return [a, b]
  }

  get bytesQueued(): number { return Math.max(0, this.#other.#incomingBytes - PIPE_BYTES) }
  get bytesTaken(): number { return this.bytesWritten - this.bytesQueued }

  writeText(text: string): void { if (text !== '') this.#send(Buffer.from(text, 'latin1')) }
  writeBytes(bytes: Buffer): void { this.#send(Buffer.from(bytes)) }
  flush(): void { /* nothing is held back */ }

  #send(bytes: Buffer): void {
    if (this.destroyed || this.#endSent || this.#other.destroyed || bytes.length === 0) return
    this.bytesWritten += bytes.length
    this.#other.#incoming.push(bytes)
    this.#other.#incomingBytes += bytes.length
    this.#other.#schedule()
  }

  end(): void {
    if (this.#endSent || this.destroyed) return
    this.#endSent = true
    this.#other.#endIncoming = true
    this.#other.#schedule()
    this.#closeWhenDone()
  }

  destroy(reset = false): void {
    if (this.destroyed) return
    this.destroyed = true
    if (reset) this.#other.#resetIncoming = true
    else this.#other.#endIncoming = true
    this.#other.#schedule()
    this.#schedule()
  }

  pause(): void { this.paused = true }
  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    if (this.destroyed || this.#resetIncoming) {
      this.#close(this.destroyed ? null : Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }))
      return
    }
    while (this.#incoming.length > 0 && !this.paused && !this.destroyed) {
      const bytes = this.#incoming.shift()!, writer = this.#other
      const queued = writer.bytesQueued > 0
      this.#incomingBytes -= bytes.length
      this.bytesRead += bytes.length
      const buffer = Buffer.allocUnsafe(bytes.length + 2 * BUFFER_RESERVE)
      bytes.copy(buffer, BUFFER_RESERVE)
      this.owner.onBytes(buffer, BUFFER_RESERVE, BUFFER_RESERVE + bytes.length)
      if (queued && writer.bytesQueued === 0 && !writer.destroyed) writer.owner.onDrained()
    }
    if (this.destroyed) {
      this.#close(null)
      return
    }
    if (this.#incoming.length === 0 && this.#endIncoming && !this.paused && !this.#endSeen) {
      this.#endSeen = true
      this.owner.onEnd()
      this.#closeWhenDone()
    }
  }

  #closeWhenDone(): void {
    if (!this.#endSeen || !this.#endSent || this.#told) return
    this.#told = true
    this.destroyed = true
    this.#schedule()
  }

  #close(error: Error | null): void {
    if (this.#closed) return
    this.#closed = true
    this.destroyed = true
    this.#incoming = []
    this.#incomingBytes = 0
    this.#other.#endIncoming = true
    this.#other.#schedule()
    this.owner.onClosed(error)
  }
}
