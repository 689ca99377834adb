/**
 * ByteStream over `net.Socket`, TCP and Unix.
 *
 * Bytes are taken through `onread` buffers instead of `'data'` events: no slab and no stream push per read, a third of
 * the user time of a small request. The callback runs before the next read, so every stream that only waits (for a
 * head, or idle) reads into one buffer that the whole worker shares and costs none of its own; a stream that relays a
 * body reads into one from a small free list.
 *
 * A dialled socket takes `onread` as a public option. An accepted one has none: its handle is moved to a new Socket.
 * `_handle` is not public, so `selfTest()` proves read, write, half-close and end over a loopback pair once a process,
 * and without it accepted sockets are read through `'data'` (correct, slower).
 *
 * Text queued by `writeText` is sent when the current read callback returns, or at the end of the tick otherwise, so
 * that a head and a small body leave in one write.
 *
 * One idea in more than 500 lines: reading, writing and whose buffer it is are one state of a socket.
 */
import net from 'node:net'
import { systemClock } from '../../primitives/clock.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import { BUFFER_RESERVE, type ByteStream, type ReceiveBuffer, type StreamDigest, type StreamOwner } from '../byte-stream.ts'
import { DialledSocket, type SocketReader } from './dialled-socket.ts'
import { handleOf, takeHandle, type RemoteEnd, type StreamHandle } from './stream-handle.ts'

/** Bytes read at once. 32 to 256 KiB made no measurable difference. */
const READ_BYTES = 65_536

/**
 * Bytes one stream may read before the others have their turn: without it libuv reads one socket up to 32 times in a row,
 * and big downloads starve small ones.
 */
const TURN_BYTES = 262_144

/** Text that may wait for the end of the turn. */
const TEXT_MAX = 65_536

/** Receive buffers kept for the next relayed body. */
const SPARE_BUFFERS = 64

/** Counts in `heldBytes` by what was ever read into it: pages that were never touched take no memory. */
class Slab {
  touched = 0
  /** With BUFFER_RESERVE on either side. */
  readonly bytes: Buffer = Buffer.allocUnsafeSlow(BUFFER_RESERVE + READ_BYTES + BUFFER_RESERVE)
  /** What the kernel writes into. */
  readonly view: Buffer = this.bytes.subarray(BUFFER_RESERVE, BUFFER_RESERVE + READ_BYTES)
}

const sharedSlab = new Slab()
sharedSlab.touched = READ_BYTES
const spareSlabs: Slab[] = []
function takeSlab(): Slab {
  const slab = spareSlabs.pop() ?? new Slab()
  heldBytes.now += slab.touched
  return slab
}
function giveSlab(slab: Slab): void {
  dropSlab(slab)
  if (spareSlabs.length < SPARE_BUFFERS) spareSlabs.push(slab)
}
/** No stream reads into it any more; a write may still have it. */
function dropSlab(slab: Slab): void { heldBytes.now -= slab.touched }

const NOTHING = Buffer.alloc(0)

/** The stream whose read callback is running, and the buffer for its next read; Node asks for that buffer right after the callback. */
let reading: TcpStream | null = null
let upcoming: Buffer | undefined

const STREAM = Symbol('cirque stream')
interface OwnedSocket extends net.Socket { [STREAM]: TcpStream }

/** Text waiting to be written: flushed when the read callback that queued it returns, or by a tick. */
const unflushed: (TcpStream | null)[] = []
/** The list itself keeps its length: an emptied one would be given new memory for each request. */
let unflushedCount = 0
let flushScheduled = false

function flushAll(): void {
  flushScheduled = false
  for (let i = 0; i < unflushedCount; i++) {
    const stream = unflushed[i]!
    unflushed[i] = null
    stream.flush()
  }
  unflushedCount = 0
}

/** So many reads and ends lie between two looks at what is late: some milliseconds of work. */
const READS_A_LOOK = 256
let reads = 0
let whenLooking = (): void => {}

/**
 * Calls `run` every few milliseconds while streams are read or end. With more than 1,024 of them ready libuv goes from one
 * batch to the next, up to 48 times, before any timer has its turn: what waits for one may then be seconds late, and so would
 * deadlines be, which are looked at here as well. One `run` a process.
 */
export function whileReading(run: () => void): void { whenLooking = run }

function look(): void {
  reads = 0
  systemClock.catchUp()
  whenLooking()
}

/** Streams that used up their turn; all go on with the next one. */
let yielded: TcpStream[] = []
let turn = 0
function nextTurn(): void {
  turn++
  const streams = yielded
  yielded = []
  for (const stream of streams) stream.endYield()
}

const onread = {
  buffer(): Buffer { 
    const next = upcoming
    upcoming = undefined
    // Node keeps the buffer it has when it is handed none.
    return next as Buffer
  },
  callback(this: OwnedSocket, count: number): boolean {
    const stream = this[STREAM]
    reading = stream
    const goOn = stream.received(count)
    reading = null
    if (++reads >= READS_A_LOOK) look()
    if (unflushedCount > 0) flushAll()
    return goOn
  },
}

// Shared listeners: `this` is the socket, so that a connection allocates none.
function onEnd(this: OwnedSocket): void {
  this[STREAM].owner.onEnd()
  if (++reads >= READS_A_LOOK) look()
  if (unflushedCount > 0) flushAll()
}
function onError(this: OwnedSocket, error: Error): void { this[STREAM].failure ??= error }
function onClose(this: OwnedSocket): void {
  this[STREAM].closed()
  if (++reads >= READS_A_LOOK) look()
  if (unflushedCount > 0) flushAll()
}
function onData(this: OwnedSocket, chunk: Buffer): void {
  const stream = this[STREAM]
  reading = stream
  stream.receivedChunk(chunk)
  reading = null
  if (unflushedCount > 0) flushAll()
}

export class TcpStream implements ByteStream, ReceiveBuffer, SocketReader {
  owner: StreamOwner
  readonly socket: net.Socket
  /** First error the socket reported. */
  failure: Error | null = null
  lostReader: Error | null = null
  paused = false
  bytesRead = 0
  bytesWritten = 0
  /** Read through `onread`; otherwise through 'data', whose chunks have buffers of their own. */
  readonly #viaOnread: boolean
  #slab: Slab = sharedSlab
  #text = ''
  #queuedForFlush = false
  #awaitingDrain = false
  /** Of what waits to be written, as much as `heldBytes` has. */
  #queueCounted = 0
  /** Stopped by fairness, not by the owner. */
  #yielding = false
  #turn = 0
  #turnBytes = 0
  #ended = false
  #closed = false
  #digest: StreamDigest | null

  private constructor(socket: net.Socket, owner: StreamOwner, digest: StreamDigest | null, viaOnread: boolean) {
    this.socket = socket
    this.owner = owner
    this.#digest = digest
    this.#viaOnread = viaOnread
    ;(socket as OwnedSocket)[STREAM] = this
    socket.on('end', onEnd)
    socket.on('error', onError)
    socket.on('close', onClose)
  }

  /** Takes over a connection from a `net.Server` made with `pauseOnConnect`. Reading starts at once. `viaOnread` is given in tests only. */
  static accept(accepted: net.Socket, owner: StreamOwner, viaOnread: boolean = onreadWorks): TcpStream {
    // The address is asked for once, before the handle moves: each question is a system call.
    const { remoteAddress: address = '', remotePort: port = 0 } = accepted, remote = { address, port }
    if (viaOnread) return TcpStream.adopt(takeHandle(accepted)!, remote, owner)
    accepted.allowHalfOpen = true
    const stream = new TcpStream(accepted, owner, new SocketDigest(accepted, systemClock.exact(), remote), false)
    accepted.on('data', onData)
    accepted.resume()
    return stream
  }

  /** Takes over the handle of a connection. Reading starts at once. */
  static adopt(handle: StreamHandle, remote: RemoteEnd, owner: StreamOwner): TcpStream {
    upcoming = sharedSlab.view
    const socket = new net.Socket({ handle, allowHalfOpen: true, onread } as unknown as net.SocketConstructorOpts)
    return new TcpStream(socket, owner, new SocketDigest(socket, systemClock.exact(), remote), true)
  }

  /** Dials. `onConnected` follows, or `onClosed` with the reason. */
  static dial(options: DialRequest, owner: StreamOwner & { onConnected(): void }): TcpStream {
    const { address } = options
    const socket = new DialledSocket({ allowHalfOpen: true, onread } as unknown as net.SocketConstructorOpts)
    const stream = socket.reader = new TcpStream(socket, owner, null, true)
    socket.on('connect', onConnect)
    upcoming = sharedSlab.view
    if (address.kind === 'unix') socket.connect({ path: address.path })
    else {
      socket.setNoDelay(true)
      if (options.keepAlive !== undefined) socket.setKeepAlive(true, options.keepAlive.initialDelayMs)
      socket.connect({
        host: address.host, port: address.port,
        ...(options.localAddress === undefined ? null : { localAddress: options.localAddress }),
        ...(options.localPort === undefined ? null : { localPort: options.localPort }),
      })
    }
    upcoming = undefined
    return stream
  }

  get bytesQueued(): number { return this.lostReader === null ? this.socket.writableLength : 0 }
  get bytesTaken(): number {
    // Within one large write only the handle knows how far the kernel is.
    const queue = handleOf(this.socket)?.writeQueueSize
    return this.bytesWritten - (queue ?? this.socket.writableLength)
  }
  get destroyed(): boolean { return this.socket.destroyed }
  get descriptor(): number { return handleOf(this.socket)?.fd ?? -1 }
  get receiveBuffer(): ReceiveBuffer { return this }
  get digest(): StreamDigest { return this.#digest ??= this.#digestNow() }
  #digestNow(): StreamDigest {
    const { socket } = this
    return new SocketDigest(socket, systemClock.exact(), { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 })
  }

  // ---- reading

  /** Returns false to stop reading (the contract of `onread`). */
  received(count: number): boolean {
    this.bytesRead += count
    if (this.#turn !== turn) {
      this.#turn = turn
      this.#turnBytes = 0
    }
    const slab = this.#slab
    if (count > slab.touched) {
      heldBytes.now += count - slab.touched
      slab.touched = count
    }
    this.owner.onBytes(slab.bytes, BUFFER_RESERVE, BUFFER_RESERVE + count)
    if (this.paused) return false
    if ((this.#turnBytes += count) >= TURN_BYTES && !this.socket.destroyed) {
      this.#yielding = true
      if (yielded.push(this) === 1) setImmediate(nextTurn)
      return false
    }
    return true
  }

  /** A chunk from `'data'`: its buffer belongs to it alone, but has no reserve, so it is moved into one that has. */
  receivedChunk(chunk: Buffer): void {
    this.bytesRead += chunk.length
    const bytes = Buffer.allocUnsafe(BUFFER_RESERVE + chunk.length + BUFFER_RESERVE)
    chunk.copy(bytes, BUFFER_RESERVE)
    this.owner.onBytes(bytes, BUFFER_RESERVE, BUFFER_RESERVE + chunk.length)
  }

  endYield(): void {
    if (!this.#yielding) return
    this.#yielding = false
    if (!this.paused && !this.socket.destroyed) this.socket.resume()
  }

  pause(): void {
    if (this.paused) return
    this.paused = true
    // Within its own read callback the returned false stops it, for less.
    if (reading !== this || !this.#viaOnread) this.socket.pause()
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    if ((reading !== this || !this.#viaOnread) && !this.#yielding) this.socket.resume()
  }

  useOwnBuffer(): void {
    if (this.#slab !== sharedSlab || reading !== this || !this.#viaOnread) return
    this.#slab = takeSlab()
    upcoming = this.#slab.view
  }

  useSharedBuffer(): void {
    if (this.#slab === sharedSlab || reading !== this) return
    giveSlab(this.#slab)
    this.#slab = sharedSlab
    upcoming = sharedSlab.view
  }

  giveUpBuffer(): boolean {
    if (this.#slab === sharedSlab) return true // Also without `onread`: what was read is in a buffer of its own.
    if (reading !== this) return false
    dropSlab(this.#slab)
    this.#slab = takeSlab()
    upcoming = this.#slab.view
    return true
  }

  get ownsBuffer(): boolean { return this.#slab !== sharedSlab || !this.#viaOnread }

  // ---- writing

  writeText(text: string): void {
    this.#text = this.#text === '' ? text : this.#text + text
    if (this.#queuedForFlush) {
      // From here on `bytesQueued` has to show, to a writer that goes on within one turn, that it should stop.
      if (this.#text.length > TEXT_MAX) this.#sendText()
      return
    }
    this.#queuedForFlush = true
    unflushed[unflushedCount++] = this
    if (reading === null && !flushScheduled) {
      flushScheduled = true
      process.nextTick(flushAll)
    }
  }

  writeBytes(bytes: Buffer): void {
    const socket = this.socket, text = this.#text
    if (socket.destroyed || this.#ended || this.lostReader !== null) return
    this.bytesWritten += text.length + bytes.length
    if (text === '') socket.write(bytes)
    else {
      this.#text = ''
      socket.cork()
      socket.write(text, 'latin1')
      socket.write(bytes)
      socket.uncork()
    }
    if (socket.writableLength > 0) this.#awaitDrain()
  }

  flush(): void {
    this.#queuedForFlush = false
    this.#sendText()
  }

  #sendText(): void {
    const text = this.#text
    if (text === '') return
    this.#text = ''
    const socket = this.socket
    if (socket.destroyed || this.#ended || this.lostReader !== null) return
    this.bytesWritten += text.length
    socket.write(text, 'latin1')
    if (socket.writableLength > 0) this.#awaitDrain()
  }

  /**
   * The callback of an empty write behind the others tells when the kernel has them all; only a write that did not go at
   * once pays for it.
   */
  #awaitDrain(): void {
    this.#countQueue(this.socket.writableLength)
    if (this.#awaitingDrain) return
    this.#awaitingDrain = true
    this.socket.write(NOTHING, () => {
      this.#awaitingDrain = false
      if (this.socket.destroyed || this.lostReader !== null) return
      this.#countQueue(this.socket.writableLength)
      if (this.socket.writableLength === 0) this.owner.onDrained()
      else if (!this.#ended) this.#awaitDrain()
    })
  }

  #countQueue(bytes: number): void {
    heldBytes.now += bytes - this.#queueCounted
    this.#queueCounted = bytes
  }

  end(): void {
    this.flush()
    if (this.#ended) return
    this.#ended = true
    if (this.lostReader === null) this.socket.end()
  }

  onLostReader(error: Error): boolean {
    if (this.socket.readableEnded) return false
    if (this.lostReader !== null) return true
    this.lostReader = error
    this.#text = ''
    this.#countQueue(0)
    // What is still to be sent goes nowhere, so that whoever sends it gets to its end.
    process.nextTick(() => { if (!this.socket.destroyed) this.owner.onDrained() })
    return true
  }

  destroy(reset = false): void {
    this.#text = ''
    if (this.socket.destroyed) return
    if (reset) resetSocket(this.socket)
    else this.socket.destroy()
  }

  connected(): void { (this.owner as StreamOwner & { onConnected(): void }).onConnected() }

  closed(): void {
    if (this.#closed) return
    this.#closed = true
    this.#countQueue(0)
    if (this.#slab !== sharedSlab) {
      // The buffer itself may still be named by a write that was cut: it is left to the garbage collector then.
      if (this.failure === null && !this.paused) giveSlab(this.#slab)
      else dropSlab(this.#slab)
    }
    this.#slab = sharedSlab
    this.owner.onClosed(this.failure)
  }
}

/**
 * RST where the transport has one; a Unix socket is just closed. So is one whose FIN is on its way: libuv refuses the
 * reset then (EINVAL) and Node loses the descriptor and the 'close' event; all bytes before the FIN have left us anyway.
 */
export function resetSocket(socket: net.Socket): void {
  if (socket.writableEnded && !socket.writableFinished && socket.writableLength === 0) socket.destroy()
  else try { socket.resetAndDestroy() } catch { socket.destroy() }
}

function onConnect(this: OwnedSocket): void {
  this[STREAM].connected()
  if (unflushedCount > 0) flushAll()
}

/** What one dial is told; every field is given. */
export interface DialRequest {
  /** A numeric host: names are resolved before (connector/resolver.ts). */
  readonly address:
    | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
    | { readonly kind: 'unix'; readonly path: string }
  /** Address to bind to before connecting; undefined leaves it to the kernel. */
  readonly localAddress?: string
  readonly localPort?: number
  /** TCP keep-alive; undefined leaves it off. */
  readonly keepAlive?: { readonly initialDelayMs: number }
}

export function dialTcp(options: DialRequest, owner: StreamOwner & { onConnected(): void }): TcpStream {
  return TcpStream.dial(options, owner)
}

/**
 * Asks the kernel for the local address only when it is read: that is a system call. Its time is exact, and so is what the clock says next:
 * while nothing has a deadline no tick moves the clock on.
 */
class SocketDigest implements StreamDigest {
  readonly #socket: net.Socket
  readonly establishedAt: number
  readonly remoteIp: string
  readonly remotePort: number
  readonly tls = null
  constructor(socket: net.Socket, establishedAt: number, { address, port }: RemoteEnd) {
    this.#socket = socket
    this.establishedAt = establishedAt
    // An IPv4 client of a dual-stack listener is an IPv4 client.
    this.remoteIp = address.startsWith('::ffff:') ? address.slice(7) : address
    this.remotePort = port
  }
  get remoteAddress(): string { return printAddress(this.remoteIp, this.remotePort) }
  get localAddress(): string { return printAddress(this.#socket.localAddress ?? '', this.#socket.localPort ?? 0) }
}

function printAddress(ip: string, port: number): string {
  return ip === '' ? '' : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
}

let onreadWorks = true
let tested: Promise<boolean> | null = null

/** Whether an accepted connection can be taken over by its handle alone, as far as is known by now. */
export function canAdopt(): boolean { return onreadWorks }

/** Proves once a process that an accepted socket can be read through `onread`; without it `'data'` is used. Resolves to what holds. */
export function selfTest(): Promise<boolean> {
  return tested ??= probe().then(works => onreadWorks = works, () => onreadWorks = false)
}

/** A loopback pair: bytes both ways, a pause, then FIN from either side must all arrive through the stream. */
async function probe(): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const server = net.createServer({ pauseOnConnect: true }, accepted => {
    let got = ''
    const stream = TcpStream.accept(accepted, {
      onBytes(buffer, from, to) {
        got += buffer.latin1Slice(from, to)
        if (got === 'ping') stream.writeText('pong')
      },
      onEnd() { stream.end() },
      onDrained() {},
      onClosed(error) {
        if (error === null && got === 'ping') resolve(true)
        else reject(error ?? new Error(`read ${got}`))
      },
    })
  })
  server.on('error', reject)
  const limit = setTimeout(() => reject(new Error('self-test timed out')), 2000)
  // Exclusive: within a cluster worker Node would otherwise ask a primary that gives out no sockets.
  server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
    const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1', () => client.write('ping'))
    client.on('data', chunk => chunk.toString() === 'pong' ? client.end() : reject(new Error('wrong bytes')))
    client.on('error', reject)
  })
  try { return await promise } finally {
    clearTimeout(limit)
    net.Server.prototype.close.call(server)
  }
}
