/**
 * The operating system as a worker touches it: time, the way to its supervisor, its descriptors, what the process costs.
 * Injected into worker.ts, control-client.ts and inherited-listeners.ts, so that each of them runs in simulated time and
 * over simulated sockets as well. `systemWorld` is the real one, and the only place in which those three meet Node.js.
 *
 * How a worker's process ends and logs is WorkerHost (worker.ts): that depends on who wires the process together.
 */
import cluster from 'node:cluster'
import fs from 'node:fs'
import net from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { systemClock } from '../src/primitives/clock.ts'
import { whileReading } from '../src/protocols/tcp/socket-turn.ts'
import type { Clock } from '../src/primitives/clock.ts'
import { Channel } from '../src/ipc/channel.ts'
import type { ChannelEnd, ChannelHandlers, ChannelOptions } from '../src/ipc/channel.ts'
import type { Acceptor } from '../src/listener/acceptor.ts'
import { decodeToWorker } from '../src/ipc/messages.ts'
import type { FromWorker, ToWorker } from '../src/ipc/messages.ts'

/** What a worker says of itself in a heartbeat. */
export interface Vitals {
  /** Share of the time since the last call in which the event loop was busy, 0 to 1. */
  readonly utilization: number
  /** As last known; 0: the system does not say. */
  readonly rssBytes: number
}

export interface DialHandlers extends ChannelHandlers<ToWorker> {
  /** The supervisor has taken the connection, or will: what is sent from now on reaches it. Never called during the dial. */
  onOpen(): void
}

export interface WorkerWorld {
  readonly pid: number
  readonly clock: Pick<Clock, 'exact' | 'after'>
  /** One turn of the event loop. Every acceptor of this process takes what waits in its queue in it. */
  turn(): Promise<void>
  /** Dials the supervisor. A dial that fails is an `onClose` with the reason, never during the call. */
  dial(path: string, options: ChannelOptions, handlers: DialHandlers): ChannelEnd<FromWorker>
  /** Listens on a descriptor, which the acceptor owns from then on. */
  listen(acceptor: Acceptor, fd: number, backlog: number): Promise<void>
  /** Closes the acceptor's descriptor; its connections go on. */
  stopListening(acceptor: Acceptor): void
  /** Closes a descriptor that no acceptor owns. */
  close(fd: number): void
  vitals(): Vitals
  /** Calls `run` every few milliseconds while connections are read: timers may then be late by seconds. */
  whileBusy(run: () => void): void
}

class SystemWorld implements WorkerWorld {
  readonly pid = process.pid
  readonly clock = systemClock
  #before = performance.eventLoopUtilization()
  #rssBytes = 0

  async turn(): Promise<void> { await setImmediate() }

  whileBusy(run: () => void): void { whileReading(run) }

  dial(path: string, options: ChannelOptions, handlers: DialHandlers): ChannelEnd<FromWorker> {
    const socket = net.connect({ path })
    socket.once('connect', () => handlers.onOpen())
    return new Channel<FromWorker, ToWorker>(socket, decodeToWorker, options, handlers)
  }

  listen(acceptor: Acceptor, fd: number, backlog: number): Promise<void> { return listenOn(acceptor, fd, backlog) }

  stopListening(acceptor: Acceptor): void { acceptor.close() }

  close(fd: number): void { fs.closeSync(fd) }

  vitals(): Vitals {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, this.#before)
    this.#before = now
    // The system says it in a file, which may be missing, or not be opened for want of descriptors.
    try { this.#rssBytes = process.memoryUsage.rss() } catch { /* it is as it was */ }
    return { utilization, rssBytes: this.#rssBytes }
  }
}

export const systemWorld: WorkerWorld = new SystemWorld()

/** Waits in the world's own time. */
export function elapse({ clock }: Pick<WorkerWorld, 'clock'>, ms: number): Promise<void> {
  return new Promise(resolve => { clock.after(ms, resolve) })
}

async function listenOn(acceptor: Acceptor, fd: number, backlog: number): Promise<void> {
  // In a cluster worker a server of Node.js would hand a Unix socket to the primary, as a number. The acceptor takes the
  // socket over within the call, so no other code sees the flag.
  const flags = cluster as { isPrimary: boolean }
  const was = flags.isPrimary
  let attached: Promise<void>
  flags.isPrimary = true
  try { attached = acceptor.attach(fd, backlog) } finally { flags.isPrimary = was }
  await attached
}
