/**
 * One direction of a body when somebody has to wait: for a head filter, a body filter, a delay or a slow sink.
 * (A body that nobody filters goes straight from session to session; exchange.ts does that in two lines.)
 *
 *        chunk ─▶ [ one chunk held, source paused ] ─▶ filters ─▶ delay ─▶ sink
 *
 * At most one chunk is held, and the source stays paused until it is gone, so a body takes no more memory than the
 * receive buffer it arrived in. The end of the body may arrive behind the held chunk; the buffer is then taken over
 * from its stream, which is free for another exchange.
 */
import type { HeaderMap } from '../http/header-map.ts'
import type { Clock } from '../primitives/clock.ts'
import { isPromise } from './phases.ts'
import type { BodyResult } from './proxy-http.ts'

export interface PipeEnds {
  pauseSource(): void
  resumeSource(): void
  giveUpSourceBuffer(): boolean
  /** Runs the filters; the empty chunk with `last` true comes once, at the end. */
  filterChunk(chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult>
  /** Runs the filters of trailers. What it returns is sent as the last piece of the body, instead of them. */
  filterTrailers(trailers: HeaderMap): Buffer | void | Promise<Buffer | void>
  writeSink(buffer: Buffer, from: number, to: number): void
  endSink(trailers: HeaderMap | null): void
  readonly sinkBlocked: boolean
  /** A filter threw or rejected. */
  pipeFailed(thrown: unknown): void
}

const NOTHING = Buffer.alloc(0)

const State = { Closed: 0, Open: 1, Filtering: 2, Delaying: 3, Done: 4 } as const
type State = (typeof State)[keyof typeof State]

export class BodyPipe {
  readonly #ends: PipeEnds
  readonly #clock: Clock
  readonly #filters: boolean
  /** Closed until the head went out. */
  #state: State = State.Closed
  #buffer: Buffer | null = null
  #from = 0
  #to = 0
  #sourceEnded = false
  #lastFiltered = false
  #trailers: HeaderMap | null = null
  #cancelDelay: (() => void) | null = null
  #pumping = false

  constructor(ends: PipeEnds, clock: Clock, filters: boolean) {
    this.#ends = ends
    this.#clock = clock
    this.#filters = filters
  }

  /** The head went out: the body may follow. */
  open(): void {
    if (this.#state !== State.Closed) return
    this.#state = State.Open
    this.#pump()
  }

  /** A chunk of the source, which pauses it until the chunk is gone. */
  chunk(buffer: Buffer, from: number, to: number): void {
    if (this.#state === State.Done) return
    this.#ends.pauseSource()
    this.#buffer = buffer
    this.#from = from
    this.#to = to
    this.#pump()
  }

  end(trailers: HeaderMap | null): void {
    if (this.#state === State.Done) return
    this.#sourceEnded = true
    this.#trailers = trailers
    if (this.#buffer !== null || this.#state !== State.Open || this.#ends.sinkBlocked) this.#ends.giveUpSourceBuffer()
    this.#pump()
  }

  drained(): void { this.#pump() }

  /** Nothing more is done, whatever is still pending. */
  stop(): void {
    this.#state = State.Done
    this.#buffer = null
    this.#cancelDelay?.()
    this.#cancelDelay = null
  }

  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (this.#state === State.Open) {
        if (this.#ends.sinkBlocked) break
        if (this.#buffer !== null) {
          const chunk = this.#buffer.subarray(this.#from, this.#to), buffer = this.#buffer
          if (!this.#filters) {
            this.#buffer = null
            this.#ends.writeSink(buffer, this.#from, this.#to)
            continue
          }
          const result = this.#ends.filterChunk(chunk, false)
          if (isPromise(result)) this.#await(result, buffer)
          else this.#filtered(result, buffer)
        } else if (this.#sourceEnded) {
          if (this.#filters && !this.#lastFiltered) {
            this.#lastFiltered = true
            const result = this.#ends.filterChunk(NOTHING, true)
            if (isPromise(result)) this.#await(result, null)
            else this.#filtered(result, null)
          } else this.#finish()
        } else {
          this.#ends.resumeSource()
          // What the source had kept back came within that call.
          if (this.#buffer === null && !this.#sourceEnded) break
        }
      }
    } catch (thrown) {
      this.#fail(thrown)
    }
    this.#pumping = false
  }

  #await(result: Promise<BodyResult>, buffer: Buffer | null): void {
    this.#state = State.Filtering
    result.then(value => {
      if (this.#state !== State.Filtering) return
      this.#state = State.Open
      this.#filtered(value, buffer)
      this.#pump()
    }).catch((thrown: unknown) => this.#fail(thrown))
  }

  #filtered(result: BodyResult, buffer: Buffer | null): void {
    if (result !== null && !Buffer.isBuffer(result)) {
      if (typeof result !== 'object' || typeof result.delayMs !== 'number') throw new TypeError('a body filter returned neither a Buffer, nor null, nor { chunk, delayMs }')
      const { chunk, delayMs } = result
      // Told now, where somebody catches it, and not when the delay is over.
      if (chunk !== null && !Buffer.isBuffer(chunk)) throw new TypeError('a body filter returned a chunk that is neither a Buffer nor null')
      if (delayMs > 0) {
        this.#state = State.Delaying
        this.#cancelDelay = this.#clock.after(delayMs, () => {
          this.#cancelDelay = null
          if (this.#state !== State.Delaying) return
          this.#state = State.Open
          this.#write(chunk, buffer)
          this.#pump()
        })
        return
      }
      this.#write(chunk, buffer)
      return
    }
    this.#write(result, buffer)
  }

  #write(chunk: Buffer | null, source: Buffer | null): void {
    if (source !== null) this.#buffer = null
    if (chunk === null || chunk.length === 0) return
    // Still the bytes of the receive buffer, which has its reserve: then framing goes around them in place.
    if (source !== null && chunk.buffer === source.buffer) {
      const from = chunk.byteOffset - source.byteOffset
      if (from >= this.#from && from + chunk.length <= this.#to) {
        this.#ends.writeSink(source, from, from + chunk.length)
        return
      }
    }
    this.#ends.writeSink(chunk, 0, chunk.length)
  }

  #finish(): void {
    const trailers = this.#trailers
    if (trailers !== null && this.#filters) {
      this.#trailers = null
      const result = this.#ends.filterTrailers(trailers)
      if (isPromise(result)) {
        this.#state = State.Filtering
        result.then(value => {
          if (this.#state === State.Filtering) this.#endWith(value, trailers)
        }).catch((thrown: unknown) => this.#fail(thrown))
        return
      }
      this.#endWith(result, trailers)
      return
    }
    this.#state = State.Done
    this.#ends.endSink(trailers)
  }

  #endWith(body: Buffer | void, trailers: HeaderMap): void {
    if (body !== undefined && !Buffer.isBuffer(body)) throw new TypeError('a trailer filter returned something else than a Buffer')
    this.#state = State.Done
    if (body !== undefined && body.length > 0) {
      this.#ends.writeSink(body, 0, body.length)
      this.#ends.endSink(null)
    } else this.#ends.endSink(trailers)
  }

  #fail(thrown: unknown): void {
    if (this.#state === State.Done) return
    this.stop()
    this.#ends.pipeFailed(thrown)
  }
}
