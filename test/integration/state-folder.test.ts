/** What becomes of a supervisor whose state folder is not as it left it. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import { ControlServer } from '../../supervisor/control-server.ts'
import { AlreadyRunning } from '../../supervisor/control-sockets.ts'
import '../support/no-process-left.ts'
import { get, SupervisedApp, type ShownSlot } from '../support/supervised-app.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }

test('state folder: one that is removed while it runs is made anew: workers start, and operators are answered', LINUX_ONLY, async t => {
  const app = await SupervisedApp.start(t)
  const before = await app.workerPids()
  // All at once: what the supervisor makes anew meanwhile is not for us to remove.
  fs.renameSync(app.stateDir, `${app.stateDir}-gone`)
  fs.rmSync(`${app.stateDir}-gone`, { recursive: true })
  for (const pid of before) process.kill(pid, 'SIGKILL')
  await app.line('the control sockets had been removed')
  const isNew = ({ worker }: ShownSlot): boolean => worker?.state === 'accepting' && !before.includes(worker.pid)
  const slots = await app.until('new workers', all => all.every(isNew))
  assert.equal(slots.length, 2)
  assert.match(await get(app.port), /^\d+$/)
  assert.ok(fs.existsSync(path.join(app.stateDir, 'journal.json')))
  app.signal('SIGTERM')
  assert.deepEqual(await app.end(), { code: 0, signal: null })
  assert.deepEqual(fs.readdirSync(app.stateDir).filter(name => name.endsWith('.sock') || name.endsWith('.json')), [])
})

test('state folder: a journal that cannot be used costs the adoption of workers, not the start', LINUX_ONLY, async t => {
  const first = await SupervisedApp.start(t)
  first.signal('SIGKILL')
  await first.end()
  const file = path.join(first.stateDir, 'journal.json')
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replaceAll(/"token":"[^"]*",/g, ''))
  const second = await SupervisedApp.start(t, { folder: first.folder })
  assert.match(String((await second.line('the journal of a supervisor before'))['reason']), /token/)
  assert.match(await get(second.port), /^\d+$/)
  second.signal('SIGTERM')
  assert.deepEqual(await second.end(), { code: 0, signal: null })
})

/** Supervisors that would all like to have one folder. */
async function rivals(t: TestContext, count: number): Promise<{ folder: string; servers: ControlServer[] }> {
  const loaded = await loadSystemCalls({})
  assert.ok(loaded.available)
  const folder = path.join(temporaryFolder(t), 'state')
  fs.mkdirSync(folder)
  const { calls } = loaded
  const servers = Array.from({ length: count }, () => new ControlServer({
    folder, options: resolveSupervisorOptions(), log: SILENT_LOG, workerUid: null, workerGid: null, calls, held: null,
    handlers: { onOperator() {}, onHello: () => null },
  }))
  return { folder, servers }
}

test('state folder: the tokens that it holds stand in no worker\'s environment or command line', LINUX_ONLY, async t => {
  const app = await SupervisedApp.start(t)
  const journal = fs.readFileSync(path.join(app.stateDir, 'journal.json'), 'utf8')
  const tokens = [...journal.matchAll(/"token":"([^"]+)"/g)].map(([, token]) => token!)
  const pids = await app.workerPids()
  assert.deepEqual([tokens.length, pids.length], [2, 2])
  for (const pid of pids) {
    const open = ['environ', 'cmdline'].map(name => fs.readFileSync(`/proc/${pid}/${name}`, 'utf8')).join('')
    for (const token of tokens) assert.equal(open.includes(token), false)
  }
})

test('state folder: of several starts at the same moment one has it, and the others know', LINUX_ONLY, async t => {
  const { servers } = await rivals(t, 3)
  const outcomes = await Promise.allSettled(servers.map(server => server.listen()))
  const winners = servers.filter((_, index) => outcomes[index]!.status === 'fulfilled')
  t.after(() => Promise.all(winners.map(server => server.close())))
  assert.equal(winners.length, 1)
  assert.ok(outcomes.every(outcome => outcome.status === 'fulfilled' || outcome.reason instanceof AlreadyRunning))
  assert.equal(winners[0]!.reachable, true)
})

test('state folder: one that was removed, and is another supervisor\'s by now, stays its own', LINUX_ONLY, async t => {
  const { folder, servers: [first, second] } = await rivals(t, 2)
  await first!.listen()
  fs.rmSync(folder, { recursive: true })
  fs.mkdirSync(folder)
  await second!.listen()
  t.after(() => second!.close())
  assert.equal(first!.reachable, false)
  await assert.rejects(first!.restore(), AlreadyRunning)
  await first!.close()
  assert.equal(second!.reachable, true)
})
