/**
 * Rates, shares and percentiles: what two samples of a server (sample.ts) say of the time between them. Pure.
 *
 * A count that went down was begun anew, so that all of it belongs to the time between. Percentiles are estimated as Prometheus does
 * it: within a bucket values lie evenly. Where nothing happened there is neither share nor percentile, which is null and not 0.
 * status-page.html has the same rules in its own few lines; test/supervisor/status-page.test.ts compares the two.
 */
import type { BucketCounts, NamedCounts, Sample, SampledListener, SampledUpstream } from './sample.ts'

/** Times in ms; null: nothing was measured, Infinity: longer than the last bound. */
export interface Percentiles {
  readonly p50Ms: number | null
  readonly p90Ms: number | null
  readonly p99Ms: number | null
}

/** One way in which requests did not go well. */
export interface Failing {
  /** Class of the status: `5xx`, `none` for no status; `head` for what never became a request. */
  readonly code: string
  /** Of the access log; `-`: the origin, or the application, has answered so. */
  readonly flag: string
  readonly perSecond: number
  /** Of all requests, 0 to 1. */
  readonly share: number
}

export interface TrafficFigures extends Percentiles {
  readonly perSecond: number
  readonly share4xx: number | null
  readonly share5xx: number | null
  /** What did not go well, the most frequent first. */
  readonly failing: readonly Failing[]
  readonly bytesInPerSecond: number
  readonly bytesOutPerSecond: number
}

export interface ListenerFigures extends TrafficFigures {
  readonly name: string
  readonly address: string
}

export interface UpstreamFigures {
  readonly name: string
  /** Attempts. */
  readonly perSecond: number
  /** Of attempts: those that failed, and those that were answered with 5xx. */
  readonly errorShare: number | null
  readonly faultShare: number | null
  /** By kind, the most frequent first. */
  readonly errors: readonly (readonly [kind: string, perSecond: number])[]
  readonly retriesPerSecond: number
  /** Of attempts that had a connection: over one that was there. */
  readonly reuseShare: number | null
  readonly connect: Percentiles
  readonly firstByte: Percentiles
}

export interface PassedLimit {
  readonly name: string
  readonly perSecond: number
  readonly total: number
}

export interface Figures {
  readonly seconds: number
  readonly all: TrafficFigures
  /** In the order of the sample. */
  readonly listeners: readonly ListenerFigures[]
  /** The busiest first. */
  readonly upstreams: readonly UpstreamFigures[]
  readonly reuseShare: number | null
  /** Requests of each worker a second, by its id. */
  readonly workers: ReadonlyMap<string, number>
  /** The most frequent first. */
  readonly limits: readonly PassedLimit[]
}

/** @returns null when the two do not belong together: another server, or the same moment. */
export function figuresOf(before: Sample, after: Sample): Figures | null {
  const seconds = (after.takenAtMs - before.takenAtMs) / 1000
  if (seconds <= 0 || before.startedAtMs !== after.startedAtMs) return null
  // Another build measures in other buckets.
  const sameBounds = before.bounds.length === 0 || before.bounds.join() === after.bounds.join()
  const bucketsBefore = (counts: BucketCounts | undefined): BucketCounts => sameBounds ? counts ?? [] : []
  const listenersBefore = byName(before.listeners), upstreamsBefore = byName(before.upstreams)
  const listened = after.listeners.map(one => {
    const earlier = listenersBefore.get(one.name)
    return listenedBetween(earlier, one, bucketsBefore(earlier?.durations))
  })
  const upstreams = after.upstreams.map(one => {
    const earlier = upstreamsBefore.get(one.name)
    const connectTimes = increases(bucketsBefore(earlier?.connectTimes), one.connectTimes)
    const firstBytes = increases(bucketsBefore(earlier?.firstBytes), one.firstBytes)
    return upstreamFigures(earlier, one, seconds, percentiles(after.bounds, connectTimes), percentiles(after.bounds, firstBytes))
  })
  const reused = after.upstreams.reduce((sum, one) => sum + increase(upstreamsBefore.get(one.name)?.reused, one.reused), 0)
  const fresh = after.upstreams.reduce((sum, one) => sum + increase(upstreamsBefore.get(one.name)?.fresh, one.fresh), 0)
  const requestsBefore = new Map(workersOf(before).map(({ id, requests }) => [id, requests]))
  return {
    seconds,
    all: trafficFigures(listened.reduce(together, NOTHING), seconds, after.bounds),
    listeners: after.listeners.map(({ name, address }, index) => {
      return { name, address, ...trafficFigures(listened[index]!, seconds, after.bounds) }
    }),
    upstreams: upstreams.toSorted((one, other) => other.perSecond - one.perSecond),
    reuseShare: shareOf(reused, reused + fresh),
    workers: new Map(workersOf(after).map(({ id, requests }) => [id, increase(requestsBefore.get(id), requests) / seconds])),
    limits: limitFigures(before.limits, after.limits, seconds),
  }
}

function byName<One extends { readonly name: string }>(all: readonly One[]): Map<string, One> {
  return new Map(all.map(one => [one.name, one]))
}

function workersOf({ slots }: Sample): Sample['slots'][number]['workers'] { return slots.flatMap(({ workers }) => workers) }

/** @param before undefined: it was not there yet */
export function increase(before: number | undefined, after: number): number {
  return before === undefined || after < before ? after : after - before
}

/** Of all buckets of a histogram: begun anew is one of which any bucket went down. */
export function increases(before: BucketCounts, after: BucketCounts): BucketCounts {
  if (before.some((count, index) => count > (after[index] ?? 0))) return after
  return after.map((count, index) => count - (before[index] ?? 0))
}

function shareOf(part: number, whole: number): number | null { return whole === 0 ? null : part / whole }

/** What happened between two samples, not yet by the second. */
interface Traffic {
  readonly requests: number
  /** With the status that it was sent, by class and flag. */
  readonly outcomes: ReadonlyMap<string, number>
  readonly durations: BucketCounts
  readonly bytesIn: number
  readonly bytesOut: number
}

const NOTHING: Traffic = { requests: 0, outcomes: new Map(), durations: [], bytesIn: 0, bytesOut: 0 }

function listenedBetween(before: SampledListener | undefined, after: SampledListener, durationsBefore: BucketCounts): Traffic {
  const earlier = new Map(outcomesOf(before))
  const outcomes = new Map(outcomesOf(after).map(([key, count]) => [key, increase(earlier.get(key), count)]))
  return {
    requests: [...outcomes.values()].reduce((sum, count) => sum + count, 0), outcomes,
    durations: increases(durationsBefore, after.durations),
    bytesIn: increase(before?.bytesIn, after.bytesIn), bytesOut: increase(before?.bytesOut, after.bytesOut),
  }
}

function outcomesOf(listener: SampledListener | undefined): (readonly [key: string, count: number])[] {
  if (listener === undefined) return []
  const requests = listener.requests.map(([code, flag, count]) => [`${code} ${flag}`, count] as const)
  return [...requests, ...listener.refused.map(([flag, count]) => [`head ${flag}`, count] as const)]
}

function together(one: Traffic, other: Traffic): Traffic {
  const outcomes = new Map(one.outcomes)
  for (const [key, count] of other.outcomes) outcomes.set(key, (outcomes.get(key) ?? 0) + count)
  const [longer, shorter] = one.durations.length < other.durations.length ? [other, one] : [one, other]
  return {
    requests: one.requests + other.requests, outcomes,
    durations: longer.durations.map((count, index) => count + (shorter.durations[index] ?? 0)),
    bytesIn: one.bytesIn + other.bytesIn, bytesOut: one.bytesOut + other.bytesOut,
  }
}

function trafficFigures(traffic: Traffic, seconds: number, bounds: readonly number[]): TrafficFigures {
  const { requests, outcomes, durations, bytesIn, bytesOut } = traffic
  const ofClass = (code: string): number => [...outcomes].reduce((sum, [key, count]) => key.startsWith(`${code} `) ? sum + count : sum, 0)
  const failing = [...outcomes].filter(([key, count]) => count > 0 && !/^[123]xx -$/.test(key)).map(([key, count]) => {
    const [code, flag] = key.split(' ', 2) as [string, string]
    return { code, flag, perSecond: count / seconds, share: count / requests }
  })
  return {
    perSecond: requests / seconds,
    share4xx: shareOf(ofClass('4xx'), requests), share5xx: shareOf(ofClass('5xx'), requests),
    failing: failing.toSorted((one, other) => other.perSecond - one.perSecond),
    ...percentiles(bounds, durations),
    bytesInPerSecond: bytesIn / seconds, bytesOutPerSecond: bytesOut / seconds,
  }
}

function upstreamFigures(
  before: SampledUpstream | undefined, after: SampledUpstream, seconds: number, connect: Percentiles, firstByte: Percentiles,
): UpstreamFigures {
  const attempts = increase(before?.attempts, after.attempts)
  const earlier = new Map(before?.errors)
  const errors = after.errors.map(([kind, count]) => [kind, increase(earlier.get(kind), count)] as const).filter(([, count]) => count > 0)
  const failed = errors.reduce((sum, [, count]) => sum + count, 0)
  const reused = increase(before?.reused, after.reused), fresh = increase(before?.fresh, after.fresh)
  return {
    name: after.name, perSecond: attempts / seconds,
    errorShare: shareOf(failed, attempts), faultShare: shareOf(increase(before?.faults, after.faults), attempts),
    errors: errors.map(([kind, count]) => [kind, count / seconds] as const).toSorted(([, one], [, other]) => other - one),
    retriesPerSecond: increase(before?.retries, after.retries) / seconds,
    reuseShare: shareOf(reused, reused + fresh), connect, firstByte,
  }
}

function limitFigures(before: NamedCounts, after: NamedCounts, seconds: number): PassedLimit[] {
  const earlier = new Map(before)
  const passed = after.map(([name, total]) => ({ name, perSecond: increase(earlier.get(name), total) / seconds, total }))
  return passed.toSorted((one, other) => other.perSecond - one.perSecond || other.total - one.total)
}

function percentiles(bounds: readonly number[], counts: BucketCounts): Percentiles {
  return { p50Ms: percentileMs(bounds, counts, 0.5), p90Ms: percentileMs(bounds, counts, 0.9), p99Ms: percentileMs(bounds, counts, 0.99) }
}

/** @param bounds in seconds. @param share 0 to 1. */
export function percentileMs(bounds: readonly number[], counts: BucketCounts, share: number): number | null {
  const all = counts.reduce((sum, count) => sum + count, 0)
  if (all === 0) return null
  const rank = share * all
  let below = 0
  for (const [index, count] of counts.entries()) {
    if (count === 0 || below + count < rank) { below += count; continue }
    const to = bounds[index]
    if (to === undefined) return Infinity
    const from = index === 0 ? 0 : bounds[index - 1]!
    return 1000 * (from + (to - from) * (rank - below) / count)
  }
  return Infinity
}

/** Samples of the last seconds, so that figures are of more than a moment. */
export class SampleWindow {
  readonly #windowMs: number
  #samples: Sample[] = []

  constructor(windowMs: number) { this.#windowMs = windowMs }

  /** A server that was started anew begins anew here as well. @returns false when there is nothing new in it */
  add(sample: Sample): boolean {
    const last = this.last
    if (last?.startedAtMs !== sample.startedAtMs || sample.takenAtMs < last.takenAtMs) this.#samples = []
    else if (sample.takenAtMs === last.takenAtMs) return false
    this.#samples.push(sample)
    // The oldest that is left is as old as the window, or the first there was.
    while (this.#samples.length > 2 && this.#samples[1]!.takenAtMs <= sample.takenAtMs - this.#windowMs) this.#samples.shift()
    return true
  }

  get last(): Sample | undefined { return this.#samples.at(-1) }

  /** Over the window; null: there is only one sample so far. */
  get figures(): Figures | null {
    const [first, last] = [this.#samples[0], this.last]
    return first === undefined || first === last ? null : figuresOf(first, last!)
  }
}
