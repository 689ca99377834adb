/**
 * The two control sockets: `control.sock` for operators (0600), `worker.sock` for workers, which prove themselves by
 * the token they were forked with. Each takes its own messages only. A client that says nothing is disconnected, one
 * that sends too much as well; every question gets an answer.
 *
 * Listening on them claims the state folder: a folder whose control socket is answered belongs to a living supervisor.
 */
import path from 'node:path'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { ChannelEnd, Question } from '../src/ipc/channel.ts'
import { decodeFromOperator, decodeFromWorker } from '../src/ipc/messages.ts'
import type { FromOperator, FromWorker, ToOperator, ToWorker } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { RepeatedLines } from '../src/telemetry/repeated-lines.ts'
import { AlreadyRunning, SYSTEM_CONTROL_SOCKETS } from './control-sockets.ts'
import type { ControlConnection, ControlListener, ControlSockets } from './control-sockets.ts'
import type { HeldSocket } from './held-socket.ts'
import { CONTROL_SOCKET, inStateFolder, WORKER_SOCKET } from './state-folder.ts'
import type { WorkerLink } from './worker-process.ts'

export interface ControlHandlers {
  onOperator(message: FromOperator, question: Question, connection: OperatorConnection): void
  /** @returns who handles what else the worker says; null refuses it, with the reason already answered. */
  onHello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink, question: Question): WorkerConversation | null
}

/** The connection over which an operator asked. */
export type OperatorConnection = Pick<ControlConnection, 'onGone'>

export interface WorkerConversation {
  onMessage(message: FromWorker): void
  onClose(): void
}

export interface ControlServerSetup {
  readonly folder: string
  readonly options: ResolvedSupervisorOptions
  readonly log: ProcessLog
  /** Owner of the worker socket; null: ours. */
  readonly workerUid: number | null
  readonly workerGid: number | null
  readonly handlers: ControlHandlers
  /** With them the sockets can be handed to the next image. */
  readonly calls: SystemCalls | null
  /** Descriptors of the sockets of the image before; null: they are made. */
  readonly held: { readonly control: number; readonly worker: number } | null
}

export class ControlServer {
  readonly controlPath: string
  readonly workerPath: string
  readonly #setup: ControlServerSetup
  readonly #sockets: ControlSockets
  /** Whoever may dial may do so without end. */
  readonly #lines: RepeatedLines
  readonly #operators = new Set<ChannelEnd<ToOperator>>()
  readonly #unproven = new Set<ControlConnection>()
  readonly #connections = new Set<ControlConnection>()
  #listeners: ControlListener[] = []
  /** Of the sockets at the paths, as they were when we came to listen. */
  #identities: ReadonlyMap<string, string> = new Map()
  #held: { readonly control: HeldSocket; readonly worker: HeldSocket } | null = null

  constructor(setup: ControlServerSetup, sockets: ControlSockets = SYSTEM_CONTROL_SOCKETS) {
    this.#setup = setup
    this.#sockets = sockets
    this.#lines = new RepeatedLines(setup.log, { exact: () => sockets.nowMs(), every: (ms, run) => every(sockets, ms, run) })
    this.controlPath = path.join(setup.folder, CONTROL_SOCKET)
    this.workerPath = path.join(setup.folder, WORKER_SOCKET)
  }

  /** @throws AlreadyRunning */
  async listen(): Promise<void> {
    const { calls, held, folder } = this.#setup
    const sockets = this.#sockets
    if (held === null || held.control === -1) {
      await sockets.exclusively(folder, calls, () => this.#claim())
      return
    }
    await this.#listenOn({ control: sockets.adopt(held.control), worker: sockets.adopt(held.worker) })
  }

  /** Both sockets are at their paths, where operators and workers look for them. */
  get reachable(): boolean { return this.#paths.every(path => this.#sockets.identity(path) !== '' && this.#isOurs(path)) }

  /**
   * After the sockets were taken away, in a folder that is there again: they are made anew, and connections go on.
   * @throws AlreadyRunning when another supervisor has the folder by now
   */
  async restore(): Promise<void> {
    const { calls, folder } = this.#setup
    await this.#sockets.exclusively(folder, calls, async () => {
      if (await this.#sockets.answers(this.controlPath) && !this.#isOurs(this.controlPath)) throw new AlreadyRunning(folder)
      // First, since closing removes the path.
      this.#closeSockets()
      await this.#claim()
    })
  }

  async #claim(): Promise<void> {
    const sockets = this.#sockets
    // A live one is never replaced; a socket on which nothing listens is left over from a kill.
    if (await sockets.answers(this.controlPath)) throw new AlreadyRunning(this.#setup.folder)
    const held = inStateFolder(`the control sockets cannot be made in ${this.#setup.folder}`, () => {
      for (const socketPath of this.#paths) sockets.remove(socketPath)
      return { control: sockets.bind(this.controlPath), worker: sockets.bind(this.workerPath) }
    })
    await this.#listenOn(held)
  }

  async #listenOn(held: { readonly control: HeldSocket; readonly worker: HeldSocket }): Promise<void> {
    const { calls, workerUid, workerGid } = this.#setup
    const sockets = this.#sockets
    this.#held = held
    this.#identities = new Map(this.#paths.map(path => [path, sockets.identity(path)]))
    this.#listeners = [
      await sockets.listen(held.control, calls, connection => this.#onOperator(connection)),
      await sockets.listen(held.worker, calls, connection => this.#onWorker(connection)),
    ]
    if (workerUid !== null || workerGid !== null) sockets.chown(this.workerPath, workerUid, workerGid)
  }

  get #paths(): readonly string[] { return [this.controlPath, this.workerPath] }
  #isOurs(path: string): boolean { return this.#identities.get(path) === this.#sockets.identity(path) }

  /** For the next image; -1 without system calls. */
  get descriptors(): { control: number; worker: number } {
    return { control: this.#held?.control.fd ?? -1, worker: this.#held?.worker.fd ?? -1 }
  }

  /** Answers are written out, then everything is closed and the paths are gone. */
  async close(): Promise<void> {
    // Closing removes the paths: where another supervisor has them by now, the end of this process closes ours.
    const ours = this.#paths.every(path => this.#isOurs(path) || this.#sockets.identity(path) === '')
    if (ours || this.#setup.calls !== null) for (const listener of this.#listeners) listener.close()
    for (const channel of this.#operators) channel.close()
    await Promise.all([...this.#connections].map(connection => connection.finish()))
    if (ours) this.#closeSockets()
    this.#lines.close()
  }

  #closeSockets(): void {
    for (const listener of this.#listeners) listener.close()
    this.#listeners = []
    this.#held?.control.close()
    this.#held?.worker.close()
    this.#held = null
    for (const socketPath of this.#paths) this.#sockets.remove(socketPath)
  }

  #onOperator(connection: ControlConnection): void {
    const { options, handlers } = this.#setup
    const lines = this.#lines
    const { after } = this.#sockets
    if (this.#operators.size >= options.maxControlClients) { connection.destroy(); return }
    this.#track(connection)
    let open = 0
    let cancelIdle = after(options.controlTimeoutMs, expire)
    const channel = connection.open<ToOperator, FromOperator>(decodeFromOperator, { maxMessageBytes: options.maxControlMessageBytes }, {
      onMessage: (message, question) => {
        if (question === null) {
          lines.warn('an operator sent an order without asking for its outcome; ignored', { tag: message.tag })
          return
        }
        cancelIdle()
        open++
        const done = (): void => { if (--open === 0) cancelIdle = after(options.controlTimeoutMs, expire) }
        handlers.onOperator(message, {
          ok: result => { question.ok(result); done() },
          refuse: (code, reason) => { question.refuse(code, reason); done() },
        }, connection)
      },
      onClose: reason => {
        cancelIdle()
        this.#operators.delete(channel)
        if (reason !== '') lines.warn('an operator was disconnected', { reason })
      },
      onIgnored: (tag, why) => lines.warn('a message of an operator was ignored', { tag, why }),
    })
    function expire(): void { channel.destroy('it asked nothing') }
    this.#operators.add(channel)
  }

  #onWorker(connection: ControlConnection): void {
    const { options, handlers } = this.#setup
    const lines = this.#lines
    // Proven workers are as many as we forked; only strangers need a limit.
    if (this.#unproven.size >= Math.max(options.maxControlClients, 2 * options.workers)) { connection.destroy(); return }
    this.#track(connection)
    this.#unproven.add(connection)
    let conversation: WorkerConversation | null = null
    const cancelHello = this.#sockets.after(options.controlTimeoutMs, () => channel.destroy('it did not say who it is'))
    const channel = connection.open<ToWorker, FromWorker>(decodeFromWorker, { maxMessageBytes: options.maxControlMessageBytes }, {
      onMessage: (message, question) => {
        if (conversation !== null) { conversation.onMessage(message); question?.ok(null); return }
        if (message.tag !== 'hello' || question === null) { channel.destroy('it did not say who it is first'); return }
        cancelHello()
        this.#unproven.delete(connection)
        conversation = handlers.onHello(message, linkTo(channel), question)
        if (conversation === null) channel.close()
      },
      onClose: reason => {
        cancelHello()
        this.#unproven.delete(connection)
        if (reason !== '' && conversation === null) lines.warn('a connection on the worker socket was closed', { reason })
        conversation?.onClose()
      },
      onIgnored: (tag, why) => lines.warn('a message of a worker was ignored', { tag, why }),
    })
  }

  #track(connection: ControlConnection): void {
    this.#connections.add(connection)
    connection.onGone(() => this.#connections.delete(connection))
  }
}

/** In the world's own time. @returns a function that cancels */
function every({ after }: ControlSockets, ms: number, run: () => void): () => void {
  let cancel = (): void => {}
  const again = (): void => {
    cancel = after(ms, () => {
      again()
      run()
    })
  }
  again()
  return () => cancel()
}

function linkTo(channel: ChannelEnd<ToWorker>): WorkerLink {
  return {
    ask: (order, timeoutMs) => channel.ask(order, timeoutMs),
    send: order => { channel.send(order) },
    close: () => channel.close(),
  }
}
