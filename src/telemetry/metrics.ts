/**
 * Counters, gauges and histograms of this process. What they hold is in one piece of memory (ipc/metric-memory.ts), where the
 * supervisor reads it; an application's own are beside ours and cost the same: an addition to a number.
 *
 *   const orders = metrics.counter({ name: 'shop_orders_total', help: 'Orders that were placed.', labels: ['tenant'] })
 *   orders.labels('acme').inc()
 *
 * How many series a metric may have is bounded. Behind its last one, all further values of its labels are counted together in one
 * series whose labels are all `_overflow`: a client that makes values up can cost memory neither here nor in Prometheus.
 */
import { LOST_SLOT, MetricMemory, slotsOf, writeExemplar, type GaugeSum, type MetricFamily, type MetricKind } from '../ipc/metric-memory.ts'

/** What a counter is called, and what it counts. */
export interface MetricDefinition {
  /** Letters, digits, `_` and `:`, not a digit first; a counter's ends in `_total`. Names that begin with `cirque_` are ours. */
  name: string
  /** One sentence for people, on one line. */
  help: string
  /** Names of labels: letters, digits and `_`, not a digit first. @default none */
  labels?: readonly string[]
  /** Most combinations of label values; further ones are counted together as `_overflow`. At least 1. @default 200 */
  maxSeries?: number
}

/** What a gauge is called, and what it shows. */
export interface GaugeDefinition extends MetricDefinition {
  /** What the gauges of several workers are together: their sum, the greatest, or the least. @default 'sum' */
  over?: GaugeSum
}

/** What a histogram is called, and what it measures. */
export interface HistogramDefinition extends MetricDefinition {
  /** Upper bounds of buckets, ascending, without infinity: 1 to 64. @default 16 of them from 0.001 to 10, for seconds */
  bounds?: readonly number[]
}

/**
 * Upper bounds of durations in seconds: those of OpenTelemetry's HTTP conventions, and two below them, since what a proxy adds lies
 * there. All our histograms have the same, so that Prometheus can make native histograms with custom buckets of them that add up.
 */
export const DURATION_BOUNDS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

const DEFAULT_MAX_SERIES = 200
const MAX_BOUNDS = 64
const MAX_LABEL_LENGTH = 128
export const OVERFLOW = '_overflow'

/** Names of an instance's own families begin with one of these. */
const RESERVED = /^(cirque_|http_server_|http_client_|nodejs_|process_|up$)/
const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/

/** One number that only grows. */
export class Counter {
  readonly #memory: MetricMemory
  readonly #at: number

  /** @internal */
  constructor(memory: MetricMemory, at: number) {
    this.#memory = memory
    this.#at = at
  }

  /** @param by not negative; what is, or is no finite number, counts nothing */
  inc(by: number = 1): void { if (by >= 0 && by < Infinity) this.#memory.slots[this.#at]! += by }
}

/** One number that goes up and down. */
export class Gauge {
  readonly #memory: MetricMemory
  readonly #at: number

  /** @internal */
  constructor(memory: MetricMemory, at: number) {
    this.#memory = memory
    this.#at = at
  }

  /** It is this from now on. NaN: there is nothing to say, and it is not shown. */
  set(value: number): void { this.#memory.slots[this.#at] = value }
  /** It is more from now on. */
  inc(by: number = 1): void { this.#memory.slots[this.#at]! += by }
  /** It is less from now on. */
  dec(by: number = 1): void { this.#memory.slots[this.#at]! -= by }
}

/** How often values lay between which bounds, and what they are together. */
export class Histogram {
  readonly #memory: MetricMemory
  readonly #at: number
  readonly #bounds: readonly number[]

  /** @internal */
  constructor(memory: MetricMemory, at: number, bounds: readonly number[]) {
    this.#memory = memory
    this.#at = at
    this.#bounds = bounds
  }

  /** @param value what is no finite number counts nothing: of a sum that is infinite nothing could be said any more */
  observe(value: number): void {
    if (!Number.isFinite(value)) return
    const at = this.#at, bounds = this.#bounds, { slots } = this.#memory
    // Nowhere to count: what is behind the lost slot is another's.
    if (at === LOST_SLOT) return
    let bucket = 0
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++
    slots[at + bucket]! += 1
    slots[at + bounds.length + 1]! += value
  }

  /** @internal Of a family with exemplars: the value that was just observed belongs to this trace. @param atSeconds since 1970 */
  exemplify(value: number, traceId: string, atSeconds: number): void {
    if (this.#at !== LOST_SLOT) writeExemplar(this.#memory.slots, this.#at + this.#bounds.length + 2, value, atSeconds, traceId)
  }
}

/** A metric with all its series. */
export class Metric<Series> {
  readonly #metrics: Metrics
  readonly #family: MetricFamily
  readonly #number: number
  readonly #make: (at: number) => Series
  readonly #maxSeries: number
  readonly #series = new Map<string, Series>()
  #overflow: Series | null = null

  /** @internal */
  constructor(metrics: Metrics, family: MetricFamily, number: number, maxSeries: number, make: (at: number) => Series) {
    this.#metrics = metrics
    this.#family = family
    this.#number = number
    this.#maxSeries = maxSeries
    this.#make = make
    if (family.labels.length === 0) this.labels()
  }

  /**
   * The series for these values of its labels, in the order of their names. The same one each time: keep it where it is used often.
   * A value may be as long as 128 characters; what is longer is cut.
   * @throws TypeError for too many or too few values
   */
  labels(...values: readonly string[]): Series {
    const { labels, name } = this.#family
    if (values.length !== labels.length) {
      throw new TypeError(`${name} has ${labels.length} labels (${labels.join(', ')}), and was given ${values.length}`)
    }
    const shown = values.map(value => String(value).slice(0, MAX_LABEL_LENGTH))
    const key = shown.join('\0')
    const known = this.#series.get(key)
    if (known !== undefined) return known
    if (this.#series.size >= this.#maxSeries) {
      this.#metrics.overflows++
      return this.#overflow ??= this.#add(labels.map(() => OVERFLOW))
    }
    const series = this.#add(shown)
    this.#series.set(key, series)
    return series
  }

  #add(values: readonly string[]): Series {
    const at = this.#metrics.memory.addSeries(this.#number, slotsOf(this.#family), values)
    if (at === LOST_SLOT) this.#metrics.overflows++
    return this.#make(at)
  }
}

/** What `metrics.counter` gives: a counter with its series. Without labels it is its only series as well. */
export class LabelledCounter extends Metric<Counter> {
  /** Of the metric without labels. @throws TypeError for one with labels */
  inc(by?: number): void { this.labels().inc(by) }
}

/** What `metrics.gauge` gives: a gauge with its series. Without labels it is its only series as well. */
export class LabelledGauge extends Metric<Gauge> {
  /** Of the metric without labels. @throws TypeError for one with labels */
  set(value: number): void { this.labels().set(value) }
  /** Of the metric without labels. @throws TypeError for one with labels */
  inc(by?: number): void { this.labels().inc(by) }
  /** Of the metric without labels. @throws TypeError for one with labels */
  dec(by?: number): void { this.labels().dec(by) }
}

/** What `metrics.histogram` gives: a histogram with its series. Without labels it is its only series as well. */
export class LabelledHistogram extends Metric<Histogram> {
  /** Of the metric without labels. @throws TypeError for one with labels */
  observe(value: number): void { this.labels().observe(value) }
}

/** All metrics of a process. */
export class Metrics {
  /** @internal */
  readonly memory: MetricMemory
  readonly #known = new Map<string, { readonly shape: string; readonly metric: Metric<Counter> | Metric<Gauge> | Metric<Histogram> }>()
  /** @internal Combinations of label values that found no series of their own. */
  overflows = 0

  /** @internal */
  constructor(memory: MetricMemory = new MetricMemory()) { this.memory = memory }

  /**
   * A counter of the application's own. Asked for again with the same labels, it is the same one.
   * @throws TypeError for a name, label or bound that would not do, and for a name that is another metric's
   */
  counter(options: MetricDefinition): LabelledCounter {
    if (!options.name.endsWith('_total')) throw new TypeError(`a counter is called ${options.name}; its name has to end in _total`)
    return this.add('counter', checked(options)) as LabelledCounter
  }

  /** A gauge of the application's own, see `counter`. @throws TypeError */
  gauge(options: GaugeDefinition): LabelledGauge { return this.add('gauge', checked(options)) as LabelledGauge }

  /** A histogram of the application's own, see `counter`. @throws TypeError */
  histogram(options: HistogramDefinition): LabelledHistogram { return this.add('histogram', checked(options)) as LabelledHistogram }

  /** @internal Of any name. */
  add(kind: MetricKind, given: AnyDefinition): Metric<Counter | Gauge | Histogram> {
    const { name, help, labels = [], maxSeries = DEFAULT_MAX_SERIES, over, exemplars } = given
    const bounds = kind === 'histogram' ? given.bounds ?? DURATION_BOUNDS : []
    const shape = JSON.stringify([kind, labels, bounds])
    const known = this.#known.get(name)
    if (known !== undefined) {
      if (known.shape !== shape) throw new TypeError(`there is another metric that is called ${name}; give each its own name`)
      return known.metric as Metric<Counter | Gauge | Histogram>
    }
    const { memory } = this
    const rest = { ...over === undefined ? null : { over }, ...exemplars === true ? { exemplars } : null }
    const family: MetricFamily = { name, kind, help, labels, bounds, ...rest }
    const number = memory.addFamily(family)
    const metric = kind === 'counter' ? new LabelledCounter(this, family, number, maxSeries, at => new Counter(memory, at))
      : kind === 'gauge' ? new LabelledGauge(this, family, number, maxSeries, at => new Gauge(memory, at))
        : new LabelledHistogram(this, family, number, maxSeries, at => new Histogram(memory, at, bounds))
    this.#known.set(name, { shape, metric })
    return metric as Metric<Counter | Gauge | Histogram>
  }
}

type AnyDefinition =
  MetricDefinition & Pick<GaugeDefinition, 'over'> & Pick<HistogramDefinition, 'bounds'> & Pick<MetricFamily, 'exemplars'>

function checked(options: AnyDefinition): AnyDefinition {
  const { name, help, labels = [], maxSeries = DEFAULT_MAX_SERIES, bounds = DURATION_BOUNDS } = options
  if (!METRIC_NAME.test(name)) throw new TypeError(`${JSON.stringify(name)} is no name of a metric; use letters, digits, _ and :`)
  if (RESERVED.test(name)) throw new TypeError(`a metric of an application is called ${name}; names that begin so are taken`)
  const isLine = typeof help === 'string' && help !== '' && !/[\r\n]/.test(help)
  if (!isLine) throw new TypeError(`metric ${name} has no help of one line; say what it counts`)
  for (const label of labels) {
    const message = `metric ${name} has a label ${JSON.stringify(label)}; use letters, digits and _`
    if (label === 'le' || !LABEL_NAME.test(label)) throw new TypeError(message)
  }
  if (new Set(labels).size !== labels.length) throw new TypeError(`metric ${name} has a label twice: ${labels.join(', ')}`)
  const isCount = Number.isInteger(maxSeries) && maxSeries >= 1
  if (!isCount) throw new TypeError(`metric ${name}: maxSeries is ${maxSeries}; use a positive whole number`)
  const ascending = bounds.every((bound, index) => Number.isFinite(bound) && (index === 0 || bound > bounds[index - 1]!))
  if (!ascending || bounds.length === 0 || bounds.length > MAX_BOUNDS) {
    throw new TypeError(`metric ${name}: bounds are 1 to ${MAX_BOUNDS} ascending numbers, and are ${bounds.join(', ')}`)
  }
  return options
}

/** The metrics of this process. In a worker, the supervisor shows them on the admin listener at /metrics. */
export const metrics: Metrics = new Metrics()
