/** Transports in a test's hand: dials that connect, fail or hang when the test says so. */
import type { ProxyError } from '../../src/errors/proxy-error.ts'
import type { Peer } from '../../src/peer/peer.ts'
import type { ByteStream, StreamDigest, StreamOwner } from '../../src/protocols/byte-stream.ts'
import type { DialRequest } from '../../src/protocols/tcp/tcp-stream.ts'
import type { DialWaiter, PendingDial } from '../../src/connector/transport-connector.ts'
import type { Tracer } from '../../src/telemetry/tracer.ts'

/** A stream that only remembers what was done to it. */
export class FakeStream implements ByteStream {
  owner: StreamOwner
  bytesQueued = 0
  bytesRead = 0
  bytesWritten = 0
  bytesTaken = 0
  destroyed = false
  readonly descriptor = -1
  resetSent = false
  paused = false
  readonly receiveBuffer = null
  written = ''
  readonly digest: StreamDigest
  constructor(owner: StreamOwner, name = 'fake:1') {
    this.owner = owner
    this.digest = { remoteAddress: name, remoteIp: '', remotePort: 0, localAddress: '', establishedAt: 0, tls: null }
  }
  writeText(text: string): void { this.written += text }
  writeBytes(bytes: Buffer): void { this.written += bytes.toString('latin1') }
  flush(): void {}
  end(): void {}
  destroy(reset = false): void {
    if (this.destroyed) return
    this.destroyed = true
    this.resetSent = reset
  }
  pause(): void { this.paused = true }
  resume(): void { this.paused = false }

  /** The other side sends, in one read. */
  receive(text: string): void {
    const buffer = Buffer.alloc(text.length + 40)
    buffer.write(text, 20, 'latin1')
    this.owner.onBytes(buffer, 20, 20 + text.length)
    // Only lent: whoever kept it must have copied it.
    if (!this.paused) buffer.fill(0xa5)
  }
  receiveEnd(): void { this.owner.onEnd() }
  /** It is gone. */
  close(error: Error | null = null): void {
    this.destroyed = true
    this.owner.onClosed(error)
  }
}

export class FakeDial {
  readonly options: DialRequest
  readonly stream: FakeStream
  readonly #owner: StreamOwner & { onConnected(): void }
  constructor(options: DialRequest, owner: StreamOwner & { onConnected(): void }) {
    this.options = options
    this.#owner = owner
    this.stream = new FakeStream(owner, this.to)
  }
  get to(): string { return this.options.address.kind === 'unix' ? this.options.address.path : this.options.address.host }
  get cut(): boolean { return this.stream.destroyed }
  connect(): FakeStream {
    this.#owner.onConnected()
    return this.stream
  }
  fail(code: string): void { this.stream.close(Object.assign(new Error(`connect ${code}`), { code })) }
}

/** In place of the machine's sockets. */
export class FakeNetwork {
  readonly dials: FakeDial[] = []
  readonly dial = (options: DialRequest, owner: StreamOwner & { onConnected(): void }): ByteStream => {
    const dial = new FakeDial(options, owner)
    this.dials.push(dial)
    return dial.stream
  }
  get to(): string[] { return this.dials.map(dial => dial.to) }
  get last(): FakeDial { return this.dials[this.dials.length - 1]! }
}

/** In place of the whole transport connector. */
export class FakeTransport {
  readonly dials: { peer: Peer; waiter: DialWaiter; cancelled: boolean }[] = []
  dial(peer: Peer, waiter: DialWaiter): PendingDial {
    const entry = { peer, waiter, cancelled: false }
    this.dials.push(entry)
    return { cancel() { entry.cancelled = true } }
  }
}

/** Remembers who was told what. */
export class Outcome implements DialWaiter {
  stream: ByteStream | null = null
  early: Buffer | null = null
  error: ProxyError | null = null
  calls = 0
  closed = false
  received = ''
  readonly owner: StreamOwner
  constructor() {
    this.owner = {
      onBytes: (buffer, from, to) => { this.received += buffer.latin1Slice(from, to) },
      onEnd() {},
      onDrained() {},
      onClosed: () => { this.closed = true },
    }
  }
  onDialed(stream: ByteStream, early: Buffer | null): void {
    this.calls++
    this.stream = stream
    this.early = early
    stream.owner = this.owner
  }
  onDialFailed(error: ProxyError): void {
    this.calls++
    this.error = error
  }
}

/** Writes down every event; with `throwing`, throws after that. */
export function recordingTracer(throwing = false): { tracer: Tracer; events: string[] } {
  const events: string[] = []
  const note = (event: string): void => {
    events.push(event)
    if (throwing) throw new Error('tracer')
  }
  return {
    events,
    tracer: {
      upstreamConnected: ({ peer, connection }) => note(`connected ${peer} ${connection.remoteAddress}`),
      upstreamClosed: ({ peer }) => note(`closed ${peer}`),
      upstreamReused: ({ peer }) => note(`reused ${peer}`),
      upstreamConnectFailed: ({ peer, error }) => note(`failed ${peer} ${error.kind}`),
    },
  }
}

export function nextTick(): Promise<void> { return new Promise(resolve => { setImmediate(resolve) }) }
