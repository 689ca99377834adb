/**
 * Which tests are quick: those that need no process of their own and do not sleep. Nothing marks them; a file's own text
 * decides, so the set cannot go stale:
 * - files in test/integration/ and test/simulation/, `*.serial.test.ts` and `*.process.test.ts` are not quick;
 * - neither is a test that loads node:child_process or the like, itself or by way of other files in test/;
 * - neither is one that sleeps: it has loaded node:timers/promises, or waits for a bare setTimeout.
 * What the text cannot show is held at run time: quick tests run without the permission to start a process (`QUICK_FLAGS`),
 * in `npm test` as well, and one that takes longer than `QUICK_FILE_MAX_MS` fails. A test that reaches a process through
 * the code under test is named `*.process.test.ts`.
 *
 * `node scripts/quick-tests.ts [root]` lists the files that are not quick, and why.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { importsOf, isFile, listTypeScript, maskText } from './source-text.ts'

/** Everything but child processes, worker threads and native code. */
export const QUICK_FLAGS: readonly string[] = ['--permission', '--allow-fs-read=*', '--allow-fs-write=*', '--allow-net']
/** A file that takes longer is stuck, or no longer quick: the slowest takes 15 s on two idle cores, and CI is seldom idle. */
export const QUICK_FILE_MAX_MS = 120_000

const SLOW_FOLDERS = ['test/integration/', 'test/simulation/']
const SLOW_NAMES = ['.serial.test.ts', '.process.test.ts']
const PROCESS_MODULES: ReadonlySet<string> = new Set(['node:child_process', 'node:cluster', 'node:worker_threads', 'node:ffi'])

/** Every test file, relative to `root`. */
export function listTests(root: string): string[] {
  return listTypeScript(path.join(root, 'test')).map(file => `test/${file}`).filter(file => file.endsWith('.test.ts'))
}

/** @returns why the test file is not in the quick set, or null when it is. */
export function slowReason(root: string, file: string): string | null {
  const folder = SLOW_FOLDERS.find(slow => file.startsWith(slow))
  if (folder !== undefined) return `is in ${folder}`
  const ending = SLOW_NAMES.find(slow => file.endsWith(slow))
  if (ending !== undefined) return `is named *${ending}`
  if (sleeps(readFileSync(path.join(root, file), 'utf8'))) return 'sleeps'
  const way = wayToProcess(root, file)
  return way === null ? null : `starts processes: ${way.join(' -> ')}`
}

/** The shortest chain of files of test/ from `file` to a module that starts processes; null when there is none. */
function wayToProcess(root: string, file: string): string[] | null {
  const ways = [[file]]
  const seen = new Set([file])
  for (let way = ways.shift(); way !== undefined; way = ways.shift()) {
    const at = way.at(-1) ?? file
    for (const { specifier, typeOnly } of importsOf(readFileSync(path.join(root, at), 'utf8'))) {
      if (typeOnly) continue
      if (PROCESS_MODULES.has(specifier)) return [...way, specifier]
      const to = path.posix.join(path.posix.dirname(at), specifier)
      if (!specifier.startsWith('.') || !to.startsWith('test/') || seen.has(to) || !isFile(path.join(root, to))) continue
      seen.add(to)
      ways.push([...way, to])
    }
  }
  return null
}

/** `await delay(50)` and `new Promise(resolve => setTimeout(resolve, 50))`, in the test file itself. */
function sleeps(text: string): boolean {
  if (importsOf(text).some(({ specifier, typeOnly }) => specifier === 'node:timers/promises' && !typeOnly)) return true
  return /new Promise\b[^;\n]*=>\s*\{?\s*setTimeout\(/.test(maskText(text))
}

if (import.meta.main) {
  const root = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, '..'))
  for (const file of listTests(root)) {
    const reason = slowReason(root, file)
    if (reason !== null) console.log(`${file} ${reason}`)
  }
}
