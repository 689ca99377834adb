/**
 * A Cirque under its supervisor, started for a script from this checkout: its processes, what they hold, what they log.
 * Ended with every worker by pid (bench/managed-process.ts).
 */
import { createWriteStream, existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { askSupervisor } from '../../supervisor/control-client.ts'
import type { FromOperator } from '../../src/ipc/messages.ts'
import { ManagedProcess, removeFolder, request, temporaryFolder } from '../bench/managed-process.ts'
import { anonymousKiloBytes, parseKiloBytes, processTree, type ProcessStat } from '../bench/process-usage.ts'

const ROOT = path.join(import.meta.dirname, '..', '..')
const START_MAX_MS = 30_000

export interface InstanceOptions {
  readonly name: string
  /** The application, and what its environment says to it. */
  readonly application: string
  readonly env: Readonly<Record<string, string>>
  /** A path that is answered with 200 as soon as it runs. */
  readonly readyPath: string
  readonly port: number
  readonly workers: number
  /** Soft and hard limit of descriptors (`ulimit -n`); 0 leaves it. */
  readonly descriptors?: number
  /** A cgroup.procs file that it is born into; '' for none. */
  readonly cgroupProcs?: string
}

export interface Holding {
  readonly supervisorPid: number
  readonly workerPids: readonly number[]
  /** Of the supervisor and all workers. */
  readonly descriptors: number
  readonly supervisorDescriptors: number
  readonly workerDescriptors: number
  /** Resident and backed by no file, of the largest worker and of all processes together. */
  readonly largestWorkerMB: number
  readonly allMB: number
  readonly supervisorAnonymousMB: number
  readonly workerAnonymousMB: number
}

export class Instance {
  readonly name: string
  readonly port: number
  readonly folder: string
  readonly #process: ManagedProcess

  private constructor(options: InstanceOptions, folder: string, launched: ManagedProcess) {
    this.name = options.name
    this.port = options.port
    this.folder = folder
    this.#process = launched
  }

  static async start(options: InstanceOptions): Promise<Instance> {
    const folder = temporaryFolder()
    const cirque = [path.join(ROOT, 'bin', 'cirque'), 'run', options.application, '--workers', String(options.workers)]
    const limit = options.descriptors === undefined || options.descriptors === 0 ? '' : `ulimit -n ${options.descriptors}; `
    const group = options.cgroupProcs === undefined || options.cgroupProcs === '' ? '' : `echo $$ > ${options.cgroupProcs}; `
    const launched = new ManagedProcess(options.name, {
      command: 'sh', args: ['-c', `${limit}${group}exec "$@"`, 'sh', ...cirque, '--state-dir', path.join(folder, 'state')],
      cwd: folder,
      env: { NODE_ENV: 'production', CIRQUE_LOG_PROCESS: path.join(folder, 'process.log'), ...options.env },
    }, null)
    // Through a pipe, which all workers share, as below a service manager.
    launched.child.stdout?.pipe(createWriteStream(path.join(folder, 'access.log')))
    const instance = new Instance(options, folder, launched)
    try {
      await instance.#ready(options.readyPath)
    } catch (error) {
      await instance.stop()
      throw error
    }
    return instance
  }

  async #ready(readyPath: string): Promise<void> {
    const late = performance.now() + START_MAX_MS
    for (;;) {
      if (this.ended) throw new Error(`${this.name} ended while starting:\n${this.#process.output}${this.processLog().slice(-2000)}`)
      if (await request(this.port, readyPath).then(({ status }) => status === 200, () => false)) return
      if (performance.now() > late) {
        throw new Error(`${this.name} is not ready after ${START_MAX_MS} ms:\n${this.processLog().slice(-2000)}`)
      }
      await delay(50)
    }
  }

  get ended(): boolean { return this.#process.ended }
  get pid(): number { return this.#process.pid }
  get stateDir(): string { return path.join(this.folder, 'state') }

  tree(): ProcessStat[] { return this.#process.tree() }

  /** Workers that serve or drain; one that only describes an application is none. */
  workerPids(): number[] {
    return this.tree().filter(({ parentPid, pid }) => parentPid === this.pid && isWorker(pid)).map(({ pid }) => pid)
  }

  holding(): Holding {
    const workerPids = this.workerPids()
    const supervisorDescriptors = descriptorsOf(this.pid)
    const workerDescriptors = workerPids.reduce((sum, pid) => sum + descriptorsOf(pid), 0)
    const own = workerPids.map(ownMB)
    return {
      supervisorPid: this.pid, workerPids, supervisorDescriptors, workerDescriptors,
      descriptors: supervisorDescriptors + workerDescriptors,
      largestWorkerMB: Math.max(0, ...own),
      allMB: ownMB(this.pid) + own.reduce((sum, megabytes) => sum + megabytes, 0),
      supervisorAnonymousMB: anonymousKiloBytes(this.pid) / 1000,
      workerAnonymousMB: workerPids.reduce((sum, pid) => sum + anonymousKiloBytes(pid), 0) / 1000,
    }
  }

  ask(message: FromOperator): Promise<unknown> { return askSupervisor(this.stateDir, message) }

  processLog(): string { return textOf(path.join(this.folder, 'process.log')) }
  /** Lines of the process log that say `error` or worse. */
  errorLines(): number { return this.processLog().split('"level":"error"').length - 1 }

  /** What it warned of, and how often, the last kinds of lines. */
  troubles(kinds: number): string[] { return troublesIn(this.processLog()).slice(-kinds) }

  async stop(graceMs = 5000): Promise<void> {
    await this.#process.stop(graceMs)
    removeFolder(this.folder)
  }
}

/** Messages of level warn and above in a process log, those that differ in digits alone as one, with a count. */
export function troublesIn(log: string): string[] {
  const counts = new Map<string, { first: string; count: number }>()
  for (const line of log.split('\n')) {
    const text = troubleOf(line)
    if (text === '') continue
    const kind = text.replace(/\d+/g, '0')
    const known = counts.get(kind)
    if (known === undefined) counts.set(kind, { first: text, count: 1 })
    else known.count++
  }
  return [...counts.values()].map(({ first, count }) => `${count} x ${first}`)
}

function troubleOf(line: string): string {
  if (!/^\{"level":"(warn|error|fatal)"/.test(line)) return ''
  try {
    const { level, msg } = JSON.parse(line) as { level: string; msg: string }
    return `${level} ${msg}`
  } catch {
    return line // A line that was not written to its end.
  }
}

/** Whether `pid` is a process of ours that serves: known by what it was started with. */
function isWorker(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('/workers/main')
  } catch {
    return false // It has ended meanwhile.
  }
}

function descriptorsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return 0 // It has ended meanwhile.
  }
}

function ownMB(pid: number): number {
  try {
    return (parseKiloBytes(readFileSync(`/proc/${pid}/status`, 'latin1'), 'RssAnon') ?? 0) / 1000
  } catch {
    return 0 // It has ended meanwhile.
  }
}

function textOf(file: string): string { return existsSync(file) ? readFileSync(file, 'latin1') : '' }

/** Every descendant of this script that still lives, by name: none may be left at the end. */
export function leftBehind(): string[] {
  return processTree(process.pid).slice(1).map(({ pid }) => `${pid} ${textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')}`)
}
