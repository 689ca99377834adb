/**
 * Header blocks of answers. Most heads of a connection are one that it has sent before, so the last few are kept with their blocks:
 * one that inserted nothing into the table is the same bytes again until something else is inserted.
 * Tests: server-connection.test.ts
 */
import type { FieldLines } from '../../http/field-lines.ts'
import type { HeaderMap } from '../../http/header-map.ts'
import { HeaderBlocks, KEPT_HEADS } from './header-blocks.ts'
import { lowerName } from './lower-name.ts'

interface KeptHead {
  readonly status: number
  readonly text: string
  readonly lines: string
  readonly length: number
  readonly date: string
  /** Insertions before it. */
  readonly inserted: number
  readonly block: Buffer
}

export class ResponseHeads extends HeaderBlocks {
  readonly #kept: (KeptHead | null)[] = Array.from({ length: KEPT_HEADS }, () => null)

  override limitTable(bytes: number): void {
    super.limitTable(bytes)
    this.#kept.fill(null)
  }

  /**
   * @param skip kinds of fields that are left out @param lines written behind them; null: none
   * @param length for a Content-Length of its own; -1: none @param date for a Date of its own; '': none
   */
  write(status: number, headers: HeaderMap, skip: number, lines: FieldLines | null, length: number, date: string): void {
    const { encoder } = this, text = headers.serialize(skip, null), added = lines === null ? '' : lines.text
    const slot = (text.length + status + added.length) & (KEPT_HEADS - 1), kept = this.#kept[slot]!
    if (kept !== null && kept.inserted === encoder.inserted && kept.status === status && kept.length === length && kept.date === date &&
      kept.text === text && kept.lines === added) {
      this.block = kept.block
      this.size = kept.block.length
      return
    }
    const { inserted } = encoder
    this.begin()
    const isUpdate = encoder.length > 0
    encoder.field(':status', String(status))
    this.fields(headers, skip, null)
    if (length >= 0) encoder.field('content-length', String(length))
    if (date !== '') encoder.field('date', date)
    for (let index = 0; lines !== null && index < lines.size; index++) encoder.field(lowerName(lines.nameAt(index)), lines.valueAt(index))
    this.done()
    if (!this.isAgain(slot, text) || isUpdate || encoder.inserted !== inserted) return
    const block = Buffer.from(encoder.bytes.subarray(0, encoder.length))
    this.#kept[slot] = { status, text, lines: added, length, date, inserted, block }
  }
}
