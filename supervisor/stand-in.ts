/**
 * The sibling's worker that accepts for a slot while the slot's own worker does not: its stand-in.
 *
 *   None --ask--> Asked --obeyed--> Serving --dismiss--> None
 *     ^           |   ^                |
 *     |           |   +--ask another---+  (the one that serves cannot be reached)
 *     |        dismiss
 *     |           v
 *     +------- Dismissed                  its answer is still to come; no other sibling is asked before
 *     +------- Asked                      it refused, or did not answer in time
 *
 * Only keeps the state; who is asked, and when, is decided in stand-ins.ts.
 */
import type { WorkerProcess } from './worker-process.ts'

export const StandInState = { None: 0, Asked: 1, Serving: 2, Dismissed: 3 } as const
export type StandInState = (typeof StandInState)[keyof typeof StandInState]

const MOVES: Readonly<Record<StandInState, readonly StandInState[]>> = {
  [StandInState.None]: [StandInState.Asked],
  [StandInState.Asked]: [StandInState.Serving, StandInState.Dismissed, StandInState.None],
  [StandInState.Serving]: [StandInState.None, StandInState.Asked],
  [StandInState.Dismissed]: [StandInState.None],
}

export class StandIn {
  state: StandInState = StandInState.None
  /** The one that is asked or serves; null in the other states. */
  worker: WorkerProcess | null = null
  /** What comes of asking: whether the one that was asked accepts here. null: none is asked. */
  answer: Promise<boolean> | null = null
  /** Siblings other than `worker` may accept here as well, because an order or its answer was lost. True in any state. */
  strays = false

  /** A sibling was asked, and has not answered yet. */
  get pending(): boolean { return this.state === StandInState.Asked || this.state === StandInState.Dismissed }

  ask(worker: WorkerProcess): void { if (this.#moveTo(StandInState.Asked)) this.worker = worker }

  /** @returns false when it had been dismissed before it obeyed. */
  obeyed(): boolean {
    if (this.#moveTo(StandInState.Serving)) return true
    this.#moveTo(StandInState.None)
    return false
  }

  refused(): void {
    this.#moveTo(StandInState.None)
    this.worker = null
  }

  /** Not needed any more, or not able. */
  dismiss(): void {
    if (this.state === StandInState.Asked) this.#moveTo(StandInState.Dismissed)
    else if (this.state === StandInState.Serving) this.#moveTo(StandInState.None)
    this.worker = null
  }

  /** @returns false when the move is not one of the drawing. */
  #moveTo(to: StandInState): boolean {
    if (!MOVES[this.state].includes(to)) return false
    this.state = to
    return true
  }
}
