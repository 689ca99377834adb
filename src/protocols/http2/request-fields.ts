/**
 * What the fields of a request say, as strictly as HTTP/1 reads them (RFC 9113 8.3.1, 8.5; RFC 8441 4): pure, over fields that were
 * decoded. It fills one reusable object. A request that is malformed ends with its stream; what is only not served here is answered.
 * Tests: server-connection.test.ts
 */
import { isAuthority, withoutZone } from '../../http/authority.ts'
import { underscoredPair } from '../../http/field-rules.ts'
import { asciiLower, FieldKind, isToken, type HeaderMap } from '../../http/header-map.ts'
import { receivedRequest, type RequestHead } from '../../http/message-head.ts'
import { isUnusual } from '../../http/target-path.ts'
import { BODY_UNKNOWN } from '../http-session.ts'
import { webSocketKey } from '../websocket/handshake.ts'
import { Pseudo } from './hpack-field.ts'
import type { ReceivedFields } from './received-fields.ts'

export interface RequestRules {
  readonly maxUriBytes: number
  readonly maxMethodBytes: number
  readonly allowConnect: boolean
}

const ORDINARY = (1 << Pseudo.Method) | (1 << Pseudo.Scheme) | (1 << Pseudo.Path)
const EXTENDED = ORDINARY | (1 << Pseudo.Authority) | (1 << Pseudo.Protocol)
const TUNNEL = (1 << Pseudo.Method) | (1 << Pseudo.Authority)

export class RequestReading {
  head!: RequestHead
  /** Bytes, BODY_UNKNOWN, or 0: no body. */
  bodyLength = 0
  /** Value of `:protocol`; '' when nothing is to be switched. */
  protocol = ''
  expectContinue = false
  targetUnusual = false
  /** What is wrong; '': nothing. */
  fault = ''
  /** To answer with; 0: the request is malformed. */
  status = 0

  /** @param whole nothing follows the head @param secure it came over TLS. Returns false when it is not to be served. */
  read(fields: ReceivedFields, whole: boolean, secure: boolean, rules: RequestRules): boolean {
    this.fault = fields.fault
    this.status = 0
    this.expectContinue = false
    this.protocol = ''
    if (this.fault !== '') return false
    if (fields.limit !== '') return this.#refuse(431, 'the head is too large')
    const { method, path, pseudos } = fields, optional = pseudos | (1 << Pseudo.Authority)
    let target = path
    if (method === 'CONNECT') {
      if (pseudos === EXTENDED) this.protocol = fields.protocol
      else if (pseudos === TUNNEL) target = fields.authority
      else return this.#malformed('CONNECT has other pseudo-fields than it may')
    } else if (optional !== (ORDINARY | (1 << Pseudo.Authority))) return this.#malformed('the pseudo-fields are not those of a request')
    if (!isToken(method)) return this.#malformed(':method is no token')
    if (method.length > rules.maxMethodBytes) return this.#refuse(501, 'method too long')
    if (!this.#readTarget(method, target, rules)) return false
    const { scheme } = fields
    if (pseudos !== TUNNEL && scheme !== 'http' && scheme !== 'https') return this.#refuse(400, ':scheme is neither http nor https')
    const headers = this.#readHost(fields)
    return headers !== null && this.#readFields(fields, headers, target, whole, secure)
  }

  #readTarget(method: string, target: string, { maxUriBytes, allowConnect }: RequestRules): boolean {
    if (target === '') return this.#malformed(':path is empty')
    if (target.length > maxUriBytes) return this.#refuse(414, 'request target too long')
    let unusual = false, previous = 0
    for (let i = 0; i < target.length; i++) {
      const code = target.charCodeAt(i)
      if (code <= 0x20 || code >= 0x7f || code === 0x23) {
        return this.#malformed(':path has a blank, a control, a fragment or what is not ASCII')
      }
      if (isUnusual(code, previous)) unusual = true
      previous = code
    }
    this.targetUnusual = unusual
    if (method === 'CONNECT' && this.protocol === '') {
      if (!allowConnect) return this.#refuse(405, 'CONNECT is not allowed here')
      return isAuthority(target) && /:\d+$/.test(target) || this.#refuse(400, 'the target of CONNECT is not host:port')
    }
    if (target.charCodeAt(0) === 0x2f || (target === '*' && method === 'OPTIONS')) return true
    return this.#malformed(':path is no path')
  }

  #readHost(fields: ReceivedFields): HeaderMap | null {
    const { authority, host } = fields
    if (authority !== '' && host !== '' && asciiLower(authority) !== asciiLower(host)) {
      this.#malformed(':authority and Host are not the same')
      return null
    }
    const named = authority === '' ? host : authority
    if (!isAuthority(named)) {
      this.#refuse(400, named === '' ? 'neither :authority nor Host' : ':authority is not a host')
      return null
    }
    const headers = fields.take()
    if (fields.limit !== '') {
      this.#refuse(431, 'the head is too large')
      return null
    }
    if (named.charCodeAt(0) === 0x5b && named.includes('%')) headers.set('Host', withoutZone(named))
    return headers
  }

  #readFields(fields: ReceivedFields, headers: HeaderMap, target: string, whole: boolean, secure: boolean): boolean {
    const { method } = fields
    if (fields.underscored) {
      const pair = underscoredPair(headers)
      if (pair !== null) return this.#refuse(400, pair)
    }
    this.bodyLength = whole ? 0 : BODY_UNKNOWN
    if (headers.hasKind(FieldKind.ContentLength)) {
      const length = headers.contentLength()
      if (length === -1) return this.#malformed('Content-Length is no number, or repeated')
      if (whole && length > 0) return this.#malformed('Content-Length without a body')
      if (!whole) this.bodyLength = length
    }
    if (headers.hasKind(FieldKind.Expect)) {
      if (asciiLower(headers.getKind(FieldKind.Expect)!) !== '100-continue') return this.#refuse(417, 'Expect is other than 100-continue')
      this.expectContinue = !whole
    }
    if (method === 'CONNECT') {
      if (whole) return this.#malformed('CONNECT ends its stream')
      this.bodyLength = 0
      if (this.protocol !== '') {
        if (!isToken(this.protocol)) return this.#malformed(':protocol is no token')
        headers.append('Upgrade', this.protocol)
        if (asciiLower(this.protocol) === 'websocket') headers.set('Sec-WebSocket-Key', webSocketKey())
      }
    }
    this.head = receivedRequest(this.protocol === '' ? method : 'GET', target, '2', headers)
    if (secure) this.head.scheme = 'https'
    return true
  }

  #malformed(fault: string): false {
    this.fault = fault
    this.status = 0
    return false
  }

  #refuse(status: number, fault: string): false {
    this.fault = fault
    this.status = status
    return false
  }
}
