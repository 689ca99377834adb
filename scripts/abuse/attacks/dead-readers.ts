/** Bytes that nobody reads are bounded on both sides. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dialMany, get } from '../clients.ts'

const READERS = 500
/** What fills the buffers of the kernel, 10 MB and more for each, is traffic like any other; what stays is the attack. */
const READERS_PER_SECOND = 50

export const deadReaders: Attack = {
  name: 'dead-readers',
  title: `${READERS} downloads without an end that nobody reads`,
  async strike({ port, seconds }) {
    const sockets = await dialMany(port, READERS, (socket) => {
      socket.pause()
      socket.write(get('/endless'))
    }, READERS_PER_SECOND)
    await delay(seconds * 1000)
    for (const socket of sockets) socket.destroy()
    return { done: `${sockets.length} downloads`, faults: [] }
  },
}
