/**
 * When a worker that died is started again. Pure: history and time in, milliseconds out.
 * It never gives up: the kernel keeps the slot's queue and a sibling accepts for it meanwhile. Giving up belongs to a
 * first start that never got a worker ready, see `startFailed`.
 */
import type { ResolvedRestartOptions } from '../src/config/supervisor-options.ts'

/** One worker's life, as the policy sees it. */
export interface WorkerLife {
  /** null: it died before it accepted. */
  readonly acceptingSinceMs: number | null
  readonly diedAtMs: number
}

/** Deaths in a row that count: everything since the last life that accepted long enough. */
export function deathsInARow(history: readonly WorkerLife[], options: ResolvedRestartOptions): number {
  let deaths = 0
  for (let index = history.length - 1; index >= 0; index--) {
    const life = history[index]!
    const accepted = life.acceptingSinceMs === null ? 0 : life.diedAtMs - life.acceptingSinceMs
    // A long life forgets the deaths before it; its own death is the first of a new row.
    deaths++
    if (life.acceptingSinceMs !== null && accepted >= options.forgetAfterMs) break
  }
  return deaths
}

/** @param history newest last, with the death that asks. @param random 0 to 1. @returns how long to wait, in ms. */
export function restartDelayMs(history: readonly WorkerLife[], options: ResolvedRestartOptions, random: number): number {
  const deaths = deathsInARow(history, options)
  if (deaths === 0) return 0
  // 2^31 is past any cap; more would lose nothing but the number.
  const base = Math.min(options.backoffMs * 2 ** Math.min(deaths - 1, 31), options.backoffMsMax)
  return Math.round(base * (1 + options.backoffJitter * (2 * random - 1)))
}

/** Time enough that a worker that dies at once does not keep a core busy; short enough that a client hardly sees it. */
const LAST_RESTART_MS = 200
/** A worker that accepted for so long does not die at once, in ms. */
const SERVED_MS = 1_000

/**
 * While no worker serves or is about to, the wait is short whatever the history is: clients wait in the queues, and no sibling
 * takes them. The first death waits for nothing, nor does that of a worker that has served for a while. @returns how long to wait at
 * most, in ms.
 */
export function lastRestartDelayMs(history: readonly WorkerLife[], options: ResolvedRestartOptions): number {
  const life = history.at(-1)
  const served = life !== undefined && life.acceptingSinceMs !== null && life.diedAtMs - life.acceptingSinceMs >= SERVED_MS
  return served || deathsInARow(history, options) <= 1 ? 0 : LAST_RESTART_MS
}

/** Whether a first start is hopeless: so many deaths, and no worker was ever ready. */
export function startFailed(deathsBeforeFirstReady: number, options: ResolvedRestartOptions): boolean {
  return deathsBeforeFirstReady >= options.maxStartDeaths
}

/** Lives worth keeping: a row longer than this waits backoffMsMax anyway. */
export const HISTORY_LENGTH = 40
