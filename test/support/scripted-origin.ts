/**
 * A raw TCP origin that does what a test tells it: exact bytes, in pieces, early, late, never, cut or reset. It keeps
 * every byte that reached it, and reads them with the strict reader, so that a test can ask what the proxy really sent.
 */
import net from 'node:net'
import { type ReadRequest, StrictRequestReader } from './strict-request-reader.ts'
import { waitFor } from './wait-for.ts'

/** Runs once for each request, when its head is complete. A throw fails `ScriptedOrigin.stop`. */
export type Script = (exchange: OriginExchange) => void | Promise<void>

export class OriginConnection {
  readonly socket: net.Socket
  readonly reader = new StrictRequestReader()
  /** Every byte received; only the first megabyte is kept. */
  readonly chunks: Buffer[] = []
  bytesReceived = 0
  ended = false
  closed = false
  error: NodeJS.ErrnoException | null = null
  /** Whether a FIN behind whole requests is answered by one. @default true */
  answersEnd = true

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      if (this.bytesReceived < 1_048_576) this.chunks.push(chunk)
      this.bytesReceived += chunk.length
      this.reader.push(chunk)
    })
    socket.on('end', () => { this.ended = true })
    socket.on('error', (error: NodeJS.ErrnoException) => { this.error = error })
    socket.on('close', () => { this.closed = true })
  }

  get text(): string { return Buffer.concat(this.chunks).toString('latin1') }
}

class Abandoned extends Error {}

export class OriginExchange {
  readonly connection: OriginConnection
  readonly request: ReadRequest
  readonly #whole = Promise.withResolvers<ReadRequest>()

  constructor(connection: OriginConnection, request: ReadRequest) {
    this.connection = connection
    this.request = request
  }

  /** The request with its whole body. When the connection ends before it is whole the script ends here, which is no failure. */
  whole(): Promise<ReadRequest> { return this.#whole.promise }
  completed(): void { this.#whole.resolve(this.request) }
  abandoned(): void {
    this.#whole.promise.catch(() => { /* Perhaps nobody waits for it. */ })
    this.#whole.reject(new Abandoned())
  }

  /** Resolves when the kernel has the bytes, or the connection is gone. */
  send(bytes: string | Buffer): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const { socket } = this.connection
    if (socket.destroyed || socket.writableEnded) return Promise.resolve()
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, () => resolve())
    return promise
  }

  /** FIN behind what was sent. */
  end(): void { this.connection.socket.end() }
  destroy(): void { this.connection.socket.destroy() }
  reset(): void { this.connection.socket.resetAndDestroy() }
  /** Stops and restarts reading what the proxy sends. */
  pause(): void { this.connection.socket.pause() }
  resume(): void { this.connection.socket.resume() }
}

export class ScriptedOrigin {
  readonly connections: OriginConnection[] = []
  /** What to do with the next request; tests replace it. */
  script: Script
  readonly #server: net.Server
  readonly #failures: unknown[] = []
  #port = 0

  private constructor(script: Script) {
    this.script = script
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#accept(socket))
  }

  static async start(script: Script = answerOk): Promise<ScriptedOrigin> {
    const origin = new ScriptedOrigin(script)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    origin.#server.once('error', reject)
    origin.#server.listen(0, '127.0.0.1', () => resolve())
    await promise
    origin.#port = (origin.#server.address() as net.AddressInfo).port
    return origin
  }

  get port(): number { return this.#port }
  get authority(): string { return `127.0.0.1:${this.#port}` }

  /** All requests whose heads arrived, over all connections, in the order of the connections. */
  get requests(): ReadRequest[] { return this.connections.flatMap(connection => connection.reader.requests) }
  get bytesReceived(): number { return this.connections.reduce((sum, connection) => sum + connection.bytesReceived, 0) }
  /** The first fault of each connection whose bytes were not strict HTTP. */
  get faults(): string[] { return this.connections.map(connection => connection.reader.fault).filter(fault => fault !== '') }
  get openConnections(): number { return this.connections.filter(connection => !connection.closed).length }

  /** Waits until so many whole requests arrived and returns the last of them. */
  async received(count = 1): Promise<ReadRequest> {
    const complete = (): ReadRequest[] => this.requests.filter(request => request.complete)
    const seen = (): unknown => [this.requests.length, this.faults]
    await waitFor(`${count} whole requests at the origin`, () => complete().length >= count, { seen })
    return complete()[count - 1]!
  }

  /** Closes everything; fails when a script failed. */
  async stop(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    for (const connection of this.connections) connection.socket.destroy()
    await promise
    if (this.#failures.length > 0) throw new AggregateError(this.#failures, 'a script of the origin failed')
  }

  #accept(socket: net.Socket): void {
    const connection = new OriginConnection(socket)
    this.connections.push(connection)
    let current: OriginExchange | null = null
    connection.reader.onHead = request => {
      current = new OriginExchange(connection, request)
      // Scripts are plain code in a test: what they throw is kept for stop(), as nobody awaits them.
      void this.#run(current)
    }
    connection.reader.onComplete = () => current?.completed()
    // One request at a time: an exchange before the current one is complete.
    socket.on('close', () => current?.abandoned())
    socket.on('end', () => {
      const { answersEnd, reader } = connection
      const isPartRead = !reader.betweenRequests && reader.requests.at(-1)?.complete === false
      if (answersEnd && !isPartRead) socket.end()
    })
  }

  async #run(exchange: OriginExchange): Promise<void> {
    try { await this.script(exchange) } catch (failure) { if (!(failure instanceof Abandoned)) this.#failures.push(failure) }
  }
}

/** A response with a Content-Length, as bytes. */
export function response(status: number, body: string | Buffer = '', fields: readonly (readonly [string, string])[] = []): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const head = `HTTP/1.1 ${status} Scripted\r\n${lines}Content-Length: ${bytes.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes])
}

/** A chunk, framed. */
export function chunk(data: string | Buffer): Buffer {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
}

/** Reads the whole request, then answers 200 with `ok`. */
export async function answerOk(exchange: OriginExchange): Promise<void> {
  await exchange.whole()
  await exchange.send(response(200, 'ok'))
}

/** A script that reads the whole request, then sends these bytes. */
export function answer(bytes: string | Buffer): Script {
  return async exchange => {
    await exchange.whole()
    await exchange.send(bytes)
  }
}
