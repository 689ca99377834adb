/**
 * The access log: one line for each finished request and each head that was refused before it became one (access-line.ts),
 * to a file or a standard stream (line-sink.ts). What a line says is described in docs/access-log.md.
 */
import type { ProxyError } from '../../errors/proxy-error.ts'
import { choice, count, defaultsOf, resolveOptions, text, type OptionTable } from '../../primitives/option-table.ts'
import type { AccessLogSink, LoggedExchange } from '../access-record.ts'
import { formatRecord, type AccessRecord } from './access-line.ts'
import { formatText } from './access-text.ts'
import { recordOfExchange, recordOfRefusal } from './exchange-record.ts'
import { LINE_SINK_OPTIONS, LineSink, type LineDestination, type LineSinkOptions } from './line-sink.ts'

/** What an AccessLog may be told. */
export interface AccessLogOptions extends LineSinkOptions {
  /** Worker of every line. @default '' */
  worker?: string
  /** Generation of every line. @default 0 */
  generation?: number
  /** 'text' is a short line for people, in colours where stdout is a terminal that has them. @default 'json' */
  format?: 'json' | 'text'
}

export const ACCESS_LOG_OPTIONS = {
  ...LINE_SINK_OPTIONS,
  worker: text('', 'the id of a worker'),
  generation: count(0, { min: 0 }),
  format: choice('json', ['json', 'text']),
} satisfies OptionTable<AccessLogOptions>

export const ACCESS_LOG_DEFAULTS: Readonly<Required<AccessLogOptions>> = defaultsOf<AccessLogOptions>(ACCESS_LOG_OPTIONS)

/** The access log as JSON lines, or as text for people: to stdout, stderr or a file. docs/access-log.md has its fields. */
export class AccessLog implements AccessLogSink {
  readonly #sink: LineSink
  readonly #worker: string
  readonly #generation: number
  readonly #format: (record: AccessRecord, maxLength: number) => string

  /** @throws OptionError with every option that would not do, and when the file cannot be opened. */
  constructor(destination: LineDestination, options: AccessLogOptions = {}) {
    const resolved = resolveOptions<AccessLogOptions>('accessLog', ACCESS_LOG_OPTIONS, options, ACCESS_LOG_DEFAULTS)
    const { worker, generation, format, ...sink } = resolved
    this.#sink = new LineSink(destination, sink)
    this.#worker = worker
    this.#generation = generation
    const colours = format === 'text' && destination === 'stdout' && process.stdout.isTTY === true && process.stdout.hasColors()
    this.#format = format === 'json' ? formatRecord : (record, maxLength) => formatText(record, maxLength, colours)
  }

  /** Lines that were lost, because nobody took them fast enough or at all. */
  get dropped(): number { return this.#sink.dropped }
  /** Writes and reopenings that failed. */
  get faults(): number { return this.#sink.faults }
  /** @internal What keeps lines from being written; '' while nothing does. */
  get trouble(): string { return this.#sink.trouble }
  /** @internal Called when a line was dropped or a write failed: often, while that lasts. */
  set onTrouble(listener: () => void) { this.#sink.onTrouble = listener }

  /** As `AccessLogSink` has it. */
  exchange(exchange: LoggedExchange, atMs: number): void {
    this.write(recordOfExchange(exchange, atMs, this.#worker, this.#generation))
  }

  /** As `AccessLogSink` has it. */
  refused(listener: string, clientIp: string, error: ProxyError, flag: string, atMs: number): void {
    this.write(recordOfRefusal(listener, clientIp, error, flag, atMs, this.#worker, this.#generation))
  }

  /** @internal @returns false when the line was dropped. */
  write(record: AccessRecord): boolean {
    const line = this.#format(record, this.#sink.maxLineLength)
    return this.#sink.write(line, line.length)
  }

  /** Goes on in a new file of the same name, after somebody renamed the old one. */
  reopen(): void { this.#sink.reopen() }
  /** Writes what waits and closes the file. Resolves within a few seconds, whatever becomes of it. */
  close(): Promise<void> { return this.#sink.close() }
}
