/** A connection for every request, by schedule: the clients that notice when nobody accepts. */
import { HttpConnection, plainGet, type ConnectionOwner, type RequestPlan } from './http-connection.ts'
import type { Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'

export class FreshConnections implements Population, ConnectionOwner {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #plan: RequestPlan
  /** Those that have had no byte of their answer yet are true. */
  readonly #connections = new Map<HttpConnection, boolean>()

  constructor(setting: ProofSetting) {
    this.#setting = setting
    this.ledger = ledgerOf('fresh connections', setting)
    const { options: { path }, address: { authority } } = setting
    this.#plan = plainGet(requestHead('GET', path, authority, 'Connection: close\r\n'), { keepsConnection: false })
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate, dueAtMs => this.#dial(dueAtMs))
  }

  start(): void { this.#arrivals.start() }
  finish(): void { this.#arrivals.stop() }
  close(): void { for (const connection of this.#connections.keys()) connection.close() }
  sweep(nowMs: number): void { for (const connection of this.#connections.keys()) connection.sweep(nowMs) }

  #dial(dueAtMs: number): void {
    const connection = new HttpConnection(this.#setting.address, 0, this.#setting.clock, this.ledger, this)
    this.#connections.set(connection, true)
    this.#setting.gap.tried()
    connection.send(this.ledger.begin(dueAtMs), this.#plan)
  }

  onFirstByte(connection: HttpConnection): void {
    this.#connections.set(connection, false)
    this.#setting.gap.answered()
  }

  /** The answer was whole although it did not say that the connection ends; we had said so. */
  onIdle(connection: HttpConnection): void {
    this.#connections.delete(connection)
    connection.close()
  }

  onGone(connection: HttpConnection): void {
    if (this.#connections.get(connection) === true) this.#setting.gap.failed()
    this.#connections.delete(connection)
  }
}
