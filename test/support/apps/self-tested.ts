/** The real proxy service, which answers everything itself: on `/` its pid, and whether it is asked by a self-test. */
import { HttpPeer, httpProxyService, Server, type Session } from '../../../src/index.ts'

const peer = new HttpPeer('127.0.0.1:1')
const server = new Server()
server.addService(httpProxyService<undefined>({
  newCtx: () => undefined,
  upstreamPeer: () => peer,
  requestFilter(session: Session) { return session.respond(session.isSelfTest ? 204 : 200, {}, session.isSelfTest ? null : String(process.pid)) },
}).addTcp('127.0.0.1:0'))
server.selfTest({ expect: 204 })
await server.runForever()
