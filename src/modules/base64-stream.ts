/**
 * Base64 (RFC 4648 4) that comes in pieces, cut anywhere. Padding may stand behind each group of four and not only at the end: whoever
 * encodes message by message, as clients of gRPC-Web do, pads each of them. Nothing else is passed over, blanks and line breaks included.
 */

/** By the character: 1 for one of the alphabet, 2 for padding. */
const KINDS: Readonly<Uint8Array> = (() => {
  const kinds = new Uint8Array(256)
  for (const char of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/') kinds[char.charCodeAt(0)] = 1
  kinds[0x3d] = 2
  return kinds
})()

const NOTHING = Buffer.alloc(0)

export class Base64Stream {
  /** Of a group that is not here whole: up to three characters. */
  #rest: Buffer = NOTHING

  /** All groups were whole so far. */
  get whole(): boolean { return this.#rest.length === 0 }

  /** The bytes of the groups that are whole by now; null when it is no base64. */
  decode(piece: Buffer): Buffer | null {
    const text = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]), end = text.length - text.length % 4
    // A piece is borrowed.
    this.#rest = end === text.length ? NOTHING : Buffer.from(text.subarray(end))
    const bytes = Buffer.allocUnsafe(end / 4 * 3)
    let length = 0, from = 0
    for (let at = 0; at < end; at += 4) {
      const kinds = KINDS[text[at]!]! * KINDS[text[at + 1]!]!, third = KINDS[text[at + 2]!]!, fourth = KINDS[text[at + 3]!]!
      if (kinds !== 1 || third === 0 || fourth === 0 || (third === 2 && fourth !== 2)) return null
      if (fourth === 1) continue
      length += bytes.write(text.latin1Slice(from, at + 4), length, 'base64')
      from = at + 4
    }
    if (from < end) length += bytes.write(text.latin1Slice(from, end), length, 'base64')
    return bytes.subarray(0, length)
  }
}
