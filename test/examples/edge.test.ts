import assert from 'node:assert/strict'
import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import tls from 'node:tls'
import { get } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response } from '../support/scripted-origin.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, writeCertificate } from '../support/test-ca.ts'
import { tlsOrigin } from '../support/tls-origins.ts'

const CA = makeTestCa()
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'

function certificateFiles(t: TestContext): { CERT_FILE: string; KEY_FILE: string } {
  const { certFile, keyFile } = writeCertificate(temporaryFolder(t), 'site', CA.issue({ names: ['site.test'] }))
  return { CERT_FILE: certFile, KEY_FILE: keyFile }
}

/** So many requests on one connection over TLS. @returns their statuses */
async function askOverTls(recipe: Recipe, requests = 1): Promise<number[]> {
  const port = Number(recipe.authority.split(':')[1])
  const socket = tls.connect({ host: '127.0.0.1', port, servername: 'site.test', ca: CA.cert })
  await once(socket, 'secureConnect')
  const statuses: number[] = []
  for (let count = 0; count < requests; count++) {
    socket.write(get())
    const [bytes] = await once(socket, 'data') as [Buffer]
    statuses.push(Number(/^HTTP\/1\.1 (\d+)/.exec(bytes.toString('latin1'))?.[1]))
  }
  socket.destroy()
  return statuses
}

test('edge: HTTP in front of an origin, with as many requests on a connection as its client likes', async t => {
  const origin = await startOrigin(t, answer(response(200, 'hello')))
  const recipe = await startRecipe(t, 'edge', { HTTP_PORT: '0', ORIGIN: origin.authority })
  const client = await recipe.connect()
  for (let count = 0; count < 1_100; count++) {
    await client.write(get())
    const { status, body } = await client.readResponse()
    assert.deepEqual([status, body.toString()], [200, 'hello'])
  }
})

test('edge: HTTPS in front of an origin', async t => {
  const origin = await startOrigin(t, answer(response(200, 'hello')))
  const recipe = await startRecipe(t, 'edge', { TLS_PORT: '0', ORIGIN: origin.authority, ...certificateFiles(t) })
  assert.deepEqual(await askOverTls(recipe, 3), [200, 200, 200])
})

test('edge: HTTPS to an origin whose authority is known, and to no other one', async t => {
  const { cert, key } = CA.issue({ ips: ['127.0.0.1'] })
  const origin = await tlsOrigin(t, { cert, key }, socket => { socket.on('data', () => { socket.write(OK) }) })
  const folder = temporaryFolder(t)
  const known = writeCertificate(folder, 'ca', CA).certFile, other = writeCertificate(folder, 'other', makeTestCa()).certFile
  const env = { TLS_PORT: '0', ORIGIN: `https://${origin.authority}`, ...certificateFiles(t) }
  const recipe = await startRecipe(t, 'edge', { ...env, ORIGIN_CA_FILE: known })
  assert.deepEqual(await askOverTls(recipe, 2), [200, 200])
  const wrong = await startRecipe(t, 'edge', { ...env, ORIGIN_CA_FILE: other })
  assert.deepEqual(await askOverTls(wrong), [502])
})

test('edge: HTTP/2 from clients and to an origin', async t => {
  const server = http2.createServer((_request, reply) => { reply.end('hello') }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sessions: http2.ServerHttp2Session[] = []
  server.on('session', session => { sessions.push(session) })
  t.after(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  const recipe = await startRecipe(t, 'edge', { HTTP_PORT: '0', ORIGIN: `h2c://127.0.0.1:${(server.address() as AddressInfo).port}` })
  const client = http2.connect(`http://${recipe.authority}`), stream = client.request({ ':path': '/' })
  stream.setEncoding('latin1')
  const [headers] = await once(stream, 'response') as [http2.IncomingHttpHeaders], [body] = await once(stream, 'data') as [string]
  assert.deepEqual([headers[':status'], body, sessions.length], [200, 'hello', 1])
  client.destroy()
})
