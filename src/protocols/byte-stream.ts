/**
 * The duplex that every transport offers to the protocol above it: TCP and Unix sockets (tcp/tcp-stream.ts),
 * TLS later, and in-memory pairs for tests and `inject`.
 *
 * It is push-based and has exactly one owner, so that nothing on the way allocates a listener, a closure or a promise:
 * bytes come as calls on the owner, and are *borrowed*: valid until the call returns. Where the receive buffer is the
 * stream's own they also stay untouched for as long as the owner keeps the stream paused. An owner that keeps bytes longer
 * copies them.
 */

/**
 * Free bytes that every receive buffer has before and behind the bytes that are handed out: a chunk header and its CRLF can
 * be written around a body in place.
 */
export const BUFFER_RESERVE = 20

declare global {
  // Part of every Buffer, but missing from its published types: `toString` and `write` of latin1 without the dispatch on a name.
  interface Buffer {
    latin1Slice(start: number, end: number): string
    latin1Write(text: string, offset: number): number
  }
}

/** Whom a stream calls. */
export interface StreamOwner {
  /** Bytes [from, to) of `buffer` arrived. The owner may overwrite them, and BUFFER_RESERVE bytes on either side. */
  onBytes(buffer: Buffer, from: number, to: number): void
  /** The other side sent its FIN; nothing more will arrive. Writing is still possible. */
  onEnd(): void
  /** Everything written has been taken by the kernel, after the owner had read a `bytesQueued` above 0. */
  onDrained(): void
  /** The stream is gone; called exactly once, last. `error` is null after an orderly end or our own `destroy()`. */
  onClosed(error: Error | null): void
}

/** The duplex between a transport and a protocol, with one owner that is called for everything: what a `CustomL4` returns. */
export interface ByteStream {
  /** Never null: a stream that is no longer wanted is destroyed, and one that waits belongs to the part that keeps it. */
  owner: StreamOwner
  /**
   * Bytes handed to the kernel that it has not taken yet, text that waits for the end of the turn aside.
   * 0: every buffer written is free again.
   */
  readonly bytesQueued: number
  /** Bytes received so far. */
  readonly bytesRead: number
  /** Bytes written so far, those of `bytesQueued` included. */
  readonly bytesWritten: number
  /** Bytes that the kernel has taken so far, as exactly as the transport can tell: how a slow reader is told from a stuck one. */
  readonly bytesTaken: number
  /** It is closed, or about to be: what is written goes nowhere. */
  readonly destroyed: boolean
  /** Of the socket below it; -1 without one, and once that is closed. */
  readonly descriptor: number
  /** Addresses, age and TLS of the connection. */
  readonly digest: StreamDigest

  /** Appends latin1 text. It is written together with what follows in this turn; `flush()` sends it now. */
  writeText(text: string): void
  /** Writes bytes behind the text queued so far. They belong to the stream until `bytesQueued` is 0 again. */
  writeBytes(bytes: Buffer): void
  /** Writes text that is queued now, not at the end of the turn. */
  flush(): void
  /** Sends FIN after everything written. Reading goes on. */
  end(): void
  /** Closes now. With `reset`, a TCP peer sees RST instead of FIN, so that it cannot take a cut message for a whole one. */
  destroy(reset?: boolean): void

  /** Stops reading, at once: no `onBytes` and no `onEnd` until `resume()`. Repeating it is harmless. */
  pause(): void
  /** Reads on. Repeating it is harmless. */
  resume(): void
  /** Stopped by `pause()`. A stream that only lets others have their turn is not. */
  readonly paused: boolean
  /** What the receiver may say of its buffer; null: every buffer handed to `onBytes` is the receiver's for good. */
  readonly receiveBuffer: ReceiveBuffer | null
}

/** The receive buffer of a transport that reads many connections into one: the receiver says when it needs one of its own. */
export interface ReceiveBuffer {
  /** Within `onBytes` only: the next read goes into a buffer of this stream's own (relayed bodies). */
  useOwnBuffer(): void
  /** Within `onBytes` only: the next read goes into the shared buffer again. */
  useSharedBuffer(): void
  /** The bytes handed to `onBytes` are in a buffer that no other stream reads into. */
  readonly ownsBuffer: boolean
  /**
   * Leaves the current buffer to a write still under way: the next read takes another. Returns false outside of `onBytes`,
   * where it cannot be changed: keep the stream paused until that write is done.
   */
  giveUpBuffer(): boolean
}

/** What is known of a connection, for hooks, tracers and logs. */
export interface StreamDigest {
  /** `203.0.113.7:4711` or `[2001:db8::1]:443`; '' for a Unix socket, or when the kernel did not say. */
  readonly remoteAddress: string
  /** Numeric, without brackets, IPv4 for an IPv4 client of a dual-stack listener; '' as `remoteAddress`. */
  readonly remoteIp: string
  /** 0 for a Unix socket, or when the kernel did not say. */
  readonly remotePort: number
  /** This end, in the form of `remoteAddress`; '' as well once the connection is closed. */
  readonly localAddress: string
  /** When the connection was accepted or established, in monotonic ms, exact; 0 when unknown. */
  readonly establishedAt: number
  /** Of the handshake on top of the transport; null: plain text. */
  readonly tls: TlsFacts | null
}

/** What a TLS handshake settled. '' for what was not said. */
export interface TlsFacts {
  /** `TLSv1.3` or `TLSv1.2`. */
  readonly version: string
  /** OpenSSL's name of the cipher suite. */
  readonly cipher: string
  /** Protocol chosen by ALPN: `h2`, `http/1.1`. */
  readonly alpn: string
  /** SNI. */
  readonly serverName: string
  /** An earlier session was taken up again (RFC 8446 2.2). */
  readonly resumed: boolean
  /** How long the handshake took, in ms. */
  readonly handshakeMs: number
  /** Whose certificate the client showed; null: it was not asked for one, or showed none. That it was verified is up to the listener. */
  readonly client: TlsIdentity | null
}

/** What a certificate says of whom it was given to. */
export interface TlsIdentity {
  /** Distinguished name, one attribute a line, as OpenSSL prints it: `CN=device-1`. */
  readonly subject: string
  /** Of the authority that signed it, in the form of `subject`. */
  readonly issuer: string
  /** Names of the subjectAltName: `DNS:device-1, IP Address:10.0.0.1`; '' for none. */
  readonly altNames: string
  /** Hexadecimal. */
  readonly serialNumber: string
  /** SHA-256 of the certificate, hexadecimal with colons. */
  readonly fingerprint: string
}

/** A copy of [from, to) with BUFFER_RESERVE free bytes on either side. */
export function copyWithReserve(buffer: Buffer, from: number, to: number): Buffer {
  const copy = Buffer.allocUnsafe(to - from + 2 * BUFFER_RESERVE)
  buffer.copy(copy, BUFFER_RESERVE, from, to)
  return copy
}

/** A run up to this long is sent as text together with what stands before it: cheaper than a vectored write, and a copy anyway. */
export const TEXT_RUN_MAX = 4096

/**
 * Sends [from, to) as it is.
 * @param owned the bytes stay untouched until `bytesQueued` is 0; otherwise what the stream has to keep is copied
 * @returns whether the bytes are free again at once
 */
export function writeRun(stream: ByteStream, buffer: Buffer, from: number, to: number, owned: boolean): boolean {
  if (to - from <= TEXT_RUN_MAX) {
    stream.writeText(buffer.latin1Slice(from, to))
    return true
  }
  const run = from === 0 && to === buffer.length ? buffer : buffer.subarray(from, to)
  stream.writeBytes(owned ? run : Buffer.from(run))
  return !owned
}
