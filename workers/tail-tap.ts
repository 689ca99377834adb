/** The access log as an operator reads it live: lines of those requests that are wanted, whether a log is written or not. */
import type { ProxyError } from '../src/errors/proxy-error.ts'
import type { AccessLogSink, LoggedExchange } from '../src/telemetry/access-record.ts'
import { formatRecord } from '../src/telemetry/exporters/access-line.ts'
import { recordOfExchange, recordOfRefusal } from '../src/telemetry/exporters/exchange-record.ts'
import type { Matcher } from '../src/telemetry/request-match.ts'

/** Longest line, in characters: what no answer has room for helps nobody. */
const MAX_LINE_LENGTH = 4096

/** Who takes what was seen. */
export interface LookQueue {
  /** A further one is wanted. */
  readonly wantsMore: boolean
  /** @param entry makes its text, printable ASCII; not called when there is no room */
  offer(entry: () => string): void
  /** One that may have been wanted could not be looked at. */
  missed(): void
}

export interface TappedWorker {
  readonly worker: string
  readonly generation: number
  /** The address of a client, as the access log would show it. */
  shownClient(address: string): string
}

export class TailTap implements AccessLogSink {
  readonly #matcher: Matcher
  readonly #of: TappedWorker
  readonly #queue: LookQueue

  constructor(matcher: Matcher, of: TappedWorker, queue: LookQueue) {
    this.#matcher = matcher
    this.#of = of
    this.#queue = queue
  }

  exchange(exchange: LoggedExchange, atMs: number): void {
    const matcher = this.#matcher
    const { request, listener, status, flag, durationMs } = exchange
    if (!matcher.ended(status, flag, durationMs) || !matcher.listensOn(listener) || !matcher.asks(request)) return
    const of = this.#of, { worker, generation } = of
    this.#queue.offer(() => lineOf(recordOfExchange(exchange, atMs, worker, generation, of.shownClient(exchange.clientIp))))
  }

  refused(listener: string, clientIp: string, error: ProxyError, flag: string, atMs: number): void {
    const matcher = this.#matcher
    if (!matcher.wantsRefused || !matcher.ended(error.status, flag, 0) || !matcher.listensOn(listener)) return
    const of = this.#of, { worker, generation } = of
    this.#queue.offer(() => lineOf(recordOfRefusal(listener, of.shownClient(clientIp), error, flag, atMs, worker, generation)))
  }
}

function lineOf(record: Parameters<typeof formatRecord>[0]): string { return formatRecord(record, MAX_LINE_LENGTH).trimEnd() }
