/**
 * How a service knows its own requests again when a chain of proxies leads back to it: each request that it sends carries a
 * mark, and one that comes with that mark is not sent again (508).
 *
 * The mark is made of the id of this instance, which all its processes share and which outlives them, and of the service's
 * name: other instances, on the same machine too, and other services of this one are just further hops. Where a name is
 * configured it goes out as CDN-Loop (RFC 8586), which proxies of others pass on as well; otherwise in a field of our own.
 * Marks of others are never touched: ours stands in a line of its own behind them, since both fields are lists.
 */
import { createHash, randomBytes } from 'node:crypto'
import { FieldName } from '../http/field-lines.ts'
import { FieldKind, asciiLower, type HeaderMap } from '../http/header-map.ts'

/** Bits of a hash that nobody else has: 12 bytes are 16 characters. */
const MARK_BYTES = 12

export class LoopMark {
  /** Null: no request is marked. */
  readonly field: FieldName | null
  readonly #name: string | null
  readonly #service: string
  readonly #lowerField: string
  #mark = ''
  value = ''

  /** @param name '' marks with the field of our own, null not at all */
  constructor(name: string | null, service: string) {
    this.#name = name
    this.#service = service
    this.field = name === null ? null : new FieldName(name === '' ? 'Cirque-Loop' : 'CDN-Loop')
    this.#lowerField = this.field === null ? '' : asciiLower(this.field.name)
    // Until the process says which instance it belongs to, each is one of its own.
    this.identify(randomBytes(MARK_BYTES).toString('base64url'))
  }

  /** Said before the first request, or never. */
  identify(instanceId: string): void {
    const digest = createHash('sha256').update(`${instanceId}\0${this.#service}`).digest()
    this.#mark = digest.subarray(0, MARK_BYTES).toString('base64url')
    this.value = this.#name === null || this.#name === '' ? this.#mark : `${this.#name}; id=${this.#mark}`
  }

  /** The request was sent by this very service. */
  isOn(headers: HeaderMap): boolean {
    if ((headers.mask & (1 << FieldKind.Loop)) === 0 || this.field === null) return false
    for (const line of headers.getAll(this.#lowerField)) if (holds(line, this.#mark)) return true
    return false
  }
}

/** `mark` stands in `line`, alone in its member or as its parameter. */
function holds(line: string, mark: string): boolean {
  for (let at = line.indexOf(mark); at !== -1; at = line.indexOf(mark, at + 1)) {
    if (isEdge(line.charCodeAt(at - 1)) && isEdge(line.charCodeAt(at + mark.length))) return true
  }
  return false
}

/** No part of a longer mark: the end of the line (NaN), a blank, or one of `, ; = "`. */
function isEdge(code: number): boolean {
  return Number.isNaN(code) || code === 0x20 || code === 0x09 || code === 0x2c || code === 0x3b || code === 0x3d || code === 0x22
}
