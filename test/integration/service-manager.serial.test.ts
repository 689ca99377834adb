/**
 * A supervisor under a service manager that keeps its sockets: what it reports and when, and that a stop and a start, or
 * a kill and a start, cost nobody a request. scripts/systemd/try-systemd.sh asks the same of a real systemd, by hand.
 */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { TestServiceManager } from '../support/service-manager.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { commandLine, get, isAlive, type SupervisedOptions } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }
const INSTALLATION = path.resolve(import.meta.dirname, '../..')

/** Who becomes the supervisor's image, and how. */
const STARTS: Readonly<Record<string, (folder: string) => SupervisedOptions>> = {
  'cirque run': () => ({ app: 'self-tested' }),
  'cirque run, handing over to the installation that the application finds': folder => ({ file: withOwnInstallation(folder) }),
  'node app.ts': () => ({ app: 'self-tested', direct: true }),
}

for (const [how, optionsIn] of Object.entries(STARTS)) {
  test(`service manager: a full stop and start under load loses no request (${how})`, LINUX_ONLY, async t => {
    const port = await freePort()
    const manager = await TestServiceManager.start(t)
    const folder = temporaryFolder(t)
    const options = { ...optionsIn(folder), folder, env: { PROXY_LISTEN: `127.0.0.1:${port}` } }
    const first = await manager.startApp(t, options)
    await manager.told('READY=1')
    await waitFor('the sockets to be stored', () => manager.stored.length === 2)
    assert.deepEqual(new Set(manager.stored), new Set([`127.0.0.1%3A${port}`]))
    const load = new SteadyLoad({ to: port, fresh: 4, keepAlive: 0, pauseMs: 2 })
    t.after(() => load.stop())
    await waitFor('load', () => load.ledger.ok > 200)

    first.signal('SIGTERM')
    assert.deepEqual(await first.end(), { code: 0, signal: null })
    assert.deepEqual(manager.reports, ['READY=1', 'STOPPING=1'])
    assert.deepEqual(first.everyWorkerPid(), [])
    assert.equal(manager.stored.length, 2)
    const before = load.ledger.ok
    const second = await manager.startApp(t, options)
    await waitFor('more load', () => load.ledger.ok > before + 200)
    const { ok, failed, lost, bodies } = await load.stop()
    t.diagnostic(`${ok} answered by ${Object.keys(bodies).length} workers`)
    assert.deepEqual({ failed, lost }, { failed: {}, lost: [] })
    assert.equal(Object.keys(bodies).length, 4)
    // They were used, and stored again.
    assert.equal(second.has('the service manager gave us a socket'), false)
    assert.equal(manager.stored.length, 2)
    if ('file' in options) assert.match(commandLine(second.pid), /own-installation/)
    for (const pid of await second.workerPids()) {
      assert.doesNotMatch(fs.readFileSync(`/proc/${pid}/environ`, 'utf8'), /NOTIFY_SOCKET|LISTEN_FDS|LISTEN_PID/)
    }

    second.signal('SIGTERM')
    await second.end()
    manager.letGo()
    assert.equal(await get(port), 'ECONNREFUSED')
  })
}

test('service manager: after a kill of the supervisor the next one adopts its workers, which served on', LINUX_ONLY, async t => {
  const port = await freePort()
  const manager = await TestServiceManager.start(t)
  // Without a service manager they would drain at once.
  const options = { folder: temporaryFolder(t), env: { PLAIN_LISTEN: `127.0.0.1:${port}` }, options: { orphanDrainAfterMs: 0 } }
  const first = await manager.startApp(t, options)
  await waitFor('the sockets to be stored', () => manager.stored.length === 2)
  const workers = await first.workerPids()
  const load = new SteadyLoad({ to: port, fresh: 4, keepAlive: 4, pauseMs: 2 })
  t.after(() => load.stop())
  await waitFor('load', () => load.ledger.ok > 200)

  first.signal('SIGKILL')
  await first.ended
  const alone = load.ledger.ok
  await waitFor('load without a supervisor', () => load.ledger.ok > alone + 200)
  const second = await manager.startApp(t, options)
  await second.line('adopted the workers of a supervisor that was killed')
  assert.deepEqual(await second.workerPids(), workers)
  await waitFor('both reports', () => manager.reports.length === 2)
  assert.deepEqual(manager.reports, ['READY=1', 'READY=1'])
  const { failed, lost, bodies } = await load.stop()
  assert.deepEqual({ failed, lost }, { failed: {}, lost: [] })
  assert.deepEqual(Object.keys(bodies).map(Number).toSorted(), workers.toSorted())
  assert.equal(manager.stored.length, 2)

  second.signal('SIGTERM')
  assert.deepEqual(await second.end(), { code: 0, signal: null })
  assert.deepEqual(workers.filter(isAlive), [])
})

test('service manager: ready when every worker accepts; on a stop first not ready, then closed, alive to the end', LINUX_ONLY, async t => {
  const port = await freePort()
  const manager = await TestServiceManager.start(t)
  const folder = temporaryFolder(t)
  const admin = path.join(folder, 'admin.sock')
  const app = await manager.startApp(t, {
    folder, wait: false, env: { PLAIN_LISTEN: `127.0.0.1:${port}` },
    options: { adminAddress: `unix:${admin}`, drain: { lameDuckMs: 1_000 } },
  })
  await waitFor('the admin listener', async () => await probe(admin, '/livez') === 200, { deadlineMs: 20_000 })
  await waitFor('the report', async () => {
    const reported = manager.reports.length > 0
    assert.ok(await probe(admin, '/readyz') === 200 || !reported, 'reported before it was ready')
    return reported
  }, { deadlineMs: 20_000 })
  assert.deepEqual(manager.reports, ['READY=1'])
  assert.deepEqual((await app.slots()).map(({ state, worker }) => [state, worker?.state]), [
    ['serving', 'accepting'], ['serving', 'accepting'],
  ])
  const seen = async (): Promise<unknown[]> => [await probe(admin, '/readyz'), await probe(admin, '/livez')]
  assert.deepEqual(await seen(), [200, 200])
  assert.match(await get(port), /^\d+$/)

  const slow = get(port, '/slow?ms=3000')
  await waitFor('the slow request', async () => (await app.slots()).some(({ worker }) => worker?.open.activeExchanges === 1))
  app.signal('SIGTERM')
  await manager.told('STOPPING=1')
  assert.deepEqual(await seen(), [503, 200])
  assert.match(await get(port), /^\d+$/, 'balancers that have not looked yet still send')
  // The sockets stay with the service manager: let go by all, they refuse.
  manager.letGo()
  await waitFor('a refused dial', async () => await get(port) === 'ECONNREFUSED')
  assert.deepEqual(await seen(), [503, 200])
  assert.match(await slow, /^\d+$/)
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.deepEqual(await seen(), ['ENOENT', 'ENOENT'])
  assert.deepEqual(manager.reports, ['READY=1', 'STOPPING=1'])
})

/** An application that finds another copy of Cirque than the one that is started. @returns its file. */
function withOwnInstallation(folder: string): string {
  const own = path.join(folder, 'own-installation')
  for (const part of ['src', 'supervisor', 'workers', 'create', 'package.json']) {
    fs.cpSync(path.join(INSTALLATION, part), path.join(own, part), { recursive: true })
  }
  fs.symlinkSync(path.join(INSTALLATION, 'node_modules'), path.join(own, 'node_modules'))
  fs.mkdirSync(path.join(folder, 'node_modules'))
  fs.symlinkSync(own, path.join(folder, 'node_modules/cirque'))
  const file = path.join(folder, 'app.ts')
  fs.writeFileSync(
    file,
    fs.readFileSync(path.join(INSTALLATION, 'test/support/apps/self-tested.ts'), 'utf8').replace('../../../src/index.ts', 'cirque'),
  )
  return file
}

/** The status of one probe, or how it failed. */
function probe(socketPath: string, target: string): Promise<number | string> {
  return new Promise(resolve => {
    http.get({ socketPath, path: target, agent: false }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })
}
