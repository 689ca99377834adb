/**
 * An error of an application as a person at a terminal wants to see it: what is wrong, the lines of source around its place with
 * that place marked, and the stack.
 *
 *     no
 *     app.ts:3:7
 *       2 | const server = new Server()
 *     > 3 | throw new Error('no')
 *         |       ^
 *     Error: no
 *         at file:///srv/app.ts:3:7
 *
 * The place is where Node.js could not go on reading, which stands at the head of a stack; otherwise the first one that is no
 * part of Node.js, of a package or of Cirque.
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = new URL('../../', import.meta.url)
const OWN_FOLDERS = ['src/', 'supervisor/', 'workers/'].map(name => fileURLToPath(new URL(name, ROOT)))
const LINES_BEFORE = 2
const LINES_AFTER = 1
/** A line of a bundle may be the whole program. */
const MAX_LINE_LENGTH = 160
const MAX_FILE_BYTES = 4 * 1024 * 1024

/** A place in a source; line and column count from 1. */
export interface SourcePlace { readonly file: string; readonly line: number; readonly column: number }

/** @param stack '' when the application said nothing. @param readSource @throws when it cannot be read. */
export function errorText(message: string, stack: string, readSource = readFile): string {
  return [message, errorDetail(stack, readSource, message)].filter(part => part !== '').join('\n')
}

/**
 * What belongs below the message of an error: the lines of source and the stack, as far as there are any.
 * @param message said already: what it says of the error is not repeated
 */
export function errorDetail(stack: string, readSource = readFile, message = ''): string {
  const told = withoutMessage(stack.slice(headOf(stack).length), message).replaceAll(TELLS_NOTHING, '')
  // What called the application is no part of its error; in an error of ours it is all there is.
  const rest = (placeIn(stack) === null ? told : told.replaceAll(FRAME, frame => isOwn(frame) ? '' : frame)).trimEnd()
  return [codeFrame(stack, readSource), rest].filter(part => part !== '').join('\n')
}

/** Lines of a stack from which nobody who writes an application learns anything: Node.js itself, and what loads an application. */
const TELLS_NOTHING = new RegExp([
  String.raw`^ {4}at .*(?:\bnode:internal\/|\/workers\/(?:describe|imported-files|run-worker|worker-life)\.[jt]s:`,
  String.raw`|\/src\/ipc\/own-imports\.[jt]s:).*(?:\n|$)`,
].join(''), 'gm')

const FRAME = /^ {4}at .*(?:\n|$)/gm

/** A line of a stack that is in Cirque. */
function isOwn(frame: string): boolean { return OWN_FOLDERS.some(folder => frame.includes(folder)) }

/** @returns '' when the stack names no place that can be shown */
export function codeFrame(stack: string, readSource = readFile): string {
  const place = placeIn(stack)
  if (place === null) return ''
  const { file, line, column } = place
  let source: string[]
  try { source = readSource(file).split('\n') } catch { return '' }
  if (line > source.length) return ''
  const from = Math.max(1, line - LINES_BEFORE), to = Math.min(source.length, line + LINES_AFTER)
  const width = String(to).length
  const out = [`${path.relative('', file)}:${line}:${column}`]
  for (let number = from; number <= to; number++) {
    const text = printable(source[number - 1]!.slice(0, MAX_LINE_LENGTH))
    if (number === to && number !== line && text === '') break
    out.push(`${number === line ? '>' : ' '} ${String(number).padStart(width)} | ${text}`.trimEnd())
    if (number === line && column <= MAX_LINE_LENGTH) out.push(`  ${' '.repeat(width)} | ${' '.repeat(column - 1)}^`)
  }
  return out.join('\n')
}

/** @returns null when the stack names none of the application's own. */
export function placeIn(stack: string): SourcePlace | null {
  const head = headOf(stack)
  if (head !== '') {
    const [where, ...lines] = head.trimEnd().split('\n')
    const [, at, line] = HEAD_PLACE.exec(where!)!
    const mark = lines.find(text => MARK.test(text)) ?? ''
    const file = fileOf(at!)
    return file === null ? null : { file, line: Number(line), column: Math.max(0, mark.indexOf('^')) + 1 }
  }
  for (const [, where] of stack.matchAll(/^ {4}at (.+)$/gm)) {
    const match = /(?:^|\()(?:async )?((?:file:\/\/)?\/.+?):(\d+):(\d+)\)?$/.exec(where!)
    if (match === null) continue
    const [, at, line, column] = match
    if (at!.includes('/node_modules/')) continue
    const file = fileOf(at!)
    if (file === null || OWN_FOLDERS.some(folder => file.startsWith(folder))) continue
    return { file, line: Number(line), column: Number(column) }
  }
  return null
}

const HEAD_PLACE = /^((?:file:\/\/)?\/.+):(\d+)$/
/** The line below the source that marks its fault. */
const MARK = /^\s*\^+\s*$/

/**
 * What Node.js puts before the message of what it could not parse: the place, lines of source, and a mark below one of them. Often
 * a blank line ends it, which alone it is where the file ends too early. '' when there is none.
 */
function headOf(stack: string): string {
  const lines = stack.split('\n')
  if (!HEAD_PLACE.test(lines[0]!)) return ''
  const end = lines.findIndex((line, index) => index > 1 && (MARK.test(line) || line === ''))
  const message = lines.findIndex((line, index) => index > end && /^\w*Error\b/.test(line))
  return end === -1 || message === -1 ? '' : lines.slice(0, message).map(line => `${line}\n`).join('')
}

/** A stack repeats the message that it belongs to, which may be many lines. */
function withoutMessage(stack: string, message: string): string {
  const frames = stack.search(/^ {4}at /m)
  const head = frames === -1 ? stack : stack.slice(0, frames)
  const said = head.slice(head.indexOf(': ') + 2).trimEnd()
  return said !== '' && message.includes(said) ? stack.slice(head.length) : stack
}

function fileOf(at: string): string | null {
  try { return at.startsWith('file:') ? fileURLToPath(at) : at } catch { return null }
}

function readFile(file: string): string {
  if (fs.statSync(file).size > MAX_FILE_BYTES) throw new Error('it is too long to be shown')
  return fs.readFileSync(file, 'utf8')
}

/** One character for one, so that the mark stays below its place; tabs are as wide as one. */
function printable(line: string): string { return line.replaceAll(/[\0-\x1F\x7F-\x9F]/g, ' ') }
