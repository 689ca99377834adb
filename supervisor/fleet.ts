/**
 * All workers of the running generation: starts, replaces, watches and ends them.
 *
 * Driven by four things only: orders (`start`, `restart`, `stop`, `force`), messages of workers, ends of processes, and
 * its own tick. Touches the world through ProcessHost and WorkerLink.
 *
 * Invariants: a slot that ever listened is served by its worker or adopted by a sibling, as soon as one can;
 * an old worker stops accepting only after its replacement accepts; a slot is never given up in steady state.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { ResolvedSupervisorOptions } from '../src/config/supervisor-options.ts'
import { ChannelError } from '../src/ipc/channel.ts'
import type { DescriptorLayout } from '../src/ipc/descriptor-layout.ts'
import { NO_COUNTS } from '../src/ipc/messages.ts'
import type { DrainOrder, FromWorker, OpenCounts } from '../src/ipc/messages.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import { ROLE_VARIABLE } from '../src/ipc/worker-role.ts'
import type { WorkerRole } from '../src/ipc/worker-role.ts'
import type { Generation } from './generation.ts'
import type { ExitReport, ProcessHost } from './process-host.ts'
import { restartDelayMs, startFailed } from './restart-policy.ts'
import { WORKER_STATE_NAMES, WorkerProcess, WorkerState } from './worker-process.ts'
import type { WorkerLink } from './worker-process.ts'
import { WorkerSlot } from './worker-slot.ts'

/** Nobody was ever ready, so often that trying on is pointless. `stack`: the application's own, if it said. */
export class StartFailed extends Error {
  readonly applicationStack: string
  constructor(message: string, applicationStack: string) {
    super(message)
    this.name = 'StartFailed'
    this.applicationStack = applicationStack
  }
}

/** Something that an operator asked for and did not get. */
export class Refused extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'Refused'
  }
}

/** How much longer than its own deadline a draining worker may live before it is killed, in ms. */
const DRAIN_GRACE_MS = 2_000
/** A polite close of an upgraded connection takes up to 9 s (src/proxy/upgrade.ts). */
const TUNNEL_CLOSE_MS = 9_000
/** A replacement that fails is tried this often before the operation is given up. */
const REPLACE_ATTEMPTS = 2

export interface FleetSetup {
  readonly host: ProcessHost
  readonly options: ResolvedSupervisorOptions
  readonly log: ProcessLog
  readonly generation: Generation
  readonly layout: DescriptorLayout
  readonly descriptors: readonly number[]
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

export class Fleet {
  readonly slots: readonly WorkerSlot[]
  readonly #setup: FleetSetup
  readonly #host: ProcessHost
  readonly #options: ResolvedSupervisorOptions
  readonly #log: ProcessLog
  readonly #started = Promise.withResolvers<void>()
  #allStarted = false
  #everReady = false
  #deathsBeforeReady = 0
  #stopping = false
  /** The operation that runs; the next one waits for it. */
  #operation: Promise<unknown> = Promise.resolve()
  #operationName = ''
  #cancelTick: (() => void) | null = null
  /** Requests and faults of workers that are gone, so that totals do not go backwards. */
  #buried = { exchanges: 0, ownFaults: 0 }

  constructor(setup: FleetSetup) {
    this.#setup = setup
    this.#host = setup.host
    this.#options = setup.options
    this.#log = setup.log
    this.slots = Array.from({ length: setup.layout.slots }, (_, index) => new WorkerSlot(index))
    this.#started.promise.catch(() => {})
  }

  /** Every slot has accepted at least once. */
  get started(): boolean { return this.#allStarted }
  get stopping(): boolean { return this.#stopping }
  /** What is being done for an operator; '' when nothing is. */
  get operationName(): string { return this.#operationName }
  /** Somebody accepts. */
  get accepting(): boolean { return this.slots.some(slot => slot.current?.state === WorkerState.Accepting) }
  get generation(): Generation { return this.#setup.generation }

  *workers(): Generator<WorkerProcess> { for (const slot of this.slots) yield* slot.workers() }

  /** Resolves when every slot accepts; rejects with StartFailed when no worker was ever ready. */
  start(): Promise<void> {
    for (const slot of this.slots) slot.current = this.#fork(slot)
    this.#tickLater()
    return this.#started.promise
  }

  /** A connection on the worker socket says who it is. @returns null when it is none of ours. */
  hello(hello: Extract<FromWorker, { tag: 'hello' }>, link: WorkerLink): WorkerProcess | null {
    const worker = this.#find(hello.worker)
    if (worker === null || !sameSecret(worker.token, hello.token)) return null
    worker.link?.close()
    worker.link = link
    worker.silentTicks = 0
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
        const wasSilent = this.#silent(worker)
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
    const run = async (): Promise<RestartOutcome> => {
      this.#operationName = which === '' ? 'restart of all workers' : `restart of worker ${which}`
      this.#setup.onChange()
      try {
        const replaced: { slot: number; from: string; to: string }[] = []
        for (const slot of slots) {
          const from = slot.current?.id ?? ''
          await this.#replace(slot)
          replaced.push({ slot: slot.index, from, to: slot.current?.id ?? '' })
        }
        return { replaced }
      } finally {
        this.#operationName = ''
        this.#setup.onChange()
      }
    }
    const outcome = this.#operation.then(run, run)
    this.#operation = outcome.catch(() => {})
    return outcome
  }

  /** Ends everything politely: listeners first, then what is in flight. Resolves when the last worker is gone. */
  async stop(request: StopRequest): Promise<{ cut: number }> {
    this.#stopping = true
    const deadlineMs = this.#host.nowMs() + request.capMs
    for (const slot of this.slots) {
      slot.stopped = true
      slot.clearRestart()
      slot.adoptedBy = null
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
      id: worker.id, pid: worker.pid, state: WORKER_STATE_NAMES[worker.state], silent: this.#silent(worker), ageMs: Math.round(nowMs - worker.startedAtMs),
      acceptingMs: worker.acceptingSinceMs === null ? null : Math.round(nowMs - worker.acceptingSinceMs),
      loopLagMs: worker.heartbeat?.loopLagMs ?? null, utilization: worker.heartbeat?.utilization ?? null, rssBytes: worker.heartbeat?.rssBytes ?? null, open: worker.open,
    })
    return this.slots.map(slot => ({
      slot: slot.index, state: slot.state, restarts: slot.restarts, adoptedBy: slot.adoptedBy?.id ?? null,
      worker: slot.current === null ? null : show(slot.current), incoming: slot.incoming === null ? null : show(slot.incoming), draining: [...slot.draining].map(show),
    }))
  }

  /** How a worker that lost its supervisor drains. */
  get orphanDrain(): DrainOrder { return this.#retireOrder() }

  #fork(slot: WorkerSlot): WorkerProcess {
    const { generation, layout, descriptors, controlPath } = this.#setup
    const worker = new WorkerProcess({ generation: generation.number, slot: slot.index, n: slot.nextN++, token: randomBytes(24).toString('base64url'), startedAtMs: this.#host.nowMs() })
    const role: WorkerRole = {
      role: 'worker', worker: worker.id, slot: slot.index, application: generation.application, controlPath, token: worker.token, layout,
      maxControlMessageBytes: this.#options.maxControlMessageBytes,
    }
    const { pid } = this.#host.fork({
      exec: generation.workerEntry, args: [generation.application, ...generation.args], execArgv: generation.execArgv,
      env: { [ROLE_VARIABLE]: JSON.stringify(role) }, descriptors, uid: generation.uid, gid: generation.gid,
    }, report => this.#onGone(worker, report))
    worker.pid = pid
    worker.startTime = this.#host.startTime(pid)
    worker.setTimer(this.#host.after(this.#options.readyTimeoutMs, () => {
      worker.failure ??= { message: `not ready within ${this.#options.readyTimeoutMs} ms; does the application reach server.runForever()?`, stack: '' }
      this.#kill(worker, 'SIGKILL')
    }))
    this.#setup.onChange()
    return worker
  }

  #onReady(worker: WorkerProcess): void {
    if (!worker.moveTo(WorkerState.Ready)) return
    worker.clearTimer()
    this.#everReady = true
    if (this.#stopping) { this.#kill(worker, 'SIGKILL'); return }
    void this.#askOrKill(worker, { tag: 'accept' }, this.#options.ackTimeoutMs).then(accepts => { if (accepts) this.#onAccepting(worker) })
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
    if (!this.#allStarted && this.slots.every(other => other.hasQueue)) {
      this.#allStarted = true
      this.#started.resolve()
    }
    this.#setup.onChange()
  }

  /** A replacement accepts: the old one stops accepting, then finishes what it has. */
  #retire(slot: WorkerSlot, old: WorkerProcess): void {
    if (!old.alive) return
    slot.draining.add(old)
    // A slot that it stood in for needs somebody else before it stops.
    for (const other of this.slots) if (other.adoptedBy === old) other.adoptedBy = null
    this.#reconcile()
    if (old.state !== WorkerState.Accepting) { this.#kill(old, 'SIGKILL'); return }
    old.moveTo(WorkerState.Paused)
    void this.#askOrKill(old, { tag: 'stop-accept' }, this.#options.ackTimeoutMs).then(stopped => {
      if (stopped && old.state === WorkerState.Paused) this.#drain(old, this.#retireOrder())
    })
    const max = this.#options.drain.maxDrainingGenerations
    for (const oldest of [...slot.draining].slice(0, Math.max(0, slot.draining.size - max))) {
      this.#log.warn(`worker ${oldest.id} is cut: more than ${max} retired workers in slot ${slot.index}`)
      this.#drain(oldest, { ...this.#retireOrder(), hardDrainMs: 0, webSocketDrainMs: 0, tunnelDrainMs: 0, idleDrainMs: 0, closeSpreadMs: 0, endAfterMs: 0 })
    }
  }

  /** Sends (or sharpens) the drain order. The worker keeps its own deadline; this side only guards it. */
  #drain(worker: WorkerProcess, order: DrainOrder): void {
    if (!worker.alive) return
    worker.moveTo(WorkerState.Draining)
    worker.drainingSinceMs ??= this.#host.nowMs()
    void this.#askOrKill(worker, { tag: 'drain', order }, this.#options.ackTimeoutMs)
    worker.setTimer(this.#host.after(order.endAfterMs + DRAIN_GRACE_MS, () => {
      this.#log.warn(`worker ${worker.id} outlived its drain deadline and is killed`)
      this.#kill(worker, 'SIGKILL')
    }))
    this.#setup.onChange()
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
        const incoming = this.#fork(slot)
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
    for (const other of this.slots) if (other.adoptedBy === worker) other.adoptedBy = null
    slot.draining.delete(worker)
    if (slot.incoming === worker) slot.incoming = null
    if (slot.current === worker) slot.current = null
    this.#reconcile()

    if (state === WorkerState.Draining) {
      this.#log.info(`worker ${worker.id} is gone`, { workerPid: worker.pid, cut: worker.cut, ...(report.code === 0 ? {} : { reason }) })
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
      if (slot.current === null && slot.incoming === null && !slot.replacing) this.#restartLater(slot)
    }
    this.#setup.onChange()
  }

  #restartLater(slot: WorkerSlot): void {
    if (this.#stopping || slot.cancelRestart !== null) return
    const delayMs = restartDelayMs(slot.history, this.#options.restart, this.#host.random())
    slot.cancelRestart = this.#host.after(delayMs, () => {
      slot.cancelRestart = null
      if (slot.current === null && slot.incoming === null && !this.#stopping) slot.current = this.#fork(slot)
    })
  }

  /** Gives every slot that has a queue somebody who accepts, and takes stand-ins back once they are not needed. */
  #reconcile(): void {
    if (this.#stopping || !this.#setup.layout.listeners.some(listener => !listener.shared)) return
    for (const slot of this.slots) {
      if (slot.adoptedBy !== null && (slot.adoptedBy.state !== WorkerState.Accepting || this.#silent(slot.adoptedBy))) {
        slot.adoptedBy.link?.send({ tag: 'release-slot', slot: slot.index })
        slot.adoptedBy = null
      }
      if (this.#serves(slot.current)) {
        slot.adoptedBy?.link?.send({ tag: 'release-slot', slot: slot.index })
        slot.adoptedBy = null
      } else if (slot.hasQueue && slot.adoptedBy === null) {
        this.#adopt(slot)
      }
    }
  }

  #adopt(slot: WorkerSlot): void {
    const load = (worker: WorkerProcess): number => this.slots.filter(other => other.adoptedBy === worker).length
    const siblings = this.slots.flatMap(other => other !== slot && other.current !== null && this.#serves(other.current) ? [other.current] : [])
    const sibling = siblings.sort((a, b) => load(a) - load(b))[0]
    if (sibling === undefined) return
    slot.adoptedBy = sibling
    sibling.link!.ask({ tag: 'adopt-slot', slot: slot.index }, this.#options.ackTimeoutMs).then(
      () => { this.#log.info(`worker ${sibling.id} accepts for slot ${slot.index} as well`) },
      (error: unknown) => {
        // The next tick looks for another one.
        if (slot.adoptedBy === sibling) slot.adoptedBy = null
        this.#log.warn(`worker ${sibling.id} could not adopt slot ${slot.index}`, { error })
      },
    )
    this.#setup.onChange()
  }

  #serves(worker: WorkerProcess | null): boolean {
    return worker !== null && worker.state === WorkerState.Accepting && worker.link !== null && !this.#silent(worker)
  }

  #silent(worker: WorkerProcess): boolean {
    return worker.silentTicks * this.#options.heartbeatMs >= this.#options.adoptAfterSilenceMs
  }

  /** Silence is counted in our own ticks: a machine that slept has not made anyone silent. */
  #tick(): void {
    const { heartbeatMs, abortAfterSilenceMs, killAfterAbortMs } = this.#options
    for (const worker of this.workers()) {
      // Its own deadline watches over a start.
      if (worker.state === WorkerState.Starting) continue
      const wasSilent = this.#silent(worker)
      worker.silentTicks++
      if (!wasSilent && this.#silent(worker)) this.#log.warn(`worker ${worker.id} has been silent for ${worker.silentTicks * heartbeatMs} ms`)
      if (!worker.aborted && worker.silentTicks * heartbeatMs >= abortAfterSilenceMs) {
        worker.aborted = true
        worker.failure ??= { message: `silent for ${worker.silentTicks * heartbeatMs} ms`, stack: '' }
        this.#kill(worker, 'SIGABRT')
        // A stopped process takes no SIGABRT.
        this.#host.after(killAfterAbortMs, () => this.#kill(worker, 'SIGKILL'))
      }
    }
    this.#reconcile()
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

  #kill(worker: WorkerProcess, signal: NodeJS.Signals): void { if (worker.alive) this.#host.kill(worker.pid, signal) }

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

function sameSecret(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
