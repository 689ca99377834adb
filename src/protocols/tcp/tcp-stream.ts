/**
 * ByteStream over `net.Socket`, TCP and Unix.
 *
 * Bytes are taken through `onread` buffers instead of `'data'` events: no slab and no stream push per read, a third of
 * the user time of a small request. The callback runs before the next read, so every stream that only waits (for a
 * head, or idle) reads into one buffer that the whole worker shares and costs none of its own; a stream that relays a
 * body reads into one from a small free list.
 *
 * A dialled socket takes `onread` as a public option. An accepted one has none: its handle is moved to a new Socket.
 * `_handle` is not public, so `selfTest()` of tcp-self-test.ts proves read, write, half-close and end over a loopback pair once a process,
 * and without it accepted sockets are read through `'data'` (correct, slower).
 *
 * Bytes are written past the queue of `net.Socket` while that has nothing to hold (direct-write.ts).
 *
 * Text queued by `writeText` is sent when the current read callback returns, or at the end of the tick otherwise, so
 * that a head and a small body leave in one write (socket-turn.ts).
 */
import net from 'node:net'
import { systemClock } from '../../primitives/clock.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import { beginReadTurn, readTurn } from '../../primitives/read-turn.ts'
import { BUFFER_RESERVE, type ByteStream, type ReceiveBuffer, type StreamDigest, type StreamOwner } from '../byte-stream.ts'
import { DialledSocket, type SocketReader } from './dialled-socket.ts'
import { writeBothDirectly, writeBytesDirectly, writeTextDirectly } from './direct-write.ts'
import { dropSlab, giveSlab, sharedSlab, takeSlab, touchSlab, type Slab } from './receive-slab.ts'
import { SocketDigest } from './socket-digest.ts'
import { flushAll, flushSoon, look, READS_A_LOOK, turn, TURN_BYTES, yieldTurn } from './socket-turn.ts'
import { handleOf, takeHandle, type RemoteEnd, type StreamHandle } from './stream-handle.ts'

/** Text that may wait for the end of the turn. */
export const TEXT_MAX = 65_536

const NOTHING = Buffer.alloc(0)

/** The buffer for the next read of the stream whose callback is running; Node asks for it right after that. */
let upcoming: Buffer | undefined

const STREAM = Symbol('cirque stream')
interface OwnedSocket extends net.Socket { [STREAM]: TcpStream }

const onread = {
  buffer(): Buffer {
    const next = upcoming
    upcoming = undefined
    // Node keeps the buffer it has when it is handed none.
    return next as Buffer
  },
  callback(this: OwnedSocket, count: number): boolean {
    const stream = this[STREAM]
    turn.reading = stream
    beginReadTurn()
    const goOn = stream.received(count)
    turn.reading = null
    readTurn.number = 0
    if (++turn.reads >= READS_A_LOOK) look()
    if (turn.unflushed > 0) flushAll()
    return goOn
  },
}

// Shared listeners: `this` is the socket, so that a connection allocates none.
function onEnd(this: OwnedSocket): void {
  this[STREAM].owner.onEnd()
  if (++turn.reads >= READS_A_LOOK) look()
  if (turn.unflushed > 0) flushAll()
}
function onError(this: OwnedSocket, error: Error): void { this[STREAM].failed(error) }
function onClose(this: OwnedSocket): void {
  this[STREAM].closed()
  if (++turn.reads >= READS_A_LOOK) look()
  if (turn.unflushed > 0) flushAll()
}
function onData(this: OwnedSocket, chunk: Buffer): void {
  const stream = this[STREAM]
  turn.reading = stream
  stream.receivedChunk(chunk)
  turn.reading = null
  if (turn.unflushed > 0) flushAll()
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
  /** Something was written by way of the socket's own queue, which the kernel may not have taken yet. */
  #awaitingDrain = false
  /** Bytes of the write past that queue which the kernel has not taken yet; 0: there is none. */
  #direct = 0
  /** Closed, or about to be. The socket knows as well, in two objects that are asked for nothing else. */
  #gone = false
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
    const stream = new TcpStream(accepted, owner, new SocketDigest(accepted, systemClock.exact(), remote, null), false)
    accepted.on('data', onData)
    accepted.resume()
    return stream
  }

  /** Takes over the handle of a connection. Reading starts at once. */
  static adopt(handle: StreamHandle, remote: RemoteEnd, owner: StreamOwner): TcpStream {
    upcoming = sharedSlab.view
    const socket = new net.Socket({ handle, allowHalfOpen: true, onread } as unknown as net.SocketConstructorOpts)
    return new TcpStream(socket, owner, new SocketDigest(socket, systemClock.exact(), remote, null), true)
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

  get bytesQueued(): number {
    if (this.lostReader !== null) return 0
    return this.#awaitingDrain ? this.#direct + this.socket.writableLength : this.#direct
  }
  get bytesTaken(): number {
    // Within one large write only the handle knows how far the kernel is.
    const queue = handleOf(this.socket)?.writeQueueSize
    return this.bytesWritten - (queue ?? this.bytesQueued)
  }
  get destroyed(): boolean { return this.#gone }
  get descriptor(): number { return handleOf(this.socket)?.fd ?? -1 }
  get receiveBuffer(): ReceiveBuffer { return this }
  get digest(): StreamDigest { return this.#digest ??= this.#digestNow() }
  #digestNow(): StreamDigest {
    const { socket } = this
    return new SocketDigest(socket, systemClock.exact(), { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }, null)
  }

  // ---- reading

  /** Returns false to stop reading (the contract of `onread`). */
  received(count: number): boolean {
    this.bytesRead += count
    if (this.#turn !== turn.number) {
      this.#turn = turn.number
      this.#turnBytes = 0
    }
    const slab = this.#slab
    touchSlab(slab, count)
    this.owner.onBytes(slab.bytes, BUFFER_RESERVE, BUFFER_RESERVE + count)
    if (this.paused) return false
    if ((this.#turnBytes += count) >= TURN_BYTES && !this.#gone) {
      this.#yielding = true
      yieldTurn(this)
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
    if (!this.paused && !this.#gone) this.socket.resume()
  }

  pause(): void {
    if (this.paused) return
    this.paused = true
    // Within its own read callback the returned false stops it, for less.
    if (turn.reading !== this || !this.#viaOnread) this.socket.pause()
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    if ((turn.reading !== this || !this.#viaOnread) && !this.#yielding) this.socket.resume()
  }

  useOwnBuffer(): void {
    if (this.#slab !== sharedSlab || turn.reading !== this || !this.#viaOnread) return
    this.#slab = takeSlab()
    upcoming = this.#slab.view
  }

  useSharedBuffer(): void {
    if (this.#slab === sharedSlab || turn.reading !== this) return
    giveSlab(this.#slab)
    this.#slab = sharedSlab
    upcoming = sharedSlab.view
  }

  giveUpBuffer(): boolean {
    if (this.#slab === sharedSlab) return true // Also without `onread`: what was read is in a buffer of its own.
    if (turn.reading !== this) return false
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
    flushSoon(this)
  }

  writeBytes(bytes: Buffer): void {
    const socket = this.socket, text = this.#text
    if (this.#gone || this.#ended || this.lostReader !== null) return
    this.#text = ''
    const length = text.length + bytes.length
    this.bytesWritten += length
    if (this.#writesDirectly) {
      this.#direct = length
      direct.writer = this
      if (text === '') writeBytesDirectly(socket, bytes, onDirect)
      else writeBothDirectly(socket, text, bytes, onDirect)
      direct.writer = null
      if (this.#direct !== 0) this.#awaitDrain()
      return
    }
    if (text === '') socket.write(bytes)
    else {
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
    if (this.#gone || this.#ended || this.lostReader !== null) return
    this.bytesWritten += text.length
    if (this.#writesDirectly) {
      this.#direct = text.length
      direct.writer = this
      writeTextDirectly(socket, text, onDirect)
      direct.writer = null
      if (this.#direct !== 0) this.#awaitDrain()
      return
    }
    socket.write(text, 'latin1')
    if (socket.writableLength > 0) this.#awaitDrain()
  }

  /** Nothing is under way that a write past the queue could overtake. */
  get #writesDirectly(): boolean { return !this.#awaitingDrain && directWorks }

  /** Within the write: the kernel took all of it, or refused it. */
  wrote(error: Error | null | undefined): void {
    this.#direct = 0
    if (error !== null && error !== undefined) this.socket.destroy(error)
  }

  /**
   * The callback of an empty write behind the others tells when the kernel has them all; only a write that did not go at
   * once pays for it.
   */
  #awaitDrain(): void {
    this.#countQueue(this.#direct + this.socket.writableLength)
    if (this.#awaitingDrain) return
    this.#awaitingDrain = true
    this.socket.write(NOTHING, () => {
      this.#awaitingDrain = false
      this.#direct = 0
      if (this.#gone || this.lostReader !== null) return
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
    process.nextTick(() => { if (!this.#gone) this.owner.onDrained() })
    return true
  }

  /**
   * Gives the connection away, for what goes on top of it: from now on the stream is closed, which nobody is told. What was written
   * is sent first.
   * @returns null when the connection is gone
   */
  handOver(): HandedOver | null {
    this.flush()
    const { digest } = this, handle = takeHandle(this.socket)
    this.owner = NOBODY
    this.#gone = true
    this.socket.destroy()
    return handle === null ? null : { handle, digest }
  }

  destroy(reset = false): void {
    this.#text = ''
    if (this.#gone) return
    this.#gone = true
    if (reset) resetSocket(this.socket)
    else this.socket.destroy()
  }

  connected(): void { (this.owner as StreamOwner & { onConnected(): void }).onConnected() }

  failed(error: Error): void {
    this.failure ??= error
    this.#gone = true
  }

  closed(): void {
    if (this.#closed) return
    this.#closed = this.#gone = true
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

/** The stream that is within a direct write. */
const direct: { writer: TcpStream | null } = { writer: null }

/** A write that the kernel took in part ends later; the empty write behind it, which waits as long, tells of that. */
function onDirect(error?: Error | null): void { direct.writer?.wrote(error) }

function onConnect(this: OwnedSocket): void {
  this[STREAM].connected()
  if (turn.unflushed > 0) flushAll()
}

const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

/** A connection without its stream. */
export interface HandedOver {
  readonly handle: StreamHandle
  readonly digest: StreamDigest
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

let onreadWorks = true
let directWorks = true

/** Whether an accepted connection can be taken over by its handle alone, as far as is known by now. */
export function canAdopt(): boolean { return onreadWorks }
/** As the self-test says (tcp-self-test.ts). Streams that there are already are read on as before. */
export function useOnread(works: boolean): void { onreadWorks = works }
export function useDirectWrites(works: boolean): void { directWorks = works }
