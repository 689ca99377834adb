/**
 * A site that nginx served: from-nginx.conf beside this file, and what each of its directives became. Two hosts and a redirect to the
 * first, weighted origins with a backup, limits and times of single locations, a prefix that is taken off, files, WebSocket, a password.
 *
 *   npm run origins                              # left gets three requests of four, right one, spare none; in a terminal of their own
 *   npx cirque run examples/from-nginx.ts        # in another one
 *   curl -H 'Host: www.example.com' http://127.0.0.1:6188/
 *   curl -i -H 'Host: example.com' http://127.0.0.1:6188/a       # 301
 *   curl -u ada:lovelace -H 'Host: admin.example.com' http://127.0.0.1:6188/
 *
 * Change the hosts, the locations and what stands in the environment. How many workers there are, and where the logs go, is said in
 * cirque.yaml.
 */
import { HttpConnector, HttpPeer, LoadBalancer, Server, httpProxyService } from 'cirque'
import type { BackendLike, ProxyHttp, SessionLimits } from 'cirque'
import { basicAuth, canonicalHost, Hosts, Networks, Router, securityHeaders, staticFiles, type MatchedRoute } from 'cirque/kit'

interface Location {
  limits?: SessionLimits
  accessLog?: boolean
  stripsPrefix?: boolean
  webSocket?: boolean
  answer?: NonNullable<ProxyHttp<Context>['requestFilter']>
}
interface Context { route?: MatchedRoute<Location> }

const env = (name: string, usual: string): string => process.env[name] ?? usual
const [left = '', right = '', spare = ''] = env('APP', '127.0.0.1:3001,127.0.0.1:3002,127.0.0.1:3003').split(',')
const times = { connectTimeoutMs: 1_000, firstByteTimeoutMs: 30_000, readTimeoutMs: 30_000 }
const balancing = { maxFails: 2, failTimeoutMs: 5_000, peer: (backend: BackendLike) => new HttpPeer(backend, { ...times, maxAttempts: 2 }) }
const app = LoadBalancer.from([{ address: left, weight: 3 }, right], { name: 'app', ...balancing })
const backup = LoadBalancer.from([spare], { name: 'backup', ...balancing })
const files = staticFiles({ root: env('WWW', import.meta.dirname), maxAgeS: 3_600 })
const office = new Networks(['127.0.0.0/30', '10.0.0.0/8'])
const staff = basicAuth({ realm: 'staff', users: { ada: env('STAFF_PASSWORD', 'lovelace') } })
const www = new Router<Location>()
  .add('/*', {})
  .add('/health', { accessLog: false, answer: session => session.respond(200, { 'Content-Type': 'text/plain' }, 'ok\n') })
  .add('/static/*', { answer: (session, { route }) => files(session, route?.rest) })
  .add('/upload/*', { limits: { maxRequestBodyBytes: 8_388_608 } })
  .add('/quick/*', { limits: { firstByteTimeoutMs: 1_000, readTimeoutMs: 1_000 } })
  .add('/api/*', { stripsPrefix: true })
  .add('/ws', { webSocket: true })
const bare = new Router<Location>().add('/*', { answer: canonicalHost({ host: 'www.example.com', status: 301 }) })
const admin = new Router<Location>().add('/*', { answer: session => office.has(session.clientIp) ? staff(session) : session.respond(403) })
const hosts = new Hosts({ 'example.com': bare, 'admin.example.com': admin })

const edge: ProxyHttp<Context> = {
  modules: [securityHeaders({ frameOptions: 'DENY', nosniff: false, referrerPolicy: '' })],
  newCtx: () => ({}),
  earlyRequestFilter(session, ctx) {
    const match = (hosts.of(session.request) ?? www).match(session.request)
    if (!match.found) return match.respond(session)
    ctx.route = match
    session.setLimits(match.value.limits ?? {})
    session.inAccessLog = match.value.accessLog ?? true
    return match.value.answer?.(session, ctx)
  },
  upstreamPeer: session => app.trySelectPeerFor(session) ?? backup.selectPeerFor(session),
  upstreamRequestFilter(_session, request, { route }) {
    request.headers.set('X-Edge', 'cirque')
    if (route?.value.webSocket !== true) request.headers.delete('Upgrade')
    if (route?.value.stripsPrefix === true) request.target = `/${route.rest}${request.target.slice(request.path.length)}`
  },
  errorWhileProxy: (_session, _peer, error) => { error.retry = 'always' },
  upstreamResponseFilter: (_session, response) => response.status === 503 ? 'retry' : 'continue',
}

const connector = new HttpConnector({ maxIdlePerKey: 32 })
const limits = { maxRequestBodyBytes: 1_048_576, bodyIdleTimeoutMs: 2_000, keepAliveTimeoutMs: 75_000 }
const server = new Server()
server.addService(httpProxyService(edge, { connector }).addTcp(env('LISTEN', '127.0.0.1:6188'), limits))
await server.runForever()
