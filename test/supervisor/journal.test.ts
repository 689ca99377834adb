import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { Journal, JOURNAL_FORMAT, livingWorkers } from '../../supervisor/journal.ts'
import type { JournalEntry } from '../../supervisor/journal.ts'
import { processStartTime } from '../../supervisor/process-host.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'
import { waitFor } from '../support/wait-for.ts'

function entry(generation: number): JournalEntry {
  return { format: JOURNAL_FORMAT, pid: 1, startTime: '1', application: '/a', generation, workers: [
    { id: '1.0.0', pid: process.pid, startTime: processStartTime(process.pid), slot: 0, token: 't' },
    // The same pid, but another process.
    { id: '1.1.0', pid: process.pid, startTime: '1', slot: 1, token: 't' },
    { id: '1.2.0', pid: 0, startTime: '', slot: 2, token: 't' },
  ] }
}

test('journal: what is written last is read, privately, and an orderly end leaves none', async t => {
  const file = path.join(temporaryFolder(t), 'journal.json')
  const journal = new Journal(file)
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

test('journal: half a file and another format count as nothing', t => {
  const file = path.join(temporaryFolder(t), 'journal.json')
  fs.writeFileSync(file, '{"format":1,"work')
  assert.equal(new Journal(file).read(), null)
  fs.writeFileSync(file, '{"format":99,"workers":[]}')
  assert.equal(new Journal(file).read(), null)
})

test('journal: a worker lives when its pid was started when the journal says', { skip: process.platform !== 'linux' }, () => {
  assert.deepEqual(livingWorkers(entry(1)).map(worker => worker.id), ['1.0.0'])
})
