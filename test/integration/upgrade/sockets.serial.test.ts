/** Listeners that come and go while the server runs, and which process holds which socket. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test from 'node:test'
import { descriptorsOf, pidsOf, ReleasedApp, type Status } from '../../support/released-app.ts'
import { TLS_HOST } from '../../support/release-folder.ts'
import { UpgradeLoad } from '../../support/upgrade-load.ts'
import { waitFor } from '../../support/wait-for.ts'

/** Where the clients over TLS are all the time. */
const OVER_TLS = `tls:${TLS_HOST}:0`
const LINUX_ONLY = { skip: process.platform !== 'linux' }

/** Dials one after another, each to its answer, until one is refused. @returns what those before it got. */
async function dialUntilRefused(host: string, port: number): Promise<string[]> {
  const answers: string[] = []
  for (;;) {
    const answer = await getFrom(host, port)
    if (answer === 'ECONNREFUSED') return answers
    answers.push(answer)
  }
}

/** One request on a connection of its own. @returns status and body, or how it failed. */
function getFrom(host: string, port: number): Promise<string> {
  return new Promise(resolve => {
    const socket = net.connect({ host, port })
    let text = ''
    socket.setEncoding('latin1')
    socket.on('connect', () => socket.write('GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n'))
    socket.on('data', chunk => { text += String(chunk) })
    socket.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
    socket.on('close', () => resolve(/^HTTP\/1\.1 200 [^]*\r\n\r\none \d+$/.test(text) ? 'ok' : `closed early: ${JSON.stringify(text)}`))
  })
}

function addressIn(status: Status, host: string): { host: string; port: number } {
  const { bound } = status.listeners.find(listener => listener.bound.startsWith(`${host}:`))!
  return { host, port: Number(bound.slice(host.length + 1)) }
}

test('upgrade: listeners come and go by a reload, and the others never notice', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const load = await UpgradeLoad.start(t, server)
  server.root.listenOn('127.0.0.1:0', '127.0.0.2:0', OVER_TLS)
  assert.equal((await server.operate({ tag: 'reload' })).result, 'committed')
  const { host, port } = addressIn(await server.status(), '127.0.0.2')
  assert.equal(await getFrom(host, port), 'ok')
  await load.goesOn()

  const diallers = Promise.all(Array.from({ length: 4 }, () => dialUntilRefused(host, port)))
  server.root.listenOn('127.0.0.1:0', OVER_TLS)
  const { result, reason } = await server.operate({ tag: 'reload' })
  assert.deepEqual([result, reason], ['committed', ''])
  // Whoever is told that it is done finds it done.
  assert.equal(await getFrom(host, port), 'ECONNREFUSED')
  const answers = await diallers
  t.diagnostic(`${answers.flat().length} dials while the listener went`)
  for (const each of answers) assert.deepEqual([...new Set(each)], ['ok'])
  await load.goesOn()

  // A listener that is back is a new one.
  server.root.listenOn(OVER_TLS, '127.0.0.3:0', '127.0.0.1:0')
  assert.equal((await server.upgrade('', 'always')).result, 'committed')
  const third = addressIn(await server.status(), '127.0.0.3')
  assert.equal(await getFrom(third.host, third.port), 'ok')
  await load.goesOn()
  await load.losesNothing()
})

test('upgrade: a worker holds its sockets and nothing of the supervisor, before and after replacements in place', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, {
    adminAddress: '127.0.0.1:0', drain: { webSocketDrainMs: 0, idleDrainMs: 0, closeSpreadMs: 0 },
  }, { listen: ['127.0.0.1:0'] })
  const check = async (): Promise<void> => {
    const status = await server.settled()
    const supervisor = descriptorsOf(server.pid)
    const listening = listeningAt(server.port)
    const [control, worker] = ['control.sock', 'worker.sock'].map(name => unixSocket(path.join(status.stateDir, name)))
    const admin = [...listeningAt(Number(/:(\d+)$/.exec(status.admin)![1]))]
    assert.equal(listening.size, 2, 'one socket a slot')
    assert.equal(admin.length, 1)
    for (const own of [control, worker, admin[0]]) assert.ok([...supervisor.values()].includes(own!), `the supervisor holds ${own}`)
    for (const pid of pidsOf(status)) {
      const held = descriptorsOf(pid)
      // 3 is its channel to cluster; the sockets of all slots follow, in order.
      assert.deepEqual(new Set([held.get(4), held.get(5)]), listening)
      for (const own of [control, worker, admin[0]]) assert.ok(![...held.values()].includes(own!), `worker ${pid} does not hold ${own}`)
      // The log opens the standard streams again; what this process was given all have. An eventfd and the like have no names of their own.
      const given = [0, 1, 2].map(fd => held.get(fd)).concat([...descriptorsOf(process.pid).values()])
      const ofSupervisor = new Set(supervisor.values())
      const shared = [...held].filter(([fd, name]) =>
        fd > 2 && /^(socket|pipe):/.test(name) && !given.includes(name) && ofSupervisor.has(name))
      assert.deepEqual(new Set(shared.map(([, name]) => name)), listening)
      // Each once for the table, and the one that it accepts on once more.
      assert.equal(shared.length, 3, JSON.stringify([...held]))
      const rest = [...held].filter(([fd, name]) => fd > 5 && name.startsWith('socket:') && !listening.has(name))
      assert.equal(rest.length, 1, `the way to the supervisor alone: ${JSON.stringify([...held])}`)
    }
  }
  await check()
  for (const supervisor of ['always', 'if-changed', 'always'] as const) {
    assert.equal((await server.upgrade('', supervisor)).result, 'committed')
    await check()
  }
  const [victim] = pidsOf(await server.status()) as [number]
  process.kill(victim, 'SIGKILL')
  await waitFor('another worker', async () => !pidsOf(await server.settled()).includes(victim))
  await check()
  assert.equal(await getFrom('127.0.0.1', server.port), 'ok')
})

/** The listening sockets of a port, as /proc/<pid>/fd names them. */
function listeningAt(port: number): Set<string> {
  const rows = fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1).map(line => line.trim().split(/\s+/))
  const listening = rows.filter(fields => fields[3] === '0A' && Number.parseInt(fields[1]!.split(':')[1]!, 16) === port)
  return new Set(listening.map(fields => `socket:[${fields[9]}]`))
}

/** The listening socket of a path. */
function unixSocket(file: string): string {
  const row = fs.readFileSync('/proc/net/unix', 'utf8').split('\n').map(line => line.trim().split(/\s+/))
    .find(fields => fields[7] === file && fields[3] === '00010000')
  return `socket:[${row![6]}]`
}

const OWN_NODE = 'upgrade: a release with its own Node.js runs on it, supervisor included, and a roll-back runs on the one before'
test(OWN_NODE, LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const load = await UpgradeLoad.start(t, server)
  const two = server.root.add('two', { ownNode: true })
  const runtimeOf = (pid: number): string => fs.readlinkSync(`/proc/${pid}/exe`)
  const before = runtimeOf(server.pid)
  const check = async (node: string): Promise<void> => {
    const status = await server.status()
    assert.equal(status.pid, server.pid)
    assert.deepEqual([server.pid, ...pidsOf(status)].map(runtimeOf), [node, node, node])
    await load.goesOn()
  }
  const up = await server.cirque('upgrade', two)
  assert.deepEqual([up.code, up.stderr], [0, ''])
  assert.match(up.stdout, /with a new supervisor/)
  await check(path.join(two, 'bin/node'))
  const down = await server.cirque('rollback')
  assert.deepEqual([down.code, down.stderr], [0, ''])
  assert.match(down.stdout, /^rollback-2: done/)
  await check(before)
  assert.equal(server.root.current, 'one')
  await waitFor(
    'the answers of both',
    () => ['one', 'two'].every(name => Object.keys(load.answeredBy).some(who => who.startsWith(`${name} `))),
  )
  await load.losesNothing()
})
