import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  NO_CLIENT_CERTIFICATES, readCertificates, type CertificateEntry, type GivenCertificate,
} from '../../../src/certificates/certificate-entry.ts'
import { TLS_LISTENER_DEFAULTS } from '../../../src/listener/tls-listener-options.ts'
import { CertificateMap, type ServedEntry } from '../../../src/protocols/tls/certificate-map.ts'
import { ConnectionSite } from '../../../src/protocols/tls/connection-site.ts'
import { TicketKeys } from '../../../src/protocols/tls/ticket-keys.ts'
import { makeTestCa } from '../../support/test-ca.ts'

const ca = makeTestCa(), rules = { clientCertificates: 'required', clientCa: ca.cert } as const
const a = ca.issue({ names: ['a.test'] }), b = ca.issue({ names: ['b.test'] }), c = ca.issue({ names: ['c.test'] })

function entriesOf(...given: readonly GivenCertificate[]): readonly CertificateEntry[] {
  return readCertificates(given, { now: Date.now(), refusesExpired: true, clients: NO_CLIENT_CERTIFICATES }).entries
}

function mapOf(...given: readonly GivenCertificate[]): CertificateMap {
  const map = new CertificateMap(TLS_LISTENER_DEFAULTS, new TicketKeys())
  map.replace(entriesOf(...given))
  return map
}

function siteOf(
  map: CertificateMap, name: string, { strict = false, open = false, answered = true, served = map.find(name)! } = {},
): ConnectionSite {
  const asked = { serverName: name, answered, clients: under.clients }
  return new ConnectionSite(map, served, asked, null, { strict, openUnder: open ? under : null })
}

/** What a listener asks of clients. */
const under = { clients: NO_CLIENT_CERTIFICATES }

test('connection site: rules that were replaced hold no longer, and a certificate that was renewed is the same site', () => {
  const map = mapOf(a, b), site = siteOf(map, 'a.test', { strict: true })
  assert.equal(site.serves('a.test'), true)
  map.replace(entriesOf(ca.issue({ names: ['a.test'] }), b))
  assert.equal(site.serves('a.test'), true, 'renewed')
  assert.equal(site.serves('b.test'), false)
  map.replace(entriesOf({ ...a, ...rules }, b))
  // The same host as the request before.
  assert.equal(site.serves('a.test'), false, 'clients need a certificate now')
  assert.equal(siteOf(map, 'a.test').serves('a.test'), true)
})

test('connection site: the default stands for hosts that none is for, and for a request without one', () => {
  const map = mapOf(a, { ...b, ...rules })
  for (const host of ['', 'any.test', '127.0.0.1', '[::1]:443', 'A.TEST.', 'a.test:']) {
    assert.equal(siteOf(map, 'a.test').serves(host), true, host)
    assert.equal(siteOf(map, 'b.test').serves(host), false, host)
  }
})

test('connection site: where an application gives entries, a name that is not known is served on connections for it alone', () => {
  const map = mapOf(a), [given] = entriesOf({ ...c, ...rules }), served: ServedEntry = map.answered(given!)
  const guarded = siteOf(map, 'c.test', { open: true, served })
  assert.deepEqual(['c.test', 'C.test:443', 'a.test', 'd.test', ''].map(host => guarded.serves(host)), [true, true, false, false, false])
  const plain = siteOf(map, 'a.test', { open: true })
  assert.deepEqual(['a.test', 'c.test', 'd.test', ''].map(host => plain.serves(host)), [true, false, false, true])
  // Of an address the application is never asked.
  for (const host of ['127.0.0.1', '127.0.0.1:8443', '[::1]:443']) {
    assert.deepEqual([plain.serves(host), siteOf(map, '', { open: true }).serves(host), guarded.serves(host)], [true, true, false], host)
  }
  const alone = new CertificateMap(TLS_LISTENER_DEFAULTS, new TicketKeys())
  const only = siteOf(alone, 'c.test', { open: true, served: alone.answered(given!) })
  assert.deepEqual(['c.test', '127.0.0.1', ''].map(host => only.serves(host)), [true, false, false])
})

test('connection site: where the application could not say what a name asks for, the default does not stand in for it', () => {
  const map = mapOf(a), site = siteOf(map, 'c.test', { open: true, answered: false })
  assert.deepEqual(['c.test', 'd.test', 'a.test', '127.0.0.1'].map(host => site.serves(host)), [false, false, true, true])
})

test('connection site: who was let in under rules of the listener that were replaced comes again, also at a name of the application', t => {
  const map = mapOf(a), [given] = entriesOf({ ...c, ...rules })
  const guarded = siteOf(map, 'c.test', { open: true, served: map.answered(given!) }), plain = siteOf(map, 'd.test', { open: true })
  assert.deepEqual([guarded.serves('c.test'), plain.serves('d.test')], [true, true])
  under.clients = { mode: 'required', ca: [ca.cert], crl: [ca.crl()] }
  t.after(() => { under.clients = NO_CLIENT_CERTIFICATES })
  assert.deepEqual([guarded.serves('c.test'), plain.serves('d.test')], [false, true])
})
