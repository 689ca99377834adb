/**
 * Processes that exist only in a test. Time moves by hand; a fork is recorded and behaves as told; SIGKILL ends it at
 * once unless it was told to resist.
 */
import { ChannelError } from '../../src/ipc/channel.ts'
import type { FromWorker, ToWorker } from '../../src/ipc/messages.ts'
import { NO_COUNTS, type OpenCounts } from '../../src/ipc/open-counts.ts'
import type { WorkerPhase } from '../../src/ipc/worker-phase.ts'
import { takeRole } from '../../src/ipc/worker-role.ts'
import type { WorkerRole } from '../../src/ipc/worker-role.ts'
import type { Fleet } from '../../supervisor/fleet.ts'
import type { ExitReport, ForkedProcess, ForkRequest, ProcessHost } from '../../supervisor/process-host.ts'
import type { WorkerLink, WorkerProcess } from '../../supervisor/worker-process.ts'
import { FakeClock } from './fake-clock.ts'

export class FakeProcessHost implements ProcessHost {
  readonly clock = new FakeClock()
  readonly workers: FakeWorker[] = []
  /** Told of every fork, so that a worker can act by itself. */
  onFork: (worker: FakeWorker) => void = () => {}
  #nextPid = 1_000

  fork(request: ForkRequest, onExit: (report: ExitReport) => void): ForkedProcess {
    const worker = new FakeWorker(this.#nextPid++, request, onExit)
    this.workers.push(worker)
    // Never during the call: the caller does not know the pid yet.
    queueMicrotask(() => { if (!worker.ended) this.onFork(worker) })
    return { pid: worker.pid }
  }

  kill(pid: number, signal: NodeJS.Signals): boolean {
    const worker = this.workers.find(other => other.pid === pid)
    if (worker === undefined || worker.ended) return false
    worker.signals.push(signal)
    if (signal === 'SIGKILL') worker.exit({ code: null, signal })
    return true
  }

  /** Told of every process that is taken over. */
  onAdopt: (pid: number, onExit: (report: ExitReport) => void) => void = () => {}
  adopt(pid: number, _startTime: string, onExit: (report: ExitReport) => void): void { this.onAdopt(pid, onExit) }

  cores = 8
  nowMs(): number { return this.clock.now() }
  random(): number { return 0.5 }
  after(ms: number, run: () => void): () => void { return this.clock.after(ms, run) }
  startTime(pid: number): string { return String(pid) }

  /** The newest worker of a slot. */
  newest(slot: number): FakeWorker { return this.workers.filter(worker => worker.role.slot === slot).at(-1)! }
  get living(): FakeWorker[] { return this.workers.filter(worker => !worker.ended) }
}

export class FakeWorker {
  readonly pid: number
  readonly request: ForkRequest
  readonly role: WorkerRole
  readonly signals: NodeJS.Signals[] = []
  readonly orders: ToWorker[] = []
  ended = false
  process: WorkerProcess | null = null
  /** How orders are answered; a rejection is a refusal, a promise that stays open is silence. */
  obey: (order: ToWorker) => Promise<unknown> = () => Promise.resolve(null)
  /** Ends the process when it is told to drain. */
  drainsAtOnce = true
  readonly #onExit: (report: ExitReport) => void

  constructor(pid: number, request: ForkRequest, onExit: (report: ExitReport) => void) {
    this.pid = pid
    this.request = request
    this.role = takeRole({ ...request.env }, () => request.secret) as WorkerRole
    this.#onExit = onExit
  }

  get id(): string { return this.role.worker }
  ordered(tag: ToWorker['tag']): ToWorker[] { return this.orders.filter(order => order.tag === tag) }

  connect(fleet: Fleet, overrides: Partial<Extract<FromWorker, { tag: 'hello' }>> = {}): boolean {
    const link: WorkerLink = {
      ask: async order => {
        this.orders.push(order)
        if (this.ended) throw new ChannelError('closed', 'gone')
        const answer = await this.obey(order)
        if (order.tag === 'drain' && this.drainsAtOnce) queueMicrotask(() => this.exit({ code: 0, signal: null }))
        return answer
      },
      send: order => { this.orders.push(order) },
      close: () => {},
    }
    const phase: WorkerPhase = 'starting'
    const { token } = this.role
    const hello = { tag: 'hello', protocol: 1, worker: this.id, token, pid: this.pid, phase, ...overrides } as const
    this.process = fleet.hello(hello, link)
    return this.process !== null
  }

  say(fleet: Fleet, message: FromWorker): void { fleet.onMessage(this.process!, message) }

  heartbeat(fleet: Fleet, exchanges = 0, more: Partial<OpenCounts> = {}): void {
    const open = { ...NO_COUNTS, connections: 1, idleConnections: 1, exchanges, ...more }
    this.say(fleet, { tag: 'heartbeat', seq: 0, loopLagMs: 0, utilization: 0, rssBytes: 1, open })
  }

  exit(report: Partial<ExitReport>): void {
    if (this.ended) return
    this.ended = true
    this.#onExit({ code: null, signal: null, problem: '', ...report })
  }
}

/** Lets promises that are ready run. */
export function settle(): Promise<void> { return new Promise(resolve => { setImmediate(resolve) }) }
