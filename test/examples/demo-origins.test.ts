import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { WebSocket } from 'ws'
import { DemoOrigins } from '../../examples/demo-origins.ts'
import { HttpPeer, LoadBalancer, Server, httpProxyService } from '../../src/index.ts'

/** The origins behind a proxy, as the examples have them. */
const server = new Server()
let upstreams!: LoadBalancer<HttpPeer>
const origins = server.addService(new DemoOrigins(['left', 'right'], addresses => {
  upstreams = LoadBalancer.from(addresses, { peer: backend => new HttpPeer(backend) })
}))
server.addService(httpProxyService({ upstreamPeer: () => upstreams.selectPeer() }).addTcp('127.0.0.1:0')).dependsOn(origins)
let base = ''

before(async () => {
  const [bound] = await server.start()
  base = `http://${bound?.address}`
})
after(() => server.stop())

test('demo origins: requests are shared between the origins', async () => {
  const said = new Set<string>()
  for (let index = 0; index < 4; index++) said.add((/origin (\w+)/.exec(await (await fetch(base)).text()) ?? [])[1] ?? '')
  assert.deepEqual(said, new Set(['left', 'right']))
})

test('demo origins: a body comes back, with and without a length', async () => {
  const body = randomBytes(300_000)
  const back = await fetch(`${base}/echo`, { method: 'POST', body, headers: { 'content-type': 'image/png' } })
  assert.equal(back.headers.get('content-type'), 'image/png')
  assert.deepEqual(Buffer.from(await back.arrayBuffer()), body)
  const parts = new ReadableStream({
    start(controller) { controller.enqueue(body.subarray(0, 5)); controller.enqueue(body.subarray(5)); controller.close() },
  })
  const chunked = await fetch(`${base}/echo`, { method: 'POST', body: parts, duplex: 'half' } as RequestInit)
  assert.deepEqual(Buffer.from(await chunked.arrayBuffer()), body)
})

test('demo origins: uploads are counted, downloads have the size that was asked for', async () => {
  const body = randomBytes(100_000)
  const upload = await (await fetch(`${base}/upload`, { method: 'PUT', body })).json() as { bytes: number; sha256: string }
  assert.deepEqual([upload.bytes, upload.sha256], [100_000, createHash('sha256').update(body).digest('hex')])
  for (const bytes of [0, 1, 65_536, 1_000_001]) {
    assert.equal((await (await fetch(`${base}/download?bytes=${bytes}`)).arrayBuffer()).byteLength, bytes)
  }
})

test('demo origins: the origin\'s view of a request, a slow answer, an unknown path', async () => {
  const seen = await (await fetch(`${base}/headers?a=1`, { headers: { 'x-mine': 'yes' } })).json() as {
    target: string
    headers: Record<string, string>
  }
  assert.equal(seen.target, '/headers?a=1')
  assert.equal(seen.headers['x-mine'], 'yes')
  assert.match(await (await fetch(`${base}/slow?ms=5`)).text(), /^Hello/)
  const unknown = await fetch(`${base}/nothing`)
  assert.equal(unknown.status, 404)
  assert.match(await unknown.text(), /knows no \/nothing/)
})

test('demo origins: a status is what was asked for, from one origin alone where it is named; a page has links to the inside', async () => {
  assert.equal((await fetch(`${base}/status?code=503`)).status, 503)
  assert.equal((await fetch(`${base}/status?code=9999`)).status, 599)
  assert.equal((await fetch(`${base}/status?code=1`)).status, 200)
  const statuses: number[] = []
  for (let index = 0; index < 2; index++) statuses.push((await fetch(`${base}/status?code=500&of=left`)).status)
  assert.deepEqual(statuses.toSorted(), [200, 500])
  assert.equal(await (await fetch(`${base}/health`)).text(), 'ok\n')
  assert.match(await (await fetch(`${base}/page`)).text(), /^<!doctype html>.*"http:\/\/app\.internal\/"/s)
})

test('demo origins: events arrive one by one', async () => {
  const stop = new AbortController()
  const { body, headers } = await fetch(`${base}/events`, { signal: stop.signal })
  assert.match(headers.get('content-type') ?? '', /^text\/event-stream/)
  const reader = body?.getReader()
  const first = await reader?.read()
  assert.match(new TextDecoder().decode(first?.value as Uint8Array), /^id: 0\ndata: \{"origin":"(?:left|right)","count":0\}\n\n$/)
  stop.abort()
})

test('demo origins: a WebSocket sends everything back and closes politely', async () => {
  const socket = new WebSocket(`${base.replace('http', 'ws')}/ws`)
  await once(socket, 'open')
  for (const message of ['hello', '', 'x'.repeat(200), randomBytes(70_000)]) {
    socket.send(message)
    const [back] = await once(socket, 'message') as [Buffer]
    assert.deepEqual(back, Buffer.from(message as string))
  }
  socket.ping('p')
  assert.equal(String((await once(socket, 'pong'))[0]), 'p')
  socket.close(1000, 'done')
  assert.equal((await once(socket, 'close'))[0], 1000)
})

test('demo origins: an upgrade elsewhere is refused', async () => {
  const socket = new WebSocket(`${base.replace('http', 'ws')}/other`)
  const [error] = await once(socket, 'error') as [Error]
  assert.match(error.message, /404/)
})
