/**
 * What makes a process a worker: the worker, its way to the supervisor, and the order in which they begin. Takes the
 * world from outside: main.ts brings the real one, the simulation another.
 *
 * Tests: test/simulation, and in real processes test/workers/orders.
 *
 *   dial --> welcome (with the settings) --> configure --> load the application --> it calls Worker.run
 */
import path from 'node:path'
import type { WorkerSettings } from '../src/config/worker-settings.ts'
import type { SystemCalls } from '../src/ipc/system-calls.ts'
import type { WorkerRole } from '../src/ipc/worker-role.ts'
import type { ServerContext } from '../src/server/server-context.ts'
import { FaultReports } from '../src/telemetry/fault-reports.ts'
import { ControlClient } from './control-client.ts'
import { EXIT_START_FAILED, Worker } from './worker.ts'
import type { WorkerHost } from './worker.ts'
import type { WorkerWorld } from './worker-world.ts'

/** The process that becomes a worker. */
export interface WorkerSurroundings extends Omit<WorkerHost, 'send' | 'phaseChanged'> {
  readonly world: WorkerWorld
  readonly calls: SystemCalls | null
  /**
   * Before the application is loaded: what its services are given. @param metricsFile in which to count; '': nothing is counted
   * @throws when the settings cannot be followed.
   */
  configure(settings: WorkerSettings, metricsFile: string): ServerContext | Promise<ServerContext>
  /** Evaluates the application, which hands its server to `Worker.run`. */
  load(application: string): Promise<unknown>
}

export class WorkerLife {
  readonly worker: Worker
  readonly client: ControlClient
  readonly #role: WorkerRole
  readonly #surroundings: WorkerSurroundings

  constructor(role: WorkerRole, surroundings: WorkerSurroundings) {
    const { world, calls, log, lines } = surroundings
    this.#role = role
    this.#surroundings = surroundings
    this.worker = new Worker(role, calls, {
      send: message => this.client.send(message),
      phaseChanged: () => this.client.phaseChanged(),
      exit: code => surroundings.exit(code),
      beat: (open, vitals, health) => surroundings.beat(open, vitals, health),
      requestComes: () => surroundings.requestComes(),
      flushLogs: () => surroundings.flushLogs(),
      reopenLogs: () => surroundings.reopenLogs(),
      setLogLevel: level => surroundings.setLogLevel(level),
      setTicketKeys: keys => surroundings.setTicketKeys(keys),
      logCounts: () => surroundings.logCounts(),
      shownClient: address => surroundings.shownClient(address),
      log,
      lines,
    }, world)
    this.client = new ControlClient(role, log, () => this.worker.phase, this.worker, world)
  }

  /** Ends when the application has been evaluated; a worker lives on after that, as its server keeps it. */
  async run(): Promise<void> {
    // First the connection: an application that fails at once must be able to say so.
    const { settings, instanceId, metricsFile = '' } = await this.client.start()
    try {
      if (settings !== undefined) {
        const faultReports = settings.reportsFaults === true ? this.#faultReports() : null
        this.worker.context = { ...await this.#surroundings.configure(settings, metricsFile), faultReports }
      }
      this.worker.context = { ...this.worker.context, stateFolder: path.dirname(this.#role.controlPath) }
      if (instanceId !== undefined) this.worker.context = { ...this.worker.context, instanceId }
      await this.#surroundings.load(this.#role.application)
    } catch (error) {
      this.worker.fail(error, EXIT_START_FAILED, false)
    }
  }

  #faultReports(): FaultReports {
    return new FaultReports(fault => this.client.send({ tag: 'fault', fault }), this.#surroundings.world.clock)
  }
}
