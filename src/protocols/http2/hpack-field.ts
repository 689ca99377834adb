/**
 * One field as HPACK carries it, and the static table (RFC 7541 appendix A). What can be said of a name and a value alone is
 * found out once, when the field is made, and not again each time that an index names it.
 */
import { FieldKind, TOKEN_CHAR, VALUE_CHAR, fieldKind } from '../../http/header-map.ts'

/** What a name starting with a colon stands for (RFC 9113 8.3). */
export const Pseudo = { None: 0, Method: 1, Scheme: 2, Path: 3, Authority: 4, Protocol: 5, Status: 6, Unknown: 7 } as const
export type Pseudo = (typeof Pseudo)[keyof typeof Pseudo]

/** What makes a message with such a field malformed (RFC 9113 8.2), or wants a closer look. */
export const Flaw = {
  None: 0,
  /** No token in lower case. */
  Name: 1,
  /** A control character, or a blank at either end. */
  Value: 2,
  /** A field of the connection. */
  Connection: 4,
  /** `_` in its name: no fault by itself. */
  Underscored: 8,
} as const

/** Every field counts for so much more than its bytes (RFC 7541 4.1). */
export const FIELD_OVERHEAD = 32

const PSEUDO: Readonly<Record<string, Pseudo>> = Object.assign(Object.create(null) as Record<string, Pseudo>, {
  ':method': Pseudo.Method, ':scheme': Pseudo.Scheme, ':path': Pseudo.Path, ':authority': Pseudo.Authority, ':protocol': Pseudo.Protocol,
  ':status': Pseudo.Status,
})

export class HpackField {
  readonly name: string
  readonly value: string
  /** As HTTP/1 writes it, with its CRLF. */
  readonly line: string
  /** What it counts for in tables and lists. */
  readonly size: number
  readonly kind: FieldKind
  readonly pseudo: Pseudo
  /** Of its name alone. */
  readonly nameFlaws: number
  readonly flaws: number
  readonly isCookie: boolean

  /** @param like a field of the same name; null: the name is looked at */
  constructor(name: string, value: string, like: HpackField | null) {
    this.name = name
    this.value = value
    this.line = name + ': ' + value + '\r\n'
    this.size = name.length + value.length + FIELD_OVERHEAD
    if (like === null) {
      this.kind = fieldKind(name, 0, name.length)
      this.pseudo = name.charCodeAt(0) === 0x3a ? PSEUDO[name] ?? Pseudo.Unknown : Pseudo.None
      this.nameFlaws = this.pseudo === Pseudo.None ? flawsOfName(name, this.kind) : Flaw.None
      this.isCookie = name === 'cookie'
    } else {
      this.kind = like.kind
      this.pseudo = like.pseudo
      this.nameFlaws = like.nameFlaws
      this.isCookie = like.isCookie
    }
    this.flaws = this.nameFlaws | flawsOfValue(value)
  }
}

function flawsOfName(name: string, kind: FieldKind): number {
  if (name === '') return Flaw.Name
  let flaws: number = Flaw.None
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i)
    if (TOKEN_CHAR[code] === 0 || (code >= 0x41 && code <= 0x5a)) return Flaw.Name
    if (code === 0x5f) flaws = Flaw.Underscored
  }
  switch (kind) {
    case FieldKind.Connection: case FieldKind.KeepAlive: case FieldKind.ProxyConnection: case FieldKind.TransferEncoding:
    case FieldKind.Upgrade: case FieldKind.Http2Settings: return flaws | Flaw.Connection
    default: return flaws
  }
}

function flawsOfValue(value: string): number {
  const { length } = value
  if (length === 0) return Flaw.None
  if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(length - 1))) return Flaw.Value
  for (let i = 0; i < length; i++) if (VALUE_CHAR[value.charCodeAt(i)] === 0) return Flaw.Value
  return Flaw.None
}

function isBlank(code: number): boolean { return code === 0x20 || code === 0x09 }

/** Its first entry has index 1. */
export const STATIC_TABLE: readonly HpackField[] = [
  [':authority', ''], [':method', 'GET'], [':method', 'POST'], [':path', '/'], [':path', '/index.html'], [':scheme', 'http'],
  [':scheme', 'https'], [':status', '200'], [':status', '204'], [':status', '206'], [':status', '304'], [':status', '400'],
  [':status', '404'], [':status', '500'], ['accept-charset', ''], ['accept-encoding', 'gzip, deflate'], ['accept-language', ''],
  ['accept-ranges', ''], ['accept', ''], ['access-control-allow-origin', ''], ['age', ''], ['allow', ''], ['authorization', ''],
  ['cache-control', ''], ['content-disposition', ''], ['content-encoding', ''], ['content-language', ''], ['content-length', ''],
  ['content-location', ''], ['content-range', ''], ['content-type', ''], ['cookie', ''], ['date', ''], ['etag', ''], ['expect', ''],
  ['expires', ''], ['from', ''], ['host', ''], ['if-match', ''], ['if-modified-since', ''], ['if-none-match', ''], ['if-range', ''],
  ['if-unmodified-since', ''], ['last-modified', ''], ['link', ''], ['location', ''], ['max-forwards', ''], ['proxy-authenticate', ''],
  ['proxy-authorization', ''], ['range', ''], ['referer', ''], ['refresh', ''], ['retry-after', ''], ['server', ''], ['set-cookie', ''],
  ['strict-transport-security', ''], ['transfer-encoding', ''], ['user-agent', ''], ['vary', ''], ['via', ''], ['www-authenticate', ''],
].map(([name, value]) => new HpackField(name!, value!, null))
