/**
 * A proxy in a process of its own, so that a test can weigh it, watch it live and outlive its death. The child is this
 * same file; it listens on a free port and passes everything to one origin.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { HttpPeer, SILENT_LOG, Server, httpProxyService, type HttpListenerOptions } from '../../src/index.ts'
import type { HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { within } from './wait-for.ts'

export interface ProxyProcessOptions {
  /** Address of the origin, `127.0.0.1:port`. */
  origin: string
  listener?: HttpListenerOptions
  peer?: HttpPeerOptions
}

export interface ProcessWeight {
  readonly rssBytes: number
  readonly heapBytes: number
  readonly connections: number
  readonly activeExchanges: number
}

type ToChild = { tag: 'weigh' } | { tag: 'stop' }
type FromChild = { tag: 'listening'; port: number } | { tag: 'weight'; weight: ProcessWeight }

const ROLE = 'CIRQUE_TEST_PROXY'

export class ProxyProcess {
  readonly port: number
  readonly #child: ChildProcess
  /** Resolves when the child is gone, with how it went: `code 0`, `SIGABRT`. */
  readonly ended: Promise<string>
  /** How it went; '' while it lives. */
  fate = ''
  stderr = ''

  private constructor(child: ChildProcess, port: number, ended: Promise<string>) {
    this.#child = child
    this.port = port
    this.ended = ended
    void ended.then(fate => { this.fate = fate })
  }

  static async start(options: ProxyProcessOptions): Promise<ProxyProcess> {
    const child = fork(import.meta.filename, [], {
      env: { ...process.env, [ROLE]: JSON.stringify(options) },
      execArgv: ['--expose-gc'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    let stderr = ''
    let proxy: ProxyProcess | null = null
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-8192)
      if (proxy !== null) proxy.stderr = stderr
    })
    const ended = new Promise<string>(resolve => child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`)))
    const listening = new Promise<number>((resolve, reject) => {
      child.once('message', message => resolve((message as { port: number }).port))
      void ended.then(fate => reject(new Error(`the proxy ended before it listened (${fate}): ${stderr}`)))
    })
    proxy = new ProxyProcess(child, await within('the proxy process to listen', listening, 10_000), ended)
    return proxy
  }

  get pid(): number { return this.#child.pid! }

  /** Memory and open things, after a collection of garbage. */
  async weigh(): Promise<ProcessWeight> {
    const { promise, resolve, reject } = Promise.withResolvers<ProcessWeight>()
    const take = (message: unknown): void => {
      const reply = message as FromChild
      if (reply.tag === 'weight') resolve(reply.weight)
    }
    this.#child.on('message', take)
    void this.ended.then(fate => reject(new Error(`the proxy ended (${fate}): ${this.stderr}`)))
    try {
      this.#child.send({ tag: 'weigh' } satisfies ToChild)
      return await within('the proxy process to weigh itself', promise, 10_000)
    } finally { this.#child.off('message', take) }
  }

  /** Ends the child, by force if it does not end in time. Returns how it went. */
  async stop(): Promise<string> {
    if (this.fate === '') {
      this.#child.send({ tag: 'stop' } satisfies ToChild)
      const force = setTimeout(() => this.#child.kill('SIGKILL'), 5000)
      await this.ended
      clearTimeout(force)
    }
    return this.fate
  }
}

async function serve(options: ProxyProcessOptions): Promise<void> {
  const peer = new HttpPeer(options.origin, options.peer)
  const server = new Server().limits({ maxLoopDelayMs: 0 })
  const service = httpProxyService<undefined>({ newCtx: () => undefined, upstreamPeer: () => peer, suppressErrorLog: () => true })
  server.addService(service.addTcp('127.0.0.1:0', options.listener))
  const [bound] = await server.start({ log: SILENT_LOG })
  process.on('message', message => {
    const request = message as ToChild
    if (request.tag === 'stop') process.exit(0)
    globalThis.gc?.()
    const { rss, heapUsed } = process.memoryUsage()
    const { connections, activeExchanges } = server.stats()
    process.send!({ tag: 'weight', weight: { rssBytes: rss, heapBytes: heapUsed, connections, activeExchanges } } satisfies FromChild)
  })
  // Whoever started it is gone: so is its purpose.
  process.on('disconnect', () => process.exit(1))
  process.send!({ tag: 'listening', port: bound!.port } satisfies FromChild)
}

const role = process.env[ROLE]
const isProxyProcess = process.send !== undefined && process.argv[1] === import.meta.filename
if (role !== undefined && isProxyProcess) await serve(JSON.parse(role) as ProxyProcessOptions)
