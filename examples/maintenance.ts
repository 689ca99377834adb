/**
 * Maintenance: while a file is there, visitors get 503 and a page, and people of our own networks see the site as it is. No reload is
 * needed, and all workers see the file within half a second. What is in progress is finished; health checks go on being answered.
 *
 *   npm run origins                              # in a terminal of their own
 *   npx cirque run examples/maintenance.ts       # in another one
 *   touch maintenance && sleep 1 && curl -i http://127.0.0.1:6188/              # 503
 *   rm maintenance && sleep 1 && curl -i http://127.0.0.1:6188/                 # 200
 *
 * Change the page, the networks, and the paths that stay open. Behind a balancer name it in `trustedHops` of the service: `clientIp` is
 * then the client's own address, and not the balancer's.
 */
import { existsSync } from 'node:fs'
import { HttpPeer, Server, httpProxyService, type BackgroundService, type ProxyHttp } from 'cirque'
import { Networks } from 'cirque/kit'

const FILE = process.env['MAINTENANCE_FILE'] ?? 'maintenance'
const PAGE = '<!doctype html><title>Back soon</title><h1>We are working on it</h1><p>Please come back in a few minutes.\n'
const OPEN = new Set(['/health'])

const origin = new HttpPeer(process.env['ORIGIN'] ?? '127.0.0.1:3001')
const ours = new Networks((process.env['OURS'] ?? '10.0.0.0/8,192.168.0.0/16').split(','))
let closed = false

/** Looks for the file, so that no request has to. */
const watch: BackgroundService = {
  kind: 'background', name: 'maintenance',
  start(signal) {
    const look = (): void => { closed = existsSync(FILE) }
    look()
    const timer = setInterval(look, 500)
    signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  },
  notices: () => closed ? [`maintenance: visitors get 503 while ${FILE} is there`] : [],
}

const app: ProxyHttp = {
  requestFilter(session) {
    if (!closed || OPEN.has(session.request.path) || ours.has(session.clientIp)) return 'continue'
    return session.respond(503, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store', 'retry-after': '300' }, PAGE)
  },

  upstreamPeer: () => origin,
}

const server = new Server()
const watching = server.addService(watch)
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188')).dependsOn(watching)
await server.runForever()
