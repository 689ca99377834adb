/** What a process counts, through the one table that heartbeats and `cirque status --json` show. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { Resolver } from '../../src/connector/resolver.ts'
import { TransportConnector } from '../../src/connector/transport-connector.ts'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import { functionDiscovery, HttpPeer, httpProxyService, LoadBalancer, Server } from '../../src/index.ts'
import { resolveHealthCheckOptions } from '../../src/load-balancing/health-check.ts'
import { RawClient } from '../support/raw-client.ts'
import { ScriptedOrigin } from '../support/scripted-origin.ts'
import { get } from '../support/proxy.ts'

test('counts: pool, dials, names, listeners and balancers are in the stats of a server, and what services share is there once', async t => {
  const origin = await ScriptedOrigin.start()
  t.after(() => origin.stop())
  const query = (): Promise<never> => Promise.reject(Object.assign(new Error('none'), { code: 'ENOTFOUND' }))
  const resolver = new Resolver({ createSource: () => ({ query }) })
  const connector = new HttpConnector({ transport: new TransportConnector({ resolver }) })
  const balancer = LoadBalancer.from([origin.authority, '127.0.0.1:9'], { resolver, maxFails: 1 })
  balancer.selectWith('', backend => backend.name === '127.0.0.1:9').report(false)
  const server = new Server()
  server.addService(balancer.asBackgroundService())
  for (const name of ['one', 'other']) {
    const upstreamPeer = (session: { request: { target: string } }): HttpPeer =>
      new HttpPeer(session.request.target === '/nowhere' ? 'nowhere.test:80' : origin.authority)
    const app = { newCtx: () => undefined, upstreamPeer, suppressErrorLog: () => true }
    server.addService(httpProxyService(app, { name, connector }).addTcp('127.0.0.1:0'))
  }
  const bound = await server.start()
  t.after(() => { server.close() })
  for (const { port } of bound) {
    const client = await RawClient.connect({ host: '127.0.0.1', port })
    t.after(() => { client.destroy() })
    await client.write(get('/'))
    assert.equal((await client.readResponse()).status, 200)
  }
  const client = await RawClient.connect({ host: '127.0.0.1', port: bound[0]!.port })
  t.after(() => { client.destroy() })
  await client.write(get('/nowhere'))
  assert.equal((await client.readResponse()).status, 502)
  const stats = server.stats()
  const { accepted, turnedAway, poolIdle, poolLent, poolHits, poolMisses, dials, dialsFailed } = stats
  const { nameQuestions, nameNegatives, backends, backendsReady } = stats
  assert.deepEqual([accepted, turnedAway], [3, 0])
  assert.deepEqual([poolIdle, poolLent, poolHits], [1, 0, 1])
  assert.ok(poolMisses > 1)
  assert.ok(dials > dialsFailed && dialsFailed >= 1, `${dials} dials, ${dialsFailed} failed`)
  assert.equal(nameQuestions, nameNegatives)
  assert.ok(nameQuestions >= 1)
  assert.deepEqual([backends, backendsReady], [2, 1])
  assert.deepEqual(server.notices(), ['upstream: 127.0.0.1:9 gets no traffic, an attempt failed'])
  assert.deepEqual(Object.keys(server.stats()), Object.keys(NO_COUNTS))
  const health = [...server.health()].map(({ targets, ...rest }) => ({ ...rest, up: [...targets].map(({ ready }) => ready) }))
  assert.deepEqual(health, [{ upstream: 'upstream', ejections: { attempts: 1, check: 0 }, up: [true, false] }])
  assert.ok(stats.memoryBudgetBytes > 0 && stats.connectionLimit > 0)
})

test('counts: what an operator is told of many backends is a few lines, and never two in one', async t => {
  const addresses = Array.from({ length: 40 }, (_, i) => `127.0.0.1:${i + 1}`)
  const check = { options: resolveHealthCheckOptions({ startUnhealthy: true }), probe: () => Promise.reject(new Error('a\nb')) }
  const server = new Server()
  server.addService(LoadBalancer.from(addresses, { name: 'api', healthCheck: check }).asBackgroundService())
  server.addService(new LoadBalancer(functionDiscovery(() => []), { name: 'empty', allowEmpty: true }).asBackgroundService())
  await server.prepare()
  t.after(() => { server.close() })
  const notices = server.notices()
  assert.deepEqual([notices.length, notices[0], notices.at(-1)], [17, 'api: 127.0.0.1:1 gets no traffic', 'and 25 more'])
  assert.ok(notices.every(notice => notice.length <= 200 && !notice.includes('\n')))
})
