/** What examples/load-balancer.ts is, on a free port: a proxy in front of the demo origins. */
import { DemoOrigins } from '../../../examples/demo-origins.ts'
import { HttpPeer, LoadBalancer, Server, httpProxyService } from '../../../src/index.ts'

let upstreams: LoadBalancer | null = null
const server = new Server()
const origins = server.addService(new DemoOrigins(['left', 'right'], addresses => {
  upstreams = LoadBalancer.from(addresses, { selection: 'round-robin' })
}))
const service = httpProxyService({ newCtx: () => undefined, upstreamPeer: () => new HttpPeer(upstreams!.select()) }, { accessLog: null })
server.addService(service.addTcp('127.0.0.1:0')).dependsOn(origins)
await server.runForever()
