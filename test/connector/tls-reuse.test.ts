/** Connections that differ in what was asked of TLS are never shared: every pair of settings, by real handshakes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import { makeTestCa } from '../support/test-ca.ts'
import { answer, connectProxy, tlsOrigin } from '../support/tls-origins.ts'
import { waitFor, within } from '../support/wait-for.ts'

const ca = makeTestCa(), otherCa = makeTestCa()
const site = ca.issue({ names: ['a.test', 'b.test'], ips: ['127.0.0.1'] })
const device = ca.issue({ names: ['device'] }), otherDevice = ca.issue({ names: ['other'] })

test('tls reuse: of peers that differ in one setting each gets its own connection back, and no other', async t => {
  const origin = await tlsOrigin(t, { ...site, ca: ca.cert, requestCert: true, rejectUnauthorized: false }, answer)
  const plainProxy = await connectProxy(t, null)
  const proxy = await connectProxy(t, { ...site, ca: ca.cert, requestCert: true, rejectUnauthorized: false })
  const nextHop = proxy.authority, trusted = { nextHop, tls: true, ca: [ca.cert] }
  const settings: HttpPeerOptions[] = [
    {}, { sni: 'b.test' }, { sni: '' }, { verifyCert: false }, { verifyHostname: false }, { alternativeName: 'c.test' },
    { ca: [ca.cert, otherCa.cert] }, { ca: [otherCa.cert, ca.cert] }, { crl: [ca.crl()] }, { crl: [ca.crl(), otherCa.crl()] },
    { tlsMinVersion: 'TLSv1.3' }, { tlsMaxVersion: 'TLSv1.2' }, { curves: 'X25519' }, { curves: 'X25519:P-256' },
    { clientCert: device }, { clientCert: otherDevice }, { groupKey: 1 }, { groupKey: 2 },
    { connectProxy: { nextHop: plainProxy.authority } },
    { connectProxy: trusted }, { connectProxy: { ...trusted, sni: 'b.test' } }, { connectProxy: { ...trusted, verifyCert: false } },
    { connectProxy: { ...trusted, ca: [ca.cert, otherCa.cert] } }, { connectProxy: { ...trusted, clientCert: device } },
    { connectProxy: { ...trusted, clientCert: otherDevice } }, { connectProxy: { ...trusted, headers: [['X-A', 'b']] } },
    { extraProxyHeaders: [['X-A', 'b']], connectProxy: trusted },
  ]
  const peers = (): HttpPeer[] => settings.map(own => new HttpPeer(origin.authority, { tls: true, sni: 'a.test', ca: [ca.cert], ...own }))
  const connector = new HttpConnector(), made: UpstreamConnection[] = []
  t.after(() => connector.close())
  for (const peer of peers()) {
    assert.equal(connector.reuse(peer), null)
    const connection = await within('the dial', connector.getConnection(peer))
    made.push(connection)
    assert.equal(connector.release(connection, peer), true)
  }
  assert.equal(connector.pool.idle, settings.length)
  // Others of the same settings, made anew, and in another order.
  const again = peers().map((peer, index) => [peer, made[index]!] as const).toReversed()
  for (const [peer, own] of again) assert.equal(connector.reuse(peer), own)
  for (const [peer, own] of again) {
    assert.equal(connector.reuse(peer), null)
    connector.release(own, peer)
  }
  await waitFor('the origin to have seen them all', () => origin.resumed.length === settings.length, { seen: () => origin.resumed.length })
})
