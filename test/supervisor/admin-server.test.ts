import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { AdminServer, type AdminSource, type Health } from '../../supervisor/admin-server.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const METRICS = { contentType: 'text/plain', text: '# of a test\n' }

function sourceOf(health: Health, metrics: AdminSource['metrics'] = () => Promise.resolve(METRICS)): AdminSource {
  return { health: () => health, metrics }
}

async function start(t: TestContext, address: string): Promise<AdminServer> {
  const server = new AdminServer(sourceOf({ ready: true, started: false, reason: '' }))
  t.after(() => server.close())
  await server.listen(address, null)
  return server
}

/** The first line of the answer; '' when there was none. */
async function ask(where: net.NetConnectOpts, target: string): Promise<string> {
  const socket = net.connect(where)
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => { text += chunk }).on('error', () => {})
  socket.write(`GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
  await within('the answer', once(socket, 'close'))
  return text.split('\r\n', 1)[0]!
}

test('admin server: a file that is no socket, or a socket on which another program listens, stays what it is', async t => {
  const folder = temporaryFolder(t)
  const file = path.join(folder, 'precious'), taken = path.join(folder, 'taken.sock')
  fs.writeFileSync(file, 'data')
  const other = net.createServer(socket => { socket.on('error', () => {}).end('mine') }).listen(taken)
  await once(other, 'listening')
  t.after(() => other.close())
  await assert.rejects(start(t, `unix:${file}`), /there is a file that is no socket; remove it/)
  await assert.rejects(start(t, `unix:${taken}`), /another program listens there; stop it/)
  assert.equal(fs.readFileSync(file, 'utf8'), 'data')
  assert.equal(await ask({ path: taken }, '/'), 'mine')
})

test('admin server: what a kill has left at its path is replaced, with the rights that were asked for', async t => {
  const at = path.join(temporaryFolder(t), 'admin.sock')
  const left = new net.BoundSocket({ path: at } as unknown as net.BoundSocketOptions)
  const stale = path.join(path.dirname(at), 'stale.sock')
  fs.renameSync(at, stale)
  left.close()
  const server = await start(t, `unix:${stale}?mode=620`)
  assert.equal(fs.statSync(stale).mode & 0o777, 0o620)
  assert.equal(await ask({ path: stale }, '/readyz'), 'HTTP/1.1 200 OK')
  server.close()
  assert.equal(fs.existsSync(stale), false)
})

test('admin server: its end leaves alone what another program has put at its path', async t => {
  const at = path.join(temporaryFolder(t), 'admin.sock')
  const server = await start(t, `unix:${at}`)
  fs.rmSync(at)
  fs.writeFileSync(at, 'data')
  server.close()
  assert.equal(fs.readFileSync(at, 'utf8'), 'data')
})

test('admin server: connections that ask nothing keep nobody out', async t => {
  const server = new AdminServer(sourceOf({ ready: true, started: true, reason: '' }))
  t.after(() => server.close())
  const port = Number(/:(\d+)$/.exec(await server.listen('127.0.0.1:0', null))![1])
  const where = { host: '127.0.0.1', port }
  const idle = Array.from({ length: 200 }, () => net.connect(where).on('error', () => {}))
  t.after(() => { for (const socket of idle) socket.destroy() })
  await waitFor('all to be connected', () => idle.every(socket => !socket.connecting))
  // Some have begun to ask, which is no more.
  for (const socket of idle.slice(100)) if (socket.writable) socket.write('GET /readyz HTTP/1.1\r\n')
  for (let round = 0; round < 20; round++) assert.equal(await ask(where, '/readyz'), 'HTTP/1.1 200 OK')
})
