/**
 * Turns the bytes that reached an origin into requests: the second opinion on what the proxy sent. It shares no code
 * with the proxy's own parser, knows only what a proxy that follows RFC 9112 to the letter may write, and calls
 * everything else a fault. It is slow on purpose: one decoded line at a time, one rule a line.
 *
 * With the rules of `client` it says what a client's bytes mean, if they have one meaning at all: then also HTTP/1.0,
 * one empty line in front, chunk extensions and the other forms of the same length pass. What it calls a fault there
 * must not reach an origin.
 */
import { createHash, type Hash } from 'node:crypto'

export class ReadRequest {
  readonly method: string
  readonly target: string
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly framing: 'none' | 'length' | 'chunked'
  /** Every byte from the method to the empty line. */
  readonly headText: string
  trailers: readonly (readonly [name: string, value: string])[] = []
  bodyBytes = 0
  complete = false
  /** Data of each chunk, or of each read; only the first megabyte is kept. */
  readonly #chunks: Buffer[] = []
  readonly #hash: Hash = createHash('sha256')
  #digest = ''

  constructor(head: Pick<ReadRequest, 'method' | 'target' | 'fields' | 'framing' | 'headText'>) {
    this.method = head.method
    this.target = head.target
    this.fields = head.fields
    this.framing = head.framing
    this.headText = head.headText
  }

  /** The value of a field, repeated ones joined by a comma; null when it is absent. */
  field(name: string): string | null {
    const values = this.fields.filter(([each]) => each.toLowerCase() === name.toLowerCase()).map(([, value]) => value)
    return values.length === 0 ? null : values.join(', ')
  }

  /** Decoded body, its first megabyte. */
  get body(): Buffer { return Buffer.concat(this.#chunks) }
  get bodyText(): string { return this.body.toString('latin1') }
  /** Hex SHA-256 of the whole decoded body. */
  get bodySha256(): string { return this.#digest === '' ? this.#digest = this.#hash.copy().digest('hex') : this.#digest }

  addBody(bytes: Buffer): void {
    if (this.bodyBytes < 1_048_576) this.#chunks.push(Buffer.from(bytes))
    this.bodyBytes += bytes.length
    this.#hash.update(bytes)
  }
}

type Step = 'head' | 'length-body' | 'chunk-size' | 'chunk-data' | 'chunk-end' | 'trailers'

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

export class StrictRequestReader {
  readonly #rules: 'proxy' | 'client'
  readonly requests: ReadRequest[] = []
  /** What the first wrong byte did wrong; '' while all is well. Nothing is read after a fault. */
  fault = ''
  onHead: (request: ReadRequest) => void = () => {}
  onComplete: (request: ReadRequest) => void = () => {}

  #rest: Buffer = Buffer.alloc(0)
  #step: Step = 'head'
  #remaining = 0
  #trailers: (readonly [string, string])[] = []

  constructor(rules: 'proxy' | 'client' = 'proxy') { this.#rules = rules }

  /** Whether the bytes so far end between two requests. */
  get betweenRequests(): boolean { return this.fault === '' && this.#step === 'head' && this.#rest.length === 0 }

  push(bytes: Buffer): void {
    if (this.fault !== '') return
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    while (this.fault === '' && this.#advance());
  }

  /** Takes one step with the bytes at hand. @returns false when it needs more. */
  #advance(): boolean {
    switch (this.#step) {
      case 'head': {
        const startsWithLineEnd = this.#rest.length >= 2 && this.#rest.toString('latin1', 0, 2) === '\r\n'
        if (this.#rules === 'client' && startsWithLineEnd) this.#rest = this.#rest.subarray(2)
        const end = this.#rest.indexOf('\r\n\r\n')
        if (end === -1) return false
        const text = this.#rest.toString('latin1', 0, end + 4)
        this.#rest = this.#rest.subarray(end + 4)
        this.#head(text)
        return true
      }
      case 'length-body':
      case 'chunk-data': {
        if (this.#rest.length === 0) return false
        const part = this.#rest.subarray(0, this.#remaining)
        this.#current.addBody(part)
        this.#remaining -= part.length
        this.#rest = this.#rest.subarray(part.length)
        if (this.#remaining > 0) return false
        if (this.#step === 'length-body') this.#finish()
        else this.#step = 'chunk-end'
        return true
      }
      case 'chunk-size': {
        const line = this.#line()
        if (line === null) return false
        const sizeLine = this.#pattern(/^[0-9a-fA-F]{1,13}$/, /^[0-9a-fA-F]{1,16}(;[\t\x20-\x7e\x80-\xff]*)?$/)
        if (!sizeLine.test(line)) return this.#fail(`chunk size line ${JSON.stringify(line)}`)
        this.#remaining = Number.parseInt(line, 16)
        if (!Number.isSafeInteger(this.#remaining)) return this.#fail(`chunk size ${JSON.stringify(line)}`)
        this.#step = this.#remaining === 0 ? 'trailers' : 'chunk-data'
        return true
      }
      case 'chunk-end': {
        if (this.#rest.length < 2) return false
        if (this.#rest.toString('latin1', 0, 2) !== '\r\n') return this.#fail('no CRLF behind chunk data')
        this.#rest = this.#rest.subarray(2)
        this.#step = 'chunk-size'
        return true
      }
      case 'trailers': {
        const line = this.#line()
        if (line === null) return false
        if (line === '') {
          this.#current.trailers = this.#trailers
          this.#finish()
          return true
        }
        const field = this.#field(line)
        if (field !== null) this.#trailers.push(field)
        return true
      }
    }
  }

  #pattern(proxy: RegExp, client: RegExp): RegExp { return this.#rules === 'proxy' ? proxy : client }

  get #current(): ReadRequest { return this.requests.at(-1)! }

  #line(): string | null {
    const end = this.#rest.indexOf('\r\n')
    if (end === -1) return null
    const line = this.#rest.toString('latin1', 0, end)
    this.#rest = this.#rest.subarray(end + 2)
    return line
  }

  #head(text: string): void {
    const lines = text.slice(0, -4).split('\r\n')
    const requestLine = lines.shift()!
    const parts = requestLine.split(' ')
    const [method = '', target = '', version = ''] = parts
    if (parts.length !== 3) return void this.#fail(`request line ${JSON.stringify(requestLine)}`)
    if (!TOKEN.test(method)) return void this.#fail(`method ${JSON.stringify(method)}`)
    if (!/^[\x21-\x7e]+$/.test(target)) return void this.#fail(`target ${JSON.stringify(target)}`)
    if (!this.#pattern(/^HTTP\/1\.1$/, /^HTTP\/1\.[01]$/).test(version)) return void this.#fail(`version ${JSON.stringify(version)}`)
    const fields: (readonly [string, string])[] = []
    for (const line of lines) {
      const field = this.#field(line)
      if (field === null) return
      fields.push(field)
    }
    const all = (name: string): string[] => fields.filter(([each]) => each.toLowerCase() === name).map(([, value]) => value)
    const hosts = all('host').length
    if (hosts !== 1 && !(version === 'HTTP/1.0' && hosts === 0)) return void this.#fail(`${hosts} Host fields`)
    const lengths = all('content-length')
    const codings = all('transfer-encoding')
    if (lengths.length + codings.length > 1) {
      return void this.#fail(`${lengths.length} Content-Length and ${codings.length} Transfer-Encoding fields`)
    }
    if (lengths.length === 1 && !/^[0-9]{1,15}$/.test(lengths[0]!)) return void this.#fail(`Content-Length ${JSON.stringify(lengths[0])}`)
    if (codings.length === 1) {
      const isChunked = this.#pattern(/^chunked$/, /^chunked$/i).test(codings[0]!)
      if (version === 'HTTP/1.0' || !isChunked) return void this.#fail(`Transfer-Encoding ${JSON.stringify(codings[0])}`)
    }
    const framing = codings.length === 1 ? 'chunked' : lengths.length === 1 ? 'length' : 'none'
    const request = new ReadRequest({ method, target, fields, framing, headText: text })
    this.requests.push(request)
    this.#trailers = []
    this.onHead(request)
    if (framing === 'chunked') this.#step = 'chunk-size'
    else if (framing === 'length' && Number(lengths[0]) > 0) {
      this.#remaining = Number(lengths[0])
      this.#step = 'length-body'
    } else this.#finish()
  }

  #field(line: string): readonly [string, string] | null {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon)
    const value = line.slice(colon + 1).replace(/^[\t ]+|[\t ]+$/g, '')
    if (colon < 1 || !TOKEN.test(name) || !FIELD_VALUE.test(value)) {
      this.#fail(`field line ${JSON.stringify(line)}`)
      return null
    }
    return [name, value]
  }

  #finish(): void {
    const request = this.#current
    request.complete = true
    this.#step = 'head'
    this.onComplete(request)
  }

  #fail(fault: string): boolean {
    this.fault ||= fault
    return false
  }
}
