/**
 * Bodies of HTTP/1 messages, both directions: by length, chunked, or until the connection ends (RFC 9112 6 and 7).
 *
 * Reading finds the data in a receive buffer and, for chunked bodies, moves it together *in place*, so that what one
 * read brought is handed on as one run. Writing puts chunk framing around a run in place, into the bytes of the old
 * framing or into the reserve that every receive buffer has (byte-stream.ts): no body byte is copied to be framed.
 * Chunk extensions are dropped; trailers are kept within limits. Returns codes and never throws.
 */
import { FORBIDDEN_TRAILERS, FORBIDDEN_TRAILER_KINDS } from '../../http/field-rules.ts'
import { VALUE_CHAR, type HeaderMap } from '../../http/header-map.ts'
import { copyWithReserve, BUFFER_RESERVE, TEXT_RUN_MAX, writeRun, type ByteStream } from '../byte-stream.ts'
import { BODY_UNTIL_CLOSE } from '../http-session.ts'
import { HeadFault, HeadParser, Parsed, type FaultMeaning } from './parser.ts'

export interface BodyLimits {
  readonly maxChunkLineBytes: number
  readonly maxChunkOverheadBytes: number
  readonly maxTrailerBytes: number
  readonly maxTrailerCount: number
}

export const BodyFault = {
  None: 0, BadChunk: 1, ChunkLineTooLong: 2, ChunkOverhead: 3, BadTrailers: 4, TrailersTooLarge: 5, TooManyTrailers: 6,
} as const

/** Indexed by BodyFault. */
export const BODY_FAULTS: Readonly<Record<number, FaultMeaning>> = {
  [BodyFault.BadChunk]: { kind: 'BAD_FRAMING', status: 400, limit: 'bad-framing', text: 'malformed chunk' },
  [BodyFault.ChunkLineTooLong]: { kind: 'BAD_FRAMING', status: 400, limit: 'chunk-line-bytes', text: 'chunk size line too long' },
  [BodyFault.ChunkOverhead]: { kind: 'BAD_FRAMING', status: 400, limit: 'chunk-overhead-bytes', text: 'more chunk framing than data' },
  [BodyFault.BadTrailers]: { kind: 'BAD_TRAILERS', status: 400, limit: 'bad-framing', text: 'malformed trailers' },
  [BodyFault.TrailersTooLarge]: { kind: 'BAD_TRAILERS', status: 400, limit: 'trailer-bytes', text: 'trailers too large' },
  [BodyFault.TooManyTrailers]: { kind: 'BAD_TRAILERS', status: 400, limit: 'trailer-count', text: 'too many trailers' },
}

const State = {
  Idle: 0, Length: 1, UntilClose: 2, Size: 3, Extension: 4, SizeLf: 5, Data: 6, DataCr: 7, DataLf: 8, Trailers: 9, Done: 10, Padding: 11,
} as const

const HT = 0x09, LF = 0x0a, CR = 0x0d, SP = 0x20, SEMICOLON = 0x3b

/** Value of a hexadecimal digit, or 255. */
const HEX = (() => {
  const table = new Uint8Array(256).fill(255)
  for (let i = 0; i < 16; i++) {
    table['0123456789abcdef'.charCodeAt(i)] = i
    table['0123456789ABCDEF'.charCodeAt(i)] = i
  }
  return table
})()

export class BodyReader {
  readonly #limits: BodyLimits
  readonly #padded: boolean
  #state: number = State.Idle
  /** Bytes of the body, or of the current chunk, still to come. */
  #remaining = 0
  #digits = 0
  #lineBytes = 0
  #excess = 0
  #trailerParser: HeadParser | null = null

  /** After `read`: the data lies at [dataFrom, dataTo) of the buffer; equal when there was none. */
  dataFrom = 0
  dataTo = 0
  /** After `read`: where the bytes behind the message start, when it is done. */
  consumedTo = 0
  /** Trailers of a body that is done; null when it had none. */
  trailers: HeaderMap | null = null
  /** Data bytes so far. */
  bytes = 0

  /** @param padded blanks may stand behind a chunk size, as some origins write them (BWS, RFC 9112 7.1.1, RFC 9110 5.6.3) */
  constructor(limits: BodyLimits, padded = false) {
    this.#limits = limits
    this.#padded = padded
  }

  get done(): boolean { return this.#state === State.Done }
  /** A body is expected and has not ended. */
  get open(): boolean { return this.#state !== State.Done && this.#state !== State.Idle }

  /** Starts a body of `length` bytes, BODY_UNKNOWN (chunked) or BODY_UNTIL_CLOSE. */
  begin(length: number): void {
    this.bytes = 0
    this.trailers = null
    this.#remaining = 0
    if (length === 0) this.#state = State.Done
    else if (length > 0) {
      this.#remaining = length
      this.#state = State.Length
    } else if (length === BODY_UNTIL_CLOSE) this.#state = State.UntilClose
    else {
      this.#state = State.Size
      this.#digits = 0
      this.#lineBytes = 0
      this.#excess = 0
    }
  }

  /** The connection ended. True when that completes the body. */
  finish(): boolean {
    if (this.#state === State.UntilClose) this.#state = State.Done
    return this.#state === State.Done
  }

  /** Looks at [from, to) until the body is done. Returns a BodyFault. */
  read(buffer: Buffer, from: number, to: number): number {
    switch (this.#state) {
      case State.Length: {
        const taken = Math.min(this.#remaining, to - from)
        this.dataFrom = from
        this.dataTo = this.consumedTo = from + taken
        this.bytes += taken
        if ((this.#remaining -= taken) === 0) this.#state = State.Done
        return BodyFault.None
      }
      case State.UntilClose:
        this.dataFrom = from
        this.dataTo = this.consumedTo = to
        this.bytes += to - from
        return BodyFault.None
      case State.Done:
        this.dataFrom = this.dataTo = this.consumedTo = from
        return BodyFault.None
      default:
        return this.#readChunks(buffer, from, to)
    }
  }

  #readChunks(buffer: Buffer, from: number, to: number): number {
    this.dataFrom = this.dataTo = from
    let i = from, found = false
    while (i < to) {
      switch (this.#state) {
        case State.Size: {
          const byte = buffer[i]!, digit = HEX[byte]!
          if (digit !== 255) {
            // 16 digits at most, and a number that a double holds exactly: a size is never a lossy guess.
            if (++this.#digits > 16 || this.#remaining > (Number.MAX_SAFE_INTEGER - digit) / 16) return BodyFault.BadChunk
            this.#remaining = this.#remaining * 16 + digit
          } else if (this.#digits === 0) return BodyFault.BadChunk
          else if (byte === CR) this.#state = State.SizeLf
          else if (byte === SEMICOLON) this.#state = State.Extension
          else if (this.#padded && (byte === SP || byte === HT)) this.#state = State.Padding
          else return BodyFault.BadChunk
          i++
          if (++this.#lineBytes > this.#limits.maxChunkLineBytes) return BodyFault.ChunkLineTooLong
          break
        }
        case State.Padding: {
          const byte = buffer[i]!
          if (byte === CR) this.#state = State.SizeLf
          else if (byte === SEMICOLON) this.#state = State.Extension
          else if (byte !== SP && byte !== HT) return BodyFault.BadChunk
          i++
          if (++this.#lineBytes > this.#limits.maxChunkLineBytes) return BodyFault.ChunkLineTooLong
          break
        }
        case State.Extension: {
          const byte = buffer[i]!
          if (byte === CR) this.#state = State.SizeLf
          else if (VALUE_CHAR[byte] === 0) return BodyFault.BadChunk
          i++
          if (++this.#lineBytes > this.#limits.maxChunkLineBytes) return BodyFault.ChunkLineTooLong
          break
        }
        case State.SizeLf: {
          if (buffer[i] !== LF) return BodyFault.BadChunk
          i++
          this.#excess = Math.max(0, this.#excess + this.#lineBytes + 3 - 16 - 2 * this.#remaining)
          if (this.#excess > this.#limits.maxChunkOverheadBytes) return BodyFault.ChunkOverhead
          this.#lineBytes = 0
          this.#digits = 0
          if (this.#remaining === 0) {
            this.#state = State.Trailers
            this.#trailerParser?.reset()
          } else this.#state = State.Data
          break
        }
        case State.Data: {
          const taken = Math.min(this.#remaining, to - i)
          if (!found) {
            this.dataFrom = i
            this.dataTo = i + taken
            found = true
          } else {
            buffer.copyWithin(this.dataTo, i, i + taken)
            this.dataTo += taken
          }
          i += taken
          this.bytes += taken
          if ((this.#remaining -= taken) === 0) this.#state = State.DataCr
          break
        }
        case State.DataCr:
          if (buffer[i] !== CR) return BodyFault.BadChunk
          i++
          this.#state = State.DataLf
          break
        case State.DataLf:
          if (buffer[i] !== LF) return BodyFault.BadChunk
          i++
          this.#state = State.Size
          break
        case State.Trailers: {
          const limits = this.#limits
          const parser = this.#trailerParser ??= new HeadParser('trailers', {
            maxHeadBytes: limits.maxTrailerBytes, maxHeaderLineBytes: limits.maxTrailerBytes, maxMethodBytes: 0, maxUriBytes: 0,
            maxHeaderCount: limits.maxTrailerCount === 0 ? Number.POSITIVE_INFINITY : limits.maxTrailerCount,
          })
          const result = parser.parse(buffer, i, to)
          if (result === Parsed.More) { i = to; break }
          if (result !== Parsed.Done) {
            if (result === HeadFault.TooManyFields) return BodyFault.TooManyTrailers
            const tooLarge = result === HeadFault.HeadTooLarge || result === HeadFault.LineTooLong
            return tooLarge ? BodyFault.TrailersTooLarge : BodyFault.BadTrailers
          }
          const trailers = parser.takeTrailers()
          this.trailers = trailers.size === 0 || limits.maxTrailerCount === 0 ? null : trailers
          this.#state = State.Done
          this.consumedTo = parser.consumedTo
          return BodyFault.None
        }
      }
    }
    this.consumedTo = i
    return BodyFault.None
  }
}

/**
 * Sends [from, to), which is not empty, as one chunk. What is `owned` is framed in place, so up to BUFFER_RESERVE bytes on
 * either side of it are overwritten; what is not, and cannot go as text, is copied first.
 */
export function writeChunk(stream: ByteStream, buffer: Buffer, from: number, to: number, owned: boolean): void {
  const size = (to - from).toString(16)
  if (to - from <= TEXT_RUN_MAX) {
    stream.writeText(size + '\r\n')
    writeRun(stream, buffer, from, to, owned)
    stream.writeText('\r\n')
    return
  }
  if (!owned) {
    const copy = copyWithReserve(buffer, from, to)
    frameInPlace(stream, size, copy, BUFFER_RESERVE, copy.length - BUFFER_RESERVE)
  } else if (from >= size.length + 2 && to + 2 <= buffer.length) frameInPlace(stream, size, buffer, from, to)
  else {
    stream.writeText(size + '\r\n')
    writeRun(stream, buffer, from, to, true)
    stream.writeText('\r\n')
  }
}

function frameInPlace(stream: ByteStream, size: string, buffer: Buffer, from: number, to: number): void {
  const start = from - size.length - 2
  for (let i = 0; i < size.length; i++) buffer[start + i] = size.charCodeAt(i)
  buffer[from - 2] = CR
  buffer[from - 1] = LF
  buffer[to] = CR
  buffer[to + 1] = LF
  stream.writeBytes(buffer.subarray(start, to + 2))
}

/** Sends the last chunk and the trailer section. */
export function writeLastChunk(stream: ByteStream, trailers: HeaderMap | null): void {
  const section = trailers === null ? '' : trailers.serialize(FORBIDDEN_TRAILER_KINDS, FORBIDDEN_TRAILERS)
  stream.writeText('0\r\n' + section + '\r\n')
}
