/**
 * Whether an origin is late: it takes no byte of the request, sends no first byte, or falls silent within the response.
 * One object for each connection, or for each stream of a shared one: what watches the request watches the response as well.
 * Looked at once a tick; between ticks an event costs one store.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { ExchangeLimits } from './http-connection.ts'
import { SendProgress, type SendSide } from './send-progress.ts'

/**
 * What the origin owes the exchange. `Nothing` also while the proxy holds the response back; `Room` while bytes of the
 * request wait for the origin, whose silence does not count as long.
 */
export const Owed = { Nothing: 0, Room: 1, FirstByte: 2, Rest: 3 } as const
export type Owed = (typeof Owed)[keyof typeof Owed]

export class ResponseWatch extends SendProgress {
  #silentSince: number

  constructor(stream: SendSide, now: number) {
    super(stream, now)
    this.#silentSince = now
  }

  /** The origin's silence counts from here: a byte of it came, the request is whole, or the proxy reads on after a pause. */
  restart(now: number): void { this.#silentSince = now }

  /** The fault of an origin that is late, null otherwise. */
  lateness(now: number, limits: ExchangeLimits, owed: Owed): ProxyError | null {
    switch (owed) {
      case Owed.Nothing: return null
      case Owed.Room: {
        const { writeTimeoutMs } = limits
        if (this.check(now, writeTimeoutMs, 0) === '') return null
        return new ProxyError('WRITE_TIMEOUT', 'upstream', `the origin took no byte for ${writeTimeoutMs} ms`, { limit: 'write-timeout' })
      }
      case Owed.FirstByte: {
        const { firstByteTimeoutMs } = limits
        if (now - this.#silentSince <= firstByteTimeoutMs) return null
        const text = `no response within ${firstByteTimeoutMs} ms`
        return new ProxyError('FIRST_BYTE_TIMEOUT', 'upstream', text, { limit: 'first-byte-timeout' })
      }
      case Owed.Rest: {
        const { readTimeoutMs } = limits
        if (now - this.#silentSince <= readTimeoutMs) return null
        return new ProxyError('READ_TIMEOUT', 'upstream', `no byte of the response for ${readTimeoutMs} ms`, { limit: 'read-timeout' })
      }
    }
  }
}
