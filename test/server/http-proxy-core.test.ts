/** What a service tells the process log of its traffic. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProxyError, type ErrorKind } from '../../src/errors/proxy-error.ts'
import type { FaultReport } from '../../src/ipc/fault-report.ts'
import { SILENT_LOG, type LogFields, type ProcessLog } from '../../src/ipc/process-log.ts'
import { functionDiscovery } from '../../src/load-balancing/discovery.ts'
import { LoadBalancer } from '../../src/load-balancing/load-balancer.ts'
import { HttpPeer, type BackendLike } from '../../src/peer/http-peer.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { ServerContext } from '../../src/server/server-context.ts'
import { FaultReports } from '../../src/telemetry/fault-reports.ts'
import type { RequestTrace } from '../../src/telemetry/request-trace.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'
import { FakeClock } from '../support/fake-clock.ts'

interface Line { readonly level: string; readonly message: string; readonly fields: LogFields }

/** A bench whose process log is kept, without the hook that keeps faults out of it. */
function logged(hooks: Partial<ProxyHttp<undefined>>): { bench: ExchangeBench; lines: Line[] } {
  const lines: Line[] = []
  const at = (level: string) => (message: string, fields: LogFields = {}): void => { lines.push({ level, message, fields }) }
  const log: ProcessLog = { info: at('info'), warn: at('warn'), error: at('error') }
  return { bench: new ExchangeBench({ suppressErrorLog: () => false, ...hooks }, {}, {}, log), lines }
}

const GET = 'GET /a?b=1 HTTP/1.1\r\nHost: a.example\r\n\r\n'

test('process log: however often it happens, one kind of fault has one line a second with the count of the others', async () => {
  const table: readonly (readonly [ErrorKind, string])[] = [
    ['OVERLOADED', 'warn'], ['LOOP_DETECTED', 'warn'], ['DRAINING', 'warn'], ['HOOK_FAILED', 'error'], ['INTERNAL', 'error'],
  ]
  for (const [kind, level] of table) {
    const { bench, lines } = logged({ requestFilter() { throw new ProxyError(kind, 'internal', 'planned') } })
    for (let round = 0; round < 20; round++) await bench.send(GET)
    assert.deepEqual(lines.map(line => line.level), [level], kind)
    assert.equal(lines[0]!.fields['what'], 'GET /a?b=1')
    assert.equal(bench.lines.length, 20)
    bench.clock.advance(1000)
    await bench.send(GET)
    assert.deepEqual(lines.map(line => line.fields['suppressed']), [undefined, 19], kind)
    bench.close()
  }
})

test('process log: what was thrown is told even when it was made to make trouble, and the exchange ends as always', async () => {
  const unreadable = Object.defineProperty(new Error('planned'), 'message', { get() { throw new Error('by the message') } })
  const silent = Object.defineProperty(new Error('planned'), 'stack', { get() { throw new Error('by the stack') } })
  for (const thrown of [unreadable, silent, Object.create(null), Symbol('s'), undefined]) {
    for (const hook of ['requestFilter', 'responseFilter', 'logging'] as const) {
      const { bench, lines } = logged({ [hook]() { throw thrown } })
      await bench.send(GET)
      if (hook !== 'requestFilter') await bench.answer('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
      assert.deepEqual([bench.lines.length, lines.length], [1, 1], hook)
      assert.equal(typeof lines[0]!.fields['error'], 'string')
      bench.close()
    }
  }
})

test('process log: what a client brings about has no line', async () => {
  const { bench, lines } = logged({})
  for (const kind of ['BAD_HEAD', 'BODY_TOO_LARGE', 'CLIENT_GONE', 'SLOW_BODY', 'EXPECTATION_FAILED'] as const) {
    const one = logged({ requestFilter() { throw new ProxyError(kind, 'downstream', 'planned') } })
    await one.bench.send(GET)
    assert.deepEqual(one.lines, [], kind)
    assert.equal(one.bench.lines.length, 1)
    one.bench.close()
  }
  await bench.send('GET / HTTP/1.1\r\nbroken\r\n\r\n')
  assert.deepEqual(lines, [])
  bench.close()
})

test('process log: a failure of an origin is told with its peer and in the words of the application', async () => {
  const { bench, lines } = logged({ requestSummary: session => `for ${session.request.host}` })
  await bench.send(GET)
  bench.origins[0]!.stream.destroy(true)
  await bench.settle()
  assert.equal(bench.lines[0]!.status, 502)
  const [{ level, fields }] = lines as [Line]
  assert.deepEqual([level, fields['peer'], fields['what']], ['error', '10.0.0.1:80', 'for a.example'])
  assert.equal(lines.length, 1)
  bench.close()
})

test('process log: a balancer without backends does not hide what another one says', async () => {
  const peer = (backend: BackendLike): HttpPeer => new HttpPeer(backend)
  const full = LoadBalancer.from(['10.0.0.1:80'], { name: 'full', peer })
  full.setEnabled('10.0.0.1:80', false)
  const forgotten = new LoadBalancer(functionDiscovery(() => ['10.0.0.2:80']), { name: 'forgotten', peer })
  const { bench, lines } = logged({ upstreamPeer: session => (session.request.path === '/f' ? forgotten : full).selectPeerFor(session) })
  for (let round = 0; round < 3; round++) for (const path of ['/', '/f']) await bench.send(GET.replace('/a?b=1', path))
  const said = lines.map(({ message, fields }) => `${message}: ${String(fields['error'])}`)
  const start = 'an upstream failed a request: NO_HEALTHY_BACKEND (upstream):'
  assert.deepEqual(said, [
    `${start} none of 1 backends of full may be used`,
    `${start} forgotten has no backends yet: add its asBackgroundService() to the server, or await its update()`,
  ])
  bench.clock.advance(2000)
  assert.deepEqual(lines.slice(2).map(({ fields }) => fields['suppressed']), [2, 2])
  bench.close()
})

test('process log: an application keeps out of it what it wants, and is asked once an exchange', async () => {
  const asked: string[] = []
  const { bench, lines } = logged({ suppressErrorLog: (_session, { kind }) => asked.push(kind) > 1 })
  await bench.send(GET)
  bench.origins[0]!.stream.destroy(true)
  await bench.settle()
  assert.deepEqual([asked.length, lines.length], [1, 1])
  bench.clock.advance(5000)
  await bench.send(GET)
  bench.origins[1]!.stream.destroy(true)
  await bench.settle()
  assert.deepEqual([asked.length, lines.length], [2, 1])
  bench.close()
})

test('process log: a hook that nothing waits for and that throws a thousand times has one line a second', async () => {
  const { bench, lines } = logged({
    requestFilter: session => session.respond(204), logging() { throw new Error('planned') },
  })
  for (let round = 0; round < 20; round++) await bench.send(GET)
  assert.deepEqual(lines.map(({ level }) => level), ['error'])
  assert.match(String(lines[0]!.fields['error']), /planned/)
  bench.clock.advance(1000)
  await bench.send(GET)
  assert.equal(lines[1]!.fields['suppressed'], 19)
  bench.close()
})

test('process log: a hook that fails does not hide what another one says', async () => {
  const { bench, lines } = logged({
    requestFilter(session) {
      if (session.request.path === '/') throw new Error('planned')
      return 'continue'
    },
    upstreamPeer() { throw new Error('unplanned') },
  })
  for (const target of ['/', '/a', '/', '/a']) await bench.send(`GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`)
  assert.deepEqual(lines.map(({ fields }) => fields['hook']), ['requestFilter', 'upstreamPeer'])
  assert.match(String(lines[1]!.fields['error']), /unplanned/)
  bench.close()
})

test('counts and logs: an answer that a body filter fails within is the application\'s fault, not that of the origin', async () => {
  for (const hook of ['upstreamResponseBodyFilter', 'responseBodyFilter'] as const) {
    const { bench, lines } = logged({ [hook]() { throw new Error('planned') } })
    await bench.send(GET)
    await bench.answer('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    const { err, flag } = bench.lines[0]!
    assert.deepEqual([err, flag], ['HOOK_FAILED', 'FE'])
    const { ownFaults, upstreamFaults } = bench.service.stats()
    assert.deepEqual([ownFaults, upstreamFaults], [1, 0], hook)
    assert.deepEqual(lines.map(({ message }) => message), ['a request failed inside the proxy'])
    assert.equal(bench.told.attempts[0]!.error?.source, 'internal')
    bench.close()
  }
})

function reporting(
  hooks: Partial<ProxyHttp<undefined>>, context: Partial<ServerContext> = {},
): { bench: ExchangeBench; reports: FaultReport[] } {
  const reports: FaultReport[] = []
  const faultReports = new FaultReports(report => { reports.push(report); return true }, new FakeClock())
  const bench = new ExchangeBench({ suppressErrorLog: () => false, ...hooks }, {}, {}, SILENT_LOG, { faultReports, ...context })
  return { bench, reports }
}

const [TRACE, SPAN] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
const TRACED = `GET /a?b=1 HTTP/1.1\r\nHost: a.example\r\nCookie: c=5ecre7\r\ntraceparent: 00-${TRACE}-${SPAN}-01\r\n\r\n`

test('fault reports: a hook that throws is told with its place and the ids of the request, and nothing else of it', async () => {
  const { bench, reports } = reporting({
    requestFilter({ request, clientIp }) { throw new TypeError(`no tenant at ${request.target} for ${clientIp}`) },
  })
  await bench.send(TRACED)
  const [report] = reports as [FaultReport]
  const { requestId, listener, stack, ...rest } = report
  assert.deepEqual(rest, {
    kind: 'hook', name: 'TypeError', where: 'requestFilter', message: 'no tenant at /a?(query) for (client)', count: 1,
    service: 'http-proxy', traceId: TRACE, spanId: SPAN,
  })
  assert.equal(requestId, bench.lines[0]!.id)
  assert.notEqual(listener, '')
  assert.match(stack!, /^ +at .*http-proxy-core\.test\.ts:\d+/)
  assert.doesNotMatch(JSON.stringify(report), /5ecre7|b=1|a\.example/)
  bench.close()
})

test('fault reports: a request that is recorded here is told with the span of it, not with that of the client', async () => {
  const span: RequestTrace = {
    traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sendOn() {}, leave: work => work(),
    run: hook => hook(),
  }
  const { bench, reports } = reporting({ requestFilter() { throw new Error('planned') } }, { tracing: { tracer: {}, begin: () => span } })
  await bench.send(TRACED)
  assert.deepEqual(reports.map(({ traceId, spanId }) => [traceId, spanId]), [[span.traceId, span.spanId]])
  bench.close()
})

test('fault reports: a request whose traceparent is none is told without a trace', async () => {
  const { bench, reports } = reporting({ requestFilter() { throw new Error('planned') } })
  await bench.send(TRACED.replace(TRACE!, TRACE!.toUpperCase()))
  assert.deepEqual(reports.map(({ traceId, spanId }) => [traceId, spanId]), [[undefined, undefined]])
  bench.close()
})

test('fault reports: a hook whose result nothing waits for, and a request that fails inside the proxy, are told as well', async () => {
  const late = reporting({ logging() { throw new ProxyError('STATUS', 'internal', 'of its own') } })
  await late.bench.send(GET)
  await late.bench.answer('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  assert.deepEqual(late.reports.map(({ kind, name, where, peer }) => [kind, name, where, peer]), [
    ['hook', 'STATUS', 'logging', '10.0.0.1:80'],
  ])
  late.bench.close()
  const ours = reporting({ requestFilter() { throw new ProxyError('INTERNAL', 'internal', 'an invariant') } })
  await ours.bench.send(GET)
  assert.deepEqual(ours.reports.map(({ kind, name, where, message }) => [kind, name, where, message]), [
    ['request', 'INTERNAL', '', 'INTERNAL (internal): an invariant'],
  ])
  ours.bench.close()
})

test('fault reports: what origins and clients bring about, what is shed, and what a hook keeps out of the log is none', async () => {
  const none: readonly Partial<ProxyHttp<undefined>>[] = [
    { requestFilter() { throw new ProxyError('CONNECT_REFUSED', 'upstream', 'planned') } },
    { requestFilter() { throw new ProxyError('BODY_TOO_LARGE', 'downstream', 'planned') } },
    { requestFilter() { throw new ProxyError('OVERLOADED', 'internal', 'planned') } },
    { requestFilter() { throw new ProxyError('STATUS', 'internal', 'planned', { status: 404 }) } },
    { requestFilter() { throw new Error('expected') }, suppressErrorLog: () => true },
  ]
  for (const hooks of none) {
    const { bench, reports } = reporting(hooks)
    await bench.send(GET)
    assert.equal(bench.lines.length, 1)
    assert.deepEqual(reports, [])
    bench.close()
  }
  const { bench, reports } = reporting({})
  await bench.send(GET)
  await bench.answer('HTTP/1.1 broken')
  await bench.answer('\r\n\r\n')
  assert.equal(bench.lines[0]!.status, 502)
  assert.deepEqual(reports, [])
  bench.close()
})
