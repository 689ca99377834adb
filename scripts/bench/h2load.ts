/** Drives streams of HTTP/2 with nghttp2's `h2load`, as fast as answers come, and reads its result. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import path from 'node:path'
import { runToEnd, type Answer } from './managed-process.ts'
import { percentile } from './statistics.ts'
import { grpcMessage, type Workload } from './workloads.ts'
import type { WrkResult } from './wrk.ts'

/** What a call of gRPC says besides its path. */
const GRPC_FIELDS = { 'content-type': 'application/grpc', 'te': 'trailers' } as const
/** How long the check of one answer may take, in ms. */
const ANSWER_MAX_MS = 10_000

/** @param times what `--log-file` holds: a line for each request, with its start, its status, and how long it took in us */
export function parseH2load(output: string, times: string): WrkResult {
  const [, total = '', failed = '', errored = '', late = ''] =
    /^requests: (\d+) total, .* (\d+) failed, (\d+) errored, (\d+) timeout$/m.exec(output) ?? []
  const [, redirects = '', refusals = '', errors = ''] = /^status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$/m.exec(output) ?? []
  const [, seconds = ''] = /^finished in ([\d.]+)s, /m.exec(output) ?? []
  const [, bytes = ''] = /\((\d+)\) data$/m.exec(output) ?? []
  if ([total, errors, seconds, bytes].includes('')) throw new Error(`h2load printed no result:\n${output.slice(-2000)}`)
  const micros = times.split('\n').filter(line => line !== '').map(line => Number(line.split('\t')[2])).toSorted((a, b) => a - b)
  const requests = Number(total)
  return {
    requests, bytes: Number(bytes), seconds: Number(seconds),
    socketErrors: Number(failed) + Number(errored) + Number(late), badStatus: Number(redirects) + Number(refusals) + Number(errors),
    p50Micros: percentile(micros, 50), p99Micros: percentile(micros, 99), maxMicros: micros.at(-1) ?? Number.NaN,
  }
}

export async function runH2load(workload: Workload, port: number, seconds: number, core: number, folder: string): Promise<WrkResult> {
  const times = path.join(folder, 'h2load.times')
  // h2load appends.
  rmSync(times, { force: true })
  const { connections, streams } = workload
  const args = ['-t1', `-c${connections}`, `-m${streams}`, `-D${seconds}`, `--log-file=${times}`]
  if (workload.grpc) {
    const message = path.join(folder, 'message')
    writeFileSync(message, grpcMessage())
    args.push('-d', message, ...Object.entries(GRPC_FIELDS).flatMap(([name, value]) => ['-H', `${name}: ${value}`]))
  }
  args.push(`https://127.0.0.1:${port}${workload.path}`)
  const output = await runToEnd('h2load', { command: 'h2load', args }, core)
  return parseH2load(output, readFileSync(times, 'latin1'))
}

/** One request on a connection of its own, in HTTP/2 or not at all. A call of gRPC that fails has its status for an error. */
export function streamAnswer(workload: Workload, port: number): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, ALPNProtocols: ['h2'] })
  session.setTimeout(ANSWER_MAX_MS, () => session.destroy(new Error(`no answer within ${ANSWER_MAX_MS / 1000} s`)))
  session.on('error', reject)
  const fields = workload.grpc ? { ':method': 'POST', ...GRPC_FIELDS } : {}
  const stream = session.request({ ':path': workload.path, ...fields }, { endStream: !workload.grpc })
  let status = 0, bytes = 0, grpcStatus: unknown
  stream.on('response', head => {
    status = Number(head[':status'])
    grpcStatus = head['grpc-status']
  })
  stream.on('trailers', trailers => { grpcStatus = trailers['grpc-status'] })
  stream.on('data', (chunk: Buffer) => { bytes += chunk.length })
  stream.on('error', reject)
  stream.on('end', () => {
    session.close()
    if (workload.grpc && grpcStatus !== '0') reject(new Error(`${workload.path} was answered with grpc-status ${String(grpcStatus)}`))
    else resolve({ status, bytes })
  })
  if (workload.grpc) stream.end(grpcMessage())
  return promise
}
