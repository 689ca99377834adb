/** The shape of one measurement, of a workload's summary, and how the first becomes the second. Pure. */
import { median, medianRatio } from './statistics.ts'
import { LOG_COST, TELEMETRY_COST } from './workloads.ts'

export interface Measurement {
  readonly workload: string
  readonly contender: string
  readonly round: number
  /** CPU of the whole process tree, per request. */
  readonly userMicros: number
  readonly systemMicros: number
  readonly requestsPerSecond: number
  readonly p50Micros: number
  readonly p99Micros: number
  /** NaN where the driver does not say. */
  readonly p999Micros: number
  /** NaN where the driver does not say. */
  readonly maxMicros: number
  /** Of the whole tree, at the end of the measurement. */
  readonly memoryKiloBytes: number
  /** The part of it that is no file (process-usage.ts says why that matters). */
  readonly ownKiloBytes: number
  /** Memory that each idle connection added; NaN in other workloads. */
  readonly idleConnectionBytes: number
  /** p99 of how late the open-loop client itself was; NaN elsewhere. */
  readonly clientDelayMicros: number
  /** Part of the requests that needed no new connection to the origin; NaN where requests are not counted. */
  readonly reuseShare: number
  /** Requests that went wrong. Anything but 0 makes the other numbers doubtful. */
  readonly failures: number
}

export interface Summary {
  readonly workload: string
  readonly contender: string
  readonly rounds: number
  readonly microsPerRequest: number
  readonly userMicros: number
  readonly systemMicros: number
  /** Contender that the ratios are taken of (`baseOf`). */
  readonly base: string
  /** microsPerRequest relative to the base's in the same round; NaN without it. */
  readonly ratio: number
  readonly requestsPerSecond: number
  readonly p50Micros: number
  readonly p99Micros: number
  /** p99Micros relative to the base's in the same round. */
  readonly p99Ratio: number
  readonly p999Micros: number
  readonly maxMicros: number
  readonly memoryKiloBytes: number
  readonly idleConnectionBytes: number
  readonly clientDelayMicros: number
  readonly reuseShare: number
  /** Sum over the rounds. */
  readonly failures: number
}

/** nginx told the same things as the others, and the same with an access log of the fields that Cirque's has. */
export const NGINX = 'nginx'
export const NGINX_LOG = 'nginx-log'

/**
 * What a contender is held against: its own form without a log where the log is looked at, else nginx, with an access log
 * for those that run as they come.
 */
export function baseOf(workload: string, contender: string): string {
  if (workload === TELEMETRY_COST) return withLessTelemetry(contender)
  if (workload === LOG_COST) return contender.replace(/-log(?=$|-before$)/, '')
  return isAsItComes(contender) ? NGINX_LOG : NGINX
}

/** Traces are held against the metrics that are counted anyway, everything else against nothing. */
function withLessTelemetry(contender: string): string {
  if (contender.startsWith('cirque-traces')) return contender.replace('-traces', '')
  return contender.replace(/^cirque(-log|-bare)?/, 'cirque-bare')
}

/** Contenders that nobody told anything but where to listen and whom to ask, and the nginx beside them. */
export function isAsItComes(contender: string): boolean {
  return /-default(-before)?$/.test(contender) || contender === NGINX_LOG
}

/** One row for each contender, in the order of their first measurement. */
export function summarize(measurements: readonly Measurement[], workload: string): Summary[] {
  const all = measurements.filter((measurement) => measurement.workload === workload)
  const values = (value: (measurement: Measurement) => number) =>
    all.map((measurement) => ({ round: measurement.round, contender: measurement.contender, value: value(measurement) }))
  const total = (measurement: Measurement): number => measurement.userMicros + measurement.systemMicros
  return [...new Set(all.map((measurement) => measurement.contender))].map((contender) => {
    const own = all.filter((measurement) => measurement.contender === contender)
    const base = baseOf(workload, contender)
    const middle = (value: (measurement: Measurement) => number): number => median(own.map(value))
    return {
      workload,
      contender,
      rounds: own.length,
      microsPerRequest: middle(total),
      userMicros: middle((measurement) => measurement.userMicros),
      systemMicros: middle((measurement) => measurement.systemMicros),
      base,
      ratio: medianRatio(values(total), contender, base),
      requestsPerSecond: middle((measurement) => measurement.requestsPerSecond),
      p50Micros: middle((measurement) => measurement.p50Micros),
      p99Micros: middle((measurement) => measurement.p99Micros),
      p99Ratio: medianRatio(values((measurement) => measurement.p99Micros), contender, base),
      p999Micros: middle((measurement) => measurement.p999Micros),
      maxMicros: middle((measurement) => measurement.maxMicros),
      memoryKiloBytes: middle((measurement) => measurement.memoryKiloBytes),
      idleConnectionBytes: middle((measurement) => measurement.idleConnectionBytes),
      clientDelayMicros: middle((measurement) => measurement.clientDelayMicros),
      reuseShare: middle((measurement) => measurement.reuseShare),
      failures: own.reduce((sum, measurement) => sum + measurement.failures, 0),
    }
  })
}
