/** Keys of session tickets that a file changes, under a real supervisor with two workers: older tickets are good in the overlap. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import tls from 'node:tls'
import type { SupervisorStatus } from '../../supervisor/operator-desk.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, writeCertificate } from '../support/test-ca.ts'
import { waitFor } from '../support/wait-for.ts'

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const
const ca = makeTestCa()

interface Answer { readonly pid: number; readonly resumed: boolean; readonly session: Buffer | null }

/** One request on a connection of its own. */
function ask(port: number, version: tls.SecureVersion, session: Buffer | null = null): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let text = '', given: Buffer | null = null, resumed = false
    const socket = tls.connect({
      port, host: '127.0.0.1', servername: 'a.test', ca: ca.cert, minVersion: version, maxVersion: version,
      ...session === null ? null : { session },
    })
    socket.setEncoding('latin1')
    socket.on('session', one => { given = one })
    socket.on('secureConnect', () => {
      resumed = socket.isSessionReused()
      socket.write('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
    })
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('error', reject)
    socket.on('close', () => resolve({ pid: Number(/\r\n\r\n(\d+)$/.exec(text)?.[1] ?? 0), resumed, session: given }))
  })
}

test('ticket keys: in the overlap of a rotation every session is taken up by every worker, and behind it by none', async t => {
  const folder = temporaryFolder(t), file = path.join(folder, 'ticket-keys')
  const { certFile, keyFile } = writeCertificate(folder, 'site', ca.issue({ names: ['a.test'] }))
  const [first, second, third] = Array.from({ length: 3 }, () => randomBytes(48)) as [Buffer, Buffer, Buffer]
  const write = (...keys: readonly Buffer[]): void => {
    writeFileSync(file, keys.map(key => `${key.toString('base64')}\n`).join(''), { mode: 0o600 })
  }
  write(first)
  const app = await SupervisedApp.start(t, {
    app: 'secure', env: { SECURE_CERT: certFile, SECURE_KEY: keyFile, CIRQUE_TLS_TICKET_KEYS_FILE: file },
  })
  const workers = await app.workerPids()
  /** The file is looked at, and all workers encrypt with its first key. */
  const rotated = async (key: Buffer): Promise<void> => {
    await app.ask({ tag: 'certificates', reload: true })
    await waitFor('the key to encrypt', async () => {
      const { tickets } = await app.ask({ tag: 'status' }) as SupervisorStatus
      return key.toString('hex').startsWith(tickets!.encrypts)
    })
  }
  /** What became of a session at both workers. */
  const atBoth = async (version: tls.SecureVersion, session: Buffer): Promise<boolean[]> => {
    const seen = new Map<number, boolean>()
    await waitFor('both workers to answer', async () => {
      const { pid, resumed } = await ask(app.port, version, session)
      seen.set(pid, resumed)
      return workers.every(worker => seen.has(worker))
    })
    return [...seen.values()]
  }
  const sessions = await Promise.all(VERSIONS.map(async version => [version, (await ask(app.port, version)).session!] as const))

  // As machines of a fleet do it: the new key decrypts everywhere before it encrypts anywhere.
  write(first, second)
  await rotated(first)
  for (const [version, session] of sessions) assert.deepEqual(await atBoth(version, session), [true, true], version)
  write(second, first)
  await rotated(second)
  for (const [version, session] of sessions) assert.deepEqual(await atBoth(version, session), [true, true], version)
  // A key that stands there no more is good for as long as its tickets live.
  write(third)
  await rotated(third)
  for (const [version, session] of sessions) assert.deepEqual(await atBoth(version, session), [true, true], version)
  const later = await Promise.all(VERSIONS.map(async version => [version, (await ask(app.port, version)).session!] as const))
  for (const [version, session] of later) assert.deepEqual(await atBoth(version, session), [true, true], version)

  // Another server that has the file takes up what the newest key encrypted, and nothing else.
  const other = await SupervisedApp.start(t, {
    app: 'secure', env: { SECURE_CERT: certFile, SECURE_KEY: keyFile, CIRQUE_TLS_TICKET_KEYS_FILE: file },
  })
  for (const [version, session] of later) assert.equal((await ask(other.port, version, session)).resumed, true, version)
  for (const [version, session] of sessions) assert.equal((await ask(other.port, version, session)).resumed, false, version)
})
