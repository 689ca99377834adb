/** Tracers of a service on real sockets: clients let in, turned away and gone, and a peer's tracer without any of the service's. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tracerFaults, type ExchangeEnded, type ExchangeStarted, type RefusalReason, type Tracer } from '../../src/index.ts'
import { get, post, startProxy } from '../support/proxy.ts'
import { waitFor } from '../support/wait-for.ts'

test('tracers: a client that is turned away is told with the reason, and opens nothing', async t => {
  const limits: readonly [RefusalReason, object][] = [
    ['max-connections', { maxConnections: 1 }],
    ['connection-filter', { connectionFilter: () => admitted++ === 0 }],
  ]
  let admitted = 0
  for (const [reason, listener] of limits) {
    const told: string[] = []
    const tracer: Tracer = {
      downstreamAccepted: ({ listener: name, client }) => { told.push(`accepted ${name} ${client.remoteIp}`) },
      downstreamRefused: event => { told.push(`refused ${event.listener} ${event.clientIp} ${event.reason}`) },
      downstreamClosed: ({ requests, protocol }) => { told.push(`closed ${requests} ${protocol}`) },
    }
    const proxy = await startProxy(t, { service: { tracers: [tracer] }, listener })
    const first = await proxy.connect()
    // In the middle of a body: no connection could make room.
    await first.write(post('a body').slice(0, -1))
    await waitFor('the first client\'s request', () => proxy.server.stats().activeExchanges === 1)
    // Reset at once: whether connecting itself fails by that is up to the kernel.
    const second = await proxy.connect().catch(() => null)
    await waitFor('the second client to be turned away', () => told.length === 2, { seen: () => told })
    const name = 'http-proxy/127.0.0.1:0'
    assert.deepEqual(told, [`accepted ${name} 127.0.0.1`, `refused ${name} 127.0.0.1 ${reason}`])
    second?.destroy()
    first.destroy()
    await waitFor('the first client to be gone', () => told.length === 3, { seen: () => told })
    assert.equal(told[2], 'closed 1 h1')
  }
})

test('tracers: a peer\'s tracer alone is told of its exchanges with their times, and async failures are counted', async t => {
  const started: ExchangeStarted[] = [], ended: ExchangeEnded[] = [], faults = tracerFaults.count
  const tracer: Tracer = {
    exchangeStarted: event => { started.push(event) },
    exchangeEnded: event => { ended.push(event) },
    attemptEnded: () => Promise.reject(new Error('planned')),
  }
  const proxy = await startProxy(t, { service: { accessLog: null }, peer: { tracer } })
  await proxy.exchange(get('/one'))
  await proxy.exchange(get('/two'))
  await waitFor('both ends', () => ended.length === 2)
  assert.deepEqual(started.map(({ exchangeId }) => exchangeId), ended.map(({ exchangeId }) => exchangeId))
  assert.deepEqual(started.map(({ client }) => client.remoteIp), ['127.0.0.1', '127.0.0.1'])
  for (const { startedAt, connectedAt, sentAt, firstByteAt, endedAt, status, target, startedWallMs } of ended) {
    assert.deepEqual([status, target.length], [200, 4])
    assert.ok(startedAt > 0 && startedAt <= connectedAt && connectedAt <= sentAt && sentAt <= firstByteAt && firstByteAt <= endedAt)
    assert.ok(Math.abs(Date.now() - startedWallMs) < 60_000)
  }
  assert.equal(tracerFaults.count - faults, 2)
})
