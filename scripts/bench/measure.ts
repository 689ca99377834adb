/** Takes single measurements of a proxy that is running: check, drive, and compare the process tree before and after. */
import { setTimeout as delay } from 'node:timers/promises'
import { existsSync, truncateSync } from 'node:fs'
import path from 'node:path'
import { benchCertificates } from './certificates.ts'
import { logFile, type Contender } from './contenders.ts'
import { runHandshakes } from './handshakes.ts'
import { runH2load, streamAnswer } from './h2load.ts'
import {
  ManagedProcess, freePorts, removeFolder, request, runToEnd, temporaryFolder, waitUntilReady, type Answer,
} from './managed-process.ts'
import type { Measurement } from './measurement.ts'
import type { OpenLoopResult } from './open-loop.ts'
import type { Origin } from './origin.ts'
import { cpuTimeOf, memoryOf, type MemoryUse, type ProcessStat } from './process-usage.ts'
import type { Workload } from './workloads.ts'
import { runWrk, type WrkResult } from './wrk.ts'

/** Before memory is read: pages of closed connections are given back, pending collections happen. */
const SETTLE_MS = 1500
/** What a head adds to a 10 MB answer is below this, and far below the noise. */
const HEAD_BYTES = 250

export interface RunningContender {
  readonly contender: Contender
  readonly process: ManagedProcess
  readonly port: number
  readonly folder: string
  readonly origin: Origin
  /** Ends it and removes its folder, which may hold a large log. */
  stop(): Promise<void>
}

export interface Cores {
  readonly proxy: number
  readonly load: number
}

/** What a contender has to speak. */
export type Wire = Pick<Workload, 'tls' | 'http2' | 'grpc'>
const PLAIN: Wire = { tls: 'none', http2: 'none', grpc: false }

export async function startContender(
  contender: Contender, origin: Origin, cores: Cores, { tls, http2, grpc }: Wire = PLAIN,
): Promise<RunningContender> {
  const folder = temporaryFolder()
  const [port = 0] = await freePorts(1)
  const launch = contender.launch({
    originPort: tls === 'upstream' ? origin.tlsPort : origin.port, listenPort: port, folder,
    tls: tls === 'downstream' ? benchCertificates().site : null, originCaFile: tls === 'upstream' ? benchCertificates().caFile : null,
    originHttp2Port: http2 === 'upstream' || http2 === 'both' ? origin.http2Port : null,
    http2: http2 === 'downstream' || http2 === 'both', grpc,
  })
  const process = new ManagedProcess(contender.name, launch, cores.proxy)
  try {
    await waitUntilReady(process, port, '/80', { tls: tls === 'downstream' })
  } catch (error) {
    await process.stop()
    throw error
  }
  const stop = async (): Promise<void> => {
    await process.stop()
    removeFolder(folder)
  }
  return { contender, process, port, folder, origin, stop }
}

/** A wrong answer is cheap to give: nothing is measured before the right one was seen. */
export async function checkAnswer(running: RunningContender, workload: Workload): Promise<void> {
  const answer = workload.kind === 'streams' ? await streamAnswer(workload, running.port) : await plainAnswer(workload, running.port)
  if (answer.status !== 200 || answer.bytes !== workload.answerBytes) {
    const right = `200 and ${workload.answerBytes} are right`
    throw new Error(`${workload.path} was answered with ${answer.status} and ${answer.bytes} bytes; ${right}`)
  }
}

function plainAnswer(workload: Workload, port: number): Promise<Answer> {
  const body = workload.uploadBytes > 0 ? Buffer.alloc(workload.uploadBytes, 'x') : null
  return request(port, workload.path, { body, tls: workload.tls === 'downstream' })
}

/** Thousands of handshakes take their time on a client's one core. */
const OPENING_MAX_MS = 60_000

interface Cost {
  readonly userMicros: number
  readonly systemMicros: number
  readonly memory: MemoryUse
  /** Connections that the origin accepted meanwhile, the first quarter of the time left out. */
  readonly dialled: number
}

/**
 * At the start all connections ask at once, which needs as many to the origin as never again; that says how the load begins,
 * and not what is reused while it lasts.
 */
const BEGINNING = 0.25

/** CPU that the tree used while `work` ran for so many seconds. A process that came or went meanwhile would falsify the sum. */
async function costWhile<T>(running: RunningContender, seconds: number, work: () => Promise<T>): Promise<{ cost: Cost; result: T }> {
  emptyLog(running)
  const before = running.process.tree()
  const begun = delay(seconds * 1000 * BEGINNING).then(() => running.origin.accepted())
  const result = await work()
  const after = running.process.tree()
  // The question itself is one of them.
  const dialled = await running.origin.accepted() - await begun - 1
  if (identity(before) !== identity(after)) throw new Error('its processes changed while it was measured')
  const start = cpuTimeOf(before)
  const end = cpuTimeOf(after)
  const memory = memoryOf(after.map((stat) => stat.pid))
  const cost = { userMicros: end.userMicros - start.userMicros, systemMicros: end.systemMicros - start.systemMicros, memory, dialled }
  return { cost, result }
}

/** Requests that were cut off at the end had connections, too, but are not counted: never below 0. */
function reuseShare(dialled: number, requests: number): number { return Math.max(0, 1 - dialled / (requests * (1 - BEGINNING))) }

/** Logs are opened for appending, so they may be emptied while they are written; a run would fill a disk otherwise. */
function emptyLog({ folder }: RunningContender): void {
  const file = logFile(folder)
  if (existsSync(file)) truncateSync(file)
}

function identity(tree: readonly ProcessStat[]): string {
  return tree.map((stat) => `${stat.pid}@${stat.startTicks}`).toSorted().join(' ')
}

/** Load of the kind that the workload wants, as fast as answers come. */
export function drive(workload: Workload, { port, folder }: RunningContender, seconds: number, cores: Cores): Promise<WrkResult> {
  if (workload.kind === 'handshakes') return runHandshakes(workload, port, seconds, cores.load)
  if (workload.kind === 'streams') return runH2load(workload, port, seconds, cores.load, folder)
  return runWrk(workload, port, seconds, cores.load, folder)
}

/** @returns requests per second, which is the capacity as far as so short a run can tell. */
export async function warmUp(running: RunningContender, workload: Workload, seconds: number, cores: Cores): Promise<number> {
  const connections = workload.kind === 'idle' ? 64 : workload.connections
  const result = await drive({ ...workload, connections }, running, seconds, cores)
  return result.requests / result.seconds
}

export async function measureClosed(
  running: RunningContender, workload: Workload, round: number, seconds: number, cores: Cores,
): Promise<Measurement> {
  const { cost, result } = await costWhile(running, seconds, () => drive(workload, running, seconds, cores))
  const requests = workload.countByBytes ? result.bytes / (workload.answerBytes + HEAD_BYTES) : result.requests
  return {
    workload: workload.name, contender: running.contender.name, round,
    userMicros: cost.userMicros / requests, systemMicros: cost.systemMicros / requests,
    requestsPerSecond: requests / result.seconds,
    p50Micros: result.p50Micros, p99Micros: result.p99Micros, p999Micros: Number.NaN, maxMicros: result.maxMicros,
    memoryKiloBytes: cost.memory.totalKiloBytes, ownKiloBytes: cost.memory.ownKiloBytes, idleConnectionBytes: Number.NaN,
    clientDelayMicros: Number.NaN,
    reuseShare: reuseShare(cost.dialled, requests),
    failures: result.socketErrors + result.badStatus,
  }
}

export async function measureOpen(
  running: RunningContender, workload: Workload, round: number, seconds: number, rate: number, cores: Cores,
): Promise<Measurement> {
  const args = [
    path.join(import.meta.dirname, 'open-loop.ts'), `--port=${running.port}`, `--path=${workload.path}`, `--bytes=${workload.answerBytes}`,
    `--connections=${workload.connections}`, `--rate=${rate}`, `--seconds=${seconds}`,
  ]
  const { cost, result } = await costWhile(running, seconds, async () => {
    const output = await runToEnd('open-loop client', { command: process.execPath, args }, cores.load)
    return JSON.parse(output) as OpenLoopResult
  })
  return {
    workload: workload.name, contender: running.contender.name, round,
    userMicros: cost.userMicros / result.served, systemMicros: cost.systemMicros / result.served,
    requestsPerSecond: result.answered / seconds,
    p50Micros: result.p50Micros, p99Micros: result.p99Micros, p999Micros: result.p999Micros, maxMicros: result.maxMicros,
    memoryKiloBytes: cost.memory.totalKiloBytes, ownKiloBytes: cost.memory.ownKiloBytes, idleConnectionBytes: Number.NaN,
    clientDelayMicros: result.ownDelayP99Micros,
    reuseShare: reuseShare(cost.dialled, result.served),
    failures: result.failed,
  }
}

/** The contender must be freshly started: memory that earlier connections left behind would be used again and not show. */
export async function measureIdle(running: RunningContender, workload: Workload, round: number, cores: Cores): Promise<Measurement> {
  const pids = (): number[] => running.process.tree().map((stat) => stat.pid)
  await delay(SETTLE_MS)
  const before = memoryOf(pids())
  const client = path.join(import.meta.dirname, 'idle-connections.ts')
  const { connections, answerBytes, tls, http2 } = workload
  const args = [client, String(running.port), String(connections), String(answerBytes), tls, http2]
  const holder = new ManagedProcess('idle connections', { command: process.execPath, args }, cores.load)
  const late = Date.now() + OPENING_MAX_MS
  while (!holder.output.includes('open ')) {
    if (holder.ended || Date.now() > late) {
      await holder.stop()
      throw new Error(`the idle connections could not be opened: ${holder.output}`)
    }
    await delay(50)
  }
  await delay(SETTLE_MS)
  const after = memoryOf(pids())
  const addedBytes = (after.ownKiloBytes - before.ownKiloBytes) * 1024
  await holder.stop()
  return {
    workload: workload.name, contender: running.contender.name, round,
    userMicros: Number.NaN, systemMicros: Number.NaN, requestsPerSecond: Number.NaN,
    p50Micros: Number.NaN, p99Micros: Number.NaN, p999Micros: Number.NaN, maxMicros: Number.NaN,
    memoryKiloBytes: after.totalKiloBytes, ownKiloBytes: after.ownKiloBytes, idleConnectionBytes: addedBytes / workload.connections,
    clientDelayMicros: Number.NaN,
    reuseShare: Number.NaN,
    failures: Number(/lost (\d+)/.exec(holder.output)?.[1] ?? Number.NaN),
  }
}
