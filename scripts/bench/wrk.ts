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

/** No `request` function: wrk then builds the request once, and the script costs nothing while it runs. */
export function wrkScript(workload: Workload): string {
  const lines: string[] = []
  if (workload.uploadBytes > 0) lines.push('wrk.method = "POST"', `wrk.body = string.rep("x", ${workload.uploadBytes})`)
  lines.push(
    'done = function(summary, latency)',
    '  local e = summary.errors',
    `  io.write(string.format('${MARK}{"requests":%d,"bytes":%d,"micros":%d,"socketErrors":%d,"badStatus":%d,"p50":%d,"p99":%d,"max":%d}\\n',`,
    '    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.timeout, e.status,',
    '    latency:percentile(50), latency:percentile(99), latency.max))',
    'end',
  )
  return `${lines.join('\n')}\n`
}

export function parseWrk(output: string): WrkResult {
  const line = output.split('\n').find((candidate) => candidate.startsWith(MARK))
  if (line === undefined) throw new Error(`wrk printed no result:\n${output}`)
  const raw = JSON.parse(line.slice(MARK.length)) as Record<'requests' | 'bytes' | 'micros' | 'socketErrors' | 'badStatus' | 'p50' | 'p99' | 'max', number>
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
  args.push(`http://127.0.0.1:${port}${workload.path}`)
  return parseWrk(await runToEnd('wrk', { command: 'wrk', args }, core))
}
