/**
 * `npm run bench`: Cirque beside other proxies on one pinned core, in interleaved rounds. README.md says how to read it.
 * Leaves to others: what is run (contenders.ts, workloads.ts), how one number is taken (measure.ts), how it is printed (report.ts).
 */
import { readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { describeCheckout, faultOfCheckout, faultOfStart } from './checkout.ts'
import { AFTER, BEFORE, BEFORE_SUFFIX, compare } from './comparison.ts'
import { checkout, contendersFor, missingProgram, type Contender } from './contenders.ts'
import { stopAll, stopEverything } from './managed-process.ts'
import {
  checkAnswer, measureClosed, measureIdle, measureOpen, startContender, warmUp, type Cores, type RunningContender,
} from './measure.ts'
import { summarize, type Measurement, type Summary } from './measurement.ts'
import { HELP, UsageError, parseOptions, type BenchOptions } from './options.ts'
import { startOrigin, type Origin } from './origin.ts'
import { perfRun, profileRun } from './profile.ts'
import { comparisonTable, targetLines, workloadTable } from './report.ts'
import { orderOfRound } from './statistics.ts'
import { judgeTargets } from './targets.ts'
import { judgeTrial, trialTable, type TrialMeasurement } from './trials/trial.ts'
import type { Workload } from './workloads.ts'

/** Those whose capacity sets the offered rate; the others must be able to serve it or sit that workload out. */
const RATE_SETTERS = [AFTER, BEFORE, 'cirque-default', 'nginx', 'nginx-log', 'haproxy']
/** A contender this close to its capacity has a latency of its queue, not of its work. */
const CAPACITY_MARGIN = 1.2
/** Memory hardly varies, and each round needs a fresh start. */
const IDLE_ROUNDS_MAX = 3

/** Load average above which somebody else is at work. */
const BUSY_LOAD = 0.5

class Bench {
  readonly options: BenchOptions
  readonly contenders: readonly Contender[]
  readonly cores: Cores
  readonly measurements: Measurement[] = []
  readonly trialMeasurements: TrialMeasurement[] = []
  readonly faults: string[] = []

  constructor(options: BenchOptions, contenders: readonly Contender[], cores: Cores) {
    this.options = options
    this.contenders = contenders
    this.cores = cores
  }

  async run(origin: Origin): Promise<Summary[]> {
    const summaries: Summary[] = []
    for (const workload of this.options.workloads) {
      const contenders = this.contendersOf(workload)
      if (contenders.length === 0) {
        note(`SKIP ${workload.name}: it runs ${workload.contenders?.join(', ') ?? 'those that speak TLS or HTTP/2'}; name some in --only`)
        continue
      }
      if (workload.kind === 'idle') await this.idleRounds(workload, contenders, origin)
      else await this.rounds(workload, contenders, origin)
      const rows = summarize(this.measurements, workload.name)
        .toSorted((a, b) => this.position(a.contender) - this.position(b.contender))
      summaries.push(...rows)
      progress('')
      if (rows.length > 0) console.log(`\n${workloadTable(workload, rows)}`)
    }
    return summaries
  }

  private position(name: string): number {
    return this.contenders.findIndex((contender) => contender.name === name)
  }

  private contendersOf(workload: Workload): Contender[] {
    return this.contenders.filter(({ name, onlyWhereNamed, speaksTls, speaksHttp2, connectionsMax = Infinity }) => {
      if (workload.tls !== 'none' && !speaksTls()) return false
      if (workload.http2 !== 'none' && !speaksHttp2()) return false
      if (workload.contenders !== null) return isNamed(workload.contenders, name)
      return !onlyWhereNamed && workload.connections <= connectionsMax
    })
  }

  /** Each contender of a trial is started anew for each of its rounds. */
  async runTrials(origin: Origin): Promise<void> {
    for (const trial of this.options.trials) {
      const contenders = this.contenders.filter(({ name }) => isNamed(trial.contenders, name))
      if (contenders.length === 0) {
        note(`SKIP ${trial.name}: it runs ${trial.contenders.join(', ')}; name some in --only`)
        continue
      }
      for (let round = 0; round < this.options.rounds; round++) {
        for (const contender of orderOfRound(contenders, round)) {
          progress(`${trial.name}: round ${round + 1} of ${this.options.rounds}, ${contender.name}`)
          await this.guard(contender, trial, async () => {
            const values = await trial.measure(contender, { origin, cores: this.cores, seconds: this.options.seconds })
            this.trialMeasurements.push({ trial: trial.name, contender: contender.name, round, values })
          })
        }
      }
      progress('')
      console.log(`\n${trialTable(trial, this.trialMeasurements)}`)
    }
  }

  /** Everyone stays up for all rounds of a workload (idle processes cost nothing) and is then measured warm. */
  private async rounds(workload: Workload, contenders: readonly Contender[], origin: Origin): Promise<void> {
    const started: { running: RunningContender; capacity: number }[] = []
    for (const contender of contenders) {
      progress(`${workload.name}: starting ${contender.name}`)
      await this.guard(contender, workload, async () => {
        const running = await startContender(contender, origin, this.cores, workload)
        started.push({ running, capacity: 0 })
        await checkAnswer(running, workload)
        const entry = started.at(-1)
        if (entry !== undefined) entry.capacity = await warmUp(running, workload, this.options.warmUpSeconds, this.cores)
      })
    }
    let active = started.filter((entry) => entry.capacity > 0)
    let rate = 0
    if (workload.kind === 'open') {
      const setters = active.filter((entry) => RATE_SETTERS.includes(entry.running.contender.name))
      rate = Math.floor(Math.min(...(setters.length > 0 ? setters : active).map((entry) => entry.capacity)) * this.options.rateFraction)
      for (const { running, capacity } of active) {
        if (capacity >= rate * CAPACITY_MARGIN) continue
        const served = `serves ${Math.floor(capacity)} req/s, ${rate} are offered`
        note(`SKIP ${running.contender.name} in ${workload.name}: ${served}`)
      }
      active = active.filter((entry) => entry.capacity >= rate * CAPACITY_MARGIN)
      if (active.length > 0) note(`${workload.name}: ${rate} req/s offered to each`)
    }
    const rounds = workload.kind === 'open' ? this.options.latencyRounds : this.options.rounds
    for (let round = 0; round < rounds; round++) {
      for (const { running } of orderOfRound(active, round)) {
        progress(`${workload.name}: round ${round + 1} of ${rounds}, ${running.contender.name}`)
        await this.guard(running.contender, workload, async () => {
          this.measurements.push(workload.kind === 'open'
            ? await measureOpen(running, workload, round, this.options.seconds, rate, this.cores)
            : await measureClosed(running, workload, round, this.options.seconds, this.cores))
        })
      }
    }
    for (const { running } of started) await running.stop()
  }

  private async idleRounds(workload: Workload, contenders: readonly Contender[], origin: Origin): Promise<void> {
    const rounds = Math.min(this.options.rounds, IDLE_ROUNDS_MAX)
    for (let round = 0; round < rounds; round++) {
      for (const contender of orderOfRound(contenders, round)) {
        progress(`${workload.name}: round ${round + 1} of ${rounds}, ${contender.name}`)
        await this.guard(contender, workload, async () => {
          const running = await startContender(contender, origin, this.cores, workload)
          try {
            await checkAnswer(running, workload)
            await warmUp(running, workload, this.options.warmUpSeconds, this.cores)
            this.measurements.push(await measureIdle(running, workload, round, this.cores))
          } finally {
            await running.stop()
          }
        })
      }
    }
  }

  /** One contender's fault is shown and does not end the others' run. */
  private async guard(contender: Contender, what: { readonly name: string }, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (interrupted) await new Promise(() => {}) // The signal's handler ends the process.
      const fault = `FAIL ${contender.name} in ${what.name}: ${(error as Error).message}`
      this.faults.push(fault)
      note(fault)
    }
  }
}

/** Whether a list of contenders names this one, or what it was before (`--against`). */
function isNamed(names: readonly string[], contender: string): boolean {
  return names.includes(contender) || (contender.endsWith(BEFORE_SUFFIX) && names.includes(contender.slice(0, -BEFORE_SUFFIX.length)))
}

/** One line that replaces itself; nothing when nobody watches. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`)
}

function note(text: string): void {
  progress('')
  console.log(text)
}

function machine(): Record<string, string | number> {
  const cpus = os.cpus()
  const load = readFileSync('/proc/loadavg', 'latin1').trim()
  return { cpu: cpus[0]?.model ?? 'unknown', cores: cpus.length, kernel: os.release(), node: process.version, load }
}

function choose(options: BenchOptions): Contender[] {
  const all = contendersFor({ form: options.form, profile: options.profile, against: options.against })
  for (const name of options.only ?? []) {
    if (all.some((contender) => contender.name === name)) continue
    throw new UsageError(`--only has ${name}; use some of ${all.map((contender) => contender.name).join(', ')}`)
  }
  const wanted = options.only ?? (options.profile || options.perf ? ['cirque'] : null)
  return all.filter((contender) => {
    if (wanted !== null && !wanted.includes(contender.name)) return false
    const missing = contender.missing()
    if (missing !== null) console.log(`SKIP ${contender.name}: ${missing}`)
    return missing === null
  })
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2))
  if (options === null) {
    process.stdout.write(HELP)
    return 0
  }
  if (options.parts) {
    // Loaded here only: whole proxies can be compared while a part does not load.
    const { runParts } = await import('./parts.ts')
    runParts(options)
    return 0
  }
  const { against } = options
  if (against !== null) {
    const fault = faultOfCheckout(against) ?? faultOfStart(against)
    if (fault !== null) throw new UsageError(`--against is ${against}, ${fault}`)
  }
  const contenders = choose(options)
  if (contenders.length === 0) {
    console.log('nothing to run')
    return 1
  }
  const cores = { proxy: options.proxyCore, load: options.loadCore }
  for (const core of [cores.proxy, cores.load]) {
    if (core < os.cpus().length) continue
    throw new UsageError(`core ${core} does not exist here; use --proxy-core and --load-core below ${os.cpus().length}`)
  }
  const drivers = { closed: ['wrk'], open: ['wrk'], idle: ['wrk'], handshakes: ['openssl'], streams: ['h2load'] }
  const driving = [...options.trials.length > 0 ? ['wrk'] : [], ...options.workloads.flatMap(({ kind }) => drivers[kind])]
  const needed = new Set(['nginx', 'taskset', ...driving])
  for (const program of needed) {
    if (missingProgram(program) === null) continue
    const remedy = 'Debian\'s nginx-light, wrk, util-linux, openssl and nghttp2-client have these programs, nginx in /usr/sbin'
    throw new UsageError(`${program} is not in the PATH; it is the origin, or drives the load. ${remedy}`)
  }
  const host = machine()
  console.log(`${host['cpu']}, ${host['cores']} cores, Linux ${host['kernel']}, Node ${host['node']}, load ${host['load']}`)
  if ((os.loadavg()[0] ?? 0) > BUSY_LOAD) console.log('WARN the machine is busy: ratios of CPU hold roughly, req/s and p99 do not')
  const origin = await startOrigin(cores.load)
  await delay(100)
  if (options.profile || options.perf) {
    for (const contender of contenders) {
      for (const workload of options.workloads) {
        if (options.profile) await profileRun(contender, origin, workload, options, cores)
        if (options.perf) await perfRun(contender, origin, workload, options, cores)
      }
    }
    return 0
  }
  const bench = new Bench(options, contenders, cores)
  const summaries = await bench.run(origin)
  await bench.runTrials(origin)
  const targets = judgeTargets(summaries, contenders.filter((contender) => contender.kind === 'node').map((contender) => contender.name))
  for (const trial of options.trials) {
    for (const { title, value, unit, bound, outcome } of judgeTrial(trial, bench.trialMeasurements)) {
      targets.push({ title, limit: bound.limit, side: bound.side, value, unit, outcome })
    }
  }
  if (contenders.some((contender) => contender.kind === 'cirque')) console.log(targetLines(targets))
  const comparisons = against === null ? [] : compare(bench.measurements, options.workloads.map((workload) => workload.name))
  if (against !== null) {
    console.log(`new  ${describeCheckout(checkout)}\nold  ${describeCheckout(against)}\n${comparisonTable(comparisons)}`)
  }
  if (options.json !== null) {
    const { only, rounds, latencyRounds, seconds, rateFraction, form, against } = options
    const result = {
      at: new Date().toISOString(), machine: host, options: { only, rounds, latencyRounds, seconds, rateFraction, form, against },
      summaries, targets, comparisons, measurements: bench.measurements, trials: bench.trialMeasurements, faults: bench.faults,
    }
    writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`)
  }
  return bench.faults.length === 0 ? 0 : 1
}

/** Set by the first signal; what fails from then on fails because of us. */
let interrupted = false

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (interrupted) process.exit(130)
    interrupted = true
    void stopAll().finally(() => process.exit(130))
  })
}
process.on('exit', stopEverything)

let exitCode = 1
try {
  exitCode = await main()
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`bench: ${error.message}`)
    exitCode = 2
  } else if (!interrupted) console.error(error)
}
await stopAll()
process.exit(interrupted ? 130 : exitCode)
