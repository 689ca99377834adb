/**
 * The supervisor: claims its state folder, learns what the application listens on, binds it, runs the fleet of workers
 * and answers operators until somebody stops it. Runs no application code and accepts no connection of a listener.
 *
 *   Claiming --control socket is ours--> Describing --> Binding --> Starting --all slots accept--> Running
 *       \                                    \             \           \                             \
 *        +-- running already: 3               +-- failed: 1 +-- 1       +-- nobody ever ready: 1      +-- stop --> Stopping --> Ended: 0
 *
 * A stop is taken in any state. Whatever ends here closes what it opened and removes its sockets from the file system.
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ConfigError, formatMistake } from '../src/config/server-config.ts'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { unknownListeners, type WorkerSettings } from '../src/config/worker-settings.ts'
import { PROTOCOL_VERSION } from '../src/ipc/messages.ts'
import type { FromOperator, FromWorker, Welcome } from '../src/ipc/messages.ts'
import type { Question } from '../src/ipc/channel.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { ServerDescription } from '../src/ipc/server-description.ts'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import type { SystemCallsState } from '../src/ipc/system-calls.ts'
import { AdminServer } from './admin-server.ts'
import type { Health } from './admin-server.ts'
import { AlreadyRunning, ControlServer } from './control-server.ts'
import type { WorkerConversation } from './control-server.ts'
import { describeApplication, DescribeFailed } from './describe-application.ts'
import { Fleet, Refused, StartFailed } from './fleet.ts'
import { OWN_EXEC_ARGV } from './generation.ts'
import type { Generation } from './generation.ts'
import { resolveIdentity } from './identities.ts'
import type { Identity } from './identities.ts'
import { Journal, JOURNAL_FORMAT, livingWorkers } from './journal.ts'
import { BindError, ListenerTable, SYSTEM_BINDER } from './listener-table.ts'
import type { SocketBinder } from './listener-table.ts'
import { processStartTime, SystemProcessHost } from './process-host.ts'
import type { ProcessHost } from './process-host.ts'
import { SignalPolicy } from './signals.ts'
import type { HandledSignal } from './signals.ts'
import { JOURNAL, ownFolder, prepareStateFolder, StateFolderError, stateFolderOf } from './state-folder.ts'
import type { WorkerLink } from './worker-process.ts'

/** Of a process of ours that ended; the command line uses the same. */
export const EXIT = { ok: 0, failed: 1, usage: 2, running: 3, superseded: 4 } as const

/** Without system calls a worker inherits each socket this often: one to accept, one to resume, one to stand in. */
const COPIES_WITHOUT_SYSTEM_CALLS = 3
/** How often a start looks whether the workers of a killed supervisor have let go of their addresses, in ms. */
const ORPHAN_POLL_MS = 100

export const SupervisorState = { Claiming: 0, Describing: 1, Binding: 2, Starting: 3, Running: 4, Stopping: 5, Ended: 6 } as const
export type SupervisorState = (typeof SupervisorState)[keyof typeof SupervisorState]

const STATE_NAMES: Readonly<Record<SupervisorState, string>> = {
  [SupervisorState.Claiming]: 'claiming', [SupervisorState.Describing]: 'describing', [SupervisorState.Binding]: 'binding', [SupervisorState.Starting]: 'starting',
  [SupervisorState.Running]: 'running', [SupervisorState.Stopping]: 'stopping', [SupervisorState.Ended]: 'ended',
}

export interface SupervisorSetup {
  /** Absolute path of the application's module, and what follows it on its command line. */
  readonly application: string
  readonly args: readonly string[]
  readonly options: ResolvedSupervisorOptions
  /** What workers are told of the configuration. */
  readonly settings: WorkerSettings
  readonly log: ProcessLog
  /** The supervisor's own log files were renamed. */
  readonly onReopenLogs?: () => void
  /** Told once, when every slot accepts. */
  readonly onRunning?: (status: SupervisorStatus) => void
  readonly host?: ProcessHost
  readonly binder?: SocketBinder
}

/** The answer to `status`. */
export interface SupervisorStatus {
  readonly version: string
  readonly protocol: number
  readonly pid: number
  readonly node: string
  readonly state: string
  readonly application: string
  readonly generation: number
  readonly startedAt: string
  readonly uptimeMs: number
  readonly operation: string
  readonly stateDir: string
  readonly controlSocket: string
  readonly admin: string
  readonly systemCalls: string
  readonly listeners: readonly { readonly name: string; readonly service: string; readonly address: string; readonly bound: string; readonly sockets: number }[]
  readonly slots: readonly object[]
  readonly totals: object
}

export class Supervisor {
  state: SupervisorState = SupervisorState.Claiming
  readonly #setup: SupervisorSetup
  readonly #options: ResolvedSupervisorOptions
  readonly #log: ProcessLog
  readonly #host: ProcessHost
  readonly #folder: string
  readonly #startedAt = new Date()
  readonly #signals = new SignalPolicy()
  readonly #journal: Journal
  readonly #ended = Promise.withResolvers<number>()
  #systemCalls: SystemCallsState = { available: false, reason: 'not loaded yet' }
  #control: ControlServer | null = null
  #admin: AdminServer | null = null
  #adminAddress = ''
  #table: ListenerTable | null = null
  #fleet: Fleet | null = null
  #generationNumber = 0
  /** Waits for a rolling replacement that a signal asked for. */
  #signalRestartWaits = false
  #stopQuestions: Question[] = []
  #forced = false
  /** Resolves when nobody wants to wait any more. */
  readonly #now = Promise.withResolvers<void>()
  readonly #describing = new AbortController()
  #cut = 0

  constructor(setup: SupervisorSetup) {
    this.#setup = setup
    this.#options = setup.options
    this.#log = setup.log
    this.#host = setup.host ?? new SystemProcessHost()
    this.#folder = stateFolderOf(setup.application, setup.options.stateDir)
    this.#journal = new Journal(path.join(this.#folder, JOURNAL))
  }

  /** The whole life. @returns the exit code. */
  run(): Promise<number> {
    this.#start().catch((error: unknown) => {
      // Stopped while it started: what was under way failed because of that.
      if (this.state < SupervisorState.Stopping) void this.#end(this.#explain(error))
    })
    return this.#ended.promise
  }

  onSignal(signal: HandledSignal): void {
    const meaning = this.#signals.meaning(signal, performance.now())
    if (meaning === 'nothing') return
    if (meaning === 'upgrade') {
      this.#log.warn(`${signal}: refused, there is no upgrade in place yet; \`cirque workers restart\` or SIGHUP replaces the workers, a new start runs another version`)
      return
    }
    this.#log.info(`${signal}: ${MEANINGS[meaning]}`)
    switch (meaning) {
      case 'stop': void this.#stop(this.#options.drain.stopTimeoutMs, this.#options.drain.lameDuckMs); break
      case 'interrupt': void this.#stop(this.#options.drain.interruptTimeoutMs, 0); break
      case 'force': this.#force(); break
      case 'replace-workers': this.#replaceWorkers(); break
      case 'reopen-logs': this.#reopenLogs(); break
      default: meaning satisfies never
    }
  }

  status(): SupervisorStatus {
    const { application } = this.#setup
    return {
      version: packageVersion(), protocol: PROTOCOL_VERSION, pid: process.pid, node: process.version, state: STATE_NAMES[this.state], application,
      generation: this.#generationNumber, startedAt: this.#startedAt.toISOString(), uptimeMs: Date.now() - this.#startedAt.getTime(), operation: this.#fleet?.operationName ?? '',
      stateDir: this.#folder, controlSocket: this.#control?.controlPath ?? '', admin: this.#adminAddress,
      systemCalls: this.#systemCalls.available ? 'available' : `not available: ${this.#systemCalls.reason}`,
      listeners: (this.#table?.listeners ?? []).map(({ name, service, canonical, bound, sockets }) => ({ name, service, address: canonical, bound, sockets: sockets.length })),
      slots: this.#fleet?.status() ?? [], totals: this.#fleet?.totals() ?? {},
    }
  }

  async #start(): Promise<void> {
    const { application, args } = this.#setup
    const identity = resolveIdentity(this.#options.user, this.#options.group)
    prepareStateFolder(this.#folder, identity.uid !== null || identity.gid !== null)
    const before = this.#journal.read()
    const orphans = before === null ? [] : livingWorkers(before)
    await this.#claim(identity)

    this.#moveTo(SupervisorState.Describing)
    this.#systemCalls = await loadSystemCalls()
    if (!this.#systemCalls.available) this.#log.warn('system calls are not available: workers carry spare copies of their sockets', { reason: this.#systemCalls.reason })
    const entries = { workerEntry: entry('workers/main'), describeEntry: entry('workers/describe') }
    const blueprint = { application, args, execArgv: [...process.execArgv.filter(argument => !OWN_EXEC_ARGV.includes(argument)), ...OWN_EXEC_ARGV], ...entries, ...identity }
    const description = await describeApplication(blueprint, this.#options.describeTimeoutMs, this.#describing.signal)
    this.#checkGoingOn()
    checkListenerNames(this.#setup.settings, description)

    this.#moveTo(SupervisorState.Binding)
    const table = new ListenerTable(this.#options.workers, this.#log, this.#setup.binder ?? SYSTEM_BINDER)
    await this.#bind(table, description, orphans.map(orphan => orphan.pid))
    this.#table = table
    this.#warnAboutBacklog(Math.max(0, ...description.listeners.map(listener => listener.backlog)))
    if (this.#options.adminAddress !== '') {
      this.#admin = new AdminServer(() => this.#health())
      try {
        this.#adminAddress = await this.#admin.listen(this.#options.adminAddress)
      } catch (error) {
        throw new BindError((error as NodeJS.ErrnoException).code ?? '', `the admin listener cannot listen on ${this.#options.adminAddress}: ${(error as Error).message}`, error)
      }
    }
    this.#checkGoingOn()

    this.#moveTo(SupervisorState.Starting)
    this.#generationNumber = (before?.generation ?? 0) + 1
    const generation: Generation = { number: this.#generationNumber, ...blueprint, description }
    const copies = this.#systemCalls.available ? 1 : COPIES_WITHOUT_SYSTEM_CALLS
    this.#fleet = new Fleet({
      host: this.#host, options: this.#options, log: this.#log, generation, layout: table.layout(copies), descriptors: table.descriptors(copies),
      controlPath: this.#control!.workerPath, onChange: () => this.#writeJournal(),
    })
    await this.#fleet.start()
    if (this.#moveTo(SupervisorState.Running)) this.#setup.onRunning?.(this.status())
  }

  async #claim(identity: Identity): Promise<void> {
    const control = new ControlServer({
      folder: this.#folder, options: this.#options, log: this.#log, workerUid: identity.uid, workerGid: identity.gid,
      handlers: {
        onOperator: (message, question) => this.#onOperator(message, question),
        onHello: (hello, link, question) => this.#onHello(hello, link, question),
      },
    })
    await control.listen()
    this.#control = control
    this.#writeJournal()
    this.#checkGoingOn()
  }

  /** Workers of a killed supervisor hold the addresses until they have drained; they are told to when they come back. */
  async #bind(table: ListenerTable, description: Generation['description'], orphans: readonly number[]): Promise<void> {
    const deadlineMs = performance.now() + this.#options.orphanDrainAfterMs + this.#options.ackTimeoutMs
    let said = false
    for (;;) {
      try {
        await table.bind(description.listeners)
        return
      } catch (error) {
        const orphansLive = orphans.some(pid => processStartTime(pid) !== '')
        if (!(error instanceof BindError) || error.code !== 'EADDRINUSE' || orphans.length === 0 || (!orphansLive && said) || performance.now() > deadlineMs) throw error
        if (!said) this.#log.warn('workers of a supervisor that was killed still listen; waiting for them to let go', { pids: orphans })
        said = true
        await delay(ORPHAN_POLL_MS)
        this.#checkGoingOn()
      }
    }
  }

  #onHello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink, question: Question): WorkerConversation | null {
    if (Math.abs(hello.protocol - PROTOCOL_VERSION) > 1) {
      question.refuse('refused', `this supervisor speaks protocol ${PROTOCOL_VERSION}, not ${hello.protocol}`)
      return null
    }
    const fleet = this.#fleet
    const worker = fleet?.hello(hello, link) ?? null
    if (fleet === null || worker === null) {
      // One of a supervisor before us: a refusal makes it drain and end.
      question.refuse('refused', `${hello.worker} is no worker of this supervisor`)
      return null
    }
    const { heartbeatMs, orphanPolicy, orphanDrainAfterMs, maxControlMessageBytes } = this.#options
    const welcome: Welcome = { protocol: PROTOCOL_VERSION, heartbeatMs, orphanPolicy, orphanDrainAfterMs, orphanDrain: fleet.orphanDrain, maxControlMessageBytes, settings: this.#setup.settings }
    question.ok(welcome)
    return { onMessage: message => fleet.onMessage(worker, message), onClose: () => fleet.linkLost(worker, link) }
  }

  #onOperator(message: FromOperator, question: Question): void {
    switch (message.tag) {
      case 'status':
        question.ok(this.status())
        break
      case 'stop':
        this.#log.info(message.force ? 'an operator asked to stop now' : 'an operator asked to stop')
        if (message.wait) this.#stopQuestions.push(question)
        else question.ok({ operation: 'stop' })
        if (message.force) this.#force()
        else void this.#stop(this.#options.drain.stopTimeoutMs, this.#options.drain.lameDuckMs)
        break
      case 'restart-workers':
        this.#restartWorkers(message.worker, message.wait, question)
        break
      case 'reopen-logs':
        this.#reopenLogs()
        question.ok(null)
        break
      default:
        message satisfies never
    }
  }

  #reopenLogs(): void {
    this.#setup.onReopenLogs?.()
    this.#fleet?.reopenLogs()
  }

  #restartWorkers(which: string, wait: boolean, question: Question): void {
    if (this.#fleet === null || this.state !== SupervisorState.Running) { question.refuse('refused', `the server is ${STATE_NAMES[this.state]}`); return }
    try {
      const outcome = this.#fleet.restart(which)
      this.#log.info(which === '' ? 'an operator asked to restart all workers' : `an operator asked to restart worker ${which}`)
      outcome.then(
        result => { this.#log.info('workers were restarted', { replaced: result.replaced.length }); if (wait) question.ok(result) },
        (error: unknown) => { this.#log.error('the restart of workers failed', { error }); if (wait) question.refuse('failed', error instanceof Error ? error.message : String(error)) },
      )
      if (!wait) question.ok({ operation: 'restart-workers' })
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      question.refuse('refused', error.message)
    }
  }

  #replaceWorkers(): void {
    // A hang-up because the terminal is gone is the end of the session, not a wish for new workers.
    if (process.stdin.isTTY === true && !terminalLives()) { void this.#stop(this.#options.drain.stopTimeoutMs, 0); return }
    if (this.#fleet === null || this.state !== SupervisorState.Running || this.#signalRestartWaits) return
    this.#signalRestartWaits = this.#fleet.operationName !== ''
    this.#fleet.restart('').then(
      ({ replaced }) => this.#log.info('workers were replaced', { replaced: replaced.length }),
      (error: unknown) => this.#log.error('the replacement of workers failed', { error }),
    ).finally(() => { this.#signalRestartWaits = false })
  }

  async #stop(capMs: number, lameDuckMs: number): Promise<void> {
    if (!this.#moveTo(SupervisorState.Stopping)) return
    this.#describing.abort()
    if (lameDuckMs > 0 && this.#fleet?.accepting === true) {
      this.#log.info(`not ready any more; accepting for another ${lameDuckMs} ms`)
      await Promise.race([delay(lameDuckMs), this.#now.promise])
    }
    const fleet = this.#fleet
    if (fleet !== null) this.#cut = (await fleet.stop({ capMs, onListenersClosed: () => this.#closeListeners() })).cut
    await this.#end(this.#forced ? EXIT.failed : EXIT.ok)
  }

  #force(): void {
    this.#forced = true
    this.#now.resolve()
    this.#fleet?.force()
    // Not stopping yet: nothing is left to wait for.
    void this.#stop(0, 0)
  }

  async #end(code: number): Promise<void> {
    if (!this.#moveTo(SupervisorState.Ended)) return
    this.#closeListeners()
    this.#admin?.close()
    for (const question of this.#stopQuestions) {
      if (code === EXIT.ok) question.ok({ cut: this.#cut })
      else question.refuse('failed', 'workers had to be killed')
    }
    if (this.#control !== null) {
      this.#journal.remove()
      await this.#control.close()
      // A folder that somebody chose is theirs.
      if (ownFolder(this.#options.stateDir)) try { fs.rmdirSync(this.#folder) } catch { /* There is something else in it. */ }
    }
    if (code === EXIT.ok) this.#log.info('stopped', this.#cut === 0 ? {} : { cut: this.#cut })
    this.#ended.resolve(code)
  }

  #closeListeners(): void { this.#table?.close(this.#systemCalls.available ? this.#systemCalls.calls : null) }

  #health(): Health {
    const reason = this.state >= SupervisorState.Stopping ? 'stopping' : this.#fleet?.accepting === true ? '' : 'no worker accepts'
    return { ready: reason === '', started: this.#fleet?.started ?? false, reason }
  }

  #writeJournal(): void {
    this.#journal.write(() => ({
      format: JOURNAL_FORMAT, pid: process.pid, startTime: processStartTime(process.pid), application: this.#setup.application, generation: this.#generationNumber,
      workers: [...this.#fleet?.workers() ?? []].map(({ id, pid, startTime, slot, token }) => ({ id, pid, startTime, slot, token })),
    }))
  }

  #warnAboutBacklog(backlog: number): void {
    let allowed: number
    try { allowed = Number(fs.readFileSync('/proc/sys/net/core/somaxconn', 'utf8')) } catch { return }
    if (allowed < backlog) this.#log.warn(`the kernel cuts accept queues to ${allowed}; raise net.core.somaxconn to ${backlog}`)
  }

  #checkGoingOn(): void { if (this.state >= SupervisorState.Stopping) throw new Refused('stopped while starting') }

  /** Says once, clearly, why there is no server. @returns the exit code. */
  #explain(error: unknown): number {
    const application = path.relative('', this.#setup.application)
    if (error instanceof AlreadyRunning) {
      const pid = this.#journal.read()?.pid
      this.#log.error(`already running, pid ${pid ?? 'unknown'}`, { stateDir: this.#folder })
      return EXIT.running
    }
    if (error instanceof DescribeFailed) this.#log.error(`${application} could not be loaded: ${error.message}`, { stack: error.applicationStack })
    else if (error instanceof StartFailed) this.#log.error(`${application} could not be started: no worker became ready: ${error.message}`, { stack: error.applicationStack })
    else if (error instanceof BindError) this.#log.error(error.message)
    else if (error instanceof ConfigError) {
      for (const mistake of error.mistakes) this.#log.error(formatMistake(mistake))
      return EXIT.usage
    } else if (error instanceof StateFolderError || (error instanceof Error && error.name === 'OptionError')) { this.#log.error(error.message); return EXIT.usage }
    else this.#log.error(`the supervisor failed: ${error instanceof Error ? error.message : String(error)}`, { stack: error instanceof Error ? error.stack : undefined })
    return EXIT.failed
  }

  /** States only go forward. */
  #moveTo(to: SupervisorState): boolean {
    if (to <= this.state) return false
    this.state = to
    return true
  }
}

const MEANINGS = {
  'stop': 'stopping', 'interrupt': 'stopping within seconds', 'force': 'killing what is left', 'replace-workers': 'replacing the workers', 'reopen-logs': 'reopening logs',
} as const

/** An override for a listener that does not exist would be ignored in silence. @throws ConfigError */
export function checkListenerNames(settings: Pick<WorkerSettings, 'listeners'>, description: ServerDescription): void {
  const names = description.listeners.map(listener => listener.name)
  const unknown = unknownListeners(settings.listeners, names)
  if (unknown.length === 0) return
  throw new ConfigError(unknown.map(name => ({ path: `listeners.${name}`, found: 'the name of no listener', expected: `one of *, ${names.join(', ')}`, where: 'configuration' })))
}

/** Absolute path of an entry module of ours; source runs as .ts, the built package as .js. */
function entry(name: string): string {
  return fileURLToPath(new URL(`../${name}${path.extname(import.meta.filename)}`, import.meta.url))
}

function terminalLives(): boolean {
  try {
    fs.closeSync(fs.openSync('/dev/tty', 'r'))
    return true
  } catch { return false }
}

/** From the package that this file belongs to, source or built. */
export function packageVersion(): string {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(fs.readFileSync(new URL(up, import.meta.url), 'utf8')) as { name?: string; version?: string }
      if (name === 'cirque' && version !== undefined) return version
    } catch { /* The other layout. */ }
  }
  return 'unknown'
}
