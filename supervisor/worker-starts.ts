/**
 * Workers come into being here: forked, watched until they are ready, let accept, and forked again after a death, when
 * the restart policy says so.
 *
 *   NoneReady --a worker is ready--> SomeReady --every slot that is wanted has accepted--> Complete
 *      |
 *      +-- so many deaths that another try is pointless: `started` rejects with StartFailed
 *
 * Invariants: a slot is never given up once a worker was ready; at worst it waits for its back-off. While no worker serves or
 * is about to, the slot whose turn is next waits 200 ms at most (`hurry`). Until a worker serves no more of them are started
 * again than there are cores to start on: one more would keep from them what clients wait for (`#startIsCrowded`).
 */
import { randomBytes } from 'node:crypto'
import { FIRST_SOCKET_FD } from '../src/ipc/descriptor-layout.ts'
import { ROLE_VARIABLE } from '../src/ipc/worker-role.ts'
import type { RoleInEnvironment } from '../src/ipc/worker-role.ts'
import type { Generation } from './generation.ts'
import type { ExitReport } from './process-host.ts'
import { StartFailed } from './refusals.ts'
import { lastRestartDelayMs, restartDelayMs, startFailed } from './restart-policy.ts'
import type { Retirement } from './retirement.ts'
import type { Roster } from './roster.ts'
import type { StandIns } from './stand-ins.ts'
import type { WorkerOrders } from './worker-orders.ts'
import { Intent, WorkerProcess, WorkerState } from './worker-process.ts'
import type { WorkerSlot } from './worker-slot.ts'

/** A restart that falls into the replacement of the supervisor, or into a start that clients wait for, waits this much longer, in ms. */
const RETRY_MS = 50
/** A worker that has accepted for no longer reads and compiles what its first requests run, with all that waited in the queues, in ms. */
const FIRST_REQUESTS_MS = 250

export const StartState = { NoneReady: 0, SomeReady: 1, Complete: 2 } as const
export type StartState = (typeof StartState)[keyof typeof StartState]

export class WorkerStarts {
  state: StartState = StartState.NoneReady
  readonly #roster: Roster
  readonly #orders: WorkerOrders
  readonly #standIns: StandIns
  readonly #retirement: Retirement
  readonly #onGone: (worker: WorkerProcess, report: ExitReport) => void
  readonly #started = Promise.withResolvers<void>()
  #deathsBeforeReady = 0
  /** Forks wait: this process is about to be replaced, and a worker that has not started to run our code would die with it. */
  #frozen = false

  constructor(
    roster: Roster, orders: WorkerOrders, standIns: StandIns, retirement: Retirement,
    onGone: (worker: WorkerProcess, report: ExitReport) => void,
  ) {
    this.#roster = roster
    this.#orders = orders
    this.#standIns = standIns
    this.#retirement = retirement
    this.#onGone = onGone
    this.#started.promise.catch(() => {})
  }

  /** Resolves when every slot that is wanted accepts; rejects with StartFailed when no worker was ever ready. */
  get started(): Promise<void> { return this.#started.promise }

  /** An earlier supervisor has done all this. */
  skip(): void {
    this.state = StartState.Complete
    this.#started.resolve()
  }

  forkAll(): void {
    for (const slot of this.#roster.slots) if (!slot.surplus) slot.current = this.fork(slot, this.#roster.generation)
  }

  fork(slot: WorkerSlot, generation: Generation, intent: Intent = Intent.Serve): WorkerProcess {
    const { host, options, setup } = this.#roster
    const { release, layout } = generation
    const worker = new WorkerProcess({
      generation: generation.number, slot: slot.index, n: slot.nextN++, intent,
      token: randomBytes(24).toString('base64url'), startedAtMs: host.nowMs(),
    })
    if (options.metrics) setup.ledger.create(worker.id, generation)
    const descriptors = setup.descriptors(generation)
    const role: RoleInEnvironment = {
      role: 'worker', worker: worker.id, slot: slot.index, tokenFd: FIRST_SOCKET_FD + descriptors.length, layout,
      application: release.application, controlPath: setup.controlPath, maxControlMessageBytes: options.maxControlMessageBytes,
    }
    const { pid } = host.fork({
      node: release.node, exec: release.entries.worker, args: [release.application, ...generation.args], execArgv: generation.execArgv,
      env: { [ROLE_VARIABLE]: JSON.stringify(role) }, descriptors, secret: worker.token,
      uid: generation.uid, gid: generation.gid,
    }, report => this.#onGone(worker, report))
    worker.pid = pid
    worker.slotsHeld = layout.slots
    worker.startTime = host.startTime(pid)
    this.watchStart(worker)
    setup.onChange()
    return worker
  }

  /** A worker that an earlier supervisor forked: its end is told as that of our own. */
  watchAdopted(worker: WorkerProcess): void {
    this.#roster.host.adopt(worker.pid, worker.startTime, report => this.#onGone(worker, report))
  }

  watchStart(worker: WorkerProcess): void {
    const { readyTimeoutMs } = this.#roster.options
    worker.setTimer(this.#roster.host.after(readyTimeoutMs, () => {
      if (worker.state !== WorkerState.Starting) return
      const message = `not ready within ${readyTimeoutMs} ms; does the application reach server.runForever()?`
      worker.failure ??= { how: 'not ready', message, stack: '' }
      this.#orders.kill(worker, 'SIGKILL')
    }))
  }

  onReady(worker: WorkerProcess): void {
    if (!worker.moveTo(WorkerState.Ready)) return
    worker.clearTimer()
    if (this.state === StartState.NoneReady) this.state = StartState.SomeReady
    if (this.#roster.stopping) { this.#orders.kill(worker, 'SIGKILL'); return }
    if (worker.intent === Intent.Serve) this.letAccept(worker)
  }

  /** It takes its place in its slot once it accepts, or is killed. */
  letAccept(worker: WorkerProcess): void {
    void this.#orders.askOrKill(worker, { tag: 'accept' }).then(accepts => {
      // Otherwise it may have listened before it was given up.
      if (accepts) this.#onAccepting(worker)
      else this.#roster.slotOf(worker).hasQueue = true
    })
    this.#standIns.askAhead(worker)
  }

  /** A slot without a worker gets one when its back-off is over. @param waitMs instead of what the policy says. */
  restartLater(slot: WorkerSlot, waitMs = this.backOffMs(slot)): void {
    const roster = this.#roster
    // A slot that only the generation on trial has is its own affair: workers of the committed one have no sockets for it.
    if (roster.stopping || slot.index >= roster.generation.workers) return
    slot.beginBackOff(roster.host.nowMs() + waitMs, () => roster.host.after(waitMs, () => {
      slot.endBackOff()
      if (!slot.vacant || roster.stopping) return
      if (this.#frozen || this.#startIsCrowded()) { this.restartLater(slot, RETRY_MS); return }
      try {
        slot.current = this.fork(slot, roster.generation)
      } catch (error) {
        // One of its sockets is gone.
        roster.log.error(`slot ${slot.index} cannot be given a worker`, { error })
        slot.recordDeath({ acceptingSinceMs: null, diedAtMs: roster.host.nowMs() })
        this.restartLater(slot)
      }
    }))
    this.hurry()
  }

  /** Called after whatever may have left nobody who serves: a back-off that is too long for that is shortened. */
  hurry(): void {
    const roster = this.#roster
    if (roster.stopping || roster.someoneServes()) return
    const next = roster.slots.filter(slot => slot.backingOff).toSorted((a, b) => a.restartAtMs - b.restartAtMs)[0]
    if (next === undefined) return
    const waitMs = lastRestartDelayMs(next.history, roster.options.restart)
    if (next.restartAtMs <= roster.host.nowMs() + waitMs) return
    next.endBackOff()
    this.restartLater(next, waitMs)
  }

  /**
   * Nobody serves but workers at their first requests, and as many as the machine runs at a time are at those or come up. The
   * first of them stands in for all slots.
   */
  #startIsCrowded(): boolean {
    const roster = this.#roster
    const sinceMs = roster.host.nowMs() - FIRST_REQUESTS_MS
    return !roster.someoneServesSince(sinceMs) && roster.freshWorkers(sinceMs) >= roster.host.cores
  }

  backOffMs(slot: WorkerSlot): number { return restartDelayMs(slot.history, this.#roster.options.restart, this.#roster.host.random()) }

  /** @returns false when it was the last of so many deaths that the first start is given up. */
  survives(worker: WorkerProcess, reason: string): boolean {
    this.#deathsBeforeReady++
    if (!startFailed(this.#deathsBeforeReady, this.#roster.options.restart)) return true
    this.#started.reject(new StartFailed(reason, worker.failure?.stack ?? ''))
    return false
  }

  /** No fork from now on; resolves when every worker runs our code and would outlive us. */
  async freeze(): Promise<void> {
    this.#frozen = true
    for (const worker of this.#roster.workers()) {
      if (worker.state !== WorkerState.Starting || worker.link !== null) continue
      // Nothing is lost with a worker that holds nothing; its slot gets another one afterwards.
      await Promise.race([worker.ready.catch(() => {}), worker.gone])
    }
  }

  thaw(): void { this.#frozen = false }
  get frozen(): boolean { return this.#frozen }

  #onAccepting(worker: WorkerProcess): void {
    const roster = this.#roster
    if (!worker.markAccepting(roster.host.nowMs())) return
    const slot = roster.slotOf(worker)
    slot.hasQueue = true
    if (slot.incoming === worker) {
      const old = slot.current
      slot.current = worker
      slot.incoming = null
      this.#standIns.reconcile()
      if (old !== null) this.#retirement.retire(slot, old)
    }
    this.#standIns.reconcile()
    if (this.state === StartState.SomeReady && roster.slots.every(other => other.hasQueue || other.surplus)) {
      this.state = StartState.Complete
      this.#started.resolve()
    }
    roster.setup.onChange()
  }
}
