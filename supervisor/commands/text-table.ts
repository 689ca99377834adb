/**
 * Lines of styled text that fit a terminal: nothing wraps, and columns for which there is no room are left out whole, the least
 * important first, so that no figure is ever shown in part. Only texts of unknown length are cut, which an ellipsis says. Pure.
 */
import { shownText } from './shown-text.ts'

export type Style = 'plain' | 'bold' | 'quiet' | 'good' | 'warn' | 'bad'

export interface Piece { readonly text: string; readonly style: Style }
export type Line = readonly Piece[]

export interface Cell { readonly text: string; readonly style: Style }

export interface Column {
  readonly head: string
  /** Columns of a greater one go first when there is no room; 0: it never goes. */
  readonly spared: number
  /** It begins at the left, is made so narrow before others are left out, and gets the room that they leave. Left out: a figure. */
  readonly text?: number
}

/** Between two columns. */
const GAP = 2

export function cell(text: string, style: Style = 'plain'): Cell { return { text, style } }

/** Nothing is there, or nothing happened: it does not catch the eye. */
export function figure(text: string, style: Style = 'plain'): Cell {
  return { text, style: text === '-' || /^0( \w+|%)?$/.test(text) ? 'quiet' : style }
}

export interface DrawnTable { readonly head: Line; readonly rows: readonly Line[] }

/** @param rows a cell for each column. Texts may hold anything. */
export function drawTable(columns: readonly Column[], rows: readonly (readonly Cell[])[], width: number): DrawnTable {
  const shown = rows.map(row => row.map(({ text, style }) => ({ text: shownText(text), style })))
  const natural = columns.map(({ head }, index) => Math.max(head.length, ...shown.map(row => row[index]!.text.length)))
  const least = columns.map(({ text = Infinity }, index) => Math.min(natural[index]!, text))
  let left = columns.map((_, index) => index)
  const needed = (): number => left.reduce((sum, index) => sum + least[index]! + GAP, -GAP)
  while (needed() > width) {
    const spared = left.filter(index => columns[index]!.spared > 0)
    const going = spared.toSorted((one, other) => columns[other]!.spared - columns[one]!.spared)[0]
    if (going === undefined) break
    left = left.filter(index => index !== going)
  }
  const widths = widened(left, natural, least, width)
  const draw = (cells: readonly Cell[]): Line => left.flatMap((index, at) => {
    const { text, style } = cells[index]!, room = widths.get(index)!
    const fitting = shownText(text, room)
    const padded = columns[index]!.text !== undefined ? fitting.padEnd(room) : fitting.padStart(room)
    return [...at === 0 ? [] : [cell(' '.repeat(GAP))], cell(padded, style)]
  })
  return { head: draw(columns.map(({ head }) => cell(head, 'bold'))), rows: shown.map(draw) }
}

/** What is left over goes to the columns of text that want it, in their order. */
function widened(left: readonly number[], natural: readonly number[], least: readonly number[], width: number): Map<number, number> {
  const widths = new Map(left.map(index => [index, least[index]!]))
  let spare = width - left.reduce((sum, index) => sum + least[index]! + GAP, -GAP)
  for (const index of left) {
    const more = Math.max(0, Math.min(spare, natural[index]! - least[index]!))
    widths.set(index, widths.get(index)! + more)
    spare -= more
  }
  return widths
}

/** Pieces that belong together stand in one line as long as there is room; those that do not fit are left out from the end. */
export function fitting(pieces: readonly (readonly Piece[])[], width: number): Line {
  const line: Piece[] = []
  let used = 0
  for (const group of pieces) {
    const length = lengthOf(group)
    const gap = line.length === 0 ? 0 : GAP
    if (used + gap + length > width) break
    if (gap > 0) line.push(cell(' '.repeat(gap)))
    line.push(...group)
    used += gap + length
  }
  return line
}

/** Its beginning, for terminals that are smaller than any table. */
export function clipped(line: Line, width: number): Line {
  const kept: Piece[] = []
  let left = width
  for (const { text, style } of line) {
    if (left <= 0) break
    kept.push({ text: text.slice(0, left), style })
    left -= text.length
  }
  return kept
}

export function lengthOf(line: Line): number { return line.reduce((sum, { text }) => sum + text.length, 0) }

/** A sentence in lines that end between words. A word that is longer than a line is cut. @param lines at most; the last one says so */
export function wrapped(text: string, width: number, lines: number): string[] {
  const found: string[] = []
  let line = ''
  const words = shownText(text).split(' ').filter(word => word !== '')
  for (const word of words) {
    const longer = line === '' ? shownText(word, width) : `${line} ${word}`
    if (longer.length <= width) { line = longer; continue }
    if (found.length + 1 === lines) return [...found, endingEarly(line, width)]
    found.push(line)
    line = shownText(word, width)
  }
  return line === '' ? found : [...found, line]
}

/** Whole words, and that there would be more. */
function endingEarly(line: string, width: number): string {
  if (line.length + 4 <= width) return `${line} ...`
  const end = line.lastIndexOf(' ', width - 4)
  return end <= 0 ? shownText(`${line}....`, width) : `${line.slice(0, end)} ...`
}

const ESCAPES: Readonly<Record<Style, string>> = { plain: '', bold: '1', quiet: '2', good: '32', warn: '33', bad: '31' }

/** What is written to a terminal. */
export function writtenLine(line: Line, colours: boolean): string {
  const text = (piece: Piece): string => piece.style === 'plain' ? piece.text : `\u001B[${ESCAPES[piece.style]}m${piece.text}\u001B[m`
  return colours ? line.map(text).join('') : line.map(piece => piece.text).join('').trimEnd()
}
