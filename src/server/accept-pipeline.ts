/**
 * From an accepted transport to the protocol that is spoken on it: stages that may have to wait, such as a PROXY header and
 * a TLS handshake, one after the other.
 *
 *   accepted ──▶ Staging ──the last stage passed──▶ Passed      what serves it takes its place in the book
 *                   └──────failed, late, ended────▶ Over        closed; its counts are given back
 *
 * A connection is in the book of its listener from the moment of accepting: counted, evicted when room is needed, drained and
 * cut like one that is served. It counts as idle, since nothing of a request was seen, unless a stage says that its client has begun:
 * then it is not closed as one that waits, and a drain lets it get to its first request. All stages together have one deadline.
 * Invariant: a stage that reports twice, or after its connection ended, changes nothing; a stream that it passes then is closed.
 * A listener without stages has no pipeline: its connections are opened where they are accepted.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import { NOBODY } from '../listener/tcp-listener.ts'
import type { Ticker, Timed } from '../primitives/clock.ts'
import { BUFFER_RESERVE, type ByteStream, type StreamOwner } from '../protocols/byte-stream.ts'
import type { AcceptingListener, DownstreamConnection } from '../protocols/http-connection.ts'
import type { ConnectionSite } from '../protocols/tls/connection-site.ts'
import type { ConnectionBook } from './connection-book.ts'

/** What stages found out about a connection, besides what the digest of its stream says. */
export interface AcceptFacts {
  /** The protocol that both sides agreed on (ALPN); '': nothing was agreed. */
  readonly alpn: string
  /** What a connection over TLS was opened for; null: it is plain. */
  readonly site: ConnectionSite | null
}

/** Of a connection that went through no stage. */
export const NO_FACTS: AcceptFacts = Object.freeze({ alpn: '', site: null })

/** A step between accepting and the protocol. One object serves all connections of a listener. */
export interface AcceptStage {
  /** For logs: `proxy-header`, `tls`. */
  readonly name: string
  /**
   * Begins on a connection and sets itself, or what works for it, as the owner of `stream`. Reports once to `waiter`, within
   * this call or later, unless it is cancelled. A throw is a failure.
   * @param early bytes that came before and belong to this stage, with BUFFER_RESERVE on either side; null: none
   */
  start(stream: ByteStream, early: Buffer | null, facts: AcceptFacts, waiter: StageWaiter): RunningStage
}

export interface StageWaiter {
  /**
   * @param stream the same, or what the stage put on top of it; the stage leaves it without an owner, paused or not
   * @param early bytes behind those that the stage was for, with BUFFER_RESERVE on either side; null: none
   */
  onPassed(stream: ByteStream, early: Buffer | null, facts: AcceptFacts): void
  /** The client broke the rules or is gone. The stream is closed behind this call, with what the stage wrote to it. */
  onFailed(): void
}

export interface RunningStage {
  /** The client has begun, so that it would miss an answer. Left out: nothing of that is known. */
  readonly underWay?: boolean
  /** Stops at once: the stream is closed behind this call. Harmless when the stage has reported. */
  cancel(): void
}

/** A connection that is served, as the pipeline hands it over. */
export type ServedConnection = DownstreamConnection & StreamOwner

export interface PipelineOwner {
  readonly ticker: Ticker
  readonly book: ConnectionBook
  /** Name of the listener. */
  readonly name: string
  readonly stages: readonly AcceptStage[]
  /** All stages passed. May throw: then the connection is closed. @param acceptedAt ms of the clock */
  open(stream: ByteStream, facts: AcceptFacts, acceptedAt: number): ServedConnection
}

/** Begins the stages of `owner` on an accepted stream. @param deadlineMs for all of them; 0: none */
export function beginStages(owner: PipelineOwner, stream: ByteStream, countedAs: string, deadlineMs: number): void {
  const connection = new StagedConnection(owner, stream, deadlineMs)
  owner.book.add(connection, countedAs)
  connection.begin()
}

const State = { Staging: 0, Passed: 1, Over: 2 } as const
type State = (typeof State)[keyof typeof State]

class StagedConnection implements DownstreamConnection, Timed {
  tickIndex = -1
  bookNewer: DownstreamConnection | null = null
  bookOlder: DownstreamConnection | null = null
  listNewer: DownstreamConnection | null = null
  listOlder: DownstreamConnection | null = null
  inList: object | null = null
  acceptedBy: AcceptingListener | null = null
  countedAs = ''
  facts: object | null = null
  stream: ByteStream
  readonly #owner: PipelineOwner
  readonly #acceptedAt: number
  readonly #deadline: number
  #state: State = State.Staging
  /** The report that is awaited. */
  #report: StageReport | null = null
  #running: RunningStage | null = null

  constructor(owner: PipelineOwner, stream: ByteStream, deadlineMs: number) {
    this.#owner = owner
    this.stream = stream
    this.#acceptedAt = owner.ticker.clock.now()
    this.#deadline = deadlineMs === 0 ? Number.POSITIVE_INFINITY : this.#acceptedAt + deadlineMs
    owner.ticker.add(this)
  }

  get listener(): string { return this.#owner.name }
  get protocol(): string { return '' }
  get requests(): number { return 0 }
  get active(): number { return 0 }
  get tunnels(): number { return 0 }
  get idle(): boolean { return this.#state === State.Staging && this.#running?.underWay !== true }
  get lingering(): boolean { return false }
  get parting(): boolean { return false }

  begin(): void { this.#start(0, null, NO_FACTS) }

  #start(at: number, early: Buffer | null, facts: AcceptFacts): void {
    const stage = this.#owner.stages[at]
    if (stage === undefined) {
      this.#pass(early, facts)
      return
    }
    const report = new StageReport(this, at)
    this.#report = report
    let running: RunningStage
    try { running = stage.start(this.stream, early, facts, report) } catch {
      this.failed(report)
      return
    }
    if (this.#report === report) this.#running = running
    // Ended from outside within the call: the stage could not be told before now.
    else if (this.#state === State.Over) running.cancel()
  }

  passed(report: StageReport, stream: ByteStream, early: Buffer | null, facts: AcceptFacts): void {
    if (this.#report !== report) {
      if (stream !== this.stream) stream.destroy(true)
      return
    }
    this.#report = null
    this.#running = null
    this.stream = stream
    this.#start(report.at + 1, early, facts)
  }

  failed(report: StageReport): void { if (this.#report === report) this.#end(false) }

  #pass(early: Buffer | null, facts: AcceptFacts): void {
    const { book, ticker } = this.#owner, stream = this.stream
    let served: ServedConnection
    try { served = this.#owner.open(stream, facts, this.#acceptedAt) } catch {
      this.#end(true)
      return
    }
    this.#state = State.Passed
    ticker.remove(this)
    book.replace(this, served)
    stream.owner = served
    // First, because what serves it may pause the stream over these very bytes.
    if (stream.paused) stream.resume()
    if (early !== null) served.onBytes(early, BUFFER_RESERVE, early.length - BUFFER_RESERVE)
  }

  /** @param reset the client loses nothing that it could use */
  #end(reset: boolean): void {
    if (this.#state !== State.Staging) return
    this.#state = State.Over
    this.#owner.ticker.remove(this)
    const running = this.#running
    this.#report = null
    this.#running = null
    if (running !== null && reset) running.cancel()
    this.stream.owner = NOBODY
    if (!reset) this.stream.flush()
    this.stream.destroy(reset)
    this.acceptedBy?.onClosed(this)
  }

  onTick(now: number): void { if (now >= this.#deadline) this.#end(true) }
  closeIdle(): void { if (this.idle) this.#end(true) }
  drain(): void { /* what serves it is told at its first request */ }
  cut(_error: ProxyError): void { this.#end(true) }
  destroy(): void { this.#end(true) }
}

/** What one stage was given to report to: a late word of it is told from that of the stage behind it. */
class StageReport implements StageWaiter {
  readonly at: number
  readonly #connection: StagedConnection

  constructor(connection: StagedConnection, at: number) {
    this.#connection = connection
    this.at = at
  }

  onPassed(stream: ByteStream, early: Buffer | null, facts: AcceptFacts): void {
    this.#connection.passed(this, stream, early, facts)
  }

  onFailed(): void { this.#connection.failed(this) }
}
