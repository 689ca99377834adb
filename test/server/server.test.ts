import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test from 'node:test'
import { LoadBalancer } from '../../src/load-balancing/load-balancer.ts'
import { claimRunHost } from '../../src/server/run-host.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import { Server } from '../../src/server/server.ts'
import type { BackgroundService } from '../../src/server/service.ts'
import { PlainService } from '../support/plain-service.ts'
import { get } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

function background(name: string, events: string[], start: BackgroundService['start'] = () => {}): BackgroundService {
  return { kind: 'background', name, start: async signal => {
    events.push(`${name} starts`)
    signal.addEventListener('abort', () => events.push(`${name} ends`))
    await start(signal, SERVER_CONTEXT_DEFAULTS)
    events.push(`${name} ready`)
  } }
}

test('server: services start after what they depend on, one after the other', async () => {
  const events: string[] = []
  const server = new Server()
  const late = server.addService(background('late', events))
  const early = server.addService(background('early', events, () => new Promise(resolve => { setImmediate(resolve) })))
  late.dependsOn(early)
  await server.prepare()
  assert.deepEqual(events, ['early starts', 'early ready', 'late starts', 'late ready'])
  assert.deepEqual(server.describe().services.map(service => service.name), ['early', 'late'])
  server.close()
  assert.deepEqual(events.slice(4), ['early ends', 'late ends'])
})

test('server: circles, missing services and doubled names are refused by name', () => {
  const circle = new Server()
  const a = circle.addService(background('a', []))
  const b = circle.addService(background('b', [])).dependsOn(a)
  a.dependsOn(b)
  assert.throws(() => circle.describe(), /in a circle: a -> b -> a/)
  const missing = new Server()
  missing.addService(background('a', [])).dependsOn('c')
  assert.throws(() => missing.describe(), /'a' depends on 'c', which was not added/)
  assert.throws(() => missing.addService(background('a', [])), /two services are called 'a'/)
})

test('server: one that no client could reach is refused with what would do, described and started; tasks alone are a server', async t => {
  const nothing = /^Error: the server has no services, so it would do nothing; add one: server\.addService\(httpProxyService\(app\)/
  assert.throws(() => new Server().describe(), nothing)
  await assert.rejects(new Server().start(), nothing)
  const unreachable = new Server(), started: string[] = []
  unreachable.addService(background('task', started))
  unreachable.addService(new PlainService('web'))
  const remedy = /^Error: service 'web' has no listener, so no client could reach it; give it an address where you make it: /
  assert.throws(() => unreachable.describe(), remedy)
  await assert.rejects(unreachable.start(), remedy)
  assert.deepEqual(started, [])
  const tasks = new Server()
  t.after(() => { tasks.close() })
  tasks.addService(background('task', []))
  assert.deepEqual([tasks.describe().listeners, await tasks.start()], [[], []])
})

test('server: what is no service is refused with what was meant', () => {
  const refusal = (given: unknown): string => {
    try { new Server().addService(given as BackgroundService) } catch (error) { return (error as Error).message }
    return 'taken'
  }
  assert.equal(refusal({ upstreamPeer() {} }), 'addService was given an application; use httpProxyService(app), with a listener')
  assert.equal(refusal(LoadBalancer.from(['127.0.0.1:1'])), 'addService was given what is no service itself; use its asBackgroundService()')
  const none = 'addService was given no service; use httpProxyService(app), or an object with kind, name and start()'
  for (const other of [null, undefined, 1, {}, () => {}]) assert.equal(refusal(other), none)
})

test('server: describe is plain JSON and starts nothing', () => {
  const server = new Server()
  server.addService(new PlainService('web', '127.0.0.1:8080', 'unix:/run/a.sock?mode=600'))
  server.selfTest({ path: '/health', expect: 200 })
  const description = server.describe()
  assert.deepEqual(JSON.parse(JSON.stringify(description)), description)
  assert.deepEqual(description.listeners, [
    {
      name: 'web/127.0.0.1:8080', service: 'web', canonical: '127.0.0.1:8080', backlog: 511,
      address: { kind: 'tcp', host: '127.0.0.1', port: 8080, ipv6Only: false },
    },
    {
      name: 'web/unix:/run/a.sock?mode=600', service: 'web', canonical: 'unix:/run/a.sock', backlog: 511,
      address: { kind: 'unix', path: '/run/a.sock', mode: 0o600 },
    },
  ])
  assert.deepEqual(description.selfTest, {
    method: 'GET', path: '/health', headers: { host: 'self-test.cirque.invalid' }, expect: { statusMin: 200, statusMax: 200 },
    timeoutMs: 2_000, upstream: false,
  })
})

test('server: the in-process form listens where it says, and stop finishes what is in flight', async t => {
  const socket = path.join(temporaryFolder(t), 'a.sock')
  const server = new Server()
  server.addService(new PlainService('web', '127.0.0.1:0', `unix:${socket}?mode=600`))
  const [tcp, unix] = await server.start()
  assert.match(tcp!.address, /^127\.0\.0\.1:\d+$/)
  assert.equal(unix!.address, `unix:${socket}`)
  assert.equal(fs.statSync(socket).mode & 0o777, 0o600)
  assert.equal(await get(tcp!.port), String(process.pid))
  assert.equal(await get(socket), String(process.pid))
  const slow = get(tcp!.port, '/slow?ms=100')
  await waitFor('the slow request', () => server.stats().activeExchanges === 1)
  const stopped = server.stop()
  assert.equal(await get(tcp!.port), 'ECONNREFUSED')
  assert.equal(await slow, String(process.pid))
  assert.deepEqual(await stopped, { cut: 0 })
  assert.equal(fs.existsSync(socket), false)
  await assert.rejects(server.start(), /was started before/)
})

test('server: when one address cannot be bound nothing stays open', async () => {
  const other = net.createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => other.once('listening', resolve))
  const { port } = other.address() as net.AddressInfo
  const server = new Server()
  server.addService(new PlainService('web', '127.0.0.1:0', `127.0.0.1:${port}`))
  await assert.rejects(server.start(), { code: 'EADDRINUSE' })
  other.close()
})

test('server: a service that fails to start ends the ones before it', async () => {
  const events: string[] = []
  const server = new Server()
  server.addService(background('first', events))
  server.addService(background('second', events, () => { throw new Error('no') }))
  await assert.rejects(server.start(), /no/)
  assert.deepEqual(events, ['first starts', 'first ready', 'second starts', 'first ends', 'second ends'])
})

test('server: runForever hands over to whoever claimed the process', async () => {
  const seen: Server[] = []
  claimRunHost({ run: server => { seen.push(server); return Promise.reject(new Error('taken')) } })
  const server = new Server()
  await assert.rejects(server.runForever(), /taken/)
  assert.deepEqual(seen, [server])
})
