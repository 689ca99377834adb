/**
 * `inject(app, request)` runs one request through the real sessions, phases and relay without a socket: a test of an
 * application needs no port and no origin process. The origin is the application's own choice of peer, or, with `origin`,
 * a function that stands in for every upstream.
 * Invariant: what goes wrong in a hook reaches whoever made the request, with the hook's name: in the answer, or as what
 * `inject` rejects with when there is none.
 */
import { HttpConnector } from '../connector/http-connector.ts'
import { describeError } from '../errors/describe-error.ts'
import { ProxyError } from '../errors/proxy-error.ts'
import { FieldLines } from '../http/field-lines.ts'
import type { HeaderMap } from '../http/header-map.ts'
import { RequestHead, type ResponseHead } from '../http/message-head.ts'
import { textLog, type ProcessLog } from '../ipc/process-log.ts'
import type { HttpListenerOptions } from '../listener/http-listener-options.ts'
import { systemClock, Ticker, type Clock } from '../primitives/clock.ts'
import { BODY_UNKNOWN, type UpstreamOwner } from '../protocols/http-session.ts'
import { Http1ClientSession } from '../protocols/http1/client-session.ts'
import { HTTP1_CLIENT_DEFAULTS } from '../protocols/http1/http1-options.ts'
import { MemoryStream } from '../protocols/memory-stream.ts'
import type { FaultWatcher } from '../proxy/fault-watcher.ts'
import { hookFrame } from '../proxy/hook-stack.ts'
import type { Hooked } from '../proxy/phases.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import type { HttpProxyOptions } from './http-proxy-options.ts'
import { HttpProxy } from './http-proxy-service.ts'
import { admit } from './listening-base.ts'
import { memoryTransport, toBuffer, toHeaders, toTrailers, type Fields, type MemoryOrigin } from './memory-origin.ts'
import { SERVER_CONTEXT_DEFAULTS } from './server-context.ts'

export type { OriginAnswer, OriginRequest } from './memory-origin.ts'
/** What stands in for every upstream. */
export type InjectOrigin = MemoryOrigin

/** The request that `inject` sends; every part has a default. */
export interface InjectRequest {
  /** @default 'GET' */
  method?: string
  /** Path with query, or `*`, or an absolute URI. @default '/' */
  target?: string
  /** Host is `inject.test` unless given. */
  headers?: Fields
  /** Sent with Content-Length. @default none */
  body?: string | Uint8Array
  /** Sent chunked instead, piece by piece. */
  chunks?: readonly (string | Uint8Array)[]
  /** Sent behind `chunks`; without those not at all. @default none */
  trailers?: Fields
}

/** What the client of `inject` got. */
export interface InjectResponse {
  /** That of the final response, or 101. */
  readonly status: number
  /** Reason phrase, as it came over the wire. */
  readonly reason: string
  /** Of that response, as the client got them. */
  readonly headers: HeaderMap
  /** Whole, without framing; a content coding stays on it. Empty for 101. */
  readonly body: Buffer
  /** Null: there were none. */
  readonly trailers: HeaderMap | null
  /** Interim responses, in order. */
  readonly interim: readonly ResponseHead[]
  /**
   * Why the request failed, whatever it was answered with; null: it did not. What a hook threw is its `cause`, and its message
   * names the hook (`kind` HOOK_FAILED, or HOOK_TIMEOUT for one that gave nothing in time).
   */
  readonly error: ProxyError | null
  /**
   * Every fault there was when the answer was complete, in order: `error`, and besides it what ended no request, such as a hook
   * whose result nothing waits for, an attempt that was repeated, or the function that stands in for the origin.
   */
  readonly errors: readonly ProxyError[]
}

/** How `inject` runs its request. */
export interface InjectOptions {
  /** Answers instead of whatever `upstreamPeer` names; null dials the peer. @default null */
  origin?: InjectOrigin | null
  /**
   * Options of the service around the application. `hookTimeoutMs` is 4 s unless they say otherwise: an error that names the
   * hook comes before a test runner gives up. @default {}
   */
  service?: Omit<HttpProxyOptions, 'connector'>
  /** Limits of the client's side. @default {} */
  listener?: HttpListenerOptions
  /** Time for every deadline. @default systemClock */
  clock?: Clock
  /** Told what the process log of a worker is told; `SILENT_LOG` keeps it quiet. @default stderr, as text */
  log?: ProcessLog
}

export const INJECT_DEFAULTS = { origin: null, service: {}, listener: {}, clock: systemClock } as const

/** Shorter than the time that a test runner commonly grants a test (5 s). */
const HOOK_TIMEOUT_MS = 4_000

/** The longest interval there is: nobody waits for its end. */
const ALIVE_INTERVAL_MS = 2_147_483_647

/** The faults of one request. */
class Faults implements FaultWatcher {
  readonly #hooked: Hooked
  error: ProxyError | null = null
  readonly all: ProxyError[] = []

  constructor(hooked: Hooked) { this.#hooked = hooked }

  requestFailed(error: ProxyError): void {
    this.error ??= error
    this.faultPassed(error)
  }

  /** A test runner prints the stack of the fault that fails a test: it leads to the hook. */
  faultPassed(error: ProxyError): void {
    const frame = hookFrame(error, this.#hooked)
    if (frame !== '') error.stack = `${error.name}: ${error.message}\n${frame}`
    this.all.push(error)
  }

  readonly originThrew = (thrown: unknown): void => {
    const { message } = describeError(thrown)
    this.all.push(new ProxyError('CONNECTION_RESET', 'upstream', `the origin given to inject threw: ${message}`, { cause: thrown }))
  }
}

/** Rejects with why the request failed when there is no whole response. */
export async function inject<Ctx>(app: ProxyHttp<Ctx>, request: InjectRequest = {}, options: InjectOptions = {}): Promise<InjectResponse> {
  const ticker = new Ticker(options.clock ?? INJECT_DEFAULTS.clock)
  const origin = options.origin ?? INJECT_DEFAULTS.origin
  const faults = new Faults({ app, modules: app.modules ?? [] })
  const connector = new HttpConnector({
    ticker, ...(origin === null ? {} : { transport: memoryTransport(origin, ticker, 'inject-origin', faults.originThrew) }),
  })
  const settings = { accessLog: null, hookTimeoutMs: HOOK_TIMEOUT_MS, ...options.service, connector }
  const service = new HttpProxy(app, settings, faults).addTcp('inject.test:0', options.listener)
  await service.start({ ...SERVER_CONTEXT_DEFAULTS, log: options.log ?? textLog('inject') })
  const [near, far] = MemoryStream.pair('inject')
  const client = new Http1ClientSession(near, ticker)
  // Deadlines keep no process alive, and there may be nothing else that does.
  const alive = setInterval(() => {}, ALIVE_INTERVAL_MS)
  try {
    admit(service, far, service.listeners[0]!.name)
    return await exchangeOnce(client, request, faults)
  } finally {
    clearInterval(alive)
    client.close()
    service.close()
  }
}

async function exchangeOnce(client: Http1ClientSession, request: InjectRequest, faults: Faults): Promise<InjectResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<InjectResponse>()
  // Of a request that cannot be written the caller gets the throw, and nobody waits for the answer.
  promise.catch(() => {})
  const interim: ResponseHead[] = [], pieces: Buffer[] = []
  let head: ResponseHead | null = null
  const whole = (trailers: HeaderMap | null): InjectResponse => {
    const { status, reason, headers } = head!
    const { error, all } = faults
    return { status, reason, headers, body: Buffer.concat(pieces), trailers, interim, error, errors: [...all] }
  }
  const owner: UpstreamOwner = {
    onInterim(one) { interim.push(one) },
    onResponseHead(final) {
      head = final
      if (final.status === 101) resolve(whole(null))
    },
    onResponseBody(buffer, from, to) { pieces.push(Buffer.from(buffer.subarray(from, to))) },
    onResponseEnd(trailers) { resolve(whole(trailers)) },
    onUpstreamDrained() { /* everything is written at once */ },
    // To this client the proxy is an upstream, but the fault is whoever's it was.
    onUpstreamFault(error) { reject(faults.error ?? turnedAway(error)) },
  }
  const headers = toHeaders(request.headers ?? {}).clone()
  const body = request.body === undefined ? null : toBuffer(request.body)
  client.begin(owner, HTTP1_CLIENT_DEFAULTS)
  client.writeHead(RequestHead.build(request.method ?? 'GET', request.target ?? '/', headers), {
    length: request.chunks !== undefined ? BODY_UNKNOWN : body?.length ?? 0,
    lines: FieldLines.NONE, switchesTo: headers.getAll('upgrade').join(', '), acceptsTrailers: false, defaultAuthority: 'inject.test',
  })
  for (const piece of request.chunks ?? (body === null ? [] : [body])) {
    const bytes = toBuffer(piece)
    client.writeBody(bytes, 0, bytes.length, true)
  }
  client.endRequest(toTrailers(request.trailers))
  return promise
}

/** Nothing was heard of the request, so it never was one. */
function turnedAway(cause: ProxyError): ProxyError {
  return new ProxyError('CLOSED_EARLY', 'internal', 'inject: the listener turned the connection away before it read a request', { cause })
}
