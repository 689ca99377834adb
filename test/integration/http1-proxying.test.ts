/**
 * What an HTTP/1 client and an HTTP/1 origin see of each other through the proxy, over sockets: bodies, answers without
 * one, interim responses, persistence, what is removed and added on the way, upgrades, and what happens when one of the
 * two leaves, is early, is slow or says nothing.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { HttpPeer, ProxyError, Server, httpProxyService, type ProxyHttp } from '../../src/index.ts'
import { get, head, post, startProxy } from '../support/proxy.ts'
import { DelayRelay } from '../support/delay-relay.ts'
import { RawClient } from '../support/raw-client.ts'
import { ScriptedOrigin, answer, answerOk, chunk, response, type OriginExchange } from '../support/scripted-origin.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

const CHUNKED_HELLO = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'
const CLOSED_HELLO = 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world'

describe('http1 proxy: bodies of responses', () => {
  const rows = [
    { client: '1.1', origin: 'a length', bytes: response(200, 'hello world'), framing: 'length', persists: true },
    { client: '1.1', origin: 'chunked', bytes: CHUNKED_HELLO, framing: 'chunked', persists: true },
    { client: '1.1', origin: 'until close', bytes: CLOSED_HELLO, framing: 'chunked', persists: true },
    { client: '1.0', origin: 'a length', bytes: response(200, 'hello world'), framing: 'length', persists: false },
    { client: '1.0', origin: 'chunked', bytes: CHUNKED_HELLO, framing: 'until-close', persists: false },
    { client: '1.0', origin: 'until close', bytes: CLOSED_HELLO, framing: 'until-close', persists: false },
    { client: '1.0 with keep-alive', origin: 'a length', bytes: response(200, 'hello world'), framing: 'length', persists: true },
    { client: '1.0 with keep-alive', origin: 'chunked', bytes: CHUNKED_HELLO, framing: 'until-close', persists: false },
  ] as const
  for (const row of rows) {
    it(`${row.origin} reaches an HTTP/${row.client} client by ${row.framing}`, async t => {
      const proxy = await startProxy(t, {
        script: async exchange => {
          await exchange.whole()
          await exchange.send(row.bytes)
          if (row.bytes === CLOSED_HELLO) exchange.end()
        },
      })
      const client = await proxy.connect()
      const request = row.client === '1.1' ? get() : head('GET / HTTP/1.0', ...(row.client === '1.0' ? [] : ['Connection: keep-alive']))
      await client.write(request)
      const answered = await client.readResponse()
      assert.equal(answered.status, 200)
      assert.equal(answered.version, 'HTTP/1.1')
      assert.equal(answered.framing, row.framing)
      assert.equal(answered.complete, true)
      assert.equal(answered.body.toString(), 'hello world')
      if (row.persists) {
        assert.equal(answered.field('connection'), row.client === '1.1' ? null : 'keep-alive')
        await client.write(request)
        assert.equal((await client.readResponse()).body.toString(), 'hello world')
      } else {
        assert.equal(answered.field('connection'), 'close')
        assert.ok(await client.closes())
      }
    })
  }

  it('many chunks, slowly, arrive in order and as they come', async t => {
    const steps = Array.from({ length: 20 }, () => Promise.withResolvers<void>())
    const proxy = await startProxy(t, {
      script: async exchange => {
        await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        for (const [index, step] of steps.entries()) {
          await exchange.send(chunk(`part ${index};`))
          await step.promise
        }
        await exchange.send('0\r\n\r\n')
      },
    })
    const client = await proxy.connect()
    await client.write(get())
    assert.equal((await client.readHead()).status, 200)
    for (const [index, step] of steps.entries()) {
      // The next part is only sent when this one has been seen: nothing on the way may wait for more.
      await waitFor(`part ${index}`, () => client.unread.includes(`part ${index};`))
      step.resolve()
    }
    await waitFor('the last chunk', () => client.unread.toString('latin1').endsWith('0\r\n\r\n'))
  })
})

describe('http1 proxy: bodies of requests', () => {
  it('a length stays a length, chunked stays chunked, nothing stays nothing', async t => {
    const proxy = await startProxy(t)
    const client = await proxy.connect()
    const chunked = `${head('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\n\r\n`
    for (const bytes of [post('hello'), chunked, get(), post('')]) {
      await client.write(bytes)
      assert.equal((await client.readResponse()).status, 200)
    }
    assert.deepEqual(proxy.origin.faults, [])
    assert.deepEqual(proxy.origin.requests.map(request => [request.framing, request.bodyText]), [
      ['length', 'hello'], ['chunked', 'hello'], ['none', ''], ['length', ''],
    ])
  })

  it('a chunk that arrives goes on before the next one comes', async t => {
    const proxy = await startProxy(t)
    const client = await proxy.connect()
    await client.write(head('POST / HTTP/1.1', 'Transfer-Encoding: chunked'))
    for (let index = 0; index < 10; index++) {
      await client.write(chunk(`part ${index};`))
      await waitFor(`part ${index} at the origin`, () => proxy.origin.requests[0]?.bodyText.includes(`part ${index};`))
    }
    await client.write('0\r\n\r\n')
    assert.equal((await client.readResponse()).status, 200)
  })

  it('trailers go through, both ways, to a client that accepts them', async t => {
    const proxy = await startProxy(t, {
      script: answer(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-other: 2\r\n\r\n',
      ),
    })
    const client = await proxy.connect()
    await client.write(
      head('POST / HTTP/1.1', 'TE: trailers', 'Connection: TE', 'Transfer-Encoding: chunked', 'Trailer: X-Check')
        + '5\r\nhello\r\n0\r\nX-Check: 3\r\n\r\n',
    )
    const answered = await client.readResponse()
    assert.equal(answered.complete, true)
    assert.deepEqual(answered.trailers, [['X-Sum', '1'], ['x-other', '2']])
    assert.deepEqual((await proxy.origin.received()).trailers, [['X-Check', '3']])
  })

  it('a trailer that would frame, route or authorise does not go on', async t => {
    const proxy = await startProxy(t)
    const answered = await proxy.exchange(
      head('POST / HTTP/1.1', 'Transfer-Encoding: chunked')
        + '5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-Fine: 1\r\nHost: b.example\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n',
    )
    if (answered.status === 200) assert.deepEqual((await proxy.origin.received()).trailers, [['X-Fine', '1']])
    else assert.equal(answered.status, 400)
  })
})

describe('http1 proxy: answers without a body', () => {
  for (const [title, method, bytes, length] of [
    ['HEAD keeps the length that GET would have', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 500\r\nX-A: 1\r\n\r\n', '500'],
    ['HEAD of something chunked', 'HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n', null],
    ['HEAD of something without framing', 'HEAD', 'HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n', null],
    ['204', 'GET', 'HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n', null],
    ['304 keeps the length of what it spares', 'GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nX-A: 1\r\n\r\n', '500'],
  ] as const) {
    it(title, async t => {
      const proxy = await startProxy(t, {
        script: exchange => exchange.request.target === '/next' ? answerOk(exchange) : answer(bytes)(exchange),
      })
      const client = await proxy.connect()
      await client.write(head(`${method} / HTTP/1.1`))
      const answered = await client.readResponse({ method })
      assert.equal(answered.field('x-a'), '1')
      assert.equal(answered.field('content-length'), length)
      await client.write(get('/next'))
      assert.equal((await client.readResponse()).body.toString(), 'ok')
    })
  }
})

describe('http1 proxy: interim responses', () => {
  const HINTS = 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'

  it('103 reaches an HTTP/1.1 client before the answer is there', async t => {
    const go = Promise.withResolvers<void>()
    const proxy = await startProxy(t, {
      script: async exchange => {
        await exchange.send(HINTS)
        await go.promise
        await exchange.send(response(200, 'ok'))
      },
    })
    const client = await proxy.connect()
    await client.write(get())
    const early = await client.readHead()
    assert.equal(early.status, 103)
    assert.equal(early.field('link'), '</a.css>; rel=preload')
    go.resolve()
    assert.equal((await client.readResponse()).status, 200)
  })

  it('103 does not reach an HTTP/1.0 client', async t => {
    const proxy = await startProxy(t, { script: answer(HINTS + response(200, 'ok').toString('latin1')) })
    const answered = await proxy.exchange(head('GET / HTTP/1.0'))
    assert.equal(answered.status, 200)
    assert.equal(answered.interim.length, 0)
  })

  const EXPECTING = head('POST / HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 5')

  it('100 from the origin calls for the body', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => {
        await exchange.send('HTTP/1.1 100 Continue\r\n\r\n')
        await answerOk(exchange)
      },
    })
    const client = await proxy.connect()
    await client.write(EXPECTING)
    assert.equal((await client.readHead()).status, 100)
    await client.write('hello')
    assert.equal((await client.readResponse()).status, 200)
    assert.equal((await proxy.origin.received()).bodyText, 'hello')
  })

  it('417 from the origin reaches the client, and what follows is not read as a body or a request by mistake', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.send(response(417)) })
    const client = await proxy.connect()
    await client.write(EXPECTING)
    const answered = await client.readResponse()
    assert.equal(answered.status, 417)
    assert.equal(answered.interim.length, 0)
    assert.equal(answered.field('connection'), 'close')
    assert.ok(await client.closes())
    await waitFor('the connection to the origin not to be kept', () => proxy.origin.openConnections === 0)
  })

  it('200 from the origin before the body reaches the client, and neither connection is used again', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.send(response(200, 'early')) })
    const client = await proxy.connect()
    await client.write(EXPECTING)
    const answered = await client.readResponse()
    assert.equal(answered.body.toString(), 'early')
    assert.equal(answered.interim.length, 0)
    assert.ok(await client.closes())
    await waitFor('the connection to the origin not to be kept', () => proxy.origin.openConnections === 0)
  })

  it('an origin that says nothing gets the body after continueTimeoutMs', async t => {
    const proxy = await startProxy(t, { peer: { continueTimeoutMs: 150 } })
    const client = await proxy.connect()
    const asked = performance.now()
    await client.write(EXPECTING)
    assert.equal((await client.readHead()).status, 100)
    assert.ok(performance.now() - asked >= 100, 'the client was told before the origin had its time')
    await client.write('hello')
    assert.equal((await client.readResponse()).status, 200)
    assert.equal((await proxy.origin.received()).bodyText, 'hello')
  })

  it('a client that expects 100 and sends its body at once is served', async t => {
    const proxy = await startProxy(t, { peer: { continueTimeoutMs: 150 } })
    const answered = await proxy.exchange(EXPECTING + 'hello')
    assert.equal(answered.status, 200)
    assert.equal((await proxy.origin.received()).bodyText, 'hello')
  })
})

describe('http1 proxy: one connection, many requests', () => {
  it('pipelined requests are served in order, one at a time', async t => {
    let active = 0
    const proxy = await startProxy(t, {
      script: async exchange => {
        assert.equal(++active, 1, 'two requests of one connection at once')
        await exchange.whole()
        // An answer to the next one would be visible by now, were it under way.
        await new Promise<void>(resolve => setImmediate(resolve))
        active--
        await exchange.send(response(200, exchange.request.target))
      },
    })
    const client = await proxy.connect()
    const targets = Array.from({ length: 30 }, (_, index) => `/${index}`)
    await client.write(targets.map(target => target.endsWith('5') ? post('body', target) : get(target)).join(''))
    for (const target of targets) assert.equal((await client.readResponse()).body.toString(), target)
    assert.deepEqual(proxy.origin.requests.map(request => request.target), targets)
    assert.equal(proxy.origin.connections.length, 1, 'the connection to the origin is used again')
  })

  it('pipelined requests of which the last ends the connection: the rest is not served', async t => {
    const proxy = await startProxy(t)
    const client = await proxy.connect()
    await client.write(get('/1') + get('/2', 'Connection: close') + get('/3'))
    assert.equal((await client.readResponse()).field('connection'), null)
    assert.equal((await client.readResponse()).field('connection'), 'close')
    assert.equal((await client.readUntilClose()).length, 0)
    assert.deepEqual(proxy.origin.requests.map(request => request.target), ['/1', '/2'])
  })

  it('a FIN behind requests ends the last of them while it waits, and its origin sees the connection close', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => { if (exchange.request.target === '/1') await answerOk(exchange) },
    })
    const client = await proxy.connect()
    await client.write(get('/1') + get('/2'))
    client.end()
    assert.equal((await client.readResponse()).body.toString(), 'ok')
    await waitFor('the origin to hear of it', () => proxy.origin.requests.length === 2 && proxy.origin.openConnections === 0)
    assert.ok(await client.closes())
  })

  it('where a FIN only says that nothing follows, the answers still come', async t => {
    const go = Promise.withResolvers<void>()
    const proxy = await startProxy(t, {
      listener: { halfClose: 'keep' },
      script: async exchange => {
        await go.promise
        await answerOk(exchange)
      },
    })
    const client = await proxy.connect()
    await client.write(get('/1') + get('/2'))
    client.end()
    await waitFor('the request', () => proxy.origin.requests.length === 1)
    go.resolve()
    assert.equal((await client.readResponse()).body.toString(), 'ok')
    assert.equal((await client.readResponse()).body.toString(), 'ok', 'what was sent before the FIN is served')
    assert.ok(await client.closes())
  })

  for (const [title, request, closes] of [
    ['HTTP/1.1 persists', get(), false],
    ['HTTP/1.1 with Connection: close does not', get('/', 'Connection: close'), true],
    ['Connection: Close in a list does not', get('/', 'Connection: x-a, Close'), true],
    ['HTTP/1.0 does not', head('GET / HTTP/1.0'), true],
    ['HTTP/1.0 with keep-alive persists', head('GET / HTTP/1.0', 'Connection: Keep-Alive'), false],
    ['HTTP/1.0 with keep-alive and close does not', head('GET / HTTP/1.0', 'Connection: keep-alive, close'), true],
  ] as const) {
    it(title, async t => {
      const proxy = await startProxy(t)
      const client = await proxy.connect()
      await client.write(request)
      const answered = await client.readResponse()
      if (closes) {
        assert.equal(answered.field('connection'), 'close')
        assert.ok(await client.closes())
      } else {
        await client.write(get())
        assert.equal((await client.readResponse()).status, 200)
      }
    })
  }

  it('the last request that a connection may carry is told so', async t => {
    const proxy = await startProxy(t, { listener: { maxRequestsPerConnection: 3 } })
    const client = await proxy.connect()
    const seen: (string | null)[] = []
    for (let index = 0; index < 3; index++) {
      await client.write(get())
      seen.push((await client.readResponse()).field('connection'))
    }
    assert.deepEqual(seen, [null, null, 'close'])
    assert.ok(await client.closes())
  })

  it("an origin's Keep-Alive timeout ends a pooled connection a second early", async t => {
    const proxy = await startProxy(t, { script: answer(response(200, 'ok', [['Keep-Alive', 'timeout=2, max=100']])) })
    const start = performance.now()
    assert.equal((await proxy.exchange(get())).field('keep-alive'), null)
    await waitFor('the pooled connection to be closed', () => proxy.origin.openConnections === 0, { deadlineMs: 1700 })
    assert.ok(performance.now() - start > 800, 'the connection was not kept at all')
  })

  it('a pooled connection on which the origin speaks unasked is not used again', async t => {
    const proxy = await startProxy(t)
    assert.equal((await proxy.exchange(get())).status, 200)
    const [pooled] = proxy.origin.connections
    pooled!.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged')
    await waitFor('it to be closed', () => pooled!.closed)
    assert.equal((await proxy.exchange(get())).body.toString(), 'ok')
    assert.equal(proxy.origin.connections.length, 2)
  })
})

describe('http1 proxy: what is removed and added on the way', () => {
  it('hop-by-hop fields of a request end at the proxy, those that Connection names too', async t => {
    const proxy = await startProxy(t)
    await proxy.exchange(get(
      '/', 'Connection: keep-alive, X-Hop', 'connection: x-hop-2', 'Keep-Alive: timeout=5', 'Proxy-Connection: close',
      'TE: trailers', 'X-Hop: 1', 'X-HOP-2: 2', 'Upgrade: h2c', 'Proxy-Authorization: Basic eA==', 'X-End: 3',
    ))
    const request = await proxy.origin.received()
    for (const name of ['keep-alive', 'proxy-connection', 'x-hop', 'x-hop-2', 'upgrade', 'proxy-authorization']) {
      assert.equal(request.field(name), null, name)
    }
    assert.doesNotMatch(request.field('connection') ?? '', /x-hop|upgrade|keep-alive/i)
    assert.equal(request.field('x-end'), '3')
  })

  it('hop-by-hop fields of a response end at the proxy, those that Connection names too', async t => {
    const proxy = await startProxy(t, {
      script: answer(response(200, 'ok', [
        ['Connection', 'X-Hop'], ['X-Hop', '1'], ['Keep-Alive', 'timeout=5'], ['Proxy-Connection', 'close'],
        ['Upgrade', 'h2c'], ['Proxy-Authenticate', 'Basic'], ['X-End', '2'],
      ])),
    })
    const answered = await proxy.exchange(get())
    for (const name of ['x-hop', 'keep-alive', 'proxy-connection', 'upgrade', 'connection']) assert.equal(answered.field(name), null, name)
    assert.equal(answered.field('x-end'), '2')
  })

  it('names keep their case, and fields their order', async t => {
    const proxy = await startProxy(t, {
      script: answer(response(200, 'ok', [['X-oNe', '1'], ['Set-Cookie', 'a=1'], ['x-TWO', '2'], ['set-cookie', 'b=2']])),
    })
    const answered = await proxy.exchange(get('/', 'X-aBc: 1', 'Cookie: a', 'x-DEF: 2'))
    assert.deepEqual(answered.fields.filter(([name]) => /^(x-(one|two)|set-cookie)$/i.test(name)), [
      ['X-oNe', '1'], ['Set-Cookie', 'a=1'], ['x-TWO', '2'], ['set-cookie', 'b=2'],
    ])
    const request = await proxy.origin.received()
    assert.deepEqual(request.fields.filter(([name]) => /^(x-(abc|def)|cookie)$/i.test(name)), [
      ['X-aBc', '1'], ['Cookie', 'a'], ['x-DEF', '2'],
    ])
  })

  const SPOOFED = [
    'X-Forwarded-For: 192.0.2.1', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: evil.example', 'X-Forwarded-By: x',
    'X-Forwarded-Anything: x', 'Forwarded: for=192.0.2.1', 'X-Real-IP: 192.0.2.1',
  ]

  it('what a client claims about its way is replaced by what the proxy knows', async t => {
    const proxy = await startProxy(t)
    const answered = await proxy.exchange(get('/', ...SPOOFED))
    const request = await proxy.origin.received()
    assert.equal(request.field('x-forwarded-for'), '127.0.0.1')
    assert.equal(request.field('x-forwarded-proto'), 'http')
    assert.equal(request.field('x-forwarded-host'), 'a.example')
    for (const name of ['x-forwarded-by', 'x-forwarded-anything', 'forwarded', 'x-real-ip']) assert.equal(request.field(name), null, name)
    assert.equal(request.field('via'), null)
    assert.match(request.field('x-request-id') ?? '', /^\S{16,}$/)
    assert.equal(answered.field('x-forwarded-for'), null)
  })

  it('what a trusted hop claims is kept, and the hop is added', async t => {
    const proxy = await startProxy(t, { service: { trustedHops: ['127.0.0.0/8'], via: 'both' } })
    await proxy.exchange(get('/', 'X-Forwarded-For: 192.0.2.1', 'X-Forwarded-Proto: https', 'X-Request-Id: from-the-hop', 'Via: 1.0 hop'))
    const request = await proxy.origin.received()
    assert.equal(request.field('x-forwarded-for'), '192.0.2.1, 127.0.0.1')
    assert.equal(request.field('x-forwarded-proto'), 'https')
    assert.equal(request.field('x-request-id'), 'from-the-hop')
    assert.match(request.field('via') ?? '', /^1\.0 hop, 1\.1 \S+$/)
  })

  it('each of them can be turned off', async t => {
    const proxy = await startProxy(t, { service: { via: 'off', loopName: null, requestId: false, forwarded: 'off' } })
    await proxy.exchange(get('/', 'X-Forwarded-For: 192.0.2.1'))
    const request = await proxy.origin.received()
    for (const name of ['via', 'cirque-loop', 'x-request-id', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']) {
      assert.equal(request.field(name), null, name)
    }
  })

  it('request ids differ', async t => {
    const proxy = await startProxy(t)
    const client = await proxy.connect()
    for (let index = 0; index < 50; index++) {
      await client.write(get())
      await client.readResponse()
    }
    assert.equal(new Set(proxy.origin.requests.map(request => request.field('x-request-id'))).size, 50)
  })

  for (const [field, service] of [['cirque-loop', {}], ['cdn-loop', { loopName: 'edge.example' }]] as const) {
    it(`a request that has been here before is refused, by its ${field}: 508`, async t => {
      const proxy = await startProxy(t, { service })
      await proxy.exchange(get())
      const mark = (await proxy.origin.received()).field(field)!
      assert.equal((await proxy.exchange(get('/', `${field}: ${mark}`))).status, 508)
      assert.equal((await proxy.exchange(get('/', `${field}: somebody, ${mark}`))).status, 508)
      assert.equal(proxy.origin.requests.length, 1)
    })
  }

  it('a service that reaches itself over other proxies answers with 508, and a chain of them does not', async t => {
    const last = await startProxy(t), middle = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(last.authority) } })
    let next = middle.authority
    const first = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(next) } })
    assert.equal((await first.exchange(get())).status, 200)
    const marks = (await last.origin.received()).field('cirque-loop')!.split(', ')
    assert.equal(new Set(marks).size, 3)
    const back = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(first.authority) } })
    next = back.authority
    assert.equal((await first.exchange(get())).status, 508)
  })

  it('OPTIONS is answered here when its Max-Forwards is used up, and counted down once when it is not', async t => {
    let attempts = 0
    const proxy = await startProxy(t, {
      hooks: {
        upstreamPeer: () => new HttpPeer(++attempts === 1 ? '127.0.0.1:1' : proxy.origin.authority, { connectTimeoutMs: 500 }),
      },
    })
    const options = (...lines: string[]): string => head('OPTIONS /x HTTP/1.1', ...lines)
    const own = await proxy.exchange(options('Max-Forwards: 0'))
    assert.deepEqual([own.status, own.field('content-length'), attempts], [200, '0', 0])
    assert.equal((await proxy.exchange(options('Max-Forwards: 5'))).status, 200)
    assert.ok(attempts > 1)
    assert.equal((await proxy.exchange(options())).status, 200)
    assert.equal((await proxy.exchange(get('/', 'Max-Forwards: 0'))).status, 200)
    assert.deepEqual(proxy.origin.requests.map(request => request.field('max-forwards')), ['4', null, '0'])
    assert.equal((await proxy.exchange(options('Max-Forwards: x'))).status, 400)
    assert.equal((await proxy.exchange(options('Max-Forwards: 1', 'Max-Forwards: 0'))).status, 400)
  })

  it('a filter may answer OPTIONS itself, whatever Max-Forwards says', async t => {
    const proxy = await startProxy(t, { hooks: { requestFilter: session => session.respond(204, { Allow: 'GET' }) } })
    const own = await proxy.exchange(head('OPTIONS * HTTP/1.1', 'Max-Forwards: 0'))
    assert.deepEqual([own.status, own.field('allow')], [204, 'GET'])
  })

  it('TRACE is refused: it would show the cookies of a request', async t => {
    const proxy = await startProxy(t)
    for (const lines of [[], ['Max-Forwards: 0'], ['Max-Forwards: 9', 'Cookie: a=b']]) {
      const refused = await proxy.exchange(head('TRACE / HTTP/1.1', ...lines))
      assert.deepEqual([refused.status, refused.body.toString().includes('a=b')], [405, false])
    }
    assert.equal(proxy.origin.requests.length, 0)
  })

  it('an HTTP/1.0 request without Host gets one', async t => {
    const proxy = await startProxy(t)
    assert.equal((await proxy.exchange('GET / HTTP/1.0\r\n\r\n')).status, 200)
    assert.equal((await proxy.origin.received()).fields.filter(([name]) => name.toLowerCase() === 'host').length, 1)
    assert.deepEqual(proxy.origin.faults, [])
  })
})

describe('http1 proxy: a body that nobody wants', () => {
  it('an answer before the body reaches a client that is still sending', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.send(response(200, 'early')) })
    const client = await proxy.connect()
    await client.write(head('POST / HTTP/1.1', 'Content-Length: 1000000') + 'x'.repeat(1000))
    const answered = await client.readResponse()
    assert.equal(answered.status, 200)
    assert.equal(answered.body.toString(), 'early')
    assert.deepEqual(proxy.origin.faults, [])
    await waitFor('the connection to the origin not to be kept', () => proxy.origin.openConnections === 0)
  })

  it('what is left of a body is never read as a request', async t => {
    const proxy = await startProxy(t, {
      script: exchange => exchange.request.target === '/' ? exchange.send(response(200, 'early')) : answerOk(exchange),
    })
    const smuggled = get('/smuggled').repeat(20)
    const sized = head('POST / HTTP/1.1', `Content-Length: ${smuggled.length}`) + smuggled
    const chunked = `${head('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}${chunk(smuggled).toString('latin1')}0\r\n\r\n`
    for (const request of [sized, chunked]) {
      const client = await proxy.connect()
      // The head alone first, so that the answer is there before the body comes.
      const bodyStart = request.indexOf('\r\n\r\n') + 4
      await client.write(request.slice(0, bodyStart))
      assert.equal((await client.readResponse()).body.toString(), 'early')
      await client.write(request.slice(bodyStart) + get('/next'))
      const rest = await client.readUntilClose(1000).catch(() => client.unread)
      assert.ok(rest.length === 0 || rest.toString('latin1').match(/HTTP\/1\.1 /g)?.length === 1, 'more answers than requests')
    }
    assert.deepEqual(proxy.origin.requests.filter(request => request.target === '/smuggled'), [])
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('a filter that answers without reading a small body leaves the connection usable', async t => {
    const proxy = await startProxy(t, {
      hooks: {
        requestFilter: session => {
          return session.request.target === '/filtered' ? session.respond(403, {}, 'no') : 'continue'
        },
      },
    })
    const client = await proxy.connect()
    await client.write(post(get('/smuggled'), '/filtered') + get('/next'))
    const refused = await client.readResponse()
    assert.equal(refused.status, 403)
    assert.equal(refused.body.toString(), 'no')
    assert.equal((await client.readResponse()).body.toString(), 'ok')
    assert.deepEqual(proxy.origin.requests.map(request => request.target), ['/next'])
  })

  it('a refusal reaches a client that sends everything before it reads', async t => {
    const proxy = await startProxy(t, { listener: { maxRequestBodyBytes: 1000 } })
    const client = await proxy.connect()
    client.pause()
    await client.write(head('POST / HTTP/1.1', 'Content-Length: 200000'))
    await waitFor('the answer to be on its way', () => proxy.server.stats().activeExchanges === 0)
    // Without a lingering close these bytes would be answered by RST, which destroys the answer in the client's kernel.
    await client.write('x'.repeat(200_000))
    client.resume()
    const answered = await client.readResponse()
    assert.equal(answered.status, 413)
    assert.ok(await client.closes())
    assert.equal(client.error, null)
    assert.equal(proxy.origin.bytesReceived, 0)
  })
})

describe('http1 proxy: upgrades', () => {
  const UPGRADE = get(
    '/chat',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  )
  const SWITCHED = [
    'HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket',
    'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=', '', '',
  ].join('\r\n')

  it('after 101 bytes go both ways as they are, those sent too early as well', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.send(SWITCHED + 'first') })
    const client = await proxy.connect()
    await client.write(UPGRADE + '\x00early\xff')
    const switched = await client.readHead()
    assert.equal(switched.status, 101)
    assert.equal(switched.field('upgrade'), 'websocket')
    assert.match(switched.field('connection') ?? '', /^upgrade$/i)
    assert.equal(switched.field('sec-websocket-accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
    assert.equal((await client.readExactly(5)).toString(), 'first')
    const [connection] = proxy.origin.connections
    await client.write('later')
    await waitFor('the bytes at the origin', () => connection!.text.endsWith('\x00early\xfflater'))
    const request = proxy.origin.requests[0]!
    assert.equal(request.field('upgrade'), 'websocket')
    assert.match(request.field('connection') ?? '', /upgrade/i)
    assert.equal(request.field('sec-websocket-key'), 'dGhlIHNhbXBsZSBub25jZQ==')
  })

  for (const [asked, offered, service] of [
    ['h2c', null, {}],
    ['H2C, websocket', 'websocket', {}],
    ['websocket, chat/1, h2c', 'websocket', {}],
    ['chat/1, HTTP/2.0, Chat/2 , TLS/1.3', 'chat/1, Chat/2', { upgrades: ['chat'] }],
    ['websocket, chat/1, chat/2', 'chat/2', { upgrades: ['Chat/2'] }],
    ['websocket', null, { upgrades: [] }],
  ] as const) {
    it(`of Upgrade: ${asked} the origin is offered ${offered ?? 'nothing'}, with ${JSON.stringify(service)}`, async t => {
      const proxy = await startProxy(t, { service })
      const settings = ['Connection: Upgrade, HTTP2-Settings', 'HTTP2-Settings: AAMAAABkAAQAAP__']
      const key = ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']
      const answered = await proxy.exchange(get('/', ...settings, ...key, `Upgrade: ${asked}`))
      assert.equal(answered.status, 200)
      const request = await proxy.origin.received()
      assert.deepEqual([request.field('upgrade'), request.field('http2-settings')], [offered, null])
      assert.equal(request.field('connection'), offered === null ? null : 'upgrade')
    })
  }

  it('an origin that switches to what it was not offered is not believed, though the client asked for it', async t => {
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
    for (const [asked, chosen] of [['h2c', 'h2c'], ['websocket, h2c', 'h2c'], ['chat, websocket', 'chat']] as const) {
      const proxy = await startProxy(t, {
        script: exchange => exchange.send(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${chosen}\r\n\r\n`),
      })
      const client = await proxy.connect()
      await client.write(UPGRADE.replace('Upgrade: websocket', `Upgrade: ${asked}`) + preface)
      assert.equal((await client.readResponse()).status, 502, asked)
      assert.ok(!proxy.origin.connections.some(({ text }) => text.includes('PRI * HTTP/2.0')))
      client.destroy()
    }
  })

  it('half-close goes through a tunnel both ways', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.send(SWITCHED) })
    const client = await proxy.connect()
    await client.write(UPGRADE)
    assert.equal((await client.readHead()).status, 101)
    const connection = proxy.origin.connections[0]!
    connection.answersEnd = false
    await client.write('last words')
    client.end()
    await waitFor('the FIN at the origin', () => connection.ended)
    assert.ok(connection.text.endsWith('last words'))
    connection.socket.write('answer to them')
    connection.socket.end()
    assert.equal((await client.readUntilClose()).toString(), 'answer to them')
  })

  it('nothing raw reaches the origin before it says 101: what follows a refused upgrade is the next request', async t => {
    const proxy = await startProxy(t, {
      script: exchange => exchange.request.target === '/chat' ? exchange.send(response(200, 'no')) : answerOk(exchange),
    })
    const client = await proxy.connect()
    await client.write(UPGRADE + get('/next'))
    assert.equal((await client.readResponse()).body.toString(), 'no')
    assert.equal((await client.readResponse()).body.toString(), 'ok')
    assert.deepEqual(proxy.origin.faults, [])
    assert.deepEqual(proxy.origin.requests.map(request => [request.target, request.field('x-forwarded-for') === null]), [
      ['/chat', false], ['/next', false],
    ])
  })

  it('an upgrade with a body loses its Upgrade field', async t => {
    const proxy = await startProxy(t)
    assert.equal(
      (await proxy.exchange(head('POST / HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 5') + 'hello')).status,
      200,
    )
    const request = await proxy.origin.received()
    assert.equal(request.field('upgrade'), null)
    assert.equal(request.bodyText, 'hello')
  })

  it('101 to another protocol than was asked for is refused', async t => {
    const proxy = await startProxy(t, {
      script: exchange => exchange.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n'),
    })
    const answered = await proxy.exchange(UPGRADE)
    assert.equal(answered.status, 502)
  })

  it('WebSocket: echo, large messages, both compressions, and the close handshake', async t => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true, maxPayload: 32 << 20 })
    await new Promise<void>(resolve => server.once('listening', resolve))
    t.after(() => server.close())
    server.on('connection', socket => socket.on('message', (bytes, binary) => socket.send(bytes, { binary })))
    const { port } = server.address() as net.AddressInfo
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(`127.0.0.1:${port}`) } })
    for (const perMessageDeflate of [false, true]) {
      const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/`, { perMessageDeflate, maxPayload: 32 << 20 })
      await within('the upgrade', new Promise<void>((resolve, reject) => socket.once('open', () => resolve()).once('error', reject)))
      for (const size of [0, 1, 125, 126, 65_535, 65_536, 10 << 20]) {
        const message = randomBytes(size)
        const echoed = new Promise<Buffer>(resolve => socket.once('message', bytes => resolve(bytes as Buffer)))
        socket.send(message)
        assert.ok(
          (await within(`a message of ${size} bytes`, echoed, 20_000)).equals(message),
          `a message of ${size} bytes came back changed`,
        )
      }
      const closed = new Promise<number>(resolve => socket.once('close', code => resolve(code)))
      socket.close(4000, 'done')
      assert.equal(await within('the close handshake', closed), 4000)
    }
    assert.equal(proxy.origin.connections.length, 0)
  })
})

describe('http1 proxy: somebody leaves', () => {
  it('a client that leaves within its body: the origin sees no whole request, and its connection ends', async t => {
    const proxy = await startProxy(t)
    for (const leave of ['end', 'reset'] as const) {
      const before = proxy.origin.connections.length
      const client = await proxy.connect()
      await client.write(head('POST / HTTP/1.1', 'Content-Length: 10') + 'hello')
      const connection = await waitFor(
        'half the body',
        () => proxy.origin.connections[before]?.text.endsWith('hello') && proxy.origin.connections[before],
      )
      client[leave]()
      await waitFor(`the origin to be left after ${leave}`, () => connection.closed)
      assert.equal(connection.reader.requests[0]!.complete, false)
      client.destroy()
    }
  })

  it('a client that leaves within the answer ends the connection to the origin', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello') })
    const client = await proxy.connect()
    await client.write(get())
    await waitFor('half the answer', () => client.unread.toString().endsWith('hello'))
    client.reset()
    await waitFor('the origin to be left', () => proxy.origin.openConnections === 0)
  })

  it('an origin that resets within the answer: the client cannot take it for a whole one', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => {
        await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n' + chunk('hello').toString())
        exchange.reset()
      },
    })
    const answered = await proxy.exchange(get()).catch((error: Error) => error)
    if (!(answered instanceof Error)) assert.ok(answered.status === 502 || !answered.complete)
  })

  it('a cut answer to an HTTP/1.0 client ends in RST, since its end is all that frames it', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => {
        await exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n' + chunk('hello').toString())
        await waitFor('the client to have half of it', () => client.unread.toString().endsWith('hello'))
        exchange.end()
      },
    })
    const client = await proxy.connect()
    await client.write(head('GET / HTTP/1.0'))
    await waitFor('the connection to end', () => client.closed)
    assert.equal(client.ended, false, 'a FIN would make it a whole answer')
    assert.equal(client.error?.code, 'ECONNRESET')
  })
})

describe('http1 proxy: attempts', () => {
  /** Answers the first request on a connection and ends it, without a word, at the second. */
  const endsReused = (how: 'destroy' | 'reset') => (exchange: OriginExchange): Promise<void> | void => {
    if (exchange.connection.reader.requests.length === 1) return answerOk(exchange)
    exchange[how]()
  }
  for (const how of ['destroy', 'reset'] as const) {
    it(`GET over a reused connection that ends (${how}) is repeated on another`, async t => {
      const proxy = await startProxy(t, { script: endsReused(how) })
      const client = await proxy.connect()
      await client.write(get('/1'))
      assert.equal((await client.readResponse()).status, 200)
      await client.write(get('/2'))
      assert.equal((await client.readResponse()).status, 200)
      assert.deepEqual(
        proxy.origin.connections.map(connection => connection.reader.requests.map(request => request.target)),
        [['/1', '/2'], ['/2']],
      )
    })

    it(`POST over a reused connection that ends (${how}) is not: 502`, async t => {
      const proxy = await startProxy(t, { script: endsReused(how) })
      const client = await proxy.connect()
      await client.write(get('/1'))
      assert.equal((await client.readResponse()).status, 200)
      await client.write(post('hello', '/2'))
      assert.equal((await client.readResponse()).status, 502)
      assert.equal(proxy.origin.requests.filter(request => request.target === '/2').length, 1)
    })
  }

  it('PUT with a small body over a reused connection that ends is repeated with its body', async t => {
    const proxy = await startProxy(t, {
      script: async exchange => {
        await exchange.whole()
        if (exchange.connection.reader.requests.length > 1) exchange.destroy()
        else await exchange.send(response(200, 'ok'))
      },
    })
    const client = await proxy.connect()
    await client.write(get('/1'))
    await client.readResponse()
    await client.write(head('PUT /2 HTTP/1.1', 'Content-Length: 5') + 'hello')
    assert.equal((await client.readResponse()).status, 200)
    assert.deepEqual(proxy.origin.requests.filter(request => request.target === '/2').map(request => request.bodyText), ['hello', 'hello'])
  })

  it('GET over a fresh connection that ends is not repeated: 502', async t => {
    const proxy = await startProxy(t, { script: exchange => exchange.destroy() })
    assert.equal((await proxy.exchange(get())).status, 502)
    assert.equal(proxy.origin.requests.length, 1)
  })

  it('a refused connect is repeated, with another peer if the application says so', async t => {
    const unused = net.createServer().listen(0, '127.0.0.1')
    await new Promise<void>(resolve => unused.once('listening', resolve))
    const { port } = unused.address() as net.AddressInfo
    await new Promise<void>(resolve => unused.close(() => resolve()))
    let attempts = 0
    const proxy = await startProxy(t, {
      hooks: {
        upstreamPeer: (): HttpPeer => new HttpPeer(++attempts === 1 ? `127.0.0.1:${port}` : proxy.origin.authority),
      },
    })
    assert.equal((await proxy.exchange(post('hello'))).status, 200)
    assert.equal(attempts, 2)
    assert.equal((await proxy.origin.received()).bodyText, 'hello')
  })

  it('an origin that cannot be reached at all is 502, after maxAttempts', async t => {
    let attempts = 0
    const proxy = await startProxy(t, {
      hooks: {
        upstreamPeer: (): HttpPeer => {
          attempts++
          return new HttpPeer(proxy.origin.authority, { maxAttempts: 2 })
        },
      },
    })
    await proxy.origin.stop()
    assert.equal((await proxy.exchange(get())).status, 502)
    assert.equal(attempts, 2)
  })
})

describe('http1 proxy: time', () => {
  it('a head that does not end in time is 408', async t => {
    const proxy = await startProxy(t, { listener: { headTimeoutMs: 300 } })
    const client = await proxy.connect()
    await client.write('GET / HTTP/1.1\r\nHost: a.ex')
    assert.equal((await client.readResponse()).status, 408)
    assert.ok(await client.closes())
  })

  it('one byte at a time does not buy a head more time', async t => {
    const proxy = await startProxy(t, { listener: { headTimeoutMs: 400 } })
    const client = await proxy.connect()
    const start = performance.now()
    const drip = setInterval(() => { void client.write('a') }, 20)
    t.after(() => clearInterval(drip))
    await client.write('GET / HTTP/1.1\r\n')
    assert.equal((await client.readResponse()).status, 408)
    assert.ok(performance.now() - start < 1000)
  })

  it('a connection on which nothing is said is closed in silence', async t => {
    const proxy = await startProxy(t, { listener: { headTimeoutMs: 300 } })
    const client = await proxy.connect()
    assert.equal((await client.readUntilClose()).length, 0)
    assert.equal(client.error, null)
  })

  it('an idle connection is closed politely after keepAliveTimeoutMs', async t => {
    const proxy = await startProxy(t, { listener: { keepAliveTimeoutMs: 300 } })
    const client = await proxy.connect()
    await client.write(get())
    await client.readResponse()
    const start = performance.now()
    assert.equal((await client.readUntilClose()).length, 0)
    const waited = performance.now() - start
    assert.ok(waited > 200 && waited < 1000, `closed after ${waited} ms`)
    assert.equal(client.error, null)
  })

  it('a request body that pauses too long is 408, and the origin sees no whole request', async t => {
    const proxy = await startProxy(t, { listener: { bodyIdleTimeoutMs: 300 } })
    const client = await proxy.connect()
    await client.write(head('POST / HTTP/1.1', 'Content-Length: 10') + 'hello')
    assert.equal((await client.readResponse()).status, 408)
    assert.ok(await client.closes())
    await waitFor('the origin to be left', () => proxy.origin.openConnections === 0)
    assert.equal(proxy.origin.requests[0]?.complete ?? false, false)
  })

  it('an origin that says nothing is 504 after firstByteTimeoutMs, and is not asked again', async t => {
    const proxy = await startProxy(t, { peer: { firstByteTimeoutMs: 300 }, script: () => {} })
    assert.equal((await proxy.exchange(get())).status, 504)
    assert.equal(proxy.origin.requests.length, 1)
    await waitFor('the origin to be left', () => proxy.origin.openConnections === 0)
  })

  it('an origin that stops within its head is 504', async t => {
    const proxy = await startProxy(t, {
      peer: { firstByteTimeoutMs: 300, readTimeoutMs: 300 },
      script: exchange => exchange.send('HTTP/1.1 200 OK\r\nX-A'),
    })
    assert.equal((await proxy.exchange(get())).status, 504)
  })

  it('an origin that stops within its body: the answer is cut', async t => {
    const proxy = await startProxy(t, {
      peer: { readTimeoutMs: 300 },
      script: exchange => exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello'),
    })
    const answered = await proxy.exchange(get())
    assert.equal(answered.status, 200)
    assert.equal(answered.complete, false)
  })

  it('an origin that takes no byte of a request body is 504 after writeTimeoutMs', async t => {
    const proxy = await startProxy(t, { peer: { writeTimeoutMs: 300 }, script: exchange => exchange.pause() })
    const client = await proxy.connect()
    await client.write(head('POST / HTTP/1.1', 'Content-Length: 100000000'))
    void client.write(Buffer.alloc(30_000_000))
    assert.equal((await client.readResponse()).status, 504)
    // Only a socket that is read notices its end.
    proxy.origin.connections[0]!.socket.resume()
  })

  it('a client that takes no byte of its answer is cut after sendTimeoutMs, and the origin is left', async t => {
    const proxy = await startProxy(t, {
      listener: { sendTimeoutMs: 300 },
      script: async exchange => {
        await exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n')
        void exchange.send(Buffer.alloc(100_000_000))
      },
    })
    const client = await proxy.connect()
    client.pause()
    await client.write(get())
    await waitFor('the connection to be cut', () => proxy.server.stats().connections === 0)
    await waitFor('the origin to be left', () => proxy.origin.openConnections === 0)
  })

  it('an exchange that takes longer than totalTimeoutMs ends: 408 before the answer, a cut within it', async t => {
    const proxy = await startProxy(t, {
      listener: { totalTimeoutMs: 400 },
      script: async exchange => {
        if (exchange.request.target !== '/slow') return
        await exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
      },
    })
    assert.equal((await proxy.exchange(get('/silent'))).status, 408)
    const answered = await proxy.exchange(get('/slow'))
    assert.equal(answered.status, 200)
    assert.equal(answered.complete, false)
  })
})

describe('http1 proxy: lines', () => {
  it('over a long line (15 ms each way, both sides) a pipeline, an expectation and a large body are served as ever', async t => {
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(`127.0.0.1:${far.port}`) } })
    await using far = await DelayRelay.start({ host: '127.0.0.1', port: proxy.origin.port }, 15)
    await using near = await DelayRelay.start({ host: '127.0.0.1', port: proxy.port }, 15)
    using client = await RawClient.connect(near.address)
    const body = 'x'.repeat(300_000)
    await client.write(
      get('/1') + post(body, '/2') + get('/3') + head('POST /4 HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 5') + 'hello',
    )
    for (let index = 0; index < 4; index++) assert.equal((await client.readResponse()).status, 200)
    assert.deepEqual(proxy.origin.requests.map(request => [request.target, request.bodyBytes]), [
      ['/1', 0], ['/2', body.length], ['/3', 0], ['/4', 5],
    ])
    assert.deepEqual(proxy.origin.faults, [])
  })

  it('a listener on a Unix path serves, and leaves no path behind', async t => {
    const origin = await ScriptedOrigin.start()
    t.after(() => origin.stop())
    const path = join(temporaryFolder(t), 'http.sock')
    const server = new Server()
    server.addService(
      httpProxyService<undefined>({ newCtx: () => undefined, upstreamPeer: () => new HttpPeer(origin.authority) }).addUnix(path),
    )
    await server.start()
    const client = await RawClient.connect({ path })
    await client.write(get())
    assert.equal((await client.readResponse()).status, 200)
    assert.equal((await origin.received()).field('x-forwarded-for'), null, 'a Unix client has no address')
    client.destroy()
    await server.stop({ idleDrainMs: 0, closeSpreadMs: 0 })
    assert.equal(existsSync(path), false)
  })

  it('an origin on a Unix path is reached', async t => {
    const path = join(temporaryFolder(t), 'origin.sock')
    const origin = http.createServer((request, answered) => answered.end(`${request.method} ${request.url}`)).listen(path)
    await new Promise<void>(resolve => origin.once('listening', resolve))
    t.after(() => { origin.close(); origin.closeAllConnections() })
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => new HttpPeer(`unix:${path}`) } })
    for (let times = 0; times < 2; times++) assert.equal((await proxy.exchange(get('/x'))).body.toString(), 'GET /x')
  })
})

describe('http1 proxy: faults of hooks', () => {
  for (const hook of ['requestFilter', 'upstreamPeer', 'upstreamRequestFilter', 'responseFilter'] as const) {
    it(`a throw in ${hook} ends one exchange: 500, and the next request is unharmed`, async t => {
      let armed = true
      const fail = (): void => { if (armed) throw new Error('a fault of the application') }
      const hooks: { [Name in typeof hook]: Partial<ProxyHttp<undefined>> } = {
        requestFilter: { requestFilter: () => { fail(); return 'continue' } },
        upstreamPeer: { upstreamPeer: () => { fail(); return new HttpPeer(proxy.origin.authority) } },
        upstreamRequestFilter: { upstreamRequestFilter: fail },
        responseFilter: { responseFilter: fail },
      }
      const proxy = await startProxy(t, { hooks: hooks[hook] })
      assert.equal((await proxy.exchange(get())).status, 500)
      armed = false
      assert.equal((await proxy.exchange(get())).status, 200)
    })
  }

  it('a status that a hook throws is the answer', async t => {
    const proxy = await startProxy(t, {
      hooks: { requestFilter: () => { throw new ProxyError('STATUS', 'internal', 'shown to nobody', { status: 451 }) } },
    })
    const answered = await proxy.exchange(get())
    assert.equal(answered.status, 451)
    assert.doesNotMatch(answered.raw.toString('latin1'), /shown to nobody/)
  })
})

describe('http1 proxy: large bodies', () => {
  const SIZE = 100 * 1024 * 1024

  /** Reproducible bytes that compress and repeat nowhere near a buffer's size. */
  function* pieces(size: number): Generator<Buffer> {
    const block = randomBytes(1_000_003)
    for (let sent = 0; sent < size; sent += block.length) yield block.subarray(0, Math.min(block.length, size - sent))
  }

  for (const framing of ['length', 'chunked'] as const) {
    it(`100 MB down by ${framing} arrive as they were sent`, async t => {
      const sent = createHash('sha256')
      const proxy = await startProxy(t, {
        script: async exchange => {
          await exchange.send(
            `HTTP/1.1 200 OK\r\n${framing === 'length' ? `Content-Length: ${SIZE}` : 'Transfer-Encoding: chunked'}\r\n\r\n`,
          )
          for (const piece of pieces(SIZE)) {
            sent.update(piece)
            await exchange.send(framing === 'length' ? piece : chunk(piece))
          }
          if (framing === 'chunked') await exchange.send('0\r\n\r\n')
        },
      })
      const received = createHash('sha256')
      const bytes = await within('the download', new Promise<number>((resolve, reject) => {
        http.get({ port: proxy.port, host: '127.0.0.1', agent: false }, incoming => {
          let count = 0
          incoming.on('data', (piece: Buffer) => {
            count += piece.length
            received.update(piece)
          })
          incoming.on('end', () => resolve(count))
          incoming.on('error', reject)
        }).on('error', reject)
      }), 60_000)
      assert.equal(bytes, SIZE)
      assert.equal(received.digest('hex'), sent.digest('hex'))
    })

    it(`100 MB up by ${framing} arrive as they were sent`, async t => {
      const proxy = await startProxy(t)
      const sent = createHash('sha256')
      const status = await within('the upload', upload(t, proxy.port, framing, pieces(SIZE), sent), 60_000)
      assert.equal(status, 200)
      const request = await proxy.origin.received()
      assert.equal(request.framing, framing)
      assert.equal(request.bodyBytes, SIZE)
      assert.equal(request.bodySha256, sent.digest('hex'))
    })
  }

  for (const framing of ['length', 'chunked'] as const) {
    it(`an upload by ${framing} to an origin that reads in bursts arrives as it was sent`, async t => {
      const proxy = await startProxy(t, {
        script: async exchange => {
          const { socket } = exchange.connection
          let burst = 0
          socket.on('data', (bytes: Buffer) => {
            if ((burst += bytes.length) < 2_000_000) return
            burst = 0
            socket.pause()
            setTimeout(() => socket.resume(), 10)
          })
          await answerOk(exchange)
        },
      })
      const sent = createHash('sha256')
      assert.equal(await within('the upload', upload(t, proxy.port, framing, pieces(SIZE), sent), 60_000), 200)
      assert.equal((await proxy.origin.received()).bodySha256, sent.digest('hex'))
    })
  }

  async function upload(
    t: TestContext,
    port: number,
    framing: 'length' | 'chunked',
    body: Iterable<Buffer>,
    hash: ReturnType<typeof createHash>,
  ): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    const request = http.request({
      port, host: '127.0.0.1', method: 'PUT', agent: false,
      headers: framing === 'length' ? { 'content-length': SIZE } : {},
    }, incoming => {
      incoming.resume()
      incoming.on('end', () => resolve(incoming.statusCode!))
    }).on('error', reject)
    t.after(() => request.destroy())
    for (const piece of body) {
      hash.update(piece)
      if (!request.write(piece)) await new Promise<void>(go => request.once('drain', () => go()))
    }
    request.end()
    return await promise
  }
})
