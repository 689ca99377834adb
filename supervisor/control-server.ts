/**
 * The two control sockets: `control.sock` for operators (0600), `worker.sock` for workers, which prove themselves by
 * the token they were forked with. Each takes its own messages only. A client that says nothing is disconnected, one
 * that sends too much as well; every question gets an answer.
 */
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { Channel } from '../src/ipc/channel.ts'
import type { Question } from '../src/ipc/channel.ts'
import { decodeFromOperator, decodeFromWorker } from '../src/ipc/messages.ts'
import type { FromOperator, FromWorker, ToOperator, ToWorker } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { adoptedSocket, bindHeld, listenOnHeld } from './held-socket.ts'
import type { HeldSocket } from './held-socket.ts'
import { dialUnix } from './listener-table.ts'
import { CONTROL_SOCKET, WORKER_SOCKET } from './state-folder.ts'
import type { WorkerLink } from './worker-process.ts'

export interface ControlHandlers {
  onOperator(message: FromOperator, question: Question): void
  /** @returns who handles what else the worker says; null refuses it, with the reason already answered. */
  onHello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink, question: Question): WorkerConversation | null
}

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

/** Somebody answers on the control socket already. */
export class AlreadyRunning extends Error {
  constructor(folder: string) {
    super(`a supervisor is running already in ${folder}`)
    this.name = 'AlreadyRunning'
  }
}

export class ControlServer {
  readonly controlPath: string
  readonly workerPath: string
  readonly #setup: ControlServerSetup
  readonly #operators = new Set<Channel<ToOperator, FromOperator>>()
  readonly #unproven = new Set<net.Socket>()
  readonly #sockets = new Set<net.Socket>()
  #servers: net.Server[] = []
  #held: { readonly control: HeldSocket; readonly worker: HeldSocket } | null = null

  constructor(setup: ControlServerSetup) {
    this.#setup = setup
    this.controlPath = path.join(setup.folder, CONTROL_SOCKET)
    this.workerPath = path.join(setup.folder, WORKER_SOCKET)
  }

  /** @throws AlreadyRunning */
  async listen(): Promise<void> {
    const { calls, held, folder } = this.#setup
    if (held !== null) {
      this.#held = { control: adoptedSocket(held.control), worker: adoptedSocket(held.worker) }
    } else {
      // A live one is never replaced; a socket that nobody answers on is left over from a kill.
      if (await dialUnix(this.controlPath)) throw new AlreadyRunning(folder)
      for (const socketPath of [this.controlPath, this.workerPath]) fs.rmSync(socketPath, { force: true })
      this.#held = { control: bindPrivately(this.controlPath), worker: bindPrivately(this.workerPath) }
    }
    this.#servers = [
      await listenOnHeld(net.createServer(socket => this.#onOperator(socket)), this.#held.control, calls),
      await listenOnHeld(net.createServer(socket => this.#onWorker(socket)), this.#held.worker, calls),
    ]
    const { workerUid, workerGid } = this.#setup
    if (workerUid !== null || workerGid !== null) fs.chownSync(this.workerPath, workerUid ?? process.getuid!(), workerGid ?? process.getgid!())
  }

  /** For the next image; -1 without system calls. */
  get descriptors(): { control: number; worker: number } {
    return { control: this.#held?.control.fd ?? -1, worker: this.#held?.worker.fd ?? -1 }
  }

  /** Answers are written out, then everything is closed and the paths are gone. */
  async close(): Promise<void> {
    for (const server of this.#servers) server.close()
    for (const channel of this.#operators) channel.close()
    await Promise.all([...this.#sockets].map(socket => new Promise<void>(resolve => {
      // A client that does not read its answer is not waited for.
      const timer = setTimeout(resolve, 200)
      socket.end(() => { clearTimeout(timer); resolve() })
    })))
    for (const socket of this.#sockets) socket.destroy()
    this.#held?.control.close()
    this.#held?.worker.close()
    for (const socketPath of [this.controlPath, this.workerPath]) fs.rmSync(socketPath, { force: true })
  }

  #onOperator(socket: net.Socket): void {
    const { options, log, handlers } = this.#setup
    if (this.#operators.size >= options.maxControlClients) { socket.destroy(); return }
    this.#track(socket)
    let open = 0
    let idle = setTimeout(expire, options.controlTimeoutMs)
    const channel = new Channel<ToOperator, FromOperator>(socket, decodeFromOperator, { maxMessageBytes: options.maxControlMessageBytes }, {
      onMessage: (message, question) => {
        if (question === null) { log.warn('an operator sent an order without asking for its outcome; ignored', { tag: message.tag }); return }
        clearTimeout(idle)
        open++
        const done = (): void => { if (--open === 0) idle = setTimeout(expire, options.controlTimeoutMs) }
        handlers.onOperator(message, {
          ok: result => { question.ok(result); done() },
          refuse: (code, reason) => { question.refuse(code, reason); done() },
        })
      },
      onClose: reason => {
        clearTimeout(idle)
        this.#operators.delete(channel)
        if (reason !== '') log.warn('an operator was disconnected', { reason })
      },
      onIgnored: (tag, why) => log.warn('a message of an operator was ignored', { tag, why }),
    })
    function expire(): void { channel.destroy('it asked nothing') }
    this.#operators.add(channel)
  }

  #onWorker(socket: net.Socket): void {
    const { options, log, handlers } = this.#setup
    // Proven workers are as many as we forked; only strangers need a limit.
    if (this.#unproven.size >= Math.max(options.maxControlClients, 2 * options.workers)) { socket.destroy(); return }
    this.#track(socket)
    this.#unproven.add(socket)
    let conversation: WorkerConversation | null = null
    const hello = setTimeout(() => channel.destroy('it did not say who it is'), options.controlTimeoutMs)
    const channel = new Channel<ToWorker, FromWorker>(socket, decodeFromWorker, { maxMessageBytes: options.maxControlMessageBytes }, {
      onMessage: (message, question) => {
        if (conversation !== null) { conversation.onMessage(message); question?.ok(null); return }
        if (message.tag !== 'hello' || question === null) { channel.destroy('it did not say who it is first'); return }
        clearTimeout(hello)
        this.#unproven.delete(socket)
        conversation = handlers.onHello(message, { ask: (order, timeoutMs) => channel.ask(order, timeoutMs), send: order => { channel.send(order) }, close: () => channel.close() }, question)
        if (conversation === null) channel.close()
      },
      onClose: reason => {
        clearTimeout(hello)
        this.#unproven.delete(socket)
        if (reason !== '' && conversation === null) log.warn('a connection on the worker socket was closed', { reason })
        conversation?.onClose()
      },
      onIgnored: (tag, why) => log.warn('a message of a worker was ignored', { tag, why }),
    })
  }

  #track(socket: net.Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
  }
}

/** Bound during the call: the path never exists with other rights. */
function bindPrivately(socketPath: string): HeldSocket {
  const umask = process.umask(0o177)
  try { return bindHeld({ path: socketPath }) } finally { process.umask(umask) }
}
