/**
 * One connection on a control socket: what is sent arrives in order, after a delay; what was sent before an end still
 * arrives, and then the end. `cut` is the other kind of end: what was under way is lost.
 */
import { ChannelError } from '../../src/ipc/channel.ts'
import type { ChannelEnd, Question } from '../../src/ipc/channel.ts'
import type { RefusalCode } from '../../src/ipc/messages.ts'

/** What a connection needs of the world. */
export interface Wire {
  readonly after: After
  /** When what is sent now would arrive. */
  arrivalMs(): number
  at(ms: number, run: () => void): () => void
}

export class SimConnection {
  readonly #wire: Wire
  readonly ends: readonly [SimEnd, SimEnd]
  /** Nothing arrives any more. */
  cutOff = false

  constructor(wire: Wire) {
    this.#wire = wire
    this.ends = [new SimEnd(this, wire), new SimEnd(this, wire)]
    this.ends[0].other = this.ends[1]
    this.ends[1].other = this.ends[0]
  }

  /** Both sides learn of it. */
  cut(): void {
    if (this.cutOff) return
    this.cutOff = true
    for (const end of this.ends) this.#wire.at(this.#wire.arrivalMs(), () => end.ended())
  }
}

interface Pending {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: ChannelError) => void
  readonly cancel: (() => void) | null
}

interface Refusal { readonly code: RefusalCode; readonly reason: string }

interface Parcel {
  readonly kind: 'message' | 'answer' | 'end'
  readonly value: unknown
  /** Number of the question; 0: no answer is wanted. */
  readonly ask: number
  readonly refusal: Refusal | null
}

/** Timers of the process that an end belongs to. */
export type After = (ms: number, run: () => void) => () => void

/** Who watches what an operator's question comes to. */
export interface Tap {
  heard(image: unknown): void
  said(): void
}

/** In the place of a Channel. */
export class SimEnd implements ChannelEnd<{ readonly tag: string }> {
  other!: SimEnd
  /** A message arrived; `answer` is null when none is wanted. */
  onMessage: (message: never, answer: SimAnswer | null) => void = () => {}
  onClose: () => void = () => {}
  /** The process that reads here may be stopped: what arrives waits for it. */
  through: (run: () => void) => void = run => { run() }
  after: After
  tap: Tap | null = null
  open = true
  /** Whose process is gone: nothing is told to it any more. */
  dead = false
  readonly #connection: SimConnection
  readonly #wire: Wire
  readonly #pending = new Map<number, Pending>()
  #nextAsk = 1
  /** Nothing overtakes. */
  #lastArrival = 0
  #waiting: Parcel[] = []

  constructor(connection: SimConnection, wire: Wire) {
    this.#connection = connection
    this.#wire = wire
    this.after = wire.after
  }

  send(message: object): boolean {
    this.#post({ kind: 'message', value: message, ask: 0, refusal: null })
    return this.open
  }

  ask(message: { readonly tag: string }, timeoutMs: number | null): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (!this.open) { reject(new ChannelError('closed', `${message.tag}: the connection has ended`)); return }
      const ask = this.#nextAsk++
      const cancel = timeoutMs === null ? null : this.after(timeoutMs, () => {
        this.#pending.delete(ask)
        reject(new ChannelError('timeout', `${message.tag}: no answer within ${timeoutMs} ms`))
      })
      this.#pending.set(ask, { resolve, reject, cancel })
      this.#post({ kind: 'message', value: message, ask, refusal: null })
    })
  }

  /** We end it; what we sent arrives before. */
  close(): void {
    if (!this.open) return
    this.#post({ kind: 'end', value: null, ask: 0, refusal: null })
    this.ended()
  }

  destroy(_reason: string): void { this.close() }

  /** Our process is gone. */
  die(): void {
    this.dead = true
    this.close()
  }

  /** Everything that waits is rejected, and our side hears of it. */
  ended(): void {
    if (!this.open) return
    this.open = false
    for (const { reject, cancel } of this.#pending.values()) {
      cancel?.()
      if (!this.dead) reject(new ChannelError('closed', 'the connection ended before the answer'))
    }
    this.#pending.clear()
    if (!this.dead) this.through(this.onClose)
  }

  #post(parcel: Parcel): void {
    const { other } = this
    if (!this.open || this.#connection.cutOff) return
    other.#waiting.push(parcel)
    const at = this.#wire.arrivalMs()
    other.#lastArrival = Math.max(other.#lastArrival, at)
    this.#wire.at(other.#lastArrival, () => { if (!this.#connection.cutOff) other.#arrive() })
  }

  #arrive(): void {
    const parcel = this.#waiting.shift()
    if (parcel === undefined || this.dead) return
    this.through(() => this.#take(parcel))
  }

  #take({ kind, value, ask, refusal }: Parcel): void {
    if (!this.open || this.dead) return
    if (kind === 'end') { this.ended(); return }
    if (kind === 'message') {
      this.onMessage(value as never, ask === 0 ? null : this.#answerTo(ask))
      return
    }
    const pending = this.#pending.get(ask)
    if (pending === undefined) return
    this.#pending.delete(ask)
    pending.cancel?.()
    if (refusal === null) pending.resolve(value)
    else pending.reject(new ChannelError(refusal.code, refusal.reason))
  }

  #answerTo(ask: number): SimAnswer {
    let answered = 0
    const answer = (value: unknown, refusal: Refusal | null): void => {
      if (answered++ === 0) this.#post({ kind: 'answer', value, ask, refusal })
    }
    return {
      ok: result => answer(result, null),
      refuse: (code, reason) => answer(null, { code, reason }),
      get answered() { return answered },
    }
  }
}

export interface SimAnswer extends Question {
  /** How often. */
  readonly answered: number
}
