/**
 * What all rooms of the fleet know: the slots and who lives in them, the generations that have a living worker, the
 * options of the committed one, and how far the fleet itself is.
 *
 *   Running -----------stop, force, abandon--> Stopping
 *      ^                                          ^
 *      settle                                     settle
 *      |                                          |
 *   Restored ----------stop, force, abandon--> GivenUp
 *
 * Restored: the workers of an earlier supervisor, of which some have still to say hello; nothing is reconciled before
 * `settle`. GivenUp: it was ended before that.
 *
 * Only keeps and answers; orders nothing.
 */
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { doneOf, NOTHING_DONE, sumCounts, type DoneCounts } from '../src/ipc/open-counts.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { Incident } from './error-reports.ts'
import type { Generation } from './generation.ts'
import type { MetricLedger } from './metric-ledger.ts'
import type { ProcessHost } from './process-host.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'
import { WorkerSlot } from './worker-slot.ts'
import type { SlotRecord } from './worker-slot.ts'

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
  readonly ledger: MetricLedger
  /** Something that status, journal or readiness may show has changed. */
  readonly onChange: () => void
  /** Something has gone wrong that somebody must mend. Nothing comes back. */
  readonly onIncident: (incident: Incident) => void
}

/** What the journal keeps of the fleet. */
export interface FleetRecord {
  /** Number of the generation that is committed. */
  readonly committed: number
  /** All that have a living worker, and the committed one. */
  readonly generations: readonly Generation[]
  readonly slots: readonly SlotRecord[]
  readonly buried: DoneCounts
}

const TICKS_A_HEARTBEAT = 4
/** So many times the silence after which a sibling stands in. */
const HANG_FACTOR = 4

/** A worker that has been starting for longer is not relied on any more, in ms. Most take less than a second. */
const SLOW_START_MS = 3_000

export const FleetState = { Restored: 0, Running: 1, Stopping: 2, GivenUp: 3 } as const
export type FleetState = (typeof FleetState)[keyof typeof FleetState]

const MOVES: Readonly<Record<FleetState, readonly FleetState[]>> = {
  [FleetState.Restored]: [FleetState.Running, FleetState.GivenUp],
  [FleetState.Running]: [FleetState.Stopping],
  [FleetState.Stopping]: [],
  [FleetState.GivenUp]: [FleetState.Stopping],
}

export class Roster {
  readonly setup: FleetSetup
  readonly host: ProcessHost
  readonly log: ProcessLog
  state: FleetState
  slots: readonly WorkerSlot[]
  /** The committed one. */
  generation: Generation
  /** What is being done for an operator; '' when nothing is. */
  operationName = ''
  /** Requests and faults of workers that are gone, so that totals do not go backwards. */
  buried = NOTHING_DONE
  /** By number: the committed one, the one on trial, and those that still have workers. */
  readonly #generations = new Map<number, Generation>()
  /** Number of the generation on trial, which may be without a worker at times; 0: there is none. */
  #expected = 0
  /** The generation that was on trial last; its workers are told its options, also when they are on their way out. */
  #trial: { readonly number: number; readonly options: ResolvedSupervisorOptions } | null = null

  constructor(setup: FleetSetup, record: FleetRecord | null) {
    this.setup = setup
    this.host = setup.host
    this.log = setup.log
    this.generation = setup.generation
    this.#generations.set(setup.generation.number, setup.generation)
    if (record === null) {
      const { layout, workers } = setup.generation
      this.state = FleetState.Running
      this.slots = Array.from({ length: layout.slots }, (_, index) => new WorkerSlot(index, index >= workers))
    } else {
      this.state = FleetState.Restored
      this.slots = record.slots.map((kept, index) => WorkerSlot.restore(kept, index))
      // A build before ours may have counted less.
      this.buried = { ...NOTHING_DONE, ...record.buried }
      for (const generation of record.generations) this.#generations.set(generation.number, generation)
    }
  }

  /** @param ageShiftMs what to add to the monotonic clock to get to the wall clock. */
  record(ageShiftMs: number): FleetRecord {
    return {
      committed: this.generation.number,
      generations: [...this.#generations.values()],
      slots: this.slots.map(slot => slot.record(ageShiftMs)),
      buried: this.buried,
    }
  }

  /** A worker is gone: what it had counted stays. */
  bury({ id, open }: WorkerProcess): void {
    this.buried = doneOf(sumCounts([this.buried, open]))
    this.setup.ledger.fold(id)
  }

  /** Of the committed generation. */
  get options(): ResolvedSupervisorOptions { return this.setup.options }

  // ---- how far the fleet is

  get settled(): boolean { return this.state === FleetState.Running || this.state === FleetState.Stopping }
  get stopping(): boolean { return this.state === FleetState.Stopping || this.state === FleetState.GivenUp }

  /** All that will be known of restored workers is known. */
  settle(): void { this.#moveTo(this.state === FleetState.GivenUp ? FleetState.Stopping : FleetState.Running) }

  /** No worker is started any more. */
  end(): void { if (!this.stopping) this.#moveTo(this.settled ? FleetState.Stopping : FleetState.GivenUp) }

  /** @returns false when the move is not one of the drawing. */
  #moveTo(to: FleetState): boolean {
    if (!MOVES[this.state].includes(to)) return false
    this.state = to
    return true
  }

  // ---- slots and workers

  *workers(): Generator<WorkerProcess> { for (const slot of this.slots) yield* slot.workers() }

  find(id: string): WorkerProcess | null {
    for (const worker of this.workers()) if (worker.id === id) return worker
    return null
  }

  slotOf(worker: WorkerProcess): WorkerSlot { return this.slots[worker.slot]! }

  /** More slots for a generation, all of them surplus until one of its workers takes over. */
  extend(slots: number): void {
    const fresh: WorkerSlot[] = []
    for (let index = this.slots.length; index < slots; index++) fresh.push(new WorkerSlot(index, true))
    if (fresh.length > 0) this.slots = [...this.slots, ...fresh]
  }

  /** It accepts, can be told, and was heard of lately. */
  serves(worker: WorkerProcess | null): worker is WorkerProcess {
    return worker !== null && worker.state === WorkerState.Accepting && this.answers(worker)
  }

  /** It can be told, and was heard of lately. */
  answers(worker: WorkerProcess): boolean { return worker.link !== null && worker.fatalSignal === null && !this.isSilent(worker) }

  /** A worker accepts, or comes up and will, or has paused and can be told to go on. */
  someoneServes(): boolean {
    return this.slots.some(({ current, incoming, previous }) => [current, incoming, previous].some(worker => this.#promises(worker)))
  }

  /** A worker serves that has accepted since then, or longer. */
  someoneServesSince(sinceMs: number): boolean {
    return this.slots.some(({ current }) => this.serves(current) && !isFresh(current, sinceMs))
  }

  /** So many workers are about to serve, or began to after that. */
  freshWorkers(sinceMs: number): number {
    const places = this.slots.flatMap(({ current, incoming }) => [current, incoming])
    return places.filter(worker => this.#promises(worker) && isFresh(worker!, sinceMs)).length
  }

  #promises(worker: WorkerProcess | null): boolean {
    if (worker === null || worker.fatalSignal !== null) return false
    if (worker.state === WorkerState.Starting) return this.host.nowMs() - worker.startedAtMs < SLOW_START_MS
    return worker.alive && worker.state !== WorkerState.Draining && !this.isSilent(worker)
  }

  /** Nothing was heard of it for so long that siblings stand in. */
  isSilent(worker: WorkerProcess): boolean {
    return this.silenceMs(worker) >= this.options.standInAfterSilenceMs * this.slowness(worker)
  }

  /** Silent for so long that a moment in which the machine was busy is not why. */
  hangs(worker: WorkerProcess): boolean {
    return this.silenceMs(worker) >= HANG_FACTOR * this.options.standInAfterSilenceMs * this.slowness(worker)
  }

  /** In ms of the supervisor's ticks: a machine that slept has not made a worker silent. */
  silenceMs(worker: WorkerProcess): number { return worker.silentTicks * this.tickMs }

  /**
   * The supervisor looks more often than workers report, so that silence is seen soon after it is one: a report that comes a
   * moment late is none.
   */
  get tickMs(): number { return this.options.heartbeatMs / TICKS_A_HEARTBEAT }

  /** A worker that was told to report less often, by an earlier configuration, is given as much more time. */
  slowness(worker: WorkerProcess): number { return Math.max(1, worker.heartbeatMs / this.options.heartbeatMs) }

  /** For every slot but the worker's own: it may accept there without our knowing. */
  suspectStray(worker: WorkerProcess): void { for (const slot of this.slots) if (slot.index !== worker.slot) slot.standIn.strays = true }

  /** So many slots from the first on have queues of their own. */
  reach(): number { return this.hasOwnSockets() ? this.slots.findLastIndex(slot => slot.hasQueue) + 1 : 0 }

  /** Each slot has a socket of its own at some address; otherwise all workers share every queue. */
  hasOwnSockets(): boolean { return this.generation.layout.listeners.some(listener => !listener.shared) }

  // ---- generations

  /** What a worker is told: the options of its own generation, if that is on trial. */
  optionsOf(worker: WorkerProcess): ResolvedSupervisorOptions {
    return this.#trial?.number === worker.generation ? this.#trial.options : this.options
  }

  generationOf(worker: WorkerProcess): Generation { return this.#generations.get(worker.generation) ?? this.generation }

  /** A generation is on trial from now on. */
  expect(generation: Generation, options: ResolvedSupervisorOptions): void {
    this.#trial = { number: generation.number, options }
    this.#expected = generation.number
    this.#generations.set(generation.number, generation)
  }

  /** No generation is on trial any more. */
  expectNone(): void { this.#expected = 0 }

  /** The generation on trial is the one. */
  commit(generation: Generation): void {
    this.generation = generation
    this.#generations.set(generation.number, generation)
    this.#expected = 0
    this.#trial = null
  }

  /** The same generation with another layout. */
  replaceGeneration(generation: Generation): void {
    this.#generations.set(generation.number, generation)
    if (generation.number === this.generation.number) this.generation = generation
  }

  /** Generations without a living worker are no longer kept. */
  forgetGenerations(): void {
    const kept = new Set([this.generation.number, this.#expected])
    for (const worker of this.workers()) kept.add(worker.generation)
    for (const number of this.#generations.keys()) if (!kept.has(number)) this.#generations.delete(number)
  }
}

/** One of an earlier supervisor may accept without our knowing since when: it does for long. */
function isFresh({ coming, acceptingSinceMs }: WorkerProcess, sinceMs: number): boolean {
  return coming || (acceptingSinceMs !== null && acceptingSinceMs > sinceMs)
}
