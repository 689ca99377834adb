/**
 * Error pages of your own: for what fails in the proxy (an origin that is down or slow, a limit that was passed), and in place of the pages
 * of an origin that answers 5xx. A browser gets HTML, every other client JSON, and neither learns anything about the inside.
 *
 *   npm run origins                              # small origins, in a terminal of their own
 *   npx cirque run examples/error-pages.ts       # in another one; ORIGIN=127.0.0.1:9 in front of it: an origin that is down
 *   curl -i 'http://127.0.0.1:6188/status?code=503'
 *   curl -i -H 'Accept: text/html' 'http://127.0.0.1:6188/status?code=500'
 *
 * Change the page, and which answers of the origin it replaces. A page that is a file is read once, at the start.
 */
import { HttpPeer, Server, httpProxyService, statusOf, type ProxyHttp, type Session } from 'cirque'

const origin = new HttpPeer(process.env['ORIGIN'] ?? '127.0.0.1:3001')

const app: ProxyHttp = {
  upstreamPeer: () => origin,

  upstreamResponseFilter(session, response) {
    if (response.status < 500) return 'continue'
    return sendPage(session, response.status, response.headers.get('retry-after'))
  },

  /** The request failed for good. `error.kind` says why, which is for the log and not for the client. */
  failToProxy(session, error) { sendPage(session, statusOf(error)) },
}

function sendPage(session: Session, status: number, retryAfter?: string): 'responded' {
  const { headers } = session.request
  const [type, body] = headers.getAll('accept').some(value => value.includes('text/html'))
    ? ['text/html; charset=utf-8', `<!doctype html><title>Sorry</title><h1>Sorry, that did not work</h1><p>${session.requestId}</p>\n`]
    : ['application/json', `${JSON.stringify({ status, request: session.requestId })}\n`]
  const fields = { 'content-type': type, 'cache-control': 'no-store' }
  return session.respond(status, retryAfter === undefined ? fields : { ...fields, 'retry-after': retryAfter }, body)
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
