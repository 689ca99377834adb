/**
 * Authentication: what is public is listed, and everything else asks who is there, so that a path nobody thought of is not open. The API
 * takes tokens, people give a password. Credentials end here; the origin gets the user's name in X-User, which a client cannot send.
 *
 *   npm run origins                              # in a terminal of their own
 *   STAFF_PASSWORD=secret API_TOKENS=abc,def npx cirque run examples/authentication.ts       # in another one; not without these
 *   curl -i http://127.0.0.1:6188/headers                                       # 401
 *   curl -u ada:secret http://127.0.0.1:6188/headers                            # x-user: ada, and no authorization
 *   curl -i -H 'Authorization: Bearer abc' http://127.0.0.1:6188/api/users      # the origin's 404
 *   curl -i http://127.0.0.1:6188/health                                        # public
 *
 * Change the routes, and where users come from: `check` asks for passwords and tokens anywhere, `check: (user, password) => ...`.
 * Passwords and tokens need TLS before this listener.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'
import { Router, basicAuth, basicCredentials, bearerAuth, type Guard } from 'cirque/kit'

const origin = new HttpPeer(process.env['ORIGIN'] ?? '127.0.0.1:3001')

const everybody: Guard = () => 'continue'
const staff = basicAuth({ realm: 'staff', users: { ada: process.env['STAFF_PASSWORD'] ?? '' } })
const services = bearerAuth({ realm: 'api', tokens: (process.env['API_TOKENS'] ?? '').split(',') })

const guards = new Router<Guard>()
  .add('/*', staff)
  .add('/api/*', services)
  .add('GET /health', everybody)
  .add('GET /assets/*', everybody)

const app: ProxyHttp = {
  async requestFilter(session) {
    const { request } = session, match = guards.match(request)
    if (!match.found) return match.respond(session)
    // Some origins read X_User as X-User.
    for (const name of ['x-user', 'x_user']) request.headers.delete(name)
    const user = basicCredentials(request)?.user
    if (await match.value(session) === 'responded') return 'responded'
    if (match.value === staff && user !== undefined) request.headers.set('x-user', user)
    return 'continue'
  },

  upstreamPeer: () => origin,
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
