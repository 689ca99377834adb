import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WORKLOADS } from '../../scripts/bench/workloads.ts'
import { parseWrk, wrkScript } from '../../scripts/bench/wrk.ts'

test('bench wrk: the result is read from our own line, between what wrk prints for people', () => {
  const output = 'Running 1s test @ http://127.0.0.1:1/80\n  1 threads and 64 connections\n' +
    'CIRQUE-BENCH {"requests":1200,"bytes":360000,"micros":1000500,"socketErrors":3,"badStatus":1,"p50":500,"p99":2100,"max":9000}\n'
  assert.deepEqual(parseWrk(output), {
    requests: 1200, bytes: 360_000, seconds: 1.0005, socketErrors: 3, badStatus: 1, p50Micros: 500, p99Micros: 2100, maxMicros: 9000,
  })
})

test('bench wrk: output without a result is an error that shows it', () => {
  assert.throws(() => parseWrk('unable to connect\n'), /unable to connect/)
})

test('bench wrk: the script builds no request while it runs', () => {
  for (const workload of WORKLOADS) {
    const script = wrkScript(workload)
    assert.doesNotMatch(script, /request\s*=\s*function/, workload.name)
    assert.equal(script.includes('POST'), workload.uploadBytes > 0, workload.name)
  }
})
