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
import {
  ConfigError, LISTENER_FIELDS, LOG_DEFAULTS, PATH_KEYS, SECTIONS, SOURCE_SCHEMA, writtenKey, writtenValue,
  type ConfigMistake, type LimitOptions, type ResolvedLogOptions, type ServerConfig,
} from './server-config.ts'
import { OptionError, resolveSupervisorOptions, type SupervisorOptions } from './supervisor-options.ts'

/** The file that is read when none is named and it exists. */
export const CONFIG_FILE = 'cirque.yaml'
export const MAX_CONFIG_BYTES = 4_194_304
export const MAX_CONFIG_ALIASES = 100
/** Sections within sections; ours need four. */
const MAX_CONFIG_DEPTH = 16
/** A file full of mistakes says nothing more after this many. */
const MAX_MISTAKES = 100
const ENV_PREFIX = 'CIRQUE_'
/** Variables of our own that configure nothing here. */
const OTHER_VARIABLES: ReadonlySet<string> = new Set(['CIRQUE_NODE', 'CIRQUE_SYSTEM_CALLS'])

export interface ConfigSources {
  /** Path of the file; '' reads CONFIG_FILE in `folder` when it is there. @default '' */
  file?: string
  /** What relative paths in the environment, in flags and of `file` are relative to. @default process.cwd() */
  folder?: string
  /** @default process.env */
  env?: Readonly<Record<string, string | undefined>>
  /**
   * Values of flags by their key in the file, as text or as they are: `{ 'supervisor.workers': '4' }`. Undefined ones
   * are left out.
   * @default {}
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

/** The name of a key in the environment: `drain.hardDrain` -> `CIRQUE_DRAIN_HARD_DRAIN`. */
export function variableName(key: string): string {
  return ENV_PREFIX + key.replaceAll(/[A-Z]/g, letter => `_${letter}`).replaceAll('.', '_').toUpperCase()
}

/** @throws ConfigError with every mistake there is. */
export function loadConfig(sources: ConfigSources = {}): ServerConfig {
  const folder = sources.folder ?? process.cwd()
  const mistakes: ConfigMistake[] = []
  const file = findFile(sources.file ?? '', folder)
  const sections: Record<string, Record<string, unknown>> = Object.fromEntries(SECTIONS.map(({ name }) => [name, {}]))
  const listeners = new Map<string, Record<string, number | boolean>>()
  /** The layer that said each key last, for what only shows when all are put together. */
  const saidBy = new Map<string, Layer>()
  const take = (layer: Layer | null): void => {
    if (layer !== null) takeLayer(layer, sections, listeners, saidBy, mistakes)
  }
  if (file !== '') take(fileLayer(file, folder, mistakes))
  take(environmentLayer(sources.env ?? process.env, folder, mistakes))
  take(flagLayer(sources.flags ?? {}, folder, mistakes))
  if (mistakes.length > 0) throw new ConfigError(limited(mistakes))

  const log: ResolvedLogOptions = { ...LOG_DEFAULTS, ...sections['log'] }
  const limits: LimitOptions = { ...sections['limits'] }
  const supervisor = resolveTogether(sections, saidBy)
  return freeze({
    file: file === '' ? '' : path.resolve(folder, file), supervisor, log, limits, listeners: Object.fromEntries(listeners),
  })
}

function findFile(named: string, folder: string): string {
  if (named !== '') return named
  return statSync(path.join(folder, CONFIG_FILE), { throwIfNoEntry: false })?.isFile() === true ? CONFIG_FILE : ''
}

function limited(mistakes: readonly ConfigMistake[]): readonly ConfigMistake[] {
  if (mistakes.length <= MAX_MISTAKES) return mistakes
  const rest = mistakes.length - MAX_MISTAKES
  const where = mistakes[MAX_MISTAKES]?.where ?? ''
  return [...mistakes.slice(0, MAX_MISTAKES), { path: '', found: `${rest} more mistakes`, expected: 'none', where }]
}

// The file.

function fileLayer(file: string, folder: string, mistakes: ConfigMistake[]): Layer | null {
  const full = path.resolve(folder, file)
  const fault = (found: string, expected: string, where = file): null => {
    mistakes.push({ path: '', found, expected, where })
    return null
  }
  let text: string
  try {
    const stat = statSync(full)
    if (!stat.isFile()) return fault('no regular file', 'a YAML file')
    if (stat.size > MAX_CONFIG_BYTES) return fault(`${stat.size} bytes`, `at most ${MAX_CONFIG_BYTES} bytes`)
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(full))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return fault('no such file', `a file at ${full}; name another with -c, or leave -c out`)
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
  const problems = [...document.errors, ...document.warnings]
  for (const { message, pos } of problems.slice(0, MAX_MISTAKES)) fault(firstLine(message), 'valid YAML 1.2', at(pos[0]))
  if (problems.length > 0) return null

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

/** Keys by their names in the environment. Listeners have names of their own and are set in the file. */
const VARIABLES: ReadonlyMap<string, readonly [section: string, key: string]> = new Map(
  SECTIONS.flatMap(({ name, fields }) => Object.keys(fields).map(field => {
    const key = writtenKey(field)
    return [variableName(`${name}.${key}`), [name, key]] as const
  })),
)

/** An empty variable counts as not set, as it does for most programs. */
function environmentLayer(env: Readonly<Record<string, string | undefined>>, folder: string, mistakes: ConfigMistake[]): Layer {
  const tree: Record<string, Record<string, unknown>> = {}
  for (const [variable, value] of Object.entries(env)) {
    if (value === undefined || value === '' || !variable.startsWith(ENV_PREFIX) || OTHER_VARIABLES.has(variable)) continue
    const known = VARIABLES.get(variable)
    if (known !== undefined) {
      (tree[known[0]] ??= {})[known[1]] = value
      continue
    }
    // Variables that look like nothing of ours belong to somebody else: processes hand each other theirs.
    const section = SECTIONS.find(({ name }) => variable.startsWith(`${ENV_PREFIX}${name.toUpperCase()}_`))
    const near = nearest(variable, [...VARIABLES.keys()])
    if (section === undefined && near === null) continue
    const expected = near ?? `one of ${section === undefined ? '' : keysOf(section).map(variableName).join(', ')}`
    mistakes.push({ path: '', found: 'a variable that sets nothing', expected, where: variable })
  }
  return { tree, folder, where: keys => variableName(keys.map(String).join('.')) }
}

/** Keys of a section as they are written: `drain.lameDuck`. */
function keysOf({ name, fields }: (typeof SECTIONS)[number]): string[] {
  return Object.keys(fields).map(field => `${name}.${writtenKey(field)}`)
}

function flagLayer(flags: NonNullable<ConfigSources['flags']>, folder: string, mistakes: ConfigMistake[]): Layer {
  const tree: Record<string, Record<string, unknown>> = {}
  const known = new Set(SECTIONS.flatMap(keysOf))
  for (const [key, value] of Object.entries(flags)) {
    if (value === undefined) continue
    const dot = key.indexOf('.')
    const [section, name] = [key.slice(0, dot), key.slice(dot + 1)]
    if (known.has(key)) {
      (tree[section] ??= {})[name] = value
      continue
    }
    const expected = nearest(key, [...known]) ?? 'a key of the configuration'
    mistakes.push({ path: '', found: `a flag for ${key}, which is no key`, expected, where: flagName(key) })
  }
  return { tree, folder, where: keys => flagName(keys.map(String).join('.')) }
}

// Checks.

function takeLayer(
  layer: Layer, sections: Record<string, Record<string, unknown>>, listeners: Map<string, Record<string, number | boolean>>,
  saidBy: Map<string, Layer>, mistakes: ConfigMistake[],
): void {
  const { success, data, error } = SOURCE_SCHEMA.safeParse(layer.tree)
  if (!success) {
    mistakes.push(...error.issues.flatMap(issue => mistakesOf(issue, layer)).toSorted(byPlace))
    return
  }
  const said = data as Readonly<Record<string, unknown>>
  for (const { name, fields } of SECTIONS) {
    const given = said[name] as Readonly<Record<string, unknown>> | undefined
    for (const field of Object.keys(fields)) {
      const key = `${name}.${writtenKey(field)}`
      const value = given?.[writtenKey(field)]
      if (value === undefined) continue
      const words = PATH_KEYS[key]
      const section = sections[name] ??= {}
      section[field] = words === undefined || words.has(String(value)) ? value : path.resolve(layer.folder, String(value))
      saidBy.set(key, layer)
    }
  }
  for (const [name, given] of Object.entries((said['listeners'] ?? {}) as Readonly<Record<string, Readonly<Record<string, unknown>>>>)) {
    const overrides: Record<string, number | boolean> = {}
    for (const field of Object.keys(LISTENER_FIELDS)) {
      const value = given[writtenKey(field)]
      if (value !== undefined) overrides[field] = value as number | boolean
    }
    listeners.set(name, overrides)
  }
}

/** From the top of the file to its end; what has no line stays in the order found. */
function byPlace(left: ConfigMistake, right: ConfigMistake): number {
  const placeOf = ({ where }: ConfigMistake): readonly number[] => /:(\d+):(\d+)$/.exec(where)?.slice(1).map(Number) ?? [0, 0]
  const [from, to] = [placeOf(left), placeOf(right)]
  return (from[0] ?? 0) - (to[0] ?? 0) || (from[1] ?? 0) - (to[1] ?? 0)
}

function mistakesOf(issue: z.core.$ZodIssue, layer: Layer): ConfigMistake[] {
  const at = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(at)
    // Finding the place of a key is a walk over its neighbours, so not for thousands.
    return issue.keys.slice(0, MAX_MISTAKES + 1).map(key => ({
      path: [...at, key].join('.'), found: 'an unknown key',
      where: layer.where([...at, key], 'key'), expected: unknownKeyRemedy(key, known),
    }))
  }
  return [{ path: at.join('.'), found: describe(valueAt(layer.tree, at)), expected: issue.message, where: layer.where(at, 'value') }]
}

/** Keys by their names in the file, with the name in the code. */
function knownKeys(at: readonly string[]): ReadonlyMap<string, string> {
  if (at.length === 0) return new Map(['version', 'listeners', ...SECTIONS.map(({ name }) => name)].map(name => [name, name]))
  const fields = at[0] === 'listeners' ? LISTENER_FIELDS : SECTIONS.find(({ name }) => name === at[0])?.fields ?? {}
  return new Map(Object.keys(fields).map(field => [writtenKey(field), field]))
}

function unknownKeyRemedy(key: string, known: ReadonlyMap<string, string>): string {
  const short = writtenKey(key)
  const code = known.get(short)
  if (code !== undefined && short !== key) return `${short}, whose value has the unit, such as ${code.endsWith('Ms') ? '30s' : '64KiB'}`
  return nearest(key, [...known.keys()]) ?? `one of ${[...known.keys()].join(', ')}`
}

function valueAt(tree: unknown, keys: readonly string[]): unknown {
  let value: unknown = tree
  for (const key of keys) {
    const holdsKey = typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    value = holdsKey ? (value as Readonly<Record<string, unknown>>)[key] : undefined
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

/** The known word that differs least; null when none is near. */
export function nearest(word: string, known: readonly string[]): string | null {
  if (word.length > 128) return null
  let best: string | null = null
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    // The beginning of a word says more than its length: `hard` for `hardDrain`.
    const begun = word.length > 2 && candidate.toLowerCase().startsWith(word.toLowerCase())
    const distance = begun ? 1 : editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Characters to insert, remove or replace (Levenshtein), two neighbours in the wrong order counting as one. */
function editDistance(left: string, right: string): number {
  let before: number[] = []
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (let row = 1; row <= left.length; row++) {
    const current = [row]
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1]
      let cost = Math.min((previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, (previous[column - 1] ?? 0) + (same ? 0 : 1))
      const swapped = row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      if (swapped) cost = Math.min(cost, (before[column - 2] ?? 0) + 1)
      current.push(cost)
    }
    before = previous
    previous = current
  }
  return previous[right.length] ?? 0
}

/** What only shows when the sources are put together: one option that must not be less than another. */
const AT_LEAST: readonly (readonly [key: string, least: string])[] = [
  ['supervisor.adoptAfterSilence', 'supervisor.heartbeat'],
  ['supervisor.abortAfterSilence', 'supervisor.heartbeat'],
  ['restart.backoffMax', 'restart.backoff'],
]

type Sections = Readonly<Record<string, Readonly<Record<string, unknown>>>>

function resolveTogether(sections: Sections, saidBy: ReadonlyMap<string, Layer>): ServerConfig['supervisor'] {
  const valueOf = (key: string): { field: string; value: number } => {
    const section = SECTIONS.find(({ name }) => key.startsWith(`${name}.`))
    const field = Object.keys(section?.fields ?? {}).find(name => `${section?.name}.${writtenKey(name)}` === key) ?? ''
    return { field, value: Number(sections[section?.name ?? '']?.[field] ?? section?.defaults[field]) }
  }
  const mistakes: ConfigMistake[] = []
  for (const [key, least] of AT_LEAST) {
    const [given, floor] = [valueOf(key), valueOf(least)]
    if (given.value >= floor.value) continue
    // One of the two was said, as the defaults go together; blame that one.
    const blamed = saidBy.has(key) ? key : least
    const keys = blamed.split('.')
    const written = (from: { field: string; value: number }): string => writtenValue(from.field, from.value)
    mistakes.push({
      path: blamed, where: saidBy.get(blamed)?.where(keys, 'value') ?? 'defaults',
      ...(blamed === key
        ? { found: written(given), expected: `at least ${least}, which is ${written(floor)}` }
        : { found: written(floor), expected: `at most ${key}, which is ${written(given)}` }),
    })
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes)
  try {
    const { supervisor, drain, restart, upgrade } = sections
    return resolveSupervisorOptions({
      ...supervisor, drain: { ...drain }, restart: { ...restart }, upgrade: { ...upgrade },
    } as SupervisorOptions)
  } catch (error) {
    // The schema lets nothing through that this refuses; a test holds them together. Said plainly should they part.
    if (!(error instanceof OptionError)) throw error
    const expected = 'values that go together'
    throw new ConfigError([{ path: 'supervisor', found: error.message, expected, where: 'configuration' }])
  }
}

function freeze<T extends object>(tree: T): T {
  for (const value of Object.values(tree)) if (typeof value === 'object' && value !== null) freeze(value as object)
  return Object.freeze(tree)
}
