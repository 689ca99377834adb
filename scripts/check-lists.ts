/**
 * Compares lists that must agree, each with its one source:
 * option defaults in doc comments with the `*_DEFAULTS` constants, and what they say of 0 and of the least value with the
 * tables of descriptors (`*_OPTIONS`); error kinds with docs/errors.md; hook names with src/proxy/README.md; fields and
 * flags of the access log with docs/access-log.md; the process options with docs/configuration.md
 * (scripts/generated-tables.ts makes those tables, and those of docs/limits.md and docs/architecture.md; `--write` puts them
 * there); links and names of files in the pages with the files (scripts/page-links.ts); the oldest Node.js that will do, in
 * the four places that name it; the programs that tests may ask for with what .ci/run installs.
 *
 * `node scripts/check-lists.ts [root]` prints one `file:line: what was found, what would do` a fault and exits with 1.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual, inspect, parseArgs } from 'node:util'
import type { Option, OptionKind } from '../src/primitives/option-table.ts'
import { generatedTables, tableMarks } from './generated-tables.ts'
import { codeWordsIn } from './operator-words.ts'
import { checkPages } from './page-links.ts'
import {
  declaredInterfaces, defaultText, inheritedFields, interfacesOf, isFile, printFinding, type DeclaredInterface,
  type Finding,
} from './source-text.ts'

type Loaded = Readonly<Record<string, unknown>>

/** @param write brings the generated tables up to date instead of reporting them. */
export async function checkLists(root: string, write = false): Promise<Finding[]> {
  return [
    ...await checkDefaults(root),
    ...await checkErrorKinds(root),
    ...checkHooks(root),
    ...await checkTables(root, write),
    ...checkPages(root),
    ...checkNodeVersion(root),
    ...await checkPrograms(root),
  ]
}

function textOf(root: string, file: string): string | null {
  const full = path.join(root, file)
  return isFile(full) ? readFileSync(full, 'utf8') : null
}

function load(root: string, file: string): Promise<Loaded> {
  return import(pathToFileURL(path.join(root, file)).href) as Promise<Loaded>
}

function missing(file: string, wanted: string): Finding {
  return { file, line: 1, text: `is missing; ${wanted}` }
}

/** Line of the first occurrence, 1 when there is none. */
function lineWith(text: string, part: string): number {
  const index = text.indexOf(part)
  return index < 0 ? 1 : text.slice(0, index).split('\n').length
}

interface Comparison {
  readonly file: string
  readonly line: number
  /** What the names are names of. */
  readonly what: string
  readonly found: Iterable<string>
  readonly expected: Iterable<string>
  /** File that holds the expected ones. */
  readonly source: string
}

function listDifference({ file, line, what, found, expected, source }: Comparison): Finding[] {
  const have = new Set(found)
  const want = new Set(expected)
  const findings: Finding[] = []
  for (const name of want) {
    if (!have.has(name)) findings.push({ file, line, text: `does not name the ${what} ${name}, which ${source} holds; add it` })
  }
  for (const name of have) {
    if (want.has(name)) continue
    findings.push({ file, line, text: `names the ${what} ${name}, which ${source} does not hold; remove it, or add it there` })
  }
  return findings
}

// Option defaults.

/** `Http1ServerOptions` -> `HTTP1_SERVER_DEFAULTS`. */
export function defaultsName(interfaceName: string): string {
  return `${interfaceName.replace(/Options$/, '').replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase()}_DEFAULTS`
}

const NO_LITERAL: unique symbol = Symbol('no literal')

/** The value that the text of a `@default` stands for, or NO_LITERAL when it describes a value in words. */
function literalOf(text: string): unknown {
  if (/^-?[\d_]+(?:\.\d+)?$/.test(text)) return Number(text.replaceAll('_', ''))
  if (/^[\d_]+(?: \* [\d_]+)+$/.test(text)) {
    const factors = text.split(' * ').map(factor => Number(factor.replaceAll('_', '')))
    return factors.reduce((product, factor) => product * factor, 1)
  }
  const words: Readonly<Record<string, unknown>> = { true: true, false: false, null: null, undefined, Infinity }
  if (Object.hasOwn(words, text)) return words[text]
  try {
    return JSON.parse(text.replaceAll(/'((?:[^'\\]|\\.)*)'/g, (_, inside: string) => JSON.stringify(inside)))
  } catch {
    return NO_LITERAL // Words, then: compared with nothing but the kind of the constant's value.
  }
}

async function checkDefaults(root: string): Promise<Finding[]> {
  const findings: Finding[] = []
  const declared = declaredInterfaces(root)
  for (const options of declared.values()) {
    if (!options.exported || !options.name.endsWith('Options') || options.name.startsWith('Resolved')) continue
    const optional = options.fields.filter(field => field.optional)
    for (const field of optional) {
      if (defaultText(field) !== null) continue
      const text = `${options.name}.${field.name} has no @default; say in its doc comment what holds when it is left out`
      findings.push({ file: options.file, line: field.line, text })
    }
    if (optional.length === 0) continue
    const constantName = defaultsName(options.name)
    const constant = (await load(root, options.file))[constantName]
    if (typeof constant !== 'object' || constant === null) {
      // Defaults that can only be said in words are made where they are used; there is nothing to compare.
      if (optional.some(field => literalOf(defaultText(field) ?? '') !== NO_LITERAL)) {
        const text = `${options.name} has no ${constantName} beside it; export that constant with every default`
        findings.push({ file: options.file, line: options.line, text })
      }
      continue
    }
    findings.push(...compareDefaults(options, constant as Loaded, declared, await load(root, options.file)))
  }
  const withTables = [...declared.values()].filter(({ exported, name }) => exported && name.endsWith('Options'))
  for (const options of withTables) findings.push(...await compareTable(root, options))
  return findings
}

/** `Http1ServerOptions` -> `HTTP1_SERVER_OPTIONS`. */
export function tableName(interfaceName: string): string { return defaultsName(interfaceName).replace(/DEFAULTS$/, 'OPTIONS') }

/**
 * What the doc comments say of 0 and of the least value, against the table of descriptors. That both name the same
 * fields is held by types.
 */
async function compareTable(root: string, options: DeclaredInterface): Promise<Finding[]> {
  const name = tableName(options.name)
  const table = (await load(root, options.file))[name] as Readonly<Record<string, Option>> | undefined
  const findings: Finding[] = []
  for (const field of table === undefined ? [] : options.fields) {
    const option = table![field.name]
    const fault = option === undefined ? 'has no such option' : rangeFault(field.doc, option)
    if (fault !== '') findings.push({ file: options.file, line: field.line, text: `${options.name}.${field.name}: ${name} ${fault}` })
  }
  return findings
}

const NUMBERS: ReadonlySet<string> = new Set<OptionKind>(['duration', 'size', 'rate', 'count', 'number'])

function rangeFault(doc: string, { kind, zero, min, atLeast }: Option): string {
  if (zero !== '' && !doc.includes(`0 ${zero}`)) return `says that 0 ${zero}; say it in the doc comment with the same words`
  if (!NUMBERS.has(kind)) return ''
  const saysZero = /(?:^|[.;,] )0 (?!to )([a-z][^.]*)/.exec(doc)
  if (zero === '' && saysZero !== null) return `does not say that 0 ${saysZero[1]}; give it to the descriptor as \`zero\``
  const said = /\bAt least ([\w,]+)/.exec(doc)?.[1]?.replaceAll(/(?<=\d)[_,](?=\d)/g, '')
  const wanted = atLeast !== '' ? atLeast : min > 1 ? String(min) : undefined
  if (said === wanted || (wanted === undefined && said === String(min))) return ''
  if (wanted === undefined) return `knows no least value of ${said}; correct the doc comment`
  return `has the least value ${wanted}; write "At least ${wanted}." into the doc comment`
}

function compareDefaults(
  options: DeclaredInterface, constant: Loaded, declared: ReadonlyMap<string, DeclaredInterface>, module: Loaded,
): Finding[] {
  const { file, name } = options
  const constantName = defaultsName(name)
  const findings: Finding[] = []
  const own = new Set(options.fields.map(field => field.name))
  const inherited = inheritedFields(options, declared)
  const all = [...(inherited ?? []).filter(field => !own.has(field.name)), ...options.fields]
  for (const field of all) {
    const text = defaultText(field)
    if (text === null) continue
    const line = own.has(field.name) ? field.line : options.line
    const value = constant[field.name]
    const says = `${name}.${field.name} says @default ${text}`
    if (!Object.hasOwn(constant, field.name)) {
      // What is inherited has a constant of its own; what is only in words is made where it is used.
      if (!own.has(field.name) || literalOf(text) === NO_LITERAL) continue
      findings.push({ file, line, text: `${says}, but ${constantName} has no ${field.name}; add it to the constant` })
      continue
    }
    const literal = Object.hasOwn(module, text) ? module[text] : literalOf(text)
    const inWords = literal === NO_LITERAL
    // What can only be said in words must not be a plain number or switch, which could have been written down.
    if (inWords ? (typeof value === 'number' || typeof value === 'boolean') : !isDeepStrictEqual(literal, value)) {
      findings.push({ file, line, text: `${says}, but ${constantName}.${field.name} is ${inspect(value)}; make them equal` })
    }
  }
  if (inherited === null) return findings
  const known = new Set(all.map(field => field.name))
  for (const key of Object.keys(constant)) {
    if (known.has(key)) continue
    const text = `${constantName}.${key} belongs to no field of ${name}; remove it, or declare the field`
    findings.push({ file, line: options.line, text })
  }
  return findings
}

// Error kinds.

/** First cells of a Markdown table's rows, when they are one word in backticks. */
function tableNames(text: string): string[] {
  return [...text.matchAll(/^\|\s*`([^`]+)`\s*\|/gm)].map(match => match[1] ?? '')
}

async function checkErrorKinds(root: string): Promise<Finding[]> {
  const source = 'src/errors/proxy-error.ts'
  const page = 'docs/errors.md'
  const kinds = (await load(root, source))['ERROR_KINDS'] as readonly string[]
  const findings: Finding[] = kinds
    .filter((kind, index) => kinds.indexOf(kind) !== index)
    .map(kind => ({ file: source, line: 1, text: `lists ${kind} twice; once will do` }))
  const text = textOf(root, page)
  if (text === null) return [...findings, missing(page, `give it a table with one row for each kind of ${source}`)]
  findings.push(...listDifference({ file: page, line: 1, what: 'error kind', found: tableNames(text), expected: kinds, source }))
  const lifePage = 'src/proxy/README.md'
  const life = textOf(root, lifePage) ?? ''
  for (const match of life.matchAll(/`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`/g)) {
    const kind = match[1] ?? ''
    if (kinds.includes(kind) || kind.startsWith('CIRQUE_') || kind.endsWith('_DEFAULTS')) continue
    const line = lineWith(life, match[0])
    findings.push({ file: lifePage, line, text: `names ${kind}, which is no error kind of ${source}; correct it` })
  }
  return findings
}

// Hooks.

function checkHooks(root: string): Finding[] {
  const source = 'src/proxy/proxy-http.ts'
  const page = 'src/proxy/README.md'
  const code = textOf(root, source)
  if (code === null) return [missing(source, 'declare interface ProxyHttp there')]
  const hooks = interfacesOf(code).find(found => found.name === 'ProxyHttp')?.fields ?? []
  if (hooks.length === 0) return [{ file: source, line: 1, text: 'declares no interface ProxyHttp with hooks; declare it there' }]
  const text = textOf(root, page)
  if (text === null) return [missing(page, `describe every hook of ${source} there`)]
  const findings: Finding[] = []
  for (const hook of hooks) {
    if (new RegExp(`\\b${hook.name}\\b`).test(text)) continue
    const found = `declares the hook ${hook.name}, which ${page} does not name; describe it there`
    findings.push({ file: source, line: hook.line, text: found })
  }
  const names = new Set(hooks.map(hook => hook.name))
  for (const match of text.matchAll(/`([a-z][A-Za-z]*(?:Filter|FilterAsync))(?:\(\))?`/g)) {
    const name = match[1] ?? ''
    // `connectionFilter` is an option of listeners, not a hook of ProxyHttp.
    if (names.has(name) || name === 'connectionFilter') continue
    const found = `names the hook ${name}, which ${source} does not declare; correct it`
    findings.push({ file: page, line: lineWith(text, match[0]), text: found })
  }
  return findings
}

// Tables of the documentation that are made from the code.

async function checkTables(root: string, write: boolean): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { page, name, lines, source } of await generatedTables(root)) {
    const text = textOf(root, page)
    const [begin, end] = tableMarks(name)
    for (const line of page === 'docs/configuration.md' ? lines : []) {
      for (const word of codeWordsIn(line)) {
        const remedy = 'give the doc comment a clause ", in ms" or ", in bytes" of its own, and other options by name'
        findings.push({ file: page, line: 1, text: `would say "${word}" in ${JSON.stringify(line.slice(0, 60))}; ${remedy}` })
      }
    }
    const from = text?.indexOf(begin) ?? -1
    const to = text?.indexOf(end, from) ?? -1
    if (text === null || from < 0 || to < 0) {
      findings.push(missing(page, `put the lines ${begin} and ${end} there, then run \`node scripts/check-lists.ts --write\``))
      continue
    }
    const found = text.slice(from + begin.length, to).trim().split('\n')
    const differs = lines.findIndex((line, index) => line !== found[index])
    if (differs < 0 && found.length === lines.length) continue
    if (write) {
      writeFileSync(path.join(root, page), `${text.slice(0, from + begin.length)}\n${lines.join('\n')}\n${text.slice(to)}`)
      continue
    }
    const at = differs < 0 ? lines.length : differs
    const [has, makes] = [found[at], lines[at]].map(line => JSON.stringify(line ?? 'no line'))
    findings.push({
      file: page, line: lineWith(text, begin) + 1 + at,
      text: `has ${has} where ${source} makes ${makes}; run \`node scripts/check-lists.ts --write\``,
    })
  }
  return findings
}

// Versions and programs.

interface Manifest {
  readonly engines?: { readonly node?: string }
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

function checkNodeVersion(root: string): Finding[] {
  const file = 'package.json'
  const manifestText = textOf(root, file) ?? '{}'
  const manifest = JSON.parse(manifestText) as Manifest
  const asked = manifest.engines?.node ?? 'missing'
  const oldest = /^>=(\d+\.\d+)$/.exec(asked)?.[1]
  if (oldest === undefined) return [{ file, line: 1, text: `has engines.node ${asked}; write >=MAJOR.MINOR` }]
  const findings: Finding[] = []
  const [major = '', minor = ''] = oldest.split('.')
  const places: readonly (readonly [file: string, pattern: RegExp])[] = [
    ['bin/cirque', /^oldest_major=(\d+)\noldest_minor=(\d+)$/m],
    ['src/runtime-check.ts', /OLDEST_MAJOR = (\d+)\n.*OLDEST_MINOR = (\d+)/],
  ]
  for (const [file, pattern] of places) {
    const text = textOf(root, file)
    const found = text === null ? null : pattern.exec(text)
    if (text === null || found === null) {
      findings.push(missing(file, `let it ask for Node.js ${oldest}, as engines in package.json does`))
    } else if (found[1] !== major || found[2] !== minor) {
      const differs = `asks for Node.js ${found[1]}.${found[2]}, engines in package.json for ${oldest}; make them equal`
      findings.push({ file, line: lineWith(text, found[0]), text: differs })
    }
  }
  const runtimes = Object.entries(manifest.optionalDependencies ?? {}).filter(([name]) => name.startsWith('node-'))
  const [first, pinned] = runtimes[0] ?? []
  for (const [name, version] of runtimes) {
    if (version === pinned) continue
    const text = `pins ${name} ${version} beside ${first} ${pinned}; pin one version`
    findings.push({ file, line: lineWith(manifestText, `"${name}"`), text })
  }
  return findings
}

async function checkPrograms(root: string): Promise<Finding[]> {
  const source = 'test/support/programs.ts'
  const script = '.ci/run'
  if (textOf(root, source) === null) return [missing(source, 'export PROGRAMS there')]
  const { PROGRAMS } = await load(root, source) as { PROGRAMS: Readonly<Record<string, { readonly debian: string | null }>> }
  const text = textOf(root, script)
  if (text === null) return [missing(script, `install the programs of ${source} there`)]
  const installed = [...text.matchAll(/^ {2}([\w.+-]+):([\w.+-]+)$/gm)].map(match => `${match[1]} (${match[2]})`)
  const wanted = Object.entries(PROGRAMS).flatMap(([name, { debian }]) => debian === null ? [] : [`${name} (${debian})`])
  return listDifference({
    file: script, line: lineWith(text, 'programs='), what: 'program', found: installed, expected: wanted, source,
  })
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { write: { type: 'boolean' } } })
  const findings = await checkLists(path.resolve(positionals[0] ?? path.join(import.meta.dirname, '..')), values.write === true)
  for (const finding of findings) console.error(printFinding(finding))
  process.exitCode = findings.length === 0 ? 0 : 1
}
