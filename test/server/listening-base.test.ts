/** What users see of a service, and what the process gives it. How it accepts is in accepting-model.test.ts, drains in drain.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpPeer, httpProxyService, inject, Server, SILENT_LOG, type ProxyHttp } from '../../src/index.ts'
import { HttpProxy } from '../../src/server/http-proxy-service.ts'
import type { ProcessLog } from '../../src/ipc/process-log.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import type { Tracer } from '../../src/telemetry/tracer.ts'
import { RawClient } from '../support/raw-client.ts'
import { get } from '../support/proxy.ts'
import { waitFor } from '../support/wait-for.ts'

const app: ProxyHttp<undefined> = {
  newCtx: () => undefined, upstreamPeer: () => new HttpPeer('127.0.0.1:1'), requestFilter: session => session.respond(204),
}

/** Members of an object that plain JavaScript sees, those of its classes included. */
function membersOf(object: object): string[] {
  const names = new Set<string>()
  for (let at = object; at !== Object.prototype; at = Object.getPrototypeOf(at) as object) {
    for (const name of Object.getOwnPropertyNames(at)) names.add(name)
  }
  names.delete('constructor')
  return [...names].toSorted()
}

test('listening service: it shows what adds listeners and what a server needs, and nothing else', () => {
  const service = httpProxyService(app)
  type Member = keyof HttpProxy<undefined>
  const forServer: readonly Member[] = [
    'acceptSelfTest', 'bind', 'certificates', 'check', 'close', 'counted', 'drain', 'explain', 'kind', 'listeners', 'notices', 'parts',
    'reloadCertificates', 'start', 'stats',
    'watch',
  ]
  assert.deepEqual(membersOf(service), ['addTcp', 'addTls', 'addUnix', 'name', ...forServer].toSorted())
})

test('listening service: an embedded server tells its log of a hook that throws, and logs requests where it is told', async t => {
  const said: string[] = [], logged: number[] = []
  const log: ProcessLog = { info() {}, warn() {}, error: (message, fields) => { said.push(`${message}: ${String(fields?.['error'])}`) } }
  const server = new Server()
  server.addService(httpProxyService<undefined>({ ...app, logging() { throw new Error('planned') } }).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const [bound] = await server.start({ log, accessLog: { exchange: ({ status }) => { logged.push(status) }, refused() {} } })
  const client = await RawClient.connect({ host: '127.0.0.1', port: bound!.port })
  await client.write(get())
  assert.equal((await client.readResponse()).status, 204)
  client.destroy()
  await waitFor('the log', () => said.length > 0)
  assert.deepEqual([said, logged], [['logging failed; the request was not touched by that: planned'], [204]])
})

test('listening service: an embedded server that is given no log tells stderr, and one with a silent log nobody', async t => {
  const said: string[] = []
  // What the process finds odd about itself at the start is told as well, and depends on the machine.
  t.mock.method(process.stderr, 'write', (line: string) => { if (line.includes('planned')) said.push(line) })
  for (const context of [{ log: SILENT_LOG }, {}]) {
    const server = new Server()
    server.addService(httpProxyService<undefined>({ ...app, requestFilter() { throw new Error('planned') } }).addTcp('127.0.0.1:0'))
    t.after(() => server.close())
    const [bound] = await server.start(context)
    const client = await RawClient.connect({ host: '127.0.0.1', port: bound!.port })
    await client.write(get())
    assert.equal((await client.readResponse()).status, 500)
    client.destroy()
  }
  assert.equal(said.length, 1)
  assert.match(said[0]!, /a request failed inside the proxy/)
  assert.match(said[0]!, /HOOK_FAILED \(internal\): requestFilter: planned/)
  assert.match(said[0]!, /listening-base\.test\.ts:\d+/)
})

test('listening service: what an operator sets counts over what the code says', async () => {
  const service = new HttpProxy(app, {}).addTcp('127.0.0.1:0', { maxUriBytes: 4000 }).addTcp('127.0.0.2:0')
  const log = { info() {}, warn() {}, error() {} }
  const silent = { log, accessLog: null, tracers: [], counting: null, tracing: null, faultReports: null, calls: null, workers: 1 }
  const listeners = { '*': { maxHeaderCount: 7 }, 'http-proxy/127.0.0.1:0': { maxUriBytes: 500 } }
  await service.start({ ...silent, settings: { limits: {}, listeners } })
  const options = service.listeners.map(listener => [listener.options.maxUriBytes, listener.options.maxHeaderCount])
  assert.deepEqual(options, [[500, 7], [8192, 7]])
})

test('listening service: the tracers of a process are told behind those of each service', async t => {
  const told: string[] = []
  const own: Tracer = { exchangeEnded: ({ listener }) => { told.push(`own ${listener}`) } }
  const server = new Server()
  server.addService(httpProxyService<undefined>(app, { name: 'a', tracers: [own] }).addTcp('127.0.0.1:0'))
  server.addService(httpProxyService<undefined>(app, { name: 'b' }).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const tracer: Tracer = { exchangeEnded: ({ listener }) => { told.push(`process ${listener}`) } }
  for (const { port } of await server.start({ log: SILENT_LOG, tracers: [tracer] })) {
    const client = await RawClient.connect({ host: '127.0.0.1', port })
    await client.write(get())
    await client.readResponse()
    client.destroy()
  }
  await waitFor('three ends', () => told.length === 3, { seen: () => told })
  assert.deepEqual(told, ['own a/127.0.0.1:0', 'process a/127.0.0.1:0', 'process b/127.0.0.1:0'])
})

test('listening service: two servers of one process have their own logs', async t => {
  const said: string[] = []
  for (const name of ['a', 'b']) {
    const server = new Server()
    server.addService(httpProxyService<undefined>({ ...app, logging() { throw new Error(name) } }, { name }).addTcp('127.0.0.1:0'))
    t.after(() => server.close())
    const error: ProcessLog['error'] = (_message, fields) => { said.push(`${name} hears of ${String(fields?.['service'])}`) }
    const log: ProcessLog = { info() {}, warn() {}, error }
    const [bound] = await server.start({ log })
    const client = await RawClient.connect({ host: '127.0.0.1', port: bound!.port })
    await client.write(get())
    await client.readResponse()
    client.destroy()
  }
  await waitFor('both logs', () => said.length === 2)
  assert.deepEqual(said, ['a hears of a', 'b hears of b'])
})

test('listening service: a stream from memory passes the filter of its listener like any other', async () => {
  await assert.rejects(inject(app, {}, { origin: () => ({}), listener: { connectionFilter: () => false } }))
})

test('listening service: limits of a server hold for all of its services together, and an operator has the last word', async t => {
  assert.throws(() => new Server().limits({ maxConnections: -1, maxLoopDelay: 5 } as never), {
    message: 'limits.maxConnections is -1; use 0 (leaves only the descriptors as a limit) or a positive whole number\n' +
      'limits.maxLoopDelay is not an option; use maxLoopDelayMs',
  })
  const server = new Server().limits({ maxConnections: 2, maxLoopDelayMs: 0 })
  for (const name of ['a', 'b']) server.addService(httpProxyService(app, { name }).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const [first, second] = await server.start()
  const clients: RawClient[] = []
  for (const port of [first!.port, first!.port, second!.port]) {
    const client = await RawClient.connect({ host: '127.0.0.1', port })
    t.after(() => client.destroy())
    await client.write(get())
    assert.equal((await client.readResponse()).status, 204)
    clients.push(client)
  }
  await waitFor('the client that waited for longest to be cut', () => clients[0]!.closed)
  const { connections, evicted } = server.stats()
  assert.deepEqual([connections, evicted, clients.map(({ closed }) => closed)], [2, 1, [true, false, false]])

  const told: string[] = []
  const operated = new Server().limits({ maxConnections: 2 })
  operated.addService({
    kind: 'listening', name: 'one', listeners: [], bind() { throw new Error('it has none') }, stats: () => ({}), close() {},
    drain: async () => ({ cut: 0 }), start: (_context, admission) => { told.push(String(admission.maxConnections)) },
  })
  t.after(() => operated.close())
  await operated.prepare({ ...SERVER_CONTEXT_DEFAULTS, settings: { limits: { maxConnections: 7 }, listeners: {} } })
  assert.deepEqual(told, ['7'])
})
