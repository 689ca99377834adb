/**
 * Where WebSocket frames begin and end (RFC 6455 5.2), for a tunnel that wants to say Close between two of them.
 *
 * A tracker is shown one direction's bytes, cut anywhere, and looks at frame headers only: payloads are skipped by their
 * length and never read. Extensions may use the reserved bits (permessage-deflate does), so those are not looked at, nor
 * whether fragments follow each other as they should: neither moves a boundary. Bytes that cannot be a frame turn the
 * tracker off for good, with a code; it never throws, and what follows from that is up to the part that carries the bytes.
 */
import assert from 'node:assert/strict'

export const Opcode = { Continuation: 0x0, Text: 0x1, Binary: 0x2, Close: 0x8, Ping: 0x9, Pong: 0xa } as const

export const FrameFault = {
  None: 0,
  UnknownOpcode: 1,
  ControlFragmented: 2,
  ControlTooLong: 3,
  WrongMasking: 4,
  LengthNotShortest: 5,
  LengthTooLarge: 6,
} as const
export type FrameFault = (typeof FrameFault)[keyof typeof FrameFault]

/** RFC 6455 7.4.1: the endpoint goes away, as a server that is shut down does. */
export const GOING_AWAY = 1001

/** RFC 6455 5.5: payload of a control frame. */
const CONTROL_BYTES_MAX = 125
const FIN = 0x80, MASKED = 0x80
const MASK_BYTES = 4

/** What the next byte belongs to. Off: nothing is known any more. */
const Part = { Start: 0, Length: 1, LongLength: 2, Mask: 3, Payload: 4, Off: 5 } as const

/** Opcodes of RFC 6455 5.2 as a set of bits. */
const KNOWN_OPCODES = Object.values(Opcode).reduce<number>((bits, opcode) => bits | 1 << opcode, 0)

export class FrameTracker {
  /** Frames of a client are masked, those of a server are not (RFC 6455 5.1). */
  readonly masked: boolean
  readonly #maskBit: number
  /** Why the tracker is off. */
  fault: FrameFault = FrameFault.None
  /** A whole Close frame has passed. */
  closeSeen = false
  #part: number = Part.Start
  /** First byte of the current frame. */
  #first = 0
  /** Bytes that the current part still has: of the long length, the mask, or the payload. */
  #left = 0
  #longLength = false
  #length = 0
  /** A data message has begun whose last frame has not. */
  #inMessage = false

  constructor(masked: boolean) {
    this.masked = masked
    this.#maskBit = masked ? MASKED : 0
  }

  get betweenFrames(): boolean { return this.#part === Part.Start }
  /** Between frames, and not between the fragments of one message. */
  get betweenMessages(): boolean { return this.#part === Part.Start && !this.#inMessage }

  /** Takes note of bytes [from, to). */
  scan(buffer: Buffer, from: number, to: number): void { this.#run(buffer, from, to, false) }

  /** Takes note of bytes up to the first end of a message. @returns where that is, or `to`: `betweenMessages` and `fault` tell which. */
  scanMessage(buffer: Buffer, from: number, to: number): number { return this.#run(buffer, from, to, true) }

  #run(buffer: Buffer, from: number, to: number, oneMessage: boolean): number {
    let at = from
    while (at < to) {
      switch (this.#part) {
        case Part.Start: {
          this.#first = buffer[at++]!
          const opcode = this.#first & 0xf
          if ((KNOWN_OPCODES >> opcode & 1) === 0) return this.#off(FrameFault.UnknownOpcode, to)
          if (opcode >= Opcode.Close && (this.#first & FIN) === 0) return this.#off(FrameFault.ControlFragmented, to)
          this.#part = Part.Length
          break
        }
        case Part.Length: {
          const second = buffer[at++]!, length = second & 0x7f
          if ((second & MASKED) !== this.#maskBit) return this.#off(FrameFault.WrongMasking, to)
          if (length > CONTROL_BYTES_MAX) {
            if ((this.#first & 0xf) >= Opcode.Close) return this.#off(FrameFault.ControlTooLong, to)
            this.#longLength = length === 127
            this.#length = 0
            this.#left = this.#longLength ? 8 : 2
            this.#part = Part.LongLength
            break
          }
          this.#length = length
          if (this.#headerEnded() && oneMessage && !this.#inMessage) return at
          break
        }
        case Part.LongLength: {
          // Above 2^53 digits are lost, but not the order.
          this.#length = this.#length * 256 + buffer[at++]!
          if (--this.#left > 0) break
          if (this.#length > Number.MAX_SAFE_INTEGER) return this.#off(FrameFault.LengthTooLarge, to)
          if (this.#length < (this.#longLength ? 65_536 : 126)) return this.#off(FrameFault.LengthNotShortest, to)
          this.#headerEnded()
          break
        }
        case Part.Mask: {
          const part = Math.min(this.#left, to - at)
          at += part
          this.#left -= part
          if (this.#left > 0) break
          if (this.#toPayload() && oneMessage && !this.#inMessage) return at
          break
        }
        case Part.Payload: {
          const part = Math.min(this.#left, to - at)
          at += part
          this.#left -= part
          if (this.#left > 0) break
          this.#frameEnded()
          if (oneMessage && !this.#inMessage) return at
          break
        }
        default: return to
      }
    }
    return to
  }

  /** @returns whether the frame ended as well. */
  #headerEnded(): boolean {
    if (!this.masked) return this.#toPayload()
    this.#part = Part.Mask
    this.#left = MASK_BYTES
    return false
  }

  /** @returns whether there is none, so that the frame ended. */
  #toPayload(): boolean {
    if (this.#length === 0) {
      this.#frameEnded()
      return true
    }
    this.#part = Part.Payload
    this.#left = this.#length
    return false
  }

  #frameEnded(): void {
    this.#part = Part.Start
    const opcode = this.#first & 0xf
    // A control frame may come between fragments and ends nothing (RFC 6455 5.4).
    if (opcode < Opcode.Close) this.#inMessage = (this.#first & FIN) === 0
    else if (opcode === Opcode.Close) {
      this.closeSeen = true
      // What was not finished before it never will be (5.5.1).
      this.#inMessage = false
    }
  }

  #off(fault: FrameFault, to: number): number {
    this.fault = fault
    this.#part = Part.Off
    return to
  }
}

/** One whole Close frame. `mask`: 4 random bytes towards a server; null towards a client. `reason`: at most 123 bytes. */
export function closeFrame(code: number, reason: string, mask: Buffer | null): Buffer {
  const size = 2 + Buffer.byteLength(reason)
  assert.ok(size <= CONTROL_BYTES_MAX, 'the reason of a Close is at most 123 bytes long')
  const start = 2 + (mask === null ? 0 : MASK_BYTES)
  const frame = Buffer.allocUnsafe(start + size)
  frame[0] = FIN | Opcode.Close
  frame[1] = (mask === null ? 0 : MASKED) | size
  frame.writeUInt16BE(code, start)
  frame.write(reason, start + 2)
  if (mask !== null) {
    mask.copy(frame, 2, 0, MASK_BYTES)
    for (let at = 0; at < size; at++) frame[start + at] = frame[start + at]! ^ mask[at & 3]!
  }
  return frame
}
