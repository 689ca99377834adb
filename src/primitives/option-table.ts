/**
 * Options described once. Beside each options interface stands a table with one descriptor a field: its kind, range,
 * default, and what 0 means. Everything else that has to know an option reads the table:
 *
 *   defaultsOf       the constant with every default, which a script compares with the `@default` of the doc comments
 *   resolveOptions   the constructor's check: every mistake at once, each with its path, the value and what would do
 *   src/config       names, values and checks of the written form (`hardDrain: 300s`), and the tables of the documentation
 *
 *   export const POOL_OPTIONS = { maxIdlePerKey: count(10_000, { zero: 'turns reuse off' }) } satisfies OptionTable<PoolOptions>
 *   export const POOL_DEFAULTS = defaultsOf<PoolOptions>(POOL_OPTIONS)
 *
 * `satisfies` holds table and interface together: a field without a descriptor, a descriptor without a field and a
 * default of another type do not compile. Tables are plain data and may be spread into one another, so that what is made
 * of several parts (an HTTP listener, a gateway's configuration) names no option again.
 */
import { nearestWord } from './nearest-word.ts'

/**
 * What a value is, or what it is when it is written in a file. `code`: something that only code can give, such as a
 * function or an object with methods; every other kind can be written. `options`: a table within the table. `list`: texts.
 */
export type OptionKind = NumberKindName | 'flag' | 'choice' | 'text' | 'path' | 'list' | 'code' | 'options'
export type NumberKindName = 'duration' | 'size' | 'rate' | 'count' | 'number'

export interface Option<T = unknown> {
  readonly kind: OptionKind
  readonly default: T
  /** Least and greatest number; 0 is allowed besides when `zero` says what it means. */
  readonly min: number
  readonly max: number
  /** What 0 does, to be read behind "0": `turns it off`. '': 0 is a number like others, or none that would do. */
  readonly zero: string
  /** Words that are values: all there are of a choice; `auto` beside a number; `stdout` beside a path. */
  readonly words: readonly string[]
  /** Of `path`: a value that begins so is the address of something else, such as `syslog:udp:10.0.0.1:514`; '': none does. */
  readonly prefix: string
  /** The option of the same table that this one must not be less than; '': there is none. */
  readonly atLeast: string
  /** What a value other than the default is waiting for, such as `TLS to the peer`: it is refused until then. '': nothing. */
  readonly awaits: string
  /** Whether it has no default and must be given. */
  readonly needed: boolean
  /** Whether no message may show its value. */
  readonly secret: boolean
  /** Of `options`: the table within. */
  readonly table: AnyOptionTable | null
  /** What would do, as the documentation has it: `an IP address`. */
  readonly remedy: string
  /** What would do instead of `value`, to be read behind "use "; '' when the value will do. */
  readonly check: (value: unknown) => string
}

export type AnyOptionTable = Readonly<Record<string, Option>>

/** A descriptor for each field of an options interface. */
export type OptionTable<O> = { readonly [K in keyof Required<O>]: Option<Required<O>[K]> }

/** One option that would not do. */
export interface OptionMistake {
  /** Dotted, by the names in code: `supervisor.drain.hardDrainMs`. */
  readonly path: string
  /** What was found and what would do, as one clause: `is -5; use ...`. */
  readonly text: string
}

/** Options that cannot be used. The message has a line for each of them: where it is, what it is, what would do. */
export class OptionError extends TypeError {
  /** All that was wrong. */
  readonly mistakes: readonly OptionMistake[]

  /** The message has a line for each. */
  constructor(mistakes: readonly OptionMistake[]) {
    super(mistakes.map(({ path, text }) => `${path} ${text}`).join('\n'))
    this.name = 'OptionError'
    this.mistakes = mistakes
  }

  /** Of one value. @param remedy what would do: `use ...` */
  static of(path: string, value: unknown, remedy: string): OptionError {
    return new OptionError([{ path, text: `is ${showValue(value)}; ${remedy}` }])
  }
}

// ---- descriptors

/** 24 days: the longest time in whole days that a timer of Node.js can wait. */
export const MAX_DURATION_MS = 2_073_600_000
/** What fits into 32 bits with a sign. */
export const MAX_COUNT = 2_147_483_647

/** What may be said of a number besides its default. */
export interface NumberLimits {
  /** @default 1 */
  readonly min?: number
  /** @default the largest number of that kind */
  readonly max?: number
  /** What 0 does; left out: 0 is refused, unless `min` is 0. @default '' */
  readonly zero?: string
  /** Name of the option that this one must not be less than. @default '' */
  readonly atLeast?: string
}

type Check = (value: unknown) => string

/** What a descriptor says unless its kind says more. */
const PLAIN = {
  min: 0, max: 0, zero: '', words: [], prefix: '', atLeast: '', awaits: '', needed: false, secret: false, table: null,
} as const

function describe<T>(kind: OptionKind, value: T, remedy: string, check: Check, more: Partial<Option<T>> = {}): Option<T> {
  return { ...PLAIN, kind, default: value, remedy, check, ...more }
}

interface NumberKind {
  readonly noun: string
  readonly whole: boolean
  readonly max: number
}

const NUMBER_KINDS = {
  // A time that is left over is rarely a whole number: fractions are as good.
  duration: { noun: ' of milliseconds', whole: false, max: MAX_DURATION_MS },
  size: { noun: ' of bytes', whole: true, max: Number.MAX_SAFE_INTEGER },
  rate: { noun: ' of bytes a second', whole: true, max: Number.MAX_SAFE_INTEGER },
  count: { noun: '', whole: true, max: MAX_COUNT },
  number: { noun: '', whole: false, max: Number.MAX_SAFE_INTEGER },
} as const satisfies Readonly<Record<NumberKindName, NumberKind>>

function numeric<T>(kind: NumberKindName, value: T, limits: NumberLimits, words: readonly string[] = []): Option<T> {
  const { noun, whole, max: greatest } = NUMBER_KINDS[kind]
  const { min = 1, max = greatest, zero = '', atLeast = '' } = limits
  const number = `a ${whole ? 'whole ' : ''}number${noun}`
  const positive = `a positive ${whole ? 'whole ' : ''}number${noun}`
  const meaning = zero === '' ? '0' : `0 (${zero})`
  const isLimited = max !== greatest
  const unlimited = min > 1 ? `${number} of at least ${min}` : positive
  const range = isLimited ? `${number} from ${min === 0 ? meaning : min} to ${max}` : unlimited
  const saysZero = zero !== '' ? min !== 0 || !isLimited : min === 0 && !isLimited
  const remedy = [...words.map(word => `'${word}'`), ...saysZero ? [meaning] : [], range].join(' or ')
  // Where parts will do there is something between 0 and 1.
  const least = whole || min !== 1 ? min : Number.MIN_VALUE
  const check = (given: unknown): string => {
    if (typeof given !== 'number') return typeof given === 'string' && words.includes(given) ? '' : remedy
    if (given > max && max === greatest && given !== Infinity) return `at most ${max}`
    const fits = given >= least && given <= max && (!whole || Number.isInteger(given))
    return fits || (given === 0 && zero !== '') ? '' : remedy
  }
  return describe(kind, value, remedy, check, { min, max, zero, atLeast, words })
}

/** A time, in milliseconds. The field's name ends with `Ms`. */
export function duration(value: number, limits: NumberLimits = {}): Option<number> { return numeric('duration', value, limits) }

/** An amount of memory or of data, in bytes. The field's name ends with `Bytes`. */
export function size(value: number, limits: NumberLimits = {}): Option<number> { return numeric('size', value, limits) }

/** A speed, in bytes a second. The field's name ends with `BytesPerSecond`. */
export function rate(value: number, limits: NumberLimits = {}): Option<number> { return numeric('rate', value, limits) }

/** How many of something. */
export function count(value: number, limits: NumberLimits = {}): Option<number> { return numeric('count', value, limits) }

/** How many of something, or a word that leaves it to the program. */
export function countOr<W extends string>(word: W, limits: NumberLimits = {}): Option<number | W> {
  return numeric<number | W>('count', word, limits, [word])
}

/** A number with a fraction, such as a share. */
export function number(value: number, min: number, max: number, zero = ''): Option<number> {
  return numeric('number', value, { min, max, zero })
}

export function flag(value: boolean): Option<boolean> {
  return describe('flag', value, 'true or false', given => typeof given === 'boolean' ? '' : 'true or false')
}

/** One of a few words or numbers. */
export function choice<const W extends string | number>(value: NoInfer<W>, all: readonly W[]): Option<W> {
  const shown = all.map(word => typeof word === 'string' ? `'${word}'` : String(word))
  const remedy = `${shown.slice(0, -1).join(', ')} or ${shown.at(-1)}`
  const check = (given: unknown): string => (all as readonly unknown[]).includes(given) ? '' : remedy
  return describe<W>('choice', value, remedy, check, { words: all.map(String) })
}

const MAX_TEXT_LENGTH = 4096

/**
 * One line of text.
 * @param what what would do, such as `a host name`
 * @param accepts whether a text is one of those, or what would do in its place; left out: any is
 */
export function text(value: string, what: string, accepts: (text: string) => boolean | string = () => true): Option<string> {
  return describe('text', value, what, given => checkText(given, what, accepts))
}

/** Addresses that a path option takes as well. */
export interface OtherAddresses {
  /** What each of them begins with, such as `syslog:`. */
  readonly prefix: string
  /** What would do in the place of one that is wrong; '' when it will do. */
  readonly remedyFor: (address: string) => string
}

/** Where a file or folder is. `words` are no paths, such as `stdout`. @param what what would do */
export function path(value: string, what: string, words: readonly string[] = [], other: OtherAddresses | null = null): Option<string> {
  const accepts = (given: string): boolean | string => {
    if (other !== null && given.startsWith(other.prefix)) return other.remedyFor(given) || true
    return words.includes(given) || given !== ''
  }
  return describe('path', value, what, given => checkText(given, what, accepts), { words, prefix: other?.prefix ?? '' })
}

function checkText(given: unknown, what: string, accepts: (text: string) => boolean | string): string {
  if (typeof given !== 'string') return what
  if (given.length > MAX_TEXT_LENGTH) return `${what}, of at most ${MAX_TEXT_LENGTH} characters`
  if (hasControls(given)) return `${what}, without control characters`
  const verdict = accepts(given)
  return verdict === true ? '' : verdict === false ? what : verdict
}

function hasControls(line: string): boolean {
  for (let index = 0; index < line.length; index++) {
    const code = line.charCodeAt(index)
    if (code < 0x20 || code === 0x7f) return true
  }
  return false
}

/**
 * What only code can give.
 * @param what what would do, such as `a function or null`
 * @param accepts whether a value is one of those; a text says what would do in place of `what`
 */
export function code<T>(value: T, what: string, accepts: (value: unknown) => boolean | string): Option<T> {
  return describe('code', value, what, given => {
    const verdict = accepts(given)
    return verdict === true ? '' : verdict === false ? what : verdict
  })
}

/** The same option for a file as well, where it is a line of text. */
export function orText<T>(option: Option<T>): Option<T> { return { ...option, kind: 'text' } }

/** The same option for a file as well, where it is one of `words`. */
export function orChoice<T>(words: readonly string[], option: Option<T>): Option<T> { return { ...option, kind: 'choice', words } }

/** Texts of one sort. @param what one of them is, such as `IP addresses` */
export function list(value: readonly string[], what: string, accepts: (item: string) => boolean): Option<readonly string[]> {
  const remedy = `a list of ${what}`
  const check = (given: unknown): string => {
    if (!Array.isArray(given)) return remedy
    const wrong: unknown = given.find(item => typeof item !== 'string' || !accepts(item))
    return wrong === undefined ? '' : `${what} only, not ${showValue(wrong)}`
  }
  return describe<readonly string[]>('list', Object.freeze([...value]), remedy, check)
}

/** A callback. */
export function callback<T>(value: T & (((...args: never[]) => unknown) | null)): Option<T> {
  const what = value === null ? 'a function or null' : 'a function'
  return code<T>(value, what, given => typeof given === 'function' || (given === null && value === null))
}

/** An object of ours or one like it; null leaves the choice to the program. @param what what it is, such as `a Ticker` */
export function object<T>(what: string): Option<T | null> {
  return code<T | null>(null, `${what} or null`, given => typeof given === 'object')
}

/** A table within the table. A default of null: the whole part may be missing. */
export function options<O, D extends Readonly<Required<O>> | null = Readonly<Required<O>>>(table: OptionTable<O>, value: D): Option<O | D> {
  const what = value === null ? 'an object of options or null' : 'an object of options'
  const check = (given: unknown): string => isPlainObject(given) || (given === null && value === null) ? '' : what
  return describe<O | D>('options', value, what, check, { table: table as AnyOptionTable })
}

/** The same option without a default: it must be given. */
export function needed<T>(option: Option<T>): Option<T> { return { ...option, needed: true } }

/** The same option for what only those may know who set it. */
export function secret<T>(option: Option<T>): Option<T> { return { ...option, secret: true } }

/** The same option for what is not there yet: a value other than the default is refused. @param feature such as `TLS to the peer` */
export function awaiting<T>(feature: string, option: Option<T>): Option<T> { return { ...option, awaits: feature } }

function isPlainObject(value: unknown): value is object { return typeof value === 'object' && value !== null && !Array.isArray(value) }

// ---- what follows from a table

/** Every default, frozen. Options that must be given are left out of it. */
export function defaultsOf<O>(table: OptionTable<O>): Readonly<Required<O>> {
  const defaults: Record<string, unknown> = {}
  for (const [name, option] of Object.entries<Option>(table)) if (!option.needed) defaults[name] = option.default
  return Object.freeze(defaults) as Readonly<Required<O>>
}

/** The part of complete options that `table` describes: of a flat object made of several parts, one of them. */
export function partOf<O>(table: OptionTable<O>, complete: Readonly<Required<O>>): Readonly<Required<O>> {
  const part: Record<string, unknown> = {}
  for (const name in table) part[name] = complete[name]
  return Object.freeze(part) as Readonly<Required<O>>
}

/**
 * Completes `given` with `base` and checks it, tables within it included. The result is frozen.
 * @param at where the options stand, for messages: `pool`
 * @throws OptionError with every mistake there is
 */
export function resolveOptions<O extends object>(
  at: string, table: OptionTable<O>, given: O | undefined, base: Readonly<Required<O>> = defaultsOf<O>(table),
): Readonly<Required<O>> {
  const mistakes: OptionMistake[] = []
  const resolved = resolveInto(at, table, given, base as Readonly<Record<string, unknown>>, mistakes)
  if (mistakes.length > 0) throw new OptionError(mistakes)
  return resolved as Readonly<Required<O>>
}

function resolveInto(
  at: string, table: AnyOptionTable, given: unknown, base: Readonly<Record<string, unknown>>, mistakes: OptionMistake[],
): Readonly<Record<string, unknown>> {
  const resolved: Record<string, unknown> = { ...base }
  if (given !== undefined) checkInto(at, table, given, resolved, mistakes)
  for (const name in table) {
    const option = table[name]!
    if (option.needed && resolved[name] === undefined && !isAmong(mistakes, `${at}.${name}`)) {
      mistakes.push({ path: `${at}.${name}`, text: `is missing; use ${option.remedy}` })
    }
    if (option.atLeast !== '') checkOrder(at, name, option.atLeast, resolved, mistakes)
  }
  return Object.freeze(resolved)
}

/** Checks `given` without completing it. @param mistakes every mistake is added to it */
export function checkOptions(at: string, table: AnyOptionTable, given: unknown, mistakes: OptionMistake[]): void {
  resolveInto(at, table, given, {}, mistakes)
}

/**
 * Checks what `given` says and puts it into `resolved`. What is undefined counts as left out, since callers in plain
 * JavaScript write it so.
 * @param mistakes every mistake is added to it
 */
function checkInto(at: string, table: AnyOptionTable, given: unknown, resolved: Record<string, unknown>, mistakes: OptionMistake[]): void {
  if (!isPlainObject(given)) {
    mistakes.push({ path: at, text: `is ${showValue(given)}; use an object of options` })
    return
  }
  for (const name in given) {
    const value = (given as Readonly<Record<string, unknown>>)[name]
    if (value === undefined && Object.hasOwn(table, name)) continue
    const option = Object.hasOwn(table, name) ? table[name]! : null
    const fault = option === null ? unknownOption(name, table) : faultOf(option, value)
    if (option === null || fault !== '') mistakes.push({ path: `${at}.${name}`, text: fault })
    else if (option.kind === 'options' && value !== null) {
      const base = (resolved[name] ?? defaultsOf(option.table!)) as Readonly<Record<string, unknown>>
      resolved[name] = resolveInto(`${at}.${name}`, option.table!, value, base, mistakes)
    } else resolved[name] = value
  }
}

/** What is wrong with a value and what would do, as a clause; '' when it will do. */
export function faultOf(option: Option, value: unknown): string {
  const remedy = option.check(value)
  if (remedy !== '') return `is ${option.secret ? NOT_SHOWN : showValue(value)}; use ${remedy}`
  if (option.awaits === '' || value === option.default) return ''
  return `is ${showValue(value)}, but ${option.awaits} is not implemented yet; leave it out`
}

/** What is wrong with a name that is in no table, as a clause. */
export function unknownOption(name: string, table: AnyOptionTable): string {
  const within = Object.keys(table).find(key => Object.hasOwn(table[key]!.table ?? {}, name))
  if (within !== undefined) return `is not an option here; give it to ${within}`
  const near = nearestWord(name, Object.keys(table))
  return `is not an option; ${near === null ? 'leave it out' : `use ${near}`}`
}

/** Two options of which one must not be less than the other. One that is no number was refused already. */
function checkOrder(at: string, name: string, least: string, resolved: Readonly<Record<string, unknown>>, mistakes: OptionMistake[]): void {
  const [value, floor] = [resolved[name], resolved[least]]
  if (typeof value !== 'number' || typeof floor !== 'number' || value >= floor) return
  if (isAmong(mistakes, `${at}.${name}`) || isAmong(mistakes, `${at}.${least}`)) return
  mistakes.push({ path: `${at}.${name}`, text: `is ${value}; use at least ${at}.${least}, which is ${floor}` })
}

function isAmong(mistakes: readonly OptionMistake[], at: string): boolean { return mistakes.some(({ path: wrong }) => wrong === at) }

const MAX_SHOWN_LENGTH = 120
/** What a message has in the place of a secret. */
export const NOT_SHOWN = 'a value that is not shown'

/** A value for an error message: never secret, never long. */
export function showValue(value: unknown): string {
  switch (typeof value) {
    case 'string': return value.length > MAX_SHOWN_LENGTH ? `a string of ${value.length} characters` : JSON.stringify(value)
    case 'number': case 'boolean': case 'bigint': case 'undefined': return String(value)
    default:
  }
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list that would not do' : `a value of type ${typeof value}`
}
