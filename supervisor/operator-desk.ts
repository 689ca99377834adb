/**
 * Where operators ask: every message of the control socket gets its answer here, and `status` its text. Signals that mean
 * an operation come here as well, without a question to answer.
 *
 * Decides whether the server is in a state in which an order makes sense. What an order then does is done elsewhere: by
 * the fleet, by upgrade.ts, or by the life itself (supervisor.ts).
 * Tests: test/simulation asks and counts the answers; test/integration/processes reads the status.
 */
import type { FromOperator, OperationOutcome, OperationStarted } from '../src/ipc/messages.ts'
import { PROTOCOL_VERSION } from '../src/ipc/messages.ts'
import type { Question } from '../src/ipc/channel.ts'
import { NO_COUNTS, type OpenCounts } from '../src/ipc/open-counts.ts'
import type { CertificateDesk } from './certificate-desk.ts'
import type { OperatorConnection } from './control-server.ts'
import { explainByWorker } from './explain-desk.ts'
import type { ErrorReports, ErrorReportsStatus } from './error-reports.ts'
import type { Health } from './admin-server.ts'
import type { Fleet } from './fleet.ts'
import type { SlotStatus } from './fleet-status.ts'
import type { Holdings } from './holdings.ts'
import type { HeldListener } from './listener-table.ts'
import { isLogLevel, LEVEL_MAX_MS, type LevelOverride, type LevelStatus } from './log-level.ts'
import type { MetricLedger } from './metric-ledger.ts'
import { LookOuts } from './look-outs.ts'
import { Refused } from './refusals.ts'
import type { ReleaseWorld } from './release-world.ts'
import { sampleOf, type Sample } from './sample.ts'
import { SUPERVISOR_STATE_NAMES, SupervisorState } from './supervisor-state.ts'
import type { SupervisorSetup, SupervisorWorld } from './supervisor-world.ts'
import type { TicketKeeper, TicketStatus } from './ticket-keeper.ts'
import type { OperationProgress, OperationRequest, Upgrades } from './upgrade.ts'

/** The answer to `status`. */
export interface SupervisorStatus {
  readonly version: string
  readonly protocol: number
  readonly pid: number
  readonly node: string
  readonly state: string
  readonly application: string
  /** Folder in which Cirque was started. Left out by a supervisor of an older build. */
  readonly startedIn?: string
  /** Folder of the release that serves, and of the one that `rollback` goes back to; ''. */
  readonly release: string
  readonly previousRelease: string
  readonly generation: number
  readonly startedAt: string
  readonly uptimeMs: number
  readonly operation: string
  /** Of an upgrade, a reload or a roll-back; null: none runs. Left out by a supervisor of an older build. */
  readonly progress?: OperationProgress | null
  readonly stateDir: string
  readonly controlSocket: string
  readonly admin: string
  readonly systemCalls: string
  /** Of the process log. Left out by a supervisor of an older build. */
  readonly logLevel?: LevelStatus
  readonly listeners: readonly ListenerStatus[]
  readonly slots: readonly object[]
  readonly totals: object
  /** Keys of session tickets; null: no listener speaks TLS. Left out by a supervisor of an older build. */
  readonly tickets?: TicketStatus | null
  /** Null: nobody is told of errors. Left out by a supervisor of an older build. */
  readonly errorReports?: ErrorReportsStatus | null
  /** Of upgrades, reloads and roll-backs, oldest first. */
  readonly outcomes: readonly OperationOutcome[]
}

/** As this build answers. */
export interface CurrentStatus extends SupervisorStatus {
  readonly slots: readonly SlotStatus[]
  readonly totals: OpenCounts
}

interface ListenerStatus {
  readonly name: string
  readonly service: string
  readonly address: string
  readonly bound: string
  readonly sockets: number
  /** Its connections speak TLS. Left out where they do not, and by a supervisor of an older build. */
  readonly tls?: true
}

/** The life that is asked about. */
export interface DeskLife {
  readonly state: SupervisorState
  readonly fleet: Fleet | null
  readonly ledger: MetricLedger
  readonly upgrades: Upgrades | null
  readonly reports: ErrorReports
  readonly tickets: TicketKeeper
  readonly certificates: CertificateDesk
  /** In ms since 1970. */
  readonly startedAt: number
  /** Resolves when workers of an earlier supervisor are ours; null: none are being taken over. */
  readonly takingOver: Promise<void> | null
  /** As TERM does. */
  stop(): void
  /** Kills what is left. */
  force(): void
  reopenLogs(): void
  readonly logLevel: LevelOverride
  /** Whether traffic is welcome, and why not. */
  health(): Health
}

/** A day: what is longer is no soak, and what is no number is none at all. */
const SOAK_MAX_MS = 86_400_000

function listenerStatus({ name, service, canonical, bound, sockets }: HeldListener, secure: ReadonlySet<string>): ListenerStatus {
  return { name, service, address: canonical, bound, sockets: sockets.length, ...secure.has(name) ? { tls: true } : null }
}

export class OperatorDesk {
  readonly #setup: SupervisorSetup
  readonly #world: SupervisorWorld
  readonly #holdings: Holdings
  readonly #releases: ReleaseWorld
  readonly #life: DeskLife
  /** Of operators that wait for the end of the server. */
  readonly #stopQuestions: Question[] = []
  readonly #lookOuts: LookOuts

  constructor(setup: SupervisorSetup, world: SupervisorWorld, holdings: Holdings, releases: ReleaseWorld, life: DeskLife) {
    this.#setup = setup
    this.#world = world
    this.#holdings = holdings
    this.#releases = releases
    this.#life = life
    this.#lookOuts = new LookOuts({
      host: world.host, fleet: () => life.fleet, maxMessageBytes: () => releases.options.maxControlMessageBytes,
    })
  }

  onMessage(message: FromOperator, question: Question, connection: OperatorConnection): void {
    const { takingOver } = this.#life
    if (takingOver !== null && message.tag !== 'status' && !(message.tag === 'stop' && message.force)) {
      // A matter of milliseconds; then it is answered as ever. Should the take-over fail, this image ends, the connection with
      // it, and the operator's command line asks again.
      void takingOver.then(() => this.onMessage(message, question, connection))
      return
    }
    switch (message.tag) {
      case 'status':
        question.ok(this.status())
        break
      case 'sample':
        question.ok(this.sample())
        break
      case 'stop':
        this.#setup.log.info(message.force ? 'an operator asked to stop now' : 'an operator asked to stop')
        if (message.wait) this.#stopQuestions.push(question)
        else question.ok({ operation: 'stop' })
        if (message.force) this.#life.force()
        else this.#life.stop()
        break
      case 'restart-workers':
        this.#restartWorkers(message.worker, message.wait, question)
        break
      case 'reopen-logs':
        this.#life.reopenLogs()
        question.ok(null)
        break
      case 'log-level':
        this.#setLogLevel(message, question)
        break
      case 'certificates':
        if (message.reload) {
          this.#setup.log.info('an operator asked for a look at the files of certificates')
          this.#life.tickets.reread()
        }
        void this.#life.certificates.list(message.reload).then(certificates => question.ok(certificates))
        break
      case 'upgrade': {
        // What else it may say is of another build.
        const supervisor = message.supervisor === 'always' ? 'always' : 'if-changed'
        this.operate({ kind: 'upgrade', folder: message.folder, supervisor, ...soakOf(message) }, question)
        break
      }
      case 'reload':
        this.operate({ kind: 'reload', folder: '', supervisor: 'if-changed', ...soakOf(message) }, question)
        break
      case 'rollback':
        // What it goes back to has served before, and what it leaves may be doing harm meanwhile.
        this.operate({ kind: 'rollback', folder: '', supervisor: 'if-changed', soakMs: 0, ...soakOf(message) }, question)
        break
      case 'outcome':
        this.#tellOutcome(message.id, question)
        break
      case 'look':
        this.#lookOuts.ask(message.look, question, connection)
        break
      case 'explain':
        explainByWorker(message, this.#holdings.table.listeners, this.#life.fleet?.workers() ?? []).then(
          explained => question.ok(explained),
          (error: Error) => question.refuse('refused', error.message),
        )
        break
      default:
        message satisfies never
    }
  }

  /** @param question null: it came by a signal, or we ask ourselves; a refusal is a line in the log. */
  operate(request: OperationRequest, question: Question | null): void {
    const { upgrades, state } = this.#life
    if (upgrades === null || state !== SupervisorState.Running) {
      question?.refuse('refused', this.#notNow())
      return
    }
    try {
      const id = upgrades.request(request)
      question?.ok({ id } satisfies OperationStarted)
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      if (question === null) this.#setup.log.warn(error.message)
      else question.refuse('refused', error.message)
    }
  }

  #restartWorkers(which: string, wait: boolean, question: Question): void {
    const { fleet, state } = this.#life
    const { log } = this.#setup
    if (fleet === null || state !== SupervisorState.Running) {
      question.refuse('refused', this.#notNow())
      return
    }
    try {
      const outcome = fleet.restart(which)
      log.info(which === '' ? 'an operator asked to restart all workers' : `an operator asked to restart worker ${which}`)
      outcome.then(result => {
        log.info('workers were restarted', { replaced: result.replaced.length })
        if (wait) question.ok(result)
      }, (error: unknown) => {
        log.error('the restart of workers failed', { error })
        if (wait) question.refuse('failed', error instanceof Error ? error.message : String(error))
      })
      if (!wait) question.ok({ operation: 'restart-workers' })
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      question.refuse('refused', error.message)
    }
  }

  #setLogLevel({ level, forMs }: Extract<FromOperator, { tag: 'log-level' }>, question: Question): void {
    const { logLevel } = this.#life
    const { log } = this.#setup
    if (level === 'configured') {
      log.info('an operator asked for the configured level of the log')
      logLevel.clear()
    } else if (level !== '') {
      // Checked, since it comes from a process that is not ours.
      if (!isLogLevel(level) || !(forMs > 0 && forMs <= LEVEL_MAX_MS)) {
        question.refuse('refused', `'${String(level)}' for ${forMs} ms is no level of a log`)
        return
      }
      log.info(`an operator asked for lines of level ${level}`, { forMs })
      logLevel.set(level, forMs)
    }
    question.ok(this.#levelStatus())
  }

  #levelStatus(): LevelStatus {
    const { fleet, logLevel } = this.#life
    return logLevel.status((fleet?.generation.settings ?? this.#setup.config).log.level)
  }

  #tellOutcome(id: string, question: Question): void {
    const { upgrades } = this.#life
    if (upgrades === null) {
      question.refuse('refused', `there is no operation '${id}'`)
      return
    }
    upgrades.outcome(id).then(outcome => question.ok(outcome), (error: Error) => question.refuse('refused', error.message))
  }

  /** The last answers. @param cut connections that were cut at the end; null: workers had to be killed. */
  tellEnd(cut: number | null): void {
    for (const question of this.#stopQuestions.splice(0)) {
      if (cut === null) question.refuse('failed', 'workers had to be killed')
      else question.ok({ cut })
    }
  }

  #notNow(): string { return `the server is ${SUPERVISOR_STATE_NAMES[this.#life.state]}` }

  status(): CurrentStatus {
    const { own } = this.#world
    const { fleet, upgrades, state, startedAt } = this.#life
    const secure = new Set(fleet?.generation.description.listeners.flatMap(({ name, tls }) => tls === undefined ? [] : [name]))
    const { table, controlPath, adminAddress, systemCallsText } = this.#holdings
    return {
      version: own.version, protocol: PROTOCOL_VERSION, pid: own.pid, node: own.nodeVersion, state: SUPERVISOR_STATE_NAMES[state],
      application: this.#setup.application, startedIn: this.#setup.origin.folder,
      release: fleet?.generation.release.folder ?? '', previousRelease: upgrades?.previousFolder ?? '',
      generation: fleet?.generation.number ?? this.#releases.number,
      startedAt: new Date(startedAt).toISOString(), uptimeMs: this.#world.wallMs() - startedAt,
      operation: this.#operationText(), progress: upgrades?.running ?? null,
      stateDir: this.#setup.stateFolder.path, controlSocket: controlPath, admin: adminAddress,
      systemCalls: systemCallsText, logLevel: this.#levelStatus(),
      listeners: table.listeners.map(listener => listenerStatus(listener, secure)),
      slots: fleet?.status() ?? [], totals: fleet?.totals() ?? NO_COUNTS, tickets: this.#life.tickets.status(),
      errorReports: this.#life.reports.status(),
      outcomes: upgrades?.outcomes ?? [],
    }
  }

  sample(): Sample {
    const { ledger, startedAt } = this.#life
    return sampleOf({
      status: this.status(), health: this.#life.health(), takenAtMs: this.#world.wallMs(), startedAtMs: startedAt,
      counting: this.#releases.options.metrics,
    }, ledger.totals())
  }

  #operationText(): string {
    const { fleet, upgrades } = this.#life
    const running = upgrades?.running ?? null
    return running === null ? fleet?.operationName ?? '' : `${running.id}: ${running.step}`
  }
}

/** Checked, since it comes from a process that is not ours. */
function soakOf({ soakMs }: { readonly soakMs?: unknown }): { soakMs?: number } {
  return typeof soakMs === 'number' && soakMs >= 0 && soakMs <= SOAK_MAX_MS ? { soakMs } : {}
}
