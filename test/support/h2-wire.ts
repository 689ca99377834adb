/**
 * HTTP/2 as the sides of an exchange world write and read it (h2-sides.ts): streams are numbered 1, 2, 3 ... there, and are 1, 3, 5 ...
 * on the wire. The reader is the second opinion on what the proxy sent: it knows only what may be written, and calls everything else a
 * fault. Frames are cut and heads decoded by the proxy's own codec, which has tests of its own.
 */
import { FrameReader, type FrameSink } from '../../src/protocols/http2/frame-reader.ts'
import { Flag, FrameType as Type, PREFACE, readUint32, writeFrameHead } from '../../src/protocols/http2/frames.ts'
import { HpackDecoder } from '../../src/protocols/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../src/protocols/http2/hpack-encoder.ts'

export type Fields = [name: string, value: string][]
export type ReadFields = readonly (readonly [name: string, value: string])[]

export const ResetCode = { None: 0, Cancelled: 8, Refused: 7, Broken: 1 } as const
/** What the other side may send on a stream before it is told of more. */
export const FIRST_WINDOW = 12_000
/** The same where nothing is said. */
const UNSAID_WINDOW = 65_535
/** Streams that may be open at a time. */
export const FIRST_STREAMS = 8

export function fieldText(fields: Fields): Buffer { return Buffer.from(JSON.stringify(fields)) }
function readText(text: Buffer): Fields { return text.length === 0 ? [] : JSON.parse(text.toString()) as Fields }

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const out = Buffer.alloc(9 + payload.length)
  payload.copy(out, writeFrameHead(out, 0, payload.length, type, flags, stream))
  return out
}

function uint32(...values: number[]): Buffer {
  const out = Buffer.alloc(values.length * 4)
  for (const [at, value] of values.entries()) out.writeUInt32BE(value, at * 4)
  return out
}

function settings(...entries: readonly (readonly [number, number])[]): Buffer {
  const out = Buffer.alloc(entries.length * 6)
  for (const [at, [id, value]] of entries.entries()) {
    out.writeUInt16BE(id, at * 6)
    out.writeUInt32BE(value, at * 6 + 2)
  }
  return frame(Type.Settings, 0, 0, out)
}

const NOTHING = Buffer.alloc(0)

function onWire(id: number): number { return id * 2 - 1 }

export class H2Wire {
  readonly #encoder = new HpackEncoder()

  /** @param client it begins with the preface */
  opening(client: boolean): Buffer {
    // Of an origin the proxy knows no other window than the first before it asks.
    const first = client ? settings([4, FIRST_WINDOW]) : settings([3, FIRST_STREAMS], [8, 1])
    // What the other side says is taken for granted before it comes.
    const more = [frame(Type.Settings, Flag.Ack, 0, NOTHING), frame(Type.WindowUpdate, 0, 0, uint32(100_000_000))]
    return Buffer.concat([...client ? [PREFACE] : [], first, ...more])
  }

  head(id: number, fields: Fields, whole: boolean): Buffer {
    const encoder = this.#encoder
    encoder.length = 0
    encoder.begin()
    const isRequest = fields[0]![0] === ':method'
    for (const [name, value] of fields) {
      if (name === ':target') {
        encoder.field(':path', value)
        encoder.field(':scheme', 'http')
      } else if (name !== ':protocol' || isRequest) encoder.field(name, value)
    }
    const block = Buffer.from(encoder.bytes.subarray(0, encoder.length))
    return frame(Type.Headers, Flag.EndHeaders | (whole ? Flag.EndStream : 0), onWire(id), block)
  }

  data(id: number, bytes: Buffer): Buffer { return frame(Type.Data, 0, onWire(id), bytes) }

  end(id: number, trailers: Buffer): Buffer {
    const fields = readText(trailers)
    return fields.length === 0 ? frame(Type.Data, Flag.EndStream, onWire(id), NOTHING) : this.head(id, fields, true)
  }

  window(id: number, bytes: number): Buffer { return frame(Type.WindowUpdate, 0, onWire(id), uint32(bytes)) }
  reset(id: number, code: number): Buffer { return frame(Type.RstStream, 0, onWire(id), uint32(code)) }
  goAway(last: number): Buffer { return frame(Type.GoAway, 0, 0, uint32(last === 0 ? 0 : onWire(last), 0)) }
  streams(count: number): Buffer { return settings([3, count]) }
  /** What no rule allows. */
  garbage(): Buffer { return frame(Type.Data, 0, 0, Buffer.of(0)) }
}

export interface H2Watcher {
  /** A request's head (at an origin), or an interim or final one (at a client). `whole`: there is no body, nor end. */
  onHead(stream: number, fields: ReadFields, whole: boolean): void
  onData(stream: number, bytes: Buffer): void
  onMessageEnd(stream: number, trailers: ReadFields): void
  onReset(stream: number, code: number): void
  onWindow(stream: number, bytes: number): void
  onGoAway(last: number): void
  onStreams(count: number): void
}

/** What may come on one stream. */
class StrictStream {
  readonly id: number
  readonly method: string
  readonly protocol: boolean
  window = FIRST_WINDOW
  /** Announced and not here yet; -1: nothing was announced. */
  unread = -1
  headSeen = false
  ended = false
  /** The reading side reset it: whatever comes was on its way. */
  ignored = false
  constructor(id: number, method: string, protocol: boolean) {
    this.id = id
    this.method = method
    this.protocol = protocol
  }
}

const FORBIDDEN = [
  'connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'host', 'http2-settings', 'sec-websocket-key',
]
const NAME = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

export class StrictH2Reader implements FrameSink {
  /** What the first wrong byte did wrong; '' while all is well. Nothing is read after a fault. */
  fault = ''
  readonly #reads: 'requests' | 'responses'
  readonly #watcher: H2Watcher
  readonly #reader = new FrameReader(this, 16_384)
  readonly #decoder = new HpackDecoder()
  readonly #streams = new Map<number, StrictStream>()
  #preface: number
  #last = 0
  #goAway = Number.POSITIVE_INFINITY
  #block: Buffer[] = []
  #whole = false
  #data: Buffer[] = []

  constructor(reads: 'requests' | 'responses', watcher: H2Watcher) {
    this.#reads = reads
    this.#watcher = watcher
    this.#preface = reads === 'requests' ? PREFACE.length : 0
  }

  expect(id: number, method: string, protocol: boolean): void { this.#streams.set(id, new StrictStream(id, method, protocol)) }
  grant(id: number, bytes: number): void { this.#streams.get(id)!.window += bytes }
  ignore(id: number): void { this.#streams.get(id)!.ignored = true }

  push(bytes: Buffer): void {
    const skipped = Math.min(this.#preface, bytes.length)
    this.#preface -= skipped
    if (this.fault === '' && skipped < bytes.length) this.#reader.push(bytes, skipped, bytes.length)
  }

  #fail(fault: string): boolean {
    this.fault ||= fault
    return false
  }

  onUnknown(type: number): boolean { return this.#fail(`frame ${type}`) }
  onStreamError(stream: number, _code: number, text: string): boolean { return this.#fail(`${text} on ${stream}`) }
  onConnectionError(_code: number, text: string): void { this.#fail(text) }

  onFrame(type: number, flags: number, wire: number, payload: Buffer, from: number, to: number): boolean {
    const id = (wire + 1) / 2
    switch (type) {
      case Type.Headers: case Type.Continuation: {
        if (type === Type.Headers) {
          this.#block = []
          this.#whole = (flags & Flag.EndStream) !== 0
        }
        this.#block.push(Buffer.from(payload.subarray(from, to)))
        return (flags & Flag.EndHeaders) === 0 || this.#head(id, Buffer.concat(this.#block), this.#whole)
      }
      case Type.RstStream: {
        const stream = this.#streams.get(id)
        // The other side has refused what it was not asked yet, or what is over for it.
        if (stream === undefined) return this.#fail(`RST_STREAM on stream ${id}, which was never opened`)
        if (stream.ignored) return true
        stream.ended = true
        this.#watcher.onReset(id, readUint32(payload, from))
        return this.fault === ''
      }
      case Type.WindowUpdate:
        if (wire === 0) return true
        if (!this.#streams.has(id)) return this.#fail(`WINDOW_UPDATE on stream ${id}, which was never opened`)
        if (!this.#streams.get(id)!.ignored) this.#watcher.onWindow(id, readUint32(payload, from))
        return this.fault === ''
      case Type.GoAway: {
        const last = readUint32(payload, from), streams = last === 0x7fff_ffff ? Number.POSITIVE_INFINITY : (last + 1) / 2
        if (this.#reads === 'requests') return true
        if (streams > this.#goAway) return this.#fail('GOAWAY that takes back what it said')
        this.#goAway = streams
        this.#watcher.onGoAway(Math.floor(streams))
        return this.fault === ''
      }
      case Type.Settings: case Type.Ping: return true
      default: return this.#fail(`frame ${type}`)
    }
  }

  #head(id: number, block: Buffer, whole: boolean): boolean {
    const fields: [string, string][] = []
    const isDecoded = this.#decoder.decode(block, 0, block.length, { onField: ({ name, value }) => { fields.push([name, value]) } })
    if (!isDecoded) return this.#fail('a header block that cannot be decoded')
    let ordinary = false
    for (const [name, value] of fields) {
      if (!NAME.test(name) || !VALUE.test(value) || FORBIDDEN.includes(name)) return this.#fail(`field ${name}: ${value}`)
      if (name.startsWith(':') && ordinary) return this.#fail(`${name} behind other fields`)
      ordinary ||= !name.startsWith(':')
      const single = name.startsWith(':') || name === 'content-length' || name === 'date'
      if (single && fields.filter(([each]) => each === name).length > 1) return this.#fail(`${name} is repeated`)
    }
    const stream = this.#streams.get(id)
    if (this.#reads === 'requests' && stream === undefined) return this.#request(id, fields, whole)
    if (stream === undefined) return this.#fail(`HEADERS on stream ${id}, which was never opened`)
    if (stream.ignored) return true
    if (stream.headSeen) return this.#end(stream, fields, whole)
    return this.#response(stream, fields, whole)
  }

  #request(id: number, fields: Fields, whole: boolean): boolean {
    if (id !== this.#last + 1) return this.#fail(`a head on stream ${id} behind ${this.#last}`)
    this.#last = id
    const one = (name: string): string | undefined => fields.find(([each]) => each === name)?.[1]
    const method = one(':method'), path = one(':path'), protocol = one(':protocol'), length = one('content-length')
    if (method === undefined || path === undefined || one(':scheme') !== 'http' || one(':authority') === undefined) {
      return this.#fail('the pseudo-fields are not those of a request')
    }
    if ((method === 'CONNECT') !== (protocol !== undefined) || (protocol !== undefined && whole)) return this.#fail('a switch that is none')
    const stream = new StrictStream(id, method, protocol !== undefined)
    stream.window = UNSAID_WINDOW
    stream.headSeen = true
    stream.ended = whole
    stream.unread = length === undefined ? -1 : Number(length)
    if (whole && stream.unread > 0) return this.#fail('a body that is announced and none')
    this.#streams.set(id, stream)
    const told: Fields = []
    for (const [name, value] of fields) if (name !== ':scheme') told.push([name === ':path' ? ':target' : name, value])
    this.#watcher.onHead(id, told, whole)
    return this.fault === ''
  }

  #response(stream: StrictStream, fields: Fields, whole: boolean): boolean {
    const one = (name: string): string | undefined => fields.find(([each]) => each === name)?.[1]
    const status = one(':status'), length = one('content-length')
    if (stream.ended) return this.#fail(`a head behind the end of stream ${stream.id}`)
    if (status === undefined || !/^[1-9][0-9]{2}$/.test(status) || status === '101') return this.#fail(`:status ${status}`)
    if (status[0] === '1') {
      if (length !== undefined || whole) return this.#fail(`a body announced with ${status}, or its end`)
      this.#watcher.onHead(stream.id, fields, false)
      return this.fault === ''
    }
    if (one('date') === undefined) return this.#fail('no date')
    stream.headSeen = true
    const bodiless = stream.method === 'HEAD' || status === '204' || status === '304'
    stream.unread = bodiless ? 0 : length === undefined ? -1 : Number(length)
    this.#watcher.onHead(stream.id, fields, false)
    return whole ? this.#end(stream, [], true) : this.fault === ''
  }

  #end(stream: StrictStream, trailers: Fields, whole: boolean): boolean {
    if (!whole) return this.#fail(`a second head on stream ${stream.id}`)
    if (stream.ended) return this.#fail(`a second end of stream ${stream.id}`)
    if (stream.unread > 0) return this.#fail(`stream ${stream.id} ends ${stream.unread} bytes too early`)
    if (trailers.some(([name]) => name.startsWith(':'))) return this.#fail('trailers with a pseudo-field')
    stream.ended = true
    this.#watcher.onMessageEnd(stream.id, trailers)
    return this.fault === ''
  }

  onDataHead(flags: number, wire: number, length: number): boolean {
    const stream = this.#streams.get((wire + 1) / 2)
    this.#data = []
    if (stream === undefined) return this.#fail(`DATA on stream ${wire}, which was never opened`)
    if (stream.ignored) return true
    if (!stream.headSeen || stream.ended) return this.#fail(`DATA outside of the message on stream ${stream.id}`)
    if (length === 0 && (flags & Flag.EndStream) === 0) return this.#fail('DATA without any')
    if ((stream.window -= length) < 0) return this.#fail(`DATA beyond the window of stream ${stream.id}`)
    if (stream.unread >= 0 && (stream.unread -= length) < 0) return this.#fail(`DATA beyond the announced length on stream ${stream.id}`)
    return true
  }
  onData(_wire: number, payload: Buffer, from: number, to: number): void { this.#data.push(Buffer.from(payload.subarray(from, to))) }
  onDataEnd(flags: number, wire: number): boolean {
    const stream = this.#streams.get((wire + 1) / 2)!, bytes = Buffer.concat(this.#data)
    if (stream.ignored) return true
    if (bytes.length > 0) this.#watcher.onData(stream.id, bytes)
    if ((flags & Flag.EndStream) !== 0 && !stream.ignored) return this.#end(stream, [], true)
    return this.fault === ''
  }
}
