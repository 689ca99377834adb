import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alignedTable } from '../../scripts/bench/aligned-table.ts'
import { summarize, type Measurement } from '../../scripts/bench/measurement.ts'
import { duration, targetLines, workloadTable } from '../../scripts/bench/report.ts'
import { judgeTargets } from '../../scripts/bench/targets.ts'
import { WORKLOADS } from '../../scripts/bench/workloads.ts'

function measurement(contender: string, round: number, micros: number, more: Partial<Measurement> = {}): Measurement {
  return {
    workload: 'small', contender, round, userMicros: micros / 4, systemMicros: (micros * 3) / 4, requestsPerSecond: 1e6 / micros,
    p50Micros: 500, p99Micros: micros * 100, p999Micros: Number.NaN, maxMicros: 5000, memoryKiloBytes: 50_000, ownKiloBytes: 30_000,
    idleConnectionBytes: Number.NaN, clientDelayMicros: Number.NaN, reuseShare: 1, failures: 0, ...more,
  }
}

test('bench report: a summary has medians, ratios within rounds, and the sum of failures', () => {
  const [nginx, cirque] = summarize([
    measurement('nginx', 0, 10), measurement('cirque', 0, 12, { failures: 2 }),
    measurement('cirque', 1, 24, { failures: 1 }), measurement('nginx', 1, 20),
    measurement('other', 0, 1, { workload: '1k' }),
  ], 'small')
  assert.equal(nginx?.ratio, 1)
  assert.equal(cirque?.microsPerRequest, 18)
  assert.equal(cirque?.ratio, 1.2)
  assert.equal(cirque?.p99Ratio, 1.2)
  assert.equal(cirque?.failures, 3)
  assert.equal(cirque?.rounds, 2)
})

test('bench report: targets are met, missed, or not measured', () => {
  const summaries = [
    ...summarize(
      [measurement('nginx', 0, 10), measurement('cirque', 0, 12), measurement('slow', 0, 100), measurement('slower', 0, 200)],
      'small',
    ),
    ...summarize([measurement('nginx', 0, 10, { workload: 'newconn' }), measurement('cirque', 0, 20, { workload: 'newconn' })], 'newconn'),
    ...summarize([measurement('cirque', 0, 1, { workload: 'idle', idleConnectionBytes: 5500 })], 'idle'),
  ]
  const results = judgeTargets(summaries, ['slow', 'slower'])
  const outcome = (title: string): string | undefined => results.find((result) => result.title.startsWith(title))?.outcome
  assert.equal(outcome('small, keep-alive'), 'met')
  assert.equal(outcome('new connection'), 'missed')
  assert.equal(outcome('small: CPU of the best Node proxy'), 'met')
  assert.equal(outcome('idle connection'), 'met')
  assert.equal(outcome('100 kB'), 'not measured')
  assert.match(targetLines(results), /new connection each: CPU .*2\.00 x nginx +<= 1\.8 +missed by 11 %/)
})

test('bench report: with no Node proxy in the run there is nothing to compare with', () => {
  const results = judgeTargets(summarize([measurement('cirque', 0, 12)], 'small'), [])
  assert.deepEqual([...new Set(results.map((result) => result.outcome))], ['not measured'])
})

test('bench report: those that run as they come are held against nginx with a log, in a table of their own', () => {
  const workload = WORKLOADS.find(({ name }) => name === 'small')
  assert.ok(workload)
  const summaries = summarize([
    measurement('cirque', 0, 12), measurement('nginx', 0, 10),
    measurement('cirque-default', 0, 24, { reuseShare: 0.5 }), measurement('nginx-log', 0, 20), measurement('haproxy-default', 0, 30),
  ], 'small')
  assert.equal(summaries.find(({ contender }) => contender === 'cirque-default')?.ratio, 1.2)
  const [tuned = '', asTheyCome = ''] = workloadTable(workload, summaries).split('\n\n')
  assert.match(tuned, /x nginx [^]*\ncirque /)
  assert.doesNotMatch(tuned, /default/)
  assert.match(asTheyCome, /as they come[^]*x nginx-log [^]*\ncirque-default .* 1\.20 .*50\.00 %/)
  const targets = judgeTargets(summaries, [])
  const outcome = (title: string): string | undefined => targets.find((target) => target.title === title)?.outcome
  assert.equal(outcome('as it comes, 64 connections: CPU'), 'met')
  assert.equal(outcome('as it comes, 64 connections: reuse'), 'missed')
})

test('bench report: an access log is held against the same proxy without one', () => {
  const summaries = summarize([
    measurement('nginx', 0, 10), measurement('nginx-log', 0, 13), measurement('cirque', 0, 20), measurement('cirque-log', 0, 22),
  ].map((each) => ({ ...each, workload: 'logcost' })), 'logcost')
  assert.deepEqual(summaries.map(({ contender, ratio }) => [contender, ratio]), [
    ['nginx', 1], ['nginx-log', 1.3], ['cirque', 1], ['cirque-log', 1.1],
  ])
  assert.equal(judgeTargets(summaries, []).find(({ title }) => title.startsWith('access log'))?.outcome, 'met')
})

test('bench report: columns line up', () => {
  assert.equal(alignedTable([['name', 'us'], ['a', '12.50'], ['longer', '7']]), 'name       us\na       12.50\nlonger      7')
})

test('bench report: every kind of workload has a table with one line a contender', () => {
  for (const workload of WORKLOADS) {
    const rows = summarize(
      [measurement('nginx', 0, 10, { workload: workload.name }), measurement('cirque', 0, 12, { workload: workload.name })],
      workload.name,
    )
    const lines = workloadTable(workload, rows).trimEnd().split('\n')
    assert.equal(lines.length, 4, workload.name)
    assert.ok(lines[2]?.startsWith('nginx ') && lines[3]?.startsWith('cirque '), workload.name)
  }
})

test('bench report: durations have the unit that fits', () => {
  assert.equal(duration(812), '812 us')
  assert.equal(duration(12_340), '12.3 ms')
  assert.equal(duration(374_000), '374 ms')
  assert.equal(duration(12_000_000), '12.0 s')
  assert.equal(duration(Number.NaN), '-')
})
