import assert from 'node:assert/strict'
import fs, { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import {
  CertificateError, NO_CLIENT_CERTIFICATES, type CertificateEntry, type GivenCertificate,
} from '../../src/certificates/certificate-entry.ts'
import {
  CertificateFiles, EXPIRY_WARNING_MS, expiryText, PAIR_WAIT_MS,
} from '../../src/certificates/certificate-files.ts'
import type { CertificateStatus } from '../../src/certificates/served-certificates.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, selfSigned, writeCertificate, type TestCertificate } from '../support/test-ca.ts'

const DAY = 86_400_000
const ca = makeTestCa()
let stamps = 0

/** Another time of change, however fast the test and however coarse the clock of the disk. */
function stamp(file: string): void { utimesSync(file, 1_700_000_000, 1_700_000_000 + ++stamps) }

class Bench {
  nowMs = Date.now()
  served: readonly CertificateEntry[] = []
  refuses: (entry: CertificateEntry) => boolean = () => false
  replaced = 0
  readonly files: CertificateFiles
  readonly folder: string

  constructor(t: TestContext, names: readonly string[] = ['site'], clients = NO_CLIENT_CERTIFICATES, given?: readonly GivenCertificate[]) {
    this.folder = temporaryFolder(t)
    for (const name of names) this.write(name, ca.issue({ names: [`${name}.test`] }))
    const pairs = names.map(name => ({ cert: this.path(`${name}.crt`), key: this.path(`${name}.key`) }))
    this.files = new CertificateFiles(given ?? pairs, clients, {
      now: () => this.nowMs,
      replace: entries => {
        const refused = entries.filter(this.refuses)
        const mistakes = refused.map(({ names: [where = ''] }) => ({ where, text: 'is refused by OpenSSL' }))
        if (mistakes.length > 0) throw new CertificateError(mistakes)
        this.served = entries
        this.replaced++
      },
    })
    this.files.load()
  }

  path(name: string): string { return path.join(this.folder, name) }

  write(name: string, made: TestCertificate): void {
    const { certFile, keyFile } = writeCertificate(this.folder, name, made)
    stamp(certFile)
    stamp(keyFile)
  }

  put(file: string, text: string): void {
    writeFileSync(this.path(file), text)
    stamp(this.path(file))
  }

  serves({ x509 }: TestCertificate, index = 0): boolean {
    return this.served[index]!.pairs[0]!.leaf.fingerprint256 === x509.fingerprint256
  }
  get first(): CertificateStatus { return this.files.status()[0]! }
}

test('certificate files: a new pair is served after two looks that find the same', async t => {
  const bench = new Bench(t)
  assert.deepEqual(await bench.files.look(), [])
  assert.equal(bench.first.outcome, 'first')
  const next = ca.issue({ names: ['site.test'] })
  bench.write('site', next)
  assert.deepEqual(await bench.files.look(), [])
  assert.equal(bench.first.outcome, 'changing')
  bench.nowMs += 2_000
  assert.deepEqual(await bench.files.look(), [{ outcome: 'swapped', files: [bench.path('site.crt'), bench.path('site.key')], reason: '' }])
  assert.ok(bench.serves(next))
  const { outcome, since, fingerprint, issuer, file, keyFile, names, keyType } = bench.first
  assert.deepEqual(
    { outcome, since, fingerprint, file, keyFile, names, keyType },
    {
      outcome: 'swapped', since: bench.nowMs, fingerprint: next.x509.fingerprint256, file: bench.path('site.crt'),
      keyFile: bench.path('site.key'), names: ['site.test'], keyType: 'ec',
    },
  )
  assert.match(issuer, /^O=Cirque tests, CN=Cirque test CA/)
  assert.deepEqual(await bench.files.look(), [])
  assert.equal(bench.replaced, 2)
})

test('certificate files: certificate and key that change at different moments are served once they are a pair', async t => {
  const bench = new Bench(t), before = bench.served[0]!
  const next = ca.issue({ names: ['site.test'] })
  bench.put('site.crt', next.cert)
  for (let look = 0; look < 5; look++) {
    assert.deepEqual(await bench.files.look(), [])
    bench.nowMs += 2_000
  }
  assert.equal(bench.served[0], before)
  assert.equal(bench.first.outcome, 'changing')
  assert.match(bench.first.reason, /does not belong to the certificate/)
  bench.put('site.key', next.key)
  await bench.files.look()
  assert.equal((await bench.files.look())[0]?.outcome, 'swapped')
  assert.ok(bench.serves(next))
})

test('certificate files: what is no pair in time is refused with its reason, once, and the one before is served', async t => {
  const bench = new Bench(t), before = bench.served[0]!
  bench.put('site.crt', ca.issue({ names: ['site.test'] }).cert)
  await bench.files.look()
  await bench.files.look()
  bench.nowMs += PAIR_WAIT_MS
  const [change, ...more] = await bench.files.look()
  assert.equal(change?.outcome, 'refused')
  assert.deepEqual(more, [])
  assert.match(change.reason, /site\.key does not belong to the certificate in .*site\.crt/)
  assert.deepEqual(await bench.files.look(), [])
  assert.equal(bench.served[0], before)
  assert.equal(bench.first.outcome, 'refused')
  const [notice = '', ...others] = bench.files.notices()
  assert.ok(notice.startsWith(`a certificate was not swapped, the one before is served: ${bench.path('site.key')}`), notice)
  assert.deepEqual(others, [])
})

test('certificate files: each bad file is refused for what is wrong with it, and the old one put back is no change', async t => {
  const bench = new Bench(t), before = bench.served[0]!
  const whole = { cert: before.pairs[0]!.cert, key: before.pairs[0]!.key }
  const late = ca.issueExpired({ names: ['site.test'] }), early = ca.issueNotYetValid({ names: ['site.test'] })
  const bad: readonly [{ cert: string; key: string }, RegExp][] = [
    [{ cert: 'nonsense', key: whole.key }, /site\.crt holds nothing in PEM/],
    [{ cert: whole.cert.slice(0, 300), key: whole.key }, /site\.crt holds nothing in PEM/],
    [{ cert: whole.cert, key: '' }, /site\.key holds no private key/],
    [late, /site\.crt is expired since/],
    [early, /site\.crt is not valid before/],
  ]
  for (const [pair, wanted] of bad) {
    bench.put('site.crt', pair.cert)
    bench.put('site.key', pair.key)
    const [change] = await bench.files.look(true)
    assert.equal(change?.outcome, 'refused')
    assert.match(change.reason, wanted)
    assert.equal(bench.served[0], before)
  }
  bench.put('site.crt', whole.cert)
  bench.put('site.key', whole.key)
  assert.deepEqual(await bench.files.look(true), [])
  assert.equal(bench.first.outcome, 'first')
  assert.equal(bench.first.reason, '')
  assert.equal(bench.replaced, 1)
})

test('certificate files: a file that is gone is refused, and good again when it is back', async t => {
  const bench = new Bench(t)
  rmSync(bench.path('site.key'))
  assert.match((await bench.files.look(true))[0]!.reason, /site\.key cannot be read \(ENOENT\)/)
  const next = ca.issue({ names: ['site.test'] })
  bench.write('site', next)
  assert.equal((await bench.files.look(true))[0]?.outcome, 'swapped')
  assert.ok(bench.serves(next))
})

test('certificate files: a rename over the files, and another target of a link, are seen', async t => {
  const bench = new Bench(t)
  const next = ca.issue({ names: ['site.test'] })
  writeCertificate(bench.folder, 'next', next)
  renameSync(bench.path('next.crt'), bench.path('site.crt'))
  renameSync(bench.path('next.key'), bench.path('site.key'))
  assert.equal((await bench.files.look(true))[0]?.outcome, 'swapped')
  assert.ok(bench.serves(next))
})

test('certificate files: a volume of Kubernetes is swapped by one link', async t => {
  const folder = temporaryFolder(t), one = ca.issue({ names: ['site.test'] }), two = ca.issue({ names: ['site.test'] })
  for (const [name, made] of [['..v1', one], ['..v2', two]] as const) {
    mkdirSync(path.join(folder, name))
    writeCertificate(path.join(folder, name), 'tls', made)
  }
  symlinkSync('..v1', path.join(folder, '..data'))
  for (const file of ['tls.crt', 'tls.key']) symlinkSync(path.join('..data', file), path.join(folder, file))
  const bench = new Bench(t, [], NO_CLIENT_CERTIFICATES, [{ cert: path.join(folder, 'tls.crt'), key: path.join(folder, 'tls.key') }])
  assert.ok(bench.serves(one))
  symlinkSync('..v2', path.join(folder, '..data_tmp'))
  renameSync(path.join(folder, '..data_tmp'), path.join(folder, '..data'))
  await bench.files.look()
  assert.equal((await bench.files.look())[0]?.outcome, 'swapped')
  assert.ok(bench.serves(two))
})

test('certificate files: what changes between the first reading and the first look is not missed', async t => {
  const bench = new Bench(t), next = ca.issue({ names: ['site.test'] })
  bench.write('site', next)
  await bench.files.look()
  await bench.files.look()
  assert.ok(bench.serves(next))
})

test('certificate files: a touch, and the same text in another file, replace nothing', async t => {
  const bench = new Bench(t)
  stamp(bench.path('site.crt'))
  await bench.files.look()
  assert.deepEqual(await bench.files.look(), [])
  assert.equal(bench.first.outcome, 'first')
  assert.equal(bench.replaced, 1)
})

test('certificate files: a bad entry leaves the others alone', async t => {
  const bench = new Bench(t, ['a', 'b', 'c']), before = bench.served[1]!
  const [a, c] = [ca.issue({ names: ['a.test'] }), ca.issue({ names: ['c.test'] })]
  bench.write('a', a)
  bench.put('b.key', 'nonsense')
  bench.write('c', c)
  const changes = await bench.files.look(true)
  assert.deepEqual(changes.map(({ outcome }) => outcome).toSorted(), ['refused', 'swapped', 'swapped'])
  assert.ok(bench.serves(a, 0) && bench.serves(c, 2))
  assert.equal(bench.served[1], before)
})

test('certificate files: one that OpenSSL refuses does not keep the others from being served', async t => {
  const bench = new Bench(t, ['a', 'b', 'c'])
  const made = ['a', 'b', 'c'].map(name => ca.issue({ names: [`${name}.test`] }))
  for (const [index, name] of ['a', 'b', 'c'].entries()) bench.write(name, made[index]!)
  bench.refuses = entry => entry.pairs[0]!.leaf.fingerprint256 === made[1]!.x509.fingerprint256
  await bench.files.look(true)
  assert.deepEqual(bench.files.status().map(({ outcome }) => outcome), ['swapped', 'refused', 'swapped'])
  assert.ok(bench.serves(made[0]!, 0) && !bench.serves(made[1]!, 1) && bench.serves(made[2]!, 2))
  assert.match(bench.files.status()[1]!.reason, /refused by OpenSSL/)
})

test("certificate files: authorities of clients' certificates are read anew for all entries", async t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'clients.pem')
  const other = makeTestCa()
  writeFileSync(file, ca.cert)
  const bench = new Bench(t, ['a', 'b'], { mode: 'required', ca: [file], crl: [] })
  assert.deepEqual(bench.served[1]!.clients.ca, [ca.cert])
  writeFileSync(file, other.cert)
  stamp(file)
  await bench.files.look(true)
  assert.deepEqual(bench.served.map(({ clients }) => clients.ca), [[other.cert], [other.cert]])
  assert.deepEqual(await bench.files.look(true), [], 'what is read once more and says the same is no swap')
  writeFileSync(file, 'nonsense')
  stamp(file)
  assert.match((await bench.files.look(true))[0]!.reason, /clients\.pem holds nothing in PEM/)
  assert.deepEqual(bench.served[0]!.clients.ca, [other.cert])
  assert.match([...bench.files.notices()].join('\n'), /authorities of clients' certificates are those of before/)
  for (const { outcome, reason } of bench.files.status()) {
    assert.equal(outcome, 'refused')
    assert.match(reason, /^authorities of clients' certificates are those of before: .*clients\.pem holds nothing in PEM/)
  }
  writeFileSync(file, ca.cert)
  stamp(file)
  await bench.files.look(true)
  assert.deepEqual(bench.files.status().map(({ outcome, reason }) => [outcome, reason]), [['first', ''], ['first', '']])
})

test('certificate files: rules for clients are new also for entries whose own files will not do', async t => {
  const file = path.join(temporaryFolder(t), 'clients.crl'), revoked = ca.crl([ca.issue()])
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, ca.crl())
  const bench = new Bench(t, ['a', 'b'], { mode: 'required', ca: [ca.cert], crl: [file] })
  const before = bench.served.map(({ pairs: [pair] }) => pair!.cert)
  // One is half written, and the time of the other one is over by now.
  bench.put('a.key', 'nonsense')
  bench.nowMs = bench.served[1]!.pairs[0]!.notAfter + 1
  writeFileSync(file, revoked)
  stamp(file)
  await bench.files.look(true)
  assert.deepEqual(bench.served.map(({ clients }) => clients.crl), [[revoked], [revoked]])
  assert.deepEqual(bench.served.map(({ pairs: [pair] }) => pair!.cert), before)
  bench.refuses = () => true
  writeFileSync(file, ca.crl())
  stamp(file)
  assert.match((await bench.files.look(true)).map(({ reason }) => reason).join(), /is refused by OpenSSL/)
  assert.match([...bench.files.notices()].join('\n'), /authorities of clients' certificates are those of before/)
  assert.deepEqual(bench.served.map(({ clients }) => clients.crl), [[revoked], [revoked]])
})

test('certificate files: one that is to be valid later is taken when its time has come', async t => {
  const bench = new Bench(t)
  const next = ca.issue({ names: ['site.test'], notBefore: new Date(bench.nowMs + 300_000) })
  bench.write('site', next)
  assert.equal((await bench.files.look(true))[0]?.outcome, 'refused')
  bench.nowMs += 200_000
  assert.deepEqual(await bench.files.look(), [])
  bench.nowMs += 500_000
  assert.equal((await bench.files.look())[0]?.outcome, 'swapped')
  assert.ok(bench.serves(next))
})

test('certificate files: an end that comes near is a line, and so is one that is over', async t => {
  const bench = new Bench(t)
  assert.deepEqual([...bench.files.notices()], [])
  bench.nowMs = bench.served[0]!.pairs[0]!.notAfter - 12.5 * DAY
  assert.match([...bench.files.notices()].join(), /^certificate .*site\.crt expires in 12 days, on \d{4}-\d\d-\d\d$/)
  assert.equal(expiryText(EXPIRY_WARNING_MS + 1, 0), '')
  assert.equal(expiryText(EXPIRY_WARNING_MS, 0), 'expires in 30 days, on 1970-01-31')
  assert.equal(expiryText(DAY, 0), 'expires in 1 day, on 1970-01-02')
  assert.equal(expiryText(DAY - 1, 0), 'expires in less than a day, on 1970-01-01')
  assert.equal(expiryText(0, 1), 'is expired since 1970-01-01')
})

test('certificate files: a certificate whose issuer has no name is shown like any other', t => {
  const bench = new Bench(t, [], NO_CLIENT_CERTIFICATES, [selfSigned({ names: ['a.test'], commonName: null })])
  assert.deepEqual([bench.first.issuer, bench.first.names], ['', ['a.test']])
})

test('certificate files: one look at a time', async t => {
  const bench = new Bench(t), next = ca.issue({ names: ['site.test'] })
  bench.write('site', next)
  const looks = await Promise.all([bench.files.look(), bench.files.look(), bench.files.look(true)])
  assert.deepEqual(looks.map(changes => changes.length), [0, 0, 1])
  assert.equal(bench.files.files, 2)
})

test('certificate files: text in place of files is served and never looked at', async t => {
  const { cert, key } = ca.issue({ names: ['text.test'] })
  const bench = new Bench(t, [], NO_CLIENT_CERTIFICATES, [{ cert, key }])
  assert.equal(bench.files.files, 0)
  assert.deepEqual(await bench.files.look(true), [])
  assert.equal(bench.first.file, '')
})

test('certificate files: a link that leads nowhere is said', async t => {
  const bench = new Bench(t)
  unlinkSync(bench.path('site.crt'))
  symlinkSync('nowhere', bench.path('site.crt'))
  assert.match((await bench.files.look(true))[0]!.reason, /site\.crt cannot be read \(ENOENT\)/)
})

test('certificate files: what is changed within the tick of the clock in which it was read is served all the same', async t => {
  const changedMs = Date.now()
  const stat = { dev: 1, ino: 2, size: 3, mtimeMs: changedMs, ctimeMs: changedMs }
  // The two changes leave the same times behind; EC certificates are of the same length often enough.
  t.mock.method(fs, 'statSync', () => stat)
  t.mock.method(fs, 'stat', (_file: string, tell: (error: null, stats: unknown) => void) => tell(null, stat))
  const bench = new Bench(t), [first, second, hidden] = [1, 2, 3].map(() => ca.issue({ names: ['site.test'] }))
  bench.nowMs = changedMs + 1_999
  for (const next of [first!, second!]) {
    writeCertificate(bench.folder, 'site', next)
    assert.deepEqual((await bench.files.look()).map(({ outcome }) => outcome), ['swapped'])
    assert.ok(bench.serves(next))
    assert.equal(bench.first.outcome, 'swapped')
  }
  // By now another change would have left a trace: the files are read once more, and no more.
  bench.nowMs = changedMs + 2_000
  assert.deepEqual(await bench.files.look(), [])
  writeCertificate(bench.folder, 'site', hidden!)
  for (let look = 0; look < 3; look++) assert.deepEqual(await bench.files.look(true), [])
  assert.ok(bench.serves(second!))
})

test('certificate files: a pair that is whole within the tick in which half of it was read does not wait for its time', async t => {
  const changedMs = Date.now(), stat = { dev: 1, ino: 2, size: 3, mtimeMs: changedMs, ctimeMs: changedMs }
  t.mock.method(fs, 'statSync', () => stat)
  t.mock.method(fs, 'stat', (_file: string, tell: (error: null, stats: unknown) => void) => tell(null, stat))
  const bench = new Bench(t), next = ca.issue({ names: ['site.test'] })
  bench.nowMs = changedMs + 1
  writeFileSync(bench.path('site.crt'), next.cert)
  assert.deepEqual(await bench.files.look(), [])
  assert.equal(bench.first.outcome, 'changing')
  writeCertificate(bench.folder, 'site', next)
  assert.deepEqual((await bench.files.look()).map(({ outcome }) => outcome), ['swapped'])
  assert.ok(bench.serves(next))
})

test('certificate files: one that is expired by the time of its second reading is served on', async t => {
  const bench = new Bench(t)
  // A file that is touched again and again.
  t.mock.method(fs, 'stat', (file: string, tell: (error: null, stats: unknown) => void) => {
    tell(null, Object.assign(fs.statSync(file), { ctimeMs: bench.nowMs }))
  })
  const next = ca.issue({ names: ['site.test'], notAfter: new Date(bench.nowMs + 60_000) })
  bench.write('site', next)
  assert.equal((await bench.files.look(true))[0]?.outcome, 'swapped')
  bench.nowMs += 61_000
  for (let look = 0; look < 3; look++) assert.deepEqual(await bench.files.look(true), [])
  assert.ok(bench.serves(next))
})
