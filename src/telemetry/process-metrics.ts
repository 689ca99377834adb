/**
 * What a worker knows of itself, as metrics: the counts of its services and the state of its process. Both are brought up to date
 * with each heartbeat, and once more at its end; the garbage collections in between are added up by the engine.
 */
import fs from 'node:fs'
import { PerformanceObserver } from 'node:perf_hooks'
import v8 from 'node:v8'
import { COUNT_METRICS, PROCESS_METRICS } from '../ipc/metric-table.ts'
import type { OpenCounts, UpstreamHealth } from '../ipc/open-counts.ts'
import { descriptorLimit } from '../primitives/descriptor-limit.ts'
import type { Counter, Gauge, Metric, Metrics } from './metrics.ts'
import { Total } from './total.ts'
import { UpstreamHealthMetrics } from './upstream-health-metrics.ts'

/** What a heartbeat says of the process. */
export interface ProcessVitals {
  /** How late the heartbeat was, in ms. */
  readonly loopLagMs: number
  /** Share of time in which the event loop was busy, 0 to 1. */
  readonly utilization: number
  /** 0: not known. */
  readonly rssBytes: number
}

/** What the engine tells of one garbage collection. */
interface CollectionEntry extends PerformanceEntry { readonly detail: { readonly kind: number } }

/** As `kind` of an entry says them (perf_hooks.constants). */
const GC_TYPES: ReadonlyMap<number, string> = new Map([[1, 'minor'], [4, 'major'], [8, 'incremental'], [16, 'weak-callbacks']])

export class ProcessMetrics {
  readonly #metrics: Metrics
  readonly #counts: readonly (readonly [name: keyof OpenCounts, total: Total])[]
  readonly #overflowed: Total
  readonly #delay: Gauge
  readonly #utilization: Gauge
  readonly #rss: Gauge
  readonly #heap: Gauge
  readonly #descriptors: Gauge
  readonly #cpu: Readonly<Record<'user' | 'system', Total>>
  readonly #gcSeconds: ReadonlyMap<number, Counter>
  readonly #gcRuns: ReadonlyMap<number, Counter>
  readonly #health: UpstreamHealthMetrics
  #observer: PerformanceObserver | null = null

  /** @param slot of the worker: labels name it, since its id is another one after each restart */
  constructor(metrics: Metrics, slot: number) {
    const label = String(slot)
    this.#metrics = metrics
    this.#counts = COUNT_METRICS.flatMap(({ name, kind, counts, ...row }) => {
      const metric = metrics.add(kind, { name, ...row }) as Metric<Counter | Gauge>
      return Object.entries(counts).map(([count, value]) => {
        return [count as keyof OpenCounts, new Total(metric.labels(...row.labels.length === 0 ? [] : [value]))] as const
      })
    })
    const add = <Series>(name: keyof typeof PROCESS_METRICS): Metric<Series> => {
      return metrics.add(PROCESS_METRICS[name].kind, { name, ...PROCESS_METRICS[name] }) as Metric<unknown> as Metric<Series>
    }
    this.#overflowed = new Total(add<Counter>('cirque_metrics_overflowed_total').labels())
    this.#delay = add<Gauge>('cirque_worker_event_loop_delay_seconds').labels(label)
    this.#utilization = add<Gauge>('cirque_worker_event_loop_utilization_ratio').labels(label)
    this.#rss = add<Gauge>('cirque_worker_rss_bytes').labels(label)
    this.#heap = add<Gauge>('cirque_worker_heap_used_bytes').labels(label)
    this.#descriptors = add<Gauge>('cirque_worker_open_descriptors').labels(label)
    // Read once: it does not change, and reading it takes a descriptor.
    const limit = descriptorLimit()
    add<Gauge>('cirque_worker_max_descriptors').labels(label).set(limit === 0 || limit === Number.POSITIVE_INFINITY ? Number.NaN : limit)
    const cpu = add<Counter>('cirque_worker_cpu_seconds_total')
    this.#cpu = { user: new Total(cpu.labels(label, 'user')), system: new Total(cpu.labels(label, 'system')) }
    const seconds = add<Counter>('cirque_worker_gc_seconds_total'), runs = add<Counter>('cirque_worker_gc_runs_total')
    this.#gcSeconds = new Map([...GC_TYPES].map(([kind, type]) => [kind, seconds.labels(label, type)]))
    this.#gcRuns = new Map([...GC_TYPES].map(([kind, type]) => [kind, runs.labels(label, type)]))
    this.#health = new UpstreamHealthMetrics(metrics)
  }

  /** Hears of garbage collections from now on. */
  start(): void {
    this.#observer = new PerformanceObserver(list => {
      for (const { detail, duration } of list.getEntries() as CollectionEntry[]) {
        this.#gcRuns.get(detail.kind)?.inc()
        this.#gcSeconds.get(detail.kind)?.inc(duration / 1000)
      }
    })
    this.#observer.observe({ entryTypes: ['gc'] })
  }

  beat(open: OpenCounts, { loopLagMs, utilization, rssBytes }: ProcessVitals, health: Iterable<UpstreamHealth>): void {
    this.#health.beat(health)
    for (const [name, total] of this.#counts) total.set(open[name])
    this.#overflowed.set(this.#metrics.overflows)
    this.#delay.set(loopLagMs / 1000)
    this.#utilization.set(utilization)
    this.#rss.set(rssBytes)
    // process.memoryUsage() opens a file, for which there may be no descriptor.
    this.#heap.set(v8.getHeapStatistics().used_heap_size)
    this.#descriptors.set(openDescriptors())
    const { user, system } = process.cpuUsage()
    this.#cpu.user.set(user / 1e6)
    this.#cpu.system.set(system / 1e6)
  }

  stop(): void { this.#observer?.disconnect() }
}

/** The size of that folder, since Linux 6.2; 0: the system does not say. */
function openDescriptors(): number {
  try { return fs.statSync('/proc/self/fd').size } catch { return 0 }
}
