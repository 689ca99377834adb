/**
 * The fields of one header block as they are decoded: counted first, then looked at, then kept (RFC 9113 8.2, 8.3).
 *
 * They are kept as the text of HTTP/1, so that a head goes on to an origin of that version without being written anew, and to
 * applications as any other. Pseudo-fields are kept apart; `:authority` becomes Host, in the first place; the parts of Cookie
 * become one field again (8.2.3). One object reads all heads, one after the other.
 * Tests: server-connection.test.ts
 */
import { FORBIDDEN_TRAILERS, FORBIDDEN_TRAILER_KINDS } from '../../http/field-rules.ts'
import { FieldKind, receivedFields, type HeaderMap } from '../../http/header-map.ts'
import { Flaw, Pseudo, type HpackField } from './hpack-field.ts'
import type { HpackSink } from './hpack-decoder.ts'

export interface FieldLimits {
  readonly maxHeaderListBytes: number
  readonly maxHeadBytes: number
  readonly maxHeaderLineBytes: number
  readonly maxHeaderCount: number
  readonly maxCookieCrumbs: number
}

export class ReceivedFields implements HpackSink {
  method = ''
  scheme = ''
  path = ''
  authority = ''
  protocol = ''
  status = ''
  /** Bit `1 << Pseudo.x` for each that came. */
  pseudos = 0
  /** From a Host field; '' without one. */
  host = ''
  /** What makes the message malformed; '': nothing. */
  fault = ''
  /** The limit that is passed; '': none is. */
  limit = ''
  /** Of a head that is too large as well, whose sender is told in its words; '' without one. */
  contentType = ''
  /** With 32 for each field, those included that were not kept. */
  listBytes = 0
  underscored = false
  #limits!: FieldLimits
  #trailers = false
  #text = ''
  #spans: number[] = []
  #mask = 0
  #fields = 0
  #crumbs = 0
  #cookie = ''
  #hosts = 0

  /** @param trailers they may have no pseudo-fields, and lose what must not come from there */
  begin(limits: FieldLimits, trailers: boolean): void {
    this.#limits = limits
    this.#trailers = trailers
    this.method = this.scheme = this.path = this.authority = this.protocol = this.status = this.host = ''
    this.fault = this.limit = this.contentType = ''
    this.pseudos = this.listBytes = this.#fields = this.#crumbs = this.#hosts = this.#mask = 0
    this.underscored = false
    this.#text = this.#cookie = ''
    this.#spans = []
  }

  onField(field: HpackField): void {
    const limits = this.#limits
    if ((this.listBytes += field.size) > limits.maxHeaderListBytes) this.limit = 'header-list-bytes'
    if (field.kind === FieldKind.ContentType) this.contentType = field.value
    if (this.limit !== '' || this.fault !== '') return
    if (field.pseudo !== Pseudo.None) {
      this.#pseudo(field)
      return
    }
    if (field.flaws !== Flaw.None) {
      if ((field.flaws & ~Flaw.Underscored) !== 0) {
        this.fault = (field.flaws & Flaw.Name) !== 0 ? 'a field name is no token in lower case'
          : (field.flaws & Flaw.Value) !== 0 ? 'a field value has a control character or a blank at an end'
          : `${field.name} belongs to a connection of HTTP/1`
        return
      }
      this.underscored = true
    }
    if (field.line.length > limits.maxHeaderLineBytes) {
      this.limit = 'header-line-bytes'
      return
    }
    if (this.#fields === 0 && this.#crumbs === 0 && this.authority !== '') this.#keep('Host', this.authority, FieldKind.Host, null)
    if (field.isCookie) {
      if (++this.#crumbs > limits.maxCookieCrumbs) this.limit = 'cookie-crumbs'
      else this.#cookie = this.#crumbs === 1 ? field.value : this.#cookie + '; ' + field.value
      return
    }
    switch (field.kind) {
      case FieldKind.Host:
        if (++this.#hosts > 1) this.fault = 'Host is repeated'
        this.host = field.value
        if (this.authority !== '') return
        break
      case FieldKind.Te:
        if (field.value !== 'trailers') this.fault = 'TE is other than trailers'
        break
    }
    if (++this.#fields > limits.maxHeaderCount) {
      this.limit = 'header-count'
      return
    }
    if (this.#trailers && ((FORBIDDEN_TRAILER_KINDS & (1 << field.kind)) !== 0 || FORBIDDEN_TRAILERS.includes(field.name))) return
    this.#keep(field.name, field.value, field.kind, field.line)
  }

  #pseudo({ pseudo, name, value, flaws }: HpackField): void {
    const bit = 1 << pseudo
    if (pseudo === Pseudo.Unknown || this.#trailers) this.fault = `there is no ${name} here`
    else if ((this.pseudos & bit) !== 0) this.fault = `${name} is repeated`
    else if (this.#fields > 0 || this.#crumbs > 0) this.fault = `${name} comes behind other fields`
    else if (flaws !== Flaw.None) this.fault = `${name} has a control character or a blank at an end`
    if (this.fault !== '') return
    this.pseudos |= bit
    switch (pseudo) {
      case Pseudo.Method: this.method = value; break
      case Pseudo.Scheme: this.scheme = value; break
      case Pseudo.Path: this.path = value; break
      case Pseudo.Authority: this.authority = value; break
      case Pseudo.Protocol: this.protocol = value; break
      case Pseudo.Status: this.status = value; break
    }
  }

  #keep(name: string, value: string, kind: FieldKind, line: string | null): void {
    const start = this.#text.length, valueStart = start + name.length + 2, valueEnd = valueStart + value.length
    this.#text += line ?? name + ': ' + value + '\r\n'
    this.#mask |= 1 << kind
    this.#spans.push(start, start + name.length, valueStart, valueEnd, valueEnd + 2, kind)
    if (this.#text.length > this.#limits.maxHeadBytes) this.limit = 'head-bytes'
  }

  /** What was kept, once. */
  take(): HeaderMap {
    if (this.#crumbs > 0) this.#keep('cookie', this.#cookie, FieldKind.Other, null)
    if (this.#spans.length === 0 && this.authority !== '') this.#keep('Host', this.authority, FieldKind.Host, null)
    const headers = receivedFields(this.#text, this.#spans, this.#mask)
    this.#text = this.#cookie = ''
    this.#spans = []
    return headers
  }
}
