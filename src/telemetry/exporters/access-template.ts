/**
 * Lines of the access log that are made of text and fields: those of a template, and the two that every log analyser reads, which
 * are templates as well. A template is taken apart once; a line is then its texts and the values of its fields, one behind another.
 *
 *   combined   127.0.0.1 - - [21/Nov/2026:09:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 1234 "https://a/" "curl/8.5.0"
 *   common     the same up to the size, which is `-` for none
 *
 * Values are escaped as nginx does: each byte that is no printable ASCII, `"` and `\` become `\xXX`. So a client can neither add a
 * line nor end a quoted field. One that has nothing to say is `-`. Where there are no quotes, a blank within a value looks like the
 * end of it: a template had better quote what clients write, `"$ua"`.
 * Unlike nginx it cuts long values, hides secrets of queries, and never knows a user: Authorization is not read here.
 */
import type { TemplateField, TemplatePart } from '../../config/access-format.ts'
import { CUT_MARK, MAX_FIELD_LENGTH, ms, shownQuery, shownUrl, whole, type AccessRecord } from './access-line.ts'
import type { AccessLines } from './access-lines.ts'
import type { LogSink } from './log-sink.ts'
import type { QuerySecrets } from './query-secrets.ts'
import { UtcTime } from './utc-time.ts'

/** Where lines cannot be that long all values longer than this are cut, to one length that makes them fit. */
const MIN_FIELD_LENGTH = 64
/** Longer is no version of HTTP. */
const MAX_PROTOCOL_LENGTH = 16
/** What nginx writes for a client that left before it was answered. */
const CLIENT_LEFT = 499

/** A value as the line has it, escaped, at most `longest` characters. */
type Value = (record: AccessRecord, longest: number) => string

/** A part of a line: text, the name of a field, or a value that only these forms have. */
type Part = TemplatePart | Value

/** What both begin with: there is neither an answer of identd nor a user. */
const BEGINNING: readonly Part[] = [fieldOf('client'), ' - - [', fieldOf('time_local'), '] "', fieldOf('request'), '" ', statusOf, ' ']

/** Apache's and NCSA's common log format. */
export const COMMON: readonly Part[] = [...BEGINNING, sizeOrNone]

/** nginx's format of that name, byte for byte. */
export const COMBINED: readonly Part[] = [...BEGINNING, fieldOf('bytes_out'), ' "', fieldOf('referer'), '" "', fieldOf('ua'), '"']

function fieldOf(field: TemplateField): Part { return { field, key: '' } }

export class TemplateLines implements AccessLines {
  /** Before the first value, and behind each. */
  readonly #texts: readonly string[]
  readonly #values: readonly Value[]

  constructor(parts: readonly Part[], secrets: QuerySecrets) {
    const texts = [''], values: Value[] = []
    for (const part of parts) {
      if (typeof part === 'string') {
        texts[values.length] += part
        continue
      }
      values.push(typeof part === 'function' ? part : valueOf(part, secrets))
      texts.push('')
    }
    texts[values.length] += '\n'
    this.#texts = texts
    this.#values = values
  }

  writeTo(sink: LogSink, record: AccessRecord): boolean {
    const line = this.compose(record, sink.maxLineLength)
    return sink.write(line, line.length)
  }

  compose(record: AccessRecord, maxLength: number): string {
    let line = this.#composeWith(record, MAX_FIELD_LENGTH)
    for (let longest = MAX_FIELD_LENGTH / 2; line.length > maxLength && longest >= MIN_FIELD_LENGTH; longest /= 2) {
      line = this.#composeWith(record, longest)
    }
    return line
  }

  #composeWith(record: AccessRecord, longest: number): string {
    const texts = this.#texts, values = this.#values
    let line = texts[0]!
    for (let at = 0; at < values.length; at++) line += values[at]!(record, longest) + texts[at + 1]!
    return line
  }
}

function valueOf({ field, key }: Exclude<TemplatePart, string>, secrets: QuerySecrets): Value {
  switch (field) {
    case 'ts': {
      const time = new UtcTime()
      return ({ ts }) => time.text(ts)
    }
    case 'time_local': {
      const time = new LocalTime()
      return ({ ts, dur_ms }) => time.text(ts + dur_ms)
    }
    case 'request': return (record, longest) => requestLine(record, secrets, longest)
    case 'query': return ({ query }, longest) => textOrNone(shownQuery(query, secrets), longest)
    case 'referer': return ({ referer }, longest) => textOrNone(shownUrl(referer, secrets), longest)
    case 'status': return record => whole(record.status)
    case 'bytes_in': return record => whole(record.bytes_in)
    case 'bytes_out': return record => whole(record.bytes_out)
    case 'gen': return record => whole(record.gen)
    case 'attempts': return record => whole(record.attempts)
    case 'w': return record => whole(record.w)
    case 'dur_ms': return record => ms(record.dur_ms)
    case 'ttfb_ms': return record => timeOrNone(record.ttfb_ms)
    case 'up_connect_ms': return record => timeOrNone(record.up_connect_ms)
    case 'up_ttfb_ms': return record => timeOrNone(record.up_ttfb_ms)
    case 'up_status': return ({ attempts, up_status }) => attempts === 0 ? '-' : whole(up_status)
    case 'reused': return ({ attempts, reused }) => attempts === 0 ? '-' : String(reused)
    case 'app': return key === '' ? fieldsOfHooks : ({ app }, longest) => textOrNone(String(app?.get(key) ?? ''), longest)
    default: return (record, longest) => textOrNone(record[field], longest)
  }
}

function textOrNone(text: string, longest: number): string { return text === '' ? '-' : hexEscaped(text, longest) }
function timeOrNone(time: number | null): string { return time === null ? '-' : ms(time) }

function statusOf({ status, flag }: AccessRecord): string {
  return whole(status === 0 && flag === 'DC' ? CLIENT_LEFT : status).padStart(3, '0')
}

function sizeOrNone({ bytes_out }: AccessRecord): string { return bytes_out === 0 ? '-' : whole(bytes_out) }

/** The first line of a request as HTTP/1 has it; `-` for a head that was refused before it became one. */
function requestLine({ method, path, query, proto }: AccessRecord, secrets: QuerySecrets, longest: number): string {
  if (method === '') return '-'
  // nginx writes a number behind the point of versions that have none.
  const version = proto.length === 'HTTP/2'.length ? `${proto}.0` : proto
  const verb = hexEscaped(method, longest / 2), protocol = hexEscaped(version, MAX_PROTOCOL_LENGTH)
  // What is cut is the target: the rest is worth more than its end.
  const target = query === '' ? path : `${path}?${shownQuery(query, secrets)}`
  return `${verb} ${hexEscaped(target, longest - verb.length - protocol.length - 2)} ${protocol}`
}

/** `tenant=acme n=1` */
function fieldsOfHooks({ app }: AccessRecord, longest: number): string {
  if (app === null) return '-'
  return hexEscaped([...app].map(([name, value]) => `${name}=${value}`).join(' '), longest)
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const

/** `21/Nov/2026:09:05:03 +0000`: where this machine is. */
class LocalTime {
  #second = Number.NaN
  #text = ''

  text(atMs: number): string {
    const second = Math.floor(atMs / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#text = localTime(new Date(Number.isFinite(second) ? second * 1000 : 0))
    }
    return this.#text
  }
}

function localTime(at: Date): string {
  const two = (number: number): string => String(number).padStart(2, '0')
  const east = -at.getTimezoneOffset(), ahead = Math.abs(east)
  const zone = `${east < 0 ? '-' : '+'}${two(Math.floor(ahead / 60))}${two(ahead % 60)}`
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':')
  return `${two(at.getDate())}/${MONTHS[at.getMonth()]}/${at.getFullYear()}:${time} ${zone}`
}

/**
 * At most `longest` characters. Heads are read as Latin-1, so a character is a byte of the client's; a text with characters beyond
 * that is ours or a hook's, and its bytes are those of UTF-8.
 */
export function hexEscaped(text: string, longest: number): string {
  if (text.length > longest) return hexEscapedPart(text, longest)
  for (let at = 0; at < text.length; at++) if (isEscaped(text.charCodeAt(at))) return hexEscapedPart(text, longest)
  return text
}

function isEscaped(code: number): boolean { return code < 0x20 || code > 0x7E || code === 0x22 || code === 0x5C }

function hexEscapedPart(text: string, longest: number): string {
  // What is behind it would be cut: nothing becomes shorter.
  const kept = text.length > longest ? text.slice(0, longest) : text
  const bytes = /[^\0-\xFF]/.test(kept) ? Buffer.from(kept, 'utf8').toString('latin1') : kept
  let written = '', uncut = 0
  for (let at = 0; at < bytes.length && written.length <= longest; at++) {
    const code = bytes.charCodeAt(at)
    written += isEscaped(code) ? ESCAPES[code]! : bytes[at]!
    if (written.length <= longest - CUT_MARK.length) uncut = written.length
  }
  const isCut = written.length > longest || kept.length < text.length
  return isCut ? written.slice(0, uncut) + CUT_MARK : written
}

const ESCAPES: readonly string[] = Array.from({ length: 256 }, (_, code) => `\\x${code.toString(16).toUpperCase().padStart(2, '0')}`)
