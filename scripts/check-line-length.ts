/**
 * Holds lines of code and comments to LINE_MAX characters: a longer line has a clause in it that wants a name of its own.
 * Two kinds of lines have no place to break and may be longer: an import of one name, and a line with an address (a URL)
 * that is most of it.
 *
 * `node scripts/check-line-length.ts [root]` prints one `file:line: what was found, what would do` a fault in the folders
 * of ENFORCED and exits with 1. `--list` looks at NOT_YET as well, prints one `count folder` each and exits with 0.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { printFinding, type Finding } from './source-text.ts'

export const LINE_MAX = 140
/** An address that leaves less than this for the rest of the line is what makes the line long. */
const ADDRESS_MIN = 80

/** Where a long line fails the check: all code of ours. A folder ends with a slash and stands for all below it. */
const ENFORCED: readonly string[] = ['examples/', 'scripts/', 'src/', 'supervisor/', 'test/', 'workers/']
/**
 * Places within those that still have long lines, written the same way. `--list` counts them; a place leaves this list when
 * `--list` has nothing to say of it, and the list goes with its last place.
 */
const NOT_YET: readonly string[] = [
  'src/protocols/http1/server-session.ts', 'src/proxy/', 'src/server/', 'test/proxy/exchange-model.test.ts', 'test/server/',
  'test/support/exchange-world.ts', 'test/support/memory-stream.ts',
]

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

/**
 * @param places folders with a slash at their end, or single files, relative to `root`.
 * @param except places within those that are not looked at.
 */
export function checkLineLength(root: string, places: readonly string[], except: readonly string[] = []): Finding[] {
  const findings: Finding[] = []
  for (const file of places.flatMap(place => filesOf(root, place)).toSorted()) {
    if (except.some(place => isWithin(file, place))) continue
    for (const { line, length } of longLines(readFileSync(path.join(root, file), 'utf8'))) {
      findings.push({ file, line, text: `has ${length} characters; name a part of it, or break it, so that it has at most ${LINE_MAX}` })
    }
  }
  return findings
}

function isWithin(file: string, place: string): boolean { return place.endsWith('/') ? file.startsWith(place) : file === place }

function filesOf(root: string, place: string): string[] {
  if (!place.endsWith('/')) return [place]
  return readdirSync(path.join(root, place), { recursive: true, encoding: 'utf8' })
    .filter(name => ENDINGS.some(ending => name.endsWith(ending)))
    .map(name => place + name.replaceAll(path.sep, '/'))
}

function countsByFolder(findings: readonly Finding[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { file } of findings) {
    const folder = path.posix.dirname(file)
    counts.set(folder, (counts.get(folder) ?? 0) + 1)
  }
  return counts
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { list: { type: 'boolean' } } })
  const root = path.resolve(positionals[0] ?? path.join(import.meta.dirname, '..'))
  const findings = checkLineLength(root, ENFORCED, values.list === true ? [] : NOT_YET)
  for (const finding of findings) console.error(printFinding(finding))
  if (values.list === true) for (const [folder, count] of countsByFolder(findings)) console.log(`${String(count).padStart(4)} ${folder}`)
  else process.exitCode = findings.length === 0 ? 0 : 1
}
