/**
 * Reads responses on a connection, as strictly as RFC 9112 allows: a checker that forgave what clients need not forgive
 * would miss faults. It shares no line with the parser of the proxy, so that both cannot be wrong in the same way.
 *
 *   expect() -> feed(bytes)... -> Done, or Fault at the first byte that cannot be
 *
 * Invariant: takes bytes until the response is whole; what follows is a fault, except after 101, where it is `rest`.
 */

export const ReaderState = {
  Quiet: 0, Head: 1, Length: 2, UntilClose: 3, ChunkSize: 4, Chunk: 5, ChunkEnd: 6, Trailers: 7, Done: 8, Fault: 9,
} as const
export type ReaderState = (typeof ReaderState)[keyof typeof ReaderState]

/** Receives body bytes, borrowed for the call. */
export type BodySink = (bytes: Buffer) => void

const HEAD_MAX_BYTES = 65_536
const CHUNK_LINE_MAX_BYTES = 4096
const LF = 0x0A
const NOTHING = Buffer.alloc(0)
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
// oxlint-disable-next-line no-control-regex -- RFC 9110 5.5: what a field value may not hold.
const NO_FIELD_VALUE = /[\0-\x08\x0A-\x1F\x7F]/

export class ResponseReader {
  state: ReaderState = ReaderState.Quiet
  status = 0
  /** Says why when the state is Fault. */
  fault = ''
  /** Whether the server ends the connection after this response. */
  closes = false
  bodyBytes = 0
  /** Whether a byte of the current response has come. */
  began = false
  /** What followed a 101. */
  rest: Buffer = NOTHING
  #fields = new Map<string, string>()
  #held: Buffer = NOTHING
  #left = 0
  #noBody = false
  #sink: BodySink | null = null

  /** A request has been sent. `method` decides whether the answer has a body. */
  expect(method: string, sink: BodySink | null): void {
    this.state = ReaderState.Head
    this.status = 0
    this.closes = false
    this.bodyBytes = 0
    this.began = false
    this.#noBody = method === 'HEAD'
    this.#sink = sink
    this.#fields = new Map()
  }

  /** Values of the same name joined by a comma; '' when there is none. */
  field(name: string): string { return this.#fields.get(name) ?? '' }

  /** @returns the state after the bytes. */
  feed(bytes: Buffer): ReaderState {
    let chunk = bytes
    if (chunk.length > 0) this.began = true
    while (chunk.length > 0 && this.state !== ReaderState.Fault) {
      switch (this.state) {
        case ReaderState.Length:
        case ReaderState.Chunk: {
          const size = Math.min(this.#left, chunk.length)
          this.#body(chunk.subarray(0, size))
          this.#left -= size
          chunk = chunk.subarray(size)
          if (this.#left === 0) this.state = this.state === ReaderState.Length ? ReaderState.Done : ReaderState.ChunkEnd
          break
        }
        case ReaderState.UntilClose:
          this.#body(chunk)
          return this.state
        case ReaderState.Quiet:
          return this.#fail('bytes that nobody asked for')
        case ReaderState.Done:
          if (this.status !== 101) return this.#fail('bytes after the response')
          this.rest = this.rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.rest, chunk])
          return this.state
        default:
          chunk = this.#line(chunk)
      }
    }
    return this.state
  }

  /** The other side sent FIN. @returns whether the response is whole. */
  end(): boolean {
    if (this.state === ReaderState.UntilClose) this.state = ReaderState.Done
    return this.state === ReaderState.Done
  }

  #body(bytes: Buffer): void {
    this.bodyBytes += bytes.length
    this.#sink?.(bytes)
  }

  #fail(fault: string): ReaderState {
    this.fault = fault
    return this.state = ReaderState.Fault
  }

  /** Takes one line (or, of the head, all of them) out of the bytes. @returns what is left. */
  #line(chunk: Buffer): Buffer {
    const held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    const head = this.state === ReaderState.Head
    const end = head ? endOfHead(held) : held.indexOf(LF)
    const limit = head ? HEAD_MAX_BYTES : CHUNK_LINE_MAX_BYTES
    if (end === -1 || end > limit) {
      if (held.length > limit) {
        this.#fail(head ? `a head longer than ${limit} bytes` : `a chunk line longer than ${limit} bytes`)
        return NOTHING
      }
      this.#held = Buffer.from(held)
      return NOTHING
    }
    this.#held = NOTHING
    const text = held.toString('latin1', 0, end + 1)
    const bareCr = !head && text.indexOf('\r') !== text.length - 2
    if (!text.endsWith('\r\n') || bareCr) {
      this.#fail(`a line that does not end with CRLF: ${quoted(text)}`)
      return NOTHING
    }
    if (head) this.#head(text)
    else this.#chunkLine(text.slice(0, -2))
    return held.subarray(end + 1)
  }

  #head(text: string): void {
    const [statusLine = '', ...lines] = text.slice(0, -4).split('\r\n')
    const match = /^HTTP\/1\.1 ([1-9][0-9]{2}) ([\t -~\x80-\xFF]*)$/.exec(statusLine)
    if (match === null) { this.#fail(`a status line that is none: ${quoted(statusLine)}`); return }
    this.#fields = new Map()
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon)
      const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')
      if (colon < 1 || !TOKEN.test(name) || NO_FIELD_VALUE.test(value)) { this.#fail(`a field that is none: ${quoted(line)}`); return }
      const key = name.toLowerCase()
      const before = this.#fields.get(key)
      this.#fields.set(key, before === undefined ? value : `${before}, ${value}`)
    }
    this.status = Number(match[1])
    // An interim response; the final one follows.
    if (this.status < 200 && this.status !== 101) return
    this.#framing()
  }

  /** RFC 9112 6.3. */
  #framing(): void {
    const codings = this.field('transfer-encoding')
    const length = this.field('content-length')
    this.closes = this.field('connection').toLowerCase().split(',').some(option => option.trim() === 'close')
    if (this.#fields.has('transfer-encoding') && this.#fields.has('content-length')) {
      this.#fail('both Transfer-Encoding and Content-Length')
      return
    }
    if (this.#fields.has('content-length') && !/^[0-9]{1,15}$/.test(length)) { this.#fail(`Content-Length: ${quoted(length)}`); return }
    if (this.#noBody || this.status === 101 || this.status === 204 || this.status === 304) { this.state = ReaderState.Done; return }
    if (this.#fields.has('transfer-encoding')) {
      if (codings.toLowerCase() === 'chunked') this.state = ReaderState.ChunkSize
      else this.#fail(`Transfer-Encoding: ${quoted(codings)}`)
    } else if (this.#fields.has('content-length')) {
      this.#left = Number(length)
      this.state = this.#left === 0 ? ReaderState.Done : ReaderState.Length
    } else {
      this.closes = true
      this.state = ReaderState.UntilClose
    }
  }

  #chunkLine(line: string): void {
    if (this.state === ReaderState.ChunkEnd) {
      if (line === '') this.state = ReaderState.ChunkSize
      else this.#fail(`a chunk longer than its size: ${quoted(line)}`)
    } else if (this.state === ReaderState.Trailers) {
      if (line === '') this.state = ReaderState.Done
      else if (!TOKEN.test(line.slice(0, Math.max(line.indexOf(':'), 0)))) this.#fail(`a trailer that is none: ${quoted(line)}`)
    } else {
      const match = /^([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t -~\x80-\xFF]*)?$/.exec(line)
      if (match === null) { this.#fail(`a chunk size that is none: ${quoted(line)}`); return }
      this.#left = Number.parseInt(match[1] ?? '', 16)
      this.state = this.#left === 0 ? ReaderState.Trailers : ReaderState.Chunk
    }
  }
}

/** Index of the last byte of the head; -1 while it is not whole. A line that ends with LF alone is found by what reads the head. */
function endOfHead(bytes: Buffer): number {
  const at = bytes.indexOf('\r\n\r\n')
  if (at !== -1) return at + 3
  const bare = bytes.indexOf('\n\n')
  return bare === -1 ? -1 : bare + 1
}

function quoted(text: string): string { return JSON.stringify(text.slice(0, 100)) }
