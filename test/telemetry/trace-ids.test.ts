import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isSampled, samplingThreshold } from '../../src/telemetry/trace-context.ts'
import { TraceIds } from '../../src/telemetry/trace-ids.ts'

test('trace ids: one is made exactly where the rule of all proxies would record it', () => {
  const ratio = fc.double({ min: 0, max: 1, noNaN: true })
  fc.assert(fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), ratio, (bytes, share) => {
    const ids = new TraceIds(pool => { pool.set(bytes) })
    const threshold = samplingThreshold(share), id = Buffer.from(bytes).toString('hex')
    const wanted = isSampled(id, threshold) && /[^0]/.test(id) ? id : null
    assert.equal(ids.sampledTrace(threshold), wanted)
  }), { numRuns: 2000 })
})

test('trace ids: no id is all zeros, and none comes twice', () => {
  let fills = 0
  const ids = new TraceIds(pool => {
    // The first pool is what no source should give.
    pool.fill(0)
    if (fills++ > 0) for (let at = 0; at < pool.length; at += 4) pool.writeUInt32BE(fills * 10_000 + at, at)
  })
  const seen = new Set<string>()
  for (let count = 0; count < 1500; count++) {
    const id = ids.span()
    assert.match(id, /^[0-9a-f]{16}$/)
    assert.ok(/[^0]/.test(id) && !seen.has(id), id)
    seen.add(id)
  }
  assert.equal(new TraceIds(pool => { pool.fill(0) }).sampledTrace(0), null)
})

test('trace ids: the share that is recorded is the ratio', () => {
  const ids = new TraceIds(), threshold = samplingThreshold(0.25)
  let recorded = 0
  for (let count = 0; count < 20_000; count++) if (ids.sampledTrace(threshold) !== null) recorded++
  // 5000 of them, give or take ten standard deviations of 61.
  assert.ok(recorded > 4390 && recorded < 5610, String(recorded))
})
