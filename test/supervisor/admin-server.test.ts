import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import zlib from 'node:zlib'
import { AdminServer, type AdminSource, type Health } from '../../supervisor/admin-server.ts'
import { SAMPLE } from '../support/samples.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const METRICS = { contentType: 'text/plain', text: '# of a test\n' }

function sourceOf(health: Health, metrics: AdminSource['metrics'] = () => Promise.resolve(METRICS)): AdminSource {
  return { health: () => health, metrics, sample: () => SAMPLE }
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

interface Fetched { readonly status: number; readonly headers: http.IncomingHttpHeaders; readonly body: Buffer }

function fetchFrom(address: string, target: string, options: http.RequestOptions = {}): Promise<Fetched> {
  return within(`the answer to ${target}`, new Promise((resolve, reject) => {
    http.request(`http://${address}${target}`, { agent: false, ...options }, response => {
      const pieces: Buffer[] = []
      response.on('data', (piece: Buffer) => { pieces.push(piece) })
      response.on('end', () => { resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(pieces) }) })
    }).on('error', reject).end()
  }))
}

test('admin server: the status page runs nothing but its own script, and asks nobody but the server that it came from', async t => {
  const server = new AdminServer(sourceOf({ ready: true, started: true, reason: '' }))
  t.after(() => server.close())
  const address = await server.listen('127.0.0.1:0', null)
  for (const target of ['/', '/status', '/?x']) {
    const { status, headers, body } = await fetchFrom(address, target)
    assert.deepEqual([status, headers['content-type'], headers['cache-control']], [200, 'text/html; charset=utf-8', 'no-store'])
    const policy = String(headers['content-security-policy'])
    assert.match(policy, /^default-src 'none'; script-src 'sha256-[\w+/]{43}='; style-src 'sha256-[\w+/]{43}='; connect-src 'self'; /)
    assert.ok(!policy.includes('unsafe') && policy.includes("frame-ancestors 'none'"))
    assert.match(body.toString(), /^<!doctype html>/)
    assert.equal(headers['content-length'], String(body.length))
  }
  const zipped = await fetchFrom(address, '/', { headers: { 'accept-encoding': 'gzip' } })
  assert.equal(zipped.headers['content-encoding'], 'gzip')
  assert.deepEqual(zlib.gunzipSync(zipped.body), (await fetchFrom(address, '/')).body)
  const head = await fetchFrom(address, '/', { method: 'HEAD' })
  assert.deepEqual([head.status, head.body.length], [200, 0])
  assert.equal((await fetchFrom(address, '/status.json', { method: 'POST' })).status, 405)
  const unknown = await fetchFrom(address, '/favicon.ico')
  assert.deepEqual([unknown.status, unknown.body.toString()], [404, 'there are /, /livez, /readyz, /startupz, /metrics and /status.json\n'])
})

test('admin server: however many look at once, a sample is taken once', async t => {
  let taken = 0
  const source = { ...sourceOf({ ready: true, started: true, reason: '' }), sample: () => ({ ...SAMPLE, pid: ++taken }) }
  const server = new AdminServer(source)
  t.after(() => server.close())
  const address = await server.listen('127.0.0.1:0', null)
  const all = await Promise.all(Array.from({ length: 30 }, () => fetchFrom(address, '/status.json')))
  assert.ok(all.every(({ headers }) => headers['content-type'] === 'application/json; charset=utf-8'))
  const pids = all.map(({ body }) => (JSON.parse(body.toString()) as { pid: number }).pid)
  assert.ok(taken < 30 && Math.max(...pids) === taken, `${taken} samples for ${all.length} who asked`)
})

test('admin server: a sample that cannot be taken is an answer as well', async t => {
  const server = new AdminServer({ ...sourceOf({ ready: true, started: true, reason: '' }), sample: () => { throw new Error('no disk') } })
  t.after(() => server.close())
  const { status, body } = await fetchFrom(await server.listen('127.0.0.1:0', null), '/status.json')
  assert.deepEqual([status, body.toString()], [500, 'the status cannot be shown: no disk\n'])
})
