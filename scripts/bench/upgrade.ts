/**
 * `npm run bench:upgrade`: the proof client of `cirque prove` in front of Cirque and of others, each replaced several
 * times while it serves, one after another. Nobody retries, so what is lost here is what a careful operator loses, too.
 *
 *   node scripts/bench/upgrade.ts [--only TEXT] [--replacements N] [--json FILE]
 */
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { FAULTS, type ProofReport } from '../../src/config/prove-messages.ts'
import { resolveProveOptions } from '../../src/config/prove-options.ts'
import { runProof } from '../../supervisor/prove.ts'
import { ManagedProcess, freePorts, request, stopAll, stopEverything, temporaryFolder, waitUntilReady } from './managed-process.ts'
import { UPGRADE_CONTENDERS, type RunningProxy, type UpgradeContender } from './upgrade-contenders.ts'

/** Between two replacements: new connections have settled, and the next one finds them idle. */
const BETWEEN_MS = 800
const READY_MAX_MS = 15_000

interface Row { readonly name: string; readonly replacements: number; readonly reports: readonly ProofReport[] }

const { values } = parseArgs({
  options: { only: { type: 'string' }, replacements: { type: 'string', default: '4' }, json: { type: 'string' } },
})
const replacements = Number(values.replacements)
if (!Number.isInteger(replacements) || replacements < 1) {
  console.error(`--replacements is ${values.replacements}; use a positive whole number`)
  process.exit(2)
}

const alive = new Set<RunningProxy>()
process.on('exit', () => {
  for (const proxy of alive) proxy.kill()
  stopEverything()
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

const [originPort = 0] = await freePorts(1)
const originArgs = [path.join(import.meta.dirname, 'upgrade-origin.ts')]
const originEnv = { BENCH_ORIGIN_PORT: String(originPort), BENCH_LISTEN_PORT: String(originPort) }
const origin = new ManagedProcess('origin', { command: process.execPath, args: originArgs, env: originEnv }, null)
await waitUntilReady(origin, originPort, '/')
console.error(`load average ${os.loadavg()[0]?.toFixed(2)}, ${replacements} replacements of each`)

const rows: Row[] = []
for (const contender of UPGRADE_CONTENDERS) {
  if (values.only !== undefined && !contender.name.includes(values.only)) continue
  const missing = contender.missing()
  if (missing !== null) {
    console.log(`SKIP ${contender.name}: ${missing}`)
    continue
  }
  rows.push(await measure(contender))
}
console.log(`\n${table(rows)}`)
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
await stopAll()
// A Cirque that loses anything is a fault; what others lose is what we compare with.
process.exitCode = rows.some(row => row.name.startsWith('cirque') && row.reports.some(report => report.lost > 0)) ? 1 : 0

async function measure(contender: UpgradeContender): Promise<Row> {
  const reports: ProofReport[] = []
  for (let done = 0; done < replacements;) {
    const count = Math.min(contender.replacementsPerRun, replacements - done)
    console.error(`${contender.name}: ${count} of ${replacements}`)
    reports.push(await run(contender, count))
    done += count
  }
  return { name: contender.name, replacements, reports }
}

async function run(contender: UpgradeContender, count: number): Promise<ProofReport> {
  const [listenPort = 0] = await freePorts(1)
  const proxy = contender.start({ originPort, listenPort, folder: temporaryFolder() })
  alive.add(proxy)
  try {
    await serves(contender.name, listenPort)
    const options = resolveProveOptions({
      url: `http://127.0.0.1:${listenPort}`, path: '/', ws: '/ws', download: '/download?bytes=33554432', upload: '/upload',
      beforeMs: 1000, forMs: 2500, connections: 30,
    })
    const { acted, actionLines, report } = await runProof(options, async () => {
      for (let each = 0; each < count; each++) {
        if (each > 0) await delay(BETWEEN_MS)
        await proxy.replace()
      }
      return { lines: [], kill: null }
    })
    if (report === null || !acted) throw new Error(`${contender.name}: ${actionLines.join('; ')}`)
    return report
  } finally {
    await proxy.stop()
    alive.delete(proxy)
  }
}

async function serves(name: string, port: number): Promise<void> {
  const late = Date.now() + READY_MAX_MS
  for (;;) {
    try {
      if ((await request(port, '/')).status === 200) return
    } catch { /* It does not listen yet. */ }
    if (Date.now() > late) throw new Error(`${name} is not ready after ${READY_MAX_MS} ms`)
    await delay(50)
  }
}

const TITLES = [
  '', 'REPLACED', 'ATTEMPTED', 'LOST', 'REFUSED', 'RESET', 'TRUNCATED', 'WRONG', 'TIMED OUT', 'LONGEST GAP', 'LOST BY',
]

function table(rows: readonly Row[]): string {
  const lines: string[][] = [TITLES]
  for (const { name, replacements, reports } of rows) {
    const populations = reports.flatMap(report => report.populations)
    const sum = (fault: typeof FAULTS[number]): string => String(populations.reduce((all, { outcomes }) => all + outcomes[fault], 0))
    const gap = Math.max(...reports.map(report => Math.max(report.longestGapMs.during ?? 0, report.longestGapMs.after ?? 0)))
    const lostBy = new Map<string, number>()
    for (const { name: population, outcomes } of populations) {
      const lost = FAULTS.reduce((all, fault) => all + outcomes[fault], 0)
      if (lost > 0) lostBy.set(population, (lostBy.get(population) ?? 0) + lost)
    }
    const attempted = reports.reduce((all, report) => all + report.attempted, 0)
    const lost = reports.reduce((all, report) => all + report.lost, 0)
    lines.push([
      name, String(replacements), String(attempted), String(lost),
      sum('refused'), sum('reset'), sum('truncated'), sum('wrong'), sum('timedOut'), `${gap.toFixed(0)} ms`,
      [...lostBy].map(([population, count]) => `${population} ${count}`).join(', ') || '-',
    ])
  }
  const widths = TITLES.map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0)))
  const pad = (cell: string, column: number): string => {
    const isText = column === 0 || column === TITLES.length - 1
    return isText ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)
  }
  return lines.map(line => line.map(pad).join('  ').trimEnd()).join('\n')
}
