/**
 * Raw bytes between two streams, both ways, with back-pressure and half-close; what the bytes mean is not known here.
 *
 *   Open ──dismiss()──▶ Dismissed ──close()──▶ Farewell ──FAREWELL_MS──▶ both cut
 *     └───────────────────close()─────────────────▲
 *   Both sides closed, in whatever state: Over. The owner hears of it once, last.
 *
 * Invariants: a side reads only while the other one has taken what it was given, so that a direction holds one receive
 * buffer, or UNCOUNTED_TEXT_MAX of small pieces. A FIN is passed on behind the bytes before it, and stands for that
 * direction alone. A side that breaks takes the other one with it; a side that ended in order leaves what it sent to be
 * read. Bytes are counted when they are passed on; what is thrown away is not.
 *
 * A direction may have a watcher, who is shown its bytes, says how far they go, and may end it between any two of them
 * with last words of its own. Without one the relay costs nothing for it.
 *
 *   Passing ──stop(last words)──▶ Stopped ──finish()──▶ Ended      Stopped, Ended: what still comes is thrown away
 *      └────────────── finish(), FIN came ─────────────────▲
 */
import type { Ticker, Timed } from '../primitives/clock.ts'
import { writeRun, type ByteStream, type StreamOwner } from '../protocols/byte-stream.ts'

/** Between FIN and the cut: for what is still queued to be taken, and for the answering FIN. */
export const FAREWELL_MS = 2000

/** A piece up to this long is a message, cheapest as a copy; a longer one is part of a transfer, sent from where it was read. */
const SMALL_BYTES_MAX = 4096

/** Small pieces that may wait for the end of the turn, where `bytesQueued` does not show them. */
const UNCOUNTED_TEXT_MAX = 4 * SMALL_BYTES_MAX

export interface RelayOwner {
  /** Nothing has moved for the idle limit. The owner ends the relay, with `close()` or otherwise; it is told again at the next tick. */
  onRelayIdle(): void
  /**
   * Both sides are closed; called once, last. Bytes that were passed on, each way.
   * `error`: of the first side that broke before it was told to go; null: none did.
   */
  onRelayClosed(fromDownstream: number, fromUpstream: number, error: Error | null): void
}

export interface RelayOptions {
  /** Longest time in which nothing moves either way, in ms. 0: no limit. */
  readonly idleTimeoutMs: number
}

/** What a side had sent before the relay. */
export interface RelayStart {
  /** Bytes; they are the relay's from here on. Null: none. */
  readonly early: Buffer | null
  /** FIN, behind those bytes; the stream will not tell it again. */
  readonly ended: boolean
}

/** Stands in one direction. It is set before the relay starts. */
export interface DirectionWatcher {
  /**
   * Bytes [from, to) came; in every state, so that what comes behind the end can be searched. What shall go on is handed to
   * `side.pass()` before the call returns, in order and only while the direction is Passing; the rest is thrown away.
   */
  onBytes(buffer: Buffer, from: number, to: number): void
  /** The side said FIN, took what was written to it, or went: what a watcher may have waited for. */
  onMoved(): void
  /** The side may go before the other one, and that one ends in its own time. Asked when the side is closed first. */
  readonly goesAlone: boolean
}

export const Flow = { Passing: 0, Stopped: 1, Ended: 2 } as const
export type Flow = (typeof Flow)[keyof typeof Flow]

const RelayState = { Open: 0, Dismissed: 1, Farewell: 2, Over: 3 } as const
type RelayState = (typeof RelayState)[keyof typeof RelayState]

/** One end of a relay, and the direction that comes from it. */
export class RelaySide implements StreamOwner {
  readonly stream: ByteStream
  /** Null: bytes pass as they come. */
  watcher: DirectionWatcher | null = null
  /** Set by the relay. */
  other!: RelaySide
  /** Passed on so far. */
  bytes = 0
  flow: Flow = Flow.Passing
  /** Its FIN came. */
  ended = false
  closed = false
  readonly #relay: StreamRelay
  /** Bytes of text given to the other stream since it was last flushed from here. */
  #text = 0

  constructor(stream: ByteStream, relay: StreamRelay) {
    this.stream = stream
    this.#relay = relay
  }

  /** Everything written to it has gone. */
  get taken(): boolean { return this.closed || this.stream.bytesQueued === 0 }

  /** Takes the stream over: what it had sent before goes first, and so does its FIN. */
  start({ early, ended }: RelayStart): void {
    this.stream.owner = this
    if (early !== null) this.onBytes(early, 0, early.length)
    if (ended) this.onEnd()
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    this.#relay.touch()
    if (this.watcher !== null) this.watcher.onBytes(buffer, from, to)
    else if (this.flow === Flow.Passing) this.pass(buffer, from, to)
  }

  /** Sends [from, to) on to the other side. Within `onBytes` of the watcher, while the direction is Passing. */
  pass(buffer: Buffer, from: number, to: number): void {
    const sink = this.other.stream
    this.bytes += to - from
    // Text is not counted as queued before it is flushed, and many pieces may come in one turn.
    if (this.#send(buffer, from, to) && (this.#text += to - from) > UNCOUNTED_TEXT_MAX) {
      this.#text = 0
      sink.flush()
    }
    if (sink.bytesQueued > 0) this.stream.pause()
  }

  /**
   * The one place that decides how a piece travels. A small one is copied as text and leaves with the others of the turn;
   * its stream then waits in the shared buffer, since most relayed connections say little and rarely. A large one is
   * written from the buffer it came in, which has to be the stream's own for that.
   * @returns whether the bytes are free again, and may wait for the end of the turn.
   */
  #send(buffer: Buffer, from: number, to: number): boolean {
    const own = this.stream.receiveBuffer
    const free = writeRun(this.other.stream, buffer, from, to, own === null || own.ownsBuffer)
    if (!free || to - from > SMALL_BYTES_MAX) own?.useOwnBuffer()
    else own?.useSharedBuffer()
    return free
  }

  /** Ends the direction here without FIN: the other side gets `lastWords` (latin1; may be empty), and nothing behind them. */
  stop(lastWords: string): void {
    if (this.flow !== Flow.Passing) return
    this.flow = Flow.Stopped
    if (lastWords !== '') this.other.stream.writeText(lastWords)
  }

  /** FIN to the other side, behind what it was given. */
  finish(): void {
    if (this.flow === Flow.Ended) return
    this.flow = Flow.Ended
    if (!this.other.closed) this.other.stream.end()
  }

  onEnd(): void {
    this.ended = true
    this.#relay.touch()
    // Who stopped the direction also knows when the other side gets its FIN.
    if (this.flow === Flow.Passing) this.finish()
    this.watcher?.onMoved()
  }

  onDrained(): void {
    this.#relay.touch()
    this.other.stream.resume()
    this.watcher?.onMoved()
  }

  onClosed(error: Error | null): void {
    this.closed = true
    this.#relay.sideClosed(this, error)
  }
}

export class StreamRelay implements Timed {
  tickIndex = -1
  readonly openedAt: number
  readonly downstream: RelaySide
  readonly upstream: RelaySide
  readonly #owner: RelayOwner
  readonly #ticker: Ticker
  readonly #idleTimeoutMs: number
  #state: RelayState = RelayState.Open
  #movedAt: number
  /** Of Farewell; 0: not yet. */
  #cutAt = 0
  #error: Error | null = null

  /** Nothing moves before `start()`. */
  constructor(downstream: ByteStream, upstream: ByteStream, owner: RelayOwner, ticker: Ticker, options: RelayOptions) {
    this.#owner = owner
    this.#ticker = ticker
    this.#idleTimeoutMs = options.idleTimeoutMs
    this.openedAt = this.#movedAt = ticker.clock.now()
    this.downstream = new RelaySide(downstream, this)
    this.upstream = new RelaySide(upstream, this)
    this.downstream.other = this.upstream
    this.upstream.other = this.downstream
  }

  /** Takes both streams over. */
  start(fromDownstream: RelayStart, fromUpstream: RelayStart): void {
    const { downstream, upstream } = this
    this.#ticker.add(this)
    upstream.start(fromUpstream)
    downstream.start(fromDownstream)
    if (upstream.taken) downstream.stream.resume()
    if (downstream.taken) upstream.stream.resume()
  }

  /** It is on its way out by `close()`, or over. */
  get closing(): boolean { return this.#state >= RelayState.Farewell }

  touch(): void { this.#movedAt = this.#ticker.clock.now() }

  /** Both sides were told to go by what a watcher sent them: nothing is idle any more, and a side that breaks is no error. */
  dismiss(): void {
    if (this.#state === RelayState.Open) this.#state = RelayState.Dismissed
  }

  /** Ends it politely: FIN both ways, and a cut after FAREWELL_MS. */
  close(): void {
    if (this.closing) return
    this.#state = RelayState.Farewell
    this.#cutAt = this.#ticker.clock.now() + FAREWELL_MS
    this.downstream.finish()
    this.upstream.finish()
  }

  /** Cuts both sides now, with a reset. */
  destroy(): void {
    this.downstream.stream.destroy(true)
    this.upstream.stream.destroy(true)
  }

  /** For the sides. */
  sideClosed(side: RelaySide, error: Error | null): void {
    // A side that was asked to go may do so in any manner.
    if (this.#state === RelayState.Open) this.#error ??= error
    if (side.other.closed) this.#end()
    else if (side.watcher !== null && side.watcher.goesAlone) this.#leaveOther(side, side.watcher)
    else takeOther(side, error)
  }

  /** The other side has been given its last; it is read to its end, for nothing. */
  #leaveOther(side: RelaySide, watcher: DirectionWatcher): void {
    side.other.finish()
    side.other.stream.resume()
    watcher.onMoved()
  }

  #end(): void {
    if (this.#state === RelayState.Over) return
    this.#state = RelayState.Over
    this.#ticker.remove(this)
    this.#owner.onRelayClosed(this.downstream.bytes, this.upstream.bytes, this.#error)
  }

  onTick(now: number): void {
    switch (this.#state) {
      case RelayState.Open:
        if (this.#idleTimeoutMs !== 0 && now - this.#movedAt > this.#idleTimeoutMs) this.#owner.onRelayIdle()
        break
      case RelayState.Farewell:
        if (now >= this.#cutAt) this.destroy()
        break
    }
  }
}

/** A side that ended in order leaves what it sent to be read; one that broke takes the other with it. */
function takeOther(side: RelaySide, error: Error | null): void {
  const stream = side.other.stream
  const unread = !stream.destroyed && stream.bytesQueued > 0
  if (error === null && side.ended && unread) stream.end()
  else stream.destroy(error !== null)
}
