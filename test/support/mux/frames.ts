/**
 * Frames of the multiplexing protocol that tests speak to prove the seam: HTTP exchanges side by side on one connection.
 *
 *   frame   length of the payload (3 bytes) | type | stream (4 bytes) | payload
 *   HEAD    field lines `name: value\n`, names in lower case, pseudo-fields with a colon in front first; latin1
 *   DATA    part of a body, or of a tunnel
 *   END     the sender's message is whole; field lines of trailers
 *   RESET   the stream is over at once; one byte says why
 *   WINDOW  the receiver takes that many bytes of DATA more on this stream (4 bytes)
 *   GO_AWAY stream 0: no stream above the one named is looked at, and no other may begin (4 bytes)
 *   STREAMS stream 0: that many streams may be open at a time (4 bytes)
 *
 * HEAD of a request without a body has the bit END_BIT in its type and is its END as well. A client opens streams 1, 2, 3 ...
 */
import { FieldKind, HeaderMap } from '../../../src/http/header-map.ts'
import type { FieldLines } from '../../../src/http/field-lines.ts'
import { FORBIDDEN_TRAILER_KINDS, FORBIDDEN_TRAILERS } from '../../../src/http/field-rules.ts'

export const FrameType = { Head: 1, Data: 2, End: 3, Reset: 4, Window: 5, GoAway: 6, Streams: 7 } as const
export type FrameType = (typeof FrameType)[keyof typeof FrameType]
export const END_BIT = 0x80

export const ResetCode = {
  /** The answer is whole, and the rest of the request is not needed. */
  None: 0,
  Cancelled: 1,
  /** Nothing was done with the request. */
  Refused: 2,
  Broken: 3,
} as const

export const FRAME_HEAD_BYTES = 8
export const MAX_PAYLOAD_BYTES = 65_536
/** Most bytes of a body in one frame. */
export const MAX_DATA_BYTES = 4096
/** Bytes of DATA that a stream may send before the other side gave it more. */
export const FIRST_WINDOW = 12_000
/** Streams that may be open at a time before the server has said another number. */
export const FIRST_STREAMS = 8

export function frame(type: number, stream: number, payload: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + payload.length)
  bytes.writeUIntBE(payload.length, 0, 3)
  bytes[3] = type
  bytes.writeUInt32BE(stream, 4)
  payload.copy(bytes, FRAME_HEAD_BYTES)
  return bytes
}

export function numberFrame(type: number, stream: number, value: number): Buffer {
  const payload = Buffer.allocUnsafe(4)
  payload.writeUInt32BE(value)
  return frame(type, stream, payload)
}

export function resetFrame(stream: number, code: number): Buffer { return frame(FrameType.Reset, stream, Buffer.of(code)) }

/** Who reads frames. The payload is borrowed: it lies in [from, to) until the call returns. */
export interface FrameSink {
  /** @returns false when nothing more is to be read */
  onFrame(type: number, stream: number, payload: Buffer, from: number, to: number): boolean
}

const NOTHING: Buffer = Buffer.alloc(0)

/** Cuts what arrives into frames. */
export class FrameReader {
  #rest: Buffer = NOTHING

  /** A frame came in part. */
  get within(): boolean { return this.#rest.length > 0 }

  /** @returns false: a frame is longer than any may be */
  push(buffer: Buffer, from: number, to: number, sink: FrameSink): boolean {
    let bytes = buffer, at = from, end = to
    if (this.#rest.length > 0) {
      bytes = Buffer.concat([this.#rest, buffer.subarray(from, to)])
      at = 0
      end = bytes.length
      this.#rest = NOTHING
    }
    while (end - at >= FRAME_HEAD_BYTES) {
      const length = bytes.readUIntBE(at, 3)
      if (length > MAX_PAYLOAD_BYTES) return false
      const payload = at + FRAME_HEAD_BYTES, next = payload + length
      if (next > end) break
      const goesOn = sink.onFrame(bytes[at + 3]!, bytes.readUInt32BE(at + 4), bytes, payload, next)
      if (!goesOn) return true
      at = next
    }
    if (at < end) this.#rest = Buffer.from(bytes.subarray(at, end))
    return true
  }
}

// ---- heads

export type Fields = [name: string, value: string][]

export function fieldText(fields: Fields): Buffer {
  return Buffer.from(fields.map(([name, value]) => `${name}: ${value}\n`).join(''), 'latin1')
}

/** Null: these are no field lines. */
export function readFields(payload: Buffer, from: number, to: number): Fields | null {
  const fields: Fields = []
  if (from === to) return fields
  const lines = payload.latin1Slice(from, to).split('\n')
  if (lines.pop() !== '') return null
  for (const line of lines) {
    const colon = line.indexOf(': ', 1)
    if (colon === -1) return null
    fields.push([line.slice(0, colon), line.slice(colon + 2)])
  }
  return fields
}

/** Adds the fields of a head, but for the kinds in `skip`, and then `lines`. */
export function addFields(fields: Fields, headers: HeaderMap, skip: number, lines: FieldLines | null): void {
  for (let index = 0; index < headers.size; index++) {
    if ((skip & (1 << headers.kindAt(index))) === 0) fields.push([headers.nameAt(index).toLowerCase(), headers.valueAt(index)])
  }
  for (let index = 0; lines !== null && index < lines.size; index++) fields.push([lines.nameAt(index).toLowerCase(), lines.valueAt(index)])
}

export const LENGTH_BIT: number = 1 << FieldKind.ContentLength

/** Ordinary fields of a head. Null: one of them may not be sent, or names a rule of another protocol. */
export function toHeaders(fields: Fields): HeaderMap | null {
  try {
    const headers = HeaderMap.from(fields.filter(([name]) => !name.startsWith(':')))
    return fields.every(([name]) => name === name.toLowerCase() && !CONNECTION_FIELDS.includes(name)) ? headers : null
  } catch { return null }
}

const CONNECTION_FIELDS = ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']

export function pseudo(fields: Fields, name: string): string | null { return fields.find(([each]) => each === name)?.[1] ?? null }

export function trailerText(trailers: HeaderMap | null): Buffer {
  const fields: Fields = []
  if (trailers !== null) addFields(fields, trailers, FORBIDDEN_TRAILER_KINDS, null)
  return fieldText(fields.filter(([name]) => !FORBIDDEN_TRAILERS.includes(name)))
}
