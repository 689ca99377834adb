/**
 * Listeners on Unix paths while everything behind them is replaced: one socket that all workers share, whose file stays
 * the same one as long as the listener does. The clients never repeat a request.
 */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { pidsOf, ReleasedApp } from '../../support/released-app.ts'
import { SteadyLoad } from '../../support/steady-load.ts'
import { get } from '../../support/supervised-app.ts'
import { waitFor } from '../../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }
const LISTEN = 'unix:FOLDER/app.sock?mode=600'
/** What tells one file from the next at the same path, and who may dial it. */
interface SocketFile { readonly ino: number; readonly mode: number }

const OPERATIONS: Readonly<Record<string, (server: ReleasedApp) => Promise<void>>> = {
  'a rolling restart': async server => { await server.app.ask({ tag: 'restart-workers', worker: '', wait: true }) },
  'a reload': server => isCommitted(server, { tag: 'reload' }),
  'an upgrade': server => isCommitted(server, { tag: 'upgrade', folder: server.root.add('two'), supervisor: 'if-changed' }),
  'a replacement of the supervisor in place': server => isCommitted(server, { tag: 'upgrade', folder: '', supervisor: 'always' }),
  'a roll-back': server => isCommitted(server, { tag: 'rollback' }),
  'a supervisor that adopts the workers of a killed one': async server => {
    await server.kill()
    await (await server.startAgain()).line('adopted the workers of a supervisor that was killed')
  },
}

async function isCommitted(server: ReleasedApp, message: Parameters<ReleasedApp['operate']>[0]): Promise<void> {
  const { result, reason } = await server.operate(message)
  assert.deepEqual([result, reason], ['committed', ''], server.app.stderr)
}

function socketFile(file: string): SocketFile {
  const { ino, mode } = fs.statSync(file)
  return { ino, mode: mode & 0o777 }
}

/** Resolves when a good deal more has been answered, each process of `pids` having answered too. */
async function goesOn(load: SteadyLoad, pids: readonly number[]): Promise<void> {
  const { ledger } = load
  const before = ledger.ok
  const heardOf = (): boolean => pids.every(pid => Object.keys(ledger.bodies).some(body => body.endsWith(` ${pid}`)))
  const enough = (): boolean => ledger.ok > before + 100 && heardOf()
  await waitFor('more answers, from all workers', enough, { deadlineMs: 20_000, seen: () => [ledger, pids] })
}

test('unix sockets: replacements of all kinds lose nothing, and the file of the listener stays', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { drain: { idleDrainMs: 1_000 } }, { listen: [LISTEN] })
  const to = path.join(server.root.folder, 'app.sock')
  const file = socketFile(to)
  assert.equal(file.mode, 0o600)
  const load = new SteadyLoad({ to, fresh: 4, keepAlive: 4, pauseMs: 3 })
  t.after(() => load.stop())
  await goesOn(load, pidsOf(await server.status()))
  for (const [operation, operate] of Object.entries(OPERATIONS)) {
    const before = pidsOf(await server.status())
    await operate(server)
    const after = pidsOf(await server.status())
    const adopts = operation.includes('adopts')
    assert.deepEqual(after.filter(pid => before.includes(pid)), adopts ? before : [], operation)
    await goesOn(load, after)
    assert.deepEqual([operation, load.ledger.lost], [operation, []])
    assert.deepEqual(socketFile(to), file, operation)
  }
  const { ok, lost } = await load.stop()
  t.diagnostic(`${ok} answers`)
  assert.deepEqual(lost, [])
  await server.settled()
  server.app.signal('SIGTERM')
  assert.deepEqual(await server.app.end(20_000), { code: 0, signal: null })
  assert.equal(fs.existsSync(to), false)
})

test('unix sockets: a listener goes and comes by a reload, answers whoever reached it, and takes its file along', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, {}, { listen: [LISTEN, 'unix:FOLDER/other.sock'] })
  const [stays, goes] = ['app.sock', 'other.sock'].map(name => path.join(server.root.folder, name)) as [string, string]
  const file = socketFile(stays)
  const load = new SteadyLoad({ to: stays, fresh: 2, keepAlive: 2, pauseMs: 3 })
  t.after(() => load.stop())
  const diallers = Array.from({ length: 8 }, async () => {
    const answers: string[] = []
    for (let answer = await get(goes); ; answer = await get(goes)) {
      if (answer === 'ENOENT') return answers
      answers.push(answer)
    }
  })
  await goesOn(load, pidsOf(await server.status()))
  server.root.listenOn(`unix:${stays}?mode=600`)
  await isCommitted(server, { tag: 'reload' })
  // Whoever is told that it is done finds it done.
  assert.equal(fs.existsSync(goes), false)
  const answers = (await Promise.all(diallers)).flat()
  assert.ok(answers.length > 0)
  assert.deepEqual([...new Set(answers)].filter(answer => !/^one \d+$/.test(answer)), [])

  server.root.listenOn(`unix:${stays}?mode=600`, `unix:${goes}?mode=660`)
  await isCommitted(server, { tag: 'upgrade', folder: '', supervisor: 'always' })
  assert.equal(socketFile(goes).mode, 0o660)
  assert.match(await get(goes), /^one \d+$/)
  await goesOn(load, pidsOf(await server.status()))
  assert.deepEqual([(await load.stop()).lost, socketFile(stays)], [[], file])
})
