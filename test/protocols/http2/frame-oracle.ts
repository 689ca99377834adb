/**
 * Readers of HTTP/2 that share no code with ours and are as plain as can be: what the bytes of a connection say of each stream's body,
 * and what a header block says. For fuzzers, which compare ours with them.
 */
import { STATIC_TABLE } from '../../../src/protocols/http2/hpack-field.ts'
import { huffmanDecode } from '../../../src/protocols/http2/huffman.ts'

/** DATA by stream, without padding, up to the first frame that cannot be told apart any more. */
export function bodiesOf(bytes: Buffer): Map<number, string> {
  const bodies = new Map<number, string>()
  for (let at = 0; at + 9 <= bytes.length;) {
    const length = bytes.readUIntBE(at, 3), type = bytes[at + 3]!, flags = bytes[at + 4]!, stream = bytes.readUInt32BE(at + 5) & 0x7fff_ffff
    let body = bytes.subarray(at + 9, at + 9 + length)
    at += 9 + length
    if (type !== 0) continue
    if ((flags & 8) !== 0 && body.length > 0) body = body.subarray(1, Math.max(1, Math.min(body.length, length - body[0]!)))
    bodies.set(stream, (bodies.get(stream) ?? '') + body.toString('latin1'))
  }
  return bodies
}

type Pair = readonly [name: string, value: string]

/** HPACK by the letter of RFC 7541, with the bounds that ours says it has. */
export class PlainHpack {
  #table: Pair[] = []
  #max = 4096
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0

  get size(): number { return this.#table.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0) }

  /** @returns null when it is no block */
  decode(block: Buffer): Pair[] | null {
    this.#bytes = block
    this.#at = 0
    try { return this.#fields() } catch (error) {
      if (error instanceof RangeError) return null
      throw error
    }
  }

  #fields(): Pair[] {
    const fields: Pair[] = []
    let updates = 0
    while (this.#at < this.#bytes.length) {
      const first = this.#bytes[this.#at]!
      if ((first & 0x80) !== 0) fields.push(this.#entry(this.#integer(7)))
      else if ((first & 0xc0) === 0x40) {
        const field = this.#literal(6)
        fields.push(field)
        this.#table.unshift(field)
        this.#evict()
      } else if ((first & 0xe0) === 0x20) {
        const size = this.#integer(5)
        if (fields.length > 0 || ++updates > 2 || size > 4096) throw new RangeError('a size')
        this.#max = size
        this.#evict()
      } else fields.push(this.#literal(4))
    }
    return fields
  }

  #evict(): void { while (this.size > this.#max) this.#table.pop() }

  #entry(index: number): Pair {
    const known = STATIC_TABLE[index - 1], field = known === undefined ? this.#table[index - 1 - STATIC_TABLE.length] : undefined
    if (known !== undefined) return [known.name, known.value]
    if (field === undefined) throw new RangeError('an index')
    return field
  }

  #literal(prefix: number): Pair {
    const index = this.#integer(prefix), name = index === 0 ? this.#text() : this.#entry(index)[0]
    return [name, this.#text()]
  }

  #byte(): number {
    if (this.#at >= this.#bytes.length) throw new RangeError('the end')
    return this.#bytes[this.#at++]!
  }

  #integer(prefix: number): number {
    const most = 2 ** prefix - 1, first = this.#byte() & most
    if (first < most) return first
    let value = most
    for (let power = 0; power < 4; power++) {
      const byte = this.#byte()
      value += (byte % 128) * 128 ** power
      if (byte < 128) return value
    }
    throw new RangeError('an integer')
  }

  #text(): string {
    const coded = ((this.#bytes[this.#at] ?? 0) & 0x80) !== 0, length = this.#integer(7), from = this.#at
    if (from + length > this.#bytes.length) throw new RangeError('a text')
    this.#at += length
    if (!coded) return this.#bytes.toString('latin1', from, this.#at)
    const out = Buffer.alloc(length * 2 + 1), to = huffmanDecode(this.#bytes, from, this.#at, out, 0)
    if (to === -1) throw new RangeError('a code')
    return out.toString('latin1', 0, to)
  }
}
