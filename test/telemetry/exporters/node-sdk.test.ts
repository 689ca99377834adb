/** The same with `@opentelemetry/sdk-node`, whose variables say where and how spans are sent. A process of its own: it has one SDK. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { metrics, trace } from '@opentelemetry/api'
import { startTraces } from '../../../src/index.ts'
import { spanCounts } from '../../../src/telemetry/span-counts.ts'
import { OtlpReceiver } from '../../support/otlp-receiver.ts'
import { get, startProxy } from '../../support/proxy.ts'
import { waitFor } from '../../support/wait-for.ts'

const ELSEWHERE = 'http://127.0.0.1:9'

test('traces with sdk-node: its variables count, an endpoint of ours counts over them, and what is lost is counted', async t => {
  Object.assign(process.env, {
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json', OTEL_EXPORTER_OTLP_ENDPOINT: ELSEWHERE, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: ELSEWHERE,
    OTEL_SERVICE_NAME: 'by-variable', OTEL_BSP_MAX_QUEUE_SIZE: '4', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '1',
    OTEL_BSP_SCHEDULE_DELAY: '600000', OTEL_EXPORTER_OTLP_TIMEOUT: '600000',
  })
  const collector = await OtlpReceiver.start(t), before = spanCounts.dropped
  const { tracing, close } = await startTraces({ ratio: 1, endpoint: collector.endpoint, serviceName: 'by-option' })
  const proxy = await startProxy(t, { tracing: tracing!, hooks: { requestFilter: session => session.respond(204) } })
  assert.deepEqual([process.env['OTEL_EXPORTER_OTLP_ENDPOINT'], process.env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']], [ELSEWHERE, ELSEWHERE])
  await proxy.exchange(get('/first'))
  const [span] = await collector.received(1)
  assert.deepEqual([span!.kind, span!.resource['service.name'], span!.parentSpanId], ['server', 'by-variable', ''])
  assert.equal(typeof span!.resource['process.pid'], 'number')

  collector.status = 0
  for (let count = 0; count < 12; count++) assert.equal((await proxy.exchange(get('/'))).status, 204)
  await waitFor('the exchanges to end', () => proxy.server.stats().activeExchanges === 0)
  // One is with the collector, and four wait.
  await waitFor('the rest to be lost', () => spanCounts.dropped - before === 7, { seen: () => spanCounts.dropped - before })

  // Metrics of OpenTelemetry are not started.
  assert.equal(metrics.getMeterProvider().constructor.name, 'NoopMeterProvider')
  await close(1)
  assert.equal(spanCounts.dropped - before, 12)
  assert.equal(trace.getActiveSpan(), undefined)
  // What was sent at the end as well is refused when the collector stops, so that nothing tries it again.
  await waitFor('the last batches', () => collector.posts === 6)
})

test('traces with sdk-node: without an exporter there are none', async () => {
  process.env['OTEL_TRACES_EXPORTER'] = 'none'
  const { tracing, close } = await startTraces()
  assert.equal(tracing, null)
  await close(0)
})
