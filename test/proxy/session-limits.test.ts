/** What one request may have otherwise than its listener, its peer and its service: limits, times, and its line in the access log. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import type { SessionLimits } from '../../src/proxy/session-limits.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const get = (target: string): string => `GET ${target} HTTP/1.1\r\nHost: a.example\r\n\r\n`
const upload = (target: string, bytes: number, sent = bytes): string =>
  `POST ${target} HTTP/1.1\r\nHost: a.example\r\nContent-Length: ${bytes}\r\n\r\n${'x'.repeat(sent)}`
const chunked = (target: string, bytes: number): string => {
  const coded = `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n0\r\n\r\n`
  return `POST ${target} HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n${coded}`
}

/** `limits` for requests to /special, from a hook. */
type LimitingHook = 'earlyRequestFilter' | 'requestFilter' | 'upstreamResponseFilter'
function benchWith(hook: LimitingHook, limits: SessionLimits, peer?: HttpPeerOptions): ExchangeBench {
  return new ExchangeBench({
    [hook](session: Session) {
      if (session.request.path === '/special') session.setLimits(limits)
      return hook === 'requestFilter' ? 'continue' : undefined
    },
  }, { listener: { maxRequestBodyBytes: 100, totalTimeoutMs: 60_000 } }, { firstByteTimeoutMs: 5000, readTimeoutMs: 5000, ...peer })
}

test('session limits: earlyRequestFilter lets one route take a larger body, announced or not', async () => {
  for (const body of [upload, chunked]) {
    const bench = benchWith('earlyRequestFilter', { maxRequestBodyBytes: 1000 })
    await bench.send(body('/special', 500))
    await bench.answer(OK)
    assert.match(bench.client.text, /^HTTP\/1\.1 200 /)
    // The next request of the connection has the listener's limit again.
    await bench.send(body('/other', 500))
    assert.deepEqual(bench.lines.map(({ status, limit }) => [status, limit]), [[200, ''], [413, 'request-body-bytes']])
    bench.close()
  }
})

test('session limits: a body that is announced too large reaches no origin, whichever hook lowered the limit', async () => {
  for (const hook of ['earlyRequestFilter', 'requestFilter'] as const) {
    const bench = benchWith(hook, { maxRequestBodyBytes: 10 })
    await bench.send(upload('/special', 50, 0))
    assert.match(bench.client.text, /^HTTP\/1\.1 413 /)
    assert.equal(bench.origins.length, 0)
    bench.close()
  }
})

test('session limits: an announced body over the limit of its listener is refused behind earlyRequestFilter alone', async () => {
  const ran: string[] = []
  const bench = new ExchangeBench({
    earlyRequestFilter: () => { ran.push('early') },
    requestFilter: () => { ran.push('request'); return 'continue' },
  }, { listener: { maxRequestBodyBytes: 100 } })
  await bench.send(upload('/', 500, 0))
  assert.deepEqual([ran, bench.lines[0]!.status, bench.origins.length], [['early'], 413, 0])
  bench.close()
})

test('session limits: a body that grows past a limit of its own is cut off there', async () => {
  const bench = benchWith('requestFilter', { maxRequestBodyBytes: 10 })
  await bench.send(chunked('/special', 50))
  assert.match(bench.client.text, /^HTTP\/1\.1 413 /)
  assert.doesNotMatch(bench.origins[0]?.text ?? '', /\r\n0\r\n\r\n/)
  bench.close()
})

for (const hook of ['earlyRequestFilter', 'requestFilter'] as const) {
  test(`session limits: an origin has the times of the request, set in ${hook}, in every attempt`, async () => {
    const bench = benchWith(hook, { firstByteTimeoutMs: 20_000 })
    await bench.send(get('/special'))
    bench.clock.advance(15_000)
    await bench.settle()
    assert.equal(bench.lines.length, 0)
    bench.clock.advance(6000)
    await bench.settle()
    assert.deepEqual([bench.lines[0]!.status, bench.lines[0]!.limit], [504, 'first-byte-timeout'])
    bench.close()
  })
}

test('session limits: the times of one request are not those of the next one on the same connection to the origin', async () => {
  const bench = benchWith('earlyRequestFilter', { firstByteTimeoutMs: 20_000 })
  await bench.send(get('/special'))
  await bench.answer(OK)
  await bench.send(get('/other'))
  assert.equal(bench.origins.length, 1)
  bench.clock.advance(6000)
  await bench.settle()
  assert.deepEqual(bench.lines.map(({ status }) => status), [200, 504])
  bench.close()
})

test('session limits: a filter of the response lets a stream be silent for longer than other answers', async () => {
  const bench = benchWith('upstreamResponseFilter', { readTimeoutMs: 50_000 })
  await bench.send(get('/special'))
  await bench.answer('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
  bench.clock.advance(40_000)
  await bench.settle()
  await bench.answer('0\r\n\r\n')
  assert.deepEqual(bench.lines.map(({ status, flag }) => [status, flag]), [[200, '-']])
  bench.close()
})

test('session limits: the whole exchange is timed from its start, whenever the time was set', async () => {
  const bench = new ExchangeBench({
    earlyRequestFilter: session => session.setLimits({ totalTimeoutMs: 30_000, maxRequestBodyBytes: 5 }),
    upstreamResponseFilter: session => session.setLimits({ totalTimeoutMs: 40_000 }),
  }, { listener: { totalTimeoutMs: 10_000 } }, { firstByteTimeoutMs: 1e6, readTimeoutMs: 1e6 })
  await bench.send(get('/'))
  bench.clock.advance(20_000)
  await bench.answer('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello')
  bench.clock.advance(15_000)
  await bench.settle()
  assert.equal(bench.lines.length, 0)
  bench.clock.advance(6000)
  await bench.settle()
  assert.equal(bench.lines[0]!.limit, 'total-timeout')
  bench.close()
})

test('session limits: what would not do is refused at once, all of it, and nothing is changed by it', async () => {
  const mistakes: string[] = []
  const bench = benchWith('requestFilter', {})
  const wrong = { readTimeoutMs: -1, maxRequestBodyByte: 5, minSendBytesPerSecond: '1' } as unknown as SessionLimits
  const refusing: Partial<ProxyHttp<undefined>> = {
    earlyRequestFilter(session) {
      try {
        session.setLimits(wrong)
      } catch (thrown) {
        assert.ok(thrown instanceof OptionError)
        mistakes.push(...thrown.mistakes.map(({ path, text }) => `${path} ${text}`))
      }
    },
  }
  const other = new ExchangeBench(refusing)
  await other.send(upload('/', 20))
  await other.answer(OK)
  assert.deepEqual(mistakes, [
    'limits.readTimeoutMs is -1; use a positive number of milliseconds',
    'limits.maxRequestBodyByte is not an option; use maxRequestBodyBytes',
    'limits.minSendBytesPerSecond is "1"; use 0 (turns it off) or a positive whole number of bytes a second',
  ])
  assert.equal(other.lines[0]!.status, 200)
  other.close()
  bench.close()
})

test('session limits: undefined leaves a limit as it is', async () => {
  const none: unknown = { maxRequestBodyBytes: undefined, firstByteTimeoutMs: undefined }
  const bench = benchWith('earlyRequestFilter', none as SessionLimits)
  await bench.send(upload('/special', 500, 0))
  assert.equal(bench.lines[0]!.status, 413)
  bench.close()
})

test('access log: a hook takes one request out of it, and no other', async () => {
  const bench = new ExchangeBench({ earlyRequestFilter: session => { session.inAccessLog = session.request.path !== '/health' } })
  for (const target of ['/health', '/a', '/health']) {
    await bench.send(get(target))
    await bench.answer(OK)
  }
  assert.deepEqual(bench.lines.map(({ path }) => path), ['/a'])
  // Counted and traced all the same.
  assert.equal(bench.told.ended.length, 3)
  bench.close()
})

test('access log: fields that hooks add stand in the line of their request, the last value of each', async () => {
  const bench = new ExchangeBench({
    earlyRequestFilter(session) {
      if (session.request.path !== '/a') return
      session.logField('tenant', 'nobody')
      session.logField('cached', false)
    },
    responseFilter(session) { if (session.request.path === '/a') session.logField('tenant', 'a"\r\n{') },
  })
  for (const target of ['/a', '/b']) {
    await bench.send(get(target))
    await bench.answer(OK)
  }
  assert.deepEqual(bench.lines.map(({ app }) => app === null ? null : [...app]), [[['tenant', 'a"\r\n{'], ['cached', false]], null])
  bench.close()
})

test('access log: a field that will not do, or comes too late, is refused with a sentence', async () => {
  const told: string[] = []
  const attempt = (call: () => void): void => {
    try { call() } catch (thrown) { told.push((thrown as Error).message) }
  }
  const bench = new ExchangeBench({
    requestFilter(session) {
      for (const name of ['', 'Tenant', '1a', 'a-b', 'x'.repeat(33)]) attempt(() => session.logField(name, 1))
      for (const value of [Number.NaN, null, undefined, {}, 1n]) attempt(() => session.logField('a', value as never))
      for (let at = 0; at < 16; at++) session.logField(`f${at}`, at)
      attempt(() => session.logField('one_more', 1))
      session.logField('f0', 'again')
      attempt(() => { session.inAccessLog = 'no' as never })
      return 'continue'
    },
    logging: session => attempt(() => session.logField('late', 1)),
  })
  await bench.send(get('/'))
  await bench.answer(OK)
  assert.equal(told.length, 13)
  assert.equal(told[1], 'logField: the name is "Tenant"; use up to 32 of a to z, 0 to 9 and _, beginning with a letter')
  assert.equal(told[6], 'logField: a is null; use text, a finite number, true or false')
  assert.equal(told[10], 'logField: one_more is one more than the 16 fields of a line; join some of them')
  assert.equal(told[11], 'inAccessLog is "no"; use true or false')
  assert.equal(told[12], 'logField: the line was written before this hook; call it in an earlier one')
  assert.deepEqual([bench.lines[0]!.app!.size, bench.lines[0]!.app!.get('f0')], [16, 'again'])
  bench.close()
})
