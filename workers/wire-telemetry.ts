/**
 * The logs of a worker: plain lines to stderr until the supervisor has said what is configured, then what it said, for
 * the process itself and for every service that has no log of its own. Nothing here writes into a pipe that the
 * supervisor reads: the standard streams are inherited, and files are this process's own.
 */
import { stderrLog, type ProcessLog } from '../src/ipc/process-log.ts'
import { LOG_DEFAULTS, type LogLevel, type ResolvedLogOptions } from '../src/config/log-options.ts'
import type { ServerContext } from '../src/server/server-context.ts'
import { shownAddresses } from '../src/telemetry/exporters/masked-address.ts'
import { QUERY_SECRETS } from '../src/telemetry/exporters/query-secrets.ts'
import { openLogs, type ConfiguredLogs, type LogCounts } from '../src/telemetry/exporters/configured-logs.ts'

export class WorkerTelemetry {
  /** Stays the same object, so that it can be handed on before anything is configured. */
  readonly log: ProcessLog
  readonly #worker: { readonly id: string; readonly generation: number }
  #plain: ProcessLog
  #logs: ConfiguredLogs | null = null
  #clients = shownAddresses('full')
  #level: LogLevel | null = null

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

  /** Lines that did not get through so far. */
  get counts(): LogCounts { return this.#logs?.counts ?? { logLinesDropped: 0, logFaults: 0 } }

  /** Least weight of a line of the process log; null: what is configured. May be said before that is known. */
  setLevel(level: LogLevel | null): void {
    this.#level = level
    this.#logs?.setLevel(level)
  }

  /** Files were renamed: go on in new ones. */
  reopen(): void { this.#logs?.reopen() }

  /** Writes what waits, as far as readers take it; never rejects. */
  async close(): Promise<void> { await this.#logs?.close() }
}
