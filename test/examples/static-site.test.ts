import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { get, post } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response, type ScriptedOrigin } from '../support/scripted-origin.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'

const FILES = {
  'site/index.html': '<h1>Home</h1>', 'site/about/index.html': '<h1>About</h1>', 'site/assets/app-1.js': 'run()', 'site/.env': 'SECRET=1',
  'site/assets/.secret': 'x', 'outside.txt': 'outside',
}

async function start(t: TestContext): Promise<{ recipe: Recipe; api: ScriptedOrigin }> {
  const folder = temporaryFolder(t), ROOT = path.join(folder, 'site')
  writeTree(folder, FILES)
  symlinkSync('../outside.txt', path.join(ROOT, 'leak.txt'))
  const api = await startOrigin(t, answer(response(200, 'api', [['Server', 'inside/1.0']])))
  return { recipe: await startRecipe(t, 'static-site', { ROOT, API: api.authority }), api }
}

async function ask(recipe: Recipe, target: string, ...lines: string[]): Promise<string> {
  const { status, body } = await recipe.exchange(get(target, ...lines))
  return `${status} ${body.toString()}`.trim()
}

test('static site: files are served, and every other page is the application\'s', async t => {
  const { recipe, api } = await start(t)
  for (const target of ['/', '/index.html', '/orders/17', '/orders?x=1.js', '/apis', '/API/users']) {
    assert.equal(await ask(recipe, target), '200 <h1>Home</h1>', target)
  }
  assert.equal(await ask(recipe, '/about/'), '200 <h1>About</h1>')
  const moved = await recipe.exchange(get('/about'))
  assert.deepEqual([moved.status, moved.field('location')], [301, '/about/'])
  const deep = await recipe.exchange(get('/orders/17'))
  assert.equal(deep.field('content-type'), 'text/html; charset=utf-8')
  assert.deepEqual(api.requests, [])
})

test('static site: what is missing, hidden or outside is not there, and no page stands in its place', async t => {
  const { recipe, api } = await start(t)
  const absent = [
    '/missing.js', '/assets/app-2.js', '/assets/', '/assets/x', '/.env', '/assets/.secret', '/leak.txt', '/%2e%2e/outside.txt',
    '/../outside.txt', '/assets/../../outside.txt', '/x/.git/config.',
  ]
  for (const target of absent) assert.equal(await ask(recipe, target), '404', target)
  for (const target of ['/..%2foutside.txt', '/assets/..%5c..%5coutside.txt']) assert.equal(await ask(recipe, target), '400', target)
  assert.deepEqual(api.requests, [])
})

test('static site: assets are kept for good, pages are asked for again, and a part of a file is a part', async t => {
  const { recipe } = await start(t)
  const asset = await recipe.exchange(get('/assets/app-1.js'))
  assert.deepEqual([asset.body.toString(), asset.field('cache-control')], ['run()', 'public, max-age=31536000, immutable'])
  const page = await recipe.exchange(get('/'))
  assert.equal(page.field('cache-control'), 'public, max-age=0')
  assert.equal(await ask(recipe, '/', `If-None-Match: ${page.field('etag')}`), '304')
  assert.equal(await ask(recipe, '/assets/app-1.js', 'Range: bytes=0-2'), '206 run')
  const head = await recipe.exchange('HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n', { method: 'HEAD' })
  assert.deepEqual([head.status, head.field('content-length'), head.body.length], [200, '13', 0])
})

test('static site: the API gets its requests, whatever the method, and files take none but GET and HEAD', async t => {
  const { recipe, api } = await start(t)
  assert.equal(await ask(recipe, '/api/users'), '200 api')
  assert.equal((await recipe.exchange(post('x', '/api'))).status, 200)
  const refused = await recipe.exchange(post('x', '/'))
  assert.deepEqual([refused.status, refused.field('allow')], [405, 'GET, HEAD'])
  assert.deepEqual(api.requests.map(({ method, target }) => `${method} ${target}`), ['GET /api/users', 'POST /api'])
})

test('static site: every answer makes browsers careful, and none says what runs behind', async t => {
  const { recipe, api } = await start(t)
  const answers = [await recipe.exchange(get('/')), await recipe.exchange(get('/missing.js')), await recipe.exchange(get('/api/x'))]
  api.script = exchange => { exchange.destroy() }
  answers.push(await recipe.exchange(post('x', '/api/x')))
  assert.deepEqual(answers.map(({ status }) => status), [200, 404, 200, 502])
  for (const { field, status } of answers) {
    const fields = [field('x-content-type-options'), field('content-security-policy'), field('server')]
    assert.deepEqual(fields, ['nosniff', "default-src 'self'", null], String(status))
  }
})
