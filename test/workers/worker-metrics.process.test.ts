import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { METRIC_MEMORY_BYTES, MetricReader } from '../../src/ipc/metric-memory.ts'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import { SILENT_LOG } from '../../src/ipc/process-log.ts'
import { loadSystemCalls } from '../../src/ipc/system-calls.ts'
import { WorkerMetrics } from '../../workers/worker-metrics.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('worker metrics: a file that a supervisor of another build made shorter is made long enough before it is mapped', async t => {
  const systemCalls = await loadSystemCalls()
  if (!systemCalls.available) { t.skip(`system calls: ${systemCalls.reason}`); return }
  const file = path.join(temporaryFolder(t), '1.0.0')
  fs.writeFileSync(file, new Uint8Array(300 * 1024))
  const worker = WorkerMetrics.open(file, 0, systemCalls.calls, SILENT_LOG)
  assert.ok(worker !== null)
  assert.equal(fs.statSync(file).size, METRIC_MEMORY_BYTES)
  worker.beat({ ...NO_COUNTS, connections: 7 }, { loopLagMs: 1, utilization: 0, rssBytes: 1 }, [])
  const series = new MetricReader((into, from) => into.set(fs.readFileSync(file).subarray(from, from + into.length))).series()
  assert.deepEqual([...series.find(({ family }) => family.name === 'cirque_connections')!.values], [7])
})
