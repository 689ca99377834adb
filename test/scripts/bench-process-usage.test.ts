import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseKiloBytes, parseMemory, parseStat, treeOf, type ProcessStat } from '../../scripts/bench/process-usage.ts'

function stat(pid: number, parentPid: number, state = 'S'): ProcessStat {
  return { pid, parentPid, state, userTicks: 0, systemTicks: 0, startTicks: 1 }
}

test('bench process usage: a process name with blanks and parentheses does not shift the fields', () => {
  const line = '4711 (a) b (c) S 12 4711 4711 0 -1 4194560 1 0 0 0 250 75 3 4 20 0 7 0 98765 1000 200 18446744073709551615\n'
  assert.deepEqual(parseStat(line), { pid: 4711, parentPid: 12, state: 'S', userTicks: 250, systemTicks: 75, startTicks: 98_765 })
})

test('bench process usage: a line that is cut off is no process', () => {
  assert.equal(parseStat(''), null)
  assert.equal(parseStat('12 (node'), null)
  assert.equal(parseStat('12 (node) S 1 2'), null)
})

test('bench process usage: the tree has children of children, and nobody else', () => {
  const all = [stat(1, 0), stat(10, 1), stat(30, 20), stat(20, 10), stat(11, 1), stat(21, 10, 'Z')]
  assert.deepEqual(treeOf(10, all).map((one) => one.pid), [10, 20, 30])
  assert.deepEqual(treeOf(99, all), [])
})

test('bench process usage: memory is read in kB, and absence is told', () => {
  const rollup = 'Rss:                1764 kB\nPss:                 375 kB\nPss_Dirty:           100 kB\n'
  assert.equal(parseKiloBytes(rollup, 'Pss'), 375)
  assert.equal(parseKiloBytes(rollup, 'VmRSS'), null)
})

test('bench process usage: memory of its own is what no file stands behind, however many run the same program', () => {
  const status = 'Name:\tnode\nVmRSS:     9000 kB\n'
  const alone = 'Pss:  8000 kB\nPss_Anon:  3000 kB\nPss_File:  4900 kB\nPss_Shmem:  100 kB\n'
  const beside = 'Pss:  5550 kB\nPss_Anon:  3000 kB\nPss_File:  2450 kB\nPss_Shmem:  100 kB\n'
  assert.deepEqual(parseMemory(alone, status), { totalKiloBytes: 8000, ownKiloBytes: 3100 })
  assert.equal(parseMemory(beside, status).ownKiloBytes, 3100)
  assert.deepEqual(parseMemory('', status), { totalKiloBytes: 9000, ownKiloBytes: 9000 })
  assert.deepEqual(parseMemory('', ''), { totalKiloBytes: 0, ownKiloBytes: 0 })
})
