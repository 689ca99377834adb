/**
 * ByteStream over TLS, for both roles: on an accepted or dialled connection, the handle of which it takes over, on another TLS
 * stream (through a CONNECT proxy), or on any other ByteStream.
 *
 *   Handshake --'secure'--> Open ... closed
 *       \___________________ failed, cancelled: closed, which only the handshake's owner is told
 *
 * Bytes are taken through `onread`, always into the buffer that all sockets share, one record a call. Where it differs from TCP:
 *
 *   - A stream that has a buffer of its own gets its records copied there, and its owner gets them together: full ones wait for
 *     those behind them, until the buffer is full, a shorter one comes, or the turn ends. Relaying 10 MB from TLS to TLS took
 *     27 ms of CPU a record at a time, most of it in system calls for 16 KiB each.
 *   - `pause()` stops the socket, not the records that were read with the last one. They are kept, at most what one read of the
 *     socket holds, and come before anything else after `resume()`; so does an end that was read with them.
 *   - The engine has its own copy of what it was given to encrypt, and takes nothing more until Node.js calls that done, an
 *     immediate later, also where it went at once. What is written meanwhile is copied, up to COPIED_MAX, and not counted as queued:
 *     it leaves as surely as if the kernel had it, so that relays neither stop nor give their buffers away.
 *   - An end without close_notify may be anybody's doing (RFC 8446 6.1). To a client it is an error, since an answer may end with
 *     its connection (RFC 9112 9.8); to a server, to which nothing ends so, it is FIN.
 *   - Every error closes the socket; Node.js leaves it open after those that follow the handshake.
 *
 * One idea in more than 500 lines: reading, writing and whose buffer it is are one state of a socket.
 */
import type tls from 'node:tls'
import { systemClock } from '../../primitives/clock.ts'
import { heldBytes } from '../../primitives/held-bytes.ts'
import {
  BUFFER_RESERVE, copyWithReserve, type ByteStream, type ReceiveBuffer, type StreamDigest, type StreamOwner, type TlsFacts,
  type TlsIdentity,
} from '../byte-stream.ts'
import { dropSlab, giveSlab, READ_BYTES, RECORD_BYTES, sharedSlab, takeSlab, touchSlab, type Slab } from '../tcp/receive-slab.ts'
import { DigestAbove, SocketDigest } from '../tcp/socket-digest.ts'
import { flushAll, flushSoon, look, READS_A_LOOK, turn, TURN_BYTES, yieldTurn } from '../tcp/socket-turn.ts'
import { handleOf } from '../tcp/stream-handle.ts'
import { TcpStream, TEXT_MAX } from '../tcp/tcp-stream.ts'
import { StreamDuplex } from './stream-duplex.ts'
import {
  makeTlsSocket, releaseControl, resetTlsSocket, startClient, tlsHandleOf, wasCut, type TlsBelow, type TlsSocket, type TlsSocketReader,
} from './tls-socket.ts'

/** What the engine hands to the kernel in one go, at least: of a longer write the handle below does not show all that waits. */
const ONE_GO_BYTES = 131_072

/** Of what waits for a write under way, what may be copies. */
const COPIED_MAX = 131_072

const NOTHING = Buffer.alloc(0)
const NOBODY: StreamOwner = { onBytes() {}, onEnd() {}, onDrained() {}, onClosed() {} }

/** Who waits for a handshake. One of the two is called, once, unless it is cancelled first. */
export interface HandshakeOwner {
  /** Set `stream.owner` in this call: the first bytes may follow at once. */
  onSecure(stream: TlsStream): void
  /** The stream is closed. `error` is what Node.js or OpenSSL said; null: the other side closed the connection. */
  onHandshakeFailed(error: Error | null): void
}

/** What a handshake is made with: everything that a TLSSocket may be told, except what the stream decides. */
export type HandshakeOptions = Omit<tls.TLSSocketOptions, 'isServer' | 'server' | 'rejectUnauthorized'>

/**
 * Begins a handshake as the server. A client that shows a certificate of whatever kind gets through: look at `verifyError` of the
 * stream. `this` of the options' callbacks is the TLSSocket.
 * @param below an accepted connection, which is taken over; it must not be used any more
 * @param early bytes of it that were read before; null: none
 * @param serverName SNI as it was read from them, by which the context was chosen; null: what OpenSSL reads. That may be another name,
 * where a client is asked for a second hello (RFC 8446 4.1.4), and is none of a session of TLS 1.2 that is taken up again
 */
export function acceptTls(
  below: ByteStream, early: Buffer | null, options: HandshakeOptions, owner: HandshakeOwner, serverName: string | null = null,
): TlsStream {
  return TlsStream.begin(below, early, { ...options, isServer: true }, serverName, owner)
}

/**
 * Makes ready for a handshake as the client, which `startClient()` of the stream begins. A server with a certificate of whatever
 * kind gets through: the owner verifies it.
 * @param serverName SNI; '' for none
 * @param below a dialled connection, which is taken over; it must not be used any more
 * @param early bytes of it that were read before; null: none
 */
export function connectTls(
  below: ByteStream, early: Buffer | null, serverName: string, options: HandshakeOptions, owner: HandshakeOwner,
): TlsStream {
  return TlsStream.begin(below, early, options, serverName, owner)
}

// `this` is the socket, so that a connection allocates no functions.
const onread = {
  buffer: sharedSlab.view,
  callback(this: TlsSocket, count: number): boolean {
    const stream = this.stream as TlsStream
    // A write to one socket may bring records of another.
    const outer = turn.reading
    turn.reading = stream
    const goOn = stream.received(count)
    turn.reading = outer
    if (outer !== null) return goOn
    if (++turn.reads >= READS_A_LOOK) look()
    if (turn.unflushed > 0) flushAll()
    return goOn
  },
}

function onData(this: TlsSocket, chunk: Buffer): void {
  const stream = this.stream as TlsStream
  turn.reading = stream
  stream.receivedChunk(chunk)
  turn.reading = null
  if (turn.unflushed > 0) flushAll()
}
function onSecure(this: TlsSocket): void {
  (this.stream as TlsStream).secured()
  if (turn.unflushed > 0) flushAll()
}
function onEnd(this: TlsSocket): void {
  (this.stream as TlsStream).readAll()
  if (++turn.reads >= READS_A_LOOK) look()
  if (turn.unflushed > 0) flushAll()
}
function onError(this: TlsSocket, error: Error): void {
  (this.stream as TlsStream).failure ??= error
  this.destroy()
}
function onClose(this: TlsSocket): void {
  (this.stream as TlsStream).closed()
  if (++turn.reads >= READS_A_LOOK) look()
  if (turn.unflushed > 0) flushAll()
}

export class TlsStream implements ByteStream, ReceiveBuffer, TlsSocketReader {
  owner: StreamOwner = NOBODY
  readonly socket: TlsSocket
  /** First error the socket reported. */
  failure: Error | null = null
  /** Why nothing more can be written; null: it can. As in tcp/dialled-socket.ts, for clients alone. */
  lostReader: Error | null = null
  paused = false
  bytesRead = 0
  bytesWritten = 0
  /** Of a handshake that failed: the other side had shown its certificate by then. */
  sawCertificate = false
  readonly #isServer: boolean
  /** Of a server: what the client asked for; null: OpenSSL is to say. */
  #serverName: string | null = null
  /** Null once it is over. */
  #handshake: HandshakeOwner | null
  readonly #begunAt = systemClock.exact()
  /** Of what lies below; then with the facts of TLS. */
  #digest: StreamDigest
  /** Read through `onread`; otherwise through 'data', whose chunks have buffers of their own. */
  readonly #viaOnread: boolean
  /** Of its own; null: records go to the owner as they come. */
  #slab: Slab | null = null
  /** What waits in it. */
  #from = BUFFER_RESERVE
  #to = BUFFER_RESERVE
  /** Full records wait there for those behind them; the end of the turn is awaited. */
  #gathers = false
  /** Records that came while it was paused and had no room there, with BUFFER_RESERVE on either side; null: none. */
  #held: Buffer[] | null = null
  /** What the owner was handed last is in a buffer of its own. */
  #owns = false
  /** The other side has ended, and said so where that is asked for. */
  #endRead = false
  #endHeld = false
  #text = ''
  #queuedForFlush = false
  /** Bytes that the engine was given. */
  #issued = 0
  #lastIssue = 0
  /** Of those that it was not given yet, copies and text. */
  #copied = 0
  /** Where copies are; null: there are none. */
  #copies: Slab | null = null
  #copiesTo = 0
  #awaitingDrain = false
  /** Of what waits to be written, as much as `heldBytes` has. */
  #queueCounted = 0
  /** Stopped by fairness, not by the owner. */
  #yielding = false
  #turn = 0
  #turnBytes = 0
  #ended = false
  /** It is destroyed as soon as the engine has what waits. */
  #closing = false
  /** By its owner, who is told of no end any more. */
  #discarded = false
  #closed = false

  private constructor(
    on: TlsBelow, digest: StreamDigest, options: tls.TLSSocketOptions & { readonly isServer?: boolean }, handshake: HandshakeOwner,
  ) {
    this.#isServer = options.isServer === true
    this.#viaOnread = on.kind !== 'duplex' && onreadWorks
    this.#digest = digest
    this.#handshake = handshake
    const reading = this.#viaOnread ? { onread } : null
    const socket = makeTlsSocket(on, { ...options, rejectUnauthorized: false, allowHalfOpen: true, ...reading })
    this.socket = socket
    socket.stream = this
    // A TLSSocket over another stream has that one's way.
    socket.allowHalfOpen = true
    socket.on('secure', onSecure)
    socket.on('end', onEnd)
    socket.on('error', onError)
    // What is told while the handshake is under way.
    socket.on('_tlsError', onError)
    socket.on('close', onClose)
    if (!this.#viaOnread) socket.on('data', onData)
    if (this.#isServer) socket.disableRenegotiation()
  }

  /** Both roles: `options` say which. */
  static begin(
    below: ByteStream, early: Buffer | null, options: tls.TLSSocketOptions & { readonly isServer?: boolean },
    serverName: string | null, owner: HandshakeOwner,
  ): TlsStream {
    const on = takeOver(below)
    const stream = new TlsStream(on, below.digest, options, owner)
    if (on.kind === 'socket') below.owner = new Underneath(stream)
    if (options.isServer === true) stream.#serverName = serverName
    else if (serverName !== null && serverName !== '') stream.socket.setServername(serverName)
    // Node.js begins to read in the next tick; what was read before comes first.
    if (early !== null) process.nextTick(receiveEarly, stream, early)
    return stream
  }

  get bytesQueued(): number {
    if (this.lostReader !== null || this.socket.writableLength === 0) return 0
    const waiting = this.bytesWritten - this.#issued, untaken = this.#untaken
    return untaken === 0 && waiting === this.#copied && waiting <= COPIED_MAX ? 0 : waiting + untaken
  }
  /** Of what the engine was given, and has encrypted, what the kernel has not taken. */
  get #untaken(): number {
    const handle = tlsHandleOf(this.socket)
    if (handle === null) return 0
    // Its own queue still holds what has gone, until Node.js calls the write done.
    return (this.#lastIssue <= ONE_GO_BYTES ? handle._parent.writeQueueSize : undefined) ?? handle.writeQueueSize!
  }
  get bytesTaken(): number { return this.bytesWritten - this.bytesQueued }
  get destroyed(): boolean { return this.#closing || this.socket.destroyed }
  get descriptor(): number { return handleOf(this.socket)?.fd ?? -1 }
  get receiveBuffer(): ReceiveBuffer { return this }
  get digest(): StreamDigest { return this.#digest }

  // ---- the handshake

  /** Says hello. To be called once, in the turn in which the stream was made. */
  startClient(): void { startClient(this.socket) }

  /** What is wrong with the certificate chain that the other side showed; '' when nothing is. OpenSSL's name: `CERT_HAS_EXPIRED`. */
  get verifyError(): string {
    const error = tlsHandleOf(this.socket)?.verifyError()
    return error === null || error === undefined ? '' : error.code ?? error.message
  }

  /** Ends a handshake that nobody waits for any more, without a word. Harmless when it is over. */
  cancelHandshake(): void {
    if (this.#handshake === null) return
    this.#handshake = null
    this.destroy(true)
  }

  secured(): void {
    const handshake = this.#handshake
    // A second one, in TLS 1.2, is refused by Node.js with an error.
    if (handshake === null || this.socket.destroyed) return
    this.#handshake = null
    releaseControl(this.socket)
    const facts = factsOf(this.socket, this.#isServer, this.#serverName, systemClock.exact() - this.#begunAt)
    const below = this.#digest
    // The stream below has no handle any more where that was taken over.
    this.#digest = this.socket.below === 'handle'
      ? new SocketDigest(this.socket, below.establishedAt, { address: below.remoteIp, port: below.remotePort }, facts)
      : new DigestAbove(below, facts)
    handshake.onSecure(this)
  }

  onBroken(): void {
    if (this.#handshake !== null) this.sawCertificate = this.socket.getPeerX509Certificate() !== undefined
  }

  /** What lies below is gone, which the socket may not have been told. */
  lost(error: Error | null): void {
    this.failure ??= error
    this.socket.destroy()
  }

  // ---- reading

  /** Returns false to stop reading (the contract of `onread`), which lets the records that were read with this one pass. */
  received(count: number): boolean {
    this.bytesRead += count
    if (this.#closing) return false
    const { bytes } = sharedSlab, isFree = !this.paused && this.#held === null
    if (this.#slab === null && isFree) {
      this.#owns = false
      this.owner.onBytes(bytes, BUFFER_RESERVE, BUFFER_RESERVE + count)
    } else if (!this.#keep(this.#slab, count)) {
      this.#hold(copyWithReserve(bytes, BUFFER_RESERVE, BUFFER_RESERVE + count))
      if (!this.paused) process.nextTick(goOn, this)
      return false
    } else if (isFree) {
      if (count === RECORD_BYTES && this.#to - this.#from + RECORD_BYTES <= READ_BYTES) this.#gather()
      else this.#deliver()
    }
    return this.#goesOn(count)
  }

  /** Copies the record behind those that wait. @returns false when there is no room, or others wait elsewhere */
  #keep(slab: Slab | null, count: number): boolean {
    if (slab === null || this.#held !== null || this.#to + count + BUFFER_RESERVE > slab.bytes.length) return false
    sharedSlab.bytes.copy(slab.bytes, this.#to, BUFFER_RESERVE, BUFFER_RESERVE + count)
    this.#to += count
    touchSlab(slab, this.#to - BUFFER_RESERVE)
    return true
  }

  #gather(): void {
    if (this.#gathers) return
    this.#gathers = true
    setImmediate(endGathering, this)
  }

  endGathering(): void {
    this.#gathers = false
    if (!this.paused && this.#held === null) this.#deliver()
  }

  /** What waits in its buffer. What comes while the owner keeps that paused goes behind it. */
  #deliver(): void {
    const from = this.#from, to = this.#to, slab = this.#slab
    if (slab === null || from === to || this.destroyed) return
    this.#from = this.#to = to + 2 * BUFFER_RESERVE
    this.#owns = true
    this.owner.onBytes(slab.bytes, from, to)
    if (!this.paused && this.#slab === slab && this.#from === this.#to) this.#from = this.#to = BUFFER_RESERVE
  }

  #goesOn(count: number): boolean {
    if (this.paused) return false
    if (this.#turn !== turn.number) {
      this.#turn = turn.number
      this.#turnBytes = 0
    }
    if ((this.#turnBytes += count) < TURN_BYTES || this.socket.destroyed) return true
    if (!this.#yielding) {
      this.#yielding = true
      yieldTurn(this)
    }
    return false
  }

  #hold(record: Buffer): void {
    heldBytes.now += record.length
    if (this.#held === null) this.#held = [record]
    else this.#held.push(record)
  }

  /** A chunk from `'data'`: its buffer belongs to it alone, but has no reserve, so it is moved into one that has. */
  receivedChunk(chunk: Buffer): void {
    this.bytesRead += chunk.length
    this.owner.onBytes(copyWithReserve(chunk, 0, chunk.length), BUFFER_RESERVE, BUFFER_RESERVE + chunk.length)
  }

  onReadAll(): boolean {
    const { lostReader, socket } = this
    // FIN behind the close_notify that was read before.
    if (this.#endRead) return false
    if (this.#handshake !== null) {
      // Half a handshake is none.
      socket.destroy()
      return false
    }
    // Asked first: an owner that pauses and resumes within the call would change what the transport says.
    const isCut = !this.#isServer && (lostReader !== null || wasCut(socket))
    if (!this.paused && this.#held === null) this.#deliver()
    if (isCut) {
      this.failure ??= lostReader ?? cutError()
      socket.destroy()
    }
    if (socket.destroyed) return false
    this.#endRead = true
    // In the public way the socket itself keeps what came before.
    if (!this.#viaOnread || (!this.paused && this.#held === null)) return true
    this.#endHeld = true
    return false
  }

  readAll(): void {
    if (this.paused) this.#endHeld = true
    else this.owner.onEnd()
  }

  endYield(): void {
    if (!this.#yielding) return
    this.#yielding = false
    if (!this.paused && this.#held === null && !this.socket.destroyed) this.socket.resume()
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
    if (this.#from === this.#to) this.#from = this.#to = BUFFER_RESERVE
    if (this.#held !== null || this.#endHeld || this.#from !== this.#to) process.nextTick(goOn, this)
    else if ((turn.reading !== this || !this.#viaOnread) && !this.#yielding) this.socket.resume()
  }

  /** What came while it was paused, and then the socket. */
  deliverHeld(): void {
    if (this.paused) return
    this.#deliver()
    const held = this.#held
    if (held !== null) {
      while (held.length > 0 && !this.paused && !this.destroyed) {
        const record = held.shift()!
        heldBytes.now -= record.length
        this.#owns = true
        this.owner.onBytes(record, BUFFER_RESERVE, record.length - BUFFER_RESERVE)
      }
      if (held.length > 0) return
      this.#held = null
    }
    if (this.paused || (this.destroyed && !this.#endHeld)) return
    if (this.#endHeld) {
      this.#endHeld = false
      if (!this.socket.readableEnded) this.socket.tellEnd()
      else {
        this.owner.onEnd()
        if (this.socket.closed) this.closed()
      }
    } else if (!this.#yielding) this.socket.resume()
  }

  useOwnBuffer(): void {
    if (this.#slab !== null || !this.#viaOnread) return
    this.#slab = takeSlab()
    this.#from = this.#to = BUFFER_RESERVE
  }

  useSharedBuffer(): void {
    // What waits there is still to be handed out.
    if (this.#slab === null || this.#from !== this.#to) return
    giveSlab(this.#slab)
    this.#slab = null
  }

  giveUpBuffer(): boolean {
    const before = this.#slab
    if (before === null || !this.#owns) return true
    dropSlab(before)
    const slab = this.#slab = takeSlab(), from = this.#from, waiting = this.#to - from
    this.#from = BUFFER_RESERVE
    this.#to = BUFFER_RESERVE + waiting
    if (waiting === 0) return true
    before.bytes.copy(slab.bytes, BUFFER_RESERVE, from, from + waiting)
    touchSlab(slab, waiting)
    return true
  }

  get ownsBuffer(): boolean { return this.#owns || !this.#viaOnread }

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
    if (this.destroyed || this.#ended || this.lostReader !== null) return
    this.bytesWritten += text.length + bytes.length
    if (socket.writableLength > 0) {
      if (text !== '') this.#waitWithText(text)
      socket.write(this.#copy(bytes))
    } else if (text === '') socket.write(bytes)
    else {
      // One record for both, where they fit.
      this.#text = ''
      socket.cork()
      socket.write(text, 'latin1')
      socket.write(bytes)
      socket.uncork()
    }
    if (this.bytesQueued > 0) this.#awaitDrain()
  }

  #waitWithText(text: string): void {
    this.#text = ''
    this.#copied += text.length
    this.socket.write(text, 'latin1')
  }

  /** A copy, where there is room for it; else the bytes themselves, which count as queued then. */
  #copy(bytes: Buffer): Buffer {
    if (bytes.length > READ_BYTES) return bytes
    let slab = this.#copies
    if (slab === null) {
      slab = this.#copies = takeSlab()
      this.#copiesTo = 0
    } else if (this.#copiesTo + bytes.length > READ_BYTES) return bytes
    const at = this.#copiesTo, to = at + bytes.length
    bytes.copy(slab.bytes, at)
    touchSlab(slab, to)
    this.#copiesTo = to
    this.#copied += bytes.length
    return slab.bytes.subarray(at, to)
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
    if (this.destroyed || this.#ended || this.lostReader !== null) return
    this.bytesWritten += text.length
    if (socket.writableLength > 0) this.#waitWithText(text)
    else socket.write(text, 'latin1')
    if (this.bytesQueued > 0) this.#awaitDrain()
  }

  onIssued(bytes: number): void {
    this.#issued += bytes
    this.#lastIssue = bytes
    if (this.#issued === this.bytesWritten) this.#dropCopies(giveSlab)
    // Within a call of the socket, to which nothing may be written now.
    if (this.#closing) process.nextTick(destroySocket, this)
    else if (this.#awaitingDrain) process.nextTick(checkDrain, this)
  }

  #dropCopies(drop: (slab: Slab) => void): void {
    this.#copied = 0
    if (this.#copies !== null) drop(this.#copies)
    this.#copies = null
  }

  #awaitDrain(): void {
    this.#countQueue(this.bytesQueued)
    if (this.#awaitingDrain) return
    this.#awaitingDrain = true
    // What waits for an earlier write is told of when the engine gets it.
    if (this.bytesWritten === this.#issued) this.#askForDrain()
  }

  /** The callback of an empty write behind the others tells when the kernel has them all. */
  #askForDrain(): void {
    this.socket.write(NOTHING, () => this.checkDrain())
  }

  checkDrain(): void {
    if (!this.#awaitingDrain || this.socket.destroyed || this.lostReader !== null) return
    const queued = this.bytesQueued
    this.#countQueue(queued)
    if (queued === 0) {
      this.#awaitingDrain = false
      this.owner.onDrained()
    } else if (this.bytesWritten === this.#issued && !this.#ended) this.#askForDrain()
  }

  #countQueue(bytes: number): void {
    heldBytes.now += bytes - this.#queueCounted
    this.#queueCounted = bytes
  }

  end(): void {
    this.flush()
    if (this.#ended) return
    this.#ended = true
    // Sends close_notify, then FIN.
    if (this.lostReader === null) this.socket.end()
  }

  onLostReader(error: Error): boolean {
    if (this.#isServer || this.#handshake !== null || this.socket.readableEnded) return false
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
    this.#discarded = true
    if (this.socket.destroyed) {
      if (this.socket.closed) this.closed()
      return
    }
    if (reset) resetTlsSocket(this.socket)
    else if (this.#copied > 0 && this.bytesQueued === 0) this.#closing = true
    else this.socket.destroy()
  }

  closed(): void {
    // An orderly end that the owner still has to hear of; without `onread` it cannot be kept from the socket.
    if (this.#closed || (this.#endHeld && this.failure === null && !this.#discarded)) return
    this.#closed = true
    this.#countQueue(0)
    for (const record of this.#held ?? []) heldBytes.now -= record.length
    this.#held = null
    // A write that was cut may still name them, and so may a paused owner: they are left to the garbage collector then.
    this.#dropCopies(dropSlab)
    if (this.#slab !== null) {
      if (this.failure === null && !this.paused) giveSlab(this.#slab)
      else dropSlab(this.#slab)
    }
    this.#slab = null
    const handshake = this.#handshake
    this.#handshake = null
    if (handshake === null) this.owner.onClosed(this.failure)
    else handshake.onHandshakeFailed(this.failure)
  }
}

function goOn(stream: TlsStream): void { stream.deliverHeld() }
function endGathering(stream: TlsStream): void { stream.endGathering() }
function destroySocket(stream: TlsStream): void { stream.socket.destroy() }
function checkDrain(stream: TlsStream): void { stream.checkDrain() }
function receiveEarly(stream: TlsStream, early: Buffer): void { tlsHandleOf(stream.socket)?.receive(early) }

function cutError(): Error {
  return Object.assign(new Error('the connection ended without close_notify, so that what came may not be all'), { code: 'ERR_TLS_CUT' })
}

/** The transport of a TLS stream; `below` is closed as such, or the TLS stream's alone from now on. */
function takeOver(below: ByteStream): TlsBelow {
  if (below instanceof TcpStream) {
    if (!onreadWorks) {
      below.flush()
      return { kind: 'socket', socket: below.socket }
    }
    const handed = below.handOver()
    if (handed !== null) return { kind: 'handle', handle: handed.handle }
  } else if (below instanceof TlsStream) {
    below.flush()
    return { kind: 'socket', socket: below.socket }
  }
  return { kind: 'duplex', duplex: new StreamDuplex(below) }
}

/** Owner of a stream that a TLS stream lies on, which takes the bytes from below it. */
class Underneath implements StreamOwner {
  readonly #above: TlsStream
  constructor(above: TlsStream) { this.#above = above }
  onBytes(): void {}
  onEnd(): void {}
  onDrained(): void {}
  onClosed(error: Error | null): void { this.#above.lost(error) }
}

function factsOf(socket: TlsSocket, isServer: boolean, asked: string | null, handshakeMs: number): TlsFacts {
  const { alpnProtocol, servername } = socket as unknown as { alpnProtocol: string | false; servername: string | false | null }
  return {
    version: socket.getProtocol() ?? '',
    cipher: socket.getCipher().name,
    alpn: alpnProtocol === false ? '' : alpnProtocol,
    serverName: asked ?? (typeof servername === 'string' ? servername : ''),
    resumed: socket.isSessionReused(),
    handshakeMs,
    client: isServer ? identityOf(socket) : null,
  }
}

function identityOf(socket: TlsSocket): TlsIdentity | null {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return null
  const { fingerprint256, issuer, serialNumber, subject, subjectAltName } = certificate
  return { subject: named(subject), issuer: named(issuer), altNames: named(subjectAltName), serialNumber, fingerprint: fingerprint256 }
}

/** Node.js has undefined for an empty name, whatever its types say. */
function named(name: string | undefined): string { return name ?? '' }

let onreadWorks = true

/** As the self-test says. Streams that there are already stay as they are. */
export function useOnread(works: boolean): void { onreadWorks = works }
