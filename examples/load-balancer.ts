/**
 * A load balancer over two origins. `npm start` runs it; then try
 *
 *   curl http://127.0.0.1:6188/
 *
 * Somewhere else: `npm start -- 127.0.0.1:8080`.
 *
 * The origins come with the example (demo-origins.ts), so nothing else has to be running. With origins of your own,
 * `#upstreams` is one line: `readonly #upstreams = LoadBalancer.from(['10.0.0.1:8080', '10.0.0.2:8080'])`.
 */
import { HttpPeer, LoadBalancer, Server, httpProxyService, type ProxyHttp, type RequestHead, type Session } from '../src/index.ts'
import { DemoOrigins } from './demo-origins.ts'

class Balance implements ProxyHttp<undefined> {
  /** Set before the first request: the service below depends on the origins. */
  #upstreams!: LoadBalancer

  useOrigins(addresses: readonly string[]): void { this.#upstreams = LoadBalancer.from(addresses, { selection: 'round-robin' }) }
  newCtx(): undefined { return undefined }
  upstreamPeer(session: Session): HttpPeer { return new HttpPeer(this.#upstreams.selectFor(session)) }
  upstreamRequestFilter(_session: Session, request: RequestHead): void { request.headers.set('host', 'demo.invalid') }
}

const balance = new Balance()
const server = new Server()
const origins = server.addService(new DemoOrigins(['left', 'right'], addresses => balance.useOrigins(addresses)))
server.addService(httpProxyService(balance).addTcp(process.argv[2] ?? '127.0.0.1:6188')).dependsOn(origins)
await server.runForever()
