/**
 * One worker process as the supervisor sees it. Three things are kept apart:
 *
 * What it does, `state`:
 *
 *   Starting --ready--> Ready --accept acknowledged--> Accepting --stop-accept--> Paused or PausedInPart
 *       |                 |                               |    ^------accept--------|
 *       |                 |                               +----------+--------------+--drain--> Draining
 *       +-----------------+------------------------ process ended ------------------------------> Gone
 *
 *   PausedInPart: it goes on accepting on listeners that its successor does not have, until it pauses wholly or resumes.
 *   Only Gone is final, and only the end of the process leads there: a kill is a request, its report is the fact.
 *
 * What is wanted of it, `intent`:
 *
 *   Trial --it took over--> Serve --a successor accepts, or none is wanted--> Retire
 *     +-----------------------+--it alone holds some sockets--> Dissolve
 *     +--not wanted--> Retire
 *
 * Whether it can be told, `contact`:
 *
 *   Expected (forked here) --hello--> Connected <--hello / connection lost--> Lost
 *   Awaited (left by an earlier supervisor) --hello--> Connected
 *
 * Decides nothing; the rooms of the fleet do.
 */
import type { DrainOrder, FromWorker, ToWorker, WorkerId } from '../src/ipc/messages.ts'
import { doneOf, NO_COUNTS } from '../src/ipc/open-counts.ts'
import type { OpenCounts } from '../src/ipc/open-counts.ts'
import { PHASE_MOVES, WorkerPhase } from '../src/ipc/worker-phase.ts'
import type { ExitReport } from './process-host.ts'
import { WorkerEnded } from './refusals.ts'

export const WorkerState = { Starting: 0, Ready: 1, Accepting: 2, Paused: 3, PausedInPart: 4, Draining: 5, Gone: 6 } as const
export type WorkerState = (typeof WorkerState)[keyof typeof WorkerState]

/** What a worker says about itself in each state; one that has gone said last that it drains, or nothing. */
const PHASES: Readonly<Record<WorkerState, WorkerPhase>> = {
  [WorkerState.Starting]: WorkerPhase.Starting,
  [WorkerState.Ready]: WorkerPhase.Ready,
  [WorkerState.Accepting]: WorkerPhase.Accepting,
  [WorkerState.Paused]: WorkerPhase.Paused,
  [WorkerState.PausedInPart]: WorkerPhase.Paused,
  [WorkerState.Draining]: WorkerPhase.Draining,
  [WorkerState.Gone]: WorkerPhase.Draining,
}

/** By what a worker says about itself. Whether it paused in part it does not say; who believes so looks before it goes on. */
const STATE_OF_PHASE: Readonly<Record<WorkerPhase, WorkerState>> = {
  starting: WorkerState.Starting,
  ready: WorkerState.Ready,
  accepting: WorkerState.Accepting,
  paused: WorkerState.PausedInPart,
  draining: WorkerState.Draining,
}

/** The phases that a worker goes through, the two ways to pause, and the end from every state. */
const MOVES: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
  [WorkerState.Starting]: after(WorkerPhase.Starting),
  [WorkerState.Ready]: after(WorkerPhase.Ready),
  [WorkerState.Accepting]: [...after(WorkerPhase.Accepting), WorkerState.Paused],
  [WorkerState.Paused]: after(WorkerPhase.Paused),
  [WorkerState.PausedInPart]: [...after(WorkerPhase.Paused), WorkerState.Paused],
  [WorkerState.Draining]: after(WorkerPhase.Draining),
  [WorkerState.Gone]: [],
}

function after(phase: WorkerPhase): WorkerState[] { return [...PHASE_MOVES[phase].map(next => STATE_OF_PHASE[next]), WorkerState.Gone] }

/** Words, because the journal keeps them. */
export const Intent = {
  /** It accepts as soon as it is ready, and stays. */
  Serve: 'serve',
  /** It is ready and waits: an upgrade looks at it first, and then lets it accept; a spare is let accept when it is needed. */
  Trial: 'trial',
  /** It is on its way out; how far is its state. */
  Retire: 'retire',
  /**
   * It, and others that are to dissolve, hold sockets of which the supervisor has no descriptor. They end together, when
   * what waits in the queues of those sockets has been answered.
   */
  Dissolve: 'dissolve',
} as const
export type Intent = (typeof Intent)[keyof typeof Intent]

const INTENT_MOVES: Readonly<Record<Intent, readonly Intent[]>> = {
  trial: [Intent.Serve, Intent.Retire, Intent.Dissolve],
  serve: [Intent.Retire, Intent.Dissolve],
  // A supervisor that adopts learns after it has retired a worker that the worker's sockets did not come back.
  retire: [Intent.Dissolve],
  dissolve: [],
}

/** Why a worker ends that was to serve: in its own words, or as the supervisor knows it. */
export type WorkerFailure =
  | { readonly how: 'said'; readonly name: string; readonly message: string; readonly stack: string; readonly rejected: boolean }
  | { readonly how: 'silence' | 'disobedience' | 'not ready'; readonly message: string; readonly stack: '' }

export const Contact = { Expected: 0, Awaited: 1, Connected: 2, Lost: 3 } as const
export type Contact = (typeof Contact)[keyof typeof Contact]

/** What the journal keeps of a worker: enough to know it again and to go on with it. */
export interface WorkerRecord {
  readonly generation: number
  readonly slot: number
  readonly n: number
  readonly token: string
  readonly pid: number
  readonly startTime: string
  readonly phase: WorkerPhase
  readonly intent: Intent
  /** Wall clock, in ms since 1970: nothing promises that the monotonic clock goes on from one process to the next. */
  readonly startedAt: number
  readonly acceptingSince: number | null
  readonly drainingSince: number | null
  readonly drainEndsAt: number | null
  readonly exchanges: number
  readonly ownFaults: number
  /** Absent from what a build before this count wrote. */
  readonly upstreamFaults?: number
  readonly slotsHeld: number
  /** An incident was made of its end, which is under way. Left out when none was, and by a build that makes none. */
  readonly reported?: boolean
}

/** The way to a worker that has said hello. */
export interface WorkerLink {
  /**
   * Rejects with ChannelError when it is refused, not answered in time, or the connection ends.
   * @param timeoutMs null: wait as long as the connection lives.
   */
  ask(order: ToWorker, timeoutMs: number | null): Promise<unknown>
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
  intent: Intent
  contact: Contact = Contact.Expected
  /** Where it is told; null unless it is connected. */
  link: WorkerLink | null = null
  pid = 0
  startTime = ''
  /** It was told to accept: it may hold connections before its answer is here. */
  mayAccept = false
  /** It has the sockets of so many slots, from the first on. */
  slotsHeld = 0
  acceptingSinceMs: number | null = null
  drainingSinceMs: number | null = null
  /** When it ends whatever is still open then. */
  drainEndsAtMs: number | null = null
  /** The last drain order that this supervisor gave it. */
  drainOrder: DrainOrder | null = null
  /** Ticks of the supervisor since it was last heard of. */
  silentTicks = 0
  /** It was sent this signal, which it will not survive. */
  fatalSignal: NodeJS.Signals | null = null
  /** How often it was told to report; 0: it has not been told. */
  heartbeatMs = 0
  heartbeat: Heartbeat | null = null
  /** What it said about its own end, or what the supervisor knows about it. */
  failure: WorkerFailure | null = null
  /** An incident was made of its end. */
  reported = false
  cut = 0
  /** As a spare it was given its self-test. */
  tested = false
  /** It has spent its memory, and was seen to. */
  relieved = false
  #cancelTimer: (() => void) | null = null
  readonly #ready = Promise.withResolvers<void>()
  readonly #accepting = Promise.withResolvers<void>()
  readonly #gone = Promise.withResolvers<ExitReport>()
  readonly #lost = Promise.withResolvers<string>()
  #reachable = Promise.withResolvers<void>()

  constructor(identity: { generation: number; slot: number; n: number; token: string; startedAtMs: number; intent: Intent }) {
    this.generation = identity.generation
    this.slot = identity.slot
    this.n = identity.n
    this.token = identity.token
    this.startedAtMs = identity.startedAtMs
    this.intent = identity.intent
    this.id = `${identity.generation}.${identity.slot}.${identity.n}`
    // A caller that waits handles the rejection; often there is no caller.
    this.#accepting.promise.catch(() => {})
    this.#ready.promise.catch(() => {})
  }

  /**
   * One that an earlier supervisor knew. @param ageShiftMs what to take from the wall clock to get to ours. @param nowMs by ours:
   * a wall clock that was set back meanwhile does not put into the future what has happened.
   */
  static restore(record: WorkerRecord, ageShiftMs: number, nowMs: number): WorkerProcess {
    const past = (wallMs: number): number => Math.min(wallMs - ageShiftMs, nowMs)
    // One that was to retire is told so again, by its place: the order may not have reached it.
    const intent = record.intent === Intent.Retire ? Intent.Trial : record.intent
    const worker = new WorkerProcess({ ...record, intent, startedAtMs: past(record.startedAt) })
    worker.pid = record.pid
    worker.startTime = record.startTime
    worker.contact = Contact.Awaited
    worker.slotsHeld = record.slotsHeld
    worker.reported = record.reported === true
    worker.acceptingSinceMs = record.acceptingSince === null ? null : past(record.acceptingSince)
    worker.drainingSinceMs = record.drainingSince === null ? null : past(record.drainingSince)
    worker.drainEndsAtMs = record.drainEndsAt === null ? null : record.drainEndsAt - ageShiftMs
    // A worker that was only ready says so again, and then gets the order that may have been lost.
    worker.#enter(record.phase === WorkerPhase.Ready ? WorkerState.Starting : STATE_OF_PHASE[record.phase] ?? WorkerState.Starting)
    // Its first heartbeat will say more; until then totals must not go backwards.
    const { exchanges, ownFaults, upstreamFaults = 0 } = record
    const open = { ...NO_COUNTS, exchanges, ownFaults, upstreamFaults }
    worker.heartbeat = { tag: 'heartbeat', seq: 0, loopLagMs: 0, utilization: 0, rssBytes: 0, open }
    return worker
  }

  record(ageShiftMs: number): WorkerRecord {
    const { generation, slot, n, token, pid, startTime, phase, intent, slotsHeld, open } = this
    const wall = (ms: number | null): number | null => ms === null ? null : ms + ageShiftMs
    return {
      generation, slot, n, token, pid, startTime, phase, intent, slotsHeld, ...doneOf(open), ...this.reported ? { reported: true } : {},
      startedAt: this.startedAtMs + ageShiftMs,
      acceptingSince: wall(this.acceptingSinceMs),
      drainingSince: wall(this.drainingSinceMs),
      drainEndsAt: wall(this.drainEndsAtMs),
    }
  }

  /** It has said hello; a connection that it had before is closed. */
  connect(link: WorkerLink): void {
    this.link?.close()
    this.link = link
    this.contact = Contact.Connected
    this.silentTicks = 0
    this.#reachable.resolve()
  }

  /** A connection of it has ended; nothing happens if that was not the last one. */
  disconnect(link: WorkerLink): void {
    if (this.link !== link) return
    this.link = null
    this.contact = Contact.Lost
    this.#reachable = Promise.withResolvers()
  }

  /** It is back, and knows better than we do where it stands. */
  cameBack(phase: WorkerPhase, nowMs: number): void {
    if (this.state === WorkerState.Gone || phase === this.phase) return
    const state = STATE_OF_PHASE[phase]
    // 'ready' follows as a message of its own and has its consequences.
    if (state === undefined || state === WorkerState.Ready) return
    this.#enter(state)
    if (state === WorkerState.Accepting) this.acceptingSinceMs ??= nowMs
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
  /** Resolves, with why, when it serves no more though nobody asked it to end: its process has ended, or will. */
  get lost(): Promise<string> { return this.#lost.promise }
  /** Resolves when it can be told something: at once, or with its next hello. */
  get reachable(): Promise<void> { return this.#reachable.promise }
  /** Resolves when the process has ended. */
  get gone(): Promise<ExitReport> { return this.#gone.promise }
  get alive(): boolean { return this.state !== WorkerState.Gone }
  get phase(): WorkerPhase { return PHASES[this.state] }
  /** It has stopped accepting, wholly or in part, and can resume. */
  get paused(): boolean { return this.state === WorkerState.Paused || this.state === WorkerState.PausedInPart }
  /** It accepts, if only on listeners that its successor does not have. */
  get acceptsSomewhere(): boolean { return this.state === WorkerState.Accepting || this.state === WorkerState.PausedInPart }
  /** It has not accepted yet, as far as it has said. */
  get coming(): boolean { return this.state < WorkerState.Accepting }
  /** It has never accepted, so it has nothing to finish. */
  get unused(): boolean { return this.coming && !this.mayAccept }
  /** What a worker of an older build does not count is 0. */
  get open(): OpenCounts { return this.heartbeat === null ? NO_COUNTS : { ...NO_COUNTS, ...this.heartbeat.open } }

  /** @returns false when the move is not one of the drawing. */
  moveTo(to: WorkerState): boolean {
    if (!MOVES[this.state].includes(to)) return false
    this.state = to
    if (to === WorkerState.Ready) this.#ready.resolve()
    return true
  }

  /** @returns false when the move is not one of the drawing. */
  intend(to: Intent): boolean {
    if (!INTENT_MOVES[this.intent].includes(to)) return false
    this.intent = to
    return true
  }

  markAccepting(nowMs: number): boolean {
    if (!this.moveTo(WorkerState.Accepting)) return false
    this.acceptingSinceMs ??= nowMs
    this.silentTicks = 0
    this.#accepting.resolve()
    return true
  }

  /** It has stopped accepting after an error, and finishes what it has. @returns false when it is ending anyway. */
  markFailing(failure: WorkerFailure): boolean {
    const first = this.moveTo(WorkerState.Draining)
    this.intend(Intent.Retire)
    this.failure = failure
    this.#lost.resolve(failure.message)
    return first
  }

  markGone(report: ExitReport): boolean {
    if (!this.moveTo(WorkerState.Gone)) return false
    this.clearTimer()
    this.link?.close()
    this.link = null
    this.contact = Contact.Lost
    const reason = new WorkerEnded(this.endReason(report), this.failure?.stack ?? '')
    this.#lost.resolve(reason.message)
    this.#ready.reject(reason)
    this.#accepting.reject(reason)
    this.#gone.resolve(report)
    return true
  }

  /** Why it ended, in one clause for the log and the operator: its own words if there are any. */
  endReason(report: ExitReport): string {
    if (this.failure !== null) return this.failure.message
    if (report.problem !== '') return `could not be started: ${report.problem}`
    if (report.signal !== null) return `ended by ${report.signal}`
    // It was not our child, and only a parent is told how a process ended.
    if (report.code === null) return 'ended, how is not known'
    return `ended with code ${String(report.code)}`
  }

  setTimer(cancel: () => void): void {
    this.clearTimer()
    this.#cancelTimer = cancel
  }

  clearTimer(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }
}
