/** Origins that answer before they have the request, and close without reading the rest of it. */
import assert from 'node:assert/strict'
import net from 'node:net'
import { test, type TestContext } from 'node:test'
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from '../../src/index.ts'
import { RawClient } from '../support/raw-client.ts'
import { head } from '../support/proxy.ts'
import { waitFor } from '../support/wait-for.ts'

const BODY_BYTES = 4_000_000

/** An origin that sends `answer` when a head is there, and is gone. */
async function hastyOrigin(t: TestContext, answer: string): Promise<string> {
  const server = net.createServer(socket => {
    socket.on('error', () => { /* It is being reset. */ })
    socket.once('data', () => {
      socket.pause()
      // With bytes that nobody has read the kernel sends RST behind the answer.
      socket.write(answer, 'latin1', () => socket.destroy())
    })
  })
  server.listen(0, '127.0.0.1')
  await new Promise(resolve => { server.once('listening', resolve) })
  t.after(() => { server.close() })
  return `127.0.0.1:${(server.address() as net.AddressInfo).port}`
}

type Hooks = Partial<ProxyHttp<undefined>>

async function startServer(t: TestContext, origin: string, hooks: Hooks = {}): Promise<{ port: number; server: Server }> {
  const server = new Server(), peer = new HttpPeer(origin)
  const app: ProxyHttp<undefined> = { newCtx: () => undefined, upstreamPeer: () => peer, suppressErrorLog: () => true, ...hooks }
  server.addService(httpProxyService<undefined>(app, { accessLog: null }).addTcp('127.0.0.1:0'))
  t.after(() => server.close())
  const [bound] = await server.start()
  return { port: bound!.port, server }
}

/** A client that writes all of its body before it reads. Null: it was cut. */
async function upload(port: number, framing: string): Promise<{ status: number; complete: boolean; body: string } | null> {
  const client = await RawClient.connect({ host: '127.0.0.1', port })
  try {
    client.pause()
    await client.write(head('POST / HTTP/1.1', framing))
    const piece = 'x'.repeat(65_536), chunked = framing.startsWith('Transfer')
    for (let sent = 0; sent < BODY_BYTES; sent += piece.length) await client.write(chunked ? `10000\r\n${piece}\r\n` : piece)
    client.resume()
    const { status, complete, body } = await client.readResponse()
    return { status, complete, body: body.toString('latin1') }
  } catch {
    return null
  } finally { client.destroy() }
}

const ANSWERS = [
  ['with a length', 'HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge', 413],
  ['with a length, closing', 'HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge', 401],
  ['in chunks', 'HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlarge\r\n0\r\n\r\n', 413],
] as const

for (const [name, answer, status] of ANSWERS) {
  test(`early answers: one ${name} arrives, though its origin read nothing and reset the connection`, async t => {
    const { port, server } = await startServer(t, await hastyOrigin(t, answer))
    for (const framing of [`Content-Length: ${Math.ceil(BODY_BYTES / 65_536) * 65_536}`, 'Transfer-Encoding: chunked']) {
      const got = await Promise.all(Array.from({ length: 12 }, () => upload(port, framing)))
      assert.deepEqual(got, Array.from({ length: 12 }, () => ({ status, complete: true, body: 'large' })))
    }
    await waitFor('the exchanges to end', () => server.stats().activeExchanges === 0, { seen: () => server.stats() })
  })
}

test('early answers: one that ends with its connection was cut by the reset, and does not look whole', async t => {
  const { port } = await startServer(t, await hastyOrigin(t, `HTTP/1.1 200 OK\r\n\r\n${'y'.repeat(1000)}`))
  const got = await Promise.all(Array.from({ length: 8 }, () => upload(port, 'Transfer-Encoding: chunked')))
  for (const one of got) assert.ok(one === null || !one.complete || one.status >= 500, JSON.stringify(one))
})

test('early answers: a body filter in between changes nothing', async t => {
  const hooks: Hooks = { requestBodyFilter: (_session, chunk) => chunk, responseBodyFilter: async (_session, chunk) => chunk }
  const { port } = await startServer(t, await hastyOrigin(t, ANSWERS[0][1]), hooks)
  const got = await Promise.all(Array.from({ length: 12 }, () => upload(port, 'Transfer-Encoding: chunked')))
  assert.deepEqual(got.map(one => one?.status), Array.from({ length: 12 }, () => 413))
})
