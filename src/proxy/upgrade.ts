/**
 * After a validated 101, or 2xx to CONNECT: raw bytes both ways, with back-pressure and half-close.
 *
 * A side is paused while the other has not taken what it was given; a FIN is passed on behind the bytes before it. With
 * both directions ended, or one side gone, the tunnel is over. A tunnel in which nothing moved for its idle limit is closed.
 *
 * `close()` ends a tunnel of an unknown protocol with FIN both ways and then a cut. In a WebSocket (RFC 6455) each
 * direction ends with exactly one Close frame, its sender's or ours (1001; 5.5.1 allows nothing behind it), put where a
 * message ends; whatever its sender sends afterwards is thrown away, and searched for the Close that answers (7.1.2).
 *
 *   Open ──close()──▶ Closing ──both directions have their Close──▶ Echoing ──both sides answered──▶ Farewell ──▶ cut
 *                        │ messages did not end in time                │ one did not
 *                        └▶ FIN without a Close (the reader sees 1006) └▶ FIN
 *
 * A side that answered gets its FIN at once. A direction whose bytes are no frames has no place for a Close: FIN.
 */
import { randomBytes } from 'node:crypto'
import type { Ticker, Timed } from '../primitives/clock.ts'
import { TEXT_RUN_MAX, writeRun, type ByteStream, type StreamOwner } from '../protocols/byte-stream.ts'
import { closeFrame, FrameFault, FrameTracker, GOING_AWAY } from '../protocols/websocket/frames.ts'

export interface TunnelOwner {
  /** Both sides are closed. Bytes that crossed, each way. */
  onTunnelClosed(fromClient: number, fromOrigin: number, error: Error | null): void
}

export interface TunnelEnd {
  readonly stream: ByteStream
  /** Bytes that it sent ahead; null: none. */
  readonly early: Buffer | null
}

export interface TunnelOptions {
  readonly webSocket: boolean
  /** 0: no limit. */
  readonly idleTimeoutMs: number
}

/** For a message that is under way to end, and for a slow reader to take it. */
const MESSAGE_END_MS = 5000

/** For the answer to a Close: a round trip, even of a slow line. */
const ECHO_MS = 2000

/** Between FIN and the cut. */
const FAREWELL_MS = 2000

/** Text that may wait for the end of the turn, where `bytesQueued` does not show it. */
const UNCOUNTED_TEXT_MAX = 4 * TEXT_RUN_MAX

/** What becomes of the bytes of one direction. Closed, Ended: they are thrown away, behind our Close or behind FIN. */
const Flow = { Open: 0, UntilMessageEnd: 1, Closed: 2, Ended: 3 } as const

const Step = { Open: 0, Closing: 1, Echoing: 2, Farewell: 3 } as const

/** One end of a tunnel, and the direction that comes from it. */
class Side implements StreamOwner {
  readonly stream: ByteStream
  readonly tunnel: Tunnel
  /** Null: no WebSocket. */
  readonly frames: FrameTracker | null
  other!: Side
  bytes = 0
  flow: number = Flow.Open
  ended = false
  closed = false
  /** Bytes of text given to the other stream since it was last flushed from here. */
  #text = 0
  constructor(stream: ByteStream, tunnel: Tunnel, frames: FrameTracker | null) {
    this.stream = stream
    this.tunnel = tunnel
    this.frames = frames
  }

  /** Nothing more is expected of it: it said Close, or cannot any more. */
  get answered(): boolean { return this.ended || this.closed || (this.frames !== null && this.frames.closeSeen) }

  sendEarly(bytes: Buffer | null): void {
    if (bytes === null) return
    this.bytes += bytes.length
    this.frames?.scan(bytes, 0, bytes.length)
    this.other.stream.writeText(bytes.latin1Slice(0, bytes.length))
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    const frames = this.frames
    this.tunnel.touch()
    if (this.flow === Flow.Open) {
      if (frames !== null) frames.scan(buffer, from, to)
      this.#pass(buffer, from, to)
      return
    }
    if (frames === null) return
    if (this.flow === Flow.UntilMessageEnd) {
      const end = frames.scanMessage(buffer, from, to)
      this.#pass(buffer, from, end)
      if (frames.betweenMessages) this.sayClose()
      else if (frames.fault !== FrameFault.None) this.finish()
      from = end
    }
    frames.scan(buffer, from, to)
    this.tunnel.advance()
  }

  #pass(buffer: Buffer, from: number, to: number): void {
    this.bytes += to - from
    const stream = this.stream, sink = this.other.stream
    if (to - from <= TEXT_RUN_MAX) {
      sink.writeText(buffer.latin1Slice(from, to))
      // Text is not counted as queued before it is flushed, and many pieces may come in one turn.
      if ((this.#text += to - from) > UNCOUNTED_TEXT_MAX) {
        this.#text = 0
        sink.flush()
      }
      // Most upgraded connections say little and rarely: they hold no buffer while they wait.
      stream.receiveBuffer?.useSharedBuffer()
    } else {
      writeRun(sink, buffer, from, to, stream.receiveBuffer?.ownsBuffer ?? true)
      stream.receiveBuffer?.useOwnBuffer()
    }
    if (sink.bytesQueued > 0) stream.pause()
  }

  onEnd(): void {
    this.ended = true
    this.tunnel.touch()
    // Behind our Close the reader gets its FIN when it has answered.
    if (this.flow !== Flow.Closed) this.finish()
    this.tunnel.advance()
  }

  onDrained(): void {
    this.tunnel.touch()
    this.other.stream.resume()
    this.tunnel.advance()
  }

  onClosed(error: Error | null): void {
    this.closed = true
    this.tunnel.sideClosed(this, error)
  }

  /** The tunnel closes: Close at the next end of a message, which may be now. */
  conclude(): void {
    const frames = this.frames!
    if (this.flow !== Flow.Open) return
    this.flow = Flow.UntilMessageEnd
    if (frames.betweenMessages) this.sayClose()
    else if (frames.fault !== FrameFault.None) this.finish()
  }

  /** The message takes too long: Close between two of its fragments, or no Close. */
  hurry(): void {
    if (this.flow !== Flow.UntilMessageEnd) return
    if (this.frames!.betweenFrames) this.sayClose()
    else this.finish()
  }

  sayClose(): void {
    this.flow = Flow.Closed
    const { masked, closeSeen } = this.frames!
    if (closeSeen) return
    const frame = closeFrame(GOING_AWAY, this.tunnel.closeReason, masked ? randomBytes(4) : null)
    this.other.stream.writeText(frame.latin1Slice(0, frame.length))
  }

  finish(): void {
    if (this.flow === Flow.Ended) return
    this.flow = Flow.Ended
    if (!this.other.closed) this.other.stream.end()
  }
}

export class Tunnel implements Timed {
  tickIndex = -1
  readonly webSocket: boolean
  readonly openedAt: number
  closeReason = ''
  readonly #client: Side
  readonly #origin: Side
  readonly #owner: TunnelOwner
  readonly #ticker: Ticker
  readonly #idleTimeoutMs: number
  #step: number = Step.Open
  /** Of the step; while open, of none. */
  #deadline = 0
  #movedAt: number
  #error: Error | null = null
  #over = false

  /** Bytes that either side sent ahead go first. */
  constructor(client: TunnelEnd, origin: TunnelEnd, owner: TunnelOwner, ticker: Ticker, options: TunnelOptions) {
    this.webSocket = options.webSocket
    this.#owner = owner
    this.#ticker = ticker
    this.#idleTimeoutMs = options.idleTimeoutMs
    this.openedAt = this.#movedAt = ticker.clock.now()
    this.#client = new Side(client.stream, this, options.webSocket ? new FrameTracker(true) : null)
    this.#origin = new Side(origin.stream, this, options.webSocket ? new FrameTracker(false) : null)
    this.#client.other = this.#origin
    this.#origin.other = this.#client
    ticker.add(this)
    client.stream.owner = this.#client
    origin.stream.owner = this.#origin
    this.#origin.sendEarly(origin.early)
    this.#client.sendEarly(client.early)
    client.stream.resume()
    origin.stream.resume()
  }

  touch(): void { this.#movedAt = this.#ticker.clock.now() }

  get closing(): boolean { return this.#step !== Step.Open }

  /** Ends the tunnel politely, within MESSAGE_END_MS + ECHO_MS + FAREWELL_MS at most. `reason`: what a WebSocket is told besides 1001. */
  close(reason = 'going away'): void {
    if (this.#step !== Step.Open) return
    if (!this.webSocket) {
      this.#farewell()
      return
    }
    this.closeReason = reason
    this.#moveTo(Step.Closing, MESSAGE_END_MS)
    this.#client.conclude()
    this.#origin.conclude()
    this.advance()
  }

  destroy(): void {
    this.#client.stream.destroy(true)
    this.#origin.stream.destroy(true)
  }

  /** While it closes: takes every step that has nobody to wait for. */
  advance(): void {
    const client = this.#client, origin = this.#origin
    if (this.#step !== Step.Closing && this.#step !== Step.Echoing) return
    if (this.#step === Step.Closing && client.flow >= Flow.Closed && origin.flow >= Flow.Closed && taken(client) && taken(origin)) this.#moveTo(Step.Echoing, ECHO_MS)
    if (client.flow === Flow.Closed && origin.answered) client.finish()
    if (origin.flow === Flow.Closed && client.answered) origin.finish()
    if (this.#step === Step.Echoing && client.flow === Flow.Ended && origin.flow === Flow.Ended) this.#farewell()
  }

  #farewell(): void {
    this.#client.finish()
    this.#origin.finish()
    this.#moveTo(Step.Farewell, FAREWELL_MS)
  }

  /** Only ever forwards. */
  #moveTo(step: number, lastsMs: number): void {
    this.#step = step
    this.#deadline = this.#ticker.clock.now() + lastsMs
  }

  sideClosed(side: Side, error: Error | null): void {
    const other = side.other
    // Whoever was asked to go may slam the door.
    if (this.#step <= Step.Closing) this.#error ??= error
    if (!other.closed) {
      if (this.#step !== Step.Open && this.webSocket && side.flow >= Flow.Closed) {
        // The other one has its Close or its FIN and ends in its own time, or at the deadline.
        other.finish()
        other.stream.resume()
        this.advance()
        return
      }
      // A side that ended in order leaves what it sent to be read; one that broke takes the other with it.
      if (error === null && side.ended && !other.stream.destroyed && other.stream.bytesQueued > 0) other.stream.end()
      else other.stream.destroy(error !== null)
      return
    }
    if (this.#over) return
    this.#over = true
    this.#ticker.remove(this)
    this.#owner.onTunnelClosed(this.#client.bytes, this.#origin.bytes, this.#error)
  }

  onTick(now: number): void {
    if (this.#step === Step.Open) {
      if (this.#idleTimeoutMs !== 0 && now - this.#movedAt > this.#idleTimeoutMs) this.close('idle')
      return
    }
    if (now < this.#deadline) return
    switch (this.#step) {
      case Step.Closing:
        this.#moveTo(Step.Echoing, ECHO_MS)
        this.#client.hurry()
        this.#origin.hurry()
        this.advance()
        break
      case Step.Echoing:
        this.#farewell()
        break
      case Step.Farewell:
        this.destroy()
        break
    }
  }
}

/** Everything written to it has gone. */
function taken(side: Side): boolean { return side.closed || side.stream.bytesQueued === 0 }
