/**
 * Siblings that accept for slots whose own worker does not: asked when one is needed, sent back when it is not.
 *
 * It follows from state, not from events: `reconcile` compares what is with what should be, after whatever has happened
 * and at every tick. An order may be lost, or obeyed without our hearing of it; the slot then has strays, and all siblings
 * are sent back as soon as one worker is known to serve.
 *
 * Invariant: before a worker stops accepting, `othersServe` has found another one for each slot that it serves.
 */
import type { Roster } from './roster.ts'
import { StandInState } from './stand-in.ts'
import { Intent, WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'

/** So many siblings are asked to stand in before a worker that did so stops nevertheless. */
const ATTEMPTS = 3

export class StandIns {
  readonly #roster: Roster

  constructor(roster: Roster) { this.#roster = roster }

  /** Gives every slot that has a queue a worker that accepts, and sends stand-ins back once they are not needed. */
  reconcile(): void {
    const roster = this.#roster
    if (roster.stopping || !roster.settled || !roster.hasOwnSockets()) return
    for (const slot of roster.slots) {
      const { standIn } = slot
      if (standIn.worker !== null && !this.#able(standIn.worker)) this.#sendBack(slot)
      if (roster.serves(slot.current)) {
        this.#sendBack(slot)
        this.#sendStraysBack(slot)
      } else if (slot.hasQueue && standIn.worker === null) {
        void this.find(slot)
      } else if (this.#standInServes(slot)) {
        this.#sendStraysBack(slot)
      }
    }
  }

  /**
   * One that was told to accept for its own slot is told to do so for all others at the same time, when nobody serves: what
   * waits in their queues does not wait for its answer as well. It obeys one order after the other; if it does not obey the
   * first, it is killed.
   */
  askAhead(worker: WorkerProcess): void {
    const roster = this.#roster
    if (roster.stopping || !roster.settled || !roster.hasOwnSockets() || worker.link === null) return
    if (roster.slots.some(slot => this.served(slot))) return
    for (const slot of roster.slots) {
      const { standIn, hasQueue, index } = slot
      const waits = hasQueue && index !== worker.slot && index < worker.slotsHeld && standIn.answer === null
      if (waits) void this.#askFor(slot, worker)
    }
  }

  /** @returns whether a sibling accepts for the slot now. */
  find(slot: WorkerSlot): Promise<boolean> {
    const { standIn } = slot
    if (standIn.answer !== null) return standIn.answer
    if (this.#standInServes(slot)) return Promise.resolve(true)
    const sibling = this.#leastBurdened(slot)
    return sibling === null ? Promise.resolve(false) : this.#askFor(slot, sibling)
  }

  #askFor(slot: WorkerSlot, sibling: WorkerProcess): Promise<boolean> {
    const { standIn } = slot
    return standIn.answer = this.#ask(slot, sibling).finally(() => {
      standIn.answer = null
      // It died of the question, or with the slot's own worker: the next one is asked now, and not at the next tick.
      if (!this.#roster.serves(sibling)) this.reconcile()
    })
  }

  /** A worker accepts here whom we can reach: the slot's own, or its stand-in. */
  served(slot: WorkerSlot): boolean { return this.#roster.serves(slot.current) || this.#standInServes(slot) }

  /**
   * Finds others for the worker's own slot, and for those where it stands in, before it stops.
   * @returns whether each of them is served.
   */
  async othersServe(worker: WorkerProcess): Promise<boolean> {
    const roster = this.#roster
    if (!roster.hasOwnSockets()) return roster.slots.some(({ current }) => current !== worker && roster.serves(current))
    const concerned = this.acceptedBy(worker)
    for (const { standIn } of concerned) if (standIn.worker === worker) standIn.dismiss()
    // The one that is being asked may be the worker itself.
    await Promise.all(concerned.map(({ standIn }) => standIn.answer))
    // A sibling may die of being asked, and one that served a moment ago may have died as well.
    for (let attempt = 1; attempt <= ATTEMPTS && !concerned.every(slot => this.served(slot)); attempt++) {
      await Promise.all(concerned.map(slot => this.served(slot) || this.find(slot)))
    }
    this.reconcile()
    return concerned.every(slot => this.served(slot))
  }

  /** Slots in which a worker accepts or may do so: its own, and those where it stands in. */
  acceptedBy(worker: WorkerProcess): WorkerSlot[] {
    return this.#roster.slots.filter(slot => slot.hasQueue && this.#mayAccept(worker, slot))
  }

  /** A worker has ended, and stands in nowhere any more. */
  forget(worker: WorkerProcess): void {
    for (const { standIn } of this.#roster.slots) if (standIn.worker === worker) standIn.dismiss()
  }

  /**
   * It may also be the one that accepts where another sibling has only been asked, or where no worker is known to: it stood
   * in there, and was to be replaced by a sibling that could not be found.
   */
  #mayAccept(worker: WorkerProcess, slot: WorkerSlot): boolean {
    const { index, standIn } = slot
    if (index === worker.slot || standIn.worker === worker || standIn.answer !== null) return true
    return index < worker.slotsHeld && !this.served(slot)
  }

  /** It accepts, or was told to ahead of its answer. */
  #able(worker: WorkerProcess): boolean {
    return (worker.state === WorkerState.Accepting || worker.state === WorkerState.Ready) && !this.#roster.isSilent(worker)
  }

  #standInServes({ standIn }: WorkerSlot): boolean { return standIn.state === StandInState.Serving && this.#roster.serves(standIn.worker) }

  #leastBurdened(slot: WorkerSlot): WorkerProcess | null {
    const roster = this.#roster
    const burden = (worker: WorkerProcess): number => roster.slots.filter(({ standIn }) => standIn.worker === worker).length
    const siblings = roster.slots.flatMap(({ current }) => {
      const able = roster.serves(current) && current.slot !== slot.index && slot.index < current.slotsHeld
      return able ? [current] : []
    })
    return siblings.sort((a, b) => burden(a) - burden(b))[0] ?? null
  }

  async #ask(slot: WorkerSlot, sibling: WorkerProcess): Promise<boolean> {
    const { log, options, setup } = this.#roster
    const { standIn } = slot
    standIn.ask(sibling)
    setup.onChange()
    try {
      await sibling.link!.ask({ tag: 'stand-in', slot: slot.index }, options.ackTimeoutMs)
      log.info(`worker ${sibling.id} accepts for slot ${slot.index} as well`)
      if (standIn.obeyed()) this.#sendStraysBack(slot)
      return true
    } catch (error) {
      // The next tick looks for another one. This one may have obeyed all the same.
      standIn.refused()
      standIn.strays = true
      log.warn(`worker ${sibling.id} could not stand in for slot ${slot.index}`, { error })
      return false
    }
  }

  #sendBack(slot: WorkerSlot): void {
    slot.standIn.worker?.link?.send({ tag: 'step-back', slot: slot.index })
    slot.standIn.dismiss()
  }

  /** Siblings that may accept for a slot without our knowing. */
  #sendStraysBack(slot: WorkerSlot): void {
    const { standIn } = slot
    if (!standIn.strays) return
    standIn.strays = false
    for (const worker of this.#roster.workers()) {
      // One that is to dissolve holds sockets that no other worker has.
      const needed = worker.slot === slot.index || worker === standIn.worker || worker.intent === Intent.Dissolve
      if (!needed) worker.link?.send({ tag: 'step-back', slot: slot.index })
    }
  }
}
