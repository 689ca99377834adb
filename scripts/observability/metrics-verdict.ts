/** From what Prometheus knows and what clients counted to whether totals can be trusted. Pure. */
import { alignedTable } from '../bench/aligned-table.ts'

/** What Prometheus says of one counter, or of one sort of series of a histogram, over the whole run. */
export interface CounterFacts {
  readonly name: string
  readonly series: number
  /** Series that were there before and are not in its last answer. */
  readonly gone: number
  readonly resets: number
  /** Least rate at any second. */
  readonly leastRate: number
  /** Sum of all series, as of the last scrape. */
  readonly total: number
}

export interface MetricsProof {
  readonly counters: readonly CounterFacts[]
  /** Requests answered well as Prometheus knows them, and as clients counted them. */
  readonly served: number
  readonly answered: number
  /** Requests that clients lost while the worker was killed, and at any other time. */
  readonly lostInKill: number
  readonly lostElsewhere: number
  /** Clients: each has one request under way at most. */
  readonly clients: number
  /** Of the instance: all requests, and those whose duration is known. */
  readonly requests: number
  readonly durations: number
  readonly deaths: number
  readonly upgrades: number
  readonly scrapes: number
  readonly failedScrapes: number
  /** Rules that could not be evaluated, with the reason. */
  readonly brokenRules: readonly string[]
  /** What an operator asked for and did not get, a line each. */
  readonly failures: readonly string[]
}

export interface MetricsVerdict { readonly passed: boolean; readonly lines: readonly string[] }

/** Fewer say nothing about what happened in between. */
const LEAST_SCRAPES = 5

export function judgeMetrics(proof: MetricsProof): MetricsVerdict {
  const lines: string[] = []
  let passed = true
  const check = (right: boolean, text: string): void => {
    passed &&= right
    lines.push(`${right ? 'PASS' : 'FAIL'} ${text}`)
  }
  const { counters, served, answered, lostInKill, lostElsewhere, clients, requests, durations, deaths, upgrades } = proof
  const series = counters.reduce((sum, counter) => sum + counter.series, 0)
  const named = (wrong: (counter: CounterFacts) => boolean): string => counters.filter(wrong).map(({ name }) => name).join(', ')
  const seen = counters.length > 0 && proof.scrapes - proof.failedScrapes >= LEAST_SCRAPES
  check(seen, `${counters.length} counters of ${series} series, ${proof.scrapes} scrapes, ${proof.failedScrapes} of them without an answer`)
  const reset = named(({ resets }) => resets !== 0), negative = named(({ leastRate }) => leastRate < 0), gone = named(one => one.gone !== 0)
  check(reset === '', `counters that were reset: ${reset || 'none'}`)
  check(negative === '', `rates below 0: ${negative || 'none'}`)
  check(gone === '', `series that vanished: ${gone || 'none'}`)
  // What was lost with the worker may have been answered as far as that knew.
  const exact = served >= answered && served <= answered + lostInKill
  check(answered > 0 && exact, `${served} requests served, ${answered} answers counted by clients, ${lostInKill} lost with the worker`)
  check(lostInKill <= clients, `${lostInKill} requests lost with the worker that was killed, of ${clients} clients`)
  check(lostElsewhere === 0, `${lostElsewhere} requests lost while workers and supervisor were replaced`)
  check(requests === durations, `${requests} requests, ${durations} durations`)
  check(deaths === 1, `${deaths} deaths of workers, 1 was made`)
  check(upgrades === 1, `${upgrades} upgrades committed, 1 was asked for`)
  check(proof.brokenRules.length === 0, `rules that cannot be evaluated: ${proof.brokenRules.join('; ') || 'none'}`)
  for (const failure of proof.failures) check(false, failure)
  return { passed, lines }
}

export function counterTable(counters: readonly CounterFacts[]): string {
  const rows = counters.map(({ name, series, gone, resets, leastRate, total }) => {
    const shown = Number.isInteger(total) ? String(total) : total.toFixed(3)
    return [name, String(series), String(gone), String(resets), leastRate.toFixed(2), shown]
  })
  return alignedTable([['counter', 'series', 'gone', 'resets', 'least rate', 'total'], ...rows])
}
