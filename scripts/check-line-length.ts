/**
 * Holds lines of code and comments to LINE_MAX characters: a longer line has a clause in it that wants a name of its own.
 * Two kinds of lines have no place to break and may be longer: an import of one name, and a line with an address (a URL)
 * that is most of it.
 * A file of the product with more than FILE_LINE_MAX lines says in its header why it is one idea.
 *
 * `node scripts/check-line-length.ts [root]` prints one `file:line: what was found, what would do` a fault in the folders
 * of ENFORCED and exits with 1. `--list` looks at NOT_YET as well, prints one `count folder` each and exits with 0.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { printFinding, type Finding } from './source-text.ts'

export const LINE_MAX = 140
/** A longer file holds two ideas, unless its header has a sentence that begins with REASON. */
export const FILE_LINE_MAX = 500
export const REASON = `One idea in more than ${FILE_LINE_MAX} lines:`
/** Whose files are held to that: the product, not its tests and tools. */
const PRODUCT: readonly string[] = ['create/', 'src/', 'supervisor/', 'workers/']
/** An address that leaves less than this for the rest of the line is what makes the line long. */
const ADDRESS_MIN = 80

/** Where a long line fails the check: all code of ours. A folder ends with a slash and stands for all below it. */
const ENFORCED: readonly string[] = ['create/', 'examples/', 'scripts/', 'src/', 'supervisor/', 'test/', 'workers/']

const ENDINGS = ['.ts', '.mjs']
const IMPORT_OF_ONE = /^(?:import|export) (?:type )?(?:\{ [\w$]+(?: as [\w$]+)? \}|[\w$]+|\* as [\w$]+) from '[^']+'$/
const ADDRESS = new RegExp(`https?://\\S{${ADDRESS_MIN},}`)

/** Lines of `text` that are too long, counted from 1, with their length. */
export function longLines(text: string): { line: number; length: number }[] {
  const found: { line: number; length: number }[] = []
  for (const [index, line] of text.split('\n').entries()) {
    if (line.length <= LINE_MAX || IMPORT_OF_ONE.test(line) || ADDRESS.test(line)) continue
    found.push({ line: index + 1, length: line.length })
  }
  return found
}

/** @param places folders with a slash at their end, or single files, relative to `root`. */
export function checkLineLength(root: string, places: readonly string[]): Finding[] {
  const findings: Finding[] = []
  for (const file of places.flatMap(place => filesOf(root, place)).toSorted()) {
    for (const { line, length } of longLines(readFileSync(path.join(root, file), 'utf8'))) {
      findings.push({ file, line, text: `has ${length} characters; name a part of it, or break it, so that it has at most ${LINE_MAX}` })
    }
  }
  return findings
}

/** Files of `places` that are long and do not say why. */
export function checkFileLength(root: string, places: readonly string[]): Finding[] {
  const findings: Finding[] = []
  for (const file of places.flatMap(place => filesOf(root, place)).toSorted()) {
    const text = readFileSync(path.join(root, file), 'utf8'), lines = text.split('\n').length - 1
    const header = text.slice(0, Math.max(0, text.indexOf('*/')))
    if (lines <= FILE_LINE_MAX || header.includes(REASON)) continue
    findings.push({ file, line: 1, text: `has ${lines} lines; move an idea out, or say in the header: ${REASON} ...` })
  }
  return findings
}

function filesOf(root: string, place: string): string[] {
  if (!place.endsWith('/')) return [place]
  return readdirSync(path.join(root, place), { recursive: true, encoding: 'utf8' })
    .filter(name => ENDINGS.some(ending => name.endsWith(ending)))
    .map(name => place + name.replaceAll(path.sep, '/'))
}

if (import.meta.main) {
  const root = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, '..'))
  const findings = [...checkLineLength(root, ENFORCED), ...checkFileLength(root, PRODUCT)]
  for (const finding of findings) console.error(printFinding(finding))
  process.exitCode = findings.length === 0 ? 0 : 1
}
