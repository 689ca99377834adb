/**
 * A listening socket of the supervisor's own (control, worker, admin), which the next image gets as it is. The server
 * listens on a copy, since a `net.Server` closes its descriptor; without system calls there is no next image and no copy.
 */
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import type { SystemCalls } from '../src/ipc/system-calls.ts'

export interface HeldSocket {
  /** -1 once a server has taken it over for good. */
  readonly fd: number
  close(): void
}

const BACKLOG = 511

/** @throws the error of the bind. */
export function bindHeld(where: { path: string } | { host: string; port: number }): HeldSocket & { readonly socket: net.BoundSocket } {
  const socket = new net.BoundSocket(where as net.BoundSocketOptions)
  return {
    socket,
    get fd() { try { return socket.fd() } catch { return -1 } },
    close: () => { try { socket.close() } catch { /* A server has it, and closes it. */ } },
  }
}

/** Names the socket at a path among all that were ever there; '' when there is none. */
export function socketIdentity(path: string): string {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false, bigint: true })
  return stat?.isSocket() === true ? `${stat.dev}:${stat.ino}` : ''
}

/** One that this process was given. */
export function adoptedSocket(fd: number): HeldSocket { return { fd, close: () => { fs.closeSync(fd) } } }

export async function listenOnHeld<S extends net.Server>(
  server: S, held: HeldSocket & { readonly socket?: net.BoundSocket }, calls: SystemCalls | null,
): Promise<S> {
  // A BoundSocket is listened on as it is; that also takes its descriptor.
  if (calls === null && held.socket !== undefined) server.listen(held.socket as unknown as net.ListenOptions, BACKLOG)
  else server.listen(new net.Socket({ fd: calls!.dup(held.fd), readable: false, writable: false }), BACKLOG)
  await once(server, 'listening')
  return server
}
