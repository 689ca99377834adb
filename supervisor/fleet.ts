/**
 * All workers, of whatever generation: replaced for an operator, watched in every tick, ended. The fleet is the door to
 * its rooms, which hold one idea each:
 *
 *   roster.ts             what all rooms know: slots, workers, generations, how far the fleet is
 *   worker-orders.ts      orders that a worker obeys or is killed for
 *   stand-ins.ts          siblings that accept where a slot's own worker does not
 *   retirement.ts         how a worker stops accepting: for a while, or for good
 *   worker-starts.ts      forks, the first start, restarts after deaths
 *   spares.ts             workers that wait to take the place of one that is gone or hangs
 *   generation-change.ts  the steps of an upgrade, and back; upgrade.ts decides
 *   recovery.ts           workers of an earlier supervisor
 *   worker-incidents.ts   which ends of workers somebody has to be told of
 *
 * Driven by four things only: orders, messages of workers, ends of processes, and its own tick. Touches the world through
 * ProcessHost and WorkerLink.
 *
 * Invariants: a slot that ever listened is served by its worker or, as soon as one can, by a sibling that stands in;
 * an old worker stops accepting only after its replacement accepts; until `commit` it can take its place back;
 * a slot is never given up in steady state.
 * One idea in more than 500 lines: what comes in from each side, and to which room it goes, is read side by side.
 */
import { timingSafeEqual } from 'node:crypto'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { DrainOrder, FromWorker } from '../src/ipc/messages.ts'
import type { OpenCounts } from '../src/ipc/open-counts.ts'
import { DRAIN_GRACE_MS, retireOrder, stopOrder } from './drain-orders.ts'
import { showSlots, totalsOf, type SlotStatus } from './fleet-status.ts'
import { GenerationChange } from './generation-change.ts'
import type { Generation } from './generation.ts'
import type { ExitReport } from './process-host.ts'
import { Recovery } from './recovery.ts'
import { Refused } from './refusals.ts'
import { Retirement } from './retirement.ts'
import { Roster } from './roster.ts'
import type { FleetRecord, FleetSetup } from './roster.ts'
import { Spares } from './spares.ts'
import { StandIns } from './stand-ins.ts'
import { messageOf, WorkerOrders } from './worker-orders.ts'
import { failureOf, WorkerIncidents } from './worker-incidents.ts'
import { Contact, Intent, WorkerState } from './worker-process.ts'
import type { WorkerLink, WorkerProcess } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'
import { StartState, WorkerStarts } from './worker-starts.ts'

/** A replacement that fails is tried this often before the operation is given up. */
const REPLACE_ATTEMPTS = 2

export interface RestartOutcome {
  /** Ids of the workers that serve now, in slot order. */
  readonly replaced: readonly { readonly slot: number; readonly from: string; readonly to: string }[]
}

export interface StopRequest {
  /** Caps everything, in ms. */
  readonly capMs: number
  /** All workers have closed their listening sockets: close the supervisor's. */
  readonly onListenersClosed: () => void
}

export class Fleet {
  readonly #roster: Roster
  readonly #orders: WorkerOrders
  readonly #standIns: StandIns
  readonly #retirement: Retirement
  readonly #starts: WorkerStarts
  readonly #spares: Spares
  readonly #change: GenerationChange
  readonly #recovery: Recovery
  readonly #incidents: WorkerIncidents
  /** The operation that runs; the next one waits for it. */
  #operation: Promise<unknown> = Promise.resolve()
  #cancelTick: (() => void) | null = null

  /** @param record what an earlier supervisor left; null: nothing. */
  constructor(setup: FleetSetup, record: FleetRecord | null = null) {
    const roster = new Roster(setup, record)
    const orders = new WorkerOrders(roster)
    const standIns = new StandIns(roster)
    const retirement = new Retirement(roster, orders, standIns)
    const starts = new WorkerStarts(roster, orders, standIns, retirement, (worker, report) => this.#onGone(worker, report))
    this.#roster = roster
    this.#incidents = new WorkerIncidents(roster)
    this.#orders = orders
    this.#standIns = standIns
    this.#retirement = retirement
    this.#starts = starts
    this.#spares = new Spares(roster, orders, retirement, starts)
    this.#change = new GenerationChange(roster, orders, standIns, retirement, starts, this.#spares)
    this.#recovery = new Recovery(roster, orders, standIns, retirement, starts)
  }

  /** The fleet of an earlier supervisor. Its workers are expected to say hello; `settle` then goes on with what they are. */
  static restore(setup: FleetSetup, record: FleetRecord, wallMs: number): Fleet {
    const fleet = new Fleet(setup, record)
    fleet.#recovery.restore(record, wallMs - setup.host.nowMs())
    return fleet
  }

  /** @param wallMs now, in ms since 1970. */
  record(wallMs: number): FleetRecord { return this.#roster.record(wallMs - this.#roster.host.nowMs()) }

  get slots(): readonly WorkerSlot[] { return this.#roster.slots }
  set slots(slots: readonly WorkerSlot[]) { this.#roster.slots = slots }
  /** Every slot that is wanted has accepted at least once. */
  get started(): boolean { return this.#starts.state === StartState.Complete }
  get stopping(): boolean { return this.#roster.stopping }
  /** What is being done for an operator; '' when nothing is. */
  get operationName(): string { return this.#roster.operationName }
  /** A worker accepts in at least one slot. */
  get accepting(): boolean { return this.slots.some(slot => slot.current?.state === WorkerState.Accepting) }
  /** The committed one. */
  get generation(): Generation { return this.#roster.generation }
  get options(): ResolvedSupervisorOptions { return this.#roster.options }
  /** How a worker that lost its supervisor drains. */
  get orphanDrain(): DrainOrder { return retireOrder(this.options.drain) }

  workers(): Generator<WorkerProcess> { return this.#roster.workers() }
  optionsOf(worker: WorkerProcess): ResolvedSupervisorOptions { return this.#roster.optionsOf(worker) }
  generationOf(worker: WorkerProcess): Generation { return this.#roster.generationOf(worker) }
  isSilent(worker: WorkerProcess): boolean { return this.#roster.isSilent(worker) }
  metricsFileOf(worker: WorkerProcess): string { return this.#roster.setup.ledger.fileOf(worker.id) }
  hangs(worker: WorkerProcess): boolean { return this.#roster.hangs(worker) }
  /** What is open now, and counters over all workers that ever were. */
  totals(): OpenCounts { return totalsOf(this.#roster) }
  status(): SlotStatus[] { return showSlots(this.#roster) }

  /** Resolves when every slot that is wanted accepts; rejects with StartFailed when no worker was ever ready. */
  start(): Promise<void> {
    this.#starts.forkAll()
    this.#tickLater()
    return this.#starts.started
  }

  // ---- what workers say

  /** A connection on the worker socket says who it is. @returns null when it is none of ours. */
  hello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink): WorkerProcess | null {
    const { phase } = hello
    const roster = this.#roster
    const worker = roster.find(hello.worker)
    if (worker === null || !sameSecret(worker.token, hello.token)) return null
    const awaited = worker.contact === Contact.Awaited
    worker.connect(link)
    worker.heartbeatMs = roster.optionsOf(worker).heartbeatMs
    // What it was told last may have been lost on the way.
    if (worker.state === WorkerState.Draining && roster.settled && (worker.drainOrder !== null || phase !== 'draining')) {
      this.#retirement.drain(worker, worker.drainOrder ?? undefined)
    }
    if (phase !== 'starting') roster.suspectStray(worker)
    // An earlier supervisor may have told it to listen, without the time to write that down.
    if (phase === 'accepting' || phase === 'paused') roster.slotOf(worker).hasQueue = true
    // It also comes back when it stopped accepting without our asking: as an orphan, or by an order of the supervisor before us.
    const stoppedByItself = worker.state === WorkerState.Accepting && (phase === 'paused' || phase === 'draining')
    // The order to accept was on its way when the supervisor before us ended, and done after the worker's first hello.
    const acceptsForAnother = worker.unused && phase === 'accepting'
    if (awaited || stoppedByItself || acceptsForAnother) this.#recovery.cameBack(worker, phase)
    return worker
  }

  linkLost(worker: WorkerProcess, link: WorkerLink): void { worker.disconnect(link) }

  onMessage(worker: WorkerProcess, message: FromWorker): void {
    if (!worker.alive) return
    switch (message.tag) {
      case 'ready':
        this.#starts.onReady(worker)
        this.#spares.reconcile()
        break
      case 'heartbeat': {
        const wasSilent = this.isSilent(worker)
        this.#orders.heard(worker, this.#roster.silenceMs(worker))
        worker.heartbeat = message
        worker.silentTicks = 0
        if (wasSilent) {
          this.#roster.log.info(`worker ${worker.id} is heard of again`)
          this.#standIns.reconcile()
        }
        if (message.open.exhausted > 0) this.#relieve(worker)
        break
      }
      case 'failed':
        worker.failure = failureOf(message)
        if (message.endsInMs !== undefined) this.#onFailing(worker, message.endsInMs)
        break
      case 'cannot-accept':
        this.#roster.log.warn(`worker ${worker.id} cannot accept any more and is replaced`, { reason: message.reason })
        this.#orders.kill(worker, 'SIGKILL')
        break
      case 'drained':
        worker.cut = message.cut
        break
      case 'fault':
        this.#incidents.said(worker, message.fault)
        break
      // Known to the control server only.
      case 'hello':
        break
      default:
        message satisfies never
    }
  }

  /** A worker holds all the memory that it may: another takes its place, and it finishes what it has. */
  #relieve(worker: WorkerProcess): void {
    if (worker.relieved || worker.state !== WorkerState.Accepting) return
    // One that was relieved before still holds what it held: with every further one there would be less memory, not more.
    if (this.slots[worker.slot]!.draining.size > 0) return
    worker.relieved = true
    this.#roster.log.warn(`worker ${worker.id} has spent its memory and is replaced`, { heldBytes: worker.open.heldBytes })
    this.restart(worker.id).catch((error: unknown) => {
      worker.relieved = false
      this.#roster.log.warn(`worker ${worker.id} could not be replaced`, { reason: error instanceof Error ? error.message : String(error) })
    })
  }

  // ---- operations, one at a time

  /**
   * Replaces workers one slot at a time on the same sockets, once no other operation runs.
   * @param which '' for all, a slot's number, or a worker's id.
   */
  restart(which: string): Promise<RestartOutcome> {
    const slots = this.#pick(which)
    return this.exclusive(which === '' ? 'restart of all workers' : `restart of worker ${which}`, async () => {
      const replaced: { slot: number; from: string; to: string }[] = []
      for (const slot of slots) {
        if (slot.surplus) continue
        const from = slot.current?.id ?? ''
        await this.#replace(slot)
        replaced.push({ slot: slot.index, from, to: slot.current?.id ?? '' })
      }
      return { replaced }
    })
  }

  /** Runs an operation when no other one runs. */
  exclusive<T>(name: string, operation: () => Promise<T>): Promise<T> {
    const run = async (): Promise<T> => {
      this.#setOperation(name)
      try {
        return await operation()
      } finally {
        this.#setOperation('')
      }
    }
    const outcome = this.#operation.then(run, run)
    this.#operation = outcome.catch(() => {})
    return outcome
  }

  /** See generation-change.ts for these. */
  expect(generation: Generation, options: ResolvedSupervisorOptions): void { this.#change.expect(generation, options) }
  introduce(slot: WorkerSlot, generation: Generation): Promise<WorkerProcess> { return this.#change.introduce(slot, generation) }
  selfTest(worker: WorkerProcess): Promise<string> { return this.#orders.selfTest(worker) }
  takeOver(slot: WorkerSlot): Promise<void> { return this.#change.takeOver(slot) }
  vacate(slot: WorkerSlot): Promise<void> { return this.#change.vacate(slot) }
  commit(generation: Generation): Promise<void> { return this.#change.commit(generation) }
  async revert(to: Generation): Promise<void> {
    this.#recovery.unfinished = false
    await this.#change.revert(to)
  }

  // ---- the supervisor is replaced, or follows another one

  /** No fork from now on; resolves when every worker runs our code and would outlive us. */
  freeze(): Promise<void> { return this.#starts.freeze() }
  thaw(): void { this.#starts.thaw() }

  /** See recovery.ts for these. */
  awaitWorkers(timeoutMs: number): Promise<number> { return this.#recovery.awaitWorkers(timeoutMs) }
  holds(canonical: string, index: number): boolean { return this.#recovery.holds(canonical, index) }
  lost(canonical: string, index: number): void { this.#recovery.lost(canonical, index) }
  get unfinished(): boolean { return this.#recovery.unfinished }
  settle(running: boolean): void {
    this.#recovery.settle(running)
    this.#tickLater()
  }

  /** Workers finish what they have and end; this fleet looks after them no longer. */
  abandon(): void {
    this.#roster.end()
    for (const worker of this.workers()) {
      worker.clearTimer()
      worker.link?.ask({ tag: 'drain', order: this.orphanDrain }, this.options.ackTimeoutMs).catch(() => {})
    }
  }

  /** Resolves when all that were abandoned are gone; those that are not by then are killed. */
  async outlive(capMs: number): Promise<void> {
    const cancel = this.#roster.host.after(capMs, () => this.force())
    await Promise.all([...this.workers()].map(worker => worker.gone))
    cancel()
  }

  // ---- the end

  /** Ends everything politely: listeners first, then what is in flight. Resolves when the last worker is gone. */
  async stop(request: StopRequest): Promise<{ cut: number }> {
    const { host, log, setup, options: { emptyQueueMs, ackTimeoutMs, drain } } = this.#roster
    const deadlineMs = host.nowMs() + request.capMs
    const stopInTime = (worker: WorkerProcess): void => {
      this.#retirement.drain(worker, stopOrder(drain, Math.max(0, deadlineMs - host.nowMs())))
    }
    this.#startNoMore()
    for (const { standIn } of this.slots) standIn.dismiss()
    setup.onChange()
    const workers = [...this.workers()]
    const cancelGuard = host.after(request.capMs + emptyQueueMs + DRAIN_GRACE_MS, () => {
      log.warn('workers outlived their deadline and are killed')
      this.force()
    })
    await Promise.all(workers.map(async worker => {
      // Holds no connection yet.
      if (worker.unused) { this.#orders.kill(worker, 'SIGKILL'); return }
      if (worker.state === WorkerState.Draining) return
      const order = { tag: 'close-listeners', emptyQueueMs: Math.min(emptyQueueMs, request.capMs) } as const
      await this.#orders.askLongOrKill(worker, order, emptyQueueMs + ackTimeoutMs)
      stopInTime(worker)
    }))
    request.onListenersClosed()
    // Those that were retiring before are told that time is short now.
    for (const worker of workers) if (worker.state === WorkerState.Draining && worker.drainingSinceMs !== null) stopInTime(worker)
    await Promise.all(workers.map(worker => worker.gone))
    cancelGuard()
    this.#cancelTick?.()
    return { cut: workers.reduce((sum, worker) => sum + worker.cut, 0) }
  }

  /** Kills everyone now. */
  force(): void {
    this.#startNoMore()
    for (const worker of this.workers()) this.#orders.kill(worker, 'SIGKILL')
    this.#cancelTick?.()
  }

  reopenLogs(): void { for (const worker of this.workers()) worker.link?.send({ tag: 'reopen-logs' }) }

  // ---- inside

  #startNoMore(): void {
    this.#roster.end()
    for (const slot of this.slots) slot.endBackOff()
  }

  #setOperation(name: string): void {
    this.#roster.operationName = name
    this.#roster.setup.onChange()
  }

  #pick(which: string): readonly WorkerSlot[] {
    if (this.stopping) throw new Refused('the server is stopping')
    if (which === '') return this.slots
    const slot = /^\d+$/.test(which) ? this.slots[Number(which)] : this.slots.find(other => other.current?.id === which)
    if (slot === undefined) throw new Refused(`there is no worker '${which}'; \`cirque workers ls\` lists them`)
    return [slot]
  }

  async #replace(slot: WorkerSlot): Promise<void> {
    let reason = ''
    try {
      for (let attempt = 1; attempt <= REPLACE_ATTEMPTS; attempt++) {
        // One that is just starting is new enough, but the operator who asked wants one that is newer. It may hang: until it
        // accepts or is gone the slot is not held, so that it gets another worker when it has none.
        if (slot.current?.coming === true) await slot.current.accepting.catch(() => {})
        if (this.stopping) throw new Refused('the server is stopping')
        slot.hold()
        try {
          reason = await this.#forkReplacement(slot, attempt)
        } finally {
          slot.release()
        }
        if (reason === '') {
          // As new as the one that serves.
          this.#spares.retire(slot)
          return
        }
      }
    } finally {
      if (slot.vacant) this.#starts.restartLater(slot)
    }
    throw new Refused(`slot ${slot.index}: the replacement failed ${REPLACE_ATTEMPTS} times, the worker before it serves on: ${reason}`)
  }

  /** @returns '' when the new worker accepts, otherwise why it does not. */
  async #forkReplacement(slot: WorkerSlot, attempt: number): Promise<string> {
    const incoming = this.#starts.fork(slot, this.generation)
    slot.incoming = incoming
    try {
      await incoming.accepting
      return ''
    } catch (error) {
      const reason = messageOf(error)
      this.#roster.log.warn(`replacement ${incoming.id} for slot ${slot.index} failed`, { attempt, reason, stack: incoming.failure?.stack })
      return reason
    }
  }

  #onGone(worker: WorkerProcess, report: ExitReport): void {
    const { state } = worker
    const roster = this.#roster
    const slot = roster.slotOf(worker)
    if (!worker.markGone(report)) return
    roster.bury(worker)
    this.#standIns.forget(worker)
    const wasSpare = slot.spare === worker
    slot.remove(worker)
    if (!roster.settled) { this.#recovery.goneBeforeSettled(); return }
    roster.forgetGenerations()
    this.#standIns.reconcile()

    const onItsWayOut = state === WorkerState.Draining || worker.intent === Intent.Retire || worker.intent === Intent.Dissolve
    if (onItsWayOut) this.#logEnd(worker, report)
    else if (wasSpare) this.#spares.onGone(slot, worker.endReason(report))
    else if (!roster.stopping && !this.#onDeath(slot, worker, state, report)) return
    if (onItsWayOut || wasSpare) this.#incidents.ended(worker, report, onItsWayOut)
    roster.setup.onChange()
  }

  /** A worker met an error that nothing caught: it accepts no more, and another one is started while it finishes what it has. */
  #onFailing(worker: WorkerProcess, endsInMs: number): void {
    const { failure } = worker
    const roster = this.#roster
    const slot = roster.slotOf(worker)
    const wasLeaving = slot.draining.has(worker)
    // One that never accepted has nothing to finish: its end follows at once.
    if (worker.unused || !worker.markFailing(failure!)) return
    this.#standIns.forget(worker)
    slot.displace(worker)
    this.#retirement.endsByItself(worker, endsInMs)
    if (!roster.settled) { this.#recovery.goneBeforeSettled(); return }
    this.#standIns.reconcile()
    if (!wasLeaving && !roster.stopping) {
      this.#onLost(slot, worker)
      roster.log.error(`worker ${worker.id} is replaced: ${failure!.message}`, { workerPid: worker.pid, endsInMs })
    }
    this.#incidents.ended(worker, null)
    roster.setup.onChange()
  }

  #logEnd(worker: WorkerProcess, report: ExitReport): void {
    const inOrder = report.code === 0 || (report.code === null && report.signal === null)
    const { id, pid, cut } = worker
    this.#roster.log.info(`worker ${id} is gone`, { workerPid: pid, cut, ...(inOrder ? {} : { reason: worker.endReason(report) }) })
  }

  /** A worker has died that was not asked to end. @returns false when the first start is given up for it. */
  #onDeath(slot: WorkerSlot, worker: WorkerProcess, state: WorkerState, report: ExitReport): boolean {
    const { log, setup: { ledger } } = this.#roster
    const reason = worker.endReason(report)
    ledger.countDeath(worker, report)
    if (this.#starts.state === StartState.NoneReady) {
      if (!this.#starts.survives(worker, reason)) {
        this.#incidents.ended(worker, report)
        this.force()
        return false
      }
    } else {
      const stack = state < WorkerState.Accepting && worker.failure !== null ? { stack: worker.failure.stack } : {}
      log.error(`worker ${worker.id} died: ${reason}`, { workerPid: worker.pid, code: report.code, signal: report.signal, ...stack })
    }
    this.#onLost(slot, worker)
    this.#incidents.ended(worker, report)
    return true
  }

  /** A worker serves no more that was not asked to end. */
  #onLost(slot: WorkerSlot, worker: WorkerProcess): void {
    slot.recordDeath({ acceptingSinceMs: worker.acceptingSinceMs, diedAtMs: this.#roster.host.nowMs() })
    slot.restarts++
    // Where a `previous` worker lives, an upgrade is under way that has seen the death as well: that worker takes its place back.
    if (slot.vacant && slot.previous === null && !slot.held && !slot.surplus) this.#starts.restartLater(slot)
    this.#spares.reconcile()
  }

  #tickLater(): void {
    this.#cancelTick = this.#roster.host.after(this.#roster.tickMs, () => {
      this.#tick()
      this.#tickLater()
    })
  }

  #tick(): void {
    for (const worker of this.workers()) this.#countSilence(worker)
    this.#orders.countTime()
    this.#standIns.reconcile()
    this.#spares.reconcile()
    void this.#recovery.dissolve()
    this.#recovery.widen(slot => this.restart(String(slot.index)))
  }

  #countSilence(worker: WorkerProcess): void {
    // Its own deadline watches over a start.
    if (worker.state === WorkerState.Starting) return
    const roster = this.#roster
    const { abortAfterSilenceMs, killAfterAbortMs } = roster.options
    const wasSilent = roster.isSilent(worker)
    worker.silentTicks++
    const silenceMs = roster.silenceMs(worker)
    if (!wasSilent && roster.isSilent(worker)) roster.log.warn(`worker ${worker.id} has been silent for ${silenceMs} ms`)
    if (worker.fatalSignal !== null || silenceMs < abortAfterSilenceMs * roster.slowness(worker)) return
    worker.failure ??= { how: 'silence', message: `silent for ${silenceMs} ms`, stack: '' }
    this.#orders.kill(worker, 'SIGABRT')
    // A stopped process takes no SIGABRT.
    roster.host.after(killAfterAbortMs, () => this.#orders.kill(worker, 'SIGKILL'))
  }
}

function sameSecret(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
