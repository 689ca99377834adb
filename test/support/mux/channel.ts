/**
 * The streams of one connection, the same on either side: frames in, frames out, a window for each direction of each stream.
 *
 *   MuxStream, sending     Open ──end()──▶ Ending (END waits behind what is queued) ──▶ Sent
 *   MuxStream, receiving   Open ──END──▶ Whole (told when the receiver reads) ──▶ Told
 *   either                 reset(), RESET, the end of the connection: Reset
 *
 * The transport is never paused for the sake of one stream: what a paused stream gets waits in its window. It is given one
 * frame of a body at a time, each stream in its turn, and only while it takes them.
 */
import { copyWithReserve, BUFFER_RESERVE, type ByteStream } from '../../../src/protocols/byte-stream.ts'
import {
  END_BIT, FIRST_WINDOW, FrameReader, FrameType, MAX_DATA_BYTES, ResetCode, frame, numberFrame, resetFrame, type FrameSink,
} from './frames.ts'

/** Who gets what arrives on one stream. */
export interface StreamReceiver {
  /** A HEAD behind the one that opened the stream. */
  onStreamHead(payload: Buffer, from: number, to: number): void
  /** `owned`: the bytes, and BUFFER_RESERVE on either side, are the receiver's for good; otherwise only for the call. */
  onStreamData(buffer: Buffer, from: number, to: number, owned: boolean): void
  onStreamEnd(payload: Buffer): void
  /** The other side ended the stream, or broke its rules (`Broken`). It is gone already. */
  onStreamReset(code: number): void
  /** Nothing waits to be sent any more. */
  onStreamDrained(): void
}

const SendState = { Open: 0, Ending: 1, Sent: 2 } as const
const ReceiveState = { Open: 0, Whole: 1, Told: 2 } as const

export class MuxStream {
  readonly #channel: MuxChannel
  /** 0 until the stream is opened. */
  id = 0
  receiver: StreamReceiver
  /** Neither side has anything more to say. */
  closed = false
  /** A RESET follows when everything is sent: the rest of the other side's message is not needed. */
  cutsWhenSent = false
  #sending: number = SendState.Open
  #receiving: number = ReceiveState.Open
  readonly #queue: Buffer[] = []
  #queued = 0
  #sawQueued = false
  #taken = 0
  #window = FIRST_WINDOW
  #trailers: Buffer | null = null

  #paused: boolean
  #delivering = false
  readonly #held: Buffer[] = []
  #heldEnd: Buffer | null = null
  /** What the other side may still send, and what of it was read since it was told of more. */
  #receiveWindow = FIRST_WINDOW
  #read = 0

  /** @param paused nothing is told of a body before `resume()` */
  constructor(channel: MuxChannel, receiver: StreamReceiver, paused: boolean) {
    this.#channel = channel
    this.receiver = receiver
    this.#paused = paused
  }

  get paused(): boolean { return this.#paused }
  get bytesQueued(): number {
    if (this.#queued > 0) this.#sawQueued = true
    return this.#queued
  }
  /** Bytes that went on the way. */
  get bytesTaken(): number { return this.#taken }
  get allSent(): boolean { return this.#sending === SendState.Sent }
  /** The other side's END arrived. */
  get whole(): boolean { return this.#receiving !== ReceiveState.Open }

  // ---- sending

  write(buffer: Buffer, from: number, to: number, owned: boolean): void {
    if (this.closed || this.#sending !== SendState.Open || from === to) return
    const run = buffer.subarray(from, to), first = this.#queue.length === 0
    this.#queue.push(owned ? run : Buffer.from(run))
    this.#queued += run.length
    if (first) while (this.#channel.takes && this.sendOne());
    if (this.#queued > 0) this.#channel.wants(this)
  }

  end(trailers: Buffer): void {
    if (this.closed || this.#sending !== SendState.Open) return
    this.#sending = SendState.Ending
    this.#trailers = trailers
    if (this.#queued === 0) this.#sendEnd()
  }

  /** The HEAD that was sent is the whole message. */
  endedByHead(): void { this.#sending = SendState.Sent }

  head(type: number, payload: Buffer): void { if (!this.closed) this.#channel.send(frame(type, this.id, payload)) }

  /** Sends one frame of the body. @returns whether there is more, and the other side takes it */
  sendOne(): boolean {
    const first = this.#queue[0]
    if (first === undefined || this.#window === 0 || this.closed) return false
    const part = first.subarray(0, Math.min(first.length, this.#window, MAX_DATA_BYTES))
    this.#channel.send(frame(FrameType.Data, this.id, part))
    if (part.length === first.length) this.#queue.shift()
    else this.#queue[0] = first.subarray(part.length)
    this.#queued -= part.length
    this.#window -= part.length
    this.#taken += part.length
    if (this.#queued === 0 && this.#sending === SendState.Ending) this.#sendEnd()
    return this.#queued > 0 && this.#window > 0
  }

  #sendEnd(): void {
    this.#sending = SendState.Sent
    this.#channel.send(frame(FrameType.End, this.id, this.#trailers!))
    if (this.whole) this.#close()
    else if (this.cutsWhenSent) this.reset(ResetCode.None)
  }

  /** Called by the channel, behind what it sent of the stream's: never within `write`. */
  tellDrained(): void {
    if (this.#queued > 0 || !this.#sawQueued) return
    this.#sawQueued = false
    this.receiver.onStreamDrained()
  }

  onWindow(bytes: number): void {
    this.#window += bytes
    if (this.#queued > 0) this.#channel.wants(this)
  }

  // ---- receiving

  onData(buffer: Buffer, from: number, to: number): void {
    if (this.whole || (this.#receiveWindow -= to - from) < 0) {
      this.breaks()
      return
    }
    if (this.#paused || this.#held.length > 0 || this.#delivering) this.#held.push(copyWithReserve(buffer, from, to))
    else this.#deliver(buffer, from, to, false)
  }

  onEnd(payload: Buffer): void {
    if (this.whole) {
      this.breaks()
      return
    }
    this.#receiving = ReceiveState.Whole
    this.#heldEnd = payload
    if (this.allSent) this.#close()
    if (!this.#paused && !this.#delivering) this.#goOn()
  }

  #deliver(buffer: Buffer, from: number, to: number, owned: boolean): void {
    this.#read += to - from
    this.#delivering = true
    this.receiver.onStreamData(buffer, from, to, owned)
    this.#delivering = false
    if (!this.#paused) this.#goOn()
  }

  pause(): void { this.#paused = true }
  resume(): void {
    this.#paused = false
    if (!this.#delivering) this.#goOn()
  }

  /** Tells what was held back, and gives the other side room. */
  #goOn(): void {
    const held = this.#held
    while (held.length > 0 && !this.#paused) {
      const piece = held.shift()!
      this.#read += piece.length - 2 * BUFFER_RESERVE
      this.#delivering = true
      this.receiver.onStreamData(piece, BUFFER_RESERVE, piece.length - BUFFER_RESERVE, true)
      this.#delivering = false
    }
    if (this.#paused) return
    if (this.#receiving === ReceiveState.Whole) {
      const payload = this.#heldEnd!
      this.#receiving = ReceiveState.Told
      this.#heldEnd = null
      this.receiver.onStreamEnd(payload)
    } else if (this.#receiving === ReceiveState.Open && !this.closed && this.#read >= FIRST_WINDOW / 2) {
      this.#receiveWindow += this.#read
      this.#channel.send(numberFrame(FrameType.Window, this.id, this.#read))
      this.#read = 0
    }
  }

  // ---- the end

  onReset(code: number): void {
    if (code === ResetCode.None && this.whole && this.#channel.asks) {
      // The answer is there, and stays; the rest of the request is of no use.
      this.#drop()
      this.#close()
      this.tellDrained()
      return
    }
    this.vanish(code)
  }

  /** Ends the stream with RESET, without a word to the receiver. */
  reset(code: number): void {
    if (this.closed) return
    if (this.id !== 0) this.#channel.send(resetFrame(this.id, code))
    this.#forget()
  }

  /** The other side broke the rules of the stream. */
  breaks(): void {
    this.reset(ResetCode.Broken)
    this.receiver.onStreamReset(ResetCode.Broken)
  }

  /** It is gone, and the receiver is told. */
  vanish(code: number): void {
    if (this.closed) return
    this.#forget()
    this.receiver.onStreamReset(code)
  }

  #forget(): void {
    this.#drop()
    this.#held.length = 0
    this.#heldEnd = null
    this.#receiving = ReceiveState.Told
    this.#close()
  }

  #drop(): void {
    this.#queue.length = 0
    this.#queued = 0
    this.#sending = SendState.Sent
  }

  #close(): void {
    if (this.closed) return
    this.closed = true
    this.#channel.forget(this)
  }
}

export interface ChannelOwner {
  /** A HEAD on a stream that is not known. @returns false when nothing more is to be read */
  onNewStream(id: number, type: number, payload: Buffer, from: number, to: number): boolean
  /** GO_AWAY or STREAMS. @returns false when it is not for this side */
  onNotice(type: number, value: number): boolean
  /** A frame that no rule allows. The channel is not read any more. */
  onBroken(text: string): void
  /** A stream is gone from the wire. */
  onStreamClosed(): void
}

export class MuxChannel implements FrameSink {
  readonly transport: ByteStream
  readonly #owner: ChannelOwner
  readonly #reader = new FrameReader()
  readonly #streams = new Map<number, MuxStream>()
  /** Streams with something to send, in turn. */
  readonly #wanting = new Set<MuxStream>()
  #pumping = false
  #broken = false
  #finished = false
  /** Highest stream so far. */
  lastStream = 0

  /** This side opens the streams. */
  readonly asks: boolean

  constructor(transport: ByteStream, owner: ChannelOwner, asks: boolean) {
    this.transport = transport
    this.#owner = owner
    this.asks = asks
  }

  get open(): number { return this.#streams.size }
  get within(): boolean { return this.#reader.within }
  /** The transport takes another frame. */
  get takes(): boolean { return this.transport.bytesQueued === 0 && !this.transport.destroyed }
  streams(): MuxStream[] { return [...this.#streams.values()] }

  /** Gives the stream its number. */
  add(stream: MuxStream, id: number): void {
    stream.id = id
    this.lastStream = Math.max(this.lastStream, id)
    this.#streams.set(id, stream)
  }

  forget(stream: MuxStream): void {
    this.#wanting.delete(stream)
    if (this.#streams.get(stream.id) !== stream) return
    this.#streams.delete(stream.id)
    this.#owner.onStreamClosed()
  }

  send(bytes: Buffer): void { if (!this.transport.destroyed && !this.#finished) this.transport.writeBytes(bytes) }

  /** FIN behind what was sent. */
  finish(): void {
    this.#finished = true
    this.transport.end()
  }

  wants(stream: MuxStream): void { this.#wanting.add(stream) }

  /** Sends for every stream in its turn, until the transport takes no more. */
  pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    // One that is added again has its next turn behind the others.
    for (const stream of this.#wanting) {
      if (!this.takes) break
      this.#wanting.delete(stream)
      if (stream.sendOne()) this.#wanting.add(stream)
      stream.tellDrained()
    }
    this.#pumping = false
  }

  // ---- bytes of the other side

  push(buffer: Buffer, from: number, to: number): void {
    if (this.#broken) return
    if (!this.#reader.push(buffer, from, to, this)) this.#break('a frame that is too long')
    this.pump()
  }

  onFrame(type: number, id: number, payload: Buffer, from: number, to: number): boolean {
    if (id === 0) {
      if (to - from === 4 && this.#owner.onNotice(type, payload.readUInt32BE(from))) return !this.#broken
      return this.#break(`frame ${type} for the connection`)
    }
    const stream = this.#streams.get(id)
    if (stream === undefined) {
      const opens = (type & ~END_BIT) === FrameType.Head && id > this.lastStream
      if (opens) return this.#owner.onNewStream(id, type, payload, from, to) && !this.#broken
      // What crossed our RESET is of no interest; what was never opened is not.
      return id <= this.lastStream ? true : this.#break(`frame ${type} for stream ${id}, which is not open`)
    }
    switch (type) {
      case FrameType.Head: stream.receiver.onStreamHead(payload, from, to); break
      case FrameType.Data: stream.onData(payload, from, to); break
      case FrameType.End: stream.onEnd(Buffer.from(payload.subarray(from, to))); break
      case FrameType.Reset: stream.onReset(payload[from] ?? ResetCode.Broken); break
      case FrameType.Window: stream.onWindow(to - from === 4 ? payload.readUInt32BE(from) : 0); break
      default: return this.#break(`frame ${type} for stream ${id}`)
    }
    return !this.#broken
  }

  #break(text: string): false {
    this.stop()
    this.#owner.onBroken(text)
    return false
  }

  /** Nothing more is read. */
  stop(): void { this.#broken = true }
}
