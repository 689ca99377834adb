/**
 * An operation's world (upgrade.ts): what a release is on the disk, what it listens on, and the moment in which it becomes
 * the one in force.
 *
 * Owner of two truths that others only read: `options`, those of the generation that is committed, and `number`, the
 * highest that was ever given to a generation. `flip` changes the options, `prepare` and `first` the number; no other
 * part of the supervisor keeps either of them.
 */
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { ResolvedSentryOptions } from '../src/config/sentry-options.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { WorkerSettings } from '../src/config/worker-settings.ts'
import { framesOf } from '../src/ipc/fault-report.ts'
import type { OperationOutcome } from '../src/ipc/messages.ts'
import { OptionError } from '../src/primitives/option-table.ts'
import { checkListenerNames } from './describe-application.ts'
import type { ErrorReports } from './error-reports.ts'
import type { Fleet } from './fleet.ts'
import { workerExecArgv } from './generation.ts'
import type { Blueprint, Generation } from './generation.ts'
import type { Holdings } from './holdings.ts'
import type { Identity } from './identities.ts'
import type { JournalEntry } from './journal.ts'
import { Refused } from './refusals.ts'
import type { Release } from './releases.ts'
import type { SupervisorSetup, SupervisorWorld } from './supervisor-world.ts'
import type { OperationRequest, Plan, Resumption, UpgradeWorld } from './upgrade.ts'

/** The life that operations are part of. */
export interface ReleaseLife {
  /** Not null while an operation runs. */
  readonly fleet: Fleet | null
  readonly stopping: boolean
  /** What another image or another supervisor has to know. */
  journalEntry(): JournalEntry
  /** Writes that, now. @returns false when it is not on the disk. */
  record(): boolean
  /** An operation is over. Writes the journal as well. */
  operationEnded(outcome: OperationOutcome): void
  readonly reports: ErrorReports
}

/** Nothing but another start can change these: sockets and processes were made with them. */
const FIXED_OPTIONS = ['stateDir', 'adminAddress', 'user', 'group'] as const

/**
 * A new supervisor has at least so many times as long as its release has just taken to be described: that, too, starts a Node.js
 * and loads code, on the same machine at nearly the same moment. A fixed time says nothing of a machine that is busy, and going
 * back for that reason helps nobody. But not longer than this for it, in ms: meanwhile dead workers are not replaced.
 */
const BOOTS_A_DESCRIPTION = 8
const LONGEST_BOOT_MS = 30_000

const NO_LAYOUT: Generation['layout'] = { slots: 0, copies: 1, listeners: [] }

export class ReleaseWorld implements UpgradeWorld {
  #options: ResolvedSupervisorOptions
  #number = 0
  /** Of the code and the runtime of this image. */
  #fingerprint = ''
  /** What the operation that was prepared last found there: it is not part of a plan, which is written to the disk. Null: nothing yet. */
  #sentry: ResolvedSentryOptions | null = null
  /** How long the release that was read last took to be described. */
  #describedInMs = 0
  /** Runs releases that bring no Node.js. */
  #usualNode: string
  readonly #setup: SupervisorSetup
  readonly #world: SupervisorWorld
  readonly #holdings: Holdings
  readonly #life: ReleaseLife

  constructor(setup: SupervisorSetup, world: SupervisorWorld, holdings: Holdings, life: ReleaseLife) {
    this.#setup = setup
    this.#world = world
    this.#holdings = holdings
    this.#life = life
    this.#options = setup.config.supervisor
    this.#usualNode = world.own.node
  }

  /** Of the committed generation; before there is one, what the start was given. */
  get options(): ResolvedSupervisorOptions { return this.#options }
  /** The highest that was ever given, by us or by a supervisor before us; 0: none yet. */
  get number(): number { return this.#number }
  get fingerprint(): string { return this.#fingerprint }
  get usualNode(): string { return this.#usualNode }

  // ---- where a life begins

  /** A start. @param before what an earlier supervisor has left. @returns the release that it is to serve. @throws ReleaseError */
  begin(before: JournalEntry | null): Release {
    const release = this.#world.releases.releaseOf(this.#setup.application)
    // The start may have used another Node.js than the release brings.
    this.#fingerprint = this.#world.releases.fingerprintOf(release.installation, this.#world.own.node)
    if (before !== null) this.#countFrom(before)
    return release
  }

  /** The rest of a life that another image began. */
  goOn(entry: JournalEntry, { how }: Resumption): void {
    const plan = how === 'forward' ? entry.upgrades?.running?.plan : null
    this.#fingerprint = plan?.generation.release.fingerprint ?? entry.fingerprint
    this.#usualNode = entry.usualNode
    this.#countFrom(entry)
  }

  #countFrom({ generation, upgrades }: JournalEntry): void { this.#number = Math.max(generation, upgrades?.lastNumber ?? 0) }

  /** What the first generation is; its sockets are not bound yet. @throws DescribeFailed, ConfigError */
  async first(release: Release, identity: Identity, signal: AbortSignal): Promise<Generation> {
    return this.#read(++this.#number, this.#blueprint(release, identity), this.#setup.config, this.#world.wallMs(), signal)
  }

  /** Restored workers may run something else than a start would choose now. @returns what to do about it; null: they run just that. */
  outdated(generation: Generation): OperationRequest | null {
    const { application, args, config } = this.#setup
    const release = this.#world.releases.releaseOf(application)
    const same = release.folder === generation.release.folder && release.application === generation.release.application
      && isDeepStrictEqual(settingsOf(config), generation.settings) && isDeepStrictEqual(args, generation.args)
      && config.supervisor.workers === generation.workers && !this.#world.releases.changedSince(release.application, generation.readAt)
    if (same) return null
    const kind = release.folder === generation.release.folder ? 'reload' : 'upgrade'
    return { kind, folder: release.folder, supervisor: 'if-changed' }
  }

  // ---- what an operation asks for

  wallMs(): number { return this.#world.wallMs() }

  async prepare(request: OperationRequest, signal: AbortSignal): Promise<Plan> {
    const number = ++this.#number
    const readAt = this.#world.wallMs()
    const here = this.#life.fleet!.generation.release
    const release = this.#readRelease(request.folder, here)
    const config = this.#setup.readConfig(file => this.#world.releases.fileOnceCurrent(this.#setup.application, file, release.folder))
    const options = config.supervisor
    this.#sentry = config.sentry
    this.#checkFixed(options)
    const identity = this.#world.resolveIdentity(options.user, options.group)
    const generation = await this.#read(number, this.#blueprint(release, identity), config, readAt, signal)
    return { generation, options, replaceSupervisor: this.#needsExec(request, release), from: here.folder, to: release.folder }
  }

  #checkFixed(options: ResolvedSupervisorOptions): void {
    for (const key of FIXED_OPTIONS) {
      if (options[key] === this.#options[key]) continue
      const was = JSON.stringify(this.#options[key])
      const remedy = `it was ${was} at the start and cannot change while the server runs; leave it, or stop and start`
      throw OptionError.of(`supervisor.${key}`, options[key], remedy)
    }
  }

  #readRelease(asked: string, here: Release): Release {
    const folder = asked === '' ? here.folder : path.resolve(this.#setup.origin.folder, asked)
    return this.#world.releases.read(folder, path.relative(here.folder, here.application), this.#usualNode)
  }

  #needsExec({ kind, supervisor }: OperationRequest, release: Release): boolean {
    const wanted = kind !== 'reload' && (supervisor === 'always' || release.fingerprint !== this.#fingerprint)
    if (!wanted || this.#holdings.calls !== null) return wanted
    if (supervisor === 'always') throw new Refused(`the supervisor cannot replace itself: ${this.#holdings.systemCallsText}`)
    const instead = 'the workers get the new release, the supervisor stays as it is until the next start'
    this.#setup.log.warn(`${instead}: system calls are not available`)
    return false
  }

  #blueprint(release: Release, identity: Identity): Blueprint {
    return { release, args: this.#setup.args, execArgv: workerExecArgv(this.#world.own.execArgv), ...identity }
  }

  async #read(number: number, blueprint: Blueprint, config: ServerConfig, readAt: number, signal: AbortSignal): Promise<Generation> {
    const sinceMs = this.#world.host.nowMs()
    const description = await this.#world.describe(blueprint, config.supervisor.describeTimeoutMs, signal)
    this.#describedInMs = this.#world.host.nowMs() - sinceMs
    const settings = settingsOf(config)
    checkListenerNames(config, description)
    return { number, ...blueprint, readAt, description, settings, workers: config.supervisor.workers, layout: NO_LAYOUT }
  }

  async bind(plan: Plan): Promise<Plan> {
    const generation = await this.bindGeneration(plan.generation)
    this.#holdings.keepCopies()
    return { ...plan, generation }
  }

  /** @returns the generation with its descriptors laid out. @throws BindError, and nothing is bound then that was not before. */
  async bindGeneration(generation: Generation): Promise<Generation> {
    const { listeners } = generation.description
    await this.#holdings.table.bind(listeners, generation.workers)
    return { ...generation, layout: this.#holdings.layout(listeners) }
  }

  holdOff({ description }: Generation): void { this.#holdings.table.holdOff(description.listeners, this.#holdings.calls) }

  retain({ description }: Generation): void {
    const { table, serviceManager, calls } = this.#holdings
    for (const { key } of table.retain(description.listeners, calls)) serviceManager.remove(key)
    serviceManager.status(this.statusLine())
  }

  flip(plan: Plan): void {
    this.#world.releases.flip(this.#setup.application, plan.to)
    this.#options = plan.options
    this.#setup.onConfigured?.(plan.generation.settings)
    // After an exec the image that flips was made with what it read itself.
    if (this.#sentry === null) return
    this.#life.reports.configure(this.#sentry)
    this.#life.reports.begin()
  }

  flipped(plan: Plan): boolean | null {
    const current = this.#world.releases.current(this.#setup.application)
    return current === null ? null : current === plan.to
  }

  record(): boolean { return this.#life.record() }
  ended(outcome: OperationOutcome): void {
    const { id, kind, result, reason, applicationStack = '', generation, to } = outcome
    this.#life.operationEnded(outcome)
    // One that ends with the server is nobody's to mend.
    if (result !== 'rolled-back' || this.#life.stopping || this.#life.fleet?.stopping === true) return
    this.#life.reports.report({
      kind: 'operation', name: 'RolledBack', place: kind, message: `${id} was rolled back: ${reason}`, stack: framesOf(applicationStack),
      tags: { operation: id, generation: String(generation) }, release: to,
      fatal: false, count: 1, again: false, traceId: '', spanId: '',
    })
  }

  async replaceSupervisor(plan: Plan): Promise<never> {
    const fleet = this.#life.fleet!
    const { serviceManager } = this.#holdings
    // Before dead workers have to wait for their replacement.
    await this.#life.reports.flush()
    await fleet.freeze()
    await this.#setup.flushLogs?.()
    // Signals that came until now have been told: they are polled for between the two.
    await this.#world.turn()
    await this.#world.turn()
    if (this.#life.stopping) {
      fleet.thaw()
      throw new Refused('the server is stopping')
    }
    serviceManager.reloading()
    try {
      return await this.#world.exec({
        folder: this.#setup.stateFolder.path, to: plan.generation.release, descriptors: this.#holdings.allDescriptors,
        bootTimeoutMs: this.#bootTimeoutMs(plan), state: this.#life.journalEntry(),
        environment: serviceManager.environmentForExec(),
      }, this.#holdings.calls!)
    } catch (error) {
      serviceManager.ready(this.statusLine())
      fleet.thaw()
      throw new Refused(`the supervisor could not be replaced: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  #bootTimeoutMs({ options }: Plan): number {
    const onThisMachineMs = Math.min(LONGEST_BOOT_MS, Math.ceil(BOOTS_A_DESCRIPTION * this.#describedInMs))
    return Math.max(options.upgrade.bootTimeoutMs, onThisMachineMs)
  }

  /** What serves, in one line for the service manager. */
  statusLine(): string {
    const { number, workers, release } = this.#life.fleet!.generation
    return `generation ${number}, ${workers} workers, ${release.folder}`
  }
}

/** What workers are told of the configuration. */
function settingsOf({ log, traces, tls, limits, listeners, sentry }: ServerConfig): WorkerSettings {
  return { log, traces, tls, limits, listeners, ...sentry.dsn === '' ? {} : { reportsFaults: true } }
}
