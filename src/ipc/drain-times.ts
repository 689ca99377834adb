/**
 * The times in which a drain ends one thing after the other. They are options of the supervisor, which sends them with its
 * order, and a service drains by them (src/server/drain.ts). A new time is an option there, one row of this table, and then
 * the service that keeps it.
 */
import type { ResolvedDrainOptions } from '../config/supervisor-options.ts'

/**
 * What each time is, for the sum of them: `cut` ends what is left by force, `close` begins to close one kind of
 * connection, `spread` is how long such closes take.
 */
const DRAIN_TIMES = {
  /** Requests still in flight after this are cut; on stop everything is. ms. */
  hardDrainMs: 'cut',
  /** Idle connections are closed after this; on stop they have a moment. ms. */
  idleDrainMs: 'close',
  /** On retire, closes of what is idle or upgraded are spread over this time behind their own. ms. */
  closeSpreadMs: 'spread',
  /** WebSockets are closed after this, with Close 1001. ms. */
  webSocketDrainMs: 'close',
  /** Other upgraded connections are closed after this. ms. */
  tunnelDrainMs: 'close',
} as const satisfies Partial<Record<keyof ResolvedDrainOptions, 'cut' | 'close' | 'spread'>>

export type DrainTimes = { readonly [Name in keyof typeof DRAIN_TIMES]: number }

const ROWS = Object.entries(DRAIN_TIMES) as readonly (readonly [keyof DrainTimes, 'cut' | 'close' | 'spread'])[]

/**
 * `retire`: a replacement serves new connections, so an idle one waits for its next request or idleDrainMs. `stop`: the
 * same for a moment and until nothing is in flight, then idle ones are closed.
 */
export interface DrainRequest extends DrainTimes {
  /** 'retire': a replacement serves new connections; 'stop': nothing does. */
  readonly mode: 'retire' | 'stop'
}

/** @param capMs no time is longer; left out: they stay as they are */
export function drainOrder(mode: DrainRequest['mode'], times: DrainTimes, capMs = Number.POSITIVE_INFINITY): DrainRequest {
  const capped = Object.fromEntries(ROWS.map(([name]) => [name, Math.min(times[name], capMs)])) as DrainTimes
  return { mode, ...capped }
}

/** When the last polite close of a retirement begins, or the last request is cut, in ms from its start. */
export function lastCloseMs(times: DrainTimes): number {
  let cutMs = 0, closeMs = 0, spreadMs = 0
  for (const [name, kind] of ROWS) {
    if (kind === 'cut') cutMs = Math.max(cutMs, times[name])
    else if (kind === 'close') closeMs = Math.max(closeMs, times[name])
    else spreadMs += times[name]
  }
  return Math.max(cutMs, closeMs + spreadMs)
}
