/** The self-test through a real service: what passes, what is said when it does not, and that nobody counts or logs it. */
import assert from 'node:assert/strict'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import {
  HttpPeer, httpProxyService, LoadBalancer, ProxyError, Server, staticDiscovery,
  type AccessLogSink, type ProxyHttp, type SelfTestOptions, type Tracer,
} from '../../src/index.ts'
import type { SelfTestOutcome } from '../../src/ipc/messages.ts'
import type { Service } from '../../src/server/service.ts'
import { PlainService } from '../support/plain-service.ts'
import { get, startProxy, type ProxyUnderTest } from '../support/proxy.ts'
import { answer, answerOk, response, type Script } from '../support/scripted-origin.ts'
import { waitFor, within } from '../support/wait-for.ts'

/** A head that announces more than follows it. */
const HALF = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'

/** One that goes on to the origin. */
async function startTested(t: TestContext, selfTest: SelfTestOptions, script: Script = answerOk): Promise<ProxyUnderTest> {
  const proxy = await startProxy(t, { script })
  proxy.server.selfTest({ upstream: true, ...selfTest })
  return proxy
}

/** A test that reaches no upstream, of an application with these hooks. */
async function outcomeOf(hooks: Partial<ProxyHttp<undefined>>, selfTest: SelfTestOptions = {}): Promise<SelfTestOutcome> {
  const server = new Server().selfTest(selfTest)
  // A name that does not resolve, and would take its time to say so.
  const app = { newCtx: () => undefined, upstreamPeer: () => new HttpPeer('origin.invalid:80'), ...hooks }
  server.addService(httpProxyService<undefined>(app).addTcp('127.0.0.1:0'))
  await server.prepare()
  try { return await within('the outcome', server.runSelfTest()) } finally { server.close() }
}

test('self-test: without the upstream every phase runs, and no origin is asked', async t => {
  const phases: string[] = []
  const note = <Result>(name: string, result: Result) => (): Result => {
    phases.push(name)
    return result
  }
  const proxy = await startProxy(t, { hooks: {
    earlyRequestFilter: note('early', undefined),
    requestFilter: note('request', 'continue' as const),
    connectedToUpstream(_session, { peer }) { phases.push(`connected to ${peer.name}`) },
    upstreamRequestFilter: note('upstream request', undefined),
    upstreamResponseFilter: note('upstream response', undefined),
    responseFilter: note('response', undefined),
    responseBodyFilter(_session, chunk, last) {
      if (last) phases.push('body')
      return chunk
    },
    logging: note('logging', undefined),
  } })
  assert.match((await proxy.server.runSelfTest()).detail, /^GET \/ answered 200 in \d+ ms$/)
  assert.deepEqual(phases, [
    'early', 'request', `connected to ${proxy.origin.authority}`, 'upstream request', 'upstream response', 'response', 'body', 'logging',
  ])
  assert.equal(proxy.origin.connections.length, 0)
})

test('self-test: an application passes whatever becomes of its backends', async () => {
  const down = new LoadBalancer(staticDiscovery([]))
  const none = () => { throw new ProxyError('NO_HEALTHY_BACKEND', 'upstream', 'all are down') }
  const rows: readonly { hooks: Partial<ProxyHttp<undefined>>; selfTest?: SelfTestOptions; detail: RegExp }[] = [
    { hooks: {}, detail: /answered 200 in \d+ ms$/ },
    { hooks: {}, selfTest: { method: 'HEAD' }, detail: /^HEAD \/ answered 200 in \d+ ms$/ },
    { hooks: {}, selfTest: { method: 'POST', expect: 200 }, detail: /^POST \/ answered 200 in \d+ ms$/ },
    { hooks: { upstreamPeer: () => new HttpPeer(down.select()) }, detail: /answered 503 in \d+ ms: NO_HEALTHY_BACKEND/ },
    { hooks: { upstreamPeer: none }, selfTest: { expect: 200 }, detail: /answered 503 in \d+ ms: NO_HEALTHY_BACKEND.*all are down/ },
    { hooks: { upstreamPeer: async () => none(), failToProxy: session => {
      session.respond(502, {}, 'later')
      return { status: 502, canReuseDownstream: false }
    } }, detail: /answered 502 in \d+ ms: NO_HEALTHY_BACKEND/ },
  ]
  for (const { hooks, selfTest, detail } of rows) {
    const outcome = await outcomeOf(hooks, selfTest)
    assert.match(outcome.detail, detail)
    assert.equal(outcome.passed, true, outcome.detail)
  }
})

for (const alpn of ['h1', 'h2', 'h2h1'] as const) {
  for (const tls of [false, true]) {
    test(`self-test: an application passes whose peers speak ${alpn} ${tls ? 'over TLS' : 'in the clear'}`, async () => {
      const peer = new HttpPeer('origin.invalid:80', { alpn, tls })
      assert.match((await outcomeOf({ upstreamPeer: () => peer })).detail, /^GET \/ answered 200 in \d+ ms$/)
    })
  }
}

test('self-test: a mistake of the application is found without an upstream, and told with its reason', async () => {
  const mistake = (): never => { throw new TypeError('peers is not iterable') }
  const never = new Promise<never>(() => {})
  const rows: readonly { hooks: Partial<ProxyHttp<undefined>>; timeoutMs?: number; detail: RegExp }[] = [
    { hooks: { upstreamPeer: mistake }, detail: /^GET \/ answered 500, expected 100 to 499: .*peers is not iterable/ },
    { hooks: { upstreamRequestFilter: mistake }, detail: /answered 500, expected 100 to 499: .*peers is not iterable/ },
    { hooks: { responseBodyFilter: mistake }, detail: /peers is not iterable/ },
    { hooks: { responseFilter: async () => mistake() }, detail: /answered 500, .*peers is not iterable/ },
    { hooks: { upstreamPeer: () => never }, timeoutMs: 50, detail: /^GET \/ was not answered within 50 ms; it waits for upstreamPeer$/ },
    { hooks: { requestFilter: () => never }, timeoutMs: 50, detail: /within 50 ms; it waits for requestFilter$/ },
    { hooks: { upstreamRequestFilter(_session, request) { request.headers.set('x-a', 'b\r\nc') } }, detail: /answered 500, expected/ },
  ]
  for (const { hooks, timeoutMs = 5_000, detail } of rows) {
    const outcome = await outcomeOf({ suppressErrorLog: () => true, ...hooks }, { timeoutMs })
    assert.match(outcome.detail, detail)
    assert.equal(outcome.passed, false, outcome.detail)
    if (detail.source.includes('iterable')) assert.match(outcome.stack!, /^TypeError: peers is not iterable\n {4}at .*self-test\.test\.ts:/)
  }
})

test('self-test: a load balancer learns nothing from a test that did not reach its backend', async () => {
  for (const upstream of [false, true]) {
    const told: string[] = []
    const backend = {
      peerAddress: { kind: 'tcp', host: '127.0.0.1', port: 1 } as const, name: '127.0.0.1:1',
      report(healthy: boolean) { told.push(`healthy: ${String(healthy)}`) },
      release() { told.push('released') },
    }
    await outcomeOf({ upstreamPeer: () => new HttpPeer(backend, { maxAttempts: 1 }) }, { upstream })
    assert.deepEqual(told, [upstream ? 'healthy: false' : 'released'])
  }
})

test('self-test: the request goes the whole way, with the application\'s own method, path and fields', async t => {
  const headers = { Host: 'health.example', 'X-Probe': 'yes' }
  const proxy = await startTested(t, { method: 'POST', path: '/health?deep=1', headers, expect: 200 })
  const { passed, detail } = await proxy.server.runSelfTest()
  assert.match(detail, /^POST \/health\?deep=1 answered 200 in \d+ ms$/)
  assert.equal(passed, true)
  assert.equal(proxy.origin.requests.length, 1)
  const request = proxy.origin.requests[0]!
  const { method, target } = request
  assert.deepEqual([method, target, request.field('host'), request.field('x-probe')], ['POST', '/health?deep=1', 'health.example', 'yes'])
})

test('self-test: it is asked once, whatever is answered', async t => {
  const hinted = 'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n'
  const breaksOff: Script = async exchange => {
    await exchange.send(HALF)
    exchange.reset()
  }
  const rows: readonly { script: Script; expect?: SelfTestOptions['expect']; passed: boolean; detail: RegExp }[] = [
    { script: answer(response(404)), passed: true, detail: /answered 404 in/ },
    { script: answer(response(500)), passed: false, detail: /^GET \/ answered 500, expected 100 to 499$/ },
    { script: answer(response(204)), expect: 200, passed: false, detail: /answered 204, expected 200$/ },
    { script: answer(hinted), passed: false, detail: /answered 503/ },
    { script: exchange => exchange.reset(), passed: false, detail: /answered 502, expected 100 to 499: \w+ \(upstream\)/ },
    { script: answer(response(200, 'x'.repeat(3_000_000))), passed: true, detail: /answered 200/ },
    { script: breaksOff, passed: false, detail: /^GET \/ (answered 200, but not to the end|was not answered): / },
  ]
  for (const { script, expect, passed, detail } of rows) {
    const proxy = await startTested(t, expect === undefined ? {} : { expect }, script)
    const outcome = await proxy.server.runSelfTest()
    assert.match(outcome.detail, detail)
    assert.equal(outcome.passed, passed)
    assert.equal(proxy.origin.requests.length, 1, outcome.detail)
  }
})

test('self-test: it ends with its own time, before an answer or within one', async t => {
  for (const [script, detail] of [
    [() => {}, 'GET / was not answered within 50 ms; it waits for the answer of '],
    [exchange => exchange.send(HALF), 'GET / answered 200, but not to the end within 50 ms; it waits for the body of the answer of '],
  ] as const satisfies readonly (readonly [Script, string])[]) {
    const proxy = await startTested(t, { timeoutMs: 50 }, script)
    const outcome = await within('the outcome', proxy.server.runSelfTest(), 2_000)
    assert.deepEqual(outcome, { passed: false, detail: detail + proxy.origin.authority })
  }
})

test('self-test: a request that cannot be written is told, not thrown', async t => {
  const proxy = await startTested(t, { headers: { 'no name': '' } })
  const { passed, detail } = await proxy.server.runSelfTest()
  assert.equal(passed, false)
  assert.match(detail, /^GET \/ was not answered: .*no name/)
})

test('self-test: no count of requests, no access log and no tracer sees it, a hook does', async t => {
  const seen: string[] = []
  const tracer: Tracer = {
    exchangeStarted: ({ request }) => { seen.push(`started ${request.target}`) },
    attemptStarted: () => { seen.push('attempt') },
    attemptEnded: () => { seen.push('attempt') },
    exchangeRetried: () => { seen.push('retried') },
    exchangeEnded: ({ target }) => { seen.push(`ended ${target}`) },
    requestRefused: () => { seen.push('refused') },
    downstreamAccepted: () => { seen.push('accepted') },
    downstreamClosed: () => { seen.push('closed') },
  }
  const accessLog: AccessLogSink = {
    exchange: exchange => { seen.push(`logged ${exchange.request.target}`) },
    refused: () => { seen.push('refused') },
  }
  const nobody = net.createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => { nobody.once('listening', resolve) })
  const { port } = nobody.address() as net.AddressInfo
  await new Promise(resolve => { nobody.close(resolve) })
  const marks: boolean[] = []
  const server = new Server()
  server.addService(httpProxyService<undefined>({
    newCtx: () => undefined,
    upstreamPeer: () => new HttpPeer(`127.0.0.1:${port}`, { maxAttempts: 3 }),
    requestFilter(session) {
      marks.push(session.isSelfTest)
      return 'continue'
    },
  }, { tracers: [tracer], accessLog }).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const bound = await server.start()
  /** What it dials is dialled all the same. */
  const counted = (): object => {
    const { dials: _dials, dialsFailed: _failed, poolMisses: _misses, ...rest } = server.stats()
    return rest
  }
  const empty = counted()

  server.selfTest({ path: '/self', upstream: true })
  assert.match((await server.runSelfTest()).detail, /answered 502/)
  // A head that the proxy refuses by itself: longer than it reads.
  server.selfTest({ path: `/${'x'.repeat(100_000)}` })
  assert.match((await server.runSelfTest()).detail, /answered 414/)
  assert.deepEqual(counted(), empty)
  assert.equal(seen.join(), '')
  assert.deepEqual(marks, [true])

  const ordinary = net.connect(bound[0]!.port, '127.0.0.1')
  ordinary.write(get('/real'))
  ordinary.resume()
  await waitFor('the ordinary request to be logged', () => seen.includes('ended /real'))
  ordinary.destroy()
  assert.deepEqual(seen.filter(what => /real|accepted/.test(what)), ['accepted', 'started /real', 'logged /real', 'ended /real'])
  assert.deepEqual(marks, [true, false])
  const { exchanges, ownFaults, upstreamFaults } = server.stats()
  assert.deepEqual({ exchanges, ownFaults, upstreamFaults }, { exchanges: 1, ownFaults: 0, upstreamFaults: 1 })
})

test('self-test: one that is under way is not counted either, and a drain does not wait for it', async t => {
  const proxy = await startTested(t, { timeoutMs: 5_000 }, () => {})
  const outcome = proxy.server.runSelfTest()
  await waitFor('the request at the origin', () => proxy.origin.requests.length === 1)
  const { connections, idleConnections, activeExchanges } = proxy.server.stats()
  assert.deepEqual({ connections, idleConnections, activeExchanges }, { connections: 0, idleConnections: 0, activeExchanges: 0 })
  assert.deepEqual(await within('the drain', proxy.server.stop()), { cut: 0 })
  assert.equal((await outcome).passed, false)
})

test('self-test: without an HTTP listener of ours there is nothing to test; before the server is ready it cannot be', async () => {
  const plain: Service = new PlainService('plain', '127.0.0.1:0')
  const nothing = new Server()
  nothing.addService(plain)
  await nothing.prepare()
  assert.deepEqual(await nothing.runSelfTest(), { passed: true, detail: 'nothing to test' })
  nothing.close()
  const early = new Server()
  const app = { newCtx: () => undefined, upstreamPeer: () => new HttpPeer('127.0.0.1:1') }
  early.addService(httpProxyService<undefined>(app).addTcp('127.0.0.1:0'))
  assert.deepEqual(await early.runSelfTest(), { passed: false, detail: 'the server is not ready yet' })
})

test('self-test: a service that throws at the connection fails the test and nothing else', async () => {
  const service = new PlainService('odd', '127.0.0.1:0')
  const server = new Server()
  server.addService(Object.assign(service, { acceptSelfTest() { throw new Error('not today') } }))
  await server.prepare()
  assert.deepEqual(await server.runSelfTest(), { passed: false, detail: 'GET / was not answered: not today' })
  server.close()
})
