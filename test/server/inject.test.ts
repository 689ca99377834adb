import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HeaderMap } from '../../src/http/header-map.ts'
import { SILENT_LOG, type ProcessLog } from '../../src/ipc/process-log.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { inject, type InjectOrigin } from '../../src/server/inject.ts'

const peer = new HttpPeer('10.0.0.1:80')
const app: ProxyHttp<undefined> = { newCtx: () => undefined, upstreamPeer: () => peer, suppressErrorLog: () => true }

test('inject: a request goes through the phases to a function that stands in for the origin', async () => {
  const seen: string[] = []
  const origin: InjectOrigin = ({ head, body, peer }) => {
    seen.push(`${head.method} ${head.target} ${head.headers.get('x-added')} ${body.toString()} ${peer.name}`)
    return { status: 201, headers: { 'X-Origin': 'yes' }, body: 'made' }
  }
  const filtered: ProxyHttp<undefined> = { ...app, upstreamRequestFilter: (_session, head) => { head.headers.set('X-Added', '1') } }
  const response = await inject(filtered, { method: 'POST', target: '/a?b', body: 'text' }, { origin })
  assert.deepEqual(seen, ['POST /a?b 1 text 10.0.0.1:80'])
  assert.deepEqual([response.status, response.headers.get('x-origin'), response.body.toString()], [201, 'yes', 'made'])
})

test('inject: chunks and trailers arrive as one message, both ways', async () => {
  const origin: InjectOrigin = ({ head, body }) => {
    return { body: `${head.headers.get('transfer-encoding')} ${body.toString()}`, trailers: { 'X-Sum': '7' } }
  }
  const response = await inject(app, { method: 'PUT', chunks: ['a', Buffer.from('b'), 'c'], trailers: { 'X-T': '1' } }, { origin })
  assert.equal(response.body.toString(), 'chunked abc')
  assert.equal(response.trailers?.get('x-sum'), '7')
})

test('inject: interim responses come before the final one', async () => {
  const hinting: ProxyHttp<undefined> = {
    ...app,
    requestFilter(session) {
      session.sendInterim(103, { Link: '</a>' })
      return session.respond(204)
    },
  }
  const response = await inject(hinting)
  assert.deepEqual(response.interim.map(one => [one.status, one.headers.get('link')]), [[103, '</a>']])
  assert.equal(response.status, 204)
})

test('inject: large bodies pass whole', async () => {
  const body = Buffer.alloc(3_000_000, 'x')
  const response = await inject(app, { method: 'POST', body }, { origin: given => ({ body: given.body }) })
  assert.ok(response.body.equals(body))
})

test('inject: an origin that throws breaks its connection, which is answered 502, and what it threw is told', async () => {
  const planned = new Error('planned')
  const response = await inject(app, {}, { origin: () => { throw planned } })
  assert.equal(response.status, 502)
  assert.equal(response.error?.source, 'upstream')
  assert.equal(response.errors[0]!.message, 'CONNECTION_RESET (upstream): the origin given to inject threw: planned')
  assert.equal(response.errors[0]!.cause, planned)
})

test('inject: the limits of the listener hold, and fields that no request may have are refused', async () => {
  const long = await inject(app, { headers: { 'X-Long': 'x'.repeat(2000) } }, { origin: () => ({}), listener: { maxHeadBytes: 1024 } })
  assert.equal(long.status, 431)
  await assert.rejects(inject(app, { headers: { 'X-A': 'a\r\nb' } }, { origin: () => ({}) }), TypeError)
  const origin: InjectOrigin = ({ head }) => ({ body: head.headers.get('x-a')! })
  assert.equal((await inject(app, { headers: HeaderMap.from({ 'X-A': '1' }) }, { origin })).body.toString(), '1')
})

/** The body of request and answer, so that every filter has something to look at. */
const UPLOAD = { method: 'POST', body: 'abc' }
const ANSWER: InjectOrigin = () => ({ body: 'made', trailers: { 'X-Sum': '7' } })

/** What becomes of a request whose hook fails: the status of the answer, or that there is none. */
const FAILING: readonly (readonly [hook: keyof ProxyHttp, becomes: number | 'rejects'])[] = [
  ['newCtx', 500], ['earlyRequestFilter', 500], ['requestFilter', 500], ['proxyUpstreamFilter', 500], ['upstreamPeer', 500],
  ['connectedToUpstream', 500], ['upstreamRequestFilter', 500], ['requestBodyFilter', 500], ['adjustUpstreamModules', 500],
  ['upstreamResponseFilter', 500], ['responseFilter', 500],
  ['upstreamResponseBodyFilter', 'rejects'], ['responseBodyFilter', 'rejects'],
  ['upstreamResponseTrailerFilter', 'rejects'], ['responseTrailerFilter', 'rejects'],
]

for (const [hook, becomes] of FAILING) {
  test(`inject: ${hook} that throws is the error of the request, with what it threw`, async () => {
    const planned = new RangeError('planned')
    const options = { origin: ANSWER, log: SILENT_LOG }
    const answering = inject({ ...app, [hook]() { throw planned } }, UPLOAD, options)
    let error: unknown
    if (becomes === 'rejects') error = await answering.then(() => null, (thrown: unknown) => thrown)
    else {
      const response = await answering
      assert.equal(response.status, becomes)
      assert.deepEqual(response.errors, [response.error])
      error = response.error
    }
    assert.ok(error instanceof ProxyError)
    assert.deepEqual([error.message, error.kind, error.source], [`HOOK_FAILED (internal): ${hook}: planned`, 'HOOK_FAILED', 'internal'])
    assert.equal(error.cause, planned)
  })
}

test('inject: a hook of a module that throws is named with its module', async () => {
  const module: HttpModule = { name: 'm', responseBodyFilter() { throw new Error('planned') } }
  const answering = inject({ ...app, modules: [module] }, {}, { origin: ANSWER, log: SILENT_LOG })
  await assert.rejects(answering, { message: 'HOOK_FAILED (internal): responseBodyFilter of module m: planned' })
})

test('inject: a hook whose failure ends no request is among the errors, and the request has none', async () => {
  for (const hook of ['logging', 'persistConnectionContext'] as const) {
    const response = await inject({ ...app, [hook]() { throw new Error('planned') } }, {}, { origin: ANSWER, log: SILENT_LOG })
    assert.deepEqual([response.status, response.error], [200, null])
    assert.deepEqual(response.errors.map(error => error.message), [`HOOK_FAILED (internal): ${hook}: planned`])
  }
})

test('inject: a fault that the hook for faults adds to is told with both', async () => {
  const failing: ProxyHttp<undefined> = {
    ...app, requestFilter() { throw new Error('first') }, failToProxy() { throw new Error('second') },
  }
  const { status, error, errors } = await inject(failing, {}, { log: SILENT_LOG })
  assert.equal(status, 500)
  assert.equal(error!.message, 'HOOK_FAILED (internal): requestFilter: first')
  assert.deepEqual(errors.map(one => one.message), ['HOOK_FAILED (internal): failToProxy: second', error!.message])
})

test('inject: an attempt that failed and was repeated is among the errors of an answer without one', async () => {
  let asked = 0
  const origin: InjectOrigin = () => {
    if (asked++ === 0) throw new Error('planned')
    return { status: 204 }
  }
  const retrying: ProxyHttp<undefined> = { ...app, errorWhileProxy(_session, _peer, error) { error.retry = 'always' } }
  const { status, error, errors } = await inject(retrying, {}, { origin, log: SILENT_LOG })
  assert.deepEqual([status, error, errors.map(one => one.source)], [204, null, ['upstream', 'upstream']])
})

test('inject: a request that the listener refuses has the reason as its error', async () => {
  const { status, error } = await inject(app, { headers: { 'X-Long': 'x'.repeat(2000) } }, { listener: { maxHeadBytes: 1024 } })
  assert.deepEqual([status, error?.kind, error?.source], [431, 'HEAD_TOO_LARGE', 'downstream'])
})

test('inject: a request that cannot be written is a throw, and leaves no other rejection behind', async t => {
  const unheard: unknown[] = []
  const hear = (thrown: unknown): void => { unheard.push(thrown) }
  process.on('unhandledRejection', hear)
  t.after(() => { process.off('unhandledRejection', hear) })
  for (const request of [{ target: '/a b' }, { method: 'G T' }, { headers: { host: 'a/b' } }, { chunks: [7 as unknown as string] }]) {
    await assert.rejects(inject(app, request), TypeError)
  }
  // They are told of between two turns of the loop.
  await new Promise(resolve => { setImmediate(resolve) })
  assert.deepEqual(unheard, [])
})

test('inject: a connection that the listener turns away is no fault of an origin', async () => {
  const refused = inject(app, {}, { listener: { connectionFilter: () => false } })
  await assert.rejects(refused, { source: 'internal', message: /turned the connection away/ })
  const throwing = inject(app, {}, { listener: { connectionFilter() { throw new Error('planned') } }, log: SILENT_LOG })
  await assert.rejects(throwing, { source: 'internal', message: 'HOOK_FAILED (internal): connectionFilter: planned' })
})

test('inject: a hook that gives nothing is ended with an error that names it, though nothing keeps the process alive', async () => {
  const never: ProxyHttp<undefined> = { ...app, requestFilter: () => new Promise(() => {}) }
  const { status, error } = await inject(never, {}, { service: { hookTimeoutMs: 1 } })
  assert.deepEqual([status, error!.message], [500, 'HOOK_TIMEOUT (internal): requestFilter gave no result within 1 ms'])
  const cut: ProxyHttp<undefined> = { ...app, responseBodyFilter: () => new Promise(() => {}) }
  await assert.rejects(inject(cut, {}, { origin: ANSWER, service: { hookTimeoutMs: 1 } }), {
    message: 'HOOK_TIMEOUT (internal): responseBodyFilter gave no result within 1 ms',
  })
})

test('inject: the log is told what the log of a worker is told, unless the application keeps it out', async () => {
  const lines: string[] = []
  const log: ProcessLog = { info() {}, warn() {}, error: (message, fields) => { lines.push(`${message}: ${String(fields?.['error'])}`) } }
  const failing: ProxyHttp<undefined> = { ...app, requestFilter() { throw new Error('planned') } }
  await inject(failing, {}, { log })
  assert.deepEqual(lines, [])
  await inject({ ...failing, suppressErrorLog: () => false }, {}, { log })
  assert.deepEqual(lines, ['a request failed inside the proxy: HOOK_FAILED (internal): requestFilter: planned'])
})

test('inject: an origin of a peer that speaks HTTP/2 is stood in for as well', async () => {
  const overHttp2: ProxyHttp<undefined> = { ...app, upstreamPeer: () => new HttpPeer('10.0.0.1:50051', { alpn: 'h2' }) }
  const large = 'x'.repeat(500_000)
  let version = ''
  const whole = await inject(overHttp2, { method: 'POST', body: large }, {
    origin({ head, body }) {
      version = head.version
      return { body, trailers: { 'x-bytes': String(body.length) } }
    },
  })
  assert.deepEqual([version, whole.status, String(whole.body) === large], ['2', 200, true])
  const broken = await inject({ ...overHttp2, suppressErrorLog: () => true }, {}, { origin() { throw new Error('planned') } })
  assert.deepEqual([broken.status, broken.error?.kind, broken.errors.length], [502, 'CONNECTION_RESET', 2])
})
