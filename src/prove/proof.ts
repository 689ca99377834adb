/**
 * All populations together, through the phases before, during and after an action, and what came of it.
 * Knows nothing of the action but when it began and ended; who acts is the process that started this one.
 */
import { FAULTS, type Kill, type LossReport, type Phase, type ProofReport } from '../config/prove-messages.ts'
import { proofAddress, type ResolvedProveOptions } from '../config/prove-options.ts'
import { systemClock, type Clock } from '../primitives/clock.ts'
import { AnswerGap } from './answer-gap.ts'
import { FreshConnections } from './fresh-connections.ts'
import { Http2Requests } from './http2-requests.ts'
import { KeptConnections } from './kept-connections.ts'
import type { Loss, Stage } from './ledger.ts'
import { MessageStreams } from './message-streams.ts'
import type { Population, ProofSetting } from './population.ts'
import { preflight, type Known } from './preflight.ts'
import { ResumedHandshakes } from './resumed-handshakes.ts'
import { SlowDownload } from './slow-download.ts'
import { SlowHandshakes } from './slow-handshakes.ts'
import { SlowUpload } from './slow-upload.ts'
import { WebSocketEcho } from './websocket-echo.ts'

const SWEEP_MS = 20
const REPORTED_LOSSES_MAX = 100
/** A reset that a kill causes is seen this much later at most, besides the delay of the line. */
const KILL_SEEN_MS = 500

export class Proof {
  readonly #setting: ProofSetting
  readonly #stage: Stage = { phase: 'before' }
  readonly #populations: Population[] = []
  readonly #phasesMs: Record<Phase, number> = { before: 0, during: 0, after: 0 }
  #startMs = 0
  #phaseStartMs = 0
  #stopSweeping: () => void = () => {}

  private constructor(options: ResolvedProveOptions, clock: Clock) {
    this.#setting = { address: proofAddress(options.url), options, clock, stage: this.#stage, gap: new AnswerGap(clock, this.#stage) }
  }

  /** Looks whether everything answers at all. @throws CannotProve */
  static async prepare(options: ResolvedProveOptions, clock: Clock = systemClock): Promise<Proof> {
    const proof = new Proof(options, clock)
    proof.#populate(await preflight(proof.#setting))
    return proof
  }

  start(): void {
    const { clock } = this.#setting
    this.#startMs = this.#phaseStartMs = clock.exact()
    this.#stopSweeping = clock.every(SWEEP_MS, () => this.#sweep())
    for (const population of this.#populations) population.start()
  }

  enter(phase: Phase): void {
    this.#setting.gap.onPhase()
    this.#endPhase()
    this.#stage.phase = phase
  }

  /** Everything that was begun ends, at the latest by its time limit. */
  async finish(): Promise<void> {
    const { clock } = this.#setting
    this.#endPhase()
    for (const population of this.#populations) population.finish()
    while (this.#populations.some(population => population.ledger.open > 0)) {
      const { promise, resolve } = Promise.withResolvers<void>()
      clock.after(SWEEP_MS, resolve)
      await promise
    }
    this.#setting.gap.finish()
    this.#stopSweeping()
    for (const population of this.#populations) population.close()
  }

  /** @param kill in times of this process's clock; null when nothing was killed on purpose. */
  report(kill: Kill | null): ProofReport {
    const ledgers = this.#populations.map(population => population.ledger)
    const losses = ledgers.flatMap(ledger => ledger.losses).toSorted((a, b) => a.atMs - b.atMs)
    const explained = new Set(kill === null ? [] : losses.filter(loss => isExplained(loss, kill, this.#setting.options.delayMs)))
    const populations = ledgers.map(ledger => {
      const own = losses.filter(loss => loss.population === ledger.name)
      return ledger.report(own.filter(loss => explained.has(loss)).length)
    })
    const faults = populations.reduce((sum, { outcomes }) => sum + FAULTS.reduce((all, fault) => all + outcomes[fault], 0), 0)
    // Those that nothing explains come first, so that the limit never hides them behind the others.
    const first = [...losses.filter(loss => !explained.has(loss)), ...explained].slice(0, REPORTED_LOSSES_MAX)
    return {
      url: this.#setting.options.url,
      phasesMs: { ...this.#phasesMs },
      lineDelayMs: this.#setting.options.delayMs,
      populations,
      longestGapMs: { ...this.#setting.gap.longestMs },
      attempted: populations.reduce((sum, { attempted }) => sum + attempted, 0),
      lost: faults - explained.size,
      explained: explained.size,
      losses: first.map((loss): LossReport => ({
        population: loss.population, fault: loss.fault, phase: loss.phase, atMs: loss.atMs - this.#startMs,
        connectionAgeMs: loss.connectedAtMs === null ? null : loss.atMs - loss.connectedAtMs,
        detail: loss.detail, explained: explained.has(loss),
      })),
    }
  }

  #populate(known: Known): void {
    const { address, options } = this.#setting
    if (options.path !== '') {
      this.#populations.push(new FreshConnections(this.#setting), new KeptConnections(this.#setting))
      if (address.tls) this.#populations.push(new ResumedHandshakes(this.#setting), new SlowHandshakes(this.#setting))
    }
    if (options.ws !== '') this.#populations.push(new WebSocketEcho(this.#setting))
    if (known.download !== null) this.#populations.push(new SlowDownload(this.#setting, known.download))
    if (options.upload !== '') this.#populations.push(new SlowUpload(this.#setting, known.answersUploadsWithHash))
    if (options.http2) {
      if (options.path !== '') this.#populations.push(new Http2Requests(this.#setting, known.answersUploadsWithHash))
      if (options.ws !== '') this.#populations.push(new WebSocketEcho(this.#setting, true))
    }
    if (options.messages !== '') this.#populations.push(new MessageStreams(this.#setting))
  }

  #sweep(): void {
    const now = this.#setting.clock.exact()
    for (const population of this.#populations) population.sweep(now)
  }

  #endPhase(): void {
    const now = this.#setting.clock.exact()
    this.#phasesMs[this.#stage.phase] += now - this.#phaseStartMs
    this.#phaseStartMs = now
  }
}

/**
 * Only what the killed worker had accepted may be lost: the connection was there before the worker was gone, and it was
 * cut, not refused and not answered wrongly. One that was still in the queue at that time looks the same from outside.
 * A slow reader sees the end when it has read what the kernel held for it, however much later that is.
 */
export function isExplained(loss: Loss, kill: Kill, delayMs: number): boolean {
  const cut = loss.fault === 'reset' || loss.fault === 'truncated'
  const wasThere = loss.connectedAtMs !== null && loss.connectedAtMs <= kill.goneAtMs
  if (!cut || !wasThere || loss.atMs < kill.atMs) return false
  return loss.population === 'slow download' || loss.atMs <= kill.goneAtMs + 2 * delayMs + KILL_SEEN_MS
}
