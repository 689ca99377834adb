/**
 * Turns the bytes that reached a client or an origin in the multiplexing protocol into what they say: the second opinion on
 * what the proxy sent. It shares nothing with the codec (frames.ts describes the protocol), knows only what may be written,
 * and calls everything else a fault.
 */
export type ReadFields = readonly (readonly [name: string, value: string])[]

/** What may come on one stream. */
class StrictStream {
  readonly id: number
  readonly method: string
  readonly protocol: boolean
  /** DATA that may still come. */
  window = FIRST_WINDOW
  /** Announced and not here yet; -1: nothing was announced. */
  unread = -1
  headSeen = false
  tunnel = false
  ended = false
  /** The reading side reset it: whatever comes was on its way. */
  ignored = false

  constructor(id: number, method: string, protocol: boolean) {
    this.id = id
    this.method = method
    this.protocol = protocol
  }
}

export interface MuxWatcher {
  /** A request's head (at an origin), or an interim or final one (at a client). `whole`: there is no body, nor END. */
  onHead(stream: number, fields: ReadFields, whole: boolean): void
  onData(stream: number, bytes: Buffer): void
  onMessageEnd(stream: number, trailers: ReadFields): void
  onReset(stream: number, code: number): void
  onWindow(stream: number, bytes: number): void
  onGoAway(last: number): void
  onStreams(count: number): void
}

const FIRST_WINDOW = 12_000
const NAME = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const FORBIDDEN = ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'host', 'http2-settings']

export class StrictMuxReader {
  /** What the first wrong byte did wrong; '' while all is well. Nothing is read after a fault. */
  fault = ''
  /** Bytes read so far, those of a frame in part aside. */
  offset = 0
  readonly #reads: 'requests' | 'responses'
  readonly #watcher: MuxWatcher
  readonly #streams = new Map<number, StrictStream>()
  #rest: Buffer = Buffer.alloc(0)
  #last = 0
  #goAway = Number.POSITIVE_INFINITY

  constructor(reads: 'requests' | 'responses', watcher: MuxWatcher) {
    this.#reads = reads
    this.#watcher = watcher
  }

  /** At a client: a request went out on a stream. */
  expect(id: number, method: string, protocol: boolean): void { this.#streams.set(id, new StrictStream(id, method, protocol)) }
  /** The reading side told the other one of more room. */
  grant(id: number, bytes: number): void { this.#streams.get(id)!.window += bytes }
  ignore(id: number): void { this.#streams.get(id)!.ignored = true }

  push(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes])
    while (this.fault === '' && this.#rest.length >= 8) {
      const length = this.#rest.readUIntBE(0, 3)
      if (length > 65_536) return this.#fail(`a frame of ${length} bytes`)
      if (this.#rest.length < 8 + length) return
      const type = this.#rest[3]!, id = this.#rest.readUInt32BE(4), payload = this.#rest.subarray(8, 8 + length)
      this.#rest = this.#rest.subarray(8 + length)
      this.#frame(type, id, payload)
      this.offset += 8 + length
    }
  }

  #frame(type: number, id: number, payload: Buffer): void {
    if (id === 0) return this.#notice(type, payload)
    if (type === 0x81 || (type === 1 && this.#reads === 'requests')) return this.#request(type === 0x81, id, payload)
    const stream = this.#streams.get(id)
    if (stream === undefined) return this.#fail(`frame ${type} for stream ${id}, which was never opened`)
    if (stream.ignored) return
    switch (type) {
      case 1: return this.#response(stream, payload)
      case 2: return this.#data(stream, payload)
      case 3: return this.#end(stream, payload)
      case 4:
        if (payload.length !== 1 || payload[0]! > 3) return this.#fail(`RESET ${payload.toString('hex')}`)
        stream.ended = true
        return this.#watcher.onReset(id, payload[0]!)
      case 5:
        if (payload.length !== 4 || payload.readUInt32BE() === 0) return this.#fail(`WINDOW ${payload.toString('hex')}`)
        return this.#watcher.onWindow(id, payload.readUInt32BE())
      default: return this.#fail(`frame ${type}`)
    }
  }

  #notice(type: number, payload: Buffer): void {
    if (this.#reads === 'requests' || payload.length !== 4) return this.#fail(`frame ${type} for the connection`)
    const value = payload.readUInt32BE()
    if (type === 7) return this.#watcher.onStreams(value)
    if (type !== 6) return this.#fail(`frame ${type} for the connection`)
    if (value > this.#goAway) return this.#fail('GO_AWAY that takes back what it said')
    this.#goAway = value
    return this.#watcher.onGoAway(value)
  }

  #request(whole: boolean, id: number, payload: Buffer): void {
    if (this.#reads !== 'requests') return this.#fail(`a request on stream ${id}`)
    if (id !== this.#last + 1) return this.#fail(`a head on stream ${id} behind ${this.#last}`)
    this.#last = id
    const fields = this.#fields(payload, [':method', ':target', ':authority', ':protocol'])
    if (fields === null) return
    const one = (name: string): string | undefined => fields.find(([each]) => each === name)?.[1]
    const method = one(':method'), target = one(':target'), protocol = one(':protocol'), length = one('content-length')
    if (method === undefined || !/^[A-Z]+$/.test(method)) return this.#fail(`:method ${method}`)
    if (target === undefined || !/^\/[\x21-\x7e]*$/.test(target)) return this.#fail(`:target ${target}`)
    if (one(':authority') === undefined) return this.#fail('no :authority')
    const switches = protocol !== undefined
    if ((method === 'CONNECT') !== switches || (switches && whole)) return this.#fail(`${method} with :protocol ${protocol}`)
    const stream = new StrictStream(id, method, protocol !== undefined)
    stream.headSeen = true
    stream.ended = whole
    stream.tunnel = protocol !== undefined
    stream.unread = length === undefined ? -1 : Number(length)
    if (whole && stream.unread > 0) return this.#fail('a body that is announced and none')
    this.#streams.set(id, stream)
    this.#watcher.onHead(id, fields, whole)
  }

  #response(stream: StrictStream, payload: Buffer): void {
    if (stream.headSeen || stream.ended) return this.#fail(`a second head on stream ${stream.id}`)
    const fields = this.#fields(payload, [':status', ':protocol'])
    if (fields === null) return
    const one = (name: string): string | undefined => fields.find(([each]) => each === name)?.[1]
    const status = one(':status'), length = one('content-length')
    if (status === undefined || !/^[1-9][0-9]{2}$/.test(status) || status === '101') return this.#fail(`:status ${status}`)
    if (status[0] === '1') {
      if (length !== undefined) return this.#fail(`a body announced with ${status}`)
      return this.#watcher.onHead(stream.id, fields, false)
    }
    if (one(':protocol') !== undefined) {
      if (!stream.protocol || status !== '200') return this.#fail('a switch that nobody asked for')
      stream.tunnel = true
    }
    if (one('date') === undefined) return this.#fail('no date')
    stream.headSeen = true
    const bodiless = stream.method === 'HEAD' || status === '204' || status === '304'
    stream.unread = bodiless ? 0 : length === undefined ? -1 : Number(length)
    return this.#watcher.onHead(stream.id, fields, false)
  }

  #data(stream: StrictStream, payload: Buffer): void {
    if (!stream.headSeen || stream.ended) return this.#fail(`DATA outside of the message on stream ${stream.id}`)
    if (payload.length === 0) return this.#fail('DATA without any')
    if ((stream.window -= payload.length) < 0) return this.#fail(`DATA beyond the window of stream ${stream.id}`)
    if (stream.unread >= 0 && (stream.unread -= payload.length) < 0) {
      return this.#fail(`DATA beyond the announced length on stream ${stream.id}`)
    }
    return this.#watcher.onData(stream.id, Buffer.from(payload))
  }

  #end(stream: StrictStream, payload: Buffer): void {
    if (!stream.headSeen || stream.ended) return this.#fail(`END outside of the message on stream ${stream.id}`)
    if (stream.unread > 0) return this.#fail(`END on stream ${stream.id} ${stream.unread} bytes too early`)
    const trailers = this.#fields(payload, [])
    if (trailers === null) return
    stream.ended = true
    this.#watcher.onMessageEnd(stream.id, trailers)
  }

  #fields(payload: Buffer, pseudo: readonly string[]): ReadFields | null {
    const text = payload.toString('latin1'), fields: (readonly [string, string])[] = []
    if (text !== '' && !text.endsWith('\n')) return this.#none('a head without an end')
    let ordinary = false
    for (const line of text.split('\n').slice(0, -1)) {
      const match = /^(:?[^:]+): (.*)$/s.exec(line), name = match?.[1] ?? '', value = match?.[2] ?? ''
      if (!NAME.test(name) || !VALUE.test(value) || FORBIDDEN.includes(name)) return this.#none(`field line ${JSON.stringify(line)}`)
      if (name.startsWith(':') ? ordinary || !pseudo.includes(name) : false) return this.#none(`${name} at this place`)
      ordinary ||= !name.startsWith(':')
      const single = name.startsWith(':') || name === 'content-length' || name === 'date'
      if (single && fields.some(([each]) => each === name)) return this.#none(`${name} is repeated`)
      if (name === 'content-length' && !/^[0-9]{1,15}$/.test(value)) return this.#none(`content-length ${value}`)
      fields.push([name, value])
    }
    return fields
  }

  #none(fault: string): null {
    this.#fail(fault)
    return null
  }

  #fail(fault: string): void { this.fault ||= fault }
}
