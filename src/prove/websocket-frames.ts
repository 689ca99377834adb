/**
 * The client's half of RFC 6455: masked frames out, a strict reader of the server's frames in. It knows no connection.
 */
import { createHash, randomBytes } from 'node:crypto'

export const Opcode = { Continuation: 0x0, Text: 0x1, Binary: 0x2, Close: 0x8, Ping: 0x9, Pong: 0xA } as const
export type Opcode = (typeof Opcode)[keyof typeof Opcode]

/** Says why a server may close although nothing is wrong: it has finished, goes away, or restarts (RFC 6455 7.4.1 and the registry). */
export const POLITE_CLOSE_CODES: ReadonlySet<number> = new Set([1000, 1001, 1012])

const MESSAGE_MAX_BYTES = 1_048_576
/** RFC 6455 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

export interface Handshake { readonly key: string; readonly accept: string }

export function newHandshake(): Handshake {
  const key = randomBytes(16).toString('base64')
  return { key, accept: createHash('sha1').update(key + GUID).digest('base64') }
}

/** Field lines of the request, with their CRLF (RFC 6455 4.1). */
export function handshakeFields({ key }: Handshake): string {
  return `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n`
}

/** One whole frame, masked with `mask`. */
export function clientFrame(opcode: Opcode, payload: Buffer, mask: Buffer = randomBytes(4)): Buffer {
  const size = payload.length
  const extra = size < 126 ? 0 : size < 65_536 ? 2 : 8
  const frame = Buffer.alloc(2 + extra + 4 + size)
  frame[0] = 0x80 | opcode
  frame[1] = 0x80 | (extra === 0 ? size : extra === 2 ? 126 : 127)
  if (extra === 2) frame.writeUInt16BE(size, 2)
  else if (extra === 8) frame.writeBigUInt64BE(BigInt(size), 2)
  const start = 2 + extra + 4
  mask.copy(frame, start - 4)
  for (let at = 0; at < size; at++) frame[start + at] = (payload[at] ?? 0) ^ (mask[at & 3] ?? 0)
  return frame
}

export interface Message {
  /** Text, Binary, Close, Ping or Pong. */
  readonly opcode: Opcode
  readonly payload: Buffer
}

/** The code of a Close; 1005 when it has none (RFC 6455 7.1.5). */
export function closeCode(close: Message): number { return close.payload.length < 2 ? 1005 : close.payload.readUInt16BE(0) }

export class FrameReader {
  /** Says why no more messages come; '' while all is well. */
  fault = ''
  #held: Buffer = Buffer.alloc(0)
  #parts: Buffer[] = []
  #partBytes = 0
  /** Of the message that is being put together; null between messages. */
  #opcode: Opcode | null = null

  /** @returns whole messages, control frames among them, in the order of their last bytes. */
  feed(bytes: Buffer): Message[] {
    const messages: Message[] = []
    this.#held = this.#held.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#held, bytes])
    while (this.fault === '') {
      const length = this.#frame(this.#held, messages)
      if (length === 0) break
      this.#held = this.#held.subarray(length)
    }
    return messages
  }

  /** Whether the connection may end here without anything being cut. */
  get betweenMessages(): boolean { return this.#held.length === 0 && this.#opcode === null }

  /** One frame from the front. @returns its length, 0 when it is not whole or cannot be. */
  #frame(held: Buffer, messages: Message[]): number {
    if (held.length < 2) return 0
    const first = held.readUInt8(0)
    const second = held.readUInt8(1)
    const opcode = first & 0xF
    const last = (first & 0x80) !== 0
    const short = second & 0x7F
    if ((first & 0x70) !== 0) return this.#fail('a reserved bit is set')
    if ((second & 0x80) !== 0) return this.#fail('a frame of the server is masked')
    if (!isOpcode(opcode)) return this.#fail(`opcode ${opcode}`)
    if (opcode >= Opcode.Close && (!last || short > 125)) return this.#fail('a control frame that is a fragment or too long')
    const extra = short === 126 ? 2 : short === 127 ? 8 : 0
    if (held.length < 2 + extra) return 0
    const size = extra === 2 ? held.readUInt16BE(2) : extra === 8 ? Number(held.readBigUInt64BE(2)) : short
    if ((extra === 2 && size < 126) || (extra === 8 && size < 65_536)) return this.#fail('a length that is not in its shortest form')
    if (size + this.#partBytes > MESSAGE_MAX_BYTES) return this.#fail(`a message longer than ${MESSAGE_MAX_BYTES} bytes`)
    if (held.length < 2 + extra + size) return 0
    const payload = Buffer.from(held.subarray(2 + extra, 2 + extra + size))
    if (opcode >= Opcode.Close) messages.push({ opcode, payload })
    else {
      const continues = opcode === Opcode.Continuation
      const begun = this.#opcode !== null
      if (continues && !begun) return this.#fail('a continuation of nothing')
      if (!continues && begun) return this.#fail('a message inside another')
      this.#opcode ??= opcode
      this.#parts.push(payload)
      this.#partBytes += size
      if (last) {
        messages.push({ opcode: this.#opcode, payload: Buffer.concat(this.#parts) })
        this.#opcode = null
        this.#parts = []
        this.#partBytes = 0
      }
    }
    return 2 + extra + size
  }

  #fail(fault: string): 0 {
    this.fault = fault
    return 0
  }
}

function isOpcode(value: number): value is Opcode { return value <= 2 || (value >= 8 && value <= 10) }
