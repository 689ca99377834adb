/**
 * Heads of requests and responses as filters see and change them. Nothing that a filter sets can add a line, end a head or
 * be read as another message (RFC 9112 11.1): fields are checked when they are set, and the rest by `check`, which whoever
 * sends a head calls right before. It compares with what a parser made, or what the last check found sound, so that it costs
 * a head that nobody changed a few comparisons, and no hook can be forgotten.
 */
import { showValue } from '../primitives/option-table.ts'
import { isAuthority } from './authority.ts'
import { FieldKind, HeaderMap, isToken } from './header-map.ts'

/** Version of HTTP that a message came in, as Via and logs write it (RFC 9110 2.5). */
export type HttpVersion = '1.0' | '1.1' | '2' | '3'

/** A head that a parser read: it is sound as it is. Not for applications. */
export let receivedRequest: (method: string, target: string, version: HttpVersion, headers: HeaderMap) => RequestHead
export let receivedResponse: (status: number, reason: string, version: HttpVersion, headers: HeaderMap) => ResponseHead

/** The head of a request: method, target and fields, which filters may change. What must not be sent is refused where it is written. */
export class RequestHead {
  /** A token; case matters. A request to switch protocols is a GET with an Upgrade field, in every version (RFC 8441 5). */
  method: string
  /** Origin-form (`/path?query`), absolute-form, authority-form (CONNECT) or `*`. */
  target: string
  /** Scheme that the client used to reach this proxy: its connection has TLS, or not. */
  scheme: 'http' | 'https'
  /** As received. */
  version: HttpVersion
  readonly #headers: HeaderMap
  /** What is known to be sound; null: nothing is yet. */
  #soundMethod: string | null = null
  #soundTarget: string | null = null
  #soundVersion: string = '1.1'

  /** Nothing is checked: applications use `build`. */
  constructor(method: string, target: string, version: HttpVersion, headers: HeaderMap, scheme: 'http' | 'https' = 'http') {
    this.method = method
    this.target = target
    this.scheme = scheme
    this.version = version
    this.#headers = headers
  }

  static {
    receivedRequest = (method, target, version, headers) => {
      const head = new RequestHead(method, target, version, headers)
      head.#soundMethod = method
      head.#soundTarget = target
      head.#soundVersion = version
      return head
    }
  }

  /** Its fields. */
  get headers(): HeaderMap { return this.#headers }

  /** A head to send, checked. @throws TypeError on a method that is no token, or a target with blanks or controls. */
  static build(method: string, target: string, headers: HeaderMap = new HeaderMap()): RequestHead {
    return new RequestHead(method, target, '1.1', headers).check()
  }

  /** Without query and fragment. */
  get path(): string {
    const query = this.target.indexOf('?')
    return query === -1 ? this.target : this.target.slice(0, query)
  }

  /** After `?`, without it; '' when there is none. */
  get query(): string {
    const query = this.target.indexOf('?')
    return query === -1 ? '' : this.target.slice(query + 1)
  }

  /** Host and port that the request is for: the value of Host, which an HTTP/2 session makes of `:authority`; '' when there is none. */
  get authority(): string { return this.headers.getKind(FieldKind.Host) ?? '' }
  set authority(authority: string) { this.headers.set('Host', authority) }

  /** The same, under the name that applications know it by. */
  get host(): string { return this.authority }

  /** The same head, with fields of its own. */
  clone(): RequestHead {
    const copy = new RequestHead(this.method, this.target, this.version, this.#headers.clone(), this.scheme)
    copy.#soundMethod = this.#soundMethod
    copy.#soundTarget = this.#soundTarget
    copy.#soundVersion = this.#soundVersion
    return copy
  }

  /** @throws TypeError when something in it must not be sent. */
  check(): this {
    const { method, target, version } = this
    if (method !== this.#soundMethod) {
      if (typeof method !== 'string' || !isToken(method)) throw new TypeError(`method ${JSON.stringify(method)} is not a token`)
      // Another form of target goes with CONNECT.
      if (method === 'CONNECT' || this.#soundMethod === 'CONNECT') checkTarget(target, method)
      this.#soundMethod = method
    }
    if (target !== this.#soundTarget) {
      checkTarget(target, method)
      this.#soundTarget = target
    }
    if (version !== this.#soundVersion) {
      checkVersion(version)
      this.#soundVersion = version
    }
    if (this.#headers.touched) checkHost(this.#headers)
    return this
  }
}

/** Forms of RFC 9112 3.2, without a fragment. */
function checkTarget(target: string, method: string): void {
  if (typeof target !== 'string') throw new TypeError(`target is ${typeof target}; use a string`)
  if (target === '') throw new TypeError('target is empty; use / or *')
  const shown = JSON.stringify(target)
  for (let i = 0; i < target.length; i++) {
    const code = target.charCodeAt(i)
    if (code === 0x23) throw new TypeError(`target ${shown} has a fragment; write %23 for a # that belongs to it`)
    if (code > 0x20 && code < 0x7f) continue
    throw new TypeError(`target ${shown} has a blank, a control or a non-ASCII character; percent-encode it`)
  }
  if (method === 'CONNECT') {
    if (!isAuthority(target)) throw new TypeError(`target ${shown} of CONNECT is not host:port`)
  } else if (target.charCodeAt(0) !== 0x2f && target !== '*' && !/^https?:\/\/[^/?]/i.test(target)) {
    throw new TypeError(`target ${shown} is neither a path that starts with / nor an http URI`)
  }
}

/** One host at most, and nothing that two hops could read as different ones (RFC 9110 7.2). */
function checkHost(headers: HeaderMap): void {
  let hosts = 0
  for (let index = 0; index < headers.size; index++) {
    if (headers.kindAt(index) !== FieldKind.Host) continue
    const host = headers.valueAt(index)
    if (++hosts > 1) throw new TypeError('field Host is there twice; set it instead of adding one')
    if (!isAuthority(host)) throw new TypeError(`field Host: ${JSON.stringify(host)} is no host with an optional port`)
  }
}

function checkVersion(version: string): void {
  switch (version) {
    case '1.0': case '1.1': case '2': case '3': return
    default: throw new TypeError(`version ${JSON.stringify(version)} is none of 1.0, 1.1, 2 and 3`)
  }
}

/** The head of a response: status and fields, which filters may change. */
export class ResponseHead {
  /** From 100 to 999. */
  status: number
  /** Reason phrase; '' writes the usual one for the status. */
  reason: string
  /** As received. */
  version: HttpVersion
  readonly #headers: HeaderMap
  /** What is known to be sound. */
  #soundStatus = 200
  #soundReason = ''
  #soundVersion: string = '1.1'

  /** Nothing is checked: applications use `build`. */
  constructor(status: number, reason: string, version: HttpVersion, headers: HeaderMap) {
    this.status = status
    this.reason = reason
    this.version = version
    this.#headers = headers
  }

  static {
    receivedResponse = (status, reason, version, headers) => {
      const head = new ResponseHead(status, reason, version, headers)
      head.#soundStatus = status
      head.#soundReason = reason
      head.#soundVersion = version
      return head
    }
  }

  /** Its fields. */
  get headers(): HeaderMap { return this.#headers }

  /** A head to send, checked. @throws TypeError on a status outside 100 to 999 or a reason with controls. */
  static build(status: number, headers: HeaderMap = new HeaderMap(), reason = ''): ResponseHead {
    return new ResponseHead(status, reason, '1.1', headers).check()
  }

  /** The same head, with fields of its own. */
  clone(): ResponseHead {
    const copy = new ResponseHead(this.status, this.reason, this.version, this.#headers.clone())
    copy.#soundStatus = this.#soundStatus
    copy.#soundReason = this.#soundReason
    copy.#soundVersion = this.#soundVersion
    return copy
  }

  /** @throws TypeError when something in it must not be sent. */
  check(): this {
    const { status, reason, version } = this
    if (status !== this.#soundStatus) {
      if (!Number.isInteger(status) || status < 100 || status > 999) {
        throw new TypeError(`status is ${showValue(status)}; use a whole number from 100 to 999`)
      }
      this.#soundStatus = status
    }
    if (reason !== this.#soundReason) {
      checkReason(reason)
      this.#soundReason = reason
    }
    if (version !== this.#soundVersion) {
      checkVersion(version)
      this.#soundVersion = version
    }
    return this
  }
}

function checkReason(reason: string): void {
  if (typeof reason !== 'string') throw new TypeError(`reason is ${typeof reason}; use a string`)
  for (let i = 0; i < reason.length; i++) {
    const code = reason.charCodeAt(i)
    const plain = (code >= 0x20 || code === 9) && code !== 0x7f && code <= 0xff
    if (!plain) throw new TypeError(`reason ${JSON.stringify(reason)} has a control or a character outside latin1`)
  }
}

/** Usual reason phrases (RFC 9110 15, and those registered since). */
export const REASONS: Readonly<Record<number, string>> = {
  100: 'Continue', 101: 'Switching Protocols', 102: 'Processing', 103: 'Early Hints',
  200: 'OK', 201: 'Created', 202: 'Accepted', 203: 'Non-Authoritative Information', 204: 'No Content', 205: 'Reset Content',
  206: 'Partial Content',
  300: 'Multiple Choices', 301: 'Moved Permanently', 302: 'Found', 303: 'See Other', 304: 'Not Modified', 307: 'Temporary Redirect',
  308: 'Permanent Redirect',
  400: 'Bad Request', 401: 'Unauthorized', 402: 'Payment Required', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed',
  406: 'Not Acceptable', 407: 'Proxy Authentication Required', 408: 'Request Timeout', 409: 'Conflict', 410: 'Gone',
  411: 'Length Required', 412: 'Precondition Failed', 413: 'Content Too Large', 414: 'URI Too Long', 415: 'Unsupported Media Type',
  416: 'Range Not Satisfiable', 417: 'Expectation Failed', 421: 'Misdirected Request', 422: 'Unprocessable Content', 425: 'Too Early',
  426: 'Upgrade Required', 428: 'Precondition Required', 429: 'Too Many Requests', 431: 'Request Header Fields Too Large',
  451: 'Unavailable For Legal Reasons',
  500: 'Internal Server Error', 501: 'Not Implemented', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported', 507: 'Insufficient Storage', 508: 'Loop Detected', 511: 'Network Authentication Required',
}

/** Methods whose repetition is harmless (RFC 9110 9.2.2). */
export function isIdempotent(method: string): boolean {
  switch (method) {
    case 'GET': case 'HEAD': case 'OPTIONS': case 'TRACE': case 'PUT': case 'DELETE': return true
    default: return false
  }
}
