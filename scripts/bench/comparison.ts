/**
 * Cirque of this checkout held against Cirque of another one: what a request costs each, what an idle connection does.
 * Ratios are taken within a round (statistics.ts says why). Pure.
 */
import type { Measurement } from './measurement.ts'
import { median, percentile, roundRatios } from './statistics.ts'

/** The contender from this checkout, and the one from the checkout of `--against`. */
export const AFTER = 'cirque'
export const BEFORE_SUFFIX = '-before'
export const BEFORE = `${AFTER}${BEFORE_SUFFIX}`

/** Whether both sides of some comparison are among these. */
export function canCompare(contenders: readonly string[]): boolean {
  return contenders.some((name) => contenders.includes(`${name}${BEFORE_SUFFIX}`))
}

export interface Comparison {
  readonly workload: string
  /** The contender from this checkout. */
  readonly contender: string
  /** Microseconds of CPU per request, or bytes per idle connection. */
  readonly unit: 'us' | 'bytes'
  readonly after: number
  readonly before: number
  /** Median over the rounds of after / before. */
  readonly ratio: number
  /** The smallest and the largest ratio of a round: what lies between them is as likely noise as not. */
  readonly lowest: number
  readonly highest: number
  /**
   * The lower quartile of all rounds of the one over that of the other. What else a machine does only adds, so this says more than
   * `ratio` where the machine's guests come and go within a round.
   */
  readonly quietRatio: number
  /** Median of the rounds' ratios of p99; NaN where none is measured. */
  readonly p99Ratio: number
  /** Median of the rounds' ratios of the memory that is no file, of all processes, at the end of a measurement. */
  readonly memoryRatio: number
}

/** One entry for each workload and form of Cirque of which both were measured in some round. */
export function compare(measurements: readonly Measurement[], workloads: readonly string[]): Comparison[] {
  const comparisons: Comparison[] = []
  for (const workload of workloads) {
    const all = measurements.filter((measurement) => measurement.workload === workload)
    const idle = all.some((measurement) => !Number.isNaN(measurement.idleConnectionBytes))
    const cost = idle ? idleBytes : micros
    for (const contender of new Set(all.map((measurement) => measurement.contender))) {
      const ratios = ratiosOf(all, contender, cost)
      if (ratios.length === 0) continue
      const after = valuesOf(all, contender, cost), before = valuesOf(all, `${contender}${BEFORE_SUFFIX}`, cost)
      comparisons.push({
        workload,
        contender,
        unit: idle ? 'bytes' : 'us',
        after: median(after),
        before: median(before),
        ratio: median(ratios),
        lowest: Math.min(...ratios),
        highest: Math.max(...ratios),
        quietRatio: lowerQuartile(after) / lowerQuartile(before),
        p99Ratio: median(ratiosOf(all, contender, (measurement) => measurement.p99Micros)),
        memoryRatio: median(ratiosOf(all, contender, (measurement) => measurement.ownKiloBytes)),
      })
    }
  }
  return comparisons
}

type Value = (measurement: Measurement) => number

function micros(measurement: Measurement): number { return measurement.userMicros + measurement.systemMicros }
function idleBytes(measurement: Measurement): number { return measurement.idleConnectionBytes }

function lowerQuartile(values: readonly number[]): number { return percentile(values.toSorted((a, b) => a - b), 25) }

function valuesOf(measurements: readonly Measurement[], contender: string, value: Value): number[] {
  return measurements.filter((measurement) => measurement.contender === contender).map(value)
}

function ratiosOf(measurements: readonly Measurement[], contender: string, value: Value): number[] {
  const values = measurements.map((measurement) => {
    const { round, contender } = measurement
    return { round, contender, value: value(measurement) }
  })
  return roundRatios(values, contender, `${contender}${BEFORE_SUFFIX}`)
}
