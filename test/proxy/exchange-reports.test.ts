/** What the access log and tracers say of an exchange, where that is easily said wrong. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { SILENT_LOG, type LogFields, type ProcessLog } from '../../src/ipc/process-log.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET /a?b=1 HTTP/1.1\r\nHost: a.example\r\n\r\n'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

test('reports: when the client leaves while a head filter waits the status is 0, for nothing was sent', async () => {
  const wait = Promise.withResolvers<void>()
  const bench = new ExchangeBench({ responseFilter: () => wait.promise })
  await bench.send(GET)
  await bench.answer(OK)
  bench.client.stream.destroy(true)
  await bench.settle()
  const [line] = bench.lines, [ended] = bench.told.ended
  assert.deepEqual([line!.status, line!.flag, line!.up_status, line!.bytes_out], [0, 'DC', 200, 0])
  assert.deepEqual([ended!.status, ended!.flag, ended!.upstreamStatus, ended!.bytesSent], [0, 'DC', 200, 0])
  assert.equal(ended!.error?.kind, 'CLIENT_GONE')
  wait.resolve()
  await bench.settle()
  assert.deepEqual([bench.lines.length, bench.told.ended.length], [1, 1])
  bench.close()
})

test('reports: the status of the origin is what it sent, also when a filter changes it', async () => {
  for (const hook of ['upstreamResponseFilter', 'responseFilter'] as const) {
    const bench = new ExchangeBench({ [hook]: (_session: unknown, head: { status: number }) => { head.status = 418 } })
    await bench.send(GET)
    await bench.answer(OK)
    const [line] = bench.lines, [ended] = bench.told.ended, [attempt] = bench.told.attempts
    assert.match(bench.client.text, /^HTTP\/1\.1 418 /)
    assert.deepEqual([line!.status, line!.up_status], [418, 200])
    assert.deepEqual([ended!.status, ended!.upstreamStatus, attempt!.status], [418, 200, 200])
    bench.close()
  }
})

test('reports: the status of the origin stays when its answer breaks off and the client is cut', async () => {
  const bench = new ExchangeBench({})
  await bench.send(GET)
  await bench.answer('HTTP/1.1 203 Fine\r\nContent-Length: 10\r\n\r\nhalf')
  bench.origins[0]!.stream.destroy(true)
  await bench.settle()
  const [line] = bench.lines
  assert.deepEqual([line!.status, line!.up_status, line!.bytes_out, line!.flag], [203, 203, 4, 'UR'])
  bench.close()
})

test('reports: an origin that sent no final head has no status, whatever page the client was sent', async () => {
  const bench = new ExchangeBench({})
  await bench.send(GET)
  bench.origins[0]!.stream.destroy(true)
  await bench.settle()
  const [line] = bench.lines
  assert.deepEqual([line!.status, line!.up_status, line!.flag], [502, 0, 'UR'])
  bench.close()
})

test('reports: the path is that of the request, as request filters left it; one attempt\'s copy does not show', async () => {
  const copied = new ExchangeBench({ upstreamRequestFilter: (_session, request) => { request.target = '/elsewhere' } })
  await copied.send(GET)
  await copied.answer(OK)
  assert.match(copied.origins[0]!.text, /^GET \/elsewhere HTTP/)
  assert.deepEqual([copied.lines[0]!.path, copied.lines[0]!.query, copied.told.ended[0]!.target], ['/a', 'b=1', '/a?b=1'])
  copied.close()
  const routed = new ExchangeBench({
    requestFilter: session => {
      session.request.target = '/routed'
      return 'continue'
    },
  })
  await routed.send(GET)
  await routed.answer(OK)
  assert.match(routed.origins[0]!.text, /^GET \/routed HTTP/)
  assert.deepEqual([routed.lines[0]!.path, routed.told.ended[0]!.target], ['/routed', '/routed'])
  assert.equal(routed.told.started[0]!.listener, routed.told.ended[0]!.listener)
  routed.close()
})

test('reports: an exchange whose first hook throws is begun and ended for tracers all the same', async () => {
  const bench = new ExchangeBench({ newCtx: () => { throw new Error('planned') } })
  await bench.send(GET)
  const { started, ended, attempts } = bench.told
  assert.deepEqual([started.length, ended.length, attempts.length], [1, 1, 0])
  assert.deepEqual([ended[0]!.exchangeId, ended[0]!.status, ended[0]!.flag, ended[0]!.ownAnswer], [started[0]!.exchangeId, 500, 'FE', true])
  bench.close()
})

test('reports: a failure that would have been tried again, had the retry budget not been spent, says so', async () => {
  const hooks = { errorWhileProxy(_session: unknown, _peer: unknown, error: ProxyError) { error.retry = 'always' } }
  const bench = new ExchangeBench(hooks, {}, { maxAttempts: 50, retryBudgetPercent: 1 })
  await bench.send(GET)
  for (let attempt = 0; attempt < 50 && bench.lines.length === 0; attempt++) {
    bench.origins.at(-1)!.stream.destroy(true)
    await bench.settle()
    bench.clock.advance(1000)
    await bench.settle()
  }
  const [line] = bench.lines, [ended] = bench.told.ended
  assert.deepEqual([line!.flag, ended!.flag, ended!.retryBudgetSpent, line!.status], ['RX', 'RX', true, 502])
  assert.ok(line!.attempts > 1 && line!.attempts < 50)
  assert.match(line!.err, /^(CLOSED_EARLY|CONNECTION_RESET)/)
  bench.close()
})

test('reports: every value of a line is that of its exchange, with the times of a clock that stands still', async () => {
  const bench = new ExchangeBench({}, { trustedHops: ['127.0.0.1'] })
  const begun = bench.clock.wall()
  await bench.send(
    'POST /a%20b?token=x&b=2 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: test/1\r\nReferer: https://b.example/?q=1\r\n'
    + 'X-Request-Id: mine\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 3\r\n\r\nabc',
  )
  bench.clock.advance(40)
  await bench.answer('HTTP/1.1 201 Made\r\nContent-Length: 5\r\n\r\nhe')
  bench.clock.advance(60)
  await bench.answer('llo')
  assert.deepEqual(bench.lines, [{
    ts: begun, id: 'mine', trace_id: '', span_id: '', listener: 'http-proxy/127.0.0.1:0', client: '203.0.113.9', peer: '127.0.0.1',
    method: 'POST', scheme: 'http', host: 'a.example', path: '/a%20b', query: 'token=x&b=2', proto: 'HTTP/1.1',
    tls: '', sni: '', alpn: '',
    status: 201, flag: '-', bytes_in: 3, bytes_out: 5, dur_ms: 100, ttfb_ms: 40,
    upstream: '10.0.0.1:80', up_status: 201, up_connect_ms: 0, up_ttfb_ms: 40, attempts: 1, reused: false,
    limit: '', ua: 'test/1', referer: 'https://b.example/?q=1', worker: '', gen: 0, err: '', w: 1, app: null,
  }])
  bench.clock.advance(10)
  await bench.send(GET)
  await bench.answer(OK)
  const [, second] = bench.lines
  assert.deepEqual([second!.reused, second!.ts, second!.dur_ms, second!.peer], [true, begun + 110, 0, ''])
  bench.close()
})

test('reports: what clients bring about is in the process log while somebody wants to debug, and not at other times', async () => {
  const said: string[] = []
  let wanted = false, suppressed = false
  const debug = (message: string, fields: LogFields = {}): void => { said.push(`${message}: ${String(fields['kind'])}`) }
  const log: ProcessLog = { ...SILENT_LOG, get debug() { return wanted ? debug : null } }
  const leave = async (): Promise<void> => {
    const bench = new ExchangeBench({ suppressErrorLog: () => suppressed }, {}, {}, log)
    await bench.send(GET)
    bench.client.stream.destroy(true)
    await bench.settle()
    bench.close()
    const refused = new ExchangeBench({}, {}, {}, log)
    await refused.send('nonsense\r\n\r\n')
    refused.close()
  }
  await leave()
  assert.deepEqual(said.splice(0), [])
  wanted = true
  await leave()
  assert.deepEqual(said.splice(0), ['a client failed its request: CLIENT_GONE', 'a head was refused: BAD_HEAD'])
  suppressed = true
  await leave()
  assert.deepEqual(said, ['a head was refused: BAD_HEAD'])
})
