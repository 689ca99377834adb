/**
 * Turns the bytes that reached a client into responses: the second opinion on what the proxy answered. It shares no code
 * with the proxy's parser and knows only what a proxy that follows RFC 9112 to the letter may write. As a client must, it
 * knows which request each response belongs to: `expect` is called for each request in the order of sending.
 */

export interface ExpectedResponse {
  readonly method: string
  /** HTTP/1.0: no interim response and no chunks may come. */
  readonly old: boolean
  /** 101 may be the answer. */
  readonly upgrade: boolean
}

export class ReadResponse {
  readonly status: number
  readonly fields: readonly (readonly [name: string, value: string])[]
  framing: 'none' | 'length' | 'chunked' | 'close' = 'none'
  length = 0
  bodyBytes = 0
  complete = false
  trailers: readonly (readonly [name: string, value: string])[] = []

  constructor(status: number, fields: readonly (readonly [string, string])[]) {
    this.status = status
    this.fields = fields
  }

  /** The only value of a field; null when it is absent. */
  field(name: string): string | null {
    for (const [each, value] of this.fields) if (each.toLowerCase() === name) return value
    return null
  }
}

export interface ResponseWatcher {
  /** `index`: which of the expected responses, from 0. */
  onInterim(index: number, response: ReadResponse): void
  onHead(index: number, response: ReadResponse): void
  onBody(index: number, response: ReadResponse, bytes: Buffer): void
  onComplete(index: number, response: ReadResponse): void
  /** Bytes behind a 101. */
  onTunnel(index: number, bytes: Buffer): void
}

type Step = 'head' | 'length-body' | 'close-body' | 'chunk-size' | 'chunk-data' | 'chunk-end' | 'trailers' | 'tunnel' | 'over'

const STATUS_LINE = /^HTTP\/1\.1 [1-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*$/
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
/** Field lines of these may be told once at most. */
const SINGLE = ['content-length', 'transfer-encoding', 'date', 'connection']

export class StrictResponseReader {
  readonly #watcher: ResponseWatcher
  readonly #expected: ExpectedResponse[] = []
  /** What the first wrong byte did wrong; '' while all is well. Nothing is read after a fault. */
  fault = ''
  /** Responses that are complete, interim ones aside. */
  completed = 0
  /** The last complete response said that no other follows. */
  closing = false
  #rest: Buffer = Buffer.alloc(0)
  #step: Step = 'head'
  #remaining = 0
  #current: ReadResponse = new ReadResponse(0, [])
  #trailers: (readonly [string, string])[] = []

  constructor(watcher: ResponseWatcher) { this.#watcher = watcher }

  get tunnel(): boolean { return this.#step === 'tunnel' }
  get betweenResponses(): boolean { return this.#step === 'head' && this.#rest.length === 0 }

  expect(request: ExpectedResponse): void { this.#expected.push(request) }

  push(bytes: Buffer): void {
    if (this.fault !== '') return
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    while (this.fault === '' && this.#advance());
  }

  /** FIN came: a body until close is complete now. */
  end(): void { if (this.#step === 'close-body' && this.fault === '') this.#finish() }

  #advance(): boolean {
    switch (this.#step) {
      case 'head': {
        const end = this.#rest.indexOf('\r\n\r\n')
        if (end === -1) return false
        const text = this.#rest.toString('latin1', 0, end + 4)
        this.#rest = this.#rest.subarray(end + 4)
        this.#head(text)
        return true
      }
      case 'length-body':
      case 'close-body':
      case 'chunk-data': {
        if (this.#rest.length === 0) return false
        const part = this.#step === 'close-body' ? this.#rest : this.#rest.subarray(0, this.#remaining)
        this.#current.bodyBytes += part.length
        this.#remaining -= part.length
        this.#rest = this.#rest.subarray(part.length)
        this.#watcher.onBody(this.completed, this.#current, part)
        if (this.#step === 'close-body' || this.#remaining > 0) return false
        if (this.#step === 'length-body') this.#finish()
        else this.#step = 'chunk-end'
        return true
      }
      case 'chunk-size': {
        const line = this.#line()
        if (line === null) return false
        if (!/^[0-9a-f]{1,13}$/.test(line)) return this.#fail(`chunk size line ${JSON.stringify(line)}`)
        this.#remaining = Number.parseInt(line, 16)
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
      case 'tunnel': {
        if (this.#rest.length === 0) return false
        const bytes = this.#rest
        this.#rest = Buffer.alloc(0)
        this.#watcher.onTunnel(this.completed - 1, bytes)
        return false
      }
      case 'over':
        if (this.#rest.length > 0) this.#fail(`bytes behind the last response: ${JSON.stringify(this.#rest.toString('latin1', 0, 80))}`)
        return false
    }
  }

  #line(): string | null {
    const end = this.#rest.indexOf('\r\n')
    if (end === -1) return null
    const line = this.#rest.toString('latin1', 0, end)
    this.#rest = this.#rest.subarray(end + 2)
    return line
  }

  #head(text: string): void {
    const expected = this.#expected[this.completed]
    const lines = text.slice(0, -4).split('\r\n')
    const statusLine = lines.shift()!
    if (expected === undefined) return void this.#fail(`a response to no request: ${JSON.stringify(statusLine)}`)
    if (!STATUS_LINE.test(statusLine)) return void this.#fail(`status line ${JSON.stringify(statusLine)}`)
    const fields: (readonly [string, string])[] = []
    for (const line of lines) {
      const field = this.#field(line)
      if (field === null) return
      fields.push(field)
    }
    const status = Number(statusLine.slice(9, 12))
    const response = new ReadResponse(status, fields)
    for (const name of SINGLE) {
      const isRepeated = fields.filter(([each]) => each.toLowerCase() === name).length > 1
      if (isRepeated) return void this.#fail(`${name} is repeated`)
    }
    const length = response.field('content-length'), coding = response.field('transfer-encoding')
    if (length !== null && !/^[0-9]{1,15}$/.test(length)) return void this.#fail(`Content-Length ${length}`)
    if (coding !== null && (coding !== 'chunked' || expected.old)) return void this.#fail(`Transfer-Encoding ${coding}`)
    if (length !== null && coding !== null) return void this.#fail('Content-Length together with Transfer-Encoding')
    if (status < 200 && status !== 101) {
      if (expected.old) return void this.#fail(`${status} to an HTTP/1.0 request`)
      if (length !== null || coding !== null) return void this.#fail(`a body announced with ${status}`)
      this.#watcher.onInterim(this.completed, response)
      return
    }
    this.#current = response
    this.#trailers = []
    if (status === 101) {
      if (!expected.upgrade) return void this.#fail('101 to a request that asked for no upgrade')
      this.#watcher.onHead(this.completed, response)
      this.#finish()
      this.#step = 'tunnel'
      return
    }
    const persistent = expected.old ? response.field('connection') === 'keep-alive' : response.field('connection') !== 'close'
    const bodiless = expected.method === 'HEAD' || status === 204 || status === 304
    response.framing = bodiless ? 'none' : coding !== null ? 'chunked' : length !== null ? 'length' : 'close'
    if (response.framing === 'close' && persistent) return void this.#fail('a body without an end on a connection that stays')
    response.length = Number(length ?? 0)
    this.closing = !persistent
    this.#watcher.onHead(this.completed, response)
    this.#remaining = response.length
    if (response.framing === 'chunked') this.#step = 'chunk-size'
    else if (response.framing === 'close') this.#step = 'close-body'
    else if (response.framing === 'length' && response.length > 0) this.#step = 'length-body'
    else this.#finish()
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
    const response = this.#current
    response.complete = true
    this.#step = this.closing ? 'over' : 'head'
    this.#watcher.onComplete(this.completed++, response)
  }

  #fail(fault: string): boolean {
    this.fault ||= fault
    return false
  }
}
