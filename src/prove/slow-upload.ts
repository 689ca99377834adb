/**
 * A client that sends a long body at the speed at which it takes as long as the proof, and begins again after the
 * answer. The answer must be a good one and, when the first, short upload was answered with its SHA-256, hold this one's.
 */
import { createHash } from 'node:crypto'
import { AGAIN_MS } from './slow-download.ts'
import { ConnectionState, HttpConnection, type ConnectionOwner } from './http-connection.ts'
import type { Ledger } from './ledger.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'

const PIECE = Buffer.alloc(65_536, 'upload of the proof client ')
/** Of an answer, as much is looked at. */
const ANSWER_MAX_BYTES = 65_536

export class SlowUpload implements Population, ConnectionOwner {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  /** Whether the answer is known to hold the SHA-256 of what came. */
  readonly #answersWithHash: boolean
  readonly #sha256: string
  readonly #bytesPerMs: number
  #connection: HttpConnection | null = null
  #startMs = 0
  #sent = 0
  #answer = ''
  #full = false
  #finishing = false

  constructor(setting: ProofSetting, answersWithHash: boolean) {
    this.#setting = setting
    this.#answersWithHash = answersWithHash
    this.#sha256 = hashOf(setting.options.uploadBytes)
    this.#bytesPerMs = setting.options.uploadBytes / (setting.options.beforeMs + setting.options.forMs)
    this.ledger = ledgerOf('slow upload', setting)
  }

  start(): void {
    const { address, clock, options } = this.#setting
    this.#startMs = clock.exact()
    this.#sent = 0
    this.#answer = ''
    this.#full = false
    this.#connection = new HttpConnection(address, 0, clock, this.ledger, this)
    const head = `Connection: close\r\nContent-Length: ${options.uploadBytes}\r\n`
    this.#connection.send(this.ledger.begin(this.#startMs), {
      method: 'POST', bytes: requestHead('POST', options.upload, address.authority, head),
      keepsConnection: false, sink: bytes => { if (this.#answer.length < ANSWER_MAX_BYTES) this.#answer += bytes.toString('latin1') },
      check: () => {
        if (this.#sent < options.uploadBytes) return `an answer after ${this.#sent} of ${options.uploadBytes} bytes`
        if (!this.#answersWithHash || this.#answer.includes(this.#sha256)) return ''
        return `an answer without the right SHA-256: ${JSON.stringify(this.#answer.slice(0, 200))}`
      },
    })
  }

  finish(): void { this.#finishing = true }
  close(): void { this.#connection?.close() }

  /** Sends what is due by now. */
  sweep(nowMs: number): void {
    const connection = this.#connection
    if (connection === null) return
    const { uploadBytes } = this.#setting.options
    const due = this.#finishing ? uploadBytes : Math.min(uploadBytes, Math.floor(this.#bytesPerMs * (nowMs - this.#startMs)))
    while (connection.state === ConnectionState.Busy && !this.#full && this.#sent < due) {
      const size = Math.min(PIECE.length, due - this.#sent)
      // Offsets are kept modulo the piece, so that the content does not depend on how it was cut.
      const offset = this.#sent % PIECE.length
      const bytes = PIECE.subarray(offset, Math.min(offset + size, PIECE.length))
      this.#sent += bytes.length
      if (connection.attempt !== null) this.ledger.progress(connection.attempt)
      if (!connection.line.write(bytes)) {
        this.#full = true
        connection.line.onDrain(() => { this.#full = false })
      }
    }
    connection.sweep(nowMs)
  }

  onIdle(connection: HttpConnection): void {
    connection.close()
    this.onGone()
  }

  onGone(): void {
    this.#connection = null
    if (!this.#finishing) this.#setting.clock.after(AGAIN_MS, () => { if (!this.#finishing) this.start() })
  }
}

/** Of the first `bytes` of the content that all uploads have. */
export function hashOf(bytes: number): string {
  const hash = createHash('sha256')
  for (let left = bytes; left > 0; left -= PIECE.length) hash.update(left < PIECE.length ? PIECE.subarray(0, left) : PIECE)
  return hash.digest('hex')
}

/** That content, for an upload short enough to be sent in one go. */
export function shortUpload(bytes: number): Buffer {
  return Buffer.concat(Array.from({ length: Math.ceil(bytes / PIECE.length) }, () => PIECE), bytes)
}
