/**
 * How far a new image has come, in memory that boot.ts and its watchdog thread share: each of them may end the attempt,
 * and only one may.
 *
 *   Booting --commit--> Committed
 *      \
 *       +-- the thread that finds a fault first --> GoingBack     (the other one waits for the exec that ends both)
 */
import { SIGNALS } from './signals.ts'
import type { HandledSignal } from './signals.ts'

export const BootState = { Booting: 0, Committed: 1, GoingBack: 2 } as const
export type BootState = (typeof BootState)[keyof typeof BootState]

/** Words of the memory: the state, and a bit for each of SIGNALS. */
const STATE = 0
const KEPT = 1
const WORDS = 2

export class BootProgress {
  readonly memory: Int32Array<SharedArrayBuffer>

  /** @param memory of the same in another thread. */
  constructor(memory = new Int32Array(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT))) { this.memory = memory }

  get state(): BootState { return Atomics.load(this.memory, STATE) as BootState }

  /** @returns false when it is not booting any more: the other thread was first. */
  moveTo(to: BootState): boolean {
    if (Atomics.compareExchange(this.memory, STATE, BootState.Booting, to) !== BootState.Booting) return false
    Atomics.notify(this.memory, STATE)
    return true
  }

  /** Blocks the thread. @returns false when the state was still this one at the end. */
  waitWhile(state: BootState, forMs: number): boolean { return Atomics.wait(this.memory, STATE, state, forMs) !== 'timed-out' }

  keep(signal: HandledSignal): void { Atomics.or(this.memory, KEPT, 1 << SIGNALS.indexOf(signal)) }

  kept(): HandledSignal[] {
    const bits = Atomics.load(this.memory, KEPT)
    return SIGNALS.filter((_, index) => (bits & (1 << index)) !== 0)
  }
}
