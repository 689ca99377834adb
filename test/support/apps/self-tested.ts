/** The real proxy service on $PROXY_LISTEN (default one free port), which answers everything itself: its pid, or 204 to a self-test. */
import { HttpPeer, httpProxyService, Server, type Session } from '../../../src/index.ts'

const peer = new HttpPeer('127.0.0.1:1')
const server = new Server()
server.addService(httpProxyService<undefined>({
  newCtx: () => undefined,
  upstreamPeer: () => peer,
  requestFilter(session: Session) {
    return session.isSelfTest ? session.respond(204, {}, null) : session.respond(200, {}, String(process.pid))
  },
}).addTcp(process.env['PROXY_LISTEN'] ?? '127.0.0.1:0'))
server.selfTest({ expect: 204 })
await server.runForever()
