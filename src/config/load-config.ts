/**
 * One resolved, frozen configuration out of a file, the environment and the command line; flags count over the
 * environment, the environment over the file. Every mistake in any of them is reported at once, also in a value that
 * another source would have replaced: it is wrong wherever it stands.
 *
 * The file is bytes from outside: its size, its aliases and its depth are limited before anything is built from it.
 */
import { readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { Alias, isCollection, isMap, isScalar, LineCounter, parseDocument, visit, type Document, type Node } from 'yaml'
import type { z } from 'zod'
import { tlsFilesFrom, type TlsListenerOptions } from '../listener/tls-listener-options.ts'
import { nearestWord } from '../primitives/nearest-word.ts'
import { NOT_SHOWN, OptionError, type AnyOptionTable } from '../primitives/option-table.ts'
import { COMMON_KEYS, readVariable, variableName } from './environment.ts'
import type { LimitOptions } from './limit-options.ts'
import { LOG_DEFAULTS, type ResolvedLogOptions } from './log-options.ts'
import { isDsn, SENTRY_DEFAULTS, SENTRY_OFF, SENTRY_OPTIONS, SENTRY_VARIABLES, type ResolvedSentryOptions } from './sentry-options.ts'
import {
  CONFIG_FILE, CONFIG_KEYS, ConfigError, HTTP2_SECTION, LISTENER_SECTION, SECTIONS, SOURCE_SCHEMA, TLS_SECTION,
  type ConfigKey, type ConfigMistake, type ServerConfig,
} from './server-config.ts'
import { resolveSupervisorOptions, type SupervisorOptions } from './supervisor-options.ts'
import { TLS_DEFAULTS, type ResolvedTlsOptions } from './tls-options.ts'
import type { TracesOptions } from './traces-options.ts'
import type { ListenerOverrides } from './worker-settings.ts'
import { exampleOf, readWritten, writtenKey, writtenValue } from './written-options.ts'

export const MAX_CONFIG_BYTES = 4_194_304
export const MAX_CONFIG_ALIASES = 100
/** Sections within sections; ours need four. */
const MAX_CONFIG_DEPTH = 16
/** A file full of mistakes says nothing more after this many. */
const MAX_MISTAKES = 100

export interface ConfigSources {
  /** Path of the file; '' reads CONFIG_FILE in `folder` when it is there. @default '' */
  file?: string
  /** What relative paths in the environment, in flags and of `file` are relative to. @default process.cwd() */
  folder?: string
  /**
   * Where the file is read, given its absolute path. Its relative paths stay relative to where it is named.
   * @default where it is named
   */
  readAt?: (file: string) => string
  /** @default process.env */
  env?: Readonly<Record<string, string | undefined>>
  /**
   * Values of flags by their key in the file, as text or as they are: `{ 'supervisor.workers': '4' }`. Undefined ones
   * are left out. @default {}
   */
  flags?: Readonly<Record<string, string | number | boolean | undefined>>
}

/** What one source says, in the written form, and where each key of it stands. */
interface Layer {
  readonly tree: unknown
  readonly folder: string
  where(keys: readonly PropertyKey[], what: 'key' | 'value'): string
}

/** The name of a key on the command line: `supervisor.stateDir` -> `--state-dir`, `log.access` -> `--log-access`. */
export function flagName(key: string): string {
  const bare = key.startsWith('supervisor.') ? key.slice('supervisor.'.length) : key
  return `--${bare.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`).replaceAll('.', '-')}`
}

/** @throws ConfigError with every mistake there is. */
export function loadConfig(sources: ConfigSources = {}): ServerConfig {
  const folder = sources.folder ?? process.cwd()
  const mistakes: ConfigMistake[] = []
  const file = findFile(sources.file ?? '', folder)
  const sections: Record<string, Record<string, unknown>> = Object.fromEntries(SECTIONS.map(({ name }) => [name, {}]))
  const listeners = new Map<string, ListenerOverrides>(), listenersAt = new Map<string, string>()
  /** The layer that said each key last, for what only shows when all are put together. */
  const saidBy = new Map<string, Layer>()
  const take = (layer: Layer | null): void => {
    if (layer !== null) takeLayer(layer, sections, { listeners, listenersAt }, saidBy, mistakes)
  }
  const usual = usualVariables(sources.env ?? process.env, folder)
  take(usual)
  if (file !== '') take(fileLayer(file, folder, sources.readAt ?? (named => named), mistakes))
  take(environmentLayer(sources.env ?? process.env, folder, mistakes))
  take(flagLayer(sources.flags ?? {}, folder, mistakes))
  const sentry = resolveSentry({ ...SENTRY_DEFAULTS, ...sections['sentry'] }, usual, saidBy, mistakes)
  if (mistakes.length > 0) throw new ConfigError(limited(mistakes))

  const log: ResolvedLogOptions = { ...LOG_DEFAULTS, ...sections['log'] }
  const traces: TracesOptions = { ...sections['traces'] }
  const tls: ResolvedTlsOptions = { ...TLS_DEFAULTS, ...sections['tls'] }
  const limits: LimitOptions = { ...sections['limits'] }
  const supervisor = resolveTogether(sections, saidBy)
  const logKeys = [...saidBy.keys()].filter(key => key.startsWith('log.'))
  return freeze({
    file: file === '' ? '' : path.resolve(folder, file), supervisor, log, traces, tls, limits, sentry,
    listeners: Object.fromEntries(listeners),
    ...logKeys.length === 0 ? {} : { logAt: Object.fromEntries(logKeys.map(key => [key, placeOf(key, saidBy)])) },
    ...listenersAt.size === 0 ? {} : { listenersAt: Object.fromEntries(listenersAt) },
  })
}

function findFile(named: string, folder: string): string {
  if (named !== '') return named
  return statSync(path.join(folder, CONFIG_FILE), { throwIfNoEntry: false })?.isFile() === true ? CONFIG_FILE : ''
}

function limited(mistakes: readonly ConfigMistake[]): readonly ConfigMistake[] {
  if (mistakes.length <= MAX_MISTAKES) return mistakes
  const rest = mistakes.length - MAX_MISTAKES
  const more = { path: '', found: `${rest} more mistakes`, expected: 'none', where: mistakes[MAX_MISTAKES]?.where ?? '' }
  return [...mistakes.slice(0, MAX_MISTAKES), more]
}

// The file.

function fileLayer(named: string, folder: string, readAt: (file: string) => string, mistakes: ConfigMistake[]): Layer | null {
  const full = path.resolve(folder, named)
  const source = readAt(full)
  const file = source === full ? named : source
  const fault = (found: string, expected: string, where = file): null => {
    mistakes.push({ path: '', found, expected, where })
    return null
  }
  let text: string
  try {
    const stat = statSync(source)
    if (!stat.isFile()) return fault('no regular file', 'a YAML file')
    if (stat.size > MAX_CONFIG_BYTES) return fault(`${stat.size} bytes`, `at most ${MAX_CONFIG_BYTES} bytes`)
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(source))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return fault('no such file', `a file at ${source}; name another with -c, or leave -c out`)
    if (error instanceof TypeError && code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return fault('bytes that are no UTF-8', 'YAML in UTF-8')
    return fault(`a file that cannot be read (${code ?? String(error)})`, 'a readable file')
  }

  const lines = new LineCounter()
  let document: Document.Parsed
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false, stringKeys: true })
  } catch (error) {
    // The parser calls itself for every level, so enough brackets end its stack.
    if (error instanceof RangeError) return fault('brackets within brackets without end', `at most ${MAX_CONFIG_DEPTH} levels`)
    throw error
  }
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${line}:${col}`
  }
  for (const problem of [...document.errors, ...document.warnings].slice(0, MAX_MISTAKES)) {
    fault(firstLine(problem.message), 'valid YAML 1.2', at(problem.pos[0]))
  }
  if (document.errors.length > 0 || document.warnings.length > 0) return null

  let aliases = 0
  let tooDeep: number | null = null
  let twice = 0
  const measure = (node: Node, ancestors: readonly unknown[]): symbol | undefined => {
    if (ancestors.filter(isCollection).length < MAX_CONFIG_DEPTH) return undefined
    tooDeep ??= node.range?.[0] ?? 0
    return visit.SKIP
  }
  visit(document, {
    Alias() { aliases++ },
    Seq: (_, node, ancestors) => measure(node, ancestors),
    // The parser's own check compares every key with every other, which takes minutes for a file of the greatest size.
    Map(_, node, ancestors) {
      const seen = new Set<string>()
      for (const { key } of node.items) {
        const name = isScalar(key) ? String(key.value) : ''
        if (seen.has(name) && ++twice <= MAX_MISTAKES) {
          fault(`the key ${describe(name)} for the second time`, 'every key once', at((key as Node).range?.[0] ?? 0))
        }
        seen.add(name)
      }
      return measure(node, ancestors)
    },
  })
  if (aliases > MAX_CONFIG_ALIASES) return fault(`${aliases} aliases`, `at most ${MAX_CONFIG_ALIASES} aliases`)
  if (tooDeep !== null) return fault(`more than ${MAX_CONFIG_DEPTH} levels`, `at most ${MAX_CONFIG_DEPTH} levels`, at(tooDeep))
  if (twice > 0) return null
  let tree: unknown
  try {
    // The library counts the node itself as one use of it.
    tree = document.toJS({ maxAliasCount: MAX_CONFIG_ALIASES + 1 })
  } catch (error) {
    return fault(firstLine((error as Error).message), `aliases that stand for at most ${MAX_CONFIG_ALIASES} nodes`)
  }
  return {
    tree: tree ?? {}, folder: path.dirname(full),
    where: (keys, what) => at(offsetOf(document, keys, what)),
  }
}

function firstLine(message: string): string { return message.split('\n', 1)[0] ?? message }

/** Where the key, or its value, stands; the nearest thing around it when it is nowhere itself. */
function offsetOf(document: Document, keys: readonly PropertyKey[], what: 'key' | 'value'): number {
  let node: unknown = document.contents
  let offset = document.contents?.range?.[0] ?? 0
  for (const [index, key] of keys.entries()) {
    if (node instanceof Alias) node = node.resolve(document)
    if (!isMap(node)) return offset
    const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === String(key))
    if (pair === undefined) return offset
    const last = index === keys.length - 1
    const spot = last && what === 'value' ? (pair.value ?? pair.key) : pair.key
    offset = (spot as Node | null)?.range?.[0] ?? offset
    node = pair.value
  }
  return offset
}

// Environment and flags.

const COMMON_KEY_NAMES: readonly string[] = COMMON_KEYS.map(({ key }) => key)

function environmentLayer(env: Readonly<Record<string, string | undefined>>, folder: string, mistakes: ConfigMistake[]): Layer {
  const tree: Record<string, Record<string, unknown>> = {}
  for (const [name, value] of Object.entries(env)) {
    const variable = readVariable(name, value)
    if (variable.kind === 'key') {
      const { section, field, option } = variable.key
      ;(tree[section.name] ??= {})[writtenKey(field, option)] = value
    } else if (variable.kind === 'misspelt') {
      mistakes.push({ path: '', found: 'a variable that sets nothing', expected: variable.remedy, where: name })
    } else if (variable.kind === 'wrong') {
      mistakes.push({ path: '', found: JSON.stringify(value), expected: variable.expected, where: name })
    }
  }
  return { tree, folder, where: keys => variableName(keys.map(String).join('.')) }
}

/** What other programs know as well: it counts least, since it may have been meant for them. */
function usualVariables(env: Readonly<Record<string, string | undefined>>, folder: string): Layer {
  const said = Object.entries(SENTRY_VARIABLES).filter(([name]) => (env[name] ?? '') !== '')
  const sentry = Object.fromEntries(said.map(([name, key]) => [key, env[name]]))
  const where = (keys: readonly PropertyKey[]): string => said.find(([, key]) => key === keys.at(-1))?.[0] ?? 'SENTRY_DSN'
  return { tree: said.length === 0 ? {} : { sentry }, folder, where }
}

function flagLayer(flags: NonNullable<ConfigSources['flags']>, folder: string, mistakes: ConfigMistake[]): Layer {
  const tree: Record<string, Record<string, unknown>> = {}
  for (const [key, value] of Object.entries(flags)) {
    if (value === undefined) continue
    const dot = key.indexOf('.')
    const [section, name] = [key.slice(0, dot), key.slice(dot + 1)]
    if (COMMON_KEY_NAMES.includes(key)) (tree[section] ??= {})[name] = value
    else {
      const expected = nearestWord(key, COMMON_KEY_NAMES) ?? 'a key of the configuration'
      mistakes.push({ path: '', found: `a flag for ${key}, which is no key`, expected, where: flagName(key) })
    }
  }
  return { tree, folder, where: keys => flagName(keys.map(String).join('.')) }
}

// Checks.

function takeLayer(
  layer: Layer, sections: Record<string, Record<string, unknown>>,
  { listeners, listenersAt }: { listeners: Map<string, ListenerOverrides>; listenersAt: Map<string, string> },
  saidBy: Map<string, Layer>, mistakes: ConfigMistake[],
): void {
  const { success, data, error } = SOURCE_SCHEMA.safeParse(layer.tree)
  if (!success) {
    mistakes.push(...error.issues.flatMap(issue => mistakesOf(issue, layer)).toSorted(byPlace))
    return
  }
  const said = data as Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>
  for (const { name, table } of SECTIONS) {
    const given = readWritten(table, said[name] ?? {})
    for (const [field, value] of Object.entries(given)) {
      const option = table[field]!
      const isOther = option.prefix !== '' && String(value).startsWith(option.prefix)
      const isPath = option.kind === 'path' && !isOther && !option.words.includes(String(value))
      const section = sections[name] ??= {}
      // A path is relative to the folder of the source that holds it.
      section[field] = isPath ? path.resolve(layer.folder, String(value)) : value
      saidBy.set(`${name}.${writtenKey(field, option)}`, layer)
    }
  }
  for (const [name, given] of Object.entries(said['listeners'] ?? {})) {
    const read = readWritten(LISTENER_SECTION.table, given as Readonly<Record<string, unknown>>)
    const tls = read['tls'] as TlsListenerOptions | undefined
    if (tls !== undefined) read['tls'] = tlsFilesFrom(layer.folder, tls)
    listeners.set(name, read as ListenerOverrides)
    listenersAt.set(name, layer.where(['listeners', name], 'key'))
  }
}

/** From the top of the file to its end; what has no line stays in the order found. */
function byPlace(left: ConfigMistake, right: ConfigMistake): number {
  const lineOf = ({ where }: ConfigMistake): readonly number[] => /:(\d+):(\d+)$/.exec(where)?.slice(1).map(Number) ?? [0, 0]
  const [from, to] = [lineOf(left), lineOf(right)]
  return (from[0] ?? 0) - (to[0] ?? 0) || (from[1] ?? 0) - (to[1] ?? 0)
}

function mistakesOf(issue: z.core.$ZodIssue, layer: Layer): ConfigMistake[] {
  const at = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    const table = tableAt(at)
    const known = table === null ? ['version', 'listeners', ...SECTIONS.map(({ name }) => name)]
      : Object.entries(table).map(([field, option]) => writtenKey(field, option))
    // Finding the place of a key is a walk over its neighbours, so not for thousands.
    return issue.keys.slice(0, MAX_MISTAKES + 1).map(key => ({
      path: [...at, key].join('.'), found: 'an unknown key',
      where: layer.where([...at, key], 'key'), expected: unknownKeyRemedy(key, table, known),
    }))
  }
  const found = shown(valueAt(layer.tree, at), at)
  return [{ path: at.join('.'), found, expected: issue.message, where: layer.where(at, 'value') }]
}

/** A secret is not shown, neither in its place nor in that of its whole section. */
function shown(value: unknown, at: readonly string[]): string {
  const [section = '', key] = at
  const meant = Object.entries(tableAt([section]) ?? {}).filter(([field, option]) => key === undefined || key === writtenKey(field, option))
  const isSecret = meant.some(([, option]) => option.secret)
  return isSecret && (typeof value === 'string' || typeof value === 'number') ? NOT_SHOWN : describe(value)
}

/** The table of a section; null at the top of the file. */
function tableAt(at: readonly string[]): AnyOptionTable | null {
  if (at.length === 0) return null
  if (at[0] === 'listeners' && at[2] === 'tls') return TLS_SECTION.table
  if (at[0] === 'listeners' && at[2] === 'http2') return HTTP2_SECTION.table
  return at[0] === 'listeners' ? LISTENER_SECTION.table : SECTIONS.find(({ name }) => name === at[0])?.table ?? {}
}

function unknownKeyRemedy(key: string, table: AnyOptionTable | null, known: readonly string[]): string {
  const option = table !== null && Object.hasOwn(table, key) ? table[key] : undefined
  // The name in code, then: an option that is written otherwise.
  if (option !== undefined) return `${writtenKey(key, option)}, whose value has the unit, such as ${exampleOf(option)}`
  // Its section was left out, or is another one.
  const elsewhere = CONFIG_KEYS.find(one => one.field === key || leafOf(one) === key)
  if (elsewhere !== undefined) return elsewhere.key
  const near = nearestWord(key, known)
  if (near !== null) return near
  const leaf = nearestWord(key, CONFIG_KEYS.map(leafOf))
  return CONFIG_KEYS.find(one => leafOf(one) === leaf)?.key ?? `one of ${known.join(', ')}`
}

function leafOf({ field, option }: ConfigKey): string { return writtenKey(field, option) }

function valueAt(tree: unknown, keys: readonly string[]): unknown {
  let value: unknown = tree
  for (const key of keys) {
    const isThere = typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    value = isThere ? (value as Readonly<Record<string, unknown>>)[key] : undefined
  }
  return value
}

/** A value for a message: on one line, not too long, without control characters. */
function describe(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a section with keys'
  // JSON escapes C0 and quotes; C1 and DEL would reach a terminal.
  const text = JSON.stringify(value).replaceAll(/[\x7F-\x9F]/g, char => `\\u00${char.charCodeAt(0).toString(16)}`)
  return text.length <= 80 ? text : `${text.slice(0, 77)}..."`
}

/** Where a key was said last. */
function placeOf(key: string, saidBy: ReadonlyMap<string, Layer>): string {
  return saidBy.get(key)?.where(key.split('.'), 'value') ?? 'defaults'
}

/** A file with the DSN is longer only by mistake. */
const MAX_DSN_FILE_BYTES = 8_192

/** Puts the DSN into its place, wherever it was said. @param usual what counts least. @param mistakes every mistake is added to it */
function resolveSentry(
  given: ResolvedSentryOptions, usual: Layer, saidBy: ReadonlyMap<string, Layer>, mistakes: ConfigMistake[],
): ResolvedSentryOptions {
  const isUsual = given.dsn === '' || saidBy.get('sentry.dsn') === usual
  if (given.dsn === SENTRY_OFF && !isUsual) return { ...given, dsn: '' }
  if (given.dsnFile === '') {
    const dsn = given.dsn === '' ? String(valueAt(usual.tree, ['sentry', 'dsn']) ?? '') : given.dsn
    return { ...given, dsn: dsn === SENTRY_OFF ? '' : dsn }
  }
  const fault = (found: string, expected: string): void => {
    mistakes.push({ path: 'sentry.dsnFile', found, expected, where: placeOf('sentry.dsnFile', saidBy) })
  }
  if (!isUsual) {
    fault('a file beside sentry.dsn', 'one of the two')
    return given
  }
  const dsn = readLine(given.dsnFile)
  if (dsn === null) fault(`${given.dsnFile}, which cannot be read`, SENTRY_OPTIONS.dsnFile.remedy)
  else if (!isDsn(dsn)) fault(`${given.dsnFile}, in which there is ${dsn === '' ? 'nothing' : NOT_SHOWN}`, SENTRY_OPTIONS.dsn.remedy)
  return { ...given, dsn: dsn ?? '' }
}

/** All that a small file says, without blanks around it; null: it cannot be read, or is no small file. */
function readLine(file: string): string | null {
  try {
    const stat = statSync(file)
    return stat.isFile() && stat.size <= MAX_DSN_FILE_BYTES ? readFileSync(file, 'utf8').trim() : null
  } catch { return null }
}

/** What only shows when the sources are put together: one option that must not be less than another of its section. */
function resolveTogether(
  sections: Readonly<Record<string, Readonly<Record<string, unknown>>>>, saidBy: ReadonlyMap<string, Layer>,
): ServerConfig['supervisor'] {
  const valueOf = ({ section, field, option }: ConfigKey): number => Number(sections[section.name]?.[field] ?? option.default)
  const mistakes: ConfigMistake[] = []
  for (const upper of COMMON_KEYS) {
    if (upper.option.atLeast === '') continue
    const lower = COMMON_KEYS.find(({ section, field }) => section === upper.section && field === upper.option.atLeast)!
    const [value, floor] = [valueOf(upper), valueOf(lower)]
    if (value >= floor) continue
    // One of the two was said, as the defaults go together; blame that one.
    const blamed = saidBy.has(upper.key) ? upper : lower
    const [writtenUpper, writtenFloor] = [writtenValue(upper.option, value), writtenValue(lower.option, floor)]
    mistakes.push({
      path: blamed.key, where: placeOf(blamed.key, saidBy),
      ...(blamed === upper
        ? { found: writtenUpper, expected: `at least ${lower.key}, which is ${writtenFloor}` }
        : { found: writtenFloor, expected: `at most ${upper.key}, which is ${writtenUpper}` }),
    })
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  try {
    const { drain, restart, upgrade, supervisor } = sections
    const given = { ...supervisor, drain: { ...drain }, restart: { ...restart }, upgrade: { ...upgrade } }
    return resolveSupervisorOptions(given as SupervisorOptions)
  } catch (error) {
    // The schema lets nothing through that this refuses; a test holds them together. Said plainly should they part.
    if (!(error instanceof OptionError)) throw error
    throw new ConfigError([{ path: 'supervisor', found: error.message, expected: 'values that go together', where: 'configuration' }])
  }
}

function freeze<T extends object>(tree: T): T {
  for (const value of Object.values(tree)) if (typeof value === 'object' && value !== null) freeze(value as object)
  return Object.freeze(tree)
}
