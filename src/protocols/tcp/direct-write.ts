/**
 * Writes past the queue of a `net.Socket`, by the methods that the queue itself writes by. The queue costs about as much as all else
 * that a small request needs in JavaScript (**measured**: 0.8 us of 15), and what it does is of use only while the kernel takes
 * nothing: then bytes go by way of it. The kernel keeps the order of writes, whichever way they came.
 *
 * The methods are not meant to be called from outside. `selfTest()` of tcp-self-test.ts proves both once a process; without them
 * everything goes by way of the queue.
 * Invariant: no direct write is begun while the queue may hold something, or another one is under way.
 */
import type net from 'node:net'

/** Called once: within the write when the kernel took all of it at once, otherwise when it has. */
export type WriteDone = (error?: Error | null) => void

interface WritingSocket {
  _write(chunk: string | Buffer, encoding: string, done: WriteDone): void
  _writev(chunks: { readonly chunk: string | Buffer; readonly encoding: string }[], done: WriteDone): void
}

export function writeTextDirectly(socket: net.Socket, text: string, done: WriteDone): void {
  (socket as unknown as WritingSocket)._write(text, 'latin1', done)
}

export function writeBytesDirectly(socket: net.Socket, bytes: Buffer, done: WriteDone): void {
  (socket as unknown as WritingSocket)._write(bytes, 'buffer', done)
}

/** In one system call. */
export function writeBothDirectly(socket: net.Socket, text: string, bytes: Buffer, done: WriteDone): void {
  (socket as unknown as WritingSocket)._writev([{ chunk: text, encoding: 'latin1' }, { chunk: bytes, encoding: 'buffer' }], done)
}
