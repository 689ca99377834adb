/**
 * The listening sockets that a worker inherited, and the acceptors on copies of them.
 *
 * Every worker inherits the sockets of all slots. It listens on a copy, because closing a `net.Server` closes its
 * descriptor for good, and pausing, resuming and standing in for a sibling need it again. With system calls a copy is a
 * `dup`; without them each socket was inherited several times and a copy is the next unused one.
 * Invariant: an inherited descriptor is closed here only if no acceptor took it (an acceptor closes its own).
 */
import cluster from 'node:cluster'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { descriptorOf } from '../src/ipc/descriptor-layout.ts'
import type { DescriptorLayout } from '../src/ipc/descriptor-layout.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import type { RunningListener } from '../src/server/service.ts'
import { backlogOf } from '../src/server/server.ts'

/** The copies of a listening socket are used up; only a new worker has fresh ones. */
export class CopiesUsedUp extends Error {
  constructor(listener: string) {
    super(`the copies of the socket of '${listener}' are used up`)
    this.name = 'CopiesUsedUp'
  }
}

/** Without system calls: how long an accept queue must bring nothing to be taken for empty, in ms. */
const QUIET_QUEUE_MS = 50

/**
 * Listens on a descriptor, which the server owns from then on. Not `listen({ fd })`: in a cluster worker that names the
 * primary's descriptor, and it ignores the backlog.
 */
export async function listenOn(server: net.Server, fd: number, backlog: number): Promise<void> {
  const shell = new net.Socket({ fd, readable: false, writable: false })
  // A Unix socket would be handed to the cluster primary as a number. The listen is synchronous, so nobody else sees the flag.
  const flags = cluster as { isPrimary: boolean }
  const was = flags.isPrimary
  flags.isPrimary = true
  try { server.listen(shell, backlog) } finally { flags.isPrimary = was }
  await once(server, 'listening')
}

interface InheritedListener {
  /** Index in the layout. */
  readonly index: number
  readonly shared: boolean
  readonly running: RunningListener
}

export class InheritedListeners {
  readonly #layout: DescriptorLayout
  readonly #slot: number
  readonly #calls: SystemCalls | null
  readonly #listeners: readonly InheritedListener[]
  /** Acceptors by the slot they accept for. */
  readonly #acceptors = new Map<number, net.Server[]>()
  /** Without system calls: copies that an acceptor took, by the number of the first copy. */
  readonly #copiesTaken = new Map<number, number>()
  #closed = false

  /** Listeners that the supervisor did not bind are left out; `missing` names them. */
  constructor(layout: DescriptorLayout, slot: number, running: readonly RunningListener[], calls: SystemCalls | null) {
    this.#layout = layout
    this.#slot = slot
    this.#calls = calls
    const byName = new Map(running.map(listener => [listener.spec.name, listener]))
    this.#listeners = layout.listeners.flatMap(({ name, shared }, index) => {
      const found = byName.get(name)
      return found === undefined ? [] : [{ index, shared, running: found }]
    })
  }

  /** Names that are only in one of the two: bound and not served, or served and not bound. */
  static mismatch(layout: DescriptorLayout, running: readonly RunningListener[]): { unserved: string[]; unbound: string[] } {
    const bound = new Set(layout.listeners.map(listener => listener.name))
    const served = new Set(running.map(listener => listener.spec.name))
    return { unserved: [...bound].filter(name => !served.has(name)), unbound: [...served].filter(name => !bound.has(name)) }
  }

  get acceptingSlots(): readonly number[] { return [...this.#acceptors.keys()] }

  /** Accepts for the own slot; does nothing when it does already. @throws CopiesUsedUp */
  accept(): Promise<void> { return this.#listenFor(this.#slot) }

  /** Accepts for a sibling's slot as well. Shared sockets are ours anyway. */
  adopt(slot: number): Promise<void> {
    if (slot < 0 || slot >= this.#layout.slots) return Promise.reject(new Error(`there is no slot ${slot}`))
    return this.#listenFor(slot)
  }

  release(slot: number): void { if (slot !== this.#slot) this.#stop(slot) }

  /** Stops accepting on everything; `accept` may follow. */
  pause(): void { for (const slot of this.acceptingSlots) this.#stop(slot) }

  /** Accepts until the queues that this worker serves are empty, then closes everything for good. */
  async emptyAndClose(emptyQueueMs: number): Promise<void> {
    const deadline = performance.now() + emptyQueueMs
    if (this.#calls === null) await setTimeout(Math.min(emptyQueueMs, QUIET_QUEUE_MS))
    // Each turn of the event loop accepts from every queue that has something.
    while (!this.#closed && performance.now() < deadline && this.#hasQueued()) await setImmediate()
    this.closeForGood()
  }

  /** Stops accepting and closes every copy, the siblings' too: while anyone holds one, dials hang instead of being refused. */
  closeForGood(): void {
    if (this.#closed) return
    this.#closed = true
    this.pause()
    for (let index = 0; index < this.#layout.listeners.length; index++) {
      const slots = this.#layout.listeners[index]!.shared ? 1 : this.#layout.slots
      for (let slot = 0; slot < slots; slot++) {
        const taken = this.#copiesTaken.get(descriptorOf(this.#layout, index, slot, 0)) ?? 0
        for (let copy = taken; copy < this.#layout.copies; copy++) fs.closeSync(descriptorOf(this.#layout, index, slot, copy))
      }
    }
  }

  async #listenFor(slot: number): Promise<void> {
    if (this.#closed) throw new Error('the listening sockets were closed for good')
    if (this.#acceptors.has(slot)) return
    const acceptors: net.Server[] = []
    this.#acceptors.set(slot, acceptors)
    try {
      for (const listener of this.#listeners) {
        if (listener.shared && slot !== this.#slot) continue
        const acceptor = listener.running.createAcceptor()
        acceptors.push(acceptor)
        await listenOn(acceptor, this.#copy(listener, slot), backlogOf(listener.running.spec))
      }
    } catch (error) {
      this.#stop(slot)
      throw error
    }
  }

  #stop(slot: number): void {
    const acceptors = this.#acceptors.get(slot) ?? []
    this.#acceptors.delete(slot)
    // Not http.Server.close, which would cut idle connections.
    for (const acceptor of acceptors) if (acceptor.listening) net.Server.prototype.close.call(acceptor)
  }

  #copy(listener: InheritedListener, slot: number): number {
    const first = descriptorOf(this.#layout, listener.index, slot, 0)
    if (this.#calls !== null) return this.#calls.dup(first)
    const taken = this.#copiesTaken.get(first) ?? 0
    if (taken >= this.#layout.copies) throw new CopiesUsedUp(listener.running.spec.name)
    this.#copiesTaken.set(first, taken + 1)
    return descriptorOf(this.#layout, listener.index, slot, taken)
  }

  #hasQueued(): boolean {
    const calls = this.#calls
    if (calls === null) return false
    return this.acceptingSlots.some(slot => this.#listeners.some(listener => calls.hasQueued(descriptorOf(this.#layout, listener.index, slot, 0))))
  }
}
