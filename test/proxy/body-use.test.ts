/** Filters say of each message what they do to its body: what is left alone keeps its length, and passes as if they were not there. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { BodyStage, type StageFilter, type ChunkFilter } from '../../src/proxy/body-stage.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { BodyUse, Session } from '../../src/proxy/session.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

type Hooks = Partial<ProxyHttp<undefined>>

const request = (method: string): string => `${method} / HTTP/1.1\r\nHost: a.example\r\n\r\n`
const upload = 'PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello'
const answer = (type: string, body = 'hello'): string =>
  `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
const MOVED = 'HTTP/1.1 301 Moved\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n'

const upper = (_session: unknown, chunk: Buffer): Buffer => Buffer.from(chunk.toString().toUpperCase())
const isText = ({ response }: Session): boolean => response!.headers.get('content-type') === 'text/html'

/** Makes text longer, and leaves everything else alone. */
const louder: HttpModule = {
  name: 'louder', bodyUse: session => isText(session) ? 'change' : 'pass',
  responseBodyFilter: (_session, chunk, last) => last ? Buffer.from('!') : upper(null, chunk),
}

async function exchange(hooks: Hooks, sends: string, answers: string): Promise<{ client: string; origin: string; bench: ExchangeBench }> {
  const bench = new ExchangeBench(hooks)
  await bench.send(sends)
  if (bench.origins.length > 0) await bench.answer(answers)
  bench.close()
  return { client: bench.client.text, origin: bench.origins[0]?.text ?? '', bench }
}

for (const [what, hooks] of [
  ['a module', { modules: [{ name: 'any', responseBodyFilter: upper }] }],
  ['the application', { responseBodyFilter: upper, upstreamResponseBodyFilter: upper }],
  ['a filter of trailers', { responseTrailerFilter() { /* It adds nothing. */ } }],
] as const) {
  test(`body use: with a body filter of ${what} an empty redirect has its Content-Length of 0`, async () => {
    for (const later of [false, true]) {
      const waits: Hooks = later ? { async responseFilter() { await Promise.resolve() } } : {}
      const { client } = await exchange({ ...hooks, ...waits }, request('GET'), MOVED)
      assert.match(client, /^HTTP\/1\.1 301 [^]*\r\nContent-Length: 0\r\n/)
      assert.doesNotMatch(client, /Transfer-Encoding/)
    }
  })
}

test('body use: an answer that a module leaves alone keeps its length and its bytes; another one is filtered', async () => {
  for (const later of [false, true]) {
    const hooks: Hooks = { modules: [louder], ...later ? { async responseFilter() { await Promise.resolve() } } : {} }
    const image = await exchange(hooks, request('GET'), answer('image/png'))
    assert.match(image.client, /\r\nContent-Length: 5\r\n[^]*\r\nhello$/)
    const page = await exchange(hooks, request('GET'), answer('text/html'))
    assert.match(page.client, /\r\nTransfer-Encoding: chunked\r\n/)
    assert.match(page.client, /\r\n5\r\nHELLO\r\n1\r\n!\r\n0\r\n\r\n$/)
  }
})

test('body use: one filter that changes a length is enough, and one that keeps it is called', async () => {
  const keeping: HttpModule = { name: 'keeping', responseBodyFilter: upper, bodyUse: () => 'keepLength' }
  const { client } = await exchange({ modules: [keeping, louder] }, request('GET'), answer('image/png'))
  assert.match(client, /\r\nContent-Length: 5\r\n[^]*\r\nHELLO$/)
  const both = await exchange({ modules: [keeping, louder] }, request('GET'), answer('text/html'))
  assert.match(both.client, /\r\nTransfer-Encoding: chunked\r\n/)
})

test('body use: HEAD promises the length that GET has', async () => {
  const head = (text: string): string => text.slice(0, text.indexOf('\r\n\r\n') + 4)
  for (const [type, length] of [['image/png', '5'], ['text/html', undefined]] as const) {
    const { client } = await exchange({ modules: [louder] }, request('HEAD'), head(answer(type)))
    assert.equal(/Content-Length: (\d+)/.exec(client)?.[1], length, type)
  }
  const { client } = await exchange({ modules: [{ name: 'any', responseBodyFilter: upper }] }, request('HEAD'), MOVED)
  assert.match(client, /\r\nContent-Length: 0\r\n/)
})

test('body use: answers of our own are asked about as those of an origin', async () => {
  for (const [type, wanted] of [
    ['text/html', /\r\n2\r\nOK\r\n1\r\n!\r\n0\r\n\r\n$/], ['image/png', /\r\nContent-Length: 2\r\n[^]*\r\nok$/],
  ] as const) {
    const { client } = await exchange({
      modules: [louder], requestFilter: session => session.respond(200, { 'Content-Type': type }, 'ok'),
    }, request('GET'), '')
    assert.match(client, wanted)
  }
})

test('body use: a request that its filter leaves alone reaches the origin with its length', async () => {
  for (const [use, wanted] of [
    ['pass', /\r\nContent-Length: 5\r\n[^]*\r\nhello$/], ['keepLength', /\r\nContent-Length: 5\r\n[^]*\r\nHELLO$/],
    ['change', /\r\nTransfer-Encoding: chunked\r\n[^]*\r\n5\r\nHELLO\r\n0\r\n\r\n$/],
  ] as const) {
    const { origin } = await exchange({ bodyUse: () => use, requestBodyFilter: upper }, upload, answer('text/html'))
    assert.match(origin, wanted)
  }
})

test('body use: a length that a filter promised to keep, and did not, cuts the answer', async () => {
  const { bench } = await exchange({
    bodyUse: () => 'keepLength', responseBodyFilter: (_session, chunk) => chunk.subarray(1),
  }, request('GET'), answer('text/html'))
  assert.equal(bench.client.closed, true)
  assert.doesNotMatch(bench.client.text, /hello/)
})

test('body use: each hook of the application is asked for by its name, once a message and attempt', async () => {
  const asked: string[] = []
  await exchange({
    bodyUse: (_session, filter) => { asked.push(filter) },
    requestBodyFilter: upper, upstreamResponseBodyFilter: upper, responseBodyFilter: upper, responseTrailerFilter() {},
  }, upload, answer('text/html'))
  assert.deepEqual(asked, ['requestBodyFilter', 'upstreamResponseBodyFilter', 'responseBodyFilter', 'responseTrailerFilter'])
})

test('body use: what throws, or answers with no word, fails its exchange with a sentence, and the page is sent', async () => {
  const told: string[] = []
  const cases: [bodyUse: () => unknown, wanted: string][] = [
    [() => { throw new Error('planned') }, 'planned'],
    [() => 'skip', `it returned "skip"; use 'change', 'keepLength' or 'pass'`],
    [() => Promise.reject(new Error('late')), 'it returned a promise; its result is needed at once'],
  ]
  for (const [bodyUse, wanted] of cases) {
    const use = bodyUse as () => BodyUse, logging: Hooks['logging'] = (_session, error) => { told.push(error!.message) }
    for (const [hook, hooks] of [
      ['bodyUse', { bodyUse: use, responseBodyFilter: upper }],
      ['bodyUse of module m', { modules: [{ name: 'm', bodyUse: use, responseBodyFilter: upper }] }],
      ['bodyUse', { bodyUse: use, requestBodyFilter: upper }],
    ] as const) {
      const { client } = await exchange({ ...hooks, logging }, upload, answer('text/html'))
      assert.match(client, /^HTTP\/1\.1 500 [^]*\r\nContent-Length: /)
      assert.equal(told.pop(), `HOOK_FAILED (internal): ${hook}: ${wanted}`)
    }
  }
})

test('body use: whatever filters say, those that take part are called in their order, and the length is kept if all keep it', () => {
  const word = fc.constantFrom<(BodyUse | undefined)[]>('change', 'keepLength', 'pass', undefined)
  const filters = fc.array(fc.record({ asked: fc.boolean(), keepsLength: fc.boolean() }), { minLength: 1, maxLength: 8 })
  fc.assert(fc.property(filters, fc.array(fc.array(word, { minLength: 8, maxLength: 8 }), { maxLength: 100 }), (given, messages) => {
    let says: readonly (BodyUse | undefined)[] = []
    const stage = new BodyStage<null>(given.map(({ asked, keepsLength }, at): StageFilter<null, ChunkFilter<null>> => ({
      filter: (_subject, chunk) => chunk, hook: String(at), keepsLength, use: asked ? () => says[at] : null, useHook: '',
    })), [])
    for (const words of messages) {
      says = words
      const uses = given.map(({ asked, keepsLength }, at) => (asked ? words[at] : undefined) ?? (keepsLength ? 'keepLength' : 'change'))
      const wanted = uses.flatMap((use, at) => use === 'pass' ? [] : [String(at)])
      const found = stage.for(null, false)
      assert.deepEqual(found === null ? [] : found.hooks, wanted)
      if (found !== null) assert.equal(found.keepsLength, !uses.includes('change'))
      assert.equal(stage.for(null, true), null)
      // The same answers have the same stage, as long as there are not too many of them.
      if (messages.length < 30) assert.equal(stage.for(null, false), found)
    }
  }))
})
