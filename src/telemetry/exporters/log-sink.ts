/** Where lines of a log go, whatever is behind it: a file, a standard stream, or syslog. Chosen once, when the log is opened. */
import type { LogLevel } from '../../config/log-options.ts'
import { SYSLOG_PREFIX } from '../../config/syslog-target.ts'
import { LineSink, type LineDestination, type LineSinkOptions } from './line-sink.ts'
import { SyslogSink } from './syslog-sink.ts'

/**
 * Never waits for whoever takes the lines, never throws once it is open, keeps at most `maxLogQueueBytes`, and counts what it drops.
 */
export interface LogSink {
  /** Lines that were lost, because too much waited or nobody took them. */
  readonly dropped: number
  /** Writes and openings that failed. */
  readonly faults: number
  /** What went wrong last, with its place; '' while nothing has, and when lines get through again. */
  readonly trouble: string
  /** Called when a line was dropped or something failed: often, while that lasts. */
  onTrouble: (() => void) | null
  /** Longest line, in bytes and its break included, that arrives in one piece: whoever makes lines keeps to it. */
  readonly maxLineLength: number
  /**
   * Takes one line with its line break.
   * @param bytes its length in UTF-8, for who knows it: that of `line` when it is pure ASCII
   * @param level its weight, where that matters behind it. @returns false when it was dropped
   */
  write(line: string, bytes?: number, level?: LogLevel): boolean
  /**
   * Takes one line of ASCII with its line break: the first `length` bytes of `bytes`, which are the caller's again after the call.
   * @returns false when it was dropped
   */
  writeBytes(bytes: Buffer, length: number): boolean
  /** Goes on in a new file of the same name; nothing else can be renamed. */
  reopen(): void
  /** Hands over what waits and stays open. Resolves within a few seconds. */
  flush(): Promise<void>
  /** The same, and closes; what then still waits is dropped. */
  close(): Promise<void>
}

/**
 * @param about which log it is, for readers of syslog. @throws OptionError, and when the file cannot be opened or there is no way to
 * the syslog of this machine
 */
export function openLogSink(destination: LineDestination, options: LineSinkOptions, about: 'access' | 'process'): LogSink {
  if (typeof destination === 'object' && 'syslog' in destination) return new SyslogSink(destination.syslog, options, about)
  return new LineSink(destination, options)
}

/** Where a log goes that is configured: a word, an address of syslog, or the path of a file. */
export function destinationOf(text: string): LineDestination {
  if (text === 'stdout' || text === 'stderr') return text
  return text.startsWith(SYSLOG_PREFIX) ? { syslog: text } : { file: text }
}
