/**
 * Who may read into which buffer: bytes that somebody still needs (a write under way, a filter that waits, a request
 * behind a body) are never overwritten by what another connection brings.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { get, head, post, startProxy } from '../support/proxy.ts'
import { chunk, response } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

/** Bytes that say which body they belong to, at every place. */
function bodyOf(seed: number, size: number): Buffer {
  const body = Buffer.alloc(size)
  for (let at = 0; at < size; at++) body[at] = (seed * 31 + at * 7 + (at >> 8)) & 0xff
  return body
}

describe('proxy: buffers', () => {
  it('a piece that a filter still holds is not overwritten by another connection', async t => {
    const { promise: gate, resolve: letGo } = Promise.withResolvers<void>()
    let held = 0
    const proxy = await startProxy(t, {
      hooks: {
        async responseBodyFilter(session, piece, last) {
          if (session.request.target !== '/small' || last) return piece
          held++
          await gate
          return piece
        },
      },
      script: async exchange => {
        const { target } = exchange.request
        await exchange.send(response(200, target === '/small' ? bodyOf(1, 10_000) : bodyOf(target === '/other' ? 2 : 3, 300_000)))
      },
    })
    const first = await proxy.connect()
    // A connection that brought a large body keeps a receive buffer of its own.
    await first.write(get('/large'))
    await first.readResponse()
    await first.write(get('/small'))
    await waitFor('the filter to hold the small body', () => held > 0)
    assert.deepEqual((await proxy.exchange(get('/other'))).body, bodyOf(2, 300_000))
    letGo()
    assert.deepEqual((await first.readResponse()).body, bodyOf(1, 10_000))
  })

  it('what a slow client has not taken yet is not overwritten by another connection', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => {
        const [, seed, size] = exchange.request.target.split('/')
        await exchange.send(response(200, bodyOf(Number(seed), Number(size))))
      },
    })
    const slow = await proxy.connect()
    slow.pause()
    const total = 12_000_000
    await slow.write(get(`/1/${total}`) + get('/2/10000') + get('/3/12000'))
    await waitFor('the proxy to be stopped by the client', async () => {
      const before = proxy.origin.connections[0]?.socket.bytesWritten
      await sleep(50)
      return before !== undefined && before === proxy.origin.connections[0]!.socket.bytesWritten
    })
    slow.resume()
    const others = Promise.all(Array.from({ length: 8 }, async (_, index) => {
      const size = 200_000
      for (let turn = 0; turn < 5; turn++) {
        const { body } = await proxy.exchange(get(`/${10 + index}/${size}`))
        assert.deepEqual(body, bodyOf(10 + index, size))
      }
    }))
    assert.equal(hash((await slow.readResponse({ deadlineMs: 20_000 })).body), hash(bodyOf(1, total)))
    assert.deepEqual((await slow.readResponse()).body, bodyOf(2, 10_000))
    assert.deepEqual((await slow.readResponse()).body, bodyOf(3, 12_000))
    await others
  })

  it('the request behind a body that is framed anew stays as it was sent', async t => {
    const proxy = await startProxy(t, {
      hooks: { requestBodyFilter: (_session, piece) => piece },
      script: async exchange => {
        const { body } = await exchange.whole()
        await exchange.send(response(200, `${exchange.request.method} ${exchange.request.target} ${body.length}`))
      },
    })
    for (const cut of [60, 200, 9000]) {
      const client = await proxy.connect()
      // The rest of the body and the next request arrive in one read, into a buffer that the connection owns.
      await client.writeSplit(post('b'.repeat(20_000), '/one') + get('/two') + post('c', '/three'), [cut])
      assert.equal((await client.readResponse()).body.toString(), 'POST /one 20000')
      assert.equal((await client.readResponse()).body.toString(), 'GET /two 0')
      assert.equal((await client.readResponse()).body.toString(), 'POST /three 1')
    }
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('what is kept of a body for another attempt is not what filters changed in place', async t => {
    let attempts = 0
    const proxy = await startProxy(t, {
      hooks: {
        requestBodyFilter(_session, piece) {
          for (let at = 0; at < piece.length; at++) piece[at]! ^= 0x20
          return piece
        },
        errorWhileProxy(_session, _peer, error) { error.retry = 'always' },
      },
      script: async exchange => {
        const { body } = await exchange.whole()
        if (++attempts < 3) exchange.reset()
        else await exchange.send(response(200, body))
      },
    })
    // May happen twice, as a POST must not.
    const put = head('PUT / HTTP/1.1', 'Content-Length: 5')
    assert.equal((await proxy.exchange(`${put}hello`)).body.toString(), 'HELLO')
    assert.equal(attempts, 3)
  })

  it('downloads, uploads, pipelines, filters and aborts side by side: every body that arrives is its own', async t => {
    const filtered = (target: string): boolean => target.includes('filtered')
    const proxy = await startProxy(t, {
      hooks: {
        responseBodyFilter: (session, piece, last) => last || !filtered(session.request.target) ? piece : sleep(1).then(() => piece),
        requestBodyFilter: (session, piece, last) => last || !filtered(session.request.target) ? piece : { chunk: piece, delayMs: 1 },
      },
      script: async exchange => {
        const [, kind, seed, size] = exchange.request.target.split('/')
        if (kind!.startsWith('up')) {
          await exchange.send(response(200, hash((await exchange.whole()).body)))
          return
        }
        const body = bodyOf(Number(seed), Number(size))
        if (Number(seed) % 3 === 0) {
          await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
          for (let at = 0; at < body.length; at += 30_000) await exchange.send(chunk(body.subarray(at, at + 30_000)))
          await exchange.send('0\r\n\r\n')
        } else await exchange.send(response(200, body))
      },
    })
    let checked = 0
    const until = performance.now() + 2500
    await Promise.all(Array.from({ length: 24 }, async (_, index) => {
      for (let turn = 0; performance.now() < until; turn++) {
        const seed = index * 1000 + turn, client = await proxy.connect()
        const sizes = [9000 + seed % 7000, 100_000 + seed % 100_000, 300 + seed % 300, 400_000]
        const kind = index % 3 === 0 ? 'down-filtered' : 'down'
        if (index % 4 === 3) {
          const body = bodyOf(seed, sizes[turn % 4]!)
          const path = `/${kind.replace('down', 'up')}/${seed}/0`
          const upload = head(`POST ${path} HTTP/1.1`, `Content-Length: ${body.length}`)
          const both = Buffer.concat([Buffer.from(upload), body, Buffer.from(get(`/down/${seed}/9000`))])
          await client.writeSplit(both, [500, 5000])
          assert.equal((await client.readResponse()).body.toString(), hash(body))
          assert.equal(hash((await client.readResponse()).body), hash(bodyOf(seed, 9000)))
        } else {
          if (index % 2 === 0) client.pause()
          await client.write(sizes.map((size, at) => get(`/${kind}/${seed + at}/${size}`)).join(''))
          if (index % 2 === 0) {
            await sleep(seed % 40)
            if (turn % 3 === 2) {
              client.reset()
              continue
            }
            client.resume()
          }
          for (const [at, size] of sizes.entries()) {
            const { body } = await client.readResponse()
            assert.equal(hash(body), hash(bodyOf(seed + at, size)), `client ${index}, turn ${turn}, body ${at}`)
          }
        }
        checked++
        client.destroy()
      }
    }))
    assert.ok(checked > 24, `${checked} rounds`)
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('a piece of an answer that is longer than a filter shows is not sent', async t => {
    const secret = randomBytes(6000)
    const proxy = await startProxy(t, {
      hooks: { responseBodyFilter: (_session, piece) => piece.subarray(1000, 5200) },
      script: async exchange => { await exchange.send(response(200, secret)) },
    })
    assert.deepEqual((await proxy.exchange(get())).body, secret.subarray(1000, 5200))
  })
})

function hash(bytes: Buffer): string { return createHash('sha1').update(bytes).digest('hex') }
