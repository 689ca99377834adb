/**
 * Several body filters on one piece, one behind the other, for applications with modules or with filters on both sides
 * of a cache; a single filter is called by exchange.ts itself.
 */
import { isPromise } from './phases.ts'
import type { BodyResult } from './session.ts'

const NOTHING = Buffer.alloc(0)

export type PieceFilter = (piece: Buffer) => BodyResult | Promise<BodyResult>

/** A piece of a body through filters, one after another. It becomes asynchronous where one of them is, and adds up their delays. */
export function chain(chunk: Buffer, last: boolean, filters: readonly PieceFilter[]): BodyResult | Promise<BodyResult> {
  let piece: Buffer | null = chunk, delayMs = 0
  for (let i = 0; i < filters.length; i++) {
    // A piece that was dropped is not shown to the filters behind; the end always is.
    if (piece === null && !last) break
    const result: BodyResult | Promise<BodyResult> = filters[i]!(piece ?? NOTHING)
    if (isPromise(result)) return chainRest(result as Promise<BodyResult>, filters, i + 1, last, delayMs)
    if (result === null || Buffer.isBuffer(result)) piece = result
    else {
      piece = (result as { chunk: Buffer | null }).chunk
      delayMs += (result as { delayMs: number }).delayMs
    }
  }
  return delayMs === 0 ? piece : { chunk: piece, delayMs }
}

async function chainRest(pending: Promise<BodyResult>, filters: readonly PieceFilter[], at: number, last: boolean, delay: number): Promise<BodyResult> {
  let delayMs = delay, result = await pending
  for (let i = at; ; i++) {
    let piece: Buffer | null
    if (result === null || Buffer.isBuffer(result)) piece = result
    else {
      piece = result.chunk
      delayMs += result.delayMs
    }
    if (i === filters.length || (piece === null && !last)) return delayMs === 0 ? piece : { chunk: piece, delayMs }
    result = await filters[i]!(piece ?? NOTHING)
  }
}
