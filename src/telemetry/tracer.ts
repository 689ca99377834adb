/**
 * Callbacks that watch exchanges, their attempts and connections: what spans, and telemetry of applications, are made of. Metrics hear
 * of connections by one, and count exchanges from themselves (exchange-counter.ts).
 *
 *   downstreamAccepted ─▶ exchangeStarted ─▶ attemptStarted ─▶ upstreamConnected | upstreamReused | upstreamConnectFailed
 *                              │                  ├▶ attemptConnected ─▶ attemptResponded
 *                              │                  └▶ attemptEnded ─▶ [exchangeRetried ─▶ attemptStarted …]
 *                              └▶ exchangeEnded                        upstreamClosed, downstreamClosed: when they are gone
 *   downstreamAccepted ─▶ [handshakeEnded] ─▶ downstreamClosed
 *
 * A tracer is given to a service (`HttpProxyOptions.tracers`), which tells it everything, or to a peer (`peer.options.tracer`),
 * whose tracer is told of that peer's connections and attempts, and of the exchanges that tried that peer. The events, their
 * values and their order are the same for both; for one event the service's tracers come first. A tracer given twice is told
 * once. The process's test of itself (`server.selfTest`) is no exchange for any tracer, though its connections are real ones.
 *
 * Each callback takes one record of plain values, made for that event; it may be kept. Heads and digests in it are the live
 * ones: to be read, within the call, and never changed. A callback cannot change or fail anything: what it throws, or rejects
 * when it is async, is swallowed and counted in `tracerFaults` (tracer-group.ts). It runs inside the exchange, so it must be
 * quick and must not call back into the proxy. Which callbacks a tracer has is read once, when it is given.
 *
 * Times that end in `At` are exact monotonic ms (`clock.exact()`), 0 for what did not happen; `WallMs` is ms since the epoch;
 * bytes are those of bodies without framing, except for connections, where they are all bytes.
 * Types only; exporters live in telemetry/exporters/.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { RequestHead } from '../http/message-head.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'
import type { TraceIdentity } from './request-trace.ts'

/** What every event of one exchange has. */
export interface ExchangeEvent {
  /** Unique in the process, from 1: what joins the events of one exchange. A client may repeat request ids. */
  readonly exchangeId: number
  /** As in X-Request-Id. */
  readonly requestId: string
}

/** A request came. */
export interface ExchangeStarted extends ExchangeEvent {
  /** The request as it came: no hook has seen it. For a peer's tracer, which hears of it later: as filters left it so far. */
  readonly request: Readonly<RequestHead>
  /** Name of the listener. */
  readonly listener: string
  /** Who asks, as `session.clientIp`; '' on a Unix socket. */
  readonly clientIp: string
  /** The client's connection, with what its TLS handshake settled in `tls`. */
  readonly client: StreamDigest
  /**
   * When the head of the request was complete. Taken from the tick, and up to 100 ms too early, in the first exchange of a
   * service that has neither a tracer nor an access log of its own.
   */
  readonly startedAt: number
  /** The same moment in ms since the epoch. */
  readonly startedWallMs: number
  /** Where the request stands in a trace; null: it is not recorded. */
  readonly trace: TraceIdentity | null
}

/** What every event of one attempt has. */
export interface AttemptEvent extends ExchangeEvent {
  /** From 1. One for which no peer could be chosen has a number and no event. */
  readonly attempt: number
  /** `host:port`, `[v6]:port` or `unix:/path`. */
  readonly peer: string
}

/** A peer was chosen for an attempt. */
export interface AttemptStarted extends AttemptEvent {
  /** When the peer was chosen; a connection is asked for next. */
  readonly startedAt: number
}

/** An attempt has its connection. */
export interface AttemptConnected extends AttemptEvent {
  /** The connection had carried exchanges before. */
  readonly reused: boolean
  /** The same object in every event of one connection. */
  readonly connection: StreamDigest
  /** 'h1', 'h2'. */
  readonly protocol: string
  /** When the attempt got it: behind every handshake, or when the pool lent it. */
  readonly connectedAt: number
}

/** An origin's final head is there. */
export interface AttemptResponded extends AttemptEvent {
  /** What the origin sent, before any filter. */
  readonly status: number
  /** The first head of its answer was there, interim ones included. */
  readonly firstByteAt: number
}

/** An attempt is over. */
export interface AttemptEnded extends AttemptEvent {
  /** The connection had carried exchanges before; false without one. */
  readonly reused: boolean
  /** What the origin sent, before any filter; 0: no final head. */
  readonly status: number
  /** When the peer was chosen. */
  readonly startedAt: number
  /** A connection was there; 0: none could be had. */
  readonly connectedAt: number
  /** The head of the request was written. */
  readonly sentAt: number
  /** The first head of the answer was there, interim ones included. */
  readonly firstByteAt: number
  /** The exchange was done with the origin. */
  readonly endedAt: number
  /** Of the body sent to the origin; of an upgraded connection, all bytes behind the heads. */
  readonly bytesSent: number
  /** Of the body received from the origin; of an upgraded connection, all bytes behind the heads. */
  readonly bytesReceived: number
  /** What ended it, on whichever side; null: the response came whole, or a filter answered in its place. */
  readonly error: ProxyError | null
  /** Another attempt was decided on: `exchangeRetried` is next. */
  readonly retried: boolean
}

/** An attempt failed and another one follows. */
export interface ExchangeRetried extends AttemptEvent {
  /** Why the attempt failed. */
  readonly error: ProxyError
  /** The next attempt begins after this long, in ms. */
  readonly delayMs: number
}

/** How an exchange ended: what the access log has, and more. */
export interface ExchangeEnded extends ExchangeEvent {
  /** Name of the listener: `<service>/<address as written>`. */
  readonly listener: string
  /** Who asked, as `session.clientIp`; '' on a Unix socket. */
  readonly clientIp: string
  /** The client's connection. */
  readonly client: StreamDigest
  /** As the request filters left it. */
  readonly method: string
  /** 'https' when the client's connection has TLS. */
  readonly scheme: 'http' | 'https'
  /** Value of Host; '' when there is none. */
  readonly authority: string
  /** As the request filters left it; what `upstreamRequestFilter` does to one attempt's copy is not in it. */
  readonly target: string
  /** Version of HTTP of the request. */
  readonly version: string
  /** Status sent to the client; 0 when none was sent. */
  readonly status: number
  /** One of the flags of the access log; '-' when all went well. */
  readonly flag: string
  /** Of the request's body, received from the client; of an upgraded connection, all bytes behind the heads. */
  readonly bytesReceived: number
  /** Of the response's body, sent to the client; of an upgraded connection, all bytes behind the heads. */
  readonly bytesSent: number
  /** When the head of the request was complete, as `exchangeStarted` had it. */
  readonly startedAt: number
  /** The same moment in ms since the epoch. */
  readonly startedWallMs: number
  /** When the response was handed over whole, or the exchange was given up. */
  readonly endedAt: number
  /** From `startedAt` to `endedAt`, in ms. */
  readonly durationMs: number
  /** Those for which no peer could be chosen included. */
  readonly attempts: number
  /** Name of the last attempt's peer; '' when none was chosen in it. */
  readonly peer: string
  /** The last attempt's connection had carried exchanges before; false without one. */
  readonly reused: boolean
  /** What the origin sent in the last attempt, before any filter; 0: no final head. */
  readonly upstreamStatus: number
  /** The last attempt had a connection; 0: none could be had. */
  readonly connectedAt: number
  /** The head of its request was written. */
  readonly sentAt: number
  /** The first head of its answer was there, interim ones included. */
  readonly firstByteAt: number
  /** The connections were joined behind a 101, or 2xx to CONNECT. */
  readonly upgraded: boolean
  /** A filter answered, or an error page was sent. */
  readonly ownAnswer: boolean
  /** A repetition was called for and the retry budget did not allow it. */
  readonly retryBudgetSpent: boolean
  /** What went wrong, on whichever side; null: nothing. */
  readonly error: ProxyError | null
  /** Where the request stands in a trace, as `exchangeStarted` had it; null: it is not recorded. */
  readonly trace: TraceIdentity | null
}

/** A head that broke the rules before it became a request. */
export interface RequestRefused {
  /** Name of the listener: `<service>/<address as written>`. */
  readonly listener: string
  /** The client's connection. */
  readonly client: StreamDigest
  /** What was wrong; `limit` names the limit that was passed. */
  readonly error: ProxyError
  /** One of the flags of the access log, as its line has it. */
  readonly flag: string
  /** When it was refused, in ms since the epoch. */
  readonly refusedWallMs: number
}

/** What every event of a connection to an origin has. */
export interface UpstreamEvent {
  /** Name of the peer for which the connection was opened; for `upstreamReused`, of the one that uses it now. */
  readonly peer: string
  /** The same object in every event of one connection. */
  readonly connection: StreamDigest
}

/** A new connection to an origin can carry exchanges. */
export interface UpstreamConnected extends UpstreamEvent {
  /** 'h1', 'h2'. */
  readonly protocol: string
  /** From the dial to a connection that can carry exchanges: name, addresses, CONNECT proxy and handshake included. ms. */
  readonly durationMs: number
  /** Addresses that were dialled, this one included. */
  readonly addressesTried: number
}

/** A dial failed. */
export interface UpstreamConnectFailed {
  /** Name of the peer for which it was dialled. */
  readonly peer: string
  /** What failed; `kind` says at which step. */
  readonly error: ProxyError
  /** From the dial to its failure, in ms. */
  readonly durationMs: number
  /** 0: not even its name could be resolved. */
  readonly addressesTried: number
}

/** A connection that was there before is lent to an attempt. */
export type UpstreamReused = UpstreamEvent

/** A connection to an origin is gone. */
export interface UpstreamClosed extends UpstreamEvent {
  /** 'h1', 'h2'. */
  readonly protocol: string
  /** Exchanges that it carried. */
  readonly exchanges: number
  /** Since `upstreamConnected`, in ms. */
  readonly openMs: number
  /** All bytes from the origin, heads and framing included. */
  readonly bytesReceived: number
  /** All bytes to the origin, heads and framing included. */
  readonly bytesSent: number
  /** Who began to end it: the proxy (time limit, eviction, a failed exchange), or the origin, or what lies between. */
  readonly closedBy: 'proxy' | 'origin'
  /** An exchange had it when its end began; otherwise it was idle, or had just been given back. */
  readonly inUse: boolean
  /** What the transport said; null after an orderly end. */
  readonly error: Error | null
}

/** A client was let in. */
export interface DownstreamAccepted {
  /** Name of the listener: `<service>/<address as written>`. */
  readonly listener: string
  /** The client's connection; the same object in both events of it. */
  readonly client: StreamDigest
}

/** What said no: an option of the listener, or a limit of the whole worker ('max-connections', 'memory-budget'). */
export type RefusalReason = 'max-connections' | 'max-connections-per-client' | 'connection-filter' | 'memory-budget'

/** A client was turned away. */
export interface DownstreamRefused {
  /** Name of the listener: `<service>/<address as written>`. */
  readonly listener: string
  /** '' for a Unix socket, or when the kernel did not say. */
  readonly clientIp: string
  /** Which limit was reached, or that the filter said no. */
  readonly reason: RefusalReason
}

/**
 * How a handshake with a client ended: 'ok'; it was late; the client left; sent a request of plain HTTP; has no version, no cipher or
 * group, no protocol (ALPN) in common with us; asked for a name without a certificate; showed no certificate that would do; sent an
 * alert, as when it does not trust ours; broke the rules; we cut it, for want of room or at our end; or it is our own fault.
 */
export type HandshakeResult =
  | 'ok' | 'timeout' | 'client-gone' | 'plain-http' | 'version' | 'no-overlap' | 'alpn' | 'unknown-name' | 'client-certificate'
  | 'client-alert' | 'protocol' | 'cut' | 'internal'

/** A handshake with a client is over. */
export interface HandshakeEnded extends DownstreamAccepted {
  /** Whether it is one that can carry requests, and why not. */
  readonly result: HandshakeResult
  /** The name that the client asked for (SNI), in lower case; '': none, or none that could be read. */
  readonly serverName: string
  /** What Node.js or OpenSSL calls it, such as `ERR_SSL_NO_SHARED_CIPHER`; '': nothing was said. */
  readonly error: string
  /** `TLSv1.3` or `TLSv1.2`; '' unless it went well. */
  readonly version: string
  /** An earlier session was taken up again. */
  readonly resumed: boolean
  /** From the whole ClientHello to its end, waiting for its turn included, in ms; 0: there was no whole one. */
  readonly durationMs: number
}

/** A client's connection is gone. */
export interface DownstreamClosed extends DownstreamAccepted {
  /** 'h1', 'h2'; '' when it ended before that was known. */
  readonly protocol: string
  /** Request heads seen, refused ones included. */
  readonly requests: number
  /** All bytes from the client, heads and framing included. */
  readonly bytesReceived: number
  /** All bytes to the client, heads and framing included. */
  readonly bytesSent: number
  /** Since it was accepted, in ms; 0 when that time is unknown. */
  readonly openMs: number
}

/**
 * Watches exchanges, attempts and connections; every callback may be left out. It cannot change or fail anything: what it throws is
 * counted in `tracerFaults`. It runs inside the exchange, so it must be quick. In what it is told, times that end in `At` are
 * monotonic ms, 0 for what did not happen; `WallMs` is ms since 1970; bytes are those of bodies without framing, except for
 * connections, where they are all bytes.
 */
export interface Tracer {
  /** First of an exchange, once: before any hook. For a peer's tracer: before the first attempt at that peer. */
  exchangeStarted?(event: ExchangeStarted): void
  /** A peer was chosen. Once per attempt. */
  attemptStarted?(event: AttemptStarted): void
  /** The attempt has a connection, new or reused. At most once per attempt. */
  attemptConnected?(event: AttemptConnected): void
  /** The origin's final head, 101 included, came in. At most once per attempt. */
  attemptResponded?(event: AttemptResponded): void
  /** Last of an attempt, once per `attemptStarted`, and before `exchangeRetried` or `exchangeEnded`. */
  attemptEnded?(event: AttemptEnded): void
  /** An attempt failed and another one was decided on. */
  exchangeRetried?(event: ExchangeRetried): void
  /** Last of an exchange, once per `exchangeStarted`: behind the access log and before the hook `logging`. */
  exchangeEnded?(event: ExchangeEnded): void
  /** A head was refused before it became a request: there is no exchange. A peer's tracer does not hear of it. */
  requestRefused?(event: RequestRefused): void

  /**
   * A new connection can carry exchanges. Once per connection, before any attempt has it. Told to those who watch the
   * attempt that began its dial, and so is `upstreamClosed`.
   */
  upstreamConnected?(event: UpstreamConnected): void
  /** A dial failed, once per dial, however many attempts waited for it. A dial that is no longer wanted tells nothing. */
  upstreamConnectFailed?(event: UpstreamConnectFailed): void
  /** A connection that was there before is lent to an attempt: `attemptConnected` is next. */
  upstreamReused?(event: UpstreamReused): void
  /** Exactly once per `upstreamConnected`, whatever ended it, when the transport is gone. */
  upstreamClosed?(event: UpstreamClosed): void

  /** A client was let in. A peer's tracer hears of no client. */
  downstreamAccepted?(event: DownstreamAccepted): void
  /** A client was turned away by its listener: its connection was reset before anything was read. */
  downstreamRefused?(event: DownstreamRefused): void
  /** A handshake is over, on listeners for TLS. At most once per `downstreamAccepted`, and before `downstreamClosed`. */
  handshakeEnded?(event: HandshakeEnded): void
  /** Exactly once per `downstreamAccepted`, when the connection is gone. */
  downstreamClosed?(event: DownstreamClosed): void
}
