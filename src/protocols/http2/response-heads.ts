/**
 * Header blocks of answers. Most heads of a connection are one that it has sent before, so the last few are kept with their blocks:
 * one that inserted nothing into the table is the same bytes again until something else is inserted.
 */
import type { FieldLines } from '../../http/field-lines.ts'
import { asciiLower, type HeaderMap } from '../../http/header-map.ts'
import { HpackEncoder } from './hpack-encoder.ts'

/** A power of two. */
const KEPT = 8
/** A longer block is rarely sent again, and costs memory for as long as the connection. */
const KEPT_MAX_BYTES = 1024

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

export class ResponseHeads {
  readonly #encoder: HpackEncoder
  readonly #kept: (KeptHead | null)[] = Array.from({ length: KEPT }, () => null)
  /** The block just written, from 0 on: to be sent before the next one. */
  block: Buffer
  size = 0

  constructor(tableBytes: number) {
    this.#encoder = new HpackEncoder(tableBytes, Buffer.allocUnsafe(512))
    this.block = this.#encoder.bytes
  }

  limitTable(bytes: number): void {
    this.#encoder.limitTable(bytes)
    this.#kept.fill(null)
  }

  /**
   * @param skip kinds of fields that are left out @param lines written behind them; null: none
   * @param length for a Content-Length of its own; -1: none @param date for a Date of its own; '': none
   */
  write(status: number, headers: HeaderMap, skip: number, lines: FieldLines | null, length: number, date: string): void {
    const encoder = this.#encoder, text = headers.serialize(skip, null), added = lines === null ? '' : lines.text
    const slot = (text.length + status + added.length) & (KEPT - 1), kept = this.#kept[slot]!
    if (kept !== null && kept.inserted === encoder.inserted && kept.status === status && kept.length === length && kept.date === date &&
      kept.text === text && kept.lines === added) {
      this.block = kept.block
      this.size = kept.block.length
      return
    }
    const { inserted } = encoder
    encoder.length = 0
    encoder.begin()
    const isUpdate = encoder.length > 0
    encoder.field(':status', String(status))
    for (let index = 0; index < headers.size; index++) {
      if ((skip & (1 << headers.kindAt(index))) === 0) encoder.field(asciiLower(headers.nameAt(index)), headers.valueAt(index))
    }
    if (length >= 0) encoder.field('content-length', String(length))
    if (date !== '') encoder.field('date', date)
    for (let index = 0; lines !== null && index < lines.size; index++) encoder.field(asciiLower(lines.nameAt(index)), lines.valueAt(index))
    this.#done()
    if (isUpdate || encoder.inserted !== inserted || this.size > KEPT_MAX_BYTES) return
    const block = Buffer.from(encoder.bytes.subarray(0, encoder.length))
    this.#kept[slot] = { status, text, lines: added, length, date, inserted, block }
  }

  /** @param skip kinds that are left out @param names in lower case that are left out */
  writeTrailers(trailers: HeaderMap, skip: number, names: readonly string[]): void {
    const encoder = this.#encoder
    encoder.length = 0
    encoder.begin()
    for (let index = 0; index < trailers.size; index++) {
      const name = asciiLower(trailers.nameAt(index))
      if ((skip & (1 << trailers.kindAt(index))) === 0 && !names.includes(name)) encoder.field(name, trailers.valueAt(index))
    }
    this.#done()
  }

  #done(): void {
    this.block = this.#encoder.bytes
    this.size = this.#encoder.length
  }
}
