/**
 * What a worker writes and sends of itself. Its logs: plain lines to stderr until the supervisor has said what is configured, then
 * what it said, for the process itself and for every service that has no log of its own. Nothing here writes into a pipe that the
 * supervisor reads: the standard streams are inherited, and files are this process's own. Its traces, when they are configured.
 */
import { stderrLog, type ProcessLog } from '../src/ipc/process-log.ts'
import { LOG_DEFAULTS, type LogLevel, type ResolvedLogOptions } from '../src/config/log-options.ts'
import type { TracesOptions } from '../src/config/traces-options.ts'
import type { ServerContext } from '../src/server/server-context.ts'
import { shownAddresses } from '../src/telemetry/exporters/masked-address.ts'
import { QUERY_SECRETS } from '../src/telemetry/exporters/query-secrets.ts'
import { openLogs, type ConfiguredLogs, type LogCounts } from '../src/telemetry/exporters/configured-logs.ts'
import type { Traces } from '../src/telemetry/exporters/start-traces.ts'

/** Spans that wait at the end have this long, in ms: less than what a worker grants all of it (worker.ts), so that logs are whole. */
const FLUSH_TRACES_MS = 700

export class WorkerTelemetry {
  /** Stays the same object, so that it can be handed on before anything is configured. */
  readonly log: ProcessLog
  readonly #worker: { readonly id: string; readonly generation: number }
  #plain: ProcessLog
  #logs: ConfiguredLogs | null = null
  #clients = shownAddresses('full')
  #level: LogLevel | null = null
  #traces: Traces | null = null

  constructor(worker: { readonly id: string; readonly generation: number }) {
    this.#worker = worker
    this.#plain = stderrLog(`worker ${worker.id}`)
    const current = (): ProcessLog => this.#logs?.log ?? this.#plain
    this.log = {
      get debug() { return current().debug ?? null },
      info: (message, fields) => current().info(message, fields),
      warn: (message, fields) => current().warn(message, fields),
      error: (message, fields) => current().error(message, fields),
    }
  }

  /** Before the application is loaded: where its services write to. @throws when a file cannot be opened. */
  configure(told: ResolvedLogOptions): Pick<ServerContext, 'log' | 'accessLog'> {
    // A supervisor of an older build does not know all of them.
    const options = { ...LOG_DEFAULTS, ...told }
    QUERY_SECRETS.add(options.redactQueryKeys)
    this.#clients = shownAddresses(options.accessClient)
    try {
      const logs = this.#logs = openLogs(options, `worker ${this.#worker.id}`, this.#worker)
      logs.setLevel(this.#level)
      return logs
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      const where = `log.process is ${options.process}, log.access is ${options.access}`
      throw new Error(`a log cannot be opened (${where}): ${why}`, { cause: error })
    }
  }

  /** The address of a client, as whoever looks at requests may know it. */
  shownClient(address: string): string { return this.#clients.of(address) }

  /** Before the application is loaded, which may ask OpenTelemetry for a tracer of its own. @throws when a package cannot be loaded. */
  async startTraces(options: Readonly<TracesOptions> = {}): Promise<Pick<ServerContext, 'tracing'>> {
    if (options.enabled !== true) return { tracing: null }
    try {
      const { startTraces } = await import('../src/telemetry/exporters/start-traces.ts')
      this.#traces = await startTraces(options, {
        log: this.log, worker: this.#worker.id, shownClient: address => this.shownClient(address),
      })
      return { tracing: this.#traces.tracing }
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new Error(`traces.enabled is true, and OpenTelemetry cannot be started: ${why}`, { cause: error })
    }
  }

  /** Lines that did not get through so far. */
  get counts(): LogCounts { return this.#logs?.counts ?? { logLinesDropped: 0, logFaults: 0 } }

  /** Least weight of a line of the process log; null: what is configured. May be said before that is known. */
  setLevel(level: LogLevel | null): void {
    this.#level = level
    this.#logs?.setLevel(level)
  }

  /** Files were renamed: go on in new ones. */
  reopen(): void { this.#logs?.reopen() }

  /** Sends and writes what waits, as far as it is taken; never rejects. */
  async close(): Promise<void> {
    // First, as it may have something to say.
    await this.#traces?.close(FLUSH_TRACES_MS)
    await this.#logs?.close()
  }
}
