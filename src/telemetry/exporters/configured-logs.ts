/**
 * The logs of one process as section `log` of the configuration asks for them. Whoever wires the process together opens
 * them once, before the application starts, and reopens them when it is told to.
 */
import type { LogLevel, ResolvedLogOptions } from '../../config/log-options.ts'
import { systemClock, type Clock } from '../../primitives/clock.ts'
import { RepeatedLines } from '../repeated-lines.ts'
import { AccessLog } from './access-log.ts'
import { createLineLog, type LineLog } from './line-log.ts'
import { destinationOf } from './log-sink.ts'

/** What was lost of the logs of a process. */
export interface LogCounts {
  /** Lines that were not taken. */
  readonly logLinesDropped: number
  /** Writes and openings that failed. */
  readonly logFaults: number
}

export interface ConfiguredLogs {
  readonly log: LineLog
  /** Null when it is off. */
  readonly accessLog: AccessLog | null
  /** Of both, so far. */
  readonly counts: LogCounts
  /** Least weight of a line of the process log from now on; null: what is configured. */
  setLevel(level: LogLevel | null): void
  /** Goes on in new files of the same names; standard streams stay as they are. */
  reopen(): void
  /** Writes what waits, for 2 s at most. */
  close(): Promise<void>
}

export interface LoggingWorker { readonly id: string; readonly generation: number }

/** While lines are lost it is said this often, in ms: seldom, as it may last for days. */
const TROUBLE_PERIOD_MS = 10_000

/**
 * @param who `supervisor` or `worker 1.0.3`
 * @param worker id and generation for the access log; null opens none, as in the supervisor
 * @param clock that decides when to say again that lines are lost
 * @throws when a file cannot be opened, or there is no way to the syslog of this machine
 */
export function openLogs(
  options: ResolvedLogOptions, who: string, worker: LoggingWorker | null, clock: Clock = systemClock,
): ConfiguredLogs {
  const { level, format, maxLogQueueBytes } = options
  const log = createLineLog({ who, level, format, maxLogQueueBytes, destination: destinationOf(options.process) })
  const accessLog = worker === null || options.access === 'off' ? null : openAccessLog(options, worker)
  const accessLines = new RepeatedLines(log, clock, TROUBLE_PERIOD_MS)
  if (accessLog !== null) accessLog.onTrouble = () => tell(accessLines, 'access', accessLog)
  let spare: LineLog | null = null, processLines: RepeatedLines | null = null
  // Of itself the process log can tell where it wrote before it had a file, and nowhere when that is where it writes.
  if (options.process !== 'stderr') {
    log.onTrouble = () => {
      spare ??= createLineLog({ who, format, maxLogQueueBytes, destination: 'stderr' })
      processLines ??= new RepeatedLines(spare, clock, TROUBLE_PERIOD_MS)
      tell(processLines, 'process', log)
    }
  }
  return {
    log, accessLog,
    get counts() {
      return { logLinesDropped: log.dropped + (accessLog?.dropped ?? 0), logFaults: log.faults + (accessLog?.faults ?? 0) }
    },
    setLevel: wanted => log.setLevel(wanted ?? level),
    reopen() {
      log.reopen()
      accessLog?.reopen()
    },
    async close() {
      for (const lines of [accessLines, processLines]) lines?.close()
      await Promise.all([log.close(), accessLog?.close(), spare?.close()])
    },
  }
}

function tell(lines: RepeatedLines, which: 'access' | 'process', { dropped, trouble }: Pick<LineLog, 'dropped' | 'trouble'>): void {
  lines.error(`the ${which} log cannot be written as fast as it is made, or not at all`, {}, () => ({
    dropped, error: trouble === '' ? 'too much waits for its reader or disk' : trouble,
  }))
}

function openAccessLog(options: ResolvedLogOptions, { id, generation }: LoggingWorker): AccessLog {
  const { access, accessFormat, accessSample, accessSlowMs, accessClient, redactQueryKeys, maxLogQueueBytes } = options
  return new AccessLog(destinationOf(access), {
    maxLogQueueBytes, worker: id, generation, format: accessFormat, sample: accessSample, slowMs: accessSlowMs, client: accessClient,
    redactQueryKeys,
  })
}
