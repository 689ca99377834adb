import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HeaderMap } from '../../src/http/header-map.ts'
import { HttpPeer } from '../../src/peer/http-peer.ts'
import type { ProxyHttp } from '../../src/proxy/proxy-http.ts'
import { inject, type InjectOrigin } from '../../src/server/inject.ts'

const peer = new HttpPeer('10.0.0.1:80')
const app: ProxyHttp<undefined> = { newCtx: () => undefined, upstreamPeer: () => peer, suppressErrorLog: () => true }

test('inject: a request goes through the phases to a function that stands in for the origin', async () => {
  const seen: string[] = []
  const origin: InjectOrigin = ({ head, body, peer }) => {
    seen.push(`${head.method} ${head.target} ${head.headers.get('x-added')} ${body.toString()} ${peer.name}`)
    return { status: 201, headers: { 'X-Origin': 'yes' }, body: 'made' }
  }
  const filtered: ProxyHttp<undefined> = { ...app, upstreamRequestFilter: (_session, head) => { head.headers.set('X-Added', '1') } }
  const response = await inject(filtered, { method: 'POST', target: '/a?b', body: 'text' }, { origin })
  assert.deepEqual(seen, ['POST /a?b 1 text 10.0.0.1:80'])
  assert.deepEqual([response.status, response.headers.get('x-origin'), response.body.toString()], [201, 'yes', 'made'])
})

test('inject: chunks and trailers arrive as one message, both ways', async () => {
  const origin: InjectOrigin = ({ head, body }) => {
    return { body: `${head.headers.get('transfer-encoding')} ${body.toString()}`, trailers: { 'X-Sum': '7' } }
  }
  const response = await inject(app, { method: 'PUT', chunks: ['a', Buffer.from('b'), 'c'], trailers: { 'X-T': '1' } }, { origin })
  assert.equal(response.body.toString(), 'chunked abc')
  assert.equal(response.trailers?.get('x-sum'), '7')
})

test('inject: interim responses come before the final one', async () => {
  const hinting: ProxyHttp<undefined> = {
    ...app,
    requestFilter(session) {
      session.sendInterim(103, { Link: '</a>' })
      return session.respond(204)
    },
  }
  const response = await inject(hinting)
  assert.deepEqual(response.interim.map(one => [one.status, one.headers.get('link')]), [[103, '</a>']])
  assert.equal(response.status, 204)
})

test('inject: large bodies pass whole', async () => {
  const body = Buffer.alloc(3_000_000, 'x')
  const response = await inject(app, { method: 'POST', body }, { origin: given => ({ body: given.body }) })
  assert.ok(response.body.equals(body))
})

test('inject: an origin that throws breaks its connection, which is answered 502', async () => {
  const response = await inject(app, {}, { origin: () => { throw new Error('planned') } })
  assert.equal(response.status, 502)
})

test('inject: the limits of the listener hold, and fields that no request may have are refused', async () => {
  const long = await inject(app, { headers: { 'X-Long': 'x'.repeat(2000) } }, { origin: () => ({}), listener: { maxHeadBytes: 1024 } })
  assert.equal(long.status, 431)
  await assert.rejects(inject(app, { headers: { 'X-A': 'a\r\nb' } }, { origin: () => ({}) }), TypeError)
  const origin: InjectOrigin = ({ head }) => ({ body: head.headers.get('x-a')! })
  assert.equal((await inject(app, { headers: HeaderMap.from({ 'X-A': '1' }) }, { origin })).body.toString(), '1')
})

test('inject: an exchange that is cut rejects', async () => {
  const cut: ProxyHttp<undefined> = {
    ...app,
    responseBodyFilter(_session, _chunk, last) {
      if (last) throw new Error('planned')
      return null
    },
  }
  await assert.rejects(inject(cut, {}, { origin: () => ({ body: 'x' }) }), { name: 'ProxyError' })
})
