/**
 * What a connection is about to send: frames of all its streams, joined until the turn of the event loop ends and written in
 * one go. Many answers cost one system call then, and none is later than the turn that it was made in.
 *
 * Its buffer is there only while something waits in it: one of a few that all connections of the process share.
 * Tests: server-connection.test.ts
 */
import { heldBytes } from '../../primitives/held-bytes.ts'
import type { ByteStream } from '../byte-stream.ts'
import { writeFrameHead } from './frames.ts'

/** So much joined is written at once. */
export const JOINED_BYTES = 65_536
/** Room for that, and for a frame of the usual size behind it. */
const BUFFER_BYTES = 98_304
const MAX_SPARE = 8

const spare: Buffer[] = []

/** A connection with something to send. */
export interface Joining {
  /** The turn has ended. */
  writeJoined(): void
}

let waiting: Joining[] = []
function endTurn(): void {
  const connections = waiting
  waiting = []
  for (const connection of connections) connection.writeJoined()
}

/** Calls `writeJoined` behind everything that this turn of the event loop has to read. */
export function joinTurn(connection: Joining): void { if (waiting.push(connection) === 1) setImmediate(endTurn) }

const NONE = Buffer.alloc(0)

export class JoinedWrites {
  bytes: Buffer = NONE
  length = 0
  /** How often it was written: an offset belongs to one of them. */
  round = 0

  /** Makes room for `bytes` more. Returns where they go. */
  reserve(bytes: number): number {
    const { length } = this
    if (this.bytes.length - length < bytes) this.#grow(length + bytes)
    return length
  }

  #grow(bytes: number): void {
    const larger = bytes <= BUFFER_BYTES ? spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES) : Buffer.allocUnsafeSlow(bytes * 2)
    heldBytes.now += larger.length - this.bytes.length
    this.bytes.copy(larger, 0, 0, this.length)
    this.bytes = larger
  }

  /** A frame, its payload copied. Returns where its head is. */
  frame(type: number, flags: number, stream: number, payload: Buffer, from: number, to: number): number {
    const at = this.reserve(9 + to - from)
    const body = writeFrameHead(this.bytes, at, to - from, type, flags, stream)
    if (to > from) payload.copy(this.bytes, body, from, to)
    this.length = body + to - from
    return at
  }

  /** Hands everything to the transport. */
  send(stream: ByteStream): void {
    const { bytes, length } = this
    heldBytes.now -= bytes.length
    this.bytes = NONE
    this.length = 0
    this.round++
    stream.writeBytes(bytes.subarray(0, length))
    if (stream.bytesQueued === 0 && bytes.length === BUFFER_BYTES && spare.length < MAX_SPARE) spare.push(bytes)
  }

  /** Nothing of it is sent. */
  drop(): void {
    heldBytes.now -= this.bytes.length
    if (this.bytes.length === BUFFER_BYTES && spare.length < MAX_SPARE) spare.push(this.bytes)
    this.bytes = NONE
    this.length = 0
    this.round++
  }
}
