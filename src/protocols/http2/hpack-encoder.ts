/**
 * Writes header blocks of one connection (RFC 7541), with an index of its own: the dynamic table by name, so that a field is
 * found by one look at its name and a few comparisons of values.
 *
 * What a field is worth follows from its name. Secrets are never indexed, here or behind the next hop (7.1.3); what is another
 * one in nearly every message is written out, since it would only push others from the table; all else is indexed.
 * Names are given in lower case, and text is latin1. A block that began has to be sent: the other side's table follows ours.
 */
import { FIELD_OVERHEAD, STATIC_TABLE } from './hpack-field.ts'
import { huffmanEncode, huffmanLength } from './huffman.ts'

export const Indexing = { Index: 0, Without: 1, Never: 2 } as const
export type Indexing = (typeof Indexing)[keyof typeof Indexing]

/** Shorter cookies can be guessed byte by byte by who sees lengths alone (RFC 7541 7.1.3). */
const GUESSABLE_COOKIE = 20
/** Made of hexadecimal digits, another one each time: Huffman's code would save a quarter of their bytes for most of their cost. */
const WRITTEN_PLAIN = new Set(['traceparent', 'x-request-id'])
/** A call that writes text costs as much as this many characters one by one. */
const LONG_TEXT = 48
/** A field of more of the table than this would push out too much of it. */
const LARGEST_SHARE = 3 / 4
/** Values of one name that are compared; more of them are more likely others each time. */
const MAX_COMPARED = 8

/** What is known of a name in every connection. */
interface KnownName {
  /** Where its newest entry of a connection stands. */
  readonly ordinal: number
  /** In the static table; 0: not there. */
  readonly index: number
  /** Values of the static table, each with its index. */
  readonly values: readonly (readonly [value: string, index: number])[]
  readonly indexing: Indexing
  /** Not in Huffman's code. */
  readonly plain: boolean
}

const NEVER_INDEXED = ['authorization', 'proxy-authorization', 'set-cookie']
const WRITTEN_OUT = [
  ':path', 'age', 'content-length', 'content-range', 'etag', 'expires', 'if-match', 'if-modified-since', 'if-none-match', 'if-range',
  'if-unmodified-since', 'last-modified', 'location', 'range', 'retry-after', 'traceparent', 'tracestate', 'x-request-id',
]

const KNOWN: ReadonlyMap<string, KnownName> = (() => {
  const known = new Map<string, KnownName>()
  const add = (name: string, index: number): (readonly [string, number])[] => {
    const values: (readonly [string, number])[] = []
    const indexing = NEVER_INDEXED.includes(name) ? Indexing.Never : WRITTEN_OUT.includes(name) ? Indexing.Without : Indexing.Index
    known.set(name, { ordinal: known.size, index, values, indexing, plain: WRITTEN_PLAIN.has(name) })
    return values
  }
  for (const [at, { name, value }] of STATIC_TABLE.entries()) {
    const values = (known.get(name)?.values as (readonly [string, number])[] | undefined) ?? add(name, at + 1)
    values.push([value, at + 1])
  }
  for (const name of [...NEVER_INDEXED, ...WRITTEN_OUT]) if (!known.has(name)) add(name, 0)
  return known
})()

/** Whether values of this name, in lower case, are others in nearly every message. */
export function isWrittenOut(name: string): boolean { return KNOWN.get(name)?.indexing === Indexing.Without }

/** A field of the dynamic table. */
class Entry {
  readonly name: string
  readonly value: string
  readonly size: number
  /** Counted from the first that was ever inserted. */
  readonly number: number
  /** The one before it with the same name; it may be gone from the table. */
  older: Entry | null
  constructor(name: string, value: string, number: number, older: Entry | null) {
    this.name = name
    this.value = value
    this.size = name.length + value.length + FIELD_OVERHEAD
    this.number = number
    this.older = older
  }
}

export class HpackEncoder {
  /** The blocks that were written since `length` was 0. */
  bytes: Buffer
  length = 0
  /** Fields that were ever inserted. */
  inserted = 0
  size = 0
  /** Of this side. */
  readonly #most: number
  #maxSize: number
  /** Said with the next block; -1: nothing is. */
  #smallest = -1
  #oldest = 0
  readonly #entries: Entry[] = []
  #dropped = 0
  /** Newest entries, by the ordinal of a known name, and by the name of all others. */
  readonly #ofKnown: (Entry | null)[] = Array.from({ length: KNOWN.size }, () => null)
  readonly #ofOthers = new Map<string, Entry>()

  /** @param most bytes of the table, whatever the other side allows @param bytes where blocks are written; replaced when they are longer */
  constructor(most = 4096, bytes: Buffer = Buffer.allocUnsafeSlow(1024)) {
    this.#most = this.#maxSize = most
    this.bytes = bytes
  }

  /** The other side has said how large the table may be (SETTINGS_HEADER_TABLE_SIZE). */
  limitTable(bytes: number): void {
    const size = Math.min(bytes, this.#most)
    if (size === this.#maxSize && this.#smallest === -1) return
    this.#smallest = this.#smallest === -1 ? size : Math.min(this.#smallest, size)
    this.#maxSize = size
    this.#evict(0)
  }

  /** Before the first field of each block (RFC 7541 4.2). */
  begin(): void {
    if (this.#smallest === -1) return
    this.#ensure(16)
    if (this.#smallest < this.#maxSize) this.#integer(this.#smallest, 0x1f, 0x20)
    this.#integer(this.#maxSize, 0x1f, 0x20)
    this.#smallest = -1
  }

  /** @param indexing as the name asks for it, where it is not given */
  field(name: string, value: string, indexing?: Indexing): void {
    const known = KNOWN.get(name), newest = known === undefined ? this.#ofOthers.get(name) ?? null : this.#ofKnown[known.ordinal]!
    const how = indexing ?? (known === undefined ? Indexing.Index : indexingOf(known, name, value))
    this.#ensure(name.length + value.length + 24)
    if (how !== Indexing.Never) {
      const index = this.#find(known, newest, value)
      if (index !== 0) {
        this.#integer(index, 0x7f, 0x80)
        return
      }
    }
    const indexes = how === Indexing.Index && name.length + value.length + FIELD_OVERHEAD <= this.#maxSize * LARGEST_SHARE
    const nameIndex = known !== undefined && known.index !== 0 ? known.index : newest === null ? 0 : this.#indexOf(newest)
    if (indexes) this.#integer(nameIndex, 0x3f, 0x40)
    else this.#integer(nameIndex, 0x0f, how === Indexing.Never ? 0x10 : 0)
    if (nameIndex === 0) this.#text(name)
    if (known !== undefined && known.plain) this.#plainText(value)
    else this.#text(value)
    if (indexes) this.#insert(known, name, value, newest)
  }

  /** What was written before, while nothing was inserted since. */
  copy(from: Buffer, start: number, end: number): void {
    this.#ensure(end - start)
    from.copy(this.bytes, this.length, start, end)
    this.length += end - start
  }

  /** In both tables; 0: nowhere. */
  #find(known: KnownName | undefined, newest: Entry | null, value: string): number {
    if (known !== undefined) for (const [same, index] of known.values) if (same === value && value !== '') return index
    let entry = newest
    for (let compared = 0; entry !== null && entry.number >= this.#oldest && compared < MAX_COMPARED; compared++) {
      if (entry.value === value) return this.#indexOf(entry)
      entry = entry.older
    }
    return 0
  }

  #indexOf(entry: Entry): number { return entry.number < this.#oldest ? 0 : STATIC_TABLE.length + this.inserted - entry.number }

  #insert(known: KnownName | undefined, name: string, value: string, newest: Entry | null): void {
    const older = newest !== null && newest.number < this.#oldest ? null : newest
    const entry = new Entry(name, value, this.inserted, older)
    this.#evict(entry.size)
    this.#entries.push(entry)
    this.inserted++
    this.size += entry.size
    if (known === undefined) this.#ofOthers.set(name, entry)
    else this.#ofKnown[known.ordinal] = entry
  }

  #evict(room: number): void {
    while (this.#oldest < this.inserted && this.size + room > this.#maxSize) {
      const entry = this.#entries[this.#dropped]!
      this.#dropped++
      this.#oldest++
      this.size -= entry.size
      if (this.#ofOthers.get(entry.name) === entry) this.#ofOthers.delete(entry.name)
    }
    // A chain of entries of one name would keep all that are gone.
    if (this.#dropped < 64) return
    this.#entries.splice(0, this.#dropped)
    this.#dropped = 0
    for (const entry of this.#entries) if (entry.older !== null && entry.older.number < this.#oldest) entry.older = null
  }

  #integer(value: number, prefix: number, flags: number): void {
    const bytes = this.bytes
    if (value < prefix) {
      bytes[this.length++] = flags | value
      return
    }
    bytes[this.length++] = flags | prefix
    let rest = value - prefix
    for (; rest >= 0x80; rest >>>= 7) bytes[this.length++] = (rest & 0x7f) | 0x80
    bytes[this.length++] = rest
  }

  #text(text: string): void {
    const coded = huffmanLength(text)
    if (coded <= text.length && text.length > 0) {
      this.#integer(coded, 0x7f, 0x80)
      this.length = huffmanEncode(text, this.bytes, this.length)
      return
    }
    this.#plainText(text)
  }

  #plainText(text: string): void {
    const { length } = text
    this.#integer(length, 0x7f, 0)
    if (length > LONG_TEXT) {
      this.length += this.bytes.latin1Write(text, this.length)
      return
    }
    const bytes = this.bytes
    let at = this.length
    for (let index = 0; index < length; index++) bytes[at++] = text.charCodeAt(index)
    this.length = at
  }

  #ensure(room: number): void {
    if (this.bytes.length - this.length >= room) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.length + room))
    this.bytes.copy(larger, 0, 0, this.length)
    this.bytes = larger
  }
}

function indexingOf({ indexing }: KnownName, name: string, value: string): Indexing {
  return name === 'cookie' && value.length < GUESSABLE_COOKIE ? Indexing.Never : indexing
}
