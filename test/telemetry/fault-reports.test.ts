import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FaultReport } from '../../src/ipc/fault-report.ts'
import { FaultReports, MAX_FAULTS, MAX_REPORTS_A_PERIOD, REPORT_PERIOD_MS } from '../../src/telemetry/fault-reports.ts'
import { FakeClock } from '../support/fake-clock.ts'

function fixture(): { reports: FaultReports; sent: FaultReport[]; clock: FakeClock; connected: { now: boolean } } {
  const clock = new FakeClock(), sent: FaultReport[] = [], connected = { now: true }
  const reports = new FaultReports(report => {
    if (connected.now) sent.push(report)
    return connected.now
  }, clock)
  return { reports, sent, clock, connected }
}

const words = (message: string) => () => ({ message, stack: '' })

test('fault reports: the first is told at once with its words, the rest once a period with a count', () => {
  const { reports, sent, clock } = fixture()
  for (let index = 0; index < 1_000; index++) reports.report('hook', 'TypeError', 'requestFilter', words(`number ${index}`))
  assert.deepEqual(sent.map(({ message, count, again }) => [message, count, again]), [['number 0', 1, undefined]])
  clock.advance(REPORT_PERIOD_MS)
  assert.deepEqual(sent.slice(1).map(({ message, count, again }) => [message, count, again]), [['', 999, true]])
  clock.advance(3 * REPORT_PERIOD_MS)
  assert.equal(sent.length, 2)
  assert.equal(clock.pending, 0, 'nothing is remembered of what does not happen any more')
})

test('fault reports: words are asked for only when they are told', () => {
  const { reports } = fixture()
  let asked = 0
  for (let index = 0; index < 100; index++) reports.report('request', 'INTERNAL', '', () => { asked++; return { message: '', stack: '' } })
  assert.equal(asked, 1)
})

test('fault reports: what no supervisor heard is told in its words when one is back', () => {
  const { reports, sent, clock, connected } = fixture()
  connected.now = false
  reports.report('hook', 'E', 'a', words('first'))
  reports.report('hook', 'E', 'a', words('second'))
  clock.advance(2 * REPORT_PERIOD_MS)
  assert.deepEqual(sent, [])
  connected.now = true
  clock.advance(2 * REPORT_PERIOD_MS)
  assert.deepEqual(sent.map(({ message, count }) => [message, count]), [['first', 2]])
})

test('fault reports: so many at most in a period, whatever the names are, and none is lost', () => {
  const { reports, sent, clock } = fixture()
  for (let index = 0; index < 500; index++) reports.report('rejection', `E${index}`, '', words('made up'))
  assert.equal(sent.length, MAX_REPORTS_A_PERIOD)
  for (let period = 1; period <= 10; period++) {
    const told: number = sent.length
    clock.advance(REPORT_PERIOD_MS)
    assert.ok(sent.length - told <= MAX_REPORTS_A_PERIOD)
  }
  assert.equal(sent.reduce((sum, { count }) => sum + count, 0), 500)
  assert.ok(new Set(sent.map(({ name }) => name)).size <= MAX_FAULTS + 1)
  assert.ok(sent.every(({ again, message }) => again === true || message === 'made up'))
})

test('fault reports: a name is no longer than it has to be', () => {
  const { reports, sent } = fixture()
  for (let index = 0; index < 3; index++) reports.report('hook', `${'n'.repeat(1_000_000)}${index}`, 'w'.repeat(5_000), words('x'))
  assert.deepEqual(sent.map(({ name, where }) => [name.length, where.length]), [[200, 200]])
})

test('fault reports: the end tells what was held', () => {
  const { reports, sent, clock } = fixture()
  for (let index = 0; index < 5; index++) reports.report('hook', 'E', 'a', words('x'))
  reports.close()
  assert.deepEqual(sent.map(({ count }) => count), [1, 4])
  assert.equal(clock.pending, 0)
})

test('fault reports: however connections come and go, every fault is counted once', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('report' as const), name: fc.integer({ min: 0, max: 40 }) }),
    fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 2_500 }) }), fc.constant({ do: 'toggle' as const }),
  )
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), steps => {
    const { reports, sent, clock, connected } = fixture()
    let made = 0
    for (const one of steps) {
      if (one.do === 'report') { made++; reports.report('hook', `E${one.name}`, '', words('w')) }
      else if (one.do === 'pass') clock.advance(one.ms)
      else connected.now = !connected.now
    }
    connected.now = true
    clock.advance(10 * REPORT_PERIOD_MS)
    assert.equal(sent.reduce((sum, { count }) => sum + count, 0), made)
    assert.equal(clock.pending, 0)
  }), { numRuns: 200 })
})
