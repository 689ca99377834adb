/**
 * One image of a simulated supervisor process: the real Supervisor in a world of simulated time, processes, sockets, files
 * and releases. Nothing that supervisor.ts decides is decided here.
 */
import path from 'node:path'
import { SENTRY_DEFAULTS } from '../../src/config/sentry-options.ts'
import type { ServerConfig } from '../../src/config/server-config.ts'
import { TLS_DEFAULTS } from '../../src/config/tls-options.ts'
import { OptionError } from '../../src/primitives/option-table.ts'
import type { ChannelEnd, ChannelHandlers, ChannelOptions, Question } from '../../src/ipc/channel.ts'
import type { Decode, FromWorker, ToWorker } from '../../src/ipc/messages.ts'
import type { LogFields, ProcessLog } from '../../src/ipc/process-log.ts'
import type { DescribedListener, ServerDescription } from '../../src/ipc/server-description.ts'
import type { SystemCalls } from '../../src/ipc/system-calls.ts'
import type { ErrorSink } from '../../src/telemetry/exporters/error-sink.ts'
import type { AdminServer } from '../../supervisor/admin-server.ts'
import type { ControlConnection, ControlSockets } from '../../supervisor/control-sockets.ts'
import type { Fleet } from '../../supervisor/fleet.ts'
import { JOURNAL } from '../../supervisor/state-folder.ts'
import type { ListenerTable } from '../../supervisor/listener-table.ts'
import type { MetricLedger } from '../../supervisor/metric-ledger.ts'
import type { ExitReport, ForkedProcess, ForkRequest, ProcessHost } from '../../supervisor/process-host.ts'
import { readResumption } from '../../supervisor/resumption.ts'
import type { ResumedLife } from '../../supervisor/resumption.ts'
import { Supervisor } from '../../supervisor/supervisor.ts'
import { SupervisorState } from '../../supervisor/supervisor-state.ts'
import type { ExecRequest, StateDisk, SupervisorSetup, SupervisorWorld } from '../../supervisor/supervisor-world.ts'
import { ServiceManager } from '../../supervisor/systemd.ts'
import type { Upgrades } from '../../supervisor/upgrade.ts'
import type { SimEnd } from './connection.ts'
import { TICKET_LIFETIME_MS } from './invariants.ts'
import type { World } from './world.ts'

/** What the application is started as: `current` leads to its release. */
const APPLICATION = '/current/app.ts'
export const STATE_FOLDER = '/state'

/** How long it takes until events can be sent. */
const LOAD_MS = 100

/** Everything is an event. */
const SENTRY: ServerConfig['sentry'] = {
  ...SENTRY_DEFAULTS, dsn: 'http://key@sentry.invalid/1', repeatAfterMs: 0, maxEventsPerMinute: 6_000, flushTimeoutMs: 500,
}

/** Messages of an error that no supervisor may end with. */
const IMPOSSIBLE = /^the supervisor failed: |what was under way could not be ended|the upgrade could not be rolled back/

/** What goes with an exec in place, as Handover of the trampoline. */
export interface SimHandover {
  readonly attempt: 'forward' | 'back'
  readonly reason: string
  /** Text of a JournalEntry. */
  readonly state: string
  readonly descriptors: readonly number[]
  /** Release of the image that runs. */
  readonly folder: string
  /** Release of the image to go back to. */
  readonly backFolder: string
}

interface Timer { cancel(): void }

export class SimSupervisor implements ProcessHost {
  readonly pid: number
  /** Whose supervisor code this image runs. */
  readonly folder: string
  readonly supervisor: Supervisor
  /** Killed, ended, or replaced in place. */
  dead = false
  wasRunning = false
  /** A worker did not send its sockets in time. */
  sendFailed = false
  /** Ids of workers that have said hello. */
  readonly heardOf = new Set<string>()
  readonly bootedAtMs: number
  readonly timers = new Set<Timer>()
  readonly #world: World
  /** The trampoline's watch over us; null: there is no image to go back to. */
  readonly #handover: SimHandover | null
  readonly #life: ResumedLife | null
  #committed = false

  constructor(world: World, pid: number, folder: string, handover: SimHandover | null) {
    this.#world = world
    this.pid = pid
    this.folder = folder
    this.#handover = handover
    this.#life = handover === null ? null : readResumption({ ...handover, state: JSON.parse(handover.state) as unknown })
    this.bootedAtMs = world.nowMs
    this.supervisor = new Supervisor(this.#setup(), this.#surroundings())
  }

  get state(): SupervisorState { return this.supervisor.state }
  get stopping(): boolean { return this.supervisor.stopping }
  get fleet(): Fleet | null { return this.supervisor.fleet }
  get upgrades(): Upgrades | null { return this.supervisor.upgrades }
  get table(): ListenerTable { return this.supervisor.holdings.table }
  get ledger(): MetricLedger { return this.supervisor.ledger }
  /** It goes on with what an image before it had open. */
  get resumed(): boolean { return this.#handover !== null }

  run(): void {
    const ended = this.#handover === null || this.#life === null ? this.supervisor.run() : this.#resume(this.#handover, this.#life)
    ended.then(code => {
      if (!this.dead) this.#world.onEnded(this, code)
    }, (error: unknown) => {
      if (!this.dead) this.#world.violation(`the supervisor failed: ${textOf(error)}`)
    })
  }

  /** As run.ts does. */
  async #resume(handover: SimHandover, { entry, resumption }: ResumedLife): Promise<number> {
    try {
      return await this.supervisor.resume(entry, resumption, () => {
        this.#committed = true
        this.#world.onBootCommitted(this)
      })
    } catch (error) {
      if (this.#committed) throw error
      if (!this.dead) this.#world.execBack(this, handover, error instanceof Error ? error.message : String(error))
      return new Promise<never>(() => {})
    }
  }

  /** Nothing of this image runs any more. */
  die(): void {
    this.dead = true
    for (const timer of [...this.timers]) timer.cancel()
  }

  #setup(): SupervisorSetup {
    const given = this.#life
    // As run.ts does: a handover does not say where errors are reported to.
    const config = given === null ? this.#config() : { ...given.config, sentry: SENTRY }
    return {
      application: APPLICATION, args: [], origin: { file: '', folder: '/', flags: {} }, config,
      readConfig: () => {
        if (!this.#world.calm && this.#world.random.chance(0.04)) throw OptionError.of('supervisor.workers', 0, 'use 1 or more')
        return this.#config()
      },
      stateFolder: { path: STATE_FOLDER, ours: true }, log: this.#log(),
    }
  }

  #config(): ServerConfig {
    return { file: '', supervisor: this.#world.options, traces: {}, tls: TLS_DEFAULTS, ...this.#world.settings, sentry: SENTRY }
  }

  #log(): ProcessLog {
    const write = (level: string) => (message: string, fields?: LogFields): void => {
      if (this.dead) return
      if (message.startsWith('spare worker')) this.#world.count('spares used')
      this.#world.log(() => `  ${level}: ${message}${shown(fields, 'reason')}${shown(fields, 'error')}`)
      const impossible = level === 'error' && IMPOSSIBLE.test(message) && !message.endsWith('stopped while starting')
      if (impossible) this.#world.violation(`${message}${shown(fields, 'error')}${shown(fields, 'stack')}`)
    }
    return { info: write('info'), warn: write('warn'), error: write('error') }
  }

  #surroundings(): SupervisorWorld {
    const world = this.#world
    const calls = this.#calls()
    return {
      own: { pid: this.pid, node: '/node', nodeVersion: 'v0', execArgv: [], version: '0' },
      host: this,
      binder: world.kernel.binderFor(this.pid),
      control: this.#controlSockets(),
      disk: this.#disk(),
      metricDisk: world.metricDisk,
      releases: {
        releaseOf: () => world.releaseOf(world.current),
        read: folder => world.releaseOf(folder),
        fingerprintOf: () => world.releaseOf(this.folder).fingerprint,
        current: () => world.current,
        fileOnceCurrent: (_application, file) => file,
        flip: (_application, folder) => world.flip(this, folder),
        changedSince: () => false,
      },
      wallMs: () => world.wallMs,
      turn: () => this.delay(0),
      loadSystemCalls: () => Promise.resolve({ available: true, calls }),
      serviceManager: (_calls, log) => ServiceManager.fromEnvironment({}, calls, log),
      resolveIdentity: () => ({ uid: null, gid: null }),
      describe: (_of, _timeoutMs, signal) => this.#describe(signal),
      createAdmin: () => ({}) as AdminServer,
      openErrorSink: async () => {
        await this.delay(LOAD_MS)
        return this.#errorSink()
      },
      readSmallFile: () => world.ticketFile(),
      openInbox: path => calls.openInbox(path),
      exec: request => this.#exec(request),
      acceptQueueLimit: () => null,
      terminalIsGone: () => false,
    }
  }

  /** Answers at once, or never. Nothing is drawn for it: what else happens in a seed does not depend on it. */
  #errorSink(): ErrorSink {
    const counts = { accepted: 0, failed: 0, dropped: 0 }
    const hangs = this.#world.seed % 5 === 0
    return {
      counts, close() {},
      send: event => {
        if (this.dead) return
        if (!hangs) counts.accepted++
        this.#world.onErrorEvent(event)
      },
      flush: () => new Promise(() => {}),
    }
  }

  // ---- ProcessHost

  fork(request: ForkRequest, onExit: (report: ExitReport) => void): ForkedProcess { return this.#world.fork(this, request, onExit) }
  kill(pid: number, signal: NodeJS.Signals): boolean { return this.#world.signalWorker(this, pid, signal) }
  adopt(pid: number, startTime: string, onExit: (report: ExitReport) => void): void { this.#world.watch(this, pid, startTime, onExit) }
  get cores(): number { return this.#world.cores }
  nowMs(): number { return this.#world.nowMs - this.bootedAtMs }
  random(): number { return this.#world.random.next() }
  startTime(pid: number): string { return pid === this.pid ? String(pid) : this.#world.startTimeOf(pid) }

  after(ms: number, run: () => void): () => void {
    // As setTimeout: never at once.
    const timer = this.later(Math.max(1, ms), run)
    return () => timer.cancel()
  }

  /** A timer of this image. */
  later(ms: number, run: () => void): Timer {
    const cancel = this.#world.after(Math.max(0, ms), () => {
      this.timers.delete(timer)
      if (!this.dead) run()
    })
    const timer: Timer = { cancel: () => { cancel(); this.timers.delete(timer) } }
    this.timers.add(timer)
    return timer
  }

  delay(ms: number): Promise<void> { return new Promise(resolve => { this.later(ms, resolve) }) }

  // ---- files, sockets, exec

  #disk(): StateDisk {
    const world = this.#world
    return {
      read: file => {
        const text = isJournal(file) ? world.journal : world.instanceId
        if (text === null) throw new Error('ENOENT')
        return text
      },
      write: (file, text) => {
        if (!isJournal(file)) { world.instanceId = text; return }
        if (this.upgrades?.step === 'committing' && !world.calm && world.random.chance(0.03)) throw new Error('ENOSPC')
        world.writeJournal(this, text)
      },
      remove: file => {
        if (isJournal(file)) world.writeJournal(this, null)
        else world.instanceId = null
      },
      soon: run => { this.later(0, run) },
      prepareFolder: () => '',
      removeFolder: () => {},
    }
  }

  #controlSockets(): ControlSockets {
    const { control, random } = this.#world
    const held = (fd: number): { fd: number; close(): void } => ({ fd, close: () => control.close(fd) })
    return {
      answers: async path => {
        await this.delay(random.next() * 20)
        return control.answers(path)
      },
      bind: path => held(control.bind(path, this.pid)),
      adopt: held,
      identity: path => control.identity(path),
      exclusively: (_folder, _calls, run) => run(),
      remove: path => control.remove(path, this.pid),
      chown: () => {},
      listen: async ({ fd }, _calls, onConnection) => ({ close: control.listen(fd, end => onConnection(this.#connection(end))) }),
      after: (ms, run) => this.after(ms, run),
      nowMs: () => this.#world.nowMs,
    }
  }

  #connection(end: SimEnd): ControlConnection {
    end.after = (ms, run) => this.after(ms, run)
    let gone = (): void => {}
    return {
      open: <Out extends { tag: string }, In extends { tag: string }>(
        _decode: Decode<In>, _options: ChannelOptions, handlers: ChannelHandlers<In>,
      ): ChannelEnd<Out> => {
        const watch = new Watch(this.#world, this, end)
        end.onMessage = (message: never, answer) => {
          if (!this.dead) handlers.onMessage(message, answer === null ? null : watch.question(message, answer))
        }
        end.onClose = () => {
          if (this.dead) return
          handlers.onClose('')
          gone()
        }
        return watch as unknown as ChannelEnd<Out>
      },
      finish: () => {
        end.close()
        return Promise.resolve()
      },
      destroy: () => end.close(),
      onGone: run => { gone = run },
    }
  }

  #calls(): SystemCalls {
    const calls: Partial<SystemCalls> = {
      shutdown: fd => this.#world.kernel.shutdown(fd),
      listen: fd => { this.#world.kernel.socketOf(fd).listening = true },
      ignoreDials: fd => { this.#world.kernel.socketOf(fd).ignoresDials = true },
      openInbox: () => this.#world.openInbox(this.pid),
    }
    return calls as SystemCalls
  }

  async #exec({ to, state, descriptors, bootTimeoutMs }: ExecRequest): Promise<never> {
    if (!this.#world.calm && this.#world.random.chance(0.1)) throw new Error('E2BIG')
    this.#world.exec(this, {
      attempt: 'forward', reason: '', state: JSON.stringify(state), descriptors, folder: to.folder, backFolder: this.folder,
    }, bootTimeoutMs)
    return new Promise<never>(() => {})
  }

  async #describe(signal: AbortSignal): Promise<ServerDescription> {
    if (this.state === SupervisorState.Describing) this.#world.onFreshStart(this)
    const { random } = this.#world
    const aborted = new Promise<never>((_, reject) => {
      const abort = (): void => { reject(signal.reason instanceof Error ? signal.reason : new Error('aborted')) }
      if (signal.aborted) abort()
      else signal.addEventListener('abort', abort, { once: true })
    })
    await Promise.race([this.delay(random.delay(300, 2_000)), aborted])
    const tls = this.#world.speaksTls ? { ticketLifetimeMs: TICKET_LIFETIME_MS } : null
    const listeners = this.#world.listeners.map(({ name, address }): DescribedListener => {
      return { name, service: 's', backlog: 511, canonical: address, address: addressOf(address), ...tls === null ? {} : { tls } }
    })
    const selfTest = { method: 'GET', path: '/', headers: {}, expect: { statusMin: 100, statusMax: 499 }, timeoutMs: 500, upstream: false }
    return { format: 1, services: [], listeners, selfTest }
  }
}

function addressOf(address: string): DescribedListener['address'] {
  if (address.startsWith('unix:')) return { kind: 'unix', path: address.slice('unix:'.length), mode: 0o600 }
  return { kind: 'tcp', host: '127.0.0.1', port: Number(address.slice(address.indexOf(':') + 1)), ipv6Only: false }
}

function textOf(error: unknown): string { return error instanceof Error ? error.stack ?? error.message : String(error) }

function shown(fields: LogFields | undefined, name: string): string {
  return fields?.[name] === undefined ? '' : ` (${String(fields[name])})`
}

/** A connection of the supervisor's side, as it goes by: what is ordered, who is refused, what operators are answered. */
class Watch implements ChannelEnd<ToWorker> {
  readonly #world: World
  readonly #image: SimSupervisor
  readonly #end: SimEnd
  /** '' for one of an operator, and before the hello. */
  #worker = ''

  constructor(world: World, image: SimSupervisor, end: SimEnd) {
    this.#world = world
    this.#image = image
    this.#end = end
  }

  send(order: ToWorker): boolean {
    this.#world.onOrder(this.#image, this.#worker, order)
    return this.#end.send(order)
  }

  ask(order: ToWorker, timeoutMs: number | null): Promise<unknown> {
    this.#world.onOrder(this.#image, this.#worker, order)
    const answered = this.#end.ask(order, timeoutMs)
    if (order.tag === 'send-descriptors') answered.catch(() => { this.#image.sendFailed = true })
    return answered
  }

  close(): void { this.#end.close() }
  destroy(): void { this.#end.close() }

  question(message: { readonly tag: string }, answer: Question & { readonly answered: number }): Question {
    const hello = message.tag === 'hello' ? message as Extract<FromWorker, { tag: 'hello' }> : null
    if (hello !== null) {
      this.#worker = hello.worker
      this.#image.heardOf.add(hello.worker)
    }
    const tap = this.#end.tap
    tap?.heard(this.#image)
    const count = (): void => {
      tap?.said()
      if (answer.answered > 1) this.#world.violation(`(5) ${JSON.stringify(message)} was answered twice`)
    }
    return {
      ok: result => { answer.ok(result); count() },
      refuse: (code, reason) => {
        if (hello !== null) this.#world.onRefusedWorker(this.#image, hello.worker)
        answer.refuse(code, reason)
        count()
      },
    }
  }
}

function isJournal(file: string): boolean { return path.basename(file) === JOURNAL }
