import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CertificateError, NO_CLIENT_CERTIFICATES, readCertificates, type CertificateEntry, type GivenCertificate,
} from '../../../src/certificates/certificate-entry.ts'
import { TLS_LISTENER_DEFAULTS } from '../../../src/listener/tls-listener-options.ts'
import { CertificateMap } from '../../../src/protocols/tls/certificate-map.ts'
import { TicketKeys } from '../../../src/protocols/tls/ticket-keys.ts'
import { makeTestCa } from '../../support/test-ca.ts'

const ca = makeTestCa()
const site = ca.issue({ names: ['a.test'] }), wild = ca.issue({ names: ['*.b.test', 'b.test'] }), deep = ca.issue({ names: ['x.b.test'] })

function entriesOf(...given: readonly GivenCertificate[]): readonly CertificateEntry[] {
  return readCertificates(given, { now: Date.now(), refusesExpired: true, clients: NO_CLIENT_CERTIFICATES }).entries
}

function mapOf(...given: readonly GivenCertificate[]): CertificateMap {
  const map = new CertificateMap(TLS_LISTENER_DEFAULTS, new TicketKeys())
  map.replace(entriesOf(...given))
  return map
}

test('certificate map: the exact name, then a wildcard of one label, then the default', () => {
  const map = mapOf(site, wild, deep), nameOf = (name: string): string => map.find(name)!.entry.names[0]!
  assert.deepEqual(['a.test', 'x.b.test', 'y.b.test', 'b.test', 'z.y.b.test', 'b', '', '.b.test'].map(nameOf), [
    'a.test', 'x.b.test', '*.b.test', '*.b.test', 'a.test', 'a.test', 'a.test', 'a.test',
  ])
  assert.equal(map.exact('c.test'), null)
  assert.equal(map.forHost('A.TEST.')!.entry.names[0], 'a.test')
  assert.equal(mapOf().find('a.test'), null)
})

test('certificate map: what stays the same keeps its context, what is new gets one, and the swap is whole', () => {
  const map = mapOf(site, wild), before = map.find('a.test')!, { context } = before, wildBefore = map.find('b.test')
  const renewed = ca.issue({ names: ['b.test'] })
  map.replace(entriesOf(site, renewed))
  assert.equal(map.find('a.test'), before)
  assert.equal(map.find('a.test')!.context, context)
  assert.notEqual(map.find('b.test'), wildBefore)
  assert.equal(map.find('x.b.test'), before)
  assert.equal(map.swaps, 2)
})

test('certificate map: where OpenSSL refuses one of them nothing changes', () => {
  const map = mapOf(site), [good] = entriesOf(wild)
  const broken = { ...good!, fingerprint: 'x', pairs: [{ ...good!.pairs[0]!, key: site.key, certFile: '/etc/b.crt' }] }
  assert.throws(() => map.replace([good!, broken]), (error: Error) => {
    return error instanceof CertificateError && /^\/etc\/b\.crt is refused by OpenSSL: .*key values mismatch/.test(error.message)
  })
  assert.deepEqual([map.find('b.test')!.entry.names, map.swaps], [['a.test'], 1])
})

test('certificate map: rules for clients decide whether sessions are resumed, and which entries ask the same', () => {
  const required = { clientCertificates: 'required', clientCa: ca.cert } as const
  const map = mapOf(site, { ...wild, ...required }, { ...deep, ...required, clientCrl: ca.crl() })
  const [open, guarded, listed] = ['a.test', 'b.test', 'x.b.test'].map(name => map.find(name)!)
  assert.deepEqual([open!.resumes, guarded!.resumes, open!.clientsKey], [true, false, ''])
  assert.notEqual(guarded!.clientsKey, listed!.clientsKey)
  assert.equal(mapOf({ ...site, ...required }).find('')!.clientsKey, guarded!.clientsKey)
})

test('certificate map: an answer of the application has the context of what says the same', () => {
  const map = mapOf(site), [answer] = entriesOf(wild)
  assert.equal(map.answered(answer!), map.answered({ ...answer! }))
  assert.equal(map.answered(map.entries[0]!), map.find('a.test'))
})

test('certificate map: ten thousand names are found as one is, and their contexts are not made before they are needed', () => {
  const [one] = entriesOf(site)
  const many = Array.from({ length: 10_000 }, (_, index) => ({ ...one!, names: [`n${index}.test`], fingerprint: `${index}` }))
  const map = new CertificateMap(TLS_LISTENER_DEFAULTS, new TicketKeys())
  map.replace(many)
  assert.equal(map.find('n9999.test')!.entry.names[0], 'n9999.test')
  assert.ok(map.find('n9999.test')!.context)
})
