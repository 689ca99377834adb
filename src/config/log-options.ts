/** Where the logs of all processes go, and how much they say; an operator sets it in the section `log`. */
import { choice, defaultsOf, path, size, type OptionTable, type OtherAddresses } from '../primitives/option-table.ts'
import { ACCESS_LINE_OPTIONS } from './access-line-options.ts'
import { SYSLOG_FORMS, SYSLOG_PREFIX, syslogRemedy } from './syslog-target.ts'

export interface LogOptions {
  /** Least weight of a line in the process log: debug, info, warn, error. @default 'info' */
  level?: LogLevel
  /** Form of the process log: json, text, or auto, which is text on a terminal and JSON elsewhere. @default 'auto' */
  format?: 'auto' | 'text' | 'json'
  /** Where the process log goes: stderr, a file that is appended to and reopened on SIGUSR1, or syslog. @default 'stderr' */
  process?: string
  /**
   * Where the access log goes, a line a request: stdout, off, a file that is appended to and reopened on SIGUSR1, or
   * syslog. @default 'stdout'
   */
  access?: string
  /**
   * Form of the access log: json; text, a short line to be read by people; common, as Apache and NCSA write it; combined, as nginx
   * does; or a template of fields, such as '$client $method $path $status'. @default 'json'
   */
  accessFormat?: string
  /**
   * Share of the lines of ordinary requests that is written, 0 to 1. Those with an error, a status of 500 or more, a flag, and slow
   * ones are always written. 0 writes only these. @default 1
   */
  accessSample?: number
  /** How long a slow request takes at least, in ms. Its line is always written. 0 calls none slow. @default 1000 */
  accessSlowMs?: number
  /** Address of the client in the access log: full, masked (the network of it: /24 of IPv4, /48 of IPv6), or off. @default 'full' */
  accessClient?: 'full' | 'masked' | 'off'
  /** Keys of queries whose values are not written, besides token, password and the like, which never are. @default [] */
  redactQueryKeys?: readonly string[]
  /**
   * Lines of one worker that wait for a slow disk or reader, in bytes; past it lines are dropped and counted. At least
   * 65_536. @default 8_388_608
   */
  maxLogQueueBytes?: number
}
export type ResolvedLogOptions = Readonly<Required<LogOptions>>

/** Weights of lines of the process log, the least first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** One chunk of a pipe: less would drop lines that only wait for the next turn of the loop. */
const MIN_LOG_QUEUE_BYTES = 65_536

/** Takes the place of a path. */
const SYSLOG: OtherAddresses = { prefix: SYSLOG_PREFIX, remedyFor: syslogRemedy }

export const LOG_OPTIONS = {
  level: choice('info', LOG_LEVELS),
  format: choice('auto', ['auto', 'text', 'json']),
  process: path('stderr', `stderr, the path of a file, or ${SYSLOG_FORMS}`, ['stderr'], SYSLOG),
  access: path('stdout', `stdout, off, the path of a file, or ${SYSLOG_FORMS}`, ['stdout', 'off'], SYSLOG),
  accessFormat: ACCESS_LINE_OPTIONS.format,
  accessSample: ACCESS_LINE_OPTIONS.sample,
  accessSlowMs: ACCESS_LINE_OPTIONS.slowMs,
  accessClient: ACCESS_LINE_OPTIONS.client,
  redactQueryKeys: ACCESS_LINE_OPTIONS.redactQueryKeys,
  maxLogQueueBytes: size(8_388_608, { min: MIN_LOG_QUEUE_BYTES }),
} satisfies OptionTable<LogOptions>

export const LOG_DEFAULTS: ResolvedLogOptions = defaultsOf<LogOptions>(LOG_OPTIONS)
