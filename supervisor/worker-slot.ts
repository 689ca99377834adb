/**
 * A slot: one place for a worker, with its own listening sockets that outlive every worker in it.
 *
 *   Waiting --fork--> Starting --accepts--> Serving --replacement forked--> Replacing --new one accepts--> Serving
 *      ^                 |                     |                               |
 *      +--- back-off ----+------- dies --------+          old one dies: the new one simply takes over
 *   any --> Stopped          any --> Surplus (fewer workers are wanted: the sockets stay, a sibling accepts for them)
 *
 * `current` serves or is about to; `incoming` is its replacement, on the same sockets; `previous` has stopped accepting
 * for a generation that is not committed yet, and can take its place back; `draining` never can.
 * While nobody serves here, `standIn` (a sibling) accepts for the slot.
 */
import { HISTORY_LENGTH } from './restart-policy.ts'
import type { WorkerLife } from './restart-policy.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerProcess, WorkerRecord } from './worker-process.ts'

export type SlotState = 'waiting' | 'starting' | 'serving' | 'replacing' | 'surplus' | 'stopped'

export type Place = 'current' | 'incoming' | 'previous' | 'draining'

/** What the journal keeps of a slot. */
export interface SlotRecord {
  readonly hasQueue: boolean
  readonly surplus: boolean
  readonly restarts: number
  readonly nextN: number
  /** Id of the sibling that accepts here as well; '' when nobody does. */
  readonly standIn: string
  readonly workers: readonly (WorkerRecord & { readonly place: Place })[]
}

export class WorkerSlot {
  readonly index: number
  current: WorkerProcess | null = null
  incoming: WorkerProcess | null = null
  previous: WorkerProcess | null = null
  readonly draining = new Set<WorkerProcess>()
  /** A sibling's worker that accepts here as well. */
  standIn: WorkerProcess | null = null
  /** Somebody has listened here once: from then on the kernel queues connections, worker or not. */
  hasQueue = false
  stopped = false
  /** A sibling is being asked. */
  asking: Promise<boolean> | null = null
  /** A sibling may accept here that is not `standIn`: an order or its answer was lost. */
  unsure = false
  /** The generation wants fewer workers than there are slots, and none here. */
  surplus = false
  /** A replacement is under way and will fork again by itself. */
  replacing = false
  restarts = 0
  /** Number of the next worker. */
  nextN = 0
  history: WorkerLife[] = []
  cancelRestart: (() => void) | null = null

  constructor(index: number) { this.index = index }

  get state(): SlotState {
    if (this.stopped) return 'stopped'
    if (this.current === null) return this.incoming !== null ? 'starting' : this.surplus ? 'surplus' : 'waiting'
    if (this.current.state === WorkerState.Accepting) return this.incoming === null ? 'serving' : 'replacing'
    return 'starting'
  }

  /** Everyone who lives in this slot, in whatever state. */
  *workers(): Generator<WorkerProcess> {
    if (this.current !== null) yield this.current
    if (this.incoming !== null) yield this.incoming
    if (this.previous !== null) yield this.previous
    yield* this.draining
  }

  record(ageShiftMs: number): SlotRecord {
    const { hasQueue, surplus, restarts, nextN } = this
    const workers = [...this.workers()].filter(worker => worker.alive).map(worker => ({ ...worker.record(ageShiftMs), place: this.#placeOf(worker) }))
    return { hasQueue, surplus, restarts, nextN, standIn: this.standIn?.id ?? '', workers }
  }

  #placeOf(worker: WorkerProcess): Place {
    if (worker === this.current) return 'current'
    if (worker === this.incoming) return 'incoming'
    return worker === this.previous ? 'previous' : 'draining'
  }

  recordDeath(life: WorkerLife): void {
    this.history.push(life)
    if (this.history.length > HISTORY_LENGTH) this.history.shift()
  }

  clearRestart(): void {
    this.cancelRestart?.()
    this.cancelRestart = null
  }
}
