/** How a server in a process that is somebody else's takes connections from its queues; that of a worker is in test/integration/. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import net from 'node:net'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { HttpPeer, httpProxyService, Server, SILENT_LOG, type StartContext } from '../../src/index.ts'
import { get } from '../support/proxy.ts'
import { RawClient } from '../support/raw-client.ts'
import { temporaryFolder, writeTree } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }
const INDEX = path.join(import.meta.dirname, '../../src/index.ts')
const CLIENTS = 30

/** Many clients dial within one turn of the loop. Resolves to how many were let in within one, at most, when all were answered. */
async function mostInOneTurn(t: TestContext, context: StartContext): Promise<number> {
  let inTurn = 0, most = 0
  const connectionFilter = (): boolean => {
    if (++inTurn === 1) setImmediate(() => { inTurn = 0 })
    most = Math.max(most, inTurn)
    return true
  }
  const server = new Server()
  server.addService(httpProxyService({
    newCtx: () => undefined,
    upstreamPeer: () => new HttpPeer('127.0.0.1:1'),
    requestFilter: session => session.respond(200, {}, 'hello'),
  }).addTcp('127.0.0.1:0', { connectionFilter }))
  const [bound] = await server.start({ log: SILENT_LOG, ...context })
  t.after(() => { server.close() })
  let answered = 0
  for (let dialled = 0; dialled < CLIENTS; dialled++) {
    const client = net.connect(bound!.port, bound!.host)
    t.after(() => client.destroy())
    client.on('error', () => { /* It is not answered, which is seen. */ })
    client.setEncoding('latin1').on('data', text => { if (String(text).endsWith('\r\n\r\nhello')) answered++ })
    client.write(get())
  }
  await waitFor('every answer', () => answered === CLIENTS, { seen: () => answered })
  return most
}

test('server: in another process it takes what waits in one turn of the loop when it may call the system', LINUX_ONLY, async t => {
  const most = await mostInOneTurn(t, { systemCalls: true })
  assert.ok(most > CLIENTS / 2, `${most} in one turn`)
})

test('server: a connection whose request waits to be read is not cut for want of room', LINUX_ONLY, async t => {
  let writes = (): void => {}
  const connectionFilter = (): boolean => {
    writes()
    return true
  }
  const server = new Server()
  server.addService(httpProxyService({
    upstreamPeer: () => new HttpPeer('127.0.0.1:1'),
    requestFilter: session => session.respond(200, {}, 'hello'),
  }).addTcp('127.0.0.1:0', { connectionFilter, maxConnections: 2 }))
  const [bound] = await server.start({ log: SILENT_LOG, systemCalls: true })
  t.after(() => { server.close() })
  const clients: RawClient[] = []
  for (let dialled = 0; dialled < 2; dialled++) {
    const client = await RawClient.connect(bound!)
    t.after(() => client.destroy())
    await client.write(get())
    await client.readResponse()
    clients.push(client)
  }
  const [patient, busy] = clients as [RawClient, RawClient]
  // Within the turn in which the server lets two others in, a request of the second client is on its way.
  writes = () => {
    writes = () => {}
    busy.socket.write(get())
  }
  const others = [0, 1].map(() => net.connect(bound!.port, bound!.host))
  t.after(() => { for (const other of others) other.destroy() })
  for (const other of others) other.on('error', () => { /* One of them may be cut. */ })
  assert.equal((await busy.readResponse()).status, 200)
  await waitFor('room for both', () => server.stats().evicted === 2)
  assert.deepEqual([patient.closed, busy.closed], [true, false])
})

test('server: in another process it calls nothing native unasked, and takes one connection in each turn of the loop', async t => {
  assert.equal(await mostInOneTurn(t, {}), 1)
  const folder = temporaryFolder(t)
  writeTree(folder, {
    'app.ts': `
      import { HttpPeer, Server, SILENT_LOG, httpProxyService } from '${INDEX}'
      const server = new Server()
      const app = { newCtx: () => undefined, upstreamPeer: () => new HttpPeer('127.0.0.1:1') }
      server.addService(httpProxyService(app).addTcp('127.0.0.1:0'))
      await server.start({ log: SILENT_LOG })
      await server.stop()`,
  })
  // Whoever loads node:ffi has a warning there.
  const { status, stderr } = spawnSync(process.execPath, [path.join(folder, 'app.ts')], { encoding: 'utf8' })
  assert.deepEqual([status, stderr], [0, ''])
})

test('server: in another process without system calls it says so, and serves all the same', async t => {
  const before = process.env['CIRQUE_SYSTEM_CALLS'], said: string[] = []
  t.after(() => {
    if (before === undefined) delete process.env['CIRQUE_SYSTEM_CALLS']
    else process.env['CIRQUE_SYSTEM_CALLS'] = before
  })
  process.env['CIRQUE_SYSTEM_CALLS'] = 'off'
  const log = { info() {}, error() {}, warn: (message: string, fields = {}) => { said.push(`${message} ${JSON.stringify(fields)}`) } }
  assert.equal(await mostInOneTurn(t, { systemCalls: true, log }), 1)
  const lines = said.filter(one => one.includes('in each turn of the event loop'))
  assert.equal(lines.length, 1)
  assert.match(lines[0]!, /there are no system calls \{"reason":"CIRQUE_SYSTEM_CALLS=off"\}$/)
})
