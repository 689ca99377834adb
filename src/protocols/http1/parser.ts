/**
 * Incremental reader of HTTP/1 heads and trailer sections over bytes (RFC 9112 2 to 5), for both sides.
 *
 * Strict: CRLF only, no obs-fold, no blank before the colon, nothing but token characters in names and no controls in
 * values. Each byte is looked at once, wherever the input is cut; a head that is not complete yet is kept here, and
 * limits are checked before anything is kept. Returns codes and never throws; what a code means for the answer is in
 * HEAD_FAULTS. What the fields mean (body length, keep-alive) is decided in framing.ts.
 */
import { TOKEN_CHAR, VALUE_CHAR, fieldKind, receivedFields, type HeaderMap } from '../../http/header-map.ts'
import { receivedRequest, receivedResponse, type RequestHead, type ResponseHead } from '../../http/message-head.ts'
import { isUnusual } from '../../http/target-path.ts'
import type { ErrorKind } from '../../errors/proxy-error.ts'

/** Results of `HeadParser.parse`; every other number is one of HeadFault. */
export const Parsed = { More: 0, Done: 1 } as const

export const HeadFault = {
  BadStartLine: 2, BadField: 3, ObsFold: 4, BareLineBreak: 5, BadVersion: 6,
  MethodTooLong: 7, UriTooLong: 8, LineTooLong: 9, HeadTooLarge: 10, TooManyFields: 11,
} as const

export interface FaultMeaning {
  readonly kind: ErrorKind
  /** Answer to a request with this fault; a response with it becomes 502. */
  readonly status: number
  /** Name of the limit in metrics and logs. */
  readonly limit: string
  readonly text: string
}

/** Indexed by HeadFault. */
export const HEAD_FAULTS: Readonly<Record<number, FaultMeaning>> = {
  [HeadFault.BadStartLine]: { kind: 'BAD_HEAD', status: 400, limit: 'bad-head', text: 'malformed start line' },
  [HeadFault.BadField]: { kind: 'BAD_HEAD', status: 400, limit: 'bad-head', text: 'malformed field line' },
  [HeadFault.ObsFold]: { kind: 'BAD_HEAD', status: 400, limit: 'bad-head', text: 'folded field line' },
  [HeadFault.BareLineBreak]: { kind: 'BAD_HEAD', status: 400, limit: 'bad-head', text: 'CR or LF that is no line end' },
  [HeadFault.BadVersion]: {
    kind: 'VERSION_NOT_SUPPORTED', status: 505, limit: 'bad-head', text: 'version other than HTTP/1.0 and HTTP/1.1',
  },
  [HeadFault.MethodTooLong]: { kind: 'NOT_IMPLEMENTED', status: 501, limit: 'method-bytes', text: 'method too long' },
  [HeadFault.UriTooLong]: { kind: 'URI_TOO_LONG', status: 414, limit: 'uri-bytes', text: 'request target too long' },
  [HeadFault.LineTooLong]: { kind: 'HEAD_TOO_LARGE', status: 431, limit: 'header-line-bytes', text: 'field line too long' },
  [HeadFault.HeadTooLarge]: { kind: 'HEAD_TOO_LARGE', status: 431, limit: 'head-bytes', text: 'head too large' },
  [HeadFault.TooManyFields]: { kind: 'HEAD_TOO_LARGE', status: 431, limit: 'header-count', text: 'too many fields' },
}

/** The limit of a fault, by the name that it has for heads of responses. */
export function limitOfResponse(limit: string): string {
  switch (limit) {
    case 'head-bytes': return 'response-head-bytes'
    case 'header-count': return 'response-header-count'
    default: return limit
  }
}

export interface HeadLimits {
  readonly maxHeadBytes: number
  readonly maxHeaderCount: number
  readonly maxHeaderLineBytes: number
  readonly maxMethodBytes: number
  readonly maxUriBytes: number
}

/**
 * One parser that all connections with the same limits use in turn: a head that comes in one piece, as nearly all do,
 * leaves nothing behind in it. One that does not takes the parser with it, and a new one takes its place here. So an
 * idle connection keeps no parser, and a busy worker touches one instead of thousands.
 */
export class ParserSlot {
  readonly #role: HeadRole
  readonly #limits: HeadLimits
  parser: HeadParser
  constructor(role: HeadRole, limits: HeadLimits) {
    this.#role = role
    this.#limits = limits
    this.parser = new HeadParser(role, limits)
  }
  /** The parser belongs to the caller from now on. */
  surrender(): HeadParser {
    const parser = this.parser
    this.parser = new HeadParser(this.#role, this.#limits)
    return parser
  }
}

export type HeadRole = 'request' | 'response' | 'trailers'

const State = {
  Start: 0, StartLf: 1, Method: 2, Target: 3, Version: 4,
  StatusVersion: 5, StatusCode: 6, Reason: 7, ReasonLf: 8,
  Line: 9, Name: 10, Blank: 11, Value: 12, ValueLf: 13, EndLf: 14,
} as const

const HT = 0x09, LF = 0x0a, CR = 0x0d, SP = 0x20, COLON = 0x3a, DOT = 0x2e
const HTTP_SLASH = [0x48, 0x54, 0x54, 0x50, 0x2f]

export class HeadParser {
  readonly #role: HeadRole
  readonly #limits: HeadLimits
  #state: number
  /** Bytes of this head looked at so far. */
  #at = 0
  /** Bytes of it kept in #held, when it came in more than one piece. */
  #kept = 0
  #held: Buffer | null = null
  /** Starts of the parts being read, counted from the start of the head. */
  #startLine = 0
  #methodEnd = 0
  #targetStart = 0
  #targetEnd = 0
  #statusAt = 0
  #reasonStart = 0
  #reasonEnd = 0
  #lineStart = 0
  #nameEnd = 0
  #valueStart = 0
  #emptyLines = 0
  #major = 0
  /** Six numbers a field, as HeaderMap has them; reused from head to head. */
  readonly #spans: number[] = []
  #fields = 0

  /** Results of the last complete head. */
  method = ''
  target = ''
  /** The target has `//`, `/.`, `%`, `\` or `#`: it needs a closer look (http/target-path.ts). */
  targetUnusual = false
  minorVersion = 1
  status = 0
  reason = ''
  /** A field name has an underscore. */
  underscored = false
  /** Length of the last complete head, until `reset`. */
  get headBytes(): number { return this.#at }
  /** Where the bytes behind the head start, in the buffer that `parse` was last given. */
  consumedTo = 0

  constructor(role: HeadRole, limits: HeadLimits) {
    this.#role = role
    this.#limits = limits
    this.#state = role === 'request' ? State.Start : role === 'response' ? State.StatusVersion : State.Line
  }

  /** No byte of a head has been seen. */
  get untouched(): boolean { return this.#at === 0 }

  /** Forgets a head that was begun, or was taken. */
  reset(): void {
    this.#state = this.#role === 'request' ? State.Start : this.#role === 'response' ? State.StatusVersion : State.Line
    this.#at = 0
    this.#kept = 0
    this.#held = null
    this.#fields = 0
    this.#lineStart = 0
    this.#emptyLines = 0
    this.targetUnusual = false
    this.underscored = false
  }

  /**
   * Looks at [from, to). Parsed.More: all of it was taken in. Parsed.Done: fetch the head with `takeRequest`,
   * `takeResponse` or `takeTrailers`; the rest of the input starts at `consumedTo`. Otherwise a HeadFault.
   */
  parse(buffer: Buffer, from: number, to: number): number {
    const kept = this.#kept
    if (kept === 0) {
      const result = this.#run(buffer, from, to)
      if (result === Parsed.More) {
        const length = to - from
        this.#held = Buffer.allocUnsafeSlow(Math.min(Math.max(512, length * 2), this.#limits.maxHeadBytes + 2))
        buffer.copy(this.#held, 0, from, to)
        this.#kept = length
      } else {
        this.consumedTo = from + this.#at
        if (result === Parsed.Done) this.#take(buffer, from)
      }
      return result
    }
    // What is behind the limit cannot belong to an acceptable head, so no more than that is kept.
    const room = this.#limits.maxHeadBytes + 1 - kept
    const taken = Math.min(to - from, room), length = kept + taken
    let held = this.#held!
    if (held.length < length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(length, Math.min(held.length * 2, this.#limits.maxHeadBytes + 2)))
      held.copy(larger, 0, 0, kept)
      this.#held = held = larger
    }
    buffer.copy(held, kept, from, from + taken)
    this.#kept = length
    const result = this.#run(held, 0, length)
    if (result !== Parsed.More) {
      this.consumedTo = from + this.#at - kept
      if (result === Parsed.Done) this.#take(held, 0)
    }
    return result
  }

  /** Memory for a head that came in part. */
  get heldBytes(): number { return this.#held === null ? 0 : this.#held.length }

  takeRequest(): RequestHead {
    const head = receivedRequest(this.method, this.target, this.minorVersion === 0 ? '1.0' : '1.1', this.#headers!)
    this.#headers = null
    return head
  }

  takeResponse(): ResponseHead {
    const head = receivedResponse(this.status, this.reason, this.minorVersion === 0 ? '1.0' : '1.1', this.#headers!)
    this.#headers = null
    return head
  }

  takeTrailers(): HeaderMap {
    const headers = this.#headers!
    this.#headers = null
    return headers
  }

  #headers: HeaderMap | null = null

  /** Cuts the strings out of a complete head that starts at `base`. */
  #take(bytes: Buffer, base: number): void {
    const text = bytes.latin1Slice(base, base + this.#at)
    if (this.#role === 'request') {
      const start = this.#startLine
      this.method = this.#methodEnd - start === 3 && text.startsWith('GET', start) ? 'GET' : text.substring(start, this.#methodEnd)
      this.target = text.substring(this.#targetStart, this.#targetEnd)
    } else if (this.#role === 'response') {
      this.reason = this.#reasonStart === -1 ? '' : text.substring(this.#reasonStart, this.#reasonEnd)
    }
    const spans = this.#spans, length = this.#fields * 6
    let mask = 0
    for (let at = 0; at < length; at += 6) {
      const kind = fieldKind(text, spans[at]!, spans[at + 1]!)
      spans[at + 5] = kind
      mask |= 1 << kind
    }
    this.#headers = receivedFields(text, spans.slice(0, length), mask)
  }

  #run(bytes: Buffer, base: number, end: number): number {
    const limits = this.#limits
    let i = base + this.#at
    let state = this.#state
    while (i < end) {
      switch (state) {
        case State.Start: {
          if (bytes[i] === CR && this.#emptyLines === 0) {
            this.#emptyLines = 1
            i++
            state = State.StartLf
            break
          }
          this.#startLine = i - base
          state = State.Method
          break
        }
        case State.StartLf:
          if (bytes[i] !== LF) return this.#fail(HeadFault.BareLineBreak, i - base)
          i++
          state = State.Start
          break
        case State.Method: {
          while (i < end && TOKEN_CHAR[bytes[i]!] === 1) i++
          const length = i - base - this.#startLine
          if (length > limits.maxMethodBytes) return this.#fail(HeadFault.MethodTooLong, i - base)
          if (i === end) break
          if (bytes[i] !== SP || length === 0) return this.#fail(startLineFault(bytes[i]!), i - base)
          this.#methodEnd = i - base
          i++
          this.#targetStart = i - base
          state = State.Target
          break
        }
        case State.Target: {
          let byte = 0, previous = i > base + this.#targetStart ? bytes[i - 1]! : 0
          while (i < end && (byte = bytes[i]!) > SP && byte < 0x7f) {
            if (isUnusual(byte, previous)) this.targetUnusual = true
            previous = byte
            i++
          }
          const length = i - base - this.#targetStart
          if (length > limits.maxUriBytes) return this.#fail(HeadFault.UriTooLong, i - base)
          if (i === end) break
          if (byte !== SP || length === 0) return this.#fail(startLineFault(byte), i - base)
          this.#targetEnd = i - base
          i++
          state = State.Version
          this.#lineStart = i - base
          break
        }
        case State.Version: {
          if (i - base === this.#lineStart && i + 10 <= end && isVersion11(bytes, i) && bytes[i + 8] === CR && bytes[i + 9] === LF) {
            this.#major = this.minorVersion = 1
            i += 10
            this.#lineStart = i - base
            state = State.Line
            break
          }
          const offset = i - base - this.#lineStart, byte = bytes[i]!
          if (offset < 8) {
            if (!this.#versionByte(offset, byte)) return this.#fail(startLineFault(byte), i - base)
          } else if (offset === 8) {
            if (byte !== CR) return this.#fail(startLineFault(byte), i - base)
          } else {
            if (byte !== LF) return this.#fail(HeadFault.BareLineBreak, i - base)
            if (this.#major !== 1 || this.minorVersion > 1) return this.#fail(HeadFault.BadVersion, i - base)
            state = State.Line
            this.#lineStart = i + 1 - base
          }
          i++
          break
        }
        case State.StatusVersion: {
          if (i === base && i + 9 <= end && isVersion11(bytes, i) && bytes[i + 8] === SP) {
            this.#major = this.minorVersion = 1
            i += 9
            this.#statusAt = i - base
            this.status = 0
            state = State.StatusCode
            break
          }
          const offset = i - base, byte = bytes[i]!
          if (offset < 8) {
            if (!this.#versionByte(offset, byte)) return this.#fail(HeadFault.BadStartLine, i - base)
          } else {
            if (byte !== SP) return this.#fail(HeadFault.BadStartLine, i - base)
            if (this.#major !== 1 || this.minorVersion > 1) return this.#fail(HeadFault.BadVersion, i - base)
            state = State.StatusCode
            this.#statusAt = i + 1 - base
            this.status = 0
          }
          i++
          break
        }
        case State.StatusCode: {
          const offset = i - base - this.#statusAt, byte = bytes[i]!
          if (offset < 3) {
            if (byte < 0x30 || byte > 0x39) return this.#fail(HeadFault.BadStartLine, i - base)
            this.status = this.status * 10 + byte - 0x30
          } else {
            if (this.status < 100) return this.#fail(HeadFault.BadStartLine, i - base)
            if (byte === CR) {
              // The blank before an absent reason is often forgotten; nothing can be misread.
              this.#reasonStart = -1
              state = State.ReasonLf
            } else if (byte === SP) {
              this.#reasonStart = i + 1 - base
              state = State.Reason
            } else return this.#fail(startLineFault(byte), i - base)
          }
          i++
          break
        }
        case State.Reason:
          while (i < end && VALUE_CHAR[bytes[i]!] === 1) i++
          if (i === end) break
          if (bytes[i] !== CR) return this.#fail(startLineFault(bytes[i]!), i - base)
          this.#reasonEnd = i - base
          i++
          state = State.ReasonLf
          break
        case State.ReasonLf:
          if (bytes[i] !== LF) return this.#fail(HeadFault.BareLineBreak, i - base)
          i++
          this.#lineStart = i - base
          state = State.Line
          break
        case State.Line: {
          const byte = bytes[i]!
          if (byte === CR) {
            i++
            state = State.EndLf
            break
          }
          if (byte === SP || byte === HT) return this.#fail(this.#fields === 0 ? HeadFault.BadField : HeadFault.ObsFold, i - base)
          if (byte === LF) return this.#fail(HeadFault.BareLineBreak, i - base)
          if (this.#fields === limits.maxHeaderCount) return this.#fail(HeadFault.TooManyFields, i - base)
          state = State.Name
        }
        // falls through
        case State.Name: {
          let byte = 0
          while (i < end && TOKEN_CHAR[byte = bytes[i]!] === 1) {
            if (byte === 0x5f) this.underscored = true
            i++
          }
          if (i === end) break
          if (byte !== COLON || i - base === this.#lineStart) {
            return this.#fail(byte === LF || byte === CR ? HeadFault.BareLineBreak : HeadFault.BadField, i - base)
          }
          this.#nameEnd = i - base
          i++
          state = State.Blank
        }
        // falls through
        case State.Blank:
          while (i < end && (bytes[i] === SP || bytes[i] === HT)) i++
          if (i === end) break
          this.#valueStart = i - base
          state = State.Value
        // falls through
        case State.Value:
          while (i < end && VALUE_CHAR[bytes[i]!] === 1) i++
          if (i === end) break
          if (bytes[i] !== CR) return this.#fail(bytes[i] === LF ? HeadFault.BareLineBreak : HeadFault.BadField, i - base)
          i++
          state = State.ValueLf
          if (i === end) break
        // falls through
        case State.ValueLf: {
          if (bytes[i] !== LF) return this.#fail(HeadFault.BareLineBreak, i - base)
          let valueEnd = i - 1
          const valueStart = base + this.#valueStart
          while (valueEnd > valueStart && (bytes[valueEnd - 1] === SP || bytes[valueEnd - 1] === HT)) valueEnd--
          i++
          const lineEnd = i - base
          if (lineEnd - this.#lineStart > limits.maxHeaderLineBytes) return this.#fail(HeadFault.LineTooLong, lineEnd)
          const spans = this.#spans, at = this.#fields * 6
          spans[at] = this.#lineStart
          spans[at + 1] = this.#nameEnd
          spans[at + 2] = this.#valueStart
          spans[at + 3] = valueEnd - base
          spans[at + 4] = lineEnd
          spans[at + 5] = 0
          this.#fields++
          this.#lineStart = lineEnd
          state = State.Line
          break
        }
        case State.EndLf:
          if (bytes[i] !== LF) return this.#fail(HeadFault.BareLineBreak, i - base)
          this.#at = i + 1 - base
          if (this.#at > limits.maxHeadBytes) return HeadFault.HeadTooLarge
          return Parsed.Done
        default:
          return HeadFault.BadStartLine
      }
    }
    this.#state = state
    this.#at = i - base
    const inField = state >= State.Name && state <= State.ValueLf
    if (inField && this.#at - this.#lineStart > limits.maxHeaderLineBytes) return HeadFault.LineTooLong
    if (this.#at > limits.maxHeadBytes) return HeadFault.HeadTooLarge
    return Parsed.More
  }

  /** HTTP-version = "HTTP/" DIGIT "." DIGIT, at `offset`. */
  #versionByte(offset: number, byte: number): boolean {
    if (offset < 5) return byte === HTTP_SLASH[offset]
    if (offset === 6) return byte === DOT
    if (byte < 0x30 || byte > 0x39) return false
    if (offset === 5) this.#major = byte - 0x30
    else this.minorVersion = byte - 0x30
    return true
  }

  #fail(fault: number, at: number): number {
    this.#at = at
    return fault
  }
}

/** Whether `HTTP/1.1` stands there: it nearly always does, and whole. */
function isVersion11(bytes: Buffer, at: number): boolean {
  return bytes[at] === 0x48 && bytes[at + 1] === 0x54 && bytes[at + 2] === 0x54 && bytes[at + 3] === 0x50 && bytes[at + 4] === 0x2f &&
    bytes[at + 5] === 0x31 && bytes[at + 6] === DOT && bytes[at + 7] === 0x31
}

/** What a byte that must not stand in a start line is. */
function startLineFault(byte: number): number { return byte === LF ? HeadFault.BareLineBreak : HeadFault.BadStartLine }
