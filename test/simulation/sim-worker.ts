/**
 * A worker process as workers/worker.ts, inherited-listeners.ts and control-client.ts make it, with the behaviour of the
 * release that it runs. It reaches its supervisor over a connection only, and the kernel through its sockets.
 */
import type { DescriptorLayout } from '../../src/ipc/descriptor-layout.ts'
import type { DrainOrder, FromWorker, ToWorker, Welcome } from '../../src/ipc/messages.ts'
import { PROTOCOL_VERSION } from '../../src/ipc/messages.ts'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import type { OpenCounts } from '../../src/ipc/open-counts.ts'
import { PHASE_MOVES } from '../../src/ipc/worker-phase.ts'
import type { WorkerPhase } from '../../src/ipc/worker-phase.ts'
import { ROLE_VARIABLE } from '../../src/ipc/worker-role.ts'
import type { WorkerRole } from '../../src/ipc/worker-role.ts'
import type { ExitReport, ForkRequest } from '../../supervisor/process-host.ts'
import { reconnectDelayMs } from '../../workers/control-client.ts'
import type { SimAnswer, SimEnd } from './connection.ts'
import type { Acceptor, Dial, SimSocket } from './kernel.ts'
import type { World } from './world.ts'

export type Behaviour = 'good' | 'dies at start' | 'exits after ready' | 'hangs' | 'fails self-test' | 'only 5xx' | 'slow loop' | 'ignores orders' | 'dies at random'

/** As in control-client.ts and worker.ts. */
const FIRST_CONNECT_MS = 5_000
const HELLO_TIMEOUT_MS = 10_000

interface Timer { cancel(): void }

export class SimWorker implements Acceptor {
  readonly pid: number
  readonly startTime: string
  readonly role: WorkerRole
  readonly folder: string
  readonly forkedAtMs: number
  phase: WorkerPhase = 'starting'
  alive = true
  /** Its end was taken by its parent, or by init. */
  reaped = false
  report: ExitReport = { code: null, signal: null, problem: '' }
  /** By SIGSTOP; what would run waits. */
  stopped = false
  /** Has run its first line: outlives its supervisor from here on. */
  booted = false
  /** It was told that nobody knows it, or nobody came. */
  orphanDrain = false
  readonly sockets: readonly SimSocket[]
  /** Sockets that it accepts from, by slot and then by index of the listener. */
  readonly acceptors = new Map<number, Map<number, SimSocket>>()
  closed = false
  /** Somebody asked for its sockets: what came of it may have been late. */
  askedForSockets = false
  readonly connections = new Map<Dial, Timer>()
  readonly #world: World
  readonly #behaviour: Behaviour
  readonly #timers = new Set<Timer>()
  #backlog: (() => void)[] = []
  #ready = false
  #end: SimEnd | null = null
  #state: 'connecting' | 'connected' | 'orphaned' = 'connecting'
  #welcome: Welcome | null = null
  #started = false
  #lostAtMs: number
  #giveUpAtMs = Number.POSITIVE_INFINITY
  #triedAtMs = 0
  #orphanedSaid = false
  #heartbeat: Timer | null = null
  #seq = 0
  #exchanges = 0
  #ownFaults = 0
  #drainTimer: Timer | null = null
  #endAtMs = Number.POSITIVE_INFINITY
  #finishing = false
  #deaf = false
  #busyUntilMs = 0

  constructor(world: World, pid: number, request: ForkRequest, sockets: readonly SimSocket[]) {
    this.#world = world
    this.pid = pid
    this.startTime = `${pid}@${world.nowMs}`
    this.role = JSON.parse(request.env[ROLE_VARIABLE]!) as WorkerRole
    this.folder = this.role.application.slice(0, this.role.application.lastIndexOf('/'))
    this.#behaviour = world.calm ? 'good' : world.behaviourOf(this.folder)
    this.sockets = sockets
    this.forkedAtMs = world.nowMs
    this.#lostAtMs = world.nowMs
    for (const socket of sockets) world.kernel.hold(socket)
    const { random } = world
    this.#deaf = this.#behaviour === 'ignores orders' && random.chance(0.5)
    this.#after(random.delay(40, 400), () => {
      this.booted = true
      this.#giveUpAtMs = world.nowMs + FIRST_CONNECT_MS
      this.#connect()
    })
    if (this.#behaviour === 'dies at random') this.#after(random.next() * 20_000, () => this.die({ code: random.pick([70, 139]), signal: null }))
  }

  get id(): string { return this.role.worker }
  get slot(): number { return this.role.slot }
  get generation(): number { return Number.parseInt(this.role.worker, 10) }
  get layout(): DescriptorLayout { return this.role.layout }
  get connected(): boolean { return this.#state === 'connected' }
  /** Its application came up. */
  get able(): boolean { return this.#ready }
  get behaviour(): Behaviour { return this.#behaviour }

  // ---- the process

  #after(ms: number, run: () => void): Timer {
    const event = this.#world.after(ms, () => {
      this.#timers.delete(timer)
      this.#run(run)
    })
    const timer: Timer = { cancel: () => { event.cancel(); this.#timers.delete(timer) } }
    this.#timers.add(timer)
    return timer
  }

  #run(run: () => void): void {
    if (!this.alive) return
    if (this.stopped) this.#backlog.push(run)
    else run()
  }

  stop(): void { this.stopped = true }

  resume(): void {
    this.stopped = false
    const backlog = this.#backlog
    this.#backlog = []
    for (const run of backlog) this.#run(run)
    for (const acceptors of this.acceptors.values()) for (const socket of acceptors.values()) this.onQueued(socket)
  }

  die(report: Partial<ExitReport>): void {
    if (!this.alive) return
    this.alive = false
    this.report = { code: null, signal: null, problem: '', ...report }
    this.#world.log(() => `worker ${this.id} (pid ${this.pid}) is dead: ${this.report.signal ?? `code ${String(this.report.code)}`}`)
    for (const timer of [...this.#timers]) timer.cancel()
    this.#backlog = []
    for (const timer of this.connections.values()) timer.cancel()
    this.connections.clear()
    this.#world.inDying(this, () => this.#closeForGood())
    this.#end?.die()
    this.#world.onWorkerDead(this)
  }

  // ---- connections of clients

  onQueued(socket: SimSocket): void {
    if (!this.alive || this.stopped) return
    this.#world.plainAfter(this.#world.random.next() * 2, () => {
      if (!this.alive || this.stopped || !socket.acceptors.has(this)) return
      const dial = socket.queue.shift()
      if (dial !== undefined) this.#accept(dial)
    })
  }

  #accept(dial: Dial): void {
    this.#exchanges++
    if (this.#behaviour === 'only 5xx' && !this.#world.calm) this.#ownFaults++
    this.#world.onAccepted(dial)
    const event = this.#world.plainAfter(dial.usedMs, () => {
      this.connections.delete(dial)
      if (this.phase === 'draining') this.#finishWhenEmpty()
    })
    this.connections.set(dial, event)
  }

  // ---- its sockets, as inherited-listeners.ts

  #socket(listener: number, slot: number): SimSocket {
    let index = 0
    for (let before = 0; before < listener; before++) index += this.layout.listeners[before]!.shared ? 1 : this.layout.slots
    return this.sockets[index + (this.layout.listeners[listener]!.shared ? 0 : slot)]!
  }

  #listenFor(slot: number): void {
    if (this.closed) throw new Error('the listening sockets were closed for good')
    const mine = this.acceptors.get(slot) ?? new Map<number, SimSocket>()
    this.acceptors.set(slot, mine)
    for (const [index, { shared }] of this.layout.listeners.entries()) {
      if ((shared && slot !== this.slot) || mine.has(index)) continue
      const socket = this.#socket(index, slot)
      if (socket.shut) throw new Error('EINVAL')
      mine.set(index, socket)
      this.#world.kernel.hold(socket)
      socket.listening = true
      socket.acceptors.add(this)
      for (let waiting = socket.queue.length; waiting > 0; waiting--) this.onQueued(socket)
    }
  }

  #stopFor(slot: number, except: readonly string[] = []): void {
    const mine = this.acceptors.get(slot)
    if (mine === undefined) return
    for (const [index, socket] of mine) {
      if (except.includes(this.layout.listeners[index]!.name)) continue
      mine.delete(index)
      if (![...this.acceptors.values()].some(other => [...other.values()].includes(socket))) socket.acceptors.delete(this)
      this.#world.kernel.release(socket)
    }
    if (mine.size === 0) this.acceptors.delete(slot)
  }

  #acceptQueued(): void {
    for (const acceptors of this.acceptors.values()) for (const socket of acceptors.values()) for (const dial of socket.queue.splice(0)) this.#accept(dial)
  }

  #closeForGood(): void {
    if (this.closed) return
    this.closed = true
    this.#world.closing = this
    for (const slot of [...this.acceptors.keys()]) this.#stopFor(slot)
    for (const socket of this.sockets) this.#world.kernel.release(socket)
    this.#world.closing = null
  }

  // ---- the way to the supervisor, as control-client.ts

  #connect(): void {
    this.#triedAtMs = this.#world.nowMs
    const end = this.#world.connectWorker(this)
    if (end === null) { this.#onClose(null); return }
    this.#end = end
    end.through = run => this.#run(run)
    end.onClose = () => this.#onClose(end)
    end.onMessage = (order: ToWorker, answer) => this.#onOrder(order, answer, end)
    const hello: FromWorker = { tag: 'hello', protocol: PROTOCOL_VERSION, worker: this.id, token: this.role.token, pid: this.pid, phase: this.phase }
    end.ask(hello, HELLO_TIMEOUT_MS, (ms, run) => this.#after(ms, run)).then(
      welcome => { this.#run(() => this.#onWelcome(welcome as Welcome)) },
      (error: { code: string; message: string }) => {
        if (!this.alive) return
        if (error.code !== 'closed' && error.code !== 'timeout') this.#giveUp(`refused: ${error.message}`)
        end.close()
      },
    )
  }

  #onClose(end: SimEnd | null): void {
    if (end !== this.#end) return
    this.#end = null
    if (this.#state === 'connected') {
      this.#state = 'orphaned'
      this.#lostAtMs = this.#world.nowMs
      this.#world.log(() => `worker ${this.id} lost its supervisor`)
      const welcome = this.#welcome
      if (welcome?.orphanPolicy === 'drain-after') this.#giveUpAtMs = this.#world.nowMs + welcome.orphanDrainAfterMs
    }
    if (this.#triedAtMs >= this.#giveUpAtMs) this.#giveUp('no supervisor came back')
    this.#after(reconnectDelayMs(this.#world.nowMs - this.#lostAtMs), () => this.#connect())
  }

  /** Another supervisor than the one that gave the order believes something else of us. */
  #sayHelloAgain(): void { this.#end?.close() }

  #giveUp(reason: string): void {
    if (this.#orphanedSaid) return
    this.#orphanedSaid = true
    if (this.phase === 'draining') return
    this.orphanDrain = true
    this.#world.log(() => `worker ${this.id} drains as an orphan: ${reason}`)
    if (this.#welcome === null) this.die({ code: 1 })
    else {
      this.#acceptQueued()
      this.#drain(this.#welcome.orphanDrain)
      this.#sayHelloAgain()
    }
  }

  #onWelcome(welcome: Welcome): void {
    this.#giveUpAtMs = Number.POSITIVE_INFINITY
    this.#welcome = welcome
    this.#state = 'connected'
    this.#heartbeat?.cancel()
    this.#beatLater(welcome.heartbeatMs)
    if (this.phase === 'ready') this.#say({ tag: 'ready' })
    if (!this.#started) {
      this.#started = true
      this.#load()
    }
  }

  #beatLater(ms: number): void {
    const slow = this.#behaviour === 'slow loop' && !this.#world.calm
    this.#heartbeat = this.#after(ms + (slow ? this.#world.random.next() * 2_000 : 0), () => {
      this.#report(slow ? this.#world.random.next() * 3_000 : this.#world.random.next() * 20)
      this.#beatLater(ms)
    })
  }

  #say(message: FromWorker): void { if (this.#state === 'connected') this.#end?.send(message) }

  #report(loopLagMs: number): void {
    const open: OpenCounts = { ...NO_COUNTS, connections: this.connections.size, exchanges: this.#exchanges, ownFaults: this.#ownFaults }
    this.#say({ tag: 'heartbeat', seq: this.#seq++, loopLagMs, utilization: 0, rssBytes: 1, open })
  }

  // ---- what it does, as worker.ts

  #load(): void {
    const { random } = this.#world
    if (this.#behaviour === 'hangs') return
    if (this.#behaviour === 'dies at start') {
      this.#after(random.delay(100, 1_000), () => {
        this.#say({ tag: 'failed', message: 'cannot start', stack: '' })
        this.die({ code: 1 })
      })
      return
    }
    this.#after(random.delay(200, 2_000), () => {
      this.#ready = true
      if (!this.#moveTo('ready')) return
      this.#say({ tag: 'ready' })
      if (this.#behaviour === 'exits after ready') this.#after(random.next() * 200, () => this.die({ code: random.pick([0, 1, 70]) }))
    })
  }

  #moveTo(to: WorkerPhase): boolean {
    if (!PHASE_MOVES[this.phase].includes(to)) return false
    this.phase = to
    return true
  }

  #onOrder(order: ToWorker, answer: SimAnswer | null, by: SimEnd): void {
    const { random, calm } = this.#world
    if (this.#deaf && !calm && answer !== null && order.tag !== 'drain' && random.chance(0.5)) {
      this.#world.log(() => `worker ${this.id} ignores '${order.tag}'`)
      if (random.chance(0.5)) answer.refuse('failed', 'does not want to')
      return
    }
    // Everything but a drain takes a few turns of its event loop.
    const slow = this.#behaviour === 'slow loop' && !calm
    if (order.tag === 'drain') this.#obey(order, answer, by)
    else {
      // One after the other.
      this.#busyUntilMs = Math.max(this.#busyUntilMs, this.#world.nowMs + random.delay(slow ? 400 : 4, slow ? 2_000 : 300))
      this.#after(this.#busyUntilMs - this.#world.nowMs, () => this.#obey(order, answer, by))
    }
  }

  #obey(order: ToWorker, answer: SimAnswer | null, by: SimEnd): void {
    const { phase } = this
    this.#world.staleOrder = by !== this.#end
    this.#world.log(() => `worker ${this.id} ${order.tag}${'slot' in order ? ` ${order.slot}` : ''}`)
    try {
      if (order.tag === 'drain') {
        answer?.ok(null)
        this.#drain(order.order)
        return
      }
      const result = this.#do(order)
      answer?.ok(result)
      if (phase !== this.phase && by !== this.#end) this.#sayHelloAgain()
    } catch (error) {
      answer?.refuse('failed', error instanceof Error ? error.message : String(error))
    } finally {
      this.#world.staleOrder = false
    }
  }

  #do(order: Exclude<ToWorker, { tag: 'drain' }>): unknown {
    switch (order.tag) {
      case 'accept':
        this.#checkReady()
        for (const slot of new Set([this.slot, ...this.acceptors.keys()])) this.#listenFor(slot)
        this.#moveTo('accepting')
        return null
      case 'stop-accept':
        this.#checkReady()
        for (const slot of [...this.acceptors.keys()]) this.#stopFor(slot, order.except)
        this.#moveTo('paused')
        return null
      case 'stand-in':
        this.#checkReady()
        if (order.slot >= this.layout.slots) throw new Error(`there is no slot ${order.slot}`)
        this.#listenFor(order.slot)
        return null
      case 'step-back':
        if (order.slot !== this.slot) this.#stopFor(order.slot)
        return null
      case 'close-listeners':
        this.#acceptQueued()
        this.#closeForGood()
        this.#moveTo('paused')
        return null
      case 'reopen-logs':
        return null
      case 'self-test':
        this.#checkReady()
        return this.#behaviour === 'fails self-test' ? { passed: false, detail: 'GET / answered 500' } : { passed: true, detail: 'GET / answered 200' }
      case 'send-descriptors':
        if (this.closed) throw new Error('the listening sockets were closed for good')
        this.#world.sendDescriptors(order.path, this.sockets)
        return { layout: this.layout }
      default:
        return order satisfies never
    }
  }

  #checkReady(): void { if (!this.#ready) throw new Error('the application is not ready yet') }

  #drain(order: DrainOrder): void {
    if (this.#finishing) return
    this.#moveTo('draining')
    if (!this.#ready) { this.die({ code: 0 }); return }
    this.#closeForGood()
    this.#endAtMs = Math.min(this.#endAtMs, this.#world.nowMs + order.endAfterMs)
    this.#drainTimer?.cancel()
    this.#drainTimer = this.#after(this.#endAtMs - this.#world.nowMs, () => this.#finish(this.connections.size))
    this.#finishWhenEmpty()
  }

  #finishWhenEmpty(): void { if (this.connections.size === 0) this.#run(() => this.#finish(0)) }

  #finish(cut: number): void {
    if (this.#finishing) return
    this.#finishing = true
    this.#report(0)
    this.#say({ tag: 'drained', cut })
    this.#after(this.#world.random.delay(5, 900), () => this.die({ code: 0 }))
  }
}
