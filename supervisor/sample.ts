/**
 * What a server is doing and what it has counted, at one moment: all that the status page and `cirque top` know. Counts are totals
 * since the start; whoever shows them takes two samples, and figures.ts makes rates, shares and percentiles of the difference.
 *
 * Fields are only added, as builds of before and after read it. A name may hold anything, since the application has given it: it is
 * shown as text, never as more than that. Of clients and of what they asked for nothing is in it, of the disk only names of folders.
 * Pure.
 */
import path from 'node:path'
import { FLAGS, type Flag } from '../src/errors/access-flags.ts'
import type { ErrorKind } from '../src/errors/proxy-error.ts'
import type { OperationOutcome } from '../src/ipc/messages.ts'
import type { TRAFFIC_METRICS } from '../src/ipc/metric-table.ts'
import type { OpenCounts } from '../src/ipc/open-counts.ts'
import type { Health } from './admin-server.ts'
import type { SlotStatus, WorkerStatus } from './fleet-status.ts'
import type { MetricLedger, MetricTotals } from './metric-ledger.ts'
import type { CurrentStatus } from './operator-desk.ts'
import type { OperationProgress } from './upgrade.ts'

/** Pairs and not an object, as a name may be any text. */
export type NamedCounts = readonly (readonly [name: string, count: number])[]

/** How often values lay in each bucket, by `bounds` of the sample; zeros at the end are left out. */
export type BucketCounts = readonly number[]

export interface Sample {
  readonly version: string
  readonly node: string
  readonly pid: number
  /** Both in ms since 1970. */
  readonly takenAtMs: number
  readonly startedAtMs: number
  readonly state: string
  readonly ready: boolean
  /** Why it is not ready; ''. */
  readonly reason: string
  /** Name of the application's file, and of the folders of the release that serves and of the one that `rollback` goes back to; ''. */
  readonly application: string
  readonly release: string
  readonly previousRelease: string
  readonly generation: number
  /** Whether workers count what they do; otherwise there are neither listeners nor upstreams with anything in them. */
  readonly counting: boolean
  /** Workers whose counts could not be read. */
  readonly missing: number
  /** What is open, as of the last heartbeats. */
  readonly open: OpenCounts
  readonly slots: readonly SampledSlot[]
  /** Upper bounds of all buckets, in seconds, ascending. Empty: nothing was measured yet. */
  readonly bounds: readonly number[]
  readonly listeners: readonly SampledListener[]
  readonly upstreams: readonly SampledUpstream[]
  /** Requests and connections that passed a limit, by its name. */
  readonly limits: NamedCounts
  /** Workers that ended although they were not to, by why. */
  readonly deaths: NamedCounts
  /** What the flags mean that occur. */
  readonly flags: readonly (readonly [flag: string, meaning: string])[]
  /** What is being done for an operator, such as a restart of workers; '' when nothing is, or when `change` says it. */
  readonly operation: string
  /** An upgrade, a reload or a roll-back that is under way; null: there is none. */
  readonly change: OperationProgress | null
  /** How the last ones ended, the last one first. */
  readonly changes: readonly SampledChange[]
  /** What an operator should look at, a sentence each: slots without a worker, lost lines of logs, what workers want to have known. */
  readonly notices: readonly string[]
}

export interface SampledSlot {
  readonly slot: number
  readonly state: string
  readonly restarts: number
  /** Id of the sibling that accepts here as well; '' when none does. */
  readonly standIn: string
  readonly workers: readonly SampledWorker[]
}

/** Where in its slot a worker is: the one that serves, its successor, the one before that can come back, a reserve, on its way out. */
export type WorkerPlace = 'current' | 'incoming' | 'previous' | 'spare' | 'draining'

export interface SampledWorker extends Omit<WorkerStatus, 'open' | 'notices' | 'acceptingMs'> {
  readonly place: WorkerPlace
  readonly connections: number
  readonly activeRequests: number
  /** Begun so far. */
  readonly requests: number
}

export interface SampledListener {
  readonly name: string
  /** Where it is bound; '' for one that is gone. */
  readonly address: string
  /** Requests that ended, by class of the status (`2xx`; `none`: none was sent) and flag. */
  readonly requests: readonly (readonly [code: string, flag: string, count: number])[]
  /** Heads that never became a request, by flag. */
  readonly refused: NamedCounts
  readonly durations: BucketCounts
  readonly bytesIn: number
  readonly bytesOut: number
}

export interface SampledUpstream {
  readonly name: string
  readonly attempts: number
  /** Attempts that failed, by kind of error; what is the client's doing, as when it leaves, is no failure of an origin. */
  readonly errors: NamedCounts
  /** Attempts that were answered with 5xx. */
  readonly faults: number
  readonly retries: number
  /** Attempts that had a connection which had carried exchanges before, and that had a new one. */
  readonly reused: number
  readonly fresh: number
  readonly connectTimes: BucketCounts
  readonly firstBytes: BucketCounts
}

export interface SampledChange extends Pick<OperationOutcome, 'id' | 'kind' | 'result' | 'reason' | 'generation' | 'steps'> {
  /** Name of the folder of the release that it was about. */
  readonly release: string
  /** In ms since 1970; 0: not known. */
  readonly endedAtMs: number
}

/** What is known besides what was counted. */
export interface SampledServer {
  readonly status: CurrentStatus
  readonly health: Health
  readonly takenAtMs: number
  readonly startedAtMs: number
  readonly counting: boolean
}

/** Ours all have the same bounds. */
const BUCKETED = [
  'http_server_request_duration_seconds', 'cirque_upstream_first_byte_seconds', 'cirque_upstream_connect_seconds',
] as const satisfies (keyof typeof TRAFFIC_METRICS)[]

/** Of these so many are told. */
const MAX_CHANGES = 5
const MAX_NOTICES = 10
/** Of a reason or a notice, in characters. */
const MAX_TEXT = 400

export function sampleOf(server: SampledServer, { totals, missing }: ReturnType<MetricLedger['totals']>): Sample {
  const { status, health } = server
  const { version, node, pid, state, application, release, previousRelease, generation, slots, progress = null } = status
  const bounds = BUCKETED.map(name => totals.get(name)?.family.bounds).find(found => found !== undefined) ?? []
  const listeners = listenersOf(totals, bounds, status.listeners)
  return {
    version, node, pid, takenAtMs: server.takenAtMs, startedAtMs: server.startedAtMs,
    state, ready: health.ready, reason: health.reason,
    application: path.basename(application), release: path.basename(release), previousRelease: path.basename(previousRelease), generation,
    counting: server.counting, missing, open: status.totals, slots: slots.map(slotOf),
    bounds, listeners, upstreams: upstreamsOf(totals, bounds),
    limits: countsBy(totals, 'cirque_limit_exceeded_total', 'limit'), deaths: countsBy(totals, 'cirque_worker_restarts_total', 'reason'),
    flags: flagsIn(listeners),
    operation: progress === null ? status.operation : '', change: progress,
    changes: status.outcomes.slice(-MAX_CHANGES).reverse().map(changeOf),
    notices: noticesOf(status, missing),
  }
}

function slotOf({ slot, state, restarts, standIn, worker, incoming, previous, spare, draining }: SlotStatus): SampledSlot {
  const places: readonly (readonly [WorkerPlace, WorkerStatus | null])[] = [
    ['current', worker], ['incoming', incoming], ['previous', previous], ['spare', spare],
    ...draining.map(one => ['draining', one] as const),
  ]
  return {
    slot, state, restarts, standIn: standIn ?? '',
    workers: places.flatMap(([place, one]) => one === null ? [] : [workerOf(place, one)]),
  }
}

function workerOf(place: WorkerPlace, { open, notices: _, acceptingMs: __, ...worker }: WorkerStatus): SampledWorker {
  return { ...worker, place, connections: open.connections, activeRequests: open.activeExchanges, requests: open.exchanges }
}

function changeOf({ id, kind, result, reason, generation, steps, to, endedAt = 0 }: OperationOutcome): SampledChange {
  return { id, kind, result, reason: tellable(reason), generation, steps, release: path.basename(to), endedAtMs: endedAt }
}

function noticesOf({ slots, totals, errorReports }: CurrentStatus, missing: number): string[] {
  const vacant = slots.filter(({ worker, state }) => worker === null && state !== 'surplus' && state !== 'stopped')
  const silent = slots.flatMap(({ worker }) => worker?.silent === true ? [worker.id] : [])
  const { exhausted, logLinesDropped, logFaults, traceSpansDropped } = totals
  const reportsProblem = tellable(errorReports?.problem ?? '')
  const own = [
    ...vacant.map(({ slot, state, standIn }) => {
      return `slot ${slot} is ${state}${standIn === null ? '' : `, and ${standIn} serves there as well`}`
    }),
    ...silent.length === 0 ? [] : [`nothing is heard of ${silent.join(', ')}`],
    ...missing === 0 ? [] : [`the counts of ${missing} ${missing === 1 ? 'worker' : 'workers'} cannot be read`],
    ...exhausted === 0 ? [] : [`${exhausted} ${exhausted === 1 ? 'worker has' : 'workers have'} spent the budget of memory`],
    ...logLinesDropped + logFaults === 0 ? [] : [`logs: ${logLinesDropped} lines were lost, ${logFaults} writes have failed`],
    ...traceSpansDropped === 0 ? [] : [`traces: ${traceSpansDropped} spans were lost`],
    ...reportsProblem === '' ? [] : [`error reports do not get through: ${reportsProblem}`],
  ]
  // They come from processes that are not ours, of any build.
  const told = slots.flatMap(({ worker }) => worker?.notices ?? []).map(notice => tellable(String(notice)))
  return [...new Set([...own, ...told])].slice(0, MAX_NOTICES)
}

/** Reasons hold what applications throw, and that may hold the address of a database, with its password. */
function tellable(text: string): string {
  const safe = text.replaceAll(/\/\/[^/@\s]{1,200}@/g, '//***@')
  return safe.length <= MAX_TEXT ? safe : `${safe.slice(0, MAX_TEXT - 3)}...`
}

/** One series, its labels by their names. */
interface Counted {
  readonly labels: Readonly<Record<string, string>>
  readonly values: Float64Array
  readonly bounds: readonly number[]
}

function seriesOf(totals: MetricTotals, name: string): Counted[] {
  const total = totals.get(name)
  if (total === undefined) return []
  const { labels, bounds } = total.family
  return [...total.series.values()].map(({ labelValues, values }) => {
    return { labels: Object.fromEntries(labels.map((label, index) => [label, labelValues[index] ?? ''])), values, bounds }
  })
}

function countsBy(totals: MetricTotals, name: string, label: string): NamedCounts {
  const counts = new Tally()
  for (const { labels, values } of seriesOf(totals, name)) counts.add(labels[label] ?? '', values[0]!)
  return counts.entries()
}

/** Counts by name. */
class Tally {
  readonly #counts = new Map<string, number>()
  add(name: string, count: number): void { if (count > 0) this.#counts.set(name, (this.#counts.get(name) ?? 0) + count) }
  entries(): NamedCounts { return [...this.#counts] }
}

/** Sum of histograms with the same bounds. */
class Buckets {
  readonly #counts: number[] = []
  readonly #bounds: string

  constructor(bounds: readonly number[]) { this.#bounds = bounds.join() }

  /** What another build has measured in other buckets does not fit, and is left out. */
  add({ bounds, values }: Counted): void {
    if (bounds.join() !== this.#bounds) return
    for (let index = 0; index <= bounds.length; index++) this.#counts[index] = (this.#counts[index] ?? 0) + values[index]!
  }

  get counts(): BucketCounts { return this.#counts.slice(0, this.#counts.findLastIndex(count => count > 0) + 1) }
}

/** All values of a histogram. */
function countOf({ values }: Counted): number { return values.subarray(0, -1).reduce((sum, count) => sum + count, 0) }

class ListenerTally {
  readonly requests = new Map<string, [code: string, flag: string, count: number]>()
  readonly refused = new Tally()
  readonly durations: Buckets
  bytesIn = 0
  bytesOut = 0

  constructor(bounds: readonly number[]) { this.durations = new Buckets(bounds) }

  addRequests(code: string, flag: string, count: number): void {
    const key = `${code} ${flag}`
    const known = this.requests.get(key)
    if (known === undefined) this.requests.set(key, [code, flag, count])
    else known[2] += count
  }
}

/** Those that are bound, in their order, then what others had counted. */
function listenersOf(totals: MetricTotals, bounds: readonly number[], bound: CurrentStatus['listeners']): SampledListener[] {
  const tallies = new Map(bound.map(({ name }) => [name, new ListenerTally(bounds)]))
  const tallyOf = ({ labels }: Counted): ListenerTally => known(tallies, labels['listener'] ?? '', () => new ListenerTally(bounds))
  for (const one of seriesOf(totals, 'cirque_requests_total')) {
    tallyOf(one).addRequests(one.labels['code'] ?? '', one.labels['flag'] ?? '', one.values[0]!)
  }
  for (const one of seriesOf(totals, 'cirque_requests_refused_total')) tallyOf(one).refused.add(one.labels['flag'] ?? '', one.values[0]!)
  for (const one of seriesOf(totals, 'http_server_request_duration_seconds')) tallyOf(one).durations.add(one)
  for (const one of seriesOf(totals, 'cirque_request_bytes_total')) tallyOf(one).bytesIn += one.values[0]!
  for (const one of seriesOf(totals, 'cirque_response_bytes_total')) tallyOf(one).bytesOut += one.values[0]!
  return [...tallies].map(([name, { requests, refused, durations, bytesIn, bytesOut }]) => ({
    name, address: bound.find(one => one.name === name)?.bound ?? '',
    requests: [...requests.values()], refused: refused.entries(), durations: durations.counts, bytesIn, bytesOut,
  }))
}

/** Attempts that ended so say nothing of the origin. */
const CLIENTS_FAULTS: ReadonlySet<string> = new Set<ErrorKind>(['CLIENT_GONE', 'SLOW_READER', 'SLOW_BODY', 'BODY_TOO_LARGE'])

class UpstreamTally {
  attempts = 0
  readonly errors = new Tally()
  faults = 0
  retries = 0
  reused = 0
  fresh = 0
  readonly connectTimes: Buckets
  readonly firstBytes: Buckets

  constructor(bounds: readonly number[]) {
    this.connectTimes = new Buckets(bounds)
    this.firstBytes = new Buckets(bounds)
  }

  addAttempts(status: string, error: string, count: number): void {
    this.attempts += count
    if (CLIENTS_FAULTS.has(error)) return
    if (error !== '') this.errors.add(error, count)
    else if (status.length === 3 && status.startsWith('5')) this.faults += count
  }
}

function upstreamsOf(totals: MetricTotals, bounds: readonly number[]): SampledUpstream[] {
  const tallies = new Map<string, UpstreamTally>()
  const tallyOf = ({ labels }: Counted): UpstreamTally => known(tallies, labels['upstream'] ?? '', () => new UpstreamTally(bounds))
  for (const one of seriesOf(totals, 'http_client_request_duration_seconds')) {
    tallyOf(one).addAttempts(one.labels['http_response_status_code'] ?? '', one.labels['error_type'] ?? '', countOf(one))
  }
  for (const one of seriesOf(totals, 'cirque_upstream_retries_total')) tallyOf(one).retries += one.values[0]!
  for (const one of seriesOf(totals, 'cirque_upstream_reuse_total')) {
    tallyOf(one)[one.labels['reused'] === 'true' ? 'reused' : 'fresh'] += one.values[0]!
  }
  for (const one of seriesOf(totals, 'cirque_upstream_connect_seconds')) tallyOf(one).connectTimes.add(one)
  for (const one of seriesOf(totals, 'cirque_upstream_first_byte_seconds')) tallyOf(one).firstBytes.add(one)
  return [...tallies].map(([name, { attempts, errors, faults, retries, reused, fresh, connectTimes, firstBytes }]) => ({
    name, attempts, errors: errors.entries(), faults, retries, reused, fresh,
    connectTimes: connectTimes.counts, firstBytes: firstBytes.counts,
  }))
}

function known<Value>(map: Map<string, Value>, name: string, make: () => Value): Value {
  let found = map.get(name)
  if (found === undefined) map.set(name, found = make())
  return found
}

function flagsIn(listeners: readonly SampledListener[]): (readonly [string, string])[] {
  const flags = new Set(listeners.flatMap(({ requests, refused }) => {
    return [...requests.map(([, flag]) => flag), ...refused.map(([flag]) => flag)]
  }))
  flags.delete('-')
  return [...flags].toSorted().map(flag => [flag, Object.hasOwn(FLAGS, flag) ? FLAGS[flag as Flag].replaceAll('`', '') : 'several'])
}
