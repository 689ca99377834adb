/**
 * The access log: one JSON line a request, built by hand, in a stable order of fields. The format is described in
 * docs/access-log.md, which takes its tables from here.
 *
 * A line is pure ASCII and holds no control character whatever a client sent: what is not printable is escaped, so that
 * nobody can add a line, or talk to the terminal of whoever reads it. Fields are cut at MAX_FIELD_LENGTH.
 * Never written: Authorization, Cookie, Set-Cookie, and values of query keys that are usually secrets.
 */
import type { ProxyError } from '../../errors/proxy-error.ts'
import { count, defaultsOf, resolveOptions, text, type OptionTable } from '../../primitives/option-table.ts'
import type { AccessLogSink, LoggedExchange } from '../access-record.ts'
import { LINE_SINK_OPTIONS, LineSink, type LineDestination, type LineSinkOptions } from './line-sink.ts'

/** One line. Texts are '' and times null when there was no such thing; times are in ms. */
export interface AccessRecord {
  /** When the request began, RFC 3339 in UTC with ms. */
  readonly ts: number
  /** Request id, as in X-Request-Id. */
  readonly id: string
  /** Name of the listener. */
  readonly listener: string
  /** Address of the client. */
  readonly client: string
  /** Address at the other end of the connection, when it is not the client's: a proxy in front of us. */
  readonly peer: string
  /** Method as received. */
  readonly method: string
  /** `http` or `https`. */
  readonly scheme: string
  /** Value of Host. */
  readonly host: string
  /**
   * Path of the request, without query: dot segments are resolved, and a request filter may have changed it; what
   * `upstreamRequestFilter` makes of it is not shown.
   */
  readonly path: string
  /** Query without `?`; values of keys that hold secrets are replaced by `***`. */
  readonly query: string
  /** Version of the protocol, such as `HTTP/1.1`. */
  readonly proto: string
  /** Status that the client was sent; 0 when it was sent none. */
  readonly status: number
  /** How it ended; one of the flags below. */
  readonly flag: string
  /** Bytes of body received from the client. */
  readonly bytes_in: number
  /** Bytes of body sent to the client. */
  readonly bytes_out: number
  /** From the first byte of the request to the end of the exchange. */
  readonly dur_ms: number
  /** From the first byte of the request to the first byte of the answer. */
  readonly ttfb_ms: number | null
  /** Address of the last peer that was tried. */
  readonly upstream: string
  /** Status that the origin sent; 0 for none. */
  readonly up_status: number
  /** Until there was a connection to the origin; near 0 for one that was reused. */
  readonly up_connect_ms: number | null
  /** From the request being sent to the origin's first byte. */
  readonly up_ttfb_ms: number | null
  /** Attempts to reach an origin. */
  readonly attempts: number
  /** The connection to the origin came out of the pool. */
  readonly reused: boolean
  /** Name of the limit that was passed, such as `head-bytes`. */
  readonly limit: string
  /** User-Agent. */
  readonly ua: string
  /** Referer, its query treated like the one above. */
  readonly referer: string
  /** Worker that served it. */
  readonly worker: string
  /** Generation of that worker. */
  readonly gen: number
  /** Kind of the error, and the system's code for its cause: `CONNECT_REFUSED:ECONNREFUSED`. */
  readonly err: string
}

/** In the order of the line. */
export const ACCESS_FIELDS = [
  'ts', 'id', 'listener', 'client', 'peer', 'method', 'scheme', 'host', 'path', 'query', 'proto', 'status', 'flag', 'bytes_in', 'bytes_out',
  'dur_ms', 'ttfb_ms', 'upstream', 'up_status', 'up_connect_ms', 'up_ttfb_ms', 'attempts', 'reused', 'limit', 'ua', 'referer', 'worker',
  'gen', 'err',
] as const satisfies readonly (keyof AccessRecord)[]

/** Longest text of one field, in characters before escaping. */
export const MAX_FIELD_LENGTH = 2048

/** Keys of queries whose values are not written, in lower case. */
export const SECRET_QUERY_KEYS: ReadonlySet<string> = new Set([
  'access_token', 'api_key', 'apikey', 'auth', 'client_secret', 'code', 'id_token', 'key', 'passwd', 'password', 'pwd', 'refresh_token',
  'secret', 'sig', 'signature', 'token', 'x-amz-credential', 'x-amz-security-token', 'x-amz-signature',
])

export interface AccessLogOptions extends LineSinkOptions {
  /** Worker of every line. @default '' */
  worker?: string
  /** Generation of every line. @default 0 */
  generation?: number
}

export const ACCESS_LOG_OPTIONS = {
  ...LINE_SINK_OPTIONS,
  worker: text('', 'the id of a worker'),
  generation: count(0, { min: 0 }),
} satisfies OptionTable<AccessLogOptions>

export const ACCESS_LOG_DEFAULTS: Readonly<Required<AccessLogOptions>> = defaultsOf<AccessLogOptions>(ACCESS_LOG_OPTIONS)

export class AccessLog implements AccessLogSink {
  readonly #sink: LineSink
  readonly #worker: string
  readonly #generation: number

  /** @throws OptionError with every option that would not do, and when the file cannot be opened. */
  constructor(destination: LineDestination, options: AccessLogOptions = {}) {
    const { worker, generation, ...sink } = resolveOptions<AccessLogOptions>('accessLog', ACCESS_LOG_OPTIONS, options, ACCESS_LOG_DEFAULTS)
    this.#sink = new LineSink(destination, sink)
    this.#worker = worker
    this.#generation = generation
  }

  /** Lines that were lost, because nobody took them fast enough or at all. */
  get dropped(): number { return this.#sink.dropped }
  get faults(): number { return this.#sink.faults }

  exchange(exchange: LoggedExchange): void {
    const { request, digest, error, clientIp, startedAt, connectedAt, sentAt, firstByteAt, durationMs, peer } = exchange
    this.write({
      ts: Date.now() - durationMs, id: exchange.requestId, listener: exchange.listener,
      client: clientIp, peer: digest.remoteIp === clientIp ? '' : digest.remoteIp,
      method: request.method, scheme: request.scheme, host: request.authority,
      path: request.path, query: request.query, proto: `HTTP/${request.version}`,
      status: exchange.status, flag: exchange.flag, bytes_in: exchange.bytesReceived, bytes_out: exchange.bytesSent,
      dur_ms: durationMs, ttfb_ms: firstByteAt === 0 ? null : firstByteAt - startedAt,
      upstream: peer === null ? '' : peer.name, up_status: exchange.upstreamStatus,
      up_connect_ms: connectedAt === 0 ? null : connectedAt - startedAt,
      up_ttfb_ms: firstByteAt === 0 || sentAt === 0 ? null : firstByteAt - sentAt,
      attempts: exchange.attempts, reused: exchange.upstreamReused, limit: error === null ? '' : error.limit,
      ua: request.headers.get('user-agent') ?? '', referer: request.headers.get('referer') ?? '',
      worker: this.#worker, gen: this.#generation, err: error === null ? '' : errorText(error),
    })
  }

  refused(listener: string, clientIp: string, error: ProxyError, flag: string, atMs: number): void {
    this.write({
      ts: atMs, id: '', listener, client: clientIp, peer: '', method: '', scheme: '', host: '', path: '', query: '', proto: '',
      status: error.status, flag, bytes_in: 0, bytes_out: 0, dur_ms: 0, ttfb_ms: null,
      upstream: '', up_status: 0, up_connect_ms: null, up_ttfb_ms: null, attempts: 0, reused: false,
      limit: error.limit, ua: '', referer: '', worker: this.#worker, gen: this.#generation, err: errorText(error),
    })
  }

  /** @returns false when the line was dropped. */
  write(record: AccessRecord): boolean { return this.#sink.write(formatRecord(record)) }

  reopen(): void { this.#sink.reopen() }
  close(): Promise<void> { return this.#sink.close() }
}

/** The line of a record, with its line break. One template: joining pieces would cost more than the fields. */
export function formatRecord(record: AccessRecord): string {
  const { ts, id, listener, client, peer, method, scheme, host, path, query, proto, upstream, limit, ua, referer, worker, err } = record
  return `{"ts":"${timestamp(ts)}","id":"${escaped(id)}","listener":"${escaped(listener)}","client":"${escaped(client)
  }","peer":"${escaped(peer)}","method":"${escaped(method)}","scheme":"${escaped(scheme)}","host":"${escaped(host)
  }","path":"${escaped(path)}","query":"${escaped(withoutSecrets(query))}","proto":"${escaped(proto)
  }","status":${whole(record.status)},"flag":"${escaped(record.flag)
  }","bytes_in":${whole(record.bytes_in)},"bytes_out":${whole(record.bytes_out)
  },"dur_ms":${ms(record.dur_ms)},"ttfb_ms":${ms(record.ttfb_ms)},"upstream":"${escaped(upstream)
  }","up_status":${whole(record.up_status)},"up_connect_ms":${ms(record.up_connect_ms)},"up_ttfb_ms":${ms(record.up_ttfb_ms)
  },"attempts":${whole(record.attempts)},"reused":${record.reused},"limit":"${escaped(limit)}","ua":"${escaped(ua)
  }","referer":"${escaped(refererWithoutSecrets(referer))}","worker":"${escaped(worker)}","gen":${whole(record.gen)
  },"err":"${escaped(err)}"}\n`
}

/** Inside quotes of JSON. Nearly all texts need nothing, which one look at their characters tells. */
export function escaped(text: string): string {
  const cut = text.length > MAX_FIELD_LENGTH ? text.slice(0, MAX_FIELD_LENGTH) : text
  for (let at = 0; at < cut.length; at++) {
    const code = cut.charCodeAt(at)
    if (code < 0x20 || code > 0x7E || code === 0x22 || code === 0x5C) return escapedFrom(cut, at)
  }
  return cut
}

function escapedFrom(text: string, first: number): string {
  let out = text.slice(0, first)
  for (let at = first; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22 || code === 0x5C) out += `\\${text[at]}`
    // Everything beyond ASCII as well, halves of surrogate pairs one by one: the line is the same in every encoding.
    else if (code < 0x20 || code > 0x7E) out += `\\u${code.toString(16).padStart(4, '0')}`
    else out += text[at]
  }
  return out
}

/** JSON knows neither NaN nor Infinity. */
function whole(value: number): string { return Number.isFinite(value) ? String(value) : '0' }

/** To the microsecond; more digits are noise of the clock. */
function ms(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return 'null'
  return String(Math.round(value * 1000) / 1000)
}

let stampedSecond = Number.NaN
let stamp = ''

/** RFC 3339 with ms. Building it costs more than the rest of the line, and it changes once a second. */
function timestamp(atMs: number): string {
  const at = Math.floor(atMs)
  const second = Math.floor(at / 1000)
  if (second !== stampedSecond) {
    const date = new Date(second * 1000)
    stamp = Number.isNaN(date.getTime()) ? '1970-01-01T00:00:00.' : date.toISOString().slice(0, 20)
    stampedSecond = second
  }
  const rest = at - second * 1000
  return `${stamp}${rest < 10 ? '00' : rest < 100 ? '0' : ''}${Number.isNaN(rest) ? '000' : rest}Z`
}

/** The same query with `***` for values of SECRET_QUERY_KEYS. */
export function withoutSecrets(query: string): string {
  if (query === '') return ''
  let out = ''
  let copied = 0
  for (let from = 0; from < query.length;) {
    const next = query.indexOf('&', from)
    const end = next < 0 ? query.length : next
    const equals = query.indexOf('=', from)
    if (equals >= 0 && equals + 1 < end && isSecretKey(query.slice(from, equals))) {
      out += `${query.slice(copied, equals + 1)}***`
      copied = end
    }
    from = end + 1
  }
  return copied === 0 ? query : out + query.slice(copied)
}

function isSecretKey(key: string): boolean {
  // Percent-encoded letters spell the same key for the origin.
  if (key.length > 64 && !key.includes('%')) return false
  return SECRET_QUERY_KEYS.has((key.includes('%') ? decoded(key) : key).toLowerCase())
}

function decoded(key: string): string {
  try {
    return decodeURIComponent(key)
  } catch {
    return key // No valid encoding, so no key that anybody knows.
  }
}

function refererWithoutSecrets(referer: string): string {
  const query = referer.indexOf('?')
  return query < 0 ? referer : referer.slice(0, query + 1) + withoutSecrets(referer.slice(query + 1))
}

function errorText(error: ProxyError): string {
  const { cause } = error
  const code = typeof cause === 'object' && cause !== null && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  return code === '' ? error.kind : `${error.kind}:${code}`
}
