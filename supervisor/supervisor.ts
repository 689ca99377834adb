/**
 * The supervisor: claims its state folder, learns what the application listens on, binds it, runs the fleet of workers
 * and answers operators until somebody stops it. Runs no application code and accepts no connection of a listener.
 *
 *   Claiming --control socket is ours--> Describing --> Binding --> Starting --all slots accept--> Running
 *       \   \                                \             \           \                           ^ \
 *        \   \                                +-- failed: 1 +-- 1       +-- nobody ever ready: 1    |  +-- stop --> Stopping --> Ended: 0
 *         \   +-- workers of a killed supervisor serve: they are adopted --------------------------+
 *          +-- running already: 3                        an image before us handed over in place --+
 *
 * What comes next, and whether it may stay, is decided in upgrade.ts. A stop is taken in any state. Whatever ends here closes what it opened and removes its sockets from the file system.
 */
import fs from 'node:fs'
import path from 'node:path'
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { ConfigError, formatMistake } from '../src/config/server-config.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import { OptionError } from '../src/primitives/option-table.ts'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { unknownListeners, type WorkerSettings } from '../src/config/worker-settings.ts'
import { PROTOCOL_VERSION } from '../src/ipc/messages.ts'
import type { FromOperator, FromWorker, OperationOutcome, OperationStarted, Welcome } from '../src/ipc/messages.ts'
import type { Question } from '../src/ipc/channel.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { hostAndPort } from '../src/ipc/server-description.ts'
import type { ServerDescription } from '../src/ipc/server-description.ts'
import { loadSystemCalls } from '../src/ipc/system-calls.ts'
import type { SystemCalls, SystemCallsState } from '../src/ipc/system-calls.ts'
import { AdminServer } from './admin-server.ts'
import type { Health } from './admin-server.ts'
import { collectDescriptors, restoreSockets } from './adoption.ts'
import { AlreadyRunning, ControlServer } from './control-server.ts'
import type { WorkerConversation } from './control-server.ts'
import { describeApplication, DescribeFailed } from './describe-application.ts'
import { endByStopSignals } from './early-signals.ts'
import { Fleet, Refused, StartFailed } from './fleet.ts'
import type { FleetSetup } from './fleet.ts'
import { workerExecArgv } from './generation.ts'
import type { Blueprint, Generation } from './generation.ts'
import { resolveIdentity } from './identities.ts'
import type { Identity } from './identities.ts'
import { Journal, JOURNAL_FORMAT, livingWorkers } from './journal.ts'
import type { ConfigOrigin, JournalEntry } from './journal.ts'
import { BindError, ListenerTable, SYSTEM_BINDER } from './listener-table.ts'
import type { SocketBinder } from './listener-table.ts'
import { processStartTime, SystemProcessHost } from './process-host.ts'
import type { ProcessHost } from './process-host.ts'
import { replaceSupervisor } from './reexec.ts'
import type { Image } from './reexec.ts'
import { currentLinkOf, fingerprintOf, flipCurrent, readRelease, ReleaseError, releaseOf } from './releases.ts'
import type { Release } from './releases.ts'
import { SignalPolicy } from './signals.ts'
import type { HandledSignal } from './signals.ts'
import { JOURNAL, ownFolder, prepareStateFolder, StateFolderError, stateFolderOf, WORKER_SOCKET } from './state-folder.ts'
import { ServiceManager } from './systemd.ts'
import { Upgrades } from './upgrade.ts'
import type { OperationRequest, Plan, Resumption, UpgradesRecord, UpgradeWorld } from './upgrade.ts'
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
  readonly config: ServerConfig
  /** Where the configuration came from, and how it is read again. @throws ConfigError */
  readonly origin: ConfigOrigin
  readonly readConfig: () => ServerConfig
  readonly log: ProcessLog
  /** What a reload or an upgrade has read is committed. */
  readonly onConfigured?: (settings: WorkerSettings) => void
  /** Resolves when the log has written what waits. */
  readonly flushLogs?: () => Promise<void>
  /** The supervisor's own log files were renamed. */
  readonly onReopenLogs?: () => void
  /** Told once, when every slot accepts. */
  readonly onRunning?: (status: SupervisorStatus) => void
  readonly host?: ProcessHost
  readonly binder?: SocketBinder
}

interface FreshStart {
  readonly release: Release
  readonly identity: Identity
  /** Pids of workers that an earlier supervisor left, and that may still hold the addresses. */
  readonly orphans: readonly number[]
  readonly kept: UpgradesRecord | null
}

/** The answer to `status`. */
export interface SupervisorStatus {
  readonly version: string
  readonly protocol: number
  readonly pid: number
  readonly node: string
  readonly state: string
  readonly application: string
  /** Folder of the release that serves, and of the one that `rollback` goes back to; ''. */
  readonly release: string
  readonly previousRelease: string
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
  /** Of upgrades, reloads and roll-backs, oldest first. */
  readonly outcomes: readonly OperationOutcome[]
}

export class Supervisor {
  state: SupervisorState = SupervisorState.Claiming
  readonly #setup: SupervisorSetup
  #options: ResolvedSupervisorOptions
  readonly #log: ProcessLog
  readonly #host: ProcessHost
  readonly #binder: SocketBinder
  readonly #folder: string
  #startedAt = Date.now()
  readonly #signals = new SignalPolicy()
  readonly #journal: Journal
  readonly #ended = Promise.withResolvers<number>()
  #systemCalls: SystemCallsState = { available: false, reason: 'not loaded yet' }
  #serviceManager: ServiceManager
  #control: ControlServer | null = null
  #admin: AdminServer | null = null
  #adminAddress = ''
  #table: ListenerTable
  #fleet: Fleet | null = null
  #upgrades: Upgrades | null = null
  #generationNumber = 0
  /** Of our own code and runtime. */
  #fingerprint = ''
  /** Of releases that bring no Node.js. */
  #usualNode = process.execPath
  #stopQuestions: Question[] = []
  #forced = false
  /** Resolves when nobody wants to wait any more. */
  readonly #now = Promise.withResolvers<void>()
  /** Resolves when the folder is ours, and with it the workers that an earlier supervisor has left. */
  readonly #known = Promise.withResolvers<void>()
  /** Resolves when these have been adopted; never, when that fails: somebody else goes on then, or nobody. */
  #takingOver: Promise<void> = Promise.resolve()
  #handingOver = false
  /** Of the supervisor before us, until we have something of our own: a kill in between must not lose it. */
  #inherited: JournalEntry | null = null
  /** Of a supervisor before us, and not adopted. */
  #abandoned: Fleet | null = null
  readonly #describing = new AbortController()
  #cut = 0

  constructor(setup: SupervisorSetup) {
    this.#setup = setup
    this.#options = setup.config.supervisor
    this.#log = setup.log
    this.#host = setup.host ?? new SystemProcessHost(() => this.#calls)
    this.#binder = setup.binder ?? SYSTEM_BINDER
    this.#folder = stateFolderOf(setup.application, this.#options.stateDir)
    this.#journal = new Journal(path.join(this.#folder, JOURNAL), error => this.#log.error('the journal cannot be written: if this supervisor is killed now, the next one may not know all of its workers', { error }))
    this.#table = new ListenerTable(this.#options.workers, this.#log, this.#binder)
    // Of an empty environment: somebody to talk to before the system calls are there.
    this.#serviceManager = ServiceManager.fromEnvironment({}, null, this.#log)
  }

  get #calls(): SystemCalls | null { return this.#systemCalls.available ? this.#systemCalls.calls : null }

  /** The whole life, from a start by hand. @returns the exit code. */
  run(): Promise<number> {
    this.#start().catch((error: unknown) => {
      // Stopped while it started: what was under way failed because of that.
      if (this.state < SupervisorState.Stopping) void this.#end(this.#explain(error))
    })
    return this.#ended.promise
  }

  /** The rest of a life that another image of this process began. Rejects before `onTakenOver` was called when it cannot be done. @returns the exit code. */
  async resume(entry: JournalEntry, resumption: Resumption, onTakenOver: () => void): Promise<number> {
    try {
      await this.#whileTakingOver(() => this.#takeOver(entry, resumption, onTakenOver))
    } catch (error) {
      // Told to kill everything, and able to: there is nothing to bring back.
      if (!this.#forced || this.#control === null) throw error
      onTakenOver()
    }
    return this.#ended.promise
  }

  onSignal(signal: HandledSignal): void {
    const meaning = this.#signals.meaning(signal, performance.now())
    if (meaning === 'nothing') return
    this.#log.info(`${signal}: ${MEANINGS[meaning]}`)
    switch (meaning) {
      case 'stop': void this.#stop(this.#options.drain.stopTimeoutMs, this.#options.drain.lameDuckMs); break
      case 'interrupt': void this.#stop(this.#options.drain.interruptTimeoutMs, 0); break
      case 'force': this.#force(); break
      case 'reload': this.#onHangUp(); break
      case 'upgrade': this.#operate({ kind: 'upgrade', folder: '', supervisor: 'if-changed' }, null); break
      case 'reopen-logs': this.#reopenLogs(); break
      default: meaning satisfies never
    }
  }

  status(): SupervisorStatus {
    const { application } = this.#setup
    const fleet = this.#fleet
    return {
      version: packageVersion(), protocol: PROTOCOL_VERSION, pid: process.pid, node: process.version, state: STATE_NAMES[this.state], application,
      release: fleet?.generation.release.folder ?? '', previousRelease: this.#upgrades?.previousFolder ?? '',
      generation: fleet?.generation.number ?? this.#generationNumber, startedAt: new Date(this.#startedAt).toISOString(), uptimeMs: Date.now() - this.#startedAt,
      operation: this.#operationText(), stateDir: this.#folder, controlSocket: this.#control?.controlPath ?? '', admin: this.#adminAddress,
      systemCalls: this.#systemCalls.available ? 'available' : `not available: ${this.#systemCalls.reason}`,
      listeners: this.#table.listeners.map(({ name, service, canonical, bound, sockets }) => ({ name, service, address: canonical, bound, sockets: sockets.length })),
      slots: fleet?.status() ?? [], totals: fleet?.totals() ?? {}, outcomes: this.#upgrades?.outcomes ?? [],
    }
  }

  // ---- starting

  async #start(): Promise<void> {
    // From the first line: a stop that comes before the workers of an earlier supervisor are known could not tell them.
    const fresh = await this.#whileTakingOver(() => this.#claimOrAdopt())
    if (fresh !== null) await this.#startFresh(fresh)
  }

  /** @returns null when the workers of an earlier supervisor are ours now; otherwise what a start from nothing needs. */
  async #claimOrAdopt(): Promise<FreshStart | null> {
    const identity = resolveIdentity(this.#options.user, this.#options.group)
    prepareStateFolder(this.#folder, identity.uid !== null || identity.gid !== null)
    this.#systemCalls = await loadSystemCalls()
    if (!this.#systemCalls.available) this.#log.warn('system calls are not available: workers carry spare copies of their sockets', { reason: this.#systemCalls.reason })
    this.#serviceManager = ServiceManager.fromEnvironment(process.env, this.#calls, this.#log)
    const before = this.#journal.read()
    const orphans = before === null ? [] : livingWorkers(before)
    const release = releaseOf(this.#setup.application)
    // Whoever started us may have used another Node.js than the release brings.
    this.#fingerprint = fingerprintOf(release.installation, process.execPath)
    this.#generationNumber = Math.max(before?.generation ?? 0, before?.upgrades?.lastNumber ?? 0)
    this.#inherited = before
    // Before its workers can ask: one that is refused drains and ends.
    const adopting = before !== null && orphans.length > 0 && this.#calls !== null && this.#restoreFleet(before)
    try {
      await this.#claim(identity, null)
    } catch (error) {
      // They are somebody else's, who runs.
      if (this.#control === null) this.#fleet = this.#upgrades = null
      throw error
    }
    if (adopting && await this.#adopt(before)) return null
    return { release, identity, orphans: orphans.map(orphan => orphan.pid), kept: before?.upgrades ?? null }
  }

  async #startFresh({ release, identity, orphans, kept }: FreshStart): Promise<void> {
    this.#checkGoingOn()
    this.#table.offer(this.#serviceManager.inherited.map(({ fd, address }) => ({ fd, bound: address.kind === 'unix' ? `unix:${address.path}` : hostAndPort(address.host, address.port) })))
    this.#moveTo(SupervisorState.Describing)
    const blueprint: Blueprint = { release, args: this.#setup.args, execArgv: workerExecArgv(), ...identity }
    const description = await describeApplication(blueprint, this.#options.describeTimeoutMs, this.#describing.signal)
    this.#checkGoingOn()
    const settings = settingsOf(this.#setup.config)
    checkListenerNames(settings, description)

    this.#moveTo(SupervisorState.Binding)
    await this.#bind(description, orphans)
    for (const { fd, bound } of this.#table.takeUnused()) {
      this.#log.warn(`the service manager gave us a socket for ${bound}, where the application does not listen; it is closed`)
      fs.closeSync(fd)
    }
    this.#warnAboutBacklog(Math.max(0, ...description.listeners.map(listener => listener.backlog)))
    await this.#listenAdmin(-1)
    this.#checkGoingOn()

    this.#moveTo(SupervisorState.Starting)
    this.#generationNumber++
    const generation: Generation = {
      number: this.#generationNumber, ...blueprint, readAt: Date.now(), description, settings, workers: this.#options.workers, layout: this.#table.layout(description.listeners, this.#copies),
    }
    this.#fleet = new Fleet(this.#fleetSetup(generation))
    this.#inherited = null
    this.#upgrades = new Upgrades(this.#fleet, this.#world(), this.#host, this.#log, kept)
    this.#upgrades.giveUp('the supervisor was killed meanwhile, and nothing was left of it')
    await this.#fleet.start()
    this.#serving()
  }

  #serving(): void {
    if (!this.#moveTo(SupervisorState.Running)) return
    this.#keepSockets()
    this.#serviceManager.ready(this.#statusLine())
    this.#serviceManager.startWatchdog()
    this.#setup.onRunning?.(this.status())
  }

  /** The service manager holds copies, so that the queue survives even the end of all of us. */
  #keepSockets(): void {
    if (this.#serviceManager.present) for (const { key, sockets } of this.#table.listeners) this.#serviceManager.store(key, sockets.map(({ fd }) => fd))
  }

  #statusLine(): string {
    const fleet = this.#fleet!
    return `generation ${fleet.generation.number}, ${fleet.generation.workers} workers, ${fleet.generation.release.folder}`
  }

  async #claim(identity: Identity, held: { readonly control: number; readonly worker: number } | null): Promise<void> {
    const control = new ControlServer({
      folder: this.#folder, options: this.#options, log: this.#log, workerUid: identity.uid, workerGid: identity.gid, calls: this.#calls, held,
      handlers: {
        onOperator: (message, question) => this.#onOperator(message, question),
        onHello: (hello, link, question) => this.#onHello(hello, link, question),
      },
    })
    await control.listen()
    this.#control = control
    this.#known.resolve()
    this.#writeJournal()
    this.#checkGoingOn()
  }

  async #listenAdmin(heldFd: number): Promise<void> {
    if (this.#options.adminAddress === '') return
    this.#admin = new AdminServer(() => this.#health())
    try {
      this.#adminAddress = await this.#admin.listen(this.#options.adminAddress, this.#calls, heldFd)
    } catch (error) {
      throw new BindError((error as NodeJS.ErrnoException).code ?? '', `the admin listener cannot listen on ${this.#options.adminAddress}: ${(error as Error).message}`, error)
    }
  }

  /** Workers of a killed supervisor that nobody adopted hold the addresses until they have drained; they are told to when they come back. */
  async #bind(description: ServerDescription, orphans: readonly number[]): Promise<void> {
    const deadlineMs = performance.now() + this.#options.orphanDrainAfterMs + this.#options.ackTimeoutMs
    let said = false
    for (;;) {
      try {
        await this.#table.bind(description.listeners, this.#options.workers)
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

  get #copies(): number { return this.#systemCalls.available ? 1 : COPIES_WITHOUT_SYSTEM_CALLS }

  #fleetSetup(generation: Generation): FleetSetup {
    return {
      host: this.#host, options: this.#options, log: this.#log, generation,
      descriptors: of => this.#table.descriptors(of.description.listeners, of.layout),
      controlPath: path.join(this.#folder, WORKER_SOCKET), onChange: () => this.#writeJournal(),
    }
  }

  // ---- taking over from an earlier supervisor

  async #whileTakingOver<T>(run: () => Promise<T>): Promise<T> {
    const over = Promise.withResolvers<void>()
    this.#takingOver = over.promise
    this.#handingOver = true
    const result = await run()
    this.#handingOver = false
    over.resolve()
    return result
  }

  /** @returns false when the journal names no generation that serves. */
  #restoreFleet(entry: JournalEntry): boolean {
    const committed = entry.fleet?.generations.find(generation => generation.number === entry.fleet!.committed)
    if (entry.fleet === null || committed === undefined) return false
    this.#generationNumber = entry.generation
    this.#startedAt = entry.startedAt
    this.#fleet = Fleet.restore(this.#fleetSetup(committed), entry.fleet, Date.now())
    this.#upgrades = new Upgrades(this.#fleet, this.#world(), this.#host, this.#log, entry.upgrades)
    return true
  }

  /** After a kill: workers serve on and say hello again; one of them gives the sockets back. @returns false when none could: then everything starts anew. */
  async #adopt(entry: JournalEntry): Promise<boolean> {
    const fleet = this.#fleet!
    const sinceMs = performance.now()
    const unheard = await fleet.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)
    const workers = [...fleet.workers()].filter(worker => worker.alive)
    const given = await collectDescriptors(fleet, this.#folder, this.#calls!, this.#log)
    // Copies: should we have to start anew, that will want them.
    for (const { fd } of this.#serviceManager.inherited) given.add(this.#calls!.dup(fd))
    restoreSockets(this.#table, fleet, entry, given, this.#log)
    given.close()
    const { generation } = fleet
    try {
      await this.#table.bind(generation.description.listeners, Math.max(entry.slots, generation.layout.slots))
    } catch (error) {
      this.#log.warn('the workers of the supervisor before could not be adopted; they finish what they have', { error, pids: workers.map(worker => worker.pid) })
      this.#table.close(null)
      this.#table = new ListenerTable(this.#options.workers, this.#log, this.#binder)
      fleet.abandon()
      this.#abandoned = fleet
      this.#fleet = null
      const upgrades = this.#upgrades!.giveUp('the supervisor was killed meanwhile, and its workers could not be adopted')
      this.#upgrades = null
      this.#inherited = { ...entry, upgrades }
      return false
    }
    for (const { fd } of this.#serviceManager.inherited) fs.closeSync(fd)
    this.#inherited = null
    this.#checkGoingOn()
    try {
      await this.#listenAdmin(-1)
    } catch (error) {
      // No reason to leave workers alone that serve.
      this.#log.error(error instanceof Error ? error.message : String(error))
    }
    fleet.settle((entry.upgrades?.running ?? null) !== null)
    this.#log.warn('adopted the workers of a supervisor that was killed', { workers: workers.map(worker => worker.id), unheard, tookMs: Math.round(performance.now() - sinceMs) })
    this.#serving()
    // May take as long as workers take to start; whoever asks for something, or stops, does not wait for it.
    this.#upgrades!.resume({ how: 'killed', reason: 'the supervisor was killed meanwhile' }).then(() => this.#catchUp(generation), (error: unknown) => this.#log.error('what was under way could not be ended', { error }))
    return true
  }

  /** Whoever started us may have changed something since the workers were started. */
  #catchUp(generation: Generation): void {
    const release = releaseOf(this.#setup.application)
    const changed = release.folder !== generation.release.folder || release.application !== generation.release.application || !isDeepStrictEqual(settingsOf(this.#setup.config), generation.settings)
      || !isDeepStrictEqual(this.#setup.args, generation.args) || this.#setup.config.supervisor.workers !== generation.workers || changedSince(release.application, generation.readAt)
    if (!changed || this.state !== SupervisorState.Running) return
    this.#log.info('the workers run what the supervisor before had read; reading it again')
    this.#operate({ kind: release.folder === generation.release.folder ? 'reload' : 'upgrade', folder: release.folder, supervisor: 'if-changed' }, null)
  }

  /** After an exec: everything is still open, children are still children, only their connections to us are gone. */
  async #takeOver(entry: JournalEntry, resumption: Resumption, onTakenOver: () => void): Promise<void> {
    this.#systemCalls = await loadSystemCalls()
    if (this.#calls === null) throw new Error('system calls are not available any more')
    this.#serviceManager = ServiceManager.fromEnvironment(process.env, this.#calls, this.#log)
    this.#serviceManager.startWatchdog()
    this.#fingerprint = resumption.how === 'forward' ? entry.upgrades?.running?.plan?.generation.release.fingerprint ?? entry.fingerprint : entry.fingerprint
    this.#usualNode = entry.usualNode
    this.#table.restore(entry.listeners, entry.slots, (listener, index) => {
      const { fd, inode } = listener.sockets[index]!
      return this.#binder.inode(fd) === inode ? fd : null
    })
    if (!this.#restoreFleet(entry)) throw new Error('the journal names no generation that serves')
    // A worker that is forked now would be a child that the image before does not know.
    if (resumption.how === 'forward') void this.#fleet!.freeze()
    const { uid, gid } = this.#fleet!.generation
    await this.#claim({ uid, gid }, entry.sockets)
    await this.#listenAdmin(entry.sockets.admin)
    const unheard = await this.#fleet!.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)
    this.#fleet!.settle(true)
    this.#log.info('took over in place', { unheard })
    if (resumption.how === 'forward') {
      // Not running before: what would be asked now is lost when the image before comes back.
      await this.#upgrades!.resume(resumption, () => {
        onTakenOver()
        this.#fleet!.thaw()
        this.#moveTo(SupervisorState.Running)
      })
    } else {
      onTakenOver()
      this.#moveTo(SupervisorState.Running)
      this.#upgrades!.resume(resumption).catch((error: unknown) => this.#log.error('the upgrade could not be rolled back', { error }))
    }
    this.#serviceManager.ready(this.#statusLine())
  }

  // ---- upgrades

  #operate(request: OperationRequest, question: Question | null): void {
    if (this.#upgrades === null || this.state !== SupervisorState.Running) { question?.refuse('refused', `the server is ${STATE_NAMES[this.state]}`); return }
    try {
      const id = this.#upgrades.request(request)
      question?.ok({ id } satisfies OperationStarted)
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      if (question === null) this.#log.warn(error.message)
      else question.refuse('refused', error.message)
    }
  }

  #world(): UpgradeWorld {
    return {
      prepare: (request, number, signal) => this.#prepare(request, number, signal),
      bind: async plan => {
        const { generation } = plan
        await this.#table.bind(generation.description.listeners, generation.workers)
        this.#keepSockets()
        return { ...plan, generation: { ...generation, layout: this.#table.layout(generation.description.listeners, this.#copies) } }
      },
      holdOff: generation => this.#table.holdOff(generation.description.listeners, this.#calls),
      retain: generation => {
        for (const { key } of this.#table.retain(generation.description.listeners, this.#calls)) this.#serviceManager.remove(key)
        this.#serviceManager.status(this.#statusLine())
      },
      replaceSupervisor: plan => this.#replaceSupervisor(plan),
      flip: plan => {
        const link = currentLinkOf(this.#setup.application)
        if (link !== null) flipCurrent(link.link, plan.to)
        this.#options = plan.options
        this.#setup.onConfigured?.(plan.generation.settings)
        this.#generationNumber = plan.generation.number
      },
      flipped: plan => {
        const link = currentLinkOf(this.#setup.application)
        return link === null ? null : fs.realpathSync(link.link) === plan.to
      },
      record: () => {
        this.#writeJournal()
        return this.#journal.flush()
      },
    }
  }

  async #prepare(request: OperationRequest, number: number, signal: AbortSignal): Promise<Plan> {
    const readAt = Date.now()
    const config = this.#setup.readConfig()
    const options = config.supervisor
    for (const key of ['stateDir', 'adminAddress', 'user', 'group'] as const) {
      if (options[key] !== this.#options[key]) throw OptionError.of(`supervisor.${key}`, options[key], `it was ${JSON.stringify(this.#options[key])} at the start and cannot change while the server runs; leave it, or stop and start`)
    }
    const here = this.#fleet!.generation.release
    const folder = request.folder === '' ? here.folder : path.resolve(this.#setup.origin.folder, request.folder)
    const release = readRelease(folder, path.relative(here.folder, here.application), this.#usualNode)
    const blueprint: Blueprint = { release, args: this.#setup.args, execArgv: workerExecArgv(), ...resolveIdentity(options.user, options.group) }
    const description = await describeApplication(blueprint, options.describeTimeoutMs, signal)
    const settings = settingsOf(config)
    checkListenerNames(settings, description)
    const changed = request.kind !== 'reload' && (request.supervisor === 'always' || release.fingerprint !== this.#fingerprint)
    if (changed && this.#calls === null) {
      if (request.supervisor === 'always') throw new Refused(`the supervisor cannot replace itself: ${this.status().systemCalls}`)
      this.#log.warn('the workers get the new release, the supervisor stays as it is until the next start: system calls are not available')
    }
    // Described now, laid out when its sockets are bound.
    const generation: Generation = { number, ...blueprint, readAt, description, settings, workers: options.workers, layout: { slots: 0, copies: 1, listeners: [] } }
    return { generation, options, replaceSupervisor: changed && this.#calls !== null, from: here.folder, to: release.folder }
  }

  async #replaceSupervisor(plan: Plan): Promise<never> {
    const fleet = this.#fleet!
    await fleet.freeze()
    await this.#setup.flushLogs?.()
    // Signals that came until now have been told: they are polled for between the two.
    await setImmediate()
    await setImmediate()
    if (this.state >= SupervisorState.Stopping) {
      fleet.thaw()
      throw new Refused('the server is stopping')
    }
    const takeStops = endByStopSignals()
    const { control, worker } = this.#control!.descriptors
    const admin = this.#admin?.descriptor ?? -1
    const state = this.#journalEntry()
    const execArgv = [...process.execArgv.filter(argument => argument !== NO_WARNINGS), NO_WARNINGS]
    const imageOf = (release: Release): Image => ({ node: release.node, execArgv, entry: release.entries.resume, boot: release.entries.boot })
    this.#serviceManager.reloading()
    const told = this.#serviceManager.environmentForExec()
    Object.assign(process.env, told)
    try {
      replaceSupervisor(this.#folder, {
        format: 1, attempt: 'forward', reason: '', to: imageOf(plan.generation.release),
        back: { node: process.execPath, execArgv, entry: entry('supervisor/resume'), boot: entry('supervisor/boot') },
        descriptors: [...this.#table.allDescriptors, control, worker, ...(admin === -1 ? [] : [admin])], bootTimeoutMs: plan.options.upgrade.bootTimeoutMs, state,
      }, this.#calls!)
    } catch (error) {
      takeStops()
      for (const name of Object.keys(told)) delete process.env[name]
      this.#serviceManager.ready(this.#statusLine())
      fleet.thaw()
      throw new Refused(`the supervisor could not be replaced: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  // ---- messages

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
    const options = fleet.optionsOf(worker)
    const { heartbeatMs, orphanDrainAfterMs, maxControlMessageBytes } = options
    const orphanPolicy = options.orphanPolicy !== 'auto' ? options.orphanPolicy : this.#serviceManager.present ? 'keep' : 'drain-after'
    const welcome: Welcome = { protocol: PROTOCOL_VERSION, heartbeatMs, orphanPolicy, orphanDrainAfterMs, orphanDrain: fleet.orphanDrain, maxControlMessageBytes, settings: fleet.generationOf(worker).settings }
    question.ok(welcome)
    return { onMessage: message => fleet.onMessage(worker, message), onClose: () => fleet.linkLost(worker, link) }
  }

  #onOperator(message: FromOperator, question: Question): void {
    if (this.#handingOver && message.tag !== 'status' && !(message.tag === 'stop' && message.force)) {
      // A matter of milliseconds; then it is answered as ever. When it fails the connection ends, and whoever asked asks again.
      void this.#takingOver.then(() => this.#onOperator(message, question))
      return
    }
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
      case 'upgrade':
        this.#operate({ kind: 'upgrade', folder: message.folder, supervisor: message.supervisor === 'always' ? 'always' : 'if-changed' }, question)
        break
      case 'reload':
      case 'rollback':
        this.#operate({ kind: message.tag, folder: '', supervisor: 'if-changed' }, question)
        break
      case 'outcome':
        if (this.#upgrades === null) { question.refuse('refused', `there is no operation '${message.id}'`); break }
        this.#upgrades.outcome(message.id).then(outcome => question.ok(outcome), (error: Error) => question.refuse('refused', error.message))
        break
      default:
        message satisfies never
    }
  }

  #operationText(): string {
    const running = this.#upgrades?.running ?? null
    return running === null ? this.#fleet?.operationName ?? '' : `${running.id}: ${running.step}`
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

  #onHangUp(): void {
    // A hang-up because the terminal is gone is the end of the session, not a wish for new workers.
    if (process.stdin.isTTY === true && !terminalLives()) void this.#stop(this.#options.drain.stopTimeoutMs, 0)
    else this.#operate({ kind: 'reload', folder: '', supervisor: 'if-changed' }, null)
  }

  // ---- stopping

  async #stop(capMs: number, lameDuckMs: number): Promise<void> {
    // Workers that are not back yet could not be told, and an image that has not committed would go back.
    await Promise.race([this.#takingOver, this.#now.promise.then(() => this.#known.promise)])
    if (!this.#moveTo(SupervisorState.Stopping)) return
    this.#serviceManager.stopping()
    this.#describing.abort()
    if (lameDuckMs > 0 && this.#fleet?.accepting === true) {
      this.#log.info(`not ready any more; accepting for another ${lameDuckMs} ms`)
      await Promise.race([delay(lameDuckMs), this.#now.promise])
    }
    const fleet = this.#fleet
    const abandoned = this.#abandoned?.outlive(capMs)
    if (fleet !== null) this.#cut = (await fleet.stop({ capMs, onListenersClosed: () => this.#closeListeners() })).cut
    await abandoned
    await this.#end(this.#forced ? EXIT.failed : EXIT.ok)
  }

  #force(): void {
    this.#forced = true
    this.#now.resolve()
    void this.#known.promise.then(() => {
      this.#fleet?.force()
      this.#abandoned?.force()
      // Not stopping yet: nothing is left to wait for.
      return this.#stop(0, 0)
    })
  }

  async #end(code: number): Promise<void> {
    if (!this.#moveTo(SupervisorState.Ended)) return
    this.#closeListeners()
    this.#admin?.close()
    if (this.#upgrades !== null && this.#control !== null) {
      this.#upgrades.giveUp('the server stopped')
      // Whoever waits for an outcome is answered before the connections end.
      await setImmediate()
    }
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

  /** What the service manager keeps is not shut down: a restart goes on with its queue, and at a stop it is let go. */
  #closeListeners(): void { this.#table.close(this.#serviceManager.present ? null : this.#calls, this.#serviceManager.present) }

  #health(): Health {
    const reason = this.state >= SupervisorState.Stopping ? 'stopping' : this.#fleet?.accepting === true ? '' : 'no worker accepts'
    return { ready: reason === '', started: this.#fleet?.started ?? false, reason }
  }

  /** Not before the folder is ours: until then it is the journal of whoever runs here. */
  #writeJournal(): void { if (this.#control !== null) this.#journal.write(() => this.#journalEntry()) }

  #journalEntry(): JournalEntry {
    const { application, args, origin } = this.#setup
    return {
      format: JOURNAL_FORMAT, pid: process.pid, startTime: processStartTime(process.pid), application, args, origin, options: this.#options, fingerprint: this.#fingerprint, usualNode: this.#usualNode,
      startedAt: this.#startedAt, generation: this.#generationNumber, slots: this.#inherited?.slots ?? this.#table.slots, listeners: this.#inherited?.listeners ?? this.#table.record(),
      sockets: { ...this.#control?.descriptors ?? { control: -1, worker: -1 }, admin: this.#admin?.descriptor ?? -1 },
      fleet: this.#fleet?.record(Date.now()) ?? this.#inherited?.fleet ?? null, upgrades: this.#upgrades?.record() ?? this.#inherited?.upgrades ?? null,
    }
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
    } else if (error instanceof StateFolderError || error instanceof ReleaseError || (error instanceof Error && error.name === 'OptionError')) { this.#log.error(error.message); return EXIT.usage }
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

/** Of node:ffi and execve, which we chose knowingly. */
const NO_WARNINGS = '--disable-warning=ExperimentalWarning'

const MEANINGS = {
  'stop': 'stopping', 'interrupt': 'stopping within seconds', 'force': 'killing what is left', 'reload': 'reading configuration and application again', 'upgrade': 'upgrading in place', 'reopen-logs': 'reopening logs',
} as const

/** An override for a listener that does not exist would be ignored in silence. @throws ConfigError */
export function checkListenerNames(settings: Pick<WorkerSettings, 'listeners'>, description: ServerDescription): void {
  const names = description.listeners.map(listener => listener.name)
  const unknown = unknownListeners(settings.listeners, names)
  if (unknown.length === 0) return
  throw new ConfigError(unknown.map(name => ({ path: `listeners.${name}`, found: 'the name of no listener', expected: `one of *, ${names.join(', ')}`, where: 'configuration' })))
}

/** What workers are told of the configuration. */
function settingsOf({ log, limits, listeners }: ServerConfig): WorkerSettings { return { log, limits, listeners } }

function changedSince(file: string, wallMs: number): boolean {
  try { return fs.statSync(file).mtimeMs > wallMs } catch { return false }
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
