/** What the access log says of a finished exchange, and of a head that was refused before it became one, whoever asks. */
import type { ProxyError } from '../../errors/proxy-error.ts'
import { FieldKind, type Token } from '../../http/header-map.ts'
import type { LoggedExchange } from '../access-record.ts'
import type { AccessRecord } from './access-line.ts'

/**
 * @param atMs wall-clock time of its end @param worker id; '' where there are no workers @param client as it is shown
 * @param w how many requests the record stands for
 */
export function recordOfExchange(
  exchange: LoggedExchange, atMs: number, worker: string, generation: number, client = exchange.clientIp, w = 1,
): AccessRecord {
  const { request, trace, digest, error, clientIp, startedAt, connectedAt, sentAt, firstByteAt, durationMs, peer } = exchange
  const { tls } = digest
  return {
    // The proxy makes no other ids, and believes no others.
    ts: atMs - durationMs, id: exchange.requestId as Token,
    trace_id: trace === null ? '' : trace.traceId, span_id: trace === null ? '' : trace.spanId, listener: exchange.listener,
    client, peer: digest.remoteIp === clientIp ? '' : digest.remoteIp,
    method: request.method, scheme: request.scheme, host: request.authority,
    path: request.path, query: request.query, proto: `HTTP/${request.version}`,
    tls: tls === null ? '' : tls.version, sni: tls === null ? '' : tls.serverName, alpn: tls === null ? '' : tls.alpn,
    status: exchange.status, flag: exchange.flag, bytes_in: exchange.bytesReceived, bytes_out: exchange.bytesSent,
    dur_ms: durationMs, ttfb_ms: firstByteAt === 0 ? null : firstByteAt - startedAt,
    upstream: peer === null ? '' : peer.name, up_status: exchange.upstreamStatus,
    up_connect_ms: connectedAt === 0 ? null : connectedAt - startedAt,
    up_ttfb_ms: firstByteAt === 0 || sentAt === 0 ? null : firstByteAt - sentAt,
    attempts: exchange.attempts, reused: exchange.upstreamReused, limit: error === null ? '' : error.limit,
    ua: request.headers.getKind(FieldKind.UserAgent) ?? '', referer: request.headers.getKind(FieldKind.Referer) ?? '',
    worker, gen: generation, err: error === null ? '' : errorText(error), w, app: exchange.logFields,
  }
}

/** @param client as it is shown @param atMs wall-clock time */
export function recordOfRefusal(
  listener: string, client: string, error: ProxyError, flag: string, atMs: number, worker: string, generation: number,
): AccessRecord {
  return {
    ts: atMs, id: '', trace_id: '', span_id: '', listener, client, peer: '',
    method: '', scheme: '', host: '', path: '', query: '', proto: '', tls: '', sni: '', alpn: '',
    status: error.status, flag, bytes_in: 0, bytes_out: 0, dur_ms: 0, ttfb_ms: null,
    upstream: '', up_status: 0, up_connect_ms: null, up_ttfb_ms: null, attempts: 0, reused: false,
    limit: error.limit, ua: '', referer: '', worker, gen: generation, err: errorText(error), w: 1, app: null,
  }
}

function errorText(error: ProxyError): string {
  const { cause } = error
  const code = typeof cause === 'object' && cause !== null && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  return code === '' ? error.kind : `${error.kind}:${code}`
}
