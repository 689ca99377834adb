import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { get, post } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response, type ScriptedOrigin } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

interface World { readonly recipe: Recipe; readonly main: readonly ScriptedOrigin[]; readonly backup: ScriptedOrigin }

async function start(t: TestContext, count = 1): Promise<World> {
  const main: ScriptedOrigin[] = []
  while (main.length < count) main.push(await startOrigin(t, answer(response(200, `main ${main.length}`))))
  const backup = await startOrigin(t, answer(response(200, 'backup')))
  const MAIN = main.map(({ authority }) => authority).join()
  return { recipe: await startRecipe(t, 'failover', { MAIN, BACKUP: backup.authority }), main, backup }
}

async function bodyOf(recipe: Recipe, bytes = get('/a')): Promise<string> { return (await recipe.exchange(bytes)).body.toString() }
/** Those of clients: health checks ask for something else. */
function targetsAt({ requests }: ScriptedOrigin): string[] {
  return requests.map(({ target }) => target).filter(target => target !== '/health')
}

test('failover: while main origins are well they share the requests, and the backup has none', async t => {
  const { recipe, backup } = await start(t, 2)
  const said = [await bodyOf(recipe), await bodyOf(recipe), await bodyOf(recipe), await bodyOf(recipe)]
  assert.deepEqual(said.toSorted(), ['main 0', 'main 0', 'main 1', 'main 1'])
  assert.deepEqual(backup.requests, [])
})

test('failover: with one main origin down the others have its requests, and the backup still none', async t => {
  const { recipe, main, backup } = await start(t, 2)
  await main[0]!.stop()
  for (let index = 0; index < 6; index++) assert.equal(await bodyOf(recipe, post('x', '/a')), 'main 1')
  assert.deepEqual(backup.requests, [])
})

test('failover: with all of them down the backup serves, the first requests and those that must not happen twice included', async t => {
  const { recipe, main, backup } = await start(t, 2)
  for (const origin of main) await origin.stop()
  for (let index = 0; index < 30; index++) assert.equal(await bodyOf(recipe, index % 2 === 0 ? post('x', '/a') : get('/a')), 'backup')
  // More than retries alone could: after the first ones it is asked at once.
  assert.equal(backup.requests.length, 30)
})

test('failover: a request that was sent goes elsewhere only when it may happen twice', async t => {
  const { recipe, main, backup } = await start(t)
  const probed = main[0]!.script
  main[0]!.script = exchange => exchange.request.target === '/health' ? probed(exchange) : exchange.destroy()
  const posted = await recipe.exchange(post('order', '/order'))
  assert.equal(posted.status, 502)
  assert.deepEqual([targetsAt(main[0]!), targetsAt(backup)], [['/order'], []])
  assert.equal(await bodyOf(recipe), 'backup')
})

test('failover: what the health check finds ill gets nothing, and its requests again when it is well', async t => {
  const { recipe, main, backup } = await start(t)
  main[0]!.script = answer(response(503, 'ill'))
  const shows = (body: string) => waitFor(body, async () => await bodyOf(recipe) === body, { deadlineMs: 10_000 })
  await shows('backup')
  const asked = targetsAt(main[0]!).length
  assert.equal(await bodyOf(recipe), 'backup')
  assert.equal(targetsAt(main[0]!).length, asked)
  main[0]!.script = answer(response(200, 'main again'))
  await shows('main again')
  assert.ok(backup.requests.length >= 2)
})

test('failover: with the backup down as well the client is told', async t => {
  const { recipe, main, backup } = await start(t)
  await main[0]!.stop()
  await backup.stop()
  assert.equal((await recipe.exchange(get('/a'))).status, 502)
})
