/** The real proxy service, which answers everything itself, and wrongly as soon as its worker is being replaced. */
import { HttpPeer, httpProxyService, Server, type Session } from '../../../src/index.ts'

const peer = new HttpPeer('127.0.0.1:1')
const server = new Server()
server.addService(httpProxyService<undefined>({
  newCtx: () => undefined,
  upstreamPeer: () => peer,
  requestFilter: (session: Session) => session.respond(session.draining ? 503 : 200, {}, String(process.pid)),
}).addTcp('127.0.0.1:0'))
await server.runForever()
