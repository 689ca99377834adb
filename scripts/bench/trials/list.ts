/** Every trial, in the order in which they run. */
import { burst, fairness } from './crowds.ts'
import { killedWorkers } from './killed-workers.ts'
import { coldStart, idleMemory } from './starts.ts'
import type { Trial } from './trial.ts'

export const TRIALS: readonly Trial[] = [burst, fairness, coldStart, idleMemory, killedWorkers]
