/**
 * The access log: one line for each finished request and each head that was refused before it became one (access-line.ts and its
 * neighbours), to a file, a standard stream or syslog (log-sink.ts). What a line says is described in docs/access-log.md.
 * What is decided once (the form, what is hidden, whether a sample is taken) is an object or null, chosen when the log is opened.
 */
import { ACCESS_LINE_OPTIONS, type AccessLineOptions } from '../../config/access-line-options.ts'
import type { ProxyError } from '../../errors/proxy-error.ts'
import { count, defaultsOf, resolveOptions, text, type OptionTable } from '../../primitives/option-table.ts'
import type { AccessLogSink, LoggedExchange } from '../access-record.ts'
import type { AccessRecord } from './access-line.ts'
import { accessLines, type AccessLines } from './access-lines.ts'
import { AccessSampling } from './access-sampling.ts'
import { recordOfExchange, recordOfRefusal } from './exchange-record.ts'
import { LINE_SINK_OPTIONS, type LineDestination, type LineSinkOptions } from './line-sink.ts'
import { openLogSink, type LogSink } from './log-sink.ts'
import { shownAddresses, type ShownAddress } from './masked-address.ts'
import { QUERY_SECRETS } from './query-secrets.ts'

/** What an AccessLog may be told. */
export interface AccessLogOptions extends LineSinkOptions, AccessLineOptions {
  /** Worker of every line. @default '' */
  worker?: string
  /** Generation of every line. @default 0 */
  generation?: number
}

export const ACCESS_LOG_OPTIONS = {
  ...LINE_SINK_OPTIONS,
  ...ACCESS_LINE_OPTIONS,
  worker: text('', 'the id of a worker'),
  generation: count(0, { min: 0 }),
} satisfies OptionTable<AccessLogOptions>

export const ACCESS_LOG_DEFAULTS: Readonly<Required<AccessLogOptions>> = defaultsOf<AccessLogOptions>(ACCESS_LOG_OPTIONS)

/** The access log, in one of its forms: to stdout, stderr, a file or syslog. docs/access-log.md has its fields. */
export class AccessLog implements AccessLogSink {
  readonly #sink: LogSink
  readonly #worker: string
  readonly #generation: number
  readonly #lines: AccessLines
  /** Null: every line is written. */
  readonly #sampling: AccessSampling | null
  readonly #clients: ShownAddress

  /** @throws OptionError with every option that would not do, and when there is no way to its destination. */
  constructor(destination: LineDestination, options: AccessLogOptions = {}) {
    const resolved = resolveOptions<AccessLogOptions>('accessLog', ACCESS_LOG_OPTIONS, options, ACCESS_LOG_DEFAULTS)
    const { worker, generation, format, sample, slowMs, client, redactQueryKeys, ...sink } = resolved
    this.#sink = openLogSink(destination, sink, 'access')
    this.#worker = worker
    this.#generation = generation
    const colours = format === 'text' && destination === 'stdout' && process.stdout.isTTY === true && process.stdout.hasColors()
    this.#lines = accessLines(format, QUERY_SECRETS.with(redactQueryKeys), colours)
    this.#sampling = sample === 1 ? null : new AccessSampling(sample, slowMs)
    this.#clients = shownAddresses(client)
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
    const w = this.#sampling === null ? 1 : this.#sampling.weigh(exchange)
    if (w === 0) return
    this.write(recordOfExchange(exchange, atMs, this.#worker, this.#generation, this.#clients.of(exchange.clientIp), w))
  }

  /** As `AccessLogSink` has it. */
  refused(listener: string, clientIp: string, error: ProxyError, flag: string, atMs: number): void {
    this.write(recordOfRefusal(listener, this.#clients.of(clientIp), error, flag, atMs, this.#worker, this.#generation))
  }

  /** @internal @returns false when the line was dropped. */
  write(record: AccessRecord): boolean { return this.#lines.writeTo(this.#sink, record) }

  /** Goes on in a new file of the same name, after somebody renamed the old one. */
  reopen(): void { this.#sink.reopen() }
  /** Writes what waits and closes the file. Resolves within a few seconds, whatever becomes of it. */
  close(): Promise<void> { return this.#sink.close() }
}
