/** Samples of servers that never were: one of each thing, and any at all, with names that somebody means harm with. */
import fc from 'fast-check'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import type { Sample, SampledListener, SampledSlot, SampledUpstream, SampledWorker, WorkerPlace } from '../../supervisor/sample.ts'

export const BOUNDS = [0.001, 0.01, 0.1, 1, 10]

export const SAMPLE: Sample = {
  version: '1.2.3', node: 'v26.10.0', pid: 4711, takenAtMs: 60_000, startedAtMs: 0, state: 'running', ready: true, reason: '',
  application: 'app.ts', release: '2026-11-21', previousRelease: '2026-11-01', generation: 7, counting: true, missing: 0, open: NO_COUNTS,
  slots: [], bounds: BOUNDS, listeners: [], upstreams: [], limits: [], deaths: [], flags: [], operation: '', change: null, changes: [],
  notices: [],
}

export const LISTENER: SampledListener = {
  name: 'shop/0.0.0.0:80', address: '0.0.0.0:80', requests: [], refused: [], durations: [], bytesIn: 0, bytesOut: 0,
}

export const UPSTREAM: SampledUpstream = {
  name: '10.0.0.1:8080', attempts: 0, errors: [], faults: 0, retries: 0, reused: 0, fresh: 0, connectTimes: [], firstBytes: [],
}

export function workerOf(slot: number, place: WorkerPlace, more: Partial<SampledWorker> = {}): SampledWorker {
  return {
    id: `7.${slot}.0`, pid: 5000 + slot, generation: 7, state: place === 'draining' ? 'draining' : 'accepting', silent: false,
    ageMs: 60_000, drainingMs: null, drainEndsInMs: null, loopLagMs: 1.5, utilization: 0.25, rssBytes: 90 * 1024 * 1024,
    place, connections: 12, activeRequests: 3, requests: 1000, ...more,
  }
}

export function slotOf(slot: number, workers: readonly SampledWorker[] = [workerOf(slot, 'current')]): SampledSlot {
  return { slot, state: workers.length === 0 ? 'waiting' : 'serving', restarts: 0, standIn: '', workers }
}

/** What moves cursors, adds lines, turns text around, is markup, or means something to JavaScript. */
export const HOSTILE_NAMES = [
  '\u001B[2J\u001B[H', 'a\r\nb\tc', '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '\u202Egnirts', '__proto__',
  'constructor', '\u009B31m', '日本語のとても長い名前', '\u{1F4A9}'.repeat(40), `${'x'.repeat(300)}`, '', ' ', '_overflow', "' OR 1=1 --",
]

const anyName = fc.oneof(fc.constantFrom(...HOSTILE_NAMES), fc.string({ maxLength: 40 }), fc.string({ unit: 'binary', maxLength: 20 }))
const anyCount = fc.oneof(fc.nat(20), fc.nat(1e9))
const someCounts = fc.uniqueArray(fc.tuple(anyName, anyCount), { maxLength: 4, selector: ([name]) => name })
const someBuckets = fc.array(anyCount, { maxLength: BOUNDS.length + 1 })
const anyFlag = fc.constantFrom('-', 'UC', 'DC', 'NR', '_overflow')
const anyOutcome = fc.tuple(fc.constantFrom('none', '2xx', '3xx', '4xx', '5xx'), anyFlag, anyCount)

const anyListener: fc.Arbitrary<SampledListener> = fc.record({
  name: anyName, address: anyName, refused: someCounts, durations: someBuckets, bytesIn: anyCount, bytesOut: anyCount,
  requests: fc.uniqueArray(anyOutcome, { maxLength: 8, selector: ([code, flag]) => `${code} ${flag}` }),
})

const anyUpstream: fc.Arbitrary<SampledUpstream> = fc.record({
  name: anyName, attempts: anyCount, errors: someCounts, faults: anyCount, retries: anyCount, reused: anyCount, fresh: anyCount,
  connectTimes: someBuckets, firstBytes: someBuckets,
})

const anyWorker = fc.record({
  id: anyName, place: fc.constantFrom<WorkerPlace>('current', 'incoming', 'previous', 'spare', 'draining'), state: anyName,
  silent: fc.boolean(), loopLagMs: fc.option(fc.nat(20_000)), utilization: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
  rssBytes: fc.option(anyCount), drainingMs: fc.option(fc.nat(1e7)), drainEndsInMs: fc.option(fc.nat(1e7)), requests: anyCount,
}).map(({ place, ...more }) => workerOf(0, place, more))

const anyStep = fc.record({ step: fc.oneof(fc.constantFrom('preflight', 'canary', 'soak', 'rolling', 'reverting'), anyName), ms: anyCount })

/** Any sample at all. */
export const anySample: fc.Arbitrary<Sample> = fc.record({
  takenAtMs: fc.integer({ min: 1, max: 1e6 }), startedAtMs: fc.constantFrom(0, 1), ready: fc.boolean(), reason: anyName, state: anyName,
  application: anyName, release: anyName, version: anyName, counting: fc.boolean(), bounds: fc.constantFrom(BOUNDS, [0.5, 1], []),
  slots: fc.array(fc.array(anyWorker, { maxLength: 4 }), { maxLength: 5 })
    .map(slots => slots.map((workers, slot) => slotOf(slot, workers))),
  listeners: fc.uniqueArray(anyListener, { maxLength: 6, selector: ({ name }) => name }),
  upstreams: fc.uniqueArray(anyUpstream, { maxLength: 12, selector: ({ name }) => name }),
  limits: someCounts, deaths: someCounts, operation: anyName, notices: fc.array(fc.oneof(anyName, fc.lorem()), { maxLength: 5 }),
  flags: fc.constant([['UC', 'the upstream could not be reached'], ['DC', 'the client went away']] as const),
  change: fc.option(fc.record({
    id: anyName, kind: fc.constant('upgrade' as const), step: anyStep.map(({ step }) => step), steps: fc.array(anyStep, { maxLength: 6 }),
    stepMs: anyCount, soakMs: fc.option(anyCount), generation: fc.option(fc.nat(9)), workers: fc.option(fc.nat(9)),
  })),
  changes: fc.array(fc.record({
    id: anyName, kind: fc.constant('reload' as const), result: fc.constantFrom('committed', 'refused', 'rolled-back', 'superseded'),
    reason: fc.oneof(anyName, fc.lorem({ maxCount: 60 })), generation: fc.nat(9), release: anyName,
    steps: fc.array(anyStep, { maxLength: 5 }), endedAtMs: fc.nat(1e6),
  }), { maxLength: 3 }),
}).map(sample => ({ ...SAMPLE, ...sample }))

const msBetween = fc.integer({ min: 1, max: 20_000 })

/** One, and a later one of the same server in which most counts have grown, and some begun anew. */
export const twoSamples: fc.Arbitrary<readonly [Sample, Sample]> = fc.tuple(anySample, anySample, msBetween, fc.boolean())
  .map(([before, other, laterMs, related]) => {
    const after = { ...other, startedAtMs: before.startedAtMs, takenAtMs: before.takenAtMs + laterMs }
    if (!related) return [before, after]
    const listeners = after.listeners.map((one, index) => ({ ...one, name: before.listeners[index]?.name ?? `new ${index}` }))
    const upstreams = after.upstreams.map((one, index) => ({ ...one, name: before.upstreams[index]?.name ?? `new ${index}` }))
    return [before, { ...after, bounds: before.bounds, listeners, upstreams }]
  })
