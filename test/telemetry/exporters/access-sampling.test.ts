import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProxyError } from '../../../src/errors/proxy-error.ts'
import { AccessSampling, type SampledExchange } from '../../../src/telemetry/exporters/access-sampling.ts'

const ORDINARY: SampledExchange = { status: 200, upstreamStatus: 200, flag: '-', error: null, durationMs: 3 }

test('access sampling: the weights of the lines add up to the requests, in any run of them', () => {
  fc.assert(fc.property(fc.double({ min: 0.001, max: 0.999, noNaN: true }), fc.integer({ min: 0, max: 500 }), (share, before) => {
    const sampling = new AccessSampling(share, 1000)
    for (let passed = 0; passed < before; passed++) sampling.weigh(ORDINARY)
    let lines = 0, weight = 0
    for (let requests = 1; requests <= 2000; requests++) {
      const one = sampling.weigh(ORDINARY)
      if (one !== 0) lines++
      weight += one
      assert.ok(Math.abs(lines - requests * share) <= 4, `${lines} lines of ${requests} requests with a share of ${share}`)
    }
    assert.ok(Math.abs(weight - lines / share) < 0.01 * lines)
  }))
})

test('access sampling: traffic that repeats itself is seen as often as its share, however it repeats', () => {
  for (const period of [2, 3, 5, 8, 10, 13, 21, 60]) {
    const sampling = new AccessSampling(0.1, 1000)
    let seen = 0
    for (let requests = 0; requests < 10_000 * period; requests++) {
      const one = sampling.weigh(ORDINARY)
      if (requests % period === 0 && one !== 0) seen++
    }
    assert.ok(Math.abs(seen - 1000) < 50, `${seen} of 10,000 with a period of ${period}`)
  }
})

test('access sampling: an error, a fault of an origin, a flag and a slow request are always written, and stand for themselves', () => {
  const sampling = new AccessSampling(0, 100)
  const always: readonly Partial<SampledExchange>[] = [
    { status: 500 }, { status: 503 }, { upstreamStatus: 502 }, { flag: 'DC', status: 0 }, { durationMs: 100 },
    { error: new ProxyError('READ_TIMEOUT', 'upstream', 'late') },
  ]
  for (const kind of always) {
    for (let again = 0; again < 50; again++) assert.equal(sampling.weigh({ ...ORDINARY, ...kind }), 1)
  }
  for (const kind of [{}, { status: 404 }, { status: 302 }, { durationMs: 99.9 }]) {
    for (let again = 0; again < 50; again++) assert.equal(sampling.weigh({ ...ORDINARY, ...kind }), 0)
  }
})

test('access sampling: where no request is slow, how long it takes changes nothing', () => {
  const sampling = new AccessSampling(0, 0)
  assert.equal(sampling.weigh({ ...ORDINARY, durationMs: 1e9 }), 0)
})
