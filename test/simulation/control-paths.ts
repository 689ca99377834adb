/**
 * The paths of control sockets as the kernel keeps them: a socket lives as long as a process has a descriptor of it, its
 * path stays when it is gone. Dials wait in its queue while no image listens, as across an exec.
 */
import { SimConnection } from './connection.ts'
import type { SimEnd, Wire } from './connection.ts'

/** A socket at a path. */
class ControlSocket {
  readonly path: string
  readonly identity: string
  /** Of the process that holds it. */
  readonly pid: number
  holders = 0
  accept: ((end: SimEnd) => void) | null = null
  readonly waiting: { readonly end: SimEnd; readonly backlog: (() => void)[] }[] = []

  constructor(path: string, pid: number, identity: string) {
    this.path = path
    this.pid = pid
    this.identity = identity
  }

  get open(): boolean { return this.holders > 0 }
}

export interface Dialled {
  readonly connection: SimConnection
  readonly clientEnd: SimEnd
  readonly serverEnd: SimEnd
}

/** Numbers of their own: neither real ones nor those of listening sockets. */
const FIRST_DESCRIPTOR = 2_000_000_000

export class ControlPaths {
  readonly #wire: Wire
  readonly #onFault: (message: string) => void
  readonly #paths = new Map<string, ControlSocket>()
  readonly #descriptors = new Map<number, ControlSocket>()
  #nextDescriptor = FIRST_DESCRIPTOR

  constructor(wire: Wire, onFault: (message: string) => void) {
    this.#wire = wire
    this.#onFault = onFault
  }

  answers(path: string): boolean { return this.#paths.get(path)?.open === true }
  identity(path: string): string { return this.#paths.get(path)?.identity ?? '' }
  owns(fd: number): boolean { return this.#descriptors.has(fd) }

  bind(path: string, pid: number): number {
    if (this.#paths.has(path)) throw Object.assign(new Error(`bind EADDRINUSE ${path}`), { code: 'EADDRINUSE' })
    const fd = this.#nextDescriptor++
    const socket = new ControlSocket(path, pid, String(fd))
    this.#paths.set(path, socket)
    this.#descriptors.set(fd, socket)
    socket.holders++
    return fd
  }

  remove(path: string, pid: number): void {
    const socket = this.#paths.get(path)
    if (socket?.open === true && socket.pid !== pid) {
      this.#onFault(`(10) process ${pid} takes ${path} from process ${socket.pid}, which lives`)
    }
    this.#paths.delete(path)
  }

  /** @returns the end of it. */
  listen(fd: number, accept: (end: SimEnd) => void): () => void {
    const socket = this.#descriptors.get(fd)
    if (socket === undefined) throw Object.assign(new Error('listen EBADF'), { code: 'EBADF' })
    socket.accept = accept
    // The event loop takes them, and so after the call.
    this.#wire.at(this.#wire.arrivalMs(), () => {
      if (socket.accept !== accept) return
      for (const { end, backlog } of socket.waiting.splice(0)) {
        end.through = run => { run() }
        accept(end)
        for (const run of backlog) run()
      }
    })
    return () => { socket.accept = null }
  }

  close(fd: number): void {
    const socket = this.#descriptors.get(fd)
    if (socket === undefined) { this.#onFault(`descriptor ${fd} of a control socket is closed twice`); return }
    this.#descriptors.delete(fd)
    if (--socket.holders > 0) return
    socket.accept = null
    for (const { end } of socket.waiting.splice(0)) end.die()
  }

  /** The image of a process is gone; so are its descriptors, but those that its next image gets. */
  leave(pid: number, but: ReadonlySet<number> = new Set()): void {
    for (const [fd, socket] of this.#descriptors) {
      if (socket.pid !== pid) continue
      socket.accept = null
      if (!but.has(fd)) this.close(fd)
    }
  }

  /** No image has taken it yet: it belongs to the socket, and outlives an image whose socket goes on. */
  waits(end: SimEnd): boolean {
    return [...this.#descriptors.values()].some(socket => socket.waiting.some(waiting => waiting.end === end))
  }

  /** @returns null when nothing listens there. */
  dial(path: string, tap: SimEnd['tap']): Dialled | null {
    const socket = this.#paths.get(path)
    if (socket === undefined || !socket.open) return null
    const connection = new SimConnection(this.#wire)
    const [clientEnd, serverEnd] = connection.ends
    serverEnd.tap = tap
    if (socket.accept === null) {
      const backlog: (() => void)[] = []
      serverEnd.through = run => { backlog.push(run) }
      socket.waiting.push({ end: serverEnd, backlog })
    } else socket.accept(serverEnd)
    return { connection, clientEnd, serverEnd }
  }
}
