/**
 * What the tracers of one upstream connection are told: that it was established, or not, and that it is gone. There is an
 * object of these only where some tracer watches the attempt that began the dial, and a stream is wrapped only for one that
 * wants to hear of its end (traced-stream.ts).
 *
 * `upstreamClosed` is told exactly once, and only for a connection that `upstreamConnected` was told of.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { Peer } from '../peer/peer.ts'
import type { Clock } from '../primitives/clock.ts'
import type { ByteStream, StreamDigest } from '../protocols/byte-stream.ts'
import type { UpstreamConnection } from '../protocols/http-connection.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import { TracedStream, UNCLAIMED, type StreamWatcher } from './traced-stream.ts'

export function traceReused(tracers: TracerGroup, peer: Peer, { digest }: UpstreamConnection): void {
  tracers.upstreamReused?.tell({ peer: peer.name, connection: digest })
}

export class ConnectionTrace implements StreamWatcher {
  readonly #tracers: TracerGroup
  readonly #peer: string
  readonly #clock: Clock
  readonly #dialledAt: number
  /** Null before it is established. */
  #connection: UpstreamConnection | null = null
  #digest: StreamDigest | null = null
  #establishedAt = 0
  #closedBy: 'proxy' | 'origin' | null = null
  #inUse = false

  /** A dial begins. */
  constructor(tracers: TracerGroup, peer: Peer, clock: Clock) {
    this.#tracers = tracers
    this.#peer = peer.name
    this.#clock = clock
    this.#dialledAt = clock.exact()
  }

  /** The stream in which the connection is to be made: wrapped when its end is of interest. */
  watch(stream: ByteStream): ByteStream {
    return this.#tracers.upstreamClosed === null ? stream : new TracedStream(stream, UNCLAIMED, this, null)
  }

  connected(connection: UpstreamConnection, addressesTried: number): void {
    const peer = this.#peer, { digest, protocol } = connection
    this.#connection = connection
    // Now: a socket that is gone no longer knows its addresses.
    this.#digest = digest
    this.#establishedAt = this.#clock.exact()
    const durationMs = this.#establishedAt - this.#dialledAt
    this.#tracers.upstreamConnected?.tell({ peer, connection: digest, protocol, durationMs, addressesTried })
  }

  failed(error: ProxyError, addressesTried: number): void {
    const durationMs = this.#clock.exact() - this.#dialledAt
    this.#tracers.upstreamConnectFailed?.tell({ peer: this.#peer, error, durationMs, addressesTried })
  }

  onEnding(closedBy: 'proxy' | 'origin'): void {
    if (this.#closedBy !== null) return
    this.#closedBy = closedBy
    this.#inUse = this.#connection !== null && this.#connection.poolLent > 0
  }

  onEnded(stream: ByteStream, error: Error | null): void {
    const connection = this.#connection
    if (connection === null) return
    this.#connection = null
    this.#tracers.upstreamClosed?.tell({
      peer: this.#peer,
      connection: this.#digest!,
      protocol: connection.protocol,
      exchanges: connection.exchanges,
      openMs: this.#clock.exact() - this.#establishedAt,
      bytesReceived: stream.bytesRead,
      bytesSent: stream.bytesWritten,
      closedBy: this.#closedBy ?? 'origin',
      inUse: this.#inUse,
      error,
    })
  }
}
