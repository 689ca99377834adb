/**
 * One downstream HTTP/1 connection, and the request that it carries at the moment (RFC 9112).
 *
 *            bytes          head complete            release()
 *   Idle ────────▶ Head ────────────────▶ Exchange ────────────▶ Idle        (persistent, request read to its end)
 *     │ keep-alive   │ bad head: refused     │                 ├▶ Discard     (the rest of its body is small: thrown away, then Idle)
 *     │ ran out      ▼                       │ detach()        ├▶ Linger ──▶ Closed   (FIN, read and throw away, close)
 *     └───────────▶ Linger                   ▼                 └▶ Closed     (cut)
 *                                          Detached
 *
 * One object for the life of the connection. Requests are served one at a time and in order; of what a client sends
 * ahead (RFC 9112 9.3.2) one read is kept and the connection paused. Heads are parsed by parser.ts, understood by
 * framing.ts, bodies read by body.ts, framed by response-head.ts; limits of a request are request-watch.ts. Does not
 * choose statuses for anything but heads (proxy/fail-to-proxy.ts does).
 * Invariants: what is sent ahead is copied once, however many requests it holds, and served in place from there on; and
 * other connections have their turn after every TURN_REQUESTS of them, however soon each is answered.
 * One idea in more than 500 lines: each event is answered by the state, and all states are read side by side.
 */
import { ProxyError, type ErrorKind } from '../../errors/proxy-error.ts'
import type { FieldLines } from '../../http/field-lines.ts'
import { FieldKind, type HeaderMap } from '../../http/header-map.ts'
import { HOP_BY_HOP } from '../../http/hop-by-hop.ts'
import { REASONS, RequestHead, type ResponseHead } from '../../http/message-head.ts'
import type { Ticker, Timed } from '../../primitives/clock.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import { BUFFER_RESERVE, copyWithReserve, writeRun, type ByteStream, type StreamDigest, type StreamOwner } from '../byte-stream.ts'
import type { AcceptingListener, ConnectionHost, DownstreamConnection } from '../http-connection.ts'
import type { HalfClose, RequestLimits } from '../http-options.ts'
import { BODY_TUNNEL, type DetachedStream, type DownstreamOwner, type DownstreamSession } from '../http-session.ts'
import { grewTooLarge, RequestWatch, tookTooLong } from '../request-watch.ts'
import { SendProgress } from '../send-progress.ts'
import { BODY_FAULTS, BodyFault, BodyReader, writeChunk, writeLastChunk } from './body.ts'
import { httpDate } from './date.ts'
import { Framing, requestFraming } from './framing.ts'
import type { ResolvedHttp1ServerOptions } from './http1-options.ts'
import { HEAD_FAULTS, ParserSlot, Parsed, type HeadParser } from './parser.ts'
import { readTarget } from './request-target.ts'
import { frameResponse, ResponseFraming, statusLine } from './response-head.ts'

const State = { Idle: 0, Head: 1, Exchange: 2, Discard: 3, Linger: 4, Detached: 5, Closed: 6 } as const
type State = (typeof State)[keyof typeof State]

const NEVER = Number.POSITIVE_INFINITY

const slots = new WeakMap<ResolvedHttp1ServerOptions, ParserSlot>()
function slotOf(options: ResolvedHttp1ServerOptions): ParserSlot {
  let slot = slots.get(options)
  if (slot === undefined) slots.set(options, slot = new ParserSlot('request', options))
  return slot
}

/** What the fields of the head just parsed mean; read at once, so that one serves all. */
const framing = new Framing()

/** The same for the head being written. */
const answer = new ResponseFraming()

/** Sending is looked at this often while an exchange runs, in ms: it means following a chain of objects per connection. */
const SENDING_LOOK_MS = 500

/**
 * Requests that one connection may begin in a row out of bytes that are here already. Answers that need no I/O would
 * otherwise keep the event loop for all that a read holds, which may be 2,000 requests.
 */
const TURN_REQUESTS = 16

/** Connections that used up their turn; all go on with the next one. */
let yielded: Http1ServerSession[] = []
function nextTurn(): void {
  const sessions = yielded
  yielded = []
  for (const session of sessions) session.endYield()
}

/** Where bytes lie, and so who may go on using them. */
const Place = {
  /** Borrowed: other connections are read into the same buffer. */
  Shared: 0,
  /** In the stream's own buffer: ours until its next read. */
  Stream: 1,
  /** In a buffer made by #hold: ours for good. */
  Held: 2,
} as const
type Place = (typeof Place)[keyof typeof Place]

/** What a client of HTTP/2 begins with, as far as it looks like a request line (RFC 9113 3.4). */
const HTTP2_OPENING = Buffer.from('PRI * HTTP/2.0\r\n', 'latin1')

/** Makes what serves a connection whose client begins with HTTP/2. */
export type OpenHttp2 = (
  stream: ByteStream, listener: string, options: ResolvedHttp1ServerOptions, host: ConnectionHost, ticker: Ticker, acceptedAt: number,
) => DownstreamConnection & StreamOwner

/** Takes the place of a request that is over: what one says is a kilobyte, and connections wait by the thousand. */
const NO_REQUEST = RequestHead.build('GET', '/')

/** Takes the place of an exchange that was released. */
const NOBODY: DownstreamOwner = {
  onRequestBody() {}, onRequestEnd() {}, onDownstreamDrained() {}, onDownstreamHalfClosed() {}, onDownstreamFault() {},
}

export class Http1ServerSession implements DownstreamConnection, DownstreamSession, StreamOwner, Timed {
  tickIndex = -1
  bookNewer: DownstreamConnection | null = null
  bookOlder: DownstreamConnection | null = null
  listNewer: DownstreamConnection | null = null
  listOlder: DownstreamConnection | null = null
  inList: object | null = null
  readonly stream: ByteStream
  /** Name of the listener that accepted it, for logs. */
  readonly listener: string
  readonly #options: ResolvedHttp1ServerOptions
  readonly #host: ConnectionHost
  readonly #ticker: Ticker
  readonly #slot: ParserSlot
  /** Only while a head came in part. */
  #parser: HeadParser | null = null
  /** Only since a request had a body. */
  #body: BodyReader | null = null
  #watch: RequestWatch | null = null
  #bodyOpen = false
  readonly #progress: SendProgress
  readonly #acceptedAt: number
  /** Requests come by TLS: their scheme is https. */
  readonly #secure: boolean
  /** Null: HTTP/2 is not spoken, or the client has begun with something else. */
  #openHttp2: OpenHttp2 | null
  /** Bytes of HTTP2_OPENING that came. */
  #opening = 0
  /** Below 0: this connection drains. */
  #maxAgeMs: number

  #state: State = State.Idle
  #owner: DownstreamOwner = NOBODY
  facts: object | null = null
  acceptedBy: AcceptingListener | null = null
  countedAs = ''
  request!: RequestHead
  requestBodyLength = 0
  /** Requests whose head arrived on this connection. */
  requests = 0
  wantsSwitch = false
  acceptsTrailers = false
  targetUnusual = false
  halfClose: HalfClose
  #limits: RequestLimits
  awaitsContinue = false
  responseStarted = false
  bodyBytesOut = 0

  /** The owner wants body bytes. */
  #flowing = false
  /** Bytes that came before they were wanted, from #heldFrom to BUFFER_RESERVE before the end. Null while they are worked through. */
  #held: Buffer | null = null
  #heldFrom = 0
  /** What `heldBytes` has of these and of a part of a head. */
  #heldCounted = 0
  #consuming = false
  /** With so many requests the turn of this connection is over. */
  #turnEnd = 0
  /** What is held waits for the next turn. */
  #yielding = false
  /** The client sent its FIN. */
  #ended = false
  /** The client means to send another request. */
  #clientPersists = true
  /** When an exchange under way is looked at again. */
  #lookAt = 0
  /** No other request on this connection. */
  #final = false
  #responseEnded = false
  /** What the client asked with, whatever a filter made of it: how the answer is framed depends on that. */
  #method = ''
  #old = false
  #chunked = false
  /** Body bytes that the written head announced and that are still to be written; -1 when it announced none. */
  #unsent = -1
  #hasBody = true
  /** When the head of the request under way was complete. */
  #begunAt = 0
  /** When the current wait ends; what it is follows from the state. */
  #deadline = NEVER
  #lingerUntil = NEVER
  #discarded = 0

  /**
   * @param acceptedAt ms of the clock; the first head is due from then
   * @param openHttp2 takes over where the client begins with HTTP/2; null: nothing does
   */
  constructor(
    stream: ByteStream, listener: string, options: ResolvedHttp1ServerOptions, host: ConnectionHost, ticker: Ticker,
    acceptedAt: number = ticker.clock.now(), openHttp2: OpenHttp2 | null = null,
  ) {
    this.stream = stream
    this.listener = listener
    this.#options = options
    this.halfClose = options.halfClose
    this.#limits = options
    this.#host = host
    this.#ticker = ticker
    this.#slot = slotOf(options)
    this.#acceptedAt = acceptedAt
    this.#secure = stream.digest.tls !== null
    this.#progress = new SendProgress(stream, acceptedAt)
    this.#openHttp2 = openHttp2
    // A tenth of spread, so that connections opened together do not all come back together.
    this.#maxAgeMs = options.maxConnectionAgeMs === 0 ? NEVER : options.maxConnectionAgeMs * (0.9 + ticker.clock.random() * 0.2)
    this.#deadline = acceptedAt + options.headTimeoutMs
    ticker.add(this)
  }

  get connection(): this { return this }
  get protocol(): string { return 'h1' }
  get digest(): StreamDigest { return this.stream.digest }
  get requestEnded(): boolean { return !this.#bodyOpen }
  get bytesQueued(): number { return this.stream.bytesQueued }
  get bodyBytesIn(): number { return this.requestBodyLength === 0 ? 0 : this.#body!.bytes }
  /** Waiting for a request, none of it seen. */
  get idle(): boolean { return this.#state === State.Idle && this.#held === null && this.#opening === 0 }
  get active(): number { return this.#state === State.Exchange || this.#state === State.Detached ? 1 : 0 }
  get tunnels(): number { return this.#state === State.Detached ? 1 : 0 }

  // ---- bytes of the client

  onBytes(buffer: Buffer, from: number, to: number): void {
    this.#turnEnd = this.requests + TURN_REQUESTS
    if (this.#state === State.Idle) {
      this.acceptedBy?.onActive(this)
      if (this.#openHttp2 !== null && this.#readOpening(buffer, from, to)) return
    }
    this.#consume(buffer, from, to, this.stream.receiveBuffer?.ownsBuffer ?? true ? Place.Stream : Place.Shared)
  }

  /** Whether the client begins with HTTP/2, or may: then nothing else is to be done with these bytes. */
  #readOpening(buffer: Buffer, from: number, to: number): boolean {
    const before = this.#opening
    let at = from, opening = before
    while (at < to && opening < HTTP2_OPENING.length && buffer[at] === HTTP2_OPENING[opening]) {
      at++
      opening++
    }
    if (opening === HTTP2_OPENING.length) {
      this.#becomeHttp2(buffer, at, to)
      return true
    }
    if (at === to) {
      this.#opening = opening
      this.acceptedBy?.onUnfinished(this)
      return true
    }
    this.#openHttp2 = null
    this.#opening = 0
    // The method only begins in the same way.
    if (before > 0) this.#consume(Buffer.from(HTTP2_OPENING), 0, before, Place.Held)
    return this.#state === State.Linger
  }

  #becomeHttp2(buffer: Buffer, from: number, to: number): void {
    const { stream } = this, next = this.#openHttp2!(stream, this.listener, this.#options, this.#host, this.#ticker, this.#acceptedAt)
    this.#ticker.remove(this)
    this.#state = State.Closed
    next.facts = this.facts
    this.acceptedBy?.replace(this, next)
    stream.owner = next
    next.onBytes(HTTP2_OPENING, 0, HTTP2_OPENING.length)
    if (from < to) next.onBytes(buffer, from, to)
  }

  /** Works through [from, to), which lie there. */
  #consume(buffer: Buffer, from: number, to: number, place: Place): void {
    this.#consuming = true
    for (;;) {
      const state = this.#state
      if (state === State.Idle || state === State.Head) {
        if (from === to) break
        const now = this.#ticker.clock.now()
        if (state === State.Idle) {
          if (this.stream.bytesQueued > 0) {
            // Who does not take answers is given no more of them to queue.
            this.#hold(buffer, from, to, place)
            break
          }
          if (this.requests >= this.#turnEnd) {
            this.#hold(buffer, from, to, place)
            this.#yield()
            break
          }
          this.#state = State.Head
          // The first head is due from the moment of accepting; a later one from its first byte.
          if (this.requests > 0) this.#deadline = now + this.#options.headTimeoutMs
        }
        const parser = this.#parser ?? this.#slot.parser
        const result = parser.parse(buffer, from, to)
        if (result === Parsed.More) {
          this.#parser ??= this.#slot.surrender()
          this.#countHeld()
          break
        }
        from = parser.consumedTo
        this.#parser = null
        if (result !== Parsed.Done) {
          const { kind, status, limit, text } = HEAD_FAULTS[result]!
          parser.reset()
          this.#refuse(new ProxyError(kind, 'downstream', text, { status, limit }))
          break
        }
        if (!this.#beginExchange(parser)) break
      } else if (state === State.Exchange) {
        if (!this.#bodyOpen) {
          if (from < to) this.#hold(buffer, from, to, place)
          break
        }
        if (!this.#flowing) {
          if (from < to) this.#hold(buffer, from, to, place)
          else if (!this.#ended) this.stream.pause()
          break
        }
        if (from === to) {
          this.stream.receiveBuffer?.useOwnBuffer()
          break
        }
        from = this.#readBody(buffer, from, to, place !== Place.Shared)
      } else if (state === State.Discard) {
        if (from === to) break
        const body = this.#body!
        if (body.read(buffer, from, to) !== BodyFault.None || (this.#discarded += body.consumedTo - from) > this.#options.maxDiscardBytes) {
          this.#linger()
          break
        }
        from = body.consumedTo
        if (body.done) {
          this.#bodyOpen = false
          this.#toIdle()
        }
      } else {
        // By time, not by bytes: a client that writes all of its body before it reads must still find the answer.
        if (state === State.Linger) this.#deadline = this.#ticker.clock.now() + this.#options.lingerIdleMs
        break
      }
    }
    this.#consuming = false
    // Requests that came before the client's FIN are all served; then no other one can come.
    const state = this.#state
    if (state !== State.Idle && state !== State.Head) return
    if (this.#ended && this.#held === null) this.#close(false)
    else if (this.idle) this.acceptedBy?.onIdle(this)
    else if (state === State.Head) this.acceptedBy?.onUnfinished(this)
  }

  /** Keeps what the client sent ahead, and lets it wait. */
  #hold(buffer: Buffer, from: number, to: number, place: Place): void {
    this.stream.pause()
    if (place === Place.Held) {
      this.#held = buffer
      this.#heldFrom = from
    } else {
      this.#held = copyWithReserve(buffer, from, to)
      this.#heldFrom = BUFFER_RESERVE
    }
    this.#countHeld()
  }

  #yield(): void {
    this.#yielding = true
    if (yielded.push(this) === 1) setImmediate(nextTurn)
  }

  /** For nextTurn. */
  endYield(): void {
    this.#yielding = false
    this.#turnEnd = this.requests + TURN_REQUESTS
    if (this.#state === State.Idle) this.#goOn()
  }

  #countHeld(): void {
    const bytes = (this.#held === null ? 0 : this.#held.length) + (this.#parser === null ? 0 : this.#parser.heldBytes)
    heldBytes.now += bytes - this.#heldCounted
    this.#heldCounted = bytes
  }

  #readBody(buffer: Buffer, from: number, to: number, owned: boolean): number {
    const body = this.#body!
    this.#watch!.read(this.#ticker.clock.now())
    this.awaitsContinue = false
    const fault = body.read(buffer, from, to)
    if (body.done) this.#bodyOpen = false
    if (fault !== BodyFault.None) {
      const { kind, status, limit, text } = BODY_FAULTS[fault]!
      this.#fault(new ProxyError(kind, 'downstream', text, { status, limit }))
      return to
    }
    const excess = grewTooLarge(body.bytes, this.#limits)
    if (excess !== null) {
      this.#fault(excess)
      return to
    }
    const owner = this.#owner
    if (body.dataTo > body.dataFrom) {
      // The owner may overwrite what is right behind the data: that must not be the next request.
      const hasReserve = body.consumedTo === to || body.consumedTo - body.dataTo >= BUFFER_RESERVE
      if (owned && hasReserve) owner.onRequestBody(buffer, body.dataFrom, body.dataTo)
      else {
        const copy = copyWithReserve(buffer, body.dataFrom, body.dataTo)
        owner.onRequestBody(copy, BUFFER_RESERVE, copy.length - BUFFER_RESERVE)
      }
    }
    const consumedTo = body.consumedTo
    // The owner may have ended the exchange, or the connection, within the chunk.
    if (body.done && this.#owner === owner && this.#state === State.Exchange) {
      owner.onRequestEnd(body.trailers)
      if (consumedTo === to) this.stream.receiveBuffer?.useSharedBuffer()
    }
    return consumedTo
  }

  onEnd(): void {
    this.#ended = true
    switch (this.#state) {
      case State.Idle: case State.Discard: case State.Linger:
        this.#close(false)
        break
      case State.Head:
        this.#close(false)
        break
      case State.Exchange:
        // What came before the FIN is taken first.
        if (this.#held !== null) break
        this.#final = true
        if (this.#bodyOpen) this.#fault(new ProxyError('CLIENT_GONE', 'downstream', 'the request body ended early'))
        else if (this.halfClose === 'abort') this.#owner.onDownstreamHalfClosed()
        break
    }
  }

  onDrained(): void {
    this.#progress.drained()
    if (this.#state === State.Exchange) this.#owner.onDownstreamDrained()
    else if (this.#state === State.Idle && this.#held !== null) this.#goOn()
    else if (this.#state === State.Linger) {
      this.#startLingering()
      this.acceptedBy?.onUnfinished(this)
    }
  }

  onClosed(error: Error | null): void {
    const state = this.#state
    this.#ticker.remove(this)
    if (state === State.Closed || state === State.Detached) return
    this.#state = State.Closed
    this.#held = this.#parser = null
    this.#countHeld()
    if (state === State.Exchange) {
      const cause = error ?? undefined
      this.#owner.onDownstreamFault(new ProxyError('CLIENT_GONE', 'downstream', 'the client closed the connection', { cause }))
    }
    this.acceptedBy?.onClosed(this)
  }

  // ---- from head to exchange

  #refuse(error: ProxyError): void {
    this.requests++
    this.#host.onRefused(this, error)
    if (this.#state !== State.Head) return
    const status = error.status
    const fields = 'Content-Length: 0\r\nCache-Control: private, no-store\r\nConnection: close\r\n'
    this.stream.writeText(`HTTP/1.1 ${status} ${REASONS[status] ?? ''}\r\nDate: ${httpDate(this.#ticker.clock)}\r\n${fields}\r\n`)
    this.#linger()
  }

  /** False when the head was refused. */
  #beginExchange(parser: HeadParser): boolean {
    const head = this.request = parser.takeRequest()
    const fault = requestFraming(head.headers, parser.minorVersion, framing)
      ?? readTarget(head, parser, framing, this.#options.allowConnect)
    this.targetUnusual = parser.targetUnusual
    if (this.#secure) head.scheme = 'https'
    parser.reset()
    if (fault !== null) {
      const status = framing.faultStatus, kind = kindOfStatus(status)
      this.#refuse(new ProxyError(kind, 'downstream', fault, { status, limit: kind === 'BAD_FRAMING' ? 'bad-framing' : '' }))
      return false
    }
    const options = this.#options, now = this.#ticker.clock.now()
    this.requests++
    this.#state = State.Exchange
    // Its head came in parts, or the body before it was thrown away.
    if (this.inList !== null) {
      this.acceptedBy?.onActive(this)
      this.#countHeld()
    }
    this.#begunAt = now
    this.#limits = options
    this.#deadline = options.totalTimeoutMs === 0 ? NEVER : now + options.totalTimeoutMs
    this.requestBodyLength = framing.bodyLength
    this.halfClose = options.halfClose
    this.#bodyOpen = framing.bodyLength !== 0
    if (this.#bodyOpen) {
      (this.#body ??= new BodyReader(options)).begin(framing.bodyLength)
      ;(this.#watch ??= new RequestWatch()).begin(now)
    }
    this.#method = head.method
    this.#old = head.version === '1.0'
    this.wantsSwitch = framing.upgrade
    // Before any filter: a client must not be able to name, and so remove, what a filter adds (RFC 9110 7.6.1).
    if (framing.connectionNames !== null) head.headers.deleteAll(framing.connectionNames)
    this.acceptsTrailers = framing.teTrailers
    this.#clientPersists = framing.persistent
    this.#lookAt = now + Math.min(SENDING_LOOK_MS, options.sendTimeoutMs)
    this.awaitsContinue = framing.expectContinue && framing.bodyLength !== 0
    this.responseStarted = false
    this.bodyBytesOut = 0
    this.#responseEnded = false
    this.#flowing = false
    this.#chunked = false
    this.#unsent = -1
    this.#final = !framing.persistent || (options.maxRequestsPerConnection !== 0 && this.requests >= options.maxRequestsPerConnection) ||
      now - this.#acceptedAt > this.#maxAgeMs
    const owner = this.#host.onRequest(this)
    this.#owner = owner
    owner.begin()
    return true
  }

  #fault(error: ProxyError): void {
    this.#final = true
    this.#owner.onDownstreamFault(error)
  }

  get limits(): RequestLimits { return this.#limits }
  set limits(limits: RequestLimits) {
    const { totalTimeoutMs } = this.#limits
    this.#limits = limits
    if (this.#state !== State.Exchange) return
    // How slowly the client takes the answer is looked at with the next tick.
    this.#lookAt = 0
    if (limits.totalTimeoutMs === totalTimeoutMs) return
    this.#deadline = limits.totalTimeoutMs === 0 ? NEVER : this.#begunAt + limits.totalTimeoutMs
  }

  // ---- the request body, for the owner

  resumeRequest(): void {
    if (this.#state !== State.Exchange || this.#flowing) return
    this.#flowing = true
    this.#watch?.flows(this.#ticker.clock.now())
    // Within a call that brought bytes those behind them go on by themselves; only the stream may have been paused.
    if (this.#consuming) this.stream.resume()
    else this.#goOn()
  }

  pauseRequest(): void {
    if (this.#state !== State.Exchange) return
    if (this.#flowing) {
      this.#flowing = false
      this.#watch?.holds(this.#ticker.clock.now())
    }
    if (this.#bodyOpen && !this.#ended) this.stream.pause()
  }

  /** Takes up what was held back, then the stream. */
  #goOn(): void {
    const held = this.#held
    if (held !== null) {
      if (this.#state === State.Idle && (this.#yielding || this.stream.bytesQueued > 0)) return
      this.#held = null
      this.#consume(held, this.#heldFrom, held.length - BUFFER_RESERVE, Place.Held)
      if (this.#held !== null) return
      this.#countHeld()
      if (this.#state === State.Closed) return
    }
    if (this.#state === State.Exchange && this.#bodyOpen && !this.#flowing) return
    this.stream.resume()
    if (this.#ended) this.onEnd()
  }

  giveUpBuffer(): boolean { return this.stream.receiveBuffer?.giveUpBuffer() ?? true }

  sendContinue(): void {
    if (!this.awaitsContinue || this.responseStarted) return
    this.awaitsContinue = false
    this.stream.writeText('HTTP/1.1 100 Continue\r\n\r\n')
  }

  // ---- the response, for the owner

  writeInterim(head: ResponseHead): void {
    if (this.#old || this.responseStarted || this.#state !== State.Exchange) return
    if (head.status === 100) {
      // Only a client that asked understands it for sure; one that was told already is not told again.
      this.sendContinue()
      return
    }
    const skip = HOP_BY_HOP | (1 << FieldKind.ContentLength)
    this.stream.writeText(statusLine(head) + head.headers.serialize(skip, null) + '\r\n')
  }

  writeHead(head: ResponseHead, length: number, lines: FieldLines): void {
    if (this.responseStarted || this.#state !== State.Exchange) return
    this.responseStarted = true
    const opened = this.#method === 'CONNECT' && head.status < 300
    if (length === BODY_TUNNEL || opened) {
      this.#hasBody = false
      this.#writeTunnelHead(head, opened, lines)
      return
    }
    frameResponse(head, length, this.#method, this.#old, answer)
    this.#hasBody = answer.hasBody
    this.#chunked = answer.chunked
    this.#unsent = answer.announced
    if (answer.untilClose || this.#host.draining || !this.#restIsSmall()) this.#final = true
    const { headers } = head
    const connection = this.#final ? 'Connection: close\r\n' : this.#old ? 'Connection: keep-alive\r\n' : ''
    const date = headers.hasKind(FieldKind.Date) ? '' : `Date: ${httpDate(this.#ticker.clock)}\r\n`
    this.stream.writeText(statusLine(head) + headers.serialize(answer.skip, null) + date + lines.text + answer.text + connection + '\r\n')
  }

  /** Behind it comes the tunnel: it has no framing (RFC 9110 7.8, 9.3.6). */
  #writeTunnelHead(head: ResponseHead, opened: boolean, lines: FieldLines): void {
    const skip = (opened ? HOP_BY_HOP : HOP_BY_HOP & ~(1 << FieldKind.Upgrade)) | (1 << FieldKind.ContentLength)
    const connection = opened ? '' : 'Connection: upgrade\r\n'
    this.stream.writeText(statusLine(head) + head.headers.serialize(skip, null) + lines.text + connection + '\r\n')
  }

  /** What is left of the request body is none, or so little that throwing it away is cheaper than a new connection. */
  #restIsSmall(): boolean {
    if (!this.#bodyOpen) return true
    if (this.awaitsContinue || this.requestBodyLength < 0) return false
    return this.requestBodyLength - this.#body!.bytes <= this.#options.maxDiscardBytes
  }

  writeBody(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (!this.#hasBody || from === to || this.#state !== State.Exchange) return
    let end = to
    if (this.#unsent >= 0) {
      // More than the head announced would be read as the next answer.
      if (to - from > this.#unsent) end = from + this.#unsent
      this.#unsent -= end - from
      if (end === from) return
    }
    this.bodyBytesOut += end - from
    if (this.#chunked) writeChunk(this.stream, buffer, from, end, owned)
    else writeRun(this.stream, buffer, from, end, owned)
  }

  endResponse(trailers: HeaderMap | null): void {
    if (this.#responseEnded || this.#state !== State.Exchange) return
    this.#responseEnded = true
    if (this.#chunked) writeLastChunk(this.stream, trailers)
    else if (this.#hasBody && this.#unsent > 0) this.abort()
  }

  refuseReuse(): void { this.#final = true }

  abort(): void {
    if (this.#state === State.Closed) return
    this.#final = true
    // Without RST a body until close, or one cut within a chunk, could pass for a whole one.
    this.#close(this.responseStarted)
  }

  detach(): DetachedStream {
    this.#state = State.Detached
    this.#ticker.remove(this)
    this.#owner = NOBODY
    const early = this.#held
    this.#held = null
    this.#countHeld()
    return {
      stream: this.stream, ended: this.#ended,
      early: early === null ? null : early.subarray(this.#heldFrom, early.length - BUFFER_RESERVE),
    }
  }

  release(): void {
    this.#owner = NOBODY
    this.request = NO_REQUEST
    if (this.#state === State.Detached) {
      this.#state = State.Closed
      this.acceptedBy?.onClosed(this)
      return
    }
    if (this.#state !== State.Exchange) return
    if (!this.#responseEnded) this.#close(true)
    else if (!this.#bodyOpen) {
      if (!this.#final) this.#toIdle()
      // Nothing can be on its way from a client that said it is the last request: no need to wait for its FIN.
      else if (this.#clientPersists || this.#held !== null || this.#consuming) this.#linger()
      else this.#farewell()
    } else if (this.#final || !this.#restIsSmall()) this.#linger()
    else {
      this.#state = State.Discard
      this.acceptedBy?.onUnfinished(this)
      this.#discarded = 0
      this.#deadline = this.#ticker.clock.now() + this.#options.lingerIdleMs
      if (this.#consuming) this.stream.resume()
      else this.#goOn()
    }
  }

  #toIdle(): void {
    this.#state = State.Idle
    this.#deadline = this.#ticker.clock.now() + this.#options.keepAliveTimeoutMs
    if (this.#consuming) {
      // Behind the body that just ended the loop goes on; the owner may have paused the stream meanwhile.
      this.stream.resume()
      return
    }
    if (this.#held === null) this.acceptedBy?.onIdle(this)
    if (this.#held !== null || this.stream.paused) this.#goOn()
    else if (this.#ended) this.#close(false)
  }

  // ---- ending

  closeIdle(): void { if (this.idle) this.#linger() }

  drain(): void {
    this.#maxAgeMs = -1
    // An answer whose head went out without `Connection: close` is followed by one that says so.
    if (!this.responseStarted) this.#final = true
  }

  destroy(): void { this.#close(true) }

  cut(error: ProxyError): void { if (this.#state === State.Exchange) this.#fault(error) }

  get lingering(): boolean { return this.#state === State.Linger && this.stream.bytesQueued === 0 }
  get parting(): boolean { return this.#state === State.Linger && this.stream.bytesQueued > 0 }
  get endsByMark(): boolean { return this.#chunked }

  /**
   * Closes as soon as the kernel has the answer. Over TLS the end is said (close_notify), which only `end()` does: without it a client
   * takes the answer for one that was cut (RFC 8446 6.1), and OpenSSL forgets the session.
   */
  #farewell(): void {
    this.stream.flush()
    if (this.stream.bytesQueued > 0 || this.stream.digest.tls !== null) this.#linger()
    else {
      this.#state = State.Linger
      this.stream.destroy()
    }
  }

  /**
   * FIN, then read and throw away until the client closes too: closing at once would turn bytes in flight into a RST that
   * destroys our answer.
   */
  #linger(): void {
    this.#state = State.Linger
    this.#held = this.#parser = null
    this.#countHeld()
    this.#discarded = 0
    this.#startLingering()
    this.stream.end()
    if (this.#ended) {
      this.#close(false)
      return
    }
    this.stream.resume()
    // Who does not take the answer has limits of its own; who has it is only waited for.
    if (this.stream.bytesQueued > 0) this.acceptedBy?.onActive(this)
    else this.acceptedBy?.onUnfinished(this)
  }

  /** Counts from when the client has all that was written for it: until then it is only slow, and has its own limits. */
  #startLingering(): void {
    const now = this.#ticker.clock.now()
    this.#lingerUntil = now + this.#options.lingerTotalMs
    this.#deadline = now + this.#options.lingerIdleMs
  }

  /** `cut`: with RST. Otherwise what is written is still sent. */
  #close(cut: boolean): void {
    if (this.#state === State.Closed) return
    if (!cut) this.stream.flush()
    if (cut) this.stream.destroy(true)
    else if (this.stream.bytesQueued === 0) this.stream.destroy()
    else this.stream.end()
  }

  // ---- time

  onTick(now: number): void {
    const options = this.#options
    switch (this.#state) {
      case State.Idle:
        if (this.#held !== null) {
          this.#checkSending(now)
          return
        }
        if (now < this.#deadline) return
        // A connection on which nothing was ever sent is closed in silence, as an idle one is.
        this.#linger()
        return
      case State.Head:
        if (now >= this.#deadline) {
          const text = `no complete head within ${options.headTimeoutMs} ms`
          this.#refuse(new ProxyError('HEAD_TIMEOUT', 'downstream', text, { status: 408, limit: 'head-timeout' }))
        }
        return
      case State.Exchange: {
        const limits = this.#limits
        if (this.#bodyOpen && this.#flowing && !this.#responseEnded) {
          const late = this.#watch!.lateness(now, this.#body!.bytes, this.responseStarted, limits)
          if (late !== null) {
            this.#fault(late)
            return
          }
        }
        if (now > this.#deadline) {
          // The answer to the fault has as long again.
          this.#deadline = now + limits.totalTimeoutMs
          this.#fault(tookTooLong(limits.totalTimeoutMs))
          return
        }
        if (now < this.#lookAt) return
        this.#lookAt = now + Math.min(SENDING_LOOK_MS, limits.sendTimeoutMs)
        this.#checkSending(now)
        return
      }
      case State.Discard:
        if (now >= this.#deadline) this.#linger()
        return
      case State.Linger:
        if (this.stream.bytesQueued > 0) this.#checkSending(now)
        else if (now >= this.#deadline || now >= this.#lingerUntil) this.#close(false)
        return
    }
  }

  #checkSending(now: number): void {
    const { sendTimeoutMs, minSendBytesPerSecond } = this.#limits
    const stalled = this.#progress.check(now, sendTimeoutMs, minSendBytesPerSecond)
    if (stalled === '') return
    const text = stalled === 'send-timeout'
      ? `the client took no byte for ${sendTimeoutMs} ms`
      : `the client reads slower than ${minSendBytesPerSecond} bytes a second`
    const error = new ProxyError('SLOW_READER', 'downstream', text, { limit: stalled })
    if (this.#state === State.Exchange) this.#fault(error)
    this.#close(true)
  }
}

/** What a head was refused for, by the status that says so. */
function kindOfStatus(status: number): ErrorKind {
  switch (status) {
    case 417: return 'EXPECTATION_FAILED'
    case 405: return 'METHOD_NOT_ALLOWED'
    case 501: return 'NOT_IMPLEMENTED'
    default: return 'BAD_FRAMING'
  }
}
