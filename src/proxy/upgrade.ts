/**
 * After a validated 101, or 2xx to CONNECT: raw bytes both ways, with back-pressure and half-close.
 *
 * Each side reads into a buffer of its own and is paused while the other has not taken what it was given; a FIN is passed
 * on behind the bytes before it. With both directions ended, or one side gone, the tunnel is over. A tunnel in which
 * nothing moved for its idle limit gets FIN both ways and then a cut.
 */
import type { Ticker, Timed } from '../primitives/clock.ts'
import { TEXT_RUN_MAX } from '../protocols/http1/body.ts'
import type { ByteStream, StreamOwner } from '../protocols/byte-stream.ts'

export interface TunnelOwner {
  /** Both sides are closed. Bytes that crossed, each way. */
  onTunnelClosed(fromClient: number, fromOrigin: number, error: Error | null): void
}

/** Between FIN and the cut. */
const FAREWELL_MS = 2000

class Side implements StreamOwner {
  readonly stream: ByteStream
  readonly tunnel: Tunnel
  other!: Side
  bytes = 0
  ended = false
  closed = false
  constructor(stream: ByteStream, tunnel: Tunnel) {
    this.stream = stream
    this.tunnel = tunnel
  }
  onBytes(buffer: Buffer, from: number, to: number): void {
    this.bytes += to - from
    this.tunnel.touch()
    const sink = this.other.stream
    if (to - from <= TEXT_RUN_MAX) sink.writeText(buffer.latin1Slice(from, to))
    else if (this.stream.ownsBuffer) sink.writeBytes(buffer.subarray(from, to))
    else sink.writeBytes(Buffer.from(buffer.subarray(from, to)))
    this.stream.useOwnBuffer()
    if (sink.bytesQueued > 0) this.stream.pause()
  }
  onEnd(): void {
    this.ended = true
    this.tunnel.touch()
    this.other.stream.end()
  }
  onDrained(): void {
    this.tunnel.touch()
    this.other.stream.resume()
  }
  onClosed(error: Error | null): void {
    this.closed = true
    this.tunnel.sideClosed(this, error)
  }
}

export class Tunnel implements Timed {
  tickIndex = -1
  readonly #client: Side
  readonly #origin: Side
  readonly #owner: TunnelOwner
  readonly #ticker: Ticker
  readonly #idleTimeoutMs: number
  #movedAt: number
  #cutAt = Number.POSITIVE_INFINITY
  #error: Error | null = null
  #over = false

  /** `idleTimeoutMs` 0: no limit. Bytes that either side sent ahead go first. */
  constructor(client: { stream: ByteStream; early: Buffer | null }, origin: { stream: ByteStream; early: Buffer | null }, owner: TunnelOwner, ticker: Ticker, idleTimeoutMs: number) {
    this.#owner = owner
    this.#ticker = ticker
    this.#idleTimeoutMs = idleTimeoutMs
    this.#movedAt = ticker.clock.now()
    this.#client = new Side(client.stream, this)
    this.#origin = new Side(origin.stream, this)
    this.#client.other = this.#origin
    this.#origin.other = this.#client
    ticker.add(this)
    client.stream.owner = this.#client
    origin.stream.owner = this.#origin
    if (origin.early !== null) {
      this.#origin.bytes += origin.early.length
      client.stream.writeText(origin.early.latin1Slice(0, origin.early.length))
    }
    if (client.early !== null) {
      this.#client.bytes += client.early.length
      origin.stream.writeText(client.early.latin1Slice(0, client.early.length))
    }
    client.stream.resume()
    origin.stream.resume()
  }

  touch(): void { this.#movedAt = this.#ticker.clock.now() }

  get closing(): boolean { return this.#cutAt !== Number.POSITIVE_INFINITY }

  /** FIN both ways, and a cut if that is not answered. */
  close(): void {
    if (this.#cutAt !== Number.POSITIVE_INFINITY) return
    this.#cutAt = this.#ticker.clock.now() + FAREWELL_MS
    this.#client.stream.end()
    this.#origin.stream.end()
  }

  destroy(): void {
    this.#client.stream.destroy(true)
    this.#origin.stream.destroy(true)
  }

  sideClosed(side: Side, error: Error | null): void {
    this.#error ??= error
    if (!side.other.closed) {
      // A side that ended in order leaves what it sent to be read; one that broke takes the other with it.
      if (error === null && side.ended && !side.other.stream.destroyed && side.other.stream.bytesQueued > 0) side.other.stream.end()
      else side.other.stream.destroy(error !== null)
      return
    }
    if (this.#over) return
    this.#over = true
    this.#ticker.remove(this)
    this.#owner.onTunnelClosed(this.#client.bytes, this.#origin.bytes, this.#error)
  }

  onTick(now: number): void {
    if (now >= this.#cutAt) this.destroy()
    else if (this.#idleTimeoutMs !== 0 && now - this.#movedAt > this.#idleTimeoutMs) this.close()
  }
}
