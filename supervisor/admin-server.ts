/**
 * The admin listener: read-only health for load balancers and orchestrators, and metrics for Prometheus, in plain HTTP.
 * Commands go over the control socket, never here.
 *   /livez     the supervisor runs
 *   /readyz    traffic is welcome: a worker accepts and no stop was asked for
 *   /startupz  every slot has accepted once
 *   /metrics   what was counted: text, or OpenMetrics for those who ask for it; gzip likewise
 *   /          the status page, for people (status-page.ts); /status is the same
 *   /status.json   what the page is made of (sample.ts)
 */
import fs from 'node:fs'
import { promisify } from 'node:util'
import type http from 'node:http'
import type net from 'node:net'
import { hostAndPort } from '../src/ipc/server-description.ts'
import { parseListenAddress } from '../src/ipc/listen-address.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { wantsOpenMetrics, type MetricsPage } from '../src/telemetry/exporters/prometheus-text.ts'
import { adoptedSocket, bindHeld, listenOnHeld, socketIdentity } from './held-socket.ts'
import type { HeldSocket } from './held-socket.ts'
import { SYSTEM_BINDER } from './listener-table.ts'
import type { Sample } from './sample.ts'
import { statusPage } from './status-page.ts'

export interface Health {
  readonly ready: boolean
  readonly started: boolean
  /** Why not, in a few words. */
  readonly reason: string
}

/** What the listener answers from. */
export interface AdminSource {
  health(): Health
  metrics(openMetrics: boolean): Promise<MetricsPage>
  sample(): Sample
}

/** Health checks are few, and answered at once: past this the oldest connection makes room, which asks nothing. */
const MAX_CONNECTIONS = 64
const REQUEST_TIMEOUT_MS = 10_000
/** Everybody who asks within that time gets the same sample, however many there are, in ms: pages ask each second. */
const SAMPLE_FOR_MS = 250

export class AdminServer {
  readonly #server: http.Server
  /** In the order in which they came. */
  readonly #connections = new Set<net.Socket>()
  #unixPath = ''
  /** Of the socket at that path. */
  #identity = ''
  /** The descriptor of #held stays its own. */
  #onCopy = false
  #held: HeldSocket | null = null

  constructor(source: AdminSource) {
    const samples = new SharedSample(source)
    const limits = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }
    // Not by import, which would load undici as well: 19 MB.
    this.#server = process.getBuiltinModule('node:http').createServer(limits, (request, response) => {
      answer(request, response, source, samples)
    })
    this.#server.on('connection', socket => this.#admit(socket))
  }

  #admit(socket: net.Socket): void {
    const [oldest] = this.#connections
    if (oldest !== undefined && this.#connections.size >= MAX_CONNECTIONS) oldest.destroy()
    this.#connections.add(socket)
    socket.once('close', () => { this.#connections.delete(socket) })
  }

  /** @param heldFd the socket of the image before; -1: it is bound. @returns where it listens. */
  async listen(address: string, calls: SystemCalls | null, heldFd = -1): Promise<string> {
    const [where] = parseListenAddress(address, 'supervisor.adminAddress')
    const unixPath = where!.kind === 'unix' ? where!.path : ''
    if (heldFd !== -1) {
      this.#held = adoptedSocket(heldFd)
    } else if (where!.kind === 'unix') {
      await clearPath(where!.path)
      this.#held = bindWithMode(where!.path, where!.mode)
    } else {
      this.#held = bindHeld({ host: where!.host, port: where!.port })
    }
    this.#unixPath = unixPath
    this.#identity = unixPath === '' ? '' : socketIdentity(unixPath)
    this.#onCopy = calls !== null
    await listenOnHeld(this.#server, this.#held, calls)
    if (unixPath !== '') return `unix:${unixPath}`
    const bound = this.#server.address() as net.AddressInfo
    return hostAndPort(bound.address, bound.port)
  }

  /** For the next image; -1: there is none. */
  get descriptor(): number { return this.#held?.fd ?? -1 }

  close(): void {
    // Closing removes the path, unless the server listens on a copy; what is there by now may be another program's.
    const ours = this.#unixPath === '' || this.#identity === socketIdentity(this.#unixPath) || !fs.existsSync(this.#unixPath)
    if (ours || this.#onCopy) this.#server.close()
    else this.#server.unref()
    this.#server.closeAllConnections()
    if (!ours) return
    this.#held?.close()
    if (this.#unixPath !== '') fs.rmSync(this.#unixPath, { force: true })
  }
}

/** A socket on which nothing listens is left over from a kill. @throws for anything else at the path. */
async function clearPath(path: string): Promise<void> {
  const found = await SYSTEM_BINDER.probeUnix(path)
  if (found === 'other') throw new Error('there is a file that is no socket; remove it, or choose another path')
  if (found === 'live') throw new Error('another program listens there; stop it, or choose another path')
  if (found === 'stale') SYSTEM_BINDER.unlink(path)
}

/** The path never exists with other rights. */
function bindWithMode(path: string, mode: number): HeldSocket {
  const umask = process.umask(0o777 & ~mode)
  try { return bindHeld({ path }) } finally { process.umask(umask) }
}

/** The last sample as JSON, for a moment. */
class SharedSample {
  readonly #source: AdminSource
  #json = ''
  #untilMs = 0

  constructor(source: AdminSource) { this.#source = source }

  json(nowMs = performance.now()): string {
    if (nowMs < this.#untilMs) return this.#json
    this.#json = JSON.stringify(this.#source.sample())
    this.#untilMs = nowMs + SAMPLE_FOR_MS
    return this.#json
  }
}

function answer(request: http.IncomingMessage, response: http.ServerResponse, source: AdminSource, samples: SharedSample): void {
  const say = (status: number, text: string): void => {
    const allow = status === 405 ? { allow: 'GET, HEAD' } : {}
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store', ...allow })
    response.end(request.method === 'HEAD' ? undefined : `${text}\n`)
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') { say(405, 'this listener is read-only'); return }
  const cannot = (what: string) => (error: unknown): void => {
    if (!response.headersSent) say(500, `${what} cannot be shown: ${error instanceof Error ? error.message : String(error)}`)
  }
  const health = source.health()
  switch ((request.url ?? '').split('?', 1)[0]) {
    case '/livez': say(200, 'ok'); break
    case '/readyz': say(health.ready ? 200 : 503, health.ready ? 'ok' : `not ready: ${health.reason}`); break
    case '/startupz': say(health.started ? 200 : 503, health.started ? 'ok' : 'starting'); break
    case '/metrics':
      answerMetrics(request, response, source).catch(cannot('metrics'))
      break
    case '/': case '/status':
      answerPage(request, response).catch(cannot('the status page'))
      break
    case '/status.json':
      answerSample(request, response, samples).catch(cannot('the status'))
      break
    default: say(404, 'there are /, /livez, /readyz, /startupz, /metrics and /status.json')
  }
}

async function answerPage(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const { html, headers } = statusPage()
  await send(request, response, html, { ...headers, vary: 'accept-encoding' })
}

async function answerSample(request: http.IncomingMessage, response: http.ServerResponse, samples: SharedSample): Promise<void> {
  const headers = { 'content-type': 'application/json; charset=utf-8', 'x-content-type-options': 'nosniff', 'vary': 'accept-encoding' }
  await send(request, response, samples.json(), headers)
}

async function answerMetrics(request: http.IncomingMessage, response: http.ServerResponse, source: AdminSource): Promise<void> {
  const { contentType, text } = await source.metrics(wantsOpenMetrics(request.headers.accept ?? ''))
  await send(request, response, text, { 'content-type': contentType, 'vary': 'accept, accept-encoding' })
}

async function send(
  { headers: asked, method }: http.IncomingMessage, response: http.ServerResponse, text: string, headers: Readonly<Record<string, string>>,
): Promise<void> {
  const zipped = acceptsGzip(asked['accept-encoding'])
  const body = zipped ? await promisify(process.getBuiltinModule('node:zlib').gzip)(text) : Buffer.from(text)
  response.writeHead(200, {
    ...headers, 'cache-control': 'no-store', 'content-length': body.length,
    ...zipped ? { 'content-encoding': 'gzip' } : {},
  })
  response.end(method === 'HEAD' ? undefined : body)
}

/** RFC 9110 section 12.5.3, for the one coding that there is. */
export function acceptsGzip(field: string | readonly string[] | undefined = ''): boolean {
  return String(field).split(',').some(part => /^\s*gzip\s*(;\s*q=(?!0(\.0*)?\s*$)[\d.]+\s*)?$/i.test(part))
}
