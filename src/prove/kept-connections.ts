/**
 * Keep-alive connections over a long line. Requests come by schedule and take the connection that has been idle for
 * longest, so that every connection is idle most of the time: that is when a careless server closes it.
 */
import { HttpConnection, plainGet, ConnectionState, type ConnectionOwner, type RequestPlan } from './http-connection.ts'
import { faultOf } from './delayed-line.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'

/** Between a dial that failed and the next. */
export const REDIAL_MS = 100

export class KeptConnections implements Population, ConnectionOwner {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #plan: RequestPlan
  readonly #connections = new Set<HttpConnection>()
  /** Longest idle first. */
  #idle: HttpConnection[] = []
  /** Due, but no connection was free. */
  #waiting: Attempt[] = []
  #finishing = false

  constructor(setting: ProofSetting) {
    this.#setting = setting
    this.ledger = ledgerOf('keep-alive', setting)
    const { options: { path }, address: { authority } } = setting
    this.#plan = plainGet(requestHead('GET', path, authority), { keepsConnection: true })
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate, dueAtMs => this.#due(dueAtMs))
  }

  start(): void {
    for (let count = 0; count < this.#setting.options.connections; count++) this.#dial()
    this.#arrivals.start()
  }

  finish(): void {
    this.#finishing = true
    this.#arrivals.stop()
  }

  close(): void { for (const connection of this.#connections) connection.close() }

  sweep(nowMs: number): void {
    for (const connection of this.#connections) connection.sweep(nowMs)
    while (this.#waiting[0] !== undefined && this.#waiting[0].deadlineMs <= nowMs) {
      this.#waiting.shift()?.end('timedOut', 'no connection was free')
    }
  }

  #dial(): void {
    const { address, options, clock } = this.#setting
    this.#connections.add(new HttpConnection(address, options.delayMs, clock, this.ledger, this))
  }

  #due(dueAtMs: number): void {
    const attempt = this.ledger.begin(dueAtMs)
    const connection = this.#idle.shift()
    if (connection === undefined) this.#waiting.push(attempt)
    else connection.send(attempt, this.#plan)
  }

  onIdle(connection: HttpConnection): void {
    const attempt = this.#waiting.shift()
    if (attempt === undefined) this.#idle.push(connection)
    else connection.send(attempt, this.#plan)
  }

  onGone(connection: HttpConnection, code: string): void {
    const established = connection.line.ready, { connectedAtMs } = connection.line
    this.#connections.delete(connection)
    this.#idle = this.#idle.filter(each => each !== connection && each.state === ConnectionState.Idle)
    // A connection that cannot be replaced is a loss of its own: somebody dialled and was not let in.
    if (!established) this.ledger.loss(faultOf(code), `${code} ${connectedAtMs === null ? 'dialling' : 'in the handshake'}`, connectedAtMs)
    if (this.#finishing && this.#waiting.length === 0) return
    if (established) this.#dial()
    else this.#setting.clock.after(REDIAL_MS, () => { if (!this.#finishing || this.#waiting.length > 0) this.#dial() })
  }
}
