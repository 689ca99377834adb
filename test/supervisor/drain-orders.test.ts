import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import type { ResolvedDrainOptions } from '../../src/config/supervisor-options.ts'
import { drainOrder, type DrainTimes } from '../../src/ipc/drain-times.ts'
import { cutOrder, retireOrder, stopOrder } from '../../supervisor/drain-orders.ts'

const { mode: _, ...times } = drainOrder('stop', DRAIN_DEFAULTS)
const TIMES = Object.keys(times) as (keyof DrainTimes)[]

const ms = fc.nat({ max: 3_600_000 })
const options: fc.Arbitrary<ResolvedDrainOptions> = fc
  .record(Object.fromEntries([...TIMES, 'softDrainMs'].map(name => [name, ms])))
  .map(given => ({ ...DRAIN_DEFAULTS, ...given }))

test('drain orders: a worker that retires has every configured time, and is not cut before the last of them', () => {
  fc.assert(fc.property(options, drain => {
    const order = retireOrder(drain)
    for (const name of TIMES) assert.equal(order[name], drain[name])
    assert.ok(order.endAfterMs > drain.hardDrainMs)
    for (const name of ['idleDrainMs', 'webSocketDrainMs', 'tunnelDrainMs'] as const) {
      assert.ok(order.endAfterMs > drain[name] + drain.closeSpreadMs)
    }
  }))
})

test('drain orders: a stop takes no longer than its cap, neither in part nor as a whole, and no longer than configured', () => {
  fc.assert(fc.property(options, ms, (drain, capMs) => {
    const order = stopOrder(drain, capMs)
    assert.deepEqual([order.mode, order.endAfterMs], ['stop', capMs])
    for (const name of TIMES) assert.equal(order[name], Math.min(drain[name], capMs))
  }))
})

test('drain orders: a worker that is cut has no time but for a polite close', () => {
  fc.assert(fc.property(options, drain => {
    const order = cutOrder(drain)
    assert.ok(TIMES.every(name => order[name] === 0))
    assert.ok(order.endAfterMs > 0 && order.endAfterMs <= retireOrder(drain).endAfterMs)
  }))
})
