/**
 * A worker's process: the real Worker, ControlClient and InheritedListeners over simulated time, descriptors and
 * connections, and an application that behaves as its release does. Nothing that workers/ decides is decided here.
 */
import { descriptorOf, FIRST_SOCKET_FD } from '../../src/ipc/descriptor-layout.ts'
import type { DescriptorLayout } from '../../src/ipc/descriptor-layout.ts'
import type { ChannelEnd, ChannelOptions } from '../../src/ipc/channel.ts'
import type { FromWorker, SelfTestOutcome, ToWorker } from '../../src/ipc/messages.ts'
import { MetricMemory } from '../../src/ipc/metric-memory.ts'
import { NO_COUNTS } from '../../src/ipc/open-counts.ts'
import type { OpenCounts } from '../../src/ipc/open-counts.ts'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import type { WorkerPhase } from '../../src/ipc/worker-phase.ts'
import { takeRole } from '../../src/ipc/worker-role.ts'
import type { WorkerRole } from '../../src/ipc/worker-role.ts'
import type { Acceptor as StreamAcceptor } from '../../src/listener/acceptor.ts'
import { SERVER_CONTEXT_DEFAULTS } from '../../src/server/server-context.ts'
import type { RunningListener } from '../../src/server/service.ts'
import { Metrics, type LabelledCounter } from '../../src/telemetry/metrics.ts'
import type { ExitReport, ForkRequest } from '../../supervisor/process-host.ts'
import { ControlState } from '../../workers/control-client.ts'
import type { WorkerServer } from '../../workers/worker.ts'
import { WorkerLife } from '../../workers/worker-life.ts'
import type { DialHandlers, WorkerWorld } from '../../workers/worker-world.ts'
import type { SimAnswer, SimEnd } from './connection.ts'
import type { Acceptor, Dial, SimSocket } from './kernel.ts'
import { checkTicketKeys } from './invariants.ts'
import type { World } from './world.ts'

/** What a release that is no good does. */
export const BAD_BEHAVIOURS = [
  'dies at start', 'exits after ready', 'hangs', 'fails self-test', 'only 5xx', 'slow loop', 'ignores orders', 'dies at random',
  'throws at random', 'rejects at random',
] as const
export type Behaviour = 'good' | (typeof BAD_BEHAVIOURS)[number]

interface Timer { cancel(): void }

/** Where a socket stands in the worker's layout. */
interface Place { readonly listener: number; readonly slot: number }

/** In the place of a net.Server: which socket it accepts from, and the descriptor that it owns. */
class SimAcceptor {
  socket: SimSocket | null = null
  fd = -1
}

export class SimWorker implements Acceptor, WorkerWorld {
  readonly pid: number
  readonly startTime: string
  readonly role: WorkerRole
  readonly folder: string
  readonly forkedAtMs: number
  alive = true
  /** Its end was taken by its parent, or by init. */
  reaped = false
  report: ExitReport = { code: null, signal: null, problem: '' }
  /** By SIGSTOP; what would run waits. */
  stopped = false
  /** While it was stopped it was sent a SIGABRT, which it gets when it goes on. */
  aborts = false
  /** Has run its first line: outlives its supervisor from here on. */
  booted = false
  /** It has met an error that nothing caught. */
  threw = false
  /** A supervisor asked for its sockets: what came of it may have been late. */
  askedForSockets = false
  /** Number of starts from nothing before it was forked. */
  readonly lineage: number
  /** Of session tickets; null: it was told none. */
  ticketKeys: readonly string[] | null = null
  /** What it inherited, in the order of the layout. */
  readonly sockets: readonly SimSocket[]
  /** Sockets that it accepts from, by slot and then by index of the listener. */
  readonly acceptors = new Map<number, Map<number, SimSocket>>()
  readonly connections = new Map<Dial, () => void>()
  readonly life: WorkerLife
  readonly clock: WorkerWorld['clock'] = { exact: () => this.#world.nowMs, after: (ms, run) => this.#afterInLoop(ms, run) }
  readonly #world: World
  #metricsFile = ''
  #metricMemory: ArrayBuffer | null = null
  #beats: LabelledCounter | null = null
  readonly #behaviour: Behaviour
  readonly #timers = new Set<Timer>()
  readonly #places = new Map<SimSocket, Place>()
  readonly #descriptors = new Map<number, SimSocket>()
  #nextDescriptor: number
  #backlog: (() => void)[] = []
  #able = false
  #end: SimEnd | null = null
  /** Over which connection it was told what it does now. */
  #orderedBy: SimEnd | null = null
  #lostAtMs = Number.POSITIVE_INFINITY
  #dialledAtMs = 0
  #exchanges = 0
  #ownFaults = 0
  #whenEmpty: () => void = () => {}
  #deaf = false
  #busyUntilMs = 0

  constructor(world: World, pid: number, request: ForkRequest, sockets: readonly SimSocket[]) {
    this.#world = world
    this.pid = pid
    this.startTime = `${pid}@${world.nowMs}`
    this.role = takeRole({ ...request.env }, () => request.secret) as WorkerRole
    this.folder = this.role.application.slice(0, this.role.application.lastIndexOf('/'))
    this.#behaviour = world.calm ? 'good' : world.behaviourOf(this.folder)
    this.sockets = sockets
    this.forkedAtMs = world.nowMs
    this.lineage = world.lineage
    this.#nextDescriptor = FIRST_SOCKET_FD + sockets.length
    for (const [index, socket] of sockets.entries()) {
      world.kernel.hold(socket)
      this.#descriptors.set(FIRST_SOCKET_FD + index, socket)
    }
    for (const [listener, { shared }] of this.layout.listeners.entries()) {
      for (let slot = 0; slot < (shared ? 1 : this.layout.slots); slot++) {
        const socket = this.#descriptors.get(descriptorOf(this.layout, listener, slot, 0))!
        this.#places.set(socket, { listener, slot: shared ? this.slot : slot })
      }
    }
    const { random } = world
    this.#deaf = this.#behaviour === 'ignores orders' && random.chance(0.5)
    const log = this.#log()
    this.life = new WorkerLife(this.role, {
      world: this, calls: this.#calls(), log,
      exit: code => this.die({ code }),
      beat: () => this.#count(),
      requestComes: () => {},
      flushLogs: () => this.#delay(random.delay(5, 900)),
      reopenLogs: () => {},
      setLogLevel: () => {},
      setTicketKeys: keys => {
        const before = this.ticketKeys
        this.ticketKeys = keys
        checkTicketKeys(world, this, before)
      },
      logCounts: () => ({ logLinesDropped: 0, logFaults: 0 }),
      shownClient: address => address,
      lines: { error: message => log.error(message) },
      configure: (_settings, metricsFile) => {
        this.#countIn(metricsFile)
        return SERVER_CONTEXT_DEFAULTS
      },
      load: () => this.#load(),
    })
    this.#after(random.delay(40, 400), () => {
      this.booted = true
      void this.life.run()
    })
    if (this.#behaviour === 'throws at random') this.#after(random.next() * 20_000, () => this.throws())
    if (this.#behaviour === 'rejects at random') this.#after(random.next() * 20_000, () => this.rejects())
    if (this.#behaviour === 'dies at random') this.#after(random.next() * 20_000, () => this.die({ code: random.pick([70, 139]) }))
  }

  #countIn(file: string): void {
    const buffer = this.#world.metricDisk.files.get(file)
    if (!(buffer instanceof ArrayBuffer)) return
    this.#metricsFile = file
    this.#metricMemory = buffer
    this.#beats = new Metrics(new MetricMemory(buffer)).counter({ name: 'beats_total', help: 'Heartbeats.' })
  }

  /** Every heartbeat is counted, as long as the file is the one that it was given: behind the end of a server nobody looks at it. */
  #count(): void {
    const world = this.#world
    if (this.#beats === null || world.metricDisk.files.get(this.#metricsFile) !== this.#metricMemory) return
    this.#beats.inc()
    world.counted++
  }

  get id(): string { return this.role.worker }
  get slot(): number { return this.role.slot }
  get generation(): number { return Number.parseInt(this.role.worker, 10) }
  get layout(): DescriptorLayout { return this.role.layout }
  get phase(): WorkerPhase { return this.life.worker.phase }
  get connected(): boolean { return this.life.client.state === ControlState.Connected }
  /** Its application came up. */
  get able(): boolean { return this.#able }
  get behaviour(): Behaviour { return this.#behaviour }
  /** It has let go of every socket. */
  get closed(): boolean { return this.#descriptors.size === 0 }
  /** A supervisor that was killed since told it what it does now. */
  get obeysTheDead(): boolean { return this.#orderedBy !== null && this.#orderedBy !== this.#end }

  // ---- the process

  #after(ms: number, run: () => void): () => void {
    const cancel = this.#world.after(ms, () => {
      this.#timers.delete(timer)
      this.#run(run)
    })
    const timer: Timer = { cancel: () => { cancel(); this.#timers.delete(timer) } }
    this.#timers.add(timer)
    return timer.cancel
  }

  /** A timer of the event loop, which may be a slow one. */
  #afterInLoop(ms: number, run: () => void): () => void {
    const slow = this.#behaviour === 'slow loop' && !this.#world.calm
    return this.#after(ms + (slow ? this.#world.random.next() * 3_000 : 0), run)
  }

  #delay(ms: number): Promise<void> { return new Promise(resolve => { this.#after(ms, resolve) }) }

  #run(run: () => void): void {
    if (!this.alive) return
    if (this.stopped) this.#backlog.push(run)
    else run()
  }

  stop(): void { this.stopped = true }

  resume(): void {
    this.stopped = false
    if (this.aborts) { this.die({ signal: 'SIGABRT' }); return }
    const backlog = this.#backlog
    this.#backlog = []
    for (const run of backlog) this.#run(run)
    for (const acceptors of this.acceptors.values()) for (const socket of acceptors.values()) this.#onAllQueued(socket)
  }

  /** An error that nothing catches. */
  throws(): void {
    this.#run(() => {
      if (!this.booted) return
      this.threw = true
      this.life.worker.onUncaught(new Error('thrown'))
    })
  }

  /** A rejection that nobody handles. */
  rejects(): void { this.#run(() => { if (this.booted) this.life.worker.onRejection(new Error('rejected')) }) }

  die(report: Partial<ExitReport>): void {
    if (!this.alive) return
    this.alive = false
    this.report = { code: null, signal: null, problem: '', ...report }
    this.#world.log(() => `worker ${this.id} (pid ${this.pid}) is dead: ${this.report.signal ?? `code ${String(this.report.code)}`}`)
    for (const timer of [...this.#timers]) timer.cancel()
    this.#backlog = []
    this.#cutAll()
    this.#world.inDying(this, () => {
      for (const acceptors of this.acceptors.values()) for (const socket of acceptors.values()) socket.acceptors.delete(this)
      this.acceptors.clear()
      for (const fd of [...this.#descriptors.keys()]) this.#close(fd)
    })
    this.#end?.die()
    this.#world.onWorkerDead(this)
  }

  #log(): ProcessLog {
    const write = (message: string, fields?: LogFields): void => {
      if (!this.alive) return
      this.#world.log(() => `worker ${this.id}: ${message}${fields?.['reason'] === undefined ? '' : ` (${String(fields['reason'])})`}`)
      if (message === 'draining as an orphan') this.#world.onOrphaned(this, { lostAtMs: this.#lostAtMs, dialledAtMs: this.#dialledAtMs })
    }
    return { info: write, warn: write, error: write }
  }

  // ---- WorkerWorld

  /** Each takes a moment: time goes on, and with it what waits in the queues. */
  turn(): Promise<void> { return this.#delay(this.#world.random.next()) }

  dial(path: string, _options: ChannelOptions, handlers: DialHandlers): ChannelEnd<FromWorker> {
    this.#dialledAtMs = this.#world.nowMs
    const end = this.#world.dialControl(path, this)
    if (end === null) {
      queueMicrotask(() => { this.#run(() => handlers.onClose('ECONNREFUSED')) })
      return notConnected()
    }
    this.#end = end
    end.after = this.clock.after
    end.through = run => this.#run(run)
    end.onClose = () => {
      if (this.connected) this.#lostAtMs = this.#world.nowMs
      if (this.#end === end) this.#end = null
      handlers.onClose('')
    }
    end.onMessage = (order: ToWorker, answer) => this.#deliver(order, answer, end, handlers)
    queueMicrotask(() => { this.#run(() => handlers.onOpen()) })
    return end
  }

  listen(acceptor: StreamAcceptor, fd: number): Promise<void> {
    const socket = this.#socketOf(fd)
    if (socket.shut) return Promise.reject(new Error('listen EINVAL'))
    Object.assign(acceptor, { socket, fd })
    const { slot, listener } = this.#places.get(socket)!
    const mine = this.acceptors.get(slot) ?? new Map<number, SimSocket>()
    this.acceptors.set(slot, mine.set(listener, socket))
    socket.listening = true
    socket.acceptors.add(this)
    this.#onAllQueued(socket)
    return Promise.resolve()
  }

  stopListening(acceptor: StreamAcceptor): void {
    const { socket, fd } = acceptor as unknown as SimAcceptor
    if (socket === null || !this.alive) return
    const { slot, listener } = this.#places.get(socket)!
    const mine = this.acceptors.get(slot)
    mine?.delete(listener)
    if (mine?.size === 0) this.acceptors.delete(slot)
    socket.acceptors.delete(this)
    this.#close(fd)
  }

  close(fd: number): void { if (this.alive) this.#close(fd) }
  whileBusy(): void {}
  vitals(): { utilization: number; rssBytes: number } { return { utilization: 0, rssBytes: 1 } }

  #close(fd: number): void {
    const socket = this.#socketOf(fd)
    this.#descriptors.delete(fd)
    this.#world.closing = this
    this.#world.kernel.release(socket)
    this.#world.closing = null
  }

  #socketOf(fd: number): SimSocket {
    const socket = this.#descriptors.get(fd)
    if (socket !== undefined) return socket
    // What has died in the middle of a turn runs to its end here.
    if (this.alive) this.#world.violation(`worker ${this.id} uses descriptor ${fd}, which is not open`)
    throw Object.assign(new Error('EBADF'), { code: 'EBADF' })
  }

  #calls(): SystemCalls {
    const calls: Partial<SystemCalls> = {
      dup: fd => {
        const socket = this.#socketOf(fd)
        this.#world.kernel.hold(socket)
        this.#descriptors.set(this.#nextDescriptor, socket)
        return this.#nextDescriptor++
      },
      hasQueued: fd => this.#socketOf(fd).queue.length > 0,
      sendDatagram: (_path, _payload, descriptors) => this.#world.sendDescriptors(descriptors.map(fd => this.#socketOf(fd))),
    }
    return calls as SystemCalls
  }

  // ---- orders on their way to it

  #deliver(order: ToWorker, answer: SimAnswer | null, by: SimEnd, handlers: DialHandlers): void {
    const { random, calm } = this.#world
    if (this.#deaf && !calm && answer !== null && order.tag !== 'drain' && random.chance(0.5)) {
      this.#world.log(() => `worker ${this.id} ignores '${order.tag}'`)
      if (random.chance(0.5)) answer.refuse('failed', 'does not want to')
      return
    }
    const obey = (): void => {
      this.#world.log(() => `worker ${this.id} ${order.tag}${'slot' in order ? ` ${order.slot}` : ''}`)
      this.#orderedBy = by
      handlers.onMessage(order, answer)
    }
    if (order.tag === 'drain') { obey(); return }
    // Everything but a drain takes a few turns of its event loop, one after the other.
    const slow = this.#behaviour === 'slow loop' && !calm
    this.#busyUntilMs = Math.max(this.#busyUntilMs, this.#world.nowMs + random.delay(slow ? 400 : 4, slow ? 2_000 : 300))
    this.#after(this.#busyUntilMs - this.#world.nowMs, obey)
  }

  // ---- connections of clients

  #onAllQueued(socket: SimSocket): void { for (let waiting = socket.queue.length; waiting > 0; waiting--) this.onQueued(socket) }

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
    const cancel = this.#world.plainAfter(dial.usedMs, () => {
      this.connections.delete(dial)
      if (this.connections.size === 0) this.#whenEmpty()
    })
    this.connections.set(dial, cancel)
  }

  #cutAll(): void {
    for (const cancel of this.connections.values()) cancel()
    this.connections.clear()
  }

  // ---- the application

  async #load(): Promise<void> {
    const { random } = this.#world
    if (this.#behaviour === 'hangs') return new Promise(() => {})
    if (this.#behaviour === 'dies at start') {
      await this.#delay(random.delay(100, 1_000))
      throw new Error('cannot start')
    }
    await this.life.worker.run(this.#server())
  }

  #server(): WorkerServer {
    const { random } = this.#world
    return {
      prepare: async () => {
        await this.#delay(random.delay(200, 2_000))
        this.#able = true
        if (this.#behaviour === 'exits after ready') this.#after(random.next() * 200, () => this.die({ code: random.pick([0, 1, 70]) }))
      },
      listeners: () => this.layout.listeners.map(({ name }) => runningListener(name)),
      runSelfTest: (): Promise<SelfTestOutcome> => {
        const passed = this.#behaviour !== 'fails self-test'
        return Promise.resolve({ passed, detail: `GET / answered ${passed ? 200 : 500}` })
      },
      watch: () => {},
      explain: () => null,
      certificates: () => [],
      reloadCertificates: () => Promise.resolve(),
      drain: () => new Promise(resolve => {
        // A turn of its own: what ends a connection is no promise of the worker's.
        this.#whenEmpty = () => { this.#after(0, () => resolve({ cut: 0 })) }
        if (this.connections.size === 0) this.#whenEmpty()
      }),
      stats: (): OpenCounts => {
        return { ...NO_COUNTS, connections: this.connections.size, exchanges: this.#exchanges, ownFaults: this.#ownFaults }
      },
      health: () => [],
      notices: () => [],
      close: () => this.#cutAll(),
    }
  }
}

/** A dial that found nothing. */
function notConnected(): ChannelEnd<FromWorker> { return { send: () => false, ask: () => new Promise(() => {}), close() {}, destroy() {} } }

function runningListener(name: string): RunningListener {
  const spec = { name, address: { kind: 'unix', path: '/', mode: 0 }, options: { backlog: 511 } } as unknown as RunningListener['spec']
  return { spec, createAcceptor: () => new SimAcceptor() as unknown as StreamAcceptor }
}
