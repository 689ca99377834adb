/**
 * `npm test`: types, lint, the import table, the lists that must agree, the length of lines, then every test. All steps
 * run even when one fails, so that one run shows everything; the exit code is 0 only when nothing failed.
 *
 *   npm test                    all of it, about a quarter of an hour on two cores
 *   npm run test:quick          the checks, and the tests that start no process and do not sleep (quick-tests.ts): 90 s
 *   npm test -- NAME...         the test files whose path contains a NAME, and no checks
 *   npm test -- NAME --watch    the same again after each change of a file
 *
 *   node scripts/test.ts [--quick] [--checks-only | --tests-only] [--watch] [--verbose] [--name PATTERN] [NAME...]
 *
 * --name picks tests by their title. Two files run at a time; files named `*.serial.test.ts` run afterwards, one by one:
 * they measure, or they load the whole machine. Quick tests run without the permission to start a process.
 * A run of everything lists the programs that are missing as `SKIP name: not installed`; with CI=true a missing program
 * that .ci/run installs is a failure.
 */
import '../src/runtime-check.ts'
import { spawnSync } from 'node:child_process'
import { watch } from 'node:fs'
import path from 'node:path'
import { run } from 'node:test'
import { parseArgs } from 'node:util'
import { findProgram, missingLine, PROGRAMS, type Program } from '../test/support/programs.ts'
import { listTests, QUICK_FILE_MAX_MS, QUICK_FLAGS, slowReason } from './quick-tests.ts'
import { TestReport } from './test-report.ts'

const ROOT = path.join(import.meta.dirname, '..')
const PARALLEL_FILES = 2
/** A file that takes longer is stuck: the slowest takes 2 minutes, and CI is seldom idle. */
const FILE_TIMEOUT_MS = 300_000
/** Folders whose files tests load or start. */
const WATCHED = ['bin', 'create', 'examples', 'scripts', 'src', 'supervisor', 'test', 'workers']
/** An editor writes a file in several steps, a checkout many files. */
const SETTLE_MS = 200

interface Check { readonly name: string; readonly command: readonly [string, ...string[]] }

const CHECKS: readonly Check[] = [
  { name: 'types', command: ['tsc', '--noEmit'] },
  { name: 'lint', command: ['oxlint', '--deny-warnings'] },
  { name: 'imports', command: ['node', 'scripts/check-imports.ts'] },
  { name: 'lists', command: ['node', 'scripts/check-lists.ts'] },
  { name: 'lines', command: ['node', 'scripts/check-line-length.ts'] },
]

interface Group {
  readonly files: readonly string[]
  readonly parallel: number
  readonly timeoutMs: number
  readonly flags: readonly string[]
}

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

const { values, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    'quick': { type: 'boolean', default: false }, 'checks-only': { type: 'boolean', default: false },
    'tests-only': { type: 'boolean', default: false }, 'watch': { type: 'boolean', default: false },
    'verbose': { type: 'boolean', default: false }, 'name': { type: 'string' },
  },
})

// Models that live through thousands of lives have to do with fewer in the quick set.
if (values.quick) process.env['CIRQUE_QUICK'] = '1'

/** Those that the command line asks for, in groups that run one after another. */
function chosenGroups(): Group[] {
  const quick: string[] = []
  const parallel: string[] = []
  const serial: string[] = []
  for (const file of listTests(ROOT)) {
    if (names.length > 0 && !names.some(part => file.includes(part))) continue
    if (slowReason(ROOT, file) === null) quick.push(file)
    else if (file.endsWith('.serial.test.ts')) serial.push(file)
    else parallel.push(file)
  }
  const groups: Group[] = [{ files: quick, parallel: PARALLEL_FILES, timeoutMs: QUICK_FILE_MAX_MS, flags: QUICK_FLAGS }]
  if (!values.quick) {
    groups.push({ files: parallel, parallel: PARALLEL_FILES, timeoutMs: FILE_TIMEOUT_MS, flags: [] })
    groups.push({ files: serial, parallel: 1, timeoutMs: FILE_TIMEOUT_MS, flags: [] })
  }
  return groups.filter(group => group.files.length > 0)
}

async function runGroup(report: TestReport, { files, parallel, timeoutMs, flags }: Group): Promise<void> {
  const events = run({
    files: files.map(file => path.join(ROOT, file)), concurrency: parallel, timeout: timeoutMs, cwd: ROOT, execArgv: [...flags],
    ...(values.name === undefined ? {} : { testNamePatterns: [values.name] }),
  })
  for await (const event of events) report.take(event)
}

/** @returns whether nothing failed. */
async function runTests(): Promise<boolean> {
  const groups = chosenGroups()
  const report = new TestReport({ root: ROOT, print, verbose: values.verbose })
  for (const group of groups) await runGroup(report, group)
  let failed = report.failed
  if (groups.length === 0) {
    print(`FAIL no ${values.quick ? 'quick ' : ''}test file matches ${names.join(' ')}`)
    failed = true
  }
  // What is picked names the programs that it lacks by itself, in the reasons of its skipped tests.
  const programs = values.quick || names.length > 0 ? [] : Object.keys(PROGRAMS) as Program[]
  const missing = programs.filter(program => findProgram(program) === null)
  for (const reason of new Set([...missing.map(missingLine), ...report.skipReasons])) print(`SKIP ${reason}`)
  const promised = missing.filter(program => PROGRAMS[program].debian !== null)
  if (process.env['CI'] === 'true' && promised.length > 0) {
    print(`FAIL missing on CI, although .ci/run installs them: ${promised.join(', ')}`)
    failed = true
  }
  for (const line of report.closingLines()) print(line)
  return !failed
}

/** Runs the tests now and after every change, until it is interrupted. */
async function watchTests(): Promise<never> {
  let changed = Promise.withResolvers<string>()
  for (const folder of WATCHED) {
    watch(path.join(ROOT, folder), { recursive: true }, (_event, file) => changed.resolve(path.join(folder, file ?? '')))
  }
  for (;;) {
    await runTests()
    print('waiting for a change')
    const file = await changed.promise
    await new Promise(resolve => setTimeout(resolve, SETTLE_MS))
    changed = Promise.withResolvers()
    print(`\n${file} has changed`)
  }
}

function misuse(): string | null {
  if (values['checks-only'] && values['tests-only']) return '--checks-only and --tests-only leave nothing to run'
  if (values['checks-only'] && names.length > 0) return `checks look at everything: leave out ${names.join(' ')}, or --checks-only`
  if (values.watch && values['checks-only']) return '--watch runs tests: leave out --checks-only'
  if (values.watch && names.length === 0 && !values.quick) return '--watch needs the NAME of test files, or --quick'
  return null
}

// Tests that start `node` get the pinned one, however this script was started.
process.env['PATH'] = `${path.join(ROOT, 'node_modules/.bin')}${path.delimiter}${process.env['PATH'] ?? ''}`
const fault = misuse()
if (fault !== null) {
  print(fault)
  process.exit(2)
}
if (values.watch) await watchTests()
let passed = true
if (!values['tests-only'] && names.length === 0) {
  for (const check of CHECKS) if (!runCheck(check)) passed = false
}
if (!values['checks-only'] && !await runTests()) passed = false
process.exitCode = passed ? 0 : 1
