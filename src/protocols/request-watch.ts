/**
 * Limits on the body of a request, whatever the protocol: how large it may be, how long the client may fall silent within
 * it, and how slowly it may come. A watch is made with the first body, one for a session: a connection that only ever
 * brings requests without one pays for none. Looked at once a tick; a chunk costs one store.
 */
import { ProxyError } from '../errors/proxy-error.ts'

/** Before this, a slow start does not count as a slow body. */
const SLOW_BODY_GRACE_MS = 20_000

export interface RequestBodyLimits {
  readonly maxRequestBodyBytes: number
  readonly bodyIdleTimeoutMs: number
  readonly minBodyBytesPerSecond: number
}

export class RequestWatch {
  #lastReadAt = 0
  /** Time in which the client could send its body, before the current stretch, and when that began. */
  #flowedMs = 0
  #flowingSince = 0

  /** A request with a body begins; it does not flow yet. */
  begin(now: number): void {
    this.#lastReadAt = now
    this.#flowedMs = 0
  }

  /** The body may come, or come again. */
  flows(now: number): void { this.#lastReadAt = this.#flowingSince = now }

  /** The proxy makes the client wait. */
  holds(now: number): void { this.#flowedMs += now - this.#flowingSince }

  read(now: number): void { this.#lastReadAt = now }

  /**
   * The fault of a client that is late with a body that may flow; null otherwise.
   * @param bytes of the body, so far
   * @param answering the response began: how fast the rest of the body comes is the client's own affair
   */
  lateness(now: number, bytes: number, answering: boolean, limits: RequestBodyLimits): ProxyError | null {
    const { bodyIdleTimeoutMs, minBodyBytesPerSecond } = limits
    if (now - this.#lastReadAt > bodyIdleTimeoutMs) {
      const text = `no byte of the request body for ${bodyIdleTimeoutMs} ms`
      return new ProxyError('READ_TIMEOUT', 'downstream', text, { status: 408, limit: 'body-idle-timeout' })
    }
    if (minBodyBytesPerSecond === 0 || answering) return null
    // What the proxy made the client wait for a hook, a connection or the origin is not the client's time.
    const elapsed = this.#flowedMs + now - this.#flowingSince
    if (elapsed <= SLOW_BODY_GRACE_MS || bytes * 1000 >= minBodyBytesPerSecond * elapsed) return null
    const text = `request body slower than ${minBodyBytesPerSecond} bytes a second`
    return new ProxyError('SLOW_BODY', 'downstream', text, { status: 408, limit: 'body-bytes-per-second' })
  }
}

/** Why a body is not taken: announced longer than allowed, null when it is not. @param length as declared; negative: unknown */
export function announcedTooLarge(length: number, { maxRequestBodyBytes }: RequestBodyLimits): ProxyError | null {
  return maxRequestBodyBytes === 0 || length <= maxRequestBodyBytes
    ? null : tooLarge(`request body of ${length} bytes, over ${maxRequestBodyBytes}`)
}

/** The same for bytes that came. */
export function grewTooLarge(bytes: number, { maxRequestBodyBytes }: RequestBodyLimits): ProxyError | null {
  return maxRequestBodyBytes === 0 || bytes <= maxRequestBodyBytes ? null : tooLarge(`request body over ${maxRequestBodyBytes} bytes`)
}

function tooLarge(text: string): ProxyError {
  return new ProxyError('BODY_TOO_LARGE', 'downstream', text, { status: 413, limit: 'request-body-bytes' })
}

/** The fault of an exchange that took longer than it may in all. */
export function tookTooLong(totalTimeoutMs: number): ProxyError {
  const text = `the exchange took more than ${totalTimeoutMs} ms`
  return new ProxyError('TOTAL_TIMEOUT', 'downstream', text, { status: 408, limit: 'total-timeout' })
}
