/**
 * What a span says: its attributes and events, by the stable conventions of OpenTelemetry for HTTP, and under `cirque.` what those have
 * no name for. docs/traces.md takes its tables from here.
 *
 * Texts come from clients and origins: secrets in queries are left out as in the access log, and what is long is cut, since spans wait
 * in memory for their collector.
 */
import type { ProxyError } from '../../errors/proxy-error.ts'
import { FieldKind } from '../../http/header-map.ts'
import type { AttemptConnected, AttemptEnded, ExchangeEnded, ExchangeStarted } from '../tracer.ts'
import { owned } from '../trace-propagation.ts'
import { CUT_MARK } from './access-line.ts'
import { urlWithoutSecrets, withoutSecrets } from './query-secrets.ts'

/** Which spans have it. */
type Side = 'server' | 'client' | 'both'

interface Described { readonly of: Side; readonly meaning: string }

/** In the order of the page. */
export const SPAN_ATTRIBUTES = {
  'http.request.method': { of: 'both', meaning: 'The method, or `_OTHER` for one that the conventions do not know.' },
  'http.request.method_original': { of: 'both', meaning: 'The method, where it is such a one.' },
  'url.scheme': { of: 'server', meaning: '`http` or `https`, as the client reached the proxy.' },
  'url.path': { of: 'server', meaning: 'Path as the client sent it, without query.' },
  'url.query': { of: 'server', meaning: 'Query as the client sent it, with `***` for the values of keys that hold secrets.' },
  'url.full': { of: 'client', meaning: 'Peer, path and query of the request as it was sent, with `***` for secrets.' },
  'server.address': { of: 'both', meaning: 'Host of the `Host` field; of a client span, host of the peer, or its path.' },
  'server.port': { of: 'both', meaning: 'Port of the same; where `Host` has none, the one of the scheme.' },
  'client.address': { of: 'server', meaning: 'Who asked, behind trusted hops the one that they speak for.' },
  'network.peer.address': { of: 'both', meaning: 'Address at the other end of the connection.' },
  'network.peer.port': { of: 'both', meaning: 'Port at the other end of the connection.' },
  'network.protocol.version': { of: 'both', meaning: 'Version of HTTP on that connection.' },
  'http.response.status_code': { of: 'both', meaning: 'Status sent to the client, or by the origin; left out where there was none.' },
  'http.request.body.size': { of: 'both', meaning: 'Bytes of the body from the client, or to the origin; of an upgraded connection all.' },
  'http.response.body.size': { of: 'both', meaning: 'Bytes of the body to the client, or from the origin; of an upgraded connection all.' },
  'user_agent.original': { of: 'server', meaning: 'The `User-Agent` field.' },
  'http.request.resend_count': { of: 'client', meaning: 'How many attempts there were before this one; left out of the first.' },
  'error.type': { of: 'both', meaning: 'What failed: an [error kind](errors.md#error-kinds), or the status where that is the failure.' },
  'cirque.request.id': { of: 'server', meaning: 'Request id, as in `X-Request-Id` and the access log.' },
  'cirque.listener': { of: 'server', meaning: 'Name of the listener.' },
  'cirque.worker': { of: 'server', meaning: 'Worker that served it.' },
  'cirque.flag': { of: 'server', meaning: 'Flag of the [access log](access-log.md#flags), where it is not `-`.' },
  'cirque.attempts': { of: 'server', meaning: 'Attempts to reach an origin.' },
  'cirque.connection.reused': { of: 'client', meaning: 'The connection had carried requests before.' },
} as const satisfies Readonly<Record<string, Described>>

export type SpanAttributeName = keyof typeof SPAN_ATTRIBUTES
/** What is undefined is left out. */
export type SpanAttributes = { [Name in SpanAttributeName]?: string | number | boolean | undefined }

/** Moments within a span, each with its own time. */
export const SPAN_EVENTS = {
  'cirque.connected': { of: 'client', meaning: 'There was a connection, new or out of the pool.' },
  'cirque.request.sent': { of: 'client', meaning: 'The head of the request was written.' },
  'cirque.response.first_byte': { of: 'client', meaning: 'The first head of the answer was there, interim ones included.' },
  'cirque.retry': { of: 'server', meaning: 'An attempt failed, another one follows: `error.type` says why, `cirque.retry.delay_ms` when.' },
} as const satisfies Readonly<Record<string, Described>>

export type SpanEventName = keyof typeof SPAN_EVENTS

/** Longest text of a span, in characters. */
export const MAX_SPAN_TEXT = 1024

/** Methods that the conventions know. */
const METHODS: ReadonlySet<string> = new Set([
  'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH', 'QUERY',
])

export function spanName(method: string): string { return METHODS.has(method) ? method : 'HTTP' }

function methodOf(method: string): SpanAttributes {
  if (METHODS.has(method)) return { 'http.request.method': method }
  return { 'http.request.method': '_OTHER', 'http.request.method_original': shown(method) }
}

/** What is the same for all requests. */
export interface SpanMakers {
  /** Id of the worker; '': it is none. */
  readonly worker: string
  /** The address of a client, as those may know it who look at requests; '' keeps it to itself. */
  readonly shownClient: (address: string) => string
}

/** What is known of a request when it comes. */
export function attributesOfRequest(started: ExchangeStarted, { worker, shownClient }: SpanMakers): SpanAttributes {
  const { request, requestId, listener, clientIp, client } = started
  const { method, scheme, path, query, version, headers } = request
  const { host, port } = hostAndPort(request.authority, scheme === 'https' ? 443 : 80)
  const agent = headers.getKind(FieldKind.UserAgent)
  return {
    ...methodOf(method),
    'url.scheme': scheme,
    'url.path': shown(path),
    'url.query': query === '' ? undefined : shown(query, withoutSecrets),
    'server.address': host === '' ? undefined : shown(host),
    'server.port': host === '' ? undefined : port,
    'client.address': orNone(shownClient(clientIp)),
    // A hop in front has no secret; whoever has none in front is at the other end himself.
    'network.peer.address': orNone(client.remoteIp === clientIp ? shownClient(clientIp) : client.remoteIp),
    'network.peer.port': client.remotePort === 0 ? undefined : client.remotePort,
    'network.protocol.version': version,
    'user_agent.original': agent === undefined ? undefined : shown(agent),
    'cirque.request.id': owned(requestId),
    'cirque.listener': listener,
    'cirque.worker': orNone(worker),
  }
}

/** What is known of it when it is over. */
export function attributesOfExchange(ended: ExchangeEnded): SpanAttributes {
  const { status, flag, attempts, bytesReceived, bytesSent, error } = ended
  return {
    'http.response.status_code': status === 0 ? undefined : status,
    'http.request.body.size': bytesReceived,
    'http.response.body.size': bytesSent,
    'error.type': errorType(error, status, 500),
    'cirque.flag': flag === '-' ? undefined : flag,
    'cirque.attempts': attempts,
  }
}

/** The head of an attempt's request, as it was sent. */
export interface SentHead { readonly method: string; readonly target: string }

/** Of an attempt that is over. @param connected null: there was no connection */
export function attributesOfAttempt(ended: AttemptEnded, sent: SentHead, connected: AttemptConnected | null): SpanAttributes {
  const { attempt, peer, status, bytesSent, bytesReceived, reused, error } = ended
  const secure = connected !== null && connected.connection.tls !== null
  const { host, port } = peerAddress(peer)
  return {
    ...methodOf(sent.method),
    'url.full': fullUrl(secure ? 'https' : 'http', peer, sent.target),
    'server.address': host,
    'server.port': port === 0 ? undefined : port,
    ...connected === null ? {} : ofConnection(connected),
    'http.response.status_code': status === 0 ? undefined : status,
    'http.request.body.size': bytesSent,
    'http.response.body.size': bytesReceived,
    'http.request.resend_count': attempt > 1 ? attempt - 1 : undefined,
    'error.type': errorType(error, status, 400),
    'cirque.connection.reused': reused,
  }
}

function ofConnection({ connection, protocol }: AttemptConnected): SpanAttributes {
  return {
    'network.peer.address': orNone(connection.remoteIp),
    'network.peer.port': connection.remotePort === 0 ? undefined : connection.remotePort,
    'network.protocol.version': protocol === 'h1' ? '1.1' : protocol.replace(/^h/, ''),
  }
}

/** A failure of the client's own is named, and is none of the span (`isFailure`). @param failing the least status that is a failure */
function errorType(error: ProxyError | null, status: number, failing: number): string | undefined {
  // A status that was all that is wrong says more than that it was.
  if (error !== null && !(error.kind === 'STATUS' && status >= failing)) return error.kind
  return status >= failing ? String(status) : undefined
}

/**
 * Whether the span failed. For a server 4xx is none, and neither is a client that left; for whoever asked an origin 4xx is one as well.
 * @param failing the least status that is a failure: 500 for a server, 400 for a client
 */
export function isFailure(error: ProxyError | null, status: number, failing: number): boolean {
  if (status >= failing) return true
  return error !== null && error.source !== 'downstream' && !(status >= 400 && status < 500)
}

function orNone(text: string): string | undefined { return text === '' ? undefined : text }

/** A copy without secrets, cut where it is long: of what is cut off nothing is looked at. */
function shown(text: string, safely: (text: string) => string = same): string {
  if (text.length <= MAX_SPAN_TEXT) return owned(safely(text))
  return owned(safely(text.slice(0, MAX_SPAN_TEXT - CUT_MARK.length))) + CUT_MARK
}

function same(text: string): string { return text }

function hostAndPort(authority: string, usual: number): { host: string; port: number } {
  const colon = authority.lastIndexOf(':'), bracket = authority.lastIndexOf(']')
  const named = colon > bracket, port = named ? Number(authority.slice(colon + 1)) : 0
  const host = named ? authority.slice(0, colon) : authority
  return { host: withoutBrackets(host), port: port === 0 ? usual : port }
}

/** The name of a peer is its address: `host:port`, `[v6]:port` or `unix:/path`. */
function peerAddress(name: string): { host: string; port: number } {
  return name.startsWith('unix:') ? { host: name.slice('unix:'.length), port: 0 } : hostAndPort(name, 0)
}

function withoutBrackets(host: string): string { return host.startsWith('[') ? host.slice(1, -1) : host }

function fullUrl(scheme: string, peer: string, target: string): string {
  if (/^https?:\/\//i.test(target)) return shown(target, urlWithoutSecrets)
  // A socket in the file system has no host.
  const site = `${scheme}://${peer.startsWith('unix:') ? 'localhost' : peer}`
  return target.startsWith('/') ? shown(site + target, urlWithoutSecrets) : site
}
