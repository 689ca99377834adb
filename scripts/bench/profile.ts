/** Where a proxy's time goes: V8's CPU profile of the Cirque worker, or Linux perf for any contender. */
import { copyFileSync, existsSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Contender } from './contenders.ts'
import { hottestFunctions, type CpuProfile } from './cpu-profile.ts'
import { runToEnd } from './managed-process.ts'
import { checkAnswer, drive, startContender, warmUp, type Cores } from './measure.ts'
import type { BenchOptions } from './options.ts'
import type { Origin } from './origin.ts'
import { hottestTable } from './report.ts'
import type { Workload } from './workloads.ts'

const HOTTEST = 10
/** Those that run an application of the bench which listens for the signal (worker-profile.ts). */
const PROFILED = new Set(['cirque', 'cirque-log'])

/** Leaves `<contender>-<workload>.cpuprofile` in the current folder, for the developer tools of a browser. */
export async function profileRun(
  contender: Contender, origin: Origin, workload: Workload, options: BenchOptions, cores: Cores,
): Promise<void> {
  if (!PROFILED.has(contender.name)) throw new Error(`--profile works for ${[...PROFILED].join(' and ')}; use --perf for ${contender.name}`)
  const running = await startContender(contender, origin, cores, workload)
  try {
    await checkAnswer(running, workload)
    await warmUp(running, workload, options.warmUpSeconds, cores)
    const alive = running.process.tree().map((stat) => stat.pid)
    // Those that loaded the application said so; the supervisor never does.
    const announced = readdirSync(running.folder).filter((name) => name.endsWith('.profiles')).map((name) => Number.parseInt(name, 10))
    const pid = announced.find((candidate) => alive.includes(candidate))
    if (pid === undefined) throw new Error('no process of it listens for the signal that begins a profile')
    process.kill(pid, 'SIGUSR2')
    await delay(100)
    await drive(workload, running, options.seconds, cores)
    process.kill(pid, 'SIGUSR2')
    const written = path.join(running.folder, `${pid}.cpuprofile`)
    for (let tries = 0; !existsSync(written); tries++) {
      if (tries > 200) throw new Error('the profile was not written within 10 s')
      await delay(50)
    }
    const kept = `${contender.name}-${workload.name}.cpuprofile`
    copyFileSync(written, kept)
    const hottest = hottestFunctions(JSON.parse(readFileSync(kept, 'utf8')) as CpuProfile, HOTTEST)
    console.log(`\n${contender.name}, ${workload.name}: self time, idle left out (${kept})\n${hottestTable(hottest)}`)
  } finally {
    await running.process.stop()
  }
}

/** Needs the right to profile other processes (kernel.perf_event_paranoid). JavaScript shows by name. */
export async function perfRun(
  contender: Contender, origin: Origin, workload: Workload, options: BenchOptions, cores: Cores,
): Promise<void> {
  const named: Contender = {
    ...contender,
    launch(place) {
      const launch = contender.launch(place)
      return { ...launch, env: { ...launch.env, NODE_OPTIONS: '--perf-basic-prof --interpreted-frames-native-stack' } }
    },
  }
  const running = await startContender(named, origin, cores, workload)
  const pids = running.process.tree().map((stat) => stat.pid)
  try {
    await checkAnswer(running, workload)
    await warmUp(running, workload, options.warmUpSeconds, cores)
    const recorded = path.join(running.folder, 'perf.data')
    const record = ['record', '--freq', '1999', '--output', recorded, '--pid', pids.join(','), '--', 'sleep', String(options.seconds)]
    await Promise.all([
      runToEnd('perf record', { command: 'perf', args: record }, null),
      drive(workload, running, options.seconds, cores),
    ])
    const report = ['report', '--input', recorded, '--stdio', '--sort', 'symbol', '--percent-limit', '0.7']
    const text = await runToEnd('perf report', { command: 'perf', args: report }, null)
    const lines = text.split('\n')
      .filter((line) => line.trim() !== '' && !line.startsWith('#'))
      .map((line) => line.replaceAll(/\s+-\s+-\s*$/g, '').trimEnd())
    console.log(`\n${contender.name}, ${workload.name}: perf, self time\n${lines.slice(0, 30).join('\n')}\n`)
  } finally {
    await running.process.stop()
    for (const pid of pids) rmSync(`/tmp/perf-${pid}.map`, { force: true })
  }
}
