/**
 * One real worker process without a supervisor: the test holds its sockets, listens on its control socket and gives the
 * orders. It is started as the supervisor starts it, as a worker of node:cluster with its sockets from descriptor 4 on.
 */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { Channel } from '../../src/ipc/channel.ts'
import type { DescriptorLayout } from '../../src/ipc/descriptor-layout.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { decodeFromWorker, type DrainOrder, type FromWorker, type ToWorker, type Welcome } from '../../src/ipc/messages.ts'
import { ROLE_VARIABLE, type WorkerRole } from '../../src/ipc/worker-role.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { waitFor, within } from './wait-for.ts'

const ENTRY = path.join(import.meta.dirname, '../../workers/main.ts')

export const SHORT_DRAIN: DrainOrder = {
  ...drainOrder('stop', DRAIN_DEFAULTS, 0), hardDrainMs: 500, softDrainMs: 0, endAfterMs: 1_000,
}
const WELCOME: Welcome = {
  protocol: 1,
  heartbeatMs: 20,
  orphanPolicy: 'keep',
  orphanDrainAfterMs: 1,
  orphanDrain: SHORT_DRAIN,
  maxControlMessageBytes: 1_048_576,
}

export interface OrderedWorkerOptions {
  /** Name of a file in test/support/apps. */
  app: string
  /** Names of its listeners; each gets a TCP port of its own per slot. */
  listeners: readonly string[]
  /** @default 1 */
  slots?: number
  /** How often each socket is inherited. @default 1 */
  copies?: number
  env?: Readonly<Record<string, string>>
  welcome?: Partial<Welcome>
  /** What it says first. @default 'ready' */
  says?: FromWorker['tag']
}

type Hello = Extract<FromWorker, { tag: 'hello' }>

interface Started {
  readonly child: ChildProcess
  readonly layout: DescriptorLayout
  readonly sockets: net.BoundSocket[]
  readonly controlPath: string
  readonly welcome: Welcome
}

export class OrderedWorker {
  readonly pid: number
  readonly layout: DescriptorLayout
  readonly messages: FromWorker[] = []
  readonly hellos: Hello[] = []
  readonly ended: Promise<{ code: number | null; signal: string | null }>
  readonly #sockets: net.BoundSocket[]
  readonly #controlPath: string
  readonly #welcome: Welcome
  #server: net.Server | null = null
  #stream: net.Socket | null = null
  #channel: Channel<ToWorker, FromWorker> | null = null
  #stderr = ''

  private constructor({ child, layout, sockets, controlPath, welcome }: Started) {
    this.pid = child.pid!
    this.layout = layout
    this.#sockets = sockets
    this.#controlPath = controlPath
    this.#welcome = welcome
    child.stderr!.setEncoding('utf8').on('data', text => { this.#stderr += String(text) })
    this.ended = new Promise(resolve => { child.once('exit', (code, signal) => resolve({ code, signal })) })
  }

  /** Resolves when the worker is ready, or has said something else that was wanted. */
  static async start(t: TestContext, options: OrderedWorkerOptions): Promise<OrderedWorker> {
    const controlPath = path.join(temporaryFolder(t), 'worker.sock')
    const { slots = 1, copies = 1 } = options
    const layout: DescriptorLayout = { slots, copies, listeners: options.listeners.map(name => ({ name, shared: false })) }
    const sockets = Array.from({ length: layout.listeners.length * slots }, () => new net.BoundSocket({ host: '127.0.0.1', port: 0 }))
    const role: WorkerRole = {
      role: 'worker',
      worker: '1.0.0',
      slot: 0,
      application: path.join(import.meta.dirname, 'apps', `${options.app}.ts`),
      controlPath,
      token: 't',
      maxControlMessageBytes: 1_048_576,
      layout,
    }
    const server = await listen(controlPath)
    const child = spawn(process.execPath, ['--disable-sigusr1', '--disable-warning=ExperimentalWarning', ENTRY, role.application], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc', ...Array.from({ length: copies }, () => sockets.map(socket => socket.fd())).flat()],
      env: { ...process.env, ...options.env, NODE_UNIQUE_ID: '1', [ROLE_VARIABLE]: JSON.stringify(role) },
    })
    const worker = new OrderedWorker({ child, layout, sockets, controlPath, welcome: { ...WELCOME, ...options.welcome } })
    worker.#attend(server)
    t.after(async () => {
      child.kill('SIGKILL')
      await worker.ended
      worker.leave()
      for (const socket of sockets) socket.close()
    })
    await worker.said(options.says ?? 'ready')
    return worker
  }

  /** Port of a listener's socket. @param listener index in the layout. */
  port(listener: number, slot = 0): number { return (this.#socket(listener, slot).address() as net.AddressInfo).port }
  /** Our own descriptor of it. */
  descriptor(listener: number, slot = 0): number { return this.#socket(listener, slot).fd() }
  #socket(listener: number, slot: number): net.BoundSocket { return this.#sockets[listener * this.layout.slots + slot]! }

  /** @returns the answer; rejects with the refusal. */
  order(message: ToWorker): Promise<unknown> {
    assert.ok(this.#channel !== null, 'the worker is not connected')
    return this.#channel.ask(message, 5_000)
  }

  count(tag: FromWorker['tag']): number { return this.messages.filter(message => message.tag === tag).length }

  /** Resolves when it has said something so many times. */
  async said(tag: FromWorker['tag'], times = 1): Promise<void> {
    const seen = (): unknown => [this.messages.map(message => message.tag), this.#stderr]
    await waitFor(`'${tag}' ${times} times`, () => this.count(tag) >= times, { seen })
  }

  /** The supervisor is gone. */
  leave(): void {
    this.#server?.close()
    this.#server = null
    this.#stream?.destroy()
    this.#stream = null
    this.#channel = null
  }

  /** A supervisor is back. Resolves with what the worker says then. */
  async comeBack(deadlineMs = 5_000): Promise<Hello> {
    const before = this.hellos.length
    this.#attend(await listen(this.#controlPath))
    await waitFor('the worker to say hello again', () => this.hellos.length > before, { deadlineMs })
    return this.hellos.at(-1)!
  }

  /** How often the worker holds a socket, by the inode of one of our descriptors. */
  holds(descriptor: number): number {
    const wanted = inodeOf('self', String(descriptor))
    return this.descriptors().filter(fd => inodeOf(this.pid, fd) === wanted).length
  }

  /** Without those of the engine, which come and go with its threads. */
  get sockets(): number { return this.descriptors().filter(fd => inodeOf(this.pid, fd).startsWith('socket:')).length }

  descriptors(): string[] { return fs.readdirSync(`/proc/${this.pid}/fd`) }

  async end(): Promise<{ code: number | null; signal: string | null }> { return within(`the worker to end: ${this.#stderr}`, this.ended) }

  #attend(server: net.Server): void {
    this.#server = server
    server.on('connection', stream => {
      this.#stream = stream
      const channel = new Channel<ToWorker, FromWorker>(stream, decodeFromWorker, { maxMessageBytes: 1_048_576 }, {
        onMessage: (message, question) => {
          if (message.tag === 'hello') {
            this.hellos.push(message)
            this.#channel = channel
            question?.ok(this.#welcome)
          } else this.messages.push(message)
        },
        onClose: () => { if (this.#channel === channel) this.#channel = null },
      })
    })
  }
}

/** What a descriptor is, by the kernel's name of it: `socket:[4711]`; '' when it is gone. */
export function inodeOf(pid: number | 'self', descriptor: string): string {
  try { return fs.readlinkSync(`/proc/${pid}/fd/${descriptor}`) } catch { return '' }
}

async function listen(at: string): Promise<net.Server> {
  fs.rmSync(at, { force: true })
  const server = net.createServer().listen(at)
  await new Promise(resolve => { server.once('listening', resolve) })
  return server
}
