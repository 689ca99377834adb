import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import { queryOf, setQuery } from '../../src/kit/query.ts'
import { ask, requestOf } from './requests.ts'

test('query: parameters are decoded, in their order, and what is badly encoded stays readable', () => {
  const query = queryOf(requestOf('/search?q=a+b%26c&tag=1&tag=2&empty&bad=%zz&bytes=%ff'))
  assert.deepEqual([...query], [['q', 'a b&c'], ['tag', '1'], ['tag', '2'], ['empty', ''], ['bad', '%zz'], ['bytes', '�']])
  assert.deepEqual([...queryOf(requestOf('/search'))], [])
})

test('query: whatever a client sends gives parameters or a refusal with 400, and nothing else', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary-ascii', maxLength: 60 }), text => {
    assert.ok([...queryOf(requestOf(`/?${text}`))].length <= 60)
  }))
})

test('query: more parameters than a thousand are refused, in a time that grows with their length alone', async () => {
  assert.equal([...queryOf(requestOf(`/?${'a&'.repeat(999)}a`))].length, 1000)
  const bomb = requestOf(`/?${'a&'.repeat(1000)}a`)
  assert.throws(() => queryOf(bomb), error => error instanceof ProxyError && error.status === 400 && error.limit === 'query-parameters')
  const { status } = await ask(session => {
    queryOf(session.request)
    return 'continue'
  }, { target: `/?${'&'.repeat(1000)}` })
  assert.equal(status, 400)
})

test('query: a changed one goes to the origin encoded, and an empty one without its question mark', async () => {
  const { body } = await ask(session => {
    const query = queryOf(session.request)
    query.delete('secret')
    query.append('by', 'a b\r\n&')
    setQuery(session.request, query)
    return 'continue'
  }, { target: '/path?secret=1&x=2' })
  assert.equal(JSON.parse(body.toString())[1], '/path?x=2&by=a+b%0D%0A%26')
  const request = requestOf('/path?x=1')
  setQuery(request, new URLSearchParams())
  assert.equal(request.target, '/path')
})
