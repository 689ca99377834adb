/**
 * A TCP or Unix-socket client that sends exactly the bytes it is given, in exactly the pieces it is given, and keeps
 * exactly the bytes that come back. It reads responses leniently: what is wrong with them is for the test to say.
 */
import { readFile } from 'node:fs/promises'
import net from 'node:net'
import { waitFor, within } from './wait-for.ts'

/** `localAddress`: where the client comes from. */
export type Address = { readonly host: string; readonly port: number; readonly localAddress?: string } | { readonly path: string }

export interface RawResponse {
  readonly version: string
  readonly status: number
  readonly reason: string
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** 1xx heads that came before it, other than 101. */
  readonly interim: readonly RawResponse[]
  readonly body: Buffer
  readonly trailers: readonly (readonly [name: string, value: string])[]
  readonly framing: 'none' | 'length' | 'chunked' | 'until-close'
  /** False when the connection ended before the framing said so. A body that runs until close is complete unless it was reset. */
  readonly complete: boolean
  /** Head and framed body as they came, interim heads excluded. */
  readonly raw: Buffer
  field(name: string): string | null
}

export interface ReadOptions {
  /** Method of the request that is answered: HEAD has no body, 2xx to CONNECT neither. @default 'GET' */
  method?: string
  /** @default 5000 */
  deadlineMs?: number
}

type Done = (framing: RawResponse['framing'], body: Buffer, complete: boolean, trailers?: RawResponse['trailers']) => RawResponse

export class RawClient {
  readonly socket: net.Socket
  /** Every byte received so far. */
  received: Buffer = Buffer.alloc(0)
  /** The other side has sent FIN. */
  ended = false
  /** Nothing more will come: FIN, RST or an error of ours. */
  closed = false
  error: NodeJS.ErrnoException | null = null
  /** Where the next `readResponse` starts in `received`. */
  #at = 0
  #chunks: Buffer[] = []
  #wake: (() => void) | null = null
  readonly #remotePort: number
  readonly #localPort: number

  private constructor(socket: net.Socket) {
    this.socket = socket
    this.#remotePort = socket.remotePort ?? 0
    this.#localPort = socket.localPort ?? 0
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#wakeUp()
    })
    socket.on('end', () => {
      this.ended = true
      this.#wakeUp()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => { this.error = error })
    socket.on('close', () => {
      this.closed = true
      this.#wakeUp()
    })
  }

  static async connect(address: Address, deadlineMs = 5000): Promise<RawClient> {
    const { promise, resolve, reject } = Promise.withResolvers<net.Socket>()
    const socket = net.connect({ ...address, allowHalfOpen: true, noDelay: true })
    socket.once('connect', () => resolve(socket))
    socket.once('error', reject)
    await within('a connection', promise, deadlineMs)
    socket.removeListener('error', reject)
    return new RawClient(socket)
  }

  /** Sends bytes in one write; resolves when the kernel has them, or the connection is gone. */
  write(bytes: string | Buffer): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    if (this.socket.destroyed || this.socket.writableEnded) return Promise.resolve()
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, () => resolve())
    return promise
  }

  /** Sends bytes cut at the given offsets, so that the receiver takes each piece in a read of its own. */
  async writeSplit(bytes: string | Buffer, points: readonly number[]): Promise<void> {
    const whole = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    let from = 0
    for (const to of [...points, whole.length]) {
      if (to <= from || to > whole.length) continue
      await this.write(whole.subarray(from, to))
      from = to
      if (from < whole.length) await this.#taken()
      if (this.closed) return
    }
  }

  /** Sends FIN. */
  end(): void { this.socket.end() }
  /** Sends RST. */
  reset(): void { this.socket.resetAndDestroy() }
  destroy(): void { this.socket.destroy() }
  [Symbol.dispose](): void { this.destroy() }

  /** Stops and restarts reading, so that the sender meets a full window. */
  pause(): void { this.socket.pause() }
  resume(): void { this.socket.resume() }

  /** Bytes received that no `readResponse` or `readExactly` has taken. */
  get unread(): Buffer {
    this.#join()
    return this.received.subarray(this.#at)
  }

  async readExactly(size: number, deadlineMs = 5000): Promise<Buffer> {
    await this.#until(`${size} bytes`, () => this.unread.length >= size || this.ended || this.closed, deadlineMs)
    if (this.unread.length < size) throw new Error(`connection ended after ${this.unread.length} of ${size} bytes: ${this.#excerpt()}`)
    const bytes = this.unread.subarray(0, size)
    this.#at += size
    return bytes
  }

  /** Everything that came until the other side ended or reset the connection. */
  async readUntilClose(deadlineMs = 5000): Promise<Buffer> {
    await this.#until('the connection to end', () => this.ended || this.closed, deadlineMs)
    const bytes = this.unread
    this.#at = this.received.length
    return bytes
  }

  /** Whether the other side ends the connection within the deadline; FIN and RST both count. */
  async closes(deadlineMs = 5000): Promise<boolean> {
    try {
      await this.#until('the connection to end', () => this.ended || this.closed, deadlineMs)
      return true
    } catch { return false }
  }

  /** The next final response, with the 1xx heads before it. Fails when the connection ends before a whole head. */
  async readResponse(options: ReadOptions = {}): Promise<RawResponse> {
    const deadlineMs = options.deadlineMs ?? 5000
    const interim: RawResponse[] = []
    for (;;) {
      const head = await this.#readHead(deadlineMs)
      if (head.status < 200 && head.status !== 101) interim.push(head)
      else return await this.#readBody(head, interim, options.method ?? 'GET', deadlineMs)
    }
  }

  /** The next head alone, 1xx included; what follows stays unread. */
  async readHead(deadlineMs = 5000): Promise<RawResponse> { return await this.#readHead(deadlineMs) }

  async #readHead(deadlineMs: number): Promise<RawResponse> {
    await this.#until('a response head', () => this.unread.includes('\r\n\r\n') || this.ended || this.closed, deadlineMs)
    const end = this.unread.indexOf('\r\n\r\n')
    if (end === -1) {
      const fault = this.error === null ? '' : ` (${this.error.code})`
      throw new Error(`connection ended${fault} before a response head; got ${this.#excerpt()}`)
    }
    const raw = this.unread.subarray(0, end + 4)
    this.#at += end + 4
    const [statusLine = '', ...lines] = raw.toString('latin1', 0, end).split('\r\n')
    const [version = '', status = ''] = statusLine.split(' ')
    const reason = statusLine.split(' ').slice(2).join(' ')
    const fields = lines.map(splitField)
    const noBody = { interim: [], body: Buffer.alloc(0), trailers: [], framing: 'none', complete: true } as const
    return responseOf({ version, status: Number(status), reason, fields, ...noBody, raw })
  }

  async #readBody(head: RawResponse, interim: RawResponse[], method: string, deadlineMs: number): Promise<RawResponse> {
    const start = this.#at
    const done: Done = (framing, body, complete, trailers = []) => {
      const raw = Buffer.concat([head.raw, this.received.subarray(start, this.#at)])
      return responseOf({ ...head, interim, body, trailers, framing, complete, raw })
    }
    const length = head.field('content-length')
    const hasNoBody = method === 'HEAD' || head.status === 204 || head.status === 304
    const becomesTunnel = head.status === 101 || (method === 'CONNECT' && head.status < 300)
    if (hasNoBody || becomesTunnel) return done('none', Buffer.alloc(0), true)
    if (head.field('transfer-encoding') !== null) return await this.#readChunked(done, deadlineMs)
    if (length !== null) {
      const size = Number(length)
      await this.#until(`a body of ${size} bytes`, () => this.#available >= size || this.ended || this.closed, deadlineMs)
      const body = this.unread.subarray(0, size)
      this.#at += body.length
      return done('length', body, body.length === size)
    }
    const body = await this.readUntilClose(deadlineMs)
    return done('until-close', body, this.ended)
  }

  async #readChunked(done: Done, deadlineMs: number): Promise<RawResponse> {
    const parts: Buffer[] = []
    const lineEnds = (): boolean => this.unread.includes('\r\n') || this.ended || this.closed
    const line = async (): Promise<string | null> => {
      await this.#until('a chunk line', lineEnds, deadlineMs)
      const end = this.unread.indexOf('\r\n')
      if (end === -1) return null
      const text = this.unread.toString('latin1', 0, end)
      this.#at += end + 2
      return text
    }
    for (;;) {
      const sizeLine = await line()
      if (sizeLine === null) return done('chunked', Buffer.concat(parts), false)
      const size = Number.parseInt(sizeLine, 16)
      if (Number.isNaN(size)) throw new Error(`chunk size line ${JSON.stringify(sizeLine)}`)
      if (size === 0) break
      await this.#until(`a chunk of ${size} bytes`, () => this.#available >= size + 2 || this.ended || this.closed, deadlineMs)
      if (this.unread.length < size + 2) {
        parts.push(this.unread.subarray(0, size))
        this.#at = this.received.length
        return done('chunked', Buffer.concat(parts), false)
      }
      parts.push(this.unread.subarray(0, size))
      this.#at += size + 2
    }
    const trailers: (readonly [string, string])[] = []
    for (;;) {
      const text = await line()
      if (text === null) return done('chunked', Buffer.concat(parts), false, trailers)
      if (text === '') return done('chunked', Buffer.concat(parts), true, trailers)
      trailers.push(splitField(text))
    }
  }

  /** Bytes at hand, without joining them. */
  get #available(): number { return this.received.length - this.#at + this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0) }

  #join(): void {
    if (this.#chunks.length === 0) return
    this.received = Buffer.concat([this.received, ...this.#chunks])
    this.#chunks = []
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }

  /** What came and was not taken, for a message. */
  #excerpt(): string { return JSON.stringify(this.unread.toString('latin1').slice(0, 500)) }

  async #until(what: string, condition: () => boolean, deadlineMs: number): Promise<void> {
    const late = performance.now() + deadlineMs
    while (!condition()) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const left = late - performance.now()
      try { await within(what, promise, Math.max(left, 1)) } catch {
        throw new Error(`waited ${deadlineMs} ms for ${what}; got ${this.#excerpt()}`)
      }
    }
  }

  /**
   * The receiver's kernel queue of this connection is empty: everything written has been read. A receiver that has stopped
   * reading is not waited for.
   */
  async #taken(): Promise<void> {
    if (process.platform !== 'linux' || this.#remotePort === 0) return
    const receiver = `[0-9A-F]+:${hexPort(this.#remotePort)}`
    const us = `[0-9A-F]+:${hexPort(this.#localPort)}`
    const wanted = new RegExp(` ${receiver} ${us} [0-9A-F]{2} [0-9A-F]{8}:00000000 `)
    const tables = ['/proc/self/net/tcp', '/proc/self/net/tcp6']
    try {
      await waitFor('the receiver to read', async () => {
        for (const table of tables) if (wanted.test(await readFile(table, 'latin1'))) return true
        return this.closed
      }, { deadlineMs: 300 })
    } catch { /* It has stopped reading, which is its right. */ }
  }
}

function hexPort(port: number): string { return port.toString(16).toUpperCase().padStart(4, '0') }

function splitField(line: string): readonly [string, string] {
  const colon = line.indexOf(':')
  return colon === -1 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).trim()]
}

function responseOf(parts: Omit<RawResponse, 'field'>): RawResponse {
  return {
    ...parts,
    field(name) {
      const values = parts.fields.filter(([each]) => each.toLowerCase() === name.toLowerCase()).map(([, value]) => value)
      return values.length === 0 ? null : values.join(', ')
    },
  }
}
