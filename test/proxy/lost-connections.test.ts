/**
 * A network that forgets its connections: a NAT, a balancer or a host went away and came back, and every pooled connection is
 * answered by a reset, or by an end, when it is used next. The origin itself is well all the time.
 */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { ProcessLog } from '../../src/ipc/process-log.ts'
import type { HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'
import { get, post, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { answerOk, type OriginExchange } from '../support/scripted-origin.ts'

type Loss = (exchange: OriginExchange) => void
const LOSSES: readonly (readonly [name: string, act: Loss])[] = [
  ['reset', exchange => exchange.reset()],
  ['ended', exchange => exchange.destroy()],
]

/** A proxy with `count` connections at rest, which the network has forgotten. */
async function withForgotten(t: TestContext, count: number, act: Loss, peer: HttpPeerOptions = {}): Promise<{
  proxy: ProxyUnderTest
  connector: HttpConnector
}> {
  const connector = new HttpConnector()
  const proxy = await startProxy(t, { service: { connector }, peer })
  const held: OriginExchange[] = []
  const all = Promise.withResolvers<void>()
  proxy.origin.script = exchange => {
    held.push(exchange)
    if (held.length === count) all.resolve()
  }
  const answers = Array.from({ length: count }, () => proxy.exchange(get('/first')))
  await all.promise
  await Promise.all(held.map(answerOk))
  await Promise.all(answers)
  assert.equal(connector.pool.idle, count)
  const forgotten = new Set(proxy.origin.connections)
  proxy.origin.script = exchange => forgotten.has(exchange.connection) ? act(exchange) : answerOk(exchange)
  return { proxy, connector }
}

for (const [name, act] of LOSSES) {
  test(`lost connections: the request that meets a connection that was ${name} is answered by a new one, and the others go`, async t => {
    const { proxy, connector } = await withForgotten(t, 8, act)
    assert.equal((await proxy.exchange(get('/next'))).status, 200)
    assert.deepEqual([connector.pool.idle, connector.pool.counters.doubted], [1, 7])
    assert.equal(proxy.origin.connections.length, 9)
    for (let i = 0; i < 10; i++) assert.equal((await proxy.exchange(post('x', '/later'))).status, 200, 'a request that cannot be repeated')
  })

  test(`lost connections: requests that meet connections that were ${name} all at once are all answered`, async t => {
    const count = 60
    // More of them at once than the retry budget allows.
    const { proxy } = await withForgotten(t, count, act, { retryBudgetPercent: 0 })
    const answers = await Promise.all(Array.from({ length: count }, () => proxy.exchange(get('/next'))))
    assert.deepEqual(answers.map(answer => answer.status), Array.from({ length: count }, () => 200))
  })
}

test('lost connections: with every place taken by connections that were lost, one of them makes room', async t => {
  const { proxy } = await withForgotten(t, 4, exchange => exchange.reset(), { maxConnectionsPerPeer: 4, maxQueuedPerPeer: 0 })
  assert.equal((await proxy.exchange(get('/next'))).status, 200)
})

test('lost connections: a request that cannot be repeated fails once, and those behind it go by new connections', async t => {
  const { proxy, connector } = await withForgotten(t, 6, exchange => exchange.reset())
  assert.equal((await proxy.exchange(post('x'))).status, 502)
  assert.equal(connector.pool.idle, 0)
  for (let i = 0; i < 4; i++) assert.equal((await proxy.exchange(post('x'))).status, 200)
})

test('lost connections: an origin that drops one request on every connection takes no others from the pool', async t => {
  const { proxy, connector } = await withForgotten(t, 5, () => {})
  proxy.origin.script = exchange => exchange.request.target === '/poison' ? exchange.destroy() : answerOk(exchange)
  for (let i = 0; i < 2; i++) assert.equal((await proxy.exchange(get('/poison'))).status, 502)
  assert.equal(connector.pool.counters.doubted, 0)
  assert.equal(connector.pool.idle, 3)
  assert.equal((await proxy.exchange(get('/next'))).status, 200)
})

test('lost connections: an attempt that failed and was repeated has a line in the log, and one that lost its connection none', async () => {
  for (const [name, lines] of [['refused', 1], ['lost', 0], ['suppressed', 0]] as const) {
    const said: string[] = []
    const log: ProcessLog = { info() {}, error() {}, warn: (message, fields) => { said.push(`${message} ${String(fields?.['peer'])}`) } }
    let fails = name !== 'lost'
    const bench = new ExchangeBench({
      suppressErrorLog: () => name === 'suppressed',
      connectedToUpstream() {
        if (!fails) return
        fails = false
        throw new ProxyError('CONNECT_REFUSED', 'upstream', 'planned', { retry: 'always' })
      },
    }, {}, {}, log)
    const request = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    bench.client.send(request)
    await bench.settle()
    bench.origins.at(-1)!.send('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    await bench.settle()
    if (name === 'lost') {
      bench.client.send(request)
      await bench.settle()
      bench.origins[0]!.stream.destroy(true)
      await bench.settle()
      assert.equal(bench.origins.length, 2)
    }
    assert.deepEqual(said, Array.from({ length: lines }, () => 'an attempt failed, another one follows 10.0.0.1:80'), name)
    bench.service.close()
  }
})
