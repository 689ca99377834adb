/**
 * An ordered, case-preserving store of field lines, cheap to forward untouched.
 *
 * A head is read once into one latin1 string; the map is that string plus, for each field, where its name and value
 * stand in it. A name or value is cut out when it is asked for, and a head that was not changed is written back as the runs of
 * text between the fields that are left out. What a filter sets is kept beside it, checked when it is set: only a parser
 * can put lines in unseen (`receivedFields`), so that every map may be written as it is.
 *
 *   #text   GET / HTTP/1.1␍␊Host: a.example␍␊Accept: x␍␊␍␊
 *   #spans  [ nameStart nameEnd valueStart valueEnd next kind ] for each field; `next` is where the line behind it starts
 *           nameEnd -1: the name is #strings[nameStart].  valueEnd -1: the value is #strings[valueStart].
 *
 * Names compare by ASCII case only: U+212A (Kelvin sign) is not a k here. Values are latin1; what is set is refused
 * when it holds CR, LF, NUL or another control, or anything above U+00FF (whose low byte could be one).
 */

import { parseContentLength } from './content-length.ts'

/** Field names that the proxy itself looks at, as bit positions of `mask`. 0 is every other name. Loop is CDN-Loop and our own. */
export const FieldKind = {
  Other: 0, Host: 1, ContentLength: 2, TransferEncoding: 3, Connection: 4, KeepAlive: 5, Upgrade: 6, Expect: 7, Te: 8,
  Trailer: 9, ProxyConnection: 10, ProxyAuthentication: 11, Http2Settings: 12, Via: 13, Forwarded: 14, XForwarded: 15,
  XRealIp: 16, XRequestId: 17, Date: 18, UserAgent: 19, Loop: 20, Referer: 21,
  ContentType: 22,
} as const
export type FieldKind = (typeof FieldKind)[keyof typeof FieldKind]

/**
 * Kinds that fit the mask: `1 << 32` is `1 << 0` again, so one more would make hop-by-hop fields pass, or others vanish, in
 * silence. Fields that are looked up in few requests, and never skipped, need no kind.
 */
const MAX_KIND = 31
for (const [name, kind] of Object.entries(FieldKind)) {
  if (kind <= MAX_KIND) continue
  throw new RangeError(`FieldKind.${name} is ${kind}, but a mask has ${MAX_KIND + 1} bits; look that field up by its name`)
}

const SPAN = 6

function matches(text: string, start: number, lower: string): boolean {
  for (let i = 0; i < lower.length; i++) {
    let code = text.charCodeAt(start + i)
    if (code >= 0x41 && code <= 0x5a) code += 0x20
    if (code !== lower.charCodeAt(i)) return false
  }
  return true
}

/** Which of the names of FieldKind stands at [start, end) of `text`. */
export function fieldKind(text: string, start: number, end: number): FieldKind {
  switch (end - start) {
    case 2: return matches(text, start, 'te') ? FieldKind.Te : 0
    case 3: return matches(text, start, 'via') ? FieldKind.Via : 0
    case 4: return matches(text, start, 'host') ? FieldKind.Host : matches(text, start, 'date') ? FieldKind.Date : 0
    case 6: return matches(text, start, 'expect') ? FieldKind.Expect : 0
    case 7:
      if (matches(text, start, 'upgrade')) return FieldKind.Upgrade
      return matches(text, start, 'referer') ? FieldKind.Referer : matches(text, start, 'trailer') ? FieldKind.Trailer : 0
    case 8: return matches(text, start, 'cdn-loop') ? FieldKind.Loop : 0
    case 9: return matches(text, start, 'forwarded') ? FieldKind.Forwarded : matches(text, start, 'x-real-ip') ? FieldKind.XRealIp : 0
    case 10:
      if (matches(text, start, 'connection')) return FieldKind.Connection
      if (matches(text, start, 'keep-alive')) return FieldKind.KeepAlive
      return matches(text, start, 'user-agent') ? FieldKind.UserAgent : 0
    case 11: return matches(text, start, 'cirque-loop') ? FieldKind.Loop : 0
    case 12:
      if (matches(text, start, 'content-type')) return FieldKind.ContentType
      return matches(text, start, 'x-request-id') ? FieldKind.XRequestId : 0
    case 14:
      if (matches(text, start, 'content-length')) return FieldKind.ContentLength
      return matches(text, start, 'http2-settings') ? FieldKind.Http2Settings : xForwarded(text, start)
    case 16: return matches(text, start, 'proxy-connection') ? FieldKind.ProxyConnection : xForwarded(text, start)
    case 17: return matches(text, start, 'transfer-encoding') ? FieldKind.TransferEncoding : xForwarded(text, start)
    case 18: return matches(text, start, 'proxy-authenticate') ? FieldKind.ProxyAuthentication : xForwarded(text, start)
    case 19: return matches(text, start, 'proxy-authorization') ? FieldKind.ProxyAuthentication : xForwarded(text, start)
    default: return end - start > 12 ? xForwarded(text, start) : 0
  }
}

/** For names longer than the prefix. */
function xForwarded(text: string, start: number): FieldKind { return matches(text, start, 'x-forwarded-') ? FieldKind.XForwarded : 0 }

/** token = 1*tchar (RFC 9110 5.6.2): 1 for every byte that may stand in a field name or method. */
export const TOKEN_CHAR: Readonly<Uint8Array> = (() => {
  const table = new Uint8Array(256)
  for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") table[char.charCodeAt(0)] = 1
  return table
})()

/** field-vchar, obs-text, SP and HTAB (RFC 9110 5.5): 1 for every byte that may stand in a field value. */
export const VALUE_CHAR: Readonly<Uint8Array> = (() => {
  const table = new Uint8Array(256)
  for (let code = 0x20; code < 0x100; code++) if (code !== 0x7f) table[code] = 1
  table[0x09] = 1
  return table
})()

declare const TOKEN: unique symbol

/** Text that `isToken` was asked about: printable ASCII without blanks, quotes and backslashes. */
export type Token = string & { readonly [TOKEN]: true }

export function isToken(text: string): text is Token {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0xff || TOKEN_CHAR[code] === 0) return false
  }
  return text.length > 0
}

/** @throws TypeError on a name or value that must not be written. */
export function checkField(name: string, value: string): void {
  if (typeof name !== 'string' || !isToken(name)) throw new TypeError(`field name ${JSON.stringify(name)} is not a token`)
  // Something else could become another text each time it is written.
  if (typeof value !== 'string') throw new TypeError(`field ${name}: value is ${typeof value}; use a string`)
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code <= 0xff && VALUE_CHAR[code] === 1) continue
    const what = code > 0xff ? 'a character outside latin1' : 'a control character'
    throw new TypeError(`field ${name}: value has ${what} (U+${code.toString(16).padStart(4, '0')}) at ${i}`)
  }
}

/** A map of fields that a parser found: `text`, `spans` and `mask` as above. Not for applications: nothing is checked. */
export let receivedFields: (text: string, spans: number[], mask: number) => HeaderMap

/**
 * Fields of a head, in their order and as they were written. Names are found in any case; a name may stand in several lines, as
 * Set-Cookie does. What is set is checked: a name that is no token, or a value with CR, LF, NUL, another control or a character above
 * U+00FF, throws a TypeError, so that no field can become two.
 */
export class HeaderMap implements Iterable<[name: string, value: string]> {
  #text = ''
  #spans: number[] = []
  #strings: string[] | null = null
  #mask = 0

  static {
    receivedFields = (text, spans, mask) => {
      const map = new HeaderMap()
      map.#text = text
      map.#spans = spans
      map.#mask = mask
      return map
    }
  }

  /** @internal Bit `1 << kind` for each FieldKind that may be present; a deleted field can leave its bit behind. */
  get mask(): number { return this.#mask }
  /** @internal Something was set or added since a parser made it. */
  get touched(): boolean { return this.#strings !== null }

  /** From pairs or a record, checked. @throws TypeError on a name or value that must not be written. */
  static from(fields: Iterable<readonly [string, string]> | Readonly<Record<string, string | readonly string[]>>): HeaderMap {
    const map = new HeaderMap()
    if (Symbol.iterator in fields) {
      for (const [name, value] of fields as Iterable<readonly [string, string]>) map.append(name, value)
      return map
    }
    for (const [name, value] of Object.entries(fields)) {
      for (const one of Array.isArray(value) ? value as readonly string[] : [value as string]) map.append(name, one)
    }
    return map
  }

  /** Number of field lines. */
  get size(): number { return this.#spans.length / SPAN }

  /** The same fields in a map of its own. */
  clone(): HeaderMap {
    const copy = receivedFields(this.#text, this.#spans.slice(), this.#mask)
    if (this.#strings !== null) copy.#strings = this.#strings.slice()
    return copy
  }

  /** @internal Name of a line. */
  nameAt(index: number): string {
    const spans = this.#spans, at = index * SPAN, end = spans[at + 1]!
    return end === -1 ? this.#strings![spans[at]!]! : this.#text.substring(spans[at]!, end)
  }

  /** @internal Value of a line. */
  valueAt(index: number): string {
    const spans = this.#spans, at = index * SPAN, end = spans[at + 3]!
    return end === -1 ? this.#strings![spans[at + 2]!]! : this.#text.substring(spans[at + 2]!, end)
  }

  /** @internal Kind of a line. */
  kindAt(index: number): FieldKind { return this.#spans[index * SPAN + 5]! as FieldKind }

  #isNamed(at: number, lower: string): boolean {
    const spans = this.#spans, start = spans[at]!, end = spans[at + 1]!
    if (end === -1) {
      const name = this.#strings![start]!
      return name.length === lower.length && matches(name, 0, lower)
    }
    return end - start === lower.length && matches(this.#text, start, lower)
  }

  /** First value of a field; undefined when it is absent. `name` in any case. */
  get(name: string): string | undefined {
    const lower = asciiLower(name)
    for (let at = 0; at < this.#spans.length; at += SPAN) if (this.#isNamed(at, lower)) return this.valueAt(at / SPAN)
    return undefined
  }

  /** Every value of a field, in order. */
  getAll(name: string): string[] {
    const lower = asciiLower(name), values: string[] = []
    for (let at = 0; at < this.#spans.length; at += SPAN) if (this.#isNamed(at, lower)) values.push(this.valueAt(at / SPAN))
    return values
  }

  /** Whether there is such a field. `name` in any case. */
  has(name: string): boolean {
    const lower = asciiLower(name)
    for (let at = 0; at < this.#spans.length; at += SPAN) if (this.#isNamed(at, lower)) return true
    return false
  }

  /** @internal As `has`, of any of those names, which are in lower case, in one walk. */
  hasOneOf(names: readonly string[]): boolean {
    for (let at = 0; at < this.#spans.length; at += SPAN) if (this.#isOneOf(at, names)) return true
    return false
  }

  /** @internal First value of a field that the proxy knows by kind; undefined when absent. */
  getKind(kind: FieldKind): string | undefined {
    if ((this.#mask & (1 << kind)) === 0) return undefined
    for (let at = 5; at < this.#spans.length; at += SPAN) if (this.#spans[at] === kind) return this.valueAt((at - 5) / SPAN)
    return undefined
  }

  /** The number in Content-Length; -1 when it is absent, malformed or repeated. */
  contentLength(): number {
    if ((this.#mask & (1 << FieldKind.ContentLength)) === 0) return -1
    const spans = this.#spans
    let found = -1
    for (let at = 0; at < spans.length; at += SPAN) {
      if (spans[at + 5] !== FieldKind.ContentLength) continue
      if (found !== -1) return -1
      const end = spans[at + 3]!
      const text = end === -1 ? this.#strings![spans[at + 2]!]! : this.#text
      const from = end === -1 ? 0 : spans[at + 2]!, to = end === -1 ? text.length : end
      found = parseContentLength(text, from, to)
      if (found === -1) return -1
    }
    return found
  }

  /** @internal As `has`. */
  hasKind(kind: FieldKind): boolean {
    if ((this.#mask & (1 << kind)) === 0) return false
    for (let at = 5; at < this.#spans.length; at += SPAN) if (this.#spans[at] === kind) return true
    return false
  }

  /** Replaces every line of that name by one, in the place of the first. @throws TypeError on a name or value that must not be written. */
  set(name: string, value: string): this {
    checkField(name, value)
    const lower = asciiLower(name), spans = this.#spans
    let kept = 0, written = false
    for (let at = 0; at < spans.length; at += SPAN) {
      if (!this.#isNamed(at, lower)) kept = this.#move(at, kept)
      else if (!written) {
        kept = this.#move(at, kept)
        spans[kept - 4] = this.#keep(value)
        spans[kept - 3] = -1
        written = true
      }
    }
    this.#cut(kept)
    if (!written) this.#push(name, value)
    return this
  }

  /** Adds a line behind the others. @throws TypeError on a name or value that must not be written. */
  append(name: string, value: string): this {
    checkField(name, value)
    this.#push(name, value)
    return this
  }

  /** Removes every line of that name. Returns whether there was one. */
  delete(name: string): boolean {
    const lower = asciiLower(name), spans = this.#spans
    let kept = 0
    for (let at = 0; at < spans.length; at += SPAN) if (!this.#isNamed(at, lower)) kept = this.#move(at, kept)
    return this.#cut(kept)
  }

  /** @internal Removes every line of those names, which are in lower case. */
  deleteAll(names: ReadonlySet<string>): void {
    const spans = this.#spans
    let kept = 0
    for (let at = 0; at < spans.length; at += SPAN) if (!names.has(asciiLower(this.nameAt(at / SPAN)))) kept = this.#move(at, kept)
    this.#cut(kept)
  }

  /** @internal Removes every line of the kinds whose bit is in `mask`. */
  deleteKinds(mask: number): void {
    const spans = this.#spans
    let kept = 0
    for (let at = 0; at < spans.length; at += SPAN) if ((mask & (1 << spans[at + 5]!)) === 0) kept = this.#move(at, kept)
    this.#cut(kept)
  }

  /** The line at `at` stays, as the one at `to`. Returns where the next one goes. */
  #move(at: number, to: number): number {
    const spans = this.#spans
    if (at !== to) for (let i = 0; i < SPAN; i++) spans[to + i] = spans[at + i]!
    return to + SPAN
  }

  #cut(length: number): boolean {
    if (this.#spans.length === length) return false
    this.#spans.length = length
    return true
  }

  #keep(text: string): number { return (this.#strings ??= []).push(text) - 1 }

  #push(name: string, value: string): void {
    const kind = fieldKind(name, 0, name.length)
    this.#mask |= 1 << kind
    this.#spans.push(this.#keep(name), -1, this.#keep(value), -1, -1, kind)
  }

  /** Name and value of each line, in order. */
  * [Symbol.iterator](): Iterator<[name: string, value: string]> {
    for (let index = 0; index < this.size; index++) yield [this.nameAt(index), this.valueAt(index)]
  }

  /** Names in lower case, values of repeated fields in one array: for logs and tests. */
  toObject(): Record<string, string | string[]> {
    const object: Record<string, string | string[]> = Object.create(null)
    for (const [name, value] of this) {
      const lower = asciiLower(name), known = object[lower]
      object[lower] = known === undefined ? value : Array.isArray(known) ? [...known, value] : [known, value]
    }
    return object
  }

  /**
   * @internal
   * The field lines as they are sent, each with its CRLF, in order, without the kinds whose bit is in `skipMask` and
   * without the (lower-case) names in `skipNames`. Lines that were not changed are copied as whole runs of the received text.
   */
  serialize(skipMask: number, skipNames: readonly string[] | null): string {
    const spans = this.#spans, text = this.#text
    if (this.#strings === null && (this.#mask & skipMask) === 0 && skipNames === null && spans.length !== 0 && this.#isWhole()) {
      return text.substring(spans[0]!, spans[spans.length - 2]!)
    }
    let out = '', runStart = -1, runEnd = -1
    for (let at = 0; at < spans.length; at += SPAN) {
      if ((skipMask & (1 << spans[at + 5]!)) !== 0 || (skipNames !== null && this.#isOneOf(at, skipNames))) continue
      const next = spans[at + 4]!
      if (next !== -1 && spans[at + 3] !== -1) {
        if (runEnd !== spans[at]) {
          if (runStart !== -1) out += text.substring(runStart, runEnd)
          runStart = spans[at]!
        }
        runEnd = next
      } else {
        if (runStart !== -1) out += text.substring(runStart, runEnd)
        runStart = runEnd = -1
        out += this.nameAt(at / SPAN) + ': ' + this.valueAt(at / SPAN) + '\r\n'
      }
    }
    return runStart === -1 ? out : out + text.substring(runStart, runEnd)
  }

  /** No field was removed: the lines are one run. */
  #isWhole(): boolean {
    const spans = this.#spans
    for (let at = SPAN; at < spans.length; at += SPAN) if (spans[at - 2] !== spans[at]) return false
    return true
  }

  #isOneOf(at: number, names: readonly string[]): boolean {
    for (const name of names) if (this.#isNamed(at, name)) return true
    return false
  }
}

/** Lower case for ASCII letters only; returns the same string when there is nothing to do. */
export function asciiLower(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code >= 0x41 && code <= 0x5a) return lowerFrom(text, i)
  }
  return text
}

function lowerFrom(text: string, from: number): string {
  let out = text.substring(0, from)
  for (let i = from; i < text.length; i++) {
    const code = text.charCodeAt(i)
    out += code >= 0x41 && code <= 0x5a ? String.fromCharCode(code + 0x20) : text[i]
  }
  return out
}
