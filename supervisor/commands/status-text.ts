/** What `status` and `workers ls` show to people, and what other commands say of a server in a line. Pure. */
import type { LevelStatus } from '../log-level.ts'
import type { ErrorReportsStatus } from '../error-reports.ts'
import type { SupervisorStatus } from '../operator-desk.ts'
import type { TicketStatus } from '../ticket-keeper.ts'
import { duration } from './duration-text.ts'
import { outcomeText } from './outcome-text.ts'
import { progressText } from './progress-view.ts'

interface ShownWorker {
  id: string
  pid: number
  state: string
  silent: boolean
  ageMs: number
  drainingMs: number | null
  drainEndsInMs: number | null
  loopLagMs: number | null
  rssBytes: number | null
  open: { connections: number; activeExchanges: number; exchanges: number; upgraded: number }
  /** Left out by a supervisor of an older build. */
  notices?: readonly string[]
}

interface ShownSlot {
  slot: number
  state: string
  restarts: number
  standIn: string | null
  worker: ShownWorker | null
  incoming: ShownWorker | null
  previous: ShownWorker | null
  /** Left out by a supervisor of an older build. */
  spare?: ShownWorker | null
  draining: ShownWorker[]
}

interface ShownTotals {
  connections?: number
  activeExchanges?: number
  exchanges?: number
  upgraded?: number
  webSockets?: number
  oldestUpgradedMs?: number
  backends?: number
  backendsReady?: number
  logLinesDropped?: number
  logFaults?: number
  traceSpansDropped?: number
}

export function statusText(status: SupervisorStatus): string {
  const { connections, activeExchanges, exchanges, upgraded, webSockets, oldestUpgradedMs } = status.totals as ShownTotals
  const webSocketsText = `${webSockets ?? 0} WebSockets, the oldest for ${duration(oldestUpgradedMs ?? 0)}`
  const upgradedText = (upgraded ?? 0) === 0 ? '' : `, ${upgraded} upgraded (${webSocketsText})`
  // Of an upgrade and its kin there is more to say than the name of the step.
  const progress = status.progress ?? null
  const state = `${status.state}${status.operation === '' || progress !== null ? '' : ` (${status.operation})`}`
  return [
    `cirque ${status.version}  ${state}  pid ${status.pid}  up ${duration(status.uptimeMs)}`,
    `application   ${status.application}`,
    `release       ${status.release}${status.previousRelease === '' ? '' : `  (rollback: ${status.previousRelease})`}`,
    `generation    ${status.generation}`,
    ...progress === null ? [] : [`change        ${progressText(progress, status.slots)}`],
    ...status.outcomes.slice(-1).map(outcome => `last change   ${outcomeText(outcome)}`),
    ...status.listeners.map(listener => `listener      ${listener.bound}  ${listener.service}`),
    ...(status.admin === '' ? [] : [`admin         ${status.admin}`]),
    `control       ${status.controlSocket}`,
    ...(status.systemCalls === 'available' ? [] : [`system calls  ${status.systemCalls}: no replacement of the supervisor in place`]),
    `open          ${connections ?? 0} connections, ${activeExchanges ?? 0} requests${upgradedText}; ${exchanges ?? 0} requests so far`,
    ...backendsText(status.totals as ShownTotals),
    ...logsText(status.totals as ShownTotals),
    ...tracesText(status.totals as ShownTotals),
    ...ticketsText(status.tickets ?? null),
    ...reportsText(status.errorReports ?? null),
    ...status.logLevel === undefined || status.logLevel.endsInMs === null ? [] : [`log level     ${levelText(status.logLevel)}`],
    ...noticesText(status.slots as ShownSlot[]),
    '',
    workersText(status),
  ].join('\n')
}

/** Which server that is, in a line: `/srv/app.ts, pid 4711, 4 workers, 17 connections open`. */
export function briefText({ application, pid, slots, totals }: SupervisorStatus): string {
  const workers = (slots as ShownSlot[]).filter(({ worker }) => worker !== null).length
  const { connections = 0 } = totals as ShownTotals
  return `${application}, pid ${pid}, ${count(workers, 'worker')}, ${count(connections, 'connection')} open`
}

/** What a server that ends waits for, and how long it may. */
export function openText({ slots, totals }: SupervisorStatus): string {
  const { connections = 0, activeExchanges = 0 } = totals as ShownTotals
  const ends = (slots as ShownSlot[]).flatMap(({ draining, worker, previous }) => [...draining, worker, previous])
    .flatMap(worker => worker?.drainEndsInMs ?? [])
  const open = `${count(connections, 'connection')}, ${count(activeExchanges, 'request')} open`
  return ends.length === 0 ? open : `${open}; what is left is cut in ${duration(Math.max(...ends))}`
}

function count(many: number, what: string): string { return `${many} ${what}${many === 1 ? '' : 's'}` }

/** Each worker counts the backends of its own balancers. */
function backendsText({ backends = 0, backendsReady = 0 }: ShownTotals): string[] {
  return backends === 0 ? [] : [`backends      ${backendsReady} of ${backends} get traffic, counted in each worker`]
}

/** Only when errors are to be told and are not. */
function reportsText(reports: ErrorReportsStatus | null): string[] {
  if (reports === null || reports.problem === '') return []
  return [`reports       errors are not told: ${reports.problem} (${reports.failed} failed, ${reports.dropped} dropped)`]
}

/** Tickets that each machine or each start encrypts for itself are no fault, unless they were to be the same. */
function ticketsText(tickets: TicketStatus | null): string[] {
  if (tickets === null) return []
  const { keys, encrypts, ageMs, problem } = tickets
  const fault = problem === '' ? '' : `; the file with them cannot be used: ${problem}`
  return [`tickets       ${count(keys, 'key')}, ${encrypts} encrypts for ${duration(ageMs)}${fault}`]
}

function logsText({ logLinesDropped = 0, logFaults = 0 }: ShownTotals): string[] {
  if (logLinesDropped === 0 && logFaults === 0) return []
  return [`logs          ${count(logLinesDropped, 'line')} lost, ${count(logFaults, 'write')} failed`]
}

/** `debug for another 9m58s, then info` */
export function levelText({ level, configured, endsInMs }: LevelStatus): string {
  return endsInMs === null ? level : `${level} for another ${duration(endsInMs)}, then ${configured}`
}

function tracesText({ traceSpansDropped = 0 }: ShownTotals): string[] {
  return traceSpansDropped === 0 ? [] : [`traces        ${count(traceSpansDropped, 'span')} lost`]
}

/** What workers want to have known, each once, with those who say so. */
function noticesText(slots: readonly ShownSlot[]): string[] {
  const saidBy = new Map<string, string[]>()
  for (const { worker } of slots) {
    for (const notice of worker?.notices ?? []) saidBy.set(notice, [...saidBy.get(notice) ?? [], worker!.id])
  }
  return [...saidBy].map(([notice, workers]) => `notice        ${notice} (worker ${workers.join(', ')})`)
}

/** Of the workers that serve. */
export function workerIds({ slots }: SupervisorStatus): string[] {
  return (slots as ShownSlot[]).flatMap(({ worker }) => worker === null ? [] : [worker.id])
}

export function workersText(status: SupervisorStatus): string {
  const rows: string[][] = [['WORKER', 'PID', 'STATE', 'AGE', 'CONNECTIONS', 'REQUESTS', 'LAG', 'MEMORY', 'RESTARTS']]
  for (const slot of status.slots as ShownSlot[]) {
    const row = (worker: ShownWorker, restarts: string): string[] => [
      worker.id,
      String(worker.pid),
      stateText(worker),
      duration(worker.ageMs),
      String(worker.open.connections),
      String(worker.open.exchanges),
      worker.loopLagMs === null ? '-' : `${worker.loopLagMs} ms`,
      worker.rssBytes === null ? '-' : `${Math.round(worker.rssBytes / 1_048_576)} MiB`,
      restarts,
    ]
    if (slot.worker !== null) rows.push(row(slot.worker, String(slot.restarts)))
    else {
      const state = slot.standIn === null ? slot.state : `${slot.state}, served by ${slot.standIn}`
      rows.push([`slot ${slot.slot}`, '-', state, '-', '-', '-', '-', '-', String(slot.restarts)])
    }
    for (const worker of [slot.incoming, slot.previous]) if (worker !== null) rows.push(row(worker, ''))
    if (slot.spare !== undefined && slot.spare !== null) rows.push(row(slot.spare, '').with(2, spareText(slot.spare)))
    for (const worker of slot.draining) rows.push(row(worker, ''))
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()).join('\n')
}

/** It waits to take the slot's worker's place. */
function spareText(spare: ShownWorker): string { return spare.state === 'ready' ? 'spare' : `spare, ${stateText(spare)}` }

/** A worker that drains says what it waits for and how long it may. */
function stateText(worker: ShownWorker): string {
  if (worker.silent) return `${worker.state}, silent`
  if (worker.drainingMs === null || worker.drainEndsInMs === null) return worker.state
  const { activeExchanges, upgraded } = worker.open
  const open = `${activeExchanges} requests, ${upgraded} upgraded`
  return `${worker.state} for ${duration(worker.drainingMs)}: ${open}; ends in ${duration(worker.drainEndsInMs)}`
}
