/** How a client reached us: what stands in front may have taken TLS off. */
import { asciiLower } from '../http/header-map.ts'
import type { Session } from '../proxy/session.ts'

/** `proto` of the first element that has one. */
const FORWARDED_PROTO = /(?:^|[;,])[ \t]*proto="?(https?)"?[ \t]*(?:[;,]|$)/i

/**
 * The scheme that the client used: that of the connection, or what a trusted hop says of the one before it, in X-Forwarded-Proto or in
 * Forwarded (RFC 7239); of several the first, which the hop nearest to the client wrote. A client that is no trusted hop cannot say it:
 * these fields are removed. The hop nearest to clients has to do the same: behind one that appends to what it was sent, a client is
 * believed what it says of itself.
 */
export function schemeOf(session: Session): 'http' | 'https' {
  const { request } = session
  if (!session.trusted) return request.scheme
  const { headers } = request
  const first = headers.get('x-forwarded-proto')?.split(',', 1)[0] ?? FORWARDED_PROTO.exec(headers.get('forwarded') ?? '')?.[1] ?? ''
  const said = asciiLower(first.trim())
  return said === 'https' || said === 'http' ? said : request.scheme
}
