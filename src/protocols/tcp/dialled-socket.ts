/**
 * A socket that was dialled. Another side that closes without reading what we send has mostly answered before: the answer is in
 * our receive buffer, and a write that then fails would take it away with the socket. So such a socket is read on. That ends by
 * itself, since nothing more can come from a side that sent RST; and its end is no FIN: what ends with the connection was cut.
 */
import net from 'node:net'

/** The stream over such a socket. */
export interface SocketReader {
  /** Why nothing more can be written; null: it can. */
  readonly lostReader: Error | null
  /** A write failed since nobody reads. False when there is nothing more to read either: then the socket is closed. */
  onLostReader(error: Error): boolean
}

export class DialledSocket extends net.Socket {
  /** Set before it connects. */
  reader!: SocketReader

  override destroy(error?: Error): this {
    if (error !== undefined && isLostReader(error) && this.reader.onLostReader(error)) return this
    return super.destroy(error)
  }

  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    const { lostReader } = this.reader
    if (chunk !== null || lostReader === null) return super.push(chunk, encoding)
    super.destroy(lostReader)
    return false
  }
}

/** A write failed because the other side is gone. */
export function isLostReader({ syscall, code }: NodeJS.ErrnoException): boolean {
  return syscall === 'write' && (code === 'EPIPE' || code === 'ECONNRESET')
}
