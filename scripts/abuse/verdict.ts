/** From what was seen to PASS or FAIL, and the table. Pure. */
import { alignedTable } from '../bench/aligned-table.ts'
import { duration } from '../bench/report.ts'
import { percentile } from '../bench/statistics.ts'
import type { Bounds } from './attack.ts'

/** One request of a victim. */
export interface Visit { readonly ms: number; readonly served: boolean }

export interface VictimTimes {
  readonly count: number
  readonly unserved: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Of those that were served. */
  readonly longestMs: number
}

export interface Observation {
  readonly attacked: VictimTimes
  readonly undisturbed: VictimTimes
  readonly workersEnded: number
  readonly descriptorsLeft: number
  readonly connectionsLeft: number
  readonly workerMB: number
  readonly allMB: number
  readonly growthMB: number
  readonly connections: number
  readonly errorLinesPerSecond: number
  /** What the attack itself saw that must not be. */
  readonly faults: readonly string[]
}

/**
 * Times below these are those of an idle machine: one request more in front of a victim doubles them, and nobody notices.
 * Both instances share the machine with the attack, so the undisturbed one pays for the attacker's own work as well.
 */
const P50_FLOOR_MS = 5
const P99_FLOOR_MS = 20
/** An undisturbed instance that takes longer for one victim of a hundred has not got the machine: nothing can be compared with it. */
const BUSY_P99_MS = 100
/** Below that a percentile is the luck of a few. */
const VICTIMS_MIN = 20

/** One that was not served has waited for ever, as far as percentiles go. */
export function timesOf(visits: readonly Visit[]): VictimTimes {
  const answered = visits.filter(({ served }) => served)
  const sorted = visits.map(({ ms, served }) => (served ? ms : Number.POSITIVE_INFINITY)).toSorted((a, b) => a - b)
  return {
    count: visits.length, unserved: visits.length - answered.length,
    p50Ms: percentile(sorted, 50), p99Ms: percentile(sorted, 99), longestMs: Math.max(0, ...answered.map(({ ms }) => ms)),
  }
}

/** @returns '' when the undisturbed instance shows that the machine had time for it, else what it shows. */
function busyWith({ undisturbed: { unserved, p99Ms } }: Observation): string {
  if (unserved > 0) return `the undisturbed instance failed ${unserved} times`
  return p99Ms > BUSY_P99_MS ? `the undisturbed instance had a p99 of ${round(p99Ms)} ms` : ''
}

/** A run that says nothing is no FAIL of the proxy, and no PASS. */
export function verdictOf(seen: Observation, bounds: Bounds): 'PASS' | 'FAIL' | 'BUSY' {
  return judge(seen, bounds).length === 0 ? 'PASS' : busyWith(seen) === '' ? 'FAIL' : 'BUSY'
}

/** @returns what is wrong, a sentence each; empty is PASS. */
export function judge(seen: Observation, bounds: Bounds): string[] {
  const wrong: string[] = []
  const most = (what: string, value: number, limit: number, unit = ''): void => {
    if (!(value <= limit)) wrong.push(`${what} ${round(value)}${unit}, at most ${round(limit)}${unit}`)
  }
  if (seen.undisturbed.count < VICTIMS_MIN || seen.attacked.count < VICTIMS_MIN) {
    wrong.push(`only ${Math.min(seen.undisturbed.count, seen.attacked.count)} victims asked, ${VICTIMS_MIN} at least say something`)
  }
  const busy = busyWith(seen)
  if (busy !== '') wrong.push(`${busy}: this run says nothing`)
  if (Number.isFinite(bounds.times)) {
    most('p50', seen.attacked.p50Ms, bounds.times * Math.max(P50_FLOOR_MS, seen.undisturbed.p50Ms), ' ms')
    most('p99', seen.attacked.p99Ms, bounds.times * Math.max(P99_FLOOR_MS, seen.undisturbed.p99Ms), ' ms')
  }
  most('longest wait', seen.attacked.longestMs, bounds.longestMs, ' ms')
  most('victims unserved', seen.attacked.unserved, bounds.unserved)
  most('workers ended', seen.workersEnded, bounds.workersEnded)
  most('descriptors left', seen.descriptorsLeft, bounds.descriptorsLeft)
  most('connections left', seen.connectionsLeft, bounds.connectionsLeft)
  most('memory of a worker', seen.workerMB, bounds.workerMB, ' MB')
  most('memory of all', seen.allMB, bounds.allMB, ' MB')
  most('a worker grew by', seen.growthMB, bounds.growthMB, ' MB')
  most('connections at once', seen.connections, bounds.connections)
  most('error lines a second', seen.errorLinesPerSecond, bounds.errorLinesPerSecond)
  return [...wrong, ...seen.faults]
}

function round(value: number): string { return Number.isInteger(value) || !Number.isFinite(value) ? String(value) : value.toFixed(1) }

export interface Row { readonly name: string; readonly done: string; readonly seen: Observation; readonly bounds: Bounds }

const TITLES = [
  'attack', 'p50', 'alone', 'p99', 'alone', 'longest', 'unserved', 'ended', 'fds left', 'conns left', 'worker', 'of', 'verdict',
]

/** `alone` is the undisturbed instance in the same seconds. */
export function abuseTable(rows: readonly Row[]): string {
  const lines = rows.map(({ name, seen, bounds }) => {
    const { attacked, undisturbed } = seen
    const ms = (value: number): string => (Number.isFinite(value) ? duration(value * 1000) : 'never')
    return [
      name, ms(attacked.p50Ms), ms(undisturbed.p50Ms), ms(attacked.p99Ms), ms(undisturbed.p99Ms), ms(attacked.longestMs),
      `${attacked.unserved}/${attacked.count}`, String(seen.workersEnded), String(seen.descriptorsLeft), String(seen.connectionsLeft),
      `${seen.workerMB.toFixed(0)} MB`, `${bounds.workerMB} MB`, verdictOf(seen, bounds),
    ]
  })
  const reasons = rows.flatMap(({ name, seen, bounds }) => {
    const verdict = verdictOf(seen, bounds)
    return judge(seen, bounds).map((wrong) => `${verdict} ${name}: ${wrong}`)
  })
  return `${alignedTable([TITLES, ...lines])}\n${reasons.length === 0 ? '' : `\n${reasons.join('\n')}\n`}`
}
