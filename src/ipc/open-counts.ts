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
  /** 5xx answers that were made here, not relayed from an upstream, and not because of one. */
  ownFaults: 'sum',
  /** 5xx answers that were made here because of an upstream: it could not be reached, or broke off. */
  upstreamFaults: 'sum',
  /** Rejected promises that nobody handled; a worker counts them. */
  unhandledRejections: 'sum',
} as const satisfies Readonly<Record<string, 'sum' | 'greatest'>>

export type OpenCounts = { readonly [Name in keyof typeof COUNTS]: number }

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
