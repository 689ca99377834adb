/**
 * One worker: prepares the application's server, says `ready`, then does what the supervisor orders. Its phases are drawn
 * in src/ipc/worker-phase.ts; a paused worker still accepts on listeners that its successor does not have.
 *
 * A worker ends by itself: when its drain is finished, at its own deadline even if no supervisor is left, or on an error
 * that it cannot survive. After one that nothing caught it may be broken, but what it holds belongs to clients: it stops
 * accepting, says `failed` so that another one is started in its place, and drains for seconds. Exit codes: 0 drained,
 * 1 could not start or never had a supervisor, 70 uncaught error.
 */
import { servedWithin } from '../src/certificates/served-certificates.ts'
import type { LogLevel } from '../src/config/log-options.ts'
import { describeError, nameOfError } from '../src/errors/describe-error.ts'
import type { Question } from '../src/ipc/channel.ts'
import { problemOfExplainRequest, type ExplainRequest, type Explanation } from '../src/ipc/explanation.ts'
import { wordsOf } from '../src/ipc/fault-report.ts'
import type { DrainOrder, FromWorker, LevelForNow, SelfTestOutcome, SentDescriptors, ToWorker, Welcome } from '../src/ipc/messages.ts'
import { NO_COUNTS, type OpenCounts, type UpstreamHealth } from '../src/ipc/open-counts.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { PHASE_MOVES, WorkerPhase } from '../src/ipc/worker-phase.ts'
import type { WorkerRole } from '../src/ipc/worker-role.ts'
import type { RunHost } from '../src/server/run-host.ts'
import type { Server } from '../src/server/server.ts'
import { SERVER_CONTEXT_DEFAULTS, type ServerContext } from '../src/server/server-context.ts'
import type { LogCounts } from '../src/telemetry/exporters/configured-logs.ts'
import type { ProcessVitals } from '../src/telemetry/process-metrics.ts'
import type { RepeatedLines } from '../src/telemetry/repeated-lines.ts'
import { spanCounts } from '../src/telemetry/span-counts.ts'
import { tracerFaults } from '../src/telemetry/tracer-group.ts'
import { CopiesUsedUp, InheritedListeners, sendInherited } from './inherited-listeners.ts'
import { Looks } from './looks.ts'
import { Rejections } from './rejections.ts'
import { systemWorld } from './worker-world.ts'
import type { WorkerWorld } from './worker-world.ts'

/** EX_SOFTWARE: an error that no code of the application or of ours has caught. */
export const EXIT_UNCAUGHT = 70
export const EXIT_START_FAILED = 1

/**
 * A reader of our output, or a collector, that takes nothing does not hold up the end for longer, in ms. Less than what the
 * supervisor grants beyond a deadline.
 */
const FLUSH_LOGS_MS = 1_000
/** What is around an answer on the control socket, in bytes. */
const ANSWER_FRAME_BYTES = 256
/** An orphan gives its queues so long to become empty, in ms. */
const ORPHAN_EMPTY_QUEUE_MS = 1_000
/** A failure is three texts, whose characters take up to six bytes each in a message; a quarter is left for the rest of it. */
const FAILURE_PARTS = 24

const ABOUT_LISTENERS: ReadonlySet<ToWorker['tag']> = new Set(['accept', 'stop-accept', 'stand-in', 'step-back', 'close-listeners'])

/** What of a server a worker uses. */
export type WorkerServer = Pick<
  Server,
  | 'prepare' | 'listeners' | 'runSelfTest' | 'watch' | 'explain' | 'certificates' | 'reloadCertificates' | 'drain' | 'stats' | 'health'
  | 'notices' | 'close'
>

/** The process around the worker, replaced in tests. */
export interface WorkerHost {
  /** @returns false when no supervisor is there to hear it. */
  send(message: FromWorker): boolean
  /** For a supervisor that was told another phase. */
  phaseChanged(): void
  /** Ends the process; what was sent before is on its way. */
  exit(code: number): void
  /** The event loop turns: what the heartbeat says that is sent next, and how backends are, which costs only whoever walks them. */
  beat(open: OpenCounts, vitals: ProcessVitals, health: Iterable<UpstreamHealth>): void
  /** Before a self-test; of clients the process hears by itself. */
  requestComes(): void
  /** Resolves when logs and traces have got rid of what waits, or have given up. */
  flushLogs(): Promise<void>
  /** Log files were renamed. */
  reopenLogs(): void
  /** Least weight of a line in the process log; null: what is configured. */
  setLogLevel(level: LogLevel | null): void
  /** As in the order `ticket-keys`. @throws when one of them is none, and then nothing has changed */
  setTicketKeys(keys: readonly string[]): void
  /** Of the logs of this process, so far. */
  logCounts(): LogCounts
  /** The address of a client, as the access log would show it. */
  shownClient(address: string): string
  readonly log: ProcessLog
  /** The same log, for what may happen many thousand times. */
  readonly lines: Pick<RepeatedLines, 'error'>
}

export class Worker implements RunHost {
  phase: WorkerPhase = WorkerPhase.Starting
  /** What services are given; set before the application is loaded. */
  context: ServerContext = SERVER_CONTEXT_DEFAULTS
  readonly #role: WorkerRole
  readonly #calls: SystemCalls | null
  readonly #host: WorkerHost
  readonly #world: WorkerWorld
  readonly #rejections: Rejections
  readonly #looks: Looks
  #server: WorkerServer | null = null
  #listeners: InheritedListeners | null = null
  #cancelHeartbeat: () => void = () => {}
  #seq = 0
  #cancelEnd: () => void = () => {}
  #endAtMs = Number.POSITIVE_INFINITY
  #cancelSoft: () => void = () => {}
  #cancelLevel: () => void = () => {}
  #ended = false
  /** The last order about listeners; never rejects. */
  #listening: Promise<void> = Promise.resolve()
  /** How to drain when no supervisor is left to say so. */
  #orphanDrain: DrainOrder | null = null
  /** How to drain after an error that nothing caught; null: it ends at once. */
  #crashDrain: DrainOrder | null = null
  #rejectionsEnd = true
  #exitCode = 0

  constructor(role: WorkerRole, calls: SystemCalls | null, host: WorkerHost, world = systemWorld) {
    this.#role = role
    this.#calls = calls
    this.#host = host
    this.#world = world
    this.#rejections = new Rejections(host.lines)
    this.#looks = new Looks({
      clock: world.clock, shownClient: address => host.shownClient(address),
      worker: role.worker, generation: Number.parseInt(role.worker, 10), maxMessageBytes: role.maxControlMessageBytes,
      watch: watcher => this.#server?.watch(watcher),
    })
  }

  /** `server.runForever()` of the application ends up here. */
  async run(server: WorkerServer): Promise<never> {
    if (this.#server !== null) throw new Error('runForever() was called twice; one server runs per process')
    this.#server = server
    try {
      await this.#prepare(server)
    } catch (error) {
      // The application may not wait for us, and then nobody hears of it.
      this.fail(error, EXIT_START_FAILED, false)
      throw error
    }
    if (this.moveTo(WorkerPhase.Ready)) this.#host.send({ tag: 'ready' })
    return new Promise<never>(() => {})
  }

  async #prepare(server: WorkerServer): Promise<void> {
    await server.prepare(this.context)
    const running = server.listeners()
    const { unserved, unbound } = InheritedListeners.mismatch(this.#role.layout, running)
    if (unserved.length > 0) {
      throw new Error(`bound for this application, but it does not listen there any more: ${unserved.join(', ')}; start it again`)
    }
    if (unbound.length > 0) this.#host.log.warn('these listeners have no socket and are not served', { listeners: unbound })
    this.#listeners = new InheritedListeners(this.#role.layout, this.#role.slot, running, this.#calls, this.#world)
  }

  onWelcome(welcome: Welcome): void {
    this.#orphanDrain = welcome.orphanDrain
    this.#crashDrain = welcome.crashDrain ?? null
    this.#rejectionsEnd = welcome.unhandledRejections !== 'log'
    this.#setLogLevel(welcome.logLevel ?? null)
    if (welcome.ticketKeys !== undefined) this.#takeTicketKeys(welcome.ticketKeys)
    this.#cancelHeartbeat()
    // What was measured until now belongs to no heartbeat.
    this.#world.vitals()
    this.#beatLater(welcome.heartbeatMs)
    // Said before the supervisor could hear it, or to one that was replaced since.
    if (this.phase === WorkerPhase.Ready) this.#host.send({ tag: 'ready' })
  }

  /** Those of a build that makes other ones cannot be used: it serves with its own. */
  #takeTicketKeys(keys: readonly string[]): void {
    try { this.#host.setTicketKeys(keys) } catch (error) {
      this.#host.log.error('the keys of session tickets cannot be used; clients come back with full handshakes', { error })
    }
  }

  /** A worker that is busy with its connections is none that hangs: it beats between two of them when its timer is late. */
  #beatLater(ms: number): void {
    const { clock } = this.#world
    const dueMs = clock.exact() + ms
    const beat = (): void => {
      this.#cancelHeartbeat()
      this.#report(Math.max(0, clock.exact() - dueMs))
      this.#beatLater(ms)
    }
    const cancelTimer = clock.after(ms, beat)
    this.#world.whileBusy(() => { if (clock.exact() >= dueMs) beat() })
    this.#cancelHeartbeat = () => {
      cancelTimer()
      this.#world.whileBusy(() => {})
    }
  }

  onOrder(order: ToWorker, question: Question | null): void {
    const obey = (): Promise<void> => this.#obey(order, question).catch((error: unknown) => {
      if (error instanceof CopiesUsedUp) this.#host.send({ tag: 'cannot-accept', reason: error.message })
      question?.refuse('failed', error instanceof Error ? error.message : String(error))
    })
    // Listening takes a turn: what is said of listeners meanwhile has to wait for it.
    if (ABOUT_LISTENERS.has(order.tag)) this.#listening = this.#listening.then(obey)
    else void obey()
  }

  onOrphaned(reason: string): void {
    if (this.phase === WorkerPhase.Draining) return
    this.#host.log.warn('draining as an orphan', { reason })
    const order = this.#orphanDrain
    if (order === null) { this.#end(EXIT_START_FAILED); return }
    this.#emptyThenDrain(order)
  }

  /** First the phase, so that a supervisor that comes now hears it. Then the queues: no other process accepts what waits there. */
  #emptyThenDrain(order: DrainOrder): void {
    this.moveTo(WorkerPhase.Draining)
    this.#listening = this.#listening.then(() => this.#listeners?.emptyAndClose(ORPHAN_EMPTY_QUEUE_MS)).then(() => this.#drain(order))
  }

  /**
   * An error that nothing caught. While the worker starts it is why it cannot start, and the supervisor prints it, once for
   * all workers; before it accepted it holds nothing that is worth a drain.
   */
  onUncaught(error: unknown): void { this.#onFatal(error, false) }

  /** @param rejected it was a promise that nobody handled */
  #onFatal(error: unknown, rejected: boolean): void {
    if (this.phase === WorkerPhase.Starting) this.fail(error, EXIT_START_FAILED, false, rejected)
    else if (this.phase === WorkerPhase.Ready || (this.#crashDrain?.endAfterMs ?? 0) === 0) this.fail(error, EXIT_UNCAUGHT, true, rejected)
    else this.#failInOrder(error, this.#crashDrain!, rejected)
  }

  /**
   * A rejection that nobody handled. Before the application has called `runForever()` it may be why it never will, so it is an
   * error like any other. From then on it ends nothing, unless the operator wants it to.
   */
  onRejection(reason: unknown): void {
    if (this.#server === null || this.#rejectionsEnd) this.#onFatal(reason, true)
    else this.#rejections.note(reason, this.context.faultReports)
  }

  #failInOrder(error: unknown, order: DrainOrder, rejected: boolean): void {
    const { message, stack } = describeError(error)
    if (this.#exitCode !== 0) {
      this.context.faultReports?.report(rejected ? 'rejection' : 'uncaught', nameOfError(error), '', () => wordsOf(error))
      this.#host.lines.error('another uncaught error, while ending', {}, () => ({ reason: message, stack }))
      return
    }
    this.#exitCode = EXIT_UNCAUGHT
    this.#host.log.error(`uncaught error, finishing what is open: ${message}`, { stack, endsInMs: order.endAfterMs })
    const heard = this.#host.send({ ...this.#failureOf(error, rejected), endsInMs: order.endAfterMs })
    if (heard || this.phase === WorkerPhase.Draining) { this.#drain(order); return }
    // No other process accepts what waits in the queues.
    this.#emptyThenDrain(order)
  }

  /**
   * An error that ends the process: the supervisor is told, and replaces this worker. @param toldToLog our own log says it, too.
   * @param rejected it was a promise that nobody handled
   */
  fail(error: unknown, code: number, toldToLog: boolean, rejected = false): void {
    if (this.#ended) return
    const { message, stack } = describeError(error)
    if (toldToLog) this.#host.log.error(`uncaught error, ending: ${message}`, { stack })
    this.#host.send(this.#failureOf(error, rejected))
    this.#end(code)
  }

  /** A message that is too long would end the connection instead of saying why this process ends. */
  #failureOf(error: unknown, rejected: boolean): Extract<FromWorker, { tag: 'failed' }> {
    const { message, stack } = describeError(error), each = Math.floor(this.#role.maxControlMessageBytes / FAILURE_PARTS)
    const name = cutText(nameOfError(error), each), said = { message: cutText(message, each), stack: cutText(stack, each) }
    return { tag: 'failed', ...said, name, ...rejected ? { rejected } : {} }
  }

  moveTo(to: WorkerPhase): boolean {
    if (!PHASE_MOVES[this.phase].includes(to)) return false
    this.phase = to
    this.#host.phaseChanged()
    return true
  }

  async #obey(order: ToWorker, question: Question | null): Promise<void> {
    switch (order.tag) {
      case 'accept':
        await this.#ready().accept(order.except)
        this.moveTo(WorkerPhase.Accepting)
        break
      case 'stop-accept':
        this.#ready().pause(order.except)
        this.moveTo(WorkerPhase.Paused)
        break
      case 'stand-in':
        await this.#ready().standIn(order.slot, order.except)
        break
      case 'step-back':
        this.#ready().stepBack(order.slot)
        break
      case 'close-listeners':
        await this.#listeners?.emptyAndClose(order.emptyQueueMs, order.atLeastMs)
        this.moveTo(WorkerPhase.Paused)
        break
      case 'drain':
        // Answered first: with nothing open the process ends at once.
        question?.ok(null)
        this.#drain(order.order)
        return
      case 'reopen-logs':
        this.#host.reopenLogs()
        break
      case 'log-level':
        this.#setLogLevel(order)
        break
      case 'ticket-keys':
        this.#host.setTicketKeys(order.keys)
        break
      case 'self-test':
        question?.ok(await this.#selfTest())
        return
      case 'send-descriptors':
        question?.ok(await this.#sendDescriptors(order.path))
        return
      case 'look':
        this.#ready()
        if (question !== null) this.#looks.look(order.look, question)
        return
      case 'look-away':
        this.#looks.lookAway(order.id)
        break
      case 'certificates':
        this.#ready()
        if (order.reload) await this.#server!.reloadCertificates()
        question?.ok(servedWithin(this.#server!.certificates(), this.#role.maxControlMessageBytes - ANSWER_FRAME_BYTES))
        return
      case 'explain':
        question?.ok(await this.#explain(order.request))
        return
      default:
        order satisfies never
    }
    question?.ok(null)
  }

  /** Whatever becomes of the supervisor, what is configured holds again in time. @param now null: at once */
  #setLogLevel(now: LevelForNow | null): void {
    this.#cancelLevel()
    this.#cancelLevel = () => {}
    if (now === null || now.forMs <= 0) {
      this.#host.setLogLevel(null)
      return
    }
    this.#host.setLogLevel(now.level)
    this.#cancelLevel = this.#world.clock.after(now.forMs, () => this.#setLogLevel(null))
  }

  #ready(): InheritedListeners {
    if (this.#listeners === null) throw new Error('the application is not ready yet')
    return this.#listeners
  }

  #selfTest(): Promise<SelfTestOutcome> {
    this.#ready()
    this.#host.requestComes()
    return this.#server!.runSelfTest()
  }

  /** @throws TypeError for what is no request */
  async #explain(request: ExplainRequest): Promise<Explanation> {
    this.#ready()
    const problem = problemOfExplainRequest(request)
    if (problem !== '') throw new TypeError(problem)
    this.#host.requestComes()
    const explanation = await this.#server!.explain(request)
    if (explanation === null) throw new Error(`nothing can be told of a listener ${request.listener}`)
    const bytes = Buffer.byteLength(JSON.stringify(explanation)), { maxControlMessageBytes } = this.#role
    if (bytes + ANSWER_FRAME_BYTES <= maxControlMessageBytes) return explanation
    throw new Error(`the explanation is longer than supervisor.maxControlMessage allows: ${bytes} bytes`)
  }

  /** For a supervisor that came back with nothing. */
  async #sendDescriptors(path: string): Promise<SentDescriptors> {
    const { layout } = this.#role
    if (this.#calls === null) throw new Error('without system calls descriptors cannot be sent')
    await sendInherited(layout, this.#calls, path, () => this.#listeners?.closed === true, this.#world)
    return { layout }
  }

  #drain(order: DrainOrder): void {
    if (this.#ended) return
    const server = this.#server
    this.moveTo(WorkerPhase.Draining)
    if (server === null || this.#listeners === null) { this.#end(this.#exitCode); return }
    this.#listeners.closeForGood()
    this.#cancelEnd()
    this.#cancelSoft()
    const { clock } = this.#world
    const nowMs = clock.exact()
    // A second order shortens; it never gives time that the first one did not.
    this.#endAtMs = Math.min(this.#endAtMs, nowMs + order.endAfterMs)
    this.#cancelEnd = clock.after(Math.max(0, this.#endAtMs - nowMs), () => {
      const { connections } = server.stats()
      this.#host.log.warn('cut at the deadline', { connections })
      this.#finish(connections)
    })
    if (order.softDrainMs > 0) {
      this.#cancelSoft = clock.after(order.softDrainMs, () => this.#host.log.info('still draining', { ...server.stats() }))
    }
    server.drain(order).then(({ cut }) => this.#finish(cut), (error: unknown) => this.fail(error, EXIT_UNCAUGHT, true))
  }

  #report(loopLagMs: number): void {
    const { utilization, rssBytes } = this.#world.vitals(), notices = this.#server?.notices() ?? []
    const counts = this.#server?.stats() ?? NO_COUNTS
    const open = {
      ...counts, unhandledRejections: this.#rejections.count, tracerFaults: tracerFaults.count, traceSpansDropped: spanCounts.dropped,
      ...this.#host.logCounts(),
    }
    this.#host.beat(open, { loopLagMs, utilization, rssBytes }, this.#server?.health() ?? [])
    this.#host.send({
      tag: 'heartbeat', seq: this.#seq++, loopLagMs: Math.round(loopLagMs * 10) / 10, utilization: Math.round(utilization * 1000) / 1000,
      rssBytes, open, ...notices.length === 0 ? null : { notices },
    })
  }

  #finish(cut: number): void {
    if (this.#ended) return
    // The last counts, so that an orderly end loses none.
    this.context.faultReports?.close()
    this.#report(0)
    this.#host.send({ tag: 'drained', cut })
    this.#end(this.#exitCode, true)
  }

  /** @param inOrder nothing is broken, so that there is time for the last lines of the logs, and the last spans. */
  #end(code: number, inOrder = false): void {
    if (this.#ended) return
    this.#ended = true
    this.#cancelHeartbeat()
    this.#cancelEnd()
    this.#cancelSoft()
    this.#looks.close()
    this.#cancelLevel()
    this.#server?.close()
    if (!inOrder) { this.#host.exit(code); return }
    const cancelLate = this.#world.clock.after(FLUSH_LOGS_MS, () => this.#host.exit(code))
    void this.#host.flushLogs().finally(() => {
      cancelLate()
      this.#host.exit(code)
    })
  }
}

function cutText(text: string, longest: number): string { return text.length <= longest ? text : `${text.slice(0, longest)}...` }
