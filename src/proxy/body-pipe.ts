/**
 * One direction of a body when it has to wait: for a head filter, a body filter, a delay or a slow sink. (A body that is not
 * filtered and need not wait goes straight from session to session; exchange.ts and request-body.ts do that in two lines.)
 *
 *        chunk ─▶ [ one chunk held, source paused ] ─▶ filter ─▶ filter … ─▶ delay ─▶ sink
 *
 *   Closed ──open()──▶ Open ◀──────────────▶ Filtering (a filter gave a promise) | Delaying
 *      └───────────────┴── the end has passed, or stop(), or a filter failed ──▶ Done
 *
 * At most one chunk is held, and the source stays paused until it is gone, so a body takes no more memory than the
 * receive buffer it arrived in. The end of the body may arrive behind the held chunk; the buffer is then taken over
 * from its stream, which is free for another exchange. Filters are called one after another, without a closure or a list for
 * the chunk: only a filter that gives a promise costs one. After `stop()` no filter is called any more.
 */
import type { HeaderMap } from '../http/header-map.ts'
import { isPromise } from '../primitives/application-call.ts'
import { showValue } from '../primitives/option-table.ts'
import { BUFFER_RESERVE } from '../protocols/byte-stream.ts'
import { hookLate, HookWatch, type HookHost, type HookWaiter } from './hook-watch.ts'
import type { BodyStage } from './body-stage.ts'
import type { BodyResult } from './session.ts'

const NOTHING = Buffer.alloc(0)

/** Longest delay of a piece, in ms: what a timer of Node.js can wait. */
const DELAY_MS_MAX = 2_147_483_647

const State = { Closed: 0, Open: 1, Filtering: 2, Delaying: 3, Done: 4 } as const
type State = (typeof State)[keyof typeof State]

/** @template Subject what filters are called with: the exchange */
export abstract class BodyPipe<Subject> implements HookWaiter {
  readonly #host: HookHost
  readonly #subject: Subject
  /** Given with `open`. Null: nothing filters, and the pipe only waits. */
  #stage: BodyStage<Subject> | null = null
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
  /** The filter that comes next, what the ones before it made of the piece, and how long they want it held. */
  #filterAt = 0
  #piece: Buffer | null = null
  #delayMs = 0
  /** The trailer filter that was called last; -1: none was. */
  #trailerFilterAt = -1
  /** Made when a filter gives the first promise. */
  #watch: HookWatch | null = null

  constructor(host: HookHost, subject: Subject) {
    this.#host = host
    this.#subject = subject
  }

  protected abstract pauseSource(): void
  protected abstract resumeSource(): void
  /** The source may not reuse the buffer of its last chunk any more. */
  protected abstract giveUpSourceBuffer(): void
  protected abstract get sinkBlocked(): boolean
  /** The bytes stay untouched until the sink has them. */
  protected abstract writeSink(buffer: Buffer, from: number, to: number): void
  protected abstract endSink(trailers: HeaderMap | null): void
  /** `hook` threw, rejected, or gave what it must not. */
  protected abstract failed(thrown: unknown, hook: string): void

  /** The head went out: the body may follow, through `stage`. Told once; to tell it again is harmless. */
  open(stage: BodyStage<Subject> | null): void {
    if (this.#state !== State.Closed) return
    this.#stage = stage
    this.#state = State.Open
    this.#pump()
  }

  /** A chunk of the source, which pauses it until the chunk is gone. Its bytes must stay untouched for as long as the source is paused. */
  chunk(buffer: Buffer, from: number, to: number): void {
    if (this.#state === State.Done) return
    this.pauseSource()
    this.#buffer = buffer
    this.#from = from
    this.#to = to
    this.#pump()
  }

  end(trailers: HeaderMap | null): void {
    if (this.#state === State.Done) return
    this.#sourceEnded = true
    this.#trailers = trailers
    if (this.#buffer !== null || this.#state !== State.Open || this.sinkBlocked) this.giveUpSourceBuffer()
    this.#pump()
  }

  drained(): void { this.#pump() }

  /** Nothing more is done, whatever is still pending. */
  stop(): void {
    this.#state = State.Done
    this.#buffer = null
    this.#cancelDelay?.()
    this.#cancelDelay = null
    this.#watch?.end()
  }

  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (this.#state === State.Open && !this.sinkBlocked) {
        if (this.#buffer !== null) this.#passChunk(this.#buffer)
        else if (this.#sourceEnded) this.#passEnd()
        else {
          this.resumeSource()
          // What the source had kept back came within that call.
          if (this.#buffer === null && !this.#sourceEnded) break
        }
      }
    } catch (thrown) {
      this.#fail(thrown)
    }
    this.#pumping = false
  }

  #passChunk(buffer: Buffer): void {
    if (this.#stage !== null) {
      this.#filter(buffer.subarray(this.#from, this.#to))
      return
    }
    this.#buffer = null
    this.writeSink(buffer, this.#from, this.#to)
  }

  #passEnd(): void {
    if (this.#stage === null || this.#lastFiltered) {
      this.#finish()
      return
    }
    this.#lastFiltered = true
    this.#filter(NOTHING)
  }

  // ---- filters

  #filter(piece: Buffer): void {
    this.#filterAt = 0
    this.#piece = piece
    this.#delayMs = 0
    this.#runFilters()
  }

  /** From `#filterAt` on, until one gives a promise or all have seen the piece. */
  #runFilters(): void {
    const { filters } = this.#stage!, last = this.#lastFiltered
    while (this.#filterAt < filters.length) {
      // A piece that was dropped is not shown to the filters behind; the end always is.
      if (this.#piece === null && !last) break
      const filter = filters[this.#filterAt++]!
      const result = filter(this.#subject, this.#piece ?? NOTHING, last)
      if (this.#isDone(result)) return
      if (isPromise(result)) {
        this.#await(result)
        return
      }
      this.#take(result)
    }
    this.#filtered()
  }

  /** The filter that gave `result` has ended the exchange within its call. */
  #isDone(result: unknown): boolean {
    if (this.#state !== State.Done) return false
    if (isPromise(result)) result.then(undefined, () => { /* Nobody waits for it. */ })
    return true
  }

  #take(result: BodyResult): void {
    if (result === null || Buffer.isBuffer(result)) {
      this.#piece = result
      return
    }
    if (typeof result !== 'object') throw new TypeError(`it returned ${showValue(result)}; use a Buffer, null or { chunk, delayMs }`)
    const { chunk, delayMs } = result
    if (chunk !== null && !Buffer.isBuffer(chunk)) throw new TypeError(`it returned the chunk ${showValue(chunk)}; use a Buffer or null`)
    if (typeof delayMs !== 'number' || !(delayMs >= 0 && delayMs <= DELAY_MS_MAX)) {
      throw new TypeError(`it returned the delayMs ${showValue(delayMs)}; use a number from 0 to ${DELAY_MS_MAX}`)
    }
    this.#piece = chunk
    this.#delayMs += delayMs
  }

  #await(result: Promise<BodyResult>): void {
    this.#beginWait()
    Promise.resolve(result).then(value => {
      if (this.#state !== State.Filtering) return
      this.#endWait()
      this.#take(value)
      this.#runFilters()
      this.#pump()
    }).catch((thrown: unknown) => this.#fail(thrown))
  }

  #beginWait(): void {
    this.#state = State.Filtering
    ;(this.#watch ??= new HookWatch(this.#host, this)).begin()
  }

  #endWait(): void {
    this.#state = State.Open
    this.#watch!.end()
  }

  onHookLate(): void { this.#fail(hookLate(this.#hook, this.#host)) }

  /** The filter that was called last. */
  get #hook(): string {
    const { hooks, trailerHooks } = this.#stage!
    return this.#trailerFilterAt >= 0 ? trailerHooks[this.#trailerFilterAt]! : hooks[this.#filterAt - 1] ?? 'a body filter'
  }

  #filtered(): void {
    if (this.#delayMs <= 0) {
      this.#write()
      return
    }
    this.#state = State.Delaying
    this.#cancelDelay = this.#host.ticker.clock.after(Math.min(this.#delayMs, DELAY_MS_MAX), () => {
      this.#cancelDelay = null
      if (this.#state !== State.Delaying) return
      this.#state = State.Open
      this.#write()
      this.#pump()
    })
  }

  /** Writes what the filters left of the chunk, or of the end. */
  #write(): void {
    const piece = this.#piece, source = this.#buffer
    this.#buffer = this.#piece = null
    if (piece === null || piece.length === 0) return
    // Still bytes of a receive buffer, which has its reserve: then framing goes around them in place.
    if (source !== null && this.#from >= BUFFER_RESERVE && piece.buffer === source.buffer) {
      const from = piece.byteOffset - source.byteOffset
      if (from >= this.#from && from + piece.length <= this.#to) {
        this.writeSink(source, from, from + piece.length)
        return
      }
    }
    this.writeSink(piece, 0, piece.length)
  }

  // ---- the end

  #finish(): void {
    const trailers = this.#trailers, stage = this.#stage
    if (trailers === null || stage === null || stage.trailerFilters.length === 0) {
      this.#state = State.Done
      this.endSink(trailers)
      return
    }
    this.#trailers = null
    this.#filterTrailers(stage, trailers, 0, undefined)
  }

  /** From filter `at` on. The last body that one of them returned is sent as the last piece, instead of the trailers. */
  #filterTrailers(stage: BodyStage<Subject>, trailers: HeaderMap, at: number, body: Buffer | void): void {
    for (let i = at; i < stage.trailerFilters.length; i++) {
      this.#trailerFilterAt = i
      const result = stage.trailerFilters[i]!(this.#subject, trailers)
      if (this.#isDone(result)) return
      if (isPromise(result)) {
        this.#beginWait()
        Promise.resolve(result).then(value => {
          if (this.#state !== State.Filtering) return
          this.#endWait()
          this.#filterTrailers(stage, trailers, i + 1, value === undefined ? body : value)
        }).catch((thrown: unknown) => this.#fail(thrown))
        return
      }
      if (result !== undefined) body = result
    }
    this.#endWith(body, trailers)
  }

  #endWith(body: Buffer | void, trailers: HeaderMap): void {
    if (body !== undefined && !Buffer.isBuffer(body)) throw new TypeError(`it returned ${showValue(body)}; use a Buffer, or nothing`)
    this.#state = State.Done
    if (body === undefined || body.length === 0) {
      this.endSink(trailers)
      return
    }
    this.writeSink(body, 0, body.length)
    this.endSink(null)
  }

  #fail(thrown: unknown): void {
    if (this.#state === State.Done) return
    this.stop()
    this.failed(thrown, this.#stage === null ? '' : this.#hook)
  }
}
