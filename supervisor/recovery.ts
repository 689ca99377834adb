/**
 * Workers that an earlier supervisor left: what the journal says of them is where we begin, what they say themselves
 * decides, and what comes of both is settled once.
 *
 *   restore (Restored) --> awaitWorkers: they say hello, or die, or stay silent
 *                            --> lost, for each socket that no worker gave back --> settle (Running)
 *
 * After that two things may be left to do, looked at in every tick: workers that alone hold some sockets end together
 * (`dissolve`), and a worker that has too few sockets is replaced (`widen`).
 */
import { ChannelError } from '../src/ipc/channel.ts'
import type { ToWorker } from '../src/ipc/messages.ts'
import type { WorkerPhase } from '../src/ipc/worker-phase.ts'
import { goneListeners } from './generation.ts'
import type { Retirement } from './retirement.ts'
import type { FleetRecord, Roster } from './roster.ts'
import type { StandIns } from './stand-ins.ts'
import type { WorkerOrders } from './worker-orders.ts'
import { Contact, Intent, WorkerProcess, WorkerState } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'
import type { WorkerStarts } from './worker-starts.ts'

/** How well a worker can empty queues that no other worker has: the more it does already, the better. */
const SUITABILITY: Readonly<Record<WorkerState, number>> = {
  [WorkerState.Gone]: 0,
  [WorkerState.Draining]: 0,
  [WorkerState.Starting]: 1,
  [WorkerState.Ready]: 2,
  [WorkerState.Paused]: 3,
  [WorkerState.PausedInPart]: 3,
  [WorkerState.Accepting]: 4,
}

export class Recovery {
  /**
   * Workers of a generation that is not committed were restored, and no operation runs: the one that went back did not
   * finish, so `revert` is to be called.
   */
  unfinished = false
  readonly #roster: Roster
  readonly #orders: WorkerOrders
  readonly #standIns: StandIns
  readonly #retirement: Retirement
  readonly #starts: WorkerStarts
  /** Called whenever a worker is not awaited any more. */
  #onHeard: () => void = () => {}
  #dissolving = false
  /** When a worker with too few sockets is replaced again. */
  #widenAtMs = 0

  constructor(roster: Roster, orders: WorkerOrders, standIns: StandIns, retirement: Retirement, starts: WorkerStarts) {
    this.#roster = roster
    this.#orders = orders
    this.#standIns = standIns
    this.#retirement = retirement
    this.#starts = starts
  }

  /** Puts the workers of the journal into their places. @param ageShiftMs what to take from the wall clock to get to ours. */
  restore(record: FleetRecord, ageShiftMs: number): void {
    this.#starts.skip()
    for (const [index, kept] of record.slots.entries()) {
      const slot = this.#roster.slots[index]!
      for (const known of kept.workers) {
        const worker = WorkerProcess.restore(known, ageShiftMs, this.#roster.host.nowMs())
        if (known.place === 'draining') slot.draining.add(worker)
        else slot[known.place] = worker
        this.#starts.watchAdopted(worker)
      }
    }
  }

  /** Resolves when every restored worker has said hello or is gone, or after `timeoutMs`. @returns how many did neither. */
  awaitWorkers(timeoutMs: number): Promise<number> {
    const awaited = (): number => [...this.#roster.workers()].filter(worker => worker.contact === Contact.Awaited && worker.alive).length
    const { promise, resolve } = Promise.withResolvers<number>()
    const finish = (): void => {
      cancel()
      this.#onHeard = () => {}
      resolve(awaited())
    }
    const cancel = this.#roster.host.after(timeoutMs, finish)
    this.#onHeard = () => { if (awaited() === 0) finish() }
    this.#onHeard()
    return promise
  }

  /** A worker has said hello with another phase than we knew. */
  cameBack(worker: WorkerProcess, phase: WorkerPhase): void {
    worker.cameBack(phase, this.#roster.host.nowMs())
    this.#onHeard()
    if (this.#roster.settled) this.#settleWorker(worker)
  }

  /** A worker is gone before `settle`: no hello of it is awaited any more. */
  goneBeforeSettled(): void { this.#onHeard() }

  /** Whether a restored worker may still hold a socket: its own descriptor of it, whatever became of ours. */
  holds(canonical: string, index: number): boolean {
    for (const worker of this.#roster.workers()) if (this.#mayHold(worker, canonical, index)) return true
    return false
  }

  /** A socket did not come back, and another one was bound beside it: its holders are replaced, and end when its queue is empty. */
  lost(canonical: string, index: number): void {
    for (const worker of this.#roster.workers()) if (this.#mayHold(worker, canonical, index)) worker.intend(Intent.Dissolve)
  }

  /**
   * Goes on with restored workers.
   * @param running an operation is still to be committed or reverted: its workers are left where they are.
   */
  settle(running: boolean): void {
    const roster = this.#roster
    roster.settle()
    for (const worker of [...roster.workers()]) if (worker.intent === Intent.Dissolve) roster.slotOf(worker).displace(worker)
    // Also a worker that never says hello.
    for (const worker of roster.workers()) if (worker.alive && worker.state === WorkerState.Starting) this.#starts.watchStart(worker)
    this.unfinished = !running && roster.slots.some(slot => this.#hasForeigner(slot))
    const trial = running || this.unfinished
    for (const slot of roster.slots) {
      if (!trial) this.#endReplacement(slot)
      for (const worker of slot.workers()) this.#settleWorker(worker)
      if (slot.vacant && !slot.surplus && !trial) this.#starts.restartLater(slot)
    }
    roster.forgetGenerations()
    this.#standIns.reconcile()
    roster.setup.onChange()
  }

  /**
   * Workers that alone hold some sockets end together: as long as one of them has a descriptor, the kernel queues
   * connections there. Each of them accepts from all of these queues, then empties and closes them; the sockets that were
   * bound beside have taken over by then.
   */
  async dissolve(): Promise<void> {
    const roster = this.#roster
    const holders = [...roster.workers()].filter(worker => {
      return worker.intent === Intent.Dissolve && worker.alive && worker.state !== WorkerState.Draining
    })
    if (holders.length === 0 || this.#dissolving || roster.stopping) return
    // A silent worker is waited for: it is heard of again, or killed. So is one that was told to drain and has not come back:
    // until it obeys it has its descriptors, and would be the last to hold the sockets.
    if (!holders.every(worker => roster.answers(worker))) return
    if (roster.workers().some(worker => worker.state === WorkerState.Draining && worker.contact === Contact.Awaited)) return
    if (!this.#othersAccept()) return
    this.#dissolving = true
    try {
      await this.#dissolveAll(holders)
    } finally {
      this.#dissolving = false
    }
  }

  /**
   * After a roll-back slot 0 may be served by a worker that has not the sockets of every slot with a queue: as soon as one
   * comes up that has them, it replaces that worker. @param restart replaces the worker of a slot.
   */
  widen(restart: (slot: WorkerSlot) => Promise<unknown>): void {
    const roster = this.#roster
    const [slot] = roster.slots
    const nowMs = roster.host.nowMs()
    if (roster.stopping || roster.operationName !== '' || slot?.current?.state !== WorkerState.Accepting) return
    if (slot.current.slotsHeld >= roster.reach() || nowMs < this.#widenAtMs) return
    this.#widenAtMs = nowMs + this.#starts.backOffMs(slot)
    restart(slot).catch((error: unknown) => roster.log.warn(`slot ${slot.index} needs a worker with more sockets`, { error }))
  }

  /** Where there is a queue a worker accepts; where no slot has a socket of its own, one worker is enough. */
  #othersAccept(): boolean {
    const roster = this.#roster
    if (!roster.hasOwnSockets()) return roster.slots.some(({ current }) => roster.serves(current))
    return roster.slots.every(slot => !slot.hasQueue || this.#standIns.served(slot))
  }

  #mayHold(worker: WorkerProcess, canonical: string, index: number): boolean {
    if (!worker.alive || worker.state === WorkerState.Draining || index >= worker.slotsHeld) return false
    return this.#roster.generationOf(worker).description.listeners.some(listener => listener.canonical === canonical)
  }

  /** A worker that is not on its way out belongs to a generation that is not committed. */
  #hasForeigner({ current, incoming, previous }: WorkerSlot): boolean {
    const committed = this.#roster.generation.number
    return [current, incoming, previous].some(worker => worker !== null && worker.alive && worker.generation !== committed)
  }

  /** The replacement of a worker was under way, and the supervisor that wanted it is gone. */
  #endReplacement(slot: WorkerSlot): void {
    if (slot.previous !== null) slot.displace(slot.previous)
    const { incoming, current } = slot
    if (incoming === null) return
    if (incoming.state === WorkerState.Accepting) {
      slot.current = incoming
      slot.incoming = null
      if (current !== null) this.#retirement.retire(slot, current)
    } else if (incoming.contact === Contact.Awaited) {
      // What it does, and holds, it says when it is back.
      slot.displace(incoming)
    } else if (current !== null && incoming.unused) {
      this.#orders.kill(incoming, 'SIGKILL')
    }
    // Otherwise it was told to accept as soon as it was back, and takes its place with its answer.
  }

  #settleWorker(worker: WorkerProcess): void {
    const slot = this.#roster.slotOf(worker)
    const leaving = slot.draining.has(worker)
    if (!worker.alive || worker.contact === Contact.Awaited || worker.intent === Intent.Dissolve) return
    if (worker.state === WorkerState.Starting) {
      // One that leaves does so before it held anything.
      if (leaving) this.#orders.kill(worker, 'SIGKILL')
      else this.#starts.watchStart(worker)
    } else if (leaving) {
      this.#sendAway(worker)
    } else if (worker === slot.spare && worker.state !== WorkerState.Ready && worker.state !== WorkerState.Draining) {
      this.#endTakeOver(slot, worker)
    } else if (worker === slot.current && worker.paused) {
      void this.#resume(slot, worker)
    } else if (worker.state === WorkerState.Draining) {
      // It gave up waiting for a supervisor.
      slot.displace(worker)
      worker.intend(Intent.Retire)
      if (slot.current === null && !slot.surplus) this.#starts.restartLater(slot)
    }
    this.#retirement.limitDraining(slot)
  }

  /** A spare was told to accept when the supervisor ended. */
  #endTakeOver(slot: WorkerSlot, spare: WorkerProcess): void {
    slot.displace(spare)
    if (slot.current !== null) {
      this.#sendAway(spare)
      return
    }
    slot.draining.delete(spare)
    slot.current = spare
    slot.endBackOff()
    spare.intend(Intent.Serve)
    if (spare.paused) void this.#resume(slot, spare)
  }

  /** One that cannot makes room for another. */
  async #resume(slot: WorkerSlot, worker: WorkerProcess): Promise<void> {
    if (await this.#retirement.resume(worker) || !worker.alive || worker.fatalSignal !== null || slot.current !== worker) return
    slot.displace(worker)
    this.#retirement.retire(slot, worker)
    if (slot.vacant && !slot.surplus) this.#starts.restartLater(slot)
  }

  /** It was on its way out when the supervisor ended: it goes on from where it is. */
  #sendAway(worker: WorkerProcess): void {
    if (worker.state === WorkerState.Draining && worker.drainEndsAtMs !== null) this.#retirement.guardDrain(worker)
    else if (worker.acceptsSomewhere) void this.#retirement.stopThenDrain(worker)
    else this.#retirement.drain(worker)
  }

  /** From all queues of sockets that it has, whatever its slot. */
  async #acceptEverywhere(worker: WorkerProcess): Promise<void> {
    const roster = this.#roster
    const queues = roster.slots.filter(slot => slot.hasQueue && slot.index !== worker.slot && slot.index < worker.slotsHeld)
    // A listener that nobody wants any more is shut: listening there would fail, and nothing waits in its queue.
    const except = goneListeners(roster.generationOf(worker), roster.generation)
    const orders: ToWorker[] = [
      { tag: 'accept', except }, ...queues.map(slot => ({ tag: 'stand-in' as const, slot: slot.index, except })),
    ]
    await Promise.all(orders.map(order => worker.link!.ask(order, roster.options.ackTimeoutMs)))
  }

  async #dissolveAll(holders: WorkerProcess[]): Promise<void> {
    const roster = this.#roster
    const last = holders.sort((a, b) => b.slotsHeld - a.slotsHeld || SUITABILITY[b.state] - SUITABILITY[a.state])[0]!
    const emptyThenDrain = (worker: WorkerProcess): Promise<void> => this.#retirement.emptyThenDrain(roster.slotOf(worker), worker)
    // Sockets may have been lost more than once, and then the last one has not those that others hold.
    const able = holders.filter(worker => worker === last || worker.state !== WorkerState.Starting)
    const asked = await Promise.allSettled(able.map(worker => this.#acceptEverywhere(worker)))
    for (const outcome of asked) {
      if (outcome.status === 'fulfilled') continue
      const error: unknown = outcome.reason
      // Out of reach for the moment: the next tick tries again, with the holders that are left.
      if (!(error instanceof ChannelError) || error.code === 'closed' || error.code === 'timeout') return
      // It has closed them already, or cannot be helped: the others go on without it.
    }
    await Promise.all(holders.map(worker => worker === last ? null : emptyThenDrain(worker)))
    await emptyThenDrain(last)
  }
}
