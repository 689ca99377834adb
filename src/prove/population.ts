/** One kind of client that the proof runs many of. */
import type { PopulationName } from '../config/prove-messages.ts'
import type { ProofAddress, ResolvedProveOptions } from '../config/prove-options.ts'
import type { Clock } from '../primitives/clock.ts'
import type { AnswerGap } from './answer-gap.ts'
import { Ledger, type Stage } from './ledger.ts'

export interface Population {
  readonly ledger: Ledger
  start(): void
  /** Called every few ms: ends what took too long. */
  sweep(nowMs: number): void
  /** Tries nothing new. What is open goes on, slow transfers at full speed, and ends by itself. */
  finish(): void
  /** Nothing is open; lets go of every connection. */
  close(): void
}

/** What every population is given. */
export interface ProofSetting {
  readonly address: ProofAddress
  readonly options: ResolvedProveOptions
  readonly clock: Clock
  readonly stage: Stage
  readonly gap: AnswerGap
}

export function ledgerOf(name: PopulationName, { clock, stage, options }: ProofSetting): Ledger {
  return new Ledger(name, clock, stage, options.timeoutMs)
}

/** Request heads of the proof client: as few fields as will do. `fields` end with CRLF each. */
export function requestHead(method: string, path: string, authority: string, fields = ''): Buffer {
  return Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: ${authority}\r\nUser-Agent: cirque-prove\r\n${fields}\r\n`, 'latin1')
}
