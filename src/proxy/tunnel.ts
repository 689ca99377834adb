/**
 * What an exchange becomes after a validated 101, or 2xx to CONNECT: bytes both ways until both sides are closed.
 *
 * The bytes go through a relay (relay-streams.ts), which ends with FIN both ways and then a cut. In a WebSocket both sides
 * are told first, with Close 1001 where a message ends (websocket-close.ts). A tunnel in which nothing moved for its idle
 * limit is closed in the same way.
 */
import type { Ticker } from '../primitives/clock.ts'
import type { DetachedStream } from '../protocols/http-session.ts'
import { type RelayOwner, StreamRelay } from './relay-streams.ts'
import { WebSocketClose } from './websocket-close.ts'

export interface TunnelOwner {
  /** Both sides are closed. Bytes that crossed, each way. */
  onTunnelClosed(fromClient: number, fromOrigin: number, error: Error | null): void
}

export interface TunnelOptions {
  readonly webSocket: boolean
  /** 0: no limit. */
  readonly idleTimeoutMs: number
}

export class Tunnel implements RelayOwner {
  readonly webSocket: boolean
  readonly openedAt: number
  readonly #owner: TunnelOwner
  readonly #relay: StreamRelay
  /** Null: no WebSocket. */
  readonly #close: WebSocketClose | null

  /** Bytes that either side sent ahead go first, and its FIN behind them. */
  constructor(client: DetachedStream, origin: DetachedStream, owner: TunnelOwner, ticker: Ticker, options: TunnelOptions) {
    this.webSocket = options.webSocket
    this.#owner = owner
    this.#relay = new StreamRelay(client.stream, origin.stream, this, ticker, options)
    this.openedAt = this.#relay.openedAt
    this.#close = options.webSocket ? new WebSocketClose(this.#relay, ticker) : null
    this.#relay.start(client, origin)
  }

  get closing(): boolean { return this.#close === null ? this.#relay.closing : this.#close.begun }

  /** Ends the tunnel politely: within 2 s, a WebSocket within 9 s. `reason`: what a WebSocket is told besides 1001. */
  close(reason = 'going away'): void {
    if (this.#close === null) this.#relay.close()
    else this.#close.begin(reason)
  }

  destroy(): void { this.#relay.destroy() }

  onRelayIdle(): void { this.close('idle') }

  onRelayClosed(fromDownstream: number, fromUpstream: number, error: Error | null): void {
    this.#close?.end()
    this.#owner.onTunnelClosed(fromDownstream, fromUpstream, error)
  }
}
