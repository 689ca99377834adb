/** A proxy whose backends ($CHECKED_BACKENDS, separated by commas) are asked for all the time whether a connection can be made. */
import { HttpPeer, httpProxyService, LoadBalancer, Server, TcpHealthCheck } from '../../../src/index.ts'

const balancer = LoadBalancer.from((process.env['CHECKED_BACKENDS'] ?? '').split(','), {
  name: 'api',
  peer: backend => new HttpPeer(backend),
  healthCheck: new TcpHealthCheck({ intervalMs: 20, timeoutMs: 5_000 }),
})
const server = new Server()
server.addService(balancer.asBackgroundService())
server.addService(httpProxyService({ upstreamPeer: session => balancer.selectPeerFor(session) }).addTcp('127.0.0.1:0'))
await server.runForever()
