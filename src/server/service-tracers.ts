/**
 * The tracers of a service: which of them hear of a peer, and what they are told of clients' connections. Exchanges and
 * attempts are told by proxy/exchange-trace.ts, connections to origins by connector/connection-trace.ts.
 * Connections of the process's test of itself do not come here.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { Clock } from '../primitives/clock.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { DownstreamConnection } from '../protocols/http-connection.ts'
import { flagOf } from '../proxy/fail-to-proxy.ts'
import type { RefusalReason } from '../telemetry/tracer.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'

/** A connection was let in, and nothing was read from it yet. */
export function traceAccepted(tracers: TracerGroup, listener: string, { digest }: ByteStream): void {
  // Its digest is looked at now, also for its end: a socket that is gone no longer knows its addresses.
  tracers.downstreamAccepted?.tell({ listener, client: digest })
}

/** The connection is gone. */
export function traceClosed(tracers: TracerGroup, connection: DownstreamConnection, clock: Clock): void {
  const audience = tracers.downstreamClosed
  if (audience === null) return
  const { listener, protocol, requests, stream } = connection
  const { digest, bytesRead, bytesWritten } = stream
  const openMs = digest.establishedAt === 0 ? 0 : clock.exact() - digest.establishedAt
  audience.tell({ listener, client: digest, protocol, requests, bytesReceived: bytesRead, bytesSent: bytesWritten, openMs })
}

/** The listener turned a client away. */
export function traceTurnedAway(tracers: TracerGroup, listener: string, clientIp: string, reason: RefusalReason): void {
  tracers.downstreamRefused?.tell({ listener, clientIp, reason })
}

/** A head was refused before it became a request. */
export function traceRefused(tracers: TracerGroup, connection: DownstreamConnection, error: ProxyError, clock: Clock): void {
  const { listener, stream: { digest } } = connection
  tracers.requestRefused?.tell({ listener, client: digest, error, flag: flagOf(error), refusedWallMs: clock.wall() })
}
