/**
 * What `cirque top` shows, as lines for a terminal of any size: above what one looks for first (is it ready, how much passes, what
 * fails, what is being changed), below it tables of workers, listeners and upstreams. The one that is chosen gets the room that it
 * wants, the others share the rest, and below each stands how many of its rows there was no room for. Pure.
 *
 * Colours only stress what words and figures say already: red what fails or is not there, yellow what might, grey what is nothing.
 */
import type { Failing, Figures, Percentiles, TrafficFigures } from '../figures.ts'
import type { Sample, SampledChange, SampledSlot, SampledWorker, WorkerPlace } from '../sample.ts'
import { duration, elapsed } from './duration-text.ts'
import { bytesText, countText, NOTHING_TO_SAY, numberText, percentText, timeText } from './figure-text.ts'
import { shownText } from './shown-text.ts'
import {
  cell, clipped, drawTable, figure, fitting, wrapped, type Cell, type Column, type Line, type Piece, type Style,
} from './text-table.ts'

export const TABLES = ['workers', 'listeners', 'upstreams'] as const
export type TableName = (typeof TABLES)[number]

/** What there is to show. */
export interface TopView {
  readonly sample: Sample
  /** null: a second sample is on its way. */
  readonly figures: Figures | null
  /** Why there is no answer any more, and for how long there was none, in ms; '' and 0. */
  readonly lost: string
  readonly lostForMs: number
}

/** What of it a person wants to see. */
export interface TopChoice {
  readonly chosen: TableName
  /** Rows of that table that are scrolled past. */
  readonly offset: number
}

export interface TopSize {
  readonly columns: number
  /** Infinity: all there is. */
  readonly rows: number
}

/** A loop that is later than that is worth a look, and one that is later than this is felt by clients, in ms. */
const LATE_MS = 20
const VERY_LATE_MS = 100
const BUSY = 0.8
const VERY_BUSY = 0.95
/** Of notices and reasons. */
const MAX_SENTENCE_LINES = 2
const MAX_NOTICES = 3
const MAX_FAILING = 6

export interface TopFrame {
  readonly lines: readonly Line[]
  /** So far the chosen table can be scrolled. */
  readonly lastOffset: number
}

/** @param keys what is told of keys, in the last line; '': there are none, and no last line */
export function topFrame(view: TopView, choice: TopChoice, { columns, rows }: TopSize, keys: string): TopFrame {
  const head = headOf(view, columns)
  const tables = tablesOf(view, columns)
  const foot = keys === '' ? [] : [[cell(shownText(keys, columns), 'quiet')]]
  const room = rows - head.length - foot.length
  const { lines: body, lastOffset } = arranged(tables, choice, room)
  const filling = rows === Infinity ? [] : Array.from({ length: Math.max(0, room - body.length) }, (): Line => [])
  return { lines: [...head.slice(0, rows - foot.length), ...body, ...filling, ...foot].map(line => clipped(line, columns)), lastOffset }
}

// ---- the lines above

function headOf(view: TopView, width: number): Line[] {
  const { sample, figures, lost, lostForMs } = view
  const all = figures?.all ?? null
  const perSecond = figures === null ? null : requestsPerSecond(sample, figures)
  return [
    fitting(factsOf(sample), width),
    ...lost === '' ? [] : sentence(`no answer for ${duration(lostForMs)}: ${lost}; what is below is as it was then`, 'bad', width),
    ...sample.ready ? [] : sentence(`not ready: ${sample.reason}`, 'bad', width),
    fitting([
      [cell('requests  ', 'quiet'), cell(perSecond === null ? NOTHING_TO_SAY : `${numberText(perSecond)}/s`, 'bold')],
      labelled('4xx', percentText(all?.share4xx ?? null), (all?.share4xx ?? 0) > 0 ? 'warn' : 'plain'),
      labelled('5xx', percentText(all?.share5xx ?? null), (all?.share5xx ?? 0) > 0 ? 'bad' : 'plain'),
      ...latencies(all, sample.bounds), labelled('under way', countText(sample.open.activeExchanges)),
    ], width),
    fitting(openOf(view), width),
    ...changeLines(sample, width),
    ...sample.notices.slice(0, MAX_NOTICES).flatMap(notice => sentence(`! ${notice}`, 'warn', width)),
    ...sample.notices.length > MAX_NOTICES ? [[cell(`! and ${sample.notices.length - MAX_NOTICES} more, see cirque status`, 'quiet')]] : [],
    [],
  ]
}

function factsOf(sample: Sample): Piece[][] {
  const { version, state, ready, application, release, generation, takenAtMs, startedAtMs } = sample
  const shownState = state === 'running' ? ready ? 'ready' : 'not ready' : state
  return [
    [cell(`cirque ${shownText(version, 20)}`, 'bold')], [cell(shownText(shownState, 20), ready ? 'good' : 'bad')],
    labelled('generation', String(generation)), labelled('up', duration(takenAtMs - startedAtMs)),
    ...application === '' ? [] : [[cell(shownText(application, 24))]],
    ...release === '' ? [] : [labelled('release', shownText(release, 30))],
  ]
}

/** Those of heartbeats where nothing else is counted. */
function requestsPerSecond(sample: Sample, figures: Figures): number {
  if (sample.counting) return figures.all.perSecond
  return [...figures.workers.values()].reduce((sum, perSecond) => sum + perSecond, 0)
}

function labelled(label: string, value: string, style: Style = 'plain'): Piece[] { return [cell(`${label} `, 'quiet'), cell(value, style)] }

function latencies(all: TrafficFigures | null, bounds: readonly number[]): Piece[][] {
  const time = (ms: number | null | undefined): string => timeText(ms ?? null, bounds)
  return [labelled('p50', time(all?.p50Ms)), labelled('p90', time(all?.p90Ms)), labelled('p99', time(all?.p99Ms))]
}

function openOf({ sample, figures }: TopView): Piece[][] {
  const { connections, idleConnections, upgraded, poolLent, poolIdle, poolWaiting } = sample.open
  return [
    [cell('clients   ', 'quiet'), cell(countText(connections), 'bold'), cell(` (${countText(idleConnections)} idle)`)],
    ...upgraded === 0 ? [] : [labelled('upgraded', countText(upgraded))],
    labelled('origins', `${countText(poolLent)} in use, ${countText(poolIdle)} idle`),
    ...poolWaiting === 0 ? [] : [labelled('waiting', countText(poolWaiting), 'bad')],
    labelled('reuse', percentText(figures?.reuseShare ?? null)),
  ]
}

/** What is under way; otherwise what was changed last. */
function changeLines(sample: Sample, width: number): Line[] {
  const { change, changes, operation, takenAtMs, slots } = sample
  if (change !== null) {
    const { id, step, steps, stepMs, soakMs, generation, workers } = change
    const fresh = slots.filter(({ workers: [first] }) => first?.place === 'current' && first.generation === generation).length
    const detail = step === 'soak' && soakMs !== null ? `${duration(Math.max(0, soakMs - stepMs) + 999)} left`
      : step === 'rolling' && workers !== null ? `${Math.min(fresh, workers)} of ${workers} workers` : elapsed(stepMs)
    return [fitting([
      [cell('change    ', 'quiet'), cell(shownText(id, 30), 'bold')],
      // The step of now before those that are over, since what does not fit is left out.
      [cell(`${shownText(step, 20)} ${detail}`, step === 'reverting' ? 'bad' : 'warn')],
      ...steps.length === 0 ? [] : [[cell('after', 'quiet')]],
      ...steps.map(one => [cell(`${shownText(one.step, 20)} ${elapsed(one.ms)}`, 'good')]),
    ], width)]
  }
  if (operation !== '') return [fitting([[cell('change    ', 'quiet'), cell(shownText(operation, width - 10), 'warn')]], width)]
  const [last] = changes
  return last === undefined ? [] : lastChange(last, takenAtMs, width)
}

function lastChange({ id, result, reason, generation, release, endedAtMs }: SampledChange, nowMs: number, width: number): Line[] {
  const when = endedAtMs === 0 ? '' : ` ${duration(Math.max(0, nowMs - endedAtMs))} ago`
  const style = result === 'committed' ? 'good' : result === 'rolled-back' ? 'bad' : 'warn'
  const reached = [labelled('generation', String(generation)), ...release === '' ? [] : [[cell(shownText(release, 40))]]]
  const line = fitting([
    [cell('last      ', 'quiet'), cell(shownText(id, 30)), cell(' '), cell(`${shownText(result, 20)}${when}`, style)],
    ...result === 'committed' ? reached : [],
  ], width)
  return result === 'committed' || reason === '' ? [line] : [line, ...sentence(reason, 'plain', width - INDENT.length, INDENT)]
}

const INDENT = ' '.repeat(10)

function sentence(text: string, style: Style, width: number, indent = ''): Line[] {
  return wrapped(text, width, MAX_SENTENCE_LINES).map(line => [cell(indent), cell(line, style)])
}

// ---- the tables below

interface Table {
  /** '': it is never chosen, and gets what the others leave. */
  readonly name: TableName | ''
  /** So many rows are shown before any table gets more. */
  readonly least: number
  readonly head: Line
  readonly rows: readonly Line[]
}

/** A name is made no shorter for the sake of figures that can be spared. */
const NAME_MIN = 24

const MARK = '> '
const NO_MARK = '  '

function tablesOf(view: TopView, width: number): Table[] {
  const { sample, figures } = view
  const within = width - MARK.length
  const counted: Table[] = !sample.counting ? [noteOf('nothing is counted by listener and upstream: supervisor.metrics is false')]
    : figures === null ? [noteOf('listeners and upstreams follow with the next sample')]
      : [
        listenersTable(figures, sample, within), ...failingTable(figures.all.failing, sample, within),
        ...figures.upstreams.length === 0 ? [noteOf('no origin was asked yet')] : [upstreamsTable(figures, sample, within)],
        ...limitsTable(figures, within),
      ]
  return [workersTable(view, within), ...counted]
}

function noteOf(text: string): Table { return { name: '', least: 0, head: [cell(text, 'quiet')], rows: [] } }

const WORKER_COLUMNS: readonly Column[] = [
  { head: 'WORKER', spared: 0, text: 12 }, { head: 'STATE', spared: 0, text: 36 }, { head: 'REQ/S', spared: 0 },
  { head: 'CLIENTS', spared: 0 }, { head: 'DELAY', spared: 0 },
  { head: 'BUSY', spared: 1 }, { head: 'MEMORY', spared: 2 }, { head: 'AGE', spared: 3 },
  { head: 'RESTARTS', spared: 4 }, { head: 'PID', spared: 5 },
]

function workersTable({ sample, figures }: TopView, width: number): Table {
  const rows = sample.slots.flatMap(slot => {
    const serves = slot.workers.some(({ place }) => place === 'current')
    return [...serves ? [] : [vacantRow(slot)], ...slot.workers.map(worker => workerRow(slot, worker, figures))]
  })
  return { name: 'workers', least: 2, ...drawTable(WORKER_COLUMNS, rows, width) }
}

function vacantRow({ slot, state, standIn, restarts }: SampledSlot): Cell[] {
  const planned = state === 'surplus' || state === 'stopped'
  const nothing = cell(NOTHING_TO_SAY, 'quiet')
  return [
    cell(`slot ${slot}`), cell(standIn === '' ? state : `${state}, served by ${standIn}`, planned ? 'quiet' : 'bad'),
    nothing, nothing, nothing, nothing, nothing, nothing, figure(String(restarts)), nothing,
  ]
}

const PLACE_STYLES: Readonly<Record<WorkerPlace, Style>> = {
  current: 'plain', incoming: 'warn', previous: 'warn', spare: 'quiet', draining: 'quiet',
}

function workerRow({ restarts }: SampledSlot, worker: SampledWorker, figures: Figures | null): Cell[] {
  const { id, pid, place, silent, ageMs, connections, loopLagMs, utilization, rssBytes } = worker
  const perSecond = figures?.workers.get(id)
  const late = (loopLagMs ?? 0) >= VERY_LATE_MS ? 'bad' : (loopLagMs ?? 0) >= LATE_MS ? 'warn' : 'plain'
  const busy = (utilization ?? 0) >= VERY_BUSY ? 'bad' : (utilization ?? 0) >= BUSY ? 'warn' : 'plain'
  return [
    cell(id), cell(stateOf(worker), silent ? 'bad' : PLACE_STYLES[place]),
    figure(perSecond === undefined ? NOTHING_TO_SAY : numberText(perSecond)), figure(countText(connections)),
    figure(timeText(loopLagMs), late), figure(percentText(utilization), busy),
    figure(rssBytes === null ? NOTHING_TO_SAY : bytesText(rssBytes)), figure(duration(ageMs)),
    figure(place === 'current' ? String(restarts) : ''), cell(String(pid), 'quiet'),
  ]
}

function stateOf({ place, state, silent, drainEndsInMs, activeRequests }: SampledWorker): string {
  const what = place === 'spare' && state === 'ready' ? 'spare' : place === 'previous' ? `${state}, may return` : state
  if (silent) return `${what}, silent`
  if (drainEndsInMs === null) return what
  return `${what}: ${activeRequests} open, ${duration(drainEndsInMs)} left`
}

const LISTENER_COLUMNS: readonly Column[] = [
  { head: 'LISTENER', spared: 0, text: NAME_MIN }, { head: 'REQ/S', spared: 0 }, { head: '4XX', spared: 0 }, { head: '5XX', spared: 0 },
  { head: 'P50', spared: 1 }, { head: 'P90', spared: 3 }, { head: 'P99', spared: 0 },
  { head: 'IN/S', spared: 5 }, { head: 'OUT/S', spared: 4 },
]

function listenersTable({ listeners }: Figures, { bounds }: Sample, width: number): Table {
  const rows = listeners.map(one => [
    nameOf(one.name), figure(numberText(one.perSecond)),
    figure(percentText(one.share4xx), 'warn'), figure(percentText(one.share5xx), 'bad'),
    figure(timeText(one.p50Ms, bounds)), figure(timeText(one.p90Ms, bounds)), figure(timeText(one.p99Ms, bounds)),
    figure(bytesText(one.bytesInPerSecond)), figure(bytesText(one.bytesOutPerSecond)),
  ])
  return { name: 'listeners', least: 2, ...drawTable(LISTENER_COLUMNS, rows, width) }
}

/** Of all that found no series of their own. */
function nameOf(name: string): Cell { return name === '_overflow' ? cell('all others', 'quiet') : cell(name) }

const UPSTREAM_COLUMNS: readonly Column[] = [
  { head: 'UPSTREAM', spared: 0, text: NAME_MIN }, { head: 'TRIES/S', spared: 0 },
  { head: 'FAILED', spared: 0 }, { head: '5XX', spared: 0 },
  { head: 'CONN P50/P99', spared: 2 }, { head: 'BYTE P50/P99', spared: 1 }, { head: 'REUSE', spared: 3 }, { head: 'RETRIES/S', spared: 4 },
  { head: 'ERRORS', spared: 5, text: NAME_MIN },
]

function upstreamsTable({ upstreams }: Figures, { bounds }: Sample, width: number): Table {
  const rows = upstreams.map(one => [
    nameOf(one.name), figure(numberText(one.perSecond)),
    figure(percentText(one.errorShare), 'bad'), figure(percentText(one.faultShare), 'bad'),
    figure(pairText(one.connect, bounds)), figure(pairText(one.firstByte, bounds)), figure(percentText(one.reuseShare)),
    figure(numberText(one.retriesPerSecond), 'warn'), cell(one.errors.slice(0, 2).map(([kind]) => kind).join(' '), 'bad'),
  ])
  return { name: 'upstreams', least: 2, ...drawTable(UPSTREAM_COLUMNS, rows, width) }
}

/** `2.4/49 ms`, and with both units where they differ. */
function pairText({ p50Ms, p99Ms }: Percentiles, bounds: readonly number[]): string {
  const [one, other] = [timeText(p50Ms, bounds), timeText(p99Ms, bounds)]
  if (one === other) return one
  const [value, unit] = one.split(' ')
  return other.endsWith(` ${unit}`) ? `${value}/${other}` : `${one}/${other}`
}

const FAILING_COLUMNS: readonly Column[] = [
  { head: 'FAILING', spared: 0, text: 16 }, { head: 'SHARE', spared: 0 }, { head: '/S', spared: 1 },
  { head: 'BECAUSE', spared: 0, text: 30 },
]
const CODES: Readonly<Record<string, string>> = { none: 'no answer', head: 'refused' }

function failingTable(failing: readonly Failing[], { flags }: Sample, width: number): Table[] {
  if (failing.length === 0) return []
  const meanings = new Map(flags)
  const rows = failing.slice(0, MAX_FAILING).map(({ code, flag, share, perSecond }) => [
    cell(`${CODES[code] ?? code} ${flag}`, code === '5xx' ? 'bad' : code === '4xx' ? 'warn' : 'plain'), cell(percentText(share)),
    cell(numberText(perSecond), 'quiet'), cell(flag === '-' ? 'answered so by the origin or the application' : meanings.get(flag) ?? ''),
  ])
  return [{ name: '', least: 2, ...drawTable(FAILING_COLUMNS, rows, width) }]
}

const LIMIT_COLUMNS: readonly Column[] = [
  { head: 'LIMIT PASSED', spared: 0, text: NAME_MIN }, { head: '/S', spared: 0 }, { head: 'SINCE THE START', spared: 0 },
]

function limitsTable({ limits }: Figures, width: number): Table[] {
  if (limits.length === 0) return []
  const rows = limits.map(({ name, perSecond, total }) => [cell(name), figure(numberText(perSecond), 'warn'), cell(countText(total))])
  return [{ name: '', least: 0, ...drawTable(LIMIT_COLUMNS, rows, width) }]
}

/** Which rows of which table are shown in the room that there is: the least of each, then the chosen one, then the others in turn. */
function arranged(tables: readonly Table[], { chosen, offset }: TopChoice, room: number): TopFrame {
  const order = [...tables].sort((one, other) => rankOf(one, chosen) - rankOf(other, chosen))
  const given = new Map<Table, number>()
  let left = room
  const take = (table: Table, wanted: number): void => {
    const have = given.get(table)
    // Head and the line below.
    const overhead = have === undefined ? 2 : 0
    const more = Math.min(wanted - (have ?? 0), left - overhead)
    const isWorthIt = more > 0 || (have === undefined && table.rows.length === 0 && left >= overhead)
    if (!isWorthIt) return
    given.set(table, (have ?? 0) + more)
    left -= more + overhead
  }
  for (const table of order) if (table.least > 0) take(table, Math.min(table.least, table.rows.length))
  for (const table of order) take(table, table.rows.length)
  const lines = tables.flatMap(table => {
    const rows = given.get(table)
    return rows === undefined ? [] : drawnRows(table, rows, table.name === chosen, offset)
  })
  const one = tables.find(({ name }) => name === chosen)
  return { lines, lastOffset: one === undefined ? 0 : one.rows.length - (given.get(one) ?? 0) }
}

function rankOf({ name }: Table, chosen: TableName): number { return name === chosen ? 0 : name === '' ? 2 : 1 }

/** With the line below them, which is blank or says how many more there are. */
function drawnRows({ head, rows }: Table, count: number, chosen: boolean, offset: number): Line[] {
  const from = chosen ? Math.max(0, Math.min(offset, rows.length - count)) : 0
  const below = rows.length - from - count
  const more = [...from === 0 ? [] : [`${from} above`], ...below === 0 ? [] : [`${below} below`]].join(', ')
  return [
    [cell(chosen ? MARK : NO_MARK, 'bold'), ...head],
    ...rows.slice(from, from + count).map((row): Line => [cell(NO_MARK), ...row]),
    more === '' ? [] : [cell(`${NO_MARK}... ${more}`, 'quiet')],
  ]
}
