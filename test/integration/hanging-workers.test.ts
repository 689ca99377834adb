/** Workers whose event loop never turns again, or not for a while, as real processes: who serves meanwhile, and what the log says. */
import '../support/no-process-left.ts'
import assert from 'node:assert/strict'
import test from 'node:test'
import { isAlive, SupervisedApp } from '../support/supervised-app.ts'
import { within } from '../support/wait-for.ts'

/** One request on a connection of its own. @returns the worker that answered; null: none did */
async function pidOf(app: SupervisedApp, target = '/'): Promise<number | null> {
  try {
    const response = await fetch(`http://127.0.0.1:${app.port}${target}`, { headers: { connection: 'close' } })
    return Number(await response.text())
  } catch {
    return null
  }
}

const asks = (app: SupervisedApp, count: number): Promise<(number | null)[]> => Promise.all(Array.from({ length: count }, () => pidOf(app)))

test('hanging workers: one whose hook never returns is stood in for, the log says where it hangs, then it is replaced', async t => {
  const app = await SupervisedApp.start(t, { app: 'looping', options: { abortAfterSilenceMs: 6_000 } })
  const pids = await app.workerPids()
  const lost = pidOf(app, '/loop')
  const slots = await app.until('a sibling to stand in', now => now.some(slot => slot.standIn !== null))
  const victim = slots.find(slot => slot.standIn !== null)!.worker!
  const [sibling] = pids.filter(pid => pid !== victim.pid)
  assert.deepEqual([...new Set(await within('20 answers', asks(app, 20)))], [sibling])
  const line = await app.line('the event loop hangs at loopForEver', 20_000)
  assert.equal(line.who, `worker ${victim.id}`)
  assert.match(line.msg, /looping\.ts:\d+:\d+\)$/)
  assert.match(String(line['stack']), /at loopForEver .*looping\.ts:\d+[^]*at requestFilter .*looping\.ts:\d+/)
  await app.line(`worker ${victim.id} died: silent for`, 20_000)
  assert.equal(await lost, null)
  await app.until('a replacement', now => now.every(({ state, standIn }) => state === 'serving' && standIn === null))
  assert.equal(app.lines.filter(({ msg }) => msg.startsWith('the event loop hangs')).length, 1)
})

test('hanging workers: when all of them hang a spare is started on their sockets and serves', async t => {
  const app = await SupervisedApp.start(t, { app: 'looping' })
  const pids = await app.workerPids()
  void pidOf(app, '/loop')
  await app.until('a sibling to stand in', slots => slots.some(slot => slot.standIn !== null))
  // The sibling accepts on every socket now.
  void pidOf(app, '/loop')
  await app.line('spare worker', 30_000)
  const answers = await within('20 answers', asks(app, 20), 20_000)
  assert.equal(answers.filter(pid => pid === null || pids.includes(pid)).length, 0, String(answers))
  assert.deepEqual(pids.filter(isAlive), pids, 'while those that hang still live')
})

test('hanging workers: one that hung while a spare took over finishes what it held, and ends in order', async t => {
  const app = await SupervisedApp.start(t, { app: 'looping', options: { workers: 1 } })
  const [victim] = await app.workerPids()
  const held = pidOf(app, '/pause?ms=8000')
  await app.line('spare worker 1.0.1 takes over slot 0', 20_000)
  const other = await within('an answer', pidOf(app), 20_000)
  assert.notEqual(other, victim)
  assert.equal(await held, victim)
  const line = await app.line('worker 1.0.0 is gone')
  assert.equal(line['reason'], undefined)
  assert.deepEqual(await app.workerPids(), [other])
})

test('hanging workers: a spare that is kept takes over from a killed worker, and is one of the generation that serves', async t => {
  const app = await SupervisedApp.start(t, { options: { workers: 1, spareWorkers: 1 } })
  const ready = async (): Promise<string> => {
    const [slot] = await app.until('a spare', slots => slots[0]!.spare?.state === 'ready')
    return slot!.spare!.id
  }
  assert.equal(await ready(), '1.0.1')
  const [victim] = await app.workerPids()
  process.kill(victim!, 'SIGKILL')
  await app.line('spare worker 1.0.1 takes over slot 0')
  assert.notEqual(await pidOf(app), victim)
  assert.equal(await ready(), '1.0.2')
  app.signal('SIGHUP')
  await app.line('reload-1: committed')
  assert.match(await ready(), /^2\.0\.\d$/)
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
})
