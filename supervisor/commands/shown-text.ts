/**
 * Text that came from anybody, for a terminal: what is no printable ASCII is written as an escape, so that it can neither move the
 * cursor nor add a line. It is always as long as it looks.
 */

/** @param longest in characters of what is shown; Infinity: all of it */
export function shownText(text: string, longest = Infinity): string {
  // What is behind it would be cut: nothing becomes shorter.
  const escaped = text.slice(0, longest === Infinity ? undefined : longest + 1).replaceAll(/[^\x20-\x7E]/gu, escapeOf)
  if (escaped.length <= longest) return escaped
  return longest <= CUT.length ? escaped.slice(0, longest) : escaped.slice(0, longest - CUT.length) + CUT
}

const CUT = '...'

/** What comes at the end matters more: a path of a file, say. */
export function shownEnd(text: string, longest: number): string {
  const escaped = text.slice(-longest - 1).replaceAll(/[^\x20-\x7E]/gu, escapeOf)
  return escaped.length <= longest && text.length <= longest ? escaped : CUT + escaped.slice(CUT.length - longest)
}

function escapeOf(char: string): string {
  const code = char.codePointAt(0)!
  return code <= 0xFF ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
}
