import assert from 'node:assert/strict'
import test from 'node:test'
import { reconnectDelayMs } from '../../workers/control-client.ts'

test('control client: it looks for a lost supervisor at once, often, and then seldom', () => {
  assert.deepEqual([0, 1, 1_999, 2_000, 9_999, 10_000, 3_600_000].map(reconnectDelayMs), [20, 50, 50, 100, 100, 1_000, 1_000])
})
