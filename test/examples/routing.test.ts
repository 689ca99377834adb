import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response, type ScriptedOrigin } from '../support/scripted-origin.ts'

interface World { readonly recipe: Recipe; readonly site: ScriptedOrigin; readonly api: ScriptedOrigin; readonly files: ScriptedOrigin }

async function start(t: TestContext): Promise<World> {
  const [site, api, files] = await Promise.all(['site', 'api', 'files'].map(name => startOrigin(t, answer(response(200, name)))))
  const env = { SITE: site!.authority, API: api!.authority, FILES: files!.authority }
  return { recipe: await startRecipe(t, 'routing', env), site: site!, api: api!, files: files! }
}

/** What came back, as `status body`. */
async function ask(recipe: Recipe, host: string, target: string, method = 'GET'): Promise<string> {
  const { status, body } = await recipe.exchange(`${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 0\r\n\r\n`, { method })
  return `${status} ${body.toString()}`.trim()
}

test('routing: the host has its table, in whatever letters, with a port and with the dot of an absolute name', async t => {
  const { recipe } = await start(t)
  for (const host of ['www.example.com', 'WWW.Example.Com', 'www.example.com:6188', 'www.example.com.']) {
    assert.equal(await ask(recipe, host, '/'), '200 site', host)
  }
  assert.equal(await ask(recipe, 'api.example.com', '/'), '200 api')
  assert.equal(await ask(recipe, 'tea.shops.example.com', '/api/x'), '200 site')
})

test('routing: a host that nobody wrote down reaches no origin', async t => {
  const { recipe, site, api, files } = await start(t)
  const strangers = [
    'example.com', 'shops.example.com', 'www.example.com.evil.test', 'evilwww.example.com', '127.0.0.1', '[::1]', 'constructor',
  ]
  for (const host of strangers) assert.equal(await ask(recipe, host, '/'), '421', host)
  // Host and the target disagree: the target counts (RFC 9112 3.2.2).
  assert.equal(await ask(recipe, 'www.example.com', 'http://evil.test/'), '421')
  const twice = await recipe.exchange('GET / HTTP/1.1\r\nHost: www.example.com\r\nHost: evil.test\r\n\r\n')
  assert.equal(twice.status, 400)
  assert.deepEqual([site, api, files].flatMap(({ requests }) => requests), [])
})

test('routing: the most exact route counts, and a prefix ends where a segment does', async t => {
  const { recipe } = await start(t)
  const cases = [
    ['/api', 'api'], ['/api/', 'api'], ['/api/v1?x=/files/', 'api'], ['/apis', 'site'], ['/API/', 'site'], ['/x/api/', 'site'],
    ['/%61pi/v1', 'api'], ['//api/v1', 'api'], ['/files/../api/v1', 'api'], ['/files/%2e%2e/api', 'api'], ['/api/../x', 'site'],
  ] as const
  for (const [target, name] of cases) assert.equal(await ask(recipe, 'www.example.com', target), `200 ${name}`, target)
  for (const target of ['/api%2fv1', '/files/a%5cb', '/api/%2F..%2Fx']) {
    assert.equal(await ask(recipe, 'www.example.com', target), '400', target)
  }
})

test('routing: a prefix that is not for the origin goes, and what is behind it stays as it was sent', async t => {
  const { recipe, files } = await start(t)
  const cases = [
    ['/files/a/b.txt?v=1', '/a/b.txt?v=1'], ['/files', '/'], ['/files/', '/'], ['/files?x', '/?x'], ['/files/%C3%A4%20b', '/%C3%A4%20b'],
    ['/files//evil.test/x', '/evil.test/x'], ['/files/http://evil.test/', '/http:/evil.test/'], ['/%66iles/a', '/a'],
  ] as const
  for (const [target] of cases) assert.equal(await ask(recipe, 'www.example.com', target), '200 files', target)
  assert.deepEqual(files.requests.map(({ target }) => target), cases.map(([, sent]) => sent))
})

test('routing: a method that a route does not have goes nowhere else', async t => {
  const { recipe, site, files } = await start(t)
  const { status, field } = await recipe.exchange('DELETE /files/a HTTP/1.1\r\nHost: www.example.com\r\n\r\n')
  assert.deepEqual([status, field('allow')], [405, 'GET, HEAD'])
  assert.equal(await ask(recipe, 'www.example.com', '/files/a', 'HEAD'), '200')
  assert.deepEqual([site.requests.length, files.requests.map(({ method }) => method)], [0, ['HEAD']])
})
