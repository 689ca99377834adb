/**
 * A proxy service between clients and origins that live in memory: the real sessions, exchange, connector and pool, on a
 * clock and streams that move only by steps. A step is chosen from outside (a fuzzer, a regression test); everything that
 * the other sides see is compared with what was sent, and the books of the service and the pool with what is really open.
 *
 *   client  ── pending ─▶ far ═ kernel ═ near ─▶ service ─▶ near ═ kernel ═ far ── reader ─▶ origin
 *           ◀─ reader ── far ═ kernel ═ near ◀── service ◀─ near ═ kernel ═ far ◀─ pending ─
 *
 * Each body is a window of one random table, chosen by the number of its request or response: a byte of another message, or
 * one that moved, does not fit. The first contradiction is kept in `fault`; nothing that happens behind it counts.
 */
import { AssertionError } from 'node:assert/strict'
import type { Transport } from '../../src/connector/connection-dial.ts'
import { HttpConnector } from '../../src/connector/http-connector.ts'
import type { DialWaiter } from '../../src/connector/transport-connector.ts'
import { ProxyError } from '../../src/errors/proxy-error.ts'
import type { HeaderMap } from '../../src/http/header-map.ts'
import { isIdempotent } from '../../src/http/message-head.ts'
import type { HttpModule } from '../../src/modules/http-module.ts'
import { HttpPeer, type HttpPeerOptions } from '../../src/peer/http-peer.ts'
import type { Peer } from '../../src/peer/peer.ts'
import { Ticker } from '../../src/primitives/clock.ts'
import type { StreamOwner } from '../../src/protocols/byte-stream.ts'
import { Http1ClientSession } from '../../src/protocols/http1/client-session.ts'
import { HttpProxyCore } from '../../src/server/http-proxy-core.ts'
import { sumCounts, type OpenCounts } from '../../src/ipc/open-counts.ts'
import type { HttpListenerOptions, ResolvedHttpListenerOptions } from '../../src/listener/http-listener-options.ts'
import { admit, ListeningBase } from '../../src/server/listening-base.ts'
import type { FailToProxy, ProxyHttp } from '../../src/proxy/proxy-http.ts'
import type { BodyResult, Session, Verdict } from '../../src/proxy/session.ts'
import type { ExchangeSummary } from '../../src/telemetry/tracer.ts'
import { FakeClock } from './fake-clock.ts'
import { MemoryStream } from './memory-stream.ts'
import { StrictRequestReader, type ReadRequest } from './strict-request-reader.ts'
import { StrictResponseReader, type ReadResponse, type ResponseWatcher } from './strict-response-reader.ts'

// ---- what can be asked of the world

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

export const HOOKS_OF_MODEL = [
  'requestFilter', 'proxyUpstreamFilter', 'slowPeer', 'connectedToUpstream', 'upstreamRequestFilter', 'requestBodyFilter', 'interimResponseFilter',
  'upstreamResponseFilter', 'responseFilter', 'responseBodyFilter', 'responseTrailerFilter', 'failToProxy', 'persistConnectionContext', 'module', 'newCtx', 'requestTrailerFilter',
] as const
export type HookOfModel = (typeof HOOKS_OF_MODEL)[number]

export interface WorldOptions {
  readonly hooks: readonly HookOfModel[]
  /** Body filters keep the length and say so. */
  readonly keepsLength: boolean
  readonly clientKernelBytes: number
  readonly originKernelBytes: number
  readonly maxReplayBytes: number
  readonly maxRequestBodyBytes: number
  readonly maxConnectionsPerPeer: number
  readonly idleTimeoutMs: number
  readonly maxRequestsPerConnection: number
  readonly maxActiveRequests: number
  /** Seeds what the proxy itself leaves to chance. */
  readonly chance: number
}

export type Step =
  | { readonly t: 'connect' }
  | { readonly t: 'request'; readonly at: number; readonly spec: RequestSpec; readonly send: number }
  | { readonly t: 'clientSend' | 'clientRead' | 'originSend' | 'originRead'; readonly at: number; readonly bytes: number }
  | { readonly t: 'clientFin' | 'clientReset' | 'clientGarbage' | 'originFin' | 'originReset' | 'originGarbage' | 'clientTunnel' | 'originTunnel'; readonly at: number }
  | { readonly t: 'dial'; readonly at: number; readonly accept: boolean }
  | { readonly t: 'answer'; readonly at: number; readonly spec: AnswerSpec; readonly send: number }
  | { readonly t: 'interim'; readonly at: number; readonly status: 100 | 103 }
  | { readonly t: 'settle'; readonly at: number; readonly ok: boolean }
  | { readonly t: 'pass'; readonly ms: number }
  | { readonly t: 'flow'; readonly bytes: number }
  /** All that is waited for happens, with this answer. */
  | { readonly t: 'serve'; readonly spec: AnswerSpec }
  | { readonly t: 'drain'; readonly mode: 'retire' | 'stop' }

// ---- bytes

const TABLE_BYTES = 131_072
const TABLE = Buffer.alloc(TABLE_BYTES)
{
  const next = chance(7)
  for (let i = 0; i < TABLE_BYTES; i++) TABLE[i] = next() * 256
}

function bodyOf(key: number, bytes: number): Buffer {
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
const CHANGES = ['same', 'copy', 'xor', 'same', 'double', 'behead'] as const
type Change = (typeof CHANGES)[number]
const KEEPING = 4
const TAIL = Buffer.from('<tail>')
const TRAILED = Buffer.from('<trailed>')

function changed(change: Change, chunk: Buffer, offset: number): Buffer {
  switch (change) {
    case 'same': return chunk
    case 'copy': return Buffer.from(chunk)
    case 'xor': return Buffer.from(chunk.map(byte => byte ^ 0x5a))
    case 'double': return Buffer.concat([...chunk].map(byte => Buffer.of(byte, byte)))
    case 'behead': return chunk.subarray(Math.min(chunk.length, Math.max(0, 5 - offset)))
  }
}

function framed(body: Buffer, chunk: number, trailers: string, broken: boolean): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; at < body.length; at += chunk) {
    const piece = body.subarray(at, at + chunk)
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'))
    if (broken) {
      pieces.push(Buffer.from('zz\r\n'))
      return Buffer.concat(pieces)
    }
  }
  pieces.push(Buffer.from(`${broken ? 'zz' : '0'}\r\n${trailers}\r\n`))
  return Buffer.concat(pieces)
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

// ---- the parties

class ModelRequest {
  readonly id: number
  readonly client: Client
  readonly spec: RequestSpec
  readonly body: Buffer
  /** Where it starts and ends in what the client sends. */
  from = 0
  to = 0
  begun = 0
  logged = 0
  tracedEnds = 0
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

  /** An exchange that answers with an error page is not over, but has given its connection back. */
  get holdsUpstream(): boolean { return this.logged === 0 && this.session !== null && this.session.upstreamDigest !== null }
}

interface ModelResponse {
  readonly id: number
  readonly request: ModelRequest
  readonly status: number
  /** What was sent of it when its end is that of the connection. */
  body: Buffer
  readonly trailers: boolean
  persistent: boolean
  readonly untilClose: boolean
  /** Where it ends in what the origin sends. */
  to: number
}

abstract class End implements StreamOwner {
  readonly near: WorldStream
  readonly far: WorldStream
  readonly world: ExchangeWorld
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

  constructor(world: ExchangeWorld, name: string, kernelBytes: number) {
    this.world = world
    this.near = new WorldStream(name, kernelBytes)
    this.far = new WorldStream(`${name}-far`, Infinity)
    this.near.peer = this.far
    this.far.peer = this.near
    this.far.owner = this
  }

  get open(): boolean { return !this.far.destroyed }
  get hasPending(): boolean { return this.#pending.length > 0 }

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

class Client extends End implements ResponseWatcher {
  readonly index: number
  readonly reader = new StrictResponseReader(this)
  readonly requests: ModelRequest[] = []
  /** Sent what is no request: answered 400 and closed. */
  garbage = false

  constructor(world: ExchangeWorld, index: number, kernelBytes: number) {
    super(world, `client${index}`, kernelBytes)
    this.index = index
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    this.reader.push(Buffer.from(buffer.subarray(from, to)))
    if (this.reader.fault !== '') this.world.fail(`client ${this.index} got ${this.reader.fault}`)
  }

  override onEnd(): void {
    super.onEnd()
    this.reader.end()
  }

  request(spec: RequestSpec): ModelRequest {
    const request = this.world.addRequest(this, spec)
    const { body } = request
    request.from = this.enqueued
    let head = `${spec.method} /r${request.id} HTTP/1.${spec.old ? 0 : 1}\r\nHost: a.example\r\nX-Tag: ${request.id}\r\n`
    if (spec.framing === 'length') head += `Content-Length: ${body.length}\r\n`
    if (spec.framing === 'chunked') head += 'Transfer-Encoding: chunked\r\n'
    if (spec.expect) head += 'Expect: 100-continue\r\n'
    if (spec.upgrade) head += 'Upgrade: model\r\n'
    head += spec.upgrade ? 'Connection: upgrade\r\n' : spec.close ? 'Connection: close\r\n' : spec.old ? 'Connection: keep-alive\r\n' : ''
    this.enqueue(Buffer.from(head + '\r\n'))
    if (spec.framing === 'length' && body.length > 0) this.enqueue(body)
    if (spec.framing === 'chunked') this.enqueue(framed(body, spec.chunk, spec.trailers ? `X-Tag: ${request.id}\r\n` : '', spec.broken))
    request.to = this.enqueued
    this.requests.push(request)
    this.reader.expect({ method: spec.method, old: spec.old, upgrade: spec.upgrade })
    return request
  }

  onInterim(index: number, response: ReadResponse): void {
    const request = this.requests[index]
    if (request === undefined) return
    if (response.status === 100) {
      if (!request.spec.expect) this.world.fail(`request ${request.id} did not ask for 100 Continue`)
      if (request.gotContinue) this.world.fail(`request ${request.id} got 100 Continue twice`)
      request.gotContinue = true
    } else if (response.field('x-tag') !== String(request.id)) this.world.fail(`request ${request.id} got the interim response of ${response.field('x-tag')}`)
  }

  onHead(index: number, response: ReadResponse): void {
    const request = this.requests[index], world = this.world
    if (request === undefined) {
      if (response.status < 400) world.fail(`garbage of client ${this.index} was answered ${response.status}`)
      return
    }
    if (this.near.bytesRead <= request.from) world.fail(`request ${request.id} was answered before it was sent`)
    request.framing = response.framing
    const from = response.field('x-rid'), own = response.field('x-own')
    if (from !== null) {
      const given = world.responses.get(Number(from))!
      if (given.request !== request) world.fail(`request ${request.id} got the response of request ${given.request.id}`)
      if (given.status !== response.status) world.fail(`response ${given.id} has status ${response.status}, not ${given.status}`)
      request.answeredBy = given
      request.expected = world.expectedOf(given)
      if (response.framing === 'length' && response.length !== request.expected.length) world.fail(`response ${given.id} announces ${response.length} bytes, not ${request.expected.length}`)
    } else if (own !== null) {
      if (own !== String(request.id) || request.own === null) world.fail(`request ${request.id} got the answer that a filter gave to ${own}`)
      request.expected = request.own
    } else {
      if (response.status < 400) world.fail(`request ${request.id} was answered ${response.status} by nobody`)
      request.expected = null
    }
    request.expectedAt = 0
  }

  onBody(index: number, _response: ReadResponse, bytes: Buffer): void {
    const request = this.requests[index]
    if (request === undefined || request.expected === null) return
    const at = request.expectedAt
    if (!bytes.equals(request.expected.subarray(at, at + bytes.length))) this.world.fail(`the response body of request ${request.id} is wrong from ${at} on`)
    request.expectedAt += bytes.length
  }

  onComplete(index: number, response: ReadResponse): void {
    const request = this.requests[index], world = this.world
    if (request === undefined) return
    if (request.completed) world.fail(`request ${request.id} was answered twice`)
    request.completed = true
    if (request.answeredBy !== null) request.expected = world.expectedOf(request.answeredBy)
    if (request.expected !== null && response.framing !== 'none' && response.status !== 101 && request.expectedAt !== request.expected.length) {
      world.fail(`the response of request ${request.id} looks whole with ${request.expectedAt} of ${request.expected.length} bytes`)
    }
    if (response.field('x-own') !== null && response.framing !== 'none' && !request.ownWhole) world.fail(`the answer of a filter to request ${request.id} looks whole, but was cut`)
    if (response.status === 101) request.tunnel = { client: 0, origin: 0, sentByClient: 0, sentByOrigin: 0 }
  }

  onTunnel(index: number, bytes: Buffer): void {
    const request = this.requests[index]!, tunnel = request.tunnel!
    const wanted = bodyOf(200_000 + request.id, tunnel.origin + bytes.length).subarray(tunnel.origin)
    if (!bytes.equals(wanted) || tunnel.origin + bytes.length > tunnel.sentByOrigin) this.world.fail(`the tunnel of request ${request.id} brought other bytes to the client`)
    tunnel.origin += bytes.length
  }

  get tunnel(): ModelRequest | null {
    const last = this.requests.at(-1)
    return last === undefined || last.tunnel === null ? null : last
  }
}

class Origin extends End {
  readonly index: number
  readonly reader = new StrictRequestReader('proxy')
  readonly served: { request: ModelRequest; read: ReadRequest; response: ModelResponse | null; checked: number }[] = []
  finWhenSent = false
  garbage = false
  tunnel: ModelRequest | null = null

  constructor(world: ExchangeWorld, index: number, kernelBytes: number) {
    super(world, `origin${index}`, kernelBytes)
    this.index = index
    this.reader.onHead = read => this.#onHead(read)
    this.reader.onComplete = read => this.#onComplete(read)
  }

  onBytes(buffer: Buffer, from: number, to: number): void {
    const bytes = Buffer.from(buffer.subarray(from, to)), { world } = this
    if (this.tunnel !== null) {
      const request = this.tunnel, tunnel = request.tunnel
      if (tunnel === null) return world.fail(`origin ${this.index} got ${bytes.length} bytes before the client had its 101`)
      const wanted = bodyOf(100_000 + request.id, tunnel.client + bytes.length).subarray(tunnel.client)
      if (!bytes.equals(wanted) || tunnel.client + bytes.length > tunnel.sentByClient) world.fail(`the tunnel of request ${request.id} brought other bytes to the origin`)
      tunnel.client += bytes.length
      return
    }
    this.reader.push(bytes)
    if (this.reader.fault !== '') world.fail(`origin ${this.index} got ${this.reader.fault}`)
    const last = this.served.at(-1)
    if (last !== undefined && last.read.framing !== 'none') {
      const { request, read } = last, seen = read.body
      // Filters are not asked about a body that is declared to be none.
      const filters = world.has('requestBodyFilter') && !(request.spec.framing === 'length' && request.body.length === 0), parts = [filters ? changed(request.requestChange, request.body, 0) : request.body]
      if (filters && request.requestChange === 'double') parts.push(TAIL)
      const wanted = Buffer.concat(parts)
      if (!seen.equals(wanted.subarray(0, seen.length))) world.fail(`the body of request ${request.id} reached origin ${this.index} wrong`)
      else if (read.complete && seen.length !== wanted.length) world.fail(`request ${request.id} looks whole to origin ${this.index} with ${seen.length} of ${wanted.length} bytes`)
    }
    return undefined
  }

  #onHead(read: ReadRequest): void {
    const { world } = this, request = world.byTarget(read.target)
    if (request === null || read.field('x-tag') !== String(request.id) || request.spec.method !== read.method) return world.fail(`origin ${this.index} got a request that nobody sent: ${read.headText}`)
    if (request.client.near.bytesRead <= request.from) world.fail(`request ${request.id} reached an origin before it was sent`)
    request.sent++
    if (request.sent > 1 && !isIdempotent(read.method)) world.fail(`request ${request.id} (${read.method}) was sent twice`)
    if (request.sent > 3) world.fail(`request ${request.id} was sent ${request.sent} times`)
    if (request.logged > 0 && request.sent === 0) world.fail(`request ${request.id} was sent after it was over`)
    const before = this.served.at(-1)
    if (before !== undefined) {
      if (!before.read.complete) world.fail(`request ${request.id} reached origin ${this.index} within request ${before.request.id}`)
      if (before.response === null || before.response.to > this.near.bytesRead) world.fail(`request ${request.id} reached origin ${this.index} before request ${before.request.id} was answered`)
      else if (!before.response.persistent) world.fail(`request ${request.id} reached origin ${this.index}, which had said that it closes`)
    }
    const upgrades = read.field('upgrade') !== null
    if (upgrades !== request.spec.upgrade) world.fail(`request ${request.id} asks for ${read.field('upgrade')}`)
    this.served.push({ request, read, response: null, checked: 0 })
    return undefined
  }

  #onComplete(read: ReadRequest): void {
    const { request } = this.served.at(-1)!
    if (read.framing !== 'none' && (!request.whole || request.spec.broken)) this.world.fail(`request ${request.id} is whole for origin ${this.index}, but not for its client`)
  }

  /** It owes an answer, or something waits to be read. */
  get busy(): boolean { return this.unanswered !== null || this.near.undelivered > 0 }

  get unanswered(): ModelRequest | null {
    const last = this.served.at(-1)
    return last === undefined || last.response !== null ? null : last.request
  }

  answer(spec: AnswerSpec): void {
    const last = this.served.at(-1)!, { request } = last
    if (spec.kind === '101' && !request.spec.upgrade) return this.answer({ ...spec, kind: 'length' })
    const head = request.spec.method === 'HEAD'
    const bodiless = head || spec.kind === '204' || spec.kind === '304' || spec.kind === '101'
    const status = spec.kind === '204' || spec.kind === '304' || spec.kind === '503' || spec.kind === '101' ? Number(spec.kind) : 200
    const persistent = !spec.close && (spec.kind !== 'close' || head) && spec.kind !== 'old' && spec.kind !== '101'
    const response: ModelResponse = this.world.addResponse({ request, status, size: bodiless ? 0 : spec.size, persistent, untilClose: spec.kind === 'close' && !bodiless, trailers: spec.trailers && spec.kind === 'chunked' && !bodiless })
    let text = `HTTP/1.${spec.kind === 'old' ? 0 : 1} ${status} Fine\r\nX-Rid: ${response.id}\r\n`
    if (spec.kind === '101') text += 'Connection: upgrade\r\nUpgrade: model\r\n'
    else {
      if (spec.kind === 'chunked') text += 'Transfer-Encoding: chunked\r\n'
      else if (spec.kind === 'length' || spec.kind === 'old' || spec.kind === '503') text += `Content-Length: ${spec.size}\r\n`
      if (spec.close) text += 'Connection: close\r\n'
    }
    this.enqueue(Buffer.from(text + '\r\n'))
    if (!bodiless) {
      if (spec.kind === 'chunked') this.enqueue(framed(response.body, spec.chunk, response.trailers ? `X-Tag: ${request.id}\r\n` : '', false))
      else if (response.body.length > 0) this.enqueue(response.body)
    }
    response.to = this.enqueued
    if (spec.extra && !response.untilClose && spec.kind !== '101') {
      this.garbage = true
      this.enqueue(Buffer.from('HTTP/1.1 200 Forged\r\nContent-Length: 0\r\n\r\n'))
    }
    if ((spec.kind === 'close' && !head) || (spec.kind === 'old' && bodiless)) this.finWhenSent = true
    last.response = response
    if (spec.kind === '101') this.tunnel = request
    return undefined
  }

  override fin(): void {
    const response = this.served.at(-1)?.response ?? null
    if (response !== null && response.untilClose) response.body = response.body.subarray(0, Math.max(0, response.body.length - (response.to - this.far.bytesWritten)))
    super.fin()
  }

  override send(max: number): boolean {
    const response = this.served.at(-1)?.response ?? null, within = response !== null && this.near.bytesRead < response.to
    const moved = super.send(max)
    // More came with the end of the response: it is known that the origin cannot be trusted.
    if (within && this.near.bytesRead > response.to) response.persistent = false
    if (!this.finWhenSent || this.hasPending || this.sentFin || !this.open) return moved
    this.fin()
    return true
  }
}

interface Dial { readonly peer: Peer; readonly waiter: DialWaiter; over: boolean }
interface Deferred { readonly resolve: () => void; readonly reject: () => void; readonly check: () => void }

/** What a hook of the model throws. */
class Planned extends Error {}

interface Ctx { request: ModelRequest | null }

// ---- the world

export class ExchangeWorld {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly options: WorldOptions
  readonly connector: HttpConnector
  readonly core: HttpProxyCore<Ctx>
  readonly service: ListeningBase<HttpListenerOptions, ResolvedHttpListenerOptions>
  readonly clients: Client[] = []
  readonly origins: Origin[] = []
  readonly responses = new Map<number, ModelResponse>()
  readonly requests: ModelRequest[] = []
  readonly #dials: Dial[] = []
  #deferred: Deferred[] = []
  readonly #upstreams: Http1ClientSession[] = []
  readonly #hooks: ReadonlySet<HookOfModel>
  readonly #peerOptions: HttpPeerOptions
  /** Peers handed out, each for one attempt, and how often that ended. */
  readonly #chosen: { readonly request: ModelRequest; ends: number }[] = []
  #begun = 0
  #logged = 0
  #drained: Promise<{ cut: number }> | null = null
  #drainOver = false
  /** The first contradiction; '' while there is none. */
  fault = ''

  constructor(options: WorldOptions) {
    this.options = options
    this.#hooks = new Set(options.hooks)
    const transport: Transport = {
      dial: (peer, waiter) => {
        const dial: Dial = { peer, waiter, over: false }
        this.#dials.push(dial)
        return { cancel: () => this.#dialOver(dial) }
      },
    }
    this.connector = new HttpConnector({
      ticker: this.ticker, transport, maxIdlePerKey: 3,
      createConnection: (stream, _peer, ticker) => {
        const session = new Http1ClientSession(stream, ticker)
        this.#upstreams.push(session)
        return session
      },
    })
    this.#peerOptions = Object.freeze({
      maxReplayBytes: options.maxReplayBytes, maxConnectionsPerPeer: options.maxConnectionsPerPeer, maxQueuedPerPeer: 2, queueTimeoutMs: 4000,
      idleTimeoutMs: options.idleTimeoutMs, firstByteTimeoutMs: 5000, readTimeoutMs: 5000, writeTimeoutMs: 5000, continueTimeoutMs: 300,
      maxInterimResponses: 3, retryBudgetPercent: 100,
    })
    this.core = new HttpProxyCore(this.#application(), {
      connector: this.connector, accessLog: null, tunnelIdleTimeoutMs: 8000, maxActiveRequests: options.maxActiveRequests, viaName: 'model',
      tracers: [{ exchangeEnded: summary => this.#traced(summary) }],
      listener: {
        headTimeoutMs: 5000, keepAliveTimeoutMs: 6000, bodyIdleTimeoutMs: 5000, sendTimeoutMs: 5000, lingerIdleMs: 1000, lingerTotalMs: 4000, maxDiscardBytes: 3000,
        maxRequestBodyBytes: options.maxRequestBodyBytes, maxRequestsPerConnection: options.maxRequestsPerConnection,
      },
    })
    this.service = new ListeningBase(this.core.name, this.core).addTcp('127.0.0.1:0')
  }

  has(hook: HookOfModel): boolean { return this.#hooks.has(hook) }

  fail(what: string): void { this.fault ||= what }

  byTarget(target: string): ModelRequest | null { return /^\/r[0-9]+$/.test(target) ? this.requests[Number(target.slice(2))] ?? null : null }

  addRequest(client: Client, spec: RequestSpec): ModelRequest {
    const request = new ModelRequest(this.requests.length, client, spec, this.options.keepsLength)
    this.requests.push(request)
    return request
  }

  addResponse(given: { request: ModelRequest; status: number; size: number; persistent: boolean; untilClose: boolean; trailers: boolean }): ModelResponse {
    const id = this.responses.size, { size, ...rest } = given
    const response: ModelResponse = { ...rest, id, body: bodyOf(50_000 + id, size), to: 0 }
    this.responses.set(id, response)
    return response
  }

  /** The body that the client must get. */
  expectedOf(given: ModelResponse): Buffer {
    const filters = this.has('responseBodyFilter'), change = given.request.responseChange, parts = [filters ? changed(change, given.body, 0) : given.body]
    if (filters && change === 'double') parts.push(TAIL)
    if (given.trailers && this.has('responseTrailerFilter')) parts.push(TRAILED)
    return Buffer.concat(parts)
  }

  // ---- the application

  #stats(): OpenCounts { return sumCounts([this.service.stats()]) }

  #application(): ProxyHttp<Ctx> {
    const of = (session: Session): ModelRequest => {
      const request = this.byTarget(session.request.target)!
      if (request.logged > 0) this.fail(`a hook of request ${request.id} ran after logging`)
      return request
    }
    const app: ProxyHttp<Ctx> = {
      newCtx: () => {
        this.#begun++
        if (this.has('newCtx') && this.#begun % 17 === 0) throw new Planned('newCtx')
        return { request: null }
      },
      earlyRequestFilter: (session, ctx) => {
        const request = ctx.request = of(session)
        request.session = session
        if (++request.begun > 1) this.fail(`request ${request.id} began twice`)
        if (session.clientIp !== '127.0.0.1') this.fail('the client has another address')
      },
      upstreamPeer: session => {
        const request = of(session)
        request.upstream = null
        const wait = this.has('slowPeer') ? this.#act(request, null) : null
        return wait === null ? this.#choosePeer(request) : wait.then(() => this.#choosePeer(request))
      },
      suppressErrorLog: () => true,
      logging: (session, error, ctx) => this.#logging(session, error, ctx),
    }
    if (this.has('requestFilter')) app.requestFilter = session => this.#requestFilter(of(session), session)
    if (this.has('proxyUpstreamFilter')) app.proxyUpstreamFilter = session => this.#act(of(session), 'continue')
    if (this.has('connectedToUpstream')) {
      app.connectedToUpstream = (session, connection) => {
        const request = of(session), origin = this.origins.find(one => one.near.digest === connection.digest)!
        const user = this.requests.find(other => other !== request && other.upstream === origin && other.holdsUpstream)
        if (user !== undefined) this.fail(`requests ${user.id} and ${request.id} have one connection to origin ${origin.index}`)
        request.upstream = origin
        if (connection.reused && origin.enqueued > 0 && origin.near.bytesRead !== origin.served.at(-1)!.response?.to) this.fail(`request ${request.id} got a connection with unread bytes`)
        return this.#act(request, undefined)
      }
    }
    if (this.has('upstreamRequestFilter')) {
      app.upstreamRequestFilter = (session, head) => {
        head.headers.set('X-Attempt', String(session.attempts))
        return this.#act(of(session), undefined)
      }
    }
    if (this.has('requestBodyFilter')) app.requestBodyFilter = (session, chunk, last) => this.#requestBody(of(session), session, chunk, last)
    if (this.has('requestTrailerFilter')) app.requestTrailerFilter = (session, trailers) => this.#trailers(of(session), trailers)
    if (this.has('interimResponseFilter')) app.interimResponseFilter = session => of(session).next() < 0.2 ? 'drop' : 'forward'
    if (this.has('upstreamResponseFilter')) {
      app.upstreamResponseFilter = (session, head) => {
        head.headers.append('X-Seen', 'upstream')
        return this.#act(of(session), undefined)
      }
    }
    if (this.has('responseFilter')) {
      app.responseFilter = (session, head) => {
        head.headers.set('X-Seen', 'response')
        return this.#act(of(session), undefined)
      }
    }
    if (this.has('responseBodyFilter')) app.responseBodyFilter = (session, chunk, last) => this.#responseBody(of(session), session, chunk, last)
    if (this.has('responseTrailerFilter')) {
      app.responseTrailerFilter = (session, trailers) => {
        const request = of(session)
        if (trailers.get('x-tag') !== String(request.id)) this.fail(`request ${request.id} got the trailers of another`)
        return this.#act(request, TRAILED)
      }
    }
    if (this.has('failToProxy')) app.failToProxy = session => this.#failToProxy(of(session), session)
    if (this.has('persistConnectionContext')) {
      app.persistConnectionContext = session => this.byTarget(session.request.target)
      app.onConnectionReuse = (session, _ctx, kept) => {
        const request = this.byTarget(session.request.target)!
        if (!(kept instanceof ModelRequest) || kept.client !== request.client || request.client.requests.indexOf(request) !== request.client.requests.indexOf(kept) + 1) this.fail(`request ${request.id} got what another connection kept`)
      }
    }
    if (this.has('module')) {
      const module: HttpModule<{ done: number }> = {
        name: 'model', keepsLength: true,
        newState: () => ({ done: 0 }),
        requestFilter: session => this.#act(of(session), 'continue'),
        responseFilter: session => this.#act(of(session), undefined),
        responseBodyFilter: (session, chunk) => this.#act(of(session), chunk),
        responseDone: (session, state) => { if (++state.done > 1) this.fail(`request ${this.byTarget(session.request.target)!.id} was done twice`) },
      }
      Object.assign(app, { modules: [module] })
    }
    if (this.options.keepsLength) Object.assign(app, { keepsLength: { request: true, response: true } })
    return app
  }

  #choosePeer(request: ModelRequest): Peer {
    const chosen = { request, ends: 0 }, host = request.id % 3 === 0 ? '10.0.0.2' : '10.0.0.1'
    this.#chosen.push(chosen)
    const ended = (): void => { if (++chosen.ends > 1) this.fail(`an attempt of request ${request.id} ended twice`) }
    return new HttpPeer({ peerAddress: { kind: 'tcp', host, port: 80 }, name: `${host}:80`, report: ended, release: ended }, this.#peerOptions)
  }

  /** Now, later, or never: as the request's flavor has it. */
  #act<T>(request: ModelRequest, value: T, check: () => void = () => {}): T | Promise<T> {
    if (request.spec.flavor === 0) return value
    const choice = request.next()
    if (choice < 0.7) return value
    if (choice < 0.75) throw new Planned('a hook')
    return new Promise<T>((resolve, reject) => {
      this.#deferred.push({ check, resolve: () => resolve(value), reject: () => reject(new Planned('a promise')) })
    })
  }

  #requestFilter(request: ModelRequest, session: Session): Verdict | Promise<Verdict> {
    const choice = request.spec.flavor === 0 ? 1 : request.next()
    if (choice < 0.06) return this.#respond(request, session, 200, bodyOf(70_000 + request.id, Math.floor(request.next() * 9000)))
    if (choice < 0.12) return this.#respondInPieces(request, session)
    if (choice < 0.2) {
      return session.readBody(12_000).then(body => {
        if (!body.equals(request.body)) this.fail(`readBody of request ${request.id} gave other bytes`)
        if (!request.whole) this.fail(`readBody of request ${request.id} was done too early`)
        return 'continue'
      })
    }
    if (choice < 0.25) session.sendInterim(103, { 'X-Tag': String(request.id) })
    return this.#act(request, 'continue')
  }

  #respond(request: ModelRequest, session: Session, status: number, body: Buffer): 'responded' {
    request.own = body
    request.ownWhole = true
    return session.respond(status, { 'X-Own': String(request.id) }, Buffer.from(body))
  }

  #respondInPieces(request: ModelRequest, session: Session): 'responded' {
    const body = bodyOf(70_000 + request.id, Math.floor(request.next() * 20_000))
    const wait = (): Promise<void> => new Promise(resolve => { this.#deferred.push({ check: () => {}, resolve, reject: resolve }) })
    request.own = body
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < body.length;) {
        const size = 1 + Math.floor(request.next() * 6000)
        if (request.next() < 0.3) await wait()
        if (request.next() < 0.1) throw new Planned('the body of an answer')
        yield Buffer.from(body.subarray(at, at + size))
        at += size
      }
      request.ownWhole = true
    }
    return session.respond(200, { 'X-Own': String(request.id) }, pieces())
  }

  #failToProxy(request: ModelRequest, session: Session): FailToProxy | void | Promise<FailToProxy | void> {
    const choice = request.spec.flavor === 0 ? 1 : request.next()
    if (choice < 0.1) return { status: 0, canReuseDownstream: false }
    if (choice < 0.5) {
      this.#respond(request, session, 502, bodyOf(80_000 + request.id, Math.floor(request.next() * 300)))
      return this.#act<FailToProxy>(request, { status: 502, canReuseDownstream: choice < 0.4 })
    }
    return this.#act<FailToProxy | void>(request, undefined)
  }

  #requestBody(request: ModelRequest, session: Session, chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> {
    if (request.filterAttempt !== session.attempts) {
      request.filterAttempt = session.attempts
      request.requestSeen = 0
      request.requestSeenLast = false
    }
    const at = request.requestSeen
    if (request.requestSeenLast) this.fail(`the request filter of ${request.id} was called behind the end`)
    if (!chunk.equals(request.body.subarray(at, at + chunk.length))) this.fail(`the request filter of ${request.id} was shown other bytes`)
    request.requestSeen += chunk.length
    request.requestSeenLast = last
    if (last && (request.requestSeen !== request.body.length || !request.whole)) this.fail(`the request filter of ${request.id} was told an end that is none`)
    return this.#piece(request, session, chunk, changed(request.requestChange, chunk, at), last && request.requestChange === 'double')
  }

  #responseBody(request: ModelRequest, session: Session, chunk: Buffer, last: boolean): BodyResult | Promise<BodyResult> {
    const given = this.responses.get(Number(session.response!.headers.get('x-rid')))!
    const at = request.responseSeen
    if (request.responseSeenLast) this.fail(`the response filter of ${request.id} was called behind the end`)
    if (!chunk.equals(given.body.subarray(at, at + chunk.length))) this.fail(`the response filter of ${request.id} was shown other bytes`)
    request.responseSeen += chunk.length
    request.responseSeenLast = last
    if (last && request.responseSeen !== given.body.length) this.fail(`the response filter of ${request.id} was told an end that is none`)
    return this.#piece(request, session, chunk, changed(request.responseChange, chunk, at), last && request.responseChange === 'double')
  }

  /** A piece goes on now, in a while, or after a promise, and is left alone until then. */
  #piece(request: ModelRequest, session: Session, chunk: Buffer, out: Buffer, tail: boolean): BodyResult | Promise<BodyResult> {
    let result: BodyResult = tail ? Buffer.concat([out, TAIL]) : out
    if (out.length === 0 && !tail && request.id % 2 === 0) result = null
    if (request.spec.flavor !== 0 && request.next() < 0.2) result = { chunk: result as Buffer | null, delayMs: 1 + Math.floor(request.next() * 60) }
    const before = Buffer.from(chunk), { attempts } = session
    return this.#act(request, result, () => {
      if (request.logged === 0 && session.attempts === attempts && session.error === null && !chunk.equals(before)) this.fail(`a piece of request ${request.id} changed under its filter`)
    })
  }

  #trailers(request: ModelRequest, trailers: HeaderMap): void | Promise<void> {
    if (trailers.get('x-tag') !== String(request.id)) this.fail(`request ${request.id} brought the trailers of another`)
    return this.#act(request, undefined)
  }

  #logging(session: Session, error: ProxyError | null, ctx: Ctx | undefined): void {
    const request = this.byTarget(session.request.target)!
    this.#logged++
    if (++request.logged > 1) this.fail(`request ${request.id} was logged ${request.logged} times`)
    if (ctx !== undefined && ctx.request !== null && ctx.request !== request) this.fail(`request ${request.id} was logged with the state of ${ctx.request.id}`)
    request.error = error
    if (error === null) return
    const { kind, source, cause } = error
    if (cause instanceof AssertionError) this.fail(`request ${request.id}: ${cause.stack}`)
    if (kind === 'HOOK_FAILED' && !(cause instanceof Planned)) this.fail(`request ${request.id}: ${error.message} ${cause instanceof Error ? cause.stack : ''}`)
    if (kind === 'LENGTH_MISMATCH' || kind === 'INTERNAL' || kind === 'LOOP_DETECTED' || kind === 'TOO_MANY_INTERIM' && !this.origins.some(origin => origin.served.some(one => one.request === request && one.checked > 3))) this.fail(`request ${request.id}: ${error.message}`)
    if (source === 'upstream' && (kind === 'BAD_HEAD' || kind === 'BAD_FRAMING' || kind === 'BAD_UPGRADE' || kind === 'VERSION_NOT_SUPPORTED') && !this.origins.some(origin => origin.garbage)) this.fail(`request ${request.id}: ${error.message}`)
    if (source === 'downstream' && (kind === 'BAD_FRAMING' || kind === 'BAD_HEAD') && !request.spec.broken) this.fail(`request ${request.id}: ${error.message}`)
  }

  #traced(summary: ExchangeSummary): void {
    const request = this.byTarget(summary.target)!
    if (++request.tracedEnds > 1) this.fail(`the end of request ${request.id} was traced twice`)
    if (request.logged > 0) this.fail(`request ${request.id} was traced behind logging`)
  }

  // ---- steps

  #dialOver(dial: Dial): void {
    dial.over = true
    const at = this.#dials.indexOf(dial)
    if (at !== -1) this.#dials.splice(at, 1)
  }

  #dialed(dial: Dial, accept: boolean): void {
    this.#dialOver(dial)
    if (!accept) {
      dial.waiter.onDialFailed(new ProxyError('CONNECT_REFUSED', 'upstream', 'the model refused', { retry: 'always' }))
      return
    }
    const origin = new Origin(this, this.origins.length, this.options.originKernelBytes)
    this.origins.push(origin)
    dial.waiter.onDialed(origin.near, null)
  }

  #settle(deferred: Deferred, ok: boolean): void {
    this.#deferred = this.#deferred.filter(one => one !== deferred)
    deferred.check()
    if (ok) deferred.resolve()
    else deferred.reject()
  }

  #pass(ms: number): void {
    for (const end of [...this.clients, ...this.origins]) if (ms > 500 && end.near.undelivered > 0) end.slow = true
    this.clock.advance(ms)
  }

  #openClients(): Client[] { return this.clients.filter(client => client.open) }
  #openOrigins(): Origin[] { return this.origins.filter(origin => origin.open) }

  /** One step, and everything that follows from it by itself. */
  async step(step: Step): Promise<void> {
    this.#take(step)
    await this.settleTurn()
    this.check()
  }

  #take(step: Step): void {
    switch (step.t) {
      case 'connect': {
        if (this.#openClients().length >= 4 || this.#drainOver) return
        const client = new Client(this, this.clients.length, this.options.clientKernelBytes)
        this.clients.push(client)
        admit(this.service, client.near, this.service.listeners[0]!.name)
        return
      }
      case 'request': {
        const client = pick(this.#openClients().filter(one => !one.garbage && !one.sentFin && one.tunnel === null && !one.requests.some(request => request.spec.upgrade && !request.completed) && one.requests.length - one.reader.completed < 4), step.at)
        if (client === null) return
        client.request(step.spec)
        client.send(step.send)
        return
      }
      case 'clientSend': pick(this.#openClients().filter(one => one.hasPending || one.far.undelivered > 0), step.at)?.send(step.bytes); return
      case 'clientRead': pick(this.#openClients().filter(one => one.near.undelivered > 0), step.at)?.read(step.bytes); return
      case 'originSend': pick(this.#openOrigins().filter(one => one.hasPending || one.far.undelivered > 0), step.at)?.send(step.bytes); return
      case 'originRead': pick(this.#openOrigins().filter(one => one.near.undelivered > 0), step.at)?.read(step.bytes); return
      case 'clientFin': pick(this.#openClients().filter(one => !one.sentFin), step.at)?.fin(); return
      case 'clientReset': pick(this.#openClients(), step.at)?.cut(); return
      case 'clientGarbage': {
        const client = pick(this.#openClients().filter(one => !one.garbage && !one.sentFin && one.tunnel === null && !one.requests.some(request => request.spec.upgrade && !request.completed)), step.at)
        if (client === null) return
        client.garbage = true
        client.reader.expect({ method: 'GET', old: false, upgrade: false })
        client.enqueue(Buffer.from('GET / HTTP/1.1\r\nHost : a\r\n\r\n'))
        return
      }
      case 'originFin': this.#leaving(step.at)?.fin(); return
      case 'originReset': this.#leaving(step.at)?.cut(); return
      case 'originGarbage': {
        const origin = pick(this.#openOrigins().filter(one => !one.sentFin && !one.garbage && one.tunnel === null && one.served.at(-1)?.response?.untilClose !== true), step.at)
        if (origin === null) return
        origin.garbage = true
        origin.enqueue(Buffer.from('garbage\r\n\r\n'))
        origin.send(100)
        return
      }
      case 'clientTunnel': {
        const client = pick(this.#openClients().filter(one => one.tunnel !== null && !one.sentFin), step.at)
        if (client !== null) this.#tunnelBytes(client, client.tunnel!)
        return
      }
      case 'originTunnel': {
        const origin = pick(this.#openOrigins().filter(one => one.tunnel !== null && one.tunnel.tunnel !== null && !one.sentFin), step.at)
        if (origin !== null) this.#tunnelBytes(origin, origin.tunnel!)
        return
      }
      case 'dial': {
        const dial = pick(this.#dials, step.at)
        if (dial !== null) this.#dialed(dial, step.accept)
        return
      }
      case 'answer': {
        const origin = pick(this.#openOrigins().filter(one => one.unanswered !== null && !one.garbage && !one.sentFin), step.at)
        if (origin === null) return
        origin.answer(step.spec)
        origin.send(step.send)
        return
      }
      case 'interim': {
        const origin = pick(this.#openOrigins().filter(one => one.unanswered !== null && !one.garbage && !one.sentFin), step.at)
        if (origin === null) return
        const last = origin.served.at(-1)!
        last.checked++
        origin.enqueue(Buffer.from(`HTTP/1.1 ${step.status} Soon\r\nX-Tag: ${last.request.id}\r\n\r\n`))
        origin.send(1000)
        return
      }
      case 'settle': {
        const deferred = pick(this.#deferred, step.at)
        if (deferred !== null) this.#settle(deferred, step.ok)
        return
      }
      case 'pass': this.#pass(step.ms); return
      case 'flow': this.#flow(step.bytes); return
      case 'serve': {
        for (const dial of this.#dials.slice()) this.#dialed(dial, true)
        this.#flow(Infinity)
        for (const origin of this.#openOrigins()) {
          if (origin.unanswered !== null && !origin.garbage && !origin.sentFin) origin.answer(step.spec)
        }
        this.#flow(Infinity)
        return
      }
      case 'drain':
        this.#drain(step.mode)
        return
    }
  }

  /** An origin that goes away; half of the time one that owes an answer. */
  #leaving(at: number): Origin | null {
    const there = this.#openOrigins().filter(one => !one.sentFin)
    return (at % 2 === 0 ? pick(there.filter(one => one.busy), at >> 1) : null) ?? pick(there, at)
  }

  #tunnelBytes(end: End, request: ModelRequest): void {
    const tunnel = request.tunnel!, bytes = 1 + (request.id * 997 + tunnel.sentByClient + tunnel.sentByOrigin) % 7000
    const byClient = end instanceof Client, from = byClient ? tunnel.sentByClient : tunnel.sentByOrigin
    if (from + bytes > 60_000) return
    end.enqueue(bodyOf((byClient ? 100_000 : 200_000) + request.id, from + bytes).subarray(from))
    if (byClient) tunnel.sentByClient += bytes
    else tunnel.sentByOrigin += bytes
    end.send(bytes)
  }

  /** Everything goes on, up to `bytes` a connection and direction. */
  #flow(bytes: number): boolean {
    let moved = false
    for (const end of [...this.#openClients(), ...this.#openOrigins()]) {
      if (end.send(bytes)) moved = true
      if (end.read(bytes)) moved = true
    }
    return moved
  }

  #drain(mode: 'retire' | 'stop'): void {
    if (this.#drained !== null) return
    this.#drained = this.service.drain({ mode, hardDrainMs: 20_000, idleDrainMs: 500, closeSpreadMs: 100, webSocketDrainMs: 3000, tunnelDrainMs: 3000 })
    void this.#drained.then(() => { this.#drainOver = true })
  }

  /** Promises, ticks of the process, and ends of streams that are due. */
  async settleTurn(): Promise<void> {
    await new Promise(setImmediate)
    let ended = false
    for (const end of [...this.clients, ...this.origins]) {
      if ((end.near.destroyed || end.far.destroyed) && end.ends()) ended = true
    }
    if (ended) await this.settleTurn()
  }

  // ---- what must hold between steps

  check(): void {
    if (this.fault !== '') throw new Error(this.fault)
    const stats = this.#stats(), active = this.#begun - this.#logged
    if (stats.activeExchanges !== active) throw new Error(`the service counts ${stats.activeExchanges} exchanges, ${active} are under way`)
    let lent = 0, idle = 0
    for (const session of this.#upstreams) {
      if (session.poolLent > 0) lent++
      else if (!session.stream.destroyed) idle++
    }
    const sum = { active: 0, idle: 0, dialling: 0, waiting: 0 }
    for (const row of this.connector.stats()) {
      sum.active += row.active
      sum.idle += row.idle
      sum.dialling += row.dialling
      sum.waiting += row.waiting
      const max = this.options.maxConnectionsPerPeer
      if (max !== 0 && row.active + row.idle + row.dialling > max) throw new Error(`${row.active + row.idle + row.dialling} connections to ${row.peer}, over ${max}`)
    }
    if (sum.active !== lent || sum.idle !== idle || sum.dialling !== this.#dials.length) throw new Error(`the pool counts ${JSON.stringify(sum)}; ${lent} are lent, ${idle} idle, ${this.#dials.length} dialling`)
    if (this.connector.pool.idle !== idle) throw new Error(`the pool counts ${this.connector.pool.idle} idle, there are ${idle}`)
    if (lent + this.#dials.length + sum.waiting > active) throw new Error(`${lent} connections lent, ${this.#dials.length} dialled, ${sum.waiting} waited for, by ${active} exchanges`)
  }

  // ---- the end

  /** Everybody does what they should, at once: whatever is under way must come to its end without a timeout. */
  async cooperate(): Promise<void> {
    let idleRounds = 0
    for (let round = 0; idleRounds < 150; round++) {
      if (round > 5000) throw new Error('the exchanges do not come to an end')
      let moved = this.#deferred.length > 0 || this.#dials.length > 0
      for (const deferred of this.#deferred.slice()) this.#settle(deferred, true)
      for (const dial of this.#dials.slice()) this.#dialed(dial, true)
      if (this.#flow(Infinity)) moved = true
      for (const origin of this.#openOrigins()) {
        if (origin.unanswered !== null && !origin.garbage && !origin.sentFin) {
          origin.answer({ kind: 'length', size: 10, chunk: 10, close: false, trailers: false, extra: false })
          moved = true
        }
        if (origin.tunnel !== null && !origin.sentFin && !origin.hasPending && origin.far.undelivered === 0 && (origin.sawFin || origin.tunnel.tunnel !== null)) {
          origin.fin()
          moved = true
        }
        if (origin.sawFin && !origin.sentFin && !origin.hasPending) origin.fin()
        if (origin.garbage && !origin.sentFin && !origin.hasPending) origin.fin()
      }
      for (const client of this.#openClients()) {
        if (client.sentFin || client.hasPending || client.far.undelivered > 0) continue
        if (client.sawFin || client.tunnel !== null) {
          client.fin()
          moved = true
        }
      }
      await this.settleTurn()
      this.check()
      // What just came to its end may have written its last bytes.
      if (moved || this.#flow(Infinity)) idleRounds = 0
      else if (this.#stats().activeExchanges === 0 && this.#drained === null) break
      else {
        idleRounds++
        this.clock.advance(10)
      }
    }
    this.#settled()
  }

  /** With nothing more to move, nothing is under way and everybody has what they were promised. */
  #settled(): void {
    const stats = this.#stats()
    const open = this.requests.filter(request => request.begun > request.logged).map(request => request.id)
    if (stats.activeExchanges !== 0) throw new Error(`requests ${open.join()} are stuck: ${JSON.stringify(stats)}`)
    for (const client of this.clients) {
      if (client.open && !client.near.destroyed && !client.garbage && !client.sentFin) {
        if (client.reader.completed < client.requests.length) throw new Error(`client ${client.index} waits for request ${client.requests[client.reader.completed]!.id} for ever`)
      }
      if (client.didCut || client.wasCut || client.slow) continue
      for (const request of client.requests) {
        if (request.logged > 0 && request.error === null && !request.completed) throw new Error(`request ${request.id} is logged as answered; its client got ${request.expectedAt} bytes of the answer (${request.framing})`)
      }
    }
    for (const request of this.requests) {
      if (request.completed && request.error !== null && request.answeredBy !== null && (request.framing === 'chunked' || request.framing === 'close')) throw new Error(`request ${request.id} failed (${request.error.message}), but its answer looks whole`)
      if (request.completed && request.logged === 0 && request.expected !== null) throw new Error(`request ${request.id} was answered and not logged`)
    }
  }

  /** Ends the service and shows that nothing is left. */
  async end(how: 'close' | 'retire' | 'stop'): Promise<void> {
    if (how !== 'close') this.#drain(how)
    if (this.#drained !== null) {
      for (let ms = 0; !this.#drainOver && ms < 40_000; ms += 100) {
        this.clock.advance(100)
        await this.settleTurn()
      }
      if (!this.#drainOver) throw new Error(`the drain does not end: ${JSON.stringify(this.#stats())}`)
      if (this.#stats().connections !== 0) throw new Error('the drain left connections')
    }
    this.service.close()
    await this.settleTurn()
    this.check()
    for (const deferred of this.#deferred.slice()) this.#settle(deferred, true)
    await this.settleTurn()
    this.clock.advance(200)
    await this.settleTurn()
    this.check()
    const { connections, idleConnections, activeExchanges, upgraded } = this.#stats()
    if (connections !== 0 || idleConnections !== 0 || activeExchanges !== 0 || upgraded !== 0) throw new Error(`left open: ${JSON.stringify(this.#stats())}`)
    for (const end of [...this.clients, ...this.origins]) if (!end.near.destroyed) throw new Error(`${end.near.digest.remoteAddress} was left open`)
    const ofService = this.core.ticker.size
    if (ofService !== 0 || this.ticker.size !== 0) throw new Error(`left ticking: ${ofService} of the service, ${this.ticker.size} of the connector`)
    if (this.clock.pending !== 0) throw new Error(`${this.clock.pending} timers were left`)
    if (this.connector.stats().length !== 0 || this.connector.pool.idle !== 0) throw new Error(`left in the pool: ${JSON.stringify(this.connector.stats())}`)
    if (this.#dials.length !== 0) throw new Error('a dial was left')
    for (const { request, ends } of this.#chosen) if (ends !== 1) throw new Error(`an attempt of request ${request.id} ended ${ends} times`)
    for (const request of this.requests) {
      if (request.logged !== request.tracedEnds) throw new Error(`request ${request.id} was logged ${request.logged} times and traced ${request.tracedEnds} times`)
      if (request.begun > request.logged) throw new Error(`request ${request.id} began and was never logged`)
    }
  }
}

function pick<T>(from: readonly T[], at: number): T | null { return from.length === 0 ? null : from[at % from.length]! }
