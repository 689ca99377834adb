/**
 * The keys of session tickets and how they change, without time and without workers: ticket-keeper.ts brings both.
 *
 *   Steady --prepare--> Preparing --commit, once every worker has them all--> Steady
 *      ^                    |
 *      +------- cancel -----+
 *
 *   Steady: the first key encrypts. Preparing: it goes on encrypting, and those that come are there to decrypt with.
 *
 * Invariants: no key encrypts that was not told before as one that decrypts, but for the first ones of all; a key that encrypts no
 * more is kept for as long as its tickets may come back.
 * Keys are text here (base64), as they travel in messages and stand in the journal.
 */

/** What the journal keeps, which only its owner may read. Times are counted on, since clocks jump; so a key may be kept longer. */
export interface TicketRecord {
  readonly keys: readonly string[]
  /** Null: none are being prepared. */
  readonly coming: readonly string[] | null
  readonly fading: readonly { readonly key: string; readonly leftMs: number }[]
  /** How long the first key has encrypted. */
  readonly ageMs: number
  /** In ms since 1970. */
  readonly writtenAt: number
}

/** A key is kept so much longer than its tickets live, in ms: workers hear at slightly different moments that it encrypts no more. */
const GRACE_MS = 60_000
/** Of keys that encrypt no more; past it the oldest go early. */
const MAX_FADING = 32
/** 48 bytes in base64. */
const KEY_TEXT = /^[A-Za-z0-9+/]{64}$/

export class TicketRing {
  /** Goes up whenever workers have to be told. */
  version = 1
  #keys: readonly string[]
  #coming: readonly string[] | null = null
  #fading: { readonly key: string; readonly untilMs: number }[] = []
  /** Since when the first key encrypts. */
  #sinceMs: number

  /** @param keys the one that encrypts first; at least one */
  constructor(keys: readonly string[], nowMs: number) {
    this.#keys = [...keys]
    this.#sinceMs = nowMs
  }

  /** @returns null for what is no record, of whatever build */
  static restore(record: TicketRecord | null | undefined, nowMs: number, wallMs: number): TicketRing | null {
    if (!isRecord(record)) return null
    // The time without a supervisor counts as well, unless the clock was set back meanwhile.
    const ageMs = record.ageMs + Math.max(0, wallMs - record.writtenAt)
    const ring = new TicketRing(record.keys, nowMs - ageMs)
    ring.#coming = record.coming
    ring.#fading = record.fading.map(({ key, leftMs }) => ({ key, untilMs: nowMs + leftMs }))
    return ring
  }

  record(nowMs: number, wallMs: number): TicketRecord {
    return {
      keys: this.#keys, coming: this.#coming, ageMs: Math.max(0, nowMs - this.#sinceMs), writtenAt: wallMs,
      fading: this.#fading.map(({ key, untilMs }) => ({ key, leftMs: Math.max(0, untilMs - nowMs) })),
    }
  }

  /** As workers are told: the first one encrypts, all decrypt. */
  get told(): readonly string[] {
    const [first = '', ...others] = this.#keys
    return [...new Set([first, ...this.#coming ?? [], ...others, ...this.#fading.map(({ key }) => key)])]
  }

  get preparing(): boolean { return this.#coming !== null }
  ageMs(nowMs: number): number { return nowMs - this.#sinceMs }

  /** These are to be the keys. @returns false: they are already, or are being prepared */
  prepare(keys: readonly string[]): boolean {
    if (isSame(keys, this.#coming ?? this.#keys)) return false
    this.#coming = isSame(keys, this.#keys) ? null : [...keys]
    this.version++
    return true
  }

  /** Back to before `prepare`. */
  cancel(): void {
    this.#coming = null
    this.version++
  }

  /** Every worker has those that come: the first of them encrypts. */
  commit(nowMs: number, lifetimeMs: number): void {
    const keys = this.#coming
    if (keys === null) return
    const untilMs = nowMs + lifetimeMs + GRACE_MS
    const gone = this.#keys.filter(key => !keys.includes(key)).map(key => ({ key, untilMs }))
    const goneKeys = new Set(gone.map(({ key }) => key))
    const faded = this.#fading.filter(({ key }) => !keys.includes(key) && !goneKeys.has(key))
    this.#fading = [...gone, ...faded].slice(0, MAX_FADING)
    if (keys[0] !== this.#keys[0]) this.#sinceMs = nowMs
    this.#keys = keys
    this.#coming = null
    this.version++
  }

  /** Forgets what no ticket comes back with. */
  forget(nowMs: number): void {
    const kept = this.#fading.filter(({ untilMs }) => untilMs > nowMs)
    if (kept.length === this.#fading.length) return
    this.#fading = kept
    this.version++
  }
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((key, index) => key === other[index])
}

function isRecord(record: TicketRecord | null | undefined): record is TicketRecord {
  if (typeof record !== 'object' || record === null) return false
  const { keys, coming, fading, ageMs, writtenAt } = record
  return isKeys(keys) && (coming === null || isKeys(coming)) && Number.isFinite(ageMs) && ageMs >= 0 && Number.isFinite(writtenAt)
    && Array.isArray(fading) && fading.length <= MAX_FADING && fading.every(one => isKey(one?.key) && Number.isFinite(one.leftMs))
}

function isKeys(keys: unknown): boolean { return Array.isArray(keys) && keys.length > 0 && keys.every(isKey) }
function isKey(key: unknown): boolean { return typeof key === 'string' && KEY_TEXT.test(key) }
