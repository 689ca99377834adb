/**
 * A slot: one place for a worker, with its own listening sockets that outlive every worker in it.
 *
 *   Waiting --fork--> Starting --accepts--> Serving --replacement forked--> Replacing --new one accepts--> Serving
 *      ^                 |                     |                               |
 *      +--- back-off ----+------- dies --------+          old one dies: the new one simply takes over
 *   any --> Stopped
 *
 * `current` serves or is about to; `incoming` is its replacement, on the same sockets; `draining` are its predecessors.
 * While nobody serves here, `adoptedBy` (a sibling) accepts for the slot.
 */
import { HISTORY_LENGTH } from './restart-policy.ts'
import type { WorkerLife } from './restart-policy.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'

export type SlotState = 'waiting' | 'starting' | 'serving' | 'replacing' | 'stopped'

export class WorkerSlot {
  readonly index: number
  current: WorkerProcess | null = null
  incoming: WorkerProcess | null = null
  readonly draining = new Set<WorkerProcess>()
  /** A sibling's worker that accepts here as well. */
  adoptedBy: WorkerProcess | null = null
  /** Somebody has listened here once: from then on the kernel queues connections, worker or not. */
  hasQueue = false
  stopped = false
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
    if (this.current === null) return this.incoming === null ? 'waiting' : 'starting'
    if (this.current.state === WorkerState.Accepting) return this.incoming === null ? 'serving' : 'replacing'
    return 'starting'
  }

  /** Everyone who lives in this slot, in whatever state. */
  *workers(): Generator<WorkerProcess> {
    if (this.current !== null) yield this.current
    if (this.incoming !== null) yield this.incoming
    yield* this.draining
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
