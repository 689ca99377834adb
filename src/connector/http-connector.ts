/**
 * Gets an HTTP session for a peer, pooled or new, and takes it back afterwards.
 *
 *   reuse(peer)          the pooled session used last, at once; null when there is none        \
 *   open(peer, waiter)   a new one, or a place in the queue: a callback follows, never at once  } acquire = either
 *   release(session)     to the pool when it can be used again; else closed                    /
 *   discard(session)     closed
 *
 * Every session that was handed out comes back by exactly one `release` or `discard`, also one whose exchange failed
 * or whose transport was detached (then when the tunnel has ended): the places of `maxConnectionsPerPeer` are counted by that.
 *
 * The protocol of a new connection is decided in one place, `PendingAcquire.onDialed`: HTTP/1 now; HTTP/2 joins there by
 * ALPN, with pool/http2-pool.ts asked before pool/connection-pool.ts in `reuse`.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { Peer } from '../peer/peer.ts'
import { ConnectionPool, PoolWaiter, type PeerConnections } from '../pool/connection-pool.ts'
import { Ticker } from '../primitives/clock.ts'
import { resolveOptions } from '../primitives/option-table.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { UpstreamSession } from '../protocols/http-session.ts'
import { Http1ClientSession } from '../protocols/http1/client-session.ts'
import { HTTP_CONNECTOR_DEFAULTS, HTTP_CONNECTOR_OPTIONS, type HttpConnectorOptions, type SessionFactory, type Transport } from './connector-options.ts'
import { traceReused } from './traced-stream.ts'
import { TransportConnector, type DialWaiter, type PendingDial } from './transport-connector.ts'

/** Who waits for a session. Exactly one of the two is called, once, unless it cancels first. */
export interface SessionWaiter {
  /** `reused`: it came out of the pool; false for a new connection. */
  onSession(session: UpstreamSession, reused: boolean): void
  onSessionFailed(error: ProxyError): void
}

export class HttpConnector {
  readonly ticker: Ticker
  readonly pool: ConnectionPool
  readonly transport: Transport
  readonly createSession: SessionFactory

  /** @throws OptionError with every option that would not do. */
  constructor(options: HttpConnectorOptions = {}) {
    const resolved = resolveOptions<HttpConnectorOptions>('connector', HTTP_CONNECTOR_OPTIONS, options, HTTP_CONNECTOR_DEFAULTS)
    const { ticker, transport, createSession, ...poolOptions } = resolved
    this.ticker = ticker ?? new Ticker()
    this.pool = new ConnectionPool(this.ticker, poolOptions)
    this.transport = transport ?? new TransportConnector({ ticker: this.ticker })
    this.createSession = createSession ?? createHttp1Session
  }

  /** A pooled session for this peer, lent to the caller; null when there is none. */
  reuse(peer: Peer): UpstreamSession | null {
    const session = this.pool.take(peer.reuseKey)
    if (session !== null) {
      const { tracer } = peer.options
      if (tracer !== null) traceReused(tracer, peer.name, session.digest)
    }
    return session
  }

  /** A new session for this peer. The waiter is called later, never before this returns. */
  open(peer: Peer, waiter: SessionWaiter): PendingAcquire {
    const pending = new PendingAcquire(this, peer, waiter)
    pending.start()
    return pending
  }

  /** A pooled session at once, without calling the waiter; or the wait for a new one. */
  acquire(peer: Peer, waiter: SessionWaiter): UpstreamSession | PendingAcquire {
    return this.reuse(peer) ?? this.open(peer, waiter)
  }

  /** The exchange on a session is over. @returns whether it was kept for another one. */
  release(session: UpstreamSession, peer: Peer): boolean {
    if (session.reusable) return this.pool.put(session, peer)
    this.pool.discard(session)
    return false
  }

  /** Closes a session that was handed out. */
  discard(session: UpstreamSession): void { this.pool.discard(session) }

  /** A session as a promise, for what is not in a hurry. Rejects with a ProxyError, or with the reason of `signal`. */
  getSession(peer: Peer, signal?: AbortSignal): Promise<UpstreamSession> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    const session = this.reuse(peer)
    if (session !== null) return Promise.resolve(session)
    const { promise, resolve, reject } = Promise.withResolvers<UpstreamSession>()
    const onAbort = (): void => {
      pending.cancel()
      reject(signal!.reason as Error)
    }
    const pending = this.open(peer, {
      onSession(opened) {
        signal?.removeEventListener('abort', onAbort)
        resolve(opened)
      },
      onSessionFailed(error) {
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

/** The way to a session: New -> [Waiting for a place] -> Dialling -> Done; Done from anywhere by `cancel`. */
export class PendingAcquire extends PoolWaiter implements DialWaiter {
  #state: AcquireState = AcquireState.New
  readonly #connector: HttpConnector
  readonly #waiter: SessionWaiter
  #dial: PendingDial | null = null

  constructor(connector: HttpConnector, peer: Peer, waiter: SessionWaiter) {
    super(peer, connector.pool)
    this.#connector = connector
    this.#waiter = waiter
  }

  /** Called once, by the connector. */
  start(): void {
    switch (this.#connector.pool.admit(this)) {
      case 'granted': this.onPlace(); break
      case 'queued': this.#state = AcquireState.Waiting; break
      case 'full': process.nextTick(failFull, this); break
    }
  }

  /** Nobody wants the session any more; no callback follows. Harmless when it is over already. */
  cancel(): void {
    const state = this.#state
    this.#state = AcquireState.Done
    if (state === AcquireState.Waiting) this.#connector.pool.leave(this)
    else if (state === AcquireState.Dialling) {
      this.#dial!.cancel()
      this.#connector.pool.abandon(this.peer.reuseKey)
    }
  }

  override onPlace(): void {
    this.#state = AcquireState.Dialling
    this.#dial = this.#connector.transport.dial(this.peer, this)
  }

  override onHandedOver(session: UpstreamSession): void {
    this.#state = AcquireState.Done
    const { tracer } = this.peer.options
    if (tracer !== null) traceReused(tracer, this.peer.name, session.digest)
    this.#waiter.onSession(session, true)
  }

  override onWaitFailed(error: ProxyError): void { this.fail(error) }

  onDialed(stream: ByteStream, early: Buffer | null): void {
    if (this.#state !== AcquireState.Dialling) return
    const { pool, createSession, ticker } = this.#connector
    if (early !== null) {
      // They would be taken for the beginning of an answer to a request that was not sent yet.
      stream.destroy(true)
      pool.abandon(this.peer.reuseKey)
      this.fail(new ProxyError('UNEXPECTED_BYTES', 'upstream', `${this.peer.name}: ${early.length} bytes came behind the answer to CONNECT, before any request`, { limit: 'bad-framing' }))
      return
    }
    this.#state = AcquireState.Done
    const session = createSession(stream, this.peer, ticker)
    session.reuseKey = this.peer.reuseKey
    pool.lend(session)
    this.#waiter.onSession(session, false)
  }

  onDialFailed(error: ProxyError): void {
    if (this.#state !== AcquireState.Dialling) return
    this.#connector.pool.abandon(this.peer.reuseKey)
    this.fail(error)
  }

  fail(error: ProxyError): void {
    if (this.#state === AcquireState.Done) return
    this.#state = AcquireState.Done
    this.#waiter.onSessionFailed(error)
  }
}

function failFull(pending: PendingAcquire): void {
  const { name, options } = pending.peer
  // Nothing was sent, and another peer may have a place.
  pending.fail(new ProxyError('POOL_QUEUE_FULL', 'upstream', `${name}: ${options.maxQueuedPerPeer} requests wait for one of ${options.maxConnectionsPerPeer} connections already`, { retry: 'always', limit: 'queued-per-peer' }))
}

function createHttp1Session(stream: ByteStream, peer: Peer, ticker: Ticker): UpstreamSession {
  return new Http1ClientSession(stream, peer.options, ticker)
}
