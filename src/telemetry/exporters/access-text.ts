/**
 * One line of the access log for a person who watches requests pass:
 *
 *   14:03:07  200  GET   /echo?x=1  3.4 ms  -> 127.0.0.1:9001
 *   14:03:09  502  POST  /upload    2.1 ms  -> 127.0.0.1:9001  UC CONNECT_REFUSED:ECONNREFUSED
 *
 * Printable ASCII like the JSON form (access-line.ts), with the same secrets left out. The only other thing in it are colours,
 * which are asked for where it goes to a terminal.
 */
import { escaped, shownQuery, type AccessRecord } from './access-line.ts'
import type { AccessLines } from './access-lines.ts'
import type { LogSink } from './log-sink.ts'
import { QUERY_SECRETS, type QuerySecrets } from './query-secrets.ts'

/** Longest text of a line, in characters; further ones are for a line that would be too long for its stream. */
const TEXT_LENGTHS = [1024, 256, 64] as const
/** Where the columns behind the path begin, while paths are no longer. */
const TARGET_WIDTH = 24

const RED = 31, GREEN = 32, YELLOW = 33, CYAN = 36, DIM = 2
/** By the first digit of the status; 0: the client was sent nothing. */
const STATUS_COLOURS: Readonly<Record<string, number>> = { 0: RED, 2: GREEN, 3: CYAN, 4: YELLOW, 5: RED }

/** Lines for people. */
export class TextLines implements AccessLines {
  readonly #secrets: QuerySecrets
  readonly #colours: boolean

  constructor(secrets: QuerySecrets = QUERY_SECRETS, colours = false) {
    this.#secrets = secrets
    this.#colours = colours
  }

  writeTo(sink: LogSink, record: AccessRecord): boolean {
    const line = this.compose(record, sink.maxLineLength)
    return sink.write(line, line.length)
  }

  compose(record: AccessRecord, maxLength: number): string {
    let line = ''
    for (const longest of TEXT_LENGTHS) {
      line = this.#composeWith(record, longest)
      if (line.length <= maxLength) break
    }
    return line
  }

  #composeWith(record: AccessRecord, longest: number): string {
    const { method, path, query, status, flag, upstream, err, w, app } = record
    const target = query === '' ? path : `${path}?${shownQuery(query, this.#secrets)}`
    const parts = [
      this.#paint(DIM, timeOf(record.ts)),
      this.#paint(STATUS_COLOURS[String(status)[0]!] ?? CYAN, String(status).padStart(3)),
      escaped(method, longest).padEnd(4),
      // A head that was refused before it became a request has neither method nor path.
      (method === '' ? '(no request)' : escaped(target, longest)).padEnd(TARGET_WIDTH),
      `${took(record.dur_ms)} ms`,
      ...upstream === '' ? [] : [`-> ${escaped(upstream, longest)}`],
      ...flag === '-' ? [] : [this.#paint(RED, `${escaped(flag, longest)}${err === '' ? '' : ` ${escaped(err, longest)}`}`)],
      ...[...app ?? []].map(([name, value]) => `${escaped(name, longest)}=${escaped(String(value), longest)}`),
      ...w === 1 ? [] : [`w=${w}`],
    ]
    return `${parts.join('  ')}\n`
  }

  #paint(code: number, text: string): string { return this.#colours ? `\x1B[${code}m${text}\x1B[0m` : text }
}

const [PLAIN, COLOURED] = [new TextLines(), new TextLines(QUERY_SECRETS, true)]

/** @param maxLength of the whole line, in bytes */
export function formatText(record: AccessRecord, maxLength: number, colours: boolean): string {
  return (colours ? COLOURED : PLAIN).compose(record, maxLength)
}

/** Of the day, where the reader is. */
function timeOf(atMs: number): string {
  const at = new Date(atMs)
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(part => String(part).padStart(2, '0')).join(':')
}

function took(ms: number): string { return ms < 100 ? ms.toFixed(1) : ms.toFixed(0) }
