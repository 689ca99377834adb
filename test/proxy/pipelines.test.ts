/** Clients that send many requests ahead: all are answered in order, and others have their turn meanwhile. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ProxyHttp } from '../../src/index.ts'
import { get, post, startProxy } from '../support/proxy.ts'
import { response } from '../support/scripted-origin.ts'

const DEPTH = 800

describe('proxy: pipelines', () => {
  for (const later of [false, true]) {
    const given = later ? 'in a microtask' : 'at once'
    it(`another client's request is not behind a whole pipeline whose answers are given ${given}`, async t => {
      const order: string[] = []
      let wake = (): void => {}
      const answer: ProxyHttp<undefined>['requestFilter'] = session => {
        const { target } = session.request
        order.push(target)
        // Written now, it is with the proxy by its next look at its sockets.
        if (target === '/0') wake()
        return session.respond(200, {}, target)
      }
      const proxy = await startProxy(t, { hooks: { requestFilter: later ? async (session, ctx) => answer(session, ctx) : answer } })
      const other = await proxy.connect(), client = await proxy.connect()
      // Both are known to the proxy before the race begins.
      for (const each of [other, client]) {
        await each.write(get('/warm'))
        await each.readResponse()
      }
      let asked: Promise<void> | null = null
      wake = () => { asked = other.write(get('/other')) }
      await client.write(Array.from({ length: DEPTH }, (_, at) => get(`/${at}`)).join(''))
      for (let at = 0; at < DEPTH; at++) assert.equal((await client.readResponse()).body.toString(), `/${at}`)
      await asked
      assert.equal((await other.readResponse()).body.toString(), '/other')
      const behind = order.indexOf('/other') - order.indexOf('/0')
      assert.ok(behind > 0 && behind < DEPTH / 4, `${behind} requests of ${DEPTH} went before the other client's`)
    })
  }

  it('a pipeline with bodies between reaches the origin as it was sent, and its answers come in order', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => {
        const { body } = await exchange.whole()
        await exchange.send(response(200, `${exchange.request.method} ${exchange.request.target} ${body}`))
      },
    })
    const client = await proxy.connect(), depth = 200
    const bytes = Array.from({ length: depth }, (_, at) => at % 3 === 0 ? post(`body ${at}`, `/${at}`) : get(`/${at}`)).join('')
    await client.writeSplit(bytes, [3000, 9001])
    for (let at = 0; at < depth; at++) {
      const expected = at % 3 === 0 ? `POST /${at} body ${at}` : `GET /${at} `
      assert.equal((await client.readResponse()).body.toString(), expected)
    }
    assert.deepEqual(proxy.origin.faults, [])
  })
})
