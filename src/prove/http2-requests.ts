/**
 * Requests as streams of one connection of HTTP/2, a stream every few ms: over a long line many of them are on their way whenever
 * GOAWAY comes. Each eighth is an upload, up to more than a window's worth, whose answer holds its SHA-256 when the server is known to
 * say it.
 */
import { Http2Client } from './http2-client.ts'
import type { Http2Connection, ProofStream, StreamEnd, StreamOwner } from './http2-connection.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, type Population, type ProofSetting } from './population.ts'
import { hashOf, shortUpload } from './slow-upload.ts'

/** Streams for each request of the other populations: they cost less than connections. */
const STREAMS_A_REQUEST = 2
const UPLOAD_EVERY = 8
/** The last one does not fit into the first window of a stream (RFC 9113 6.9.2). */
const UPLOAD_BYTES = [1000, 20_000, 100_000] as const
const ANSWER_MAX_BYTES = 65_536

interface Upload { readonly body: Buffer; readonly sha256: string }

export class Http2Requests implements Population {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #client: Http2Client
  readonly #uploads: readonly Upload[]
  readonly #answersWithHash: boolean
  readonly #calls = new Set<Call>()
  #count = 0

  constructor(setting: ProofSetting, answersWithHash: boolean) {
    const { clock, options } = setting
    this.#setting = setting
    this.#answersWithHash = answersWithHash
    this.ledger = ledgerOf('HTTP/2 requests', setting)
    this.#client = new Http2Client(setting, this.ledger)
    this.#uploads = options.upload === '' ? [] : UPLOAD_BYTES.map(bytes => ({ body: shortUpload(bytes), sha256: hashOf(bytes) }))
    this.#arrivals = new OpenLoop(clock, options.rate * STREAMS_A_REQUEST, dueAtMs => this.#due(dueAtMs))
  }

  start(): void {
    this.#client.start()
    this.#arrivals.start()
  }

  finish(): void {
    this.#arrivals.stop()
    this.#client.finish()
  }

  close(): void { this.#client.close() }
  sweep(nowMs: number): void { for (const call of this.#calls) call.sweep(nowMs) }

  #due(dueAtMs: number): void {
    const count = this.#count++, isUpload = count % UPLOAD_EVERY === UPLOAD_EVERY - 1
    const upload = isUpload && this.#uploads.length > 0 ? this.#uploads[Math.floor(count / UPLOAD_EVERY) % this.#uploads.length]! : null
    const { options } = this.#setting
    const fields: Record<string, string> = upload === null ? { ':method': 'GET', ':path': options.path }
      : { ':method': 'POST', ':path': options.upload, 'content-length': String(upload.body.length) }
    const call = new Call(this.ledger, this.ledger.begin(dueAtMs), this.#client, fields, upload, this.#answersWithHash, () => {
      this.#calls.delete(call)
    })
    this.#calls.add(call)
    call.open()
  }
}

class Call implements StreamOwner {
  readonly #ledger: Ledger
  readonly #attempt: Attempt
  readonly #client: Http2Client
  readonly #fields: Readonly<Record<string, string>>
  readonly #upload: Upload | null
  readonly #answersWithHash: boolean
  readonly #onOver: () => void
  #connection: Http2Connection | null = null
  #stream: ProofStream | null = null
  #status = 0
  #answer = ''

  constructor(
    ledger: Ledger, attempt: Attempt, client: Http2Client, fields: Readonly<Record<string, string>>, upload: Upload | null,
    answersWithHash: boolean, onOver: () => void,
  ) {
    this.#ledger = ledger
    this.#attempt = attempt
    this.#client = client
    this.#fields = fields
    this.#upload = upload
    this.#answersWithHash = answersWithHash
    this.#onOver = onOver
  }

  open(): void {
    this.#client.whenOpen(connection => {
      if (this.#attempt.outcome !== null) return
      this.#connection = connection
      this.#stream = connection.request(this.#fields, this.#upload === null, this)
      if (this.#upload === null) return
      this.#stream.write(this.#upload.body)
      this.#stream.end()
    })
  }

  sweep(nowMs: number): void {
    if (this.#attempt.deadlineMs > nowMs) return
    const connectedAtMs = this.#connection?.connectedAtMs ?? null
    const doing = this.#stream === null ? 'no connection took the stream' : this.#status === 0 ? 'no answer' : 'no end of the answer'
    this.#attempt.end('timedOut', doing, connectedAtMs)
    this.#stream?.cancel()
    this.#onOver()
  }

  onHead(status: number): void {
    this.#status = status
    this.#ledger.progress(this.#attempt)
  }

  onData(bytes: Buffer): void {
    this.#ledger.progress(this.#attempt)
    if (this.#answer.length < ANSWER_MAX_BYTES) this.#answer += bytes.toString('latin1')
  }

  onEnded(end: StreamEnd): void {
    if (this.#attempt.outcome !== null) return
    if (end.tag === 'anew') {
      if (end.sent) this.#ledger.reopenedStreams++
      this.#stream = null
      this.#status = 0
      this.#answer = ''
      this.open()
      return
    }
    const connectedAtMs = this.#connection?.connectedAtMs ?? null
    if (end.tag === 'fault') this.#attempt.end(end.fault, end.detail, connectedAtMs)
    else {
      const wrong = this.#wrong()
      if (wrong === '') this.#attempt.end('ok')
      else this.#attempt.end('wrong', wrong, connectedAtMs)
    }
    this.#onOver()
  }

  /** What is wrong with a whole answer; '' when nothing is. */
  #wrong(): string {
    if (this.#status < 200 || this.#status >= 400) return `status ${this.#status}`
    if (this.#upload === null || !this.#answersWithHash || this.#answer.includes(this.#upload.sha256)) return ''
    return `an answer without the right SHA-256: ${JSON.stringify(this.#answer.slice(0, 200))}`
  }
}
