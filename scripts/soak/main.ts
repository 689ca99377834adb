/**
 * `npm run soak`: half an hour of clients and origins that abort in every phase, beside honest clients that never repeat a
 * request, in front of two instances: one is reloaded twice and upgraded once a minute, the other is left alone. Prints a
 * line a minute and at the end whether anything grew or was lost. README.md says how to read it.
 * Exit: 0 flat and nothing lost, 1 otherwise, 2 wrong usage.
 *
 *   node scripts/soak/main.ts [--minutes N] [--rate N] [--json FILE]
 */
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { BeginOperation } from '../field/operations.ts'
import { operate } from '../field/operations.ts'
import { freePorts, ManagedProcess, stopAll, stopEverything, waitUntilReady } from '../bench/managed-process.ts'
import { Instance, leftBehind } from '../field/instance.ts'
import type { HonestReport } from './honest-clients.ts'
import type { RudeReport } from './rude-clients.ts'
import { judgeSoak, soakCells, soakLine, SOAK_TITLES, type Held, type Sample } from './verdict.ts'

const WORKERS = 2
const SAMPLE_MS = 15_000
const LINE_MS = 60_000
/** Two reloads and one upgrade a minute. */
const OPERATION_EVERY_MS = 20_000
const OPERATIONS: readonly BeginOperation[] = [
  { tag: 'reload' }, { tag: 'reload' }, { tag: 'upgrade', folder: '', supervisor: 'always' },
]
const START_MAX_MS = 20_000
/** Kinds of warnings of an instance that are shown when it fails. */
const TROUBLES_SHOWN = 12
/** Honest clients finish what they have begun. */
const FINISH_MAX_MS = 60_000

const values = flags()

function flags() {
  try {
    return parseArgs({
      options: { minutes: { type: 'string', default: '30' }, rate: { type: 'string', default: '30' }, json: { type: 'string' } },
    }).values
  } catch (error) {
    console.error(`soak: ${(error as Error).message}`)
    process.exit(2)
  }
}

/** A process that prints a line of JSON each second. */
class Reporter<Report> {
  last: Report | null = null
  readonly #process: ManagedProcess
  readonly #closed: Promise<void>

  constructor(name: string, args: readonly string[]) {
    const file = path.join(import.meta.dirname, `${name}.ts`)
    this.#process = new ManagedProcess(name, { command: process.execPath, args: [file, ...args] }, null)
    let rest = ''
    this.#process.child.stdout?.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\n')
      rest = lines.pop() ?? ''
      const line = lines.at(-1)
      if (line !== undefined) this.last = JSON.parse(line) as Report
    })
    this.#closed = new Promise((resolve) => this.#process.child.once('close', () => resolve()))
  }

  async began(): Promise<void> {
    const late = performance.now() + START_MAX_MS
    while (this.last === null) {
      if (this.#process.ended || performance.now() > late) throw new Error(`${this.#process.name}: ${this.#process.output}`)
      await delay(50)
    }
  }

  get ended(): boolean { return this.#process.ended }

  async stop(graceMs: number): Promise<void> {
    await this.#process.stop(graceMs)
    await this.#closed
  }
}

function held(instance: Instance): Held {
  const { supervisorDescriptors, supervisorAnonymousMB, workerDescriptors, workerAnonymousMB } = instance.holding()
  return { supervisorDescriptors, supervisorMB: supervisorAnonymousMB, workerDescriptors, workerMB: workerAnonymousMB }
}

interface Soak {
  readonly replaced: Instance
  readonly steady: Instance
  readonly honest: Reporter<HonestReport[]>
  readonly rude: Reporter<RudeReport>
}

async function generationsOf(instance: Instance): Promise<number> {
  const { slots } = await instance.ask({ tag: 'status' }) as { slots: Record<string, unknown>[] }
  const workers = slots.flatMap(({ worker, incoming, previous, draining }) => [worker, incoming, previous, ...draining as unknown[]])
  const generations = workers.filter((worker) => worker !== null && worker !== undefined)
  return new Set(generations.map((worker) => (worker as { generation: number }).generation)).size
}

class Run {
  readonly samples: Sample[] = []
  readonly #soak: Soak
  readonly #beganMs = performance.now()
  operations = 0
  readonly failures: string[] = []

  constructor(soak: Soak) { this.#soak = soak }

  get elapsedMs(): number { return performance.now() - this.#beganMs }

  async sample(): Promise<Sample> {
    const { replaced, steady, honest, rude } = this.#soak
    const reports = honest.last ?? []
    const sample: Sample = {
      seconds: this.elapsedMs / 1000, replaced: held(replaced), steady: held(steady),
      // A supervisor that replaces itself at this moment is asked again by the client.
      generations: await generationsOf(replaced),
      attempted: reports.reduce((sum, { attempted }) => sum + attempted, 0),
      lost: reports.reduce((sum, { lost }) => sum + lost, 0),
      aborts: rude.last?.aborts ?? 0, hung: rude.last?.hung ?? 0,
      operations: this.operations, operationsFailed: this.failures.length,
    }
    this.samples.push(sample)
    return sample
  }

  async operateUntil(over: () => boolean): Promise<void> {
    for (let index = 0; !over(); index++) {
      const startMs = performance.now()
      const order = OPERATIONS[index % OPERATIONS.length]
      if (order === undefined) return
      this.operations++
      const failure = await operate(this.#soak.replaced.stateDir, order)
      if (failure !== '') this.failures.push(`${order.tag}: ${failure}`)
      while (!over() && performance.now() < startMs + OPERATION_EVERY_MS) await delay(100)
    }
  }

  /** Who must live to the end. @returns what ended, or ''. */
  ended(): string {
    const { replaced, steady, honest, rude } = this.#soak
    if (replaced.ended || steady.ended) return 'a supervisor'
    return honest.ended || rude.ended ? 'the clients' : ''
  }
}

async function start(rate: number): Promise<Soak> {
  const [originPort = 0, roughPort = 0, replacedPort = 0, steadyPort = 0] = await freePorts(4)
  const scripts = path.join(import.meta.dirname, '..')
  const originEnv = { BENCH_ORIGIN_PORT: String(originPort), BENCH_LISTEN_PORT: String(originPort) }
  const origin = { command: process.execPath, args: [path.join(scripts, 'bench', 'upgrade-origin.ts')], env: originEnv }
  const rough = { command: process.execPath, args: [path.join(scripts, 'field', 'rough-origin.ts'), String(roughPort)] }
  await Promise.all([
    waitUntilReady(new ManagedProcess('origin', origin, null), originPort, '/'),
    waitUntilReady(new ManagedProcess('rough origin', rough, null), roughPort, '/small'),
  ])
  const instance = (name: string, port: number): Promise<Instance> => Instance.start({
    name, port, application: path.join(import.meta.dirname, 'app.ts'), readyPath: '/', workers: WORKERS,
    // Half an hour of lines is nobody's to read.
    env: {
      SOAK_PORT: String(port), SOAK_ORIGIN_PORT: String(originPort), SOAK_ROUGH_PORT: String(roughPort), CIRQUE_LOG_ACCESS: 'off',
    },
  })
  const replaced = await instance('replaced', replacedPort)
  const steady = await instance('left alone', steadyPort)
  const ports = [String(replacedPort), String(steadyPort)]
  const honest = new Reporter<HonestReport[]>('honest-clients', ports)
  await honest.began()
  const rude = new Reporter<RudeReport>('rude-clients', [String(rate), ...ports])
  await rude.began()
  return { replaced, steady, honest, rude }
}

async function main(): Promise<number> {
  const minutes = Number(values.minutes)
  const rate = Number(values.rate)
  if (!(minutes > 0) || !(rate > 0)) {
    console.error(`soak: --minutes is ${values.minutes} and --rate ${values.rate}; use positive numbers`)
    return 2
  }
  console.log(`load average ${os.loadavg()[0]?.toFixed(2)}, ${os.cpus().length} cores, Node ${process.version}, ${minutes} minutes`)
  const soak = await start(rate)
  const run = new Run(soak)
  const over = (): boolean => interrupted || run.ended() !== '' || run.elapsedMs >= minutes * 60_000
  const operating = run.operateUntil(over)
  console.log(soakLine(SOAK_TITLES))
  for (let index = 1; !over(); index++) {
    while (!over() && run.elapsedMs < index * SAMPLE_MS) await delay(100)
    if (over()) break
    const sample = await run.sample()
    if (index * SAMPLE_MS % LINE_MS === 0) console.log(soakLine(soakCells(sample)))
  }
  const ended = run.ended()
  await operating
  await soak.rude.stop(1000)
  await soak.honest.stop(FINISH_MAX_MS)
  console.log(soakLine(soakCells(await run.sample())))
  const [ofReplaced, ofSteady] = soak.honest.last ?? []
  const named = (name: string, report?: HonestReport): string[] => (report?.losses ?? []).map((loss) => `${name}: ${loss}`)
  const losses = [...named('replaced', ofReplaced), ...named('left alone', ofSteady)]
  const verdict = judgeSoak(run.samples, losses)
  console.log(`\n${[...verdict.lines, ...run.failures.map((failure) => `     ${failure}`)].join('\n')}`)
  if (ended !== '') console.log(`FAIL ${ended} ended`)
  if (!verdict.passed) {
    for (const instance of [soak.replaced, soak.steady]) {
      for (const trouble of instance.troubles(TROUBLES_SHOWN)) console.log(`log of ${instance.name}: ${trouble}`)
    }
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ ...verdict, losses, samples: run.samples }, null, 2)}\n`)
  await Promise.all([soak.replaced.stop(), soak.steady.stop()])
  return verdict.passed && ended === '' && !interrupted ? 0 : 1
}

let interrupted = false
process.on('exit', stopEverything)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // The first one ends the soak early, with its verdict; the second one ends it now.
    if (interrupted) void stopAll().finally(() => process.exit(130))
    interrupted = true
  })
}

let exitCode = 1
try {
  exitCode = await main()
} catch (error) {
  // Whatever keeps a soak from beginning: an instance that does not start, clients that are not answered.
  console.error(`soak: ${(error as Error).message}`)
}
await stopAll()
const left = leftBehind()
if (left.length > 0) console.error(`FAIL processes are left: ${left.join('; ')}`)
process.exit(left.length > 0 ? 1 : exitCode)
