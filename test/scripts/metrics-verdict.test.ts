import assert from 'node:assert/strict'
import { test } from 'node:test'
import { counterTable, judgeMetrics, type CounterFacts, type MetricsProof } from '../../scripts/observability/metrics-verdict.ts'

const COUNTER: CounterFacts = { name: 'cirque_requests_total', series: 3, gone: 0, resets: 0, leastRate: 0, total: 1000 }
const GOOD: MetricsProof = {
  counters: [COUNTER, { ...COUNTER, name: 'other_total' }],
  served: 1000, answered: 998, lostInKill: 3, lostElsewhere: 0, clients: 12, requests: 1001, durations: 1001, deaths: 1, upgrades: 1,
  scrapes: 20, failedScrapes: 1, brokenRules: [], failures: [],
}

test('metrics verdict: what holds passes, and each thing that does not fails by itself', () => {
  assert.deepEqual(judgeMetrics(GOOD).lines.filter(line => !line.startsWith('PASS ')), [])
  assert.equal(judgeMetrics(GOOD).passed, true)
  const wrong: [Partial<MetricsProof>, RegExp][] = [
    [{ counters: [] }, /0 counters/],
    [{ scrapes: 6, failedScrapes: 3 }, /6 scrapes, 3 of them without an answer/],
    [{ counters: [COUNTER, { ...COUNTER, name: 'bad_total', resets: 1 }] }, /reset: bad_total/],
    [{ counters: [COUNTER, { ...COUNTER, name: 'bad_total', leastRate: -0.1 }] }, /below 0: bad_total/],
    [{ counters: [COUNTER, { ...COUNTER, name: 'bad_total', gone: 2 }] }, /vanished: bad_total/],
    [{ served: 997 }, /997 requests served, 998 answers/],
    [{ served: 1002 }, /1002 requests served/],
    [{ served: Number.NaN }, /NaN requests served/],
    [{ served: 0, answered: 0 }, /0 requests served/],
    [{ lostInKill: 13 }, /13 requests lost with the worker/],
    [{ lostElsewhere: 1 }, /1 requests lost while/],
    [{ durations: 1000 }, /1001 requests, 1000 durations/],
    [{ deaths: 2 }, /2 deaths/],
    [{ upgrades: 0 }, /0 upgrades/],
    [{ brokenRules: ['a: no'] }, /evaluated: a: no/],
    [{ failures: ['the upgrade: rolled-back'] }, /the upgrade: rolled-back/],
  ]
  for (const [change, expected] of wrong) {
    const { passed, lines } = judgeMetrics({ ...GOOD, ...change })
    const failed = lines.filter(line => line.startsWith('FAIL '))
    assert.equal(passed, false, String(expected))
    assert.equal(failed.length, 1, lines.join('\n'))
    assert.match(failed[0]!, expected)
  }
})

test('metrics verdict: the table has a line for each counter', () => {
  assert.equal(counterTable([COUNTER, { ...COUNTER, total: 1.5, leastRate: 2 }]), [
    'counter                series  gone  resets  least rate  total',
    'cirque_requests_total       3     0       0        0.00   1000',
    'cirque_requests_total       3     0       0        2.00  1.500',
  ].join('\n'))
})
