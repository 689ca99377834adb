/** Names that a certificate may be served for: host names in lower case, or a wildcard for one label (RFC 6125 6.4.3). */
import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'

const LABEL = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?'
const NAME = new RegExp(`^(?:\\*\\.)?${LABEL}(?:\\.${LABEL})*$`)
const MAX_NAME_LENGTH = 253

/** `a.test`, `*.a.test`; nothing in capitals, no dot at the end. */
export function isServerName(name: string): boolean {
  return name.length <= MAX_NAME_LENGTH && NAME.test(name) && !/^[\d.]+$/.test(name)
}

/** What a client meant: lower case, without the dot at the end that some send. '' stays ''. */
export function plainServerName(name: string): string {
  const lower = name.toLowerCase()
  return lower.endsWith('.') ? lower.slice(0, -1) : lower
}

/** `*.b.test` for `a.b.test`; '' for a name of one label. */
export function wildcardOf(name: string): string {
  const dot = name.indexOf('.')
  return dot <= 0 ? '' : `*${name.slice(dot)}`
}

/**
 * Whether a certificate is for a host name or an address (RFC 9525 6), with the common name where there are no others, as Node.js has
 * it. Node.js throws over one whose names OpenSSL cannot read, which anybody can make: it is for none.
 */
export function isMadeFor(certificate: X509Certificate, name: string): boolean {
  try {
    return isIP(name) === 0
      ? certificate.checkHost(name, { subject: 'default', partialWildcards: false }) !== undefined
      : certificate.checkIP(name) !== undefined
  } catch {
    return false
  }
}
