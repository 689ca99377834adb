/**
 * Field lines that the proxy adds to a head, as values: an HTTP/1 session appends their text, an HTTP/2 session encodes
 * names and values. Names and values are checked where they come from; nothing is checked here.
 *
 * A base holds what is the same for every message of a connection and is built once, text included. What differs from
 * message to message is added behind it, in one object that is used again and again.
 */

/** A name with what HTTP/1 writes before a value: it is joined once, and not for every message. */
export class FieldName {
  readonly name: string
  readonly text: string
  constructor(name: string) {
    this.name = name
    this.text = name + ': '
  }
}

export class FieldLines {
  /** What no head gets anything from. Nothing may be added to it. */
  static readonly NONE: FieldLines = new FieldLines()

  /** Entries from `#own` on are left over from an earlier message. */
  readonly #names: FieldName[]
  readonly #values: string[]
  #own: number
  #base: FieldLines | null = null
  /** All lines as HTTP/1 writes them (RFC 9112 5), each with its CRLF; '' when there is none. */
  text = ''

  /** @param names and values of its lines: kept, and given away by the caller */
  constructor(names: FieldName[] = [], values: string[] = []) {
    this.#names = names
    this.#values = values
    this.#own = names.length
    for (let at = 0; at < names.length; at++) this.text += names[at]!.text + values[at]! + '\r\n'
  }

  /** Forgets its own lines and starts behind those of `base`. */
  startFrom(base: FieldLines): this {
    this.#base = base
    this.#own = 0
    this.text = base.text
    return this
  }

  add(name: FieldName, value: string): this {
    const at = this.#own++
    this.#names[at] = name
    this.#values[at] = value
    this.text += name.text + value + '\r\n'
    return this
  }

  /** Number of lines, those of the base included. */
  get size(): number { return (this.#base === null ? 0 : this.#base.size) + this.#own }

  nameAt(index: number): string {
    const base = this.#base, inherited = base === null ? 0 : base.size
    return index < inherited ? base!.nameAt(index) : this.#names[index - inherited]!.name
  }

  valueAt(index: number): string {
    const base = this.#base, inherited = base === null ? 0 : base.size
    return index < inherited ? base!.valueAt(index) : this.#values[index - inherited]!
  }
}
