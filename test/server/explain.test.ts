/** What would happen to a request, as the application's own hooks say it; and that nothing else hears of it. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import type { Explanation, ExplainRequest } from '../../src/ipc/explanation.ts'
import { HttpPeer, LoadBalancer, type Tracer, type Verdict } from '../../src/index.ts'
import { get, startProxy, type ProxyUnderTest, type ProxyUnderTestOptions } from '../support/proxy.ts'

const REQUEST: ExplainRequest = {
  listener: 'http-proxy/127.0.0.1:0', method: 'GET', target: '/', headers: [['Host', 'example.com']], from: '10.9.8.7',
}

async function explain(proxy: ProxyUnderTest, request: Partial<ExplainRequest> = {}): Promise<Explanation> {
  const explained = proxy.server.explain({ ...REQUEST, ...request })
  assert.ok(explained !== null)
  return explained
}

/** Also shows that nobody else heard of it. */
async function start(t: TestContext, options: ProxyUnderTestOptions = {}): Promise<ProxyUnderTest> {
  const heard: string[] = []
  const tracer: Tracer = {
    exchangeStarted: () => { heard.push('tracer') }, downstreamAccepted: () => { heard.push('accepted') },
    upstreamConnected: () => { heard.push('connected') },
  }
  const accessLog = { exchange: () => { heard.push('line') }, refused: () => { heard.push('line') } }
  const proxy = await startProxy(t, { ...options, service: { tracers: [tracer], accessLog, ...options.service } })
  const before = proxy.server.stats()
  t.after(() => {
    assert.deepEqual(heard, [])
    assert.deepEqual(proxy.server.stats(), before)
    assert.equal(proxy.origin.connections.length, 0)
  })
  return proxy
}

const said = ({ hooks }: Explanation): string[] => hooks.map(({ hook, said: word }) => `${hook}: ${String(word)}`)

test('explain: a request that is forwarded is shown up to the fields that its peer would get', async t => {
  const seen: unknown[] = []
  const proxy = await start(t, {
    hooks: {
      modules: [
        { name: 'auth', requestFilter: () => 'continue', responseFilter() { seen.push('responseFilter') } },
        { name: 'trace', upstreamRequestFilter: (_session, request) => { request.headers.set('traceparent', '00-1') } },
      ],
      earlyRequestFilter: session => { seen.push(session.clientIp, session.digest.remoteIp, session.isSelfTest) },
      requestFilter: async (session): Promise<Verdict> => {
        session.request.target = '/v2/x'
        return 'continue'
      },
      connectedToUpstream() {},
      upstreamRequestFilter: (_session, request) => {
        request.headers.set('authorization', 'Bearer secret')
        request.headers.set('host', 'origin.internal')
      },
      upstreamResponseFilter() { seen.push('upstreamResponseFilter') },
      logging() { seen.push('logging') }, persistConnectionContext: () => { seen.push('persistConnectionContext') },
    },
  })
  const explained = await explain(proxy, {
    target: '/x?q=1', headers: [['Host', 'example.com'], ['X-A', '1'], ['Connection', 'x-b'], ['X-B', '2']],
  })
  assert.equal(explained.outcome, 'forwarded')
  assert.deepEqual(said(explained), [
    'earlyRequestFilter: ', 'requestFilter of module auth: continue', 'requestFilter: continue',
    `upstreamPeer: ${proxy.origin.authority}`, 'connectedToUpstream: ', 'upstreamRequestFilter: ',
    'upstreamRequestFilter of module trace: ',
  ])
  assert.equal(explained.hooks[2]!.changed, 'target is now /v2/x')
  assert.deepEqual(explained.later, [
    'upstreamResponseFilter', 'suppressErrorLog', 'logging', 'persistConnectionContext', 'responseFilter of module auth',
  ])
  const { method, target, fields } = explained.upstream!, byName = new Map(fields.map(([name, value]) => [name.toLowerCase(), value]))
  assert.deepEqual([method, target, explained.peer?.name], ['GET', '/v2/x', proxy.origin.authority])
  const shown = ['host', 'x-a', 'x-b', 'authorization', 'traceparent', 'x-forwarded-for', 'x-forwarded-host'].map(name => byName.get(name))
  assert.deepEqual(shown, ['origin.internal', '1', undefined, '***', '00-1', '10.9.8.7', 'example.com'])
  assert.deepEqual(seen, ['10.9.8.7', '10.9.8.7', false], 'no hook behind the head ran, and it is no self-test')
  assert.deepEqual([explained.answer, explained.error, explained.filter], [null, null, ''])
})

test('explain: who answers, and with what', async t => {
  const proxy = await start(t, {
    hooks: {
      modules: [{
        name: 'auth',
        requestFilter: session => {
          return session.request.path === '/private' ? session.respond(401, { 'www-authenticate': 'Basic' }) : 'continue'
        },
      }],
      earlyRequestFilter: session => {
        if (session.request.path === '/early') session.respond(204)
      },
      requestFilter: session => session.request.path === '/endless' ? session.respond(200, { 'set-cookie': 'a=1' }, endless()) : 'continue',
    },
  })
  const private_ = await explain(proxy, { target: '/private' })
  assert.deepEqual([private_.outcome, private_.answer?.status, private_.answer?.hook], ['answered', 401, 'requestFilter of module auth'])
  assert.deepEqual(private_.answer!.fields.find(([name]) => name === 'www-authenticate'), ['www-authenticate', 'Basic'])
  assert.deepEqual(said(private_), [
    'earlyRequestFilter: ', 'requestFilter of module auth: responded', 'requestFilter: null', 'upstreamPeer: null',
  ])
  assert.deepEqual([private_.peer, private_.upstream], [null, null])
  const early = await explain(proxy, { target: '/early' })
  assert.deepEqual([early.outcome, early.answer?.status, said(early)[0]], ['answered', 204, 'earlyRequestFilter: responded'])
  const stream = await explain(proxy, { target: '/endless' })
  assert.deepEqual([stream.outcome, stream.answer?.fields.find(([name]) => name === 'set-cookie')], ['answered', ['set-cookie', '***']])
  const options = await explain(proxy, { method: 'OPTIONS', headers: [['Host', 'a'], ['Max-Forwards', '0']] })
  assert.deepEqual([options.outcome, options.answer?.hook], ['answered', ''])
})

async function* endless(): AsyncGenerator<string> { for (;;) yield 'again\n' }

test('explain: a hook that throws is told with its place and the page, and failToProxy is not asked', async t => {
  const seen: string[] = []
  const proxy = await start(t, {
    hooks: {
      requestFilter: session => {
        if (session.request.path === '/none') throw Object.assign(new Error('no such tenant'), { code: 'ENONE' })
        return 'nonsense' as 'continue'
      },
      failToProxy: () => { seen.push('failToProxy') },
    },
  })
  const thrown = await explain(proxy, { target: '/none' })
  const { kind, status, hook } = thrown.error!
  assert.deepEqual([thrown.outcome, kind, status, hook], ['failed', 'HOOK_FAILED', 500, 'requestFilter'])
  assert.match(thrown.error!.stack, /explain\.test\.ts:\d+/)
  assert.deepEqual(said(thrown), ['requestFilter: threw', 'upstreamPeer: null'])
  assert.ok(thrown.later.includes('failToProxy'))
  const wrong = await explain(proxy)
  assert.deepEqual([wrong.outcome, said(wrong)[0]], ['failed', 'requestFilter: nonsense'])
  assert.match(wrong.error!.message, /requestFilter: it returned "nonsense"; use 'continue' or 'responded'$/)
  assert.deepEqual(seen, [])
})

test('explain: what the listener or the protocol refuses comes to no hook', async t => {
  const asked: string[] = []
  const proxy = await start(t, {
    listener: {
      maxUriBytes: 256,
      connectionFilter: ip => {
        asked.push(ip)
        return ip !== '10.0.0.66'
      },
    },
  })
  const away = await explain(proxy, { from: '10.0.0.66' })
  assert.deepEqual([away.outcome, away.filter, said(away)], ['turned-away', 'turns it away', ['upstreamPeer: null']])
  const long = await explain(proxy, { target: `/${'x'.repeat(300)}` })
  assert.deepEqual([long.outcome, long.filter, long.error?.status, said(long)], ['refused', 'lets it in', 414, ['upstreamPeer: null']])
  const trace = await explain(proxy, { method: 'TRACE' })
  assert.deepEqual([trace.outcome, trace.error?.status], ['failed', 405])
  assert.deepEqual(asked, ['10.0.0.66', '10.9.8.7', '10.9.8.7'])
  const texts: readonly Partial<ExplainRequest>[] = [{ method: 'G T' }, { target: '/a b' }, { headers: [['x', 'a\r\nb: c']] }]
  for (const given of texts) await assert.rejects(explain(proxy, given), TypeError)
})

test('explain: a listener that is not there, and a server that has not started, explain nothing', async t => {
  const proxy = await startProxy(t)
  assert.equal(proxy.server.explain({ ...REQUEST, listener: 'http-proxy/:1' }), null)
})

test('explain: what a load balancer chose from, also behind a wait, and it counts for nothing', async t => {
  const balancer = LoadBalancer.from(['127.0.0.1:1 weight=2', '127.0.0.1:2', '127.0.0.1:3'], {
    name: 'api', resolver: null, random: () => 0, peer: backend => new HttpPeer(backend),
  })
  balancer.setEnabled('127.0.0.1:3', false)
  const proxy = await start(t, {
    hooks: {
      upstreamPeer: async session => {
        await Promise.resolve()
        return balancer.selectPeerFor(session)
      },
    },
  })
  const [first, second] = await Promise.all([explain(proxy), explain(proxy)])
  for (const { outcome, choices, peer } of [first, second]) {
    assert.equal(outcome, 'forwarded')
    const [choice, ...more] = choices
    assert.equal(more.length, 0)
    assert.deepEqual([choice!.balancer, choice!.selection, choice!.key, choice!.chosen], ['api', 'round-robin', '', peer!.name])
    assert.deepEqual(choice!.candidates.map(({ name, weight, ready, enabled }) => [name, weight, ready, enabled]), [
      ['127.0.0.1:1', 2, true, true], ['127.0.0.1:2', 1, true, true], ['127.0.0.1:3', 1, false, false],
    ])
  }
  assert.deepEqual(balancer.backends().map(({ selected, inFlight }) => [selected, inFlight]), [[0, 0], [0, 0], [0, 0]])
  balancer.select().release()
  assert.equal(balancer.backends().reduce((sum, { selected }) => sum + selected, 0), 1, 'nobody watches any more')
})

test('explain: no backend is a failure with the candidates', async t => {
  const balancer = LoadBalancer.from(['127.0.0.1:1', '127.0.0.1:2'], { resolver: null, peer: backend => new HttpPeer(backend) })
  const proxy = await start(t, { hooks: { upstreamPeer: () => balancer.selectPeer('', { exclude: balancer.set.backends }) } })
  const { outcome, error, choices } = await explain(proxy)
  assert.deepEqual([outcome, error?.kind, error?.hook, error?.status], ['failed', 'NO_HEALTHY_BACKEND', 'upstreamPeer', 503])
  assert.deepEqual(choices.map(({ chosen, candidates }) => [chosen, candidates.length]), [['', 2]])
})

test('explain: what a hook goes on with when its request is over is none of the next one, and counts', async t => {
  const balancer = LoadBalancer.from(['127.0.0.1:1'], { resolver: null }), peer = new HttpPeer('127.0.0.1:1')
  const gate = Promise.withResolvers<void>(), chosen = Promise.withResolvers<void>()
  const proxy = await start(t, {
    hooks: {
      upstreamPeer: () => peer,
      requestFilter: async (session): Promise<Verdict> => {
        if (session.request.path === '/first') void gate.promise.then(() => balancer.select().release()).then(chosen.resolve)
        else {
          gate.resolve()
          await chosen.promise
        }
        return 'continue'
      },
    },
  })
  const first = await explain(proxy, { target: '/first' }), second = await explain(proxy, { target: '/second' })
  assert.deepEqual([first.outcome, second.outcome, first.choices, second.choices], ['forwarded', 'forwarded', [], []])
  assert.deepEqual(balancer.backends().map(({ selected }) => selected), [1])
})

test('explain: hooks that make trouble do so in their own request alone', async t => {
  const trouble = { get name(): string { throw new Error('no name') }, toString(): string { throw new Error('no text') } }
  const proxy = await start(t, {
    hooks: {
      requestFilter: session => {
        if (session.request.path === '/target') session.request.target = trouble as unknown as string
        return 'continue'
      },
      upstreamPeer: () => trouble as unknown as HttpPeer,
    },
  })
  for (const target of ['/target', '/peer']) {
    const { outcome, error } = await explain(proxy, { target })
    assert.deepEqual([outcome, error?.status], ['failed', 500], target)
  }
})

test('explain: a proxy that serves others meanwhile tells each request its own', async t => {
  const proxy = await startProxy(t, {
    hooks: { requestFilter: async session => session.request.path === '/own' ? session.respond(204) : 'continue' },
  })
  const outcomes = await Promise.all([
    explain(proxy, { target: '/own' }), proxy.exchange(get('/')), explain(proxy, { target: '/other' }), proxy.exchange(get('/own')),
  ])
  assert.deepEqual([outcomes[0].outcome, outcomes[1].status, outcomes[2].outcome, outcomes[3].status], ['answered', 200, 'forwarded', 204])
  assert.equal(proxy.server.stats().exchanges, 2)
})
