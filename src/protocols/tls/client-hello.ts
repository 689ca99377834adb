/**
 * Reads which name a client asks for (SNI, RFC 6066 3) from the first bytes of a TLS connection, before OpenSSL sees them: the secure
 * context is then chosen before the handshake begins, so that nothing of another name's context has a part in it, tickets included.
 *
 * It judges nothing. What it cannot read (no TLS, another message, more than MAX_HELLO_BYTES, lengths that do not fit) has no name,
 * and OpenSSL finds the alert for it. All bytes are kept, to be handed on.
 * A message may come in any number of records and pieces (RFC 8446 5.1); every byte is looked at once.
 */
import { isServerName, plainServerName } from '../../certificates/server-name.ts'
import { BUFFER_RESERVE } from '../byte-stream.ts'

/** More than ten times what browsers send, with an exchange of keys that is safe from quantum computers. */
export const MAX_HELLO_BYTES = 16_384

const HANDSHAKE_RECORD = 22
const RECORD_HEADER = 5
const CLIENT_HELLO = 1
const MESSAGE_HEADER = 4
/** Version and random. */
const HELLO_START = MESSAGE_HEADER + 2 + 32
const SERVER_NAME = 0
const HOST_NAME = 0

/** `more`: not all of it is there. `plain`: it begins as a request of HTTP does. `read`: there is nothing more to find out. */
export type HelloVerdict = 'more' | 'plain' | 'read'

const NOTHING: Buffer = Buffer.alloc(0)

export class ClientHelloReader {
  /** What the client asked for, in lower case; '': nothing, or it could not be read. */
  serverName = ''
  #held = NOTHING
  #length = 0
  /** Where the record begins that is not whole yet. */
  #record = 0
  /** The handshake message so far, where it did not come in one record. */
  #message = NOTHING
  #messageLength = 0

  /** Takes bytes [from, to) of `buffer`, which are copied. */
  add(buffer: Buffer, from: number, to: number): HelloVerdict {
    this.#keep(buffer, from, to)
    if (this.#length === 0) return 'more'
    const first = this.#byte(0)
    if (first >= 0x41 && first <= 0x5a) return 'plain'
    return this.#read()
  }

  /** All bytes so far, with BUFFER_RESERVE on either side. */
  get bytes(): Buffer { return this.#held.subarray(0, this.#length + 2 * BUFFER_RESERVE) }

  #keep(buffer: Buffer, from: number, to: number): void {
    const length = this.#length + to - from, room = this.#held.length - 2 * BUFFER_RESERVE
    if (length > room) {
      const grown = Buffer.allocUnsafe(Math.max(length, 2 * room) + 2 * BUFFER_RESERVE)
      this.#held.copy(grown, 0, 0, this.#length === 0 ? 0 : this.#length + BUFFER_RESERVE)
      this.#held = grown
    }
    buffer.copy(this.#held, BUFFER_RESERVE + this.#length, from, to)
    this.#length = length
  }

  #byte(at: number): number { return this.#held[BUFFER_RESERVE + at]! }

  #read(): HelloVerdict {
    while (this.#length >= this.#record + RECORD_HEADER) {
      const at = this.#record
      if (this.#byte(at) !== HANDSHAKE_RECORD || this.#byte(at + 1) !== 3) return 'read'
      const size = this.#byte(at + 3) << 8 | this.#byte(at + 4)
      if (size > MAX_HELLO_BYTES) return 'read'
      if (this.#length < at + RECORD_HEADER + size) break
      this.#record = at + RECORD_HEADER + size
      const from = BUFFER_RESERVE + at + RECORD_HEADER
      if (this.#readRecord(this.#held.subarray(from, from + size)) === 'read') return 'read'
    }
    return this.#length > MAX_HELLO_BYTES ? 'read' : 'more'
  }

  #readRecord(part: Buffer): HelloVerdict {
    // OpenSSL takes some of these.
    if (part.length === 0) return 'more'
    // Nearly every message is one record.
    if (this.#messageLength === 0 && sizeOfMessage(part) <= part.length) return this.#readMessage(part)
    const length = this.#messageLength + part.length
    if (length > this.#message.length) {
      const grown = Buffer.allocUnsafe(2 * length)
      this.#message.copy(grown, 0, 0, this.#messageLength)
      this.#message = grown
    }
    part.copy(this.#message, this.#messageLength)
    this.#messageLength = length
    const message = this.#message.subarray(0, length)
    return sizeOfMessage(message) <= length ? this.#readMessage(message) : 'more'
  }

  #readMessage(message: Buffer): HelloVerdict {
    const size = sizeOfMessage(message)
    if (message[0] === CLIENT_HELLO && size !== 0) this.serverName = serverNameIn(message.subarray(0, size))
    return 'read'
  }
}

/** With its header. 0: it is nothing that a name could be read from. Infinity: not even its header is whole. */
function sizeOfMessage(message: Buffer): number {
  if (message[0] !== CLIENT_HELLO) return 0
  if (message.length < MESSAGE_HEADER) return Infinity
  const size = MESSAGE_HEADER + message.readUIntBE(1, 3)
  return size > MAX_HELLO_BYTES ? 0 : size
}

/** @param hello the whole message. '' where there is no name, or none that could be one */
function serverNameIn(hello: Buffer): string {
  let at = HELLO_START
  at = skip(hello, at, 1)
  at = skip(hello, at, 2)
  at = skip(hello, at, 1)
  if (at + 2 > hello.length) return ''
  const end = at + 2 + hello.readUInt16BE(at)
  at += 2
  while (at + 4 <= end && end <= hello.length) {
    const kind = hello.readUInt16BE(at), size = hello.readUInt16BE(at + 2)
    at += 4
    if (at + size > end) return ''
    if (kind === SERVER_NAME) return nameIn(hello.subarray(at, at + size))
    at += size
  }
  return ''
}

/** Behind a run of bytes whose length stands before it. */
function skip(hello: Buffer, at: number, lengthBytes: 1 | 2): number {
  return at + lengthBytes > hello.length ? hello.length : at + lengthBytes + hello.readUIntBE(at, lengthBytes)
}

/** Of a list of names the one of a host, of which there may be one. */
function nameIn(list: Buffer): string {
  if (list.length < 5 || list[2] !== HOST_NAME) return ''
  const size = list.readUInt16BE(3)
  if (size !== list.length - 5) return ''
  const name = plainServerName(list.latin1Slice(5, list.length))
  return isServerName(name) && !name.startsWith('*') ? name : ''
}
