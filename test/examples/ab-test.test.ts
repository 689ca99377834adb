import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { get } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response } from '../support/scripted-origin.ts'

const OWN: readonly (readonly [string, string])[] = [['Cache-Control', 'public, max-age=60'], ['Set-Cookie', 'own=1'], ['Vary', 'Accept']]

async function start(t: TestContext): Promise<Recipe> {
  const a = await startOrigin(t, answer(response(200, 'a', OWN)))
  const b = await startOrigin(t, answer(response(200, 'b', OWN)))
  return startRecipe(t, 'ab-test', { A: a.authority, B: b.authority })
}

interface Given {
  readonly variant: string
  readonly cookies: readonly string[]
  readonly cached: string | null
  readonly vary: string | null
}

async function ask(recipe: Recipe, ...lines: string[]): Promise<Given> {
  const { body, fields, field } = await recipe.exchange(get('/', ...lines))
  const cookies = fields.filter(([name]) => name.toLowerCase() === 'set-cookie').map(([, value]) => value)
  return { variant: body.toString(), cookies, cached: field('cache-control'), vary: field('vary') }
}

function cookieFor(variant: string): string { return `__Host-variant=${variant}; Path=/; Max-Age=2592000; Secure; HttpOnly; SameSite=Lax` }

test('a/b test: chance decides for a new visitor, and a cookie that no cache keeps for others says how', async t => {
  const recipe = await start(t)
  const { mock } = t.mock.method(Math, 'random', () => 0.49)
  const first = await ask(recipe)
  assert.deepEqual([first.variant, first.cookies, first.cached], ['b', ['own=1', cookieFor('b')], 'private, no-cache'])
  mock.mockImplementation(() => 0.5)
  assert.deepEqual((await ask(recipe)).cookies, ['own=1', cookieFor('a')])
})

test('a/b test: a returning visitor stays, whatever chance says, and answers may be kept', async t => {
  const recipe = await start(t)
  for (const random of [0, 0.99]) {
    t.mock.method(Math, 'random', () => random)
    for (const variant of ['a', 'b']) {
      const { vary, ...given } = await ask(recipe, `Cookie: other="a;b"; __Host-variant=${variant}; last=1`)
      assert.deepEqual(given, { variant, cookies: ['own=1'], cached: 'public, max-age=60' })
      assert.match(vary ?? '', /\bCookie\b/)
    }
  }
})

test('a/b test: a cookie with anything else counts as none, and is replaced', async t => {
  const recipe = await start(t)
  t.mock.method(Math, 'random', () => 0.99)
  const tampered = [
    'c', '', 'B', 'b%00', '%62', '__proto__', 'constructor', 'toString', '"a,b"', 'b'.repeat(4000), '127.0.0.1:1', 'b\tb', 'b,b',
  ]
  for (const value of tampered) {
    const { variant, cookies } = await ask(recipe, `Cookie: __Host-variant=${value}`)
    assert.deepEqual([variant, cookies[1]], ['a', cookieFor('a')], value)
  }
  for (const line of ['Cookie: __host-variant=b', 'Cookie: x__Host-variant=b', 'Cookie: x=__Host-variant=b', 'Cookie2: __Host-variant=b']) {
    assert.deepEqual((await ask(recipe, line)).cookies[1], cookieFor('a'), line)
  }
})

test('a/b test: of two cookies the first counts, whether they come in one field or in two', async t => {
  const recipe = await start(t)
  t.mock.method(Math, 'random', () => 0.99)
  assert.equal((await ask(recipe, 'Cookie: __Host-variant=b; __Host-variant=a')).variant, 'b')
  assert.equal((await ask(recipe, 'Cookie: __Host-variant=b', 'Cookie: __Host-variant=a')).variant, 'b')
  const odd = await ask(recipe, 'Cookie: __Host-variant=zz; __Host-variant=b')
  assert.deepEqual([odd.variant, odd.cookies[1]], ['a', cookieFor('a')])
})
