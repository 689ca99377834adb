/**
 * The Huffman code of HPACK (RFC 7541 5.2, appendix B), both ways.
 *
 * The code is canonical: codes of one length follow one another in the order of their symbols, so that the lengths say all.
 * Decoding looks at eight bits at a time: a table for each prefix of whole bytes, which names a symbol or the next table.
 */

/** Bits of the code of each byte. */
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
] as const
const MAX_LENGTH = 30

const LENGTH_OF = Uint8Array.from(LENGTHS)
const CODE_OF = new Uint32Array(256)

/** For each table and the next eight bits: a symbol with the bits that it takes << 8, NEXT with a table, or 0: nothing has that code. */
let decoding = new Uint16Array(256)
const NEXT = 0x8000

function fillTables(): void {
  let tables = 1, code = 0
  for (let length = 1; length <= MAX_LENGTH; length++) {
    for (let symbol = 0; symbol < 256; symbol++) {
      if (LENGTH_OF[symbol] !== length) continue
      CODE_OF[symbol] = code
      let table = 0, left = length
      for (; left > 8; left -= 8) {
        const at = table * 256 + ((code >>> (left - 8)) & 0xff)
        if (decoding[at] === 0) {
          decoding[at] = NEXT | tables++
          const longer = new Uint16Array(tables * 256)
          longer.set(decoding)
          decoding = longer
        }
        table = decoding[at]! & ~NEXT
      }
      const first = table * 256 + ((code << (8 - left)) & 0xff)
      decoding.fill(symbol | (left << 8), first, first + (1 << (8 - left)))
      code++
    }
    code *= 2
  }
}
fillTables()

/** What [from, to) may become at most: the shortest code has five bits. */
export function huffmanDecodedMax(length: number): number { return (length * 8 / 5) >>> 0 }

/**
 * Decodes [from, to) into `out`, which has room for it, from `at` on.
 * @returns where it ends there; -1 when it is no such code: the end symbol, or padding that is long or not of ones (RFC 7541 5.2)
 */
export function huffmanDecode(bytes: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  const table = decoding
  let base = 0, window = 0, bits = 0
  for (let i = from; i < to; i++) {
    window = ((window << 8) | bytes[i]!) & 0xffff
    bits += 8
    while (bits >= 8) {
      const entry = table[base + ((window >>> (bits - 8)) & 0xff)]!
      if (entry >= NEXT) {
        base = (entry & ~NEXT) << 8
        bits -= 8
      } else if (entry === 0) return -1
      else {
        out[at++] = entry & 0xff
        bits -= entry >>> 8
        base = 0
      }
    }
  }
  while (bits > 0) {
    const entry = table[base + (((window << (8 - bits)) | (0xff >>> bits)) & 0xff)]!
    if (entry === 0 || entry >= NEXT || (entry >>> 8) > bits) break
    out[at++] = entry & 0xff
    bits -= entry >>> 8
    base = 0
  }
  const padding = (1 << bits) - 1
  return base === 0 && (window & padding) === padding ? at : -1
}

/** Bytes that latin1 text takes in this code. */
export function huffmanLength(text: string): number {
  let bits = 0
  for (let i = 0; i < text.length; i++) bits += LENGTH_OF[text.charCodeAt(i) & 0xff]!
  return (bits + 7) >>> 3
}

/** Encodes latin1 text into `out`, which has room for it. Returns where it ends there. */
export function huffmanEncode(text: string, out: Uint8Array, at: number): number {
  let window = 0, bits = 0
  for (let i = 0; i < text.length; i++) {
    const byte = text.charCodeAt(i) & 0xff
    let code = CODE_OF[byte]!, length = LENGTH_OF[byte]!
    if (length > 24) {
      // With what is left of the one before it would not fit 32 bits.
      window = (window << (length - 16)) | (code >>> 16)
      bits += length - 16
      code &= 0xffff
      length = 16
      while (bits >= 8) out[at++] = (window >>> (bits -= 8)) & 0xff
    }
    window = (window << length) | code
    bits += length
    while (bits >= 8) out[at++] = (window >>> (bits -= 8)) & 0xff
  }
  if (bits > 0) out[at++] = ((window << (8 - bits)) | (0xff >>> bits)) & 0xff
  return at
}
