/**
 * `npm run test:upgrade -- --repeat 20`: every scenario of test/integration/upgrade so many times, and what the clients
 * in front of it have attempted and lost. `npm test` runs each once.
 *
 *   node scripts/test-upgrade.ts [--repeat N] [--jobs N] [--name PATTERN] [PATH...]
 *
 * Scenarios run one by one, as in `npm test`; with --jobs that many files at once.
 */
import '../src/runtime-check.ts'
import path from 'node:path'
import { run } from 'node:test'
import type { TestEvent } from 'node:test/reporters'
import { inspect, parseArgs } from 'node:util'
import { listTypeScript } from './source-text.ts'

const ROOT = path.join(import.meta.dirname, '..')
const FOLDER = 'test/integration/upgrade'
const FILE_TIMEOUT_MS = 300_000

interface Scenario { runs: number; failures: number; skipped: number; attempted: number; lost: number; durationMs: number }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { repeat: { type: 'string', default: '20' }, jobs: { type: 'string', default: '1' }, name: { type: 'string' } },
})
const repeat = Number(values.repeat)
const jobs = Number(values.jobs)
const files = listTypeScript(path.join(ROOT, FOLDER))
  .filter(file => file.endsWith('.test.ts'))
  .filter(file => positionals.length === 0 || positionals.some(part => file.includes(part)))
  .map(file => path.join(ROOT, FOLDER, file))
if (!Number.isInteger(repeat) || repeat < 1 || !Number.isInteger(jobs) || jobs < 1 || files.length === 0) {
  if (files.length === 0) console.error(`no test file of ${FOLDER} matches ${positionals.join(' ')}`)
  else console.error(`--repeat is ${values.repeat} and --jobs ${values.jobs}; use positive whole numbers`)
  process.exit(2)
}
// Tests that start `node` get the pinned one, however this script was started.
process.env['PATH'] = `${path.join(ROOT, 'node_modules/.bin')}${path.delimiter}${process.env['PATH'] ?? ''}`

const scenarios = new Map<string, Scenario>()
let broken = 0
for (let round = 1; round <= repeat; round++) {
  console.log(`round ${round} of ${repeat}`)
  let last: Scenario | null = null
  const events = run({
    files, concurrency: jobs, timeout: FILE_TIMEOUT_MS, cwd: ROOT,
    ...(values.name === undefined ? {} : { testNamePatterns: [values.name] }),
  })
  for await (const event of events as AsyncIterable<TestEvent>) {
    if (event.type === 'test:pass' || event.type === 'test:fail') last = take(event)
    // Diagnostics of a test follow its end.
    else if (event.type === 'test:diagnostic' && event.data.file !== undefined) note(event.data.message, last)
  }
}
print()
process.exitCode = broken > 0 || [...scenarios.values()].some(({ failures }) => failures > 0) ? 1 : 0

/** @returns the scenario that the test is a run of; null for a file as a whole. */
function take(event: Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>): Scenario | null {
  const { name, nesting, details, skip } = event.data
  if (nesting > 0 || name.endsWith('.test.ts')) {
    // A file that failed outside of its tests: it left processes behind, or could not be loaded.
    if (event.type === 'test:fail' && !ofItsTests(event.data)) {
      broken++
      failure(event.data)
    }
    return null
  }
  let scenario = scenarios.get(name)
  if (scenario === undefined) scenarios.set(name, scenario = { runs: 0, failures: 0, skipped: 0, attempted: 0, lost: 0, durationMs: 0 })
  scenario.runs++
  scenario.durationMs += details.duration_ms
  if (skip !== undefined && skip !== false) scenario.skipped++
  if (event.type === 'test:fail') {
    scenario.failures++
    failure(event.data)
  }
  return scenario
}

type FailData = Extract<TestEvent, { type: 'test:fail' }>['data']

/** Whether the failure of a file or suite only sums up failures below it. */
function ofItsTests({ details }: FailData): boolean {
  return (details.error as { failureType?: string }).failureType === 'subtestsFailed'
}

function failure({ name, details }: FailData): void {
  const { error } = details
  const lines = inspect(error.cause ?? error, { depth: 6, colors: false }).split('\n')
  console.log(`FAIL ${name}\n     ${lines.slice(0, 40).join('\n     ')}`)
}

function note(message: string, scenario: Scenario | null): void {
  console.log(`#    ${message}`)
  const load = /^load: (\d+) attempted, (\d+) lost/.exec(message)
  if (load === null || scenario === null) return
  scenario.attempted += Number(load[1])
  scenario.lost += Number(load[2])
}

function print(): void {
  const rows = [['RUNS', 'FAILED', 'ATTEMPTED', 'LOST', 'SECONDS', '']]
  for (const [name, { runs, failures, skipped, attempted, lost, durationMs }] of scenarios) {
    const figures = [runs, failures, attempted, lost].map(String)
    rows.push([...figures, (durationMs / runs / 1000).toFixed(1), skipped === runs ? `${name} (skipped)` : name])
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  const pad = (cell: string, column: number): string => column === widths.length - 1 ? cell : cell.padStart(widths[column]!)
  for (const row of rows) console.log(row.map(pad).join('  '))
}
