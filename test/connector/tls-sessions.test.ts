/** Sessions of TLS that are taken up again, and those that must not be. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { TransportConnector } from '../../src/connector/transport-connector.ts'
import type { ErrorKind, ProxyError } from '../../src/errors/proxy-error.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { ByteStream } from '../../src/protocols/byte-stream.ts'
import { ClientSessions } from '../../src/protocols/tls/client-sessions.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { tlsOrigin, type Origin } from '../support/tls-origins.ts'
import { Collector } from '../support/tls-sides.ts'
import { waitFor, within } from '../support/wait-for.ts'

const ca = makeTestCa(), otherCa = makeTestCa()
const good = ca.issue({ names: ['a.test', 'b.test'], ips: ['127.0.0.1'] })
const device = ca.issue({ names: ['device'] })
const TRUSTED: HttpPeerOptions = { tls: true, sni: 'a.test', ca: [ca.cert] }

/** A connection that has read what the origin says first, and with it its tickets. */
async function connect(t: TestContext, connector: TransportConnector, origin: Origin, options: HttpPeerOptions): Promise<ByteStream> {
  const stream = await within('the dial', connector.connect(new HttpPeer(origin.authority, options)))
  const owner = new Collector()
  stream.owner = owner
  stream.resume()
  await within('its first words', owner.whole(2))
  t.after(() => stream.destroy())
  return stream
}

const greeting = (options: object) => (t: TestContext): Promise<Origin> => tlsOrigin(t, { ...good, ...options }, socket => {
  socket.resume()
  socket.write('hi')
})

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  const startOrigin = greeting({ maxVersion: version })

  test(`tls sessions: the next connections to a peer take the session up, in ${version}`, async t => {
    const origin = await startOrigin(t), connector = new TransportConnector()
    const resumed: boolean[] = []
    for (let count = 0; count < 4; count++) resumed.push((await connect(t, connector, origin, TRUSTED)).digest.tls!.resumed)
    assert.deepEqual(resumed, [false, true, true, true])
    assert.deepEqual(origin.resumed, resumed)
    assert.equal(connector.sessions.size, 1)
  })

  test(`tls sessions: one made under an authority never passes under another, in ${version}`, async t => {
    const origin = await startOrigin(t), connector = new TransportConnector()
    await connect(t, connector, origin, TRUSTED)
    const refused = connect(t, connector, origin, { ...TRUSTED, ca: [otherCa.cert] })
    await assert.rejects(refused, { kind: 'TLS_UNKNOWN_CA' satisfies ErrorKind })
    // Nor does one that nobody has verified.
    await connect(t, connector, origin, { ...TRUSTED, ca: [otherCa.cert], verifyCert: false })
    const again = connect(t, connector, origin, { ...TRUSTED, ca: [otherCa.cert] })
    await assert.rejects(again, { kind: 'TLS_UNKNOWN_CA' satisfies ErrorKind })
    assert.ok(!origin.resumed.includes(true))
  })

  test(`tls sessions: every setting of TLS has sessions of its own, in ${version}`, async t => {
    const origin = await greeting({ maxVersion: version, requestCert: true, rejectUnauthorized: false, ca: ca.cert })(t)
    const connector = new TransportConnector()
    const settings: HttpPeerOptions[] = [
      {}, { sni: 'b.test' }, { sni: '' }, { verifyCert: false }, { verifyHostname: false }, { alternativeName: 'c.test' },
      { ca: [ca.cert, otherCa.cert] }, { crl: [ca.crl()] }, { tlsMinVersion: version, tlsMaxVersion: version }, { curves: 'X25519:P-256' },
      { clientCert: device }, { clientCert: ca.issue({ names: ['device'] }) },
    ]
    for (const own of settings) assert.equal((await connect(t, connector, origin, { ...TRUSTED, ...own })).digest.tls!.resumed, false)
    assert.equal(connector.sessions.size, settings.length)
    for (const own of settings) assert.equal((await connect(t, connector, origin, { ...TRUSTED, ...own })).digest.tls!.resumed, true)
  })

  test(`tls sessions: one that the origin no longer knows costs a full handshake, which is verified, in ${version}`, async t => {
    const origin = await startOrigin(t), connector = new TransportConnector()
    await connect(t, connector, origin, TRUSTED)
    // A new context has new ticket keys.
    origin.replace({ ...otherCa.issue({ names: ['a.test'] }), maxVersion: version })
    const refused = connect(t, connector, origin, TRUSTED)
    await assert.rejects(refused, { kind: 'TLS_UNKNOWN_CA' satisfies ErrorKind })
    assert.equal(connector.sessions.size, 0)
    origin.replace({ ...good, maxVersion: version })
    assert.equal((await connect(t, connector, origin, TRUSTED)).digest.tls!.resumed, false)
    assert.equal((await connect(t, connector, origin, TRUSTED)).digest.tls!.resumed, true)
  })

  test(`tls sessions: a certificate that has expired since is not taken up again, in ${version}`, async t => {
    const origin = await startOrigin(t), connector = new TransportConnector()
    await connect(t, connector, origin, TRUSTED)
    t.mock.timers.enable({ apis: ['Date'], now: good.x509.validToDate.getTime() + 1000 })
    const refused = connect(t, connector, origin, TRUSTED)
    await assert.rejects(refused, (error: ProxyError) => error.kind === 'TLS_CERTIFICATE_EXPIRED')
    assert.equal(connector.sessions.size, 0)
  })
}

test('tls sessions: a session without a handshake that was verified is not kept', async t => {
  const origin = await greeting({})(t), connector = new TransportConnector()
  await assert.rejects(connect(t, connector, origin, { ...TRUSTED, sni: 'c.test' }), { kind: 'TLS_WRONG_NAME' satisfies ErrorKind })
  await waitFor('the connection to go', () => connector.ticker.size === 0)
  assert.equal(connector.sessions.size, 0)
})

test('tls sessions: they are kept for an hour, and no more of them than fit', () => {
  const clock = new FakeClock(), sessions = new ClientSessions(clock)
  const session = Buffer.alloc(100)
  sessions.keep('a', session, 1)
  const first = sessions.find('a')!
  sessions.keep('a', session, 2)
  sessions.drop('a', first)
  assert.equal(sessions.find('a')!.validTo, 2)
  clock.advance(3_600_000)
  assert.equal(sessions.find('a')!.session, session)
  clock.advance(1)
  assert.deepEqual([sessions.find('a'), sessions.size], [null, 0])
  for (let count = 0; count < 5000; count++) sessions.keep(`key ${count}`, Buffer.alloc(1500), 1)
  assert.ok(sessions.size < 1400 && sessions.size > 1300)
  assert.deepEqual([sessions.find('key 0'), sessions.find('key 4999')?.session.length], [null, 1500])
  sessions.drop('key 4999', first)
  assert.notEqual(sessions.find('key 4999'), null)
})
