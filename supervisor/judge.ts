/**
 * Whether new workers do as well as the old ones beside them, by what both report in their heartbeats.
 *
 * Errors of their own count against new workers. Errors because of an upstream do so only when old workers had traffic
 * meanwhile and fared better: an origin that is down says nothing about a release.
 */
import type { ResolvedUpgradeOptions } from '../src/config/supervisor-options.ts'
import { NOTHING_DONE, type DoneCounts } from '../src/ipc/open-counts.ts'
import { Refused } from './refusals.ts'
import type { WorkerProcess } from './worker-process.ts'

/** Errors that come by chance vary by as many standard deviations only once in some hundred releases. */
const DEVIATIONS = 3
/** Late reports in a row that count as a slow worker. */
const LATE_REPORTS = 3
/** How much later than the old workers' it must be. */
const LAG_FACTOR = 4

/** What of a fleet is looked at. */
export interface JudgedFleet {
  workers(): Iterable<JudgedWorker>
  /** It has not reported for so long that no busy moment explains it. */
  hangs(worker: JudgedWorker): boolean
}
export type JudgedWorker = Pick<WorkerProcess, 'id' | 'generation' | 'alive' | 'heartbeat' | 'open'>

export class Judge {
  readonly #fleet: JudgedFleet
  readonly #generation: number
  readonly #options: ResolvedUpgradeOptions
  readonly #oldBefore: DoneCounts
  /** Late reports in a row, and the number of the last one looked at, by worker. */
  readonly #late = new Map<string, { seq: number; inARow: number }>()

  constructor(fleet: JudgedFleet, generation: number, options: ResolvedUpgradeOptions) {
    this.#fleet = fleet
    this.#generation = generation
    this.#options = options
    this.#oldBefore = this.#count(false)
  }

  /** @throws Refused with what is wrong with the new ones. */
  check(): void {
    const { maxFaultShare, minFaults, maxLoopLagMs } = this.#options
    const fresh = this.#count(true)
    const old = this.#count(false)
    const oldExchanges = old.exchanges - this.#oldBefore.exchanges
    for (const [kind, whose] of [['ownFaults', 'an error of their own'], ['upstreamFaults', 'an error for an upstream']] as const) {
      // An origin that is down says nothing about a release, unless old workers were answered by theirs meanwhile.
      if (kind === 'upstreamFaults' && oldExchanges < minFaults) continue
      const share = fresh[kind] / Math.max(1, fresh.exchanges)
      const oldShare = Math.max(0, old[kind] - this.#oldBefore[kind]) / Math.max(1, oldExchanges)
      if (fresh[kind] < minFaults || share <= oldShare + maxFaultShare) continue
      const oldFaults = old[kind] - this.#oldBefore[kind]
      if (kind === 'upstreamFaults' && fresh[kind] <= minFaults + byChance(fresh.exchanges, oldFaults, oldExchanges)) continue
      throw new Refused(`new workers answered ${fresh[kind]} of ${fresh.exchanges} requests with ${whose}, old ones ${percent(oldShare)}`)
    }
    const workers = [...this.#fleet.workers()]
    const oldLag = Math.max(0, ...workers.filter(worker => !this.#isNew(worker)).map(worker => worker.heartbeat?.loopLagMs ?? 0))
    for (const worker of workers) {
      if (!this.#isNew(worker) || !worker.alive) continue
      if (this.#fleet.hangs(worker)) throw new Refused(`worker ${worker.id} has fallen silent`)
      const { heartbeat } = worker
      const before = this.#late.get(worker.id)
      if (heartbeat === null || maxLoopLagMs === 0 || before?.seq === heartbeat.seq) continue
      const inARow = heartbeat.loopLagMs > maxLoopLagMs && heartbeat.loopLagMs > LAG_FACTOR * oldLag ? (before?.inARow ?? 0) + 1 : 0
      this.#late.set(worker.id, { seq: heartbeat.seq, inARow })
      if (inARow < LATE_REPORTS) continue
      throw new Refused(`the event loop of worker ${worker.id} is ${heartbeat.loopLagMs} ms late, that of old ones ${oldLag} ms`)
    }
  }

  #isNew(worker: JudgedWorker): boolean { return worker.generation === this.#generation }

  #count(fresh: boolean): DoneCounts {
    const sum = { ...NOTHING_DONE }
    for (const worker of this.#fleet.workers()) {
      if (this.#isNew(worker) !== fresh) continue
      sum.exchanges += worker.open.exchanges
      sum.ownFaults += worker.open.ownFaults
      sum.upstreamFaults += worker.open.upstreamFaults
    }
    return sum
  }
}

/**
 * As many errors as new workers may well have that do as well as the old ones. Origins fail in whatever worker asks them, a few of
 * them together, and new workers have answered little so far: a few errors more or less are no news of a release.
 */
function byChance(exchanges: number, oldFaults: number, oldExchanges: number): number {
  // One more than there were: that an old worker has had none yet does not mean that there are none.
  const expected = exchanges * (Math.max(0, oldFaults) + 1) / (oldExchanges + 1)
  return expected + DEVIATIONS * Math.sqrt(expected)
}

function percent(share: number): string { return `${Math.round(share * 1000) / 10} %` }
