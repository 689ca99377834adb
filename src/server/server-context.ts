/**
 * What the process gives the services that it runs: where they write to, and what its configuration says of them. It counts
 * over what the code of a service says, except where a service has an access log of its own.
 */
import type { WorkerSettings } from '../config/worker-settings.ts'
import type { ListenerCalls } from '../listener/acceptor.ts'
import { SILENT_LOG, type ProcessLog } from '../ipc/process-log.ts'
import type { AccessLogSink } from '../telemetry/access-record.ts'
import type { RequestTracing } from '../telemetry/request-trace.ts'
import type { FaultReports } from '../telemetry/fault-reports.ts'
import type { ExchangeCounter } from '../telemetry/exchange-counter.ts'
import type { Tracer } from '../telemetry/tracer.ts'

/** What the process gives its services when they start. */
export interface ServerContext {
  /** Told of hooks that throw, of requests that fail inside the proxy, and of what is odd about the process. @default silent */
  readonly log: ProcessLog
  /** Where services without an access log of their own write finished requests; null writes them nowhere. @default null */
  readonly accessLog: AccessLogSink | null
  /** Told of everything that every service does, behind the service's own tracers. @default none */
  readonly tracers: readonly Tracer[]
  /** Counts the exchanges of every service. @default null: they are not counted */
  readonly counting: ExchangeCounter | null
  /** Records requests of all services as parts of traces; `startTraces` makes one. @default null: none is recorded */
  readonly tracing: RequestTracing | null
  /** Told of hooks that throw and of requests that fail inside the proxy, so that somebody mends it. @default null: nobody wants to know */
  readonly faultReports: FaultReports | null
  /**
   * With these, listeners take what waits behind the connection that Node.js accepted, which takes one in each turn of its event
   * loop, and do not cut for want of room what has sent a request by then. @default null: there are none
   */
  readonly calls: ListenerCalls | null
  /** Processes that share the memory of the machine with this one, itself included. @default 1 */
  readonly workers: number
  /** Options that an operator set. @default none */
  readonly settings: Pick<WorkerSettings, 'limits' | 'listeners'>
  /** What all processes of this instance share, and no other instance has. Left out, each service is an instance of its own. */
  readonly instanceId?: string
  /** Folder in which the supervisor keeps what it needs. Left out where there is none. */
  readonly stateFolder?: string
}

export const SERVER_CONTEXT_DEFAULTS: ServerContext = {
  log: SILENT_LOG, accessLog: null, tracers: [], counting: null, tracing: null, faultReports: null, calls: null, workers: 1,
  settings: { limits: {}, listeners: {} },
}

/** What `Server.start` is told. The process belongs to somebody else, so nothing native is called there unless they say so. */
export interface StartContext extends Partial<Omit<ServerContext, 'settings' | 'calls' | 'faultReports'>> {
  /**
   * Whether listeners take all that waits in a queue at once, as workers do. Without, Node.js takes one connection in each turn
   * of the event loop, so that new clients wait when those that are there are busy. It is a call of the C library through
   * `node:ffi`, and Node.js says once on stderr that this is experimental; where there is none, `log` is told, and it is one
   * in each turn. @default false
   */
  readonly systemCalls?: boolean
}
