/**
 * Every listening socket, bound once and held for as long as the supervisor lives: one per slot for TCP (SO_REUSEPORT:
 * the kernel spreads connections), one for all slots for a Unix path and where SO_REUSEPORT does not exist.
 * The supervisor never listens or accepts on them.
 *
 * Invariant: a socket with a queue is closed only when its listener is removed for good, because closing resets the
 * queue. `close()` therefore belongs to the very end of a stop, after the workers have let go.
 */
import dns from 'node:dns/promises'
import fs from 'node:fs'
import net from 'node:net'
import { canonicalAddress, hostAndPort } from '../src/ipc/server-description.ts'
import type { DescribedListener } from '../src/ipc/server-description.ts'
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
  /** 'live': somebody accepts there. 'stale': a socket file that nobody listens on. 'other': a file that is no socket. */
  probeUnix(path: string): Promise<'absent' | 'live' | 'stale' | 'other'>
  unlink(path: string): void
}

export interface HeldListener {
  readonly name: string
  readonly service: string
  /** As the application wrote it, canonical. */
  readonly canonical: string
  /** Where it really is: names resolved, port 0 replaced. */
  readonly bound: string
  readonly shared: boolean
  /** One per slot, or one. */
  readonly sockets: readonly HeldSocket[]
  readonly unixPath: string
}

interface HeldSocket {
  readonly fd: number
  readonly socket: BoundSocketLike
}

export class ListenerTable {
  readonly slots: number
  #held: HeldListener[] = []
  readonly #binder: SocketBinder
  readonly #log: ProcessLog

  constructor(slots: number, log: ProcessLog, binder: SocketBinder = SYSTEM_BINDER) {
    this.slots = slots
    this.#log = log
    this.#binder = binder
  }

  get listeners(): readonly HeldListener[] { return this.#held }

  /** Binds everything or nothing. @throws BindError */
  async bind(described: readonly DescribedListener[]): Promise<void> {
    const seen = new Map<string, string>()
    for (const { canonical, name, address } of described) {
      const other = seen.get(canonical)
      if (other !== undefined && !(address.kind === 'tcp' && address.port === 0)) throw new BindError('EADDRINUSE', `${canonical} is asked for twice, by '${other}' and '${name}'; give one of them another address`)
      seen.set(canonical, name)
    }
    try {
      for (const listener of described) {
        const held = listener.address.kind === 'unix' ? await this.#bindUnix(listener) : await this.#bindTcp(listener, described)
        if (held !== null) this.#held.push(held)
      }
    } catch (error) {
      this.#release(null)
      throw error
    }
  }

  layout(copies: number): DescriptorLayout {
    return { slots: this.slots, copies, listeners: this.#held.map(({ name, shared }) => ({ name, shared })) }
  }

  /** In the order of `layout`. */
  descriptors(copies: number): number[] {
    const once = this.#held.flatMap(listener => listener.sockets.map(socket => socket.fd))
    return Array.from({ length: copies }, () => once).flat()
  }

  /** The end of every listener: later dials are refused at once, whoever still holds a copy. @param calls null: only our copies can be closed. */
  close(calls: SystemCalls | null): void { this.#release(calls) }

  #release(calls: SystemCalls | null): void {
    for (const { sockets, unixPath, bound } of this.#held) {
      for (const { fd, socket } of sockets) {
        try {
          calls?.shutdown(fd)
          socket.close()
        } catch (error) {
          this.#log.warn(`could not close ${bound}`, { error })
        }
      }
      if (unixPath !== '') this.#binder.unlink(unixPath)
    }
    this.#held = []
  }

  async #bindTcp(listener: DescribedListener, described: readonly DescribedListener[]): Promise<HeldListener | null> {
    const { address } = listener
    if (address.kind !== 'tcp') throw new Error('not a TCP address')
    const shared = !this.#binder.reusePort
    let host = address.host
    if (net.isIP(host) === 0) {
      try {
        host = await this.#binder.resolve(address.host)
      } catch (error) {
        throw new BindError('', `${listener.canonical}: the name ${address.host} cannot be resolved (${codeOf(error)}); use a numeric address or correct the name`, error)
      }
    }
    const where = hostAndPort(host, address.port)
    const sockets: HeldSocket[] = []
    try {
      // Without SO_REUSEPORT first: with it we would silently join another program's group and take half its connections.
      if (address.port !== 0) this.#binder.bindTcp(host, address.port, address.ipv6Only, false).close()
      let port = address.port
      for (let slot = 0; slot < (shared ? 1 : this.slots); slot++) {
        const socket = this.#binder.bindTcp(host, port, address.ipv6Only, !shared)
        sockets.push({ fd: socket.fd(), socket })
        port = socket.address().port ?? port
      }
      return { name: listener.name, service: listener.service, canonical: listener.canonical, bound: hostAndPort(host, port), shared, sockets, unixPath: '' }
    } catch (error) {
      for (const { socket } of sockets) socket.close()
      const code = codeOf(error)
      // `:port` means both families; a machine without IPv6 still has the other.
      const bothFamilies = address.host === '::' && address.ipv6Only && described.some(other => other.address.kind === 'tcp' && other.address.host === '0.0.0.0' && other.address.port === address.port)
      if (bothFamilies && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL' || code === 'EINVAL')) {
        this.#log.warn(`this machine has no IPv6; not listening on ${where}`)
        return null
      }
      throw new BindError(code, `${where}${where === listener.canonical ? '' : ` (${listener.canonical})`} of service '${listener.service}' cannot be bound: ${REMEDIES[code] ?? (error instanceof Error ? error.message : code)}`, error)
    }
  }

  async #bindUnix(listener: DescribedListener): Promise<HeldListener> {
    const { address } = listener
    if (address.kind !== 'unix') throw new Error('not a Unix address')
    const where = `unix:${address.path}`
    const found = await this.#binder.probeUnix(address.path)
    if (found === 'live') throw new BindError('EADDRINUSE', `${where} of service '${listener.service}' cannot be bound: another program listens there; stop it or choose another path`)
    if (found === 'other') throw new BindError('EEXIST', `${where} of service '${listener.service}' cannot be bound: there is a file that is no socket; remove it or choose another path`)
    if (found === 'stale') this.#binder.unlink(address.path)
    try {
      const socket = this.#binder.bindUnix(address.path, address.mode)
      return { name: listener.name, service: listener.service, canonical: listener.canonical, bound: canonicalAddress(address), shared: true, sockets: [{ fd: socket.fd(), socket }], unixPath: address.path }
    } catch (error) {
      const code = codeOf(error)
      throw new BindError(code, `${where} of service '${listener.service}' cannot be bound: ${REMEDIES[code] ?? (error instanceof Error ? error.message : code)}`, error)
    }
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use by another program; stop it (`ss -ltnp` shows it) or choose another port',
  EACCES: 'permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, a path needs a folder that we may write',
  EADDRNOTAVAIL: 'this machine has no such address; use one of its own, or 0.0.0.0 for all',
  ENOENT: 'the folder does not exist; create it',
  EINVAL: 'the address is not valid, or a path is longer than 107 bytes',
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
}

/** Whether somebody listens on a Unix path. Only a refusal proves that nobody does: a full queue or a lack of rights is somebody. */
export function dialUnix(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect({ path })
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    socket.once('error', error => resolve(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'))
  })
}
