/**
 * Drives one closed-loop workload with `wrk` and reads its result.
 * wrk's own text is for people; the script that we give it prints one JSON line instead.
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { runToEnd } from './managed-process.ts'
import type { Workload } from './workloads.ts'

export interface WrkResult {
  readonly requests: number
  readonly bytes: number
  readonly seconds: number
  /** Connect, read, write and timeout errors. */
  readonly socketErrors: number
  /** Answers with a status above 399. */
  readonly badStatus: number
  readonly p50Micros: number
  readonly p99Micros: number
  readonly maxMicros: number
}

const MARK = 'CIRQUE-BENCH '
/** What the script prints, each with the Lua expression that it comes from. */
const FIGURES = {
  requests: 'summary.requests', bytes: 'summary.bytes', micros: 'summary.duration',
  socketErrors: 'e.connect + e.read + e.write + e.timeout', badStatus: 'e.status',
  p50: 'latency:percentile(50)', p99: 'latency:percentile(99)', max: 'latency.max',
} as const

/** No `request` function: wrk then builds the request once, and the script costs nothing while it runs. */
export function wrkScript(workload: Workload): string {
  const names = Object.keys(FIGURES)
  const lines: string[] = []
  if (workload.uploadBytes > 0) lines.push('wrk.method = "POST"', `wrk.body = string.rep("x", ${workload.uploadBytes})`)
  lines.push(
    'done = function(summary, latency)',
    '  local e = summary.errors',
    `  io.write(string.format('${MARK}{${names.map((name) => `"${name}":%d`).join(',')}}\\n',`,
    `    ${Object.values(FIGURES).join(', ')}))`,
    'end',
  )
  return `${lines.join('\n')}\n`
}

export function parseWrk(output: string): WrkResult {
  const line = output.split('\n').find((candidate) => candidate.startsWith(MARK))
  if (line === undefined) throw new Error(`wrk printed no result:\n${output}`)
  const raw = JSON.parse(line.slice(MARK.length)) as Record<keyof typeof FIGURES, number>
  return {
    requests: raw.requests, bytes: raw.bytes, seconds: raw.micros / 1e6,
    socketErrors: raw.socketErrors, badStatus: raw.badStatus,
    p50Micros: raw.p50, p99Micros: raw.p99, maxMicros: raw.max,
  }
}

export async function runWrk(workload: Workload, port: number, seconds: number, core: number, folder: string): Promise<WrkResult> {
  const script = path.join(folder, `${workload.name}.lua`)
  writeFileSync(script, wrkScript(workload))
  const args = ['-t1', `-c${workload.connections}`, `-d${seconds}s`, '--timeout', '20s', '-s', script]
  if (workload.closeEach) args.push('-H', 'Connection: close')
  args.push(`${workload.tls === 'downstream' ? 'https' : 'http'}://127.0.0.1:${port}${workload.path}`)
  return parseWrk(await runToEnd('wrk', { command: 'wrk', args }, core))
}
