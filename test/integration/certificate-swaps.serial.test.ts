/**
 * Certificates and keys that are swapped again and again under a real supervisor with two workers, while clients make handshakes all the
 * time. `npm run test:swaps` swaps a thousand times.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import tls from 'node:tls'
import { resolveProveOptions } from '../../src/config/prove-options.ts'
import type { CertificatesOfAll } from '../../src/certificates/served-certificates.ts'
import { Proof } from '../../src/prove/proof.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, writeCertificate, type TestCertificate } from '../support/test-ca.ts'

const SWAPS = Number(process.env['CIRQUE_TEST_SWAPS'] ?? 40)
/** Memory says something once as many swaps as these have been seen twice. */
const SETTLED_SWAPS = 300
/** Of both workers together, from the first third to the end, in kB: a quarter of what 667 contexts in each would be. */
const MAX_GROWTH_KB = 10_000
const COLLECTED_EVERY = 20
/** Different certificates, each with a key of its own, some of another kind. */
const PAIRS = 12
const CLIENTS = 4
const ca = makeTestCa()

interface Handshake {
  /** Of the worker that answered. */
  readonly pid: number
  readonly fingerprint: string
  readonly resumed: boolean
  readonly session: Buffer | null
}

/**
 * One handshake and one request. A client that verifies notices a mixed pair: the certificate's key has to sign the handshake.
 * @throws what was wrong
 */
function ask(port: number, version: tls.SecureVersion, session: Buffer | null, target = '/'): Promise<Handshake> {
  return new Promise((resolve, reject) => {
    let text = '', given: Buffer | null = null, fingerprint = '', resumed = false
    const socket = tls.connect({
      port, host: '127.0.0.1', servername: 'a.test', ca: ca.cert, minVersion: version, maxVersion: version,
      ...session === null ? null : { session },
    })
    socket.setEncoding('latin1')
    socket.on('session', one => { given = one })
    socket.on('secureConnect', () => {
      resumed = socket.isSessionReused()
      fingerprint = socket.getPeerCertificate().fingerprint256 ?? ''
      socket.write(`GET ${target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`)
    })
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('error', reject)
    socket.on('close', () => {
      const pid = Number(/^HTTP\/1\.1 200 [^]*\r\n\r\n(\d+)$/.exec(text)?.[1] ?? 0)
      if (pid > 0) resolve({ pid, fingerprint, resumed, session: given })
      else reject(new Error(`no answer: ${JSON.stringify(text)}`))
    })
  })
}

/**
 * Every worker collects its garbage. V8 knows nothing of the size of a secure context and would wait until it has a reason of its own,
 * which is traffic: days of it lie between two swaps, not milliseconds.
 */
async function collectGarbage(port: number, pids: readonly number[]): Promise<void> {
  const collected = new Set<number>()
  while (collected.size < pids.length) collected.add((await ask(port, 'TLSv1.3', null, '/gc')).pid)
}

/** What no file is behind, of all of them. */
function ownKiloBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    return sum + Number(/^Anonymous:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1])
  }, 0)
}

const LINUX_ONLY = { skip: process.platform !== 'linux' }

test('certificates: swaps under load lose no handshake and no request, mix no pair, and leave nothing behind', LINUX_ONLY, async t => {
  const folder = temporaryFolder(t)
  const pairs: TestCertificate[] = Array.from({ length: PAIRS }, (_, index) => {
    return ca.issue({ names: ['a.test'], keyType: index % 4 === 3 ? 'ecdsa-p384' : 'ecdsa' })
  })
  const known = new Set(pairs.map(({ x509 }) => x509.fingerprint256))
  const { certFile, keyFile } = writeCertificate(folder, 'site', pairs[0]!)
  const env = { SECURE_CERT: certFile, SECURE_KEY: keyFile, NODE_OPTIONS: '--expose-gc' }
  const app = await SupervisedApp.start(t, { app: 'secure', env })
  const workers = await app.workerPids()

  // Those that the proof has: fresh and resumed handshakes, handshakes that stop on their way, kept connections.
  const url = `https://127.0.0.1:${app.port}`
  const proof = await Proof.prepare(resolveProveOptions({ url, rate: 20, connections: 8, timeoutMs: 10_000 }))
  proof.start()
  proof.enter('during')

  // And clients that verify. Each keeps the session that it got first, over all swaps: its key has nothing to do with the certificate's.
  let isOver = false, handshakes = 0
  const seen = new Set<string>(), faults: string[] = []
  const client = async (version: tls.SecureVersion): Promise<void> => {
    let session: Buffer | null = null
    while (!isOver) {
      try {
        const full = await ask(app.port, version, null)
        seen.add(full.fingerprint)
        if (!known.has(full.fingerprint)) faults.push(`a certificate that nobody wrote: ${full.fingerprint}`)
        session ??= full.session
        const again: Handshake = await ask(app.port, version, session)
        if (!again.resumed) faults.push(`${version}: a session was not taken up again`)
        handshakes += 2
      } catch (error) { faults.push(`${version}: ${(error as Error).message}`) }
    }
  }
  const clients = Array.from({ length: CLIENTS }, (_, index) => client(index % 2 === 0 ? 'TLSv1.3' : 'TLSv1.2'))

  let settledKiloBytes = 0
  for (let swap = 1; swap <= SWAPS; swap++) {
    const pair = pairs[swap % PAIRS]!
    // Each of the ways in which files are replaced: in place, which readers may meet halfway, and by a rename.
    if (swap % 2 === 0) writeCertificate(folder, 'site', pair)
    else {
      const next = writeCertificate(folder, 'next', pair)
      fs.renameSync(next.certFile, certFile)
      fs.renameSync(next.keyFile, keyFile)
    }
    const { certificates, silent } = await app.ask({ tag: 'certificates', reload: true }) as CertificatesOfAll
    assert.deepEqual(silent, [])
    assert.deepEqual(certificates.map(({ fingerprint, outcome }) => [fingerprint, outcome]), [[pair.x509.fingerprint256, 'swapped']])
    if (swap % COLLECTED_EVERY === 0 || swap === SWAPS) await collectGarbage(app.port, workers)
    if (swap === Math.floor(SWAPS / 3)) settledKiloBytes = ownKiloBytes(workers)
  }
  const endKiloBytes = ownKiloBytes(workers)
  isOver = true
  await Promise.all(clients)
  await proof.finish()
  const report = proof.report(null)
  const refused = report.populations.reduce((sum, { refusedSessions }) => sum + refusedSessions, 0)
  const memory = `workers ${settledKiloBytes} kB after a third, ${endKiloBytes} kB at the end`
  t.diagnostic(`${SWAPS} swaps; ${handshakes} verified handshakes with ${seen.size} certificates; ${memory}`)
  t.diagnostic(`load: ${report.attempted} attempted, ${report.lost} lost`)
  assert.deepEqual(faults, [])
  assert.deepEqual([report.losses, refused], [[], 0])
  assert.ok(seen.size > 2, `${seen.size} certificates were seen`)
  assert.deepEqual(await app.workerPids(), workers)
  if (SWAPS < SETTLED_SWAPS) return
  assert.ok(endKiloBytes - settledKiloBytes < MAX_GROWTH_KB, `from ${settledKiloBytes} to ${endKiloBytes} kB`)
})
