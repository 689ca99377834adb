import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compare } from '../../scripts/bench/comparison.ts'
import type { Measurement } from '../../scripts/bench/measurement.ts'
import { comparisonTable } from '../../scripts/bench/report.ts'

function measurement(contender: string, round: number, micros: number, more: Partial<Measurement> = {}): Measurement {
  return {
    workload: 'small', contender, round, userMicros: micros / 2, systemMicros: micros / 2, requestsPerSecond: 1e6 / micros,
    p50Micros: 500, p99Micros: micros * 10, p999Micros: Number.NaN, maxMicros: 5000, memoryKiloBytes: 50_000, ownKiloBytes: 30_000,
    idleConnectionBytes: Number.NaN, clientDelayMicros: Number.NaN, reuseShare: 1, failures: 0, ...more,
  }
}

function idle(contender: string, round: number, bytes: number): Measurement {
  const none = { userMicros: Number.NaN, systemMicros: Number.NaN, p99Micros: Number.NaN }
  return measurement(contender, round, 1, { workload: 'idle', idleConnectionBytes: bytes, ...none })
}

test('bench comparison: the ratio is of rounds, so a machine that grew slower between rounds changes nothing', () => {
  const [small] = compare([
    measurement('cirque', 0, 11), measurement('cirque-before', 0, 10),
    measurement('cirque-before', 1, 40), measurement('cirque', 1, 44),
    measurement('cirque', 2, 24), measurement('cirque-before', 2, 20), measurement('nginx', 2, 5),
  ], ['small'])
  assert.deepEqual([small?.after, small?.before, small?.unit], [24, 20, 'us'])
  assert.ok(Math.abs((small?.ratio ?? 0) - 1.1) < 1e-9)
  assert.ok(Math.abs((small?.lowest ?? 0) - 1.1) < 1e-9)
  assert.ok(Math.abs((small?.highest ?? 0) - 1.2) < 1e-9)
})

test('bench comparison: rounds that something disturbed are left out of the quiet ratio', () => {
  const [small] = compare([
    measurement('cirque', 0, 33), measurement('cirque-before', 0, 10), measurement('cirque', 1, 11), measurement('cirque-before', 1, 20),
    measurement('cirque', 2, 12), measurement('cirque-before', 2, 12), measurement('cirque', 3, 40), measurement('cirque-before', 3, 15),
  ], ['small'])
  assert.ok(Math.abs((small?.quietRatio ?? 0) - 1.1) < 1e-9)
  assert.ok((small?.ratio ?? 0) > 1.5)
})

test('bench comparison: idle connections are compared by their bytes', () => {
  const [found] = compare([idle('cirque', 0, 6000), idle('cirque-before', 0, 5000)], ['idle'])
  assert.deepEqual([found?.after, found?.before, found?.ratio, found?.unit], [6000, 5000, 1.2, 'bytes'])
})

test('bench comparison: a workload that only one of them was measured in is left out', () => {
  assert.deepEqual(
    compare([measurement('cirque', 0, 11), measurement('cirque-before', 1, 10), measurement('nginx', 0, 5)], ['small', '10m']),
    [],
  )
})

test('bench comparison: the table has one line a workload, in their order, and a dash for what is not measured', () => {
  const comparisons = compare([
    idle('cirque', 0, 5250), idle('cirque-before', 0, 5000),
    measurement('cirque', 0, 11, { ownKiloBytes: 36_000 }), measurement('cirque-before', 0, 10),
  ], ['small', 'idle'])
  const [, small = '', idleLine = ''] = comparisonTable(comparisons).split('\n')
  assert.match(small, /^small +cirque +11\.00 +10\.00 +us\/request +1\.100 +1\.10 to 1\.10 +1\.100 +1\.10 +1\.20$/)
  assert.match(idleLine, /^idle +cirque +5250 +5000 +bytes\/connection +1\.050 +1\.05 to 1\.05 +1\.050 +- +1\.00$/)
  assert.equal(comparisonTable([]), 'nothing was measured of both\n')
})
