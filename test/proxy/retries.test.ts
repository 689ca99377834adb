/** What a hook may have sent again, and what not, whatever it says. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const request = (method: string): string => `${method} / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc`
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const BUSY = 'HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy'

const always: NonNullable<ProxyHttp<undefined>['errorWhileProxy']> = (_session, _peer, error) => { error.retry = 'always' }
const another: typeof always = () => new ProxyError('CONNECTION_RESET', 'upstream', 'of the application', { retry: 'always' })

/** As often as the first attempts fail. */
async function failing(bench: ExchangeBench, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    bench.origins.at(-1)!.stream.destroy(true)
    await bench.settle()
    bench.clock.advance(1000)
    await bench.settle()
  }
}

for (const errorWhileProxy of [always, another]) {
  test(`retries: what must not happen twice is sent once, whatever errorWhileProxy says (${errorWhileProxy.name})`, async () => {
    for (const method of ['POST', 'PATCH', 'PURGE']) {
      const bench = new ExchangeBench({ errorWhileProxy })
      await bench.send(request(method))
      await failing(bench, 1)
      assert.deepEqual([bench.origins.length, bench.lines[0]!.status], [1, 502])
      bench.close()
    }
    for (const method of ['PUT', 'DELETE', 'GET']) {
      const bench = new ExchangeBench({ errorWhileProxy })
      await bench.send(request(method))
      await failing(bench, 2)
      assert.equal(bench.origins.length, 3)
      await bench.answer(OK)
      assert.match(bench.client.text, /\r\nok$/)
      bench.close()
    }
  })
}

test('retries: the method that counts is the one that was sent', async () => {
  const bench = new ExchangeBench({ errorWhileProxy: always, upstreamRequestFilter: (_session, head) => { head.method = 'POST' } })
  await bench.send(request('PUT'))
  await failing(bench, 1)
  assert.deepEqual([bench.origins.length, bench.lines[0]!.status], [1, 502])
  bench.close()
})

test('retries: before anything was sent any method may go elsewhere', async () => {
  for (const hook of ['connectedToUpstream', 'upstreamRequestFilter'] as const) {
    let calls = 0
    const bench = new ExchangeBench({
      [hook]() { if (++calls === 1) throw new ProxyError('STATUS', 'upstream', 'not this one', { retry: 'always' }) },
    })
    await bench.send(request('POST'))
    await bench.answer(OK)
    assert.deepEqual([calls, bench.lines[0]!.status, bench.lines[0]!.attempts], [2, 200, 2])
    bench.close()
  }
})

for (const hook of ['upstreamResponseFilter', 'responseFilter'] as const) {
  test(`retries: ${hook} may have an answer that it does not want asked for again`, async () => {
    const tried: number[] = []
    const bench = new ExchangeBench({
      upstreamRequestFilter: session => { tried.push(session.triedPeers.length) },
      async [hook](_session: unknown, head: { readonly status: number }) {
        await Promise.resolve()
        if (head.status === 503) throw new ProxyError('STATUS', 'upstream', 'busy', { status: 503, retry: 'always' })
      },
    })
    await bench.send(request('PUT'))
    await bench.answer(BUSY)
    await bench.answer(OK)
    assert.match(bench.client.text, /^HTTP\/1\.1 200 [^]*\r\nok$/)
    assert.deepEqual([bench.lines[0]!.attempts, tried], [2, [0, 1]])
    bench.close()
    const once = new ExchangeBench({ [hook]() { throw new ProxyError('STATUS', 'upstream', 'busy', { status: 503, retry: 'always' }) } })
    await once.send(request('POST'))
    await once.answer(BUSY)
    assert.deepEqual([once.origins.length, once.lines[0]!.status, once.lines[0]!.up_status], [1, 503, 503])
    once.close()
  })
}
