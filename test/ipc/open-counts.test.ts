import assert from 'node:assert/strict'
import test from 'node:test'
import { NO_COUNTS, sumCounts } from '../../src/ipc/open-counts.ts'

test('open counts: parts are summed, of ages the greatest counts, and what a part does not count is 0', () => {
  const one = { ...NO_COUNTS, connections: 2, webSockets: 1, oldestUpgradedMs: 70, exchanges: 5 }
  const other = { connections: 3, oldestUpgradedMs: 40, ownFaults: 1 }
  const sum = { ...NO_COUNTS, connections: 5, webSockets: 1, oldestUpgradedMs: 70, exchanges: 5, ownFaults: 1 }
  assert.deepEqual(sumCounts([one, other]), sum)
  assert.deepEqual(sumCounts([]), NO_COUNTS)
})

test('open counts: a sum changes none of its parts', () => {
  sumCounts([NO_COUNTS, { connections: 1 }])
  assert.ok(Object.values(NO_COUNTS).every(count => count === 0))
})
