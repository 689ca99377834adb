/**
 * What takes in the traffic of one listening socket. The process that holds the socket says when: a worker on descriptors
 * that it inherited (workers/inherited-listeners.ts), or a server that listens by itself (server/server.ts).
 *
 *   Fresh --attach or listen--> Accepting --close--> Closed
 *
 * One acceptor serves one socket, once. A listener makes as many as it is asked for, and several may accept at the same
 * time: for a sibling's socket, or for the same one during a hand-over.
 */
import type { DescribedAddress } from '../ipc/server-description.ts'

/** Takes in the traffic of one listening socket, once: it is attached or listens, accepts, and is closed. */
export interface Acceptor {
  /**
   * Accepts on a socket that is bound already. The acceptor owns the descriptor from then on. Within the call the socket is
   * taken over, and accepts when the promise resolves.
   */
  attach(descriptor: number, backlog: number): Promise<void>
  /** Binds a socket and accepts on it. Resolves to where it listens: port 0 was replaced. */
  listen(address: DescribedAddress, backlog: number): Promise<ListeningAt>
  /** Closes the socket; what came in through it goes on. Harmless before the start and after the end. */
  close(): void
}

/**
 * Takes a connection from the queue of a listening socket. -1: it is empty. The descriptor does not block and is the caller's.
 * @throws when the system cannot open one more
 */
export type AcceptCall = (listening: number) => number

/** What listeners ask of the C library. */
export interface ListenerCalls {
  readonly accept: AcceptCall
  /** Whether a connection has sent something, or its end, that was not read yet. */
  hasUnread(connection: number): boolean
}

/** Where an acceptor listens. */
export interface ListeningAt {
  /** '' for a Unix path. */
  readonly host: string
  /** 0 for a Unix path. */
  readonly port: number
}
