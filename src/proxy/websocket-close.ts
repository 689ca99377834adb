/**
 * How a relayed WebSocket is told to go (RFC 6455): each direction ends with exactly one Close frame, its sender's or ours
 * (1001, going away; 5.5.1 allows nothing behind it), put where a message ends. Whatever its sender sends afterwards is
 * thrown away, and searched for the Close that answers (7.1.2).
 *
 *   Open ──begin()──▶ Closing ──both directions have their Close──▶ Echoing ──both sides answered──▶ Done
 *                        │ messages did not end in time                │ one did not
 *                        └▶ FIN without a Close (the reader sees 1006) └▶ FIN
 *
 * Done: the relay says its farewell (relay-streams.ts), or is over before that. A side that answered gets its FIN at once.
 * A direction whose bytes are no frames has no place for a Close: FIN. While Closing, a direction that still passes is one
 * whose message has not ended. A side that goes takes the other with it only as long as its own direction passes.
 *
 * Where frames end is known to protocols/websocket/frames.ts; when a tunnel closes, to its owner.
 */
import { randomBytes } from 'node:crypto'
import type { Ticker, Timed } from '../primitives/clock.ts'
import { closeFrame, FrameFault, FrameTracker, GOING_AWAY } from '../protocols/websocket/frames.ts'
import { type DirectionWatcher, Flow, type RelaySide, type StreamRelay } from './relay-streams.ts'

/** For a message that is under way to end, and for a slow reader to take it. */
const MESSAGE_END_MS = 5000

/** For the answer to a Close: a round trip, even of a slow line. */
const ECHO_MS = 2000

const Step = { Open: 0, Closing: 1, Echoing: 2, Done: 3 } as const
type Step = (typeof Step)[keyof typeof Step]

export class WebSocketClose implements Timed {
  tickIndex = -1
  /** What both sides are told besides 1001. */
  reason = ''
  readonly #relay: StreamRelay
  readonly #ticker: Ticker
  readonly #client: FramedDirection
  readonly #origin: FramedDirection
  #step: Step = Step.Open
  /** Of Closing and Echoing. */
  #deadline = 0

  /** Before the relay starts. */
  constructor(relay: StreamRelay, ticker: Ticker) {
    this.#relay = relay
    this.#ticker = ticker
    this.#client = new FramedDirection(relay.downstream, new FrameTracker(true), this)
    this.#origin = new FramedDirection(relay.upstream, new FrameTracker(false), this)
  }

  get begun(): boolean { return this.#step !== Step.Open }

  /** Within MESSAGE_END_MS + ECHO_MS the relay says its farewell. `reason`: at most 123 bytes. */
  begin(reason: string): void {
    if (this.begun) return
    this.reason = reason
    this.#moveTo(Step.Closing, MESSAGE_END_MS)
    this.#ticker.add(this)
    this.#client.conclude()
    this.#origin.conclude()
    this.advance()
  }

  /** The relay is over: there is nothing to close any more. */
  end(): void {
    this.#moveTo(Step.Done, 0)
    this.#ticker.remove(this)
  }

  /** Takes every step that has nothing to wait for. */
  advance(): void {
    const client = this.#client, origin = this.#origin
    if (this.#step !== Step.Closing && this.#step !== Step.Echoing) return
    if (this.#step === Step.Closing && client.concluded && origin.concluded) this.#awaitEchoes()
    if (client.side.flow === Flow.Stopped && origin.answered) client.side.finish()
    if (origin.side.flow === Flow.Stopped && client.answered) origin.side.finish()
    if (this.#step === Step.Echoing && client.side.flow === Flow.Ended && origin.side.flow === Flow.Ended) this.#farewell()
  }

  #awaitEchoes(): void {
    this.#moveTo(Step.Echoing, ECHO_MS)
    this.#relay.dismiss()
  }

  #farewell(): void {
    this.end()
    this.#relay.close()
  }

  /** Only ever forwards. */
  #moveTo(step: Step, lastsMs: number): void {
    if (step <= this.#step) return
    this.#step = step
    this.#deadline = this.#ticker.clock.now() + lastsMs
  }

  onTick(now: number): void {
    if (now < this.#deadline) return
    switch (this.#step) {
      case Step.Closing:
        this.#awaitEchoes()
        this.#client.hurry()
        this.#origin.hurry()
        this.advance()
        break
      case Step.Echoing:
        this.#farewell()
        break
    }
  }
}

/** One direction of a WebSocket: its frames are followed from the first byte on, and its Close is put between two of them. */
class FramedDirection implements DirectionWatcher {
  readonly side: RelaySide
  readonly #frames: FrameTracker
  readonly #close: WebSocketClose

  constructor(side: RelaySide, frames: FrameTracker, close: WebSocketClose) {
    this.side = side
    this.#frames = frames
    this.#close = close
    side.watcher = this
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    const frames = this.#frames
    if (!this.#close.begun) {
      frames.scan(buffer, from, to)
      this.side.pass(buffer, from, to)
      return
    }
    if (this.side.flow === Flow.Passing) {
      const end = frames.scanMessage(buffer, from, to)
      this.side.pass(buffer, from, end)
      this.conclude()
      from = end
    }
    frames.scan(buffer, from, to)
    this.#close.advance()
  }

  onMoved(): void { this.#close.advance() }

  get goesAlone(): boolean { return this.#close.begun && this.side.flow !== Flow.Passing }

  /** Its end was said, and the reader has taken everything up to it. */
  get concluded(): boolean { return this.side.flow !== Flow.Passing && this.side.taken }

  /** Nothing more is expected of the side: it said Close, or cannot any more. */
  get answered(): boolean { return this.side.ended || this.side.closed || this.#frames.closeSeen }

  /** Close, if a message ends here; FIN, if no end can be known. */
  conclude(): void {
    if (this.side.flow !== Flow.Passing) return
    if (this.#frames.betweenMessages) this.#sayClose()
    else if (this.#frames.fault !== FrameFault.None) this.side.finish()
  }

  /** The message takes too long: Close between two of its fragments, or no Close. */
  hurry(): void {
    if (this.side.flow !== Flow.Passing) return
    if (this.#frames.betweenFrames) this.#sayClose()
    else this.side.finish()
  }

  #sayClose(): void {
    const { masked, closeSeen } = this.#frames
    if (closeSeen) {
      this.side.stop('')
      return
    }
    const frame = closeFrame(GOING_AWAY, this.#close.reason, masked ? randomBytes(4) : null)
    this.side.stop(frame.latin1Slice(0, frame.length))
  }
}
