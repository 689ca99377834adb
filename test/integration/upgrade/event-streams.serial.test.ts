/**
 * Answers that do not end, server-sent events, while everything behind them is replaced: a stream is a request in flight, so
 * its worker keeps it until `drain.hardDrain`, and then ends it as the origin could have: readers come back for the next event.
 * Where only the way in which the connection ends tells a cut stream from a whole one (HTTP/1.0) it is cut with RST.
 */
import '../../support/no-process-left.ts'
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import type { DrainOptions } from '../../../src/config/supervisor-options.ts'
import { EventOrigin, EventReaders, type EventReader } from '../../support/event-readers.ts'
import { RawClient } from '../../support/raw-client.ts'
import { pidsOf, ReleasedApp } from '../../support/released-app.ts'
import { waitFor } from '../../support/wait-for.ts'

const LINUX_ONLY = { skip: process.platform !== 'linux' }

type Operation = (server: ReleasedApp) => Promise<void>
const OPERATIONS: Readonly<Record<string, Operation>> = {
  async 'a rolling restart'(server) {
    assert.equal((await server.app.ask({ tag: 'restart-workers', worker: '', wait: true }) as { replaced: object[] }).replaced.length, 2)
  },
  async 'an upgrade'(server) {
    const { result, reason } = await server.upgrade(server.root.add('two'))
    assert.deepEqual([result, reason], ['committed', ''])
  },
  async 'a replacement of the supervisor in place'(server) {
    const { result, reason } = await server.upgrade('', 'always')
    assert.deepEqual([result, reason], ['committed', ''])
  },
}

interface World { readonly server: ReleasedApp; readonly origin: EventOrigin; readonly readers: EventReaders }

async function startWorld(t: TestContext, drain: DrainOptions): Promise<World> {
  const origin = await EventOrigin.start(t)
  const server = await ReleasedApp.start(t, { drain: { closeSpreadMs: 0, ...drain } }, { origin: origin.authority })
  return { server, origin, readers: new EventReaders(t, server.port) }
}

/** A connection that has had its answer. */
async function idleConnection(t: TestContext, { port }: ReleasedApp): Promise<RawClient> {
  const client = await RawClient.connect({ host: '127.0.0.1', port })
  t.after(() => client.destroy())
  await client.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n')
  assert.equal((await client.readResponse()).status, 200)
  return client
}

/** Who serves now, as events say it. */
async function serving(server: ReleasedApp): Promise<string[]> {
  return pidsOf(await server.status()).map(pid => `${server.root.current} ${pid}`)
}

/** By pid, the last time at which each of the workers that serve now was known not to drain. Resolves when all of them do. */
async function lastBeforeDrain(server: ReleasedApp): Promise<ReadonlyMap<number, number>> {
  const waiting = new Set(pidsOf(await server.status())), lastMs = new Map<number, number>()
  await waitFor('the old workers to drain', async () => {
    const askedMs = performance.now()
    const { slots } = await server.status()
    const serve = slots.flatMap(({ worker, previous }) => [worker?.pid, previous?.pid])
    for (const pid of waiting) {
      if (serve.includes(pid)) lastMs.set(pid, askedMs)
      else waiting.delete(pid)
    }
    return waiting.size === 0
  }, { deadlineMs: 30_000 })
  return lastMs
}

/** How those streams end that their worker ended, of each kind of reader. */
const ENDS = ['plain whole', 'behind whole', 'old ECONNRESET', 'quiet whole']

function endsOf(readers: readonly EventReader[]): string[] {
  return [...new Set(readers.flatMap(({ kind, visits }) => visits.slice(0, -1).map(({ end }) => `${kind} ${end}`)))]
}

function visitsOf(readers: readonly EventReader[]): number[] { return [...new Set(readers.map(({ visits }) => visits.length))] }

test('event streams: replacements of all kinds leave every stream with its worker, without a gap or a duplicate', LINUX_ONLY, async t => {
  const { server, origin, readers } = await startWorld(t, { idleDrainMs: 100, maxDrainingGenerations: 10 })
  for (const [operation, operate] of Object.entries(OPERATIONS)) {
    const added = await readers.add(2), names = await serving(server)
    assert.deepEqual([operation, added.filter(({ visit }) => !names.includes(visit.by))], [operation, []])
    const idle = await Promise.all(Array.from({ length: 4 }, () => idleConnection(t, server)))
    await operate(server)
    // What is idle goes. A stream without an event for as long is not idle.
    for (const client of idle) assert.ok(await client.closes(20_000), operation)
    await readers.goOn()
    assert.deepEqual([operation, readers.faults, visitsOf(readers.all)], [operation, [], [1]])
  }
  const quiet = readers.all.filter(({ kind }) => kind === 'quiet')
  origin.speak()
  await waitFor('an event of each quiet stream', () => quiet.every(({ last }) => last === 2), { seen: () => quiet.map(({ last }) => last) })
  for (const reader of readers.all) reader.leave(false)
  origin.finish()
  await waitFor('the end of all streams', () => readers.all.every(({ visit }) => visit.end !== ''))
  assert.deepEqual([readers.faults, [...new Set(readers.all.map(({ visit }) => visit.end))]], [[], ['whole']])
  t.diagnostic(`load: ${readers.events} attempted, 0 lost`)
  // The old workers were waiting for their streams alone.
  await server.settled()
})

for (const operation of ['a rolling restart', 'an upgrade']) {
  test(`event streams: ${operation} cuts them at drain.hardDrain, no sooner, and they go on at a new worker`, LINUX_ONLY, async t => {
    const hardDrainMs = 700
    const { server, readers } = await startWorld(t, { idleDrainMs: 0, hardDrainMs })
    const before = await readers.add(6)
    const [lastMs] = await Promise.all([lastBeforeDrain(server), OPERATIONS[operation]!(server)])
    const names = await serving(server)
    const idle = await idleConnection(t, server)
    // Slot after slot: who comes back early may meet an old worker that is not replaced yet.
    await waitFor('every reader to be at a new worker', () => before.every(({ visit }) => names.includes(visit.by)), {
      deadlineMs: 20_000, seen: () => [readers.faults, before.map(({ kind, visits }) => [kind, visits])],
    })
    const cuts = before.flatMap(({ visits }) => visits.slice(0, -1))
    assert.ok(cuts.length >= before.length)
    assert.deepEqual(endsOf(before), ENDS)
    const lasted = cuts.map(({ by, endedAtMs }) => endedAtMs - lastMs.get(Number(by.split(' ')[1]))!)
    assert.deepEqual(lasted.filter(ms => !(ms >= hardDrainMs)), [])
    await server.settled()
    const visits = before.map(reader => reader.visits.length)
    await readers.goOn()
    assert.deepEqual([readers.faults, before.map(reader => reader.visits.length), idle.ended], [[], visits, false])
    t.diagnostic(`load: ${readers.events} attempted, 0 lost`)
  })
}

test('event streams: past drain.maxDrainingGenerations those of the oldest worker are cut, and no others', LINUX_ONLY, async t => {
  const { server, readers } = await startWorld(t, { maxDrainingGenerations: 1 })
  const oldest = await readers.add(2)
  await OPERATIONS['a rolling restart']!(server)
  const older = await readers.add(2)
  await readers.goOn()
  assert.deepEqual([visitsOf(oldest), visitsOf(older)], [[1], [1]])
  await OPERATIONS['an upgrade']!(server)
  const names = await serving(server)
  await waitFor('readers of the oldest to be back', () => oldest.every(({ visits }) => visits.length > 1), {
    deadlineMs: 20_000, seen: () => [readers.faults, oldest.map(({ visits }) => visits)],
  })
  await readers.goOn()
  assert.deepEqual([readers.faults, visitsOf(oldest), visitsOf(older)], [[], [2], [1]])
  assert.deepEqual(endsOf(oldest), ENDS)
  assert.deepEqual(oldest.filter(({ visit }) => !names.includes(visit.by)), [])
  t.diagnostic(`load: ${readers.events} attempted, 0 lost`)
})
