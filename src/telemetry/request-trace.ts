/**
 * What the proxy knows of traces: that a request is a part of one, and whom it has to ask. Who makes spans of it, and of what the tracer
 * is told, is an exporter (telemetry/exporters/span-tracer.ts), which the process around the services gives them when it is configured.
 * Types only.
 */
import type { HeaderMap } from '../http/header-map.ts'
import type { RequestHead } from '../http/message-head.ts'
import type { Tracer } from './tracer.ts'

/** Where a recorded request stands: what joins a line of a log, or a sample of a metric, to its trace. */
export interface TraceIdentity {
  /** 32 hexadecimal digits in lower case, not all of them 0. */
  readonly traceId: string
  /** Of the span of the whole request, as the client sees it: 16 hexadecimal digits in lower case, not all of them 0. */
  readonly spanId: string
}

/** A recorded request. */
export interface RequestTrace extends TraceIdentity {
  /** Tells the origin of the span of the attempt that is under way. @param request a copy for that attempt, as it will be sent */
  sendOn(request: RequestHead): void
  /** Calls code of the application, which finds the request's span as the current one. */
  run(hook: () => unknown): unknown
  /** Calls code of the proxy from within such a hook, which may go on with other requests: there is no current span in it. */
  leave(work: () => void): void
}

/** Decides which requests are recorded, and records them. What `startTraces` returns has one. */
export interface RequestTracing {
  /** Told of recorded requests alone, behind all other tracers. */
  readonly tracer: Tracer
  /**
   * Once a request, before anything else is done with it.
   * @param headers as they came; what a client must not say is removed from them
   * @param trusted the client is inside `trustedHops`
   * @returns null: it is not recorded
   */
  begin(headers: HeaderMap, trusted: boolean): RequestTrace | null
}
