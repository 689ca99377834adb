/**
 * A connection to an origin in HTTP/2 whose exchanges and whose origin are the test: what is asked, frames in, frames out, each in
 * words; time and delivery are in the test's hand.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { HeaderMap } from '../../../src/http/header-map.ts'
import { RequestHead, type ResponseHead } from '../../../src/http/message-head.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import { HTTP1_CLIENT_DEFAULTS, type Http1ClientOptions } from '../../../src/protocols/http1/http1-options.ts'
import type { ConnectionKeeper, UpstreamConnection } from '../../../src/protocols/http-connection.ts'
import type { RequestSetup, UpstreamOwner, UpstreamSession } from '../../../src/protocols/http-session.ts'
import { Http2ClientConnection, type Http2ClientOptions } from '../../../src/protocols/http2/client-connection.ts'
import { Flag, FrameType, PREFACE } from '../../../src/protocols/http2/frames.ts'
import { FrameReader } from '../../../src/protocols/http2/frame-reader.ts'
import { HpackEncoder } from '../../../src/protocols/http2/hpack-encoder.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../../support/memory-stream.ts'
import { setupFor } from '../../support/request-setup.ts'
import { FramesInWords, frame, type Fields } from './server-world.ts'

const OPTIONS: Http2ClientOptions = {
  maxH2Streams: 100, h2StreamWindowBytes: 262_144, h2ConnectionWindowBytes: 4_194_304, h2PingIntervalMs: 0, h2PingTimeoutMs: 5000,
}

export class Asked implements UpstreamOwner {
  session!: UpstreamSession
  readonly interims: number[] = []
  head: ResponseHead | null = null
  length = 0
  body = ''
  ended = false
  trailers: HeaderMap | null = null
  drained = 0
  readonly faults: ProxyError[] = []
  pauses = false
  onInterim(head: ResponseHead): void { this.interims.push(head.status) }
  onResponseHead(head: ResponseHead, length: number): void {
    this.head = head
    this.length = length
    if (this.pauses) this.session.pauseResponse()
  }
  onResponseBody(buffer: Buffer, from: number, to: number): void {
    this.body += buffer.latin1Slice(from, to)
    buffer.fill(0xee, from - 20, to + 20)
  }
  onResponseEnd(trailers: HeaderMap | null): void {
    this.ended = true
    this.trailers = trailers
  }
  onUpstreamDrained(): void { this.drained++ }
  onUpstreamFault(error: ProxyError): void { this.faults.push(error) }
  get retry(): string { return this.faults[0]?.retry ?? 'none' }
}

export class World implements ConnectionKeeper {
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly pair: MemoryPair
  readonly origin: WireEnd
  readonly connection: Http2ClientConnection
  readonly frames = new FramesInWords()
  readonly #reader = new FrameReader(this.frames, 16_384)
  readonly #encoder = new HpackEncoder()
  #readTo = PREFACE.length
  readonly lost: string[] = []
  changes = 0

  constructor(options: Partial<Http2ClientOptions> = {}, kernelBytes = Infinity) {
    this.pair = new MemoryPair({ kernelBytes })
    this.origin = new WireEnd(this.pair.far)
    this.connection = new Http2ClientConnection(this.pair.near, this.ticker, { ...OPTIONS, ...options }, false)
    this.connection.keeper = this
  }

  static async open(options: Partial<Http2ClientOptions> = {}, kernelBytes = Infinity): Promise<World> {
    const world = new World(options, kernelBytes)
    await world.say(frame(FrameType.Settings, 0, 0), frame(FrameType.Settings, Flag.Ack, 0))
    world.words.length = 0
    return world
  }

  onParkedLost(_connection: UpstreamConnection, reason: string): void { this.lost.push(reason) }
  onCapacityChanged(): void { this.changes++ }
  get words(): string[] { return this.frames.words }
  takeWords(): string[] { return this.words.splice(0) }

  ask(
    { method = 'GET', length = 0, fields = [], more = {}, limits = {} }: {
      method?: string; length?: number; fields?: Fields; more?: Partial<RequestSetup>; limits?: Http1ClientOptions
    } = {},
  ): Asked {
    const asked = new Asked()
    asked.session = this.connection.begin(asked, { ...HTTP1_CLIENT_DEFAULTS, ...limits })
    const headers = HeaderMap.from([['Host', 'a.example'], ...fields])
    asked.session.writeHead(RequestHead.build(method, '/x?y', headers), setupFor(length, more))
    if (length === 0) asked.session.endRequest(null)
    return asked
  }

  head(stream: number, fields: Fields = [[':status', '200']], flags = 0): Buffer {
    this.#encoder.length = 0
    this.#encoder.begin()
    for (const [name, value] of fields) this.#encoder.field(name, value)
    const block = Buffer.from(this.#encoder.bytes.subarray(0, this.#encoder.length))
    return frame(FrameType.Headers, flags | Flag.EndHeaders, stream, block)
  }
  data(stream: number, body: string, flags = 0): Buffer { return frame(FrameType.Data, flags, stream, Buffer.from(body, 'latin1')) }

  async say(...frames: readonly Buffer[]): Promise<void> {
    if (frames.length > 0 && !this.pair.far.destroyed) this.origin.send(Buffer.concat(frames))
    for (let round = 0; round < 4; round++) {
      this.pair.settle()
      const { received } = this.origin
      if (received.length > this.#readTo) this.#reader.push(received, this.#readTo, received.length)
      this.#readTo = Math.max(this.#readTo, received.length)
      await turn()
    }
  }

  async wait(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 100) this.clock.advance(Math.min(left, 100))
    await this.say()
  }
}

export function uint32(value: number): string { return value.toString(16).padStart(8, '0') }
export function reset(stream: number, code: number): Buffer { return frame(FrameType.RstStream, 0, stream, uint32(code)) }
export function goAway(last: number, code = 0): Buffer { return frame(FrameType.GoAway, 0, 0, uint32(last) + uint32(code)) }
export function setting(id: number, value: number): Buffer {
  return frame(FrameType.Settings, 0, 0, id.toString(16).padStart(4, '0') + uint32(value))
}
export function ofLength(length: string): Fields { return [[':status', '200'], ['content-length', length]] }
export function windowUpdate(stream: number, bytes: number): Buffer { return frame(FrameType.WindowUpdate, 0, stream, uint32(bytes)) }
