/**
 * `npm run prove:metrics`: whether a real Prometheus ever sees a total go back. Clients that never repeat a request load an instance
 * that is scraped once a second, while a worker is killed, all workers are replaced, and the supervisor replaces itself. Then
 * Prometheus is asked. README.md says what holds.
 * Exit: 0 all of it holds, 1 otherwise, 2 wrong usage, or no Prometheus is installed.
 *
 *   node scripts/observability/prove-metrics.ts [--seconds N]
 */
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { COUNT_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS, TRAFFIC_METRICS, type MetricRow } from '../../src/ipc/metric-table.ts'
import { findProgram, missingLine } from '../../test/support/programs.ts'
import { scrape, sumOf } from '../../test/support/scraped-metrics.ts'
import { SteadyLoad } from '../../test/support/steady-load.ts'
import { freePorts, ManagedProcess, stopAll, stopEverything, waitUntilReady } from '../bench/managed-process.ts'
import { Instance, leftBehind } from '../field/instance.ts'
import { operate } from '../field/operations.ts'
import { Prometheus } from './prometheus.ts'
import { counterTable, judgeMetrics, type CounterFacts, type MetricsProof } from './metrics-verdict.ts'

const WORKERS = 2
/** Half of them dial for each request. */
const CLIENTS = 12
const PAUSE_MS = 10
/** When what happens, as shares of the run. */
const KILL_AT = 0.25, ROLL_AT = 0.45, EXEC_AT = 0.65
/** Less leaves no time between two of them. */
const SECONDS_MIN = 5
/** How long another worker may take to stand where one was killed, and the last counts to arrive. */
const SETTLE_MAX_MS = 30_000
const RULES = path.join(import.meta.dirname, 'cirque.rules.yml')
const SERVED = /code="2xx",flag="-"/

interface ShownSlot {
  readonly worker: { readonly pid: number; readonly state: string; readonly open: { readonly activeExchanges: number } } | null
  readonly draining: readonly unknown[]
}

/** Names of series that only grow. */
function counterNames(): string[] {
  const rows: [string, MetricRow][] = [
    ...[TRAFFIC_METRICS, PROCESS_METRICS, SUPERVISOR_METRICS].flatMap(table => Object.entries<MetricRow>(table)),
    ...COUNT_METRICS.map((row): [string, MetricRow] => [row.name, row]),
  ]
  return rows.flatMap(([name, { kind }]) => {
    return kind === 'counter' ? [name] : kind === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : []
  })
}

async function factsOf(prometheus: Prometheus, name: string, seconds: number): Promise<CounterFacts> {
  const all = `[${seconds}s]`
  const [known, series, resets, leastRate, total] = await Promise.all([
    prometheus.value(`count(last_over_time(${name}${all}))`, 0), prometheus.value(`count(${name})`, 0),
    prometheus.value(`sum(resets(${name}${all}))`, 0), prometheus.value(`min(min_over_time(rate(${name}[5s])[${seconds}s:1s]))`, 0),
    prometheus.value(`sum(${name})`, 0),
  ])
  return { name, series, gone: known - series, resets, leastRate, total }
}

async function slotsOf(instance: Instance): Promise<readonly ShownSlot[]> {
  return (await instance.ask({ tag: 'status' }) as { slots: readonly ShownSlot[] }).slots
}

/** @throws when it does not come to that */
async function until(what: string, instance: Instance, wanted: (slot: ShownSlot) => boolean): Promise<void> {
  const late = performance.now() + SETTLE_MAX_MS
  while (!(await slotsOf(instance)).every(wanted)) {
    if (performance.now() > late) throw new Error(`${what} has taken longer than ${SETTLE_MAX_MS} ms`)
    await delay(50)
  }
}

interface Proving {
  readonly instance: Instance
  readonly prometheus: Prometheus
  readonly admin: string
}

async function start(program: string): Promise<Proving> {
  const [originPort = 0, port = 0, adminPort = 0, prometheusPort = 0] = await freePorts(4)
  const scripts = path.join(import.meta.dirname, '..')
  const env = { BENCH_ORIGIN_PORT: String(originPort), BENCH_LISTEN_PORT: String(originPort) }
  const origin = { command: process.execPath, args: [path.join(scripts, 'bench', 'upgrade-origin.ts')], env }
  await waitUntilReady(new ManagedProcess('origin', origin, null), originPort, '/')
  const admin = `127.0.0.1:${adminPort}`
  const instance = await Instance.start({
    name: 'cirque', port, application: path.join(scripts, 'soak', 'app.ts'), readyPath: '/', workers: WORKERS,
    env: {
      SOAK_PORT: String(port), SOAK_ORIGIN_PORT: String(originPort), SOAK_ROUGH_PORT: String(originPort),
      CIRQUE_LOG_ACCESS: 'off', CIRQUE_SUPERVISOR_ADMIN_ADDRESS: admin,
    },
  })
  const prometheus = await Prometheus.start({ program, port: prometheusPort, target: admin, ruleFiles: [RULES] })
  return { instance, prometheus, admin }
}

async function run({ instance, prometheus, admin }: Proving, seconds: number): Promise<MetricsProof> {
  const failures: string[] = []
  const before = sumOf((await scrape(admin)).samples, 'cirque_requests_total', SERVED)
  await prometheus.scrapes(1)
  const beganMs = performance.now()
  const reach = async (share: number): Promise<void> => { await delay(Math.max(0, beganMs + share * seconds * 1000 - performance.now())) }
  const load = new SteadyLoad({ to: instance.port, fresh: CLIENTS / 2, keepAlive: CLIENTS / 2, pauseMs: PAUSE_MS })
  const lost = (): number => load.ledger.lost.length

  await reach(KILL_AT)
  const beforeKill = lost()
  const [killed] = (await slotsOf(instance)).map(({ worker }) => worker?.pid ?? 0)
  process.kill(killed!, 'SIGKILL')
  await until('another worker', instance, ({ worker }) => worker?.state === 'accepting' && worker.pid !== killed)
  const lostInKill = lost() - beforeKill

  await reach(ROLL_AT)
  await instance.ask({ tag: 'restart-workers', worker: '', wait: true })
  await reach(EXEC_AT)
  const refused = await operate(instance.stateDir, { tag: 'upgrade', folder: '', supervisor: 'always' })
  if (refused !== '') failures.push(`the upgrade: ${refused}`)
  await reach(1)
  const ledger = await load.stop()
  await until('the last count', instance, ({ worker, draining }) => draining.length === 0 && worker?.open.activeExchanges === 0)
  await prometheus.scrapes(2)

  // All of it, and nothing before.
  const span = Math.ceil((performance.now() - beganMs) / 1000) + 5
  const counters: CounterFacts[] = []
  for (const name of counterNames()) counters.push(await factsOf(prometheus, name, span))
  return {
    counters, answered: ledger.ok, lostInKill, lostElsewhere: lost() - lostInKill, clients: CLIENTS, failures,
    served: await prometheus.value('sum(cirque_requests_total{code="2xx",flag="-"})') - before,
    requests: await prometheus.value('sum(cirque_requests_total)'),
    durations: await prometheus.value('sum(http_server_request_duration_seconds_count)'),
    deaths: await prometheus.value('sum(cirque_worker_restarts_total)'),
    upgrades: await prometheus.value('sum(cirque_upgrades_total{kind="upgrade",result="committed"})'),
    scrapes: await prometheus.value(`count_over_time(up[${span}s])`),
    failedScrapes: await prometheus.value(`sum_over_time((1 - up)[${span}s:1s])`, 0),
    brokenRules: await prometheus.brokenRules(),
  }
}

async function main(): Promise<number> {
  let values: { readonly seconds?: string }
  try {
    values = parseArgs({ options: { seconds: { type: 'string', default: '120' } } }).values
  } catch (error) {
    console.error(`prove:metrics: ${(error as Error).message}`)
    return 2
  }
  const seconds = Number(values.seconds)
  if (!(seconds >= SECONDS_MIN)) {
    console.error(`prove:metrics: --seconds is ${values.seconds}; use a number of at least ${SECONDS_MIN}`)
    return 2
  }
  const program = findProgram('prometheus')
  if (program === null) {
    console.error(`prove:metrics: ${missingLine('prometheus')}; on Debian: apt install prometheus`)
    return 2
  }
  console.log(`load average ${os.loadavg()[0]?.toFixed(2)}, ${os.cpus().length} cores, Node ${process.version}, ${seconds} seconds`)
  const proving = await start(program)
  const proof = await run(proving, seconds)
  const { passed, lines } = judgeMetrics(proof)
  console.log(`\n${counterTable(proof.counters.filter(({ series, gone }) => series + gone > 0))}\n\n${lines.join('\n')}`)
  if (!passed) for (const trouble of proving.instance.troubles(12)) console.log(`log: ${trouble}`)
  await proving.instance.stop()
  return passed ? 0 : 1
}

process.on('exit', stopEverything)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => { void stopAll().finally(() => process.exit(130)) })

let exitCode = 1
try {
  exitCode = await main()
} catch (error) {
  console.error(`prove:metrics: ${(error as Error).message}`)
}
await stopAll()
const left = leftBehind()
if (left.length > 0) console.error(`FAIL processes are left: ${left.join('; ')}`)
process.exit(left.length > 0 ? 1 : exitCode)
