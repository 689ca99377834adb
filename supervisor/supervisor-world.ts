/**
 * Everything that a supervisor touches outside of its own objects: time, processes, sockets, files, releases on the disk,
 * and the exec that replaces it. One object, given to `Supervisor`: system-world.ts is the real one, the simulation
 * (test/simulation) brings another, and no file between the two names an operating system.
 */
import type { LogLevel } from '../src/config/log-options.ts'
import type { ServerConfig } from '../src/config/server-config.ts'
import type { WorkerSettings } from '../src/config/worker-settings.ts'
import type { ProcessLog } from '../src/ipc/process-log.ts'
import type { ServerDescription } from '../src/ipc/server-description.ts'
import type { DatagramInbox, SystemCalls, SystemCallsState } from '../src/ipc/system-calls.ts'
import type { ErrorSink, ErrorSinkOptions } from '../src/telemetry/exporters/error-sink.ts'
import type { AdminServer, AdminSource } from './admin-server.ts'
import type { ControlSockets } from './control-sockets.ts'
import type { Blueprint } from './generation.ts'
import type { Identity } from './identities.ts'
import type { ConfigOrigin, JournalDisk, JournalEntry } from './journal.ts'
import type { SocketBinder } from './listener-table.ts'
import type { SupervisorStatus } from './operator-desk.ts'
import type { MetricDisk } from './metric-ledger.ts'
import type { ProcessHost } from './process-host.ts'
import type { Release, ReleaseShelf } from './releases.ts'
import type { ServiceManager } from './systemd.ts'

/** What a supervisor is asked to run. */
export interface SupervisorSetup {
  /** Absolute path of the application's module, and what follows it on its command line. */
  readonly application: string
  readonly args: readonly string[]
  readonly config: ServerConfig
  /** Where the configuration came from, and how it is read again. @throws ConfigError */
  readonly origin: ConfigOrigin
  /** @param readAt where a file that is named so is read. */
  readonly readConfig: (readAt: (file: string) => string) => ServerConfig
  /** Of control sockets and journal. @see stateFolderOf */
  readonly stateFolder: StateFolder
  readonly log: ProcessLog
  /** What a reload or an upgrade has read is committed. */
  readonly onConfigured?: (settings: WorkerSettings) => void
  /** Resolves when the log has written what waits. */
  readonly flushLogs?: () => Promise<void>
  /** The supervisor's own log files were renamed. */
  readonly onReopenLogs?: () => void
  /** Of the supervisor's own lines; null: what is configured. */
  readonly onLogLevel?: (level: LogLevel | null) => void
  /** Told once, when every slot accepts. */
  readonly onRunning?: (status: SupervisorStatus) => void
}

export interface StateFolder {
  readonly path: string
  /** We chose its place, so it goes when we end; a folder that an operator chose stays. */
  readonly ours: boolean
}

/** The image that runs. */
export interface OwnImage {
  readonly pid: number
  /** Path of the Node.js that runs it, its version, and the options that it was started with. */
  readonly node: string
  readonly nodeVersion: string
  readonly execArgv: readonly string[]
  /** Version of our own code. */
  readonly version: string
}

/** The exec that turns this image into the supervisor of a release. */
export interface ExecRequest {
  /** For files of the way. */
  readonly folder: string
  readonly to: Release
  /** They survive. */
  readonly descriptors: readonly number[]
  readonly bootTimeoutMs: number
  readonly state: JournalEntry
  /** Variables that the next image needs besides our own. */
  readonly environment: Readonly<Record<string, string>>
}

export interface StateDisk extends JournalDisk {
  /**
   * Makes the state folder, or checks the one that is there. @param passable workers of another user must get through.
   * @returns what an operator should know of its place; '' for nothing. @throws StateFolderError
   */
  prepareFolder(folder: string, passable: boolean): string
  /** One that holds something else stays. */
  removeFolder(folder: string): void
}

export interface SupervisorWorld {
  readonly own: OwnImage
  readonly host: ProcessHost
  readonly binder: SocketBinder
  readonly control: ControlSockets
  readonly disk: StateDisk
  readonly metricDisk: MetricDisk
  readonly releases: ReleaseShelf
  /** In ms since 1970. */
  wallMs(): number
  /** One turn of the event loop: signals and answers that are on their way get through. */
  turn(): Promise<void>
  loadSystemCalls(): Promise<SystemCallsState>
  /** Takes what a service manager has left for us. @param calls null: nothing can be told to it. */
  serviceManager(calls: SystemCalls | null, log: ProcessLog): ServiceManager
  /** @throws OptionError for a name that does not exist. */
  resolveIdentity(user: string, group: string): Identity
  /** @throws DescribeFailed, or the reason of the signal. */
  describe(of: Blueprint, timeoutMs: number, signal: AbortSignal): Promise<ServerDescription>
  createAdmin(source: AdminSource): AdminServer
  /** Loads what takes events of errors. Rejects when it is not installed. */
  openErrorSink(options: ErrorSinkOptions): Promise<ErrorSink>
  /** A fresh inbox for sockets of workers, who run as `owner`. @throws */
  /** A whole small file. @throws also when it is larger than `maxBytes` */
  readSmallFile(file: string, maxBytes: number): Buffer
  openInbox(path: string, owner: Identity, calls: SystemCalls): DatagramInbox
  /** Does not come back, unless the exec cannot even be tried: then it rejects, and nothing has changed. */
  exec(request: ExecRequest, calls: SystemCalls): Promise<never>
  /** How long an accept queue the kernel allows; null: not known. */
  acceptQueueLimit(): number | null
  /** The terminal that we were started in was closed. */
  terminalIsGone(): boolean
}

/** Waits in the world's own time. */
export function elapse(host: Pick<ProcessHost, 'after'>, ms: number): Promise<void> {
  return new Promise(resolve => { host.after(ms, resolve) })
}
