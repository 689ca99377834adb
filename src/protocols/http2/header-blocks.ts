/**
 * Header blocks that a connection writes: what heads of either role and trailers have in common.
 *
 * Either role keeps some heads with their bytes, each in a slot by its length. A head is kept when it comes for the second time, since
 * one that is another each time would only be copied.
 */
import type { HeaderMap } from '../../http/header-map.ts'
import { HpackEncoder } from './hpack-encoder.ts'
import { lowerName } from './lower-name.ts'
import type { TrailerWriter } from './sending-stream.ts'

/** Heads that are kept; a power of two. */
export const KEPT_HEADS = 8
/** A longer one is rarely sent again, and costs memory for as long as the connection. */
const KEPT_MAX_LENGTH = 1024

export abstract class HeaderBlocks implements TrailerWriter {
  protected readonly encoder: HpackEncoder
  /** Fields of the heads that came last and were not kept. */
  readonly #missed: string[] = Array.from({ length: KEPT_HEADS }, () => '')
  /** The block just written, from 0 on: to be sent before the next one. */
  block: Buffer
  size = 0

  constructor(tableBytes: number) {
    this.encoder = new HpackEncoder(tableBytes, Buffer.allocUnsafe(512))
    this.block = this.encoder.bytes
  }

  /** The other side has said how large the table may be. */
  limitTable(bytes: number): void { this.encoder.limitTable(bytes) }

  /** @param skip kinds that are left out @param names in lower case that are left out */
  writeTrailers(trailers: HeaderMap, skip: number, names: readonly string[]): void {
    this.begin()
    this.fields(trailers, skip, names)
    this.done()
  }

  /** Whether a head that was not kept has come before with these fields. @param text of all of them, as HTTP/1 writes them */
  protected isAgain(slot: number, text: string): boolean {
    if (text.length > KEPT_MAX_LENGTH) return false
    const isAgain = this.#missed[slot] === text
    this.#missed[slot] = text
    return isAgain
  }

  protected begin(): void {
    this.encoder.length = 0
    this.encoder.begin()
  }

  protected fields(headers: HeaderMap, skip: number, names: readonly string[] | null): void {
    for (let index = 0; index < headers.size; index++) {
      if ((skip & (1 << headers.kindAt(index))) !== 0) continue
      const name = lowerName(headers.nameAt(index))
      if (names === null || !names.includes(name)) this.encoder.field(name, headers.valueAt(index))
    }
  }

  protected done(): void {
    this.block = this.encoder.bytes
    this.size = this.encoder.length
  }
}
