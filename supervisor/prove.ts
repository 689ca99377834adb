/**
 * `cirque prove`: starts the proof client (src/prove/main.ts), does one thing to the running server when the client has
 * seen enough of the time before, and says what came of it. The action goes over the control socket, except for the
 * deliberate kill of a worker, which is a `kill -9` of the pid that `status` names.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { FAULTS, HTTP2_POPULATIONS, PHASES, POPULATIONS, sharedNowMs, TLS_POPULATIONS } from '../src/config/prove-messages.ts'
import type { Fault, FromProver, Kill, LossReport, PopulationReport, ProofReport, ToProver } from '../src/config/prove-messages.ts'
import type { ResolvedProveOptions } from '../src/config/prove-options.ts'
import type { FromOperator, OperationStarted } from '../src/ipc/messages.ts'
import { askSupervisor, awaitOutcome } from './control-client.ts'
import { OWN_EXEC_ARGV } from './generation.ts'

export const PROVE_ACTIONS = ['reload', 'crash', 'upgrade', 'watch'] as const
export type ProveAction = (typeof PROVE_ACTIONS)[number]

export interface ProveOutcome {
  readonly action: ProveAction
  /** Whether the action itself succeeded, and what it did; one line each. */
  readonly acted: boolean
  readonly actionLines: readonly string[]
  /** null when the client could not even begin. It has said why on stderr. */
  readonly report: ProofReport | null
  /** One sentence, '' when the action succeeded and nothing was lost that it does not explain. */
  readonly verdict: string
}

/** An action may take as long as the supervisor's own limits allow; this is only there so that a proof ends. */
const REPLACEMENT_MAX_MS = 60_000
const GONE_MAX_MS = 5000
const POLL_MS = 5
const SHOWN_LOSSES_MAX = 20

/** @param folder of the control sockets; not looked at for `watch`. */
export async function prove(action: ProveAction, folder: string, options: ResolvedProveOptions): Promise<ProveOutcome> {
  const { acted, actionLines, report } = await runProof(options, action === 'watch' ? null : () => act(action, folder))
  const verdict = report === null ? 'nothing could be proven'
    : !acted ? `${action} failed: ${actionLines.join('; ')}`
    : report.lost > 0 ? `${report.lost} of ${report.attempted} attempts were lost` : ''
  return { action, acted, actionLines, report, verdict }
}

/** What an action did, and the worker that it killed on purpose; null: none. */
export interface Done { readonly lines: readonly string[]; readonly kill: Kill | null }

type Proof = Pick<ProveOutcome, 'acted' | 'actionLines' | 'report'>

/** The proof client around any action; null: it only watches. A throw of the action is an action that failed. */
export async function runProof(options: ResolvedProveOptions, action: (() => Promise<Done>) | null): Promise<Proof> {
  const entry = fileURLToPath(new URL(`../src/prove/main${path.extname(import.meta.filename)}`, import.meta.url))
  const args = [...OWN_EXEC_ARGV, entry, JSON.stringify(options), ...action === null ? [] : ['act']]
  const client = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  let acted = action === null
  let actionLines: readonly string[] = []
  client.on('message', (message: FromProver) => {
    if (message.tag !== 'act' || action === null) return
    tell(client, { tag: 'begins', atMs: sharedNowMs() })
    void action().then(done => {
      acted = true
      actionLines = done.lines
      return done.kill
    }).catch((error: unknown) => {
      actionLines = [error instanceof Error ? error.message : String(error)]
      return null
    }).then(kill => tell(client, { tag: 'ends', atMs: sharedNowMs(), kill }))
  })
  const report = await reportOf(client)
  return { acted, actionLines, report }
}

interface SeenListener {
  readonly bound: string
  /** Left out by a supervisor of an older build. */
  readonly tls?: boolean
}

/**
 * Where the running server can be reached, from its status: the first TCP listener; '' when it has none.
 * @param overTls the first one that speaks TLS
 */
export async function listenerUrl(folder: string, overTls = false): Promise<string> {
  const { listeners } = await askSupervisor(folder, { tag: 'status' }) as { listeners: readonly SeenListener[] }
  const found = listeners.find(({ bound, tls = false }) => /:\d+$/.test(bound) && !bound.startsWith('unix:') && (tls || !overTls))
  if (found === undefined) return ''
  const { bound, tls = false } = found
  // An address that means all of them is not one to dial.
  return `${tls ? 'https' : 'http'}://${bound.replace(/^(?:0\.0\.0\.0|\*)?:/, '127.0.0.1:').replace(/^\[::\]:/, '[::1]:')}`
}

function tell(client: ChildProcess, message: ToProver): void { if (client.connected) client.send(message, () => {}) }

async function reportOf(client: ChildProcess): Promise<ProofReport | null> {
  let output = ''
  client.stdout?.setEncoding('utf8').on('data', (text: string) => { output += text })
  const code = await new Promise<number | null>(resolve => {
    client.once('close', resolve)
    client.once('error', () => resolve(null))
  })
  return code === 0 ? JSON.parse(output) as ProofReport : null
}

async function act(action: ProveAction, folder: string): Promise<Done> {
  switch (action) {
    case 'reload': return operate(folder, { tag: 'reload' })
    // Even if nothing has changed: a proof replaces everything that an upgrade can replace.
    case 'upgrade': return operate(folder, { tag: 'upgrade', folder: '', supervisor: 'always' })
    case 'crash': return crash(folder)
    case 'watch': return { lines: [], kill: null }
  }
}

async function operate(folder: string, message: Extract<FromOperator, { tag: 'reload' | 'upgrade' }>): Promise<Done> {
  const { id } = await askSupervisor(folder, message) as OperationStarted
  const { result, reason, generation, supervisorReplaced, steps } = await awaitOutcome(folder, id)
  if (result !== 'committed') throw new Error(`${result}: ${reason}`)
  const took = steps.map(({ step, ms }) => `${step} ${milliseconds(ms)}`).join(', ')
  const how = supervisorReplaced ? ', with a new supervisor in the same process' : ''
  return { lines: [`generation ${generation} serves${how} (${took})`], kill: null }
}

interface SeenWorker {
  readonly id: string
  readonly pid: number
  readonly state: string
  readonly open: { readonly connections: number }
}
interface SeenSlot { readonly slot: number; readonly standIn: string | null; readonly worker: SeenWorker | null }

/** Kills the accepting worker that has most connections, and waits until its slot has another one that accepts. */
async function crash(folder: string): Promise<Done> {
  const slotsNow = async (): Promise<readonly SeenSlot[]> => {
    const status = await askSupervisor(folder, { tag: 'status' }) as { slots: readonly SeenSlot[] }
    return status.slots
  }
  const [victim] = (await slotsNow())
    .flatMap(({ slot, worker }) => worker?.state === 'accepting' ? [{ slot, worker }] : [])
    .toSorted((one, other) => other.worker.open.connections - one.worker.open.connections)
  if (victim === undefined) throw new Error('no worker accepts')
  const { slot, worker } = victim
  const who = `worker ${worker.id}, pid ${worker.pid}`
  const atMs = sharedNowMs()
  process.kill(worker.pid, 'SIGKILL')
  while (isThere(worker.pid)) {
    if (sharedNowMs() - atMs > GONE_MAX_MS) throw new Error(`${who}, is still there ${GONE_MAX_MS} ms after kill -9`)
    await delay(POLL_MS)
  }
  const goneAtMs = sharedNowMs()
  for (;;) {
    const now = (await slotsNow()).find(each => each.slot === slot)
    if (now?.worker?.state === 'accepting' && now.worker.id !== worker.id && now.standIn === null) {
      const had = `which had ${worker.open.connections} connections at its last heartbeat`
      const line = `killed ${who}, ${had}; ${now.worker.id} accepts ${Math.round(sharedNowMs() - atMs)} ms later`
      return { lines: [line], kill: { atMs, goneAtMs } }
    }
    if (sharedNowMs() - atMs > REPLACEMENT_MAX_MS) {
      throw new Error(`worker ${worker.id} was killed and nobody accepts in its place after ${REPLACEMENT_MAX_MS} ms`)
    }
    await delay(4 * POLL_MS)
  }
}

function isThere(pid: number): boolean {
  try { return process.kill(pid, 0) } catch { return false }
}

// For people.

const FAULT_NAMES: Readonly<Record<Fault, string>> = {
  refused: 'REFUSED',
  reset: 'RESET',
  truncated: 'TRUNCATED',
  wrong: 'WRONG',
  timedOut: 'TIMED OUT',
  unable: 'UNABLE',
}

const EXPLAINED_TEXT = 'EXPLAINED  faults on connections that the killed worker had accepted: they went with it'

/** What a column counts whose name does not say it. @param action null: all that any action shows */
export function columnsText(lineDelayMs: number, action: ProveAction | null): string[] {
  const ownLine = `; of keep-alive and WebSocket echo ${2 * lineDelayMs} ms are the client's own line, ${lineDelayMs} ms each way`
  return [
    ...action === null || action === 'crash' ? [EXPLAINED_TEXT] : [],
    'CLOSED     connections that the server ended in order; a WebSocket message that met its Close is neither lost nor OK',
    `P99        from when an attempt was due to its whole answer${lineDelayMs === 0 ? '' : ownLine}`,
  ]
}

export function proveText({ action, acted, actionLines, report, verdict }: ProveOutcome): string {
  if (report === null) return ''
  const phases = PHASES.filter(phase => report.phasesMs[phase] > 0)
  const phaseTimes = phases.map(phase => `${seconds(report.phasesMs[phase])} ${phase}`).join(', ')
  const times = action === 'watch' ? seconds(report.phasesMs.before) : phaseTimes
  // What could not be tried at all is a fault of the client and its machine, which hardly ever happens.
  const faults = FAULTS.filter(fault => fault !== 'unable' || report.populations.some(({ outcomes }) => outcomes.unable > 0))
  const faultColumns = faults.map(fault => FAULT_NAMES[fault])
  const explainedColumn = action === 'crash' ? ['EXPLAINED'] : []
  const timeColumns = phases.map(phase => action === 'watch' ? 'P99' : `P99 ${phase.toUpperCase()}`)
  const rows: string[][] = [['', 'ATTEMPTED', 'OK', ...faultColumns, ...explainedColumn, 'CLOSED', ...timeColumns]]
  const isTls = report.url.startsWith('https:')
  for (const name of POPULATIONS.filter(each => isTls || !TLS_POPULATIONS.has(each))) {
    const population: PopulationReport | undefined = report.populations.find(each => each.name === name)
    if (population === undefined) rows.push([name, 'not run'])
    else {
      const { outcomes } = population
      rows.push([
        name,
        String(population.attempted),
        String(outcomes.ok),
        ...faults.map(fault => String(outcomes[fault])),
        ...action === 'crash' ? [String(population.explained)] : [],
        String(population.politeCloses),
        ...phases.map(phase => milliseconds(population.p99Ms[phase])),
      ])
    }
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  const refused = report.populations.reduce((sum, { refusedSessions }) => sum + refusedSessions, 0)
  const isHttp2 = report.populations.some(({ name }) => HTTP2_POPULATIONS.has(name))
  const reopened = report.populations.reduce((sum, { reopenedStreams }) => sum + reopenedStreams, 0)
  const gaps = phases.map(phase => `${milliseconds(report.longestGapMs[phase])}${action === 'watch' ? '' : ` ${phase}`}`).join(', ')
  return [
    `${action} at ${report.url}: ${times}`,
    ...actionLines.map(line => acted ? line : `${action} failed: ${line}`),
    '',
    ...rows.map(row => rowText(row, widths)),
    ...columnsText(report.lineDelayMs, action),
    '',
    `longest time in which a fresh connection was tried and none was answered: ${gaps}`,
    ...isTls ? [`sessions of TLS that were not taken up again: ${refused}`] : [],
    ...isHttp2 ? [`streams that GOAWAY left out, and that were opened anew: ${reopened}`] : [],
    ...report.losses.filter(loss => !loss.explained).slice(0, SHOWN_LOSSES_MAX).map(lossLine),
    ...report.lost > SHOWN_LOSSES_MAX ? [`  and ${report.lost - SHOWN_LOSSES_MAX} more`] : [],
    // Anything else goes to stderr, as with every command that fails.
    ...verdict === '' ? [`nothing was lost in ${report.attempted} attempts`] : [],
  ].join('\n')
}

/** Numbers are aligned to the right. The only cell beside the name of what was not run is no number. */
function rowText(row: readonly string[], widths: readonly number[]): string {
  const cells = row.map((cell, column) => {
    const toTheLeft = column === 0 || row.length === 2
    return toTheLeft ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
  })
  return cells.join('  ').trimEnd()
}

function lossLine({ atMs, phase, population, fault, detail, connectionAgeMs }: LossReport): string {
  const age = connectionAgeMs === null ? '' : `, on a connection ${seconds(connectionAgeMs)} old`
  return `  lost after ${seconds(atMs)} (${phase}): ${population}: ${FAULT_NAMES[fault].toLowerCase()}: ${detail}${age}`
}

function seconds(ms: number): string { return `${(ms / 1000).toFixed(ms < 1000 ? 3 : 1)} s` }

function milliseconds(ms: number | null): string { return ms === null ? '-' : `${ms < 100 ? ms.toFixed(1) : ms.toFixed(0)} ms` }
