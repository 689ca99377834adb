/**
 * A server in this process with one HTTP proxy service in front of a scripted origin, for the length of one test.
 * When the test ends everything is stopped, and whatever is still open then fails the test.
 */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import {
  HttpPeer, SILENT_LOG, Server, httpProxyService,
  type HttpListenerOptions, type HttpProxyOptions, type ProxyHttp, type RequestTracing,
} from '../../src/index.ts'
import type { HttpPeerOptions } from '../../src/peer/http-peer.ts'
import { DRAIN_DEFAULTS } from '../../src/config/supervisor-options.ts'
import { drainOrder } from '../../src/ipc/drain-times.ts'
import { heldBytes } from '../../src/primitives/held-bytes.ts'
import { RawClient, type RawResponse, type ReadOptions } from './raw-client.ts'
import { ScriptedOrigin, answerOk, type Script } from './scripted-origin.ts'
import { waitFor } from './wait-for.ts'

export interface ProxyUnderTestOptions {
  script?: Script
  listener?: HttpListenerOptions
  peer?: HttpPeerOptions
  service?: HttpProxyOptions
  /** Hooks besides `newCtx` and `upstreamPeer`, or in place of them. */
  hooks?: Partial<ProxyHttp<undefined>>
  /** Records requests. @default nothing does */
  tracing?: RequestTracing
  /** Exchanges that the test leaves open on purpose, and that stopping has to cut. @default false */
  leavesExchangesOpen?: boolean
}

/** Pairs that were started and not stopped. */
let running = 0

export class ProxyUnderTest {
  readonly origin: ScriptedOrigin
  readonly server: Server
  readonly port: number
  readonly #leavesExchangesOpen: boolean
  readonly #openBefore: number
  readonly #clients: RawClient[] = []

  private constructor(parts: { origin: ScriptedOrigin; server: Server; port: number; leavesExchangesOpen: boolean; openBefore: number }) {
    this.origin = parts.origin
    this.server = parts.server
    this.port = parts.port
    this.#leavesExchangesOpen = parts.leavesExchangesOpen
    this.#openBefore = parts.openBefore
  }

  static async start(options: ProxyUnderTestOptions = {}): Promise<ProxyUnderTest> {
    const openBefore = openSockets()
    running++
    const origin = await ScriptedOrigin.start(options.script ?? answerOk)
    const peer = new HttpPeer(origin.authority, options.peer)
    // Other work on this machine may hold up the loop; what that does to requests has tests of its own.
    const server = new Server().limits({ maxLoopDelayMs: 0 })
    const app: ProxyHttp<undefined> = { newCtx: () => undefined, upstreamPeer: () => peer, suppressErrorLog: () => true, ...options.hooks }
    const service = httpProxyService<undefined>(app, options.service)
    server.addService(service.addTcp('127.0.0.1:0', options.listener))
    const [bound] = await server.start({ log: SILENT_LOG, tracing: options.tracing ?? null })
    return new ProxyUnderTest({ origin, server, port: bound!.port, leavesExchangesOpen: options.leavesExchangesOpen ?? false, openBefore })
  }

  get authority(): string { return `127.0.0.1:${this.port}` }

  async connect(): Promise<RawClient> {
    const client = await RawClient.connect({ host: '127.0.0.1', port: this.port })
    this.#clients.push(client)
    return client
  }

  /** One request on a connection of its own, which is closed afterwards. */
  async exchange(bytes: string | Buffer, options?: ReadOptions): Promise<RawResponse> {
    const client = await this.connect()
    try {
      await client.write(bytes)
      return await client.readResponse(options)
    } finally { client.destroy() }
  }

  /** Stops everything, and fails on whatever is then still open. */
  async stop(): Promise<void> {
    const { origin, server } = this
    for (const client of this.#clients) client.destroy()
    try {
      // Idle connections of programs that are not ours stay until the server ends them.
      const atRest = (): boolean => {
        const { connections, idleConnections, activeExchanges } = server.stats()
        return connections === idleConnections && activeExchanges === 0
      }
      if (!this.#leavesExchangesOpen) await waitFor('the proxy to notice that its clients are gone', atRest, { seen: () => server.stats() })
      const { cut } = await server.stop({ ...drainOrder('stop', DRAIN_DEFAULTS, 0), hardDrainMs: this.#leavesExchangesOpen ? 0 : 2000 })
      if (!this.#leavesExchangesOpen) assert.equal(cut, 0, 'stopping had to cut exchanges')
      const ends = (): unknown => origin.connections.map(({ ended, closed }) => ({ ended, closed }))
      await waitFor('the proxy to close its connections to the origin', () => origin.openConnections === 0, { seen: ends })
    } finally {
      server.close()
      await origin.stop()
    }
    // With another pair still running its sockets cannot be told from ours.
    if (--running > 0) return
    const allClosed = (): boolean => openSockets() <= this.#openBefore
    await waitFor('every socket of the test to be closed', allClosed, { seen: () => process.getActiveResourcesInfo() })
    await waitFor('every buffer to be taken off the count', () => heldBytes.now === 0, { seen: () => heldBytes.now })
  }
}

/** Starts the pair; it ends with `t`. */
export async function startProxy(t: TestContext, options: ProxyUnderTestOptions = {}): Promise<ProxyUnderTest> {
  const proxy = await ProxyUnderTest.start(options)
  t.after(() => proxy.stop())
  return proxy
}

function openSockets(): number { return process.getActiveResourcesInfo().filter(name => /^TCP(Socket|Server)Wrap$/.test(name)).length }

/** A request head with Host, as text. */
export function head(startLine: string, ...lines: string[]): string { return [startLine, 'Host: a.example', ...lines, '', ''].join('\r\n') }
export function get(target = '/', ...lines: string[]): string { return head(`GET ${target} HTTP/1.1`, ...lines) }
export function post(body: string, target = '/', ...lines: string[]): string {
  return head(`POST ${target} HTTP/1.1`, `Content-Length: ${Buffer.byteLength(body, 'latin1')}`, ...lines) + body
}
