/**
 * Metrics as Prometheus reads them: its text format, or OpenMetrics 1.0 where a scraper asks for that. The text is made by
 * Prometheus' own client library, of which only the registry is loaded, with the first scrape.
 *
 * Each answer has a registry of its own: one that was asked for OpenMetrics once would leave `_total` out of the names of its
 * counters for good, in the other format too.
 */
import type { Exemplar, MetricFamily } from '../../ipc/metric-memory.ts'

/** One family with all its series, whoever counted them. */
export interface ShownMetric {
  readonly family: MetricFamily
  readonly series: Iterable<ShownSeries>
}

export interface ShownSeries {
  readonly labelValues: readonly string[]
  /** As they were counted, see MetricFamily. */
  readonly values: ArrayLike<number>
  /** Of a histogram, for OpenMetrics alone: it stands at the bucket that its value lies in. @default none */
  readonly exemplar?: Exemplar
}

export interface MetricsPage {
  readonly contentType: string
  readonly text: string
}

/** What the library reads of a metric. */
interface LibraryValue {
  readonly metricName?: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  /** Left out of the text format by the library. */
  readonly exemplar?: { readonly labelSet: { readonly trace_id: string }; readonly value: number; readonly timestamp: number }
}

interface Library {
  new (contentType?: string): {
    readonly contentType: string
    registerMetric(metric: object): void
    metrics(): Promise<string>
  }
  readonly PROMETHEUS_CONTENT_TYPE: string
  readonly OPENMETRICS_CONTENT_TYPE: string
}

/** RFC 9110 section 12.5.1, as far as it matters here: OpenMetrics is sent to who names it and does not refuse it. */
export function wantsOpenMetrics(accept: string): boolean {
  return accept.split(',').some(range => {
    const [type = '', ...parameters] = range.split(';').map(part => part.trim().toLowerCase())
    return type === 'application/openmetrics-text' && !parameters.some(parameter => /^q=0(\.0*)?$/.test(parameter))
  })
}

export async function renderMetrics(shown: Iterable<ShownMetric>, openMetrics: boolean): Promise<MetricsPage> {
  // Not the whole library: that takes 7 MB more. What is loaded so has no types.
  const file: string = 'prom-client/lib/registry.js'
  const { default: Registry } = await import(file) as { readonly default: Library }
  const registry = new Registry(openMetrics ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE)
  for (const { family, series } of shown) {
    const { name, kind: type, help } = family
    const values = [...series].flatMap(one => valuesOf(family, one))
    registry.registerMetric(new LibraryMetric(name, help, type, values))
  }
  return { contentType: registry.contentType, text: await registry.metrics() }
}

/** A metric as the library takes it. */
class LibraryMetric {
  /** The library changes that of a counter before it asks, and wants to have it back. */
  name: string
  readonly help: string
  readonly type: string
  readonly aggregator = 'sum'
  readonly #values: readonly LibraryValue[]

  constructor(name: string, help: string, type: string, values: readonly LibraryValue[]) {
    this.name = name
    this.help = help
    this.type = type
    this.#values = values
  }

  get(): Promise<object> {
    const { name, help, type, aggregator } = this
    return Promise.resolve({ name, help, type, aggregator, values: this.#values })
  }

  reset(): void { /* Each answer has a metric of its own. */ }
}

function valuesOf(family: MetricFamily, { labelValues, values, exemplar }: ShownSeries): LibraryValue[] {
  const { name, kind, bounds } = family
  const labels = Object.fromEntries(family.labels.map((label, index) => [label, labelValues[index] ?? '']))
  if (kind !== 'histogram') return [{ labels, value: values[0] ?? 0 }]
  const rows: LibraryValue[] = []
  let count = 0
  const place = exemplar === undefined ? -1 : [...bounds, Infinity].findIndex(bound => exemplar.value <= bound)
  for (const [index, bound] of [...bounds, Infinity].entries()) {
    count += values[index] ?? 0
    const row = { metricName: `${name}_bucket`, labels: { ...labels, le: bound === Infinity ? '+Inf' : String(bound) }, value: count }
    rows.push(index === place ? { ...row, exemplar: shownExemplar(exemplar!) } : row)
  }
  rows.push({ metricName: `${name}_sum`, labels, value: values[bounds.length + 1] ?? 0 })
  rows.push({ metricName: `${name}_count`, labels, value: count })
  return rows
}

function shownExemplar({ value, at, traceId }: Exemplar): LibraryValue['exemplar'] & object {
  return { labelSet: { trace_id: traceId }, value, timestamp: at }
}
