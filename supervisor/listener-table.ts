/**
 * Every listening socket, bound once and held for as long as the supervisor lives: one per slot for TCP (SO_REUSEPORT:
 * the kernel spreads connections), one for all slots for a Unix path and where SO_REUSEPORT does not exist.
 * The supervisor never listens or accepts on them.
 *
 * A socket may also come from elsewhere: from the image before (the same number), from a worker that outlived its
 * supervisor, or from the service manager. What it is bound to decides which listener it belongs to, never its name.
 *
 * Invariants: a socket with a queue is closed only when its listener is removed for good, because closing resets the
 * queue, so `retain` and `close` come after the workers have let go; sockets of a slot that has become surplus stay.
 */
import dns from 'node:dns/promises'
import fs from 'node:fs'
import net from 'node:net'
import { dirname } from 'node:path'
import { canonicalAddress, hostAndPort } from '../src/ipc/server-description.ts'
import type { DescribedAddress, DescribedListener } from '../src/ipc/server-description.ts'
import type { DescriptorLayout } from '../src/ipc/descriptor-layout.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'

/** An address that cannot be bound: which, why, and what would do. */
export class BindError extends Error {
  /** errno name, `EADDRINUSE`; '' when there is none. */
  readonly code: string
  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'BindError'
    this.code = code
  }
}

export interface BoundSocketLike {
  address(): { address?: string; port?: number }
  fd(): number
  close(): void
}

/** Makes sockets; replaced in tests. */
export interface SocketBinder {
  /** Whether one address can be bound several times, with the kernel spreading connections. */
  readonly reusePort: boolean
  bindTcp(host: string, port: number, ipv6Only: boolean, reusePort: boolean): BoundSocketLike
  bindUnix(path: string, mode: number): BoundSocketLike
  /** Numeric address of a name. */
  resolve(host: string): Promise<string>
  /** 'live': a process accepts there. 'stale': a socket file on which no process listens. 'other': a file that is no socket. */
  probeUnix(path: string): Promise<'absent' | 'live' | 'stale' | 'other'>
  unlink(path: string): void
  /** Names a socket for as long as any process holds it. */
  inode(fd: number): string
  /** Closes a descriptor that was not made here. */
  close(fd: number): void
}

export interface HeldListener {
  /** What it is known by: its address, and which of them when an address with port 0 is asked for several times. */
  readonly key: string
  readonly name: string
  readonly service: string
  /** As the application wrote it, canonical. */
  readonly canonical: string
  /** Where it really is: names resolved, port 0 replaced. */
  readonly bound: string
  readonly shared: boolean
  readonly ipv6Only: boolean
  /** One per slot, or one. */
  readonly sockets: readonly HeldSocket[]
  /** The file of a Unix socket; '' when there is none, or none any more. */
  readonly unixPath: string
}

interface HeldSocket {
  readonly fd: number
  close(): void
}

/** What the journal keeps: the numbers hold for the image that is executed next, the inodes prove that they still do. */
export interface ListenerRecord extends Omit<HeldListener, 'sockets'> {
  readonly sockets: readonly { readonly fd: number; readonly inode: string }[]
}

/** A socket that was bound by another process, or by an image of this one. */
export interface GivenSocket {
  readonly fd: number
  /** As HeldListener.bound. */
  readonly bound: string
}

export class ListenerTable {
  /** Sockets of each listener that has one per slot. Grows, never shrinks. */
  slots: number
  #held: HeldListener[] = []
  #given: GivenSocket[] = []
  /** Paths of sockets that were ours, did not come back, and that a worker may still hold: another one takes its place there. */
  readonly #lostPaths = new Set<string>()
  #listen: (fd: number, backlog: number) => void = () => {}
  readonly #binder: SocketBinder
  readonly #log: ProcessLog

  constructor(slots: number, log: ProcessLog, binder: SocketBinder = SYSTEM_BINDER) {
    this.slots = slots
    this.#log = log
    this.#binder = binder
  }

  get listeners(): readonly HeldListener[] { return this.#held }

  /** Sockets that came with the start are used where they fit. */
  offer(given: readonly GivenSocket[]): void { this.#given.push(...given) }

  /** Sockets of `offer` that fitted no listener; they are the caller's again. */
  takeUnused(): readonly GivenSocket[] { return this.#given.splice(0) }

  /** Binds what is described and not held yet, and sockets for more slots: everything or nothing. @throws BindError */
  async bind(described: readonly DescribedListener[], slots = this.slots): Promise<void> {
    const seen = new Map<string, string>()
    for (const { canonical, name, service, address } of described) {
      if (address.kind === 'udp') {
        const problem = `${canonical} of service '${service}' cannot be bound: this version serves no datagrams; use a TCP or Unix address`
        throw new BindError('EPROTONOSUPPORT', problem)
      }
      const other = seen.get(canonical)
      const anyPort = address.kind === 'tcp' && address.port === 0
      if (other !== undefined && !anyPort) {
        const problem = `${canonical} is asked for twice, by '${other}' and '${name}'; give one of them another address`
        throw new BindError('EADDRINUSE', problem)
      }
      seen.set(canonical, name)
    }
    const before = { held: this.#held, slots: this.slots }
    const fresh: HeldSocket[] = []
    try {
      this.slots = Math.max(slots, before.slots)
      this.#held = [...before.held.map(listener => this.#extend(listener, fresh))]
      for (const [index, listener] of described.entries()) {
        const key = keyOf(described, index)
        if (this.#held.some(held => held.key === key)) continue
        const unix = listener.address.kind === 'unix'
        const held = unix ? await this.#bindUnix(listener, key) : await this.#bindTcp(listener, key, described)
        if (held === null) continue
        fresh.push(...held.sockets)
        this.#held = [...this.#held, held]
      }
    } catch (error) {
      for (const socket of fresh) socket.close()
      for (const { unixPath } of this.#held) {
        const fresh = unixPath !== '' && !before.held.some(held => held.unixPath === unixPath)
        if (fresh) this.#binder.unlink(unixPath)
      }
      this.#held = before.held
      this.slots = before.slots
      throw error
    }
  }

  /**
   * The sockets that an image or a supervisor before us held.
   * @param socketOf a descriptor; 'beside' when the socket did not come back, but a worker may still hold it: another one is
   * bound at the same address, that of a Unix path when its listener is bound; null when the socket is lost: its listener is
   * bound again.
   * @param listen what takes the place of a Unix path queues from the beginning: dials went to a queue there until then.
   */
  restore(
    records: readonly ListenerRecord[], slots: number,
    socketOf: (listener: ListenerRecord, index: number) => number | 'beside' | null,
    listen: (fd: number, backlog: number) => void = () => {},
  ): void {
    this.slots = slots
    this.#listen = listen
    this.#held = records.flatMap(record => {
      const sockets = record.sockets.flatMap((_, index) => {
        const found = socketOf(record, index)
        if (found === 'beside' && record.unixPath !== '') this.#lostPaths.add(record.unixPath)
        if (found === 'beside') return record.shared ? [] : this.#bindBeside(record)
        return found === null ? [] : [this.#givenSocket(found)]
      })
      if (sockets.length === record.sockets.length) return [{ ...record, sockets }]
      for (const socket of sockets) socket.close()
      return []
    })
  }

  #bindBeside({ bound, ipv6Only }: ListenerRecord): HeldSocket[] {
    const { host, port } = addressOf(bound)
    try { return [boundSocket(this.#binder.bindTcp(host, port, ipv6Only, true))] } catch { return [] }
  }

  record(): ListenerRecord[] {
    return this.#held.map(listener => ({ ...listener, sockets: listener.sockets.map(({ fd }) => ({ fd, inode: this.#binder.inode(fd) })) }))
  }

  /** What workers of an application that is described like this inherit. Listeners that could not be bound here are left out. */
  layout(described: readonly DescribedListener[], copies: number): DescriptorLayout {
    const listeners = described.flatMap((listener, index) => {
      const held = this.#heldAs(keyOf(described, index))
      return held === undefined ? [] : [{ name: listener.name, shared: held.shared }]
    })
    return { slots: this.slots, copies, listeners }
  }

  /** In the order of `layout`, which may have fewer slots than there are now. */
  descriptors(described: readonly DescribedListener[], layout: DescriptorLayout): number[] {
    const once = layout.listeners.flatMap(({ name, shared }) => {
      const held = this.#heldAs(keyOf(described, described.findIndex(listener => listener.name === name)))
      if (held === undefined) throw new Error(`the socket of ${name} is gone`)
      return held.sockets.slice(0, shared ? 1 : layout.slots).map(socket => socket.fd)
    })
    return Array.from({ length: layout.copies }, () => once).flat()
  }

  /** Every descriptor, once. */
  get allDescriptors(): number[] { return this.#held.flatMap(listener => listener.sockets.map(({ fd }) => fd)) }

  /**
   * Dials to listeners that are not described any more wait from now on, so that none gets into a queue between its last
   * look and its end. A dial to a Unix path has no handshake that could wait: the path goes now, and with it the way into
   * the queue.
   */
  holdOff(described: readonly DescribedListener[], calls: SystemCalls | null): void {
    for (const listener of this.#notIn(described)) {
      const { bound, sockets } = listener
      if (bound.startsWith('unix:')) {
        this.#unlink(listener)
        continue
      }
      if (calls === null) continue
      try {
        for (const { fd } of sockets) calls.ignoreDials(fd)
      } catch (error) {
        this.#log.info(`dials to ${bound} cannot be held off; one that comes in its last moment may be reset`, { error })
      }
    }
  }

  /**
   * The end of listeners that are not described any more: later dials are refused at once. Workers have let go of them before.
   * @returns these listeners.
   */
  retain(described: readonly DescribedListener[], calls: SystemCalls | null): readonly HeldListener[] {
    const gone = this.#notIn(described)
    if (gone.length === 0) return gone
    this.#held = this.#held.filter(held => !gone.includes(held))
    this.#release(gone, calls)
    this.#log.info('closed listeners that are not wanted any more', { listeners: gone.map(({ bound }) => bound) })
    return gone
  }

  #notIn(described: readonly DescribedListener[]): HeldListener[] {
    const keys = new Set(described.map((_, index) => keyOf(described, index)))
    return this.#held.filter(held => !keys.has(held.key))
  }

  #heldAs(key: string): HeldListener | undefined { return this.#held.find(held => held.key === key) }

  /**
   * The end of every listener: later dials are refused at once, even if other processes hold copies of its sockets.
   * @param calls null: only our copies can be closed.
   * @param keepPaths the sockets live on in another process, so the paths of Unix sockets stay.
   */
  close(calls: SystemCalls | null, keepPaths = false): void {
    this.#release(this.#held, calls, keepPaths)
    this.#held = []
  }

  #release(listeners: readonly HeldListener[], calls: SystemCalls | null, keepPaths = false): void {
    for (const listener of listeners) {
      if (!keepPaths) this.#unlink(listener)
      for (const socket of listener.sockets) {
        try {
          calls?.shutdown(socket.fd)
          socket.close()
        } catch (error) {
          this.#log.warn(`could not close ${listener.bound}`, { error })
        }
      }
    }
  }

  /** Once: the path may be another program's a moment later. */
  #unlink(listener: HeldListener): void {
    if (listener.unixPath === '') return
    try { this.#binder.unlink(listener.unixPath) } catch (error) {
      this.#log.warn(`could not remove ${listener.unixPath}`, { error })
    }
    this.#held = this.#held.map(held => held === listener ? { ...held, unixPath: '' } : held)
  }

  /** A listener with a socket for every slot. */
  #extend(listener: HeldListener, fresh: HeldSocket[]): HeldListener {
    if (listener.shared || listener.sockets.length >= this.slots) return listener
    const { host, port } = addressOf(listener.bound)
    const more: HeldSocket[] = []
    while (listener.sockets.length + more.length < this.slots) {
      const socket = this.#takeGiven(listener.bound) ?? boundSocket(this.#binder.bindTcp(host, port, listener.ipv6Only, true))
      more.push(socket)
      fresh.push(socket)
    }
    return { ...listener, sockets: [...listener.sockets, ...more] }
  }

  #givenSocket(fd: number): HeldSocket { return { fd, close: () => this.#binder.close(fd) } }

  #takeGiven(bound: string): HeldSocket | null {
    const index = this.#given.findIndex(given => given.bound === bound)
    return index === -1 ? null : this.#givenSocket(this.#given.splice(index, 1)[0]!.fd)
  }

  async #bindTcp(listener: DescribedListener, key: string, described: readonly DescribedListener[]): Promise<HeldListener | null> {
    const { address } = listener
    if (address.kind !== 'tcp') throw new Error('not a TCP address')
    const shared = !this.#binder.reusePort
    let host = address.host
    if (net.isIP(host) === 0) {
      try {
        host = await this.#binder.resolve(address.host)
      } catch (error) {
        const problem = `the name ${address.host} cannot be resolved (${codeOf(error)}); use a numeric address or correct the name`
        throw new BindError('', `${listener.canonical}: ${problem}`, error)
      }
    }
    const where = hostAndPort(host, address.port)
    const sockets: HeldSocket[] = []
    try {
      const first = address.port === 0 ? null : this.#takeGiven(where)
      if (first !== null) sockets.push(first)
      // Without SO_REUSEPORT first: with it we would silently join another program's group and take half its connections.
      if (address.port !== 0 && first === null) this.#binder.bindTcp(host, address.port, address.ipv6Only, false).close()
      let port = address.port
      while (sockets.length < (shared ? 1 : this.slots)) {
        const given = address.port === 0 ? null : this.#takeGiven(where)
        if (given !== null) { sockets.push(given); continue }
        const socket = this.#binder.bindTcp(host, port, address.ipv6Only, !shared)
        sockets.push(boundSocket(socket))
        port = socket.address().port ?? port
      }
      const { name, service, canonical } = listener
      return { key, name, service, canonical, bound: hostAndPort(host, port), shared, ipv6Only: address.ipv6Only, sockets, unixPath: '' }
    } catch (error) {
      for (const socket of sockets) socket.close()
      const code = codeOf(error)
      // A machine without IPv6 still has the other half.
      if (isHalfOfBoth(address, described) && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL' || code === 'EINVAL')) {
        this.#log.warn(`this machine has no IPv6; not listening on ${where}`)
        return null
      }
      const asWritten = where === listener.canonical ? '' : ` (${listener.canonical})`
      throw new BindError(code, `${where}${asWritten} of service '${listener.service}' cannot be bound: ${remedyOf(error)}`, error)
    }
  }

  async #bindUnix(listener: DescribedListener, key: string): Promise<HeldListener> {
    const { address } = listener
    if (address.kind !== 'unix') throw new Error('not a Unix address')
    const where = canonicalAddress(address)
    const given = this.#takeGiven(where)
    const { name, service, canonical } = listener
    const held = { key, name, service, canonical, bound: where, shared: true, ipv6Only: false, unixPath: address.path }
    if (given !== null) return { ...held, sockets: [given] }
    const problem = `${where} of service '${service}' cannot be bound`
    const found = await this.#binder.probeUnix(address.path)
    const ours = this.#lostPaths.has(address.path)
    if (found === 'live' && !ours) {
      throw new BindError('EADDRINUSE', `${problem}: another program listens there; stop it or choose another path`)
    }
    this.#lostPaths.delete(address.path)
    if (found === 'other') throw new BindError('EEXIST', `${problem}: there is a file that is no socket; remove it or choose another path`)
    if (found === 'stale' || found === 'live') this.#binder.unlink(address.path)
    try {
      const socket = this.#binder.bindUnix(address.path, address.mode)
      if (ours) this.#listen(socket.fd(), listener.backlog)
      return { ...held, sockets: [boundSocket(socket)] }
    } catch (error) {
      throw new BindError(codeOf(error), `${problem}: ${remedyOf(error)}`, error)
    }
  }
}

/** The nth listener of an address; more than one can only be asked for with port 0. */
function keyOf(described: readonly DescribedListener[], index: number): string {
  const canonical = described[index]?.canonical ?? ''
  const nth = described.slice(0, index).filter(other => other.canonical === canonical).length
  return nth === 0 ? canonical : `${canonical}#${nth}`
}

type TcpAddress = Extract<DescribedAddress, { kind: 'tcp' }>

/** `:port` means both families; of the two listeners that it gives this is the one for IPv6. */
function isHalfOfBoth({ host, port, ipv6Only }: TcpAddress, described: readonly DescribedListener[]): boolean {
  return host === '::' && ipv6Only && described.some(({ address }) => {
    return address.kind === 'tcp' && address.host === '0.0.0.0' && address.port === port
  })
}

function boundSocket(socket: BoundSocketLike): HeldSocket { return { fd: socket.fd(), close: () => socket.close() } }


/** Of a bound TCP socket. */
function addressOf(bound: string): { host: string; port: number } {
  const colon = bound.lastIndexOf(':')
  return { host: bound.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(bound.slice(colon + 1)) }
}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use by another program; stop it (`ss -ltnp` shows it) or choose another port',
  EACCES: 'permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, a path needs a folder that we may write',
  EADDRNOTAVAIL: 'this machine has no such address; use one of its own, or 0.0.0.0 for all',
  ENOENT: 'the folder does not exist; create it',
  EINVAL: 'the address is not valid, or a path is longer than 107 bytes',
}

/** What would do, in the words of an operator. */
export function remedyOf(error: unknown): string {
  return REMEDIES[codeOf(error)] ?? (error instanceof Error ? error.message : codeOf(error))
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : ''
}

export const SYSTEM_BINDER: SocketBinder = {
  // Elsewhere SO_REUSEPORT exists but does not spread connections.
  reusePort: process.platform === 'linux',
  bindTcp: (host, port, ipv6Only, reusePort) => new net.BoundSocket({ host, port, ipv6Only, reusePort }),
  bindUnix(path, mode) {
    // Without one the system call is said to lack a permission.
    if (!fs.existsSync(dirname(path))) throw Object.assign(new Error('no folder'), { code: 'ENOENT' })
    const socket = new net.BoundSocket({ path } as unknown as net.BoundSocketOptions)
    fs.chmodSync(path, mode)
    return socket
  },
  async resolve(host) { return (await dns.lookup(host)).address },
  async probeUnix(path) {
    let stat: fs.Stats
    try { stat = fs.lstatSync(path) } catch { return 'absent' }
    if (!stat.isSocket()) return 'other'
    return await dialUnix(path) ? 'live' : 'stale'
  },
  unlink: path => fs.rmSync(path, { force: true }),
  inode: fd => String(fs.fstatSync(fd).ino),
  close: fd => fs.closeSync(fd),
}

/** Whether a process listens on a Unix path. Only a refusal proves that none does: a full queue or a lack of rights means that one does. */
export function dialUnix(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect({ path })
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    socket.once('error', error => resolve(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'))
  })
}
