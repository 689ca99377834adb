/**
 * Says how many connections it let in within one turn of its event loop, at most so far. `/block` takes away the file that
 * GATE names and holds the loop up until it is there again, so that connections have to wait.
 */
import fs from 'node:fs'
import { HttpPeer, httpProxyService, Server, type ProxyHttp } from '../../../src/index.ts'

let inTurn = 0, most = 0
function connectionFilter(): boolean {
  if (++inTurn === 1) setImmediate(() => { inTurn = 0 })
  most = Math.max(most, inTurn)
  return true
}

const app: ProxyHttp<undefined> = {
  newCtx: () => undefined,
  upstreamPeer: () => new HttpPeer('127.0.0.1:1'),
  requestFilter(session) {
    if (session.request.target === '/block') {
      const gate = process.env['GATE']!
      fs.rmSync(gate)
      while (!fs.existsSync(gate)) { /* the loop is held up */ }
    }
    return session.respond(200, {}, String(most))
  },
}
const server = new Server()
server.addService(httpProxyService(app).addTcp('127.0.0.1:0', { connectionFilter }))
await server.runForever()
