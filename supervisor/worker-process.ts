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
import type { FromWorker, OpenCounts, ToWorker, WorkerId } from '../src/ipc/messages.ts'
import { NO_COUNTS } from '../src/ipc/messages.ts'
import type { ExitReport } from './process-host.ts'

export const WorkerState = { Starting: 0, Ready: 1, Accepting: 2, Paused: 3, Draining: 4, Gone: 5 } as const
export type WorkerState = (typeof WorkerState)[keyof typeof WorkerState]

export const WORKER_STATE_NAMES: Readonly<Record<WorkerState, string>> = {
  [WorkerState.Starting]: 'starting', [WorkerState.Ready]: 'ready', [WorkerState.Accepting]: 'accepting',
  [WorkerState.Paused]: 'paused', [WorkerState.Draining]: 'draining', [WorkerState.Gone]: 'gone',
}

const MOVES: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
  [WorkerState.Starting]: [WorkerState.Ready, WorkerState.Draining, WorkerState.Gone],
  [WorkerState.Ready]: [WorkerState.Accepting, WorkerState.Draining, WorkerState.Gone],
  [WorkerState.Accepting]: [WorkerState.Paused, WorkerState.Draining, WorkerState.Gone],
  [WorkerState.Paused]: [WorkerState.Accepting, WorkerState.Draining, WorkerState.Gone],
  [WorkerState.Draining]: [WorkerState.Gone],
  [WorkerState.Gone]: [],
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
  link: WorkerLink | null = null
  acceptingSinceMs: number | null = null
  drainingSinceMs: number | null = null
  /** Ticks of the supervisor since it was last heard of. */
  silentTicks = 0
  aborted = false
  heartbeat: Heartbeat | null = null
  /** What it said about its own end, or what the supervisor knows about it. */
  failure: { readonly message: string; readonly stack: string } | null = null
  cut = 0
  cancelTimer: (() => void) | null = null
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
  }

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
    this.#accepting.reject(new Error(this.endReason(report)))
    this.#gone.resolve(report)
    return true
  }

  /** One clause for the log and the operator: its own words if there are any. */
  endReason(report: ExitReport): string {
    if (this.failure !== null) return this.failure.message
    if (report.problem !== '') return `could not be started: ${report.problem}`
    if (report.signal !== null) return `ended by ${report.signal}`
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
