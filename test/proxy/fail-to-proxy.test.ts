import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FLAGS } from '../../src/errors/access-flags.ts'
import { ERROR_KINDS, ProxyError, type ErrorKind, type ErrorSource } from '../../src/errors/proxy-error.ts'
import { errorPage, flagOf, statusOf } from '../../src/proxy/fail-to-proxy.ts'

const SOURCES = ['downstream', 'upstream', 'internal'] as const
const error = (kind: ErrorKind, source: ErrorSource, status = 0): ProxyError => new ProxyError(kind, source, 'test', { status })

test('fail to proxy: every kind from every side has a status that can be sent, or none, and a flag that is listed', () => {
  for (const kind of ERROR_KINDS) {
    for (const source of SOURCES) {
      const status = statusOf(error(kind, source)), flag = flagOf(error(kind, source))
      assert.ok(status === 0 || status >= 400 && status <= 599, `${kind} of ${source}: ${status}`)
      assert.ok(Object.hasOwn(FLAGS, flag) && flag !== '-', `${kind} of ${source}: ${flag}`)
    }
  }
})

test('fail to proxy: the status of the error wins over that of its kind', () => {
  assert.equal(statusOf(error('BODY_TOO_LARGE', 'downstream', 413)), 413)
  assert.equal(statusOf(error('CLIENT_GONE', 'downstream', 499)), 499)
})

for (const [kind, source, status, flag] of [
  ['CLIENT_GONE', 'downstream', 0, 'DC'], ['SLOW_READER', 'downstream', 0, 'DT'], ['BAD_FRAMING', 'downstream', 400, 'PE'],
  ['CONNECT_REFUSED', 'upstream', 502, 'UC'], ['CONNECT_TIMEOUT', 'upstream', 504, 'UT'], ['FIRST_BYTE_TIMEOUT', 'upstream', 504, 'UT'],
  ['CLOSED_EARLY', 'upstream', 502, 'UR'], ['BAD_FRAMING', 'upstream', 502, 'UP'], ['NO_HEALTHY_BACKEND', 'upstream', 503, 'NH'],
  ['POOL_QUEUE_FULL', 'upstream', 503, 'OL'], ['OVERLOADED', 'internal', 503, 'OL'], ['DRAINING', 'internal', 503, 'DR'],
  ['LOCAL_EXHAUSTED', 'internal', 503, 'OL'], ['BIND_FAILED', 'internal', 503, 'UC'], ['RESOLVE_FAILED', 'internal', 503, 'FE'],
  ['LOOP_DETECTED', 'downstream', 508, 'PE'], ['HOOK_FAILED', 'internal', 500, 'FE'],
] as const) {
  test(`fail to proxy: ${kind} of ${source} is ${status} with flag ${flag}`, () => {
    assert.deepEqual([statusOf(error(kind, source)), flagOf(error(kind, source))], [status, flag])
  })
}

test('fail to proxy: a filter that throws a status says by it what kind of refusal that is', () => {
  const flags = [404, 429, 403, 503].map(status => flagOf(error('STATUS', 'internal', status)))
  assert.deepEqual(flags, ['NR', 'RL', 'FD', 'FD'])
})

test('fail to proxy: every flag is one that something has', () => {
  const given = new Set<string>(['-', 'RX'])
  for (const kind of ERROR_KINDS) {
    for (const source of SOURCES) for (const status of [0, 404, 429]) given.add(flagOf(error(kind, source, status)))
  }
  assert.deepEqual([...given].toSorted(), Object.keys(FLAGS).toSorted())
})

test('fail to proxy: the default page names the status and the request, is not cached, and says what would do', () => {
  const { head, body } = errorPage(502, 'abc')
  assert.equal(head.status, 502)
  assert.match(body, /^502 Bad Gateway\n.*abc\n$/s)
  assert.match(head.headers.get('cache-control')!, /no-store/)
  assert.equal(head.headers.get('content-type'), 'text/plain; charset=utf-8')
  assert.equal(errorPage(502, '').body.includes('request'), false)
  assert.ok(errorPage(405, '').head.headers.get('allow')!.includes('GET'))
})
