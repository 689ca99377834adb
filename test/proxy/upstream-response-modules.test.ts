/** Modules that look at an origin's answer before the application does, and how it adjusts them for it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpModule } from '../../src/modules/http-module.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n'
const answer = (type: string): string => `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: 2\r\n\r\nok`

/** Makes capitals of a body, where it is told to. */
const capitals: HttpModule<{ on: boolean }> = {
  name: 'capitals',
  newState: () => ({ on: false }),
  upstreamResponseFilter(_session, response, { on }) { if (on) response.headers.set('X-Capitals', '1') },
  upstreamResponseBodyFilter: (_session, chunk, _last, { on }) => on ? Buffer.from(chunk.toString().toUpperCase()) : chunk,
}

test('upstream response modules: the application adjusts them for each response, then they see it, then the application', async () => {
  const seen: string[] = []
  const later: HttpModule = {
    name: 'later', order: -1,
    async upstreamResponseFilter() {
      await Promise.resolve()
      seen.push('later')
    },
  }
  for (const [type, body] of [['text/plain', 'OK!'], ['image/png', 'ok!']] as const) {
    seen.length = 0
    const bench = new ExchangeBench({
      modules: [later, capitals as HttpModule],
      async adjustUpstreamModules(session, response) {
        await Promise.resolve()
        seen.push('adjust')
        session.moduleState(capitals).on = response.headers.get('content-type') === 'text/plain'
      },
      upstreamResponseFilter(_session, response) { seen.push(`filter ${response.headers.get('x-capitals') ?? ''}`) },
      upstreamResponseBodyFilter: (_session, chunk, last) => last ? Buffer.from('!') : chunk,
    })
    await bench.send(GET)
    await bench.answer(answer(type))
    assert.deepEqual(seen, ['adjust', 'later', `filter ${type === 'text/plain' ? '1' : ''}`])
    assert.equal(/\r\n\r\n([^]*)$/.exec(bench.client.text)![1]!.replaceAll(/[\r\n]|[0-9a-f]+(?=\r\n)/g, ''), body)
    bench.close()
  }
})

test('upstream response modules: an answer of our own passes none of them, and is not adjusted for', async () => {
  const never = (): never => { throw new Error('planned') }
  const bench = new ExchangeBench({
    requestFilter: session => session.respond(200, {}, 'own'), adjustUpstreamModules: never,
    modules: [{ name: 'm', upstreamResponseFilter: never, upstreamResponseBodyFilter: never }],
  })
  await bench.send(GET)
  assert.match(bench.client.text, /^HTTP\/1\.1 200 [^]*\r\n\r\nown$/)
  bench.close()
})

test('upstream response modules: a fault names the hook and the module, and neither of them answers', async () => {
  const respond: NonNullable<ProxyHttp<undefined>['adjustUpstreamModules']> = session => { session.respond(403) }
  const CASES: readonly (readonly [string, Partial<ProxyHttp<undefined>>])[] = [
    ['adjustUpstreamModules', { adjustUpstreamModules: respond }],
    ['upstreamResponseFilter of module m', { modules: [{ name: 'm', upstreamResponseFilter: session => { session.respond(403) } }] }],
  ]
  for (const [hook, hooks] of CASES) {
    const bench = new ExchangeBench(hooks)
    await bench.send(GET)
    await bench.answer(answer('text/plain'))
    assert.match(bench.client.text, /^HTTP\/1\.1 500 /)
    const { message } = bench.told.ended[0]!.error!
    assert.ok(message.startsWith(`HOOK_FAILED (internal): ${hook}: respond: adjustUpstreamModules, `), message)
    assert.match(message, /; answer in upstreamResponseFilter of the application, /)
    bench.close()
  }
})
