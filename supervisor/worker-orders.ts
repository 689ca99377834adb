/**
 * Orders to one worker that must be obeyed. A worker that does not do as told is killed, because it may hold sockets and
 * connections that another one is about to have; with it end the requests that it holds, so one that is only late is not.
 *
 *   asked --answered--> obeyed
 *     | ^                  refused, or no answer although it reports on time --> killed
 *     v |
 *   its connection ended: asked again when it is back
 *
 * The time of an order is counted in the supervisor's own ticks, begins anew with a report that comes late, and is over
 * only when a report has come without the answer: neither a machine that was busy or slept nor a process that got no turn
 * is disobedient. What ends a worker that hangs is its silence (fleet.ts). An order may reach a worker twice, which
 * changes nothing.
 */
import { ChannelError } from '../src/ipc/channel.ts'
import type { SelfTestOutcome, ToWorker } from '../src/ipc/messages.ts'
import { Refused } from './refusals.ts'
import type { Roster } from './roster.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerLink, WorkerProcess } from './worker-process.ts'

/** How much later than its connection the end of a process is seen, at most, in ms. */
const END_FOLLOWS_MS = 500
/** A report that is this many times its interval behind the one before is late. */
const LATE_REPORTS = 2

export class WorkerOrders {
  readonly #roster: Roster
  /** Of orders that are not answered yet. */
  readonly #overdue = new Set<Overdue>()
  /** Of steps that wait for a worker, and go on without it. */
  readonly #patience = new Set<{ readonly worker: WorkerProcess; readonly giveUp: () => void }>()

  constructor(roster: Roster) { this.#roster = roster }

  /** Waits for the answer as long as every order may take. @returns whether it obeyed; a worker that does not is killed. */
  askOrKill(worker: WorkerProcess, order: ToWorker): Promise<boolean> {
    return this.askLongOrKill(worker, order, this.#roster.options.ackTimeoutMs)
  }

  /**
   * @returns false also for a worker that drains by now, or that cannot accept again because it has closed its sockets: it is
   * on its way out, holds connections, and is not killed for this.
   */
  async askLongOrKill(worker: WorkerProcess, order: ToWorker, timeoutMs: number): Promise<boolean> {
    if (order.tag === 'accept') worker.mayAccept = true
    this.#roster.log.debug?.(`worker ${worker.id} is told to '${order.tag}'`, { timeoutMs })
    const drained = worker.state === WorkerState.Draining
    const overdue = new Overdue(worker, order.tag, timeoutMs)
    this.#overdue.add(overdue)
    try {
      while (worker.alive) {
        if (worker.link !== null && await this.#ask(worker, worker.link, order, overdue)) {
          this.#roster.log.debug?.(`worker ${worker.id} has done '${order.tag}'`)
          return worker.alive
        }
        // When it is back it is told so by the welcome, whatever it was told before.
        if (order.tag === 'drain') return false
        await Promise.race([worker.reachable, worker.gone, overdue.passed])
        if (worker.state === WorkerState.Draining && !drained) return false
      }
      return false
    } catch (error) {
      if (!worker.alive || (worker.state === WorkerState.Draining && !drained)) return false
      const message = messageOf(error)
      if (order.tag === 'accept' && worker.acceptingSinceMs !== null && isRefusal(error)) {
        this.#roster.log.warn(`worker ${worker.id} cannot accept again, and finishes what it has`, { reason: message })
        return false
      }
      this.#roster.log.warn(`worker ${worker.id} did not obey and is killed`, { order: order.tag, reason: message })
      worker.failure ??= { how: 'disobedience', message: `did not obey '${order.tag}': ${message}`, stack: '' }
      this.kill(worker, 'SIGKILL')
      return false
    } finally {
      this.#overdue.delete(overdue)
    }
  }

  /**
   * For a step that goes on without the answer of a worker that is late, of which nothing is heard any more, or that has failed.
   * @returns what came of the order; false: nothing yet.
   */
  async inTime(worker: WorkerProcess, obeyed: Promise<boolean>): Promise<boolean> {
    const { host, options } = this.#roster
    const late = Promise.withResolvers<false>()
    const giveUp = (): void => late.resolve(false)
    const cancel = host.after(options.ackTimeoutMs, giveUp)
    const patience = { worker, giveUp }
    this.#patience.add(patience)
    const outcome = await Promise.race([obeyed, late.promise, worker.lost.then(() => false)])
    cancel()
    this.#patience.delete(patience)
    return outcome
  }

  /** Once a tick. */
  countTime(): void {
    for (const overdue of this.#overdue) overdue.usedMs += this.#roster.tickMs
    for (const { worker, giveUp } of this.#patience) if (worker.fatalSignal !== null || this.#roster.isSilent(worker)) giveUp()
  }

  /** A report of a worker has come. @param silenceMs since the one before */
  heard(worker: WorkerProcess, silenceMs: number): void {
    const late = silenceMs > LATE_REPORTS * worker.heartbeatMs
    for (const overdue of this.#overdue) if (overdue.worker === worker) overdue.heard(late)
  }

  /** @returns false when the connection ended before the answer. @throws ChannelError when it refuses, or takes too long */
  async #ask(worker: WorkerProcess, link: WorkerLink, order: ToWorker, overdue: Overdue): Promise<boolean> {
    try {
      await Promise.race([link.ask(order, null), overdue.passed])
      return true
    } catch (error) {
      if (!(error instanceof ChannelError) || error.code !== 'closed') throw error
      worker.disconnect(link)
      return false
    }
  }

  /** A worker answers the application's own question over a private socket. @throws Refused with what came instead */
  async selfTest(worker: WorkerProcess): Promise<string> {
    const timeoutMs = this.#roster.generationOf(worker).description.selfTest.timeoutMs + this.#roster.options.ackTimeoutMs
    let outcome: SelfTestOutcome
    try {
      if (worker.link === null) throw new ChannelError('closed', 'it is not connected')
      outcome = await worker.link.ask({ tag: 'self-test' }, timeoutMs) as SelfTestOutcome
    } catch (error) {
      throw new Refused(`the self-test of worker ${worker.id} could not be run: ${await this.endOr(worker, messageOf(error))}`)
    }
    if (outcome.passed !== true) throw new Refused(`worker ${worker.id} failed its self-test: ${outcome.detail}`, outcome.stack)
    return outcome.detail
  }

  kill(worker: WorkerProcess, signal: NodeJS.Signals): void {
    if (!worker.alive) return
    worker.fatalSignal = signal
    this.#roster.host.kill(worker.pid, signal)
  }

  /**
   * Why a worker did not answer: the end of its process says more than the end of its connection, and follows it.
   * @param otherwise what is said when the process lives.
   */
  async endOr(worker: WorkerProcess, otherwise: string): Promise<string> {
    const late = Promise.withResolvers<null>()
    const cancel = this.#roster.host.after(END_FOLLOWS_MS, () => late.resolve(null))
    const report = await Promise.race([worker.gone, late.promise])
    cancel()
    if (report !== null) return worker.endReason(report)
    return worker.failure?.message ?? otherwise
  }
}

/** How much of its time an order has used up. */
class Overdue {
  readonly worker: WorkerProcess
  usedMs = 0
  readonly #tag: string
  readonly #timeoutMs: number
  readonly #passed = Promise.withResolvers<never>()

  constructor(worker: WorkerProcess, tag: string, timeoutMs: number) {
    this.worker = worker
    this.#tag = tag
    this.#timeoutMs = timeoutMs
    // Nobody waits for it once the order is answered.
    this.passed.catch(() => {})
  }

  /** Rejects when its time is over. */
  get passed(): Promise<never> { return this.#passed.promise }

  heard(late: boolean): void {
    if (late) this.usedMs = 0
    if (this.usedMs < this.#timeoutMs) return
    this.#passed.reject(new ChannelError('timeout', `${this.#tag}: no answer within ${this.#timeoutMs} ms`))
  }
}

function isRefusal(error: unknown): boolean { return error instanceof ChannelError && error.code !== 'timeout' && error.code !== 'closed' }

export function messageOf(error: unknown): string { return error instanceof Error ? error.message : String(error) }
