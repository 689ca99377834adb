/**
 * A load balancer over two origins. `npm start` runs it; then try
 *
 *   curl http://127.0.0.1:6188/
 *
 * Somewhere else: `npm start -- 127.0.0.1:8080`.
 *
 * The origins come with the example (demo-origins.ts), so nothing else has to be running. Origins of your own are known from the
 * start: `readonly #upstreams = LoadBalancer.from(['10.0.0.1:8080', '10.0.0.2:8080'], { peer: backend => new HttpPeer(backend) })`.
 */
import { HttpPeer, LoadBalancer, Server, httpProxyService, type ProxyHttp, type RequestHead, type Session } from 'cirque'
import { DemoOrigins } from './demo-origins.ts'

class Balance implements ProxyHttp {
  /** Set before the first request: the service below depends on the origins. */
  #upstreams!: LoadBalancer<HttpPeer>

  /** One peer for each origin, made once. */
  useOrigins(addresses: readonly string[]): void {
    this.#upstreams = LoadBalancer.from(addresses, { peer: backend => new HttpPeer(backend) })
  }
  upstreamPeer(session: Session): HttpPeer { return this.#upstreams.selectPeerFor(session) }
  upstreamRequestFilter(_session: Session, request: RequestHead): void { request.headers.set('host', 'demo.invalid') }
}

const balance = new Balance()
const server = new Server()
const origins = server.addService(new DemoOrigins(['left', 'right'], addresses => balance.useOrigins(addresses)))
server.addService(httpProxyService(balance).addTcp(process.argv[2] ?? '127.0.0.1:6188')).dependsOn(origins)
await server.runForever()
