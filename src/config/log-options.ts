/** Where the logs of all processes go, and how much they say; an operator sets it in the section `log`. */
import { choice, defaultsOf, path, size, type OptionTable } from '../primitives/option-table.ts'

export interface LogOptions {
  /** Least weight of a line in the process log: debug, info, warn, error. @default 'info' */
  level?: 'debug' | 'info' | 'warn' | 'error'
  /** Form of the process log: json, text, or auto, which is text on a terminal and JSON elsewhere. @default 'auto' */
  format?: 'auto' | 'text' | 'json'
  /** Where the process log goes: stderr, or a file that is appended to and reopened on SIGUSR1. @default 'stderr' */
  process?: string
  /**
   * Where the access log goes, a line a request: stdout, off, or a file that is appended to and reopened on
   * SIGUSR1. @default 'stdout'
   */
  access?: string
  /**
   * Form of the access log: json, or text, a short line to be read by people: time, status, method, path, how long it took, the
   * upstream, and a flag where something went wrong. @default 'json'
   */
  accessFormat?: 'json' | 'text'
  /**
   * Lines of one worker that wait for a slow disk or reader, in bytes; past it lines are dropped and counted. At least
   * 65_536. @default 8_388_608
   */
  maxLogQueueBytes?: number
}
export type ResolvedLogOptions = Readonly<Required<LogOptions>>

/** One chunk of a pipe: less would drop lines that only wait for the next turn of the loop. */
const MIN_LOG_QUEUE_BYTES = 65_536

export const LOG_OPTIONS = {
  level: choice('info', ['debug', 'info', 'warn', 'error']),
  format: choice('auto', ['auto', 'text', 'json']),
  process: path('stderr', 'stderr, or the path of a file', ['stderr']),
  access: path('stdout', 'stdout, off, or the path of a file', ['stdout', 'off']),
  accessFormat: choice('json', ['json', 'text']),
  maxLogQueueBytes: size(8_388_608, { min: MIN_LOG_QUEUE_BYTES }),
} satisfies OptionTable<LogOptions>

export const LOG_DEFAULTS: ResolvedLogOptions = defaultsOf<LogOptions>(LOG_OPTIONS)
