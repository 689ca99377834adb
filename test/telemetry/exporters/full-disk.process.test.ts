/** A disk that is full, and has room again: a small one of its own where the test may have one. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { LineSink } from '../../../src/telemetry/exporters/line-sink.ts'
import { waitFor } from '../../support/wait-for.ts'

/** @returns a folder with a file system of that size; null after the test was skipped: only root may mount one */
function smallDisk(t: TestContext, bytes: number): string | null {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cirque-'))
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'cirque-test', folder])
  t.after(() => {
    if (status === 0) spawnSync('umount', ['-l', folder])
    rmdirSync(folder)
  })
  if (status === 0) return folder
  t.skip('no file system can be mounted here')
  return null
}

test('line sink: on a full disk lines wait, then they are dropped and counted; when there is room they go on, each whole', async t => {
  const disk = smallDisk(t, 256 * 1024)
  if (disk === null) return
  const ballast = path.join(disk, 'ballast'), file = path.join(disk, 'access.log')
  const sink = new LineSink({ file }, { maxLogQueueBytes: 128 * 1024, collectMs: 0 })
  let told = 0
  sink.onTrouble = () => { told++ }
  const { bsize, bavail } = statfsSync(disk)
  writeFileSync(ballast, Buffer.alloc((bavail - 4) * bsize))
  let written = 0
  const write = (): boolean => sink.write(`${String(written++).padStart(999)}\n`)
  await waitFor('the disk to be full', () => {
    write()
    return sink.trouble !== ''
  })
  assert.match(sink.trouble, /access\.log: ENOSPC/)
  await waitFor('what waits to be too much', () => !write())
  assert.ok(sink.queued <= 128 * 1024)
  assert.ok(sink.dropped > 0 && told > 0)
  rmSync(ballast)
  await waitFor('what waited to be written', () => sink.queued === 0, { deadlineMs: 15_000, seen: () => sink.trouble })
  assert.equal(sink.trouble, '')
  const { dropped } = sink
  assert.equal(write(), true)
  await sink.close()
  const lines = readFileSync(file, 'latin1').split('\n')
  assert.equal(lines.pop(), '')
  // Every line is whole, none is there twice, and those that are missing are those that were counted.
  assert.ok(lines.every(line => /^ *\d+$/.test(line) && line.length === 999))
  const numbers = lines.map(Number)
  assert.ok(numbers.every((number, at) => at === 0 || number > numbers[at - 1]!))
  assert.equal(written - numbers.length, dropped)
})
