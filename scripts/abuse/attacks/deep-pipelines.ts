/** What a client sends ahead is kept once, and others have their turn. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dial, get } from '../clients.ts'

const DEPTH = 2400
const PIPES = 8

export const deepPipelines: Attack = {
  name: 'deep-pipelines',
  title: `${PIPES} connections that send ${DEPTH} requests at once and read nothing before`,
  async strike({ port, seconds }) {
    const bytes = Buffer.from(get('/small').repeat(DEPTH), 'latin1')
    const late = performance.now() + seconds * 1000
    let sent = 0
    await Promise.all(Array.from({ length: PIPES }, async () => {
      while (performance.now() < late) {
        sent++
        const socket = dial(port)
        socket.resume()
        socket.write(bytes)
        await delay(500)
        socket.destroy()
      }
    }))
    return { done: `${sent} pipelines`, faults: [] }
  },
}
