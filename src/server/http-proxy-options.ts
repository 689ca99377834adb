/** What `httpProxyService` may be told besides the application and its listeners. */
import { LIMIT_OPTIONS } from '../config/limit-options.ts'
import type { HttpConnector } from '../connector/http-connector.ts'
import type { PathNormalization } from '../http/target-path.ts'
import { HTTP_LISTENER_DEFAULTS, HTTP_LISTENER_OPTIONS, type HttpListenerOptions } from '../listener/http-listener-options.ts'
import {
  choice, code, defaultsOf, duration, flag, list, object, options, resolveOptions, text,
  type OptionTable,
} from '../primitives/option-table.ts'
import { FORWARDED_OPTIONS, type ForwardedOptions } from '../proxy/forwarded-options.ts'
import type { AccessLogSink } from '../telemetry/access-record.ts'
import { isUpgradeProtocol } from '../protocols/websocket/handshake.ts'
import type { Tracer } from '../telemetry/tracer.ts'

/** What `httpProxyService` takes besides the application. Limits of listeners and peers stand there; these hold for the service. */
export interface HttpProxyOptions extends ForwardedOptions {
  /** Unique in the server; names its listeners, log lines and metrics. @default 'http-proxy' */
  name?: string
  /** What holds for each listener that does not say otherwise. @default HTTP_LISTENER_DEFAULTS */
  listener?: HttpListenerOptions
  /** Connections to upstreams; null makes one of its own, with the default pool. @default null */
  connector?: HttpConnector | null
  /** Callbacks that watch exchanges, attempts and connections (telemetry/tracer.ts says what they hear). @default [] */
  tracers?: readonly Tracer[]
  /** Where finished requests are written; null writes them nowhere. @default what the process is configured with */
  accessLog?: AccessLogSink | null
  /** What happens to targets with dot segments. @default 'resolve' */
  pathNormalization?: PathNormalization
  /**
   * Protocols that a client may switch to with Upgrade; a request for any other is an ordinary one. Never HTTP/2 (`h2c`), whose
   * requests would pass all hooks unseen. [] lets none through. @default ['websocket']
   */
  upgrades?: readonly string[]
  /** Idle limit of upgraded connections, in ms. 0 turns it off. @default 300000 */
  tunnelIdleTimeoutMs?: number
  /**
   * Longest wait for the promise of a hook (one that reads the body ahead waits for the client meanwhile), and for the next piece of
   * a body given to `respond()`, in ms; past it 500, or the answer is cut. 0 turns it off. @default 60000
   */
  hookTimeoutMs?: number
  /** Whether error pages name the request id. @default true */
  showRequestId?: boolean
  /** Requests in flight at once in this worker; past it new ones are answered with 503. 0 turns it off. @default 10_000 */
  maxActiveRequests?: number
}
export type ResolvedHttpProxyOptions = Readonly<Required<HttpProxyOptions>>

export const HTTP_PROXY_OPTIONS = {
  ...FORWARDED_OPTIONS,
  name: text('http-proxy', 'a name of at least one character', name => name !== ''),
  listener: options<HttpListenerOptions>(HTTP_LISTENER_OPTIONS, HTTP_LISTENER_DEFAULTS),
  connector: object<HttpConnector>('an HttpConnector'),
  tracers: code<readonly Tracer[]>([], 'a list of tracers', isListOfObjects),
  accessLog: object<AccessLogSink>('an access log'),
  pathNormalization: choice<PathNormalization>('resolve', ['resolve', 'reject', 'off']),
  upgrades: list(['websocket'], 'protocol names, HTTP excepted', isUpgradeProtocol),
  tunnelIdleTimeoutMs: duration(300_000, { zero: 'turns it off' }),
  hookTimeoutMs: duration(60_000, { zero: 'turns it off' }),
  showRequestId: flag(true),
  maxActiveRequests: LIMIT_OPTIONS.maxActiveRequests,
} satisfies OptionTable<HttpProxyOptions>

export const HTTP_PROXY_DEFAULTS: ResolvedHttpProxyOptions = defaultsOf<HttpProxyOptions>(HTTP_PROXY_OPTIONS)

/** Complete and checked. @throws OptionError with every mistake there is */
export function resolveHttpProxyOptions(given: HttpProxyOptions): ResolvedHttpProxyOptions {
  return resolveOptions<HttpProxyOptions>('httpProxy', HTTP_PROXY_OPTIONS, given, HTTP_PROXY_DEFAULTS)
}

function isListOfObjects(value: unknown): boolean {
  return Array.isArray(value) && value.every(one => typeof one === 'object' && one !== null)
}
