/**
 * One line of the access log: its fields, and how they are written as JSON. docs/access-log.md takes its tables from here; other
 * forms of a line are in access-text.ts and access-template.ts.
 *
 * A line is pure ASCII and holds no control character whatever a client sent: what is not printable is escaped, so that
 * nobody can add a line, or talk to the terminal of whoever reads it. It is one JSON object however much is cut from it: a text
 * is cut between two escapes and ends with CUT_MARK. Never written: Authorization, Cookie, Set-Cookie, and secrets in queries.
 * It is built for every request, by hand: numbers without floating point, one look at the characters of each text, and nothing
 * for a field that has nothing to say.
 */
import { ACCESS_FIELDS as FIELDS } from '../../config/access-format.ts'
import type { Token } from '../../http/header-map.ts'
import type { LogValue } from '../../proxy/session.ts'
import type { AccessLines } from './access-lines.ts'
import { QUERY_SECRETS, type QuerySecrets } from './query-secrets.ts'
import { DIGITS, UtcTime } from './utc-time.ts'

/** One line. Texts are '' and times null when there was no such thing, and are then left out; times are in ms. */
export interface AccessRecord {
  /** When the request began, RFC 3339 in UTC with ms. */
  readonly ts: number
  /** Request id, as in X-Request-Id; '' where there was no request. */
  readonly id: Token | ''
  /** Of a request that is recorded: the trace that it is a part of. */
  readonly trace_id: string
  /** The span of that request. */
  readonly span_id: string
  /** Name of the listener. */
  readonly listener: string
  /** Address of the client; behind trusted hops, the one that they speak for. */
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
  /** Version of TLS, `TLSv1.3` or `TLSv1.2`; left out on a plain connection. */
  readonly tls: string
  /** Name that the client's handshake asked for. */
  readonly sni: string
  /** Protocol that the handshake settled on. */
  readonly alpn: string
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
  /** How many requests the line stands for, where only a sample of them is written; left out when it is 1. */
  readonly w: number
  /** Fields that hooks added with `session.logField()`, as one object; left out when there are none. */
  readonly app: ReadonlyMap<string, LogValue> | null
}

/** In the order of the line. Their names are known to the configuration, whose templates have them. */
export const ACCESS_FIELDS = FIELDS satisfies readonly (keyof AccessRecord)[]

/** Longest text of one field, in characters as they are written. */
export const MAX_FIELD_LENGTH = 2048
/** The end of a text that was cut. */
export const CUT_MARK = '...'
/** Where lines cannot be that long all texts longer than this are cut, to one length that makes it fit. */
const MIN_FIELD_LENGTH = 64
/** The shortest limit that every line can keep: names and numbers, and each text at MIN_FIELD_LENGTH, those of hooks included. */
export const MIN_LINE_LENGTH = 3584

/** Lines as JSON objects: at most `maxLength` characters, which are as many bytes. */
export class JsonLines implements AccessLines {
  readonly #secrets: QuerySecrets
  readonly #fullLength: LineFormat

  constructor(secrets: QuerySecrets = QUERY_SECRETS) {
    this.#secrets = secrets
    this.#fullLength = new LineFormat(MAX_FIELD_LENGTH, secrets)
  }

  compose(record: AccessRecord, maxLength: number): string {
    const line = this.#fullLength.compose(record), secrets = this.#secrets
    if (line.length <= maxLength) return line
    return new LineFormat(lengthThatFits(record, line.length - maxLength, secrets), secrets).compose(record)
  }
}

/**
 * Makes lines whose texts are of one greatest length. Parts that many lines in a row have in common are kept as they were
 * written last: the second, the listener, the site, the origin, the client's program. A line of another kind makes them anew.
 */
class LineFormat {
  readonly #longest: number
  readonly #secrets: QuerySecrets
  readonly #time = new UtcTime('{"ts":"')
  #listener = ''
  #listenerPart = ''
  #method = ''
  #scheme = ''
  #host = ''
  #sitePart = ''
  #proto = ''
  #tls = ''
  #sni = ''
  #alpn = ''
  #status = -1
  #flag = ''
  #outcomePart = ''
  #upstream = ''
  #upStatus = -1
  #upstreamPart = ''
  #ua = ''
  #uaPart = ''
  #worker = ''
  #gen = -1
  #workerPart = ''

  constructor(longest: number, secrets: QuerySecrets) {
    this.#longest = longest
    this.#secrets = secrets
  }

  compose(record: AccessRecord): string {
    const longest = this.#longest
    const { ts, id, listener, client, peer, method, query, attempts, limit, referer, err, w } = record
    let line = `${this.#time.text(ts)}"`
    // In a token is nothing to escape, and looking for it would have the engine put the id together first.
    if (id !== '') line += `,"id":"${id.length <= longest ? id : escaped(id, longest)}"`
    // Digits, which need no escape.
    if (record.trace_id !== '') line += `,"trace_id":"${record.trace_id}","span_id":"${record.span_id}"`
    if (listener !== this.#listener || this.#listenerPart === '') {
      this.#listener = listener
      this.#listenerPart = `,"listener":"${escaped(listener, longest)}"`
    }
    line += client === '' ? this.#listenerPart : `${this.#listenerPart},"client":"${escaped(client, longest)}"`
    if (peer !== '') line += `,"peer":"${escaped(peer, longest)}"`
    // Without a method there was no request.
    if (method !== '') {
      line += `${this.#site(record)}${escaped(record.path, longest)}"`
      if (query !== '') line += `,"query":"${escaped(shownQuery(query, this.#secrets), longest)}"`
    }
    line += `${this.#outcome(record)}${whole(record.bytes_in)},"bytes_out":${whole(record.bytes_out)},"dur_ms":${ms(record.dur_ms)}`
    if (record.ttfb_ms !== null) line += `,"ttfb_ms":${ms(record.ttfb_ms)}`
    // What follows is of an origin, and stands there when one was asked for.
    if (attempts !== 0) {
      line += this.#origin(record)
      if (record.up_connect_ms !== null) line += `,"up_connect_ms":${ms(record.up_connect_ms)}`
      if (record.up_ttfb_ms !== null) line += `,"up_ttfb_ms":${ms(record.up_ttfb_ms)}`
      line += attempts === 1 && record.reused ? ',"attempts":1,"reused":true' : `,"attempts":${whole(attempts)},"reused":${record.reused}`
    }
    if (limit !== '') line += `,"limit":"${escaped(limit, longest)}"`
    if (record.ua !== '') line += this.#agent(record.ua)
    if (referer !== '') line += `,"referer":"${escaped(shownUrl(referer, this.#secrets), longest)}"`
    if (record.worker !== '') line += this.#maker(record)
    if (err !== '') line += `,"err":"${escaped(err, longest)}"`
    if (w !== 1) line += `,"w":${whole(w)}`
    return record.app === null ? `${line}}\n` : `${line},"app":{${fieldsOfHooks(record.app, longest)}}}\n`
  }

  #site({ method, scheme, host }: AccessRecord): string {
    if (method !== this.#method || scheme !== this.#scheme || host !== this.#host) {
      const longest = this.#longest
      this.#method = method
      this.#scheme = scheme
      this.#host = host
      this.#sitePart = `,"method":"${escaped(method, longest)}","scheme":"${escaped(scheme, longest)}","host":"${
        escaped(host, longest)}","path":"`
    }
    return this.#sitePart
  }

  #outcome(record: AccessRecord): string {
    const { proto, status, flag } = record
    if (proto !== this.#proto || status !== this.#status || flag !== this.#flag || this.#isOtherHandshake(record)) {
      const { tls, sni, alpn } = record, longest = this.#longest
      this.#proto = proto
      this.#tls = tls
      this.#sni = sni
      this.#alpn = alpn
      this.#status = status
      this.#flag = flag
      let part = proto === '' ? '' : `,"proto":"${escaped(proto, longest)}"`
      if (tls !== '') part += `,"tls":"${escaped(tls, longest)}"`
      if (sni !== '') part += `,"sni":"${escaped(sni, longest)}"`
      if (alpn !== '') part += `,"alpn":"${escaped(alpn, longest)}"`
      this.#outcomePart = `${part},"status":${whole(status)},"flag":"${escaped(flag, longest)}","bytes_in":`
    }
    return this.#outcomePart
  }

  #isOtherHandshake({ tls, sni, alpn }: AccessRecord): boolean { return tls !== this.#tls || sni !== this.#sni || alpn !== this.#alpn }

  #origin({ upstream, up_status }: AccessRecord): string {
    if (upstream !== this.#upstream || up_status !== this.#upStatus) {
      this.#upstream = upstream
      this.#upStatus = up_status
      const name = upstream === '' ? '' : `,"upstream":"${escaped(upstream, this.#longest)}"`
      this.#upstreamPart = `${name},"up_status":${whole(up_status)}`
    }
    return this.#upstreamPart
  }

  #agent(ua: string): string {
    if (ua !== this.#ua) {
      this.#ua = ua
      this.#uaPart = `,"ua":"${escaped(ua, this.#longest)}"`
    }
    return this.#uaPart
  }

  #maker({ worker, gen }: AccessRecord): string {
    if (worker !== this.#worker || gen !== this.#gen) {
      this.#worker = worker
      this.#gen = gen
      this.#workerPart = `,"worker":"${escaped(worker, this.#longest)}","gen":${whole(gen)}`
    }
    return this.#workerPart
  }
}

const LINES = new JsonLines()

/** @returns the JSON line of a record, with its line break: at most `maxLength` characters, which are as many bytes */
export function formatRecord(record: AccessRecord, maxLength: number = Infinity): string { return LINES.compose(record, maxLength) }

/** One length for all texts that are longer, so that the line loses `excess` characters. */
function lengthThatFits(record: AccessRecord, excess: number, secrets: QuerySecrets): number {
  const { id, listener, client, peer, method, scheme, host, path, query, proto, tls, sni, alpn, upstream, limit, ua } = record
  const { referer, worker, err } = record
  const texts = [
    id, listener, client, peer, method, scheme, host, path, shownQuery(query, secrets), proto, tls, sni, alpn, upstream, limit, ua,
    shownUrl(referer, secrets), worker, err,
  ]
  for (const value of record.app?.values() ?? []) if (typeof value === 'string') texts.push(value)
  const lengths = texts.map(text => escaped(text, MAX_FIELD_LENGTH).length).sort((one, other) => other - one)
  let left = excess
  for (const [index, length] of lengths.entries()) {
    const count = index + 1
    const next = Math.max(lengths[count] ?? 0, MIN_FIELD_LENGTH)
    const gain = (length - next) * count
    if (gain >= left) return length - Math.ceil(left / count)
    left -= Math.max(gain, 0)
  }
  return MIN_FIELD_LENGTH
}

/** Names are letters, digits and underscores: nothing in them needs an escape. */
function fieldsOfHooks(fields: ReadonlyMap<string, LogValue>, longest: number): string {
  let inside = ''
  for (const [name, value] of fields) {
    inside += `${inside === '' ? '' : ','}"${name}":${typeof value === 'string' ? `"${escaped(value, longest)}"` : String(value)}`
  }
  return inside
}

/** A query without its secrets; what would be cut anyway is not looked at. */
export function shownQuery(query: string, secrets: QuerySecrets): string {
  if (query.length <= MAX_FIELD_LENGTH) return secrets.hideInQuery(query)
  return secrets.hideInQuery(query.slice(0, MAX_FIELD_LENGTH)) + CUT_MARK
}

/** An address without the secrets of its query, the same way. */
export function shownUrl(url: string, secrets: QuerySecrets): string {
  return url.length <= MAX_FIELD_LENGTH ? secrets.hideInUrl(url) : secrets.hideInUrl(url.slice(0, MAX_FIELD_LENGTH)) + CUT_MARK
}

/** Inside quotes of JSON, at most `longest` characters. Nearly all texts need nothing, which one look at their characters tells. */
export function escaped(text: string, longest: number): string {
  if (text.length > longest) return escapedPart(text, longest)
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code < 0x20 || code > 0x7E || code === 0x22 || code === 0x5C) return escapedPart(text, longest)
  }
  return text
}

function escapedPart(text: string, longest: number): string {
  // What is behind it would be cut: nothing becomes shorter.
  const end = Math.min(text.length, longest)
  let length = 0, uncut = 0
  for (let at = 0; at < end; at++) {
    length += escapedLength(text.charCodeAt(at))
    if (length <= longest - CUT_MARK.length) uncut = at + 1
    else if (length > longest) break
  }
  const isCut = length > longest || end < text.length
  const escapes = (isCut ? text.slice(0, uncut) : text).replaceAll(ESCAPED, escapeOf)
  return isCut ? escapes + CUT_MARK : escapes
}

/** Everything beyond ASCII as well, halves of surrogate pairs one by one: the line is the same in every encoding. */
const ESCAPED = /["\\]|[^\x20-\x7E]/g

function escapedLength(code: number): number { return code === 0x22 || code === 0x5C ? 2 : code < 0x20 || code > 0x7E ? 6 : 1 }

function escapeOf(char: string): string {
  return char === '"' || char === '\\' ? `\\${char}` : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** JSON knows neither NaN nor Infinity. */
export function whole(value: number): string { return Number.isFinite(value) ? String(value) : '0' }

/** To the microsecond; more digits are noise of the clock. Whole numbers are written much faster than others. */
export function ms(value: number): string {
  const microseconds = Math.round(value * 1000)
  if (microseconds >= 0 && microseconds <= MAX_MICROSECONDS) {
    const whole = Math.floor(microseconds / 1000), part = microseconds - whole * 1000
    return part === 0 ? String(whole) : `${whole}.${DIGITS[part]!}`
  }
  return Number.isFinite(value) ? String(Math.round(value)) : 'null'
}

/** What fits a small integer of the engine: 17 minutes. */
const MAX_MICROSECONDS = 2 ** 30
