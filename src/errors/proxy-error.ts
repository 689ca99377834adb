/**
 * The one error type of the proxy core. It answers four questions: what happened (`kind`), on whose side
 * (`source`), may the attempt be repeated (`retry`), and because of what (`cause`).
 * Code and metrics switch on `kind`; nobody reads `message`. Status codes are chosen in proxy/fail-to-proxy.ts.
 */
import { describeError } from './describe-error.ts'

/** Every kind there is. The access log, the metrics and the documentation take their lists from here. */
export const ERROR_KINDS = [
  // Reaching the upstream.
  'RESOLVE_FAILED', 'RESOLVE_TIMEOUT', 'CONNECT_REFUSED', 'CONNECT_TIMEOUT', 'CONNECT_NO_ROUTE', 'CONNECT_FAILED',
  'BIND_FAILED', 'LOCAL_EXHAUSTED', 'CONNECT_PROXY_FAILED', 'NO_HEALTHY_BACKEND', 'POOL_QUEUE_FULL',
  'POOL_QUEUE_TIMEOUT',
  // TLS to the upstream.
  'TLS_HANDSHAKE', 'TLS_TIMEOUT', 'TLS_CLOSED_EARLY', 'TLS_NOT_SPOKEN', 'TLS_VERSION_MISMATCH', 'TLS_NO_SHARED_CIPHER',
  'TLS_ALPN_MISMATCH', 'TLS_CERTIFICATE_EXPIRED', 'TLS_CERTIFICATE_NOT_YET_VALID', 'TLS_SELF_SIGNED', 'TLS_UNKNOWN_CA',
  'TLS_WRONG_NAME', 'TLS_CERTIFICATE_REVOKED', 'TLS_WRONG_PURPOSE', 'TLS_BAD_CERTIFICATE',
  'TLS_CLIENT_CERTIFICATE_REQUIRED', 'TLS_CLIENT_CERTIFICATE_REFUSED',
  // Reading and writing.
  'READ_TIMEOUT', 'WRITE_TIMEOUT', 'FIRST_BYTE_TIMEOUT', 'TOTAL_TIMEOUT', 'HEAD_TIMEOUT', 'SLOW_BODY', 'SLOW_READER',
  'CLOSED_EARLY', 'CONNECTION_RESET', 'WRITE_FAILED', 'CLIENT_GONE',
  // Bytes that break the protocol.
  'BAD_HEAD', 'BAD_FRAMING', 'BAD_TRAILERS', 'BAD_UPGRADE', 'UNEXPECTED_BYTES', 'LENGTH_MISMATCH',
  // Limits and policy.
  'URI_TOO_LONG', 'HEAD_TOO_LARGE', 'VERSION_NOT_SUPPORTED', 'NOT_IMPLEMENTED', 'BODY_TOO_LARGE',
  'METHOD_NOT_ALLOWED', 'EXPECTATION_FAILED', 'LOOP_DETECTED', 'MISDIRECTED', 'TOO_MANY_INTERIM', 'OVERLOADED', 'DRAINING',
  // An answer chosen by a filter, and faults of ours.
  'STATUS', 'HOOK_FAILED', 'HOOK_TIMEOUT', 'INTERNAL',
] as const

/** One of `ERROR_KINDS`; docs/errors.md explains each. */
export type ErrorKind = (typeof ERROR_KINDS)[number]
/** Whose side a fault is on: the client's, the origin's, or the proxy's own. */
export type ErrorSource = 'downstream' | 'upstream' | 'internal'
/** `if-reused`: only when the connection came out of the pool and no response byte was seen on it. */
export type RetryRule = 'never' | 'always' | 'if-reused'

/** What may be said of a ProxyError besides its kind. */
export interface ProxyErrorDetails {
  /** May the attempt be repeated? @default 'never' */
  retry?: RetryRule
  /** Status to answer with, where the place that found the fault knows it better than the kind does; 0: the kind decides. @default 0 */
  status?: number
  /** Name of the limit that was passed, as the metrics and the access log spell it (`head-bytes`); '' for none. @default '' */
  limit?: string
  /** Name of the hook that failed, as `hook` of the error says. @default '' */
  hook?: string
  /** What led to it: `cause` of the error. A `code` that it has stands in the access log. @default none */
  cause?: unknown
}

/**
 * What went wrong in an exchange: what (`kind`), on whose side (`source`), whether the attempt may be repeated (`retry`), because of
 * what (`cause`). Throw one in a hook to fail the exchange: `throw new ProxyError('STATUS', 'internal', 'no such tenant', { status: 404
 * })`.
 */
export class ProxyError extends Error {
  /** What happened. */
  readonly kind: ErrorKind
  /** On whose side. */
  readonly source: ErrorSource
  /** Hooks `failToConnect` and `errorWhileProxy` may change it. */
  retry: RetryRule
  /** Status to answer with; 0: the kind decides. */
  readonly status: number
  /** Name of the limit that was passed; '' for none. */
  readonly limit: string
  /** Name of the hook that threw, gave what would not do, or gave nothing in time (`bodyUse of module gzip`); '' for none. */
  readonly hook: string

  /** @param context one clause that says where and what, for a person; never parsed. */
  constructor(kind: ErrorKind, source: ErrorSource, context: string, details?: ProxyErrorDetails) {
    super(`${kind} (${source}): ${context}`, details?.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'ProxyError'
    this.kind = kind
    this.source = source
    this.retry = details?.retry ?? 'never'
    this.status = details?.status ?? 0
    this.limit = details?.limit ?? ''
    this.hook = details?.hook ?? ''
  }
}

/**
 * Whatever was thrown, as a ProxyError: itself, or wrapped as a fault of a hook.
 * @param hook '' where `context` is the name of something else
 */
export function asProxyError(thrown: unknown, context: string, hook = context): ProxyError {
  if (thrown instanceof ProxyError) return thrown
  return new ProxyError('HOOK_FAILED', 'internal', `${context}: ${describeError(thrown).message}`, { cause: thrown, hook })
}
