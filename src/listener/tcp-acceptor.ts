/**
 * An acceptor for streams, TCP and Unix: a `net.Server` that is listened on in one of two ways. A service with a server of
 * its own kind (`http.Server`) wraps that one.
 */
import { once } from 'node:events'
import net from 'node:net'
import type { DescribedAddress } from '../ipc/server-description.ts'
import { handleFor, handleOf, type StreamHandle } from '../protocols/tcp/stream-handle.ts'
import type { AcceptCall, Acceptor, ListeningAt } from './acceptor.ts'

/**
 * Connections that one acceptor takes in one turn of the event loop. 64: some milliseconds, after which those that are open
 * have their turn.
 */
const TURN_CONNECTIONS = 64

/**
 * The acceptor of a `net.Server`, for listening services of your own: `createAcceptor: () => new TcpAcceptor(net.createServer(...))`.
 */
export class TcpAcceptor implements Acceptor {
  readonly #server: net.Server

  /** The server is closed with it. */
  constructor(server: net.Server) { this.#server = server }

  /** As `Acceptor` has it. */
  async attach(descriptor: number, backlog: number): Promise<void> {
    // Not `listen({ fd })`, which ignores the backlog.
    this.#server.listen(new net.Socket({ fd: descriptor, readable: false, writable: false }), backlog)
    await once(this.#server, 'listening')
  }

  /** As `Acceptor` has it. */
  async listen(address: DescribedAddress, backlog: number): Promise<ListeningAt> {
    const server = this.#server
    // Exclusive: a cluster worker would otherwise ask its primary for the socket, which belongs to another application.
    if (address.kind === 'udp') throw new TypeError(`a stream cannot be accepted on udp:${address.host}:${address.port}`)
    else if (address.kind === 'unix') server.listen({ path: address.path, backlog, exclusive: true })
    else server.listen({ host: address.host, port: address.port, ipv6Only: address.ipv6Only, backlog, exclusive: true })
    await once(server, 'listening')
    if (address.kind === 'unix') return { host: '', port: 0 }
    const { address: host, port } = server.address() as net.AddressInfo
    return { host, port }
  }

  /**
   * @internal
   * Node.js takes one connection from a queue in each turn of the event loop, and a turn is as long as the open connections
   * are busy: told of one, this takes those behind it, until the queue is empty or has had its share of the turn.
   * @param taken gets each of them; it is not read yet, and does not delay small writes
   * @throws what `accept` throws
   */
  takeQueued(accept: AcceptCall, taken: (handle: StreamHandle) => void): void {
    const listening = handleOf(this.#server)
    if (listening === null) return
    const { fd } = listening
    // One of them may be the reason for which the acceptor is closed, and its number then soon stands for something else.
    for (let left = TURN_CONNECTIONS; left > 0 && this.#server.listening; left--) {
      const connection = accept(fd)
      if (connection < 0) return
      const handle = handleFor(connection, listening)
      if (handle === null) continue
      handle.setNoDelay?.(true)
      taken(handle)
    }
  }

  /** As `Acceptor` has it. */
  close(): void {
    // Not http.Server.close, which would cut idle connections: open ones belong to the service.
    if (this.#server.listening) net.Server.prototype.close.call(this.#server)
  }
}
