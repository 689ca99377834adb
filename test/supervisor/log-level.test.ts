import assert from 'node:assert/strict'
import test from 'node:test'
import type { LevelForNow } from '../../src/ipc/messages.ts'
import { LEVEL_MAX_MS, LevelOverride } from '../../supervisor/log-level.ts'
import { FakeClock } from '../support/fake-clock.ts'

function override(): { clock: FakeClock; level: LevelOverride; applied: (LevelForNow | null)[] } {
  const clock = new FakeClock(), applied: (LevelForNow | null)[] = []
  const host = { nowMs: () => clock.exact(), after: (ms: number, run: () => void) => clock.after(ms, run) }
  return { clock, applied, level: new LevelOverride(host, now => { applied.push(now) }) }
}

test('log level: another one holds for its time, and what is configured holds again by itself', () => {
  const { clock, level, applied } = override()
  assert.deepEqual(level.status('info'), { level: 'info', configured: 'info', endsInMs: null })
  level.set('debug', 10_000)
  clock.advance(4000)
  assert.deepEqual(level.status('info'), { level: 'debug', configured: 'info', endsInMs: 6000 })
  assert.deepEqual(level.now, { level: 'debug', forMs: 6000 })
  clock.advance(6000)
  assert.deepEqual(level.status('info'), { level: 'info', configured: 'info', endsInMs: null })
  assert.deepEqual(applied, [{ level: 'debug', forMs: 10_000 }, null])
  assert.equal(clock.pending, 0)
})

test('log level: a second one takes the place of the first, time included, and it can be ended before', () => {
  const { clock, level, applied } = override()
  level.set('debug', 1000)
  level.set('warn', 5000)
  clock.advance(1000)
  assert.equal(level.status('info').level, 'warn')
  level.clear()
  level.clear()
  clock.advance(10_000)
  assert.deepEqual(applied, [{ level: 'debug', forMs: 1000 }, { level: 'warn', forMs: 5000 }, null])
})

test('log level: another image goes on with what is left of the time', () => {
  const first = override()
  first.level.set('debug', 10_000)
  first.clock.advance(3000)
  const record = first.level.record(1_000_000)
  assert.deepEqual(record, { level: 'debug', until: 1_007_000 })
  first.level.end()
  assert.equal(first.clock.pending, 0)
  const second = override()
  second.level.restore(record, 1_002_000)
  assert.deepEqual(second.level.now, { level: 'debug', forMs: 5000 })
  second.clock.advance(5000)
  assert.equal(second.level.now, null)
})

test('log level: what is over, what lasts longer than it may, and what another build or a damaged disk left, changes nothing', () => {
  const { level, applied } = override()
  level.restore({ level: 'debug', until: 999 }, 1000)
  level.restore({ level: 'debug', until: 1001 + LEVEL_MAX_MS }, 1000)
  for (const left of [null, undefined, {}, { level: 'loud', until: 2000 }, { level: 'debug' }, { level: 'debug', until: '2000' }]) {
    level.restore(left as Parameters<LevelOverride['restore']>[0], 1000)
  }
  assert.deepEqual([level.now, applied, level.record(0)], [null, [], null])
})
