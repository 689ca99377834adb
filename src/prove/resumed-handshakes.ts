/**
 * A connection for every request, by schedule, each of which takes up the session of an earlier one. A session that is not taken up
 * is no loss, but counted: keys of tickets that changed too early, or that not all workers have.
 */
import { HttpConnection, plainGet, type ConnectionOwner, type RequestPlan } from './http-connection.ts'
import type { Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'

export class ResumedHandshakes implements Population, ConnectionOwner {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #plan: RequestPlan
  readonly #connections = new Set<HttpConnection>()
  /** The newest that was handed out; null: none yet. */
  #session: Buffer | null = null

  constructor(setting: ProofSetting) {
    this.#setting = setting
    this.ledger = ledgerOf('resumed handshakes', setting)
    const { options: { path }, address: { authority } } = setting
    this.#plan = plainGet(requestHead('GET', path, authority, 'Connection: close\r\n'), { keepsConnection: false })
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate, dueAtMs => this.#dial(dueAtMs))
  }

  start(): void { this.#arrivals.start() }
  finish(): void { this.#arrivals.stop() }
  close(): void { for (const connection of this.#connections) connection.close() }
  sweep(nowMs: number): void { for (const connection of this.#connections) connection.sweep(nowMs) }

  #dial(dueAtMs: number): void {
    const { address, clock } = this.#setting
    const session = this.#session
    const connection = new HttpConnection(address, 0, clock, this.ledger, this, {
      session,
      onSession: given => { this.#session = given },
      onSecure: resumed => { if (session !== null && !resumed) this.ledger.refusedSessions++ },
    })
    this.#connections.add(connection)
    connection.send(this.ledger.begin(dueAtMs), this.#plan)
  }

  onIdle(connection: HttpConnection): void {
    this.#connections.delete(connection)
    connection.close()
  }

  onGone(connection: HttpConnection): void { this.#connections.delete(connection) }
}
