/** Certificates that change and sessions that are taken up again, under a real supervisor with real workers. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import tls from 'node:tls'
import type { CertificatesOfAll } from '../../src/certificates/served-certificates.ts'
import type { SupervisorStatus } from '../../supervisor/operator-desk.ts'
import { SupervisedApp, type SupervisedOptions } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, writeCertificate, type TestCertificate } from '../support/test-ca.ts'
import { waitFor } from '../support/wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')
const DAY = 86_400_000
const ca = makeTestCa()

interface Answer {
  /** Of the process that answered. */
  readonly pid: number
  readonly resumed: boolean
  /** The last one that it gave. */
  readonly session: Buffer | null
  readonly fingerprint: string
}

/** One request on a connection of its own. */
function ask(port: number, version: tls.SecureVersion, session: Buffer | null = null): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let text = '', given: Buffer | null = null, shown = '', resumed = false
    const socket = tls.connect({
      port, host: '127.0.0.1', servername: 'a.test', ca: ca.cert, minVersion: version, maxVersion: version,
      ...session === null ? null : { session },
    })
    socket.setEncoding('latin1')
    socket.on('session', one => { given = one })
    socket.on('secureConnect', () => {
      // Nothing is known of it any more when it is closed.
      resumed = socket.isSessionReused()
      shown = socket.getPeerCertificate().fingerprint256 ?? ''
      socket.write('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
    })
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('error', reject)
    socket.on('close', () => {
      const pid = Number(/\r\n\r\n(\d+)$/.exec(text)?.[1] ?? 0)
      if (pid === 0) reject(new Error(`no answer: ${JSON.stringify(text)}`))
      else resolve({ pid, resumed, session: given, fingerprint: shown })
    })
  })
}

interface Served {
  readonly app: SupervisedApp
  readonly folder: string
  readonly first: TestCertificate
  readonly start: () => Promise<SupervisedApp>
}

async function serve(t: TestContext, options: SupervisedOptions = {}): Promise<Served> {
  const folder = temporaryFolder(t), first = ca.issue({ names: ['a.test'] })
  const { certFile, keyFile } = writeCertificate(folder, 'site', first)
  const all: SupervisedOptions = { app: 'secure', env: { SECURE_CERT: certFile, SECURE_KEY: keyFile }, ...options }
  const app = await SupervisedApp.start(t, all)
  return { app, folder, first, start: () => SupervisedApp.start(t, { ...all, folder: app.folder }) }
}

function cirque(app: SupervisedApp, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const flags = ['--disable-warning=ExperimentalWarning', CLI, ...args, '--state-dir', app.stateDir]
  return spawnSync(process.execPath, flags, { encoding: 'utf8', cwd: app.folder })
}

test('certificates: an operator sees them, swaps them, and is told why a pair will not do', async t => {
  const { app, folder, first } = await serve(t)
  const list = (...args: string[]): CertificatesOfAll => JSON.parse(cirque(app, 'certs', ...args, '--json').stdout) as CertificatesOfAll
  const [row, ...others] = list().certificates
  assert.deepEqual(others, [])
  assert.deepEqual([row!.names, row!.fingerprint, row!.outcome, row!.workers.length], [['a.test'], first.x509.fingerprint256, 'first', 2])
  assert.match(cirque(app, 'certs').stdout, /^a\.test\n {2}listener {5}secure\/127\.0\.0\.1:0\n {2}ends .*, in 89 days\n/)

  const soon = ca.issue({ names: ['a.test'], notAfter: new Date(Date.now() + 10.5 * DAY) })
  writeCertificate(folder, 'site', soon)
  const reload = cirque(app, 'certs', 'reload')
  assert.deepEqual([reload.status, reload.stderr], [0, ''])
  assert.match(reload.stdout, /SOON: in 10 days\n[^]*state {8}swapped \ds ago/)
  assert.equal((await ask(app.port, 'TLSv1.3')).fingerprint, soon.x509.fingerprint256)
  await waitFor('the notice', () => /certificate .*site\.crt expires in 10 days/.test(cirque(app, 'status').stdout))

  writeFileSync(path.join(folder, 'site.key'), first.key)
  const refused = cirque(app, 'certs', 'reload')
  assert.equal(refused.status, 1)
  assert.match(refused.stdout, /state {8}REFUSED \ds ago; the one before is served\n {2}because {6}.*site\.key does not belong to/)
  assert.match(refused.stderr, /a certificate was refused/)
  assert.equal((await ask(app.port, 'TLSv1.2')).fingerprint, soon.x509.fingerprint256)
  await waitFor('the notice', () => /notice .*was not swapped/.test(cirque(app, 'status').stdout))

  const next = ca.issue({ names: ['a.test'] })
  writeCertificate(folder, 'site', next)
  await waitFor('the swap without an operator', async () => (await ask(app.port, 'TLSv1.3')).fingerprint === next.x509.fingerprint256)
})

test('certificates: a session is taken up by whatever worker there is, over restarts, reloads, and supervisors', async t => {
  const { app, start } = await serve(t)
  const sessions = new Map<tls.SecureVersion, Buffer>()
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { session, resumed } = await ask(app.port, version)
    assert.equal(resumed, false)
    sessions.set(version, session!)
  }
  /** Every worker takes up every session. */
  const resumes = async (by: SupervisedApp): Promise<void> => {
    const seen = new Set<number>(), pids = await by.workerPids()
    await waitFor('both workers to answer', async () => {
      for (const [version, session] of sessions) {
        const answer = await ask(app.port, version, session)
        assert.ok(answer.resumed, `${version} at ${answer.pid} of ${pids.join()}`)
        seen.add(answer.pid)
      }
      return pids.every(pid => seen.has(pid))
    }, { seen: () => [...seen] })
  }
  const encrypts = async (by: SupervisedApp): Promise<string> => (await by.ask({ tag: 'status' }) as SupervisorStatus).tickets!.encrypts
  const name = await encrypts(app)
  await resumes(app)
  await app.ask({ tag: 'restart-workers', worker: '', wait: true })
  await resumes(app)
  assert.equal(cirque(app, 'reload').status, 0)
  await resumes(app)
  // Another image of the supervisor, and other workers.
  assert.equal(cirque(app, 'upgrade', '--supervisor').status, 0)
  assert.equal(await encrypts(app), name)
  await resumes(app)

  process.kill(app.pid, 'SIGKILL')
  await app.end()
  const next = await start()
  assert.ok(next.has('adopted the workers'), next.stderr)
  assert.equal(await encrypts(next), name)
  await resumes(next)
  // Those that are started by the one that adopted.
  await next.ask({ tag: 'restart-workers', worker: '', wait: true })
  await resumes(next)
})
