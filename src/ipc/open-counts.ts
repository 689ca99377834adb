/**
 * What is open and what has been done, counted by every service and summed over services and workers: for heartbeats,
 * `status` and drain reports. A new count is a field here and a row of the table, and then the service that counts it.
 */
export interface OpenCounts {
  readonly connections: number
  readonly idleConnections: number
  readonly activeExchanges: number
  readonly upgraded: number
  /** Of those that are upgraded. */
  readonly webSockets: number
  /** Age of the oldest that is upgraded, in ms; 0: there is none. */
  readonly oldestUpgradedMs: number
  /** Exchanges begun so far. */
  readonly exchanges: number
  /** 5xx answers that were made here, not relayed from an upstream. */
  readonly ownFaults: number
}

/** How the counts of two parts are those of both. */
const HOW: Readonly<Record<keyof OpenCounts, 'sum' | 'greatest'>> = {
  connections: 'sum',
  idleConnections: 'sum',
  activeExchanges: 'sum',
  upgraded: 'sum',
  webSockets: 'sum',
  oldestUpgradedMs: 'greatest',
  exchanges: 'sum',
  ownFaults: 'sum',
}

const NAMES = Object.keys(HOW) as readonly (keyof OpenCounts)[]

export const NO_COUNTS: OpenCounts = Object.fromEntries(NAMES.map(name => [name, 0])) as Record<keyof OpenCounts, number>

/** @param parts of another build may lack a count, which is 0 then. */
export function sumCounts(parts: Iterable<Partial<OpenCounts>>): OpenCounts {
  const sum: Record<keyof OpenCounts, number> = { ...NO_COUNTS }
  for (const part of parts) {
    for (const name of NAMES) {
      const count = part[name] ?? 0
      sum[name] = HOW[name] === 'sum' ? sum[name] + count : Math.max(sum[name], count)
    }
  }
  return sum
}
