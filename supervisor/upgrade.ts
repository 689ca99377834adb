/**
 * From one generation to the next, and back when the next one is no good: `upgrade`, `rollback` and `reload` are one
 * machine that differs only in what it prepares. One runs at a time.
 *
 *   preflight --> canary --> soak --> rolling --> [supervisor] --> committing --> committed
 *      |            |          |         |             |               |
 *      v            +----------+---------+-------------+---------------+--> reverting --> rolled-back (or superseded)
 *   refused                                            |
 *                                                      +-- execve: the next image resumes here, or the trampoline brings
 *                                                          this one back, which then reverts
 *
 * Invariants: nothing is touched before preflight has passed; until `committing` every old worker can take its place
 * back; `current` moves only in `committing`; every request gets exactly one outcome, also across an exec or a kill.
 *
 * Before `rolling` a newer request supersedes. From then on one request waits, and the newest wins that place.
 * One idea in more than 500 lines: each step is read beside its ways back.
 */
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import type { OperationKind, OperationOutcome } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { Fleet } from './fleet.ts'
import type { Generation } from './generation.ts'
import { Judge } from './judge.ts'
import type { ProcessHost } from './process-host.ts'
import { applicationStackOf, isConfiguration, Refused } from './refusals.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'

export interface OperationRequest {
  readonly kind: OperationKind
  /** Of the release; '' for the one that runs. */
  readonly folder: string
  readonly supervisor: 'if-changed' | 'always'
  /** How long the first new worker serves alone, in ms. Left out: `upgrade.soak`. */
  readonly soakMs?: number
}

/** Where the operation that runs is, for those who watch it. */
export interface OperationProgress {
  readonly id: string
  readonly kind: OperationKind
  readonly step: string
  /** The steps before, and for how long the one of now has lasted. */
  readonly steps: readonly { readonly step: string; readonly ms: number }[]
  readonly stepMs: number
  /** Of the soak, in ms; null before the release was read. */
  readonly soakMs: number | null
  /** Of the new generation, and workers that it wants; null before the release was read. */
  readonly generation: number | null
  readonly workers: number | null
}

/** What preflight found out: everything that the rest needs, as plain JSON. */
export interface Plan {
  readonly generation: Generation
  readonly options: ResolvedSupervisorOptions
  /** The supervisor's own code or its runtime differs. */
  readonly replaceSupervisor: boolean
  /** Folders. */
  readonly from: string
  readonly to: string
}

/** The world beyond processes, as an operation touches it. */
export interface UpgradeWorld {
  /** The highest number that was ever given to a generation. */
  readonly number: number
  /** In ms since 1970. */
  wallMs(): number
  /** Reads what the next generation is and gives it the next number; binds nothing. @throws Refused, or an error of the configuration. */
  prepare(request: OperationRequest, signal: AbortSignal): Promise<Plan>
  /**
   * Binds the listeners that the plan has and we have not. @returns the plan with its descriptors laid out.
   * @throws when one cannot be bound; nothing is left then.
   */
  bind(plan: Plan): Promise<Plan>
  /**
   * Dials to listeners that this generation does not have get no answer any more: they are refused once `retain` has closed
   * the sockets. The path of a Unix listener goes at once.
   */
  holdOff(generation: Generation): void
  /** Closes the sockets of listeners that this generation does not have. */
  retain(generation: Generation): void
  /** Becomes the plan's own supervisor; does not come back unless that cannot even be tried. @throws */
  replaceSupervisor(plan: Plan): Promise<never>
  /** `current` is the plan's release from now on. @throws when it cannot be moved. */
  flip(plan: Plan): void
  /** Whether `current` is the plan's release; null when there is no such link. */
  flipped(plan: Plan): boolean | null
  /** Writes the journal before anything else happens. @returns false when it could not be written. */
  record(): boolean
  /** An operation is over: told once for each. Writes the journal as well. */
  ended(outcome: OperationOutcome): void
}

/** What the journal keeps of the operation that runs, and of the one that waits. */
export interface OperationRecord {
  readonly id: string
  readonly request: OperationRequest
  readonly step: string
  readonly plan: Plan | null
  readonly steps: readonly { readonly step: string; readonly ms: number }[]
}

export interface UpgradesRecord {
  readonly running: OperationRecord | null
  readonly waiting: { readonly id: string; readonly request: OperationRequest } | null
  readonly outcomes: readonly OperationOutcome[]
  /** The same as `generation` of the journal, for supervisors of releases that look here. */
  readonly lastNumber: number
  readonly lastId: number
  /** Folder of the release before the last committed upgrade; ''. */
  readonly previousFolder: string
}

/** How a supervisor comes to an operation that another image began. */
export type Resumption = { readonly how: 'forward' } | { readonly how: 'back' | 'killed'; readonly reason: string }

/** Outcomes that are remembered for those who ask late. */
const MAX_OUTCOMES = 32
/** A new worker that does not come up is tried this often. */
const BRING_UP_ATTEMPTS = 2

class Superseded extends Error {
  constructor(by: string) {
    super(`superseded by ${by}`)
    this.name = 'Superseded'
  }
}

interface Operation {
  readonly id: string
  readonly request: OperationRequest
  step: string
  plan: Plan | null
  steps: { step: string; ms: number }[]
  stepSinceMs: number
  /** Aborted with the reason when a newer request takes over. */
  readonly superseded: AbortController
  supervisorReplaced: boolean
}

export class Upgrades {
  readonly #fleet: Fleet
  readonly #world: UpgradeWorld
  readonly #host: ProcessHost
  readonly #log: ProcessLog
  #running: Operation | null = null
  #waiting: { id: string; request: OperationRequest } | null = null
  #outcomes: OperationOutcome[] = []
  readonly #waiters = new Map<string, PromiseWithResolvers<OperationOutcome>>()
  #lastId = 0
  #previousFolder = ''

  constructor(fleet: Fleet, world: UpgradeWorld, host: ProcessHost, log: ProcessLog, kept: UpgradesRecord | null = null) {
    this.#fleet = fleet
    this.#world = world
    this.#host = host
    this.#log = log
    this.#lastId = kept?.lastId ?? 0
    this.#previousFolder = kept?.previousFolder ?? ''
    this.#outcomes = [...kept?.outcomes ?? []]
    this.#waiting = kept?.waiting ?? null
    const running = kept?.running ?? null
    if (running !== null) this.#running = { ...this.#fresh(running), ...running, steps: [...running.steps] }
  }

  get step(): string { return this.#running?.step ?? '' }
  get running(): OperationProgress | null {
    const running = this.#running
    if (running === null) return null
    const { id, request, step, steps, stepSinceMs, plan } = running
    return {
      id, kind: request.kind, step, steps, stepMs: Math.round(this.#host.nowMs() - stepSinceMs),
      soakMs: plan === null ? null : soakOf(request, plan),
      generation: plan?.generation.number ?? null, workers: plan?.generation.workers ?? null,
    }
  }
  /** A stack is for those who ask for that one outcome. */
  get outcomes(): readonly OperationOutcome[] { return this.#outcomes.map(({ applicationStack: _, ...outcome }) => outcome) }
  get previousFolder(): string { return this.#previousFolder }

  record(): UpgradesRecord {
    const running = this.#running
    return {
      running: running === null ? null : recordOf(running),
      waiting: this.#waiting,
      outcomes: this.outcomes,
      lastNumber: this.#world.number,
      lastId: this.#lastId,
      previousFolder: this.#previousFolder,
    }
  }

  /** Begins, or waits for its turn. @returns the operation's id. @throws Refused when it could never be done. */
  request(request: OperationRequest): string {
    if (this.#fleet.stopping) throw new Refused('the server is stopping')
    if (request.kind === 'rollback') {
      if (this.#previousFolder === '') {
        throw new Refused('there is no release to go back to: nothing was upgraded to another folder since the start')
      }
      request = { ...request, folder: this.#previousFolder }
    }
    const id = `${request.kind}-${++this.#lastId}`
    this.#log.info(`${id}: asked for${request.folder === '' ? '' : ` ${request.folder}`}`)
    if (this.#running === null) {
      this.#begin({ id, request })
    } else {
      if (this.#waiting !== null) this.#finish(this.#waiting.id, this.#waiting.request, null, 'superseded', `superseded by ${id}`)
      this.#waiting = { id, request }
      if (SUPERSEDABLE.has(this.#running.step)) this.#running.superseded.abort(new Superseded(id))
    }
    this.#world.record()
    return id
  }

  /** Resolves when it has ended. @throws Refused for an id that is not known, or not any more. */
  outcome(id: string): Promise<OperationOutcome> {
    const known = this.#outcomes.find(outcome => outcome.id === id)
    if (known !== undefined) return Promise.resolve(known)
    if (this.#running?.id !== id && this.#waiting?.id !== id) return Promise.reject(new Refused(`there is no operation '${id}'`))
    let waiter = this.#waiters.get(id)
    if (waiter === undefined) this.#waiters.set(id, waiter = Promise.withResolvers())
    return waiter.promise
  }

  /**
   * Goes on with what the journal says was running. @throws when `forward` cannot be committed: the caller goes back to the
   * image before.
   */
  async resume(resumption: Resumption, onCommitted: () => void = () => {}): Promise<void> {
    const operation = this.#running
    if (operation === null) {
      if (this.#fleet.unfinished) {
        await this.#fleet.exclusive('roll-back', () => this.#fleet.revert(this.#fleet.generation))
        this.#world.retain(this.#fleet.generation)
      }
      this.#next()
      return
    }
    const { plan } = operation
    if (resumption.how === 'forward') {
      if (plan === null) throw new Error('the plan of the upgrade was lost')
      operation.supervisorReplaced = true
      this.#checkServing(plan.generation)
      await this.#fleet.selfTest(this.#fleet.slots[0]!.current!)
      this.#checkGoingOn(operation)
      this.#checkServing(plan.generation)
      this.#decide(operation, plan)
      onCommitted()
      await this.#fleet.exclusive(operation.id, () => this.#committed(operation, plan))
      return
    }
    await this.#fleet.exclusive(operation.id, async () => {
      if (plan === null) {
        // Nothing had been touched, but workers may have died since.
        await this.#fleet.revert(this.#fleet.generation)
        this.#finish(operation.id, operation.request, operation, 'refused', resumption.reason)
      } else if (resumption.how === 'killed' && this.#wasDecided(operation, plan)) {
        // The decision had been made; what followed had not.
        await this.#committed(operation, plan)
      } else {
        await this.#goBack(operation)
        this.#finish(operation.id, operation.request, operation, 'rolled-back', resumption.reason)
      }
    })
  }

  #wasDecided({ step }: Operation, plan: Plan): boolean {
    return step === 'committed' || (step === 'committing' && this.#world.flipped(plan) !== false)
  }

  /**
   * What runs or waits comes to its end here: the server stops, or nothing is left of what the operation was about.
   * @returns what the next supervisor has to know.
   */
  giveUp(reason: string): UpgradesRecord {
    const [waiting, running] = [this.#waiting, this.#running]
    this.#waiting = null
    if (waiting !== null) this.#finish(waiting.id, waiting.request, null, 'refused', reason)
    if (running !== null) {
      const result = running.step === 'committed' ? 'committed' : running.plan === null ? 'refused' : 'rolled-back'
      this.#finish(running.id, running.request, running, result, result === 'committed' ? '' : reason)
    }
    return this.record()
  }

  #begin({ id, request }: { id: string; request: OperationRequest }): void {
    const operation = this.#fresh({ id, request })
    this.#running = operation
    void this.#fleet.exclusive(id, () => this.#run(operation))
  }

  #fresh({ id, request }: Pick<Operation, 'id' | 'request'>): Operation {
    return {
      id, request, step: 'waiting', plan: null, steps: [], stepSinceMs: this.#host.nowMs(),
      superseded: new AbortController(), supervisorReplaced: false,
    }
  }

  async #run(operation: Operation): Promise<void> {
    const { id, request } = operation
    try {
      this.#checkGoingOn(operation)
      this.#stepTo(operation, 'preflight')
      const plan = await this.#world.prepare(request, operation.superseded.signal)
      this.#checkGoingOn(operation)
      operation.plan = await this.#world.bind(plan)
    } catch (error) {
      const superseded = error instanceof Superseded || operation.superseded.signal.aborted
      this.#finish(id, request, operation, superseded ? 'superseded' : 'refused', reasonOf(operation, error), error)
      return
    }
    const { plan } = operation
    try {
      this.#fleet.expect(plan.generation, plan.options)
      await this.#trial(operation, plan)
      if (this.#fleet.stopping) throw new Refused('the server is stopping')
      this.#checkServing(plan.generation)
      this.#decide(operation, plan)
    } catch (error) {
      const reason = reasonOf(operation, error)
      this.#log.error(`${id}: going back: ${reason}`)
      await this.#goBack(operation)
      this.#finish(id, request, operation, error instanceof Superseded ? 'superseded' : 'rolled-back', reason, error)
      return
    }
    await this.#committed(operation, plan)
  }

  async #trial(operation: Operation, plan: Plan): Promise<void> {
    const { generation, options } = plan
    const slots = this.#fleet.slots.filter(slot => slot.index < generation.workers)
    const judge = new Judge(this.#fleet, generation.number, options.upgrade)
    this.#stepTo(operation, 'canary')
    await this.#bringUp(operation, slots[0]!, generation, true)
    this.#stepTo(operation, 'soak')
    for (const untilMs = this.#host.nowMs() + soakOf(operation.request, plan); this.#host.nowMs() < untilMs;) {
      await this.#wait(Math.min(options.heartbeatMs, untilMs - this.#host.nowMs()), operation, [slots[0]!.current])
      judge.check()
    }
    this.#stepTo(operation, 'rolling')
    for (const slot of slots.slice(1)) {
      await this.#bringUp(operation, slot, generation, false)
      judge.check()
    }
    for (const slot of this.#fleet.slots) if (slot.index >= generation.workers && !slot.surplus) await this.#fleet.vacate(slot)
    judge.check()
    if (plan.replaceSupervisor) {
      // The next image would not know of a stop.
      if (this.#fleet.stopping) throw new Refused('the server is stopping')
      this.#stepTo(operation, 'supervisor')
      await this.#world.replaceSupervisor(plan)
    }
  }

  /** A new worker accepts in a slot, having shown that it works. */
  async #bringUp(operation: Operation, slot: WorkerSlot, generation: Generation, canary: boolean): Promise<void> {
    const worker = await this.#introduce(operation, slot, generation)
    const detail = await this.#fleet.selfTest(worker)
    if (canary) {
      this.#log.info(`${operation.id}: worker ${worker.id} passed its self-test: ${detail}`)
      // One that ends by itself right after it was ready shall not take a connection with it.
      await this.#wait(this.#fleet.options.heartbeatMs, operation, [worker])
    }
    this.#checkGoingOn(operation)
    await this.#fleet.takeOver(slot)
  }

  async #introduce(operation: Operation, slot: WorkerSlot, generation: Generation): Promise<WorkerProcess> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#fleet.introduce(slot, generation)
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        this.#log.warn(`${operation.id}: a new worker for slot ${slot.index} did not come up`, { attempt, reason })
        const last = error instanceof Refused || attempt === BRING_UP_ATTEMPTS
        if (last) throw new Refused(`no new worker came up in slot ${slot.index}: ${reason}`, applicationStackOf(error))
        this.#checkGoingOn(operation)
      }
    }
  }

  /** Waits, unless one of the workers ends or a newer request takes over before. @throws with why */
  async #wait(ms: number, operation: Operation, workers: readonly (WorkerProcess | null)[]): Promise<void> {
    const stopped = Promise.withResolvers<never>()
    const { signal } = operation.superseded
    const onAbort = (): void => { stopped.reject(signal.reason as Error) }
    signal.addEventListener('abort', onAbort, { once: true })
    const elapsed = Promise.withResolvers<void>()
    const cancel = this.#host.after(ms, elapsed.resolve)
    try {
      this.#checkGoingOn(operation)
      await Promise.race([elapsed.promise, stopped.promise, ...workers.map(async worker => {
        if (worker === null) throw new Refused('a new worker died')
        throw new Refused(`worker ${worker.id} died: ${await worker.lost}`, worker.failure?.stack)
      })])
    } finally {
      cancel()
      signal.removeEventListener('abort', onAbort)
    }
  }

  #checkGoingOn(operation: Operation): void {
    if (this.#fleet.stopping) throw new Refused('the server is stopping')
    if (operation.superseded.signal.aborted) throw operation.superseded.signal.reason
  }

  /** @throws unless a new worker accepts in every slot that wants one. */
  #checkServing(generation: Generation): void {
    for (const slot of this.#fleet.slots) {
      if (slot.index >= generation.workers) continue
      const { current } = slot
      const accepts = current !== null && current.state === WorkerState.Accepting && current.link !== null
      if (!accepts || current.generation !== generation.number) throw new Refused(`slot ${slot.index} has no new worker that accepts`)
    }
  }

  async #goBack(operation: Operation): Promise<void> {
    this.#stepTo(operation, 'reverting')
    if (!this.#fleet.stopping) await this.#fleet.revert(this.#fleet.generation)
    this.#world.retain(this.#fleet.generation)
  }

  async #committed(operation: Operation, plan: Plan): Promise<void> {
    if (plan.from !== plan.to) this.#previousFolder = plan.from
    this.#world.holdOff(plan.generation)
    const emptied = this.#fleet.commit(plan.generation)
    operation.step = 'committed'
    this.#world.record()
    await emptied
    this.#world.retain(plan.generation)
    this.#finish(operation.id, operation.request, operation, 'committed', '')
  }

  /** There is no way back from here. @throws Refused when a supervisor after a crash could not know of it */
  #decide(operation: Operation, plan: Plan): void {
    if (!this.#stepTo(operation, 'committing')) throw new Refused('the journal cannot be written, so the decision could not be kept')
    this.#world.flip(plan)
  }

  /** @returns whether it is in the journal. */
  #stepTo(operation: Operation, step: string): boolean {
    const nowMs = this.#host.nowMs()
    if (operation.step !== 'waiting') operation.steps.push({ step: operation.step, ms: Math.round(nowMs - operation.stepSinceMs) })
    operation.step = step
    operation.stepSinceMs = nowMs
    this.#log.info(`${operation.id}: ${step}`)
    return this.#world.record()
  }

  #finish(
    id: string, request: OperationRequest, operation: Operation | null,
    result: OperationOutcome['result'], reason: string, error: unknown = null,
  ): void {
    // Given up meanwhile: its outcome has been told.
    if (this.#outcomes.some(outcome => outcome.id === id)) return
    const here = this.#fleet.generation.release.folder
    const outcome: OperationOutcome = {
      id, kind: request.kind, result, reason, applicationStack: applicationStackOf(error), configuration: isConfiguration(error),
      from: operation?.plan?.from ?? here,
      to: operation?.plan?.to ?? (request.folder === '' ? here : request.folder),
      generation: this.#fleet.generation.number,
      supervisorReplaced: operation?.supervisorReplaced ?? false,
      steps: operation?.steps ?? [],
      endedAt: this.#world.wallMs(),
    }
    if (result === 'committed') this.#log.info(`${id}: committed, generation ${outcome.generation}`)
    else this.#log.error(`${id}: ${result}: ${reason}`)
    this.#outcomes = [...this.#outcomes, outcome].slice(-MAX_OUTCOMES)
    if (operation !== null) this.#running = null
    this.#world.ended(outcome)
    this.#waiters.get(id)?.resolve(outcome)
    this.#waiters.delete(id)
    if (operation !== null) this.#next()
  }

  #next(): void {
    const next = this.#waiting
    if (next === null || this.#running !== null) return
    this.#waiting = null
    if (this.#fleet.stopping) this.#finish(next.id, next.request, null, 'refused', 'the server is stopping')
    else this.#begin(next)
  }
}

/** Steps in which a newer request need not wait. */
const SUPERSEDABLE: ReadonlySet<string> = new Set(['waiting', 'preflight', 'canary', 'soak'])

function reasonOf(operation: Operation, error: unknown): string {
  const { signal } = operation.superseded
  const said = signal.aborted && (error as { name?: unknown } | null)?.name === 'AbortError' ? signal.reason as unknown : error
  return said instanceof Error ? said.message : String(said)
}

function soakOf({ soakMs }: OperationRequest, { options }: Plan): number { return soakMs ?? options.upgrade.soakMs }

/** What the journal keeps of it. */
function recordOf({ id, request, step, plan, steps }: Operation): OperationRecord { return { id, request, step, plan, steps } }
