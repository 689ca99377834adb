/**
 * Orders to one worker that must be obeyed, and what is known of one that did not: it is killed, because a worker that
 * does not do as told may hold sockets and connections that another one is about to have.
 */
import { ChannelError } from '../src/ipc/channel.ts'
import type { SelfTestOutcome, ToWorker } from '../src/ipc/messages.ts'
import { Refused } from './refusals.ts'
import type { Roster } from './roster.ts'
import type { WorkerProcess } from './worker-process.ts'

/** How much later than its connection the end of a process is seen, at most, in ms. */
const END_FOLLOWS_MS = 500

export class WorkerOrders {
  readonly #roster: Roster

  constructor(roster: Roster) { this.#roster = roster }

  /** Waits for the answer as long as every order may take. @returns whether it obeyed; a worker that does not is killed. */
  askOrKill(worker: WorkerProcess, order: ToWorker): Promise<boolean> {
    return this.askLongOrKill(worker, order, this.#roster.options.ackTimeoutMs)
  }

  async askLongOrKill(worker: WorkerProcess, order: ToWorker, timeoutMs: number): Promise<boolean> {
    try {
      if (worker.link === null) throw new ChannelError('closed', `${order.tag}: it is not connected`)
      await worker.link.ask(order, timeoutMs)
      return worker.alive
    } catch (error) {
      // A drain that is answered by the end of the process is a drain.
      const ended = order.tag === 'drain' && error instanceof ChannelError && error.code === 'closed' && worker.link === null
      if (!worker.alive || ended) return false
      const message = messageOf(error)
      this.#roster.log.warn(`worker ${worker.id} did not obey and is killed`, { order: order.tag, reason: message })
      worker.failure ??= { message: `did not obey '${order.tag}': ${message}`, stack: '' }
      this.kill(worker, 'SIGKILL')
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
    if (outcome.passed !== true) throw new Refused(`worker ${worker.id} failed its self-test: ${outcome.detail}`)
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

export function messageOf(error: unknown): string { return error instanceof Error ? error.message : String(error) }
