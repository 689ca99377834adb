/**
 * An A/B test: a new visitor gets one of two variants at random and a cookie that keeps it, a returning one the variant of the cookie. The
 * access log has the variant (`app.variant`), for whoever counts. A cookie with anything else in it counts as none.
 *
 *   npm run origins                              # left is variant a, right variant b; in a terminal of their own
 *   npx cirque run examples/ab-test.ts           # in another one
 *   curl -i http://127.0.0.1:6188/               # either, and a cookie
 *   curl -i --cookie '__Host-variant=b' http://127.0.0.1:6188/                  # right, and no cookie
 *
 * Change the variants and their shares. Visitors can choose theirs by editing the cookie: what nobody may choose is no A/B test.
 */
import { HttpPeer, Server, httpProxyService, type ProxyHttp } from 'cirque'
import { cookiesOf, setCookie } from 'cirque/kit'

/** __Host-: a browser takes it over TLS alone, and from no other host of the domain. */
const COOKIE = '__Host-variant', DAYS_30 = 30 * 86_400
/** From 0 to 1: how many new visitors get b. */
const SHARE_OF_B = 0.5

const peers: ReadonlyMap<string, HttpPeer> = new Map([
  ['a', new HttpPeer(process.env['A'] ?? '127.0.0.1:3001')],
  ['b', new HttpPeer(process.env['B'] ?? '127.0.0.1:3002')],
])

const app: ProxyHttp<{ variant: string; isNew: boolean }> = {
  newCtx: () => ({ variant: Math.random() < SHARE_OF_B ? 'b' : 'a', isNew: true }),

  requestFilter(session, ctx) {
    const kept = cookiesOf(session.request).get(COOKIE)
    if (kept !== undefined && peers.has(kept)) {
      ctx.variant = kept
      ctx.isNew = false
    }
    session.logField('variant', ctx.variant)
    return 'continue'
  },

  upstreamPeer: (_session, { variant }) => peers.get(variant)!,

  responseFilter(_session, { headers }, { variant, isNew }) {
    headers.append('vary', 'Cookie')
    if (!isNew) return
    headers.append('set-cookie', setCookie(COOKIE, variant, { maxAgeS: DAYS_30 }))
    // A cache would give one visitor's variant to all new ones.
    headers.set('cache-control', 'private, no-cache')
  },
}

const server = new Server()
server.addService(httpProxyService(app).addTcp(process.env['LISTEN'] ?? '127.0.0.1:6188'))
await server.runForever()
