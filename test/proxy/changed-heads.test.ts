/**
 * What a hook may make of a head: whichever hook it is and whatever it sets, the origin and the client get one message for
 * each that is meant, or the exchange ends with a fault of the hook.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HttpPeer, type Peer, type ProxyHttp, type RequestHead, type ResponseHead, type Session } from '../../src/index.ts'
import { get, post, startProxy } from '../support/proxy.ts'
import { answer, response } from '../support/scripted-origin.ts'

type Hooks = Partial<ProxyHttp<undefined>>
type Change = (request: RequestHead) => void

const SPLIT = '/%20HTTP/1.1%0d%0aHost:%20a.example%0d%0a%0d%0aGET%20/smuggled'

/** Hooks that can reach the head of a request before it is sent. */
const REQUEST_HOOKS: Readonly<Record<string, (change: Change, peer: () => Peer) => Hooks>> = {
  earlyRequestFilter: change => ({ earlyRequestFilter({ request }) { change(request) } }),
  requestFilter: change => ({ requestFilter({ request }) { change(request); return 'continue' } }),
  'requestFilter of a module': change => ({ modules: [{ name: 'm', requestFilter({ request }) { change(request); return 'continue' } }] }),
  proxyUpstreamFilter: change => ({ proxyUpstreamFilter({ request }) { change(request); return 'continue' } }),
  upstreamPeer: (change, peer) => ({ upstreamPeer({ request }) { change(request); return peer() } }),
  'upstreamPeer, later': (change, peer) => ({
    async upstreamPeer({ request }) { await Promise.resolve(); change(request); return peer() },
  }),
  connectedToUpstream: change => ({ connectedToUpstream({ request }) { change(request) } }),
  upstreamRequestFilter: change => ({ upstreamRequestFilter(_session, request) { change(request) } }),
  'upstreamRequestFilter, later': change => ({
    async upstreamRequestFilter(_session, request) { await Promise.resolve(); change(request) },
  }),
  onConnectionReuse: change => ({
    persistConnectionContext: () => 'kept',
    onConnectionReuse({ request }) { change(request) },
  }),
}

const BAD_CHANGES: Readonly<Record<string, Change>> = {
  'a target decoded': request => { request.target = decodeURIComponent(request.target) },
  'a target with a blank': request => { request.target = '/a b' },
  'a target with a fragment': request => { request.target = '/a#b' },
  'a target that is no path': request => { request.target = 'a' },
  'a target beyond latin1': request => { request.target = '/\u010d\u010a' },
  'an empty target': request => { request.target = '' },
  'a target that is an object': request => { request.target = { toString: () => '/ HTTP/1.1\r\n\r\n' } as never },
  'a method with a second line': request => { request.method = 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET' },
  'an empty method': request => { request.method = '' },
  'a method that is an array': request => { request.method = ['GET / HTTP/1.1\r\n\r\n'] as never },
  'a version that Via would carry': request => { request.version = '1.1 x\r\nX-Evil: 1\r\nX-Rest:' as never },
  'a Host that is none': request => { request.headers.set('Host', 'a.example, b.example') },
  'a second Host': request => { request.headers.append('host', 'b.example') },
  'a field with a second line': request => { request.headers.set('X-A', 'b\r\nX-Evil: 1') },
  'a field whose name has a second line': request => { request.headers.append('X-A: b\r\nX-Evil', '1') },
  'a field that is an object': request => { request.headers.set('X-A', { length: 0, toString: () => '\r\nX-Evil: 1' } as never) },
}

describe('proxy: heads of requests that hooks change', () => {
  for (const [hook, hooksWith] of Object.entries(REQUEST_HOOKS)) {
    it(`what ${hook} sets is looked at before it is sent`, async t => {
      let change: Change = () => { /* nothing yet */ }, peer: Peer | null = null
      const proxy = await startProxy(t, {
        service: { via: 'both' },
        hooks: hooksWith(request => { if (request.headers.has('x-change')) change(request) }, () => peer!),
        script: async exchange => { await exchange.send(response(200, exchange.request.target)) },
      })
      peer = new HttpPeer(proxy.origin.authority)
      for (const [what, next] of Object.entries(BAD_CHANGES)) {
        change = next
        const client = await proxy.connect()
        // A first request leaves a connection in the pool, and something for the hooks that look back.
        await client.write(get('/first'))
        assert.equal((await client.readResponse()).body.toString(), '/first', what)
        await client.write(get(SPLIT, 'X-Change: yes'))
        assert.equal((await client.readResponse()).status, 500, what)
        client.destroy()
        const victim = await proxy.exchange(get('/victim'))
        assert.equal(victim.body.toString(), '/victim', what)
      }
      const seen = proxy.origin.connections.map(({ text }) => text).join('')
      assert.doesNotMatch(seen, /smuggled|X-Evil/)
    })
  }

  it('a peer of the application\'s own making cannot write a second line with its name', async t => {
    const names = ['a b', 'a\r\nX-Evil: 1', '']
    let peer: Peer | null = null
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => peer! } })
    const plain = new HttpPeer(proxy.origin.authority)
    for (const sni of names) {
      const { address, tls, connectProxy, options } = plain
      peer = { address, tls, sni, connectProxy, options, reuseKey: `own ${sni}`, name: sni }
      assert.equal((await proxy.exchange('GET / HTTP/1.0\r\n\r\n')).status, 500)
    }
    peer = plain
    assert.equal((await proxy.exchange('GET / HTTP/1.0\r\n\r\n')).status, 200)
  })

  it('nor with what it asks a CONNECT proxy for', async t => {
    let peer: Peer | null = null
    const proxy = await startProxy(t, { hooks: { upstreamPeer: () => peer! } })
    const plain = new HttpPeer(proxy.origin.authority)
    const noTls = { tls: false, sni: '', verifyCert: true, ca: null, clientCert: null }
    const asked = { nextHop: plain.address, ...noTls, host: 'b.example', port: 80, headers: [] }
    const wrong = [
      { ...asked, host: 'b.example HTTP/1.1\r\nX-Evil: 1\r\nX' },
      { ...asked, headers: [['X-A', 'b\r\nX-Evil: 1'] as const] },
      { ...asked, headers: [['X-A: b\r\nX-Evil', '1'] as const] },
    ]
    for (const [index, connectProxy] of wrong.entries()) {
      const { address, tls, sni, options, name } = plain
      peer = { address, tls, sni, connectProxy, options, reuseKey: `own ${index}`, name }
      assert.equal((await proxy.exchange(get())).status, 500)
    }
    assert.doesNotMatch(proxy.origin.connections.map(({ text }) => text).join(''), /X-Evil|CONNECT/)
  })

  it('what a filter may want to send is sent', async t => {
    const proxy = await startProxy(t, {
      hooks: {
        proxyUpstreamFilter({ request }) {
          request.method = 'PUT'
          request.target = 'http://b.example/x?y=[1]'
          request.authority = '[::1]:8080'
          request.headers.set('X-A', 'caf\u00e9')
          return 'continue'
        },
      },
    })
    assert.equal((await proxy.exchange(post('body'))).status, 200)
    assert.match(proxy.origin.connections[0]!.text, /^PUT http:\/\/b\.example\/x\?y=\[1\] HTTP\/1\.1\r\nHost: \[::1\]:8080\r\n/)
  })
})

describe('proxy: heads of responses that hooks change', () => {
  const BAD: Readonly<Record<string, (one: ResponseHead) => void>> = {
    'a reason with a second line': one => { one.reason = 'OK\r\nX-Evil: 1' },
    'a reason that is an object': one => { one.reason = { length: 0, toString: () => 'OK\r\nX-Evil: 1' } as never },
    'a status that is a text': one => { one.status = '200 OK\r\nX-Evil: 1\r\nX-Rest:' as never },
    'a version that Via would carry': one => { one.version = '1.1 x\r\nX-Evil: 1\r\nX-Rest:' as never },
    'a field with a second line': one => { one.headers.set('X-A', 'b\r\nX-Evil: 1') },
  }
  const HOOKS: Readonly<Record<string, (change: (one: ResponseHead) => void) => Hooks>> = {
    upstreamResponseFilter: change => ({ upstreamResponseFilter(_session, one) { change(one) } }),
    responseFilter: change => ({ responseFilter(_session, one) { change(one) } }),
    'responseFilter of a module': change => ({ modules: [{ name: 'm', responseFilter(_session, one) { change(one) } }] }),
    'respond and then the head': change => ({
      requestFilter(session: Session) { session.respond(200, {}, 'own'); change(session.response!); return 'responded' },
    }),
    'an asynchronous failToProxy': change => ({
      requestFilter() { throw new Error('fails') },
      async failToProxy(session) { await Promise.resolve(); session.respond(503); change(session.response!) },
    }),
  }
  for (const [hook, hooksWith] of Object.entries(HOOKS)) {
    it(`what ${hook} sets is looked at before it is sent`, async t => {
      for (const [what, change] of Object.entries(BAD)) {
        const proxy = await startProxy(t, { service: { via: 'both' }, hooks: hooksWith(change) })
        const client = await proxy.connect()
        await client.write(get())
        const got = await client.readResponse().catch(() => null)
        assert.ok(got === null || got.status === 500 || got.status === 503, `${what}: ${got?.status}`)
        assert.doesNotMatch(got?.raw.toString('latin1') ?? '', /\r\nX-Evil/, what)
        client.destroy()
      }
    })
  }

  it('a length that a filter made up does not reach a client that gets no body', async t => {
    const proxy = await startProxy(t, {
      hooks: { responseFilter(_session, one) { one.headers.append('Content-Length', '7 ') ; one.headers.append('Content-Length', '8') } },
      script: answer('HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'),
    })
    const got = await proxy.exchange(get())
    assert.deepEqual([got.status, got.field('content-length')], [304, null])
  })
})
