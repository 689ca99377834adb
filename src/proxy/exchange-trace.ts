/**
 * What the tracers of one exchange are told, and of its attempts. There is an object of these only where some tracer watches
 * (tracer.ts says who hears what); exchange and attempt hold null otherwise, and pay a comparison.
 *
 * The audience of an exchange is its service's tracers, and grows by the tracer of each peer that is tried: such a tracer is
 * told of the start when it joins, and of the end like the others. An attempt is told of to the service's tracers and to that
 * of its own peer.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { Peer } from '../peer/peer.ts'
import type { Clock } from '../primitives/clock.ts'
import type { StreamDigest } from '../protocols/byte-stream.ts'
import type { AttemptEvent, ExchangeStarted, Tracer } from '../telemetry/tracer.ts'
import { NO_TRACERS, type TracerGroup } from '../telemetry/tracer-group.ts'
import type { FinishedExchange } from './exchange-host.ts'

/** An exchange, as its trace reads it. */
export interface TracedExchange extends FinishedExchange {
  readonly upgraded: boolean
  readonly retryBudgetSpent: boolean
  /** 0: it is not known. */
  readonly endedAt: number
}

/** An attempt, as its trace reads it when it is over. */
export interface TracedAttempt {
  readonly reused: boolean
  readonly status: number
  readonly connectedAt: number
  readonly sentAt: number
  readonly firstByteAt: number
  readonly endedAt: number
}

let exchangesTraced = 0

export class ExchangeTrace {
  readonly exchangeId: number = ++exchangesTraced
  readonly clock: Clock
  readonly #exchange: TracedExchange
  /** NaN: none was told of it yet. */
  #startedWallMs = Number.NaN
  #audience: TracerGroup

  /** @param tracers of the service; null: it has none, and a peer's will join */
  constructor(exchange: TracedExchange, tracers: TracerGroup | null, clock: Clock) {
    this.clock = clock
    this.#exchange = exchange
    this.#audience = tracers ?? NO_TRACERS
    this.#audience.exchangeStarted?.tell(this.#start())
  }

  get requestId(): string { return this.#exchange.requestId }

  #start(): ExchangeStarted {
    const { exchangeId, requestId } = this
    const { request, listener, clientIp, digest, startedAt, trace } = this.#exchange
    const startedWallMs = this.#wallOfStart(this.clock.exact())
    return { exchangeId, requestId, request, listener, clientIp, client: digest, startedAt, startedWallMs, trace }
  }

  /** The same for every event of the exchange: reading the clock is a good part of what a trace costs. */
  #wallOfStart(now: number): number {
    if (Number.isNaN(this.#startedWallMs)) this.#startedWallMs = this.clock.wall() - (now - this.#exchange.startedAt)
    return this.#startedWallMs
  }

  /** @param tracers of the service and of the peer */
  attempt(peer: Peer, tracers: TracerGroup): AttemptTrace {
    const { tracer } = peer.options
    if (tracer !== null && !this.#audience.includes(tracer)) this.#join(tracer)
    return new AttemptTrace(this, tracers, peer.name, this.#exchange.attempts)
  }

  #join(tracer: Tracer): void {
    this.#audience = this.#audience.with(tracer)
    NO_TRACERS.with(tracer).exchangeStarted?.tell(this.#start())
  }

  /** Behind `AttemptTrace.ended`. */
  retried({ attempt, peer }: AttemptTrace, error: ProxyError, delayMs: number): void {
    const { exchangeId, requestId } = this
    this.#audience.exchangeRetried?.tell({ exchangeId, requestId, attempt, peer, error, delayMs })
  }

  /** Once, when the exchange and its attempts are over. */
  ended(): void {
    const audience = this.#audience.exchangeEnded
    if (audience === null) return
    const exchange = this.#exchange, { request, startedAt } = exchange
    const endedAt = exchange.endedAt === 0 ? this.clock.exact() : exchange.endedAt
    audience.tell({
      exchangeId: this.exchangeId,
      requestId: exchange.requestId,
      listener: exchange.listener,
      clientIp: exchange.clientIp,
      client: exchange.digest,
      method: request.method,
      scheme: request.scheme,
      authority: request.authority,
      target: request.target,
      version: request.version,
      status: exchange.status,
      flag: exchange.flag,
      bytesReceived: exchange.bytesReceived,
      bytesSent: exchange.bytesSent,
      startedAt,
      startedWallMs: this.#wallOfStart(endedAt),
      endedAt,
      durationMs: endedAt - startedAt,
      attempts: exchange.attempts,
      peer: exchange.peer === null ? '' : exchange.peer.name,
      reused: exchange.upstreamReused,
      upstreamStatus: exchange.upstreamStatus,
      connectedAt: exchange.connectedAt,
      sentAt: exchange.sentAt,
      firstByteAt: exchange.firstByteAt,
      upgraded: exchange.upgraded,
      ownAnswer: exchange.ownAnswer,
      retryBudgetSpent: exchange.retryBudgetSpent,
      error: exchange.error,
      trace: exchange.trace,
    })
  }
}

const TraceState = { Open: 0, Over: 1, Told: 2 } as const
type TraceState = (typeof TraceState)[keyof typeof TraceState]

/** Open ──over()─▶ Over ──ended()─▶ Told: what it carried is known before it is known what follows. */
export class AttemptTrace {
  readonly attempt: number
  readonly peer: string
  readonly #exchange: ExchangeTrace
  readonly #tracers: TracerGroup
  readonly #startedAt: number
  #state: TraceState = TraceState.Open
  #endedAt = 0
  #bytesSent = 0
  #bytesReceived = 0

  constructor(exchange: ExchangeTrace, tracers: TracerGroup, peer: string, attempt: number) {
    this.attempt = attempt
    this.peer = peer
    this.#exchange = exchange
    this.#tracers = tracers
    this.#startedAt = exchange.clock.exact()
    tracers.attemptStarted?.tell({ ...this.#event(), startedAt: this.#startedAt })
  }

  #event(): AttemptEvent {
    const { exchangeId, requestId } = this.#exchange
    return { exchangeId, requestId, attempt: this.attempt, peer: this.peer }
  }

  connected(connection: StreamDigest, protocol: string, reused: boolean, connectedAt: number): void {
    this.#tracers.attemptConnected?.tell({ ...this.#event(), connection, protocol, reused, connectedAt })
  }

  responded(status: number, firstByteAt: number): void {
    this.#tracers.attemptResponded?.tell({ ...this.#event(), status, firstByteAt })
  }

  /** The connection became raw: what passed before its end, each way. */
  tunnelled(bytesSent: number, bytesReceived: number): void {
    this.#bytesSent += bytesSent
    this.#bytesReceived += bytesReceived
  }

  /** The session is about to be given back, or there was none. What is said again later does not count. */
  over(bytesSent: number, bytesReceived: number, endedAt: number): void {
    if (this.#state !== TraceState.Open) return
    this.#state = TraceState.Over
    this.#endedAt = endedAt
    this.#bytesSent += bytesSent
    this.#bytesReceived += bytesReceived
  }

  /** It is known why it ended and whether another attempt follows. Only the first call counts. */
  ended(last: TracedAttempt, error: ProxyError | null, retried: boolean): void {
    if (this.#state === TraceState.Told) return
    this.over(0, 0, last.endedAt)
    this.#state = TraceState.Told
    const audience = this.#tracers.attemptEnded
    if (audience === null) return
    const { reused, status, connectedAt, sentAt, firstByteAt } = last
    audience.tell({
      ...this.#event(),
      reused, status,
      startedAt: this.#startedAt,
      connectedAt, sentAt, firstByteAt,
      endedAt: this.#endedAt,
      bytesSent: this.#bytesSent,
      bytesReceived: this.#bytesReceived,
      error, retried,
    })
  }
}
