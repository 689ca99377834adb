/** Bytes that nobody reads are bounded on both sides. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dialMany, get } from '../clients.ts'

const READERS = 500

export const deadReaders: Attack = {
  name: 'dead-readers',
  title: `${READERS} downloads without an end that nobody reads`,
  async strike({ port, seconds }) {
    const sockets = await dialMany(port, READERS, (socket) => {
      socket.pause()
      socket.write(get('/endless'))
    })
    await delay(seconds * 1000)
    for (const socket of sockets) socket.destroy()
    return { done: `${sockets.length} downloads`, faults: [] }
  },
}
