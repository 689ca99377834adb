/**
 * What a TLS client lies on that stops in the middle of its handshake, and goes on later. TLS writes twice until it can be used: the
 * hello, and what follows the server's answer.
 *
 *   dialled   nothing is sent for a while, then all of the hello
 *   hello     half of the hello, and the rest later
 *   answer    the hello, and what follows the server's answer later
 *
 * Who wants to stop behind the handshake does so without it.
 */
import type net from 'node:net'
import { Duplex } from 'node:stream'
import type { Clock } from '../primitives/clock.ts'

export type HeldStage = 'dialled' | 'hello' | 'answer'

export interface Hold {
  readonly stage: HeldStage
  readonly ms: number
}

type Done = (error?: Error | null) => void

export class HeldTransport extends Duplex {
  readonly #socket: net.Socket
  readonly #hold: Hold
  readonly #clock: Clock
  #writes = 0

  constructor(socket: net.Socket, hold: Hold, clock: Clock) {
    super({ allowHalfOpen: true })
    this.#socket = socket
    this.#hold = hold
    this.#clock = clock
    socket.on('data', (bytes: Buffer) => { if (!this.push(bytes)) socket.pause() })
    socket.on('end', () => this.push(null))
    socket.on('error', error => this.destroy(error))
    socket.on('close', () => this.destroy())
  }

  override _read(): void { this.#socket.resume() }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: Done): void {
    const { stage } = this.#hold
    const count = ++this.#writes
    if (count === 1 && stage === 'dialled') this.#later(bytes, done)
    else if (count === 1 && stage === 'hello') {
      const half = bytes.length >> 1
      this.#socket.write(bytes.subarray(0, half))
      this.#later(bytes.subarray(half), done)
    } else if (count === 2 && stage === 'answer') this.#later(bytes, done)
    else this.#socket.write(bytes, done)
  }

  override _final(done: Done): void { this.#socket.end(done) }

  override _destroy(error: Error | null, done: Done): void {
    this.#socket.destroy()
    done(error)
  }

  #later(bytes: Buffer, done: Done): void {
    const send = (): void => {
      this.#clock.after(this.#hold.ms, () => {
        if (this.#socket.destroyed) done()
        else this.#socket.write(bytes, done)
      })
    }
    // From when there is somebody who could wait for it.
    if (this.#socket.connecting) this.#socket.once('connect', send)
    else send()
  }
}
