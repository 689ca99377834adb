/**
 * A TLSSocket that tells its stream (tls-stream.ts) what the events of Node.js do not: how much of what was written the engine has
 * encrypted, and whether an end was said by the other side or only happened.
 *
 * A TLSSocket takes `onread` buffers only where it makes its transport itself. The override of `_wrapHandle` gives it one that is
 * connected already: the handle of a TCP connection, or that of another TLSSocket. Neither is public, so `tlsSelfTest()` of
 * tls-stream.ts proves both once a process; without them sockets are made in the public way, and read through 'data'.
 *
 * node:tls is loaded with the first socket: a process that speaks no TLS is spared its 8 MB.
 */
import type net from 'node:net'
import type { Duplex } from 'node:stream'
import type tls from 'node:tls'
import { isLostReader } from '../tcp/dialled-socket.ts'
import { handleOf, type StreamHandle } from '../tcp/stream-handle.ts'

/** What a socket tells its stream. */
export interface TlsSocketReader {
  /** So many bytes were given to the engine, which has its own copy of them from now on. */
  onIssued(bytes: number): void
  /** Everything was read. False: it must not be known yet, or the socket was destroyed instead. */
  onReadAll(): boolean
  /** It is about to be closed for this; the engine can still be asked. */
  onBroken(error: Error): void
  /** A write failed since nobody reads. False: then the socket is closed. */
  onLostReader(error: Error): boolean
}

/** What a TLSSocket has below it. */
export interface TlsHandle extends StreamHandle {
  /** Reading, as far as Node.js has asked for it. */
  readonly reading: boolean
  readonly _parent: TransportHandle
  /** As if the transport had read them. */
  receive(bytes: Uint8Array): void
  /** What is wrong with the certificate chain of the other side; null: nothing. */
  verifyError(): (Error & { code?: string }) | null
  setVerifyMode(request: boolean, reject: boolean): void
  setOCSPResponse(response: Uint8Array): void
  /** Of a client. */
  onnewsession: (id: Buffer, session: Buffer) => void
  enableSessionCallbacks?(): void
  setSession(session: Uint8Array): void
}

/** What a TlsHandle lies on: a connection of the kernel, or another TlsHandle. */
export interface TransportHandle extends StreamHandle {
  readonly _parent?: TransportHandle
  /** UV_EALREADY while it reads. */
  readStart(): number
  readStop(): number
  /** Closes with RST. Not 0 when it cannot, such as after FIN. */
  reset?(done: () => void): number
  close(done?: () => void): void
}

/** The transport that a socket is made on. */
export type TlsBelow =
  | { readonly kind: 'handle'; readonly handle: StreamHandle }
  | { readonly kind: 'socket'; readonly socket: net.Socket }
  | { readonly kind: 'duplex'; readonly duplex: Duplex }

export interface TlsSocket extends tls.TLSSocket {
  stream: TlsSocketReader
  readonly below: TlsBelow['kind']
  setServername(name: string): void
  /** What `onReadAll` refused is told now. */
  tellEnd(): void
}

/** With options of net.Socket: `onread` is taken where the socket makes its transport itself, and missing from the published types. */
export type TlsSocketOptions = tls.TLSSocketOptions & { readonly onread?: object; readonly allowHalfOpen?: boolean }

type TlsSocketKind = new (below: TlsBelow, options: TlsSocketOptions) => TlsSocket

/** Members of a TLSSocket that its published types lack. */
interface UnpublishedTlsSocket {
  _wrapHandle(wrap: net.Socket | null, handle: StreamHandle | null | undefined, busy: boolean): unknown
  _writev(chunks: { chunk: string | Uint8Array }[], done: (error?: Error | null) => void): void
  _releaseControl(): boolean
  _start(): void
  connecting: boolean
  setServername(name: string): void
}

/** What the socket that is being made has for a transport. */
let below: TlsBelow | null = null
let kind: TlsSocketKind | null = null

/** The class, made when node:tls is wanted for the first time. */
function tlsSocketKind(): TlsSocketKind {
  if (kind !== null) return kind
  const { TLSSocket } = process.getBuiltinModule('node:tls')
  const Base = TLSSocket as unknown as new (socket: unknown, options: TlsSocketOptions) => tls.TLSSocket & UnpublishedTlsSocket
  kind = class extends Base implements TlsSocket {
    stream!: TlsSocketReader
    readonly below: TlsBelow['kind']

    constructor(on: TlsBelow, options: TlsSocketOptions) {
      below = on
      super(on.kind === 'duplex' ? on.duplex : on.kind === 'socket' && options.onread === undefined ? on.socket : undefined, options)
      this.below = on.kind
      // What it lies on is connected.
      this.connecting = false
    }

    override _wrapHandle(wrap: net.Socket | null, handle: StreamHandle | null | undefined, busy: boolean): unknown {
      const on = below
      below = null
      if (on === null || on.kind === 'duplex' || (handle ?? null) !== null) return super._wrapHandle(wrap, handle, busy)
      if (on.kind === 'handle') return super._wrapHandle(null, on.handle, false)
      // Closing it closes the socket below.
      return super._wrapHandle(on.socket, handleOf(on.socket), on.socket.writableLength > 0)
    }

    override _write(chunk: string | Uint8Array, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
      super._write(chunk, encoding, done)
      this.stream.onIssued(chunk.length)
    }

    override _writev(chunks: { chunk: string | Uint8Array }[], done: (error?: Error | null) => void): void {
      let bytes = 0
      for (const { chunk } of chunks) bytes += chunk.length
      super._writev(chunks, done)
      this.stream.onIssued(bytes)
    }

    override push(chunk: unknown, encoding?: BufferEncoding): boolean {
      if (chunk === null && !this.stream.onReadAll()) return false
      return super.push(chunk, encoding)
    }

    tellEnd(): void {
      super.push(null)
      this.read(0)
    }

    override destroy(error?: Error): this {
      if (error !== undefined) {
        if (isLostReader(error) && this.stream.onLostReader(error)) return this
        this.stream.onBroken(error)
      }
      return super.destroy(error)
    }
  }
  return kind
}

export function makeTlsSocket(on: TlsBelow, options: TlsSocketOptions): TlsSocket { return new (tlsSocketKind())(on, options) }

/** From now on an error is told as 'error', as after every handshake that a tls.Server or tls.connect() made. */
export function releaseControl(socket: TlsSocket): void { (socket as unknown as UnpublishedTlsSocket)._releaseControl() }

/** Calls `run` with each session that the server hands out, as OpenSSL writes it, now or later. */
export function onNewSession(socket: TlsSocket, run: (session: Buffer) => void): void {
  const handle = tlsHandleOf(socket)
  if (handle === null) return
  handle.onnewsession = (_id, session) => run(session)
  handle.enableSessionCallbacks?.()
}

/** One that `onNewSession` has told is to be taken up again. Before the client says hello. */
export function offerSession(socket: TlsSocket, session: Buffer): void {
  // What OpenSSL does not understand is none.
  try { tlsHandleOf(socket)?.setSession(session) } catch { /* A full handshake, then. */ }
}

/** The client says hello. */
export function startClient(socket: TlsSocket): void { (socket as unknown as UnpublishedTlsSocket)._start() }

/** @returns null once the socket is destroyed. */
export function tlsHandleOf(socket: TlsSocket): TlsHandle | null { return handleOf(socket) as TlsHandle | null }

/**
 * Whether the end that the socket has just read was no word of the other side (close_notify, RFC 8446 6.1) but the end of what lies
 * below, which anybody on the way can bring about. Told by the transport: one that has come to its end no longer reads.
 * What a socket on top of another one, or of a Duplex, was told cannot be known: it counts as cut.
 */
export function wasCut(socket: TlsSocket): boolean {
  const handle = tlsHandleOf(socket), transport = handle?._parent
  if (socket.below === 'duplex' || transport === undefined || transport._parent !== undefined) return true
  // It was stopped, and so has read no end.
  if (!handle!.reading) return false
  if (transport.readStart() !== 0) return false
  transport.readStop()
  return true
}

/** Closes a connection with RST, where it has one. `resetAndDestroy()` would throw. */
export function resetTlsSocket(socket: TlsSocket): void {
  let transport: TransportHandle | undefined = tlsHandleOf(socket)?._parent
  while (transport?._parent !== undefined) transport = transport._parent
  // Of this handle alone: closing it is the last thing that the socket does.
  if (transport !== undefined && transport.reset !== undefined) transport.close = closeByReset
  socket.destroy()
}

function closeByReset(this: TransportHandle, done: () => void = () => {}): void {
  if (this.reset!(done) !== 0) (Object.getPrototypeOf(this) as TransportHandle).close.call(this, done)
}
