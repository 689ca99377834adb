/** What operators see of requests: lines of the access log, and records of phases, in a proxy on real sockets. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import type { LookKind, RequestMatch, Seen, TraceRecord } from '../../src/ipc/looking.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import type { Verdict } from '../../src/proxy/session.ts'
import type { RequestTracing } from '../../src/telemetry/request-trace.ts'
import { maskedAddress } from '../../src/telemetry/exporters/masked-address.ts'
import type { Tracer } from '../../src/telemetry/tracer.ts'
import type { AccessLogSink } from '../../src/telemetry/access-record.ts'
import { Looks } from '../../workers/looks.ts'
import { get, post, startProxy, type ProxyUnderTest, type ProxyUnderTestOptions } from '../support/proxy.ts'
import { waitFor } from '../support/wait-for.ts'

class Operator {
  readonly proxy: ProxyUnderTest
  readonly looks: Looks
  readonly entries: string[] = []
  dropped = 0
  over = false

  constructor(proxy: ProxyUnderTest) {
    this.proxy = proxy
    this.looks = new Looks({
      clock: systemClock, worker: '1.0.0', generation: 1, maxMessageBytes: 1_048_576, shownClient: maskedAddress,
      watch: watcher => proxy.server.watch(watcher),
    })
  }

  look(kind: LookKind, match: RequestMatch = {}, count = 0): this {
    const ask = (): void => {
      this.looks.look({ id: kind, kind, match, count }, {
        ok: result => {
          const { entries, dropped, over } = result as Seen
          this.entries.push(...entries)
          this.dropped += dropped
          this.over = over
          if (!over) ask()
        },
        refuse: (_code, reason) => assert.fail(reason),
      })
    }
    ask()
    return this
  }

  async records(count: number): Promise<TraceRecord[]> {
    await waitFor(`${count} records`, () => this.entries.length >= count, { seen: () => this.entries })
    return this.entries.map(entry => JSON.parse(entry) as TraceRecord)
  }
}

async function start(t: TestContext, options: ProxyUnderTestOptions = {}): Promise<Operator> {
  const operator = new Operator(await startProxy(t, options))
  t.after(() => {
    // Nobody asks on.
    for (const kind of ['tail', 'trace']) operator.looks.lookAway(kind)
  })
  return operator
}

test('tail: it has the lines that pass its filter, with an access log and without, and none that is kept out of the log', async t => {
  const logged: string[] = []
  const sink: AccessLogSink = { exchange: ({ request }) => { logged.push(request.path) }, refused() {} }
  for (const accessLog of [null, sink]) {
    const operator = await start(t, {
      service: { accessLog }, hooks: { requestFilter: session => {
        if (session.request.path === '/private') session.inAccessLog = false
        return session.request.path === '/no' ? session.respond(403) : 'continue'
      } },
    })
    operator.look('tail', { statuses: [[200, 299]] })
    for (const path of ['/a', '/no', '/private', '/b?token=secret']) await operator.proxy.exchange(get(path))
    await waitFor('two lines', () => operator.entries.length === 2, { seen: () => operator.entries })
    const [first, second] = operator.entries.map(line => JSON.parse(line) as Record<string, unknown>)
    assert.deepEqual([first!['path'], first!['worker'], first!['status'], first!['attempts']], ['/a', '1.0.0', 200, 1])
    assert.ok(Number(first!['up_connect_ms']) >= 0 && Number(first!['ttfb_ms']) > 0, 'times are taken')
    assert.deepEqual([second!['query'], second!['client']], ['token=***', '127.0.0.0'], 'what the log does not show is not shown here')
    assert.deepEqual(logged, accessLog === null ? [] : ['/a', '/no', '/b'])
  }
})

test('tail: an access log that throws takes no line from whoever looks', async t => {
  const fail = (): never => { throw new Error('planned') }
  const operator = await start(t, { service: { accessLog: { exchange: fail, refused: fail } } })
  operator.look('tail')
  await operator.proxy.exchange(get('/a'))
  await operator.proxy.exchange('no head at all\r\n\r\n')
  await waitFor('both lines', () => operator.entries.length === 2, { seen: () => operator.entries })
  assert.deepEqual(operator.entries.map(line => (JSON.parse(line) as { status: number }).status), [200, 400])
})

test('trace: phases of a request with their times, those of hooks and of each attempt', async t => {
  const tracer: Tracer = { exchangeStarted() {} }
  const operator = await start(t, {
    service: { tracers: [tracer] },
    hooks: {
      modules: [{ name: 'auth', requestFilter: () => 'continue' }],
      requestFilter: async (): Promise<Verdict> => 'continue', responseBodyFilter: (_session, chunk) => chunk, logging() {},
    },
  })
  operator.look('trace', { path: '/a/*' }, 2)
  await operator.proxy.exchange(get('/b'))
  await operator.proxy.exchange(post('body', '/a/1?password=x'))
  await operator.proxy.exchange(get('/a/2'))
  await operator.proxy.exchange(get('/a/3'))
  const [first, second, ...more] = await operator.records(2)
  assert.deepEqual([more.length, operator.over, operator.dropped, operator.looks.size], [0, true, 0, 0])
  const { attempts, hooks } = first!
  assert.deepEqual([first!.method, first!.target, first!.status, first!.flag], ['POST', '/a/1?password=***', 200, '-'])
  assert.deepEqual([first!.bytesReceived, first!.worker, first!.client, first!.ownAnswer], [4, '1.0.0', '127.0.0.0', false])
  const called = hooks.map(({ hook, waited, calls, threw, unsettled }) => `${hook} ${waited} ${calls > 0} ${threw} ${unsettled}`)
  assert.deepEqual(called, [
    'requestFilter of module auth false true false false', 'requestFilter true true false false', 'upstreamPeer false true false false',
    'responseBodyFilter false true false false', 'logging false true false false',
  ])
  assert.equal(attempts.length, 1)
  const { startedMs, connectedMs, sentMs, firstByteMs, endedMs, status, reused, bytesSent, protocol, error } = attempts[0]!
  assert.ok(0 <= startedMs && startedMs <= connectedMs! && connectedMs! <= sentMs! && sentMs! <= firstByteMs! && firstByteMs! <= endedMs)
  assert.ok(endedMs <= first!.durationMs)
  assert.deepEqual([status, bytesSent, protocol, error], [200, 4, 'h1', null])
  assert.deepEqual([reused, second!.attempts[0]!.reused], [true, true], 'the first one was for /b')
})

test('trace: a request that is recorded in a trace of its own says in which, and its hooks are measured all the same', async t => {
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const tracing: RequestTracing = {
    tracer: {},
    begin: () => ({
      traceId, spanId: '00f067aa0ba902b7', sendOn(request) { request.headers.set('x-trace', traceId) },
      run: hook => hook(), leave(work) { work() },
    }),
  }
  const auth: HttpModule<{ seen: number }> = {
    name: 'auth', newState: () => ({ seen: 0 }),
    requestFilter: (_session, state) => {
      state.seen++
      return 'continue'
    },
    responseFilter: (_session, response, state) => { response.headers.set('x-seen', String(state.seen)) },
  }
  const operator = await start(t, { tracing, hooks: { modules: [auth as HttpModule] } })
  operator.look('trace')
  const { status, field } = await operator.proxy.exchange(get('/'))
  const [record] = await operator.records(1)
  assert.deepEqual([status, field('x-seen'), record!.traceId], [200, '1', traceId])
  assert.deepEqual(record!.hooks.map(({ hook }) => hook), ['requestFilter of module auth', 'upstreamPeer', 'responseFilter of module auth'])
  assert.match(operator.proxy.origin.connections[0]!.text, /x-trace: 4bf92f/)
})

test('trace: retries are further attempts, and an error has its place', async t => {
  let asked = 0
  const operator = await start(t, {
    script: async exchange => {
      if (++asked === 1) exchange.destroy()
      else await exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    },
    hooks: {
      errorWhileProxy: (_session, _peer, error) => {
        error.retry = 'always'
        return error
      },
      requestFilter: session => {
        if (session.request.path === '/fault') throw new RangeError('planned')
        return 'continue'
      },
    },
  })
  operator.look('trace')
  assert.equal((await operator.proxy.exchange(get('/'))).status, 200)
  assert.equal((await operator.proxy.exchange(get('/fault'))).status, 500)
  const [retried, failed] = await operator.records(2)
  assert.deepEqual(retried!.attempts.map(({ number, status, error }) => [number, status, error?.kind ?? null]), [
    [1, 0, 'CLOSED_EARLY'], [2, 200, null],
  ])
  assert.deepEqual(retried!.attempts.map(({ retriedAfterMs }) => retriedAfterMs !== null), [true, false])
  assert.equal(retried!.hooks.filter(({ hook }) => hook === 'upstreamPeer').length, 2, 'a row for each attempt')
  assert.deepEqual([failed!.status, failed!.flag, failed!.error?.kind, failed!.error?.hook], [500, 'FE', 'HOOK_FAILED', 'requestFilter'])
  assert.match(failed!.error!.at, /looked-at\.test\.ts:\d+:\d+$/)
  assert.ok(failed!.hooks.some(({ hook, threw }) => hook === 'requestFilter' && threw))
})

test('trace: requests that have the wrong end are not among those that are wanted', async t => {
  const operator = await start(t, {
    hooks: { requestFilter: session => session.request.path === '/no' ? session.respond(503) : 'continue' },
  })
  operator.look('trace', { statuses: [[500, 599]] }, 1)
  for (const path of ['/a', '/b', '/no', '/no']) await operator.proxy.exchange(get(path))
  const records = await operator.records(1)
  assert.deepEqual(records.map(({ target, ownAnswer, attempts }) => [target, ownAnswer, attempts.length]), [['/no', true, 0]])
})

test('tail: times are still taken for a peer\'s tracer when nobody looks any more', async t => {
  const ended: number[] = []
  const tracer: Tracer = { exchangeEnded: ({ connectedAt }) => { ended.push(connectedAt) } }
  const operator = await start(t, { service: { accessLog: null }, peer: { tracer } })
  for (const isLookedAt of [false, true, false]) {
    if (isLookedAt) operator.look('trace')
    else operator.looks.lookAway('trace')
    await operator.proxy.exchange(get('/'))
  }
  await waitFor('three ends', () => ended.length === 3)
  assert.ok(ended.every(at => at > 0), ended.join())
})

test('trace: a request that was under way is no half record, and one that ends behind the look is nobody\'s', async t => {
  const gate = Promise.withResolvers<void>()
  const operator = await start(t, { hooks: { requestFilter: async (session): Promise<Verdict> => {
    if (session.request.path !== '/quick') await gate.promise
    return 'continue'
  } } })
  const early = operator.proxy.exchange(get('/early'))
  await waitFor('the first request', () => operator.proxy.server.stats().activeExchanges === 1)
  operator.look('trace', {}, 1)
  const late = operator.proxy.exchange(get('/late'))
  await waitFor('the second request', () => operator.proxy.server.stats().activeExchanges === 2)
  await operator.proxy.exchange(get('/quick'))
  const records = await operator.records(1)
  gate.resolve()
  await Promise.all([early, late])
  assert.deepEqual(records.map(({ target }) => target), ['/quick'])
  assert.deepEqual([operator.entries.length, operator.looks.size], [1, 0])
})
