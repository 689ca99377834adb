/**
 * One name for a site: a client that comes by another one is sent to it, or from http to https (RFC 9110 15.4.9). The name in the
 * answer is the application's; nothing that the client says of hosts goes into it.
 */
import { isAuthority } from '../http/authority.ts'
import { asciiLower } from '../http/header-map.ts'
import { choice, defaultsOf, list, needed, resolveOptions, text, type OptionTable } from '../primitives/option-table.ts'
import type { Session, Verdict } from '../proxy/session.ts'
import { schemeOf } from './client-scheme.ts'
import { hostOf } from './hosts.ts'

/** Which name, and for whom. */
export interface CanonicalHostOptions {
  /** The name that stays, with a port where it is not the scheme's own: `www.example.com`. Must be given. */
  host: string
  /** Hosts that are sent there; [] stands for all others. @default [] */
  from?: readonly string[]
  /** 'https' sends those who came by http there as well; 'keep' leaves to each what it came by. @default 'keep' */
  scheme?: 'https' | 'keep'
  /** 308 keeps method and body, 301 is what older clients know; 307 and 302 are not remembered. @default 308 */
  status?: 301 | 302 | 307 | 308
}

export const CANONICAL_HOST_OPTIONS = {
  host: needed(text('', 'a host name as browsers write it, with a port perhaps', isWrittenName)),
  from: list([], 'host names as browsers write them', host => isWrittenName(host) && withoutPort(host) === host),
  scheme: choice('keep', ['https', 'keep']),
  status: choice(308, [301, 302, 307, 308]),
} satisfies OptionTable<CanonicalHostOptions>

export const CANONICAL_HOST_DEFAULTS: Readonly<Required<CanonicalHostOptions>> = defaultsOf<CanonicalHostOptions>(CANONICAL_HOST_OPTIONS)

/**
 * What comes back as it is: a client that is sent to another form of a name (a dot at its end, an IPv6 address in full) asks for the usual
 * one, and would be sent there again.
 */
function isWrittenName(host: string): boolean {
  if (!isAuthority(host)) return false
  const name = withoutPort(asciiLower(host)), url = URL.parse(`http://${name}/`)
  return url !== null && url.hostname === name && !name.endsWith('.')
}

function withoutPort(host: string): string { return host.replace(/:\d*$/, '') }

/**
 * A filter that sends to the one name of a site:
 *
 *   const canonical = canonicalHost({ host: 'www.example.com', from: ['example.com'], scheme: 'https' })
 *   requestFilter: session => canonical(session)
 *
 * Hosts that are neither `host` nor one of `from` go on.
 * @throws OptionError with every option that would not do
 */
export function canonicalHost(options: CanonicalHostOptions): (session: Session) => Verdict {
  const { host, from, scheme, status } =
    resolveOptions<CanonicalHostOptions>('canonicalHost', CANONICAL_HOST_OPTIONS, options, CANONICAL_HOST_DEFAULTS)
  const name = withoutPort(asciiLower(host)), others = new Set(from.map(asciiLower))
  return session => {
    const { request } = session, asked = hostOf(request), came = schemeOf(session)
    const isOther = asked !== name && (others.size === 0 || others.has(asked))
    if (!isOther && (asked !== name || scheme === 'keep' || came === 'https')) return 'continue'
    // OPTIONS of the server itself, and CONNECT, have no path.
    if (request.target.charCodeAt(0) !== 0x2f) return 'continue'
    return session.respond(status, { Location: `${scheme === 'keep' ? came : scheme}://${host}${request.target}` })
  }
}
