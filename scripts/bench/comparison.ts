/**
 * Cirque of this checkout held against Cirque of another one: what a request costs each, what an idle connection does.
 * Ratios are taken within a round (statistics.ts says why). Pure.
 */
import type { Measurement } from './measurement.ts'
import { median, roundRatios } from './statistics.ts'

/** The contender from this checkout, and the one from the checkout of `--against`. */
export const AFTER = 'cirque'
export const BEFORE = 'cirque-before'
export const COMPARED: readonly string[] = [AFTER, BEFORE]

export interface Comparison {
  readonly workload: string
  /** Microseconds of CPU per request, or bytes per idle connection. */
  readonly unit: 'us' | 'bytes'
  readonly after: number
  readonly before: number
  /** Median over the rounds of after / before. */
  readonly ratio: number
  /** The smallest and the largest ratio of a round: what lies between them is as likely noise as not. */
  readonly lowest: number
  readonly highest: number
  /** Median of the rounds' ratios of p99; NaN where none is measured. */
  readonly p99Ratio: number
  /** Median of the rounds' ratios of the memory that is no file, of all processes, at the end of a measurement. */
  readonly memoryRatio: number
}

/** One entry for each workload in which both were measured in some round. */
export function compare(measurements: readonly Measurement[], workloads: readonly string[]): Comparison[] {
  const comparisons: Comparison[] = []
  for (const workload of workloads) {
    const own = measurements.filter((measurement) => measurement.workload === workload)
    const idle = own.some((measurement) => !Number.isNaN(measurement.idleConnectionBytes))
    const cost = idle ? idleBytes : micros
    const ratios = ratiosOf(own, cost)
    if (ratios.length === 0) continue
    comparisons.push({
      workload,
      unit: idle ? 'bytes' : 'us',
      after: median(valuesOf(own, AFTER, cost)),
      before: median(valuesOf(own, BEFORE, cost)),
      ratio: median(ratios),
      lowest: Math.min(...ratios),
      highest: Math.max(...ratios),
      p99Ratio: median(ratiosOf(own, (measurement) => measurement.p99Micros)),
      memoryRatio: median(ratiosOf(own, (measurement) => measurement.ownKiloBytes)),
    })
  }
  return comparisons
}

type Value = (measurement: Measurement) => number

function micros(measurement: Measurement): number { return measurement.userMicros + measurement.systemMicros }
function idleBytes(measurement: Measurement): number { return measurement.idleConnectionBytes }

function valuesOf(measurements: readonly Measurement[], contender: string, value: Value): number[] {
  return measurements.filter((measurement) => measurement.contender === contender).map(value)
}

function ratiosOf(measurements: readonly Measurement[], value: Value): number[] {
  const values = measurements.map((measurement) => {
    const { round, contender } = measurement
    return { round, contender, value: value(measurement) }
  })
  return roundRatios(values, AFTER, BEFORE)
}
