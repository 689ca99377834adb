/**
 * What the checks read out of TypeScript text: its imports, and its interfaces with their doc comments.
 * A small lexer blanks comments and the insides of strings first, so that the patterns see code only. It is no parser:
 * TypeScript 7 has no stable compiler interface yet, and these two questions do not need one.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'

export interface Finding {
  /** Relative to the root that was checked. */
  readonly file: string
  readonly line: number
  /** What was found, then what would do. */
  readonly text: string
}

export function printFinding(finding: Finding): string { return `${finding.file}:${finding.line}: ${finding.text}` }

export interface ImportSite {
  readonly specifier: string
  readonly line: number
  /**
   * Whether the import disappears when types are stripped. `import { type A }` does not count: with
   * `verbatimModuleSyntax` an empty import stays behind and loads the module.
   */
  readonly typeOnly: boolean
  readonly dynamic: boolean
  /** Names taken in braces, as exported; `default` and `*` for the other two forms. */
  readonly names: readonly string[]
}

export interface InterfaceField {
  readonly name: string
  readonly optional: boolean
  /** The declared type of a plain field, comments and the insides of strings left out; '' for methods. */
  readonly type: string
  readonly line: number
  /** Text of the doc comment without its stars; '' for none. */
  readonly doc: string
}

export interface InterfaceText {
  readonly name: string
  readonly line: number
  readonly exported: boolean
  /** Names behind `extends`, type arguments and all. */
  readonly parents: readonly string[]
  readonly fields: readonly InterfaceField[]
}

const SKIPPED_FOLDERS: ReadonlySet<string> = new Set(['node_modules', 'build', '.git'])

/** Every .ts file under `root`, relative to it, with forward slashes, sorted. */
export function listTypeScript(root: string): string[] {
  const found: string[] = []
  const walk = (folder: string): void => {
    for (const entry of readdirSync(path.join(root, folder), { withFileTypes: true })) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) {
        if (!SKIPPED_FOLDERS.has(entry.name)) walk(name)
      } else if (entry.isFile() && entry.name.endsWith('.ts')) {
        found.push(name)
      }
    }
  }
  walk('')
  return found.toSorted()
}

export function isFile(name: string): boolean {
  return statSync(name, { throwIfNoEntry: false })?.isFile() ?? false
}

/** Words after which a slash begins a regular expression; after other words it divides. */
const BEFORE_REGEX: ReadonlySet<string> = new Set([
  'return', 'typeof', 'case', 'in', 'of', 'else', 'do', 'void', 'delete', 'instanceof', 'await', 'yield', 'throw',
])

/** The same text with comments and the insides of strings, templates and regular expressions replaced by blanks; line breaks stay. */
export function maskText(text: string): string {
  const out = text.split('')
  /** Depth of braces at which each open `${` of a template returns to its text. */
  const templates: number[] = []
  let depth = 0
  let last = ''
  let word = ''
  let at = 0

  const blank = (from: number, to: number): void => {
    for (let index = from; index < to; index++) if (out[index] !== '\n') out[index] = ' '
  }
  const skipQuoted = (quote: string): void => {
    const from = at + 1
    at++
    while (at < text.length && text[at] !== quote && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1
    blank(from, Math.min(at, text.length))
    at++
  }
  /** From the character after a backtick or a closing brace to the next backtick or `${`. */
  const skipTemplate = (): void => {
    const from = at
    while (at < text.length && text[at] !== '`' && !(text[at] === '$' && text[at + 1] === '{')) at += text[at] === '\\' ? 2 : 1
    blank(from, Math.min(at, text.length))
    if (text[at] === '$') {
      templates.push(depth)
      depth++
      at += 2
      last = '{'
    } else {
      at++
      last = '`'
    }
  }
  const skipRegex = (): void => {
    const from = at + 1
    let inClass = false
    at++
    while (at < text.length && text[at] !== '\n' && (inClass || text[at] !== '/')) {
      if (text[at] === '[') inClass = true
      else if (text[at] === ']') inClass = false
      at += text[at] === '\\' ? 2 : 1
    }
    blank(from, Math.min(at, text.length))
    at++
  }

  while (at < text.length) {
    const char = text[at] ?? ''
    const next = text[at + 1]
    if (char === '/' && next === '/') {
      const from = at
      while (at < text.length && text[at] !== '\n') at++
      blank(from, at)
    } else if (char === '/' && next === '*') {
      const from = at
      const end = text.indexOf('*/', at + 2)
      at = end < 0 ? text.length : end + 2
      blank(from, at)
    } else if (char === '\'' || char === '"') {
      skipQuoted(char)
      last = char
      word = ''
    } else if (char === '`') {
      at++
      skipTemplate()
      word = ''
    } else if (char === '/' && (last === '' || '(,=:[!&|?{};+-*%<>~^'.includes(last) || BEFORE_REGEX.has(word))) {
      skipRegex()
      last = '/'
      word = ''
    } else if (char === '}' && templates.length > 0 && templates.at(-1) === depth - 1) {
      templates.pop()
      depth--
      at++
      skipTemplate()
      word = ''
    } else {
      if (char === '{') depth++
      else if (char === '}') depth--
      if (/[\w$]/.test(char)) {
        word = /[\w$]/.test(text[at - 1] ?? '') ? word + char : char
        last = char
      } else if (!/\s/.test(char)) {
        word = ''
        last = char
      }
      at++
    }
  }
  return out.join('')
}

function lineOf(text: string, index: number): number {
  let line = 1
  for (let at = text.indexOf('\n'); at >= 0 && at < index; at = text.indexOf('\n', at + 1)) line++
  return line
}

function namesOf(clause: string): string[] {
  const names: string[] = []
  const braces = /\{([^}]*)\}/.exec(clause)
  for (const part of braces?.[1]?.split(',') ?? []) {
    const name = part.trim().replace(/^type\s+/, '').split(/\s+as\s+/)[0] ?? ''
    if (name !== '') names.push(name)
  }
  const outside = clause.replace(/\{[^}]*\}/, '').replace(/^type\s+/, '').replace(/\bfrom\s*$/, '')
  if (outside.includes('*')) names.push('*')
  if (/^\s*[\w$]+/.test(outside)) names.push('default')
  return names
}

/** Every import, re-export and `import()` with a literal specifier, in order. */
export function importsOf(text: string): ImportSite[] {
  const masked = maskText(text)
  const sites: { index: number; site: ImportSite }[] = []
  const specifierAt = (quoteIndex: number): string => {
    const quote = text[quoteIndex] ?? ''
    return text.slice(quoteIndex + 1, text.indexOf(quote, quoteIndex + 1))
  }
  const add = (index: number, quoteIndex: number, typeOnly: boolean, dynamic: boolean, names: readonly string[]): void => {
    sites.push({ index, site: { specifier: specifierAt(quoteIndex), line: lineOf(text, index), typeOnly, dynamic, names } })
  }
  for (const match of masked.matchAll(/(?<=^|[;{}\n])[ \t]*(import\b(?!\s*[.(])\s*([^'"`;]*?)\s*)['"]/g)) {
    const clause = match[2] ?? ''
    const index = match.index + match[0].indexOf('import')
    add(index, match.index + match[0].length - 1, /^type\s+(?!from\s*$)/.test(clause), false, namesOf(clause))
  }
  for (const match of masked.matchAll(/\bexport\b\s*((?:type\s+)?(?:\*(?:\s*as\s+[\w$]+)?|\{[^}]*\}))\s*from\s*['"]/g)) {
    const clause = match[1] ?? ''
    add(match.index, match.index + match[0].length - 1, clause.startsWith('type'), false, namesOf(clause))
  }
  for (const match of masked.matchAll(/(?<![.\w$])(typeof\s+)?import\s*\(\s*['"`]/g)) {
    const quoteIndex = match.index + match[0].length - 1
    const after = masked.slice(masked.indexOf(masked[quoteIndex] ?? '', quoteIndex + 1) + 1)
    // `import('./a.ts').Name` stands for a type, `import('./a.ts').then` does not.
    const typeOnly = match[1] !== undefined || /^\s*\)\s*\.\s*[A-Z]/.test(after)
    add(match.index, quoteIndex, typeOnly, true, ['*'])
  }
  return sites.toSorted((left, right) => left.index - right.index).map(({ site }) => site)
}

/** The doc comment that ends right before `index`, as one line of text; '' for none. */
function docBefore(text: string, index: number): string {
  const before = text.slice(0, index).trimEnd()
  if (!before.endsWith('*/')) return ''
  const start = before.lastIndexOf('/**')
  if (start < 0 || before.indexOf('*/', start) !== before.length - 2) return ''
  return before.slice(start + 3, -2).split('\n').map(line => line.trim().replace(/^\*\s?/, '')).join(' ').trim()
}

/** Interfaces with their own fields; methods count as fields. */
export function interfacesOf(text: string): InterfaceText[] {
  const masked = maskText(text)
  const found: InterfaceText[] = []
  for (const match of masked.matchAll(/(?<=^|[;{}\n])[ \t]*(export\s+)?interface\s+([\w$]+)(?:\s*<[^{]*>)?\s*(?:extends\s+([^{]+))?\{/g)) {
    const open = match.index + match[0].length
    const fields: InterfaceField[] = []
    let depth = 0
    let start = open
    let close = open
    const takeField = (end: number): void => {
      const name = /^\s*(?:readonly\s+)?([\w$]+)(\?)?\s*[:(<]/.exec(masked.slice(start, end))
      if (name === null) return
      const nameIndex = start + name[0].search(/\S/)
      const type = name[0].endsWith(':') ? masked.slice(start + name[0].length, end).trim() : ''
      fields.push({ name: name[1] ?? '', optional: name[2] === '?', type, line: lineOf(text, nameIndex), doc: docBefore(text, nameIndex) })
    }
    for (; close < masked.length; close++) {
      const char = masked[close]
      if (char === '}' && depth === 0) break
      if (char === '{' || char === '(' || char === '[') depth++
      else if (char === '}' || char === ')' || char === ']') depth--
      else if (depth === 0 && (char === ';' || char === '\n') && masked.slice(start, close).trim() !== '' && !continues(masked, close)) {
        takeField(close)
        start = close + 1
      }
    }
    takeField(close)
    found.push({
      name: match[2] ?? '', exported: match[1] !== undefined, line: lineOf(text, match.index + match[0].search(/\S/)),
      parents: (match[3] ?? '').split(/,(?![^<]*>)/).map(parent => parent.trim()).filter(parent => parent !== ''), fields,
    })
  }
  return found
}

export interface DeclaredInterface extends InterfaceText { readonly file: string }

/** Every interface of the folders that make the package, by name; names are unique where options are concerned. */
export function declaredInterfaces(root: string): Map<string, DeclaredInterface> {
  const declared = new Map<string, DeclaredInterface>()
  for (const file of listTypeScript(root).filter(name => /^(?:src|supervisor|workers)\//.test(name))) {
    for (const found of interfacesOf(readFileSync(path.join(root, file), 'utf8'))) declared.set(found.name, { ...found, file })
  }
  return declared
}

/** Fields of all parents; null when a parent is not an interface of ours. */
export function inheritedFields(options: InterfaceText, declared: ReadonlyMap<string, InterfaceText>): InterfaceField[] | null {
  const fields: InterfaceField[] = []
  for (const parent of options.parents) {
    const found = declared.get(parent)
    const above = found === undefined ? null : inheritedFields(found, declared)
    if (found === undefined || above === null) return null
    fields.push(...above, ...found.fields)
  }
  return fields
}

/** What a doc comment says after `@default`; null when it says nothing. */
export function defaultText(field: InterfaceField): string | null {
  return /@default\s+(.+?)(?:\s+@\w|$)/.exec(field.doc)?.[1]?.trim() ?? null
}

/** Whether the type of a field goes on after the line break at `index` (a union or an arrow on the next line). */
function continues(masked: string, index: number): boolean {
  return masked[index] === '\n' && (/^\s*(?:[|&?]|=>)/.test(masked.slice(index)) || /(?:[|&:,(]|=>)\s*$/.test(masked.slice(0, index)))
}
