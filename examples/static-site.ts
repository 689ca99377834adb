/**
 * A site from a folder, with an API behind it: pages and files, an index.html for every path of an application that routes in the browser,
 * files under /assets that browsers never ask for twice, and the fields that make browsers careful on every answer.
 *
 *   mkdir -p /tmp/site && echo '<h1>Home</h1>' > /tmp/site/index.html
 *   npm run origins                              # left is the API; in a terminal of their own
 *   ROOT=/tmp/site npx cirque run examples/static-site.ts       # in another one
 *   curl -i http://127.0.0.1:6188/orders/17      # index.html, though there is no such file
 *   curl -i http://127.0.0.1:6188/missing.js     # 404, and no page in the place of a script
 *   curl -i http://127.0.0.1:6188/api/users      # the API
 *
 * Change the routes. Without an application in the browser, `GET /*` is `session => files(session)`, and unknown paths get 404.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp, type Session, type Verdict } from 'cirque'
import { Router, securityHeaders, staticFiles } from 'cirque/kit'

const root = process.env['ROOT'] ?? 'public'
const files = staticFiles({ root })
const filesIfThere = staticFiles({ root, fallsThrough: true })
// Their names change with what is in them.
const assets = staticFiles({ root, maxAgeS: 31_536_000, immutable: true })
const api = new HttpPeer(process.env['API'] ?? '127.0.0.1:3001')

const routes = new Router<(session: Session) => Verdict | Promise<Verdict>>()
  .add('/api/*', () => 'continue')
  .add('GET /assets/*', session => assets(session))
  .add('GET /*', fileOrApplication)

/** A path whose last part has a dot in it is that of a file, and is no page of the application. */
async function fileOrApplication(session: Session): Promise<Verdict> {
  if (await filesIfThere(session) === 'responded') return 'responded'
  return /\.[^/]*$/.test(session.request.path) ? session.respond(404) : files(session, '/index.html')
}

const app: ProxyHttp = {
  modules: [securityHeaders({ contentSecurityPolicy: "default-src 'self'" })],

  requestFilter(session) {
    const match = routes.match(session.request)
    return match.found ? match.value(session) : match.respond(session)
  },

  upstreamPeer: () => api,
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
