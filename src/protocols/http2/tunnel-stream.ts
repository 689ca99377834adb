/**
 * A stream that became a tunnel (RFC 9113 8.5, RFC 8441): DATA both ways as the bytes of a ByteStream, END_STREAM as FIN,
 * RST_STREAM as a reset.
 * Tests: server-connection.test.ts, client-connection.test.ts
 */
import { BUFFER_RESERVE, copyWithReserve, type ByteStream, type StreamDigest, type StreamOwner } from '../byte-stream.ts'
import { ErrorCode } from './error-code.ts'
import { HeldBody } from './held-body.ts'

/** The session whose stream it was. */
export interface TunnelEnd {
  readonly digest: StreamDigest
  readonly bytesQueued: number
  /** END_STREAM was sent. */
  readonly localEnded: boolean
  sendBytes(buffer: Buffer, from: number, to: number, owned: boolean): void
  endTunnel(): void
  reset(code: ErrorCode): void
  /** Bytes that were kept are with the tunnel's owner now. */
  tunnelRead(bytes: number): void
  /** It is over; its owner is told next. */
  tunnelGone(): void
}

const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

export class TunnelStream implements ByteStream {
  owner: StreamOwner = NOBODY
  bytesRead = 0
  bytesWritten = 0
  destroyed = false
  paused = true
  readonly descriptor = -1
  /** Every piece has a buffer of its own. */
  readonly receiveBuffer = null
  readonly #session: TunnelEnd
  readonly #held: HeldBody
  #delivering = false
  #endHeld = false
  #ended = false
  #ending = false

  /** @param held bytes that came before it was a tunnel; null: none */
  constructor(session: TunnelEnd, held: HeldBody | null) {
    this.#session = session
    this.#held = held ?? new HeldBody()
  }

  get digest(): StreamDigest { return this.#session.digest }
  get bytesQueued(): number { return this.#session.bytesQueued }
  get bytesTaken(): number { return this.bytesWritten - this.#session.bytesQueued }

  writeText(text: string): void { if (text !== '') this.#write(Buffer.from(text, 'latin1'), true) }
  writeBytes(bytes: Buffer): void { this.#write(bytes, true) }

  #write(bytes: Buffer, owned: boolean): void {
    if (this.destroyed || this.#ending) return
    this.bytesWritten += bytes.length
    this.#session.sendBytes(bytes, 0, bytes.length, owned)
  }

  flush(): void { /* nothing is held back */ }

  end(): void {
    if (this.#ending || this.destroyed) return
    this.#ending = true
    this.#session.endTunnel()
  }

  /** END_STREAM went behind everything else. */
  sentEnd(): void { this.#goneWhenOver() }

  destroy(_reset = false): void {
    if (this.destroyed) return
    this.#session.reset(ErrorCode.Cancel)
    this.#gone(null)
  }

  pause(): void { this.paused = true }

  resume(): void {
    if (!this.paused || this.destroyed) return
    this.paused = false
    if (!this.#delivering) this.#goOn()
  }

  /** Returns whether they are used up. */
  onData(buffer: Buffer, from: number, to: number): boolean {
    if (this.destroyed) return true
    if (this.paused || this.#delivering || !this.#held.empty) {
      this.#held.push(buffer, from, to)
      return false
    }
    this.#deliver(copyWithReserve(buffer, from, to))
    if (!this.paused) this.#goOn()
    return true
  }

  onEnd(): void {
    this.#endHeld = true
    if (!this.paused && !this.#delivering) this.#goOn()
  }

  onDrained(): void { this.owner.onDrained() }

  onReset(text: string): void { this.#gone(Object.assign(new Error(text), { code: 'ECONNRESET' })) }

  #deliver(piece: Buffer): void {
    this.bytesRead += piece.length - 2 * BUFFER_RESERVE
    this.#delivering = true
    this.owner.onBytes(piece, BUFFER_RESERVE, piece.length - BUFFER_RESERVE)
    this.#delivering = false
  }

  #goOn(): void {
    while (!this.#held.empty && !this.paused && !this.destroyed) {
      const piece = this.#held.shift()
      this.#deliver(piece)
      this.#session.tunnelRead(piece.length - 2 * BUFFER_RESERVE)
    }
    if (this.paused || this.destroyed || !this.#endHeld || this.#ended || !this.#held.empty) return
    this.#ended = true
    this.owner.onEnd()
    this.#goneWhenOver()
  }

  #goneWhenOver(): void { if (this.#ended && this.#ending && this.#session.localEnded) this.#gone(null) }

  #gone(error: Error | null): void {
    if (this.destroyed) return
    this.destroyed = true
    const unread = this.#held.drop()
    if (unread > 0) this.#session.tunnelRead(unread)
    // Never within a call of the owner, as with any transport.
    queueMicrotask(() => {
      this.#session.tunnelGone()
      this.owner.onClosed(error)
    })
  }
}
