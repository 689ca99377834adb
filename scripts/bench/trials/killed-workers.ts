/** kill -9 of every worker at once: how long clients that come afterwards wait. */
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { CIRQUE_TWO, NGINX_TWO } from '../contenders.ts'
import { startContender } from '../measure.ts'
import type { ProcessStat } from '../process-usage.ts'
import { percentile } from '../statistics.ts'
import type { Trial } from './trial.ts'

const DIAL_EVERY_MS = 5
const AFTER_MS = 3000
const ANSWER_MAX_MS = 10_000
const WAIT_MAX_MS = 300

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

/** The first process of a tree commands, all others serve. */
function workersOf(tree: readonly ProcessStat[]): number[] {
  const [first] = tree
  return tree.filter((stat) => stat.parentPid === first?.pid).map(({ pid }) => pid)
}

export const killedWorkers: Trial = {
  name: 'killworkers',
  title: 'kill -9 of both workers: fresh connections, one each 5 ms, that were dialled afterwards',
  contenders: [CIRQUE_TWO, NGINX_TWO],
  base: NGINX_TWO,
  figures: [
    { name: 'longest wait', unit: 'ms', bounds: [{ limit: WAIT_MAX_MS, of: 'value', side: 'most', contender: CIRQUE_TWO }] },
    { name: 'p90 of the first second', unit: 'ms', bounds: [] },
    { name: 'unserved', unit: '', bounds: [{ limit: 0, of: 'value', side: 'most', contender: CIRQUE_TWO }] },
  ],
  async measure(contender, { origin, cores }) {
    const running = await startContender(contender, origin, cores)
    try {
      // Whatever follows a start has been done: spares, caches.
      await delay(AFTER_MS)
      for (const pid of workersOf(running.process.tree())) process.kill(pid, 'SIGKILL')
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
