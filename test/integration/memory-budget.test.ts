/** A server whose connections may hold little: what happens to those that want more, and that it passes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpPeer, httpProxyService, Server, type LoggedExchange } from '../../src/index.ts'
import { get, post } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { answerOk, ScriptedOrigin } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

const BODY = 'x'.repeat(60_000)

test('memory budget: bodies that are held shed further requests, and all is as before when they are gone', async t => {
  const held: (() => void)[] = [], logged: LoggedExchange[] = []
  const origin = await ScriptedOrigin.start(async exchange => {
    if (exchange.request.method === 'POST') await new Promise<void>(resolve => { held.push(resolve) })
    await answerOk(exchange)
  })
  t.after(() => origin.stop())
  const server = new Server().limits({ memoryBudgetBytes: 2 * 1024 ** 2, maxLoopDelayMs: 0 })
  const peer = new HttpPeer(origin.authority)
  const app = { newCtx: () => undefined, upstreamPeer: () => peer, suppressErrorLog: () => true }
  server.addService(httpProxyService<undefined>(app).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const [bound] = await server.start({ accessLog: { exchange: one => { logged.push(one) }, refused() {} } })
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect({ host: '127.0.0.1', port: bound!.port })
    t.after(() => client.destroy())
    return client
  }
  const uploads: RawClient[] = []
  let refused: RawClient | null = null
  for (let count = 0; count < 100 && refused === null; count++) {
    const client = await connect()
    const { shed, activeExchanges } = server.stats()
    await client.write(post(BODY))
    await waitFor('the upload to be taken or not', () => {
      return server.stats().shed > shed || (server.stats().activeExchanges > activeExchanges && held.length > uploads.length)
    })
    if (server.stats().shed > shed) refused = client
    else uploads.push(client)
  }
  // 16 of them are a megabyte without what an exchange is made of.
  assert.ok(uploads.length >= 10 && uploads.length <= 34, `${uploads.length} uploads`)
  const answer = await refused!.readResponse()
  assert.deepEqual([answer.status, answer.field('retry-after')], [503, '1'])
  assert.deepEqual(logged.map(({ flag, error }) => [flag, error?.limit]), [['OL', 'memory-budget']])
  assert.ok(server.stats().heldBytes > 1.6 * 1024 ** 2)
  for (const release of held) release()
  for (const upload of uploads) assert.equal((await upload.readResponse()).status, 200)
  for (const upload of uploads) upload.destroy()
  await waitFor('the memory to be free', () => server.stats().heldBytes < 200_000, { seen: () => server.stats() })
  const after = await connect()
  await after.write(get())
  assert.equal((await after.readResponse()).status, 200)
})
