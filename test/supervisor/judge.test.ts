import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UPGRADE_DEFAULTS, type ResolvedUpgradeOptions } from '../../src/config/supervisor-options.ts'
import { NO_COUNTS, type DoneCounts } from '../../src/ipc/open-counts.ts'
import { Judge, type JudgedWorker } from '../../supervisor/judge.ts'

/** An old worker with a past, and a new one. */
class Trial {
  readonly old = reporting(1)
  readonly fresh = reporting(2)
  readonly silent = new Set<JudgedWorker>()
  readonly judge: Judge

  constructor(options: Partial<ResolvedUpgradeOptions> = {}) {
    done(this.old, { exchanges: 1_000, ownFaults: 900, upstreamFaults: 900 })
    const fleet = { workers: () => [this.old, this.fresh], hangs: (worker: JudgedWorker) => this.silent.has(worker) }
    this.judge = new Judge(fleet, 2, { ...UPGRADE_DEFAULTS, ...options })
  }

  /** One report of each, that its event loop was late by so much. */
  late(oldMs: number, freshMs: number): void {
    for (const [worker, loopLagMs] of [[this.old, oldMs], [this.fresh, freshMs]] as const) {
      const { heartbeat, open } = worker
      worker.heartbeat = { tag: 'heartbeat', seq: (heartbeat?.seq ?? 0) + 1, loopLagMs, utilization: 0, rssBytes: 0, open }
    }
  }
}

type Reporting = { -readonly [Name in keyof JudgedWorker]: JudgedWorker[Name] }

function reporting(generation: number): Reporting {
  return { id: `${generation}.0.1`, generation, alive: true, heartbeat: null, open: NO_COUNTS }
}

/** What it has done since. */
function done(worker: Reporting, { exchanges, ownFaults = 0, upstreamFaults = 0 }: Partial<DoneCounts> & { exchanges: number }): void {
  const { open } = worker
  worker.open = {
    ...open, exchanges: open.exchanges + exchanges, ownFaults: open.ownFaults + ownFaults,
    upstreamFaults: open.upstreamFaults + upstreamFaults,
  }
}

test('judge: errors of their own are held against new workers, also when old ones had no traffic', () => {
  const trial = new Trial()
  done(trial.fresh, { exchanges: 10, ownFaults: 2 })
  trial.judge.check()
  done(trial.fresh, { exchanges: 1, ownFaults: 1 })
  const message = 'new workers answered 3 of 11 requests with an error of their own, old ones 0 %'
  assert.throws(() => trial.judge.check(), { name: 'Refused', message })
})

test('judge: errors of an upstream are not, unless old workers were answered by theirs meanwhile', () => {
  const trial = new Trial()
  done(trial.fresh, { exchanges: 50, upstreamFaults: 50 })
  trial.judge.check()
  done(trial.old, { exchanges: 50, upstreamFaults: 49 })
  trial.judge.check()
  done(trial.old, { exchanges: 50 })
  assert.throws(() => trial.judge.check(), /new workers answered 50 of 50 requests with an error for an upstream, old ones 49 %/)
})

test('judge: a few errors of an upstream more than the old ones had are chance, and many are not', () => {
  const trial = new Trial()
  done(trial.old, { exchanges: 700, upstreamFaults: 4 })
  done(trial.fresh, { exchanges: 49, upstreamFaults: 3 })
  trial.judge.check()
  done(trial.fresh, { exchanges: 5, upstreamFaults: 3 })
  assert.throws(() => trial.judge.check(), /new workers answered 6 of 54 requests with an error for an upstream, old ones 0\.6 %/)

  // A release that reaches no origin is seen by the first requests, with few of them as well.
  const broken = new Trial()
  done(broken.old, { exchanges: 20 })
  done(broken.fresh, { exchanges: 8, upstreamFaults: 8 })
  assert.throws(() => broken.judge.check(), /8 of 8/)
})

test('judge: an event loop that is late three reports in a row is held against new workers', () => {
  const trial = new Trial({ maxLoopLagMs: 200 })
  const row = (...reports: readonly (readonly [oldMs: number, freshMs: number])[]): void => {
    for (const [oldMs, freshMs] of reports) {
      trial.late(oldMs, freshMs)
      trial.judge.check()
      // The same report is not counted again.
      trial.judge.check()
    }
  }
  // Exactly as late as is allowed; then late, with one report in between that is not.
  row([0, 200], [0, 200], [0, 200], [0, 201], [0, 201], [0, 0], [0, 201], [0, 201])
  // The machine is slow for everybody: less than four times as late as the old one.
  row([100, 400], [100, 400], [100, 400])
  row([100, 401], [100, 401])
  assert.throws(() => row([100, 401]), /the event loop of worker 2\.0\.1 is 401 ms late, that of old ones 100 ms/)
})

test('judge: with maxLoopLag 0 no event loop is too late', () => {
  const trial = new Trial({ maxLoopLagMs: 0 })
  for (let report = 0; report < 5; report++) {
    trial.late(0, 60_000)
    trial.judge.check()
  }
})

test('judge: a new worker that falls silent is refused, an old one is not looked at', () => {
  const trial = new Trial()
  trial.silent.add(trial.old)
  trial.judge.check()
  trial.silent.add(trial.fresh)
  assert.throws(() => trial.judge.check(), /worker 2\.0\.1 has fallen silent/)
})
