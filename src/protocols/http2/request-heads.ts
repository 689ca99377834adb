/**
 * Header blocks of requests to an origin (RFC 9113 8.3.1, RFC 8441 4).
 *
 *   :method :authority :scheme │ :path │ fields of the client, lines of the proxy up to one that is another each time │ the others
 *   ────────── kept ───────────┘       └──────────────────────────────────── kept ────────────────────────────────────┘
 *
 * Clients ask for one thing after another with the same fields, so the last few heads are kept as they were written: such a part is the
 * same bytes again until something is inserted into the table.
 * Tests: client-connection.test.ts, request-heads.test.ts
 */
import type { FieldLines } from '../../http/field-lines.ts'
import { FieldKind } from '../../http/header-map.ts'
import { HOP_BY_HOP_REQUEST } from '../../http/hop-by-hop.ts'
import type { RequestHead } from '../../http/message-head.ts'
import type { RequestSetup } from '../http-session.ts'
import { HeaderBlocks, KEPT_HEADS } from './header-blocks.ts'
import { isWrittenOut } from './hpack-encoder.ts'
import { lowerName } from './lower-name.ts'

const LENGTH = 1 << FieldKind.ContentLength
const SKIPPED = HOP_BY_HOP_REQUEST | (1 << FieldKind.Host)
/** What a WebSocket has in HTTP/1 alone (RFC 8441 5). */
const OF_HTTP1_WEBSOCKET: readonly string[] = ['sec-websocket-key']

interface KeptHead {
  readonly method: string
  readonly authority: string
  readonly text: string
  /** Content-Length of its own; -1: none. */
  readonly length: number
  readonly acceptsTrailers: boolean
  /** Of the lines that are part of it. */
  readonly names: readonly string[]
  readonly values: readonly string[]
  /** Insertions before it. */
  readonly inserted: number
  /** Both parts, and where the second one begins. */
  readonly block: Buffer
  readonly pathAt: number
}

export class RequestHeads extends HeaderBlocks {
  readonly #kept: (KeptHead | null)[] = Array.from({ length: KEPT_HEADS }, () => null)
  /** Where the parts of the block lie that was written last, and how often something had been inserted before it; -1: not to be kept. */
  #pathAt = 0
  #fieldsAt = 0
  #fieldsEnd = 0
  #insertedBefore = 0
  /** Lines that belong to its second part. */
  #sameLines = 0

  override limitTable(bytes: number): void {
    super.limitTable(bytes)
    this.#kept.fill(null)
  }

  /** @param protocol to switch to; '' for none */
  write(head: RequestHead, setup: RequestSetup, scheme: string, protocol: string): void {
    const { method, target, headers } = head, { length: given, lines } = setup
    const isConnect = method === 'CONNECT', keepsLength = given >= 0 && headers.contentLength() === given
    const authority = isConnect ? target : head.authority === '' ? setup.defaultAuthority : head.authority
    const length = !keepsLength && (given > 0 || (given === 0 && headers.hasKind(FieldKind.ContentLength))) ? given : -1
    const skip = keepsLength ? SKIPPED : SKIPPED | LENGTH
    if (isConnect || protocol !== '') {
      this.#writeAll(head, setup, { scheme, protocol, authority, length, skip })
      return
    }
    const text = headers.serialize(skip, null), slot = (text.length + method.length) & (KEPT_HEADS - 1), kept = this.#kept[slot]!
    const { encoder } = this
    if (kept === null || kept.inserted !== encoder.inserted || kept.method !== method || kept.authority !== authority ||
      kept.length !== length || kept.acceptsTrailers !== setup.acceptsTrailers || kept.text !== text || !hasLines(kept, lines)) {
      this.#writeAll(head, setup, { scheme, protocol, authority, length, skip })
      if (this.isAgain(slot, text) && encoder.inserted === this.#insertedBefore) {
        this.#kept[slot] = { method, authority, text, length, acceptsTrailers: setup.acceptsTrailers, ...this.#written(lines) }
      }
      return
    }
    this.begin()
    encoder.copy(kept.block, 0, kept.pathAt)
    encoder.field(':path', target)
    encoder.copy(kept.block, kept.pathAt, kept.block.length)
    this.#writeLines(lines, kept.names.length, lines.size)
    this.done()
  }

  #writeAll(
    { method, target, headers }: RequestHead, { lines, acceptsTrailers }: RequestSetup,
    { scheme, protocol, authority, length, skip }: {
      readonly scheme: string; readonly protocol: string; readonly authority: string; readonly length: number; readonly skip: number
    },
  ): void {
    const { encoder } = this, isConnect = method === 'CONNECT'
    this.#insertedBefore = encoder.inserted
    this.begin()
    // A change of the table's size stands in front, once: such a block is not kept.
    if (encoder.length > 0) this.#insertedBefore = -1
    encoder.field(':method', protocol === '' ? method : 'CONNECT')
    if (protocol !== '') encoder.field(':protocol', protocol)
    encoder.field(':authority', authority)
    if (!isConnect) encoder.field(':scheme', scheme)
    this.#pathAt = encoder.length
    if (!isConnect) encoder.field(':path', target)
    this.#fieldsAt = encoder.length
    this.fields(headers, skip, protocol === '' ? null : OF_HTTP1_WEBSOCKET)
    if (length >= 0) encoder.field('content-length', String(length))
    if (acceptsTrailers) encoder.field('te', 'trailers')
    this.#sameLines = sameLines(lines)
    this.#writeLines(lines, 0, this.#sameLines)
    this.#fieldsEnd = encoder.length
    this.#writeLines(lines, this.#sameLines, lines.size)
    this.done()
  }

  #writeLines(lines: FieldLines, from: number, to: number): void {
    for (let index = from; index < to; index++) this.encoder.field(lowerName(lines.nameAt(index)), lines.valueAt(index))
  }

  /** The block that was written last, as it is kept. */
  #written(lines: FieldLines): Pick<KeptHead, 'names' | 'values' | 'inserted' | 'block' | 'pathAt'> {
    const { encoder: { bytes, inserted } } = this, pathAt = this.#pathAt
    const block = Buffer.concat([bytes.subarray(0, pathAt), bytes.subarray(this.#fieldsAt, this.#fieldsEnd)])
    const indexes = Array.from({ length: this.#sameLines }, (_, index) => index)
    return { names: indexes.map(at => lines.nameAt(at)), values: indexes.map(at => lines.valueAt(at)), inserted, block, pathAt }
  }
}

/** How many lines come before the first that is another one in nearly every message. */
function sameLines(lines: FieldLines): number {
  const { size } = lines
  for (let index = 0; index < size; index++) if (isWrittenOut(lowerName(lines.nameAt(index)))) return index
  return size
}

/** Whether they begin as those of a kept head; what is behind them is written out. */
function hasLines({ names, values }: KeptHead, lines: FieldLines): boolean {
  const { length } = names
  if (lines.size < length) return false
  for (let index = 0; index < length; index++) {
    if (lines.nameAt(index) !== names[index] || lines.valueAt(index) !== values[index]) return false
  }
  return true
}
