/**
 * A service for plain listeners that sends every request to the same place over https:
 *
 *   server.addService(httpsRedirect().addTcp(':80'))
 *
 * The host in the answer is the client's own, without its port; who wants only hosts of his own in it names them. HSTS, with which a
 * browser does not come here again, is a field of answers over https (`securityHeaders` of the kit).
 */
import { ProxyError } from '../errors/proxy-error.ts'
import { isAuthority } from '../http/authority.ts'
import { asciiLower } from '../http/header-map.ts'
import { choice, count, defaultsOf, list, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import type { Session } from '../proxy/session.ts'
import { httpProxyService } from './http-proxy-service.ts'
import type { HttpProxyService } from './service.ts'

/** Where `httpsRedirect` sends to, and whom. */
export interface HttpsRedirectOptions {
  /** Unique in the server. @default 'https-redirect' */
  name?: string
  /** Port of the listener for TLS, as clients reach it. At most 65535. @default 443 */
  port?: number
  /** Hosts that are redirected, without ports; others are answered with 421. [] stands for all. @default [] */
  hosts?: readonly string[]
  /** 308 keeps method and body, 301 is what older clients know; 307 and 302 are not remembered. @default 308 */
  status?: 301 | 302 | 307 | 308
}

const HTTPS_PORT = 443

export const HTTPS_REDIRECT_OPTIONS = {
  name: text('https-redirect', 'a name of at least one character', name => name !== ''),
  port: count(HTTPS_PORT, { max: 65_535 }),
  hosts: list([], 'host names without ports', host => isAuthority(host) && withoutPort(host) === host),
  status: choice(308, [301, 302, 307, 308]),
} satisfies OptionTable<HttpsRedirectOptions>

export const HTTPS_REDIRECT_DEFAULTS: Readonly<Required<HttpsRedirectOptions>> = defaultsOf<HttpsRedirectOptions>(HTTPS_REDIRECT_OPTIONS)

/** A service that answers every request with a redirect to https. @throws OptionError with every option that would not do */
export function httpsRedirect(options: HttpsRedirectOptions = {}): HttpProxyService {
  const { name, port, hosts, status } = resolveOptions('httpsRedirect', HTTPS_REDIRECT_OPTIONS, options, HTTPS_REDIRECT_DEFAULTS)
  const known = new Set(hosts.map(asciiLower)), suffix = port === HTTPS_PORT ? '' : `:${port}`
  const app: ProxyHttp<undefined> = {
    newCtx: () => undefined,
    upstreamPeer() { throw new ProxyError('INTERNAL', 'internal', 'a redirect has no upstream') },
    requestFilter(session: Session) {
      const { authority, target } = session.request, host = asciiLower(withoutPort(authority))
      if (known.size > 0 && !known.has(host)) return session.respond(421)
      // `*` of OPTIONS has no place that it could be sent to, nor has a request without a host (HTTP/1.0).
      if (host === '' || target.charCodeAt(0) !== 0x2f) return session.respond(400)
      return session.respond(status, { Location: `https://${host}${suffix}${target}` })
    },
  }
  return httpProxyService(app, { name })
}

function withoutPort(authority: string): string {
  const colon = authority.lastIndexOf(':')
  return colon === -1 || authority.endsWith(']') ? authority : authority.slice(0, colon)
}
