/**
 * Which backends of load balancers get traffic, as metrics, brought up to date with each heartbeat.
 *
 * Backends come and go by discovery, and a series stays for the life of the process: one whose backend has left says nothing, and is
 * not shown. How many there may be is bounded, in one heartbeat as well: a balancer of many thousand backends costs no more than that.
 */
import { PROCESS_METRICS } from '../ipc/metric-table.ts'
import type { EjectionReason, UpstreamHealth } from '../ipc/open-counts.ts'
import type { Counter, Gauge, Metric, Metrics } from './metrics.ts'
import { Total } from './total.ts'

/** Backends that are looked at in one heartbeat, those of all balancers together, and that a process ever shows by name. */
const MAX_TARGETS = 500
/** Names of balancers that are told apart. */
const MAX_UPSTREAMS = 100
const REASONS: readonly EjectionReason[] = ['attempts', 'check']

interface TargetSeries {
  readonly gauge: Gauge
  /** The heartbeat that brought it up to date last. */
  beat: number
  up: number
}

/** What is known under one name, which several balancers may have. */
class Upstream {
  readonly targets = new Map<string, TargetSeries>()
  readonly totals: Readonly<Record<EjectionReason, Total>>
  readonly ejections: Record<EjectionReason, number> = { attempts: 0, check: 0 }

  constructor(name: string, ejections: Metric<Counter>) {
    this.totals = { attempts: new Total(ejections.labels(name, 'attempts')), check: new Total(ejections.labels(name, 'check')) }
  }
}

export class UpstreamHealthMetrics {
  readonly #up: Metric<Gauge>
  readonly #ejections: Metric<Counter>
  readonly #upstreams = new Map<string, Upstream>()
  /** By gauge, since all that found no series of their own share one. */
  readonly #series = new Map<Gauge, TargetSeries>()
  #beat = 0

  constructor(metrics: Metrics) {
    const add = <Series>(name: 'cirque_upstream_target_up' | 'cirque_upstream_ejections_total', maxSeries: number): Metric<Series> => {
      return metrics.add(PROCESS_METRICS[name].kind, { name, ...PROCESS_METRICS[name], maxSeries }) as Metric<unknown> as Metric<Series>
    }
    this.#up = add('cirque_upstream_target_up', MAX_TARGETS)
    this.#ejections = add('cirque_upstream_ejections_total', MAX_UPSTREAMS * REASONS.length)
  }

  beat(health: Iterable<UpstreamHealth>): void {
    const beat = ++this.#beat
    let left = MAX_TARGETS
    for (const upstream of this.#upstreams.values()) upstream.ejections.attempts = upstream.ejections.check = 0
    for (const { upstream: name, targets, ejections } of health) {
      const upstream = this.#upstreamOf(name)
      if (upstream === null) continue
      for (const reason of REASONS) upstream.ejections[reason] += ejections[reason]
      for (const target of targets) {
        if (left-- <= 0) break
        const series = this.#seriesOf(upstream, name, target.name)
        series.up = series.beat === beat ? Math.min(series.up, Number(target.ready)) : Number(target.ready)
        series.beat = beat
      }
    }
    for (const { ejections, totals } of this.#upstreams.values()) for (const reason of REASONS) totals[reason].set(ejections[reason])
    for (const { gauge, beat: last, up } of this.#series.values()) gauge.set(last === beat ? up : Number.NaN)
  }

  /** Null: there are too many names. */
  #upstreamOf(name: string): Upstream | null {
    let found = this.#upstreams.get(name)
    if (found !== undefined) return found
    if (this.#upstreams.size >= MAX_UPSTREAMS) return null
    found = new Upstream(name, this.#ejections)
    this.#upstreams.set(name, found)
    return found
  }

  #seriesOf({ targets }: Upstream, upstream: string, target: string): TargetSeries {
    const known = targets.get(target)
    if (known !== undefined) return known
    const gauge = this.#up.labels(upstream, target)
    let series = this.#series.get(gauge)
    if (series === undefined) this.#series.set(gauge, series = { gauge, beat: 0, up: 0 })
    // Of those that share a series no name is kept: they may be new ones for ever.
    if (this.#series.size <= MAX_TARGETS) targets.set(target, series)
    return series
  }
}
