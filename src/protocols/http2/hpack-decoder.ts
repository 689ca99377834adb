/**
 * Reads header blocks of one connection (RFC 7541): each whole, in the order in which they came, those that nobody wants as
 * well, since the dynamic table is made of all of them.
 *
 * Nothing that a block names is copied: the fields of either table are handed on as they are, so that a block of a few bytes
 * that names a large field a thousand times costs its receiver a thousand additions. What may be kept of it is the receiver's
 * to decide. Bounds: the table, in bytes with 32 for each field; integers, of four bytes behind their prefix.
 */
import { HpackField, STATIC_TABLE } from './hpack-field.ts'
import { huffmanDecode, huffmanDecodedMax } from './huffman.ts'
import type { RecentLiterals } from './recent-literals.ts'

export interface HpackSink {
  onField(field: HpackField): void
}

const STATIC_LENGTH = STATIC_TABLE.length
/** RFC 7541 4.2: a change of the limit is said once, or as the smallest and the last. */
const MAX_SIZE_UPDATES = 2
/** Of an integer behind its prefix: more than any header block has bytes. */
const MAX_INTEGER_BYTES = 4

/** For text in Huffman's code: all is read within one call. */
let scratch = Buffer.allocUnsafeSlow(4096)

export class HpackDecoder {
  /** What this side has announced. */
  readonly #limit: number
  #maxSize: number
  /** A ring: the newest is before `#inserted`. */
  #ring: (HpackField | null)[]
  #mask: number
  #inserted = 0
  #length = 0
  size = 0
  readonly #recent: RecentLiterals | null
  #at = 0
  #to = 0

  /**
   * @param limit of the dynamic table, as SETTINGS_HEADER_TABLE_SIZE says it, in bytes
   * @param recent for a side that may be trusted to say the same again and again; null: each literal is read for itself
   */
  constructor(limit = 4096, recent: RecentLiterals | null = null) {
    this.#limit = this.#maxSize = limit
    this.#recent = recent
    // Most connections bring a few fields.
    this.#ring = Array.from({ length: 16 }, () => null)
    this.#mask = 15
  }

  /** Fields in the dynamic table. */
  get length(): number { return this.#length }

  /** By its index in both tables, from 1; null: there is none, as for what is no integer. */
  fieldAt(index: number): HpackField | null {
    if (index <= STATIC_LENGTH) return index < 1 ? null : STATIC_TABLE[index - 1]!
    const back = index - STATIC_LENGTH
    return back > this.#length ? null : this.#ring[(this.#inserted - back) & this.#mask]!
  }

  /** Reads a whole header block. Returns false when it is none: the connection cannot go on (COMPRESSION_ERROR). */
  decode(bytes: Buffer, from: number, to: number, sink: HpackSink): boolean {
    this.#at = from
    this.#to = to
    let updates = 0, begun = false
    while (this.#at < to) {
      const first = bytes[this.#at]!
      if (first >= 0x80) {
        begun = true
        const field = this.fieldAt(this.#integer(bytes, 0x7f))
        if (field === null) return false
        sink.onField(field)
      } else if (first >= 0x40) {
        begun = true
        const field = this.#literal(bytes, 0x3f)
        if (field === null) return false
        this.#insert(field)
        sink.onField(field)
      } else if (first >= 0x20) {
        const size = this.#integer(bytes, 0x1f)
        if (begun || ++updates > MAX_SIZE_UPDATES || size === -1 || size > this.#limit) return false
        this.#maxSize = size
        this.#evict(0)
      } else {
        // Without indexing, or never to be indexed: the next hop is told the same by its own rules.
        begun = true
        const field = this.#recent === null || first >= 0x10 ? this.#literal(bytes, 0x0f) : this.#again(bytes, this.#recent)
        if (field === null) return false
        sink.onField(field)
      }
    }
    return true
  }

  /** @returns -1 when it does not end here, or is longer than it may be */
  #integer(bytes: Buffer, prefix: number): number {
    let value = bytes[this.#at++]! & prefix
    if (value < prefix) return value
    for (let shift = 0; shift < MAX_INTEGER_BYTES * 7; shift += 7) {
      if (this.#at === this.#to) return -1
      const byte = bytes[this.#at++]!
      value += (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    return -1
  }

  /** A literal without indexing that may have come before, byte by byte. */
  #again(bytes: Buffer, recent: RecentLiterals): HpackField | null {
    const from = this.#at, index = this.#integer(bytes, 0x0f), textAt = this.#at
    // What the index of a dynamic entry names changes.
    if (index > STATIC_LENGTH || index === -1 || (index === 0 && !this.#skipText(bytes)) || !this.#skipText(bytes)) {
      this.#at = from
      return this.#literal(bytes, 0x0f)
    }
    const to = this.#at, known = recent.find(bytes, from, to)
    if (known !== null) return known
    this.#at = textAt
    const field = this.#literalOf(bytes, index)
    if (field !== null) recent.keep(bytes, from, to, field)
    return field
  }

  /** @returns false when it does not end here */
  #skipText(bytes: Buffer): boolean {
    if (this.#at >= this.#to) return false
    const length = this.#integer(bytes, 0x7f)
    this.#at += length
    return length !== -1 && this.#at <= this.#to
  }

  #literal(bytes: Buffer, prefix: number): HpackField | null { return this.#literalOf(bytes, this.#integer(bytes, prefix)) }

  /** Behind the index of its name. */
  #literalOf(bytes: Buffer, index: number): HpackField | null {
    let like: HpackField | null = null, name: string | null
    if (index === 0) name = this.#text(bytes)
    else {
      like = index === -1 ? null : this.fieldAt(index)
      name = like === null ? null : like.name
    }
    if (name === null) return null
    const value = this.#text(bytes)
    return value === null ? null : new HpackField(name, value, like)
  }

  #text(bytes: Buffer): string | null {
    if (this.#at === this.#to) return null
    const coded = bytes[this.#at]! >= 0x80, length = this.#integer(bytes, 0x7f), from = this.#at, end = from + length
    if (length === -1 || end > this.#to) return null
    this.#at = end
    if (!coded) return bytes.latin1Slice(from, end)
    const most = huffmanDecodedMax(length)
    if (most > scratch.length) scratch = Buffer.allocUnsafeSlow(most * 2)
    const decoded = huffmanDecode(bytes, from, end, scratch, 0)
    return decoded === -1 ? null : scratch.latin1Slice(0, decoded)
  }

  #insert(field: HpackField): void {
    // One that is larger than the table empties it (RFC 7541 4.4).
    this.#evict(field.size)
    if (field.size > this.#maxSize) return
    if (this.#length > this.#mask) this.#grow()
    this.#ring[this.#inserted++ & this.#mask] = field
    this.#length++
    this.size += field.size
  }

  #evict(room: number): void {
    while (this.#length > 0 && this.size + room > this.#maxSize) {
      const oldest = (this.#inserted - this.#length) & this.#mask
      this.size -= this.#ring[oldest]!.size
      this.#ring[oldest] = null
      this.#length--
    }
  }

  /** Never beyond what the limit has room for, twice over: a field counts for 32 bytes at least. */
  #grow(): void {
    const longer: (HpackField | null)[] = Array.from({ length: (this.#mask + 1) * 2 }, () => null), mask = longer.length - 1
    for (let back = this.#length; back > 0; back--) {
      longer[(this.#inserted - back) & mask] = this.#ring[(this.#inserted - back) & this.#mask]!
    }
    this.#ring = longer
    this.#mask = mask
  }
}

