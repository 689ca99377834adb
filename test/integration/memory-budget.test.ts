/** A server whose connections may hold little: what happens to those that want more, and that it passes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpPeer, httpProxyService, Server, SILENT_LOG, type LoggedExchange, type ProxyHttp, type Verdict } from '../../src/index.ts'
import { get, post } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { answerOk, ScriptedOrigin } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

const BODY = 'x'.repeat(60_000)
const BUDGET = 2 * 1024 ** 2
/** From here on memory is short. */
const SHORT = 0.8 * BUDGET

test('memory budget: bodies that hooks hold shed further requests, and all is as before when they are gone', async t => {
  const held: (() => void)[] = [], logged: LoggedExchange[] = []
  const origin = await ScriptedOrigin.start(answerOk)
  t.after(() => origin.stop())
  const server = new Server().limits({ memoryBudgetBytes: BUDGET, maxLoopDelayMs: 0 })
  const peer = new HttpPeer(origin.authority)
  const app: ProxyHttp<undefined> = {
    upstreamPeer: () => peer,
    suppressErrorLog: () => true,
    async requestFilter(session): Promise<Verdict> {
      if (session.request.method !== 'POST') return 'continue'
      await session.readBody(100_000)
      await new Promise<void>(resolve => { held.push(resolve) })
      return 'continue'
    },
  }
  server.addService(httpProxyService(app).addTcp('127.0.0.1:0'))
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
  assert.ok(server.stats().heldBytes > SHORT)
  for (const release of held) release()
  for (const upload of uploads) assert.equal((await upload.readResponse()).status, 200)
  for (const upload of uploads) upload.destroy()
  await waitFor('the memory to be free', () => server.stats().heldBytes < 200_000, { seen: () => server.stats() })
  const after = await connect()
  await after.write(get())
  assert.equal((await after.readResponse()).status, 200)
})

test('memory budget: when memory is short a body is kept no longer for an attempt that may never be, and its request goes on', async t => {
  const held: (() => void)[] = []
  const bodies: number[] = []
  const origin = await ScriptedOrigin.start(async exchange => {
    bodies.push((await exchange.whole()).body.length)
    await new Promise<void>(resolve => { held.push(resolve) })
    await answerOk(exchange)
  })
  t.after(() => origin.stop())
  const server = new Server().limits({ memoryBudgetBytes: BUDGET, maxLoopDelayMs: 0 })
  const peer = new HttpPeer(origin.authority)
  server.addService(httpProxyService({ upstreamPeer: () => peer }).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const [bound] = await server.start({ log: SILENT_LOG })
  const uploads: RawClient[] = []
  // With what may be kept of them, a quarter of the budget, 60 would hold 2 MB; without it they hold 1.5 MB.
  for (let count = 0; count < 60; count++) {
    const client = await RawClient.connect({ host: '127.0.0.1', port: bound!.port })
    t.after(() => client.destroy())
    await client.write(post(BODY))
    uploads.push(client)
    await waitFor('the upload at the origin', () => held.length === uploads.length, { seen: () => server.stats() })
    assert.ok(server.stats().heldBytes < BUDGET / 4 + uploads.length * 25_000 + BODY.length, `${server.stats().heldBytes} bytes are held`)
    await waitFor('bodies to be given up', () => server.stats().heldBytes < SHORT, { seen: () => server.stats() })
  }
  assert.deepEqual([server.stats().shed, server.stats().activeExchanges], [0, 60])
  for (const release of held) release()
  for (const upload of uploads) assert.equal((await upload.readResponse()).status, 200)
  assert.deepEqual(bodies, uploads.map(() => BODY.length))
})
