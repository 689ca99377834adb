/**
 * The control sockets as the operating system has them: bound privately, handed on across an exec, listened on. What is
 * said over them is in control-server.ts, which gets these from outside so that it also runs in a simulation.
 */
import fs from 'node:fs'
import net from 'node:net'
import { setTimeout as elapsed } from 'node:timers/promises'
import { Channel } from '../src/ipc/channel.ts'
import type { ChannelEnd, ChannelHandlers, ChannelOptions } from '../src/ipc/channel.ts'
import type { Decode } from '../src/ipc/messages.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import { adoptedSocket, bindHeld, listenOnHeld, socketIdentity } from './held-socket.ts'
import type { HeldSocket } from './held-socket.ts'
import { dialUnix } from './listener-table.ts'

/** A living supervisor answers on the folder's control socket. */
export class AlreadyRunning extends Error {
  constructor(folder: string) {
    super(`a supervisor is running already in ${folder}`)
    this.name = 'AlreadyRunning'
  }
}

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
  /** Names the socket at the path among all that were ever there; '' when there is none. */
  identity(path: string): string
  /** What is not there is no error. */
  remove(path: string): void
  /**
   * Runs what no other start in this folder may run at the same time. Without system calls nothing keeps them apart.
   * @throws AlreadyRunning when another one holds the folder for longer than a start takes
   */
  exclusively<T>(folder: string, calls: SystemCalls | null, run: () => Promise<T>): Promise<T>
  /** @param uid null: ours. */
  chown(path: string, uid: number | null, gid: number | null): void
  listen(held: HeldSocket, calls: SystemCalls | null, onConnection: (connection: ControlConnection) => void): Promise<ControlListener>
  /** @returns a function that cancels. */
  after(ms: number, run: () => void): () => void
  /** Monotonic. */
  nowMs(): number
}

/** A client that does not read its last answer holds up the end for no longer than this. */
const FINISH_LIMIT_MS = 200
/** How often a start that finds another one under way looks again, and after how long it believes that this one goes on for ever. */
const LOCK_POLL_MS = 10
const LOCK_LIMIT_MS = 2_000

export const SYSTEM_CONTROL_SOCKETS: ControlSockets = {
  answers: dialUnix,
  bind: bindPrivately,
  adopt: adoptedSocket,
  identity: socketIdentity,
  remove: path => fs.rmSync(path, { force: true }),
  exclusively: withFolderLocked,
  chown: (path, uid, gid) => fs.chownSync(path, uid ?? process.getuid!(), gid ?? process.getgid!()),
  listen: (held, calls, onConnection) => listenOnHeld(net.createServer(socket => onConnection(new SocketConnection(socket))), held, calls),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  nowMs: () => performance.now(),
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

/** The lock is on the folder itself, so that it leaves no file, and ends with the process. */
async function withFolderLocked<T>(folder: string, calls: SystemCalls | null, run: () => Promise<T>): Promise<T> {
  if (calls === null) return run()
  const fd = fs.openSync(folder, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  try {
    for (const deadline = performance.now() + LOCK_LIMIT_MS; !calls.lock(fd); await elapsed(LOCK_POLL_MS)) {
      if (performance.now() > deadline) throw new AlreadyRunning(folder)
    }
    return await run()
  } finally {
    fs.closeSync(fd)
  }
}

/** Bound during the call: the path never exists with other rights. */
function bindPrivately(path: string): HeldSocket {
  const umask = process.umask(0o177)
  try { return bindHeld({ path }) } finally { process.umask(umask) }
}
