import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { WebSocket } from 'ws'
import { createOrigin } from '../../examples/demo-origins.ts'
import { get } from '../support/proxy.ts'
import { startOrigin, startRecipe, type Recipe } from '../support/recipe.ts'
import { answer, response, type ScriptedOrigin } from '../support/scripted-origin.ts'

const HANDSHAKE = [
  'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const OURS = 'Origin: https://app.example'

async function start(t: TestContext): Promise<{ recipe: Recipe; site: ScriptedOrigin }> {
  const site = await startOrigin(t, answer(response(200, 'site')))
  const sockets = createOrigin('sockets').listen(0, '127.0.0.1')
  t.after(() => {
    sockets.close()
    sockets.closeAllConnections()
  })
  await once(sockets, 'listening')
  const SOCKETS = `127.0.0.1:${(sockets.address() as AddressInfo).port}`
  return { recipe: await startRecipe(t, 'websocket', { SITE: site.authority, SOCKETS }), site }
}

test('websocket: a page of ours opens one, and what it sends comes back', async t => {
  const { recipe } = await start(t)
  const socket = new WebSocket(`ws://${recipe.authority}/ws?room=1`, { origin: 'https://app.example' })
  await once(socket, 'open')
  socket.send('hello')
  const [message, isBinary] = await once(socket, 'message') as [Buffer, boolean]
  assert.deepEqual([message.toString(), isBinary], ['hello', false])
  socket.close(1000)
  assert.equal((await once(socket, 'close'))[0], 1000)
})

test('websocket: other sites are kept out, however they spell it; what is no browser gets in', async t => {
  const { recipe } = await start(t)
  const strangers = [
    ['Origin: https://evil.example'], ['Origin: null'], ['Origin:'], ['Origin: http://app.example'],
    ['Origin: https://app.example.evil.test'], ['Origin: https://app.example:8443'],
    [OURS, 'Origin: https://evil.example'], ['Origin: https://evil.example', OURS],
    ['origin: https://app.example, https://evil.example'],
  ]
  for (const lines of strangers) {
    assert.equal((await recipe.exchange(get('/ws', ...HANDSHAKE, ...lines))).status, 403, lines.join())
    for (const target of ['/./x/../ws?a', 'http://a.example/ws']) {
      assert.equal((await recipe.exchange(get(target, ...HANDSHAKE, ...lines))).status, 403, lines.join())
    }
  }
  for (const lines of [[OURS], []]) {
    const client = await recipe.connect()
    await client.write(get('/ws', ...HANDSHAKE, ...lines))
    assert.equal((await client.readHead()).status, 101)
  }
})

test('websocket: no other path becomes a tunnel, whatever the request and the site say', async t => {
  const { recipe, site } = await start(t)
  for (const target of ['/', '/ws/', '/WS', '/ws%2f', '//ws']) {
    const { status, body } = await recipe.exchange(get(target, ...HANDSHAKE, 'Origin: https://evil.example'))
    assert.deepEqual([status, body.toString()], [200, 'site'], target)
  }
  for (const request of site.requests) assert.equal(request.field('upgrade'), null)
  site.script = answer('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n')
  assert.equal((await recipe.exchange(get('/', ...HANDSHAKE, OURS))).status, 502)
})
