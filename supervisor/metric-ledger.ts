/**
 * What all workers that ever were have counted. Each worker counts in a file of its own, in the state folder, which it maps and
 * which is read here (src/ipc/metric-memory.ts). When a worker is gone, whatever ended it, what it had counted is added to the base,
 * once, and its file goes. So totals are exact after a kill, and never go backwards: not over restarts, upgrades, and an exec or
 * a kill of the supervisor. Gauges are of living workers only.
 *
 *   <state folder>/metrics/1.0.3    of a worker that lives
 *   <state folder>/metrics/base     of all that are gone, and of the supervisor itself
 *
 * The base is replaced in one step and names the worker that was added last, so that a kill between that and the removal of the
 * worker's file does not have it counted twice.
 * A disk that cannot be written costs metrics and nothing else: a worker without a file counts for itself alone.
 *
 * Sums of floating-point numbers depend on their order, and adding a worker to the base changes the order: a sum of seconds would go
 * back by its last digit, which Prometheus takes for a restart, and adds the whole of it to a rate. So what is counted is added up
 * in whole 2^-20ths, of which every sum below 2^33 is exact.
 */
import path from 'node:path'
import { SUPERVISOR_METRICS, type MetricRow } from '../src/ipc/metric-table.ts'
import {
  countsOf, METRIC_MEMORY_BYTES, MetricReader, type Exemplar, type GaugeSum, type MetricFamily, type MetricSeries,
} from '../src/ipc/metric-memory.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { Identity } from './identities.ts'
import type { ExitReport } from './process-host.ts'
import type { WorkerProcess } from './worker-process.ts'

/** Where the files are. Every call but `close` may throw. */
export interface MetricDisk {
  makeFolder(folder: string): void
  /** Names in a folder; none when there is no folder. */
  list(folder: string): readonly string[]
  readText(file: string): string
  /** In one step: whoever reads finds the old text or the new one. */
  replace(file: string, text: string): void
  remove(file: string): void
  removeFolder(folder: string): void
  /** A file of zeros that takes its room on the disk at once: a mapped one that finds the disk full later kills its process. */
  create(file: string, bytes: number, owner: Pick<Identity, 'uid' | 'gid'>): MetricFile
  open(file: string): MetricFile
}

export interface MetricFile {
  /** Fills `into` from the byte at `from`. */
  read(into: Uint8Array, from: number): void
  close(): void
}

export type OwnMetric = keyof typeof SUPERVISOR_METRICS

/** One family with what is known of each of its series. */
export interface MetricTotal {
  readonly family: MetricFamily
  /** By the values of its labels, joined. */
  readonly series: Map<string, SeriesTotal>
}

export interface SeriesTotal {
  readonly labelValues: readonly string[]
  readonly values: Float64Array
  /** The last one of all workers that live. @default none */
  exemplar?: Exemplar
}

export type MetricTotals = Map<string, MetricTotal>

/** The base as it stands on the disk. */
interface WrittenBase {
  readonly format: 1
  /** Id of the worker that was added last; '' for none. */
  readonly added: string
  readonly families: readonly (MetricFamily & { readonly series: readonly (readonly [values: readonly number[], ...labels: string[]])[] })[]
}

const BASE = 'base'
/** How finely counters and sums of histograms are added up; 2^-20, about a millionth. */
const PARTS_OF_ONE = 2 ** 20
/** Of a base that was being replaced when its supervisor was killed. */
const BASE_NEXT = `${BASE}.next`

/** Why a worker ended that was not to. A word each, as labels are compared. */
export const DEATH_REASONS = ['exit', 'signal', 'silent', 'error', 'unknown'] as const
type DeathReason = (typeof DEATH_REASONS)[number]

function deathReason({ fatalSignal, failure }: EndedWorker, report: ExitReport): DeathReason {
  if (fatalSignal !== null) return 'silent'
  if (failure !== null) return 'error'
  if (report.signal !== null) return 'signal'
  return report.code === null ? 'unknown' : 'exit'
}

type EndedWorker = Pick<WorkerProcess, 'fatalSignal' | 'failure'>

interface WorkerFile {
  readonly file: MetricFile
  readonly reader: MetricReader
}

export class MetricLedger {
  readonly #folder: string
  readonly #disk: MetricDisk
  readonly #log: ProcessLog
  readonly #workers = new Map<string, WorkerFile>()
  #base: MetricTotals = new Map()
  #added = ''
  #failing = false

  constructor(stateFolder: string, disk: MetricDisk, log: ProcessLog) {
    this.#folder = path.join(stateFolder, 'metrics')
    this.#disk = disk
    this.#log = log
  }

  /** Takes over what a supervisor before us has left. @param living ids of its workers that are ours now */
  begin(living: ReadonlySet<string>): void {
    this.#readBase()
    for (const name of this.#listed()) {
      if (name === BASE) continue
      if (name === BASE_NEXT) { this.#remove(name); continue }
      if (this.#workers.has(name)) continue
      // It was added before that supervisor was killed.
      if (name === this.#added) { this.#remove(name); continue }
      try {
        this.#workers.set(name, this.#opened(this.#disk.open(this.#pathOf(name))))
      } catch (error) {
        this.#onTrouble(error)
        continue
      }
      if (!living.has(name)) this.fold(name)
    }
  }

  /** A worker is about to be started. @returns the file in which it counts; '': it counts for itself alone */
  create(worker: string, owner: Pick<Identity, 'uid' | 'gid'>): string {
    const file = this.#pathOf(worker)
    try {
      this.#disk.makeFolder(this.#folder)
      this.#workers.set(worker, this.#opened(this.#disk.create(file, METRIC_MEMORY_BYTES, owner)))
      this.#failing = false
      return file
    } catch (error) {
      this.#onTrouble(error)
      return ''
    }
  }

  /** The file in which a worker counts; '': there is none. */
  fileOf(worker: string): string { return this.#workers.has(worker) ? this.#pathOf(worker) : '' }

  /** A worker is gone: adds what it had counted to the base. */
  fold(worker: string): void {
    const known = this.#workers.get(worker)
    if (known === undefined) return
    this.#workers.delete(worker)
    try {
      const counted = known.reader.series().filter(({ family }) => family.kind !== 'gauge')
      addAll(this.#base, counted.map(({ family, labelValues, values }) => ({ family, labelValues, values })))
      this.#added = worker
      this.#writeBase()
    } catch (error) {
      this.#onTrouble(error)
    }
    known.file.close()
    this.#remove(worker)
  }

  /** Counts something of the supervisor's own, which is rare enough to be written down at once. */
  count(name: OwnMetric, labelValues: readonly string[] = [], times = 1): void {
    addAll(this.#base, [{ family: ownFamily(name), labelValues, values: Float64Array.of(times) }])
    this.#writeBase()
  }

  /** A worker has died that was not asked to end. */
  countDeath(worker: EndedWorker, report: ExitReport): void {
    this.count('cirque_worker_restarts_total', [deathReason(worker, report)])
  }

  /** What a gauge of the supervisor's own is from now on, over its own end too. */
  note(name: OwnMetric, value: number): void {
    this.#base.set(name, { family: ownFamily(name), series: new Map([['', { labelValues: [], values: Float64Array.of(value) }]]) })
    this.#writeBase()
  }

  /** Everything that was counted so far. @returns how many workers' files could not be read, too */
  totals(): { readonly totals: MetricTotals; readonly missing: number } {
    const totals: MetricTotals = new Map()
    let missing = 0
    for (const { family, series } of this.#base.values()) {
      addAll(totals, [...series.values()].map(one => ({ family, ...one })))
    }
    for (const { reader } of this.#workers.values()) {
      try { addAll(totals, reader.series()) } catch { missing++ }
    }
    return { totals, missing }
  }

  /** The server ends: nothing of this is left. */
  remove(): void {
    for (const { file } of this.#workers.values()) file.close()
    this.#workers.clear()
    for (const name of this.#listed()) this.#remove(name)
    try { this.#disk.removeFolder(this.#folder) } catch { /* There is something else in it. */ }
  }

  #opened(file: MetricFile): WorkerFile {
    return { file, reader: new MetricReader((into, from) => file.read(into, from)) }
  }

  #pathOf(name: string): string { return path.join(this.#folder, name) }

  #listed(): readonly string[] { try { return this.#disk.list(this.#folder) } catch { return [] } }

  #remove(name: string): void { try { this.#disk.remove(this.#pathOf(name)) } catch { /* It is gone. */ } }

  #readBase(): void {
    let text: string
    try { text = this.#disk.readText(this.#pathOf(BASE)) } catch { return }
    try {
      const { format, added, families } = JSON.parse(text) as WrittenBase
      if (format !== 1) throw new Error(`it has format ${String(format)}`)
      this.#added = added
      for (const { series, ...family } of families) {
        addAll(this.#base, series.map(([values, ...labelValues]) => ({ family, labelValues, values: Float64Array.from(values) })))
      }
    } catch (error) {
      this.#base = new Map()
      this.#log.warn('what workers had counted that are gone cannot be read: totals begin anew', { file: this.#pathOf(BASE), error })
    }
  }

  #writeBase(): void {
    const families = [...this.#base.values()].map(({ family, series }) => ({
      ...family, series: [...series.values()].map(({ labelValues, values }) => [[...values], ...labelValues] as const),
    }))
    const base: WrittenBase = { format: 1, added: this.#added, families }
    try {
      this.#disk.makeFolder(this.#folder)
      this.#disk.replace(this.#pathOf(BASE), JSON.stringify(base))
      this.#failing = false
    } catch (error) {
      this.#onTrouble(error)
    }
  }

  /** Said once, until the disk can be written again. */
  #onTrouble(error: unknown): void {
    if (!this.#failing) this.#log.error('metrics cannot be kept: some of what workers count is lost', { folder: this.#folder, error })
    this.#failing = true
  }
}

export function ownFamily(name: OwnMetric): MetricFamily {
  const { kind, help, labels }: MetricRow = SUPERVISOR_METRICS[name]
  return { name, kind, help, labels, bounds: [] }
}

/**
 * Adds series to totals of the same name. A build that has given a metric another kind, other labels or other bounds has made
 * another metric of it: what was counted as the old one does not fit, and the new one takes its place.
 */
export function addAll(totals: MetricTotals, series: readonly MetricSeries[]): void {
  // A family of one process is one object, however many series it has: its shape is compared once.
  const compared = new Map<MetricFamily, MetricTotal>()
  for (const { family, labelValues, values, exemplar } of series) {
    const isGauge = family.kind === 'gauge'
    // A process that has nothing to say of it, any more or yet.
    if (isGauge && Number.isNaN(values[0])) continue
    let total = compared.get(family)
    if (total === undefined) compared.set(family, total = totalOf(totals, family))
    const key = labelValues.join('\0')
    let known = total.series.get(key)
    const isNew = known === undefined
    const sum = known?.values ?? new Float64Array(countsOf(family))
    const over = family.over ?? 'sum'
    for (let index = 0; index < sum.length; index++) {
      const value = values[index]!
      const added = isGauge ? value : Math.floor(value * PARTS_OF_ONE) / PARTS_OF_ONE
      sum[index] = isNew ? added : together(over, sum[index]!, added)
    }
    if (known === undefined) total.series.set(key, known = { labelValues, values: sum })
    if (exemplar !== undefined && exemplar.at >= (known.exemplar?.at ?? 0)) known.exemplar = exemplar
  }
}

/** What there is of a family of that shape; of another one nothing is left. */
function totalOf(totals: MetricTotals, family: MetricFamily): MetricTotal {
  const known = totals.get(family.name)
  if (known !== undefined && isSameShape(known.family, family)) return known
  const total: MetricTotal = { family, series: new Map() }
  totals.set(family.name, total)
  return total
}

function together(over: GaugeSum, one: number, other: number): number {
  switch (over) {
    case 'greatest': return Math.max(one, other)
    case 'least': return Math.min(one, other)
    // Also what a newer build says of a gauge that this one does not know.
    default: return one + other
  }
}

function isSameShape(one: MetricFamily, other: MetricFamily): boolean {
  return one.kind === other.kind && one.labels.join() === other.labels.join() && one.bounds.join() === other.bounds.join()
}
