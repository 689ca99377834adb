/**
 * Calls of connection tracers, and the stream that reports its own end to one.
 *
 * A stream is wrapped only for a tracer with `disconnected`: it forwards everything, about a nanosecond a call (measured), and
 * tells the tracer exactly once that the connection is gone, whatever ended it. It can also hold bytes that came before
 * anybody owned the stream (behind the 2xx of a CONNECT proxy) and hands them over first.
 *
 * What a tracer throws is swallowed and counted in `tracerFaults`.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import { BUFFER_RESERVE, type ByteStream, type ReceiveBuffer, type StreamDigest, type StreamOwner } from '../protocols/byte-stream.ts'
import { tracerFaults, type Tracer } from '../telemetry/tracer.ts'

export function traceConnected(tracer: Tracer, peer: string, digest: StreamDigest): void {
  try { tracer.connected?.(peer, digest) } catch { tracerFaults.count++ }
}

export function traceReused(tracer: Tracer, peer: string, digest: StreamDigest): void {
  try { tracer.reused?.(peer, digest) } catch { tracerFaults.count++ }
}

export function traceFailed(tracer: Tracer, peer: string, error: ProxyError): void {
  try { tracer.failed?.(peer, error) } catch { tracerFaults.count++ }
}

function traceDisconnected(tracer: Tracer, peer: string, digest: StreamDigest): void {
  try { tracer.disconnected?.(peer, digest) } catch { tracerFaults.count++ }
}

export class TracedStream implements ByteStream, StreamOwner {
  owner: StreamOwner
  readonly #stream: ByteStream
  /** Null: nobody to tell, or told already. */
  #tracer: Tracer | null
  readonly #peer: string
  #early: Buffer | null
  /** The owner wants bytes; the stream itself stays paused until the early ones are with it. */
  #resuming = false

  /** @param early bytes that come before all others, or null; the stream is paused then. */
  constructor(stream: ByteStream, owner: StreamOwner, peer: string, tracer: Tracer | null, early: Buffer | null) {
    this.owner = owner
    this.#stream = stream
    this.#tracer = tracer
    this.#peer = peer
    this.#early = early
    stream.owner = this
  }

  get bytesQueued(): number { return this.#stream.bytesQueued }
  get bytesRead(): number { return this.#stream.bytesRead }
  get bytesWritten(): number { return this.#stream.bytesWritten }
  get bytesTaken(): number { return this.#stream.bytesTaken }
  get destroyed(): boolean { return this.#stream.destroyed }
  get digest(): StreamDigest { return this.#stream.digest }
  get paused(): boolean { return this.#stream.paused && !this.#resuming }
  get receiveBuffer(): ReceiveBuffer | null { return this.#stream.receiveBuffer }

  writeText(text: string): void { this.#stream.writeText(text) }
  writeBytes(bytes: Buffer): void { this.#stream.writeBytes(bytes) }
  flush(): void { this.#stream.flush() }
  end(): void { this.#stream.end() }
  destroy(reset?: boolean): void { this.#stream.destroy(reset) }
  pause(): void {
    this.#resuming = false
    this.#stream.pause()
  }
  resume(): void {
    if (this.#early === null) this.#stream.resume()
    else if (!this.#resuming) {
      this.#resuming = true
      queueMicrotask(() => this.#deliverEarly())
    }
  }

  onBytes(buffer: Buffer, from: number, to: number): void { this.owner.onBytes(buffer, from, to) }
  onEnd(): void { this.owner.onEnd() }
  onDrained(): void { this.owner.onDrained() }
  onClosed(error: Error | null): void {
    this.#early = null
    const tracer = this.#tracer
    if (tracer !== null) {
      this.#tracer = null
      traceDisconnected(tracer, this.#peer, this.#stream.digest)
    }
    this.owner.onClosed(error)
  }

  #deliverEarly(): void {
    const early = this.#early
    if (early === null || !this.#resuming || this.#stream.destroyed) return
    this.#early = null
    const buffer = Buffer.allocUnsafe(early.length + 2 * BUFFER_RESERVE)
    early.copy(buffer, BUFFER_RESERVE)
    this.owner.onBytes(buffer, BUFFER_RESERVE, BUFFER_RESERVE + early.length)
    if (!this.#resuming) return
    this.#resuming = false
    this.#stream.resume()
  }
}
