/** JSON and redirects. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HeaderMap } from '../../src/http/header-map.ts'
import { readJson, respondJson } from '../../src/kit/json.ts'
import { localPath, redirect } from '../../src/kit/redirect.ts'
import { ask } from './requests.ts'

test('json: an answer has its type and its length, and fields of its own', async () => {
  const plain = await ask(session => respondJson(session, 201, { ok: true, text: 'ü' }))
  assert.deepEqual([plain.status, plain.body.toString()], [201, '{"ok":true,"text":"ü"}'])
  assert.equal(plain.headers.get('content-type'), 'application/json')
  assert.equal(plain.headers.get('content-length'), String(plain.body.length))
  const fields = new HeaderMap().set('content-type', 'application/problem+json').set('x-a', '1')
  const problem = await ask(session => respondJson(session, 400, [], fields))
  assert.deepEqual([problem.headers.getAll('content-type'), problem.headers.get('x-a')], [['application/problem+json'], '1'])
  assert.equal(fields.size, 2)
  for (const value of [undefined, () => 1, 1n]) {
    assert.match((await ask(session => respondJson(session, 200, value))).error?.message ?? '', /requestFilter: .*(?:JSON|BigInt)/)
  }
})

test('json: a body is read once it says that it is JSON, and goes on to the origin', async () => {
  const read: unknown[] = []
  const filter = async (session: Parameters<typeof readJson>[0]): Promise<'continue'> => {
    read.push(await readJson(session, 100))
    return 'continue'
  }
  const send = (type: string | string[], body: string | Uint8Array): Promise<{ status: number }> => {
    return ask(filter, { method: 'POST', headers: { 'Content-Type': type }, body })
  }
  for (const type of ['application/json', 'application/json; charset=utf-8', 'Application/JSON', 'application/merge-patch+json']) {
    assert.equal((await send(type, '{"a":[1]}')).status, 200, type)
  }
  assert.deepEqual(read, Array.from({ length: 4 }, () => ({ a: [1] })))
  for (const type of ['text/plain', 'application/jsonx', 'application/x-www-form-urlencoded', 'text/json+application/json']) {
    assert.equal((await send(type, '{}')).status, 415, type)
  }
  assert.equal((await send(['application/json', 'text/plain'], '{}')).status, 415)
  for (const body of ['{', '', Buffer.from([0x22, 0xff, 0x22])]) assert.equal((await send('application/json', body)).status, 400)
  assert.equal((await send('application/json', '9'.repeat(101))).status, 413)
  assert.equal(read.length, 4)
})

test('redirect: a path of this host, or a URL that the application made, with what else belongs to the answer', async () => {
  const local = await ask(session => redirect(session, '/login?next=%2Fa', 303, { 'Set-Cookie': ['a=1', 'b=2'] }))
  assert.deepEqual([local.status, local.headers.get('location')], [303, '/login?next=%2Fa'])
  assert.deepEqual(local.headers.getAll('set-cookie'), ['a=1', 'b=2'])
  const other = await ask(session => redirect(session, new URL('https://other.example/ü'), 308))
  assert.deepEqual([other.status, other.headers.get('location')], [308, 'https://other.example/%C3%BC'])
  assert.equal((await ask(session => redirect(session, '/'))).status, 302)
})

const ELSEWHERE = [
  '//evil.example', '/\\evil.example', '\\\\evil.example', '/\t/evil.example', '/\n/evil.example', '/\r\nSet-Cookie: a=1',
  'https://evil.example', 'javascript:alert(1)', 'evil', '', '/ü', '/a b', ' /a', '/\u0000',
]

test('redirect: a text that leads elsewhere, or has two readings, is no path', async () => {
  for (const text of ELSEWHERE) {
    assert.equal(localPath(text, '/home'), '/home', JSON.stringify(text))
    const { status, headers } = await ask(session => redirect(session, text))
    assert.deepEqual([status, headers.get('location')], [500, undefined], JSON.stringify(text))
  }
  for (const nothing of [null, undefined]) assert.equal(localPath(nothing), '/')
  for (const fine of ['/', '/a', '/a//b', '/a?b=c#d', '/%2f%2fevil.example']) assert.equal(localPath(fine, '/home'), fine)
  for (const wrong of [304, 200, 300]) assert.equal((await ask(session => redirect(session, '/', wrong as 302))).status, 500)
  assert.equal((await ask(session => redirect(session, new URL('javascript:alert(1)')))).status, 500)
})

test('redirect: no path that is let through leads a browser away from the host', () => {
  const unit = fc.constantFrom('/', '\\', '\t', '\n', '\r', 'a', '.', ':', '@', '%', '?', '#', ' ', '\0', 'ü', '2', 'f')
  fc.assert(fc.property(fc.string({ unit, maxLength: 12 }), tail => {
    const path = localPath(`/${tail}`)
    assert.equal(new URL(path, 'https://here.example/base/').origin, 'https://here.example')
  }), { numRuns: 2000 })
})
