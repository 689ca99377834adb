/** From samples over time to flat or growing, lost or not. Pure. */
import { percentile } from '../bench/statistics.ts'

/** What one instance held at one moment. */
export interface Held {
  readonly supervisorDescriptors: number
  readonly supervisorMB: number
  readonly workerDescriptors: number
  readonly workerMB: number
}

export interface Sample {
  readonly seconds: number
  /** Replaced again and again: only what its supervisor holds can grow for long. */
  readonly replaced: Held
  /** Never touched: what its workers hold can grow. */
  readonly steady: Held
  /** Of the replaced one: generations with a worker that lives. */
  readonly generations: number
  /** So far, of both. */
  readonly attempted: number
  readonly lost: number
  readonly aborts: number
  readonly hung: number
  readonly operations: number
  readonly operationsFailed: number
}

/** Caches fill and code is compiled in this part of a run. */
const WARM_UP_SHARE = 0.2
/** Fewer say nothing about a slope. */
const SAMPLES_MIN = 9
/** maxDrainingGenerations (3), the one that serves, and the one that comes. */
const GENERATIONS_MAX = 5
const GROWTH_MAX = 1.15
/** Below that growth is the noise of buffers and collections. */
const SLACK = { descriptors: 24, megabytes: 12 } as const

interface Series { readonly name: string; readonly unit: string; readonly slack: number; value(sample: Sample): number }

function pair(whose: string, descriptors: (sample: Sample) => number, megabytes: (sample: Sample) => number): Series[] {
  return [
    { name: `descriptors of ${whose}`, unit: '', slack: SLACK.descriptors, value: descriptors },
    { name: `memory of ${whose}`, unit: ' MB', slack: SLACK.megabytes, value: megabytes },
  ]
}

const SERIES: readonly Series[] = [
  ...pair('the supervisor', ({ replaced }) => replaced.supervisorDescriptors, ({ replaced }) => replaced.supervisorMB),
  ...pair('workers that stay', ({ steady }) => steady.workerDescriptors, ({ steady }) => steady.workerMB),
  ...pair('a supervisor that stays', ({ steady }) => steady.supervisorDescriptors, ({ steady }) => steady.supervisorMB),
]

export interface Growth {
  readonly name: string
  readonly unit: string
  readonly early: number
  readonly late: number
  readonly grows: boolean
}

/**
 * The first third after the warm-up beside the last third, each by its lower quartile: what is collected or closed in the
 * end does not count, what never is does. @returns null when there are too few samples to tell.
 */
export function growthOf(samples: readonly Sample[]): Growth[] | null {
  const warm = samples.slice(Math.floor(samples.length * WARM_UP_SHARE))
  if (warm.length < SAMPLES_MIN) return null
  const third = Math.floor(warm.length / 3)
  return SERIES.map(({ name, unit, slack, value }) => {
    const level = (part: readonly Sample[]): number => percentile(part.map(value).toSorted((a, b) => a - b), 25)
    const [early, late] = [level(warm.slice(0, third)), level(warm.slice(-third))]
    return { name, unit, early, late, grows: late > early * GROWTH_MAX + slack }
  })
}

export interface SoakVerdict { readonly passed: boolean; readonly lines: readonly string[] }

export function judgeSoak(samples: readonly Sample[], losses: readonly string[]): SoakVerdict {
  const last = samples.at(-1)
  if (last === undefined) return { passed: false, lines: ['FAIL nothing was seen'] }
  const lines: string[] = []
  let passed = true
  const check = (right: boolean, text: string): void => {
    passed &&= right
    lines.push(`${right ? 'PASS' : 'FAIL'} ${text}`)
  }
  check(last.lost === 0, `lost ${last.lost} of ${last.attempted} requests that nothing explains`)
  lines.push(...losses.map((loss) => `     ${loss}`))
  check(last.attempted > 0 && last.aborts > 0, `${last.attempted} requests, ${last.aborts} explained aborts beside them`)
  check(last.hung === 0, `${last.hung} exchanges did not end although their origin had`)
  check(last.operationsFailed === 0, `${last.operationsFailed} of ${last.operations} reloads and upgrades did not commit`)
  const most = Math.max(...samples.map(({ generations }) => generations))
  check(most <= GENERATIONS_MAX, `${most} generations alive at most, up to ${GENERATIONS_MAX} may be`)
  const growth = growthOf(samples)
  if (growth === null) lines.push(`SKIP flat or not: ${samples.length} samples are too few to tell`)
  else {
    for (const { name, unit, early, late, grows } of growth) {
      check(!grows, `${grows ? 'growing' : 'flat'}: ${name}, ${early.toFixed(0)}${unit} early, ${late.toFixed(0)}${unit} late`)
    }
  }
  return { passed, lines }
}

export const SOAK_TITLES = [
  'minute', 'requests', 'lost', 'aborts', 'done', 'gens', 'sup fds', 'sup MB', 'wrk fds', 'wrk MB',
  '| stay: sup fds', 'sup MB', 'wrk fds', 'wrk MB',
]

export function soakCells(sample: Sample): string[] {
  const held = ({ supervisorDescriptors, supervisorMB, workerDescriptors, workerMB }: Held): string[] =>
    [String(supervisorDescriptors), supervisorMB.toFixed(1), String(workerDescriptors), workerMB.toFixed(1)]
  return [
    (sample.seconds / 60).toFixed(1), String(sample.attempted), String(sample.lost), String(sample.aborts),
    `${sample.operations - sample.operationsFailed}/${sample.operations}`, String(sample.generations),
    ...held(sample.replaced), ...held(sample.steady),
  ]
}


/** A line of a table that grows: as wide as its title, or as numbers of a long run need. */
export function soakLine(cells: readonly string[]): string {
  return cells.map((cell, at) => cell.padStart(Math.max(8, SOAK_TITLES[at]?.length ?? 0))).join(' ')
}
