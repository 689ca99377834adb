/**
 * Why a module could not be loaded, for its author: which file, why, and what would do. Node.js says it for those who know that there
 * are two kinds of modules, that types are stripped from one file at a time, and that imports name files as they lie on the disk.
 * Tests load such files and compare what is said here, so that another wording of Node.js is noticed.
 */
import fs from 'node:fs'
import { createRequire, stripTypeScriptTypes } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { describeError, type ErrorText } from './describe-error.ts'
import { nearestWord } from '../primitives/nearest-word.ts'
import { showValue } from '../primitives/option-table.ts'

/**
 * What the author of a module that could not be loaded needs to know: an error's message with its place, why and the cure where those
 * can be said, and its stack. Never throws.
 * @param loaded files that were read so far, as far as they are known: the last one could not be parsed where a SyntaxError names none
 */
export function describeLoadError(error: unknown, loaded: readonly string[] = []): ErrorText {
  const { message, stack } = describeError(error)
  if (!(error instanceof Error)) return { message: `it threw ${showValue(error)}, which is no Error and says of no place`, stack }
  const fault = { message, stack, ...codeAndUrl(error), loaded }
  for (const explain of EXPLANATIONS) {
    // A file may be gone, or may not be read: then Node.js has the last word.
    let explained: string | ErrorText | null
    try { explained = explain(fault) } catch { explained = null }
    if (explained !== null) return typeof explained === 'string' ? { message: explained, stack } : explained
  }
  return { message, stack }
}

interface LoadFault extends ErrorText { readonly code: string; readonly url: string; readonly loaded: readonly string[] }

/** @returns the whole message, and the stack where that is another; null when it is about other faults. */
type Explanation = (fault: LoadFault) => string | ErrorText | null

const EXPLANATIONS: readonly Explanation[] = [
  syntaxOfModules, namesOfCommonJs, bothKinds, requiredAndAwaits, notExported, notFound, packageMissing, attributeMissing, unknownEnding,
  typescriptBeyondTypes, unplacedSyntax,
]

// A module that Node.js takes for CommonJS.

const MODULE_SYNTAX = new RegExp([
  'Cannot use import statement outside a module', "Cannot use 'import\\.meta' outside a module", "Unexpected token 'export'",
  'await is only valid in async functions and the top level bodies of modules',
].map(text => `^${text}`).join('|'))

function syntaxOfModules({ message, stack }: LoadFault): string | null {
  const place = MODULE_SYNTAX.test(message) ? placeOf(stack) : null
  const why = place === null ? null : whyCommonJs(place.file)
  return why === null ? null : `${whereIn(stack)}: ${message}; the file is loaded as CommonJS, ${why}`
}

/** Why, and what would do; null when Node.js would not take it for that. */
function whyCommonJs(file: string): string | null {
  const ending = path.extname(file)
  const asModule = path.basename(file, ending) + (ending.includes('t') ? '.mts' : '.mjs')
  if (ending === '.mts' || ending === '.mjs') return null
  if (ending === '.cts' || ending === '.cjs') return `because its name ends with ${ending}; call it ${asModule}`
  const said = typeSaid(file, 'commonjs')
  return said === null ? null : `because ${said} says "type": "commonjs"; say "type": "module" there, or call the file ${asModule}`
}

/** Why a file is an ES module, in parentheses. */
function whyModule(file: string): string {
  const ending = path.extname(file)
  if (ending === '.mts' || ending === '.mjs') return `its name ends with ${ending}`
  const said = typeSaid(file, 'module')
  return said === null ? 'it has import, export or await' : `${said} says "type": "module"`
}

/** Which line of the package.json that counts for a file says this; null when none does. */
function typeSaid(file: string, type: 'module' | 'commonjs'): string | null {
  const manifest = nearestManifest(file)
  if (manifest === null) return null
  const lines = fs.readFileSync(manifest, 'utf8').split('\n')
  const at = lines.findIndex(line => new RegExp(`"type"\\s*:\\s*"${type}"`).test(line))
  return at === -1 ? null : `${shown(manifest)}:${at + 1}`
}

function nearestManifest(file: string): string | null {
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json')
    if (fs.existsSync(manifest)) return manifest
    if (folder === path.dirname(folder)) return null
  }
}

// Names of CommonJS in a module, and both kinds at once.

const INSTEAD: Readonly<Record<string, string>> = {
  require: "import what it needs (`import x from 'x'`), or make one: `createRequire(import.meta.url)` of node:module",
  module: 'use `export`',
  exports: 'use `export`',
  __dirname: 'use `import.meta.dirname`',
  __filename: 'use `import.meta.filename`',
}

function namesOfCommonJs({ message, stack }: LoadFault): string | null {
  const [said = '', name = ''] = /^(\w+) is not defined in ES module scope/.exec(message) ?? []
  const instead = INSTEAD[name], place = placeOf(stack)
  if (instead === undefined || place === null) return null
  return `${whereIn(stack)}: ${said} (${whyModule(place.file)}); ${instead}`
}

function bothKinds({ code, stack }: LoadFault): string | null {
  if (code !== 'ERR_AMBIGUOUS_MODULE_SYNTAX') return null
  const both = 'require() and an await outside of functions are in one file, which no kind of module may have'
  return `${whereIn(stack)}: ${both}; import what it requires`
}

function requiredAndAwaits({ code, message, stack }: LoadFault): string | null {
  if (code !== 'ERR_REQUIRE_ASYNC_MODULE') return null
  const required = /^Required module: (.+)$/m.exec(message)?.[1]
  const by = /^Require stack:\n- (.+)$/m.exec(message)?.[1] ?? placeOf(stack)?.file
  const asModule = by === undefined ? 'Make the requiring file an ES module' : `Make ${shown(by)} an ES module`
  const what = required === undefined ? 'a module' : shown(required)
  return `require() cannot load ${what}, which waits (top-level await), or imports one that does. ${asModule} and import it there`
}

// Imports that find nothing.

function notExported({ message, stack }: LoadFault): string | null {
  const [, from = '', name = ''] = /^The requested module '(.+)' does not provide an export named '(.+)'$/.exec(message) ?? []
  const place = name === '' ? null : placeOf(stack)
  if (place === null) return null
  const isPath = PATH.test(from)
  const file = isPath ? path.resolve(path.dirname(place.file), from) : ''
  const why = isPath && fs.existsSync(file) ? whyCommonJs(file) : null
  // What it exports in the syntax of modules is then not seen.
  const where = whereIn(stack)
  if (why !== null) return `${where}: ${message}; ${shown(file)} is loaded as CommonJS, ${why}`
  const offered = exportsOf(place.file, from)
  if (name === 'default') return `${where}: ${message}${offered.length === 0 ? '' : `; name what you want: ${inBraces(offered, from)}`}`
  const near = nearestWord(name, offered)
  if (near !== null) return `${where}: ${message}; it has ${near}`
  if (!/\.m?ts$/.test(place.file)) return `${where}: ${message}`
  return `${where}: ${message}; if it is a type, say so, because types are gone when it runs: \`import { type ${name} } from '${from}'\``
}

function inBraces(names: readonly string[], from: string): string {
  const shownNames = names.length > MAX_OFFERED ? `${names.slice(0, MAX_OFFERED).join(', ')}, ...` : names.join(', ')
  return `\`import { ${shownNames} } from '${from}'\``
}

/** More names help nobody. */
const MAX_OFFERED = 4

/** What a module that is there has of values. It is run for that, as it would have been; [] when that does not work. */
function exportsOf(importer: string, specifier: string): readonly string[] {
  try {
    const module: unknown = createRequire(importer)(specifier)
    return Object.keys(module as object).filter(name => name !== 'default')
  } catch { return [] }
}

/** A specifier that is a path and no name of a package. */
const PATH = /^\.{0,2}\//
const ENDINGS = ['.ts', '.mts', '.js', '.mjs', '.cts', '.cjs', '.json', '/index.ts', '/index.js']

function notFound({ message, stack, code, url }: LoadFault): ErrorText | null {
  const isDirectory = code === 'ERR_UNSUPPORTED_DIR_IMPORT'
  if (!isDirectory && code !== 'ERR_MODULE_NOT_FOUND') return null
  const importer = / imported from (.+)$/.exec(message)?.[1]
  if (importer === undefined || !url.startsWith('file:')) return null
  const wanted = fileURLToPath(url)
  const what = isDirectory ? `${shown(wanted)} is a folder` : `there is no ${shown(wanted)}`
  return atImport(importer, specifier => pathOf(specifier, importer) === wanted, what + insteadOf(wanted, importer), stack)
}

function insteadOf(wanted: string, importer: string): string {
  const found = meantBy(wanted)
  if (found === null) return ''
  const name = path.relative(path.dirname(importer), found).replaceAll(path.sep, '/')
  const specifier = name.startsWith('.') ? name : `./${name}`
  return `; there is ${shown(found)}: import '${specifier}', the name of a file with its ending`
}

/** The file that is there, by another ending or nearly by this name; null when none is. */
function meantBy(wanted: string): string | null {
  const stem = wanted.replace(/\.[cm]?[jt]sx?$/, '')
  const other = ENDINGS.map(ending => stem + ending).find(file => file !== wanted && fs.statSync(file, { throwIfNoEntry: false })?.isFile())
  if (other !== undefined) return other
  const folder = path.dirname(wanted)
  const files = fs.readdirSync(folder, { withFileTypes: true }).filter(entry => entry.isFile()).map(({ name }) => name)
  const near = nearestWord(path.basename(wanted), files)
  return near === null ? null : path.join(folder, near)
}

function packageMissing({ message, stack, code }: LoadFault): ErrorText | null {
  const [, name = '', importer = ''] = /^Cannot find package '(.+)' imported from (.+)$/.exec(message) ?? []
  if (code !== 'ERR_MODULE_NOT_FOUND' || name === '') return null
  const manifest = nearestManifest(importer)
  const where = manifest === null ? '' : ` in ${shown(path.dirname(manifest)) || '.'}`
  const imports = (specifier: string): boolean => specifier === name || specifier.startsWith(`${name}/`)
  return atImport(importer, imports, `there is no package ${name}; run \`npm install ${name}\`${where}`, stack)
}

/** '' when it is the name of a package. */
function pathOf(specifier: string, importer: string): string {
  return PATH.test(specifier) ? path.resolve(path.dirname(importer), specifier) : ''
}

/** The message with the place of the import, which no stack of Node.js has. @param imports whether a specifier is the one */
function atImport(importer: string, imports: (specifier: string) => boolean, message: string, stack: string): ErrorText {
  return importIn(importer, imports, message, stack) ?? { message: `${shown(importer)}: ${message}`, stack }
}

/** The same of what one of the files that were read imports, when Node.js does not say which; the last ones first. */
function atImportOf(wanted: string, { loaded, stack }: LoadFault, message: string): ErrorText {
  for (const importer of loaded.toReversed()) {
    if (importer.includes('/node_modules/')) continue
    const found = importIn(importer, specifier => pathOf(specifier, importer) === wanted, message, stack)
    if (found !== null) return found
  }
  return { message, stack }
}

/** @returns null when there is no such import in plain words. */
function importIn(importer: string, imports: (specifier: string) => boolean, message: string, stack: string): ErrorText | null {
  const lines = fs.readFileSync(importer, 'utf8').split('\n')
  for (const [index, line] of lines.entries()) {
    for (const { 0: quoted, index: column } of line.matchAll(/'[^']*'|"[^"]*"/g)) {
      if (!imports(quoted.slice(1, -1))) continue
      const head = headOf(importer, index + 1, line, column + 1)
      return { message: `${shown(importer)}:${index + 1}: ${message}`, stack: head + stack }
    }
  }
  return null
}

function attributeMissing(fault: LoadFault): ErrorText | null {
  const [, url = ''] = /^Module "(file:.+)" needs an import attribute of "type: json"$/.exec(fault.message) ?? []
  if (fault.code !== 'ERR_IMPORT_ATTRIBUTE_MISSING' || url === '') return null
  const file = fileURLToPath(url)
  return atImportOf(file, fault, `${fault.message}: import it \`with { type: 'json' }\``)
}

function unknownEnding(fault: LoadFault): ErrorText | null {
  const [, ending = '', file = ''] = /^Unknown file extension "(.+?)" for (.+)$/.exec(fault.message) ?? []
  if (fault.code !== 'ERR_UNKNOWN_FILE_EXTENSION' || !/^\.[jt]sx$/.test(ending)) return null
  return atImportOf(file, fault, `${fault.message}; Node.js runs no JSX: call it ${ending.slice(0, -1)} when there is none in it`)
}

// TypeScript that is more than types, and what cannot be parsed.


const WITHOUT: readonly (readonly [RegExp, string])[] = [
  [/enum/, 'use an object `as const`, or a union of literals'],
  [/parameter property/, 'declare the field and assign it in the constructor'],
  [/namespace|module/, 'use a module of its own'],
  [/import equals/, "use `import x from 'x'`"],
  [/export assignment/, 'use `export default`'],
]

function typescriptBeyondTypes({ message, code, stack }: LoadFault): string | null {
  const isPlain = code === 'ERR_INVALID_TYPESCRIPT_SYNTAX'
  const place = isPlain || code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX' ? placeOf(stack) : null
  if (place === null) return null
  if (isPlain) {
    const line = fs.readFileSync(place.file, 'utf8').split('\n')[place.line - 1] ?? ''
    return `${whereIn(stack)}: ${message}${/<\/?[\w.]+[^<>]*>/.test(line) ? '; if this is JSX, Node.js runs none' : ''}`
  }
  if (message.includes('Instead, ')) return `${whereIn(stack)}: ${message}`
  const instead = WITHOUT.find(([construct]) => construct.test(message))?.[1] ?? 'use what plain JavaScript has'
  return `${whereIn(stack)}: ${message}: Node.js only takes the types out; ${instead}`
}

/** Node.js does not say which file it was that V8 could not parse: JavaScript, or what was left when the types were out. */
function unplacedSyntax({ message, stack, loaded }: LoadFault): ErrorText | null {
  const isUnplaced = /^ {4}at (.*)$/m.exec(stack)?.[1]?.startsWith('compileSourceTextModule (node:')
  const lastLoaded = loaded.at(-1)
  if (isUnplaced !== true || lastLoaded === undefined) return null
  const source = fs.readFileSync(lastLoaded, 'utf8')
  const lines = source.split('\n')
  const decorated = lines.findIndex(line => /^\s*@[\w$]/.test(line))
  if (decorated !== -1 && message === 'Invalid or unexpected token') {
    const head = headOf(lastLoaded, decorated + 1, lines[decorated]!, lines[decorated]!.indexOf('@') + 1)
    const cure = 'decorators are not JavaScript yet, and Node.js only takes the types out; call the decorating function yourself'
    return { message: `${shown(lastLoaded)}:${decorated + 1}: ${message}: ${cure}`, stack: head + stack }
  }
  const place = placeOfFault(lastLoaded, source)
  if (place === null) return { message: `${shown(lastLoaded)}: ${message}`, stack }
  const head = headOf(lastLoaded, place.line, lines[place.line - 1]!, place.column)
  return { message: `${shown(lastLoaded)}:${place.line}: ${message}`, stack: head + stack }
}

/** Asks the parser that takes types out, which says where: plain JavaScript has none to be taken. Null when it finds no fault. */
function placeOfFault(file: string, source: string): { line: number; column: number } | null {
  try {
    stripTypeScriptTypes(source, { sourceUrl: file })
    return null
  } catch (error) {
    const { stack } = describeError(error)
    const line = Number(/:(\d+)$/.exec(stack.split('\n', 1)[0]!)?.[1])
    const mark = /^ *\^/m.exec(stack)?.[0].length ?? 1
    return Number.isNaN(line) ? null : { line, column: mark }
  }
}

/** As Node.js writes it before a stack. */
function headOf(file: string, line: number, text: string, column: number): string {
  return `${file}:${line}\n${text}\n${' '.repeat(column - 1)}^\n\n`
}

// Places.

interface Place { readonly file: string; readonly line: number }

/** Where Node.js could not go on reading, at the head of a stack, or else its first place that is no part of Node.js. */
function placeOf(stack: string): Place | null {
  const head = /^((?:file:\/\/)?\/.+):(\d+)$/m.exec(stack.split('\n', 1)[0]!)
  const [, at, line] = head ?? /^ {4}at (?:.*\()?(?:async )?((?:file:\/\/)?\/.+?):(\d+):\d+\)?$/m.exec(stack) ?? []
  if (at === undefined) return null
  return { file: at.startsWith('file:') ? fileURLToPath(at) : at, line: Number(line) }
}

function whereIn(stack: string): string {
  const place = placeOf(stack)
  return place === null ? 'this file' : `${shown(place.file)}:${place.line}`
}

/** As a person calls it who is in this folder. */
function shown(file: string): string {
  const relative = path.relative('', file)
  return relative.startsWith('..') ? file : relative
}

function codeAndUrl(error: unknown): { code: string; url: string } {
  try {
    const { code, url } = (error ?? {}) as { code?: unknown; url?: unknown }
    return { code: typeof code === 'string' ? code : '', url: typeof url === 'string' ? url : '' }
  } catch { return { code: '', url: '' } }
}
