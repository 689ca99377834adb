/**
 * What Node.js has below a `net.Socket`: it reads and writes, and a new Socket can be built on it. Not public, so each use has
 * a public way beside it, and `selfTest()` of tcp-self-test.ts proves that a moved handle works.
 */
import fs from 'node:fs'
import net from 'node:net'

export interface StreamHandle {
  readonly fd: number
  /** Bytes that were given to it and not yet to the kernel. */
  readonly writeQueueSize?: number
  /** 0 when it took the descriptor over. */
  open(descriptor: number): number
  /** Fills in the other end of a TCP connection; absent for Unix sockets. Not 0 when the other end is gone already. */
  getpeername?(into: RemoteEnd): number
  setNoDelay?(enable: boolean): number
  close(): void
}

/** What listens below a `net.Server`. */
export interface ListeningHandle extends StreamHandle {
  /** Called with each connection that was taken from the queue, or with a negative number, which says why none could be. */
  onconnection?: (status: number, handle: StreamHandle | undefined) => void
}

export interface RemoteEnd {
  /** '' for a Unix socket, and for a connection that is gone. */
  address: string
  port: number
}

type HandleKind = new (use: number) => StreamHandle

/** The kind of use that a handle is made for: a connection. A listening one has 1. */
const CONNECTION = 0

/** @returns null once the socket is destroyed. */
export function handleOf(socket: net.Socket | net.Server): StreamHandle | null {
  return (socket as unknown as { _handle: StreamHandle | null })._handle
}

/** Takes the handle away from a socket, which is of no use any more. */
export function takeHandle(socket: net.Socket): StreamHandle | null {
  const handle = handleOf(socket)
  ;(socket as unknown as { _handle: StreamHandle | null })._handle = null
  return handle
}

/** A system call. */
export function remoteEndOf(handle: StreamHandle): RemoteEnd {
  const end = { address: '', port: 0 }
  handle.getpeername?.(end)
  return end
}

/**
 * A handle for a connection that came in through the listening one. `new net.Socket({ fd })` makes one, too, but asks the
 * kernel four times first what kind of descriptor it has, and builds a Socket that nobody needs.
 * @returns null when the connection was of no use any more; its descriptor is closed then
 */
export function handleFor(descriptor: number, listening: StreamHandle): StreamHandle | null {
  const Kind = listening.constructor as HandleKind
  let handle: StreamHandle | null = null
  try {
    handle = new Kind(CONNECTION)
    if (handle.open(descriptor) === 0) return handle
    handle.close()
    fs.closeSync(descriptor)
    return null
  } catch {
    return throughSocket(descriptor)
  }
}

function throughSocket(descriptor: number): StreamHandle | null {
  try {
    // What is paused has not begun to read.
    const options: PausedSocketOptions = { fd: descriptor, pauseOnCreate: true }
    return takeHandle(new net.Socket(options))
  } catch {
    fs.closeSync(descriptor)
    return null
  }
}

/** `pauseOnCreate` is what `pauseOnConnect` of a server becomes; it is missing from the published types. */
interface PausedSocketOptions extends net.SocketConstructorOpts { readonly pauseOnCreate: true }
