/**
 * The authority of a request, as Host or `:authority` carry it: uri-host [ ":" port ] (RFC 3986 3.2.2, RFC 9110 7.2),
 * and nothing that could be read as more of a URI.
 */

/** 1 for each byte that may stand in it. */
const HOST_CHAR = (() => {
  const table = new Uint8Array(256)
  const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+;=:[]"
  for (const char of allowed) table[char.charCodeAt(0)] = 1
  return table
})()

/**
 * Authorities that were found right lately, each in a place that follows from its length and two of its characters: nearly every request
 * names one of the few hosts that the requests before it named.
 */
const known: string[] = Array.from({ length: 64 }, () => '')
/** Longer ones are read each time, so that the list takes 16 kB at most. */
const KNOWN_MAX_LENGTH = 255

/** `authority` names a host, with an optional port of digits. */
export function isAuthority(authority: string): boolean {
  const { length } = authority
  if (length === 0) return false
  if (length > KNOWN_MAX_LENGTH) return readsAsAuthority(authority)
  const place = (length * 5 + authority.charCodeAt(length >> 1) + authority.charCodeAt(length - 1) * 3) & 63
  if (known[place] === authority) return true
  if (!readsAsAuthority(authority)) return false
  // A copy: as it is, it may be a part of a whole head, which would be kept with it.
  known[place] = Buffer.from(authority, 'latin1').latin1Slice(0, length)
  return true
}

function readsAsAuthority(authority: string): boolean {
  for (let i = 0; i < authority.length; i++) if (HOST_CHAR[authority.charCodeAt(i)] !== 1) return false
  const colon = authority.lastIndexOf(':')
  let host = authority
  if (authority.charCodeAt(0) === 0x5b) {
    const close = authority.indexOf(']')
    if (close === -1 || (close !== authority.length - 1 && colon !== close + 1)) return false
    if (colon > close && !isPort(authority, colon + 1)) return false
    // A zone needs an address before it: without the zone, nothing would be left.
    if (close === 1 || authority.charCodeAt(1) === 0x25) return false
    return authority.indexOf('[', 1) === -1 && authority.indexOf(']', close + 1) === -1
  }
  if (colon !== -1) {
    if (!isPort(authority, colon + 1)) return false
    host = authority.substring(0, colon)
  }
  return host !== '' && !host.includes(':') && !host.includes('[') && !host.includes(']')
}

/**
 * Without the zone of an IPv6 address (RFC 4007 11), which is a name for one of the sender's own interfaces and means
 * something else, or nothing, to everybody else (RFC 6874 4). `host` may be in brackets and have a port.
 */
export function withoutZone(host: string): string {
  const zone = host.indexOf('%')
  // A percent sign in a name is no zone.
  if (zone === -1 || !host.includes(':')) return host
  const close = host.indexOf(']', zone)
  return host.substring(0, zone) + (close === -1 ? '' : host.substring(close))
}

function isPort(text: string, from: number): boolean {
  let port = 0
  for (let i = from; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9) return false
    if ((port = port * 10 + digit) > 65_535) return false
  }
  return true
}
