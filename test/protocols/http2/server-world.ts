/**
 * A connection of HTTP/2 whose application and whose client are the test: frames in, frames out, each in words; time and delivery
 * are in the test's hand.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { ProxyError } from '../../../src/errors/proxy-error.ts'
import { FieldLines } from '../../../src/http/field-lines.ts'
import type { HeaderMap } from '../../../src/http/header-map.ts'
import { ResponseHead } from '../../../src/http/message-head.ts'
import { Ticker } from '../../../src/primitives/clock.ts'
import { HTTP1_SERVER_DEFAULTS, type Http1ServerOptions } from '../../../src/protocols/http1/http1-options.ts'
import type { AcceptingListener, ConnectionHost, RequestOwner } from '../../../src/protocols/http-connection.ts'
import { BODY_UNKNOWN, type DownstreamSession } from '../../../src/protocols/http-session.ts'
import { ErrorCode } from '../../../src/protocols/http2/error-code.ts'
import { FrameReader, type FrameSink } from '../../../src/protocols/http2/frame-reader.ts'
import { Flag, FrameType, PREFACE, writeFrameHead } from '../../../src/protocols/http2/frames.ts'
import { HpackDecoder } from '../../../src/protocols/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../../src/protocols/http2/hpack-encoder.ts'
import { HTTP2_SERVER_DEFAULTS, type Http2ServerOptions } from '../../../src/protocols/http2/http2-options.ts'
import { Http2ServerConnection } from '../../../src/protocols/http2/server-connection.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryPair, WireEnd } from '../../support/memory-stream.ts'

export type Fields = readonly (readonly [name: string, value: string])[]

export const GET: Fields = [[':method', 'GET'], [':scheme', 'http'], [':path', '/'], [':authority', 'a.example']]
export const POST: Fields = [[':method', 'POST'], ...GET.slice(1)]

export function frame(type: number, flags: number, stream: number, payload: Buffer | string = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'hex') : payload, out = Buffer.alloc(9 + body.length)
  body.copy(out, writeFrameHead(out, 0, body.length, type, flags, stream))
  return out
}

/** An exchange of the test's. */
export class TestOwner implements RequestOwner {
  readonly session: DownstreamSession
  body = ''
  ended = false
  trailers: HeaderMap | null = null
  drained = 0
  readonly faults: ProxyError[] = []
  readonly #answersFaults: boolean
  #released = false

  constructor(session: DownstreamSession, flows: boolean, answersFaults: boolean) {
    this.session = session
    this.#answersFaults = answersFaults
    this.flows = flows
  }
  readonly flows: boolean

  begin(): void {
    this.ended = this.session.requestEnded
    if (this.flows) this.session.resumeRequest()
  }
  onRequestBody(buffer: Buffer, from: number, to: number): void {
    this.body += buffer.latin1Slice(from, to)
    // As a chunk's framing would: nobody else may lie there.
    buffer.fill(0xee, from - 20, to + 20)
  }
  onRequestEnd(trailers: HeaderMap | null): void {
    this.ended = true
    this.trailers = trailers
  }
  onDownstreamDrained(): void { this.drained++ }
  onDownstreamHalfClosed(): void {}
  onDownstreamFault(error: ProxyError): void {
    this.faults.push(error)
    if (error.status !== 0 && this.#answersFaults && !this.session.responseStarted) this.answer(error.status)
    else {
      this.session.abort()
      this.release()
    }
  }

  answer(status = 200, body = '', trailers: HeaderMap | null = null): void {
    this.session.writeHead(ResponseHead.build(status), trailers === null ? body.length : BODY_UNKNOWN, FieldLines.NONE)
    if (body !== '') this.session.writeBody(Buffer.from(body), 0, body.length, true)
    this.session.endResponse(trailers)
    this.release()
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.session.release()
  }
}

/** Frames of the side under test, in words. */
export class FramesInWords implements FrameSink {
  readonly words: string[] = []
  /** Header blocks, by stream. */
  readonly heads = new Map<number, Fields[]>()
  readonly bodies = new Map<number, string>()
  readonly #decoder = new HpackDecoder()
  #block: Buffer[] = []
  #endStream = 0
  #data = 0

  onFrame(type: number, flags: number, stream: number, payload: Buffer, from: number, to: number): boolean {
    const end = (flags & Flag.EndStream) !== 0 ? ' end' : ''
    switch (type) {
      case FrameType.Headers: case FrameType.Continuation: {
        if (type === FrameType.Headers) {
          this.#block = []
          this.#endStream = flags & Flag.EndStream
        }
        this.#block.push(Buffer.from(payload.subarray(from, to)))
        if ((flags & Flag.EndHeaders) === 0) break
        const block = Buffer.concat(this.#block), fields: (readonly [string, string])[] = []
        if (!this.#decoder.decode(block, 0, block.length, { onField: ({ name, value }) => { fields.push([name, value]) } })) {
          this.words.push('broken block')
        }
        this.heads.set(stream, [...this.heads.get(stream) ?? [], fields])
        this.words.push(`head ${stream} ${fields[0]?.[0] === ':status' ? fields[0][1] : 'trailers'}${this.#endStream === 0 ? '' : ' end'}`)
        break
      }
      case FrameType.RstStream: this.words.push(`reset ${stream} ${payload.readUInt32BE(from)}`); break
      case FrameType.Settings: this.words.push((flags & Flag.Ack) === 0 ? 'settings' : 'settings ack'); break
      case FrameType.Ping: this.words.push((flags & Flag.Ack) === 0 ? 'ping' : 'ping ack'); break
      case FrameType.GoAway: this.words.push(`goaway ${payload.readUInt32BE(from)} ${payload.readUInt32BE(from + 4)}`); break
      case FrameType.WindowUpdate: this.words.push(`window ${stream} ${payload.readUInt32BE(from)}`); break
      default: this.words.push(`frame ${type}${end}`)
    }
    return true
  }
  onDataHead(_flags: number, _stream: number, length: number): boolean {
    this.#data = length
    return true
  }
  onData(stream: number, payload: Buffer, from: number, to: number): void {
    this.bodies.set(stream, (this.bodies.get(stream) ?? '') + payload.latin1Slice(from, to))
  }
  onDataEnd(flags: number, stream: number): boolean {
    this.words.push(`data ${stream} ${this.#data}${(flags & Flag.EndStream) === 0 ? '' : ' end'}`)
    return true
  }
  onStreamError(): boolean { throw new Error('it broke a rule') }
  onConnectionError(_code: number, text: string): void { this.words.push(`broken: ${text}`) }
  onUnknown(): boolean { return true }
}

export interface WorldOptions {
  readonly http2?: Http2ServerOptions
  readonly http?: Http1ServerOptions
  readonly kernelBytes?: number
  /** Bodies are taken as they come. @default true */
  readonly flows?: boolean
  /** A fault with a status is answered with it. @default true */
  readonly answersFaults?: boolean
  /** The preface is exchanged. @default true */
  readonly opens?: boolean
}

export class H2World implements ConnectionHost, AcceptingListener {
  draining = false
  readonly clock = new FakeClock()
  readonly ticker = new Ticker(this.clock)
  readonly pair: MemoryPair
  readonly client: WireEnd
  readonly connection: Http2ServerConnection
  readonly owners: TestOwner[] = []
  readonly refusals: ProxyError[] = []
  closed = 0
  standing: 'idle' | 'unfinished' | 'active' = 'idle'
  readonly encoder = new HpackEncoder()
  readonly frames = new FramesInWords()
  readonly #reader = new FrameReader(this.frames, 16_384)
  readonly #options: WorldOptions
  #readTo = 0

  constructor(options: WorldOptions = {}) {
    this.#options = options
    this.pair = new MemoryPair({ kernelBytes: options.kernelBytes ?? Infinity })
    this.client = new WireEnd(this.pair.far)
    const http2 = { ...HTTP2_SERVER_DEFAULTS, ...options.http2 }
    const resolved = { ...HTTP1_SERVER_DEFAULTS, ...options.http, http2 }
    this.connection = new Http2ServerConnection(this.pair.near, 'test', resolved, this, this.ticker)
    this.connection.acceptedBy = this
    this.pair.near.owner = this.connection
  }

  /** With the preface behind it, unless it is not wanted. */
  static async open(options: WorldOptions = {}): Promise<H2World> {
    const world = new H2World(options)
    if (options.opens === false) return world
    await world.say(PREFACE, frame(FrameType.Settings, 0, 0), frame(FrameType.Settings, Flag.Ack, 0))
    world.words.length = 0
    return world
  }

  onRequest(session: DownstreamSession): RequestOwner {
    const owner = new TestOwner(session, this.#options.flows ?? true, this.#options.answersFaults ?? true)
    this.owners.push(owner)
    return owner
  }
  onRefused(_connection: unknown, error: ProxyError): void { this.refusals.push(error) }
  onIdle(): void { this.standing = 'idle' }
  onUnfinished(): void { this.standing = 'unfinished' }
  onActive(): void { this.standing = 'active' }
  replace(): void { throw new Error('nothing takes its place') }
  onClosed(): void { this.closed++ }

  get words(): string[] { return this.frames.words }
  /** What was said since the last time. */
  takeWords(): string[] { return this.words.splice(0) }

  block(fields: Fields): Buffer {
    this.encoder.length = 0
    this.encoder.begin()
    for (const [name, value] of fields) this.encoder.field(name, value)
    return Buffer.from(this.encoder.bytes.subarray(0, this.encoder.length))
  }

  /** HEADERS. */
  head(stream: number, fields: Fields = GET, flags: number = Flag.EndStream): Buffer {
    return frame(FrameType.Headers, flags | Flag.EndHeaders, stream, this.block(fields))
  }
  data(stream: number, body: string, flags = 0): Buffer { return frame(FrameType.Data, flags, stream, Buffer.from(body, 'latin1')) }

  /** The client sends these in one read, and everything that follows from it arrives. */
  async say(...frames: readonly Buffer[]): Promise<this> {
    if (frames.length > 0 && !this.pair.far.destroyed) this.client.send(Buffer.concat(frames))
    await this.settle()
    return this
  }

  async settle(): Promise<void> {
    for (let round = 0; round < 4; round++) {
      this.pair.settle()
      const { received } = this.client
      if (received.length > this.#readTo) this.#reader.push(received, this.#readTo, received.length)
      this.#readTo = received.length
      await turn()
    }
  }

  async wait(ms: number): Promise<this> {
    for (let left = ms; left > 0; left -= 100) this.clock.advance(Math.min(left, 100))
    await this.settle()
    return this
  }

  /** Nothing of the connection is left. */
  async end(): Promise<void> {
    this.client.stream.destroy()
    await this.settle()
  }

  /** The code with which the connection was ended; -1: it was not. */
  get goAwayCode(): number {
    const last = this.words.findLast(word => word.startsWith('goaway'))
    return last === undefined ? -1 : Number(last.split(' ')[2])
  }
}

export { ErrorCode, Flag, FrameType, PREFACE, turn }
