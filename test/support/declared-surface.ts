/**
 * What the declarations of the published package offer: every name of its entry, with the comment above it and the members that
 * an editor would show. The declarations are made as `npm run build` makes them; they are read as text, line by line, which
 * the compiler writes in one form only.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.join(import.meta.dirname, '../..')

export interface DeclaredName {
  readonly name: string
  /** `class`, `interface`, `type`, `function`, `const`. */
  readonly kind: string
  /** File of the declarations that it stands in. */
  readonly file: string
  /** Path of the source that this was made of, below the root. */
  readonly source: string
  /** The comment right above it; '' when there is none. */
  readonly doc: string
  /** What stands in its body at the first level, in order, an overloaded one once. */
  readonly members: readonly DeclaredMember[]
  /** The declaration itself. */
  readonly text: string
}

export interface DeclaredMember {
  readonly name: string
  readonly doc: string
}

/** Writes the declarations to `folder`. @throws with the compiler's own words */
export function writeDeclarations(folder: string): void {
  const tsc = path.join(ROOT, 'node_modules/.bin/tsc')
  const args = ['--project', 'tsconfig.build.json', '--emitDeclarationOnly', '--outDir', folder]
  const { status, stdout } = spawnSync(tsc, args, { cwd: ROOT, encoding: 'utf8' })
  if (status !== 0) throw new Error(`no declarations:\n${stdout}`)
}

/** Every name of an entry in `folder`, in its order. @param file `src/index.d.ts`, or another entry */
export function declaredNames(folder: string, file = 'src/index.d.ts'): DeclaredName[] {
  const entry = path.join(folder, file)
  const names: DeclaredName[] = []
  for (const [, list, from] of readFileSync(entry, 'utf8').matchAll(/export (?:type )?\{([^}]*)\} from '([^']+)'/g)) {
    for (const written of list!.split(',')) {
      const name = written.replace(/\btype\b/, '').trim()
      if (name !== '') names.push(declarationOf(folder, path.join(path.dirname(entry), from!.replace(/\.[jt]s$/, '.d.ts')), name))
    }
  }
  return names
}

/** `names`, and behind them the interfaces and classes of ours that they extend, whose members are theirs; each once. */
export function withBases(folder: string, names: readonly DeclaredName[]): DeclaredName[] {
  const all = new Map(names.map(one => [`${one.file} ${one.name}`, one]))
  for (const { file, kind, text } of all.values()) {
    const extended = kind === 'class' || kind === 'interface' ? /\bextends (.*) \{$/m.exec(text.split('\n')[0]!)?.[1] ?? '' : ''
    for (const [name] of extended.matchAll(/\b[A-Z]\w*/g)) {
      const base = foundDeclaration(folder, file, name)
      if (base !== null) all.set(`${base.file} ${base.name}`, base)
    }
  }
  return [...all.values()]
}

function declarationOf(folder: string, file: string, name: string): DeclaredName {
  const found = foundDeclaration(folder, file, name)
  if (found === null) throw new Error(`${file} does not declare ${name}`)
  return found
}

/** Null for what is of the language, such as `Error`, and for a type parameter. */
function foundDeclaration(folder: string, file: string, name: string): DeclaredName | null {
  const text = readFileSync(file, 'utf8')
  const found = new RegExp(`^export (?:declare )?(?:abstract )?(class|interface|type|function|const|let) ${name}\\b`, 'm').exec(text)
  if (found === null) {
    const passedOn = new RegExp(`export (?:type )?\\{[^}]*\\b${name}\\b[^}]*\\} from '([^']+)'`).exec(text)
    const imported = new RegExp(`import (?:type )?\\{[^}]*\\b${name}\\b[^}]*\\} from '([^']+)'`).exec(text)
    const from = (passedOn ?? imported)?.[1]
    if (from === undefined || !from.startsWith('.')) return null
    return foundDeclaration(folder, path.join(path.dirname(file), from.replace(/\.[jt]s$/, '.d.ts')), name)
  }
  const declaration = text.slice(found.index), end = /^\}.*$|;$/m.exec(declaration)!
  const body = declaration.slice(0, /\{$/m.test(declaration.split('\n')[0]!) ? declaration.search(/^\}/m) : end.index)
  const source = path.relative(folder, file).replace(/\.d\.ts$/, '.ts')
  return { name, kind: found[1]!, file, source, doc: docAbove(text.slice(0, found.index)), members: membersOf(body), text: body }
}

/** The comment that ends where `before` does. */
function docAbove(before: string): string {
  if (!before.endsWith('*/\n')) return ''
  return before.slice(before.lastIndexOf('/**')).trim()
}

/** A member at the first level, behind what modifies it; a signature without a name begins with its bracket. */
const MEMBER = /^ {4}(?:(?:static|readonly|abstract|protected|private|get|set) )*(\[[^\]]+\]|'[^']+'|[\w$]+|(?=[(<]))\??(?: =|[(:<;])/

function membersOf(body: string): DeclaredMember[] {
  const members = new Map<string, string>()
  let doc: string[] = []
  for (const line of body.split('\n')) {
    if (/^ {4}(?: ?\*|\/\*\*)/.test(line)) {
      doc.push(line.trim())
      continue
    }
    const name = MEMBER.exec(line)?.[1]
    if (name !== undefined && !line.includes('#private') && !members.has(name)) members.set(name, doc.join('\n'))
    if (/^ {4}\S/.test(line)) doc = []
  }
  return [...members].map(([name, text]) => ({ name, doc: text }))
}
