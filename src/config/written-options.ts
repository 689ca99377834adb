/**
 * Options as an operator writes them: a key without its unit (`hardDrain` for `hardDrainMs`), a value with it (`300s`).
 * Follows from the tables of descriptors alone, so that every table can be written in a file; what only code can give is
 * left out. How written values are checked is in option-schema.ts.
 */
import type { AnyOptionTable, Option } from '../primitives/option-table.ts'
import { formatDuration, formatSize } from './units.ts'

/** `hardDrainMs` -> `hardDrain`, `backoffMsMax` -> `backoffMax`, `minBodyBytesPerSecond` -> `minBodyPerSecond`. */
export function writtenKey(name: string, option: Option): string {
  switch (option.kind) {
    case 'duration': return name.replace(/Ms(?=Max$|$)/, '')
    case 'size': return name.replace(/Bytes(?=Max$|$)/, '')
    case 'rate': return name.replace(/Bytes(?=PerSecond$)/, '')
    default: return name
  }
}

/** A value as one would write it in the file. */
export function writtenValue(option: Option, value: unknown): string {
  if (typeof value === 'number' && option.kind === 'duration') return formatDuration(value)
  if (typeof value === 'number' && (option.kind === 'size' || option.kind === 'rate')) return formatSize(value)
  if (Array.isArray(value)) return `[${value.join(', ')}]`
  return value === '' ? '\'\'' : String(value)
}

/** A value that one could write, for a person who does not know how: the default, unless that is 0. */
export function exampleOf(option: Option): string {
  if (typeof option.default === 'number' && option.default !== 0) return writtenValue(option, option.default)
  return option.kind === 'duration' ? '30s' : '64KiB'
}

/** What can be written of a table: all but what only code can give. */
export function writable(table: AnyOptionTable): AnyOptionTable {
  const kept: Record<string, Option> = {}
  for (const [name, option] of Object.entries(table)) if (option.kind !== 'code') kept[name] = option
  return kept
}

/** The options of a table that are no tables themselves. */
export function leavesOf(table: AnyOptionTable): AnyOptionTable {
  const kept: Record<string, Option> = {}
  for (const [name, option] of Object.entries(writable(table))) if (option.table === null) kept[name] = option
  return kept
}

/** A checked section by the names in code; what it does not say is left out. */
export function readWritten(table: AnyOptionTable, section: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const read: Record<string, unknown> = {}
  for (const [name, option] of Object.entries(table)) {
    const value = section[writtenKey(name, option)]
    if (value === undefined) continue
    read[name] = option.table === null ? value : readWritten(writable(option.table), value as Readonly<Record<string, unknown>>)
  }
  return read
}

/**
 * Which values may be written, for the documentation.
 * @param nameOf the key of another option of the same table
 */
export function allowedValues(option: Option, nameOf: (name: string) => string): string {
  const words = option.words.filter(word => word !== '').map(word => `\`${word}\``)
  switch (option.kind) {
    case 'flag': return '`true`, `false`'
    case 'choice': return words.join(', ')
    case 'text': case 'path': case 'list': return option.remedy
    case 'code': case 'options': return ''
    default: return [...words, allowedNumbers(option, nameOf)].filter(part => part !== '').join(', or ')
  }
}

function allowedNumbers(option: Option, nameOf: (name: string) => string): string {
  const { kind, zero, min, max, atLeast } = option
  const written = (value: number): string => `\`${value === 0 ? '0' : writtenValue(option, value)}\``
  if (kind === 'number' || (kind === 'count' && max < UNLIMITED)) return `${written(zero === '' ? min : 0)} to ${written(max)}`
  if (atLeast !== '') return `\`${nameOf(atLeast)}\` or more`
  if (zero !== '') return min > 1 ? `\`0\`, or ${written(min)} or more` : '`0` or more'
  // Where parts will do there is something between 0 and 1.
  return min === 1 && kind === 'duration' ? 'more than `0`' : `${written(min)} or more`
}

/** A count that may be this large has no limit that a value would meet. */
const UNLIMITED = 2_147_483_647
