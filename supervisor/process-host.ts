/**
 * The world as the supervisor touches it: forks, signals, time. Injected, so that every path is tested without forking.
 * Together with workers/main.ts and its first import the only place that names node:cluster.
 */
import { spawn } from 'node:child_process'
import cluster from 'node:cluster'
import fs from 'node:fs'
import os from 'node:os'
import type { Writable } from 'node:stream'
import type { CompileCache } from '../src/ipc/compile-cache.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { OomKills } from './oom-kills.ts'

export interface ForkRequest {
  /** Runtime. */
  readonly node: string
  /** Entry module of the worker, and what its argv carries behind it. */
  readonly exec: string
  readonly args: readonly string[]
  readonly execArgv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Listening sockets, inherited in this order from descriptor 4 on. */
  readonly descriptors: readonly number[]
  /** What only the child may know: it reads it to its end from the descriptor behind those. */
  readonly secret: string
  /** null: the supervisor's own. */
  readonly uid: number | null
  readonly gid: number | null
}

export interface ExitReport {
  readonly code: number | null
  readonly signal: string | null
  /** Why the process could not even be started; '' when it was. */
  readonly problem: string
  /** The kernel killed it, as there was no memory left. Left out where it did not, or where it does not say. */
  readonly outOfMemory?: boolean
}

export interface ForkedProcess {
  /** 0 when the fork failed; `onExit` is called then, too. */
  readonly pid: number
}

export interface ProcessHost {
  /** @param onExit called once, never during the call. */
  fork(request: ForkRequest, onExit: (report: ExitReport) => void): ForkedProcess
  /** @returns false when there is no such process. */
  kill(pid: number, signal: NodeJS.Signals): boolean
  /**
   * Watches a process that was not forked by this image: a child from before it was replaced in place, or a stranger
   * left by a supervisor that was killed. A stranger's exit code is not known.
   * @param onExit called once, never during the call.
   */
  adopt(pid: number, startTime: string, onExit: (report: ExitReport) => void): void
  /** So many processes run at the same time. */
  readonly cores: number
  /** Monotonic, in ms. */
  nowMs(): number
  /** 0 to 1. */
  random(): number
  /** @returns a function that cancels. */
  after(ms: number, run: () => void): () => void
  /** When the process was started, as the kernel counts; with the pid it names a process for ever. '' where there is no /proc. */
  startTime(pid: number): string
}

/** How often processes that were not forked here are looked at, in ms; for children SIGCHLD is faster. */
const SWEEP_MS = 200
/** A process that was killed is gone after this long, in ms, unless the machine is busy. */
const KILLED_MS = 10

interface Adopted {
  readonly startTime: string
  readonly onExit: (report: ExitReport) => void
}

export class SystemProcessHost implements ProcessHost {
  /** null: children from before a replacement cannot be told from zombies, but there is no replacement without system calls. */
  readonly #calls: () => SystemCalls | null
  readonly #cache: CompileCache | null
  readonly #oomKills: OomKills
  readonly #adopted = new Map<number, Adopted>()
  #sweeper: NodeJS.Timeout | null = null

  constructor(calls: () => SystemCalls | null = () => null, cache: CompileCache | null = null, oomKills = new OomKills()) {
    this.#calls = calls
    this.#cache = cache
    this.#oomKills = oomKills
  }

  adopt(pid: number, startTime: string, onExit: (report: ExitReport) => void): void {
    this.#adopted.set(pid, { startTime, onExit })
    if (this.#sweeper !== null) return
    const sweep = (): void => this.#sweep()
    process.on('SIGCHLD', sweep)
    this.#sweeper = setInterval(sweep, SWEEP_MS)
    // One that died before it was watched has sent its signal for nothing.
    setImmediate(sweep)
  }

  #sweep(): void {
    for (const [pid, { startTime, onExit }] of this.#adopted) {
      const status = this.#calls()?.reap(pid) ?? null
      const gone = status === null || status === 'not-a-child' ? processStartTime(pid) !== startTime : true
      if (!gone) continue
      this.#adopted.delete(pid)
      const isKnown = status !== null && status !== 'not-a-child'
      onExit(isKnown ? this.#reportOf(status.code, status.signal) : { code: null, signal: null, problem: '' })
    }
  }

  fork(request: ForkRequest, onExit: (report: ExitReport) => void): ForkedProcess {
    const { execPath } = process
    try {
      // cluster.fork always takes this one, so a release's own runtime has to stand here meanwhile.
      process.execPath = request.node
      // setupPrimary remembers what it is not given, so everything is given, right before the fork.
      cluster.setupPrimary({
        exec: request.exec,
        args: [...request.args],
        execArgv: [...request.execArgv],
        stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...request.descriptors, 'pipe'],
        // 'undefined' resets what an earlier fork was given.
        uid: request.uid ?? undefined,
        gid: request.gid ?? undefined,
      } as cluster.ClusterSettings)
      const worker = cluster.fork({ ...request.env, ...this.#cache?.environmentFor(request) })
      // A child that is gone before it has read is heard of otherwise.
      const pipe = worker.process.stdio?.at(-1) as Writable | null | undefined
      pipe?.on('error', () => {}).end(request.secret)
      let reported = false
      const report = (exit: ExitReport): void => {
        if (reported) return
        reported = true
        onExit(exit)
      }
      worker.on('exit', (code, signal) => report(this.#reportOf(code, signal as string | null)))
      worker.process.on('error', error => {
        if (worker.process.pid === undefined) report({ code: null, signal: null, problem: error.message })
      })
      // A write to the IPC channel of a worker that let go of it; nothing of ours travels there.
      worker.on('error', () => {})
      return { pid: worker.process.pid ?? 0 }
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error)
      setImmediate(() => onExit({ code: null, signal: null, problem }))
      return { pid: 0 }
    } finally {
      process.execPath = execPath
    }
  }

  #reportOf(code: number | null, signal: string | null): ExitReport {
    const outOfMemory = signal === 'SIGKILL' && this.#oomKills.another()
    return { code, signal, problem: '', ...outOfMemory ? { outOfMemory } : {} }
  }

  kill(pid: number, signal: NodeJS.Signals): boolean {
    if (pid <= 0) return false
    // What follows from its end does not wait for the next sweep.
    if (signal === 'SIGKILL' && this.#adopted.has(pid)) setTimeout(() => this.#sweep(), KILLED_MS)
    try { return process.kill(pid, signal) } catch { return false }
  }

  get cores(): number { return os.availableParallelism() }
  nowMs(): number { return performance.now() }
  random(): number { return Math.random() }

  after(ms: number, run: () => void): () => void {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  }

  startTime(pid: number): string { return processStartTime(pid) }
}

/** Field 22 of /proc/<pid>/stat; '' when the process or /proc is not there, or the process is a zombie. */
export function processStartTime(pid: number): string {
  let stat: string
  try { stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8') } catch { return '' }
  // The second field is the command in brackets and may hold anything; the third is the state.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' ? '' : fields[19] ?? ''
}

export interface DescribeRun {
  readonly node: string
  readonly exec: string
  readonly args: readonly string[]
  readonly execArgv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly uid: number | null
  readonly gid: number | null
  readonly timeoutMs: number
  /** Kills it: its outcome is not wanted any more. */
  readonly signal: AbortSignal
}

export interface DescribeResult extends ExitReport {
  /** What it wrote to descriptor 3. */
  readonly output: string
  /** The end of what it wrote to stderr. */
  readonly stderr: string
  readonly timedOut: boolean
}

/** More than any description; a process that writes more is killed. */
const MAX_DESCRIBE_BYTES = 4 * 1024 * 1024
const MAX_STDERR_BYTES = 64 * 1024

/**
 * Runs the describe process to its end. The application's stdout is dropped (workers will print it again), its stderr kept
 * for a failure.
 */
export function runDescribe(run: DescribeRun): Promise<DescribeResult> {
  return new Promise(resolve => {
    const child = spawn(run.node, [...run.execArgv, run.exec, ...run.args], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: run.env as NodeJS.ProcessEnv,
      signal: run.signal,
      killSignal: 'SIGKILL',
      ...(run.uid === null ? {} : { uid: run.uid }),
      ...(run.gid === null ? {} : { gid: run.gid }),
    })
    let output = ''
    let stderr = ''
    let timedOut = false
    let problem = ''
    let finished = false
    const timer = setTimeout(() => { timedOut = true; child.kill('SIGKILL') }, run.timeoutMs)
    child.on('error', error => { problem = error.message; if (child.pid === undefined) finish(null, null) })
    // Without a descriptor to spare there is neither a process nor a pipe.
    if (child.pid === undefined) return
    child.stderr!.setEncoding('utf8').on('data', (text: string) => { stderr = (stderr + text).slice(-MAX_STDERR_BYTES) })
    const pipe = child.stdio[3] as NodeJS.ReadableStream
    pipe.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (output.length > MAX_DESCRIBE_BYTES) child.kill('SIGKILL')
    })
    // 'close' and not 'exit': the pipes have been read to their end. A grandchild may hold stderr open, so the outcome's end
    // counts as well.
    child.on('close', finish)
    child.on('exit', (code, signal) => { setTimeout(() => finish(code, signal), 500).unref() })
    function finish(code: number | null, signal: string | null): void {
      if (finished) return
      finished = true
      clearTimeout(timer)
      resolve({ code, signal, problem, output, stderr, timedOut })
    }
  })
}
