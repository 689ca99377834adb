import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MetricMemory } from '../../src/ipc/metric-memory.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { Metrics, type Histogram } from '../../src/telemetry/metrics.ts'
import { MetricLedger } from '../../supervisor/metric-ledger.ts'
import { MemoryMetricDisk } from '../support/memory-metric-disk.ts'

const OWNER = { uid: null, gid: null }

/** A worker that counts in its file. */
function workerOf(disk: MemoryMetricDisk, file: string): Metrics {
  return new Metrics(new MetricMemory(disk.files.get(file) as ArrayBuffer))
}

function totalOf(ledger: MetricLedger, name: string, ...labels: string[]): number {
  return ledger.totals().totals.get(name)?.series.get(labels.join('\0'))?.values[0] ?? 0
}

test('metric ledger: what a worker counted stays when it is gone, and its gauges go', () => {
  const disk = new MemoryMetricDisk()
  const ledger = new MetricLedger('/state', disk, SILENT_LOG)
  ledger.begin(new Set())
  const first = workerOf(disk, ledger.create('1.0.0', OWNER)), second = workerOf(disk, ledger.create('1.1.0', OWNER))
  for (const worker of [first, second]) {
    worker.counter({ name: 'orders_total', help: 'h', labels: ['tenant'] }).labels('acme').inc(3)
    worker.gauge({ name: 'open_orders', help: 'h' }).set(5)
    worker.gauge({ name: 'oldest_seconds', help: 'h', over: 'greatest' }).set(worker === first ? 7 : 4)
    worker.gauge({ name: 'least_up', help: 'h', over: 'least' }).set(worker === first ? 0 : 1)
    worker.gauge({ name: 'said_by_one', help: 'h', over: 'least' }).set(worker === first ? Number.NaN : 3)
    worker.histogram({ name: 'sizes', help: 'h', bounds: [1, 2] }).observe(1.5)
  }
  const seen = (): unknown => [
    totalOf(ledger, 'orders_total', 'acme'), totalOf(ledger, 'open_orders'), totalOf(ledger, 'oldest_seconds'),
    totalOf(ledger, 'least_up'), totalOf(ledger, 'said_by_one'),
    [...ledger.totals().totals.get('sizes')!.series.get('')!.values],
  ]
  assert.deepEqual(seen(), [6, 10, 7, 0, 3, [0, 2, 0, 3]])
  ledger.fold('1.0.0')
  assert.deepEqual(seen(), [6, 5, 4, 1, 3, [0, 2, 0, 3]])
  assert.equal(ledger.fileOf('1.0.0'), '')
  second.gauge({ name: 'said_by_one', help: 'h', over: 'least' }).set(Number.NaN)
  assert.equal(ledger.totals().totals.has('said_by_one'), false)
  second.gauge({ name: 'said_by_one', help: 'h', over: 'least' }).set(3)
  ledger.fold('1.0.0')
  assert.deepEqual(seen(), [6, 5, 4, 1, 3, [0, 2, 0, 3]])
})

test('metric ledger: a supervisor that is killed at any step loses nothing of workers and counts nothing twice', () => {
  const step = fc.constantFrom('create', 'fold', 'count')
  fc.assert(fc.property(fc.array(fc.tuple(step, fc.option(fc.nat(4))), { maxLength: 12 }), script => {
    const disk = new MemoryMetricDisk()
    const living = new Map<string, Metrics>()
    let counted = 0, number = 0
    const start = (): MetricLedger => {
      disk.stepsToLive = Infinity
      const next = new MetricLedger('/state', disk, SILENT_LOG)
      next.begin(new Set(living.keys()))
      return next
    }
    let ledger = start()
    for (const [what, killedAfter] of script) {
      const deaths = totalOf(ledger, 'cirque_worker_restarts_total', 'signal')
      disk.stepsToLive = killedAfter ?? Infinity
      if (what === 'create') {
        const id = `1.0.${number++}`
        ledger.create(id, OWNER)
        // The fork comes behind it.
        if (!disk.killed) living.set(id, workerOf(disk, ledger.fileOf(id)))
      } else if (what === 'fold') {
        const [id = ''] = living.keys()
        living.delete(id)
        ledger.fold(id)
      } else {
        ledger.count('cirque_worker_restarts_total', ['signal'])
      }
      if (disk.killed) ledger = start()
      disk.stepsToLive = Infinity
      for (const metrics of living.values()) {
        metrics.counter({ name: 'orders_total', help: 'h' }).inc()
        counted++
      }
      assert.equal(totalOf(ledger, 'orders_total'), counted)
      const now = totalOf(ledger, 'cirque_worker_restarts_total', 'signal')
      assert.ok(now === deaths || (what === 'count' && now === deaths + 1))
    }
    assert.equal(totalOf(start(), 'orders_total'), counted)
  }))
})

test('metric ledger: sums of fractions never go back, in whatever order workers go', () => {
  const amounts = fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 1, maxLength: 8 })
  const workers = fc.array(amounts, { minLength: 2, maxLength: 5 })
  fc.assert(fc.property(workers, fc.infiniteStream(fc.nat(9)), (all, chance) => {
    const disk = new MemoryMetricDisk()
    const ledger = new MetricLedger('/state', disk, SILENT_LOG)
    ledger.begin(new Set())
    const ids = all.map((_, index) => `1.${index}.0`)
    let counted = 0
    for (const [index, id] of ids.entries()) {
      const worker = workerOf(disk, ledger.create(id, OWNER))
      for (const amount of all[index]!) {
        worker.counter({ name: 'seconds_total', help: 'h' }).inc(amount)
        worker.histogram({ name: 'waits_seconds', help: 'h', bounds: [1] }).observe(amount)
        counted += amount
      }
    }
    const sums = (): number[] => [totalOf(ledger, 'seconds_total'), ledger.totals().totals.get('waits_seconds')!.series.get('')!.values[2]!]
    const before = sums()
    assert.ok(before.every(sum => sum <= counted && sum > counted - 1e-5), `${before.join()} of ${counted}`)
    let pick = 0
    for (const living = [...ids]; living.length > 0;) {
      pick = (pick + chance.next().value) % living.length
      ledger.fold(living.splice(pick, 1)[0]!)
      assert.deepEqual(sums(), before)
    }
    const next = new MetricLedger('/state', disk, SILENT_LOG)
    next.begin(new Set())
    assert.equal(totalOf(next, 'seconds_total'), before[0])
  }))
})

test('metric ledger: of exemplars of several workers the last one is shown, and none of a worker that is gone', () => {
  const disk = new MemoryMetricDisk()
  const ledger = new MetricLedger('/state', disk, SILENT_LOG)
  ledger.begin(new Set())
  const definition = { name: 'waits_seconds', help: 'h', labels: ['a'], bounds: [1], exemplars: true }
  const ids = ['1.0.0', '1.1.0']
  const [first, second] = ids.map(id => workerOf(disk, ledger.create(id, OWNER)).add('histogram', definition).labels('x') as Histogram)
  const last = (): unknown => ledger.totals().totals.get('waits_seconds')!.series.get('x')!.exemplar
  const values = (): number[] => [...ledger.totals().totals.get('waits_seconds')!.series.get('x')!.values]
  assert.equal(last(), undefined)
  const traceIds = ['a'.repeat(32), 'b'.repeat(32)]
  second!.observe(0.5)
  second!.exemplify(0.5, traceIds[1]!, 200)
  first!.observe(2)
  first!.exemplify(2, traceIds[0]!, 100)
  assert.deepEqual(last(), { value: 0.5, at: 200, traceId: traceIds[1] })
  assert.deepEqual(values(), [1, 1, 2.5])
  ledger.fold(ids[1]!)
  assert.deepEqual(last(), { value: 2, at: 100, traceId: traceIds[0] })
  ledger.fold(ids[0]!)
  assert.equal(last(), undefined)
  assert.deepEqual(values(), [1, 1, 2.5])
})

test('metric ledger: a full disk costs metrics, is said once, and is over when there is room', () => {
  const said: string[] = []
  const log = { ...SILENT_LOG, error: (message: string) => { said.push(message) } }
  const disk = new MemoryMetricDisk()
  const ledger = new MetricLedger('/state', disk, log)
  ledger.begin(new Set())
  disk.full = true
  assert.deepEqual([ledger.create('1.0.0', OWNER), ledger.create('1.1.0', OWNER)], ['', ''])
  assert.equal(said.length, 1)
  disk.full = false
  assert.equal(ledger.create('1.0.1', OWNER), '/state/metrics/1.0.1')
  disk.full = true
  ledger.count('cirque_worker_restarts_total', ['signal'])
  assert.equal(said.length, 2)
  assert.equal(totalOf(ledger, 'cirque_worker_restarts_total', 'signal'), 1)
})

test('metric ledger: a file that cannot be read is a worker that is missing, and nothing else', () => {
  const disk = new MemoryMetricDisk()
  const ledger = new MetricLedger('/state', disk, SILENT_LOG)
  ledger.begin(new Set())
  const good = workerOf(disk, ledger.create('1.0.0', OWNER))
  good.counter({ name: 'orders_total', help: 'h' }).inc(2)
  const bad = ledger.create('1.1.0', OWNER)
  new Uint8Array(disk.files.get(bad) as ArrayBuffer).fill(0xff)
  assert.equal(ledger.totals().missing, 1)
  assert.equal(totalOf(ledger, 'orders_total'), 2)
  ledger.remove()
  assert.deepEqual([...disk.files.keys()], [])
})

test('metric ledger: a build that gives a metric other labels begins it anew', () => {
  const disk = new MemoryMetricDisk()
  const ledger = new MetricLedger('/state', disk, SILENT_LOG)
  ledger.begin(new Set())
  workerOf(disk, ledger.create('1.0.0', OWNER)).counter({ name: 'orders_total', help: 'h' }).inc(2)
  ledger.fold('1.0.0')
  workerOf(disk, ledger.create('2.0.0', OWNER)).counter({ name: 'orders_total', help: 'h', labels: ['tenant'] }).labels('acme').inc()
  const { family, series } = ledger.totals().totals.get('orders_total')!
  assert.deepEqual(family.labels, ['tenant'])
  assert.deepEqual([...series.keys()], ['acme'])
})
