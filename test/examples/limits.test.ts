import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { get, head, post } from '../support/proxy.ts'
import type { RawClient } from '../support/raw-client.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { response, type OriginExchange, type ScriptedOrigin } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

/** Other clients come from other addresses of the loopback network. */
const skip = process.platform === 'linux' ? false : 'needs 127.0.0.0/8'

async function start(t: TestContext): Promise<{ recipe: Recipe; origin: ScriptedOrigin }> {
  const origin = await startOrigin(t)
  return { recipe: await startRecipe(t, 'limits', { ORIGIN: origin.authority }), origin }
}

/** Clients whose requests the origin has and does not answer. */
async function hold(recipe: Recipe, count: number, from = '127.0.0.1'): Promise<RawClient[]> {
  const clients: RawClient[] = []
  while (clients.length < count) {
    const client = await recipe.connect(from)
    await client.write(get('/held'))
    clients.push(client)
  }
  return clients
}

/** An origin that answers nothing until `release`. */
function holdBack(origin: ScriptedOrigin): { release(): Promise<void> } {
  const held: OriginExchange[] = []
  const ok = response(200, 'ok')
  origin.script = exchange => { held.push(exchange) }
  return {
    async release() {
      origin.script = async exchange => { await exchange.send(ok) }
      for (const exchange of held) await exchange.send(ok)
    },
  }
}

test('limits: a client that asks too often is told to wait, on any of its connections, and is served again later', async t => {
  const { recipe, origin } = await start(t)
  const client = await recipe.connect()
  const ask = async (): Promise<number> => {
    await client.write(get())
    return (await client.readResponse()).status
  }
  let served = 0
  while (await ask() === 200) served++
  assert.ok(served >= 50, `${served} were served`)
  assert.equal(origin.requests.length, served)
  const refused = await waitFor('a refusal on another connection', async () => {
    const given = await recipe.exchange(get('/', 'X-Forwarded-For: 192.0.2.1', 'Forwarded: for=192.0.2.1'))
    return given.status === 429 && given
  })
  assert.equal(refused.field('retry-after'), '1')
  await waitFor('the client to be served again', async () => await ask() === 200)
})

test('limits: what one client has used up is not taken from another', { skip }, async t => {
  const { recipe } = await start(t)
  while ((await recipe.exchange(get())).status === 200) { /* Until it is refused. */ }
  const other = await recipe.connect('127.0.0.2')
  await other.write(get())
  assert.equal((await other.readResponse()).status, 200)
})

test('limits: so many requests of a client may be in progress, and those that it gave up are not', async t => {
  const { recipe, origin } = await start(t)
  const { release } = holdBack(origin)
  const clients = await hold(recipe, 20)
  await waitFor('the origin to have them', () => origin.requests.length === 20)
  assert.equal((await recipe.exchange(get())).status, 429)
  clients[0]!.reset()
  await waitFor('the proxy to notice', () => recipe.server.stats().activeExchanges === 19)
  const [another] = await hold(recipe, 1)
  await waitFor('the origin to have it', () => origin.requests.length === 21)
  assert.equal((await recipe.exchange(get())).status, 429)
  await release()
  for (const client of [...clients.slice(1), another!]) assert.equal((await client.readResponse()).status, 200)
  // None of them counts any longer.
  await waitFor('the proxy to be at rest', () => recipe.server.stats().activeExchanges === 0)
  const again = holdBack(origin)
  const others = await hold(recipe, 20)
  await waitFor('the origin to have those', () => origin.requests.length === 41)
  await again.release()
  for (const client of others) assert.equal((await client.readResponse()).status, 200)
})

test('limits: an origin has so many requests at once, and the next ones wait', { skip }, async t => {
  const { recipe, origin } = await start(t)
  const { release } = holdBack(origin)
  const clients = await hold(recipe, 20)
  clients.push(...await hold(recipe, 20, '127.0.0.2'), ...await hold(recipe, 15, '127.0.0.3'))
  await waitFor('the proxy to have all of them', () => recipe.server.stats().activeExchanges === 55)
  await waitFor('the origin to have its share', () => origin.requests.length === 50)
  assert.equal(origin.connections.length, 50)
  await release()
  for (const client of clients) assert.equal((await client.readResponse()).status, 200)
})

test('limits: a body is too large where it is announced and where it is not, and /upload takes a larger one', async t => {
  const { recipe, origin } = await start(t)
  const announced = (target: string): string => head(`POST ${target} HTTP/1.1`, 'Content-Length: 1048577')
  for (const target of ['/', '/Upload', '/upload/', '/uploads', '/x/..//upload']) {
    assert.equal((await recipe.exchange(announced(target))).status, 413, target)
  }
  assert.deepEqual(origin.requests, [])
  const client = await recipe.connect()
  await client.write(head('POST / HTTP/1.1', 'Transfer-Encoding: chunked'))
  await client.write(`100001\r\n${'x'.repeat(0x100001)}\r\n0\r\n\r\n`)
  assert.equal((await client.readResponse()).status, 413)
  assert.equal((await recipe.exchange(post('x'.repeat(1_048_576)))).status, 200)
  assert.equal((await recipe.exchange(post('x'.repeat(1_048_577), '/upload?name=a'))).status, 200)
  assert.equal((await recipe.exchange(head('POST /upload HTTP/1.1', 'Content-Length: 104857601'))).status, 413)
})
