/**
 * A connection, over TLS or not, that holds everything for a fixed time each way, in order: a long line on the loopback. Without it
 * a request is never on its way while the other side closes, which is the race that loses requests in the real world.
 * Reports each event once and nothing after `destroy`.
 */
import type net from 'node:net'
import type { Fault, Outcome } from '../config/prove-messages.ts'
import type { ProofAddress } from '../config/prove-options.ts'
import type { Clock } from '../primitives/clock.ts'
import { dial, type DialOptions } from './dial.ts'

export interface LineOwner {
  /** It can be used; over TLS behind the handshake. */
  onConnect(): void
  onBytes(bytes: Buffer): void
  /** FIN. The own side is still open. */
  onEnd(): void
  /** Everything has ended; `code` of the error, '' when there was none. */
  onClosed(code: string): void
}

export class DelayedLine {
  /** When TCP was established; null: it never was. */
  connectedAtMs: number | null = null
  /** It can be used, or could be. */
  ready = false
  readonly #socket: net.Socket
  readonly #clock: Clock
  readonly #delayMs: number
  #code = ''
  #destroyed = false

  constructor(address: ProofAddress, delayMs: number, clock: Clock, owner: LineOwner, options: DialOptions = {}) {
    this.#clock = clock
    this.#delayMs = delayMs
    this.#socket = dial(address, clock, options, {
      onEstablished: () => { this.connectedAtMs = clock.exact() },
      onReady: () => {
        if (this.#destroyed) return
        this.ready = true
        owner.onConnect()
      },
    })
    this.#socket.on('data', (bytes: Buffer) => this.#later(() => owner.onBytes(bytes)))
    this.#socket.on('end', () => this.#later(() => owner.onEnd()))
    this.#socket.on('error', (error: NodeJS.ErrnoException) => { this.#code = error.code ?? error.message })
    this.#socket.on('close', () => this.#later(() => {
      this.#destroyed = true
      owner.onClosed(this.#code)
    }))
  }

  /** @returns false when the socket holds more than it wants to; `onDrain` tells when that is over. */
  write(bytes: Buffer): boolean {
    if (this.#delayMs === 0) return this.#socket.writable && this.#socket.write(bytes)
    this.#clock.after(this.#delayMs, () => { if (this.#socket.writable) this.#socket.write(bytes) })
    return true
  }

  onDrain(run: () => void): void { this.#socket.once('drain', () => { if (!this.#destroyed) run() }) }

  /** Sends FIN. */
  end(): void {
    if (this.#delayMs === 0) this.#socket.end()
    else this.#clock.after(this.#delayMs, () => this.#socket.end())
  }

  destroy(): void {
    this.#destroyed = true
    this.#socket.destroy()
  }

  pause(): void { this.#socket.pause() }
  resume(): void { this.#socket.resume() }

  /** Timers of one length fire in the order in which they were set, which keeps the events in order. */
  #later(run: () => void): void {
    if (this.#delayMs === 0) { if (!this.#destroyed) run() } else this.#clock.after(this.#delayMs, () => { if (!this.#destroyed) run() })
  }
}

/** Which fault an end in the middle of something is. */
export function faultOf(code: string): Fault & Outcome {
  switch (code) {
    case '': return 'truncated'
    case 'ECONNREFUSED': return 'refused'
    case 'ETIMEDOUT': return 'timedOut'
    // Ours: no free port, no free descriptor, no such host.
    case 'EADDRNOTAVAIL': case 'EMFILE': case 'ENFILE': case 'ENOTFOUND': case 'EAI_AGAIN': return 'unable'
    // What TLS finds wrong is an answer of a kind, and no end.
    default: return /^ERR_(SSL|TLS)_/.test(code) ? 'wrong' : 'reset'
  }
}
