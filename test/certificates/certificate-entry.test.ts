import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import {
  CertificateError, NO_CLIENT_CERTIFICATES, readCertificates, readClientRules, type GivenCertificate, type ReadCertificates,
} from '../../src/certificates/certificate-entry.ts'
import { makeTestCa, selfSigned, writeCertificate } from '../support/test-ca.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'cirque-entries-'))
after(() => rmSync(folder, { recursive: true }))

const ca = makeTestCa(), inner = ca.intermediate()
const site = inner.issue({ names: ['a.test', '*.b.test'] }), other = inner.issue({ names: ['c.test'] })

function read(given: readonly GivenCertificate[], refusesExpired = true): ReadCertificates {
  return readCertificates(given, { now: Date.now(), refusesExpired, clients: NO_CLIENT_CERTIFICATES })
}

function faultsOf(...given: readonly GivenCertificate[]): string[] {
  try { read(given) } catch (error) {
    assert.ok(error instanceof CertificateError)
    return error.message.split('\n')
  }
  return []
}

function file(name: string, content: string | Buffer): string {
  const full = path.join(folder, name)
  writeFileSync(full, content)
  return full
}

test('certificate entry: from text and from files, with the names in the certificate or others', () => {
  const { certFile, keyFile } = writeCertificate(folder, 'site', site)
  const both = file('both.pem', site.key + site.cert)
  const { entries: [text, files, one, named], remarks } =
    read([site, { cert: certFile, key: keyFile }, { cert: both }, { ...site, names: ['x.b.test', 'A.test.'] }])
  assert.deepEqual(text!.names, ['a.test', '*.b.test'])
  assert.deepEqual(files!.pairs.map(pair => [pair.certFile, pair.keyFile, pair.keyType]), [[certFile, keyFile, 'ec']])
  assert.equal(one!.pairs[0]!.cert, text!.pairs[0]!.cert)
  assert.ok(!one!.pairs[0]!.cert.includes('PRIVATE'))
  assert.deepEqual(named!.names, ['x.b.test', 'a.test'])
  // The same content has the same contexts, wherever it came from.
  assert.equal(text!.fingerprint, files!.fingerprint)
  assert.notEqual(text!.fingerprint, read([other]).entries[0]!.fingerprint)
  assert.match(remarks[0]!.text, /names a\.test, which certificates\[0\] serves already/)
})

test('certificate entry: several kinds of key for one name; two of the same kind are refused', () => {
  const rsa = inner.issue({ names: ['a.test'], keyType: 'rsa' })
  const { entries: [entry] } = read([{ cert: [rsa.cert, site.cert], key: [rsa.key, site.key] }])
  assert.deepEqual(entry!.pairs.map(({ keyType }) => keyType), ['rsa', 'ec'])
  // Those that both are for.
  assert.deepEqual(entry!.names, ['a.test'])
  assert.match(faultsOf({ cert: [site.cert, other.cert], key: [site.key, other.key] })[0]!, /two certificates with keys of kind ec/)
  assert.match(faultsOf({ cert: [site.cert, rsa.cert], key: [site.key] })[0]!, /has 2 cert and 1 key/)
})

const BROKEN = site.leaf.replace(/\n[\w+/=]{20}/, '\nAAAAAAAAAAAAAAAAAAAA')
const LOCKED = '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n'
const LOCKED_OLD = `-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,AA

AA==
-----END RSA PRIVATE KEY-----
`
const BAD_KEY = '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n'

test('certificate entry: each mistake has its file, what is wrong, and what would do', () => {
  const { certFile, keyFile } = writeCertificate(folder, 'good', site)
  const wrong: [GivenCertificate, RegExp][] = [
    [{ cert: path.join(folder, 'none.crt'), key: keyFile }, /none\.crt cannot be read \(ENOENT\); use a file with the chain in PEM/],
    [{ cert: folder, key: keyFile }, /is no regular file/],
    [{ cert: file('garbage.crt', 'x'), key: keyFile }, /garbage\.crt holds nothing in PEM/],
    [{ cert: keyFile, key: keyFile }, /good\.key holds private key only; use a file with certificates/],
    [{ cert: file('broken.crt', BROKEN), key: keyFile }, /in place 1 that cannot be read/],
    [{ cert: certFile }, /good\.crt holds no private key; give one as `key`/],
    [{ cert: certFile, key: certFile.replace('good', 'site') }, /site\.crt holds no private key/],
    [{ cert: certFile, key: file('other.key', other.key) }, /other\.key does not belong to the certificate in .*good\.crt/],
    [{ cert: file('turned.crt', inner.cert + site.leaf), key: keyFile }, /has the certificate of the key in place 2; put it first/],
    [{ cert: certFile, key: file('locked.key', LOCKED) }, /is encrypted/],
    [{ cert: certFile, key: file('old.key', LOCKED_OLD) }, /is encrypted/],
    [{ cert: certFile, key: file('bad.key', BAD_KEY) }, /cannot be read; use PEM as openssl/],
    [ca.issueExpired(), /certificates\[0\]\.cert is expired since \d{4}-/],
    [ca.issueNotYetValid(), /is not valid before/],
    [{ ...site, names: ['bad name'] }, /has "bad name"; use a host name in ASCII/],
    [{ ...site, names: ['*.*.test'] }, /use a host name/],
    [{ ...site, ocspFile: certFile }, /good\.crt holds no successful answer of OCSP/],
    [{ ...site, clientCertificates: 'required' }, /clientCa is missing/],
    [{ ...site, clientCa: ca.cert }, /clientCa is given, and clients are asked for no certificates; use clientCertificates/],
    [{ ...site, clientCrl: ca.crl() }, /clientCrl is given, and clients are asked for no certificates/],
    [{ ...site, clientCertificates: 'none', clientCa: ca.cert }, /clientCa is given, and clients are asked for no certificates/],
    [{ ...site, clientCertificates: 'required', clientCa: 'garbage' }, /garbage cannot be read/],
    [{ ...site, clientCertificates: 'required', clientCa: site.leaf }, /which is no authority/],
    [{ ...site, clientCertificates: 'required', clientCa: ca.cert, clientCrl: ca.cert }, /holds no revocation list/],
    [{ ...site, clientCertificates: 'maybe' as 'none' }, /is "maybe"; use 'none', 'optional' or 'required'/],
    [{ key: site.key } as unknown as GivenCertificate, /has no cert/],
  ]
  for (const [given, message] of wrong) assert.match(faultsOf(given)[0] ?? '', message)
  // All at once.
  assert.equal(faultsOf(...wrong.map(([given]) => given)).length, wrong.length)
})

test('certificate entry: names nothing is fine for the default alone', () => {
  const nameless = ca.issue({ ips: ['127.0.0.1'], commonName: null })
  assert.deepEqual(read([nameless, site]).entries[0]!.names, [])
  assert.match(faultsOf(site, nameless)[0]!, /names no host, and so would serve none; say which in `names`/)
})

test('certificate entry: what is odd is a remark, and an expired one where there is nothing better', () => {
  const remarkOf = (given: GivenCertificate, refusesExpired = true): string => {
    return read([given], refusesExpired).remarks.map(({ text }) => text).join()
  }
  assert.match(remarkOf(ca.issueExpired(), false), /is expired since/)
  assert.match(remarkOf({ cert: site.leaf, key: site.key }), /no certificate behind that of the server/)
  assert.match(remarkOf({ cert: site.leaf + makeTestCa().cert, key: site.key }), /in place 2 that did not sign the one before it/)
  assert.match(remarkOf({ ...site, names: ['z.test'] }), /is not made for z\.test/)
  assert.equal(remarkOf(selfSigned()), '')
  assert.equal(remarkOf(site), '')
})

test('certificate entry: rules for clients are those of the listener unless the entry has its own', () => {
  const clients = readClientRules('optional', [ca.cert], [])
  const { entries: [as, own, none] } = readCertificates([
    site, { ...other, clientCertificates: 'required', clientCrl: ca.crl() }, { ...other, names: ['d.test'], clientCertificates: 'none' },
  ], { now: Date.now(), refusesExpired: true, clients })
  assert.equal(as!.clients, clients)
  assert.deepEqual([own!.clients.mode, own!.clients.ca, own!.clients.crl.length], ['required', clients.ca, 1])
  assert.equal(none!.clients, NO_CLIENT_CERTIFICATES)
  assert.equal(readClientRules('none', [], []), NO_CLIENT_CERTIFICATES)
  assert.throws(() => readClientRules('none', [ca.cert], []), /^CertificateError: tls\.clientCa is given, and clients are asked/)
  assert.throws(() => readClientRules('none', [], [ca.crl()]), /^CertificateError: tls\.clientCrl is given, and clients are asked/)
})
