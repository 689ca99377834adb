import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BasicPeer } from '../../src/peer/basic-peer.ts'
import {
  HTTP_PEER_OPTIONS, HttpPeer, verifiedName, type BackendLike, type ConnectProxyOptions, type HttpPeerOptions,
} from '../../src/peer/http-peer.ts'
import type { PeerAddress } from '../../src/peer/peer-address.ts'
import { makeTestCa } from '../support/test-ca.ts'

test('http peer: an address as text, object or backend gives the same peer', () => {
  const text = new HttpPeer('[::1]:8080')
  const object = new HttpPeer({ kind: 'tcp', host: '::1', port: 8080 })
  const backend = new HttpPeer({ peerAddress: { kind: 'tcp', host: '::1', port: 8080 }, name: '[::1]:8080' })
  for (const peer of [text, object, backend]) {
    assert.equal(peer.name, '[::1]:8080')
    assert.deepEqual(peer.address, { kind: 'tcp', host: '::1', port: 8080 })
    assert.equal(peer.reuseKey, text.reuseKey)
    assert.equal(peer.tls, false)
    assert.equal(peer.connectProxy, null)
  }
  assert.equal(new HttpPeer('unix:/run/a.sock').name, 'unix:/run/a.sock')
})

test('http peer: empty options and no options are the same peer', () => {
  assert.equal(new HttpPeer('a.test:80', {}).reuseKey, new HttpPeer('a.test:80').reuseKey)
  assert.equal(new HttpPeer('A.Test:80').reuseKey, new HttpPeer('a.test:80').reuseKey)
})

test('http peer: an address object that changes gives another peer, and never changes one that was made', () => {
  const address = { kind: 'tcp' as const, host: 'a.test', port: 80 }
  const before = new HttpPeer(address)
  address.port = 81
  const after = new HttpPeer(address)
  assert.notEqual(after.reuseKey, before.reuseKey)
  assert.deepEqual(before.address, { kind: 'tcp', host: 'a.test', port: 80 })
  assert.deepEqual(after.address, { kind: 'tcp', host: 'a.test', port: 81 })
})

test('http peer: attempts are reported to the backend that was selected', () => {
  class Counting implements BackendLike {
    readonly peerAddress: PeerAddress = { kind: 'tcp', host: '127.0.0.1', port: 80 }
    readonly name = '127.0.0.1:80'
    readonly reports: boolean[] = []
    report(healthy: boolean): void { this.reports.push(healthy) }
  }
  const backend = new Counting()
  const peer = new HttpPeer(backend)
  peer.report(true)
  peer.report(false)
  assert.deepEqual(backend.reports, [true, false])
  assert.equal(peer.backend, backend)
  new HttpPeer('a.test:1').report(false)
  new HttpPeer({ peerAddress: backend.peerAddress, name: 'x' }).report(false)
})

test('http peer: the server name comes from the host with TLS, if it is a name', () => {
  assert.equal(new HttpPeer('a.test:443', { tls: true }).sni, 'a.test')
  assert.equal(new HttpPeer('a.test.:443', { tls: true }).sni, 'a.test')
  assert.equal(new HttpPeer('a.test:443', { tls: true, sni: 'b.test' }).sni, 'b.test')
  assert.equal(new HttpPeer('a.test:443', { tls: true, sni: '' }).sni, '')
  assert.equal(new HttpPeer('1.1.1.1:443', { tls: true }).sni, '')
  assert.equal(new HttpPeer('a.test:80').sni, '')
})

test('http peer: an empty server name leaves verification on, against the host', () => {
  const peer = new HttpPeer('1.1.1.1:443', { tls: true, sni: '' })
  assert.equal(peer.options.verifyCert, true)
  assert.equal(peer.options.verifyHostname, true)
  assert.equal(verifiedName(peer), '1.1.1.1')
  assert.equal(verifiedName(new HttpPeer('a.test:443', { tls: true, sni: '' })), 'a.test')
  assert.equal(verifiedName(new HttpPeer('a.test:443', { tls: true, sni: 'b.test' })), 'b.test')
  assert.throws(() => new HttpPeer('unix:/run/a.sock', { tls: true }), /has no name to check the certificate against/)
  new HttpPeer('unix:/run/a.sock', { tls: true, sni: 'a.test' })
  new HttpPeer('unix:/run/a.sock', { tls: true, verifyHostname: false })
})

const authorities = [makeTestCa(), makeTestCa()].map(({ cert }) => cert)
const pairs = [makeTestCa().issue(), makeTestCa().issue()].map(({ cert, key }) => ({ cert, key }))

test('http peer: refusals say what would do', () => {
  const refuse = (options: HttpPeerOptions, says: RegExp, address = 'a.test:443'): void => {
    assert.throws(() => new HttpPeer(address, options), error => error instanceof TypeError && says.test(error.message))
  }
  refuse({ sni: 'b.test' }, /peer\.sni means nothing without TLS; use tls: true as well/)
  refuse({ clientCert: pairs[0]! }, /peer\.clientCert means nothing without TLS/)
  const mixed = { cert: pairs[0]!.cert, key: pairs[1]!.key }
  refuse({ tls: true, clientCert: mixed }, /use the key of the first certificate in cert: this one is of another/)
  refuse({ tls: true, clientCert: { cert: pairs[0]!.cert, key: 'key.pem' } }, /use in key a private key in PEM .*not the path of a file/)
  refuse({ connectProxy: { nextHop: 'p.test:3128', ca: [authorities[0]!] } }, /connectProxy\.ca means nothing without TLS; use tls: true/)
  refuse({ connectProxy: { nextHop: 'unix:/run/p.sock', tls: true } }, /connectProxy\.sni is ""; a Unix socket has no name to check/)
  refuse({ sni: '1.1.1.1' }, /SNI carries no IP addresses/)
  refuse({ sni: 'a.test.' }, /leave out the dot/)
  refuse({ sni: 'a b' }, /use a host name/)
  refuse({ tls: 1 as unknown as boolean }, /peer\.tls is 1; use true or false/)
  refuse({ groupKey: Number.NaN }, /peer\.groupKey is NaN/)
  refuse({ groupKey: {} as unknown as string }, /peer\.groupKey is a value of type object/)
  refuse({ clientCert: { cert: '', key: 'k' } }, /peer\.clientCert is a value of type object; use \{ cert, key \}, both PEM, or null/)
  refuse({ connectProxy: {} as unknown as ConnectProxyOptions }, /nextHop is missing/)
  refuse({ connectProxy: { nextHop: 'p.test:3128', port: -1 } }, /connectProxy\.port is -1/)
  refuse({ connectProxy: { nextHop: 'p.test:3128', host: '[::1]' } }, /without brackets/)
  refuse(
    { connectProxy: { nextHop: 'p.test:3128', headers: [['Content-Length', '1']] } },
    /connectProxy\.headers is a list that would not do; use no Content-Length field/,
  )
  refuse(
    { tls: 1, idelTimeoutMs: 1, connectProxy: { nextHop: 3128, port: -1 } } as unknown as HttpPeerOptions,
    /^peer\.tls .*\npeer\.idelTimeoutMs .*\npeer\.connectProxy\.nextHop is 3128; .*\npeer\.connectProxy\.port is -1; .*$/,
  )
  refuse({ connectProxy: { nextHop: 'p.test:3128', extra: 1 } as unknown as ConnectProxyOptions }, /connectProxy\.extra is not an option/)
  refuse({ connectProxy: { nextHop: 'p.test:3128' } }, /a Unix address gives a proxy nothing to connect to/, 'unix:/run/a.sock')
  refuse({ connectProxy: { nextHop: 'p.test:3128' } }, /a zone means something on this machine only/, '[fe80::1%lo]:80')
  assert.throws(() => new HttpPeer(null as unknown as string), TypeError)
})

test('http peer: a CONNECT proxy is asked for the peer itself unless told otherwise', () => {
  const plain = new HttpPeer('A.test:443', { connectProxy: { nextHop: 'P.test:3128' } }).connectProxy!
  const noTls = { tls: false, sni: '', verifyCert: true, ca: null, clientCert: null }
  assert.deepEqual(plain, { nextHop: { kind: 'tcp', host: 'p.test', port: 3128 }, ...noTls, host: 'a.test', port: 443, headers: [] })
  const told = new HttpPeer('a.test:443', {
    connectProxy: { nextHop: 'unix:/run/p.sock', host: '::1', port: 8443, headers: [['Proxy-Authorization', 'Basic eDp5']] },
  }).connectProxy!
  assert.deepEqual(told, {
    nextHop: { kind: 'unix', path: '/run/p.sock' }, ...noTls, host: '::1', port: 8443,
    headers: [['Proxy-Authorization', 'Basic eDp5']],
  })
})

test('basic peer: a server name asks for TLS', () => {
  assert.equal(new BasicPeer('a.test:25').tls, false)
  assert.equal(new BasicPeer('a.test:25', { sni: '' }).tls, false)
  const peer = new BasicPeer('a.test:465', { sni: 'mail.test', connectTimeoutMs: 5 })
  assert.equal(peer.tls, true)
  assert.equal(peer.sni, 'mail.test')
  assert.equal(peer.options.connectTimeoutMs, 5)
  assert.equal(peer.reuseKey, new HttpPeer('a.test:465', { tls: true, sni: 'mail.test' }).reuseKey)
  assert.throws(() => new BasicPeer('a.test:1', { tls: true } as object), /peer\.tls is not an option of a BasicPeer/)
  assert.throws(() => new BasicPeer('a.test:1', { tcpFastOpen: true } as object), /peer\.tcpFastOpen is not supported/)
})

// ---- the reuse key

interface Made {
  readonly address: string
  readonly options: HttpPeerOptions
}

/** Texts that look like parts of a key, to provoke collisions. */
const trickyName = fc.constantFrom('a', 'a.b', 's', 'h0', 't1', 'x-', 'g1', 'n1', 'u1', '1-a', 'p-p')
const trickyText = fc.constantFrom('', '-', ':', ';', '1:', 'n1;', 'g1:a', '-g1:a', '[', ']', '"', '","', '\\', 'a', '0:', 's0:---')
const address = fc.oneof(
  fc.tuple(trickyName, fc.integer({ min: 1, max: 3 })).map(([host, port]) => `${host}:${port}`),
  fc.constantFrom('127.0.0.1:1', '[::1]:1', '[::1:1]:1', '[::]:11'),
  fc.constantFrom('/1', '/1:', '/a:1;', '/a', '/t1:a:1;').map(path => `unix:${path}`),
)
const connectProxy = fc.record({
  nextHop: address, host: trickyName, port: fc.integer({ min: 1, max: 2 }),
  headers: fc.array(
    fc.tuple(fc.constantFrom('a', 'b', 'a-b'), trickyText).map(([name, value]) => [name, value] as const),
    { maxLength: 2 },
  ),
  secure: fc.option(fc.record({ sni: trickyName, verifyCert: fc.boolean() })),
}).map(({ secure, ...plain }) => secure === null ? plain : { ...plain, ...secure, tls: true })
/** Any of these options, or none of them; what is refused for now is left out. */
function settable(values: Partial<Record<keyof HttpPeerOptions, fc.Arbitrary<unknown>>>): fc.Arbitrary<HttpPeerOptions> {
  const kept = Object.entries(values).filter(([name]) => HTTP_PEER_OPTIONS[name as keyof HttpPeerOptions].awaits === '')
  return fc.record(Object.fromEntries(kept), { requiredKeys: [] }) as fc.Arbitrary<HttpPeerOptions>
}

const peers: fc.Arbitrary<Made> = fc.record({
  address,
  options: settable({
    tls: fc.boolean(), sni: trickyName, groupKey: fc.oneof(fc.integer({ min: 1, max: 3 }), trickyText),
    verifyHostname: fc.boolean(), alternativeName: trickyName,
    clientCert: fc.constantFrom(...pairs), ca: fc.array(fc.constantFrom(...authorities), { minLength: 1, maxLength: 2 }), connectProxy,
    extraProxyHeaders: fc.array(
      fc.tuple(fc.constantFrom('a', 'b'), trickyText).map(([name, value]) => [name, value] as const),
      { maxLength: 2 },
    ),
    curves: fc.constantFrom('X25519', 'X25519:P-256', 'P-256:X25519'), tcpKeepAliveCount: fc.constantFrom(1, 11, 0),
    localAddress: fc.constantFrom('', '127.0.0.1', '::1'),
  }).map(options => options.tls === true ? options : withoutTls(options)),
})

/** What is refused without TLS is left out. */
function withoutTls(options: HttpPeerOptions): HttpPeerOptions {
  const ofTls = ['sni', 'verifyHostname', 'alternativeName', 'clientCert', 'ca', 'curves']
  return Object.fromEntries(Object.entries(options).filter(([name]) => !ofTls.includes(name)))
}

/** What the peer is, written in another way than the key is. */
function meaning({ address: text, options }: Made): string {
  return JSON.stringify({
    address: text, tls: options.tls ?? false, sni: options.sni ?? '', group: options.groupKey ?? 0,
    verify: options.verifyHostname ?? true, name: options.alternativeName ?? '',
    cert: options.clientCert ?? null, ca: options.ca ?? null, proxy: options.connectProxy ?? null,
    extra: options.extraProxyHeaders ?? [], curves: options.curves ?? '',
    probes: options.tcpKeepAliveCount ?? 0, local: options.localAddress ?? '',
  })
}

/** Peers that may be made: TLS without a server name takes it from the host, which `meaning` must not have to know. */
const makeable = peers.filter(({ options }) => !(options.tls === true && options.sni === undefined))

test('reuse key: equal peers have equal keys, different ones never', () => {
  fc.assert(fc.property(makeable, makeable, (a, b) => {
    const keyA = new HttpPeer(a.address, a.options).reuseKey, keyB = new HttpPeer(b.address, b.options).reuseKey
    assert.equal(keyA === keyB, meaning(a) === meaning(b), `${keyA}\n${keyB}`)
    assert.equal(new HttpPeer(a.address, structuredClone(a.options)).reuseKey, keyA)
  }), { numRuns: 3000 })
})

test('reuse key: peers that differ in one field only have different keys', () => {
  const fields = [
    'sni', 'groupKey', 'verifyHostname', 'alternativeName', 'clientCert', 'ca', 'connectProxy',
    'extraProxyHeaders', 'curves', 'tcpKeepAliveCount', 'localAddress',
  ] as const
  fc.assert(fc.property(makeable, makeable, fc.constantFrom(...fields), (a, b, field) => {
    const named: HttpPeerOptions = { tls: true, sni: a.options.sni ?? 'a' }
    const changed: Made = { address: a.address, options: { ...a.options, ...named, [field]: b.options[field] } }
    fc.pre(changed.options.sni !== undefined)
    const from: Made = { address: a.address, options: { ...a.options, ...named } }
    const clean = (made: Made): HttpPeer => new HttpPeer(made.address, made.options)
    assert.equal(clean(from).reuseKey === clean(changed).reuseKey, meaning(from) === meaning(changed))
  }), { numRuns: 2000 })
})

test('reuse key: with TLS and without, to the peer and to its proxy', () => {
  const proxy = { nextHop: 'p.test:1' }
  const keys = [
    new HttpPeer('a.test:443'), new HttpPeer('a.test:443', { tls: true }), new HttpPeer('a.test:443', { tls: true, sni: '' }),
    new HttpPeer('a.test:443', { connectProxy: proxy }), new HttpPeer('a.test:443', { connectProxy: { ...proxy, tls: true } }),
    new HttpPeer('a.test:443', { connectProxy: { ...proxy, tls: true, verifyCert: false } }),
    new HttpPeer('a.test:443', { connectProxy: { ...proxy, tls: true, ca: [authorities[0]!] } }),
    new HttpPeer('a.test:443', { connectProxy: { ...proxy, tls: true, clientCert: pairs[0]! } }),
    new HttpPeer('a.test:443', { connectProxy: { ...proxy, tls: true, sni: 'q.test' } }),
  ].map(({ reuseKey }) => reuseKey)
  assert.equal(new Set(keys).size, keys.length)
})

test('reuse key: holds no secret', () => {
  const headers = [['Proxy-Authorization', 'SECRET']] as const
  const [clientCert] = pairs as [typeof pairs[number]]
  const connectProxy = { nextHop: 'p.test:1', headers, tls: true, clientCert }
  const { reuseKey } = new HttpPeer('a.test:443', { tls: true, clientCert, connectProxy, extraProxyHeaders: headers })
  assert.ok(!reuseKey.includes('SECRET'))
  for (const line of clientCert.key.split('\n')) assert.ok(line.length < 20 || !reuseKey.includes(line))
})
