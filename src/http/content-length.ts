/** The one reader of Content-Length, for framing as for filters. */

/**
 * Digits of `text` in [from, to), at most 16 of them and 2^53 - 1; -1 for anything else (RFC 9110 8.6).
 * A number that a double cannot hold exactly is no length: it would frame another message than the one that was sent.
 */
export function parseContentLength(text: string, from = 0, to: number = text.length): number {
  if (to === from || to - from > 16) return -1
  let value = 0
  for (let i = from; i < to; i++) {
    const digit = text.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value <= Number.MAX_SAFE_INTEGER ? value : -1
}
