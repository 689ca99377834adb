/** What a start costs: until the first answer, and the memory of processes that have nothing to do. */
import { setTimeout as delay } from 'node:timers/promises'
import { readFileSync } from 'node:fs'
import { freePorts, ManagedProcess, removeFolder, request, temporaryFolder } from '../managed-process.ts'
import { startContender } from '../measure.ts'
import { NGINX_LOG } from '../measurement.ts'
import { anonymousKiloBytes, sinceBootMs, startedAtMs, type ProcessStat } from '../process-usage.ts'
import { PLAIN_PLACE, type Contender } from '../contenders.ts'
import type { Trial, TrialSetting } from './trial.ts'

const LOOKED_AT = 'cirque-default'
const POLL_MS = 2
const START_MAX_MS = 20_000
/** Code that runs at start is compiled, and what it left behind collected. */
const SETTLE_MS = 3000
const WORKER_MB_MAX = 30

interface Start { readonly firstAnswerMs: number; readonly forkToAnswerMs: number }

/** One start in a folder that may know an earlier one. The worker is the youngest process of the tree. */
async function start(contender: Contender, setting: TrialSetting, folder: string): Promise<Start> {
  const [port = 0] = await freePorts(1)
  const launch = contender.launch({ originPort: setting.origin.port, listenPort: port, folder, ...PLAIN_PLACE })
  const begin = performance.now()
  const process = new ManagedProcess(contender.name, launch, setting.cores.proxy)
  try {
    for (;;) {
      if (process.ended) throw new Error(`it ended while starting:\n${process.output}`)
      if (performance.now() - begin > START_MAX_MS) throw new Error(`no answer within ${START_MAX_MS} ms`)
      // Refused until it listens; then it may wait in the queue, which is part of the time.
      if (await request(port, '/80').then(({ status }) => status === 200, () => false)) break
      await delay(POLL_MS)
    }
    const firstAnswerMs = performance.now() - begin
    const nowMs = sinceBootMs(readFileSync('/proc/uptime', 'latin1'))
    const forkToAnswerMs = nowMs - Math.max(...process.tree().map((stat) => startedAtMs(stat)))
    return { firstAnswerMs, forkToAnswerMs }
  } finally {
    await process.stop()
  }
}

export const coldStart: Trial = {
  name: 'coldstart',
  title: 'from the command to the first answer, and from the fork of the worker to it (to 10 ms)',
  contenders: [LOOKED_AT, NGINX_LOG, 'haproxy-default', 'node:http'],
  base: NGINX_LOG,
  figures: [
    { name: 'first start', unit: 'ms', bounds: [] },
    { name: 'later start', unit: 'ms', bounds: [] },
    { name: 'fork to answer', unit: 'ms', bounds: [] },
  ],
  async measure(contender, setting) {
    const folder = temporaryFolder()
    try {
      const first = await start(contender, setting, folder)
      const later = await start(contender, setting, folder)
      return { 'first start': first.firstAnswerMs, 'later start': later.firstAnswerMs, 'fork to answer': later.forkToAnswerMs }
    } finally {
      removeFolder(folder)
    }
  },
}

/** The first process of the tree commands; of the others the largest works. Helpers of the start have ended by then. */
function largest(tree: readonly ProcessStat[]): number {
  return Math.max(...tree.slice(1).map(({ pid }) => anonymousKiloBytes(pid)), 0)
}

export const idleMemory: Trial = {
  name: 'idlememory',
  title: 'anonymous memory of one worker and of its supervisor (master) that have served one request and wait',
  contenders: [LOOKED_AT, NGINX_LOG, 'haproxy-default'],
  base: NGINX_LOG,
  figures: [
    { name: 'worker', unit: 'MB', bounds: [{ limit: WORKER_MB_MAX, of: 'value', side: 'most', contender: LOOKED_AT }] },
    { name: 'supervisor', unit: 'MB', bounds: [] },
  ],
  async measure(contender, { origin, cores }) {
    const running = await startContender(contender, origin, cores)
    try {
      await delay(SETTLE_MS)
      const tree = running.process.tree()
      const only = tree.length === 1
      const first = anonymousKiloBytes(running.process.pid) / 1000
      return only ? { worker: first, supervisor: Number.NaN } : { worker: largest(tree) / 1000, supervisor: first }
    } finally {
      await running.stop()
    }
  },
}
