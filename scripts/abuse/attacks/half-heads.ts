/** maxConnections is a bound, for connections that have sent half a head too. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack } from '../attack.ts'
import { dialMany, get } from '../clients.ts'

const MAX_CONNECTIONS = 500
const WORKERS = 2
/** One more may be accepted before another is evicted. */
const MARGIN = 50

export const halfHeads: Attack = {
  name: 'half-heads',
  title: `1500 half heads, then 5000 that wait after one request, with maxConnections ${MAX_CONNECTIONS}`,
  env: { ABUSE_MAX_CONNECTIONS: String(MAX_CONNECTIONS) },
  bounds: { connections: MAX_CONNECTIONS * WORKERS + MARGIN },
  async strike({ port, seconds }) {
    const halves = await dialMany(port, 1500, (socket) => {
      socket.resume()
      socket.write('GET /small HTTP/1.1\r\nHost: atta')
    })
    await delay(seconds * 500)
    const idle = await dialMany(port, 5000, (socket) => {
      socket.resume()
      socket.write(get('/small'))
    })
    await delay(seconds * 500)
    for (const socket of [...halves, ...idle]) socket.destroy()
    return { done: `${halves.length} half heads, ${idle.length} idle`, faults: [] }
  },
}
