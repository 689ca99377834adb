/**
 * The one place where a fault becomes a status, a flag of the access log, and a default page.
 * 400 and its kin for what the client got wrong, 502, 503, 504 for the upstream, 500 for ours. Pages tell the client the
 * request id and nothing about the inside.
 */
import type { Flag } from '../errors/access-flags.ts'
import type { ErrorKind, ProxyError } from '../errors/proxy-error.ts'
import { HeaderMap } from '../http/header-map.ts'
import { REASONS, ResponseHead } from '../http/message-head.ts'

/**
 * Status that a failed exchange is answered with when `failToProxy` does not say otherwise: what a page of your own has to say. 0 when
 * nobody is left to answer to, and then `failToProxy` is not called.
 */
export function statusOf(error: ProxyError): number {
  if (error.status !== 0) return error.status
  switch (error.source) {
    case 'downstream':
      switch (error.kind) {
        case 'CLIENT_GONE': case 'SLOW_READER': case 'CONNECTION_RESET': return 0
        case 'LOOP_DETECTED': return 508
        case 'MISDIRECTED': return 421
        default: return 400
      }
    case 'upstream':
      switch (error.kind) {
        case 'CONNECT_TIMEOUT': case 'TLS_TIMEOUT': case 'FIRST_BYTE_TIMEOUT': case 'READ_TIMEOUT': case 'WRITE_TIMEOUT': return 504
        case 'NO_HEALTHY_BACKEND': case 'POOL_QUEUE_FULL': case 'POOL_QUEUE_TIMEOUT': return 503
        default: return 502
      }
    case 'internal':
      switch (error.kind) {
        case 'OVERLOADED': case 'DRAINING': case 'LOCAL_EXHAUSTED': case 'BIND_FAILED': case 'RESOLVE_FAILED': return 503
        case 'NOT_IMPLEMENTED': return 501
        case 'METHOD_NOT_ALLOWED': return 405
        default: return 500
      }
  }
}

/**
 * How the process log has a fault that ended an exchange: an error of an origin or of ours; a request that was turned away as
 * planned; nothing, when a client brought it about, for anybody can do that as often as it wants. The access log has them all.
 */
export function weightOf({ source, kind }: ProxyError): 'error' | 'warn' | null {
  // Whoever sends the mark, a true loop is the operator's to mend.
  if (kind === 'LOOP_DETECTED') return 'warn'
  if (source === 'downstream') return null
  switch (kind) {
    case 'STATUS': case 'METHOD_NOT_ALLOWED': return null
    case 'OVERLOADED': case 'DRAINING': return 'warn'
    default: return 'error'
  }
}

export function flagOf(error: ProxyError): Flag {
  const kind: ErrorKind = error.kind
  switch (kind) {
    case 'CLIENT_GONE': return 'DC'
    case 'BODY_TOO_LARGE': return 'BL'
    case 'NO_HEALTHY_BACKEND': return 'NH'
    case 'OVERLOADED': case 'LOCAL_EXHAUSTED': case 'POOL_QUEUE_FULL': case 'POOL_QUEUE_TIMEOUT': return 'OL'
    case 'BIND_FAILED': return 'UC'
    case 'DRAINING': return 'DR'
    case 'STATUS': return error.status === 404 ? 'NR' : error.status === 429 ? 'RL' : 'FD'
  }
  if (error.source === 'internal') return 'FE'
  if (error.source === 'downstream') {
    switch (kind) {
      case 'HEAD_TIMEOUT': case 'READ_TIMEOUT': case 'SLOW_BODY': case 'SLOW_READER': case 'TOTAL_TIMEOUT': return 'DT'
      case 'CONNECTION_RESET': return 'DC'
      default: return 'PE'
    }
  }
  switch (kind) {
    case 'CONNECT_TIMEOUT': case 'RESOLVE_TIMEOUT': case 'TLS_TIMEOUT':
    case 'FIRST_BYTE_TIMEOUT': case 'READ_TIMEOUT': case 'WRITE_TIMEOUT':
      return 'UT'
    case 'CLOSED_EARLY': case 'CONNECTION_RESET': case 'WRITE_FAILED': return 'UR'
    case 'RESOLVE_FAILED': case 'CONNECT_REFUSED': case 'CONNECT_NO_ROUTE': case 'CONNECT_FAILED':
    case 'CONNECT_PROXY_FAILED':
      return 'UC'
    // A handshake that failed, in any of its ways.
    default: return kind.startsWith('TLS_') ? 'UC' : 'UP'
  }
}

/** A client that was shed may ask again so soon, in s: the least that can be said. */
export const OVERLOAD_RETRY_AFTER_S = 1

/** The default page: head and text. @param retryAfterS seconds; 0: nothing is said */
export function errorPage(status: number, requestId: string, retryAfterS = 0): { head: ResponseHead; body: string } {
  const body = `${status} ${REASONS[status] ?? 'Error'}\n${requestId === '' ? '' : `request ${requestId}\n`}`
  const headers = new HeaderMap()
  headers.append('Content-Type', 'text/plain; charset=utf-8')
  headers.append('Cache-Control', 'private, no-store')
  if (retryAfterS > 0) headers.append('Retry-After', String(retryAfterS))
  if (status === 405) headers.append('Allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS')
  return { head: ResponseHead.build(status, headers), body }
}
