/** Drains of a real service with real connections, in a time that only the test moves. */
import assert from 'node:assert/strict'
import http2 from 'node:http2'
import { test, type TestContext } from 'node:test'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { drainOrder, type DrainRequest } from '../../src/ipc/drain-times.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { get, startProxy, type ProxyUnderTest, type ProxyUnderTestOptions } from '../support/proxy.ts'
import { waitFor, within } from '../support/wait-for.ts'

const MINUTE = 60_000
const LONG: DrainRequest = { ...drainOrder('retire', DRAIN_DEFAULTS), hardDrainMs: MINUTE, idleDrainMs: MINUTE, closeSpreadMs: 0 }

interface Timed { readonly proxy: ProxyUnderTest; readonly clock: FakeClock }

async function start(t: TestContext, options: ProxyUnderTestOptions = {}): Promise<Timed> {
  const clock = new FakeClock()
  const connector = new HttpConnector({ ticker: new Ticker(clock) })
  return { proxy: await startProxy(t, { ...options, service: { ...options.service, connector } }), clock }
}

/** A request that its origin never answers is in flight. */
async function startBusy(t: TestContext): Promise<Timed> {
  const timed = await start(t, { leavesExchangesOpen: true, script: () => {} })
  const client = await timed.proxy.connect()
  await client.write(get())
  await waitFor('the request at the origin', () => timed.proxy.origin.requests.length === 1)
  return timed
}

test('drain: a second request shortens the first, and both learn the outcome', async t => {
  const { proxy } = await startBusy(t)
  const first = proxy.server.drain(LONG)
  const second = proxy.server.drain({ ...LONG, mode: 'stop', hardDrainMs: 0 })
  assert.deepEqual(await within('the outcome', Promise.all([first, second]), 2_000), [{ cut: 1 }, { cut: 1 }])
})

test('drain: a second request does not give the time that the first one refused', async t => {
  const { proxy, clock } = await startBusy(t)
  const first = proxy.server.drain({ ...LONG, hardDrainMs: 1000 })
  void proxy.server.drain(LONG)
  clock.advance(900)
  assert.equal(proxy.server.stats().activeExchanges, 1)
  clock.advance(100)
  assert.deepEqual(await within('the outcome', first), { cut: 1 })
})

test('drain: a retirement keeps what is idle for idleDrainMs, then closes it in order', async t => {
  const { proxy, clock } = await start(t)
  const client = await proxy.connect()
  await client.write(get())
  assert.equal((await client.readResponse()).status, 200)
  const drained = proxy.server.drain({ ...LONG, idleDrainMs: 5000 })
  clock.advance(4900)
  await client.write(get())
  const { status, field } = await client.readResponse()
  assert.deepEqual([status, field('connection')], [200, 'close'], 'a connection that was still there was not used')
  client.end()
  assert.deepEqual(await within('the outcome', drained), { cut: 0 })
})

test('drain: a stop after a retirement closes what is idle, in order', async t => {
  const { proxy, clock } = await start(t)
  const client = await proxy.connect()
  await client.write(get())
  assert.equal((await client.readResponse()).status, 200)
  const first = proxy.server.drain(LONG)
  clock.advance(1000)
  void proxy.server.drain({ ...LONG, mode: 'stop' })
  clock.advance(200)
  assert.equal(proxy.server.stats().idleConnections, 1, 'no moment for a request that is on its way')
  clock.advance(100)
  assert.equal(await client.closes(), true)
  assert.equal(client.error, null)
  client.end()
  assert.deepEqual(await within('the outcome', first), { cut: 0 })
})

test('drain: on a stop the next request of a busy client is answered, and told to be the last', async t => {
  const { proxy, clock } = await start(t)
  const [busy, idle] = [await proxy.connect(), await proxy.connect()]
  for (const client of [busy, idle]) {
    await client.write(get())
    assert.equal((await client.readResponse()).status, 200)
  }
  const outcome = proxy.server.drain({ ...LONG, mode: 'stop' })
  await busy.write(get())
  const { status, field } = await busy.readResponse()
  assert.deepEqual([status, field('connection'), idle.ended], [200, 'close', false])
  clock.advance(300)
  assert.deepEqual(await Promise.all([busy, idle].map(client => client.closes())), [true, true])
  assert.deepEqual([busy.error, idle.error], [null, null])
  for (const client of [busy, idle]) client.end()
  assert.deepEqual(await within('the outcome', outcome), { cut: 0 })
})

test('drain: a stop without an idle connection does not wait', async t => {
  const { proxy } = await start(t)
  assert.deepEqual(await within('the outcome', proxy.server.drain({ ...LONG, mode: 'stop' })), { cut: 0 })
})

test('drain: the hard deadline of a retirement leaves tunnels the time of their own', async t => {
  const switched = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n'
  const { proxy, clock } = await start(t, {
    leavesExchangesOpen: true, service: { upgrades: ['test'] },
    script: async exchange => { await exchange.send(Buffer.from(switched)) },
  })
  const client = await proxy.connect()
  await client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n')
  await waitFor('the tunnel', () => proxy.server.stats().upgraded === 1)
  const drained = proxy.server.drain({ ...LONG, hardDrainMs: 1000, tunnelDrainMs: 5000 })
  clock.advance(4000)
  // A connection that was cut is gone within a few turns.
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
  assert.deepEqual([proxy.server.stats().upgraded, proxy.server.stats().connections], [1, 1])
  clock.advance(1100)
  // FIN both ways, then the cut.
  clock.advance(3000)
  assert.deepEqual(await within('the outcome', drained), { cut: 1 })
})

const STREAMED = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n'
const CHUNKED = 'Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n'
/** What an origin has sent of an answer when the time is over. */
const BEGUN: Readonly<Record<string, string>> = {
  '/events': STREAMED + CHUNKED,
  '/events/compressed': `${STREAMED}Content-Encoding: gzip\r\n${CHUNKED}`,
  '/events/announced': `${STREAMED}Content-Length: 1000\r\n\r\ndata: 1\n\n`,
  '/text': `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n${CHUNKED}`,
  '/text/event-stream-like': `HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n${CHUNKED}`,
}

/** Asks for one of these, and for nothing else, of an origin that does not go on. */
function startEndless(t: TestContext): Promise<Timed> {
  return start(t, { leavesExchangesOpen: true, script: async exchange => { await exchange.send(BEGUN[exchange.request.target] ?? '') } })
}

for (const [target, version, whole] of [
  ['/events', 1, true], ['/events', 0, false], ['/events/compressed', 1, false], ['/events/announced', 1, false],
  ['/text', 1, false], ['/text/event-stream-like', 1, false],
] as const) {
  const what = whole ? 'ends in order' : 'is reset'
  test(`drain: at the hard deadline ${target} over HTTP/1.${version} ${what}`, async t => {
    const { proxy, clock } = await startEndless(t)
    const client = await proxy.connect()
    await client.write(`GET ${target} HTTP/1.${version}\r\nHost: a\r\n\r\n`)
    await waitFor('the first event', () => client.unread.includes('data: 1\n\n'))
    const drained = proxy.server.drain({ ...LONG, hardDrainMs: 1000 })
    clock.advance(1000)
    if (whole) {
      const { complete, body } = await client.readResponse()
      assert.deepEqual([complete, body.toString()], [true, 'data: 1\n\n'])
    }
    await waitFor('the end', () => client.ended || client.error !== null)
    assert.deepEqual([client.error === null, client.ended], [whole, whole])
    client.end()
    assert.deepEqual(await within('the outcome', drained), { cut: 1 })
  })
}

test('drain: at the hard deadline streams of one connection end as they would alone, and nothing of that is lost', async t => {
  const { proxy, clock } = await startEndless(t)
  const session = http2.connect(`http://127.0.0.1:${proxy.port}`)
  const goaways: number[] = [], errors: string[] = []
  session.on('goaway', (code, lastStream) => { goaways.push(code, lastStream ?? -1) })
  session.on('error', ({ message }) => errors.push(message))
  t.after(() => session.destroy())
  const streams = [...Object.keys(BEGUN), '/silent'].map(target => {
    const stream = session.request({ ':path': target }), told = { target, status: 0, whole: false, code: -1 }
    stream.on('error', () => { /* the code says it */ })
    stream.on('response', head => { told.status = head[':status'] ?? 0 })
    stream.on('end', () => { told.whole = stream.rstCode === 0 })
    stream.on('close', () => { told.code = stream.rstCode ?? -1 })
    stream.resume()
    return told
  })
  await waitFor('all at the origin', () => proxy.origin.requests.length === streams.length)
  await waitFor('their heads', () => streams.filter(({ status }) => status === 200).length === streams.length - 1)
  const drained = proxy.server.drain({ ...LONG, hardDrainMs: 1000 })
  await waitFor('the second GOAWAY', () => goaways.length === 4)
  assert.deepEqual(goaways, [0, 2 ** 31 - 1, 0, 2 * streams.length - 1])
  clock.advance(1000)
  assert.deepEqual(await within('the outcome', drained), { cut: streams.length })
  await waitFor('the ends', () => streams.every(({ code }) => code !== -1))
  const { NGHTTP2_CANCEL: CANCEL } = http2.constants
  assert.deepEqual(Object.fromEntries(streams.map(({ target, status, code }) => [target, [status, code]])), {
    '/events': [200, 0], '/events/compressed': [200, CANCEL], '/events/announced': [200, CANCEL],
    '/text': [200, CANCEL], '/text/event-stream-like': [200, CANCEL], '/silent': [503, 0],
  })
  assert.deepEqual([streams[0]!.whole, errors], [true, []])
})
