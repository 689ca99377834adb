/**
 * A backup that gets requests only while no main origin will do. An origin is out while the health check finds it ill, and for
 * `failTimeoutMs` when an attempt has failed; then one request tries it again. The request that met the failure goes to the next main
 * origin or to the backup, unless it may have been acted on already: a POST that was sent is not sent again.
 *
 *   npm run origins                              # left and right are the main ones, spare the backup; in a terminal of their own
 *   MAIN=127.0.0.1:3001,127.0.0.1:3009 npx cirque run examples/failover.ts       # in another one; nobody answers at 3009
 *   curl http://127.0.0.1:6188/                  # left, every time
 *   MAIN=127.0.0.1:3008,127.0.0.1:3009 npx cirque run examples/failover.ts       # spare, and `npx cirque status` says why
 *
 * Change the addresses, and the path that the health check asks for: one that fails when the origin cannot do its work.
 */
import { HttpHealthCheck, HttpPeer, LoadBalancer, Server, httpProxyService, type ProxyHttp } from 'cirque'

const addressesIn = (name: string, usual: string): string[] => (process.env[name] ?? usual).split(',')

const main = LoadBalancer.from(addressesIn('MAIN', '127.0.0.1:3001,127.0.0.1:3002'), {
  name: 'main',
  failTimeoutMs: 10_000,
  healthCheck: new HttpHealthCheck({ path: '/health', intervalMs: 2_000 }),
  peer: backend => new HttpPeer(backend),
})
const backup = LoadBalancer.from(addressesIn('BACKUP', '127.0.0.1:3003'), { name: 'backup', peer: backend => new HttpPeer(backend) })

const app: ProxyHttp = {
  upstreamPeer: session => main.trySelectPeerFor(session) ?? backup.selectPeerFor(session),
}

const server = new Server()
const checks = server.addService(main.asBackgroundService())
const names = server.addService(backup.asBackgroundService())
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188')).dependsOn(checks, names)
await server.runForever()
