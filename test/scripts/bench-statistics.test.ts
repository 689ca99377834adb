import assert from 'node:assert/strict'
import { test } from 'node:test'
import { median, medianRatio, orderOfRound, percentile } from '../../scripts/bench/statistics.ts'

test('bench statistics: the median of an even count is the mean of the two in the middle', () => {
  assert.equal(median([9, 1, 5]), 5)
  assert.equal(median([4, 1, 3, 2]), 2.5)
  assert.ok(Number.isNaN(median([])))
})

test('bench statistics: a percentile is a value that was measured', () => {
  const values = Float64Array.from({ length: 100 }, (_, at) => at + 1)
  assert.equal(percentile(values, 50), 50)
  assert.equal(percentile(values, 99), 99)
  assert.equal(percentile(values, 99.9), 100)
  assert.equal(percentile([7], 99), 7)
  assert.ok(Number.isNaN(percentile([], 50)))
})

test('bench statistics: ratios are taken within a round, so a slow minute changes none of them', () => {
  const values = [
    { round: 0, contender: 'nginx', value: 10 }, { round: 0, contender: 'cirque', value: 12 },
    { round: 1, contender: 'cirque', value: 60 }, { round: 1, contender: 'nginx', value: 50 },
    { round: 2, contender: 'nginx', value: 10 }, { round: 2, contender: 'cirque', value: 12 },
  ]
  assert.equal(medianRatio(values, 'cirque', 'nginx'), 1.2)
  assert.equal(medianRatio(values, 'nginx', 'nginx'), 1)
})

test('bench statistics: rounds without the other one do not count', () => {
  const values = [
    { round: 0, contender: 'cirque', value: 12 }, { round: 1, contender: 'nginx', value: 10 },
    { round: 1, contender: 'cirque', value: 20 },
  ]
  assert.equal(medianRatio(values, 'cirque', 'nginx'), 2)
  assert.ok(Number.isNaN(medianRatio(values, 'cirque', 'haproxy')))
})

test('bench statistics: rounds go there and back, and each pair of rounds begins with another contender', () => {
  const rounds = (items: string[], count: number): string[] => Array.from(
    { length: count },
    (_, round) => orderOfRound(items, round).join(''),
  )
  assert.deepEqual(rounds(['a', 'b', 'c'], 7), ['abc', 'cba', 'bca', 'acb', 'cab', 'bac', 'abc'])
  assert.deepEqual(rounds(['a', 'b'], 4), ['ab', 'ba', 'ba', 'ab'])
  assert.deepEqual(orderOfRound([], 3), [])
})
