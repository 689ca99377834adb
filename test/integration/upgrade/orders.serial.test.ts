/** What operators ask for while something is being done already, and what they are told. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { acceptedBy } from '../../support/accepted-connections.ts'
import { pidsOf, ReleasedApp } from '../../support/released-app.ts'
import { isAlive, SupervisedApp } from '../../support/supervised-app.ts'
import { UpgradeLoad } from '../../support/upgrade-load.ts'
import { waitFor, within } from '../../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }

test('upgrade: before the roll a newer request supersedes the older one', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { upgrade: { soakMs: 60_000 } })
  const load = await UpgradeLoad.start(t, server)
  const [two, three] = [server.root.add('two'), server.root.add('three')]
  const first = server.cirque('upgrade', two, '--supervisor')
  await server.app.line('upgrade-1: soak')
  server.configure({ upgrade: { soakMs: 100 } })
  const second = await server.cirque('upgrade', three)
  const { code, stderr } = await first
  assert.deepEqual([code, stderr], [4, 'cirque: upgrade-1: superseded by upgrade-2\n'])
  assert.deepEqual([second.code, second.stderr], [0, ''])
  assert.match(second.stdout, /^upgrade-2: done in \d+s, generation 3, .*\/releases\/three/)
  assert.equal(server.root.current, 'three')
  await load.goesOn()
  await load.losesNothing()
})

test('upgrade: a soak that is asked for counts over the configured one, and a roll-back has none', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { upgrade: { soakMs: 3_600_000 } })
  const two = server.root.add('two')
  const upgraded = await server.cirque('upgrade', two, '--soak', '10ms')
  assert.deepEqual([upgraded.code, server.root.current], [0, 'two'], upgraded.stderr)
  assert.equal((await server.operate({ tag: 'rollback' })).result, 'committed')
  assert.equal(server.root.current, 'one')
  const reload = await server.begin({ tag: 'reload' })
  await server.app.line(`${reload}: soak`)
  const { progress } = await server.status()
  assert.deepEqual([progress!.id, progress!.step, progress!.soakMs], [reload, 'soak', 3_600_000])
  assert.deepEqual(progress!.steps.map(({ step }) => step), ['preflight', 'canary'])
  const wrong = await server.cirque('reload', '--soak', '10')
  assert.equal(wrong.code, 2)
  assert.match(wrong.stderr, /--soak is "10"; use a duration such as 5s or 500ms/)
})

const LATE_REQUEST = 'upgrade: from the roll on a newer request waits, across the replacement of the supervisor, and both are done'
test(LATE_REQUEST, LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const load = await UpgradeLoad.start(t, server)
  const folders = ['two', 'three', 'four'].map(name => server.root.add(name))
  const first = await server.begin({ tag: 'upgrade', folder: folders[0]!, supervisor: 'always' })
  await server.app.line(`${first}: rolling`)
  // Of those that wait the newest wins.
  const second = await server.begin({ tag: 'upgrade', folder: folders[1]!, supervisor: 'if-changed' })
  const third = await server.begin({ tag: 'upgrade', folder: folders[2]!, supervisor: 'if-changed' })
  const outcomes = await Promise.all([first, second, third].map(id => server.outcome(id)))
  assert.deepEqual(outcomes.map(({ result, to }) => [result, path.basename(to)]), [
    ['committed', 'two'], ['superseded', 'three'], ['committed', 'four'],
  ])
  assert.equal(outcomes[1]!.reason, `superseded by ${third}`)
  assert.equal(server.root.current, 'four')
  await load.goesOn()
  await load.losesNothing()
})

interface Echo { readonly socket: WebSocket; readonly localPort: number; echoes: number; code: number }

async function openWebSocket(t: TestContext, port: number): Promise<Echo> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  const { promise: opened, resolve: onOpen } = Promise.withResolvers<number>()
  socket.once('upgrade', answer => onOpen(answer.socket.localPort!))
  t.after(() => socket.terminate())
  const echo: Echo = { socket, localPort: await within('the upgrade', opened), echoes: 0, code: 0 }
  socket.on('message', bytes => {
    echo.echoes++
    if (socket.readyState === WebSocket.OPEN) setTimeout(() => socket.send(bytes as Buffer, () => {}), 10)
  })
  socket.on('close', code => { echo.code = code })
  socket.on('error', error => { echo.code = -1; t.diagnostic(`WebSocket: ${error.message}`) })
  if (socket.readyState === WebSocket.CONNECTING) await within('the opening', new Promise(resolve => { socket.once('open', resolve) }))
  socket.send('to and fro')
  return echo
}

/** At least one in each worker that serves: one that holds none would end at once, and another one of its slot be kept in its place. */
async function openWebSockets(t: TestContext, server: ReleasedApp): Promise<Echo[]> {
  const pids = pidsOf(await server.status())
  const echoes: Echo[] = []
  do echoes.push(await openWebSocket(t, server.port))
  while (!pids.every(pid => { const held = acceptedBy(pid, server.port); return echoes.some(({ localPort }) => held.has(localPort)) }))
  return echoes
}

test('upgrade: five upgrades in a row keep WebSockets until too many generations drain, which then get Close 1001', LINUX_ONLY, async t => {
  const maxDrainingGenerations = 3
  const server = await ReleasedApp.start(t, { drain: { maxDrainingGenerations, closeSpreadMs: 0 } })
  const load = await UpgradeLoad.start(t, server)
  const generations: Echo[][] = []
  for (let round = 0; round < 5; round++) {
    generations.push(await openWebSockets(t, server))
    assert.equal((await server.upgrade(server.root.add(`next-${round}`))).result, 'committed')
    await waitFor(
      'no more generations than allowed',
      async () => (await server.status()).slots.every(({ draining }) => draining.length <= maxDrainingGenerations),
    )
    const kept = generations.slice(Math.max(0, generations.length - maxDrainingGenerations)).flat()
    const before = kept.map(({ echoes }) => echoes)
    await waitFor('echoes of those that may stay', () => kept.every(({ echoes }, index) => echoes > before[index]!), {
      seen: () => kept.map(({ echoes, code }) => [echoes, code]),
    })
    assert.deepEqual(kept.filter(({ code }) => code !== 0), [])
  }
  const ended = generations.slice(0, 5 - maxDrainingGenerations).flat()
  await waitFor('the oldest to be closed', () => ended.every(({ code }) => code !== 0))
  assert.deepEqual([...new Set(ended.map(({ code }) => code))], [1001])
  await load.losesNothing()
})

/** What a state folder keeps for the next start. */
const KEPT = ['cirque-compile-cache', 'instance-id']

for (const step of ['preflight', 'rolling', 'supervisor'] as const) {
  test(`upgrade: a stop in the step ${step} stops, and leaves nothing behind`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t, { drain: { idleDrainMs: 0 } })
    const load = await UpgradeLoad.start(t, server)
    await load.losesNothing()
    const pids = new Set(pidsOf(await server.status()))
    const id = await server.begin({ tag: 'upgrade', folder: server.root.add('two'), supervisor: 'always' })
    await server.app.line(`${id}: ${step}`)
    for (const pid of server.app.everyWorkerPid()) pids.add(pid)
    // A signal that meets the first milliseconds of the next image ends it, which no Node.js can help.
    if (step === 'supervisor') {
      const { code, stderr } = await server.cirque('stop')
      assert.deepEqual([code, stderr], [0, ''], server.app.stderr)
    } else server.app.signal('SIGTERM')
    assert.deepEqual(await server.app.end(20_000), { code: 0, signal: null })
    assert.deepEqual([[...pids].filter(isAlive), server.app.everyWorkerPid()], [[], []])
    assert.match(server.root.current, step === 'supervisor' ? /^(one|two)$/ : /^one$/)
    assert.deepEqual(fs.readdirSync(server.app.stateDir), KEPT)
  })
}

const LATE_STOP = 'upgrade: a stop signal that meets the replacement of the supervisor stops, '
  + 'or leaves workers that the next start adopts'
test(LATE_STOP, LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { drain: { idleDrainMs: 0 } })
  const id = await server.begin({ tag: 'upgrade', folder: server.root.add('two'), supervisor: 'always' })
  await server.app.line(`${id}: supervisor`)
  await delay(Math.random() * 150)
  server.app.signal('SIGTERM')
  const { signal } = await server.app.end(20_000)
  t.diagnostic(signal === null ? 'it stopped' : `it was ended by ${signal}`)
  if (signal !== null) {
    const app = await server.startAgain()
    await app.line('adopted the workers of a supervisor that was killed')
    app.signal('SIGTERM')
    assert.deepEqual(await app.end(20_000), { code: 0, signal: null })
  }
  assert.deepEqual(server.app.everyWorkerPid(), [])
})

const SIGNAL_AT_BOOT = { NODE_OPTIONS: `--import=${new URL('../../support/signal-at-boot.mjs', import.meta.url).href}` }

for (const [signals, ended] of [[['SIGTERM'], 0], [['SIGTERM', 'SIGINT'], 1], [['SIGINT', 'SIGINT'], 0]] as const) {
  test(`upgrade: ${signals.join(' and ')} to an image that has not taken over yet leaves no worker behind`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t, { drain: { idleDrainMs: 0 } }, {
      env: { ...SIGNAL_AT_BOOT, SIGNALS_AT_BOOT_OF: 'handover.json', SIGNALS_AT_BOOT: signals.join(',') },
    })
    await server.begin({ tag: 'upgrade', folder: server.root.add('two'), supervisor: 'always' })
    assert.deepEqual(await server.app.end(20_000), { code: ended, signal: null }, server.app.stderr)
    assert.deepEqual(server.app.everyWorkerPid(), [])
    assert.deepEqual(fs.readdirSync(server.app.stateDir), KEPT)
  })
}

test('upgrade: a stop that comes while workers are adopted waits for them, and kills none', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { drain: { idleDrainMs: 0 } })
  await server.kill()
  const app = await server.startAgain(false)
  await waitFor(
    'somebody to ask',
    () => app.ask({ tag: 'stop', force: false, wait: false }).then(() => true, () => false),
    { deadlineMs: 20_000 },
  )
  assert.deepEqual(await app.end(20_000), { code: 0, signal: null })
  assert.deepEqual(app.lines.filter(({ msg }) => msg.includes('is killed')), [])
  assert.deepEqual(app.everyWorkerPid(), [])
})

test('upgrade: a second start is refused while one runs and while it is replaced, and leaves it alone', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const load = await UpgradeLoad.start(t, server)
  const again = async (env: Readonly<Record<string, string>> = {}): Promise<void> => {
    const second = await SupervisedApp.start(t, {
      folder: server.root.folder, file: server.root.application, options: { workers: 2 }, env, wait: false,
    })
    assert.deepEqual(await second.end(), { code: 3, signal: null })
    assert.equal(second.lines.at(-1)!.msg, `already running, pid ${server.pid}`)
  }
  await again()
  const outcome = server.upgrade(server.root.add('two'), 'always')
  await again()
  assert.equal((await outcome).result, 'committed')
  await again()
  // A stop of the second is none of the first one's workers'.
  for (const signals of ['SIGTERM', 'SIGTERM,SIGINT']) {
    await again({ ...SIGNAL_AT_BOOT, SIGNALS_AT_BOOT_OF: 'run', SIGNALS_AT_BOOT: signals })
  }
  await load.losesNothing()
})

test('upgrade: what is no release is refused in a sentence', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const before = pidsOf(await server.status())
  const missing = await server.cirque('upgrade', path.join(server.root.folder, 'nowhere'))
  assert.deepEqual([missing.code, missing.stderr], [2, `cirque: there is no folder ${path.join(server.root.folder, 'nowhere')}\n`])
  const empty = path.join(server.root.folder, 'empty')
  fs.mkdirSync(empty)
  const without = await server.cirque('upgrade', empty)
  assert.equal(without.code, 1)
  assert.match(
    without.stderr,
    /^cirque: upgrade-1: refused, nothing was changed: .*\/empty has no file app\.ts, which is the application; .*\n$/,
  )
  const back = await server.cirque('rollback')
  assert.equal(back.code, 1)
  assert.match(back.stderr, /^cirque: there is no release to go back to: .*\n$/)
  assert.deepEqual(pidsOf(await server.status()), before)
})
