/**
 * One worker process as the supervisor sees it.
 *
 *   Starting --ready--> Ready --accept acknowledged--> Accepting --stop-accept--> Paused
 *       |                 |                               |    ^------accept--------|
 *       |                 |                               +----------+--------------+--drain--> Draining
 *       +-----------------+------------------------ process ended ------------------------------> Gone
 *
 * Only Gone is final, and only the end of the process leads there: a kill is a request, its report is the fact.
 * Decides nothing; fleet.ts does.
 */
import type { DrainOrder, FromWorker, OpenCounts, ToWorker, WorkerId } from '../src/ipc/messages.ts'
import { NO_COUNTS } from '../src/ipc/messages.ts'
import { PHASE_MOVES, WorkerPhase } from '../src/ipc/worker-phase.ts'
import type { ExitReport } from './process-host.ts'

export const WorkerState = { Starting: 0, Ready: 1, Accepting: 2, Paused: 3, Draining: 4, Gone: 5 } as const
export type WorkerState = (typeof WorkerState)[keyof typeof WorkerState]

export const WORKER_STATE_NAMES: Readonly<Record<WorkerState, string>> = {
  [WorkerState.Starting]: 'starting', [WorkerState.Ready]: 'ready', [WorkerState.Accepting]: 'accepting',
  [WorkerState.Paused]: 'paused', [WorkerState.Draining]: 'draining', [WorkerState.Gone]: 'gone',
}

/** By what a worker says about itself when it comes back to us. */
const STATE_OF_PHASE: Readonly<Record<WorkerPhase, WorkerState>> = {
  starting: WorkerState.Starting, ready: WorkerState.Ready, accepting: WorkerState.Accepting, paused: WorkerState.Paused, draining: WorkerState.Draining,
}
const PHASES: Partial<Readonly<Record<WorkerState, WorkerPhase>>> = {
  [WorkerState.Starting]: 'starting', [WorkerState.Ready]: 'ready', [WorkerState.Accepting]: 'accepting', [WorkerState.Paused]: 'paused', [WorkerState.Draining]: 'draining',
}

/** The moves of a living worker, and its end from every state. */
const MOVES: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
  [WorkerState.Starting]: after(WorkerPhase.Starting),
  [WorkerState.Ready]: after(WorkerPhase.Ready),
  [WorkerState.Accepting]: after(WorkerPhase.Accepting),
  [WorkerState.Paused]: after(WorkerPhase.Paused),
  [WorkerState.Draining]: after(WorkerPhase.Draining),
  [WorkerState.Gone]: [],
}

function after(phase: WorkerPhase): WorkerState[] { return [...PHASE_MOVES[phase].map(next => STATE_OF_PHASE[next]), WorkerState.Gone] }

/** What the journal keeps of a worker: enough to know it again and to go on with it. */
export interface WorkerRecord {
  readonly generation: number
  readonly slot: number
  readonly n: number
  readonly token: string
  readonly pid: number
  readonly startTime: string
  readonly phase: WorkerPhase
  /** Wall clock, in ms since 1970: the monotonic clock starts anew with a machine, not with a process, but nobody promises that. */
  readonly startedAt: number
  readonly acceptingSince: number | null
  readonly drainingSince: number | null
  readonly drainEndsAt: number | null
  readonly exchanges: number
  readonly ownFaults: number
  readonly acceptsWhenReady: boolean
  readonly slotsHeld: number
  readonly soleHolder: boolean
}

/** The way to a worker that has said hello. */
export interface WorkerLink {
  /** Rejects with ChannelError when it is refused, not answered in time, or the connection ends. */
  ask(order: ToWorker, timeoutMs: number): Promise<unknown>
  send(order: ToWorker): void
  close(): void
}

export type Heartbeat = Extract<FromWorker, { tag: 'heartbeat' }>

export class WorkerProcess {
  readonly id: WorkerId
  readonly generation: number
  readonly slot: number
  readonly n: number
  /** Proves to the worker socket that a connection comes from this process. */
  readonly token: string
  readonly startedAtMs: number
  state: WorkerState = WorkerState.Starting
  pid = 0
  startTime = ''
  /** It has the sockets of so many slots, from the first on. */
  slotsHeld = 0
  /** It, and others that are marked so, hold sockets of which the supervisor has no descriptor: what waits in their queues is theirs to answer. */
  soleHolder = false
  /** It has stopped accepting but for listeners that those after it do not have. */
  pausedInPart = false
  link: WorkerLink | null = null
  acceptingSinceMs: number | null = null
  drainingSinceMs: number | null = null
  /** When it ends whatever is still open then. */
  drainEndsAtMs: number | null = null
  /** As it was told last, by this supervisor. */
  drainOrder: DrainOrder | null = null
  /** Ticks of the supervisor since it was last heard of. */
  silentTicks = 0
  /** A signal was sent that it will not survive. */
  aborted = false
  /** How often it was told to report; 0: it has not been told. */
  heartbeatMs = 0
  heartbeat: Heartbeat | null = null
  /** What it said about its own end, or what the supervisor knows about it. */
  failure: { readonly message: string; readonly stack: string } | null = null
  cut = 0
  /** Accepts as soon as it is ready; otherwise somebody looks at it first. */
  acceptsWhenReady = true
  /** On its way out: nobody need tell it again. */
  retiring = false
  /** Comes from an earlier supervisor and has not said hello to this one. */
  awaited = false
  cancelTimer: (() => void) | null = null
  readonly #ready = Promise.withResolvers<void>()
  readonly #accepting = Promise.withResolvers<void>()
  readonly #gone = Promise.withResolvers<ExitReport>()

  constructor(identity: { generation: number; slot: number; n: number; token: string; startedAtMs: number }) {
    this.generation = identity.generation
    this.slot = identity.slot
    this.n = identity.n
    this.token = identity.token
    this.startedAtMs = identity.startedAtMs
    this.id = `${identity.generation}.${identity.slot}.${identity.n}`
    // Whoever waits handles it; nobody has to wait.
    this.#accepting.promise.catch(() => {})
    this.#ready.promise.catch(() => {})
  }

  /** One that an earlier supervisor knew. @param ageShiftMs what to take from the wall clock to get to ours. */
  static restore(record: WorkerRecord, ageShiftMs: number): WorkerProcess {
    const worker = new WorkerProcess({ ...record, startedAtMs: record.startedAt - ageShiftMs })
    worker.pid = record.pid
    worker.startTime = record.startTime
    worker.awaited = true
    worker.acceptsWhenReady = record.acceptsWhenReady
    worker.slotsHeld = record.slotsHeld
    worker.soleHolder = record.soleHolder
    // The record does not say; whoever lets it go looks first.
    worker.pausedInPart = record.phase === 'paused'
    worker.acceptingSinceMs = record.acceptingSince === null ? null : record.acceptingSince - ageShiftMs
    worker.drainingSinceMs = record.drainingSince === null ? null : record.drainingSince - ageShiftMs
    worker.drainEndsAtMs = record.drainEndsAt === null ? null : record.drainEndsAt - ageShiftMs
    // One that was only ready says so again, and then gets the order that may have been lost.
    worker.#enter(record.phase === 'ready' ? WorkerState.Starting : STATE_OF_PHASE[record.phase] ?? WorkerState.Starting)
    // Its first heartbeat will say more; until then totals must not go backwards.
    worker.heartbeat = { tag: 'heartbeat', seq: 0, loopLagMs: 0, utilization: 0, rssBytes: 0, open: { ...NO_COUNTS, exchanges: record.exchanges, ownFaults: record.ownFaults } }
    return worker
  }

  record(ageShiftMs: number): WorkerRecord {
    const { generation, slot, n, token, pid, startTime, acceptingSinceMs, drainingSinceMs, drainEndsAtMs, startedAtMs, acceptsWhenReady, slotsHeld, soleHolder, open: { exchanges, ownFaults } } = this
    const wall = (ms: number | null): number | null => ms === null ? null : ms + ageShiftMs
    return {
      generation, slot, n, token, pid, startTime, phase: PHASES[this.state] ?? 'draining', startedAt: startedAtMs + ageShiftMs,
      acceptingSince: wall(acceptingSinceMs), drainingSince: wall(drainingSinceMs), drainEndsAt: wall(drainEndsAtMs), exchanges, ownFaults, acceptsWhenReady, slotsHeld, soleHolder,
    }
  }

  /** It is back, and knows better than the journal where it stands. */
  cameBack(phase: WorkerPhase, nowMs: number): void {
    this.awaited = false
    if (this.state === WorkerState.Gone) return
    // 'ready' follows as a message of its own and has its consequences.
    const state = STATE_OF_PHASE[phase]
    if (state === undefined || state === WorkerState.Ready || state === this.state) return
    this.#enter(state)
    if (state === WorkerState.Accepting) this.acceptingSinceMs ??= nowMs
    if (state === WorkerState.Paused) this.pausedInPart = true
  }

  #enter(state: WorkerState): void {
    this.state = state
    if (state === WorkerState.Gone || state === WorkerState.Starting) return
    this.#ready.resolve()
    if (state !== WorkerState.Ready) this.#accepting.resolve()
  }

  /** Resolves when it is able to accept; rejects when it is gone before. */
  get ready(): Promise<void> { return this.#ready.promise }
  /** Resolves when it accepts for the first time; rejects when it is gone before. */
  get accepting(): Promise<void> { return this.#accepting.promise }
  /** Resolves when the process has ended. */
  get gone(): Promise<ExitReport> { return this.#gone.promise }
  get alive(): boolean { return this.state !== WorkerState.Gone }
  /** What a worker of an older build does not count is 0. */
  get open(): OpenCounts { return this.heartbeat === null ? NO_COUNTS : { ...NO_COUNTS, ...this.heartbeat.open } }

  /** @returns false when the move is not one of the drawing. */
  moveTo(to: WorkerState): boolean {
    if (!MOVES[this.state].includes(to)) return false
    this.state = to
    if (to === WorkerState.Ready) this.#ready.resolve()
    return true
  }

  markAccepting(nowMs: number): boolean {
    if (!this.moveTo(WorkerState.Accepting)) return false
    this.acceptingSinceMs ??= nowMs
    this.silentTicks = 0
    this.#accepting.resolve()
    return true
  }

  markGone(report: ExitReport): boolean {
    if (!this.moveTo(WorkerState.Gone)) return false
    this.clearTimer()
    this.link?.close()
    this.link = null
    const reason = new Error(this.endReason(report))
    this.#ready.reject(reason)
    this.#accepting.reject(reason)
    this.#gone.resolve(report)
    return true
  }

  /** One clause for the log and the operator: its own words if there are any. */
  endReason(report: ExitReport): string {
    if (this.failure !== null) return this.failure.message
    if (report.problem !== '') return `could not be started: ${report.problem}`
    if (report.signal !== null) return `ended by ${report.signal}`
    // It was not our child: only its parent is told.
    if (report.code === null) return 'ended, how is not known'
    return `ended with code ${String(report.code)}`
  }

  setTimer(cancel: () => void): void {
    this.clearTimer()
    this.cancelTimer = cancel
  }

  clearTimer(): void {
    this.cancelTimer?.()
    this.cancelTimer = null
  }
}
