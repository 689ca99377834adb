/**
 * Spares: workers that are ready and do not accept, beside the worker that serves a slot. A spare takes that worker's place
 * when it is gone, or when it hangs and no other worker serves.
 *
 *   none --kept (`spareWorkers`), or nobody serves--> starting --ready--> waiting --needed--> the slot's worker
 *                                                                            +--needed no more, or of another release--> retired
 *
 * While it waits it is given the self-test, once: what clients would wait for in the first request of a process (code that is
 * read and compiled, the watch over its event loop) is done by then, and a spare that would answer wrongly is told of before it
 * is needed. It is used nevertheless, since there is none better.
 *
 * Most fleets keep none, and one is started when it is needed: when all workers hang (`silent`), or the last one does. The one
 * that hangs may be in the middle of something: it keeps what it holds until it is heard of again, and is retired then, or
 * until its silence ends it.
 *
 * It follows from state: `reconcile` compares what is with what should be, after whatever has happened and at every tick.
 * Invariant: while no worker serves or comes up, a spare is forked, or a slot's restart is due within 200 ms (`hurry`).
 */
import { lastRestartDelayMs, restartDelayMs } from './restart-policy.ts'
import type { Retirement } from './retirement.ts'
import type { Roster } from './roster.ts'
import { Intent, WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'
import { StartState } from './worker-starts.ts'
import type { WorkerOrders } from './worker-orders.ts'
import { messageOf } from './worker-orders.ts'
import type { WorkerStarts } from './worker-starts.ts'

/** After a spare was used the next one is started so much later, in ms: until then the machine is needed by those who serve for it. */
const NEXT_SPARE_MS = 1_000

export class Spares {
  readonly #roster: Roster
  readonly #orders: WorkerOrders
  readonly #retirement: Retirement
  readonly #starts: WorkerStarts
  /** Of a look that does not wait for the next tick. */
  #cancelLook: () => void = () => {}

  constructor(roster: Roster, orders: WorkerOrders, retirement: Retirement, starts: WorkerStarts) {
    this.#roster = roster
    this.#orders = orders
    this.#retirement = retirement
    this.#starts = starts
  }

  reconcile(): void {
    const roster = this.#roster
    if (roster.stopping || !roster.settled || this.#starts.frozen) return
    for (const slot of roster.slots) if (slot.spare !== null) this.#look(slot, slot.spare)
    this.#starts.hurry()
    if (!roster.someoneServes()) this.#forkBesideOneThatHangs()
    this.#keep()
  }

  /** A spare has ended that nobody asked to. */
  onGone(slot: WorkerSlot, reason: string): void {
    const { host, log, options } = this.#roster
    slot.spareDeaths.push({ acceptingSinceMs: null, diedAtMs: host.nowMs() })
    slot.spareAtMs = host.nowMs() + restartDelayMs(slot.spareDeaths, options.restart, host.random())
    log.error(`the spare worker of slot ${slot.index} died: ${reason}`)
    this.reconcile()
  }

  /** The one that waits ends; the next one is forked when nothing else is under way. @returns it; null: there is none. */
  retire(slot: WorkerSlot): WorkerProcess | null {
    const { spare } = slot
    if (spare === null) return null
    slot.displace(spare)
    this.#retirement.retire(slot, spare)
    return spare
  }

  #look(slot: WorkerSlot, spare: WorkerProcess): void {
    if (spare.fatalSignal !== null) return
    if (!this.#needed(slot)) {
      if (!this.#wanted(slot, spare)) this.retire(slot)
      else if (spare.state === WorkerState.Ready && !spare.tested && this.#roster.answers(spare)) this.#test(slot, spare)
    } else if (spare.state === WorkerState.Ready && this.#roster.answers(spare)) {
      this.#takesOver(slot, spare)
    } else if (spare.state === WorkerState.Ready && this.#stuck(spare)) {
      // It hangs as well, and holds nothing: another one is started.
      this.retire(slot)
    }
  }

  #test(slot: WorkerSlot, spare: WorkerProcess): void {
    spare.tested = true
    this.#orders.selfTest(spare).catch((error: unknown) => {
      // Otherwise it was used or ended meanwhile, and its own end says why.
      if (slot.spare !== spare || !spare.alive) return
      this.#roster.log.warn(`the spare worker of slot ${slot.index} may not serve as it should`, { reason: messageOf(error) })
    })
  }

  /** Where a `previous` worker lives, an upgrade is under way, and that worker takes its place back. */
  #needed({ current, previous, surplus }: WorkerSlot): boolean {
    if (previous !== null || surplus) return false
    return current === null || (this.#stuck(current) && !this.#roster.someoneServes())
  }

  /** It is one of those that are kept. */
  #wanted(slot: WorkerSlot, spare: WorkerProcess): boolean {
    const { options, generation } = this.#roster
    const current = spare.generation === generation.number && spare.slotsHeld >= generation.layout.slots
    return current && slot.index < options.spareWorkers && slot.index < generation.workers
  }

  #stuck(worker: WorkerProcess): boolean { return worker.fatalSignal !== null || this.#roster.isSilent(worker) }

  #takesOver(slot: WorkerSlot, spare: WorkerProcess): void {
    const old = slot.current
    slot.endBackOff()
    slot.spare = null
    slot.spareDeaths = []
    slot.spareAtMs = this.#roster.host.nowMs() + NEXT_SPARE_MS
    slot.current = spare
    spare.intend(Intent.Serve)
    this.#roster.log.warn(`spare worker ${spare.id} takes over slot ${slot.index}`, { instead: old?.id ?? 'one that is gone' })
    this.#starts.letAccept(spare)
    if (old !== null) this.#retirement.retire(slot, old)
    this.#roster.setup.onChange()
  }

  #forkBesideOneThatHangs(): void {
    const { slots, host, options, log } = this.#roster
    // It is on its way, or a slot without a worker is about to get one.
    if (slots.some(slot => slot.backingOff || (slot.spare !== null && slot.spare.fatalSignal === null))) return
    const slot = slots.find(({ current, incoming, previous, surplus, spare }) => {
      // When the slot's own worker has died while it was being replaced, its replacement is all there is.
      const last = current ?? incoming
      return last !== null && this.#stuck(last) && previous === null && !surplus && (spare === null || spare.fatalSignal !== null)
    })
    if (slot === undefined) return
    const lastMs = slot.spareDeaths.at(-1)?.diedAtMs ?? Number.NEGATIVE_INFINITY
    const waitMs = lastMs + lastRestartDelayMs(slot.spareDeaths, options.restart) - host.nowMs()
    if (waitMs > 0) {
      this.#cancelLook()
      this.#cancelLook = host.after(waitMs, () => this.reconcile())
      return
    }
    // A spare that is being killed holds nothing, and its end is not waited for.
    this.retire(slot)
    log.warn(`no worker serves: a spare is started for slot ${slot.index}`, { silent: (slot.current ?? slot.incoming)!.id })
    this.#fork(slot)
  }

  #keep(): void {
    const { slots, options, generation, operationName, host } = this.#roster
    if (options.spareWorkers === 0 || this.#starts.state !== StartState.Complete || operationName !== '') return
    for (const slot of slots.slice(0, Math.min(options.spareWorkers, generation.workers))) {
      const served = slot.current !== null && slot.current.state === WorkerState.Accepting
      if (served && slot.spare === null && !slot.held && host.nowMs() >= slot.spareAtMs) this.#fork(slot)
    }
  }

  #fork(slot: WorkerSlot): void {
    const { generation, host, log, options } = this.#roster
    try {
      slot.spare = this.#starts.fork(slot, generation, Intent.Trial)
    } catch (error) {
      // One of its sockets is gone.
      slot.spareDeaths.push({ acceptingSinceMs: null, diedAtMs: host.nowMs() })
      slot.spareAtMs = host.nowMs() + restartDelayMs(slot.spareDeaths, options.restart, host.random())
      log.error(`slot ${slot.index} cannot be given a spare worker`, { error })
    }
  }
}
