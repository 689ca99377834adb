/** Which requests an operator sees. What comes from whom: conditions from an operator, requests from anybody. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HeaderMap } from '../../src/http/header-map.ts'
import { RequestHead } from '../../src/http/message-head.ts'
import { globMatches, Matcher } from '../../src/telemetry/request-match.ts'

function request(target: string, fields: Readonly<Record<string, string | readonly string[]>> = {}, method = 'GET'): RequestHead {
  return RequestHead.build(method, target, HeaderMap.from({ host: 'Example.com:8080', ...fields }))
}

test('glob: it means what the same expression would mean, for any pattern and text', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*', '.'), maxLength: 12 })
  fc.assert(fc.property(letters, letters.map(text => text.replaceAll('*', 'a')), (pattern, text) => {
    const expression = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '[^]*')}$`)
    assert.equal(globMatches(pattern, text), expression.test(text), `${pattern} on ${text}`)
  }), { numRuns: 2000 })
})

test('glob: a pattern that an expression would go back over for ever is answered in steps that can be counted', () => {
  let looks = 0
  const text = new Proxy(Object('a'.repeat(8000)) as object, {
    get(target, key) {
      looks++
      return Reflect.get(target, key)
    },
  }) as unknown as string
  assert.equal(globMatches('*a*a*a*a*a*a*a*a*b', text), false)
  assert.ok(looks < 20 * 2 * 8000, `${looks} looks`)
})

test('request match: what is not said does not matter', () => {
  const matcher = new Matcher({})
  assert.ok(matcher.asks(request('/x?y')) && matcher.ended(0, 'DC', 0) && matcher.listensOn('edge/:80') && matcher.wantsRefused)
})

test('request match: method, path without query, host with or without port, and fields', () => {
  const one = request('/api/users?x=/static', { 'x-tenant': ['acme-1', 'other'] })
  const yes = (match: ConstructorParameters<typeof Matcher>[0]): boolean => new Matcher(match).asks(one)
  assert.deepEqual([yes({ method: 'GET' }), yes({ method: 'POST' }), yes({ method: 'get' })], [true, false, false])
  assert.deepEqual(['/api/*', '/api', '*static', '*'].map(path => yes({ path })), [true, false, false, true])
  const hosts = ['example.com', 'EXAMPLE.com:8080', '*.com', 'example.com:80', 'example.org']
  assert.deepEqual(hosts.map(host => yes({ host })), [true, true, true, false, false])
  assert.ok(yes({ headers: [['X-Tenant', 'acme*']] }) && yes({ headers: [['x-tenant', 'other'], ['host', '*']] }))
  assert.ok(!yes({ headers: [['x-tenant', 'acme']] }) && !yes({ headers: [['x-tenant', '*'], ['x-none', '*']] }))
  for (const match of [{ method: '*' }, { host: '*' }, { path: '*' }, { headers: [] }]) assert.equal(new Matcher(match).wantsRefused, false)
})

test('request match: a listener is known by its name, and by its address as written', () => {
  const yes = (listener: string): boolean => new Matcher({ listener }).listensOn('edge/0.0.0.0:6188')
  const names = ['edge/0.0.0.0:6188', '0.0.0.0:6188', 'edge/*', '*:6188', '6188', 'edge']
  assert.deepEqual(names.map(yes), [true, true, true, true, false, false])
})

test('request match: statuses, flags and times are those of the end', () => {
  const matcher = new Matcher({ statuses: [[500, 599], [0, 0]], flags: ['UC', '-'], slowMs: 200 })
  assert.ok(matcher.ended(502, 'UC', 200) && matcher.ended(0, '-', 1000))
  assert.ok(!matcher.ended(499, 'UC', 300) && !matcher.ended(500, 'UT', 300) && !matcher.ended(500, 'UC', 199.9))
})
