/**
 * Finishes what is in flight and takes nothing new. Two words: **retire** (a replacement serves new connections; an idle one
 * is kept for its next request, which gets `Connection: close`, and closed only after idleDrainMs) and **stop** (the same
 * for STOP_IDLE_MS and until nothing is in flight, then idle ones get a lingering close). Ends as soon as the last
 * connection is gone; requests left at hardDrainMs are cut. What that ends in order (an event stream, an answer that was not begun,
 * streams of HTTP/2) gets to its client: a retirement gives it CUT_MS, a stop as much as the kernel takes.
 *
 * Upgraded connections have times of their own, webSocketDrainMs and tunnelDrainMs. A retirement spreads what it closes
 * over closeSpreadMs, so that not all clients come back at once. A stop has hardDrainMs for everything: they are closed
 * STOP_CLOSE_MS before it at the latest, and cut with the rest.
 *
 *   Retiring --idleDrainMs--> Thinning       Stopping --nothing in flight--> Quiet
 *       \__________\__tighten(stop)__________▶ ◀──a request after all──────────/
 *   any of them --no connection--> Ended
 *
 * Times only ever get shorter: a second request counts from when it comes, and an earlier deadline of the first one stays.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { Clock } from '../primitives/clock.ts'
import type { DownstreamConnection } from '../protocols/http-connection.ts'
import type { Tunnel } from '../proxy/tunnel.ts'
import type { DrainRequest } from './service.ts'

export interface DrainSubject {
  readonly clock: Clock
  /** Those that nothing counts as well. */
  connections(): readonly DownstreamConnection[]
  tunnels(): readonly Tunnel[]
  /** Connections that the drain waits for. */
  readonly open: number
  /** Exchanges under way. */
  readonly active: number
  /** Once, when nothing is open any more. */
  onDrained(): void
}

/** How often deadlines are looked at; ends are seen at once, because the subject then calls `look`. */
const LOOK_MS = 100

/** On stop, an upgraded connection gets at least this much of hardDrainMs to close in order. */
const STOP_CLOSE_MS = 2000

/**
 * On stop, an idle connection is kept this long: a request that crosses our FIN on the way is lost, and of busy clients
 * one is always on its way. Its answer says `Connection: close`. Longer than the pauses of such clients and a round trip
 * around the world; short enough for a stop with nothing but idle connections.
 */
const STOP_IDLE_MS = 300

/** On retire, what was written when a connection was cut has this long to get to the client. */
const CUT_MS = 1000

/** On stop, what only waits for the client's FIN, or for a first request, gets this long. */
const STOP_LINGER_MS = 1000

const NEVER = Number.POSITIVE_INFINITY

const State = {
  /** On retire; idle connections are kept. */
  Retiring: 0,
  /** On retire; closes of idle connections are spread over closeSpreadMs. */
  Thinning: 1,
  /** On stop; something is in flight, or idle connections have their moment. */
  Stopping: 2,
  /** On stop; idle connections are closing. */
  Quiet: 3,
  Ended: 4,
} as const
type State = (typeof State)[keyof typeof State]

export class Drain {
  /** Resolves when nothing is open. `cut`: exchanges and tunnels that were ended before their time. */
  readonly ended: Promise<{ cut: number }>
  readonly #subject: DrainSubject
  readonly #resolve: (result: { cut: number }) => void
  readonly #startedAt: number
  readonly #stopLooking: () => void
  #state: State = State.Retiring
  #cutAt = NEVER
  #webSocketsEndAt = NEVER
  #tunnelsEndAt = NEVER
  #tunnelsLookedAt = -NEVER
  #idleEndAt = NEVER
  #closeSpreadMs = NEVER
  #cut = 0
  #cutting = false
  readonly #cutSeen = new WeakSet<DownstreamConnection>()
  /** Where in the spread a tunnel's turn is, 0 to 1. */
  readonly #turns = new WeakMap<Tunnel, number>()
  /** When `Quiet` began. */
  #quietSince = NEVER

  constructor(request: DrainRequest, subject: DrainSubject) {
    const { promise, resolve } = Promise.withResolvers<{ cut: number }>()
    this.ended = promise
    this.#resolve = resolve
    this.#subject = subject
    this.#startedAt = subject.clock.exact()
    this.#stopLooking = subject.clock.every(LOOK_MS, () => this.look())
    this.#take(request)
  }

  /** Asked once more: of each time the earlier one holds, and a stop makes a retirement a stop. */
  tighten(request: DrainRequest): void {
    this.#take(request)
    this.look()
  }

  get #stops(): boolean { return this.#state >= State.Stopping }

  #take(request: DrainRequest): void {
    const now = this.#subject.clock.exact()
    if (request.mode === 'stop' && !this.#stops) this.#state = State.Stopping
    this.#cutAt = Math.min(this.#cutAt, now + request.hardDrainMs)
    const latest = this.#stops ? Math.max(now, this.#cutAt - STOP_CLOSE_MS) : NEVER
    this.#webSocketsEndAt = Math.min(this.#webSocketsEndAt, now + request.webSocketDrainMs, latest)
    this.#tunnelsEndAt = Math.min(this.#tunnelsEndAt, now + request.tunnelDrainMs, latest)
    this.#tunnelsLookedAt = -NEVER
    // Well before the cut, which is not polite.
    const idleMs = this.#stops ? Math.min(STOP_IDLE_MS, request.hardDrainMs / 4) : request.idleDrainMs
    this.#idleEndAt = Math.min(this.#idleEndAt, now + idleMs)
    this.#closeSpreadMs = Math.min(this.#closeSpreadMs, request.closeSpreadMs)
  }

  /** Called whenever a connection or an exchange ended, and now and then. */
  look(): void {
    if (this.#state === State.Ended) return
    const subject = this.#subject
    if (subject.open === 0) {
      this.#state = State.Ended
      this.#stopLooking()
      subject.onDrained()
      this.#resolve({ cut: this.#cut })
      return
    }
    const now = subject.clock.exact()
    if (now >= this.#cutAt) this.#cutConnections(now)
    // The walk is left to the timer: thousands may be open, and as many may end.
    const tunnelsEnd = now >= Math.min(this.#webSocketsEndAt, this.#tunnelsEndAt)
    if (tunnelsEnd && now - this.#tunnelsLookedAt > LOOK_MS / 2) this.#endTunnels(now)
    if (this.#stops) this.#lookAtStop(now)
    else if (this.#state === State.Retiring && now >= this.#idleEndAt) {
      this.#state = State.Thinning
      for (const connection of subject.connections()) {
        subject.clock.after(subject.clock.random() * this.#closeSpreadMs, () => connection.closeIdle())
      }
    }
  }

  #endTunnels(now: number): void {
    this.#tunnelsLookedAt = now
    const spreadMs = this.#stops ? 0 : this.#closeSpreadMs
    for (const tunnel of this.#subject.tunnels()) {
      if (!tunnel.closing) {
        const endAt = tunnel.webSocket ? this.#webSocketsEndAt : this.#tunnelsEndAt
        if (now < endAt || now < endAt + this.#turnOf(tunnel) * spreadMs) continue
        this.#cut++
        tunnel.close()
      }
      if (this.#stops && now >= this.#cutAt) tunnel.destroy()
    }
  }

  #turnOf(tunnel: Tunnel): number {
    let turn = this.#turns.get(tunnel)
    if (turn === undefined) this.#turns.set(tunnel, turn = this.#subject.clock.random())
    return turn
  }

  #lookAtStop(now: number): void {
    const subject = this.#subject
    if (subject.active > 0 || now < this.#idleEndAt) {
      this.#state = State.Stopping
      return
    }
    if (this.#state === State.Stopping) {
      this.#state = State.Quiet
      this.#quietSince = now
      // The request of a client that has just been accepted is on its way; one that was answered has been told to go.
      for (const connection of subject.connections()) if (connection.requests > 0) connection.closeIdle()
    } else if (now - this.#quietSince >= STOP_LINGER_MS) {
      for (const connection of subject.connections()) if (connection.lingering || connection.idle) connection.destroy()
    }
  }

  #cutConnections(now: number): void {
    // A cut ends an exchange, which leads back here before the exchange has let go of its connection.
    if (this.#cutting) return
    this.#cutting = true
    const text = `still in flight after ${Math.round(now - this.#startedAt)} ms of draining`
    for (const connection of this.#subject.connections()) {
      if (!this.#cutSeen.has(connection)) {
        this.#cutSeen.add(connection)
        this.#cut += cutWith(connection)
        connection.cut(new ProxyError('DRAINING', 'internal', text))
      }
      // Tunnels have times of their own, and the last one leaves a connection that is cut then.
      if (connection.tunnels > 0) continue
      connection.closeIdle()
      if (connection.parting && !this.#stops && now < this.#cutAt + CUT_MS) continue
      // The kernel has all of it: without RST it sends that first.
      if (connection.lingering) connection.stream.destroy()
      else connection.destroy()
    }
    this.#cutting = false
  }
}

/** Exchanges that end with the connection, tunnels aside. A request of which only a part was seen counts as one. */
function cutWith(connection: DownstreamConnection): number {
  const { active, tunnels, idle, lingering } = connection
  if (active > tunnels) return active - tunnels
  return tunnels === 0 && !idle && !lingering ? 1 : 0
}
