/**
 * Hooks that throw, give what would do nothing, or never give anything, and what a client, a test with `inject` and the process log are
 * told of it. Those of wrong-applications.test.ts are told before there is a request. V8 tells a debugger alone where a hook stands, and
 * the other tests' processes may have none.
 */
import assert from 'node:assert/strict'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { placeIn } from '../../src/errors/code-frame.ts'
import { HOOKS } from '../../src/proxy/proxy-http.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { WrongFolder } from '../support/wrong-applications.ts'

type Hook = (typeof HOOKS)[number]

/** What the client gets when the hook is no good. @default 500 */
const STATUS: Partial<Readonly<Record<Hook, string>>> = {
  upstreamResponseBodyFilter: 'cut', upstreamResponseTrailerFilter: 'cut', responseBodyFilter: 'cut', responseTrailerFilter: 'cut',
  // The answer was there.
  logging: '200', persistConnectionContext: '200',
}
/** Their results are needed at once. */
const AT_ONCE: ReadonlySet<Hook> = new Set([
  'newCtx', 'failToConnect', 'bodyUse', 'errorWhileProxy', 'suppressErrorLog', 'requestSummary', 'persistConnectionContext',
])
/** Asked about a failed exchange. */
const OF_FAULTS: ReadonlySet<Hook> = new Set(['errorWhileProxy', 'failToProxy', 'suppressErrorLog', 'requestSummary'])
/** Hooks of which nothing is expected but what their type says. */
const WRONG_RESULTS: Partial<Readonly<Record<Hook, string>>> = {
  requestFilter: `use 'continue' or 'responded'`,
  proxyUpstreamFilter: `use 'continue' or 'responded'`,
  upstreamPeer: `use a peer, such as new HttpPeer('127.0.0.1:8080')`,
  failToConnect: 'use a ProxyError, or nothing',
  bodyUse: `use 'change', 'keepLength' or 'pass'`,
  requestBodyFilter: 'use a Buffer, null or { chunk, delayMs }',
  requestTrailerFilter: 'use a Buffer, or nothing',
  upstreamResponseBodyFilter: 'use a Buffer, null or { chunk, delayMs }',
  upstreamResponseTrailerFilter: 'use a Buffer, or nothing',
  responseBodyFilter: 'use a Buffer, null or { chunk, delayMs }',
  responseTrailerFilter: 'use a Buffer, or nothing',
  errorWhileProxy: 'use a ProxyError, or nothing',
  requestSummary: 'use a text',
}
/** A second request on a connection, and interim responses, are none that the in-process origin has. */
const ELSEWHERE: ReadonlySet<Hook> = new Set(['onConnectionReuse', 'interimResponseFilter'])

/** Where the name of that hook stands: no line within it is to blame. */
const PLACE = 'app.ts:3:3 '

/** An application with one hook of which line 3 has the body, as far as a request comes to it. */
function withHook(hook: Hook, body: string): string {
  const origin = hook === 'failToConnect' ? 'unix:/no/such/origin' : '127.0.0.1:1'
  const others = [
    ...hook === 'upstreamPeer' ? [] : [`upstreamPeer: () => new HttpPeer('${origin}')`],
    ...OF_FAULTS.has(hook) ? [`responseFilter() { throw new Error('the first one') }`] : [],
    ...hook === 'bodyUse' ? ['requestBodyFilter: (session, chunk) => chunk'] : [],
  ]
  return `export default {\n  ${hook}() { ${body} },\n  ${others.join(',\n  ')}\n}`
}

async function asked(t: TestContext, app: string, dials = false): Promise<{ said: string; log: readonly string[] }> {
  return new WrongFolder(temporaryFolder(t)).ask({ app }, dials ? null : () => {
    return { status: 200, headers: { trailer: 'sum' }, body: 'ok', trailers: { sum: '2' } }
  })
}

/** The client is told the status, the test the fault, and the operator the same in one line. */
async function isTold(t: TestContext, hook: Hook, body: string, place: string, fault: string): Promise<void> {
  const { said, log } = await asked(t, withHook(hook, body), hook === 'failToConnect')
  const told = `${place}${fault}`
  assert.ok(said.startsWith(`${STATUS[hook] ?? '500'} `), `${hook}: ${said}`)
  assert.ok(said.includes(told), `${hook}: ${said}`)
  const bare = fault.replace(`HOOK_FAILED (internal): ${hook}: `, '')
  const aside = `${hook} failed; the request was not touched by that: ${place}${bare}`
  const inLog = log.filter(line => line === aside || line.endsWith(`: ${told}`))
  assert.equal(inLog.length, 1, `${hook}: ${log.join('\n')}`)
}

test('wrong hooks: a throw in any hook is told with its place', async t => {
  for (const hook of HOOKS) {
    if (ELSEWHERE.has(hook)) continue
    const place = `app.ts:3:${hook.length + 14} `
    await isTold(t, hook, `throw new Error('broken')`, place, `HOOK_FAILED (internal): ${hook}: broken`)
  }
})

test('wrong hooks: a result that would not do is told with what would', async t => {
  for (const [hook, remedy] of Object.entries(WRONG_RESULTS) as [Hook, string][]) {
    await isTold(t, hook, 'return 42', PLACE, `HOOK_FAILED (internal): ${hook}: it returned 42; ${remedy}`)
  }
})

test('wrong hooks: a promise that never settles is named by the time it had, or where none may be', async t => {
  for (const hook of HOOKS) {
    // Nobody waits for it.
    if (ELSEWHERE.has(hook) || hook === 'logging') continue
    const fault = AT_ONCE.has(hook) ? `HOOK_FAILED (internal): ${hook}: it returned a promise; its result is needed at once`
      : `HOOK_TIMEOUT (internal): ${hook} gave no result within 20 ms`
    await isTold(t, hook, 'return new Promise(() => {})', PLACE, fault)
  }
})

test('wrong hooks: a self-test that fails, or waits, because of a hook leads to it', async t => {
  const rows = [
    ['return 42', 30_000, /^GET \/ answered 500, .*requestFilter: it returned 42/],
    ['throw new Error("no")', 30_000, /answered 500, .*requestFilter: no$/],
    ['return new Promise(() => {})', 1000, /^GET \/ was not answered within 1000 ms; it waits for requestFilter$/],
  ] as const
  for (const [body, timeoutMs, detail] of rows) {
    const folder = new WrongFolder(temporaryFolder(t))
    const app = `${withHook('requestFilter', body).replace('export default', 'const app =')}
const server = new Server().selfTest({ timeoutMs: ${timeoutMs} })
server.addService(httpProxyService(app).addTcp('127.0.0.1:0'))
await server.runForever()`
    const server = await folder.load({ app })
    assert.ok(typeof server !== 'string', String(server))
    await server.prepare()
    const outcome = await server.runSelfTest()
    server.close()
    assert.match(outcome.detail, detail)
    const place = placeIn(outcome.stack ?? '')
    assert.deepEqual([path.relative(folder.folder, place?.file ?? ''), place?.line], ['app.ts', 3], outcome.detail)
  }
})

const PEER = `upstreamPeer: () => new HttpPeer('127.0.0.1:1')`
const REQUESTS: Readonly<Record<string, readonly [app: string, says: string]>> = {
  'an answer that is not returned': [
    `export default { requestFilter(session) { session.respond(403) }, ${PEER} }`,
    '500 app.ts:2:18 requestFilter: it returned undefined; return what session.respond() returned',
  ],
  'an answer, and then continue': [
    `export default { requestFilter(session) { session.respond(403); return 'continue' }, ${PEER} }`,
    `500 app.ts:2:18 requestFilter: it called session.respond() and then said 'continue'; return what that returned`,
  ],
  'no answer, though it says so': [
    `export default { requestFilter: () => 'responded', ${PEER} }`,
    `500 app.ts:2:18 requestFilter: it said 'responded' without session.respond(); return what that returns, or 'continue'`,
  ],
  'two answers': [
    `export default { requestFilter(session) { session.respond(403); return session.respond(404) }, ${PEER} }`,
    '500 app.ts:2:80 requestFilter: respond: there is an answer already; call it once, and return what it returns',
  ],
  'a status that there is not': [
    `export default { requestFilter: session => session.respond(1000), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: status is 1000; use a whole number from 100 to 999',
  ],
  'a status that is text': [
    `export default { requestFilter: session => session.respond('403'), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: status is "403"; use a whole number from 100 to 999',
  ],
  'an interim status': [
    `export default { requestFilter: session => session.respond(100), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: status 100 is not that of a final response',
  ],
  'a body that is a number': [
    `export default { requestFilter: session => session.respond(200, {}, 5), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: a body of an answer is text, bytes, an async iterable of them, or null',
  ],
  'a body that is an object': [
    `export default { requestFilter: session => session.respond(200, {}, { a: 1 }), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: a body of an answer is text, bytes, an async iterable of them, or null',
  ],
  'a field with a line break': [
    `export default { requestFilter: session => session.respond(200, { location: '/a\\nb' }), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: field location: value has a control character (U+000a) at 2',
  ],
  'a field with a blank in its name': [
    `export default { requestFilter: session => session.respond(200, { 'a b': '1' }), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: field name "a b" is not a token',
  ],
  'a field that is a number': [
    `export default { requestFilter: session => session.respond(200, { age: 5 }), ${PEER} }`,
    '500 app.ts:2:52 requestFilter: field age: value is number; use a string',
  ],
  'a field that is undefined': [
    `export default { upstreamRequestFilter(session, request) { request.headers.set('x-user', undefined) }, ${PEER} }`,
    '500 app.ts:2:76 upstreamRequestFilter: field x-user: value is undefined; use a string',
  ],
  'an answer when it is over': [
    `export default { logging: session => { session.respond(200) }, ${PEER} }`,
    '200 app.ts:2:48 logging: respond: the exchange is over; answer in an earlier hook, or in failToProxy',
  ],
  'an answer behind the head of another': [
    `export default { responseBodyFilter: session => session.respond(200), ${PEER} }`,
    'cut app.ts:2:57 responseBodyFilter: respond: the head of a response was sent; throw an error to cut it off',
  ],
  'a peer that is text': [
    `export default { upstreamPeer: () => '127.0.0.1:1' }`,
    `500 app.ts:2:18 upstreamPeer: it returned "127.0.0.1:1"; use a peer, such as new HttpPeer('127.0.0.1:8080')`,
  ],
  'a peer that is a backend': [
    `const backends = LoadBalancer.from(['127.0.0.1:1'])\nexport default { upstreamPeer: () => backends.select() }`,
    `500 app.ts:3:18 upstreamPeer: it returned a value of type object; use a peer, such as new HttpPeer('127.0.0.1:8080')`,
  ],
  'a peer that is not returned': [
    `export default { upstreamPeer() { new HttpPeer('127.0.0.1:1') } }`,
    `500 app.ts:2:18 upstreamPeer: it returned undefined; use a peer, such as new HttpPeer('127.0.0.1:8080')`,
  ],
  'a peer with a bad address': [
    `export default { upstreamPeer: session => new HttpPeer(session.request.path) }`,
    '500 app.ts:2:43 upstreamPeer: address "/" has no port; use host:port, [v6]:port or unix:/path',
  ],
  'a piece of a body that is text': [
    `export default { responseBodyFilter: (session, chunk) => chunk.toString().toUpperCase(), ${PEER} }`,
    'cut app.ts:2:18 responseBodyFilter: it returned "OK"; use a Buffer, null or { chunk, delayMs }',
  ],
  'a delay by another name': [
    `export default { responseBodyFilter: (session, chunk) => ({ chunk, delay: 5 }), ${PEER} }`,
    'cut app.ts:2:18 responseBodyFilter: it returned the delayMs undefined; use a number from 0 to 2147483647',
  ],
  'an unknown limit of a request': [
    `export default { earlyRequestFilter(session) { session.setLimits({ maxBody: 5 }) }, ${PEER} }`,
    '500 app.ts:2:56 earlyRequestFilter: limits.maxBody is not an option; leave it out',
  ],
  'a property that there is not': [
    `export default { requestFilter: session => session.headers.get('host') === 'x' ? session.respond(404) : 'continue', ${PEER} }`,
    `500 app.ts:2:60 requestFilter: Cannot read properties of undefined (reading 'get')`,
  ],
  'a verdict with a typo': [
    `export default { requestFilter: () => 'contniue', ${PEER} }`,
    `500 app.ts:2:18 requestFilter: it returned "contniue"; use 'continue' or 'responded'`,
  ],
  'a retry where there is none': [
    `export default { responseFilter: () => 'retry', ${PEER} }`,
    `500 app.ts:2:18 responseFilter: it returned 'retry', which upstreamResponseFilter of the application may; throw an error`,
  ],
  'a throw of what is no error': [
    `export default { requestFilter() { throw 'broken' }, ${PEER} }`,
    '500 app.ts:2:18 requestFilter: broken',
  ],
  'a balancer whose background service was forgotten': [
    `import { functionDiscovery } from 'cirque'\nconst backends = new LoadBalancer(functionDiscovery(() => ['127.0.0.1:1']))\n` +
      `export default { upstreamPeer: () => new HttpPeer(backends.select()) }`,
    '503 app.ts:4:60 NO_HEALTHY_BACKEND (upstream): upstream has no backends yet: add its asBackgroundService() to the server, ' +
      'or await its update()',
  ],
}

test('wrong hooks: what else only a request shows', async t => {
  for (const [title, [app, says]] of Object.entries(REQUESTS)) {
    const { said, log } = await asked(t, app)
    assert.equal(said.replace('HOOK_FAILED (internal): ', ''), says, title)
    assert.equal(log.length, 1, title)
  }
})
