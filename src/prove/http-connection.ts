/**
 * One connection of the proof client that carries one request at a time. It never repeats anything: whatever the
 * connection meets is the outcome of the attempt that was on its way.
 *
 *   Dialing -> Idle <-> Busy
 *      |        |        |      -> Closed (from each; the owner hears of it once)
 */
import type { ProofAddress } from '../config/prove-options.ts'
import type { Clock } from '../primitives/clock.ts'
import { DelayedLine, faultOf, type LineOwner } from './delayed-line.ts'
import type { DialOptions } from './dial.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { ReaderState, ResponseReader, type BodySink } from './response-reader.ts'

export const ConnectionState = { Dialing: 0, Idle: 1, Busy: 2, Closed: 3 } as const
export type ConnectionState = (typeof ConnectionState)[keyof typeof ConnectionState]

export interface ConnectionOwner {
  /** Established, or free again after an answer. */
  onIdle(connection: HttpConnection): void
  /** The first byte of an answer has come. */
  onFirstByte?(connection: HttpConnection): void
  /** Gone, with the code of the error or ''. */
  onGone(connection: HttpConnection, code: string): void
}

export interface RequestPlan {
  readonly method: string
  readonly bytes: Buffer
  /** Whether the connection was meant to be used again, so that an end after the answer is the server's wish. */
  readonly keepsConnection: boolean
  readonly sink: BodySink | null
  /** Says what is wrong with a whole answer; '' when nothing is. */
  readonly check: (reader: ResponseReader) => string
}

/** A GET whose answer is read and not looked at. */
export function plainGet(bytes: Buffer, { keepsConnection }: { keepsConnection: boolean }): RequestPlan {
  return { method: 'GET', bytes, keepsConnection, sink: null, check: () => '' }
}

export class HttpConnection implements LineOwner {
  state: ConnectionState = ConnectionState.Dialing
  readonly line: DelayedLine
  readonly reader = new ResponseReader()
  readonly #clock: Clock
  readonly #ledger: Ledger
  readonly #owner: ConnectionOwner
  #attempt: Attempt | null = null
  #plan: RequestPlan | null = null
  #sawFirstByte = false

  constructor(address: ProofAddress, delayMs: number, clock: Clock, ledger: Ledger, owner: ConnectionOwner, options: DialOptions = {}) {
    this.#clock = clock
    this.#ledger = ledger
    this.#owner = owner
    this.line = new DelayedLine(address, delayMs, clock, this, options)
  }

  get attempt(): Attempt | null { return this.#attempt }

  /** Only while Dialing: the attempt is this connection's, though its request comes later, by `send`. */
  expect(attempt: Attempt): void { this.#attempt = attempt }

  /** Only while Dialing (sent once established) or Idle. */
  send(attempt: Attempt, plan: RequestPlan): void {
    this.#attempt = attempt
    this.#plan = plan
    if (this.state === ConnectionState.Idle) this.#write(plan)
  }

  /** Ends an attempt that took too long, and with it the connection. */
  sweep(nowMs: number): void {
    if (this.#attempt !== null && this.#attempt.deadlineMs <= nowMs) {
      this.#attempt.end('timedOut', this.#waitedFor(), this.line.connectedAtMs)
      this.#gone('')
    }
  }

  /** Ends a connection on which nothing is on its way. */
  close(): void {
    if (this.state === ConnectionState.Closed) return
    this.state = ConnectionState.Closed
    this.line.destroy()
  }

  onConnect(): void {
    this.state = ConnectionState.Idle
    if (this.#plan !== null) this.#write(this.#plan)
    else this.#owner.onIdle(this)
  }

  onBytes(bytes: Buffer): void {
    if (this.state === ConnectionState.Closed) return
    if (this.state !== ConnectionState.Busy || this.#attempt === null || this.#plan === null) {
      this.#ledger.loss('wrong', 'bytes that nobody asked for', this.line.connectedAtMs)
      this.#gone('')
      return
    }
    this.#ledger.progress(this.#attempt)
    const state = this.reader.feed(bytes)
    if (!this.#sawFirstByte) {
      this.#sawFirstByte = true
      this.#owner.onFirstByte?.(this)
    }
    if (state === ReaderState.Fault) this.#wrong(this.reader.fault)
    else if (state === ReaderState.Done) this.#whole()
  }

  onEnd(): void {
    if (this.state === ConnectionState.Busy && this.reader.end()) this.#whole()
    else this.#ended('')
  }

  onClosed(code: string): void { this.#ended(code) }

  #write(plan: RequestPlan): void {
    this.state = ConnectionState.Busy
    this.#sawFirstByte = false
    this.reader.expect(plan.method, plan.sink)
    this.line.write(plan.bytes)
  }

  #whole(): void {
    const attempt = this.#attempt
    const plan = this.#plan
    const fault = plan === null ? '' : this.reader.status >= 400 ? `status ${this.reader.status}` : plan.check(this.reader)
    if (fault !== '') { this.#wrong(fault); return }
    this.#attempt = null
    this.#plan = null
    attempt?.end('ok')
    if (this.reader.closes) {
      if (plan?.keepsConnection === true) this.#ledger.politeCloses++
      this.#gone('')
      return
    }
    this.reader.state = ReaderState.Quiet
    this.state = ConnectionState.Idle
    this.#owner.onIdle(this)
  }

  #wrong(fault: string): void {
    this.#attempt?.end('wrong', fault, this.line.connectedAtMs)
    this.#gone('')
  }

  /** What had come of an answer when its time was over. */
  #waitedFor(): string {
    if (this.state === ConnectionState.Dialing) return this.line.connectedAtMs === null ? 'no connection' : 'no end of the handshake'
    return this.reader.began ? `${this.reader.bodyBytes} bytes of the answer's body, then nothing` : 'no answer'
  }

  /** How far an exchange had come. */
  #where(): string {
    if (!this.line.ready) return this.line.connectedAtMs === null ? 'dialling' : 'in the handshake'
    return this.reader.began ? `after ${this.reader.bodyBytes} bytes of the answer's body` : 'before the answer'
  }

  /** The other side ended the connection, or it could not be established. */
  #ended(code: string): void {
    if (this.state === ConnectionState.Closed) return
    const attempt = this.#attempt
    const connectedAtMs = this.line.connectedAtMs
    if (attempt !== null) {
      attempt.end(faultOf(code), `${code === '' ? 'closed' : code} ${this.#where()}`, connectedAtMs)
    } else if (this.line.ready) this.#ledger.politeCloses++
    this.#gone(code)
  }

  #gone(code: string): void {
    if (this.state === ConnectionState.Closed) return
    this.state = ConnectionState.Closed
    this.#attempt = null
    if (!this.line.ready || code !== '') this.line.destroy()
    else this.#partPolitely()
    this.#owner.onGone(this, code)
  }

  /** FIN, and the end a moment later: what the other side still sends is not answered with a reset. */
  #partPolitely(): void {
    const { line } = this
    line.end()
    this.#clock.after(PARTING_MS, () => line.destroy())
  }
}

const PARTING_MS = 200
