/**
 * The fenced blocks of a page, and what its reader is not told because it can be seen: a block of TypeScript that imports nothing from
 * the package is given what it names of it, one that begins with `// app.ts` is that file of the reader's, and a comment behind
 * `console.log(...)` is what that line prints.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { importsOf, maskText } from '../../scripts/source-text.ts'

export interface PageBlock {
  readonly page: string
  /** Of its first line of code, which counts from 1. */
  readonly line: number
  /** First word behind the fence; '' for none. */
  readonly language: string
  /** Further words: `fragment`. */
  readonly words: readonly string[]
  readonly text: string
}

const FENCE = /^( *)```(.*)$/

/** @throws Error that says where, for a fence that is indented or is not closed */
export function pageBlocks(root: string, page: string): PageBlock[] {
  const blocks: PageBlock[] = []
  let open: { line: number; language: string; words: string[]; lines: string[] } | null = null
  for (const [index, line] of readFileSync(path.join(root, page), 'utf8').split('\n').entries()) {
    const [fence, indent = '', says = ''] = FENCE.exec(line) ?? []
    if (fence === undefined) {
      open?.lines.push(line)
      continue
    }
    if (indent !== '') throw new Error(`${page}:${index + 1}: an indented fence; begin it where the line begins`)
    if (open !== null) {
      const { lines, ...rest } = open
      blocks.push({ page, ...rest, text: `${lines.join('\n')}\n` })
      open = null
    } else {
      const [language = '', ...words] = says.trim().split(/ +/)
      open = { line: index + 2, language, words, lines: [] }
    }
  }
  if (open !== null) throw new Error(`${page}:${open.line - 1}: a fence that is not closed`)
  return blocks
}

/** A block of TypeScript as a file of the reader's; its lines keep their numbers. */
export interface SampleFile {
  readonly block: PageBlock
  /** Beside the other samples of its page. */
  readonly name: string
  readonly text: string
  /** What it says that it prints, a line each; null when it does not say. */
  readonly prints: readonly string[] | null
}

/**
 * @param exported what the package exports, and whether that is a type
 * @throws Error that says where, for a sample that names what it prints only in some places
 */
export function sampleOf(block: PageBlock, exported: ReadonlyMap<string, 'type' | 'value'>): SampleFile {
  const name = /^\/\/ ([\w.-]+\.ts)\n/.exec(block.text)?.[1] ?? `line-${block.line}.ts`
  const code = maskText(block.text)
  const codeLines = code.split('\n')
  const logs = block.text.split('\n').filter((_, index) => codeLines[index]?.includes('console.log('))
  const says = logs.map(line => /console\.log\(.*\) \/\/ (.*)$/.exec(line)?.[1] ?? null)
  if (says.includes(null) && says.some(one => one !== null)) {
    throw new Error(`${block.page}:${block.line}: some console.log say what they print, and some do not; let all of them say it, or none`)
  }
  const prints = logs.length === 0 || says.includes(null) ? null : says as string[]
  return { block, name, text: withImports(block.text, code, exported), prints }
}

function withImports(text: string, code: string, exported: ReadonlyMap<string, 'type' | 'value'>): string {
  if (importsOf(text).some(({ specifier }) => specifier === 'cirque')) return text
  const words = new Set(code.match(/(?<![\w$#]|(?<!\.\.)\.)[A-Za-z_]\w*/g))
  const declared = new Set([...code.matchAll(/\b(?:class|const|function|interface|let|type) (\w+)/g)].map(match => match[1]))
  const names = [...exported].filter(([name]) => words.has(name) && !declared.has(name))
  const written = names.map(([name, kind]) => kind === 'type' ? `type ${name}` : name)
  // What a sample declares is used by its reader.
  const own = [...code.matchAll(/^(?:class|const|function) (\w+)/gm)].map(match => match[1])
  const exports = own.length === 0 ? '' : `export { ${own.join(', ')} }\n`
  return written.length === 0 ? `${text}${exports}` : `import { ${written.join(', ')} } from 'cirque'; ${text}${exports}`
}

/** Every name that `src/index.ts` exports, and whether that is a type. */
export function exportedNames(root: string): ReadonlyMap<string, 'type' | 'value'> {
  const names = new Map<string, 'type' | 'value'>()
  const text = readFileSync(path.join(root, 'src/index.ts'), 'utf8')
  for (const [, typeOnly = '', list = ''] of text.matchAll(/^export (type )?\{(.*?)\} from/gms)) {
    for (const written of list.split(',').map(one => one.trim()).filter(one => one !== '')) {
      const name = written.replace(/^type /, '')
      names.set(name, typeOnly !== '' || name !== written ? 'type' : 'value')
    }
  }
  return names
}
