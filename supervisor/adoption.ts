/**
 * Sockets that come back after the supervisor was killed: its workers have inherited all of them, and one worker of each
 * generation sends them over (SCM_RIGHTS) to a datagram socket that exists only for that. A socket is what its inode
 * says, so what the journal does not know is closed again.
 */
import { socketCount } from '../src/ipc/descriptor-layout.ts'
import type { SentDescriptors, ToWorker } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { DatagramInbox, SystemCalls } from '../src/ipc/system-calls.ts'
import type { Fleet } from './fleet.ts'
import type { JournalEntry } from './journal.ts'
import type { ListenerRecord, ListenerTable, SocketBinder } from './listener-table.ts'
import { Intent, WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'

/** Where workers send their sockets to. */
export interface HandoffInbox {
  readonly path: string
  /** @throws when it cannot be made. */
  open(): DatagramInbox
}

/** Sockets that came back, by what they are. */
export class ReturnedSockets {
  readonly #binder: SocketBinder
  readonly #byInode = new Map<string, number>()

  constructor(binder: SocketBinder) { this.#binder = binder }

  /** A second copy of what is here already is closed. */
  add(fd: number): void {
    const inode = this.#binder.inode(fd)
    if (this.#byInode.has(inode)) this.#binder.close(fd)
    else this.#byInode.set(inode, fd)
  }

  take(listener: ListenerRecord, index: number): number | null {
    const { inode } = listener.sockets[index]!
    const fd = this.#byInode.get(inode) ?? null
    this.#byInode.delete(inode)
    return fd
  }

  /** Those that were not taken. */
  close(): void {
    for (const fd of this.#byInode.values()) this.#binder.close(fd)
    this.#byInode.clear()
  }
}

/** Never rejects: what could not be had is missing. */
export async function collectDescriptors(
  fleet: Fleet, handoff: HandoffInbox, binder: SocketBinder, log: ProcessLog,
): Promise<ReturnedSockets> {
  const returned = new ReturnedSockets(binder)
  let inbox: DatagramInbox
  try {
    inbox = handoff.open()
  } catch (error) {
    log.warn('the sockets of the workers cannot be taken back', { error })
    return returned
  }
  try {
    const numbers = new Set([...fleet.workers()].map(worker => worker.generation))
    for (const number of numbers) {
      // One that drains has closed its copies; one that came later may have more of them.
      const holders = [...fleet.workers()].filter(one => one.generation === number && holdsSockets(one))
      holders.sort((one, other) => other.slotsHeld - one.slotsHeld)
      // Without these sockets only their holders can serve their queues: worth asking each holder twice, it may only be slow.
      for (const worker of [...holders, ...holders]) {
        try {
          const order: ToWorker = { tag: 'send-descriptors', path: handoff.path }
          const { layout } = await worker.link!.ask(order, fleet.options.ackTimeoutMs) as SentDescriptors
          const [received, expected] = [takeAll(inbox, returned), socketCount(layout)]
          if (received === expected) break
          log.warn(`worker ${worker.id} sent ${received} of ${expected} sockets`)
        } catch (error) {
          // It may have sent them all and only its word is late.
          takeAll(inbox, returned)
          log.warn(`worker ${worker.id} could not send its sockets`, { error })
        }
      }
    }
  } catch (error) {
    log.warn('not all sockets of the workers can be taken back', { error })
  } finally {
    inbox.close()
  }
  return returned
}

/**
 * Fills the table of a supervisor that adopts. A socket that did not come back gets another one bound beside it: the worker
 * that holds it does not answer, or its slot was the newest and had no worker yet. A listener of which no worker has any
 * socket is left out, and bound again later unless another program has taken its address.
 */
export function restoreSockets(
  table: ListenerTable, fleet: Fleet, { listeners, slots }: JournalEntry, returned: ReturnedSockets, calls: SystemCalls, log: ProcessLog,
): void {
  const found = new Map(listeners.map(listener => [listener.key, listener.sockets.map((_, index) => returned.take(listener, index))]))
  table.restore(listeners, slots, (listener, index) => {
    const fds = found.get(listener.key)!
    const fd = fds[index]!
    if (fd === null && listener.unixPath !== '' && fleet.holds(listener.canonical, index)) {
      log.warn(`the socket at ${listener.bound} did not come back; another one takes its path`)
      fleet.lost(listener.canonical, index)
      return 'beside'
    }
    if (fd !== null || listener.shared || !fds.some((other, slot) => other !== null || fleet.holds(listener.canonical, slot))) return fd
    if (fleet.holds(listener.canonical, index)) {
      log.warn(`the socket of slot ${index} at ${listener.bound} did not come back; another one is bound beside it`)
    }
    fleet.lost(listener.canonical, index)
    return 'beside'
  }, calls.listen)
}

/** @returns how many sockets came. */
function takeAll(inbox: DatagramInbox, returned: ReturnedSockets): number {
  let received = 0
  for (let message = inbox.receive(); message !== null; message = inbox.receive()) {
    received += message.descriptors.length
    for (const fd of message.descriptors) returned.add(fd)
  }
  return received
}

function holdsSockets(worker: WorkerProcess): boolean {
  return worker.alive && worker.link !== null && worker.state !== WorkerState.Draining && worker.intent !== Intent.Dissolve
}
