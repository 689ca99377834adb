/** A cleaner of temporary folders ends no service. */
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'

export const stateFolderRemoved: Attack = {
  name: 'state-folder-removed',
  title: 'a cleaner removes the state folder, then both workers die',
  secondsMin: 10,
  bounds: { times: Number.POSITIVE_INFINITY, longestMs: 3000, workersEnded: 2, unserved: 6 },
  async strike({ stateDir, workerPids, seconds }) {
    rmSync(stateDir, { recursive: true, force: true })
    await delay(500)
    for (const pid of workerPids) process.kill(pid, 'SIGKILL')
    await delay(seconds * 1000)
    return { done: `${workerPids.length} workers killed`, faults: [] }
  },
}
