/** Replacements of workers and of the supervisor while clients of every kind look on: nobody may notice. */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import test from 'node:test'
import { descriptorsOf, parentOf, pidsOf, ReleasedApp, zombiesOf } from '../../support/released-app.ts'
import { isAlive } from '../../support/supervised-app.ts'
import { RawClient } from '../../support/raw-client.ts'
import { UpgradeLoad } from '../../support/upgrade-load.ts'
import { waitFor } from '../../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }

test('upgrade: ten rolling replacements of all kinds lose nothing', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t)
  const load = await UpgradeLoad.start(t, server)
  const seen = new Set(pidsOf(await server.status()))
  for (let round = 0; round < 10; round++) {
    const before = pidsOf(await server.status())
    if (round % 3 === 0) assert.equal(
      (await server.app.ask({ tag: 'restart-workers', worker: '', wait: true }) as { replaced: object[] }).replaced.length,
      2,
    )
    else assert.equal((await (round % 3 === 1 ? server.operate({ tag: 'reload' }) : server.upgrade())).result, 'committed')
    const after = pidsOf(await server.status())
    assert.deepEqual(after.filter(pid => before.includes(pid)), [])
    for (const pid of after) seen.add(pid)
  }
  await load.goesOn()
  const { answeredBy } = await load.losesNothing()
  for (const name of Object.keys(answeredBy)) assert.ok(seen.has(Number(/^one (\d+)$/.exec(name)?.[1])), `answered by ${name}`)
  const left = pidsOf(await server.settled())
  assert.deepEqual([...seen].filter(isAlive).sort(), [...left].sort())
})

test('upgrade: five replacements of the supervisor in place lose nothing, and leave nothing behind', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { drain: { webSocketDrainMs: 200 } })
  const load = await UpgradeLoad.start(t, server)
  const open: number[] = []
  for (let round = 0; round < 5; round++) {
    const outcome = await server.upgrade('', 'always')
    assert.deepEqual([outcome.result, outcome.supervisorReplaced, outcome.reason], ['committed', true, ''])
    const status = await server.status()
    assert.equal(status.pid, server.pid)
    assert.deepEqual(pidsOf(status).map(parentOf), [server.pid, server.pid])
    assert.match(fs.readFileSync(`/proc/${server.pid}/cmdline`, 'latin1'), /supervisor\/boot\.ts/)
    await load.goesOn()
    // What the old workers' end leaves is gone with them.
    await server.settled()
    await waitFor('the dead to be waited for', () => zombiesOf(server.pid).length === 0, { seen: () => zombiesOf(server.pid) })
    open.push(descriptorsOf(server.pid).size)
  }
  await load.losesNothing()
  t.diagnostic(`descriptors of the supervisor: ${open.join(' ')}`)
  assert.ok(Math.max(...open.slice(1)) <= open[1]! + 1, `descriptors of the supervisor: ${open.join(' ')}`)
})

test('upgrade: from four workers to two and back loses nothing', LINUX_ONLY, async t => {
  const server = await ReleasedApp.start(t, { workers: 4, drain: { webSocketDrainMs: 200 } })
  const load = await UpgradeLoad.start(t, server)
  for (const workers of [2, 4]) {
    server.configure({ workers })
    const { result, reason } = await server.operate({ tag: 'reload' })
    assert.deepEqual([result, reason], ['committed', ''])
    await load.goesOn()
    const status = await server.settled(workers)
    const standIns = status.slots.map(({ standIn }) => standIn !== null)
    assert.deepEqual(standIns, [false, false, workers === 2, workers === 2])
  }
  await load.losesNothing()
})

test('upgrade: a long answer with bytes of the next request behind it arrives whole', LINUX_ONLY, async t => {
  const bytes = 10 * 1024 * 1024
  const expected = createHash('sha256')
  const piece = Buffer.alloc(65_536, 'cirque ')
  for (let sent = 0; sent < bytes; sent += piece.length) expected.update(piece)
  const server = await ReleasedApp.start(t, { drain: { idleDrainMs: 0 } })
  const client = await RawClient.connect({ host: '127.0.0.1', port: server.port })
  t.after(() => client.destroy())
  await client.write(
    `GET /download?bytes=${bytes} HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\nX-Padding: ${'x'.repeat(2_000)}\r\n\r\n`,
  )
  const answer = client.readResponse({ deadlineMs: 30_000 })
  await waitFor('the beginning', () => client.unread.length > 100_000)
  client.pause()
  assert.equal((await server.upgrade()).result, 'committed')
  const [old] = (await server.status()).slots.flatMap(slot => slot.draining.filter(worker => worker.open.activeExchanges > 0))
  assert.ok(old !== undefined, 'the answer is still under way')
  // More of what nobody will read.
  await client.write(`GET / HTTP/1.1\r\nHost: test\r\n\r\n`)
  client.resume()
  const { complete, body } = await answer
  assert.deepEqual([complete, body.length], [true, bytes])
  assert.equal(createHash('sha256').update(body).digest('hex'), expected.digest('hex'))
  client.end()
  await server.settled()
})
