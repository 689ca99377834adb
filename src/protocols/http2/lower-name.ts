/** Field names in lower case, as HTTP/2 has them (RFC 9113 8.2.1). */
import { asciiLower } from '../../http/header-map.ts'

/** Names that are known by heart: more than those in use, and few enough that nobody fills a process with them. */
const MAX_KNOWN = 512
/** A longer one is no name that comes again. */
const MAX_LENGTH = 64

/** By what was written. Nothing is ever taken out. */
const known = new Map<string, string>()

/** The same string each time, so that it is hashed once, and not for every head. */
export function lowerName(name: string): string {
  const found = known.get(name)
  if (found !== undefined) return found
  const lower = asciiLower(name)
  if (known.size < MAX_KNOWN && name.length <= MAX_LENGTH) known.set(name, lower)
  return lower
}
