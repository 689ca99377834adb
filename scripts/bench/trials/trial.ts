/**
 * A trial measures what is no stream of requests: a burst, a start, a death. Each has a few figures, taken of each of
 * its contenders in interleaved rounds, each time freshly started. This file has their shape and how rounds become a
 * table; pure. A figure that could not be taken is NaN.
 */
import { BEFORE_SUFFIX } from '../comparison.ts'
import type { Contender } from '../contenders.ts'
import type { Cores } from '../measure.ts'
import type { Origin } from '../origin.ts'
import { median, medianRatio } from '../statistics.ts'
import { alignedTable } from '../aligned-table.ts'

export type Unit = 'ms' | 'MB' | '' | '%'

export interface Bound {
  readonly limit: number
  /** `value`: of the figure itself; `x base`: of its ratio to the trial's base in the same round. */
  readonly of: 'value' | 'x base'
  /** `most`: up to the limit is right; `least`: from the limit on. */
  readonly side: 'most' | 'least'
  /** The contender that it holds for. */
  readonly contender: string
}

export interface Figure {
  readonly name: string
  readonly unit: Unit
  readonly bounds: readonly Bound[]
}

export interface TrialSetting {
  readonly origin: Origin
  readonly cores: Cores
  /** Length of the part that has one. */
  readonly seconds: number
}

export interface Trial {
  readonly name: string
  readonly title: string
  /** Names of contenders, the one that is looked at first. */
  readonly contenders: readonly string[]
  /** The contender that ratios are taken of. */
  readonly base: string
  readonly figures: readonly Figure[]
  measure(contender: Contender, setting: TrialSetting): Promise<Readonly<Record<string, number>>>
}

export interface TrialMeasurement {
  readonly trial: string
  readonly contender: string
  readonly round: number
  readonly values: Readonly<Record<string, number>>
}

export interface TrialTarget {
  readonly title: string
  readonly value: number
  readonly unit: string
  readonly bound: Bound
  readonly outcome: 'met' | 'missed' | 'not measured'
}

const DIGITS: Readonly<Record<Unit, number>> = { 'ms': 1, 'MB': 1, '': 2, '%': 2 }

export function withUnit(value: number, unit: Unit): string {
  if (!Number.isFinite(value)) return '-'
  return `${value.toFixed(Number.isInteger(value) ? 0 : DIGITS[unit])}${unit === '' ? '' : ` ${unit}`}`
}

function valuesOf(measurements: readonly TrialMeasurement[], trial: Trial, figure: Figure) {
  return measurements.filter((each) => each.trial === trial.name)
    .map(({ contender, round, values }) => ({ contender, round, value: values[figure.name] ?? Number.NaN }))
}

function middle(values: ReturnType<typeof valuesOf>, contender: string): number {
  return median(values.filter((each) => each.contender === contender && !Number.isNaN(each.value)).map((each) => each.value))
}

export function judgeTrial(trial: Trial, measurements: readonly TrialMeasurement[]): TrialTarget[] {
  return trial.figures.flatMap((figure) => figure.bounds.map((bound) => {
    const values = valuesOf(measurements, trial, figure)
    const value = bound.of === 'value' ? middle(values, bound.contender) : medianRatio(values, bound.contender, trial.base)
    const met = bound.side === 'most' ? value <= bound.limit : value >= bound.limit
    const unit = bound.of === 'value' ? figure.unit : `x ${trial.base}`
    const title = `${trial.name}, ${bound.contender}: ${figure.name}`
    return { title, value, unit, bound, outcome: Number.isNaN(value) ? 'not measured' as const : met ? 'met' as const : 'missed' as const }
  }))
}

/** One line a figure, one column a contender; behind them the ratio to the base, and with `--against` new to old. */
export function trialTable(trial: Trial, measurements: readonly TrialMeasurement[]): string {
  const contenders = [...new Set(measurements.filter((each) => each.trial === trial.name).map((each) => each.contender))]
    .toSorted((a, b) => rank(trial, a) - rank(trial, b))
  const [looked = ''] = trial.contenders
  const before = `${looked}${BEFORE_SUFFIX}`
  const compares = contenders.includes(before)
  const titles = ['', ...contenders, `x ${trial.base}`, ...(compares ? ['new / old'] : []), 'target']
  const rows = trial.figures.map((figure) => {
    const values = valuesOf(measurements, trial, figure)
    const ratio = (base: string): string => withUnit(medianRatio(values, looked, base), '')
    const bounds = figure.bounds.map((bound) => {
      const who = bound.contender === looked ? '' : `${bound.contender} `
      const limit = bound.of === 'value' ? withUnit(bound.limit, figure.unit) : `${bound.limit} x`
      return `${who}${bound.side === 'most' ? '<=' : '>='} ${limit}`
    })
    return [
      figure.name, ...contenders.map((name) => withUnit(middle(values, name), figure.unit)),
      ratio(trial.base), ...(compares ? [ratio(before)] : []), bounds.join(', ') || '-',
    ]
  })
  return `${trial.name}: ${trial.title}\n${alignedTable([titles, ...rows])}\n`
}

function rank(trial: Trial, name: string): number {
  const old = name.endsWith(BEFORE_SUFFIX)
  return trial.contenders.indexOf(old ? name.slice(0, -BEFORE_SUFFIX.length) : name) + (old ? 0.5 : 0)
}
