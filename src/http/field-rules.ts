/**
 * Rules about fields that hold for every version of HTTP: numbers in Content-Length, names that an application behind a
 * CGI-like bridge cannot tell apart, and what must not come from a trailer section.
 */
import { FieldKind, asciiLower, type HeaderMap } from './header-map.ts'
import { FORWARDED_FIELDS, HOP_BY_HOP_REQUEST } from './hop-by-hop.ts'

/** `a_b` beside `a-b`: says which, or returns null. Equal names may be repeated, as anywhere. */
export function underscoredPair(headers: HeaderMap): string | null {
  // By what such a bridge makes of a name.
  const seen = new Map<string, string>()
  for (let index = 0; index < headers.size; index++) {
    const name = asciiLower(headers.nameAt(index)), bridged = name.replaceAll('_', '-'), twin = seen.get(bridged)
    // The proxy itself adds the twin of such a one.
    if (name !== bridged && isOurs(bridged)) return `${name}, which could pass for ${bridged}`
    if (twin === undefined) seen.set(bridged, name)
    else if (twin !== name) return `${name} beside its twin ${twin}`
  }
  return null
}

function isOurs(name: string): boolean { return name.startsWith('x-forwarded-') || name === 'x-real-ip' || name === 'x-request-id' }

/** Fields that must not come from a trailer section: they frame, route or authorise (RFC 9110 6.5.1). */
export const FORBIDDEN_TRAILERS: readonly string[] = [
  'age', 'authorization', 'cache-control', 'client-cert', 'client-cert-chain', 'connection', 'content-encoding', 'content-length',
  'content-range', 'content-type', 'cookie', 'expect', 'host', 'keep-alive', 'max-forwards', 'pragma', 'proxy-authenticate',
  'proxy-authorization', 'proxy-connection', 'range', 'set-cookie', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'vary',
  'www-authenticate',
]

/** And those that say who asked: an origin may take trailers for fields, and a client's own word for the proxy's. */
export const FORBIDDEN_TRAILER_KINDS: number =
  HOP_BY_HOP_REQUEST | FORWARDED_FIELDS | (1 << FieldKind.Via) | (1 << FieldKind.XRequestId) | (1 << FieldKind.Loop)
