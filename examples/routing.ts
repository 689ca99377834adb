/**
 * Routing by host and path. A host has a table of routes, and of those that fit a path the most exact one counts, whatever their order;
 * how many there are costs nothing. A host that nobody wrote down gets 421, an unknown path 404, a method that a route does not have 405.
 *
 *   npm run origins                              # left is the site, right the API, spare has the files; in a terminal of their own
 *   npx cirque run examples/routing.ts           # in another one
 *   curl -H 'Host: www.example.com' http://127.0.0.1:6188/                      # left
 *   curl -H 'Host: www.example.com' http://127.0.0.1:6188/api/v1/users          # right: it knows no /api/v1/users
 *   curl -H 'Host: www.example.com' http://127.0.0.1:6188/files/headers         # spare, which is asked for /headers
 *   curl -i -H 'Host: other.example' http://127.0.0.1:6188/                     # 421
 *
 * Change hosts and routes. `GET /users/:id` is a route as well; what it matched is in `match.params`.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'
import { Hosts, Router } from 'cirque/kit'

interface Route {
  readonly peer: HttpPeer
  /** What stands before the `*` is not for the origin. @default false */
  readonly dropsPrefix?: boolean
}

const site = new HttpPeer(process.env['SITE'] ?? '127.0.0.1:3001')
const api = new HttpPeer(process.env['API'] ?? '127.0.0.1:3002')
const files = new HttpPeer(process.env['FILES'] ?? '127.0.0.1:3003')

const www = new Router<Route>()
  .add('/*', { peer: site })
  .add('/api/*', { peer: api })
  .add('GET /files/*', { peer: files, dropsPrefix: true })
const hosts = new Hosts({
  'www.example.com': www,
  'api.example.com': new Router<Route>().add('/*', { peer: api }),
  '*.shops.example.com': new Router<Route>().add('/*', { peer: site }),
})

const app: ProxyHttp<{ peer: HttpPeer }> = {
  newCtx: () => ({ peer: site }),

  requestFilter(session, ctx) {
    const { request } = session
    const match = hosts.of(request)?.match(request)
    if (match === undefined) return session.respond(421)
    if (!match.found) return match.respond(session)
    session.logField('route', match.pattern)
    ctx.peer = match.value.peer
    if (match.value.dropsPrefix === true) request.target = `/${match.rest}${request.query === '' ? '' : `?${request.query}`}`
    return 'continue'
  },

  upstreamPeer: (_session, { peer }) => peer,
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
