/**
 * `inject(app, request)` runs one request through the real sessions, phases and relay without a socket: a test of an
 * application needs no port and no origin process. The origin is the application's own choice of peer, or, with `origin`,
 * a function that stands in for every upstream.
 */
import { HttpConnector } from '../connector/http-connector.ts'
import { FieldLines } from '../http/field-lines.ts'
import type { HeaderMap } from '../http/header-map.ts'
import { RequestHead, type ResponseHead } from '../http/message-head.ts'
import type { HttpListenerOptions } from '../listener/http-listener-options.ts'
import { systemClock, Ticker, type Clock } from '../primitives/clock.ts'
import { BODY_UNKNOWN, type UpstreamOwner } from '../protocols/http-session.ts'
import { Http1ClientSession } from '../protocols/http1/client-session.ts'
import { HTTP1_CLIENT_DEFAULTS } from '../protocols/http1/http1-options.ts'
import { MemoryStream } from '../protocols/memory-stream.ts'
import type { ProxyHttp } from '../proxy/proxy-http.ts'
import type { HttpProxyOptions } from './http-proxy-options.ts'
import { httpProxyService } from './http-proxy-service.ts'
import { admit } from './listening-base.ts'
import { memoryTransport, toBuffer, toHeaders, toTrailers, type Fields, type MemoryOrigin } from './memory-origin.ts'

export type { OriginAnswer, OriginRequest } from './memory-origin.ts'
/** What stands in for every upstream. */
export type InjectOrigin = MemoryOrigin

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
  trailers?: Fields
}

export interface InjectResponse {
  readonly status: number
  readonly reason: string
  readonly headers: HeaderMap
  readonly body: Buffer
  readonly trailers: HeaderMap | null
  /** Interim responses, in order. */
  readonly interim: readonly ResponseHead[]
}

export interface InjectOptions {
  /** Answers instead of whatever `upstreamPeer` names; null dials the peer. @default null */
  origin?: InjectOrigin | null
  /** Options of the service around the application. @default {} */
  service?: Omit<HttpProxyOptions, 'connector'>
  /** Limits of the client's side. @default {} */
  listener?: HttpListenerOptions
  /** Time for every deadline. @default systemClock */
  clock?: Clock
}

export const INJECT_DEFAULTS = { origin: null, service: {}, listener: {}, clock: systemClock } as const

/** Rejects with the fault when the connection ends without a whole response. */
export async function inject<Ctx>(app: ProxyHttp<Ctx>, request: InjectRequest = {}, options: InjectOptions = {}): Promise<InjectResponse> {
  const ticker = new Ticker(options.clock ?? INJECT_DEFAULTS.clock)
  const origin = options.origin ?? INJECT_DEFAULTS.origin
  const connector = new HttpConnector({
    ticker, ...(origin === null ? {} : { transport: memoryTransport(origin, ticker, 'inject-origin') }),
  })
  const service = httpProxyService(app, { accessLog: null, ...options.service, connector }).addTcp('inject.test:0', options.listener)
  await service.start()
  const [near, far] = MemoryStream.pair('inject')
  admit(service, far, service.listeners[0]!.name)
  const client = new Http1ClientSession(near, ticker)
  try {
    return await exchangeOnce(client, request)
  } finally {
    client.close()
    service.close()
  }
}

async function exchangeOnce(client: Http1ClientSession, request: InjectRequest): Promise<InjectResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<InjectResponse>()
  const interim: ResponseHead[] = [], pieces: Buffer[] = []
  let head: ResponseHead | null = null
  const whole = (trailers: HeaderMap | null): InjectResponse => {
    const { status, reason, headers } = head!
    return { status, reason, headers, body: Buffer.concat(pieces), trailers, interim }
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
    onUpstreamFault: reject,
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
