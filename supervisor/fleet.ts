/**
 * All workers, of whatever generation: starts, replaces, watches and ends them. Which generation comes next, and whether
 * it may stay, is decided in upgrade.ts; the single steps of that (`introduce`, `takeOver`, `vacate`, `revert`, `commit`)
 * are here, next to the restarts, deaths and stand-ins that they meet on their way.
 *
 * Driven by four things only: orders, messages of workers, ends of processes, and its own tick. Touches the world through
 * ProcessHost and WorkerLink.
 *
 * Invariants: a slot that ever listened is served by its worker or, as soon as one can, by a sibling that stands in;
 * an old worker stops accepting only after its replacement accepts; until `commit` it can take its place back;
 * a slot is never given up in steady state.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { ChannelError } from '../src/ipc/channel.ts'
import { NO_COUNTS } from '../src/ipc/messages.ts'
import type { DrainOrder, FromWorker, OpenCounts, SelfTestOutcome, ToWorker } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { ROLE_VARIABLE } from '../src/ipc/worker-role.ts'
import type { WorkerRole } from '../src/ipc/worker-role.ts'
import type { Generation } from './generation.ts'
import type { ExitReport, ProcessHost } from './process-host.ts'
import { Refused, StartFailed } from './refusals.ts'
import { restartDelayMs, startFailed } from './restart-policy.ts'
import { WORKER_STATE_NAMES, WorkerProcess, WorkerState } from './worker-process.ts'
import type { WorkerLink } from './worker-process.ts'
import { WorkerSlot } from './worker-slot.ts'
import type { SlotRecord } from './worker-slot.ts'

/** How much longer than its own deadline a draining worker may live before it is killed, in ms. */
const DRAIN_GRACE_MS = 2_000
/** A polite close of an upgraded connection takes up to 9 s (src/proxy/upgrade.ts). */
const TUNNEL_CLOSE_MS = 9_000
/** A restart that falls into the replacement of the supervisor waits this much longer, in ms. */
const FROZEN_RETRY_MS = 50
/** So many siblings are asked to stand in before a worker that did so stops nevertheless. */
const STAND_IN_ATTEMPTS = 3
/** How much later than its connection the end of a process is seen, at most, in ms. */
const END_FOLLOWS_MS = 500
/** A replacement that fails is tried this often before the operation is given up. */
const REPLACE_ATTEMPTS = 2

/** Dials to a listener that goes are held off; handshakes that were under way then have ended after so long. */
const HANDSHAKE_MS = 300

/** Who empties queues that nobody else has: best last. */
const SUITABLE: readonly WorkerState[] = [WorkerState.Starting, WorkerState.Ready, WorkerState.Paused, WorkerState.Accepting]

export interface FleetSetup {
  readonly host: ProcessHost
  /** Those in force: asked for at every use, because a commit changes them. */
  readonly options: ResolvedSupervisorOptions
  readonly log: ProcessLog
  readonly generation: Generation
  /** The supervisor's own numbers of the sockets that a generation's workers inherit, in the order of its layout. */
  readonly descriptors: (generation: Generation) => readonly number[]
  /** Where workers register. */
  readonly controlPath: string
  /** Something that status, journal or readiness may show has changed. */
  readonly onChange: () => void
}

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

/** What the journal keeps of the fleet. */
export interface FleetRecord {
  /** Number of the generation that is committed. */
  readonly committed: number
  /** All that have a living worker, and the committed one. */
  readonly generations: readonly Generation[]
  readonly slots: readonly SlotRecord[]
  readonly buried: { readonly exchanges: number; readonly ownFaults: number }
}

export class Fleet {
  slots: readonly WorkerSlot[]
  readonly #setup: FleetSetup
  readonly #host: ProcessHost
  readonly #log: ProcessLog
  #generation: Generation
  /** By number: the committed one, the one on trial, and those that still have workers. */
  readonly #generations = new Map<number, Generation>()
  /** The one on trial, which may have no worker at a time; 0. */
  #expected = 0
  /** Forks wait: this process is about to be replaced, and a worker that has not started to run our code would die with it. */
  #frozen = false
  #trial: { readonly number: number; readonly options: ResolvedSupervisorOptions } | null = null
  #settled = true
  #onCameBack: () => void = () => {}
  readonly #started = Promise.withResolvers<void>()
  #allStarted = false
  #everReady = false
  #deathsBeforeReady = 0
  #stopping = false
  /** The operation that runs; the next one waits for it. */
  #operation: Promise<unknown> = Promise.resolve()
  #operationName = ''
  #cancelTick: (() => void) | null = null
  /** Workers that alone hold some sockets are being ended. */
  #dissolving = false
  #unfinished = false
  /** When a worker with too few sockets is replaced again. */
  #widenAtMs = 0
  /** Requests and faults of workers that are gone, so that totals do not go backwards. */
  #buried = { exchanges: 0, ownFaults: 0 }

  constructor(setup: FleetSetup) {
    this.#setup = setup
    this.#host = setup.host
    this.#log = setup.log
    this.#generation = setup.generation
    this.#generations.set(setup.generation.number, setup.generation)
    this.slots = Array.from({ length: setup.generation.layout.slots }, (_, index) => new WorkerSlot(index))
    for (const slot of this.slots) slot.surplus = slot.index >= setup.generation.workers
    this.#started.promise.catch(() => {})
  }

  /** The fleet of an earlier supervisor. Its workers are expected to say hello; `settle` then goes on with what they are. */
  static restore(setup: FleetSetup, record: FleetRecord, wallMs: number): Fleet {
    const fleet = new Fleet(setup)
    fleet.#settled = false
    fleet.#everReady = true
    fleet.#allStarted = true
    fleet.#started.resolve()
    fleet.#buried = { ...record.buried }
    for (const generation of record.generations) fleet.#generations.set(generation.number, generation)
    const host = fleet.#host
    const ageShiftMs = wallMs - host.nowMs()
    fleet.slots = record.slots.map((kept, index) => {
      const slot = new WorkerSlot(index)
      // One that was ready may have been told to listen.
      const mayListen = kept.workers.some(worker => worker.phase !== 'starting')
      Object.assign(slot, { hasQueue: kept.hasQueue || mayListen, surplus: kept.surplus, restarts: kept.restarts, nextN: kept.nextN })
      for (const known of kept.workers) {
        const worker = WorkerProcess.restore(known, ageShiftMs)
        if (known.place === 'draining') slot.draining.add(worker)
        else slot[known.place] = worker
        host.adopt(worker.pid, worker.startTime, report => fleet.#onGone(worker, report))
      }
      return slot
    })
    // Who stands in is asked anew: the record does not say whether the one that was asked had obeyed.
    return fleet
  }

  /** @param wallMs now, in ms since 1970. */
  record(wallMs: number): FleetRecord {
    const ageShiftMs = wallMs - this.#host.nowMs()
    return { committed: this.#generation.number, generations: [...this.#generations.values()], slots: this.slots.map(slot => slot.record(ageShiftMs)), buried: this.#buried }
  }

  /** Every slot has accepted at least once. */
  get started(): boolean { return this.#allStarted }
  get stopping(): boolean { return this.#stopping }
  /** What is being done for an operator; '' when nothing is. */
  get operationName(): string { return this.#operationName }
  /** Somebody accepts. */
  get accepting(): boolean { return this.slots.some(slot => slot.current?.state === WorkerState.Accepting) }
  /** The committed one. */
  get generation(): Generation { return this.#generation }
  get options(): ResolvedSupervisorOptions { return this.#options }
  get #options(): ResolvedSupervisorOptions { return this.#setup.options }
  /** What a worker is told: those of its own generation, if that is on trial. */
  optionsOf(worker: WorkerProcess): ResolvedSupervisorOptions { return this.#trial?.number === worker.generation ? this.#trial.options : this.#options }
  generationOf(worker: WorkerProcess): Generation { return this.#generations.get(worker.generation) ?? this.#generation }

  *workers(): Generator<WorkerProcess> { for (const slot of this.slots) yield* slot.workers() }

  /** Resolves when every slot accepts; rejects with StartFailed when no worker was ever ready. */
  start(): Promise<void> {
    for (const slot of this.slots) if (!slot.surplus) slot.current = this.#fork(slot, this.#generation)
    this.#tickLater()
    return this.#started.promise
  }

  /** A connection on the worker socket says who it is. @returns null when it is none of ours. */
  hello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink): WorkerProcess | null {
    const worker = this.#find(hello.worker)
    if (worker === null || !sameSecret(worker.token, hello.token)) return null
    worker.link?.close()
    worker.link = link
    worker.heartbeatMs = this.optionsOf(worker).heartbeatMs
    worker.silentTicks = 0
    // What it was told last may have been lost on the way.
    if (worker.state === WorkerState.Draining && this.#settled && (worker.drainOrder !== null || hello.phase !== 'draining')) this.#drain(worker, worker.drainOrder ?? this.#retireOrder())
    for (const slot of this.slots) if (slot.index !== worker.slot && hello.phase !== 'starting') slot.unsure = true
    // Told by a supervisor before us, which may have had no time to write it down.
    if (hello.phase === 'accepting' || hello.phase === 'paused') this.slots[worker.slot]!.hasQueue = true
    // It also comes back when it stopped accepting without our asking: as an orphan, or by an order of the supervisor before us.
    const stoppedByItself = worker.state === WorkerState.Accepting && (hello.phase === 'paused' || hello.phase === 'draining')
    if (worker.awaited || stoppedByItself) {
      worker.cameBack(hello.phase, this.#host.nowMs())
      this.#onCameBack()
      if (this.#settled) this.#settleWorker(worker)
    }
    return worker
  }

  linkLost(worker: WorkerProcess, link: WorkerLink): void { if (worker.link === link) worker.link = null }

  onMessage(worker: WorkerProcess, message: FromWorker): void {
    if (!worker.alive) return
    switch (message.tag) {
      case 'ready':
        this.#onReady(worker)
        break
      case 'heartbeat': {
        const wasSilent = this.isSilent(worker)
        worker.heartbeat = message
        worker.silentTicks = 0
        if (wasSilent) {
          this.#log.info(`worker ${worker.id} is heard of again`)
          this.#reconcile()
        }
        break
      }
      case 'failed':
        worker.failure = { message: message.message, stack: message.stack }
        break
      case 'cannot-accept':
        this.#log.warn(`worker ${worker.id} cannot accept any more and is replaced`, { reason: message.reason })
        this.#kill(worker, 'SIGKILL')
        break
      case 'drained':
        worker.cut = message.cut
        break
      // Known to the control server only.
      case 'hello':
        break
      default:
        message satisfies never
    }
  }

  /** Replaces workers one slot at a time on the same sockets. @param which '' for all, a slot's number, or a worker's id. Waits for an operation that runs already. */
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
      this.#operationName = name
      this.#setup.onChange()
      try {
        return await operation()
      } finally {
        this.#operationName = ''
        this.#setup.onChange()
      }
    }
    const outcome = this.#operation.then(run, run)
    this.#operation = outcome.catch(() => {})
    return outcome
  }

  // ---- from one generation to the next; upgrade.ts decides

  /** Makes room for a generation's slots; nothing is started yet. */
  expect(generation: Generation, options: ResolvedSupervisorOptions): void {
    this.#trial = { number: generation.number, options }
    this.#expected = generation.number
    this.#generations.set(generation.number, generation)
    const missing = generation.layout.slots - this.slots.length
    if (missing > 0) {
      this.slots = [...this.slots, ...Array.from({ length: missing }, (_, more) => {
        const slot = new WorkerSlot(this.slots.length + more)
        slot.surplus = true
        return slot
      })]
    }
  }

  /** Starts a worker of a generation beside the one that serves a slot. Resolves when it is ready; nobody lets it accept. @throws Error with the reason */
  async introduce(slot: WorkerSlot, generation: Generation): Promise<WorkerProcess> {
    if (this.#stopping) throw new Refused('the server is stopping')
    slot.replacing = true
    slot.clearRestart()
    const incoming = this.#fork(slot, generation)
    incoming.acceptsWhenReady = false
    slot.incoming = incoming
    await incoming.ready
    return incoming
  }

  /** A worker answers the application's own question over a private socket. @throws Refused with what came instead */
  async selfTest(worker: WorkerProcess): Promise<string> {
    const timeoutMs = this.generationOf(worker).description.selfTest.timeoutMs + this.#options.ackTimeoutMs
    let outcome: SelfTestOutcome
    try {
      if (worker.link === null) throw new ChannelError('closed', 'it is not connected')
      outcome = await worker.link.ask({ tag: 'self-test' }, timeoutMs) as SelfTestOutcome
    } catch (error) {
      throw new Refused(`the self-test of worker ${worker.id} could not be run: ${await this.#endOr(worker, error)}`)
    }
    if (outcome.passed !== true) throw new Refused(`worker ${worker.id} failed its self-test: ${outcome.detail}`)
    return outcome.detail
  }

  /** A connection that ended says less than the end of the process that follows it. */
  async #endOr(worker: WorkerProcess, error: unknown): Promise<string> {
    const late = Promise.withResolvers<null>()
    const cancel = this.#host.after(END_FOLLOWS_MS, () => late.resolve(null))
    const report = await Promise.race([worker.gone, late.promise])
    cancel()
    if (report !== null) return worker.endReason(report)
    return worker.failure?.message ?? (error instanceof Error ? error.message : String(error))
  }

  /** The incoming worker of a slot accepts, then the one before it stops, able to resume. @throws Refused */
  async takeOver(slot: WorkerSlot): Promise<void> {
    const incoming = slot.incoming
    // Whether it obeys or not: it may have listened before it was given up.
    if (incoming !== null) slot.hasQueue = true
    if (incoming === null || !await this.#askOrKill(incoming, { tag: 'accept' }, this.#options.ackTimeoutMs) || !incoming.markAccepting(this.#host.nowMs())) {
      throw new Refused(`slot ${slot.index}: the new worker could not accept${incoming === null ? '' : `: ${await this.#endOr(incoming, new Error('it did not answer'))}`}`)
    }
    const old = slot.current
    slot.surplus = false
    slot.current = incoming
    slot.incoming = null
    slot.replacing = false
    this.#reconcile()
    if (old !== null) await this.#pause(slot, old, goneListeners(this.generationOf(old), this.generationOf(incoming)))
    this.#setup.onChange()
  }

  /** A slot that the next generation has no worker for: a sibling accepts here, then its own worker stops, able to resume. @throws Refused */
  async vacate(slot: WorkerSlot): Promise<void> {
    const old = slot.current
    slot.surplus = true
    slot.clearRestart()
    if (old === null) return
    slot.current = null
    slot.previous = old
    if (this.#hasOwnSockets() && slot.hasQueue && !await this.#findStandIn(slot)) {
      slot.current = old
      slot.previous = null
      slot.surplus = false
      throw new Refused(`slot ${slot.index} is not needed any more, but no sibling could accept for it`)
    }
    await this.#pause(slot, old, slot.standIn === null ? [] : goneListeners(this.generationOf(old), this.generationOf(slot.standIn)))
    this.#setup.onChange()
  }

  /** Back to a generation, whatever of another one has been started: first its workers accept again, then the others retire. */
  async revert(to: Generation): Promise<void> {
    this.#unfinished = false
    const wide = this.#widened(to)
    await Promise.all(this.slots.map(slot => slot.index < wide.workers ? this.#revertSlot(slot, wide) : null))
    // Those that come back may have to accept for these.
    await Promise.all(this.slots.map(slot => slot.index < wide.workers ? null : this.#revertSurplus(slot)))
    this.#expected = 0
    this.#reconcile()
    this.#forgetGenerations()
    this.#setup.onChange()
  }

  /** The generation on trial is the one. Resolves when no worker holds a listener that it does not have any more. */
  async commit(generation: Generation): Promise<void> {
    const before = this.#generation
    this.#generation = generation
    this.#generations.set(generation.number, generation)
    this.#expected = 0
    this.#trial = null
    const listenersGo = goneListeners(before, generation).length > 0
    const retired: Promise<unknown>[] = []
    for (const slot of this.slots) {
      slot.surplus = slot.index >= generation.workers
      slot.replacing = false
      const old = slot.previous
      slot.previous = null
      if (old !== null && old.alive) {
        slot.draining.add(old)
        retired.push(listenersGo ? this.#emptyThenDrain(slot, old, HANDSHAKE_MS) : Promise.resolve(this.#drain(old, this.#retireOrder())))
      }
      if (slot.current === null && slot.incoming === null && !slot.surplus) this.#restartLater(slot)
    }
    this.#forgetGenerations()
    this.#reconcile()
    this.#setup.onChange()
    await Promise.all(retired)
  }

  /** No fork from now on; resolves when every worker runs our code and would outlive us. */
  async freeze(): Promise<void> {
    this.#frozen = true
    for (const worker of this.workers()) {
      if (worker.state !== WorkerState.Starting || worker.link !== null) continue
      // Nothing is lost with one that holds nothing; its slot gets another one afterwards.
      await Promise.race([worker.ready.catch(() => {}), worker.gone])
    }
  }

  thaw(): void { this.#frozen = false }

  /** They finish what they have and end; nobody here looks after them any more. */
  abandon(): void {
    this.#stopping = true
    for (const worker of this.workers()) {
      worker.clearTimer()
      worker.link?.ask({ tag: 'drain', order: this.#retireOrder() }, this.#options.ackTimeoutMs).catch(() => {})
    }
  }

  /** Resolves when all that were abandoned are gone; who is not by then is killed. */
  async outlive(capMs: number): Promise<void> {
    const cancel = this.#host.after(capMs, () => this.force())
    await Promise.all([...this.workers()].map(worker => worker.gone))
    cancel()
  }

  /** Resolves when every worker that an earlier supervisor left has said hello or is gone, or after `timeoutMs`. @returns how many did neither. */
  awaitWorkers(timeoutMs: number): Promise<number> {
    const awaited = (): number => [...this.workers()].filter(worker => worker.awaited && worker.alive).length
    const { promise, resolve } = Promise.withResolvers<number>()
    const finish = (): void => {
      cancel()
      this.#onCameBack = () => {}
      resolve(awaited())
    }
    const cancel = this.#host.after(timeoutMs, finish)
    this.#onCameBack = () => { if (awaited() === 0) finish() }
    this.#onCameBack()
    return promise
  }

  /** Whether a restored worker may still hold a socket: its own descriptor of it, whatever became of ours. */
  holds(canonical: string, index: number): boolean {
    for (const worker of this.workers()) if (this.#mayHold(worker, canonical, index)) return true
    return false
  }

  /** A socket did not come back, and another one was bound beside it: whoever holds it is replaced, and ends when its queues are empty. */
  lost(canonical: string, index: number): void { for (const worker of this.workers()) if (this.#mayHold(worker, canonical, index)) worker.soleHolder = true }

  #mayHold(worker: WorkerProcess, canonical: string, index: number): boolean {
    return worker.alive && worker.state !== WorkerState.Draining && index < worker.slotsHeld && this.generationOf(worker).description.listeners.some(listener => listener.canonical === canonical)
  }

  /** Workers of a generation that is not committed were restored, and no operation runs: one that went back was not finished, so `revert` is to be called. */
  get unfinished(): boolean { return this.#unfinished }

  /** Goes on with restored workers. @param running an operation is still to be committed or reverted: its workers are left where they are. */
  settle(running: boolean): void {
    this.#settled = true
    for (const worker of [...this.workers()]) if (worker.soleHolder) this.#displace(this.slots[worker.slot]!, worker)
    // Also one that never says hello.
    for (const worker of this.workers()) if (worker.alive && worker.state === WorkerState.Starting) this.#watchStart(worker)
    this.#unfinished = !running && this.slots.some(({ current, incoming, previous }) => [current, incoming, previous].some(worker => worker !== null && worker.alive && worker.generation !== this.#generation.number))
    const trial = running || this.#unfinished
    for (const slot of this.slots) {
      if (!trial) {
        if (slot.previous !== null) {
          slot.draining.add(slot.previous)
          slot.previous = null
        }
        const { incoming, current } = slot
        if (incoming !== null && incoming.state === WorkerState.Accepting) {
          slot.current = incoming
          slot.incoming = null
          if (current !== null) this.#retire(slot, current)
        } else if (incoming !== null && current !== null) {
          // Whoever wanted it is gone; it holds nothing.
          this.#kill(incoming, 'SIGKILL')
        }
      }
      for (const worker of slot.workers()) this.#settleWorker(worker)
      if (slot.current === null && slot.incoming === null && !slot.surplus && !trial) this.#restartLater(slot)
    }
    this.#forgetGenerations()
    this.#reconcile()
    this.#tickLater()
    this.#setup.onChange()
  }

  /** From its place to those that are on their way out. */
  #displace(slot: WorkerSlot, worker: WorkerProcess): void {
    if (slot.current === worker) slot.current = null
    if (slot.incoming === worker) slot.incoming = null
    if (slot.previous === worker) slot.previous = null
    worker.acceptsWhenReady = false
    slot.draining.add(worker)
  }

  #settleWorker(worker: WorkerProcess): void {
    const slot = this.slots[worker.slot]!
    if (!worker.alive || worker.awaited || worker.soleHolder) return
    if (worker.state === WorkerState.Starting) {
      // On its way out before it held anything.
      if (slot.draining.has(worker)) this.#kill(worker, 'SIGKILL')
      else this.#watchStart(worker)
    } else if (slot.draining.has(worker)) {
      if (worker.state === WorkerState.Draining && worker.drainEndsAtMs !== null) this.#guardDrain(worker)
      else if (worker.state === WorkerState.Accepting || worker.pausedInPart) void this.#stopThenDrain(worker)
      else this.#drain(worker, this.#retireOrder())
    } else if (worker === slot.current && worker.state === WorkerState.Paused) {
      void this.#resume(worker)
    } else if (worker.state === WorkerState.Draining) {
      // It gave up waiting for a supervisor.
      this.#displace(slot, worker)
      if (slot.current === null && !slot.surplus) this.#restartLater(slot)
    }
    this.#limitDraining(slot)
  }

  /** Slots that came with the generation on trial have queues that go on filling: from now on its predecessor's workers get their sockets as well. */
  #widened(to: Generation): Generation {
    if (this.#reach() <= to.layout.slots) return to
    const wide = { ...to, layout: { ...to.layout, slots: this.slots.length } }
    this.#generations.set(wide.number, wide)
    if (wide.number === this.#generation.number) this.#generation = wide
    return wide
  }

  /** So many slots from the first on have queues of their own. */
  #reach(): number { return this.#hasOwnSockets() ? this.slots.findLastIndex(slot => slot.hasQueue) + 1 : 0 }

  /** A slot that nobody has a worker for any more: a sibling accepts here, then whoever did retires. */
  async #revertSurplus(slot: WorkerSlot): Promise<void> {
    if (this.#stopping) return
    const places = [slot.previous, slot.current, slot.incoming].filter(worker => worker !== null && worker.alive) as WorkerProcess[]
    // In one place or another until it is gone.
    for (const worker of places) slot.draining.add(worker)
    slot.current = slot.previous = slot.incoming = null
    slot.surplus = true
    slot.replacing = false
    if (slot.hasQueue && this.#hasOwnSockets()) await this.#findStandIn(slot)
    for (const worker of places) this.#retire(slot, worker)
  }

  async #revertSlot(slot: WorkerSlot, to: Generation): Promise<void> {
    if (this.#stopping) return
    const places = [slot.previous, slot.current, slot.incoming].filter(worker => worker !== null && worker.alive) as WorkerProcess[]
    let keep = places.find(worker => worker.generation === to.number && worker.state !== WorkerState.Draining) ?? null
    // One worker must hold the sockets of every slot that has a queue.
    const narrow = keep !== null && slot.index === 0 && keep.slotsHeld < this.#reach() ? keep : null
    if (narrow !== null) keep = null
    const others = places.filter(worker => worker !== keep)
    slot.replacing = true
    slot.clearRestart()
    // They hold nothing.
    for (const other of others) if (other.state < WorkerState.Accepting) this.#retire(slot, other)
    if (keep !== null && keep.state === WorkerState.Paused && !await this.#resume(keep)) keep = null
    while (keep === null && !this.#stopping) {
      keep = await this.#forkAgain(slot, to)
      // As long as somebody accepts here there is time; without anybody it is an ordinary restart.
      if (keep !== null || !others.some(worker => worker.state === WorkerState.Accepting)) break
      await new Promise<void>(resolve => { this.#host.after(restartDelayMs(slot.history, this.#options.restart, this.#host.random()), resolve) })
    }
    if (keep === null && narrow !== null && narrow.alive && await this.#resume(narrow)) keep = narrow
    slot.current = keep
    slot.surplus = false
    slot.previous = null
    slot.incoming = null
    slot.replacing = false
    for (const other of others) if (other !== keep) this.#retire(slot, other)
    if (slot.current === null) this.#restartLater(slot)
  }

  /** The worker that should come back has died: another one of its generation, beside the one that is to go. */
  async #forkAgain(slot: WorkerSlot, generation: Generation): Promise<WorkerProcess | null> {
    if (this.#stopping) return null
    const worker = this.#fork(slot, generation)
    if (slot.incoming !== null) slot.draining.add(slot.incoming)
    slot.incoming = worker
    try {
      await worker.accepting
      return worker
    } catch {
      return null
    }
  }

  async #resume(worker: WorkerProcess): Promise<boolean> {
    if (!await this.#askOrKill(worker, { tag: 'accept' }, this.#options.ackTimeoutMs)) return false
    // It has been told to stop since.
    if (worker.retiring) return false
    worker.markAccepting(this.#host.nowMs())
    worker.pausedInPart = false
    // Where it stood in before it stopped it may do so again.
    for (const slot of this.slots) if (slot.index !== worker.slot) slot.unsure = true
    this.#reconcile()
    return worker.state === WorkerState.Accepting
  }

  /** Stops accepting, able to resume: the slot's `previous` until the generation on trial is committed. */
  async #pause(slot: WorkerSlot, old: WorkerProcess, except: readonly string[]): Promise<void> {
    if (!old.alive) return
    if (old.state !== WorkerState.Accepting) {
      if (slot.previous === old) slot.previous = null
      slot.draining.add(old)
      this.#kill(old, 'SIGKILL')
      return
    }
    slot.previous = old
    if (!await this.#othersServe(old) && !this.#stopping) throw new Refused(`nobody else could accept what worker ${old.id} accepts`)
    old.pausedInPart = except.length > 0
    if (old.moveTo(WorkerState.Paused)) await this.#askOrKill(old, { tag: 'stop-accept', except }, this.#options.ackTimeoutMs)
  }

  async #emptyThenDrain(slot: WorkerSlot, old: WorkerProcess, atLeastMs = 0): Promise<void> {
    await this.#askOrKill(old, { tag: 'close-listeners', emptyQueueMs: this.#options.emptyQueueMs, atLeastMs }, this.#options.emptyQueueMs + this.#options.ackTimeoutMs)
    if (slot.draining.has(old)) this.#drain(old, this.#retireOrder())
  }

  /** Its own slot, and those that it stood in for, need somebody else before it stops. @returns whether each has somebody. */
  async #othersServe(worker: WorkerProcess): Promise<boolean> {
    if (!this.#hasOwnSockets()) return this.slots.some(({ current }) => current !== worker && this.#serves(current))
    // It may be the one that accepts where somebody else has only been asked to.
    const concerned = this.slots.filter(slot => slot.hasQueue && (slot.index === worker.slot || slot.standIn === worker || slot.asking !== null))
    for (const slot of concerned) if (slot.standIn === worker) slot.standIn = null
    // Whoever is being asked may be the worker itself.
    await Promise.all(concerned.map(slot => slot.asking))
    const served = (slot: WorkerSlot): boolean => this.#serves(slot.current) || (slot.asking === null && this.#serves(slot.standIn))
    // Whoever is asked may die of it, and who served a moment ago as well.
    for (let attempt = 1; attempt <= STAND_IN_ATTEMPTS && !concerned.every(served); attempt++) await Promise.all(concerned.map(slot => served(slot) || this.#findStandIn(slot)))
    this.#reconcile()
    return concerned.every(served)
  }

  /** Whoever accepts in its slot now, or where it stands in, is of a generation on trial that has not all of its listeners. */
  #lastOfListener(worker: WorkerProcess): boolean {
    return this.slots.some(slot => {
      if (!slot.hasQueue || (slot.index !== worker.slot && !worker.pausedInPart)) return false
      const heir = this.#serves(slot.current) ? slot.current : slot.standIn
      // Only asked yet.
      if (slot.asking !== null && heir === slot.standIn) return true
      return heir !== null && heir.generation !== this.#generation.number && goneListeners(this.generationOf(worker), this.generationOf(heir)).length > 0
    })
  }

  #forgetGenerations(): void {
    const living = new Set([...this.workers()].map(worker => worker.generation))
    for (const number of this.#generations.keys()) if (number !== this.#generation.number && number !== this.#expected && !living.has(number)) this.#generations.delete(number)
  }

  #hasOwnSockets(): boolean { return this.#generation.layout.listeners.some(listener => !listener.shared) }

  /** Ends everything politely: listeners first, then what is in flight. Resolves when the last worker is gone. */
  async stop(request: StopRequest): Promise<{ cut: number }> {
    this.#stopping = true
    const deadlineMs = this.#host.nowMs() + request.capMs
    for (const slot of this.slots) {
      slot.stopped = true
      slot.clearRestart()
      slot.standIn = null
    }
    this.#setup.onChange()
    const workers = [...this.workers()]
    const cancelGuard = this.#host.after(request.capMs + this.#options.emptyQueueMs + DRAIN_GRACE_MS, () => {
      this.#log.warn('workers outlived their deadline and are killed')
      this.force()
    })
    await Promise.all(workers.map(async worker => {
      // Holds no connection yet.
      if (worker.state === WorkerState.Starting || worker.state === WorkerState.Ready) { this.#kill(worker, 'SIGKILL'); return }
      if (worker.state === WorkerState.Draining) return
      await this.#askOrKill(worker, { tag: 'close-listeners', emptyQueueMs: Math.min(this.#options.emptyQueueMs, request.capMs) }, this.#options.emptyQueueMs + this.#options.ackTimeoutMs)
      this.#drain(worker, this.#stopOrder(Math.max(0, deadlineMs - this.#host.nowMs())))
    }))
    request.onListenersClosed()
    // Those that were retiring before are told that now nobody waits.
    for (const worker of workers) if (worker.state === WorkerState.Draining && worker.drainingSinceMs !== null) this.#drain(worker, this.#stopOrder(Math.max(0, deadlineMs - this.#host.nowMs())))
    await Promise.all(workers.map(worker => worker.gone))
    cancelGuard()
    this.#cancelTick?.()
    return { cut: workers.reduce((sum, worker) => sum + worker.cut, 0) }
  }

  /** Kills everyone now. */
  force(): void {
    this.#stopping = true
    for (const slot of this.slots) {
      slot.stopped = true
      slot.clearRestart()
    }
    for (const worker of this.workers()) this.#kill(worker, 'SIGKILL')
    this.#cancelTick?.()
  }

  reopenLogs(): void { for (const worker of this.workers()) worker.link?.send({ tag: 'reopen-logs' }) }

  /** What is open now, and counters over all workers that ever were. */
  totals(): OpenCounts {
    const sum = { ...NO_COUNTS, ...this.#buried }
    for (const worker of this.workers()) {
      const { open } = worker
      sum.connections += open.connections
      sum.idleConnections += open.idleConnections
      sum.activeExchanges += open.activeExchanges
      sum.upgraded += open.upgraded
      sum.webSockets += open.webSockets
      sum.oldestUpgradedMs = Math.max(sum.oldestUpgradedMs, open.oldestUpgradedMs)
      sum.exchanges += open.exchanges
      sum.ownFaults += open.ownFaults
    }
    return sum
  }

  status(): object[] {
    const nowMs = this.#host.nowMs()
    const show = (worker: WorkerProcess): object => ({
      id: worker.id, pid: worker.pid, generation: worker.generation, state: WORKER_STATE_NAMES[worker.state], silent: this.isSilent(worker), ageMs: Math.round(nowMs - worker.startedAtMs),
      acceptingMs: worker.acceptingSinceMs === null ? null : Math.round(nowMs - worker.acceptingSinceMs),
      drainingMs: worker.drainingSinceMs === null ? null : Math.round(nowMs - worker.drainingSinceMs),
      drainEndsInMs: worker.drainEndsAtMs === null ? null : Math.max(0, Math.round(worker.drainEndsAtMs - nowMs)),
      loopLagMs: worker.heartbeat?.loopLagMs ?? null, utilization: worker.heartbeat?.utilization ?? null, rssBytes: worker.heartbeat?.rssBytes ?? null, open: worker.open,
    })
    return this.slots.map(slot => ({
      slot: slot.index, state: slot.state, restarts: slot.restarts, standIn: slot.standIn?.id ?? null,
      worker: slot.current === null ? null : show(slot.current), incoming: slot.incoming === null ? null : show(slot.incoming), previous: slot.previous === null ? null : show(slot.previous), draining: [...slot.draining].map(show),
    }))
  }

  /** How a worker that lost its supervisor drains. */
  get orphanDrain(): DrainOrder { return this.#retireOrder() }

  #fork(slot: WorkerSlot, generation: Generation): WorkerProcess {
    const { descriptors, controlPath } = this.#setup
    const { release, layout } = generation
    const worker = new WorkerProcess({ generation: generation.number, slot: slot.index, n: slot.nextN++, token: randomBytes(24).toString('base64url'), startedAtMs: this.#host.nowMs() })
    const role: WorkerRole = {
      role: 'worker', worker: worker.id, slot: slot.index, application: release.application, controlPath, token: worker.token, layout,
      maxControlMessageBytes: this.#options.maxControlMessageBytes,
    }
    const { pid } = this.#host.fork({
      node: release.node, exec: release.entries.worker, args: [release.application, ...generation.args], execArgv: generation.execArgv,
      env: { [ROLE_VARIABLE]: JSON.stringify(role) }, descriptors: descriptors(generation), uid: generation.uid, gid: generation.gid,
    }, report => this.#onGone(worker, report))
    worker.pid = pid
    worker.slotsHeld = layout.slots
    worker.startTime = this.#host.startTime(pid)
    this.#watchStart(worker)
    this.#setup.onChange()
    return worker
  }

  #watchStart(worker: WorkerProcess): void {
    const { readyTimeoutMs } = this.#options
    worker.setTimer(this.#host.after(readyTimeoutMs, () => {
      if (worker.state !== WorkerState.Starting) return
      worker.failure ??= { message: `not ready within ${readyTimeoutMs} ms; does the application reach server.runForever()?`, stack: '' }
      this.#kill(worker, 'SIGKILL')
    }))
  }

  #onReady(worker: WorkerProcess): void {
    if (!worker.moveTo(WorkerState.Ready)) return
    worker.clearTimer()
    this.#everReady = true
    if (this.#stopping) { this.#kill(worker, 'SIGKILL'); return }
    if (!worker.acceptsWhenReady) return
    void this.#askOrKill(worker, { tag: 'accept' }, this.#options.ackTimeoutMs).then(accepts => {
      // Otherwise it may have listened before it was given up.
      if (accepts) this.#onAccepting(worker)
      else this.slots[worker.slot]!.hasQueue = true
    })
  }

  #onAccepting(worker: WorkerProcess): void {
    if (!worker.markAccepting(this.#host.nowMs())) return
    const slot = this.slots[worker.slot]!
    slot.hasQueue = true
    if (slot.incoming === worker) {
      const old = slot.current
      slot.current = worker
      slot.incoming = null
      this.#reconcile()
      if (old !== null) this.#retire(slot, old)
    }
    this.#reconcile()
    if (!this.#allStarted && this.slots.every(other => other.hasQueue || other.surplus)) {
      this.#allStarted = true
      this.#started.resolve()
    }
    this.#setup.onChange()
  }

  /** A replacement accepts: the old one stops accepting, then finishes what it has. */
  #retire(slot: WorkerSlot, old: WorkerProcess): void {
    if (!old.alive || old.retiring) return
    old.retiring = true
    slot.draining.add(old)
    // Nobody can tell it anything yet, or nobody else has its sockets: `#settleWorker` and `#dissolve` go on.
    if (old.awaited || old.soleHolder) return
    if (old.state === WorkerState.Paused && !old.pausedInPart) this.#drain(old, this.#retireOrder())
    else if (old.state === WorkerState.Paused) void this.#stopThenDrain(old)
    else if (old.state !== WorkerState.Accepting) this.#kill(old, 'SIGKILL')
    else void this.#stopThenDrain(old)
  }

  async #stopThenDrain(old: WorkerProcess): Promise<void> {
    // Until somebody else does, it accepts.
    while (!await this.#othersServe(old) || this.#lastOfListener(old)) {
      if (this.#stopping || (old.state !== WorkerState.Accepting && old.state !== WorkerState.Paused)) return
      await new Promise<void>(resolve => { this.#host.after(this.#options.heartbeatMs, resolve) })
    }
    if (!old.moveTo(WorkerState.Paused) && old.state !== WorkerState.Paused) return
    old.pausedInPart = false
    const stopped = await this.#askOrKill(old, { tag: 'stop-accept' }, this.#options.ackTimeoutMs)
    if (stopped && old.state === WorkerState.Paused) this.#drain(old, this.#retireOrder())
  }

  /** The oldest gets its deadline now: long-lived connections must not pile up processes. */
  #limitDraining(slot: WorkerSlot): void {
    const max = this.#options.drain.maxDrainingGenerations
    // One that has not stopped accepting may have nobody yet who does so for it.
    const retired = [...slot.draining].filter(worker => worker.state === WorkerState.Draining)
    const cut: DrainOrder = { ...this.#retireOrder(), hardDrainMs: 0, webSocketDrainMs: 0, tunnelDrainMs: 0, idleDrainMs: 0, closeSpreadMs: 0, endAfterMs: TUNNEL_CLOSE_MS + DRAIN_GRACE_MS }
    for (const oldest of retired.slice(0, Math.max(0, retired.length - max))) {
      // It ends no later as it is.
      if (oldest.drainEndsAtMs !== null && oldest.drainEndsAtMs <= this.#host.nowMs() + cut.endAfterMs) continue
      this.#log.warn(`worker ${oldest.id} is cut: more than ${max} retired workers in slot ${slot.index}`)
      this.#drain(oldest, cut)
    }
  }

  /** Sends (or sharpens) the drain order. The worker keeps its own deadline; this side only guards it. */
  #drain(worker: WorkerProcess, order: DrainOrder): void {
    if (!worker.alive) return
    const first = worker.moveTo(WorkerState.Draining)
    worker.drainingSinceMs ??= this.#host.nowMs()
    worker.drainEndsAtMs = Math.min(worker.drainEndsAtMs ?? Number.POSITIVE_INFINITY, this.#host.nowMs() + order.endAfterMs)
    worker.drainOrder = order
    const leftMs = worker.drainEndsAtMs - this.#host.nowMs()
    void this.#askOrKill(worker, { tag: 'drain', order: { ...order, endAfterMs: Math.max(0, leftMs) } }, this.#options.ackTimeoutMs)
    this.#guardDrain(worker)
    if (first && order.mode === 'retire') this.#limitDraining(this.slots[worker.slot]!)
    this.#setup.onChange()
  }

  #guardDrain(worker: WorkerProcess): void {
    worker.setTimer(this.#host.after(Math.max(0, worker.drainEndsAtMs! - this.#host.nowMs()) + DRAIN_GRACE_MS, () => {
      this.#log.warn(`worker ${worker.id} outlived its drain deadline and is killed`)
      this.#kill(worker, 'SIGKILL')
    }))
  }

  async #replace(slot: WorkerSlot): Promise<void> {
    let reason = ''
    slot.replacing = true
    try {
      for (let attempt = 1; attempt <= REPLACE_ATTEMPTS; attempt++) {
        // One that is just starting is new enough, but whoever asked wants one that is newer.
        if (slot.current !== null && slot.current.state < WorkerState.Accepting) await slot.current.accepting.catch(() => {})
        if (this.#stopping) throw new Refused('the server is stopping')
        slot.clearRestart()
        const incoming = this.#fork(slot, this.#generation)
        slot.incoming = incoming
        try {
          await incoming.accepting
          return
        } catch (error) {
          reason = error instanceof Error ? error.message : String(error)
          this.#log.warn(`replacement ${incoming.id} for slot ${slot.index} failed`, { attempt, reason, stack: incoming.failure?.stack })
        }
      }
    } finally {
      slot.replacing = false
      if (slot.current === null && slot.incoming === null) this.#restartLater(slot)
    }
    throw new Refused(`slot ${slot.index}: the replacement failed ${REPLACE_ATTEMPTS} times, the worker before it serves on: ${reason}`)
  }

  #onGone(worker: WorkerProcess, report: ExitReport): void {
    const { state } = worker
    const slot = this.slots[worker.slot]!
    if (!worker.markGone(report)) return
    const nowMs = this.#host.nowMs()
    const reason = worker.endReason(report)
    this.#buried.exchanges += worker.open.exchanges
    this.#buried.ownFaults += worker.open.ownFaults
    for (const other of this.slots) if (other.standIn === worker) other.standIn = null
    slot.draining.delete(worker)
    if (slot.incoming === worker) slot.incoming = null
    if (slot.current === worker) slot.current = null
    if (slot.previous === worker) slot.previous = null
    if (!this.#settled) { this.#onCameBack(); return }
    this.#forgetGenerations()
    this.#reconcile()

    if (state === WorkerState.Draining || worker.retiring || worker.soleHolder) {
      this.#log.info(`worker ${worker.id} is gone`, { workerPid: worker.pid, cut: worker.cut, ...(report.code === 0 || (report.code === null && report.signal === null) ? {} : { reason }) })
    } else if (!this.#stopping) {
      slot.recordDeath({ acceptingSinceMs: worker.acceptingSinceMs, diedAtMs: nowMs })
      slot.restarts++
      if (!this.#everReady) {
        this.#deathsBeforeReady++
        if (startFailed(this.#deathsBeforeReady, this.#options.restart)) {
          this.#started.reject(new StartFailed(reason, worker.failure?.stack ?? ''))
          this.force()
          return
        }
      } else {
        this.#log.error(`worker ${worker.id} died: ${reason}`, { workerPid: worker.pid, code: report.code, signal: report.signal, ...(state < WorkerState.Accepting && worker.failure !== null ? { stack: worker.failure.stack } : {}) })
      }
      // One that can take its place back is the way back of an upgrade, which has seen the death as well.
      if (slot.current === null && slot.incoming === null && slot.previous === null && !slot.replacing && !slot.surplus) this.#restartLater(slot)
    }
    this.#setup.onChange()
  }

  #restartLater(slot: WorkerSlot, waitMs = restartDelayMs(slot.history, this.#options.restart, this.#host.random())): void {
    // A slot that only the generation on trial has is its own affair: workers of the committed one have no sockets for it.
    if (this.#stopping || slot.cancelRestart !== null || slot.index >= this.#generation.workers) return
    slot.cancelRestart = this.#host.after(waitMs, () => {
      slot.cancelRestart = null
      if (slot.current !== null || slot.incoming !== null || slot.surplus || slot.replacing || this.#stopping) return
      if (this.#frozen) { this.#restartLater(slot, FROZEN_RETRY_MS); return }
      try {
        slot.current = this.#fork(slot, this.#generation)
      } catch (error) {
        // One of its sockets is gone.
        this.#log.error(`slot ${slot.index} cannot be given a worker`, { error })
        this.#restartLater(slot)
      }
    })
  }

  /** Gives every slot that has a queue somebody who accepts, and takes stand-ins back once they are not needed. */
  #reconcile(): void {
    if (this.#stopping || !this.#settled || !this.#hasOwnSockets()) return
    for (const slot of this.slots) {
      if (slot.standIn !== null && (slot.standIn.state !== WorkerState.Accepting || this.isSilent(slot.standIn))) {
        slot.standIn.link?.send({ tag: 'step-back', slot: slot.index })
        slot.standIn = null
      }
      if (this.#serves(slot.current)) {
        slot.standIn?.link?.send({ tag: 'step-back', slot: slot.index })
        slot.standIn = null
        this.#releaseOthers(slot)
      } else if (slot.hasQueue && slot.standIn === null) {
        void this.#findStandIn(slot)
      } else if (slot.asking === null && this.#serves(slot.standIn)) {
        this.#releaseOthers(slot)
      }
    }
  }

  /** Whoever may accept for a slot without our knowing. */
  #releaseOthers(slot: WorkerSlot): void {
    if (!slot.unsure) return
    slot.unsure = false
    for (const worker of this.workers()) if (worker.slot !== slot.index && worker !== slot.standIn && !worker.soleHolder) worker.link?.send({ tag: 'step-back', slot: slot.index })
  }

  /** @returns whether a sibling accepts for the slot now. */
  #findStandIn(slot: WorkerSlot): Promise<boolean> {
    if (slot.asking === null && this.#serves(slot.standIn)) return Promise.resolve(true)
    return slot.asking ??= this.#askToStandIn(slot).finally(() => { slot.asking = null })
  }

  async #askToStandIn(slot: WorkerSlot): Promise<boolean> {
    const load = (worker: WorkerProcess): number => this.slots.filter(other => other.standIn === worker).length
    const siblings = this.slots.flatMap(({ current }) => current !== null && current.slot !== slot.index && this.#serves(current) && slot.index < current.slotsHeld ? [current] : [])
    const sibling = siblings.sort((a, b) => load(a) - load(b))[0]
    if (sibling === undefined) return false
    slot.standIn = sibling
    this.#setup.onChange()
    try {
      await sibling.link!.ask({ tag: 'stand-in', slot: slot.index }, this.#options.ackTimeoutMs)
      this.#log.info(`worker ${sibling.id} accepts for slot ${slot.index} as well`)
      if (slot.standIn === sibling) this.#releaseOthers(slot)
      return true
    } catch (error) {
      // The next tick looks for another one. This one may have obeyed all the same.
      if (slot.standIn === sibling) slot.standIn = null
      slot.unsure = true
      this.#log.warn(`worker ${sibling.id} could not stand in for slot ${slot.index}`, { error })
      return false
    }
  }

  #serves(worker: WorkerProcess | null): boolean {
    return worker !== null && worker.state === WorkerState.Accepting && worker.link !== null && !worker.aborted && !this.isSilent(worker)
  }

  /** One that was told to report less often, by an earlier configuration, is given as much more time. */
  #slowness(worker: WorkerProcess): number { return Math.max(1, worker.heartbeatMs / this.#options.heartbeatMs) }

  /** Nothing was heard of it for so long that siblings stand in. */
  isSilent(worker: WorkerProcess): boolean {
    return worker.silentTicks * this.#options.heartbeatMs >= this.#options.standInAfterSilenceMs * this.#slowness(worker)
  }

  /** Silence is counted in our own ticks: a machine that slept has not made anyone silent. */
  #tick(): void {
    const { heartbeatMs, abortAfterSilenceMs, killAfterAbortMs } = this.#options
    for (const worker of this.workers()) {
      // Its own deadline watches over a start.
      if (worker.state === WorkerState.Starting) continue
      const wasSilent = this.isSilent(worker)
      worker.silentTicks++
      if (!wasSilent && this.isSilent(worker)) this.#log.warn(`worker ${worker.id} has been silent for ${worker.silentTicks * heartbeatMs} ms`)
      if (!worker.aborted && worker.silentTicks * heartbeatMs >= abortAfterSilenceMs * this.#slowness(worker)) {
        worker.failure ??= { message: `silent for ${worker.silentTicks * heartbeatMs} ms`, stack: '' }
        this.#kill(worker, 'SIGABRT')
        // A stopped process takes no SIGABRT.
        this.#host.after(killAfterAbortMs, () => this.#kill(worker, 'SIGKILL'))
      }
    }
    this.#reconcile()
    void this.#dissolve()
    this.#widenNarrow()
  }

  /**
   * Workers that alone hold some sockets end together: as long as one of them has a descriptor, the kernel queues
   * connections there. The last one accepts from all of these queues, then empties and closes them; the sockets that were
   * bound beside have taken over by then.
   */
  async #dissolve(): Promise<void> {
    const holders = [...this.workers()].filter(worker => worker.soleHolder && worker.alive && worker.state !== WorkerState.Draining)
    // Who is silent is heard of again, or killed.
    if (holders.length === 0 || this.#dissolving || this.#stopping || holders.some(worker => worker.link === null || worker.aborted || this.isSilent(worker))) return
    if (!this.slots.every(slot => !slot.hasQueue || this.#serves(slot.current) || (slot.asking === null && this.#serves(slot.standIn)))) return
    this.#dissolving = true
    try {
      const last = holders.sort((a, b) => b.slotsHeld - a.slotsHeld || SUITABLE.indexOf(b.state) - SUITABLE.indexOf(a.state))[0]!
      const queues = this.slots.filter(slot => slot.hasQueue && slot.index !== last.slot && slot.index < last.slotsHeld)
      const orders: ToWorker[] = [{ tag: 'accept' }, ...queues.map(slot => ({ tag: 'stand-in' as const, slot: slot.index }))]
      try {
        await Promise.all(orders.map(order => last.link!.ask(order, this.#options.ackTimeoutMs)))
        await Promise.all(holders.map(worker => worker === last ? null : this.#emptyThenDrain(this.slots[worker.slot]!, worker)))
      } catch (error) {
        // Out of reach for the moment: the next tick tries again, with whoever is left.
        if (!(error instanceof ChannelError) || error.code === 'closed' || error.code === 'timeout') return
        // It has closed them already, or cannot be helped: the others go on without it.
      }
      await this.#emptyThenDrain(this.slots[last.slot]!, last)
    } finally {
      this.#dissolving = false
    }
  }

  /** After a roll-back a worker may serve that has not the sockets of every slot with a queue: one that has them replaces it, as soon as one comes up. */
  #widenNarrow(): void {
    const [slot] = this.slots
    const nowMs = this.#host.nowMs()
    if (this.#stopping || this.#operationName !== '' || slot?.current?.state !== WorkerState.Accepting || slot.current.slotsHeld >= this.#reach() || nowMs < this.#widenAtMs) return
    this.#widenAtMs = nowMs + restartDelayMs(slot.history, this.#options.restart, this.#host.random())
    this.restart(String(slot.index)).catch((error: unknown) => this.#log.warn(`slot ${slot.index} needs a worker with more sockets`, { error }))
  }

  #tickLater(): void {
    this.#cancelTick = this.#host.after(this.#options.heartbeatMs, () => {
      this.#tick()
      this.#tickLater()
    })
  }

  /** @returns whether it obeyed; a worker that does not is killed. */
  async #askOrKill(worker: WorkerProcess, order: Parameters<WorkerLink['ask']>[0], timeoutMs: number): Promise<boolean> {
    try {
      if (worker.link === null) throw new ChannelError('closed', `${order.tag}: it is not connected`)
      await worker.link.ask(order, timeoutMs)
      return worker.alive
    } catch (error) {
      // A drain that is answered by the end of the process is a drain.
      if (!worker.alive || (order.tag === 'drain' && error instanceof ChannelError && error.code === 'closed' && worker.link === null)) return false
      const message = error instanceof Error ? error.message : String(error)
      this.#log.warn(`worker ${worker.id} did not obey and is killed`, { order: order.tag, reason: message })
      worker.failure ??= { message: `did not obey '${order.tag}': ${message}`, stack: '' }
      this.#kill(worker, 'SIGKILL')
      return false
    }
  }

  #kill(worker: WorkerProcess, signal: NodeJS.Signals): void {
    if (!worker.alive) return
    worker.aborted = true
    this.#host.kill(worker.pid, signal)
  }

  #retireOrder(): DrainOrder {
    const { hardDrainMs, idleDrainMs, closeSpreadMs, webSocketDrainMs, tunnelDrainMs, softDrainMs } = this.#options.drain
    return { mode: 'retire', hardDrainMs, idleDrainMs, closeSpreadMs, webSocketDrainMs, tunnelDrainMs, softDrainMs, endAfterMs: Math.max(hardDrainMs, Math.max(webSocketDrainMs, tunnelDrainMs, idleDrainMs) + closeSpreadMs) + TUNNEL_CLOSE_MS + DRAIN_GRACE_MS }
  }

  #stopOrder(capMs: number): DrainOrder {
    const { hardDrainMs, idleDrainMs, closeSpreadMs, webSocketDrainMs, tunnelDrainMs, softDrainMs } = this.#options.drain
    const cap = (ms: number): number => Math.min(ms, capMs)
    return { mode: 'stop', hardDrainMs: cap(hardDrainMs), idleDrainMs: cap(idleDrainMs), closeSpreadMs: cap(closeSpreadMs), webSocketDrainMs: cap(webSocketDrainMs), tunnelDrainMs: cap(tunnelDrainMs), softDrainMs, endAfterMs: capMs }
  }

  #find(id: string): WorkerProcess | null {
    for (const worker of this.workers()) if (worker.id === id) return worker
    return null
  }

  #pick(which: string): readonly WorkerSlot[] {
    if (this.#stopping) throw new Refused('the server is stopping')
    if (which === '') return this.slots
    const slot = /^\d+$/.test(which) ? this.slots[Number(which)] : this.slots.find(other => other.current?.id === which)
    if (slot === undefined) throw new Refused(`there is no worker '${which}'; \`cirque workers ls\` lists them`)
    return [slot]
  }
}

/** Names of listeners whose address another generation does not have; what it calls them does not matter. */
function goneListeners(of: Generation, inOther: Generation): string[] {
  const there = new Set(inOther.description.listeners.map(listener => listener.canonical))
  return of.description.listeners.flatMap(({ name, canonical }) => there.has(canonical) ? [] : [name])
}

function sameSecret(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
