/**
 * One try to get an answer from one peer: its connection, the exchange on it, and the verdict that the peer is told.
 *
 *   Connecting ──▶ Open ──▶ Over
 *        └────── fault, drop ─┘
 *
 * Every attempt ends by `finish` or `drop`, and tells its peer exactly one verdict: `report(true | false)`, or `release()`.
 * An attempt knows its owner by the interface below alone, and `passTo` gives it another one in the middle of the answer: it
 * does not end because a client left, only because its owner says so (a cache that goes on filling is such an owner).
 */
import type { HttpConnector, PendingAcquire, ConnectionWaiter } from '../connector/http-connector.ts'
import type { ProxyError } from '../errors/proxy-error.ts'
import { withoutZone } from '../http/authority.ts'
import { FieldLines } from '../http/field-lines.ts'
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead, ResponseHead } from '../http/message-head.ts'
import type { Peer } from '../peer/peer.ts'
import { isPromise } from '../primitives/application-call.ts'
import type { Clock } from '../primitives/clock.ts'
import { readTurn } from '../primitives/read-turn.ts'
import type { UpstreamConnection } from '../protocols/http-connection.ts'
import type { DetachedStream, RequestSetup, UpstreamOwner, UpstreamSession } from '../protocols/http-session.ts'
import type { ExchangeCounter } from '../telemetry/exchange-counter.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import type { FinishedExchange } from './exchange-host.ts'
import type { AttemptTrace } from './exchange-trace.ts'
import type { ResponseSource } from './response-source.ts'

/** What an attempt asks of the service. */
export interface AttemptHost {
  readonly connector: HttpConnector
  readonly clock: Clock
  /** Times are read (access log, tracer, counts): then they are taken. */
  readonly timed: boolean
  /** Null: nothing is counted. */
  readonly counting: ExchangeCounter | null
  /** Peers are told how attempts ended; otherwise only that they did. */
  readonly judgesPeers: boolean
  /** Code of the application whose result nothing waits for failed. @param exchange left out where it belongs to none */
  hookFailed(hook: string, thrown: unknown, exchange?: FinishedExchange): void
}

/** What an attempt tells: all that a session tells its owner, and how the connection came about. */
export interface AttemptOwner extends UpstreamOwner {
  /** A connection is there; `session` is set. */
  onAttemptConnected(): void
  /** No connection could be had. The peer has its verdict. */
  onAttemptUnconnected(error: ProxyError): void
}

/** A pooled connection that was lost before it brought a byte of an answer. */
export interface LostConnection {
  readonly reuseKey: string
  /** Those that came to rest by then (`parkings` of the pool) may have been lost with it. */
  readonly parkedBy: number
}

/** What the peer was told of an attempt. `Other`: that it did well, or that it ended without a verdict. */
const Told = { Nothing: 0, Other: 1, Failed: 2 } as const
type Told = (typeof Told)[keyof typeof Told]

/** Read by the session within `writeHead`: one serves all attempts. */
const setup: RequestSetup = { length: 0, lines: FieldLines.NONE, switchesTo: '', acceptsTrailers: false, defaultAuthority: '' }

export class Attempt implements UpstreamOwner, ConnectionWaiter, ResponseSource {
  readonly peer: Peer
  readonly #host: AttemptHost
  #owner: AttemptOwner
  /** Of the service and the peer; null: none. */
  readonly #tracers: TracerGroup | null
  /** Null: none watches, or the exchange is not to be seen. */
  readonly trace: AttemptTrace | null
  #pending: PendingAcquire | null = null
  /** Null before there is a connection, and once the attempt is over. */
  session: UpstreamSession | null = null
  /** The connection had been used before. */
  reused = false
  /** The head of the request went out: the origin may have acted on it. */
  sent = false
  /** The pooled connection that this attempt lost; null: none. */
  lost: LostConnection | null = null
  /** What an earlier attempt lost, until this one has an answer. */
  #after: LostConnection | null = null
  /** Status of the origin's final answer, as it was received; 0 before. */
  status = 0
  #told: Told = Told.Nothing
  #counted = false
  /** Exact times, 0 until known, and always where the host has no use for them. */
  startedAt = 0
  connectedAt = 0
  sentAt = 0
  firstByteAt = 0
  /** The read that brought it. */
  #firstTurn = 0
  /** The connection was given back, or there was none. */
  endedAt = 0

  constructor(
    host: AttemptHost, peer: Peer, owner: AttemptOwner, tracers: TracerGroup | null = null, trace: AttemptTrace | null = null,
  ) {
    this.#host = host
    this.peer = peer
    this.#owner = owner
    this.#tracers = tracers
    this.trace = trace
  }

  get kind(): 'origin' { return 'origin' }
  /** The peer was told that it failed. */
  get failed(): boolean { return this.#told === Told.Failed }

  /** From now on `owner` hears of everything. */
  passTo(owner: AttemptOwner): void { this.#owner = owner }

  // ---- the connection

  /**
   * @param after a connection that an earlier attempt lost: this one goes by a new one. Null: none was
   * @returns whether a pooled connection was there; otherwise the owner is called, never within this call
   */
  connect(after: LostConnection | null = null): boolean {
    const { connector } = this.#host, fresh = after !== null
    this.#after = after
    const connection = connector.reuse(this.peer, this.#tracers, fresh)
    if (connection === null) {
      if (this.#host.timed) this.startedAt = this.#host.clock.exact()
      this.#pending = connector.open(this.peer, this, this.#tracers, fresh)
      return false
    }
    this.#begin(connection, true)
    return true
  }

  onConnection(connection: UpstreamConnection, reused: boolean): void {
    this.#pending = null
    this.#begin(connection, reused)
    this.#owner.onAttemptConnected()
  }

  onConnectionFailed(error: ProxyError): void {
    this.#pending = null
    this.#over(0, 0)
    // A limit of our own, or of this machine, says nothing about the peer.
    const ours = error.source === 'internal' || error.kind === 'POOL_QUEUE_FULL' || error.kind === 'POOL_QUEUE_TIMEOUT'
    this.settle(ours ? null : false)
    this.#owner.onAttemptUnconnected(error)
  }

  #begin(connection: UpstreamConnection, reused: boolean): void {
    this.reused = reused
    if (this.#host.timed) this.connectedAt = this.#host.clock.exact()
    // One that was there needed no time.
    if (this.startedAt === 0) this.startedAt = this.connectedAt
    this.session = connection.begin(this, this.peer.options)
    this.trace?.connected(connection.digest, connection.protocol, reused, this.connectedAt)
  }

  // ---- the request

  /** @param atOnce nothing has run since the connection was there */
  send(head: RequestHead, length: number, lines: FieldLines, switchesTo: string, acceptsTrailers: boolean, atOnce: boolean): void {
    setup.length = length
    setup.lines = lines
    setup.switchesTo = switchesTo
    setup.acceptsTrailers = acceptsTrailers
    setup.defaultAuthority = authorityOf(this.peer)
    this.sent = true
    this.session!.writeHead(head, setup)
    if (this.#host.timed) this.sentAt = atOnce ? this.connectedAt : this.#host.clock.exact()
  }

  // ---- the answer

  onInterim(head: ResponseHead): void {
    this.#seeFirstByte()
    this.#owner.onInterim(head)
  }

  onResponseHead(head: ResponseHead, length: number): void {
    this.#seeFirstByte()
    this.status = head.status
    this.trace?.responded(head.status, this.firstByteAt)
    this.#owner.onResponseHead(head, length)
  }

  #seeFirstByte(): void {
    if (this.#host.timed && this.firstByteAt === 0) {
      this.firstByteAt = this.#host.clock.exact()
      this.#firstTurn = readTurn.number
    }
    if (this.#after !== null) this.#blameConnections(this.#after)
  }

  /** The origin answers, so it was the connection that failed before: those that were at rest then have failed as well. */
  #blameConnections(after: LostConnection): void {
    this.#after = null
    if (!this.reused && after.reuseKey === this.peer.reuseKey) this.#host.connector.pool.closeRested(after.reuseKey, after.parkedBy, true)
  }

  onResponseBody(buffer: Buffer, from: number, to: number, owned: boolean): void { this.#owner.onResponseBody(buffer, from, to, owned) }
  onResponseEnd(trailers: HeaderMap | null): void { this.#owner.onResponseEnd(trailers) }
  onUpstreamDrained(): void { this.#owner.onUpstreamDrained() }

  onUpstreamFault(error: ProxyError): void {
    const session = this.session
    if (this.reused && session !== null && !session.responseStarted) this.lost = this.#lostConnection(session.connection, error)
    this.#giveBack()
    this.settle(isBlameless(error) ? null : false)
    this.#owner.onUpstreamFault(error)
  }

  /** Null: it was not the connection that failed. */
  #lostConnection(connection: UpstreamConnection, { kind }: ProxyError): LostConnection | null {
    if (connection.capacity > 0) return null
    // Silence says something of those only that were at rest when it began.
    const silent = kind === 'FIRST_BYTE_TIMEOUT' || kind === 'WRITE_TIMEOUT'
    return { reuseKey: connection.reuseKey, parkedBy: silent ? connection.poolParked : this.#host.connector.pool.parkings }
  }

  pause(): void { this.session?.pauseResponse() }
  resume(): void { this.session?.resumeResponse() }
  giveUpBuffer(): void { this.session?.giveUpBuffer() }

  detach(): DetachedStream { return this.session!.detach() }

  // ---- the end

  /** Ends it whatever it is doing. The verdict is left to `settle`. */
  drop(): void {
    this.#pending?.cancel()
    this.#pending = null
    this.#giveBack()
  }

  /**
   * Both messages are over, or the owner needs no more of them.
   * @param good the peer did what was asked
   * @param atOnce nothing has run since the answer began but what passes it on
   */
  finish(good: boolean, atOnce: boolean): void {
    const isWhole = atOnce && this.#firstTurn !== 0 && this.#firstTurn === readTurn.number
    if (isWhole && this.endedAt === 0) this.endedAt = this.firstByteAt
    this.#pending?.cancel()
    this.#pending = null
    this.settle(good && this.session !== null ? true : null)
    this.#giveBack()
  }

  /** The connection goes back to the pool, which keeps it when another exchange may begin on it. */
  #giveBack(): void {
    const session = this.session
    if (session === null) return
    this.#over(session.bodyBytesOut, session.bodyBytesIn)
    this.session = null
    // An exchange that has not ended is given up; one that has is not touched by it.
    session.abort()
    this.#host.connector.release(session.connection, this.peer)
  }

  #over(bytesSent: number, bytesReceived: number): void {
    if (this.#host.timed && this.endedAt === 0) this.endedAt = this.#host.clock.exact()
    this.trace?.over(bytesSent, bytesReceived, this.endedAt)
  }

  /** It is known why it ended and whether another one follows: those who watch and count are told. Only the first call counts. */
  ended(error: ProxyError | null, retried: boolean): void {
    const { counting } = this.#host
    this.#over(0, 0)
    this.trace?.ended(this, error, retried)
    if (counting === null || this.#counted) return
    this.#counted = true
    counting.attemptOver(this, error, retried)
  }

  /** Tells the peer how the attempt ended, unless it knows; null: without a verdict. */
  settle(healthy: boolean | null): void {
    if (this.#told !== Told.Nothing) return
    this.#told = healthy === false ? Told.Failed : Told.Other
    tellPeer(this.#host, this.peer, healthy)
  }
}

/** How an attempt at it ended; null: without a verdict. Nothing comes back from a peer. */
export function tellPeer(host: AttemptHost, peer: Peer, healthy: boolean | null): void {
  const verdict = host.judgesPeers ? healthy : null
  try {
    const result: unknown = verdict === null ? peer.release?.() : peer.report?.(verdict)
    if (isPromise(result)) result.then(undefined, (thrown: unknown) => peerFailed(host, peer, verdict, thrown))
  } catch (thrown) {
    peerFailed(host, peer, verdict, thrown)
  }
}

function peerFailed(host: AttemptHost, { name }: Peer, verdict: boolean | null, thrown: unknown): void {
  host.hookFailed(`${verdict === null ? 'release' : 'report'} of peer ${name}`, thrown)
}

/**
 * The fault says nothing about the origin: it had closed a pooled connection meanwhile, or went away, or refused a stream,
 * before it looked at the request.
 */
function isBlameless({ kind, retry }: ProxyError): boolean {
  return retry === 'if-reused' || (retry === 'always' && kind !== 'UNEXPECTED_BYTES')
}

/** What a request without an authority is sent with. */
function authorityOf(peer: Peer): string {
  if (peer.sni !== '') return peer.sni
  return peer.address.kind === 'tcp' ? withoutZone(peer.name) : 'localhost'
}
