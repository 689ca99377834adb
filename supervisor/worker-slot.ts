/**
 * A slot: one place for a worker, with its own listening sockets that outlive every worker in it. Its staffing says who
 * forks the next worker here:
 *
 *   Watched --its worker died--> BackOff --over--> Watched   a worker is wanted, the restart policy forks the next
 *     |  ^                          |
 *   hold release                  hold
 *     v  |                          |
 *    Held <-------------------------+                       an operation forks here; a death schedules nothing
 *
 *   Surplus --hold--> Opening --release--> Surplus          no worker is wanted here: the sockets stay, a sibling stands
 *                                                           in; Opening: an operation forks one all the same
 *   any --staff--> Watched          any --vacate--> Surplus
 *
 * `current` serves or is about to; `incoming` is its replacement, on the same sockets; `previous` has stopped accepting
 * for a generation that is not committed yet, and can take its place back; `spare` is ready and waits to be needed
 * (spares.ts); `draining` never accepts again.
 * While none of them serves, `standIn` (stand-in.ts) accepts for the slot.
 */
import { HISTORY_LENGTH } from './restart-policy.ts'
import type { WorkerLife } from './restart-policy.ts'
import { StandIn } from './stand-in.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerProcess, WorkerRecord } from './worker-process.ts'

export const Staffing = { Watched: 0, BackOff: 1, Held: 2, Surplus: 3, Opening: 4 } as const
export type Staffing = (typeof Staffing)[keyof typeof Staffing]

const { Watched, BackOff, Held, Surplus, Opening } = Staffing

const MOVES: Readonly<Record<Staffing, readonly Staffing[]>> = {
  [Watched]: [BackOff, Held, Surplus],
  [BackOff]: [Watched, Held, Surplus],
  [Held]: [Watched, Surplus],
  [Surplus]: [Watched, Opening],
  [Opening]: [Watched, Surplus],
}

/** What an operator is shown. */
export type SlotState = 'waiting' | 'starting' | 'serving' | 'replacing' | 'surplus'

/** A build that does not know `spare` refuses such a worker, which ends it. */
export type Place = 'current' | 'incoming' | 'previous' | 'spare' | 'draining'

/** What the journal keeps of a slot. */
export interface SlotRecord {
  readonly hasQueue: boolean
  readonly surplus: boolean
  readonly restarts: number
  readonly nextN: number
  /** Id of the sibling that accepts here as well; '' when none does. */
  readonly standIn: string
  readonly workers: readonly (WorkerRecord & { readonly place: Place })[]
}

export class WorkerSlot {
  readonly index: number
  staffing: Staffing
  current: WorkerProcess | null = null
  incoming: WorkerProcess | null = null
  previous: WorkerProcess | null = null
  spare: WorkerProcess | null = null
  readonly draining = new Set<WorkerProcess>()
  readonly standIn = new StandIn()
  /** A worker has listened here once: from then on the kernel queues connections, worker or not. */
  hasQueue = false
  restarts = 0
  /** Number of the next worker. */
  nextN = 0
  history: WorkerLife[] = []
  /** Of spares that died here since one was used. */
  spareDeaths: WorkerLife[] = []
  /** No spare is kept here before. */
  spareAtMs = 0
  /** While it is in back-off: when that is over. */
  restartAtMs = 0
  #cancelRestart: (() => void) | null = null

  constructor(index: number, surplus: boolean) {
    this.index = index
    this.staffing = surplus ? Surplus : Watched
  }

  /** One that an earlier supervisor knew, still without its workers. Who stands in is not restored: it is asked anew. */
  static restore(record: SlotRecord, index: number): WorkerSlot {
    const slot = new WorkerSlot(index, record.surplus)
    // A worker that was ready may have been told to listen.
    slot.hasQueue = record.hasQueue || record.workers.some(worker => worker.phase !== 'starting')
    slot.restarts = record.restarts
    slot.nextN = record.nextN
    return slot
  }

  record(ageShiftMs: number): SlotRecord {
    const { hasQueue, surplus, restarts, nextN } = this
    const living = [...this.workers()].filter(worker => worker.alive)
    const workers = living.map(worker => ({ ...worker.record(ageShiftMs), place: this.#placeOf(worker) }))
    return { hasQueue, surplus, restarts, nextN, standIn: this.standIn.worker?.id ?? '', workers }
  }

  get state(): SlotState {
    if (this.current === null) return this.incoming !== null ? 'starting' : this.surplus ? 'surplus' : 'waiting'
    if (this.current.state === WorkerState.Accepting) return this.incoming === null ? 'serving' : 'replacing'
    return 'starting'
  }

  /** The generation wants fewer workers than there are slots, and none here. */
  get surplus(): boolean { return this.staffing === Surplus || this.staffing === Opening }
  /** An operation forks here. */
  get held(): boolean { return this.staffing === Held || this.staffing === Opening }
  /** A restart waits here. */
  get backingOff(): boolean { return this.staffing === BackOff }
  /** No worker is here that serves or will. */
  get vacant(): boolean { return this.current === null && this.incoming === null }

  /** Everyone who lives in this slot, in whatever state. */
  *workers(): Generator<WorkerProcess> {
    if (this.current !== null) yield this.current
    if (this.incoming !== null) yield this.incoming
    if (this.previous !== null) yield this.previous
    if (this.spare !== null) yield this.spare
    yield* this.draining
  }

  /** An operation forks here from now on; a restart that was to come does not. */
  hold(): void { this.#moveTo(this.surplus ? Opening : Held) }

  /** The operation has ended and changed nothing. */
  release(): void { if (this.held) this.#moveTo(this.surplus ? Surplus : Watched) }

  /** A worker is wanted here. */
  staff(): void { if (this.staffing !== BackOff) this.#moveTo(Watched) }

  /** No worker is wanted here any more; those that are here are the caller's to end. */
  vacate(): void { this.#moveTo(Surplus) }

  /**
   * A restart waits, unless one does already or the policy has nothing to say here.
   * @param wait begins, and returns what cancels.
   */
  beginBackOff(untilMs: number, wait: () => () => void): void {
    if (!this.#moveTo(BackOff)) return
    this.restartAtMs = untilMs
    this.#cancelRestart = wait()
  }

  /** The wait is over, or there will be no restart. */
  endBackOff(): void { if (this.staffing === BackOff) this.#moveTo(Watched) }

  /** From its place to those that are on their way out. */
  displace(worker: WorkerProcess): void {
    this.#leave(worker)
    this.draining.add(worker)
  }

  /** It has ended. */
  remove(worker: WorkerProcess): void {
    this.#leave(worker)
    this.draining.delete(worker)
  }

  recordDeath(life: WorkerLife): void {
    this.history.push(life)
    if (this.history.length > HISTORY_LENGTH) this.history.shift()
  }

  #leave(worker: WorkerProcess): void {
    if (this.current === worker) this.current = null
    if (this.incoming === worker) this.incoming = null
    if (this.previous === worker) this.previous = null
    if (this.spare === worker) this.spare = null
  }

  #placeOf(worker: WorkerProcess): Place {
    if (worker === this.current) return 'current'
    if (worker === this.incoming) return 'incoming'
    if (worker === this.spare) return 'spare'
    return worker === this.previous ? 'previous' : 'draining'
  }

  /** @returns false when the move is not one of the drawing. */
  #moveTo(to: Staffing): boolean {
    if (!MOVES[this.staffing].includes(to)) return false
    this.staffing = to
    this.#cancelRestart?.()
    this.#cancelRestart = null
    return true
  }
}
