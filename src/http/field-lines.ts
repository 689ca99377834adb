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

  readonly #names: string[] = []
  readonly #values: string[] = []
  #own = 0
  #base: FieldLines | null = null
  /** The own lines as HTTP/1 writes them, each with its CRLF. */
  #text = ''

  static of(...fields: readonly (readonly [name: string, value: string])[]): FieldLines {
    const lines = new FieldLines()
    for (const [name, value] of fields) lines.add(name, value)
    return lines
  }

  /** Forgets its own lines and starts behind those of `base`. */
  startFrom(base: FieldLines): this {
    this.#base = base
    this.#own = 0
    this.#text = ''
    return this
  }

  add(name: string, value: string): this {
    this.#names[this.#own] = name
    this.#values[this.#own] = value
    this.#own++
    this.#text += name + ': ' + value + '\r\n'
    return this
  }

  /** As HTTP/1 writes them (RFC 9112 5), each with its CRLF; '' when there is none. */
  get text(): string { return this.#base === null ? this.#text : this.#base.text + this.#text }

  /** Number of lines, those of the base included. */
  get size(): number { return (this.#base === null ? 0 : this.#base.size) + this.#own }

  nameAt(index: number): string {
    const base = this.#base, inherited = base === null ? 0 : base.size
    return index < inherited ? base!.nameAt(index) : this.#names[index - inherited]!
  }

  valueAt(index: number): string {
    const base = this.#base, inherited = base === null ? 0 : base.size
    return index < inherited ? base!.valueAt(index) : this.#values[index - inherited]!
  }
}
