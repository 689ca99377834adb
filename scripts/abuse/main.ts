/**
 * `npm run abuse`: Cirque under attack, beside an undisturbed instance in the same seconds. Each attack runs in a process of
 * its own against a freshly started instance with two workers, while the same honest clients ask both. README.md says how
 * to read the table. Exit: 0 all passed, 1 some did not, 2 wrong usage.
 *
 *   node scripts/abuse/main.ts [--attack NAME[,NAME]] [--seconds N] [--list] [--json FILE]
 *
 * Not here, because one bounded test shows them: a start from a journal without tokens or with 30 descriptors, secrets in
 * the environment of workers, a health check whose validator returns a promise, Unix paths of the admin listener that
 * belong to somebody else, a folder in /tmp that another user has made.
 */
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { LIMIT_OPTIONS } from '../../src/config/limit-options.ts'
import { freePorts, ManagedProcess, runToEnd, stopAll, stopEverything } from '../bench/managed-process.ts'
import { Instance, leftBehind } from '../field/instance.ts'
import { acceptedOn, dialledTo, tcpSockets, type TcpSocket } from '../field/open-sockets.ts'
import { USUAL_BOUNDS, type Attack, type Bounds, type Strike, type Target } from './attack.ts'
import { ATTACKS } from './attacks/list.ts'
import { makeMemoryGroup } from './cgroup.ts'
import { askMany } from './clients.ts'
import { abuseTable, judge, timesOf, verdictOf, type Observation, type Row, type Visit } from './verdict.ts'

const WORKERS = 2
const VICTIMS_PER_SECOND = 40
/** Honest requests before an attack whose growth is looked at, on each of so many connections. */
const WARM_CONNECTIONS = 8
const WARM_REQUESTS = 1000
/** The last ones may wait 10 s for their answers. */
const VICTIMS_END_MS = 15_000
/** Kinds of lines of the process log that are shown when an attack fails. */
const TROUBLES_SHOWN = 8
/** Victims ask this long before the attack, so that its first moment is seen. */
const BEFORE_MS = 1000
const LOOK_MS = 200
/** Reading the table of sockets costs more, the more there are. */
const LOOK_AT_SOCKETS_MS = 1000
/** Lingering closes last up to 30 s in all, 5 s without a byte; after that whatever is open has been forgotten. */
const SETTLE_MAX_MS = 12_000
/** Of the memory that a group has, workers get that much; the supervisor needs the rest. */
const BUDGET_SHARE = 0.8

const values = flags()

function flags() {
  try {
    return parseArgs({
      options: {
        attack: { type: 'string' }, seconds: { type: 'string', default: '12' }, list: { type: 'boolean', default: false },
        json: { type: 'string' },
      },
    }).values
  } catch (error) {
    console.error(`abuse: ${(error as Error).message}`)
    process.exit(2)
  }
}

interface Peaks { workerMB: number; allMB: number; connections: number; workersEnded: number }

/** Looks at an instance while it is attacked. */
class Watch {
  readonly peaks: Peaks = { workerMB: 0, allMB: 0, connections: 0, workersEnded: 0 }
  readonly #instance: Instance
  readonly #timers: NodeJS.Timeout[]
  #workers: readonly number[]

  constructor(instance: Instance) {
    this.#instance = instance
    this.#workers = instance.workerPids()
    this.#timers = [setInterval(() => this.#look(), LOOK_MS), setInterval(() => this.#lookAtSockets(), LOOK_AT_SOCKETS_MS)]
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer)
    this.#look()
  }

  #look(): void {
    const { largestWorkerMB, allMB, workerPids } = this.#instance.holding()
    this.peaks.workerMB = Math.max(this.peaks.workerMB, largestWorkerMB)
    this.peaks.allMB = Math.max(this.peaks.allMB, allMB)
    this.peaks.workersEnded += this.#workers.filter((pid) => !workerPids.includes(pid)).length
    this.#workers = workerPids
  }

  #lookAtSockets(): void {
    this.peaks.connections = Math.max(this.peaks.connections, acceptedOn(this.#instance.port, tcpSockets()))
  }
}

/** victims.ts as a process of its own: what this one does meanwhile must not be taken for their waiting. */
class VictimProcess {
  readonly #process: ManagedProcess
  readonly #output: Promise<string>

  constructor(ports: readonly number[]) {
    const args = [path.join(import.meta.dirname, 'victims.ts'), String(VICTIMS_PER_SECOND), ...ports.map(String)]
    this.#process = new ManagedProcess('victims', { command: process.execPath, args }, null)
    const chunks: Buffer[] = []
    this.#process.child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk))
    this.#output = new Promise((resolve) => this.#process.child.once('close', () => resolve(Buffer.concat(chunks).toString('latin1'))))
  }

  /** Those that ask are waited for. @returns what each port's victims saw. */
  async finish(): Promise<Visit[][]> {
    await this.#process.stop(VICTIMS_END_MS)
    return JSON.parse(await this.#output) as Visit[][]
  }
}

function boundsOf(attack: Attack): Bounds { return { ...USUAL_BOUNDS, ...attack.bounds } }

async function run(attack: Attack, seconds: number): Promise<Row> {
  const [originPort = 0, ...originsOfVictims] = await freePorts(3)
  const [port = 0, quietPort = 0, filteredPort = 0, quietFilteredPort = 0, adminPort = 0] = await freePorts(5)
  const [victimOriginPort = 0, quietOriginPort = 0] = originsOfVictims
  const [origin, victimOrigin] = await Promise.all([startOrigin([originPort]), startOrigin(originsOfVictims)])
  const group = attack.memoryMB === undefined ? null : makeMemoryGroup(`cirque-abuse-${process.pid}`, attack.memoryMB)
  const env = (ownPort: number, filtered: number, victims: number): Record<string, string> => ({
    ...attack.env, ...memoryBudget(attack), ABUSE_PORT: String(ownPort), ABUSE_FILTERED_PORT: String(filtered),
    ABUSE_ORIGIN_PORT: String(originPort), ABUSE_VICTIM_ORIGIN_PORT: String(victims),
  })
  const application = path.join(import.meta.dirname, 'app.ts')
  const { descriptors = 0 } = attack
  const common = { application, readyPath: '/victim', workers: WORKERS, descriptors }
  const quietEnv = env(quietPort, quietFilteredPort, quietOriginPort)
  const quiet = await Instance.start({ ...common, name: 'undisturbed', port: quietPort, env: quietEnv })
  const attacked = await Instance.start({
    ...common, name: 'attacked', port, cgroupProcs: group?.procs ?? '',
    env: { ...env(port, filteredPort, victimOriginPort), CIRQUE_SUPERVISOR_ADMIN_ADDRESS: `127.0.0.1:${adminPort}` },
  })
  try {
    const target: Target = {
      port, filteredPort, originPort, victimOriginPort, adminPort, stateDir: attacked.stateDir, folder: attacked.folder,
      workerPids: attacked.workerPids(), seconds: Math.max(seconds, attack.secondsMin ?? 0),
    }
    const { strike, observation } = await observe(attack, target, attacked, quiet)
    const row = { name: attack.name, done: strike.done, seen: observation, bounds: boundsOf(attack) }
    if (judge(row.seen, row.bounds).length > 0) for (const trouble of attacked.troubles(TROUBLES_SHOWN)) console.error(`  log: ${trouble}`)
    return row
  } finally {
    await Promise.all([attacked.stop(), quiet.stop(), origin.stop(), victimOrigin.stop()])
    group?.remove()
  }
}

async function startOrigin(ports: readonly number[]): Promise<ManagedProcess> {
  const args = [path.join(import.meta.dirname, '..', 'field', 'rough-origin.ts'), ...ports.map(String)]
  const origin = new ManagedProcess('origin', { command: process.execPath, args }, null)
  while (!origin.output.includes('listening')) {
    if (origin.ended) throw new Error(`the origin ended: ${origin.output}`)
    await delay(20)
  }
  return origin
}

/** What an attack's limit of memory means for each worker, where workers know of such a thing. */
function memoryBudget({ memoryMB }: Attack): Record<string, string> {
  if (memoryMB === undefined || !Object.hasOwn(LIMIT_OPTIONS, 'memoryBudgetBytes')) return {}
  return { CIRQUE_LIMITS_MEMORY_BUDGET: `${Math.floor(memoryMB * BUDGET_SHARE / WORKERS)}MB` }
}

/** Descriptors less those of connections to its origins, which the pool may keep. */
function ownDescriptors(instance: Instance, originPorts: readonly number[], sockets: readonly TcpSocket[]): number {
  return instance.holding().descriptors - originPorts.reduce((sum, port) => sum + dialledTo(port, 'established', sockets), 0)
}

async function observe(
  attack: Attack, target: Target, attacked: Instance, quiet: Instance,
): Promise<{ strike: Strike; observation: Observation }> {
  const origins = [target.originPort, target.victimOriginPort]
  const descriptorsBefore = ownDescriptors(attacked, origins, tcpSockets())
  // A worker that has served nothing yet would grow by its own code alone.
  if (Number.isFinite(boundsOf(attack).growthMB)) await askMany(target.port, WARM_CONNECTIONS, WARM_REQUESTS)
  const errorsBefore = attacked.errorLines(), workerBefore = attacked.holding().largestWorkerMB
  const watch = new Watch(attacked)
  const victims = new VictimProcess([target.port, quiet.port])
  await delay(BEFORE_MS)
  const beganMs = performance.now()
  const args = [path.join(import.meta.dirname, 'strike.ts'), attack.name, JSON.stringify(target)]
  const strike = JSON.parse(await runToEnd(attack.name, { command: process.execPath, args }, null)) as Strike
  const [ofAttacked = [], ofOthers = []] = await victims.finish()
  const lastedSeconds = (performance.now() - beganMs) / 1000
  const left = (): { connections: number; descriptors: number } => {
    const sockets = tcpSockets()
    const connections = acceptedOn(target.port, sockets) + dialledTo(target.originPort, 'close wait', sockets)
    return { connections, descriptors: Math.max(0, ownDescriptors(attacked, origins, sockets) - descriptorsBefore) }
  }
  const bounds = boundsOf(attack)
  const late = performance.now() + SETTLE_MAX_MS
  let last = left()
  while (performance.now() < late && (last.connections > bounds.connectionsLeft || last.descriptors > bounds.descriptorsLeft)) {
    await delay(LOOK_MS)
    last = left()
  }
  watch.stop()
  const faults = [...strike.faults]
  if (attacked.ended) faults.push('the supervisor ended')
  return {
    strike,
    observation: {
      attacked: timesOf(ofAttacked), undisturbed: timesOf(ofOthers), faults,
      workersEnded: watch.peaks.workersEnded, descriptorsLeft: last.descriptors, connectionsLeft: last.connections,
      growthMB: attacked.holding().largestWorkerMB - workerBefore, workerMB: watch.peaks.workerMB, allMB: watch.peaks.allMB,
      connections: watch.peaks.connections,
      errorLinesPerSecond: (attacked.errorLines() - errorsBefore) / lastedSeconds,
    },
  }
}

/** @returns the exit code. */
async function main(): Promise<number> {
  const seconds = Number(values.seconds)
  if (!Number.isInteger(seconds) || seconds < 1) {
    console.error(`abuse: --seconds is ${values.seconds}; use a positive whole number`)
    return 2
  }
  if (values.list) {
    for (const { name, title } of ATTACKS) console.log(`${name.padEnd(22)}  ${title}`)
    return 0
  }
  const names = values.attack?.split(',') ?? ATTACKS.map(({ name }) => name)
  for (const name of names) {
    if (ATTACKS.some((attack) => attack.name === name)) continue
    console.error(`abuse: --attack has ${name}; use some of ${ATTACKS.map((attack) => attack.name).join(', ')}`)
    return 2
  }
  console.log(`load average ${os.loadavg()[0]?.toFixed(2)}, ${os.cpus().length} cores, Node ${process.version}`)
  const rows: Row[] = []
  const broken: string[] = []
  for (const attack of ATTACKS.filter(({ name }) => names.includes(name))) {
    if (interrupted) break
    console.error(`${attack.name}: ${attack.title}`)
    try {
      const row = await run(attack, seconds)
      rows.push(row)
      const wrong = judge(row.seen, row.bounds)
      console.error(`  ${row.done}: ${[verdictOf(row.seen, row.bounds), ...wrong].join('; ')}`)
    } catch (error) {
      broken.push(`FAIL ${attack.name}: ${(error as Error).message}`)
      console.error(`  ${(error as Error).message}`)
    }
  }
  console.log(`\n${abuseTable(rows)}${broken.map((line) => `${line}\n`).join('')}`)
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ rows, broken }, null, 2)}\n`)
  return broken.length === 0 && rows.every(({ seen, bounds }) => judge(seen, bounds).length === 0) ? 0 : 1
}

let interrupted = false
process.on('exit', stopEverything)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true
    void stopAll().finally(() => process.exit(130))
  })
}

const exitCode = await main()
await stopAll()
const left = leftBehind()
if (left.length > 0) console.error(`FAIL processes are left: ${left.join('; ')}`)
process.exit(left.length > 0 ? 1 : exitCode)
