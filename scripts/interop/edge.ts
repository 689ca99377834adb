/**
 * What other programs are tried against: an edge in this process that speaks TLS in front and to its origin, and counts handshakes, so
 * that whether a client kept its connection or took its session up again is told by the server and not believed.
 */
import { mkdirSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type net from 'node:net'
import path from 'node:path'
import { createOrigin } from '../../examples/demo-origins.ts'
import { securityHeaders } from '../../src/kit/security-headers.ts'
import { HttpPeer, SILENT_LOG, Server, httpProxyService } from '../../src/index.ts'
import { makeTestCa, writeCertificate } from '../../test/support/test-ca.ts'
import { BROWSER_PAGE } from './browser-page.ts'

export interface Handshakes {
  readonly full: number
  readonly resumed: number
  /** What those that failed ended with. */
  readonly failed: readonly string[]
}

/** The page for browsers has a script in it. */
const POLICY = "default-src 'self' 'unsafe-inline'"

const YEAR_S = 31_536_000

interface Counted {
  full: number
  resumed: number
  failed: string[]
}

export class InteropEdge {
  readonly port: number
  /** Where every connection carries one request, in HTTP/1.1. */
  readonly closingPort: number
  readonly caFile: string
  readonly #server: Server
  readonly #origin: https.Server
  readonly #counted: Counted

  private constructor(ports: readonly number[], caFile: string, server: Server, origin: https.Server, counted: Counted) {
    this.port = ports[0]!
    this.closingPort = ports[1]!
    this.caFile = caFile
    this.#server = server
    this.#origin = origin
    this.#counted = counted
  }

  get url(): string { return `https://localhost:${this.port}` }

  /** @param folder for certificates */
  static async start(folder: string): Promise<InteropEdge> {
    mkdirSync(folder, { recursive: true })
    const ca = makeTestCa({ name: 'Cirque interop CA' }), site = { names: ['localhost'], ips: ['127.0.0.1'] }
    const own = ca.issue(site), rsa = ca.issue({ ...site, keyType: 'rsa' }), behind = ca.issue({ names: ['origin.test'] })
    const demo = createOrigin('origin')
    const origin = https.createServer({ cert: behind.cert, key: behind.key }, (request, response) => {
      if (request.url === '/browser') response.writeHead(200, { 'content-type': 'text/html' }).end(BROWSER_PAGE)
      else if (request.url === '/favicon.ico') response.writeHead(204).end()
      else demo.emit('request', request, response)
    })
    origin.keepAliveTimeout = 75_000
    await new Promise<void>(resolve => { origin.listen(0, '127.0.0.1', resolve) })
    const peer = new HttpPeer(`127.0.0.1:${(origin.address() as net.AddressInfo).port}`, { tls: true, sni: 'origin.test', ca: [ca.cert] })
    const counted: Counted = { full: 0, resumed: 0, failed: [] }
    // What browsers are told is the application's: with it testssl.sh has nothing to say of that either.
    const headers = securityHeaders({ contentSecurityPolicy: POLICY, hstsMaxAgeS: YEAR_S })
    const service = httpProxyService({ modules: [headers], upstreamPeer: () => peer }, {
      accessLog: null,
      tracers: [{
        handshakeEnded({ result, resumed, error }) {
          if (result !== 'ok') counted.failed.push(error === '' ? result : `${result} (${error})`)
          else if (resumed) counted.resumed++
          else counted.full++
        },
      }],
    })
    // Of both kinds of key, since not every client has both.
    const certificates = [{ cert: [own.cert, rsa.cert], key: [own.key, rsa.key] }]
    service.addTls('127.0.0.1:0', { certificates })
      .addTls('localhost:0', { certificates }, { maxRequestsPerConnection: 1, http2: { enabled: false } })
    const server = new Server().limits({ maxLoopDelayMs: 0 })
    server.addService(service)
    const bound = await server.start({ log: SILENT_LOG })
    const { certFile: caFile } = writeCertificate(folder, 'ca', ca)
    return new InteropEdge(bound.map(({ port }) => port), path.resolve(caFile), server, origin, counted)
  }

  /** Handshakes since the last time that this was asked. */
  take(): Handshakes {
    const taken = { ...this.#counted }
    Object.assign(this.#counted, { full: 0, resumed: 0, failed: [] })
    return taken
  }

  async stop(): Promise<void> {
    await this.#server.stop()
    this.#origin.close()
    this.#origin.closeAllConnections()
  }
}

/** Whether a plain request to the port of TLS is answered with what is wrong. */
export function plainStatus(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    http.get({ host: '127.0.0.1', port, path: '/', agent: false }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    }).on('error', reject)
  })
}
