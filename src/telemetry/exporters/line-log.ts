/**
 * The process log: short text for a person at a terminal, with the lines of source that an error came from, and one JSON object a
 * line for everything else, with level, time, pid and who first and msg last, as pino writes them. Written here because a logging
 * library costs each process 28 ms of its start and 2 MB (**measured**), and fields are texts and numbers by the time they get here.
 * Nothing that came from outside can add a line or reach the terminal: control characters are escaped in both forms.
 * Lines go through a sink (log-sink.ts), so a stuck reader of stderr cannot stop the process.
 */
import tty from 'node:tty'
import { errorDetail } from '../../errors/code-frame.ts'
import { LOG_LEVELS, type LogLevel } from '../../config/log-options.ts'
import type { LogFields, ProcessLog } from '../../ipc/process-log.ts'
import { choice, code, defaultsOf, resolveOptions, text, type OptionTable } from '../../primitives/option-table.ts'
import { LINE_SINK_OPTIONS, type LineDestination } from './line-sink.ts'
import { openLogSink, type LogSink } from './log-sink.ts'

export interface LineLogOptions {
  /** Who speaks: `supervisor` or `worker 1.0.3`. @default 'cirque' */
  who?: string
  /** Least weight of a line that is written. @default 'info' */
  level?: LogLevel
  /** 'auto' writes text when the stream is a terminal. @default 'auto' */
  format?: 'auto' | 'text' | 'json'
  /** Where lines go. @default 'stderr' */
  destination?: LineDestination
  /** Lines that wait, in bytes; past it lines are dropped and counted. @default 8_388_608 */
  maxLogQueueBytes?: number
}

export const LINE_LOG_OPTIONS = {
  who: text('cirque', 'a name'),
  level: choice('info', LOG_LEVELS),
  format: choice('auto', ['auto', 'text', 'json']),
  destination: code<LineDestination>('stderr', "'stdout', 'stderr', { file } or { syslog }", isDestination),
  maxLogQueueBytes: LINE_SINK_OPTIONS.maxLogQueueBytes,
} satisfies OptionTable<LineLogOptions>

export const LINE_LOG_DEFAULTS: Readonly<Required<LineLogOptions>> = defaultsOf<LineLogOptions>(LINE_LOG_OPTIONS)

function isDestination(value: unknown): boolean {
  const { file, syslog } = Object(value) as { file?: unknown; syslog?: unknown }
  return value === 'stdout' || value === 'stderr' || typeof file === 'string' || typeof syslog === 'string'
}

export interface LineLog extends ProcessLog {
  /** Least weight of a line that is written from now on. */
  setLevel(level: LogLevel): void
  readonly dropped: number
  /** Writes and reopenings that failed. */
  readonly faults: number
  /** What keeps lines from being written; '' while nothing does. */
  readonly trouble: string
  /** Called when a line was dropped or a write failed: often, while that lasts. */
  onTrouble: (() => void) | null
  /** Goes on in a new file of the same name. */
  reopen(): void
  /** Writes what waits, for a few seconds at most. */
  flush(): Promise<void>
  close(): Promise<void>
}

const WEIGHTS: Readonly<Record<LogLevel, number>> = { debug: 20, info: 30, warn: 40, error: 50 }

/**
 * Longest text of a field, in characters; stacks may be four times as long. The further ones are for lines that would be too
 * long for a pipe that others write to as well.
 */
const FIELD_LENGTHS = [2048, 512, 64] as const
const [MAX_FIELD_LENGTH] = FIELD_LENGTHS

/** @throws OptionError with every option that would not do, and when the file cannot be opened. */
export function createLineLog(options: LineLogOptions = {}): LineLog {
  const resolved = resolveOptions<LineLogOptions>('log', LINE_LOG_OPTIONS, options, LINE_LOG_DEFAULTS)
  const { who, level, format, destination, maxLogQueueBytes } = resolved
  const sink = openLogSink(destination, { maxLogQueueBytes, collectMs: 0 }, 'process')
  const text = format === 'text' || (format === 'auto' && typeof destination === 'string' && tty.isatty(destination === 'stdout' ? 1 : 2))
  const write = text ? textWriter(who, sink) : jsonWriter(who, sink)
  let least = WEIGHTS[level]
  const at = (weight: LogLevel) => (message: string, fields: LogFields = {}): void => {
    if (WEIGHTS[weight] >= least) write(weight, message, fields)
  }
  const debug = at('debug')
  return {
    get debug() { return least > WEIGHTS.debug ? null : debug },
    info: at('info'), warn: at('warn'), error: at('error'),
    setLevel(wanted) { least = WEIGHTS[wanted] },
    get dropped() { return sink.dropped },
    get faults() { return sink.faults },
    get trouble() { return sink.trouble },
    get onTrouble() { return sink.onTrouble },
    set onTrouble(listener) { sink.onTrouble = listener },
    reopen: () => sink.reopen(),
    flush: () => sink.flush(),
    close: () => sink.close(),
  }
}

type Writer = (level: LogLevel, message: string, fields: LogFields) => void

function jsonWriter(who: string, sink: LogSink): Writer {
  const origin = `"pid":${process.pid},"who":${JSON.stringify(who)}`
  return (weight, message, fields) => {
    const time = new Date().toISOString()
    sink.write(fitting(sink, longest => {
      const shown = Object.entries(plain(fields, longest)).map(([key, value]) => `${JSON.stringify(key)}:${jsonOf(value)},`).join('')
      const line = `{"level":"${weight}","time":"${time}",${origin},${shown}"msg":${JSON.stringify(cut(message, longest))}}\n`
      // JSON leaves DEL and C1 as they are; inside strings, the only place they can be, an escape means the same.
      return line.replaceAll(/[\x7F-\x9F]/g, escapeControl)
    }), undefined, weight)
  }
}

function textWriter(who: string, sink: LogSink): Writer {
  return (weight, message, fields) => {
    const mark = weight === 'info' ? '' : weight === 'warn' ? 'warning: ' : `${weight}: `
    const shownFields = typeof fields['stack'] === 'string' ? { ...fields, stack: errorDetail(fields['stack']) } : fields
    sink.write(fitting(sink, longest => {
      const { stack, ...rest } = plain(shownFields, longest)
      const shown = Object.entries(rest).map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : json(value)}`).join('')
      const trace = typeof stack === 'string' && stack !== '' ? stack.split('\n') : []
      return [printable(`${who}: ${mark}${cut(message, longest)}${shown}`), ...trace.map(line => `    ${printable(line)}`), ''].join('\n')
    }), undefined, weight)
  }
}

/** With texts as long as the stream takes them in one piece. */
function fitting(sink: LogSink, compose: (longest: number) => string): string {
  let line = ''
  for (const longest of FIELD_LENGTHS) {
    line = compose(longest)
    if (Buffer.byteLength(line) <= sink.maxLineLength) break
  }
  return line
}

/** Errors as their messages, texts cut, undefined ones left out; names of the line's own fields get a mark. */
function plain(fields: LogFields, longest: number): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue
    const name = OWN_FIELDS.has(key) ? `${key}_` : key
    if (value instanceof Error) out[name] = cut(value.message, longest)
    else if (typeof value === 'string') out[name] = cut(value, key === 'stack' ? 4 * longest : longest)
    else out[name] = longest < MAX_FIELD_LENGTH && typeof value === 'object' ? cut(json(value), longest) : value
  }
  return out
}

const NOT_PRINTABLE = '[not printable]'
const OWN_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'pid', 'who', 'msg'])

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 3)}...` : text
}

function printable(text: string): string { return text.replaceAll(/[\0-\x1F\x7F-\x9F]/g, escapeControl) }

function escapeControl(char: string): string { return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}` }

/** A field may hold anything, also what refers to itself or is no JSON: such a thing is a text about itself. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? JSON.stringify(String(value))
  } catch {
    return JSON.stringify(NOT_PRINTABLE)
  }
}

function json(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return NOT_PRINTABLE
  }
}
