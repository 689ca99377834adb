/**
 * Medians, percentiles and ratios of benchmark rounds. Pure.
 * A ratio is always taken within one round and the median is taken of the ratios: the machine's mood changes from one
 * minute to the next, and two contenders measured in the same round shared it.
 */

/** NaN for an empty list. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Smallest value that at least `percent` of the values do not exceed (nearest rank). `sorted` is ascending. */
export function percentile(sorted: ArrayLike<number>, percent: number): number {
  if (sorted.length === 0) return Number.NaN
  const rank = Math.ceil((percent / 100) * sorted.length)
  return sorted[Math.min(sorted.length - 1, Math.max(0, rank - 1))] ?? Number.NaN
}

export interface RoundValue {
  readonly round: number
  readonly contender: string
  readonly value: number
}

/** `contender` divided by `base` in each round in which both were measured. */
export function roundRatios(values: readonly RoundValue[], contender: string, base: string): number[] {
  const bases = new Map<number, number>()
  for (const value of values) if (value.contender === base) bases.set(value.round, value.value)
  const ratios: number[] = []
  for (const value of values) {
    const divisor = bases.get(value.round)
    if (value.contender === contender && divisor !== undefined && divisor > 0) ratios.push(value.value / divisor)
  }
  return ratios
}

/** Median of the rounds' ratios; NaN when there is no round in which both were measured. */
export function medianRatio(values: readonly RoundValue[], contender: string, base: string): number {
  return median(roundRatios(values, contender, base))
}

/**
 * Order of one round: everyone once. Rounds go in pairs, there and back, and each pair begins with another one: a machine
 * that grows slower favours nobody, and nobody always follows the same neighbour.
 */
export function orderOfRound<T>(items: readonly T[], round: number): T[] {
  if (items.length === 0) return []
  const first = (round >> 1) % items.length
  const there = [...items.slice(first), ...items.slice(0, first)]
  return round % 2 === 0 ? there : there.toReversed()
}
