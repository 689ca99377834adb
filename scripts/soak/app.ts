/** The application that is soaked: a plain proxy before a good origin and, below /rude, one that aborts as it is asked to. */
import { HttpPeer, Server, httpProxyService } from '../../src/index.ts'

const { SOAK_PORT = '', SOAK_ORIGIN_PORT = '', SOAK_ROUGH_PORT = '' } = process.env
const good = new HttpPeer(`127.0.0.1:${SOAK_ORIGIN_PORT}`)
const rough = new HttpPeer(`127.0.0.1:${SOAK_ROUGH_PORT}`)
const PREFIX = '/rude'

const service = httpProxyService({
  upstreamPeer: (session) => (session.request.target.startsWith(PREFIX) ? rough : good),
  upstreamRequestFilter(_session, request) {
    if (request.target.startsWith(PREFIX)) request.target = request.target.slice(PREFIX.length)
  },
  // Nine of ten are broken on purpose.
  suppressErrorLog: () => true,
})
const server = new Server()
server.addService(service.addTcp(`127.0.0.1:${SOAK_PORT}`))
await server.runForever()
