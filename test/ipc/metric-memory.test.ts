import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  countsOf, LOST_SLOT, METRIC_MEMORY_BYTES, MetricMemory, MetricReader, slotsOf, writeExemplar, type MetricFamily,
} from '../../src/ipc/metric-memory.ts'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const COUNTER: MetricFamily = { name: 'a_total', kind: 'counter', help: 'h', labels: ['x'], bounds: [] }
const HISTOGRAM: MetricFamily = { name: 'h', kind: 'histogram', help: 'h', labels: [], bounds: [1, 2, 3] }

function readerOf(memory: MetricMemory): MetricReader {
  return new MetricReader((into, from) => into.set(memory.bytes.subarray(from, from + into.length)))
}

test('metric memory: a reader sees what was counted at any moment, whatever was added in between', () => {
  const step = fc.oneof(
    fc.record({ what: fc.constant('family'), histogram: fc.boolean() }),
    fc.record({ what: fc.constant('series'), family: fc.nat(5), label: fc.string() }),
    fc.record({ what: fc.constant('count'), series: fc.nat(20), by: fc.integer({ min: 1, max: 1000 }) }),
    fc.record({ what: fc.constant('read') }),
    fc.record({ what: fc.constant('move') }),
  )
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    const memory = new MetricMemory()
    const reader = readerOf(memory)
    const families: MetricFamily[] = []
    const series: { family: MetricFamily; label: string[]; first: number; values: number[] }[] = []
    const compare = (): void => {
      const seen = reader.series().map(({ family, labelValues, values }) => ({ family, label: [...labelValues], values: [...values] }))
      assert.deepEqual(seen, series.map(({ first: _, ...rest }) => rest))
    }
    for (const one of steps) {
      if (one.what === 'family') {
        const family = { ...'histogram' in one && one.histogram ? HISTOGRAM : COUNTER, name: `m${families.length}` }
        assert.equal(memory.addFamily(family), families.length)
        families.push(family)
      } else if (one.what === 'series' && 'label' in one && families[one.family] !== undefined) {
        const family = families[one.family]!
        const label = family.labels.map(() => one.label)
        const first = memory.addSeries(one.family, slotsOf(family), label)
        assert.notEqual(first, LOST_SLOT)
        series.push({ family, label, first, values: Array.from({ length: slotsOf(family) }, () => 0) })
      } else if (one.what === 'count' && 'by' in one && series[one.series] !== undefined) {
        const { first, values } = series[one.series]!
        memory.slots[first]! += one.by
        values[0]! += one.by
      } else if (one.what === 'move') {
        memory.moveTo(new ArrayBuffer(METRIC_MEMORY_BYTES))
      } else compare()
    }
    compare()
  }))
})

test('metric memory: the last exemplar of a series is read whole or not at all, and a reader that knows of none reads the counts', () => {
  const family: MetricFamily = { ...HISTOGRAM, exemplars: true }
  const traceIds = fc.stringMatching(/^[0-9a-f]{32}$/)
  const value = fc.double({ min: 0, max: 1e6, noNaN: true })
  const one = fc.record({ value, at: fc.nat(2 ** 31 - 1), traceId: traceIds }, { noNullPrototype: true })
  fc.assert(fc.property(fc.array(one, { minLength: 1, maxLength: 5 }), fc.nat(7), (all, torn) => {
    const memory = new MetricMemory()
    const first = memory.addSeries(memory.addFamily(family), slotsOf(family), []), at = first + countsOf(family)
    const other = memory.addSeries(0, slotsOf(family), [])
    assert.equal(other, first + slotsOf(family))
    const [empty] = readerOf(memory).series()
    assert.deepEqual([empty!.values.length, 'exemplar' in empty!], [HISTOGRAM.bounds.length + 2, false])
    for (const { value, at: seconds, traceId } of all) writeExemplar(memory.slots, at, value, seconds, traceId)
    assert.deepEqual(readerOf(memory).series()[0]!.exemplar, all.at(-1))
    // The next one has been written as far as the slot `torn`, from the end on.
    const whole = memory.slots.slice(at, at + 8)
    writeExemplar(memory.slots, at, 7, 7, 'f'.repeat(32))
    memory.slots.set(whole.subarray(0, torn), at)
    assert.deepEqual(readerOf(memory).series()[0]!.exemplar, torn === 0 ? { value: 7, at: 7, traceId: 'f'.repeat(32) } : undefined)
    assert.equal(readerOf(memory).series()[1]!.exemplar, undefined)
  }))
})

test('metric memory: when it is full, further series are lost and those that are there go on', () => {
  const memory = new MetricMemory()
  const family = memory.addFamily(COUNTER)
  let first = LOST_SLOT, count = 0
  for (;;) {
    const slot = memory.addSeries(family, 1, [`value ${count}`])
    if (slot === LOST_SLOT) break
    if (count++ === 0) first = slot
  }
  assert.ok(count > 3000, String(count))
  assert.equal(memory.addFamily({ ...COUNTER, help: 'x'.repeat(200) }), -1)
  assert.equal(memory.addSeries(-1, 1, []), LOST_SLOT)
  memory.slots[first]! += 1
  memory.slots[LOST_SLOT]! += 1
  const read = readerOf(memory).series()
  assert.equal(read.length, count)
  assert.equal(read[0]!.values[0], 1)
})

test('metric memory: what is no memory of metrics is refused, and an empty file is one without metrics', () => {
  const readerOver = (bytes: Uint8Array): MetricReader => {
    return new MetricReader((into, from) => into.set(bytes.subarray(from, from + into.length)))
  }
  assert.deepEqual(readerOver(new Uint8Array(METRIC_MEMORY_BYTES)).series(), [])
  assert.throws(() => readerOver(new Uint8Array(METRIC_MEMORY_BYTES).fill(1)).series(), /holds no metrics/)
  const memory = new MetricMemory()
  memory.addFamily(COUNTER)
  const { bytes } = memory
  new Int32Array(bytes.buffer)[1] = METRIC_MEMORY_BYTES
  assert.throws(() => readerOver(bytes).series(), /damaged/)
  assert.throws(() => new MetricMemory(new ArrayBuffer(8)), /8 bytes are no memory/)
})

test('metric memory: a mapped file holds at once what is counted', async t => {
  const systemCalls = await loadSystemCalls()
  if (!systemCalls.available) { t.skip(`system calls: ${systemCalls.reason}`); return }
  const file = path.join(temporaryFolder(t), 'metrics')
  fs.writeFileSync(file, new Uint8Array(METRIC_MEMORY_BYTES))
  const fd = fs.openSync(file, 'r+')
  const memory = new MetricMemory()
  const before = memory.addSeries(memory.addFamily(COUNTER), 1, ['early'])
  memory.slots[before]! += 1
  memory.moveTo(systemCalls.calls.mapFile(fd, METRIC_MEMORY_BYTES))
  fs.closeSync(fd)
  memory.slots[before]! += 41
  const seen = new MetricReader((into, from) => into.set(fs.readFileSync(file).subarray(from, from + into.length))).series()
  assert.deepEqual(seen.map(({ labelValues, values }) => [...labelValues, ...values]), [['early', 42]])
  assert.throws(() => systemCalls.calls.mapFile(-1, METRIC_MEMORY_BYTES), /EBADF/)
})
