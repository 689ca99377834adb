import assert from 'node:assert/strict'
import test from 'node:test'
import { RESTART_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { lastRestartDelayMs, restartDelayMs, startFailed } from '../../supervisor/restart-policy.ts'
import type { WorkerLife } from '../../supervisor/restart-policy.ts'

const short: WorkerLife = { acceptingSinceMs: 0, diedAtMs: 1_000 }
const long: WorkerLife = { acceptingSinceMs: 0, diedAtMs: 60_000 }
const stillborn: WorkerLife = { acceptingSinceMs: null, diedAtMs: 90_000 }

test('restart policy: deaths in a row double the wait up to the cap', () => {
  const waits = [1, 2, 3, 9, 10, 40].map(deaths => restartDelayMs(Array.from({ length: deaths }, () => short), RESTART_DEFAULTS, 0.5))
  assert.deepEqual(waits, [100, 200, 400, 25_600, 30_000, 30_000])
})

test('restart policy: jitter moves the wait by a fifth at most', () => {
  assert.equal(restartDelayMs([short], RESTART_DEFAULTS, 0), 80)
  assert.equal(restartDelayMs([short], RESTART_DEFAULTS, 1), 120)
})

test('restart policy: a worker that accepted for a minute has forgotten what was before', () => {
  assert.equal(restartDelayMs([short, short, long], RESTART_DEFAULTS, 0.5), 100)
  assert.equal(restartDelayMs([short, short, { acceptingSinceMs: 0, diedAtMs: 59_999 }], RESTART_DEFAULTS, 0.5), 400)
})

test('restart policy: time before it accepted does not count as life', () => {
  assert.equal(restartDelayMs([stillborn, stillborn], RESTART_DEFAULTS, 0.5), 200)
})

test('restart policy: nobody is left who serves: no wait after a first death or a second of service, a short one otherwise', () => {
  const soon: WorkerLife = { acceptingSinceMs: 0, diedAtMs: 999 }
  const waits = [[], [stillborn], [stillborn, stillborn], [stillborn, soon], [stillborn, stillborn, short]]
    .map(history => lastRestartDelayMs(history, RESTART_DEFAULTS))
  assert.deepEqual(waits, [0, 0, 200, 200, 0])
})

test('restart policy: a first start is hopeless after three deaths', () => {
  assert.deepEqual([1, 2, 3].map(deaths => startFailed(deaths, RESTART_DEFAULTS)), [false, false, true])
})
