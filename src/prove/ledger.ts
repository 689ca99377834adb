/**
 * What became of every attempt of one population.
 * Invariant: an attempt ends exactly once, so attempted = the sum of outcomes + what is still open.
 */
import type { Fault, Outcome, Phase, PopulationName, PopulationReport } from '../config/prove-messages.ts'
import type { Clock } from '../primitives/clock.ts'
import { LatencyHistogram } from './latency-histogram.ts'

/** Where the proof stands. One object for all populations. */
export interface Stage { phase: Phase }

export interface Loss {
  readonly population: PopulationName
  readonly fault: Fault
  readonly phase: Phase
  readonly atMs: number
  readonly connectedAtMs: number | null
  readonly detail: string
}

/** Losses that are kept with time and detail; the rest are only counted, and count as unexplained. */
const KEPT_LOSSES_MAX = 10_000

export class Attempt {
  readonly dueAtMs: number
  readonly phase: Phase
  outcome: Outcome | null = null
  /** When it counts as timed out; moved by progress. */
  deadlineMs: number
  readonly #ledger: Ledger

  constructor(ledger: Ledger, dueAtMs: number, phase: Phase, deadlineMs: number) {
    this.#ledger = ledger
    this.dueAtMs = dueAtMs
    this.phase = phase
    this.deadlineMs = deadlineMs
  }

  /** @returns false when it had ended already, which changes nothing. */
  end(outcome: Outcome, detail = '', connectedAtMs: number | null = null): boolean {
    if (this.outcome !== null) return false
    this.outcome = outcome
    this.#ledger.ended(this, outcome, detail, connectedAtMs)
    return true
  }
}

export class Ledger {
  readonly name: PopulationName
  readonly losses: Loss[] = []
  attempted = 0
  open = 0
  politeCloses = 0
  refusedSessions = 0
  reopenedStreams = 0
  readonly #clock: Clock
  readonly #stage: Stage
  readonly #timeoutMs: number
  readonly #outcomes: Record<Outcome, number> = { ok: 0, closed: 0, refused: 0, reset: 0, truncated: 0, wrong: 0, timedOut: 0, unable: 0 }
  readonly #latency: Record<Phase, LatencyHistogram> = {
    before: new LatencyHistogram(), during: new LatencyHistogram(), after: new LatencyHistogram(),
  }

  constructor(name: PopulationName, clock: Clock, stage: Stage, timeoutMs: number) {
    this.name = name
    this.#clock = clock
    this.#stage = stage
    this.#timeoutMs = timeoutMs
  }

  begin(dueAtMs: number): Attempt {
    this.attempted++
    this.open++
    return new Attempt(this, dueAtMs, this.#stage.phase, Math.max(dueAtMs, this.#clock.exact()) + this.#timeoutMs)
  }

  /** The attempt got on, so its time limit starts anew. */
  progress(attempt: Attempt): void { attempt.deadlineMs = this.#clock.exact() + this.#timeoutMs }

  /** For what nobody had tried: a connection that should have lived, or one that could not be replaced. */
  loss(fault: Fault, detail: string, connectedAtMs: number | null): void {
    this.begin(this.#clock.exact()).end(fault, detail, connectedAtMs)
  }

  /** Called by the attempt. */
  ended(attempt: Attempt, outcome: Outcome, detail: string, connectedAtMs: number | null): void {
    this.open--
    this.#outcomes[outcome]++
    const now = this.#clock.exact()
    // How long a slow transfer took is our own choice.
    if (outcome === 'ok') { if (!this.name.startsWith('slow')) this.#latency[attempt.phase].add(now - attempt.dueAtMs) }
    else if (outcome !== 'closed' && this.losses.length < KEPT_LOSSES_MAX) {
      this.losses.push({ population: this.name, fault: outcome, phase: this.#stage.phase, atMs: now, connectedAtMs, detail })
    }
  }

  report(explained: number): PopulationReport {
    const { before, during, after } = this.#latency
    return {
      name: this.name, attempted: this.attempted, outcomes: { ...this.#outcomes }, explained, politeCloses: this.politeCloses,
      refusedSessions: this.refusedSessions, reopenedStreams: this.reopenedStreams,
      p99Ms: { before: before.percentile(0.99), during: during.percentile(0.99), after: after.percentile(0.99) },
    }
  }
}
