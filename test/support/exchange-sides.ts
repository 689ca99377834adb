/**
 * The sides of an exchange world (exchange-world.ts): what a client and an origin are for the world, whatever protocol they
 * speak. Each protocol has its own two classes (http1-sides.ts, mux/mux-sides.ts), which turn specs into bytes and what
 * arrives into calls of `tell...` here; what is told is compared with what was sent.
 */
import type { OpenHttp } from '../../src/server/http-protocols.ts'
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import { isIdempotent } from '../../src/http/message-head.ts'
import type { Ticker } from '../../src/primitives/clock.ts'
import type { ByteStream, StreamOwner } from '../../src/protocols/byte-stream.ts'
import type { UpstreamConnection } from '../../src/protocols/http-connection.ts'
import type { BodyUse, Session } from '../../src/proxy/session.ts'
import type { ExchangeEnded } from '../../src/telemetry/tracer.ts'
import { MemoryStream } from './memory-stream.ts'
import type { ReadRequest } from './strict-request-reader.ts'
import type { ReadResponse } from './strict-response-reader.ts'

export interface RequestSpec {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT'
  readonly framing: 'none' | 'length' | 'chunked'
  readonly size: number
  readonly chunk: number
  readonly expect: boolean
  readonly upgrade: boolean
  readonly close: boolean
  /** HTTP/1.0. */
  readonly old: boolean
  readonly trailers: boolean
  /** The chunked body breaks in its middle. */
  readonly broken: boolean
  /** Chooses what the hooks do to this request; 0: they do nothing. */
  readonly flavor: number
}

export interface AnswerSpec {
  readonly kind: 'length' | 'chunked' | 'close' | 'old' | '204' | '304' | '503' | '101'
  readonly size: number
  readonly chunk: number
  /** `Connection: close`. */
  readonly close: boolean
  readonly trailers: boolean
  /** Bytes that nobody asked for follow. */
  readonly extra: boolean
}

/** The world, as its sides see it. */
export interface WorldView {
  readonly requests: readonly ModelRequest[]
  readonly responses: ReadonlyMap<number, ModelResponse>
  /** Body filters see the bodies of requests. */
  readonly filtersRequests: boolean
  /** What the body filter of a request says that it will do. */
  useOf(change: Change): BodyUse
  /** Exchanges that a connection to an origin takes at first, where it may take several. */
  readonly exchangesPerConnection: number
  fail(what: string): void
  byTarget(target: string): ModelRequest | null
  addRequest(client: Client, spec: RequestSpec): ModelRequest
  addResponse(given: NewResponse): ModelResponse
  /** The body that the client must get. */
  expectedOf(given: ModelResponse): Buffer
}

/** A connection of the proxy's to an origin, with what the world looks at. */
export type WorldConnection = UpstreamConnection & { readonly stream: ByteStream }

/** What the clients of a world speak. */
export interface ClientSide {
  /** `h1`, or the name of another protocol. */
  readonly name: string
  makeClient(world: WorldView, index: number, kernelBytes: number): Client
  /** With this table a service serves its connections in the protocol (server/http-protocols.ts). */
  readonly protocols: ReadonlyMap<string, OpenHttp>
}

/** What the origins of a world speak. */
export interface OriginSide {
  readonly name: string
  makeOrigin(world: WorldView, index: number, kernelBytes: number): Origin
  /** @param exchanges that it takes at a time, where it may take several */
  createConnection(stream: ByteStream, ticker: Ticker, exchanges: number): WorldConnection
  /** Exchanges that a new connection may turn out to carry. */
  readonly expectedExchanges: number
  /** Exchanges that this connection takes at a time, as the proxy knows it. */
  limitOf(connection: WorldConnection): number
}

// ---- bytes

const TABLE_BYTES = 131_072
const TABLE: Buffer = Buffer.alloc(TABLE_BYTES)
{
  const next = chance(7)
  for (let i = 0; i < TABLE_BYTES; i++) TABLE[i] = next() * 256
}

export function bodyOf(key: number, bytes: number): Buffer {
  const from = (key * 7919) % (TABLE_BYTES - 65_536)
  return TABLE.subarray(from, from + bytes)
}

/** Numbers in [0, 1), the same for the same seed. */
export function chance(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** What a body filter makes of a body. All but the last two keep its length. */
export const CHANGES = ['same', 'copy', 'xor', 'same', 'double', 'behead'] as const
export type Change = (typeof CHANGES)[number]
const KEEPING = 4
export const TAIL: Buffer = Buffer.from('<tail>')
export const TRAILED: Buffer = Buffer.from('<trailed>')

export function changed(change: Change, chunk: Buffer, offset: number): Buffer {
  switch (change) {
    case 'same': return chunk
    case 'copy': return Buffer.from(chunk)
    case 'xor': return Buffer.from(chunk.map(byte => byte ^ 0x5a))
    case 'double': return Buffer.concat([...chunk].map(byte => Buffer.of(byte, byte)))
    case 'behead': return chunk.subarray(Math.min(chunk.length, Math.max(0, 5 - offset)))
  }
}

/** As forgiving as a socket is where MemoryStream is strict: what is written behind `end()` or `destroy()` is lost. */
class WorldStream extends MemoryStream {
  #closed = false
  override writeText(text: string): void { if (!this.#closed && !this.destroyed) super.writeText(text) }
  override writeBytes(bytes: Buffer): void { if (!this.#closed && !this.destroyed) super.writeBytes(bytes) }
  override end(): void {
    if (this.#closed) return
    super.end()
    this.#closed = true
  }
}

// ---- messages

export class ModelRequest {
  readonly id: number
  readonly client: Client
  readonly spec: RequestSpec
  readonly body: Buffer
  /** Where it starts and ends in what the client sends. */
  from = 0
  to = Number.POSITIVE_INFINITY
  /** Its client gave it up, or does not read its answer: it need not be answered. */
  abandoned = false
  begun = 0
  logged = 0
  tracedEnds = 0
  /** What a tracer was told of its end. */
  traced: ExchangeEnded | null = null
  /** What its client saw of the answer, whoever gave it. */
  seenStatus = 0
  seenBytes = 0
  error: ProxyError | null = null
  /** The final response was read to its end. */
  completed = false
  gotContinue = false
  /** What the client expects of the response body, and how far it is. */
  expected: Buffer | null = null
  expectedAt = 0
  answeredBy: ModelResponse | null = null
  framing = ''
  /** Heads that reached an origin. */
  sent = 0
  /** An origin said that it did nothing with it: any method may be sent again. */
  maySendAgain = false
  readonly next: () => number
  readonly requestChange: Change
  readonly responseChange: Change
  own: Buffer | null = null
  /** The whole of it was handed to the proxy. */
  ownWhole = false
  /** Of body filters: the attempt, and how much of its body they saw. */
  filterAttempt = 0
  requestSeen = 0
  requestSeenLast = false
  responseSeen = 0
  responseSeenLast = false
  upstream: Origin | null = null
  /** Responses with a smaller id are those of earlier attempts. */
  answeredFrom = 0
  session: Session | null = null
  tunnel: { client: number; origin: number; sentByClient: number; sentByOrigin: number } | null = null

  constructor(id: number, client: Client, spec: RequestSpec, keepsLength: boolean) {
    this.id = id
    this.client = client
    this.spec = spec
    this.body = bodyOf(id, spec.framing === 'none' ? 0 : spec.size)
    this.next = chance(spec.flavor)
    const kinds = keepsLength ? KEEPING : CHANGES.length
    this.requestChange = spec.flavor === 0 ? 'same' : CHANGES[Math.floor(this.next() * kinds)]!
    this.responseChange = spec.flavor === 0 ? 'same' : CHANGES[Math.floor(this.next() * kinds)]!
  }

  /** The proxy has read all of it. */
  get whole(): boolean { return this.client.near.bytesRead >= this.to }

  /** All of it left the client. */
  get sentWhole(): boolean { return this.client.far.bytesWritten >= this.to }

  /** An exchange that answers with an error page is not over, but has given its connection back. */
  get holdsUpstream(): boolean { return this.logged === 0 && this.session !== null && this.session.upstreamDigest !== null }
}

export interface ModelResponse {
  readonly id: number
  readonly request: ModelRequest
  readonly status: number
  /** What was sent of it when its end is that of the connection. */
  body: Buffer
  readonly trailers: boolean
  /** Its head says how many bytes follow, or that none do. */
  readonly announced: boolean
  persistent: boolean
  readonly untilClose: boolean
  /** Where it ends in what the origin sends. */
  to: number
}

export interface NewResponse {
  readonly request: ModelRequest
  readonly status: number
  readonly size: number
  readonly persistent: boolean
  readonly untilClose: boolean
  readonly trailers: boolean
  readonly announced: boolean
}

// ---- ends of connections

export abstract class End implements StreamOwner {
  readonly near: WorldStream
  readonly far: WorldStream
  readonly world: WorldView
  #pending: Buffer[] = []
  enqueued = 0
  /** FIN of the proxy. */
  sawFin = false
  sentFin = false
  /** RST of the proxy. */
  wasCut = false
  /** RST from here. */
  didCut = false
  /** Time passed while something waited to be read. */
  slow = false

  constructor(world: WorldView, name: string, kernelBytes: number) {
    this.world = world
    this.near = new WorldStream(name, kernelBytes)
    this.far = new WorldStream(`${name}-far`, Infinity)
    this.near.peer = this.far
    this.far.peer = this.near
    this.far.owner = this
  }

  get open(): boolean { return !this.far.destroyed }
  get hasPending(): boolean { return this.#pending.length > 0 }
  /** What the proxy sends waits for this end. */
  get holdsUp(): boolean { return this.near.undelivered > 0 }

  enqueue(bytes: Buffer): void {
    this.enqueued += bytes.length
    this.#pending.push(bytes)
  }

  /** Up to `max` bytes go on the way, and arrive if the proxy reads. @returns whether anything moved. */
  send(max: number): boolean {
    let left = max
    while (left > 0 && this.#pending.length > 0 && this.open && !this.sentFin) {
      const first = this.#pending[0]!, part = first.subarray(0, left)
      this.far.writeBytes(Buffer.from(part))
      left -= part.length
      if (part.length === first.length) this.#pending.shift()
      else this.#pending[0] = first.subarray(part.length)
    }
    const moved = left < max
    const arrived = this.far.deliver(max) > 0
    return this.ends() || moved || arrived
  }

  read(max: number): boolean {
    const moved = this.near.deliver(max) > 0
    return this.ends() || moved
  }

  /** FIN, RST and the ends of streams that are due. */
  ends(): boolean {
    const far = this.far.deliverEnd(), near = this.near.deliverEnd()
    return far || near
  }

  fin(): void {
    this.#pending = []
    this.sentFin = true
    this.far.end()
    this.ends()
  }

  cut(): void {
    this.#pending = []
    this.didCut = true
    this.far.destroy(true)
    this.ends()
  }

  abstract onBytes(buffer: Buffer, from: number, to: number): void
  onEnd(): void { this.sawFin = true }
  onDrained(): void { /* the test decides when more is sent */ }
  onClosed(error: Error | null): void { if (error !== null) this.wasCut = true }
}

export abstract class Client extends End {
  readonly index: number
  readonly requests: ModelRequest[] = []
  /** Sent what is no request: refused, and the connection ends. */
  garbage = false

  constructor(world: WorldView, index: number, kernelBytes: number) {
    super(world, `client${index}`, kernelBytes)
    this.index = index
  }

  /** It can send a request, by what it knows of its connection. */
  abstract readonly mayRequest: boolean
  /** Bytes that are no request may follow what it has sent. */
  abstract readonly mayGarble: boolean
  /** Requests that became tunnels, and into which it can send. */
  abstract readonly tunnels: readonly ModelRequest[]
  /** The proxy knows that nothing more comes of it, and what came was taken: FIN says that it left. */
  abstract readonly leftBySaying: boolean
  /** A request whose answer it would wait for, though nothing is under way; null: there is none. */
  abstract readonly waitsFor: ModelRequest | null

  request(spec: RequestSpec): ModelRequest {
    const request = this.world.addRequest(this, spec)
    request.from = this.enqueued
    this.requests.push(request)
    this.ask(request)
    return request
  }

  protected abstract ask(request: ModelRequest): void
  abstract garble(): void
  abstract sendTunnel(request: ModelRequest, bytes: Buffer): void
  /** What one exchange may suffer that the others do not notice; nothing where a connection has one exchange. */
  abstract disturb(at: number, how: 'reset' | 'stall'): void
  /** Everything that it holds back goes on, and what it is done with ends. @returns whether anything changed */
  abstract finish(): boolean
  /** `kept` may be what the exchange of `earlier` left on the connection for `request`. */
  abstract follows(request: ModelRequest, earlier: ModelRequest): boolean

  // ---- what it is told

  protected tellInterim(request: ModelRequest, response: ReadResponse): void {
    const { world } = this, { id } = request
    if (response.status === 100) {
      if (!request.spec.expect) world.fail(`request ${id} did not ask for 100 Continue`)
      if (request.gotContinue) world.fail(`request ${id} got 100 Continue twice`)
      request.gotContinue = true
    } else if (response.field('x-tag') !== String(id)) world.fail(`request ${id} got the interim response of ${response.field('x-tag')}`)
  }

  protected tellHead(request: ModelRequest, response: ReadResponse): void {
    const { world } = this, { id } = request, { status, framing, length } = response
    if (this.near.bytesRead <= request.from) world.fail(`request ${id} was answered before it was sent`)
    request.framing = framing
    request.seenStatus = status
    const from = response.field('x-rid'), own = response.field('x-own')
    if (from !== null) {
      const given = world.responses.get(Number(from))!
      if (given.id < request.answeredFrom) world.fail(`request ${id} got response ${given.id}, which had been given up`)
      if (given.request !== request) world.fail(`request ${id} got the response of request ${given.request.id}`)
      if (given.status !== status) world.fail(`response ${given.id} has status ${status}, not ${given.status}`)
      request.answeredBy = given
      const expected = request.expected = world.expectedOf(given)
      if (framing === 'length' && length !== expected.length) {
        world.fail(`response ${given.id} announces ${length} bytes, not ${expected.length}`)
      }
    } else if (own !== null) {
      if (own !== String(id) || request.own === null) world.fail(`request ${id} got the answer that a filter gave to ${own}`)
      request.expected = request.own
    } else {
      if (status < 400) world.fail(`request ${id} was answered ${status} by nobody`)
      request.expected = null
    }
    request.expectedAt = 0
  }

  protected tellBody(request: ModelRequest, bytes: Buffer): void {
    request.seenBytes += bytes.length
    if (request.expected === null) return
    const at = request.expectedAt
    if (!bytes.equals(request.expected.subarray(at, at + bytes.length))) {
      this.world.fail(`the response body of request ${request.id} is wrong from ${at} on`)
    }
    request.expectedAt += bytes.length
  }

  protected tellComplete(request: ModelRequest, response: ReadResponse): void {
    const { world } = this, { id } = request, { framing, status, trailers } = response
    if (request.completed) world.fail(`request ${id} was answered twice`)
    request.completed = true
    const given = request.answeredBy
    if (given !== null) request.expected = world.expectedOf(given)
    const { expected, expectedAt } = request
    if (expected !== null && framing !== 'none' && status !== 101 && expectedAt !== expected.length) {
      world.fail(`the response of request ${id} looks whole with ${expectedAt} of ${expected.length} bytes`)
    }
    if (response.field('x-own') !== null && framing !== 'none' && !request.ownWhole) {
      world.fail(`the answer of a filter to request ${id} looks whole, but was cut`)
    }
    for (const [name, value] of trailers) {
      if (given === null || !given.trailers || name.toLowerCase() !== 'x-tag' || value !== String(id)) {
        world.fail(`request ${id} got the trailer ${name}: ${value}`)
      }
    }
    if (status === 101) request.tunnel = { client: 0, origin: 0, sentByClient: 0, sentByOrigin: 0 }
  }

  protected tellTunnel(request: ModelRequest, bytes: Buffer): void {
    const tunnel = request.tunnel!, to = tunnel.origin + bytes.length
    const wanted = bodyOf(200_000 + request.id, to).subarray(tunnel.origin)
    if (!bytes.equals(wanted) || to > tunnel.sentByOrigin) {
      this.world.fail(`the tunnel of request ${request.id} brought other bytes to the client`)
    }
    tunnel.origin = to
  }
}

/** A request that reached an origin. */
export interface Served {
  readonly request: ModelRequest
  readonly read: ReadRequest
  response: ModelResponse | null
  /** Interim responses so far. */
  checked: number
}

export abstract class Origin extends End {
  readonly index: number
  readonly served: Served[] = []
  garbage = false

  constructor(world: WorldView, index: number, kernelBytes: number) {
    super(world, `origin${index}`, kernelBytes)
    this.index = index
  }

  /** Requests that it can answer now. */
  abstract readonly owed: readonly Served[]
  /** Requests that became tunnels, from its side. */
  abstract readonly tunnels: readonly ModelRequest[]
  abstract readonly mayGarble: boolean
  /** Where the last whole answer ends in what it sends; null: not every one is whole. */
  abstract readonly answeredTo: number | null
  /** An exchange holds the connection alone. */
  abstract readonly exclusive: boolean

  abstract answer(served: Served, spec: AnswerSpec): void
  abstract interim(served: Served, status: number): void
  abstract garble(): void
  abstract sendTunnel(request: ModelRequest, bytes: Buffer): void
  /** No request behind those that are here; a reset of one of them; another number of exchanges at a time; a stop in reading one. */
  abstract disturb(at: number, how: 'reset' | 'stall' | 'goAway' | 'limit'): void
  /** Everything that it holds back goes on, and what it is done with ends. @returns whether anything changed */
  abstract finish(): boolean

  /** It owes an answer, or something waits to be read. */
  get busy(): boolean { return this.owed.length > 0 || this.near.undelivered > 0 }

  // ---- what it is told

  /** @returns the request that was sent; null: none was, and the world has failed */
  protected tellHead(read: ReadRequest): Served | null {
    const { world } = this, request = world.byTarget(read.target)
    if (request === null || read.field('x-tag') !== String(request.id) || request.spec.method !== read.method) {
      world.fail(`origin ${this.index} got a request that nobody sent: ${read.headText}`)
      return null
    }
    const { id } = request
    if (request.client.near.bytesRead <= request.from) world.fail(`request ${id} reached an origin before it was sent`)
    request.sent++
    if (request.sent > 1 && !isIdempotent(read.method) && !request.maySendAgain) world.fail(`request ${id} (${read.method}) was sent twice`)
    if (request.sent > 3) world.fail(`request ${id} was sent ${request.sent} times`)
    if (request.logged > 0 && request.sent === 0) world.fail(`request ${id} was sent after it was over`)
    const upgrades = read.field('upgrade') !== null
    if (upgrades !== request.spec.upgrade) world.fail(`request ${id} asks for ${read.field('upgrade')}`)
    const served: Served = { request, read, response: null, checked: 0 }
    this.served.push(served)
    return served
  }

  protected tellBody({ request, read }: Served): void {
    if (read.framing === 'none') return
    const { world } = this, { spec, requestChange } = request, seen = read.body
    // Filters are not asked about a body that is declared to be none.
    const none = spec.framing === 'length' && request.body.length === 0
    const filters = world.filtersRequests && !none && world.useOf(requestChange) !== 'pass'
    const parts = [filters ? changed(requestChange, request.body, 0) : request.body]
    if (filters && requestChange === 'double') parts.push(TAIL)
    const wanted = Buffer.concat(parts)
    if (!seen.equals(wanted.subarray(0, seen.length))) {
      world.fail(`the body of request ${request.id} reached origin ${this.index} wrong`)
    } else if (read.complete && seen.length !== wanted.length) {
      world.fail(`request ${request.id} looks whole to origin ${this.index} with ${seen.length} of ${wanted.length} bytes`)
    }
  }

  protected tellComplete({ request, read }: Served): void {
    const { world } = this, { id, spec } = request
    // With a length the last byte makes it whole, whatever the client says behind it; that all bytes came is checked above.
    const knowsEnd = request.whole || read.framing === 'length'
    if (read.framing !== 'none' && (!knowsEnd || spec.broken)) {
      world.fail(`request ${id} is whole for origin ${this.index}, but not for its client`)
    }
    for (const [name, value] of read.trailers) {
      if (!spec.trailers || name.toLowerCase() !== 'x-tag' || value !== String(id)) {
        world.fail(`request ${id} brought the trailer ${name}: ${value}`)
      }
    }
  }

  protected tellTunnel(request: ModelRequest, bytes: Buffer): void {
    const { tunnel } = request
    if (tunnel === null) {
      this.world.fail(`origin ${this.index} got ${bytes.length} bytes before the client had its 101`)
      return
    }
    const to = tunnel.client + bytes.length, wanted = bodyOf(100_000 + request.id, to).subarray(tunnel.client)
    if (!bytes.equals(wanted) || to > tunnel.sentByClient) {
      this.world.fail(`the tunnel of request ${request.id} brought other bytes to the origin`)
    }
    tunnel.client = to
  }
}
