/**
 * A worker's side of the control socket: says who it is, reports, reconnects for as long as it lives.
 *
 *   Connecting --hello answered--> Connected --lost--> Orphaned --hello answered--> Connected
 *       |                                                 |
 *       +-- refused, or no supervisor within 5 s          +-- refused, or no supervisor within orphanDrainAfterMs
 *       |                                                 |   ('drain-after'; with 'keep' it waits for ever)
 *       +--------> onOrphaned (once) <--------------------+
 *   any --close()--> Closed
 *
 * Time alone never makes an orphan: the time has to be over, and a dial begun after that has to fail. A process that was
 * stopped, or a machine that slept, wakes up late and finds the supervisor that was there all along.
 * Losing the supervisor is never fatal here; what an orphan does is the worker's decision (worker.ts).
 */
import type { ChannelEnd, ChannelError, Question } from '../src/ipc/channel.ts'
import { PROTOCOL_VERSION } from '../src/ipc/messages.ts'
import type { FromWorker, ToWorker, Welcome } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { WorkerPhase } from '../src/ipc/worker-phase.ts'
import type { WorkerRole } from '../src/ipc/worker-role.ts'
import { systemWorld } from './worker-world.ts'
import type { WorkerWorld } from './worker-world.ts'

/**
 * A supervisor that replaces itself is back in less than a tenth of a second, one that is restarted within one or two
 * seconds: look often at first, then spare the machine.
 */
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
  /** No supervisor will come for this worker any more: it was refused, or its time as an orphan is over. Called once. */
  onOrphaned(reason: string): void
}

export class ControlClient {
  state: ControlState = ControlState.Connecting
  readonly #role: WorkerRole
  readonly #log: ProcessLog
  readonly #phase: () => WorkerPhase
  readonly #handlers: ControlHandlers
  readonly #world: WorkerWorld
  #channel: ChannelEnd<FromWorker> | null = null
  /** The connection over which the last order came. */
  #orderedBy: ChannelEnd<FromWorker> | null = null
  #saidPhase: WorkerPhase = 'starting'
  /** A hello is under way: a supervisor may hear it much later, with what else has come to its socket by then. */
  #greeting = false
  #welcome: Welcome | null = null
  #lostAtMs: number
  #cancelRetry: () => void = () => {}
  /** The worker gives up when a dial fails that was begun at this time or later. Infinity: no failure makes it give up. */
  #giveUpAtMs = Number.POSITIVE_INFINITY
  #triedAtMs = 0
  #orphanedSaid = false
  /** ': ' and why the last connection failed. */
  #lastProblem = ''
  readonly #welcomed = Promise.withResolvers<Welcome>()

  constructor(role: WorkerRole, log: ProcessLog, phase: () => WorkerPhase, handlers: ControlHandlers, world = systemWorld) {
    this.#role = role
    this.#log = log
    this.#phase = phase
    this.#handlers = handlers
    this.#world = world
    this.#lostAtMs = world.clock.exact()
  }

  /** Resolves with the first welcome of a supervisor; stays open when none ever comes. */
  start(): Promise<Welcome> {
    this.#giveUpAtMs = this.#world.clock.exact() + FIRST_CONNECT_MS
    this.#connect()
    return this.#welcomed.promise
  }

  /**
   * Dropped while there is no supervisor: it learns where we stand from the next hello. @returns whether it was not dropped.
   */
  send(message: FromWorker): boolean { return this.state === ControlState.Connected && this.#channel?.send(message) === true }

  close(): void {
    this.state = ControlState.Closed
    this.#cancelRetry()
    this.#channel?.close()
  }

  #connect(): void {
    this.#triedAtMs = this.#world.clock.exact()
    const { controlPath, maxControlMessageBytes } = this.#role
    const channel = this.#world.dial(controlPath, { maxMessageBytes: maxControlMessageBytes }, {
      onOpen: () => this.#sayHello(channel),
      onMessage: (order, question) => {
        this.#orderedBy = channel
        this.#handlers.onOrder(order, question)
      },
      onClose: reason => this.#onClose(channel, reason),
      onIgnored: (tag, why) => this.#log.warn('a message of the supervisor was ignored', { tag, why }),
    })
    this.#channel = channel
  }

  #sayHello(channel: ChannelEnd<FromWorker>): void {
    const { worker, token } = this.#role
    this.#saidPhase = this.#phase()
    this.#greeting = true
    const hello: FromWorker = { tag: 'hello', protocol: PROTOCOL_VERSION, worker, token, pid: this.#world.pid, phase: this.#saidPhase }
    channel.ask(hello, HELLO_TIMEOUT_MS).then(
      result => this.#onWelcome(result as Welcome),
      (error: ChannelError) => {
        // A refusal is a decision of a living supervisor; anything else is a lost connection, seen by onClose.
        if (error.code !== 'closed' && error.code !== 'timeout') this.#giveUp(`the supervisor refused this worker: ${error.message}`)
        channel.destroy('hello failed')
      },
    )
  }

  #onWelcome(welcome: Welcome): void {
    if (this.state === ControlState.Closed) return
    this.#greeting = false
    this.#giveUpAtMs = Number.POSITIVE_INFINITY
    const awayMs = Math.round(this.#world.clock.exact() - this.#lostAtMs)
    if (this.state === ControlState.Orphaned) this.#log.info('a supervisor is back', { awayMs })
    this.#welcome = welcome
    this.#lastProblem = ''
    this.state = ControlState.Connected
    this.#handlers.onWelcome(welcome)
    this.#welcomed.resolve(welcome)
    // The worker began to drain while its hello was under way: the hello named the phase before. `ready` is a message of its own.
    const phase = this.#phase()
    if (phase !== this.#saidPhase && phase !== 'ready') this.#sayHelloAgain()
  }

  /**
   * The worker has obeyed an order. The supervisor that gave it knows the new phase from the answer; if another supervisor
   * has come meanwhile, that one knows only the phase of the last hello, so the worker says hello again.
   * Example: supervisor A orders `stop-accept` and is killed; B hears hello 'accepting'; then the order is done.
   * So it does when a hello is under way, of which none knows when it will be heard.
   */
  phaseChanged(): void {
    const ofAnother = this.#orderedBy !== null && this.#orderedBy !== this.#channel
    const connected = this.state === ControlState.Connected
    if (ofAnother && (connected || (this.#greeting && this.#phase() !== this.#saidPhase))) this.#sayHelloAgain()
  }

  #sayHelloAgain(): void { this.#channel?.destroy('it has more to say of itself than a hello said') }

  #onClose(channel: ChannelEnd<FromWorker>, reason: string): void {
    if (this.state === ControlState.Closed || channel !== this.#channel) return
    const nowMs = this.#world.clock.exact()
    this.#greeting = false
    if (this.state === ControlState.Connected) {
      this.state = ControlState.Orphaned
      this.#lostAtMs = nowMs
      this.#log.warn('lost the supervisor; serving on', reason === '' ? {} : { reason })
      const welcome = this.#welcome
      if (welcome?.orphanPolicy === 'drain-after') this.#giveUpAtMs = nowMs + welcome.orphanDrainAfterMs
    }
    if (reason !== '') this.#lastProblem = `: ${reason}`
    if (this.#triedAtMs >= this.#giveUpAtMs) {
      const never = `the supervisor could not be reached${this.#lastProblem}`
      this.#giveUp(this.#welcome === null ? never : `no supervisor came back within ${this.#welcome.orphanDrainAfterMs} ms`)
    }
    this.#cancelRetry = this.#world.clock.after(reconnectDelayMs(nowMs - this.#lostAtMs), () => this.#connect())
  }

  #giveUp(reason: string): void {
    if (this.#orphanedSaid) return
    this.#orphanedSaid = true
    this.#handlers.onOrphaned(reason)
  }
}
