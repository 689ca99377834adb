/** Loops without an end, in one worker and in all: somebody else takes what waits for them. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { connected, dial, get } from '../clients.ts'

function stuck(name: string, title: string, loops: number, longestMs: number): Attack {
  return {
    name, title, secondsMin: 15,
    // Each loop costs its worker, which must be killed and replaced, and those whose requests it had accepted.
    bounds: { times: Number.POSITIVE_INFINITY, longestMs, workersEnded: loops, unserved: 4 * loops },
    async strike({ port, seconds }) {
      // A worker takes one of them, and nothing else afterwards.
      for (let sent = 0; sent < loops; sent++) {
        const socket = dial(port)
        await connected(socket)
        socket.write(get('/hook/loop'))
        await delay(100)
      }
      await delay(seconds * 1000)
      return { done: `${loops} endless loops`, faults: [] }
    },
  }
}

export const stuckWorker = stuck('stuck-worker', 'a filter that never returns, in one worker of two', 1, 2500)
/** The second loop may wait behind the first one: whoever takes over what waits there then has it. */
export const stuckWorkers = stuck('stuck-workers', 'a filter that never returns, in every worker', 2, 5000)
