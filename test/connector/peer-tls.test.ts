import assert from 'node:assert/strict'
import type net from 'node:net'
import { test, type TestContext } from 'node:test'
import type tls from 'node:tls'
import { TransportConnector } from '../../src/connector/transport-connector.ts'
import { ProxyError, type ErrorKind } from '../../src/errors/proxy-error.ts'
import { BasicPeer } from '../../src/peer/basic-peer.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { makeTestCa, selfSigned } from '../support/test-ca.ts'
import { connectProxy, plainOrigin, tlsOrigin, type Origin } from '../support/tls-origins.ts'
import { Collector } from '../support/tls-sides.ts'
import { within } from '../support/wait-for.ts'

const ca = makeTestCa(), otherCa = makeTestCa(), below = ca.intermediate()
const good = ca.issue({ names: ['a.test'], ips: ['127.0.0.1'] })
const client = ca.issue({ names: ['device'] })
const revoked = ca.issue({ names: ['a.test'] })
const unknown = otherCa.issue({ names: ['a.test'] }), deeper = below.issue({ names: ['a.test'] })
const TRUSTED: HttpPeerOptions = { tls: true, sni: 'a.test', ca: [ca.cert] }

/** @returns why the peer could not be connected to */
async function failure(authority: string, options: HttpPeerOptions): Promise<ProxyError> {
  const connector = new TransportConnector()
  try {
    const stream = await within('the dial', connector.connect(new HttpPeer(authority, options)))
    stream.destroy()
    return assert.fail(`connected, with ${stream.digest.tls!.version}`)
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error
    assert.deepEqual([connector.counters.failed, connector.ticker.size], [1, 0])
    return error
  }
}

/** An origin, what a peer makes of it, and how that ends. */
interface Wrong {
  readonly what: string
  readonly kind: ErrorKind
  readonly says: RegExp
  readonly origin: tls.TlsOptions | ((socket: net.Socket) => void)
  readonly peer?: HttpPeerOptions
}

const alert = (code: number): Buffer => Buffer.from([0x15, 3, 3, 0, 2, 2, code])
const withAlert = (code: number) => (socket: net.Socket): void => { socket.once('data', () => socket.end(alert(code))) }

const WRONG: readonly Wrong[] = [
  {
    what: 'an expired certificate', kind: 'TLS_CERTIFICATE_EXPIRED', says: /has expired; renew it there/,
    origin: ca.issueExpired({ names: ['a.test'] }),
  },
  {
    what: 'an expired intermediate certificate', kind: 'TLS_CERTIFICATE_EXPIRED', says: /or one of the chain, has expired/,
    origin: ca.intermediate({ notBefore: new Date(0), notAfter: new Date(1_000_000_000_000) }).issue({ names: ['a.test'] }),
  },
  {
    what: 'a certificate of tomorrow', kind: 'TLS_CERTIFICATE_NOT_YET_VALID', says: /compare the clocks/,
    origin: ca.issueNotYetValid({ names: ['a.test'] }),
  },
  {
    what: 'a certificate signed by itself', kind: 'TLS_SELF_SIGNED', says: /signed by itself/,
    origin: selfSigned({ names: ['a.test'] }),
  },
  { what: 'an unknown authority', kind: 'TLS_UNKNOWN_CA', says: /into `ca` of the peer/, origin: unknown },
  {
    what: 'an unknown authority that is sent along', kind: 'TLS_UNKNOWN_CA', says: /is not trusted here/,
    origin: { cert: unknown.cert + otherCa.cert, key: unknown.key },
  },
  {
    what: 'a private authority where only those of the runtime are trusted', kind: 'TLS_UNKNOWN_CA', says: /is not known here/,
    origin: good, peer: { ca: null },
  },
  {
    what: 'an intermediate certificate that is not sent', kind: 'TLS_UNKNOWN_CA', says: /or have the server send its intermediate/,
    origin: { cert: deeper.leaf, key: deeper.key },
  },
  {
    what: 'another name', kind: 'TLS_WRONG_NAME',
    says: /is not for b\.test but for DNS:a\.test, IP Address:127\.0\.0\.1; name the server by `sni`/,
    origin: good, peer: { sni: 'b.test' },
  },
  {
    what: 'a name that only a wildcard of two labels would fit', kind: 'TLS_WRONG_NAME', says: /is not for x\.y\.a\.test/,
    origin: ca.issue({ names: ['*.a.test'] }), peer: { sni: 'x.y.a.test' },
  },
  {
    what: 'a certificate without the address, where there is no name', kind: 'TLS_WRONG_NAME',
    says: /is not for 127\.0\.0\.1 but for DNS:a\.test/,
    origin: ca.issue({ names: ['a.test'] }), peer: { sni: '' },
  },
  {
    what: 'another name than either', kind: 'TLS_WRONG_NAME', says: /is not for b\.test or c\.test/,
    origin: good, peer: { sni: 'b.test', alternativeName: 'c.test' },
  },
  {
    what: 'another name, where the chain is not verified', kind: 'TLS_WRONG_NAME', says: /is not for b\.test/,
    origin: good, peer: { sni: 'b.test', verifyCert: false },
  },
  {
    what: 'an unknown authority, where the name is not verified', kind: 'TLS_UNKNOWN_CA', says: /authority/,
    origin: otherCa.issue(), peer: { verifyHostname: false },
  },
  {
    what: 'a certificate for mail', kind: 'TLS_WRONG_PURPOSE', says: /serverAuth/,
    origin: ca.issueForOtherPurpose({ names: ['a.test'] }),
  },
  {
    what: 'a revoked certificate', kind: 'TLS_CERTIFICATE_REVOKED', says: /was revoked/,
    origin: revoked, peer: { crl: [ca.crl([revoked])] },
  },
  {
    what: 'no revocation list of its authority', kind: 'TLS_BAD_CERTIFICATE', says: /into `crl` of the peer/,
    origin: good, peer: { crl: [otherCa.crl()] },
  },
  {
    what: 'only TLS 1.2, where 1.3 is asked for', kind: 'TLS_VERSION_MISMATCH', says: /see `tlsMinVersion`/,
    origin: { ...good, maxVersion: 'TLSv1.2' }, peer: { tlsMinVersion: 'TLSv1.3' },
  },
  {
    what: 'only TLS 1.3, where 1.2 is asked for', kind: 'TLS_VERSION_MISMATCH', says: /see `tlsMinVersion`/,
    origin: { ...good, minVersion: 'TLSv1.3' }, peer: { tlsMaxVersion: 'TLSv1.2' },
  },
  {
    what: 'other groups', kind: 'TLS_NO_SHARED_CIPHER', says: /see `curves`/,
    origin: { ...good, ecdhCurve: 'P-521' }, peer: { curves: 'X25519' },
  },
  {
    what: 'other groups in TLS 1.2', kind: 'TLS_NO_SHARED_CIPHER', says: /see `curves`/,
    origin: { ...good, ecdhCurve: 'P-521', maxVersion: 'TLSv1.2' }, peer: { curves: 'X25519' },
  },
  {
    what: 'ciphers for another kind of key', kind: 'TLS_NO_SHARED_CIPHER', says: /cipher/,
    origin: { ...good, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' },
  },
  { what: 'HTTP/2 alone', kind: 'TLS_ALPN_MISMATCH', says: /see `alpn`/, origin: { ...good, ALPNProtocols: ['h2'] } },
  {
    what: 'plain HTTP', kind: 'TLS_NOT_SPOKEN', says: /speaks no TLS/,
    origin: socket => { socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')) },
  },
  {
    what: 'a banner', kind: 'TLS_NOT_SPOKEN', says: /speaks no TLS/,
    origin: socket => { socket.resume().write('SSH-2.0-OpenSSH_9.2p1\r\n') },
  },
  {
    what: 'FIN at once', kind: 'TLS_CLOSED_EARLY', says: /within the TLS handshake/,
    origin: socket => { socket.resume().end() },
  },
  {
    what: 'RST after the hello', kind: 'TLS_CLOSED_EARLY', says: /within the TLS handshake/,
    origin: socket => { socket.once('data', () => socket.resetAndDestroy()) },
  },
  {
    what: 'silence', kind: 'TLS_TIMEOUT', says: /the TLS handshake was not done within 150 ms/,
    origin: socket => { socket.resume() }, peer: { connectTimeoutMs: 150 },
  },
  { what: 'no such server name', kind: 'TLS_WRONG_NAME', says: /has no server of that name/, origin: withAlert(112) },
  { what: 'an alert of another kind', kind: 'TLS_HANDSHAKE', says: /INTERNAL_ERROR/, origin: withAlert(80) },
  {
    what: 'a demand for a client certificate in TLS 1.2', kind: 'TLS_CLIENT_CERTIFICATE_REQUIRED',
    says: /give the peer a `clientCert`/,
    origin: { ...good, requestCert: true, ca: ca.cert, maxVersion: 'TLSv1.2' },
  },
]

for (const { what, kind, says, origin: given, peer } of WRONG) {
  test(`peer tls: ${what} fails closed, as ${kind}`, async t => {
    const origin = typeof given === 'function' ? await plainOrigin(t, given) : await tlsOrigin(t, given)
    const error = await failure(origin.authority, { ...TRUSTED, ...peer })
    assert.equal(error.kind, kind, error.message)
    assert.match(error.message, says)
    assert.ok(error.message.includes(origin.authority))
    assert.deepEqual([error.source, error.retry], ['upstream', 'always'])
    await within('the connection to go', origin.gone())
  })
}

test('peer tls: a server that names no certificate of a trusted kind is not let through by a callback that would throw', async t => {
  // A name that a check by callback could stumble over.
  const origin = await tlsOrigin(t, ca.issue({ names: ['a.test'], commonName: 'a\u0000b' }))
  const error = await failure(origin.authority, { ...TRUSTED, sni: 'a' })
  assert.equal(error.kind, 'TLS_WRONG_NAME')
})

test('peer tls: a certificate with a name that OpenSSL cannot read is for no name, and ends nothing', async t => {
  // A common name of bits in place of text: a certificate with it can be read, and looking for a name in it cannot be done.
  const odd = selfSigned({ names: [], commonName: 'odd.one', purposes: [] }), der = odd.x509.raw, name = Buffer.from('\x0c\x07odd.one')
  for (let at = der.indexOf(name); at !== -1; at = der.indexOf(name, at)) der.set([0x03, 0x07, 0x00], at)
  const cert = `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`
  const origin = await tlsOrigin(t, { cert, key: odd.key })
  const error = await failure(origin.authority, { ...TRUSTED, verifyCert: false })
  assert.equal(error.kind, 'TLS_WRONG_NAME')
})

/** Connects, says what was settled, and closes. */
async function connected(t: TestContext, authority: string, options: HttpPeerOptions): Promise<Collector> {
  const owner = new Collector()
  owner.stream = await within('the dial', new TransportConnector().connect(new HttpPeer(authority, options)))
  owner.stream.owner = owner
  owner.stream.resume()
  t.after(() => owner.stream.destroy())
  return owner
}

for (const [what, serve, options] of [
  ['by name', good, {}],
  ['by address, without a server name', good, { sni: '' }],
  ['by a wildcard', ca.issue({ names: ['*.a.test'] }), { sni: 'b.a.test' }],
  ['by the second name', ca.issue({ names: ['b.test'] }), { alternativeName: 'b.test' }],
  ['by its common name, where it has no other', ca.issue({ names: [], commonName: 'a.test' }), {}],
  ['through an intermediate authority', below.issue({ names: ['a.test'] }), {}],
  ['with whatever name, where none is asked for', ca.issue({ names: ['z.test'] }), { verifyHostname: false }],
  ['of whatever authority, where none is asked for', otherCa.issue({ names: ['a.test'] }), { verifyCert: false }],
  ['that is trusted itself', selfSigned({ names: ['a.test'] }), null],
  ['with a clean revocation list', good, { crl: [ca.crl([revoked])] }],
] as const) {
  test(`peer tls: a certificate ${what} is taken`, async t => {
    const origin = await tlsOrigin(t, serve)
    const { stream } = await connected(t, origin.authority, { ...TRUSTED, ...options ?? { ca: [serve.cert] } })
    assert.equal(stream.digest.tls!.version, 'TLSv1.3')
    assert.equal(stream.digest.remoteIp, '127.0.0.1')
  })
}

test('peer tls: versions, groups, protocol and client certificate are those that were asked for', async t => {
  const shown: (string | undefined)[] = []
  const origin = await tlsOrigin(t, { ...good, ca: ca.cert, requestCert: true, ALPNProtocols: ['h2', 'http/1.1'] }, socket => {
    shown.push(socket.getPeerX509Certificate()?.subject, String(socket.alpnProtocol), String(socket.servername))
    socket.resume()
  })
  const first = await connected(t, origin.authority, { ...TRUSTED, tlsMaxVersion: 'TLSv1.2', clientCert: client })
  assert.deepEqual([first.stream.digest.tls!.version, first.stream.digest.tls!.alpn], ['TLSv1.2', 'http/1.1'])
  assert.deepEqual(shown, [client.x509.subject, 'http/1.1', 'a.test'])
  const basicPeer = new BasicPeer(origin.authority, { sni: 'a.test', ca: [ca.cert], clientCert: client })
  const basic = await within('the dial', new TransportConnector().connect(basicPeer))
  t.after(() => basic.destroy())
  while (shown.length < 6) await new Promise(resolve => setImmediate(resolve))
  assert.deepEqual([basic.digest.tls!.alpn, shown[4]], ['', 'false'])
})

test('peer tls: an origin of TLS 1.2 gets no second handshake, in which it could show something else', async t => {
  let handshakes = 0
  const origin = await tlsOrigin(t, { ...good, maxVersion: 'TLSv1.2' }, socket => {
    handshakes++
    socket.on('secure', () => { handshakes++ })
    socket.on('data', () => { socket.renegotiate({}, () => { /* As the case may be. */ }) })
  })
  const owner = await connected(t, origin.authority, TRUSTED)
  owner.stream.writeText('hello')
  await within('the connection to go', origin.gone())
  assert.equal(handshakes, 1)
})

// ---- proxies

const proxyCert = otherCa.issue({ names: ['proxy.test'], ips: ['127.0.0.1'] })

async function through(t: TestContext, origin: Origin, proxy: Origin, peer: HttpPeerOptions, own: object): Promise<Collector> {
  return connected(t, origin.authority, { ...peer, connectProxy: { nextHop: proxy.authority, ...own } })
}

for (const [what, toProxy, toPeer] of [
  ['TLS through CONNECT', false, true], ['CONNECT over TLS', true, false], ['TLS in TLS', true, true],
] as const) {
  test(`peer tls: ${what} carries bytes both ways and ends with them`, async t => {
    const asked: string[] = []
    const echo = (socket: net.Socket): void => { socket.pipe(socket) }
    const origin = toPeer ? await tlsOrigin(t, good, echo) : await plainOrigin(t, echo)
    const proxy = await connectProxy(t, toProxy ? proxyCert : null, asked)
    const own = toProxy ? { tls: true, ca: [otherCa.cert] } : {}
    const owner = await through(t, origin, proxy, toPeer ? TRUSTED : {}, own)
    const text = 'x'.repeat(300_000)
    owner.stream.writeBytes(Buffer.from(text))
    assert.equal(await within('the echo', owner.whole(text.length)), text)
    assert.deepEqual(asked, [origin.authority])
    assert.equal(owner.stream.digest.tls === null, !(toPeer || toProxy))
    assert.ok(owner.stream.descriptor > 0)
    owner.stream.destroy()
    await within('both to go', Promise.all([origin.gone(), proxy.gone()]))
  })
}

test("peer tls: the proxy is judged by what is said of the proxy, the peer by what is said of the peer", async t => {
  const origin = await tlsOrigin(t, good), proxy = await connectProxy(t, proxyCert)
  const nextHop = proxy.authority
  const untrusted = await failure(origin.authority, { ...TRUSTED, connectProxy: { nextHop, tls: true } })
  assert.deepEqual([untrusted.kind, origin.connections], ['TLS_UNKNOWN_CA', 0])
  assert.match(untrusted.message, new RegExp(`${origin.authority}: its proxy ${nextHop}: `))
  const wrongName = await failure(origin.authority, { ...TRUSTED, connectProxy: { nextHop, tls: true, sni: 'p.test', ca: [otherCa.cert] } })
  assert.equal(wrongName.kind, 'TLS_WRONG_NAME')
  const peer = await failure(origin.authority, { ...TRUSTED, ca: [otherCa.cert], connectProxy: { nextHop, tls: true, ca: [otherCa.cert] } })
  assert.equal(peer.kind, 'TLS_UNKNOWN_CA')
  assert.doesNotMatch(peer.message, /its proxy/)
  const unverified = await through(t, origin, proxy, TRUSTED, { tls: true, verifyCert: false })
  assert.equal(unverified.stream.digest.tls!.serverName, 'a.test')
})

test('peer tls: a handshake that is given up leaves nothing open', async t => {
  const origin = await plainOrigin(t, socket => { socket.resume() })
  const connector = new TransportConnector(), signal = new AbortController()
  const dial = connector.connect(new HttpPeer(origin.authority, TRUSTED), signal.signal)
  while (origin.connections === 0) await new Promise(resolve => setImmediate(resolve))
  signal.abort(new Error('enough'))
  await assert.rejects(dial, /enough/)
  await within('the connection to go', origin.gone())
  assert.deepEqual([connector.counters.cancelled, connector.ticker.size], [1, 0])
})

test('peer tls: it lies on a transport of the application\'s own', async t => {
  const origin = await tlsOrigin(t, good, socket => { socket.pipe(socket) })
  const customL4 = { connect: () => new TransportConnector().connect(new HttpPeer(origin.authority)) }
  const owner = await connected(t, 'a.test:443', { ...TRUSTED, customL4 })
  owner.stream.writeText('hello')
  assert.equal(await within('the echo', owner.whole(5)), 'hello')
})

test('peer tls: an answer that ends without close_notify is an error, one with it is an end', async t => {
  const cut = await tlsOrigin(t, good, socket => { socket.write('half', () => socket.destroy()) })
  const first = await connected(t, cut.authority, TRUSTED)
  await within('the cut', first.closed.promise)
  assert.deepEqual([first.text, first.events], ['half', ['ERR_TLS_CUT']])
  const whole = await tlsOrigin(t, good, socket => { socket.end('whole') })
  const second = await connected(t, whole.authority, TRUSTED)
  await within('the end', second.ended.promise)
  assert.deepEqual([second.text, second.events], ['whole', ['end']])
})
