import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { get } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { response, type ScriptedOrigin } from '../support/scripted-origin.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

interface World { readonly recipe: Recipe; readonly origin: ScriptedOrigin; readonly file: string }

/** @param closed whether the file is there at the start */
async function start(t: TestContext, closed: boolean, ours = '192.0.2.0/24'): Promise<World> {
  const file = path.join(temporaryFolder(t), 'maintenance'), origin = await startOrigin(t)
  if (closed) writeFileSync(file, '')
  return { recipe: await startRecipe(t, 'maintenance', { ORIGIN: origin.authority, MAINTENANCE_FILE: file, OURS: ours }), origin, file }
}

async function statusOf(recipe: Recipe, bytes = get()): Promise<number> { return (await recipe.exchange(bytes)).status }

test('maintenance: visitors get a page while the file is there, and the site when it is gone', async t => {
  const { recipe, origin, file } = await start(t, false)
  assert.equal(await statusOf(recipe), 200)
  writeFileSync(file, '')
  await waitFor('the page', async () => await statusOf(recipe) === 503)
  const asked = origin.requests.length
  const page = await recipe.exchange(get('/shop'))
  assert.deepEqual(
    [page.status, page.field('retry-after'), page.field('cache-control'), page.field('content-type')],
    [503, '300', 'no-store', 'text/html; charset=utf-8'],
  )
  assert.match(page.body.toString(), /^<!doctype html>/)
  assert.equal(origin.requests.length, asked)
  rmSync(file)
  await waitFor('the site', async () => await statusOf(recipe) === 200)
})

test('maintenance: it holds from the first request of a new worker on, and what is in progress is finished', async t => {
  const { recipe } = await start(t, true)
  assert.equal(await statusOf(recipe), 503)
  const { recipe: other, origin, file } = await start(t, false)
  const held = Promise.withResolvers<void>()
  origin.script = async exchange => {
    if (exchange.request.target === '/held') await held.promise
    await exchange.send(response(200, 'finished'))
  }
  const client = await other.connect()
  await client.write(get('/held'))
  await waitFor('the origin to have it', () => origin.requests.length === 1)
  writeFileSync(file, '')
  await waitFor('the page', async () => await statusOf(other) === 503)
  held.resolve()
  assert.equal((await client.readResponse()).body.toString(), 'finished')
})

test('maintenance: health checks are answered, and no other path or name of a client opens the door', async t => {
  const { recipe, origin } = await start(t, true)
  assert.equal(await statusOf(recipe, get('/health')), 200)
  for (const target of ['/health/', '/Health', '/healthz', '/?/health', '/health/../shop']) {
    assert.equal(await statusOf(recipe, get(target)), 503, target)
  }
  for (const line of ['X-Forwarded-For: 192.0.2.1', 'Forwarded: for=192.0.2.1', 'X-Real-IP: 192.0.2.1']) {
    assert.equal(await statusOf(recipe, get('/', line)), 503, line)
  }
  assert.equal(origin.requests.length, 1)
})

test('maintenance: our own people see the site', async t => {
  const { recipe } = await start(t, true, '127.0.0.0/8')
  assert.equal(await statusOf(recipe), 200)
})
