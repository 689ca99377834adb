/** How a client reached us: what stands in front may have taken TLS off. */
import { asciiLower } from '../http/header-map.ts'
import type { Session } from '../proxy/session.ts'

/**
 * The scheme that the client used: that of the connection, or what a trusted hop says of the one before it (X-Forwarded-Proto; of
 * several the first, which the hop nearest to the client wrote). A client that is no trusted hop cannot say it: the field is removed.
 */
export function schemeOf(session: Session): 'http' | 'https' {
  const { request } = session
  if (!session.trusted) return request.scheme
  const said = asciiLower((request.headers.get('x-forwarded-proto') ?? '').split(',', 1)[0]!.trim())
  return said === 'https' || said === 'http' ? said : request.scheme
}
