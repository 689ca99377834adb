/**
 * A canary: a new release gets a small share of the requests, and all of a client that asks for it by a header. What it fails is asked
 * of the stable release, so that it costs nobody an answer, and the access log tells the two apart (`app.release`).
 *
 *   npm run origins                              # left is the stable release, right the canary; in a terminal of their own
 *   npx cirque run examples/canary.ts            # in another one
 *   curl -H 'X-Canary: always' http://127.0.0.1:6188/            # right
 *   curl -H 'X-Canary: always' 'http://127.0.0.1:6188/status?code=500&of=right'     # left: the canary has failed
 *
 * Change the share. Anybody may send the header: a canary that is a secret is asked for by a secret value.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'

/** From 0 to 1: how many of the requests that do not say. */
const SHARE = 0.05

const stable = new HttpPeer(process.env['STABLE'] ?? '127.0.0.1:3001')
const canary = new HttpPeer(process.env['CANARY'] ?? '127.0.0.1:3002')

const app: ProxyHttp<{ isCanary: boolean }> = {
  // Once a request: every attempt of it is of one mind.
  newCtx: () => ({ isCanary: Math.random() < SHARE }),

  requestFilter(session, ctx) {
    const asked = session.request.headers.get('x-canary')
    if (asked === 'always') ctx.isCanary = true
    else if (asked === 'never') ctx.isCanary = false
    return 'continue'
  },

  upstreamPeer(session, { isCanary }) {
    const peer = isCanary && !session.triedPeers.includes(canary) ? canary : stable
    session.logField('release', peer === canary ? 'canary' : 'stable')
    return peer
  },

  /** Only where a request may be repeated, which a POST may not: what cannot be asked again is passed on as it is. */
  upstreamResponseFilter: (session, response) => session.peer === canary && response.status >= 500 ? 'retry' : 'continue',
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
