/** Metrics of an application, and what keeps them bounded. What traffic counts as is in tracer-model.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import { COUNT_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS, TRAFFIC_METRICS } from '../../src/ipc/metric-table.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { ProcessMetrics } from '../../src/telemetry/process-metrics.ts'
import { TrafficMetrics } from '../../src/telemetry/traffic-metrics.ts'
import { readMetrics } from '../support/read-metrics.ts'

test('metrics: counters, gauges and histograms hold what they were told', () => {
  const metrics = new Metrics()
  const orders = metrics.counter({ name: 'orders_total', help: 'Orders.', labels: ['tenant'] })
  orders.labels('acme').inc()
  orders.labels('acme').inc(4)
  orders.labels('acme').inc(-1)
  for (const none of [Number.NaN, Infinity]) orders.labels('acme').inc(none)
  const open = metrics.gauge({ name: 'open_orders', help: 'Open.' })
  open.set(7)
  open.inc()
  open.dec(3)
  const sizes = metrics.histogram({ name: 'sizes', help: 'Sizes.', bounds: [1, 10] })
  for (const size of [0, 1, 2, 10, 11, Infinity, Number.NaN]) sizes.observe(size)
  const counted = readMetrics(metrics.memory)
  assert.deepEqual(counted.get('orders_total')!.get('acme'), [5])
  assert.deepEqual(counted.get('open_orders')!.get(''), [5])
  assert.deepEqual(counted.get('sizes')!.get(''), [2, 2, 1, 24])
  assert.equal(metrics.counter({ name: 'orders_total', help: 'Orders.', labels: ['tenant'] }), orders)
})

test('metrics: values that a client makes up share one series past the bound', () => {
  const metrics = new Metrics()
  const seen = metrics.counter({ name: 'hosts_total', help: 'Hosts.', labels: ['host'], maxSeries: 3 })
  for (let n = 0; n < 10_000; n++) seen.labels(`${n}.example`).inc()
  seen.labels('x'.repeat(10_000)).inc()
  const counted = readMetrics(metrics.memory).get('hosts_total')!
  assert.deepEqual([...counted], [['0.example', [1]], ['1.example', [1]], ['2.example', [1]], ['_overflow', [9998]]])
  assert.equal(metrics.overflows, 9998)
})

test('metrics: names, labels and bounds that would not do are refused in one sentence', () => {
  const metrics = new Metrics()
  metrics.gauge({ name: 'taken', help: 'h' })
  const wrong: readonly (readonly [() => unknown, RegExp])[] = [
    [() => metrics.counter({ name: 'orders', help: 'h' }), /counter is called orders; its name has to end in _total/],
    [() => metrics.gauge({ name: '9', help: 'h' }), /"9" is no name of a metric/],
    [() => metrics.gauge({ name: 'cirque_mine', help: 'h' }), /names that begin so are taken/],
    [() => metrics.gauge({ name: 'a', help: 'two\nlines' }), /no help of one line/],
    [() => metrics.gauge({ name: 'a', help: 'h', labels: ['a-b'] }), /has a label "a-b"/],
    [() => metrics.gauge({ name: 'a', help: 'h', labels: ['le'] }), /has a label "le"/],
    [() => metrics.gauge({ name: 'a', help: 'h', labels: ['a', 'a'] }), /has a label twice: a, a/],
    [() => metrics.gauge({ name: 'a', help: 'h', maxSeries: 0 }), /maxSeries is 0/],
    [() => metrics.histogram({ name: 'a', help: 'h', bounds: [2, 1] }), /ascending numbers, and are 2, 1/],
    [() => metrics.histogram({ name: 'a', help: 'h', bounds: [] }), /bounds are 1 to 64/],
    [() => metrics.gauge({ name: 'taken', help: 'h', labels: ['x'] }), /another metric that is called taken/],
    [() => metrics.gauge({ name: 'two', help: 'h', labels: ['a', 'b'] }).labels('1'), /two has 2 labels \(a, b\), and was given 1/],
  ]
  for (const [make, message] of wrong) assert.throws(make, message)
})

test('metrics: the table, what is counted, and the counts of heartbeats name the same', () => {
  const metrics = new Metrics()
  new TrafficMetrics(metrics)
  const own = new ProcessMetrics(metrics, 3)
  own.start()
  own.beat({ ...NO_COUNTS, poolHits: 5, connections: 2 }, { loopLagMs: 20, utilization: 0.5, rssBytes: 1000 }, [])
  own.beat({ ...NO_COUNTS, poolHits: 9, connections: 1 }, { loopLagMs: 10, utilization: 0.25, rssBytes: 2000 }, [
    { upstream: 'api', targets: [{ name: '10.0.0.1:80', ready: true }], ejections: { attempts: 0, check: 0 } },
  ])
  own.stop()
  const counted = readMetrics(metrics.memory)
  assert.deepEqual(counted.get('cirque_pool_requests_total')!.get('hit'), [9])
  assert.deepEqual(counted.get('cirque_connections')!.get(''), [1])
  assert.deepEqual(counted.get('cirque_worker_event_loop_delay_seconds')!.get('3'), [0.01])
  for (const { name } of COUNT_METRICS) assert.ok(counted.has(name), name)
  for (const name of Object.keys(PROCESS_METRICS)) assert.ok(counted.has(name), name)
  const tables = [TRAFFIC_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS].flatMap(table => Object.keys(table))
  const all = [...tables, ...COUNT_METRICS.map(({ name }) => name)]
  assert.equal(new Set(all).size, all.length)
  const known = new Set(COUNT_METRICS.flatMap(({ counts }) => Object.keys(counts)))
  // An age changes by itself, and the others are counted as they happen.
  assert.deepEqual(Object.keys(NO_COUNTS).filter(name => !known.has(name)), ['oldestUpgradedMs', 'exchanges', 'accepted', 'turnedAway'])
})
