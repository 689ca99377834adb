/**
 * One line of the access log: its fields, and how they are written as JSON. docs/access-log.md takes its tables from here; other
 * forms of a line are in access-text.ts and access-template.ts.
 *
 * A line is pure ASCII and holds no control character whatever a client sent: what is not printable is escaped, so that
 * nobody can add a line, or talk to the terminal of whoever reads it. It is one JSON object however much is cut from it: a text
 * is cut between two escapes and ends with CUT_MARK. Never written: Authorization, Cookie, Set-Cookie, and secrets in queries.
 * It is built for every request, by hand: as bytes (line-bytes.ts), with one look at the characters of each text, and nothing for a
 * field that has nothing to say.
 */
import { ACCESS_FIELDS as FIELDS } from '../../config/access-format.ts'
import type { Token } from '../../http/header-map.ts'
import type { LogValue } from '../../proxy/session.ts'
import type { AccessLines } from './access-lines.ts'
import { LineBytes, partOf } from './line-bytes.ts'
import type { LogSink } from './log-sink.ts'
import { QUERY_SECRETS, type QuerySecrets } from './query-secrets.ts'
import { DIGITS, utcSecond } from './utc-time.ts'

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

  writeTo(sink: LogSink, record: AccessRecord): boolean {
    const { bytes, length } = this.#bytesOf(record, sink.maxLineLength)
    return sink.writeBytes(bytes, length)
  }

  compose(record: AccessRecord, maxLength: number): string {
    const { bytes, length } = this.#bytesOf(record, maxLength)
    return bytes.latin1Slice(0, length)
  }

  /** They hold until the next call. */
  #bytesOf(record: AccessRecord, maxLength: number): LineBytes {
    const line = this.#fullLength.compose(record), secrets = this.#secrets
    if (line.length <= maxLength) return line
    return new LineFormat(lengthThatFits(record, line.length - maxLength, secrets), secrets).compose(record)
  }
}

const ID = partOf(',"id":"'), TRACE_ID = partOf(',"trace_id":"'), SPAN_ID = partOf('","span_id":"'), CLIENT = partOf(',"client":"')
const PEER = partOf(',"peer":"'), QUERY = partOf('","query":"'), BYTES_OUT = partOf(',"bytes_out":'), DUR_MS = partOf(',"dur_ms":')
const TTFB_MS = partOf(',"ttfb_ms":'), UP_CONNECT_MS = partOf(',"up_connect_ms":'), UP_TTFB_MS = partOf(',"up_ttfb_ms":')
const REUSED_AT_ONCE = partOf(',"attempts":1,"reused":true'), ATTEMPTS = partOf(',"attempts":'), REUSED = partOf(',"reused":')
const LIMIT = partOf(',"limit":"'), REFERER = partOf(',"referer":"'), ERR = partOf(',"err":"'), WEIGHT = partOf(',"w":')
const APP = partOf(',"app":{'), END_OF_TIME = partOf('Z"'), END_OF_LINE = partOf('}\n'), NOTHING = partOf('')
const QUOTE = 0x22, CLOSING_BRACE = 0x7D

/**
 * Makes lines whose texts are of one greatest length. Parts that many lines in a row have in common are kept as they were
 * written last: the second, the listener, the site, the origin, the client's program. A line of another kind makes them anew.
 */
class LineFormat {
  readonly #longest: number
  readonly #secrets: QuerySecrets
  readonly #line = new LineBytes()
  #second = Number.NaN
  #secondPart = NOTHING
  #listener = ''
  #listenerPart = NOTHING
  #method = ''
  #scheme = ''
  #host = ''
  #sitePart = NOTHING
  #proto = ''
  #tls = ''
  #sni = ''
  #alpn = ''
  #status = -1
  #flag = ''
  #outcomePart = NOTHING
  #upstream = ''
  #upStatus = -1
  #upstreamPart = NOTHING
  #ua = ''
  #uaPart = NOTHING
  #worker = ''
  #gen = -1
  #workerPart = NOTHING

  constructor(longest: number, secrets: QuerySecrets) {
    this.#longest = longest
    this.#secrets = secrets
  }

  /** @returns a line that holds until the next one is made */
  compose(record: AccessRecord): LineBytes {
    const longest = this.#longest, line = this.#line
    const { id, listener, client, peer, method, query, attempts, limit, referer, err, w } = record
    line.clear()
    this.#time(record.ts)
    if (id !== '') {
      line.part(ID)
      // In a token is nothing to escape, and looking for it would have the engine put the id together first.
      line.text(id.length <= longest ? id : escaped(id, longest))
      line.byte(QUOTE)
    }
    if (record.trace_id !== '') {
      // Digits, which need no escape.
      line.part(TRACE_ID)
      line.text(record.trace_id)
      line.part(SPAN_ID)
      line.text(record.span_id)
      line.byte(QUOTE)
    }
    if (listener !== this.#listener || this.#listenerPart === NOTHING) {
      this.#listener = listener
      this.#listenerPart = partOf(`,"listener":"${escaped(listener, longest)}"`)
    }
    line.part(this.#listenerPart)
    if (client !== '') this.#text(CLIENT, client)
    if (peer !== '') this.#text(PEER, peer)
    // Without a method there was no request.
    if (method !== '') {
      line.part(this.#site(record))
      line.text(escaped(record.path, longest))
      if (query === '') line.byte(QUOTE)
      else this.#text(QUERY, shownQuery(query, this.#secrets))
    }
    line.part(this.#outcome(record))
    line.whole(record.bytes_in)
    line.part(BYTES_OUT)
    line.whole(record.bytes_out)
    line.part(DUR_MS)
    line.ms(record.dur_ms)
    if (record.ttfb_ms !== null) this.#ms(TTFB_MS, record.ttfb_ms)
    // What follows is of an origin, and stands there when one was asked for.
    if (attempts !== 0) {
      line.part(this.#origin(record))
      if (record.up_connect_ms !== null) this.#ms(UP_CONNECT_MS, record.up_connect_ms)
      if (record.up_ttfb_ms !== null) this.#ms(UP_TTFB_MS, record.up_ttfb_ms)
      if (attempts === 1 && record.reused) line.part(REUSED_AT_ONCE)
      else this.#attempts(record)
    }
    if (limit !== '') this.#text(LIMIT, limit)
    if (record.ua !== '') line.part(this.#agent(record.ua))
    if (referer !== '') this.#text(REFERER, shownUrl(referer, this.#secrets))
    if (record.worker !== '') line.part(this.#maker(record))
    if (err !== '') this.#text(ERR, err)
    if (w !== 1) {
      line.part(WEIGHT)
      line.whole(w)
    }
    if (record.app !== null) {
      line.part(APP)
      line.text(fieldsOfHooks(record.app, longest))
      line.byte(CLOSING_BRACE)
    }
    line.part(END_OF_LINE)
    return line
  }

  /** A time that is none is the beginning of 1970. */
  #time(atMs: number): void {
    const line = this.#line, at = Math.floor(atMs), second = Math.floor(at / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#secondPart = partOf(`{"ts":"${utcSecond(second)}.`)
    }
    const milliseconds = at - second * 1000
    line.part(this.#secondPart)
    line.thousandths(milliseconds >= 0 ? milliseconds : 0)
    line.part(END_OF_TIME)
  }

  #text(name: Uint8Array, text: string): void {
    const line = this.#line
    line.part(name)
    line.text(escaped(text, this.#longest))
    line.byte(QUOTE)
  }

  #ms(name: Uint8Array, value: number): void {
    this.#line.part(name)
    this.#line.ms(value)
  }

  #attempts({ attempts, reused }: AccessRecord): void {
    const line = this.#line
    line.part(ATTEMPTS)
    line.whole(attempts)
    line.part(REUSED)
    line.text(String(reused))
  }

  #site({ method, scheme, host }: AccessRecord): Uint8Array {
    if (method !== this.#method || scheme !== this.#scheme || host !== this.#host) {
      const longest = this.#longest
      this.#method = method
      this.#scheme = scheme
      this.#host = host
      const site = `,"method":"${escaped(method, longest)}","scheme":"${escaped(scheme, longest)}"`
      this.#sitePart = partOf(`${site},"host":"${escaped(host, longest)}","path":"`)
    }
    return this.#sitePart
  }

  #outcome(record: AccessRecord): Uint8Array {
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
      this.#outcomePart = partOf(`${part},"status":${whole(status)},"flag":"${escaped(flag, longest)}","bytes_in":`)
    }
    return this.#outcomePart
  }

  #isOtherHandshake({ tls, sni, alpn }: AccessRecord): boolean { return tls !== this.#tls || sni !== this.#sni || alpn !== this.#alpn }

  #origin({ upstream, up_status }: AccessRecord): Uint8Array {
    if (upstream !== this.#upstream || up_status !== this.#upStatus) {
      this.#upstream = upstream
      this.#upStatus = up_status
      const name = upstream === '' ? '' : `,"upstream":"${escaped(upstream, this.#longest)}"`
      this.#upstreamPart = partOf(`${name},"up_status":${whole(up_status)}`)
    }
    return this.#upstreamPart
  }

  #agent(ua: string): Uint8Array {
    if (ua !== this.#ua) {
      this.#ua = ua
      this.#uaPart = partOf(`,"ua":"${escaped(ua, this.#longest)}"`)
    }
    return this.#uaPart
  }

  #maker({ worker, gen }: AccessRecord): Uint8Array {
    if (worker !== this.#worker || gen !== this.#gen) {
      this.#worker = worker
      this.#gen = gen
      this.#workerPart = partOf(`,"worker":"${escaped(worker, this.#longest)}","gen":${whole(gen)}`)
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
