/**
 * One upstream HTTP/1.1 connection, and the exchange that it carries at the moment (RFC 9112): connection and session are
 * one object, since there is never more than one exchange at a time.
 *
 *   Parked ──unpark()──▶ Ready ──begin()──▶ Busy ──both messages ended──▶ Ready ──park()──▶ Parked
 *     │ closed, unasked    │ close()          │ fault, abort(), close()
 *     ▼ bytes, idle time   ▼                  ▼
 *   Closed ◀───────────────┴──────────────────┘                     Busy ──101, detach()──▶ Detached
 *
 * A new connection starts as Ready. The capacity is 1 while it is Ready and nothing rules out another exchange, else 0.
 *
 * Limits come with each exchange. The parser for the limits of the last one is kept, so that an exchange with the same
 * limits looks nothing up.
 *
 * Heads of responses get the care that requests get (parser.ts, framing.ts); whatever is wrong with them becomes a fault
 * of the upstream, never bytes for the client. Does not retry and does not dial.
 * One idea in more than 500 lines: each event is answered by the state, and all states are read side by side.
 */
import { codeOf } from '../../errors/local-faults.ts'
import { ProxyError, type ErrorKind, type RetryRule } from '../../errors/proxy-error.ts'
import { isAuthority } from '../../http/authority.ts'
import { FieldKind, type HeaderMap } from '../../http/header-map.ts'
import { HOP_BY_HOP_REQUEST } from '../../http/hop-by-hop.ts'
import type { RequestHead, ResponseHead } from '../../http/message-head.ts'
import type { Ticker, Timed } from '../../primitives/clock.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import { writeRun, type ByteStream, type StreamDigest, type StreamOwner } from '../byte-stream.ts'
import type { ConnectionKeeper, ExchangeLimits, ParkedLoss, UpstreamConnection } from '../http-connection.ts'
import type { OriginTimes } from '../http-options.ts'
import {
  BODY_TUNNEL, BODY_UNKNOWN, type DetachedStream, type RequestSetup, type UpstreamOwner, type UpstreamSession,
} from '../http-session.ts'
import { Owed, headLateness, lateness } from '../response-watch.ts'
import { SendProgress } from '../send-progress.ts'
import { certificateFault } from '../tls/handshake-faults.ts'
import { checkUpgradeRequest, checkUpgradeResponse } from '../websocket/handshake.ts'
import { BODY_FAULTS, BodyFault, BodyReader, writeChunk, writeLastChunk, type BodyLimits } from './body.ts'
import { Framing, responseFraming } from './framing.ts'
import { HTTP1_CLIENT_DEFAULTS, HTTP1_SERVER_DEFAULTS } from './http1-options.ts'
import { HEAD_FAULTS, ParserSlot, Parsed, limitOfResponse, type HeadParser } from './parser.ts'

const State = { Parked: 0, Busy: 1, Ready: 2, Detached: 3, Closed: 4 } as const
type State = (typeof State)[keyof typeof State]

const NEVER = Number.POSITIVE_INFINITY

/** Over which interim heads are counted, in ms. */
const INTERIM_WINDOW_MS = 10_000

const LENGTH_FIELDS = (1 << FieldKind.ContentLength) | (1 << FieldKind.TransferEncoding)

const slots = new WeakMap<ExchangeLimits, ParserSlot>()
function slotOf(limits: ExchangeLimits): ParserSlot {
  let slot = slots.get(limits)
  if (slot === undefined) {
    slot = new ParserSlot('response', {
      maxHeadBytes: limits.maxResponseHeadBytes,
      maxHeaderCount: limits.maxResponseHeaderCount,
      maxHeaderLineBytes: limits.maxResponseHeadBytes,
      maxMethodBytes: 0,
      maxUriBytes: 0,
    })
    slots.set(limits, slot)
  }
  return slot
}

/** Until the first exchange brings its own. */
const DEFAULT_LIMITS: ExchangeLimits = HTTP1_CLIENT_DEFAULTS
const DEFAULT_SLOT = slotOf(DEFAULT_LIMITS)

/** What the fields of the head just parsed mean; read at once, so that one serves all. */
const framing = new Framing()

/** Chunk and trailer limits of the client's side hold for origins too. */
const BODY_LIMITS: BodyLimits = HTTP1_SERVER_DEFAULTS

/** From here on a receive buffer of its own pays: copying the first piece of the next such body would cost more than its memory. */
const LARGE_BODY_BYTES = 16_384

const NOBODY: UpstreamOwner = {
  onInterim() {}, onResponseHead() {}, onResponseBody() {}, onResponseEnd() {}, onUpstreamDrained() {}, onUpstreamFault() {},
}

export class Http1ClientSession implements UpstreamConnection, UpstreamSession, StreamOwner, Timed {
  tickIndex = -1
  poolNewer: UpstreamConnection | null = null
  poolOlder: UpstreamConnection | null = null
  poolKeyNewer: UpstreamConnection | null = null
  poolKeyOlder: UpstreamConnection | null = null
  poolLent = 0
  poolParked = 0
  poolSince = 0
  poolAge = 1
  poolRetired = false
  reuseKey = ''
  keeper: ConnectionKeeper | null = null
  readonly stream: ByteStream
  readonly #ticker: Ticker
  #limits: ExchangeLimits = DEFAULT_LIMITS
  times: OriginTimes = DEFAULT_LIMITS
  /** Parser for heads within #limits. */
  #slot: ParserSlot = DEFAULT_SLOT
  /** Only while a head came in part. */
  #parser: HeadParser | null = null
  /** What `heldBytes` has of it. */
  #headCounted = 0
  readonly #body = new BodyReader(BODY_LIMITS, true)
  readonly #progress: SendProgress

  #state: State = State.Ready
  #owner: UpstreamOwner = NOBODY
  exchanges = 0
  bodyBytesOut = 0
  responseStarted = false
  originIdleMs = 0

  #method = ''
  #chunked = false
  #unsent = 0
  /** Both true as well before the first exchange: no message is under way. */
  #requestEnded = true
  #responseEnded = true
  #headSeen = false
  /** Fields of the request that asked to switch protocols; null: it did not. */
  #asked: HeaderMap | null = null
  /** What it asked for. */
  #offered = ''
  /** Heads and bytes of 1xx since then. */
  #interims = 0
  #interimBytes = 0
  #interimsSince = 0
  /** When the first byte of a head came that is not whole yet. */
  #headSince = NEVER
  /** The connection can carry another exchange, as far as is known. */
  #persistent = true
  #ended = false
  /** Last byte in, end of the request, or the end of a pause: the origin's silence counts from here. */
  #silentSince = 0
  #paused = false
  #idleUntil = NEVER
  /** What came behind a 101. */
  #early: Buffer | null = null

  constructor(stream: ByteStream, ticker: Ticker) {
    this.stream = stream
    this.#ticker = ticker
    this.#progress = new SendProgress(stream, ticker.clock.now())
    stream.owner = this
    ticker.add(this)
  }

  get digest(): StreamDigest { return this.stream.digest }
  get bytesQueued(): number { return this.stream.bytesQueued }
  get bodyBytesIn(): number { return this.#body.bytes }

  get connection(): this { return this }
  get protocol(): string { return 'h1' }
  get shared(): boolean { return false }
  get active(): number { return this.#state === State.Busy ? 1 : 0 }
  /** An origin that answered without taking the whole request may never take the rest of it, nor what comes behind. */
  get capacity(): number {
    return this.#state === State.Ready && this.#persistent && this.#requestEnded && this.#responseEnded
      && !this.#ended && !this.stream.destroyed && this.stream.bytesQueued === 0 ? 1 : 0
  }

  // ---- the request

  begin(owner: UpstreamOwner, limits: ExchangeLimits): this {
    if (limits !== this.#limits) {
      this.#limits = limits
      this.#slot = slotOf(limits)
    }
    this.times = limits
    this.#state = State.Busy
    this.#owner = owner
    this.exchanges++
    this.bodyBytesOut = 0
    this.responseStarted = false
    this.#requestEnded = this.#responseEnded = this.#headSeen = this.#paused = false
    this.#interimsSince = Number.NEGATIVE_INFINITY
    this.#headSince = NEVER
    this.#method = ''
    this.#body.begin(0)
    this.#silentSince = this.#ticker.clock.now()
    this.#forgetHead()
    return this
  }

  writeHead(head: RequestHead, setup: RequestSetup): void {
    const { headers, method } = head, { length } = setup
    this.#method = method
    this.#chunked = length === BODY_UNKNOWN
    this.#unsent = length > 0 ? length : 0
    let skip = HOP_BY_HOP_REQUEST, own = ''
    if (this.#chunked) {
      skip |= 1 << FieldKind.ContentLength
      own = 'Transfer-Encoding: chunked\r\n'
    } else if (headers.contentLength() !== length && (length > 0 || headers.hasKind(FieldKind.ContentLength))) {
      skip |= 1 << FieldKind.ContentLength
      own = `Content-Length: ${length}\r\n`
    }
    const { switchesTo } = setup, protocol = switchesTo !== '' && checkUpgradeRequest(headers, switchesTo) === null ? switchesTo : ''
    this.#asked = protocol === '' ? null : headers
    this.#offered = protocol
    if (protocol !== '') own += `Connection: upgrade\r\nUpgrade: ${protocol}\r\n`
    else if (setup.acceptsTrailers) own += 'TE: trailers\r\nConnection: TE\r\n'
    // HTTP/1.0 allows a request without Host; what is sent on is HTTP/1.1, which does not.
    if (!headers.hasKind(FieldKind.Host)) {
      // A peer of the application's own making may have any name.
      if (!isAuthority(setup.defaultAuthority)) throw new TypeError(`the peer's name ${JSON.stringify(setup.defaultAuthority)} is no host`)
      own += `Host: ${setup.defaultAuthority}\r\n`
    }
    this.stream.writeText(`${method} ${head.target} HTTP/1.1\r\n` + headers.serialize(skip, null) + setup.lines.text + own + '\r\n')
  }

  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (this.#state !== State.Busy || from === to) return
    this.bodyBytesOut += to - from
    if (this.#chunked) {
      writeChunk(this.stream, buffer, from, to, owned)
      return
    }
    this.#unsent -= to - from
    if (this.#unsent < 0) this.#fail('LENGTH_MISMATCH', 'a filter made the request body longer than its declared length')
    else writeRun(this.stream, buffer, from, to, owned)
  }

  endRequest(trailers: HeaderMap | null): void {
    if (this.#state !== State.Busy || this.#requestEnded) return
    if (this.#chunked) writeLastChunk(this.stream, trailers)
    else if (this.#unsent > 0) {
      this.#fail('LENGTH_MISMATCH', 'a filter made the request body shorter than its declared length')
      return
    }
    this.#requestEnded = true
    this.#silentSince = this.#ticker.clock.now()
    this.#settle()
  }

  // ---- the response

  onBytes(buffer: Buffer, from: number, to: number): void {
    if (this.#state === State.Parked) {
      this.#lost('unexpected-bytes')
      return
    }
    if (this.#state !== State.Busy) {
      // Bytes behind a whole response belong to no request.
      this.#persistent = false
      return
    }
    if (this.#responseEnded) {
      // The same, while the request is still being sent: the rest of them would be the next exchange's answer.
      this.#persistent = false
      return
    }
    if (this.#method === '') {
      // While a hook waited: an answer to a request that was not sent yet is the answer to another one.
      this.#fail('UNEXPECTED_BYTES', 'the origin spoke before it was asked', 'bad-framing', 'always')
      return
    }
    this.#silentSince = this.#ticker.clock.now()
    this.responseStarted = true
    while (!this.#headSeen) {
      const parser = this.#parser ?? this.#slot.parser
      const result = parser.parse(buffer, from, to)
      if (result === Parsed.More) {
        this.#parser ??= this.#slot.surrender()
        if (this.#headSince === NEVER) this.#headSince = this.#silentSince
        this.#countHead()
        return
      }
      this.#forgetHead()
      if (result !== Parsed.Done) {
        parser.reset()
        const { kind, limit, text } = HEAD_FAULTS[result]!
        this.#fail(kind, text, limitOfResponse(limit))
        return
      }
      from = parser.consumedTo
      if (!this.#takeHead(parser, buffer, from, to)) return
      if (from === to && !this.#headSeen) return
    }
    if (this.#body.open) {
      if (from < to) {
        const fault = this.#body.read(buffer, from, to)
        if (fault !== BodyFault.None) {
          this.#fail('BAD_FRAMING', BODY_FAULTS[fault]!.text, BODY_FAULTS[fault]!.limit)
          return
        }
        if (this.#body.dataTo > this.#body.dataFrom) {
          this.#owner.onResponseBody(buffer, this.#body.dataFrom, this.#body.dataTo, this.stream.receiveBuffer?.ownsBuffer ?? true)
          if (this.#state !== State.Busy) return
        }
        from = this.#body.consumedTo
      }
      if (this.#body.open) this.stream.receiveBuffer?.useOwnBuffer()
    }
    if (!this.#body.open && !this.#responseEnded) {
      const large = this.#body.bytes >= LARGE_BODY_BYTES
      this.#endResponse(from < to)
      // Not before the owner has said whether it still needs the bytes: a buffer that is given back goes to the next stream.
      // A connection that brings large bodies will bring more of them: then not even their first piece is copied.
      if (large) this.stream.receiveBuffer?.useOwnBuffer()
      else this.stream.receiveBuffer?.useSharedBuffer()
    }
  }

  /** False when the session is over, or waits for the next head. */
  #takeHead(parser: HeadParser, buffer: Buffer, from: number, to: number): boolean {
    const head = parser.takeResponse(), status = head.status, headBytes = parser.headBytes
    parser.reset()
    this.#headSince = NEVER
    const fault = responseFraming(head.headers, status, parser.minorVersion, this.#method, framing)
    if (fault !== null) {
      this.#fail('BAD_FRAMING', fault, 'bad-framing')
      return false
    }
    if (framing.connectionNames !== null) head.headers.deleteAll(framing.connectionNames)
    if (framing.voidLength) {
      head.headers.deleteKinds(LENGTH_FIELDS)
      this.#persistent = false
    }
    if (status === 101 || (this.#method === 'CONNECT' && status >= 200 && status < 300)) {
      this.#takeTunnelHead(head, buffer, from, to)
      return false
    }
    if (status < 200) {
      if (this.#flooded(headBytes)) return false
      this.#owner.onInterim(head)
      return this.#state === State.Busy
    }
    this.#headSeen = true
    if (!framing.persistent) this.#persistent = false
    // A second for the way: the origin's clock starts earlier than ours.
    this.originIdleMs = framing.keepAliveMs === 0 ? 0 : Math.max(1, framing.keepAliveMs - 1000)
    const length = framing.bodyLength
    this.#body.begin(length)
    this.#owner.onResponseHead(head, length)
    return this.#state === State.Busy
  }

  /** Interim heads come faster than anybody could mean them; counted anew every so often, so that a long wait may have many. */
  #flooded(headBytes: number): boolean {
    const { maxInterimResponses, maxInterimBytes } = this.#limits, now = this.#ticker.clock.now()
    if (now - this.#interimsSince >= INTERIM_WINDOW_MS) {
      this.#interimsSince = now
      this.#interims = this.#interimBytes = 0
    }
    this.#interims++
    this.#interimBytes += headBytes
    const within = `within ${INTERIM_WINDOW_MS} ms`
    if (this.#interims > maxInterimResponses) {
      this.#fail('TOO_MANY_INTERIM', `more than ${maxInterimResponses} interim responses ${within}`, 'interim-responses')
    } else if (this.#interimBytes > maxInterimBytes) {
      this.#fail('TOO_MANY_INTERIM', `more than ${maxInterimBytes} bytes of interim responses ${within}`, 'interim-bytes')
    } else return false
    return true
  }

  /** The origin switches protocols, or opened the tunnel that CONNECT asked for (RFC 9110 7.8, 9.3.6). */
  #takeTunnelHead(head: ResponseHead, buffer: Buffer, from: number, to: number): void {
    if (head.status === 101) {
      const asked = this.#asked
      const fault = asked === null || !framing.upgrade ? '101 to a request that asked for no upgrade, or without its fields'
        : checkUpgradeResponse(asked, this.#offered, head.headers)
      if (fault !== null) {
        this.#fail('BAD_UPGRADE', fault, 'bad-framing')
        return
      }
    }
    this.#headSeen = true
    this.#persistent = false
    this.#early = from < to ? Buffer.from(buffer.subarray(from, to)) : null
    this.stream.pause()
    this.#owner.onResponseHead(head, BODY_TUNNEL)
  }

  #endResponse(more: boolean): void {
    this.#responseEnded = true
    if (more) this.#persistent = false
    const owner = this.#owner
    this.#settle()
    owner.onResponseEnd(this.#body.trailers)
  }

  /** Both messages ended: nothing more is told to the owner. */
  #settle(): void {
    if (this.#state !== State.Busy || !this.#requestEnded || !this.#responseEnded) return
    this.#state = State.Ready
    this.#owner = NOBODY
  }

  onEnd(): void {
    this.#ended = true
    this.#persistent = false
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state === State.Busy && !this.#responseEnded) {
      if (this.#headSeen && this.#body.finish()) this.#endResponse(false)
      else this.#closedEarly(null)
    }
  }

  onDrained(): void {
    this.#progress.drained()
    this.#owner.onUpstreamDrained()
  }

  onClosed(error: Error | null): void {
    this.#ticker.remove(this)
    this.#forgetHead()
    if (this.#state === State.Detached) return
    if (this.#state === State.Parked) this.#lost('closed')
    else if (this.#state === State.Busy && !this.#responseEnded) this.#closedEarly(error)
    else if (this.#state === State.Busy) {
      const owner = this.#owner
      this.#state = State.Closed
      this.#owner = NOBODY
      const text = 'the origin closed before it had the whole request'
      owner.onUpstreamFault(new ProxyError('CONNECTION_RESET', 'upstream', text, { cause: error ?? undefined }))
    } else this.#state = State.Closed
  }

  #closedEarly(error: Error | null): void {
    const what = this.#headSeen ? 'within the response' : this.responseStarted ? 'within the response head' : 'before the response'
    const code = codeOf(error)
    // In TLS 1.3 an origin says so only behind the handshake, and has read nothing of the request then.
    const certificate = this.responseStarted || this.exchanges > 1 ? null : certificateFault(code)
    if (certificate !== null) {
      this.#fail(certificate.kind, `the origin: ${certificate.text}`, '', 'always', error)
      return
    }
    // An end that nobody has vouched for is no reset.
    const reset = error !== null && code !== 'ERR_TLS_CUT'
    // Before a byte of the request was sent there is nothing that could happen twice.
    const retry = this.#method === '' ? 'always' : this.exchanges > 1 && !this.responseStarted ? 'if-reused' : 'never'
    const kind = reset ? 'CONNECTION_RESET' : 'CLOSED_EARLY'
    this.#fail(kind, `the origin closed the connection ${what}`, '', retry, error)
  }

  #fail(kind: ErrorKind, context: string, limit = '', retry: RetryRule = 'never', cause: Error | null = null): void {
    this.#fault(new ProxyError(kind, 'upstream', context, { retry, limit, cause: cause ?? undefined }))
  }

  #fault(error: ProxyError): void {
    const owner = this.#owner
    this.#destroy()
    owner.onUpstreamFault(error)
  }

  #countHead(): void {
    const bytes = this.#parser === null ? 0 : this.#parser.heldBytes
    heldBytes.now += bytes - this.#headCounted
    this.#headCounted = bytes
  }

  #forgetHead(): void {
    if (this.#parser === null) return
    this.#parser = null
    this.#countHead()
  }

  pauseResponse(): void {
    if (this.#state !== State.Busy) return
    this.#paused = true
    this.stream.pause()
  }

  resumeResponse(): void {
    if (this.#state !== State.Busy || !this.#paused) return
    this.#paused = false
    this.#silentSince = this.#ticker.clock.now()
    if (this.#headSince !== NEVER) this.#headSince = this.#silentSince
    this.stream.resume()
  }

  giveUpBuffer(): boolean { return this.stream.receiveBuffer?.giveUpBuffer() ?? true }

  detach(): DetachedStream {
    this.#state = State.Detached
    this.#owner = NOBODY
    this.#ticker.remove(this)
    const early = this.#early
    this.#early = null
    return { stream: this.stream, early, ended: this.#ended }
  }

  abort(): void {
    if (this.#state === State.Busy) this.#destroy()
  }

  close(): void {
    if (this.#state === State.Closed || this.#state === State.Detached) return
    if (this.#state === State.Busy) this.#fail('CLOSED_EARLY', 'the proxy closed the connection within the exchange')
    else this.#destroy()
  }

  #destroy(): void {
    this.#state = State.Closed
    this.#owner = NOBODY
    // Within an exchange with RST: what was sent of the request must not pass for a whole one.
    this.stream.destroy(!this.#requestEnded)
  }

  // ---- idle

  park(keeper: ConnectionKeeper, idleTimeoutMs: number): void {
    this.#state = State.Parked
    this.keeper = keeper
    this.#idleUntil = this.#ticker.clock.now() + idleTimeoutMs
    if (this.#paused) {
      this.#paused = false
      this.stream.resume()
    }
  }

  unpark(): boolean {
    if (this.#state !== State.Parked) return false
    this.#state = State.Ready
    return !this.stream.destroyed
  }

  #lost(reason: ParkedLoss): void {
    this.#destroy()
    this.keeper?.onParkedLost(this, reason)
  }

  // ---- time

  onTick(now: number): void {
    if (this.#state === State.Parked) {
      if (now >= this.#idleUntil) this.#lost('idle')
      return
    }
    if (this.#state !== State.Busy) return
    const late = (this.#paused ? null : headLateness(this.times, now, this.#headSince))
      ?? lateness(this.#owed(), this.times, now, this.#silentSince, this.#progress)
    if (late !== null) this.#fault(late)
  }

  #owed(): Owed {
    if (this.stream.bytesQueued > 0) return Owed.Room
    if (this.#paused || this.#responseEnded) return Owed.Nothing
    if (this.#headSeen) return Owed.Rest
    return this.#requestEnded ? Owed.FirstByte : Owed.Nothing
  }
}
