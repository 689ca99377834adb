/**
 * A client on a thin line: reads a long answer at the speed at which it takes as long as the proof, and when it is whole
 * begins again. Length and content must be those of a first, fast download.
 */
import { createHash, type Hash } from 'node:crypto'
import { HttpConnection, type ConnectionOwner } from './http-connection.ts'
import type { Ledger } from './ledger.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'

/** What the fast download has seen. */
export interface Reference { readonly bytes: number; readonly sha256: string }

export class SlowDownload implements Population, ConnectionOwner {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  readonly #reference: Reference
  readonly #bytesPerMs: number
  #connection: HttpConnection | null = null
  #hash: Hash = createHash('sha256')
  #startMs = 0
  #taken = 0
  #paused = false
  #finishing = false

  constructor(setting: ProofSetting, reference: Reference) {
    this.#setting = setting
    this.#reference = reference
    this.#bytesPerMs = reference.bytes / (setting.options.beforeMs + setting.options.forMs)
    this.ledger = ledgerOf('slow download', setting)
  }

  start(): void {
    const { address, clock, options } = this.#setting
    this.#hash = createHash('sha256')
    this.#startMs = clock.exact()
    this.#taken = 0
    this.#paused = false
    this.#connection = new HttpConnection(address, 0, clock, this.ledger, this)
    this.#connection.send(this.ledger.begin(this.#startMs), {
      method: 'GET', bytes: requestHead('GET', options.download, address.authority, 'Connection: close\r\n'),
      keepsConnection: false, sink: bytes => this.#take(bytes),
      check: reader => {
        if (reader.bodyBytes !== this.#reference.bytes) return `${reader.bodyBytes} bytes instead of ${this.#reference.bytes}`
        return this.#hash.digest('hex') === this.#reference.sha256 ? '' : 'other content than the first time'
      },
    })
  }

  finish(): void {
    this.#finishing = true
    this.#resume()
  }

  close(): void { this.#connection?.close() }

  sweep(nowMs: number): void {
    // While it is us who do not read, nothing is late.
    const attempt = this.#connection?.attempt ?? null
    if (this.#paused && attempt !== null) this.ledger.progress(attempt)
    if (this.#paused && this.#taken <= this.#bytesPerMs * (nowMs - this.#startMs)) this.#resume()
    this.#connection?.sweep(nowMs)
  }

  onIdle(connection: HttpConnection): void {
    connection.close()
    this.onGone()
  }

  onGone(): void {
    this.#connection = null
    if (!this.#finishing) this.#setting.clock.after(AGAIN_MS, () => { if (!this.#finishing) this.start() })
  }

  #take(bytes: Buffer): void {
    this.#hash.update(bytes)
    this.#taken += bytes.length
    if (this.#finishing || this.#paused || this.#taken <= this.#bytesPerMs * (this.#setting.clock.exact() - this.#startMs)) return
    this.#paused = true
    this.#connection?.line.pause()
  }

  #resume(): void {
    this.#paused = false
    this.#connection?.line.resume()
  }
}

/** Between two slow transfers. */
export const AGAIN_MS = 50
