/**
 * Accepts connections on a handle that somebody else listens with: the filter first, then the limits, then the bytes go
 * to a session. One object per listener and worker; the `net.Server`s it makes come and go with hand-overs.
 */
import net from 'node:net'
import type { ByteStream, StreamOwner } from '../protocols/byte-stream.ts'
import { resetSocket, TcpStream } from '../protocols/tcp/tcp-stream.ts'
import type { RefusalReason } from '../telemetry/tracer.ts'
import type { ResolvedListenerOptions } from './listener-options.ts'

export interface AcceptOwner {
  /** A connection was let in. Its owner is set by the returned session. `countedAs` comes back through `TcpListener.left`. */
  onAccepted(stream: ByteStream, countedAs: string): void
  /** There is no room: close the oldest idle connection. False when none is idle. */
  closeOldestIdle(): boolean
  /** A connection was turned away; it is being reset. */
  onTurnedAway?(clientIp: string, reason: RefusalReason): void
}

/** Owner of a stream until its session takes it over, which happens in the same call. */
export const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

export class TcpListener {
  readonly #options: ResolvedListenerOptions
  readonly #owner: AcceptOwner
  readonly #perClient = new Map<string, number>()
  /** Connections open now. */
  connections = 0
  /** Connections let in, and turned away, so far. */
  accepted = 0
  refused = 0

  constructor(options: ResolvedListenerOptions, owner: AcceptOwner) {
    this.#options = options
    this.#owner = owner
  }

  createAcceptor(): net.Server {
    return net.createServer({ pauseOnConnect: true, noDelay: true, allowHalfOpen: true }, socket => this.#accept(socket))
  }

  #accept(socket: net.Socket): void {
    const options = this.#options
    if (options.maxConnections !== 0 && this.connections >= options.maxConnections && !this.#owner.closeOldestIdle()) {
      this.#refuse(socket, 'max-connections')
      return
    }
    let client = ''
    if (options.connectionFilter !== null || options.maxConnectionsPerClient !== 0) {
      const ip = socket.remoteAddress ?? ''
      if (options.connectionFilter !== null && !allows(options.connectionFilter, ip)) {
        this.#refuse(socket, 'connection-filter')
        return
      }
      if (options.maxConnectionsPerClient !== 0) {
        client = clientOf(ip)
        if (client !== '') {
          const open = this.#perClient.get(client) ?? 0
          if (open >= options.maxConnectionsPerClient) {
            this.#refuse(socket, 'max-connections-per-client')
            return
          }
          this.#perClient.set(client, open + 1)
        }
      }
    }
    this.connections++
    this.accepted++
    this.#owner.onAccepted(TcpStream.accept(socket, NOBODY), client)
  }

  #refuse(socket: net.Socket, reason: RefusalReason): void {
    this.refused++
    this.#owner.onTurnedAway?.(socket.remoteAddress ?? '', reason)
    socket.on('error', () => { /* it is being reset */ })
    resetSocket(socket)
  }

  /** A connection that was let in is gone. */
  left(countedAs: string): void {
    this.connections--
    if (countedAs === '') return
    const open = this.#perClient.get(countedAs)! - 1
    if (open === 0) this.#perClient.delete(countedAs)
    else this.#perClient.set(countedAs, open)
  }
}

/** A filter that throws lets nobody in. */
function allows(filter: (remoteIp: string) => boolean, ip: string): boolean {
  try { return filter(ip) } catch { return false }
}

/** Who counts as one client: an IPv4 address or an IPv6 /64; '' for loopback and Unix sockets, which are exempt. */
export function clientOf(ip: string): string {
  if (ip === '' || ip.startsWith('127.') || ip === '::1' || ip.startsWith('::ffff:127.')) return ''
  if (!ip.includes(':')) return ip
  if (ip.startsWith('::ffff:')) return ip.slice(7)
  const [head = '', tail] = ip.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':')
    while (groups.length + rest.length < 8) groups.push('0')
    groups.push(...rest)
  }
  return groups.slice(0, 4).join(':')
}
