import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { get, head } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import type { ScriptedOrigin } from '../support/scripted-origin.ts'

const SECRETS = { STAFF_PASSWORD: 's3cret', API_TOKENS: 'abc,def' }
const ADA = basic('ada:s3cret')

function basic(pair: string): string { return `Authorization: Basic ${Buffer.from(pair).toString('base64')}` }

async function start(t: TestContext): Promise<{ recipe: Recipe; origin: ScriptedOrigin }> {
  const origin = await startOrigin(t)
  return { recipe: await startRecipe(t, 'authentication', { ORIGIN: origin.authority, ...SECRETS }), origin }
}

test('authentication: people get in with their password, the origin is told who, and not by what', async t => {
  const { recipe, origin } = await start(t)
  assert.equal((await recipe.exchange(get('/private', ADA))).status, 200)
  assert.equal((await recipe.exchange(get('/private', ADA.replace('Basic', 'BASIC')))).status, 200)
  for (const request of origin.requests) {
    assert.deepEqual([request.field('x-user'), request.field('authorization')], ['ada', null])
  }
})

test('authentication: without a password that is right nobody gets in, and the challenge says what is asked for', async t => {
  const { recipe, origin } = await start(t)
  const wrong = [
    [], [basic('ada:')], [basic('ada:wrong')], [basic('ada:s3cret2')], [basic('ADA:s3cret')], [basic('eve:s3cret')], [basic(':')],
    [basic('ada')], [basic('__proto__:x')], ['Authorization:'], ['Authorization: Basic'], ['Authorization: Basic %%%'],
    ['Authorization: Bearer abc'], [ADA, basic('eve:x')], [basic('eve:x'), ADA], [ADA, ADA], [`X-${ADA}`],
    [ADA.replace('Authorization', 'Proxy-Authorization')],
  ]
  for (const lines of wrong) {
    const refused = await recipe.exchange(get('/private', ...lines))
    assert.deepEqual([refused.status, refused.field('www-authenticate')], [401, 'Basic realm="staff", charset="UTF-8"'], lines.join())
  }
  assert.deepEqual(origin.requests, [])
})

test('authentication: the API takes tokens, and neither passwords nor tokens from elsewhere', async t => {
  const { recipe, origin } = await start(t)
  for (const token of ['abc', 'def']) {
    assert.equal((await recipe.exchange(get('/api/users', `Authorization: Bearer ${token}`))).status, 200)
  }
  for (const request of origin.requests) assert.deepEqual([request.field('authorization'), request.field('x-user')], [null, null])
  const wrong = [
    [], [ADA], ['Authorization: Bearer'], ['Authorization: Bearer ab'], ['Authorization: Bearer abc,def'], ['Authorization: Bearer ABC'],
    ['Authorization: Bearer abc', 'Authorization: Bearer abc'], ['Cookie: access_token=abc'],
  ]
  for (const lines of wrong) {
    const { status, field } = await recipe.exchange(get('/api/users?access_token=abc', ...lines))
    assert.ok(status === 401 || status === 400, `${status}: ${lines.join()}`)
    assert.match(field('www-authenticate') ?? '', /^Bearer realm="api"/)
  }
  assert.equal(origin.requests.length, 2)
})

test('authentication: a path is open only when it is listed, however it is spelt', async t => {
  const { recipe, origin } = await start(t)
  for (const target of ['/health', '/assets/app.js', '/%68ealth']) assert.equal((await recipe.exchange(get(target))).status, 200, target)
  const shut = [
    '/', '/health/', '/healthy', '/Health', '/assets/../private', '/assets/%2e%2e/private', '/assetss', '/%61pi/users',
    '//api/users', '/private?/health', 'http://a.example/private',
  ]
  for (const target of shut) assert.equal((await recipe.exchange(get(target))).status, 401, target)
  for (const target of ['/assets/..%2fprivate', '/assets%5c..%5cprivate', '/assets/..;/private', '/health;x']) {
    assert.equal((await recipe.exchange(get(target))).status, 400, target)
  }
  for (const method of ['POST', 'DELETE', 'get']) {
    assert.equal((await recipe.exchange(head(`${method} /health HTTP/1.1`, 'Content-Length: 0'))).status, 405)
  }
  assert.equal(origin.requests.length, 3)
})

test('authentication: nobody says who he is but by a password', async t => {
  const { recipe, origin } = await start(t)
  const claims = ['X-User: root', 'x-USER: admin', 'X_User: root']
  for (const claim of claims) {
    await recipe.exchange(get('/health', claim))
    await recipe.exchange(get('/health', 'Connection: x-user', claim))
    await recipe.exchange(get('/health', claim, ADA))
    await recipe.exchange(get('/api/x', claim, 'Authorization: Bearer abc'))
    await recipe.exchange(get('/private', claim, ADA))
  }
  await recipe.exchange(get('/private', 'Connection: X-User, Authorization', ADA))
  for (const request of origin.requests) {
    const users = request.fields.filter(([name]) => /^x.user$/i.test(name)).map(([, value]) => value)
    assert.deepEqual(users, request.target === '/private' ? ['ada'] : [], request.headText)
  }
  assert.ok(origin.requests.length >= 3 * 5)
})

test('authentication: without secrets it does not start', async t => {
  for (const missing of Object.keys(SECRETS)) {
    await assert.rejects(startRecipe(t, 'authentication', { ...SECRETS, [missing]: '' }), /basicAuth\.users|bearerAuth\.tokens/)
  }
})
