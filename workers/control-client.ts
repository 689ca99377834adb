/**
 * A worker's side of the control socket: says who it is, reports, reconnects for as long as it lives.
 *
 *   Connecting --hello answered--> Connected --lost--> Orphaned --hello answered--> Connected
 *                                                        |
 *                                                        +-- orphanDrainAfterMs, or a supervisor that does not know us --> onOrphaned (once)
 *
 * Losing the supervisor is never fatal here; what an orphan does is the worker's decision (worker.ts).
 */
import net from 'node:net'
import { Channel } from '../src/ipc/channel.ts'
import type { ChannelError, Question } from '../src/ipc/channel.ts'
import { decodeToWorker, PROTOCOL_VERSION } from '../src/ipc/messages.ts'
import type { FromWorker, ToWorker, Welcome } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { WorkerPhase } from '../src/ipc/worker-phase.ts'
import type { WorkerRole } from '../src/ipc/worker-role.ts'

/** A supervisor that replaces itself is back in less than a tenth of a second, one that is restarted within one or two: look often at first, then spare the machine. */
const FIRST_RETRY_MS = 20
const RETRIES = [{ awayMs: 2_000, everyMs: 50 }, { awayMs: 10_000, everyMs: 100 }] as const
const RETRY_LATER_MS = 1_000
/** A worker that never reached its supervisor holds nothing: it waits no longer than this. */
const FIRST_CONNECT_MS = 5_000
const HELLO_TIMEOUT_MS = 10_000

/** How long to wait before the next look. @param awayMs since the supervisor was lost; 0: it was lost this moment. */
export function reconnectDelayMs(awayMs: number): number {
  if (awayMs === 0) return FIRST_RETRY_MS
  return RETRIES.find(row => awayMs < row.awayMs)?.everyMs ?? RETRY_LATER_MS
}

export const ControlState = { Connecting: 0, Connected: 1, Orphaned: 2, Closed: 3 } as const
export type ControlState = (typeof ControlState)[keyof typeof ControlState]

export interface ControlHandlers {
  /** The supervisor knows us; called again after every reconnect. */
  onWelcome(welcome: Welcome): void
  onOrder(order: ToWorker, question: Question | null): void
  /** Nobody will come for us any more. Called once. */
  onOrphaned(reason: string): void
}

export class ControlClient {
  state: ControlState = ControlState.Connecting
  readonly #role: WorkerRole
  readonly #log: ProcessLog
  readonly #phase: () => WorkerPhase
  readonly #handlers: ControlHandlers
  #channel: Channel<FromWorker, ToWorker> | null = null
  /** The connection over which the last order came. */
  #orderedBy: Channel<FromWorker, ToWorker> | null = null
  #saidPhase: WorkerPhase = 'starting'
  #welcome: Welcome | null = null
  #lostAtMs = performance.now()
  #retryTimer: NodeJS.Timeout | null = null
  /** A connection that is begun from then on, and fails, is the last hope gone: a process that was stopped or a machine that slept looks once more first. */
  #giveUpAtMs = Number.POSITIVE_INFINITY
  #triedAtMs = 0
  #orphanedSaid = false
  /** ': ' and why the last connection failed. */
  #lastProblem = ''
  readonly #welcomed = Promise.withResolvers<Welcome>()

  constructor(role: WorkerRole, log: ProcessLog, phase: () => WorkerPhase, handlers: ControlHandlers) {
    this.#role = role
    this.#log = log
    this.#phase = phase
    this.#handlers = handlers
  }

  /** Resolves with the first welcome; never, when nobody welcomes us. */
  start(): Promise<Welcome> {
    this.#giveUpAtMs = performance.now() + FIRST_CONNECT_MS
    this.#connect()
    return this.#welcomed.promise
  }

  /** Dropped while there is no supervisor: it learns where we stand from the next hello. */
  send(message: FromWorker): void { if (this.state === ControlState.Connected) this.#channel?.send(message) }

  close(): void {
    this.state = ControlState.Closed
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
    this.#channel?.close()
  }

  #connect(): void {
    this.#retryTimer = null
    this.#triedAtMs = performance.now()
    const socket = net.connect({ path: this.#role.controlPath })
    const channel = new Channel<FromWorker, ToWorker>(socket, decodeToWorker, { maxMessageBytes: this.#role.maxControlMessageBytes }, {
      onMessage: (order, question) => {
        this.#orderedBy = channel
        this.#handlers.onOrder(order, question)
      },
      onClose: reason => this.#onClose(channel, reason),
      onIgnored: (tag, why) => this.#log.warn('a message of the supervisor was ignored', { tag, why }),
    })
    this.#channel = channel
    socket.once('connect', () => {
      this.#saidPhase = this.#phase()
      const hello: FromWorker = { tag: 'hello', protocol: PROTOCOL_VERSION, worker: this.#role.worker, token: this.#role.token, pid: process.pid, phase: this.#saidPhase }
      channel.ask(hello, HELLO_TIMEOUT_MS).then(
        result => this.#onWelcome(result as Welcome),
        (error: ChannelError) => {
          // A refusal is a decision of a living supervisor; anything else is a lost connection, seen by onClose.
          if (error.code !== 'closed' && error.code !== 'timeout') this.#giveUp(`the supervisor refused this worker: ${error.message}`)
          channel.destroy('hello failed')
        },
      )
    })
  }

  #onWelcome(welcome: Welcome): void {
    if (this.state === ControlState.Closed) return
    this.#giveUpAtMs = Number.POSITIVE_INFINITY
    if (this.state === ControlState.Orphaned) this.#log.info('a supervisor is back', { awayMs: Math.round(performance.now() - this.#lostAtMs) })
    this.#welcome = welcome
    this.#lastProblem = ''
    this.state = ControlState.Connected
    this.#handlers.onWelcome(welcome)
    this.#welcomed.resolve(welcome)
    // It drained as an orphan while its hello was under way. That it is ready it says anyway.
    const phase = this.#phase()
    if (phase !== this.#saidPhase && phase !== 'ready') this.#sayHelloAgain()
  }

  /** Obeyed an order: whoever gave it knows, a supervisor that came after it does not. */
  phaseChanged(): void {
    if (this.state === ControlState.Connected && this.#orderedBy !== null && this.#orderedBy !== this.#channel) this.#sayHelloAgain()
  }

  #sayHelloAgain(): void { this.#channel?.destroy('it has more to say of itself than a hello said') }

  #onClose(channel: Channel<FromWorker, ToWorker>, reason: string): void {
    if (this.state === ControlState.Closed || channel !== this.#channel) return
    const nowMs = performance.now()
    if (this.state === ControlState.Connected) {
      this.state = ControlState.Orphaned
      this.#lostAtMs = nowMs
      this.#log.warn('lost the supervisor; serving on', reason === '' ? {} : { reason })
      const welcome = this.#welcome
      if (welcome?.orphanPolicy === 'drain-after') this.#giveUpAtMs = nowMs + welcome.orphanDrainAfterMs
    }
    if (reason !== '') this.#lastProblem = `: ${reason}`
    if (this.#triedAtMs >= this.#giveUpAtMs) {
      this.#giveUp(this.#welcome === null ? `the supervisor could not be reached${this.#lastProblem}` : `no supervisor came back within ${this.#welcome.orphanDrainAfterMs} ms`)
    }
    this.#retryTimer = setTimeout(() => this.#connect(), reconnectDelayMs(nowMs - this.#lostAtMs))
  }

  #giveUp(reason: string): void {
    if (this.#orphanedSaid) return
    this.#orphanedSaid = true
    this.#handlers.onOrphaned(reason)
  }
}
