/**
 * What must hold before bytes pass raw after `101 Switching Protocols` (RFC 9110 7.8; RFC 6455 4.1 and 4.2.2): the origin
 * switches to a protocol that the client asked for, and a WebSocket answer belongs to this very request.
 */
import { createHash } from 'node:crypto'
import { asciiLower, type HeaderMap } from '../../http/header-map.ts'

/** RFC 6455 1.3. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** Why the request must not be upgraded, or null. */
export function checkUpgradeRequest(headers: HeaderMap): string | null {
  if (!asksFor(headers, 'websocket')) return null
  if (headers.getAll('sec-websocket-key').length !== 1) return 'a WebSocket request needs one Sec-WebSocket-Key'
  if (headers.get('sec-websocket-version') === undefined) return 'a WebSocket request needs Sec-WebSocket-Version'
  return null
}

/** Why the origin's 101 is not an answer to this request, or null. */
export function checkUpgradeResponse(request: HeaderMap, response: HeaderMap): string | null {
  const chosen = response.getAll('upgrade')
  if (chosen.length !== 1) return '101 without one Upgrade field'
  const protocol = asciiLower(chosen[0]!)
  if (!asksFor(request, protocol)) return `101 to a protocol that was not asked for`
  if (protocol !== 'websocket') return null
  const key = request.get('sec-websocket-key') ?? ''
  const expected = createHash('sha1').update(key + WEBSOCKET_GUID).digest('base64')
  return response.get('sec-websocket-accept') === expected ? null : '101 with a Sec-WebSocket-Accept of another request'
}

function asksFor(headers: HeaderMap, protocol: string): boolean {
  for (const value of headers.getAll('upgrade')) for (const part of value.split(',')) if (asciiLower(part.trim()) === protocol) return true
  return false
}
