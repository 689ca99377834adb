/**
 * The life of a supervisor: claims its state folder, learns what the application listens on, binds it, runs the fleet of
 * workers until an operator stops it. Runs no application code and accepts no connection of a listener.
 *
 *   Claiming --control socket is ours--> Describing --> Binding --> Starting --all slots accept--> Running
 *       \   \                                \             \           \                           ^ \
 *        \   \                                +-- failed: 1 +-- 1       +-- no worker ready: 1      |  +-- stop --> Stopping --> Ended: 0
 *         \   +-- workers of a killed supervisor serve: they are adopted --------------------------+
 *          +-- running already: 3                        an image before us handed over in place --+
 *
 * A stop is taken in any state. A life that ends closes what it opened and removes its sockets from the file system.
 * Leaves to others: what comes next and whether it may stay (upgrade.ts over release-world.ts), what operators ask
 * (operator-desk.ts), who is a worker (worker-desk.ts), what is held open (holdings.ts), and every touch of the operating
 * system (supervisor-world.ts).
 * One idea in more than 500 lines: the steps of the life, with what ends each of them, are read side by side.
 * Tests: test/simulation runs this class in thousands of bad worlds; test/integration and test/supervisor/boot.serial in real processes.
 */
import path from 'node:path'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { OperationOutcome } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { renderMetrics } from '../src/telemetry/exporters/prometheus-text.ts'
import type { AdminSource, Health } from './admin-server.ts'
import { CertificateDesk } from './certificate-desk.ts'
import { AlreadyRunning } from './control-sockets.ts'
import { ErrorReports } from './error-reports.ts'
import { EXIT, explainEnd } from './exit-codes.ts'
import { Fleet } from './fleet.ts'
import type { Generation } from './generation.ts'
import { Holdings } from './holdings.ts'
import type { OwnSockets } from './holdings.ts'
import type { Identity } from './identities.ts'
import { Instance } from './instance-id.ts'
import { Journal, JOURNAL_FORMAT, livingWorkers } from './journal.ts'
import type { JournalEntry } from './journal.ts'
import { BindError } from './listener-table.ts'
import { LevelOverride, tellWorkers } from './log-level.ts'
import { MetricLedger } from './metric-ledger.ts'
import { metricsReport, type SupervisorFacts } from './metrics-report.ts'
import { OperatorDesk } from './operator-desk.ts'
import type { DeskLife, SupervisorStatus } from './operator-desk.ts'
import type { ProcessHost } from './process-host.ts'
import { Refused } from './refusals.ts'
import { ReleaseWorld } from './release-world.ts'
import type { ReleaseLife } from './release-world.ts'
import type { Release } from './releases.ts'
import type { FleetSetup } from './roster.ts'
import { SignalPolicy } from './signals.ts'
import type { HandledSignal } from './signals.ts'
import { JOURNAL, WORKER_SOCKET } from './state-folder.ts'
import { SupervisorState } from './supervisor-state.ts'
import { elapse } from './supervisor-world.ts'
import type { SupervisorSetup, SupervisorWorld } from './supervisor-world.ts'
import { TicketKeeper } from './ticket-keeper.ts'
import { MAX_TICKET_FILE_BYTES } from './ticket-keys-file.ts'
import { Upgrades } from './upgrade.ts'
import type { Resumption, UpgradesRecord } from './upgrade.ts'
import { register } from './worker-desk.ts'

/** How often a start looks whether the workers of a killed supervisor have let go of their addresses, in ms. */
const ORPHAN_POLL_MS = 100

interface FreshStart {
  readonly release: Release
  readonly identity: Identity
  /** Pids of workers that an earlier supervisor left, and that may still hold the addresses. */
  readonly orphans: readonly number[]
  /** There may be others, of which nothing is known. */
  readonly mayHaveOrphans: boolean
  readonly kept: UpgradesRecord | null
}

export class Supervisor implements ReleaseLife, DeskLife {
  readonly holdings: Holdings
  readonly releases: ReleaseWorld
  readonly logLevel: LevelOverride
  readonly reports: ErrorReports
  readonly #desk: OperatorDesk
  readonly #setup: SupervisorSetup
  readonly #world: SupervisorWorld
  readonly #log: ProcessLog
  readonly #host: ProcessHost
  readonly #journal: Journal
  readonly #instance: Instance
  readonly ledger: MetricLedger
  readonly tickets: TicketKeeper
  readonly certificates: CertificateDesk
  readonly #signals = new SignalPolicy()
  readonly #ended = Promise.withResolvers<number>()
  #state: SupervisorState = SupervisorState.Claiming
  #startedAt: number
  #fleet: Fleet | null = null
  #upgrades: Upgrades | null = null
  /** An operator or a second signal wants the end now, whatever it costs. */
  #forced = false
  /** Resolves when that is so: then the waits of a polite stop end. */
  readonly #hurry = Promise.withResolvers<void>()
  /** Resolves when the folder is ours, and the workers that an earlier supervisor has left are known. */
  readonly #known = Promise.withResolvers<void>()
  /** While workers of an earlier supervisor are being taken over. A take-over that fails never resolves it: this image is done for then. */
  #takeOver: PromiseWithResolvers<void> | null = null
  /** Of the supervisor before us, until we have something of our own: a kill in between must not lose it. */
  #inherited: JournalEntry | null = null
  /** Workers of a supervisor before us that could not be adopted: they drain. */
  #abandoned: Fleet | null = null
  readonly #describing = new AbortController()
  /** Connections that were cut by a stop. */
  #cut = 0

  constructor(setup: SupervisorSetup, world: SupervisorWorld) {
    const { log, stateFolder, config } = setup
    this.#setup = setup
    this.#world = world
    this.#log = log
    this.#host = world.host
    this.#startedAt = world.wallMs()
    this.#journal = new Journal(path.join(stateFolder.path, JOURNAL), error => {
      log.error('the journal cannot be written: if this supervisor is killed now, the next one may not know all of its workers', { error })
    }, world.disk)
    this.logLevel = new LevelOverride(world.host, now => {
      setup.onLogLevel?.(now?.level ?? null)
      if (this.#fleet !== null) tellWorkers(this.#fleet, now)
      this.#writeJournal()
    })
    this.#instance = new Instance(stateFolder.path, world.disk, log)
    this.ledger = new MetricLedger(stateFolder.path, world.metricDisk, log)
    this.tickets = new TicketKeeper({
      host: world.host, log, wallMs: () => world.wallMs(), readFile: file => world.readSmallFile(file, MAX_TICKET_FILE_BYTES),
      fleet: () => this.#fleet, record: () => this.record(),
    })
    this.certificates = new CertificateDesk({ host: world.host, log, wallMs: () => world.wallMs(), fleet: () => this.#fleet })
    this.reports = new ErrorReports(world, log, this.ledger)
    this.reports.configure(config.sentry)
    this.holdings = new Holdings(world, stateFolder.path, config.supervisor.workers, log)
    this.releases = new ReleaseWorld(setup, world, this.holdings, this)
    this.#desk = new OperatorDesk(setup, world, this.holdings, this.releases, this)
  }

  get state(): SupervisorState { return this.#state }
  get stopping(): boolean { return this.#state >= SupervisorState.Stopping }
  get fleet(): Fleet | null { return this.#fleet }
  get upgrades(): Upgrades | null { return this.#upgrades }
  get startedAt(): number { return this.#startedAt }
  get takingOver(): Promise<void> | null { return this.#takeOver?.promise ?? null }
  get #options(): ResolvedSupervisorOptions { return this.releases.options }

  status(): SupervisorStatus { return this.#desk.status() }

  /** The whole life, from a start by hand. @returns the exit code. */
  run(): Promise<number> {
    this.#start().catch((error: unknown) => {
      // Stopped while it started: what was under way failed because of that.
      if (!this.stopping) void this.#end(this.#explain(error))
    })
    return this.#ended.promise
  }

  /**
   * The rest of a life that another image of this process began. Rejects before `onTakenOver` was called when that cannot
   * be done: the image before goes on then. @returns the exit code.
   */
  async resume(entry: JournalEntry, resumption: Resumption, onTakenOver: () => void): Promise<number> {
    try {
      await this.#whileTakingOver(() => this.#resume(entry, resumption, onTakenOver))
    } catch (error) {
      // Told to kill everything, and able to: there is nothing to bring back.
      if (!this.#forced || !this.holdings.claimed) throw error
      onTakenOver()
    }
    return this.#ended.promise
  }

  // ---- starting

  async #start(): Promise<void> {
    // From the first line: a stop that comes before the workers of an earlier supervisor are known could not tell them.
    const fresh = await this.#whileTakingOver(() => this.#claimOrAdopt())
    if (fresh !== null) await this.#startFresh(fresh)
  }

  /** @returns null when the workers of an earlier supervisor are ours now; otherwise what a start from nothing needs. */
  async #claimOrAdopt(): Promise<FreshStart | null> {
    const identity = this.#world.resolveIdentity(this.#options.user, this.#options.group)
    const warning = this.#prepareFolder(identity)
    if (warning !== '') this.#log.warn(warning)
    await this.holdings.open()
    const { calls, systemCallsText: reason } = this.holdings
    if (calls === null) this.#log.warn('system calls are not available: workers carry spare copies of their sockets', { reason })
    const before = this.#journal.read()
    const unknown = this.#journal.problem !== ''
    if (unknown) {
      const reason = this.#journal.problem
      this.#log.warn('the journal of a supervisor before cannot be used: if workers of it live, they finish what they have', { reason })
    }
    this.tickets.restore(before?.tickets)
    const orphans = before === null ? [] : livingWorkers(before, pid => this.#host.startTime(pid))
    const release = this.releases.begin(before)
    this.#inherited = before
    // Before its workers can ask: one that is refused drains and ends.
    const adopting = before !== null && orphans.length > 0 && calls !== null && this.#restoreFleet(before)
    try {
      await this.#claim(identity, null)
    } catch (error) {
      // The workers belong to the supervisor that runs here.
      if (!this.holdings.claimed) this.#fleet = this.#upgrades = null
      throw error
    }
    if (adopting && await this.#adopt(before)) return null
    const pids = orphans.map(orphan => orphan.pid)
    return { release, identity, orphans: pids, mayHaveOrphans: pids.length > 0 || unknown, kept: this.#inherited?.upgrades ?? null }
  }

  async #claim(identity: Identity, held: OwnSockets | null): Promise<void> {
    await this.holdings.claim(this.#options, identity, held, {
      onOperator: (message, question, connection) => this.#desk.onMessage(message, question, connection),
      onHello: (hello, link, question) => {
        const conversation = register(hello, link, question, this.#fleet, {
          managed: this.holdings.serviceManager.present, instanceId: this.#instance.id, logLevel: this.logLevel.now, tickets: this.tickets,
        })
        this.tickets.reconcile()
        return conversation
      },
    })
    this.ledger.begin(new Set([...this.#fleet?.workers() ?? []].map(({ id }) => id)))
    this.#known.resolve()
    this.#writeJournal()
    this.#watchFolder(identity, '')
    this.#checkGoingOn()
  }

  #prepareFolder({ uid, gid }: Identity): string {
    return this.#world.disk.prepareFolder(this.#setup.stateFolder.path, uid !== null || gid !== null)
  }

  /** Until the end, once a tick. @param trouble what was wrong the last time, which is said once */
  #watchFolder(identity: Identity, trouble: string): void {
    this.#host.after(this.#options.heartbeatMs, () => {
      if (this.stopping) return
      void this.#keepReachable(identity, trouble).then(now => { this.#watchFolder(identity, now) })
    })
  }

  async #keepReachable(identity: Identity, trouble: string): Promise<string> {
    const { path: folder } = this.#setup.stateFolder
    try {
      if (!await this.holdings.keepReachable(() => { this.#prepareFolder(identity) })) return ''
      this.#log.warn('the control sockets had been removed; they are made anew', { folder })
      this.#writeJournal()
      return ''
    } catch (error) {
      const now = error instanceof Error ? error.message : String(error)
      if (now !== trouble) this.#log.error('the control sockets were removed: no worker can start until they are back', { folder, error })
      return now
    }
  }

  async #startFresh({ release, identity, orphans, mayHaveOrphans, kept }: FreshStart): Promise<void> {
    this.#checkGoingOn()
    this.holdings.offerInherited()
    this.#moveTo(SupervisorState.Describing)
    const described = await this.releases.first(release, identity, this.#describing.signal)
    this.#checkGoingOn()

    this.#moveTo(SupervisorState.Binding)
    const generation = await this.#bind(described, orphans, mayHaveOrphans)
    this.holdings.closeUnused()
    this.#warnAboutBacklog(Math.max(0, ...generation.description.listeners.map(listener => listener.backlog)))
    await this.holdings.listenAdmin(this.#options.adminAddress, -1, this.#adminSource)
    this.#checkGoingOn()

    this.#moveTo(SupervisorState.Starting)
    const fleet = new Fleet(this.#fleetSetup(generation))
    this.#inherited = null
    this.#compose(fleet, kept).giveUp('the supervisor was killed meanwhile, and nothing was left of it')
    await fleet.start()
    this.#serving()
  }

  /**
   * Binds what the first generation listens on. Workers of a killed supervisor that were not adopted hold those addresses
   * until they have drained, which they are told when they come back: so an address in use is tried again for a while.
   */
  async #bind(generation: Generation, orphans: readonly number[], mayHaveOrphans: boolean): Promise<Generation> {
    const deadlineMs = this.#host.nowMs() + this.#options.orphanDrainAfterMs + this.#options.ackTimeoutMs
    let said = false
    for (;;) {
      try {
        return await this.releases.bindGeneration(generation)
      } catch (error) {
        const orphansLive = orphans.some(pid => this.#host.startTime(pid) !== '')
        const inUse = error instanceof BindError && error.code === 'EADDRINUSE'
        const over = orphans.length > 0 && !orphansLive && said
        if (!inUse || !mayHaveOrphans || over || this.#host.nowMs() > deadlineMs) throw error
        if (!said) this.#log.warn('workers of a supervisor that was killed still listen; waiting for them to let go', { pids: orphans })
        said = true
        await elapse(this.#host, ORPHAN_POLL_MS)
        this.#checkGoingOn()
      }
    }
  }

  #compose(fleet: Fleet, kept: UpgradesRecord | null): Upgrades {
    this.#fleet = fleet
    return this.#upgrades = new Upgrades(fleet, this.releases, this.#host, this.#log, kept)
  }

  #fleetSetup(generation: Generation): FleetSetup {
    const { releases, holdings } = this
    return {
      host: this.#host, log: this.#log, ledger: this.ledger, generation,
      // Read anew at every use: they change with a commit.
      get options() { return releases.options },
      descriptors: of => holdings.table.descriptors(of.description.listeners, of.layout),
      controlPath: path.join(this.#setup.stateFolder.path, WORKER_SOCKET), onChange: () => this.#writeJournal(),
      onIncident: incident => this.reports.report(incident),
    }
  }

  #serving(): void {
    if (!this.#moveTo(SupervisorState.Running)) return
    const { serviceManager } = this.holdings
    this.holdings.keepCopies()
    serviceManager.ready(this.releases.statusLine())
    serviceManager.startWatchdog()
    this.#setup.onRunning?.(this.status())
    this.tickets.begin()
    this.certificates.begin()
    this.reports.begin()
  }

  // ---- taking over from an earlier supervisor

  async #whileTakingOver<T>(run: () => Promise<T>): Promise<T> {
    const over = this.#takeOver = Promise.withResolvers<void>()
    const result = await run()
    this.#takeOver = null
    over.resolve()
    return result
  }

  /** @returns false when the journal names no generation that serves. */
  #restoreFleet(entry: JournalEntry): boolean {
    const committed = entry.fleet?.generations.find(generation => generation.number === entry.fleet!.committed)
    if (entry.fleet === null || committed === undefined) return false
    this.#startedAt = entry.startedAt
    this.logLevel.restore(entry.logLevel, this.#world.wallMs())
    this.#compose(Fleet.restore(this.#fleetSetup(committed), entry.fleet, this.#world.wallMs()), entry.upgrades)
    return true
  }

  /**
   * After a kill: workers serve on and say hello again; one of them gives the sockets back. @returns false when none could:
   * then everything starts anew.
   */
  async #adopt(entry: JournalEntry): Promise<boolean> {
    const fleet = this.#fleet!
    const sinceMs = this.#host.nowMs()
    const unheard = await fleet.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)
    const workers = [...fleet.workers()].filter(worker => worker.alive)
    try {
      await this.holdings.takeBack(fleet, entry)
    } catch (error) {
      const pids = workers.map(({ pid }) => pid)
      this.#log.warn('the workers of the supervisor before could not be adopted; they finish what they have', { error, pids })
      this.#abandon(fleet, entry)
      return false
    }
    this.holdings.closeInherited()
    this.#inherited = null
    this.#checkGoingOn()
    try {
      await this.holdings.listenAdmin(this.#options.adminAddress, -1, this.#adminSource)
    } catch (error) {
      // No reason to leave workers alone that serve.
      this.#log.error(error instanceof Error ? error.message : String(error))
    }
    fleet.settle((entry.upgrades?.running ?? null) !== null)
    const tookMs = Math.round(this.#host.nowMs() - sinceMs)
    this.#log.warn('adopted the workers of a supervisor that was killed', { workers: workers.map(({ id }) => id), unheard, tookMs })
    this.#serving()
    // May take as long as workers take to start; an operator that asks for something, or stops, does not wait for it.
    const { generation } = fleet
    this.#upgrades!.resume({ how: 'killed', reason: 'the supervisor was killed meanwhile' }).then(
      () => this.#catchUp(generation),
      (error: unknown) => this.#log.error('what was under way could not be ended', { error }),
    )
    return true
  }

  #abandon(fleet: Fleet, entry: JournalEntry): void {
    this.holdings.startOver(this.#options.workers)
    // Ours no more: what is still told to it is the end.
    this.#fleet = null
    this.#abandoned = fleet
    fleet.abandon()
    const upgrades = this.#upgrades!.giveUp('the supervisor was killed meanwhile, and its workers could not be adopted')
    this.#upgrades = null
    this.#inherited = { ...entry, upgrades }
  }

  /** Release or configuration may have changed since the adopted workers were started. */
  #catchUp(generation: Generation): void {
    const request = this.releases.outdated(generation)
    if (request === null || this.#state !== SupervisorState.Running) return
    this.#log.info('the workers run what the supervisor before had read; reading it again')
    this.#desk.operate(request, null)
  }

  /** After an exec: everything is still open, children are still children, only their connections to us are gone. */
  async #resume(entry: JournalEntry, resumption: Resumption, onTakenOver: () => void): Promise<void> {
    const { holdings, releases } = this
    await holdings.open()
    if (holdings.calls === null) throw new Error('system calls are not available any more')
    holdings.serviceManager.startWatchdog()
    releases.goOn(entry, resumption)
    holdings.table.restore(entry.listeners, entry.slots, (listener, index) => {
      const { fd, inode } = listener.sockets[index]!
      return this.#world.binder.inode(fd) === inode ? fd : null
    })
    this.tickets.restore(entry.tickets)
    if (!this.#restoreFleet(entry)) throw new Error('the journal names no generation that serves')
    const [fleet, upgrades] = [this.#fleet!, this.#upgrades!]
    // A worker that is forked now would be a child that the image before does not know.
    if (resumption.how === 'forward') void fleet.freeze()
    await this.#claim(fleet.generation, entry.sockets)
    await holdings.listenAdmin(this.#options.adminAddress, entry.sockets.admin, this.#adminSource)
    const unheard = await fleet.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)
    fleet.settle(true)
    this.#log.info('took over in place', { unheard })
    if (resumption.how === 'forward') {
      // Not running before: what would be asked now is lost when the image before comes back.
      await upgrades.resume(resumption, () => {
        onTakenOver()
        fleet.thaw()
        this.#moveTo(SupervisorState.Running)
      })
    } else {
      onTakenOver()
      this.#moveTo(SupervisorState.Running)
      upgrades.resume(resumption).catch((error: unknown) => this.#log.error('the upgrade could not be rolled back', { error }))
    }
    holdings.serviceManager.ready(releases.statusLine())
    this.tickets.begin()
    this.certificates.begin()
    this.reports.begin()
  }

  // ---- signals

  onSignal(signal: HandledSignal): void {
    const meaning = this.#signals.meaning(signal, this.#host.nowMs())
    if (meaning === 'nothing') return
    this.#log.info(`${signal}: ${MEANINGS[meaning]}`)
    switch (meaning) {
      case 'stop': this.stop(); break
      case 'interrupt': void this.#stop(this.#options.drain.interruptTimeoutMs, 0); break
      case 'force': this.force(); break
      case 'reload': this.#onHangUp(); break
      case 'upgrade': this.#desk.operate({ kind: 'upgrade', folder: '', supervisor: 'if-changed' }, null); break
      case 'reopen-logs': this.reopenLogs(); break
      default: meaning satisfies never
    }
  }

  #onHangUp(): void {
    // A hang-up because the terminal is gone is the end of the session, not a wish for new workers.
    if (this.#world.terminalIsGone()) void this.#stop(this.#options.drain.stopTimeoutMs, 0)
    else this.#desk.operate({ kind: 'reload', folder: '', supervisor: 'if-changed' }, null)
  }

  reopenLogs(): void {
    this.#setup.onReopenLogs?.()
    this.#fleet?.reopenLogs()
  }

  // ---- stopping

  stop(): void { void this.#stop(this.#options.drain.stopTimeoutMs, this.#options.drain.lameDuckMs) }

  force(): void {
    this.#forced = true
    this.#hurry.resolve()
    void this.#known.promise.then(() => {
      this.#fleet?.force()
      this.#abandoned?.force()
      // Not stopping yet: nothing is left to wait for.
      return this.#stop(0, 0)
    })
  }

  async #stop(capMs: number, lameDuckMs: number): Promise<void> {
    // Workers that are not back yet could not be told, and an image that has not committed would go back.
    await Promise.race([this.takingOver, this.#hurry.promise.then(() => this.#known.promise)])
    if (!this.#moveTo(SupervisorState.Stopping)) return
    this.holdings.serviceManager.stopping()
    this.#describing.abort()
    if (lameDuckMs > 0 && this.#fleet?.accepting === true) {
      this.#log.info(`not ready any more; accepting for another ${lameDuckMs} ms`)
      await Promise.race([elapse(this.#host, lameDuckMs), this.#hurry.promise])
    }
    const fleet = this.#fleet
    const abandoned = this.#abandoned?.outlive(capMs)
    if (fleet !== null) this.#cut = (await fleet.stop({ capMs, onListenersClosed: () => this.holdings.closeListeners() })).cut
    await abandoned
    await this.#end(this.#forced ? EXIT.failed : EXIT.ok)
  }

  async #end(code: number): Promise<void> {
    if (!this.#moveTo(SupervisorState.Ended)) return
    const { holdings } = this
    this.logLevel.end()
    this.tickets.end()
    this.certificates.end()
    holdings.closeListeners()
    holdings.closeAdmin()
    if (this.#upgrades !== null && holdings.claimed) {
      this.#upgrades.giveUp('the server stopped')
      // Operators that wait for an outcome are answered before the connections end.
      await this.#world.turn()
    }
    this.#desk.tellEnd(code === EXIT.ok ? this.#cut : null)
    if (holdings.claimed) {
      this.#journal.remove()
      this.ledger.remove()
      await holdings.closeControl()
      if (this.#setup.stateFolder.ours) {
        this.#instance.forget()
        this.#world.disk.removeFolder(this.#setup.stateFolder.path)
      }
    }
    await Promise.race([this.reports.close(this.#forced), this.#hurry.promise])
    if (code === EXIT.ok) this.#log.info('stopped', this.#cut === 0 ? {} : { cut: this.#cut })
    this.#ended.resolve(code)
  }

  #explain(error: unknown): number {
    if (!(error instanceof AlreadyRunning)) return explainEnd(error, this.#setup.application, this.#log)
    const pid = this.#journal.read()?.pid
    this.#log.error(`already running, pid ${pid ?? 'unknown'}`, { stateDir: this.#setup.stateFolder.path })
    return EXIT.running
  }

  readonly #adminSource: AdminSource = {
    health: () => this.health(),
    sample: () => this.#desk.sample(),
    metrics: openMetrics => renderMetrics(metricsReport(this.ledger, this.#facts(), this.#options.metricNames), openMetrics),
  }

  #facts(): SupervisorFacts {
    const { own } = this.#world
    const { user, system } = process.cpuUsage()
    return {
      version: own.version, nodeVersion: own.nodeVersion, generation: this.#fleet?.generation.number ?? 0,
      workers: this.#fleet?.workers() ?? [],
      startedAtMs: this.#startedAt, rssBytes: process.memoryUsage.rss(), cpuSeconds: (user + system) / 1e6,
    }
  }

  health(): Health {
    const reason = this.stopping ? 'stopping' : this.#fleet?.accepting === true ? '' : 'no worker accepts'
    return { ready: reason === '', started: this.#fleet?.started ?? false, reason }
  }

  // ---- what another supervisor has to know

  /** Not before the folder is ours: until then the journal belongs to the supervisor that runs here. */
  #writeJournal(): void { if (this.holdings.claimed) this.#journal.write(() => this.journalEntry()) }

  operationEnded({ kind, result }: OperationOutcome): void {
    this.ledger.count('cirque_upgrades_total', [kind, result])
    const committed = result === 'committed'
    if (committed) this.tickets.reread()
    this.ledger.note('cirque_config_last_reload_successful', committed ? 1 : 0)
    if (committed) this.ledger.note('cirque_config_last_reload_success_timestamp_seconds', this.#world.wallMs() / 1000)
    this.record()
  }

  record(): boolean {
    this.#writeJournal()
    return this.#journal.flush()
  }

  journalEntry(): JournalEntry {
    const { application, args, origin } = this.#setup
    const { pid } = this.#world.own
    const { releases, holdings } = this
    const inherited = this.#inherited
    return {
      format: JOURNAL_FORMAT, pid, startTime: this.#host.startTime(pid), application, args, origin,
      options: releases.options, fingerprint: releases.fingerprint, usualNode: releases.usualNode,
      startedAt: this.#startedAt, generation: releases.number,
      slots: inherited?.slots ?? holdings.table.slots, listeners: inherited?.listeners ?? holdings.table.record(),
      sockets: holdings.ownSockets, logLevel: this.logLevel.record(this.#world.wallMs()),
      tickets: this.tickets.record(),
      fleet: this.#fleet?.record(this.#world.wallMs()) ?? inherited?.fleet ?? null,
      upgrades: this.#upgrades?.record() ?? inherited?.upgrades ?? null,
    }
  }

  #warnAboutBacklog(backlog: number): void {
    const allowed = this.#world.acceptQueueLimit()
    if (allowed === null || allowed >= backlog) return
    this.#log.warn(`the kernel cuts accept queues to ${allowed}; raise net.core.somaxconn to ${backlog}`)
  }

  #checkGoingOn(): void { if (this.stopping) throw new Refused('stopped while starting') }

  /** States only go forward. */
  #moveTo(to: SupervisorState): boolean {
    if (to <= this.#state) return false
    this.#state = to
    return true
  }
}

const MEANINGS = {
  'stop': 'stopping', 'interrupt': 'stopping within seconds', 'force': 'killing what is left',
  'reload': 'reading configuration and application again', 'upgrade': 'upgrading in place', 'reopen-logs': 'reopening logs',
} as const
