/**
 * The listening sockets that a worker inherited, and the acceptors on copies of them.
 *
 * Every worker inherits the sockets of all slots. It listens on a copy, because closing an acceptor closes its
 * descriptor for good, and pausing, resuming and standing in for a sibling need it again. With system calls a copy is a
 * `dup`; without them each socket was inherited several times and a copy is the next unused one. Without them it also
 * listens on several copies at once: an acceptor then takes one connection in each turn of the event loop.
 * Invariant: an inherited descriptor is closed here only if no acceptor took it (an acceptor closes its own).
 */
import { descriptorOf, FIRST_SOCKET_FD, socketCount } from '../src/ipc/descriptor-layout.ts'
import type { DescriptorLayout } from '../src/ipc/descriptor-layout.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import type { Acceptor } from '../src/listener/acceptor.ts'
import type { RunningListener } from '../src/server/service.ts'
import { backlogOf } from '../src/server/server.ts'
import { elapse, systemWorld } from './worker-world.ts'
import type { WorkerWorld } from './worker-world.ts'

/** The copies of a listening socket are used up; only a new worker has fresh ones. */
export class CopiesUsedUp extends Error {
  constructor(listener: string) {
    super(`the copies of the socket of '${listener}' are used up`)
    this.name = 'CopiesUsedUp'
  }
}

/** Less than the kernel takes in one message (SCM_MAX_FD is 253). */
const DESCRIPTORS_A_DATAGRAM = 200
/** The queue of a datagram socket holds about ten; a reader that makes no room for this long is gone, in ms. */
const SEND_LIMIT_MS = 1_000
const SEND_RETRY_MS = 5

/** Without system calls: how often a worker can listen on what it inherited: first, and after each pause. */
const TIMES_WITHOUT_CALLS = 3
/** Without system calls: how long an accept queue must bring nothing to be taken for empty, in ms. */
const QUIET_QUEUE_MS = 50

/**
 * Sends copy 0 of every inherited socket to the datagram socket at `path`, in the order of the layout. Each datagram
 * starts with the index of its first descriptor in that order, 4 bytes, little endian. Needs no application: the sockets
 * are there from the fork on, until they are `closed`.
 */
export async function sendInherited(
  layout: DescriptorLayout, calls: SystemCalls, path: string, closed: () => boolean, world: Pick<WorkerWorld, 'clock'> = systemWorld,
): Promise<void> {
  const count = socketCount(layout)
  const deadline = world.clock.exact() + SEND_LIMIT_MS
  for (let index = 0; index < count;) {
    if (closed()) throw new Error('the listening sockets were closed for good')
    const payload = Buffer.alloc(4)
    payload.writeUInt32LE(index)
    const first = FIRST_SOCKET_FD + index
    const descriptors = Array.from({ length: Math.min(DESCRIPTORS_A_DATAGRAM, count - index) }, (_, offset) => first + offset)
    try {
      calls.sendDatagram(path, payload, descriptors)
      index += descriptors.length
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || world.clock.exact() > deadline) throw error
      await elapse(world, SEND_RETRY_MS)
    }
  }
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
  readonly #world: WorkerWorld
  readonly #listeners: readonly InheritedListener[]
  /**
   * Acceptors by the slot they accept for. A slot for which nothing accepts has no entry. An entry that lacks some of the
   * listeners is a slot that `pause` left open on its exceptions.
   */
  readonly #acceptors = new Map<number, Map<InheritedListener, Acceptor[]>>()
  /** Without system calls: copies that an acceptor took, by the number of the first copy. */
  readonly #copiesTaken = new Map<number, number>()
  #closed = false

  /** Listeners that the supervisor did not bind are left out; `mismatch` names them. */
  constructor(layout: DescriptorLayout, slot: number, running: readonly RunningListener[], calls: SystemCalls | null, world = systemWorld) {
    this.#layout = layout
    this.#slot = slot
    this.#calls = calls
    this.#world = world
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

  /** Slots for which at least one listener accepts. */
  get acceptingSlots(): readonly number[] { return [...this.#acceptors.keys()] }
  get closed(): boolean { return this.#closed }

  /**
   * Accepts for the own slot, and on all listeners of slots that `pause` left open in part. Acceptors that listen are not
   * touched. @param except names of listeners that are left out. @throws CopiesUsedUp
   */
  async accept(except: readonly string[] = []): Promise<void> {
    for (const slot of new Set([this.#slot, ...this.acceptingSlots])) await this.#listenFor(slot, except)
  }

  /** Accepts for a sibling's slot as well. Shared sockets are ours anyway. @param except names of listeners that are left out. */
  standIn(slot: number, except: readonly string[] = []): Promise<void> {
    if (slot < 0 || slot >= this.#layout.slots) return Promise.reject(new Error(`there is no slot ${slot}`))
    return this.#listenFor(slot, except)
  }

  stepBack(slot: number): void { if (slot !== this.#slot) this.#stop(slot) }

  /** Stops accepting on everything but the listeners named in `except`; `accept` may follow. */
  pause(except: readonly string[] = []): void {
    for (const slot of this.acceptingSlots) this.#stop(slot, listener => !except.includes(listener.running.spec.name))
  }

  /**
   * Accepts until the queues that this worker serves are empty, at most for `emptyQueueMs`, then closes everything for good.
   * @param atLeastMs for handshakes that are under way.
   */
  async emptyAndClose(emptyQueueMs: number, atLeastMs = 0): Promise<void> {
    const { clock } = this.#world
    const deadline = clock.exact() + emptyQueueMs
    const waitMs = Math.min(emptyQueueMs, Math.max(atLeastMs, this.#calls === null ? QUIET_QUEUE_MS : 0))
    if (waitMs > 0) await elapse(this.#world, waitMs)
    // Each turn of the event loop accepts from every queue that has something.
    while (!this.#closed && clock.exact() < deadline && this.#hasQueued()) await this.#world.turn()
    this.closeForGood()
  }

  /** Stops accepting and closes every copy, the siblings' too: while any process holds one, dials hang instead of being refused. */
  closeForGood(): void {
    if (this.#closed) return
    this.#closed = true
    this.pause()
    for (let index = 0; index < this.#layout.listeners.length; index++) {
      const slots = this.#layout.listeners[index]!.shared ? 1 : this.#layout.slots
      for (let slot = 0; slot < slots; slot++) {
        const taken = this.#copiesTaken.get(descriptorOf(this.#layout, index, slot, 0)) ?? 0
        for (let copy = taken; copy < this.#layout.copies; copy++) this.#world.close(descriptorOf(this.#layout, index, slot, copy))
      }
    }
  }

  async #listenFor(slot: number, except: readonly string[]): Promise<void> {
    if (this.#closed) throw new Error('the listening sockets were closed for good')
    const accepting = this.#acceptors.get(slot)
    const missing = this.#listeners.filter(listener => {
      if (listener.shared && slot !== this.#slot) return false
      return accepting?.has(listener) !== true && !except.includes(listener.running.spec.name)
    })
    if (missing.length === 0) return
    const acceptors = accepting ?? new Map<InheritedListener, Acceptor[]>()
    this.#acceptors.set(slot, acceptors)
    try {
      for (const listener of missing) {
        const atOnce: Acceptor[] = []
        acceptors.set(listener, atOnce)
        for (let copies = this.#copiesAtOnce; copies > 0; copies--) {
          const acceptor = listener.running.createAcceptor()
          atOnce.push(acceptor)
          await this.#world.listen(acceptor, this.#copy(listener, slot), backlogOf(listener.running.spec))
        }
      }
    } catch (error) {
      this.#stop(slot, listener => missing.includes(listener))
      throw error
    }
  }

  #stop(slot: number, which: (listener: InheritedListener) => boolean = () => true): void {
    const acceptors = this.#acceptors.get(slot)
    if (acceptors === undefined) return
    for (const [listener, atOnce] of acceptors) {
      if (!which(listener)) continue
      acceptors.delete(listener)
      for (const acceptor of atOnce) this.#world.stopListening(acceptor)
    }
    if (acceptors.size === 0) this.#acceptors.delete(slot)
  }

  get #copiesAtOnce(): number { return this.#calls === null ? Math.max(1, Math.floor(this.#layout.copies / TIMES_WITHOUT_CALLS)) : 1 }

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
    // Only the queues that this worker accepts from: its turns do not empty any other.
    for (const [slot, acceptors] of this.#acceptors) {
      for (const { index } of acceptors.keys()) if (calls.hasQueued(descriptorOf(this.#layout, index, slot, 0))) return true
    }
    return false
  }
}
