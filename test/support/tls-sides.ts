/** Pairs of TLS streams over loopback, and between them a line that cuts bytes into pieces, changes them, or ends. */
import { once } from 'node:events'
import net from 'node:net'
import type { TestContext } from 'node:test'
import tls from 'node:tls'
import type { ByteStream, StreamOwner } from '../../src/protocols/byte-stream.ts'
import { dialTcp, TcpStream } from '../../src/protocols/tcp/tcp-stream.ts'
import { acceptTls, connectTls, type HandshakeOptions, type TlsStream } from '../../src/protocols/tls/tls-stream.ts'
import { makeTestCa } from './test-ca.ts'

export const testCa = makeTestCa()
export const testSite = testCa.issue({ names: ['a.test'] })
export const serverContext = tls.createSecureContext({ cert: testSite.cert, key: testSite.key })
export const clientContext = tls.createSecureContext({ ca: testCa.cert })

export const SILENT: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

/** What is told of the end of a test, or of a part of one. */
export type Ending = Pick<TestContext, 'after'>

/** Keeps what came, in order, as words: the text, then `end`, then `closed` or the code of the error. */
export class Collector implements StreamOwner {
  stream!: ByteStream
  text = ''
  events: string[] = []
  readonly closed = Promise.withResolvers<Error | null>()
  readonly ended = Promise.withResolvers<void>()
  readonly drained = Promise.withResolvers<void>()
  readonly #waits: { length: number; resolve: (text: string) => void }[] = []
  onPiece: (collector: Collector, buffer: Buffer, from: number, to: number) => void = () => {}

  /** Resolves when at least `length` characters are there. */
  whole(length: number): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>()
    this.#waits.push({ length, resolve })
    this.#tell()
    return promise
  }
  #tell(): void { for (const { length, resolve } of this.#waits) if (this.text.length >= length) resolve(this.text) }
  onBytes(buffer: Buffer, from: number, to: number): void {
    this.text += buffer.latin1Slice(from, to)
    this.onPiece(this, buffer, from, to)
    this.#tell()
  }
  onEnd(): void {
    this.events.push('end')
    this.ended.resolve()
  }
  onDrained(): void { this.drained.resolve() }
  onClosed(error: Error | null): void {
    this.events.push(error === null ? 'closed' : (error as NodeJS.ErrnoException).code ?? error.message)
    this.closed.resolve(error)
  }
}

export interface Sides {
  readonly server: TlsStream
  readonly client: TlsStream
  readonly serverOwner: Collector
  readonly clientOwner: Collector
}

export interface SidesOptions {
  readonly server?: Partial<HandshakeOptions>
  readonly client?: Partial<HandshakeOptions>
  /** A relay between the two; left out: they are connected straight. */
  readonly line?: Line
}

/** A relay of bytes that a test interferes with. */
export class Line {
  /** Bytes at a time, toward both sides. 0: as they come. */
  readonly pieceBytes: number
  toServer: net.Socket | null = null
  toClient: net.Socket | null = null
  constructor(pieceBytes = 0) { this.pieceBytes = pieceBytes }

  async open(t: Ending, port: number): Promise<number> {
    const relay = net.createServer({ allowHalfOpen: true, noDelay: true }, client => {
      const server = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
      this.toClient = client
      this.toServer = server
      for (const [from, to] of [[client, server], [server, client]] as const) {
        from.on('data', (chunk: Buffer) => this.#pass(chunk, to))
        from.on('end', () => to.end())
        from.on('error', () => to.destroy())
        from.on('close', () => { if (from.destroyed && !from.readableEnded) to.destroy() })
      }
      t.after(() => {
        client.destroy()
        server.destroy()
      })
    }).listen(0, '127.0.0.1')
    await once(relay, 'listening')
    t.after(() => relay.close())
    return (relay.address() as net.AddressInfo).port
  }

  #pass(chunk: Buffer, to: net.Socket): void {
    if (this.pieceBytes === 0) {
      to.write(chunk)
      return
    }
    for (let at = 0; at < chunk.length; at += this.pieceBytes) to.write(chunk.subarray(at, at + this.pieceBytes))
  }
}

/** Both sides after the handshake, each with a Collector. */
export async function tlsSides(t: Ending, options: SidesOptions = {}): Promise<Sides> {
  const serverSecure = Promise.withResolvers<TlsStream>(), clientSecure = Promise.withResolvers<TlsStream>()
  const serverOwner = new Collector(), clientOwner = new Collector()
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, accepted => {
    acceptTls(TcpStream.accept(accepted, SILENT), null, { secureContext: serverContext, ...options.server }, {
      onSecure(stream) {
        stream.owner = serverOwner
        serverOwner.stream = stream
        serverSecure.resolve(stream)
      },
      onHandshakeFailed(error) { serverSecure.reject(error ?? new Error('closed')) },
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const own = (server.address() as net.AddressInfo).port
  const port = options.line === undefined ? own : await options.line.open(t, own)
  const tcp: TcpStream = dialTcp({ address: { kind: 'tcp', host: '127.0.0.1', port } }, {
    ...SILENT,
    onConnected() {
      connectTls(tcp, null, 'a.test', { secureContext: clientContext, ...options.client }, {
        onSecure(stream) {
          stream.owner = clientOwner
          clientOwner.stream = stream
          clientSecure.resolve(stream)
        },
        onHandshakeFailed(error) { clientSecure.reject(error ?? new Error('closed')) },
      }).startClient()
    },
    onClosed(error) { clientSecure.reject(error ?? new Error('closed')) },
  })
  const [made, dialled] = await Promise.all([serverSecure.promise, clientSecure.promise])
  t.after(() => {
    made.destroy()
    dialled.destroy()
  })
  return { server: made, client: dialled, serverOwner, clientOwner }
}
