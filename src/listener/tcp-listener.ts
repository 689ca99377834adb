/**
 * Lets connections in or turns them away: the filter first, then the limits; what is let in belongs to the owner. One
 * object per listener and worker; the acceptors that it makes come and go with hand-overs.
 */
import net from 'node:net'
import { clientNetwork } from '../primitives/address-blocks.ts'
import { decisionOf } from '../primitives/application-call.ts'
import type { ByteStream, StreamOwner } from '../protocols/byte-stream.ts'
import { remoteEndOf, type StreamHandle } from '../protocols/tcp/stream-handle.ts'
import { canAdopt, resetSocket, TcpStream } from '../protocols/tcp/tcp-stream.ts'
import type { RefusalReason } from '../telemetry/tracer.ts'
import type { AcceptCall, Acceptor } from './acceptor.ts'
import { HandleAcceptor } from './handle-acceptor.ts'
import type { ResolvedListenerOptions } from './listener-options.ts'
import { TcpAcceptor } from './tcp-acceptor.ts'

export interface AcceptOwner {
  /**
   * Why there is no room for one more connection; null: there is, and one that waits may have been cut for it. Asked when
   * nothing else speaks against the connection. @param maxConnections of this listener; 0: any number
   */
  refusal(maxConnections: number): RefusalReason | null
  /** A connection was let in. Its owner is set in this call. `countedAs` comes back through `TcpListener.left`. */
  onAccepted(stream: ByteStream, countedAs: string): void
  /** A proxy in front is believed and speaks for many clients: the limit of one is not for it. Asked when that is reached. */
  speaksForMany?(clientIp: string): boolean
  /** The system could not open one more connection; what waits in the queue waits on. */
  onAcceptFailed?(error: NodeJS.ErrnoException): void
  /** A connection was turned away; it is reset behind this call. */
  onTurnedAway?(clientIp: string, reason: RefusalReason): void
  /** `connectionFilter` threw, or said neither true nor false at once; the connection is turned away. */
  onFilterFailed?(thrown: unknown): void
}

/** Owner of a stream until its session takes it over, which happens in the same call. */
export const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

export class TcpListener {
  readonly #options: ResolvedListenerOptions
  readonly #owner: AcceptOwner
  readonly #acceptCall: AcceptCall | null
  /** Connections open now, by client. */
  readonly #perClient = new Map<string, number>()
  /** Why the last one was turned away. */
  #reason: RefusalReason = 'max-connections'
  /** Connections let in, and turned away, so far. */
  accepted = 0
  refused = 0

  /** @param acceptCall null: Node.js takes connections from the queue, one in each turn of its loop */
  constructor(options: ResolvedListenerOptions, owner: AcceptOwner, acceptCall: AcceptCall | null = null) {
    this.#options = options
    this.#owner = owner
    this.#acceptCall = acceptCall
  }

  /** Clients that have connections open. */
  get clients(): number { return this.#perClient.size }

  createAcceptor(): Acceptor {
    const onSocket = (socket: net.Socket): void => this.#accept(socket)
    const options = { pauseOnConnect: true, noDelay: true, allowHalfOpen: true }
    if (!canAdopt()) return new TcpAcceptor(net.createServer(options, onSocket))
    return new HandleAcceptor({
      onSocket,
      onHandle: handle => this.#takeIn(handle),
      onAcceptFailed: error => this.#owner.onAcceptFailed?.(error),
    }, this.#acceptCall)
  }

  /** Node.js built a socket for it. */
  #accept(socket: net.Socket): void {
    const remoteAddress = plainIp(socket.remoteAddress ?? ''), countedAs = this.#admit(remoteAddress)
    if (countedAs === null) {
      this.#turnAway(remoteAddress)
      socket.on('error', () => { /* it is being reset */ })
      resetSocket(socket)
      return
    }
    this.accepted++
    this.#owner.onAccepted(TcpStream.accept(socket, NOBODY), countedAs)
  }

  /** Nothing was built for it yet. */
  #takeIn(handle: StreamHandle): void {
    const remote = remoteEndOf(handle), remoteAddress = plainIp(remote.address), countedAs = this.#admit(remoteAddress)
    if (countedAs === null) {
      this.#turnAway(remoteAddress)
      TcpStream.adopt(handle, remote, NOBODY).destroy(true)
      return
    }
    this.accepted++
    this.#owner.onAccepted(TcpStream.adopt(handle, remote, NOBODY), countedAs)
  }

  /** The same for a stream that came in another way than through an acceptor of this listener. */
  accept(stream: ByteStream): void {
    const { remoteIp } = stream.digest, countedAs = this.#admit(remoteIp)
    if (countedAs === null) {
      this.#turnAway(remoteIp)
      stream.owner = NOBODY
      stream.destroy(true)
      return
    }
    this.accepted++
    this.#owner.onAccepted(stream, countedAs)
  }

  #turnAway(remoteIp: string): void {
    this.refused++
    this.#owner.onTurnedAway?.(remoteIp, this.#reason)
  }

  /** Counts a connection for its client. Returns how it is counted, '' for a client that is exempt; null: it is turned away. */
  #admit(ip: string): string | null {
    const { connectionFilter, maxConnections, maxConnectionsPerClient } = this.#options
    if (connectionFilter !== null && !this.#allows(connectionFilter, ip)) return this.#refuse('connection-filter')
    const client = maxConnectionsPerClient === 0 ? '' : clientOf(ip), perClient = this.#perClient
    const isOver = client !== '' && (perClient.get(client) ?? 0) >= maxConnectionsPerClient
    if (isOver && this.#owner.speaksForMany?.(ip) !== true) return this.#refuse('max-connections-per-client')
    // Last: who is turned away for another reason costs no other connection its place.
    const reason = this.#owner.refusal(maxConnections)
    if (reason !== null) return this.#refuse(reason)
    if (client !== '') perClient.set(client, (perClient.get(client) ?? 0) + 1)
    return client
  }

  /** A filter that throws, or does not say true, lets nobody in. */
  #allows(filter: (remoteIp: string) => boolean, ip: string): boolean {
    try {
      return decisionOf(filter(ip))
    } catch (thrown) {
      this.#owner.onFilterFailed?.(thrown)
      return false
    }
  }

  #refuse(reason: RefusalReason): null {
    this.#reason = reason
    return null
  }

  /** A connection that was let in is gone. */
  left(countedAs: string): void {
    if (countedAs === '') return
    const open = this.#perClient.get(countedAs)! - 1
    if (open === 0) this.#perClient.delete(countedAs)
    else this.#perClient.set(countedAs, open)
  }
}

/** An IPv4 client of a dual-stack listener is an IPv4 client. */
function plainIp(ip: string): string { return ip.startsWith('::ffff:') ? ip.slice(7) : ip }

/** Who counts as one client; '' for loopback and Unix sockets, which are exempt. */
export function clientOf(ip: string): string {
  if (ip.startsWith('127.') || ip === '::1' || ip.startsWith('::ffff:127.')) return ''
  return clientNetwork(plainIp(ip))
}
