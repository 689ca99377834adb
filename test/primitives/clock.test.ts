import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { systemClock, TICK_MS, Ticker, type Timed } from '../../src/primitives/clock.ts'
import { FakeClock } from '../support/fake-clock.ts'

class Entry implements Timed {
  tickIndex = -1
  ticks = 0
  readonly name: number
  onTicked: () => void = () => {}
  constructor(name: number) { this.name = name }
  onTick(): void {
    this.ticks++
    this.onTicked()
  }
}

test('ticker: the clock runs only while something is registered', () => {
  const clock = new FakeClock(), ticker = new Ticker(clock), entry = new Entry(0)
  assert.equal(clock.pending, 0)
  ticker.add(entry)
  ticker.add(entry)
  assert.deepEqual([ticker.size, clock.pending], [1, 1])
  clock.advance(TICK_MS * 3)
  assert.equal(entry.ticks, 3)
  ticker.remove(entry)
  ticker.remove(entry)
  clock.advance(TICK_MS)
  assert.deepEqual([ticker.size, clock.pending, entry.ticks], [0, 0, 3])
  ticker.add(entry)
  clock.advance(TICK_MS)
  assert.deepEqual([entry.ticks, clock.pending], [4, 1])
})

test('ticker: whatever a walk removes and adds, who is gone is not called, and who stays is', () => {
  const action = fc.record({ by: fc.nat({ max: 11 }), remove: fc.boolean(), at: fc.nat({ max: 15 }) })
  fc.assert(fc.property(fc.integer({ min: 1, max: 12 }), fc.array(action, { maxLength: 20 }), (count, actions) => {
    const clock = new FakeClock(), ticker = new Ticker(clock), entries = Array.from({ length: 16 }, (_, name) => new Entry(name))
    for (const entry of entries.slice(0, count)) ticker.add(entry)
    const before = new Set(entries.slice(0, count)), removed = new Set<Entry>()
    for (const entry of entries) {
      entry.onTicked = () => {
        assert.ok(entry.tickIndex !== -1, `${entry.name} was called after it was removed`)
        for (const { by, remove, at } of actions) {
          if (by !== entry.name || entry.ticks > 1) continue
          const other = entries[at]!
          if (remove) {
            if (other.tickIndex !== -1) removed.add(other)
            ticker.remove(other)
          } else ticker.add(other)
        }
      }
    }
    ticker.tick()
    for (const entry of before) if (!removed.has(entry)) assert.ok(entry.ticks >= 1, `${entry.name} was left out`)
    const registered = ticker.snapshot()
    assert.equal(new Set(registered).size, ticker.size)
    for (const [index, entry] of registered.entries()) assert.equal(entry.tickIndex, index)
    for (const entry of entries) if (!registered.includes(entry)) assert.equal(entry.tickIndex, -1)
  }), { numRuns: 1000 })
})

test('ticker: a snapshot stays as it was taken', () => {
  const ticker = new Ticker(new FakeClock()), entries = [new Entry(0), new Entry(1)]
  for (const entry of entries) ticker.add(entry)
  const taken = ticker.snapshot()
  ticker.remove(entries[0]!)
  assert.deepEqual(taken, entries)
  assert.equal(ticker.size, 1)
})

/** Time passes and no timer has its turn. */
function hold(ms: number): void { for (const until = performance.now() + ms; performance.now() < until;) { /* wait */ } }

test('system clock: what is late by a whole period is caught up with, once, until it is stopped', () => {
  let runs = 0
  const stop = systemClock.every(10, () => { runs++ })
  hold(25)
  systemClock.catchUp()
  assert.equal(runs, 1)
  hold(25)
  systemClock.catchUp()
  assert.equal(runs, 2)
  hold(25)
  stop()
  systemClock.catchUp()
  assert.equal(runs, 2)
})
