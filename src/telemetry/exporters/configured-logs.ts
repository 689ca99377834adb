/**
 * The logs of one process as section `log` of the configuration asks for them. Whoever wires the process together opens
 * them once, before the application starts, and reopens them when it is told to.
 */
import type { ResolvedLogOptions } from '../../config/log-options.ts'
import { AccessLog } from './access-log.ts'
import { createPinoLog, type PinoLog } from './pino.ts'

export interface ConfiguredLogs {
  readonly log: PinoLog
  /** Null when it is off. */
  readonly accessLog: AccessLog | null
  /** Lines of both that were dropped so far. */
  readonly dropped: number
  /** Goes on in new files of the same names; standard streams stay as they are. */
  reopen(): void
  /** Writes what waits, for 2 s at most. */
  close(): Promise<void>
}

export interface LoggingWorker { readonly id: string; readonly generation: number }

/**
 * @param who `supervisor` or `worker 1.0.3`
 * @param worker id and generation for the access log; null opens none, as in the supervisor
 * @throws when a file cannot be opened
 */
export function openLogs(options: ResolvedLogOptions, who: string, worker: LoggingWorker | null): ConfiguredLogs {
  const { level, format, maxLogQueueBytes } = options
  const destination = options.process === 'stderr' ? 'stderr' : { file: options.process }
  const log = createPinoLog({ who, level, format, maxLogQueueBytes, destination })
  const accessLog = worker === null || options.access === 'off' ? null : openAccessLog(options, worker)
  return {
    log, accessLog,
    get dropped() { return log.dropped + (accessLog?.dropped ?? 0) },
    reopen() {
      log.reopen()
      accessLog?.reopen()
    },
    async close() { await Promise.all([log.close(), accessLog?.close()]) },
  }
}

function openAccessLog({ access, maxLogQueueBytes }: ResolvedLogOptions, { id, generation }: LoggingWorker): AccessLog {
  return new AccessLog(access === 'stdout' ? 'stdout' : { file: access }, { maxLogQueueBytes, worker: id, generation })
}
