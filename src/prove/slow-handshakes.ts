/**
 * Handshakes that stop at every stage by turns and go on later, and then one request: what is under way while workers are replaced
 * has to come to its end. How long it takes is our own choice, so no times are told.
 */
import { HttpConnection, plainGet, type ConnectionOwner, type RequestPlan } from './http-connection.ts'
import type { HeldStage } from './held-transport.ts'
import type { Attempt, Ledger } from './ledger.ts'
import { OpenLoop } from './open-loop.ts'
import { ledgerOf, requestHead, type Population, type ProofSetting } from './population.ts'

/** One for so many of the others: each is open for much longer. */
const SHARE = 5
/** `secured`: the handshake is done, and the request comes later. */
const STAGES: readonly (HeldStage | 'secured')[] = ['dialled', 'hello', 'answer', 'secured']
/** How long they stop, in turn: some over the whole of a replacement. None longer than half of what they are given in all. */
const HOLDS_MS: readonly number[] = [40, 1_600, 250, 700, 90]
const MAX_SHARE_OF_TIMEOUT = 0.5

export class SlowHandshakes implements Population, ConnectionOwner {
  readonly ledger: Ledger
  readonly #setting: ProofSetting
  readonly #arrivals: OpenLoop
  readonly #plan: RequestPlan
  /** With the attempt that is still to be made on each, and how long that waits; null: it is under way. */
  readonly #connections = new Map<HttpConnection, { readonly attempt: Attempt; readonly ms: number } | null>()
  #count = 0

  constructor(setting: ProofSetting) {
    this.#setting = setting
    this.ledger = ledgerOf('slow handshakes', setting)
    const { options: { path }, address: { authority } } = setting
    this.#plan = plainGet(requestHead('GET', path, authority, 'Connection: close\r\n'), { keepsConnection: false })
    this.#arrivals = new OpenLoop(setting.clock, setting.options.rate / SHARE, dueAtMs => this.#dial(dueAtMs))
  }

  start(): void { this.#arrivals.start() }
  finish(): void { this.#arrivals.stop() }
  close(): void { for (const connection of this.#connections.keys()) connection.close() }
  sweep(nowMs: number): void { for (const connection of this.#connections.keys()) connection.sweep(nowMs) }

  #dial(dueAtMs: number): void {
    const { address, clock, options } = this.#setting
    const count = this.#count++
    const stage = STAGES[count % STAGES.length]!
    const ms = Math.min(HOLDS_MS[count % HOLDS_MS.length]!, options.timeoutMs * MAX_SHARE_OF_TIMEOUT)
    const attempt = this.ledger.begin(dueAtMs)
    const connection = new HttpConnection(address, 0, clock, this.ledger, this, stage === 'secured' ? {} : { hold: { stage, ms } })
    if (stage === 'secured') {
      this.#connections.set(connection, { attempt, ms })
      connection.expect(attempt)
    } else {
      this.#connections.set(connection, null)
      connection.send(attempt, this.#plan)
    }
  }

  onIdle(connection: HttpConnection): void {
    const waiting = this.#connections.get(connection) ?? null
    if (waiting === null) {
      this.#connections.delete(connection)
      connection.close()
      return
    }
    this.#connections.set(connection, null)
    this.#setting.clock.after(waiting.ms, () => connection.send(waiting.attempt, this.#plan))
  }

  onGone(connection: HttpConnection): void { this.#connections.delete(connection) }
}
