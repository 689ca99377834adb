/**
 * Runs the supervisor's decisions in simulated worlds (test/simulation/), one seed after the other.
 *
 *   npm run simulate -- [--seeds N] [--from S] [--jobs J] [--log] [--keep-going]
 *
 * A seed decides everything, so `--from S --seeds 1 --log` shows again exactly what seed S did. Ends with 1 at the first
 * seed that breaks a rule, after printing the end of its log; with `--keep-going` at the end, with all of them by kind.
 */
import '../src/runtime-check.ts'
import { fork } from 'node:child_process'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { failureText, runSeed } from '../test/simulation/world.ts'

/** Seeds that a process runs between two reports. */
const BATCH = 100
const PROGRESS_MS = 5_000

interface Failure { readonly seed: number; readonly failure: string }
interface Report { readonly seeds: number; readonly events: number; readonly failures: readonly Failure[] }

const HALF_OF_THE_CORES = Math.max(1, Math.floor(os.availableParallelism() / 2))

const { values } = parseArgs({
  options: {
    'seeds': { type: 'string', default: '1000' },
    'from': { type: 'string', default: '1' },
    'jobs': { type: 'string', default: String(HALF_OF_THE_CORES) },
    'log': { type: 'boolean', default: false },
    'keep-going': { type: 'boolean', default: false },
    'child': { type: 'boolean', default: false },
  },
})
const [count, from, jobs] = [Number(values.seeds), Number(values.from), Number(values.jobs)]
if (![count, from, jobs].every(Number.isInteger) || count < 1 || jobs < 1) {
  process.stderr.write('usage: npm run simulate -- [--seeds N] [--from S] [--jobs J] [--log] [--keep-going]\n')
  process.exit(2)
}

function print(line: string): void { process.stdout.write(`${line}\n`) }

async function runBatch(first: number, size: number): Promise<Report> {
  let events = 0
  const failures: { seed: number; failure: string }[] = []
  for (let seed = first; seed < first + size; seed++) {
    const result = await runSeed(seed)
    events += result.events
    if (result.failure !== '') failures.push({ seed, failure: result.failure })
    if (failures.length > 0 && !values['keep-going']) break
  }
  return { seeds: size, events, failures }
}

async function runAll(): Promise<Report['failures']> {
  const startedMs = performance.now()
  const failures: { seed: number; failure: string }[] = []
  let [done, events, next] = [0, 0, from]
  const end = from + count
  const rate = (): string => {
    const seconds = (performance.now() - startedMs) / 1_000
    return `${done} seeds, ${Math.round(events / Math.max(1, done))} events each, ${Math.round(done / seconds)} seeds/s`
  }
  const progress = setInterval(() => print(`${rate()}, ${failures.length} failed`), PROGRESS_MS)
  await Promise.all(Array.from({ length: Math.min(jobs, Math.ceil(count / BATCH)) }, () => new Promise<void>((resolve, reject) => {
    const child = fork(import.meta.filename, ['--child', ...(values['keep-going'] ? ['--keep-going'] : [])])
    const more = (): void => {
      if (next >= end || (failures.length > 0 && !values['keep-going'])) { child.disconnect(); return }
      child.send({ first: next, size: Math.min(BATCH, end - next) })
      next += BATCH
    }
    child.on('message', (report: Report) => {
      done += report.seeds
      events += report.events
      failures.push(...report.failures)
      more()
    })
    child.on('exit', code => {
      if (code === 0) resolve()
      else reject(new Error(`a process of the simulation ended with code ${String(code)}`))
    })
    more()
  })))
  clearInterval(progress)
  print(rate())
  return failures.toSorted((one, other) => one.seed - other.seed)
}

/** What is the same but for its numbers is counted together. */
function byKind(failures: Report['failures']): string[] {
  const kinds = new Map<string, number[]>()
  for (const { seed, failure } of failures) {
    const kind = failure.split('\n')[0]!.replaceAll(/\d+/g, 'N')
    kinds.set(kind, [...kinds.get(kind) ?? [], seed])
  }
  return [...kinds].toSorted((one, other) => other[1].length - one[1].length)
    .map(([kind, seeds]) => `${seeds.length} x ${kind}: seeds ${seeds.slice(0, 6).join(' ')}`)
}

if (values.child) {
  process.on('message', ({ first, size }: { first: number; size: number }) => {
    void runBatch(first, size).then(report => process.send!(report))
  })
} else if (values.log) {
  for (let seed = from; seed < from + count; seed++) {
    print(`seed ${seed}`)
    const { failure, counts } = await runSeed(seed, { keepLog: true, onLine: print })
    print(`seed ${seed}: ${failure === '' ? 'all held' : failure}; ${JSON.stringify(counts)}`)
    if (failure !== '') process.exitCode = 1
  }
} else {
  const failures = await runAll()
  for (const line of byKind(failures)) print(line)
  const [first] = failures
  if (first !== undefined) {
    print(failureText(await runSeed(first.seed, { keepLog: true })))
    process.exitCode = 1
  }
}
