/**
 * Hooks that throw, reject or return what they must not, and peers that use what a hook does: the exchange is answered
 * or cut, its connection keeps in step, and the worker lives on.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ProxyError, type ProxyHttp, type Session } from '../../src/index.ts'
import type { Verdict } from '../../src/proxy/session.ts'
import { get, head, post, startProxy } from '../support/proxy.ts'
import { answer, response } from '../support/scripted-origin.ts'
import { waitFor } from '../support/wait-for.ts'

type Hooks = Partial<ProxyHttp<undefined>>
/** Hooks as JavaScript would let somebody write them. */
const wrong = (hooks: Record<string, unknown>): Hooks => hooks as Hooks
const fails = (): never => { throw new Error('a hook that fails') }
const echo = ({ request }: { readonly request: { readonly method: string; readonly target: string } }): Buffer => {
  return response(200, `${request.method} ${request.target}`)
}

describe('proxy: results that hooks must not give', () => {
  const TRAILERS = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-note: y\r\n\r\n'
  const INTERIM = `HTTP/1.1 103 Early Hints\r\n\r\n${response(200, 'ok').toString()}`
  const CASES: readonly { name: string; hooks: Hooks; status: number | 'cut'; answer?: string; request?: string }[] = [
    { name: 'no peer at all', hooks: wrong({ upstreamPeer: () => undefined }), status: 500 },
    { name: 'a peer without options', hooks: wrong({ upstreamPeer: () => ({ reuseKey: 'x' }) }), status: 500 },
    { name: 'a promise of null instead of a peer', hooks: wrong({ upstreamPeer: async () => null }), status: 500 },
    { name: 'failToProxy resolves to null', hooks: wrong({ requestFilter: fails, failToProxy: async () => null }), status: 500 },
    {
      name: 'failToProxy resolves to a status that is none',
      hooks: wrong({ requestFilter: fails, failToProxy: async () => ({ status: 7000, canReuseDownstream: true }) }),
      status: 500,
    },
    {
      name: 'failToProxy says it sent an interim status',
      hooks: wrong({ requestFilter: fails, failToProxy: () => ({ status: 103, canReuseDownstream: true }) }),
      status: 500,
    },
    {
      name: 'a fault with a status that is none',
      hooks: { requestFilter() { throw new ProxyError('STATUS', 'internal', 'odd', { status: 42 }) } },
      status: 500,
    },
    { name: 'something thrown that has no text', hooks: { requestFilter() { throw Object.create(null) } }, status: 500 },
    {
      name: 'failToConnect is asynchronous and rejects',
      hooks: wrong({ requestFilter: fails, failToConnect: async () => fails(), errorWhileProxy: async () => fails() }),
      status: 500,
    },
    { name: 'newCtx is asynchronous and rejects', hooks: wrong({ newCtx: async () => fails() }), status: 500 },
    { name: 'errorWhileProxy returns a text', hooks: wrong({ upstreamRequestFilter: fails, errorWhileProxy: () => 'no' }), status: 500 },
    { name: 'respond with an interim status', hooks: { requestFilter: session => session.respond(103) }, status: 500 },
    { name: 'respond, and then continue', hooks: { requestFilter(session) { session.respond(403); return 'continue' } }, status: 500 },
    { name: 'respond twice', hooks: { requestFilter(session) { session.respond(403); return session.respond(404) } }, status: 500 },
    {
      name: 'respond in a response filter of a module',
      hooks: { modules: [{ name: 'm', responseFilter(session) { session.respond(403) } }] },
      status: 500,
    },
    {
      name: 'respond in failToProxy, then throw',
      hooks: { requestFilter: fails, failToProxy(session) { session.respond(403); throw new Error('again') } },
      status: 500,
    },
    { name: 'a response filter makes it 101', hooks: { responseFilter(_session, one) { one.status = 101 } }, status: 500 },
    { name: 'a response filter makes it 103', hooks: { responseFilter(_session, one) { one.status = 103 } }, status: 500 },
    {
      name: 'a response filter splits the reason',
      hooks: { responseFilter(_session, one) { one.reason = 'OK\r\nSet-Cookie: a=b' } },
      status: 500,
    },
    {
      name: 'an interim filter splits the reason',
      hooks: { interimResponseFilter(_session, one) { one.reason = 'x\r\nSet-Cookie: a=b'; return 'forward' } },
      status: 500,
      answer: INTERIM,
    },
    {
      name: 'an interim filter makes it final',
      hooks: { interimResponseFilter(_session, one) { one.status = 200; return 'forward' } },
      status: 500,
      answer: INTERIM,
    },
    {
      name: 'an interim filter that is asynchronous',
      hooks: wrong({ interimResponseFilter: async () => fails() }),
      status: 500,
      answer: INTERIM,
    },
    { name: 'a text as a delayed chunk', hooks: wrong({ responseBodyFilter: () => ({ chunk: 'text', delayMs: 5 }) }), status: 'cut' },
    { name: 'nothing as a body result', hooks: wrong({ responseBodyFilter: () => undefined }), status: 'cut' },
    { name: 'a text instead of trailers', hooks: wrong({ responseTrailerFilter: () => 'text' }), status: 'cut', answer: TRAILERS },
    { name: 'null instead of trailers', hooks: wrong({ responseTrailerFilter: async () => null }), status: 'cut', answer: TRAILERS },
    {
      name: 'a text as a request chunk',
      hooks: wrong({ requestBodyFilter: () => ({ chunk: 'text', delayMs: 5 }) }),
      status: 500,
      request: post('hello'),
    },
    {
      name: 'logging and the rest reject',
      hooks: wrong({
        logging: async () => fails(),
        persistConnectionContext: async () => fails(),
        requestSummary: async () => fails(),
        suppressErrorLog: async () => fails(),
      }),
      status: 200,
    },
  ]
  for (const { name, hooks, status, answer: bytes, request } of CASES) {
    it(name, async t => {
      const proxy = await startProxy(t, { hooks, ...(bytes === undefined ? {} : { script: answer(bytes) }) })
      const client = await proxy.connect()
      for (let turn = 0; turn < 2 && !client.closed && !client.ended; turn++) {
        await client.write(request ?? get())
        if (status === 'cut') {
          // RST may overtake the head.
          const got = await client.readResponse().catch(() => null)
          assert.ok(got === null || !got.complete)
          break
        }
        const got = await client.readResponse()
        assert.equal(got.status, status)
        assert.ok(!got.raw.toString('latin1').includes('Set-Cookie'))
        if (got.field('connection') === 'close') break
      }
      client.destroy()
      await waitFor('the exchange to end', () => proxy.server.stats().activeExchanges === 0, { seen: () => proxy.server.stats() })
    })
  }

  it('a method that a filter changes does not change how the client is answered', async t => {
    const proxy = await startProxy(t, {
      hooks: {
        requestFilter({ request }) {
          request.method = request.method === 'HEAD' ? 'GET' : request.target === '/head' ? 'HEAD' : request.method
          return 'continue'
        },
      },
      script: async exchange => {
        const headAlone = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'
        await exchange.send(exchange.request.method === 'HEAD' ? headAlone : response(200, 'hello'))
      },
    })
    const client = await proxy.connect()
    await client.write(head('HEAD / HTTP/1.1') + get('/head') + get('/last'))
    assert.equal((await client.readResponse({ method: 'HEAD' })).status, 200)
    const second = await client.readResponse()
    assert.deepEqual([second.version, second.field('content-length')], ['HTTP/1.1', '0'])
    const last = await client.readResponse()
    assert.deepEqual([last.version, last.body.toString()], ['HTTP/1.1', 'hello'])
  })

  it('a session that a hook keeps writes nothing into the next exchange, and keeps its own numbers', async t => {
    const kept: Session[] = []
    const proxy = await startProxy(t, {
      hooks: {
        async requestFilter(session): Promise<Verdict> {
          kept.push(session)
          if (kept.length === 2) {
            kept[0]!.sendInterim(103, { 'X-Of': 'the first' })
            kept[0]!.closeAfterResponse()
            assert.throws(() => kept[0]!.respond(200))
            await assert.rejects(kept[0]!.readBody(10))
          }
          return 'continue'
        },
      },
      script: async exchange => { await exchange.send(response(200, 'x'.repeat(exchange.request.target === '/one' ? 10 : 20))) },
    })
    const client = await proxy.connect()
    await client.write(get('/one'))
    await client.readResponse()
    await client.write(get('/two'))
    const second = await client.readResponse()
    assert.deepEqual([second.interim.length, second.field('connection')], [0, null])
    assert.deepEqual([kept[0]!.bytesSent, kept[1]!.bytesSent], [10, 20])
  })

  it('an application that gives up reading a body passes all of it on', async t => {
    const proxy = await startProxy(t, {
      hooks: {
        async requestFilter(session): Promise<Verdict> {
          await session.readBody(10).catch(() => null)
          return 'continue'
        },
      },
      script: async exchange => { await exchange.send(response(200, (await exchange.whole()).body)) },
    })
    const body = '0123456789'.repeat(5)
    const client = await proxy.connect()
    const chunks = `8\r\n${body.slice(0, 8)}\r\n2a\r\n${body.slice(8)}\r\n0\r\n\r\n`
    await client.writeSplit(head('POST / HTTP/1.1', 'Transfer-Encoding: chunked') + chunks, [70, 90])
    assert.equal((await client.readResponse()).body.toString(), body)
  })
})

describe('proxy: what peers may make of hooks', () => {
  it('Connection cannot name a field that a filter adds', async t => {
    const proxy = await startProxy(t, {
      hooks: {
        requestFilter({ request }) { request.headers.set('X-Checked', 'yes'); return 'continue' },
        upstreamRequestFilter(_session, request) { request.headers.set('X-User', '42') },
        responseFilter(_session, one) { one.headers.set('X-Frame-Options', 'DENY') },
      },
      script: answer('HTTP/1.1 200 OK\r\nConnection: x-frame-options\r\nX-Frame-Options: ALLOW\r\nContent-Length: 0\r\n\r\n'),
    })
    const got = await proxy.exchange(get('/', 'Connection: x-user, x-checked, x-own', 'X-User: 0', 'X-Own: 1'))
    assert.equal(got.field('x-frame-options'), 'DENY')
    const sent = proxy.origin.connections[0]!.text
    assert.match(sent, /\r\nX-User: 42\r\n/)
    assert.match(sent, /\r\nX-Checked: yes\r\n/)
    assert.doesNotMatch(sent, /X-Own|X-User: 0/)
  })

  it('an answer that comes before the request was sent is not that of the request', async t => {
    let turn = 0
    const proxy = await startProxy(t, {
      hooks: {
        async upstreamRequestFilter() {
          if (++turn !== 2) return
          await proxy.origin.connections[0]!.socket.write(response(200, 'poison'))
          await sleep(50)
        },
      },
      script: async exchange => { await exchange.whole(); await exchange.send(echo(exchange)) },
    })
    const client = await proxy.connect()
    await client.write(get('/one'))
    assert.equal((await client.readResponse()).body.toString(), 'GET /one')
    // Nothing of it was sent: even what must not happen twice goes to another connection.
    await client.write(post('body', '/two'))
    assert.equal((await client.readResponse()).body.toString(), 'POST /two')
    assert.equal(turn, 3)
  })

  it('a name that could pass for a field of the proxy is refused', async t => {
    const proxy = await startProxy(t)
    for (const line of ['X_Forwarded_For: 1.2.3.4', 'x-forwarded_proto: https', 'X_Real_IP: 1.2.3.4', 'X-Request_Id: 1']) {
      assert.equal((await proxy.exchange(get('/', line))).status, 400)
    }
    assert.equal((await proxy.exchange(get('/', 'x_other: 1'))).status, 200)
  })

  it('a trailer cannot say who asked', async t => {
    const proxy = await startProxy(t, { script: async exchange => { await exchange.whole(); await exchange.send(response(200, 'ok')) } })
    const trailers = 'X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nVia: 1.1 x\r\nX-Note: kept\r\n'
    await proxy.exchange(head('POST / HTTP/1.1', 'Transfer-Encoding: chunked') + `1\r\na\r\n0\r\n${trailers}\r\n`)
    assert.match(proxy.origin.connections[0]!.text, /0\r\nX-Note: kept\r\n\r\n$/)
  })

  it('a client that never reads is given no more answers to queue', async t => {
    let asked = 0
    const proxy = await startProxy(t, {
      leavesExchangesOpen: true,
      hooks: {
        requestFilter(session) {
          asked++
          return session.respond(200, {}, 'x'.repeat(100_000))
        },
      },
    })
    const client = await proxy.connect()
    client.pause()
    await Promise.race([client.write(get().repeat(900)), sleep(300)])
    await sleep(200)
    const before = asked
    assert.ok(before < 200, `${before} requests answered`)
    client.resume()
    await waitFor('all of them to be answered', () => asked === 900, { deadlineMs: 15_000, seen: () => asked })
    await waitFor('all of them to arrive', () => client.socket.bytesRead > 90_000_000, { deadlineMs: 15_000 })
  })

  it('an endless answer in small pieces goes no faster than its client', async t => {
    let pieces = 0
    async function* longAnswer(): AsyncGenerator<string> {
      for (; pieces < 200_000; pieces++) yield 'x'.repeat(1000)
    }
    const proxy = await startProxy(t, { hooks: { requestFilter: session => session.respond(200, {}, longAnswer()) } })
    const client = await proxy.connect()
    client.pause()
    await client.write(get())
    await sleep(500)
    assert.ok(pieces < 50_000, `${pieces} pieces taken`)
    client.reset()
  })

  it('a last answer is not cut by the end of lingering as long as its client takes it', async t => {
    const proxy = await startProxy(t, {
      listener: { lingerTotalMs: 300, lingerIdleMs: 100 },
      hooks: { requestFilter: session => session.respond(200, {}, Buffer.alloc(20_000_000, 'a')) },
    })
    const client = await proxy.connect()
    client.pause()
    await client.write(get('/', 'Connection: close'))
    await sleep(1200)
    client.resume()
    const got = await client.readResponse()
    assert.deepEqual([got.complete, got.body.length], [true, 20_000_000])
  })
})
