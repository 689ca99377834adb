import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ConnectTunnel, connectRequest, type TunnelWaiter } from '../../src/connector/connect-proxy.ts'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { ByteStream } from '../../src/protocols/byte-stream.ts'
import { FakeStream, Outcome } from './fakes.ts'

class Fixture implements TunnelWaiter {
  readonly stream = new FakeStream(new Outcome().owner)
  readonly tunnel: ConnectTunnel
  opened: ByteStream | null = null
  early: Buffer | null = null
  error: ProxyError | null = null
  calls = 0
  constructor(options: HttpPeerOptions = {}, address = 'origin.test:443') {
    this.tunnel = new ConnectTunnel(this.stream, new HttpPeer(address, { connectProxy: { nextHop: 'proxy.test:3128' }, ...options }), this)
  }
  onTunnelOpen(stream: ByteStream, early: Buffer | null): void {
    this.calls++
    this.opened = stream
    this.early = early
    stream.owner = new Outcome().owner
  }
  onTunnelFailed(error: ProxyError): void {
    this.calls++
    this.error = error
  }
  get failure(): string {
    assert.equal(this.calls, 1)
    assert.equal(this.error!.kind, 'CONNECT_PROXY_FAILED')
    assert.equal(this.stream.destroyed, true)
    return this.error!.message
  }
}

test('CONNECT: authority-form, IPv6 in brackets, Host the same, fields of the proxy before those of the peer', () => {
  const proxy = { nextHop: 'proxy.test:3128', headers: [['Proxy-Authorization', 'Basic eDp5'], ['X-One', '1']] } as const
  const peer = new HttpPeer('[2001:db8::1]:8443', { connectProxy: proxy, extraProxyHeaders: [['X-Two', '2']] })
  assert.equal(connectRequest(peer.connectProxy!, peer.options.extraProxyHeaders), [
    'CONNECT [2001:db8::1]:8443 HTTP/1.1', 'Host: [2001:db8::1]:8443', 'Proxy-Authorization: Basic eDp5', 'X-One: 1', 'X-Two: 2', '', '',
  ].join('\r\n'))
  const { stream } = new Fixture({ connectProxy: { nextHop: 'unix:/run/p.sock', host: 'Other.test', port: 1 } })
  assert.match(stream.written, /^CONNECT other\.test:1 HTTP\/1\.1\r\nHost: other\.test:1\r\n\r\n$/)
})

test('CONNECT: the answer may come cut anywhere, and what is behind it is kept', () => {
  const answer = 'HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n', behind = 'SSH-2.0-x\r\n'
  const whole = answer + behind
  for (let cut = 1; cut <= whole.length; cut++) {
    const fixture = new Fixture()
    fixture.stream.receive(whole.slice(0, cut))
    if (cut < answer.length) {
      assert.equal(fixture.calls, 0)
      fixture.stream.receive(whole.slice(cut))
    }
    assert.equal(fixture.calls, 1)
    assert.equal(fixture.opened, fixture.stream)
    assert.equal(fixture.early?.toString() ?? '', cut < answer.length ? behind : whole.slice(answer.length, cut))
  }
})

test('CONNECT: any 2xx opens the tunnel, and its framing fields mean nothing', () => {
  for (const head of [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 204 No Content\r\n\r\n',
    'HTTP/1.1 299 \r\n\r\n',
  ]) {
    const fixture = new Fixture()
    fixture.stream.receive(head)
    assert.equal(fixture.opened, fixture.stream)
    assert.equal(fixture.early, null)
    assert.equal(fixture.stream.destroyed, false)
  }
})

test('CONNECT: another status refuses, is named, and only the proxy\'s own faults may be tried again', () => {
  for (const [line, says, retry] of [
    ['407 Proxy Authentication Required', /origin\.test:443: the proxy answered CONNECT with 407 Proxy Authentication Required/, 'never'],
    ['302 Found', /with 302 Found/, 'never'], ['101 Switching Protocols', /with 101/, 'never'],
    ['502 Bad Gateway', /with 502 Bad Gateway/, 'always'], ['503 ', /with 503$/, 'always'],
  ] as const) {
    const fixture = new Fixture()
    fixture.stream.receive(`HTTP/1.1 ${line}\r\n\r\n`)
    assert.match(fixture.failure, says)
    assert.equal(fixture.error!.retry, retry)
  }
})

test('CONNECT: heads that break the protocol, or a limit, refuse', () => {
  const cases: readonly (readonly [text: string, says: RegExp, limit: string, options?: HttpPeerOptions])[] = [
    ['SSH-2.0-OpenSSH\r\n', /bad head: malformed start line/, 'bad-head'],
    ['HTTP/2.0 200 OK\r\n\r\n', /bad head: version/, 'bad-head'],
    ['HTTP/1.1 200 OK\n\n', /bad head/, 'bad-head'],
    ['HTTP/1.1 200 OK\r\n folded\r\n\r\n', /bad head/, 'bad-head'],
    [`HTTP/1.1 200 OK\r\nA: ${'x'.repeat(300)}\r\n\r\n`, /bad head/, 'header-line-bytes', { maxResponseHeadBytes: 256 }],
    [`HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(100)}\r\n`, /bad head: head too large/, 'response-head-bytes', { maxResponseHeadBytes: 256 }],
    [`HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(3)}\r\n`, /bad head: too many fields/, 'response-header-count', { maxResponseHeaderCount: 2 }],
    ['HTTP/1.1 100 Continue\r\n\r\n'.repeat(3), /more than 2 interim answers/, 'interim-responses', { maxInterimResponses: 2 }],
  ]
  for (const [text, says, limit, options] of cases) {
    const fixture = new Fixture(options)
    fixture.stream.receive(text)
    assert.match(fixture.failure, says)
    assert.equal(fixture.error!.limit, limit)
  }
})

test('CONNECT: a proxy that goes away refuses, once', () => {
  const ended = new Fixture()
  ended.stream.receive('HTTP/1.1 200')
  ended.stream.receiveEnd()
  assert.match(ended.failure, /closed the connection before it answered CONNECT/)
  ended.stream.close()
  assert.equal(ended.calls, 1)
  const reset = new Fixture()
  const cause = new Error('read ECONNRESET')
  reset.stream.close(cause)
  assert.equal(reset.calls, 1)
  assert.equal(reset.error!.cause, cause)
})

test('CONNECT: cancel closes, and nothing is told', () => {
  const fixture = new Fixture()
  fixture.tunnel.cancel()
  assert.equal(fixture.stream.destroyed, true)
  fixture.stream.receive('HTTP/1.1 200 OK\r\n\r\n')
  fixture.stream.close()
  assert.equal(fixture.calls, 0)
})

test('CONNECT: the answer can be watched, and watching cannot fail it', () => {
  const seen: string[] = []
  const fixture = new Fixture({
    onConnectResponse(head) {
      seen.push(`${head.status} ${head.headers.get('x-proxy')}`)
      throw new Error('watcher')
    },
  })
  fixture.stream.receive('HTTP/1.1 200 OK\r\nX-Proxy: 7\r\n\r\n')
  assert.equal(fixture.calls, 1)
  assert.deepEqual(seen, ['200 7'])
})

test('CONNECT: whatever a proxy sends, the waiter is called at most once and nothing throws', () => {
  const texts = ['HTTP/1.1 ', '200', '100', '407', ' OK', '\r\n', '\r\n\r\n', 'A: b', '\n', ' ', 'Transfer-Encoding: chunked\r\n']
  const piece = fc.oneof(fc.constantFrom(...texts), fc.string({ maxLength: 8 }))
  fc.assert(fc.property(fc.array(fc.array(piece, { maxLength: 6 }).map(parts => parts.join('')), { maxLength: 8 }), reads => {
    const fixture = new Fixture({ maxResponseHeadBytes: 128 })
    for (const read of reads) if (read !== '' && !fixture.stream.destroyed) fixture.stream.receive(read)
    if (fixture.opened === null) fixture.stream.close()
    assert.equal(fixture.calls, 1)
  }), { numRuns: 2000 })
})
