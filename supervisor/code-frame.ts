/**
 * The lines of source around the place where an error came from, with that place marked:
 *
 *     app.ts:3:7
 *       2 | const server = new Server()
 *     > 3 | throw new Error('no')
 *         |       ^
 *
 * The place is the first one in the stack that is no part of Node.js, of a package or of Cirque. Node.js itself shows the line of what
 * it could not parse, at the head of the stack: then there is nothing to add.
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = new URL('../', import.meta.url)
const OWN_FOLDERS = ['src/', 'supervisor/', 'workers/'].map(name => fileURLToPath(new URL(name, ROOT)))
const LINES_BEFORE = 2
const LINES_AFTER = 1
/** A line of a bundle may be the whole program. */
const MAX_LINE_LENGTH = 160
const MAX_FILE_BYTES = 4 * 1024 * 1024

interface Place { readonly file: string; readonly line: number; readonly column: number }

/** @param readSource @throws when it cannot be read. @returns '' when the stack names no place that can be shown */
export function codeFrame(stack: string, readSource = readFile): string {
  const first = /^(?:file:\/\/)?\/.+:\d+$/m.exec(stack)
  const frames = stack.search(/^ {4}at /m)
  if (first !== null && (frames === -1 || first.index < frames)) return ''
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

function placeIn(stack: string): Place | null {
  for (const [, where] of stack.matchAll(/^ {4}at (.+)$/gm)) {
    const match = /(?:^|\()(?:async )?((?:file:\/\/)?\/.+?):(\d+):(\d+)\)?$/.exec(where!)
    if (match === null) continue
    const [, at, line, column] = match
    if (at!.includes('/node_modules/')) continue
    let file: string
    try { file = at!.startsWith('file:') ? fileURLToPath(at!) : at! } catch { continue }
    if (OWN_FOLDERS.some(folder => file.startsWith(folder))) continue
    return { file, line: Number(line), column: Number(column) }
  }
  return null
}

function readFile(file: string): string {
  if (fs.statSync(file).size > MAX_FILE_BYTES) throw new Error('it is too long to be shown')
  return fs.readFileSync(file, 'utf8')
}

/** One character for one, so that the mark stays below its place; tabs are as wide as one. */
function printable(line: string): string { return line.replaceAll(/[\0-\x1F\x7F-\x9F]/g, ' ') }
