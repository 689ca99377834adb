/** Where an application may answer by itself, what becomes of the origin then, and what it is told elsewhere. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import { HOOKS, type ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { Session } from '../../src/proxy/session.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
const POST = 'POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc'
const FAILED = 'HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno'
const INTERIM = 'HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'

const responds = (session: Session): 'responded' => session.respond(404, { 'X-Own': '1' }, 'own')
const respondsLater = async (session: Session): Promise<'responded'> => responds(session)
const respondsTacitly = (session: Session): void => { responds(session) }

const BEFORE = ['earlyRequestFilter', 'upstreamPeer', 'connectedToUpstream', 'upstreamRequestFilter'] as const
const OF_RESPONSE = ['upstreamResponseFilter', 'responseFilter'] as const

function assertAnswered(bench: ExchangeBench): void {
  assert.match(bench.client.text, /^HTTP\/1\.1 404 [^]*X-Own: 1\r\n[^]*X-Module: 1\r\n[^]*\r\n\r\nown$/)
  assert.deepEqual(bench.lines.map(({ status, flag }) => [status, flag]), [[404, '-']])
  assert.equal(bench.service.stats().activeExchanges, 0)
}

const modules: ProxyHttp['modules'] = [{ name: 'm', responseFilter: (_session, head) => { head.headers.set('X-Module', '1') } }]

for (const hook of [...BEFORE, ...OF_RESPONSE]) {
  test(`respond: ${hook} may answer, at once or later, and the client's connection goes on`, async () => {
    for (const how of [responds, respondsLater, ...hook === 'upstreamPeer' ? [] : [respondsTacitly]]) {
      const bench = new ExchangeBench({ [hook]: how, modules })
      await bench.send(POST)
      if (hook === 'upstreamResponseFilter' || hook === 'responseFilter') await bench.answer(FAILED)
      await bench.settle()
      assertAnswered(bench)
      for (const origin of bench.origins) assert.equal(origin.ended || origin.closed, true)
      // Nothing of a request that was answered before it was sent has left.
      if (BEFORE.includes(hook as 'upstreamPeer')) for (const origin of bench.origins) assert.equal(origin.text, '')
      await bench.send(POST)
      assert.equal(bench.told.started.length, 2)
      bench.close()
    }
  })
}

test('respond: a module may answer in each attempt', async () => {
  const bench = new ExchangeBench({ modules: [...modules, { name: 'n', upstreamRequestFilter: responds }] })
  await bench.send(GET)
  assertAnswered(bench)
  bench.close()
})

test('respond: the answer that an origin began is thrown away, its body too, and the origin did well', async () => {
  const verdicts: string[] = []
  const bench = new ExchangeBench({
    upstreamPeer: () => new HttpPeer({
      peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: 'p',
      report: healthy => { verdicts.push(`report ${healthy}`) }, release: () => { verdicts.push('release') },
    }),
    responseFilter: respondsLater, modules,
  })
  await bench.send('POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000\r\n\r\nabc')
  await bench.answer('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome')
  assertAnswered(bench)
  assert.deepEqual([verdicts, bench.lines[0]!.up_status], [['report true'], 200])
  bench.close()
})

test('respond: a switch of protocols that the origin accepted may still be refused', async () => {
  const bench = new ExchangeBench({ responseFilter: responds, modules })
  await bench.send('GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
  await bench.answer('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n')
  assertAnswered(bench)
  assert.equal(bench.service.stats().upgraded, 0)
  bench.close()
})

const ELSEWHERE: readonly (readonly [string, Partial<ProxyHttp<undefined>>])[] = [
  ['onConnectionReuse', { persistConnectionContext: () => 1, onConnectionReuse: respondsTacitly }],
  ['interimResponseFilter', { interimResponseFilter: session => { responds(session); return 'forward' } }],
  ['requestBodyFilter', { requestBodyFilter: (session, chunk) => { responds(session); return chunk } }],
  ['responseFilter of module m', { modules: [{ name: 'm', responseFilter: respondsTacitly }] }],
  ['errorWhileProxy', {
    connectedToUpstream() { throw new Error('planned') }, errorWhileProxy: session => { responds(session) },
  }],
]
for (const [hook, hooks] of ELSEWHERE) {
  test(`respond: ${hook} may not answer; it is told where, and the client gets an answer`, async () => {
    const bench = new ExchangeBench(hooks)
    await bench.send(POST)
    if (bench.origins.length > 0) await bench.answer(INTERIM)
    if (hook === 'onConnectionReuse') await bench.send(POST)
    const { error, status } = bench.told.ended.at(-1)!
    assert.equal(status, 500)
    assert.ok(error!.message.startsWith(`HOOK_FAILED (internal): ${hook}: respond: `), error!.message)
    assert.match(error!.message, /; (answer|keep|throw) /)
    assert.equal(bench.service.stats().activeExchanges, 0)
    bench.close()
  })
}

test('respond: where nothing waits for an answer, later or in logging, it is refused', async () => {
  const refused: string[] = [], sessions: Session[] = []
  const attempt = (session: Session): void => {
    try { session.respond(200) } catch (thrown) { refused.push((thrown as Error).message) }
  }
  const bench = new ExchangeBench({ requestFilter(session) { sessions.push(session); return 'continue' }, logging: attempt })
  await bench.send(GET)
  attempt(sessions[0]!)
  await bench.answer(FAILED)
  attempt(sessions[0]!)
  assert.match(refused[0]!, /^respond: the request is with an origin, /)
  const over = 'respond: the exchange is over; answer in an earlier hook, or in failToProxy'
  assert.deepEqual(refused.slice(1), [over, over])
  assert.match(bench.client.text, /^HTTP\/1\.1 503 /)
  bench.close()
})

test('respond: words and deeds have to agree', async () => {
  const unanswered = `it said 'responded' without session.respond(); return what that returns, or 'continue'`
  const CASES: readonly (readonly [keyof ProxyHttp, () => unknown, string])[] = [
    ['requestFilter', () => 'responded', unanswered],
    ['upstreamPeer', () => 'responded', unanswered],
    ['connectedToUpstream', async () => 'responded', unanswered],
    ['requestFilter', () => undefined, `it returned undefined; use 'continue' or 'responded'`],
    ['proxyUpstreamFilter', () => true, `it returned true; use 'continue' or 'responded'`],
  ]
  for (const [hook, result, said] of CASES) {
    const bench = new ExchangeBench({ [hook]: result })
    await bench.send(GET)
    assert.equal(bench.told.ended[0]!.error!.message, `HOOK_FAILED (internal): ${hook}: ${said}`)
    bench.close()
  }
  // What such a hook returns besides is of no interest: it may be that of the last thing it did.
  const hooks = { upstreamRequestFilter: () => true as unknown as undefined }
  const bench = new ExchangeBench(hooks)
  await bench.send(GET)
  assert.notEqual(bench.origins[0]!.text, '')
  bench.close()
})

test('respond: a peer that comes with an answer is released', async () => {
  let releases = 0
  const bench = new ExchangeBench({
    upstreamPeer: session => {
      responds(session)
      return new HttpPeer({ peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: 'p', release: () => { releases++ } })
    },
    modules,
  })
  await bench.send(GET)
  assertAnswered(bench)
  assert.deepEqual([releases, bench.origins.length], [1, 0])
  bench.close()
})

test('respond: a stream that comes with an answer that may not be is closed', async () => {
  const body = new Readable({ read() {} })
  const bench = new ExchangeBench({ requestFilter: session => session.respond(99, {}, body) })
  await bench.send(GET)
  assert.equal(body.destroyed, true)
  bench.close()
})

/** Every hook of an application and of a module tries; `told` has what became of it. */
function tryEverywhere(only: string, told: Map<string, string>): Partial<ProxyHttp<undefined>> {
  const attempt = <T>(hook: string, session: Session, result: T): T => {
    if (hook !== only) return result
    try {
      const said = session.respond(404, {}, 'own')
      told.set(hook, said)
      return said as T
    } catch (thrown) {
      told.set(hook, (thrown as Error).message)
      return result
    }
  }
  return {
    persistConnectionContext: session => attempt('persistConnectionContext', session, 1),
    onConnectionReuse: session => { attempt('onConnectionReuse', session, undefined) },
    earlyRequestFilter: session => attempt('earlyRequestFilter', session, undefined),
    requestFilter: session => attempt('requestFilter', session, 'continue' as const),
    proxyUpstreamFilter: session => attempt('proxyUpstreamFilter', session, 'continue' as const),
    upstreamPeer: session => {
      const peer = new HttpPeer({ peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: 'p' })
      return attempt('upstreamPeer', session, peer as HttpPeer | 'responded')
    },
    failToConnect: session => { attempt('failToConnect', session, undefined) },
    connectedToUpstream: session => attempt('connectedToUpstream', session, undefined),
    upstreamRequestFilter: session => attempt('upstreamRequestFilter', session, undefined),
    bodyUse: session => { attempt('bodyUse', session, undefined) },
    requestBodyFilter: (session, chunk) => { attempt('requestBodyFilter', session, undefined); return chunk },
    requestTrailerFilter: session => { attempt('requestTrailerFilter', session, undefined) },
    interimResponseFilter: session => { attempt('interimResponseFilter', session, undefined); return 'forward' },
    adjustUpstreamModules: session => { attempt('adjustUpstreamModules', session, undefined) },
    upstreamResponseFilter: session => attempt('upstreamResponseFilter', session, undefined),
    upstreamResponseBodyFilter: (session, chunk) => { attempt('upstreamResponseBodyFilter', session, undefined); return chunk },
    upstreamResponseTrailerFilter: session => { attempt('upstreamResponseTrailerFilter', session, undefined) },
    responseFilter: session => attempt('responseFilter', session, undefined),
    responseBodyFilter: (session, chunk) => { attempt('responseBodyFilter', session, undefined); return chunk },
    responseTrailerFilter: session => { attempt('responseTrailerFilter', session, undefined) },
    errorWhileProxy: session => { attempt('errorWhileProxy', session, undefined) },
    failToProxy: session => { attempt('failToProxy', session, undefined) },
    suppressErrorLog: session => { attempt('suppressErrorLog', session, undefined); return false },
    requestSummary: session => { attempt('requestSummary', session, undefined); return 'a request' },
    logging: session => { attempt('logging', session, undefined) },
  }
}

/** A request whose peer refuses connections. */
async function sendToNobody(hooks: Partial<ProxyHttp<undefined>>): Promise<void> {
  const connector = new HttpConnector({
    transport: {
      dial: (_peer, waiter) => {
        process.nextTick(() => waiter.onDialFailed(new ProxyError('CONNECT_REFUSED', 'upstream', 'planned')))
        return { cancel() { /* It was refused. */ } }
      },
    },
  })
  const bench = new ExchangeBench(hooks, { connector })
  await bench.send(GET)
  assert.match(bench.client.text, /^HTTP\/1\.1 502 /)
  bench.close()
}

const ANSWERS = new Set<string>([...BEFORE, ...OF_RESPONSE, 'requestFilter', 'proxyUpstreamFilter', 'failToProxy'])
const CHUNKED = 'POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n'
const TRAILED = 'HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n'

for (const hook of HOOKS.filter(name => name !== 'newCtx')) {
  test(`respond: ${hook} ${ANSWERS.has(hook) ? 'answers' : 'is told in a sentence what would do, and changes nothing'}`, async () => {
    const told = new Map<string, string>()
    const bench = new ExchangeBench(tryEverywhere(hook, told))
    await bench.send(CHUNKED)
    if (bench.lines.length === 0) await bench.answer(TRAILED)
    // A second one, whose origin breaks off.
    await bench.send(CHUNKED)
    bench.origins.at(-1)?.stream.destroy(true)
    await bench.settle()
    if (hook === 'failToConnect') await sendToNobody(tryEverywhere(hook, told))
    const said = told.get(hook)
    if (ANSWERS.has(hook)) assert.equal(said, 'responded')
    else assert.match(said!, /^respond: [^;]+; (answer|throw|keep|call) [^;]+$/)
    assert.equal(bench.service.stats().activeExchanges, 0)
    for (const { status } of bench.lines) assert.ok([200, 404, 502].includes(status), String(status))
    bench.close()
  })
}
