/** `upstreamRequestFilter` of modules: the request of one attempt, behind the application's own filter. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpModule } from '../../src/modules/http-module.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { ExchangeBench } from '../support/exchange-bench.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\nX-Client: kept\r\n\r\n'
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

const traceparent: HttpModule<{ spans: number }> = {
  name: 'traceparent',
  newState: () => ({ spans: 0 }),
  upstreamRequestFilter(session, request, attempt, state) {
    assert.equal(session.attempts, attempt)
    request.headers.set('Traceparent', `span-${++state.spans}-attempt-${attempt}`)
  },
}

/** A reset origin is tried again, whatever was sent. */
const retrying: Partial<ProxyHttp<undefined>> = { errorWhileProxy: (_session, _peer, error) => { error.retry = 'always' } }

test('module upstreamRequestFilter: each attempt is sent its own field, and the client\'s request stays as it is', async () => {
  const heads: (string | undefined)[] = []
  const bench = new ExchangeBench({
    ...retrying, modules: [traceparent],
    responseFilter: session => { heads.push(session.request.headers.get('traceparent'), session.request.headers.get('x-client')) },
  })
  await bench.send(GET)
  assert.equal(bench.field('traceparent'), 'span-1-attempt-1')
  bench.origins[0]!.stream.destroy(true)
  await bench.settle()
  assert.equal(bench.origins.length, 2)
  assert.equal(bench.field('traceparent'), 'span-2-attempt-2')
  assert.equal(bench.field('x-client'), 'kept')
  await bench.answer(OK)
  assert.match(bench.client.text, /^HTTP\/1\.1 200 /)
  assert.deepEqual(heads, [undefined, 'kept'])
  assert.deepEqual(bench.told.attempts.map(({ attempt, retried }) => [attempt, retried]), [[1, true], [2, false]])
  bench.close()
})

test('module upstreamRequestFilter: it runs behind the application\'s, larger order first, and sees what they did', async () => {
  const seen: string[] = []
  const module = (name: string, order: number): HttpModule => ({
    name, order,
    upstreamRequestFilter: (_session, request) => {
      seen.push(`${name} ${request.target}`)
      request.target += `/${name}`
    },
  })
  const bench = new ExchangeBench({
    upstreamRequestFilter: (_session, request) => { request.target = '/app' },
    modules: [module('late', 1), module('early', 2)],
  })
  await bench.send(GET)
  assert.deepEqual(seen, ['early /app', 'late /app/early'])
  assert.match(bench.origins[0]!.text, /^GET \/app\/early\/late HTTP/)
  bench.close()
})

test('module upstreamRequestFilter: the request waits for a promise, and nothing of it is sent before', async () => {
  const wait = Promise.withResolvers<void>()
  const slow: HttpModule = {
    name: 'slow',
    async upstreamRequestFilter(_session, request) {
      await wait.promise
      request.headers.set('X-Late', 'yes')
    },
  }
  const bench = new ExchangeBench({ modules: [slow, traceparent as HttpModule] })
  await bench.send(GET)
  assert.deepEqual([bench.origins.length, bench.origins[0]!.text], [1, ''])
  wait.resolve()
  await bench.settle()
  assert.deepEqual([bench.field('x-late'), bench.field('traceparent')], ['yes', 'span-1-attempt-1'])
  bench.close()
})

test('module upstreamRequestFilter: one that throws or rejects fails the request, and the origin is sent nothing', async () => {
  for (const fail of [() => { throw new Error('planned') }, () => Promise.reject(new Error('planned'))]) {
    const bench = new ExchangeBench({ modules: [{ name: 'broken', upstreamRequestFilter: fail }] })
    await bench.send(GET)
    assert.match(bench.client.text, /^HTTP\/1\.1 500 /)
    assert.equal(bench.origins[0]!.text, '')
    assert.deepEqual(bench.told.ended.map(({ status, flag, error }) => [status, flag, error!.kind]), [[500, 'FE', 'HOOK_FAILED']])
    bench.close()
  }
})

test('module upstreamRequestFilter: a field that cannot be written fails the request, also in a promise', async () => {
  const broken: HttpModule = {
    name: 'broken',
    async upstreamRequestFilter(_session, request) {
      await Promise.resolve()
      request.target = '/a b'
    },
  }
  const bench = new ExchangeBench({ modules: [broken] })
  await bench.send(GET)
  assert.match(bench.client.text, /^HTTP\/1\.1 500 /)
  assert.equal(bench.origins[0]!.text, '')
  bench.close()
})
