/** `cirque prove` as people run it: the command line, the client's process, a supervisor with two workers. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import type net from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import type { ProveOutcome } from '../../supervisor/prove.ts'
import { SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { makeTestCa, writeCertificate } from '../support/test-ca.ts'

const CLI = path.join(import.meta.dirname, '../../supervisor/cli.ts')
const EVERYTHING = ['--ws', '/ws', '--download', '/download?bytes=8388608', '--upload', '/upload']

async function prove(folder: string, ...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', CLI, 'prove', ...args], {
    cwd: folder, stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, XDG_RUNTIME_DIR: folder, RUNTIME_DIRECTORY: '' },
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { out += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { err += text })
  const [code] = await once(child, 'close') as [number | null]
  return { code, out, err }
}

test('prove: replacing every worker and killing one lose nothing that is not explained', async t => {
  const app = await SupervisedApp.start(t, { app: 'balanced' })
  const before = await app.workerPids()
  const reload = await prove(app.folder, 'reload', '--state-dir', app.stateDir, '--for', '400ms', ...EVERYTHING)
  assert.equal(reload.code, 0, reload.out + reload.err + app.stderr)
  assert.match(reload.out, /generation 2 serves \(preflight /)
  assert.match(reload.out, /nothing was lost in \d+ attempts\n$/)
  const upgrade = await prove(app.folder, 'upgrade', '--state-dir', app.stateDir, '--for', '400ms', ...EVERYTHING)
  assert.equal(upgrade.code, 0, upgrade.out + upgrade.err + app.stderr)
  assert.match(upgrade.out, /generation 3 serves, with a new supervisor in the same process \(/)
  assert.match(upgrade.out, /nothing was lost in \d+ attempts\n$/)
  const between = await app.workerPids()
  assert.deepEqual(between.filter(pid => before.includes(pid)), [])

  const crash = await prove(app.folder, 'crash', '--json', '--state-dir', app.stateDir, '--for', '400ms', ...EVERYTHING)
  assert.equal(crash.code, 0, crash.out + crash.err + app.stderr)
  const { report, actionLines, verdict } = JSON.parse(crash.out) as ProveOutcome
  assert.equal(verdict, '')
  assert.match(actionLines[0]!, /^killed worker 3\.[01]\.\d+, pid \d+/)
  assert.equal(report!.lost, 0)
  assert.ok(report!.explained > 0, 'a WebSocket at least was on the killed worker')
  assert.equal(report!.populations.find(({ name }) => name === 'fresh connections')!.outcomes.refused, 0)
  assert.equal((await app.workerPids()).filter(pid => between.includes(pid)).length, 1)
})

test('prove: over TLS the listener is found, and handshakes have their rows', async t => {
  const folder = temporaryFolder(t)
  const { certFile, keyFile } = writeCertificate(folder, 'site', makeTestCa().issue({ names: ['a.test'] }))
  const app = await SupervisedApp.start(t, { app: 'secure', env: { SECURE_CERT: certFile, SECURE_KEY: keyFile } })
  const { code, out, err } = await prove(app.folder, 'reload', '--tls', '--state-dir', app.stateDir, '--for', '400ms', '--rate', '40')
  assert.equal(code, 0, out + err + app.stderr)
  assert.match(out, /^reload at https:\/\/127\.0\.0\.1:\d+: /)
  assert.match(out, /^resumed handshakes +[1-9]\d* /m)
  assert.match(out, /^slow handshakes +[1-9]\d* /m)
  assert.match(out, /^sessions of TLS that were not taken up again: 0$/m)
  assert.match(out, /nothing was lost in \d+ attempts\n$/)

  const both = await prove(app.folder, 'watch', '--tls', '--url', `https://127.0.0.1:${app.port}`)
  assert.deepEqual([both.code, both.err], [2, 'cirque: --tls looks for a listener; with --url say https:// there\n'])
  const plain = await SupervisedApp.start(t, { app: 'balanced' })
  const none = await prove(plain.folder, 'watch', '--tls', '--state-dir', plain.stateDir)
  assert.deepEqual([none.code, none.err], [2, 'cirque: there is no TCP listener that speaks TLS; say where to look with --url\n'])
})

test('prove: a server that drops something fails the proof and says what and when', async t => {
  let count = 0
  const server = http.createServer((request, response) => {
    count++
    if (count > 1 && count % 10 === 0) request.socket.resetAndDestroy()
    else response.end('hello')
  }).listen(0, '127.0.0.1')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server, 'listening')
  const { code, out, err } = await prove(
    temporaryFolder(t),
    'watch',
    '--url',
    `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    '--for',
    '400ms',
  )
  assert.equal(code, 1, out + err)
  assert.match(out, /WebSocket echo +not run\n/)
  assert.match(
    out,
    /lost after 0\.\d+ s \(before\): (fresh connections|keep-alive): reset: ECONNRESET before the answer, on a connection 0\.\d+ s old\n/,
  )
  assert.match(err, /cirque: \d+ of \d+ attempts were lost\n$/)
})

test('prove: an upgrade that answers wrongly while it is under way fails the proof, though the upgrade succeeds', async t => {
  const app = await SupervisedApp.start(t, { app: 'careless' })
  const { code, out, err } = await prove(app.folder, 'upgrade', '--state-dir', app.stateDir, '--for', '400ms')
  assert.equal(code, 1, out + err + app.stderr)
  // The connections that the old workers have at commit ask them once more.
  assert.match(out, /^generation 2 serves, with a new supervisor in the same process \(/m)
  assert.match(out, /^ {2}lost after \d+\.\d+ s \((?:during|after)\): keep-alive: wrong: status 503, on a connection \d+\.\d+ s old$/m)
  assert.doesNotMatch(out, /nothing was lost/)
  assert.match(err, /cirque: [1-9]\d* of \d+ attempts were lost\n$/)
})

test('prove: an upgrade that cuts what is in flight fails the proof, though the upgrade succeeds', async t => {
  const app = await SupervisedApp.start(t, { app: 'balanced', options: { drain: { hardDrainMs: 0 } } })
  const asked = ['--path', '/slow?ms=200', '--rate', '40', '--for', '400ms']
  const { code, out, err } = await prove(app.folder, 'upgrade', '--json', '--state-dir', app.stateDir, ...asked)
  assert.equal(code, 1, out + err + app.stderr)
  const { acted, report, verdict } = JSON.parse(out) as ProveOutcome
  assert.equal(acted, true)
  const { attempted, lost, explained, losses, populations } = report!
  assert.equal(verdict, `${lost} of ${attempted} attempts were lost`)
  const { outcomes } = populations.find(({ name }) => name === 'keep-alive')!
  // A connection that is cut before its answer began gets an answer of ours, FIN or RST, whichever its worker still came to.
  assert.ok(outcomes.reset + outcomes.truncated + outcomes.wrong > 0, JSON.stringify(report))
  assert.equal(lost, populations.reduce((sum, one) => sum + one.attempted - one.outcomes.ok, 0))
  // Nothing was killed that would explain it, and nothing was lost before the upgrade began.
  assert.deepEqual([explained, losses.filter(({ phase }) => phase === 'before')], [0, []])
})

test('prove: wrong usage is 2, nothing running is 3, what cannot be done is 1', async t => {
  const folder = temporaryFolder(t)
  const runs = await Promise.all([
    prove(folder, 'bogus'), prove(folder, 'watch', '--url', 'ftp://127.0.0.1:1'),
    prove(folder, 'watch', '--url', 'http://127.0.0.1:1', '--rate', '5000'),
    prove(folder, 'watch', '--url', 'http://127.0.0.1:1', '--for', '5'), prove(folder, 'reload'),
    prove(folder, 'upgrade'), prove(folder, 'watch', '--url', 'http://127.0.0.1:1'),
  ])
  assert.deepEqual(runs.map(({ code }) => code), [2, 2, 2, 2, 3, 3, 1])
  assert.match(runs[2]!.err, /with 20 keep-alive connections, held for 20 ms each way, use at most 200/)
  assert.match(runs[6]!.err, /nothing listens at http:\/\/127\.0\.0\.1:1\n/)
})
