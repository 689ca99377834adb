/**
 * The buffers that sockets are read into: one that the whole process shares, and a small free list of those that a stream has
 * for itself while it relays a body.
 */
import { heldBytes } from '../../primitives/held-bytes.ts'
import { BUFFER_RESERVE } from '../byte-stream.ts'

/** Bytes read at once. 32 to 256 KiB made no measurable difference. */
export const READ_BYTES = 65_536

/** Most that one record of TLS holds (RFC 8446 5.1). */
export const RECORD_BYTES = 16_384

/** Receive buffers kept for the next relayed body. */
const SPARE_BUFFERS = 64

/** Counts in `heldBytes` by what was ever read into it: pages that were never touched take no memory. */
export class Slab {
  touched = 0
  /** With BUFFER_RESERVE on either side, and behind that room for a record of TLS that comes behind a pause, with the same. */
  readonly bytes: Buffer = Buffer.allocUnsafeSlow(READ_BYTES + RECORD_BYTES + 4 * BUFFER_RESERVE)
  /** What the kernel writes into. */
  readonly view: Buffer = this.bytes.subarray(BUFFER_RESERVE, BUFFER_RESERVE + READ_BYTES)
}

export const sharedSlab: Slab = new Slab()
sharedSlab.touched = READ_BYTES
const spareSlabs: Slab[] = []

export function takeSlab(): Slab {
  const slab = spareSlabs.pop() ?? new Slab()
  heldBytes.now += slab.touched
  return slab
}

export function giveSlab(slab: Slab): void {
  dropSlab(slab)
  if (spareSlabs.length < SPARE_BUFFERS) spareSlabs.push(slab)
}

/** No stream reads into it any more; a write may still have it. */
export function dropSlab(slab: Slab): void { heldBytes.now -= slab.touched }

/** `count` bytes were read into it from its beginning on. */
export function touchSlab(slab: Slab, count: number): void {
  if (count <= slab.touched) return
  heldBytes.now += count - slab.touched
  slab.touched = count
}
