/**
 * `npm test`: types, lint, the import table, the lists that must agree, then every test. All steps run even when one
 * fails, so that one run shows everything; the exit code is 0 only when nothing failed.
 *
 *   node scripts/test.ts [--checks-only | --tests-only] [--verbose] [--name PATTERN] [PATH...]
 *
 * PATH picks test files whose path contains it. Two files run at a time; files named `*.serial.test.ts` run afterwards,
 * one by one: they measure, or they load the whole machine.
 * Programs that are missing are listed as `SKIP name: not installed`; with CI=true a missing program that .ci/run
 * installs is a failure.
 */
import '../src/runtime-check.ts'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { run } from 'node:test'
import { parseArgs } from 'node:util'
import { findProgram, missingLine, PROGRAMS, type Program } from '../test/support/programs.ts'
import { listTypeScript } from './source-text.ts'
import { TestReport } from './test-report.ts'

const ROOT = path.join(import.meta.dirname, '..')
const PARALLEL_FILES = 2
/** A file that takes longer is stuck: real upgrades may take 4 minutes together, all of `npm test` 15. */
const FILE_TIMEOUT_MS = 300_000

interface Check { readonly name: string; readonly command: readonly [string, ...string[]] }

const CHECKS: readonly Check[] = [
  { name: 'types', command: ['tsc', '--noEmit'] },
  { name: 'lint', command: ['oxlint', '--deny-warnings'] },
  { name: 'imports', command: ['node', 'scripts/check-imports.ts'] },
  { name: 'lists', command: ['node', 'scripts/check-lists.ts'] },
]

function print(line: string): void { process.stdout.write(`${line}\n`) }

function runCheck({ name, command: [program, ...args] }: Check): boolean {
  const started = performance.now()
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  if (status === 0) {
    print(`ok   ${name}  ${seconds} s`)
    return true
  }
  print(`${stdout ?? ''}${stderr ?? ''}`.trimEnd())
  print(`FAIL ${name}  ${seconds} s${error === undefined ? '' : `  ${error.message}`}`)
  return false
}

async function runFiles(report: TestReport, files: string[], concurrency: number, name: string | undefined): Promise<void> {
  if (files.length === 0) return
  const events = run({
    files: files.map(file => path.join(ROOT, file)), concurrency, timeout: FILE_TIMEOUT_MS, cwd: ROOT,
    ...(name === undefined ? {} : { testNamePatterns: [name] }),
  })
  for await (const event of events) report.take(event)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'checks-only': { type: 'boolean' }, 'tests-only': { type: 'boolean' }, 'verbose': { type: 'boolean' }, 'name': { type: 'string' } },
})
// Tests that start `node` get the pinned one, however this script was started.
process.env['PATH'] = `${path.join(ROOT, 'node_modules/.bin')}${path.delimiter}${process.env['PATH'] ?? ''}`
let failed = false

if (values['tests-only'] !== true) {
  for (const check of CHECKS) if (!runCheck(check)) failed = true
}
if (values['checks-only'] !== true) {
  const files = listTypeScript(path.join(ROOT, 'test')).map(file => `test/${file}`).filter(file => file.endsWith('.test.ts'))
    .filter(file => positionals.length === 0 || positionals.some(part => file.includes(part)))
  const serial = files.filter(file => file.endsWith('.serial.test.ts'))
  const report = new TestReport({ root: ROOT, print, verbose: values.verbose === true })
  await runFiles(report, files.filter(file => !serial.includes(file)), PARALLEL_FILES, values.name)
  await runFiles(report, serial, 1, values.name)
  if (report.failed || files.length === 0) failed = true
  if (files.length === 0) print(`FAIL no test file matches ${positionals.join(' ')}`)

  const missing = (Object.keys(PROGRAMS) as Program[]).filter(program => findProgram(program) === null)
  for (const reason of new Set([...missing.map(missingLine), ...report.skipReasons])) print(`SKIP ${reason}`)
  const promised = missing.filter(program => PROGRAMS[program].debian !== null)
  if (process.env['CI'] === 'true' && promised.length > 0) {
    print(`FAIL missing on CI, although .ci/run installs them: ${promised.join(', ')}`)
    failed = true
  }
  for (const line of report.closingLines()) print(line)
}
process.exitCode = failed ? 1 : 0
