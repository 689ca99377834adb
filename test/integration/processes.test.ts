/** Supervisor and workers as real processes: start, serve, die, be replaced, stop. Clients never repeat a request. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test from 'node:test'
import type { OpenCounts } from '../../src/ipc/open-counts.ts'
import { ScriptedOrigin } from '../support/scripted-origin.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { commandLine, get, isAlive, SupervisedApp } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor, within } from '../support/wait-for.ts'

/** Dials and sends a request without waiting for the answer; `dialled` resolves when the kernel has accepted it. */
function dialMany(port: number, count: number): { dialled: Promise<unknown>; answers: Promise<string[]> } {
  const dialled: Promise<void>[] = []
  const answers = Array.from({ length: count }, () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    dialled.push(promise)
    return get(port, '/', resolve)
  })
  return { dialled: Promise.all(dialled), answers: Promise.all(answers) }
}

test('processes: an application is served by its workers, and a stop leaves nothing behind', async t => {
  const app = await SupervisedApp.start(t)
  const pids = await app.workerPids()
  assert.equal(pids.length, 2)
  const seen = new Set<string>()
  await waitFor('answers of both workers', async () => seen.add(await get(app.port)).size === 2)
  assert.deepEqual([...seen].sort(), pids.map(String).sort())
  const { port } = app
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.equal(await get(port), 'ECONNREFUSED')
  assert.deepEqual(pids.filter(isAlive), [])
  // Which instance it was is remembered for the next time.
  assert.deepEqual(fs.readdirSync(app.stateDir), ['cirque-compile-cache', 'instance-id'])
})

test('processes: kill -9 of all workers loses no dial that waits in the queue', async t => {
  const app = await SupervisedApp.start(t)
  const pids = await app.workerPids()
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  const { dialled, answers } = dialMany(app.port, 40)
  await within('40 dials', dialled)
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  const bodies = await within('40 answers', answers, 15_000)
  assert.deepEqual(bodies.filter(body => !/^\d+$/.test(body)), [])
  assert.ok(bodies.every(body => !pids.includes(Number(body))))
})

test('processes: the slot of a dead worker is served by its sibling while the replacement waits', async t => {
  const app = await SupervisedApp.start(t, { options: { restart: { backoffMs: 2_000, backoffMsMax: 2_000 } } })
  const [victim, sibling] = await app.workerPids() as [number, number]
  process.kill(victim, 'SIGSTOP')
  const { dialled, answers } = dialMany(app.port, 30)
  await within('30 dials', dialled)
  process.kill(victim, 'SIGKILL')
  const bodies = await within('30 answers of the sibling', answers, 1_500)
  assert.deepEqual([...new Set(bodies)], [String(sibling)])
  await app.until(
    'the replacement to take its slot back',
    slots => slots.every(slot => slot.state === 'serving' && slot.standIn === null),
  )
  const again = new Set<string>()
  await waitFor('answers of the replacement', async () => { again.add(await get(app.port)); return again.size === 2 })
})

test('processes: kill -9 of one worker under load fails no fresh dial that it had not taken', async t => {
  const app = await SupervisedApp.start(t)
  const load = new SteadyLoad({ to: app.port, fresh: 4, keepAlive: 0, pauseMs: 1 })
  await waitFor('load', () => load.ledger.ok > 50)
  const [victim] = await app.workerPids() as [number]
  process.kill(victim, 'SIGKILL')
  const seenBefore = load.ledger.ok
  await app.until('a replacement', slots => slots.every(slot => slot.state === 'serving' && slot.worker!.pid !== victim))
  await waitFor('more load', () => load.ledger.ok > seenBefore + 100)
  const { failed } = await load.stop()
  // At most what it had accepted: one request of each client.
  assert.equal(failed['ECONNREFUSED'], undefined)
  assert.ok(Object.values(failed).reduce((sum, count) => sum + count, 0) <= 4, JSON.stringify(failed))
})

test('processes: a rolling restart loses no request, kept connections included', async t => {
  const app = await SupervisedApp.start(t)
  const before = await app.workerPids()
  const load = new SteadyLoad({ to: app.port, fresh: 4, keepAlive: 8, pauseMs: 2 })
  t.after(() => load.stop())
  await waitFor('load', () => load.ledger.ok > 100)
  const outcome = await app.ask({ tag: 'restart-workers', worker: '', wait: true }) as { replaced: { from: string; to: string }[] }
  assert.deepEqual(outcome.replaced.map(({ from, to }) => `${from} -> ${to}`), ['1.0.0 -> 1.0.1', '1.1.0 -> 1.1.1'])
  app.signal('SIGHUP')
  await app.line('reload-1: committed')
  const slots = await app.until('the old ones to be gone', now => now.every(slot => slot.draining.length === 0 && slot.state === 'serving'))
  assert.deepEqual(slots.map(slot => slot.worker!.id), ['2.0.2', '2.1.2'])
  const { ok, failed } = await load.stop()
  assert.deepEqual(failed, {})
  assert.ok(ok > 200)
  assert.deepEqual(before.filter(isAlive), [])
})

test('processes: `node app.ts` becomes the supervisor, with the pid and the arguments it was started with', async t => {
  const folder = temporaryFolder(t)
  const file = path.join(import.meta.dirname, '../support/apps/plain.ts')
  const app = await SupervisedApp.start(t, { folder, file, args: ['--colour', 'red'], direct: true })
  const [pid] = await app.workerPids() as [number]
  assert.match(commandLine(app.pid), /supervisor\/main\.ts .*plain\.ts --colour red/)
  assert.equal(/^PPid:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))![1], String(app.pid))
  assert.equal(await get(app.port, '/argv'), JSON.stringify([file, '--colour', 'red']))
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
})

test('processes: after an uncaught error a worker is replaced, finishes what it has, and ends with 70', async t => {
  const app = await SupervisedApp.start(t, { options: { workers: 1, drain: { crashDrainMs: 3_000 } } })
  const slow = get(app.port, '/slow?ms=1000')
  await app.until('the slow request', slots => slots[0]!.worker?.open.activeExchanges === 1)
  const [victim] = await app.workerPids()
  const crashed = get(app.port, '/crash')
  await app.line('worker 1.0.0 is replaced: crashed on request')
  assert.match(await get(app.port), /^\d+$/, 'a fresh request, at once')
  assert.equal(await slow, String(victim), 'what it held was finished')
  assert.match(await crashed, /ECONNRESET|closed early/)
  const line = await app.line('worker 1.0.0 is gone')
  assert.equal(line['reason'], 'crashed on request')
  await app.until('a replacement', slots => slots.every(slot => slot.state === 'serving'))
  assert.match(await get(app.port), /^\d+$/)
})

test('processes: rejections that nobody handles end no worker, and fail no request', async t => {
  const app = await SupervisedApp.start(t)
  const pids = await app.workerPids()
  const answers = await Promise.all(Array.from({ length: 40 }, () => get(app.port, '/reject')))
  assert.deepEqual(answers.filter(body => !pids.includes(Number(body))), [])
  const line = await app.line('a promise was rejected and nobody handled it')
  assert.equal(line['reason'], 'forgotten on request')
  assert.match(String(line['at']), /plain-service\.ts:\d+/)
  const status = async (): Promise<{ totals: OpenCounts }> => await app.ask({ tag: 'status' }) as { totals: OpenCounts }
  await waitFor('the count', async () => (await status()).totals.unhandledRejections === 40)
  assert.deepEqual(await app.workerPids(), pids)
})

test('processes: a worker that hangs is stood in for, then aborted and replaced', async t => {
  const app = await SupervisedApp.start(t, { options: { abortAfterSilenceMs: 1_500 } })
  const [victim, sibling] = await app.workerPids() as [number, number]
  process.kill(victim, 'SIGSTOP')
  await app.line('worker 1.0.0 has been silent')
  const { answers } = dialMany(app.port, 20)
  assert.deepEqual([...new Set(await within('answers', answers))], [String(sibling)])
  await app.line('worker 1.0.0 died: silent for')
  const slots = await app.until('a replacement', now => now.every(slot => slot.state === 'serving'))
  assert.notEqual(slots[0]!.worker!.pid, victim)
})

test('processes: a worker that is heard of again keeps its slot', async t => {
  const app = await SupervisedApp.start(t)
  const [victim] = await app.workerPids() as [number]
  process.kill(victim, 'SIGSTOP')
  await app.until('the slot to be adopted', slots => slots[0]!.standIn === '1.1.0')
  process.kill(victim, 'SIGCONT')
  const slots = await app.until('the slot to be given back', now => now[0]!.standIn === null)
  assert.equal(slots[0]!.worker!.pid, victim)
})

test('processes: a stop finishes what is in flight, closes what is idle, and then refuses', async t => {
  const app = await SupervisedApp.start(t)
  const { port } = app
  const idle = net.connect({ port, host: '127.0.0.1' })
  await new Promise(resolve => idle.once('connect', resolve))
  const idleEnded = new Promise<string>(resolve => {
    idle.on('end', () => resolve('end'))
    idle.on('error', error => resolve(error.message))
    idle.resume()
  })
  const slow = get(port, '/slow?ms=700')
  await app.until('the slow request', slots => slots.some(slot => slot.worker!.open.activeExchanges === 1))
  app.signal('SIGTERM')
  await waitFor('refusals', async () => await get(port) === 'ECONNREFUSED')
  assert.equal(app.exit, null, 'the slow request is still there')
  assert.match(await slow, /^\d+$/)
  assert.equal(await idleEnded, 'end')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
})

test('processes: Ctrl-C, arriving twice, drains for its short time only', async t => {
  const app = await SupervisedApp.start(t, { options: { drain: { interruptTimeoutMs: 300 } } })
  const slow = get(app.port, '/slow?ms=60000')
  await app.until('the slow request', slots => slots.some(slot => slot.worker!.open.activeExchanges === 1))
  app.signal('SIGINT')
  app.signal('SIGINT')
  assert.deepEqual(await app.end(5_000), { code: 0, signal: null })
  assert.match(await slow, /ECONNRESET|closed early/)
  assert.equal((await app.line('stopped'))['cut'], 1)
})

test('processes: another stop signal does not wait', async t => {
  const app = await SupervisedApp.start(t)
  const slow = get(app.port, '/slow?ms=60000')
  await app.until('the slow request', slots => slots.some(slot => slot.worker!.open.activeExchanges === 1))
  app.signal('SIGTERM')
  await app.line('SIGTERM')
  app.signal('SIGINT')
  assert.deepEqual(await app.end(5_000), { code: 1, signal: null })
  await slow
})

test('processes: workers ignore the signals of a terminal', async t => {
  const app = await SupervisedApp.start(t)
  const pids = await app.workerPids()
  for (const pid of pids) {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const) process.kill(pid, signal)
  }
  await get(app.port)
  assert.deepEqual(await app.workerPids(), pids)
  assert.deepEqual(pids.filter(isAlive), pids)
})

test('processes: a worker holds the sockets of the table and nothing else, and no trace of its role', {
  skip: process.platform !== 'linux',
}, async t => {
  const app = await SupervisedApp.start(t)
  const [pid] = await app.workerPids() as [number]
  assert.equal(await get(app.port, '/environment'), 'none')
  const inode = (owner: number, fd: string): string => { try { return fs.readlinkSync(`/proc/${owner}/fd/${fd}`) } catch { return '' } }
  const listening = new Set(
    fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1).map(line => line.trim().split(/\s+/))
      .filter(fields => fields[3] === '0A').map(fields => `socket:[${fields[9]}]`),
  )
  const held = fs.readdirSync(`/proc/${pid}/fd`).map(fd => inode(pid, fd)).filter(name => listening.has(name))
  const supervisors = new Set(fs.readdirSync(`/proc/${app.pid}/fd`).map(fd => inode(app.pid, fd)).filter(name => listening.has(name)))
  assert.equal(supervisors.size, 2, 'one socket a slot')
  // Both slots' sockets, and the copy that it listens on.
  assert.deepEqual([...new Set(held)].sort(), [...supervisors].sort())
  assert.equal(held.length, 3)
})

test('processes: workers outlive a killed supervisor, serve on, and drain when none comes back', async t => {
  const app = await SupervisedApp.start(t, { options: { orphanDrainAfterMs: 1_000 } })
  const pids = await app.workerPids()
  app.signal('SIGKILL')
  await app.ended
  const { answers } = dialMany(app.port, 20)
  assert.deepEqual((await answers).filter(body => !/^\d+$/.test(body)), [])
  await waitFor('orphans to end', () => pids.every(pid => !isAlive(pid)))
  assert.equal(await get(app.port), 'ECONNREFUSED')
})

test('processes: the next supervisor adopts the workers of a killed one, with their sockets', async t => {
  const folder = temporaryFolder(t)
  const probe = net.createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => probe.once('listening', resolve))
  const { port } = probe.address() as net.AddressInfo
  await new Promise(resolve => probe.close(resolve))
  const env = { PLAIN_LISTEN: `127.0.0.1:${port}` }
  const first = await SupervisedApp.start(t, { folder, env })
  const orphans = await first.workerPids()
  first.signal('SIGKILL')
  await first.ended
  const second = await SupervisedApp.start(t, { folder, env })
  await second.line('adopted the workers of a supervisor that was killed')
  assert.deepEqual(await second.workerPids(), orphans)
  assert.match(await get(port), /^\d+$/)
  second.signal('SIGTERM')
  await second.end()
  assert.deepEqual(orphans.filter(isAlive), [])
  assert.equal(await get(port), 'ECONNREFUSED')
})

test('processes: what one start has compiled the next one reads, and the application sees nothing of it', async t => {
  const folder = temporaryFolder(t)
  const cache = path.join(folder, 'state/cirque-compile-cache')
  const written = (): string[] => fs.readdirSync(cache, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile()).map(({ parentPath, name }) => `${name} ${fs.statSync(path.join(parentPath, name)).mtimeMs}`).toSorted()
  const env = { NODE_COMPILE_CACHE: '' }
  const first = await SupervisedApp.start(t, { folder, env })
  assert.equal(await get(first.port, '/environment'), 'none')
  first.signal('SIGTERM')
  await first.end()
  const files = written()
  assert.ok(files.length > 20, `${files.length} files`)
  const second = await SupervisedApp.start(t, { folder, env })
  await second.until('a heartbeat', slots => slots.every(slot => slot.worker!.loopLagMs !== null))
  second.signal('SIGTERM')
  await second.end()
  // The supervisor itself, which these tests start without bin/cirque, is compiled with the first start of it that has the variable.
  assert.deepEqual(files.filter(file => !written().includes(file)), [], 'nothing was compiled again')
})

test('processes: a cache that cannot be written is no fault', async t => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'file'), '')
  const app = await SupervisedApp.start(t, { env: { NODE_COMPILE_CACHE: path.join(folder, 'file/cirque-compile-cache') } })
  assert.match(await get(app.port), /^\d+$/)
})

test('processes: an application that cannot be loaded is refused once, with its own error', async t => {
  const folder = temporaryFolder(t)
  const file = path.join(folder, 'broken.ts')
  fs.writeFileSync(file, 'throw new Error("no licence file")\n')
  const app = await SupervisedApp.start(t, { folder, file, wait: false })
  assert.deepEqual(await app.end(), { code: 1, signal: null })
  assert.equal(app.lines.length, 1)
  assert.match(app.lines[0]!.msg, /broken\.ts could not be loaded: no licence file/)
  assert.match(String(app.lines[0]!['stack']), /broken\.ts:1/)
})

test('processes: an application whose workers never become ready is given up, with its error once', async t => {
  const app = await SupervisedApp.start(t, { app: 'never-ready', wait: false })
  assert.deepEqual(await app.end(), { code: 1, signal: null })
  assert.match(app.lines.at(-1)!.msg, /no worker became ready: the database is away/)
  assert.equal(app.lines.filter(line => line.msg.includes('the database is away')).length, 1)
})

test('processes: a second start says who runs already, and a foreign program at the address is named', async t => {
  const first = await SupervisedApp.start(t)
  const second = await SupervisedApp.start(t, { folder: first.folder, wait: false })
  assert.deepEqual(await second.end(), { code: 3, signal: null })
  assert.equal(second.lines.at(-1)!.msg, `already running, pid ${first.pid}`)
  const third = await SupervisedApp.start(t, { wait: false, env: { PLAIN_LISTEN: `127.0.0.1:${first.port}` } })
  assert.deepEqual(await third.end(), { code: 1, signal: null })
  assert.match(
    third.lines.at(-1)!.msg,
    new RegExp(`127\\.0\\.0\\.1:${first.port} of service 'plain' cannot be bound: the address is in use`),
  )
  const fourth = await SupervisedApp.start(t, { wait: false, options: { adminAddress: `127.0.0.1:${first.port}` } })
  assert.deepEqual(await fourth.end(), { code: 1, signal: null })
  assert.match(
    fourth.lines.at(-1)!.msg,
    new RegExp(`^supervisor\\.adminAddress is 127\\.0\\.0\\.1:${first.port}, which cannot be bound: the address is in use by another`),
  )
  assert.match(await get(first.port), /^\d+$/)
})

test('processes: a Unix path is shared by all workers, survives their death, and goes with the stop', async t => {
  const folder = temporaryFolder(t)
  const socket = path.join(folder, 'app.sock')
  // Left over from a program that was killed.
  const leftover = net.createServer().listen(socket)
  await new Promise(resolve => leftover.once('listening', resolve))
  fs.renameSync(socket, `${socket}.kept`)
  await new Promise(resolve => leftover.close(resolve))
  fs.renameSync(`${socket}.kept`, socket)
  const app = await SupervisedApp.start(t, { folder, env: { PLAIN_LISTEN: `unix:${socket}?mode=600` } })
  assert.equal(fs.statSync(socket).mode & 0o777, 0o600)
  const pids = await app.workerPids()
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  const answers = Promise.all(Array.from({ length: 10 }, () => get(socket)))
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  assert.deepEqual((await within('10 answers', answers, 15_000)).filter(body => !/^\d+$/.test(body)), [])
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.equal(fs.existsSync(socket), false)
})

test('processes: without system calls a rolling restart loses nothing and a stop refuses', async t => {
  const app = await SupervisedApp.start(t, { env: { CIRQUE_SYSTEM_CALLS: 'off' } })
  assert.ok(app.has('system calls are not available'))
  const load = new SteadyLoad({ to: app.port, fresh: 3, keepAlive: 3, pauseMs: 2 })
  await waitFor('load', () => load.ledger.ok > 30)
  await app.ask({ tag: 'restart-workers', worker: '', wait: true })
  assert.deepEqual((await load.stop()).failed, {})
  const [victim] = await app.workerPids() as [number]
  process.kill(victim, 'SIGKILL')
  await app.until('a replacement', slots => slots.every(slot => slot.state === 'serving' && slot.worker!.pid !== victim))
  const { port } = app
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.equal(await get(port), 'ECONNREFUSED')
})

test('processes: health is told over plain HTTP, and a stop is not ready before it stops accepting', async t => {
  const app = await SupervisedApp.start(t, { options: { adminAddress: '127.0.0.1:0', drain: { lameDuckMs: 500 } } })
  const admin = Number(/:(\d+)$/.exec(String((await app.line('running'))['admin']))![1])
  const status = async (target: string): Promise<number> => (await fetch(`http://127.0.0.1:${admin}${target}`)).status
  assert.deepEqual(await Promise.all(['/livez', '/readyz', '/startupz', '/', '/elsewhere'].map(status)), [200, 200, 200, 200, 404])
  assert.equal((await fetch(`http://127.0.0.1:${admin}/livez`, { method: 'POST' })).status, 405)
  const { port } = app
  app.signal('SIGTERM')
  await waitFor('not ready', async () => await status('/readyz') === 503)
  assert.match(await get(port), /^\d+$/)
  assert.deepEqual(await app.end(), { code: 0, signal: null })
})

test('processes: workers run as another user when told to', { skip: process.getuid?.() !== 0 }, async t => {
  const folder = temporaryFolder(t)
  // The way to the state folder must be open to that user.
  fs.chmodSync(folder, 0o711)
  const app = await SupervisedApp.start(t, { folder, options: { user: 'nobody' } })
  const [pid] = await app.workerPids() as [number]
  assert.equal(fs.statSync(`/proc/${pid}`).uid, 65534)
  assert.equal(fs.statSync(path.join(app.stateDir, 'control.sock')).uid, 0)
  assert.match(await get(app.port), /^\d+$/)
})

test('processes: two instances in a row on one machine are no loop, and all workers of one put the same mark on requests', async t => {
  const marks: string[][] = [], workers = new Set<string>()
  const origin = await ScriptedOrigin.start(async exchange => {
    marks.push((exchange.request.field('cirque-loop') ?? '').split(', '))
    workers.add(exchange.request.field('x-worker') ?? '')
    await exchange.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  })
  t.after(() => origin.stop())
  const inner = await SupervisedApp.start(t, { app: 'proxy', env: { PROXY_ORIGIN: origin.authority } })
  const outer = await SupervisedApp.start(t, { app: 'proxy', env: { PROXY_ORIGIN: `127.0.0.1:${inner.port}` } })
  for (let request = 0; request < 4; request++) assert.equal(await get(outer.port), 'ok')
  const [first] = marks
  assert.equal(new Set(first).size, 2)
  assert.ok(marks.every(own => own.join() === first!.join()))
  // Not through the outer one, whose workers keep the connections that they have.
  await waitFor('both workers of the inner one', async () => {
    assert.equal(await get(inner.port), 'ok')
    assert.deepEqual(marks.at(-1), [first![1]])
    return workers.size === 2
  })
  inner.signal('SIGTERM')
  await inner.end()
  const { folder } = inner
  const again = await SupervisedApp.start(t, { app: 'proxy', folder, env: { PROXY_ORIGIN: origin.authority } })
  assert.equal(await get(again.port), 'ok')
  assert.deepEqual(marks.at(-1), [first![1]])
})
