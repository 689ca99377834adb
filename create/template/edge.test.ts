/** `inject` runs a request through the whole of Cirque without a socket, and `origin` stands in for what is behind the edge. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inject } from 'cirque'
import { Edge } from './edge.ts'

const edge = new Edge('127.0.0.1:3000')

test('/hello is answered at the edge', async () => {
  const { status, body } = await inject(edge, { target: '/hello' })
  assert.equal(status, 200)
  assert.equal(body.toString(), 'hello from the edge\n')
})

test('everything else is answered by the origin, and says who brought it', async () => {
  const { status, headers, body } = await inject(edge, { target: '/other' }, {
    origin: request => ({ status: 200, body: `the origin has seen ${request.head.path}` }),
  })
  assert.equal(status, 200)
  assert.equal(headers.get('x-edge'), 'PROJECT')
  assert.equal(body.toString(), 'the origin has seen /other')
})
