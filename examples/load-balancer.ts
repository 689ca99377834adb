/**
 * A load balancer over two origins. `npm start` runs it; then try
 *
 *   curl http://127.0.0.1:6188/
 *
 * and https on port 6189, with a certificate that it makes itself: the first screen says how to trust it. Somewhere else:
 * `npm start -- 127.0.0.1:8080 127.0.0.1:8443`; without the second there is no https.
 *
 * The origins come with the example (demo-origins.ts), so nothing else has to be running. Origins of your own are known from the
 * start: `readonly #upstreams = LoadBalancer.from(['10.0.0.1:8080', '10.0.0.2:8080'], { peer: backend => new HttpPeer(backend) })`.
 */
import { HttpPeer, LoadBalancer, Server, httpProxyService, type ProxyHttp, type RequestHead, type Session } from 'cirque'
import { ownCertificate } from 'cirque/kit'
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

const [, , http = '127.0.0.1:6188', https = process.argv.length > 2 ? '' : '127.0.0.1:6189'] = process.argv
const balance = new Balance(), proxy = httpProxyService(balance).addTcp(http)
const server = new Server()
const proxying = server.addService(proxy)
proxying.dependsOn(server.addService(new DemoOrigins(['left', 'right'], addresses => balance.useOrigins(addresses))))
if (https !== '') {
  const own = ownCertificate()
  proxying.dependsOn(server.addService(own))
  proxy.addTls(https, { certificates: [own.certificate] })
}
await server.runForever()
