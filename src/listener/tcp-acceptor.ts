/**
 * An acceptor for streams, TCP and Unix: a `net.Server` that is listened on in one of two ways. A service with a server of
 * its own kind (`http.Server`) wraps that one.
 */
import { once } from 'node:events'
import net from 'node:net'
import type { DescribedAddress } from '../ipc/server-description.ts'
import type { Acceptor, ListeningAt } from './acceptor.ts'

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

  /** As `Acceptor` has it. */
  close(): void {
    // Not http.Server.close, which would cut idle connections: open ones belong to the service.
    if (this.#server.listening) net.Server.prototype.close.call(this.#server)
  }
}
