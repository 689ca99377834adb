/** Traces of real workers: what the configuration asks for reaches a collector, and a worker that ends has sent what it had. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { OtlpReceiver, type ReceivedSpan } from '../support/otlp-receiver.ts'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { scrape, sumOf } from '../support/scraped-metrics.ts'
import { answer, response, ScriptedOrigin } from '../support/scripted-origin.ts'
import { SupervisedApp, type SupervisedOptions } from '../support/supervised-app.ts'
import { waitFor } from '../support/wait-for.ts'

const TELL_LOADED = `--import=${path.join(import.meta.dirname, '../support/tell-loaded.mjs')}`

interface Traced { readonly app: SupervisedApp; readonly collector: OtlpReceiver; readonly other: ScriptedOrigin }

async function start(t: TestContext, traces: SupervisedOptions['traces'], env: Readonly<Record<string, string>> = {}): Promise<Traced> {
  const collector = await OtlpReceiver.start(t)
  const first = await ScriptedOrigin.start(answer(response(503))), other = await ScriptedOrigin.start(answer(response(200, 'ok')))
  t.after(async () => { await Promise.all([first.stop(), other.stop()]) })
  const app = await SupervisedApp.start(t, {
    app: 'traced', options: { workers: 1 }, traces: { enabled: true, ratio: 1, ...traces },
    env: {
      FIRST_ORIGIN: first.authority, OTHER_ORIGIN: other.authority, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, ...env,
    },
  })
  return { app, collector, other }
}

async function ask(app: SupervisedApp, target: string): Promise<number> {
  const client = await RawClient.connect({ host: '127.0.0.1', port: app.port })
  try {
    await client.write(get(target))
    return (await client.readResponse({ deadlineMs: 10_000 })).status
  } finally { client.destroy() }
}

async function stop(app: SupervisedApp): Promise<void> {
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
}

for (const lean of [false, true]) {
  test(`traces of workers: a retried request is sent before the worker ends, lean: ${lean}`, async t => {
    // Nothing is sent for its age: what comes is what the end sends.
    const { app, collector, other } = await start(t, { lean, serviceName: 'edge' }, { OTEL_BSP_SCHEDULE_DELAY: '600000' })
    assert.equal(await ask(app, '/a?key=hidden'), 200)
    await stop(app)
    const spans = await collector.received(3)
    const of = (kind: ReceivedSpan['kind']): ReceivedSpan[] => spans.filter(span => span.kind === kind)
    const [server] = of('server'), clients = of('client').toSorted((one, next) => Number(one.startNs - next.startNs))
    assert.deepEqual(clients.map(({ parentSpanId }) => parentSpanId), [server!.spanId, server!.spanId])
    assert.deepEqual(clients.map(({ attributes }) => attributes['http.response.status_code']), [503, 200])
    assert.deepEqual([server!.resource['service.name'], server!.attributes['cirque.worker']], ['edge', '1.0.0'])
    assert.equal(server!.attributes['url.query'], 'key=***')
    const told = other.requests[0]!.fields.find(([name]) => name === 'traceparent')?.[1]
    assert.equal(told, `00-${server!.traceId}-${clients[1]!.spanId}-01`)
    const line = JSON.parse(app.stdout.split('\n').find(text => text.includes('"path":"/a"'))!) as Record<string, unknown>
    assert.deepEqual([line['trace_id'], line['span_id']], [server!.traceId, server!.spanId])
  })
}

test('traces of workers: metrics show the trace of the last request of each series, to those who ask for OpenMetrics', async t => {
  const env = { OTEL_BSP_SCHEDULE_DELAY: '20', CIRQUE_SUPERVISOR_ADMIN_ADDRESS: '127.0.0.1:0' }
  const { app, collector } = await start(t, { lean: true }, env)
  const admin = String(app.lines.find(line => line.msg === 'running')!['admin'])
  for (const target of ['/a', '/b']) assert.equal(await ask(app, target), 200)
  const exemplars = async (accept: string): Promise<string[]> => {
    const { text } = await scrape(admin, { accept })
    const marked = /^http_server_request_duration_seconds_bucket\{.*\} \d+ # \{trace_id="(\w+)"\}/
    return text.split('\n').flatMap(line => marked.exec(line)?.[1] ?? [])
  }
  // A scrape may come before the end of the last one.
  await waitFor('the second request', async () => {
    const { samples } = await scrape(admin)
    return sumOf(samples, 'http_server_request_duration_seconds_count') === 2
  })
  const spans = (await collector.received(6)).filter(({ kind }) => kind === 'server')
  const last = spans.find(({ attributes }) => attributes['url.path'] === '/b')!
  assert.deepEqual(await exemplars('application/openmetrics-text; version=1.0.0'), [last.traceId])
  assert.deepEqual(await exemplars('text/plain'), [])
})

test('traces of workers: a collector that hangs slows neither requests nor the end, and status says what is lost', async t => {
  const { app, collector } = await start(t, { lean: true }, {
    OTEL_BSP_MAX_QUEUE_SIZE: '6', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '3', OTEL_BSP_SCHEDULE_DELAY: '600000',
    OTEL_EXPORTER_OTLP_TIMEOUT: '600000',
  })
  collector.status = 0
  for (let count = 0; count < 10; count++) assert.equal(await ask(app, '/'), 200)
  const dropped = async (): Promise<number> => {
    const [slot] = await app.slots()
    return (slot!.worker!.open as unknown as { traceSpansDropped: number }).traceSpansDropped
  }
  // Thirty spans, of which three are with the collector and six wait.
  await waitFor('the count', async () => await dropped() === 21)
  await stop(app)
  assert.ok(app.has('spans were not sent in time and are lost'))
  assert.ok(app.has('spans are lost'))
})

test('traces of workers: where they are off nothing of OpenTelemetry is loaded, and the supervisor never loads it', async t => {
  const tellLoaded = { NODE_OPTIONS: TELL_LOADED }
  const off = await start(t, { enabled: false }, tellLoaded)
  assert.equal(await ask(off.app, '/'), 200)
  await stop(off.app)
  assert.deepEqual([off.collector.posts, off.other.requests[0]!.fields.some(([name]) => name === 'traceparent')], [0, false])
  assert.ok(!off.app.stdout.includes('trace_id'))
  assert.doesNotMatch(off.app.stderr, /^loaded /m)

  const on = await start(t, { lean: true }, tellLoaded)
  await stop(on.app)
  const loaded = on.app.stderr.split('\n').filter(line => line.startsWith('loaded '))
  assert.ok(loaded.some(line => line.includes('/sdk-trace/')))
  // One worker, and no process besides.
  assert.equal(new Set(loaded).size, loaded.length)
  assert.ok(!loaded.some(line => line.includes('/sdk-node/')))
})

test('traces of workers: where OpenTelemetry cannot be loaded, the start is refused with the key that asks for it', async t => {
  const app = await SupervisedApp.start(t, {
    options: { workers: 1 }, traces: { enabled: true, lean: true }, wait: false,
    env: { NODE_OPTIONS: TELL_LOADED, REFUSE_OPENTELEMETRY: '1' },
  })
  assert.notEqual((await app.end(20_000)).code, 0)
  assert.match(app.stderr, /traces\.enabled is true, and OpenTelemetry cannot be started: planned: /)
})

test('traces of workers: the environment can ask for them, lists included', async t => {
  const { app, other } = await start(t, { enabled: false, ratio: 0.5 }, {
    CIRQUE_TRACES_ENABLED: 'true', CIRQUE_TRACES_RATIO: '1', CIRQUE_TRACES_PROPAGATE: 'w3c, b3', CIRQUE_TRACES_LEAN: 'true',
  })
  assert.equal(await ask(app, '/'), 200)
  await stop(app)
  const names = other.requests[0]!.fields.map(([name]) => name)
  assert.deepEqual(names.filter(name => name === 'traceparent' || name === 'b3'), ['traceparent', 'b3'])
})
