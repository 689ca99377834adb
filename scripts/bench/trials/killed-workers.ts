/** kill -9 of every worker that serves, at once: how long clients that come afterwards wait. */
import net from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { askSupervisor } from '../../../supervisor/control-client.ts'
import { CIRQUE_SPARE, CIRQUE_TWO, NGINX_TWO } from '../contenders.ts'
import { startContender, type RunningContender } from '../measure.ts'
import { percentile } from '../statistics.ts'
import type { Trial } from './trial.ts'

const DIAL_EVERY_MS = 5
const SETTLE_MS = 3000
const AFTER_MS = 3000
const SPARES_MAX_MS = 20_000
const SPARES_LOOK_MS = 200
const ANSWER_MAX_MS = 10_000
const WAIT_MAX_MS = 300
const SPARE_WAIT_MAX_MS = 50

interface Visit { readonly dialledMs: number; waitMs: number; served: boolean }

/** One request on a connection of its own, never repeated. */
function visit(port: number): { visit: Visit; over: Promise<void> } {
  const begun: Visit = { dialledMs: performance.now(), waitMs: Number.NaN, served: false }
  const over = new Promise<void>((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port })
    socket.setTimeout(ANSWER_MAX_MS, () => socket.destroy())
    socket.once('connect', () => socket.write('GET /80 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n'))
    let text = ''
    socket.on('data', (chunk) => { text += chunk.toString('latin1') })
    socket.on('error', () => {})
    socket.once('close', () => {
      begun.waitMs = performance.now() - begun.dialledMs
      begun.served = text.startsWith('HTTP/1.1 200')
      resolve()
    })
  })
  return { visit: begun, over }
}

interface Shown { readonly pid: number; readonly state: string }
interface Status { readonly slots: readonly { readonly worker: Shown | null; readonly spare?: Shown | null }[] }

function statusOf({ folder }: RunningContender): Promise<Status> {
  return askSupervisor(path.join(folder, 'state'), { tag: 'status' }) as Promise<Status>
}

/** Whatever follows a start has been done: caches are filled, spares wait. */
async function settled(running: RunningContender): Promise<void> {
  await delay(SETTLE_MS)
  if (!running.contender.name.startsWith(CIRQUE_SPARE)) return
  const late = performance.now() + SPARES_MAX_MS
  while (!(await statusOf(running)).slots.every(({ spare }) => spare?.state === 'ready')) {
    if (performance.now() > late) throw new Error(`no spare for each worker after ${SPARES_MAX_MS} ms`)
    await delay(SPARES_LOOK_MS)
  }
}

/** Those that serve; a spare does not. Of others the first process of the tree commands, and its children serve. */
async function workersOf(running: RunningContender): Promise<number[]> {
  const { contender, process } = running
  if (contender.kind !== 'cirque') return process.tree().filter((stat) => stat.parentPid === process.pid).map(({ pid }) => pid)
  const { slots } = await statusOf(running)
  return slots.flatMap(({ worker }) => (worker === null ? [] : [worker.pid]))
}

export const killedWorkers: Trial = {
  name: 'killworkers',
  title: 'kill -9 of both workers that serve: fresh connections, one each 5 ms, that were dialled afterwards',
  contenders: [CIRQUE_TWO, CIRQUE_SPARE, NGINX_TWO],
  base: NGINX_TWO,
  figures: [
    {
      name: 'longest wait',
      unit: 'ms',
      bounds: [
        { limit: WAIT_MAX_MS, of: 'value', side: 'most', contender: CIRQUE_TWO },
        { limit: SPARE_WAIT_MAX_MS, of: 'value', side: 'most', contender: CIRQUE_SPARE },
      ],
    },
    { name: 'p90 of the first second', unit: 'ms', bounds: [] },
    { name: 'unserved', unit: '', bounds: [{ limit: 0, of: 'value', side: 'most', contender: CIRQUE_TWO }] },
  ],
  async measure(contender, { origin, cores }) {
    const running = await startContender(contender, origin, cores)
    try {
      await settled(running)
      for (const pid of await workersOf(running)) process.kill(pid, 'SIGKILL')
      const killedMs = performance.now()
      const visits: ReturnType<typeof visit>[] = []
      while (performance.now() < killedMs + AFTER_MS) {
        visits.push(visit(running.port))
        await delay(DIAL_EVERY_MS)
      }
      await Promise.all(visits.map(({ over }) => over))
      const all = visits.map((each) => each.visit)
      const firstSecond = all.filter((each) => each.dialledMs < killedMs + 1000).map((each) => each.waitMs).toSorted((a, b) => a - b)
      return {
        'longest wait': Math.max(...all.map((each) => each.waitMs)),
        'p90 of the first second': percentile(firstSecond, 90),
        unserved: all.filter((each) => !each.served).length,
      }
    } finally {
      await running.stop()
    }
  },
}
