/** What a hook may have sent again, and what not, whatever it says. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
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

/** `times` answers of 503, each from a new origin, as far as they are asked for. */
async function busy(bench: ExchangeBench, times: number): Promise<void> {
  for (let i = 0; i < times && bench.lines.length === 0; i++) {
    await bench.answer(BUSY)
    bench.clock.advance(1000)
    await bench.settle()
  }
}
type ResponseHook = NonNullable<ProxyHttp<undefined>['upstreamResponseFilter']>
const retry503: ResponseHook = (_session, { status }) => status === 503 ? 'retry' : 'continue'

for (const later of [false, true]) {
  test(`retries: 'retry' of upstreamResponseFilter asks the next peer${later ? ', also from a promise' : ''}`, async () => {
    const tried: number[] = [], told: string[] = []
    const bench = new ExchangeBench({
      upstreamResponseFilter: later ? async (...given) => retry503(...given) : retry503,
      upstreamPeer: session => {
        tried.push(session.triedPeers.length)
        const report = (healthy: boolean): void => { told.push(String(healthy)) }, release = (): void => { told.push('released') }
        return new HttpPeer({ peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: 'p', report, release })
      },
    })
    await bench.send(request('PUT'))
    await bench.answer(BUSY)
    assert.equal(bench.client.text, '')
    // A response that was here whole leaves a connection that may be used again; one that was not takes it along.
    assert.equal(bench.origins[0]!.ended || bench.origins[0]!.closed, !later)
    await bench.answer(OK)
    assert.match(bench.client.text, /^HTTP\/1\.1 200 [^]*\r\nok$/)
    assert.doesNotMatch(bench.client.text, /busy/i)
    // Both origins had all of the request.
    assert.equal(bench.origins.map(({ text }) => text).join('').match(/\r\n\r\nabc(?=PUT |$)/g)!.length, 2)
    assert.equal(bench.origins.length, later ? 1 : 2)
    assert.deepEqual([tried, told], [[0, 1], ['released', 'true']])
    const { status, up_status, attempts, flag } = bench.lines[0]!
    assert.deepEqual([status, up_status, attempts, flag], [200, 200, 2, '-'])
    assert.deepEqual(bench.told.attempts.map(({ status: seen, error }) => [seen, error?.kind ?? '']), [[503, 'STATUS'], [200, '']])
    bench.close()
  })
}

test(`retries: where no other answer may be asked for, 'retry' lets the client have this one`, async () => {
  const cases: { readonly what: string; readonly peer?: HttpPeerOptions; readonly sends?: string; readonly attempts: number }[] = [
    { what: 'attempts', peer: { maxAttempts: 2 }, attempts: 2 },
    { what: 'budget', peer: { retryBudgetPercent: 0 }, attempts: 1 },
    { what: 'method', sends: request('POST'), attempts: 1 },
    { what: 'body', peer: { maxReplayBytes: 2 }, attempts: 1 },
  ]
  for (const { what, peer, sends, attempts } of cases) {
    const seen: number[] = []
    const bench = new ExchangeBench({
      upstreamResponseFilter: retry503, responseFilter: (_session, { status }) => { seen.push(status) },
    }, {}, peer)
    await bench.send(sends ?? request('PUT'))
    await busy(bench, 4)
    assert.match(bench.client.text, /^HTTP\/1\.1 503 [^]*\r\nbusy$/, what)
    assert.deepEqual([seen, bench.origins.length, bench.lines[0]!.status, bench.lines[0]!.flag], [[503], attempts, 503, '-'], what)
    // The connection of an answer that was taken goes on.
    assert.deepEqual([bench.origins.at(-1)!.ended, bench.origins.at(-1)!.closed], [false, false], what)
    bench.close()
  }
})

test(`retries: an upload that is still on its way is asked for again only while all of it is kept`, async () => {
  const half = 'PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\n\r\nabc'
  const bench = new ExchangeBench({ upstreamResponseFilter: retry503 })
  await bench.send(half)
  await bench.answer(BUSY)
  await bench.send('def')
  assert.match(bench.origins[1]!.text, /\r\n\r\nabcdef$/)
  await bench.answer(OK)
  assert.match(bench.client.text, /^HTTP\/1\.1 200 /)
  bench.close()
})

test(`retries: when every peer has been asked, the answer is the status that was given up`, async () => {
  const bench = new ExchangeBench({
    upstreamResponseFilter: retry503,
    upstreamPeer: ({ attempts }) => {
      if (attempts > 1) throw new ProxyError('NO_HEALTHY_BACKEND', 'upstream', 'none is left')
      return new HttpPeer({ peerAddress: { kind: 'tcp', host: '10.0.0.1', port: 80 }, name: 'p' })
    },
  })
  await bench.send(request('GET'))
  await bench.answer(BUSY)
  assert.match(bench.client.text, /^HTTP\/1\.1 503 /)
  bench.close()
})

test(`retries: 'retry' in another hook, or behind an answer, is refused with a sentence`, async () => {
  const log: string[] = []
  const retry = (): never => 'retry' as never
  const cases: Partial<ProxyHttp<undefined>>[] = [
    { requestFilter: retry }, { earlyRequestFilter: retry }, { responseFilter: retry },
    { upstreamResponseFilter: session => { session.respond(200); return 'retry' } },
  ]
  for (const hooks of cases) {
    const bench = new ExchangeBench({ ...hooks, logging: (_session, error) => { log.push(error!.message) } })
    await bench.send(request('GET'))
    if (bench.origins.length > 0) await bench.answer(OK)
    bench.close()
  }
  const wrong = `it returned 'retry', which upstreamResponseFilter of the application may; throw an error`
  assert.deepEqual(log, [
    `HOOK_FAILED (internal): requestFilter: ${wrong}`,
    `HOOK_FAILED (internal): earlyRequestFilter: ${wrong}`,
    `HOOK_FAILED (internal): responseFilter: ${wrong}`,
    `HOOK_FAILED (internal): upstreamResponseFilter: it called session.respond() and then said 'retry'; do one of the two`,
  ])
})
