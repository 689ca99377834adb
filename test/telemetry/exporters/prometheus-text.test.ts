import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import type { MetricFamily } from '../../../src/ipc/metric-memory.ts'
import { renderMetrics, wantsOpenMetrics, type ShownMetric } from '../../../src/telemetry/exporters/prometheus-text.ts'
import { requireProgram } from '../../support/programs.ts'

type Series = readonly [values: readonly number[], ...labels: string[]]

function shown(family: Partial<MetricFamily>, ...series: readonly Series[]): ShownMetric {
  const whole: MetricFamily = { name: 'a_total', kind: 'counter', help: 'What it counts.', labels: [], bounds: [], ...family }
  return { family: whole, series: series.map(([values, ...labelValues]) => ({ labelValues, values })) }
}

const PAGE: readonly ShownMetric[] = [
  shown({ name: 'orders_total', labels: ['tenant'] }, [[3], 'acme'], [[1], 'a "b"\\\n']),
  shown({ name: 'open_orders', kind: 'gauge' }, [[2.5]]),
  shown({ name: 'sizes_bytes', kind: 'histogram', labels: ['tenant'], bounds: [1, 10] }, [[1, 2, 3, 99], 'acme']),
]

test('prometheus text: both formats say the same, in any order of asking', async () => {
  for (const openMetrics of [false, true, false, true]) {
    const { contentType, text } = await renderMetrics(PAGE, openMetrics)
    assert.equal(contentType.startsWith(openMetrics ? 'application/openmetrics-text; version=1.0.0' : 'text/plain; version=0.0.4'), true)
    for (const line of [
      'orders_total{tenant="acme"} 3', 'orders_total{tenant="a \\"b\\"\\\\\\n"} 1', 'open_orders 2.5',
      'sizes_bytes_bucket{tenant="acme",le="1"} 1', 'sizes_bytes_bucket{tenant="acme",le="10"} 3',
      'sizes_bytes_bucket{tenant="acme",le="+Inf"} 6', 'sizes_bytes_sum{tenant="acme"} 99', 'sizes_bytes_count{tenant="acme"} 6',
    ]) assert.ok(text.split('\n').includes(line), `${line} is not in\n${text}`)
    assert.equal(text.endsWith('# EOF\n'), openMetrics)
    assert.ok(text.includes(openMetrics ? '# TYPE orders counter' : '# TYPE orders_total counter'))
  }
})

test('prometheus text: an exemplar stands at the bucket of its value, and in OpenMetrics alone', async () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const rows = [[0.5, '1'], [1, '1'], [1.5, '10'], [99, '+Inf']] as const
  for (const [value, le] of rows) {
    const { family } = PAGE[2]!
    const exemplar = { value, at: 1_795_972_467.25, traceId }
    const page = [{ family, series: [{ labelValues: ['acme'], values: [1, 2, 3, 99], exemplar }] }]
    const { text } = await renderMetrics(page, true)
    const marked = text.split('\n').filter(line => line.includes('trace_id'))
    assert.equal(marked.length, 1)
    const [line = ''] = marked
    assert.ok(line.startsWith(`sizes_bytes_bucket{tenant="acme",le="${le}"} `), line)
    assert.ok(line.endsWith(` # {trace_id="${traceId}"} ${value} 1795972467.25`), line)
    assert.equal((await renderMetrics(page, false)).text.includes('trace_id'), false)
  }
})

test('prometheus text: OpenMetrics is for those who name it', () => {
  const prometheus = 'application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1'
  for (const accept of [prometheus, 'Application/OpenMetrics-Text', 'text/plain, application/openmetrics-text']) {
    assert.ok(wantsOpenMetrics(accept), accept)
  }
  for (const accept of ['', '*/*', 'text/plain', 'application/openmetrics-text;q=0', 'application/openmetrics-text; q=0.00']) {
    assert.equal(wantsOpenMetrics(accept), false, accept)
  }
})

test('prometheus text: promtool has nothing to say', async t => {
  const promtool = requireProgram(t, 'promtool')
  if (promtool === null) return
  const { text } = await renderMetrics(PAGE, false)
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8' })
  assert.deepEqual([status, stdout, stderr], [0, '', ''])
})
