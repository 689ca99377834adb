/**
 * What scripts/abuse sends over HTTP/2, once each and over real sockets: the connection is ended with the right code, the limit is told
 * to tracers, which metrics are made of, and other clients are served.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FLOODS } from '../../scripts/abuse/attacks/http2-floods.ts'
import { Http2Attacker } from '../../scripts/abuse/http2-attacker.ts'
import { get, startProxy } from '../support/proxy.ts'
import { response } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

describe('http2 abuse: each flood is cut with its code, counted by its limit, and hurts nobody else', () => {
  for (const [name, floods] of FLOODS) {
    it(name, async t => {
      const limits: string[] = []
      const proxy = await startProxy(t, {
        script: exchange => exchange.request.target === '/' ? exchange.send(response(200, 'hello')) : undefined,
        leavesExchangesOpen: true,
        service: { tracers: [{ requestRefused: ({ error }) => { limits.push(error.limit) } }] },
      })
      for (const { frames, codes, limit, window } of floods) {
        const attacker = (await Http2Attacker.open(proxy.port, window))!
        limits.length = 0
        for (let round = 0; !attacker.over; round++) {
          attacker.send(frames(round))
          await attacker.breathe()
        }
        await waitFor('the connection to be closed', () => attacker.closed)
        assert.ok(codes.includes(attacker.goAwayCode), `${limit}: ${attacker.goAwayCode}`)
        assert.ok(limits.includes(limit), `${limit} among ${[...new Set(limits)].join(', ')}`)
      }
      const client = await proxy.connect()
      await client.write(get())
      assert.equal((await client.readResponse()).status, 200)
      client.destroy()
    })
  }
})
