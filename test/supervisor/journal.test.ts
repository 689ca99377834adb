import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import fc from 'fast-check'
import { NOTHING_DONE } from '../../src/ipc/open-counts.ts'
import { Journal, JOURNAL_FORMAT, livingWorkers } from '../../supervisor/journal.ts'
import type { JournalEntry } from '../../supervisor/journal.ts'
import { processStartTime } from '../../supervisor/process-host.ts'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { WorkerProcess, type WorkerRecord } from '../../supervisor/worker-process.ts'
import type { SlotRecord } from '../../supervisor/worker-slot.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

const BROKEN = (error: unknown): never => assert.fail(String(error))

function entry(generation: number): JournalEntry {
  const worker = (slot: number, pid: number, startTime: string): WorkerRecord & { place: 'current' } => ({
    generation: 1,
    slot,
    n: 0,
    token: 't',
    pid,
    startTime,
    phase: 'accepting',
    startedAt: 0,
    acceptingSince: 0,
    drainingSince: null,
    drainEndsAt: null,
    intent: 'serve',
    slotsHeld: 2,
    exchanges: 0,
    ownFaults: 0,
    place: 'current',
  })
  const slot = (record: ReturnType<typeof worker>): SlotRecord => ({
    hasQueue: true,
    surplus: false,
    restarts: 0,
    nextN: 1,
    standIn: '',
    workers: [record],
  })
  return {
    format: JOURNAL_FORMAT,
    pid: 1,
    startTime: '1',
    application: '/a',
    args: [],
    origin: { file: '', folder: '/', flags: {} },
    options: resolveSupervisorOptions({}),
    fingerprint: '',
    usualNode: '/node',
    startedAt: 0,
    generation,
    slots: 3,
    listeners: [],
    sockets: { control: -1, worker: -1, admin: -1 },
    upgrades: null,
    fleet: {
      committed: 1, generations: [], buried: NOTHING_DONE,
      // The second is the same pid, but another process.
      slots: [slot(worker(0, process.pid, processStartTime(process.pid))), slot(worker(1, process.pid, '1')), slot(worker(2, 0, ''))],
    },
  }
}

test('journal: what is written last is read, privately, and an orderly end leaves none', async t => {
  const file = path.join(temporaryFolder(t), 'journal.json')
  const journal = new Journal(file, BROKEN)
  assert.equal(journal.read(), null)
  journal.write(() => entry(1))
  journal.write(() => entry(2))
  await waitFor('the journal', () => journal.read() !== null)
  assert.equal(journal.read()!.generation, 2)
  assert.equal(fs.statSync(file).mode & 0o777, 0o600)
  journal.write(() => entry(3))
  journal.remove()
  await new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })
  assert.equal(fs.existsSync(file), false)
})

test('journal: one that cannot be written is said once until it can again, and ends nobody', t => {
  const folder = path.join(temporaryFolder(t), 'state')
  const troubles: string[] = []
  const journal = new Journal(path.join(folder, 'journal.json'), error => troubles.push((error as NodeJS.ErrnoException).code!))
  const written = (): boolean => {
    journal.write(() => entry(1))
    return journal.flush()
  }
  assert.deepEqual([written(), written(), troubles], [false, false, ['ENOENT']])
  fs.mkdirSync(folder)
  assert.deepEqual([written(), troubles.length], [true, 1])
  fs.rmSync(folder, { recursive: true })
  assert.deepEqual([written(), troubles.length], [false, 2])
})

test('journal: half a file and another format count as nothing', t => {
  const file = path.join(temporaryFolder(t), 'journal.json')
  const journal = new Journal(file, BROKEN)
  assert.deepEqual([journal.read(), journal.problem], [null, ''])
  fs.writeFileSync(file, '{"format":1,"work')
  assert.deepEqual([journal.read(), journal.problem], [null, 'it is no JSON'])
  fs.writeFileSync(file, '{"format":99,"workers":[]}')
  assert.deepEqual([journal.read(), journal.problem], [null, 'it is of another format'])
})

test('journal: one that lacks what a start needs is not used, and says what that is', t => {
  const file = path.join(temporaryFolder(t), 'journal.json')
  const journal = new Journal(file, BROKEN)
  const read = (spoil: (entry: ReturnType<typeof plain>) => void): string => {
    const spoilt = plain()
    spoil(spoilt)
    fs.writeFileSync(file, JSON.stringify(spoilt))
    assert.equal(journal.read(), null)
    return journal.problem
  }
  type Plain = { listeners?: unknown; fleet: { slots: { workers: Record<string, unknown>[] }[] } }
  const plain = (): Plain => JSON.parse(JSON.stringify(entry(1))) as Plain
  const noToken = 'journal.fleet.slots[0].workers[0].token is no filled text'
  assert.equal(read(({ fleet }) => { delete fleet.slots[0]!.workers[0]!['token'] }), noToken)
  assert.equal(read(({ fleet }) => { fleet.slots[0]!.workers[0]!['token'] = '' }), noToken)
  assert.match(read(({ fleet }) => { fleet.slots[0]!.workers[0]!['pid'] = '1; rm' }), /workers\[0\]\.pid is no whole number/)
  assert.match(read(spoilt => { spoilt.listeners = [null] }), /^journal\.listeners\[0\] is no section/)
})

test('journal: whatever is taken out of one, reading it throws nothing, and what is read can be adopted from', t => {
  const file = path.join(temporaryFolder(t), 'journal.json')
  const journal = new Journal(file, BROKEN)
  const paths = pathsOf(entry(1))
  fc.assert(fc.property(fc.constantFrom(...paths), fc.constantFrom(undefined, null, 0, -1, 'x', [], {}), (keys, value) => {
    type Tree = Record<string, unknown>
    const spoilt = JSON.parse(JSON.stringify(entry(1))) as Tree
    const [last, ...before] = keys.toReversed()
    const holder = before.toReversed().reduce<Tree>((at, key) => at[key] as Tree, spoilt)
    holder[last!] = value
    fs.writeFileSync(file, JSON.stringify(spoilt))
    const readable = journal.read()
    if (readable !== null) livingWorkers(readable)
    for (const slot of readable?.fleet?.slots ?? []) for (const worker of slot.workers) WorkerProcess.restore(worker, 0, 0)
  }), { numRuns: 300 })
})

/** Where every value of a tree stands. */
function pathsOf(tree: unknown, at: readonly string[] = []): string[][] {
  if (typeof tree !== 'object' || tree === null) return []
  return Object.entries(tree).flatMap(([key, value]) => [[...at, key], ...pathsOf(value, [...at, key])])
}

test('journal: a worker lives when its pid was started when the journal says', { skip: process.platform !== 'linux' }, () => {
  assert.deepEqual(livingWorkers(entry(1)).map(worker => worker.slot), [0])
})
