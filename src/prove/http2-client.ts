/**
 * A client of HTTP/2 that has one connection at a time, as most have: when GOAWAY comes it dials the next one at once, and streams that are
 * open stay where they are. It counts what happens to connections; a stream is its owner's.
 */
import type { ProofAddress, ResolvedProveOptions } from '../config/prove-options.ts'
import type { Clock } from '../primitives/clock.ts'
import { Http2Connection, type ConnectionFault, type Http2ConnectionOwner } from './http2-connection.ts'
import { REDIAL_MS } from './kept-connections.ts'
import type { Ledger } from './ledger.ts'
import type { ProofSetting } from './population.ts'

export class Http2Client implements Http2ConnectionOwner {
  readonly #address: ProofAddress
  readonly #options: ResolvedProveOptions
  readonly #clock: Clock
  readonly #ledger: Ledger
  readonly #onLeaving: (connection: Http2Connection) => void
  readonly #connections = new Set<Http2Connection>()
  /** Dialled or open, and not told to leave. */
  #current: Http2Connection | null = null
  #waiting: ((connection: Http2Connection) => void)[] = []
  #dialsAt: (() => void) | null = null
  #finishing = false

  /** @param onLeaving GOAWAY came on a connection whose streams may like to know */
  constructor({ address, options, clock }: ProofSetting, ledger: Ledger, onLeaving: (connection: Http2Connection) => void = () => {}) {
    this.#address = address
    this.#options = options
    this.#clock = clock
    this.#ledger = ledger
    this.#onLeaving = onLeaving
  }

  start(): void { this.#dial() }
  /** Dials only for what waits already. */
  finish(): void { this.#finishing = true }

  close(): void {
    this.#dialsAt?.()
    for (const connection of this.#connections) connection.close()
  }

  /** Calls `run` with a connection that takes a stream, at once or as soon as there is one. */
  whenOpen(run: (connection: Http2Connection) => void): void {
    if (this.#current?.open === true) run(this.#current)
    else {
      this.#waiting.push(run)
      this.#dial()
    }
  }

  onOpen(connection: Http2Connection): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const run of waiting) {
      if (connection.open) run(connection)
      else this.#waiting.push(run)
    }
  }

  onLeaving(connection: Http2Connection): void {
    if (this.#current === connection) this.#current = null
    if (!this.#finishing) this.#dial()
    this.#onLeaving(connection)
  }

  onGone(connection: Http2Connection, fault: ConnectionFault | null): void {
    this.#connections.delete(connection)
    if (this.#current === connection) this.#current = null
    // Streams on it say themselves what became of them; a connection that could not be had is a loss of its own.
    if (fault !== null) this.#ledger.loss(fault.fault, fault.detail, connection.connectedAtMs)
    else if (connection.endedInOrder) this.#ledger.politeCloses++
    if (this.#current !== null || (this.#finishing && this.#waiting.length === 0)) return
    if (fault === null) this.#dial()
    else this.#dialsAt ??= this.#clock.after(REDIAL_MS, () => {
      this.#dialsAt = null
      if (!this.#finishing || this.#waiting.length > 0) this.#dial()
    })
  }

  #dial(): void {
    if (this.#current !== null || this.#dialsAt !== null) return
    this.#current = new Http2Connection(this.#address, this.#options.delayMs, this.#clock, this)
    this.#connections.add(this.#current)
  }
}
