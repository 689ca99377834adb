import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backend } from '../../src/load-balancing/backend.ts'
import { PassiveHealth } from '../../src/load-balancing/passive-health.ts'
import { Turn } from '../../src/load-balancing/selection.ts'
import { FakeClock } from '../support/fake-clock.ts'

// How it looks from outside, through selections and reports, is in load-balancer.test.ts.

function backend(port: number): Backend {
  const name = `10.0.0.1:${port}`
  const address = { kind: 'tcp', host: '10.0.0.1', port } as const
  return new Backend({ name, origin: name, address, hostName: '', weight: 1, ext: null, enabled: true })
}

function turnAt(clock: FakeClock): Turn {
  const turn = new Turn()
  turn.begin(256, null, null)
  turn.nowMs = clock.exact()
  return turn
}

function passive(maxFails: number): { health: PassiveHealth; clock: FakeClock } {
  const clock = new FakeClock()
  return { health: new PassiveHealth({ maxFails, failTimeoutMs: 1000, clock }), clock }
}

test('passive health: those that are out are tried in the order in which they failed last, each when its time has come', () => {
  const { health, clock } = passive(1)
  const [a, b] = [backend(1), backend(2)]
  assert.equal(health.failed(a), true)
  clock.advance(400)
  assert.equal(health.failed(b), true)
  clock.advance(100)
  assert.equal(health.failed(a), true, 'once more: now it is behind b')
  clock.advance(899)
  assert.equal(health.dueForTrial(turnAt(clock)), null)
  clock.advance(1)
  assert.equal(health.dueForTrial(turnAt(clock)), b)
  health.beginTrial(b)
  assert.equal(b.onTrial, true)
  assert.equal(health.dueForTrial(turnAt(clock)), null, 'b is on trial, and a is not due')
  clock.advance(100)
  assert.equal(health.dueForTrial(turnAt(clock)), a)
})

test('passive health: a look for one to try leaves the turn its steps when it finds none', () => {
  const { health, clock } = passive(1)
  const out = backend(1)
  health.failed(out)
  clock.advance(1000)
  const turn = turnAt(clock)
  turn.begin(256, [out], null)
  turn.nowMs = clock.exact()
  const { stepsLeft } = turn
  assert.equal(health.dueForTrial(turn), null)
  assert.equal(turn.stepsLeft, stepsLeft)
})

test('passive health: failures count within the time only, and forgetting wipes them', () => {
  const { health, clock } = passive(3)
  const one = backend(1)
  assert.equal(health.failed(one), false)
  clock.advance(1001)
  assert.deepEqual([health.failed(one), health.failed(one)], [false, false])
  health.forget(one)
  assert.deepEqual([health.failed(one), health.failed(one), health.failed(one)], [false, false, true])
  assert.equal(health.size, 1)
})

test('passive health: all that are out may be forgotten while they are walked', () => {
  const { health, clock } = passive(1)
  for (let port = 1; port <= 5; port++) health.failed(backend(port))
  for (const one of health.out) health.forget(one)
  assert.equal(health.size, 0)
  clock.advance(1000)
  assert.equal(health.dueForTrial(turnAt(clock)), null)
})

test('passive health: what is disabled or unhealthy is not put out, nor anything with maxFails 0', () => {
  const { health } = passive(1)
  const [disabled, unhealthy] = [backend(1), backend(2)]
  disabled.enabled = false
  unhealthy.healthy = false
  assert.deepEqual([health.failed(disabled), health.failed(unhealthy)], [false, false])
  assert.equal(passive(0).health.failed(backend(3)), false)
  assert.equal(health.size, 0)
})
