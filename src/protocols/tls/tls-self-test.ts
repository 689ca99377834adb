/**
 * Proves once a process what tls-socket.ts takes from Node.js without its being public: that a connection can be given to a
 * TLSSocket by its handle and read through `onread`, in both roles, and that an end with close_notify is told from one without.
 * The handshake is made with a key that both sides know (RFC 4279): it needs no certificate.
 */
import net from 'node:net'
import type { StreamOwner } from '../byte-stream.ts'
import { dialTcp, TcpStream } from '../tcp/tcp-stream.ts'
import { acceptTls, connectTls, useOnread, type HandshakeOptions, type HandshakeOwner, type TlsStream } from './tls-stream.ts'

const LIMIT_MS = 2000
const KEY = Buffer.alloc(32, 1)

let tested: Promise<boolean> | null = null

/** Without what it proves sockets are read through 'data'. Resolves to what holds. */
export function tlsSelfTest(): Promise<boolean> {
  return tested ??= probe().catch(() => false).then(works => {
    useOnread(works)
    return works
  })
}

interface Run {
  readonly server: HandshakeOptions
  readonly client: HandshakeOptions
  readonly port: number
  readonly reject: (reason: Error) => void
}

async function probe(): Promise<boolean> {
  // OpenSSL takes no keys without a certificate in TLS 1.3.
  const { createSecureContext } = process.getBuiltinModule('node:tls')
  const secureContext = createSecureContext({ maxVersion: 'TLSv1.2', ciphers: 'PSK-AES128-GCM-SHA256' })
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const server = { secureContext, pskCallback: () => KEY } as HandshakeOptions
  const client = { secureContext, pskCallback: () => ({ psk: KEY, identity: 'self-test' }) } as HandshakeOptions
  const limit = setTimeout(() => reject(new Error('self-test timed out')), LIMIT_MS)
  const listening = net.createServer({ pauseOnConnect: true }, accepted => {
    acceptTls(TcpStream.accept(accepted, SILENT), null, server, new Waiting(reject, stream => { stream.owner = new Echo(stream) }))
  })
  listening.on('error', reject)
  // Exclusive: within a cluster worker Node would otherwise ask a primary that gives out no sockets.
  listening.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
    const run = { server, client, port: (listening.address() as net.AddressInfo).port, reject }
    Promise.all([ask(run, 'end'), ask(run, 'cut')]).then(([ended, cut]) => resolve(ended === 'pong whole' && cut === 'pong cut'), reject)
  })
  try { return await promise } finally {
    clearTimeout(limit)
    net.Server.prototype.close.call(listening)
  }
}

const SILENT: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

class Waiting implements HandshakeOwner {
  readonly #fail: (reason: Error) => void
  readonly onSecure: (stream: TlsStream) => void
  constructor(fail: (reason: Error) => void, onSecure: (stream: TlsStream) => void) {
    this.#fail = fail
    this.onSecure = onSecure
  }
  onHandshakeFailed(error: Error | null): void { this.#fail(error ?? new Error('closed during the handshake')) }
}

/** Answers, and ends in the way that it is asked for. */
class Echo implements StreamOwner {
  readonly #stream: TlsStream
  #got = ''
  constructor(stream: TlsStream) { this.#stream = stream }
  onBytes(buffer: Buffer, from: number, to: number): void {
    this.#got += buffer.latin1Slice(from, to)
    if (this.#got.length < 3) return
    this.#stream.writeText('pong')
    this.#stream.flush()
    if (this.#got === 'end') this.#stream.end()
    else this.#stream.destroy()
  }
  onEnd(): void {}
  onDrained(): void {}
  onClosed(): void {}
}

/** What came, and whether the end was said. */
function ask({ client, port, reject }: Run, text: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const tcp: TcpStream = dialTcp({ address: { kind: 'tcp', host: '127.0.0.1', port } }, {
    ...SILENT,
    onConnected() {
      connectTls(tcp, null, '', client, new Waiting(reject, stream => {
        let got = ''
        stream.owner = {
          onBytes(buffer, from, to) { got += buffer.latin1Slice(from, to) },
          onEnd() {
            stream.end()
            resolve(`${got} whole`)
          },
          onDrained() {},
          onClosed(error) { resolve(`${got} ${(error as NodeJS.ErrnoException | null)?.code === 'ERR_TLS_CUT' ? 'cut' : 'closed'}`) },
        }
        stream.writeText(text)
      })).startClient()
    },
    onClosed(error) { reject(error ?? new Error('closed before it was connected')) },
  })
  return promise
}
