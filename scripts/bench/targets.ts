/** The speed that Cirque promises, relative to nginx in the same run, and whether a run kept it. Pure. */
import { baseOf, type Summary } from './measurement.ts'
import { LOG_COST, TELEMETRY_COST } from './workloads.ts'

export interface TargetResult {
  readonly title: string
  readonly limit: number
  /** `most`: up to the limit is met; `least`: from the limit on. */
  readonly side: 'most' | 'least'
  /** NaN when the run did not measure it. */
  readonly value: number
  readonly unit: string
  readonly outcome: 'met' | 'missed' | 'not measured'
}

interface Target {
  readonly title: string
  readonly limit: number
  readonly side?: 'least'
  readonly unit: string
  value(find: (workload: string, contender: string) => Summary | undefined, nodePeers: readonly string[]): number
}

function ratio(title: string, workload: string, limit: number, contender = 'cirque'): Target {
  return { title, limit, unit: `x ${baseOf(workload, contender)}`, value: (find) => find(workload, contender)?.ratio ?? Number.NaN }
}

function p99Ratio(title: string, workload: string, limit: number): Target {
  return { title, limit, unit: 'x nginx', value: (find) => find(workload, 'cirque')?.p99Ratio ?? Number.NaN }
}

const DEFAULT = 'cirque-default'

/** Connections to the origin are kept for what recent demand used, however many clients there are. */
function reuse(title: string, workload: string): Target {
  return {
    title, limit: 99.9, side: 'least', unit: '%',
    value: (find) => (find(workload, DEFAULT)?.reuseShare ?? Number.NaN) * 100,
  }
}

const TARGETS: readonly Target[] = [
  ratio('small, keep-alive: CPU', 'small', 1.25),
  ratio('100 kB: CPU', '100k', 0.85),
  ratio('10 MB: CPU', '10m', 1.0),
  p99Ratio('10 MB, 16 at a time: p99', '10m', 0.6),
  ratio('1000 connections: CPU', 'conns1000', 1.05),
  ratio('2000 connections: CPU', 'conns2000', 1.05),
  ratio('new connection each: CPU', 'newconn', 1.8),
  p99Ratio('equal offered rate: p99', 'latency', 1.1),
  ratio('as it comes, 64 connections: CPU', 'small', 1.25, DEFAULT),
  ratio('as it comes, 1000 connections: CPU', 'conns1000', 1.05, DEFAULT),
  ratio('as it comes, 2000 connections: CPU', 'conns2000', 1.05, DEFAULT),
  reuse('as it comes, 64 connections: reuse', 'small'),
  reuse('as it comes, 1000 connections: reuse', 'conns1000'),
  reuse('as it comes, 2000 connections: reuse', 'conns2000'),
  ratio('access log to a file: CPU', LOG_COST, 1.15, 'cirque-log'),
  ratio('metrics: CPU', TELEMETRY_COST, 1.03),
  ratio('metrics and an access log to a file: CPU', TELEMETRY_COST, 1.15, 'cirque-log'),
  ratio('traces of one request in a hundred, beside metrics: CPU', TELEMETRY_COST, 1.05, 'cirque-traces'),
  {
    title: 'small: CPU of the best Node proxy, at least 4 x ours',
    limit: 0.25,
    unit: 'x best Node proxy',
    value(find, nodePeers) {
      const best = Math.min(...nodePeers.map((name) => find('small', name)?.microsPerRequest ?? Number.POSITIVE_INFINITY))
      const own = find('small', 'cirque')?.microsPerRequest ?? Number.NaN
      return Number.isFinite(best) ? own / best : Number.NaN
    },
  },
  ratio('over TLS, keep-alive: CPU', 'tlskeep', 1.15),
  ratio('full handshake each: CPU', 'tlsfull', 1.15),
  ratio('resumed handshake each: CPU', 'tlsresumed', 1.05),
  ratio('10 MB over TLS: CPU', 'tls10m', 1.0),
  ratio('TLS to the origin, keep-alive: CPU', 'tlsupstream', 1.15),
  ratio('small over HTTP/2: CPU', 'h2small', 0.7),
  ratio('10 MB over HTTP/2: CPU', 'h2large', 0.9),
  ratio('HTTP/2 to the origin, 64 connections: CPU', 'h2upstream', 0.85),
  ratio('HTTP/2 to the origin, 1000 connections: CPU', 'h2upstream1000', 0.55),
  ratio('gRPC: CPU', 'grpc', 0.75),
  {
    title: 'idle connection: memory',
    limit: 7,
    unit: 'kB',
    value: (find) => (find('idle', 'cirque')?.idleConnectionBytes ?? Number.NaN) / 1000,
  },
]

export function judgeTargets(summaries: readonly Summary[], nodePeers: readonly string[]): TargetResult[] {
  const find = (workload: string, contender: string): Summary | undefined =>
    summaries.find((summary) => summary.workload === workload && summary.contender === contender)
  return TARGETS.map((target) => {
    const value = target.value(find, nodePeers)
    const side = target.side ?? 'most'
    const met = side === 'most' ? value <= target.limit : value >= target.limit
    const outcome = Number.isNaN(value) ? 'not measured' : met ? 'met' : 'missed'
    return { title: target.title, limit: target.limit, side, value, unit: target.unit, outcome }
  })
}
