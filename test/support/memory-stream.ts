/**
 * Two ends of a connection in memory. Nothing moves by itself: bytes, FIN, RST and the call of `onClosed` reach an
 * owner only when the test delivers them, so that a test says exactly how a message is cut into reads.
 *
 *   one end: writeBytes -> queue (bytesQueued) -> kernel (kernelBytes at most) -> deliver(n) -> the other end: onBytes
 *
 * It is as unforgiving as a socket: queued buffers are not copied before the kernel takes them, and bytes that were
 * handed to an owner are overwritten once the owner returns, unless the stream has a buffer of its own and the owner
 * paused it or gave the buffer up to a write.
 */
import { BUFFER_RESERVE } from '../../src/protocols/byte-stream.ts'
import type { ByteStream, ReceiveBuffer, StreamDigest, StreamOwner } from '../../src/protocols/byte-stream.ts'

export interface MemoryPairOptions {
  /** Bytes that the kernel takes in each direction before the writer has to queue. @default Infinity */
  kernelBytes?: number
  /** What both ends see as the other one's address. @default '127.0.0.1' */
  remoteIp?: string
}

/** Written over bytes that were only borrowed; shows up in whatever kept them. */
const POISON = 0xa5

/** An owner for a stream nobody took yet. */
export const NO_OWNER: StreamOwner = {
  onBytes() { throw new Error('bytes reached a stream without an owner') },
  onEnd() {},
  onDrained() {},
  onClosed() {},
}

export class MemoryStream implements ByteStream {
  owner: StreamOwner = NO_OWNER
  bytesRead = 0
  bytesWritten = 0
  destroyed = false
  readonly descriptor = -1
  paused = false
  readonly digest: StreamDigest
  /** Set by MemoryPair. */
  peer: MemoryStream = this

  readonly #kernelBytes: number
  #text = ''
  /** Written, not taken by the kernel: the writer's own buffers. */
  readonly #queue: Buffer[] = []
  #queued = 0
  #sawQueued = false
  /** Taken by the kernel, on the way to the peer. */
  #kernel: Buffer[] = []
  #inKernel = 0
  #ending = false
  #endDelivered = false
  /** FIN of a destroyed stream: what was in the kernel still arrives, then this end is gone. */
  #reset = false
  #closeError: Error | null = null
  #closePending = false
  #closeCalled = false
  /** The last buffer that was handed out, as long as the owner may still look at it. */
  #lent: Buffer | null = null
  /** Within onBytes. */
  #lending = false
  #givenUp = false
  #own = false
  #ownNext = false

  constructor(name: string, kernelBytes: number, remoteIp = '127.0.0.1') {
    this.#kernelBytes = kernelBytes
    this.digest = { remoteAddress: `memory:${name}`, remoteIp, remotePort: 1, localAddress: 'memory:', establishedAt: 1, tls: null }
  }

  get bytesQueued(): number {
    if (this.#queued > 0) this.#sawQueued = true
    return this.#queued
  }

  get bytesTaken(): number { return this.bytesWritten - this.#queued }

  writeText(text: string): void { this.#text += text }

  writeBytes(bytes: Buffer): void {
    this.flush()
    this.#enqueue(bytes)
  }

  flush(): void {
    if (this.#text === '') return
    const bytes = Buffer.from(this.#text, 'latin1')
    this.#text = ''
    this.#enqueue(bytes)
  }

  end(): void {
    this.flush()
    this.#ending = true
  }

  destroy(reset = false): void {
    if (this.destroyed) return
    this.flush()
    this.destroyed = true
    this.#ending = true
    this.#reset = reset
    if (reset) {
      this.#kernel = []
      this.#inKernel = 0
    }
    this.#queue.length = 0
    this.#queued = 0
    this.#closePending = true
  }

  pause(): void { this.paused = true }
  resume(): void {
    this.paused = false
    if (!this.#lending) this.#takeBack()
  }
  get receiveBuffer(): ReceiveBuffer { return this }
  useOwnBuffer(): void { if (this.#lending) this.#ownNext = true }
  useSharedBuffer(): void { if (this.#lending) this.#ownNext = false }
  get ownsBuffer(): boolean { return this.#own }
  giveUpBuffer(): boolean {
    if (!this.#own) return true
    if (this.#lending) this.#givenUp = true
    return this.#lending
  }

  // What the test drives.

  /** Bytes on the way to the peer that the kernel holds. */
  get inKernel(): number { return this.#inKernel }
  /** The peer's owner was told of this end's FIN. */
  get endArrived(): boolean { return this.#endDelivered }
  /** Written and not yet delivered, wherever it waits. */
  get undelivered(): number { return this.#text.length + this.#queued + this.#inKernel }

  /**
   * Hands the peer up to `max` bytes of what this end has written, in one `onBytes`.
   * @returns how many arrived: 0 when there is nothing, or the peer has paused or is gone.
   */
  deliver(max = Infinity): number {
    this.flush()
    this.#fillKernel()
    const peer = this.peer
    if (peer.destroyed || peer.paused || this.#inKernel === 0 || max <= 0) return 0
    const size = Math.min(this.#inKernel, max)
    const buffer = Buffer.alloc(size + 2 * BUFFER_RESERVE, POISON)
    let at = BUFFER_RESERVE
    while (at < BUFFER_RESERVE + size) {
      const first = this.#kernel[0]!
      const part = Math.min(first.length, BUFFER_RESERVE + size - at)
      first.copy(buffer, at, 0, part)
      at += part
      if (part === first.length) this.#kernel.shift()
      else this.#kernel[0] = first.subarray(part)
    }
    this.#inKernel -= size
    peer.bytesRead += size
    peer.#lend(buffer, size)
    this.#fillKernel()
    return size
  }

  /**
   * Delivers FIN or RST, and the `onClosed` of an end that was destroyed, when everything before them has arrived.
   * @returns whether anything happened
   */
  deliverEnd(): boolean {
    let happened = false
    const peer = this.peer
    if (this.destroyed && this.#reset && !peer.destroyed) {
      peer.#cut(connectionReset())
      happened = true
    }
    if (this.#ending && this.undelivered === 0 && !this.#endDelivered && !peer.destroyed && !peer.paused) {
      this.#endDelivered = true
      peer.owner.onEnd()
      happened = true
    }
    // Bytes sent to an end that is gone are answered by RST.
    if (peer.destroyed && !this.destroyed && this.undelivered > 0) {
      this.#cut(connectionReset())
      happened = true
    }
    if (this.#closePending && !this.#closeCalled) {
      this.#closePending = false
      this.#closeCalled = true
      this.owner.onClosed(this.#closeError)
      happened = true
    }
    // An orderly end: both sides have sent FIN and both have seen it.
    if (!this.destroyed && this.#endDelivered && peer.#endDelivered && this.#ending) {
      this.destroyed = true
      this.#closePending = true
      happened = true
    }
    return happened
  }

  /** The network took this connection away: `onClosed` with an error, on this end only. */
  fail(error: Error = connectionReset()): void {
    this.#cut(error)
    this.deliverEnd()
  }

  #cut(error: Error): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#closeError = error
    this.#queue.length = 0
    this.#queued = 0
    this.#kernel = []
    this.#inKernel = 0
    this.#text = ''
    this.#closePending = true
  }

  #enqueue(bytes: Buffer): void {
    if (this.destroyed || bytes.length === 0) return
    if (this.#ending) throw new Error('write after end')
    this.bytesWritten += bytes.length
    this.#queue.push(bytes)
    this.#queued += bytes.length
    this.#moveToKernel()
  }

  #moveToKernel(): void {
    while (this.#queue.length > 0 && this.#inKernel < this.#kernelBytes) {
      const first = this.#queue[0]!
      const part = Math.min(first.length, this.#kernelBytes - this.#inKernel)
      this.#kernel.push(Buffer.from(first.subarray(0, part)))
      this.#inKernel += part
      this.#queued -= part
      if (part === first.length) this.#queue.shift()
      else this.#queue[0] = first.subarray(part)
    }
  }

  #fillKernel(): void {
    this.#moveToKernel()
    if (this.#queued === 0 && this.#sawQueued && !this.destroyed) {
      this.#sawQueued = false
      this.owner.onDrained()
    }
  }

  #lend(buffer: Buffer, size: number): void {
    this.#takeBack()
    this.#lending = true
    this.#givenUp = false
    this.owner.onBytes(buffer, BUFFER_RESERVE, BUFFER_RESERVE + size)
    this.#lending = false
    if (!this.#givenUp) {
      this.#lent = buffer
      // A buffer that was exchanged for the shared one goes to the next stream at once, whoever still looks at it.
      if (!this.paused || !this.#own || !this.#ownNext) this.#takeBack()
    }
    this.#own = this.#ownNext
  }

  #takeBack(): void {
    const lent = this.#lent
    this.#lent = null
    lent?.fill(POISON)
  }
}

export class MemoryPair {
  readonly near: MemoryStream
  readonly far: MemoryStream

  constructor(options: MemoryPairOptions = {}) {
    this.near = new MemoryStream('near', options.kernelBytes ?? Infinity, options.remoteIp)
    this.far = new MemoryStream('far', options.kernelBytes ?? Infinity, options.remoteIp)
    this.near.peer = this.far
    this.far.peer = this.near
  }

  /** Delivers everything, both ways, until nothing moves any more. */
  settle(): void {
    for (let moved = true; moved;) {
      moved = false
      for (const end of [this.near, this.far]) {
        while (end.deliver() > 0) moved = true
        if (end.deliverEnd()) moved = true
      }
    }
  }
}

/** The far end in a test's hand: sends what it is told, keeps what arrives. */
export class WireEnd implements StreamOwner {
  readonly stream: MemoryStream
  received: Buffer = Buffer.alloc(0)
  ended = false
  drained = 0
  closed = false
  error: Error | null = null

  constructor(stream: MemoryStream) {
    this.stream = stream
    stream.owner = this
  }

  get text(): string { return this.received.toString('latin1') }

  /** Puts bytes on the way in one piece; they arrive by `deliver`. */
  send(bytes: string | Buffer): void { this.stream.writeBytes(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes) }

  onBytes(buffer: Buffer, from: number, to: number): void { this.received = Buffer.concat([this.received, buffer.subarray(from, to)]) }
  onEnd(): void { this.ended = true }
  onDrained(): void { this.drained++ }
  onClosed(error: Error | null): void {
    this.closed = true
    this.error = error
  }
}

function connectionReset(): Error { return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }) }
