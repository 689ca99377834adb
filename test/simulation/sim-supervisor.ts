/**
 * One image of a simulated supervisor process: Fleet, Upgrades, ListenerTable and adoption as supervisor.ts composes
 * them, over simulated time, processes, sockets and connections. Where supervisor.ts decides something itself, the same
 * is done here; a change of that file belongs here as well.
 */
import type { ResolvedSupervisorOptions } from '../../src/config/supervisor-options.ts'
import { PROTOCOL_VERSION } from '../../src/ipc/messages.ts'
import type { FromOperator, FromWorker, Welcome } from '../../src/ipc/messages.ts'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { DescribedListener, ServerDescription } from '../../src/ipc/server-description.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import { collectDescriptors, restoreSockets } from '../../supervisor/adoption.ts'
import { Fleet } from '../../supervisor/fleet.ts'
import type { Generation } from '../../supervisor/generation.ts'
import { JOURNAL_FORMAT, livingWorkers, readEntry } from '../../supervisor/journal.ts'
import type { JournalEntry } from '../../supervisor/journal.ts'
import { BindError, ListenerTable } from '../../supervisor/listener-table.ts'
import type { SocketBinder } from '../../supervisor/listener-table.ts'
import type { ExitReport, ForkedProcess, ForkRequest, ProcessHost } from '../../supervisor/process-host.ts'
import { Refused } from '../../supervisor/refusals.ts'
import type { Release } from '../../supervisor/releases.ts'
import type { FleetSetup } from '../../supervisor/roster.ts'
import { Upgrades } from '../../supervisor/upgrade.ts'
import type { OperationRequest, Plan, Resumption, UpgradesRecord, UpgradeWorld } from '../../supervisor/upgrade.ts'
import type { WorkerLink } from '../../supervisor/worker-process.ts'
import type { SimAnswer, SimEnd } from './connection.ts'
import type { World } from './world.ts'

export const SimState = { Claiming: 0, Describing: 1, Binding: 2, Starting: 3, Running: 4, Stopping: 5, Ended: 6 } as const
export type SimState = (typeof SimState)[keyof typeof SimState]

const ORPHAN_POLL_MS = 100

/** What goes with an exec in place, as Handover of the trampoline. */
export interface SimHandover {
  readonly attempt: 'forward' | 'back'
  readonly reason: string
  /** Text of a JournalEntry. */
  readonly state: string
  readonly descriptors: readonly number[]
  /** Release of the image that runs. */
  readonly folder: string
  /** Release of the image to go back to. */
  readonly backFolder: string
}

interface Timer { cancel(): void }

export class SimSupervisor implements ProcessHost {
  readonly pid: number
  /** Whose supervisor code this image runs. */
  readonly folder: string
  state: SimState = SimState.Claiming
  /** Killed, ended, or replaced in place. */
  dead = false
  wasRunning = false
  /** A worker did not send its sockets in time. */
  sendFailed = false
  /** Workers may connect, operators too. */
  claimed = false
  fleet: Fleet | null = null
  upgrades: Upgrades | null = null
  table: ListenerTable
  /** Fleets that were given up: their workers drain. */
  abandoned: Fleet[] = []
  readonly bootedAtMs: number
  readonly timers = new Set<Timer>()
  readonly #world: World
  readonly #binder: SocketBinder
  readonly #log: ProcessLog
  #options: ResolvedSupervisorOptions
  #generationNumber = 0
  #fingerprint: string
  #startedAt: number
  /** What the journal says until we hold it ourselves: a second kill must not find less than the first. */
  #inherited: JournalEntry | null = null
  #pendingJournal = false
  #journalClosed = false
  #stopAnswers: SimAnswer[] = []
  #forced = false
  /** The trampoline's watch over us; null: nobody would go back. */
  readonly #handover: SimHandover | null
  #committed = false

  constructor(world: World, pid: number, folder: string, handover: SimHandover | null) {
    this.#world = world
    this.pid = pid
    this.folder = folder
    this.#handover = handover
    this.bootedAtMs = world.nowMs
    this.#startedAt = world.wallMs
    this.#options = world.options
    this.#fingerprint = world.releaseOf(folder).fingerprint
    this.#binder = world.kernel.binderFor(pid)
    const write = (level: string) => (message: string, fields?: LogFields): void => {
      world.log(() => `  ${level}: ${message}${fields?.['reason'] === undefined ? '' : ` (${String(fields['reason'])})`}${fields?.['error'] === undefined ? '' : ` (${String(fields['error'])})`}`)
    }
    this.#log = { info: write('info'), warn: write('warn'), error: write('error') }
    this.table = new ListenerTable(this.#options.workers, this.#log, this.#binder)
  }

  get #calls(): SystemCalls { return this.#world.callsFor(this.pid) }
  get stopping(): boolean { return this.state >= SimState.Stopping }
  /** It goes on with what an image before it had open. */
  get resumed(): boolean { return this.#handover !== null }
  /** The trampoline would still go back. */
  get onTrial(): boolean { return this.#handover?.attempt === 'forward' && !this.#committed }

  // ---- ProcessHost

  fork(request: ForkRequest, onExit: (report: ExitReport) => void): ForkedProcess { return this.#world.fork(this, request, onExit) }
  kill(pid: number, signal: NodeJS.Signals): boolean { return this.#world.signalWorker(pid, signal) }
  adopt(pid: number, startTime: string, onExit: (report: ExitReport) => void): void { this.#world.watch(this, pid, startTime, onExit) }
  nowMs(): number { return this.#world.nowMs - this.bootedAtMs }
  random(): number { return this.#world.random.next() }
  startTime(pid: number): string { return this.#world.startTimeOf(pid) }

  after(ms: number, run: () => void): () => void {
    // As setTimeout: never at once.
    const timer = this.later(Math.max(1, ms), run)
    return () => timer.cancel()
  }

  /** A timer of this image. */
  later(ms: number, run: () => void): Timer {
    const event = this.#world.after(Math.max(0, ms), () => {
      this.timers.delete(timer)
      if (!this.dead) run()
    })
    const timer: Timer = { cancel: () => { event.cancel(); this.timers.delete(timer) } }
    this.timers.add(timer)
    return timer
  }

  #delay(ms: number): Promise<void> { return new Promise(resolve => { this.later(ms, resolve) }) }

  /** Nothing of this image runs any more. */
  die(): void {
    this.dead = true
    this.claimed = false
    for (const timer of [...this.timers]) timer.cancel()
  }

  // ---- starting, as supervisor.ts

  run(): void {
    const work = this.#handover === null ? this.#start() : this.#resume(this.#handover)
    work.catch((error: unknown) => {
      if (this.dead) return
      this.#world.log(() => `  the supervisor failed: ${String(error)}`)
      if (this.#world.unexpected(error)) this.#world.violation(`the supervisor failed: ${error instanceof Error ? error.stack ?? error.message : String(error)}`)
      if (this.state < SimState.Stopping) void this.#end(1)
    })
  }

  async #start(): Promise<void> {
    const text = this.#world.journal
    const before = text === null ? null : readEntry(JSON.parse(text))
    const orphans = before === null ? [] : livingWorkers(before, pid => this.startTime(pid))
    this.#generationNumber = Math.max(before?.generation ?? 0, before?.upgrades?.lastNumber ?? 0)
    this.#inherited = before
    const adopting = before !== null && orphans.length > 0 && this.#restoreFleet(before)
    await this.#claim()
    if (adopting && await this.#adopt(before)) return
    await this.#startFresh(orphans.map(orphan => orphan.pid), before?.upgrades ?? null)
  }

  async #startFresh(orphans: readonly number[], kept: UpgradesRecord | null): Promise<void> {
    this.#world.onFreshStart(this)
    this.#moveTo(SimState.Describing)
    const { folder } = this
    const description = await this.#describe(new AbortController().signal)
    this.#checkGoingOn()
    this.#moveTo(SimState.Binding)
    await this.#bind(description, orphans)
    this.#checkGoingOn()
    this.#moveTo(SimState.Starting)
    this.#generationNumber++
    const generation: Generation = {
      number: this.#generationNumber, ...this.#blueprint(folder), description, settings: this.#world.settings, workers: this.#options.workers, layout: this.table.layout(description.listeners, 1), readAt: this.#world.wallMs,
    }
    this.fleet = new Fleet(this.#fleetSetup(generation))
    this.#inherited = null
    this.upgrades = new Upgrades(this.fleet, this.#upgradeWorld(), this, this.#log, kept)
    this.#world.onComposed(this)
    this.upgrades.giveUp('the supervisor was killed meanwhile, and nothing was left of it')
    await this.fleet.start()
    this.#moveTo(SimState.Running)
  }

  async #claim(): Promise<void> {
    await this.#delay(this.#world.random.next() * 20)
    this.#world.onClaimed(this)
    this.#writeJournal()
    this.#checkGoingOn()
  }

  async #bind(description: ServerDescription, orphans: readonly number[]): Promise<void> {
    const deadlineMs = this.nowMs() + this.#options.orphanDrainAfterMs + this.#options.ackTimeoutMs
    let said = false
    for (;;) {
      try {
        await this.table.bind(description.listeners, this.#options.workers)
        return
      } catch (error) {
        const orphansLive = orphans.some(pid => this.startTime(pid) !== '')
        if (!(error instanceof BindError) || error.code !== 'EADDRINUSE' || orphans.length === 0 || (!orphansLive && said) || this.nowMs() > deadlineMs) throw error
        said = true
        await this.#delay(ORPHAN_POLL_MS)
        this.#checkGoingOn()
      }
    }
  }

  #fleetSetup(generation: Generation): FleetSetup {
    return {
      host: this, options: this.#options, log: this.#log, generation,
      descriptors: of => this.table.descriptors(of.description.listeners, of.layout),
      controlPath: '/state/worker.sock', onChange: () => this.#writeJournal(),
    }
  }

  #blueprint(folder: string): { release: Release; args: string[]; execArgv: string[]; uid: null; gid: null } {
    return { release: this.#world.releaseOf(folder), args: [], execArgv: [], uid: null, gid: null }
  }

  async #describe(signal: AbortSignal): Promise<ServerDescription> {
    const { random } = this.#world
    const aborted = new Promise<never>((_, reject) => {
      const abort = (): void => { reject(signal.reason instanceof Error ? signal.reason : new Error('aborted')) }
      if (signal.aborted) abort()
      else signal.addEventListener('abort', abort, { once: true })
    })
    await Promise.race([this.#delay(random.delay(300, 2_000)), aborted])
    const listeners: DescribedListener[] = this.#world.listeners.map(({ name, address }) => ({
      name, service: 's', backlog: 511,
      ...(address.startsWith('unix:')
        ? { address: { kind: 'unix' as const, path: address.slice(5), mode: 0o600 }, canonical: address }
        : { address: { kind: 'tcp' as const, host: '127.0.0.1', port: Number(address.slice(address.indexOf(':') + 1)), ipv6Only: false }, canonical: address }),
    }))
    return { format: 1, services: [], listeners, selfTest: { method: 'GET', path: '/', headers: {}, expect: { statusMin: 100, statusMax: 499 }, timeoutMs: 500 } }
  }

  // ---- taking over from an earlier supervisor, as supervisor.ts

  #restoreFleet(entry: JournalEntry): boolean {
    const committed = entry.fleet?.generations.find(generation => generation.number === entry.fleet!.committed)
    if (entry.fleet === null || committed === undefined) return false
    this.#generationNumber = entry.generation
    this.#startedAt = entry.startedAt
    this.fleet = Fleet.restore(this.#fleetSetup(committed), entry.fleet, this.#world.wallMs)
    this.upgrades = new Upgrades(this.fleet, this.#upgradeWorld(), this, this.#log, entry.upgrades)
    this.#world.onComposed(this)
    return true
  }

  async #adopt(entry: JournalEntry): Promise<boolean> {
    const fleet = this.fleet!
    const unheard = await fleet.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)
    const given = await collectDescriptors(fleet, '/nonexistent/simulated', this.#calls, this.#log)
    restoreSockets(this.table, fleet, entry, given, this.#log)
    this.#world.onSocketsRestored(fleet)
    given.close()
    const { generation } = fleet
    try {
      await this.table.bind(generation.description.listeners, Math.max(entry.slots, generation.layout.slots))
    } catch (error) {
      this.#log.warn('the workers of the supervisor before could not be adopted; they finish what they have', { error })
      this.#world.onAbandoned(this, fleet)
      this.table.close(null)
      this.table = new ListenerTable(this.#options.workers, this.#log, this.#binder)
      fleet.abandon()
      this.abandoned.push(fleet)
      this.fleet = null
      const upgrades = this.upgrades!.giveUp('the supervisor was killed meanwhile, and its workers could not be adopted')
      this.upgrades = null
      this.#inherited = { ...entry, upgrades }
      return false
    }
    this.#inherited = null
    this.#checkGoingOn()
    fleet.settle((entry.upgrades?.running ?? null) !== null)
    this.#log.warn(`adopted the workers of a supervisor that was killed, unheard ${unheard}`)
    this.#moveTo(SimState.Running)
    this.upgrades!.resume({ how: 'killed', reason: 'the supervisor was killed meanwhile' }).then(() => {
      if (!this.dead) this.#catchUp(generation)
    }, (error: unknown) => {
      if (!this.dead) this.#world.violation(`what was under way could not be ended: ${String(error)}`)
    })
    return true
  }

  #catchUp(generation: Generation): void {
    const changed = this.folder !== generation.release.folder || this.#options.workers !== generation.workers
    if (!changed || this.state !== SimState.Running) return
    this.#operate({ kind: this.folder === generation.release.folder ? 'reload' : 'upgrade', folder: this.folder, supervisor: 'if-changed' }, null)
  }

  async #resume(handover: SimHandover): Promise<void> {
    const entry = readEntry(JSON.parse(handover.state))!
    const forward = handover.attempt === 'forward'
    const resumption: Resumption = forward ? { how: 'forward' } : { how: 'back', reason: handover.reason }
    this.#options = forward ? entry.upgrades!.running!.plan!.options : entry.options
    try {
      await this.#takeOver(entry, resumption)
    } catch (error) {
      if (this.dead || this.stopping) return
      if (this.#committed) throw error
      this.#world.execBack(this, handover, error instanceof Error ? error.message : String(error))
    }
  }

  async #takeOver(entry: JournalEntry, resumption: Resumption): Promise<void> {
    this.#fingerprint = resumption.how === 'forward' ? entry.upgrades?.running?.plan?.generation.release.fingerprint ?? entry.fingerprint : entry.fingerprint
    this.table.restore(entry.listeners, entry.slots, (listener, index) => {
      const { fd, inode } = listener.sockets[index]!
      return this.#binder.inode(fd) === inode ? fd : null
    })
    if (!this.#restoreFleet(entry)) throw new Error('the journal names no generation that serves')
    // A worker forked now would be a child that the image before does not know.
    if (resumption.how === 'forward') void this.fleet!.freeze()
    await this.#claim()
    const unheard = await this.fleet!.awaitWorkers(this.#options.upgrade.adoptTimeoutMs)
    this.fleet!.settle(true)
    this.#log.info(`took over in place, unheard ${unheard}`)
    const onTakenOver = (): void => { this.#committed = true; this.#world.onBootCommitted(this) }
    if (resumption.how === 'forward') {
      // Before that nobody is served: whatever would be asked now is lost when the image before comes back.
      await this.upgrades!.resume(resumption, () => {
        onTakenOver()
        this.fleet!.thaw()
        this.#moveTo(SimState.Running)
      })
      return
    }
    onTakenOver()
    this.#moveTo(SimState.Running)
    void this.upgrades!.resume(resumption)
  }

  // ---- upgrades, as supervisor.ts

  #operate(request: OperationRequest, answer: SimAnswer | null): void {
    if (this.upgrades === null || this.state !== SimState.Running) { answer?.refuse('refused', `the server is in state ${this.state}`); return }
    try {
      const id = this.upgrades.request(request)
      answer?.ok({ id })
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      answer?.refuse('refused', error.message)
    }
  }

  #upgradeWorld(): UpgradeWorld {
    return {
      prepare: (request, number, signal) => this.#prepare(request, number, signal),
      bind: async plan => {
        const { generation } = plan
        await this.table.bind(generation.description.listeners, generation.workers)
        return { ...plan, generation: { ...generation, layout: this.table.layout(generation.description.listeners, 1) } }
      },
      holdOff: () => {},
      retain: generation => { this.#world.inRetain(this, generation, () => this.table.retain(generation.description.listeners, this.#calls)) },
      replaceSupervisor: plan => this.#replaceSupervisor(plan),
      flip: plan => {
        this.#world.flip(this, plan)
        this.#options = plan.options
        this.#generationNumber = plan.generation.number
      },
      flipped: plan => this.#world.current === plan.to,
      record: () => {
        if (this.upgrades?.step === 'committing' && !this.#world.calm && this.#world.random.chance(0.03)) {
          this.#world.log(() => '  the disk is full')
          return false
        }
        this.#flushJournal()
        this.#world.onRecorded(this)
        return true
      },
    }
  }

  async #prepare(request: OperationRequest, number: number, signal: AbortSignal): Promise<Plan> {
    const world = this.#world
    const { options } = world
    const here = this.fleet!.generation.release
    const folder = request.folder === '' ? here.folder : request.folder
    if (!world.calm && world.random.chance(0.04)) throw new Refused('the configuration is wrong')
    const description = await this.#describe(signal)
    const release = world.releaseOf(folder)
    const changed = request.kind !== 'reload' && (request.supervisor === 'always' || release.fingerprint !== this.#fingerprint)
    const generation: Generation = { number, ...this.#blueprint(folder), description, settings: world.settings, workers: options.workers, layout: { slots: 0, copies: 1, listeners: [] }, readAt: world.wallMs }
    return { generation, options, replaceSupervisor: changed, from: here.folder, to: folder }
  }

  async #replaceSupervisor(plan: Plan): Promise<never> {
    const fleet = this.fleet!
    await fleet.freeze()
    if (this.stopping) {
      fleet.thaw()
      throw new Refused('the server is stopping')
    }
    if (!this.#world.calm && this.#world.random.chance(0.1)) {
      fleet.thaw()
      throw new Refused('the supervisor could not be replaced: E2BIG')
    }
    this.#world.exec(this, {
      attempt: 'forward', reason: '', state: JSON.stringify(this.#journalEntry()), descriptors: this.table.allDescriptors, folder: plan.to, backFolder: this.folder,
    }, plan.options.upgrade.bootTimeoutMs)
    return new Promise<never>(() => {})
  }

  // ---- messages, as supervisor.ts and control-server.ts

  /** A worker's connection. */
  onWorker(end: SimEnd): void {
    let conversation: { onMessage(message: FromWorker): void; onClose(): void } | null = null
    end.onMessage = (message: FromWorker, answer) => {
      if (this.dead) return
      if (conversation !== null) { conversation.onMessage(message); answer?.ok(null); return }
      if (message.tag !== 'hello' || answer === null) { end.close(); return }
      const link: WorkerLink = {
        ask: (order, timeoutMs) => {
          this.#world.onOrder(this, message.worker, order)
          const answered = end.ask(order, timeoutMs, (ms, run) => this.later(ms, run))
          if (order.tag === 'send-descriptors') answered.catch(() => { this.sendFailed = true })
          return answered
        },
        send: order => { this.#world.onOrder(this, message.worker, order); end.send(order) },
        close: () => end.close(),
      }
      conversation = this.#onHello(message, link, answer)
      if (conversation === null) end.close()
    }
    end.onClose = () => { if (!this.dead) conversation?.onClose() }
  }

  #onHello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink, answer: SimAnswer): { onMessage(message: FromWorker): void; onClose(): void } | null {
    const { fleet } = this
    const worker = fleet?.hello(hello, link) ?? null
    if (fleet === null || worker === null) {
      this.#world.onRefusedWorker(hello.worker)
      answer.refuse('refused', `${hello.worker} is no worker of this supervisor`)
      return null
    }
    const { heartbeatMs, orphanDrainAfterMs, maxControlMessageBytes } = this.#options
    const orphanPolicy = this.#options.orphanPolicy === 'keep' ? 'keep' : 'drain-after'
    const welcome: Welcome = { protocol: PROTOCOL_VERSION, heartbeatMs, orphanPolicy, orphanDrainAfterMs, orphanDrain: fleet.orphanDrain, maxControlMessageBytes, settings: fleet.generationOf(worker).settings }
    answer.ok(welcome)
    return { onMessage: message => fleet.onMessage(worker, message), onClose: () => fleet.linkLost(worker, link) }
  }

  onOperator(message: FromOperator, answer: SimAnswer): void {
    switch (message.tag) {
      case 'status':
        this.fleet?.status()
        answer.ok(this.fleet?.totals() ?? {})
        break
      case 'stop':
        if (message.wait) this.#stopAnswers.push(answer)
        else answer.ok({ operation: 'stop' })
        if (message.force) this.#force()
        else void this.#stop(this.#options.drain.stopTimeoutMs)
        break
      case 'restart-workers':
        this.#restartWorkers(message.worker, message.wait, answer)
        break
      case 'reopen-logs':
        this.fleet?.reopenLogs()
        answer.ok(null)
        break
      case 'upgrade':
        this.#operate({ kind: 'upgrade', folder: message.folder, supervisor: message.supervisor === 'always' ? 'always' : 'if-changed' }, answer)
        break
      case 'reload':
      case 'rollback':
        this.#operate({ kind: message.tag, folder: '', supervisor: 'if-changed' }, answer)
        break
      case 'outcome':
        if (this.upgrades === null) { answer.refuse('refused', `there is no operation '${message.id}'`); break }
        this.upgrades.outcome(message.id).then(outcome => answer.ok(outcome), (error: Error) => answer.refuse('refused', error.message))
        break
      default:
        message satisfies never
    }
  }

  #restartWorkers(which: string, wait: boolean, answer: SimAnswer): void {
    if (this.fleet === null || this.state !== SimState.Running) { answer.refuse('refused', `the server is in state ${this.state}`); return }
    try {
      const outcome = this.fleet.restart(which)
      outcome.then(
        result => { if (wait) answer.ok(result) },
        (error: unknown) => { if (wait) answer.refuse('failed', error instanceof Error ? error.message : String(error)) },
      )
      if (!wait) answer.ok({ operation: 'restart-workers' })
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      answer.refuse('refused', error.message)
    }
  }

  // ---- stopping, as supervisor.ts

  async #stop(capMs: number): Promise<void> {
    // Before it has taken over, the image before may come back and would know nothing of a stop.
    while (this.onTrial) await this.#delay(20)
    if (!this.#moveTo(SimState.Stopping)) return
    this.#world.onStopping(this)
    const { fleet } = this
    const abandoned = Promise.all(this.abandoned.map(each => each.outlive(capMs)))
    if (fleet !== null) await fleet.stop({ capMs, onListenersClosed: () => this.table.close(this.#calls) })
    await abandoned
    await this.#end(this.#forced ? 1 : 0)
  }

  #force(): void {
    this.#forced = true
    this.fleet?.force()
    void this.#stop(0)
  }

  async #end(code: number): Promise<void> {
    if (!this.#moveTo(SimState.Ended)) return
    this.#world.onStopping(this)
    this.table.close(this.#calls)
    if (this.upgrades !== null) {
      this.upgrades.giveUp('the server stopped')
      // Whoever waits for an outcome is answered before the connections end.
      await this.#delay(0)
    }
    for (const answer of this.#stopAnswers) {
      if (code === 0) answer.ok({ cut: 0 })
      else answer.refuse('failed', 'workers had to be killed')
    }
    if (this.claimed) {
      this.#journalClosed = true
      this.#world.journal = null
    }
    this.#world.onEnded(this, code)
  }

  #writeJournal(): void {
    if (this.#pendingJournal) return
    this.#pendingJournal = true
    // Before the event loop turns; a kill may still come between.
    this.later(0, () => { if (this.#pendingJournal) this.#flushJournal() })
  }

  #flushJournal(): void {
    this.#pendingJournal = false
    if (this.#journalClosed || this.dead) return
    this.#world.journal = JSON.stringify(this.#journalEntry())
  }

  #journalEntry(): JournalEntry {
    return {
      format: JOURNAL_FORMAT, pid: this.pid, startTime: String(this.pid), application: `${this.folder}/app.ts`, args: [], origin: { file: '', folder: '', flags: {} }, options: this.#options, fingerprint: this.#fingerprint, usualNode: '/node',
      startedAt: this.#startedAt, generation: this.#generationNumber, slots: this.#inherited?.slots ?? this.table.slots, listeners: this.#inherited?.listeners ?? this.table.record(),
      sockets: { control: -1, worker: -1, admin: -1 }, fleet: this.fleet?.record(this.#world.wallMs) ?? this.#inherited?.fleet ?? null, upgrades: this.upgrades?.record() ?? this.#inherited?.upgrades ?? null,
    }
  }

  #checkGoingOn(): void { if (this.state >= SimState.Stopping) throw new Refused('stopped while starting') }

  #moveTo(to: SimState): boolean {
    if (to <= this.state) return false
    this.state = to
    if (to === SimState.Running) this.wasRunning = true
    return true
  }
}
