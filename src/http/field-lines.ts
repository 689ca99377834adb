/**
 * Field lines that the proxy adds to a head, as values: an HTTP/1 session appends their text, an HTTP/2 session encodes
 * names and values. Names and values are checked where they come from; nothing is checked here.
 *
 * A base holds what is the same for every message of a connection and is built once; its text is kept. What differs
 * from message to message is added behind it, in one object that is used again and again.
 */
export class FieldLines {
  /** What no head gets anything from. Nothing may be added to it. */
  static readonly NONE: FieldLines = new FieldLines()

  /** Name, value, name, value. Entries from `#own` on are left over from an earlier message. */
  readonly #fields: string[]
  #own: number
  #base: FieldLines | null = null
  /** The own lines as HTTP/1 writes them; null: not asked for since the last change. */
  #text: string | null = null

  /** @param fields name, value, name, value: kept, and given away by the caller */
  constructor(fields: string[] = []) {
    this.#fields = fields
    this.#own = fields.length
  }

  /** Forgets its own lines and starts behind those of `base`. */
  startFrom(base: FieldLines): this {
    this.#base = base
    this.#own = 0
    this.#text = null
    return this
  }

  add(name: string, value: string): this {
    const fields = this.#fields
    fields[this.#own++] = name
    fields[this.#own++] = value
    this.#text = null
    return this
  }

  /** As HTTP/1 writes them (RFC 9112 5), each with its CRLF; '' when there is none. */
  get text(): string {
    const own = this.#text ??= this.#write()
    return this.#base === null ? own : this.#base.text + own
  }

  #write(): string {
    const fields = this.#fields
    let text = ''
    for (let at = 0; at < this.#own; at += 2) text += fields[at]! + ': ' + fields[at + 1]! + '\r\n'
    return text
  }

  /** Number of lines, those of the base included. */
  get size(): number { return (this.#base === null ? 0 : this.#base.size) + this.#own / 2 }

  nameAt(index: number): string {
    const base = this.#base, inherited = base === null ? 0 : base.size
    return index < inherited ? base!.nameAt(index) : this.#fields[2 * (index - inherited)]!
  }

  valueAt(index: number): string {
    const base = this.#base, inherited = base === null ? 0 : base.size
    return index < inherited ? base!.valueAt(index) : this.#fields[2 * (index - inherited) + 1]!
  }
}
