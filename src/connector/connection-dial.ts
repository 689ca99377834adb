/**
 * Dials of new HTTP connections, and the requests that wait for them.
 *
 * Where a connection may carry several exchanges, requests that find none wait for one dial together: as many as the
 * connection is expected to take, then the next dial begins. The dial has one place of `maxConnectionsPerPeer`, its members
 * have none.
 *
 *   Dialling ---established---> Delivering: members get the connection, first come first served, as many as it takes; the
 *      |                        others look for another one (an exclusive connection serves the first only)  ---> Over
 *      |---failed------------------> Delivering: every member fails ---------------------------------------------> Over
 *      +---the last member left-----------------------------------------------------------------------------------> Over
 *
 * The dial follows the options of the peer that began it, also where a member's peer has other time limits, and is told of to
 * the tracers of the member that began it. That a key's
 * connections turned out to be exclusive is remembered by the pool: from then on each request dials for itself.
 */
import { isOutOfDescriptors } from '../errors/local-faults.ts'
import { asProxyError, ProxyError } from '../errors/proxy-error.ts'
import type { Peer } from '../peer/peer.ts'
import type { ConnectionPool } from '../pool/connection-pool.ts'
import type { Ticker } from '../primitives/clock.ts'
import type { ByteStream } from '../protocols/byte-stream.ts'
import type { UpstreamConnection } from '../protocols/http-connection.ts'
import type { TracerGroup } from '../telemetry/tracer-group.ts'
import { ConnectionTrace } from './connection-trace.ts'
import type { NameSource, NameWatch } from './name-watch.ts'
import { NOTHING_NEGOTIATED, type ConnectionFacts, type DialWaiter, type PendingDial } from './transport-connector.ts'

/** What opens streams: TransportConnector, or a test's own. */
export interface Transport {
  /** One of the waiter's callbacks follows, never before this returns. */
  dial(peer: Peer, waiter: DialWaiter): PendingDial
  /** Where it has the addresses of names from. Left out: names are its own affair. */
  readonly resolver?: NameSource
}

/** Makes a connection of a stream, which has no other owner. Its `reuseKey` is set by the caller. */
export type ConnectionFactory = (stream: ByteStream, peer: Peer, ticker: Ticker, facts: ConnectionFacts) => UpstreamConnection

/** What the connector lends to its dials. */
export interface DialParts {
  readonly pool: ConnectionPool
  readonly transport: Transport
  readonly ticker: Ticker
  /** Null: names are not looked after. */
  readonly names: NameWatch | null
  readonly createConnection: ConnectionFactory
  /** Exchanges at a time that a new connection to this peer may turn out to carry. */
  readonly expectedExchanges: (peer: Peer) => number
}

/** A request that waits for a dial. One of the three is called, once, unless it leaves first. The link fields belong to the dial. */
export interface DialMember {
  readonly peer: Peer
  /** Are told of the connection when this member began its dial; null: none. */
  readonly tracers: TracerGroup | null
  dial: ConnectionDial | null
  dialNext: DialMember | null
  dialPrevious: DialMember | null
  /** The connection is lent to this one. */
  onEstablished(connection: UpstreamConnection): void
  onDialFailed(error: ProxyError): void
  /** The connection is established, and takes no more exchanges. */
  onNoRoom(): void
}

/** The dials that others may join, by reuse key. */
export class ConnectionDials {
  readonly parts: DialParts
  readonly #joinable = new Map<string, ConnectionDial>()

  constructor(parts: DialParts) { this.parts = parts }

  /** Lets `member` wait for a dial that is under way. @returns false when there is none with room, or those in the queue go first. */
  join(member: DialMember): boolean {
    if (this.#joinable.size === 0) return false
    const { reuseKey } = member.peer
    const dial = this.#joinable.get(reuseKey)
    if (dial === undefined || !this.parts.pool.mayJoin(reuseKey)) return false
    dial.add(member)
    if (!dial.hasRoom) this.#joinable.delete(reuseKey)
    return true
  }

  /** Dials for `member`, which has a place in the pool; the dial has it from now on. */
  begin(member: DialMember): void {
    const { peer, tracers } = member
    const { pool, ticker, expectedExchanges } = this.parts
    const expected = pool.prefersExclusive(peer.reuseKey) ? 1 : expectedExchanges(peer)
    const trace = tracers === null ? null : new ConnectionTrace(tracers, peer, ticker.clock)
    const dial = new ConnectionDial(this, peer, expected, trace)
    dial.add(member)
    dial.start()
    if (dial.hasRoom) this.#joinable.set(peer.reuseKey, dial)
  }

  leave(member: DialMember): void {
    const dial = member.dial!
    dial.remove(member)
    // It has room again; a later dial that has some goes on filling up first.
    if (dial.hasRoom && !this.#joinable.has(dial.peer.reuseKey)) this.#joinable.set(dial.peer.reuseKey, dial)
  }

  /** Called by a dial: no further member can be of use to it. */
  over(dial: ConnectionDial): void {
    const { reuseKey } = dial.peer
    if (this.#joinable.get(reuseKey) === dial) this.#joinable.delete(reuseKey)
  }
}

/** How many connections at rest are closed for a dial that found no descriptor: the next one finds some, and the pool stays of use. */
const DESCRIPTORS_GIVEN_BACK = 8

const DialState = { Dialling: 0, Delivering: 1, Over: 2 } as const
type DialState = (typeof DialState)[keyof typeof DialState]

export class ConnectionDial implements DialWaiter {
  /** The peer of the request that began it. */
  readonly peer: Peer
  readonly #dials: ConnectionDials
  readonly #expected: number
  readonly #trace: ConnectionTrace | null
  #state: DialState = DialState.Dialling
  #pending: PendingDial | null = null
  #members = 0
  #first: DialMember | null = null
  #last: DialMember | null = null

  constructor(dials: ConnectionDials, peer: Peer, expected: number, trace: ConnectionTrace | null) {
    this.#dials = dials
    this.peer = peer
    this.#expected = expected
    this.#trace = trace
  }

  /** Another request may join. */
  get hasRoom(): boolean { return this.#state === DialState.Dialling && this.#members < this.#expected }

  start(): void { this.#pending = this.#dials.parts.transport.dial(this.peer, this) }

  add(member: DialMember): void {
    member.dial = this
    member.dialPrevious = this.#last
    if (this.#last === null) this.#first = member
    else this.#last.dialNext = member
    this.#last = member
    this.#members++
  }

  /** Takes `member` off; without members the dial is cancelled. */
  remove(member: DialMember): void {
    this.#unlink(member)
    if (this.#members > 0 || this.#state !== DialState.Dialling) return
    this.#end(DialState.Over)
    this.#pending!.cancel()
    this.#dials.parts.pool.abandon(this.peer.reuseKey)
  }

  onDialed(stream: ByteStream, early: Buffer | null, facts: ConnectionFacts = NOTHING_NEGOTIATED): void {
    if (this.#state !== DialState.Dialling) return
    const { peer } = this
    if (early !== null) {
      // They would be taken for the beginning of an answer to a request that was not sent yet.
      stream.destroy(true)
      const text = `${peer.name}: ${early.length} bytes came behind the answer to CONNECT, before any request`
      this.onDialFailed(new ProxyError('UNEXPECTED_BYTES', 'upstream', text, { limit: 'bad-framing' }))
      return
    }
    const { createConnection, ticker } = this.#dials.parts
    const trace = this.#trace
    let connection: UpstreamConnection
    try {
      connection = createConnection(trace === null ? stream : trace.watch(stream), peer, ticker, facts)
    } catch (thrown) {
      stream.destroy(true)
      this.onDialFailed(asProxyError(thrown, 'createConnection'))
      return
    }
    if (connection.capacity === 0) {
      connection.close()
      const text = `${peer.name}: the connection was closed as soon as it was established`
      this.onDialFailed(new ProxyError('CONNECT_FAILED', 'upstream', text, { retry: 'always' }))
      return
    }
    connection.reuseKey = peer.reuseKey
    trace?.connected(connection, this.#addressesTried)
    this.#dials.parts.names?.connected(peer, connection.digest.remoteIp)
    this.#deliver(connection)
  }

  onDialFailed(error: ProxyError): void {
    if (this.#state !== DialState.Dialling) return
    this.#end(DialState.Delivering)
    const { pool } = this.#dials.parts
    pool.abandon(this.peer.reuseKey)
    if (isOutOfDescriptors(error.cause)) pool.giveBack(DESCRIPTORS_GIVEN_BACK)
    this.#trace?.failed(error, this.#addressesTried)
    for (let member = this.#shift(); member !== null; member = this.#shift()) {
      // Hooks may change the fault that they are told of: each member but the last has a copy.
      member.onDialFailed(this.#members === 0 ? error : copyOf(error))
    }
    this.#state = DialState.Over
  }

  get #addressesTried(): number { return this.#pending?.addressesTried ?? 1 }

  #deliver(connection: UpstreamConnection): void {
    this.#end(DialState.Delivering)
    const { pool } = this.#dials.parts
    // All at once, so that none is given away by what the first members do with it.
    let lendings = pool.lend(connection, this.#members)
    for (let member = this.#shift(); member !== null; member = this.#shift()) {
      if (lendings > 0 && connection.capacity > 0) {
        lendings--
        member.onEstablished(connection)
      } else member.onNoRoom()
    }
    // Left over: members cancelled their wait meanwhile, or the connection closed under the first ones.
    for (; lendings > 0; lendings--) pool.release(connection, this.peer)
    this.#state = DialState.Over
  }

  #end(state: DialState): void {
    this.#state = state
    this.#dials.over(this)
  }

  #shift(): DialMember | null {
    const member = this.#first
    if (member !== null) this.#unlink(member)
    return member
  }

  #unlink(member: DialMember): void {
    const { dialNext, dialPrevious } = member
    if (dialPrevious === null) this.#first = dialNext
    else dialPrevious.dialNext = dialNext
    if (dialNext === null) this.#last = dialPrevious
    else dialNext.dialPrevious = dialPrevious
    member.dial = member.dialNext = member.dialPrevious = null
    this.#members--
  }
}

function copyOf(error: ProxyError): ProxyError {
  const { kind, source, retry, status, limit, cause } = error
  const copy = new ProxyError(kind, source, '', { retry, status, limit, cause })
  copy.message = error.message
  return copy
}
