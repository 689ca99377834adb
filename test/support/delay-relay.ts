/**
 * A TCP relay that holds everything for a fixed time each way, in order: a long line on the loopback. FIN is held like
 * bytes are; a reset goes through at once.
 */
import net from 'node:net'
import type { Address } from './raw-client.ts'

export class DelayRelay {
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()
  #port = 0

  private constructor(to: Address, delayMs: number) {
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, near => {
      const far = net.connect({ ...to, allowHalfOpen: true, noDelay: true })
      this.#relay(near, far, delayMs)
      this.#relay(far, near, delayMs)
    })
  }

  static async start(to: Address, delayMs: number): Promise<DelayRelay> {
    const relay = new DelayRelay(to, delayMs)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    relay.#server.once('error', reject)
    relay.#server.listen(0, '127.0.0.1', () => resolve())
    await promise
    relay.#port = (relay.#server.address() as net.AddressInfo).port
    return relay
  }

  get port(): number { return this.#port }
  get address(): Address { return { host: '127.0.0.1', port: this.#port } }

  async stop(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    for (const socket of this.#sockets) socket.destroy()
    await promise
  }

  [Symbol.asyncDispose](): Promise<void> { return this.stop() }

  #relay(from: net.Socket, to: net.Socket, delayMs: number): void {
    this.#sockets.add(from)
    // Timers of one length fire in the order in which they were set, which keeps the bytes in order.
    from.on('data', bytes => { setTimeout(() => { if (to.writable) to.write(bytes) }, delayMs) })
    from.on('end', () => { setTimeout(() => { if (to.writable) to.end() }, delayMs) })
    from.on('error', () => to.resetAndDestroy())
    from.on('close', () => { this.#sockets.delete(from) })
  }
}
