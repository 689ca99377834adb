import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DrainRequest } from '../../src/server/service.ts'
import { get, startProxy } from '../support/proxy.ts'
import { waitFor, within } from '../support/wait-for.ts'

const LONG: DrainRequest = { mode: 'retire', hardDrainMs: 60_000, idleDrainMs: 60_000, closeSpreadMs: 0, webSocketDrainMs: 60_000, tunnelDrainMs: 60_000 }

test('drain: a second request shortens the first, and both learn the outcome', async t => {
  const proxy = await startProxy(t, { leavesExchangesOpen: true, script: () => {} })
  const client = await proxy.connect()
  await client.write(get())
  await waitFor('the request at the origin', () => proxy.origin.requests.length === 1)
  const first = proxy.server.drain(LONG)
  const second = proxy.server.drain({ ...LONG, mode: 'stop', hardDrainMs: 0 })
  assert.deepEqual(await within('the outcome', Promise.all([first, second]), 2_000), [{ cut: 1 }, { cut: 1 }])
})

test('drain: a second request does not give the time that the first one refused', async t => {
  const proxy = await startProxy(t, { leavesExchangesOpen: true, script: () => {} })
  const client = await proxy.connect()
  await client.write(get())
  await waitFor('the request at the origin', () => proxy.origin.requests.length === 1)
  const first = proxy.server.drain({ ...LONG, hardDrainMs: 100 })
  void proxy.server.drain(LONG)
  assert.deepEqual(await within('the outcome', first, 2_000), { cut: 1 })
})

test('drain: a stop after a retirement closes what is idle, in order', async t => {
  const proxy = await startProxy(t)
  const client = await proxy.connect()
  await client.write(get())
  assert.equal((await client.readResponse()).status, 200)
  const first = proxy.server.drain(LONG)
  assert.equal(client.ended, false)
  void proxy.server.drain({ ...LONG, mode: 'stop' })
  assert.equal(await client.closes(), true)
  assert.equal(client.error, null)
  client.end()
  assert.deepEqual(await within('the outcome', first), { cut: 0 })
})

test('drain: on a stop the next request of a busy client is answered, and told to be the last', async t => {
  const proxy = await startProxy(t)
  const [busy, idle] = [await proxy.connect(), await proxy.connect()]
  for (const client of [busy, idle]) {
    await client.write(get())
    assert.equal((await client.readResponse()).status, 200)
  }
  const outcome = proxy.server.drain({ ...LONG, mode: 'stop' })
  await busy.write(get())
  const { status, field } = await busy.readResponse()
  assert.deepEqual([status, field('connection'), idle.ended], [200, 'close', false])
  assert.deepEqual(await Promise.all([busy, idle].map(client => client.closes())), [true, true])
  assert.deepEqual([busy.error, idle.error], [null, null])
  for (const client of [busy, idle]) client.end()
  assert.deepEqual(await within('the outcome', outcome), { cut: 0 })
})

test('drain: a stop without an idle connection does not wait', async t => {
  const proxy = await startProxy(t)
  assert.deepEqual(await within('the outcome', proxy.server.drain({ ...LONG, mode: 'stop' }), 100), { cut: 0 })
})
