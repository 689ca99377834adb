import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { figuresOf, percentileMs, SampleWindow, type Figures } from '../../supervisor/figures.ts'
import type { Sample } from '../../supervisor/sample.ts'
import { BOUNDS, LISTENER, SAMPLE, slotOf, twoSamples, UPSTREAM, workerOf } from '../support/samples.ts'

const LATER: Sample = { ...SAMPLE, takenAtMs: SAMPLE.takenAtMs + 2_000 }

function between(before: Partial<Sample>, after: Partial<Sample>): Figures {
  return figuresOf({ ...SAMPLE, ...before }, { ...LATER, ...after })!
}

/** Numbers in it without what floating point adds. */
function rounded(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_, one: unknown) => typeof one === 'number' ? Number(one.toPrecision(9)) : one)
}

test('figures: a listener has rates, shares and what fails, of the time between the two samples', () => {
  const before = { ...LISTENER, requests: [['2xx', '-', 1000], ['5xx', 'UC', 7]] as const, bytesOut: 100, durations: [900, 107] }
  const after = {
    ...LISTENER, requests: [['2xx', '-', 1080], ['5xx', 'UC', 16], ['4xx', '-', 6], ['none', 'DC', 3]] as const,
    refused: [['PE', 2]] as const, bytesOut: 4_100, durations: [980, 107, 20],
  }
  const { listeners: [one], all } = between({ listeners: [before] }, { listeners: [after, { ...LISTENER, name: 'idle' }] })
  const { failing, p50Ms, p90Ms, p99Ms, ...rest } = one!
  assert.deepEqual(rest, {
    name: LISTENER.name, address: LISTENER.address, perSecond: 50, share4xx: 0.06, share5xx: 0.09,
    bytesInPerSecond: 0, bytesOutPerSecond: 2_000,
  })
  assert.deepEqual(failing, [
    { code: '5xx', flag: 'UC', perSecond: 4.5, share: 0.09 }, { code: '4xx', flag: '-', perSecond: 3, share: 0.06 },
    { code: 'none', flag: 'DC', perSecond: 1.5, share: 0.03 }, { code: 'head', flag: 'PE', perSecond: 1, share: 0.02 },
  ])
  assert.deepEqual(rounded([p50Ms, p90Ms, p99Ms]), [0.625, 55, 95.5])
  assert.deepEqual({ name: LISTENER.name, address: LISTENER.address, ...all }, one)
})

test('figures: an upstream has errors by kind, its own 5xx apart, and times of connecting and of the first byte', () => {
  const before = { ...UPSTREAM, attempts: 100, errors: [['READ_TIMEOUT', 5]] as const, reused: 90, fresh: 5, retries: 5, firstBytes: [95] }
  const after = {
    ...UPSTREAM, attempts: 200, errors: [['READ_TIMEOUT', 9], ['CONNECT_REFUSED', 10]] as const, faults: 20, retries: 15,
    reused: 171, fresh: 14, connectTimes: [10], firstBytes: [95, 0, 0, 0, 0, 80],
  }
  const quiet = { ...UPSTREAM, name: 'quiet', attempts: 3 }
  const { upstreams: [one, other], reuseShare } = between({ upstreams: [quiet, before] }, { upstreams: [quiet, after] })
  assert.deepEqual(rounded(one), {
    name: UPSTREAM.name, perSecond: 50, errorShare: 0.14, faultShare: 0.2, errors: [['CONNECT_REFUSED', 5], ['READ_TIMEOUT', 2]],
    retriesPerSecond: 5, reuseShare: 0.9, connect: { p50Ms: 0.5, p90Ms: 0.9, p99Ms: 0.99 },
    // As JSON has Infinity: it is longer than the last bound.
    firstByte: { p50Ms: null, p90Ms: null, p99Ms: null },
  })
  assert.equal(one!.firstByte.p50Ms, Infinity)
  const { name, perSecond, errorShare, reuseShare: itsReuse, connect } = other!
  assert.deepEqual([name, perSecond, errorShare, itsReuse, connect.p50Ms], ['quiet', 0, null, null, null])
  assert.equal(reuseShare, 0.9)
})

test('figures: what begins anew counts from nothing, and so does a listener, an upstream or a worker that is new', () => {
  const { listeners: [again, fresh], workers, limits } = between(
    { listeners: [{ ...LISTENER, requests: [['2xx', '-', 1000]], durations: [500, 500] }], limits: [['rate', 50]], slots: [slotOf(0)] },
    {
      listeners: [
        { ...LISTENER, requests: [['2xx', '-', 10]], durations: [10] },
        { ...LISTENER, name: 'new', requests: [['2xx', '-', 4]], durations: [0, 0, 4] },
      ],
      limits: [['rate', 50], ['body', 8]],
      slots: [slotOf(0, [workerOf(0, 'current', { requests: 1020 }), workerOf(0, 'incoming', { id: '8.0.0', requests: 6 })])],
    },
  )
  assert.deepEqual(rounded([again!.perSecond, again!.p50Ms, fresh!.perSecond, fresh!.p50Ms]), [5, 0.5, 2, 55])
  assert.deepEqual([...workers], [['7.0.0', 10], ['8.0.0', 3]])
  assert.deepEqual(limits, [{ name: 'body', perSecond: 4, total: 8 }, { name: 'rate', perSecond: 0, total: 50 }])
})

test('figures: another build measures in other buckets, and its counts are taken as they are', () => {
  const one = { ...LISTENER, durations: [1, 2, 3] }
  const { listeners: [listener] } = between({ listeners: [one], bounds: [1, 2, 3] }, { listeners: [{ ...LISTENER, durations: [5, 5, 5] }] })
  assert.equal(listener!.p50Ms, percentileMs(BOUNDS, [5, 5, 5], 0.5))
})

test('figures: samples that do not belong together have none', () => {
  assert.equal(figuresOf(SAMPLE, SAMPLE), null)
  assert.equal(figuresOf(LATER, SAMPLE), null)
  assert.equal(figuresOf(SAMPLE, { ...LATER, startedAtMs: 1 }), null)
})

test('figures: whatever comes, rates are not negative, shares are 0 to 1, and a percentile is not below a lower one', () => {
  fc.assert(fc.property(twoSamples, ([before, after]) => {
    const figures = figuresOf(before, after)
    assert.ok(figures !== null)
    for (const { perSecond, share4xx, share5xx, failing, p50Ms, p90Ms, p99Ms } of [figures.all, ...figures.listeners]) {
      assert.ok(perSecond >= 0)
      const shares = [share4xx, share5xx, ...failing.map(one => one.share)]
      assert.ok(shares.every(share => share === null || (share >= 0 && share <= 1 + 1e-9)))
      assert.ok(p50Ms === null || (p50Ms <= p90Ms! * (1 + 1e-9) && p90Ms! <= p99Ms! * (1 + 1e-9)), `${p50Ms} ${p90Ms} ${p99Ms}`)
    }
    assert.ok(figures.upstreams.every(({ perSecond }, index) => perSecond <= (figures.upstreams[index - 1]?.perSecond ?? Infinity)))
    assert.ok([...figures.workers.values()].every(perSecond => perSecond >= 0))
    assert.equal(figures.listeners.length, after.listeners.length)
  }))
})

test('percentile: it lies in the bucket of the value that has its rank', () => {
  const values = fc.array(fc.double({ min: 0.000_01, max: 20, noNaN: true }), { minLength: 1, maxLength: 200 })
  fc.assert(fc.property(values, fc.constantFrom(0.5, 0.9, 0.99), (measured, share) => {
    const counts = Array.from({ length: BOUNDS.length + 1 }, () => 0)
    const bucketOf = (value: number): number => BOUNDS.filter(bound => value > bound).length
    for (const value of measured) counts[bucketOf(value)]!++
    const exact = measured.toSorted((one, other) => one - other)[Math.ceil(share * measured.length) - 1]!
    const found = percentileMs(BOUNDS, counts, share)!
    const bucket = bucketOf(exact)
    if (bucket === BOUNDS.length) { assert.equal(found, Infinity); return }
    const [least, most] = [1000 * (BOUNDS[bucket - 1] ?? 0), 1000 * BOUNDS[bucket]!]
    assert.ok(found >= least * (1 - 1e-9) && found <= most * (1 + 1e-9), `${found} of ${exact}`)
  }))
  assert.equal(percentileMs(BOUNDS, [], 0.5), null)
  assert.equal(percentileMs(BOUNDS, [0, 0], 0.5), null)
})

test('sample window: figures are of the last seconds, a repeated sample says nothing, a new start forgets what was', () => {
  const window = new SampleWindow(10_000)
  const at = (seconds: number, startedAtMs = 0): Sample => {
    return { ...SAMPLE, startedAtMs, takenAtMs: seconds * 1000, listeners: [{ ...LISTENER, requests: [['2xx', '-', seconds ** 2]] }] }
  }
  assert.equal(window.figures, null)
  assert.equal(window.add(at(1)), true)
  assert.equal(window.figures, null)
  assert.equal(window.add(at(1)), false)
  for (let second = 2; second <= 30; second++) window.add(at(second))
  assert.deepEqual([window.figures!.seconds, window.figures!.all.perSecond], [10, (30 ** 2 - 20 ** 2) / 10])
  // A long silence: what is known is of all that time.
  window.add(at(100))
  assert.equal(window.figures!.seconds, 70)
  window.add(at(101, 99_000))
  assert.equal(window.figures, null)
  // A clock that was set back.
  window.add(at(102, 99_000))
  window.add(at(50, 99_000))
  assert.equal(window.figures, null)
})
