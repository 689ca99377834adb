/**
 * The control sockets as the operating system has them: bound privately, handed on across an exec, listened on. What is
 * said over them is in control-server.ts, which gets these from outside so that it also runs in a simulation.
 */
import fs from 'node:fs'
import net from 'node:net'
import { Channel } from '../src/ipc/channel.ts'
import type { ChannelEnd, ChannelHandlers, ChannelOptions } from '../src/ipc/channel.ts'
import type { Decode } from '../src/ipc/messages.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { adoptedSocket, bindHeld, listenOnHeld } from './held-socket.ts'
import type { HeldSocket } from './held-socket.ts'
import { dialUnix } from './listener-table.ts'

/** A connection that was accepted on one of the two sockets. */
export interface ControlConnection {
  /** Once. */
  open<Out extends Tagged, In extends Tagged>(decode: Decode<In>, options: ChannelOptions, handlers: ChannelHandlers<In>): ChannelEnd<Out>
  /** Resolves when what was sent has been written and the connection has ended, or the client has taken nothing for FINISH_LIMIT_MS. */
  finish(): Promise<void>
  destroy(): void
  /** @param run called once, when the connection has ended however. */
  onGone(run: () => void): void
}

interface Tagged { readonly tag: string }

export interface ControlListener {
  /** Accepts no more; connections go on. */
  close(): void
}

export interface ControlSockets {
  /** Whether something listens on the path. */
  answers(path: string): Promise<boolean>
  /** Makes a socket that only our user can dial. @throws the error of the bind. */
  bind(path: string): HeldSocket
  /** The socket of the image before this one. */
  adopt(fd: number): HeldSocket
  /** What is not there is no error. */
  remove(path: string): void
  /** @param uid null: ours. */
  chown(path: string, uid: number | null, gid: number | null): void
  listen(held: HeldSocket, calls: SystemCalls | null, onConnection: (connection: ControlConnection) => void): Promise<ControlListener>
  /** @returns a function that cancels. */
  after(ms: number, run: () => void): () => void
}

/** A client that does not read its last answer holds up the end for no longer than this. */
const FINISH_LIMIT_MS = 200

export const SYSTEM_CONTROL_SOCKETS: ControlSockets = {
  answers: dialUnix,
  bind: bindPrivately,
  adopt: adoptedSocket,
  remove: path => fs.rmSync(path, { force: true }),
  chown: (path, uid, gid) => fs.chownSync(path, uid ?? process.getuid!(), gid ?? process.getgid!()),
  listen: (held, calls, onConnection) => listenOnHeld(net.createServer(socket => onConnection(new SocketConnection(socket))), held, calls),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
}

class SocketConnection implements ControlConnection {
  readonly #socket: net.Socket

  constructor(socket: net.Socket) { this.#socket = socket }

  open<Out extends Tagged, In extends Tagged>(decode: Decode<In>, options: ChannelOptions, handlers: ChannelHandlers<In>): ChannelEnd<Out> {
    return new Channel<Out, In>(this.#socket, decode, options, handlers)
  }

  async finish(): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, FINISH_LIMIT_MS)
      this.#socket.end(() => { clearTimeout(timer); resolve() })
    })
    this.#socket.destroy()
  }

  destroy(): void { this.#socket.destroy() }
  onGone(run: () => void): void { this.#socket.once('close', run) }
}

/** Bound during the call: the path never exists with other rights. */
function bindPrivately(path: string): HeldSocket {
  const umask = process.umask(0o177)
  try { return bindHeld({ path }) } finally { process.umask(umask) }
}
