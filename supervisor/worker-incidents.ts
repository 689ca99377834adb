/**
 * What the end of a worker, and what a worker says, is as an incident (error-reports.ts): whether it is one, and what it is
 * called. The fleet says when something ends or is said.
 *
 * One death is one incident. A worker that said why it ends (`failed`) is told by that error; one that says nothing by how
 * it ended:
 *
 *   silence        it hung, and was killed for that         out of memory   the kernel killed it for that, or it ended by a SIGABRT
 *   disobedience   it did not do what it was told                           that nobody here sent: so Node.js ends at the limit
 *   not ready      it did not come up in time                               of its heap, and native code that aborts
 *   code 7, ...    it exited                                SIGKILL, ...    another signal
 *   crash loop     the third death in a row of its slot, and each after that, however they ended
 */
import { framesOf, readFault, type FaultReport } from '../src/ipc/fault-report.ts'
import type { FromWorker } from '../src/ipc/messages.ts'
import type { Incident } from './error-reports.ts'
import type { Generation } from './generation.ts'
import type { ExitReport } from './process-host.ts'
import { deathsInARow } from './restart-policy.ts'
import type { Roster } from './roster.ts'
import type { WorkerFailure, WorkerProcess } from './worker-process.ts'

/** So many deaths in a row, none of them after a long life, are a loop. */
export const CRASH_LOOP_DEATHS = 3

const FATAL = { fatal: true, count: 1, again: false, traceId: '', spanId: '' } as const

export class WorkerIncidents {
  readonly #roster: Roster

  constructor(roster: Roster) { this.#roster = roster }

  /**
   * A worker has ended, or has said that it will. Told once, unless it was wanted.
   * @param report null: it has said that it will end, and goes on for a while. @param leaving it was on its way out
   */
  ended(worker: WorkerProcess, report: ExitReport | null, leaving = false): void {
    const { setup, generation: committed, options } = this.#roster
    const generation = this.#roster.generationOf(worker)
    // How a generation on trial comes up is told by the outcome of its operation.
    const isTrial = generation !== committed && worker.acceptingSinceMs === null
    if (worker.reported || isTrial || (report !== null && !isIncident(worker, report, leaving))) return
    worker.reported = true
    const deaths = deathsInARow(this.#roster.slotOf(worker).history, options.restart)
    setup.onIncident(deathOf(worker, report, deaths, generation))
  }

  /** @param given comes from a process that runs code of others; what is no report is ignored */
  said(worker: WorkerProcess, given: object): void {
    const fault = readFault(given)
    if (fault !== null) this.#roster.setup.onIncident(faultOf(worker, fault, this.#roster.generationOf(worker)))
  }
}

/** What a worker has said of its own end. */
export function failureOf({ name = 'Error', message, stack, rejected = false }: Extract<FromWorker, { tag: 'failed' }>): WorkerFailure {
  return { how: 'said', name, message, stack, rejected }
}

/**
 * Whether nobody wanted it to end so: we end a worker that has nothing to lose, and say why where one has failed.
 * @param leaving it was on its way out
 */
function isIncident({ fatalSignal, failure }: WorkerProcess, { code, signal, problem }: ExitReport, leaving: boolean): boolean {
  if (failure !== null) return true
  if (fatalSignal !== null) return false
  // Of one that a supervisor before us forked it is not known how it ended.
  const inOrder = problem === '' && signal === null && (code === null || code === 0)
  return !leaving || !inOrder
}

/** @param report null: it has said that it will end, and goes on for a while. @param deaths of its slot in a row, this one included */
export function deathOf(worker: WorkerProcess, report: ExitReport | null, deaths: number, generation: Generation): Incident {
  const { failure } = worker
  const isLoop = deaths >= CRASH_LOOP_DEATHS
  const about = { ...FATAL, tags: tagsOf(worker), release: generation.release.folder }
  if (failure?.how === 'said') {
    const { name, message, stack, rejected } = failure
    const kind = rejected ? 'rejection' : 'uncaught'
    return { ...about, kind, name, message, stack: framesOf(stack), place: isLoop ? 'crash loop' : '' }
  }
  const how = failure?.how ?? (report === null ? '' : exitOf(report))
  const why = report === null ? failure?.message ?? '' : worker.endReason(report)
  return {
    ...about, kind: 'worker', name: 'WorkerDied', message: `worker ${worker.id} died: ${why}`, stack: '',
    place: isLoop ? 'crash loop' : how, tags: { ...about.tags, exit: how },
  }
}

function exitOf({ code, signal, problem, outOfMemory = false }: ExitReport): string {
  if (problem !== '') return 'not started'
  if (outOfMemory || signal === 'SIGABRT') return 'out of memory'
  return signal ?? (code === null ? 'unknown' : `code ${code}`)
}

/** What a worker has told. */
export function faultOf(worker: WorkerProcess, fault: FaultReport, generation: Generation): Incident {
  const { kind, name, message, stack, where, count, again = false, service, listener, peer, requestId, traceId = '', spanId = '' } = fault
  // `requestFilter of module auth`
  const hook = kind === 'hook' ? { hook: where, phase: where.split(' of ', 1)[0]! } : where === '' ? {} : { function: where }
  const known = Object.entries({ service, listener, peer, requestId }).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return {
    kind, name, message, stack, place: where, fatal: false, count, again, traceId, spanId,
    tags: { ...tagsOf(worker), ...hook, ...Object.fromEntries(known) }, release: generation.release.folder,
  }
}

function tagsOf({ id, generation, slot }: WorkerProcess): Record<string, string> {
  return { worker: id, generation: String(generation), slot: String(slot) }
}
