/** What a recorded request has that others have not: hooks that run within it, and a field for its origin. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Server } from '../../src/server/server.ts'
import { httpProxyService } from '../../src/server/http-proxy-service.ts'
import type { HookObserver } from '../../src/proxy/watched-plan.ts'
import type { AccessLogSink } from '../../src/telemetry/access-record.ts'
import type { RequestTrace, RequestTracing, TraceIdentity } from '../../src/telemetry/request-trace.ts'
import type { ExchangeEnded, ExchangeStarted, Tracer } from '../../src/telemetry/tracer.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import type { HeaderMap } from '../../src/http/header-map.ts'
import type { RequestHead } from '../../src/http/message-head.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { get, post, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { answer, response } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

/** Records each request with a field `x-record`, and counts the hooks that it was asked to run. */
class Recorder implements RequestTracing {
  readonly told: string[] = []
  ran = 0
  readonly begun: boolean[] = []
  /** The request whose hook runs; null: none does. */
  current: RequestTrace | null = null
  readonly tracer: Tracer = {
    exchangeStarted: ({ trace }) => { this.told.push(`started ${trace?.traceId}`) },
    attemptEnded: ({ attempt }) => { this.told.push(`attempt ${attempt}`) },
    exchangeEnded: ({ trace }) => { this.told.push(`ended ${trace?.traceId}`) },
  }

  begin(headers: HeaderMap, trusted: boolean): RequestTrace | null {
    this.begun.push(trusted)
    const traceId = headers.get('x-record')
    return traceId === undefined ? null : new Recorded(this, traceId)
  }
}

class Recorded implements RequestTrace {
  readonly traceId: string
  readonly spanId = 'span'
  readonly #recorder: Recorder
  #sent = 0

  constructor(recorder: Recorder, traceId: string) {
    this.#recorder = recorder
    this.traceId = traceId
  }

  sendOn(request: RequestHead): void { request.headers.set('x-sent-on', `${this.traceId} ${++this.#sent}`) }

  leave(work: () => void): void {
    const before = this.#recorder.current
    this.#recorder.current = null
    work()
    this.#recorder.current = before
  }

  run(hook: () => unknown): unknown {
    const before = this.#recorder.current
    this.#recorder.current = this
    this.#recorder.ran++
    try {
      return hook()
    } finally {
      this.#recorder.current = before
    }
  }
}

const RECORDED = 'X-Record: t1'

test('recorded requests: their hooks run within them, others do not, and both are told what they are', async t => {
  const recorder = new Recorder(), seen: (TraceIdentity | null)[] = []
  const note = (): void => { seen.push(recorder.current) }
  const proxy = await startProxy(t, {
    tracing: recorder,
    hooks: {
      requestFilter(session) {
        note()
        assert.equal(session.trace, recorder.current)
        return 'continue'
      },
      responseBodyFilter(_session, chunk) { note(); return chunk },
      async responseFilter() {
        note()
        await Promise.resolve()
      },
      logging() { note() },
    },
  })
  assert.equal((await proxy.exchange(get('/'))).body.toString(), 'ok')
  const unrecorded = seen.splice(0)
  assert.ok(unrecorded.length >= 4 && unrecorded.every(one => one === null))
  assert.deepEqual([recorder.ran, recorder.told], [0, []])

  assert.equal((await proxy.exchange(get('/', RECORDED))).body.toString(), 'ok')
  await waitFor('logging', () => proxy.server.stats().activeExchanges === 0)
  assert.ok(seen.length >= 4 && seen.every(one => one?.traceId === 't1'), JSON.stringify(seen))
  assert.deepEqual(recorder.told, ['started t1', 'attempt 1', 'ended t1'])
  // `upstreamPeer` is no one of those that note it.
  assert.equal(recorder.ran, seen.length + 1)
  assert.equal(recorder.current, null)
})

test('recorded requests: each attempt tells its origin, behind whatever other filters made of the fields', async t => {
  const recorder = new Recorder()
  const last: HttpModule = {
    name: 'last', order: -1_000_000, upstreamRequestFilter(_session, request) { request.headers.set('x-sent-on', 'of a module') },
  }
  let answers = 0
  const proxy = await startProxy(t, {
    tracing: recorder, peer: { retryBudgetPercent: 100 },
    script: async exchange => { await answer(response(answers++ === 0 ? 503 : 200))(exchange) },
    hooks: { modules: [last], upstreamResponseFilter: (_session, { status }) => status === 503 ? 'retry' : undefined },
  })
  assert.equal((await proxy.exchange(get('/', RECORDED))).status, 200)
  const told = (): (string | null)[] => proxy.origin.requests.map(request => request.field('x-sent-on'))
  assert.deepEqual(told(), ['t1 1', 't1 2'])
  assert.equal((await proxy.exchange(get('/'))).status, 200)
  assert.equal(told()[2], 'of a module')
})

test('recorded requests: application and modules are themselves, and states are those of the modules that they know', async t => {
  const recorder = new Recorder(), found: unknown[] = []
  class Counter implements HttpModule<{ calls: number }> {
    readonly name = 'counter'
    readonly keepsLength = true
    #made = 0
    newState(): { calls: number } {
      this.#made++
      return { calls: 0 }
    }
    requestFilter(_session: unknown, state: { calls: number }): 'continue' {
      state.calls++
      return 'continue'
    }
    responseFilter(_session: unknown, _head: unknown, state: { calls: number }): void { found.push([this.#made, state.calls]) }
    responseBodyFilter(_session: unknown, chunk: Buffer, _last: boolean, state: { calls: number }): Buffer {
      state.calls += 10
      return chunk
    }
    responseDone(_session: unknown, state: { calls: number }): void { found.push(state.calls) }
  }
  const counter = new Counter()
  const proxy = await startProxy(t, {
    tracing: recorder,
    hooks: {
      modules: [counter],
      requestFilter(this: unknown, session) {
        session.moduleState(counter).calls += 100
        found.push(typeof (this as { upstreamPeer?: unknown }).upstreamPeer)
        return 'continue'
      },
    },
  })
  const answered = await proxy.exchange(get('/', RECORDED))
  assert.equal(answered.field('content-length'), '2')
  const [owner, first, calls] = found as [string, number[], number]
  assert.deepEqual([owner, first], ['function', [1, 101]])
  assert.ok(calls > 101)
})

test('recorded requests: whoever looks at hooks sees theirs as well, within the request', async t => {
  const recorder = new Recorder(), seen: [hook: string, within: boolean][] = []
  const proxy = await startProxy(t, { tracing: recorder, hooks: { requestFilter: () => 'continue' } })
  const hooks: HookObserver = {
    hookBegins(hook) {
      seen.push([hook, recorder.current !== null])
      return null
    },
  }
  proxy.server.watch({ lines: null, tracers: [], hooks })
  await proxy.exchange(get('/', RECORDED))
  await proxy.exchange(get('/'))
  proxy.server.watch(null)
  await proxy.exchange(get('/', RECORDED))
  assert.deepEqual(seen.filter(([hook]) => hook === 'requestFilter'), [['requestFilter', true], ['requestFilter', false]])
  assert.deepEqual(proxy.origin.requests.map(request => request.field('x-sent-on')), ['t1 1', null, 't1 1'])
  assert.equal(recorder.told.filter(line => line === 'ended t1').length, 2)
})

test('recorded requests: a hook that throws or answers counts as it does elsewhere', async t => {
  const recorder = new Recorder()
  const proxy = await startProxy(t, {
    tracing: recorder,
    hooks: {
      requestFilter: session => session.request.path === '/no' ? session.respond(403) : 'continue',
      upstreamRequestFilter(session) { if (session.request.path === '/throws') throw new Error('planned') },
    },
  })
  assert.equal((await proxy.exchange(get('/no', RECORDED))).status, 403)
  assert.equal((await proxy.exchange(get('/throws', RECORDED))).status, 500)
  assert.equal((await proxy.exchange(post('a body', '/', RECORDED))).status, 200)
  assert.equal(recorder.told.filter(line => line === 'ended t1').length, 3)
})

test('recorded requests: a connection that a hook gives up by its answer is given back outside of it', async t => {
  const recorder = new Recorder(), told: (RequestTrace | null)[] = []
  const proxy: ProxyUnderTest = await startProxy(t, {
    tracing: recorder,
    hooks: {
      upstreamPeer: () => Object.assign(new HttpPeer(proxy.origin.authority), { report: () => { told.push(recorder.current) } }),
      upstreamResponseFilter(session) {
        assert.notEqual(recorder.current, null)
        const verdict = session.respond(418)
        assert.notEqual(recorder.current, null)
        return verdict
      },
    },
  })
  assert.equal((await proxy.exchange(get('/', RECORDED))).status, 418)
  assert.deepEqual(told, [null])
})

test('recorded requests: tracers of the service and the access log know of it as well, of others they hear null', async t => {
  const recorder = new Recorder(), traces: unknown[] = []
  const started = ({ trace }: ExchangeStarted | ExchangeEnded): void => { traces.push(trace?.traceId ?? null) }
  const accessLog: AccessLogSink = { exchange: ({ trace }) => { traces.push(trace === null ? null : `log ${trace.spanId}`) }, refused() {} }
  const proxy = await startProxy(t, {
    tracing: recorder, service: { accessLog, tracers: [{ exchangeStarted: started, exchangeEnded: started }] },
  })
  await proxy.exchange(get('/', RECORDED))
  await waitFor('three words', () => traces.length === 3)
  assert.deepEqual(traces.splice(0), ['t1', 'log span', 't1'])
  await proxy.exchange(get('/'))
  await waitFor('three words', () => traces.length === 3)
  assert.deepEqual(traces, [null, null, null])
})

test('recorded requests: only what comes from a trusted hop is said to, and a self-test is none', async t => {
  const recorder = new Recorder()
  const proxy = await startProxy(t, { tracing: recorder, service: { trustedHops: ['127.0.0.1'] } })
  await proxy.exchange(get('/'))
  assert.deepEqual(recorder.begun, [true])
  const server = new Server()
  const peer = new HttpPeer('127.0.0.1:9')
  server.addService(httpProxyService({ upstreamPeer: () => peer }).addTcp('127.0.0.1:0'))
  try {
    await server.start({ log: SILENT_LOG, tracing: recorder })
    assert.equal((await server.runSelfTest()).passed, true)
    assert.deepEqual(recorder.begun, [true])
  } finally { server.close() }
})
