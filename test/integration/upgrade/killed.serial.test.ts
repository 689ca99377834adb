/**
 * kill -9 of the supervisor at rest and at every moment of an upgrade, and of workers. The next start with the same state
 * folder takes the workers over; what a killed worker had accepted is lost with it, and nothing else ever is.
 */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { OperationOutcome } from '../../../src/ipc/messages.ts'
import { acceptedBy, freeze, waitingInQueue } from '../../support/accepted-connections.ts'
import { RawClient } from '../../support/raw-client.ts'
import { pidsOf, ReleasedApp, type Operation, type Status } from '../../support/released-app.ts'
import { commandLine, isAlive } from '../../support/supervised-app.ts'
import { UpgradeLoad } from '../../support/upgrade-load.ts'
import { waitFor } from '../../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }
const ADOPTED = 'adopted the workers of a supervisor that was killed'

/** kill -9, and the start that follows. */
async function killAndStartAgain(t: TestContext, server: ReleasedApp): Promise<Status> {
  const killedAtMs = performance.now()
  await server.kill()
  const app = await server.startAgain()
  const { tookMs } = await app.line(ADOPTED)
  assert.equal(app.has('workers of a supervisor that was killed still listen'), false)
  const sinceKillMs = Math.round(performance.now() - killedAtMs)
  t.diagnostic(`adopted ${sinceKillMs} ms after the kill, the process's start included; ${String(tookMs)} ms of these for the workers`)
  return server.settled()
}

/** All keep-alive clients of a load may have got to one worker. @returns the worker that has most connections, and some at least */
async function workerWithClients(server: ReleasedApp): Promise<number> {
  let most: { readonly pid: number; readonly open: { readonly connections: number } } | null = null
  await waitFor('clients at a worker', async () => {
    const { slots } = await server.status()
    for (const { worker } of slots) {
      if (worker !== null && worker.open.connections > (most?.open.connections ?? 0)) most = worker
    }
    return most !== null
  })
  return most!.pid
}

/** Everything is of one release, and works. */
async function isWhole(server: ReleasedApp, status: Status, outcome: OperationOutcome): Promise<void> {
  assert.match(outcome.result, /^(committed|rolled-back|refused)$/)
  const release = outcome.result === 'committed' ? 'two' : 'one'
  assert.deepEqual([server.root.current, status.release], [release, server.root.folderOf(release)])
  assert.equal(pidsOf(status).length, 2)
  assert.deepEqual(status.slots.map(({ worker }) => worker!.generation), [status.generation, status.generation])
  const { result, reason } = await server.upgrade(server.root.add('three'))
  assert.deepEqual([result, reason], ['committed', ''], server.app.stderr)
  assert.equal(server.root.current, 'three')
}

test('upgrade: a supervisor killed at rest is followed by one that adopts its workers', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const before = pidsOf(await server.status())
  const load = await UpgradeLoad.start(t, server)
  for (let round = 0; round < 2; round++) {
    assert.deepEqual(pidsOf(await killAndStartAgain(t, server)), before)
    await load.goesOn()
  }
  assert.equal((await server.upgrade()).result, 'committed')
  await load.goesOn()
  await load.losesNothing()
})

for (const step of ['canary', 'rolling', 'supervisor'] as const) {
  test(`upgrade: a supervisor killed in the step ${step} loses nothing, and the next one leaves no half of it`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t, { drain: { webSocketDrainMs: 200 } })
    const before = pidsOf(await server.status())
    const load = await UpgradeLoad.start(t, server)
    const id = await server.begin({ tag: 'upgrade', folder: server.root.add('two'), supervisor: 'always' })
    await server.app.line(`${id}: ${step}`)
    const status = await killAndStartAgain(t, server)
    const outcome = await server.outcome(id)
    t.diagnostic(`${outcome.result}: ${outcome.reason}`)
    if (step !== 'supervisor') assert.deepEqual(pidsOf(status), before)
    await isWhole(server, status, outcome)
    await load.losesNothing()
  })
}

for (const withinMs of [50, 800]) {
  test(`upgrade: a supervisor killed within ${withinMs} ms of its replacement in place loses nothing`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t, { drain: { webSocketDrainMs: 200 } })
    const load = await UpgradeLoad.start(t, server)
    const id = await server.begin({ tag: 'upgrade', folder: server.root.add('two'), supervisor: 'always' })
    await waitFor('the next image', () => commandLine(server.pid).includes('/supervisor/boot'), { deadlineMs: 20_000 })
    // At which moment is the point; no wait for anything.
    const afterMs = Math.random() * withinMs
    await delay(afterMs)
    const status = await killAndStartAgain(t, server)
    const outcome = await server.outcome(id)
    t.diagnostic(`killed ${Math.round(afterMs)} ms after the exec; ${outcome.result}: ${outcome.reason}`)
    await isWhole(server, status, outcome)
    await load.losesNothing()
  })
}

for (const operation of ['upgrade', 'reload'] as const) {
  const anOperation = operation === 'reload' ? 'a reload' : `an ${operation}`
  test(`upgrade: a supervisor killed at any moment of ${anOperation} loses nothing`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t, { drain: { webSocketDrainMs: 200 } })
    const load = await UpgradeLoad.start(t, server)
    const message: Operation = operation === 'reload' ? { tag: 'reload' }
      : { tag: 'upgrade', folder: server.root.add('two'), supervisor: 'always' }
    const id = await server.begin(message)
    const afterMs = Math.random() * 2_500
    await delay(afterMs)
    const steps = server.app.lines.filter(({ msg }) => msg.startsWith(`${id}: `)).map(({ msg }) => msg)
    const status = await killAndStartAgain(t, server)
    const outcome = await server.outcome(id)
    t.diagnostic(`killed ${Math.round(afterMs)} ms after it was asked for, at '${steps.at(-1)}'; ${outcome.result}: ${outcome.reason}`)
    if (operation === 'upgrade') await isWhole(server, status, outcome)
    else assert.equal(pidsOf(status).length, 2)
    await load.losesNothing()
  })
}

for (const victims of ['one', 'all'] as const) {
  test(`upgrade: kill -9 of ${victims} of the workers loses what they had accepted, and no dial`, LINUX_ONLY, async t => {
    const server = await ReleasedApp.start(t)
    const load = await UpgradeLoad.start(t, server, false)
    const pids = victims === 'one' ? [await workerWithClients(server)] : pidsOf(await server.status())
    await load.killing(async () => {
      for (const pid of pids) process.kill(pid, 'SIGKILL')
      await waitFor('their end', () => pids.every(pid => !isAlive(pid)))
    })
    await waitFor('others', async () => pidsOf(await server.settled()).every(pid => !pids.includes(pid)))
    await load.goesOn()
    const { explained } = await load.losesNothing()
    assert.ok(explained > 0, 'somebody was connected to them')
  })
}

test('upgrade: a worker that stands still is detected and replaced, and what waited in its queue is served', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { abortAfterSilenceMs: 1_000 })
  const [pid] = pidsOf(await server.status()) as [number]
  freeze(pid)
  const clients = await Promise.all(Array.from({ length: 20 }, async () => {
    const client = await RawClient.connect({ host: '127.0.0.1', port: server.port })
    t.after(() => client.destroy())
    await client.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
    return client
  }))
  assert.ok(waitingInQueue(server.port) > 0)
  const lost = acceptedBy(pid, server.port)
  assert.equal(lost.size, 0)
  const answers = await Promise.all(clients.map(client => client.readResponse({ deadlineMs: 15_000 })))
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200])
  assert.ok(answers.every(({ body }) => body.toString() !== `one ${pid}`))
  await server.app.line('worker 1.0.0 has been silent')
  await server.app.line('worker 1.0.0 died: silent for')
  assert.ok(!pidsOf(await server.settled()).includes(pid))
})

const ASLEEP = 'upgrade: workers that do not answer the supervisor that adopts are replaced beside, '
  + 'and answer what waits for them alone when they wake'
test(ASLEEP, LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { orphanPolicy: 'keep' })
  const { port } = server
  const before = pidsOf(await server.status())
  for (const pid of before) freeze(pid)
  const dial = async (): Promise<RawClient> => {
    const client = await RawClient.connect({ host: '127.0.0.1', port })
    t.after(() => client.destroy())
    await client.write('GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n')
    return client
  }
  const waiting = await Promise.all(Array.from({ length: 30 }, dial))
  assert.equal(waitingInQueue(port), waiting.length)
  await server.kill()
  const app = await server.startAgain()
  await app.line('the socket of slot 0 at')
  await waitFor('others that serve', async () => pidsOf(await server.status()).length === 2, { seen: () => app.stderr })
  // Some of them meet the new workers, some go to the sockets that only those hold who stand still.
  waiting.push(...await Promise.all(Array.from({ length: 30 }, dial)))
  const bodyOf = async (client: RawClient): Promise<string> => (await client.readResponse({ deadlineMs: 15_000 })).body.toString()
  const after = pidsOf(await server.status())
  assert.ok(waitingInQueue(port) >= 30)
  for (const pid of before) process.kill(pid, 'SIGCONT')
  const bodies = await Promise.all(waiting.map(bodyOf))
  assert.deepEqual([...new Set(bodies)].filter(body => ![...before, ...after].some(pid => body === `one ${pid}`)), [])
  assert.ok(bodies.slice(0, 30).every(body => before.some(pid => body === `one ${pid}`)))
  await waitFor('the end of those who woke', () => before.every(pid => !isAlive(pid)), { deadlineMs: 20_000, seen: () => app.stderr })
  assert.deepEqual(pidsOf(await server.settled()), after)
  for (const body of await Promise.all(Array.from({ length: 20 }, async () => bodyOf(await dial())))) {
    assert.ok(after.some(pid => body === `one ${pid}`), body)
  }
})
