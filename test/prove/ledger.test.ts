import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AnswerGap } from '../../src/prove/answer-gap.ts'
import { LatencyHistogram } from '../../src/prove/latency-histogram.ts'
import { Ledger, type Loss, type Stage } from '../../src/prove/ledger.ts'
import { OpenLoop } from '../../src/prove/open-loop.ts'
import { isExplained } from '../../src/prove/proof.ts'
import { FakeClock } from '../support/fake-clock.ts'

function fixture(): { clock: FakeClock; stage: Stage; ledger: Ledger } {
  const clock = new FakeClock()
  const stage: Stage = { phase: 'before' }
  return { clock, stage, ledger: new Ledger('fresh connections', clock, stage, 1000) }
}

test('ledger: an attempt ends once, and attempts are the sum of outcomes and what is open', () => {
  const { clock, ledger } = fixture()
  const attempts = [ledger.begin(clock.exact()), ledger.begin(clock.exact()), ledger.begin(clock.exact()), ledger.begin(clock.exact())]
  assert.equal(attempts[0]!.end('ok'), true)
  assert.equal(attempts[0]!.end('reset'), false)
  attempts[1]!.end('refused', 'ECONNREFUSED dialling')
  attempts[2]!.end('closed')
  const report = ledger.report(0)
  assert.deepEqual(
    [report.attempted, report.outcomes.ok, report.outcomes.refused, report.outcomes.reset, report.outcomes.closed, ledger.open],
    [4, 1, 1, 0, 1, 1],
  )
  assert.deepEqual(ledger.losses.map(({ fault, detail }) => [fault, detail]), [['refused', 'ECONNREFUSED dialling']])
})

test('ledger: latency counts from when it was due and in that phase; a loss belongs to the phase in which it was seen', () => {
  const { clock, stage, ledger } = fixture()
  const dueAtMs = clock.exact() - 50
  const first = ledger.begin(dueAtMs)
  const second = ledger.begin(dueAtMs)
  stage.phase = 'during'
  clock.advance(50)
  first.end('ok')
  second.end('truncated')
  const { p99Ms } = ledger.report(0)
  assert.ok(Math.abs(p99Ms.before! - 100) < 3, String(p99Ms.before))
  assert.equal(p99Ms.during, null)
  assert.equal(ledger.losses[0]!.phase, 'during')
})

test('ledger: progress moves the deadline of an attempt', () => {
  const { clock, ledger } = fixture()
  const attempt = ledger.begin(clock.exact())
  const first = attempt.deadlineMs
  clock.advance(600)
  ledger.progress(attempt)
  assert.equal(attempt.deadlineMs, first + 600)
})

test('latency histogram: percentiles are right within 2 percent', () => {
  const histogram = new LatencyHistogram()
  assert.equal(histogram.percentile(0.5), null)
  for (let ms = 1; ms <= 1000; ms++) histogram.add(ms)
  for (const [share, expected] of [[0.5, 500], [0.99, 990], [1, 1000], [0.001, 1]] as const) {
    const seen = histogram.percentile(share)!
    assert.ok(seen >= expected * 0.999 && seen <= expected * 1.021, `${share}: ${seen}`)
  }
  histogram.add(0)
  histogram.add(1e9)
  assert.ok(histogram.percentile(1)! > 60_000)
})

test('answer gap: counts from the first try to the next answer, through failures, and not while nobody tries', () => {
  const clock = new FakeClock()
  const stage: Stage = { phase: 'before' }
  const gap = new AnswerGap(clock, stage)
  gap.tried()
  clock.advance(5)
  gap.answered()
  clock.advance(1000)
  assert.deepEqual(gap.longestMs, { before: 5, during: null, after: null })
  stage.phase = 'during'
  gap.tried()
  clock.advance(10)
  gap.failed()
  clock.advance(30)
  gap.tried()
  clock.advance(2)
  gap.answered()
  assert.equal(gap.longestMs.during, 42)
  gap.tried()
  gap.tried()
  clock.advance(7)
  gap.answered()
  clock.advance(50)
  stage.phase = 'after'
  gap.finish()
  assert.deepEqual(gap.longestMs, { before: 5, during: 42, after: 50 })
})

test('open loop: arrivals keep to the schedule however late the timer is', () => {
  const clock = new FakeClock()
  const startMs = clock.exact()
  const due: number[] = []
  const loop = new OpenLoop(clock, 100, at => due.push(at - startMs))
  loop.start()
  clock.advance(35)
  assert.deepEqual(due, [0, 10, 20, 30])
  clock.advance(965)
  assert.equal(due.length, 101)
  loop.stop()
  clock.advance(1000)
  assert.equal(due.length, 101)
  assert.equal(clock.pending, 0)
})

test('open loop: a late timer makes several due at once, each with its own time; a stop in between is obeyed', () => {
  const clock = new FakeClock()
  let now = clock.exact()
  const startMs = now
  let fire: () => void = () => {}
  const late = {
    now: () => now, exact: () => now, wall: () => now, every: () => () => {},
    after: (_: number, run: () => void) => { fire = run; return () => { fire = () => {} } },
    random: () => 0.5,
  }
  const due: number[] = []
  const loop = new OpenLoop(late, 100, at => { due.push(at - startMs); if (due.length === 6) loop.stop() })
  loop.start()
  now += 45
  fire()
  assert.deepEqual(due, [0, 10, 20, 30, 40])
  now += 45
  fire()
  assert.deepEqual(due, [0, 10, 20, 30, 40, 50])
})

test('a kill explains cut connections that were there before the process was gone, and nothing else', () => {
  const kill = { atMs: 1000, goneAtMs: 1010 }
  const usual: Loss = { population: 'keep-alive', fault: 'reset', phase: 'during', atMs: 1020, connectedAtMs: 900, detail: '' }
  const loss = (over: Partial<Loss>): Loss => ({ ...usual, ...over })
  assert.equal(isExplained(loss({}), kill, 20), true)
  assert.equal(isExplained(loss({ fault: 'truncated' }), kill, 20), true)
  assert.equal(isExplained(loss({ connectedAtMs: 1011 }), kill, 20), false)
  assert.equal(isExplained(loss({ connectedAtMs: null, fault: 'refused' }), kill, 20), false)
  assert.equal(isExplained(loss({ fault: 'timedOut' }), kill, 20), false)
  assert.equal(isExplained(loss({ fault: 'wrong' }), kill, 20), false)
  assert.equal(isExplained(loss({ atMs: 999 }), kill, 20), false)
  assert.equal(isExplained(loss({ atMs: 5000 }), kill, 20), false)
  assert.equal(isExplained(loss({ atMs: 5000, population: 'slow download', fault: 'truncated' }), kill, 20), true)
})
