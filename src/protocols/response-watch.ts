/**
 * Whether an origin is late: it takes no byte of the request, sends no first byte, or falls silent within the response.
 * One rule for every protocol. Sessions hold what it needs, a `SendProgress` and the time since when the origin is silent,
 * as fields of their own: between two looks, once a tick, an event costs one store.
 */
import { ProxyError } from '../errors/proxy-error.ts'
import type { OriginTimes } from './http-options.ts'
import type { SendProgress } from './send-progress.ts'

/**
 * What the origin owes the exchange. `Nothing` also while the proxy holds the response back; `Room` while bytes of the
 * request wait for the origin, whose silence does not count as long.
 */
export const Owed = { Nothing: 0, Room: 1, FirstByte: 2, Rest: 3 } as const
export type Owed = (typeof Owed)[keyof typeof Owed]

/**
 * The fault of an origin that is late, null otherwise.
 * @param silentSince when the last byte of the origin came, the request was whole, or the proxy read on after a pause
 */
export function lateness(owed: Owed, times: OriginTimes, now: number, silentSince: number, progress: SendProgress): ProxyError | null {
  switch (owed) {
    case Owed.Nothing: return null
    case Owed.Room: {
      const { writeTimeoutMs } = times
      if (progress.check(now, writeTimeoutMs, 0) === '') return null
      return new ProxyError('WRITE_TIMEOUT', 'upstream', `the origin took no byte for ${writeTimeoutMs} ms`, { limit: 'write-timeout' })
    }
    case Owed.FirstByte: {
      const { firstByteTimeoutMs } = times
      if (now - silentSince <= firstByteTimeoutMs) return null
      const text = `no response within ${firstByteTimeoutMs} ms`
      return new ProxyError('FIRST_BYTE_TIMEOUT', 'upstream', text, { limit: 'first-byte-timeout' })
    }
    case Owed.Rest: {
      const { readTimeoutMs } = times
      if (now - silentSince <= readTimeoutMs) return null
      return new ProxyError('READ_TIMEOUT', 'upstream', `no byte of the response for ${readTimeoutMs} ms`, { limit: 'read-timeout' })
    }
  }
}

/** The fault of an origin that takes too long over one head, however often a byte of it comes. @param since infinity: none is begun */
export function headLateness({ responseHeadTimeoutMs }: OriginTimes, now: number, since: number): ProxyError | null {
  if (now - since <= responseHeadTimeoutMs) return null
  const text = `no complete head within ${responseHeadTimeoutMs} ms`
  return new ProxyError('READ_TIMEOUT', 'upstream', text, { limit: 'response-head-timeout' })
}
