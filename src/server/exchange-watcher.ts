/**
 * Whoever looks at the traffic of a process for a while. A service puts what it gives into the places of its own access log, tracers
 * and plan while it is there, and takes it out again: at other times requests know nothing of it.
 */
import type { ProxyError } from '../errors/proxy-error.ts'
import type { HookObserver } from '../proxy/watched-plan.ts'
import type { AccessLogSink, LoggedExchange } from '../telemetry/access-record.ts'
import type { Tracer } from '../telemetry/tracer.ts'

export interface ExchangeWatcher {
  /** Told what an access log is told, whether the service has one or not. Must not throw. Null: wants none of it. */
  readonly lines: AccessLogSink | null
  /** Behind those of the service. */
  readonly tracers: readonly Tracer[]
  /** Told of the hooks of requests that begin from now on. Null: wants none of it. */
  readonly hooks: HookObserver | null
}

/** What is told to the access log, told to a second one as well. @param own null: there is no access log */
export function tellBoth(own: AccessLogSink | null, second: AccessLogSink | null): AccessLogSink | null {
  return own === null || second === null ? own ?? second : new BothSinks(own, second)
}

class BothSinks implements AccessLogSink {
  readonly #own: AccessLogSink
  readonly #second: AccessLogSink

  constructor(own: AccessLogSink, second: AccessLogSink) {
    this.#own = own
    this.#second = second
  }

  // What the first one gives is handed on, since it may be a promise that rejects.

  exchange(exchange: LoggedExchange, atMs: number): void {
    try { return this.#own.exchange(exchange, atMs) } finally { this.#second.exchange(exchange, atMs) }
  }

  refused(listener: string, clientIp: string, error: ProxyError, flag: string, atMs: number): void {
    try {
      return this.#own.refused(listener, clientIp, error, flag, atMs)
    } finally {
      this.#second.refused(listener, clientIp, error, flag, atMs)
    }
  }
}
