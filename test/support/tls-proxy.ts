/**
 * A server in this process with one listener for TLS, whose application answers every request itself with what it knows of the
 * connection. When the test ends everything is stopped, and what is still open then fails the test.
 */
import assert from 'node:assert/strict'
import net from 'node:net'
import type { TestContext } from 'node:test'
import tls from 'node:tls'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import { SILENT_LOG, Server, type HttpListenerOptions, type HttpProxyOptions, type ProxyHttp } from '../../src/index.ts'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { TlsListenerOptions } from '../../src/listener/tls-listener-options.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import { HttpProxy } from '../../src/server/http-proxy-service.ts'
import type { HandshakeEnded } from '../../src/telemetry/tracer.ts'
import type { FakeClock } from './fake-clock.ts'
import { waitFor } from './wait-for.ts'

export interface TlsProxyOptions {
  readonly listener?: HttpListenerOptions
  readonly service?: HttpProxyOptions
  readonly hooks?: Partial<ProxyHttp<undefined>>
  /** Time passes when the test says so. */
  readonly clock?: FakeClock
}

export interface TlsAnswer {
  /** 0: none came. */
  readonly status: number
  /** What the application knows. */
  readonly facts: { readonly scheme: string; readonly tls: { serverName: string; version: string; resumed: boolean; alpn: string } } | null
  /** First name of the certificate that was shown; '': none was. */
  readonly certificate: string
  readonly resumed: boolean
  /** Code of what went wrong; 'closed' where nothing was said. */
  readonly error: string
  readonly session: Buffer | null
}

export class TlsProxy {
  readonly service: HttpProxy<undefined>
  readonly handshakes: HandshakeEnded[] = []
  readonly lines: { readonly level: string; readonly message: string; readonly fields: LogFields | undefined }[] = []
  readonly #server: Server
  port = 0

  private constructor(server: Server, service: HttpProxy<undefined>) {
    this.#server = server
    this.service = service
  }

  static async start(t: TestContext, options: TlsListenerOptions, more: TlsProxyOptions = {}): Promise<TlsProxy> {
    const app: ProxyHttp<undefined> = {
      newCtx: () => undefined,
      upstreamPeer() { throw new Error('nothing is passed on') },
      requestFilter: session => session.respond(200, {}, JSON.stringify({ scheme: session.request.scheme, tls: session.digest.tls })),
      ...more.hooks,
    }
    const connector = more.clock === undefined ? null : new HttpConnector({ ticker: new Ticker(more.clock) })
    const proxy: TlsProxy = new TlsProxy(new Server().limits({ maxLoopDelayMs: 0 }), new HttpProxy(app, {
      name: 'tls', accessLog: null, connector, ...more.service,
      tracers: [{ handshakeEnded: event => { proxy.handshakes.push(event) } }, ...more.service?.tracers ?? []],
    }))
    const say = (level: string) => (message: string, fields?: LogFields): void => { proxy.lines.push({ level, message, fields }) }
    const log: ProcessLog = { ...SILENT_LOG, info: say('info'), warn: say('warn'), error: say('error') }
    proxy.#server.addService(proxy.service.addTls('127.0.0.1:0', options, more.listener))
    const [bound] = await proxy.#server.start({ log })
    proxy.port = bound!.port
    t.after(() => proxy.stop())
    return proxy
  }

  get results(): string[] { return this.handshakes.map(({ result }) => result) }

  /** All connections are gone, and counted so. */
  async settled(): Promise<void> {
    await waitFor('all connections to be gone', () => this.service.stats().connections === 0, { seen: () => this.service.stats() })
  }

  async stop(): Promise<void> {
    await this.settled()
    await this.#server.stop()
  }

  /** One handshake and one request. */
  get(serverName: string, options: tls.ConnectionOptions = {}, host = serverName || '127.0.0.1'): Promise<TlsAnswer> {
    const { promise, resolve } = Promise.withResolvers<TlsAnswer>()
    let text = '', error = '', session: Buffer | null = null, certificate = '', resumed = false
    const socket = tls.connect({
      host: '127.0.0.1', port: this.port, rejectUnauthorized: false, ...serverName === '' ? {} : { servername: serverName }, ...options,
    })
    socket.on('secureConnect', () => {
      const { subjectaltname = '' } = socket.getPeerCertificate() as { subjectaltname?: string }
      certificate = /DNS:([^,]*)/.exec(subjectaltname)?.[1] ?? ''
      resumed = socket.isSessionReused()
      // Of a ticket that is renewed no event tells.
      if (socket.getProtocol() === 'TLSv1.2') session = socket.getSession() ?? null
      socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    })
    socket.on('session', given => { session = given })
    socket.on('data', data => { text += data })
    socket.on('error', (thrown: NodeJS.ErrnoException) => { error = thrown.code ?? thrown.message })
    socket.on('close', () => {
      const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0)
      const told = /\{.*\}/.exec(text)
      const facts = told === null ? null : JSON.parse(told[0]) as TlsAnswer['facts']
      resolve({ status, facts, certificate, resumed, error: status === 0 && error === '' ? 'closed' : error, session })
    })
    return promise
  }

  /** A connection without TLS. */
  async connect(): Promise<net.Socket> {
    const socket = net.connect({ host: '127.0.0.1', port: this.port })
    await new Promise(resolve => { socket.once('connect', resolve) })
    return socket
  }
}

/** When it is gone, however. */
export function gone(socket: net.Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (socket.destroyed) resolve()
  socket.on('error', () => { /* a reset will do */ })
  socket.on('close', () => resolve())
  return promise
}

/** What a client says first. */
export async function helloOf(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => { server.once('listening', resolve) })
  const client = tls.connect({ host: '127.0.0.1', port: (server.address() as net.AddressInfo).port, ...options })
  client.on('error', () => { /* nobody answers */ })
  const socket = await new Promise<net.Socket>(resolve => { server.once('connection', resolve) })
  const hello = await new Promise<Buffer>(resolve => { socket.once('data', resolve) })
  client.destroy()
  socket.destroy()
  server.close()
  assert.ok(hello.length > 0)
  return hello
}
