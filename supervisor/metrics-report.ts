/** What /metrics shows: what workers have counted, and what the supervisor knows. Pure. */
import { isMetricNames } from '../src/config/metric-names.ts'
import type { OperationKind, OperationOutcome } from '../src/ipc/messages.ts'
import type { ShownMetric } from '../src/telemetry/exporters/prometheus-text.ts'
import { compatTotals } from './compat-names.ts'
import { addAll, DEATH_REASONS, ownFamily, type MetricLedger, type MetricTotals, type OwnMetric } from './metric-ledger.ts'
import { WorkerState, type WorkerProcess } from './worker-process.ts'

/** What a supervisor knows besides what is counted. */
export interface SupervisorFacts {
  readonly version: string
  readonly nodeVersion: string
  readonly generation: number
  readonly workers: Iterable<Pick<WorkerProcess, 'state'>>
  /** When this server was started, in ms since 1970. */
  readonly startedAtMs: number
  readonly rssBytes: number
  readonly cpuSeconds: number
}

const WORKER_STATES: Readonly<Record<Exclude<WorkerState, typeof WorkerState.Gone>, string>> = {
  [WorkerState.Starting]: 'starting', [WorkerState.Ready]: 'ready', [WorkerState.Accepting]: 'accepting',
  [WorkerState.Paused]: 'paused', [WorkerState.PausedInPart]: 'paused', [WorkerState.Draining]: 'draining',
}

const OPERATIONS: readonly OperationKind[] = ['upgrade', 'reload', 'rollback']
const RESULTS: readonly OperationOutcome['result'][] = ['committed', 'refused', 'rolled-back', 'superseded']

/** In the order of their names. @param names other proxies whose names are shown as well */
export function metricsReport(ledger: MetricLedger, facts: SupervisorFacts, names: readonly string[] = []): ShownMetric[] {
  const { totals, missing } = ledger.totals()
  // A counter that begins with its first event has not grown for Prometheus.
  for (const reason of DEATH_REASONS) add(totals, 'cirque_worker_restarts_total', 0, reason)
  for (const kind of OPERATIONS) for (const result of RESULTS) add(totals, 'cirque_upgrades_total', 0, kind, result)
  const states = new Map<string, number>([...new Set(Object.values(WORKER_STATES))].map(name => [name, 0]))
  for (const { state } of facts.workers) {
    if (state === WorkerState.Gone) continue
    const name = WORKER_STATES[state]
    states.set(name, states.get(name)! + 1)
  }
  for (const [name, count] of states) add(totals, 'cirque_workers', count, name)
  add(totals, 'cirque_build_info', 1, facts.version, facts.nodeVersion)
  add(totals, 'cirque_config_generation', facts.generation)
  if (!totals.has('cirque_config_last_reload_successful')) add(totals, 'cirque_config_last_reload_successful', 1)
  add(totals, 'cirque_sentry_suppressed_total', 0)
  add(totals, 'cirque_scrape_missing_workers', missing)
  add(totals, 'process_resident_memory_bytes', facts.rssBytes)
  add(totals, 'process_cpu_seconds_total', facts.cpuSeconds)
  add(totals, 'process_start_time_seconds', facts.startedAtMs / 1000)
  const all = names.length === 0 ? totals : new Map([...totals, ...compatTotals(totals, names.filter(isMetricNames))])
  return [...all.values()].toSorted((one, other) => one.family.name < other.family.name ? -1 : 1)
    .map(({ family, series }) => ({ family, series: series.values() }))
}

function add(totals: MetricTotals, name: OwnMetric, value: number, ...labelValues: readonly string[]): void {
  addAll(totals, [{ family: ownFamily(name), labelValues, values: Float64Array.of(value) }])
}
