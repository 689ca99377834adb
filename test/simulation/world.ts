/**
 * A whole machine in virtual time: kernel, workers, a supervisor (and what starts it again), clients that dial,
 * operators that ask, and everything that goes wrong. One seed decides all of it. What must always hold is looked at
 * after every event; when the disturbances end, everything has to come to rest (see invariants.ts).
 *
 * Here are time, processes, their images and what travels between them; operators.ts asks, disturbances.ts disturbs. Long,
 * because a process, its image, its connections and its sockets end together.
 *
 * The order of things is real: an event is one turn of an event loop, and every promise that it settles runs before the
 * next one.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { resolveSupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { ResolvedSupervisorOptions, SupervisorOptions } from '../../src/config/supervisor-options.ts'
import type { WorkerSettings } from '../../src/config/worker-settings.ts'
import type { FromOperator, OperationOutcome, ToWorker } from '../../src/ipc/messages.ts'
import type { DatagramInbox } from '../../src/ipc/system-calls.ts'
import type { ErrorEvent } from '../../src/telemetry/exporters/error-sink.ts'
import { EXIT } from '../../supervisor/exit-codes.ts'
import type { Fleet } from '../../supervisor/fleet.ts'
import { readEntry } from '../../supervisor/journal.ts'
import type { ExitReport, ForkedProcess, ForkRequest } from '../../supervisor/process-host.ts'
import type { Release } from '../../supervisor/releases.ts'
import { Intent } from '../../supervisor/worker-process.ts'
import type { WorkerRecord } from '../../supervisor/worker-process.ts'
import { CONTROL_SOCKET } from '../../supervisor/state-folder.ts'
import { SupervisorState } from '../../supervisor/supervisor-state.ts'
import type { After, SimConnection, SimEnd, Wire } from './connection.ts'
import { ControlPaths } from './control-paths.ts'
import { Disturbances } from './disturbances.ts'
import { EventQueue } from './event-queue.ts'
import { checkAlways, checkFlip, checkKill, checkOrder, restlessness } from './invariants.ts'
import type { Darkness } from './invariants.ts'
import { Kernel } from './kernel.ts'
import type { Dial, SimSocket } from './kernel.ts'
import { Operators } from './operators.ts'
import { Random } from './random.ts'
import { SimSupervisor, STATE_FOLDER } from './sim-supervisor.ts'
import type { SimHandover } from './sim-supervisor.ts'
import { MemoryMetricDisk } from '../support/memory-metric-disk.ts'
import { BAD_BEHAVIOURS, SimWorker } from './sim-worker.ts'
import type { Behaviour } from './sim-worker.ts'

/** Breaks a rule in every supervisor of a run, to see that the simulation notices. */
export type Plant = (image: SimSupervisor, world: World) => void

export interface WorldOptions {
  /** Keeps the log of events; a run without it is faster and otherwise the same. */
  readonly keepLog?: boolean
  readonly plant?: Plant
  /** Every line of the log, as it is written. */
  readonly onLine?: (line: string) => void
}

export interface RunResult {
  readonly seed: number
  /** '' when everything held. */
  readonly failure: string
  readonly log: readonly string[]
  readonly events: number
  readonly virtualMs: number
  readonly counts: Readonly<Record<string, number>>
}

export interface SimListener { readonly name: string; readonly address: string }
interface SimRelease { readonly behaviour: Behaviour; readonly fingerprint: string }
type Boot = 'good' | 'throws' | 'hangs' | 'dies'

/** How a worker's end reaches an image. */
interface Watcher { readonly image: SimSupervisor; readonly onExit: (report: ExitReport) => void }

interface Family {
  /** Process that would reap it; 1: init. */
  parent: number
  /** Image that forked it. */
  readonly by: SimSupervisor
  watchers: Watcher[]
  /** Images that were told of its end. */
  readonly told: Set<SimSupervisor>
  /** Image that killed it, and looks at once whether it is gone. */
  killer: SimSupervisor | null
  /** What it accepted from when it died. */
  lastAccepted: ReadonlySet<SimSocket>
  /** Slots where it was last told to step back, and by which image. */
  readonly steppingBack: Map<number, SimSupervisor>
}

/** What a calm world is asked at its end, and must commit. */
const LAST_OPERATIONS: readonly FromOperator[] = [
  { tag: 'reload' }, { tag: 'upgrade', folder: '/r0', supervisor: 'if-changed' }, { tag: 'upgrade', folder: '', supervisor: 'always' },
]
/** Everything must be at rest this long after the disturbances ended, in ms of virtual time. */
const REST_LIMIT_MS = 240_000
const REST_POLL_MS = 2_000
const GHOST_MS = 1_000
/** Of supervisors that replace themselves; a new one needs less than this when nothing is in its way, in ms. */
const LATE_SHARE = 0.3
const LATE_WITHIN_MS = 3_000
const PACE = 0x5f3759df
const MAX_LOG_LINES = 4_000
const TICKET_ROTATION_MS = 7_000
/** So long says the file with keys the same, and every fourth time it cannot be read, in ms. */
const TICKET_FILE_MS = 15_000
/** Of one run; most need a few thousand. */
const MAX_EVENTS = 60_000

export class World implements Wire {
  readonly seed: number
  readonly random: Random
  readonly cores: number
  /** How busy the machine is, drawn apart: what else happens in a seed does not depend on it. */
  readonly pace: Random
  readonly kernel: Kernel
  nowMs = 0
  journal: string | null = null
  /** The other file of the state folder. */
  instanceId: string | null = null
  /** What workers count in. */
  readonly metricDisk = new MemoryMetricDisk()
  /** What they have counted since the last start from nothing. */
  counted = 0
  /** Where the link `current` leads to. */
  current = '/r0'
  /** What stands in the configuration. */
  workersWanted: number
  listeners: SimListener[]
  readonly settings: WorkerSettings
  /** Its listeners do. Nothing is drawn for it: what else happens in a seed does not depend on it. */
  readonly speaksTls: boolean
  /** When each key of tickets of this lineage has encrypted last. */
  readonly encryptedAt = new Map<string, number>()
  /** The disturbances are over, every release is a good one. */
  calm = false
  /** Supervisor process: alive, perhaps between two images. */
  supervisorPid = 0
  image: SimSupervisor | null = null
  readonly workers = new Set<SimWorker>()
  /** Dead and reaped, but a supervisor may not have been told. */
  readonly ghosts = new Set<SimWorker>()
  readonly families = new Map<SimWorker, Family>()
  readonly refused = new Set<string>()
  /** Stopped by an operator: nothing starts it again by itself. */
  stopped = false
  /** Goes up when a supervisor starts without knowing what was before. */
  lineage = 0
  /** A fleet was given up or stopped: dials may be refused and queues lost, until every slot of the next one accepts. */
  gap = true
  /** No worker serves or comes up, as far as the supervisor knows; null: one does. */
  darkness: Darkness | null = null
  /** A listener is being removed. */
  removing: ReadonlySet<string> | null = null
  /** Operations that run now. */
  active = 0
  failure = ''
  readonly counts: Record<string, number> = {}
  readonly control: ControlPaths
  readonly after: After
  readonly #queue = new EventQueue()
  readonly #options: WorldOptions
  #log: string[] = []
  #floorMs = 0
  #wallOffsetMs = 1_800_000_000_000
  #nextPid = 100
  #nextDial = 1
  #events = 0
  #connections: { readonly connection: SimConnection; readonly serverEnd: SimEnd; readonly worker: SimWorker | null }[] = []
  /** Starts of another supervisor while one runs. */
  readonly #rivals = new Set<SimSupervisor>()
  /** Of the image that runs: what the plants and watches of `onComposed` are on. */
  #composed: Fleet | null = null
  #inbox: SimSocket[] | null = null
  readonly #releases = new Map<string, SimRelease>()
  readonly #boots = new Map<string, Boot>()
  readonly #baseOptions: SupervisorOptions
  /** Chance that a step of an operation is followed by a disturbance. */
  readonly #stepTrouble: number
  readonly #lateShare: number
  #lastStep = ''
  readonly operators = new Operators(this)
  readonly #disturbances = new Disturbances(this)
  #done = false
  #finalOutcome: OperationOutcome | null = null
  #finalAsked = false
  #cancelBootTimer: () => void = () => {}
  /** Number of the image that is loaded, or was last. */
  #boot = 0

  constructor(seed: number, options: WorldOptions = {}) {
    this.metricDisk.onRemoved = () => { this.counted = 0 }
    this.seed = seed
    this.speaksTls = seed % 3 === 0
    const tls = { ticketRotationMs: TICKET_ROTATION_MS, ticketKeysFile: seed % 9 === 0 ? '/keys' : '' }
    this.settings = { log: {} as WorkerSettings['log'], limits: {}, listeners: {}, tls }
    this.#options = options
    const random = this.random = new Random(seed)
    this.pace = new Random(seed ^ PACE)
    this.after = (ms, run) => this.at(this.nowMs + ms, run)
    this.control = new ControlPaths(this, message => this.violation(message))
    this.kernel = new Kernel({
      onQueueLost: (socket, dials, how) => this.#onQueueLost(socket, dials, how),
      onFault: message => this.violation(message),
    }, count => Math.floor(random.next() * count))
    this.workersWanted = random.int(1, 4)
    this.cores = 1 + seed % 4
    this.listeners = [{ name: 'a', address: '127.0.0.1:80' }]
    if (random.chance(0.4)) this.listeners.push({ name: 'b', address: '127.0.0.1:81' })
    if (random.chance(0.2)) this.listeners.push({ name: 'u', address: 'unix:/u.sock' })
    if (random.chance(0.05)) this.listeners = [{ name: 'u', address: 'unix:/u.sock' }]
    this.#stepTrouble = random.pick([0, 0, 0.03, 0.1, 0.25])
    this.#lateShare = random.pick([0, 0.005, 0.03])
    this.#baseOptions = {
      spareWorkers: random.pick([0, 0, 0, 1, 2]),
      heartbeatMs: 1_000, standInAfterSilenceMs: 3_000, abortAfterSilenceMs: 6_000, killAfterAbortMs: 1_000,
      // Longer than an order and its answer can be late on their way: who reports meanwhile could have answered.
      ackTimeoutMs: 4_000,
      readyTimeoutMs: 4_000, describeTimeoutMs: 3_000, emptyQueueMs: 200,
      orphanPolicy: random.pick(['keep', 'keep', 'drain-after']), orphanDrainAfterMs: 5_000,
      drain: {
        idleDrainMs: 2_000, closeSpreadMs: 500, softDrainMs: 0, hardDrainMs: 10_000, webSocketDrainMs: 10_000, tunnelDrainMs: 15_000,
        stopTimeoutMs: 10_000, maxDrainingGenerations: random.int(1, 3),
      },
      restart: { backoffMsMax: 4_000, forgetAfterMs: 10_000 },
      upgrade: { soakMs: random.pick([0, 1_500, 3_000]), adoptTimeoutMs: 2_000, bootTimeoutMs: 5_000 },
    }
    for (let index = 0; index < 8; index++) {
      const behaviour = index === 0 || random.chance(0.55) ? 'good' : random.pick<Behaviour>(BAD_BEHAVIOURS)
      this.#releases.set(`/r${index}`, { behaviour, fingerprint: index === 0 ? 'f0' : `f${random.int(0, 3)}` })
    }
    for (const fingerprint of ['f0', 'f1', 'f2', 'f3']) {
      const good = fingerprint === 'f0' || random.chance(0.6)
      this.#boots.set(fingerprint, good ? 'good' : random.pick(['throws', 'hangs', 'dies']))
    }
  }

  // ---- time

  get wallMs(): number { return this.nowMs + this.#wallOffsetMs }

  /** @returns a function that cancels. */
  at(atMs: number, run: () => void): () => void { return this.#add(atMs, run, false) }
  /** Only sockets and connections of clients are concerned. */
  plainAfter(ms: number, run: () => void): () => void { return this.#add(this.nowMs + ms, run, true) }

  #add(atMs: number, run: () => void, plain: boolean): () => void {
    const event = this.#queue.add(atMs, run, plain)
    return () => { event.run = null }
  }

  arrivalMs(): number { return this.nowMs + this.random.delay(3, 1_500, this.calm ? 0 : this.#lateShare) }

  /** Nothing happens for so long, and then everything that was due. */
  stall(ms: number): void {
    this.log(() => `the machine stalls for ${Math.round(ms)} ms`)
    this.#floorMs = this.nowMs + ms
  }

  shiftWallClock(ms: number): void { this.#wallOffsetMs += ms }

  async run(): Promise<RunResult> {
    watchRejections(this)
    const { stackTraceLimit } = Error
    if (this.#options.keepLog !== true) Error.stackTraceLimit = 0
    try {
      this.#begin()
      await turn()
      while (this.failure === '' && !this.#done) {
        const event = this.#queue.take()
        if (event === undefined) { this.violation('nothing will ever happen again'); break }
        const { run } = event
        if (run === null) continue
        this.nowMs = Math.max(this.nowMs, event.at, this.#floorMs)
        if (++this.#events > MAX_EVENTS) this.violation('so many events that something must go round in circles')
        run()
        if (event.plain) continue
        await turn()
        this.#lookAt(this.image)
        checkAlways(this)
      }
    } catch (error) {
      this.violation(`the simulation itself failed: ${error instanceof Error ? error.stack ?? error.message : String(error)}`)
    } finally {
      Error.stackTraceLimit = stackTraceLimit
      this.image?.die()
      inUse = null
    }
    return { seed: this.seed, failure: this.failure, log: this.#log, events: this.#events, virtualMs: this.nowMs, counts: this.counts }
  }

  log(line: () => string): void {
    if (this.#options.keepLog !== true) return
    const text = `${(this.nowMs / 1_000).toFixed(3).padStart(8)} ${line()}`
    this.#options.onLine?.(text)
    this.#log.push(text)
    if (this.#log.length > MAX_LOG_LINES) this.#log = this.#log.slice(-MAX_LOG_LINES / 2)
  }

  count(what: string): void { this.counts[what] = (this.counts[what] ?? 0) + 1 }

  violation(message: string): void {
    if (this.failure !== '') return
    this.failure = message
    this.log(() => `VIOLATION ${message}`)
  }

  // ---- what is installed and configured

  get options(): ResolvedSupervisorOptions { return resolveSupervisorOptions({ ...this.#baseOptions, workers: this.workersWanted }) }
  behaviourOf(folder: string): Behaviour { return this.#releases.get(folder)?.behaviour ?? 'good' }

  releaseOf(folder: string): Release {
    const { fingerprint } = this.#releases.get(folder)!
    const entries = { worker: 'w', describe: 'd', boot: 'b', resume: 'r' }
    return { folder, application: `${folder}/app.ts`, installation: folder, entries, node: 'node', fingerprint }
  }

  /** What machines of a fleet have in common: each time a key comes first that was second before. */
  ticketFile(): Buffer {
    const time = Math.floor(this.nowMs / TICKET_FILE_MS)
    if (time % 4 === 3) throw new Error('ENOENT')
    const key = (number: number): string => Buffer.alloc(48, number + 1).toString('base64')
    return Buffer.from([key(time), key(time + 1), ...time === 0 ? [] : [key(time - 1)]].join('\n'))
  }

  // ---- processes

  fork(image: SimSupervisor, request: ForkRequest, onExit: (report: ExitReport) => void): ForkedProcess {
    if (!this.calm && this.random.chance(0.005)) {
      this.log(() => 'a fork fails')
      image.later(0, () => onExit({ code: null, signal: null, problem: 'EAGAIN' }))
      return { pid: 0 }
    }
    const worker = new SimWorker(this, this.#nextPid++, request, request.descriptors.map(fd => this.kernel.socketOf(fd)))
    this.workers.add(worker)
    this.families.set(worker, {
      parent: image.pid, by: image, watchers: [{ image, onExit }], told: new Set(), killer: null,
      lastAccepted: new Set(), steppingBack: new Map(),
    })
    this.count('forks')
    this.log(() => `fork ${worker.id} (pid ${worker.pid}, ${worker.behaviour})`)
    return { pid: worker.pid }
  }

  watch(image: SimSupervisor, pid: number, startTime: string, onExit: (report: ExitReport) => void): void {
    const worker = this.#process(pid)
    if (worker === undefined || worker.startTime !== startTime) {
      image.later(this.random.next() * 200, () => onExit({ code: null, signal: null, problem: '' }))
      return
    }
    const watcher: Watcher = { image, onExit }
    this.families.get(worker)!.watchers.push(watcher)
    if (!worker.alive) this.#tell(worker, watcher)
  }

  signalWorker(image: SimSupervisor, pid: number, signal: NodeJS.Signals): boolean {
    const worker = this.#process(pid)
    if (worker === undefined) return false
    if (image !== this.image) this.violation(`(10) a supervisor without the folder sends ${signal} to worker ${worker.id}`)
    this.log(() => `${signal} to worker ${worker.id}`)
    if (!worker.alive) return true
    checkKill(this, image, worker, signal)
    if (signal === 'SIGKILL') this.families.get(worker)!.killer = image
    if (signal === 'SIGABRT' && worker.stopped) worker.aborts = true
    else if (signal === 'SIGKILL' || signal === 'SIGABRT') worker.die({ signal })
    return true
  }

  startTimeOf(pid: number): string {
    const worker = this.#process(pid)
    return worker?.alive === true ? worker.startTime : ''
  }

  #process(pid: number): SimWorker | undefined {
    for (const worker of this.workers) if (worker.pid === pid) return worker
    return undefined
  }

  /** Ids of workers that have ever held sockets alone. */
  readonly #soleHolders = new Set<string>()
  /** Closes a copy of a socket. */
  closing: SimWorker | null = null

  /** Notes what a dying worker accepted from, before that is gone. */
  inDying(worker: SimWorker, close: () => void): void {
    const family = this.families.get(worker)!
    family.lastAccepted = new Set([...worker.acceptors.values()].flatMap(acceptors => [...acceptors.values()]))
    close()
  }

  onWorkerDead(worker: SimWorker): void {
    const { watchers, parent } = this.families.get(worker)!
    if (parent === 1) this.#reap(worker)
    for (const watcher of watchers) this.#tell(worker, watcher)
  }

  #tell(worker: SimWorker, watcher: Watcher): void {
    const { image, onExit } = watcher
    if (image.dead) return
    const family = this.families.get(worker)!
    const isChild = family.parent === image.pid
    const usualMs = isChild ? 5 : family.killer === image ? 20 : 200
    image.later(this.random.delay(usualMs, 300), () => {
      if (isChild) this.#reap(worker)
      family.told.add(image)
      onExit(isChild ? worker.report : { code: null, signal: null, problem: '' })
    })
  }

  #reap(worker: SimWorker): void {
    if (worker.reaped) { this.violation(`worker ${worker.id} is reaped twice`); return }
    worker.reaped = true
    this.workers.delete(worker)
    this.ghosts.add(worker)
    this.plainAfter(GHOST_MS, () => { this.ghosts.delete(worker) })
  }

  /** Deaths and outcomes that were told as events, by lineage. */
  readonly #told = new Set<string>()

  onErrorEvent({ level, tags, message }: ErrorEvent): void {
    this.log(() => `  event: ${message}`)
    this.count(`events of kind ${tags['kind']}`)
    const what = level === 'fatal' ? `the death of worker ${tags['worker']}` : tags['operation']
    if (what === undefined) return
    const key = `${this.lineage} ${what}`
    if (this.#told.has(key)) this.violation(`(14) ${what} is told twice`)
    this.#told.add(key)
  }

  // ---- the supervisor's process

  #startSupervisor(): void {
    if (this.supervisorPid !== 0) return
    this.stopped = false
    this.supervisorPid = this.#nextPid++
    const { current } = this
    this.log(() => `supervisor starts (pid ${this.supervisorPid}, ${current})`)
    this.#runImage(new SimSupervisor(this, this.supervisorPid, current, null))
  }

  #runImage(image: SimSupervisor): void {
    this.image = image
    this.#composed = null
    this.active = 0
    this.#lastStep = ''
    image.run()
  }

  killSupervisor(why: string): void {
    if (this.supervisorPid === 0) return
    this.log(() => `supervisor (pid ${this.supervisorPid}) is dead: ${why}`)
    this.count('supervisor deaths')
    this.#supervisorGone()
    this.after(this.calm ? 100 : this.random.delay(500, 20_000, 0.1), () => this.#startSupervisor())
  }

  /** The process is gone, however. */
  #supervisorGone(): void {
    const pid = this.supervisorPid
    this.supervisorPid = 0
    this.#cancelBootTimer()
    this.image?.die()
    this.image = null
    this.#endRivals()
    this.#dropConnections()
    this.control.leave(pid)
    this.#dropInbox()
    this.kernel.closeAllOf(pid)
    for (const worker of [...this.workers]) {
      const family = this.families.get(worker)!
      if (family.parent !== pid) continue
      family.parent = 1
      if (!worker.alive) this.#reap(worker)
      else if (!worker.booted) worker.die({ code: 0 })
    }
  }

  #dropConnections(): void {
    const waiting = this.#connections.filter(({ serverEnd }) => this.control.waits(serverEnd))
    for (const known of this.#connections) if (!waiting.includes(known)) known.serverEnd.die()
    this.#connections = waiting
  }

  /** Exec in place: the process and the descriptors that are named go on. */
  exec(image: SimSupervisor, handover: SimHandover, bootTimeoutMs: number): void {
    this.count('execs')
    this.log(() => `exec of ${handover.folder} in place (${handover.attempt})`)
    for (const fd of handover.descriptors) if (!this.control.owns(fd)) this.kernel.socketOf(fd)
    this.#leaveImage(image, handover)
    const boot = this.calm ? 'good' : this.#boots.get(this.releaseOf(handover.folder).fingerprint)!
    // On a slow machine its time is over at any moment of what it does.
    const late = !this.calm && this.pace.chance(LATE_SHARE)
    const inTimeMs = late ? this.pace.next() * LATE_WITHIN_MS : bootTimeoutMs
    if (late) this.count('late successors')
    this.#cancelBootTimer = this.after(inTimeMs, () => this.execBack(this.image, handover, 'not done in time'))
    if (late && this.pace.chance(0.7)) this.after(this.pace.next() * LATE_WITHIN_MS, () => this.#disturbances.machineIsBusy())
    const pid = this.supervisorPid
    const boots = ++this.#boot
    this.after(20 + this.random.delay(80, 1_000), () => {
      if (this.supervisorPid !== pid || this.#boot !== boots) return
      if (boot === 'throws') this.execBack(null, handover, 'boot threw')
      else if (boot === 'dies') this.killSupervisor('boot crashed')
      else if (boot === 'good') this.#runImage(new SimSupervisor(this, pid, handover.folder, handover))
    })
  }

  #leaveImage(image: SimSupervisor | null, handover: SimHandover): void {
    image?.die()
    this.image = null
    this.#dropConnections()
    this.#dropInbox()
    const kept = new Set(handover.descriptors)
    this.control.leave(this.supervisorPid, kept)
    this.kernel.closeAllOf(this.supervisorPid, kept)
    for (const worker of this.workers) {
      const isChild = this.families.get(worker)!.parent === this.supervisorPid
      if (isChild && worker.alive && !worker.booted) worker.die({ code: 0 })
    }
  }

  execBack(image: SimSupervisor | null, handover: SimHandover, reason: string): void {
    if (handover.attempt === 'back') { this.killSupervisor(`the image before failed as well: ${reason}`); return }
    this.count('execs back')
    this.log(() => `the trampoline goes back to ${handover.backFolder}: ${reason}`)
    this.#cancelBootTimer()
    this.#boot++
    this.#leaveImage(image, handover)
    const back: SimHandover = { ...handover, attempt: 'back', reason, folder: handover.backFolder }
    const pid = this.supervisorPid
    this.after(20 + (this.calm ? 80 : LATE_WITHIN_MS) * this.pace.next() ** 4, () => {
      if (this.supervisorPid === pid) this.#runImage(new SimSupervisor(this, pid, back.folder, back))
    })
  }

  onBootCommitted(image: SimSupervisor): void {
    this.log(() => `the image ${image.folder} has taken over`)
    this.#cancelBootTimer()
  }

  /** What an event has made of the supervisor, which does not tell. */
  #lookAt(image: SimSupervisor | null): void {
    if (image === null) return
    if (image.state === SupervisorState.Running) image.wasRunning = true
    if (image.stopping && !this.gap) {
      this.gap = true
      this.log(() => 'the supervisor is stopping')
    }
    const { fleet } = image
    if (fleet !== this.#composed) {
      if (fleet === null) this.#onAbandoned(image, this.#composed!)
      else this.#onComposed(image, fleet)
      this.#composed = fleet
    }
    // The sockets are back, or others are bound beside them.
    if (fleet !== null) for (const worker of fleet.workers()) if (worker.intent === Intent.Dissolve) this.#soleHolders.add(worker.id)
  }

  /** Fleet and operations of an image exist. */
  #onComposed(image: SimSupervisor, fleet: Fleet): void {
    const exclusive = fleet.exclusive.bind(fleet)
    fleet.exclusive = <T>(name: string, operation: () => Promise<T>): Promise<T> => exclusive(name, async () => {
      if (++this.active > 1) this.violation(`'${name}' runs beside another operation`)
      try { return await operation() } finally { this.active-- }
    })
    const { table } = image
    const retain = table.retain.bind(table)
    table.retain = (described, calls) => {
      this.removing = new Set(described.map(listener => listener.canonical))
      try { return retain(described, calls) } finally { this.removing = null }
    }
    this.#options.plant?.(image, this)
  }

  onFreshStart(image: SimSupervisor): void {
    if (image !== this.image) this.violation('(10) a supervisor without the folder starts workers of its own')
    this.lineage++
    this.encryptedAt.clear()
    this.gap = true
    this.log(() => 'a fresh start')
  }

  #onAbandoned(image: SimSupervisor, fleet: Fleet): void {
    this.gap = true
    this.count('abandoned')
    const waitsStill = image.nowMs() < this.options.upgrade.adoptTimeoutMs
    const able = [...this.workers].filter(worker => {
      const hasListened = worker.phase !== 'starting' && worker.phase !== 'ready'
      const has = worker.alive && !worker.stopped && !worker.closed && hasListened && !worker.askedForSockets
      const canSend = worker.connected || (waitsStill && worker.booted && !image.heardOf.has(worker.id))
      return has && canSend && [...fleet.workers()].some(one => one.id === worker.id)
    })
    if (able.length === 0 || image.sendFailed) return
    this.violation(`workers ${able.map(worker => worker.id).join(', ')} hold sockets and can send them, but were not adopted`)
  }

  onEnded(image: SimSupervisor, code: number): void {
    this.log(() => `the supervisor (pid ${image.pid}) ended with code ${code}`)
    if (image !== this.image) { this.#onRivalEnded(image, code); return }
    this.#endRivals()
    this.gap = true
    this.count(`ended ${code}`)
    this.supervisorPid = 0
    image.die()
    this.image = null
    for (const { serverEnd } of this.#connections) serverEnd.close()
    this.#connections = []
    const left = [...this.kernel.descriptors].filter(([, { pid }]) => pid === image.pid)
    // One that was stopped while it took over may not have got to its table.
    if (left.length > 0 && image.wasRunning) this.violation(`the supervisor ended with ${left.length} sockets open`)
    const orphan = [...this.workers].find(worker => worker.alive && this.families.get(worker)!.parent === image.pid)
    if (code === 0 && orphan !== undefined) this.violation(`the supervisor ended while its worker ${orphan.id} lives`)
    this.#dropInbox()
    this.control.leave(image.pid)
    this.kernel.closeAllOf(image.pid)
    for (const worker of [...this.workers]) {
      const family = this.families.get(worker)!
      if (family.parent !== image.pid) continue
      family.parent = 1
      if (!worker.alive) this.#reap(worker)
    }
    if (code === 0) {
      this.stopped = true
      if (!this.calm && this.random.chance(0.5)) this.after(this.random.next() * 5_000, () => this.#startSupervisor())
    } else {
      this.after(this.random.delay(300, 3_000), () => this.#startSupervisor())
    }
  }

  /** A second start beside a supervisor that runs: it changes nothing and says so. */
  startRival(): void {
    if (!this.control.answers(`${STATE_FOLDER}/${CONTROL_SOCKET}`)) return
    const rival = new SimSupervisor(this, this.#nextPid++, this.current, null)
    this.log(() => `another supervisor starts (pid ${rival.pid})`)
    this.count('rivals')
    this.#rivals.add(rival)
    rival.run()
  }

  /** One that finds no supervisor any more would be the next one; the end of this one brings a next one anyway. */
  #endRivals(): void {
    for (const rival of this.#rivals) rival.die()
    this.#rivals.clear()
  }

  #onRivalEnded(rival: SimSupervisor, code: number): void {
    rival.die()
    this.#rivals.delete(rival)
    if (code !== EXIT.running) this.violation(`(10) a supervisor was started beside one that runs and ended with code ${code}`)
    const left = [...this.kernel.descriptors.values()].some(({ pid }) => pid === rival.pid)
    if (left) this.violation('(10) a supervisor without the folder leaves sockets open')
  }

  onRefusedWorker(image: SimSupervisor, id: string): void {
    this.refused.add(id)
    this.log(() => `the supervisor refuses ${id}`)
    if (image.state !== SupervisorState.Claiming || image.fleet !== null || this.journal === null) return
    const named = readEntry(JSON.parse(this.journal))?.fleet?.slots.some(slot => slot.workers.some(worker => workerIdOf(worker) === id))
    if (named === true) this.violation(`(10) worker ${id} is refused by a supervisor that has its journal and has not tried to adopt it`)
  }

  // ---- connections to the supervisor

  /** @param worker null: an operator. @returns our end; null when nothing listens there. */
  dialControl(path: string, worker: SimWorker | null, tap: SimEnd['tap'] = null): SimEnd | null {
    const dialled = this.control.dial(path, tap)
    if (dialled === null) return null
    const { connection, clientEnd, serverEnd } = dialled
    if (this.#connections.length > 64) this.#connections = this.#connections.filter(known => known.serverEnd.open)
    this.#connections.push({ connection, serverEnd, worker })
    return clientEnd
  }

  /** What was under way over it is lost. */
  breakConnection(): void {
    const open = this.#connections.filter(({ serverEnd, worker }) => serverEnd.open && worker !== null)
    if (open.length === 0) return
    const { connection, worker } = this.random.pick(open)
    this.log(() => `the connection of ${worker!.id} breaks`)
    connection.cut()
  }

  /** A worker drains because no supervisor comes for it. Not before its time is over, and one dial after that has failed. */
  onOrphaned(worker: SimWorker, { lostAtMs, dialledAtMs }: { readonly lostAtMs: number; readonly dialledAtMs: number }): void {
    this.count('orphans')
    // Refused, or never reached a supervisor: it serves no client then.
    if (this.refused.has(worker.id) || lostAtMs === Number.POSITIVE_INFINITY) return
    const { orphanPolicy, orphanDrainAfterMs } = this.options
    const drains = `(9) worker ${worker.id} drains as an orphan`
    if (orphanPolicy === 'keep') this.violation(`${drains}, but orphans are kept`)
    else if (dialledAtMs < lostAtMs + orphanDrainAfterMs) this.violation(`${drains} before it has looked for a supervisor once more`)
  }

  // ---- descriptors that travel

  openInbox(pid: number): DatagramInbox {
    this.#inbox = []
    return {
      receive: () => {
        const sockets = this.#inbox?.splice(0) ?? []
        if (sockets.length === 0) return null
        const descriptors = sockets.map(socket => this.kernel.open(socket, pid))
        for (const socket of sockets) this.kernel.release(socket)
        return { payload: Buffer.alloc(4), descriptors }
      },
      close: () => this.#dropInbox(),
    }
  }

  /** What was sent and never received. */
  #dropInbox(): void {
    for (const socket of this.#inbox?.splice(0) ?? []) this.kernel.release(socket)
    this.#inbox = null
  }

  sendDescriptors(sockets: readonly SimSocket[]): void {
    if (this.#inbox === null) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' })
    // A message on its way holds them.
    for (const socket of sockets) this.kernel.hold(socket)
    this.#inbox.push(...sockets)
  }

  // ---- what an operation touches

  flip(image: SimSupervisor, folder: string): void {
    checkFlip(this, image, image.upgrades!.record().running!.plan!)
    this.log(() => `current is ${folder}`)
    this.current = folder
    this.count('flips')
  }

  /** @param text null: it is removed. */
  writeJournal(image: SimSupervisor, text: string | null): void {
    if (image.dead) return
    if (image !== this.image) { this.violation('(10) a supervisor without the folder writes the journal'); return }
    this.journal = text
    this.#onRecorded(image)
  }

  onOrder(image: SimSupervisor, id: string, order: ToWorker): void {
    this.log(() => {
      const slot = 'slot' in order ? ` ${order.slot}` : ''
      const how = 'order' in order ? ` (${order.order.mode}, ends after ${order.order.endAfterMs} ms)` : ''
      return `order to ${id}: ${order.tag}${slot}${how}`
    })
    if (order.tag === 'send-descriptors') for (const worker of this.workers) if (worker.id === id) worker.askedForSockets = true
    checkOrder(this, image, id, order)
    if (order.tag !== 'stand-in' && order.tag !== 'step-back') return
    for (const [worker, { steppingBack }] of this.families) {
      if (worker.id !== id) continue
      if (order.tag === 'step-back') steppingBack.set(order.slot, image)
      else steppingBack.delete(order.slot)
    }
  }

  /** The journal was written: a step may have begun. */
  #onRecorded(image: SimSupervisor): void {
    const step = `${image.upgrades?.running?.id ?? ''} ${image.upgrades?.step ?? ''}`
    if (step === this.#lastStep) return
    this.#lastStep = step
    if (this.calm || !this.random.chance(this.#stepTrouble)) return
    this.after(this.random.pick([0, 5, 50, 400, 1_500]) * this.random.next(), () => { if (!this.calm) this.#disturbances.inStep() })
  }

  // ---- queues that end

  #onQueueLost(socket: SimSocket, dials: readonly Dial[], how: string): void {
    this.log(() => `the queue of ${socket.address} (socket ${socket.inode}) is gone by ${how}, ${dials.length} dials are reset`)
    const { image } = this
    if (this.supervisorPid === 0 || (image !== null && (image.stopping || (image.state < SupervisorState.Running && !image.resumed)))) {
      // No supervisor was left that could have kept it.
      this.gap = true
      return
    }
    if (this.gap) return
    // Only its holder could have kept it: it was killed, has met an uncaught error, cannot accept, or had answered all that waited.
    const holder = this.closing
    const wasAlone = how === 'last holder' && holder !== null && this.#soleHolders.has(holder.id)
    if (wasAlone && (dials.length === 0 || !holder.alive || holder.threw || !holder.able || holder.obeysTheDead)) {
      // On what was bound beside, no worker may have listened yet.
      this.gap = true
      return
    }
    if (this.removing !== null && !this.removing.has(socket.address)) return
    // Another worker still has sockets of a listener that was removed, or was never committed.
    const committed = image?.fleet?.generation.description.listeners
    if (how === 'last holder' && committed?.some(listener => listener.canonical === socket.address) === false) return
    this.violation(`(1) the queue of ${socket.address} (socket ${socket.inode}) was lost by ${how}`)
  }

  onAccepted(dial: Dial): void {
    this.count('accepted')
    if (this.nowMs - dial.atMs > 1_000) this.count('accepted late')
  }

  #dial(): void {
    const { address } = this.random.pick(this.listeners)
    const usedMs = this.random.chance(0.1) ? this.random.next() * 20_000 : this.random.next() * 500
    const accepted = this.kernel.dial(address, { number: this.#nextDial++, atMs: this.nowMs, usedMs })
    this.count('dials')
    const { image } = this
    const fleet = image?.fleet ?? null
    if (accepted || image === null || fleet === null || image.state !== SupervisorState.Running || this.gap) return
    const committed = fleet.generation.description.listeners.some(listener => listener.canonical === address)
    if (committed) this.violation(`(1) a dial to ${address} was refused while the server runs`)
  }

  // ---- what happens

  #begin(): void {
    const { random } = this
    this.#startSupervisor()
    const dial = (): void => {
      if (this.#done) return
      this.#dial()
      this.plainAfter(random.next() * (this.calm ? 4_000 : 600), dial)
    }
    this.plainAfter(1_000, dial)
    const disturbances = random.pick([0, 1, 2, 3, 5, 8, 12, 20])
    const lastsMs = 3_000 + disturbances * random.next() * 6_000
    for (let index = 0; index < disturbances; index++) this.after(1_500 + random.next() * lastsMs, () => this.#disturbances.happen())
    if (random.chance(0.08)) {
      this.after(lastsMs, () => this.operators.ask({ tag: 'stop', force: random.chance(0.2), wait: random.chance(0.7) }))
    }
    this.after(lastsMs + 3_000, () => this.#calmDown())
  }

  #calmDown(): void {
    this.log(() => 'the disturbances are over')
    this.calm = true
    this.#floorMs = 0
    this.kernel.foreign.clear()
    for (const worker of this.workers) if (worker.stopped) worker.resume()
    if (this.supervisorPid === 0 && !this.stopped) this.#startSupervisor()
    const sinceMs = this.nowMs
    const look = (): void => {
      const reason = restlessness(this)
      if (reason === '') {
        if (this.stopped) { this.#done = true; return }
        // The last word of a run: a good release goes through.
        if (!this.#finalAsked) {
          this.#finalAsked = true
          this.operators.ask(this.random.pick(LAST_OPERATIONS), result => {
            if ((result as { result?: string } | null)?.result !== undefined) this.#finalOutcome = result as OperationOutcome
          })
        } else if (this.#finalOutcome !== null) {
          const { result, reason: why } = this.#finalOutcome
          if (result !== 'committed') this.violation(`(7) nothing is wrong, but the last operation is ${result}: ${why}`)
          this.#done = true
          return
        }
      }
      if (this.nowMs - sinceMs > REST_LIMIT_MS) {
        this.violation(`(7) no rest: ${reason === '' ? 'the last operation has no outcome' : reason}`)
        return
      }
      this.after(REST_POLL_MS, look)
    }
    this.after(REST_POLL_MS, look)
  }
}

function workerIdOf({ generation, slot, n }: WorkerRecord): string { return `${generation}.${slot}.${n}` }

let inUse: World | null = null
let watching = false

function watchRejections(world: World): void {
  inUse = world
  if (watching) return
  watching = true
  process.on('unhandledRejection', (error: unknown) => {
    const text = error instanceof Error ? error.stack ?? error.message : String(error)
    inUse?.violation(`(8) a rejection that was not handled: ${text}`)
  })
}

/** A run of one seed. */
export function runSeed(seed: number, options: WorldOptions = {}): Promise<RunResult> { return new World(seed, options).run() }

const SHOWN_LINES = 200

/** For the person who has to find out: the end of the log, and how to see it again. @param result of a run with a log. */
export function failureText({ seed, failure, log }: RunResult): string {
  const again = `again: npm run simulate -- --from ${seed} --seeds 1 --log`
  return [...log.slice(-SHOWN_LINES), '', `seed ${seed}: ${failure}`, again].join('\n')
}
