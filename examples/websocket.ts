/**
 * WebSocket: one path leads to the origin that speaks it, and of browsers only the pages of our own sites may open one. A browser sends
 * its cookies along whichever page asks, so the check of Origin is what keeps other sites out (RFC 6455 10.2). Everything else is HTTP
 * and stays so. A worker that ends closes its sockets with 1001, and clients come back to another one.
 *
 *   npm run origins                              # left is the site, right speaks WebSocket; in a terminal of their own
 *   npx cirque run examples/websocket.ts         # in another one
 *   upgrade='-H Connection:upgrade -H Upgrade:websocket -H Sec-WebSocket-Version:13 -H Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ=='
 *   curl -i -m 2 $upgrade -H 'Origin: https://app.example' http://127.0.0.1:6188/ws       # 101
 *   curl -i -m 2 $upgrade -H 'Origin: https://evil.example' http://127.0.0.1:6188/ws      # 403
 *
 * Change the path, the sites, and the idle time: clients or origins that ping more often than that keep a quiet socket open.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'

const SITES = new Set(['https://app.example', 'https://www.app.example'])

// No request becomes a tunnel on its way to the site, whatever it asks for.
const site = new HttpPeer(process.env['SITE'] ?? '127.0.0.1:3001', { upgrades: false })
const sockets = new HttpPeer(process.env['SOCKETS'] ?? '127.0.0.1:3002')

const app: ProxyHttp = {
  requestFilter(session) {
    if (session.request.path !== '/ws') return 'continue'
    // What sends none is no browser. One that sends two is none either.
    const mayConnect = session.request.headers.getAll('origin').every(origin => SITES.has(origin))
    return mayConnect ? 'continue' : session.respond(403)
  },

  upstreamPeer: session => session.request.path === '/ws' ? sockets : site,
}

const server = new Server()
const options = { tunnelIdleTimeoutMs: 120_000 }
server.addService(httpProxyService(app, options).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
