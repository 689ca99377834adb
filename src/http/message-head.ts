/**
 * Heads of requests and responses as filters see and change them. Values are checked when they are set, so that what
 * was accepted can be written: nothing that a filter sets can add a line or end a head (RFC 9112 11.1).
 */
import { FieldKind, HeaderMap, isToken } from './header-map.ts'

/** Version of HTTP that a message came in, as Via and logs write it (RFC 9110 2.5). */
export type HttpVersion = '1.0' | '1.1' | '2' | '3'

export class RequestHead {
  /** A token; case matters. A request to switch protocols is a GET with an Upgrade field, in every version (RFC 8441 5). */
  method: string
  /** Origin-form (`/path?query`), absolute-form, authority-form (CONNECT) or `*`. */
  target: string
  /** Scheme that the client used to reach this proxy: its connection has TLS, or not. */
  scheme: 'http' | 'https'
  /** As received. */
  version: HttpVersion
  readonly headers: HeaderMap

  constructor(method: string, target: string, version: HttpVersion, headers: HeaderMap, scheme: 'http' | 'https' = 'http') {
    this.method = method
    this.target = target
    this.scheme = scheme
    this.version = version
    this.headers = headers
  }

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

  clone(): RequestHead { return new RequestHead(this.method, this.target, this.version, this.headers.clone(), this.scheme) }

  /** @throws TypeError when method or target could not be written. */
  check(): this {
    if (!isToken(this.method)) throw new TypeError(`method ${JSON.stringify(this.method)} is not a token`)
    if (this.target === '') throw new TypeError('target is empty; use / or *')
    for (let i = 0; i < this.target.length; i++) {
      const code = this.target.charCodeAt(i)
      if (code > 0x20 && code < 0x7f) continue
      throw new TypeError(`target ${JSON.stringify(this.target)} has a blank, a control or a non-ASCII character; percent-encode it`)
    }
    return this
  }
}

export class ResponseHead {
  status: number
  /** Reason phrase; '' writes the usual one for the status. */
  reason: string
  /** As received. */
  version: HttpVersion
  readonly headers: HeaderMap

  constructor(status: number, reason: string, version: HttpVersion, headers: HeaderMap) {
    this.status = status
    this.reason = reason
    this.version = version
    this.headers = headers
  }

  /** A head to send, checked. @throws TypeError on a status outside 100 to 999 or a reason with controls. */
  static build(status: number, headers: HeaderMap = new HeaderMap(), reason = ''): ResponseHead {
    return new ResponseHead(status, reason, '1.1', headers).check()
  }

  clone(): ResponseHead { return new ResponseHead(this.status, this.reason, this.version, this.headers.clone()) }

  /** @throws TypeError when status or reason could not be written. */
  check(): this {
    if (!Number.isInteger(this.status) || this.status < 100 || this.status > 999) {
      throw new TypeError(`status ${String(this.status)} is not between 100 and 999`)
    }
    for (let i = 0; i < this.reason.length; i++) {
      const code = this.reason.charCodeAt(i)
      const plain = (code >= 0x20 || code === 9) && code !== 0x7f && code <= 0xff
      if (!plain) throw new TypeError(`reason ${JSON.stringify(this.reason)} has a control or a character outside latin1`)
    }
    return this
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
