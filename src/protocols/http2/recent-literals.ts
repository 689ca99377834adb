/**
 * Literals of an origin as they came last, so that one that comes again byte by byte is not read again: many origins, nginx among them,
 * index none of their fields, and say the same type, server and date in each answer. An entry is found by its bytes, which name and
 * value follow from, the name given by the static table or written out.
 *
 * For origins alone: from how soon an answer came a client could guess what other clients of one connection had sent.
 * Bounds: 64 entries of 128 bytes. Tests: hpack-decoder.test.ts
 */
import type { HpackField } from './hpack-field.ts'

/** A power of two. */
const ENTRIES = 64
/** A longer one is seldom said twice. */
const MAX_BYTES = 128

export class RecentLiterals {
  /** Made with the first that is kept: most connections bring some, those that only wait bring none. */
  #fields: (HpackField | null)[] | null = null
  /** What each was read from, MAX_BYTES apart. */
  #bytes: Uint8Array = NOTHING
  #lengths: Uint8Array = NOTHING

  find(bytes: Uint8Array, from: number, to: number): HpackField | null {
    const fields = this.#fields, length = to - from
    if (fields === null || length > MAX_BYTES) return null
    const entry = entryOf(bytes, from, to), kept = this.#bytes
    if (this.#lengths[entry] !== length) return null
    const start = entry * MAX_BYTES
    for (let at = 0; at < length; at++) if (kept[start + at] !== bytes[from + at]) return null
    return fields[entry]!
  }

  /** @param field what [from, to) says */
  keep(bytes: Uint8Array, from: number, to: number, field: HpackField): void {
    if (to - from > MAX_BYTES) return
    if (this.#fields === null) {
      this.#fields = Array.from({ length: ENTRIES }, () => null)
      this.#bytes = new Uint8Array(ENTRIES * MAX_BYTES)
      this.#lengths = new Uint8Array(ENTRIES)
    }
    const entry = entryOf(bytes, from, to), start = entry * MAX_BYTES
    for (let at = from; at < to; at++) this.#bytes[start + at - from] = bytes[at]!
    this.#lengths[entry] = to - from
    this.#fields[entry] = field
  }
}

const NOTHING = new Uint8Array(0)

/** Where it would be: by its index, its length and a few of its bytes. */
function entryOf(bytes: Uint8Array, from: number, to: number): number {
  const middle = bytes[(from + to) >>> 1]!
  return (bytes[from]! * 7 + (to - from) * 5 + middle * 3 + bytes[to - 1]!) & (ENTRIES - 1)
}
