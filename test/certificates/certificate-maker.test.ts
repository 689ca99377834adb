import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { createPublicKey, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { makeCertificate, makeKey, makeRevocationList, type KeyType } from '../../src/certificates/certificate-maker.ts'
import { requireProgram } from '../support/programs.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, selfSigned } from '../support/test-ca.ts'

const run = promisify(execFile)
const DAY = 86_400_000
const CERTIFICATE_TYPES: readonly KeyType[] = ['ecdsa', 'ecdsa-p384', 'rsa', 'ed25519']

/** What `openssl verify` says of a leaf, with all that may help it: '' when it is good. */
async function verdict(t: TestContext, openssl: string, { root, chain = '', leaf, crl = null, purpose = 'sslserver', host = null }: {
  root: string; chain?: string; leaf: string; crl?: string | null; purpose?: string; host?: string | null
}): Promise<string> {
  const folder = temporaryFolder(t)
  const put = (name: string, pem: string): string => {
    writeFileSync(path.join(folder, name), pem)
    return path.join(folder, name)
  }
  const args = ['verify', '-x509_strict', '-purpose', purpose, '-no-CApath', '-CAfile', put('root.pem', root)]
  if (chain !== '') args.push('-untrusted', put('chain.pem', chain))
  if (crl !== null) args.push('-crl_check', '-CRLfile', put('crl.pem', crl))
  if (host !== null) args.push('-verify_hostname', host)
  try {
    await run(openssl, [...args, put('leaf.pem', leaf)])
    return ''
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}

test('certificates: OpenSSL takes a leaf of each kind of key, from a root of each, and under two more authorities', async t => {
  const openssl = requireProgram(t, 'openssl')
  if (openssl === null) return
  for (const keyType of CERTIFICATE_TYPES) {
    const root = makeTestCa({ keyType, pathLength: 2 })
    const lower = root.intermediate({ pathLength: 1 }).intermediate({ pathLength: 0, keyType: 'ecdsa-p384' })
    for (const ca of [root, lower]) {
      const site = ca.issue({ keyType, names: ['a.test', '*.b.test'], ips: ['127.0.0.1', '::1'] })
      assert.equal(await verdict(t, openssl, { root: root.cert, chain: ca.chain, leaf: site.leaf, host: 'x.b.test' }), '', keyType)
      const said = await verdict(t, openssl, { root: root.cert, chain: ca.chain, leaf: site.leaf, host: 'c.test' })
      assert.match(said, /hostname mismatch/)
    }
  }
})

test('certificates: OpenSSL refuses each wrong one for what is wrong with it', async t => {
  const openssl = requireProgram(t, 'openssl')
  if (openssl === null) return
  const ca = makeTestCa(), other = makeTestCa()
  const good = ca.issue(), bad = ca.issue(), forMail = ca.issueForOtherPurpose()
  const crl = ca.crl([bad]), oldCrl = ca.crl([], { nextUpdate: new Date(Date.now() - 60_000) })
  const closed = makeTestCa({ pathLength: 0 }).intermediate()
  assert.equal(await verdict(t, openssl, { root: ca.cert, leaf: good.leaf, crl }), '')
  assert.equal(await verdict(t, openssl, { root: ca.cert, leaf: ca.issue({ purposes: ['clientAuth'] }).leaf, purpose: 'sslclient' }), '')
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: bad.leaf, crl }), /certificate revoked/)
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: good.leaf, crl: oldCrl }), /CRL has expired/)
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: ca.issueExpired().leaf }), /certificate has expired/)
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: ca.issueNotYetValid().leaf }), /not yet valid/)
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: forMail.leaf }), /(unsuitable|unsupported) certificate purpose/)
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: selfSigned().leaf }), /self-signed certificate/)
  assert.match(await verdict(t, openssl, { root: other.cert, leaf: good.leaf }), /unable to get local issuer/)
  assert.match(await verdict(t, openssl, { root: ca.cert, leaf: ca.intermediate().issue().leaf }), /unable to get local issuer/)
  const tooDeep = await verdict(t, openssl, { root: closed.root.cert, chain: closed.chain, leaf: closed.issue().leaf })
  assert.match(tooDeep, /path length constraint exceeded/)
})

test('certificates: Node.js reads back what was written', () => {
  const ca = makeTestCa({ name: 'A root' })
  const notBefore = new Date('2026-01-02T03:04:05Z'), notAfter = new Date('2055-06-07T08:09:10Z')
  const site = ca.issue({
    names: ['a.test', '*.b.test'], ips: ['10.0.0.1', '2001:db8::1'], uris: ['spiffe://a.test/web'], notBefore, notAfter,
    purposes: ['serverAuth'], mustStaple: true,
  })
  const { x509 } = site
  assert.equal(x509.subject, 'CN=a.test')
  assert.equal(x509.issuer, 'O=Cirque tests\nCN=A root')
  assert.equal(
    x509.subjectAltName, 'DNS:a.test, DNS:*.b.test, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1, URI:spiffe://a.test/web',
  )
  assert.deepEqual([x509.validFromDate, x509.validToDate], [notBefore, notAfter])
  assert.deepEqual(x509.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  assert.equal(x509.ca, false)
  assert.equal(ca.x509.ca, true)
  assert.ok(x509.checkIssued(ca.x509))
  assert.ok(x509.verify(ca.x509.publicKey))
  assert.ok(x509.checkPrivateKey(site.privateKey))
  assert.equal(x509.checkHost('x.b.test', { wildcards: true }), '*.b.test')
  assert.equal(x509.checkIP('2001:db8::1'), '2001:db8::1')
})

test('certificates: a name is critical when there is no subject', t => {
  const openssl = requireProgram(t, 'openssl')
  if (openssl === null) return
  const text = (pem: string): string => execFileSync(openssl, ['x509', '-noout', '-text'], { input: pem, encoding: 'utf8' })
  const nameless = text(makeTestCa().issue({ commonName: null, names: ['a.test'] }).leaf)
  assert.match(nameless, /Subject: *\n[^]*Alternative Name: critical\n *DNS:a\.test/)
  const long = text(makeTestCa().issue({ names: [`${'a'.repeat(61)}.test`] }).leaf)
  assert.match(long, /Subject: *\n/, 'a name that is too long for the subject stands among the names alone')
  assert.match(text(makeTestCa().issue({ keyType: 'rsa' }).leaf), /Key Usage: critical\n *Digital Signature, Key Encipherment\n/)
})

test('certificates: a serial number is positive and of as many bytes as it needs', () => {
  const content = { subject: { commonName: 'a' }, key: makeKey('ecdsa'), notBefore: new Date(), notAfter: new Date(Date.now() + DAY) }
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), serial => {
    const { serialNumber } = new X509Certificate(makeCertificate({ ...content, serial }, null))
    assert.match(serialNumber, /^[\dA-F]{1,40}$/, 'neither negative nor too long')
    assert.notEqual(BigInt(`0x${serialNumber}`), 0n)
  }), { numRuns: 50 })
  const serials = new Set(Array.from({ length: 20 }, () => new X509Certificate(makeCertificate(content, null)).serialNumber))
  assert.equal(serials.size, 20, 'each has its own')
  for (const length of [0, 21]) assert.throws(() => makeCertificate({ ...content, serial: new Uint8Array(length) }, null), RangeError)
})

test('certificates: what cannot be written is said', () => {
  const content = { subject: { commonName: 'a' }, key: makeKey('ecdsa'), notBefore: new Date(), notAfter: new Date(Date.now() + DAY) }
  for (const name of ['', 'a.test.', '\u00fc.test', 'a b', 'a.*.test', '*', '.test']) {
    assert.throws(() => makeCertificate({ ...content, names: [name] }, null), TypeError, name)
  }
  assert.throws(() => makeCertificate({ ...content, ips: ['a.test'] }, null), TypeError)
  assert.throws(() => makeCertificate({ ...content, subject: { commonName: 'a'.repeat(65) } }, null), RangeError)
  assert.throws(() => makeCertificate({ ...content, notAfter: new Date(Number.NaN) }, null), RangeError)
  assert.throws(() => makeCertificate({ ...content, key: createPublicKey(content.key) }, null), TypeError, 'a public key signs nothing')
})

test('certificates: a list of what is revoked names its issuer, its number and each serial', t => {
  const openssl = requireProgram(t, 'openssl')
  if (openssl === null) return
  const ca = makeTestCa({ name: 'Lister' }), bad = ca.issue({ serial: Buffer.from('0a0b0c', 'hex') })
  ca.crl()
  const text = execFileSync(openssl, ['crl', '-noout', '-text'], { input: ca.crl([bad]), encoding: 'utf8' })
  assert.match(text, /Issuer: O *= *Cirque tests, CN *= *Lister\n/)
  assert.match(text, /CRL Number: *\n *2\n/)
  assert.match(text, /Serial Number: 0A0B0C\n[^]*Key Compromise/)
  const times = { thisUpdate: new Date(), nextUpdate: new Date(Date.now() + DAY) }
  const empty = makeRevocationList({ revoked: [], ...times }, { name: ca.name, key: ca.privateKey })
  assert.match(execFileSync(openssl, ['crl', '-noout', '-text'], { input: empty, encoding: 'utf8' }), /No Revoked Certificates/)
})
