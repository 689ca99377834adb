/** The fleet as an operator sees it, and its counts. Pure. */
import { sumCounts } from '../src/ipc/open-counts.ts'
import type { OpenCounts } from '../src/ipc/open-counts.ts'
import type { Roster } from './roster.ts'
import { WorkerState } from './worker-process.ts'
import type { WorkerProcess } from './worker-process.ts'

const STATE_NAMES: Readonly<Record<WorkerState, string>> = {
  [WorkerState.Starting]: 'starting',
  [WorkerState.Ready]: 'ready',
  [WorkerState.Accepting]: 'accepting',
  [WorkerState.Paused]: 'paused',
  [WorkerState.PausedInPart]: 'paused',
  [WorkerState.Draining]: 'draining',
  [WorkerState.Gone]: 'gone',
}

/** A worker as `status` shows it. */
export interface WorkerStatus {
  readonly id: string
  readonly pid: number
  readonly generation: number
  readonly state: string
  /** Nothing was heard of it for `supervisor.standInAfterSilence`. */
  readonly silent: boolean
  readonly ageMs: number
  /** For how long; null: it does not. */
  readonly acceptingMs: number | null
  readonly drainingMs: number | null
  readonly drainEndsInMs: number | null
  /** Of the last heartbeat; null: there was none. */
  readonly loopLagMs: number | null
  readonly utilization: number | null
  readonly rssBytes: number | null
  readonly open: OpenCounts
  readonly notices: readonly string[]
}

/** A slot as `status` shows it. */
export interface SlotStatus {
  readonly slot: number
  readonly state: string
  readonly restarts: number
  /** Id of the sibling that accepts here as well. */
  readonly standIn: string | null
  readonly worker: WorkerStatus | null
  readonly incoming: WorkerStatus | null
  readonly previous: WorkerStatus | null
  readonly spare: WorkerStatus | null
  readonly draining: readonly WorkerStatus[]
}

/** Slots with their workers, for `status`. */
export function showSlots(roster: Roster): SlotStatus[] {
  const show = (worker: WorkerProcess | null): WorkerStatus | null => worker === null ? null : showWorker(worker, roster)
  return roster.slots.map(slot => ({
    slot: slot.index,
    state: roster.stopping ? 'stopped' : slot.state,
    restarts: slot.restarts,
    standIn: slot.standIn.worker?.id ?? null,
    worker: show(slot.current),
    incoming: show(slot.incoming),
    previous: show(slot.previous),
    spare: show(slot.spare),
    draining: [...slot.draining].map(worker => showWorker(worker, roster)),
  }))
}

function showWorker(worker: WorkerProcess, roster: Roster): WorkerStatus {
  const nowMs = roster.host.nowMs()
  const since = (ms: number): number => Math.round(nowMs - ms)
  const { heartbeat } = worker
  return {
    id: worker.id, pid: worker.pid, generation: worker.generation,
    state: STATE_NAMES[worker.state], silent: roster.isSilent(worker),
    ageMs: since(worker.startedAtMs),
    acceptingMs: worker.acceptingSinceMs === null ? null : since(worker.acceptingSinceMs),
    drainingMs: worker.drainingSinceMs === null ? null : since(worker.drainingSinceMs),
    drainEndsInMs: worker.drainEndsAtMs === null ? null : Math.max(0, Math.round(worker.drainEndsAtMs - nowMs)),
    loopLagMs: heartbeat?.loopLagMs ?? null, utilization: heartbeat?.utilization ?? null, rssBytes: heartbeat?.rssBytes ?? null,
    open: worker.open,
    notices: Array.isArray(heartbeat?.notices) ? heartbeat.notices : [],
  }
}

/** What is open now, and counters over all workers that ever were. */
export function totalsOf(roster: Roster): OpenCounts {
  return sumCounts([roster.buried, ...[...roster.workers()].map(worker => worker.open)])
}
