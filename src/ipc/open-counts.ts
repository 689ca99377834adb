/**
 * What is open and what has been done, counted by every service and summed over services and workers: for heartbeats,
 * `status` and drain reports. A new count is one row of this table, and then the service that counts it.
 */

/** Each count, and how the counts of two parts are those of both. */
const COUNTS = {
  connections: 'sum',
  idleConnections: 'sum',
  activeExchanges: 'sum',
  upgraded: 'sum',
  /** Of those that are upgraded. */
  webSockets: 'sum',
  /** Age of the oldest that is upgraded, in ms; 0: there is none. */
  oldestUpgradedMs: 'greatest',
  /** Exchanges begun so far. */
  exchanges: 'sum',
  /** 5xx answers that were made here and not because of an upstream, and answers of upstreams that a hook failed within. */
  ownFaults: 'sum',
  /** Requests answered with 503 because of the load, so far. */
  shed: 'sum',
  /** What connections and requests hold, as it is counted. */
  heldBytes: 'sum',
  /** What they may hold; and connections of clients that there is room for, 0 where there is no limit. */
  memoryBudgetBytes: 'sum',
  connectionLimit: 'sum',
  /** Workers that have spent their budget of memory. */
  exhausted: 'sum',
  /** 5xx answers that were made here because of an upstream: it could not be reached, or broke off. */
  upstreamFaults: 'sum',
  /** Rejected promises that nobody handled; a worker counts them. */
  unhandledRejections: 'sum',
  /** Connections of clients that were let in so far, that were turned away, and that were cut while they waited, for want of room. */
  accepted: 'sum',
  turnedAway: 'sum',
  evicted: 'sum',
  /** Connections to origins: lent to exchanges, at rest, being dialled; and requests that wait for one. */
  poolLent: 'sum',
  poolIdle: 'sum',
  poolDialling: 'sum',
  poolWaiting: 'sum',
  /** Requests that found a connection in the pool so far, and that found none. */
  poolHits: 'sum',
  poolMisses: 'sum',
  /** Of those at rest: closed to make room, for want of demand, for a loss of others like them, for age or another address. */
  poolEvicted: 'sum',
  poolSurplus: 'sum',
  poolDoubted: 'sum',
  poolRetired: 'sum',
  /** Ended while at rest: closed by the origin, by bytes that nothing had asked for, by their time limit. */
  poolClosedByOrigin: 'sum',
  poolUnexpectedBytes: 'sum',
  poolIdleTimeouts: 'sum',
  /** Requests that waited for a place so far, found the queue full, or waited too long. */
  poolQueued: 'sum',
  poolQueueFull: 'sum',
  poolQueueTimeouts: 'sum',
  /** Dials so far, and those that failed or were given up. */
  dials: 'sum',
  dialsFailed: 'sum',
  dialsCancelled: 'sum',
  /** Questions to name servers, and how they ended: an answer, "no such name", a failure. */
  nameQuestions: 'sum',
  nameAnswers: 'sum',
  nameNegatives: 'sum',
  nameFailures: 'sum',
  /** Names that were known, that an old answer stood in for, and whose answer was not waited for any longer. */
  nameHits: 'sum',
  nameStale: 'sum',
  nameTimeouts: 'sum',
  /** Backends of load balancers that run as services, and those of them that get traffic. */
  backends: 'sum',
  backendsReady: 'sum',
  /** Lines that a log did not take, since what reads it was too slow or full. */
  logLinesDropped: 'sum',
  /** Writes to logs, and openings of them, that failed. */
  logFaults: 'sum',
  /** What tracers threw or rejected; nobody else was touched by that. */
  tracerFaults: 'sum',
  /** Spans that a collector did not get: it did not take them, or too many waited for it. */
  traceSpansDropped: 'sum',
} as const satisfies Readonly<Record<string, 'sum' | 'greatest'>>

export type OpenCounts = { readonly [Name in keyof typeof COUNTS]: number }

/** A part of a process that counts. Services may share one: it is counted once. */
export interface Counted {
  counts(): Partial<OpenCounts>
  /** How its backends are, of a part that has some. */
  health?(): UpstreamHealth
}

/** How the backends of one load balancer are. */
export interface UpstreamHealth {
  /** What it is called; several may have one name. */
  readonly upstream: string
  readonly targets: Iterable<{ readonly name: string; readonly ready: boolean }>
  /** How often one of them was taken out of traffic so far, by why. */
  readonly ejections: Readonly<Record<EjectionReason, number>>
}

/** Failed attempts, or a health check. */
export type EjectionReason = 'attempts' | 'check'

export function isCounted(part: object | null | undefined): part is Counted {
  return typeof (part as Partial<Counted> | null | undefined)?.counts === 'function'
}

const NAMES = Object.keys(COUNTS) as readonly (keyof OpenCounts)[]

export const NO_COUNTS: OpenCounts = Object.fromEntries(NAMES.map(name => [name, 0])) as Record<keyof OpenCounts, number>

/** What was done, of which nothing is open any more. */
export type DoneCounts = Pick<OpenCounts, 'exchanges' | 'ownFaults' | 'upstreamFaults'>
export const NOTHING_DONE: DoneCounts = { exchanges: 0, ownFaults: 0, upstreamFaults: 0 }

export function doneOf({ exchanges, ownFaults, upstreamFaults }: DoneCounts): DoneCounts { return { exchanges, ownFaults, upstreamFaults } }

/** @param parts what a part does not count is 0: another build's, or a service of another kind */
export function sumCounts(parts: Iterable<Partial<OpenCounts>>): OpenCounts {
  const sum: Record<keyof OpenCounts, number> = { ...NO_COUNTS }
  for (const part of parts) {
    for (const name of NAMES) {
      const count = part[name] ?? 0
      sum[name] = COUNTS[name] === 'sum' ? sum[name] + count : Math.max(sum[name], count)
    }
  }
  return sum
}
