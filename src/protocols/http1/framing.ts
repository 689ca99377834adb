/**
 * What the fields of a head mean for the connection: how long the body is, whether the connection persists, whether an
 * upgrade is asked for (RFC 9112 6, 7, 9; RFC 9110 7.6.1, 7.8, 10.1.1). Where two readings are possible there is none:
 * the message is refused, since another hop may take the other one.
 * Pure functions over a head; they fill one reusable `Framing` and return a fault text, or null.
 */
import { parseContentLength } from '../../http/content-length.ts'
import { FieldKind, asciiLower, type HeaderMap } from '../../http/header-map.ts'
import { BODY_UNKNOWN, BODY_UNTIL_CLOSE } from '../http-session.ts'

export class Framing {
  /** Bytes, BODY_UNKNOWN (chunked) or BODY_UNTIL_CLOSE. */
  bodyLength = 0
  /** The sender wants, and its version allows, another message behind this one. */
  persistent = true
  /** `Connection: upgrade` together with an Upgrade field. */
  upgrade = false
  expectContinue = false
  /** `TE: trailers` was named. */
  teTrailers = false
  /** Lower-case names that Connection asks to remove; null: none besides the usual ones. */
  connectionNames: Set<string> | null = null
  /** Options in all Connection fields of the head so far. */
  connectionOptions = 0
  /** A response without a body has fields that announce one, or contradict each other: they are not passed on. */
  voidLength = false
  /** From the origin's `Keep-Alive: timeout`, ms; 0 when absent. */
  keepAliveMs = 0
  /** Status for the fault just returned. */
  faultStatus = 400

  reset(): void {
    this.bodyLength = 0
    this.persistent = true
    this.upgrade = false
    this.expectContinue = false
    this.teTrailers = false
    this.connectionNames = null
    this.connectionOptions = 0
    this.voidLength = false
    this.keepAliveMs = 0
    this.faultStatus = 400
  }
}

const FRAMING_BITS = (1 << FieldKind.ContentLength) | (1 << FieldKind.TransferEncoding) | (1 << FieldKind.Connection) |
  (1 << FieldKind.Upgrade) | (1 << FieldKind.Expect) | (1 << FieldKind.Te) | (1 << FieldKind.KeepAlive)

/**
 * Names that Connection must not remove: it would change what the message is or for whom (CVE-2026-26365). A request with
 * one is refused; of a response, where nobody gains by it, the name is passed over.
 */
const NOT_HOP_BY_HOP = new Set([
  'host', 'content-length', 'transfer-encoding', 'cookie', 'set-cookie', 'authorization', 'trailer', 'content-type', 'content-encoding',
  'content-range',
])

/** Options of Connection in one head, repeated ones too: each may cost a look at a set, and real heads have three. */
const MAX_CONNECTION_OPTIONS = 64

const Coding = { Chunked: 0, Unknown: 1, Bad: 2 } as const

/** Only `chunked`, once, is understood; a known coding in front of it is valid but not implemented here. */
function transferCoding(value: string): number {
  const lower = asciiLower(value)
  if (lower === 'chunked') return Coding.Chunked
  const codings = lower.split(',').map(trimBlanks)
  if (codings.pop() !== 'chunked' || codings.length === 0) return Coding.Bad
  for (const coding of codings) if (!['gzip', 'x-gzip', 'compress', 'x-compress', 'deflate'].includes(coding)) return Coding.Bad
  return Coding.Unknown
}

function trimBlanks(text: string): string {
  let start = 0, end = text.length
  while (start < end && (text.charCodeAt(start) === 0x20 || text.charCodeAt(start) === 9)) start++
  while (end > start && (text.charCodeAt(end - 1) === 0x20 || text.charCodeAt(end - 1) === 9)) end--
  return text.substring(start, end)
}

/** Fills in what one Connection field says. Returns a fault or null. */
function readConnection(value: string, framing: Framing, response: boolean): string | null {
  if (value === 'keep-alive' || value === 'Keep-Alive') { seen.keepAlive = true; return null }
  if (value === 'close') { seen.close = true; return null }
  for (let from = 0, comma = 0; comma !== -1; from = comma + 1) {
    comma = value.indexOf(',', from)
    const option = asciiLower(trimBlanks(value.substring(from, comma === -1 ? value.length : comma)))
    if (option === '') continue
    if (++framing.connectionOptions > MAX_CONNECTION_OPTIONS) return `Connection has more than ${MAX_CONNECTION_OPTIONS} options`
    if (option === 'close') seen.close = true
    else if (option === 'keep-alive') seen.keepAlive = true
    else if (option === 'upgrade') seen.upgrade = true
    else if (option === 'te') continue
    else if (!NOT_HOP_BY_HOP.has(option)) (framing.connectionNames ??= new Set()).add(option)
    else if (!response) return `Connection names ${option}`
  }
  return null
}

const seen = { close: false, keepAlive: false, upgrade: false }

/** Reads a request head into `framing`. Returns what is wrong with it (answer `framing.faultStatus` and close), or null. */
export function requestFraming(headers: HeaderMap, minorVersion: number, framing: Framing): string | null {
  framing.reset()
  framing.persistent = minorVersion === 1
  if ((headers.mask & FRAMING_BITS) === 0) return null
  let length = -1, chunked = false, upgradeField = false
  seen.close = seen.keepAlive = seen.upgrade = false
  for (let index = 0; index < headers.size; index++) {
    switch (headers.kindAt(index)) {
      case FieldKind.ContentLength:
        if (length !== -1) return 'Content-Length is repeated'
        length = parseContentLength(headers.valueAt(index))
        if (length === -1) return 'Content-Length is not a number'
        break
      case FieldKind.TransferEncoding: {
        if (chunked) return 'Transfer-Encoding is repeated'
        if (minorVersion === 0) return 'Transfer-Encoding in HTTP/1.0'
        const coding = transferCoding(headers.valueAt(index))
        if (coding !== Coding.Chunked) {
          if (coding === Coding.Unknown) framing.faultStatus = 501
          return 'Transfer-Encoding is other than chunked'
        }
        chunked = true
        break
      }
      case FieldKind.Connection: {
        const fault = readConnection(headers.valueAt(index), framing, false)
        if (fault !== null) return fault
        break
      }
      case FieldKind.Upgrade: upgradeField = true; break
      case FieldKind.Te: framing.teTrailers = asciiLower(headers.valueAt(index)).includes('trailers'); break
      case FieldKind.Expect:
        if (asciiLower(headers.valueAt(index)) !== '100-continue') {
          framing.faultStatus = 417
          return 'Expect is other than 100-continue'
        }
        // A 1.0 client cannot be sent 1xx (RFC 9110 10.1.1).
        framing.expectContinue = minorVersion === 1
        break
    }
  }
  if (chunked && length !== -1) return 'Transfer-Encoding together with Content-Length'
  framing.bodyLength = chunked ? BODY_UNKNOWN : length === -1 ? 0 : length
  framing.persistent = !seen.close && (minorVersion === 1 || seen.keepAlive)
  // Upgrading a request that has a body would leave its end in doubt (CVE-2026-58055): the field is dropped.
  framing.upgrade = seen.upgrade && upgradeField && framing.bodyLength === 0 && minorVersion === 1
  return null
}

/** Reads a response head into `framing`, for a request with `method`. Returns what is wrong with it, or null. */
export function responseFraming(headers: HeaderMap, status: number, minorVersion: number, method: string, framing: Framing): string | null {
  framing.reset()
  framing.persistent = minorVersion === 1
  let length = -1, lengths = 0, codings = 0, chunked = false, upgradeField = false
  seen.close = seen.keepAlive = seen.upgrade = false
  if ((headers.mask & FRAMING_BITS) !== 0) {
    for (let index = 0; index < headers.size; index++) {
      switch (headers.kindAt(index)) {
        case FieldKind.ContentLength:
          lengths++
          length = parseContentLength(headers.valueAt(index))
          break
        case FieldKind.TransferEncoding:
          codings++
          chunked = transferCoding(headers.valueAt(index)) === Coding.Chunked
          break
        case FieldKind.Connection: {
          const fault = readConnection(headers.valueAt(index), framing, true)
          if (fault !== null) return fault
          break
        }
        case FieldKind.Upgrade: upgradeField = true; break
        case FieldKind.KeepAlive: readKeepAlive(headers.valueAt(index), framing); break
      }
    }
    framing.persistent = !seen.close && (minorVersion === 1 || seen.keepAlive)
    framing.upgrade = seen.upgrade && upgradeField
  }
  let fault: string | null = null
  if (lengths > 1) fault = 'Content-Length is repeated'
  else if (lengths === 1 && length === -1) fault = 'Content-Length is not a number'
  else if (codings > 1) fault = 'Transfer-Encoding is repeated'
  else if (codings === 1 && minorVersion === 0) fault = 'Transfer-Encoding in HTTP/1.0'
  else if (codings === 1 && !chunked) fault = 'Transfer-Encoding is other than chunked'
  else if (codings === 1 && lengths === 1) fault = 'Transfer-Encoding together with Content-Length'
  // RFC 9112 6.3, in its order.
  const promises = method === 'HEAD' || status === 304
  if (promises || status < 200 || status === 204 || (method === 'CONNECT' && status < 300)) {
    framing.bodyLength = 0
    // It ends with its head whatever these fields say, so nothing can be misread: they go. But an origin that means them may
    // send a body all the same, which must not meet another request.
    if (fault !== null || (!promises && (chunked || length > 0))) {
      framing.voidLength = true
      framing.persistent = false
    }
    return null
  }
  if (fault !== null) return fault
  if (chunked) framing.bodyLength = BODY_UNKNOWN
  else if (length !== -1) framing.bodyLength = length
  else {
    framing.bodyLength = BODY_UNTIL_CLOSE
    framing.persistent = false
  }
  return null
}

/** `timeout=N` and `max=N` of a Keep-Alive field: a connection with no time left, or no further request, is closed. */
function readKeepAlive(value: string, framing: Framing): void {
  const lower = asciiLower(value), seconds = parameterOf(lower, 'timeout='), requests = parameterOf(lower, 'max=')
  framing.keepAliveMs = seconds === -1 ? 0 : seconds * 1000
  if (seconds === 0 || requests === 0) seen.close = true
}

/** The number behind `name`; -1 when there is none. */
function parameterOf(lower: string, name: string): number {
  const at = lower.indexOf(name)
  if (at === -1) return -1
  const from = at + name.length
  let number = -1
  for (let i = from; i < lower.length && i < from + 6; i++) {
    const digit = lower.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9) break
    number = Math.max(number, 0) * 10 + digit
  }
  return number
}
