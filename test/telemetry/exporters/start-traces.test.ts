/** Spans of real requests in the lean form, as a collector gets them. What `@opentelemetry/sdk-node` does is in node-sdk.test.ts. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { context, SpanStatusCode, trace, type Span } from '@opentelemetry/api'
import fc from 'fast-check'
import {
  HeaderMap, HttpPeer, OptionError, startTraces, type LogFields, type ProcessLog, type TracesContext, type TracesOptions, type Verdict,
} from '../../../src/index.ts'
import { MAX_SPAN_TEXT, SPAN_ATTRIBUTES, SPAN_EVENTS } from '../../../src/telemetry/exporters/span-attributes.ts'
import { spanCounts } from '../../../src/telemetry/span-counts.ts'
import { OtlpReceiver, type ReceivedSpan } from '../../support/otlp-receiver.ts'
import { get, post, startProxy, type ProxyUnderTest, type ProxyUnderTestOptions } from '../../support/proxy.ts'
import { answer, response, ScriptedOrigin } from '../../support/scripted-origin.ts'
import { waitFor } from '../../support/wait-for.ts'

const LIMIT_MS = 5_000
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736', SPAN = '00f067aa0ba902b7'
const SAMPLED = `00-${TRACE}-${SPAN}-01`, LEFT_OUT = `00-${TRACE}-${SPAN}-00`

interface Traced {
  readonly proxy: ProxyUnderTest
  readonly collector: OtlpReceiver
  readonly lines: [message: string, fields: LogFields][]
  /** All spans so far, by kind. */
  spans(): Promise<{ server: readonly ReceivedSpan[]; client: readonly ReceivedSpan[]; internal: readonly ReceivedSpan[] }>
  close(limitMs: number): Promise<void>
}

function logInto(lines: [string, LogFields][]): ProcessLog {
  const note = (message: string, fields: LogFields = {}): void => { lines.push([message, fields]) }
  return { info: note, warn: note, error: note }
}

/** Ends the traces before the test ends: all of them share one place. */
async function traced(
  t: TestContext, options: TracesOptions = {}, proxyOptions: ProxyUnderTestOptions = {}, more: TracesContext = {},
): Promise<Traced> {
  const collector = await OtlpReceiver.start(t), lines: [string, LogFields][] = []
  const { endpoint } = collector
  const around = { log: logInto(lines), worker: '1.0.0', ...more }
  const { tracing, close } = await startTraces({ lean: true, ratio: 1, endpoint, ...options }, around)
  let closed: Promise<void> | null = null
  const closeOnce = (limitMs: number): Promise<void> => closed ??= close(limitMs)
  t.after(() => closeOnce(0))
  const proxy = await startProxy(t, { ...proxyOptions, tracing: tracing! })
  return {
    proxy, collector, lines, close: closeOnce,
    async spans() {
      await proxyAtRest(proxy)
      await closeOnce(LIMIT_MS)
      const of = (kind: ReceivedSpan['kind']): ReceivedSpan[] => collector.spans.filter(span => span.kind === kind)
        .toSorted((one, other) => Number(one.startNs - other.startNs))
      return { server: of('server'), client: of('client'), internal: of('internal') }
    },
  }
}

/** For one test: packages read them when traces are started. */
function setVariables(t: TestContext, variables: Readonly<Record<string, string>>): void {
  Object.assign(process.env, variables)
  t.after(() => { for (const name of Object.keys(variables)) delete process.env[name] })
}

async function proxyAtRest({ server }: ProxyUnderTest): Promise<void> {
  await waitFor('the exchanges to end', () => server.stats().activeExchanges === 0)
}

function traceparents({ origin }: { readonly origin: ScriptedOrigin }): (string | undefined)[] {
  return origin.requests.map(({ fields }) => fields.find(([name]) => name.toLowerCase() === 'traceparent')?.[1])
}

/** What differs from run to run. */
function without(attributes: ReceivedSpan['attributes'], ...names: string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => !names.includes(name)))
}

/** 503 first, then 200. */
function retried(): ProxyUnderTestOptions {
  let answers = 0
  return {
    peer: { retryBudgetPercent: 100 },
    script: async exchange => { await answer(answers++ === 0 ? response(503, 'not now') : response(200, 'ok'))(exchange) },
    hooks: { upstreamResponseFilter: (_session, { status }) => status === 503 ? 'retry' : undefined },
  }
}

test('traces: a retried request is one span of its client and one for each attempt, which stand side by side below it', async t => {
  const { proxy, spans } = await traced(t, { serviceName: 'edge' }, retried())
  const answered = await proxy.exchange(get('/a/b?x=1&token=hidden', 'User-Agent: curl/8.5.0'))
  assert.equal(answered.status, 200)
  const { server: [server, ...more], client: [first, second, ...others] } = await spans()
  assert.ok(server !== undefined && first !== undefined && second !== undefined)
  assert.deepEqual([more, others], [[], []])

  assert.deepEqual([server.parentSpanId, first.parentSpanId, second.parentSpanId], ['', server.spanId, server.spanId])
  assert.equal(new Set([server, first, second].map(({ traceId }) => traceId)).size, 1)
  assert.equal(new Set([server, first, second].map(({ spanId }) => spanId)).size, 3)
  assert.deepEqual([first.links, second.links], [[], [{ traceId: first.traceId, spanId: first.spanId }]])
  assert.deepEqual(traceparents(proxy), [first, second].map(({ traceId, spanId }) => `00-${traceId}-${spanId}-01`))
  assert.deepEqual([server.name, first.name, server.resource['service.name']], ['GET', 'GET', 'edge'])

  const port = proxy.origin.port
  assert.deepEqual(without(server.attributes, 'network.peer.port', 'cirque.request.id'), {
    'http.request.method': 'GET', 'url.scheme': 'http', 'url.path': '/a/b', 'url.query': 'x=1&token=***', 'server.address': 'a.example',
    'server.port': 80, 'client.address': '127.0.0.1', 'network.peer.address': '127.0.0.1', 'network.protocol.version': '1.1',
    'user_agent.original': 'curl/8.5.0', 'cirque.listener': 'http-proxy/127.0.0.1:0', 'cirque.worker': '1.0.0',
    'http.response.status_code': 200, 'http.request.body.size': 0, 'http.response.body.size': 2, 'cirque.attempts': 2,
  })
  const ofBoth = {
    'http.request.method': 'GET', 'url.full': `http://127.0.0.1:${port}/a/b?x=1&token=***`, 'server.address': '127.0.0.1',
    'server.port': port, 'network.peer.address': '127.0.0.1', 'network.peer.port': port, 'network.protocol.version': '1.1',
    'http.request.body.size': 0,
  }
  assert.deepEqual(without(first.attributes, 'http.response.body.size', 'cirque.connection.reused'), {
    ...ofBoth, 'http.response.status_code': 503, 'error.type': '503',
  })
  assert.deepEqual(without(second.attributes, 'cirque.connection.reused'), {
    ...ofBoth, 'http.response.status_code': 200, 'http.response.body.size': 2, 'http.request.resend_count': 1,
  })
  assert.deepEqual([server.status, first.status, second.status], ['unset', 'error', 'unset'])

  const eventNames = ['cirque.connected', 'cirque.request.sent', 'cirque.response.first_byte']
  for (const client of [first, second]) {
    assert.deepEqual(client.events.map(({ name }) => name), eventNames)
    const within = client.events.map(({ timeNs }) => timeNs)
    const moments: readonly bigint[] = [server.startNs, client.startNs, ...within, client.endNs, server.endNs]
    assert.deepEqual(moments, moments.toSorted((one, other) => Number(one - other)))
  }
  assert.deepEqual(server.events.map(({ name, timeNs, attributes }) => [name, timeNs, attributes['error.type']]), [
    ['cirque.retry', first.endNs, 'STATUS'],
  ])
  assert.ok(first.endNs <= second.startNs)
})

test('traces: every attribute and event that a span has is in the tables of the page', async t => {
  const { proxy, spans, collector } = await traced(t, {}, retried())
  await proxy.exchange(post('a body', '/?a=1', 'User-Agent: x').replace('POST', 'BREW'))
  await proxy.exchange(get('/?a=1', 'User-Agent: x'))
  await proxy.exchange(get('/'))
  await spans()
  const known = (name: string, kind: string): boolean => {
    const described: Readonly<Record<string, { of: string }>> = { ...SPAN_ATTRIBUTES, ...SPAN_EVENTS }
    return described[name]?.of === kind || described[name]?.of === 'both'
  }
  for (const { kind, attributes, events } of collector.spans) {
    const names = [...Object.keys(attributes), ...events.map(({ name }) => name)]
    assert.deepEqual(names.filter(name => !known(name, kind)), [])
  }
})

test('traces: an origin that cannot be reached is an error of the attempt and of the request', async t => {
  const gone = await ScriptedOrigin.start()
  await gone.stop()
  const { proxy, spans } = await traced(t, {}, { hooks: { upstreamPeer: () => new HttpPeer(gone.authority, { maxAttempts: 1 }) } })
  assert.equal((await proxy.exchange(get('/?secret=1'))).status, 502)
  const { server: [server], client: [client] } = await spans()
  const { 'error.type': type, 'cirque.flag': flag, 'http.response.status_code': status } = server!.attributes
  assert.deepEqual([server!.status, type, flag, status], ['error', 'CONNECT_REFUSED', 'UC', 502])
  assert.deepEqual(client!.attributes, {
    'http.request.method': 'GET', 'url.full': `http://${gone.authority}/?secret=***`, 'server.address': '127.0.0.1',
    'server.port': gone.port, 'http.request.body.size': 0, 'http.response.body.size': 0, 'error.type': 'CONNECT_REFUSED',
    'cirque.connection.reused': false,
  })
  assert.equal(client!.status, 'error')
  assert.match(client!.message, /^CONNECT_REFUSED /)
  assert.deepEqual(client!.events, [])
})

test('traces: 4xx is an error of the attempt alone, and a client that leaves is none', async t => {
  const { proxy, spans } = await traced(t, {}, { script: answer(response(404)) })
  assert.equal((await proxy.exchange(get('/'))).status, 404)
  proxy.origin.script = () => { /* never answers */ }
  const client = await proxy.connect()
  await client.write(get('/left'))
  await waitFor('the request at the origin', () => proxy.origin.requests.length === 2)
  client.destroy()
  const { server, client: attempts } = await spans()
  assert.deepEqual(server.map(({ status, attributes }) => [status, attributes['http.response.status_code'], attributes['error.type']]), [
    ['unset', 404, undefined], ['unset', undefined, 'CLIENT_GONE'],
  ])
  assert.deepEqual(attempts.map(({ status, attributes }) => [status, attributes['error.type']]), [
    ['error', '404'], ['unset', 'CLIENT_GONE'],
  ])
})

test('traces: a trusted hop decides, and a request that is not recorded goes on as it came', async t => {
  const { proxy, spans } = await traced(t, { ratio: 0 }, { service: { trustedHops: ['127.0.0.1'] } })
  await proxy.exchange(get('/recorded', `traceparent: ${SAMPLED}`, 'tracestate: a=1,b=2'))
  await proxy.exchange(get('/left-out', `traceparent: ${LEFT_OUT}`, 'tracestate: a=1'))
  await proxy.exchange(get('/without'))
  const { server: [server, ...more], client: [client, ...others] } = await spans()
  assert.deepEqual([more, others], [[], []])
  assert.deepEqual([server!.traceId, server!.parentSpanId, server!.traceState], [TRACE, SPAN, 'a=1,b=2'])
  assert.equal(server!.attributes['url.path'], '/recorded')
  assert.deepEqual(traceparents(proxy), [`00-${TRACE}-${client!.spanId}-01`, LEFT_OUT, undefined])
  const states = proxy.origin.requests.map(({ fields }) => fields.find(([name]) => name === 'tracestate')?.[1])
  assert.deepEqual(states, ['a=1,b=2', 'a=1', undefined])
})

test('traces: a client that is not trusted is linked to, and can have nothing recorded', async t => {
  const { proxy, spans } = await traced(t)
  await proxy.exchange(get('/', `traceparent: ${SAMPLED}`, 'tracestate: a=1'))
  const { server: [server], client: [client] } = await spans()
  assert.notEqual(server!.traceId, TRACE)
  assert.deepEqual([server!.parentSpanId, server!.traceState, server!.links], ['', '', [{ traceId: TRACE, spanId: SPAN }]])
  assert.deepEqual(traceparents(proxy), [`00-${server!.traceId}-${client!.spanId}-01`])
})

test('traces: B3 goes in and out', async t => {
  const { proxy, spans } = await traced(t, { ratio: 0, trustParent: 'always', propagate: ['b3'] })
  await proxy.exchange(get('/', `X-B3-TraceId: ${TRACE.slice(16)}`, `X-B3-SpanId: ${SPAN}`, 'X-B3-Sampled: 1'))
  const { server: [server], client: [client] } = await spans()
  const traceId = '0'.repeat(16) + TRACE.slice(16)
  assert.deepEqual([server!.traceId, server!.parentSpanId], [traceId, SPAN])
  const sent = proxy.origin.requests[0]!.fields.filter(([name]) => /b3|trace/i.test(name))
  assert.deepEqual(sent, [['b3', `${traceId}-${client!.spanId}-1-${server!.spanId}`]])
})

test('traces: a decision of B3 without ids begins a trace that no ratio would have recorded', async t => {
  const { proxy, spans } = await traced(t, { ratio: 0, trustParent: 'always', propagate: ['b3'] })
  await proxy.exchange(get('/', 'b3: 1'))
  const { server: [server, ...more], client: [client] } = await spans()
  assert.deepEqual([server!.parentSpanId, client!.parentSpanId, more], ['', server!.spanId, []])
})

test('traces: what a client sends is cut where it is long, and stays within its attribute', async t => {
  const { proxy, spans } = await traced(t)
  const agent = `"}],\u00E9${'x'.repeat(4000)}`
  const request = [`GET /${'p'.repeat(5000)}?k=${'q'.repeat(2000)} HTTP/1.1`, 'Host: [::1]:8443', `User-Agent: ${agent}`, '', '']
  assert.equal((await proxy.exchange(Buffer.from(request.join('\r\n'), 'latin1'))).status, 200)
  await proxy.exchange(Buffer.from('BREW / HTTP/1.1\r\nHost: a.example:81\r\n\r\n'))
  const { server: [server, other], client: [client] } = await spans()
  const { attributes } = server!
  for (const name of ['url.path', 'url.query', 'user_agent.original']) assert.equal(String(attributes[name]).length, MAX_SPAN_TEXT, name)
  assert.equal(String(client!.attributes['url.full']).length, MAX_SPAN_TEXT)
  assert.ok(String(attributes['user_agent.original']).startsWith(agent.slice(0, 100)))
  assert.deepEqual([attributes['server.address'], attributes['server.port']], ['::1', 8443])
  assert.deepEqual([other!.name, other!.attributes['http.request.method'], other!.attributes['http.request.method_original']], [
    'HTTP', '_OTHER', 'BREW',
  ])
  assert.equal(other!.attributes['server.port'], 81)
})

test('traces: whatever a client sends in fields of traces, it is answered, and its origin is told of its span or as it was', async t => {
  const { proxy, spans } = await traced(t, { ratio: 1, trustParent: 'always', propagate: ['w3c', 'b3', 'b3multi'] })
  const junk = fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEF-=,;@ d\t"\u00E9'), maxLength: 70 })
  const text = fc.oneof(junk, fc.constantFrom(SAMPLED, LEFT_OUT, `${TRACE}-${SPAN}-0`, `${TRACE}-${SPAN}`, TRACE, SPAN, '0', '1', 'd'))
  const name = fc.constantFrom('traceparent', 'tracestate', 'b3', 'x-b3-traceid', 'x-b3-spanid', 'x-b3-sampled', 'x-b3-flags')
  const client = await proxy.connect()
  const sent: (readonly [name: string, value: string])[][] = []
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(name, text), { maxLength: 5 }), async fields => {
    sent.push(fields)
    await client.write(Buffer.from(get('/', ...fields.map(([field, value]) => `${field}: ${value}`)), 'latin1'))
    assert.equal((await client.readResponse()).status, 200)
  }), { numRuns: 150 })
  const { server, client: attempts } = await spans()
  const ids = new Map(attempts.map(({ spanId, traceId, parentSpanId }) => [spanId, { traceId, parentSpanId }]))
  let told = 0
  for (const [at, request] of proxy.origin.requests.entries()) {
    const [, traceId = '', spanId = ''] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]$/.exec(request.field('traceparent') ?? '') ?? []
    const span = ids.get(spanId)
    if (span === undefined) {
      // Not recorded: as it came.
      const given = sent[at]!.filter(([field]) => field === 'traceparent').map(([, value]) => value.trim()).join(', ')
      assert.equal((request.field('traceparent') ?? '').trim(), given)
      continue
    }
    told++
    assert.deepEqual([traceId, request.field('b3')], [span.traceId, null])
    assert.deepEqual([request.field('x-b3-traceid'), request.field('x-b3-spanid')], [traceId, spanId])
  }
  assert.ok(told > 20 && told === server.length, `${told} of ${server.length}`)
})

test('traces: hooks of a recorded request find its span, add to it, and begin others below it, across what they wait for', async t => {
  const found: (string | undefined)[] = []
  const current = (): Span | undefined => trace.getActiveSpan()
  const { proxy, spans } = await traced(t, { ratio: 0, trustParent: 'always' }, {
    hooks: {
      async requestFilter(session): Promise<Verdict> {
        current()?.setAttribute('app.tenant', 'acme')
        await Promise.resolve()
        found.push(current()?.spanContext().spanId, session.trace?.spanId)
        const child = trace.getTracer('app').startSpan('look up')
        child.setStatus({ code: SpanStatusCode.ERROR })
        child.end()
        return 'continue'
      },
      responseFilter() { found.push(current()?.spanContext().spanId) },
    },
  })
  await proxy.exchange(get('/'))
  assert.deepEqual(found.splice(0), [undefined, undefined, undefined])
  await proxy.exchange(get('/', `traceparent: ${SAMPLED}`))
  assert.equal(context.active(), context.active())
  assert.equal(current(), undefined)
  const { server: [server], internal: [child, ...more] } = await spans()
  assert.deepEqual(found, [server!.spanId, server!.spanId, server!.spanId])
  assert.equal(server!.attributes['app.tenant'], 'acme')
  assert.deepEqual([child!.name, child!.traceId, child!.parentSpanId, child!.status], ['look up', TRACE, server!.spanId, 'error'])
  // What was begun without a parent is left out by the ratio.
  assert.deepEqual(more, [])
})

test('traces: an answer of a filter has a span without attempts', async t => {
  const { proxy, spans } = await traced(t, {}, { hooks: { requestFilter: session => session.respond(403) } })
  assert.equal((await proxy.exchange(get('/'))).status, 403)
  const { server: [server], client } = await spans()
  const { 'http.response.status_code': status, 'cirque.attempts': attempts } = server!.attributes
  assert.deepEqual([status, attempts, server!.status], [403, 0, 'unset'])
  assert.deepEqual(client, [])
})

test('traces: a collector that hangs holds up no request, and what it does not take is lost, counted and said', async t => {
  // Only a full batch is sent, and nobody gives up waiting for its answer.
  setVariables(t, {
    OTEL_BSP_MAX_QUEUE_SIZE: '8', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '4', OTEL_BSP_SCHEDULE_DELAY: '600000',
    OTEL_EXPORTER_OTLP_TIMEOUT: '600000',
  })
  const before = spanCounts.dropped
  const { proxy, collector, close, lines } = await traced(t)
  collector.status = 0
  for (let count = 0; count < 20; count++) assert.equal((await proxy.exchange(get('/'))).status, 200)
  await waitFor('the collector to be asked', () => collector.posts > 0)
  await proxyAtRest(proxy)
  // Four are with the collector, and eight wait.
  await waitFor('the rest to be lost', () => spanCounts.dropped - before === 40 - 12, { seen: () => spanCounts.dropped - before })
  const [message, fields] = lines[0]!
  assert.deepEqual([message, fields['reason']], ['spans are lost', 'too many wait for the collector'])
  await close(1)
  assert.equal(spanCounts.dropped - before, 40)
  assert.deepEqual(lines.at(-1), ['spans were not sent in time and are lost', { spans: 12, limitMs: 1 }])
  // What was sent at the end as well is refused when the collector stops, so that nothing tries it again.
  await waitFor('the last batches', () => collector.posts === 3)
})

test('traces: spans that a collector refuses are lost, and the next ones get through without a restart', async t => {
  setVariables(t, { OTEL_BSP_SCHEDULE_DELAY: '1' })
  const before = spanCounts.dropped
  const { proxy, collector, lines } = await traced(t)
  collector.status = 400
  await proxy.exchange(get('/lost'))
  await waitFor('its spans to be lost', () => spanCounts.dropped - before === 2, { seen: () => spanCounts.dropped - before })
  assert.ok(lines.some(([message]) => message === 'spans are lost'))
  collector.status = 200
  await proxy.exchange(get('/taken'))
  const spans = await collector.received(2)
  assert.deepEqual(spans.map(({ attributes }) => attributes['url.path'] ?? 'attempt').toSorted(), ['/taken', 'attempt'])
})

test('traces: where nobody listens a request is answered, and the end has its limit', async t => {
  // No time for a second try.
  setVariables(t, { OTEL_EXPORTER_OTLP_TIMEOUT: '1' })
  const before = spanCounts.dropped
  const { proxy, collector, close } = await traced(t)
  await collector.stop()
  assert.equal((await proxy.exchange(get('/'))).status, 200)
  await proxyAtRest(proxy)
  await close(1)
  assert.equal(spanCounts.dropped - before, 2)
})

test('traces: the address of a client is shown as whoever starts them says, at the other end of its connection as well', async t => {
  const { proxy, spans } = await traced(t, {}, {}, { shownClient: address => address === '' ? '' : 'somebody' })
  await proxy.exchange(get('/'))
  const { server: [server] } = await spans()
  assert.deepEqual([server!.attributes['client.address'], server!.attributes['network.peer.address']], ['somebody', 'somebody'])
})

test('traces: options that would not do are refused all at once, before anything is started', async () => {
  const wrong = { ratio: 2, trustParent: 'some', propagate: ['jaeger'], endpoint: 'http://user:pass@collector:4318' }
  await assert.rejects(startTraces(wrong as unknown as TracesOptions), (error: unknown) => {
    assert.ok(error instanceof OptionError)
    assert.deepEqual(error.mistakes.map(({ path }) => path), ['traces.ratio', 'traces.trustParent', 'traces.propagate', 'traces.endpoint'])
    return true
  })
})

test('traces: where no ratio is given a variable of OpenTelemetry says which requests are recorded', async t => {
  const rows: readonly [sampler: string, argument: string, recorded: string, said?: RegExp][] = [
    ['always_on', '', 'none sampled left-out'], ['always_off', '', ''], ['traceidratio', '1', 'none sampled left-out'],
    ['traceidratio', '0', ''], ['parentbased_always_on', '', 'none sampled'], ['parentbased_always_off', '', 'sampled'],
    ['parentbased_traceidratio', '0', 'sampled'], ['parentbased_traceidratio', '', 'none sampled'],
    ['parentbased_traceidratio', '2', 'sampled', /^OTEL_TRACES_SAMPLER_ARG is "2"; use a number from 0 to 1/],
    ['constructor', '', 'sampled', /^OTEL_TRACES_SAMPLER is "constructor"; use one of always_on, /],
  ]
  setVariables(t, { OTEL_TRACES_SAMPLER: '', OTEL_TRACES_SAMPLER_ARG: '' })
  for (const [sampler, argument, recorded, said] of rows) {
    Object.assign(process.env, { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: argument })
    const lines: [string, LogFields][] = []
    const { tracing, close } = await startTraces({ lean: true, trustParent: 'always' }, { log: logInto(lines) })
    const requests = { 'none': [], 'sampled': [['traceparent', SAMPLED]], 'left-out': [['traceparent', LEFT_OUT]] } as const
    const found = Object.entries(requests).filter(([, fields]) => tracing!.begin(HeaderMap.from(fields), false) !== null)
    // Of a trace that begins here, one in a hundred is recorded where nobody says otherwise.
    const names = found.map(([name]) => name).filter(name => said === undefined || name !== 'none')
    assert.equal(names.join(' '), recorded, `${sampler} ${argument}`)
    assert.deepEqual(lines.map(([message]) => said?.test(message) ?? false), said === undefined ? [] : [true], `${sampler} ${argument}`)
    await close(0)
  }
})

test('traces: variables of OpenTelemetry name the service and its resource, turn it off, and one that does not count is said', async t => {
  setVariables(t, {
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=a%20place, service.name=by-attribute', OTEL_SERVICE_NAME: 'by-name',
    OTEL_TRACES_SAMPLER: 'always_off',
  })
  const { proxy, spans, lines } = await traced(t)
  await proxy.exchange(get('/'))
  const { server: [server] } = await spans()
  assert.deepEqual([server!.resource['service.name'], server!.resource['deployment.environment.name']], ['by-name', 'a place'])
  assert.equal(server!.resource['telemetry.sdk.language'], 'nodejs')
  assert.match(lines[0]![0], /^OTEL_TRACES_SAMPLER does not count beside traces\.ratio/)
  setVariables(t, { OTEL_SDK_DISABLED: 'TRUE' })
  const said: [string, LogFields][] = []
  const off = await startTraces({ lean: true }, { log: logInto(said) })
  assert.equal(off.tracing, null)
  assert.match(said[0]![0], /^traces are enabled, and OTEL_SDK_DISABLED/)
  await off.close(0)
})
