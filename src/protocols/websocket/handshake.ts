/**
 * What must hold before bytes pass raw after `101 Switching Protocols` (RFC 9110 7.8; RFC 6455 4.1 and 4.2.2): the origin is
 * offered nothing but what the client asked for and the service lets through, it switches to one of these, and a WebSocket
 * answer belongs to this very request.
 */
import { createHash, randomBytes } from 'node:crypto'
import { asciiLower, type HeaderMap } from '../../http/header-map.ts'

/** RFC 6455 1.3. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** HTTP itself is never offered: its frames would carry requests past every filter. */
const NEVER_OFFERED: ReadonlySet<string> = new Set(['h2c', 'h2', 'h3', 'http', 'tls'])

/** `protocol` may be let through: a token, perhaps with a version, and not HTTP under another name. */
export function isUpgradeProtocol(protocol: string): boolean {
  return /^[\w!#$%&'*+.^`|~-]+(\/[\w!#$%&'*+.^`|~-]+)?$/.test(protocol) && !NEVER_OFFERED.has(asciiLower(nameOf(protocol)))
}

/**
 * What of a request's Upgrade fields may be offered to the origin, as the client wrote it; '' for nothing.
 * @param allowed lower-case names, which let any version through, or names with one
 */
export function offeredProtocols(headers: HeaderMap, allowed: ReadonlySet<string>): string {
  let offered = ''
  for (const value of headers.getAll('upgrade')) {
    for (const part of value.split(',')) {
      const protocol = part.trim(), lower = asciiLower(protocol)
      if (!isUpgradeProtocol(protocol) || !(allowed.has(lower) || allowed.has(nameOf(lower)))) continue
      offered += offered === '' ? protocol : `, ${protocol}`
    }
  }
  return offered
}

function nameOf(protocol: string): string {
  const slash = protocol.indexOf('/')
  return slash === -1 ? protocol : protocol.slice(0, slash)
}

/** Why the request must not be upgraded to one of `offered`, or null. */
export function checkUpgradeRequest(headers: HeaderMap, offered: string): string | null {
  if (!isAmong(offered, 'websocket')) return null
  if (headers.getAll('sec-websocket-key').length !== 1) return 'a WebSocket request needs one Sec-WebSocket-Key'
  if (headers.get('sec-websocket-version') === undefined) return 'a WebSocket request needs Sec-WebSocket-Version'
  return null
}

/** Why the origin's 101 is not an answer to this request, which offered that, or null. */
export function checkUpgradeResponse(request: HeaderMap, offered: string, response: HeaderMap): string | null {
  const chosen = response.getAll('upgrade')
  if (chosen.length !== 1) return '101 without one Upgrade field'
  const protocol = asciiLower(chosen[0]!)
  if (!isAmong(offered, protocol)) return `101 to a protocol that was not asked for`
  if (protocol !== 'websocket') return null
  const key = request.get('sec-websocket-key') ?? ''
  return response.get('sec-websocket-accept') === webSocketAccept(key) ? null : '101 with a Sec-WebSocket-Accept of another request'
}

/** For a request that came without one, as those of HTTP/2 do (RFC 8441 5): its answer is checked like any other. */
export function webSocketKey(): string { return randomBytes(16).toString('base64') }

/** What answers a key (RFC 6455 4.2.2). */
export function webSocketAccept(key: string): string { return createHash('sha1').update(key + WEBSOCKET_GUID).digest('base64') }

function isAmong(offered: string, protocol: string): boolean {
  for (const part of offered.split(',')) if (asciiLower(part.trim()) === protocol) return true
  return false
}
