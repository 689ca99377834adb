/** Text of the results: aligned tables and the closing lines. Pure. */
import { alignedTable } from './aligned-table.ts'
import type { Comparison } from './comparison.ts'
import type { FunctionTime } from './cpu-profile.ts'
import { LOG_COST, TELEMETRY_COST, type Workload } from './workloads.ts'
import { isAsItComes, type Summary } from './measurement.ts'
import type { TargetResult } from './targets.ts'

interface Column {
  readonly title: string
  cell(summary: Summary): string
}

export function duration(micros: number): string {
  if (!Number.isFinite(micros)) return '-'
  if (micros < 10_000) return `${Math.round(micros)} us`
  return micros < 10_000_000 ? `${(micros / 1000).toFixed(micros < 100_000 ? 1 : 0)} ms` : `${(micros / 1e6).toFixed(1)} s`
}

function decimal(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '-'
}

/** Three significant digits where it matters: 9.73, 55.1, 7346. */
function cpu(micros: number): string {
  return decimal(micros, micros < 100 ? 2 : 0)
}

const CONTENDER: Column = { title: 'contender', cell: (summary) => summary.contender }
/** Titles with `BASE` name the contender that the ratios of a table are taken of. */
const CPU: readonly Column[] = [
  { title: 'us/request', cell: (summary) => cpu(summary.microsPerRequest) },
  { title: 'user', cell: (summary) => cpu(summary.userMicros) },
  { title: 'sys', cell: (summary) => cpu(summary.systemMicros) },
  { title: 'x BASE', cell: (summary) => decimal(summary.ratio, 2) },
]
const RATE: Column = { title: 'req/s', cell: (summary) => decimal(summary.requestsPerSecond, 0) }
const P50: Column = { title: 'p50', cell: (summary) => duration(summary.p50Micros) }
const P99: readonly Column[] = [
  { title: 'p99', cell: (summary) => duration(summary.p99Micros) },
  { title: 'x BASE', cell: (summary) => decimal(summary.p99Ratio, 2) },
]
const TAIL: readonly Column[] = [
  { title: 'p99.9', cell: (summary) => duration(summary.p999Micros) },
  { title: 'max', cell: (summary) => duration(summary.maxMicros) },
]
/** Of the latency, what the client itself may have added. */
const CLIENT_DELAY: Column = { title: 'client late p99', cell: (summary) => duration(summary.clientDelayMicros) }
const REUSE: Column = { title: 'reused', cell: (summary) => `${decimal(summary.reuseShare * 100, 2)} %` }
const MEMORY: Column = { title: 'memory', cell: (summary) => `${decimal(summary.memoryKiloBytes / 1000, 1)} MB` }
const FAILURES: Column = { title: 'failures', cell: (summary) => String(summary.failures) }

const COLUMNS: Readonly<Record<Workload['kind'], readonly Column[]>> = {
  handshakes: [CONTENDER, ...CPU, RATE, REUSE, MEMORY, FAILURES],
  closed: [CONTENDER, ...CPU, RATE, P50, ...P99, REUSE, MEMORY, FAILURES],
  streams: [CONTENDER, ...CPU, RATE, P50, ...P99, REUSE, MEMORY, FAILURES],
  open: [CONTENDER, ...CPU, RATE, P50, ...P99, ...TAIL, CLIENT_DELAY, REUSE, MEMORY, FAILURES],
  idle: [
    CONTENDER,
    { title: 'kB/connection', cell: (summary) => decimal(summary.idleConnectionBytes / 1000, 2) },
    { title: 'memory with all', cell: (summary) => `${decimal(summary.memoryKiloBytes / 1000, 1)} MB` },
    { title: 'lost', cell: (summary) => String(summary.failures) },
  ],
}

/** One table for those that are told the same things, one for those that run as they come. */
export function workloadTable(workload: Workload, summaries: readonly Summary[]): string {
  const title = `${workload.name}: ${workload.title}`
  if (workload.name === LOG_COST) return table(workload, `${title}`, 'none', summaries)
  if (workload.name === TELEMETRY_COST) return table(workload, title, 'less', summaries)
  const [first, others] = [false, true].map((asItComes) => summaries.filter((summary) => isAsItComes(summary.contender) === asItComes))
  const parts: string[] = []
  if (first !== undefined && first.length > 0) parts.push(table(workload, title, first[0]?.base ?? '', first))
  if (others !== undefined && others.length > 0) {
    parts.push(table(workload, `${workload.name}, as they come, access log on`, others[0]?.base ?? '', others))
  }
  return parts.join('\n')
}

function table(workload: Workload, title: string, base: string, summaries: readonly Summary[]): string {
  const columns = COLUMNS[workload.kind]
  const rows = summaries.map((summary) => columns.map((column) => column.cell(summary)))
  return `${title}\n${alignedTable([columns.map((column) => column.title.replace('BASE', base)), ...rows])}\n`
}

export function targetLines(results: readonly TargetResult[]): string {
  const measured = results.filter((result) => result.outcome !== 'not measured')
  const rows = measured.map((result) => {
    const off = Math.abs(result.value / result.limit - 1) * 100
    const by = Number.isFinite(off) ? ` by ${off.toFixed(off < 1 ? 2 : 0)} %` : ''
    const value = `${decimal(result.value, 2)} ${result.unit}`.trim()
    return [result.title, value, `${SIGNS[result.side]} ${result.limit}`, `${result.outcome}${by}`]
  })
  const others = results.length - measured.length
  return `targets\n${alignedTable(rows)}\n${others === 0 ? '' : `${others} not measured in this run\n`}`
}

const SIGNS = { most: '<=', least: '>=' } as const

const COMPARISON_TITLES = ['workload', '', 'new', 'old', '', 'new / old', 'rounds', 'quiet', 'p99', 'memory']

/** New and old with the ratio beside them; `rounds` are the extremes among the rounds, `quiet` the ratio of the lower quartiles. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map((comparison) => {
    const cost = comparison.unit === 'us' ? cpu : (bytes: number): string => decimal(bytes, 0)
    return [
      comparison.workload, comparison.contender, cost(comparison.after), cost(comparison.before),
      comparison.unit === 'us' ? 'us/request' : 'bytes/connection',
      decimal(comparison.ratio, 3), `${decimal(comparison.lowest, 2)} to ${decimal(comparison.highest, 2)}`,
      decimal(comparison.quietRatio, 3),
      decimal(comparison.p99Ratio, 2), decimal(comparison.memoryRatio, 2),
    ]
  })
  if (rows.length === 0) return 'nothing was measured of both\n'
  return `${alignedTable([COMPARISON_TITLES, ...rows])}\n`
}

export function hottestTable(functions: readonly FunctionTime[]): string {
  const rows = functions.map((time) => [`${(time.share * 100).toFixed(1).padStart(5)} %  ${time.name}`, time.where])
  return `${alignedTable(rows)}\n`
}
