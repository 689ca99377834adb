/**
 * Operators who look at traffic: each has a look-out, which asks all workers again and again (src/ipc/looking.ts) and keeps what they
 * tell until its operator asks. Workers that come meanwhile are asked as well.
 *
 *   (first question) ─▶ Looking ──count reached, no worker able, connection gone──▶ Over ──told, or connection gone──▶ (forgotten)
 *
 * Workers are asked on while an operator is slow, so that what is lost is counted; the queue here is bounded, and what finds no
 * room in it is dropped. Nothing of this holds up a worker or the supervisor.
 * Invariant: a worker that does not know the order is told of once, and the others are looked at all the same.
 */
import { ChannelError, type Question } from '../src/ipc/channel.ts'
import { readLookOrder, type LookOrder, type Seen, type SeenByAll, type UnableWorker } from '../src/ipc/looking.ts'
import type { OperatorConnection } from './control-server.ts'
import type { ProcessHost } from './process-host.ts'
import { messageOf } from './worker-orders.ts'
import { WorkerState, type WorkerLink, type WorkerProcess } from './worker-process.ts'

/** How often it is looked for workers that are new, in ms. */
const SCAN_MS = 200
/** A question of an operator without an answer by then is answered with nothing, in ms. */
const HOLD_MS = 1_000
/** A worker answers within a second; one that has not by then is asked anew when it is heard of again, in ms. */
const WORKER_ANSWERS_MS = 10_000
/** How long an answer is gathered that there is something for, in ms. */
const GATHER_MS = 20
const MAX_LOOK_OUTS = 16
const MAX_QUEUED = 10_000
const MAX_QUEUED_CHARS = 4_194_304
/** Of one answer. */
const MAX_ANSWER_CHARS = 524_288
const ANSWER_FRAME = 16_384

/** Whose workers are looked at. */
export interface WatchedFleet {
  workers(): Iterable<WorkerProcess>
}

export interface LookOutsSetup {
  readonly host: Pick<ProcessHost, 'after'>
  /** Asked anew each time; null: there is none yet. */
  readonly fleet: () => WatchedFleet | null
  readonly maxMessageBytes: () => number
}

export class LookOuts {
  readonly #setup: LookOutsSetup
  readonly #lookOuts = new Map<string, LookOut>()

  constructor(setup: LookOutsSetup) { this.#setup = setup }

  get size(): number { return this.#lookOuts.size }

  /** Begins, or goes on. */
  ask(given: unknown, question: Question, connection: OperatorConnection): void {
    const order = readLookOrder(given)
    if ('problem' in order) { question.refuse('refused', order.problem); return }
    let lookOut = this.#lookOuts.get(order.id)
    if (lookOut === undefined) {
      if (this.#lookOuts.size >= MAX_LOOK_OUTS) { question.refuse('refused', `${MAX_LOOK_OUTS} operators look already`); return }
      const begun = lookOut = new LookOut(order, this.#setup, () => { this.#lookOuts.delete(order.id) })
      this.#lookOuts.set(order.id, begun)
      connection.onGone(() => begun.end())
    }
    lookOut.ask(question)
  }
}

/** What is known of a worker that is looked at. */
interface Followed {
  readonly worker: WorkerProcess
  readonly link: WorkerLink
}

class LookOut {
  readonly #order: LookOrder
  readonly #setup: LookOutsSetup
  readonly #onEnd: () => void
  readonly #followed = new Map<string, Followed>()
  /** Ids of workers that are not asked (again): they cannot, or have told all that was wanted. */
  readonly #done = new Set<string>()
  #unable: UnableWorker[] = []
  /** Requests still wanted; Infinity: all that come. */
  #wanted: number
  #entries: string[] = []
  /** As they are written into an answer. */
  #lengths: number[] = []
  #chars = 0
  #dropped = 0
  #question: Question | null = null
  /** The question is answered soon, with what there is by then. */
  #gathering = false
  #cancelScan: () => void = () => {}
  #cancelAnswer: () => void = () => {}
  #ended = false

  constructor(order: LookOrder, setup: LookOutsSetup, onEnd: () => void) {
    this.#order = order
    this.#setup = setup
    this.#onEnd = onEnd
    this.#wanted = order.count === 0 ? Infinity : order.count
    this.#scan()
  }

  ask(question: Question): void {
    // One that is asked twice at a time: all that there is goes into the second answer.
    this.#question?.ok({ entries: [], dropped: 0, over: false, workers: [...this.#followed.keys()], unable: [] } satisfies SeenByAll)
    this.#question = question
    this.#gathering = this.#hasNews || this.#over
    this.#answerIn(this.#gathering ? GATHER_MS : HOLD_MS)
  }

  /** The operator is gone, or has been told everything. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#cancelScan()
    this.#cancelAnswer()
    this.#lookAway()
    this.#onEnd()
  }

  // ---- the workers

  #scan(): void {
    if (this.#over || this.#ended) return
    for (const worker of this.#setup.fleet()?.workers() ?? []) {
      if (worker.state === WorkerState.Starting || worker.link === null || this.#done.has(worker.id)) continue
      if (this.#followed.get(worker.id)?.link !== worker.link) void this.#follow({ worker, link: worker.link })
    }
    this.#cancelScan = this.#setup.host.after(SCAN_MS, () => this.#scan())
  }

  /** Never rejects. */
  async #follow(followed: Followed): Promise<void> {
    const { worker, link } = followed
    this.#followed.set(worker.id, followed)
    const isLast = (): boolean => this.#ended || this.#over || this.#followed.get(worker.id) !== followed
    try {
      while (!isLast()) {
        const seen = await link.ask({ tag: 'look', look: this.#order }, WORKER_ANSWERS_MS) as Seen
        if (isLast()) return
        this.#onSeen(seen)
        if (seen.over !== true) continue
        this.#done.add(worker.id)
        break
      }
    } catch (error) {
      if (!isLast()) this.#onFailed(worker, error)
    } finally {
      if (this.#followed.get(worker.id) === followed) this.#followed.delete(worker.id)
    }
  }

  #onFailed(worker: WorkerProcess, error: unknown): void {
    // A worker that ended is none to look at; one whose connection ended, or that hangs, is looked for again.
    if (!(error instanceof ChannelError) || error.code === 'closed' || error.code === 'timeout') return
    this.#done.add(worker.id)
    const reason = error.code === 'unknown' ? 'its build does not know how to be looked at' : messageOf(error)
    this.#unable.push({ worker: worker.id, reason })
    this.#news()
  }

  #onSeen({ entries, dropped }: Seen): void {
    // It comes from another process, perhaps of another build.
    if (typeof dropped === 'number' && dropped > 0) this.#dropped += dropped
    for (const entry of Array.isArray(entries) ? entries as unknown[] : []) {
      if (typeof entry !== 'string' || this.#wanted <= 0) continue
      const chars = JSON.stringify(entry).length + 1
      if (this.#entries.length >= MAX_QUEUED || this.#chars + chars > MAX_QUEUED_CHARS || chars > this.#maxChars) {
        this.#dropped++
        continue
      }
      this.#wanted--
      this.#chars += chars
      this.#lengths.push(chars)
      this.#entries.push(entry)
    }
    if (this.#over) this.#lookAway()
    if (this.#hasNews) this.#news()
  }

  /** Those that are asked need not find out by themselves. */
  #lookAway(): void {
    for (const { link } of this.#followed.values()) link.send({ tag: 'look-away', id: this.#order.id })
    this.#followed.clear()
  }

  // ---- the operator

  /** Nothing further will come. */
  get #over(): boolean { return this.#wanted <= 0 }
  get #hasNews(): boolean { return this.#entries.length > 0 || this.#dropped > 0 || this.#unable.length > 0 }
  get #maxChars(): number { return Math.min(MAX_ANSWER_CHARS, this.#setup.maxMessageBytes() - ANSWER_FRAME) }

  /** News that come while others are gathered do not put off the answer. */
  #news(): void {
    if (this.#question === null || this.#gathering) return
    this.#gathering = true
    this.#answerIn(GATHER_MS)
  }

  #answerIn(ms: number): void {
    this.#cancelAnswer()
    this.#cancelAnswer = this.#setup.host.after(ms, () => this.#answer())
  }

  #answer(): void {
    const question = this.#question
    if (question === null) return
    this.#question = null
    const told = this.#take(this.#maxChars)
    question.ok(told)
    if (told.over) this.end()
  }

  #take(maxChars: number): SeenByAll {
    let count = 0, chars = 0
    while (count < this.#entries.length && chars + this.#lengths[count]! <= maxChars) chars += this.#lengths[count++]!
    const entries = this.#entries.splice(0, count), dropped = this.#dropped, unable = this.#unable
    this.#lengths.splice(0, count)
    this.#chars -= chars
    this.#dropped = 0
    this.#unable = []
    return { entries, dropped, over: this.#over && this.#entries.length === 0, workers: [...this.#followed.keys()], unable }
  }
}
