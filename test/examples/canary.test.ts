import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { get, post } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response, type ScriptedOrigin } from '../support/scripted-origin.ts'

async function start(t: TestContext): Promise<{ recipe: Recipe; stable: ScriptedOrigin; canary: ScriptedOrigin }> {
  const stable = await startOrigin(t, answer(response(200, 'stable')))
  const canary = await startOrigin(t, answer(response(200, 'canary')))
  return { recipe: await startRecipe(t, 'canary', { STABLE: stable.authority, CANARY: canary.authority }), stable, canary }
}

async function bodyOf(recipe: Recipe, ...lines: string[]): Promise<string> {
  return (await recipe.exchange(get('/', ...lines))).body.toString()
}

test('canary: its share of the requests goes there, and the others do not', async t => {
  const { recipe } = await start(t)
  const { mock } = t.mock.method(Math, 'random', () => 0.0499)
  assert.equal(await bodyOf(recipe), 'canary')
  mock.mockImplementation(() => 0.05)
  assert.equal(await bodyOf(recipe), 'stable')
})

test('canary: a header decides before the share does, with the words that are known', async t => {
  const { recipe } = await start(t)
  const { mock } = t.mock.method(Math, 'random', () => 0.5)
  assert.equal(await bodyOf(recipe, 'x-canary: always'), 'canary')
  assert.equal(await bodyOf(recipe, 'X-Canary: yes'), 'stable')
  assert.equal(await bodyOf(recipe, 'X-Canary: never', 'X-Canary: always'), 'stable')
  mock.mockImplementation(() => 0)
  assert.equal(await bodyOf(recipe, 'X-Canary: never'), 'stable')
  assert.equal(await bodyOf(recipe, 'X-Canary:'), 'canary')
})

test('canary: what it fails is asked of the stable release, unless it may not be asked twice', async t => {
  const { recipe, stable, canary } = await start(t)
  canary.script = answer(response(500, 'broken'))
  assert.equal(await bodyOf(recipe, 'X-Canary: always'), 'stable')
  const posted = await recipe.exchange(post('order', '/', 'X-Canary: always'))
  assert.deepEqual([posted.status, posted.body.toString()], [500, 'broken'])
  assert.deepEqual(stable.requests.map(({ method }) => method), ['GET'])
  assert.deepEqual(canary.requests.map(({ method }) => method), ['GET', 'POST'])
})

test('canary: one that is down costs nobody an answer', async t => {
  const { recipe, stable, canary } = await start(t)
  await canary.stop()
  assert.equal(await bodyOf(recipe, 'X-Canary: always'), 'stable')
  assert.equal((await recipe.exchange(post('order', '/', 'X-Canary: always'))).body.toString(), 'stable')
  assert.equal(stable.requests.length, 2)
})

test('canary: a failure of the stable release is nobody else\'s', async t => {
  const { recipe, stable, canary } = await start(t)
  stable.script = answer(response(500, 'broken'))
  assert.equal((await recipe.exchange(get('/', 'X-Canary: never'))).status, 500)
  assert.deepEqual([stable.requests.length, canary.requests.length], [1, 0])
})
