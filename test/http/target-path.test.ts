import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { normalizeTarget } from '../../src/http/target-path.ts'

for (const [target, resolved] of [
  ['/a/b', '/a/b'], ['/', '/'], ['/a//b', '/a//b'], ['/.', '/'], ['/..', '/'], ['/a/..', '/'], ['/a/.', '/a/'],
  ['/a/./b', '/a/b'], ['/a/../b', '/b'],
  ['/../../b', '/b'], ['/a//../b', '/a/b'], ['/%2e%2E/b', '/b'], ['/.%2e/b', '/b'], ['/a/%2e/b', '/a/b'],
  ['/a%2f..%2fb', '/a%2f..%2fb'], ['/a%5c..', '/a%5c..'],
  ['/...', '/...'], ['/.a', '/.a'], ['/a..', '/a..'], ['/a/../b?x=/../y', '/b?x=/../y'], ['/a?/../b', '/a?/../b'],
  ['/a?%00', '/a?%00'], ['/a?%', '/a?%'], ['*', '*'],
] as const) {
  test(`target path: ${target} is sent as ${resolved}`, () => {
    assert.equal(normalizeTarget(target, 'resolve'), resolved)
    assert.equal(normalizeTarget(target, 'reject'), target === resolved ? resolved : null)
    assert.equal(normalizeTarget(target, 'off'), target)
  })
}

for (const target of ['/a\\b', '/..\\b', '/%00', '/a%00b/', '/%', '/%2', '/%g0', '/a%zz?x']) {
  test(`target path: ${target} has two readings and is refused in every mode`, () => {
    for (const mode of ['resolve', 'reject', 'off'] as const) assert.equal(normalizeTarget(target, mode), null)
  })
}

test('target path: what was resolved has no dot segment left, and stays as it is', () => {
  const segment = fc.constantFrom('', '.', '..', '%2e', '%2E.', '...', 'a', 'b.c', '%2f')
  fc.assert(fc.property(fc.array(segment, { minLength: 1, maxLength: 8 }), fc.constantFrom('', '?', '?/../x'), (segments, query) => {
    const once = normalizeTarget(`/${segments.join('/')}${query}`, 'resolve')!
    assert.ok(once.startsWith('/') && once.endsWith(query))
    const path = once.slice(0, once.length - query.length)
    assert.ok(path.slice(1).split('/').every(one => !/^(\.|%2e){1,2}$/i.test(one)), once)
    assert.equal(normalizeTarget(once, 'resolve'), once)
  }))
})
