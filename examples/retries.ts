/**
 * Retries. Where an origin cannot be reached, another one is asked without a word said here, for every method, as nothing was sent. A
 * status is yours to judge: here one more origin is asked when the first is busy (503) or has an outage behind it (502, 504). What must
 * not happen twice (POST, PATCH) is not sent twice whatever a hook says, nothing is repeated once the client has had a byte, and a budget
 * in percent of the requests keeps retries from multiplying an outage. An origin that stays ill is for a health check (failover.ts).
 *
 *   npm run origins                              # in a terminal of their own
 *   npx cirque run examples/retries.ts           # in another one
 *   curl 'http://127.0.0.1:6188/status?code=503&of=left'                   # right, every time
 *   curl -i -X POST 'http://127.0.0.1:6188/status?code=503&of=left'        # every other time the 503
 *
 * Change the statuses, and how often and for how long one request is tried.
 */
import { HttpPeer, LoadBalancer, Server, httpProxyService, type ProxyHttp } from 'cirque'

const AGAIN = new Set([502, 503, 504])

const origins = LoadBalancer.from((process.env['ORIGINS'] ?? '127.0.0.1:3001,127.0.0.1:3002').split(','), {
  name: 'origins',
  peer: backend => new HttpPeer(backend, {
    maxAttempts: 3, // The first included.
    retryBudgetPercent: 20,
    maxReplayBytes: 65_536, // A longer body is sent once.
    connectTimeoutMs: 1_000,
    firstByteTimeoutMs: 10_000,
  }),
})

const app: ProxyHttp = {
  // Those that this request has tried are passed over.
  upstreamPeer: session => origins.selectPeerFor(session),

  upstreamResponseFilter(session, response) {
    session.logField('attempts', session.attempts)
    // Where no retry is left, or none is allowed, the client gets this answer.
    return AGAIN.has(response.status) ? 'retry' : 'continue'
  },
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188')).dependsOn(
  server.addService(origins.asBackgroundService()),
)
await server.runForever()
