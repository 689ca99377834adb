/**
 * The admin listener: read-only health for load balancers and orchestrators, in plain HTTP. Commands go over the
 * control socket, never here.
 *   /livez     the supervisor runs
 *   /readyz    traffic is welcome: a worker accepts and no stop was asked for
 *   /startupz  every slot has accepted once
 */
import fs from 'node:fs'
import http from 'node:http'
import type net from 'node:net'
import { hostAndPort } from '../src/ipc/server-description.ts'
import { parseListenAddress } from '../src/ipc/listen-address.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { adoptedSocket, bindHeld, listenOnHeld } from './held-socket.ts'
import type { HeldSocket } from './held-socket.ts'

export interface Health {
  readonly ready: boolean
  readonly started: boolean
  /** Why not, in a few words. */
  readonly reason: string
}

/** Health checks are few; connections past this wait. */
const MAX_CONNECTIONS = 64
const REQUEST_TIMEOUT_MS = 10_000

export class AdminServer {
  readonly #server: http.Server
  #unixPath = ''
  #held: HeldSocket | null = null

  constructor(health: () => Health) {
    const limits = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }
    this.#server = http.createServer(limits, (request, response) => answer(request, response, health()))
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  /** @param heldFd the socket of the image before; -1: it is bound. @returns where it listens. */
  async listen(address: string, calls: SystemCalls | null, heldFd = -1): Promise<string> {
    const [where] = parseListenAddress(address, 'supervisor.adminAddress')
    const unixPath = where!.kind === 'unix' ? where!.path : ''
    if (heldFd !== -1) {
      this.#held = adoptedSocket(heldFd)
    } else if (where!.kind === 'unix') {
      fs.rmSync(where!.path, { force: true })
      this.#held = bindHeld({ path: where!.path })
      fs.chmodSync(where!.path, where!.mode)
    } else {
      this.#held = bindHeld({ host: where!.host, port: where!.port })
    }
    this.#unixPath = unixPath
    await listenOnHeld(this.#server, this.#held, calls)
    if (unixPath !== '') return `unix:${unixPath}`
    const bound = this.#server.address() as net.AddressInfo
    return hostAndPort(bound.address, bound.port)
  }

  /** For the next image; -1: there is none. */
  get descriptor(): number { return this.#held?.fd ?? -1 }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
    this.#held?.close()
    if (this.#unixPath !== '') fs.rmSync(this.#unixPath, { force: true })
  }
}

function answer(request: http.IncomingMessage, response: http.ServerResponse, health: Health): void {
  const say = (status: number, text: string): void => {
    const allow = status === 405 ? { allow: 'GET, HEAD' } : {}
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store', ...allow })
    response.end(request.method === 'HEAD' ? undefined : `${text}\n`)
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') { say(405, 'this listener is read-only'); return }
  switch ((request.url ?? '').split('?', 1)[0]) {
    case '/livez': say(200, 'ok'); break
    case '/readyz': say(health.ready ? 200 : 503, health.ready ? 'ok' : `not ready: ${health.reason}`); break
    case '/startupz': say(health.started ? 200 : 503, health.started ? 'ok' : 'starting'); break
    default: say(404, 'there are /livez, /readyz and /startupz')
  }
}
