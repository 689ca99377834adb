/** The real proxy service in front of the origin at $PROXY_ORIGIN, with hooks that are worth a look, and a balancer. */
import { HttpPeer, httpProxyService, LoadBalancer, Server, type HttpModule, type Session, type Verdict } from '../../../src/index.ts'

const balancer = LoadBalancer.from([process.env['PROXY_ORIGIN']!], { name: 'origins', peer: backend => new HttpPeer(backend) })
const auth: HttpModule = {
  name: 'auth',
  requestFilter: session => session.request.path === '/private' ? session.respond(401) : 'continue',
}
const server = new Server()
server.addService(httpProxyService<undefined>({
  modules: [auth],
  newCtx: () => undefined,
  async requestFilter(session: Session): Promise<Verdict> {
    await Promise.resolve()
    if (session.request.path === '/fault') throw new RangeError('a planned fault')
    return 'continue'
  },
  upstreamPeer: session => balancer.selectPeerFor(session),
}, { name: 'edge' }).addTcp('127.0.0.1:0'))
await server.runForever()
