/**
 * Gets an HTTP connection for a peer, pooled or new, lends it to exchanges, and takes it back afterwards.
 *
 *   reuse(peer)                 a pooled connection, at once; null when there is none                      \
 *   open(peer, waiter)          a new one, or a place in the queue: a callback follows, never at once      } acquire = either
 *   release(connection, peer)   the exchange is over: the connection goes on, to the pool, or is closed   /
 *
 * Every lending ends by exactly one `release`, also that of an exchange that failed (which aborts its session first) or
 * whose transport was detached (then when the tunnel has ended): the places of `maxConnectionsPerPeer` are counted by that.
 * The exchange begins in the call that hands the connection over, or right after `reuse`.
 *
 * Which protocol a new connection speaks is decided by `createConnection`. Where one may carry several exchanges, requests
 * wait for its dial together (connection-dial.ts); which connection serves which request is up to the pool.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import { isCounted, type Counted } from '../ipc/open-counts.ts'
import type { Peer } from '../peer/peer.ts'
import { ConnectionPool, PoolWaiter, type PeerConnections } from '../pool/connection-pool.ts'
import { Ticker } from '../primitives/clock.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { UpstreamConnection } from '../protocols/http-connection.ts'
import { Http1ClientSession } from '../protocols/http1/client-session.ts'
import { Http2ClientConnection } from '../protocols/http2/client-connection.ts'
import { tracersOfPeer, type TracerGroup } from '../telemetry/tracer-group.ts'
import { ConnectionDials, type ConnectionDial, type DialMember, type Transport } from './connection-dial.ts'
import { traceReused } from './connection-trace.ts'
import { HTTP_CONNECTOR_DEFAULTS, HTTP_CONNECTOR_OPTIONS, type HttpConnectorOptions } from './connector-options.ts'
import { NameWatch } from './name-watch.ts'
import { TransportConnector, type ConnectionFacts } from './transport-connector.ts'

/** Who waits for a connection. Exactly one of the two is called, once, unless the wait is cancelled first. */
export interface ConnectionWaiter {
  /**
   * The connection is lent to the waiter, whose exchange begins in this call.
   * @param reused it came out of the pool; false for a new connection
   */
  onConnection(connection: UpstreamConnection, reused: boolean): void
  onConnectionFailed(error: ProxyError): void
}

/**
 * Connections to origins: dials them, keeps them for the next request, limits them. A service makes its own; give several services one,
 * or one with options of yours: `httpProxyService(app, { connector: new HttpConnector({ maxIdlePerKey: 64 }) })`.
 */
export class HttpConnector {
  /** @internal */
  readonly ticker: Ticker
  /** @internal */
  readonly pool: ConnectionPool
  /** @internal */
  readonly transport: Transport
  readonly #dials: ConnectionDials

  /** @throws OptionError with every option that would not do. */
  constructor(options: HttpConnectorOptions = {}) {
    const resolved = resolveOptions<HttpConnectorOptions>('connector', HTTP_CONNECTOR_OPTIONS, options, HTTP_CONNECTOR_DEFAULTS)
    const { ticker, transport, createConnection, expectedExchanges, ...poolOptions } = resolved
    this.ticker = ticker ?? new Ticker()
    this.pool = new ConnectionPool(this.ticker, poolOptions)
    this.transport = transport ?? new TransportConnector({ ticker: this.ticker })
    const { resolver } = this.transport
    this.#dials = new ConnectionDials({
      pool: this.pool,
      transport: this.transport,
      ticker: this.ticker,
      names: resolver === undefined ? null : new NameWatch(this.pool, resolver, this.ticker),
      createConnection: createConnection ?? createHttpConnection,
      expectedExchanges: expectedExchanges ?? exchangesOfPeer,
    })
  }

  /**
   * @internal
   * A pooled connection for this peer, lent to the caller; null when none has room.
   * @param tracers are told of it; null: none. Left out: the peer's own
   * @param fresh one that is at rest will not do
   */
  reuse(peer: Peer, tracers: TracerGroup | null = tracersOfPeer(peer), fresh = false): UpstreamConnection | null {
    const connection = this.pool.take(peer.reuseKey, fresh)
    if (connection !== null && tracers !== null) traceReused(tracers, peer, connection)
    return connection
  }

  /**
   * @internal
   * A new connection for this peer. The waiter is called later, never before this returns.
   * @param tracers are told of it; null: none. Left out: the peer's own
   * @param fresh one that was at rest will not do either
   */
  open(
    peer: Peer, waiter: ConnectionWaiter, tracers: TracerGroup | null = tracersOfPeer(peer), fresh = false,
  ): PendingAcquire {
    const pending = new PendingAcquire(this.pool, this.#dials, peer, waiter, tracers, fresh)
    pending.start()
    return pending
  }

  /** @internal A pooled connection at once, without calling the waiter; or the wait for a new one. */
  acquire(peer: Peer, waiter: ConnectionWaiter): UpstreamConnection | PendingAcquire {
    return this.reuse(peer) ?? this.open(peer, waiter)
  }

  /** @internal The exchange to which the connection was lent is over. @returns whether the connection is still open. */
  release(connection: UpstreamConnection, peer: Peer): boolean { return this.pool.release(connection, peer) }

  /** @internal A connection as a promise, for what is not in a hurry. Rejects with a ProxyError, or with the reason of `signal`. */
  getConnection(peer: Peer, signal?: AbortSignal): Promise<UpstreamConnection> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    const connection = this.reuse(peer)
    if (connection !== null) return Promise.resolve(connection)
    const { promise, resolve, reject } = Promise.withResolvers<UpstreamConnection>()
    const onAbort = (): void => {
      pending.cancel()
      reject(signal!.reason as Error)
    }
    const pending = this.open(peer, {
      onConnection(opened) {
        signal?.removeEventListener('abort', onAbort)
        resolve(opened)
      },
      onConnectionFailed(error) {
        signal?.removeEventListener('abort', onAbort)
        reject(error)
      },
    })
    signal?.addEventListener('abort', onAbort, { once: true })
    return promise
  }

  /** Closes idle connections, the oldest first, at most `max`. @returns how many. */
  closeIdle(max = Infinity): number { return this.pool.closeIdle(max) }

  /** Keeps no connection from now on. Exchanges under way, and new ones, go on. */
  close(): void { this.pool.close() }

  /** @internal What counts in it; its transport and its names may be shared with others. */
  counted(): Counted[] {
    const parts: (object | undefined)[] = [this.pool, this.transport, this.transport.resolver]
    return parts.filter(isCounted)
  }

  /** Connections by the peer's name. */
  stats(): PeerConnections[] {
    const byPeer = new Map<string, { -readonly [K in keyof PeerConnections]: PeerConnections[K] }>()
    for (const row of this.pool.connections()) {
      const sum = byPeer.get(row.peer)
      if (sum === undefined) byPeer.set(row.peer, { ...row })
      else {
        sum.active += row.active
        sum.idle += row.idle
        sum.dialling += row.dialling
        sum.waiting += row.waiting
      }
    }
    return [...byPeer.values()]
  }
}

const AcquireState = { New: 0, Waiting: 1, Dialling: 2, Done: 3 } as const
type AcquireState = (typeof AcquireState)[keyof typeof AcquireState]

/**
 * The way to a connection.
 *
 *   New ---join()----------------------> Dialling, a dial of its own or another's ---> Done
 *    |  ---admit()-> [Waiting] -onPlace-> ^   | the connection had no room for this one
 *    |                 ^                      |
 *    |                 +-------- start() <----+
 *    +--cancel(), from anywhere, or the queue is full -------------------------------> Done
 */
export class PendingAcquire extends PoolWaiter implements DialMember {
  dial: ConnectionDial | null = null
  dialNext: DialMember | null = null
  dialPrevious: DialMember | null = null
  #state: AcquireState = AcquireState.New
  readonly #pool: ConnectionPool
  readonly #dials: ConnectionDials
  readonly #waiter: ConnectionWaiter
  readonly tracers: TracerGroup | null

  constructor(
    pool: ConnectionPool, dials: ConnectionDials, peer: Peer, waiter: ConnectionWaiter, tracers: TracerGroup | null, fresh: boolean,
  ) {
    super(peer, pool, fresh)
    this.#pool = pool
    this.#dials = dials
    this.#waiter = waiter
    this.tracers = tracers
  }

  /** Called by the connector, once. */
  start(): void {
    if (this.#dials.join(this)) {
      this.#state = AcquireState.Dialling
      return
    }
    switch (this.#pool.admit(this)) {
      case 'granted': this.onPlace(); break
      case 'queued': this.#state = AcquireState.Waiting; break
      case 'full':
        this.#state = AcquireState.New
        process.nextTick(failFull, this)
        break
    }
  }

  /** The connection is not wanted any more; no callback follows. Harmless when the wait is over already. */
  cancel(): void {
    const state = this.#state
    this.#state = AcquireState.Done
    if (state === AcquireState.Waiting) this.#pool.leave(this)
    else if (state === AcquireState.Dialling) this.#dials.leave(this)
  }

  override onPlace(): void {
    this.#state = AcquireState.Dialling
    this.#dials.begin(this)
  }

  override onHandedOver(connection: UpstreamConnection): void {
    this.#state = AcquireState.Done
    if (this.tracers !== null) traceReused(this.tracers, this.peer, connection)
    this.#waiter.onConnection(connection, true)
  }

  override onWaitFailed(error: ProxyError): void { this.fail(error) }

  onEstablished(connection: UpstreamConnection): void {
    this.#state = AcquireState.Done
    this.#waiter.onConnection(connection, false)
  }

  onDialFailed(error: ProxyError): void { this.fail(error) }

  onNoRoom(): void {
    const connection = this.#pool.take(this.peer.reuseKey, this.fresh)
    if (connection === null) this.start()
    else this.onHandedOver(connection)
  }

  fail(error: ProxyError): void {
    if (this.#state === AcquireState.Done) return
    this.#state = AcquireState.Done
    this.#waiter.onConnectionFailed(error)
  }
}

function failFull(pending: PendingAcquire): void {
  const { name, options } = pending.peer
  const text = `${name}: ${options.maxQueuedPerPeer} requests wait for one of ${options.maxConnectionsPerPeer} connections already`
  // Nothing was sent, and another peer may have a place.
  pending.fail(new ProxyError('POOL_QUEUE_FULL', 'upstream', text, { retry: 'always', limit: 'queued-per-peer' }))
}

/** What ALPN has settled on; without TLS the peer alone says it (RFC 9113 3.3). */
function createHttpConnection(stream: ByteStream, { options, tls }: Peer, ticker: Ticker, { alpn }: ConnectionFacts): UpstreamConnection {
  const isHttp2 = alpn === 'h2' || (options.alpn === 'h2' && !tls)
  return isHttp2 ? new Http2ClientConnection(stream, ticker, options, tls) : new Http1ClientSession(stream, ticker)
}

function exchangesOfPeer({ options }: Peer): number { return options.alpn === 'h1' ? 1 : options.maxH2Streams }
