/** What a client's FIN behind its request does, by what the exchange waits for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
const POST = 'POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const SWITCH = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
const SWITCHED = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'

const NEVER = new Promise<never>(() => {})

async function leave(bench: ExchangeBench): Promise<void> {
  bench.client.stream.end()
  await bench.settle()
}

/** Nothing is under way, and the log says that the client left. */
function assertGivenUp(bench: ExchangeBench): void {
  const logged = bench.lines.map(({ status, flag, limit, err }) => [status, flag, limit, err])
  assert.deepEqual(logged, [[0, 'DC', 'half-close', 'CLIENT_GONE']])
  assert.equal(bench.service.stats().activeExchanges, 0)
  assert.equal(bench.client.text, '')
  for (const origin of bench.origins) assert.equal(origin.ended || origin.closed, true)
}

for (const request of [GET, POST, SWITCH]) {
  test(`client fin: an exchange that waits for its origin ends, which hears of it (${request.slice(0, 4)}${request.length})`, async () => {
    const bench = new ExchangeBench({})
    await bench.send(request)
    assert.notEqual(bench.origins[0]!.text, '')
    await leave(bench)
    assertGivenUp(bench)
    bench.close()
  })
}

const WAITING: readonly (keyof ProxyHttp)[] = [
  'earlyRequestFilter', 'requestFilter', 'proxyUpstreamFilter', 'upstreamPeer', 'connectedToUpstream', 'upstreamRequestFilter',
]
for (const hook of WAITING) {
  test(`client fin: an exchange that waits for ${hook} ends`, async () => {
    const bench = new ExchangeBench({ [hook]: () => NEVER })
    await bench.send(GET)
    await leave(bench)
    assertGivenUp(bench)
    bench.close()
  })
}

test('client fin: an answer that was there, and is given up for another one, leaves nobody who waits', async () => {
  const verdict = Promise.withResolvers<'retry'>()
  const bench = new ExchangeBench({ upstreamResponseFilter: () => verdict.promise })
  await bench.send(GET)
  await bench.answer(OK.replace('Length: 2', 'Length: 5'))
  await leave(bench)
  // What the filter has in its hands may still be for the client.
  assert.equal(bench.service.stats().activeExchanges, 1)
  verdict.resolve('retry')
  await bench.settle()
  assert.equal(bench.origins.length, 1)
  assertGivenUp(bench)
  bench.close()
})

test('client fin: while a connection is dialled, and between two attempts', async () => {
  const dialling = new ExchangeBench({})
  dialling.client.send(GET)
  dialling.client.stream.end()
  await dialling.settle()
  assertGivenUp(dialling)
  dialling.close()
  const waiting = new ExchangeBench({ errorWhileProxy: (_session, _peer, error) => { error.retry = 'always' } })
  await waiting.send(GET)
  for (const _ of [1, 2]) {
    waiting.origins.at(-1)!.stream.destroy(true)
    await waiting.settle()
  }
  // The third attempt follows after a while.
  assert.equal(waiting.origins.length, 2)
  await leave(waiting)
  assertGivenUp(waiting)
  waiting.clock.advance(1000)
  await waiting.settle()
  assert.equal(waiting.origins.length, 2)
  waiting.close()
})

test('client fin: once there is an answer it changes nothing', async () => {
  const started = new ExchangeBench({})
  await started.send(GET)
  await started.answer('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc')
  await leave(started)
  await started.answer('def')
  assert.match(started.client.text, /\r\n\r\nabcdef$/)
  assert.deepEqual(started.lines.map(({ status, flag }) => [status, flag]), [[200, '-']])
  started.close()
  // The origin has answered, and a filter has yet to look at it.
  const filter = Promise.withResolvers<void>()
  const held = new ExchangeBench({ responseFilter: () => filter.promise })
  await held.send(GET)
  await held.answer(OK)
  await leave(held)
  filter.resolve()
  await held.settle()
  assert.match(held.client.text, /^HTTP\/1\.1 200 [^]*\r\n\r\nok$/)
  held.close()
  // A filter answers, piece by piece.
  const piece = Promise.withResolvers<string>()
  async function* pieces(): AsyncGenerator<string> { yield await piece.promise }
  const own = new ExchangeBench({ requestFilter: session => session.respond(200, {}, pieces()) })
  await own.send(GET)
  await leave(own)
  piece.resolve('own')
  await own.settle()
  assert.match(own.client.text, /\r\nown\r\n/)
  own.close()
  // So does the page of a fault.
  const page = Promise.withResolvers<void>()
  const failing = new ExchangeBench({ requestFilter() { throw new Error('planned') }, failToProxy: () => page.promise })
  await failing.send(GET)
  await leave(failing)
  page.resolve()
  await failing.settle()
  assert.match(failing.client.text, /^HTTP\/1\.1 500 /)
  failing.close()
})

test('client fin: requests before the last one are answered', async () => {
  const bench = new ExchangeBench({})
  bench.client.send(GET + GET)
  bench.client.stream.end()
  await bench.settle()
  await bench.answer(OK)
  await bench.settle()
  assert.deepEqual(bench.lines.map(({ status, limit }) => [status, limit]), [[200, ''], [0, 'half-close']])
  bench.close()
})

test('client fin: a client that has only said everything is answered where the listener, or the request, says keep', async () => {
  const benches = [
    new ExchangeBench({}, { listener: { halfClose: 'keep' } }),
    new ExchangeBench({ earlyRequestFilter: session => { session.halfClose = 'keep' } }),
  ]
  for (const bench of benches) {
    bench.client.send(GET)
    bench.client.stream.end()
    await bench.settle()
    await bench.answer(OK)
    assert.match(bench.client.text, /\r\nConnection: close\r\n\r\nok$/)
    assert.equal(bench.client.ended, true)
    bench.close()
  }
  const one = new ExchangeBench({ earlyRequestFilter: session => { session.halfClose = 'abort' } }, { listener: { halfClose: 'keep' } })
  await one.send(GET)
  await leave(one)
  assertGivenUp(one)
  one.close()
})

test('client fin: what a request says of it does not hold for the next one', async () => {
  let requests = 0
  const bench = new ExchangeBench({ earlyRequestFilter: session => { if (requests++ === 0) session.halfClose = 'keep' } })
  await bench.send(GET)
  await bench.answer(OK)
  await bench.send(GET)
  await leave(bench)
  assert.deepEqual(bench.lines.map(({ limit }) => limit), ['', 'half-close'])
  bench.close()
})

test('client fin: a word that is none is refused where it is set', async () => {
  const bench = new ExchangeBench({ earlyRequestFilter: session => { session.halfClose = 'kept' as 'keep' } })
  await bench.send(GET)
  assert.match(bench.client.text, /^HTTP\/1\.1 500 /)
  bench.close()
})

test('client fin: before the 101 it ends a request to switch, and with keep it goes on to the origin', async () => {
  const bench = new ExchangeBench({}, { listener: { halfClose: 'keep' } })
  bench.client.send(SWITCH)
  bench.client.stream.end()
  await bench.settle()
  assert.equal(bench.origins[0]!.ended, false)
  await bench.answer(SWITCHED)
  assert.equal(bench.service.stats().upgraded, 1)
  assert.equal(bench.origins[0]!.ended, true)
  bench.origins[0]!.stream.end()
  await bench.settle()
  assert.equal(bench.service.stats().upgraded, 0)
  assert.deepEqual(bench.lines.map(({ status }) => status), [101])
  bench.close()
})

test('client fin: behind the 101 that a filter still looks at it reaches the origin', async () => {
  const filter = Promise.withResolvers<void>()
  const bench = new ExchangeBench({ responseFilter: () => filter.promise })
  await bench.send(SWITCH)
  await bench.answer(SWITCHED)
  await leave(bench)
  filter.resolve()
  await bench.settle()
  assert.equal(bench.origins[0]!.ended, true)
  bench.origins[0]!.stream.end()
  await bench.settle()
  assert.equal(bench.service.stats().upgraded, 0)
  bench.close()
})
