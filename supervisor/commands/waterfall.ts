/**
 * A request as a drawing of its phases, in ASCII and 80 columns: one line a hook, and a few for each attempt, one below the other as
 * they began. The time runs from left to right.
 *
 *   GET /api/users  200  12.4 ms
 *     example.com, from 10.0.0.9, by edge/0.0.0.0:6188, worker 1.0.0
 *                                 0                               12.4 ms
 *     requestFilter              |##                              |  0.61
 *     #1 10.0.0.1:80 connect     |  =====                         |  2.10
 *
 * `#` a hook works, `~` it waits for its own promise, `=` a connection or a body, `.` the origin is waited for, `'` a moment.
 * Nothing of a text that came from a client or an origin gets to the terminal as it is.
 */
import type { TracedAttempt, TracedError, TracedHook, TraceRecord } from '../../src/ipc/looking.ts'
import { shownEnd, shownText } from './shown-text.ts'

const WIDTH = 80
const NAME_WIDTH = 30
const BAR_WIDTH = 36
/** Of times, with the blank before them. */
const TIME_WIDTH = WIDTH - NAME_WIDTH - BAR_WIDTH - 6

interface Row {
  readonly name: string
  readonly startMs: number
  /** null: a moment. */
  readonly ms: number | null
  readonly mark: '#' | '~' | '=' | '.' | "'"
}

/** Without a line break at the end. */
export function waterfall(record: TraceRecord): string {
  const rows = [...record.hooks.map(rowOfHook), ...record.attempts.flatMap(rowsOfAttempt)]
  // Those that began at the same time stay as they are: hooks before attempts.
  rows.sort((one, other) => one.startMs - other.startMs)
  const totalMs = rows.reduce((longest, { startMs, ms }) => Math.max(longest, startMs + (ms ?? 0)), record.durationMs)
  return [
    ...headOf(record), scaleOf(totalMs), ...rows.map(row => lineOf(row, totalMs)),
    ...record.hooksLeftOut > 0 ? [`  and ${record.hooksLeftOut} calls of hooks for which there is no room`] : [],
    ...record.attempts.flatMap(endOfAttempt), ...errorLines('failed: ', record.error),
  ].join('\n')
}

function headOf(record: TraceRecord): string[] {
  const { method, target, status, flag, durationMs, host, client, listener, worker, version, requestId, traceId = '' } = record
  const outcome = `${status === 0 ? 'no answer' : status}${flag === '-' ? '' : ` ${shownText(flag, 4)}`}  ${timeText(durationMs)} ms`
  const asked = `${shownText(method, 20)} `
  const place = [
    host === '' ? 'no host' : host, ...client === '' ? [] : [`from ${client}`], `by ${listener}`, `worker ${worker}`,
  ].map(part => shownText(part, WIDTH)).join(', ')
  const bytes = `${bytesText(record.bytesReceived)} in, ${bytesText(record.bytesSent)} out`
  const how = record.upgraded ? ', upgraded' : record.ownAnswer ? ', answered here' : ''
  return [
    `${asked}${shownText(target, WIDTH - asked.length - outcome.length - 2)}  ${outcome}`,
    ...wrapped(place), ...wrapped(`request ${shownText(requestId, 60)}, HTTP/${shownText(version, 4)}, ${bytes}${how}`),
    ...traceId === '' ? [] : wrapped(`trace ${shownText(traceId, 60)}`),
  ]
}

function rowOfHook({ hook, startedMs, ms, calls, waited, unsettled, threw }: TracedHook): Row {
  const what = threw ? ' threw' : unsettled ? ' gave nothing' : calls > 1 ? ` x${calls}` : ''
  const name = `${shownText(hook, NAME_WIDTH - what.length)}${what}`
  return { name, startMs: startedMs, ms, mark: waited || unsettled ? '~' : '#' }
}

function rowsOfAttempt(attempt: TracedAttempt): Row[] {
  const { number, startedMs, connectedMs, sentMs, firstByteMs, endedMs } = attempt
  const how = connectedMs === null ? 'no way' : attempt.reused ? 'reused' : 'connect'
  // The end of a long name tells peers apart.
  const peer = shownEnd(attempt.peer, NAME_WIDTH - how.length - `#${number}  `.length)
  const rows: Row[] = [{ name: `#${number} ${peer} ${how}`, startMs: startedMs, ms: (connectedMs ?? endedMs) - startedMs, mark: '=' }]
  if (sentMs === null) return rows
  rows.push({ name: `#${number} request sent`, startMs: sentMs, ms: null, mark: "'" })
  rows.push({
    name: firstByteMs === null ? `#${number} no answer` : `#${number} first byte${attempt.status === 0 ? '' : `, ${attempt.status}`}`,
    startMs: sentMs, ms: (firstByteMs ?? endedMs) - sentMs, mark: '.',
  })
  if (firstByteMs !== null) {
    const name = `#${number} answer, ${bytesText(attempt.bytesReceived)}`
    rows.push({ name, startMs: firstByteMs, ms: endedMs - firstByteMs, mark: '=' })
  }
  return rows
}

function scaleOf(totalMs: number): string {
  const end = `${timeText(totalMs)} ms`
  return `${' '.repeat(NAME_WIDTH + 3)}0${end.padStart(BAR_WIDTH - 1)}`
}

function lineOf({ name, startMs, ms, mark }: Row, totalMs: number): string {
  const scale = totalMs > 0 ? BAR_WIDTH / totalMs : 0
  const from = Math.min(BAR_WIDTH - 1, Math.max(0, Math.floor(startMs * scale)))
  const length = Math.max(1, Math.min(BAR_WIDTH - from, Math.round((ms ?? 0) * scale)))
  const bar = `${' '.repeat(from)}${mark.repeat(length)}`.padEnd(BAR_WIDTH)
  const time = timeText(ms ?? startMs).padStart(TIME_WIDTH)
  return `  ${shownText(name, NAME_WIDTH).padEnd(NAME_WIDTH)}|${bar}|${time}`
}

function endOfAttempt({ number, error, retriedAfterMs }: TracedAttempt): string[] {
  const again = retriedAfterMs === null ? [] : [`  #${number} is tried again after ${timeText(retriedAfterMs)} ms`]
  return [...errorLines(`#${number} failed: `, error), ...again]
}

function errorLines(prefix: string, error: TracedError | null): string[] {
  if (error === null) return []
  // A message names the hook that is to blame.
  const { message, at } = error
  return [...wrapped(`${prefix}${shownText(message)}`), ...at === '' ? [] : wrapped(`at ${shownText(at)}`)]
}

/** Lines of at most 80 columns, further in; broken at a blank where there is one. */
function wrapped(text: string): string[] {
  const lines: string[] = []
  for (let rest = text; rest !== '';) {
    const indent = lines.length === 0 ? '  ' : '    ', room = WIDTH - indent.length
    const blank = rest.length <= room ? rest.length : rest.lastIndexOf(' ', room)
    const end = blank <= 0 ? room : blank
    lines.push(indent + rest.slice(0, end))
    rest = rest.slice(end).trimStart()
  }
  return lines
}

/** Of ms: three digits that say something. What is less than nothing comes of clocks that are read in turn, and is nothing. */
export function timeText(ms: number): string {
  if (!Number.isFinite(ms)) return '?'
  const shown = Math.max(0, ms)
  return shown < 10 ? shown.toFixed(2) : shown < 100 ? shown.toFixed(1) : shown.toFixed(0)
}

function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes, unit = 0
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}
