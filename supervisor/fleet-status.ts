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

/** Slots with their workers, for `status`. */
export function showSlots(roster: Roster): object[] {
  const show = (worker: WorkerProcess | null): object | null => worker === null ? null : showWorker(worker, roster)
  return roster.slots.map(slot => ({
    slot: slot.index,
    state: roster.stopping ? 'stopped' : slot.state,
    restarts: slot.restarts,
    standIn: slot.standIn.worker?.id ?? null,
    worker: show(slot.current),
    incoming: show(slot.incoming),
    previous: show(slot.previous),
    spare: show(slot.spare),
    draining: [...slot.draining].map(show),
  }))
}

function showWorker(worker: WorkerProcess, roster: Roster): object {
  const nowMs = roster.host.nowMs()
  const since = (ms: number | null): number | null => ms === null ? null : Math.round(nowMs - ms)
  const { heartbeat } = worker
  return {
    id: worker.id, pid: worker.pid, generation: worker.generation,
    state: STATE_NAMES[worker.state], silent: roster.isSilent(worker),
    ageMs: since(worker.startedAtMs),
    acceptingMs: since(worker.acceptingSinceMs),
    drainingMs: since(worker.drainingSinceMs),
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
