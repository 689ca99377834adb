/**
 * Listening sockets as the kernel keeps them: a socket lives as long as a process holds a descriptor of it; once a process
 * has listened it queues dials, whether they are accepted or not; its end resets what is queued.
 *
 * Descriptors of the supervisor have numbers far above any real one. Workers have numbers of their own (sim-worker.ts).
 */
import type { BoundSocketLike, SocketBinder } from '../../supervisor/listener-table.ts'

export interface Dial {
  readonly number: number
  readonly atMs: number
  /** How long its connection will be used, in ms. */
  readonly usedMs: number
}

/** A process that accepts: the kernel tells it that a dial waits. */
export interface Acceptor {
  onQueued(socket: SimSocket): void
}

export class SimSocket {
  readonly inode: string
  readonly address: string
  readonly reusePort: boolean
  holders = 0
  listening = false
  /** By `shutdown`: it is the end, for all that still hold a descriptor. */
  shut = false
  /** Dials get no answer, and are repeated by those who dial. */
  ignoresDials = false
  queue: Dial[] = []
  readonly acceptors = new Set<Acceptor>()

  constructor(inode: string, address: string, reusePort: boolean) {
    this.inode = inode
    this.address = address
    this.reusePort = reusePort
  }

  get open(): boolean { return this.holders > 0 && !this.shut }
}

/** What the kernel would do to others: told to the world, which knows whether that may be. */
export interface KernelWitness {
  /** A queue is gone, with what was in it. */
  onQueueLost(socket: SimSocket, dials: readonly Dial[], how: 'shutdown' | 'last holder'): void
  onFault(message: string): void
}

/** Real descriptors are far below. */
const FIRST_DESCRIPTOR = 1_000_000_000

export class Kernel {
  readonly sockets = new Set<SimSocket>()
  /** Of supervisors; a number is never used twice, so that a second close is seen. */
  readonly descriptors = new Map<number, { readonly socket: SimSocket; readonly pid: number }>()
  readonly #witness: KernelWitness
  readonly #pick: (count: number) => number
  #nextDescriptor = FIRST_DESCRIPTOR
  #nextInode = 1
  #nextPort = 40_000
  /** Addresses that another program uses. */
  readonly foreign = new Set<string>()
  /** Paths in the file system, and what is bound there. */
  readonly paths = new Map<string, SimSocket>()

  constructor(witness: KernelWitness, pick: (count: number) => number) {
    this.#witness = witness
    this.#pick = pick
  }

  // ---- descriptors of supervisors

  open(socket: SimSocket, pid: number): number {
    const fd = this.#nextDescriptor++
    this.descriptors.set(fd, { socket, pid })
    socket.holders++
    return fd
  }

  socketOf(fd: number): SimSocket {
    const found = this.descriptors.get(fd)
    if (found === undefined) {
      this.#witness.onFault(`descriptor ${fd} is used after it was closed`)
      throw Object.assign(new Error('EBADF'), { code: 'EBADF' })
    }
    return found.socket
  }

  close(fd: number): void {
    const found = this.descriptors.get(fd)
    if (found === undefined) {
      this.#witness.onFault(`descriptor ${fd} is closed twice`)
      throw Object.assign(new Error('EBADF'), { code: 'EBADF' })
    }
    this.descriptors.delete(fd)
    this.release(found.socket)
  }

  /** The end of a process, or of those of its descriptors that its next image does not get. */
  closeAllOf(pid: number, but: ReadonlySet<number> = new Set()): void {
    for (const [fd, { pid: owner }] of this.descriptors) if (owner === pid && !but.has(fd)) this.close(fd)
  }

  shutdown(fd: number): void {
    const socket = this.socketOf(fd)
    if (!socket.listening || socket.shut) return
    socket.shut = true
    this.#lose(socket, 'shutdown')
  }

  // ---- holders of any kind

  hold(socket: SimSocket): void { socket.holders++ }

  release(socket: SimSocket): void {
    if (--socket.holders > 0) return
    if (socket.holders < 0) this.#witness.onFault(`socket ${socket.inode} of ${socket.address} is let go of twice`)
    this.sockets.delete(socket)
    if (socket.listening && !socket.shut) this.#lose(socket, 'last holder')
  }

  #lose(socket: SimSocket, how: 'shutdown' | 'last holder'): void {
    const dials = socket.queue
    socket.queue = []
    this.#witness.onQueueLost(socket, dials, how)
  }

  /** @returns false when it is refused. One that gets no answer is not: it would be repeated. */
  dial(address: string, dial: Dial): boolean {
    const group: SimSocket[] = []
    if (address.startsWith('unix:')) {
      const socket = this.paths.get(address.slice('unix:'.length))
      if (socket !== undefined && socket.listening && socket.open) group.push(socket)
    } else {
      for (const socket of this.sockets) if (socket.address === address && socket.listening && socket.open) group.push(socket)
    }
    if (group.length === 0) return false
    if (group.every(one => one.ignoresDials)) return true
    const socket = group[this.#pick(group.length)]!
    socket.queue.push(dial)
    for (const acceptor of socket.acceptors) acceptor.onQueued(socket)
    return true
  }

  // ---- how a supervisor makes sockets

  binderFor(pid: number): SocketBinder {
    const bind = (address: string, reusePort: boolean): BoundSocketLike => {
      const path = address.startsWith('unix:') ? address.slice('unix:'.length) : ''
      const blocks = (other: SimSocket): boolean => other.address === address && other.open && !(reusePort && other.reusePort)
      const inUse = path !== '' ? this.paths.has(path) : [...this.sockets].some(blocks)
      if (inUse || this.foreign.has(address)) throw Object.assign(new Error(`bind EADDRINUSE ${address}`), { code: 'EADDRINUSE' })
      const socket = new SimSocket(String(this.#nextInode++), address, reusePort)
      this.sockets.add(socket)
      if (path !== '') this.paths.set(path, socket)
      const fd = this.open(socket, pid)
      return { address: () => ({ port: Number(address.slice(address.lastIndexOf(':') + 1)) }), fd: () => fd, close: () => this.close(fd) }
    }
    return {
      reusePort: true,
      bindTcp: (host, port, _ipv6Only, reusePort) => bind(`${host}:${port === 0 ? this.#nextPort++ : port}`, reusePort),
      bindUnix: path => bind(`unix:${path}`, false),
      resolve: host => Promise.resolve(host),
      probeUnix: path => {
        const socket = this.paths.get(path)
        return Promise.resolve(socket === undefined ? 'absent' : socket.listening && socket.open ? 'live' : 'stale')
      },
      unlink: path => { this.paths.delete(path) },
      inode: fd => this.socketOf(fd).inode,
      close: fd => this.close(fd),
    }
  }
}
