/**
 * HTTP/2 on both sides of an exchange world: clients and origins with many exchanges on a connection, which keep to windows, limits and
 * GOAWAY themselves, and of which a single exchange may be reset or stop reading.
 */
import {
  Client, Origin, type AnswerSpec, type ClientSide, type ModelRequest, type OriginSide, type Served, type WorldConnection, type WorldView,
} from './exchange-sides.ts'
import { ReadRequest } from './strict-request-reader.ts'
import { ReadResponse } from './strict-response-reader.ts'
import { Http2ClientConnection } from '../../src/protocols/http2/client-connection.ts'
import { HTTP2_SERVER_DEFAULTS } from '../../src/protocols/http2/http2-options.ts'
import { Http2ServerConnection } from '../../src/protocols/http2/server-connection.ts'
import type { OpenHttp } from '../../src/server/http-protocols.ts'
import {
  FIRST_STREAMS, FIRST_WINDOW, fieldText, H2Wire, ResetCode, StrictH2Reader, type Fields, type H2Watcher, type ReadFields,
} from './h2-wire.ts'

/** The other side is told of more room once this much was read. */
const CREDIT_BYTES = 3000
const NO_TRAILERS: Buffer = Buffer.alloc(0)

/** What one side knows of a stream. */
abstract class ModelStream {
  readonly id: number
  /** Of the body, or the tunnel, not yet sent. */
  pieces: Buffer[] = []
  window = FIRST_WINDOW
  /** The END to send behind the pieces; null: more may come. */
  trailers: Buffer | null = null
  /** END was sent, and received. */
  ended = false
  whole = false
  /** Reset, by either side. */
  gone = false
  /** Read, and not told to the other side as room; nothing is told while the stream is stalled. */
  unread = 0
  stalled = false
  constructor(id: number) { this.id = id }
  get open(): boolean { return !this.gone && !(this.ended && this.whole) }
  abstract onEnded(): void
}

interface Writer {
  readonly wire: H2Wire
  enqueue(bytes: Buffer): void
}

/** Sends what the window allows. */
function pump(stream: ModelStream, to: Writer): void {
  const { pieces } = stream
  while (pieces.length > 0 && stream.window > 0 && !stream.gone) {
    const first = pieces[0]!, part = first.subarray(0, Math.min(stream.window, 16_000))
    to.enqueue(to.wire.data(stream.id, part))
    stream.window -= part.length
    if (part.length === first.length) pieces.shift()
    else pieces[0] = first.subarray(part.length)
  }
  if (pieces.length > 0 || stream.trailers === null || stream.ended || stream.gone) return
  to.enqueue(to.wire.end(stream.id, stream.trailers))
  stream.ended = true
  stream.onEnded()
}

function credit(stream: ModelStream, bytes: number, to: Writer, reader: StrictH2Reader): void {
  stream.unread += bytes
  if (stream.stalled || stream.unread < CREDIT_BYTES || stream.whole || stream.gone) return
  to.enqueue(to.wire.window(stream.id, stream.unread))
  reader.grant(stream.id, stream.unread)
  stream.unread = 0
}

function pick<T>(from: readonly T[], at: number): T | null { return from.length === 0 ? null : from[at % from.length]! }

function cutUp(body: Buffer, chunk: number): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0; at < body.length; at += chunk) pieces.push(body.subarray(at, at + chunk))
  return pieces
}

function one(fields: ReadFields, name: string): string | null { return fields.find(([each]) => each === name)?.[1] ?? null }

// ---- clients

class AskedStream extends ModelStream {
  readonly request: ModelRequest
  readonly #client: Client
  response: ReadResponse | null = null
  constructor(id: number, request: ModelRequest, client: Client) {
    super(id)
    this.request = request
    this.#client = client
  }
  override onEnded(): void { if (this.request.to === Number.POSITIVE_INFINITY) this.request.to = this.#client.enqueued }
}

class H2Client extends Client implements H2Watcher {
  readonly wire = new H2Wire()
  readonly #reader = new StrictH2Reader('responses', this)
  readonly #streams: AskedStream[] = []
  #limit = FIRST_STREAMS
  #toldToGo = false

  get #open(): AskedStream[] { return this.#streams.filter(stream => stream.open) }

  constructor(world: WorldView, index: number, kernelBytes: number) {
    super(world, index, kernelBytes)
    this.enqueue(this.wire.opening(true))
  }

  /** A window that it opened, and that has not arrived, holds the answer up as well. */
  override get holdsUp(): boolean { return super.holdsUp || this.hasPending || this.far.undelivered > 0 }
  override get mayRequest(): boolean { return !this.garbage && !this.sentFin && !this.#toldToGo && this.#open.length < this.#limit }
  override get mayGarble(): boolean { return !this.garbage && !this.sentFin }
  override get tunnels(): readonly ModelRequest[] {
    if (this.sentFin) return []
    return this.#open.filter(stream => stream.request.tunnel !== null && stream.trailers === null).map(({ request }) => request)
  }
  override get leftBySaying(): boolean { return this.far.endArrived }
  override get waitsFor(): ModelRequest | null { return this.#streams.find(({ gone, whole }) => !gone && !whole)?.request ?? null }

  protected override ask(request: ModelRequest): void {
    const { spec, body, id } = request, stream = new AskedStream(this.#streams.length + 1, request, this)
    this.#streams.push(stream)
    const fields: Fields = [[':method', spec.upgrade ? 'CONNECT' : spec.method], [':target', `/r${id}`], [':authority', 'a.example']]
    if (spec.upgrade) fields.push([':protocol', 'model'])
    fields.push(['x-tag', String(id)])
    if (spec.framing === 'length') fields.push(['content-length', String(body.length)])
    if (spec.expect) fields.push(['expect', '100-continue'])
    this.#reader.expect(stream.id, spec.method, spec.upgrade)
    const whole = spec.framing === 'none' && !spec.upgrade
    this.enqueue(this.wire.head(stream.id, fields, whole))
    if (spec.framing === 'none') {
      request.to = this.enqueued
      stream.ended = whole
      return
    }
    stream.pieces = cutUp(body, spec.chunk)
    if (spec.broken) {
      stream.pieces.splice(1)
      pump(stream, this)
      // That breaks the connection: what was answered and waits for windows is lost with it.
      for (const { request: open } of this.#open) open.abandoned = true
      this.enqueue(this.wire.head(stream.id, fields, false))
      return
    }
    stream.trailers = spec.trailers && spec.framing === 'chunked' ? fieldText([['x-tag', String(id)]]) : NO_TRAILERS
    pump(stream, this)
  }

  override garble(): void {
    this.garbage = true
    for (const { request } of this.#open) request.abandoned = true
    this.enqueue(this.wire.garbage())
  }

  override sendTunnel(request: ModelRequest, bytes: Buffer): void {
    const stream = this.#streams.find(each => each.request === request)!
    stream.pieces.push(Buffer.from(bytes))
    pump(stream, this)
  }

  override disturb(at: number, how: 'reset' | 'stall'): void {
    const stream = pick(this.#open, at)
    if (stream === null || this.sentFin) return
    stream.request.abandoned = true
    if (how === 'stall') {
      stream.stalled = !stream.stalled
      credit(stream, 0, this, this.#reader)
      return
    }
    stream.gone = true
    this.#reader.ignore(stream.id)
    this.enqueue(this.wire.reset(stream.id, ResetCode.Cancelled))
  }

  override finish(): boolean {
    if (this.sentFin) return false
    let changed = false
    for (const stream of this.#open) {
      if (stream.stalled) {
        stream.stalled = false
        credit(stream, 0, this, this.#reader)
        changed = true
      }
      if (stream.request.tunnel !== null && stream.trailers === null) {
        stream.trailers = NO_TRAILERS
        pump(stream, this)
        changed = true
      }
    }
    if (this.sawFin && !this.hasPending && this.far.undelivered === 0) {
      this.fin()
      changed = true
    }
    return changed
  }

  override fin(): void {
    for (const { request } of this.#open) request.abandoned = true
    super.fin()
  }

  override follows(request: ModelRequest, earlier: ModelRequest): boolean { return request !== earlier }

  override onBytes(buffer: Buffer, from: number, to: number): void {
    this.#reader.push(Buffer.from(buffer.subarray(from, to)))
    if (this.#reader.fault !== '') this.world.fail(`client ${this.index} got ${this.#reader.fault}`)
  }

  // ---- H2Watcher

  onHead(id: number, fields: ReadFields): void {
    const stream = this.#streams[id - 1]!, { request } = stream
    // The answer of an origin of HTTP/1 that switches has its number; one that does not switch is no success here.
    const given = this.world.responses.get(Number(one(fields, 'x-rid') ?? -1)), switches = given?.status === 101
    const isOther = request.spec.upgrade && one(fields, ':status') === '502' && given !== undefined
    const status = switches ? 101 : isOther ? given.status : Number(one(fields, ':status')), response = new ReadResponse(status, fields)
    if (status < 200 && status !== 101) {
      this.tellInterim(request, response)
      return
    }
    const length = one(fields, 'content-length'), bodiless = request.spec.method === 'HEAD' || status === 204 || status === 304 || switches
    response.framing = bodiless ? 'none' : length === null ? 'chunked' : 'length'
    response.length = Number(length ?? 0)
    stream.response = response
    this.tellHead(request, response)
    if (isOther) request.seenStatus = 502
    if (switches) this.tellComplete(request, response)
    else if (request.spec.upgrade) {
      // It stays what it was, and the request is whole.
      stream.trailers = NO_TRAILERS
      pump(stream, this)
    }
  }

  onData(id: number, bytes: Buffer): void {
    const stream = this.#streams[id - 1]!
    if (stream.request.tunnel === null) this.tellBody(stream.request, bytes)
    else this.tellTunnel(stream.request, bytes)
    credit(stream, bytes.length, this, this.#reader)
  }

  onMessageEnd(id: number, trailers: ReadFields): void {
    const stream = this.#streams[id - 1]!
    stream.whole = true
    if (stream.request.tunnel !== null) return
    stream.response!.trailers = trailers
    this.tellComplete(stream.request, stream.response!)
  }

  onReset(id: number, code: number): void {
    const stream = this.#streams[id - 1]!
    stream.gone = true
    if (code === ResetCode.Refused) this.#notBegun(stream)
  }

  onWindow(id: number, bytes: number): void {
    const stream = this.#streams[id - 1]!
    stream.window += bytes
    pump(stream, this)
  }

  onGoAway(last: number): void {
    this.#toldToGo = true
    for (const stream of this.#streams.slice(last)) {
      stream.gone = true
      this.#notBegun(stream)
    }
  }

  onStreams(count: number): void { this.#limit = count }

  #notBegun({ request }: AskedStream): void {
    if (request.begun > 0) this.world.fail(`request ${request.id} was begun, but its client is told that it was not looked at`)
  }
}

// ---- origins

class ServedStream extends ModelStream {
  /** Null: not looked at. */
  served: Served | null = null
  readonly #origin: Origin
  constructor(id: number, origin: Origin) {
    super(id)
    this.#origin = origin
  }
  override onEnded(): void {
    const response = this.served!.response!
    if (response.to === Number.POSITIVE_INFINITY) response.to = this.#origin.enqueued
  }
}

class H2Origin extends Origin implements H2Watcher {
  override readonly exclusive = false
  override readonly answeredTo = null
  readonly wire = new H2Wire()
  readonly #reader = new StrictH2Reader('requests', this)
  readonly #streams: ServedStream[] = []
  #limit = this.world.exchangesPerConnection
  #highestLimit = this.#limit
  #goesAway = false

  get #open(): ServedStream[] { return this.#streams.filter(stream => stream.open) }

  constructor(world: WorldView, index: number, kernelBytes: number) {
    super(world, index, kernelBytes)
    this.enqueue(this.wire.opening(false))
  }

  override get owed(): readonly Served[] {
    if (this.garbage || this.sentFin) return []
    return this.#streams.filter(({ gone, served }) => !gone && served !== null && served.response === null).map(({ served }) => served!)
  }
  override get tunnels(): readonly ModelRequest[] {
    if (this.sentFin) return []
    return this.#open.filter(isTunnel).filter(({ trailers }) => trailers === null).map(({ served }) => served!.request)
  }
  override get mayGarble(): boolean { return !this.sentFin && !this.garbage }

  #streamOf(request: ModelRequest): ServedStream { return this.#streams.findLast(({ served }) => served?.request === request)! }

  override answer(served: Served, spec: AnswerSpec): void {
    const { request } = served, stream = this.#streamOf(request), { method, upgrade } = request.spec
    // A success would be the tunnel.
    const refuses = upgrade && spec.kind !== '101' && spec.kind !== '304'
    const kind = refuses ? '503' : spec.kind === '101' && !upgrade ? 'length' : spec.kind
    const bodiless = method === 'HEAD' || kind === '204' || kind === '304' || kind === '101'
    const status = kind === '204' || kind === '304' || kind === '503' || kind === '101' ? Number(kind) : 200
    const announces = kind === 'length' || kind === 'old' || kind === '503'
    const response = served.response = this.world.addResponse({
      request, status, size: bodiless ? 0 : spec.size, persistent: true, untilClose: false,
      trailers: spec.trailers && !announces && !bodiless, announced: bodiless || announces,
    })
    const fields: Fields = [[':status', kind === '101' ? '200' : String(status)]]
    if (kind === '101') fields.push([':protocol', 'model'])
    fields.push(['x-rid', String(response.id)])
    if (announces) fields.push(['content-length', String(spec.size)])
    this.enqueue(this.wire.head(stream.id, fields, false))
    if (kind !== '101') {
      stream.pieces = cutUp(response.body, spec.chunk)
      stream.trailers = response.trailers ? fieldText([['x-tag', String(request.id)]]) : NO_TRAILERS
      pump(stream, this)
    }
    if (spec.close || kind === 'close') this.#goAway()
    if (spec.extra) this.garble()
  }

  override interim({ request }: Served, status: number): void {
    this.enqueue(this.wire.head(this.#streamOf(request).id, [[':status', String(status)], ['x-tag', String(request.id)]], false))
  }

  override garble(): void {
    this.garbage = true
    this.enqueue(this.wire.garbage())
  }

  override sendTunnel(request: ModelRequest, bytes: Buffer): void {
    const stream = this.#streamOf(request)
    stream.pieces.push(Buffer.from(bytes))
    pump(stream, this)
  }

  override disturb(at: number, how: 'reset' | 'stall' | 'goAway' | 'limit'): void {
    if (this.sentFin) return
    if (how === 'goAway') this.#goAway()
    else if (how === 'limit') {
      this.#limit = pick([1, 2, 8, 12], at)!
      this.#highestLimit = Math.max(this.#highestLimit, this.#limit)
      this.enqueue(this.wire.streams(this.#limit))
    } else {
      const stream = pick(this.#open, at)
      if (stream === null) return
      if (how === 'reset') this.#reset(stream, at)
      else {
        stream.stalled = !stream.stalled
        credit(stream, 0, this, this.#reader)
      }
    }
  }

  #reset(stream: ServedStream, at: number): void {
    const { served } = stream, refuses = at % 2 === 0 && served !== null && served.response === null && served.checked === 0
    stream.gone = true
    this.#reader.ignore(stream.id)
    if (refuses) served.request.maySendAgain = true
    this.enqueue(this.wire.reset(stream.id, refuses ? ResetCode.Refused : ResetCode.Cancelled))
  }

  #goAway(): void {
    if (this.#goesAway) return
    this.#goesAway = true
    this.enqueue(this.wire.goAway(this.#streams.length))
  }

  override finish(): boolean {
    if (this.sentFin) return false
    let changed = false
    for (const stream of this.#open) {
      if (stream.stalled) {
        stream.stalled = false
        credit(stream, 0, this, this.#reader)
        changed = true
      }
      if (isTunnel(stream) && stream.trailers === null && (stream.whole || stream.served!.request.tunnel !== null)) {
        stream.trailers = NO_TRAILERS
        pump(stream, this)
        changed = true
      }
    }
    if ((this.sawFin || this.garbage) && !this.hasPending) this.fin()
    return changed
  }

  override onBytes(buffer: Buffer, from: number, to: number): void {
    this.#reader.push(Buffer.from(buffer.subarray(from, to)))
    if (this.#reader.fault !== '') this.world.fail(`origin ${this.index} got ${this.#reader.fault}`)
  }

  // ---- H2Watcher

  onHead(id: number, fields: ReadFields, whole: boolean): void {
    const stream = new ServedStream(id, this), { world } = this
    this.#streams.push(stream)
    stream.whole = whole
    const open = this.#open.length
    if (open > this.#highestLimit) world.fail(`${open} streams are open at origin ${this.index}, which takes ${this.#highestLimit}`)
    if (this.#goesAway || open > this.#limit) {
      stream.gone = true
      this.#reader.ignore(id)
      if (!this.#goesAway) this.enqueue(this.wire.reset(id, ResetCode.Refused))
      return
    }
    const protocol = one(fields, ':protocol'), method = protocol === null ? one(fields, ':method')! : 'GET'
    const framing = whole || protocol !== null ? 'none' : one(fields, 'content-length') === null ? 'chunked' : 'length'
    const read = new ReadRequest({
      method, target: one(fields, ':target')!, fields: protocol === null ? [...fields] : [...fields, ['upgrade', protocol]],
      framing, headText: JSON.stringify(fields),
    })
    stream.served = this.tellHead(read)
    if (stream.served === null || read.framing !== 'none') return
    read.complete = true
    this.tellComplete(stream.served)
  }

  onData(id: number, bytes: Buffer): void {
    const stream = this.#streams[id - 1]!, served = stream.served!
    if (served.read.framing === 'none') this.tellTunnel(served.request, bytes)
    else {
      served.read.addBody(bytes)
      this.tellBody(served)
    }
    credit(stream, bytes.length, this, this.#reader)
  }

  onMessageEnd(id: number, trailers: ReadFields): void {
    const stream = this.#streams[id - 1]!, served = stream.served!
    stream.whole = true
    if (served.read.framing === 'none') return
    served.read.trailers = trailers
    served.read.complete = true
    this.tellBody(served)
    this.tellComplete(served)
  }

  onReset(id: number): void { this.#streams[id - 1]!.gone = true }

  onWindow(id: number, bytes: number): void {
    const stream = this.#streams[id - 1]!
    stream.window += bytes
    pump(stream, this)
  }

  onGoAway(): void { this.world.fail('a client said GO_AWAY') }
  onStreams(): void { this.world.fail('a client said how many streams it takes') }
}

function isTunnel({ served }: ServedStream): boolean { return served?.response?.status === 101 }

// ---- sides

/** Small windows, and as few streams as the world wants: what both sides have to keep to. */
const H2_OPTIONS = { ...HTTP2_SERVER_DEFAULTS, streamWindowBytes: FIRST_WINDOW, maxConcurrentStreams: FIRST_STREAMS }
const H2_PROTOCOLS: ReadonlyMap<string, OpenHttp> = new Map([
  ['', (stream, listener, options, host, ticker, acceptedAt) => {
    return new Http2ServerConnection(stream, listener, { ...options, http2: H2_OPTIONS }, host, ticker, acceptedAt)
  }],
])

export const H2_CLIENT: ClientSide = {
  name: 'h2',
  makeClient: (world: WorldView, index: number, kernelBytes: number) => new H2Client(world, index, kernelBytes),
  protocols: H2_PROTOCOLS,
}

export const H2_ORIGIN: OriginSide = {
  name: 'h2',
  expectedExchanges: FIRST_STREAMS,
  makeOrigin: (world, index, kernelBytes) => new H2Origin(world, index, kernelBytes),
  createConnection: (stream, ticker, exchanges) => new Http2ClientConnection(stream, ticker, {
    maxH2Streams: exchanges, h2StreamWindowBytes: FIRST_WINDOW, h2ConnectionWindowBytes: 1_000_000,
    h2PingIntervalMs: 0, h2PingTimeoutMs: 5000,
  }, false),
  limitOf: (connection: WorldConnection) => connection instanceof Http2ClientConnection ? connection.capacity + connection.active : 1,
}
