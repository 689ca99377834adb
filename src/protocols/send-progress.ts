/**
 * Whether the other side takes what waits for it: nothing at all for a while, or too slowly over a window.
 * Looked at once a tick, and only while something waits; costs nothing otherwise.
 */
import type { ByteStream } from './byte-stream.ts'

/** What is sent on: a connection's stream, or one stream of a connection that has many. */
export type SendSide = Pick<ByteStream, 'bytesQueued' | 'bytesTaken'>

/** A rate over less than this is noise. */
const RATE_WINDOW_MS = 30_000

export class SendProgress {
  readonly #stream: SendSide
  #taken = 0
  #changedAt: number
  /** Start of the current window in which something waited all the time; -1 while nothing waits. */
  #windowStart = -1
  #windowTaken = 0

  constructor(stream: SendSide, now: number) {
    this.#stream = stream
    this.#changedAt = now
  }

  /** Everything was taken. */
  drained(): void { this.#windowStart = -1 }

  /**
   * Returns the limit that is passed, or ''.
   * @param minBytesPerSecond 0: any speed will do
   */
  check(now: number, timeoutMs: number, minBytesPerSecond: number): '' | 'send-timeout' | 'send-bytes-per-second' {
    const stream = this.#stream
    if (stream.bytesQueued === 0) {
      this.#windowStart = -1
      return ''
    }
    const taken = stream.bytesTaken
    if (this.#windowStart === -1) {
      this.#windowStart = this.#changedAt = now
      this.#windowTaken = this.#taken = taken
      return ''
    }
    if (taken !== this.#taken) {
      this.#taken = taken
      this.#changedAt = now
    } else if (now - this.#changedAt > timeoutMs) return 'send-timeout'
    const elapsed = now - this.#windowStart
    if (elapsed >= RATE_WINDOW_MS) {
      if (minBytesPerSecond !== 0 && (taken - this.#windowTaken) * 1000 < minBytesPerSecond * elapsed) return 'send-bytes-per-second'
      this.#windowStart = now
      this.#windowTaken = taken
    }
    return ''
  }
}
