/**
 * What is known of a connection over a socket. The kernel is asked for the local address only when that is read: it is a system
 * call. Its time is exact, and so is what the clock says next: while nothing has a deadline no tick moves the clock on.
 */
import type net from 'node:net'
import type { StreamDigest, TlsFacts } from '../byte-stream.ts'
import type { RemoteEnd } from './stream-handle.ts'

export class SocketDigest implements StreamDigest {
  readonly #socket: net.Socket
  readonly establishedAt: number
  readonly remoteIp: string
  readonly remotePort: number
  readonly tls: TlsFacts | null
  constructor(socket: net.Socket, establishedAt: number, { address, port }: RemoteEnd, tls: TlsFacts | null) {
    this.#socket = socket
    this.establishedAt = establishedAt
    // An IPv4 client of a dual-stack listener is an IPv4 client.
    this.remoteIp = address.startsWith('::ffff:') ? address.slice(7) : address
    this.remotePort = port
    this.tls = tls
  }
  get remoteAddress(): string { return printAddress(this.remoteIp, this.remotePort) }
  get localAddress(): string { return printAddress(this.#socket.localAddress ?? '', this.#socket.localPort ?? 0) }
}

/** Of what lies on a stream that has addresses of its own. */
export class DigestAbove implements StreamDigest {
  readonly #below: StreamDigest
  readonly tls: TlsFacts
  constructor(below: StreamDigest, tls: TlsFacts) {
    this.#below = below
    this.tls = tls
  }
  get remoteAddress(): string { return this.#below.remoteAddress }
  get remoteIp(): string { return this.#below.remoteIp }
  get remotePort(): number { return this.#below.remotePort }
  get localAddress(): string { return this.#below.localAddress }
  get establishedAt(): number { return this.#below.establishedAt }
}

function printAddress(ip: string, port: number): string {
  return ip === '' ? '' : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
}
