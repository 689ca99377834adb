import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { get, head, post } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response, type Script, type ScriptedOrigin } from '../support/scripted-origin.ts'

const busy = answer(response(503, 'busy', [['Retry-After', '5']]))

/** A recipe in front of one origin for each script. */
async function start(t: TestContext, ...scripts: Script[]): Promise<{ recipe: Recipe; origins: readonly ScriptedOrigin[] }> {
  const origins: ScriptedOrigin[] = []
  for (const script of scripts) origins.push(await startOrigin(t, script))
  return { recipe: await startRecipe(t, 'retries', { ORIGINS: origins.map(({ authority }) => authority).join() }), origins }
}

function methodsAt({ requests }: ScriptedOrigin): string[] { return requests.map(({ method }) => method) }
/** Answers of so many requests, as `status body`. */
async function ask(recipe: Recipe, count: number, bytes: string): Promise<string[]> {
  const said: string[] = []
  while (said.length < count) {
    const { status, body } = await recipe.exchange(bytes)
    said.push(`${status} ${body.toString()}`)
  }
  return said
}

test('retries: another origin is asked in the place of one that is busy, with the whole request', async t => {
  const { recipe, origins: [left, right] } = await start(t, busy, answer(response(200, 'well')))
  assert.deepEqual(await ask(recipe, 4, get()), Array(4).fill('200 well'))
  const put = head('PUT / HTTP/1.1', 'Content-Length: 5') + 'hello'
  assert.deepEqual(await ask(recipe, 2, put), Array(2).fill('200 well'))
  assert.deepEqual(right!.requests.filter(({ method }) => method === 'PUT').map(({ bodyText }) => bodyText), ['hello', 'hello'])
  assert.ok(methodsAt(left!).includes('PUT'))
})

test('retries: what must not happen twice reaches one origin, whatever it answers', async t => {
  const { recipe, origins } = await start(t, busy, answer(response(502, 'broken')))
  const said = await ask(recipe, 6, post('order'))
  assert.deepEqual([...new Set(said)].toSorted(), ['502 broken', '503 busy'])
  assert.deepEqual(origins.flatMap(methodsAt), Array(6).fill('POST'))
  const patch = await recipe.exchange(head('PATCH / HTTP/1.1', 'Content-Length: 0'))
  assert.ok([502, 503].includes(patch.status))
  assert.equal(origins.flatMap(methodsAt).length, 7)
})

test('retries: an origin that hangs up within a POST has perhaps done it, so nobody else is asked', async t => {
  const { recipe, origins } = await start(t, exchange => exchange.destroy(), exchange => exchange.reset())
  assert.equal((await recipe.exchange(post('order'))).status, 502)
  assert.equal(origins.flatMap(methodsAt).length, 1)
})

test('retries: an origin that cannot be reached costs no request, and a POST reaches the other one once', async t => {
  const { recipe, origins: [left, right] } = await start(t, busy, answer(response(200, 'well')))
  await left!.stop()
  assert.deepEqual(await ask(recipe, 4, post('order')), Array(4).fill('200 well'))
  assert.deepEqual(right!.requests.map(({ bodyText }) => bodyText), Array(4).fill('order'))
})

test('retries: when all are busy the client gets the last answer as it is, after as many attempts as are allowed', async t => {
  const { recipe, origins } = await start(t, busy, busy)
  const { status, body, field } = await recipe.exchange(get())
  assert.deepEqual([status, body.toString(), field('retry-after')], [503, 'busy', '5'])
  assert.equal(origins.flatMap(methodsAt).length, 3)
})

test('retries: a body that is too long to be kept is sent once', async t => {
  const { recipe, origins } = await start(t, busy, busy)
  const length = 65_537
  const put = head('PUT / HTTP/1.1', `Content-Length: ${length}`) + 'x'.repeat(length)
  assert.equal((await recipe.exchange(put)).status, 503)
  assert.deepEqual(origins.flatMap(methodsAt), ['PUT'])
})

test('retries: they do not multiply an outage', async t => {
  const { recipe, origins } = await start(t, busy, busy)
  await ask(recipe, 50, get())
  const attempts = origins.flatMap(methodsAt).length
  // 20 % of 50, and the ten that a quiet service has.
  assert.ok(attempts > 50 && attempts <= 70, `${attempts} attempts`)
})
