/**
 * Where a worker stands in its life, in the words that it says to the supervisor and that the journal keeps. Worker and
 * supervisor move by this one table; the supervisor adds what only it can tell (worker-process.ts).
 *
 *   starting --prepared--> ready --accept--> accepting <--accept / stop-accept--> paused
 *       |                    |                   |                                  |
 *       +--------------------+-------------------+--------------- drain ------------+--> draining --> the process ends
 *
 * A phase is its word, not a number: it changes five times in a worker's life, and always to be told.
 */
export const WorkerPhase = { Starting: 'starting', Ready: 'ready', Accepting: 'accepting', Paused: 'paused', Draining: 'draining' } as const
export type WorkerPhase = (typeof WorkerPhase)[keyof typeof WorkerPhase]

/** Phases that may follow. */
export const PHASE_MOVES: Readonly<Record<WorkerPhase, readonly WorkerPhase[]>> = {
  starting: ['ready', 'draining'],
  ready: ['accepting', 'draining'],
  accepting: ['paused', 'draining'],
  paused: ['accepting', 'draining'],
  draining: [],
}
