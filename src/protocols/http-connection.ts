/**
 * A connection that carries HTTP exchanges, on either side of the proxy. An exchange on it is a session (http-session.ts).
 *
 *   HTTP/1  one exchange at a time: one object is both connection and session, and `begin` returns the object itself.
 *   HTTP/2  many exchanges at once: the connection makes a session for each stream.
 *
 * The pool, the connector and a service's book know connections; an exchange knows sessions. None of them asks which
 * protocol it is: whether another exchange may begin is `capacity`, whether one is under way is `active`.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { ByteStream, StreamDigest } from './byte-stream.ts'
import type { OriginTimes } from './http-options.ts'
import type { DownstreamOwner, DownstreamSession, UpstreamOwner, UpstreamSession } from './http-session.ts'

/** What one exchange may take of an origin. It travels with `begin`, so that peers with other limits share connections. */
export interface ExchangeLimits extends OriginTimes {
  /** Status line and fields of a response, in bytes. */
  readonly maxResponseHeadBytes: number
  /** Fields in a response head. */
  readonly maxResponseHeaderCount: number
  /** 1xx heads within a time that their session chooses. */
  readonly maxInterimResponses: number
  /** The same heads together, in bytes. */
  readonly maxInterimBytes: number
}

/** Why a parked connection ended: the origin closed it, sent bytes that no request had asked for, or its idle time was over. */
export type ParkedLoss = 'closed' | 'unexpected-bytes' | 'idle'

/** The pool, as the connections that it keeps see it. */
export interface ConnectionKeeper {
  /** A parked connection ended by itself. It is destroyed already. */
  onParkedLost(connection: UpstreamConnection, reason: ParkedLoss): void
  /**
   * `capacity` changed although no exchange began or ended: the origin said that it goes away (0 from now on), or that
   * it takes more streams at a time. Only shared connections say so, and not while they are parked.
   */
  onCapacityChanged(connection: UpstreamConnection): void
}

export interface UpstreamConnection {
  readonly digest: StreamDigest
  /** Its name in logs and tracers: 'h1', 'h2'. Nothing decides by it. */
  readonly protocol: string
  /** Peers with this key may use the connection. Set once, by the connector. */
  reuseKey: string
  /** Several exchanges may be under way on it at once. */
  readonly shared: boolean
  /**
   * Exchanges that may begin now, besides those under way. 0 for good once the connection takes no more: closed, told to go
   * away, or left by an exchange in a state that no other could start from.
   */
  readonly capacity: number
  /** Exchanges under way: begun, and not yet ended or aborted. */
  readonly active: number
  /** Exchanges begun so far. */
  readonly exchanges: number
  /** What the origin's `Keep-Alive: timeout` allows, less a second for the way; 0 when it said nothing. ms. */
  readonly originIdleMs: number
  /** Hears of changes of capacity while exchanges are under way; set by the pool. */
  keeper: ConnectionKeeper | null

  /** Starts an exchange. Only with `capacity` above 0. */
  begin(owner: UpstreamOwner, limits: ExchangeLimits): UpstreamSession
  /** No exchange is under way: waits for the next one, for at most `idleTimeoutMs` (> 0). */
  park(keeper: ConnectionKeeper, idleTimeoutMs: number): void
  /** Back from the pool; `begin` follows. Returns false when the connection was lost in the meantime. */
  unpark(): boolean
  /** Closes it now. Exchanges under way are faulted. Harmless when it is closed already, or its transport was handed over. */
  close(): void

  // Links of the pool's lists, so that taking and releasing allocate nothing. Only the pool touches them.
  poolNewer: UpstreamConnection | null
  poolOlder: UpstreamConnection | null
  poolKeyNewer: UpstreamConnection | null
  poolKeyOlder: UpstreamConnection | null
  /** Exchanges to which the pool has lent the connection. */
  poolLent: number
  /** Which coming to rest of the pool was its last one, counted from 1; 0 before the first. */
  poolParked: number
  /** When it was lent first, and its own part of the greatest age that its peers allow. */
  poolSince: number
  poolAge: number
  /** Takes no further exchange. */
  poolRetired: boolean
}

/** The exchange of one request, as the connection that read its head starts it. */
export interface RequestOwner extends DownstreamOwner {
  /** Called once, right after `onRequest` returned it. */
  begin(): void
}

/** The service behind a listener, as the connections that it accepted see it. */
export interface ConnectionHost {
  /** No further request is wanted on any connection: answers say so in the way of their protocol. */
  readonly draining: boolean
  /** A request head is complete. Returns what answers it, and refuses a body that is announced larger than `session.limits` allow. */
  onRequest(session: DownstreamSession): RequestOwner
  /** A head was refused before it became a request; the connection answers with `error.status` behind this call. */
  onRefused(connection: DownstreamConnection, error: ProxyError): void
}

/**
 * The listener that accepted a connection, as the connection sees it (server/connection-book.ts). To tell the same twice is
 * harmless; `onClosed` is told once, after everything else.
 */
export interface AcceptingListener {
  /** `idle` became true. */
  onIdle(connection: DownstreamConnection): void
  /** No exchange is under way, but it is not idle either: a part of a head came, or it only has to be closed. It may be cut. */
  onUnfinished(connection: DownstreamConnection): void
  /** It is neither: an exchange is under way, or will be at once. */
  onActive(connection: DownstreamConnection): void
  onClosed(connection: DownstreamConnection): void
  /** `next` goes on where `connection`, which has not begun a request, ends: the client speaks another version of HTTP. */
  replace(connection: DownstreamConnection, next: DownstreamConnection): void
}

export interface DownstreamConnection {
  readonly stream: ByteStream
  /** Name of the listener that accepted it. */
  readonly listener: string
  /** Its name in logs and tracers: 'h1', 'h2'. Nothing decides by it. */
  readonly protocol: string
  /** What the service knows of the connection; kept from request to request, null until the service sets it. */
  facts: object | null
  /** Counts the connection, and hears of it; null: no listener accepted it, or it is over. */
  acceptedBy: AcceptingListener | null
  /** The client under which it is counted; '': none. */
  countedAs: string
  /** Request heads seen so far, refused ones included. */
  readonly requests: number
  /** Exchanges under way. */
  readonly active: number
  /** Those of them that have become tunnels, which have times of their own. */
  readonly tunnels: number
  /** No exchange is under way, and nothing of a next request was seen. */
  readonly idle: boolean
  /** Only the client's FIN is still awaited. */
  readonly lingering: boolean
  /** Its last bytes are on their way to the client, and `destroy` would lose them. Ends by itself, as fast as the client takes them. */
  readonly parting: boolean

  /** Closes an idle connection politely; leaves any other alone. */
  closeIdle(): void
  /** Asks the client to send no further request here: the next answer says `Connection: close`, or GOAWAY is sent. */
  drain(): void
  /** Ends every exchange under way with `error`: answered when nothing was sent yet, cut otherwise. */
  cut(error: ProxyError): void
  /** Closes it now, with a reset: its descriptor is free when the call returns. */
  destroy(): void

  // Links of the service's book (server/connection-book.ts). Only the book touches them.
  bookNewer: DownstreamConnection | null
  bookOlder: DownstreamConnection | null
  listNewer: DownstreamConnection | null
  listOlder: DownstreamConnection | null
  inList: object | null
}
