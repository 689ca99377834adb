/**
 * Limits: how often one client may ask and how many of its requests may be in progress (429), how large a body may be and where a larger
 * one is expected (413), and how many requests an origin has at once, with a short queue before it (503). Each worker counts for itself.
 * What needs no word here, as it has a limit by default, is in docs/limits.md.
 *
 *   npm run origins                              # in a terminal of their own
 *   npx cirque run examples/limits.ts            # in another one
 *   curl -s -o /dev/null -w '%{http_code} ' 'http://127.0.0.1:6188/?[1-200]'                           # 200, then 429
 *   curl -s -o /dev/null -w '%{http_code} ' -H 'Content-Length: 2000000' -d x http://127.0.0.1:6188/echo       # 413; /upload may
 *
 * Change the numbers, and what a client is: the key of a user that was checked is better than an address, which many people may share.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'
import { clientNetwork } from 'cirque/kit'

/** For each client: 10 requests a second, 50 of them at once, 20 in progress. */
const MS_PER_REQUEST = 100, BURST = 50, IN_PROGRESS = 20
const BODY_BYTES = 1_048_576, UPLOAD_BYTES = 104_857_600
/** Clients whose rate is remembered, at most; that of the half which came last always is. */
const CLIENTS_MAX = 100_000

const origin = new HttpPeer(process.env['ORIGIN'] ?? '127.0.0.1:3001', { maxConnectionsPerPeer: 50, maxQueuedPerPeer: 100 })
/** Until when each client has used up its rate, in ms: a leaky bucket in one number (GCRA). */
let usedUntil = new Map<string, number>()
/** Of clients that came before these; it goes as a whole. To look for the oldest one costs most while an attack fills the map. */
let usedBefore: ReadonlyMap<string, number> = new Map()
const inProgress = new Map<string, number>()

const app: ProxyHttp<{ counted: string | null }> = {
  newCtx: () => ({ counted: null }),

  earlyRequestFilter(session) {
    if (session.request.path === '/upload') session.setLimits({ maxRequestBodyBytes: UPLOAD_BYTES })
  },

  requestFilter(session, ctx) {
    const client = clientNetwork(session.clientIp), waitMs = waitOf(client), count = inProgress.get(client) ?? 0
    if (waitMs > 0 || count >= IN_PROGRESS) return session.respond(429, { 'retry-after': String(Math.ceil(waitMs / 1000) || 1) })
    inProgress.set(ctx.counted = client, count + 1)
    return 'continue'
  },

  upstreamPeer: () => origin,

  // Runs once for each request, whatever became of it.
  logging(_session, _error, { counted }) {
    if (counted === null) return
    const left = inProgress.get(counted)! - 1
    if (left > 0) inProgress.set(counted, left)
    else inProgress.delete(counted)
  },
}

/** 0: it may ask, which is counted. Otherwise how long it should wait, in ms. */
function waitOf(client: string): number {
  const now = performance.now(), known = usedUntil.get(client) ?? usedBefore.get(client) ?? 0
  const until = Math.max(known, now) + MS_PER_REQUEST
  if (until > now + BURST * MS_PER_REQUEST) return until - now - BURST * MS_PER_REQUEST
  usedUntil.set(client, until)
  if (usedUntil.size >= CLIENTS_MAX / 2) [usedBefore, usedUntil] = [usedUntil, new Map()]
  return 0
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188', { maxRequestBodyBytes: BODY_BYTES }))
await server.runForever()
