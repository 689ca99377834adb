/**
 * How a worker stops accepting: for a while, able to resume (`pause`, `resume`), or for good (`retire`), after which it
 * finishes what it has (`drain`) and ends.
 *
 * Invariants: a worker stops accepting only after another one accepts where it did; a draining worker has a deadline of
 * its own, which this side guards; at most `maxDrainingGenerations` workers of a slot drain without being cut.
 */
import type { DrainOrder } from '../src/ipc/messages.ts'
import { cutOrder, DRAIN_GRACE_MS, retireOrder } from './drain-orders.ts'
import { goneListeners } from './generation.ts'
import { Refused } from './refusals.ts'
import type { Roster } from './roster.ts'
import type { StandIns } from './stand-ins.ts'
import type { WorkerOrders } from './worker-orders.ts'
import { Contact, Intent, WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'

export class Retirement {
  readonly #roster: Roster
  readonly #orders: WorkerOrders
  readonly #standIns: StandIns

  constructor(roster: Roster, orders: WorkerOrders, standIns: StandIns) {
    this.#roster = roster
    this.#orders = orders
    this.#standIns = standIns
  }

  /**
   * It stops accepting, able to resume: the slot's `previous` until the generation on trial is committed. On listeners that a
   * worker which accepts in its place does not have it goes on.
   * @throws Refused when no other worker could accept what it accepts
   */
  async pause(slot: WorkerSlot, old: WorkerProcess): Promise<void> {
    if (!old.alive) return
    if (old.coming || old.state === WorkerState.Draining) {
      if (slot.previous === old) slot.previous = null
      slot.draining.add(old)
      this.retire(slot, old)
      return
    }
    slot.previous = old
    if (old.state === WorkerState.Paused) return
    const successor = slot.current
    const accepted = this.#standIns.acceptedBy(old)
    const served = await this.#standIns.othersServe(old)
    // It goes on accepting, perhaps also where another one stands in for it by now.
    if (slot.current !== successor || !served) this.#roster.suspectStray(old)
    // The successor has ended meanwhile, and with it the step that this belongs to.
    if (slot.current !== successor) return
    if (!served && !this.#roster.stopping) throw new Refused(`no other worker could accept what worker ${old.id} accepts`)
    const except = this.#goneFor(old, accepted)
    const state = except.length > 0 ? WorkerState.PausedInPart : WorkerState.Paused
    if (!old.moveTo(state)) return
    const stopped = this.#orders.askOrKill(old, { tag: 'stop-accept', except })
    // When it came back meanwhile it said that it accepts.
    await this.#orders.inTime(old, stopped.then(obeyed => obeyed && old.moveTo(state)))
  }

  /** @returns whether it accepts again. */
  async resume(worker: WorkerProcess): Promise<boolean> {
    if (!await this.#orders.askOrKill(worker, { tag: 'accept' })) return false
    // It has been told to stop since.
    if (worker.intent === Intent.Retire) return false
    worker.markAccepting(this.#roster.host.nowMs())
    // Where it stood in before it stopped it may do so again.
    this.#roster.suspectStray(worker)
    this.#standIns.reconcile()
    return worker.state === WorkerState.Accepting
  }

  /** A successor accepts, or none is wanted: the worker stops accepting, then finishes what it has. */
  retire(slot: WorkerSlot, old: WorkerProcess): void {
    if (!old.alive || !old.intend(Intent.Retire)) return
    slot.draining.add(old)
    // It cannot be told anything yet; recovery goes on with it when it says hello.
    if (old.contact === Contact.Awaited) return
    if (old.state === WorkerState.Paused) this.drain(old)
    else if (old.acceptsSomewhere) void this.stopThenDrain(old)
    else if (old.unused) this.#orders.kill(old, 'SIGKILL')
    // Its answer is on its way, or it will be killed for giving none.
    else if (old.coming) old.accepting.then(() => this.stopThenDrain(old), () => {})
  }

  /** The way out of a worker that still accepts. */
  async stopThenDrain(old: WorkerProcess): Promise<void> {
    // Until another worker accepts in its place, it accepts. One that hangs is not told, since it would be killed for not obeying.
    while (this.#roster.isSilent(old) || !await this.#standIns.othersServe(old) || this.#lastOfListener(old)) {
      if (this.#roster.stopping || (old.state !== WorkerState.Accepting && !old.paused)) return
      await new Promise<void>(resolve => { this.#roster.host.after(this.#roster.options.heartbeatMs, resolve) })
    }
    if (this.#dissolves(old)) return
    if (!old.moveTo(WorkerState.Paused) && old.state !== WorkerState.Paused) return
    if (!await this.#orders.askOrKill(old, { tag: 'stop-accept' })) return
    // When it came back meanwhile it said that it accepts.
    const paused = old.moveTo(WorkerState.Paused) || old.state === WorkerState.Paused
    if (paused && !this.#dissolves(old)) this.drain(old)
  }

  /**
   * The worker answers what waits in its queues and lets go of every socket, then drains.
   * @param atLeastMs goes on accepting for so long, for handshakes that are under way.
   */
  async emptyThenDrain(slot: WorkerSlot, old: WorkerProcess, atLeastMs = 0): Promise<void> {
    const { emptyQueueMs, ackTimeoutMs } = this.#roster.options
    await this.#orders.askLongOrKill(old, { tag: 'close-listeners', emptyQueueMs, atLeastMs }, emptyQueueMs + ackTimeoutMs)
    if (slot.draining.has(old)) this.drain(old)
  }

  /** Sends the drain order, or a sharper one. The worker keeps its own deadline; this side only guards it. */
  drain(worker: WorkerProcess, order: DrainOrder = retireOrder(this.#roster.options.drain)): void {
    if (!worker.alive) return
    const nowMs = this.#roster.host.nowMs()
    const first = worker.moveTo(WorkerState.Draining)
    worker.drainingSinceMs ??= nowMs
    worker.drainEndsAtMs = Math.min(worker.drainEndsAtMs ?? Number.POSITIVE_INFINITY, nowMs + order.endAfterMs)
    worker.drainOrder = order
    const endAfterMs = Math.max(0, worker.drainEndsAtMs - nowMs)
    void this.#orders.askOrKill(worker, { tag: 'drain', order: { ...order, endAfterMs } })
    this.guardDrain(worker)
    if (first && order.mode === 'retire') this.limitDraining(this.#roster.slotOf(worker))
    this.#roster.setup.onChange()
  }

  /** It has stopped accepting by itself, drains, and ends within `endsInMs`. */
  endsByItself(worker: WorkerProcess, endsInMs: number): void {
    const nowMs = this.#roster.host.nowMs()
    worker.drainingSinceMs ??= nowMs
    worker.drainEndsAtMs = Math.min(worker.drainEndsAtMs ?? Number.POSITIVE_INFINITY, nowMs + endsInMs)
    this.guardDrain(worker)
    this.limitDraining(this.#roster.slotOf(worker))
  }

  /** A worker that outlives its own deadline is killed. */
  guardDrain(worker: WorkerProcess): void {
    const leftMs = Math.max(0, worker.drainEndsAtMs! - this.#roster.host.nowMs())
    worker.setTimer(this.#roster.host.after(leftMs + DRAIN_GRACE_MS, () => {
      this.#roster.log.warn(`worker ${worker.id} outlived its drain deadline and is killed`)
      this.#orders.kill(worker, 'SIGKILL')
    }))
  }

  /** The oldest gets its deadline now: long-lived connections must not pile up processes. */
  limitDraining(slot: WorkerSlot): void {
    const { drain } = this.#roster.options
    const max = drain.maxDrainingGenerations
    const cut = cutOrder(drain)
    const cutEndsAtMs = this.#roster.host.nowMs() + cut.endAfterMs
    // A worker that has not stopped accepting may still be the only one that accepts where it does.
    const retired = [...slot.draining].filter(worker => worker.state === WorkerState.Draining)
    for (const oldest of retired.slice(0, Math.max(0, retired.length - max))) {
      // It ends no later as it is.
      if (oldest.drainEndsAtMs !== null && oldest.drainEndsAtMs <= cutEndsAtMs) continue
      this.#roster.log.warn(`worker ${oldest.id} is cut: more than ${max} retired workers in slot ${slot.index}`)
      this.drain(oldest, cut)
    }
  }

  /** No other worker has its sockets, as was found meanwhile: recovery empties their queues before it drains. */
  #dissolves(worker: WorkerProcess): boolean { return worker.intent === Intent.Dissolve }

  /** Names of listeners of a worker that its heirs in these slots do not have. */
  #goneFor(worker: WorkerProcess, slots: readonly WorkerSlot[]): string[] {
    const roster = this.#roster
    const heirs = slots.map(({ current, standIn }) => roster.serves(current) ? current : standIn.worker ?? current)
    const generations = new Set(heirs.filter(heir => heir !== null).map(heir => roster.generationOf(heir)))
    const gone = [...generations].flatMap(generation => goneListeners(roster.generationOf(worker), generation))
    return [...new Set(gone)]
  }

  /**
   * Where the worker accepts, in its slot or where it stands in, its heir is of a generation on trial that has not all of
   * its listeners. Until the commit dials to the others have only this worker.
   */
  #lastOfListener(worker: WorkerProcess): boolean {
    const roster = this.#roster
    return roster.slots.some(({ index, hasQueue, current, standIn }) => {
      const accepts = index === worker.slot || worker.state === WorkerState.PausedInPart
      if (!hasQueue || !accepts) return false
      const heir = roster.serves(current) ? current : standIn.worker
      // It has only been asked yet.
      if (standIn.pending && heir === standIn.worker) return true
      if (heir === null || heir.generation === roster.generation.number) return false
      return goneListeners(roster.generationOf(worker), roster.generationOf(heir)).length > 0
    })
  }
}
