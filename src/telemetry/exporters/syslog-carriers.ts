/**
 * The three ways to a syslog receiver: a Unix datagram socket (system calls), UDP and TCP (Node.js). Each takes messages one by one
 * while it can, opens its socket with the first of them, and opens it anew when it was lost, after a while that grows.
 *
 *   closed --take--> opening --connected--> open --fault, end of the other side--> waiting --time--> closed
 *                       \--fault--> waiting
 *
 * Invariants: `take` returns at once and never throws; a message is taken by exactly one `take` that returned true, and is then sent,
 * given back or told as lost; after `take` returned false `onRoom` follows when another try is worth it; no socket and no timer of
 * theirs keeps the process alive.
 */
import type { Socket as UdpSocket } from 'node:dgram'
import net from 'node:net'
import type { SyslogTarget } from '../../config/syslog-target.ts'
import { loadSystemCallsNow, type DatagramOutlet, type SystemCalls } from '../../ipc/system-calls.ts'

export interface Carrier {
  /** Whether many messages at once cost less than one by one. */
  readonly gathers: boolean
  /** Of messages that it has taken and that the kernel has not. */
  readonly pendingBytes: number
  take(message: Buffer): boolean
  /** What it has taken goes to the kernel now, as far as that takes it. */
  urge(): void
  close(): void
}

/** What hears of a carrier's fate. */
export interface CarrierOwner {
  /** Worth another `take`. */
  onRoom(): void
  /** A message has gone to the kernel. */
  onSent(): void
  /** @param lost messages that will not be sent */
  onFault(error: Error, lost: number): void
  /** These are not taken any more: they go first, in this order. */
  onReturned(messages: readonly Buffer[]): void
}

/** @throws for a Unix socket where there are no system calls */
export function openCarrier(target: SyslogTarget, owner: CarrierOwner): Carrier {
  switch (target.transport) {
    case 'unix': return new UnixCarrier(target, owner)
    case 'udp': return new UdpCarrier(target, owner)
    case 'tcp': return new TcpCarrier(target, owner)
    default: return target.transport satisfies never
  }
}

/** The first wait after a fault, in ms; each further one is twice as long, up to the longest. */
const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 10_000
/**
 * A receiver's queue that is full is looked at again after this, in ms. It may have room for ten messages only (net.unix.max_dgram_qlen),
 * so a longer wait would be what bounds the messages a second.
 */
const FULL_QUEUE_MS = 1

/** The time between two tries. */
class Wait {
  readonly #over: () => void
  #nextMs = FIRST_WAIT_MS
  #timer: NodeJS.Timeout | null = null

  constructor(over: () => void) { this.#over = over }

  get active(): boolean { return this.#timer !== null }

  /** After a fault. A part of it is chance, as all workers lose their receiver in the same moment. */
  begin(): void {
    this.#arm(this.#nextMs * (0.5 + Math.random() / 2))
    this.#nextMs = Math.min(2 * this.#nextMs, LONGEST_WAIT_MS)
  }

  /** Nothing is wrong, there is only no room. */
  beginShort(): void { this.#arm(FULL_QUEUE_MS) }

  /** Messages get through. */
  reset(): void { this.#nextMs = FIRST_WAIT_MS }

  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #arm(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#over()
    }, ms).unref()
  }
}

/** Names of errors that say that the receiver's queue, or the memory of the kernel for it, is full. */
const FULL: ReadonlySet<string> = new Set(['EAGAIN', 'ENOBUFS', 'ENOMEM'])

/** A connected datagram socket: a message is one call of 3 us (**measured**), and its answer says what became of it. */
class UnixCarrier implements Carrier {
  readonly gathers = false
  readonly pendingBytes = 0
  readonly #calls: SystemCalls
  readonly #path: string
  readonly #owner: CarrierOwner
  readonly #wait: Wait
  #outlet: DatagramOutlet | null = null

  constructor({ name, path }: SyslogTarget, owner: CarrierOwner) {
    const loaded = loadSystemCallsNow()
    if (!loaded.available) throw new Error(`${name} needs system calls, which are not available: ${loaded.reason}`)
    this.#calls = loaded.calls
    this.#path = path
    this.#owner = owner
    this.#wait = new Wait(() => owner.onRoom())
  }

  take(message: Buffer): boolean {
    if (this.#wait.active) return false
    if (this.#outlet === null && !this.#connect()) return false
    let fault = this.#outlet!.send(message)
    if (fault !== '' && fault !== 'EMSGSIZE' && !FULL.has(fault)) {
      // The receiver is gone. Perhaps another one has its path by now.
      this.#disconnect()
      if (!this.#connect()) return false
      fault = this.#outlet!.send(message)
    }
    if (fault === '') {
      this.#wait.reset()
      this.#owner.onSent()
      return true
    }
    if (FULL.has(fault)) {
      this.#wait.beginShort()
      return false
    }
    const error = new Error(`send: ${fault}`)
    if (fault === 'EMSGSIZE') {
      this.#owner.onFault(error, 1)
      return true
    }
    this.#disconnect()
    this.#failed(error)
    return false
  }

  #connect(): boolean {
    try {
      this.#outlet = this.#calls.connectDatagram(this.#path)
      return true
    } catch (error) {
      this.#failed(error as Error)
      return false
    }
  }

  #failed(error: Error): void {
    this.#wait.begin()
    this.#owner.onFault(error, 0)
  }

  #disconnect(): void {
    this.#outlet?.close()
    this.#outlet = null
  }

  urge(): void { /* Nothing waits here. */ }

  close(): void {
    this.#wait.end()
    this.#disconnect()
  }
}

/** Datagrams that Node.js has and the kernel has not, at most. */
const MAX_DATAGRAMS = 128

/** A connected socket, so that a refusal is told: by an ICMP message, to the datagram after the one that was refused. */
class UdpCarrier implements Carrier {
  readonly gathers = false
  pendingBytes = 0
  readonly #target: SyslogTarget
  readonly #owner: CarrierOwner
  readonly #wait: Wait
  #socket: UdpSocket | null = null
  #connected = false
  #resolving = false
  #pending = 0
  #closed = false

  constructor(target: SyslogTarget, owner: CarrierOwner) {
    this.#target = target
    this.#owner = owner
    this.#wait = new Wait(() => owner.onRoom())
  }

  take(message: Buffer): boolean {
    if (this.#wait.active || this.#pending >= MAX_DATAGRAMS) return false
    const socket = this.#socket
    if (socket === null || !this.#connected) {
      if (socket === null && !this.#resolving) this.#open()
      return false
    }
    this.#pending++
    this.pendingBytes += message.length
    socket.send(message, error => this.#onSent(socket, message.length, error))
    return true
  }

  /** A name is resolved with each opening: it may stand elsewhere by now. */
  #open(): void {
    const { host } = this.#target, family = net.isIP(host)
    if (family !== 0) {
      this.#openTo(host, family)
      return
    }
    this.#resolving = true
    process.getBuiltinModule('node:dns').lookup(host, (error, address, found) => {
      this.#resolving = false
      if (this.#closed) return
      if (error !== null) this.#failed(error, 0)
      else this.#openTo(address, found)
    })
  }

  #openTo(address: string, family: number): void {
    const socket = this.#socket = process.getBuiltinModule('node:dgram').createSocket(family === 6 ? 'udp6' : 'udp4')
    socket.unref()
    socket.on('error', error => this.#lose(socket, error, 0))
    socket.connect(this.#target.port, address, (error?: Error) => {
      if (this.#socket !== socket) return
      if (error !== undefined) {
        this.#lose(socket, error, 0)
        return
      }
      this.#connected = true
      this.#owner.onRoom()
    })
  }

  #onSent(socket: UdpSocket, bytes: number, error: Error | null): void {
    this.#pending--
    this.pendingBytes -= bytes
    if (this.#closed) return
    if (error === null) {
      this.#wait.reset()
      this.#owner.onSent()
    } else if ((error as NodeJS.ErrnoException).code === 'EMSGSIZE' || this.#socket !== socket) this.#owner.onFault(error, 1)
    else this.#lose(socket, error, 1)
    this.#owner.onRoom()
  }

  #lose(socket: UdpSocket, error: Error, lost: number): void {
    if (this.#socket !== socket) return
    this.#socket = null
    this.#connected = false
    socket.close()
    this.#failed(error, lost)
  }

  #failed(error: Error, lost: number): void {
    this.#wait.begin()
    this.#owner.onFault(error, lost)
  }

  urge(): void { /* A connected socket sends at once. */ }

  close(): void {
    this.#closed = true
    this.#wait.end()
    this.#socket?.close()
    this.#socket = null
  }
}

/** Bytes that were written and not confirmed by the kernel, at most: what a lost connection gives back. */
const WINDOW_BYTES = 65_536
/** A connection that is not there by then is given up, and so is one that takes nothing for so long, in ms. */
const CONNECT_MAX_MS = 5000
const STALL_MAX_MS = 30_000

/**
 * A connection. When it is lost, what the kernel had not taken is written to the next one; of what it had taken nobody knows whether
 * it arrived.
 */
class TcpCarrier implements Carrier {
  readonly gathers = true
  pendingBytes = 0
  readonly #target: SyslogTarget
  readonly #owner: CarrierOwner
  readonly #wait: Wait
  #socket: net.Socket | null = null
  #connected = false
  #corked = false
  #error: Error | null = null
  #pending: Buffer[] = []
  readonly #onWritten = (error?: Error | null): void => this.#written(error ?? null)

  constructor(target: SyslogTarget, owner: CarrierOwner) {
    this.#target = target
    this.#owner = owner
    this.#wait = new Wait(() => owner.onRoom())
  }

  take(message: Buffer): boolean {
    if (this.#wait.active || this.pendingBytes >= WINDOW_BYTES) return false
    const socket = this.#socket
    if (socket === null || !this.#connected) {
      if (socket === null) this.#open()
      return false
    }
    if (!this.#corked) {
      this.#corked = true
      socket.cork()
      process.nextTick(uncork, this)
    }
    this.#pending.push(message)
    this.pendingBytes += message.length
    socket.write(message, this.#onWritten)
    return true
  }

  #open(): void {
    const { host, port } = this.#target
    this.#error = null
    const socket = this.#socket = net.connect({ host, port, keepAlive: true, keepAliveInitialDelay: STALL_MAX_MS })
    socket.unref()
    socket.setTimeout(CONNECT_MAX_MS)
    socket.on('connect', () => {
      this.#connected = true
      socket.setTimeout(STALL_MAX_MS)
      this.#owner.onRoom()
    })
    socket.on('timeout', () => {
      if (!this.#connected) socket.destroy(new Error(`connect: no answer within ${CONNECT_MAX_MS} ms`))
      else if (this.pendingBytes > 0) socket.destroy(new Error(`the receiver takes nothing for ${STALL_MAX_MS} ms`))
    })
    socket.on('error', error => { this.#error = error })
    socket.on('close', () => this.#lost(socket))
    // What it says is not looked at; its end is.
    socket.resume()
  }

  #written(error: Error | null): void {
    // Those of a connection that was lost were given back.
    if (error !== null) return
    const message = this.#pending.shift()
    if (message === undefined) return
    this.pendingBytes -= message.length
    this.#wait.reset()
    this.#owner.onSent()
    if (this.pendingBytes < WINDOW_BYTES / 2) this.#owner.onRoom()
  }

  #lost(socket: net.Socket): void {
    if (this.#socket !== socket) return
    const pending = this.#pending, error = this.#error, wasConnected = this.#connected
    this.#socket = null
    this.#connected = this.#corked = false
    this.#pending = []
    this.pendingBytes = 0
    this.#wait.begin()
    if (pending.length > 0) this.#owner.onReturned(pending)
    // A receiver may close a connection that is at rest.
    if (error !== null || !wasConnected || pending.length > 0) {
      this.#owner.onFault(error ?? new Error('the receiver closed the connection'), 0)
    }
  }

  urge(): void {
    if (!this.#corked) return
    this.#corked = false
    this.#socket?.uncork()
  }

  close(): void {
    this.#wait.end()
    const socket = this.#socket
    this.#socket = null
    // What it was given arrives first. It does not keep the process.
    socket?.end()
  }
}

/** At the end of the turn in which it was given messages. */
function uncork(carrier: TcpCarrier): void { carrier.urge() }
