/**
 * An acceptor that takes connections by their handles, before Node.js builds a `net.Socket` for each. Of that socket only the handle
 * would be used, and building it is a tenth of the user time of a connection with one request (**measured**).
 *
 * `onconnection`, which the handle of a listening socket calls, is not public. Where a handle has none, connections come
 * as sockets, which the server emits.
 */
import net from 'node:net'
import type { DescribedAddress } from '../ipc/server-description.ts'
import { handleFor, handleOf, type ListeningHandle, type StreamHandle } from '../protocols/tcp/stream-handle.ts'
import type { AcceptCall, Acceptor, ListeningAt } from './acceptor.ts'
import { TcpAcceptor } from './tcp-acceptor.ts'

/**
 * Connections that one acceptor takes in one turn of the event loop, besides the one that Node.js took. 64: some milliseconds,
 * after which those that are open have their turn.
 */
const TURN_CONNECTIONS = 64

/** What connections come to. None of them is read yet, and none delays small writes. */
export interface HandleOwner {
  onHandle(handle: StreamHandle): void
  /** Instead of `onHandle`, where handles cannot be had. */
  onSocket(socket: net.Socket): void
  /** The system could not open one more connection; what waits in the queue waits on. */
  onAcceptFailed(error: NodeJS.ErrnoException): void
}

export class HandleAcceptor implements Acceptor {
  readonly #owner: HandleOwner
  readonly #acceptCall: AcceptCall | null
  readonly #server: net.Server
  readonly #acceptor: TcpAcceptor
  /** Connections to come that may have been in the queue before the listening socket was told not to delay small writes. */
  #delaying = 0

  /** @param acceptCall null: Node.js takes connections from the queue, one in each turn of its loop */
  constructor(owner: HandleOwner, acceptCall: AcceptCall | null) {
    this.#owner = owner
    this.#acceptCall = acceptCall
    this.#server = net.createServer({ pauseOnConnect: true, noDelay: true, allowHalfOpen: true }, socket => {
      owner.onSocket(socket)
      this.#takeQueued()
    })
    this.#acceptor = new TcpAcceptor(this.#server)
  }

  async attach(descriptor: number, backlog: number): Promise<void> {
    await this.#acceptor.attach(descriptor, backlog)
    this.#takeOver(backlog)
  }

  async listen(address: DescribedAddress, backlog: number): Promise<ListeningAt> {
    const at = await this.#acceptor.listen(address, backlog)
    this.#takeOver(backlog)
    return at
  }

  close(): void { this.#acceptor.close() }

  /** Before the event loop asks the socket for its first connection. */
  #takeOver(backlog: number): void {
    const listening = handleOf(this.#server) as ListeningHandle | null
    if (typeof listening?.onconnection !== 'function') return
    // On Linux a connection has the option from its listening socket, if that had it in time: a system call less for each.
    const inherits = process.platform === 'linux' && listening.setNoDelay?.(true) === 0
    this.#delaying = inherits ? backlog + 1 : Number.POSITIVE_INFINITY
    listening.onconnection = (status, handle) => {
      if (status === 0 && handle !== undefined) {
        this.#take(handle)
        this.#takeQueued()
      } else this.#owner.onAcceptFailed(acceptError(status))
    }
  }

  #take(handle: StreamHandle): void {
    if (this.#delaying > 0) {
      this.#delaying--
      handle.setNoDelay?.(true)
    }
    this.#owner.onHandle(handle)
  }

  /**
   * Node.js takes one connection from a queue in each turn of the event loop, and a turn is as long as the open connections
   * are busy: told of one, this takes those behind it, until the queue is empty or has had its share of the turn.
   */
  #takeQueued(): void {
    const listening = handleOf(this.#server), accept = this.#acceptCall
    if (listening === null || accept === null) return
    const { fd } = listening
    try {
      // One of them may be the reason for which the acceptor is closed, and its number then soon stands for something else.
      for (let left = TURN_CONNECTIONS; left > 0 && this.#server.listening; left--) {
        const connection = accept(fd)
        if (connection < 0) return
        const handle = handleFor(connection, listening)
        if (handle !== null) this.#take(handle)
      }
    } catch (error) {
      this.#owner.onAcceptFailed(error as NodeJS.ErrnoException)
    }
  }
}

function acceptError(status: number): NodeJS.ErrnoException {
  const code = process.getBuiltinModule('node:util').getSystemErrorName(status)
  return Object.assign(new Error(`accept ${code}`), { code, errno: status, syscall: 'accept' })
}
