/**
 * The closer look at a request target that has `//`, `/.`, `%` or `\` in it: the origin must get exactly what was
 * matched here, so dot segments are resolved before a hook matches, `%2f`, `%5c` and `//` are kept, and what has two
 * readings in the wild (`\`, `%00`) is refused (RFC 3986 5.2.4, RFC 9110 4.2.3).
 */

/** `resolve` removes dot segments, `reject` refuses targets that have any, `off` sends all byte for byte (refusing `\` and `%00` still). */
export type PathNormalization = 'resolve' | 'reject' | 'off'

const SLASH = 0x2f, DOT = 0x2e, PERCENT = 0x25, BACKSLASH = 0x5c, HASH = 0x23

/**
 * Whether a byte of a target, behind `previous`, asks for the closer look: `//`, `/.`, `%`, `\\` or `#`. Parsers ask it
 * for each byte as they go, so that ordinary targets are never looked at twice.
 */
export function isUnusual(byte: number, previous: number): boolean {
  return byte === PERCENT || byte === BACKSLASH || byte === HASH || (previous === SLASH && (byte === SLASH || byte === DOT))
}

/** The target to match and send, or null when it is to be refused with 400. */
export function normalizeTarget(target: string, mode: PathNormalization): string | null {
  const query = target.indexOf('?')
  const path = query === -1 ? target : target.substring(0, query)
  if (!wellEncoded(path)) return null
  if (path.includes('\\')) return null
  if (mode === 'off') return target
  if (!path.includes('.') && !/%2e/i.test(path)) return target
  const segments = path.split('/')
  const kept: string[] = []
  let changed = false
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i]!, plain = segment.length <= 6 ? segment.replaceAll(/%2e/gi, '.') : segment
    if (plain === '.' || plain === '..') {
      changed = true
      if (plain === '..') kept.pop()
      if (i === segments.length - 1) kept.push('')
    } else kept.push(segment)
  }
  if (!changed) return target
  if (mode === 'reject') return null
  return '/' + kept.join('/') + (query === -1 ? '' : target.substring(query))
}

/** Every `%` starts an octet in hexadecimal, and none of them is NUL. */
function wellEncoded(path: string): boolean {
  for (let at = path.indexOf('%'); at !== -1; at = path.indexOf('%', at + 1)) {
    if (!isHex(path.charCodeAt(at + 1)) || !isHex(path.charCodeAt(at + 2))) return false
    if (path.charCodeAt(at + 1) === 0x30 && path.charCodeAt(at + 2) === 0x30) return false
  }
  return true
}

function isHex(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66)
}
