/**
 * The admin listener: read-only health for load balancers and orchestrators, in plain HTTP. Commands go over the
 * control socket, never here.
 *   /livez     the supervisor runs
 *   /readyz    traffic is welcome: somebody accepts and nobody has asked for a stop
 *   /startupz  every slot has accepted once
 */
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import type net from 'node:net'
import { hostAndPort } from '../src/ipc/server-description.ts'
import { parseListenAddress } from '../src/ipc/listen-address.ts'

export interface Health {
  readonly ready: boolean
  readonly started: boolean
  /** Why not, in a few words. */
  readonly reason: string
}

/** Health checks are few; whoever opens more waits. */
const MAX_CONNECTIONS = 64
const REQUEST_TIMEOUT_MS = 10_000

export class AdminServer {
  readonly #server: http.Server
  #unixPath = ''

  constructor(health: () => Health) {
    this.#server = http.createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS }, (request, response) => answer(request, response, health()))
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  /** @returns where it listens. */
  async listen(address: string): Promise<string> {
    const [where] = parseListenAddress(address, 'supervisor.adminAddress')
    if (where!.kind === 'unix') {
      this.#unixPath = where!.path
      fs.rmSync(where!.path, { force: true })
      this.#server.listen({ path: where!.path })
      await once(this.#server, 'listening')
      fs.chmodSync(where!.path, where!.mode)
      return `unix:${where!.path}`
    }
    this.#server.listen({ host: where!.host, port: where!.port })
    await once(this.#server, 'listening')
    const bound = this.#server.address() as net.AddressInfo
    return hostAndPort(bound.address, bound.port)
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
    if (this.#unixPath !== '') fs.rmSync(this.#unixPath, { force: true })
  }
}

function answer(request: http.IncomingMessage, response: http.ServerResponse, health: Health): void {
  const say = (status: number, text: string): void => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store', ...(status === 405 ? { allow: 'GET, HEAD' } : {}) })
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
