import assert from 'node:assert/strict'
import { test } from 'node:test'
import { growthOf, judgeSoak, SOAK_TITLES, soakCells, type Held, type Sample } from '../../scripts/soak/verdict.ts'

const HELD: Held = { supervisorDescriptors: 40, supervisorMB: 50, workerDescriptors: 100, workerMB: 120 }

function sample(at: number, change: Partial<Sample> = {}): Sample {
  return {
    seconds: at * 15, replaced: HELD, steady: HELD, generations: 3, attempted: at * 100, lost: 0, aborts: at * 10, hung: 0,
    operations: at, operationsFailed: 0, ...change,
  }
}

function run(change: (at: number) => Partial<Sample>): Sample[] {
  return Array.from({ length: 40 }, (_, at) => sample(at + 1, change(at)))
}

function failures(samples: readonly Sample[]): string[] {
  const { passed, lines } = judgeSoak(samples, [])
  const failed = lines.filter((line) => line.startsWith('FAIL '))
  assert.equal(passed, failed.length === 0)
  return failed
}

test('soak verdict: a run that is flat and loses nothing passes', () => {
  assert.deepEqual(failures(run(() => ({}))), [])
})

test('soak verdict: what grows is named, whoever holds it', () => {
  const kinds: [(at: number) => Partial<Sample>, RegExp][] = [
    [(at) => ({ replaced: { ...HELD, supervisorDescriptors: 40 + at * 2 } }), /growing: descriptors of the supervisor, 60 early, 104 late/],
    [(at) => ({ replaced: { ...HELD, supervisorMB: 50 + at } }), /growing: memory of the supervisor/],
    [(at) => ({ steady: { ...HELD, workerDescriptors: 100 + at * 4 } }), /growing: descriptors of workers that stay/],
    [(at) => ({ steady: { ...HELD, workerMB: 120 + at * 2 } }), /growing: memory of workers that stay/],
    [(at) => ({ steady: { ...HELD, supervisorMB: 50 + at } }), /growing: memory of a supervisor that stays/],
  ]
  for (const [change, message] of kinds) {
    const found = failures(run(change))
    assert.equal(found.length, 1, found.join('; '))
    assert.match(found[0] ?? '', message)
  }
})

test('soak verdict: what rises and is given back, and what fills up at the start, is flat', () => {
  assert.deepEqual(failures(run((at) => ({ steady: { ...HELD, workerMB: 120 + (at % 8) * 20 } }))), [])
  assert.deepEqual(failures(run((at) => ({ steady: { ...HELD, workerDescriptors: at < 6 ? 20 + at * 30 : 200 } }))), [])
  // Those that are replaced hold a generation more or less.
  assert.deepEqual(failures(run((at) => ({ replaced: { ...HELD, workerMB: 120 + at * 10 } }))), [])
})

test('soak verdict: one lost request, one exchange that hangs, one refused upgrade, one generation too many are failures', () => {
  const last = (change: Partial<Sample>): Sample[] => run((at) => (at === 39 ? change : {}))
  assert.match(failures(last({ lost: 1 })).join(), /lost 1 of 4000 requests/)
  assert.match(failures(last({ hung: 1 })).join(), /1 exchanges did not end/)
  assert.match(failures(last({ operationsFailed: 1 })).join(), /1 of 40 reloads and upgrades did not commit/)
  assert.match(failures(last({ generations: 6 })).join(), /6 generations alive/)
  assert.match(failures(last({ attempted: 0 })).join(), /0 requests/)
})

test('soak verdict: too few samples say nothing of growth, and none say nothing at all', () => {
  assert.equal(growthOf(run(() => ({})).slice(0, 8)), null)
  const { passed, lines } = judgeSoak([sample(1)], ['replaced: keep-alive, reset after 1.0 s'])
  assert.equal(passed, true)
  assert.match(lines.join('\n'), /SKIP flat or not: 1 samples are too few to tell/)
  assert.match(lines.join('\n'), /^ {5}replaced: keep-alive, reset/m)
  assert.equal(judgeSoak([], []).passed, false)
})

test('soak table: every line has a cell for each title', () => {
  assert.equal(soakCells(sample(4)).length, SOAK_TITLES.length)
})
