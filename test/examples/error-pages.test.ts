import assert from 'node:assert/strict'
import { test } from 'node:test'
import { get, post } from '../support/proxy.ts'
import { startOrigin, startRecipe } from '../support/recipe.ts'
import { answer, response } from '../support/scripted-origin.ts'

const HTML = 'Accept: text/html,application/xhtml+xml'

test('error pages: an answer of 5xx is replaced, for a browser by HTML, for others by JSON; the rest of it stays with us', async t => {
  const secret: readonly (readonly [string, string])[] = [['X-Powered-By', 'inside/1.0'], ['Set-Cookie', 'debug=1'], ['Retry-After', '7']]
  const origin = await startOrigin(t, answer(response(503, 'stack trace of the inside', secret)))
  const recipe = await startRecipe(t, 'error-pages', { ORIGIN: origin.authority })
  const page = await recipe.exchange(get('/', HTML))
  assert.equal(page.status, 503)
  assert.equal(page.field('content-type'), 'text/html; charset=utf-8')
  assert.match(page.body.toString(), /^<!doctype html>.*<p>[\w-]+<\/p>\n$/)
  const plain = await recipe.exchange(get())
  const { status, request } = JSON.parse(plain.body.toString()) as { status: number; request: string }
  assert.deepEqual([plain.status, status, plain.field('content-type')], [503, 503, 'application/json'])
  assert.match(request, /^[\w-]+$/)
  for (const one of [page, plain]) {
    assert.deepEqual([one.field('retry-after'), one.field('cache-control'), one.complete], ['7', 'no-store', true])
    assert.doesNotMatch(one.raw.toString(), /inside|debug/)
  }
})

test('error pages: what is no failure of the origin passes as it is', async t => {
  const origin = await startOrigin(t, answer(response(404, 'nothing here', [['X-Own', '1']])))
  const recipe = await startRecipe(t, 'error-pages', { ORIGIN: origin.authority })
  const { status, body, field } = await recipe.exchange(get('/', HTML))
  assert.deepEqual([status, body.toString(), field('x-own')], [404, 'nothing here', '1'])
})

test('error pages: an origin that is down, that hangs up, and that speaks nonsense', async t => {
  const gone = await startOrigin(t)
  const { authority } = gone
  await gone.stop()
  const origin = await startOrigin(t, exchange => { exchange.destroy() })
  for (const ORIGIN of [authority, origin.authority]) {
    const recipe = await startRecipe(t, 'error-pages', { ORIGIN })
    const page = await recipe.exchange(post('x', '/', HTML))
    assert.deepEqual([page.status, page.complete], [502, true])
    assert.match(page.body.toString(), /^<!doctype html>/)
  }
  const recipe = await startRecipe(t, 'error-pages', { ORIGIN: origin.authority })
  origin.script = answer('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n')
  assert.equal((await recipe.exchange(get())).status, 502)
})

test('error pages: a page has the status of its fault, no body for HEAD, and nothing that the client put in', async t => {
  const origin = await startOrigin(t, answer('HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n'))
  const recipe = await startRecipe(t, 'error-pages', { ORIGIN: origin.authority })
  const head = await recipe.exchange('HEAD / HTTP/1.1\r\nHost: a.example\r\nAccept: text/html\r\n\r\n', { method: 'HEAD' })
  assert.deepEqual([head.status, head.body.length, head.field('content-type')], [500, 0, 'text/html; charset=utf-8'])
  assert.ok(Number(head.field('content-length')) > 0)
  const traced = await recipe.exchange('TRACE /<script> HTTP/1.1\r\nHost: a.example\r\nAccept: text/html\r\nX-Request-Id: <script>\r\n\r\n')
  assert.equal(traced.status, 405)
  assert.doesNotMatch(traced.raw.toString(), /script/)
  const large = await recipe.exchange('POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999999999\r\n\r\n')
  assert.deepEqual([large.status, JSON.parse(large.body.toString()).status], [413, 413])
})
