/**
 * Drives handshakes: a connection for each request, closed by its answer. `openssl s_time` is the client, since it is the one among
 * those that come with a system which can be told whether to resume; several at a time, as each waits for its one connection.
 * It checks no status, so lengths are compared: all answers are as long as one another, or something else came.
 */
import { runToEnd } from './managed-process.ts'
import type { Workload } from './workloads.ts'
import type { WrkResult } from './wrk.ts'

/**
 * `s_time` writes what it is told between `GET ` and ` HTTP/1.0`, and a proxy sends HTTP/1.0 without Host on as it came: so the
 * request is HTTP/1.1, and its rest a field.
 */
function requestPath({ path }: Workload): string {
  return `${path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\nX-Rest: `
}

export interface HandshakeRun {
  readonly requests: number
  readonly bytes: number
  /** Handshakes that were another kind than asked for, and answers that were of another length. */
  readonly failures: number
}

/** What one `s_time` printed: a letter for each handshake, `r` when it resumed, then two lines of totals. */
export function parseSTime(output: string, workload: Workload): HandshakeRun {
  const [, count = '', bytes = ''] = /^(\d+) connections in [\d.]+s; .* bytes read (\d+)$/m.exec(output) ?? []
  if (count === '') throw new Error(`openssl s_time printed no result:\n${output.slice(-2000)}`)
  const requests = Number(count), read = Number(bytes)
  const letters = output.split('\n').map(line => line.trim()).filter(line => /^[r*.t]+$/.test(line)).join('')
  const resumed = letters.split('r').length - 1
  const otherKind = Math.abs((workload.resumes ? requests : 0) - resumed)
  const uneven = requests > 0 && (read % requests !== 0 || read / requests < workload.answerBytes) ? 1 : 0
  return { requests, bytes: read, failures: otherKind + uneven }
}

/** Runs `workload.connections` clients at once on one core. */
export async function runHandshakes(workload: Workload, port: number, seconds: number, core: number): Promise<WrkResult> {
  const kind = workload.resumes ? '-reuse' : '-new'
  const args = ['s_time', '-connect', `127.0.0.1:${port}`, kind, '-time', String(seconds), '-www', requestPath(workload)]
  const begun = performance.now()
  const outputs = await Promise.all(Array.from({ length: workload.connections }, () => {
    return runToEnd('openssl s_time', { command: 'openssl', args }, core)
  }))
  const runs = outputs.map(output => parseSTime(output, workload))
  const sum = (of: (run: HandshakeRun) => number): number => runs.reduce((total, run) => total + of(run), 0)
  return {
    requests: sum(run => run.requests), bytes: sum(run => run.bytes), seconds: (performance.now() - begun) / 1000,
    socketErrors: sum(run => run.failures), badStatus: 0, p50Micros: Number.NaN, p99Micros: Number.NaN, maxMicros: Number.NaN,
  }
}
