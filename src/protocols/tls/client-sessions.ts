/**
 * Sessions of TLS to take up again (RFC 8446 2.2, RFC 5246 7.3): the newest of each key, for an hour, the least recently used going
 * first when they take too much memory.
 *
 * A session that is taken up again is not verified again: neither chain nor name. The key therefore holds everything that decided
 * whether it was good, and only a session whose handshake was verified under that key is put here. Servers hand out no new
 * session with each resumption, so one is used more than once (RFC 8446 C.4 advises against it for clients that do not want to be
 * recognised; a proxy does not hide from its origins).
 */
import { Lru } from '../../primitives/lru.ts'
import type { Clock } from '../../primitives/clock.ts'

/** A session that an origin calls good for longer is asked for anew: what it was verified by may have changed since. */
const MAX_AGE_MS = 3_600_000

/** Of all sessions and keys; one has 1 to 3 KiB. */
const MAX_BYTES = 2_097_152

export interface KeptSession {
  readonly session: Buffer
  /** End of the certificate that it was made with, in ms since 1970: Node.js shows none when a session is taken up again. */
  readonly validTo: number
  readonly since: number
}

export class ClientSessions {
  readonly #clock: Clock
  readonly #kept = new Lru<string, KeptSession>(MAX_BYTES)

  constructor(clock: Clock) { this.#clock = clock }

  get size(): number { return this.#kept.size }

  /** null: there is none. */
  find(key: string): KeptSession | null {
    const kept = this.#kept.get(key)
    if (kept === undefined) return null
    if (this.#clock.now() - kept.since <= MAX_AGE_MS) return kept
    this.#kept.delete(key)
    return null
  }

  /** Of a handshake that was verified under `key`. */
  keep(key: string, session: Buffer, validTo: number): void {
    this.#kept.set(key, { session, validTo, since: this.#clock.now() }, session.length + key.length)
  }

  /** It was of no use. A newer one stays. */
  drop(key: string, kept: KeptSession): void { if (this.#kept.peek(key) === kept) this.#kept.delete(key) }
}
