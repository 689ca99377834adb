/**
 * The single steps from one generation to the next, and back. Which generation comes next, and whether it may stay, is
 * decided in upgrade.ts:
 *
 *   expect --> introduce, take over (slot by slot), vacate (slots that are not wanted any more) --> commit
 *                 |                                                                       |
 *                 +-----------------------------------------------------------------------+--> revert
 *
 * Invariants: an old worker stops accepting only after its replacement accepts; until `commit` it can take its place back;
 * a slot whose worker goes back is served all the way.
 */
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { goneListeners } from './generation.ts'
import type { Generation } from './generation.ts'
import { Refused } from './refusals.ts'
import type { Retirement } from './retirement.ts'
import type { Roster } from './roster.ts'
import type { Spares } from './spares.ts'
import type { StandIns } from './stand-ins.ts'
import type { WorkerOrders } from './worker-orders.ts'
import { Intent, WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'
import type { WorkerStarts } from './worker-starts.ts'

/** Dials to a listener that goes are held off; handshakes that were under way then have ended after so long. */
const HANDSHAKE_MS = 300

export class GenerationChange {
  readonly #roster: Roster
  readonly #orders: WorkerOrders
  readonly #standIns: StandIns
  readonly #retirement: Retirement
  readonly #starts: WorkerStarts
  readonly #spares: Spares

  constructor(
    roster: Roster, orders: WorkerOrders, standIns: StandIns, retirement: Retirement, starts: WorkerStarts, spares: Spares,
  ) {
    this.#roster = roster
    this.#orders = orders
    this.#standIns = standIns
    this.#retirement = retirement
    this.#starts = starts
    this.#spares = spares
  }

  /** Makes room for a generation's slots; nothing is started yet. */
  expect(generation: Generation, options: ResolvedSupervisorOptions): void {
    this.#roster.expect(generation, options)
    this.#roster.extend(generation.layout.slots)
  }

  /** Starts a worker beside the one that serves a slot, and lets it not accept yet. Resolves when it is ready. @throws Error */
  async introduce(slot: WorkerSlot, generation: Generation): Promise<WorkerProcess> {
    if (this.#roster.stopping) throw new Refused('the server is stopping')
    slot.hold()
    const incoming = this.#starts.fork(slot, generation, Intent.Trial)
    slot.incoming = incoming
    await incoming.ready
    return incoming
  }

  /**
   * The incoming worker of a slot accepts, then the one before it stops, able to resume.
   * @throws Refused, also when the new worker has ended before the old one has answered
   */
  async takeOver(slot: WorkerSlot): Promise<void> {
    const { incoming } = slot
    if (incoming === null) throw new Refused(`slot ${slot.index}: the new worker could not accept`)
    // Whether it obeys or not: it may have listened before it was given up.
    slot.hasQueue = true
    if (!await this.#accept(incoming)) {
      throw new Refused(`slot ${slot.index}: the new worker could not accept: ${await this.#orders.endOr(incoming, 'it did not answer')}`)
    }
    const old = slot.current
    slot.staff()
    slot.current = incoming
    slot.incoming = null
    this.#standIns.reconcile()
    if (old !== null) await this.#whileItLives(incoming, this.#retirement.pause(slot, old))
    this.#roster.setup.onChange()
  }

  /** The old worker may hang, and the new one end meanwhile: then there is nothing left to wait for, and a worker is needed. */
  async #whileItLives(incoming: WorkerProcess, step: Promise<void>): Promise<void> {
    const ended = incoming.lost.then(reason => { throw new Refused(`slot ${incoming.slot}: the new worker ended: ${reason}`) })
    await Promise.race([step, ended])
  }

  /**
   * The next generation has no worker for a slot: a sibling accepts here, then the slot's own worker stops, able to resume.
   * @throws Refused when no sibling could
   */
  async vacate(slot: WorkerSlot): Promise<void> {
    const old = slot.current
    slot.vacate()
    if (old === null) return
    slot.current = null
    slot.previous = old
    const orphaned = this.#roster.hasOwnSockets() && slot.hasQueue
    if (orphaned && !await this.#standIns.find(slot)) {
      slot.current = old
      slot.previous = null
      slot.staff()
      throw new Refused(`slot ${slot.index} is not needed any more, but no sibling could accept for it`)
    }
    await this.#retirement.pause(slot, old)
    this.#roster.setup.onChange()
  }

  /** The generation on trial is the one. Resolves when no worker holds a listener that it does not have any more. */
  async commit(generation: Generation): Promise<void> {
    const roster = this.#roster
    const listenersGo = goneListeners(roster.generation, generation).length > 0
    roster.commit(generation)
    const retired: Promise<unknown>[] = []
    for (const slot of roster.slots) {
      if (slot.index < generation.workers) slot.staff()
      else slot.vacate()
      const spare = this.#spares.retire(slot)
      if (spare !== null && listenersGo) retired.push(spare.gone)
      const old = slot.previous
      slot.previous = null
      if (old !== null && old.alive) {
        slot.draining.add(old)
        if (listenersGo) retired.push(this.#retirement.emptyThenDrain(slot, old, HANDSHAKE_MS))
        else this.#retirement.drain(old)
      }
      if (slot.vacant && !slot.surplus) this.#starts.restartLater(slot)
    }
    roster.forgetGenerations()
    this.#standIns.reconcile()
    roster.setup.onChange()
    await Promise.all(retired)
  }

  /** Back to a generation, whatever of another one has been started: first its workers accept again, then the others retire. */
  async revert(to: Generation): Promise<void> {
    const roster = this.#roster
    const wide = this.#widened(to)
    await Promise.all(roster.slots.map(slot => slot.index < wide.workers ? this.#revertSlot(slot, wide) : null))
    // Those that come back may have to stand in for these.
    await Promise.all(roster.slots.map(slot => slot.index < wide.workers ? null : this.#revertSurplus(slot)))
    roster.expectNone()
    this.#standIns.reconcile()
    // When a back-off began, those that have retired since served.
    this.#starts.hurry()
    roster.forgetGenerations()
    roster.setup.onChange()
  }

  async #accept(incoming: WorkerProcess): Promise<boolean> {
    if (!await this.#orders.askOrKill(incoming, { tag: 'accept' })) return false
    return incoming.markAccepting(this.#roster.host.nowMs()) && incoming.intend(Intent.Serve)
  }

  /**
   * A generation on trial that has more slots than its predecessor leaves queues in them that go on filling. From now on
   * the predecessor's workers get the sockets of these slots as well.
   */
  #widened(to: Generation): Generation {
    if (this.#roster.reach() <= to.layout.slots) return to
    const wide = { ...to, layout: { ...to.layout, slots: this.#roster.slots.length } }
    this.#roster.replaceGeneration(wide)
    return wide
  }

  async #revertSlot(slot: WorkerSlot, to: Generation): Promise<void> {
    const roster = this.#roster
    if (roster.stopping) return
    const places = livingIn(slot)
    let keep = places.find(worker => worker.generation === to.number && worker.state !== WorkerState.Draining) ?? null
    // One worker must hold the sockets of every slot that has a queue; this one does not, and is kept only if no other comes up.
    const narrow = keep !== null && slot.index === 0 && keep.slotsHeld < roster.reach() ? keep : null
    if (narrow !== null) keep = null
    const others = places.filter(worker => worker !== keep)
    slot.hold()
    // They hold nothing.
    for (const other of others) if (other.unused) this.#retirement.retire(slot, other)
    if (keep !== null && keep.paused && !await this.#resumesInTime(keep)) keep = null
    while (keep === null && !roster.stopping) {
      keep = await this.#forkAgain(slot, to) ?? this.#tookOver(slot, places)
      // While another worker accepts here there is time to try on. Without one, this is an ordinary restart.
      const accepting = others.filter(worker => worker.state === WorkerState.Accepting)
      if (keep !== null || accepting.length === 0) break
      await this.#whileTheyAccept(accepting, this.#starts.backOffMs(slot))
    }
    if (keep === null && narrow !== null && narrow.alive && await this.#retirement.resume(narrow)) keep = narrow
    slot.current = keep
    slot.previous = null
    slot.incoming = null
    slot.staff()
    for (const other of places) if (other !== keep) this.#retirement.retire(slot, other)
    if (slot.current === null) this.#starts.restartLater(slot)
  }

  /**
   * One that is late keeps what it holds, but not its place.
   * @returns false also when nothing was heard of it lately, or it has not answered within the time of an order.
   */
  #resumesInTime(worker: WorkerProcess): Promise<boolean> {
    if (worker.fatalSignal !== null || this.#roster.isSilent(worker)) return Promise.resolve(false)
    return this.#orders.inTime(worker, this.#retirement.resume(worker))
  }

  /** The worker that should come back has died: another one of its generation, beside the one that is to go. */
  async #forkAgain(slot: WorkerSlot, generation: Generation): Promise<WorkerProcess | null> {
    const worker = this.#starts.fork(slot, generation)
    if (slot.incoming !== null) slot.draining.add(slot.incoming)
    slot.incoming = worker
    try {
      await worker.accepting
      return worker
    } catch {
      // Its end is logged where it is seen; the caller decides what follows.
      return null
    }
  }

  /** Waits so long, and no longer than until one of them serves no more. */
  async #whileTheyAccept(workers: readonly WorkerProcess[], ms: number): Promise<void> {
    const over = Promise.withResolvers<void>()
    const cancel = this.#roster.host.after(ms, over.resolve)
    await Promise.race([over.promise, ...workers.map(worker => worker.lost)])
    cancel()
  }

  /** A spare that has taken the slot over meanwhile. */
  #tookOver({ current }: WorkerSlot, places: readonly WorkerProcess[]): WorkerProcess | null {
    return current === null || places.includes(current) ? null : current
  }

  /** The generation before had no worker for a slot: a sibling accepts here, then the slot's own workers retire. */
  async #revertSurplus(slot: WorkerSlot): Promise<void> {
    if (this.#roster.stopping) return
    const places = livingIn(slot)
    // In one place or another until it is gone.
    for (const worker of places) slot.draining.add(worker)
    slot.current = slot.previous = slot.incoming = null
    slot.vacate()
    if (slot.hasQueue && this.#roster.hasOwnSockets()) await this.#standIns.find(slot)
    for (const worker of places) this.#retirement.retire(slot, worker)
  }
}

/** Workers of a slot that are not on their way out; the oldest first. */
function livingIn({ previous, current, incoming }: WorkerSlot): WorkerProcess[] {
  return [previous, current, incoming].filter(worker => worker !== null).filter(worker => worker.alive)
}
