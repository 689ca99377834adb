/**
 * A release under a real supervisor, for one test: where its releases lie, how an operator asks it for the next one, and
 * what its status says.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import type { SupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { FromOperator, OperationOutcome, OperationStarted } from '../../src/ipc/messages.ts'
import { awaitOutcome } from '../../supervisor/control-client.ts'
import type { SupervisorStatus } from '../../supervisor/operator-desk.ts'
import { ReleaseRoot } from './release-folder.ts'
import { SupervisedApp } from './supervised-app.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { startOrigin } from './origin-process.ts'
import { waitFor, within } from './wait-for.ts'

const CLI = path.resolve(import.meta.dirname, '../../supervisor/cli.ts')

/** Nothing takes long; old connections may. */
export const SHORT: SupervisorOptions = { workers: 2, orphanDrainAfterMs: 30_000, drain: { closeSpreadMs: 500 } }

export interface ShownWorker {
  readonly id: string
  readonly pid: number
  readonly generation: number
  readonly state: string
  readonly silent: boolean
  readonly open: { readonly connections: number; readonly activeExchanges: number; readonly webSockets: number }
}
export interface ShownSlot {
  readonly slot: number
  readonly state: string
  readonly standIn: string | null
  readonly worker: ShownWorker | null
  readonly incoming: ShownWorker | null
  readonly previous: ShownWorker | null
  readonly draining: readonly ShownWorker[]
}
export type Status = Omit<SupervisorStatus, 'slots'> & { readonly slots: readonly ShownSlot[] }

export interface Said { readonly code: number | null; readonly stdout: string; readonly stderr: string }

export interface StartedWith {
  readonly env?: Readonly<Record<string, string>>
  /** Addresses; FOLDER stands for the root of the releases. @default a free port, and one over TLS */
  readonly listen?: readonly string[]
  /** `127.0.0.1:port` of the origin of all releases. @default one of its own, whose `/` says who asked */
  readonly origin?: string
  /** The file with the configuration, in the root of the releases. @default 'app.yaml' */
  readonly config?: string
}

export class ReleasedApp {
  readonly root: ReleaseRoot
  readonly #t: TestContext
  readonly #options: SupervisorOptions
  readonly #listen: readonly string[]
  app: SupervisedApp

  private constructor(
    t: TestContext, root: ReleaseRoot, options: SupervisorOptions, listen: readonly string[], app: SupervisedApp,
  ) {
    this.#t = t
    this.root = root
    this.#options = options
    this.#listen = listen
    this.app = app
  }

  /** Release `one` is `current` and serves. */
  static async start(t: TestContext, options: SupervisorOptions = {}, startedWith: StartedWith = {}): Promise<ReleasedApp> {
    const { env = {}, listen = [], origin = await startOrigin(t), config = 'app.yaml' } = startedWith
    const root = new ReleaseRoot(temporaryFolder(t), origin)
    if (listen.length > 0) root.listenOn(...listen.map(address => address.replace('FOLDER', root.folder)))
    root.add('one')
    root.start('one')
    const merged = { ...SHORT, ...options, drain: { ...SHORT.drain, ...options.drain } }
    const { folder, application: file } = root
    const app = await SupervisedApp.start(t, { folder, file, options: merged, log: { access: 'off' }, env, config })
    return new ReleasedApp(t, root, merged, listen, app)
  }

  get port(): number { return this.app.port }
  /** Of its listener over TLS, which is its second one; null: it has none. */
  get tlsPort(): number | null { return this.#listen.length === 0 ? this.app.ports[1]! : null }
  get pid(): number { return this.app.pid }

  /** What whoever watches over the server does after its supervisor was killed: the same start again. */
  async startAgain(wait = true): Promise<SupervisedApp> {
    const { folder, application: file } = this.root
    this.app = await SupervisedApp.start(this.#t, { folder, file, options: this.#options, log: { access: 'off' }, wait })
    return this.app
  }

  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL')
    await this.app.ended
  }

  configure(options: SupervisorOptions): void { this.app.configure({ options: { ...this.#options, ...options }, log: { access: 'off' } }) }

  async status(): Promise<Status> { return await this.app.ask({ tag: 'status' }) as Status }

  /** Begins an operation. @returns its id. */
  async begin(message: Operation): Promise<string> { return (await this.app.ask(message) as OperationStarted).id }

  outcome(id: string): Promise<OperationOutcome> {
    return within(`the outcome of ${id}; log: ${this.app.stderr.slice(-3000)}`, awaitOutcome(this.app.stateDir, id), 60_000)
  }

  async operate(message: Operation): Promise<OperationOutcome> { return await this.outcome(await this.begin(message)) }

  upgrade(folder = '', supervisor: 'if-changed' | 'always' = 'if-changed'): Promise<OperationOutcome> {
    return this.operate({ tag: 'upgrade', folder, supervisor })
  }

  /** `cirque ...`, as an operator types it. */
  async cirque(...args: readonly string[]): Promise<Said> {
    const argv = ['--disable-warning=ExperimentalWarning', CLI, ...args, '--state-dir', this.app.stateDir]
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.root.folder })
    let stdout = '', stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
    this.#t.after(() => { child.kill('SIGKILL') })
    const code = await within(`cirque ${args.join(' ')}`, new Promise<number | null>(resolve => { child.once('close', resolve) }), 60_000)
    return { code, stdout, stderr }
  }

  /** Resolves when so many slots have a worker that serves, and no other worker is left. */
  async settled(workers = 2): Promise<Status> {
    let status = await this.status()
    await waitFor(`${workers} workers and nobody else`, async () => {
      status = await this.status()
      return pidsOf(status).length === workers && status.slots.every(isSettled)
    }, { deadlineMs: 30_000, seen: () => [status.operation, status.slots, this.app.stderr.slice(-3000)] })
    return status
  }
}

function isSettled({ worker, state, incoming, previous, draining }: ShownSlot): boolean {
  const isAlone = incoming === null && previous === null && draining.length === 0
  return isAlone && (worker === null || state === 'serving')
}

export type Operation = Extract<FromOperator, { tag: 'upgrade' | 'reload' | 'rollback' }>

/** Pids of the workers that serve, in slot order. */
export function pidsOf({ slots }: Status): number[] { return slots.flatMap(({ worker }) => worker === null ? [] : [worker.pid]) }

export function parentOf(pid: number): number { return Number(/^PPid:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) }

/** Children of a process that ended and were not waited for. */
export function zombiesOf(pid: number): number[] {
  return fs.readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(Number).filter(child => {
    try { return new RegExp(`^\\d+ \\(.*\\) Z ${pid} `).test(fs.readFileSync(`/proc/${child}/stat`, 'utf8')) } catch { return false }
  })
}

/** What a process has open: descriptor number to what it leads to. */
export function descriptorsOf(pid: number): Map<number, string> {
  return new Map(fs.readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
    try { return [[Number(fd), fs.readlinkSync(`/proc/${pid}/fd/${fd}`)] as const] } catch { return [] }
  }))
}
